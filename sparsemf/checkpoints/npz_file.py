"""npz: arrays by name; object arrays (pickles) are refused, only the arrays that are needed are expanded."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from sparsemf.checkpoints.archives import open_archive
from sparsemf.checkpoints.files import Array, BadFile, Remark, TensorFile, TensorInfo

_SCALARS = ("activation", "scale", "format_version")
_MAX_TEXT = 4096  # bytes of a scalar's member


class NpzFile(TensorFile):
    """An ``.npz`` archive; 0-d entries ``activation``, ``scale``, ``format_version`` are its metadata."""

    format = "npz"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive = open_archive(path)
        try:
            self._index()
        except BaseException:
            self._archive.close()
            raise

    def _index(self) -> None:
        tensors: dict[str, TensorInfo] = {}
        metadata: dict[str, str] = {}
        remarks: list[Remark] = []
        for member in self._archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename:
                remarks.append(Remark(name, "not a .npy member"))
                continue
            shape, dtype = self._describe(member)
            if name in _SCALARS and math.prod(shape) == 1 and member.file_size <= _MAX_TEXT:
                value = self._load(name, shape, dtype).item()
                metadata[name] = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
                continue
            tensors[name] = TensorInfo(name, shape, dtype.newbyteorder("=").name)
        self.tensors, self.metadata, self.remarks = tensors, metadata, tuple(remarks)

    def _describe(self, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type from the member's header; its size must be what the archive says."""
        try:
            with self._archive.open(member) as stream:
                version = npy.read_magic(stream)
                read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
                if read is None:
                    raise ValueError(f"npy version {version}")
                shape, _, dtype = read(stream)
                start = stream.tell()
        except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise self._broken(member.filename, error) from None
        if dtype.hasobject:
            raise BadFile(
                self.path,
                f"{member.filename}: expected an array of numbers, got Python objects (a pickle, which is never run); "
                "save it with a numeric dtype",
            )
        if start + math.prod(shape) * dtype.itemsize != member.file_size:
            raise self._broken(member.filename, f"shape {shape} does not fit its {member.file_size} bytes")
        return shape, dtype

    def _load(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        try:
            with self._archive.open(f"{name}.npy") as stream:
                array = npy.read_array(stream, allow_pickle=False)
        except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            raise self._broken(name, error) from None
        if array.shape != shape or array.dtype != dtype:
            raise self._broken(name, "its header changed between two readings")
        return array

    def _values(self, name: str) -> Array:
        shape, dtype = self._describe(self._archive.getinfo(f"{name}.npy"))
        return self._load(name, shape, dtype).astype(np.float64)

    def _broken(self, name: str, error: object) -> BadFile:
        return BadFile(self.path, f"{name}: expected a whole npy array, got a broken one ({error}); save it again")

    def close(self) -> None:
        self._archive.close()
