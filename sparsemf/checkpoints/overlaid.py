"""An open checkpoint with some of its tensors replaced: a copy as it will read, before it is written."""

from __future__ import annotations

from sparsemf.checkpoints.copies import Changes
from sparsemf.checkpoints.files import Array, TensorFile, TensorInfo, decode


class OverlaidFile(TensorFile):
    """``file`` with the tensors of ``changes`` in the place of its own; both stay their owner's to close."""

    def __init__(self, file: TensorFile, changes: Changes) -> None:
        self._file, self._changes = file, changes
        self.format, self.path, self.metadata = file.format, file.path, file.metadata
        self.quantized = file.quantized
        self.tensors = {
            **file.tensors,
            **{name: TensorInfo(name, changed.shape, changed.dtype) for name, changed in changes.items()},
        }

    def _values(self, name: str) -> Array:
        changed = self._changes.get(name)
        if changed is None:
            return self._file.read(name)
        return decode(self._changes.bytes(name), changed.dtype, changed.shape)
