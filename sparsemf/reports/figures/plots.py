"""Two plain pictures: series of points with intervals and lines, and amounts with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sparsemf.reports.svg import Drawing, Scale, linear, log

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Measured ``points`` (x, y), their ``errors`` (low, high) where known, and a ``line`` through or beside them.

    ``dashed`` marks a line that is not measured (a fit, a bound); ``label`` is written at the end of the series.
    """

    label: str
    points: Sequence[Point] = ()
    errors: Sequence[tuple[float, float]] = ()
    line: Sequence[Point] = ()
    dashed: bool = True


def plot(
    name: str,
    title: str,
    words: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    x_log: bool = True,
    y_log: bool = True,
    width: float = 460.0,
    height: float = 300.0,
) -> Markup:
    """A picture of ``series``; values that have no logarithm are left out."""
    drawing = Drawing(name, width, height, title, words)

    def shown(point: Point) -> bool:
        return all(math.isfinite(v) and (v > 0 or not logs) for v, logs in zip(point, (x_log, y_log), strict=True))

    everything = [p for s in series for p in (*s.points, *s.line) if shown(p)] or [(1.0, 1.0)]
    ends = [(x, v) for s in series for (x, _), pair in zip(s.points, s.errors, strict=False) for v in pair]
    heights = [y for _, y in [*everything, *(p for p in ends if shown(p))]]
    places = [x for x, _ in everything]
    room = 7.2 * max((len(s.label) for s in series), default=0) if len(series) > 1 else 0.0
    right = width - 16.0 - min(room, 0.3 * width)
    y = _scale(heights, height - 48.0, 14.0, y_log)
    x = _scale(places, 66.0, right, x_log)
    drawing.axes(x, y, x_label, y_label)
    taken: list[float] = []
    for i, s in enumerate(series):
        line = [(x(a), y(b)) for a, b in s.line if shown((a, b))]
        if line:
            drawing.path(line, f"curve thin hue{i % 9}" + (" component" if s.dashed else ""))
        for (a, b), pair in zip(s.points, s.errors, strict=False):
            low, high = (v if shown((a, v)) else (y.low if y_log else v) for v in pair)
            if shown((a, b)):
                drawing.line(x(a), y.clipped(low), x(a), y.clipped(high), f"curve thin hue{i % 9}")
        for a, b in s.points:
            if shown((a, b)):
                drawing.add('<circle class="hue{} mark-point" cx="{:.1f}" cy="{:.1f}" r="3.2"/>', i % 9, x(a), y(b))
        kept = [p for p in (*s.points, *s.line) if shown(p)]
        if len(series) > 1 and kept:
            last = max(kept)
            at = y(last[1]) + 4.0
            while any(abs(at - other) < 14.0 for other in taken):
                at += 3.0
            taken.append(at)
            drawing.text(x.end + 6.0, at, s.label, f"note ink{i % 9}")
    return drawing.render()


def amounts(
    name: str,
    title: str,
    words: str,
    rows: Sequence[tuple[str, float, float, float]],
    label: str,
    strong: Sequence[str] = (),
) -> Markup:
    """Horizontal bars of (name, mean, low, high) on one linear axis from 0; names in ``strong`` stand out."""
    width, row = 620.0, 26.0
    left = 16.0 + 7.6 * max((len(r[0]) for r in rows), default=4)
    drawing = Drawing(name, width, row * len(rows) + 52.0, title, words)
    most = max([r[3] for r in rows] + [r[1] for r in rows] + [1e-300])
    bottom = row * len(rows) + 6.0
    x = Scale("linear", 0.0, 1.06 * most, left, width - 14.0)
    for tick in x.ticks(60.0):
        drawing.line(x(tick.value), 4.0, x(tick.value), bottom, "grid")
        drawing.text(x(tick.value), bottom + 17.0, tick.label, "tick", anchor="middle")
    for i, (words_, mean, low, high) in enumerate(rows):
        top = 6.0 + row * i
        css = "share0" if words_ in strong else "share1"
        drawing.text(left - 8.0, top + 15.0, words_, "name", anchor="end")
        drawing.rect(left, top + 4.0, x(max(mean, 0.0)) - left, 13.0, css)
        drawing.line(x.clipped(max(low, 0.0)), top + 10.5, x.clipped(high), top + 10.5, "cross")
    drawing.line(left, 4.0, left, bottom, "axis")
    drawing.text((left + x.end) / 2, bottom + 36.0, label, "name", anchor="middle")
    return drawing.render()


def _scale(values: Sequence[float], start: float, end: float, logs: bool) -> Scale:
    if logs:
        return log(min(values) / 1.25, max(values) * 1.25, start, end)
    return linear(values, start, end)
