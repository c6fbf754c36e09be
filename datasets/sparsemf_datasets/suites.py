"""Planted suites: folders of checkpoints whose truths are known, made on demand from a seed.

``planted``: networks of few well-separated atoms behind random elements of the realization symmetry, for every
activation with atoms; the truth is their number.  ``copies``: classes of checkpoints that are the same function -
disguised by random group elements, of several widths and file formats -; the truth is which belong together.  Both
write ``truth.json`` beside the files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsemf import atomic
from sparsemf.activations import get, names
from sparsemf.checkpoints import save
from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.symmetry import disguise
from sparsemf_datasets.planted import planted_network

_CLASSES = ("tanh", "relu", "gelu", "erf", "silu", "softplus")


@dataclass(frozen=True)
class Suite:
    """A planted suite: what it is, how many files it has by default, and what makes its members."""

    name: str
    description: str
    count: int
    members: Callable[[int, np.random.Generator], Iterator[tuple[str, Network, Any]]]


def _planted(count: int, rng: np.random.Generator) -> Iterator[tuple[str, Network, Any]]:
    """(file name, network, number of atoms): activations in turn, d = 4 … 16, S = 1 … 8, outputs 1 or 3."""
    known = [name for name in names() if get(name).kind == "atoms"]
    for i in range(count):
        sigma = known[i % len(known)]
        d, atoms = int(rng.integers(4, 17)), int(rng.integers(1, 9))
        outputs, bias = int(rng.choice([1, 3])), bool(rng.integers(2))
        teacher = planted_network(sigma, d, min(atoms, d), outputs, bias, seed=int(rng.integers(2**31)))
        hidden = disguise(teacher, rng, width=int(rng.integers(32, 129)))
        yield f"{i:04d}-{sigma}.safetensors", hidden, teacher.width


def _copies(count: int, rng: np.random.Generator) -> Iterator[tuple[str, Network, Any]]:
    """(file name, network, class): 12 functions in turn, two to an activation, in d = 8 with 6 atoms and biases."""
    teachers = [
        planted_network(sigma, 8, 6, 1, True, seed=int(rng.integers(2**31))) for sigma in _CLASSES for _ in range(2)
    ]
    for i in range(count):
        of = i % len(teachers)
        suffix = ".npz" if i % 3 == 2 else ".safetensors"
        yield f"{i:04d}{suffix}", disguise(teachers[of], rng, width=int(rng.integers(24, 97))), of


SUITES = (
    Suite(
        "planted", "planted networks in disguise, all activations with atoms; truth: the number of atoms", 56, _planted
    ),
    Suite("copies", "checkpoints that fall into 12 classes of the same function; truth: the class", 60, _copies),
)


def suite(name: str) -> Suite:
    """The suite called ``name``; raises :class:`InputError` with the known names."""
    for found in SUITES:
        if found.name == name:
            return found
    raise InputError(f"unknown suite {name!r}; known: {', '.join(found.name for found in SUITES)}")


def write_suite(name: str, folder: Path, count: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Write the files of a suite and ``truth.json`` into ``folder`` (made when missing); returns file name → truth.

    Raises :class:`InputError` for an unknown name, a count below 1, and a folder that holds something else already.
    """
    found = suite(name)
    count = found.count if count is None else count
    if count < 1:
        raise InputError(f"suite {name}: expected at least 1 file, got {count}")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder, got a file")
    if folder.is_dir() and any(folder.iterdir()) and _suite_of(folder) != name:
        raise InputError(f"{folder}: expected an empty folder, got one that holds something else; name another")
    folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for file, network, value in found.members(count, np.random.default_rng([seed, len(name)])):
        save(network, folder / file)
        truth[file] = value
    atomic.write_json(folder / "truth.json", {"suite": name, "count": count, "seed": seed, "truth": truth})
    return truth


def _suite_of(folder: Path) -> str | None:
    """Which suite a folder holds."""
    try:
        return json.loads((folder / "truth.json").read_text(encoding="utf-8"))["suite"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
