"""The page of ``sparsemf reproduce``: four results, each with what is said, how it is read and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsemf.reports.figures.plots import Series, plot
from sparsemf.reports.views.budget import budget_sections
from sparsemf.reports.views.study import VERDICTS, Mark, Picture, Section, Study, Table


def reproduction_study(document: Mapping[str, Any]) -> Study:
    """The article of a document ``sparsemf/reproduce/1``."""
    sections = [_overview(document)]
    for number, claim in enumerate(document["claims"], 1):
        sections += _claim(claim, number)
        if claim["name"] == "decomposition":
            for name, found in document["budgets"].items():
                for section in budget_sections(found, f"budget-{name}"):
                    sections.append(
                        Section(f"{name}: {section.title[0].lower()}{section.title[1:]}", section.paragraphs,
                                section.points, section.tables, section.pictures)
                    )  # fmt: skip
    warnings = [f"{name}: {text}" for name, found in document["budgets"].items() for text in found["warnings"]]
    return Study(
        title="Four claims about wide two-layer networks, put to the test",
        kind="reproduction",
        lead=[
            "Each of the four results in the abstract of arXiv:2605.24710 was read, made computable and tested.  "
            "Definitions are our reading of the abstract: where a sentence fails when it is taken literally, both "
            "readings are shown.",
        ],
        facts=[("source", document["source"]), ("size", document["config"]["size"])],
        sections=sections,
        warnings=warnings,
    )


def _overview(document: Mapping[str, Any]) -> Section:
    rows = [
        [str(number), VERDICTS[answer["verdict"]], answer["statement"]]
        for number, claim in enumerate(document["claims"], 1)
        for answer in claim["answers"]
    ]
    return Section(
        "At a glance", tables=[Table("What was asked, and the answer", ["result", "verdict", "statement"], rows)]
    )


def _claim(claim: Mapping[str, Any], number: int) -> list[Section]:
    first = Section(
        f"{number}. {claim['title']}",
        [f"The abstract: {claim['says']}", f"Our reading: {claim['reading']}"],
    )
    answers = [
        Section(answer["statement"], verdict=answer["verdict"], answer=answer["sentence"])
        for answer in claim["answers"]
    ]
    pictures = [_picture(figure, f"{claim['name']}-{i}") for i, figure in enumerate(claim["figures"])]
    tables = [Table(t["title"], t["columns"], t["rows"], _mark(t["kind"])) for t in claim["tables"]]
    shown = [Section("Evidence", tables=tables, pictures=pictures)] if tables or pictures else []
    return [first, *answers, *shown]


def _picture(figure: Mapping[str, Any], name: str) -> Picture:
    series = [
        Series(s["label"], s.get("points") or (), s.get("errors") or (), s.get("line") or (), s.get("dashed", True))
        for s in figure["series"]
    ]
    drawing = plot(
        name, figure["title"], f"{figure['y']} against {figure['x']}.", series, figure["x"], figure["y"],
        x_log=figure["x_log"], y_log=figure["y_log"],
    )  # fmt: skip
    return Picture(figure["title"], drawing, _mark(figure["kind"]))


def _mark(kind: str) -> Mark:
    return "cert" if kind == "certificate" else "est"
