"""Slices of η and the path of atoms on the page: every picture is there, labelled, and says what the document
says."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

import sparsemf
from cases import planted
from reports.support import Page, analyze_document
from sparsemf import reports
from sparsemf.atomic import json_text
from sparsemf.exceptions import InputError
from sparsemf.reports.figures.dual import Bands
from sparsemf.symmetry import disguise

CASES = {
    "relu": ("relu", 8, 5, 1, False),
    "more than d": ("relu", 6, 12, 1, False),
    "one": ("relu", 3, 1, 1, True),
    "circle": ("relu", 1, 1, 1, True),
    "outputs": ("gelu", 6, 5, 4, True),
    "biased tanh": ("tanh", 2, 3, 1, True),
    "above": ("gelu", 2, 2, 1, False),
}


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    found = {}
    for name, (activation, d, atoms, m, bias) in CASES.items():
        rng = np.random.default_rng(0)
        network = (
            opposite(20.0) if name == "above" else planted(rng, activation, d=d, atoms=atoms, outputs=m, bias=bias)
        )
        analysis = sparsemf.analyze(disguise(network, rng, 4 * atoms))
        found[name] = json.loads(json_text(analysis.document()))
    return found


def opposite(degrees: float) -> sparsemf.Network:
    """Two neurons of opposite sign so near to each other that their certificate overshoots."""
    angle = np.radians(degrees)
    return sparsemf.Network([[1.0], [-1.0]], 1.5 * np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]]), None, "gelu")


@pytest.mark.parametrize("name", CASES)
def test_every_picture_is_drawn(name: str, documents: dict[str, dict[str, Any]]) -> None:
    document = documents[name]
    page = Page(reports.render(document))
    titles = re.findall(r'<title id="([^"]*)-t">', page.html)
    dual, path = document["dual"], document["path"]
    assert "The dual certificate η" in page.text
    assert sum(title.startswith("a1-eta") and not title.endswith("map") for title in titles) == len(dual["slices"])
    assert ("a1-eta-map" in titles) == (dual["plane"] is not None) == (name != "circle")
    assert ("a1-path-places" in titles) == ("stages" in path) == (CASES[name][2] > 1)
    assert not re.search(r"nan|inf|None", " ".join(re.findall(r' d="([^"]*)"', page.html)), re.IGNORECASE)
    assert len(page.ids) == len(set(page.ids))
    assert repr(dual["norm"]) in page.numbers
    assert f"read off {dual['samples']} samples; it is no bound" in re.sub("\u202f", "", page.text)


@pytest.mark.parametrize("name", CASES)
def test_axes_say_what_they_show(name: str, documents: dict[str, dict[str, Any]]) -> None:
    html = reports.render(documents[name])
    pictures = [svg for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL) if re.search(r'id="a1-(eta|path)', svg)]
    assert pictures
    for svg in pictures:
        names = re.findall(r'<text class="name"[^>]*>([^<]*)</text>', svg)
        assert len(names) >= 2
        assert all(names)
        assert any(unit in " ".join(names) for unit in ("degrees", "units of (w, b)", "‖α‖‖φ‖", "number of atoms S"))


def test_which_sentence_is_said(documents: dict[str, dict[str, Any]]) -> None:
    below, above = (Page(reports.render(documents[name])).text for name in ("relu", "above"))
    assert documents["relu"]["dual"]["below_one"]
    assert "stays below 1 off the atoms: as far as they show, these 5 atoms are the only answer" in below
    assert "has no second derivative at an atom" in below
    assert "small noise leave one atom near each" in Page(reports.render(documents["biased tanh"])).text
    assert not documents["above"]["dual"]["below_one"]
    assert "does not keep one atom near each of these" in above
    assert "heat over" in reports.render(documents["above"])
    assert 'class="heat over"' not in reports.render(documents["relu"])


def test_document_of_the_dual(documents: dict[str, dict[str, Any]]) -> None:
    for document in documents.values():
        dual = document["dual"]
        assert dual["kind"] == "estimate"
        assert dual["residual"] < 1e-6
        assert dual["below_one"] == (dual["largest"] <= 1 + 1e-6)
        rows = len(document["dictionary"]["atoms"])
        for part in [*dual["slices"], *([dual["plane"]] if dual["plane"] else [])]:
            assert all(0 <= atom < rows for atom in part["through"])
            assert set(part["through"]) <= {mark["atom"] for mark in part["marks"]}
            assert all(abs(mark["eta"]) == pytest.approx(1.0) for mark in part["marks"])
        for line in dual["slices"]:
            assert ("along" in line) == (document["input"]["m"] > 1)
            assert len({len(values) for values in (line["eta"], *line.get("along", []))}) == 1


def test_documents_without_them_and_with_reasons() -> None:
    document = analyze_document()
    assert "dual certificate" not in Page(reports.render(document)).text
    document |= {"dual": {"reason": "because <so>"}, "path": {"reason": "for that"}}
    text = Page(reports.render(document)).text
    assert "Not shown: because <so>." in text
    assert "Not shown: for that." in text


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"dual": {"slices": [{"through": [0], "from": 1.0, "to": 0.0, "eta": [1.0, 1.0]}]}}, r"dual\.slices\[0\]"),
        ({"dual": {"plane": {"reach": 1.0, "eta": [[1.0], [1.0]], "through": []}}}, r"dual\.plane"),
        ({"dual": []}, "dual"),
        ({"path": {"stages": [{"S": "x"}]}}, r"path\.stages\[0\]\.S"),
    ],
)
def test_wrong_shapes_name_the_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=field):
        reports.render(analyze_document() | change)


def test_bands() -> None:
    both = Bands.of([-0.9, 0.3])
    assert (both.count, both.band(0.05), both.band(-0.95), both.band(1.0), both.band(1.2)) == (10, 1, -10, 10, 11)
    one = Bands.of([-1.0, -0.87])
    assert one.low <= 0.87
    assert one.band(-1.0) == -one.count
    assert one.band(-0.0) == -1
    assert 4 <= one.count <= 12
    assert Bands.of([1.0, 1.0]).count >= 1
    assert Bands.of([0.0]).count >= 1
