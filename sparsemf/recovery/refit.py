"""Convex refit: the best coefficients for given atoms.

min_β ‖f − Σ_s β_s φ_s‖²_⊥ is a convex quadratic program without constraints, β = (G + δ)⁻¹Φ*f with
G = ⟨φ_s, φ_t⟩_⊥; the ridge δ = 1e-14·tr G keeps nearly parallel atoms from blowing β up.  Its optimality
condition Φ*(f − Φβ) = δβ is what the tests check.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from sparsemf.measures import Atoms
from sparsemf.recovery.problem import Dictionary, Problem

Array = NDArray[np.float64]

RIDGE = 1e-14


def factorised(gram: Array) -> Array:
    """The lower Cholesky factor of gram + δ, δ = RIDGE·trace; δ grows where rounding made gram indefinite."""
    trace = float(np.trace(gram))
    shift = RIDGE * trace if trace > 0 else 1.0
    while True:
        try:
            return linalg.cholesky(gram + shift * np.eye(gram.shape[0]), lower=True, check_finite=False)
        except linalg.LinAlgError:
            shift *= 100.0


def solve(gram: Array, image: Array) -> Array:
    """(gram + δ)⁻¹ image, δ = RIDGE·trace."""
    if gram.shape[0] == 0:
        return np.zeros_like(image)
    return linalg.cho_solve((factorised(gram), True), image, check_finite=False)


def refit(problem: Problem, atoms: Atoms) -> Dictionary:
    """The dictionary on ``atoms`` with the best coefficients and its certified error."""
    geometry = problem.geometry
    cross, own = geometry.gram(problem.atoms, atoms), geometry.gram(atoms, atoms)
    beta = solve(own, problem.image_of(atoms, cross))
    low = None if problem.charged is None else problem.charged.image(atoms)
    error = problem.expanded_error(beta, cross, own, geometry.length(atoms), geometry.tail(atoms), low)
    return Dictionary(atoms, beta, error)
