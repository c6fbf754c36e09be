"""safetensors: the library checks the header, the tensors are memory-mapped one at a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from sparsemf.checkpoints.files import Array, BadFile, TensorFile, TensorInfo, decode

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
    "U16": "uint16",
    "U32": "uint32",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


class SafetensorsFile(TensorFile):
    """A single ``.safetensors`` file."""

    format = "safetensors"

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # refuses wrong lengths, overlaps, gaps and headers above 100 MB before it allocates anything
            with safe_open(path, framework="np") as checked:
                self.metadata = dict(checked.metadata() or {})
        except SafetensorError as error:
            reason = str(error).removeprefix("Error while deserializing header: ")
            raise BadFile(
                path, f"expected a whole safetensors file, got a broken one ({reason}); copy or save it again"
            ) from None
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
        header.pop("__metadata__", None)
        self._start = 8 + size
        self._offsets = {name: tuple(entry["data_offsets"]) for name, entry in header.items()}
        self.tensors = {
            name: TensorInfo(name, tuple(entry["shape"]), _dtype_name(entry["dtype"])) for name, entry in header.items()
        }

    def _values(self, name: str) -> Array:
        begin, end = self._offsets[name]
        info = self.tensors[name]
        if begin == end:
            return np.zeros(info.shape)
        raw = np.memmap(self.path, dtype=np.uint8, mode="r", offset=self._start + begin, shape=(end - begin,))
        return decode(raw, info.dtype, info.shape)


def _dtype_name(code: str) -> str:
    return _DTYPES.get(code) or code
