"""Write changed blocks back into a copy of the file they came from, in its own format, names, layout and types.

Every tensor that is not replaced is copied byte for byte; the copy appears whole or not at all.  A sharded checkpoint
becomes one safetensors file.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sparsemf.atomic import replacing
from sparsemf.checkpoints.files import FLOATS, BadFile, TensorFile, decode
from sparsemf.checkpoints.formats import open_file
from sparsemf.checkpoints.layouts import HALVES, Layout
from sparsemf.checkpoints.loading import transposed_roles
from sparsemf.exceptions import InputError
from sparsemf.measures.network import Network

Array = NDArray[np.float64]

_CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_TORCH_CODES = _CODES | {"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}
_ALIGNMENT = 8
_CHUNK = 1 << 24
_PARTS = ("offset", "affine", "quadratic")
_OPTIONAL = (*_PARTS, "bias", "gate_bias")


@dataclass(frozen=True)
class _Encoded:
    """A tensor of the copy: its bytes lie in the spool."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


class WriteBack:
    """A copy of ``source`` at ``target`` with some blocks replaced.  Use as a context manager; leaving it without an
    error writes the file.

    Raises :class:`~sparsemf.exceptions.InputError` when the suffix of ``target`` is not that of the format, or when
    it is the source itself.
    """

    def __init__(self, source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
        self.source, self.target = Path(source), Path(target)
        if self.target.exists() and self.target.samefile(self.source):
            raise InputError(f"{self.target.name}: expected a new file, got the checkpoint itself; give another name")
        self._file: TensorFile = open_file(self.source)
        self._spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _close
        self._changed: dict[str, _Encoded] = {}
        try:
            suffixes = _suffixes(self._file.format)
            if self.target.suffix not in suffixes:
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

    def put(self, layout: Layout, network: Network) -> dict[str, float]:
        """Replace the block; returns role → relative rounding error ‖x − x̂‖/‖x‖ of those that the file's type rounds.

        ``network`` must have the block's sizes, and no part that the file has no tensor for.  Raises
        :class:`~sparsemf.exceptions.InputError` for that, and for numbers beyond the type.
        """
        sizes = (layout.width, layout.d, layout.m, layout.gated)
        if (network.width, network.d, network.m, network.gated) != sizes:
            kind = "a gated" if layout.gated else "a plain"
            raise InputError(
                f"block {layout.name}: expected {kind} block of width {layout.width}, d = {layout.d}, m = {layout.m}, "
                f"got {network!r}"
            )
        encoded: list[tuple[str, str, tuple[int, ...], bytes]] = []
        rounding: dict[str, float] = {}
        names = self._names(layout, network)
        transposed = transposed_roles(layout)
        for role, name in names.items():
            if layout.fused and role in HALVES.values():
                continue
            values = _part(layout, network, role)
            info = self._file.tensors.get(name)
            dtype = info.dtype if info is not None else self._file.tensors[layout.outer].dtype
            if info is not None:
                values = values.T if role in transposed else values
                values = values.reshape(info.shape)  # a vector ``outer`` of one output stays one
            if dtype not in FLOATS:
                raise BadFile(self.source, f"tensor {name}: expected {', '.join(FLOATS)}, got {dtype}")
            data, error = _encode(name, values, dtype)
            if error > 0:
                rounding[role] = error
            encoded.append((name, dtype, values.shape, data))
        for name, dtype, shape, data in encoded:  # only when all of them fit
            self._changed[name] = _Encoded(dtype, shape, self._spool.seek(0, os.SEEK_END), len(data))
            self._spool.write(data)
        return rounding

    def __enter__(self) -> WriteBack:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            self._close()

    def _close(self) -> None:
        self._file.close()
        self._spool.close()

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

    def _bytes(self, entry: _Encoded) -> bytes:
        self._spool.seek(entry.start)
        return self._spool.read(entry.size)

    def _commit(self) -> None:
        with replacing(self.target) as temporary:
            if self._file.format == "torch":
                self._write_torch(temporary)
            elif self._file.format == "npz":
                self._write_npz(temporary)
            else:
                self._write_safetensors(temporary)

    def _write_safetensors(self, path: Path) -> None:
        metadata, sources = _raw_tensors(self._file, self.source)
        header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
        position = 0
        for name in [*sources, *(name for name in self._changed if name not in sources)]:
            changed = self._changed.get(name)
            if changed is not None:
                code, shape, size = _CODES[changed.dtype], changed.shape, changed.size
            else:
                code, shape, size = sources[name].code, sources[name].shape, sources[name].size
            header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [position, position + size]}
            position += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        with path.open("wb") as out:
            out.write(struct.pack("<Q", len(text)))
            out.write(text)
            for name in header:
                if name in self._changed:
                    out.write(self._bytes(self._changed[name]))
                elif name != "__metadata__":
                    for chunk in sources[name].chunks():
                        out.write(chunk)

    def _write_npz(self, path: Path) -> None:
        left = dict(self._changed)
        with zipfile.ZipFile(self.source) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
            for member in source.infolist():
                entry = left.pop(member.filename.removesuffix(".npy"), None)
                with out.open(zipfile.ZipInfo(member.filename), "w", force_zip64=True) as stream:
                    if entry is not None:
                        stream.write(self._npy(entry))
                    else:
                        with source.open(member) as original:
                            shutil.copyfileobj(original, stream, _CHUNK)
            for name, entry in left.items():
                with out.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
                    stream.write(self._npy(entry))

    def _npy(self, entry: _Encoded) -> bytes:
        kind = np.dtype(entry.dtype).newbyteorder("<")
        buffer = io.BytesIO()
        npy.write_array(buffer, np.frombuffer(self._bytes(entry), kind).reshape(entry.shape), allow_pickle=False)
        return buffer.getvalue()

    def _write_torch(self, path: Path) -> None:
        """The content as it was, nested dicts and all, with the tensors of the changed names replaced."""
        import torch

        from sparsemf.checkpoints import torch_file

        content = torch_file._load(self.source)
        trails = [trail for trail in _trails(content, ()) if not _training_state(trail)]
        depth = _common_depth(set(self._file.tensors), trails)
        places = {".".join(trail[depth:]): trail for trail in trails}
        wanted: dict[tuple[str, ...], Any] = {}
        for name, entry in self._changed.items():
            raw = torch.frombuffer(bytearray(self._bytes(entry)), dtype=getattr(torch, entry.dtype))
            if name in places:
                wanted[places[name]] = raw.reshape(entry.shape)
            else:  # a part that a native block gains: beside its ``inner``, whose dotted name may be one key
                role = name.rsplit(".", 1)[-1]
                trail = places[name.removesuffix(role) + "inner"]
                container = content
                for part in trail[:-1]:
                    container = _child(container, part)
                container[trail[-1].removesuffix("inner") + role] = raw.reshape(entry.shape)
        torch.save(_replaced(content, (), wanted), path)


