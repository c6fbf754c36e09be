"""``sparsemf datasets``: trained measures and planted suites by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from sparsemf_cli.common import OutputOptions, emit, output_options

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.argument("name", metavar="[NAME]", required=False)
@click.option(
    "-o", "--output", "out", metavar="OUT", help="Copy the measure to this file, write the suite into this folder."
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Files of a suite.")
@output_options(file=False)
def datasets(name: str | None, out: str | None, count: int | None, output: OutputOptions) -> None:
    """List trained measures and planted suites, or write one with -o.

    Trained measures need no copy: every command takes dataset:NAME for a checkpoint.
    """
    from sparsemf.atomic import header
    from sparsemf_datasets.suites import SUITES
    from sparsemf_datasets.trained_measures import measures

    if name is None and (out is not None or count is not None):
        raise click.UsageError("expected the NAME of a measure or a suite with -o and --count")
    if name is not None:
        written = _written(name, out, count, output.seed)
        emit(output, header("datasets", 1) | written, lambda console: console.print(written["path"], markup=False))
        return
    document = header("datasets", 1) | {
        "measures": [{**vars(found), "path": found.path.name} for found in measures()],
        "suites": [{"name": s.name, "description": s.description, "count": s.count} for s in SUITES],
    }
    emit(output, document, lambda console: _render(console, document))


def _written(name: str, out: str | None, count: int | None, seed: int) -> dict[str, Any]:
    from sparsemf import atomic
    from sparsemf.exceptions import InputError
    from sparsemf_datasets.suites import SUITES, write_suite
    from sparsemf_datasets.trained_measures import measure, measures

    if out is None:
        raise click.UsageError(f"{name}: expected -o OUT; a measure is read by every command as dataset:{name}")
    if name in {suite.name for suite in SUITES}:
        truth = write_suite(name, Path(out), count, seed)
        return {"name": name, "path": out, "files": len(truth)}
    if name not in {found.name for found in measures()}:
        known = ", ".join([*(found.name for found in measures()), *(suite.name for suite in SUITES)])
        raise InputError(f"unknown dataset {name!r}; known: {known}")
    if count is not None:
        raise click.UsageError(f"--count: expected the name of a suite, got the measure {name}")
    target = Path(out)
    if target.is_dir() or not target.parent.is_dir():
        raise InputError(f"-o {out}: expected a file to write in a folder that exists")
    atomic.write_bytes(target, measure(name).path.read_bytes())
    return {"name": name, "path": out, "files": 1}


def _render(console: Console, document: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("trained measure", "what it is", "made by", "sha256", box=None)
    for row in document["measures"]:
        table.add_row("dataset:" + row["name"], row["description"], row["command"], row["sha256"][:12])
    console.print(table)
    table = Table("suite", "files", "what it is (write it with -o FOLDER)", box=None)
    for row in document["suites"]:
        table.add_row(row["name"], str(row["count"]), row["description"])
    console.print(table)
