"""``sparsemf batch``: analyze many checkpoints into a result store; resumes, isolates failures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from sparsemf_cli.common import CheckpointOptions, OutputOptions, checkpoint_options, emit, output_options, progress
from sparsemf_cli.main import Interrupted

if TYPE_CHECKING:
    from rich.console import Console

    from sparsemf.batch import BatchResult, Outcome

SOME_FAILED = 5


@click.command()
@click.argument("source_path", metavar="DIR|GLOB|LIST")
@click.option("-o", "--output", "out", metavar="OUT/", required=True, help="The result store (made when missing).")
@click.option("--jobs", type=click.IntRange(min=1), metavar="J", help="Worker processes.  [default: one per core]")
@click.option("--eps", type=float, metavar="E", help="S* at this absolute error instead of the plateau.")
@click.option("--rel-eps", type=float, metavar="E", help="The same relative to ‖f‖.")
@click.option("--pairs", metavar="reference=CKPT", help="Also certify every block against the reference's.")
@checkpoint_options
@output_options(file=False)
def batch(
    source_path: str,
    out: str,
    jobs: int | None,
    eps: float | None,
    rel_eps: float | None,
    pairs: str | None,
    source: CheckpointOptions,
    output: OutputOptions,
) -> int:
    """Analyze all checkpoints of a folder, a glob or a list.  Exit 5 when some failed; a re-run does the rest."""
    from sparsemf import atomic
    from sparsemf.batch import Settings, run_batch, work_list
    from sparsemf.exceptions import InputError

    if eps is not None and rel_eps is not None:
        raise click.UsageError("--eps and --rel-eps exclude each other")
    reference, reference_sha256 = _reference(pairs)
    files = work_list(source_path)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"-o {out}: expected a folder, got a file")
    settings = Settings(
        source.block,
        source.activation,
        source.map,
        source.rho,
        eps,
        rel_eps,
        output.seed,
        reference,
        reference_sha256,
    )
    with progress(output) as bar:
        task = bar.add_task("analyzing", total=len(files))

        def watch(outcome: Outcome) -> None:
            bar.update(task, advance=1, description=Path(outcome.path).name)

        found = run_batch(files, settings, folder, jobs or os.cpu_count() or 1, output.threads or 1, watch)
    if found.interrupted:
        raise Interrupted(f"{found.done} results saved in {folder.name}/; run the same command to continue")
    document: dict[str, Any] = {
        **atomic.header("batch", 1),
        "files": found.files,
        "done": found.done,
        "kept": found.kept,
        "failed": len(found.failures),
        "failures": list(found.failures),
        "summary": "summary.parquet",
    }
    emit(output, document, lambda console: _render(console, found, folder))
    return SOME_FAILED if found.failures else 0


def _reference(pairs: str | None) -> tuple[str | None, str | None]:
    from sparsemf.checkpoints import file_sha256
    from sparsemf.exceptions import InputError

    if pairs is None:
        return None, None
    key, _, value = pairs.partition("=")
    if key != "reference" or not value:
        raise click.UsageError(f"--pairs: expected reference=CKPT, got {pairs!r}")
    path = Path(value)
    if not path.is_file():
        raise InputError(f"--pairs reference={value}: no such file")
    return str(path), file_sha256(path)


def _render(console: Console, found: BatchResult, folder: Path) -> None:
    from rich.table import Table

    console.print(f"{found.files} files: {found.done} blocks analyzed, {found.kept} kept, {len(found.failures)} failed")
    if found.failures:
        table = Table(show_edge=False, pad_edge=False)
        for name in ("file", "block", "kind", "error"):
            table.add_column(name, overflow="fold")
        for record in found.failures[:30]:
            table.add_row(record["path"], record["block"], record["kind"], record["error"])
        console.print(table)
    console.print(f"results in {folder}/results, table in {folder}/summary.parquet")
