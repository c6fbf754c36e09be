"""Two checkpoints in, one out: B's functions with A's neurons in place, everything else untouched."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sparsemf import checkpoints
from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.pipeline.align import align_files

D, N = 6, 20


def mlp(rng, prefix, dtype=torch.float32, gated=False, width=N, d=D):
    shapes = {"up_proj.weight": (width, d), "down_proj.weight": (d, width)}
    shapes |= {"gate_proj.weight": (width, d)} if gated else {"up_proj.bias": (width,), "down_proj.bias": (d,)}
    return {f"{prefix}{k}": torch.tensor(rng.standard_normal(s)).to(dtype) for k, s in shapes.items()}


def permuted(state, rng, signs=False):
    """Every block's neurons in another order, half of them (odd σ) with the other sign."""
    out = dict(state)
    for up in (name for name in state if name.endswith("up_proj.weight")):
        prefix, order = up.removesuffix("up_proj.weight"), rng.permutation(state[up].shape[0])
        side = torch.tensor(rng.choice([-1.0, 1.0], order.size) if signs else np.ones(order.size))
        for name in ("up_proj.weight", "up_proj.bias", "gate_proj.weight", "down_proj.weight"):
            if prefix + name in state:
                axis = 1 if name.startswith("down") else 0
                moved = state[prefix + name].index_select(axis, torch.tensor(order))
                shape = [-1 if i == axis else 1 for i in range(moved.dim())]
                out[prefix + name] = moved * side.to(moved.dtype).reshape(shape)
    return out


def equal(first, second):
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("gated", "activation"), [(False, "gelu"), (False, "tanh"), (True, "silu")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_permuted_model_comes_back_bit_for_bit(tmp_path, gated, activation, dtype):
    rng = np.random.default_rng(0)
    a = {"embed.weight": torch.ones(5, D)}
    for layer in range(3):
        a |= mlp(rng, f"layers.{layer}.mlp.", dtype, gated)
    b = permuted(a, rng, signs=activation == "tanh")
    save_file(a, tmp_path / "a.safetensors")
    save_file({f"model.{name}": tensor for name, tensor in b.items()}, tmp_path / "b.safetensors")
    records = align_files(
        tmp_path / "a.safetensors", tmp_path / "b.safetensors", tmp_path / "out.safetensors", activation
    )
    assert [r["block"] for r in records] == [f"layers.{k}.mlp = model.layers.{k}.mlp" for k in range(3)]
    for record in records:
        assert (record["problem"], record["in_place"], record["matched"], record["refused"]) == (None, True, N, 0)
        assert record["rounding"] == record["distance"] == record["residual"] == 0.0
        assert (record["flipped"] > 0) == (activation == "tanh")
        assert record["rescaled"] == 0
    out = load_file(tmp_path / "out.safetensors")
    assert equal({f"model.{name}": tensor for name, tensor in a.items()}, out)


def test_one_bad_block_does_not_stop_the_others(tmp_path):
    rng = np.random.default_rng(1)
    a = mlp(rng, "layers.0.mlp.") | mlp(rng, "layers.1.mlp.") | mlp(rng, "layers.2.mlp.")
    b = permuted(a, rng) | mlp(rng, "layers.3.mlp.")
    b["layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(a, tmp_path / "a.safetensors")
    save_file(b, tmp_path / "b.safetensors")
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "out.safetensors")]
    records = align_files(*paths, "relu")
    problems = {record["block"]: record["problem"] for record in records}
    assert problems["layers.0.mlp"] is problems["layers.2.mlp"] is None
    assert "expected finite numbers, got 1 NaN" in problems["layers.1.mlp"]
    assert problems["layers.3.mlp"] == "no partner in a.safetensors"
    assert records[1]["matched"] is None
    out = load_file(paths[2])
    for name in a:
        left = torch.equal(out[name], b[name])
        assert torch.equal(out[name], a[name]) or name.startswith("layers.1.") or name.endswith("down_proj.bias")
        assert left or not name.startswith("layers.1.") or "up_proj.weight" in name
    assert [r["block"] for r in align_files(*paths, "relu", block="layers.2.*")] == ["layers.2.mlp"]
    out = load_file(paths[2])
    assert torch.equal(out["layers.2.mlp.up_proj.weight"], a["layers.2.mlp.up_proj.weight"])
    assert torch.equal(out["layers.0.mlp.up_proj.weight"], b["layers.0.mlp.up_proj.weight"])


