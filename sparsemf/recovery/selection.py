"""Subset selection in the kernel, forwards and backwards, in blocked form.

*Forwards* (orthogonal least squares): at every step the atom with the largest ‖⟨φ_i, r⟩‖²/‖φ_i − Πφ_i‖² joins, r the
residual of f and Π the projection on the atoms already chosen.  With K_⊥ = K − VVᵀ, C_⊥ = C − VY its pivot j gives

    v = K_⊥[:, j]/√K_⊥[j, j],   y = C_⊥[j]/√K_⊥[j, j],   K_⊥ ← K_⊥ − vvᵀ,   C_⊥ ← C_⊥ − v yᵀ,

a pivoted Cholesky factorisation whose pivots follow the residual.  *Backwards* (optimal brain surgeon, Hassibi & Stork,
NeurIPS 1992): leaving out atom i and refitting the others raises ‖f − Πf‖² by ‖β_i‖²/W_ii, W = K⁻¹, and then W and β
change by the very same formulas: the same factorisation of W, with the smallest score as pivot.

Both are run on one routine that keeps K_⊥ up to date in blocks of steps (one matrix product a block), so a path through
all n atoms costs O(n³) at the speed of matrix products.  Where K is too large to keep, columns are formed in batches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from sparsemf.measures import Atoms
from sparsemf.recovery.problem import Problem
from sparsemf.recovery.refit import factorised

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_BLOCK = 48
#: An atom whose part off the chosen ones is below this share of its own energy adds nothing but rounding.
_RANK = 1e-11
#: Without K: so many columns at a time, and within a batch pivots may fall short of the best by this factor.
_BATCH = 64
_WEAK = 0.9


def _pivots(matrix: Array, vectors: Array, count: int, largest: bool, least: Array, floor: float) -> Integers:
    """Pivots of the factorisation above, at most ``count``; overwrites ``matrix`` and ``vectors``.

    Rows whose diagonal has fallen to ``least`` are out.  Forwards (``largest``) the path ends when ‖C_⊥‖-explained
    energy reaches ``floor`` (the energy to be explained, as a sum of the gains).
    """
    (gemm,) = linalg.get_blas_funcs(("gemm",), (matrix,))
    names = np.arange(matrix.shape[0])
    order: list[int] = []
    explained = 0.0
    while len(order) < count:
        size = names.size
        v, y = np.zeros((size, _BLOCK), order="F"), np.zeros((_BLOCK, vectors.shape[1]))
        diagonal = np.diag(matrix).copy()
        gain = np.sum(vectors**2, axis=1)
        live = diagonal > least
        t = 0
        while t < _BLOCK and len(order) < count:
            score = np.where(live, gain, -np.inf if largest else np.inf)
            np.divide(score, diagonal, out=score, where=live)
            j = int(np.argmax(score) if largest else np.argmin(score))
            if not live[j] or (largest and (score[j] <= 0.0 or explained >= floor)):
                count = len(order)
                break
            root = np.sqrt(diagonal[j])
            column = (matrix[j] - v[:, :t] @ v[j, :t]) / root
            row = (vectors[j] - v[j, :t] @ y[:t]) / root
            inner = vectors @ row - v[:, :t] @ (y[:t] @ row)
            square = float(row @ row)
            gain = np.maximum(gain - 2.0 * column * inner + column**2 * square, 0.0)
            diagonal -= column**2
            v[:, t], y[t] = column, row
            live &= diagonal > least
            live[j] = False
            explained += square
            order.append(int(names[j]))
            t += 1
        if len(order) >= count:
            break
        kept = np.flatnonzero(live)
        if not kept.size:
            break
        if kept.size < 0.85 * size:
            names, least = names[kept], least[kept]
            matrix, vectors, v = matrix[np.ix_(kept, kept)], vectors[kept], np.asfortranarray(v[kept])
        else:
            least = np.where(live, least, np.inf)
        matrix = gemm(-1.0, v, v, 1.0, matrix.T, trans_b=True, overwrite_c=True).T
        vectors -= v @ y
    return np.array(order, dtype=np.int64)


def forward(problem: Problem, count: int, floor: float, base: Atoms | None = None) -> Integers:
    """Up to ``count`` atoms of f in the order in which they join ``base`` (nothing by default).

    Ends at a residual energy ≤ ``floor``, or at numerical rank.
    """
    least = _RANK * np.maximum(problem.diagonal, 0.0) + 1e-300
    if problem.gram is None:
        return _forward_in_batches(problem, count, floor, least)
    matrix, vectors, energy = problem.gram.copy(), problem.image.copy(), problem.energy
    if base is not None and base.n:
        cross = problem.geometry.gram(problem.atoms, base)
        factor = factorised(problem.geometry.gram(base, base))
        v = linalg.solve_triangular(factor, cross.T, lower=True, check_finite=False).T
        y = linalg.solve_triangular(factor, problem.image_of(base, cross), lower=True, check_finite=False)
        matrix -= v @ v.T
        vectors -= v @ y
        energy -= float(np.sum(y**2))
    return _pivots(matrix, vectors, min(count, problem.n), True, least, energy - floor)


def _forward_in_batches(problem: Problem, count: int, floor: float, least: Array) -> Integers:
    """The forward path without K: the columns of the best atoms are formed together, and pivots taken from among them
    while the best one's score is at least 0.9 of the best of all."""
    n, m = problem.n, problem.network.m
    count = min(count, n)
    v, y = np.zeros((n, count), order="F"), np.zeros((count, m))
    correlation, diagonal = problem.image.copy(), problem.diagonal.copy()
    gain = np.sum(correlation**2, axis=1)
    energy, order = problem.energy, []
    while len(order) < count and energy > floor:
        score = np.where(diagonal > least, gain / np.maximum(diagonal, least), -1.0)
        batch = np.argsort(-score, kind="stable")[:_BATCH]
        if score[batch[0]] <= 0.0:
            break
        t = len(order)
        columns = problem.columns(batch) - v[:, :t] @ v[batch, :t].T
        while len(order) < count and energy > floor:
            score = np.where(diagonal > least, gain / np.maximum(diagonal, least), -1.0)
            best = int(np.argmax(score[batch]))
            j = int(batch[best])
            if score[j] <= 0.0 or score[j] < _WEAK * float(score.max()):
                break
            t = len(order)
            v[:, t] = columns[:, best] / np.sqrt(diagonal[j])
            y[t] = correlation[j] / np.sqrt(diagonal[j])
            columns -= np.outer(v[:, t], v[batch, t])
            correlation -= np.outer(v[:, t], y[t])
            gain = np.sum(correlation**2, axis=1)
            diagonal = np.maximum(diagonal - v[:, t] ** 2, 0.0)
            diagonal[j] = 0.0
            energy -= float(y[t] @ y[t])
            order.append(j)
    return np.array(order, dtype=np.int64)


def backward(gram: Array, image: Array, down_to: int) -> Integers:
    """Atoms of a dictionary (inner products ``gram``, ⟨φ_s, f⟩ = ``image``) in an order all whose beginnings of at
    least ``down_to`` atoms are what backward elimination leaves.

    Elimination of atoms that the others all but span is what it does first, so a ridge of 1e-14·trace does no harm.
    """
    n = gram.shape[0]
    factor = factorised(gram)
    inverse = linalg.cho_solve((factor, True), np.eye(n), check_finite=False)
    beta = linalg.cho_solve((factor, True), image, check_finite=False)
    removed = _pivots(inverse, beta, n - down_to, False, np.zeros(n), np.inf)
    stay = np.setdiff1d(np.arange(n), removed)
    return np.concatenate([stay, removed[::-1]])
