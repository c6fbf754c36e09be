"""A copy of a Flax msgpack file: only the bytes of the changed arrays are others."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from sparsemf.checkpoints.copies.base import CHUNK, Changes, Copy, Resized
from sparsemf.checkpoints.flax_file import FlaxFile
from sparsemf.checkpoints.msgpack_index import Malformed, packed_array
from sparsemf.exceptions import InputError


class FlaxCopy(Copy):
    """msgpack counts entries, not bytes, so that an array can be replaced where it lies.

    An array that came in chunks is written as one, which Flax reads all the same.
    """

    suffixes = (".msgpack",)
    file: FlaxFile

    def write(self, path: Path, changes: Changes, resized: tuple[Resized, ...]) -> None:
        spans = sorted((self.file.span(name).begin, self.file.span(name).end, name) for name in changes)
        with self.source.open("rb") as source, path.open("wb") as out:
            for begin, end, name in spans:
                _copy_until(source, out, begin)
                try:
                    out.write(packed_array(changes[name].shape, changes[name].dtype, changes.bytes(name)))
                except Malformed as error:
                    raise InputError(f"tensor {name}: expected an array that msgpack can hold, got {error}") from None
                source.seek(end)
            _copy_until(source, out, None)


def _copy_until(source: IO[bytes], out: IO[bytes], end: int | None) -> None:
    while end is None or source.tell() < end:
        chunk = source.read(CHUNK if end is None else min(CHUNK, end - source.tell()))
        if not chunk:
            return
        out.write(chunk)
