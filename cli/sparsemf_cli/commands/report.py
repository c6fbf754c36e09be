"""``sparsemf report``: a result as one HTML page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from sparsemf_cli.common import OutputOptions, emit, output_options, say

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA_VERSION = 1


@click.command()
@click.argument("source", metavar="OUT.json|OUT/")
@click.option("-o", "--output", "page", metavar="OUT.html", help="The page to write.  [default: beside the input]")
@click.option(
    "--pages/--no-pages", default=True, show_default=True, help="Of a batch: a page of every result too, in OUT/pages/."
)
@output_options(file=False)
def report(source: str, page: str | None, pages: bool, output: OutputOptions) -> None:
    """Write the HTML report of a result: a document of analyze, certify, depth, …, or the folder of a batch.

    The page is one file and opens without a network; that of a batch links to the pages of its results.
    """
    from sparsemf.atomic import header
    from sparsemf.reports import kind_of, read, write

    target = _target(Path(source), page)
    document = read(source)
    size = write(document, target, pages)
    written = header("report", SCHEMA_VERSION) | {"path": target.name, "kind": kind_of(document), "bytes": size}

    def render(console: Console) -> None:
        from rich.text import Text

        console.print(Text(os.fspath(target)))

    say(output, f"{size:,} bytes")
    emit(output, written, render)


def _target(source: Path, page: str | None) -> Path:
    """Where the page goes, checked before any work: beside the input, unless -o names a place."""
    from sparsemf.exceptions import InputError

    if page is not None:
        target = Path(page)
    elif source.is_dir():
        target = source.resolve().with_name(source.resolve().name + ".html")
    else:
        target = source.with_suffix(".html")
    if target.is_dir():
        raise InputError(f"-o {target}: expected a file to write, got a folder")
    if target.resolve() == source.resolve():
        raise InputError(f"-o {target}: that is the input itself; name another file")
    if source.exists() and not target.parent.is_dir():
        raise InputError(f"-o {target}: the folder {target.parent} does not exist; make it first")
    return target
