"""Compress blocks of a checkpoint and write them back into a copy of it, in its own format, names and types."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sparsemf.atomic import header, input_record, plain
from sparsemf.certificates.equivalence import raw_of
from sparsemf.checkpoints import file_sha256
from sparsemf.checkpoints.layouts import Layout
from sparsemf.checkpoints.opened import OpenCheckpoint
from sparsemf.checkpoints.write_back import WriteBack
from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.pipeline.certify import document as certificate_document
from sparsemf.pipeline.compress import Compressed, Goal, compress
from sparsemf.pipeline.laws import describe, law_of
from sparsemf.recovery import Progress

Watched = Callable[[str], AbstractContextManager[Progress]]
"""Given a block's name, a context manager whose value is told how far the block's work is."""


@dataclass(frozen=True, eq=False)
class CompressedFile:
    """``documents``: one per block, in the file's order; ``certificates``: of their errors, sealed, for ``verify``."""

    documents: list[dict[str, Any]]
    certificates: list[dict[str, Any]]


def free_beside(layout: Layout, parts: frozenset[str], network: Network) -> int:
    """The highest degree of the polynomials that the file can hold beside the atoms of this block."""
    if {"offset", "affine", "quadratic"} <= parts and (network.gated or network.quadratic is not None):
        return 2
    if {"offset", "affine"} <= parts:
        return 1
    return 0 if "offset" in parts else -1


def _apart(layouts: list[Layout]) -> None:
    """Raises :class:`InputError` where two blocks hold one tensor: neighbours in a deep network share a layer, and
    each would replace what was certified of the other."""
    owners: dict[str, str] = {}
    for layout in layouts:
        for name in layout.tensors.values():
            if owners.setdefault(name, layout.name) != layout.name:
                raise InputError(
                    f"blocks {owners[name]} and {layout.name}: expected layers of their own, both hold {name}; choose "
                    "blocks without common layers by --block, and compress the others in the copy"
                )


def compress_file(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    goal: Goal,
    watched: Watched,
    rho: str = "gaussian",
    block: str | None = None,
    activation: str | None = None,
    map: str | None = None,
    pad: bool = False,
    seed: int = 0,
) -> CompressedFile:
    """Write ``out``, a copy of ``path`` whose matching blocks have fewer neurons; everything else is copied.

    Every block is searched and its error is certified *as the file holds it* before anything is written.  Then each
    written block is read again and compared bit for bit with the one that the certificate speaks of, and only a copy
    that agrees takes the name ``out``: it appears whole or not at all.

    Raises :class:`~sparsemf.exceptions.InputError` for unreadable files, a target of another format, an unreachable
    error, and when no block matches.
    """
    found: dict[str, tuple[Compressed, int, float]] = {}
    inputs: dict[str, Network] = {}
    with OpenCheckpoint(path, activation=activation, map=map) as source:
        names = [name for name in source.layouts if block is None or fnmatchcase(name, block)]
        if not names:
            raise InputError(
                f"{Path(path).name}: no block matches {block!r}; expected one of: {', '.join(list(source.layouts)[:8])}"
            )
        _apart([source.layouts[name] for name in names])
        with WriteBack(path, out) as copy:
            for name in names:
                started = time.perf_counter()
                layout, network = source.layouts[name], source.load(name)
                free, biased = free_beside(layout, copy.parts(layout), network), copy.biased(layout)
                with watched(name) as progress:

                    def stored(changed: Network, layout: Layout = layout, network: Network = network) -> Network:
                        copy.put(layout, changed)
                        return copy.stored(layout.name, network.activation.name)

                    result = compress(network, law_of(rho, network), goal, free, stored, pad, progress, seed, biased)
                found[name] = result, free, time.perf_counter() - started
                inputs[name] = network

            def check(written: Path) -> None:
                for name, (result, *_) in found.items():
                    _same(written, name, result, inputs[name].activation.name, map, Path(out).name)

            copy.check = check
        advice = list(copy.advice)
    digest = file_sha256(Path(out))
    documents, certificates = [], []
    for name, (result, free, seconds) in found.items():
        sigma = inputs[name].activation.name  # a config.json that says so may not lie beside the copy
        with OpenCheckpoint(out, activation=sigma, map=map) as written:
            network = written.load(name)
        law = law_of(rho, inputs[name])
        read_with = {"map": map, "activation_option": sigma}
        certificates.append(certificate_document(result.error, inputs[name], network, rho, seed, read_with=read_with))
        documents.append(
            {
                **header(
                    "compress",
                    1,
                    input=input_record(inputs[name]),
                    config={**describe(law, rho), "goal": _goal(goal), "pad": pad, "seed": seed},
                ),
                "output": {"path": Path(out).name, "sha256": digest, "block": name, "width": network.width},
                **_measured(result, free),
                "advice": advice,
                "timing_s": {"total": seconds},
            }
        )
    return CompressedFile([plain(d) for d in documents], certificates)


def _same(path: Path, name: str, result: Compressed, activation: str, map: str | None, out: str) -> None:
    """Raises :class:`InputError` unless the block is read back as the one that was certified."""
    try:
        with OpenCheckpoint(path, activation=activation, map=map) as written:
            network = written.load(name, "not needed") if name in written.layouts else None
    except InputError as error:
        raise InputError(str(error).replace(path.name, out) + "; nothing was written, another width may do") from None
    if network is None or raw_of(network).sha256 != raw_of(result.network).sha256:
        raise InputError(
            f"block {name}: expected {out} to hold the certified network, it would be read back as "
            f"{'none' if network is None else 'another one'}; nothing was written: try another width, write to a local "
            "disk, or report the file's format"
        )


def _goal(goal: Goal) -> dict[str, Any]:
    """What was asked for, the one value that was given."""
    return {name: value for name, value in vars(goal).items() if value is not None}


def _measured(result: Compressed, free: int) -> dict[str, Any]:
    lower, upper = result.error.lower, result.error.upper
    return {
        "size": result.size,
        "free_degree": free,
        "function_norm_bounds": {"lower": result.norm.lower, "upper": result.norm.upper},
        "error": {
            "kind": "certificate",
            "lower": lower,
            "upper": upper,
            "rel_lower": _over(lower, result.norm.upper),
            "rel_upper": _over(upper, result.norm.lower),
        },
        "limit": {
            "kind": "certificate" if result.limit is not None else "unknown",
            "lower": result.limit,
            "rel_lower": None if result.limit is None else _over(result.limit, result.norm.upper),
            "at_least": result.at_least,
        },
        "staircase_error": result.upper,
    }


def _over(value: float, norm: float) -> float | None:
    return value / norm if norm > 0 else None
