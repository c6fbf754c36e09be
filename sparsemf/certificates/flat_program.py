"""The flat norm of a few hundred points as a convex program, by column generation: LP for one output, SOCP for several.

The dual program is solved on a sparse set of edges; pairs that its potential violates are added, until none is left.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from sparsemf.certificates.flat import Edges, Plan, Problem, violations

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_ALL_PAIRS = 60
_ROUNDS = 25
_FEW_ROUNDS = 10
_PER_POINT = 6
_TOLERANCE = 1e-10


def solve(problem: Problem, start: Edges, most_edges: int) -> tuple[Plan, Array] | None:
    """A plan and a potential, near-optimal and not exactly feasible; None when the solver fails.

    ``start`` are the first edges.  Masses and lengths are scaled to 1 for the solver.
    """
    n = problem.size
    if n <= _ALL_PAIRS:
        first, second = np.triu_indices(n, 1)
        one = np.ones(first.size, dtype=np.int64)
        edges = problem.edges(first, second, one if problem.parity <= 0 else None)
        if problem.parity < 0:
            edges = edges.joined(problem.edges(first, second, -one))
    else:
        edges = start.joined(problem.neighbours(np.arange(n), _PER_POINT))
    mass, basis = _reduced(problem.mass / problem.weight.max())
    best: tuple[Plan, Array] | None = None
    linear = mass.shape[1] == 1
    for _ in range(_ROUNDS if linear else _FEW_ROUNDS):
        useful = edges.length < problem.cost[edges.first] + problem.cost[edges.second]
        edges = edges.take(np.flatnonzero(useful))
        solved = _program(mass, problem.cost, edges)
        if solved is None:
            break
        flow, potential = solved
        best = Plan(edges, problem.weight.max() * flow @ basis), potential @ basis
        i, j, t, d, gap = violations(problem, best[1], 1e-9 if linear else 1e-8)
        if not i.size or n <= _ALL_PAIRS:
            break
        chosen = _worst(i, j, gap - d)
        if edges.first.size + chosen.size > most_edges:
            break
        side = None if problem.parity > 0 else t[chosen].astype(np.int64)
        edges = edges.joined(problem.edges(i[chosen], j[chosen], side))
    return best


def _reduced(mass: Array) -> tuple[Array, Array]:
    """Masses in an orthonormal basis of what they span: (n, r) and the basis (r, m)."""
    if mass.shape[1] == 1:
        return mass, np.ones((1, 1))
    _, size, basis = np.linalg.svd(mass, full_matrices=False)
    basis = basis[: max(1, int(np.sum(size > 1e-14 * size[0])))]
    return mass @ basis.T, basis


def _worst(i: Integers, j: Integers, excess: Array) -> Integers:
    """For every point its most violated pairs."""
    order = np.argsort(-excess, kind="stable")
    owner = np.concatenate([i[order], j[order]])
    place = np.concatenate([np.arange(order.size)] * 2)
    by = np.lexsort((place, owner))
    starts = np.flatnonzero(np.diff(owner[by], prepend=-1))
    rank = np.arange(by.size) - np.repeat(starts, np.diff(np.append(starts, by.size)))
    return order[np.unique(place[by[rank < _PER_POINT]])]


def incidence(edges: Edges, n: int) -> csr_array:
    """E with (Eφ)_e = φ_i − t_e φ_j."""
    k = edges.first.size
    rows = np.concatenate([np.arange(k), np.arange(k)])
    columns = np.concatenate([edges.first, edges.second])
    return coo_array((np.concatenate([np.ones(k), -edges.turn]), (rows, columns)), shape=(k, n)).tocsr()


@cache
def greeted() -> None:
    """HiGHS greets once per process on the C library's standard output, whatever its options: where nobody reads it."""
    import highspy

    sys.stdout.flush()
    try:
        output = os.dup(1)
    except OSError:  # there is no standard output to protect
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        highspy.Highs()
        if os.name == "posix":
            ctypes.CDLL(None).fflush(None)
    finally:
        os.dup2(output, 1)
        os.close(output)
        os.close(nowhere)


def _program(mass: Array, cost: Array, edges: Edges) -> tuple[Array, Array] | None:
    """(flow, potential) on the given edges."""
    import cvxpy as cp

    n, r = mass.shape
    k = edges.first.size
    matrix = incidence(edges, n)
    options: dict[str, Any]
    if r == 1:
        greeted()
        potential = cp.Variable(n)
        steps: list[Any] = [matrix @ potential <= edges.length, -(matrix @ potential) <= edges.length] if k else []
        limits: list[Any] = [potential <= cost, -potential <= cost]
        objective = cp.Maximize(mass[:, 0] @ potential)
        options = {
            "solver": cp.HIGHS,
            "primal_feasibility_tolerance": _TOLERANCE,
            "dual_feasibility_tolerance": _TOLERANCE,
        }
    else:
        potential = cp.Variable((n, r))
        steps = [cp.SOC(cp.Constant(edges.length), matrix @ potential, axis=1)] if k else []
        limits = [cp.SOC(cp.Constant(cost), potential, axis=1)]
        objective = cp.Maximize(cp.sum(cp.multiply(mass, potential)))
        options = {"solver": cp.CLARABEL, "tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}
    problem = cp.Problem(objective, [*steps, *limits])
    with warnings.catch_warnings():
        # an inaccurate solution serves as well: both sides are made feasible afterwards
        warnings.simplefilter("ignore")
        try:
            problem.solve(verbose=False, **options)
        except (cp.SolverError, ValueError):
            return None
    if potential.value is None or not np.isfinite(potential.value).all():
        return None
    flow = np.zeros((k, r))
    if k and steps[0].dual_value is not None:
        if r == 1:
            flow = (np.asarray(steps[0].dual_value) - np.asarray(steps[1].dual_value)).reshape(k, 1)
        else:
            flow = -np.asarray(steps[0].dual_value[1]).reshape(k, r)
    return flow, np.asarray(potential.value).reshape(n, r)
