"""``sparsemf cell``: the learning cell (w*, D*_orb, S*) of checkpoints, compared in one table."""

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
    writable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from sparsemf.measures import Network


@click.command()
@click.argument("checkpoints", type=CHECKPOINT, metavar="CKPT …", nargs=-1)
@click.option("--task", "task_name", metavar="NAME", help="The teacher of a task, instead of a checkpoint.")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter of the task; may be repeated."
)
@click.option("--data", metavar="X.npz", help="The run's data file, where it has moved (needed for a drift bound).")
@click.option("--html", metavar="FILE", help="Write the HTML report.")
@affine_option
@checkpoint_options
@output_options()
def cell(
    checkpoints: tuple[str, ...],
    task_name: str | None,
    settings: tuple[str, ...],
    data: str | None,
    html: str | None,
    affine: str,
    source: CheckpointOptions,
    output: OutputOptions,
) -> None:
    """The learning cell (w*, D*_orb, S*): which moments the flow keeps, at which degree atoms are identified, how many.

    CKPT may be the folder of a run.  Several checkpoints, of several activations or temperatures say, give one table.
    """
    from sparsemf.exceptions import InputError
    from sparsemf.pipeline.cell import cell as run
    from sparsemf.pipeline.laws import law_of
    from sparsemf_cli.commands.train import _stored_task

    if bool(checkpoints) == (task_name is not None):
        raise click.UsageError("expected either CKPT … or --task NAME")
    target = None if html is None else writable("--html", html)
    for name in checkpoints:
        apart({"CKPT": name, "-o": output.file, "--html": html})
    documents: list[dict[str, Any]] = []
    with progress(output) as bar:
        for network, folder in _networks(checkpoints, task_name, settings, source):
            task = bar.add_task(network.provenance.block or network.provenance.source, total=100)

            def show(stage: str, fraction: float, task: Any = task) -> None:
                bar.update(task, description=stage, completed=int(100 * fraction))

            found = run(
                network, law_of(source.rho, network), source.rho, folder, lambda record: _stored_task(record, data),
                output.seed, show, affine,
            )  # fmt: skip
            documents.append(found.document())
            if folder is not None:
                documents[-1] |= _training(folder)
            bar.update(task, completed=100)
    if not documents:
        raise InputError(f"{', '.join(checkpoints)}: no block to look at")
    document: dict[str, Any] = documents[0]
    if len(documents) > 1:
        document = {"schema": "sparsemf/cell/1", "results": documents}
    if target is not None:
        from sparsemf.reports import write

        write(document, target)
    emit(output, document, lambda console: _render(console, documents))


def _networks(
    checkpoints: tuple[str, ...], task_name: str | None, settings: tuple[str, ...], source: CheckpointOptions
) -> Iterator[tuple[Network, Path | None]]:
    """Networks with the folders of their runs."""
    from sparsemf.exceptions import InputError
    from sparsemf_cli.commands.train import _task

    if task_name is not None:
        teacher = _task(task_name, None, settings).teacher
        if teacher is None:
            raise InputError(f"task {task_name!r} has no teacher network; name a checkpoint")
        yield teacher.tagged(source=task_name), None
    for name in checkpoints:
        path = Path(name)
        if path.is_dir() and (path / "measure.safetensors").is_file():
            path /= "measure.safetensors"
        run = path.parent if (path.parent / "run.json").is_file() else None
        for network in source.load_blocks(path):
            yield network, run


def _training(folder: Path) -> dict[str, Any]:
    """Temperature and weight decay of the run, for comparing cells."""
    import json

    try:
        config = json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError):
        return {}
    ends = {name: config[name]["final"] or config[name]["initial"] for name in ("temperature", "weight_decay")}
    return {"run": {"folder": folder.resolve().name, **ends, "width": config["width"], "steps": config["steps"]}}


def _render(console: Console, documents: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from sparsemf.reports.views.cell import HEAD, cell_name, cell_row

    table = Table(*HEAD, box=None)
    for document in documents:
        table.add_row(*cell_row(document))
    console.print(table)
    for document in documents:
        name = cell_name(document)
        w, d = document["w_star"], document["d_orb"]
        console.print(f"{name}: w* is {w['kind']}: {w['of']}", markup=False)
        console.print(
            f"{name}: D*_orb is that of {d['of']}" + (f"; {d['reason']}" if d["reason"] else ""), markup=False
        )
        for line in document["warnings"]:
            console.print(f"note: {line}", markup=False)
