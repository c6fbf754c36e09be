"""Zip archives (npz, torch): refuse what could expand without bound before anything is expanded."""

from __future__ import annotations

import zipfile
from pathlib import Path

from sparsemf.checkpoints.files import BadFile

_LARGE = 1 << 26  # 64 MiB
_RATIO = 200  # floating-point weights hardly compress; deflate of zeros reaches 1000


def open_archive(path: Path) -> zipfile.ZipFile:
    """The archive, its directory checked: no encryption, no repeated names, no bomb."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BadFile(
            path, f"expected a whole archive, got a truncated or broken one ({error}); copy it again"
        ) from None
    try:
        _check(path, archive)
    except BadFile:
        archive.close()
        raise
    return archive


def _check(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if len({member.filename for member in members}) != len(members):
        raise BadFile(path, "expected an archive with distinct member names, got repeated ones; save it again")
    for member in members:
        if member.flag_bits & 1:
            raise BadFile(path, f"expected plain members, got {member.filename} encrypted; decrypt it first")
        if member.file_size > _LARGE and member.file_size > _RATIO * max(member.compress_size, 1):
            raise BadFile(
                path,
                f"member {member.filename} would expand {member.file_size / max(member.compress_size, 1):.0f}-fold to "
                f"{member.file_size} bytes, which weights never do: refused as a zip bomb; save it uncompressed",
            )
