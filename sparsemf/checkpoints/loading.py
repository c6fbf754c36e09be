"""From a file to networks: open, find the blocks, pick those asked for, read their tensors only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from sparsemf.checkpoints.blocks import Found, find_blocks
from sparsemf.checkpoints.files import FLOATS, Array, BadFile, TensorFile, coarsest
from sparsemf.checkpoints.formats import open_file
from sparsemf.checkpoints.frames import fold
from sparsemf.checkpoints.gates import find_activation, resolve
from sparsemf.checkpoints.inspection import BlockInfo, Inspection
from sparsemf.checkpoints.layouts import HALVES, Layout
from sparsemf.checkpoints.mapping import mapped_layout
from sparsemf.checkpoints.native import FORMAT_VERSION
from sparsemf.exceptions import InputError
from sparsemf.measures.network import Network, Provenance

_SHOWN = 8


def load(
    path: str | os.PathLike[str], block: str | None = None, activation: str | None = None, map: str | None = None
) -> Network:
    """The network of the one block of a file that matches.

    Raises :class:`~sparsemf.exceptions.InputError` when the file is no checkpoint, when no block or several match,
    when the activation is not known, and when the tensors are not finite floating-point numbers.  Nothing in the
    file is executed.  The provenance holds the file's base name and hash, the block, its floating-point type and,
    where there is one, the LayerNorm that feeds the block (``extra["layernorm"]``: gain, shift, name).

    Parameters
    ----------
    path : a file of any format of docs/checkpoints.md, or the index.json of a sharded one
    block : glob over the names of the blocks (see :func:`inspect`); needed when the file holds several
    activation : overrides what the file and the config.json beside it say
    map : ``"inner=a.weight,bias=a.bias,outer=b.weight,offset=b.bias"``, for names that are not recognised
    """
    with open_file(path) as file:
        layouts = _matching(file, block, map)
        if len(layouts) > 1:
            raise BadFile(
                file.path, f"expected one block, {len(layouts)} match: {_listed(layouts)}; choose one with --block"
            )
        return _network(file, layouts[0], activation, file.sha256(layouts[0].sources))


def load_blocks(
    path: str | os.PathLike[str], pattern: str | None = None, *, activation: str | None = None, map: str | None = None
) -> Iterator[Network]:
    """The networks of all blocks that match ``pattern`` (a glob; None is all), in order, one in memory at a time.

    That there is one, and the activation of each, is checked before this returns; arguments and errors as in
    :func:`load`.
    """
    file = open_file(path)
    try:
        layouts = _matching(file, pattern, map)
        for layout in layouts:
            resolve(file, layout, activation)
    except BaseException:
        file.close()
        raise
    return _networks(file, layouts, activation)


def inspect(
    path: str | os.PathLike[str], pattern: str | None = None, *, activation: str | None = None, map: str | None = None
) -> Inspection:
    """What a file holds and which blocks are found in it; reads every block once to see whether it would load.

    A block that would not load carries its ``problem``.  A readable file without any block is no error here, unless
    it uses the native names wrongly.  Raises :class:`~sparsemf.exceptions.InputError` for what is no checkpoint.
    """
    with open_file(path) as file:
        found = blocks_of(file)
        if map is not None or pattern is not None:
            layouts = _matching(file, pattern, map)
        elif found.native_problem is not None and not found.layouts:
            raise _nothing(file, found)
        else:
            layouts = list(found.layouts)
        return Inspection(
            source=file.path.name,
            format=file.format,
            size_bytes=file.path.stat().st_size,
            sha256=file.sha256(),
            metadata=dict(file.metadata),
            tensors=tuple(file.tensors.values()),
            blocks=tuple(_described(file, layout, activation) for layout in layouts),
            not_understood=tuple(dict.fromkeys((*found.remarks, *file.remarks))),
        )


def blocks_of(file: TensorFile) -> Found:
    """The blocks of a file: those that its own graph says, else those that the names of its tensors tell."""
    if file.layouts is not None:
        return Found(file.layouts, file.refused, None)
    found = find_blocks(file.tensors.values())
    return replace(found, remarks=(*found.remarks, *file.refused))


def _matching(file: TensorFile, pattern: str | None, map_spec: str | None) -> list[Layout]:
    """The layouts asked for, at least one."""
    if map_spec is not None:
        try:
            return [mapped_layout(map_spec, file.tensors)]
        except InputError as error:
            raise BadFile(file.path, str(error)) from None
    found = blocks_of(file)
    if not found.layouts:
        raise _nothing(file, found)
    layouts = [layout for layout in found.layouts if pattern is None or fnmatchcase(layout.name, pattern)]
    if not layouts:
        refused = next((r.reason for r in found.remarks if fnmatchcase(r.name, str(pattern))), None)
        why = f" ({refused})" if refused else ""
        raise BadFile(file.path, f"no block matches {pattern!r}{why}; expected one of: {_listed(list(found.layouts))}")
    return layouts


def _nothing(file: TensorFile, found: Found) -> BadFile:
    if found.native_problem is not None:
        return BadFile(file.path, found.native_problem)
    if found.remarks:
        first, *others = found.remarks
        more = f" (and {len(others)} more like it)" if others else ""
        return BadFile(file.path, f"expected a two-layer block, found none: {first.name}: {first.reason}{more}")
    shown = [f"{info.name} {info.shape}" for info in file.tensors.values()][:_SHOWN]
    rest = ", …" if len(file.tensors) > len(shown) else ""
    held = f"{len(file.tensors)} tensors ({', '.join(shown)}{rest})" if shown else "no tensors"
    return BadFile(file.path, f"expected a two-layer block, found {held}; name its tensors with --map inner=…,outer=…")


def _listed(layouts: list[Layout]) -> str:
    names = [layout.name for layout in layouts]
    return ", ".join(names[:_SHOWN]) + (f", … ({len(names)} in all)" if len(names) > _SHOWN else "")


def _networks(file: TensorFile, layouts: list[Layout], activation: str | None) -> Iterator[Network]:
    with file:
        for layout in layouts:
            yield _network(file, layout, activation, file.sha256(layout.sources))


def _network(file: TensorFile, layout: Layout, option: str | None, sha256: str) -> Network:
    activation = resolve(file, layout, option)
    values = _values(file, layout)
    extra: dict[str, object] = dict(layout.facts)
    if layout.gain is not None and layout.shift is not None:
        norm = {"gain": file.read(layout.gain), "shift": file.read(layout.shift)}
        for array in norm.values():
            array.flags.writeable = False
        extra["layernorm"] = {**norm, "name": layout.layernorm}
    if any(name in file.quantized for name in layout.tensors.values()):
        extra["dequantised"] = "(code - zero point)*scale in float64"
    provenance = Provenance(
        source=file.path.name, sha256=sha256, block=layout.name, precision=_precision(file, layout), extra=extra
    )
    scale = _scale(file, layout)
    try:
        return Network(**values, activation=activation, scale=scale, provenance=provenance)
    except InputError as error:
        raise BadFile(file.path, f"block {layout.name}: {error}") from None


def _values(file: TensorFile, layout: Layout) -> dict[str, Array]:
    """Role → numbers in the shapes of a network."""
    names = layout.tensors
    values = {role: file.read(name) for role, name in names.items() if not (layout.fused and role in HALVES.values())}
    if layout.fused:
        if layout.inner_transposed:
            values["inner"] = values["inner"].T
        for second, first in HALVES.items():
            if second in names:
                values[first], values[second] = values[second][: layout.width], values[second][layout.width :]
    if values["outer"].ndim == 1:
        values["outer"] = values["outer"][:, None]
    for role in transposed_roles(layout):
        if not (layout.fused and role in ("inner", "gate")):
            values[role] = values[role].T
    for role in ("bias", "gate_bias", "offset"):
        if role in values:  # a row or a column in some files
            values[role] = values[role].reshape(-1)
    return fold(layout, values, file.read)


def _scale(file: TensorFile, layout: Layout) -> float:
    """The output scale s: only files in the project's own format have one."""
    if not layout.native and layout.kind != "mapped":
        return 1.0
    version = file.metadata.get("format_version", str(FORMAT_VERSION))
    if version != str(FORMAT_VERSION):
        raise BadFile(file.path, f"expected format_version {FORMAT_VERSION}, got {version}; install a newer sparsemf")
    text = file.metadata.get("scale", "1")
    try:
        scale = float(text)
    except ValueError:
        scale = float("nan")
    if not np.isfinite(scale):
        raise BadFile(file.path, f"metadata scale: expected a finite number, got {text!r}; save it again")
    return scale


