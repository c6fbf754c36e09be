"""``--map inner=a.weight,bias=a.bias,outer=b.weight,offset=b.bias``: the user names the tensors of the block.

The native shapes are inner and gate (N, d), outer (N, m), affine (m, d), quadratic (m, d, d); ``gate=`` makes the
block gated.  ``:T`` after a name says that the file holds the transpose, ``:N`` that it does not; without either
the shapes decide, and when they do not, that is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from itertools import product

from sparsemf.checkpoints.files import TensorInfo
from sparsemf.checkpoints.layouts import Layout
from sparsemf.exceptions import InputError

_MATRICES = ("inner", "outer", "affine", "gate")
_KINDS = {1: "a vector", 2: "a matrix", 3: "one matrix per output, (m, d, d)"}
ROLES = {
    "inner": "(N, d)",
    "outer": "(N, m)",
    "bias": "(N,)",
    "offset": "(m,)",
    "affine": "(m, d)",
    "quadratic": "(m, d, d)",
    "gate": "(N, d)",
    "gate_bias": "(N,)",
}
MAPPED = "map"


def mapped_layout(spec: str, tensors: Mapping[str, TensorInfo]) -> Layout:
    """The layout that ``spec`` describes.  Raises :class:`InputError`."""
    names, marks = _parse(spec, tensors)
    shapes = {role: tensors[name].shape for role, name in names.items()}
    for role, shape in shapes.items():
        axes = 3 if role == "quadratic" else 2 if role in _MATRICES else 1
        if len(shape) != axes and not (role == "outer" and len(shape) == 1):
            raise InputError(f"--map {role}={names[role]}: expected {_KINDS[axes]}, got shape {shape}")
    choices = [_ways(role, shapes.get(role), marks.get(role)) for role in _MATRICES]
    fitting = [ways for ways in product(*choices) if _consistent(shapes, *ways)]
    listed = ", ".join(f"{role} {names[role]} {shapes[role]}" for role in names)
    if not fitting:
        raise InputError(
            f"--map: expected {', '.join(f'{role} {ROLES[role]}' for role in names)}, up to transposes, "
            f"got {listed}; check the names"
        )
    if len(fitting) > 1:
        raise InputError(f"--map: several ways fit: {listed}; add :T (transposed) or :N (not) to the names")
    inner_transposed, outer_transposed, affine_transposed, gate_transposed = fitting[0]
    width, d = _shape(shapes["inner"], inner_transposed)
    m = _shape(shapes["outer"], outer_transposed)[1]
    return Layout(
        MAPPED,
        "mapped",
        names["inner"],
        names["outer"],
        inner_transposed,
        outer_transposed,
        width,
        d,
        m,
        names.get("bias"),
        names.get("offset"),
        names.get("affine"),
        affine_transposed,
        quadratic=names.get("quadratic"),
        gate=names.get("gate"),
        gate_bias=names.get("gate_bias"),
        gate_transposed=gate_transposed,
    )


def _parse(spec: str, tensors: Mapping[str, TensorInfo]) -> tuple[dict[str, str], dict[str, bool]]:
    names: dict[str, str] = {}
    marks: dict[str, bool] = {}
    for entry in filter(None, (part.strip() for part in spec.split(","))):
        role, equals, name = (part.strip() for part in entry.partition("="))
        if not equals or role not in ROLES or role in names:
            raise InputError(f"--map: expected role=tensor with each of {', '.join(ROLES)} at most once, got {entry!r}")
        if name not in tensors and name[-2:] in (":T", ":N"):
            marks[role] = name.endswith(":T")
            name = name[:-2]
        if name not in tensors:
            close = difflib.get_close_matches(name, tensors, n=3) or sorted(tensors)[:5]
            raise InputError(f"--map {role}: no tensor {name!r} in the file; there are {', '.join(close)}, …")
        names[role] = name
    for role in ("inner", "outer"):
        if role not in names:
            raise InputError(f"--map: expected at least inner=… and outer=…, got {spec!r}")
    if "gate_bias" in names and "gate" not in names:
        raise InputError("--map gate_bias: expected gate=… with it, got none; name both, or neither")
    return names, marks


def _ways(role: str, shape: tuple[int, ...] | None, mark: bool | None) -> tuple[bool, ...]:
    if mark is not None:
        return (mark,)
    return (False,) if shape is None or len(shape) == 1 else (False, True)


def _shape(shape: tuple[int, ...], transposed: bool) -> tuple[int, int]:
    rows, columns = shape if len(shape) == 2 else (shape[0], 1)
    return (columns, rows) if transposed else (rows, columns)


def _consistent(shapes: Mapping[str, tuple[int, ...]], inner: bool, outer: bool, affine: bool, gate: bool) -> bool:
    width, d = _shape(shapes["inner"], inner)
    rows, m = _shape(shapes["outer"], outer)
    return (
        width == rows >= 1
        and min(d, m) >= 1
        and shapes.get("bias", (width,)) == (width,)
        and shapes.get("offset", (m,)) == (m,)
        and ("affine" not in shapes or _shape(shapes["affine"], affine) == (m, d))
        and ("gate" not in shapes or _shape(shapes["gate"], gate) == (width, d))
        and shapes.get("gate_bias", (width,)) == (width,)
        and shapes.get("quadratic", (m, d, d)) == (m, d, d)
    )
