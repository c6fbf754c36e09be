"""``sparsemf tasks``: the data sets and teachers that ``train`` knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from sparsemf_cli.common import OutputOptions, emit, output_options

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@output_options()
def tasks(output: OutputOptions) -> None:
    """List the data sets and teachers that `train` knows, with their parameters and defaults."""
    from sparsemf.atomic import header
    from sparsemf_datasets import entries

    listed = [entry.to_dict() for entry in entries()]

    def render(console: Console) -> None:
        from rich.table import Table

        table = Table("task", "inputs", "outputs", "law", "parameters (--set NAME=VALUE)", "what it is", box=None)
        for item in listed:
            parameters = " ".join(f"{key}={value}" for key, value in item["parameters"].items())
            table.add_row(
                item["name"], str(item["inputs"]), str(item["outputs"]), item["kind"], parameters, item["description"]
            )
        console.print(table)

    emit(output, header("tasks", 1) | {"tasks": listed}, render)
