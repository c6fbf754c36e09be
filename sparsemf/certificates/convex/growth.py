"""exp and polynomials: derivatives that grow, bounded on sets; what Taylor remainders of η need where sup|σ″| = ∞.

*On rows*: sup |σ^{(k)}| on an interval.  *Under N(0, I)*: D^pη[v^p] = E[r⟨v, x̃⟩^p σ^{(p)}(z)], x̃ = (x, 1), |v| = 1,
so ‖D^pη‖ ≤ ‖r‖·‖⟨v, x̃⟩^p σ^{(p)}(z)‖ with

- polynomials, Hölder on each monomial a_j z^j of σ^{(p)}: Σ_j |a_j|√((2p + 2j − 1)!!)|θ|^j (a Gaussian with μ² + τ² ≤
  t² has E|·|^{2r} ≤ (2r − 1)!!t^{2r}),
- exp, after the tilt by e^{2⟨w, x⟩}: e^{b + s²}√((2p − 1)!!)(s + √(s² + 1))^p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.activations.families.exponential import Exponential
from sparsemf.activations.families.polynomial import Polynomial

Array = NDArray[np.float64]

_UP = 1.0 + 1e-12


@dataclass(frozen=True)
class Growth:
    """σ by its ``coefficients`` of z⁰ … zⁿ, or exp where they are None."""

    coefficients: tuple[float, ...] | None

    def _slopes(self, k: int) -> Array:
        assert self.coefficients is not None
        return np.asarray(np.polynomial.polynomial.polyder(self.coefficients, k), dtype=np.float64)

    def derivative(self, k: int, z: Array) -> Array:
        """σ^{(k)}(z)."""
        if self.coefficients is None:
            return np.exp(z)
        return np.asarray(np.polynomial.polynomial.polyval(z, self._slopes(k)), dtype=np.float64)

    def on(self, k: int, low: Array, high: Array) -> Array:
        """sup |σ^{(k)}| on [low, high]; ∞ where it overflows."""
        with np.errstate(over="ignore"):
            if self.coefficients is None:
                return np.exp(high) * _UP
            largest = np.maximum(np.abs(low), np.abs(high))
            found = np.polynomial.polynomial.polyval(largest, np.abs(self._slopes(k)))
            return np.asarray(found * _UP, dtype=np.float64)

    def mean(self, p: int, s: Array, b: Array) -> Array:
        """sup ‖⟨v, x̃⟩^p σ^{(p)}(z)‖_{L²(N(0, I))} over |w| ≤ s, |b| ≤ b, |v| = 1."""
        with np.errstate(over="ignore"):
            if self.coefficients is None:
                return np.exp((b + s * s) * _UP) * _root(p) * (s + np.hypot(s, 1.0)) ** p * _UP
            t, slopes = np.hypot(s, b), np.abs(self._slopes(p))
            return sum((a * _root(p + j) * t**j for j, a in enumerate(slopes.tolist())), np.zeros(t.shape)) * _UP


def _root(r: int) -> float:
    """√((2r − 1)!!)."""
    return math.sqrt(math.prod(range(1, 2 * r, 2)))


def growth(activation: Activation) -> Growth | None:
    """The bounds of exp and of polynomials; None for others."""
    if isinstance(activation, Exponential):
        return Growth(None)
    return Growth(activation.coefficients) if isinstance(activation, Polynomial) else None
