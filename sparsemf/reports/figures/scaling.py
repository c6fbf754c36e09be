"""The μP check as a picture: sizes against N, loss against η for each width, best η against N."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sparsemf.reports.numerals import number
from sparsemf.reports.svg import Drawing, Scale, log

_STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#5a5d63}text.name{fill:#1c1d1f;font-size:12.5px}"
    "text.head{fill:#1c1d1f;font-size:14px;font-weight:600}path{fill:none}.axis{stroke:#a5a7ab}"
    ".grid{stroke:#dddcd5;stroke-width:.8}.curve{stroke-width:2}.late{stroke-width:1.6;stroke-dasharray:3 4}"
    ".theory{stroke:#8b8d92;stroke-width:1.2;stroke-dasharray:6 4}.bar{stroke-width:1.2}"
    + "".join(
        f".c{i}{{stroke:{colour}}}text.c{i}{{stroke:none;fill:{colour}}}rect.c{i}{{stroke:none;fill:{colour}}}"
        for i, colour in enumerate(("#0a5fa8", "#c2500a", "#2a7f4f", "#7a4aa0"))
    )
    + "".join(f".w{i}{{stroke:#0a3f78;stroke-opacity:{0.25 + 0.15 * i:.2f}}}" for i in range(6))
    + "</style>"
)

_SHOWN = ("z", "dz", "f", "df")
_LABELS = {"z": "z", "dz": "Δz", "f": "f at t = 0", "df": "Δf"}
_TITLES = {"mean-field": "mean-field (μP)", "standard": "standard", "ntk": "NTK"}
_PANEL, _LEFT, _HEIGHT = 360.0, 64.0, 300.0
_RANGE = (1e-5, 1e5)


def scaling_figure(document: Mapping[str, Any]) -> str:
    """The SVG of a ``sparsemf/scaling`` document.

    A column for each parametrisation: root mean squares at the first update (dashed: at the last one of the check)
    and loss against learning rate, the darker the wider; below them the best learning rates with their intervals
    and, dashed, the slope that theory predicts.  All axes are logarithmic.
    """
    names = list(dict.fromkeys(point["parametrisation"] for point in document["sweeps"]))
    width = max(2, len(names)) * _PANEL
    drawing = Drawing("scaling", width, 3 * _HEIGHT + 8.0, "Scaling with the width", _words(document))
    for column, name in enumerate(names):
        _sizes(drawing, document, name, column)
        _losses(drawing, document, name, column)
    _best(drawing, document, names, width)
    svg = str(drawing.render())
    size = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{3 * _HEIGHT + 8:.0f}" '
    return size + svg.removeprefix("<svg ").replace("</title>", "</title>" + _STYLE, 1) + "\n"


def _words(document: Mapping[str, Any]) -> str:
    return ". ".join(rate["sentence"] for rate in document["rate_slopes"]) + "."


def _of(document: Mapping[str, Any], part: str, name: str) -> list[Mapping[str, Any]]:
    return [point for point in document[part] if point["parametrisation"] == name]


def _mean(values: Sequence[float | None]) -> float | None:
    """Geometric mean; None where one is missing or not positive."""
    known = [v for v in values if v is not None and v > 0]
    return None if len(known) < len(values) else math.exp(sum(map(math.log, known)) / len(known))


def _line(points: Sequence[Mapping[str, Any]], quantity: str, place: int) -> list[tuple[float, float]]:
    found = [(point["width"], _mean(point["sizes"][quantity][place])) for point in points]
    return [(n, v) for n, v in found if v is not None and _RANGE[0] <= v <= _RANGE[1]]


def _width_axis(widths: Sequence[float], start: float, end: float) -> Scale:
    return log(min(widths) / 1.4, max(widths) * 1.4, start, end)


def _sizes(drawing: Drawing, document: Mapping[str, Any], name: str, column: int) -> None:
    points = _of(document, "coordinates", name)
    everything = document["coordinates"]
    lines = {(q, when): _line(points, q, when) for q in _SHOWN for when in ((0,) if q == "f" else (1, -1))}
    # one scale for all parametrisations: levels and slopes are to be compared
    heights = [
        v
        for point in everything
        for q in _SHOWN
        for _, v in _line([point], q, 0 if q == "f" else 1) + (_line([point], q, -1) if q != "f" else [])
    ] or [1.0]
    top, left = 34.0, column * _PANEL + _LEFT
    y = log(min(heights) / 1.5, max(heights) * 1.5, _HEIGHT - 48.0, top)
    x = _width_axis([point["width"] for point in everything], left, (column + 1) * _PANEL - 62.0)
    rate = points[0]["step_size"]
    drawing.text(left, 20.0, f"{_TITLES[name]}, η = {number(rate)}", "head")
    drawing.axes(x, y, "width N", "root mean square" if column == 0 else "")
    words = f"solid: step 1, dashed: step {points[0]['times'][-1]}"
    drawing.text(left + 8.0, _HEIGHT - 56.0, words, "tick")
    taken: list[float] = []
    for i, q in enumerate(_SHOWN):
        first = lines[q, 0 if q == "f" else 1]
        drawing.path([(x(n), y(v)) for n, v in first], f"curve c{i}")
        if q != "f":
            drawing.path([(x(n), y(v)) for n, v in lines[q, -1]], f"late c{i}")
        if first:
            at = y(first[-1][1]) + 4.0
            while any(abs(at - other) < 13.0 for other in taken):
                at += 3.0
            taken.append(at)
            drawing.text(x(first[-1][0]) + 6.0, at, _LABELS[q], f"c{i}")


def _losses(drawing: Drawing, document: Mapping[str, Any], name: str, column: int) -> None:
    everything = [(r, _mean(v)) for s in document["sweeps"] for r, v in zip(s["rates"], s["losses"], strict=True)]
    known = [(r, v) for r, v in everything if v is not None] or [(1.0, 1.0)]
    most = 30.0 * max(1e-300, min(v for _, v in known)) * 100.0
    top, left = _HEIGHT + 30.0, column * _PANEL + _LEFT
    y = log(min(v for _, v in known) / 1.5, min(most, max(v for _, v in known) * 1.5), 2 * _HEIGHT - 48.0, top)
    x = log(min(r for r, _ in known) / 1.3, max(r for r, _ in known) * 1.3, left, (column + 1) * _PANEL - 62.0)
    drawing.axes(x, y, "learning rate η", "final risk" if column == 0 else "")
    sweeps = _of(document, "sweeps", name)
    for i, sweep in enumerate(sweeps):
        shade = f"w{round(5 * i / max(len(sweeps) - 1, 1))}"
        means = [(r, _mean(v)) for r, v in zip(sweep["rates"], sweep["losses"], strict=True)]
        points = [(r, v) for r, v in means if v is not None and v <= y.high]
        drawing.path([(x(r), y(v)) for r, v in points], f"curve {shade}")
    if sweeps:
        words = f"light: N = {sweeps[0]['width']}, dark: N = {sweeps[-1]['width']}"
        drawing.text(x.end, top - 8.0, words, "tick", anchor="end")


def _best(drawing: Drawing, document: Mapping[str, Any], names: Sequence[str], width: float) -> None:
    slopes = [rate for rate in document["rate_slopes"] if any(b["rate"] is not None for b in rate["best"])]
    rows = [b for rate in slopes for b in rate["best"] if b["rate"] is not None]
    ends = [v for b in rows for v in (b["rate"], *b["interval"]) if v is not None] or [1.0]
    widths = [point["width"] for point in document["sweeps"]]
    y = log(min(ends) / 1.4, max(ends) * 1.4, 3 * _HEIGHT - 48.0, 2 * _HEIGHT + 30.0)
    x = _width_axis(widths, _LEFT, width - 250.0)
    drawing.axes(x, y, "width N", "best learning rate")
    for place, rate in enumerate(slopes):
        i = names.index(rate["parametrisation"])
        known = [b for b in rate["best"] if b["rate"] is not None]
        drawing.path([(x(b["width"]), y(b["rate"])) for b in known], f"curve c{i}")
        for b in known:
            at, (low, high) = x(b["width"]), b["interval"]
            drawing.rect(at - 2.5, y(b["rate"]) - 2.5, 5.0, 5.0, f"c{i}")
            if low is not None and high is not None:
                drawing.line(at, y(low), at, y(high), f"bar c{i}")
        # the predicted slope through the first width
        first = known[0]
        line = [(n, first["rate"] * (n / first["width"]) ** rate["predicted"]) for n in sorted(set(widths))]
        drawing.path([(x(n), y(v)) for n, v in line if y.low <= v <= y.high], "theory")
        words = _TITLES[rate["parametrisation"]]
        measured = "–" if rate["slope"] is None else f"N^{round(rate['slope'], 2) + 0.0:+.2f}"
        drawing.text(width - 236.0, 2 * _HEIGHT + 44.0 + 40.0 * place, words, f"c{i}")
        line_two = f"{measured} ({rate['verdict']}), theory N^{rate['predicted']:g}"
        drawing.text(width - 236.0, 2 * _HEIGHT + 60.0 + 40.0 * place, line_two, "tick")
