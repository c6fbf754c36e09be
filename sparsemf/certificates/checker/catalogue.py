"""The activations as the checker knows them: a few *cores*, and every other activation as an image of cores.

    σ(z) = Σ_j coefficient_j · core_j(scale_j·z + shift_j) + p₀ + p₁ z.

Written on numpy, libm and python-flint alone, apart from :mod:`sparsemf.activations`; a mistake there is not
repeated here.  The facts about each core that bounds rest on:

- ``centre`` μ and ``lipschitz`` L: |σ′(z) − μ| ≤ L for all z, so σ − μz is L-Lipschitz (L = ∞: use ``power`` or exp);
- ``flip``: (s, p) with σ(z) = s·σ(−z) + p₀ + p₁ z + p₂ z², None without one;
- ``degree``: k with σ(tz) = t^k σ(z) for t > 0, 0 without one;
- ``bound``: sup |σ| (∞ allowed), ``strip`` (y, B₀, B₁): σ is analytic for |Im z| < y and |σ(z)| ≤ B₀ + B₁|z| there.

Proofs of the strips: docs/certificates.md, "What the checker believes".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

Array = NDArray[np.float64]

_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def _logistic(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def _softplus(z: Array) -> Array:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def _ball_relu(z: arb) -> arb:
    return z.nonnegative_part() if z > 0 or z < 0 else arb(0).union(z.nonnegative_part())


def _ball_softplus(z: arb) -> arb:
    return _ball_relu(z) + (-abs(z)).exp().log1p()


def _ball_mish(z: arb) -> arb:
    return z * _ball_softplus(z).tanh()


def _ball_elu(z: arb) -> arb:
    return _ball_relu(z) - _ball_relu(-((-_ball_relu(-z)).expm1()))


def _ball_power(z: arb, k: int) -> arb:
    """z^k by products: flint's own power of a ball around 0 is NaN."""
    out = arb(1)
    for _ in range(k):
        out = out * z
    return out


@dataclass(frozen=True)
class Core:
    """One core activation; see the module's docstring.  ``value`` is within 32 ulps of (|σ(0)| + sup-slope·|z|)."""

    name: str
    value: Callable[[Array], Array]
    ball: Callable[[arb], arb]
    centre: float = 0.0
    lipschitz: float = math.inf
    flip: tuple[int, tuple[float, float, float]] | None = None
    degree: int = 0
    bound: float = math.inf
    strip: tuple[float, float, float] | None = None
    at_zero: float = 0.0
    power: int = 0  # |σ(z)| ≤ |z|^power and |σ′(z)| ≤ power·|z|^(power−1), for non-Lipschitz cores of this kind

    @property
    def slope(self) -> float:
        """sup |σ′|."""
        return self.centre + self.lipschitz

    def variation(self, z: Array) -> Array:
        """sup |σ′| over [−z, z], z ≥ 0."""
        if math.isfinite(self.lipschitz):
            return np.full_like(z, self.slope)
        with np.errstate(over="ignore"):
            return self.power * z ** (self.power - 1) if self.power else np.exp(z)

    def largest(self, z: Array) -> Array:
        """sup |σ| over [−z, z]."""
        if math.isfinite(self.lipschitz):
            return self.at_zero + self.slope * z
        with np.errstate(over="ignore"):
            return z**self.power if self.power else np.exp(z)


_ODD, _EVEN = (-1, (0.0, 0.0, 0.0)), (1, (0.0, 0.0, 0.0))
_GATE = (1, (0.0, 1.0, 0.0))
_ROOT = math.sqrt(2 / math.pi)
_HALF_PI = math.nextafter(math.pi / 2, 2.0)

