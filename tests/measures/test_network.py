"""The network value type, laws, and norms against Monte Carlo-free truths."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from cases import ACTIVATIONS, planted
from sparsemf.exceptions import InputError
from sparsemf.measures import (
    Ball,
    Empirical,
    Gaussian,
    InvalidLaw,
    InvalidNetwork,
    Network,
    difference,
    gaussian,
    l2_distance,
    l2_norm,
    sup_norm,
)
from sparsemf.measures.functions import evaluation_error


def test_network_is_validated_and_immutable() -> None:
    net = Network([[1.0]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="read-only"):
        net.inner[0, 0] = 3.0
    with pytest.raises(AttributeError):
        net.scale = 2.0  # type: ignore[misc]
    for outer, inner, match in (
        ([[1.0]], [[1.0], [2.0]], "expected shape"),
        ([1.0], [[1.0]], "expected shape"),
        ([[np.nan]], [[1.0]], "NaN"),
        ([[np.inf]], [[1.0]], "infinite"),
        ([["x"]], [[1.0]], "real numbers"),
    ):
        with pytest.raises(InvalidNetwork, match=match):
            Network(outer, inner)  # type: ignore[arg-type]


def test_half_precision_is_taken_exactly() -> None:
    half = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float16)
    assert np.array_equal(Network(half[:, :1], half).inner, half.astype(np.float64))


@pytest.mark.parametrize("block", [1, 7, 1 << 22])
def test_evaluation_in_blocks(block: int) -> None:
    rng = np.random.default_rng(1)
    net = planted(rng, "tanh", d=4, atoms=9, outputs=3, bias=True, affine=True)
    x = rng.standard_normal((31, 4))
    direct = np.tanh(x @ net.inner.T + net.bias) @ net.alpha + x @ net.affine.T + net.offset
    np.testing.assert_allclose(net(x, block=block), direct, atol=1e-13)
    with pytest.raises(ValueError, match="expected inputs"):
        net(np.zeros((2, 5)))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gaussian_norm_against_product_quadrature(name: str) -> None:
    """d = 2: ‖f − g‖ under N(m, Σ) by a 2-D rule on rotated coordinates, kinks and all."""
    rng = np.random.default_rng(2)
    f = planted(rng, name, d=2, atoms=3, outputs=2, bias=True, length=0.8, affine=True)
    g = planted(rng, name, d=2, atoms=2, outputs=2, bias=True, length=0.8)
    root = np.array([[0.9, 0.0], [0.4, 0.7]])
    law = Gaussian.of([0.3, -0.2], root @ root.T)
    grid = np.linspace(-8.5, 8.5, 1701)
    weight = np.exp(-0.5 * grid**2)
    weight /= weight.sum()
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    values = difference(f, g)(law.mean + points @ root.T)
    truth = float(np.sqrt(np.sum(np.outer(weight, weight).ravel() * np.sum(values**2, axis=1))))
    found = l2_distance(f, g, law)
    assert found.lower <= found.upper
    assert found.lower == pytest.approx(truth, rel=2e-5 if f.activation.strip == 0 else 1e-6)
    assert found.upper == pytest.approx(truth, rel=2e-5 if f.activation.strip == 0 else 1e-6)


def test_singular_covariance_makes_directions_invisible() -> None:
    f = Network([[1.0]], [[1.0, 0.5]], activation="relu")
    g = Network([[1.0]], [[1.0, -3.0]], activation="relu")
    law = Gaussian.of([0.0, 0.0], [[1.0, 0.0], [0.0, 0.0]])
    assert l2_distance(f, g, law).upper < 1e-6
    assert l2_distance(f, g, Gaussian.standard(2)).lower > 0.5


def test_empirical_norm_is_the_root_mean_square() -> None:
    rng = np.random.default_rng(4)
    f = planted(rng, "gelu", outputs=3, bias=True)
    x = rng.standard_normal((50, 8))
    truth = float(np.sqrt(np.mean(np.sum(f(x) ** 2, axis=1))))
    found = l2_norm(f, Empirical.of(x))
    assert found.lower <= truth <= found.upper
    assert found.upper - found.lower < 1e-11


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_sup_norm_brackets_a_dense_search(name: str) -> None:
    rng = np.random.default_rng(5)
    f = planted(rng, name, d=3, atoms=4, bias=True, affine=True)
    x = rng.standard_normal((20000, 3))
    x *= 2.0 * rng.random((20000, 1)) ** (1 / 3) / np.linalg.norm(x, axis=1)[:, None]
    found = sup_norm(f, Ball(2.0))
    assert np.max(np.abs(f(x))) <= found.upper
    assert found.lower <= found.upper
    assert found.lower >= 0.9 * np.max(np.abs(f(x)))


def test_laws_are_validated() -> None:
    for covariance, match in (([[1.0, 2.0], [0.0, 1.0]], "symmetric"), ([[1.0, 0.0], [0.0, -1.0]], "negative")):
        with pytest.raises(InvalidLaw, match=match):
            Gaussian.of([0.0, 0.0], covariance)
    with pytest.raises(InvalidLaw, match="positive"):
        Ball(0.0)
    with pytest.raises(InvalidLaw, match="data matrix"):
        Empirical.of(np.zeros((0, 3)))
    with pytest.raises(InvalidNetwork, match="activation"):
        difference(Network([[1.0]], [[1.0]], activation="relu"), Network([[1.0]], [[1.0]], activation="tanh"))


def test_whitening_is_the_same_function() -> None:
    rng = np.random.default_rng(6)
    f = planted(rng, "silu", d=4, outputs=2, bias=True, affine=True)
    a = rng.standard_normal((4, 4))
    law = Gaussian.of(rng.standard_normal(4), a @ a.T)
    g = rng.standard_normal((20, 4))
    np.testing.assert_allclose(law.whiten(f)(g), f(law.mean + g @ law.root.T), atol=1e-12)
    inner, bias = law.unwhiten(law.whiten(f).inner, law.whiten(f).bias)
    np.testing.assert_allclose(inner, f.inner, atol=1e-10)
    np.testing.assert_allclose(bias, f.bias, atol=1e-10)


def general(rng: np.random.Generator, name: str, d: int = 3, gated: bool = False) -> Network:
    """A network with every part: atoms with biases, two outputs, affine, offset, quadratic and, if asked, gates."""
    f = planted(rng, name, d=d, atoms=4, outputs=2, bias=True, length=0.7, affine=True)
    return f.with_(
        quadratic=0.3 * rng.standard_normal((2, d, d)),
        gate=rng.normal(0, 0.6, (4, d)) if gated else None,
        gate_bias=rng.normal(0, 0.5, 4) if gated else None,
    )


def gaussian_rule(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Hermite product rule on R³."""
    g, w = np.polynomial.hermite_e.hermegauss(points)
    x = np.stack(np.meshgrid(g, g, g, indexing="ij"), axis=-1).reshape(-1, 3)
    return x, np.einsum("i,j,k->ijk", w, w, w).ravel() / (2 * np.pi) ** 1.5


