"""The error budget of a trained measure: runs with shared data and noise, a telescope of norms, and rates.

Terms and their order: :mod:`~sparsemf.errors.telescope`.  Rates compared with:

==============  ====================  ================  =======================================================
quantity        squared norm in       exponent          source
==============  ====================  ================  =======================================================
chaos           1/N − 1/N_ref         1 (±0.1)          synchronous coupling, theory of the limit's fluctuations
statistical     1/n − 1/n_ref         ½ … 1             uniform deviation (½) to a stable minimiser (1)
entropic        τ − τ_ref             1 … 2             free energy (½ of the norm) to smooth perturbation (1)
regularization  λ − λ_ref             1 … 2             the same, R(f_λ) − R* ≤ λ·const to smooth perturbation
step size       η − η_ref             up to 2           strong order 1, see :func:`_noise_order` for the lower end
optimization    T                     exponential       e^{−2ατT}Δ₀ under a log-Sobolev inequality
sparse          S                     ≤ Maurey's bound  (B² − ‖f‖²)/S, a certificate
==============  ====================  ================  =======================================================

Why 1/n − 1/n_ref: the first n of n_ref samples deviate from all of them with variance proportional to it (sampling
without replacement), and the first N of N_ref particles likewise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.atomic import header
from sparsemf.errors.config import BudgetConfig, Setting
from sparsemf.errors.rates import Decay, Rate, exponential_decay, power_rate
from sparsemf.errors.runs import Job, Watch, dictionary_of, folder_at, in_parallel, test_inputs, values_of
from sparsemf.errors.telescope import Estimate, Telescope, telescope
from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.training.task import Task, describe

Array = NDArray[np.float64]

RUNS = "runs"
SCHEMA_VERSION = 1
CHAOS_RANGE = (0.9, 1.1)


@dataclass(frozen=True)
class Sparse:
    """The last term beside the certified staircase, over the repetitions."""

    atoms: tuple[int, ...]
    certified: tuple[bool, ...]
    measured: tuple[float, ...]
    upper: tuple[float, ...]
    staircase: list[dict[str, Any]]

    @property
    def agrees(self) -> bool:
        """Whether the measured residual is U(S) to 1 % (the error of the test inputs) in every repetition."""
        return all(abs(m - u) <= 1e-2 * u + 1e-9 for m, u in zip(self.measured, self.upper, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": "measured beside a certificate",
            "atoms": list(self.atoms),
            "certified": list(self.certified),
            "measured": list(self.measured),
            "upper": list(self.upper),
            "agrees": self.agrees,
            "staircase": self.staircase,
        }


@dataclass(frozen=True)
class Budget:
    """Everything that :func:`budget` found."""

    config: BudgetConfig
    task: dict[str, Any]
    activation: str
    telescope: Telescope
    half: Telescope
    rates: list[Rate]
    decay: Decay | None
    sparse: Sparse
    tail: list[float] | None
    runs: int
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)

    @property
    def integration_error(self) -> float:
        """Relative change of the total when the first half of the test inputs is used alone."""
        whole = self.telescope.total.mean
        return abs(self.half.total.mean - whole) / whole if whole > 0 else 0.0

    def document(self) -> dict[str, Any]:
        """The document ``sparsemf/budget/1``."""
        found = self.telescope.to_dict()
        return header("budget", SCHEMA_VERSION, config=self.config.to_dict(), timing_s={"total": self.seconds}) | {
            "task": self.task,
            "activation": self.activation,
            "runs": self.runs,
            **found,
            "integration_error": self.integration_error,
            "rates": [rate.to_dict() for rate in self.rates],
            "relaxation": None if self.decay is None else self.decay.to_dict(),
            "sparse": self.sparse.to_dict(),
            "target_tail": self.tail,
            "sentences": self.sentences(),
            "warnings": self.warnings,
        }

    def sentences(self) -> list[str]:
        """What was found, in words."""
        t = self.telescope
        largest = max(t.terms, key=lambda name: t.terms[name].mean)
        lines = [
            f"The terms sum to {t.sum.mean:.3g} and the measured total is {t.total.mean:.3g} "
            f"({t.total.mean / t.target:.1%} of ‖f*‖): the sum covers it in {'every' if t.closes else 'NOT every'} "
            f"repetition; orthogonal terms would give {t.quadrature:.3g}",
            f"The largest term is {largest}, {t.terms[largest].mean:.3g}",
        ]
        for rate in self.rates:
            low, high = rate.interval
            said = {
                "within": "as the theory says",
                "outside": "NOT as the theory says",
                "undecided": "undecided",
            }[rate.verdict]
            lines.append(
                f"{rate.quantity.capitalize()}: ‖·‖² ∝ ({rate.variable})^{rate.exponent:.2f} "
                f"(95 %: {low:.2f} to {high:.2f}), {said} ({_range(rate.expected)}: {rate.source})"
                + (
                    f"; without {', '.join(f'{x:g}' for x in rate.left_out)}, off any power law"
                    if rate.left_out
                    else ""
                )
            )
        if self.decay is not None:
            lines.append(f"Optimization: {self.decay.statement}")
        s = self.sparse
        lines.append(
            f"Sparse residual with S = {', '.join(map(str, sorted(set(s.atoms))))}: measured "
            f"{np.mean(s.measured):.3g}, certified U(S) {np.mean(s.upper):.3g}: they "
            f"{'agree' if s.agrees else 'do NOT agree'}"
        )
        return lines


def _range(expected: tuple[float, float]) -> str:
    low, high = expected
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def budget(
    config: BudgetConfig,
    task: Task,
    out: str | Path,
    *,
    jobs: int = 1,
    device: str = "cpu",
    watch: Watch | None = None,
) -> Budget:
    """Execute what is missing of the experiment in ``out`` and put the terms together.

    ``jobs`` processes of one thread each; runs that are finished are read, interrupted ones continued, so a call after
    an interrupt loses at most a tenth of the runs it stopped.  Raises
    :class:`~sparsemf.exceptions.InputError` for a task that is a data set (its population is not known) or has
    several activations, and where a run diverges.
    """
    began = time.perf_counter()
    activation, bias = _student(config, task)
    seeds = [config.seed + s for s in range(config.seeds)]
    folder = folder_at(Path(out)) / RUNS
    folder.mkdir(exist_ok=True)
    inputs = test_inputs(task.inputs, config.test_inputs, config.seed)
    path = _path(config)
    settings = [*path, *(setting for _, varied in _varied(config, path).values() for setting in varied)]

    def job(setting: Setting, seed: int) -> Job:
        return Job(task, config.train_config(activation, bias, setting, seed, device))

    wanted: dict[str, Job] = {}
    for seed in seeds:
        for setting in settings:
            wanted.setdefault((own := job(setting, seed)).name, own)
    ordered = sorted(wanted.values(), key=_cost, reverse=True)
    chaos_seeds = [config.seed + s for s in range(config.chaos_seeds)] if config.grids.width else []
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [(values_of, (own, folder, inputs)) for own in ordered]
    calls += [(_chaos, (task, config, activation, bias, seed, device, folder)) for seed in chaos_seeds]
    # the dictionaries follow in a second round: with atoms = None all repetitions take the first one's S*
    watch = watch or (lambda done, total: None)
    total = len(calls) + len(seeds)

    def shown(done: int, offset: int) -> None:
        watch(min(done + offset, total), total)

    found = list(in_parallel(calls, jobs, lambda done, _: shown(done, 0)))
    values = {own.name: v for own, v in zip(ordered, found[: len(ordered)], strict=True)}
    chaos = found[len(ordered) :]
    last = [job(path[-1], seed) for seed in seeds]
    first = dictionary_of(last[0], folder, inputs, config.atoms)
    rest = [(dictionary_of, (own, folder, inputs, first["atoms"])) for own in last[1:]]
    dictionaries = [first, *in_parallel(rest, jobs, lambda done, _: shown(done, len(calls) + 1))]
    target = _target(task, inputs)
    chains = [
        [*(values[job(setting, seed).name] for setting in path), own["values"]]
        for seed, own in zip(seeds, dictionaries, strict=True)
    ]
    half = inputs.shape[0] // 2
    rates, decay = _rates(config, path, values, job, seeds, chaos)
    found = telescope(target, chains)
    return Budget(
        config=config,
        task=describe(task),
        activation=activation,
        telescope=found,
        half=telescope(target[:half], [[g[:half] for g in chain] for chain in chains]),
        rates=rates,
        decay=decay,
        sparse=_sparse(dictionaries, found.terms["sparse"]),
        tail=_tail(task.teacher),
        runs=len(wanted) + len(chaos_seeds),
        seconds=time.perf_counter() - began,
        warnings=_warnings(config, found),
    )


def _student(config: BudgetConfig, task: Task) -> tuple[str, bool]:
    if task.data is not None:
        raise InputError(f"budget: expected a task with a population, got the data set {task.name!r}")
    activation = config.activation or task.activation
    if activation is None:
        raise InputError(f"budget: task {task.name!r} suggests no activation; set activation")
    bias = config.bias
    if bias is None:
        bias = task.teacher is not None and bool(np.any(task.teacher.bias))
    return activation, bias


def _path(config: BudgetConfig) -> list[Setting]:
    """g₀ … g₆."""
    found = [config.reference]
    for name in ("weight_decay", "temperature", "samples", "step_size", "time", "width"):
        found.append(replace(found[-1], **{name: getattr(config.base, name)}))
    return found


def _varied(config: BudgetConfig, path: list[Setting]) -> dict[str, tuple[Setting, list[Setting]]]:
    """For each quantity with a grid of runs: what they are held against, and they."""
    against = dict(zip(("weight_decay", "temperature", "samples", "step_size", "time"), path, strict=False))
    return {
        name: (setting, [replace(setting, **{name: value}) for value in getattr(config.grids, name)])
        for name, setting in against.items()
        if getattr(config.grids, name)
    }


def _cost(job: Job) -> float:
    return float(job.config.width) * float(job.config.samples or 1) * job.config.steps


def _chaos(
    task: Task, config: BudgetConfig, activation: str, bias: bool, seed: int, device: str, folder: Path
) -> tuple[list[int], list[float]]:
    """(coupled systems of each width, ‖f_N − f_ref‖²) of one reference at the base's n, T, η, τ.

    All references see the data of the first repetition.
    """
    from sparsemf.training.chaos import propagation_of_chaos
    from sparsemf.training.chaos_store import FILE

    at = replace(config.base, width=config.reference.width)
    own = config.train_config(activation, bias, at, config.seed, device)
    place = folder / f"chaos-{Job(task, own).name}-{seed}-{'-'.join(map(str, config.grids.width))}"
    found = propagation_of_chaos(
        task, own, config.grids.width, at.width, [seed], [at.steps], out=place, resume=(place / FILE).exists()
    )
    return list(found.systems), found.function[0, :, -1].tolist()


def _target(task: Task, inputs: Array) -> Array:
    import torch

    return task.target(torch.from_numpy(inputs)).double().numpy()


def _rates(
    config: BudgetConfig,
    path: list[Setting],
    values: dict[str, Array],
    job: Callable[[Setting, int], Job],
    seeds: list[int],
    chaos: list[tuple[list[int], list[float]]],
) -> tuple[list[Rate], Decay | None]:
    def square(f: Setting, g: Setting, seed: int) -> float:
        difference = values[job(f, seed).name] - values[job(g, seed).name]
        return float(np.mean(np.sum(difference**2, axis=1)))

    squares = {
        name: np.array([[square(setting, against, seed) for setting in varied] for seed in seeds])
        for name, (against, varied) in _varied(config, path).items()
    }
    ref, rates = config.reference, []
    if len(config.grids.width) > 1:
        x = [1 / n - 1 / ref.width for n in config.grids.width]
        found = np.array([row for _, row in chaos])
        rates.append(power_rate("chaos", "1/N − 1/N_ref", x, found, CHAOS_RANGE, "synchronous coupling", True))
    if len(config.grids.samples) > 1:
        x = [1 / n - 1 / ref.samples for n in config.grids.samples]
        source = "uniform deviation (½) to a stable minimiser (1)"
        rates.append(power_rate("statistical", "1/n − 1/n_ref", x, squares["samples"], (0.5, 1.0), source, True))
    if len(config.grids.temperature) > 1:
        x = [tau - ref.temperature for tau in config.grids.temperature]
        source = "free energy (1) to a smooth perturbation (2)"
        rates.append(power_rate("entropic", "τ − τ_ref", x, squares["temperature"], (1.0, 2.0), source, True))
    if len(config.grids.weight_decay) > 1:
        x = [decay - ref.weight_decay for decay in config.grids.weight_decay]
        source = "risk of the penalised minimiser (1) to a smooth perturbation (2)"
        rates.append(power_rate("regularization", "λ − λ_ref", x, squares["weight_decay"], (1.0, 2.0), source, True))
    if len(config.grids.step_size) > 1:
        x = [eta - ref.step_size for eta in config.grids.step_size]
        source = "strong order 1: the drift's (η − η_ref)² and the noise's η² − η_ref²"
        rates.append(
            power_rate("step size", "η − η_ref", x, squares["step_size"], (_noise_order(x, ref), 2.0), source, True)
        )
    decay = exponential_decay(config.grids.time, squares["time"]) if config.grids.time else None
    return rates, decay


def _noise_order(differences: list[float], reference: Setting) -> float:
    """The exponent of η² − η_ref² in η − η_ref over the grid.

    A step of M fine ones takes the noise ξ_j of all of them at once, where a fine run with drift −AX would have let it
    decay since: the difference, less its mean, is hA·Σ_j (j − (M − 1)/2)ξ_j, of variance h²A²M(M² − 1)/12 a step of
    length Mh, so h²A²(M² − 1)/12 a unit of time and of noise.
    """
    eta = np.array(differences) + reference.step_size
    return float(np.polyfit(np.log(differences), np.log(eta**2 - reference.step_size**2), 1)[0])


def _sparse(dictionaries: list[dict[str, Any]], term: Estimate) -> Sparse:
    stairs = [d["staircase"] for d in dictionaries]
    sizes = range(min(len(s) for s in stairs))
    maurey = [
        {row["S"]: row["best"] for row in (d["compressibility"] or {"curves": []})["curves"]} for d in dictionaries
    ]
    rows = [
        {
            "S": size,
            "upper": float(np.mean([s[size]["upper"] for s in stairs])),
            "lower": float(np.mean([s[size]["lower"] for s in stairs])),
            "coefficients": float(np.mean([m[size] for m in maurey])) if all(size in m for m in maurey) else None,
        }
        for size in sizes
    ]
    chosen = [d["atoms"] for d in dictionaries]
    return Sparse(
        atoms=tuple(chosen),
        certified=tuple(bool(d["s_star"]["certified"] and d["s_star"]["value"] == d["atoms"]) for d in dictionaries),
        measured=term.values,
        upper=tuple(float(s[min(k, len(s) - 1)]["upper"]) for s, k in zip(stairs, chosen, strict=True)),
        staircase=rows[:65],
    )


def _tail(teacher: Network | None, degree: int = 12) -> list[float] | None:
    """(Σ_{k > K} ‖T_k‖²)^{1/2} of the target for K = 0 … ``degree``, from its neurons; None where it has none."""
    if teacher is None or teacher.gated or teacher.quadratic is not None:
        return None
    r = np.linalg.norm(teacher.inner, axis=1)
    unit = teacher.inner / np.where(r > 0, r, 1.0)[:, None]
    c = teacher.activation.hermite(r, teacher.bias, degree)
    weights, cosines = teacher.alpha @ teacher.alpha.T, np.clip(unit @ unit.T, -1.0, 1.0)
    from sparsemf.measures import Gaussian, l2_norm

    norm = l2_norm(teacher, Gaussian.standard(teacher.d))
    energies = [float(np.sum(weights * np.outer(c[:, k], c[:, k]) * cosines**k)) for k in range(degree + 1)]
    whole = (0.5 * (norm.lower + norm.upper)) ** 2
    return [math.sqrt(max(whole - e, 0.0)) for e in np.cumsum(energies)]


def _warnings(config: BudgetConfig, found: Telescope) -> list[str]:
    lines = []
    part = found.terms["approximation"].mean
    if part > 0.5 * found.sum.mean:
        lines.append(
            "more than half of the sum is the approximation term: the references are far from the target; the "
            "other terms say little about the total"
        )
    for name in ("samples", "width"):
        ratio = getattr(config.reference, name) / getattr(config.base, name)
        if ratio < 4:
            lines.append(f"{name}: the reference is only {ratio:.3g} times the base's, so its term is a small part")
    return lines


def summary_rows(document: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """(term, mean, low, high) of a document, with sum and total."""
    rows = [(t["name"], t["mean"], *t["interval"]) for t in document["terms"]]
    return [*rows, *((name, document[name]["mean"], *document[name]["interval"]) for name in ("sum", "total"))]