_CORES = (
    Core("relu", lambda z: np.maximum(z, 0.0), _ball_relu, 0.5, 0.5, _GATE, 1),
    Core(
        "relu2",
        lambda z: np.maximum(z, 0.0) ** 2,
        lambda z: _ball_power(_ball_relu(z), 2),
        flip=(-1, (0.0, 0.0, 1.0)),
        degree=2,
        power=2,
    ),
    Core("tanh", np.tanh, lambda z: z.tanh(), 0.5, 0.5, _ODD, bound=1.0, strip=(1.4765, 10.7, 0.0)),
    Core(
        "erf",
        lambda z: np.asarray(_erf(z), dtype=np.float64),
        lambda z: z.erf(),
        0.5642,
        0.5642,
        _ODD,
        bound=1.0,
        strip=(3.0, 27500.0, 0.0),
    ),
    Core("arctan", np.arctan, lambda z: z.atan(), 0.5, 0.5, _ODD, bound=_HALF_PI, strip=(0.95, 2.5, 0.0)),
    Core("softsign", lambda z: z / (1 + np.abs(z)), lambda z: z / (1 + abs(z)), 0.5, 0.5, _ODD, bound=1.0),
    Core(
        "silu",
        lambda z: z * _logistic(z),
        lambda z: z / (1 + (-z).exp()),
        0.5,
        0.6,
        _GATE,
        strip=(2.827, 0.0, 3.24),
    ),
    Core(
        "gelu",
        lambda z: 0.5 * z * np.asarray(_erfc(z / -math.sqrt(2)), dtype=np.float64),
        lambda z: z * (-z / arb(2).sqrt()).erfc() / 2,
        0.5,
        0.629,
        _GATE,
        strip=(4.0, 0.0, 4770.0),
    ),
    Core(
        "gelu_tanh",
        lambda z: 0.5 * z * (1 + np.tanh(_ROOT * (z + 0.044715 * z**3))),
        lambda z: z * (1 + ((2 / arb.pi()).sqrt() * (z + arb("0.044715") * _ball_power(z, 3))).tanh()) / 2,
        0.5,
        0.6295,
        _GATE,
        strip=(0.8, 0.0, 1.16),
    ),
    Core("softplus", _softplus, _ball_softplus, 0.5, 0.5, _GATE, strip=(2.827, 4.1, 1.0), at_zero=math.log(2) + 1e-15),
    Core("elu", lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0.0))), _ball_elu, 0.5, 0.5),
    Core("mish", lambda z: z * np.tanh(_softplus(z)), _ball_mish, 0.49, 0.61, strip=(1.57, 0.0, 3.0)),
    Core("sin", np.sin, lambda z: z.sin(), 0.0, 1.0, _ODD, bound=1.0),
    Core("cos", np.cos, lambda z: z.cos(), 0.0, 1.0, _EVEN, bound=1.0, at_zero=1.0),
    Core("exp", np.exp, lambda z: z.exp(), at_zero=1.0),
)
CORES: dict[str, Core] = {core.name: core for core in _CORES}


def _power(k: int) -> Core:
    return Core(
        f"power{k}",
        lambda z: z**k,
        lambda z: _ball_power(z, k),
        flip=_EVEN if k % 2 == 0 else _ODD,
        degree=k,
        power=k,
    )


HIGHEST_POWER = 8
CORES.update({f"power{k}": _power(k) for k in range(2, HIGHEST_POWER + 1)})
ORDER: tuple[str, ...] = tuple(CORES)

Constant = Callable[[], Any]


def _number(text: str | float) -> Constant:
    """An exact constant: a decimal string means that decimal, a float that float."""
    return lambda: arb(text)


_ONE, _ZERO = _number(1.0), _number(0.0)


@dataclass(frozen=True)
class Term:
    """coefficient·core(scale·z + shift)."""

    core: str
    coefficient: Constant = _ONE
    scale: Constant = _ONE
    shift: Constant = _ZERO


@dataclass(frozen=True)
class Image:
    """An activation by its terms and p₀ + p₁ z.  ``frequency``: the bias moves into the coefficients of sin and cos;
    ``translation``: into e^b."""

    terms: tuple[Term, ...]
    constant: Constant = _ZERO
    linear: Constant = _ZERO
    frequency: tuple[str, str] | None = None
    translation: bool = False


