"""The Triton kernels, run by Triton's interpreter, against formulas in float64 and numpy's Philox."""

import numpy as np
import pytest
import torch

from sparsemf.activations import NUMPY, get, names

pytest.importorskip("triton")

from sparsemf.exceptions import InputError
from sparsemf.training import triton_kernels as kernels
from sparsemf.training.triton_sigma import INTERPRETED, form

pytestmark = [
    pytest.mark.skipif(not INTERPRETED, reason="triton was told not to interpret (TRITON_INTERPRET)"),
    # e^{2z} = ∞ is how tanh saturates; numpy, which interprets the kernel, says so
    pytest.mark.filterwarnings("ignore:overflow encountered in exp"),
]

SMALL = kernels.Tiles(samples=16, particles=32, warps=4, stages=2)
KNOWN = [name for name in [*names(), "leaky_relu(0.2)", "elu(0.7)", "celu(2.0)", "hermite(4)"] if form(get(name))]


def problem(replicas=2, width=75, samples=37, columns=5, outputs=1, shared=True, seed=0):
    """(outer, inner, x, residual) in float32, x shared or one per replica."""
    g = np.random.default_rng(seed)
    shapes = (replicas, width, outputs), (replicas, width, columns), (replicas, samples, columns)[shared:]
    outer, inner, x = (torch.from_numpy(g.standard_normal(shape)).float() for shape in shapes)
    residual = torch.from_numpy(g.standard_normal((replicas, samples, outputs)) / samples).float()
    return outer, inner, x, residual


def formulas(outer, inner, x, residual, widths, activation):
    """(Σ a σ, g_a, g_w) in float64, from the formulas as they stand."""
    a, w, x, r = (t.numpy().astype(float) for t in (outer, inner, x, residual))
    x = np.broadcast_to(x, (a.shape[0], *x.shape[-2:]))
    sums, g_a, g_w = np.zeros(r.shape), np.zeros(a.shape), np.zeros(w.shape)
    for i, n in enumerate(widths):
        z = x[i] @ w[i, :n].T
        value, slope = get(activation).value(z), get(activation).derivative(z)
        sums[i] = np.einsum("bn,nm->bm", value, a[i, :n])
        g_a[i, :n] = np.einsum("bm,bn->nm", r[i], value)
        g_w[i, :n] = np.einsum("bm,nm,bn,bk->nk", r[i], a[i, :n], slope, x[i])
    return sums, g_a, g_w


def evaluated(outer, inner, x, residual, widths, activation, compute="float32", tiles=SMALL):
    masked = torch.tensor(widths, dtype=torch.int32)
    sums = kernels.predictions(outer, inner, x, masked, get(activation), compute, tiles)
    grads = torch.full_like(outer, torch.nan), torch.full_like(inner, torch.nan)
    kernels.gradients(outer, inner, x, residual, masked, get(activation), compute, *grads, tiles)
    return sums, *grads


def check(arrays, widths, activation, compute="float32", tiles=SMALL, tolerance=2e-6):
    """Errors relative to the largest entry: a sum's rounding scales with its terms."""
    have = evaluated(*arrays, widths, activation, compute, tiles)
    for got, want in zip(have, formulas(*arrays, widths, activation), strict=True):
        assert got.dtype == torch.float32
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())


@pytest.mark.parametrize("activation", KNOWN)
def test_sigma_and_its_derivative(activation):
    """A grid through the kinks (where the library's convention counts) and, for bounded σ, far out."""
    z = np.arange(-56, 57) / 8.0
    if np.isfinite(get(activation).bound) and get(activation).kind != "frequencies":
        z = np.concatenate([z, [-40.0, -20.0, 20.0, 40.0]])
    have = kernels.elementwise(torch.from_numpy(z).float(), get(activation), "float32")
    for got, want in zip(have, get(activation).value_and_derivative(z, NUMPY), strict=True):
        # σ′ of gelu_tanh multiplies the rounding of 1 − gate by z(c₀ + c₁z²)
        scale = np.maximum(np.maximum(np.abs(z) ** (3 if activation == "gelu_tanh" else 1), np.abs(want)), 1.0)
        assert np.all(np.abs(got.numpy() - want) <= 3e-7 * scale)


@pytest.mark.parametrize("activation", KNOWN)
def test_sums_of_two_widths(activation):
    """Ragged tiles everywhere, the narrower network behind a mask."""
    check(problem(outputs=1), (75, 40), activation)


