"""Activations with their first derivatives: float64 at points, and sup|σ″|, sup|σ‴|, sup|σ⁗| over the line.

Each smooth core's derivatives are elementary formulas (:data:`_SMOOTH`); those with a knot are in :mod:`knots`.
The suprema are enclosed here, in ball arithmetic: the formulas are evaluated on a partition of a compact set into
small cells, and beyond it a stated majorant decreases.

| core | variable | partition | beyond it |
|---|---|---|---|
| tanh | t = tanh z | [0, 1] | nothing |
| softplus | s = 1/(1 + e^{−z}) | [0, 1] | nothing |
| arctan | z | [0, 8] | \\|σ″\\| ≤ 2/z³, \\|σ‴\\| ≤ 6/z⁴, \\|σ⁗\\| ≤ 24/z⁵ |
| erf, gelu | z | [0, 10] | Σ\\|coefficient\\|z^j times the Gaussian, j ≤ 4: decreasing for z ≥ 2 |
| silu | z | [0, 16] | \\|s^{(j)}\\| ≤ 2s(1 − s) ≤ 2e^{−z} for j = 1 … 4, so ≤ (8 + 2z)e^{−z} |
| gelu_tanh, mish | z | [0, 8], [−16, 16] | :mod:`composed` |
| sin, cos | | | 1 |
| exp, z^n | | | :mod:`entire`: they grow, and are bounded on each interval |

z ≥ 0 suffices where there is a flip in :mod:`catalogue` (affine in z): \\|σ^{(k)}\\| is even for k ≥ 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from flint import arb
from numpy.typing import NDArray

from sparsemf.certificates.checker import entire
from sparsemf.certificates.checker.catalogue import CORES, Image, Term, image
from sparsemf.certificates.checker.composed import (
    gelu_tanh,
    gelu_tanh_balls,
    gelu_tanh_tail,
    mish,
    mish_balls,
    mish_tail,
)
from sparsemf.certificates.checker.knots import KNOTS

Array = NDArray[np.float64]
Derivatives = Callable[[Array], tuple[Array, ...]]

EVALUATION = 2.0**-40
"""σ, σ′, σ″, σ‴ of a core as computed from a float z are within EVALUATION·(1 + |z|): the formulas have at most 16
operations with terms of at most 2⁶(1 + |z|) (a Gaussian's relative error z² units included), and libm errs by 32
units (gelu_tanh, mish: :mod:`composed`; relu²: relatively, with the sum)."""
_ERFC = np.frompyfunc(math.erfc, 1, 1)
_ROOT_2PI = math.sqrt(2 * math.pi)
_GAUSS = 2 / math.sqrt(math.pi)


def _tanh(z: Array) -> tuple[Array, ...]:
    t = np.tanh(z)
    square = t * t
    slope = 1 - square
    return t, slope, -2 * t * slope, slope * (6 * square - 2)


def _erf(z: Array) -> tuple[Array, ...]:
    square = z * z
    slope = _GAUSS * np.exp(-square)
    return CORES["erf"].value(z), slope, -2 * z * slope, (4 * square - 2) * slope


def _arctan(z: Array) -> tuple[Array, ...]:
    slope = 1 / (1 + z * z)
    return np.arctan(z), slope, -2 * z * slope * slope, (6 - 8 * slope) * slope * slope


def _gelu(z: Array) -> tuple[Array, ...]:
    square = z * z
    density = np.exp(-0.5 * square) / _ROOT_2PI
    cdf = 0.5 * np.asarray(_ERFC(z / -math.sqrt(2)), dtype=np.float64)
    return z * cdf, cdf + z * density, (2 - square) * density, z * (square - 4) * density


def _gate(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1 + e)


def _softplus(z: Array) -> tuple[Array, ...]:
    s = _gate(z)
    bend = s * (1 - s)
    return CORES["softplus"].value(z), s, bend, bend * (1 - 2 * s)


def _silu(z: Array) -> tuple[Array, ...]:
    s = _gate(z)
    first = s * (1 - s)
    tilt = 1 - 2 * s
    return z * s, s + z * first, first * (2 + z * tilt), first * (3 * tilt + z * (1 - 6 * first))


def _sin(z: Array) -> tuple[Array, ...]:
    s, c = np.sin(z), np.cos(z)
    return s, c, -s, -c


def _cos(z: Array) -> tuple[Array, ...]:
    s, c = np.sin(z), np.cos(z)
    return c, -s, -c, s


def _cells(low: float, high: float, count: int) -> list[arb]:
    """Balls that cover [low, high]."""
    width = (high - low) / count  # a power of two times a whole number: exact
    return [arb(low + (k + 0.5) * width, 0.5 * width) for k in range(count)]


def _tanh_balls(t: arb) -> tuple[arb, arb, arb]:
    slope = 1 - t * t
    return 2 * t * slope, 2 * slope * (1 - 3 * t * t), 8 * t * slope * (2 - 3 * t * t)


def _softplus_balls(s: arb) -> tuple[arb, arb, arb]:
    bend = s * (1 - s)
    return bend, bend * (1 - 2 * s), bend * (1 - 6 * bend)


def _arctan_balls(z: arb) -> tuple[arb, arb, arb]:
    u = 1 / (1 + z * z)
    return 2 * z * u * u, (6 - 8 * u) * u * u, 24 * z * (1 - z * z) * u * u * u * u


def _erf_balls(z: arb) -> tuple[arb, arb, arb]:
    slope = 2 * (-z * z).exp() / arb.pi().sqrt()
    return 2 * z * slope, (4 * z * z - 2) * slope, (12 * z - 8 * z * z * z) * slope


def _gelu_balls(z: arb) -> tuple[arb, arb, arb]:
    density = (-z * z / 2).exp() / (2 * arb.pi()).sqrt()
    square = z * z
    return (2 - square) * density, z * (square - 4) * density, (square * (7 - square) - 4) * density


def _silu_balls(z: arb) -> tuple[arb, arb, arb]:
    s = 1 / (1 + (-z).exp())
    first = s * (1 - s)
    second, third = first * (1 - 2 * s), first * (1 - 6 * first)
    return 2 * first + z * second, 3 * second + z * third, 4 * third + z * second * (1 - 12 * first)


def _none(_: float) -> tuple[arb, arb, arb]:
    return arb(0), arb(0), arb(0)


def _arctan_tail(z: float) -> tuple[arb, arb, arb]:
    return 2 / arb(z) ** 3, 6 / arb(z) ** 4, 24 / arb(z) ** 5


def _erf_tail(z: float) -> tuple[arb, arb, arb]:
    slope = 2 * (-(arb(z) ** 2)).exp() / arb.pi().sqrt()
    return 2 * z * slope, (4 * arb(z) ** 2 + 2) * slope, (12 * z + 8 * arb(z) ** 3) * slope


def _gelu_tail(z: float) -> tuple[arb, arb, arb]:
    density = (-(arb(z) ** 2) / 2).exp() / (2 * arb.pi()).sqrt()
    return (2 + arb(z) ** 2) * density, (arb(z) ** 3 + 4 * z) * density, (arb(z) ** 4 + 7 * arb(z) ** 2 + 4) * density


def _silu_tail(z: float) -> tuple[arb, arb, arb]:
    most = (8 + 2 * arb(z)) * (-arb(z)).exp()
    return most, most, most


@dataclass(frozen=True)
class Smooth:
    """``at``: (σ, σ′, σ″, σ‴) in float64; ``balls``: σ″, σ‴, σ⁗ (up to sign) on a cell of [0, reach], or of [−reach,
    reach] without a flip; ``tail``: bounds beyond it."""

    at: Derivatives
    balls: Callable[[arb], tuple[arb, arb, arb]] | None = None
    reach: float = 0.0
    tail: Callable[[float], tuple[arb, arb, arb]] = _none
    cells: int = 2048


_SMOOTH: dict[str, Smooth] = {
    "tanh": Smooth(_tanh, _tanh_balls, 1.0),
    "erf": Smooth(_erf, _erf_balls, 10.0, _erf_tail),
    "arctan": Smooth(_arctan, _arctan_balls, 8.0, _arctan_tail),
    "gelu": Smooth(_gelu, _gelu_balls, 10.0, _gelu_tail),
    "softplus": Smooth(_softplus, _softplus_balls, 1.0),
    "silu": Smooth(_silu, _silu_balls, 16.0, _silu_tail),
    "gelu_tanh": Smooth(gelu_tanh, gelu_tanh_balls, 8.0, gelu_tanh_tail),
    "mish": Smooth(mish, mish_balls, 16.0, mish_tail, 4096),
    "sin": Smooth(_sin),
    "cos": Smooth(_cos),
}
NAMES = tuple(_SMOOTH)


@cache
def suprema(core: str) -> tuple[float, float, float, float]:
    """Upper bounds of sup|σ′|, …, sup|σ⁗| of a core (with a knot: of its pieces' continuations, σ′ of σ itself; of
    relu², whose slope is not bounded, 0 in its place)."""
    if core in KNOTS:
        return (CORES[core].slope if math.isfinite(CORES[core].slope) else 0.0, *KNOTS[core].sup)
    smooth = _SMOOTH[core]
    if smooth.balls is None:
        return CORES[core].slope, 1.0, 1.0, 1.0
    most = [float(bound.upper()) for bound in smooth.tail(smooth.reach)]
    for cell in _cells(0.0 if CORES[core].flip is not None else -smooth.reach, smooth.reach, smooth.cells):
        most = [max(a, float(abs(b).upper())) for a, b in zip(most, smooth.balls(cell), strict=True)]
    if not all(math.isfinite(bound) for bound in most):
        raise ArithmeticError("a derivative was not enclosed")
    second, third, fourth = (math.nextafter(bound, math.inf) for bound in most)  # float() rounds to nearest
    return CORES[core].slope, second, third, fourth


@dataclass(frozen=True)
class Profile:
    """σ(z) = Σ_j c_j core_j(s_j z + t_j) + p₀ + p₁ z in float64, s_j > 0.

    ``sup`` (5,): |σ(0)|, sup|σ′|, and sup|σ^{(k)}| of the continuations, all but ``growing``; ``square``: Σ|c|s² over
    the terms in relu², which grow; ``amplitude`` (4,): Σ|c||s|^k; ``steepest``: max(1, |s_j|); ``farthest``: max(|t_j|,
    |t_j|/s_j); ``parity``: ±1 where σ(−z) = ±σ(z), else 0; ``growing``: (core, c) of exp and powers of z itself;
    ``degree``: k where σ is p₁z or c z^k, else 0.  The float constants are within 2⁻⁵² of the true ones, relatively.
    """

    terms: tuple[tuple[str, float, float, float], ...]
    constant: float
    sup: tuple[float, ...]
    square: float
    amplitude: tuple[float, ...]
    steepest: float
    farthest: float
    parity: int
    linear: float = 0.0
    growing: tuple[tuple[str, float], ...] = ()
    degree: int = 0

    @property
    def knots(self) -> list[tuple[str, float, float, float]]:
        """The terms with a knot."""
        return [term for term in self.terms if term[0] in KNOTS]

    def at(self, z: Array, orders: int) -> list[Array]:
        """σ, …, σ^{(orders − 1)} at z; at a knot, of the pieces on z's side."""
        out = [np.full(z.shape, self.constant)] + [np.zeros(z.shape) for _ in range(orders - 1)]
        for core, c, s, t in self.terms:
            values = (KNOTS[core].at if core in KNOTS else _SMOOTH[core].at)(s * z + t)
            for k in range(orders):
                out[k] += c * s**k * values[k]
        for core, c in self.growing:
            out = [total + c * value for total, value in zip(out, entire.at(core, z, orders), strict=True)]
        if self.linear:
            out[0] += self.linear * z
            out[1:2] = [slope + self.linear for slope in out[1:2]]
        return out

    def size(self, k: int, z: Array) -> Array:
        """Bounds of |σ| (k = 0), |σ′| (k = 1), or of the continuations' k-th derivative, on [−z, z]."""
        return self.within(k, -z, z)

    def within(self, k: int, low: Array, high: Array) -> Array:
        """The same on [low, high]."""
        z, grown = np.maximum(np.abs(low), np.abs(high)), self.grown(k, low, high)
        if k == 0:
            return self.sup[0] + self.sup[1] * z + self.square * z * z + grown
        return np.full(z.shape, self.sup[k]) + (2 * self.square * z if k == 1 else 0.0) + grown

    def grown(self, k: int, low: Array, high: Array) -> Array:
        """What ``growing`` has of that."""
        return sum((abs(c) * entire.peak(core, k, low, high) for core, c in self.growing), np.zeros(low.shape))


def profile(name: str) -> Profile:
    """The activation of that name; raises ``KeyError`` where its derivatives are not known here."""
    found = Image((Term(name),)) if name in ("sin", "cos") else image(name)
    growing = tuple((t.core, t.coefficient()) for t in found.terms if entire.is_entire(t.core))
    bounded = [t for t in found.terms if not entire.is_entire(t.core)]
    if (
        not found.terms
        or any(t.core not in _SMOOTH and t.core not in KNOTS for t in bounded)
        or (found.linear() != 0 and bounded)
        or any(t.scale() != 1 or t.shift() != 0 for t in found.terms if t not in bounded)
    ):
        raise KeyError(name)
    constant, linear = arb(found.constant()), arb(found.linear())
    size, amplitude, square = [abs(constant), abs(linear)] + [arb(0)] * 3, [arb(0)] * 4, arb(0)
    parities: set[int] = (set() if constant.is_zero() else {1}) | (set() if linear.is_zero() else {-1})
    for core, _ in growing:
        flip = CORES[core].flip
        parities.add(flip[0] if flip is not None else 0)
    steepest, farthest = [1.0], [0.0]
    for term in bounded:
        core, c, s, t = CORES[term.core], abs(term.coefficient()), term.scale(), abs(term.shift())
        if not s > 0 or (term.core == "relu2" and t != 0):
            raise KeyError(name)
        slopes = suprema(term.core)
        for k, bound in enumerate((core.at_zero + slopes[0] * t, *slopes)):
            size[k] += c * s**k * bound
        for k in range(4):
            amplitude[k] += c * s**k
        square += c * s * s if term.core == "relu2" else arb(0)
        steepest.append(_above(s))
        farthest += [_above(arb(t)), _above(arb(t) / s)]
        odd_or_even = core.flip is not None and not any(core.flip[1]) and t == 0
        parities.add(core.flip[0] if core.flip is not None and odd_or_even else 0)
    return Profile(
        tuple((t.core, float(t.coefficient().mid()), float(t.scale().mid()), float(t.shift().mid())) for t in bounded),
        float(constant.mid()),
        tuple(_above(x) for x in size),
        _above(square) if square > 0 else 0.0,
        tuple(_above(x) for x in amplitude),
        max(steepest),
        max(farthest),
        parities.pop() if len(parities) == 1 else 0,
        float(linear.mid()),
        tuple((core, float(c.mid())) for core, c in growing),
        0 if bounded else entire.homogeneity(found),
    )


def _above(x: arb) -> float:
    return math.nextafter(float(x.upper()), math.inf)
