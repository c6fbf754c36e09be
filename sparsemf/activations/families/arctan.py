"""arctan: odd, bounded, analytic off the branch points ±i."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsemf.activations.base import ROUND_UP, Activation, Array, Relation
from sparsemf.activations.entry import Entry
from sparsemf.activations.ops import Ops
from sparsemf.activations.registry import register


class Arctan(Activation):
    """σ(z) = arctan z."""

    name = "arctan"
    relation = Relation(sign=-1)
    lipschitz = 1.0
    bound = float(np.nextafter(np.pi / 2, 2.0))
    strip = 1.0

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        return ops.arctan(z), 1.0 / (1.0 + z * z)

    def sup_abs(self, low: Array, high: Array) -> Array:
        """Exact: |arctan| grows with |z|."""
        return np.arctan(np.maximum(np.abs(low), np.abs(high))) * ROUND_UP


register(
    "arctan",
    Arctan,
    Entry(
        formula="arctan z",
        group="odd: (a, w, b) ~ (−a, −w, −b)",
        inactive="–",
        independence="on a generic line the atom (w, b) has branch points at (±i − b)/w, which determine ±(w, b); a "
        "finite sum has none only if each cancels",
        source="Kůrková & Kainen, Neural Computation 6 (1994); Albertini, Sontag & Maillot 1993",
    ),
    aliases=("atan",),
)
