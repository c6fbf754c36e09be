"""Result documents on disk: JSON text, and files that appear whole or not at all.

A leaf module: it imports nothing of the project, so that every room may write its results through it.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

TOOL = "sparsemf"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the folder of ``path``; on success it is fsynced and renamed onto ``path``.

    On failure it is removed and ``path`` stays as it was.
    """
    target = Path(path)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, _mode(target))
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file ``path`` by ``data``, atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace the file ``path`` by ``text`` in UTF-8, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], document: Mapping[str, Any]) -> None:
    """Replace the file ``path`` by :func:`json_text` of ``document``, atomically."""
    write_text(path, json_text(document))


def json_text(document: Mapping[str, Any]) -> str:
    """The JSON text of a document: keys in their order, floats to the last bit, NaN and ±inf as null.

    Lists of plain values stay on one line.  numpy scalars and arrays, tuples, enums and paths are accepted.
    """
    return _pretty(plain(document), "") + "\n"


def plain(value: Any) -> Any:
    """``value`` in JSON's own types (dict with string keys, list, str, int, float, bool, None)."""
    if value is None or isinstance(value, (str, bool)):
        return str(value) if isinstance(value, Enum) else value
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return plain(value.tolist())
    raise TypeError(f"a JSON document cannot hold {type(value).__name__}")


def header(
    schema: str,
    version: int,
    *,
    input: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    timing_s: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """What every document starts with: schema ("sparsemf/analyze/1"), tool, version, and what is given of the rest.

    ``schema`` is the bare name ("analyze"); ``version`` is the version of that schema.
    """
    document: dict[str, Any] = {"schema": f"{TOOL}/{schema}/{version}", "tool": TOOL, "version": tool_version()}
    given = {"input": input, "config": config, "timing_s": timing_s}
    return document | {key: value for key, value in given.items() if value is not None}


def input_record(network: Any) -> dict[str, Any]:
    """The ``input`` field of a document about one network: where it came from and its sizes."""
    provenance = network.provenance
    return {
        "path": os.path.basename(provenance.source),
        "sha256": provenance.sha256,
        "block": provenance.block,
        "activation": network.activation.name,
        "d": network.d,
        "m": network.m,
        "width": network.width,
        "precision": provenance.precision,
    }


@cache
def tool_version() -> str:
    """The installed version of the distribution ("0+unknown" when run from a bare tree)."""
    from importlib import metadata

    try:
        return metadata.version(TOOL)
    except metadata.PackageNotFoundError:
        return "0+unknown"


def _mode(target: Path) -> int:
    """The mode of the file that is replaced, or what ``open`` would give a new one."""
    try:
        return target.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _sync_folder(folder: Path) -> None:
    """Make the rename durable; some file systems cannot fsync a folder, and then it is as durable as it gets."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _pretty(value: Any, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        rows = [f"{inner}{json.dumps(key, ensure_ascii=False)}: {_pretty(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[\n" + ",\n".join(inner + _pretty(item, inner) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
