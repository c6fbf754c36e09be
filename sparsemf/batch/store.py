"""The result store: whole documents or none, one writer, results that are trusted only when they can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparsemf import atomic
from sparsemf.batch.files import Stamp, stamp
from sparsemf.batch.jobs import SCHEMA
from sparsemf.batch.summary import row
from sparsemf.exceptions import InputError

_RACY_NS = 2_000_000_000
"""A file younger than this when it was listed may change again without a new time."""


class Store:
    """The folder OUT/ (results/, certificates/, classes.json, failures.jsonl, summary.*; .listing.json is a cache)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results, self.certificates = folder / "results", folder / "certificates"

    @contextmanager
    def opened(self) -> Iterator[Store]:
        """Make the folders, keep other writers out, and remove what a killed writer left half-written."""
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"-o {self.folder}: expected a folder, got a file")
        self.results.mkdir(parents=True, exist_ok=True)
        self.certificates.mkdir(exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            _lock(lock, self.folder)
            for folder in (self.folder, self.results, self.certificates):
                for left in folder.glob(".*.tmp"):
                    left.unlink(missing_ok=True)
            yield self

    def result(self, name: str) -> dict[str, Any] | None:
        """The result ``name`` if it is there and whole (a crash of the machine may leave an empty file), with the
        certificate that it refers to."""
        document = self._read(self.results / f"{name}.json")
        if document is None or document.get("id") != name or document.get("schema") != SCHEMA:
            return None
        try:
            row(document)
        except (KeyError, TypeError, IndexError):
            return None
        certificate = (document.get("pair") or {}).get("certificate")
        if certificate is not None and self.certificate(Path(certificate).stem) is None:
            return None
        return document

    def keep(self, document: dict[str, Any]) -> None:
        """Write a result."""
        atomic.write_json(self.results / f"{document['id']}.json", document)

    def certificate(self, name: str) -> dict[str, Any] | None:
        """The certificate ``name`` if it is there, whole, and sealed."""
        from sparsemf.certificates.checker.document import seal

        document = self._read(self.certificates / f"{name}.json")
        if document is None or "seal" not in document:
            return None
        body = {key: value for key, value in document.items() if key not in ("seal", "timing_s")}
        return document if seal(body) == document["seal"] else None

    def keep_certificate(self, name: str, document: dict[str, Any]) -> None:
        """Write a certificate."""
        atomic.write_json(self.certificates / f"{name}.json", document)

    def keep_classes(self, document: dict[str, Any]) -> None:
        """Write classes.json."""
        atomic.write_json(self.folder / "classes.json", document)

    def listing(self, options: Sequence[Any]) -> dict[str, Any]:
        """Known blocks of files by path, as far as they were listed with the same ``options``."""
        known = self._read(self.folder / ".listing.json") or {}
        files = known.get("files")
        return files if known.get("options") == list(options) and isinstance(files, dict) else {}

    def keep_listing(self, options: Sequence[Any], files: dict[str, Any], now_ns: int) -> None:
        """Remember the blocks of files, but not of those so young that a change might not show in their time."""
        old = {path: entry for path, entry in files.items() if all(now_ns - s[2] > _RACY_NS for s in entry["stamp"])}
        atomic.write_json(self.folder / ".listing.json", {"options": list(options), "files": old})

    def keep_failures(self, failures: Sequence[dict[str, Any]]) -> None:
        """Rewrite failures.jsonl."""
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in failures)
        atomic.write_bytes(self.folder / "failures.jsonl", text.encode("utf-8", "backslashreplace"))

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None


def same_stamp(path: Path, known: Stamp) -> bool:
    """Whether a file is as it was listed."""
    try:
        return stamp(path) == known
    except OSError:
        return False


def _lock(file: Any, folder: Path) -> None:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"-o {folder}: another batch is writing there; wait for it or choose another folder") from None
    except OSError:
        return  # a file system without locks: the user's own care must do
