"""Cores with a knot at 0, two smooth pieces: relu, relu², elu, softsign.  At z the piece of z's own side counts (the
right one at 0).

A *continuation* of a piece over the knot is a function of class C³ with bounded fourth derivative that agrees
with σ on the piece's side.  It is never evaluated on the other side; that it exists, with suprema S_k of its
derivatives k = 2, 3, 4 and with |σ(z) − its value| ≤ K|z| + ½Jz² over there, is all that a Taylor bound needs.

| core | pieces (left, right) | continuation | S₂, S₃, S₄ | K, J |
|---|---|---|---|---|
| relu | 0, z | themselves | 0, 0, 0 | 1, 0 |
| relu2 | 0, z² | themselves | 2, 0, 0 | 0, 2 |
| elu | e^z − 1, z | right: itself; left: σ‴ = (1 − z)₊ for z > 0 | 3/2, 1, 1 | 0, 3/2 |
| softsign | z/(1 ∓ z) | right: σ‴ = (6 + 24z)₊ for z < 0; left: mirrored | 11/4, 6, 24 | 0, 19/4 |

elu: the left's second derivative grows from 1 to 3/2 and stays; its difference to z has value and slope 0 at 0
and second derivative at most 3/2.  The right's difference to e^z − 1 has second derivative e^z ≤ 1.  softsign:
from −2 the second derivative falls to −2 − 3/4, σ″ ∈ (0, 2] there.  relu − (either piece) is never negative:
``rises``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Knot:
    """``at``: σ, σ′, σ″, σ‴ of the piece; ``sup``: S₂, S₃, S₄; ``kink``, ``bend``: K, J; ``rises``: σ is nowhere below
    a continuation."""

    at: Callable[[Array], tuple[Array, ...]]
    sup: tuple[float, float, float]
    kink: float
    bend: float
    rises: bool = False


def _relu(z: Array) -> tuple[Array, ...]:
    zero = np.zeros(z.shape)
    return np.maximum(z, 0.0), np.where(z >= 0, 1.0, 0.0), zero, zero


def _relu2(z: Array) -> tuple[Array, ...]:
    right = np.maximum(z, 0.0)
    return right * right, 2 * right, np.where(z >= 0, 2.0, 0.0), np.zeros(z.shape)


def _elu(z: Array) -> tuple[Array, ...]:
    left = np.minimum(z, 0.0)
    e = np.exp(left)
    bent = np.where(z >= 0, 0.0, e)
    return np.where(z >= 0, z, np.expm1(left)), np.where(z >= 0, 1.0, e), bent, bent


def _softsign(z: Array) -> tuple[Array, ...]:
    y = 1 / (1 + np.abs(z))
    square = y * y
    return z * y, square, np.where(z >= 0, -2.0, 2.0) * square * y, 6 * square * square


KNOTS: dict[str, Knot] = {
    "relu": Knot(_relu, (0.0, 0.0, 0.0), 1.0, 0.0, rises=True),
    "relu2": Knot(_relu2, (2.0, 0.0, 0.0), 0.0, 2.0),
    "elu": Knot(_elu, (1.5, 1.0, 1.0), 0.0, 1.5),
    "softsign": Knot(_softsign, (2.75, 6.0, 24.0), 0.0, 4.75),
}
