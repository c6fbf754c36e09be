"""What is asked for: the settings, and the identity of a result.

A result belongs to (content of the file, block, activation, settings, schema and version of the program); nothing
else enters it: not the path, not the time, not the machine.  Whatever changes one of these changes the identity, so
that the result is computed anew and the old one stays beside it.  The version is part of it because it is a field of
the document.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sparsemf.atomic import tool_version
from sparsemf.exceptions import InputError

SCHEMA = "sparsemf/analyze/1"
"""The schema of the results; part of their identity."""
_LONGEST = 80


@dataclass(frozen=True)
class Settings:
    """What decides a result besides the file's content.

    ``reference_sha256`` and ``data_sha256`` (of the file that ``rho`` names) stand for the contents of those files.
    """

    block: str | None = None
    activation: str | None = None
    map: str | None = None
    rho: str = "gaussian"
    eps: float | None = None
    rel_eps: float | None = None
    seed: int = 0
    reference: str | None = None
    reference_sha256: str | None = None
    data_sha256: str | None = None
    affine: str = "free"

    def identity(self) -> str:
        """A canonical text: files by base name (which the documents hold) and content, not by path.

        ``block`` is left out: the name of the block itself is part of every identity; so is a free affine part, which
        stores that are older than the option hold.
        """
        values = {key: value for key, value in asdict(self).items() if key != "block"}
        if self.affine == "free":
            del values["affine"]
        values["reference"] = None if self.reference is None else Path(self.reference).name
        values["rho"] = self.rho if self.data_sha256 is None else Path(self.rho).name
        return json.dumps(values, sort_keys=True)


@dataclass(frozen=True)
class Limits:
    """What one job may take: seconds of wall time, GiB of resident memory of its process; None is no limit."""

    time_s: float | None = None
    memory_gib: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("time limit", self.time_s), ("memory limit", self.memory_gib)):
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{name}: expected a positive number, got {value}")


def digest(*parts: str) -> str:
    """12 hex digits of the SHA-256 of the parts, schema and version."""
    text = json.dumps([*parts, SCHEMA, tool_version()])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def result_id(stem: str, block: str, content_sha256: str, activation: str, settings: Settings) -> str:
    """``stem--block--`` and 12 hex digits of the hash of content and settings; safe as a file name."""
    key = digest(content_sha256, block, activation, settings.identity())
    return f"{_safe(stem)}--{_safe(block) or 'main'}--{key}"


def _safe(name: str) -> str:
    """At most 80 bytes of letters, digits and ``._-``: names of files end at 255 bytes."""
    kept = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
    return kept.encode("utf-8")[:_LONGEST].decode("utf-8", "ignore")
