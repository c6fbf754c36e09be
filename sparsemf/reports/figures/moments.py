"""M_k^{1/k} against k with its band, and the a-priori bound: a picture in a file of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sparsemf.reports.svg import Drawing, Scale, log

_STYLE = (
    "<style>text{font:12.5px system-ui,sans-serif;fill:#5a5d63}text.name{fill:#1c1d1f;font-size:13px}"
    "path{fill:none}.axis{stroke:#a5a7ab}.grid{stroke:#dddcd5;stroke-width:.8}.curve{stroke-width:2}"
    ".estimate{stroke:#0a5fa8}.unsure{stroke:#0a5fa8;stroke-dasharray:3 4}.bound{stroke:#c2500a}"
    "path.range{fill:#0a5fa8;fill-opacity:.15}text.estimate{fill:#0a5fa8;stroke:none}"
    "text.bound{fill:#c2500a;stroke:none}</style>"
)


def moments_figure(document: Mapping[str, Any]) -> str:
    """The SVG of a ``sparsemf/moments`` document: the estimate solid where it is trusted, dashed beyond; the
    a-priori bound where there is one.  The vertical axis is logarithmic.
    """
    growth = document["growth"]
    entries = [e for e in growth["moments"] if e["log_M"] is not None]
    points = [(e["k"], math.exp(e["log_M"] / e["k"])) for e in entries]
    lower = [(e["k"], math.exp(e["log_band"][0] / e["k"])) for e in entries if e["log_band"][0] is not None]
    upper = [(e["k"], math.exp(e["log_band"][1] / e["k"])) for e in entries if e["log_band"][1] is not None]
    logs = document["certificate"]["log_bound"]
    bound = [(k, math.exp(v / k)) for k, v in enumerate(logs, 1) if v is not None]
    heights = [y for _, y in points + lower + upper + bound if y > 0] or [1.0]
    width, height = 640.0, 400.0
    trusted = growth["trusted_k"]
    drawing = Drawing("moments", width, height, "Growth of the moments", _words(points, trusted, bool(bound)))
    y = log(min(heights) / 1.1, max(heights) * 1.1, height - 48.0, 24.0)
    x = Scale("whole", 0.5, max([k for k, _ in points + bound] or [1]) + 0.5, 70.0, width - 14.0)
    drawing.axes(x, y, "k", "M_k^(1/k)")
    drawing.path([(x(k), y(v)) for k, v in lower] + [(x(k), y(v)) for k, v in reversed(upper)], "range", closed=True)
    drawing.path([(x(k), y(v)) for k, v in points if k <= trusted], "curve estimate")
    drawing.path([(x(k), y(v)) for k, v in points if k >= max(trusted, 1)], "curve unsure")
    drawing.path([(x(k), y(v)) for k, v in bound], "curve bound")
    drawing.text(76.0, 18.0, "estimate, 95 % band (dashed: not trusted)", "estimate")
    if bound:
        drawing.text(width - 14.0, 18.0, "a-priori bound", "bound", anchor="end")
    svg = str(drawing.render())
    size = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
    return size + svg.removeprefix("<svg ").replace("</title>", "</title>" + _STYLE, 1) + "\n"


def _words(points: list[tuple[int, float]], trusted: int, bound: bool) -> str:
    if not points:
        return "All moments are 0."
    first, last = points[0], points[-1]
    tail = " The a-priori bound is drawn above it." if bound else ""
    return f"From {first[1]:.3g} at k = {first[0]} to {last[1]:.3g} at k = {last[0]}; trusted to k = {trusted}.{tail}"
