"""The work list: which files of a folder, a glob, a list or a model directory; and what tells that one has changed."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from sparsemf.checkpoints import has_known_suffix
from sparsemf.exceptions import InputError

Stamp = list[list[str | int]]
"""[name, size, mtime_ns] of everything that a reading of one checkpoint depends on."""


def work_list(source: str) -> list[Path]:
    """Files with a known suffix in a folder (recursively), of a glob, or named line by line in a text file.

    A model directory is a folder like any other: its single file, or the index of its shards; shards themselves are no
    checkpoints.  A glob and a list may name folders.  Hidden files and folders are passed over, links to files are
    followed, links to folders are not.  A list names paths relative to itself; ``#`` starts a comment.  Files that a
    list names are kept even where they do not exist: they are reported as failures.  Raises InputError when nothing is
    found.
    """
    path = Path(source)
    if path.is_dir():
        found = _in_folder(path)
    elif path.is_file() and not has_known_suffix(path):
        found = _flat(_listed(path))
    elif path.is_file():
        found = [path]
    else:
        named = sorted(Path(name) for name in glob.glob(source, recursive=True))
        found = _flat(name for name in named if name.is_dir() or has_known_suffix(name))
    if not found:
        raise InputError(f"{source}: expected a folder, a glob or a list with checkpoints in it, found none")
    return list(dict.fromkeys(found))


def _in_folder(folder: Path) -> list[Path]:
    found = [p for p in folder.rglob("*") if has_known_suffix(p) and not _hidden(p, folder) and p.is_file()]
    return sorted(found)


def _flat(paths: Iterable[Path]) -> list[Path]:
    return [file for path in paths for file in (_in_folder(path) if path.is_dir() else [path])]


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _listed(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path.name}: expected a text file with one path a line: {error}") from None
    names = [line.split("#", 1)[0].strip() for line in lines]
    return [path.parent / name for name in names if name]


def stamp(path: Path) -> Stamp:
    """Size and time of the file, of the config.json beside it (it may name the activation) and of the shards of an
    index; OSError when the file itself is not there."""
    depends = [path, path.parent / "config.json"]
    if path.name.endswith(".index.json"):
        depends += sorted(p for p in path.parent.iterdir() if p.suffix in (".safetensors", ".bin"))
    first = os.stat(path)
    found: Stamp = [[path.name, first.st_size, first.st_mtime_ns]]
    for other in depends[1:]:
        try:
            status = os.stat(other)
        except OSError:
            continue
        found.append([other.name, status.st_size, status.st_mtime_ns])
    return found
