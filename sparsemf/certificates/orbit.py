"""Orbit distance: the bounded-Lipschitz (flat) norm of the difference of two dictionary measures, on the double cover.

With masses κ_i ∈ R^m at section points v_i (A's with +, B's with −), costs d_ij = ‖v_i − v_j‖ and
d⁺_ij = ‖v_i + v_j‖, and s the sign of the flip relation:

    primal  min Σ d_ij‖F_ij‖ + Σ d⁺_ij‖G_ij‖ + Σ c_i‖r_i‖,   r_i = κ_i − Σ_j (F_ij − F_ji) − Σ_j (G_ij − s G_ji),
    dual    max Σ ⟨κ_i, φ_i⟩  with  ‖φ_i‖ ≤ c_i, ‖φ_i − φ_j‖ ≤ d_ij, ‖φ_i − s φ_j‖ ≤ d⁺_ij.

F moves mass, G moves it across the flip, r creates or destroys it (c_i = 1; for odd covers also c_i ≤ ‖v_i‖, since a
unit at v and its image at −v cancel).  Without a flip there is no G.  To this the flip-invariant affine difference
‖ΔA‖_F + ‖Δc‖ is added, A + ½ p₁ Σ α_i w_iᵀ and c + ½ Σ α_i (p₀ + p₁ b_i).

Solved by cvxpy (HIGHS for one output, CLARABEL for several); both sides are then made feasible by hand, so
[lower, upper] needs no trust in the solver's status.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Network
from sparsemf.measures.gaussian import UNIT
from sparsemf.symmetry import Section, point_distances, quotient

Array = NDArray[np.float64]

MOST_POINTS = 60


@dataclass(frozen=True)
class OrbitDistance:
    """``value`` is a feasible transport's cost (an upper bound); the truth is at most ``dual_gap`` below it."""

    value: float
    dual_gap: float
    method: str


def orbit_distance(h: Network) -> OrbitDistance:
    """The flat norm of h = f_A − f_B (one network, B's coefficients negated)."""
    relation = h.activation.relation
    slope, constant = h.affine.copy(), h.offset.copy()
    if relation is not None:
        slope += 0.5 * relation.linear * h.alpha.T @ h.inner
        constant += 0.5 * h.alpha.T @ (relation.constant + relation.linear * h.bias)
    # constants (w = 0) are affine functions and belong to the offset
    still = ~h.inner.any(axis=1)
    if relation is not None:
        constant -= 0.5 * h.alpha[still].T @ (relation.constant + relation.linear * h.bias[still])
    constant += h.alpha[still].T @ h.activation.value(h.bias[still])
    affine = float(np.linalg.norm(slope) + np.linalg.norm(constant))
    joint = quotient(h)
    section = Section.of(joint.network)
    mass = np.linalg.norm(section.kappa, axis=1)
    total = float(np.sum(np.linalg.norm(h.alpha, axis=1)))
    heavy = mass > 64 * UNIT * max(total, 1e-300)
    dust = float(mass[~heavy].sum())
    points, kappa = section.points[heavy], section.kappa[heavy]
    if points.shape[0] == 0:
        return OrbitDistance(affine + dust, dust, "no mass is left beyond rounding")
    cost = np.ones(points.shape[0])
    if section.flips and section.flip_sign < 0:
        cost = np.minimum(cost, np.linalg.norm(points, axis=1))
    if points.shape[0] > MOST_POINTS:
        upper = _paired_cost(points, kappa, cost, section.flips, section.flip_sign) + dust
        lower = 0.0
        if not (section.flips and section.flip_sign < 0):
            lower = float(np.linalg.norm(kappa.sum(axis=0)))
        return OrbitDistance(affine + upper, max(upper - lower, 0.0) + dust, "transport between mutual nearest points")
    upper, lower = _transport(points, kappa, cost, section.flips, section.flip_sign)
    return OrbitDistance(affine + upper + dust, upper - lower + 2 * dust, "transport plan and potential, made feasible")


