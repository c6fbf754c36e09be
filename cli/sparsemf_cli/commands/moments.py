"""``sparsemf moments``: how the moments of a run grew, what is proved of them, and which weights they allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from sparsemf_cli.common import OutputOptions, emit, output_options, writable

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.argument("run", metavar="RUN/")
@click.option(
    "--weights",
    multiple=True,
    metavar="W",
    help="Is this sequence allowed? factorial^-S, geometric R, gaussian S, or w1,w2,…; may be repeated.",
)
@click.option("--data", metavar="X.npz", help="The run's data file, where it has moved (needed for a drift bound).")
@click.option("--plot", "picture", metavar="FILE.svg", help="Draw M_k^(1/k) against k with band and bound.")
@output_options()
def moments(run: str, weights: tuple[str, ...], data: str | None, picture: str | None, output: OutputOptions) -> None:
    """Growth of the moments M_k = sup_t ∫‖θ‖^k dμ_t of a run, and the critical weights w*_k = 1/M_k.

    M_k is an estimate from RUN/moments.jsonl; the a-priori bound is a certificate where its assumptions hold.
    """
    from sparsemf.atomic import write_text
    from sparsemf.training.membership import Weights
    from sparsemf.training.moment_document import moments_document
    from sparsemf_cli.commands.train import _stored_task

    target = None if picture is None else writable("--plot", picture)
    document = moments_document(run, [Weights.parse(w) for w in weights], lambda record: _stored_task(record, data))
    if target is not None:
        from sparsemf.reports.figures.moments import moments_figure

        write_text(target, moments_figure(document))
    emit(output, document, lambda console: _render(console, document))


def _render(console: Console, document: dict[str, Any]) -> None:
    from rich.table import Table

    growth, certificate = document["growth"], document["certificate"]
    table = Table("k", "M_k", "95 % band", "w*_k", "trusted", "a-priori bound", box=None)
    for entry in growth["moments"]:
        k = entry["k"]
        bound = "–"
        if certificate["holds"]:
            bound = _number(certificate["bound"][k - 1], certificate["log_bound"][k - 1])
        low, high = entry["band"]
        band = f"[{_number(low, entry['log_band'][0])}, {_number(high, entry['log_band'][1])}]"
        log_w = None if entry["log_M"] is None else -entry["log_M"]
        if entry["proved_infinite"]:
            bound = "∞, so w*_k = 0"
        table.add_row(
            str(k),
            _number(entry["M"], entry["log_M"]),
            band.replace("[", r"\["),
            _number(entry["w_star"], log_w),
            "yes" if entry["trusted"] else "no",
            bound,
        )
    console.print(table)
    for line in summary(document):
        console.print(line, markup=False)


def summary(document: dict[str, Any]) -> list[str]:
    """What the table means, in words."""
    growth, certificate = document["growth"], document["certificate"]
    first, last = growth["steps"]
    lines = [
        f"M_k is an estimate from {growth['records']} records of N = {growth['width']} particles, "
        f"steps {first} to {last}; trusted up to k = {growth['trusted_k']} ({growth['trusted_limit']})",
        _order(growth["order"]),
    ]
    if certificate["holds"]:
        reach = "all times" if certificate["horizon"] is None else f"the run's {certificate['horizon']:.0f} steps"
        lines.append(f"a-priori bound of E m_k for {reach} (a certificate); it assumes:")
        lines += [f"  - {part}" for part in certificate["assumptions"]]
    else:
        lines.append(f"no a-priori bound: {certificate['why_not']}")
    for answer in document["membership"]:
        proof = f"proved: {answer['proved']}" if answer["proved"] else "not decided by a proof"
        lines.append(f"weights {answer['weights']}: estimate {answer['estimate']}; {proof} ({answer['reason']})")
    return lines + [f"note: {text}" for text in document["warnings"]]


def _order(order: dict[str, Any] | None) -> str:
    if order is None:
        return "order of growth: not estimated (too few trusted moments, or no radial law fits them)"
    low, high = ("∞" if v is None else f"{v:.2f}" for v in order["interval"])
    value = "∞ (bounded support)" if order["bounded"] else f"{order['value']:.2f}"
    return f"order of growth ρ in M_k^(1/k) ~ C k^(1/ρ): {value}, between {low} and {high} (an estimate)"


def _number(value: float | None, log: float | None) -> str:
    """``value``, or what its logarithm says where no float is near."""
    if value is not None:
        return f"{value:.4g}"
    return "∞" if log is None else f"e^{log:.4g}"
