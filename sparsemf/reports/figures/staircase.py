"""The certified staircase: both curves over S, the gap between them, and the plateaus."""

from __future__ import annotations

import math

from markupsafe import Markup

from sparsemf.reports.numerals import number, plural
from sparsemf.reports.svg import Drawing, Scale, log
from sparsemf.reports.views.analysis import AnalysisView
from sparsemf.reports.views.staircase import Plateau, StaircaseView

_LINEAR_UP_TO = 40
_ROOM_BELOW = 30.0

Points = list[tuple[float, float]]


def staircase(view: AnalysisView, suffix: str, width: float, height: float) -> Markup:
    """The picture at the given size; ``suffix`` keeps its ids apart from those of the other size."""
    stairs = view.stairs
    drawing = Drawing(
        f"{view.name}-stairs{suffix}", width, height, f"Staircase of {view.source.title}", _description(view)
    )
    bottom, left = height - 50.0, 66.0
    x = _sizes(stairs, left, width - 16)
    y = _errors(view, bottom, 16.0)
    _bands(drawing, view, x, y)
    drawing.axes(x, y, _size_name(x), f"error ‖f − f_S‖ in {view.law}")
    _resolution(drawing, view, x, y)
    _coefficients(drawing, view, x, y)
    _curves(drawing, stairs, x, y)
    for plateau in stairs.plateaus:
        _riser(drawing, plateau, x, y, "riser")
    if view.chosen is not None:
        _riser(drawing, view.chosen, x, y, "riser chosen")
        _name(drawing, view.chosen, x, y)
    elif view.s_star.eps is not None and y.inside(view.s_star.eps):
        at = y(view.s_star.eps)
        drawing.line(x.start, at, x.end, at, "asked")
        drawing.text(x.end - 4, at - 6, f"ε = {number(view.s_star.eps)}", "note", anchor="end")
    return drawing.render()


def miniature(view: AnalysisView) -> Markup:
    """A small staircase for a page of many."""
    stairs, width, height = view.stairs, 250.0, 168.0
    drawing = Drawing(
        f"{view.name}-mini", width, height, f"Staircase of {view.source.title}", _description(view), "mini"
    )
    x = _sizes(stairs, 58.0, width - 8)
    y = _errors(view, height - 44.0, 8.0)
    _bands(drawing, view, x, y)
    drawing.axes(x, y, "atoms S", f"error, {view.law}", x_space=36.0, grid=False)
    _curves(drawing, stairs, x, y)
    if view.chosen is not None:
        _riser(drawing, view.chosen, x, y, "riser chosen")
    return drawing.render()


def axis_floor(view: AnalysisView) -> float:
    """The least error drawn: the resolution, or well below the best dictionary that is no mere copy."""
    stairs, resolution = view.stairs, view.resolution_error or 0.0
    top = _top(stairs)
    found = [value for value in stairs.upper if value > max(resolution, 1e-13 * top)]
    if view.chosen is not None and view.chosen.low > 0:
        found.append(view.chosen.low)
    least = min(found, default=top * 1e-3)
    return max(resolution / 3, least / 30, 1e-16 * top)


def beyond_axis(view: AnalysisView) -> bool:
    """Whether a positive error is too small to be drawn."""
    floor = axis_floor(view)
    return any(0 < value < floor for value in view.stairs.upper + view.stairs.lower)


def _top(stairs: StaircaseView) -> float:
    return max([*stairs.upper, *stairs.lower, 1e-300])


def _errors(view: AnalysisView, bottom: float, top: float) -> Scale:
    return log(axis_floor(view), _top(view.stairs) * 1.6, bottom, top)


def _sizes(stairs: StaircaseView, left: float, right: float) -> Scale:
    last = max(stairs.sizes[-1], 1)
    if last <= _LINEAR_UP_TO:
        return Scale("whole", 0.0, last + 0.6, left, right)
    return Scale("count", 0.0, last * 1.06, left, right)


def _size_name(x: Scale) -> str:
    return "number of atoms S" + (" (scale of log(1 + S))" if x.kind == "count" else "")


def _steps(sizes: list[int], values: list[float], x: Scale, y: Scale) -> Points:
    """A curve as steps: it falls from value(S − 1) to value(S) at S, so that a level ε is crossed at S*'s bound.

    The curve ends where it leaves the axis: a zero, or a value below the least error drawn.
    """
    points: Points = []
    below = y.start + 0.0
    for i, (size, value) in enumerate(zip(sizes, values, strict=True)):
        at = x(size)
        if points:
            points.append((at, points[-1][1]))
        if not value >= y.low:
            points.append((at, below))
            return points
        points.append((at, y.clipped(value)))
        if i == len(sizes) - 1:
            points.append((x.end, points[-1][1]))
    return points


