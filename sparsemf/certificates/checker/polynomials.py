"""How far f_A is at least from every network of S atoms beside polynomials of degree ≤ q on data rows: L(S) there.

In s = x − x_1, divided by powers of two, the polynomials are the span V of the monomials D of s (of the columns of x
that vary, equal ones once).  Take D's singular value decomposition UΣVᵀ as computed, the stored C = V Σ⁻¹
and W = DC, which is exact in what follows; Ŵ is W as computed, |Ŵ − W| ≤ (k + 8)u|D||C|.  If every column of C is kept,
or so many as the rank of D (found in whole numbers), W spans V once WᵀW is within δ < ½ of the identity.  With any
numbers z, r = f − Wz and v = Wᵀr,

    min over V of ‖f − p‖² = ‖r‖² − vᵀ(WᵀW)⁻¹v ≥ ‖r‖² − ‖v‖²/(1 − δ),

which is S = 0.  Off V, S atoms Σ φ_s(x)α_s have values of rank ≤ S, so they are at least as far from f as matrices of
that rank are from what is left of f, r − W(WᵀW)⁻¹v; and from r they are at most ‖v‖/√(1 − δ) farther (Eckart–Young):

    ‖f − g‖ ≥ √Σ_{j > S} σ_j(r)² − ‖v‖/√(1 − δ),

with the tails of rᵀr or rrᵀ as :mod:`flattening` verifies them.  From S = the number of outputs on, nothing is proved.
"""

from __future__ import annotations

import numpy as np
from flint import fmpz_mat
from numpy.typing import NDArray

from sparsemf.certificates.checker import evaluate, gated
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.expansion import expanded
from sparsemf.certificates.checker.flattening import trailing
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import Raw

Array = NDArray[np.float64]

_FLOAT = Arithmetic(0)
_U = 2.0**-52
_MOST_NUMBERS = 150_000_000
_MOST_COLUMNS = 400
_MOST_OUTPUTS = 4096
_SMALLEST = 1e-13
_NEAREST = 0.25


def curve(norm: Norm, a: Raw, free: int) -> Array:
    """Lower bounds of the distance from f_A to networks of S = 0 … atoms beside polynomials of degree ≤ ``free``; 0
    where none is proved, and beyond the end."""
    x, nothing = norm.data, np.zeros(1)
    rows, own = x.shape[0], _columns(x) if free > 0 else x[:, :0]
    k = {-1: 0, 0: 1, 1: 1 + own.shape[1], 2: (own.shape[1] + 1) * (own.shape[1] + 2) // 2}[free]
    if rows * k > _MOST_NUMBERS:
        return nothing
    values, error = _values(a, x)
    if not (np.isfinite(values).all() and np.isfinite(error).all()):
        return nothing
    rest, lost, along, delta = values, float(np.linalg.norm(error)), 0.0, 0.0
    if k:
        d = _monomials(_moved(own), free)
        if not np.isfinite(d).all():
            return nothing
        _, size, turn = np.linalg.svd(d, full_matrices=False)
        kept = size > _SMALLEST * size[0]
        c = turn[kept].T / size[kept]
        rank = c.shape[1]
        if rank == rows or (rank < k and rank != _rank(own, free)):
            return nothing
        w = d @ c
        eta = (k + 8) * _U * float(np.linalg.norm(np.abs(d) @ np.abs(c))) * (1 + 1e-9) + 1e-290
        near = float(np.linalg.norm(w.T @ w - np.eye(rank)))
        width = float(np.linalg.norm(w))
        delta = near + (rows + 8) * _U * width**2 + 2 * eta * (width + 1) + eta**2
        z = w.T @ values
        rest = values - w @ z
        lost += eta * float(np.linalg.norm(z))
        lost += (rank + 4) * _U * float(np.linalg.norm(values) + np.linalg.norm(np.abs(w) @ np.abs(z)))
        long = float(np.linalg.norm(rest))
        along = float(np.linalg.norm(w.T @ rest)) + (rows * _U * width + eta) * long + np.sqrt(1 + delta) * lost
        if not delta <= _NEAREST:
            return nothing
    long = float(np.linalg.norm(rest)) * (1 - (rest.size + 8) * _U)
    square = max(long - lost * (1 + 1e-9), 0.0) ** 2 - along**2 * (1 + 1e-9) / (1 - delta)
    if not (square > 0 and np.isfinite(square)):
        return nothing
    found = np.sqrt(_tails(rest)) - (lost + along / np.sqrt(1 - delta)) * (1 + 1e-9)
    found[0] = max(np.sqrt(square), found[0])
    return np.where(found > 0, found, 0.0) / np.sqrt(rows) * (1 - 1e-12)


def _tails(r: Array) -> Array:
    """Lower bounds of Σ_{j > S} σ_j(r)² for S = 0 …; entries of the product xᵀx are right to n·u of |x|ᵀ|x|."""
    x = r if r.shape[0] >= r.shape[1] else r.T
    if not 1 < x.shape[1] <= _MOST_OUTPUTS:
        return np.zeros(1)
    scale = np.exp2(np.floor(np.log2(np.max(np.abs(x)))))
    x = x / scale
    error = (x.shape[0] + 8) * _U * float(np.sum(x * x)) + x.size * 1e-290
    return trailing(x.T @ x, error) * scale**2


def _values(a: Raw, x: Array) -> tuple[Array, Array]:
    """f_A on the rows and a bound of the error of each."""
    with _FLOAT.precision(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if a.gate is None:
            return evaluate.values_at(_FLOAT, expanded(_FLOAT, (a, 1.0)), x)
        return gated.values_at(_FLOAT, gated.expand(_FLOAT, (a, 1.0)), x)


def _columns(x: Array) -> Array:
    """The columns that vary, equal ones once."""
    return np.unique(x[:, (x != x[:1]).any(axis=0)], axis=1)


def _moved(x: Array) -> Array:
    """s: differences from the first row, right to a unit in the last place of themselves, over powers of two."""
    s = x - x[:1]
    largest = np.max(np.abs(s), axis=0, initial=0.0)
    return s / np.exp2(np.floor(np.log2(np.where(largest > 0, largest, 1.0))))


def _monomials(s: Array, free: int) -> Array:
    """D (n, k)."""
    parts = [np.ones((s.shape[0], 1), dtype=s.dtype), s]
    if free > 1:
        i, j = np.triu_indices(s.shape[1])
        parts.append(s[:, i] * s[:, j])
    return np.concatenate(parts, axis=1)


def _rank(x: Array, free: int) -> int:
    """The rank of the monomials of rows that are whole numbers over 2^20, from DᵀD in whole numbers; else −1."""
    whole = x * 2.0**20
    fits = (whole == np.round(whole)) & (np.abs(whole) < 2.0**60)
    if not fits.all() or 1 + x.shape[1] * (x.shape[1] + 3) // 2 > _MOST_COLUMNS:
        return -1
    d = _monomials(whole.astype(np.int64).astype(object), free)
    return int(fmpz_mat((d.T @ d).tolist()).rank())
