"""The activations as the checker knows them: values, flip relation, Lipschitz constant, kinks.

Written on numpy and libm alone, apart from :mod:`sparsemf.activations`; a mistake there is not repeated here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def erf(z: Array) -> Array:
    """erf, elementwise."""
    return np.asarray(_erf(z), dtype=np.float64)


def normal_cdf(z: Array) -> Array:
    """Φ(z) = erfc(−z/√2)/2."""
    return 0.5 * np.asarray(_erfc(-np.asarray(z) / math.sqrt(2)), dtype=np.float64)


def logistic(z: Array) -> Array:
    """1/(1 + e^{−z}) without overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


@dataclass(frozen=True)
class Function:
    """σ with σ(z) = sign·σ(−z) + constant + linear·z, |σ′| ≤ lipschitz, |σ(z)| ≤ |σ(0)| + lipschitz·|z|."""

    value: Callable[[Array], Array]
    lipschitz: float
    sign: int
    constant: float
    linear: float
    homogeneous: bool = False
    slopes: tuple[float, float] | None = None  # σ = right·relu(z) + left·relu(−z)


def _piecewise(right: float, left: float) -> Function:
    return Function(
        lambda z: np.where(z > 0, right * z, -left * z),
        max(abs(right), abs(left)),
        1,
        0.0,
        right - left,
        homogeneous=True,
        slopes=(right, left),
    )


_ROOT = math.sqrt(2 / math.pi)
_FUNCTIONS: dict[str, Function] = {
    "relu": _piecewise(1.0, 0.0),
    "abs": _piecewise(1.0, 1.0),
    "leaky_relu": _piecewise(1.0, -0.01),
    "tanh": Function(np.tanh, 1.0, -1, 0.0, 0.0),
    "erf": Function(erf, 2 / math.sqrt(math.pi) * (1 + 1e-15), -1, 0.0, 0.0),
    "sigmoid": Function(logistic, 0.25, -1, 1.0, 0.0),
    "softplus": Function(lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))), 1.0, 1, 0.0, 1.0),
    "silu": Function(lambda z: z * logistic(z), 1.09985, 1, 0.0, 1.0),
    "quick_gelu": Function(lambda z: z * logistic(1.702 * z), 1.09985, 1, 0.0, 1.0),
    "gelu": Function(lambda z: z * normal_cdf(z), 1.1290, 1, 0.0, 1.0),
    "gelu_tanh": Function(lambda z: 0.5 * z * (1 + np.tanh(_ROOT * (z + 0.044715 * z**3))), 1.1291, 1, 0.0, 1.0),
}


def function(name: str) -> Function:
    """The activation called ``name``; raises ``KeyError`` for one the checker does not know."""
    if name.startswith("leaky_relu(") and name.endswith(")"):
        return _piecewise(1.0, -float(name[len("leaky_relu(") : -1]))
    return _FUNCTIONS[name]
