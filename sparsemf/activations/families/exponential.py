"""exp: no flip; a translation of the bias is a factor of the coefficient; every integral closed."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from sparsemf.activations.base import FOURTH_ROOT_OF_3, ROUND_UP, Activation, Array, KernelValue
from sparsemf.activations.entry import Entry
from sparsemf.activations.ops import Ops
from sparsemf.activations.registry import register


def _exp(exponent: Array) -> Array:
    """e^x, ∞ where it is beyond float64 (every integral of exp grows like e^{r²})."""
    with np.errstate(over="ignore"):
        return np.exp(exponent)


class Exponential(Activation):
    """σ(z) = e^z."""

    name = "exp"
    lipschitz = float("inf")
    kernel_closed = True

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        e = ops.exp(z)
        return e, e

    def sup_abs(self, low: Array, high: Array) -> Array:
        """Exact: increasing and positive."""
        return _exp(np.asarray(high, float)) * ROUND_UP

    def sup_slope(self, low: Array, high: Array) -> Array:
        return self.sup_abs(low, high)

    def size(self, r: Array, b: Array) -> Array:
        """e^{b + r²}, exact."""
        r, b = np.asarray(r, float), np.asarray(b, float)
        return _exp((b + r * r) + 1e-15 * (np.abs(b) + r * r)) * ROUND_UP

    def rounding_size(self, r: Array, b: Array) -> Array:
        """The exponent's own rounding enters as a factor (1 + |b| + r²)."""
        return self.size(r, b) * (1.0 + np.abs(b) + np.square(r))

    def modulus(self, r: Array, b: Array) -> Array:
        """3^{1/4}·‖e^z‖_{L⁴} at its largest, β = |b|: 3^{1/4}e^{|b| + 2r²}."""
        r, b = np.asarray(r, float), np.abs(np.asarray(b, float))
        return FOURTH_ROOT_OF_3 * _exp((b + 2 * r * r) * (1 + 1e-15)) * ROUND_UP

    def hermite(self, r: Array, b: Array, degree: int) -> Array:
        """c_k = e^{b + r²/2} r^k/√k!."""
        r, b = np.asarray(r, float)[:, None], np.asarray(b, float)[:, None]
        k = np.arange(degree + 1.0)
        return _exp(b + 0.5 * r * r + special.xlogy(k, r) - 0.5 * special.gammaln(k + 1))

    def second_moment(self, r: Array, b: Array) -> Array:
        """e^{2b + 2r²}."""
        return _exp(2 * np.asarray(b, float) + 2 * np.square(r))

    def kernel(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> KernelValue:
        """e^{m₁ + m₂ + (s₁² + s₂²)/2 + c}."""
        s1, m1, s2, m2, c = np.broadcast_arrays(*(np.asarray(x, float) for x in (s1, m1, s2, m2, c)))
        value = _exp(m1 + m2 + 0.5 * (s1 * s1 + s2 * s2) + c)
        error = 8 * np.finfo(float).eps * value * (1 + np.abs(m1) + np.abs(m2) + s1 * s1 + s2 * s2)
        return KernelValue(value, error, closed=True)


register(
    "exp",
    Exponential,
    Entry(
        formula="e^z",
        group="(a e^t, w, b − t), t real",
        inactive="–",
        independence="exponentials e^{⟨w, x⟩} of distinct w are independent; atoms sharing w are one",
        source="linear independence of characters (Artin)",
    ),
    aliases=("exponential",),
)