def test_nothing_to_align_writes_nothing(tmp_path):
    rng = np.random.default_rng(2)
    files = {"a": mlp(rng, "x."), "b": mlp(rng, "x.", d=5), "c": mlp(rng, "x.", gated=True)}
    files |= {"d": mlp(rng, "p.") | mlp(rng, "q."), "e": mlp(rng, "r.") | mlp(rng, "s.", width=3)}
    for name, state in files.items():
        save_file(state, tmp_path / f"{name}.safetensors")

    def call(first, second, **options):
        paths = (tmp_path / f"{name}.safetensors" for name in (first, second, "out"))
        return align_files(*paths, "relu", **options)

    for first, second, message in (
        ("a", "b", r"no block could be aligned: x: input dimension d: expected the same for both"),
        ("a", "c", r"no block could be aligned: x: gated: expected the same for both"),
        ("d", "e", r"expected blocks of d.safetensors and e.safetensors that correspond .* got p, q and r, s"),
        ("a", "missing", "no such file"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            call(first, second)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"no paired block of a.safetensors and a.safetensors matches 'y'"):
        call("a", "a", block="y")
    with pytest.raises(InputError, match="got the checkpoint itself"):
        align_files(tmp_path / "a.safetensors", tmp_path / "b.safetensors", tmp_path / "b.safetensors", "relu")
    assert sorted(os.listdir(tmp_path)) == [f"{name}.safetensors" for name in files]


def test_flips_are_paid_where_the_format_has_a_place(tmp_path):
    """A native file takes the linear function of flipped gelus; a transformer block has no place for it."""
    rng = np.random.default_rng(3)
    a = Network(rng.standard_normal((N, D)), rng.standard_normal((N, D)), rng.standard_normal(N), "gelu")
    side = rng.choice([-1.0, 1.0], N)
    turned = a.alpha[side < 0]
    b = a.with_(
        inner=a.inner * side[:, None],
        bias=a.bias * side,
        affine=turned.T @ a.inner[side < 0],
        offset=turned.T @ a.bias[side < 0],
    )
    x = rng.standard_normal((40, D))
    np.testing.assert_allclose(b(x), a(x), atol=1e-12)
    checkpoints.save(a, tmp_path / "a.safetensors")
    checkpoints.save(b, tmp_path / "b.npz")
    (record,) = align_files(tmp_path / "a.safetensors", tmp_path / "b.npz", tmp_path / "out.npz")
    assert (record["flipped"], record["refused"]) == (int((side < 0).sum()), 0)
    out = checkpoints.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(out.inner, a.inner)
    np.testing.assert_allclose(out(x), b(x), atol=1e-12)
    state = {
        "up_proj.weight": b.inner,
        "up_proj.bias": b.bias,
        "down_proj.weight": b.outer.T,
        "down_proj.bias": b.offset,
    }
    save_file({k: torch.tensor(np.ascontiguousarray(v)) for k, v in state.items()}, tmp_path / "c.safetensors")
    (record,) = align_files(
        tmp_path / "a.safetensors", tmp_path / "c.safetensors", tmp_path / "out.safetensors", activation="gelu"
    )
    assert (record["flipped"], record["refused"]) == (0, int((side < 0).sum()))
    before, after = (
        checkpoints.load(tmp_path / name, activation="gelu") for name in ("c.safetensors", "out.safetensors")
    )
    np.testing.assert_allclose(after(x), before(x), atol=1e-12)


def test_rescaled_relus_in_half_precision_report_their_rounding(tmp_path):
    rng = np.random.default_rng(4)
    a = Network(rng.standard_normal((N, D)), rng.standard_normal((N, D)), rng.standard_normal(N), "relu")
    factor = np.exp(rng.normal(0, 0.5, N))
    b = a.with_(outer=a.outer / factor[:, None], inner=a.inner * factor[:, None], bias=a.bias * factor)
    checkpoints.save(a, tmp_path / "a.safetensors")
    checkpoints.save(b, tmp_path / "b.safetensors", dtype="float16")
    (record,) = align_files(*(tmp_path / f"{name}.safetensors" for name in ("a", "b", "out")))
    assert record["rescaled"] > N // 2
    assert 0 < record["rounding"] < 2.0**-11
    x = rng.standard_normal((40, D))
    before, after = (checkpoints.load(tmp_path / f"{name}.safetensors") for name in ("b", "out"))
    scale = np.abs(a.alpha).sum() * 5
    np.testing.assert_allclose(after(x), before(x), atol=4 * record["rounding"] * scale / np.sqrt(N))
