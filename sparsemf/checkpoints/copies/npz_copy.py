"""A copy of an npz archive: members in their order, those of changed tensors replaced."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from sparsemf.checkpoints.copies.base import CHUNK, Changes, Copy, Resized


class NpzCopy(Copy):
    """Every member that is not replaced keeps its bytes."""

    suffixes = (".npz",)

    def write(self, path: Path, changes: Changes, resized: tuple[Resized, ...]) -> None:
        rewrite_archive(self.source, path, {f"{name}.npy": npy_bytes(changes.array(name)) for name in changes})


def rewrite_archive(source: Path, path: Path, replaced: Mapping[str, bytes]) -> None:
    """Copy a zip archive, uncompressed, with the content of some members replaced or added."""
    left = dict(replaced)
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
        for member in archive.infolist():
            content = left.pop(member.filename, None)
            with out.open(zipfile.ZipInfo(member.filename), "w", force_zip64=True) as stream:
                if content is not None:
                    stream.write(content)
                else:
                    with archive.open(member) as original:
                        shutil.copyfileobj(original, stream, CHUNK)
        for name, content in left.items():
            with out.open(zipfile.ZipInfo(name), "w", force_zip64=True) as stream:
                stream.write(content)


def npy_bytes(array: np.ndarray) -> bytes:
    """An array as the bytes of a ``.npy`` file."""
    buffer = io.BytesIO()
    npy.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()
