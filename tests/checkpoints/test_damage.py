"""Random damage: a file either loads or is refused with one line; nothing else is ever raised."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from sparsemf import checkpoints
from sparsemf.exceptions import InputError

ARRAYS = {"outer": np.ones((3, 2)), "inner": np.ones((3, 4)), "bias": np.ones(3)}


def _torch(path, zipped):
    state = {name: torch.tensor(values) for name, values in ARRAYS.items()}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)


WRITERS = {
    "a.safetensors": lambda p: save_file(ARRAYS, p, metadata={"activation": "relu"}),
    "a.npz": lambda p: np.savez(p, **ARRAYS, activation="relu"),
    "compressed.npz": lambda p: np.savez_compressed(p, **ARRAYS, activation="relu"),
    "a.pt": lambda p: _torch(p, True),
    "legacy.pt": lambda p: _torch(p, False),
    "a.index.json": lambda p: p.write_text(json.dumps({"weight_map": dict.fromkeys(ARRAYS, "a.safetensors")})),
}


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes changed, flipped, deleted or inserted."""
    result = bytearray(data)
    kind = rng.integers(4)
    for _ in range(rng.integers(1, 6)):
        position = int(rng.integers(len(result)))
        if kind == 0:
            result[position] = int(rng.integers(256))
        elif kind == 1:
            result[position] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del result[position : position + int(rng.integers(1, 9))]
        else:
            result[position:position] = rng.bytes(int(rng.integers(1, 9)))
        if not result:
            break
    return bytes(result)


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files_load_or_are_refused(tmp_path, rng, name):
    WRITERS["a.safetensors"](tmp_path / "a.safetensors")
    path = tmp_path / name
    WRITERS[name](path)
    data = path.read_bytes()
    assert checkpoints.load(path, activation="relu").width == 3
    for _ in range(80):
        path.write_bytes(damaged(data, rng))
        try:
            checkpoints.load(path, activation="relu")
        except InputError as error:
            assert str(error).startswith(path.name)  # noqa: PT017 - both outcomes are right
            assert "\n" not in str(error)  # noqa: PT017


def test_errors_survive_the_way_from_a_worker_process(tmp_path):
    with pytest.raises(InputError) as caught:
        checkpoints.load(tmp_path / "missing.pt")
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value)
    assert str(again) == str(caught.value)
