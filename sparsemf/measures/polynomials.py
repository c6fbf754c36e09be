"""The polynomials that are free beside atoms, as functions on data rows.

On n rows x the polynomials of degree ≤ q form a space V ⊂ R^n.  In t_i = (x_i − μ_i)/2^{e_i} (columns that do not vary,
or repeat another one, add nothing and are left out) V is spanned by the monomials D = [1, t_i, t_i t_j] (n, k).  A
*stored* matrix C (k, r) names r of its elements, B = DC, which are orthonormal up to rounding:

    B̂ = B + E,   |E| ≤ (k + 8)u·|D||C|,   ‖B̂ᵀB̂ − I‖_F ≤ defect,

with u = UNIT: differences x − μ, powers of two and products are right to a few units in the last place of themselves,
whatever the condition of D.  Written out in x (A, c, Q), coefficients round by the monomials of (|x_i| + |μ_i|)/2^{e_i}
in place of |t_i|, which is what :attr:`Polynomials.error` allows for.

B comes from the Cholesky factor of DᵀD, corrected once, or where that is not definite to 1e-12 from the singular value
decomposition, without the directions below ``smallest`` of the largest.  Where none was left out, V is the span of B
(:attr:`Polynomials.complete`); else where r is the rank of D, which is found exactly for whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from sparsemf.exceptions import InputError
from sparsemf.measures.gaussian import UNIT
from sparsemf.measures.network import Network

Array = NDArray[np.float64]

MOST_NUMBERS = 150_000_000
"""Monomials × rows that are formed at most."""
SMALLEST = 1e-8
_DEFINITE = 1e-12
_WHOLE = 2.0**20
_EXACT_COLUMNS = 400
_ROWS = 1024


def count(d: int, free: int) -> int:
    """How many monomials of degree ≤ ``free`` ∈ {−1, 0, 1, 2} there are in d variables."""
    return {-1: 0, 0: 1, 1: d + 1, 2: (d + 1) * (d + 2) // 2}[free]


@dataclass(frozen=True, eq=False)
class Polynomials:
    """An orthonormal basis of the polynomials of degree ≤ ``free`` on the rows ``x`` (n, d).

    ``columns``: those of x that vary and do not repeat; ``shift``, ``scale`` (d′,) make t of them; ``coefficients``: C
    (k, r); ``basis``: B̂ (n, r).
    """

    x: Array
    free: int
    columns: NDArray[np.intp]
    shift: Array
    scale: Array
    coefficients: Array = field(repr=False)
    basis: Array = field(repr=False)
    monomials: int

    @staticmethod
    def of(x: Array, free: int, smallest: float = SMALLEST) -> Polynomials:
        """Raises :class:`InputError` where there are too many to be formed."""
        columns = _varying(x) if free > 0 else np.zeros(0, dtype=np.intp)
        k = count(columns.size, free)
        if x.shape[0] * k > MOST_NUMBERS:
            raise InputError(
                f"data rows: expected at most {MOST_NUMBERS // max(x.shape[0], 1)} polynomials of degree ≤ {free} on "
                f"{x.shape[0]} rows, got {k}; use --affine charged, or fewer rows"
            )
        part = x[:, columns]
        shift = 0.5 * (part.min(axis=0, initial=np.inf) + part.max(axis=0, initial=-np.inf))
        spread = np.sqrt(np.mean((part - shift) ** 2, axis=0))
        scale = np.exp2(np.round(np.log2(np.maximum(spread, 1e-150))))
        made = Polynomials(x, free, columns, shift, scale, np.zeros((k, 0)), np.zeros((x.shape[0], 0)), k)
        if k == 0:
            return made
        design = made.design(slice(None))
        coefficients = _orthonormal(design, smallest)
        return Polynomials(x, free, columns, shift, scale, coefficients, design @ coefficients, k)

    @property
    def rank(self) -> int:
        """r."""
        return self.coefficients.shape[1]

    @property
    def everything(self) -> bool:
        """Whether every function on the rows is such a polynomial (as computed)."""
        return self.rank == self.x.shape[0]

    @cached_property
    def complete(self) -> bool:
        """Whether the span of B is V for certain."""
        if self.rank == self.monomials:
            return True
        return self.rank == _exact_rank(self.x[:, self.columns], self.free)

    def design(self, rows: slice, magnitude: bool = False) -> Array:
        """D on some rows; ``magnitude``: the monomials of (|x| + |μ|)/2^e, which bound what writing out in x rounds."""
        part = self.x[rows][:, self.columns]
        t = (np.abs(part) + np.abs(self.shift) if magnitude else part - self.shift) / self.scale
        parts = [np.ones((t.shape[0], 1)), t] if self.free > 0 else [np.ones((t.shape[0], int(self.free == 0)))]
        if self.free > 1:
            i, j = np.triu_indices(self.columns.size)
            parts.append(t[:, i] * t[:, j])
        return np.concatenate(parts, axis=1)

    @cached_property
    def defect(self) -> float:
        """≥ ‖B̂ᵀB̂ − I‖_F."""
        found = float(np.linalg.norm(self.basis.T @ self.basis - np.eye(self.rank)))
        return found + (self.x.shape[0] + 8) * UNIT * self.rank * 1.01

    @cached_property
    def rounding(self) -> float:
        """≥ ‖B̂ − B‖_F."""
        return self._product(False)

    @cached_property
    def error(self) -> float:
        """‖q̂ − B̂γ‖ ≤ error·‖γ‖ for the polynomial q̂ that :meth:`written` makes of γ, evaluated exactly or by a sum."""
        return self._product(True)

    def _product(self, magnitude: bool) -> float:
        """(k + 16)u·‖|D||C|‖_F."""
        size, total = np.abs(self.coefficients), 0.0
        for start in range(0, self.x.shape[0] if self.rank else 0, _ROWS):
            design = np.abs(self.design(slice(start, start + _ROWS), magnitude))
            total += float(np.sum((design @ size) ** 2))
        return (self.monomials + 16) * UNIT * float(np.sqrt(total)) * (1 + 1e-10)

    def without(self, values: Array) -> Array:
        """(I − B̂B̂ᵀ) applied to columns (n, ·); exactly 0 where everything is free."""
        if self.everything:
            return np.zeros_like(values)
        return values - self.basis @ (self.basis.T @ values) if self.rank else values.copy()

    def written(self, gamma: Array) -> tuple[Array, Array, Array | None]:
        """(A, c, Q) of the polynomial with coefficients γ (r, m) in the basis; Q is None unless ``free`` = 2."""
        a, d, m = self.coefficients @ gamma, self.x.shape[1], gamma.shape[1]
        affine, offset, form = np.zeros((m, d)), np.zeros(m), None
        own = self.columns.size
        if self.free >= 0:
            offset = a[0].copy()
        if self.free >= 1:
            slope = a[1 : 1 + own].T / self.scale
            offset -= slope @ self.shift
            affine[:, self.columns] = slope
        if self.free >= 2:
            i, j = np.triu_indices(own)
            part = np.zeros((m, own, own))
            part[:, i, j] = 0.5 * a[1 + own :].T
            part = (part + part.transpose(0, 2, 1)) / np.multiply.outer(self.scale, self.scale)
            pulled = part @ self.shift
            affine[:, self.columns] -= 2.0 * pulled
            offset += pulled @ self.shift
            form = np.zeros((m, d, d))
            form[:, self.columns[:, None], self.columns] = part
        return affine, offset, form


def beyond(network: Network, free: int) -> Network:
    """The network without its own polynomial part of degree ≤ ``free``."""
    changes = {}
    if free >= 0:
        changes["offset"] = np.zeros(network.m)
    if free >= 1:
        changes["affine"] = np.zeros_like(network.affine)
    if free >= 2:
        changes["quadratic"] = None
    return network.with_(**changes) if changes else network


def _varying(x: Array) -> NDArray[np.intp]:
    """The columns that vary, each of them once."""
    varying = np.flatnonzero((x != x[:1]).any(axis=0))
    seen: dict[bytes, int] = {}
    for column in varying.tolist():
        seen.setdefault(np.ascontiguousarray(x[:, column] + 0.0).tobytes(), column)
    return np.array(sorted(seen.values()), dtype=np.intp)


def _orthonormal(design: Array, smallest: float) -> Array:
    """C with orthonormal DC, as far as rounding allows."""
    n, k = design.shape
    if k < n:
        c = _cholesky(design)
        if c is not None:
            return c
    _, s, vt = np.linalg.svd(design, full_matrices=False)
    kept = s > smallest * s[0]
    c = vt[kept].T / s[kept]
    gram = (design @ c).T @ (design @ c)
    # what small singular values lost of orthogonality
    factor = linalg.cholesky(0.5 * (gram + gram.T), lower=False, check_finite=False)
    return linalg.solve_triangular(factor, c.T, trans=1, lower=False, check_finite=False).T


def _cholesky(design: Array) -> Array | None:
    """Cholesky QR, twice; None where DᵀD is not definite to 1e-12."""
    gram = design.T @ design
    size = np.sqrt(np.diag(gram))
    try:
        first = linalg.cholesky(gram / np.outer(size, size), lower=False, check_finite=False)
        if np.min(np.diag(first)) ** 2 < _DEFINITE:
            return None
        c = linalg.solve_triangular(first, np.diag(1.0 / size), lower=False, check_finite=False)
        basis = design @ c
        second = linalg.cholesky(basis.T @ basis, lower=False, check_finite=False)
    except linalg.LinAlgError:
        return None
    return linalg.solve_triangular(second, c.T, trans=1, lower=False, check_finite=False).T


def _exact_rank(x: Array, free: int) -> int | None:
    """The rank of the monomials on rows of whole numbers (times a power of two), None where it is not found.

    rank D = rank DᵀD, whose entries are whole numbers below 2^53·n, added up exactly.
    """
    largest = float(np.max(np.abs(x), initial=0.0))
    k = count(x.shape[1], free)
    if k > _EXACT_COLUMNS or not 0 < largest < 1e150:
        return None
    unit = np.exp2(np.floor(np.log2(largest)) - 20.0)
    whole = x / unit
    if not (whole == np.round(whole)).all():
        return None
    from flint import fmpz_mat

    lowest = np.bitwise_or.reduce(np.abs(whole).astype(np.int64), axis=None)
    whole = whole.astype(np.int64) // max(int(lowest & -lowest), 1)
    i, j = np.triu_indices(x.shape[1])
    parts = [np.ones((x.shape[0], 1), dtype=np.int64), whole]
    if free > 1:
        parts.append(whole[:, i] * whole[:, j])
    d = np.concatenate(parts, axis=1)
    if float(np.max(np.abs(d))) ** 2 * x.shape[0] < 2.0**62:
        gram = (d.T @ d).tolist()
    else:
        gram = (d.T.astype(object) @ d.astype(object)).tolist()
    return int(fmpz_mat(gram).rank())
