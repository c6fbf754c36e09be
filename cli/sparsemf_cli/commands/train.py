"""``sparsemf train``: options to a configuration, a run, its summary."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from sparsemf_cli.common import OutputOptions, emit, output_options, progress, say
from sparsemf_cli.main import Interrupted

if TYPE_CHECKING:
    from rich.console import Console

    from sparsemf.training import Record, Run, Schedule, Task, TrainConfig
    from sparsemf.training.ensemble import Ensemble
    from sparsemf.training.ranks import Ranks

_KINDS = ["constant", "linear", "cosine", "exponential"]
_FRACTION = click.FloatRange(0.0, 1.0)


def _annealed(flag: str, letter: str, meaning: str, default: str) -> list[Any]:
    """--X, --X-final, --X-schedule, --X-window of an annealed quantity."""
    return [
        click.option(f"--{flag}", type=float, metavar=letter, show_default=default, help=meaning),
        click.option(f"--{flag}-final", type=float, metavar=letter, help="Its final value."),
        click.option(
            f"--{flag}-schedule", type=click.Choice(_KINDS), help="How it gets there.  [default: exponential]"
        ),
        click.option(
            f"--{flag}-window",
            type=(_FRACTION, _FRACTION),
            metavar="FROM TO",
            help="Fractions of the run.  [default: 0 1]",
        ),
    ]


def _options(command: Any) -> Any:
    options = [
        click.option("--task", "task_name", metavar="NAME", help="A task of `sparsemf tasks`."),
        click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter of the task."),
        click.option("--data", metavar="X.npz", help="Your own data: arrays X (n, d) and y (n,) or (n, m)."),
        click.option("--activation", metavar="A", help="Activation of the student.  [default: the task's]"),
        click.option("--width", type=int, metavar="N", show_default="1024", help="Number of particles."),
        click.option("--bias/--no-bias", default=None, help="Train biases.  [default: as the task's teacher has]"),
        click.option(
            "--loss",
            type=click.Choice(["square", "huber", "logistic", "softmax"]),
            show_default="square",
            help="Loss; logistic and softmax take labels from --data or a data task.",
        ),
        click.option("--huber-delta", type=float, metavar="D", show_default="1.0", help="δ of the Huber loss."),
        *_annealed("temperature", "T", "Temperature τ.", "1e-3, annealed to 1e-8"),
        *_annealed("weight-decay", "L", "Weight decay λ.", "3e-2, annealed to 1e-5"),
        *_annealed("step-size", "E", "Step size η of the mean-field update.", "0.3, annealed to 0.03"),
        click.option(
            "--integrator",
            type=click.Choice(["euler", "baoab", "adam"]),
            show_default="euler",
            help="Euler-Maruyama, underdamped Langevin, or Adam (which samples no stated law).",
        ),
        click.option("--friction", type=float, metavar="G", show_default="1.0", help="Friction γ of baoab."),
        click.option("--steps", type=int, metavar="K", show_default="20000", help="Number of updates."),
        click.option(
            "--until-stationary",
            "until",
            flag_value="stationary",
            default=None,
            help="Stop when found stationary; --steps is then the budget.",
        ),
        click.option(
            "--outer",
            type=click.Choice(["trained", "bounded", "fixed"]),
            show_default="trained",
            help="Outer weights; bounded: a = B·tanh(α/B).",
        ),
        click.option("--outer-bound", type=float, metavar="B", show_default="10.0", help="Bound of --outer bounded."),
        click.option(
            "--parametrisation",
            type=click.Choice(["mean-field", "standard", "ntk"]),
            show_default="mean-field",
            help="μP, or what it is compared with.",
        ),
        click.option(
            "--sampling",
            type=click.Choice(["auto", "fresh", "minibatch", "full"]),
            show_default="auto",
            help="Fresh Gaussian inputs, epochs of minibatches, or all samples in each step.",
        ),
        click.option("--batch", type=int, metavar="B", show_default="128", help="Samples a step."),
        click.option(
            "--anchor-every",
            type=int,
            metavar="K",
            show_default="0",
            help="Control variate of minibatches: steps between full gradients; 0: none.",
        ),
        click.option("--samples", type=int, metavar="n", help="Size of the training set drawn from a Gaussian task."),
        click.option(
            "--init-outer", type=click.Choice(["sign", "gaussian", "one"]), show_default="gaussian", help="Law of a."
        ),
        click.option("--init-scale", type=float, show_default="1", help="Standard deviation of w, times √d."),
        click.option("--init-tail", type=int, metavar="NU", help="Student initialisation of that many degrees."),
        click.option(
            "--compute",
            type=click.Choice(["float32", "tf32", "bf16"]),
            show_default="float32",
            help="Operands of matrix products on CUDA.",
        ),
        click.option(
            "--precision", type=click.Choice(["float32", "float64"]), show_default="float32", help="Arithmetic."
        ),
        click.option("--metrics-every", type=int, metavar="K", show_default="100", help="Steps between records."),
        click.option(
            "--checkpoint-every", type=int, metavar="K", show_default="2000", help="Steps between checkpoints."
        ),
        click.option("--test-samples", type=int, metavar="n", show_default="4096", help="Inputs of the test error."),
        click.option(
            "--block", type=int, metavar="n", show_default="4194304", help="Pre-activations in memory at a time."
        ),
        click.option("--replicas", type=int, metavar="R", help="Ensemble: seeds S … S + R − 1, in RUN/*/."),
        click.option("--temperatures", metavar="T,T,…", help="Ensemble over these constant temperatures."),
        click.option("--widths", metavar="N,N,…", help="Ensemble over these widths."),
        click.option("--tensorboard", metavar="DIR/", help="Write TensorBoard's event files too (extra tensorboard)."),
        click.option("-o", "--output", "folder", metavar="RUN/", help="Folder of the run; made if needed."),
        click.option("--resume", metavar="RUN/", help="Continue this run from its last checkpoint."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_options
@output_options(file=False)
def train(
    output: OutputOptions,
    task_name: str | None,
    settings: tuple[str, ...],
    data: str | None,
    folder: str | None,
    resume: str | None,
    tensorboard: str | None,
    **options: Any,
) -> None:
    """Train a long-time μP measure by noisy gradient descent in the mean-field scaling.

    f(x) = (1/N) Σ a_i σ(⟨w_i, x⟩ + b_i), weight decay L, temperature T.  Writes RUN/measure.safetensors,
    RUN/metrics.jsonl, RUN/moments.jsonl and RUN/run.json.  A value given for --temperature, --weight-decay or
    --step-size is held constant unless its --…-final is given too.  With --replicas, --temperatures or --widths all
    of them are trained in one go, a run's folder each in RUN/.  Under `torchrun` the particles are spread over ranks.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if resume is not None:
        _refuse(
            given | {"task": task_name, "set": settings, "output": folder}, "--resume takes its settings from the run"
        )
    elif folder is None:
        raise click.UsageError("expected -o RUN/ (a folder for the run) or --resume RUN/")
    elif (task_name is None) == (data is None):
        raise click.UsageError("expected either --task NAME (see `sparsemf tasks`) or --data X.npz")
    elif data is not None and settings:
        raise click.UsageError("--set goes with --task")

    from sparsemf.training import stored_run

    lists = None
    if resume is not None:
        stored = stored_run(resume)
        config, where = stored.config, Path(resume)
        task = _stored_task(stored.task, data)
    else:
        task = _task(task_name, data, settings)
        lists = _lists(given)
        config, where = _config(task, given, output), Path(folder or "")
    if lists is not None:
        if tensorboard is not None:
            raise click.UsageError("--tensorboard goes with a single run")
        _train_ensemble(task, config, where, lists, output)
        return
    from sparsemf.training.ranks import ranks_of_environment

    with ranks_of_environment(config.device) as ranks:
        run = _run(task, config, where, resume is not None, output, ranks, tensorboard)
        speaks = ranks.first
    if not speaks:
        return
    if run.status == "interrupted":
        raise Interrupted(f"state saved in {where} at step {run.step}; continue with: sparsemf train --resume {where}")
    emit(output, run.to_document(), lambda console: _render(console, run))


