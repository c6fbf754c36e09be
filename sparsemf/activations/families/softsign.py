"""softsign: odd, bounded, with a jump of σ″ at 0 and algebraic tails."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsemf.activations.base import ROUND_UP, Activation, Array, Relation
from sparsemf.activations.entry import Entry
from sparsemf.activations.ops import Ops
from sparsemf.activations.registry import register


class Softsign(Activation):
    """σ(z) = z/(1 + |z|); each half continues analytically up to its pole at ∓1."""

    name = "softsign"
    relation = Relation(sign=-1)
    lipschitz = 1.0
    bound = 1.0
    strip = 0.0
    breaks = (0.0,)

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        inverse = 1.0 / (1.0 + ops.absolute(z))
        return z * inverse, inverse * inverse

    def sup_abs(self, low: Array, high: Array) -> Array:
        """Exact: |σ| grows with |z|."""
        largest = np.maximum(np.abs(low), np.abs(high))
        return largest / (1.0 + largest) * ROUND_UP


register(
    "softsign",
    Softsign,
    Entry(
        formula="z/(1 + |z|)",
        group="odd: (a, w, b) ~ (−a, −w, −b)",
        inactive="–",
        independence="σ″ jumps on the atom's hyperplane, so atoms are separated by hyperplane; on one hyperplane "
        "σ(tz), t > 0, continues from z > 0 to a pole at −1/t, distinct for distinct t",
        source="Bergstra, Desjardins, Lamblin & Bengio 2009; Glorot & Bengio, AISTATS 2010",
    ),
)
