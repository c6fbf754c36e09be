"""Align two checkpoints: a copy of B whose blocks have A's order, signs and scales, and B's functions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sparsemf.checkpoints.opened import OpenCheckpoint
from sparsemf.checkpoints.pairing import Pair, Pairing, pair_blocks
from sparsemf.checkpoints.write_back import WriteBack
from sparsemf.exceptions import InputError
from sparsemf.symmetry.alignment import align

_SHOWN = 8


def align_files(
    path_a: str | os.PathLike[str],
    path_b: str | os.PathLike[str],
    out: str | os.PathLike[str],
    activation: str | None = None,
    map: str | None = None,
    block: str | None = None,
) -> list[dict[str, Any]]:
    """Write ``out``, a copy of ``path_b`` in which every block that has a partner in ``path_a`` is aligned to it.

    Blocks are paired by :func:`~sparsemf.checkpoints.pairing.pair_blocks`; ``block`` is a glob over the names of A's or
    B's blocks.  What B holds besides is copied byte for byte, and ``out`` appears whole or not at all.  A flip is made
    only where the block's format has a place for its cost (see :func:`~sparsemf.symmetry.alignment.align`), so that
    every block keeps its function up to the rounding of the file's type.

    Returns one record per pair, in the order of A's blocks, and per block without a partner (``problem`` says so):

    - block: the name, or ``"a = b"`` where the names differ
    - matched, flipped, rescaled, refused: neurons of B (None: the block was left as it was); ``refused`` flips were
      wanted, and their cost had no place to go
    - distance: largest relative distance of a matched pair on the section of the scalings
    - residual: unpayable cost of the flips that was zero to rounding, relative to √Σ‖cost_i‖²
    - rounding: largest relative error ‖x − x̂‖/‖x‖ of a tensor when it was rounded to the file's type
    - in_place: whether all matched neurons stand in A's positions
    - problem: why the block was left as it was, or None

    Raises :class:`~sparsemf.exceptions.InputError` for unreadable files, a target of another format, and when no block
    could be aligned; then nothing is written.
    """
    with (
        OpenCheckpoint(path_a, activation=activation, map=map) as a,
        OpenCheckpoint(path_b, activation=activation, map=map) as b,
    ):
        pairing = pair_blocks(a.layouts.values(), b.layouts.values())
        pairs = [pair for pair in pairing.pairs if _chosen(block, pair.a, pair.b)]
        if not pairs:
            raise InputError(_nothing_paired(Path(path_a).name, Path(path_b).name, pairing, block))
        with WriteBack(path_b, out) as copy:
            records = [_aligned(pair, a, b, copy) for pair in pairs]
            if all(record["problem"] for record in records):
                first, more = records[0], len(records) - 1
                others = f" (and {more} more blocks)" if more else ""
                raise InputError(f"no block could be aligned: {first['block']}: {first['problem']}{others}")
    records += [_record(name, f"no partner in {Path(path_b).name}") for name in pairing.only_a if _chosen(block, name)]
    records += [_record(name, f"no partner in {Path(path_a).name}") for name in pairing.only_b if _chosen(block, name)]
    return records


def _aligned(pair: Pair, a: OpenCheckpoint, b: OpenCheckpoint, copy: WriteBack) -> dict[str, Any]:
    layout = b.layouts[pair.b]
    try:
        found = align(a.load(pair.a), b.load(pair.b), pays=copy.parts(layout))
        rounding = copy.put(layout, found.network)
    except InputError as error:
        return _record(pair.title, str(error))
    return _record(
        pair.title,
        None,
        matched=found.matched,
        flipped=found.flipped,
        rescaled=found.rescaled,
        refused=found.refused,
        distance=found.distance,
        residual=found.residual,
        rounding=max(rounding.values(), default=0.0),
        in_place=found.in_place,
    )


_MEASURED = ("matched", "flipped", "rescaled", "refused", "distance", "residual", "rounding", "in_place")


def _record(block: str, problem: str | None, **measured: Any) -> dict[str, Any]:
    return {"block": block, **{name: measured.get(name) for name in _MEASURED}, "problem": problem}


def _chosen(pattern: str | None, *names: str) -> bool:
    return pattern is None or any(fnmatchcase(name, pattern) for name in names)


def _nothing_paired(a: str, b: str, pairing: Pairing, pattern: str | None) -> str:
    if pairing.pairs:
        names = _listed([pair.title for pair in pairing.pairs])
        return f"no paired block of {a} and {b} matches {pattern!r}; expected one of: {names}"
    return (
        f"expected blocks of {a} and {b} that correspond by name or order, got {_listed(pairing.only_a)} and "
        f"{_listed(pairing.only_b)}; name the tensors with --map"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f", … ({len(names)} in all)" if len(names) > _SHOWN else "")
