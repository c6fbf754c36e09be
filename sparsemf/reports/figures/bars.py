"""Small horizontal pictures: shares of the energy, an atom's direction as a strip."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from sparsemf.reports.numerals import number, percent
from sparsemf.reports.svg import Drawing

MOST_COMPONENTS = 64
_LEVELS = (0.08, 0.25, 0.45, 0.65, 0.85)


def share_bar(name: str, title: str, shares: Sequence[tuple[str, float]]) -> Markup:
    """Shares of one as a stacked bar; ``shares`` are (words, share)."""
    total = sum(share for _, share in shares) or 1.0
    words = ", ".join(f"{label} {percent(share)}" for label, share in shares)
    drawing = Drawing(name, 600.0, 22.0, title, words, "bar")
    at = 0.0
    for i, (_, share) in enumerate(shares):
        width = 600.0 * share / total
        drawing.rect(at, 0.0, width, 22.0, f"share{i}")
        at += width
    return drawing.render()


def strip(name: str, title: str, values: Sequence[float]) -> Markup:
    """Signed components as cells: blue below zero, orange above, paler near zero; the largest is full colour."""
    shown = list(values[:MOST_COMPONENTS])
    if not shown:
        return Markup("")
    largest = max(abs(value) for value in values) or 1.0
    cells: dict[str, list[str]] = {}
    for i, value in enumerate(shown):
        level = sum(abs(value) / largest > bound for bound in _LEVELS)
        if level:
            cells.setdefault(f"{'p' if value > 0 else 'n'}{level}", []).append(f"M{i} .5h1")
    words = ", ".join(number(value, 2) for value in shown[:8]) + (", …" if len(values) > 8 else "")
    body = Markup("").join(Markup('<path class="{}" d="{}"/>').format(css, "".join(d)) for css, d in cells.items())
    return Markup(
        '<svg class="strip" viewBox="0 0 {n} 1" preserveAspectRatio="none" role="img" aria-labelledby="{name}">'
        '<title id="{name}">{title}: {words}</title>{body}</svg>'
    ).format(n=len(shown), name=name, title=title, words=words, body=body)
