"""What outside a checkpoint records the width of its blocks: ``config.json`` beside it, or the user's own
program."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsemf.checkpoints.activation import _config, _sections
from sparsemf.checkpoints.layouts import Layout

# names that transformers' configurations give the width of an MLP
_WIDTHS = (
    "intermediate_size",
    "ffn_dim",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "n_inner",
    "d_ff",
    "ffn_hidden_size",
    "ffn_hidden_dim",
    "dim_feedforward",
    "hidden_dim",
    "inner_dim",
    "moe_intermediate_size",
)


def advice(source: Path, blocks: Iterable[Layout], widths: Mapping[str, int]) -> tuple[str, ...]:
    """What must be changed beside a copy of ``source`` in which the blocks named in ``widths`` get these widths."""
    blocks = tuple(blocks)
    config = _config(source.parent / "config.json")
    lines: list[str] = []
    for layout in blocks:
        new = widths.get(layout.name, layout.width)
        if new == layout.width:
            continue
        alike = [other for other in blocks if (other.kind, other.width, other.d, other.m) == _sort(layout)]
        found = Counter(widths.get(other.name, other.width) for other in alike)
        key = _key(config, layout)
        if key is None:
            lines.append(
                f"the program that builds the model: width of {layout.name} {layout.width} -> {new}, "
                "where its code or configuration says it"
            )
        elif len(found) == 1:
            lines.append(f"config.json: {key} {_said(config, key)} -> {new} (all blocks must have the same)")
        else:
            listed = ", ".join(f"{width} ({count} of {len(alike)} blocks)" for width, count in sorted(found.items()))
            lines.append(
                f"config.json: {key} {_said(config, key)} is one number for all blocks and cannot say {listed}; give "
                "all blocks one width, or set the layers' sizes in the model's own code"
            )
    return tuple(dict.fromkeys(lines))


def _sort(layout: Layout) -> tuple[str, int, int, int]:
    return layout.kind, layout.width, layout.d, layout.m


def _key(config: Mapping[str, Any], layout: Layout) -> str | None:
    """The dotted name of the entry that holds the width; GPT-2 leaves ``n_inner`` out when it is 4 d."""
    for section, label in _sections(config, layout.name):
        for key in _WIDTHS:
            if type(section.get(key)) is int and section[key] == layout.width:
                return f"{label}{key}"
        if section.get("n_inner") is None and ("n_embd" in section or "n_inner" in section):
            return f"{label}n_inner"
    return None


def _said(config: Mapping[str, Any], key: str) -> str:
    parts: Sequence[str] = key.split(".")
    value: Any = config
    for part in parts:
        value = value.get(part) if isinstance(value, Mapping) else None
    return json.dumps(value)
