"""The document of ``sparsemf moments RUN/``: growth of the moments, the a-priori bound where it holds, weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import get
from sparsemf.atomic import header
from sparsemf.exceptions import InputError
from sparsemf.training.config import TrainConfig
from sparsemf.training.drift import DriftBound, drift_bound
from sparsemf.training.initial_law import InitialLaw, trainer_law
from sparsemf.training.lyapunov import MomentCertificate, discrete_recursion, no_certificate
from sparsemf.training.lyapunov_run import noise_tail, run_bound, schedule_rates
from sparsemf.training.membership import Weights, membership
from sparsemf.training.moments import FILE, growth, read_rows
from sparsemf.training.store import DOCUMENT
from sparsemf.training.task import Task

Array = NDArray[np.float64]
TaskOf = Callable[[dict[str, Any]], Task]
"""The task of a run from its record in run.json."""

SCHEMA_VERSION = 1


def moments_document(directory: str | Path, weights: Sequence[Weights], task_of: TaskOf) -> dict[str, Any]:
    """Everything that is known of the moments of the run in ``directory``.

    ``task_of`` is asked only where the drift bound needs the data.  Raises
    :class:`~sparsemf.exceptions.InputError` when moments.jsonl or run.json is missing or damaged.
    """
    folder = Path(directory)
    rows = read_rows(folder / FILE)
    run = _run(folder / DOCUMENT)
    task, values = run["task"], run["config"]
    config = TrainConfig.from_dict(values)
    dimension = int(task["outputs"]) + int(task["inputs"]) + int(config.bias)
    found = growth(rows)
    rates = schedule_rates(config)
    law = _law(values, task)
    drift = _drift(config, task, task_of)
    certificate = certificate_of(found.k_max, rates, drift, dimension, law)
    tail = certificate.tail or noise_tail(rates, law)
    answers = [membership(w, found, dimension, certificate, tail, law).to_dict() for w in weights]
    return header("moments", SCHEMA_VERSION, config=values) | {
        "input": {"path": folder.resolve().name, "activation": config.activation},
        "task": task,
        "dimension": dimension,
        "growth": with_infinite(found.to_dict(), law),
        "initial_law": None if law is None else law.describe(),
        "drift": drift.to_dict(),
        "certificate": certificate.to_dict(),
        "membership": answers,
        "warnings": _warnings(rows[0].step, found.trusted, found.k_max),
    }


def with_infinite(growth: dict[str, Any], law: InitialLaw | None) -> dict[str, Any]:
    """The growth with ``proved_infinite`` at each k whose E‖θ_0‖^k = ∞: there M_k = ∞ and w*_k = 0, whatever N
    particles show.
    """
    for entry in growth["moments"]:
        entry["proved_infinite"] = law is not None and law.moment(entry["k"]).sort == "infinite"
    return growth


def certificate_of(
    k_max: int, rates: Array, drift: DriftBound, dimension: int, law: InitialLaw | None
) -> MomentCertificate:
    """For all times when the rates are constant and the chain contracts, else for the run's own steps."""
    if not drift.holds:
        return no_certificate(drift.why_not or "the drift is not bounded")
    if law is None:
        return no_certificate("the moments of the initial law are not known")
    eta, tau, kappa = (float(v) for v in rates[0])
    if (rates == rates[0]).all() and kappa > 0:
        forever = discrete_recursion(k_max, kappa, drift, tau, dimension, law, eta)
        if forever.holds:
            return forever
    return run_bound(k_max, rates, drift, dimension, law)


def _run(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected the run.json of `sparsemf train` ({error})") from None
    if not isinstance(found, dict) or not all(isinstance(found.get(key), dict) for key in ("config", "task")):
        raise InputError(f"{path}: expected the run.json of `sparsemf train` with its config and task")
    if not all(isinstance(found["task"].get(key), int) for key in ("inputs", "outputs")):
        raise InputError(f"{path}: the task lacks its numbers of inputs and outputs")
    return found


def _law(values: Mapping[str, Any], task: Mapping[str, Any]) -> InitialLaw | None:
    try:
        return trainer_law(values, int(task["inputs"]), int(task["outputs"]))
    except InputError:
        return None


def _drift(config: TrainConfig, task: dict[str, Any], task_of: TaskOf) -> DriftBound:
    if config.integrator != "euler":
        return DriftBound.none(f"the integrator {config.integrator} does not take the step θ − η(g + λθ) + √(2τη) ξ")
    if config.parametrisation != "mean-field":
        return DriftBound.none(f"the {config.parametrisation} parametrisation has other step sizes for each layer")
    if config.anchor_every:
        return DriftBound.none("the control variate's drift also depends on the particles at its anchor")
    if config.outer == "fixed":
        return DriftBound.none("the outer weights are fixed: the bound is for trained ones")
    outer = "free" if config.outer == "trained" else "bounded"
    sigma = get(config.activation)
    options = {
        "outer": outer,
        "outer_bound": config.outer_bound,
        "loss": config.loss,
        "huber_delta": config.huber_delta,
    }
    population = task.get("samples") is None
    fresh = config.sampling == "fresh" or (config.sampling == "auto" and population)
    if outer == "free" or fresh:
        return drift_bound(sigma, None, None, **options)
    if population and config.device != "cpu":
        return DriftBound.none(
            f"the training set was drawn on the device {config.device}; it is not in the run's folder"
        )
    x, y = _samples(task_of(task), config)
    part = None
    if config.sampling != "full":
        rest = x.shape[0] % config.batch
        part = min(config.batch, rest or config.batch)
    return drift_bound(sigma, x, y, batch=part, **options)


def _samples(task: Task, config: TrainConfig) -> tuple[Array, Array]:
    """The training set as the trainer sees it: in its precision, with its column of ones."""
    import torch

    from sparsemf.training.batches import make_batches

    like = torch.empty(0, dtype=getattr(torch, config.precision))
    everything = make_batches(task, config, like).everything()
    if everything is None:
        raise InputError(f"task {task.name!r}: expected a fixed training set")
    x, y = everything
    return x.double().numpy(), y.double().numpy()


def _warnings(first: int, trusted: int, k_max: int) -> list[str]:
    found = []
    if first > 0:
        found.append(f"the first recorded step is {first}: M_k does not see the initial moments")
    if trusted < k_max:
        found.append(f"M_k beyond k = {trusted} is an under-estimate: too few particles carry it")
    return found
