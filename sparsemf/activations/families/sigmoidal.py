"""tanh and sigmoid: bounded, analytic in a strip; tanh is odd, σ(z) + σ(−z) = 1 for the sigmoid."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from sparsemf.activations.base import Activation, Array, Image, Relation, Term
from sparsemf.activations.entry import Entry
from sparsemf.activations.ops import Ops
from sparsemf.activations.registry import register


class Tanh(Activation):
    """σ(z) = tanh z; poles at ±iπ/2."""

    name = "tanh"
    relation = Relation(sign=-1)
    lipschitz = 1.0
    bound = 1.0
    strip = float(np.pi / 2)

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        t = ops.tanh(z)
        return t, 1.0 - t * t

    def sup_abs(self, low: Array, high: Array) -> Array:
        """Exact: |tanh| grows with |z|."""
        return np.maximum(np.abs(np.tanh(low)), np.abs(np.tanh(high)))


class Sigmoid(Activation):
    """σ(z) = 1/(1 + e^{−z}); poles at ±iπ."""

    name = "sigmoid"
    relation = Relation(sign=-1, constant=1.0)
    lipschitz = 0.25
    bound = 1.0
    strip = float(np.pi)
    image = Image((Term(0.5, "tanh", 0.5),), (0.5, 0.0))

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        s = ops.sigmoid(z)
        return s, s * (1.0 - s)

    def sup_abs(self, low: Array, high: Array) -> Array:
        """Exact: increasing and positive."""
        return special.expit(high)


def _entry(formula: str, group: str) -> Entry:
    return Entry(
        formula=formula,
        group=group,
        inactive="–",
        independence="for finite sums: along a generic line the atoms are tanh(p_i t + q_i) with distinct (p_i, q_i), "
        "p_i > 0; the poles nearest to the real axis of the steepest ones belong to no other atom, so each "
        "coefficient is a residue",
        source="Sussmann 1992; Albertini, Sontag & Maillot 1993",
    )


register("tanh", Tanh, _entry("tanh z", "odd: (−a, −w, −b)"))
register(
    "sigmoid",
    Sigmoid,
    _entry("1/(1 + e^{−z})", "(−a, −w, −b) at the price of the constant a: σ(z) + σ(−z) = 1"),
    aliases=("logistic",),
)