LAW = Gaussian.of([0.3, -0.2, 0.5], [[0.6, 0.2, 0.0], [0.2, 0.5, -0.1], [0.0, -0.1, 0.4]])


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("name", ["silu", "relu2", "cubic"])
def test_whitening_and_difference_carry_gates_and_quadratic_parts(name: str, gated: bool) -> None:
    rng = np.random.default_rng(7)
    f, g = general(rng, name, gated=gated), general(rng, name, gated=gated)
    x = rng.standard_normal((30, LAW.root.shape[1]))
    inputs = LAW.mean + x @ LAW.root.T
    np.testing.assert_allclose(LAW.whiten(f)(x), f(inputs), atol=1e-13)
    np.testing.assert_allclose(difference(f, g)(inputs), f(inputs) - g(inputs), atol=1e-13)
    plain = g.with_(quadratic=None)
    np.testing.assert_allclose(difference(plain, f)(inputs), plain(inputs) - f(inputs), atol=1e-13)


@pytest.mark.parametrize("name", ["silu", "quadratic", "cubic", "hermite(4)", "exp", "sin"])
def test_gaussian_norm_with_a_quadratic_part(name: str) -> None:
    rng = np.random.default_rng(8)
    f = general(rng, name)
    x, weight = gaussian_rule(40)
    truth = float(np.sqrt(weight @ np.sum(f(LAW.mean + x @ LAW.root.T) ** 2, axis=1)))
    found = l2_norm(f, LAW)
    assert found.lower <= truth * (1 + 1e-9)
    assert found.upper >= truth * (1 - 1e-9)
    assert found.upper - found.lower <= 1e-9 * truth