def transposed_roles(layout: Layout) -> tuple[str, ...]:
    marks = {
        "inner": layout.inner_transposed,
        "outer": layout.outer_transposed,
        "affine": layout.affine_transposed,
        "gate": layout.gate_transposed,
    }
    return tuple(role for role, transposed in marks.items() if transposed)


def _precision(file: TensorFile, layout: Layout) -> str:
    """The coarsest floating-point type among the block's tensors (of a type that is not read: its name)."""
    dtypes = [file.tensors[name].dtype for name in layout.tensors.values()]
    foreign = next((dtype for dtype in dtypes if dtype not in FLOATS), None)
    return foreign or coarsest(dtypes)


def _described(file: TensorFile, layout: Layout, option: str | None) -> BlockInfo:
    name, origin = find_activation(file, layout, option)
    problem = None
    try:
        if name is not None:
            name = _network(file, layout, option, "").activation.name
        else:  # the values are worth a look all the same
            _network(file, layout, "relu", "")
    except InputError as error:
        problem = str(error).removeprefix(f"{file.path.name}: ")
    return BlockInfo(
        name=layout.name,
        kind=f"gated {layout.kind}" if layout.gated else layout.kind,
        width=layout.width,
        d=layout.d,
        m=layout.m,
        tensors=layout.tensors,
        transposed=transposed_roles(layout),
        precision=_precision(file, layout),
        activation=name,
        activation_from=origin,
        layernorm=layout.layernorm,
        problem=problem,
        gated=layout.gated,
    )
