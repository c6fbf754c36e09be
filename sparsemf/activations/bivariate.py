"""The bivariate normal distribution function, by Owen's T function.

Φ₂(h, k; ρ) = ½Φ(h) + ½Φ(k) − T(h, (k − ρh)/(hq)) − T(k, (h − ρk)/(kq)) − ½·1[hk < 0 or (hk = 0 and h + k < 0)],
q = √(1 − ρ²)  (D. B. Owen, Ann. Math. Statist. 27 (1956), eq. 2.1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

ROOT_2PI = float(np.sqrt(2 * np.pi))


def normal_density(x: Array) -> Array:
    """φ(x)."""
    return np.exp(-0.5 * np.square(x)) / ROOT_2PI


def conditional_slope(h: Array, k: Array, rho: Array, q: Array) -> Array:
    """(k − ρh)/q without cancellation near ρ = ±1; ±inf (or 0 for 0/0) where q = 0."""
    near = np.where(rho >= 0, (k - h) + h * (1.0 - rho), (k + h) - h * (1.0 + rho))
    degenerate = np.where(near == 0, 0.0, np.copysign(np.inf, near))
    return np.divide(near, q, out=degenerate, where=q > 0)


def _owen_term(h: Array, slope: Array) -> Array:
    """T(h, slope/h), with its limits at h = 0."""
    zero = h == 0
    safe = np.where(zero, 1.0, h)
    ratio = np.where(zero, np.copysign(np.inf, slope), slope / safe)
    ratio = np.where(zero & (slope == 0), 0.0, ratio)
    return special.owens_t(h, ratio)


def bivariate_normal_cdf(h: Array, k: Array, rho: Array) -> Array:
    """Φ₂(h, k; ρ) = P(X ≤ h, Y ≤ k) for standard normals of correlation ρ ∈ [−1, 1]; broadcasts."""
    h, k, rho = np.broadcast_arrays(np.asarray(h, float), np.asarray(k, float), np.asarray(rho, float))
    q = np.sqrt((1.0 - rho) * (1.0 + rho))
    product = h * k
    half = 0.5 * ((product < 0) | ((product == 0) & (h + k < 0)))
    value = (
        0.5 * (special.ndtr(h) + special.ndtr(k))
        - _owen_term(h, conditional_slope(h, k, rho, q))
        - _owen_term(k, conditional_slope(k, h, rho, q))
        - half
    )
    # Owen's formula has removable 0/0 at |ρ| = 1 and at h = k = 0; use the exact limits there.
    value = np.where((h == 0) & (k == 0), 0.25 + np.arcsin(rho) / (2 * np.pi), value)
    value = np.where(rho >= 1, special.ndtr(np.minimum(h, k)), value)
    value = np.where(rho <= -1, np.maximum(special.ndtr(h) - special.ndtr(-k), 0.0), value)
    return np.clip(value, 0.0, 1.0)
