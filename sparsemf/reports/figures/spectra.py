"""Singular values of the flattened Hermite tensors, one small picture for each flattening."""

from __future__ import annotations

from markupsafe import Markup

from sparsemf.reports.numerals import number
from sparsemf.reports.svg import Drawing, Scale, log, outline
from sparsemf.reports.views.analysis import AnalysisView, SpectrumView

_LINEAR_UP_TO = 40


def spectra(view: AnalysisView) -> list[tuple[str, Markup]]:
    """(caption, picture) of each flattening, all with the same error axis."""
    if not view.spectra:
        return []
    margins = [s.margin for s in view.spectra if s.margin]
    top = max(s.values[0] for s in view.spectra)
    least = min(s.values[-1] for s in view.spectra)
    low = max(least, min(margins) / 10) if margins else least
    low = max(min(low, top / 30, *margins), top * 1e-16)
    return [
        (caption(spectrum), _picture(view, spectrum, f"{view.name}-spectrum{i}", low / 1.6, top * 1.8))
        for i, spectrum in enumerate(view.spectra)
    ]


def caption(spectrum: SpectrumView) -> str:
    """What was flattened."""
    low, high = spectrum.degrees
    degrees = f"degree {low}" if low == high else f"degrees {low}–{high}"
    outputs = ", outputs in the rows" if spectrum.counts == "atoms" else ""
    return f"p = {spectrum.p}, {degrees}{outputs}"


def _picture(view: AnalysisView, spectrum: SpectrumView, name: str, low: float, high: float) -> Markup:
    width, height = 330.0, 236.0
    count = len(spectrum.values)
    description = (
        f"{count} singular values from {number(spectrum.values[0])} down to {number(spectrum.values[-1])}, "
        f"logarithmic; rounding margin {number(spectrum.margin)}."
    )
    drawing = Drawing(name, width, height, f"Singular values, {caption(spectrum)}", description)
    y = log(low, high, height - 48.0, 10.0)
    if count <= _LINEAR_UP_TO:
        x = Scale("whole", 0.5, count + 0.5, 62.0, width - 10)
    else:
        x = Scale("count", 0.6, count * 1.05, 62.0, width - 10)
    drawing.axes(x, y, f"index j{' (scale of log(1 + j))' if x.kind == 'count' else ''}", "singular value σⱼ")
    value, margin_at = view.s_star.value, x.start + 5
    after = f"after {'2' if spectrum.per_atom == 2 else ''}S* = {(value or 0) * spectrum.per_atom}"
    if view.s_star.certified and value and x.inside(value * spectrum.per_atom):
        at = x(min(value * spectrum.per_atom + 0.5, x.high))
        drawing.line(at, y.start, at, y.end, "asked")
        if at < x.start + 100:
            margin_at = at + 5
        if x.end - at > 90:
            drawing.text(at + 5, y.end + 12, after, "note")
        else:
            drawing.text(at - 5, y.start - 8, after, "note", anchor="end")
    if spectrum.margin and y.inside(spectrum.margin):
        at = y(spectrum.margin)
        drawing.line(x.start, at, x.end, at, "resolution")
        drawing.text(margin_at, at - 5, "rounding margin", "note")
    shown = [(x(j + 1), y(s)) for j, s in enumerate(spectrum.values) if y.inside(s)]
    if count <= 64:
        drawing.add('<path class="dots" d="{}"/>', "".join(f"M{px:.1f} {py:.1f}h0" for px, py in shown))
    elif shown:
        drawing.add('<path class="curve spectrum" d="{}"/>', outline(shown))
    if not shown:
        drawing.text((x.start + x.end) / 2, (y.start + y.end) / 2, "all values lie below", "note", anchor="middle")
    return drawing.render()
