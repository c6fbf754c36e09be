"""The orbit distance against brute force, closed forms and optimal transport."""

from __future__ import annotations

import os
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import linprog

from cases import ACTIVATIONS
from sparsemf import Network
from sparsemf.certificates import flat_clusters, flat_program, orbit
from sparsemf.certificates.flat import Edges, Plan, Problem, greedy, repaired, target, trees
from sparsemf.certificates.orbit import OrbitDistance, orbit_distance
from sparsemf.symmetry import disguise

INVARIANT = (*ACTIVATIONS, "elu(0.5)", "hermite(3)")


def random_network(rng: np.random.Generator, name: str, n: int, d: int = 3, m: int = 1, size: float = 0.7) -> Network:
    return Network(rng.standard_normal((n, m)), size * rng.standard_normal((n, d)), size * rng.standard_normal(n), name)


def bounds(found: OrbitDistance) -> tuple[float, float]:
    assert found.value is not None
    assert found.lower is not None
    assert found.dual_gap == pytest.approx(found.value - found.lower, abs=1e-15)
    return found.lower, found.value


def value(a: Network, b: Network) -> float:
    """The distance where it was computed exactly."""
    found = orbit_distance(a, b)
    assert found.exact
    return bounds(found)[1]


def on_the_cover(points: np.ndarray, mass: np.ndarray, parity: int) -> tuple[np.ndarray, np.ndarray]:
    """½(ν + s·ι_#ν), written out."""
    if parity == 0:
        return points, mass
    return np.concatenate([points, -points]), np.concatenate([0.5 * mass, 0.5 * parity * mass])


def brute_force(points: np.ndarray, mass: np.ndarray, parity: int) -> float:
    """The dual LP on every pair of the cover: no symmetry of the potential is assumed."""
    x, kappa = on_the_cover(points, mass[:, 0], parity)
    n = x.shape[0]
    rows, limits = [], []
    for i in range(n):
        for j in range(n):
            if i != j:
                row = np.zeros(n)
                row[i], row[j] = 1.0, -1.0
                rows.append(row)
                limits.append(np.linalg.norm(x[i] - x[j]))
    solved = linprog(-kappa, A_ub=np.array(rows), b_ub=np.array(limits), bounds=(-1, 1), method="highs")
    assert solved.status == 0
    return -float(solved.fun)


def dense_cone(points: np.ndarray, mass: np.ndarray, parity: int) -> float:
    """The dual SOCP on every pair of the cover."""
    x, kappa = on_the_cover(points, mass, parity)
    n = x.shape[0]
    phi = cp.Variable(kappa.shape)
    limits: list[Any] = [cp.norm(phi[i]) <= 1 for i in range(n)]
    limits += [cp.norm(phi[i] - phi[j]) <= np.linalg.norm(x[i] - x[j]) for i in range(n) for j in range(i)]
    problem = cp.Problem(cp.Maximize(cp.sum(cp.multiply(kappa, phi))), limits)
    problem.solve(solver=cp.CLARABEL)
    return float(problem.value)  # pyright: ignore[reportArgumentType]


# closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["erf", "tanh"])
def test_no_jump_at_the_boundary_of_a_half_space(name: str) -> None:
    """(1e-3, 1) and (−1e-3, 1): 0.002 apart, where a half-space form would say 2."""
    a = Network([[1.0]], [[1e-3, 1.0]], None, name)
    assert value(a, a.with_(inner=[[-1e-3, 1.0]])) == pytest.approx(0.002, rel=1e-12)


def test_creation_caps_transport_and_odd_covers_cap_creation() -> None:
    far = Network([[1.0]], [[9.0, 0.0]], None, "tanh")
    assert value(far, far.with_(inner=[[0.0, 9.0]])) == pytest.approx(2.0, rel=1e-12)
    # ½δ_v − ½δ_{−v} costs at most ½·2‖v‖
    small = Network([[1.0]], [[0.1, 0.0]], None, "tanh")
    nothing = small.with_(outer=[[0.0]])
    assert value(small, nothing) == pytest.approx(0.1, rel=1e-12)
    even = Network([[1.0]], [[0.1, 0.0]], None, "elu")
    assert value(even, even.with_(outer=[[0.0]])) == pytest.approx(1.0, rel=1e-12)


