"""Short numbers stay on the right side of the long ones."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsemf.reports.numerals import number, percent
from sparsemf.reports.svg import Scale, linear, log

_SUPERSCRIPT = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-")


def _value(text: str) -> float:
    mantissa, _, power = text.translate(_SUPERSCRIPT).partition(" × 10")
    return float(mantissa) * 10.0 ** int(power or 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0, "0"), (99.96, "100"), (0.00099996, "0.00100"), (2.6117e-4, "2.61 × 10⁻⁴"), (-1.4, "−1.40"),
     (1234567, "1\u202f234\u202f567"), (None, "–"), (99999.9, "1.00 × 10⁵")],
)  # fmt: skip
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


@given(st.floats(1e-300, 1e300))
def test_rounding_keeps_bounds(value: float) -> None:
    up, down = _value(number(value, towards="up")), _value(number(value, towards="down"))
    assert down <= value * (1 + 1e-13)
    assert up >= value * (1 - 1e-13)
    assert math.isclose(down, value, rel_tol=0.011)
    assert math.isclose(up, value, rel_tol=0.011)


def test_percent() -> None:
    assert percent(0.269) == "26.9\u202f%"
    assert percent(1e-36) == "< 0.0001\u202f%"
    assert percent(0.0) == "0\u202f%"


@given(st.floats(1e-15, 1e3), st.floats(1.0, 1e12))
def test_log_axes_have_two_labels(low: float, ratio: float) -> None:
    scale = log(low, low * ratio, 0.0, 300.0)
    labels = [tick for tick in scale.ticks() if tick.label]
    assert len(labels) >= 2
    assert all(scale.inside(tick.value * (1 + 1e-12)) or scale.inside(tick.value * (1 - 1e-12)) for tick in labels)
    assert scale.low <= low <= low * ratio <= scale.high


@given(st.lists(st.floats(-1e6, 1e6), max_size=5))
def test_linear_axes_hold_their_values(values: list[float]) -> None:
    scale = linear(values, 0.0, 300.0)
    assert all(scale.inside(value) for value in values)
    assert 1 <= len(scale.ticks()) <= 24


def test_whole_axes_have_whole_ticks() -> None:
    ticks = Scale("whole", 0.0, 1.6, 0.0, 1000.0).ticks()
    assert [tick.label for tick in ticks] == ["0", "1"]
