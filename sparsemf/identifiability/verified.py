"""Verified tails: lower bounds of Σ_{j > S} λ_j for positive semi-definite matrices known as a product and to an error.

**Claim.**  Let H be symmetric positive semi-definite, Ĥ symmetric with ‖H − Ĥ‖_F ≤ e, and V̂, Λ̂ any matrices -
whatever an eigensolver returned.  With Λ₊ = max(Λ̂, 0), R = Ĥ − V̂Λ₊V̂ᵀ and ‖V̂ᵀV̂ − I‖₂ ≤ δ < 1, for every S

    Σ_{j > S} λ_j(H) ≥ (1 − δ)·Σ_{j > S} Λ₊_j − √r·(‖R‖_F + e).

*Proof.*  The nonzero eigenvalues of V̂Λ₊V̂ᵀ are those of Λ₊^{½}V̂ᵀV̂Λ₊^{½} ⪰ (1 − δ)Λ₊, so λ_j(V̂Λ₊V̂ᵀ) ≥ (1 − δ)Λ₊_j
(Weyl's monotonicity).  Adding a symmetric E lowers a sum of trailing eigenvalues by at most Σ|λ_j(E)| ≤ √r‖E‖_F: the
sum of the S largest is convex and positively homogeneous (Ky Fan).  ∎

R, V̂ᵀV̂ − I and the sums are computed in float64; their rounding is bounded a priori and charged,
‖fl(XYᵀ) − XYᵀ‖_F ≤ γ_r·Σ_k‖x_k‖‖y_k‖ over the columns (Higham, *Accuracy and Stability*, §3.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Array = NDArray[np.float64]

ROUNDOFF = 2.0**-53
"""u."""


@dataclass(frozen=True, eq=False)
class Eigenvalues:
    """Λ₊ in descending order, and what the claim above takes off: a factor ``shrink`` = 1 − δ and ``margin``."""

    values: Array
    shrink: float
    margin: float

    def tails(self, n: int) -> Array:
        """Lower bounds of Σ_{j > S} λ_j for S = 0 … n."""
        left = np.zeros(n + 1)
        suffix = np.cumsum(self.values[::-1])[::-1][: n + 1]
        left[: suffix.size] = np.maximum(self.shrink * suffix - self.margin, 0.0)
        return left


def eigenvalues(h: Array, error: float) -> Eigenvalues:
    """The eigenvalues of the matrix that ``h`` (r, r) is within ``error`` (Frobenius) of, from below."""
    r = h.shape[0]
    if r == 0:
        return Eigenvalues(np.zeros(0), 1.0, error)
    h = 0.5 * (h + h.T)
    values, vectors = linalg.eigh(h, check_finite=False)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    length = np.sqrt(np.sum(vectors**2, axis=0))
    rest = h - (vectors * values) @ vectors.T
    size = float(np.linalg.norm(h))
    # Λ₊V̂ rounds once, the product r times, the difference and the symmetrisation once each
    lost = (r + 4) * ROUNDOFF * float(values @ length**2) + 4 * ROUNDOFF * size
    off = vectors.T @ vectors
    off[np.diag_indices(r)] -= 1.0
    delta = float(np.linalg.norm(off)) + (r + 2) * ROUNDOFF * float(np.sum(length**2))
    residual = (float(np.linalg.norm(rest)) + lost) * (1 + (r * r + 8) * ROUNDOFF)
    shrink = max(1.0 - delta - (r + 16) * ROUNDOFF, 0.0)
    return Eigenvalues(values, shrink, float(np.sqrt(r)) * (residual + error) * (1 + 1e-12))
