"""Which reader a file needs, decided by its content; the suffix only words the error."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import replace
from pathlib import Path

from sparsemf.checkpoints.archives import open_archive
from sparsemf.checkpoints.files import BadFile, TensorFile
from sparsemf.checkpoints.quantized import find_quantized

SUFFIXES = (
    ".safetensors",
    ".safetensors.index.json",
    ".npz",
    ".pt",
    ".pth",
    ".bin",
    ".bin.index.json",
    ".onnx",
    ".skops",
    ".keras",
    ".h5",
    ".hdf5",
    ".msgpack",
    ".msgpack.index.json",
)
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.(safetensors|bin|msgpack)$")
_KNOWN = "a safetensors, npz, torch, ONNX, skops, Keras or Flax checkpoint"

_HDF5 = b"\x89HDF\r\n\x1a\n"

# formats that are recognised in order to say what to do instead
_FOREIGN = {
    b"GGUF": "a GGUF file",
    b"\x93NUMPY": "a single .npy array",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"7z\xbc\xaf": "a 7z archive",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
}


def has_known_suffix(path: str | os.PathLike[str]) -> bool:
    """Whether a file looks like a checkpoint by its name; shards do not, their index does."""
    name = Path(path).name.lower()
    return name.endswith(SUFFIXES) and not _SHARD.search(name)


def open_file(path: str | os.PathLike[str]) -> TensorFile:
    """Open a checkpoint with the reader that its first bytes ask for.  Nothing in the file is ever executed.

    Raises :class:`BadFile` (an InputError); OSError when the file cannot be read at all.
    """
    path = Path(path)
    try:
        status = path.stat()
    except FileNotFoundError:
        raise BadFile(path, f"no such file; expected the path of {_KNOWN}") from None
    if stat.S_ISDIR(status.st_mode):
        inside = sorted(entry.name for entry in path.iterdir() if has_known_suffix(entry))
        hint = f"give one of its files: {', '.join(inside[:5])}" if inside else "it holds no checkpoint by its suffix"
        raise BadFile(path, f"expected a file, got a folder; {hint}")
    if not stat.S_ISREG(status.st_mode):
        raise BadFile(path, "expected a regular file, got a device, pipe or socket; copy it to a file")
    with path.open("rb") as stream:
        head = stream.read(64)
    file = _reader(path, head, status.st_size)
    if file.layouts is None:
        _with_scales(file)
    return file


def _with_scales(file: TensorFile) -> None:
    """Let names of quantised weights stand for their numbers."""
    found, refused = find_quantized(file.tensors)
    infos = {name: replace(file.tensors[recipe.codes], name=name) for name, recipe in found.items()}
    if infos:
        file.tensors, file.quantized = {**file.tensors, **infos}, found
    file.refused = (*file.refused, *refused)


def _reader(path: Path, head: bytes, size: int) -> TensorFile:
    from sparsemf.checkpoints import torch_file

    if size == 0:
        raise BadFile(path, f"expected {_KNOWN}, got an empty file; save it again")
    if head.startswith(b"PK\x03\x04"):
        return _zip_reader(path)
    if head.startswith(torch_file.LEGACY_MAGIC):
        return torch_file.TorchFile(path)
    if head.startswith(_HDF5):
        from sparsemf.checkpoints.keras_file import KerasFile

        return KerasFile(path)
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise BadFile(path, f"expected {_KNOWN}, got {what}; save its arrays as npz or safetensors")
    if (head[8:9] == b"{" and not _is_text(head[:8])) or (
        path.name.endswith(".safetensors") and not _is_text(head) and not _is_pickle(head)
    ):
        from sparsemf.checkpoints.safetensors_file import SafetensorsFile

        return SafetensorsFile(path)
    if _is_onnx(path, head):
        from sparsemf.checkpoints.onnx_file import OnnxFile

        return OnnxFile(path)
    if head.lstrip()[:1] == b"{":
        from sparsemf.checkpoints.sharded_file import ShardedFile

        return ShardedFile(path, open_file)
    if _is_msgpack(path, head):
        from sparsemf.checkpoints.flax_file import FlaxFile

        return FlaxFile(path)
    if _is_pickle(head):
        raise BadFile(
            path,
            f"expected {_KNOWN}, got a bare pickle, which can run any program and is never opened; "
            "save a state_dict with torch.save, or the arrays as npz or safetensors",
        )
    what = "text" if _is_text(head) else "bytes of no known format"
    raise BadFile(path, f"expected {_KNOWN}, got {what}; give the checkpoint itself")


def _zip_reader(path: Path) -> TensorFile:
    with open_archive(path) as archive:
        names = archive.namelist()
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        from sparsemf.checkpoints.torch_file import TorchFile

        return TorchFile(path)
    if "schema.json" in names:
        from sparsemf.checkpoints.skops_file import SkopsFile

        return SkopsFile(path)
    if "config.json" in names and "model.weights.h5" in names:
        from sparsemf.checkpoints.keras_file import KerasFile

        return KerasFile(path)
    if any(name.endswith(".npy") for name in names):
        from sparsemf.checkpoints.npz_file import NpzFile

        return NpzFile(path)
    raise BadFile(path, f"expected {_KNOWN}, got a zip archive without arrays; save the arrays as npz or safetensors")


def _is_onnx(path: Path, head: bytes) -> bool:
    """A protobuf that opens with a small ir_version (field 1), as every exporter writes it; else the suffix
    decides."""
    opens = len(head) > 2 and head[0] == 0x08 and 0 < head[1] < 0x20 and head[2] in (0x12, 0x1A, 0x22, 0x3A, 0x42)
    return opens or (path.suffix.lower() == ".onnx" and not _is_text(head) and not _is_pickle(head))


def _is_msgpack(path: Path, head: bytes) -> bool:
    """A msgpack map whose first key is a string; a map of up to 15 entries opens with 0x81 to 0x8f."""
    is_map = 0x81 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)
    key = {0xDE: 3, 0xDF: 5}.get(head[0], 1)
    opens = is_map and len(head) > key and (0xA0 <= head[key] <= 0xBF or head[key] == 0xD9)
    return opens or (path.suffix.lower() == ".msgpack" and not _is_text(head) and not _is_pickle(head))


def _is_pickle(head: bytes) -> bool:
    """Protocols 2 to 5 open with 0x80 and their number; protocol 0 and 1 with an opcode of a container or
    global."""
    binary = len(head) > 1 and head[0] == 0x80 and head[1] <= 5
    return binary or bool(re.match(rb"(\(lp|\(dp|\(i|c[\w.]+\n\w+\n|\]q|\}q)", head))


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # a character cut by the end of the sample is still text
            return False
        text = head[: error.start].decode("utf-8")
    return all(c.isprintable() or c.isspace() for c in text)
