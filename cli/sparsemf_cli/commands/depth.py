"""``sparsemf depth``: how many Hermite tensors identify the atoms of every matching block."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    sealed,
    writable,
)

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.argument("checkpoint", type=CHECKPOINT, metavar="CKPT")
@click.option("--bias/--no-bias", default=None, help="Are biases parameters of the family? Default: some is not 0.")
@click.option(
    "--free",
    type=click.Choice(["none", "offset", "affine"]),
    help="Polynomial part that is a parameter of the family. Default: what the network has.",
)
@click.option("--scales", type=float, nargs=2, metavar="LOW HIGH", help="‖w‖ among which other solutions are excluded.")
@click.option("--shifts", type=float, metavar="B", help="The same for biases: |b| ≤ B.")
@click.option("--cert", metavar="FILE", help="Write the certificate, for `sparsemf verify`.")
@click.option("--html", metavar="FILE", help="Write the HTML report.")
@checkpoint_options
@output_options()
def depth(
    checkpoint: str,
    bias: bool | None,
    free: str | None,
    scales: tuple[float, float] | None,
    shifts: float | None,
    cert: str | None,
    html: str | None,
    source: CheckpointOptions,
    output: OutputOptions,
) -> None:
    """Identifiability depths D_var and D_orb of a checkpoint's atoms, each a bracket with a certificate."""
    from sparsemf import atomic
    from sparsemf.exceptions import InputError
    from sparsemf.pipeline.depth import depth as run
    from sparsemf.pipeline.laws import law_of

    if scales is not None and not 0 < scales[0] < scales[1] < float("inf"):
        raise click.UsageError(f"--scales: expected 0 < LOW < HIGH, got {scales[0]} {scales[1]}")
    if shifts is not None and not 0 <= shifts < float("inf"):
        raise click.UsageError(f"--shifts: expected a number ≥ 0, got {shifts}")
    target = None if cert is None else writable("--cert", cert)
    page = None if html is None else writable("--html", html)
    apart({"CKPT": checkpoint, "-o": output.file, "--cert": cert, "--html": html})
    given = {"map": source.map, "activation_option": source.activation}
    documents, certificates = [], []
    with progress(output) as bar:
        for network in source.load_blocks(checkpoint):
            task = bar.add_task(network.provenance.block or network.provenance.source, total=1)
            found = run(network, law_of(source.rho, network), source.rho, bias, free, scales, shifts, output.seed)
            documents.append(found.document())
            certificates.append({**documents[-1], **given})
            bar.update(task, completed=1)
    if not documents:
        raise InputError(f"{Path(checkpoint).name}: no block whose depths could be found")
    document: dict[str, Any] = documents[0]
    if len(documents) > 1:
        document = {"schema": "sparsemf/depth/1", "results": documents}
    if target is not None:
        atomic.write_json(target, sealed(certificates))
    if page is not None:
        from sparsemf.reports import write

        write(document, page)
    emit(output, document, lambda console: _render(console, documents))


def _render(console: Console, documents: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from sparsemf.reports.views.depth import depth_points

    table = Table(show_edge=False, pad_edge=False)
    for name in ("block", "σ", "atoms", "d", "biases", "free", "D_var generic", "at the atoms", "D_orb near them"):
        table.add_column(name, overflow="fold")
    for doc in documents:
        table.add_row(
            doc["input"]["block"] or doc["input"]["path"],
            doc["input"]["activation"],
            str(doc["family"]["atoms"]),
            str(doc["family"]["d"]),
            "yes" if doc["family"]["bias"] else "no",
            doc["config"]["free"],
            _span(doc["d_var"]["generic"]),
            _span(doc["d_var"]["pointwise"]),
            _span(doc["d_orb"]["near"]),
        )
    console.print(table)
    for doc in documents:
        for line in [*depth_points(doc), *(f"note: {text}" for text in doc["warnings"])]:
            console.print(line, markup=False)


def _span(bracket: dict[str, Any]) -> str:
    low, high = bracket["lower"], bracket["upper"]
    if low == high:
        return str(low)
    return f"{low} or more" if high is None else f"{low} to {high}"