def _lists(given: dict[str, Any]) -> dict[str, list[Any]] | None:
    """Take the lists of an ensemble out of ``given``; None when there is none."""
    replicas, heats, widths = (given.pop(name, None) for name in ("replicas", "temperatures", "widths"))
    if replicas is None and heats is None and widths is None:
        return None
    if replicas is not None and replicas < 1:
        raise click.UsageError(f"--replicas: expected a number ≥ 1, got {replicas}")

    def parsed(text: str | None, kind: Any, flag: str) -> list[Any]:
        try:
            return [] if text is None else [kind(part) for part in text.split(",")]
        except ValueError:
            raise click.UsageError(f"--{flag}: expected numbers separated by commas, got {text}") from None

    return {
        "replicas": list(range(replicas or 1)),
        "temperatures": parsed(heats, float, "temperatures"),
        "widths": parsed(widths, int, "widths"),
    }


def _train_ensemble(
    task: Task, config: TrainConfig, where: Path, lists: dict[str, list[Any]], output: OutputOptions
) -> None:
    from sparsemf.training.ensemble import train_ensemble

    with progress(output) as display, _stop_on_interrupt() as stopped:
        bar = display.add_task(f"{task.name} · {config.activation} · ensemble", total=config.steps)
        ensemble = train_ensemble(
            task,
            config,
            where,
            seeds=[config.seed + r for r in lists["replicas"]],
            temperatures=lists["temperatures"],
            widths=lists["widths"],
            resume=True,
            progress=lambda record, _: display.update(bar, completed=record.step),
            interrupt=lambda: bool(stopped),
        )
    if ensemble.interrupted:
        raise Interrupted(f"state saved in {where}; continue with the same command")
    emit(output, ensemble.to_document(), lambda console: _render_ensemble(console, ensemble))


