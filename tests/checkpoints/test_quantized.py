"""8-bit codes with scales: exact numbers by rational arithmetic, every scheme, and what is not self-describing by
name."""

from __future__ import annotations

import json
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sparsemf import checkpoints
from sparsemf.checkpoints.opened import OpenCheckpoint
from sparsemf.checkpoints.quantized import float8
from sparsemf.checkpoints.write_back import WriteBack
from sparsemf.exceptions import InputError

D, N = 8, 12


def codes(rng, *shape):
    return torch.tensor(rng.integers(-128, 128, shape), dtype=torch.int8)


def scales(rng, *shape):
    return torch.tensor(np.exp(rng.normal(-5, 1, shape)), dtype=torch.float32)


def rational(q, s, z=None, divisor=1):
    """(q − z)·s/divisor by fractions, rounded once."""
    q, s = q.double().numpy(), np.broadcast_to(s.double().numpy(), tuple(q.shape))
    z = np.zeros(q.shape) if z is None else np.broadcast_to(z.double().numpy(), q.shape)
    exact = [
        (Fraction(a) - Fraction(b)) * Fraction(c) / divisor for a, b, c in zip(q.flat, z.flat, s.flat, strict=True)
    ]
    return np.array([float(value) for value in exact]).reshape(q.shape)


def scheme(kind, rng, name, out, inside):
    """(tensors of a Linear, the numbers of its weight)."""
    q = codes(rng, out, inside)
    if kind == "bitsandbytes":
        s = scales(rng, out)
        extra = {f"{name}.weight_format": torch.tensor(0, dtype=torch.uint8)}
        return {f"{name}.weight": q, f"{name}.SCB": s} | extra, rational(q, s[:, None], None, 127)
    if kind == "quanto":
        s = scales(rng, out, 1)
        return {f"{name}.weight._data": q, f"{name}.weight._scale": s}, rational(q, s)
    if kind.startswith("float8"):
        dtype = getattr(torch, kind)
        q = torch.tensor(rng.standard_normal((out, inside)) * 20, dtype=torch.float32).to(dtype)
        s = scales(rng, 1)
        return {f"{name}.weight": q, f"{name}.weight_scale": s}, rational(q, s)
    shape = {"row": (out, 1), "tensor": (1,), "vector": (out,), "group": (out, inside // 4), "zero": (out, 1)}[kind]
    s = scales(rng, *shape)
    spread = s[:, None] if kind == "vector" else s.repeat_interleave(4, 1) if kind == "group" else s
    tensors = {f"{name}.weight": q, f"{name}.weight_scale": s}
    z = codes(rng, *shape) if kind == "zero" else None
    if z is not None:
        tensors[f"{name}.weight_zero_point"] = z
    return tensors, rational(q, spread, z)


KINDS = ["bitsandbytes", "quanto", "row", "tensor", "vector", "group", "zero", "float8_e4m3fn", "float8_e5m2"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["safetensors", "torch", "sharded"])
def test_the_numbers_that_the_codes_stand_for(tmp_path, rng, kind, form):
    prefix = "model.layers.0.mlp."
    first, inner = scheme(kind, rng, f"{prefix}fc1", N, D)
    second, outer = scheme(kind, rng, f"{prefix}fc2", D, N)
    bias = torch.tensor(rng.standard_normal(N), dtype=torch.float16)
    state = {**first, **second, f"{prefix}fc1.bias": bias}
    path = tmp_path / "a.safetensors"
    if form == "safetensors":
        save_file(state, path)
    elif form == "torch":
        path = tmp_path / "a.pt"
        torch.save(state, path)
    else:  # codes and scales in different shards
        homes = {name: f"s{i % 3}.safetensors" for i, name in enumerate(sorted(state))}
        for home in set(homes.values()):
            save_file({name: state[name] for name in state if homes[name] == home}, tmp_path / home)
        path = tmp_path / "model.safetensors.index.json"
        path.write_text(json.dumps({"weight_map": homes}))
    network = checkpoints.load(path, activation="relu")
    largest = 2.0**-52 if kind == "bitsandbytes" else 0.0  # the division rounds
    assert np.all(np.abs(network.inner - inner) <= largest * np.abs(inner))
    assert np.all(np.abs(network.outer - outer.T) <= largest * np.abs(outer.T))
    assert np.array_equal(network.bias, bias.double().numpy())
    assert network.provenance.precision == (kind if kind.startswith("float8") else "int8")
    assert "scale" in network.provenance.extra["dequantised"]
    (block,) = checkpoints.inspect(path, activation="relu").blocks
    assert block.problem is None
    if form != "sharded":
        with (
            pytest.raises(InputError, match="new numbers need scales of the quantiser's choice"),
            OpenCheckpoint(path, activation="relu") as opened,
            WriteBack(path, tmp_path / f"b{path.suffix}") as copy,
        ):
            copy.put(next(iter(opened.layouts.values())), network)


def test_float8_tables():
    raw = np.arange(256, dtype=np.uint8)
    for name in ("float8_e4m3fn", "float8_e5m2"):
        expected = raw.view(getattr(ml_dtypes, name)).astype(np.float64)
        assert np.array_equal(float8(raw, name), expected, equal_nan=True)
        known = ~np.isnan(expected)
        assert np.array_equal(np.signbit(float8(raw, name))[known], np.signbit(expected)[known])


def test_what_is_not_self_describing_is_named(tmp_path, rng):
    packed = torch.zeros(4, 4, dtype=torch.int32)
    half = torch.ones(4, 4, dtype=torch.float16)
    for state, message in (
        ({"fc1.qweight": packed, "fc1.qzeros": packed, "fc1.scales": half, "fc2.qweight": packed}, "GPTQ or AWQ"),
        ({"fc1.weight_packed": packed, "fc1.weight_scale": half}, "packed codes"),
        ({"fc1.weight": torch.zeros(16, 1, dtype=torch.uint8), "fc1.weight.quant_map": half}, "bitsandbytes' 4-bit"),
        ({"fc1.weight": codes(rng, 4, 4), "fc1.weight_scale_inv": half}, "block scales"),
    ):
        save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "a.safetensors")
        with pytest.raises(InputError, match=message) as caught:
            checkpoints.load(tmp_path / "a.safetensors", activation="relu")
        assert "\n" not in str(caught.value)


def test_codes_alone_stay_refused(tmp_path, rng):
    state = {"fc1.weight": codes(rng, N, D), "fc2.weight": codes(rng, D, N)}
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="expected bfloat16, float16, float32, float64, got int8"):
        checkpoints.load(tmp_path / "a.safetensors", activation="relu")
    tiled = {"fc1.SCB": scales(rng, N), "fc2.SCB": scales(rng, D), "fc1.weight_format": torch.tensor(2)}
    save_file(state | tiled, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="weight_format 0"):
        checkpoints.load(tmp_path / "a.safetensors", activation="relu")
    save_file(state | {"fc1.weight_scale": scales(rng, N + 1)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="got int8"):
        checkpoints.load(tmp_path / "a.safetensors", activation="relu")
