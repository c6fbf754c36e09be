"""``sparsemf scaling``: the μP check over widths, its exponents, its picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from sparsemf_cli.common import OutputOptions, emit, output_options, progress, writable
from sparsemf_cli.main import Interrupted

if TYPE_CHECKING:
    from rich.console import Console

    from sparsemf.training.scaling import Scaling


class Widths(click.ParamType):
    """64,256,1024 as a tuple of integers."""

    name = "widths"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"expected numbers separated by commas (64,256,1024), got {value!r}", param, ctx)


@click.command()
@click.option("--task", "task_name", metavar="NAME", show_default="planted-tanh", help="A task of `sparsemf tasks`.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter of the task.")
@click.option("--data", metavar="X.npz", help="Your own data: arrays X (n, d) and y (n,) or (n, m).")
@click.option("--activation", metavar="A", help="Activation of the network.  [default: the task's]")
@click.option("--bias/--no-bias", default=None, help="Train biases.  [default: as the task's teacher has]")
@click.option(
    "--widths", type=Widths(), metavar="N,N,…", show_default="64,256,1024,4096,16384", help="Widths to compare."
)
@click.option(
    "--optimizer", "integrator", type=click.Choice(["euler", "adam"]), show_default="euler", help="SGD or Adam."
)
@click.option(
    "--parametrisation",
    "parametrisations",
    type=click.Choice(["mean-field", "standard", "ntk"]),
    multiple=True,
    show_default="mean-field and standard",
    help="May be repeated.",
)
@click.option(
    "--rates",
    type=(float, float),
    metavar="LOW HIGH",
    show_default="0.125 8; adam: 0.0156 1",
    help="Where the ladder of learning rates begins; it grows until the best one lies inside.",
)
@click.option(
    "--coordinate-rate",
    type=float,
    metavar="E",
    show_default="0.1; adam: 0.01",
    help="The one learning rate of the coordinate check.",
)
@click.option("--coordinate-steps", type=int, metavar="K", show_default="32", help="Updates of the coordinate check.")
@click.option("--steps", type=int, metavar="K", show_default="150", help="Updates of a run of the sweep.")
@click.option("--batch", type=int, metavar="B", show_default="64", help="Samples an update.")
@click.option("--seeds", type=int, metavar="S", show_default="4", help="Runs of each learning rate.")
@click.option(
    "--precision", type=click.Choice(["float32", "float64"]), show_default="float32", help="Arithmetic of the sweep."
)
@click.option(
    "-o", "--output", "folder", metavar="OUT/", help="Folder of scaling.json and of the points; a second call resumes."
)
@click.option("--plot", "picture", metavar="FILE.svg", help="Draw sizes, losses and best rates against the width.")
@output_options(file=False)
def scaling(
    output: OutputOptions,
    task_name: str | None,
    settings: tuple[str, ...],
    data: str | None,
    folder: str | None,
    picture: str | None,
    parametrisations: tuple[str, ...],
    **options: Any,
) -> None:
    """The μP check: typical sizes in the network and the best learning rate, over widths.

    In the mean-field scaling (μP) neither the change of the features nor the best learning rate depends on the width;
    under the standard parametrisation both drift.  Prints exponents of the width with 95 % intervals beside theory.
    """
    if data is not None and (task_name is not None or settings):
        raise click.UsageError("expected either --task NAME with --set, or --data X.npz")

    from sparsemf.atomic import write_text
    from sparsemf.exceptions import InputError
    from sparsemf.training.scaling import ScalingConfig
    from sparsemf_cli.commands.train import _task

    target = None if picture is None else writable("--plot", picture)
    task = _task(None if data is not None else task_name or "planted-tanh", data, settings)
    given = {name: value for name, value in options.items() if value is not None}
    activation = given.pop("activation", None) or task.activation
    if activation is None:
        raise InputError(f"task {task.name!r} suggests no activation: give --activation")
    given.setdefault("bias", task.teacher is not None and bool(task.teacher.bias.any()))
    if parametrisations:
        given["parametrisations"] = tuple(dict.fromkeys(parametrisations))
    given |= {"seed": output.seed, "device": output.torch_device(), "threads": output.threads or 1}
    result = _check(task, ScalingConfig(activation, **given), folder, output)
    if result.status == "interrupted":
        kept = (
            "nothing was saved (no -o OUT/)" if folder is None else f"finished widths saved in {folder}; run it again"
        )
        raise Interrupted(kept)
    document = result.to_document()
    if target is not None:
        from sparsemf.reports.figures.scaling import scaling_figure

        write_text(target, scaling_figure(document))
    emit(output, document, lambda console: _render(console, document))


def _check(task: Any, config: Any, folder: str | None, output: OutputOptions) -> Scaling:
    from sparsemf.training.scaling import scaling_check
    from sparsemf_cli.commands.train import _stop_on_interrupt

    with progress(output) as display, _stop_on_interrupt() as stopped:
        bar = display.add_task(f"{task.name} · {config.activation}", total=None)

        def show(what: str, done: int, total: int) -> None:
            display.update(bar, description=f"{task.name} · {config.activation} · {what}", completed=done, total=total)

        where = None if folder is None else Path(folder)
        return scaling_check(task, config, where, progress=show, interrupt=lambda: bool(stopped))


def _render(console: Console, document: dict[str, Any]) -> None:
    from rich.table import Table

    names = document["quantities"]
    last = document["config"]["coordinate_steps"]
    table = Table("parametrisation", "size", "update", "theory", "N^s, s =", "95 %", "agrees", box=None)
    for row in document["size_slopes"]:
        if row["step"] not in (0, 1, last) or (row["quantity"] == "f") != (row["step"] == 0):
            continue
        agrees = {None: "–", True: "yes", False: "no"}[row["agrees"]]
        cells = _signed(row["predicted"]), _signed(row["slope"]), _interval(row["interval"]), agrees
        table.add_row(row["parametrisation"], names[row["quantity"]], str(row["step"]), *cells)
    console.print(table)
    rates = Table("parametrisation", "N", "best learning rate", "95 %", "found by", box=None)
    for rate in document["rate_slopes"]:
        for one in rate["best"]:
            low, high = one["interval"]
            shown = "–" if low is None else f"{low:.3g} … {high:.3g}"
            value = "–" if one["rate"] is None else f"{one['rate']:.4g}"
            rates.add_row(rate["parametrisation"], str(one["width"]), value, shown, one["how"])
    console.print(rates)
    for line in summary(document):
        console.print(line, markup=False)


def summary(document: dict[str, Any]) -> list[str]:
    """The verdicts in words."""
    lines = [f"{rate['sentence']}; theory {_signed(rate['predicted'])}" for rate in document["rate_slopes"]]
    rows = [row for row in document["size_slopes"] if row["agrees"] is False]
    named = [f"{row['parametrisation']} {row['quantity']} at update {row['step']}" for row in rows]
    lines.append("sizes that scale otherwise than predicted: " + (", ".join(named) or "none"))
    unsure = sum(row["agrees"] is None and row["predicted"] is not None for row in document["size_slopes"])
    if unsure:
        lines.append(f"{unsure} exponents of sizes are too uncertain to compare: take more seeds or widths")
    return lines + [f"note: {text}" for text in document["warnings"]]


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{round(value, 2) + 0.0:+.2f}"


def _interval(ends: list[float | None]) -> str:
    return "–" if ends[0] is None or ends[1] is None else f"{_signed(ends[0])} … {_signed(ends[1])}"
