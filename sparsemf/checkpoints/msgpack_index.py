"""Where the arrays of a Flax msgpack file lie, found without reading them.

msgpack (its specification of 2013) writes a value as one byte that says what it is, a length, and the content.
``flax.serialization`` writes nested maps with string keys; an array is an extension of type 1 whose content is the
msgpack array [shape, name of the dtype, bytes].  The library for msgpack builds every object that it passes; here a
10 GB file costs the bytes of its headers.  Lengths that claim more than the file holds are refused before reading.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NDARRAY = 1
_MAX_DEPTH = 64
_MAX_ENTRIES = 2_000_000
_MAX_KEY = 1 << 16

# first byte → (kind, bytes of the length field)
_SIZED = {
    0xC4: ("bin", 1), 0xC5: ("bin", 2), 0xC6: ("bin", 4), 0xC7: ("ext", 1), 0xC8: ("ext", 2), 0xC9: ("ext", 4),
    0xD9: ("str", 1), 0xDA: ("str", 2), 0xDB: ("str", 4), 0xDC: ("array", 2), 0xDD: ("array", 4), 0xDE: ("map", 2),
    0xDF: ("map", 4),
}  # fmt: skip
_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h"}
_NUMBERS |= {0xD2: ">i", 0xD3: ">q"}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


class Malformed(ValueError):
    """Bytes that are no msgpack, or lengths beyond the file."""


@dataclass(frozen=True)
class ArraySpan:
    """One array: its dtype's name, shape, the range [start, start + size) of its numbers, and the whole
    object's."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int
    begin: int
    end: int


@dataclass(frozen=True)
class Chunked:
    """One array that Flax wrote in several pieces of its flat numbers."""

    shape: tuple[int, ...]
    chunks: tuple[ArraySpan, ...]
    begin: int
    end: int


def index(data: Any) -> Iterator[tuple[tuple[str, ...], ArraySpan | Chunked]]:
    """(trail of keys, where the array lies) for every array under nested maps; ``data`` is a buffer of bytes."""
    walker = _Walker(data)
    value = walker.value(0)
    if walker.position != len(data):
        raise Malformed(f"{len(data) - walker.position} bytes after its end")
    if not isinstance(value, dict):
        raise Malformed("no map at the top")
    yield from _arrays(value, ())


def packed_array(shape: tuple[int, ...], dtype: str, numbers: bytes) -> bytes:
    """An array as Flax writes it.  Raises :class:`Malformed` beyond 4 GiB, the largest that msgpack can hold."""
    name = dtype.encode()
    content = b"".join(
        (
            b"\x93",
            bytes([0x90 | len(shape)]),
            *(b"\xce" + struct.pack(">I", n) for n in shape),
            bytes([0xA0 | len(name)]),
            name,
            b"\xc6" + _length(len(numbers)),
            numbers,
        )
    )
    return b"\xc9" + _length(len(content)) + bytes([NDARRAY]) + content


def _length(size: int) -> bytes:
    if size >= 1 << 32:
        raise Malformed(f"{size} bytes in one array")
    return struct.pack(">I", size)


def _arrays(value: dict[str, Any], trail: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ArraySpan | Chunked]]:
    for key, item in value.items():
        if isinstance(item, (ArraySpan, Chunked)):
            yield (*trail, key), item
        elif isinstance(item, dict):
            yield from _arrays(item, (*trail, key))


