"""Activations of the form z·gate(z) with gate(z) + gate(−z) = 1, and softplus: σ(z) − σ(−z) = z.

gelu (exact), gelu_tanh, quick_gelu, silu, softplus (Hendrycks & Gimpel 2016; Elfwing et al. 2018).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from sparsemf.activations.base import Activation, Array, Image, KernelValue, Relation, Term
from sparsemf.activations.bivariate import ROOT_2PI, bivariate_normal_cdf, normal_density
from sparsemf.activations.entry import Entry
from sparsemf.activations.ops import Ops
from sparsemf.activations.registry import register

_FLIP = Relation(sign=1, linear=1.0)


class Unimodal(Activation):
    """σ decreases to one minimum −depth and then increases, and |σ(z)| ≤ max(z, depth)."""

    relation = _FLIP
    depth: float

    def sup_abs(self, low: Array, high: Array) -> Array:
        """σ < 0 only for z < 0, where |σ| ≤ depth; on the right σ is increasing."""
        positive = np.where(high > 0, self.value(np.maximum(high, 0.0)), 0.0)
        return np.where(low < 0, np.maximum(positive, self.depth), positive)


class Gelu(Unimodal):
    """σ(z) = zΦ(z) (exact form); entire.  sup|σ′| = 1.12891… at z = √2."""

    name = "gelu"
    lipschitz = 1.1290
    depth = 0.16998
    kernel_closed = True

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        phi = ops.ndtr(z)
        return z * phi, phi + z * (ops.exp(-0.5 * z * z) * (1.0 / ROOT_2PI))

    def kernel(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> KernelValue:
        """E[UΦ(U)VΦ(V)] by Stein's identity, twice.

        With F = VΦ(U)Φ(V):  E[U F] = m₁E[F] + s₁²E[∂_U F] + c·E[∂_V F].  The terms with one density φ are
        Gaussian expectations under the tilted law (density × φ is again Gaussian), where
        E_t[Φ(V)] = Φ(m/√(1+s²)) and E_t[VΦ(·)] follow from Stein once more.
        """
        s1, m1, s2, m2, c = np.broadcast_arrays(*(np.asarray(x, float) for x in (s1, m1, s2, m2, c)))
        v1, v2 = s1 * s1, s2 * s2
        h, k = m1 / np.sqrt(1 + v1), m2 / np.sqrt(1 + v2)
        rho = np.clip(c / np.sqrt((1 + v1) * (1 + v2)), -1.0, 1.0)
        both = bivariate_normal_cdf(h, k, rho)  # E[Φ(U)Φ(V)]

        def tilted(v_tilt: Array, m_tilt: Array, v_other: Array, m_other: Array) -> tuple[Array, Array, Array]:
            """(Z, m, u): E[φ(T)·G] = Z·E_t[G]; under E_t the other variable is N(m_o, u²)."""
            z = normal_density(m_tilt / np.sqrt(1 + v_tilt)) / np.sqrt(1 + v_tilt)
            return z, m_other - c * m_tilt / (1 + v_tilt), v_other - c * c / (1 + v_tilt)

        z1, mean_v, var_v = tilted(v1, m1, v2, m2)  # tilt by φ(U); V ~ N(mean_v, var_v)
        z2, mean_u, var_u = tilted(v2, m2, v1, m1)  # tilt by φ(V); U ~ N(mean_u, var_u)
        root_v, root_u = np.sqrt(1 + var_v), np.sqrt(1 + var_u)
        phi_u_cdf_v = z1 * special.ndtr(mean_v / root_v)  # E[φ(U)Φ(V)]
        cdf_u_phi_v = z2 * special.ndtr(mean_u / root_u)  # E[Φ(U)φ(V)]
        phi_u_v_cdf_v = z1 * (
            mean_v * special.ndtr(mean_v / root_v) + var_v / root_v * normal_density(mean_v / root_v)
        )  # E[φ(U)VΦ(V)]
        tilted_mean, tilted_cov = m2 / (1 + v2), c / (1 + v2)
        cdf_u_v_phi_v = z2 * (
            tilted_mean * special.ndtr(mean_u / root_u) + tilted_cov / root_u * normal_density(mean_u / root_u)
        )  # E[Φ(U)Vφ(V)]
        value_v = m2 * both + v2 * cdf_u_phi_v + c * phi_u_cdf_v  # E[VΦ(U)Φ(V)]
        value = m1 * value_v + v1 * phi_u_v_cdf_v + c * (both + cdf_u_v_phi_v)
        scale = np.sqrt((v1 + m1 * m1) * (v2 + m2 * m2))
        sensitivity = 1 + np.abs(c) / np.sqrt(np.maximum((1 + v1) * (1 + v2) - c * c, 1e-30))
        return KernelValue(value, 256 * np.finfo(float).eps * scale * sensitivity, closed=True)


class GeluTanh(Unimodal):
    """σ(z) = ½z(1 + tanh u) = z·sigmoid(2u), u = √(2/π)(z + 0.044715z³); no pole within 2 of the real axis."""

    name = "gelu_tanh"
    lipschitz = 1.1291
    depth = 0.17005
    strip = 2.0

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        root = 2.0 * float(np.sqrt(2 / np.pi))
        square = z * z
        gate = ops.sigmoid(root * z * (1.0 + 0.044715 * square))
        value = z * gate
        return value, gate + value * (1.0 - gate) * (root * (1.0 + 3 * 0.044715 * square))


class ScaledSilu(Unimodal):
    """σ(z) = z·sigmoid(κz): silu (κ = 1) and quick_gelu (κ = 1.702); poles at ±iπ/κ.  sup|σ′| = 1.09984…"""

    lipschitz = 1.09985

    def __init__(self, name: str, rate: float) -> None:
        self.name, self.rate = name, rate
        self.depth = 0.27847 / rate
        self.strip = float(np.pi) / rate
        if rate != 1.0:
            self.image = Image((Term(1.0 / rate, "silu", rate),))

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        s = ops.sigmoid(self.rate * z)
        value = z * s
        return value, s + self.rate * value * (1.0 - s)


class Softplus(Activation):
    """σ(z) = log(1 + e^z); branch points at ±iπ."""

    name = "softplus"
    relation = _FLIP
    lipschitz = 1.0
    strip = float(np.pi)

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        return ops.softplus(z), ops.sigmoid(z)

    def sup_abs(self, low: Array, high: Array) -> Array:
        """Exact: increasing and positive."""
        return np.logaddexp(0.0, high)


def _entry(formula: str, independence: str, source: str) -> Entry:
    return Entry(
        formula=formula,
        group="(a, −w, −b) at the price of the linear function a·z: σ(z) − σ(−z) = z",
        inactive="–",
        independence=independence,
        source=source,
    )


_GAUSSIAN = (
    "for finite sums: σ″ along a generic line is a polynomial times a Gaussian of the atom's own width and centre; "
    "the slowest decay cannot be cancelled by the others"
)
_POLES = (
    "for finite sums: along a generic line each atom has poles (softplus: branch points) on its own vertical lines; "
    "the residue of the nearest one gives the coefficient"
)

register(
    "gelu",
    Gelu,
    _entry("z·Φ(z)", _GAUSSIAN, "Hendrycks & Gimpel 2016; argument as for erf (Fukumizu 1996)"),
    aliases=("gelu_exact", "gelu_erf"),
)
register(
    "gelu_tanh",
    GeluTanh,
    _entry(
        "½z(1 + tanh(√(2/π)(z + 0.044715z³)))", _POLES, "Hendrycks & Gimpel 2016; argument as for tanh (Sussmann 1992)"
    ),
    aliases=("gelu_new", "gelu_pytorch_tanh", "gelu_fast"),
)
register(
    "quick_gelu",
    lambda: ScaledSilu("quick_gelu", 1.702),
    _entry("z/(1 + e^{−1.702z})", _POLES, "Hendrycks & Gimpel 2016; argument as for tanh (Sussmann 1992)"),
    aliases=("quickgelu",),
)
register(
    "silu",
    lambda: ScaledSilu("silu", 1.0),
    _entry("z/(1 + e^{−z})", _POLES, "Elfwing, Uchibe & Doya 2018; argument as for tanh (Sussmann 1992)"),
    aliases=("swish",),
)
register(
    "softplus",
    Softplus,
    _entry("log(1 + e^z)", _POLES, "Dugas et al. 2001; argument as for tanh (Sussmann 1992), applied to σ′ = sigmoid"),
)