SHAPES = [(5, 3, True), (20, 1, False), (33, 1, True), (40, 20, False)]


@pytest.mark.parametrize(("columns", "outputs", "shared"), SHAPES)
def test_shapes(columns, outputs, shared):
    """Several outputs, columns that need two products (33 = 32 + 1), samples of their own for each replica."""
    arrays = problem(width=75, samples=37, columns=columns, outputs=outputs, shared=shared)
    check(arrays, (75, 40), "tanh")


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("activation", ["sigmoid", "cos"])
def test_a_mask_hides_particles_whatever_they_hold(activation, outputs):
    """σ(0) ≠ 0: padding must not count; what lies behind the width may be anything."""
    arrays = problem(outputs=outputs)
    for part in arrays[:2]:
        part[1, 40:] = torch.nan
    check(arrays, (75, 40), activation)
    _, grad_outer, grad_inner = evaluated(*arrays, (75, 40), activation)
    assert not grad_outer[1, 40:].any()
    assert not grad_inner[1, 40:].any()


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("compute", ["float32", "tf32", "bf16"])
def test_products(compute, outputs):
    """The interpreter multiplies in float32 whatever is asked: the plumbing is seen here, not the rounding."""
    check(problem(outputs=outputs), (75, 40), "gelu", compute)


def test_splits_change_rounding_only_and_a_call_repeats():
    """Few particles and many samples split the samples, and the other way round; one tile splits nothing."""
    for width, samples in ((20, 150), (150, 20)):
        arrays = problem(replicas=1, width=width, samples=samples)
        for tiles in (kernels.Tiles(32, 32, 4, 2), kernels.Tiles(256, 256, 4, 2)):
            check(arrays, (width,), "tanh", tiles=tiles)
        first, second = (evaluated(*arrays, (width,), "tanh") for _ in range(2))
        assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def test_default_tiles_and_no_mask():
    arrays = problem(replicas=1, width=70, samples=70, columns=3)
    sums = kernels.predictions(*arrays[:3], None, get("relu"), "float32")
    grads = [torch.full_like(part, torch.nan) for part in arrays[:2]]
    kernels.gradients(*arrays, None, get("relu"), "float32", *grads)
    for got, want in zip((sums, *grads), formulas(*arrays, (70,), "relu"), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * np.abs(want).max())


def test_padding_of_columns():
    assert [kernels.padded_columns(k) for k in (1, 16, 17, 33, 64, 65, 96, 97, 129, 256)] == [
        (16, 0), (16, 0), (32, 0), (32, 16), (64, 0), (64, 16), (64, 32), (128, 0), (128, 16), (256, 0),
    ]  # fmt: skip
    for k in range(1, kernels.LARGEST_COLUMNS + 1):
        whole, tail = kernels.padded_columns(k)
        assert k <= whole + tail <= max(16, 2 * k)


def test_what_is_not_supported():
    assert kernels.supported(get("relu"), 256, 64, "float32") is None
    for arguments, word in (
        ((get("relu"), 257, 1, "float32"), "257"),
        ((get("relu"), 5, 65, "float32"), "65"),
        ((get("relu"), 5, 1, "float64"), "float64"),
        ((get("arctan"), 5, 1, "float32"), "arctan"),
    ):
        assert word in str(kernels.supported(*arguments))
    arrays = problem()
    with pytest.raises(InputError, match="arctan"):
        evaluated(*arrays, (75, 40), "arctan")
    with pytest.raises(InputError, match="float32, tf32, bf16"):
        evaluated(*arrays, (75, 40), "relu", "float16")


# ── noise ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def philox_normals(seed, stream, step, particles, columns):
    """The contract in numpy, one particle at a time."""
    blocks = (columns + 7) // 8
    out = np.empty((len(particles), columns))
    for row, i in enumerate(particles):
        # numpy's Philox counts up before its first block
        counter = (i * blocks - 1 + (step << 64) + (stream << 128)) % 2**256
        counter = [counter >> 64 * n & (2**64 - 1) for n in range(4)]
        words = np.random.Philox(key=seed, counter=counter).random_raw(4 * blocks)
        radius = np.sqrt(-2.0 * np.log(((words >> 32) + 0.5) / 2**32))
        angle = 2.0 * np.pi * (words & 0xFFFFFFFF) / 2**32
        out[row] = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:columns]
    return out


