"""σ″, σ‴ and bounds of sup|σ″|, sup|σ‴|, sup|σ⁗|, from which Taylor remainders of η follow.

Proofs of the constants (each is compared with dense grids in the tests):

| core | sup\\|σ″\\| | sup\\|σ‴\\| | why |
|---|---|---|---|
| tanh | 4/(3√3) | 2 | σ″ = −2t(1 − t²), σ‴ = −2(1 − t²)(1 − 3t²), polynomials of t ∈ [−1, 1] |
| erf | 2√2 e^{−1/2}/√π | 4/√π | σ″ = −2zσ′ is extremal at z² = 1/2; σ‴ = (4z² − 2)σ′ at z² = 0, 3/2 |
| arctan | 3√3/8 | 2 | σ″ = −2z/(1 + z²)² is extremal at z² = 1/3; \\|σ‴\\| = \\|6z² − 2\\|/(1 + z²)³ at z² = 0, 1 |
| gelu | 2φ(0) | 0.7788 | σ″ = (2 − z²)φ, extremal at z² = 0, 4; σ‴ = (z³ − 4z)φ at z⁴ − 7z² + 4 = 0 |
| softplus | 1/4 | 1/(6√3) | σ″ = s(1 − s), σ‴ = σ″(1 − 2s) with s ∈ [0, 1] |
| silu | 1/2 | 0.3082 | σ″ = 2s′ + zs″, σ‴ = 3s″ + zs‴; one variable, decreasing for \\|z\\| > 3 |
| gelu_tanh, mish | 0.7979, 0.6443 | 0.7768, 0.5885 | one variable, decreasing for \\|z\\| > 4 |
| sin, cos | 1 | 1 | |
| elu, softsign, relu² | 1, 2, 2 | ∞ | σ′ is Lipschitz; σ″ jumps at 0 |

| core | sup\\|σ⁗\\| | why |
|---|---|---|
| tanh | 4.0860 | 8t(2 − 3t²)(1 − t²), extremal at 15t⁴ − 15t² + 2 = 0 |
| erf | 4.4048 | (12z − 8z³)σ′, extremal at 4z⁴ − 12z² + 3 = 0 |
| arctan | 4.6687 | 24z(1 − z²)/(1 + z²)⁴, extremal at 5z⁴ − 10z² + 1 = 0 |
| gelu | 4φ(0) | (−z⁴ + 7z² − 4)φ, extremal at z² = 0, 2, 9 |
| softplus | 1/8 | q − 6q² with q = s(1 − s) ∈ [0, 1/4] |
| silu | 0.5001 | 4s‴ + zs⁗; one variable, decreasing for \\|z\\| > 4 |
| sin, cos | 1 | |

Rounded up in the last digit.  Images (sigmoid, Φ, quick_gelu, …) inherit Σ|c||s|^k times their cores' constants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sparsemf.activations import Activation, get
from sparsemf.certificates.convex.growth import growth

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

_UP = 1.0 + 1e-12
_ROOT_2PI = float(np.sqrt(2 * np.pi))
_ROOT_PI = float(np.sqrt(np.pi))


@dataclass(frozen=True)
class Smoothness:
    """``second`` and ``third`` evaluate σ″ and σ‴ (None where not known); ``sup2`` ≥ sup|σ″|, ``sup3`` ≥ sup|σ‴| and
    ``sup4`` ≥ sup|σ⁗|, or ∞."""

    second: Function | None
    sup2: float
    sup3: float
    third: Function | None = None
    sup4: float = np.inf


def _tanh(z: Array) -> Array:
    t = np.tanh(z)
    return -2 * t * (1 - t * t)


def _erf(z: Array) -> Array:
    return -4 / _ROOT_PI * z * np.exp(-z * z)


def _arctan(z: Array) -> Array:
    return -2 * z / np.square(1 + z * z)


def _gelu(z: Array) -> Array:
    return (2 - z * z) * np.exp(-0.5 * z * z) / _ROOT_2PI


def _softplus(z: Array) -> Array:
    s = special.expit(z)
    return s * (1 - s)


def _silu(z: Array) -> Array:
    s = special.expit(z)
    first = s * (1 - s)
    return first * (2 + z * (1 - 2 * s))


def _gelu_tanh(z: Array) -> Array:
    root = 2 * np.sqrt(2 / np.pi)
    s = special.expit(root * z * (1 + 0.044715 * z * z))
    inner, curve = root * (1 + 3 * 0.044715 * z * z), root * 6 * 0.044715 * z
    first = s * (1 - s)
    return first * (2 * inner + z * ((1 - 2 * s) * inner * inner + curve))


def _mish(z: Array) -> Array:
    s, t = special.expit(z), np.tanh(np.logaddexp(0.0, z))
    first = (1 - t * t) * s
    return 2 * first + z * (-2 * t * first * s + (1 - t * t) * s * (1 - s))


def _elu(z: Array) -> Array:
    return np.where(z <= 0, np.exp(np.minimum(z, 0.0)), 0.0)


def _softsign(z: Array) -> Array:
    return np.asarray(-2 * np.sign(z) / (1 + np.abs(z)) ** 3, dtype=np.float64)


def _relu2(z: Array) -> Array:
    return np.where(z > 0, 2.0, 0.0)


def _tanh_third(z: Array) -> Array:
    t = np.square(np.tanh(z))
    return -2 * (1 - t) * (1 - 3 * t)


def _erf_third(z: Array) -> Array:
    return (4 * z * z - 2) * (2 / _ROOT_PI) * np.exp(-z * z)


def _arctan_third(z: Array) -> Array:
    return (6 * z * z - 2) / (1 + z * z) ** 3


def _gelu_third(z: Array) -> Array:
    return (z * z - 4) * z * np.exp(-0.5 * z * z) / _ROOT_2PI


def _softplus_third(z: Array) -> Array:
    s = special.expit(z)
    return s * (1 - s) * (1 - 2 * s)


def _silu_third(z: Array) -> Array:
    s = special.expit(z)
    first = s * (1 - s)
    return first * (3 * (1 - 2 * s) + z * (1 - 6 * first))


_CORES: dict[str, Smoothness] = {
    "tanh": Smoothness(_tanh, 4 / (3 * np.sqrt(3)) * _UP, 2.0, _tanh_third, 4.0860),
    "erf": Smoothness(_erf, 2 * np.sqrt(2) * np.exp(-0.5) / _ROOT_PI * _UP, 4 / _ROOT_PI * _UP, _erf_third, 4.4048),
    "arctan": Smoothness(_arctan, 3 * np.sqrt(3) / 8 * _UP, 2.0, _arctan_third, 4.6687),
    "gelu": Smoothness(_gelu, 2 / np.sqrt(2 * np.pi) * _UP, 0.7788, _gelu_third, 4 / _ROOT_2PI * _UP),
    "softplus": Smoothness(_softplus, 0.25, 1 / (6 * np.sqrt(3)) * _UP, _softplus_third, 0.125),
    "silu": Smoothness(_silu, 0.5, 0.3082, _silu_third, 0.5001),
    "gelu_tanh": Smoothness(_gelu_tanh, 0.7979, 0.7768),
    "mish": Smoothness(_mish, 0.6443, 0.5885),
    "sin": Smoothness(lambda z: -np.sin(z), 1.0, 1.0, lambda z: -np.cos(z), 1.0),
    "cos": Smoothness(lambda z: -np.cos(z), 1.0, 1.0, np.sin, 1.0),
    "elu": Smoothness(_elu, 1.0, np.inf),
    "softsign": Smoothness(_softsign, 2.0, np.inf),
    "relu2": Smoothness(_relu2, 2.0, np.inf),
}
_NONE = Smoothness(None, np.inf, np.inf)


def smoothness(activation: Activation) -> Smoothness:
    """The bounds of an activation, through its image in cores; ∞ where nothing is known (kinks) or where they grow
    (exp, polynomials: :mod:`.growth`)."""
    grows = growth(activation)
    if grows is not None:
        return Smoothness(lambda z: grows.derivative(2, z), np.inf, np.inf, lambda z: grows.derivative(3, z))
    terms = activation.as_image().terms
    parts = [(t, _CORES.get(t.core, _NONE)) for t in terms]
    if not parts or any(core.second is None for _, core in parts):
        return _NONE

    def summed(order: int) -> Function:
        def derivative(z: Array) -> Array:
            total = np.zeros(np.shape(z))
            for t, core in parts:
                function = core.second if order == 2 else core.third
                assert function is not None
                total = total + t.coefficient * t.scale**order * function(t.scale * z + t.shift)
            return total

        return derivative

    sup2 = sum(abs(t.coefficient) * t.scale**2 * core.sup2 for t, core in parts)
    sup3 = sum(abs(t.coefficient) * abs(t.scale) ** 3 * core.sup3 for t, core in parts)
    sup4 = sum(abs(t.coefficient) * t.scale**4 * core.sup4 for t, core in parts)
    third = summed(3) if all(core.third is not None for _, core in parts) else None
    return Smoothness(summed(2), float(sup2) * _UP, float(sup3) * _UP, third, float(sup4) * _UP)


def core_names() -> tuple[str, ...]:
    """The cores with constants."""
    return tuple(name for name in _CORES if get(name).image is None)
