"""tanh and sigmoid: bounded, analytic in a strip; tanh is odd, σ(z) + σ(−z) = 1 for the sigmoid."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from sparsemf.activations.base import Activation, Array, Relation
from sparsemf.activations.ops import Ops
from sparsemf.activations.registry import register


class Tanh(Activation):
    """σ(z) = tanh z; poles at ±iπ/2."""

    name = "tanh"
    relation = Relation(sign=-1)
    lipschitz = 1.0
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
    strip = float(np.pi)

    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        s = ops.sigmoid(z)
        return s, s * (1.0 - s)

    def sup_abs(self, low: Array, high: Array) -> Array:
        """Exact: increasing and positive."""
        return special.expit(high)


register("tanh", Tanh)
register("sigmoid", Sigmoid, aliases=("logistic",))
