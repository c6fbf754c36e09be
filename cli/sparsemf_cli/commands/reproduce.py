"""``sparsemf reproduce``: the four results of the abstract as experiments, with one report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from sparsemf_cli.common import OutputOptions, emit, output_options, progress
from sparsemf_cli.main import Interrupted

if TYPE_CHECKING:
    from rich.console import Console

    from sparsemf.training.task import Task

_SAMPLES = 128


@click.command()
@click.option(
    "--quick/--full", default=True, help="A quarter of an hour on two cores, or about an hour.  [default: quick]"
)
@click.option(
    "-o", "--output", "folder", metavar="OUT/", required=True, help="Runs and results; what is done is not done again."
)
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Processes of one thread each.")
@output_options(file=False)
def reproduce(quick: bool, folder: str, jobs: int, output: OutputOptions) -> None:
    """Put the four results of arXiv:2605.24710 to the test: moments, identifiability, sparse dictionary, errors.

    Writes OUT/report.html and OUT/reproduce.json.  Each answer says: holds, holds under our reading, fails when read
    literally, or undecided.  Interrupted, it continues with the same command.
    """
    from sparsemf.atomic import write_json
    from sparsemf.errors.reproduce import reproduce as tested
    from sparsemf.reports import write

    size = "quick" if quick else "full"
    try:
        with progress(output) as display:
            bars: dict[str, Any] = {}

            def show(what: str, done: int, total: int) -> None:
                if what not in bars:
                    bars[what] = display.add_task(what, total=total)
                display.update(bars[what], completed=done, total=total)

            document = tested(folder, _load, _samples(), size, jobs=jobs, watch=show)
    except KeyboardInterrupt:
        raise Interrupted(f"finished steps are kept in {folder}; give the same command to go on") from None
    write_json(Path(folder) / "reproduce.json", document)
    write(document, Path(folder) / "report.html")
    emit(output, document, lambda console: _render(console, document, folder))


def _load(name: str, parameters: Mapping[str, Any]) -> Task:
    from sparsemf_datasets import load_task

    return load_task(name, **parameters)


def _samples() -> Task:
    """128 samples of the planted tanh task in R³, as a data set."""
    from sparsemf_datasets import load_task
    from sparsemf_datasets.tasks import DataTask, PopulationTask

    task = load_task("planted-tanh", d=3, atoms=3)
    if not isinstance(task, PopulationTask):
        raise TypeError("planted tasks are populations")
    parameters = {**task.parameters, "samples": _SAMPLES, "sample_seed": 0}
    return DataTask("planted-tanh-samples", parameters, task.sample(_SAMPLES, 0), "tanh")


def _render(console: Console, document: dict[str, Any], folder: str) -> None:
    from sparsemf.reports.views.study import VERDICTS

    for number, claim in enumerate(document["claims"], 1):
        console.print(f"{number}. {claim['title']}", style="bold", markup=False)
        for answer in claim["answers"]:
            console.print(f"   {answer['statement']}: {VERDICTS[answer['verdict']]}", markup=False)
            console.print(f"      {answer['sentence']}", markup=False)
    console.print(f"report: {folder}/report.html", markup=False)
