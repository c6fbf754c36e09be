"""Result 1: existence of the flow in a moment class, and N particles against the limit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from sparsemf.errors.claims.steps import Answer, Claim, Figure, Listing, Step
from sparsemf.errors.rates import power_rate
from sparsemf.errors.runs import Job, trained
from sparsemf.training.config import TrainConfig
from sparsemf.training.task import Task

_D = 3
_STUDENT: dict[str, Any] = {
    "sampling": "full",
    "samples": 128,
    "step_size": 0.2,
    "temperature": 0.02,
    "weight_decay": 0.1,
    "outer": "bounded",
    "outer_bound": 3.0,
    "threads": 1,
}
_LIMIT: dict[str, Any] = {"step_size": 0.4, "temperature": 0.1, "weight_decay": 0.5}
"""Of the experiments on the limit: 25 steps are five relaxation times 1/(ηλ)."""


def moments(folder: Path, *, task: Task, width: int, steps: int, tail: int | None) -> dict[str, Any]:
    """The document of moments of one run; ``tail`` ν: initial values of Student's law, None: Gaussian."""
    from sparsemf.training.moment_document import moments_document

    config = TrainConfig(
        "tanh", width=width, steps=steps, init_tail=tail, metrics_every=max(1, steps // 40), **_STUDENT
    )
    measure = trained(Job(task, config), folder / "runs")
    return moments_document(measure.parent, [], lambda _: task)


def coupled(folder: Path, *, task: Task, widths: list[int], reference: int, seeds: int, steps: int) -> dict[str, Any]:
    """The document of an experiment on propagation of chaos."""
    from sparsemf.training.chaos import propagation_of_chaos, time_grid
    from sparsemf.training.chaos_store import FILE

    config = TrainConfig(
        task.activation or "tanh", samples=32, sampling="full", **_LIMIT,
        steps=steps, threads=1, test_samples=1024, metrics_every=steps,
    )  # fmt: skip
    place = folder / "runs" / f"chaos-{task.name}-{reference}-{seeds}-{steps}-{'-'.join(map(str, widths))}"
    resume = (place / FILE).exists()
    found = propagation_of_chaos(
        task, config, widths, reference, list(range(seeds)), time_grid(steps, 6), out=place, resume=resume
    )
    return found.to_document()


def empirical(folder: Path, *, task: Task, widths: list[int], pairs: int, steps: int) -> dict[str, Any]:
    """W₂² between the particle measures of two independent systems of N particles, exact by assignment.

    (1/2)E W₂²(μ_N, μ_N′) is between E W₂²(μ_N, μ)/2 and 2E W₂²(μ_N, μ) for the common limit μ, so it has the rate of
    the empirical measure's own distance to the limit.
    """
    from sparsemf.checkpoints import load

    values, dimension = np.empty((pairs, len(widths))), task.outputs + task.inputs
    for k, width in enumerate(widths):
        for pair in range(pairs):
            clouds = []
            for side in (0, 1):
                config = TrainConfig(
                    task.activation or "tanh", width=width, steps=steps, seed=1000 * side + pair, first_particle=0,
                    sampling="full", samples=None, threads=1, **_LIMIT,
                    metrics_every=steps, test_samples=64,
                )  # fmt: skip
                net = load(trained(Job(task, config), folder / "runs"))
                clouds.append(np.hstack([net.outer, net.inner]))
            cost = cdist(clouds[0], clouds[1], "sqeuclidean")
            rows, columns = linear_sum_assignment(cost)
            values[pair, k] = cost[rows, columns].mean()
    low = -2.0 / dimension
    rate = power_rate("W₂² of two empirical measures", "N", widths, values, (low - 0.1, low + 0.1), "N^(−2/D), D ≥ 3")
    return {"dimension": dimension, "rate": rate.to_dict()}


def steps(quick: bool, tasks: Mapping[str, Task]) -> list[Step]:
    """What is computed; ``tasks``: "tanh", "erf" and "samples" (a data set of the tanh task)."""
    width, length = (1024, 600) if quick else (8192, 3000)
    widths, reference, seeds = ([32, 64, 128, 256], 2048, 8) if quick else ([64, 256, 1024, 4096], 32768, 16)
    small = ([32, 64, 128, 256], 8) if quick else ([64, 128, 256, 512, 1024], 8)
    found = [
        Step(f"moments-{name}", moments, {"task": tasks["tanh"], "width": width, "steps": length, "tail": tail})
        for name, tail in (("gaussian", None), ("student", 4))
    ]
    grid = {"widths": widths, "reference": reference, "seeds": seeds, "steps": 25 if quick else 50}
    found += [Step(f"coupled-{name}", coupled, {"task": tasks[name], **grid}) for name in ("tanh", "erf")]
    return [
        *found,
        Step("empirical", empirical, {"task": tasks["samples"], "widths": small[0], "pairs": small[1], "steps": 30}),
    ]


def conclude(found: Mapping[str, dict[str, Any]]) -> Claim:
    """The claim from the results of :func:`steps`."""
    gaussian, student = found["moments-gaussian"], found["moments-student"]
    answers, figures, tables = [_class(gaussian, student)], [_curves(gaussian, student)], [_weights(gaussian, student)]
    chaos = {name: found[f"coupled-{name}"] for name in ("tanh", "erf")}
    answers.append(_chaos(chaos))
    series = []
    for name, document in chaos.items():
        last = [row[-1] for row in document["function"]["mean"]]
        pairs = list(zip(document["widths"], last, strict=True))
        delta = [1 / n - 1 / document["reference"] for n in document["widths"]]
        line = [(n, last[0] * d / delta[0]) for n, d in zip(document["widths"], delta, strict=True)]
        series.append({"label": name, "points": pairs, "line": line})
    figures.append(Figure("‖f_N − f_ref‖² at the last time; dashed ∝ 1/N − 1/N_ref", "N", "‖f_N − f_ref‖²", series))
    rate = found["empirical"]["rate"]
    answers.append(_empirical(found["empirical"]))
    pairs = list(zip(rate["x"], rate["squares"], strict=True))
    line = [(x, rate["squares"][0] * (x / rate["x"][0]) ** rate["exponent"]) for x in rate["x"]]
    figures.append(
        Figure(
            f"W₂² between two independent particle measures: N^{rate['exponent']:.2f}, not 1/N",
            "N",
            "W₂²",
            [
                {"label": "measured", "points": pairs, "line": line},
                {"label": "1/N", "line": [(x, rate["squares"][0] * rate["x"][0] / x) for x in rate["x"]]},
            ],
        )
    )
    return Claim(
        "moments",
        "Existence, the moment class and N particles",
        "Noisy gradient descent under μP has a mean-field limit; the largest moment class that the flow "
        "propagates has weight w* = 1/(parameter-moment growth); N particles approximate the limit at "
        "squared-Wasserstein rate O(1/N) uniformly in time.",
        "M_k = sup_t ∫‖θ‖^k dμ_t and w*_k = 1/M_k: weights w propagate exactly when w_k ≤ C w*_k.  The rate is "
        "that of N particles coupled with the limit by the same initial values and noise, per particle, and of "
        "the function.",
        answers,
        figures,
        tables,
        {"chaos": {n: _worst(d) for n, d in chaos.items()}, "empirical": found["empirical"]},
    )


def _class(gaussian: dict[str, Any], student: dict[str, Any]) -> Answer:
    proved = gaussian["certificate"]["holds"]
    infinite = [e["k"] for e in student["growth"]["moments"] if e["proved_infinite"]]
    light = [e for e in gaussian["growth"]["moments"] if e["trusted"]]
    inside = proved and all(
        e["log_M"] is None or gaussian["certificate"]["log_bound"][e["k"] - 1] >= e["log_band"][0] for e in light
    )
    held = bool(inside and infinite)
    return Answer(
        "The flow keeps every weight up to w*_k = 1/M_k, and no larger one",
        "reading" if held else "undecided",
        "By definition of M_k; what is to be seen is that it can be used.  Gaussian initial values: M_k finite "
        "for all k, "
        + ("with a proved bound for all times" if proved else "no bound proved")
        + f", and the measured M_k (trusted to k = {gaussian['growth']['trusted_k']}) lie below it.  Student's "
        f"law with four degrees of freedom: M_k = ∞ is proved from k = {min(infinite) if infinite else '–'} on, so "
        "w*_k = 0 there: existence in a class of weights depends on the initial law, and no measurement of "
        "finitely many particles shows an infinite moment.",
    )


def _curves(gaussian: dict[str, Any], student: dict[str, Any]) -> Figure:
    series = []
    for label, document in (("Gaussian", gaussian), ("Student ν=4", student)):
        rows = [e for e in document["growth"]["moments"] if e["log_M"] is not None]
        points = [(e["k"], math.exp(e["log_M"] / e["k"])) for e in rows]
        series.append({"label": label, "points": points, "line": points, "dashed": False})
    bound = [(k, math.exp(v / k)) for k, v in enumerate(gaussian["certificate"]["log_bound"], 1) if v is not None]
    if bound:
        series.append({"label": "bound", "line": bound})
    return Figure("Measured M_k^(1/k) of both, and the proved bound of the Gaussian one", "k", "M_k^(1/k)", series,
                  x_log=False)  # fmt: skip


def _weights(gaussian: dict[str, Any], student: dict[str, Any]) -> Listing:
    def cell(entry: dict[str, Any]) -> str:
        if entry["proved_infinite"]:
            return "0 (proved)"
        value = entry["w_star"]
        return "–" if value is None else f"{value:.3g}" + ("" if entry["trusted"] else " (not trusted)")

    rows = [
        [str(a["k"]), cell(a), cell(b)]
        for a, b in zip(gaussian["growth"]["moments"], student["growth"]["moments"], strict=False)
    ]
    return Listing("w*_k = 1/M_k", ["k", "Gaussian initial values", "Student, ν = 4"], rows)


def _worst(document: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if document[name]["slopes"] is None else document[name]["slopes"]["worst"]
        for name in ("coupled", "function")
    }


def _chaos(chaos: Mapping[str, dict[str, Any]]) -> Answer:
    parts, good = [], True
    for name, document in chaos.items():
        for quantity, words in (("coupled", "E‖X − Y‖²"), ("function", "‖f_N − f‖²")):
            slopes = document[quantity]["slopes"]
            if slopes is None:
                return Answer("", "undecided", document[quantity]["why_not"])
            low = min(b[0] for b in slopes["band"])
            high = max(b[1] for b in slopes["band"])
            good &= low <= -1.0 <= high and high - low < 0.5
            parts.append(
                f"{name}, {words}: slopes {min(slopes['slope']):.2f} to {max(slopes['slope']):.2f}, 95 % bands of "
                f"all times together within [{low:.2f}, {high:.2f}]"
            )
    return Answer(
        "N coupled particles are at squared distance O(1/N) from the limit, uniformly in time",
        "reading" if good else "undecided",
        "; ".join(parts) + ".",
    )


def _empirical(found: dict[str, Any]) -> Answer:
    rate, dimension = found["rate"], found["dimension"]
    low, high = rate["interval"]
    return Answer(
        "The particle measure itself is at squared Wasserstein distance O(1/N) from the limit",
        "fails" if low > -1.0 else "undecided",
        f"Two independent systems of N particles in R^{dimension} (outer and inner weights) are at W₂² ∝ "
        f"N^{rate['exponent']:.2f} (95 %: {low:.2f} to {high:.2f}); the empirical measure of independent draws has "
        f"N^(−2/D) = N^{-2 / dimension:.2f}, whatever the dynamics.  Read for the empirical measure, 1/N is "
        "impossible in D ≥ 3; read for coupled particles it holds.",
    )
