"""The document of ``sparsemf richardson RUN/ RUN/ …``: runs at several step sizes, their means extrapolated to 0."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from sparsemf.atomic import header
from sparsemf.exceptions import InputError
from sparsemf.training.config import TrainConfig
from sparsemf.training.integrators import INTEGRATORS
from sparsemf.training.records import Record
from sparsemf.training.richardson import CONFIDENCE, richardson_runs
from sparsemf.training.stationarity import diagnose
from sparsemf.training.store import METRICS, read_records, stored_run

SCHEMA_VERSION = 1
QUANTITIES = ("risk", "m2", "m4", "energy", "free_energy")

_OWN = {
    "step_size", "steps", "until", "seed", "first_particle", "metrics_every", "checkpoint_every",
    "device", "threads", "block",
}  # fmt: skip
"""Settings in which the runs may differ: the law at step size 0 is the same."""


def richardson_document(
    folders: Sequence[str | Path],
    quantities: Sequence[str] = QUANTITIES,
    order: float | None = None,
    confidence: float = CONFIDENCE,
) -> dict[str, Any]:
    """Stationary means of ``quantities`` at the runs' step sizes, extrapolated to 0 (:mod:`~.richardson`).

    Runs of one step size count as chains.  ``order`` defaults to the weak order of the integrator.  A run that is not
    found stationary is used and named under ``warnings``: its mean is that of no stationary law.

    Raises :class:`~sparsemf.exceptions.InputError` on folders that hold no run, runs that differ in more than step
    size, length and seed, an integrator without a stated law, schedules, and a quantity that was not recorded.
    """
    known = [f.name for f in fields(Record) if f.name not in ("step", "step_size", "temperature", "weight_decay")]
    if unknown := [q for q in quantities if q not in known]:
        raise InputError(f"quantity: expected one of {', '.join(known)}, got {unknown[0]}")
    chains: dict[float, list[list[Record]]] = defaultdict(list)
    rows, warnings = [], []
    first: tuple[str, dict[str, Any], dict[str, Any]] | None = None
    config: TrainConfig | None = None
    for folder in map(Path, folders):
        run = stored_run(folder)
        config, name = run.config, folder.resolve().name
        if config.integrator == "adam":
            raise InputError(f"{folder}: expected a run of euler or baoab, got adam, which samples no stated law")
        shared = {key: value for key, value in config.to_dict().items() if key not in _OWN}
        if first is None:
            first = name, shared, run.task
        elif run.task != first[2]:
            raise InputError(f"{folder}: expected the task of {first[0]}, got another; compare runs of one task")
        elif changed := [key for key in shared if shared[key] != first[1].get(key)]:
            raise InputError(
                f"{folder}: expected the {changed[0]} of {first[0]}, {first[1].get(changed[0])}, got "
                f"{shared[changed[0]]}; runs may differ in step size, length and seed only"
            )
        records = read_records(folder / METRICS)
        if not records:
            raise InputError(f"{folder}: expected records in {METRICS}, got none; train longer")
        verdict = diagnose(records, config)
        if verdict.stationary != "yes":
            warnings.append(f"{name} is not found stationary: {verdict.reasons[0] if verdict.reasons else 'no reason'}")
        step_size = records[-1].step_size
        chains[step_size].append(records)
        rows.append({
            "folder": name, "step_size": step_size, "seed": config.seed, "steps": run.step,
            "stationary": verdict.stationary,
        })  # fmt: skip
    if config is None or first is None:
        raise InputError("richardson: expected the folders of two runs or more, got none")
    used = float(INTEGRATORS[config.integrator].order) if order is None else order
    return header("richardson", SCHEMA_VERSION, config=first[1]) | {
        "task": first[2],
        "order": used,
        "runs": rows,
        "kind": "estimate",
        "extrapolations": {
            quantity: richardson_runs(chains, quantity, used, confidence=confidence).to_dict()
            for quantity in dict.fromkeys(quantities)
        },
        "warnings": warnings,
    }