@pytest.mark.parametrize("columns", [1, 2, 8, 9, 20, 65])
def test_noise_is_numpys_philox(columns):
    """Wherever the first coordinates, the dropped ones and a program's edge fall."""
    for seed, stream, step, first in ((0, 0, 0, 0), (2**62 + 11, 3, 2**31 + 5, 7), (5, 1, 2, 2**40)):
        out = torch.full((21, columns), torch.nan)
        kernels.normals(seed, stream, step, first, 21, columns, out)
        want = philox_normals(seed, stream, step, range(first, first + 21), columns)
        np.testing.assert_allclose(out, want, rtol=1.2e-7, atol=1e-12)


def test_noise_does_not_depend_on_how_particles_are_cut():
    whole, parts = torch.empty(50, 11), torch.empty(50, 11)
    kernels.normals(9, 1, 4, 100, 50, 11, whole)
    for first, last in ((0, 13), (13, 14), (14, 50)):
        kernels.normals(9, 1, 4, 100 + first, last - first, 11, parts[first:last])
    assert torch.equal(whole, parts)


def test_noise_is_standard_normal():
    """Moments of 20,000 numbers within five standard errors; no correlation of neighbours or of a Box–Muller pair."""
    out = torch.empty(2500, 8)
    kernels.normals(1, 0, 0, 0, 2500, 8, out)
    z = out.double().numpy()
    n = z.size
    for power, mean, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert abs((z**power).mean() - mean) < 5 * np.sqrt(variance / n)
    for j in (1, 4):
        assert abs((z[:, j] * z[:, 0]).mean()) < 5 / np.sqrt(len(z))
    assert abs((z[1:] * z[:-1]).mean()) < 5 / np.sqrt(n)


def langevin_case(outputs=3, columns=6, width=40):
    g = np.random.default_rng(3)
    shapes = [(2, width, n) for n in (outputs, columns)] * 2
    state = [torch.from_numpy(g.standard_normal(shape)).float() for shape in shapes]
    seeds = torch.tensor([4, 9])
    rates = [torch.tensor(pair, dtype=torch.float64) for pair in ((0.1, 0.2), (0.03, 0.5), (0.4, 0.0))]
    return state, seeds, rates


@pytest.mark.parametrize("outputs", [1, 3])
def test_langevin_step(outputs):
    (outer, inner, grad_outer, grad_inner), seeds, rates = langevin_case(outputs)
    before = [t.double().numpy().copy() for t in (outer, inner)]
    grads = [t.double().numpy() for t in (grad_outer, grad_inner)]
    widths = torch.tensor([40, 17], dtype=torch.int32)
    kernels.langevin(outer, inner, grad_outer, grad_inner, widths, seeds, 5, 8, 2, *rates)
    columns = outputs + inner.shape[-1]
    for i, n in enumerate((40, 17)):
        eta, tau, decay = (float(rate[i]) for rate in rates)
        noise = philox_normals(int(seeds[i]), 2, 8, range(5, 5 + n), columns)
        for part, old, grad, xi in zip(
            (outer, inner), before, grads, (noise[:, :outputs], noise[:, outputs:]), strict=True
        ):
            want = old[i].copy()
            want[:n] += -eta * (grad[i, :n] + decay * old[i, :n]) + np.sqrt(2 * tau * eta) * xi
            np.testing.assert_allclose(part[i], want, rtol=0, atol=1e-6)
            np.testing.assert_array_equal(part[i, n:], old[i, n:])


def test_langevin_in_two_parts_is_bit_identical():
    (outer, inner, *grads), seeds, rates = langevin_case()
    parts = [[t[:, part].contiguous() for t in (outer, inner, *grads)] for part in (slice(0, 15), slice(15, 40))]
    kernels.langevin(outer, inner, *grads, None, seeds, 0, 3, 0, *rates)
    for first, part in zip((0, 15), parts, strict=True):
        kernels.langevin(*part, None, seeds, first, 3, 0, *rates)
    assert torch.equal(torch.cat([part[0] for part in parts], dim=1), outer)
    assert torch.equal(torch.cat([part[1] for part in parts], dim=1), inner)


def test_without_temperature_the_step_is_deterministic():
    (outer, inner, *grads), seeds, rates = langevin_case()
    rates[1].zero_()
    want = outer - 0.1 * (grads[0] + 0.4 * outer)
    kernels.langevin(outer, inner, *grads, None, seeds, 0, 3, 0, *rates)
    torch.testing.assert_close(outer[0], want[0], rtol=0, atol=1e-6)
