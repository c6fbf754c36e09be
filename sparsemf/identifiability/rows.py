"""L(S) on data rows: how far f is from every network of S atoms beside the free polynomials, bounded from below.

Let F (n, m) be the values of f on the rows, V the polynomials of degree ≤ free there, P = I − Π the projection off V.
An atom's values are φ_s α_sᵀ, of rank 1 whatever φ_s is, plain or gated; so for a network g of S atoms, beside anything
in V for every output,

    ‖F − G‖ ≥ ‖P(F − G)‖ ≥ τ_S(PF),   τ_S(X) = √Σ_{j > S} σ_j(X)², the distance from X to the matrices of rank ≤ S

(Eckart–Young).  That is L(S)·√n: for S = 0 the distance of f to V, for S ≥ m nothing.  (What S ≥ m atoms can do on
given rows is not known: they may interpolate.)  Directions are not counted by it: atoms of one direction with several
biases fill several ranks.

*As computed.*  Let B̂ = B + E be the stored basis of :mod:`~sparsemf.measures.polynomials`, V the exact span of B.  For
any stored γ put g = F − Bγ, so PF = g − Πg.  If ‖BᵀB − I‖ ≤ δ < 1, Π = B(BᵀB)⁻¹Bᵀ and ‖Πg‖² ≤ ‖Bᵀg‖²/(1 − δ).
γ = B̂ᵀF makes Bᵀg small, so nothing cancels.  With ĝ the computed residual and UNIT = u,

    ‖g − ĝ‖ ≤ e := ‖(errors of f's values)‖ + η‖γ‖ + (r + 4)u(‖F‖ + ‖|B̂||γ|‖),   ‖E‖_F ≤ η,
    ‖Bᵀg‖ ≤ v := ‖fl(B̂ᵀĝ)‖ + n·u·‖B̂‖_F‖ĝ‖ + η‖ĝ‖ + √(1 + δ)·e,
    δ ≤ defect + 2η(1 + defect) + η²;

    τ_0(PF)² = ‖g‖² − ‖Πg‖² ≥ (‖ĝ‖ − e)² − v²/(1 − δ),      τ_S(PF) ≥ τ_S(ĝ) − e − v/√(1 − δ),

since τ_S is 1-Lipschitz; τ_S(ĝ)² are the verified tails of ĝᵀĝ or ĝĝᵀ (:mod:`.verified`).

On ill-conditioned rows η grows like u·(condition), and the bound falls to 0 where it reaches 1/4.  Where V has
directions that cannot be told from rounding (numerically dependent columns), V is not the span of B and L = 0 -
unless the rank of the monomials is found exactly, as for whole numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsemf.identifiability.lower import LowerCurve
from sparsemf.identifiability.verified import ROUNDOFF, eigenvalues
from sparsemf.measures import Empirical, Network
from sparsemf.measures.functions import evaluation_error
from sparsemf.measures.gaussian import UNIT
from sparsemf.measures.polynomials import Polynomials, beyond

Array = NDArray[np.float64]

_FINEST = 1e-13
_LARGEST = 0.25
_LEAST = 1e-200
"""Of squares; far below, they underflow."""
_MOST_OUTPUTS = 4096
"""Of min(n, m): eigenvalues of a larger matrix are not asked for."""


def lower_on_rows(network: Network, law: Empirical, free: int, n: int, basis: Polynomials | None = None) -> LowerCurve:
    """The lower curve for S = 0 … n; of directions, L(0) alone.  ``basis``: that of the free polynomials, if it is at
    hand.

    Raises :class:`InputError` where there are too many polynomials.
    """
    found = beyond_polynomials(network, law, free, basis)
    atoms, directions = np.zeros(n + 1), np.zeros(n + 1)
    atoms[: found.size] = found[: n + 1]
    directions[0] = atoms[0]
    return LowerCurve(atoms, directions, [], [], 0)


def beyond_polynomials(network: Network, law: Empirical, free: int, basis: Polynomials | None = None) -> Array:
    """L(S) in L²(data) for S = 0 … min(n, m), (1,) where nothing is found beyond S = 0; arguments and errors as for
    :func:`lower_on_rows`."""
    nothing = np.zeros(1)
    basis = Polynomials.of(law.x, free) if basis is None else basis
    if basis.everything:
        return nothing
    if not basis.complete:
        basis = Polynomials.of(law.x, free, _FINEST)
        if basis.everything or not basis.complete:
            return nothing
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
    if not (delta <= _LARGEST and np.isfinite(left)) or left <= _LEAST:
        return nothing
    tails = np.sqrt(_tails(rest)) - (lost + along / np.sqrt(1 - delta)) * (1 + 1e-12)
    tails[0] = max(np.sqrt(left), tails[0])
    return np.sqrt(1.0 / rows) * np.maximum(tails, 0.0) * (1 - 1e-14)


def _tails(rest: Array) -> Array:
    """Lower bounds of τ_S(ĝ)² for S = 0 … min(n, m); (1,) where that is 1 or too large a matrix.

    fl(XᵀX) is within γ‖X‖² of XᵀX, entry by entry γ_n|X|ᵀ|X|.
    """
    x = rest if rest.shape[0] >= rest.shape[1] else rest.T
    if not 1 < x.shape[1] <= _MOST_OUTPUTS:
        return np.zeros(1)
    # powers of two change no digit, and keep squares inside the range of numbers
    scale = np.exp2(np.round(np.log2(np.max(np.abs(x)))))
    x = x / scale
    error = (x.shape[0] + 2) * ROUNDOFF * float(np.sum(x * x)) * (1 + 1e-9) + x.size * 1e-300
    return eigenvalues(x.T @ x, error).tails(x.shape[1]) * scale**2
