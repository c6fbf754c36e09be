"""Keras: ``.keras`` archives, ``.weights.h5`` and the older ``.h5``.  The model is never built: it could hold
Lambda code.

A ``.keras`` file holds ``config.json`` (the layers and how they are joined) and ``model.weights.h5``, in which the
group of a layer keeps its variables under ``vars`` as 0 (kernel), 1 (bias) with the layer's name beside them.  An
older ``.h5`` has the config as an attribute and the variables by name.  A dataset becomes a tensor
``layer.kernel``, ``layer.bias``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sparsemf.checkpoints.archives import open_archive
from sparsemf.checkpoints.files import Array, BadFile, Remark, TensorFile, TensorInfo, decode
from sparsemf.checkpoints.hdf5 import broken, datasets, is_archive, library, source_of
from sparsemf.checkpoints.keras_graph import find_dense_pairs

_MAX_CONFIG = 1 << 26
STATE = ("optimizer", "optimizer_weights")


class KerasFile(TensorFile):
    """A Keras model or its weights.  ``paths``: tensor name → path of its dataset; ``config``: the model, or
    None."""

    format = "keras"

    def __init__(self, path: Path) -> None:
        self.path = path
        h5py = library(path)
        self._stream = source_of(path)
        try:
            try:
                self._file = h5py.File(self._stream, "r")
                found, remarks = datasets(path, self._file)
                self.config = self._config()
                self._datasets = self._named(found)
            except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, MemoryError) as error:
                raise broken(path, error) from None
            self.paths = {name: str(dataset.name).lstrip("/") for name, dataset in self._datasets.items()}
            self.tensors = {
                name: TensorInfo(name, tuple(dataset.shape), _dtype(dataset))
                for name, dataset in self._datasets.items()
            }
            state = [Remark(name, "state of the training run, not weights") for name in STATE if name in self._file]
            self.metadata, self.remarks = {}, (*remarks, *state)
            self.hidden: dict[str, tuple[str, ...]] = {}
            self.leaks: dict[str, str] = {}
            if self.config is not None:
                found = find_dense_pairs(self.config, self.tensors)
                self.layouts, self.refused, self.hidden, self.leaks = found
        except BaseException:
            self.close()
            raise

    def _config(self) -> dict[str, Any] | None:
        text: Any
        if is_archive(self.path):
            with open_archive(self.path) as archive:
                member = archive.getinfo("config.json")
                if member.file_size > _MAX_CONFIG:
                    raise BadFile(self.path, f"config.json claims {member.file_size} bytes; save the model again")
                try:
                    text = archive.read(member)
                except Exception as error:
                    raise broken(self.path, error) from None
        else:
            text = self._file.attrs.get("model_config")
        if text is None:
            return None
        try:
            content = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            raise BadFile(self.path, "expected a config of layers, got text that is not JSON; save it again") from None
        return content if isinstance(content, dict) else None

    def _named(self, found: dict[str, Any]) -> dict[str, Any]:
        named: dict[str, Any] = {}
        legacy = "model_weights" in self._file or "layer_names" in self._file.attrs
        for path, dataset in found.items():
            if path.split("/")[0] in STATE:
                continue
            name = _legacy_name(path) if legacy else self._name(path, dataset)
            named[path.replace("/", ".") if name in named else name] = dataset
        return named

    def _name(self, path: str, dataset: Any) -> str:
        """The names of the layers around a variable, outermost first, and what the variable is."""
        *modules, last = path.split("/")
        if modules and modules[-1] == "vars":
            modules.pop()
            siblings = self._file["/".join([*modules, "vars"])]
            last = _variable(last, dataset, siblings)
        labels = []
        for depth in range(1, len(modules) + 1):
            group = self._file["/".join(modules[:depth])]
            own = group.get("vars") if hasattr(group, "get") else None
            if own is not None:
                label = own.attrs.get("name", modules[depth - 1])
                labels.append(label if isinstance(label, str) else modules[depth - 1])
        return ".".join([*(labels or modules), last])

    def _values(self, name: str) -> Array:
        dataset, info = self._datasets[name], self.tensors[name]
        try:
            array = dataset[()]
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            raise broken(self.path, error) from None
        if info.dtype == "bfloat16":
            return decode(np.ascontiguousarray(array).view("<u2").tobytes(), "bfloat16", info.shape)
        return np.asarray(array, dtype=np.float64)

    def close(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            file.close()
        self._stream.close()


def _dtype(dataset: Any) -> str:
    """Keras writes bfloat16 as two opaque bytes and says so beside them."""
    kind = dataset.dtype
    if kind.itemsize == 2 and kind.kind == "V" and str(dataset.attrs.get("dtype", "")) == "bfloat16":
        return "bfloat16"
    return kind.newbyteorder("=").name


def _variable(index: str, dataset: Any, siblings: Any) -> str:
    """``vars/0`` and ``vars/1``: kernel and bias where the first is a matrix, gain and shift where both are
    vectors."""
    first = siblings.get("0")
    axes = 0 if first is None or not hasattr(first, "shape") else len(first.shape)
    if axes >= 2 and len(dataset.shape) in (1, axes):
        return {"0": "kernel", "1": "bias"}.get(index, index)
    if axes == 1 and len(siblings) == 2:
        return {"0": "gamma", "1": "beta"}.get(index, index)
    return index


def _legacy_name(path: str) -> str:
    parts = [part for part in path.split("/") if part != "model_weights"]
    layer = parts[0] if len(parts) < 3 or parts[-2] == parts[0] else f"{parts[0]}.{parts[-2]}"
    return f"{layer}.{parts[-1].partition(':')[0]}"