def _part(layout: Layout, network: Network, role: str) -> Array:
    """The numbers of one role in the shape of a network; of a fused tensor gate and value, one below the other."""
    values = getattr(network, role)
    if values is None:  # the file has a quadratic part, the network none
        return np.zeros((network.m, network.d, network.d))
    if layout.fused and role in HALVES:
        return np.concatenate([getattr(network, HALVES[role]), values])
    return values


def _suffixes(kind: str) -> tuple[str, ...]:
    return {"torch": (".pt", ".pth", ".bin"), "npz": (".npz",)}.get(kind, (".safetensors",))


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


@dataclass(frozen=True)
class _Raw:
    """The bytes of an unchanged tensor: a range of a file, or a torch tensor."""

    code: str
    shape: tuple[int, ...]
    size: int
    path: Path | None = None
    start: int = 0
    tensor: Any = None

    def chunks(self) -> Iterator[bytes]:
        if self.path is None:
            import torch

            yield self.tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            return
        with self.path.open("rb") as stream:
            stream.seek(self.start)
            left = self.size
            while left:
                chunk = stream.read(min(left, _CHUNK))
                if not chunk:
                    raise BadFile(self.path, "expected a whole safetensors file, it was cut while it was read")
                left -= len(chunk)
                yield chunk


def _raw_tensors(file: TensorFile, source: Path) -> tuple[dict[str, str], dict[str, _Raw]]:
    """Metadata and every tensor of a safetensors file or of all the shards of an index, in their order."""
    if file.format == "safetensors":
        return _of_safetensors(source)
    from sparsemf.checkpoints.sharded_file import _weight_map

    weight_map = _weight_map(source)
    metadata: dict[str, str] = {}
    found: dict[str, _Raw] = {}
    for shard in sorted(set(weight_map.values())):
        with open_file(source.parent / shard) as opened:
            one, tensors = _of_safetensors(opened.path) if opened.format == "safetensors" else ({}, _of_torch(opened))
        metadata |= one
        found |= {name: raw for name, raw in tensors.items() if weight_map.get(name) == shard}
    return metadata, found


