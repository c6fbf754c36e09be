"""Find the two-layer blocks of a file: native names, gated blocks, known names, numbered layers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain

from sparsemf.checkpoints.files import Remark, TensorInfo
from sparsemf.checkpoints.layouts import ROLES, Layout, Misfit
from sparsemf.checkpoints.named import find_gated, find_named
from sparsemf.checkpoints.native import find_native
from sparsemf.checkpoints.sequences import find_sequences

# what DDP, torch.compile, FSDP and activation checkpointing put between the names
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
_TENSOR_FIELDS = (*ROLES, "gain", "shift")


@dataclass(frozen=True)
class Found:
    """The blocks of a file, what else looked like one, and what is wrong with a file in native names."""

    layouts: tuple[Layout, ...]
    remarks: tuple[Remark, ...]
    native_problem: str | None


def find_blocks(tensors: Iterable[TensorInfo]) -> Found:
    """All two-layer blocks, in natural order of their names.  A tensor belongs to the first rule that claims it."""
    tensors = tuple(tensors)
    named = {_clean(info.name): info for info in tensors}
    if len(named) != len(tensors):
        named = {info.name: info for info in tensors}
    actual = _as_modules(named)
    shapes = {name: entry.shape for name, entry in actual.items()}
    layouts: dict[str, Layout] = {}
    remarks: list[Remark] = []
    native_problem = None
    # layers of a deep sequence are shared by neighbouring blocks, so only earlier rules exclude
    claimed: set[str] = set()
    adapted = {name.partition(".lora_")[0] for name in named if ".lora_" in name}
    for rule in (find_native, find_gated, find_named, find_sequences):
        before = frozenset(claimed)
        for name, result, used in rule(shapes):
            if used & before:
                continue
            claimed |= used
            if changed := sorted({member.rpartition(".")[0] for member in used} & adapted):
                result = Misfit(f"{changed[0]} has LoRA factors beside its weight; merge them and save it again")
            if isinstance(result, Misfit):
                remarks.append(Remark(name, result.reason))
                if rule is find_native:
                    native_problem = native_problem or result.reason
                continue
            layouts[_distinct(name, layouts)] = _with_actual_names(result, _distinct(name, layouts), actual)
    ordered = sorted(layouts.values(), key=lambda layout: natural_order(layout.name))
    return Found(tuple(ordered), tuple(remarks), native_problem)


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sorting key by which layer 10 comes after layer 9."""
    parts = chain.from_iterable((text, number) for text, number in re.findall(r"(\D*)(\d*)", name))
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


def _clean(name: str) -> str:
    components = [part for part in name.split(".") if part not in _WRAPPERS]
    while len(components) > 1 and components[0] == "module":
        components.pop(0)
    return ".".join(components)


@dataclass(frozen=True)
class _Entry:
    """A tensor under the name and in the shape that torch's module of the same kind would give it."""

    name: str
    shape: tuple[int, ...]
    flipped: bool = False


def _as_modules(named: dict[str, TensorInfo]) -> dict[str, _Entry]:
    """Keras and Flax call weights ``kernel`` and hold them (in, out), the transpose of torch's ``weight``; the
    gain of a norm is ``scale`` or ``gamma``, its shift ``bias`` or ``beta``."""
    found: dict[str, _Entry] = {}
    for name, info in named.items():
        stem, _, last = name.rpartition(".")
        weight = f"{stem}.weight"
        if last == "kernel" and stem and len(info.shape) == 2 and weight not in named:
            found[weight] = _Entry(info.name, info.shape[::-1], flipped=True)
        elif last == "scale" and stem and len(info.shape) == 1 and not {weight, f"{stem}.kernel"} & named.keys():
            found[weight] = _Entry(info.name, info.shape)
        else:
            found[name] = _Entry(info.name, info.shape)
    return found


def _distinct(name: str, taken: dict[str, Layout]) -> str:
    """``name``, or ``name~2``, … when two rules found blocks in one module."""
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}~{count}"
    return candidate


def _with_actual_names(layout: Layout, name: str, actual: dict[str, _Entry]) -> Layout:
    names = {field: getattr(layout, field) for field in _TENSOR_FIELDS}
    flips = {
        f"{role}_transposed": getattr(layout, f"{role}_transposed") != actual[names[role]].flipped
        for role in ("inner", "outer", "gate")
        if names[role] is not None
    }
    return replace(layout, name=name, **flips, **{f: actual[n].name for f, n in names.items() if n is not None})
