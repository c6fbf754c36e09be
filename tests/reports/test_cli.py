"""`sparsemf report`: where the page goes, what is printed, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reports.support import analyze_document
from sparsemf_cli.main import cli


def _call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["report", *arguments])


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "out.json"
    path.write_text(json.dumps(analyze_document()))
    return path


def test_default_is_beside_the_input(document: Path) -> None:
    result = _call(str(document))
    page = document.with_suffix(".html")
    assert result.exit_code == 0
    assert result.stdout.strip().replace("\n", "") == str(page)
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_json(document: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    result = _call(str(document), "-o", str(target), "--json")
    found = json.loads(result.stdout)
    assert found | {"version": ""} == {
        "schema": "sparsemf/report/1",
        "tool": "sparsemf",
        "version": "",
        "path": "page.html",
        "kind": "analyze",
        "bytes": target.stat().st_size,
    }


def test_batch_folder(tmp_path: Path) -> None:
    folder = tmp_path / "v1.2"
    (folder / "results").mkdir(parents=True)
    (folder / "results" / "a.json").write_text(json.dumps(analyze_document()))
    assert _call(str(folder)).exit_code == 0
    assert (tmp_path / "v1.2.html").exists()


def test_bad_input(document: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.json"
    text.write_text("hello")
    for arguments in (
        [str(tmp_path / "missing.json")],
        [str(text)],
        [str(document), "-o", str(tmp_path)],
        [str(document), "-o", str(document)],
        [str(document), "-o", str(tmp_path / "no" / "page.html")],
    ):
        result = _call(*arguments)
        assert result.exit_code == 4
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) == 1
    assert not text.with_suffix(".html").exists()
