"""``sparsemf analyze``: sparse dictionary and certified S* staircase of every matching block."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from sparsemf_cli.checkpoint import CHECKPOINT
from sparsemf_cli.common import (
    CheckpointOptions,
    OutputOptions,
    affine_option,
    apart,
    checkpoint_options,
    emit,
    output_options,
    progress,
    sealed,
    writable,
)

if TYPE_CHECKING:
    from rich.console import Console

    from sparsemf.measures import Network
    from sparsemf.pipeline.analysis import Analysis


@click.command()
@click.argument("checkpoint", type=CHECKPOINT, metavar="CKPT")
@click.option("--eps", type=float, metavar="E", help="S* at this error, absolute in L²(ρ), instead of the plateau.")
@click.option("--rel-eps", type=float, metavar="E", help="The same relative to ‖f‖.")
@click.option(
    "--resolution",
    type=click.FloatRange(min=0.0, min_open=True),
    default=1e-6,
    show_default=True,
    help="Least error, relative to ‖f‖ without its affine part, on which plateaus are compared.",
)
@affine_option
@click.option(
    "--effort",
    type=click.Choice(["quick", "usual", "thorough"]),
    default="usual",
    show_default=True,
    help="How hard explicit networks are looked for; thorough takes some five times as long and lowers U(S).",
)
@click.option(
    "--cert",
    metavar="FILE",
    help="Write the sparsity certificate, for `sparsemf verify`; where no staircase is known, that of the exact count.",
)
@click.option("--exact-cert", metavar="FILE", help="Write the certificate of the exact count at ε = 0.")
@click.option("--html", metavar="FILE", help="Write the HTML report.")
@checkpoint_options
@output_options()
def analyze(
    checkpoint: str,
    eps: float | None,
    rel_eps: float | None,
    resolution: float,
    affine: str,
    effort: str,
    cert: str | None,
    exact_cert: str | None,
    html: str | None,
    source: CheckpointOptions,
    output: OutputOptions,
) -> None:
    """Active component, quotient, atoms and certified S* staircase of a checkpoint."""
    from sparsemf import atomic
    from sparsemf.exceptions import InputError
    from sparsemf.pipeline.analyze import analyze as run
    from sparsemf.pipeline.laws import law_of
    from sparsemf.reports import training_curves

    if eps is not None and rel_eps is not None:
        raise click.UsageError("--eps and --rel-eps exclude each other")
    for name, value in (("--eps", eps), ("--rel-eps", rel_eps)):
        if value is not None and not (value > 0 and value < float("inf")):
            raise click.UsageError(f"{name}: expected a positive number, got {value}")
    cert_file, exact_file, html_file = (
        None if name is None else writable(option, name)
        for option, name in (("--cert", cert), ("--exact-cert", exact_cert), ("--html", html))
    )

    apart({"CKPT": checkpoint, "-o": output.file, "--cert": cert, "--exact-cert": exact_cert, "--html": html})

    def one(network: Network, bar: Any) -> Analysis:
        task = bar.add_task(network.provenance.block or network.provenance.source, total=100)

        def show(stage: str, fraction: float) -> None:
            bar.update(task, description=stage, completed=int(100 * fraction))

        law = law_of(source.rho, network)
        found = run(network, law, source.rho, eps, rel_eps, resolution, effort, show, affine)
        bar.update(task, completed=100)
        return found

    documents, certificates, exact = [], [], []
    given = {"map": source.map, "activation_option": source.activation}
    with progress(output) as bar:
        for network in source.load_blocks(checkpoint):
            found = one(network, bar)
            documents.append({**found.document(), **_training(Path(checkpoint), training_curves)})
            if cert_file is not None:
                certificates.append({**found.certificate(), **given})
                confirm(documents[-1], certificates[-1])
            if exact_file is not None:
                exact.append({**found.exact_certificate(), **given})
    if not documents:
        raise InputError(f"{Path(checkpoint).name}: no block to analyze")
    document = documents[0] if len(documents) == 1 else {"schema": "sparsemf/analyze/1", "results": documents}
    for file, found in ((cert_file, certificates), (exact_file, exact)):
        if file is not None:
            atomic.write_json(file, sealed(found))
    if html_file is not None:
        from sparsemf.reports import write

        write(document, html_file)
    emit(output, document, lambda console: _render(console, documents))


def confirm(document: dict[str, Any], certificate: dict[str, Any]) -> None:
    """Record in the document what the independent checker confirmed of it."""
    star, claim = document["s_star"], certificate["claim"]
    star["confirmed"] = bool(claim["certified"]) if star["certified"] else None
    if star["certified"] and not claim["certified"]:
        document["warnings"].append(
            f"the independent checker confirms only S* ≤ {claim['upper']} for ε ≥ {claim['eps'][0]:.3g}"
            if certificate["schema"] != "sparsemf/exact/1"
            else f"the independent checker confirms only {claim['lower']} ≤ S* ≤ {claim['upper']} at ε = 0"
        )


def _training(checkpoint: Path, curves: Any) -> dict[str, Any]:
    found = curves(checkpoint.parent) if (checkpoint.parent / "metrics.jsonl").exists() else None
    return {} if found is None else {"training": found}


_FREE = {
    2: "polynomials of degree ≤ 2",
    1: "an affine function",
    0: "a constant only; the linear part is charged to the atoms",
    -1: "nothing; polynomial parts are charged to the atoms",
}
"""What is not counted, by its degree."""


def _render(console: Console, documents: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title=None, show_edge=False, pad_edge=False)
    for name in ("block", "σ", "width", "active", "atoms", "S*", "certified for ε/‖f‖ in", "strength", "affine energy"):
        table.add_column(name, overflow="fold")
    for doc in documents:
        s, norm = doc["s_star"], doc["function_norm"] or 1.0
        low, high = s["eps"]
        span = (
            f"[{low / norm:.2e}, {'∞' if high is None else f'{high / norm:.2e}'})"
            if s["certified"]
            else (f"no: in [{s['lower']}, {s['upper']}] at {low / norm:.2e}")
        )
        if s["kind"].startswith("exact"):
            span = "ε = 0, exactly" if s["certified"] else f"no: in [{s['lower']}, {s['upper']}] at 0"
        energy = doc["energy"]
        table.add_row(
            doc["input"]["block"] or doc["input"]["path"],
            doc["input"]["activation"],
            str(doc["input"]["width"]),
            str(doc["active"]["width"]),
            str(doc["quotient"]["width"]),
            str(s["value"]),
            span,
            "–" if s["strength"] is None else f"{s['strength']:.3g}",
            f"{100 * (energy['constant'] + energy['linear']):.1f} %" if energy else "–",
        )
    console.print(table)
    for words in dict.fromkeys(_FREE[doc["free_degree"]] for doc in documents if doc["free_degree"] in _FREE):
        console.print(f"free: {words}")
    for doc in documents:
        for warning in doc["warnings"]:
            console.print(f"note: {doc['input']['block'] or doc['input']['path']}: {warning}")
    if len(documents) == 1:
        _render_staircase(console, documents[0])


def _render_staircase(console: Console, doc: dict[str, Any]) -> None:
    from rich.table import Table

    stairs, value = doc["staircase"], doc["s_star"]["value"]
    norm = doc["function_norm"] or 1.0
    table = Table(show_edge=False, pad_edge=False)
    for name in ("S", "some network of S atoms comes within", "none comes closer than"):
        table.add_column(name)
    shown = sorted({*range(min(9, len(stairs))), *range(max(value - 1, 0), min(value + 2, len(stairs)))})
    for row in (stairs[i] for i in shown):
        style = "bold" if row["S"] == value else None
        table.add_row(str(row["S"]), f"{row['upper'] / norm:.3e} ‖f‖", f"{row['lower'] / norm:.3e} ‖f‖", style=style)
    console.print(table)
