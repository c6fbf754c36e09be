"""What a checkpoint file offers to the block finder: names, shapes and types of tensors, and one tensor at a
time."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.checkpoints.quantized import FLOAT8, Quantized, dequantised, float8
from sparsemf.exceptions import InputError

if TYPE_CHECKING:
    from sparsemf.checkpoints.layouts import Layout

Array = NDArray[np.float64]

FLOATS = ("bfloat16", "float16", "float32", "float64")  # by bits of precision, coarsest first
_KINDS = {
    "float16": "<f2",
    "float32": "<f4",
    "float64": "<f8",
    "int8": "<i1",
    "uint8": "<u1",
    "int16": "<i2",
    "uint16": "<u2",
    "int32": "<i4",
    "uint32": "<u4",
    "int64": "<i8",
    "bool": "<u1",
}


@dataclass(frozen=True)
class TensorInfo:
    """A tensor in a file, by its name there; ``dtype`` is "float32", "bfloat16", "int64", …"""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Remark:
    """Something in a file that is not a usable block, and why."""

    name: str
    reason: str


class BadFile(InputError):
    """A file that cannot be read as a checkpoint: its base name, what was expected, what came, how to mend it."""

    def __init__(self, path: str | os.PathLike[str], message: str) -> None:
        super().__init__(_one_line(f"{Path(path).name or os.fspath(path)}: {message}"))

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors travel from worker processes with their finished message."""
        return _restored, (str(self),)


def _one_line(text: str) -> str:
    """Names in a file may hold line breaks and control characters of terminals: shown as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _restored(message: str) -> BadFile:
    error = BadFile.__new__(BadFile)
    error.args = (message,)
    return error


class TensorFile(ABC):
    """One open checkpoint.  ``tensors`` maps names to infos; values are read one tensor at a time.

    Attributes
    ----------
    format : what the file is ("safetensors", "npz", "torch", "sharded safetensors")
    metadata : strings that came with the tensors ("activation", "scale", "format_version", …)
    remarks : entries that were left aside, and why
    layouts : the blocks, where the file itself says how its layers are joined (a graph); None: names must tell
    refused : what looked like a block or a weight and is not usable, and why
    quantized : names of tensors whose numbers are codes times scales, and how
    """

    format: str
    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    remarks: tuple[Remark, ...] = ()
    layouts: tuple[Layout, ...] | None = None
    refused: tuple[Remark, ...] = ()
    quantized: Mapping[str, Quantized] = MappingProxyType({})
    _digest: str | None = None

    @abstractmethod
    def _values(self, name: str) -> Array:
        """The tensor's numbers as float64: exactly, but for integers of more than 53 bits."""

    def read(self, name: str) -> Array:
        """The finite numbers of one tensor as float64 (every float of up to 64 bits fits exactly)."""
        info = self.tensors[name]
        recipe = self.quantized.get(name)
        if recipe is not None:
            return self._finite(name, dequantised(name, recipe, self))
        if info.dtype not in FLOATS:
            raise BadFile(
                self.path, f"tensor {name}: expected {', '.join(FLOATS)}, got {info.dtype}; save it as one of these"
            )
        return self._finite(name, self._values(name))

    def _finite(self, name: str, values: Array) -> Array:
        if not np.isfinite(values).all():
            nan, infinite = int(np.isnan(values).sum()), int(np.isinf(values).sum())
            what = "NaN" if nan else "infinite"
            count = nan or infinite
            raise BadFile(
                self.path,
                f"tensor {name}: expected finite numbers, got {count} {what} of {values.size} entries; "
                "take a checkpoint from before the run diverged",
            )
        return values

    def parts(self, names: Iterable[str]) -> frozenset[str]:
        """The names of the tensors as they lie in the file that ``names`` are made of (of codes: their scales
        too)."""
        found: set[str] = set()
        for name in names:
            recipe = self.quantized.get(name)
            found |= {name} if recipe is None else set(recipe.parts)
        return frozenset(found)

    def sha256(self, used: Iterable[str] | None = None) -> str:
        """Hash of the file's bytes (of a sharded file: of the index and the shards that hold ``used``)."""
        if self._digest is None:
            self._digest = file_sha256(self.path)
        return self._digest

    def close(self) -> None:  # noqa: B027 - a hook: many readers hold nothing open
        """Release what is open."""

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, streamed."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def decode(raw: Any, dtype: str, shape: tuple[int, ...]) -> Array:
    """Little-endian bytes (or an array of them) of type ``dtype`` as float64 of the given shape."""
    if dtype == "bfloat16":  # the upper half of a float32
        widened = np.frombuffer(raw, dtype="<u2").astype(np.uint32) << np.uint32(16)
        return widened.view(np.float32).astype(np.float64).reshape(shape)
    if dtype in FLOAT8:
        return float8(np.frombuffer(raw, dtype=np.uint8), dtype).reshape(shape)
    kind = _KINDS[dtype]
    return np.frombuffer(raw, dtype=kind).astype(np.float64).reshape(shape)


def coarsest(dtypes: Iterable[str]) -> str:
    """The type with the fewest bits of precision among those given."""
    return min(dtypes, key=FLOATS.index)
