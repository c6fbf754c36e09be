"""The project's own format: round trips bit for bit, reproducible bytes, clear refusals."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from sparsemf import checkpoints
from sparsemf.exceptions import InputError
from sparsemf.measures import Network

SUFFIXES = ("safetensors", "npz")
finite = st.floats(-1e50, 1e50)  # scale·outer beyond 1e100 is refused


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("activation", ["relu", "leaky_relu(0.3)", "gelu_tanh"])
def test_round_trip_is_bit_for_bit(tmp_path, make, same, rng, suffix, activation):
    network = make(activation=activation, scale=1 / 7, affine=rng.standard_normal((2, 3)))
    path = tmp_path / f"net.{suffix}"
    checkpoints.save(network, path)
    read = checkpoints.load(path)
    same(network, read)
    assert read.provenance.source == path.name
    assert read.provenance.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read.provenance.block == "main"
    assert read.provenance.precision == "float64"


@settings(deadline=None, max_examples=30)
@given(
    inner=hnp.arrays(np.float64, (3, 2), elements=finite),
    outer=hnp.arrays(np.float64, (3, 1), elements=finite),
    scale=finite,
    suffix=st.sampled_from(SUFFIXES),
)
def test_every_float_survives(tmp_path_factory, inner, outer, scale, suffix):
    path = tmp_path_factory.mktemp("floats") / f"net.{suffix}"
    checkpoints.save(Network(outer, inner, scale=scale, offset=[-0.0]), path)
    read = checkpoints.load(path)
    assert read.inner.tobytes() == inner.tobytes()
    assert read.outer.tobytes() == outer.tobytes()
    assert (read.scale, np.signbit(read.offset[0])) == (scale, np.True_)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_same_network_same_bytes(tmp_path, make, suffix):
    network = make()
    for name in "ab":
        checkpoints.save(network, tmp_path / f"{name}.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_the_libraries_read_what_is_written(tmp_path, make):
    network = make(activation="erf")
    checkpoints.save(network, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="np") as file:
        assert file.metadata()["activation"] == "erf"
        np.testing.assert_array_equal(file.get_tensor("inner"), network.inner)
    checkpoints.save(network, tmp_path / "a.npz", dtype="float32")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert str(file["activation"]) == "erf"
        np.testing.assert_array_equal(file["outer"], network.outer.astype(np.float32))


def test_reads_what_the_libraries_write(tmp_path, make, same):
    network = make(activation="silu")
    arrays = {"outer": network.outer, "inner": network.inner, "bias": network.bias, "offset": network.offset}
    save_file(arrays, tmp_path / "a.safetensors", metadata={"activation": "silu", "scale": "1.0"})
    np.savez_compressed(tmp_path / "a.npz", **arrays, activation="silu")
    np.savez(
        tmp_path / "big_endian.npz", **{k: v.astype(">f8") for k, v in arrays.items()}, activation=b"silu", scale=1
    )
    torch.save({"activation": "silu", "scale": 1, **{k: torch.tensor(v) for k, v in arrays.items()}}, tmp_path / "a.pt")
    for name in ("a.safetensors", "a.npz", "big_endian.npz", "a.pt"):
        same(network, checkpoints.load(tmp_path / name))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_narrow_types_round_once(tmp_path, make, same, suffix, dtype):
    network = make()
    checkpoints.save(network, tmp_path / f"a.{suffix}", dtype=dtype)
    read = checkpoints.load(tmp_path / f"a.{suffix}")
    same(read, network.with_(**{k: getattr(network, k).astype(dtype) for k in ("outer", "inner", "bias", "offset")}))
    assert read.provenance.precision == dtype


@settings(deadline=None, max_examples=40)
@given(
    bits=hnp.arrays(np.uint16, (4, 3)), kind=st.sampled_from([torch.float16, torch.bfloat16]), as_torch=st.booleans()
)
def test_half_precision_is_the_exact_number(tmp_path_factory, bits, kind, as_torch):
    tensor = torch.from_numpy(bits.view(np.int16)).view(kind)
    tensor = torch.where(torch.isfinite(tensor), tensor, torch.ones_like(tensor))
    path = tmp_path_factory.mktemp("half") / ("a.pt" if as_torch else "a.safetensors")
    state = {"inner": tensor, "outer": torch.ones(4, 1, dtype=torch.float64)}
    if as_torch:
        torch.save(state, path)
    else:
        save_torch_file(state, path)
    read = checkpoints.load(path, activation="relu")
    assert read.inner.tobytes() == tensor.double().numpy().tobytes()
    assert read.provenance.precision == str(kind).removeprefix("torch.")


def test_writer_refuses_what_it_cannot_keep(tmp_path, make):
    with pytest.raises(InputError, match="beyond float16"):
        checkpoints.save(make(offset=np.array([1e6, 0.0])), tmp_path / "a.npz", dtype="float16")
    with pytest.raises(InputError, match=r"suffix \.safetensors or \.npz"):
        checkpoints.save(make(), tmp_path / "a.h5")
    with pytest.raises(InputError, match="width 0"):
        checkpoints.save(Network(np.zeros((0, 1)), np.zeros((0, 2))), tmp_path / "a.npz")
    with pytest.raises(InputError, match="dtype: expected"):
        checkpoints.save(make(), tmp_path / "a.npz", dtype="float8")
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, make, same, monkeypatch):
    network, path = make(), tmp_path / "a.safetensors"
    checkpoints.save(network, path)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left", str(path))))
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(make(width=3), path)
    monkeypatch.undo()
    same(network, checkpoints.load(path))
    assert os.listdir(tmp_path) == [path.name]


def test_the_activation_must_be_said_somewhere(tmp_path, make, same):
    network = make(activation="gelu")
    save_file({"outer": network.outer, "inner": network.inner}, tmp_path / "a.safetensors")
    (tmp_path / "config.json").write_text('{"hidden_act": "relu"}')  # speaks of another model
    with pytest.raises(InputError, match="pass --activation"):
        checkpoints.load(tmp_path / "a.safetensors")
    assert checkpoints.load(tmp_path / "a.safetensors", activation="gelu").activation.name == "gelu"


def test_the_option_overrides_the_file(tmp_path, make):
    checkpoints.save(make(activation="gelu"), tmp_path / "a.npz")
    assert checkpoints.load(tmp_path / "a.npz", activation="gelu_new").activation.name == "gelu_tanh"


def test_several_native_blocks_under_prefixes(tmp_path, make):
    arrays = {
        f"{p}.{k}": getattr(make(width=n), k) for p, n in (("a", 3), ("b", 4)) for k in ("inner", "outer", "bias")
    }
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, tmp_path / "a.safetensors")
    path = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match=r"2 match: a, b; choose one with --block"):
        checkpoints.load(path, activation="relu")
    with pytest.raises(InputError, match=r"no block matches 'c'; expected one of: a, b"):
        checkpoints.load(path, "c", activation="relu")
    assert checkpoints.load(path, "b", activation="relu").width == 4
    assert [n.width for n in checkpoints.load_blocks(path, activation="relu")] == [3, 4]
    assert [n.provenance.block for n in checkpoints.load_blocks(path, "[ab]", activation="relu")] == ["a", "b"]


def test_suffixes_for_batch():
    assert checkpoints.has_known_suffix("a/B.SafeTensors")
    assert checkpoints.has_known_suffix("model.safetensors.index.json")
    assert not checkpoints.has_known_suffix("model-00001-of-00002.safetensors")
    assert not checkpoints.has_known_suffix("notes.txt")
    assert set(checkpoints.SUFFIXES) >= {".safetensors", ".npz", ".pt", ".pth"}
