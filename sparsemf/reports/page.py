"""Documents → views → one self-contained HTML page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup

from sparsemf.atomic import tool_version, write_bytes
from sparsemf.exceptions import InputError
from sparsemf.reports import numerals
from sparsemf.reports.documents import kind_of
from sparsemf.reports.fields import Fields
from sparsemf.reports.figures import bars, bounds, curves, dual, particles, path, spectra, staircase
from sparsemf.reports.figures.classes import MOST as MOST_CLASSES
from sparsemf.reports.figures.classes import class_graph
from sparsemf.reports.views.analysis import AnalysisView, analysis_view
from sparsemf.reports.views.budget import budget_study
from sparsemf.reports.views.cell import cell_study
from sparsemf.reports.views.certificate import CertificateView, certificate_view
from sparsemf.reports.views.classes import classes_view
from sparsemf.reports.views.compress import compress_study
from sparsemf.reports.views.depth import depth_study
from sparsemf.reports.views.reproduction import reproduction_study
from sparsemf.reports.views.study import VERDICTS, Study

if TYPE_CHECKING:
    from jinja2 import Environment

View = AnalysisView | CertificateView

_STUDIES: dict[str, Callable[[Mapping[str, Any]], Study]] = {
    "budget": budget_study,
    "cell": cell_study,
    "compress": compress_study,
    "depth": depth_study,
    "reproduce": reproduction_study,
}
"""Documents whose page is an article."""

STRIPS_SHOWN = 200
"""Directions are drawn for the largest atoms only, so that pages of thousands stay light."""

ROWS_SHOWN = 30
"""Longer tables start collapsed after this many rows."""


def render(document: Mapping[str, Any], links: Mapping[str, str] | None = None) -> str:
    """The HTML page of a document of ``analyze`` or ``certify``, of several in one, or of a batch (see ``read``).

    The page needs no network and no script.  ``links``: of a batch, the addresses of its results' own pages by their
    ``id``, and of its folder under ``""``.  Raises :class:`InputError` when the document is none of these, or when a
    field has a wrong type.
    """
    links = links or {}
    kind = kind_of(document)
    if kind in _STUDIES:
        return _environment().get_template("study.html.j2").render(v=_STUDIES[kind](document), verdicts=VERDICTS)
    template = _environment().get_template(f"{kind}.html.j2")
    if kind == "analyze":
        return template.render(v=analysis_view(document, "a1"))
    if kind == "certify":
        return template.render(v=certificate_view(document, "c1"))
    views = _views(Fields(document))
    ids = [Fields.of(row, "results").text("id") for row in Fields(document).items("results")]
    certificates = [
        Fields.of(row, "results").sub("pair").text("certificate") for row in Fields(document).items("results")
    ]
    classes = classes_view(document.get("classes") or {})
    analyses = [view for view in views if isinstance(view, AnalysisView)]
    pairs = [view for view in views if isinstance(view, CertificateView)]
    return template.render(
        views=views,
        analyses=analyses,
        pairs=pairs,
        failures=[_failure(row) for row in Fields(document).rows("failures")],
        name=Fields(document).text("name"),
        classes=classes,
        class_of={v.name: classes.number_of.get(i) for v, i in zip(views, ids, strict=True)} if classes else {},
        pages={v.name: links[i] for v, i in zip(views, ids, strict=True) if i in links},
        certificates={
            v.name: f"{links['']}/{file}" for v, file in zip(views, certificates, strict=True) if file and "" in links
        },
        folder=links.get(""),
    )


def write(document: Mapping[str, Any], path: str | os.PathLike[str], pages: bool = False) -> int:
    """Write the page of ``document`` to ``path``, atomically; returns its size in bytes.

    ``pages``: of a batch, write the page of every result too, to OUT/pages/<id>.html, and link to it.  Links to pages
    and certificates are relative: the page and its folder may be moved together.
    """
    target = Path(path)
    links: dict[str, str] = {}
    if kind_of(document) == "batch" and document.get("folder"):
        folder = Path(str(document["folder"]))
        links[""] = quote(Path(os.path.relpath(folder, target.resolve().parent)).as_posix())
        if pages:
            links |= _pages(document, folder, links[""])
    data = render(document, links).encode("utf-8")
    write_bytes(target, data)
    return len(data)


def _pages(document: Mapping[str, Any], folder: Path, base: str) -> dict[str, str]:
    """Write the page of every result that has an id; their addresses by id."""
    (folder / "pages").mkdir(exist_ok=True)
    found = {}
    for row in document["results"]:
        name = str(row.get("id") or "")
        if name and name == Path(name).name:  # an id is a file's name, whoever wrote the document
            write_bytes(folder / "pages" / f"{name}.html", render(row).encode("utf-8"))
            found[name] = f"{base}/pages/{quote(name)}.html"
    return found


def _views(document: Fields) -> list[View]:
    views: list[View] = []
    for i, row in enumerate(document.rows("results"), start=1):
        kind = kind_of(row.data)
        if kind == "analyze":
            views.append(analysis_view(row.data, f"a{i}", 3))
        elif kind == "certify":
            views.append(certificate_view(row.data, f"c{i}", 3))
        else:
            raise InputError(f"results[{i - 1}]: expected a document of one block or one pair, got one of kind {kind}")
    return views


def _failure(row: Fields) -> tuple[str, str, str]:
    """(file, block, what went wrong) of a line of failures.jsonl, whatever it calls them."""

    def first(*keys: str) -> str:
        return next((str(row.data[key]) for key in keys if row.data.get(key) is not None), "")

    return first("path", "file", "source", "id"), first("block"), first("message", "error", "reason")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sparsemf.reports"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "num": numerals.marked,
        "given": numerals.given,
        "pct": numerals.marked_percent,
        "plural": numerals.plural,
        "rel": _relative,
    }
    environment.globals |= {
        "staircase": staircase.staircase,
        "axis_floor": staircase.axis_floor,
        "beyond_axis": staircase.beyond_axis,
        "miniature": staircase.miniature,
        "spectra": spectra.spectra,
        "particles": particles.particles,
        "share_bar": bars.share_bar,
        "strip": bars.strip,
        "most_components": bars.MOST_COMPONENTS,
        "curves": curves.curves,
        "dual_lines": dual.dual_lines,
        "dual_plane": dual.dual_plane,
        "path_places": path.path_places,
        "path_sizes": path.path_sizes,
        "bounds": bounds.bounds,
        "class_graph": class_graph,
        "classes_drawn": MOST_CLASSES,
        "rows_shown": ROWS_SHOWN,
        "strips_shown": STRIPS_SHOWN,
        "tool_version": tool_version(),
    }
    return environment


def _relative(value: float | None, towards: str = "near", digits: int = 3) -> Markup:
    """A relative error: as a percentage where that is easier to read."""
    if value is None or not 1e-5 <= value < 10:
        return numerals.marked(value, digits, towards)
    text = numerals.number(100 * value, digits, towards) + "\u202f%"
    return Markup('<data value="{0}" title="{0}">{1}</data>').format(repr(value), text)
