"""What makes certify fast must not change what it says: every shortcut against the plain definition."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sparsemf.certificates import flat, flat_clusters, groups
from sparsemf.certificates.checker import grouped, series
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.catalogue import CORES
from sparsemf.certificates.checker.expansion import Expanded, expanded
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.equivalence import raw_of
from sparsemf.measures import Network
from sparsemf.symmetry import disguise, leaders

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
FLOAT, BALLS, NORM = Arithmetic(0), Arithmetic(128), Norm("gaussian")


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-6, 1e-3])
def test_leaders_cover_and_keep_apart(noise: float, flips: bool) -> None:
    """Everybody is within the radius of a leader, and no two leaders are within the radius of each other."""
    rng = np.random.default_rng(4)
    for copies in (1, 2, 3, 40):
        base = rng.standard_normal((120 // copies, 7))
        points = np.repeat(base, copies, axis=0)[rng.permutation(base.shape[0] * copies)]
        points = points + noise * rng.standard_normal(points.shape)
        points *= rng.choice([-1.0, 1.0], points.shape[0])[:, None] if flips else 1.0
        radius = 1e-6
        leader, sign = leaders(points, np.full(points.shape[0], radius), flips)
        assert np.all(np.linalg.norm(points - sign[:, None] * points[leader], axis=1) <= radius * (1 + 1e-6))
        chiefs = points[np.unique(leader)]
        both = [np.linalg.norm(chiefs[:, None] - s * chiefs, axis=2) for s in ((1, -1) if flips else (1,))]
        np.fill_diagonal(both[0], np.inf)
        assert min(x.min() for x in both) > radius * (1 - 1e-6)
        if noise == 0.0:
            assert chiefs.shape[0] == base.shape[0]


@pytest.mark.parametrize("flips", [False, True])
def test_copies_are_found_in_the_projection(flips: bool) -> None:
    """Beyond the exact search every copy finds its original and its side, and strangers find nobody too near."""
    rng = np.random.default_rng(8)
    first = rng.standard_normal((2100, 20))
    order, side = rng.permutation(2100), rng.choice([-1, 1], 2100) if flips else np.ones(2100, dtype=int)
    second = side[:, None] * first[order] + 1e-7 * rng.standard_normal(first.shape)
    second[:50] = rng.standard_normal((50, 20))
    index, distance, sign = groups.nearest(first, second, flips)
    np.testing.assert_array_equal(index[50:], order[50:])
    np.testing.assert_array_equal(sign[50:], side[50:])
    np.testing.assert_allclose(distance, np.linalg.norm(second - sign[:, None] * first[index], axis=1), rtol=1e-7)
    plain = np.linalg.norm(second[:50, None] - first, axis=2).min(axis=1)
    crossing = np.linalg.norm(second[:50, None] + first, axis=2).min(axis=1)
    truth = np.minimum(plain, crossing) if flips else plain
    assert np.all(distance[:50] >= truth * (1 - 1e-9))


def test_grouped_sums() -> None:
    rng = np.random.default_rng(1)
    x, label, factor = rng.standard_normal((3000, 3)), rng.integers(0, 900, 3000), rng.standard_normal(3000)
    label[:1400] = 7
    wanted = np.zeros((950, 3))
    np.add.at(wanted, label, factor[:, None] * x)
    np.testing.assert_allclose(FLOAT.grouped(x, label, 950, factor), wanted, rtol=1e-11, atol=1e-11)
    with BALLS.precision():
        found = BALLS.grouped(BALLS.array(x[:60]), label[:60] % 5, 6)
    for row, value in zip(found, FLOAT.grouped(x[:60], label[:60] % 5, 6), strict=True):
        for ball, v in zip(row, value, strict=True):
            assert float(abs(ball - float(v)).upper()) <= 1e-12


def _pair(activation: str, noise: float, flipped: bool = True) -> tuple[Expanded, Expanded, Integers, Integers]:
    """A and a (flipped) copy with noise, expanded in both arithmetics, and their grouping by neurons."""
    rng = np.random.default_rng(3)
    a = Network(rng.standard_normal((700, 2)), rng.standard_normal((700, 5)), rng.standard_normal(700), activation)
    relation = a.activation.relation
    turned = (rng.random(700) < 0.5) & flipped & (relation is not None)
    sign = relation.sign if relation is not None else 1
    turn = np.where(turned, -1.0, 1.0)[:, None]
    b = Network(
        np.where(turned, sign, 1)[:, None] * a.alpha + noise * rng.standard_normal(a.alpha.shape),
        turn * a.inner + noise * rng.standard_normal(a.inner.shape),
        turn[:, 0] * a.bias,
        activation,
        affine=rng.standard_normal((2, 5)),
    )
    both = (raw_of(a), 1.0), (raw_of(b), -1.0)
    leader = np.tile(np.arange(700, dtype=np.int64), 2)
    flip = np.concatenate([np.ones(700), np.where(turned, -1, 1)]).astype(np.int64)
    with BALLS.precision():
        exact = expanded(BALLS, *both)
    return expanded(FLOAT, *both), exact, leader, flip


def test_every_core_allows_the_one_sum() -> None:
    """The proof of :func:`grouped.remainder` asks for it."""
    for core in CORES.values():
        sign, payment = core.flip if core.flip is not None else (1, (0.0, 2 * core.centre, 0.0))
        assert payment[0] == 0.0
        assert not core.centre or (core.degree <= 1 and payment == (0.0, core.centre * (1 + sign), 0.0))


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh", "erf", "softplus", "mish", "elu", "arctan"])
@pytest.mark.parametrize("noise", [1e-3, 1e-8])
def test_one_sum_for_the_remainder(activation: str, noise: float) -> None:
    """μΣ α z in place of the groups' parts: within its error of R as the module defines it, computed in balls."""
    h, exact, leader, flip = _pair(activation, noise)
    groups_of = grouped.measured(FLOAT, NORM, h, leader, flip)
    slope, constant, error = grouped.remainder(FLOAT, h, groups_of, leader)
    assert "moments" in h.__dict__, "the sum was not used"
    with BALLS.precision():
        balls = grouped.measured(BALLS, NORM, exact, leader, flip)
        true_slope, true_constant, _ = grouped.remainder(BALLS, exact, balls, leader)
        gap = [float(abs(x - y).upper()) for x, y in zip(BALLS.array(slope).ravel(), true_slope.ravel(), strict=True)]
        gap += [float(abs(x - y).upper()) for x, y in zip(BALLS.array(constant), true_constant, strict=True)]
    assert np.linalg.norm(gap) <= error <= 1e-9