def test_transport_moves_what_it_can_and_creates_the_rest() -> None:
    a = Network([[2.0, 0.0]], [[1.0, 0.0]], None, "elu")
    b = Network([[1.5, 0.0]], [[1.0, 0.3]], None, "elu")
    found = orbit_distance(a, b)
    assert found.exact
    assert found.value == pytest.approx(0.3 * 1.5 + 0.5, rel=1e-9)
    assert found.plan is not None
    (plan,) = found.plan
    assert plan.core == "elu"
    assert np.abs(plan.flow).sum() == pytest.approx(1.5, rel=1e-6)
    assert sorted(zip(plan.of_a.tolist(), plan.neuron.tolist(), strict=True)) == [(False, 0), (True, 0)]


def test_polynomial_parts_are_flip_invariant_and_added_up() -> None:
    f = random_network(np.random.default_rng(1), "gelu", 4, m=2)
    shift = np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    g = f.with_(affine=shift, offset=[3.0, 4.0])
    assert value(f, g) == pytest.approx(3.0 + 5.0, rel=1e-12)
    form = np.zeros((2, 3, 3))
    form[0, 0, 1] = form[0, 1, 0] = 1.0
    assert value(f, f.with_(quadratic=form)) == pytest.approx(np.sqrt(2.0), rel=1e-12)
    # relu(z) against −relu(−z): the same kink with opposite sides, so only z is left of the difference
    a = Network([[1.0]], [[3.0, 4.0]], None, "relu")
    assert value(a, a.with_(inner=[[-3.0, -4.0]])) == pytest.approx(5.0, rel=1e-12)
    # constant neurons
    still = Network([[2.0]], [[0.0, 0.0]], [3.0], "relu")
    assert value(still, still.with_(outer=[[1.0]])) == pytest.approx(3.0, rel=1e-12)


def test_powers_are_compared_as_tensors() -> None:
    rng = np.random.default_rng(2)
    w = rng.standard_normal((3, 4))
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    a = Network(np.ones((3, 1)), w, None, "quadratic")
    assert value(a, a.with_(inner=turn @ w)) < 1e-12
    b = Network([[1.0]], [[1.0, 0.0]], None, "cubic")
    assert value(b, b.with_(inner=[[0.0, 2.0]])) == pytest.approx(np.sqrt(1 + 64.0), rel=1e-12)
    assert value(Network([[1.0]], [[1.0, 0.0]], None, "linear"), b.with_(outer=[[0.0]])) == pytest.approx(1.0)


