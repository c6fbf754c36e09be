"""``sparsemf chaos``: N particles coupled with N_ref by common noise, how the distance falls with N, at all times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from sparsemf_cli.common import OutputOptions, emit, output_options, progress, say, writable
from sparsemf_cli.main import Interrupted

if TYPE_CHECKING:
    from rich.console import Console

    from sparsemf.training.chaos_result import Chaos
    from sparsemf.training.config import TrainConfig
    from sparsemf.training.task import Task

_WIDTHS = "64,128,256,512,1024,2048,4096,8192"
_POSITIVE = click.FloatRange(min=0.0, min_open=True)
DEFAULTS: dict[str, Any] = {
    "sampling": "full",
    "samples": 32,
    "test_samples": 128,
    "step_size": 0.4,
    "temperature": 0.1,
    "weight_decay": 0.5,
}
RELAXATIONS = 10.0
"""Relaxation times 1/λ of a run without --steps."""


def _options(command: Any) -> Any:
    options = [
        click.option("--task", "task_name", metavar="NAME", help="A task of `sparsemf tasks`."),
        click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter of the task."),
        click.option("--data", metavar="X.npz", help="Your own data: arrays X (n, d) and y (n,) or (n, m)."),
        click.option("--activation", metavar="A", help="Activation of the student.  [default: the task's]"),
        click.option("--bias/--no-bias", default=None, help="Train biases.  [default: as the task's teacher has]"),
        click.option("--widths", metavar="N,N,…", show_default=_WIDTHS, help="Widths of the coupled systems."),
        click.option("--reference", type=click.IntRange(min=1), metavar="N", show_default="65536", help="N_ref."),
        click.option(
            "--seeds",
            "count",
            type=click.IntRange(min=2),
            metavar="S",
            show_default="16",
            help="Independent references: seeds --seed, --seed + 1, …",
        ),
        click.option(
            "--systems", type=click.IntRange(min=1), metavar="R", help="At most R systems a width.  [default: all]"
        ),
        click.option(
            "--steps", type=click.IntRange(min=1), metavar="K", help="Updates.  [default: 10 relaxation times 1/(ηλ)]"
        ),
        click.option("--times", type=click.IntRange(min=1), metavar="T", show_default="12", help="Times compared."),
        click.option("--step-size", type=_POSITIVE, metavar="E", show_default="0.4", help="Step size η."),
        click.option(
            "--temperature", type=click.FloatRange(min=0.0), metavar="T", show_default="0.1", help="Temperature τ."
        ),
        click.option(
            "--weight-decay", type=click.FloatRange(min=0.0), metavar="L", show_default="0.5", help="Weight decay λ."
        ),
        click.option(
            "--integrator", type=click.Choice(["euler", "baoab"]), show_default="euler", help="How particles move."
        ),
        click.option(
            "--sampling",
            type=click.Choice(["full", "minibatch", "fresh"]),
            show_default="full",
            help="All samples in each step, epochs, or fresh Gaussian inputs; the same for all systems.",
        ),
        click.option("--samples", type=int, metavar="n", show_default="32", help="Samples drawn of a Gaussian task."),
        click.option("--batch", type=int, metavar="B", show_default="128", help="Samples a step, where not all."),
        click.option(
            "--test-samples", type=int, metavar="n", show_default="128", help="Inputs of ‖f_N − f‖ of a Gaussian task."
        ),
        click.option(
            "--precision", type=click.Choice(["float32", "float64"]), show_default="float32", help="Arithmetic."
        ),
        click.option("--plot", "picture", metavar="FILE.svg", help="Draw distances against N and slopes against time."),
        click.option(
            "-o",
            "--output",
            "place",
            metavar="OUT/",
            help="Folder for chaos.json and what --resume needs; or a file NAME.json, without that.",
        ),
        click.option("--resume", metavar="OUT/", help="Continue an interrupted experiment."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_options
@output_options(file=False)
def chaos(
    output: OutputOptions,
    task_name: str | None,
    settings: tuple[str, ...],
    data: str | None,
    picture: str | None,
    place: str | None,
    resume: str | None,
    **options: Any,
) -> None:
    """Propagation of chaos: N particles coupled with N_ref by initial values, noise and batches.

    Measures E‖X_i − Y_i‖² and ‖f_N − f‖² over time and N, fits their slopes in the width (−1 is propagation of chaos)
    with 95 % intervals over the seeds, and says whether the slope is −1 ± 0.05 at all times together.
    """
    from sparsemf.atomic import write_text

    given = {name: value for name, value in options.items() if value is not None}
    target = None if picture is None else writable("--plot", picture)
    if resume is not None:
        _alone(given | {"task": task_name, "set": settings, "output": place})
    elif (task_name is None) == (data is None):
        raise click.UsageError("expected either --task NAME (see `sparsemf tasks`) or --data X.npz")
    elif data is not None and settings:
        raise click.UsageError("--set goes with --task")
    file = writable("-o", place) if place is not None and place.endswith(".json") else None
    folder = Path(resume) if resume is not None else None if place is None or file is not None else Path(place)
    found = _experiment(given, task_name, data, settings, folder, resume is not None, output)
    if found.status == "interrupted":
        kept = "nothing is kept: name a folder with -o OUT/"
        if folder is not None:
            kept = f"finished widths saved in {folder}; continue with: sparsemf chaos --resume {folder}"
        raise Interrupted(kept)
    document = found.to_document()
    if target is not None:
        from sparsemf.reports.figures.chaos import chaos_figure

        write_text(target, chaos_figure(document))
    _emit(output, document, file if folder is None else folder / "chaos.json")


def _emit(output: OutputOptions, document: dict[str, Any], file: Path | None) -> None:
    from dataclasses import replace

    emit(replace(output, file=file), document, lambda console: _render(console, document))


def _alone(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value:
            option = {"count": "seeds"}.get(name, name).replace("_", "-")
            raise click.UsageError(f"--resume takes its settings from the experiment: --{option} does not go with it")


def _experiment(
    given: dict[str, Any],
    task_name: str | None,
    data: str | None,
    settings: tuple[str, ...],
    folder: Path | None,
    resume: bool,
    output: OutputOptions,
) -> Chaos:
    from sparsemf.training.chaos import propagation_of_chaos, time_grid
    from sparsemf.training.chaos_store import stored_chaos
    from sparsemf_cli.commands.train import _stop_on_interrupt, _stored_task, _task

    if resume and folder is not None:
        kept = stored_chaos(folder)
        task, config = _stored_task(kept.task, data), kept.config
        widths, reference, seeds, times = kept.widths, kept.reference, kept.seeds, kept.times
        most: int | None = max(kept.systems)
        say(output, f"continuing {folder}")
    else:
        task = _task(task_name, data, settings)
        count, most = given.pop("count", 16), given.pop("systems", None)
        widths, reference = _widths(given.pop("widths", _WIDTHS)), given.pop("reference", 65536)
        seeds, points = range(output.seed, output.seed + count), given.pop("times", 12)
        config = _config(task, given, output)
        times = time_grid(config.steps, points)
    with progress(output) as display, _stop_on_interrupt() as stopped:
        bar = display.add_task(f"{task.name} · {config.activation} · {len(seeds)} references", total=1000)

        def show(done: int, total: int) -> None:
            display.update(bar, completed=1000 * done // total)

        return propagation_of_chaos(
            task, config, widths, reference, list(seeds), times,
            systems=most, out=folder, resume=resume, progress=show, interrupt=lambda: bool(stopped),
        )  # fmt: skip


def _widths(text: str) -> list[int]:
    from sparsemf.exceptions import InputError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--widths {text}: expected integers with commas, such as 64,128,256") from None


def _config(task: Task, given: dict[str, Any], output: OutputOptions) -> TrainConfig:
    import math

    from sparsemf.exceptions import InputError
    from sparsemf.training.config import TrainConfig

    activation = given.pop("activation", None) or task.activation
    if activation is None:
        raise InputError(f"task {task.name!r} suggests no activation: give --activation")
    bias = given.pop("bias", None)
    if bias is None:
        bias = task.teacher is not None and bool(task.teacher.bias.any())
    values: dict[str, Any] = {**DEFAULTS, **given}
    if "samples" not in given and (task.data is not None or values["sampling"] == "fresh"):
        del values["samples"]
    if "steps" not in values:
        rate = values["step_size"] * values["weight_decay"]
        if rate == 0:
            raise InputError("without weight decay there is no relaxation time: give the number of --steps")
        values["steps"] = max(1, math.ceil(RELAXATIONS / rate - 1e-9))
    return TrainConfig(
        activation,
        bias=bias,
        seed=output.seed,
        device=output.torch_device(),
        threads=output.threads or 0,
        **values,
    )


def _render(console: Console, document: dict[str, Any]) -> None:
    from rich.table import Table

    coupled, function = document["coupled"], document["function"]
    table = Table("step", "λt", "E‖X − Y‖² slope", "95 % band", "‖f_N − f‖² slope", "95 % band", box=None)
    for t, step in enumerate(document["times"]):
        cells = [cell for part in (coupled, function) for cell in _cells(part["slopes"], t)]
        table.add_row(str(step), f"{document['relaxation_times'][t]:.2f}", *cells)
    console.print(table)
    for line in summary(document):
        console.print(line, markup=False)


def _cells(slopes: dict[str, Any] | None, t: int) -> tuple[str, str]:
    if slopes is None:
        return "–", "–"
    low, high = slopes["band"][t]
    return f"{slopes['slope'][t]:.3f} ± {slopes['error'][t]:.3f}", f"\\[{low:.3f}, {high:.3f}]"


def summary(document: dict[str, Any]) -> list[str]:
    """What the table means, in words."""
    coupled, function = document["coupled"], document["function"]
    initial = function["initial"]
    largest = document["widths"][-1]
    lines = [
        f"{len(document['seeds'])} references of {document['reference']} particles, widths "
        f"{document['widths'][0]} to {largest}; slope: power of N in 1/N − 1/N_ref ~ N^-1; band: all times together",
        *(f"{name}: {part['slopes']['words'] if part['slopes'] else part['why_not']}"
          for name, part in (("E‖X − Y‖²", coupled), ("‖f_N − f‖²", function))),
    ]  # fmt: skip
    start = f"apart, from the random initial values: ‖f_N − f‖² at step 0 is {initial['mean'][0]:.3g} at N = "
    start += f"{document['widths'][0]} ({initial['predicted'][0]:.3g} is what independent draws give)"
    if initial["slopes"]:
        low, high = initial["slopes"]["interval"][0]
        start += f", slope {initial['slopes']['slope'][0]:.3f} [{low:.3f}, {high:.3f}]"
    return [*lines, start, f"slope -1 within ±0.05, uniformly in time: {document['uniform']}"]
