"""Writing back: the block is replaced, every other byte stays, and the copy appears whole or not at all."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sparsemf import checkpoints
from sparsemf.checkpoints.opened import OpenCheckpoint
from sparsemf.checkpoints.write_back import WriteBack
from sparsemf.exceptions import InputError
from sparsemf.measures import Network

D, N = 4, 9
PREFIX = "model.layers.0.mlp."


def plain_state(dtype=torch.float32, seed=0):
    shapes = {"fc1.weight": (N, D), "fc1.bias": (N,), "fc2.weight": (D, N), "fc2.bias": (D,)}
    return _drawn(shapes, dtype, seed)


def gated_state(dtype=torch.float32, seed=0):
    shapes = {"gate_proj.weight": (N, D), "up_proj.weight": (N, D), "down_proj.weight": (D, N)}
    return _drawn(shapes, dtype, seed)


def fused_state(dtype=torch.float32, seed=0):
    shapes = {"gate_up_proj.weight": (2 * N, D), "gate_up_proj.bias": (2 * N,), "down_proj.weight": (D, N)}
    return _drawn(shapes, dtype, seed)


def _drawn(shapes, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    state = {f"{PREFIX}{k}": torch.randn(s, generator=generator).to(dtype) for k, s in shapes.items()}
    others = {
        "model.embed.weight": torch.randn(30, D, generator=generator).to(torch.bfloat16),
        "model.ids": torch.arange(7),
        "model.mask": torch.tensor([True, False, True]),
        "model.nan": torch.tensor([float("nan"), float("inf")]),
        "model.empty": torch.zeros(0, 3),
        "model.step": torch.tensor(3.5, dtype=torch.float64),
    }
    return {"model.first": torch.ones(3), **state, **others}


STATES = {"plain": plain_state, "gated": gated_state, "fused": fused_state}


def permuted(network: Network, rng: np.random.Generator) -> Network:
    order = rng.permutation(network.width)
    fields = ("outer", "inner", "bias", *(("gate", "gate_bias") if network.gated else ()))
    return network.with_(**{name: getattr(network, name)[order] for name in fields})


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def rewrite(source, target, change, **options):
    """Replace every block of ``source`` by ``change`` of it; the roundings."""
    found = []
    with OpenCheckpoint(source, **options) as opened, WriteBack(source, target) as copy:
        for name, layout in opened.layouts.items():
            found.append(copy.put(layout, change(opened.load(name))))
    return found


def assert_others_unchanged(before, after):
    assert set(before) == set(after)
    for name in before:
        assert (before[name].dtype, before[name].shape) == (after[name].dtype, after[name].shape), name
        if not name.startswith(PREFIX):
            assert raw(before[name]) == raw(after[name]), name


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_safetensors(tmp_path, rng, same, kind, dtype):
    state = STATES[kind](dtype)
    save_file(state, tmp_path / "a.safetensors", metadata={"format": "pt", "note": "kept"})
    changed = []

    def change(network):
        changed.append(permuted(network, rng))
        return changed[-1]

    assert rewrite(tmp_path / "a.safetensors", tmp_path / "b.safetensors", change, activation="silu") == [{}]
    same(changed[0], checkpoints.load(tmp_path / "b.safetensors", activation="silu"))
    assert_others_unchanged(state, load_file(tmp_path / "b.safetensors"))
    with safe_open(tmp_path / "b.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt", "note": "kept"}
    # nothing changed: the same bytes
    save_file(load_file(tmp_path / "a.safetensors"), tmp_path / "plain.safetensors")
    rewrite(tmp_path / "plain.safetensors", tmp_path / "c.safetensors", lambda network: network, activation="silu")
    assert (tmp_path / "c.safetensors").read_bytes() == (tmp_path / "plain.safetensors").read_bytes()


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("shards", ["safetensors", "bin"])
def test_shards_become_one_file(tmp_path, rng, same, kind, shards):
    state = STATES[kind]()
    homes = {name: f"model-0000{1 + i % 3}-of-00003.{shards}" for i, name in enumerate(state)}
    for home in set(homes.values()):
        part = {name: tensor for name, tensor in state.items() if homes[name] == home}
        (save_file if shards == "safetensors" else torch.save)(part, tmp_path / home)
    index = tmp_path / f"model.{shards}.index.json"
    index.write_text(json.dumps({"weight_map": homes}))
    expected = permuted(checkpoints.load(index, activation="silu"), rng)
    rewrite(index, tmp_path / "b.safetensors", lambda _: expected, activation="silu")
    same(expected, checkpoints.load(tmp_path / "b.safetensors", activation="silu"))
    assert_others_unchanged(state, load_file(tmp_path / "b.safetensors"))


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_keeps_its_nesting(tmp_path, rng, same, kind, zipped):
    state = STATES[kind]()
    moments = {name: torch.randn_like(tensor) for name, tensor in state.items() if name.startswith(PREFIX)}
    content = {"state_dict": state, "epoch": 3, "optimizer": {"state": moments, "lr": [0.1, 0.2]}, "tags": ("a", None)}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    expected = permuted(checkpoints.load(tmp_path / "a.pt", activation="silu"), rng)
    rewrite(tmp_path / "a.pt", tmp_path / "b.pt", lambda _: expected, activation="silu")
    same(expected, checkpoints.load(tmp_path / "b.pt", activation="silu"))
    after = torch.load(tmp_path / "b.pt", weights_only=True)
    assert list(after) == list(content)
    assert (after["epoch"], after["tags"], after["optimizer"]["lr"]) == (3, ("a", None), [0.1, 0.2])
    assert_others_unchanged(state, after["state_dict"])
    for name, tensor in moments.items():  # the optimiser's state has the same names, and stays
        assert raw(tensor) == raw(after["optimizer"]["state"][name])


def test_npz(tmp_path, make, same, rng):
    network = make(width=N)
    arrays = {name: getattr(network, name) for name in ("outer", "inner", "bias", "offset")}
    others = {"codes": np.arange(5), "words": np.array(["a", "bc"]), "big_endian": np.arange(3.0).astype(">f4")}
    np.savez_compressed(tmp_path / "a.npz", **arrays, **others, activation="tanh", scale=0.25)
    expected = permuted(checkpoints.load(tmp_path / "a.npz"), rng)
    rewrite(tmp_path / "a.npz", tmp_path / "b.npz", lambda _: expected)
    same(expected, checkpoints.load(tmp_path / "b.npz"))
    with np.load(tmp_path / "b.npz", allow_pickle=False) as after:
        assert set(after) == {*arrays, *others, "activation", "scale"}
        for name, array in others.items():
            assert after[name].dtype == array.dtype
            assert after[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("suffix", ["safetensors", "npz", "pt"])
@pytest.mark.parametrize("prefix", ["", "net."])
def test_a_native_block_may_gain_parts(tmp_path, make, same, rng, suffix, prefix):
    network = make(width=N, d=3, m=2, activation="relu2")
    arrays = {f"{prefix}{name}": np.ascontiguousarray(getattr(network, name)) for name in ("inner", "outer")}
    source, target = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    if suffix == "safetensors":
        save_file(tensors, source)
    elif suffix == "npz":
        np.savez(source, **arrays)
    else:
        nested = {"inner": tensors[f"{prefix}inner"], "outer": tensors[f"{prefix}outer"]}
        torch.save({"model": {"net": nested} if prefix else tensors}, source)
    parts = {"affine": (2, 3), "offset": (2,), "quadratic": (2, 3, 3), "bias": (N,)}
    richer = network.with_(**{name: rng.standard_normal(shape) for name, shape in parts.items()})
    rewrite(source, target, lambda _: richer, activation="relu2")
    same(richer, checkpoints.load(target, activation="relu2"))
    # and lose one again: the tensor stays, filled with zeros
    rewrite(target, tmp_path / f"c.{suffix}", lambda n: n.with_(quadratic=None), activation="relu2")
    again = checkpoints.load(tmp_path / f"c.{suffix}", activation="relu2")
    assert again.quadratic is not None
    assert not again.quadratic.any()


def test_transposes_are_kept(tmp_path, rng, same):
    arrays = {
        "h.0.attn.c_attn.weight": np.zeros((3, 9)),
        "h.0.mlp.c_fc.weight": rng.standard_normal((3, N)),
        "h.0.mlp.c_fc.bias": rng.standard_normal(N),
        "h.0.mlp.c_proj.weight": rng.standard_normal((N, 3)),
        "h.0.mlp.c_proj.bias": rng.standard_normal(3),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    expected = permuted(checkpoints.load(tmp_path / "a.npz", activation="gelu"), rng)
    rewrite(tmp_path / "a.npz", tmp_path / "b.npz", lambda _: expected, activation="gelu")
    same(expected, checkpoints.load(tmp_path / "b.npz", activation="gelu"))
    spec = "inner=u:N,outer=flat,gate=g"
    np.savez(tmp_path / "c.npz", u=np.ones((N, 3)), flat=np.ones(N), g=rng.standard_normal((3, N)))
    expected = permuted(checkpoints.load(tmp_path / "c.npz", activation="silu", map=spec), rng)
    rewrite(tmp_path / "c.npz", tmp_path / "d.npz", lambda _: expected, activation="silu", map=spec)
    same(expected, checkpoints.load(tmp_path / "d.npz", activation="silu", map=spec))


def test_roundings_are_reported(tmp_path):
    save_file(plain_state(torch.float16), tmp_path / "a.safetensors")
    (found,) = rewrite(
        tmp_path / "a.safetensors",
        tmp_path / "b.safetensors",
        lambda n: n.with_(inner=n.inner * (1 + 1e-5), outer=2 * n.outer),
        activation="tanh",
    )
    assert set(found) == {"inner"}
    assert 1e-6 < found["inner"] < 2.0**-11
    (found,) = rewrite(
        tmp_path / "a.safetensors", tmp_path / "b.safetensors", lambda n: n.with_(bias=n.bias / 3), activation="tanh"
    )
    assert set(found) == {"bias"}


def test_bfloat16_rounds_to_nearest_even(tmp_path, rng):
    state = plain_state(torch.bfloat16)
    save_file(state, tmp_path / "a.safetensors")
    values = rng.standard_normal((N, D)) * np.exp(rng.normal(0, 20, (N, D)))
    rewrite(tmp_path / "a.safetensors", tmp_path / "b.safetensors", lambda n: n.with_(inner=values), activation="tanh")
    after = load_file(tmp_path / "b.safetensors")[f"{PREFIX}fc1.weight"]
    assert torch.equal(after, torch.tensor(values).float().bfloat16())


def test_refusals_leave_no_file(tmp_path):
    path, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file(plain_state(torch.float16), path)
    refused = {
        "no tensor for the network's affine": lambda n: n.with_(affine=np.ones((D, D))),
        "expected a plain block of d = 4, m = 4 and width 9": lambda n: n.with_(
            outer=n.outer[:, 1:], affine=n.affine[1:], offset=n.offset[1:]
        ),
        "beyond float16": lambda n: n.with_(outer=1e6 * n.outer),
        "expected a plain block": lambda n: n.with_(gate=n.inner),
    }
    for message, change in refused.items():
        with pytest.raises(InputError, match=message):
            rewrite(path, target, change, activation="tanh")
    with pytest.raises(InputError, match="expected a new file, got the checkpoint itself"):
        WriteBack(path, path)
    with pytest.raises(InputError, match=r"expected the suffix \.safetensors"):
        WriteBack(path, tmp_path / "b.pt")
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_a_failed_write_leaves_the_old_target(tmp_path, monkeypatch):
    path, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file(plain_state(), path)
    target.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left", str(target))))
    with pytest.raises(OSError, match="No space left"):
        rewrite(path, target, lambda network: network, activation="tanh")
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="stop"):
        rewrite(path, target, lambda _: (_ for _ in ()).throw(RuntimeError("stop")), activation="tanh")
    assert target.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "b.safetensors"]