def test_exact_copies_keep_their_tiny_bound() -> None:
    """Without differences the parts cancel one by one, which the one sum could not."""
    h, _, leader, flip = _pair("relu", 0.0, flipped=False)
    groups_of = grouped.measured(FLOAT, NORM, h, leader, flip)
    slope, constant, error = grouped.remainder(FLOAT, h, groups_of, leader)
    assert "moments" not in h.__dict__
    np.testing.assert_array_equal(slope, h.affine)
    np.testing.assert_array_equal(constant, h.offset)
    assert error <= 1e-14


def test_unneeded_spectral_bounds_are_those_that_are_larger() -> None:
    h, *_ = _pair("gelu", 1e-2)
    f = series.spectrum(FLOAT, NORM, h, 4)
    whole = series.spectral_upper(FLOAT, NORM, f)
    skipped = 0
    for enough in whole * np.geomspace(1e-6, 10, 40):
        found = series.spectral_upper(FLOAT, NORM, f, float(enough))
        assert found == whole or (found == np.inf and whole > enough)
        skipped += found == np.inf
    assert 0 < skipped < 40


@pytest.mark.parametrize("first", [2, 3])
def test_the_gram_form_from_one_half(first: int) -> None:
    rng = np.random.default_rng(2)
    n, degree = 700, 9
    alpha, c, unit = rng.standard_normal((n, 3)), rng.standard_normal((n, degree + 1)), rng.standard_normal((n, 4))
    unit /= np.linalg.norm(unit, axis=1)[:, None]
    label = np.sort(rng.integers(0, 90, n))
    label[200:600] = label[200]
    label = np.unique(label, return_inverse=True)[1].ravel()
    cos = unit @ unit.T
    block = (alpha @ alpha.T) * sum(np.outer(c[:, k], c[:, k]) * cos**k for k in range(first, degree + 1))
    form, own = series._form(FLOAT, alpha, c, unit, label, int(label.max()) + 1, first)
    scale = 1e-13 * float(np.abs(block).sum())
    assert float(form) == pytest.approx(float(block.sum()), abs=scale)
    wanted = [block[np.ix_(label == g, label == g)].sum() for g in range(int(label.max()) + 1)]
    np.testing.assert_allclose(np.asarray(own, dtype=float), wanted, atol=scale)


