"""``sparsemf budget``: where the error of a trained measure comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from sparsemf_cli.common import OutputOptions, emit, output_options, progress, writable
from sparsemf_cli.main import Interrupted

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.argument("config", metavar="CONFIG.toml", type=click.Path())
@click.option(
    "-o", "--output", "folder", metavar="OUT/", required=True, help="Runs and result; finished runs are not run again."
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes of one thread each.")
@click.option("--seeds", type=click.IntRange(min=2), metavar="S", help="Repetitions.  [default: the file's]")
@click.option("--html", metavar="FILE.html", help="Write a report.")
@output_options(file=False)
def budget(config: str, folder: str, jobs: int, seeds: int | None, html: str | None, output: OutputOptions) -> None:
    """The error of a trained measure as a sum of terms, and the rates at which they vanish.

    Statistical (samples), optimization (time and step size), propagation of chaos (particles), entropic (temperature)
    and sparse residual (atoms), each with a 95 % interval over repetitions, the sum checked against the total.
    CONFIG.toml may be tanh-quick, relu-quick, tanh-full or relu-full.  Writes OUT/budget.json; interrupted, it
    continues with the same command.
    """
    from sparsemf.atomic import write_json
    from sparsemf.errors.budget import budget as measured
    from sparsemf.errors.config import BudgetConfig
    from sparsemf_datasets import load_task

    target = None if html is None else writable("--html", html)
    asked = BudgetConfig.read(config).with_seeds(seeds, None)
    task = load_task(asked.task, **asked.parameters)
    device = output.torch_device() if output.device == "cuda" else "cpu"
    try:
        with progress(output) as display:
            bar = display.add_task(f"{task.name} · {asked.seeds} repetitions", total=None)

            def show(done: int, total: int) -> None:
                display.update(bar, completed=done, total=total)

            found = measured(asked, task, folder, jobs=jobs, device=device, watch=show)
    except KeyboardInterrupt:
        raise Interrupted(f"finished runs are kept in {folder}; give the same command to go on") from None
    document = found.document()
    write_json(Path(folder) / "budget.json", document)
    if target is not None:
        from sparsemf.reports import write

        write(document, target)
    emit(output, document, lambda console: _render(console, document))


def _render(console: Console, document: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("term", "‖·‖", "95 %", "what changes", box=None)
    for term in document["terms"]:
        table.add_row(term["name"], f"{term['mean']:.3g}", _interval(term), term["meaning"])
    for name, words in (("sum", "of the terms"), ("total", "‖f* − f_S‖ as measured")):
        table.add_row(name, f"{document[name]['mean']:.3g}", _interval(document[name]), words, style="bold")
    console.print(table)
    for line in document["sentences"]:
        console.print(line, markup=False)
    for line in document["warnings"]:
        console.print(f"note: {line}", markup=False)


def _interval(estimate: dict[str, Any]) -> str:
    low, high = estimate["interval"]
    return f"{low:.3g} … {high:.3g}"
