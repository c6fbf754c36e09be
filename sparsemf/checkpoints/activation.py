"""Which activation a block has: --activation, else the file's metadata, else the config.json beside the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsemf.activations import Activation, get
from sparsemf.checkpoints.files import BadFile, TensorFile
from sparsemf.checkpoints.layouts import Layout

_KEYS = (
    "hidden_act",
    "activation_function",
    "hidden_activation",
    "feed_forward_proj",
    "dense_act_fn",
    "ffn_activation",
    "mlp_activation",
    "act_fn",
    "activation",
)
# spellings of transformers that the registry does not know
_SPELLINGS = {"gelu_python": "gelu", "gelu_accurate": "gelu_tanh", "gelu_python_tanh": "gelu_tanh"}
_MAX_CONFIG = 1 << 24


def find_activation(file: TensorFile, layout: Layout, option: str | None) -> tuple[str | None, str]:
    """(name, where it comes from); the name is None when nothing says it.  The name is not checked here."""
    if option is not None:
        return option, "--activation"
    if layout.activation is not None:
        return layout.activation, "the file's own structure"
    if "activation" in file.metadata:
        return file.metadata["activation"], "metadata"
    if layout.native:
        return None, "unknown"
    config = _config(file.path.parent / "config.json")
    for section, label in _sections(config, layout.name):
        for key in _KEYS:
            if isinstance(section.get(key), str):
                name = section[key].strip().lower()
                return _SPELLINGS.get(name, name), f"config.json {label}{key}"
    return None, "unknown"


def resolve(file: TensorFile, layout: Layout, option: str | None) -> Activation:
    """The activation itself.  Raises an InputError when it is unknown, not stated, or part of a gated block."""
    name, origin = find_activation(file, layout, option)
    if name is None:
        where = "metadata activation" if layout.native else "metadata or a config.json beside the file"
        raise BadFile(
            file.path,
            f"block {layout.name}: expected {where} to say the activation, found nothing; pass --activation "
            "(relu, tanh, gelu, …)",
        )
    if name.startswith("gated-"):
        raise BadFile(file.path, f"block {layout.name}: {origin} says {name}: gated blocks are not supported yet")
    try:
        return get(name)
    except ValueError as error:
        mend = "" if origin == "--activation" else "; pass --activation if the file is wrong"
        raise BadFile(file.path, f"block {layout.name}: {error} (from {origin}){mend}") from None


def _config(path: Path) -> Mapping[str, Any]:
    """The config beside a checkpoint; one that cannot be read says nothing."""
    try:
        if path.stat().st_size > _MAX_CONFIG:
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _sections(config: Mapping[str, Any], block: str) -> list[tuple[Mapping[str, Any], str]]:
    """The parts of a config that may speak of the block, most specific first (CLIP has two towers)."""
    named = [part for part in ("text", "vision", "audio") if part in block]
    sections = [(config.get(f"{part}_config"), f"{part}_config.") for part in named or ["text"]]
    ordered = [*sections, (config, "")] if named else [(config, ""), *sections]
    return [(section, label) for section, label in ordered if isinstance(section, dict)]
