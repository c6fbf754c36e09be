"""What every format's copy of a checkpoint shares: the changed tensors, the blocks of another width, the
capabilities."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
from numpy.typing import NDArray

from sparsemf.checkpoints.files import TensorFile
from sparsemf.checkpoints.layouts import Layout

CHUNK = 1 << 24


@dataclass(frozen=True)
class Encoded:
    """A tensor of the copy: its type and shape; its little-endian bytes lie in the spool."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


class Changes(Mapping[str, Encoded]):
    """Tensor name → what the copy holds in its place; the bytes lie in a temporary file."""

    def __init__(self) -> None:
        self._spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close
        self._entries: dict[str, Encoded] = {}

    def put(self, name: str, dtype: str, shape: tuple[int, ...], data: bytes) -> None:
        self._entries[name] = Encoded(dtype, shape, self._spool.seek(0, os.SEEK_END), len(data))
        self._spool.write(data)

    def bytes(self, name: str) -> bytes:
        """The numbers of a tensor, little-endian, rows first."""
        entry = self._entries[name]
        self._spool.seek(entry.start)
        return self._spool.read(entry.size)

    def array(self, name: str) -> NDArray[np.generic]:
        """The numbers of a tensor as an array; bfloat16 as the 16 bits of each."""
        entry = self._entries[name]
        kind = "<u2" if entry.dtype == "bfloat16" else np.dtype(entry.dtype).newbyteorder("<")
        return np.frombuffer(self.bytes(name), kind).reshape(entry.shape)

    def __getitem__(self, name: str) -> Encoded:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        self._spool.close()


@dataclass(frozen=True)
class Resized:
    """A block that gets another width."""

    layout: Layout
    width: int


class Copy(ABC):
    """Writes a copy of one open checkpoint with some tensors replaced.

    ``suffixes``: those that a copy of this format may have.  ``configured``: whether the width is also said outside
    the file, in the configuration of the program that builds the model.
    """

    suffixes: ClassVar[tuple[str, ...]]
    configured: ClassVar[bool] = True

    def __init__(self, file: TensorFile, source: Path) -> None:
        self.file, self.source = file, source

    def refusal(self, layout: Layout) -> str | None:
        """Why this block cannot be replaced in the copy, or None."""
        return None

    def advice(self, resized: tuple[Resized, ...]) -> tuple[str, ...]:
        """What the user should know of a copy whose blocks have other widths, besides the model's configuration."""
        return ()

    @abstractmethod
    def write(self, path: Path, changes: Changes, resized: tuple[Resized, ...]) -> None:
        """Write the whole copy to ``path``, a temporary name in the folder of the target."""