# brute force -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["elu", "relu", "gelu", "abs", "tanh", "erf", "relu2"])
@pytest.mark.parametrize("seed", range(4))
def test_against_the_dense_program_on_the_cover(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_network(rng, name, 7), random_network(rng, name, 6)
    points = np.concatenate([np.concatenate([f.inner, f.bias[:, None]], axis=1) for f in (a, b)])
    mass = np.concatenate([a.alpha, -b.alpha])
    degree = {"relu": 1, "abs": 1, "relu2": 2}.get(name, 0)
    if degree:
        length = np.linalg.norm(points, axis=1)[:, None]
        points, mass = points / length, mass * length**degree * (2.0 if name == "abs" else 1.0)
    parity = {"elu": 0, "tanh": -1, "erf": -1, "relu2": -1}.get(name, 1)
    found = orbit_distance(a, b)
    low, high = bounds(found)
    assert found.exact
    truth = brute_force(points, mass, parity)
    assert high - found.polynomial == pytest.approx(truth, rel=1e-8)
    assert low <= found.polynomial + truth + found.rounding + 1e-9


@pytest.mark.parametrize("parity", [0, 1, -1])
def test_several_outputs_against_the_dense_cone(parity: int) -> None:
    rng = np.random.default_rng(3 + parity)
    name = {0: "elu", 1: "gelu", -1: "tanh"}[parity]
    a, b = random_network(rng, name, 5, m=3), random_network(rng, name, 4, m=3)
    points = np.concatenate([np.concatenate([f.inner, f.bias[:, None]], axis=1) for f in (a, b)])
    truth = dense_cone(points, np.concatenate([a.alpha, -b.alpha]), parity)
    found = orbit_distance(a, b)
    assert found.exact
    assert bounds(found)[1] - found.polynomial == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("parity", [0, 1, -1])
@pytest.mark.parametrize("m", [1, 2])
def test_column_generation_reaches_the_full_program(parity: int, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(11)
    problem = Problem(0.5 * rng.standard_normal((45, 3)), rng.standard_normal((45, m)), parity)
    full = flat_program.solve(problem, greedy(problem, (8,)).edges, 10**6)
    monkeypatch.setattr(flat_program, "_ALL_PAIRS", 1)
    sparse = flat_program.solve(problem, greedy(problem, (8,)).edges, 10**6)
    assert full is not None
    assert sparse is not None
    assert sparse[0].edges.first.size < full[0].edges.first.size
    assert problem.price(sparse[0]) == pytest.approx(problem.price(full[0]), rel=1e-7)
    assert repaired(problem, sparse[1])[1] == pytest.approx(problem.price(full[0]), rel=1e-6)


@pytest.mark.parametrize("parity", [0, 1, -1])
@pytest.mark.parametrize("m", [1, 3])
def test_every_plan_and_every_potential_bound_the_norm(parity: int, m: int) -> None:
    """Arbitrary flows and potentials: weak duality, and feasibility of the repaired potential on the cover."""
    rng = np.random.default_rng(12)
    problem = Problem(rng.standard_normal((12, 2)), rng.standard_normal((12, m)), parity)
    truth = (brute_force if m == 1 else dense_cone)(problem.points, problem.mass, parity)
    for _ in range(5):
        first, second = rng.integers(0, 12, 9), rng.integers(0, 12, 9)
        first, second = first[first != second], second[first != second]
        side = rng.choice([-1, 1], first.size) if parity else np.ones(first.size, dtype=np.int64)
        plan = Plan(problem.edges(first, second, side), 0.3 * rng.standard_normal((first.size, m)))
        assert problem.price(plan) >= truth - 1e-7
        phi, worth = repaired(problem, 2 * rng.standard_normal((12, m)))
        assert worth <= truth + 1e-7
        cover, _ = on_the_cover(problem.points, problem.mass, parity)
        both = phi if parity == 0 else np.concatenate([phi, parity * phi])
        assert np.linalg.norm(both, axis=1).max() <= 1 + 1e-12
        gap = np.linalg.norm(both[:, None] - both[None], axis=2)
        assert np.all(gap <= np.linalg.norm(cover[:, None] - cover[None], axis=2) + 1e-12)


# invariance and metric -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INVARIANT)
@pytest.mark.parametrize("m", [1, 3])
def test_disguises_are_at_distance_zero(name: str, m: int) -> None:
    rng = np.random.default_rng(21)
    f = random_network(rng, name, 6, m=m)
    found = orbit_distance(disguise(f, rng, 40), disguise(f, rng, 30))
    low, high = bounds(found)
    assert low == 0.0
    assert high <= found.rounding < 1e-10
    assert found.exact


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "elu"])
def test_invariance_of_a_distance_that_is_not_zero(name: str) -> None:
    rng = np.random.default_rng(22)
    a, b = random_network(rng, name, 5), random_network(rng, name, 5)
    plain = value(a, b)
    assert plain > 0.1
    assert value(disguise(a, rng, 20), disguise(b, rng, 20)) == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize(("first", "second", "scale"), [("sigmoid", "tanh", 0.5), ("abs", "relu", 1.0)])
def test_across_activations(first: str, second: str, scale: float) -> None:
    rng = np.random.default_rng(23)
    f = random_network(rng, first, 5)
    if first == "sigmoid":
        g = Network(0.5 * f.outer, scale * f.inner, scale * f.bias, second, offset=0.5 * f.outer.sum(axis=0))
    else:
        g = Network(2.0 * f.outer, f.inner, f.bias, second, affine=-f.outer.T @ f.inner, offset=-f.outer.T @ f.bias)
    found = orbit_distance(f, disguise(g, rng, 15))
    assert bounds(found)[1] <= found.rounding


@pytest.mark.parametrize("name", ["relu", "tanh", "elu"])
@pytest.mark.parametrize("m", [1, 2])
def test_a_metric(name: str, m: int) -> None:
    rng = np.random.default_rng(24)
    for _ in range(3):
        a, b, c = (random_network(rng, name, 4, m=m, size=0.5) for _ in range(3))
        assert value(a, b) == pytest.approx(value(b, a), rel=1e-7)
        assert value(a, c) <= value(a, b) + value(b, c) + 1e-7


