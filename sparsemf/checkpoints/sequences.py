"""Numbered layers: ``0.weight/2.weight`` of an nn.Sequential, ``fc1/fc2``, ``linear1/linear2``, ``w1/w2``, ….

Every consecutive pair of linear layers with an activation between them is a two-layer block (from the input of the
first to the output of the second, before the next activation).  What says that there is *only* an activation
between: the shapes chain; no layer with tensors of its own (a norm, a convolution, a PReLU) has a number between;
and in an nn.Sequential, where layers that stand next to each other have consecutive numbers and an activation takes
a number too, the numbers differ by two or more - unless all of them are consecutive, which is a ModuleList whose
activations are applied in ``forward``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from sparsemf.checkpoints.layouts import Layout, Misfit, Pair, Shapes, fit
from sparsemf.checkpoints.named import find_norm, module_pair
from sparsemf.checkpoints.native import UNNAMED

_NUMBERED = re.compile(r"^(?P<head>(?:.*\.)?)(?P<base>[^.]*?)(?P<index>\d+)$")
_NUMBERED_COMPONENT = re.compile(r"^(.*?)(\d+)$")
_BARE_WEIGHT = re.compile(r"^(w|W|weight|weights|kernel)_?$")
# layers that are counted class by class, and how layers of other classes with tensors are called there
_BY_CLASS = ("Dense_", "dense_")
_OTHER_LAYER = re.compile(
    r"^([A-Z]\w*_\d+|\w*(norm|conv|attention|embedding|lstm|gru|prelu|p_re_lu)\w*)$", re.IGNORECASE
)
_BATCH_NORM = ("bn", "batchnorm", "batch_norm", "norm", "ln", "layernorm", "layer_norm")


def find_sequences(shapes: Shapes) -> Iterator[tuple[str, Layout | Misfit, set[str]]]:
    """(block name, layout or misfit, tensors used) for every consecutive pair of numbered layers."""
    groups: dict[tuple[str, str, bool], dict[int, str]] = defaultdict(dict)
    for name, shape in shapes.items():
        if len(shape) != 2:
            continue
        stem = name.removesuffix(".weight")
        bare = stem == name
        match = _NUMBERED.match(stem)
        if match and (not bare or _BARE_WEIGHT.match(match["base"])):
            groups[match["head"], match["base"], bare][int(match["index"])] = stem
    for (head, base, bare), layers in groups.items():  # Keras counts dense, dense_1, dense_2
        first = f"{head}{base[:-1]}"
        if not bare and base.endswith("_") and 0 not in layers and len(shapes.get(f"{first}.weight", ())) == 2:
            layers[0] = first
    occupied = _occupied(shapes)
    for (head, base, bare), layers in sorted(groups.items()):
        yield from _pairs_of(head, base, bare, layers, occupied[head, base], shapes)


def _pairs_of(
    head: str, base: str, bare: bool, layers: dict[int, str], occupied: set[int], shapes: Shapes
) -> Iterator[tuple[str, Layout | Misfit, set[str]]]:
    indices = sorted(layers)
    pairs = list(pairwise(indices))
    unordered = _unordered(head, base, shapes)
    is_list = base != "" or all(j - i == 1 for i, j in pairs)
    for i, j in pairs:
        label = f"{head}{base}{i}-{base}{j}"
        name = (head.removesuffix(".") or UNNAMED) if len(pairs) == 1 else label
        pair = _bare_pair(head, base, i, j, shapes) if bare else module_pair(layers[i], layers[j], shapes)
        used = {member for member in (pair.first, pair.second, pair.bias, pair.offset) if member}
        reason = unordered or _between(head, base, i, j, is_list, occupied, shapes)
        if reason:
            yield label, Misfit(reason), set()
            continue
        layout = fit(name, "layers", pair, shapes, None if bare else "linear")
        if isinstance(layout, Layout):
            layout = replace(layout, **_feeding_norm(head, base, i, layout, shapes))
        yield name, layout, used


def _occupied(shapes: Shapes) -> dict[tuple[str, str], set[int]]:
    """(head, base) → the numbers under which there is any tensor, at whatever depth."""
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for name in shapes:
        head = ""
        for component in name.split("."):
            if match := _NUMBERED_COMPONENT.match(component):
                found[head, match[1]].add(int(match[2]))
            head += component + "."
    return found


def _unordered(head: str, base: str, shapes: Shapes) -> str | None:
    """Flax and Keras count the layers of each class apart: what stands between Dense_0 and Dense_1 is then
    unknown."""
    if base not in _BY_CLASS:
        return None
    siblings = {name.removeprefix(head).split(".")[0] for name in shapes if name.startswith(head)}
    others = sorted(s for s in siblings if _OTHER_LAYER.match(s) and not s.startswith(base[:-1]))
    if not others:
        return None
    return f"nothing says whether {head}{others[0]} stands between the layers; name the tensors with --map"


def _between(head: str, base: str, i: int, j: int, is_list: bool, occupied: set[int], shapes: Shapes) -> str | None:
    """Why layers i and j are not joined by an activation alone, or None."""
    inside = sorted(k for k in occupied if i < k < j)
    if inside:
        return f"{head}{base}{inside[0]}, which has tensors of its own, stands between layers {i} and {j}"
    if not is_list and j - i == 1:
        return f"layers {head}{i} and {head}{j} follow each other without an activation"
    if base:
        for norm in _BATCH_NORM:
            if f"{head}{norm}{i}.running_mean" in shapes:
                return f"the batch norm {head}{norm}{i} stands between layers {i} and {j}"
    return None


def _bare_pair(head: str, base: str, i: int, j: int, shapes: Shapes) -> Pair:
    """W1, b1, W2, b2 and their spellings."""

    def bias(index: int) -> str | None:
        tail = "_" if base.endswith("_") else ""
        names = (f"{head}{letter}{tail}{index}" for letter in ("b", "B", "bias", "biases"))
        return next((name for name in names if name in shapes), None)

    return Pair(f"{head}{base}{i}", f"{head}{base}{j}", bias(i), bias(j))


def _feeding_norm(head: str, base: str, i: int, layout: Layout, shapes: Shapes) -> dict[str, str]:
    d = (layout.d,)
    if base == "":  # the layer just before in the same sequence
        gain, shift = f"{head}{i - 1}.weight", f"{head}{i - 1}.bias"
        plain = f"{head}{i - 1}.running_mean" not in shapes
        return {"gain": gain, "shift": shift} if plain and shapes.get(gain) == d == shapes.get(shift) else {}
    if head.endswith("ffn."):  # DistilBERT
        around = head.removesuffix("ffn.")
        gain, shift = f"{around}sa_layer_norm.weight", f"{around}sa_layer_norm.bias"
        return {"gain": gain, "shift": shift} if shapes.get(gain) == d == shapes.get(shift) else {}
    return find_norm(head, "mlp", layout.d, shapes) if head.endswith("mlp.") else {}
