"""Write changed blocks back into a copy of the file they came from, in its own format, names, layout and types.

Every tensor that is not replaced is copied byte for byte (in an HDF5 file: number for number); the copy appears
whole or not at all.  A sharded checkpoint becomes one safetensors file.  A block may get another width: its tensors
then have other shapes, what the file itself states of the width follows, and :attr:`WriteBack.advice` says what
outside it must.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsemf.atomic import replacing
from sparsemf.checkpoints import configs
from sparsemf.checkpoints.copies import Changes, Resized, copy_of
from sparsemf.checkpoints.files import FLOATS, BadFile, TensorFile, decode
from sparsemf.checkpoints.formats import open_file
from sparsemf.checkpoints.frames import unfold
from sparsemf.checkpoints.layouts import HALVES, Layout
from sparsemf.checkpoints.loading import _network, _scale, blocks_of, transposed_roles
from sparsemf.checkpoints.overlaid import OverlaidFile
from sparsemf.exceptions import InputError
from sparsemf.measures.network import Network

Array = NDArray[np.float64]

_PARTS = ("offset", "affine", "quadratic")
_OPTIONAL = (*_PARTS, "bias", "gate_bias")


class WriteBack:
    """A copy of ``source`` at ``target`` with some blocks replaced.  Use as a context manager; leaving it without
    an error writes the file.  ``check``, where it is set, is given the written file before it takes its name; what it
    raises leaves the target as it was.

    Raises :class:`~sparsemf.exceptions.InputError` when the suffix of ``target`` is not that of the format, when it
    is the source itself, and for formats that are not written.
    """

    def __init__(self, source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
        self.source, self.target = Path(source), Path(target)
        if self.target.exists() and self.target.samefile(self.source):
            raise InputError(f"{self.target.name}: expected a new file, got the checkpoint itself; give another name")
        self._file: TensorFile = open_file(self.source)
        self._changes = Changes()
        self._owners: dict[str, str] = {}
        self._resized: dict[str, Resized] = {}
        self._layouts: dict[str, Layout] = {}
        self.check: Callable[[Path], None] | None = None
        try:
            self._copy = copy_of(self._file, self.source)
            suffixes = self._copy.suffixes
            if self.target.suffix not in suffixes or (self.target.suffix == ".keras") != (
                self.source.suffix == ".keras"
            ):
                raise InputError(
                    f"{self.target.name}: expected the suffix {' or '.join(suffixes)}, that of the format of "
                    f"{self.source.name} ({self._file.format}); rename the target"
                )
        except BaseException:
            self._close()
            raise

    def parts(self, layout: Layout) -> frozenset[str]:
        """Which of the polynomial parts "offset", "affine", "quadratic" the copy can hold for this block."""
        if layout.native:
            return frozenset(_PARTS)
        return frozenset(layout.tensors) & frozenset(_PARTS)

    def biased(self, layout: Layout) -> bool:
        """Whether the copy can hold a bias inside the activation for this block."""
        return layout.native or "bias" in layout.tensors

    @property
    def advice(self) -> tuple[str, ...]:
        """What outside the copy must change because blocks got other widths, and what in it was left behind; one
        line each, such as "config.json: intermediate_size 1536 -> 200 (all blocks must have the same)".  Empty when
        no block got another width.  Complete when the last block was put.
        """
        if not self._resized:
            return ()
        lines = self._copy.advice(tuple(self._resized.values()))
        foreign = {name: block for name, block in self._resized.items() if not block.layout.native}
        if self._copy.configured and foreign:
            known = {layout.name: layout for layout in blocks_of(self._file).layouts}
            known |= {name: block.layout for name, block in foreign.items()}
            widths = {name: block.width for name, block in foreign.items()}
            lines = (*configs.advice(self.source, known.values(), widths), *lines)
        return lines

    def put(self, layout: Layout, network: Network) -> dict[str, float]:
        """Replace the block; returns role → relative rounding error ‖x − x̂‖/‖x‖ of those that the file's type
        rounds.

        ``network`` must have the block's d and m, be gated when it is, and have no part that the file has no tensor
        for; its width may be another one, at least 1.  Its scale goes into ``outer`` where it is not the file's.
        Raises :class:`~sparsemf.exceptions.InputError` for all that, for numbers beyond the type, for quantised
        tensors, and for tensors that something outside the block uses too.
        """
        sizes = (layout.d, layout.m, layout.gated)
        if (network.d, network.m, network.gated) != sizes or network.width < 1:
            kind = "a gated" if layout.gated else "a plain"
            raise InputError(
                f"block {layout.name}: expected {kind} block of d = {layout.d}, m = {layout.m} and width "
                f"{layout.width} or another one, got {network!r}"
            )
        refusal = self._copy.refusal(layout)
        if refusal is not None:
            raise InputError(
                f"block {layout.name}: expected layers that only the block uses, but {refusal}; split it first"
            )
        encoded: list[tuple[str, str, tuple[int, ...], bytes]] = []
        rounding: dict[str, float] = {}
        names = self._names(layout, network)
        transposed = transposed_roles(layout)
        for role, part in self._parts(layout, network, names).items():
            name = names[role]
            info = self._file.tensors.get(name)
            dtype = info.dtype if info is not None else self._file.tensors[layout.outer].dtype
            values = part
            if info is not None:
                values = values.T if role in transposed else values
                values = _shaped(values, info.shape, layout.width)
            if name in self._file.quantized:
                raise BadFile(
                    self.source,
                    f"tensor {name}: expected {', '.join(FLOATS)} to write into, got {dtype} with scales: new numbers "
                    "need scales of the quantiser's choice; write into the model before it was quantised",
                )
            if dtype not in FLOATS:
                raise BadFile(self.source, f"tensor {name}: expected {', '.join(FLOATS)}, got {dtype}")
            self._claim(name, layout, network.width)
            data, error = _encode(name, values, dtype)
            if error > 0:
                rounding[role] = error
            encoded.append((name, dtype, values.shape, data))
        for name, dtype, shape, data in encoded:  # only when all of them fit
            self._changes.put(name, dtype, shape, data)
            self._owners[name] = layout.name
        gained = {role: names[role] for role in _OPTIONAL if role in names}
        self._layouts[layout.name] = replace(layout, width=network.width, **gained)
        self._resized.pop(layout.name, None)
        if network.width != layout.width:
            self._resized[layout.name] = Resized(layout, network.width)
        return rounding

    def stored(self, name: str, activation: str) -> Network:
        """The block ``name`` that was put last, as it will be read back from the copy: in the numbers of its types.

        ``activation`` is the block's: what names it may lie beside the source and not beside the copy.
        """
        return _network(OverlaidFile(self._file, self._changes), self._layouts[name], activation, "")

    def __enter__(self) -> WriteBack:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                with replacing(self.target) as temporary:
                    self._copy.write(temporary, self._changes, tuple(self._resized.values()))
                    if self.check is not None:
                        self.check(temporary)
        finally:
            self._close()

    def _close(self) -> None:
        self._file.close()
        self._changes.close()

    def _claim(self, name: str, layout: Layout, width: int) -> None:
        """Neighbours in a deep network share a layer; when its shape changes, only one of them can be written."""
        owner = self._owners.get(name, layout.name)
        if owner != layout.name and (width != layout.width or owner in self._resized):
            raise InputError(
                f"block {layout.name}: expected layers of its own to change a width, but {owner} holds {name} too; "
                "write one of them, and the other into the copy"
            )

    def _parts(self, layout: Layout, network: Network, names: dict[str, str]) -> dict[str, Array]:
        """Role → what the file is to hold, in a network's shapes; of a fused tensor under the second half's
        role."""
        held = _scale(self._file, layout)
        if network.scale != held and held == 0.0:
            raise InputError(
                f"block {layout.name}: expected the scale 0 of the file, got {network.scale}; save it anew"
            )
        roles = [role for role in names if not (layout.fused and role in HALVES.values())]
        values = {role: _part(layout, network, role) for role in roles}
        if network.scale != held:
            values["outer"] = values["outer"] * (network.scale / held)
        return unfold(layout, values, self._file.read)

    def _names(self, layout: Layout, network: Network) -> dict[str, str]:
        """Role → tensor name, with those that a native file gains."""
        names = dict(layout.tensors)
        alone = {role: name for role, name in names.items() if not (layout.fused and role in HALVES.values())}
        if len(set(alone.values())) < len(alone):
            raise InputError(f"block {layout.name}: expected one tensor per role, got a shared one; split it first")
        prefix = layout.inner.removesuffix("inner")
        for role in _OPTIONAL:
            values = getattr(network, role, None)
            if role in names or values is None or not np.any(values):
                continue
            if not layout.native:
                raise InputError(f"block {layout.name}: the file has no tensor for the network's {role}")
            names[role] = prefix + role
        return names


def _shaped(values: Array, shape: tuple[int, ...], width: int) -> Array:
    """In the shape of the file's tensor (a vector ``outer`` of one output, a bias that is a row or a column), of
    which only the axis of the width may be another."""
    if values.size == math.prod(shape):
        return values.reshape(shape)
    if len(shape) == 1:
        return values.reshape(-1)
    if values.ndim == 1:
        axis = max(k for k, size in enumerate(shape) if size == width)
        return values.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    return values


def _part(layout: Layout, network: Network, role: str) -> Array:
    """The numbers of one role in the shape of a network; of a fused tensor gate and value, one below the other."""
    values = getattr(network, role)
    if values is None:  # the file has a quadratic part, the network none
        return np.zeros((network.m, network.d, network.d))
    if layout.fused and role in HALVES:
        return np.concatenate([getattr(network, HALVES[role]), values])
    return values


def _encode(name: str, values: Array, dtype: str) -> tuple[bytes, float]:
    """Little-endian bytes of the nearest numbers of the type, and the relative error of that."""
    if dtype == "bfloat16":  # the upper half of a float32, rounded to nearest even
        with np.errstate(over="ignore"):
            bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
        half = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
        data = half.astype("<u2").tobytes()
    else:
        with np.errstate(over="ignore", under="ignore"):
            data = np.ascontiguousarray(values, dtype=np.dtype(dtype).newbyteorder("<")).tobytes()
    stored = decode(data, dtype, values.shape)
    if not np.isfinite(stored).all():
        raise InputError(f"{name}: an entry of size {np.abs(values).max():.3g} is beyond {dtype}")
    size = float(np.linalg.norm(values))
    return data, float(np.linalg.norm(values - stored)) / size if size > 0 else 0.0
