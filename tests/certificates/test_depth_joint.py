"""Joint degrees: what the checker calls unique, against searches for a second decomposition and built ones."""

from __future__ import annotations

import copy
import json
import math
from functools import cache
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest
from flint import arb
from numpy.typing import NDArray
from scipy import optimize, special

from depth_cases import atoms
from sparsemf.activations import get
from sparsemf.certificates.checker.depth_joint import Points, apart, independent
from sparsemf.certificates.checker.depth_lines import levels, lines
from sparsemf.certificates.checker.depth_moments import precision
from sparsemf.certificates.checker.depth_rank import Atoms
from sparsemf.certificates.checker.depth_shape import Shape
from sparsemf.certificates.checker.depth_theorems import second_shift, theorem
from sparsemf.certificates.checker.document import seal
from sparsemf.identifiability.depths import Family, other_solutions
from sparsemf.identifiability.depths.search import moment_vector
from sparsemf.measures import Network
from sparsemf.pipeline.depth import FREE, depth
from sparsemf.pipeline.verify import verify

Array = NDArray[np.float64]
Parts = tuple[Array, Array, Array]
"""Points (S, n), coefficients (S, m), numbers (S, |K|)."""


def balls(values: Array) -> list[list[arb]]:
    return [[arb(x) for x in row] for row in values.tolist()]


def points(parts: Parts, degrees: list[int], unit: bool = False) -> Points:
    v, u, g = parts
    return Points(balls(v), balls(u), dict(zip(degrees, balls(g.T), strict=True)), unit)


def draw(rng: np.random.Generator, n: int, d: int, m: int, degrees: list[int]) -> Parts:
    v = rng.standard_normal((n, d))
    return v, rng.standard_normal((n, m)), rng.uniform(0.5, 1.5, (n, len(degrees))) * rng.choice([-1, 1], (n, 1))


@cache
def places(d: int, k: int) -> NDArray[np.int64]:
    """The monomials of degree k in d variables, as lists of k places."""
    return np.array(list(combinations_with_replacement(range(d), k)), dtype=np.int64).reshape(-1, k)


def powers(v: Array, k: int) -> tuple[Array, Array]:
    """All monomials of degree k at the rows of v (n, D), and their slopes (n, D, d)."""
    at = places(v.shape[1], k)
    factors = v[:, at]
    slope = np.zeros((*factors.shape[:2], v.shape[1]))
    for j in range(k):
        slope[:, np.arange(len(at)), at[:, j]] += np.prod(np.delete(factors, j, axis=2), axis=2)
    return np.prod(factors, axis=2), slope


def tensors(parts: Parts, degrees: list[int]) -> Array:
    """Σ u_i ⊗ g_{k,i} v_i^{⊗k} for all k, one vector."""
    v, u, g = parts
    return np.concatenate([((u * g[:, j : j + 1]).T @ powers(v, k)[0]).ravel() for j, k in enumerate(degrees)])


def slopes(parts: Parts, degrees: list[int]) -> Array:
    """The Jacobian of :func:`tensors` in (v, u, g)."""
    (v, u, g), rows = parts, []
    n, m = u.shape
    for j, k in enumerate(degrees):
        f, steep = powers(v, k)
        by_v = np.einsum("im,iDd->mDid", u * g[:, j : j + 1], steep).reshape(m * f.shape[1], -1)
        by_u = np.einsum("i,iD,mp->mDip", g[:, j], f, np.eye(m)).reshape(m * f.shape[1], -1)
        by_g = np.zeros((m * f.shape[1], n, len(degrees)))
        by_g[:, :, j] = np.einsum("im,iD->mDi", u, f).reshape(-1, n)
        rows.append(np.concatenate([by_v, by_u, by_g.reshape(len(by_g), -1)], axis=1))
    return np.concatenate(rows)


def unit_lines(v: Array) -> Array:
    """One matrix per point that its line determines."""
    unit = v / np.linalg.norm(v, axis=1, keepdims=True)
    return unit[:, :, None] * unit[:, None, :]


def far(v: Array, other: Array) -> float:
    """The largest distance of a line of ``other`` to those of ``v``."""
    gap = np.linalg.norm(unit_lines(v)[:, None] - unit_lines(other)[None], axis=(2, 3))
    return float(gap.min(axis=0).max())


