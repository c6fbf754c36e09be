"""Raw arrays: a tiny reader of native safetensors and npz files, their hash, and the law they are seen under."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_NAMES = ("outer", "inner", "bias", "affine", "offset", "quadratic", "gate", "gate_bias")
_PLAIN = ("<f8", "<i4", "|i1")
_HEADER_LIMIT = 100_000_000

LARGEST = 1e100
"""Numbers beyond this are refused, so that no square overflows."""


class Unreadable(ValueError):
    """The file is no native network."""


@dataclass(frozen=True, eq=False)
class Raw:
    """f(x) = scale·Σ outer_i σ(⟨w_i, x⟩ + b_i) + xᵀQx + A x + c, as plain arrays; gated:
    scale·Σ outer_i σ(⟨gate_i, x⟩ + gate_bias_i)(⟨w_i, x⟩ + b_i) + … ."""

    activation: str
    outer: Array
    scale: float
    w: Array
    b: Array
    affine: Array
    offset: Array
    quadratic: Array | None = None
    gate: Array | None = None
    gate_bias: Array | None = None

    @staticmethod
    def of(arrays: Mapping[str, Any], activation: str, scale: float) -> Raw:
        """From named arrays as a native file holds them; missing bias, affine, offset are 0."""
        given = {name: _exactly(arrays[name]) for name in _NAMES if arrays.get(name) is not None}
        outer, w = given["outer"], given["inner"]
        n, m = outer.shape
        d = w.shape[1]
        b = given.get("bias", np.zeros(n))
        affine, offset = given.get("affine", np.zeros((m, d))), given.get("offset", np.zeros(m))
        quadratic, gate = given.get("quadratic"), given.get("gate")
        gate_bias = given.get("gate_bias", None if gate is None else np.zeros(n))
        if w.shape[0] != n or b.shape != (n,) or affine.shape != (m, d) or offset.shape != (m,):
            raise Unreadable("arrays of a network do not fit together")
        if quadratic is not None:
            if quadratic.shape != (m, d, d):
                raise Unreadable("arrays of a network do not fit together")
            quadratic = _symmetric(quadratic)
        if (gate is None) != (gate_bias is None) or (
            gate is not None and gate_bias is not None and (gate.shape != (n, d) or gate_bias.shape != (n,))
        ):
            raise Unreadable("arrays of a network do not fit together")
        present = [x for x in (outer, w, b, affine, offset, quadratic, gate, gate_bias) if x is not None]
        largest = max(
            (float(np.max(np.abs(x))) if np.isfinite(x).all() else np.inf for x in present if x.size), default=0.0
        )
        if not (largest <= LARGEST and abs(scale) <= LARGEST and abs(scale) * largest <= LARGEST):
            raise Unreadable("a network holds NaN, infinite or huge numbers")
        return Raw(activation, outer, float(scale), w, b, affine, offset, quadratic, gate, gate_bias)

    @cached_property
    def alpha(self) -> Array:
        """scale·outer, rounded."""
        return self.scale * self.outer

    @cached_property
    def sha256(self) -> str:
        """Hash of the activation, the scale and all arrays as little-endian float64."""
        digest = hashlib.sha256(json.dumps([self.activation, float(self.scale)]).encode())
        for name in ("outer", "w", "b", "affine", "offset", "quadratic", "gate", "gate_bias"):
            array = getattr(self, name)
            if array is not None:
                digest.update(f"{name}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array, dtype="<f8").data)
        return digest.hexdigest()


def _exactly(array: Any) -> Array:
    """The same numbers in float64; raises :class:`Unreadable` where some are not float64 numbers."""
    given = np.asarray(array)
    if given.dtype.kind not in "fiub" or given.dtype.itemsize > 8:
        raise Unreadable(f"an array of a network is of type {given.dtype}, expected float64 or what it holds exactly")
    if given.dtype.kind in "iu" and given.size and max(-int(given.min()), int(given.max())) > 2**53:
        raise Unreadable("an array of a network holds whole numbers that are not float64 numbers")
    return given.astype(np.float64)


def _symmetric(q: Array) -> Array:
    """½(Q + Qᵀ), all that xᵀQx sees; raises :class:`Unreadable` where it is not an array of float64 numbers."""
    p = q.transpose(0, 2, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        total = q + p
        tail = total - q
        lost = (q - (total - tail)) + (p - tail)  # the rounding of a sum is itself a float (Knuth)
    if np.any(lost != 0) or np.any(2 * (0.5 * total) != total):
        raise Unreadable("the quadratic part rounds when made symmetric: store ½(Q + Qᵀ)")
    return 0.5 * total


def encode(array: NDArray[Any]) -> dict[str, Any]:
    """An array as JSON: dtype, shape and base64 of its little-endian bytes."""
    data = np.ascontiguousarray(array)
    data = data.astype(data.dtype.newbyteorder("<"), copy=False)
    return {"dtype": data.dtype.str, "shape": list(data.shape), "base64": base64.b64encode(data.tobytes()).decode()}


def decode(entry: Mapping[str, Any]) -> NDArray[Any]:
    """The inverse of :func:`encode`; only plain integer and float types."""
    if entry["dtype"] not in _PLAIN:
        raise Unreadable(f"an array of a certificate is of type {entry['dtype']!r}, expected one of {_PLAIN}")
    dtype = np.dtype(entry["dtype"])
    data = np.frombuffer(base64.b64decode(entry["base64"], validate=True), dtype=dtype)
    if dtype.kind == "f" and not (np.isfinite(data).all() and np.all(np.abs(data) <= LARGEST)):
        raise Unreadable("an array of a certificate holds NaN, infinite or huge numbers")
    shape = [int(s) for s in entry["shape"]]
    if min(shape, default=0) < 0:
        raise Unreadable(f"an array of a certificate has the shape {shape}, expected lengths of at least 0")
    return data.reshape(shape)


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
