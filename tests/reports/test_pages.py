"""Every kind of document becomes one whole, self-contained page whose numbers are the document's."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reports.support import (
    Page,
    analyze_document,
    batch_document,
    certify_document,
    compress_document,
    depth_document,
    uncertified_document,
)
from sparsemf import reports
from sparsemf.exceptions import InputError


def several() -> dict[str, Any]:
    blocks = [analyze_document(block="encoder.layer.0"), uncertified_document(5, 7, 2.2e-4)]
    return {"schema": "sparsemf/analyze/1", "results": [*blocks, certify_document()]}


DOCUMENTS = {
    "certified": analyze_document(),
    "three outputs": analyze_document(m=3),
    "many inputs": analyze_document(d=100),
    "many atoms": analyze_document(n=90, s_star=45),
    "one neuron": analyze_document(n=1, s_star=1),
    "empty dictionary": analyze_document(n=8, s_star=0),
    "only an affine function": analyze_document(n=0, s_star=0),
    "uncertified": uncertified_document(5, 7, 2.2e-4),
    "bare": {"schema": "sparsemf/analyze/1"},
    "equivalent": certify_document(),
    "distinct": certify_document("distinct", 0.015, 0.0151),
    "undecided": certify_document("undecided", 1e-4, 0.5),
    "bare pair": {"schema": "sparsemf/certify/2"},
    "several": several(),
    "several pairs": {"schema": "sparsemf/certify/2", "results": [certify_document(), certify_document()]},
    "no results": {"schema": "sparsemf/analyze/1", "results": []},
    "batch": {
        "schema": "sparsemf/batch/1",
        "name": "out",
        "failures": [{"path": "x"}],
        "results": several()["results"],
    },
    "batch with classes": batch_document(),
    "batch of certified classes": batch_document((4, 4), undecided=False),
    "depth": depth_document(),
    "depths": {"schema": "sparsemf/depth/1", "results": [depth_document("a"), depth_document("b")]},
    "compressed": compress_document(),
    "compressed blocks": {
        "schema": "sparsemf/compress/1",
        "results": [compress_document(f"encoder.layer.{i}", size=96 + i) for i in range(6)],
    },
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_page_is_whole_and_loads_nothing(name: str) -> None:
    html = reports.render(DOCUMENTS[name])
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html.split("<body>")[1].split("<script>")[0])
    assert "http" not in html.replace("http-equiv", "")
    assert not any(attributes.get("src") for _, attributes in page.tags)
    assert all(str(a.get("href", "#")).startswith("#") for a in page.attributes("a"))
    assert "None" not in page.text
    assert "nan" not in re.findall(r"[a-z]+", " ".join(str(a.get("d", "")) for a in page.attributes("path")))
    assert html == reports.render(DOCUMENTS[name])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_pictures_and_tables_speak(name: str) -> None:
    page = Page(reports.render(DOCUMENTS[name]))
    for svg in page.attributes("svg"):
        assert svg["role"] == "img"
        assert set(str(svg["aria-labelledby"]).split()) <= set(page.ids)
    assert all(th.get("scope") in ("row", "col") for th in page.attributes("th"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_numbers_are_the_documents() -> None:
    document = analyze_document()
    page = Page(reports.render(document))
    s_star = document["s_star"]
    expected = [
        *s_star["eps"], *s_star["rel_eps"], s_star["strength"], s_star["value"], document["dictionary"]["error"],
        *document["energy"].values(), document["norm_beyond_affine"], *document["function_norm_bounds"].values(),
        *(document["quotient"][key] for key in ("flips", "merged", "cancelled", "affine_norm", "error")),
        3, 1, document["s_up"]["value"], document["s_up"]["lambda"], document["projection"]["explained"],
        *(atom[key] for atom in document["dictionary"]["atoms"] for key in ("particles", "spread", "b")),
        *(atom["alpha"][0] for atom in document["dictionary"]["atoms"]),
        *(document["threshold"][key] for key in ("eps", "lower", "upper")), document["compressibility"]["variation"],
        *document["threshold"]["coefficient"].values(), *document["threshold"]["minimiser"].values(),
    ]  # fmt: skip
    assert {repr(value) for value in expected} <= page.numbers
    assert document["input"]["sha256"] in page.html
    assert "--activation relu" in page.text


def test_bounds_are_rounded_outward() -> None:
    document = analyze_document()
    document["s_star"]["eps"] = [0.00026111, 0.286999]
    document["dictionary"]["error"] = 0.00026111
    text = Page(reports.render(document)).text
    assert "from 2.62 × 10⁻⁴ to 0.286 " in text
    assert "No network of 4 atoms comes closer to f than 0.286; the dictionary below, with 5 atoms, comes" in text


def test_coefficient_curve_and_threshold_numbers_are_optional() -> None:
    document = analyze_document()
    page = Page(reports.render(document))
    assert "curve coefficients" in page.html
    assert "what the sizes of the coefficients alone prove" in page.text
    assert "at most S*(ε), invariant under rotations cert" in page.text
    assert "a reading that fails est" in page.text
    del document["threshold"], document["compressibility"]
    old = Page(reports.render(document))
    assert 'class="curve coefficients"' not in old.html
    assert "Threshold numbers" not in old.text
    assert repr(document["s_up"]["value"]) in old.numbers


def test_short_plateau_says_so() -> None:
    document = analyze_document()
    document["s_star"] |= {"strength": 1.047, "eps": [0.3, 0.3141]}
    text = Page(reports.render(document)).text
    assert "This plateau is short (a factor of 1.04 in ε)" in text
    assert "off the staircase" in text
    assert "does not depend on the error" not in text


def test_empty_dictionary() -> None:
    text = Page(reports.render(DOCUMENTS["empty dictionary"])).text
    assert "S* = 0 atoms" in text
    assert "is an affine function" in text
    assert "The dictionary is empty" in text


def test_one_atom_is_compared_with_affine_functions() -> None:
    text = Page(reports.render(DOCUMENTS["one neuron"])).text
    assert "S* = 1 atom " in text
    assert "No affine function (0 atoms) comes closer" in text


def test_uncertified_gives_both_ends() -> None:
    page = Page(reports.render(DOCUMENTS["uncertified"]))
    assert "S*(ε) ∈ 5…7 atoms" in page.text
    assert "at least 5 cert and at most 7 cert atoms are needed" in page.text
    assert "The longest certified plateau is S* = 5" in page.text
    assert "1 warning" in page.text


def test_eps_below_every_dictionary_claims_no_number() -> None:
    document = uncertified_document(12, 60, 1e-14)
    text = Page(reports.render(document)).text
    assert "S*(ε) ≥ 12 atoms" in text
    assert "no number is proved to be enough" in text


def test_certified_at_one_eps() -> None:
    document = analyze_document()
    document["s_star"] |= {"eps": [0.02, 0.02], "rel_eps": [0.0127, 0.0127]}
    assert "Certified at ε = 0.0200" in Page(reports.render(document)).text


def test_empirical_law_has_no_lower_bound() -> None:
    document = uncertified_document(0, 7, 2.2e-4)
    document["config"] |= {"rho": "empirical", "data": "X.npz", "rows": 300}
    for row in document["staircase"]:
        row["lower"] = row["lower_directions"] = 0.0
    page = Page(reports.render(document))
    assert "S*(ε) ≤ 7 atoms" in page.text
    assert "No lower bound exists here" in page.text
    assert "L(S)" not in page.text
    assert "--rho X.npz" in page.text


def test_zero_of_the_lower_curve_is_mentioned_not_drawn() -> None:
    page = Page(reports.render(analyze_document()))
    assert "From S = 11 on L(S) is 0" in page.text
    assert "inf" not in " ".join(str(a["d"]) for a in page.attributes("path"))


def test_long_table_is_collapsed_and_complete() -> None:
    page = Page(reports.render(DOCUMENTS["many atoms"]))
    assert "Show all 45 atoms" in page.text
    assert sum(row.get("class") == "more" for row in page.attributes("tr")) == 15


def test_projected_atoms_carry_the_numbers_of_the_table() -> None:
    document = analyze_document()
    document["projection"]["rank"] = [4, 3, 2, 1, 0]
    from sparsemf.reports.views.analysis import analysis_view

    found = analysis_view(document, "a").projection
    assert found is not None
    assert found.row == [5, 4, 3, 2, 1]
    del document["projection"]["rank"]
    found = analysis_view(document, "a").projection
    assert found is not None
    assert found.row == [1, 2, 3, 4, 5]  # by the numbers of their particles, all different here
    for atom in document["dictionary"]["atoms"]:
        atom["particles"] = 10
    found = analysis_view(document, "a").projection
    assert found is not None
    assert found.row == [None] * 5


@pytest.mark.parametrize("kind", ["analyze", "certify", "several", "batch"])
def test_strings_from_files_are_escaped(kind: str) -> None:
    evil = "<script>alert(1)</script>\"'&"
    document = analyze_document(block=evil)
    document["input"]["path"] = evil
    document["warnings"] = [evil]
    document["config"][evil] = evil
    document["active"]["inactive"][evil] = 1
    document["s_star"]["counts"] = evil
    pair = certify_document()
    pair["inputs"]["a"]["block"] = pair["orbit_distance"]["method"] = evil
    every = {
        "analyze": document,
        "certify": pair,
        "several": {"schema": "sparsemf/analyze/1", "results": [document, pair]},
        "batch": {
            "schema": "sparsemf/batch/1",
            "name": evil,
            "results": [document, pair],
            "failures": [{"error": evil}],
        },
    }
    page = Page(reports.render(every[kind]))
    assert len(page.attributes("script")) == 1
    assert "<script>alert" not in page.html
    assert "alert(1)" in page.text


def test_verdicts() -> None:
    equivalent = Page(reports.render(DOCUMENTS["equivalent"]))
    assert "Equivalent" in equivalent.text
    assert "is at most 5.70 × 10⁻¹² cert, which is not above ε = 0.00157" in equivalent.text
    assert "The lower bound is 0, which a logarithmic axis cannot show" in equivalent.text
    assert {"5.7e-12", "0.001574", "0.001575", "58", "2", "3", "0.0125", "0.625", "0.5"} <= equivalent.numbers
    assert all(digest * 32 in equivalent.html for digest in ("ab", "cd", "ef", "12"))
    distinct = Page(reports.render(DOCUMENTS["distinct"]))
    assert "is at least 0.0150 cert, which is above ε = 0.00158" in distinct.text
    assert "0.0625" in distinct.numbers
    assert "0.5, -1.25, 3.0" in distinct.text
    assert "neither verdict is proved" in Page(reports.render(DOCUMENTS["undecided"])).text


def test_several_link_to_their_sections() -> None:
    page = Page(reports.render(DOCUMENTS["several"]))
    links = {str(a["href"])[1:] for a in page.attributes("a")}
    assert len(links) == 3
    assert links <= set(page.ids)


def test_batch_folder(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    for i in range(3):
        (tmp_path / "results" / f"{i}.json").write_text(json.dumps(analyze_document(block=f"block{i}")))
    (tmp_path / "results" / "torn.json").write_text('{"schema"')
    (tmp_path / "failures.jsonl").write_text('{"path": "bad.pt", "error": "empty file"}\n{"torn')
    document = reports.read(tmp_path)
    assert reports.kind_of(document) == "batch"
    page = Page(reports.render(document))
    assert "3 failures" in page.text
    assert "empty file" in page.text
    assert sum("mini" in str(svg["class"]) for svg in page.attributes("svg")) == 3


def test_classes_are_drawn_and_told() -> None:
    page = Page(reports.render(batch_document((5, 2, 1))))
    assert "1 pair of classes could not be told apart" in page.text
    drawn = [a for a in page.attributes("circle") if "mark-point" in str(a["class"])]
    assert len(drawn) == 2 * 7  # wide and narrow; a class of one is in the table only
    assert "not every two are proved equal" in page.text
    whole = Page(reports.render(batch_document((3, 3), undecided=False))).text
    assert "every two classes are proved distinct" in whole
    assert "could not be told apart" not in whole


def test_batch_links_to_pages_and_certificates(tmp_path: Path) -> None:
    folder = tmp_path / "my out"
    (folder / "results").mkdir(parents=True)
    document = batch_document((2, 1))
    for row in document["results"]:
        (folder / "results" / f"{row['id']}.json").write_text(json.dumps(row))
    (folder / "results" / "old.json").write_text(json.dumps({**analyze_document(), "id": "old"}))
    names = [row["id"] for row in document["results"]]
    (folder / "summary.csv").write_text("id,path\n" + "".join(f"{name},x\n" for name in names))
    (folder / "classes.json").write_text(json.dumps(document["classes"]))
    reports.write(reports.read(folder), tmp_path / "page.html", pages=True)
    page = Page((tmp_path / "page.html").read_text())
    targets = {str(a["href"]) for a in page.attributes("a")}
    assert {f"my%20out/pages/{name}.html" for name in names} <= targets
    assert "my%20out/certificates/x.json" in targets
    assert sorted(p.stem for p in (folder / "pages").iterdir()) == sorted(names)  # "old" is of an earlier list
    assert (folder / "pages" / f"{names[0]}.html").read_text() == reports.render(document["results"][0])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "{}",
        '{"schema": "sparsemf/inspect/1"}',
        '{"schema": "sparsemf/analyze/2"}',
        '{"schema": 3}',
        "\xff",
    ],
)
def test_no_document_is_an_input_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "out.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"out\.json.*expected"):
        reports.read(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("staircase", "x"),
        ("s_star", [1]),
        ("function_norm", "1"),
        ("energy", {"linear": []}),
        ("staircase", [{"S": 1.5}]),
    ],
)
def test_wrong_types_name_the_field(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"{field}.*expected"):
        reports.render(analyze_document() | {field: value})


def test_missing_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        reports.read(tmp_path / "nothing.json")
    with pytest.raises(InputError, match="found neither"):
        reports.read(tmp_path)


def test_write_is_whole_or_nothing(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    assert reports.write(analyze_document(), target) == target.stat().st_size
    before = target.read_bytes()
    with pytest.raises(InputError):
        reports.write({"schema": "other"}, target)
    assert target.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_bounds_of_a_compressed_block_are_rounded_outward() -> None:
    document = compress_document()
    document["error"] |= {"rel_lower": 0.12349, "rel_upper": 0.12341}
    document["limit"]["rel_lower"] = 0.056789
    text = Page(reports.render(document)).text
    assert all(shown in text for shown in ("12.3 %", "12.4 %", "5.67 %"))
