"""Certified errors of all beginnings of an ordered dictionary at once.

φ_1 … φ_T in this order, G their Gram matrix, C = ⟨φ_t, f⟩_⊥.  Take *any* upper triangular M (T, T) and Y (T, m): the
first S atoms with the coefficients β_S = M[:S, :S] Y[:S] have exactly

    ‖f − f_S‖² = ‖f‖² − 2 Σ_{t ≤ S} y_t·(MᵀC)_t + Σ_{t, u ≤ S} ⟨y_t, y_u⟩ (MᵀGM)_tu,

so the sums over leading blocks of two arrays give every S; M ≈ L^{−T}, Y ≈ L⁻¹C for G ≈ LLᵀ make β_S the best
coefficients, but nothing depends on how well they do (f with what it charges,
:mod:`~sparsemf.recovery.problem`).  The rounding of γᵀKγ, γ = (α, −β_S), is bounded by the geometry's stated margin
at |γ|ᵀ|K||γ| ≤ mass², three times over for the products with M, where mass_S = Σ‖α_i‖‖φ_i‖ + Σ_{t ≤ S} ‖y_t‖ Σ_i
|M_it|‖φ_i‖ ≥ Σ‖γ_i‖‖φ_i‖.

On data rows the residuals themselves are added up: R_S = f − Σ_{t ≤ S} (ΦM)_t y_tᵀ, row block by row block, and
errors[S] = ‖R_S‖ + share·mass_S (:mod:`~sparsemf.recovery.empirical`) holds for just these coefficients β_S, which are
those of the dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from sparsemf.measures import Atoms
from sparsemf.measures.gaussian import UNIT
from sparsemf.recovery.empirical import EmpiricalGeometry
from sparsemf.recovery.problem import Dictionary, Problem
from sparsemf.recovery.refit import factorised, solve

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Operations that the tighter margins of a path may cost.
_EXPLICIT_WORK = 3e9
_BLOCK = 512


@dataclass(frozen=True, eq=False)
class Nested:
    """An ordered dictionary: its first S atoms come within ``errors[S]`` (certified), S = 0 … T.

    ``index``: the atoms' numbers where they are atoms of f, else None.  Coefficients that the errors belong to, where
    they are not found anew: ``weights`` (M, Y), those of all beginnings, and ``last``, those of all T atoms.
    """

    atoms: Atoms
    errors: Array
    index: Integers | None
    weights: tuple[Array, Array] | None = None
    last: Array | None = None

    def dictionary(self, problem: Problem, size: int) -> Dictionary:
        """The first ``size`` atoms with their best coefficients and certified error."""
        if self.last is not None and size == self.atoms.n:
            return Dictionary(self.atoms, self.last, float(self.errors[size]))
        if self.weights is not None:
            m, y = self.weights
            return Dictionary(self.atoms.take(slice(size)), m[:size, :size] @ y[:size], float(self.errors[size]))
        if self.index is not None:
            return subset(problem, self.index[:size])
        atoms = self.atoms.take(slice(size))
        cross = problem.geometry.gram(problem.atoms, atoms)
        beta = solve(problem.geometry.gram(atoms, atoms), problem.image_of(atoms, cross))
        return Dictionary(atoms, beta, problem.dictionary_error(atoms, beta))


def subset(problem: Problem, index: Integers) -> Dictionary:
    """Some atoms of f with their best coefficients."""
    atoms = problem.atoms.take(index)
    gram = problem.geometry.gram(atoms, atoms) if problem.gram is None else problem.gram[np.ix_(index, index)]
    beta = solve(gram, problem.image[index])
    cross = None if problem.gram is not None else problem.columns(index)
    return Dictionary(atoms, beta, problem.subset_error(index, beta, cross))


def nested(problem: Problem, atoms: Atoms, index: Integers | None = None) -> Nested:
    """Certify the beginnings of ``atoms``, which are the atoms ``index`` of f if that is given.

    The tighter margins of coefficients written out are used at every S if that is cheap, else where margins make up
    2 % of errors², at S ≤ 64, at log-spaced S, and at T.
    """
    if isinstance(problem.geometry, EmpiricalGeometry):
        return _on_rows(problem, problem.geometry, atoms, index)
    cross = None if index is not None else problem.geometry.gram(problem.atoms, atoms)
    image = problem.image[index] if cross is None else problem.image_of(atoms, cross)
    if index is not None and problem.gram is not None:
        gram = problem.gram[np.ix_(index, index)]
    else:
        gram = problem.geometry.gram(atoms, atoms)
    length, tail = problem.geometry.length(atoms), problem.geometry.tail(atoms)
    errors, margin = _errors(problem, gram, image, length, tail)
    if index is not None and problem.gram is None:
        cross = problem.columns(index)
    low = None if problem.charged is None else problem.charged.image(atoms)
    for s in _doubtful(problem, errors, margin, cross is None):
        beta = solve(gram[:s, :s], image[:s])
        if cross is not None:
            own = None if low is None else low[:s]
            found = problem.expanded_error(beta, cross[:, :s], gram[:s, :s], length[:s], tail[:s], own)
        elif index is not None:
            found = problem.subset_error(index[:s], beta)
        else:
            continue
        errors[s] = min(errors[s], found)
    return Nested(atoms, errors, index)


def _on_rows(problem: Problem, geometry: EmpiricalGeometry, atoms: Any, index: Integers | None) -> Nested:
    """:func:`nested` on data: all residuals, written out."""
    features, length, size = geometry.features(atoms), geometry.length(atoms), atoms.n
    gram = features.T @ features if index is None or problem.gram is None else problem.gram[np.ix_(index, index)]
    factor = factorised(gram)
    m = linalg.solve_triangular(factor, np.eye(size), lower=True, check_finite=False).T
    y = linalg.solve_triangular(factor, features.T @ problem.rows, lower=True, check_finite=False)
    square = np.zeros(size + 1)
    for start in range(0, problem.rows.shape[0], _BLOCK):
        rows = slice(start, start + _BLOCK)
        rest, steps = problem.rows[rows].copy(), features[rows] @ m
        square[0] += np.sum(rest**2)
        for t in range(size):
            rest -= np.multiply.outer(steps[:, t], y[t])
            square[t + 1] += np.sum(rest**2)
    grow = np.linalg.norm(y, axis=1) * (length @ np.abs(m))
    mass = problem.mass + np.concatenate([[0.0], np.cumsum(grow)])
    share = geometry.share(problem.n + 2 * size + problem.network.m)
    errors = np.sqrt(square) * (1 + (problem.rows.size + 8) * UNIT) + share * mass
    return Nested(atoms, errors, index, (m, y))


def _doubtful(problem: Problem, errors: Array, margin: Array, whole: bool) -> list[int]:
    """Sizes at which tighter margins are wanted and affordable; ``whole``: each costs a form in all of K."""
    size = errors.size - 1
    cost = size**3 / 6 + 4.0 * problem.n * (problem.n if whole else size) * (problem.network.m + 2)
    affordable = int(_EXPLICIT_WORK / max(cost, 1.0))
    if size <= affordable:
        return list(range(1, size + 1))
    found = np.flatnonzero(margin > 0.02 * errors**2)
    found = found[found > 0]
    if found.size > affordable:
        spaced = np.unique(np.geomspace(64, max(size, 64), max(affordable, 24)).astype(int))
        found = np.intersect1d(found, np.concatenate([np.arange(1, 65), spaced, [size]]))
    return [int(s) for s in found]


def _errors(problem: Problem, gram: Array, image: Array, length: Array, tail: Array) -> tuple[Array, Array]:
    """errors[S] by the sums over leading blocks, and what rounding and tails add to their squares."""
    size = gram.shape[0]
    factor = factorised(gram)
    m = linalg.solve_triangular(factor, np.eye(size), lower=True, check_finite=False).T
    y = linalg.solve_triangular(factor, image, lower=True, check_finite=False)
    linear = np.sum(y * (m.T @ image), axis=1)
    square = (y @ y.T) * (m.T @ (gram @ m))
    # sums over leading blocks: the border of block t is its row and column
    border = 2.0 * np.sum(np.tril(square, -1), axis=1) + np.diag(square)
    form = problem.energy + np.concatenate([[0.0], np.cumsum(border - 2.0 * linear)])
    steps, sizes = np.linalg.norm(y, axis=1), np.abs(m)

    def total(per_atom: Array, own: float) -> Array:
        return own + np.concatenate([[0.0], np.cumsum(steps * (per_atom @ sizes))])

    mass, rest = total(length, problem.mass), total(tail, problem.tail)
    terms = problem.n + 2 * size + 2 * problem.network.m + problem.network.d
    margin = np.array([3.0 * problem.geometry.margin(terms, float(x) ** 2, float(x)) for x in mass])
    margin += rest**2
    return np.sqrt(np.maximum(form, 0.0) + margin), margin
