"""mish: z·tanh(softplus(z)); no flip (Misra 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsemf.activations.entry import Entry
from sparsemf.activations.families.gated_linear import Unimodal
from sparsemf.activations.ops import Ops
from sparsemf.activations.registry import register


class Mish(Unimodal):
    """σ(z) = z·tanh(log(1 + e^z)); poles where (1 + e^z)² = −1, i.e. at ½log 2 ± 3πi/4 (+ 2πik).  sup|σ′| = 1.08849…"""

    name = "mish"
    relation = None
    lipschitz = 1.0885
    depth = 0.30885
    strip = 0.75 * float(np.pi)

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        t = ops.tanh(ops.softplus(z))
        return z * t, t + z * (1.0 - t * t) * ops.sigmoid(z)


register(
    "mish",
    Mish,
    Entry(
        formula="z tanh(log(1 + e^z))",
        group="none",
        inactive="–",
        independence="for finite sums: on a generic line the poles of the atom (p, q) are (z_k − q)/p, the nearest "
        "ones for z₀ = ½ log 2 ± 3πi/4; among the steepest atoms only (p, q) and (−p, log 2 − q) share them, with "
        "residues proportional to z₀R and to its conjugate, z₀R = ½(½ log 2 + 3πi/4)(1 − i), whose phase is no "
        "multiple of π/2, so real coefficients cannot cancel them",
        source="Misra, BMVC 2020; pole argument as in Albertini, Sontag & Maillot 1993",
    ),
)
