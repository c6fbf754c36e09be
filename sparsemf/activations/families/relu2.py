"""relu²: positively homogeneous of degree 2, σ(z) + σ(−z) = z²; every integral closed (second arc-cosine kernel)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from sparsemf.activations.base import FOURTH_ROOT_OF_3, ROUND_UP, Activation, Array, KernelValue, Relation
from sparsemf.activations.bivariate import bivariate_normal_cdf, conditional_slope, normal_density
from sparsemf.activations.entry import Entry
from sparsemf.activations.families.relu import relu_hermite, relu_second_moment
from sparsemf.activations.ops import Ops
from sparsemf.activations.registry import register


def relu2_kernel(s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> Array:
    """E[relu(U)² relu(V)²], exact, by the moments M_ij = E[U^i V^j 1(U > 0, V > 0)] and Stein's identity

        E[U F] = m₁ E[F] + s₁² E[∂_U F] + c E[∂_V F]

    (in units of s₁ and s₂), where ∂_U of the indicator is the density at U = 0 times a one-dimensional truncated
    moment.
    """
    s1, m1, s2, m2, c = np.broadcast_arrays(*(np.asarray(x, float) for x in (s1, m1, s2, m2, c)))
    safe1, safe2 = np.where(s1 > 0, s1, 1.0), np.where(s2 > 0, s2, 1.0)
    a, b = m1 / safe1, m2 / safe2
    r = np.clip(c / safe1 / safe2, -1.0, 1.0)
    q = np.sqrt((1.0 - r) * (1.0 + r))
    on_u0, on_v0 = conditional_slope(a, b, r, q), conditional_slope(b, a, r, q)  # (b − ra)/q and (a − rb)/q
    mean_v = (b - a) + a * (1.0 - r)
    # v_j = E[V^j 1(V > 0) | U = 0], and u_0 with U and V exchanged
    v0, v1 = special.ndtr(on_u0), mean_v * special.ndtr(on_u0) + q * normal_density(on_u0)
    u0 = special.ndtr(on_v0)
    at_u, at_v = normal_density(a), normal_density(b)
    m00 = bivariate_normal_cdf(a, b, r)
    m10 = a * m00 + at_u * v0 + r * at_v * u0
    m01 = b * m00 + at_v * u0 + r * at_u * v0
    m11 = a * m01 + at_u * v1 + r * m00
    m02 = b * m01 + m00 + r * at_u * v1
    m12 = b * m11 + m10 + r * m01
    value = (a * m12 + m02 + 2 * r * m11) * (safe1 * safe2) ** 2
    single = np.where(
        s1 > 0,
        relu_second_moment(safe1, m1) * np.maximum(m2, 0) ** 2,
        relu_second_moment(safe2, m2) * np.maximum(m1, 0) ** 2,
    )
    both = np.square(np.maximum(m1, 0) * np.maximum(m2, 0))
    return np.where((s1 > 0) & (s2 > 0), value, np.where((s1 > 0) | (s2 > 0), single, both))


def gaussian_fourth_moment(r: Array, b: Array) -> Array:
    """E(rg + b)⁴ = 3r⁴ + 6r²b² + b⁴."""
    r2, b2 = np.square(r), np.square(b)
    return 3 * r2 * r2 + 6 * r2 * b2 + b2 * b2


class Relu2(Activation):
    """σ(z) = max(z, 0)²."""

    name = "relu2"
    homogeneous = 2
    relation = Relation(sign=-1, quadratic=1.0)
    lipschitz = float("inf")
    strip = 0.0
    breaks = (0.0,)
    kernel_closed = True
    kernel_ulps = 1024

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        positive = ops.maximum0(z)
        return positive * positive, 2.0 * positive

    def sup_abs(self, low: Array, high: Array) -> Array:
        """Exact: increasing and nonnegative."""
        return np.square(np.maximum(high, 0.0)) * ROUND_UP

    def sup_slope(self, low: Array, high: Array) -> Array:
        """2·max(high, 0)."""
        return 2.0 * np.maximum(high, 0.0)

    def size(self, r: Array, b: Array) -> Array:
        """√E z⁴ at most."""
        return np.sqrt(gaussian_fourth_moment(r, b)) * ROUND_UP

    def rounding_size(self, r: Array, b: Array) -> Array:
        return self.size(r, b)

    def modulus(self, r: Array, b: Array) -> Array:
        """3^{1/4}·2‖z‖_{L⁴}, as |σ′(z)| ≤ 2|z|, and E z⁴ grows with r and |b|."""
        return 2 * FOURTH_ROOT_OF_3 * ROUND_UP * gaussian_fourth_moment(r, b) ** 0.25

    def hermite(self, r: Array, b: Array, degree: int) -> Array:
        """c₀ = E relu², and c_k = (2r/√k)·c_{k−1}(relu), as σ′ = 2 relu."""
        r, b = np.asarray(r, float), np.asarray(b, float)
        out = np.empty((r.size, degree + 1))
        out[:, 0] = relu_second_moment(r, b)
        if degree:
            out[:, 1:] = 2 * r[:, None] / np.sqrt(np.arange(1.0, degree + 1)) * relu_hermite(r, b, degree - 1)
        return out

    def second_moment(self, r: Array, b: Array) -> Array:
        """E relu(z)⁴ = r⁴[(β⁴ + 6β² + 3)Φ(β) + (β³ + 5β)φ(β)], β = b/r."""
        r, b = np.asarray(r, float), np.asarray(b, float)
        beta = b / np.where(r > 0, r, 1.0)
        r2, b2 = r * r, b * b
        value = (b2 * b2 + 6 * b2 * r2 + 3 * r2 * r2) * special.ndtr(beta)
        value += r * b * (b2 + 5 * r2) * normal_density(beta)
        return np.maximum(np.where(r > 0, value, np.maximum(b, 0.0) ** 4), 0.0)

    def kernel(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> KernelValue:
        value = relu2_kernel(s1, m1, s2, m2, c)
        error = 512 * np.finfo(float).eps * self.size(s1, m1) * self.size(s2, m2)
        return KernelValue(value, np.broadcast_to(error, value.shape), closed=True)


register(
    "relu2",
    Relu2,
    Entry(
        formula="max(z, 0)²",
        group="(a/t², tw, tb), t > 0",
        inactive="(w, b) = 0",
        independence="σ″ jumps by 2a‖w‖² across the hyperplane of the atom; distinct hyperplanes (lines of (w, b)) do "
        "not meet in an open set, and one hyperplane carries relu² and, after the flip, a quadratic form only",
        source="So et al., Primer, NeurIPS 2021; kinks as for relu",
    ),
    aliases=("relu_squared", "squared_relu"),
)
