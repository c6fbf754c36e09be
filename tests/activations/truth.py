"""The activations a second time, in ball arithmetic: values and Gaussian integrals as enclosures, written from their
definitions.

A piecewise σ is given by its breaks and one analytic branch per piece, so that ``acb.integral`` (rigorous
Gauss–Legendre with adaptive bisection) encloses each integral.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flint import acb, arb, arb_poly, ctx

ctx.prec = 128
_REACH = 16
"""Beyond |g| = 16 the Gaussian weight is below 1e-55."""

Branch = Callable[[acb, bool], acb]
J = acb(0, 1)
ROOT2, PI = acb(2).sqrt(), acb.pi()


@dataclass(frozen=True)
class Exact:
    """σ by branches: ``branches[i]`` holds left of ``breaks[i]`` and right of ``breaks[i − 1]``."""

    breaks: tuple[float, ...]
    branches: tuple[Branch, ...]

    def value_and_slope(self, z: float) -> tuple[float, float]:
        """σ(z) and σ′(z), the latter as Im σ(z + ih)/h with h = 2^−50: right to h² ≈ 1e-30."""
        branch = self.branches[sum(z > b for b in self.breaks)]
        step = arb(2) ** -50
        return float(branch(acb(z), False).real), float(branch(acb(z, step), False).imag / step)


def _sigmoid(z: acb) -> acb:
    if z.real < 0:
        return z.exp() / (1 + z.exp())
    return 1 / (1 + (-z).exp())


def _log1pexp(z: acb, analytic: bool) -> acb:
    # log(1 + e^z) = z + log(1 + e^{−z}) keeps the argument of the logarithm near 1
    return z + ((-z).exp() + 1).log(analytic) if z.real > 0 else (z.exp() + 1).log(analytic)


def _mish(z: acb, _: bool) -> acb:
    # tanh(log(1 + e^z)) = (s² − 1)/(s² + 1), s = 1 + e^z
    if z.real > 0:
        e = (-z).exp()
        return z * (1 + 2 * e) / (1 + 2 * e + 2 * e * e)
    e = z.exp()
    return z * (e * e + 2 * e) / (e * e + 2 * e + 2)


def _hermite(k: int) -> Branch:
    previous, current = arb_poly([0]), arb_poly([1])
    for j in range(k):
        previous, current = current, arb_poly([0, 1]) * current - j * previous
    coefficients = list(current)

    def branch(z: acb, _: bool) -> acb:
        total = acb(0)
        for c in reversed(coefficients):
            total = total * z + c
        return total

    return branch


def _smooth(branch: Callable[[acb], acb]) -> Exact:
    return Exact((), (lambda z, _: branch(z),))


def _split(left: Callable[[acb], acb], right: Callable[[acb], acb]) -> Exact:
    return Exact((0.0,), (lambda z, _: left(z), lambda z, _: right(z)))


def _clip(low: float, high: float, divisor: int, base: int) -> Exact:
    return Exact(
        (low, high),
        (
            lambda z, _: acb(base),
            lambda z, _: (z - low) / divisor + base,
            lambda z, _: acb(high - low) / divisor + base,
        ),
    )


def _elu(alpha: object, scale: object = 1, rate: object = 1) -> Exact:
    return _split(lambda z: scale * alpha * ((z * rate).exp() - 1), lambda z: z * scale)


def _zero(_: acb) -> acb:
    return acb(0)


_LEAKY, _TENTHS = arb(0.01), arb("0.044715")
_SELU = arb("1.6732632423543772848170429916717"), arb("1.0507009873554804934193349852946")

EXACT: dict[str, Exact] = {
    "relu": _split(_zero, lambda z: z),
    "leaky_relu": _split(lambda z: z * _LEAKY, lambda z: z),
    "leaky_relu(0.3)": _split(lambda z: z * arb(0.3), lambda z: z),
    "abs": _split(lambda z: -z, lambda z: z),
    "relu2": _split(_zero, lambda z: z * z),
    "relu6": _clip(0.0, 6.0, 1, 0),
    "hardtanh": _clip(-1.0, 1.0, 1, -1),
    "hard_sigmoid": _clip(-3.0, 3.0, 6, 0),
    "elu": _elu(1),
    "elu(0.4)": _elu(arb(0.4)),
    "celu": _elu(1),
    "celu(2.5)": _elu(arb(2.5), 1, 1 / arb(2.5)),
    "selu": _elu(*_SELU),
    "softsign": _split(lambda z: z / (1 - z), lambda z: z / (1 + z)),
    "tanh": _smooth(lambda z: z.tanh()),
    "sigmoid": _smooth(_sigmoid),
    "erf": _smooth(lambda z: z.erf()),
    "normal_cdf": _smooth(lambda z: (-z / ROOT2).erfc() / 2),
    "gelu": _smooth(lambda z: z * (-z / ROOT2).erfc() / 2),
    "gelu_tanh": _smooth(lambda z: z * _sigmoid(2 * (2 / PI).sqrt() * (z + _TENTHS * z * z * z))),
    "silu": _smooth(lambda z: z * _sigmoid(z)),
    "quick_gelu": _smooth(lambda z: z * _sigmoid(z * arb("1.702"))),
    "softplus": Exact((), (_log1pexp,)),
    "mish": Exact((), (_mish,)),
    "arctan": Exact((), (lambda z, a: ((1 + J * z).log(a) - (1 - J * z).log(a)) / (2 * J),)),
    "sin": _smooth(lambda z: z.sin()),
    "cos": _smooth(lambda z: z.cos()),
    "exp": _smooth(lambda z: z.exp()),
    "linear": _smooth(lambda z: z),
    "quadratic": _smooth(lambda z: z * z),
    "cubic": _smooth(lambda z: z * z * z),
    "hermite": Exact((), (_hermite(3),)),
    "hermite(6)": Exact((), (_hermite(6),)),
}


def _over_pieces(exact: Exact, r: float, b: float, integrand: Callable[[Branch, acb, bool], acb]) -> arb:
    """∫ integrand(branch)(g) dg over [−16, 16], piece by piece."""
    total, radius = acb(0), arb(_REACH)
    tolerance = arb(2) ** -100 * min(1.0, r + abs(b)) ** 4
    for branch, low, high in zip(exact.branches, (None, *exact.breaks), (*exact.breaks, None), strict=True):
        ends = [
            -radius if low is None else (arb(low) - arb(b)) / arb(r),
            radius if high is None else (arb(high) - arb(b)) / arb(r),
        ]
        ends = [min(max(end, -radius), radius) for end in ends]
        # bisection finds the transition near z = 0 by itself, but sooner from there
        middle = min(max(-arb(b) / arb(r), ends[0]), ends[1])
        for left, right in ((ends[0], middle), (middle, ends[1])):
            if left < right:
                total += acb.integral(
                    lambda g, analytic, f=branch: integrand(f, g, analytic), acb(left), acb(right), abs_tol=tolerance
                )
    return total.real


def hermite_coefficient(name: str, r: float, b: float, k: int) -> arb:
    """c_k(r, b) = E[σ(rg + b) he_k(g)]."""
    he = _hermite(k)
    factor = 1 / (2 * arb.pi() * (arb(k) + 1).gamma()).sqrt()
    return factor * _over_pieces(
        EXACT[name], r, b, lambda f, g, a: f(g * arb(r) + arb(b), a) * he(g, False) * (-g * g / 2).exp()
    )


def second_moment(name: str, r: float, b: float) -> arb:
    """E σ(rg + b)²."""
    return (
        _over_pieces(EXACT[name], r, b, lambda f, g, a: f(g * arb(r) + arb(b), a) ** 2 * (-g * g / 2).exp())
        / (2 * arb.pi()).sqrt()
    )
