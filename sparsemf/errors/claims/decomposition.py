"""Result 4: the error of a trained measure splits into terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsemf.errors.claims.steps import Answer, Claim, Listing


def conclude(found: Mapping[str, dict[str, Any]]) -> Claim:
    """The claim from documents ``sparsemf/budget/1`` by name."""
    closes = all(d["closes"] for d in found.values())
    answers = [
        Answer(
            "The error is at most the sum of statistical, optimization, chaos and sparse-residual terms",
            "reading" if closes else "undecided",
            "With norms, and with two more terms: the entropic bias of the temperature (and of weight decay), and "
            "what the reference measure itself is away from the target.  "
            + " ".join(
                f"{name}: sum {d['sum']['mean']:.3g}, total {d['total']['mean']:.3g}." for name, d in found.items()
            )
            + ("  The sum covers the total in every repetition." if closes else "  The sum does not cover the total."),
        ),
        Answer(
            "Squared errors add up",
            "fails" if any(_squares_exceed(d) for d in found.values()) else "undecided",
            "‖Σ Δ_i‖² = Σ ⟨Δ_i, Δ_j⟩ has cross terms; "
            + " ".join(
                f"{name}: the terms' squares add to {d['quadrature'] ** 2:.3g}, the squared total is "
                f"{d['total']['mean'] ** 2:.3g}."
                for name, d in found.items()
            ),
        ),
    ]
    rows = []
    for name, document in found.items():
        for rate in document["rates"]:
            low, high = rate["interval"]
            expected = " to ".join(f"{v:g}" for v in dict.fromkeys(rate["expected"]))
            rows.append(
                [f"{name}: {rate['quantity']}", rate["variable"], f"{rate['exponent']:.2f}", f"{low:.2f} … {high:.2f}",
                 expected, rate["verdict"]]
            )  # fmt: skip
    agreed = [r for d in found.values() for r in d["rates"] if r["verdict"] == "within"]
    against = [r for d in found.values() for r in d["rates"] if r["verdict"] == "outside"]
    answers.append(
        Answer(
            "Each term vanishes at the rate of its theory",
            "holds" if not against and agreed else "undecided",
            f"{len(agreed)} of {len(rows)} exponents agree within their 95 % intervals, {len(against)} disagree"
            + (": " + ", ".join(f"{r['quantity']} ({r['exponent']:.2f})" for r in against) if against else "")
            + ".",
        )
    )
    return Claim(
        "decomposition",
        "The error decomposition",
        "The error splits into statistical, optimization, propagation-of-chaos and sparse-residual parts.",
        "A telescope of norms along runs that share data, initial values and noise; an entropic term is needed "
        "for it to close.",
        answers,
        (),
        [Listing("Exponents of the squared norms", ["term", "in", "exponent", "95 %", "theory", "verdict"], rows)],
    )


def _squares_exceed(document: dict[str, Any]) -> bool:
    """Whether the squared total is beyond the sum of squares by more than the intervals' doubt, either way."""
    low, high = document["total"]["interval"]
    return not low <= document["quadrature"] <= high
