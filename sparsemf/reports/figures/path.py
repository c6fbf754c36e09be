"""The path of atoms: where the atoms of the dictionaries of S = 1, 2, … are, and how large they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from markupsafe import Markup

from sparsemf.reports.figures.particles import COLOURS
from sparsemf.reports.numerals import number, plural
from sparsemf.reports.svg import Drawing, Scale, linear, log
from sparsemf.reports.views.analysis import AnalysisView
from sparsemf.reports.views.dual import AtomOnPath, PathView

_WIDTHS = (1.2, 1.8, 2.6, 3.6, 4.8, 6.2, 7.8)
_DUST = 1e-12
"""Sizes below this share of the largest are drawn at the axis' end."""


def path_places(view: AnalysisView) -> Markup | None:
    """Positions over S, lines as thick as the atoms are large."""
    path = view.path
    if path is None or not path.stages:
        return None
    drawing, x = _start(view, path, "places", "Position of the atoms as S grows")
    values = [atom.position for stage in path.stages for atom in stage.atoms]
    y = linear(values, drawing.height - 48.0, 12.0)
    unit = "degrees" if path.sphere else "units of (w, b)"
    label = f"{path.position or 'position'}, {unit}"
    _frame(drawing, path, x, y, label)
    largest = max((atom.size for stage in path.stages for atom in stage.atoms), default=0.0) or 1.0

    def width(atom: AtomOnPath) -> float:
        wanted = _WIDTHS[-1] * min(max(atom.size / largest, 0.0), 1.0)
        return min(_WIDTHS, key=lambda w: abs(w - wanted))

    _threads(drawing, path, x, lambda atom: y(atom.position), width)
    return drawing.render()


def path_sizes(view: AnalysisView) -> Markup | None:
    """‖α‖‖φ‖ over S, logarithmic."""
    path = view.path
    if path is None or not path.stages:
        return None
    drawing, x = _start(view, path, "sizes", "Size of the atoms as S grows")
    values = [atom.size for stage in path.stages for atom in stage.atoms if atom.size > 0] or [1.0]
    top = max(values)
    y = log(max(min(values) / 1.5, top * _DUST), top * 1.5, drawing.height - 48.0, 12.0)
    _frame(drawing, path, x, y, "size ‖α‖‖φ‖ of the atoms")
    _threads(drawing, path, x, lambda atom: y.clipped(max(atom.size, y.low)), lambda _: 2.6)
    return drawing.render()


def _start(view: AnalysisView, path: PathView, name: str, title: str) -> tuple[Drawing, Scale]:
    first, last = path.stages[0], path.stages[-1]
    ends = [number(stage.error) for stage in (first, last)]
    words = (
        f"S from {first.size} to {last.size}, errors from {ends[0]} to {ends[1]}; "
        f"the last dictionary has {plural(len(last.atoms), 'atom')}."
    )
    drawing = Drawing(f"{view.name}-path-{name}", 500.0, 330.0, title, words)
    return drawing, Scale("whole", first.size - 0.6, max(last.size, first.size + 1) + 0.6, 66.0, 488.0)


def _frame(drawing: Drawing, path: PathView, x: Scale, y: Scale, label: str) -> None:
    if path.chosen is not None and x.inside(path.chosen):
        left, right = x.clipped(path.chosen - 0.4), x.clipped(path.chosen + 0.4)
        drawing.rect(left, y.end, right - left, y.start - y.end, "band chosen")
    drawing.axes(x, y, "number of atoms S", label, x_space=26.0)


def _threads(
    drawing: Drawing,
    path: PathView,
    x: Scale,
    height: Callable[[AtomOnPath], float],
    width: Callable[[AtomOnPath], float],
) -> None:
    """Links to the stage before, dashed for the nearest atom of one that is born; dots where atoms are."""
    links: dict[tuple[int, float], list[str]] = defaultdict(list)
    dots: dict[tuple[int, float], list[str]] = defaultdict(list)
    births: list[str] = []
    for before, stage in zip([None, *path.stages], path.stages, strict=False):
        for atom in stage.atoms:
            hue = COLOURS if atom.index is None else min(atom.index - 1, COLOURS)
            end = (x(stage.size), height(atom))
            dots[hue, width(atom)].append(f"M{end[0]:.1f} {end[1]:.1f}h0")
            source = atom.origin if atom.origin is not None else atom.nearest
            if before is None or source is None or not 0 <= source < len(before.atoms):
                continue
            place = f"M{x(before.size):.1f} {height(before.atoms[source]):.1f}L{end[0]:.1f} {end[1]:.1f}"
            if atom.origin is None:
                births.append(place)
            else:
                links[hue, width(atom)].append(place)
    drawing.add('<path class="birth" d="{}"/>', "".join(births))
    for (hue, thick), places in sorted(links.items(), key=lambda item: -item[0][1]):
        drawing.add('<path class="thread hue{}" stroke-width="{}" d="{}"/>', hue, thick, "".join(places))
    for (hue, thick), places in sorted(dots.items(), key=lambda item: -item[0][1]):
        drawing.add('<path class="bead hue{}" stroke-width="{}" d="{}"/>', hue, thick + 3, "".join(places))
