"""The network value type, laws, and norms against Monte Carlo-free truths."""

from __future__ import annotations

import numpy as np
import pytest

from cases import ACTIVATIONS, planted
from sparsemf.measures import (
    Ball,
    Empirical,
    Gaussian,
    InvalidLaw,
    InvalidNetwork,
    Network,
    difference,
    l2_distance,
    l2_norm,
    sup_norm,
)


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
