"""Intervals of positive numbers as bars on one logarithmic axis; an end of 0 runs off to the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sparsemf.reports.svg import Drawing, log

_ROW = 24.0


@dataclass(frozen=True)
class Span:
    """A row: its name, and both ends (0 ≤ low ≤ high)."""

    name: str
    low: float
    high: float


def intervals(name: str, title: str, words: str, rows: Sequence[Span], label: str, *, width: float = 620.0) -> Markup:
    """One bar for each row, dark at its upper end."""
    left = min(16.0 + 7.2 * max((len(row.name) for row in rows), default=4), 0.5 * width)
    room = int((left - 16.0) / 7.2)
    drawing = Drawing(name, width, _ROW * len(rows) + 52.0, title, words)
    ends = [end for row in rows for end in (row.low, row.high) if end > 0] or [1e-3, 1.0]
    bottom = _ROW * len(rows) + 6.0
    x = log(min(ends) / 2.0, max(ends) * 1.4, left, width - 16.0)
    for tick in x.ticks(44.0):
        drawing.line(x(tick.value), 4.0, x(tick.value), bottom, "grid")
        if tick.label:
            drawing.text(x(tick.value), bottom + 17.0, tick.label, "tick", anchor="middle")
    for i, row in enumerate(rows):
        middle = 6.0 + _ROW * (i + 0.5)
        short = row.name if len(row.name) <= room else "…" + row.name[-room + 1 :]
        drawing.text(left - 8.0, middle + 4.5, short, "name", anchor="end")
        start = x.clipped(row.low) if row.low > 0 else left
        if row.high > 0:
            drawing.rect(start, middle - 4.0, x.clipped(row.high) - start, 8.0, "interval undecided")
            drawing.rect(x.clipped(row.high) - 2.0, middle - 7.0, 4.0, 14.0, "interval")
    drawing.line(left, bottom, x.end, bottom, "axis")
    drawing.text((left + x.end) / 2, bottom + 36.0, label, "name", anchor="middle")
    return drawing.render()
