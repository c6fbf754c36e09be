"""``sparsemf certify A B``: equivalent, distinct or undecided, with a certificate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import rich_click as click

from sparsemf_cli.common import CheckpointOptions, OutputOptions, checkpoint_options, emit, output_options, progress

if TYPE_CHECKING:
    from rich.console import Console

    from sparsemf.measures import Network

EXIT = {"equivalent": 0, "distinct": 1, "undecided": 3}
_WORST = ("distinct", "undecided", "equivalent")


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--eps", type=float, metavar="E", help="Threshold, absolute in the norm.")
@click.option("--rel-eps", type=float, metavar="E", help="Threshold relative to ‖f_A‖ (default 1e-3).")
@click.option("--norm", type=click.Choice(["l2", "sup"]), default="l2", show_default=True, help="L²(ρ), or sup.")
@click.option("--radius", type=float, metavar="R", help="Radius of the ball for --norm sup (default √d).")
@checkpoint_options
@output_options()
def certify(
    a: str,
    b: str,
    eps: float | None,
    rel_eps: float | None,
    norm: Literal["l2", "sup"],
    radius: float | None,
    source: CheckpointOptions,
    output: OutputOptions,
) -> int:
    """Are the networks in A and B the same function, up to ε?  Exit 0 equivalent, 1 distinct, 3 undecided."""
    from sparsemf.pipeline.certify import certify as run
    from sparsemf.pipeline.certify import document as as_document
    from sparsemf.pipeline.laws import law_of

    if eps is not None and rel_eps is not None:
        raise click.UsageError("--eps and --rel-eps exclude each other")
    for name, value in (("--eps", eps), ("--rel-eps", rel_eps), ("--radius", radius)):
        if value is not None and not (value > 0 and value < float("inf")):
            raise click.UsageError(f"{name}: expected a positive number, got {value}")
    if radius is not None and norm != "sup":
        raise click.UsageError("--radius goes with --norm sup")
    pairs = _pairs(list(source.load_blocks(a)), list(source.load_blocks(b)), a, b)
    documents = []
    with progress(output) as bar:
        task = bar.add_task("certifying", total=len(pairs))
        for first, second in pairs:
            started = time.perf_counter()
            found = run(first, second, law_of(source.rho, first), norm, radius, eps, rel_eps, output.seed)
            names = {"map": source.map, "activation_option": source.activation}
            documents.append(as_document(found, first, second, source.rho, output.seed, started, names))
            bar.advance(task)
    document = documents[0] if len(documents) == 1 else {"schema": "sparsemf/certify/1", "results": documents}
    emit(output, document, lambda console: _render(console, documents))
    verdicts = {d["verdict"] for d in documents}
    return EXIT[next(v for v in _WORST if v in verdicts)]


def _pairs(first: list[Network], second: list[Network], a: str, b: str) -> list[tuple[Network, Network]]:
    """Blocks of one name; two single blocks are compared whatever their names."""
    from pathlib import Path

    from sparsemf.exceptions import InputError

    if len(first) == 1 and len(second) == 1:
        return [(first[0], second[0])]
    by_name = {network.provenance.block: network for network in second}
    pairs = [(n, by_name[n.provenance.block]) for n in first if n.provenance.block in by_name]
    if not pairs:
        raise InputError(
            f"no common block: {Path(a).name} has {_names(first)}, {Path(b).name} has {_names(second)}; use --block"
        )
    return pairs


def _names(networks: list[Network]) -> str:
    names = [network.provenance.block for network in networks]
    return ", ".join(names[:4]) + (f", … ({len(names)} blocks)" if len(names) > 4 else "")


def _render(console: Console, documents: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for name in ("block", "verdict", "ε", "‖f_A − f_B‖ in", "matched", "unmatched", "witness gap"):
        table.add_column(name, overflow="fold")
    for doc in documents:
        matching, witness = doc["matching"], doc["witness"]
        table.add_row(
            doc["inputs"]["a"]["block"] or doc["inputs"]["a"]["path"],
            doc["verdict"],
            f"{doc['eps']:.3e}",
            f"[{doc['bounds']['lower']:.3e}, {doc['bounds']['upper']:.3e}]",
            str(matching["matched"]),
            f"{matching['unmatched_a']} + {matching['unmatched_b']}",
            "–" if witness is None else f"{witness['gap']:.3e}",
            style={"equivalent": "green", "distinct": "red", "undecided": "yellow"}[doc["verdict"]],
        )
    console.print(table)