def _curves(drawing: Drawing, stairs: StaircaseView, x: Scale, y: Scale) -> None:
    upper = _steps(stairs.sizes, stairs.upper, x, y)
    if stairs.has_lower:
        lower = _steps(stairs.sizes, stairs.lower, x, y)
        corner = [(upper[-1][0], y.start)] if upper[-1][1] < y.start or lower[-1][1] >= y.start else []
        drawing.path([*upper, *corner, *reversed(lower)], "gap", closed=True)
        if stairs.differing_directions:
            drawing.path(_steps(stairs.sizes, stairs.directions, x, y), "curve directions")
        drawing.path(lower, "curve lower")
    else:
        drawing.path([(x.start, y.start), *upper, (upper[-1][0], y.start)], "gap", closed=True)
    drawing.path(upper, "curve upper")


def _coefficients(drawing: Drawing, view: AnalysisView, x: Scale, y: Scale) -> None:
    """What the coefficients alone prove, above U where U was looked for; clipped at the top of the axis."""
    last = view.stairs.sizes[-1]
    known = [(size, value) for size, value in view.coefficient_curve if size <= last]
    if known:
        drawing.path(_steps([size for size, _ in known], [value for _, value in known], x, y), "curve coefficients")


def _span(plateau: Plateau, y: Scale) -> tuple[float, float]:
    """Top and bottom pixel of a plateau's ε-interval."""
    high = y.high if plateau.high is None else plateau.high
    return y.clipped(high), y.clipped(plateau.low)


def _bands(drawing: Drawing, view: AnalysisView, x: Scale, y: Scale) -> None:
    for plateau in view.stairs.plateaus:
        top, bottom = _span(plateau, y)
        drawing.rect(x.start, top, x.end - x.start, bottom - top, "band")
    if view.chosen is not None:
        top, bottom = _span(view.chosen, y)
        drawing.rect(x.start, top, x.end - x.start, bottom - top, "band chosen")


def _riser(drawing: Drawing, plateau: Plateau, x: Scale, y: Scale, css: str) -> None:
    top, bottom = _span(plateau, y)
    at = x(plateau.size)
    drawing.line(at, top, at, bottom, css)


def _name(drawing: Drawing, plateau: Plateau, x: Scale, y: Scale) -> None:
    """The plateau's name: in its band, or beside a thin one where no curve can be (to the right of the riser both
    curves are below the band, to the left above it)."""
    top, bottom = _span(plateau, y)
    at, text = x(plateau.size), f"S* = {plateau.size}"
    if bottom - top > 24:
        right = x.end - at > 90
        place = (at + 9 if right else at - 9, (top + bottom) / 2 + 5, right)
    else:
        place = (x.end - 4, top - 7, False) if at < (x.start + x.end) / 2 else (x.start + 6, bottom + 20, True)
    drawing.text(place[0], place[1], text, "headline", anchor="start" if place[2] else "end")


def _resolution(drawing: Drawing, view: AnalysisView, x: Scale, y: Scale) -> None:
    value = view.resolution_error
    if value is not None and value > 0 and y.inside(value):
        at = y(value)
        drawing.line(x.start, at, x.end, at, "resolution")
        drawing.text(x.start + 6, at - 5, f"resolution {number(value)}", "note")


def _description(view: AnalysisView) -> str:
    stairs = view.stairs
    words = [
        f"Error against number of atoms S from {stairs.sizes[0]} to {stairs.sizes[-1]}, logarithmic error axis.",
        f"The upper curve falls from {number(stairs.upper[0])} to {number(stairs.upper[-1])}.",
    ]
    if stairs.has_lower:
        words.append(f"The lower curve starts at {number(stairs.lower[0])}.")
    if view.coefficient_curve:
        words.append("A dotted curve shows what the sizes of the coefficients alone prove.")
    if view.chosen is not None:
        end = "infinity" if view.chosen.high is None else number(view.chosen.high, towards="down")
        low = number(view.chosen.low, towards="up")
        words.append(f"Certified: {plural(view.chosen.size, 'atom')} for every error from {low} to {end}.")
    others = len(stairs.plateaus) - (view.chosen is not None and math.isfinite(view.chosen.low))
    if others > 0:
        words.append(f"{others} other certified plateau{'s' if others > 1 else ''}.")
    return " ".join(words)
