"""erf: odd; kernel with bias in closed form (centred case: Williams, NeurIPS 1996)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from sparsemf.activations.base import Activation, Array, Image, KernelValue, Relation, Term
from sparsemf.activations.bivariate import bivariate_normal_cdf
from sparsemf.activations.entry import Entry
from sparsemf.activations.ops import Ops
from sparsemf.activations.registry import register

_SLOPE = 2.0 / float(np.sqrt(np.pi))


class Erf(Activation):
    """σ(z) = erf(z) = 2Φ(√2 z) − 1."""

    name = "erf"
    relation = Relation(sign=-1)
    lipschitz = _SLOPE * (1 + 1e-15)
    bound = 1.0
    kernel_closed = True

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        return ops.erf(z), _SLOPE * ops.exp(-z * z)

    def sup_abs(self, low: Array, high: Array) -> Array:
        """Exact: |erf| grows with |z|."""
        return np.maximum(np.abs(special.erf(low)), np.abs(special.erf(high)))

    def kernel(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> KernelValue:
        """4Φ₂(h, k; r′) − 2Φ(h) − 2Φ(k) + 1, h = √2 m₁/√(1+2s₁²), r′ = 2c/√((1+2s₁²)(1+2s₂²))."""
        s1, m1, s2, m2, c = np.broadcast_arrays(*(np.asarray(x, float) for x in (s1, m1, s2, m2, c)))
        t1, t2 = np.sqrt(1 + 2 * s1 * s1), np.sqrt(1 + 2 * s2 * s2)
        h, k = np.sqrt(2) * m1 / t1, np.sqrt(2) * m2 / t2
        rho = np.clip(2 * c / t1 / t2, -1.0, 1.0)
        value = 4 * bivariate_normal_cdf(h, k, rho) - 2 * special.ndtr(h) - 2 * special.ndtr(k) + 1
        # Φ₂ is 1/√(1−ρ²)-sensitive to the rounding of ρ
        margin = 64 * np.finfo(float).eps * (1 + 1 / np.sqrt(np.maximum((1 - rho) * (1 + rho), 1e-30)))
        return KernelValue(value, np.minimum(margin, 1.0), closed=True)


class NormalCdf(Activation):
    """σ(z) = Φ(z) = ½ + ½·erf(z/√2), the standard normal distribution function."""

    name = "normal_cdf"
    relation = Relation(sign=-1, constant=1.0)
    lipschitz = float(1 / np.sqrt(2 * np.pi)) * (1 + 1e-15)
    bound = 1.0
    kernel_closed = True
    image = Image((Term(0.5, "erf", float(1 / np.sqrt(2))),), (0.5, 0.0))

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        return ops.ndtr(z), ops.exp(-0.5 * z * z) * float(1 / np.sqrt(2 * np.pi))

    def sup_abs(self, low: Array, high: Array) -> Array:
        """Exact: increasing and positive."""
        return special.ndtr(high)

    def kernel(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> KernelValue:
        """Φ₂(h, k; r), h = m₁/√(1 + s₁²), k = m₂/√(1 + s₂²), r = c/√((1 + s₁²)(1 + s₂²))."""
        s1, m1, s2, m2, c = np.broadcast_arrays(*(np.asarray(x, float) for x in (s1, m1, s2, m2, c)))
        t1, t2 = np.sqrt(1 + s1 * s1), np.sqrt(1 + s2 * s2)
        rho = np.clip(c / t1 / t2, -1.0, 1.0)
        value = bivariate_normal_cdf(m1 / t1, m2 / t2, rho)
        margin = 16 * np.finfo(float).eps * (1 + 1 / np.sqrt(np.maximum((1 - rho) * (1 + rho), 1e-30)))
        return KernelValue(value, np.minimum(margin, 1.0), closed=True)


def _entry(formula: str, group: str) -> Entry:
    return Entry(
        formula=formula,
        group=group,
        inactive="–",
        independence="for finite sums: along a generic line the atoms are erf(p_i t + q_i) with distinct (p_i, q_i), "
        "p_i > 0; their derivatives are Gaussians of distinct widths or centres, ordered by decay, so the slowest one "
        "cannot be cancelled (over general measures with biases it is false: E_Z Φ(x − Z) = Φ(x/√2))",
        source="Fukumizu 1996; Sussmann 1992 for tanh",
    )


register("erf", Erf, _entry("erf z", "odd: (−a, −w, −b)"))
register(
    "normal_cdf",
    NormalCdf,
    _entry("Φ(z)", "(−a, −w, −b) at the price of the constant a: σ(z) + σ(−z) = 1"),
    aliases=("phi", "ndtr"),
)