def test_a_move_costs_what_it_moves_at_every_size() -> None:
    """Tiny moves are not lost in the solver's tolerance."""
    rng = np.random.default_rng(25)
    f = random_network(rng, "elu", 5, m=2)
    for size in (1e-12, 1e-9, 1e-6, 1e-3):
        g = f.with_(inner=f.inner + size)
        moved = np.linalg.norm(g.inner - f.inner, axis=1)
        assert value(f, g) == pytest.approx(float(moved @ np.linalg.norm(f.alpha, axis=1)), rel=1e-7)


def test_agreement_with_optimal_transport() -> None:
    """Equal positive masses, everything closer than 2, no flip: creation never pays, and the norm is W₁."""
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(26)
    for n in (5, 30, 120):
        x, y = 0.15 * rng.standard_normal((n, 3)), 0.15 * rng.standard_normal((n + 3, 3))
        p, q = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(n + 3))
        cost = np.linalg.norm(x[:, None] - y[None], axis=2)
        assert cost.max() < 2
        found = value(Network(p[:, None], x, None, "elu"), Network(q[:, None], y, None, "elu"))
        assert found == pytest.approx(float(ot.emd2(p, q, cost)), abs=1e-9)


# many points -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parity", [0, 1, -1])
@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("noise", [1e-6, 1e-3, 3e-2])
def test_the_bound_for_many_points_is_feasible_and_tight_where_atoms_are_matched(
    parity: int, m: int, noise: float
) -> None:
    rng = np.random.default_rng(31)
    x, kappa = rng.standard_normal((40, 8)), rng.standard_normal((40, m))
    moved = x + noise * rng.standard_normal(x.shape)
    turned = rng.random(40) < 0.5
    if parity:
        moved[turned] *= -1
    other = -kappa * (1 + noise * rng.standard_normal((40, 1)))
    if parity:
        other[turned] *= parity
    problem = Problem(np.concatenate([x, moved]), np.concatenate([kappa, other]), parity)
    plan = greedy(problem, (1, 1, 4))
    found = flat_clusters.bounded(problem, plan)
    assert found is not None
    potential, worth = found
    cover, _ = on_the_cover(problem.points, problem.mass, parity)
    both = potential if parity == 0 else np.concatenate([potential, parity * potential])
    assert np.linalg.norm(both, axis=1).max() <= 1 + 1e-12
    gap = np.linalg.norm(both[:, None] - both[None], axis=2)
    assert np.all(gap <= np.linalg.norm(cover[:, None] - cover[None], axis=2) + 1e-12)
    assert 0 < worth <= problem.price(plan) * (1 + 1e-12)
    if noise < 1e-2:
        assert worth >= 0.9 * problem.price(plan)


def test_the_way_for_many_points_brackets_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(32)
    for name in ("relu", "tanh", "elu"):
        a = random_network(rng, name, 60, 6)
        b = a.with_(
            inner=a.inner + 1e-3 * rng.standard_normal(a.inner.shape),
            outer=a.outer + 1e-2 * rng.standard_normal(a.outer.shape),
        )
        truth = value(a, b)
        monkeypatch.setattr(orbit, "_MOST_POINTS", 10)
        low, high = bounds(orbit_distance(a, b))
        monkeypatch.undo()
        assert 0.5 * truth <= low <= truth * (1 + 1e-8)
        assert truth * (1 - 1e-8) <= high <= 1.5 * truth


def test_single_precision_comparison_is_still_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(33)
    x = rng.standard_normal((60, 5))
    problem = Problem(np.concatenate([x, x + 1e-4]), np.concatenate([np.ones((60, 1)), -1.1 * np.ones((60, 1))]), -1)
    plan = greedy(problem, (4,))
    exact = flat_clusters.bounded(problem, plan)
    monkeypatch.setattr(flat_clusters, "_DOUBLE", 1)
    rough = flat_clusters.bounded(problem, plan)
    assert exact is not None
    assert rough is not None
    assert rough[1] == pytest.approx(exact[1], rel=1e-2)
    assert repaired(problem, rough[0])[1] == pytest.approx(rough[1], rel=1e-9)


