"""Distances of coupled systems against their width, and the slope against time: a picture in a file of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparsemf.reports.svg import Drawing, Scale, linear, log

_WIDTH, _HEIGHT, _ROW = 920.0, 660.0, 330.0
_COLOURS = ("#a5c8e8", "#5b9bd0", "#0a5fa8", "#06365f")
_STYLE = (
    "<style>text{font:12.5px system-ui,sans-serif;fill:#5a5d63}text.name{fill:#1c1d1f;font-size:13px}"
    "path{fill:none}.axis{stroke:#a5a7ab}.grid{stroke:#dddcd5;stroke-width:.8}"
    ".ideal{stroke:#c2500a;stroke-dasharray:5 4}.curve{stroke:#0a5fa8;stroke-width:2}"
    "path.band{fill:#0a5fa8;fill-opacity:.15}path.target{fill:#c2500a;fill-opacity:.10}"
    "path.alone{fill:#0a5fa8;fill-opacity:.18}text.ideal{fill:#c2500a;stroke:none}"
    + "".join(
        f".t{i}{{stroke:{c};stroke-width:1.8}}rect.t{i}{{fill:{c};stroke:none}}text.t{i}{{stroke:none}}"
        for i, c in enumerate(_COLOURS)
    )
    + ".start{stroke:#7a7d83;stroke-dasharray:2 3;stroke-width:1.8}rect.start{fill:#7a7d83;stroke:none}"
    "text.start{stroke:none}</style>"
)


def chaos_figure(document: Mapping[str, Any]) -> str:
    """The SVG of a ``sparsemf/chaos`` document.

    Rows: E‖X_i − Y_i‖² and ‖f_N − f‖².  Left: the distance against N at up to four times (both axes logarithmic), with
    the line ∝ 1/N − 1/N_ref through the first point of the last one, and ‖f_N − f‖² at step 0 dashed.  Right: the
    slope against time with the interval of each time alone and the band of all together; −1 ± 0.05 is shaded.
    """
    drawing = Drawing("chaos", _WIDTH, _HEIGHT, "Propagation of chaos", _words(document))
    for row, (key, label) in enumerate((("coupled", "E‖X − Y‖²"), ("function", "‖f_N − f‖²"))):
        top = 30.0 + row * _ROW
        _distances(drawing, document, key, label, top, top + 250.0)
        _slopes(drawing, document, key, top, top + 250.0)
    svg = str(drawing.render())
    size = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH:.0f}" height="{_HEIGHT:.0f}" '
    return size + svg.removeprefix("<svg ").replace("</title>", "</title>" + _STYLE, 1) + "\n"


def _distances(drawing: Drawing, document: Mapping[str, Any], key: str, label: str, top: float, bottom: float) -> None:
    part, widths, reference = document[key], document["widths"], document["reference"]
    curves = [(f"t{i}", f"step {document['times'][t]}", part["mean"], t) for i, t in enumerate(_chosen(document))]
    if key == "function":
        curves.insert(0, ("start", "step 0", [[v] for v in part["initial"]["mean"]], 0))
    shown = [
        (css, name, [(n, row[t]) for n, row in zip(widths, mean, strict=True) if n < reference and (row[t] or 0) > 0])
        for css, name, mean, t in curves
    ]
    heights = [v for _, _, points in shown for _, v in points]
    if not heights:
        drawing.text(70.0, (top + bottom) / 2, f"{label}: nothing above 0 was measured")
        return
    last = shown[-1][2]
    ideal = []
    if last:
        scale = last[0][1] / (1.0 / last[0][0] - 1.0 / reference)
        ideal = [(n, scale * (1.0 / n - 1.0 / reference)) for n, _ in last]
    x = log(min(widths) / 1.2, max(widths) * 1.2, 76.0, 420.0)
    y = log(min(heights + [v for _, v in ideal]) / 1.3, max(heights) * 1.3, bottom, top)
    drawing.axes(x, y, "N", label)
    for line, (css, name, points) in enumerate(shown):
        drawing.path([(x(n), y(v)) for n, v in points], css)
        for n, v in points:
            drawing.rect(x(n) - 2.5, y(v) - 2.5, 5.0, 5.0, css)
        at = top + 8.0 + 17.0 * line
        drawing.line(318.0, at, 338.0, at, css)
        drawing.text(344.0, at + 4.0, name, css)
    drawing.path([(x(n), y(v)) for n, v in ideal], "ideal")
    drawing.text(88.0, bottom - 10.0, "dashed: ∝ 1/N − 1/N_ref", "ideal")


def _slopes(drawing: Drawing, document: Mapping[str, Any], key: str, top: float, bottom: float) -> None:
    found, times = document[key]["slopes"], document["time"]
    if found is None:
        drawing.text(500.0, (top + bottom) / 2, "no slope: " + document[key]["why_not"])
        return
    slope, alone, band = found["slope"], found["interval"], found["band"]
    target = (-1.0 - found["tolerance"], -1.0 + found["tolerance"])
    low, high = min(target[0], *(v for v, _ in band)), max(target[1], *(v for _, v in band))
    y = linear([low, high], bottom, top)
    x = log(times[0] / 1.15, times[-1] * 1.15, 540.0, _WIDTH - 16.0)
    drawing.path([(x.start, y(target[0])), (x.end, y(target[0])), (x.end, y(target[1])), (x.start, y(target[1]))],
                 "target", closed=True)  # fmt: skip
    drawing.axes(x, y, "time ηk", "")
    drawing.text(480.0, (top + bottom) / 2, "slope in N", "name", anchor="middle", turn=True)
    drawing.line(x.start, y(-1.0), x.end, y(-1.0), "ideal")
    _region(drawing, x, y, times, band, "band")
    _region(drawing, x, y, times, alone, "alone")
    drawing.path([(x(t), y(v)) for t, v in zip(times, slope, strict=True)], "curve")
    drawing.text(x.start + 8.0, top - 8.0, f"95 %: each time alone, all together; shaded −1 ± {found['tolerance']:g}")


def _region(
    drawing: Drawing, x: Scale, y: Scale, times: Sequence[float], ends: Sequence[Sequence[float]], css: str
) -> None:
    lower = [(x(t), y(lo)) for t, (lo, _) in zip(times, ends, strict=True)]
    upper = [(x(t), y(hi)) for t, (_, hi) in zip(times, ends, strict=True)]
    drawing.path(lower + upper[::-1], css, closed=True)


def _chosen(document: Mapping[str, Any]) -> list[int]:
    """Up to four times, evenly over the grid, the last one among them."""
    count = len(document["times"])
    return sorted({round(k * (count - 1) / 3) for k in range(4)})


def _words(document: Mapping[str, Any]) -> str:
    said = [
        f"{name}: {document[key]['slopes']['words'] if document[key]['slopes'] else document[key]['why_not']}."
        for key, name in (("coupled", "Coupled squared distance"), ("function", "Squared function error"))
    ]
    return " ".join(said)