def _paired_cost(points: Array, kappa: Array, cost: Array, flips: bool, sign: int) -> float:
    """The cost of a feasible plan for many points: mutual nearest neighbours exchange their mass, the rest is
    created or destroyed; O(n²D) in blocks."""
    n = points.shape[0]
    nearest, reach, side = np.zeros(n, dtype=int), np.zeros(n), np.ones(n, dtype=int)
    for start in range(0, n, 1024):
        rows = np.arange(start, min(start + 1024, n))
        distance, sides = point_distances(points[rows], points, flips)
        distance[np.arange(rows.size), rows] = np.inf
        nearest[rows] = np.argmin(distance, axis=1)
        reach[rows] = distance[np.arange(rows.size), nearest[rows]]
        side[rows] = sides[np.arange(rows.size), nearest[rows]]
    size = np.linalg.norm(kappa, axis=1)
    alone = cost * size
    total = float(alone.sum())
    first = np.flatnonzero((nearest[nearest] == np.arange(n)) & (np.arange(n) < nearest))
    second = nearest[first]
    moved = np.where(side[first] < 0, sign, 1)[:, None] * kappa[first]
    together = reach[first] * size[first] + cost[second] * np.linalg.norm(kappa[second] + moved, axis=1)
    return total - float(np.sum(np.maximum(alone[first] + alone[second] - together, 0.0)))


def _transport(points: Array, kappa: Array, cost: Array, flips: bool, sign: int) -> tuple[float, float]:
    import cvxpy as cp

    n, m = kappa.shape
    left, right = np.triu_indices(n, 1)
    move = np.linalg.norm(points[left] - points[right], axis=1)
    cross = np.linalg.norm(points[left] + points[right], axis=1)
    incidence = np.zeros((n, left.size))
    incidence[left, np.arange(left.size)] = 1.0
    mirrored = incidence.copy()
    incidence[right, np.arange(left.size)] = -1.0
    mirrored[right, np.arange(left.size)] = -float(sign)
    rest = cp.Variable((n, m))
    moved = cp.Variable((left.size, m)) if left.size else None
    flipped = cp.Variable((left.size, m)) if left.size and flips else None

    def size(rows: cp.Expression) -> cp.Expression:
        return cp.abs(rows)[:, 0] if m == 1 else cp.norm(rows, 2, axis=1)

    objective = cost @ size(rest)
    balance = rest
    if moved is not None:
        objective += move @ size(moved)
        balance = balance + incidence @ moved
    if flipped is not None:
        objective += cross @ size(flipped)
        balance = balance + mirrored @ flipped
    conserve = balance == kappa
    problem = cp.Problem(cp.Minimize(objective), [conserve])
    with warnings.catch_warnings():
        # an inaccurate solution is as good as any: both sides are made feasible below
        warnings.simplefilter("ignore", UserWarning)
        try:
            problem.solve(solver=cp.HIGHS if m == 1 else cp.CLARABEL)
        except cp.SolverError:
            return _paired_cost(points, kappa, cost, flips, sign), 0.0
    plan = np.zeros_like(kappa)
    upper = 0.0
    for variable, matrix, price in ((moved, incidence, move), (flipped, mirrored, cross)):
        if variable is not None and variable.value is not None:
            flow = np.asarray(variable.value)
            plan += matrix @ flow
            upper += float(price @ np.linalg.norm(flow, axis=1))
    upper += float(cost @ np.linalg.norm(kappa - plan, axis=1))
    trivial = float(cost @ np.linalg.norm(kappa, axis=1))
    upper = min(upper, trivial) * (1 + 1e-12)
    dual = conserve.dual_value
    if dual is None:
        return upper, 0.0
    potential = -np.asarray(dual).reshape(n, m)
    if float(np.sum(potential * kappa)) < 0:
        potential = -potential
    ratios = [np.linalg.norm(potential, axis=1) / cost]
    if left.size:
        ratios.append(np.linalg.norm(potential[left] - potential[right], axis=1) / np.maximum(move, 1e-300))
        if flips:
            ratios.append(np.linalg.norm(potential[left] - sign * potential[right], axis=1) / np.maximum(cross, 1e-300))
    scale = max(1.0, *(float(r.max(initial=0.0)) for r in ratios))
    return upper, max(float(np.sum(potential * kappa)) / scale * (1 - 1e-12), 0.0)