def test_the_greedy_plan_is_a_forest_and_its_potential_is_tight() -> None:
    rng = np.random.default_rng(34)
    x = rng.standard_normal((30, 4))
    problem = Problem(np.concatenate([x, x + 1e-5]), np.concatenate([np.ones((30, 1)), -np.ones((30, 1))]), 0)
    plan = greedy(problem, (3,))
    residual = problem.residual(plan)
    wanted = target(problem, trees(problem, plan, residual), residual)
    edges: Edges = plan.edges
    assert edges.first.size == 30
    step = (wanted[edges.first] - wanted[edges.second])[:, 0] * np.sign(plan.flow[:, 0])
    np.testing.assert_allclose(step, edges.length, rtol=1e-9)
    assert repaired(problem, wanted)[1] == pytest.approx(problem.price(plan), rel=1e-9)


# gated, and what is not computed ---------------------------------------------------------------------------------


def gated(rng: np.random.Generator, name: str, n: int = 4, d: int = 2, m: int = 2) -> Network:
    return Network(
        rng.standard_normal((n, m)),
        rng.standard_normal((n, d)),
        rng.standard_normal(n),
        name,
        gate=rng.standard_normal((n, d)),
        gate_bias=rng.standard_normal(n),
    )


@pytest.mark.parametrize("name", ["silu", "gelu", "relu", "sigmoid", "tanh"])
def test_gated_blocks(name: str) -> None:
    rng = np.random.default_rng(41)
    a = gated(rng, name)
    scale = rng.uniform(0.5, 2.0, 4)[:, None] * np.array([[1.0], [-1.0], [1.0], [-1.0]])
    assert a.gate is not None
    assert a.gate_bias is not None
    b = a.with_(outer=a.outer / scale, inner=a.inner * scale, bias=a.bias * scale[:, 0])
    found = orbit_distance(a, b)
    assert bounds(found)[1] <= found.rounding
    # the flip σ(u) = s·σ(−u) + p₀ + p₁u, paid as a quadratic form
    sign, p0, p1 = {
        "silu": (1, 0.0, 1.0),
        "gelu": (1, 0.0, 1.0),
        "relu": (1, 0.0, 1.0),
        "sigmoid": (-1, 1.0, 0.0),
        "tanh": (-1, 0.0, 0.0),
    }[name]
    paid = np.einsum("nk,ni,nj->kij", a.outer, p1 * a.gate, a.inner)
    slope = np.einsum("nk,n,nj->kj", a.outer, p0 + p1 * a.gate_bias, a.inner)
    slope += np.einsum("nk,ni,n->ki", a.outer, p1 * a.gate, a.bias)
    offset = np.einsum("nk,n,n->k", a.outer, p0 + p1 * a.gate_bias, a.bias)
    c = a.with_(outer=sign * a.outer, gate=-a.gate, gate_bias=-a.gate_bias, quadratic=paid, affine=slope, offset=offset)
    x = rng.standard_normal((5, 2))
    np.testing.assert_allclose(a(x), c(x), atol=1e-12)
    found = orbit_distance(a, c)
    assert bounds(found)[1] <= found.rounding
    moved = a.with_(inner=a.inner + 0.1)
    assert bounds(orbit_distance(a, moved))[0] > 0.01


def test_what_is_not_computed_says_so() -> None:
    rng = np.random.default_rng(42)
    a = gated(rng, "relu2")
    found = orbit_distance(a, a)
    assert found.value is None
    assert found.dual_gap is None
    assert "not computed" in found.method
    huge = Network([[1.0]], [[1.0]], [900.0], "exp")
    assert orbit_distance(huge, huge).value is None


def test_a_failing_solver_leaves_honest_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_program, "solve", lambda *_: None)
    rng = np.random.default_rng(43)
    a, b = random_network(rng, "tanh", 8), random_network(rng, "tanh", 8)
    low, high = bounds(orbit_distance(a, b))
    monkeypatch.undo()
    assert low <= value(a, b) <= high
    assert low != high


def test_the_solvers_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(44)
    flat_program.greeted.cache_clear()
    for m in (1, 2):
        orbit_distance(random_network(rng, "elu", 4, m=m), random_network(rng, "elu", 4, m=m))
    os.write(1, b"end")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("end", "")
