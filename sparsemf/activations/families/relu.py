"""relu, leaky_relu(β) and abs: positively homogeneous, σ(z) = p·relu(z) + n·relu(−z).

relu = (p, n) = (1, 0), leaky_relu(β) = (1, −β), abs = (1, 1).  Kernel: the first arc-cosine kernel with bias
(docs/mathematics, "Function geometry"; centred case: Cho & Saul, NeurIPS 2009).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from sparsemf.activations.base import Activation, Array, Image, KernelValue, Relation, Term
from sparsemf.activations.bivariate import bivariate_normal_cdf, conditional_slope, normal_density
from sparsemf.activations.entry import Entry
from sparsemf.activations.ops import Ops
from sparsemf.activations.registry import register


def relu_kernel(s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> Array:
    """E[relu(U)relu(V)], exact, with the degenerate cases s = 0 (a constant factor) included."""
    s1, m1, s2, m2, c = np.broadcast_arrays(*(np.asarray(x, float) for x in (s1, m1, s2, m2, c)))
    safe1, safe2 = np.where(s1 > 0, s1, 1.0), np.where(s2 > 0, s2, 1.0)
    a, b = m1 / safe1, m2 / safe2
    r = np.clip(c / safe1 / safe2, -1.0, 1.0)
    q = np.sqrt((1.0 - r) * (1.0 + r))
    slope_ab, slope_ba = conditional_slope(b, a, r, q), conditional_slope(a, b, r, q)
    # φ₂ q² = q φ(α)φ((β − rα)/q): no division by q
    value = (a * b + r) * bivariate_normal_cdf(a, b, r)
    value += a * normal_density(b) * special.ndtr(slope_ab)
    value += b * normal_density(a) * special.ndtr(slope_ba)
    value += q * normal_density(a) * normal_density(slope_ba)
    value *= safe1 * safe2
    single = np.where(s1 > 0, relu_mean(safe1, m1) * np.maximum(m2, 0), relu_mean(safe2, m2) * np.maximum(m1, 0))
    both = np.maximum(m1, 0) * np.maximum(m2, 0)
    return np.where((s1 > 0) & (s2 > 0), value, np.where((s1 > 0) | (s2 > 0), single, both))


def relu_mean(s: Array, m: Array) -> Array:
    """E relu(m + s g) = mΦ(m/s) + sφ(m/s), s > 0."""
    return m * special.ndtr(m / s) + s * normal_density(m / s)


def relu_mean_any(s: Array, m: Array) -> Array:
    """:func:`relu_mean` with s = 0 (a constant) allowed."""
    return np.where(s > 0, relu_mean(np.where(s > 0, s, 1.0), m), np.maximum(m, 0.0))


def relu_second_moment(s: Array, m: Array) -> Array:
    """E relu(m + s g)² = (m² + s²)Φ(m/s) + m s φ(m/s); max(m, 0)² at s = 0."""
    beta = m / np.where(s > 0, s, 1.0)
    value = (m * m + s * s) * special.ndtr(beta) + m * s * normal_density(beta)
    return np.where(s > 0, np.maximum(value, 0.0), np.square(np.maximum(m, 0.0)))


def relu_hermite(r: Array, b: Array, degree: int) -> Array:
    """c_k(r, b) of relu: c₀ = bΦ(β) + rφ(β), c₁ = rΦ(β), c_k = r·He_{k−2}(−β)φ(β)/√k!, β = b/r."""
    out = np.zeros((r.size, degree + 1))
    flat = r <= 0
    out[flat, 0] = np.maximum(b[flat], 0.0)
    rows = np.flatnonzero(~flat)
    s, m = r[rows], b[rows]
    beta = m / s
    out[rows, 0] = relu_mean(s, m)
    if degree >= 1:
        out[rows, 1] = s * special.ndtr(beta)
    # he_{k−2}(−β)φ(β)/√(k(k−1)) by the recurrence on φ-weighted values (no overflow for large |β|)
    previous, current = np.zeros(rows.size), normal_density(beta)
    for k in range(2, degree + 1):
        out[rows, k] = s * current / np.sqrt(k * (k - 1.0))
        previous, current = current, (-beta * current - np.sqrt(k - 2.0) * previous) / np.sqrt(k - 1.0)
    return out


class PiecewiseLinear(Activation):
    """σ(z) = positive·relu(z) + negative·relu(−z)."""

    homogeneous = 1
    strip = 0.0
    breaks = (0.0,)
    kernel_closed = True

    def __init__(self, name: str, positive: float, negative: float) -> None:
        if positive + negative == 0:
            raise ValueError("a linear activation has no kink")
        self.name = name
        self.positive, self.negative = positive, negative
        self.lipschitz = max(abs(positive), abs(negative))
        if (positive, negative) != (1.0, 0.0):
            self.image = Image((Term(positive + negative, "relu"),), (0.0, -negative))
        # σ(z) − σ(−z) = (positive − negative)·z
        self.relation = Relation(sign=1, linear=positive - negative)

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        step = ops.step(z)
        slope = step * (self.positive + self.negative) - self.negative
        return z * slope, slope

    def sup_abs(self, low: Array, high: Array) -> Array:
        """Exact: |σ| is convex on each side of 0, so its sup is at an end."""
        return np.maximum(np.abs(self.value(low)), np.abs(self.value(high)))

    def hermite(self, r: Array, b: Array, degree: int) -> Array:
        """σ(z) = (p + n)·relu(z) − n·z, and z = rg + b has c₀ = b, c₁ = r only."""
        r, b = np.asarray(r, float), np.asarray(b, float)
        out = (self.positive + self.negative) * relu_hermite(r, b, degree)
        out[:, 0] -= self.negative * b
        if degree >= 1:
            out[:, 1] -= self.negative * r
        return out

    def second_moment(self, r: Array, b: Array) -> Array:
        """p²·E relu(z)² + n²·E relu(−z)²."""
        r, b = np.asarray(r, float), np.asarray(b, float)
        return self.positive**2 * relu_second_moment(r, b) + self.negative**2 * relu_second_moment(r, -b)

    def kernel(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> KernelValue:
        s1, m1, s2, m2, c = np.broadcast_arrays(*(np.asarray(x, float) for x in (s1, m1, s2, m2, c)))
        p, n = self.positive, self.negative
        value = p * p * relu_kernel(s1, m1, s2, m2, c)
        if n:
            value = value + n * n * relu_kernel(s1, -m1, s2, -m2, c)
            value += p * n * (relu_kernel(s1, m1, s2, -m2, -c) + relu_kernel(s1, -m1, s2, m2, -c))
        margin = 256 * np.finfo(float).eps * self.lipschitz**2
        error = margin * np.sqrt((s1**2 + m1**2) * (s2**2 + m2**2))
        return KernelValue(value, error, closed=True)


def _leaky(slope: float = 0.01) -> PiecewiseLinear:
    if not 0.0 <= slope < np.inf or slope == 1.0:
        raise ValueError(f"slope β must be ≥ 0 and ≠ 1, got {slope}")
    return PiecewiseLinear("leaky_relu" if slope == 0.01 else f"leaky_relu({slope!r})", 1.0, -slope)


_KINKS = (
    "the gradient of an atom jumps across its hyperplane and is constant elsewhere; distinct hyperplanes do not meet "
    "in an open set, so the jumps of Σ a σ determine the sum of κ = a‖w‖ on each hyperplane"
)


def _entry(formula: str, source: str) -> Entry:
    return Entry(
        formula=formula,
        group="(a/t, tw, tb), t > 0",
        inactive="(w, b) = 0; on a domain: z never changes sign there",
        independence=_KINKS,
        source=source,
    )


register(
    "relu",
    lambda: PiecewiseLinear("relu", 1.0, 0.0),
    _entry("max(z, 0)", "Petzka, Trimmel & Sminchisescu, NLDL 2020; Phuong & Lampert, ICLR 2020"),
)
register(
    "leaky_relu",
    _leaky,
    _entry("max(z, 0) + β min(z, 0), β ≥ 0, β ≠ 1 (default 0.01)", "Maas, Hannun & Ng 2013; kinks as for relu"),
    aliases=("leakyrelu",),
)
register(
    "abs",
    lambda: PiecewiseLinear("abs", 1.0, 1.0),
    _entry("|z|", "kinks as for relu"),
    aliases=("absolute",),
)
