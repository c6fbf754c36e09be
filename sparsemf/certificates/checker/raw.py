"""Raw arrays: a tiny reader of native safetensors and npz files, their hash, and the law they are seen under."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_NAMES = ("outer", "inner", "bias", "affine", "offset")
_HEADER_LIMIT = 100_000_000

LARGEST = 1e100
"""Numbers beyond this are refused, so that no square overflows."""


class Unreadable(ValueError):
    """The file is no native network."""


@dataclass(frozen=True, eq=False)
class Raw:
    """f(x) = Σ α_i σ(⟨w_i, x⟩ + b_i) + A x + c, as plain arrays (α has the output scale inside)."""

    activation: str
    alpha: Array
    w: Array
    b: Array
    affine: Array
    offset: Array

    @staticmethod
    def of(arrays: Mapping[str, Any], activation: str, scale: float) -> Raw:
        """From named arrays as a native file holds them; missing bias, affine, offset are 0."""
        outer, w = (np.asarray(arrays[name], dtype=np.float64) for name in ("outer", "inner"))
        n, m = outer.shape
        d = w.shape[1]
        b = np.asarray(arrays.get("bias", np.zeros(n)), dtype=np.float64)
        affine = np.asarray(arrays.get("affine", np.zeros((m, d))), dtype=np.float64)
        offset = np.asarray(arrays.get("offset", np.zeros(m)), dtype=np.float64)
        if w.shape[0] != n or b.shape != (n,) or affine.shape != (m, d) or offset.shape != (m,):
            raise Unreadable("arrays of a network do not fit together")
        alpha = scale * outer
        if not all(np.isfinite(x).all() and np.all(np.abs(x) <= LARGEST) for x in (alpha, w, b, affine, offset)):
            raise Unreadable("a network holds NaN, infinite or huge numbers")
        return Raw(activation, alpha, w, b, affine, offset)

    def __call__(self, x: Array, value: Any) -> Array:
        """f on rows of x, with σ given."""
        out = x @ self.affine.T + self.offset
        for start in range(0, x.shape[0], 512):
            rows = slice(start, start + 512)
            out[rows] += value(x[rows] @ self.w.T + self.b) @ self.alpha
        return out

    @property
    def sha256(self) -> str:
        """Hash of the activation and of all arrays as little-endian float64."""
        digest = hashlib.sha256(self.activation.encode())
        for array in (self.alpha, self.w, self.b, self.affine, self.offset):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()

    def minus(self, other: Raw) -> Raw:
        """f − g (same activation)."""
        return Raw(
            self.activation,
            np.concatenate([self.alpha, -other.alpha]),
            np.concatenate([self.w, other.w]),
            np.concatenate([self.b, other.b]),
            self.affine - other.affine,
            self.offset - other.offset,
        )

    def whitened(self, mean: Array | None, root: Array | None) -> Raw:
        """f(mean + root·g) as a function of g; ``None`` stands for N(0, I)."""
        if mean is None or root is None:
            return self
        return Raw(
            self.activation,
            self.alpha,
            self.w @ root,
            self.b + self.w @ mean,
            self.affine @ root,
            self.offset + self.affine @ mean,
        )

    def take(self, rows: Any) -> Raw:
        """Some of the neurons, with the affine part."""
        return Raw(self.activation, self.alpha[rows], self.w[rows], self.b[rows], self.affine, self.offset)


def encode(array: NDArray[Any]) -> dict[str, Any]:
    """An array as JSON: dtype, shape and base64 of its little-endian bytes."""
    data = np.ascontiguousarray(array)
    data = data.astype(data.dtype.newbyteorder("<"), copy=False)
    return {"dtype": data.dtype.str, "shape": list(data.shape), "base64": base64.b64encode(data.tobytes()).decode()}


def decode(entry: Mapping[str, Any]) -> NDArray[Any]:
    """The inverse of :func:`encode`; only plain integer and float types."""
    dtype = np.dtype(str(entry["dtype"]))
    if dtype.kind not in "if" or dtype.hasobject:
        raise Unreadable(f"an array of type {dtype} is not allowed in a certificate")
    data = np.frombuffer(base64.b64decode(entry["base64"], validate=True), dtype=dtype)
    if dtype.kind == "f" and not (np.isfinite(data).all() and np.all(np.abs(data) <= LARGEST)):
        raise Unreadable("an array of a certificate holds NaN, infinite or huge numbers")
    return data.reshape([int(s) for s in entry["shape"]])


def read(path: Path) -> Raw:
    """A native .safetensors or .npz file, by content; raises :class:`Unreadable`."""
    with path.open("rb") as stream:
        magic = stream.read(2)
    return _read_npz(path) if magic == b"PK" else _read_safetensors(path)


def _read_npz(path: Path) -> Raw:
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in _NAMES if name in data}
            activation = str(data["activation"])
            scale = float(data["scale"]) if "scale" in data else 1.0
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise Unreadable(f"{path.name}: not a native npz file ({error})") from None
    return Raw.of(arrays, activation, scale)


def _read_safetensors(path: Path) -> Raw:
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(size - 8, _HEADER_LIMIT):
                raise Unreadable(f"{path.name}: not a safetensors file")
            header = json.loads(stream.read(length))
            arrays = {}
            for name in _NAMES:
                if name not in header:
                    continue
                entry = header[name]
                begin, end = entry["data_offsets"]
                stream.seek(8 + length + begin)
                raw = np.frombuffer(stream.read(end - begin), dtype=_DTYPES[entry["dtype"]])
                arrays[name] = raw.reshape(entry["shape"]).astype(np.float64)
        metadata = header["__metadata__"]
        return Raw.of(arrays, metadata["activation"], float(metadata.get("scale", 1.0)))
    except (KeyError, ValueError, TypeError) as error:
        raise Unreadable(f"{path.name}: not a native safetensors network ({error})") from None
