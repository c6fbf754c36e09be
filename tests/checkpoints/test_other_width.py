"""Blocks of another width: shapes, everything else as it was, and what outside the file must change."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sparsemf import checkpoints
from sparsemf.checkpoints.opened import OpenCheckpoint
from sparsemf.checkpoints.write_back import WriteBack
from sparsemf.exceptions import InputError

D, N = 4, 9
ROOT = "model.layers."
KINDS = {
    "plain": {"fc1.weight": (N, D), "fc1.bias": (N,), "fc2.weight": (D, N), "fc2.bias": (D,)},
    "gated": {"gate_proj.weight": (N, D), "up_proj.weight": (N, D), "down_proj.weight": (D, N)},
    "fused": {"gate_up_proj.weight": (2 * N, D), "gate_up_proj.bias": (2 * N,), "down_proj.weight": (D, N)},
}


def state(kind, blocks=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    found = {
        f"{ROOT}{k}.mlp.{name}": torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for k in range(blocks)
        for name, shape in KINDS[kind].items()
    }
    return found | {"model.embed.weight": torch.randn(N, D, generator=generator), "model.ids": torch.arange(N)}


def of_width(network, width, rng):
    """A random network of another width with the parts of the old one."""
    drawn = {"inner": (width, network.d), "outer": (width, network.m)}
    drawn |= {"bias": (width,)} if network.bias.any() else {}
    if network.gated:
        drawn |= {"gate": (width, network.d)} | ({"gate_bias": (width,)} if network.gate_bias.any() else {})
    values = {name: rng.standard_normal(shape) for name, shape in drawn.items()}
    empty = dict.fromkeys(("bias", "gate_bias"), np.zeros(width)) if network.gated else {"bias": np.zeros(width)}
    return network.with_(**(empty | values))


def put(source, target, widths, rng, **options):
    """Give the blocks these widths; the networks that were put, and the advice."""
    placed = []
    with OpenCheckpoint(source, **options) as opened, WriteBack(source, target) as copy:
        for (name, layout), width in zip(opened.layouts.items(), widths, strict=False):
            if width is not None:
                placed.append(of_width(opened.load(name), width, rng))
                assert copy.put(layout, placed[-1]) == {}
        return placed, copy.advice


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1, 5, 2 * N])
@pytest.mark.parametrize("suffix", ["safetensors", "pt", "npz"])
def test_every_layout(tmp_path, rng, same, kind, width, suffix):
    tensors = state(kind)
    source, target = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    if suffix == "safetensors":
        save_file(tensors, source)
    elif suffix == "pt":
        torch.save({"model": tensors, "optimizer": {"state": {0: torch.ones(N)}}}, source)
    else:
        np.savez(source, **{name: value.numpy() for name, value in tensors.items()})
    placed, advice = put(source, target, [width, width], rng, activation="silu")
    again = list(checkpoints.load_blocks(target, activation="silu"))
    assert len(again) == 2
    for expected, found in zip(placed, again, strict=True):
        same(expected, found)
    assert any("0.mlp 9 -> " in line for line in advice)
    assert any("continue training with a new optimiser" in line for line in advice) == (suffix == "pt")
    if suffix == "safetensors":
        after = load_file(target)
        assert set(after) == set(tensors)
        for name in ("model.embed.weight", "model.ids"):
            assert torch.equal(after[name], tensors[name])
        for name, shape in KINDS[kind].items():
            expected_shape = tuple({N: width, 2 * N: 2 * width}.get(n, n) for n in shape)
            assert tuple(after[f"{ROOT}0.mlp.{name}"].shape) == expected_shape


def test_the_copy_runs_as_a_module(tmp_path, rng):
    """torch loads the narrowed tensors into a module of the new width, and it computes the new network."""
    save_file(state("plain", 1), tmp_path / "a.safetensors")
    (network,), _ = put(tmp_path / "a.safetensors", tmp_path / "b.safetensors", [5], rng, activation="silu")
    module = torch.nn.ModuleDict({"fc1": torch.nn.Linear(D, 5), "fc2": torch.nn.Linear(5, D)}).double()
    prefix = f"{ROOT}0.mlp."
    after = load_file(tmp_path / "b.safetensors")
    module.load_state_dict({k.removeprefix(prefix): v for k, v in after.items() if k.startswith(prefix)})
    x = torch.tensor(rng.standard_normal((20, D)))
    expected = module["fc2"](torch.nn.functional.silu(module["fc1"](x))).detach().numpy()
    assert np.abs(network(x.numpy()) - expected).max() < 1e-12


def test_advice_names_the_entry_of_the_config(tmp_path, rng):
    save_file(state("plain"), tmp_path / "a.safetensors")
    config = tmp_path / "config.json"
    target = tmp_path / "b.safetensors"
    for content, widths, expected in (
        ({"intermediate_size": N}, [5, 5], "config.json: intermediate_size 9 -> 5 (all blocks must have the same)"),
        (
            {"ffn_dim": N, "intermediate_size": 77},
            [5, 5],
            "config.json: ffn_dim 9 -> 5 (all blocks must have the same)",
        ),
        ({"n_inner": None, "n_embd": 4}, [5, 5], "config.json: n_inner null -> 5 (all blocks must have the same)"),
        ({"text_config": {"d_ff": N}}, [5, 5], "config.json: text_config.d_ff 9 -> 5 (all blocks must have the same)"),
        ({"intermediate_size": N}, [5, None], "cannot say 5 (1 of 2 blocks), 9 (1 of 2 blocks)"),
        ({"intermediate_size": N}, [5, 3], "cannot say 3 (1 of 2 blocks), 5 (1 of 2 blocks)"),
        ({"other": 3}, [5, 5], "the program that builds the model: width of model.layers.0.mlp 9 -> 5"),
    ):
        config.write_text(json.dumps(content))
        _, advice = put(tmp_path / "a.safetensors", target, widths, rng, activation="silu")
        assert any(expected in line for line in advice), advice
        assert not any("\n" in line for line in advice)
    _, advice = put(tmp_path / "a.safetensors", target, [N, N], rng, activation="silu")
    assert advice == ()


def test_native_files_need_no_advice(tmp_path, rng, make, same):
    for suffix in ("safetensors", "npz"):
        checkpoints.save(make(width=N, d=D, m=D, scale=0.25), tmp_path / f"a.{suffix}")
        (network,), advice = put(tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}", [4], rng)
        assert advice == ()
        same(network, checkpoints.load(tmp_path / f"b.{suffix}"))


def test_another_scale_goes_into_outer(tmp_path, make, rng):
    """A network in mean-field scaling, written into a file without a scale, is the same function there."""
    save_file(state("plain", 1), tmp_path / "a.safetensors")
    network = make(width=6, d=D, m=D, activation="silu", scale=1 / 6)
    with (
        OpenCheckpoint(tmp_path / "a.safetensors", activation="silu") as opened,
        WriteBack(tmp_path / "a.safetensors", tmp_path / "b.safetensors") as copy,
    ):
        copy.put(next(iter(opened.layouts.values())), network)
    again = checkpoints.load(tmp_path / "b.safetensors", activation="silu")
    x = rng.standard_normal((20, D))
    assert np.abs(again(x) - network(x)).max() < 1e-14


def test_neighbours_in_a_deep_network(tmp_path, rng):
    """They share a layer: two new widths cannot both be written; one can, and the other's input follows."""
    tensors = {f"{k}.weight": torch.randn(N, N, dtype=torch.float64) for k in (0, 2, 4)}
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"0-2 holds 2\.weight too"):
        put(tmp_path / "a.safetensors", tmp_path / "b.safetensors", [5, 5], np.random.default_rng(0), activation="relu")
