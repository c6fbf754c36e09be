"""A copy of an ONNX model: initialisers replaced and, for another width, the shapes that the graph states.

External data stay where they are when the copy lies beside the model, and move into the copy when it lies
elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparsemf.checkpoints.copies.base import Changes, Copy, Resized
from sparsemf.checkpoints.layouts import Layout
from sparsemf.checkpoints.onnx_file import OnnxFile, _parsed
from sparsemf.exceptions import InputError

_CODES = {"float32": 1, "float16": 10, "float64": 11, "bfloat16": 16}
_LARGEST = (1 << 31) - 1
_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data", "external_data")
_EXTERNAL = 1


class OnnxCopy(Copy):
    """The graph stays as it is; only tensors and stated shapes change."""

    suffixes = (".onnx",)
    configured = False
    file: OnnxFile

    def refusal(self, layout: Layout) -> str | None:
        shared = sorted(set(layout.sources) & self.file.shared)
        if shared:
            return f"several nodes use {shared[0]}"
        if layout.name in self.file.leaks:
            return f"{self.file.leaks[layout.name]} uses the values between the layers"
        return None

    def write(self, path: Path, changes: Changes, resized: tuple[Resized, ...]) -> None:
        model = _parsed(self.source)
        graph = model.graph
        for tensor in _tensors(graph):
            if tensor[0] in changes:
                _replace(tensor[1], changes[tensor[0]].dtype, changes[tensor[0]].shape, changes.bytes(tensor[0]))
            elif tensor[1].data_location == _EXTERNAL and path.parent.resolve() != self.source.parent.resolve():
                name, proto = tensor
                _replace(proto, "", tuple(proto.dims), self.file._external(name, proto).tobytes())
        hidden = {value: block for block in resized for value in self.file.hidden.get(block.layout.name, ())}
        for info in (*graph.value_info, *graph.input, *graph.output):
            shape = info.type.tensor_type.shape
            if info.name in changes:
                for dimension, size in zip(shape.dim, changes[info.name].shape, strict=False):
                    dimension.dim_value = size
            elif info.name in hidden:
                axes = [dim for dim in shape.dim if dim.dim_value == hidden[info.name].layout.width]
                if axes:  # the last one, or the first where samples are columns
                    axes[-1].dim_value = hidden[info.name].width
        if model.ByteSize() > _LARGEST:
            raise InputError(
                f"{path.name}: expected a model below 2 GiB, got {model.ByteSize()} bytes; write it beside the model"
            )
        path.write_bytes(model.SerializeToString(deterministic=True))


def _tensors(graph: Any) -> list[tuple[str, Any]]:
    """(name, protobuf) of initialisers and Constant nodes."""
    found = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant" and len(node.output) == 1:
            found += [(node.output[0], a.t) for a in node.attribute if a.name == "value" and a.HasField("t")]
    return found


def _replace(proto: Any, dtype: str, shape: tuple[int, ...], data: bytes) -> None:
    for field in _FIELDS:
        proto.ClearField(field)
    proto.ClearField("data_location")
    if dtype:
        proto.data_type = _CODES[dtype]
    del proto.dims[:]
    proto.dims.extend(shape)
    proto.raw_data = data
