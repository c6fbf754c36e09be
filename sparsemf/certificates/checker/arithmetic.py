"""Two arithmetics behind one set of formulas: float64 with a-priori error bounds, and ball arithmetic.

Each bound of the checker is written once, on arrays that are float64 or hold flint balls.  ``unit`` is the unit
roundoff 2⁻⁵³ that the a-priori error terms are multiples of; in balls it is 0, since every ball carries its own
radius.  Results leave through :meth:`up` and :meth:`down`, which round away from the truth.

A-priori facts (Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., §3.1, §3.5): a sum of n terms in any
order is within γ_{n−1}Σ|x|, an inner product within γ_n Σ|x||y|, γ_n = nu/(1 − nu) ≤ 1.01nu; norm-wise
‖fl(XᵀY) − XᵀY‖_F ≤ γ_n Σ_i ‖x_i‖‖y_i‖.  These hold for every conventional BLAS, fused or blocked, in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb, ctx
from numpy.typing import NDArray

Rows = NDArray[Any]
"""An array of float64 or of balls."""

_TO_BALLS = np.frompyfunc(arb, 1, 1)
_TINY = 1e-290
_NORMAL = 2.0**-1022
_FEW = 16
UNDERFLOW = 1e-306
"""More than what a float64 product of entries of one row loses when it underflows (0 for balls)."""


class Undefined(ValueError):
    """A bound that cannot be formed here (overflow, or a steep neuron without enough nodes)."""


@dataclass(frozen=True)
class Arithmetic:
    """``bits`` = 0: float64; else balls of that precision."""

    bits: int = 0

    @property
    def exact(self) -> bool:
        """Whether this is ball arithmetic."""
        return self.bits > 0

    @property
    def unit(self) -> float:
        """2⁻⁵³ (times 1.01, so that γ_n ≤ n·unit), or 0 for balls."""
        return 0.0 if self.exact else 1.01 * 2.0**-53

    def lost_below(self, x: Rows) -> NDArray[np.float64]:
        """:data:`UNDERFLOW` for every row that is not 0, shape (n,)."""
        return np.where(self.norms(x) > 0, UNDERFLOW, 0.0) if not self.exact else np.zeros(x.shape[0])

    @contextmanager
    def precision(self) -> Iterator[None]:
        """The working precision of this arithmetic."""
        before = ctx.prec
        ctx.prec = max(self.bits, 128)
        try:
            yield
        finally:
            ctx.prec = before

    def array(self, x: Any) -> Rows:
        """Float64 data, exactly."""
        data = np.asarray(x, dtype=np.float64)
        return np.asarray(_TO_BALLS(data), dtype=object).reshape(data.shape) if self.exact else data

    def constant(self, value: Any) -> Any:
        """A ball as a number of this arithmetic, with the float's error |value − float| ≤ unit·|float| left to
        formulas; raises :class:`Undefined` where a float is not that close (overflow, denormal numbers)."""
        if self.exact:
            return value
        found = float(value.mid())
        if not (value == found or _NORMAL <= abs(found) < np.inf):
            raise Undefined("a constant of an activation overflows or underflows")
        return found

    def zeros(self, shape: tuple[int, ...]) -> Rows:
        """Zeros."""
        return self.array(np.zeros(shape))

    def up(self, x: Any) -> float:
        """An upper bound of x ≥ 0 as a float; ``inf`` for what is not finite."""
        if self.exact:
            x = float((x if isinstance(x, arb) else arb(x)).upper())
        x = float(x)
        return float(np.nextafter(max(x, 0.0) * (1 + 2.0**-50) + _TINY, np.inf)) if x == x else float("inf")

    def down(self, x: Any) -> float:
        """A lower bound of x, never below 0, as a float; 0 for what is not finite."""
        if self.exact:
            x = float((x if isinstance(x, arb) else arb(x)).lower())
        x = float(x)
        return max(float(np.nextafter(x * (1 - 2.0**-50) - _TINY, -np.inf)), 0.0) if np.isfinite(x) else 0.0

    def ups(self, x: Rows) -> NDArray[np.float64]:
        """:meth:`up` elementwise."""
        if self.exact:
            return np.array([self.up(v) for v in x.ravel()], dtype=np.float64).reshape(x.shape)
        x = np.where(x == x, np.maximum(x, 0.0), np.inf)
        return np.nextafter(x * (1 + 2.0**-50) + _TINY, np.inf)

    def radii(self, x: Rows) -> NDArray[np.float64]:
        """How far each entry may be from its midpoint (0 for float64)."""
        if not self.exact:
            return np.zeros(x.shape)
        return np.array([float(v.rad()) for v in x.ravel()], dtype=np.float64).reshape(x.shape)

    def squares(self, x: Rows) -> Rows:
        """Σ_j x_ij² of each row, shape (n,)."""
        if x.size == 0:
            return self.zeros((x.shape[0],))
        return np.sum(x * x, axis=1) if self.exact else np.einsum("ij,ij->i", x, x)

    def norms(self, x: Rows) -> NDArray[np.float64]:
        """Upper bounds of the Euclidean norms of the rows, shape (n,)."""
        squares = self.squares(x)
        silent = np.array([v == 0 for v in squares], dtype=bool) if self.exact else squares == 0
        if not self.exact and silent.any():
            silent[silent] = ~np.any(x[silent] != 0, axis=1)
        # below √tiny a square underflows; TINY in ups pays for that
        found = np.sqrt(self.ups(squares) + x.shape[1] * 1e-300) * (1 + (x.shape[1] + 4) * 2.0**-52)
        return np.where(silent, 0.0, found)

    def norm(self, x: Rows) -> float:
        """Upper bound of the Euclidean (Frobenius) norm of all entries."""
        return float(self.norms(x.reshape(1, -1))[0]) if x.size else 0.0

    def floor_norm(self, x: Rows) -> float:
        """Lower bound of the Euclidean norm of all entries."""
        if x.size == 0:
            return 0.0
        square = self.down(self.squares(x.reshape(1, -1))[0])
        return max(float(np.sqrt(square)) * (1 - (x.size + 8) * 2.0**-52), 0.0)

    def grouped(self, x: Rows, label: NDArray[np.int64], groups: int, factor: Rows | None = None) -> Rows:
        """Σ of the rows (times ``factor``) of each label, in any order; shape (groups, …)."""
        out, order = self.zeros((groups, x.shape[1])), np.argsort(label, kind="stable")
        present, first, size = np.unique(label[order], return_index=True, return_counts=True)

        def rows(chosen: NDArray[np.int64]) -> Rows:
            return x[chosen] if factor is None else factor[chosen][:, None] * x[chosen]

        # the r-th member of every group at once (reduceat over rows is ten times slower), then the rest of large groups
        for r in range(min(int(size.max(initial=0)), _FEW)):
            more = size > r
            out[present[more]] += rows(order[first[more] + r])
        for k in np.flatnonzero(size > _FEW):
            out[present[k]] += np.sum(rows(order[first[k] + _FEW : first[k] + size[k]]), axis=0)
        return out