def test_a_quadratic_network_is_its_quadratic_form() -> None:
    """Σ α_i (⟨w_i, x⟩ + b_i)² written as xᵀQx + Ax + c: the distance vanishes to rounding (the square root of it)."""
    rng = np.random.default_rng(9)
    f = planted(rng, "quadratic", d=4, atoms=6, outputs=2, bias=True)
    g = Network(
        np.zeros((1, 2)),
        np.ones((1, 4)),
        activation="quadratic",
        quadratic=np.einsum("no,nd,ne->ode", f.alpha, f.inner, f.inner),
        affine=2 * np.einsum("no,n,nd->od", f.alpha, f.bias, f.inner),
        offset=f.alpha.T @ f.bias**2,
    )
    found = l2_distance(f, g, Gaussian.standard(4))
    assert found.lower == 0.0
    # the root of some 600 units of rounding of Σ‖α_i‖‖φ_i‖, ‖(⟨w, x⟩ + b)²‖ ≤ √3(‖w‖ + |b|)², of atoms and of the form
    sizes = np.sqrt(3) * (np.linalg.norm(f.inner, axis=1) + np.abs(f.bias)) ** 2
    assert found.upper < 3e-7 * 2 * float(np.linalg.norm(f.alpha, axis=1) @ sizes)
    assert l2_distance(f, g.with_(quadratic=g.quadratic * 1.001), Gaussian.standard(4)).lower > 1e-3


def test_gated_networks_under_a_gaussian_law_are_refused() -> None:
    f = general(np.random.default_rng(10), "silu", gated=True)
    for law in (LAW, Gaussian.standard(3)):
        with pytest.raises(InputError, match="gated"):
            l2_norm(f, law)
        with pytest.raises(InputError, match="gated"):
            law.whitening_error(f)
    with pytest.raises(InvalidNetwork, match="gated"):
        difference(f, f.with_(gate=None, gate_bias=None))


@pytest.mark.parametrize("name", [*ACTIVATIONS, "gated silu", "gated relu2", "gated exp"])
def test_norms_on_data_and_balls_with_every_part(name: str) -> None:
    rng = np.random.default_rng(11)
    f = general(rng, name.removeprefix("gated "), gated=name.startswith("gated"))
    x = rng.standard_normal((4000, 3))
    x *= 1.5 * (1 - 1e-12) / np.linalg.norm(x, axis=1, keepdims=True) * rng.random((4000, 1)) ** (1 / 3)
    values = np.linalg.norm(f(x), axis=1)
    data = l2_norm(f, Empirical.of(x))
    assert data.lower <= float(np.sqrt(np.mean(values**2))) <= data.upper
    assert data.upper - data.lower < 1e-11 * data.upper
    ball = sup_norm(f, Ball(1.5))
    assert 0.9 * values.max() <= ball.lower <= ball.upper
    assert values.max() <= ball.upper


@pytest.mark.parametrize("name", [*ACTIVATIONS, "gated silu", "gated cubic", "gated exp"])
def test_evaluation_error_covers_the_rounding(name: str) -> None:
    """Float64 against the same network in extended precision, with cancelling neurons and inputs far out."""
    rng = np.random.default_rng(12)
    f = general(rng, name.removeprefix("gated "), gated=name.startswith("gated"))
    f = f.with_(inner=4 * f.inner, bias=f.bias - 3.0)
    x = rng.normal(0, 2, (200, 3))
    gap = np.abs(f(x) - reference(f, x))
    assert (np.linalg.norm(gap, axis=1) <= evaluation_error(f, x)).all()


def reference(f: Network, x: np.ndarray) -> np.ndarray:
    """f(x) by rational pre-activations: z is rounded once, and its rounding enters to first order."""
    z, low = exact_forms(f.inner, f.bias, x)
    if f.gate is not None and f.gate_bias is not None:
        t, rest = exact_forms(f.gate, f.gate_bias, x)
        value = f.activation.value(t) * z + f.activation.derivative(t) * rest * z + f.activation.value(t) * low
    else:
        value = f.activation.value(z) + f.activation.derivative(z) * low
    total = np.longdouble(value) @ np.longdouble(f.alpha) + np.longdouble(x) @ np.longdouble(f.affine.T) + f.offset
    total += np.einsum("ni,oij,nj->no", np.longdouble(x), np.longdouble(f.quadratic), np.longdouble(x))
    return np.asarray(total, dtype=np.float64)


