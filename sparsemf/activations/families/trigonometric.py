"""sin and cos: entire, periodic; atoms that share ±w span rank 2; every integral closed.

E[e^{i(rg + b)} he_k(g)] = e^{ib}(ir)^k e^{−r²/2}/√k! (docs/mathematics; Rahimi & Recht, NeurIPS 2007).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from sparsemf.activations.base import Activation, Array, KernelValue, Relation
from sparsemf.activations.entry import Entry
from sparsemf.activations.ops import NUMPY, Ops
from sparsemf.activations.registry import register


class Trigonometric(Activation):
    """σ(z) = sin z (quarter = 0) or cos z = sin(z + π/2) (quarter = 1)."""

    lipschitz = 1.0
    bound = 1.0
    kernel_closed = True
    kind = "frequencies"

    def __init__(self, name: str, quarter: int) -> None:
        self.name, self.quarter = name, quarter
        self.relation = Relation(sign=1 if quarter else -1)

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        s, c = ops.sin(z), ops.cos(z)
        return (c, -s) if self.quarter else (s, c)

    def sup_abs(self, low: Array, high: Array) -> Array:
        """1 when an extremum lies within (or so near that rounding cannot tell), else the larger end."""
        shift = 0.0 if self.quarter else -0.5
        turns_low, turns_high = np.asarray(low) / np.pi + shift, np.asarray(high) / np.pi + shift
        slack = 1e-9 + 1e-15 * (np.abs(turns_low) + np.abs(turns_high))
        inside = np.ceil(turns_low - slack) <= np.floor(turns_high + slack)
        ends = np.maximum(np.abs(self.value(low)), np.abs(self.value(high)))
        return np.where(inside, 1.0, np.minimum(ends + 1e-15, 1.0))

    def hermite(self, r: Array, b: Array, degree: int) -> Array:
        """c_k = e^{−r²/2} r^k/√k!·σ^{(k)}(b), as σ^{(k)}(z) = σ(z + kπ/2)."""
        r, b = np.asarray(r, float), np.asarray(b, float)
        size = poisson_roots(r, degree)
        s, c = np.sin(b), np.cos(b)
        cycle = np.stack([s, c, -s, -c], axis=1)
        return size * cycle[:, (np.arange(degree + 1) + self.quarter) % 4]

    def second_moment(self, r: Array, b: Array) -> Array:
        """½(1 − e^{−2r²}) + e^{−2r²}σ(b)², no cancellation for small r and b."""
        r = np.asarray(r, float)
        return -0.5 * np.expm1(-2 * r * r) + np.exp(-2 * r * r) * self.value(np.asarray(b, float)) ** 2

    def kernel(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> KernelValue:
        """½e^{−(s₁² + s₂²)/2}[cos(m₁ − m₂)e^c ∓ cos(m₁ + m₂)e^{−c}], − for sin and + for cos; for small arguments
        e^{−(s₁² + s₂²)/2}[cosh(c)·σ(m₁)σ(m₂) + sinh(c)·σ′(m₁)σ′(m₂)]."""
        s1, m1, s2, m2, c = np.broadcast_arrays(*(np.asarray(x, float) for x in (s1, m1, s2, m2, c)))
        first, slope1 = self.value_and_derivative(m1, NUMPY)
        second, slope2 = self.value_and_derivative(m2, NUMPY)
        # (s₁² + s₂²)/2 ∓ c ≥ 0 without overflow of the hyperbolic functions
        product = s1 * s2
        near = 0.5 * np.square(s1 - s2) + np.maximum(product - np.abs(c), 0.0)
        plus = np.exp(-near)  # e^{|c| − …}
        ratio = np.exp(-2 * np.abs(c))
        even, odd = 0.5 * plus * (1 + ratio), -0.5 * plus * np.expm1(-2 * np.abs(c)) * np.sign(c)
        value = even * first * second + odd * slope1 * slope2
        error = 32 * np.finfo(float).eps * plus * (1 + np.square(s1) + np.square(s2))
        return KernelValue(value, np.minimum(error, 1.0), closed=True)


def poisson_roots(r: Array, degree: int) -> Array:
    """e^{−r²/2} r^k/√k!, the root of a Poisson law of mean r², for k = 0 … degree; shape (n, degree + 1)."""
    k = np.arange(degree + 1.0)
    mean = np.square(r)[:, None]
    safe = np.where(mean > 0, mean, 1.0)
    # −r² + k log r² − log k! with the leading terms cancelled exactly: −(r² − k − k log(r²/k)) − (log k! − k log k + k)
    with np.errstate(divide="ignore"):
        ratio = np.where(k > 0, safe / np.maximum(k, 1.0), 1.0)
    stirling = special.gammaln(k + 1) - special.xlogy(k, k) + k
    deviance = k * (np.log(ratio) - (ratio - 1.0))
    exponent = np.where(k > 0, deviance, -safe) - stirling
    return np.where(mean > 0, np.exp(0.5 * exponent), np.where(k == 0, 1.0, 0.0))


def _entry(formula: str, parity: str) -> Entry:
    return Entry(
        formula=formula,
        group=f"{parity}; (a, w, b) ~ (a, w, b + 2π) ~ (−a, w, b + π)",
        inactive="–",
        independence="the characters e^{i⟨w, x⟩} of distinct frequencies are independent; atoms sharing ±w add up to "
        "one sine and one cosine (rank 2), so the quotient is a measure on frequencies",
        source="Rahimi & Recht, NeurIPS 2007; Sitzmann et al., NeurIPS 2020",
    )


register("sin", lambda: Trigonometric("sin", 0), _entry("sin z", "odd: (−a, −w, −b)"), aliases=("sine",))
register("cos", lambda: Trigonometric("cos", 1), _entry("cos z", "even: (a, −w, −b)"), aliases=("cosine",))
