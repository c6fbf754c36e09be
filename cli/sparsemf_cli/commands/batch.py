"""``sparsemf batch``: analyze many checkpoints into a result store; resumes, isolates failures, finds classes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from sparsemf_cli.common import (
    CheckpointOptions,
    OutputOptions,
    affine_option,
    checkpoint_options,
    emit,
    output_options,
    progress,
)
from sparsemf_cli.main import Interrupted

if TYPE_CHECKING:
    from rich.console import Console

    from sparsemf.batch import BatchResult, Progress

SOME_FAILED = 5


@click.command()
@click.argument("source_path", metavar="DIR|GLOB|LIST")
@click.option("-o", "--output", "out", metavar="OUT/", required=True, help="The result store (made when missing).")
@click.option("--jobs", type=click.IntRange(min=1), metavar="J", help="Worker processes.  [default: one per core]")
@click.option("--dask", metavar="ADDRESS", help="Use the workers of this dask.distributed scheduler (tcp://host:port).")
@click.option("--time-limit", type=float, metavar="SECONDS", help="Wall time of one job; beyond, it is stopped.")
@click.option(
    "--memory-limit", type=float, metavar="GIB", help="Resident memory of one job's process, libraries included."
)
@click.option("--eps", type=float, metavar="E", help="S* at this absolute error instead of the plateau.")
@click.option("--rel-eps", type=float, metavar="E", help="The same relative to ‖f‖.")
@affine_option
@click.option("--pairs", metavar="reference=CKPT", help="Also certify every block against the reference's.")
@click.option("--classes", is_flag=True, help="Also find which blocks are the same function (classes.json).")
@click.option(
    "--class-eps", type=float, metavar="REL", help="Relative ε of --classes, which it implies.  [default: 1e-3]"
)
@checkpoint_options
@output_options(file=False)
def batch(
    source_path: str,
    out: str,
    jobs: int | None,
    dask: str | None,
    time_limit: float | None,
    memory_limit: float | None,
    eps: float | None,
    rel_eps: float | None,
    affine: str,
    pairs: str | None,
    classes: bool,
    class_eps: float | None,
    source: CheckpointOptions,
    output: OutputOptions,
) -> int:
    """Analyze all checkpoints of a folder (recursively), a glob, or a text file with one path a line.

    Every block of every file becomes a job.  Results are named by content and options: a re-run keeps what is done
    and tries failures again.  Exit 5 when some failed, 130 when interrupted (what is done is saved).
    """
    from sparsemf import atomic
    from sparsemf.batch import Limits, Settings, run_batch, work_list

    if eps is not None and rel_eps is not None:
        raise click.UsageError("--eps and --rel-eps exclude each other")
    if jobs is not None and dask is not None:
        raise click.UsageError("--jobs and --dask exclude each other: the cluster has its own number of workers")
    positive = (("--class-eps", class_eps), ("--time-limit", time_limit), ("--memory-limit", memory_limit))
    for name, value in positive:
        if value is not None and not 0 < value < float("inf"):
            raise click.UsageError(f"{name}: expected a positive number, got {value}")
    reference = _reference(pairs)
    files = work_list(source_path)
    settings = Settings(
        source.block, source.activation, source.map, source.rho, eps, rel_eps, output.seed, reference, affine=affine
    )
    folder = Path(out)
    with progress(output) as bar:
        tasks: dict[str, Any] = {}

        def watch(state: Progress) -> None:
            if state.stage not in tasks:
                tasks[state.stage] = bar.add_task(state.stage, total=None)
            noted = [f"{count} {what}" for count, what in ((state.kept, "kept"), (state.failed, "failed")) if count]
            words = f"{state.stage} ({', '.join(noted)})" if noted else state.stage
            bar.update(tasks[state.stage], completed=state.done, total=state.total, description=words)

        found = run_batch(
            files,
            settings,
            folder,
            jobs or os.cpu_count() or 1,
            output.threads or 1,
            watch,
            Limits(time_limit, memory_limit),
            dask,
            class_eps or (1e-3 if classes else None),
        )
    if found.interrupted:
        raise Interrupted(f"{found.done} new results saved in {folder}/; run the same command to continue")
    document: dict[str, Any] = {
        **atomic.header("batch", 1),
        "files": found.files,
        "done": found.done,
        "kept": found.kept,
        "failed": len(found.failures),
        "failures": list(found.failures),
        "summary": "summary.parquet",
    }
    if found.classes is not None:
        document["classes"] = "classes.json"
    emit(output, document, lambda console: _render(console, found, folder))
    return SOME_FAILED if found.failures else 0


def _reference(pairs: str | None) -> str | None:
    from sparsemf.exceptions import InputError

    if pairs is None:
        return None
    key, _, value = pairs.partition("=")
    if key != "reference" or not value:
        raise click.UsageError(f"--pairs: expected reference=CKPT, got {pairs!r}")
    if not Path(value).is_file():
        raise InputError(f"--pairs reference={value}: expected a checkpoint, there is no such file")
    return value


def _render(console: Console, found: BatchResult, folder: Path) -> None:
    from rich.table import Table

    failed = len(found.failures)
    console.print(f"{found.files} files: {found.done} blocks analyzed, {found.kept} kept, {failed} failed")
    if found.failures:
        table = Table(show_edge=False, pad_edge=False)
        for name in ("file", "block", "kind", "error"):
            table.add_column(name, overflow="fold")
        for record in found.failures[:30]:
            table.add_row(*(_plain(record[key]) for key in ("path", "block", "kind", "error")))
        console.print(table)
        if failed > 30:
            console.print(f"… and {failed - 30} more in failures.jsonl")
    if found.classes is not None:
        _render_classes(console, found.classes.document)
    console.print(f"results in {folder}/results, table in {folder}/summary.parquet", markup=False)


def _render_classes(console: Console, document: dict[str, Any]) -> None:
    from rich.table import Table

    classes = document["classes"]
    said = "certified" if document["certified"] else "not all certified"
    several = [cls for cls in classes if len(cls["members"]) > 1]
    undecided, others = len(document["undecided"]), document["by_invariants"]["pairs"]
    console.print(
        f"{len(classes)} classes of equal functions ({said}), {len(several)} with several members; "
        f"{undecided} pairs of classes undecided, {others} told apart by invariants only"
    )
    table = Table(show_edge=False, pad_edge=False)
    for name in ("class", "members", "kind", "ε", "diameter ≤", "representative"):
        table.add_column(name, overflow="fold")
    for cls in sorted(several, key=lambda c: -len(c["members"]))[:20]:
        size, diameter = str(len(cls["members"])), f"{cls['diameter']['upper']:.2e}"
        eps = "–" if cls["eps"] is None else f"{cls['eps']:.2e}"
        table.add_row(str(cls["id"]), size, cls["kind"], eps, diameter, _plain(cls["representative"]))
    if several:
        console.print(table)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
