"""``sparsemf compress``: a copy of a checkpoint whose blocks have few neurons, with certified errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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

    from sparsemf.recovery import Progress


@click.command()
@click.argument("checkpoint", type=CHECKPOINT, metavar="CKPT")
@click.option("--width", type=click.IntRange(min=0), metavar="S", help="Neurons of every compressed block.")
@click.option("--rel-eps", type=float, metavar="E", help="Few neurons, within this error relative to ‖f‖.")
@click.option("--eps", type=float, metavar="E", help="The same, absolute in L²(ρ).")
@click.option(
    "-o", "--output", "out", metavar="OUT", required=True, help="The compressed checkpoint, of CKPT's format."
)
@click.option("--pad", is_flag=True, help="Keep the tensors' shapes: neurons beyond S are zero.")
@click.option("--cert", metavar="FILE", help="Write the certificates of the errors, for `sparsemf verify`.")
@click.option("--html", metavar="FILE", help="Write the HTML report.")
@click.option("--document", metavar="FILE", help="Write the JSON document that --json prints.")
@checkpoint_options
@output_options(file=False)
def compress(
    checkpoint: str,
    width: int | None,
    rel_eps: float | None,
    eps: float | None,
    out: str,
    pad: bool,
    cert: str | None,
    html: str | None,
    document: str | None,
    source: CheckpointOptions,
    output: OutputOptions,
) -> None:
    """Write a copy of CKPT whose blocks have few neurons: by the staircase's explicit networks, rounded to its types.

    For every block the certified error of what was written stands beside the certified limit: no network of as many
    neurons comes closer.  What the format has no tensor for (an affine part, an output bias) is done without.
    """
    from sparsemf import atomic
    from sparsemf.pipeline.compress import Goal
    from sparsemf.pipeline.compress_file import compress_file

    given = [name for name, value in (("--width", width), ("--rel-eps", rel_eps), ("--eps", eps)) if value is not None]
    if len(given) != 1:
        raise click.UsageError(f"expected one of --width, --rel-eps, --eps, got {' and '.join(given) or 'none'}")
    for name, value in (("--eps", eps), ("--rel-eps", rel_eps)):
        if value is not None and not (value > 0 and value < float("inf")):
            raise click.UsageError(f"{name}: expected a positive number, got {value}")
    target = writable("-o", out)
    others = {"--cert": cert, "--html": html, "--document": document}
    cert_file, html_file, document_file = (
        None if name is None else writable(option, name) for option, name in others.items()
    )
    apart({"CKPT": checkpoint, "-o": out, **others})
    with progress(output) as bar:

        @contextmanager
        def watched(block: str) -> Iterator[Progress]:
            task = bar.add_task(block, total=100)

            def show(stage: str, fraction: float) -> None:
                bar.update(task, description=f"{block}: {stage}", completed=int(100 * fraction))

            yield show
            bar.update(task, description=block, completed=100)

        found = compress_file(
            checkpoint,
            target,
            Goal(width, eps, rel_eps),
            watched,
            source.rho,
            source.block,
            source.activation,
            source.map,
            pad,
            output.seed,
        )
    whole: dict[str, Any] = found.documents[0]
    if len(found.documents) > 1:
        whole = {"schema": whole["schema"], "results": found.documents}
    if cert_file is not None:
        atomic.write_json(cert_file, sealed(found.certificates))
    if html_file is not None:
        from sparsemf.reports import write

        write(whole, html_file)
    if document_file is not None:
        atomic.write_json(document_file, whole)
    emit(output, whole, lambda console: _render(console, found.documents, Path(out), cert_file))


def _render(console: Console, documents: list[dict[str, Any]], out: Path, cert: Path | None) -> None:
    from rich.table import Table

    from sparsemf.reports.views.compress import HEAD, compress_row

    table = Table(*HEAD, show_edge=False, pad_edge=False)
    for document in documents:
        table.add_row(*compress_row(document))
    console.print(table)
    console.print(f"written: {out}" + ("" if cert is None else f"; certificates: {cert}"), markup=False)
    for line in documents[0]["advice"]:
        console.print(f"note: {line}", markup=False)
