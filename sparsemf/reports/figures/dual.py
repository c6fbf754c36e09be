"""The dual certificate η on lines (curves) and on a surface of the parameter set (a map in bands)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sparsemf.reports.figures.particles import COLOURS
from sparsemf.reports.numerals import number
from sparsemf.reports.svg import Drawing, Scale, outline
from sparsemf.reports.views.analysis import AnalysisView
from sparsemf.reports.views.dual import DualView, MarkView, PlaneView, SliceView

ABOVE = 1.0005
"""From here on a value counts as above 1: the document rounds to four digits."""


@dataclass(frozen=True)
class Bands:
    """|η| in bands of ``step`` from ``low`` to 1; ``both``: whether η takes both signs, else ``sign`` is its
    sign."""

    low: float
    step: float
    both: bool
    sign: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Bands:
        """About ten bands for what there is."""
        least, most = min(values), max(values)
        if least < 0.0 < most:
            return cls(0.0, 0.1, True, 1)
        low = min(min(abs(least), abs(most)), 0.98)
        step = next(s for s in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1) if (1 - low) / s <= 12)
        return cls(math.floor(low / step + 1e-9) * step, step, False, 1 if most > 0 else -1)

    @property
    def count(self) -> int:
        """Bands from ``low`` to 1."""
        return round((1 - self.low) / self.step)

    def band(self, value: float | None) -> int | None:
        """±1 … ±count by |η|, ±(count + 1) above 1, None where there is no value."""
        if value is None:
            return None
        if abs(value) > ABOVE:
            return int(math.copysign(self.count + 1, value))
        k = min(max(math.floor((abs(value) - self.low) / self.step), 0), self.count - 1) + 1
        return int(math.copysign(k, value)) if self.both else self.sign * k

    def colour(self, band: int) -> tuple[str, float]:
        """CSS class and opacity."""
        if abs(band) > self.count:
            return "heat over", 1.0
        return ("heat above" if band > 0 else "heat below"), round(
            0.06 + 0.9 * (abs(band) - 1) / (self.count - 1 or 1), 3
        )


def dual_lines(view: AnalysisView) -> list[tuple[str, Markup]]:
    """(caption, picture) of each line."""
    dual = view.dual
    if dual is None:
        return []
    shown = [value for line in dual.slices for values in (line.eta, *line.along) for value in values]
    known = [value for value in shown if value is not None] or [0.0]
    low, high = _range(min(known), max(known))
    return [
        (_caption(dual, line), _line(dual, line, f"{view.name}-eta{i}", low, high))
        for i, line in enumerate(dual.slices)
    ]


def _range(least: float, most: float) -> tuple[float, float]:
    """Ends of the axis: both levels ±1 where η takes both signs, else the one it comes near."""
    if least < 0.0 < most and min(-least, most) > 0.02:
        return min(-1.15, 1.05 * least), max(1.15, 1.05 * most)
    if most <= 0.02:
        low, high = _range(-most, -least)
        return -high, -low
    top = max(most, 1.0)
    room = max(0.12 * (top - least), 0.01)
    return least - room, top + 1.6 * room


def _caption(dual: DualView, line: SliceView) -> str:
    atoms = " and ".join(str(k) for k in line.through)
    if len(line.through) == 1:
        return f"Through atom {atoms}, changing its bias"
    return f"{'Great circle' if dual.sphere else 'Line'} through atoms {atoms}"


def _line(dual: DualView, line: SliceView, name: str, low: float, high: float) -> Markup:
    width, height = 460.0, 270.0
    known = [value for value in line.eta if value is not None] or [0.0]
    symbol = "η" if dual.signed else "‖η‖"
    words = f"{symbol} between {number(min(known))} and {number(max(known))}; atoms at " + ", ".join(
        f"{number(mark.at[0])} (atom {mark.index})" for mark in line.marks
    )
    drawing = Drawing(name, width, height, f"{symbol}: {_caption(dual, line)}", words)
    y = Scale("linear", low, high, height - 48.0, 12.0)
    x = Scale("linear", line.low, line.high, 50.0, width - 10)
    unit = "degrees" if dual.sphere else "units of (w, b)"
    first = line.through[0] if line.through else 1
    drawing.axes(x, y, f"{'angle' if dual.sphere else 'distance'} from atom {first}, {unit}", symbol)
    for level in (1.0, -1.0):
        if y.inside(level):
            drawing.line(x.start, y(level), x.end, y(level), "asked")
    if y.inside(0.0):
        drawing.line(x.start, y(0.0), x.end, y(0.0), "axis")
    for mark in line.marks:
        drawing.line(x(mark.at[0]), y.start, x(mark.at[0]), y.end, "grid")
    for values, index in zip(line.along, line.through, strict=False):
        _curve(drawing, x, y, line.places, values, f"curve thin component hue{min(index - 1, COLOURS)}")
    _curve(drawing, x, y, line.places, line.eta, "curve upper")
    for mark in line.marks:
        _atom(drawing, x(mark.at[0]), y.clipped(mark.eta), mark, x.end, down=mark.eta < 0)
    return drawing.render()


def _curve(drawing: Drawing, x: Scale, y: Scale, at: list[float], values: list[float | None], css: str) -> None:
    run: list[tuple[float, float]] = []
    for place, value in [*zip(at, values, strict=False), (0.0, None)]:
        if value is not None:
            run.append((x(place), y.clipped(value)))
        elif run:
            drawing.add('<path class="{}" d="{}"/>', css, outline(run))
            run = []


def _atom(drawing: Drawing, x: float, y: float, mark: MarkView, right: float, *, down: bool = False) -> None:
    data = f"M{x - 4.5:.1f} {y - 4.5:.1f}l9 9m-9 0l9 -9"
    drawing.add('<path class="halo" d="{0}"/><path class="cross" d="{0}"/>', data)
    near = x > right - 22
    drawing.text(
        x - 8 if near else x + 8, y + 15 if down else y - 6, str(mark.index), "label", anchor="end" if near else "start"
    )


def dual_plane(view: AnalysisView) -> Markup | None:
    """The map, with its colour key on the right."""
    dual = view.dual
    if dual is None or dual.plane is None:
        return None
    plane = dual.plane
    width, height = 520.0, 440.0
    values = [value for row in plane.rows for value in row if value is not None] or [0.0]
    symbol = "η" if dual.signed else "‖η‖"
    title = f"{symbol} on a surface through {_atoms(plane)}"
    words = f"From {number(min(values))} to {number(max(values))}; {len(plane.marks)} atoms lie on it."
    drawing = Drawing(f"{view.name}-eta-map", width, height, title, words)
    side = 378.0
    x = Scale("linear", -plane.reach, plane.reach, 62.0, 62.0 + side)
    y = Scale("linear", -plane.reach, plane.reach, 10.0 + side, 10.0)
    unit = "degrees" if dual.sphere else "units of (w, b)"
    what = "angle from the middle" if dual.sphere else "distance from the middle"
    bands = Bands.of(values)
    _cells(drawing, plane, bands, x, y)
    drawing.axes(x, y, f"{what} along axis 1, {unit}", f"{what} along axis 2, {unit}", grid=False)
    if dual.sphere:
        drawing.path(_edge(plane, x, y), "rim", closed=True)
    for mark in plane.marks:
        if len(mark.at) == 2:
            _atom(drawing, x(mark.at[0]), y(mark.at[1]), mark, x.end)
    _key(drawing, bands, x.end + 20.0, 34.0, 300.0, symbol, max(map(abs, values)) > ABOVE)
    return drawing.render()


def _atoms(plane: PlaneView) -> str:
    if len(plane.through) == 1:
        return f"atom {plane.through[0]}"
    return "atoms " + ", ".join(str(k) for k in plane.through)


def _cells(drawing: Drawing, plane: PlaneView, bands: Bands, x: Scale, y: Scale) -> None:
    """Runs of equal bands as boxes with shared edges, one path for each band; cells are centred at their places."""
    count = len(plane.rows)
    step = (x.end - x.start) / (count - 1)
    across = [f"{x.start + (c - 0.5) * step:.1f}" for c in range(count + 1)]
    down = [f"{y.start - (r - 0.5) * step:.1f}" for r in range(count + 1)]
    boxes: dict[int, list[str]] = {}
    for r, values in enumerate(plane.rows):
        row, start = [bands.band(value) for value in values], 0
        for c in range(1, count + 1):
            level = row[start]
            if c < count and row[c] == level:
                continue
            if level is not None:
                boxes.setdefault(level, []).append(
                    f"M{across[start]} {down[r]}H{across[c]}V{down[r + 1]}H{across[start]}Z"
                )
            start = c
    # the outer cells reach beyond the frame or the rim
    name = f"{drawing.name}-clip"
    drawing.add('<clipPath id="{}"><path d="{}Z"/></clipPath>', name, outline(_edge(plane, x, y)))
    for level in sorted(boxes):
        css, strength = bands.colour(level)
        drawing.add(
            '<path clip-path="url(#{})" class="{}" fill-opacity="{}" d="{}"/>',
            name,
            css,
            strength,
            "".join(boxes[level]),
        )


def _edge(plane: PlaneView, x: Scale, y: Scale) -> list[tuple[float, float]]:
    """The rim of a disc, where the corners are empty, or the frame."""
    reach = plane.reach
    if plane.rows[0][0] is None:
        turn = [math.pi * i / 90 for i in range(180)]
        return [(x(reach * math.cos(t)), y(reach * math.sin(t))) for t in turn]
    return [(x(a), y(b)) for a, b in ((-reach, -reach), (reach, -reach), (reach, reach), (-reach, reach))]


def _key(drawing: Drawing, bands: Bands, left: float, top: float, height: float, symbol: str, above: bool) -> None:
    """The bands from 1 downwards, labelled at their ends."""
    ends = [bands.low + k * bands.step for k in range(bands.count + 1)]
    levels = list(range(bands.count, 0, -1))
    levels = [*levels, *(-k for k in reversed(levels))] if bands.both else [bands.sign * k for k in levels]
    step = height / len(levels)
    drawing.text(left, top - 12, symbol, "name")
    for i, level in enumerate(levels):
        css, strength = bands.colour(level)
        drawing.add(
            '<path class="{}" fill-opacity="{}" d="M{:.1f} {:.1f}h18V{:.1f}h-18Z"/>',
            css, strength, left, top + i * step, top + (i + 1) * step,
        )  # fmt: skip
    labels = [*reversed(ends), *(-e for e in ends[1:])] if bands.both else [bands.sign * e for e in reversed(ends)]
    every = 5 if bands.both else max(1, math.ceil(len(labels) / 7))
    for i, value in enumerate(labels):
        if i % every == 0 or i == len(labels) - 1:
            drawing.text(left + 24, top + i * step + 4, f"{value + 0.0:.3g}".replace("-", "−"), "tick")
    drawing.add('<path class="rim" d="M{0} {1}h18v{2}h-18Z"/>', left, top, height)
    if above:
        drawing.add('<path class="heat over" d="M{} {}h18v14h-18Z"/>', left, top + height + 17)
        drawing.text(left + 24, top + height + 28, f"{symbol if symbol != 'η' else '|η|'} > 1", "tick")
