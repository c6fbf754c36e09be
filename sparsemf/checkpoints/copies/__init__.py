"""Copies of checkpoints with some tensors replaced, one format a file."""

from __future__ import annotations

from pathlib import Path

from sparsemf.checkpoints.copies.base import Changes, Copy, Encoded, Resized
from sparsemf.checkpoints.files import BadFile, TensorFile

__all__ = ["Changes", "Copy", "Encoded", "Resized", "copy_of"]


def copy_of(file: TensorFile, source: Path) -> Copy:
    """The writer for the format of an open checkpoint.  Raises an InputError for formats that are not written."""
    from sparsemf.checkpoints.copies.flax_copy import FlaxCopy
    from sparsemf.checkpoints.copies.keras_copy import KerasCopy
    from sparsemf.checkpoints.copies.npz_copy import NpzCopy
    from sparsemf.checkpoints.copies.onnx_copy import OnnxCopy
    from sparsemf.checkpoints.copies.safetensors_copy import SafetensorsCopy
    from sparsemf.checkpoints.copies.skops_copy import SkopsCopy
    from sparsemf.checkpoints.copies.torch_copy import TorchCopy

    known: dict[str, type[Copy]] = {
        "flax": FlaxCopy,
        "keras": KerasCopy,
        "npz": NpzCopy,
        "onnx": OnnxCopy,
        "safetensors": SafetensorsCopy,
        "sharded safetensors": SafetensorsCopy,
        "sharded torch": SafetensorsCopy,
        "sharded safetensors/torch": SafetensorsCopy,
        "skops": SkopsCopy,
        "torch": TorchCopy,
    }
    if file.format not in known:
        raise BadFile(
            source, f"expected one of {', '.join(known)} to write back into, got {file.format}; merge it first"
        )
    return known[file.format](file, source)