def searched(parts: Parts, degrees: list[int], rng: np.random.Generator, starts: int) -> list[float]:
    """The distances of all exact decompositions that Levenberg and Marquardt find from random starts."""
    (n, d), m, count = parts[0].shape, parts[1].shape[1], len(degrees)
    wanted = tensors(parts, degrees)

    def split(x: Array) -> Parts:
        return x[: n * d].reshape(n, d), x[n * d : n * (d + m)].reshape(n, m), x[n * (d + m) :].reshape(n, count)

    found: list[float] = []
    for _ in range(starts):
        start = np.concatenate([part.ravel() for part in draw(rng, n, d, m, degrees)])
        exact: dict[str, Any] = {"jac": lambda x: slopes(split(x), degrees), "max_nfev": 200}
        got = optimize.least_squares(lambda x: tensors(split(x), degrees) - wanted, start, **exact)
        if np.linalg.norm(got.fun) < 1e-6 * np.linalg.norm(wanted):
            found.append(far(parts[0], split(got.x)[0]))
            if len(found) == 4:
                break
    return found


UNIQUE = [
    (4, 3, 1, [2, 3], (2, False)),  # a conic and a cubic
    (5, 3, 3, [1, 2, 3], (1, True)),  # one other point of rank one
    (7, 4, 3, [2, 3], (2, False)),  # eight points on three quadrics
    (4, 2, 3, [2, 3, 4], (2, True)),
    (6, 4, 1, [2, 3, 4], (2, False)),
]


@pytest.mark.parametrize(("n", "d", "m", "degrees", "way"), UNIQUE)
def test_no_second_decomposition_is_found_where_none_is_claimed(
    n: int, d: int, m: int, degrees: list[int], way: tuple[int, bool]
) -> None:
    rng = np.random.default_rng(n * d)
    parts = draw(rng, n, d, m, degrees)
    with precision():
        assert apart(points(parts, degrees), max(degrees)) == way
    found = searched(parts, degrees, rng, 12)
    assert found, "the search is in vain"
    assert max(found) < 1e-3


@pytest.mark.parametrize(
    ("n", "d", "m", "degrees"), [(5, 3, 1, [2, 3]), (4, 2, 1, [3, 4]), (4, 3, 1, [3]), (3, 2, 2, [1, 2])]
)
def test_where_there_are_others_none_is_claimed_unique(n: int, d: int, m: int, degrees: list[int]) -> None:
    rng = np.random.default_rng(n + d)
    parts = draw(rng, n, d, m, degrees)
    with precision():
        assert apart(points(parts, degrees), max(degrees)) is None
    assert max(searched(parts, degrees, rng, 12)) > 1e-2


def eighth_point(v: Array) -> Array:
    """The other common zero of the quadrics through seven points of R^4."""
    squares = powers(v, 2)[0]
    quadrics = np.linalg.svd(squares)[2][7:]
    rng = np.random.default_rng(1)
    for _ in range(200):
        got = optimize.least_squares(
            lambda x: np.append(quadrics @ powers(x[None], 2)[0][0], x @ x - 1), rng.standard_normal(4), xtol=1e-15
        )
        if np.linalg.norm(got.fun) < 1e-12 and far(v, got.x[None]) > 1e-3:
            return got.x
    pytest.skip("the eighth point is not found")


def test_the_eighth_point_is_excluded_by_a_further_degree_only() -> None:
    rng = np.random.default_rng(8)
    n, m = 7, 7
    parts = draw(rng, n, 4, m, [2, 3])
    v, u, g = parts
    x = eighth_point(v)
    weight = np.linalg.lstsq(powers(v, 2)[0].T, powers(x[None], 2)[0][0], rcond=None)[0]
    # x in the place of the last: v_6² = (x² − Σ_{i<6} λ_i v_i²)/λ_6
    a = u * g[:, :1]
    other_u = np.concatenate([a[:6] - np.outer(weight[:6] / weight[6], a[6]), a[6:] / weight[6]])
    other = np.concatenate([v[:6], x[None]]), other_u, np.ones((n, 1))
    np.testing.assert_allclose(tensors(other, [2]), tensors((v, u, g[:, :1]), [2]), atol=1e-9)
    with precision():
        assert apart(points((v, u, g[:, :1]), [2]), 2) is None
        assert apart(points(parts, [2, 3]), 3) is not None
    # in the further degree the two lists differ, whatever the numbers are
    third = np.concatenate([v, x[None]])
    assert np.linalg.matrix_rank(powers(third, 3)[0], tol=1e-6) == n + 1


