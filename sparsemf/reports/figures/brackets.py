"""Brackets of whole numbers as bars on one axis; an end that is not known runs off the picture."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from sparsemf.reports.svg import Drawing, Scale

Row = tuple[str, int, int | None]

_ROW = 30.0


def brackets(name: str, title: str, words: str, rows: Sequence[Row], label: str, *, width: float = 620.0) -> Markup:
    """One row for each (name, lower, upper); ``upper`` None is unbounded and drawn as an arrow to the right."""
    left = 16.0 + 7.4 * max((len(row[0]) for row in rows), default=4)
    drawing = Drawing(name, width, _ROW * len(rows) + 52.0, title, words)
    most = max([1, *(row[1] for row in rows), *(row[2] for row in rows if row[2] is not None)])
    bottom = _ROW * len(rows) + 6.0
    x = Scale("whole", 0.0, 1.15 * most + 0.5, left, width - 22.0)
    for tick in x.ticks(34.0):
        drawing.line(x(tick.value), 4.0, x(tick.value), bottom, "grid")
        drawing.text(x(tick.value), bottom + 17.0, tick.label, "tick", anchor="middle")
    for i, (text, low, high) in enumerate(rows):
        middle = 6.0 + _ROW * (i + 0.5)
        drawing.text(left - 8.0, middle + 4.5, text, "name", anchor="end")
        css = "interval" if low == high else "interval undecided"
        if high == low:
            drawing.rect(x(low) - 5.0, middle - 7.0, 10.0, 14.0, css)
        elif high is not None:
            drawing.rect(x(low), middle - 5.0, x(high) - x(low), 10.0, css)
        else:
            end = x.end
            drawing.rect(x(low), middle - 5.0, end - x(low), 10.0, css)
            tip = [(end, middle - 10.0), (end + 13.0, middle), (end, middle + 10.0)]
            drawing.path(tip, css, closed=True)
    drawing.line(left, bottom, x.end, bottom, "axis")
    drawing.text((left + x.end) / 2, bottom + 36.0, label, "name", anchor="middle")
    return drawing.render()
