"""Signs by HIGHS: proposals only, whatever it answers is verified in exact arithmetic by the caller.

- signs: s ∈ {−1, 1}^n, Σ s_j v_j = T;
- one shared hyperplane: Σ_j s_j v_j + Σ_j δ_j u_j = T, |δ_j| ≤ M y_j, Σ y_j ≤ 1, y ∈ {0, 1}^n;
- separation: maximise ⟨T, y⟩ − Σ_j t_j subject to |⟨v_j, y⟩| ≤ t_j, |y| ≤ 1: positive where no signs, not even signs
  between −1 and 1, exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = Sequence[Sequence[float]]

SECONDS = 5.0
_MOST_NUMBERS = 60_000


def propose(steps: Rows, total: Sequence[float], directions: Rows | None) -> tuple[list[int], int | None] | None:
    """(signs, shared hyperplane or None) that satisfy the equations to a solver's tolerance."""
    v, goal, scale = _scaled(steps, total)
    n = v.shape[0]
    if not 0 < v.size <= _MOST_NUMBERS:
        return None
    # s = 2b − 1
    equations, right = 2 * v.T, goal + v.sum(axis=0)
    if directions is None:
        solution = _milp(np.zeros(n), np.ones(n), np.ones(n), [(equations, right, right)])
        return None if solution is None else ([int(2 * round(b) - 1) for b in solution], None)
    u = np.array(directions) / scale
    most = float(np.abs(goal).sum() + np.abs(v).sum())
    bound = most / np.max(np.abs(u), axis=1)
    none, eye = np.zeros((n, n)), np.eye(n)
    # variables b, δ, y
    solution = _milp(
        np.concatenate([np.zeros(2 * n), np.ones(n)]),
        np.concatenate([np.ones(n), np.zeros(n), np.ones(n)]),
        np.concatenate([np.ones(n), bound, np.ones(n)]),
        [
            (np.concatenate([equations, u.T, np.zeros((v.shape[1], n))], axis=1), right, right),
            (np.concatenate([none, eye, -np.diag(bound)], axis=1), -np.inf, 0.0),
            (np.concatenate([none, -eye, -np.diag(bound)], axis=1), -np.inf, 0.0),
            (np.concatenate([np.zeros((1, 2 * n)), np.ones((1, n))], axis=1), -np.inf, 1.0),
        ],
        np.concatenate([np.zeros(n), -bound, np.zeros(n)]),
    )
    if solution is None:
        return None
    signs = [int(2 * round(b) - 1) for b in solution[:n]]
    shared = int(np.argmax(solution[2 * n :]))
    if solution[2 * n + shared] < 0.5:
        return signs, None
    signs[shared] = 0
    return signs, shared


def separating(steps: Rows, total: Sequence[float]) -> list[float] | None:
    """A direction y in which T is longer than all signs can make it, or None."""
    from scipy.optimize import linprog

    v, goal, scale = _scaled(steps, total)
    n, d = v.shape
    if not 0 < v.size <= _MOST_NUMBERS:
        return None
    solved = linprog(
        np.concatenate([-goal, np.ones(n)]),
        A_ub=np.block([[v, -np.eye(n)], [-v, -np.eye(n)]]),
        b_ub=np.zeros(2 * n),
        bounds=[(-1, 1)] * d + [(0, None)] * n,
        method="highs",
        options={"time_limit": SECONDS},
    )
    if solved.x is None or solved.fun >= 0:
        return None
    return (solved.x[:d] / scale).tolist()


def _scaled(steps: Rows, total: Sequence[float]) -> tuple[Array, Array, Array]:
    """Every coordinate divided by its largest entry."""
    v, goal = np.array(steps, dtype=np.float64).reshape(len(steps), len(total)), np.array(total, dtype=np.float64)
    scale = np.maximum(np.max(np.abs(v), axis=0, initial=0.0), np.abs(goal))
    scale = np.where(scale > 0, scale, 1.0)
    return v / scale, goal / scale, scale


def _milp(
    cost: Array, integral: Array, upper: Array, constraints: list[tuple[Array, Any, Any]], lower: Array | None = None
) -> Array | None:
    from scipy.optimize import Bounds, LinearConstraint, milp

    limits: Any = (np.zeros_like(upper) if lower is None else lower, upper)
    solved = milp(
        cost,
        integrality=integral,
        bounds=Bounds(*limits),
        constraints=[LinearConstraint(a, low, high) for a, low, high in constraints],
        options={"time_limit": SECONDS},
    )
    return None if solved.x is None else solved.x
