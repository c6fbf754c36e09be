"""ONNX: the graph says which layers are joined, and by which activation; nothing of it is ever run.

The protobuf is parsed without its external data; a tensor's numbers are decoded when a block needs them, from the
file or from the file beside it that the tensor names, which must lie in the model's folder.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from sparsemf.checkpoints.files import Array, BadFile, TensorFile, TensorInfo, decode
from sparsemf.checkpoints.onnx_chains import find_chains
from sparsemf.checkpoints.onnx_graph import Graph

# TensorProto.DataType → (name, bytes, field that holds the numbers when they are not raw)
_TYPES = {
    1: ("float32", 4, "float_data"),
    2: ("uint8", 1, "int32_data"),
    3: ("int8", 1, "int32_data"),
    4: ("uint16", 2, "int32_data"),
    5: ("int16", 2, "int32_data"),
    6: ("int32", 4, "int32_data"),
    7: ("int64", 8, "int64_data"),
    9: ("bool", 1, "int32_data"),
    10: ("float16", 2, "int32_data"),
    11: ("float64", 8, "double_data"),
    12: ("uint32", 4, "uint64_data"),
    16: ("bfloat16", 2, "int32_data"),
    17: ("float8_e4m3fn", 1, "int32_data"),
    19: ("float8_e5m2", 1, "int32_data"),
}
_AS_BITS = {"float16": "<u2", "bfloat16": "<u2", "float8_e4m3fn": "<u1", "float8_e5m2": "<u1"}
_EXTERNAL = 1


class OnnxFile(TensorFile):
    """An ONNX model.

    ``model`` is the parsed protobuf; ``hidden`` maps a block to the values between its layers, whose shapes carry
    the width; ``shared`` are initialisers that several nodes use, ``leaks`` maps a block to a node outside it that
    uses what lies between its layers.
    """

    format = "onnx"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = _parsed(path)
        self.protos = {tensor.name: tensor for tensor in self.model.graph.initializer if tensor.name}
        for node in self.model.graph.node:
            if node.op_type == "Constant" and len(node.output) == 1:
                for attribute in node.attribute:
                    if attribute.name == "value" and attribute.HasField("t"):
                        self.protos[node.output[0]] = attribute.t
        self.tensors = {name: self._info(name, proto) for name, proto in self.protos.items()}
        self.metadata = {entry.key: entry.value for entry in self.model.metadata_props if entry.key != "activation"}
        found = find_chains(Graph(self.model, self.tensors, self._scalar))
        self.tensors = {**self.tensors, **found.dequantised}
        self.quantized = found.quantized
        self.layouts, self.refused, self.remarks = found.layouts, found.refused, found.remarks
        self.hidden, self.shared, self.leaks = found.hidden, found.shared, found.leaks

    def _info(self, name: str, proto: Any) -> TensorInfo:
        shape = tuple(proto.dims)
        dtype, size, field = _TYPES.get(proto.data_type, (f"ONNX type {proto.data_type}", 0, ""))
        if any(n < 0 for n in shape):
            raise self._broken(f"tensor {name} has the shape {shape}")
        count = math.prod(shape)
        if proto.data_location != _EXTERNAL and size:
            stored = len(proto.raw_data) if proto.HasField("raw_data") else len(getattr(proto, field)) * size
            if stored != count * size:
                raise self._broken(f"tensor {name} of shape {shape} and {dtype} holds {stored} bytes")
        return TensorInfo(name, shape, dtype)

    def _values(self, name: str) -> Array:
        proto, info = self.protos[name], self.tensors[name]
        if proto.data_type not in _TYPES:
            raise BadFile(self.path, f"tensor {name}: expected numbers of 8 bits or more, got {info.dtype}")
        if proto.data_location == _EXTERNAL:
            return decode(self._external(name, proto), info.dtype, info.shape)
        if proto.HasField("raw_data"):
            return decode(proto.raw_data, info.dtype, info.shape)
        numbers = np.asarray(getattr(proto, _TYPES[proto.data_type][2]))
        if info.dtype in _AS_BITS:  # the bits of each number as an int32
            return decode(numbers.astype(_AS_BITS[info.dtype]).tobytes(), info.dtype, info.shape)
        return numbers.astype(np.float64).reshape(info.shape)

    def _external(self, name: str, proto: Any) -> np.ndarray:
        """The bytes of a tensor in a file beside the model, memory-mapped."""
        entries = {entry.key: entry.value for entry in proto.external_data}
        path = self.external_path(name, entries.get("location", ""))
        info = self.tensors[name]
        expected = math.prod(info.shape) * _TYPES[proto.data_type][1]
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", expected))
        except ValueError:
            raise self._broken(f"tensor {name}: an offset or length that is no number") from None
        if offset < 0 or length != expected or offset + length > path.stat().st_size:
            raise BadFile(
                self.path,
                f"tensor {name}: expected {expected} bytes at {offset} in {path.name}, which has "
                f"{path.stat().st_size}, the tensor claims {length}; copy both files again",
            )
        if length == 0:
            return np.zeros(0, dtype=np.uint8)
        return np.memmap(path, dtype=np.uint8, mode="r", offset=offset, shape=(length,))

    def external_path(self, name: str, location: str) -> Path:
        """The file that a tensor names, which must lie under the model's folder.

        A link is followed only to where the model itself may lie behind a link (the hub's cache keeps all files of
        a model in one folder of blobs).
        """
        parts = Path(location).parts
        outside = not parts or Path(location).is_absolute() or ".." in parts or "\0" in location
        target = self.path.parent / location if not outside else self.path
        allowed = (self.path.parent.resolve(), self.path.resolve().parent)
        if outside or not any(folder in target.resolve().parents for folder in allowed):
            raise BadFile(
                self.path, f"tensor {name}: expected its numbers in the model's folder, got {location!r}; never opened"
            )
        if not target.is_file():
            raise BadFile(
                self.path, f"tensor {name}: expected the file {location} beside the model, found none; download it too"
            )
        return target

    def _scalar(self, name: str) -> float | None:
        """The number of a tensor of one entry."""
        info = self.tensors.get(name)
        if info is None or math.prod(info.shape) != 1 or self.protos[name].data_location == _EXTERNAL:
            return None
        return float(self._values(name).reshape(())) if self.protos[name].data_type in _TYPES else None

    def _broken(self, what: str) -> BadFile:
        return BadFile(self.path, f"expected a whole ONNX model, got a broken one ({what}); copy or export it again")


def _parsed(path: Path) -> Any:
    try:
        import onnx
    except ImportError:
        message = "expected onnx to read ONNX models, it is not installed; pip install 'sparsemf[onnx]'"
        raise BadFile(path, message) from None
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf raises kinds of its own, by version
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise BadFile(
            path, f"expected a whole ONNX model, got a broken one ({first}); copy or export it again"
        ) from None
    if not model.HasField("graph") or not model.graph.node:
        raise BadFile(path, "expected an ONNX model, got a file without a graph; export the model again")
    return model
