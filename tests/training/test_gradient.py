"""The closed-form gradient against autograd, and independence of how it is blocked."""

import pytest
import torch

from sparsemf.activations import get, names, torch_ops
from sparsemf.training import gradient
from sparsemf.training.gradient import MIN_ROWS, NARROW, MeanFieldGradient


def problem(width, samples, columns, outputs, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    shapes = ((width, outputs), (width, columns), (samples, columns), (samples, outputs))
    return [torch.randn(shape, generator=g, dtype=dtype) for shape in shapes]


def closed_form(activation, outer, inner, x, y, block):
    grad_outer, grad_inner = torch.full_like(outer, torch.nan), torch.full_like(inner, torch.nan)
    loss = MeanFieldGradient(get(activation), block)(outer, inner, x, y, grad_outer, grad_inner)
    return loss, grad_outer, grad_inner


@pytest.mark.parametrize("activation", [*names(), "leaky_relu(0.2)"])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_gradient_is_n_times_the_gradient_of_the_risk(activation, outputs, bias):
    outer, inner, x, y = problem(width=7, samples=50, columns=4 + bias, outputs=outputs)
    if bias:
        x[:, -1] = 1.0
    outer.requires_grad_()
    inner.requires_grad_()
    f = get(activation).value(x @ inner.T, torch_ops()) @ outer / outer.shape[0]
    risk = 0.5 * (f - y).square().sum(1).mean()
    expected = torch.autograd.grad(outer.shape[0] * risk, (outer, inner))
    loss, *got = closed_form(activation, outer.detach(), inner.detach(), x, y, block=10_000)
    torch.testing.assert_close(loss, risk.detach(), rtol=1e-13, atol=0)
    for have, want in zip(got, expected, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "silu"])
def test_blocks_change_rounding_only(activation, outputs):
    """All at once; blocks of samples; blocks of samples and particles (ragged ends everywhere)."""
    arrays = problem(width=53, samples=3 * MIN_ROWS + 5, columns=6, outputs=outputs)
    whole = closed_form(activation, *arrays, block=1 << 20)
    for block in (53 * 40, 53 * MIN_ROWS, 20 * MIN_ROWS, 1):
        for have, want in zip(closed_form(activation, *arrays, block=block), whole, strict=True):
            torch.testing.assert_close(have, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("columns", [NARROW - 1, NARROW])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "erf", "abs", "silu"])
def test_tiles_change_rounding_only(activation, outputs, columns, monkeypatch):
    """Tiles of particles inside blocks of samples, ragged, in both layouts of the inner gradient's sums."""
    arrays = problem(width=53, samples=3 * MIN_ROWS + 5, columns=columns, outputs=outputs)
    whole = closed_form(activation, *arrays, block=1 << 20)
    for tile, rows, block in (
        (7 * MIN_ROWS, 40, 1 << 20),
        (1, 1, 1 << 20),
        (7 * MIN_ROWS, 512, 53 * MIN_ROWS),
        (90, 512, 1),
    ):
        monkeypatch.setattr(gradient, "TILE", tile)
        monkeypatch.setattr(gradient, "MAX_ROWS", rows)
        for have, want in zip(closed_form(activation, *arrays, block=block), whole, strict=True):
            torch.testing.assert_close(have, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("activation", "held"), [("tanh", 1), ("relu", 1), ("erf", 2)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_what_a_step_holds(activation, held, outputs):
    """A block of z, one of σ′ where it is stored, a tile for ⟨r, a_i⟩; where σ is evaluated twice, tiles only."""
    outer, inner, x, y = problem(width=4096, samples=512, columns=17, outputs=outputs, dtype=torch.float32)
    tile = gradient.TILE * (outputs > 1)
    for block, most in ((1 << 19, held << 19), (1 << 16, held << 16)):
        risk = MeanFieldGradient(get(activation), block)
        risk(outer, inner, x, y, torch.empty_like(outer), torch.empty_like(inner))
        kept = sum(buffer.numel() for buffer in risk._buffers.values())
        assert kept <= most + min(tile, block)


def test_single_precision_follows_double():
    arrays = problem(width=200, samples=300, columns=8, outputs=1)
    for activation in names():
        double = closed_form(activation, *arrays, block=1 << 20)
        single = closed_form(activation, *(a.float() for a in arrays), block=1 << 20)
        for have, want in zip(single, double, strict=True):
            # rounding scales with the terms of the sums, which exp makes large
            scale = max(1.0, float(want.abs().max()))
            torch.testing.assert_close(have.double(), want, rtol=1e-4, atol=5e-6 * scale if scale > 1 else 2e-6)


def test_one_gradient_serves_batches_of_every_size():
    """The kept buffers of a large batch do not leak into a smaller one (the last batch of an epoch)."""
    outer, inner, x, y = problem(width=20, samples=64, columns=5, outputs=2)
    risk = MeanFieldGradient(get("gelu"), block=1 << 20)
    grads = torch.empty_like(outer), torch.empty_like(inner)
    risk(outer, inner, x, y, *grads)
    risk(outer, inner, x[:9], y[:9], *grads)
    _, *fresh = closed_form("gelu", outer, inner, x[:9], y[:9], block=1 << 20)
    for have, want in zip(grads, fresh, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-13, atol=1e-15)