def _render_ensemble(console: Console, ensemble: Ensemble) -> None:
    from rich.table import Table

    table = Table("run", "error or accuracy", "risk", "stationary")
    for run, folder in zip(ensemble.runs, ensemble.folders, strict=True):
        last = run.records[-1]
        table.add_row(folder.name, _quality(last), f"{last.risk:.3e}", run.stationarity.stationary)
    console.print(table)
    for width, heat, verdict in ensemble.chains:
        if verdict is not None:
            console.print(f"N = {width}, τ = {heat.initial:g}: chains stationary and of one law: {verdict.stationary}")
            for reason in verdict.reasons:
                console.print(f"  - {reason}")


def _quality(record: Record) -> str:
    return f"{record.rel_error:.2e}" if record.rel_error is not None else f"{record.accuracy:.4f}"


def _run(
    task: Task,
    config: TrainConfig,
    where: Path,
    resume: bool,
    output: OutputOptions,
    ranks: Ranks,
    tensorboard: str | None,
) -> Run:
    from sparsemf.training import train as train_core

    with progress(output) as display, _stop_on_interrupt() as stopped:
        bar = display.add_task(f"{task.name} · {config.activation} · N = {config.width}", total=config.steps)

        def show(record: Record, steps: int) -> None:
            del steps
            display.update(bar, completed=record.step, description=f"{task.name} · {_quality(record)}")

        if resume:
            say(output, f"continuing {where}")
        return train_core(
            task,
            config,
            where,
            resume=resume,
            progress=show,
            interrupt=lambda: bool(stopped),
            ranks=ranks,
            tensorboard=tensorboard,
        )


