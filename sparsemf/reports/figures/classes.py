"""Equivalence classes as a graph: a wheel for each class, the representative at its hub, certified pairs as lines."""

from __future__ import annotations

import math

from markupsafe import Markup

from sparsemf.reports.numerals import plural
from sparsemf.reports.svg import Drawing
from sparsemf.reports.views.classes import ClassesView, ClassView

MOST = 60
"""So many classes are drawn, the largest first."""

_LABEL = 34.0
_GAP = 14.0


def class_graph(view: ClassesView, name: str, width: float) -> Markup:
    """The wheels in rows, of areas in proportion to their sizes; dotted lines join classes that are not told apart."""
    shown = view.shared[:MOST]
    radius = {c.number: _radius(c, width) for c in shown}
    place: dict[int, tuple[float, float]] = {}
    left, top, height = _GAP, _GAP, 0.0
    for c in shown:
        room = max(2 * radius[c.number], 74.0)
        if left + room > width - _GAP and left > _GAP:
            left, top, height = _GAP, top + height + _LABEL + _GAP, 0.0
        place[c.number] = (left + room / 2, top + radius[c.number])
        left += room + _GAP
        height = max(height, 2 * radius[c.number])
    drawing = Drawing(name, width, top + height + _LABEL + _GAP, "Classes of the same function", _words(view, shown))
    for a, b in view.undecided:
        if a in place and b in place:
            drawing.line(*place[a], *place[b], "birth")
    for i, c in enumerate(shown):
        _wheel(drawing, c, place[c.number], radius[c.number], f"hue{i % 9}")
        x, y = place[c.number]
        drawing.text(x, y + radius[c.number] + 16.0, f"class {c.number}", "name", anchor="middle")
        drawing.text(x, y + radius[c.number] + 31.0, plural(len(c.members), "network"), "note", anchor="middle")
    return drawing.render()


def _radius(c: ClassView, width: float) -> float:
    return min(9.0 + 7.0 * math.sqrt(len(c.nodes)), 0.5 * width - _GAP)


def _wheel(drawing: Drawing, c: ClassView, centre: tuple[float, float], radius: float, hue: str) -> None:
    """Members round their representative; a chain is not round a hub, but its lines are drawn as they are."""
    x, y = centre
    rim = c.nodes[1:]
    at = {c.nodes[0]: centre}
    for k, node in enumerate(rim):
        turn = 2 * math.pi * k / len(rim) - math.pi / 2
        at[node] = (x + (radius - 5.0) * math.cos(turn), y + (radius - 5.0) * math.sin(turn))
    for a, b in c.edges:
        if a in at and b in at:
            drawing.line(*at[a], *at[b], f"curve thin {hue}" + (" component" if c.kind == "chain" else ""))
    for node, (px, py) in at.items():
        drawing.add(
            '<circle class="{} mark-point" cx="{:.1f}" cy="{:.1f}" r="{}"/>',
            hue,
            px,
            py,
            4.4 if node == c.nodes[0] else 3.2,
        )


def _words(view: ClassesView, shown: list[ClassView]) -> str:
    words = [f"{plural(len(view.classes), 'class', 'classes')}, {len(view.shared)} of them of several networks."]
    words += [f"Class {c.number}: {plural(len(c.members), 'network')}." for c in shown[:20]]
    return " ".join(words)
