"""``sparsemf richardson``: what the step size adds to the stationary means of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from sparsemf_cli.common import OutputOptions, emit, output_options

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.argument("runs", metavar="RUN/ RUN/ …", nargs=-1, required=True)
@click.option(
    "--quantity",
    "quantities",
    multiple=True,
    metavar="Q",
    help="A field of metrics.jsonl; may be repeated.  [default: risk, m2, m4, energy, free_energy]",
)
@click.option("--order", type=click.FloatRange(min=0, min_open=True), help="Weak order.  [default: the integrator's]")
@output_options()
def richardson(runs: tuple[str, ...], quantities: tuple[str, ...], order: float | None, output: OutputOptions) -> None:
    """Extrapolate stationary means of runs at two or more step sizes to step size 0.

    The runs share everything but step size, length and seed; those of one step size are chains.  Estimates, with
    intervals that hold the Monte Carlo error.
    """
    from sparsemf.training.richardson_document import QUANTITIES, richardson_document

    document = richardson_document(runs, quantities or QUANTITIES, order)
    emit(output, document, lambda console: _render(console, document))


def _render(console: Console, document: dict[str, Any]) -> None:
    from rich.table import Table

    found = document["extrapolations"]
    sizes = [bias["step_size"] for bias in next(iter(found.values()))["biases"]]
    table = Table("", *(f"η = {size:g}" for size in sizes), "η → 0", "95 %", "observed order", box=None)
    for name, entry in found.items():
        low, high = entry["interval"]
        seen = entry["observed_order"]
        table.add_row(
            name,
            *(f"{bias['mean']:.4g}" for bias in entry["biases"]),
            f"{entry['value']:.4g}",
            f"{low:.4g} … {high:.4g}",
            "–" if seen is None else f"{seen:.2f}",
        )
    console.print(table)
    for name, entry in found.items():
        console.print(f"{name}: {entry['statement']}", markup=False)
    for text in document["warnings"]:
        console.print(f"note: {text}", markup=False)
