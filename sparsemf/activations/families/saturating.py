"""relu6, hardtanh, hard_sigmoid: exact relu combinations factor·(relu(z − low) − relu(z − high)) + base.

Their atoms are *not* independent: hardtanh(z) + hardtanh(z − 2) = 2 hardtanh((z − 1)/2), likewise the others.  The
quotient is the relu kink measure (docs/catalogue, "Telescoping").
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from sparsemf.activations.base import ROUND_UP, Activation, Array, Image, KernelValue, Relation, Term
from sparsemf.activations.entry import Entry
from sparsemf.activations.families.relu import relu_hermite, relu_kernel, relu_mean_any
from sparsemf.activations.kernels import refined
from sparsemf.activations.ops import Ops
from sparsemf.activations.registry import register

#: Beyond this slope the difference of two relu forms loses digits like r; the panels do not.
_STEEPEST_CLOSED = 4.0
#: Below this size √(r² + b²) the constant may cancel against the relu means.
_SMALLEST_CLOSED = 0.25


class Clipped(Activation):
    """σ(z) = factor·(relu(z − low) − relu(z − high)) + base."""

    strip = 0.0
    kernel_closed = True
    kind = "kinks"

    def __init__(self, name: str, low: float, high: float, divisor: float, base: float, relation: Relation | None):
        self.name = name
        self.low, self.high, self.divisor, self.base = low, high, divisor, base
        self.breaks = (low, high)
        self.relation = relation
        self.lipschitz = 1.0 / divisor * ROUND_UP if divisor != 1.0 else 1.0
        self.bound = max(abs(base), abs(base + (high - low) / divisor)) * (ROUND_UP if divisor != 1.0 else 1.0)
        self.image = Image(
            (Term(1.0 / divisor, "relu", 1.0, -low), Term(-1.0 / divisor, "relu", 1.0, -high)), (base, 0.0)
        )

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        above, below = ops.step(z - self.high), ops.step(self.low - z)
        inside = 1.0 - above - below
        # min(max(z, low), high); the remaining constant is 0 for hardtanh and relu6, so small values keep their digits
        value = inside * z + (above * self.high + below * self.low)
        return value / self.divisor + (self.base - self.low / self.divisor), inside / self.divisor

    def sup_abs(self, low: Array, high: Array) -> Array:
        """Exact: monotone."""
        return np.maximum(np.abs(self.value(low)), np.abs(self.value(high))) * ROUND_UP

    def rounding_size(self, r: Array, b: Array) -> Array:
        """The sum over the relu terms and the constant."""
        kinks = np.hypot(r, np.abs(b) + abs(self.low)) + np.hypot(r, np.abs(b) + abs(self.high))
        return (kinks / self.divisor + abs(self.base)) * ROUND_UP

    def hermite(self, r: Array, b: Array, degree: int) -> Array:
        """Differences of relu's coefficients; steep neurons, and c₀ near 0 (where it may cancel), by graded panels."""
        r, b = np.asarray(r, float), np.asarray(b, float)
        out = np.empty((r.size, degree + 1))
        steep = r > _STEEPEST_CLOSED
        if steep.any():
            out[steep] = super().hermite(r[steep], b[steep], degree)
        rows = np.flatnonzero(~steep)
        s, up, down = r[rows], b[rows] - self.low, b[rows] - self.high
        if degree:
            out[rows] = (relu_hermite(s, up, degree) - relu_hermite(s, down, degree)) / self.divisor
            safe = np.where(s > 0, s, 1.0)
            first, second = up / safe, down / safe
            # P(low < z < high), from the nearer tail
            inside = np.where(
                second > 0, special.ndtr(-second) - special.ndtr(-first), special.ndtr(first) - special.ndtr(second)
            )
            out[rows, 1] = s * inside / self.divisor
        out[rows, 0] = (relu_mean_any(s, up) - relu_mean_any(s, down)) / self.divisor + self.base
        small = rows[np.hypot(s, b[rows]) < _SMALLEST_CLOSED]
        if small.size:
            out[small, :1] = super().hermite(r[small], b[small], 0)
        return out

    def kernel(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> KernelValue:
        """Four relu kernels, the means, and the constant; few steep entries by conditioning."""
        found = self.kernel_form(s1, m1, s2, m2, c)
        pairs = np.broadcast_arrays(*(np.asarray(x, float) for x in (s1, m1, s2, m2, c)))
        better = refined(self, self, pairs, found.value, found.error, np.full((), 1e-9 * self.bound**2))
        return KernelValue(better.value, better.error, closed=True)

    def kernel_form(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> KernelValue:
        """The closed form as it is: steep ramps lose what their relu terms do."""
        s1, m1, s2, m2, c = np.broadcast_arrays(*(np.asarray(x, float) for x in (s1, m1, s2, m2, c)))
        value = np.zeros(s1.shape)
        for sign1, kink1 in ((1.0, self.low), (-1.0, self.high)):
            for sign2, kink2 in ((1.0, self.low), (-1.0, self.high)):
                value += sign1 * sign2 * relu_kernel(s1, m1 - kink1, s2, m2 - kink2, c)
        value /= self.divisor**2
        if self.base:
            for s, m in ((s1, m1), (s2, m2)):
                value += self.base / self.divisor * (relu_mean_any(s, m - self.low) - relu_mean_any(s, m - self.high))
            value += self.base**2
        error = 256 * np.finfo(float).eps * self.rounding_size(s1, m1) * self.rounding_size(s2, m2)
        return KernelValue(value, error, closed=True)


_TELESCOPING = (
    "none: atoms telescope, σ(z) + σ(z − h) with h the width of the ramp is 2σ at half the slope.  The quotient is "
    "the relu kink measure: on each parallel class kinks of total mass 0, an atom is an edge between two of them, S* "
    "= Σ(K − largest number of disjoint zero-sum blocks)"
)


def _entry(formula: str, source: str) -> Entry:
    return Entry(
        formula=formula,
        group="as a kink measure: (a, w, b) is two relu kinks of masses ±a‖w‖ (hard_sigmoid: ±a‖w‖/6)",
        inactive="none everywhere; on a domain: saturated or linear throughout",
        independence=_TELESCOPING,
        source=source,
    )


register(
    "relu6",
    lambda: Clipped("relu6", 0.0, 6.0, 1.0, 0.0, None),
    _entry("min(max(z, 0), 6); σ(z) + σ(6 − z) = 6", "Krizhevsky 2010; torch.nn.ReLU6"),
)
register(
    "hardtanh",
    lambda: Clipped("hardtanh", -1.0, 1.0, 1.0, -1.0, Relation(sign=-1)),
    _entry("min(max(z, −1), 1)", "Collobert 2004; torch.nn.Hardtanh"),
    aliases=("hard_tanh",),
)
register(
    "hard_sigmoid",
    lambda: Clipped("hard_sigmoid", -3.0, 3.0, 6.0, 0.0, Relation(sign=-1, constant=1.0)),
    _entry("relu6(z + 3)/6", "Courbariaux et al. 2015; torch.nn.Hardsigmoid"),
    aliases=("hardsigmoid",),
)