def _of_safetensors(path: Path) -> tuple[dict[str, str], dict[str, _Raw]]:
    """The header was checked when the file was opened."""
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    metadata = header.pop("__metadata__", None) or {}
    ordered = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    return metadata, {
        name: _Raw(
            entry["dtype"],
            tuple(entry["shape"]),
            entry["data_offsets"][1] - entry["data_offsets"][0],
            path,
            8 + size + entry["data_offsets"][0],
        )
        for name, entry in ordered
    }


def _of_torch(file: TensorFile) -> dict[str, _Raw]:
    found: dict[str, _Raw] = {}
    for name, tensor in file._tensors.items():  # type: ignore[attr-defined]
        code = _TORCH_CODES.get(str(tensor.dtype).removeprefix("torch."))
        if code is None:
            raise BadFile(file.path, f"tensor {name}: {tensor.dtype} has no place in safetensors; convert it first")
        found[name] = _Raw(code, tuple(tensor.shape), tensor.numel() * tensor.element_size(), tensor=tensor)
    return found


def _trails(value: Any, trail: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The places of all tensors in nested dicts, lists and tuples."""
    import torch

    if isinstance(value, torch.Tensor):
        yield trail
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _trails(item, (*trail, str(key)))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _trails(item, (*trail, str(index)))


def _child(container: Any, part: str) -> Any:
    """What lies under the part of a trail: keys need not be strings."""
    if isinstance(container, Mapping):
        return next(value for key, value in container.items() if str(key) == part)
    return container[int(part)]


def _training_state(trail: tuple[str, ...]) -> bool:
    from sparsemf.checkpoints.torch_file import _NOT_WEIGHTS

    return any(_NOT_WEIGHTS.match(part) for part in trail[:-1])


def _common_depth(names: set[str], trails: list[tuple[str, ...]]) -> int:
    """How many common containers ("model", "state_dict") the reader's names leave out."""
    longest = max((len(trail) for trail in trails), default=0)
    for depth in range(longest):
        if names <= {".".join(trail[depth:]) for trail in trails}:
            return depth
    raise InputError("expected a state dict of plain nested dicts to write back into; save it as safetensors first")


def _replaced(value: Any, trail: tuple[str, ...], wanted: Mapping[tuple[str, ...], Any]) -> Any:
    """``value`` with the wanted places replaced; dicts and lists in place, so that their types stay."""
    if trail in wanted:
        return wanted[trail]
    if isinstance(value, dict):
        for key in list(value):
            value[key] = _replaced(value[key], (*trail, str(key)), wanted)
    elif isinstance(value, list):
        value[:] = [_replaced(item, (*trail, str(index)), wanted) for index, item in enumerate(value)]
    elif type(value) is tuple:
        return tuple(_replaced(item, (*trail, str(index)), wanted) for index, item in enumerate(value))
    return value
