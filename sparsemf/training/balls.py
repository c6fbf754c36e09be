"""Ball arithmetic for bounds that are called certificates: what leaves it has been rounded upward."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from flint import arb, ctx

INFINITE = arb("inf")
ZERO = arb(0)


@contextmanager
def precision(bits: int = 192) -> Iterator[None]:
    """Work with ``bits`` bits inside the block."""
    before = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = before


def is_infinite(x: arb) -> bool:
    """Whether nothing finite is known of ``x``."""
    return not x.is_finite()


def top(x: arb) -> arb:
    """The upper end of a ball as an exact number (+∞ where there is none)."""
    return x.upper() if x.is_finite() else INFINITE


def larger(*values: arb) -> arb:
    """The maximum of upper ends."""
    found = ZERO
    for value in values:
        if is_infinite(value):
            return INFINITE
        found = found.max(top(value))
    return found


def smaller(*values: arb) -> arb:
    """The minimum of upper ends (+∞ when all are)."""
    finite = [top(value) for value in values if not is_infinite(value)]
    found = finite[0] if finite else INFINITE
    for value in finite[1:]:
        found = found.min(value)
    return found


def log_above(x: arb) -> float:
    """A float ≥ log x for an x ≥ 0 (−∞ when x = 0)."""
    if is_infinite(x):
        return math.inf
    upper = top(x)
    if upper <= 0:
        return -math.inf
    return float_above(upper.log())


def float_above(x: arb) -> float:
    """A float ≥ x."""
    return math.inf if is_infinite(x) else math.nextafter(float(top(x)), math.inf)


def root(x: arb, k: int) -> arb:
    """x^{1/k} for x ≥ 0."""
    if is_infinite(x):
        return INFINITE
    return ZERO if top(x) <= 0 else top(x) ** (arb(1) / k)


def gaussian_moment(k: int, dimension: int) -> arb:
    """E‖ξ‖^k = 2^{k/2} Γ((k + D)/2)/Γ(D/2) for ξ ~ N(0, I_D)."""
    if dimension == 0:
        return arb(1) if k == 0 else ZERO
    half = arb(dimension) / 2
    return arb(2) ** (arb(k) / 2) * (arb(k + dimension) / 2).gamma() / half.gamma()
