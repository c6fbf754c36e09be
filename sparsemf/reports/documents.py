"""What can be reported on: one document, several in one, or the folder of a batch."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsemf.exceptions import InputError
from sparsemf.reports.fields import Fields

BATCH_SCHEMA = "sparsemf/batch/1"
_VERSIONS = {
    "analyze": "1",
    "certify": "2",
    "batch": "1",
    "budget": "1",
    "reproduce": "1",
    "cell": "1",
    "compress": "1",
    "depth": "1",
}
_ARTICLES = ("batch", "cell", "compress", "depth")
"""Kinds whose page tells of several results itself."""


def kind_of(document: Mapping[str, Any]) -> str:
    """ "analyze", "certify", "several" (``results`` of one file) or "batch" (a folder as :func:`read` gives it)."""
    schema = Fields.of(document, "document").text("schema")
    parts = schema.split("/")
    named = parts[1] if len(parts) == 3 and parts[0] == "sparsemf" else ""
    if named not in _ARTICLES and "results" in document:
        return "several"
    if named not in _VERSIONS:
        raise InputError(
            f"schema {schema!r}: expected a document of `sparsemf analyze` or `sparsemf certify`; "
            "make one with `sparsemf analyze CKPT -o OUT.json`"
        )
    if parts[2] != (version := _VERSIONS[named]):
        raise InputError(f"schema {schema!r}: expected version {version}; make the document again with this version")
    return named


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The document in the JSON file ``path``, or the folder of a batch as one document of kind "batch".

    Raises :class:`InputError` when there is nothing to report on.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    document = _batch_folder(path) if path.is_dir() else _json_file(path)
    try:
        kind_of(document)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
    return document


def _json_file(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a JSON document of sparsemf, got something else ({error})") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(document).__name__}")
    return document


def _batch_folder(folder: Path) -> dict[str, Any]:
    """OUT/results/*.json (those that the summary lists, where there is one), failures.jsonl and classes.json; a result
    that cannot be read is listed among the failures."""
    results, failures = [], []
    current = _current(folder)
    for path in sorted((folder / "results").glob("*.json")):
        if current is not None and path.stem not in current:
            continue
        try:
            document = _json_file(path)
            kind_of(document)
            results.append(document)
        except (InputError, OSError) as error:
            failures.append({"path": path.name, "error": str(error)})
    log = folder / "failures.jsonl"
    if log.is_file():
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip():
                failures.append(_failure(line))
    if not results and not failures:
        raise InputError(
            f"{folder}: expected the folder of `sparsemf batch` (results/*.json, failures.jsonl), found neither"
        )
    classes = folder / "classes.json"
    return {
        "schema": BATCH_SCHEMA,
        "tool": "sparsemf",
        "name": folder.resolve().name,
        "folder": str(folder.resolve()),
        "results": results,
        "failures": failures,
        "classes": _json_file(classes) if classes.is_file() else None,
    }


def _current(folder: Path) -> set[str] | None:
    """The results that belong to the last run, by its summary; None where there is no readable one."""
    try:
        with (folder / "summary.csv").open(encoding="utf-8", newline="") as stream:
            found = {row.get("id") for row in csv.DictReader(stream)}
    except (OSError, ValueError, csv.Error):
        return None
    return {name for name in found if name} or None


def _failure(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    return record if isinstance(record, dict) else {"error": f"unreadable line: {line[:200]}"}
