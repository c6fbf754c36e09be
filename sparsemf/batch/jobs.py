"""The work list: which files, which settings, and the identity of a result."""

from __future__ import annotations

import glob
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sparsemf.checkpoints import has_known_suffix
from sparsemf.exceptions import InputError


@dataclass(frozen=True)
class Settings:
    """What decides a result besides the file's content; it enters the result's identity."""

    block: str | None = None
    activation: str | None = None
    map: str | None = None
    rho: str = "gaussian"
    eps: float | None = None
    rel_eps: float | None = None
    seed: int = 0
    reference: str | None = None
    reference_sha256: str | None = None

    def identity(self) -> str:
        """A canonical text of the settings (the reference by content, not by path)."""
        values = {key: value for key, value in asdict(self).items() if key not in ("reference", "block")}
        return json.dumps(values, sort_keys=True)


def result_id(stem: str, block: str, content_sha256: str, settings: Settings) -> str:
    """``stem--block--`` and 12 hex digits of the hash of content and settings; safe as a file name."""
    digest = hashlib.sha256(f"{content_sha256}|{block}|{settings.identity()}".encode()).hexdigest()[:12]
    return f"{_safe(stem)}--{_safe(block) or 'main'}--{digest}"


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[:80]


def work_list(source: str) -> list[Path]:
    """Files with a known suffix in a folder (recursively), of a glob, or named line by line in a text file.

    Raises InputError when nothing is found.  A list file may name paths relative to itself; ``#`` starts a comment.
    """
    path = Path(source)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and has_known_suffix(p) and not _hidden(p, path))
    elif path.is_file() and not has_known_suffix(path):
        found = _listed(path)
    elif path.is_file():
        found = [path]
    else:
        found = sorted(Path(p) for p in glob.glob(source, recursive=True) if has_known_suffix(Path(p)))
    if not found:
        raise InputError(f"{source}: expected a folder, a glob or a list with checkpoints in it, found none")
    return found


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _listed(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path.name}: expected a text file with one path a line: {error}") from None
    names = [line.split("#", 1)[0].strip() for line in lines]
    return [path.parent / name for name in names if name]
