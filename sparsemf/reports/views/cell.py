"""The page of learning cells: one table of all, and the weights of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsemf.reports.figures.plots import Series, plot
from sparsemf.reports.views.study import Picture, Section, Study, Table

HEAD = ("network", "σ", "τ", "λ", "w*_2", "w*_4", "D*_orb", "D_var", "S*", "ε from", "to", "S* is")


def cell_study(document: Mapping[str, Any]) -> Study:
    """The article of one document ``sparsemf/cell/1`` or of several (``results``)."""
    cells = document.get("results", [document])
    series = []
    for c in cells:
        rows = [r for r in c["w_star"]["moments"] if r["value"]]
        points = [(r["k"], r["value"]) for r in rows]
        series.append(Series(cell_name(c), points, line=points, dashed=False))
        proved = [(r["k"], r["lower"]) for r in c["w_star"]["moments"] if r["lower"]]
        if proved:
            series.append(Series("proved ≥", line=proved))
    pictures = []
    if any(s.points or s.line for s in series):
        drawing = plot("w-star", "Critical weights", "w*_k against k.", series, "k", "w*_k", x_log=False, width=620.0)
        pictures.append(Picture("w*_k = 1/M_k from the run's records; dashed: a proved lower end", drawing, "est"))
    points = []
    for c in cells:
        points.append(f"{cell_name(c)}: w* is {c['w_star']['kind']}: {c['w_star']['of']}")
        reason = f": {c['d_orb']['reason']}" if c["d_orb"]["reason"] else ""
        points.append(f"{cell_name(c)}: D*_orb is that of {c['d_orb']['of']}{reason}")
    return Study(
        title="Learning cells" if len(cells) > 1 else f"Learning cell of {cell_name(cells[0])}",
        kind="learning cell",
        lead=[
            "The triple (w*, D*_orb, S*): the largest weights of a moment class that the flow keeps, the degree "
            "at which the Hermite tensors identify the atoms, and the number of atoms.",
        ],
        facts=[("networks", str(len(cells)))],
        sections=[
            Section(
                "The cells",
                points=points,
                tables=[Table("One row a network", list(HEAD), [cell_row(c) for c in cells], "both")],
                pictures=pictures,
            )
        ],
        warnings=[f"{cell_name(c)}: {text}" for c in cells for text in c["warnings"]],
    )


def cell_row(c: Mapping[str, Any]) -> list[str]:
    """The cells of the table, as texts."""
    star, run = c["s_star"], c.get("run", {})
    weights = {r["k"]: r for r in c["w_star"]["moments"]}
    low, high = star["rel_eps"]
    return [
        cell_name(c),
        c["input"]["activation"],
        *(f"{run[name]:.2g}" if name in run else "–" for name in ("temperature", "weight_decay")),
        *(_weight(weights.get(k)) for k in (2, 4)),
        _span(c["d_orb"]),
        "–" if c["d_orb"]["d_var"] is None else _span(c["d_orb"]["d_var"]),
        str(star["value"]) if star["certified"] else f"{star['lower']} … {star['upper']}",
        "–" if low is None else f"{low:.2g}·‖f‖",
        "∞" if high is None else f"{high:.2g}·‖f‖",
        star["kind"],
    ]


def cell_name(c: Mapping[str, Any]) -> str:
    """The run's folder, else the block, else the file."""
    given = c["input"]
    return str(c.get("run", {}).get("folder") or given["block"] or given["path"])


def _weight(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    if row["value"] is not None:
        return f"{row['value']:.3g}"
    return "–" if row["upper"] is None else f"≤ {row['upper']:.3g}"


def _span(bracket: Mapping[str, Any]) -> str:
    low, high = bracket["lower"], bracket["upper"]
    if low is None:
        return "–"
    if low == high:
        return str(low)
    return f"≥ {low}" if high is None else f"{low} … {high}"
