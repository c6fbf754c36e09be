"""A small drawing board: scales, ticks and axes as SVG whose colours are the page's CSS variables.

The pictures are written by hand rather than by a plotting library so that they follow the page's theme (light, dark,
paper), stay small, and can be drawn at the width they are shown at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sparsemf.reports.numerals import number, power_of_ten

_TICK_SPACE = 26.0


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis; ``label`` is empty for a minor one."""

    value: float
    label: str


@dataclass(frozen=True)
class Scale:
    """Values [low, high] onto pixels [start, end].

    ``kind``: "linear", "log", "whole" (linear with integer ticks), "count" (by log(1 + value): 0 has a place).
    """

    kind: str
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        low, high, at = self._warp(self.low), self._warp(self.high), self._warp(value)
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def clipped(self, value: float) -> float:
        """The pixel of ``value``, or of the nearer end."""
        return self(min(max(value, self.low), self.high))

    def inside(self, value: float) -> bool:
        """Whether ``value`` lies on the axis."""
        return self.low <= value <= self.high

    def ticks(self, space: float = _TICK_SPACE) -> list[Tick]:
        """Ticks at round values, labels at least ``space`` pixels apart."""
        most = max(2, int(abs(self.end - self.start) / space))
        if self.kind == "log":
            return _log_ticks(self.low, self.high, most)
        if self.kind == "count":
            return self._count_ticks(space)
        return _linear_ticks(self.low, self.high, most, 1.0 if self.kind == "whole" else 0.0)

    def _warp(self, value: float) -> float:
        if self.kind == "log":
            return math.log10(value)
        return math.log1p(value) if self.kind == "count" else value

    def _count_ticks(self, space: float) -> list[Tick]:
        candidates = [0, 1, 2, 5]
        while candidates[-1] < self.high:
            candidates += [candidates[-3] * 10, candidates[-2] * 10, candidates[-1] * 10]
        found: list[Tick] = []
        for value in candidates:
            if self.inside(value) and (not found or abs(self(value) - self(found[-1].value)) >= space):
                found.append(Tick(value, number(value)))
        return found


def linear(values: Iterable[float], start: float, end: float, *, room: float = 0.05) -> Scale:
    """A linear scale around ``values`` with some room on both sides."""
    known = list(values) or [0.0, 1.0]
    low, high = min(known), max(known)
    span = (high - low) or abs(high) or 1.0
    span = max(span, 1e-9, 1e-9 * max(abs(low), abs(high)))  # ticks are told apart by their first digits
    return Scale("linear", low - room * span, high + room * span, start, end)