def _problem(parity: int, outputs: int, pairs: int = 400, heavy: int = 2) -> flat.Problem:
    """Pairs of points with nearly opposite masses, and a few points with mass of their own."""
    rng = np.random.default_rng(6)
    points = rng.standard_normal((pairs, 30))
    mass = rng.standard_normal((pairs, outputs))
    near = points + 1e-6 * rng.standard_normal(points.shape)
    rest = -mass + 1e-6 * rng.standard_normal(mass.shape)
    other = rng.standard_normal((heavy, 30))
    return flat.Problem(
        np.concatenate([points, near, other]),
        np.concatenate([mass, rest, rng.standard_normal((heavy, outputs))]),
        parity,
    )


@pytest.mark.parametrize("parity", [-1, 0, 1])
@pytest.mark.parametrize("outputs", [1, 3])
def test_greedy_flows_and_what_they_leave(parity: int, outputs: int) -> None:
    problem = _problem(parity, outputs)
    plan = flat.greedy(problem, (1, 1, 4), dust=1e-3)
    left = problem.mass.copy()
    np.subtract.at(left, plan.edges.first, plan.flow)
    np.add.at(left, plan.edges.second, plan.edges.turn[:, None] * plan.flow)
    np.testing.assert_allclose(problem.residual(plan), left, atol=1e-14)
    # every pair was cancelled: what is left is dust, and the masses of the few
    assert np.linalg.norm(left[:800], axis=1).max() <= 1e-5
    assert problem.price(plan) <= 1.1 * float(np.linalg.norm(problem.mass[800:], axis=1).sum()) + 0.1


@pytest.mark.parametrize("parity", [-1, 0, 1])
@pytest.mark.parametrize("heavy", [0, 2, 300])
def test_potentials_of_clusters_are_feasible(parity: int, heavy: int) -> None:
    """All pairs, both sides, one by one; with a few rooted clusters, many, or none but dust."""
    problem = _problem(parity, 3, heavy=heavy)
    found = flat_clusters.bounded(problem, flat.greedy(problem, (1, 1, 4), dust=1e-3))
    assert found is not None
    potential, worth = found
    assert worth > 0
    assert np.all(np.linalg.norm(potential, axis=1) <= problem.cost * (1 + 1e-12))
    v, phi = problem.points, potential
    sides = [(1.0, 1.0)] + ([(-1.0, float(parity))] if parity else [])
    for side, turn in sides:
        for start in range(0, problem.size, 100):
            rows = slice(start, start + 100)
            length = np.linalg.norm(v[rows, None] - side * v, axis=2)
            gap = np.linalg.norm(phi[rows, None] - turn * phi, axis=2)
            assert np.all(gap <= length * (1 + 1e-9) + 1e-12)


def test_matching_and_distance_from_one_expansion() -> None:
    """The dictionary that certify has already is the one that the two functions make themselves."""
    from sparsemf.certificates.dictionary import dictionary
    from sparsemf.certificates.matching import match
    from sparsemf.certificates.orbit import orbit_distance

    rng = np.random.default_rng(5)
    for activation in ("relu", "gelu", "sigmoid", "hardtanh", "selu", "sin", "cubic"):
        a = Network(rng.standard_normal((9, 2)), rng.standard_normal((9, 3)), rng.standard_normal(9), activation)
        b = disguise(a, rng, 14)
        h = expanded(FLOAT, (raw_of(a), 1.0), (raw_of(b), -1.0))
        parts = dictionary(a, b, h)
        assert match(a, b, parts=parts) == match(a, b)
        one, other = orbit_distance(a, b, dictionary(a, b, h)), orbit_distance(a, b)
        # two matrix products may round otherwise
        assert one.value == pytest.approx(other.value, rel=1e-12, abs=1e-12)
        assert one.lower == pytest.approx(other.lower, rel=1e-12, abs=1e-12)
