"""The sparsest optimum (Mishkin & Pilanci, NeurIPS 2023: the optimal set of ReLU networks is polyhedral).

At the optimum the fitted values Φν and η are unique, and every optimal measure lives where ‖η‖ = 1 with
α_i = t_i η(θ_i), t_i ≥ 0.  So over given candidates θ_c with ‖η(θ_c)‖ = 1 the optimal measures are the polyhedron

    {t ≥ 0 : Σ_c t_c φ(θ_c) ⊗ η(θ_c) = Φν},     and Σ t_c = |ν|_TV on it.

For m outputs η(θ_c) is a fixed unit vector, so the group norm changes nothing: the unknowns are numbers.  A vertex is
found by reduction (Carathéodory: at most rank many atoms), the sparsest point by a MILP with HiGHS, t_c ≤ |ν|_TV·z_c.

Equality is asked to a tolerance, and the count is minimal *among the candidates*; that these are all points with ‖η‖ =
1 is what :mod:`.stability` may certify.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.convex.cones import ascend
from sparsemf.certificates.convex.data import DataObservation
from sparsemf.certificates.convex.observation import Atomic
from sparsemf.certificates.convex.polyhedral import dual_function
from sparsemf.certificates.convex.result import BlassoResult
from sparsemf.certificates.flat_program import greeted
from sparsemf.exceptions import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sparsest:
    """``measure`` with the fewest candidates; ``minimal``: whether the MILP proved (to its tolerance) that no fewer of
    the candidates do; ``vertex``: the size of the basic solution; ``residual``: relative change of the fit."""

    measure: Atomic
    candidates: int
    vertex: int
    minimal: bool
    residual: float
    solver: str


def sparsest_optimum(
    result: BlassoResult, candidates: Array | None = None, tolerance: float = 1e-6, seconds: float = 60.0
) -> Sparsest:
    """The sparsest optimal measure on the result's atoms and further candidates (C, D) with ‖η‖ ≥ 1 − tolerance.

    Default candidates: local maxima of ‖η‖ from many starts.  Raises :class:`InputError` for a target that is not data
    and :class:`RuntimeError` when HiGHS fails.
    """
    observation = result.observation
    if not isinstance(observation, DataObservation):
        raise InputError("sparsest optimum: expected a program on data rows, got a population target")
    theta = _candidates(result, observation, candidates, tolerance)
    eta = result.eta(theta)
    unit = eta / np.linalg.norm(eta, axis=1, keepdims=True)
    scale = 1 / np.sqrt(observation.n)
    columns = np.einsum("nc,cm->nmc", observation.features(theta), unit).reshape(-1, theta.shape[0]) * scale
    target = (observation.features(result.measure.theta) @ result.measure.alpha).reshape(-1) * scale
    weight = np.zeros(theta.shape[0])
    weight[: result.measure.size] = np.linalg.norm(result.measure.alpha, axis=1)
    vertex = basic_solution(columns, weight)
    size = max(float(np.linalg.norm(target)), 1e-300)
    chosen, minimal, solver = _milp(columns, target, result.measure.variation, tolerance * size, seconds)
    if chosen is None or np.sum(chosen > 0) > np.sum(vertex > 0):
        chosen, minimal = vertex, False
    on = np.flatnonzero(chosen > 0)
    measure = Atomic(theta[on], chosen[on, None] * unit[on])
    residual = float(np.linalg.norm(columns @ chosen - target)) / size
    return Sparsest(measure, theta.shape[0], int(np.sum(vertex > 0)), minimal, residual, solver)


def _candidates(result: BlassoResult, observation: DataObservation, extra: Array | None, tolerance: float) -> Array:
    if extra is None:
        dual, embed, _ = dual_function(observation, result.measure)
        start = observation.suggestions(2000, np.random.default_rng(0)) @ embed.T
        extra = ascend(dual, start[np.linalg.norm(start, axis=1) > 1e-8])[0] @ embed
    tight = np.linalg.norm(result.eta(extra), axis=1) >= 1 - tolerance
    kept = list(result.measure.theta)
    for point in extra[tight]:
        if min((np.linalg.norm(point - other) for other in kept), default=1.0) > 1e-5:
            kept.append(point)
    return np.array(kept).reshape(-1, observation.space.dim)


def basic_solution(columns: Array, weight: Array) -> Array:
    """t ≥ 0 with the same Σ t_c column_c and independent support: move along a null vector of the support until an
    entry vanishes, in the direction that does not raise Σ t; repeat."""
    t = weight.copy()
    while True:
        on = np.flatnonzero(t > 0)
        if not on.size:
            return t
        _, s, vt = np.linalg.svd(columns[:, on], full_matrices=True)
        rank = int(np.sum(s > 1e-9 * s[0]))
        if rank == on.size:
            return t
        null = vt[rank]
        if np.sum(null) < 0 or not np.any(null > 0):
            null = -null
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where(null > 0, t[on] / null, np.inf)
        first = int(np.argmin(step))
        t[on] = np.maximum(t[on] - step[first] * null, 0.0)
        t[on[first]] = 0.0


def _milp(
    columns: Array, target: Array, most: float, tolerance: float, seconds: float
) -> tuple[Array | None, bool, str]:
    import cvxpy as cp
    import highspy

    greeted()
    # equality in the coordinates of the column space, entry by entry to tolerance/√rank
    u, s, _ = np.linalg.svd(columns, full_matrices=False)
    u = u[:, s > 1e-12 * s[0]]
    t, z = cp.Variable(columns.shape[1], nonneg=True), cp.Variable(columns.shape[1], boolean=True)
    slack = tolerance / np.sqrt(max(u.shape[1], 1))
    rest = (u.T @ columns) @ t - u.T @ target
    limits = [rest <= slack, -rest <= slack, t <= most * 1.01 * z]
    problem = cp.Problem(cp.Minimize(cp.sum(z)), limits)
    name = f"HiGHS {highspy.Highs().version()}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            problem.solve(
                solver=cp.HIGHS, time_limit=seconds, mip_feasibility_tolerance=1e-9, primal_feasibility_tolerance=1e-10
            )
        except (cp.SolverError, ValueError) as error:
            raise RuntimeError(f"HiGHS failed on the sparsest optimum: {error}") from error
    if t.value is None or z.value is None:
        return None, False, name
    on = np.asarray(z.value) > 0.5
    # the weights again by least squares on the chosen support
    best = np.zeros(columns.shape[1])
    best[on] = np.linalg.lstsq(columns[:, on], target, rcond=None)[0]
    if np.any(best < -1e-9 * most):
        best = np.where(on, np.maximum(np.asarray(t.value), 0.0), 0.0)
    return np.maximum(best, 0.0), problem.status == "optimal", name
