"""Confidence bounds from samples: features, flattenings, and how often they hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparsemf.exceptions import InputError
from sparsemf.identifiability import Flattening, sampled_lower_curve, spectrum
from sparsemf.identifiability.sampled import flattened, hermite_features, indices
from sparsemf.measures import Atoms, Gaussian, Network, l2_distance


def coefficients(net: Network, degrees: range) -> np.ndarray:
    """t_β of a network: c_k √(k!/β!) û^β."""
    atoms, rows = Atoms.of(net), []
    for k in degrees:
        c = atoms.hermite(k)[:, k]
        for index in indices(net.d, k):
            counts = np.bincount(index, minlength=net.d)
            orderings = math.factorial(k) / math.prod(math.factorial(int(v)) for v in counts)
            rows.append((c * np.sqrt(orderings) * np.prod(atoms.unit**counts, axis=1)) @ net.alpha)
    return np.array(rows)


def target(m: int = 1) -> Network:
    rng = np.random.default_rng(0)
    return Network(rng.choice([-1.0, 1.0], (4, m)), 1.5 * rng.standard_normal((4, 3)), rng.standard_normal(4), "tanh")


def test_features_are_orthonormal() -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    mass = np.outer(weights, weights).ravel() / (2 * np.pi)
    phi = hermite_features(grid, range(5))
    np.testing.assert_allclose(phi.T @ (mass[:, None] * phi), np.eye(phi.shape[1]), atol=1e-12)


@pytest.mark.parametrize("p", [1, 2])
def test_flattenings_agree_with_the_kernel_form(p: int) -> None:
    net = target(2)
    own = range(2, 5)
    values = np.linalg.svd(flattened(coefficients(net, own), 3, own, p), compute_uv=False)
    truth = np.sqrt(spectrum(net, Flattening(p, 2, 4)).energy)
    size = min(truth.size, values.size)  # one of the two may list more zeros
    np.testing.assert_allclose(values[:size], truth[:size], atol=1e-7)
    assert max(np.max(values[size:], initial=0.0), np.max(truth[size:], initial=0.0)) < 1e-7


def test_bounds_hold_as_often_as_they_say() -> None:
    """500 samples of 2,000 points with noise: the exact tails are violated at most as often as δ allows."""
    net = target()
    own = range(2, 4)
    exact = {p: np.linalg.svd(flattened(coefficients(net, own), 3, own, p), compute_uv=False) for p in (1, 2)}
    tails = [max(float(np.sqrt(np.sum(exact[p][s:] ** 2))) for p in (1, 2)) for s in range(4)]
    missed, delta = 0, 0.2
    for seed in range(500):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((2000, 3))
        y = net(x)[:, 0] + rng.choice([-0.5, 0.5], 2000)
        found = sampled_lower_curve(x, y, 4.5, degree=3, confidence=1 - delta)
        missed += any(found.lower[s] > tails[s] for s in range(4))
    assert missed <= 500 * delta


def test_enough_samples_exclude_small_networks() -> None:
    net = target()
    rng = np.random.default_rng(1)
    x = rng.standard_normal((400_000, 3))
    found = sampled_lower_curve(x, net(x), 4.0, degree=3)
    assert found.kind == "confidence bound"
    assert found.lower[0] > 0.1
    for i in range(4):
        alone = net.with_(outer=net.outer * (np.arange(4) == i)[:, None])
        assert found.lower[1] <= l2_distance(net, alone, Gaussian.standard(3)).lower
    strict = sampled_lower_curve(x, net(x), 4.0, degree=2, confidence=1 - 1e-9)
    assert "median" in strict.method
    assert strict.lower[0] < found.lower[0]
    assert strict.error == pytest.approx(6 * 4.0 * math.sqrt(6 / (400_000 // 166)))


@pytest.mark.parametrize(
    ("x", "y", "options"),
    [
        (np.zeros((3, 2)), np.zeros(4), {}),
        (np.zeros((3, 2)), np.full(3, 2.0), {}),
        (np.full((3, 2), np.nan), np.zeros(3), {}),
        (np.zeros((3, 2)), np.zeros(3), {"confidence": 1.0}),
        (np.zeros((3, 64)), np.zeros(3), {"degree": 8}),
        (np.zeros((3, 2)), np.zeros(3), {"degree": 2, "orders": (3,)}),
        (np.zeros((3, 2)), np.zeros(3), {"orders": ()}),
    ],
)
def test_samples_that_do_not_fit(x: np.ndarray, y: np.ndarray, options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        sampled_lower_curve(x, y, 1.0, **options)  # pyright: ignore[reportArgumentType]