def log(low: float, high: float, start: float, end: float) -> Scale:
    """A log scale from ``low`` to ``high`` (> 0), widened so that at least two powers of ten lie on it."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    if last < first:
        low, high = 10.0**last, 10.0**first
    elif last == first:
        low = min(low, 10.0 ** (first - 1))
    return Scale("log", low, high, start, end)


class Drawing:
    """An SVG picture with a title and a description for those who do not see it."""

    def __init__(self, name: str, width: float, height: float, title: str, description: str, css: str = "") -> None:
        self.name, self.width, self.height = name, width, height
        self._head = (title, description, css)
        self._parts: list[Markup] = []

    def add(self, text: str, *args: object) -> None:
        """A piece of SVG; ``args`` are escaped into its {} fields."""
        self._parts.append(Markup(text).format(*args))

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """A straight line."""
        self.add('<path class="{}" d="M{} {}L{} {}"/>', css, *map(_px, (x1, y1, x2, y2)))

    def path(self, points: Sequence[tuple[float, float]], css: str, *, closed: bool = False) -> None:
        """A polyline; points that would fall on the pixel before are left out."""
        if points:
            self.add('<path class="{}" d="{}"/>', css, outline(points) + ("Z" if closed else ""))

    def rect(self, x: float, y: float, width: float, height: float, css: str) -> None:
        """A rectangle."""
        box = map(_px, (x, y, max(width, 0.0), max(height, 0.0)))
        self.add('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>', css, *box)

    def text(self, x: float, y: float, text: str, css: str = "", *, anchor: str = "start", turn: bool = False) -> None:
        """A line of text; ``turn`` makes it read upwards."""
        turned = " rotate(-90)" if turn else ""
        self.add(
            '<text class="{}" text-anchor="{}" transform="translate({} {}){}">{}</text>',
            css,
            anchor,
            _px(x),
            _px(y),
            turned,
            text,
        )

    def axes(self, x: Scale, y: Scale, x_label: str, y_label: str, *, x_space: float = 44.0, grid: bool = True) -> None:
        """Frame, grid, ticks and names of both axes (``y.start`` is the bottom)."""
        bottom, top, left, right = y.start, y.end, x.start, x.end
        for tick in y.ticks():
            at = y(tick.value)
            if tick.label:
                if grid:
                    self.line(left, at, right, at, "grid")
                self.text(left - 7, at + 4, tick.label, "tick", anchor="end")
            self.line(left - (4 if tick.label else 2), at, left, at, "axis")
        for tick in x.ticks(x_space):
            at = x(tick.value)
            self.line(at, bottom, at, bottom + (4 if tick.label else 2), "axis")
            if tick.label:
                self.text(at, bottom + 17, tick.label, "tick", anchor="middle")
        self.line(left, bottom, right, bottom, "axis")
        self.line(left, bottom, left, top, "axis")
        self.text((left + right) / 2, bottom + 36, x_label, "name", anchor="middle")
        self.text(13, (bottom + top) / 2, y_label, "name", anchor="middle", turn=True)

    def render(self) -> Markup:
        """The ``<svg>`` element."""
        title, description, css = self._head
        return Markup(
            '<svg class="{css}" viewBox="0 0 {w} {h}" role="img" aria-labelledby="{n}-t {n}-d">'
            '<title id="{n}-t">{title}</title><desc id="{n}-d">{description}</desc>{body}</svg>'
        ).format(
            css=f"drawing {css}".strip(),
            w=_px(self.width),
            h=_px(self.height),
            n=self.name,
            title=title,
            description=description,
            body=Markup("").join(self._parts),
        )


def outline(points: Sequence[tuple[float, float]], nearer: float = 0.25) -> str:
    """Path data of a polyline without the points within ``nearer`` pixels of the one before."""
    kept = [points[0]]
    for point in points[1:-1]:
        if max(abs(point[0] - kept[-1][0]), abs(point[1] - kept[-1][1])) >= nearer:
            kept.append(point)
    if len(points) > 1:
        kept.append(points[-1])
    return "M" + "L".join(f"{_px(x)} {_px(y)}" for x, y in kept)


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _linear_ticks(low: float, high: float, most: int, least_step: float) -> list[Tick]:
    raw = (high - low) / most
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = max(next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= raw * (1 - 1e-9)), least_step)
    first = math.ceil(low / step - 1e-9)
    values = [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
    return [Tick(value, _tick_label(value, step)) for value in values]


def _tick_label(value: float, step: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e6:
        return number(value, 2)
    digits = max(0, -math.floor(math.log10(step)))
    text = f"{value:,.{digits}f}".replace(",", "\u202f")
    return text.replace("-", "−")


def _log_ticks(low: float, high: float, most: int) -> list[Tick]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = math.ceil((last - first + 1) / most)
    ticks = []
    for exponent in range(first - 1, last + 1):
        if exponent >= first:
            ticks.append(Tick(10.0**exponent, power_of_ten(exponent) if (exponent - last) % step == 0 else ""))
        if step == 1 and last - first <= 4:
            minor = [m * 10.0**exponent for m in (2, 5)]
            ticks += [Tick(value, "") for value in minor if low <= value <= high]
    return ticks
