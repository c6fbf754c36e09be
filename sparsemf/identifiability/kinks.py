"""The variation norm of a polynomial ridge function over relu atoms, bounded from above.

For h(t) = Σ_k γ_k he_k(t) of one variable g ~ N(0, 1), Taylor's formula with the remainder as an integral reads

    h(t) = affine + ∫ h″(s)·relu(t − s) ds       (for s < 0 with relu(s − t), the same beyond affine functions),

so a sum of ridge functions Σ_j h_j(⟨u_j, x⟩) is affine plus an integral of relu atoms of mass

    B = Σ_j ∫ ‖h_j″(s)‖·ρ(s) ds,   ρ(s) = ‖relu(g − s)‖_⊥,

in the gauge of normalised atoms; Maurey then gives networks of n relu atoms within √((B² − ‖f‖²_⊥)/n) of f.

The integral is bounded rigorously, up to rounding that is charged: on a cell |s − c| ≤ w the polynomial h″ is at most
Σ_i |h^{(2+i)}(c)| wⁱ/i! (its exact Taylor expansion).  ρ is even, and for t ≥ 0, Q = Φ(−t),
(ρ²)′ = −2[φ(1 − 2Q) − tQ(1 − Q)] lies within ±2φ(t) since tQ ≤ φ; so ρ(s)² ≤ ρ(c)² + 2wφ(|c| − w) on the cell (φ(0)
where |c| < w).  Beyond |s| = L, ρ(s)² ≤ E relu(g − |s|)² ≤ ½e^{−s²/2}, and |h″(s)| ≤ Σ a_i |s|^i is integrated against
e^{−s²/4} in closed form.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial import hermite_e, polynomial
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sparsemf.measures.gaussian import UNIT

Array = NDArray[np.float64]

_LIMIT = 16.0
_MOST_DEGREE = 24


def ridge_variation(coefficients: ArrayLike, cells: int = 16_000) -> float:
    """B ≥ variation norm over normalised relu atoms of Σ_j Σ_k γ_jk he_k(⟨u_j, x⟩), any unit vectors u_j.

    ``coefficients`` γ are (n, K + 1) or, with several outputs, (n, K + 1, m); K ≤ 24, beyond which float64 monomials
    of h″ lose too much (ValueError).
    """
    gamma = np.asarray(coefficients, dtype=np.float64)
    gamma = gamma[:, :, None] if gamma.ndim == 2 else gamma
    degree = gamma.shape[1] - 1
    if degree > _MOST_DEGREE:
        raise ValueError(f"expected a degree of at most {_MOST_DEGREE}, got {degree}")
    if degree < 2:
        return 0.0
    width = _LIMIT / (2 * (cells // 2))
    centre = np.asarray(width * (2 * np.arange(-(cells // 2), cells // 2) + 1), dtype=np.float64)
    nearest = np.maximum(np.abs(centre) - width, 0.0)
    slope = 2 * width * np.exp(-0.5 * nearest**2) / np.sqrt(2 * np.pi)
    radius = np.sqrt(relu_length(centre) ** 2 + slope) * (1 + 64 * UNIT)
    pieces = []
    for ridge in gamma:
        sizes, absolute = [], np.zeros(degree - 1)
        for output in ridge.T:
            second, bound = _second_derivative(output)
            sizes.append(_cell_maximum(second, bound, centre, width))
            absolute += bound
        size = np.linalg.norm(np.stack(sizes), axis=0)
        inner = math.fsum((size * radius).tolist()) * 2 * width
        pieces.append((inner + _beyond(absolute)) * (1 + 64 * UNIT))
    return math.fsum(pieces) * (1 + 4 * UNIT)


def relu_length(s: Array) -> Array:
    """Upper bounds of ρ(s) = ‖relu(g − s)‖_⊥, elementwise; even in s.

    ρ² = (1 + t²)Φ(−t) − tφ(t) − (φ(t) − tΦ(−t))² − Φ(−t)², t = |s|; each term is at most φ(t)(1 + t)² and its rounding
    64 units of that.
    """
    t = np.abs(np.asarray(s, dtype=np.float64))
    density, upper = np.exp(-0.5 * t * t) / np.sqrt(2 * np.pi), special.ndtr(-t)
    square = (1 + t * t) * upper - t * density - (density - t * upper) ** 2 - upper**2
    return np.sqrt(np.maximum(square, 0.0) + 256 * UNIT * density * (1 + t) ** 2) * (1 + 8 * UNIT)


def _second_derivative(gamma: Array) -> tuple[Array, Array]:
    """Monomial coefficients a of h″, shape (K − 1,), and the sums of absolute values that they are made of.

    he_k″ = √(k(k − 1))·he_{k−2}; the second array bounds |a| and scales the rounding of a.
    """
    k = np.arange(2, gamma.size)
    weights = gamma[2:] * np.sqrt(k * (k - 1.0)) / np.sqrt(special.factorial(k - 2))
    basis = np.zeros((k.size, k.size))
    for row in range(k.size):
        basis[row, : row + 1] = hermite_e.herme2poly(np.eye(k.size)[row])[: row + 1]
    return weights @ basis, np.abs(weights) @ np.abs(basis) * (1 + 64 * UNIT)


def _cell_maximum(second: Array, bound: Array, centre: Array, width: float) -> Array:
    """Σ_i |h^{(2+i)}(c)| wⁱ/i! plus the rounding of coefficients and of Horner's rule, for every centre."""
    total, derivative = np.zeros(centre.size), second
    reach = np.abs(centre) + width
    for i in range(second.size):
        total += np.abs(polynomial.polyval(centre, derivative)) * width**i / math.factorial(i)
        if derivative.size > 1:
            derivative = polynomial.polyder(derivative)
    # Σ_i of the absolute Taylor expansions at |c| is the absolute polynomial at |c| + w
    return total + 8 * (second.size + 4) ** 2 * UNIT * polynomial.polyval(reach, bound)


def _beyond(absolute: Array) -> float:
    """2∫_L^∞ Σ a_i s^i·e^{−s²/4}/√2 ds = √2 Σ a_i 2^i Γ((i + 1)/2, L²/4)."""
    i = np.arange(absolute.size)
    half = 0.5 * (i + 1)
    terms = absolute * 2.0**i * special.gamma(half) * special.gammaincc(half, _LIMIT**2 / 4)
    return float(np.sum(terms)) * math.sqrt(2.0) * (1 + 1e-6)
