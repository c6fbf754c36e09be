"""Subset selection in the kernel: orthogonal greedy path through the atoms of f itself.

At every step the atom i with the largest ‖⟨φ_i, r⟩‖²/‖φ_i − Πφ_i‖² joins, r the residual and Π the projection on the
atoms already chosen: a pivoted Cholesky factorisation of K whose pivots follow the residual.  Only the chosen columns
of K are formed, V[:, t] = (K[:, j] − V V[j]ᵀ)/√pivot, so the cost is O(n S²) and the memory O(n S).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from sparsemf.recovery.problem import Problem

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Selection:
    """The greedy path: ``order`` (S_max,), the Cholesky factor V (n, S_max), coordinates y = V⁺f (S_max, m), and the
    residual energies after each step (S_max + 1,), as computed (not certified)."""

    order: Integers
    factor: Array
    coordinates: Array
    residual: Array

    def coefficients(self, size: int) -> Array:
        """Best coefficients on the first ``size`` atoms of the path, (size, m)."""
        lower = self.factor[self.order[:size], :size]
        return linalg.solve_triangular(lower, self.coordinates[:size], lower=True, trans=1, check_finite=False)


def select(problem: Problem, limit: int, floor: float) -> Selection:
    """The path until ``limit`` atoms, residual energy ≤ floor, or numerical rank."""
    n, m = problem.n, problem.network.m
    limit = min(limit, n)
    factor = np.zeros((n, limit), order="F")
    coordinates = np.zeros((limit, m))
    correlation, diagonal = problem.image.copy(), problem.diagonal.copy()
    rank_floor = 1e-11 * np.maximum(problem.diagonal, 0.0) + 1e-300
    energy = problem.energy
    residual, order = [energy], []
    gain = np.sum(correlation**2, axis=1)
    for t in range(limit):
        score = np.where(diagonal > rank_floor, gain / np.maximum(diagonal, rank_floor), -1.0)
        j = int(np.argmax(score))
        if score[j] <= 0.0 or energy <= floor:
            break
        column = problem.columns(np.array([j]))[:, 0] - factor[:, :t] @ factor[j, :t]
        v = column / np.sqrt(diagonal[j])
        factor[:, t] = v
        y = correlation[j] / np.sqrt(diagonal[j])
        coordinates[t] = y
        correlation -= np.outer(v, y)
        gain = np.sum(correlation**2, axis=1)
        diagonal = np.maximum(diagonal - v * v, 0.0)
        diagonal[j] = 0.0
        energy = max(energy - float(y @ y), 0.0)
        order.append(j)
        residual.append(energy)
    size = len(order)
    return Selection(np.array(order, dtype=np.int64), factor[:, :size], coordinates[:size], np.array(residual))


def eliminate(problem: Problem, gram: Array, down_to: int) -> Integers | None:
    """Backward elimination: the order in which atoms of f leave, n − down_to of them; None when K is too singular.

    With W = K⁻¹ on the atoms left and β their best coefficients, leaving out atom i and refitting the others raises
    ‖f − Πf‖² by ‖β_i‖²/W_ii (the optimal-brain-surgeon formula, Hassibi & Stork, NeurIPS 1992); then
    β ← β − W_{·i}β_i/W_ii and W ← W − W_{·i}W_{i·}/W_ii.  Where nearly all atoms matter this beats the greedy path.
    """
    n = problem.n
    try:
        factor = linalg.cho_factor(gram, lower=True, check_finite=False)
    except linalg.LinAlgError:
        return None
    pivots = np.diag(factor[0]) ** 2
    if pivots.min() < 1e-9 * pivots.max():
        return None
    inverse = linalg.cho_solve(factor, np.eye(n), check_finite=False)
    beta = problem.network.alpha.copy()
    left, removed = np.arange(n), []
    for _ in range(n - down_to):
        cost = np.sum(beta**2, axis=1) / np.diag(inverse)
        i = int(np.argmin(cost))
        removed.append(int(left[i]))
        column = inverse[:, i] / inverse[i, i]
        beta -= np.outer(column, beta[i])
        keep = np.arange(left.size) != i
        row = inverse[i, keep]
        inverse = inverse[np.ix_(keep, keep)]
        inverse -= np.outer(column[keep], row)
        beta, left = beta[keep], left[keep]
    return np.array(removed, dtype=np.int64)
