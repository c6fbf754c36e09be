"""A copy as one safetensors file: of a safetensors file, or of all shards of an index."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsemf.checkpoints.copies.base import CHUNK, Changes, Copy, Resized
from sparsemf.checkpoints.files import BadFile, TensorFile
from sparsemf.checkpoints.formats import open_file

_CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_TORCH_CODES = _CODES | {"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}
_ALIGNMENT = 8


class SafetensorsCopy(Copy):
    """Tensors in the order of the file, byte for byte."""

    suffixes = (".safetensors",)

    def write(self, path: Path, changes: Changes, resized: tuple[Resized, ...]) -> None:
        metadata, sources = _raw_tensors(self.file, self.source)
        header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
        position = 0
        for name in [*sources, *(name for name in changes if name not in sources)]:
            changed = changes.get(name)
            if changed is not None:
                code, shape, size = _CODES[changed.dtype], changed.shape, changed.size
            else:
                code, shape, size = sources[name].code, sources[name].shape, sources[name].size
            header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [position, position + size]}
            position += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        with path.open("wb") as out:
            out.write(struct.pack("<Q", len(text)))
            out.write(text)
            for name in header:
                if name in changes:
                    out.write(changes.bytes(name))
                elif name != "__metadata__":
                    for chunk in sources[name].chunks():
                        out.write(chunk)


@dataclass(frozen=True)
class _Raw:
    """The bytes of an unchanged tensor: a range of a file, or a torch tensor."""

    code: str
    shape: tuple[int, ...]
    size: int
    path: Path | None = None
    start: int = 0
    tensor: Any = None

    def chunks(self) -> Iterator[bytes]:
        if self.path is None:
            import torch

            yield self.tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            return
        with self.path.open("rb") as stream:
            stream.seek(self.start)
            left = self.size
            while left:
                chunk = stream.read(min(left, CHUNK))
                if not chunk:
                    raise BadFile(self.path, "expected a whole safetensors file, it was cut while it was read")
                left -= len(chunk)
                yield chunk


def _raw_tensors(file: TensorFile, source: Path) -> tuple[dict[str, str], dict[str, _Raw]]:
    """Metadata and every tensor of a safetensors file or of all the shards of an index, in their order."""
    if file.format == "safetensors":
        return _of_safetensors(source)
    from sparsemf.checkpoints.sharded_file import _weight_map

    weight_map = _weight_map(source)
    metadata: dict[str, str] = {}
    found: dict[str, _Raw] = {}
    for shard in sorted(set(weight_map.values())):
        with open_file(source.parent / shard) as opened:
            one, tensors = _of_safetensors(opened.path) if opened.format == "safetensors" else ({}, _of_torch(opened))
        metadata |= one
        found |= {name: raw for name, raw in tensors.items() if weight_map.get(name) == shard}
    return metadata, found


def _of_safetensors(path: Path) -> tuple[dict[str, str], dict[str, _Raw]]:
    """The header was checked when the file was opened."""
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    metadata = header.pop("__metadata__", None) or {}
    ordered = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    return metadata, {
        name: _Raw(
            entry["dtype"],
            tuple(entry["shape"]),
            entry["data_offsets"][1] - entry["data_offsets"][0],
            path,
            8 + size + entry["data_offsets"][0],
        )
        for name, entry in ordered
    }


def _of_torch(file: TensorFile) -> dict[str, _Raw]:
    found: dict[str, _Raw] = {}
    for name, tensor in file._tensors.items():  # type: ignore[attr-defined]
        code = _TORCH_CODES.get(str(tensor.dtype).removeprefix("torch."))
        if code is None:
            raise BadFile(file.path, f"tensor {name}: {tensor.dtype} has no place in safetensors; convert it first")
        found[name] = _Raw(code, tuple(tensor.shape), tensor.numel() * tensor.element_size(), tensor=tensor)
    return found