def _refuse(given: dict[str, Any], why: str) -> None:
    for name, value in given.items():
        if value:
            raise click.UsageError(f"{why}: --{name.replace('_', '-')} does not go with it")


def _task(name: str | None, data: str | None, settings: tuple[str, ...]) -> Task:
    from sparsemf_datasets import file_task, load_task

    if data is not None:
        return file_task(data)
    parameters: dict[str, str] = {}
    for item in settings:
        key, separator, value = item.partition("=")
        if not separator:
            raise click.UsageError(f"--set {item}: expected NAME=VALUE")
        parameters[key.strip()] = value.strip()
    return load_task(name or "", **parameters)


def _stored_task(record: dict[str, Any], data: str | None) -> Task:
    """The task of a stored run; its data file is looked for where it was, or comes by --data."""
    from sparsemf.exceptions import InputError
    from sparsemf_datasets import file_task, load_task

    if record["name"] != "data":
        if data is not None:
            raise InputError(f"--resume: the run learns the task {record['name']!r}, not a data file")
        return load_task(record["name"], **record["parameters"])
    path = data or record["parameters"]["file"]
    if data is None and not Path(path).is_file():
        raise InputError(f"--resume: the run's data file {path} is not in this folder; name it with --data")
    return file_task(path)


def _config(task: Task, given: dict[str, Any], output: OutputOptions) -> TrainConfig:
    from sparsemf.exceptions import InputError
    from sparsemf.training import TrainConfig

    activation = given.pop("activation", None) or task.activation
    if activation is None:
        raise InputError(f"task {task.name!r} suggests no activation: give --activation")
    bias = given.pop("bias", None)
    if bias is None:
        bias = task.teacher is not None and bool(task.teacher.bias.any())
    config = TrainConfig(
        activation, bias=bias, seed=output.seed, device=output.torch_device(), threads=output.threads or 0
    )
    for name in ("temperature", "weight_decay", "step_size"):
        given |= _schedule(name, given, getattr(config, name))
    return replace(config, **given)


def _schedule(name: str, given: dict[str, Any], default: Schedule) -> dict[str, Schedule]:
    """Take the options of one annealed quantity out of ``given``; nothing when none was given."""
    from sparsemf.training import Schedule

    initial, final, kind, window = (given.pop(name + part, None) for part in ("", "_final", "_schedule", "_window"))
    if (initial, final, kind, window) == (None, None, None, None):
        return {}
    if initial is not None and final is None:
        if kind not in (None, "constant") or window is not None:
            raise click.UsageError(f"--{name.replace('_', '-')}-final is missing")
        return {name: Schedule(initial)}
    begin, end = window or ((0.0, 1.0) if initial is not None else (default.begin, default.end))
    kind = kind or ("exponential" if initial is not None else default.kind)
    if kind == "constant":
        return {name: Schedule(default.initial if initial is None else initial)}
    first = default.initial if initial is None else initial
    return {name: Schedule(first, default.last if final is None else final, kind, begin, end)}


@contextmanager
def _stop_on_interrupt() -> Iterator[list[int]]:
    """The list is filled by the first Ctrl-C, so that a step is never cut in half; a second one stops at once."""
    stopped: list[int] = []

    def note(number: int, _: Any) -> None:
        stopped.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread: nobody can press Ctrl-C there
        yield stopped
        return
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def _render(console: Console, run: Run) -> None:
    last = run.records[-1]
    console.print(f"{run.directory}: {run.network}")
    quality = "relative error" if last.rel_error is not None else "accuracy"
    console.print(
        f"step {run.step}, {run.seconds:.1f} s · {quality} {_quality(last)} · loss {last.loss:.2e} · "
        f"m₂ {last.m2:.3g} · m₄ {last.m4:.3g}"
    )
    if run.config.integrator == "adam":
        console.print("adam: the preconditioned chain samples no stated law")
    verdict = run.stationarity
    console.print(f"stationary: {verdict.stationary}" + "".join(f"\n  - {reason}" for reason in verdict.reasons))
