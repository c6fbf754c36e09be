"""Particles of the quotient and their atoms, projected on two principal axes."""

from __future__ import annotations

from collections import defaultdict

from markupsafe import Markup

from sparsemf.reports.numerals import percent, plural
from sparsemf.reports.svg import Drawing, linear
from sparsemf.reports.views.analysis import AnalysisView, ProjectionView

COLOURS = 8
"""Colours of the palette; later atoms share the last, neutral one."""

_MOST_NAMED = 30
"""More atoms than this are drawn as small crosses without numbers."""

_RADII = (1.4, 1.9, 2.6, 3.6, 5.0, 7.0, 9.5, 12.5)


def particles(view: AnalysisView) -> Markup | None:
    """Discs of area in proportion to the particles' weights, coloured by nearest atom; atoms as numbered crosses."""
    projection = view.projection
    if projection is None:
        return None
    width, height = 470.0, 420.0
    title = f"Particles of {view.source.title} and their atoms"
    drawing = Drawing(f"{view.name}-particles", width, height, title, _description(projection))
    left, right, top, bottom = 66.0, width - 12, 12.0, height - 50.0
    everything = projection.particles + projection.atoms
    x = linear([p[0] for p in everything], left, right)
    y = linear([p[1] for p in everything], bottom, top)
    # one unit is as long on both axes
    unit = max((x.high - x.low) / (right - left), (y.high - y.low) / (bottom - top))
    x = linear(_about(x.low, x.high, unit * (right - left)), left, right, room=0)
    y = linear(_about(y.low, y.high, unit * (bottom - top)), bottom, top, room=0)
    base = "atoms’" if len(projection.atoms) >= 2 else "particles’"
    drawing.axes(x, y, f"principal axis 1 of the {base} (w, b)", f"principal axis 2 of the {base} (w, b)", x_space=52.0)
    heaviest = max(projection.weight, default=0.0) or 1.0
    discs: dict[tuple[int, float], list[str]] = defaultdict(list)
    for (px, py), weight, atom in zip(projection.particles, projection.weight, projection.atom, strict=True):
        wanted = _RADII[-1] * (max(weight, 0.0) / heaviest) ** 0.5
        radius = min(_RADII, key=lambda r: abs(r - wanted))
        discs[colour(projection, atom), radius].append(f"M{x(px):.1f} {y(py):.1f}h0")
    for (hue, radius), places in sorted(discs.items(), key=lambda item: -item[0][1]):
        drawing.add('<path class="disc hue{}" stroke-width="{}" d="{}"/>', hue, 2 * radius, "".join(places))
    few = len(projection.atoms) <= _MOST_NAMED
    for (px, py), row in zip(projection.atoms, projection.row, strict=True):
        name = str(row) if few and row is not None else ""
        _cross(drawing, x(px), y(py), 6.5 if few else 3.0, name, x(px) > right - 30)
    return drawing.render()


def colour(projection: ProjectionView, atom: int) -> int:
    """The palette index of a projected atom: that of its row in the table where it is known."""
    if not 0 <= atom < len(projection.atoms):
        return COLOURS
    row = projection.row[atom]
    index = atom if row is None and not any(projection.row) else COLOURS if row is None else row - 1
    return min(index, COLOURS)


def _about(low: float, high: float, span: float) -> tuple[float, float]:
    middle = (low + high) / 2
    return middle - span / 2, middle + span / 2


def _cross(drawing: Drawing, x: float, y: float, arm: float, name: str, far_right: bool) -> None:
    data = f"M{x - arm:.1f} {y - arm:.1f}l{2 * arm} {2 * arm}m{-2 * arm} 0l{2 * arm} {-2 * arm}"
    drawing.add('<path class="halo" d="{0}"/><path class="cross" d="{0}"/>', data)
    if name:
        drawing.text(x - 12 if far_right else x + 12, y - 8, name, "label", anchor="end" if far_right else "start")


def _description(projection: ProjectionView) -> str:
    shown = (
        f"{projection.shown} of {projection.of} particles"
        if projection.shown < projection.of
        else (plural(projection.of, "particle"))
    )
    share = "" if projection.explained is None else f" The two axes carry {percent(projection.explained)}."
    return f"{shown} as discs, {plural(len(projection.atoms), 'atom')} as crosses.{share}"