def exact_forms(inner: np.ndarray, bias: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """⟨w_i, x_n⟩ + b_i as the sum of a float64 and what its rounding leaves."""
    exact = np.array(
        [
            [
                sum((Fraction(a) * Fraction(b) for a, b in zip(w, row, strict=True)), Fraction(c))
                for w, c in zip(inner, bias, strict=True)
            ]
            for row in x
        ]
    )
    z = exact.astype(np.float64)
    return z, np.array(
        [[float(e - Fraction(v)) for e, v in zip(*pair, strict=True)] for pair in zip(exact, z, strict=True)]
    )


@pytest.mark.parametrize("name", ["silu", "relu2", "quadratic", "hermite(4)", "exp"])
def test_whitening_error_is_finite_and_covers_the_rounding(name: str) -> None:
    """Under N(m, Σ) with m large the bias absorbs digits; extended precision shows what was lost."""
    rng = np.random.default_rng(13)
    law = Gaussian(np.array([2.0, -3.0, 1.0]), np.tril(0.3 * rng.standard_normal((3, 3))))
    f = general(rng, name)
    f = f.with_(inner=0.3 * f.inner)
    white, x = law.whiten(f), rng.standard_normal((2000, 3))
    exact = [np.longdouble(part) for part in (law.mean, law.root, x)]
    inputs = exact[0] + exact[2] @ exact[1].T
    z = inputs @ np.longdouble(f.inner.T) + np.longdouble(f.bias)
    rounded = exact[2] @ np.longdouble(white.inner.T) + np.longdouble(white.bias)
    slope = f.activation.derivative(np.asarray(z, dtype=np.float64))
    gap = (slope * (rounded - z)) @ np.longdouble(f.alpha)
    gap += exact[2] @ np.longdouble(white.affine.T) + white.offset
    gap += np.einsum("ni,oij,nj->no", exact[2], np.longdouble(white.quadratic), exact[2])
    gap -= inputs @ np.longdouble(f.affine.T) + f.offset
    gap -= np.einsum("ni,oij,nj->no", inputs, np.longdouble(f.quadratic), inputs)
    lost = float(np.sqrt(np.mean(np.sum(gap**2, axis=1))))
    assert 0 < lost <= law.whitening_error(f) < 1e-9


def test_values_beyond_the_range_of_numbers_are_refused() -> None:
    f = Network([[1.0]], [[500.0, 0.0]], activation="exp")
    x = np.array([[2.0, 0.0]])
    for attempt in (
        lambda: l2_norm(f, Empirical.of(x)),
        lambda: sup_norm(f, Ball(3.0)),
        lambda: l2_norm(f, Gaussian.standard(2)),
    ):
        with pytest.raises(InputError, match="exp: expected"):
            attempt()


@pytest.mark.parametrize("name", ["elu", "selu", "softsign", "celu(2.5)"])
def test_near_copies_of_kinked_atoms_without_closed_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of the kernel is charged: two atoms 1e-3 apart, against a product rule on R² (2e-5 at kinks)."""
    f = Network([[1.0]], [[0.9, 0.4]], [0.2], activation=name)
    g = f.with_(inner=[[0.9, 0.4 + 1e-3]])
    grid = np.linspace(-8.5, 8.5, 1701)
    weight = np.exp(-0.5 * grid**2)
    weight /= weight.sum()
    x = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
    truth = float(np.sqrt(np.outer(weight, weight).ravel() @ (f(x) - g(x))[:, 0] ** 2))
    found = l2_distance(f, g, Gaussian.standard(2))
    assert found.lower * (1 - 2e-5) <= truth <= found.upper * (1 + 2e-5)
    assert found.upper - found.lower < 1e-4 * truth
    assert l2_distance(f, f, Gaussian.standard(2)).lower == 0.0
    assert l2_distance(f, f, Gaussian.standard(2)).upper < 1e-5
    monkeypatch.setattr(gaussian, "_KERNEL_WIDTH", 0)  # as for wide networks: the series, its tail charged
    wide = l2_distance(f, g, Gaussian.standard(2))
    assert wide.lower * (1 - 2e-5) <= truth <= wide.upper