def _over(numerator: float, denominator: float) -> Constant:
    return lambda: arb(numerator) / arb(denominator)


def _elu(alpha: str | float, outer: str | float = 1.0) -> Image:
    """outer·elu_α = outer·((1 − α)·relu + α·elu₁)."""
    first = Term("relu", lambda: arb(outer) * (1 - arb(alpha)))
    second = Term("elu", lambda: arb(outer) * arb(alpha))
    return Image((second,) if alpha == 1.0 else (first, second))


def _clipped(low: float, high: float, factor: Constant, constant: float) -> Image:
    """factor·(relu(z − low) − relu(z − high)) + constant."""
    return Image(
        (Term("relu", factor, _ONE, _number(-low)), Term("relu", lambda: -factor(), _ONE, _number(-high))),
        _number(constant),
    )


def _polynomial(coefficients: list[int]) -> Image:
    terms = tuple(Term(f"power{k}", _number(float(c))) for k, c in enumerate(coefficients) if k >= 2 and c)
    low = [*coefficients, 0, 0]
    return Image(terms, _number(float(low[0])), _number(float(low[1])))


def _hermite(k: int) -> list[int]:
    """Coefficients of the monic probabilists' He_k."""
    previous, current = [0], [1]
    for j in range(k):
        following = [0, *current]
        for i, c in enumerate(previous):
            following[i] -= j * c
        previous, current = current, following
    return current


_SELU = ("1.6732632423543772848170429916717", "1.0507009873554804934193349852946")
_IMAGES: dict[str, Image] = {
    **{
        name: Image((Term(name),))
        for name in CORES
        if name not in ("sin", "cos", "exp") and not name.startswith("power")
    },
    "abs": Image((Term("relu", _number(2.0)),), linear=_number(-1.0)),
    "relu6": _clipped(0.0, 6.0, _ONE, 0.0),
    "hardtanh": _clipped(-1.0, 1.0, _ONE, -1.0),
    "hard_sigmoid": _clipped(-3.0, 3.0, _over(1, 6), 0.0),
    "sigmoid": Image((Term("tanh", _number(0.5), _number(0.5)),), _number(0.5)),
    "normal_cdf": Image((Term("erf", _number(0.5), lambda: 1 / arb(2).sqrt()),), _number(0.5)),
    "quick_gelu": Image((Term("silu", lambda: 1 / arb("1.702"), _number("1.702")),)),
    "selu": _elu(*_SELU),
    "sin": Image((Term("sin"), Term("cos")), frequency=("cos", "sin")),
    "cos": Image((Term("cos"), Term("sin")), frequency=("cos", "-sin")),
    "exp": Image((Term("exp"),), translation=True),
    "linear": Image((), linear=_ONE),
    "quadratic": _polynomial([0, 0, 1]),
    "cubic": _polynomial([0, 0, 0, 1]),
}
_CALL = re.compile(r"^([a-z_0-9]+)\(([^(),]+)\)$")


def image(name: str) -> Image:
    """The activation called ``name`` in terms of cores; raises ``KeyError`` for one the checker does not know."""
    if name in _IMAGES:
        return _IMAGES[name]
    base, parameter = name, ""
    if match := _CALL.match(name):
        base, parameter = match.groups()
    if base == "hermite":
        k = int(parameter)
        if not 0 <= k <= HIGHEST_POWER:
            raise KeyError(name)
        return _polynomial(_hermite(k))
    value = float(parameter) if parameter else (0.01 if base == "leaky_relu" else 1.0)
    if not math.isfinite(value):
        raise KeyError(name)
    if base == "leaky_relu":
        return Image((Term("relu", lambda: 1 - arb(value)),), linear=_number(value))
    if base == "elu":
        return _elu(value)
    if base == "celu" and value > 0:
        return Image((Term("elu", _number(value), lambda: 1 / arb(value)),))
    raise KeyError(name)
