"""Numbers as people read them, rounded in the direction that keeps a bound a bound."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from markupsafe import Markup, escape

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_ROUNDING = {"up": ROUND_CEILING, "down": ROUND_FLOOR, "near": ROUND_HALF_EVEN}
_NARROW_SPACE = "\u202f"


def power_of_ten(exponent: int) -> str:
    """10⁻³ for −3."""
    return "10" + str(exponent).translate(_SUPERSCRIPT)


def number(value: float | int | None, digits: int = 3, towards: str = "near") -> str:
    """``value`` with ``digits`` significant digits; ``towards`` is "up", "down" (of the real line) or "near".

    >>> number(0.0002611730823884926, towards="up")
    '2.62 × 10⁻⁴'
    """
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}".replace(",", _NARROW_SPACE) if abs(value) >= 10_000 else str(value)
    if value == 0:
        return "0"
    exact = Decimal(repr(value))
    rounded = exact.quantize(Decimal(1).scaleb(exact.adjusted() - digits + 1), rounding=_ROUNDING[towards])
    exponent = rounded.adjusted()
    if -3 <= exponent < 5:
        return f"{rounded:.{max(digits - 1 - exponent, 0)}f}".replace("-", "−")
    mantissa = f"{rounded.scaleb(-exponent):.{digits - 1}f}"
    return f"{mantissa} × {power_of_ten(exponent)}".replace("-", "−")


def given(value: float | int | None) -> Markup:
    """A number that somebody typed (1e-3, 0.05), with no more digits than it has."""
    if value is None:
        return Markup("–")
    digits = len(Decimal(repr(value)).normalize().as_tuple().digits)
    return marked(value, min(digits, 6))


def percent(share: float | None, digits: int = 3) -> str:
    """A share as a percentage; below a millionth it is called that."""
    if share is None:
        return "–"
    if share == 0:
        return "0" + _NARROW_SPACE + "%"
    if share < 1e-6:
        return "< 0.0001" + _NARROW_SPACE + "%"
    return number(100 * share, digits) + _NARROW_SPACE + "%"


def marked(value: float | int | None, digits: int = 3, towards: str = "near") -> Markup:
    """:func:`number` as a ``<data>`` element that carries all digits."""
    if value is None:
        return Markup("–")
    full = escape(repr(value))
    return Markup('<data value="{0}" title="{0}">{1}</data>').format(full, number(value, digits, towards))


def marked_percent(share: float | None, digits: int = 3) -> Markup:
    """:func:`percent` as a ``<data>`` element that carries the share itself."""
    if share is None:
        return Markup("–")
    return Markup('<data value="{0}" title="{0}">{1}</data>').format(repr(share), percent(share, digits))


def plural(count: int | None, noun: str, many: str = "") -> str:
    """ "1 atom", "5 atoms"; ``noun`` is in the singular, ``many`` its plural where that is no mere s."""
    return f"{number(count)} {noun}" if count == 1 else f"{number(count)} {many or noun + 's'}"
