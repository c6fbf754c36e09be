"""HDF5 datasets by path: hard links only, nothing outside the file, no objects, nothing that expands without
bound."""

from __future__ import annotations

import io
import math
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import IO, Any

from sparsemf.checkpoints.archives import open_archive
from sparsemf.checkpoints.files import BadFile, Remark

WEIGHTS = "model.weights.h5"
_MAX_DEPTH = 32
_MAX_ENTRIES = 500_000
_LARGE = 1 << 26
_RATIO = 200
# deflate, shuffle, checksum, LZF: what the library itself brings; any other filter would load a plugin
_FILTERS = {1, 2, 3, 32000}


def library(path: Path) -> Any:
    """h5py.  Raises an InputError when it is not installed."""
    try:
        import h5py
    except ImportError:
        message = "expected h5py to read Keras files, it is not installed; pip install 'sparsemf[keras]'"
        raise BadFile(path, message) from None
    return h5py


def is_archive(path: Path) -> bool:
    """Whether a Keras file is a ``.keras`` archive by its first bytes."""
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def source_of(path: Path) -> IO[bytes]:
    """The HDF5 file itself, or the one in a ``.keras`` archive: a window of the archive where it is stored as it
    is."""
    if not is_archive(path):
        return path.open("rb")
    with open_archive(path) as archive:
        member = archive.getinfo(WEIGHTS)
        if member.compress_type == zipfile.ZIP_STORED:
            with path.open("rb") as header:
                header.seek(member.header_offset + 26)
                lengths = header.read(4)
            start = member.header_offset + 30 + sum(int.from_bytes(lengths[k : k + 2], "little") for k in (0, 2))
            if start + member.file_size > path.stat().st_size:
                raise BadFile(path, "expected a whole archive, its weights reach beyond its end; copy it again")
            return io.BufferedReader(_Window(path, start, member.file_size))
        spool = tempfile.TemporaryFile()  # noqa: SIM115 - the reader closes it
        try:
            with archive.open(member) as packed:
                shutil.copyfileobj(packed, spool, 1 << 24)
        except Exception as error:
            spool.close()
            raise broken(path, error) from None
        return spool


def datasets(path: Path, file: Any) -> tuple[dict[str, Any], list[Remark]]:
    """(path → dataset, what was left aside)."""
    h5py = library(path)
    found: dict[str, Any] = {}
    remarks: list[Remark] = []
    seen: set[int] = set()

    def visit(group: Any, prefix: str, depth: int) -> None:
        if depth > _MAX_DEPTH or len(seen) > _MAX_ENTRIES:
            raise BadFile(path, f"expected a Keras file, got nesting beyond {_MAX_DEPTH} levels; save it again")
        for name in group:
            full = f"{prefix}{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                remarks.append(Remark(full, "a link to another place, which is not followed"))
                continue
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                remarks.append(Remark(full, "a second name of the same object"))
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                visit(item, f"{full}/", depth + 1)
            elif isinstance(item, h5py.Dataset):
                reason = _unreadable(item)
                if reason is None:
                    found[full] = item
                else:
                    remarks.append(Remark(full, reason))

    visit(file, "", 0)
    return found, remarks


def broken(path: Path, error: object) -> BadFile:
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
    return BadFile(path, f"expected a whole HDF5 file, got a broken one ({first}); copy or save it again")


def _unreadable(dataset: Any) -> str | None:
    kind = dataset.dtype
    if kind.hasobject or dataset.shape is None:
        return "text or objects, not numbers"
    properties = dataset.id.get_create_plist()
    if dataset.is_virtual or properties.get_external_count():
        return "numbers that lie in another file, which is not opened"
    if any(properties.get_filter(k)[0] not in _FILTERS for k in range(properties.get_nfilters())):
        return "compressed by a plugin, which is not loaded"
    size = math.prod(dataset.shape) * kind.itemsize
    if size > _LARGE and size > _RATIO * max(dataset.id.get_storage_size(), 1):
        return f"would expand to {size} bytes, which weights never do"
    return None


class _Window(io.RawIOBase):
    """A range of a file as a file."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._stream = path.open("rb", buffering=0)
        self._start, self._size, self._position = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, min(len(buffer), self._size - self._position))]
        self._stream.seek(self._start + self._position)
        read = self._stream.readinto(view) or 0
        self._position += read
        return read

    def close(self) -> None:
        self._stream.close()
        super().close()
