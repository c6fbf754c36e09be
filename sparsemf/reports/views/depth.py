"""The page of identifiability depths: brackets as bars, and what excludes or finds other solutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsemf.reports.figures.brackets import Row, brackets
from sparsemf.reports.views.study import Picture, Section, Study, Table

_FREE = {-1: "nothing", 0: "a constant", 1: "an affine part"}


def depth_study(document: Mapping[str, Any]) -> Study:
    """The article of one document ``sparsemf/depth/1`` or of several (``results``)."""
    found = document.get("results", [document])
    return Study(
        title="Identifiability depths" if len(found) > 1 else f"Identifiability depths of {_name(found[0])}",
        kind="depths",
        lead=[
            "How many Hermite tensors T₀ … T_D of a function tell its atoms?  D_var: from which D on they do near the "
            "atoms, to first order (the Jacobian has full rank).  D_orb: from which D on no other atoms of the family "
            "have the same tensors, realization symmetries apart.",
        ],
        facts=[("networks", str(len(found)))] if len(found) > 1 else _facts(found[0]),
        sections=[_section(one, i, len(found) > 1) for i, one in enumerate(found)],
        warnings=[f"{_name(one)}: {text}" if len(found) > 1 else text for one in found for text in one["warnings"]],
    )


def _section(one: Mapping[str, Any], index: int, several: bool) -> Section:
    rows = _rows(one)
    words = "; ".join(f"{name}: {_span(low, high)}" for name, low, high in rows)
    drawing = brackets(f"depth{index}", f"Depths of {_name(one)}", words, rows, "degree D")
    meanings = {
        "D_var, generic": "almost every network of the family",
        "D_var, here": "these atoms",
        "D_var, worst": "all irreducible networks of the family",
        "D_orb, near": "almost all networks near these atoms",
        "D_orb, here": "these atoms",
        "D_orb, worst": "all irreducible networks of the family",
    }
    return Section(
        _name(one) if several else "Brackets",
        paragraphs=[", ".join(f"{name} {value}" for name, value in _facts(one)) + "."] if several else [],
        points=depth_points(one),
        tables=[
            Table(
                "What is proved",
                ["depth", "for", "at least", "at most"],
                [[name, meanings[name], str(low), "–" if high is None else str(high)] for name, low, high in rows],
                "cert",
            )
        ],
        pictures=[
            Picture(
                "A square: both ends meet.  A bar: between these.  An arrow: no upper end is proved", drawing, "cert"
            )
        ],
    )


def _rows(one: Mapping[str, Any]) -> list[Row]:
    variety, orbit = one["d_var"], one["d_orb"]
    brackets_of = {
        "D_var, generic": variety["generic"],
        "D_var, here": variety["pointwise"],
        "D_var, worst": variety["worst_case"],
        "D_orb, near": orbit["near"],
        "D_orb, here": orbit["pointwise"],
        "D_orb, worst": orbit["worst_case"],
    }
    return [(name, bracket["lower"], bracket["upper"]) for name, bracket in brackets_of.items()]


def _facts(one: Mapping[str, Any]) -> list[tuple[str, str]]:
    family = one["family"]
    return [
        ("activation", family["activation"]),
        ("atoms", str(family["atoms"])),
        ("d", str(family["d"])),
        ("outputs", str(family["m"])),
        ("biases", "yes" if family["bias"] else "no"),
        ("free beside the atoms", _FREE[family["free"]]),
    ]


def depth_points(one: Mapping[str, Any]) -> list[str]:
    """What the brackets rest on, in sentences: for the page and for the terminal."""
    points = []
    scales = one["d_orb"]["scales"]
    if scales is not None:
        (low, high), (_, shift) = scales["r"], scales["b"]
        among = f"‖w‖ in [{low:.3g}, {high:.3g}]" + (f" and |b| ≤ {shift:.3g}" if shift else "")
        points.append(f"D_orb near the atoms: other solutions are excluded among those with {among}.")
    for other in one["d_orb"]["other"]:
        points.append(
            f"Atom {other['atom']} has another solution at depth {other['depth']}: ‖w‖ = {other['r']:.6g}, "
            f"b = {other['b']:.6g}" + (", turned round." if other["turn"] == -1 else ".")
        )
    for near in one["d_var"]["singular"]:
        points.append(
            f"Rescaling atom {near['atom']} by at most {near['within']:.2g} (relative) reaches a singular point: "
            f"there D_var > {near['depth']}."
        )
    search = one["estimates"]["search"]
    if search["starts"]:
        points.append(
            f"An estimate: {search['other_solutions']} of {search['starts']} random starts found other solutions at "
            f"depth {search['depth']}."
        )
    return points


def _span(low: int, high: int | None) -> str:
    if low == high:
        return str(low)
    return f"at least {low}" if high is None else f"{low} to {high}"


def _name(one: Mapping[str, Any]) -> str:
    given = one["input"]
    return str(given["path"] if given["block"] in ("", "main") else given["block"])