def test_points_in_special_position_are_not_called_unique() -> None:
    # three of the four lie in a plane, where x² is a combination of their squares for every x
    rng = np.random.default_rng(2)
    v, u, g = draw(rng, 4, 3, 1, [2, 3])
    flat = np.round(256 * v) / 256
    flat[2] = flat[0] + 2 * flat[1]
    with precision():
        assert apart(points((v, u, g), [2, 3]), 3) == (2, False)
        assert apart(points((flat, u, g), [2, 3]), 3) is None
        twice = v.copy()
        twice[3] = -2 * v[0]
        assert apart(points((twice, u, g), [2, 3]), 3) is None
        silent = g.copy()
        silent[1] = 0.0
        assert apart(points((v, u, silent), [2, 3]), 3) is None


@pytest.mark.parametrize(("n", "d", "m", "degrees", "way"), UNIQUE)
def test_uniqueness_does_not_depend_on_the_basis(
    n: int, d: int, m: int, degrees: list[int], way: tuple[int, bool]
) -> None:
    rng = np.random.default_rng(3)
    v, u, g = draw(rng, n, d, m, degrees)
    order = rng.permutation(n)
    moved = (v @ rng.standard_normal((d, d)))[order], (u @ rng.standard_normal((m, m)))[order], g[order]
    with precision():
        assert apart(points((v, u, g), degrees), max(degrees)) == way
        assert apart(points(moved, degrees), max(degrees)) == way


def test_known_length_tells_two_points_apart() -> None:
    # (1, x) with ‖x‖ = 1: a line meets the sphere in two points; without the length all its points would do
    rng = np.random.default_rng(4)
    x = rng.standard_normal((3, 5))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    v, u = np.concatenate([np.ones((3, 1)), x], axis=1), rng.standard_normal((3, 3))
    with precision():
        for n, unit, expected in ((2, True, (1, False)), (2, False, None), (3, True, None)):
            assert apart(points((v[:n], u[:n], np.ones((n, 1))), [1], unit), 1) == expected


def family_of(network: Network, free: str, bias: bool) -> Family:
    return Family(network.activation, network.width, network.d, network.m, bias, FREE[free])


FOUND = [
    ("relu", 4, 3, 1, True, "affine", 3), ("relu2", 5, 4, 3, False, "none", 2), ("exp", 4, 2, 3, False, "none", 3),
    ("leaky_relu", 2, 5, 3, False, "none", 1), ("relu2", 3, 4, 3, True, "offset", 2),
    ("relu", 2, 1, 3, True, "affine", 4),
]  # fmt: skip


@pytest.mark.parametrize(("name", "n", "d", "m", "bias", "free", "truth"), FOUND)
def test_the_fibre_is_one_orbit_where_it_is_said_so(
    name: str, n: int, d: int, m: int, bias: bool, free: str, truth: int
) -> None:
    network = atoms(np.random.default_rng(n + d), name, n, d, m, bias)
    report = depth(network, bias=bias, free=free)
    document = json.loads(json.dumps(report.document()))
    assert verify(document, {"a": network}).valid
    assert report.found.near[1] == truth
    family, parts = family_of(network, free, bias), (network.alpha, network.inner, network.bias)
    rng = np.random.default_rng(0)
    assert not other_solutions(family, *parts, truth, rng, starts=3)
    if len(family.degrees(truth - 1)) > 0:
        assert other_solutions(family, *parts, truth - 1, rng, starts=3), "a fibre that the search cannot see"
    lie = copy.deepcopy(document)
    for claim in (lie["claim"]["orbit"]["near"], lie["claim"]["orbit"]["pointwise"]):
        claim[:] = [min(claim[0], truth - 1), truth - 1]
    for shown in (lie["d_orb"]["near"], lie["d_orb"]["pointwise"]):
        shown.update(lower=min(shown["lower"], truth - 1), upper=truth - 1)
        shown["certified"] = shown["lower"] == shown["upper"]
    lie["d_orb"]["worst_case"]["lower"] = min(lie["d_orb"]["worst_case"]["lower"], truth - 1)
    assert not verify({**lie, "seal": seal(lie)}, {"a": network}).valid


def test_parallel_outputs_say_no_more_than_one() -> None:
    rng = np.random.default_rng(5)
    w, alpha = rng.standard_normal((3, 5)), rng.standard_normal((3, 3))
    shape = Shape("gelu", 3, 5, 3, True, -1)
    with precision():
        found = Atoms.of(shape, alpha, w, np.array([0.1, 0.4, -0.3]), 5)
        assert levels(found, [0, 1, 2]) == [0, 1, 2]
        same = Atoms.of(shape, alpha[:1] * np.array([[1.0], [2.0], [-3.0]]), w, found.b, 5)
        assert levels(same, [0, 1, 2]) == [1, 2]
        assert lines(same, [0, 1, 2]) is None
        assert independent(balls(w), balls(alpha), 0)
        assert not independent(balls(w), balls(alpha[[0, 0, 1]]), 0)


