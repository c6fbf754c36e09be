"""The upper curve is nowhere above pruning, clustering or matching pursuit, each refitted in the same kernel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering, KMeans

from cases import planted
from sparsemf.exceptions import InputError
from sparsemf.measures import Atoms, Gaussian, Network, l2_distance
from sparsemf.recovery import Effort, Problem, UpperCurve, refit, upper_curve
from sparsemf.symmetry import Section, quotient

Array = np.ndarray


def peers(problem: Problem, size: int) -> dict[str, float]:
    """Certified errors of the four peers at S = size."""
    section = Section.of(problem.network)
    points = section.points
    if section.flips:
        axis = np.linalg.svd(points, full_matrices=False)[2][0]
        points = points * np.where(points @ axis < 0, -1.0, 1.0)[:, None]
    weight = np.linalg.norm(section.kappa, axis=1) + 1e-12

    def error(atoms: Atoms) -> float:
        return refit(problem, atoms).error

    def at(centres: Array) -> float:
        return error(Atoms(problem.network.activation, centres[:, :-1], centres[:, -1]))

    label = AgglomerativeClustering(size).fit_predict(points)
    means = np.array([np.average(points[label == k], axis=0, weights=weight[label == k]) for k in range(size)])
    kmeans = KMeans(size, n_init=2, random_state=0).fit(points, sample_weight=weight)
    gram, chosen, correlation = problem.geometry.gram(problem.atoms, problem.atoms), [], problem.image
    for _ in range(size):
        score = np.linalg.norm(correlation, axis=1) / np.sqrt(np.maximum(np.diag(gram), 1e-300))
        score[chosen] = -1.0
        chosen.append(int(np.argmax(score)))
        beta = np.linalg.lstsq(gram[np.ix_(chosen, chosen)], problem.image[chosen], rcond=1e-13)[0]
        correlation = problem.image - gram[:, chosen] @ beta
    heavy = np.argsort(-problem.weight * problem.geometry.length(problem.atoms))[:size]
    return {
        "magnitude": error(problem.atoms.take(heavy)),
        "agglomerative": at(means),
        "k-means": at(kmeans.cluster_centers_),
        "pursuit": error(problem.atoms.take(np.array(chosen))),
    }


def assert_nowhere_above(curve: UpperCurve, sizes: list[int]) -> None:
    assert (np.diff(curve.upper) <= 0).all()
    for size in sizes:
        for name, value in peers(curve.problem, size).items():
            assert curve.upper[size] <= value * (1 + 1e-9) + 1e-6 * curve.norm, (name, size)


@pytest.mark.parametrize(("activation", "outputs"), [("relu", 1), ("relu", 3), ("tanh", 1), ("gelu", 3), ("abs", 1)])
def test_random_networks(activation: str, outputs: int) -> None:
    rng = np.random.default_rng(20)
    outer = rng.standard_normal((40, outputs))
    net = Network(outer, rng.standard_normal((40, 5)), 0.5 * rng.standard_normal(40), activation)
    curve = upper_curve(quotient(net).network)
    assert_nowhere_above(curve, [1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 35, 38, 39])


@pytest.mark.parametrize(("activation", "bias"), [("relu", True), ("tanh", False), ("gelu", True)])
def test_clouds(activation: str, bias: bool) -> None:
    rng = np.random.default_rng(21)
    truth = planted(rng, activation, d=6, atoms=9, bias=bias)
    label = rng.integers(0, 9, 120)
    inner = truth.inner[label] + 0.05 * rng.standard_normal((120, 6))
    shift = truth.bias[label] + (0.05 * rng.standard_normal(120) if bias else 0.0)
    net = Network(truth.outer[label] * rng.uniform(0.2, 1.5, (120, 1)) / 13, inner, shift, activation)
    curve = upper_curve(quotient(net).network, effort=Effort(fine=0.0))
    assert_nowhere_above(curve, [1, 2, 4, 6, 8, 9, 10, 13, 18, 25, 35, 50, 70, 90, 100, 105, 110, 115, 119])
    for size in (2, 9, 25, 90):
        found = curve.network(size)
        assert found.width <= size
        direct = l2_distance(quotient(net).network, found, Gaussian.standard(6))
        assert direct.lower <= curve.upper[size] * (1 + 1e-9)
        assert direct.upper >= curve.upper[size] * 0.9  # no slack in the claim


def test_the_dust_around_few_atoms() -> None:
    """Particles so close to their atoms that U(9) is below Effort.fine: described nevertheless, unless one is in a
    hurry."""
    rng = np.random.default_rng(23)
    truth = planted(rng, "tanh", d=4, atoms=4, bias=False)
    label = rng.integers(0, 4, 48)
    inner = truth.inner[label] + 0.004 * rng.standard_normal((48, 4))
    net = Network(truth.outer[label] * rng.uniform(0.2, 1.5, (48, 1)) / 12, inner, None, "tanh")
    canonical, less = quotient(net).network, {"few": 4, "drops": 0, "joint": 6}
    quick, usual, thorough = (
        upper_curve(canonical, effort=replace(Effort.named(name), **less)) for name in ("quick", "usual", "thorough")
    )
    assert usual.upper[4] < 0.01 * usual.norm
    for curve in (usual, thorough):
        assert_nowhere_above(curve, [4, 5, 6, 8, 10, 13, 18, 25, 35, 43])
    assert np.mean(thorough.upper <= usual.upper * (1 + 1e-6)) > 0.9
    assert np.mean(usual.upper < quick.upper * (1 - 1e-6)) > 0.5
    with pytest.raises(InputError, match="effort"):
        Effort.named("heroic")


def test_more_effort_is_never_worse_where_it_works() -> None:
    rng = np.random.default_rng(22)
    net = Network(rng.standard_normal((36, 2)), rng.standard_normal((36, 6)), None, "gelu")
    canonical = quotient(net).network
    plain = upper_curve(canonical, effort=Effort(few=1, drops=0, joint=0, dust=0))
    clean, usual = upper_curve(canonical, effort=Effort(dust=0)), upper_curve(canonical)
    assert (clean.upper[2:] <= plain.upper[2:] * (1 + 1e-9)).all()
    assert (usual.upper <= clean.upper).all()
    assert usual.upper[18] < 0.97 * plain.upper[18]
    settled = usual.without_dust()
    np.testing.assert_array_equal(settled.upper, clean.upper)
