"""erf: odd; kernel with bias in closed form (centred case: Williams, NeurIPS 1996)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from sparsemf.activations.base import Activation, Array, KernelValue, Relation
from sparsemf.activations.bivariate import bivariate_normal_cdf
from sparsemf.activations.ops import Ops
from sparsemf.activations.registry import register

_SLOPE = 2.0 / float(np.sqrt(np.pi))


class Erf(Activation):
    """σ(z) = erf(z) = 2Φ(√2 z) − 1."""

    name = "erf"
    relation = Relation(sign=-1)
    lipschitz = _SLOPE * (1 + 1e-15)
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


register("erf", Erf)
