"""A verdict as a picture: the interval that holds ‖f_A − f_B‖ against ε on a log axis."""

from __future__ import annotations

from markupsafe import Markup

from sparsemf.reports.numerals import number
from sparsemf.reports.svg import Drawing, log
from sparsemf.reports.views.certificate import CertificateView


def bounds(view: CertificateView, suffix: str, width: float) -> Markup | None:
    """The interval [lower, upper] as a bar, ε as a line; a lower bound of 0 leaves the axis on the left."""
    lower, upper, eps, eps_distinct = view.lower or 0.0, view.upper, view.eps, view.eps_distinct
    marks = [value for value in (lower, upper, eps, eps_distinct) if value is not None and value > 0]
    if not marks:
        return None
    height, left, right, bottom = 190.0, 44.0, width - 22.0, 138.0
    least = min(marks)
    x = log(least / (1e2 if lower <= 0 else 8), max(marks) * 8, left, right)
    end = "unbounded" if upper is None else number(upper, towards="up")
    description = f"The distance lies between {number(lower, towards='down')} and {end}; ε is {number(eps)}."
    title = f"Bounds of the distance in {view.norm_symbol} against ε"
    drawing = Drawing(f"{view.name}-bounds{suffix}", width, height, title, description)
    for tick in x.ticks(52.0):
        at = x(tick.value)
        drawing.line(at, bottom, at, bottom + (4 if tick.label else 2), "axis")
        if tick.label:
            drawing.text(at, bottom + 17, tick.label, "tick", anchor="middle")
    drawing.line(left, bottom, right, bottom, "axis")
    drawing.text(
        (left + right) / 2,
        bottom + 38,
        f"‖f_A − f_B‖ in {view.norm_symbol}{' norm' if view.norm == 'sup' else ''}",
        "name",
        anchor="middle",
    )
    start = x(lower) if lower > 0 else left
    stop = right if upper is None else x.clipped(upper)
    drawing.rect(start, 76.0, max(stop - start, 5.0), 26.0, f"interval {view.verdict}")
    if lower <= 0:
        drawing.add('<path class="interval {}" d="M{} 76l-14 13l14 13z"/>', view.verdict, left)
        drawing.text(left - 8, 120.0, "from 0", "note")
    _ends(drawing, lower, upper, start, stop, right)
    if eps is not None and eps > 0:
        at = x(eps)
        drawing.line(at, 42.0, at, bottom, "asked")
        anchor = "start" if at < left + 60 else "end" if at > right - 60 else "middle"
        drawing.text(at, 32.0, f"ε = {number(eps)}", "headline small", anchor=anchor)
        if eps_distinct is not None and x(eps_distinct) - at > 3:
            other = x(eps_distinct)
            drawing.line(other, 62.0, other, bottom, "asked")
            room = other < right - 150
            drawing.text(
                other + (5 if room else 0),
                58.0,
                f"for distinct: {number(eps_distinct)}",
                "note",
                anchor="start" if room else "end",
            )
    return drawing.render()


def _ends(drawing: Drawing, lower: float, upper: float | None, start: float, stop: float, right: float) -> None:
    """The numbers at both ends of the bar; in one text where the bar is short."""
    low = number(lower, towards="down")
    if upper is None:
        drawing.text(start, 120.0, low, "note")
    elif lower > 0 and stop - start < 90:
        text = f"{low} to {number(upper, towards='up')}"
        drawing.text((start + stop) / 2, 120.0, text, "note", anchor="middle" if stop < right - 80 else "end")
    else:
        if lower > 0:
            drawing.text(start, 120.0, low, "note", anchor="middle")
        text, near_end = number(upper, towards="up"), stop > right - 60
        drawing.text(stop, 120.0, text, "note", anchor="end" if near_end else "middle")
