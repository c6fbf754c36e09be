"""``sparsemf inspect``: what is in a file, which blocks are found, what would be done with them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import rich_click as click

from sparsemf_cli.checkpoint import CHECKPOINT
from sparsemf_cli.common import CheckpointOptions, OutputOptions, checkpoint_options, emit, output_options

if TYPE_CHECKING:
    from rich.console import Console

    from sparsemf.checkpoints import Inspection

SCHEMA_VERSION = 1
_SHOWN_TENSORS = 60


@click.command()
@click.argument("checkpoint", type=CHECKPOINT, metavar="CKPT")
@checkpoint_options
@output_options()
def inspect(checkpoint: str, source: CheckpointOptions, output: OutputOptions) -> None:
    """Show what a checkpoint holds, which two-layer blocks are found in it, and what is not understood.

    Nothing in the file is executed.  The exit code is 4 when the file is no checkpoint or when none of its blocks
    could be loaded for a reason that lies in the file.
    """
    from sparsemf import atomic
    from sparsemf.checkpoints import BadFile
    from sparsemf.checkpoints import inspect as look

    inspection = look(checkpoint, source.block, activation=source.activation, map=source.map)
    if inspection.blocks and all(block.problem for block in inspection.blocks):
        raise BadFile(checkpoint, str(inspection.blocks[0].problem))
    document = atomic.header("inspect", SCHEMA_VERSION)
    document["input"] = {"path": inspection.source, "sha256": inspection.sha256, "size_bytes": inspection.size_bytes}
    document["config"] = asdict(source)
    document |= {
        "format": inspection.format,
        "metadata": inspection.metadata,
        "blocks": [asdict(block) for block in inspection.blocks],
        "tensors": [asdict(tensor) for tensor in inspection.tensors],
        "not_understood": [asdict(remark) for remark in inspection.not_understood],
    }
    emit(output, document, lambda console: _render(console, inspection))


def _render(console: Console, inspection: Inspection) -> None:
    from rich.table import Table
    from rich.text import Text

    console.print(
        Text(inspection.source, style="bold")
        + Text(f"  {inspection.format}, {inspection.size_bytes:,} bytes, {len(inspection.tensors)} tensors")
    )
    console.print(Text(f"sha256 {inspection.sha256}", style="dim"))
    for key, value in inspection.metadata.items():
        console.print(Text(f"{key}: {value}", style="dim"))

    if inspection.blocks:
        table = Table(title="Two-layer blocks", title_justify="left")
        for column in ("block", "kind", "d → width → m", "activation", "LayerNorm", "type", "state"):
            table.add_column(column, overflow="fold")
        for block in inspection.blocks:
            named = f"{block.activation} ({block.activation_from})" if block.activation else "unknown"
            cells = (
                block.name,
                block.kind,
                f"{block.d} → {block.width} → {block.m}",
                named,
                block.layernorm or "–",
                block.precision,
                block.problem or ("ready" if block.activation else "needs --activation"),
            )
            table.add_row(*(Text(cell) for cell in cells))
        console.print(table)
    else:
        console.print("No two-layer block found; name its tensors with --map inner=…,outer=….")
    if inspection.not_understood:
        table = Table(title="Left aside", title_justify="left")
        table.add_column("name", overflow="fold")
        table.add_column("why", overflow="fold")
        for remark in inspection.not_understood:
            table.add_row(Text(remark.name), Text(remark.reason))
        console.print(table)
    table = Table(title="Tensors", title_justify="left")
    for column in ("name", "shape", "type"):
        table.add_column(column, overflow="fold")
    for tensor in inspection.tensors[:_SHOWN_TENSORS]:
        table.add_row(Text(tensor.name), Text(str(tensor.shape)), Text(tensor.dtype))
    console.print(table)
    hidden = len(inspection.tensors) - _SHOWN_TENSORS
    if hidden > 0:
        console.print(f"… and {hidden} more (all of them with --json)")