BETA = np.linspace(-5.0, 5.0, 4001)


@pytest.mark.parametrize(
    ("name", "first"), [("relu", 0), ("relu", 1), ("relu2", 0), ("relu2", 1), ("relu2", 2), ("abs", 1)]
)
def test_ratios_that_a_theorem_calls_one_to_one_are_monotone(name: str, first: int) -> None:
    shape = Shape(name, 1, 1, 1, True, -1)
    with precision():
        found = Atoms.of(shape, np.ones((1, 1)), np.ones((1, 1)), np.array([0.4]), 6)
        assert theorem(found, 0, [first, first + 1])
    c = get(name).hermite(np.ones(BETA.size), BETA, 4)
    angle = np.unwrap(np.arctan2(c[:, first + 1], c[:, first]) * 2) / 2  # of the line through both
    assert np.all(np.diff(angle) > 0) or np.all(np.diff(angle) < 0)
    assert abs(angle[-1] - angle[0]) < math.pi


@pytest.mark.parametrize("slope", [0.2, 0.01, 3.0])
@pytest.mark.parametrize("b", [0.4, -0.7, 1.3])
def test_the_second_shift_of_leaky_relu(slope: float, b: float) -> None:
    name, kappa = f"leaky_relu({slope})", slope / (1 - slope)
    shape = Shape(name, 1, 1, 1, True, 0)

    def ratio(x: float) -> float:
        return float((kappa + special.ndtr(x)) / np.exp(-x * x / 2))

    with precision():
        found = Atoms.of(shape, np.ones((1, 1)), np.array([[1.5]]), np.array([b]), 6)
        assert not theorem(found, 0, [1, 2])
        other = second_shift(found, 0, [1, 2])
        assert other is not None
        shift = float(other.mid())
        assert float(other.rad()) < 1e-20
        assert second_shift(found, 0, [1, 3]) is None
        for plain in ("relu", "abs", "leaky_relu(-0.5)"):
            none = Atoms.of(Shape(plain, 1, 1, 1, True, 0), np.ones((1, 1)), np.array([[1.5]]), np.array([b]), 6)
            assert second_shift(none, 0, [1, 2]) is None
    assert ratio(shift) == pytest.approx(ratio(b / 1.5), rel=1e-12)
    assert abs(shift - b / 1.5) > 1e-3
    c = get(name).hermite(np.ones(BETA.size), BETA, 2)
    signs = np.sign(c[:, 1] * ratio(0.0) - 0)  # c_1 has one sign, so that the turned equation has no solution
    assert np.all(signs == signs[0])


def test_leaky_relu_with_biases_has_another_solution_at_two_and_none_where_the_mean_tells() -> None:
    network = atoms(np.random.default_rng(6), "leaky_relu", 3, 5, 3, True)
    report = depth(network, bias=True, free="offset")
    document = json.loads(json.dumps(report.document()))
    assert verify(document, {"a": network}).valid
    assert report.found.near == (3, 3)
    (entry,) = document["d_orb"]["other"]
    # the other solution itself: T_1 and T_2 agree, T_3 does not
    i, c = entry["atom"], get("leaky_relu").hermite(np.ones(2), np.array([network.bias[entry["atom"]], entry["b"]]), 3)
    alpha, b = network.alpha.copy(), network.bias.copy()
    alpha[i] *= c[0, 2] / c[1, 2]
    b[i] = entry["b"]
    family = family_of(network, "offset", True)
    for degrees, same in (([1, 2], True), ([3], False)):
        x = moment_vector(family, network.alpha, network.inner, network.bias, degrees)
        y = moment_vector(family, alpha, network.inner, b, degrees)
        assert (float(np.linalg.norm(x - y)) < 1e-10 * float(np.linalg.norm(x))) == same
    for change in ({"b": entry["b"] + 1e-3}, {"turn": -1}, {"b": network.bias[i]}, {"depth": 3}):
        lie = copy.deepcopy(document)
        lie["evidence"]["collisions"][0].update(change)
        lie["d_orb"]["other"] = lie["evidence"]["collisions"]
        assert not verify({**lie, "seal": seal(lie)}, {"a": network}).valid
    # with T_0 in the family, all choices of second shifts are refuted by it
    known: Any = depth(network, bias=True, free="none")
    assert known.found.near == (2, 2)
    assert not other_solutions(
        family_of(network, "none", True), network.alpha, network.inner, network.bias, 2, np.random.default_rng(1), 4
    )
