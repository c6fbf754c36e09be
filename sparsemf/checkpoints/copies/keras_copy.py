"""A copy of a Keras file: datasets replaced and, for another width, ``units`` and the shapes that the config
states."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from sparsemf.checkpoints.copies.base import CHUNK, Changes, Copy, Resized
from sparsemf.checkpoints.copies.npz_copy import rewrite_archive
from sparsemf.checkpoints.hdf5 import WEIGHTS, is_archive, library, source_of
from sparsemf.checkpoints.keras_file import STATE, KerasFile
from sparsemf.checkpoints.layouts import Layout


class KerasCopy(Copy):
    """The optimiser's state has the shapes of the weights, so a copy with another width goes without it."""

    suffixes = (".keras", ".h5", ".hdf5")
    file: KerasFile

    @property
    def configured(self) -> bool:  # type: ignore[override]
        return self.file.config is None

    def refusal(self, layout: Layout) -> str | None:
        leak = self.file.leaks.get(layout.name)
        return None if leak is None else f"{leak} uses the values between the layers"

    def advice(self, resized: tuple[Resized, ...]) -> tuple[str, ...]:
        state = [remark.name for remark in self.file.remarks if "training run" in remark.reason]
        if not state:
            return ()
        return ("the optimiser's state had the old width and is left out: compile the model before training goes on",)

    def write(self, path: Path, changes: Changes, resized: tuple[Resized, ...]) -> None:
        zipped = is_archive(self.source)
        config = None
        if resized and self.file.config is not None:
            config = json.loads(json.dumps(self.file.config))
            for block in resized:
                _set_width(config, self.file.hidden[block.layout.name], block.width)
            config.pop("compile_config", None)
        with tempfile.TemporaryFile() as spool:
            with source_of(self.source) as source:
                shutil.copyfileobj(source, spool, CHUNK)
            self._edit(spool, changes, bool(resized), None if zipped else config)
            spool.seek(0)
            if not zipped:
                with path.open("wb") as out:
                    shutil.copyfileobj(spool, out, CHUNK)
                return
            replaced = {WEIGHTS: spool.read()}
        if config is not None:
            replaced["config.json"] = json.dumps(config).encode()
        rewrite_archive(self.source, path, replaced)

    def _edit(self, spool: IO[bytes], changes: Changes, resized: bool, config: dict[str, Any] | None) -> None:
        with library(self.source).File(spool, "r+") as file:
            for name in changes:
                place = self.file.paths[name]
                array: Any = changes.array(name)
                old = file[place]
                if changes[name].dtype == "bfloat16":
                    array = np.ascontiguousarray(array).view(old.dtype)
                if old.shape == array.shape:
                    old[...] = array
                    continue
                attributes = dict(old.attrs)
                del file[place]
                file.create_dataset(place, data=array, dtype=old.dtype).attrs.update(attributes)
            if resized:
                for name in STATE:
                    if name in file:
                        del file[name]
            if config is not None:
                file.attrs["model_config"] = json.dumps(config)
                if "training_config" in file.attrs:
                    del file.attrs["training_config"]


def _set_width(config: dict[str, Any], hidden: tuple[str, ...], width: int) -> None:
    """``units`` of the first layer, and every stated shape of its output; ``hidden``: that layer and those without
    weights after it, then the layer that reads them."""
    first, *between, second = hidden

    def visit(model: dict[str, Any], prefix: str) -> None:
        options = model.get("config")
        layers = options.get("layers", []) if isinstance(options, dict) else options
        for layer in layers or []:
            if not isinstance(layer, dict) or not isinstance(layer.get("config"), (dict, list)):
                continue
            own = layer["config"] if isinstance(layer["config"], dict) else {}
            name = f"{prefix}{own.get('name', layer.get('name', ''))}"
            if name == first:
                own["units"] = width
            if name == second or name in between:
                _last(layer.get("build_config"), "input_shape", width)
            tensors(layer.get("inbound_nodes"), prefix)
            visit(layer, f"{name}.")

    def tensors(item: Any, prefix: str) -> None:
        if isinstance(item, dict):
            inner = item.get("config")
            history = inner.get("keras_history") if isinstance(inner, dict) else None
            if history and f"{prefix}{history[0]}" in (first, *between):
                _last(inner, "shape", width)
            for child in item.values():
                tensors(child, prefix)
        elif isinstance(item, list):
            for child in item:
                tensors(child, prefix)

    visit(config, "")


def _last(options: Any, key: str, width: int) -> None:
    shape = options.get(key) if isinstance(options, dict) else None
    if isinstance(shape, list) and shape and isinstance(shape[-1], int):
        shape[-1] = width
