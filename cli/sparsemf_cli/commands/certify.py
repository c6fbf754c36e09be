"""``sparsemf certify A B``: equivalent, distinct or undecided, with a certificate."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import rich_click as click

from sparsemf_cli.checkpoint import CHECKPOINT
from sparsemf_cli.common import (
    CheckpointOptions,
    OutputOptions,
    apart,
    checkpoint_options,
    emit,
    output_options,
    progress,
    say,
)

if TYPE_CHECKING:
    from rich.console import Console

    from sparsemf.checkpoints import OpenCheckpoint, Pairing

EXIT = {"equivalent": 0, "distinct": 1, "undecided": 3}
_WORST = ("distinct", "undecided", "equivalent")


@dataclass
class _Table:
    """What is shown: a document or a reason for every pair of blocks, and the blocks without a partner."""

    documents: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    only_a: list[str] = field(default_factory=list)
    only_b: list[str] = field(default_factory=list)


@click.command()
@click.argument("a", type=CHECKPOINT, metavar="A")
@click.argument("b", type=CHECKPOINT, metavar="B")
@click.option("--eps", type=float, metavar="E", help="Threshold, absolute in the norm.")
@click.option("--rel-eps", type=float, metavar="E", help="Threshold relative to ‖f_A‖ (default 1e-3).")
@click.option("--norm", type=click.Choice(["l2", "sup"]), default="l2", show_default=True, help="L²(ρ), or sup.")
@click.option("--radius", type=float, metavar="R", help="Radius of the ball for --norm sup (default √d).")
@click.option("--align", metavar="OUT", help="Also write B with its neurons in A's order, signs and scales to OUT.")
@checkpoint_options
@output_options()
def certify(
    a: str,
    b: str,
    eps: float | None,
    rel_eps: float | None,
    norm: Literal["l2", "sup"],
    radius: float | None,
    align: str | None,
    source: CheckpointOptions,
    output: OutputOptions,
) -> int:
    """Are the networks in A and B the same function, up to ε?  Exit 0 equivalent, 1 distinct, 3 undecided.

    Files with several blocks are compared block by block, whatever their names' prefixes.
    """
    from sparsemf.checkpoints import OpenCheckpoint

    if eps is not None and rel_eps is not None:
        raise click.UsageError("--eps and --rel-eps exclude each other")
    for name, value in (("--eps", eps), ("--rel-eps", rel_eps), ("--radius", radius)):
        if value is not None and not (value > 0 and value < float("inf")):
            raise click.UsageError(f"{name}: expected a positive number, got {value}")
    if radius is not None and norm != "sup":
        raise click.UsageError("--radius goes with --norm sup")
    for side, path in (("A", a), ("B", b)):
        apart({side: path, "-o": output.file, "--align": align})
    options = {"norm": norm, "radius": radius, "eps": eps, "rel_eps": rel_eps}
    with (
        OpenCheckpoint(a, activation=source.activation, map=source.map) as first,
        OpenCheckpoint(b, activation=source.activation, map=source.map) as second,
    ):
        pairing = _pairing(first, second, source.block, a, b)
        moved = {} if align is None else _aligned(a, b, align, source)
        table = _certified(first, second, pairing, moved, source, output, options)
    if not table.documents:
        from sparsemf.exceptions import InputError

        raise InputError(f"no pair of blocks can be compared: {table.failed[0]['block']}: {table.failed[0]['reason']}")
    for side, path, names in (("A", a, table.only_a), ("B", b, table.only_b)):
        if names:
            say(output, f"only in {side} ({Path(path).name}), not compared: {_some(names)}")
    document = table.documents[0]
    if len(table.documents) > 1 or table.failed:
        from sparsemf.certificates.checker.document import wrapper_seal

        document = {
            "schema": "sparsemf/certify/2",
            "results": table.documents,
            "failed": table.failed,
            "unmatched": {"a": table.only_a, "b": table.only_b},
        }
        document["seal"] = wrapper_seal(document)
    emit(output, document, lambda console: _render(console, table))
    verdicts = {d["verdict"] for d in table.documents} | ({"undecided"} if table.failed else set())
    return EXIT[next(v for v in _WORST if v in verdicts)]


def _pairing(first: OpenCheckpoint, second: OpenCheckpoint, pattern: str | None, a: str, b: str) -> Pairing:
    """The pairs of blocks, those without a partner left out; InputError when none is left."""
    from sparsemf.checkpoints import pair_blocks
    from sparsemf.exceptions import InputError

    def chosen(checkpoint: OpenCheckpoint, path: str) -> list[Any]:
        found = [x for name, x in checkpoint.layouts.items() if pattern is None or fnmatchcase(name, pattern)]
        if not found:
            has = _some(list(checkpoint.layouts))
            raise InputError(f"{Path(path).name}: no block matches {pattern!r}; it has {has}")
        return found

    ours, theirs = chosen(first, a), chosen(second, b)
    pairing = pair_blocks(ours, theirs)
    if not pairing.pairs:
        raise InputError(
            f"no common block: {Path(a).name} has {_some([x.name for x in ours])}, "
            f"{Path(b).name} has {_some([x.name for x in theirs])}; use --block"
        )
    return pairing


def _aligned(a: str, b: str, target: str, source: CheckpointOptions) -> dict[str, dict[str, Any]]:
    from sparsemf.pipeline.align import align_files

    found = align_files(a, b, target, activation=source.activation, map=source.map, block=source.block)
    return {record["block"]: record for record in found}


def _certified(
    first: OpenCheckpoint,
    second: OpenCheckpoint,
    pairing: Pairing,
    moved: dict[str, dict[str, Any]],
    source: CheckpointOptions,
    output: OutputOptions,
    options: dict[str, Any],
) -> _Table:
    """One pair of blocks in memory at a time; a pair that cannot be compared does not stop the others."""
    from sparsemf.exceptions import InputError
    from sparsemf.pipeline.certify import certify as run
    from sparsemf.pipeline.certify import document as as_document
    from sparsemf.pipeline.laws import law_of

    table = _Table(only_a=list(pairing.only_a), only_b=list(pairing.only_b))
    names = {"map": source.map, "activation_option": source.activation}
    with progress(output) as bar:
        task = bar.add_task("certifying", total=len(pairing.pairs))
        for pair in pairing.pairs:
            started = time.perf_counter()
            try:
                left, right = first.load(pair.a), second.load(pair.b)
                found = run(left, right, law_of(source.rho, left), **options, seed=output.seed)
            except InputError as error:
                if len(pairing.pairs) == 1:
                    raise
                table.failed.append({"block": pair.title, "reason": str(error)})
            else:
                extra = (
                    {**names, "alignment": {"checked": False, **moved[pair.title]}} if pair.title in moved else names
                )
                table.documents.append(as_document(found, left, right, source.rho, output.seed, started, extra))
            bar.advance(task)
    return table


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f", … ({len(names)} blocks)" if len(names) > 4 else "")


def _render(console: Console, found: _Table) -> None:
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for name in ("block", "verdict", "ε", "‖f_A − f_B‖ in", "matched", "unmatched", "witness gap"):
        table.add_column(name, overflow="fold")
    for doc in found.documents:
        matching, witness, upper = doc["matching"], doc["witness"], doc["bounds"]["upper"]
        table.add_row(
            _title(doc),
            doc["verdict"],
            f"{doc['eps']:.3e}",
            f"[{doc['bounds']['lower']:.3e}, {'∞' if upper is None else f'{upper:.3e}'}]",
            str(matching["matched"]),
            f"{matching['unmatched_a']} + {matching['unmatched_b']}",
            "–" if witness is None else f"{witness['gap']:.3e}",
            style={"equivalent": "green", "distinct": "red", "undecided": "yellow"}[doc["verdict"]],
        )
    for entry in found.failed:
        table.add_row(entry["block"], "failed", entry["reason"], style="red")
    console.print(table)
    for side, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            console.print(f"only in {side}: {_some(names)}", markup=False)
    records = [doc["alignment"] for doc in found.documents if doc.get("alignment")]
    if records:
        _render_alignment(console, records)


def _title(doc: dict[str, Any]) -> str:
    a, b = (doc["inputs"][side]["block"] or doc["inputs"][side]["path"] for side in "ab")
    return a if a == b or not doc["inputs"]["b"]["block"] else f"{a} = {b}"


def _render_alignment(console: Console, records: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False, title="B in A's order", title_justify="left")
    for name in ("block", "matched", "flipped", "rescaled", "flips refused", "largest distance", "problem"):
        table.add_column(name, overflow="fold")
    for record in records:
        distance = record.get("distance")
        table.add_row(
            record["block"],
            *(str(record.get(key, "–")) for key in ("matched", "flipped", "rescaled", "refused")),
            "–" if distance is None else f"{distance:.2e}",
            record.get("problem") or "",
        )
    console.print(table)
