"""The convex program over given activation cells of the data (Pilanci & Ergen, ICML 2020), cvxpy with CLARABEL.

On the closed cell {v : s_i⟨x_i, v⟩ ≥ 0} of a sign pattern s, σ(⟨x_i, v⟩) = a_i⟨x_i, v⟩ with a_i = σ(s_i)·s_i.  For
atoms with
a fixed direction of output β ∈ R^m, ‖β‖ = 1, one vector v per cell is at once weight and size (u = v/|v|, α = |v|β):

    min (1/2n)‖Y − Σ_j diag(a_j) X v_j β_jᵀ‖²_F + λ Σ_j |v_j|   s.t. v_j in the closed cell j.

For one output β = ±1 covers everything; with all cells and both signs this is the whole problem over measures.  A free
affine part enters by projecting both sides off it.  The cone constraints are added as they are violated: the program
without a constraint is a relaxation, so an optimum of it that obeys all constraints is an optimum.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations.families.relu import PiecewiseLinear
from sparsemf.certificates.convex.data import DataObservation
from sparsemf.exceptions import InputError

Array = NDArray[np.float64]

_ROUNDS = 30
_NEAR = 3
_VIOLATION = 1e-11


@dataclass(frozen=True, eq=False)
class CellSolution:
    """``v`` (C, D); ``rounds`` of constraint generation; ``solver`` with version; ``converged``: all cones obeyed."""

    v: Array
    rounds: int
    solver: str
    converged: bool


def signs_of(observation: DataObservation, theta: Array) -> NDArray[np.int8]:
    """The sign patterns of points, (C, n), ties counted as positive."""
    return np.where(theta @ observation.design.T >= 0, 1, -1).astype(np.int8)


def piecewise(observation: DataObservation) -> PiecewiseLinear:
    """The activation, checked to be piecewise linear and homogeneous; raises :class:`InputError`."""
    if not isinstance(observation.activation, PiecewiseLinear):
        raise InputError(
            f"activation: expected relu, leaky_relu or abs for a program over cells, got {observation.activation.name}"
        )
    return observation.activation


def linear_features(observation: DataObservation, signs: NDArray[np.int8]) -> Array:
    """diag(a_j)X̃ with free functions projected out, (C, n, D)."""
    sigma = piecewise(observation)
    slope = np.where(signs > 0, sigma.positive, -sigma.negative)
    maps = slope[:, :, None] * observation.design[None]
    if observation.basis.shape[1]:
        q = observation.basis
        maps = maps - np.einsum("nq,cqd->cnd", q, np.einsum("nq,cnd->cqd", q, maps))
    return maps


def solve_cells(
    observation: DataObservation,
    signs: NDArray[np.int8],
    outputs: Array,
    lam: float,
    start: Array | None = None,
    everything: bool = False,
) -> CellSolution:
    """The optimum over the given cells ``signs`` (C, n) with output directions ``outputs`` (C, m).

    ``start`` (C, D): points whose nearly active rows are constrained from the beginning; ``everything``: all rows are.
    Raises :class:`RuntimeError` when the solver fails.
    """
    import cvxpy as cp

    count, n = signs.shape
    dim = observation.design.shape[1]
    maps = linear_features(observation, signs)
    scale = np.linalg.norm(observation.y) / np.sqrt(observation.n)
    scale = scale if scale > 0 else 1.0
    # least squares in the coordinates of a QR factorisation: D·C columns instead of n·m rows
    columns = np.einsum("cnd,cm->nmcd", maps, outputs).reshape(n * outputs.shape[1], count * dim) / np.sqrt(n)
    target = (observation.y / scale / np.sqrt(n)).reshape(-1)
    if columns.shape[0] > columns.shape[1]:
        q, columns = np.linalg.qr(columns)
        target = q.T @ target
    rows = signs[:, :, None] * observation.design[None]
    length = np.maximum(np.linalg.norm(observation.design, axis=1), 1e-300)
    active = np.full((count, n), everything)
    if start is not None and not everything:
        nearness = np.abs(start @ observation.design.T) / length
        order = np.argsort(nearness, axis=1)[:, : _NEAR * dim]
        np.put_along_axis(active, order, True, axis=1)
    solution, rounds, converged = np.zeros((count, dim)), 0, False
    for rounds in range(1, _ROUNDS + 1):  # noqa: B007
        v = cp.Variable((count, dim))
        cell, row = np.nonzero(active)
        constraints: list[Any] = []
        if cell.size:
            pick = rows[cell, row] / length[row, None]
            constraints = [cp.sum(cp.multiply(pick, v[cell]), axis=1) >= 0]
        fit = cp.sum_squares(columns @ cp.reshape(v, (count * dim,), order="C") - target)
        problem = cp.Problem(cp.Minimize(0.5 * fit + lam / scale * cp.sum(cp.norm(v, 2, axis=1))), constraints)
        with warnings.catch_warnings():
            # an inaccurate solution is judged by its duality gap, like any other
            warnings.simplefilter("ignore")
            try:
                problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-12, tol_feas=1e-12)
            except cp.SolverError as error:
                raise RuntimeError(f"CLARABEL failed on the program over cells: {error}") from error
        if v.value is None:
            raise RuntimeError(f"CLARABEL gave no solution of the program over cells (status {problem.status})")
        solution = scale * np.asarray(v.value)
        margin = np.einsum("cnd,cd->cn", rows, solution) / length
        size = np.linalg.norm(solution, axis=1)
        violated = (margin < -_VIOLATION * np.maximum(size, 1e-3 * size.max(initial=0.0))[:, None]) & ~active
        if not violated.any():
            converged = True
            break
        active |= violated
    return CellSolution(solution, rounds, f"CLARABEL {version('clarabel')}", converged)
