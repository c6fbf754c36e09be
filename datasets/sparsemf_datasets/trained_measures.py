"""Trained measures by name: files that ship with the package, with the commands that make them and their hashes."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sparsemf.checkpoints import load
from sparsemf.exceptions import InputError
from sparsemf.measures import Network

PREFIX = "dataset:"
"""``dataset:NAME`` stands for the file of a measure wherever a command takes a checkpoint."""

_FOLDER = Path(__file__).parent / "trained"


@dataclass(frozen=True)
class Measure:
    """A trained measure: what it is, the command that makes it, its file's hash, and the teacher's number of atoms
    (None where the task has no teacher)."""

    name: str
    description: str
    command: str
    sha256: str
    atoms: int | None

    @property
    def path(self) -> Path:
        """Its file.  Raises :class:`InputError` when that is not the one that ``sha256`` speaks of."""
        file = _FOLDER / f"{self.name}.safetensors"
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != self.sha256:
            raise InputError(f"dataset {self.name}: its file is missing or damaged; install sparsemf again")
        return file


@cache
def measures() -> tuple[Measure, ...]:
    """All trained measures, in the order of the manifest."""
    listed = tomllib.loads((_FOLDER / "measures.toml").read_text(encoding="utf-8"))
    return tuple(
        Measure(name, entry["description"], entry["command"], entry["sha256"], entry.get("atoms"))
        for name, entry in listed.items()
    )


def measure(name: str) -> Measure:
    """The measure called ``name``; raises :class:`InputError` with the known names."""
    for found in measures():
        if found.name == name:
            return found
    raise InputError(f"unknown dataset {name!r}; known: {', '.join(found.name for found in measures())}")


def load_measure(name: str) -> Network:
    """The network of the measure called ``name``."""
    return load(measure(name).path)


def located(path: str) -> str:
    """``path``, or the file of the measure where it reads ``dataset:NAME``."""
    return str(measure(path.removeprefix(PREFIX)).path) if path.startswith(PREFIX) else path
