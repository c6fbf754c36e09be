"""L(0) on data rows: how far f is from the free polynomials, bounded from below.

With S = 0 atoms nothing but V, the polynomials of degree ≤ free on the n rows, is left, so L(0) = dist(f, V) - a finite
least-squares problem.  (For S ≥ 1 no bound is known: a rank says nothing about values on given rows, and S atoms may
interpolate.)  Let B̂ = B + E be the stored basis of :mod:`~sparsemf.measures.polynomials`, V the exact span of B.  For
any stored γ put g = f − Bγ ∈ f + V.  If ‖BᵀB − I‖ ≤ δ < 1, the projection Π on V is B(BᵀB)⁻¹Bᵀ, hence

    dist(f, V)² = ‖g‖² − ‖Πg‖² ≥ ‖g‖² − ‖Bᵀg‖²/(1 − δ).

γ = B̂ᵀf makes Bᵀg small, so nothing cancels.  With ĝ the computed residual and UNIT = u,

    ‖g − ĝ‖ ≤ e := ‖(errors of f's values)‖ + η‖γ‖ + (r + 4)u(‖f‖ + ‖|B̂||γ|‖),   ‖E‖_F ≤ η,
    ‖Bᵀg‖ ≤ ‖fl(B̂ᵀĝ)‖ + n·u·‖B̂‖_F‖ĝ‖ + η‖ĝ‖ + √(1 + δ)·e,
    δ ≤ defect + 2η(1 + defect) + η².

On ill-conditioned rows η grows like u·(condition), and the bound falls to 0 where it reaches 1/4.  Where V has
directions that cannot be told from rounding (numerically dependent columns), V is not the span of B and L(0) = 0 -
unless the rank of the monomials is found exactly, as for whole numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsemf.identifiability.lower import LowerCurve
from sparsemf.measures import Empirical, Network
from sparsemf.measures.functions import evaluation_error
from sparsemf.measures.gaussian import UNIT
from sparsemf.measures.polynomials import Polynomials, beyond

Array = NDArray[np.float64]

_FINEST = 1e-13
_LARGEST = 0.25


def beyond_polynomials(network: Network, law: Empirical, free: int, basis: Polynomials | None = None) -> float:
    """A certified lower bound of the distance, in L²(data), of f to the polynomials of degree ≤ ``free``; 0 where
    none is found.  ``basis``: that of these polynomials, if it is at hand.

    Raises :class:`InputError` where there are too many polynomials.
    """
    basis = Polynomials.of(law.x, free) if basis is None else basis
    if basis.everything:
        return 0.0
    if not basis.complete:
        basis = Polynomials.of(law.x, free, _FINEST)
        if basis.everything or not basis.complete:
            return 0.0
    f = beyond(network, free)  # polynomials in V change nothing
    with np.errstate(over="ignore", invalid="ignore"):
        rows, values = law.x.shape[0], f(law.x)
        gamma = basis.basis.T @ values
        rest = values - basis.basis @ gamma
        eta, defect = basis.rounding, basis.defect
        delta = defect + 2 * eta * (1 + defect) + eta**2
        size, length = float(np.linalg.norm(rest)), float(np.linalg.norm(gamma))
        spread = float(np.linalg.norm(values)) + float(np.linalg.norm(np.abs(basis.basis) @ np.abs(gamma)))
        lost = float(np.linalg.norm(evaluation_error(f, law.x))) + eta * length + (basis.rank + 4) * UNIT * spread
        along = float(np.linalg.norm(basis.basis.T @ rest)) + rows * UNIT * float(np.linalg.norm(basis.basis)) * size
        along += eta * size + np.sqrt(1 + delta) * lost
        whole = max(size * (1 - (rest.size + 8) * UNIT) - lost, 0.0) ** 2
        left = whole - along**2 * (1 + 1e-12) / (1 - min(delta, 0.5))
    if not (delta <= _LARGEST and np.isfinite(left)) or left <= 0:
        return 0.0
    return float(np.sqrt(left / rows)) * (1 - 1e-14)


def without_atoms(found: float, n: int) -> LowerCurve:
    """The lower curve L(0) = ``found``, L(S) = 0 for S = 1 … n; without atoms there are no directions either."""
    curve = np.zeros(n + 1)
    curve[0] = found
    return LowerCurve(curve, curve.copy(), [], [], 0)
