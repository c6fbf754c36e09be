"""``--map inner=a.weight,bias=a.bias,outer=b.weight,offset=b.bias``: the user names the tensors of the block.

The native shapes are inner (N, d), outer (N, m), affine (m, d).  ``:T`` after a name says that the file holds the
transpose, ``:N`` that it does not; without either the shapes decide, and when they do not, that is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from itertools import product

from sparsemf.checkpoints.files import TensorInfo
from sparsemf.checkpoints.layouts import Layout
from sparsemf.exceptions import InputError

ROLES = ("inner", "outer", "bias", "offset", "affine")
_MATRICES = ("inner", "outer", "affine")
MAPPED = "map"


def mapped_layout(spec: str, tensors: Mapping[str, TensorInfo]) -> Layout:
    """The layout that ``spec`` describes.  Raises :class:`InputError`."""
    names, marks = _parse(spec, tensors)
    shapes = {role: tensors[name].shape for role, name in names.items()}
    for role, shape in shapes.items():
        if len(shape) != (2 if role in _MATRICES else 1) and not (role == "outer" and len(shape) == 1):
            kind = "a matrix" if role in _MATRICES else "a vector"
            raise InputError(f"--map {role}={names[role]}: expected {kind}, got shape {shape}")
    choices = [_ways(role, shapes.get(role), marks.get(role)) for role in _MATRICES]
    fitting = [ways for ways in product(*choices) if _consistent(shapes, *ways)]
    listed = ", ".join(f"{role} {names[role]} {shapes[role]}" for role in names)
    if not fitting:
        raise InputError(
            f"--map: expected inner (N, d), outer (N, m), bias (N,), offset (m,), affine (m, d), up to transposes, "
            f"got {listed}; check the names"
        )
    if len(fitting) > 1:
        raise InputError(f"--map: several ways fit: {listed}; add :T (transposed) or :N (not) to the names")
    inner_transposed, outer_transposed, affine_transposed = fitting[0]
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
    return names, marks


def _ways(role: str, shape: tuple[int, ...] | None, mark: bool | None) -> tuple[bool, ...]:
    if mark is not None:
        return (mark,)
    return (False,) if shape is None or len(shape) == 1 else (False, True)


def _shape(shape: tuple[int, ...], transposed: bool) -> tuple[int, int]:
    rows, columns = shape if len(shape) == 2 else (shape[0], 1)
    return (columns, rows) if transposed else (rows, columns)


def _consistent(shapes: Mapping[str, tuple[int, ...]], inner: bool, outer: bool, affine: bool) -> bool:
    width, d = _shape(shapes["inner"], inner)
    rows, m = _shape(shapes["outer"], outer)
    return (
        width == rows >= 1
        and min(d, m) >= 1
        and shapes.get("bias", (width,)) == (width,)
        and shapes.get("offset", (m,)) == (m,)
        and ("affine" not in shapes or _shape(shapes["affine"], affine) == (m, d))
    )
