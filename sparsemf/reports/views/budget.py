"""The page of an error budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sparsemf.reports.figures.plots import Series, amounts, plot
from sparsemf.reports.views.study import Picture, Section, Study, Table


def budget_study(document: Mapping[str, Any], name: str = "b1") -> Study:
    """The article of a document ``sparsemf/budget/1``."""
    task, config = document["task"], document["config"]
    return Study(
        title=f"Error budget of a {document['activation']} student: {task['name']}",
        kind="error budget",
        lead=document["sentences"][:2],
        facts=[
            ("task", task["name"]),
            ("inputs d", str(task["inputs"])),
            ("repetitions", str(config["seeds"])),
            ("runs", str(document["runs"])),
        ],
        sections=budget_sections(document, name),
        warnings=document["warnings"],
        settings=_settings(config),
    )


def budget_sections(document: Mapping[str, Any], name: str) -> list[Section]:
    """Terms, rates, sparse residual; also used as a part of a larger page."""
    return [_terms(document, name), _rates(document, name), _sparse(document, name)]


def _terms(document: Mapping[str, Any], name: str) -> Section:
    rows = [(t["name"].replace("_", " "), t["mean"], *t["interval"]) for t in document["terms"]]
    rows += [(n, document[n]["mean"], *document[n]["interval"]) for n in ("sum", "total")]
    words = f"The terms sum to {document['sum']['mean']:.3g}; the measured total is {document['total']['mean']:.3g}."
    table = Table(
        "Each term, mean over the repetitions with its 95 % interval",
        ["term", "‖·‖", "95 %", "what changes"],
        [
            *(
                [t["name"].replace("_", " "), f"{t['mean']:.3g}", _range(t["interval"]), t["meaning"]]
                for t in document["terms"]
            ),
            *(
                [n, f"{document[n]['mean']:.3g}", _range(document[n]["interval"]), said]
                for n, said in (("sum", "of the terms"), ("total", "‖f* − f_S‖ as measured"))
            ),
        ],
        "est",
    )
    drawing = amounts(f"{name}-terms", "Terms of the error", words, rows, "‖·‖ in L²(ρ)", ("sum", "total"))
    return Section(
        "Where the error comes from",
        [
            "A telescope of norms from the target to the sparse dictionary; between neighbours one thing changes, "
            "and the runs share data, initial values and noise.  Norms obey the triangle inequality; squares do "
            "not add.",
        ],
        tables=[table],
        pictures=[Picture("Terms, their sum and the total; lines are 95 % intervals", drawing, "est")],
    )


def _rates(document: Mapping[str, Any], name: str) -> Section:
    pictures, points = [], []
    for i, rate in enumerate(document["rates"]):
        pairs = list(zip(rate["x"], rate["squares"], strict=True))
        spread = [(q - 2 * e, q + 2 * e) for q, e in zip(rate["squares"], rate["errors"], strict=True)]
        left_out = rate.get("left_out", [])
        used = [(x, q) for x, q in pairs if x not in left_out]
        middle, level = (math.exp(sum(math.log(pair[i]) for pair in used) / len(used)) for i in (0, 1))
        line = [(x, level * (x / middle) ** rate["exponent"]) for x in (min(used)[0], max(used)[0])]
        low, high = rate["interval"]
        caption = f"{rate['quantity'].capitalize()}: exponent {rate['exponent']:.2f} ({low:.2f} to {high:.2f})"
        drawing = plot(
            f"{name}-rate{i}",
            caption,
            f"Squared norm against {rate['variable']}.",
            [Series(rate["quantity"], pairs, spread, line)],
            rate["variable"],
            "‖·‖²",
        )
        pictures.append(Picture(caption, drawing, "est"))
        theory = " to ".join(f"{v:g}" for v in dict.fromkeys(rate["expected"]))
        points.append(
            f"{rate['quantity'].capitalize()}: ‖·‖² ∝ ({rate['variable']})^{rate['exponent']:.2f}, theory {theory} "
            f"({rate['source']}): {rate['verdict']}"
            + (f"; without {', '.join(f'{x:.3g}' for x in left_out)}, off any power law" if left_out else "")
        )
    relaxation = document["relaxation"]
    if relaxation is not None:
        pairs = list(zip(relaxation["times"], relaxation["squares"], strict=True))
        drawing = plot(
            f"{name}-time",
            "Relaxation in time",
            relaxation["statement"],
            [Series("optimization", pairs, line=pairs, dashed=False)],
            "time T",
            "‖f_T − f_ref‖²",
            x_log=False,
        )
        pictures.append(Picture("Optimization: the distance to the reference time", drawing, "est"))
        points.append(f"Optimization: {relaxation['statement']}")
    return Section("How fast each term vanishes", points=points, pictures=pictures)


def _sparse(document: Mapping[str, Any], name: str) -> Section:
    sparse = document["sparse"]
    stairs = [row for row in sparse["staircase"] if row["S"] > 0]
    series = [
        Series("U(S)", [(row["S"], row["upper"]) for row in stairs]),
        Series("L(S)", [(row["S"], row["lower"]) for row in stairs]),
    ]
    bound = [(row["S"], row["coefficients"]) for row in stairs if row["coefficients"] is not None]
    if bound:
        series.append(Series("Maurey", line=bound))
    pictures = [
        Picture(
            "The certified staircase: no S-atom network is closer than L(S), and one is within U(S)",
            plot(f"{name}-stairs", "Certified staircase", "Upper and lower curve.", series, "S", "‖·‖", x_log=False),
            "cert",
        )
    ]
    tail = document["target_tail"]
    if tail:
        points = [(k, value) for k, value in enumerate(tail) if value > 0]
        drawing = plot(
            f"{name}-tail", "Hermite tail of the target", "Norm beyond degree K.",
            [Series("tail", points, line=points, dashed=False)], "degree K", "(Σ_{k>K} ‖T_k‖²)^{1/2}", x_log=False,
        )  # fmt: skip
        pictures.append(Picture("The target beyond degree K: what a polynomial of degree K misses", drawing, "est"))
    rows = [
        [str(i + 1), str(s), "yes" if c else "no", f"{m:.4g}", f"{u:.4g}"]
        for i, (s, c, m, u) in enumerate(
            zip(sparse["atoms"], sparse["certified"], sparse["measured"], sparse["upper"], strict=True)
        )
    ]
    table = Table(
        "The residual as measured on the test inputs, beside the certified U(S)",
        ["repetition", "S", "S = certified S*", "measured", "U(S)"],
        rows,
        "both",
    )
    return Section("The sparse residual", [document["sentences"][-1]], tables=[table], pictures=pictures)


def _settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        (name.replace("_", " "), f"{config['base'][name]:g} against {config['reference'][name]:g}")
        for name in config["base"]
    ]
    return [("base against reference", ""), *rows, *((k, str(v)) for k, v in config["training"].items())]


def _range(pair: Any) -> str:
    return f"{pair[0]:.3g} … {pair[1]:.3g}"
