"""The page of a compressed checkpoint: certified errors beside certified limits, block by block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsemf.reports.figures.intervals import Span, intervals
from sparsemf.reports.numerals import number
from sparsemf.reports.views.study import Picture, Section, Study, Table

HEAD = ("block", "neurons", "beside them", "error, at least", "at most", "limit", "needs at least")
_BESIDE = {-1: "nothing", 0: "a constant", 1: "an affine part", 2: "a quadratic part"}


def compress_study(document: Mapping[str, Any]) -> Study:
    """The article of one document ``sparsemf/compress/1`` or of several (``results``)."""
    found = document.get("results", [document])
    first = found[0]
    return Study(
        title=f"{first['input']['path']}, compressed",
        kind="compressed checkpoint",
        lead=[
            f"{first['output']['path']} holds {_blocks(len(found))} with fewer neurons.  The error is that of the file "
            "as it was read back, ‖f − f_written‖ over ‖f‖ in L²(ρ); the limit is what no network of as many neurons "
            "with the same part beside them gets below.",
        ],
        facts=[
            ("blocks", str(len(found))),
            ("neurons", f"{sum(d['input']['width'] for d in found)} → {sum(d['size'] for d in found)}"),
            ("input law", str(first["config"]["rho"])),
            ("sha256 of the copy", first["output"]["sha256"][:12] + "…"),
        ],
        sections=[
            Section(
                "Blocks",
                tables=[
                    Table(
                        "Relative to ‖f‖",
                        list(HEAD),
                        [compress_row(d) for d in found],
                        "cert",
                    )
                ],
                pictures=[
                    Picture(
                        "Between the limit of as many neurons and the error of the copy",
                        intervals(
                            "compress",
                            "Certified limits and errors",
                            "; ".join(f"{_name(d)}: {_percent(d['error']['rel_upper'], 'up')}" for d in found),
                            [_span(d) for d in found],
                            "‖f − f_S‖ / ‖f‖",
                        ),
                        "cert",
                    )
                ],
            )
        ],
        warnings=first["advice"],
        settings=[(str(key), str(value)) for key, value in first["config"].items()],
    )


def _span(d: Mapping[str, Any]) -> Span:
    limit = d["limit"]["rel_lower"]
    return Span(f"{_name(d)} ({d['size']})", limit or 0.0, d["error"]["rel_upper"] or 0.0)


def compress_row(d: Mapping[str, Any]) -> list[str]:
    """The cells of the table, as texts: for the page and for the terminal."""
    error, limit = d["error"], d["limit"]
    return [
        _name(d),
        f"{d['input']['width']} → {d['size']}",
        _BESIDE[d["free_degree"]],
        _percent(error["rel_lower"], "down"),
        _percent(error["rel_upper"], "up"),
        "unknown" if limit["rel_lower"] is None else _percent(limit["rel_lower"], "down"),
        {None: "unknown", 1: "1 neuron"}.get(limit["at_least"], f"{limit['at_least']} neurons"),
    ]


def _percent(value: float | None, towards: str) -> str:
    """Of ‖f‖; ``towards``: bounds stay true when they are shortened."""
    if value is None:
        return "–"
    return f"{number(100 * value, 3, towards)} %" if value >= 1e-5 else number(value, 3, towards)


def _blocks(count: int) -> str:
    return "one block" if count == 1 else f"{count} blocks"


def _name(d: Mapping[str, Any]) -> str:
    given = d["input"]
    return str(given["path"] if given["block"] in ("", "main") else given["block"])