class _Walker:
    """Reads headers and skips contents; numbers, short strings and maps become values, all else None."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.position = 0
        self.entries = 0

    def value(self, depth: int) -> Any:
        self.entries += 1
        if depth > _MAX_DEPTH or self.entries > _MAX_ENTRIES:
            raise Malformed(f"nesting beyond {_MAX_DEPTH} levels or {_MAX_ENTRIES} entries")
        begin = self.position
        code = self._take(1)[0]
        if code < 0x80 or code >= 0xE0:
            return code if code < 0x80 else code - 256
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        if code in _NUMBERS:
            form = _NUMBERS[code]
            return struct.unpack(form, self._take(struct.calcsize(form)))[0]
        kind, size = self._header(code)
        if kind == "map":
            return self._map(size, depth, begin)
        if kind == "array":
            self._room(size)
            return [self.value(depth + 1) for _ in range(size)]
        if kind == "ext":
            return self._extension(size, begin)
        self._room(size)
        if kind == "str" and size <= _MAX_KEY:
            return bytes(self._take(size)).decode("utf-8", errors="replace")
        self.position += size
        return None

    def _header(self, code: int) -> tuple[str, int]:
        for first, last, kind in ((0x80, 0x8F, "map"), (0x90, 0x9F, "array"), (0xA0, 0xBF, "str")):
            if first <= code <= last:
                return kind, code - first
        if 0xD4 <= code <= 0xD8:
            return "ext", 1 << (code - 0xD4)
        if code not in _SIZED:
            raise Malformed(f"byte {code:#x} at {self.position - 1}, which begins nothing")
        kind, width = _SIZED[code]
        return kind, int.from_bytes(self._take(width), "big")

    def _map(self, size: int, depth: int, begin: int) -> Any:
        self._room(2 * size)
        found: dict[str, Any] = {}
        for _ in range(size):
            key = self.value(depth + 1)
            if not isinstance(key, (str, int)) or str(key) in found:
                raise Malformed(f"a map with the key {str(key)[:40]!r}, repeated or no string")
            found[str(key)] = self.value(depth + 1)
        if "__msgpack_chunked_array__" in found:
            return self._chunked(found, begin)
        return found

    def _chunked(self, found: dict[str, Any], begin: int) -> Chunked:
        shape, chunks = (_in_order(found.get(key)) for key in ("shape", "chunks"))
        if not all(isinstance(n, int) and n >= 0 for n in shape) or not all(isinstance(c, ArraySpan) for c in chunks):
            raise Malformed("an array in chunks without shape or chunks")
        if not chunks or len({chunk.dtype for chunk in chunks}) != 1:
            raise Malformed("an array in chunks of no or several types")
        return Chunked(tuple(shape), tuple(chunks), begin, self.position)

    def _extension(self, size: int, begin: int) -> ArraySpan | None:
        kind = self._take(1)[0]
        self._room(size)
        end = self.position + size
        if kind != NDARRAY:
            self.position = end
            return None
        found = self._array(begin, end)
        if self.position != end:
            raise Malformed(f"an array at {begin} whose parts do not fill it")
        return found

    def _array(self, begin: int, end: int) -> ArraySpan:
        if self._header_of("array", end) != 3:
            raise Malformed(f"an array at {begin} without shape, type and numbers")
        shape = tuple(self.value(_MAX_DEPTH) for _ in range(self._header_of("array", end)))
        name = self.value(_MAX_DEPTH)
        size = self._header_of("bin", end)
        start = self.position
        if not isinstance(name, str) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise Malformed(f"an array at {begin} without shape, type and numbers")
        self._room(size)
        self.position += size
        return ArraySpan(name, shape, start, size, begin, self.position)

    def _header_of(self, expected: str, end: int) -> int:
        kind, size = self._header(self._take(1)[0])
        if kind != expected or size > end - self.position:
            raise Malformed(f"{kind} where {expected} was expected at {self.position}")
        return size

    def _room(self, size: int) -> None:
        if size > len(self.data) - self.position:
            raise Malformed(f"a length of {size} at {self.position}, beyond the end")

    def _take(self, size: int) -> Any:
        self._room(size)
        self.position += size
        return self.data[self.position - size : self.position]


def _in_order(value: Any) -> list[Any]:
    """Flax writes a tuple as a map with keys "0", "1", …"""
    if isinstance(value, dict):
        value = [value.get(str(i)) for i in range(len(value))]
    return value if isinstance(value, list) else [None]
