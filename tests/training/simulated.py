"""Records of runs that were never run: autoregressive series about known means, with known transients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields, make_dataclass
from typing import Any

import numpy as np
from scipy.signal import lfilter

from sparsemf.training.config import TrainConfig
from sparsemf.training.records import Record

QUANTITIES = ("loss", "m2", "m4", "energy", "free_energy")
_MISSING_HERE = [(name, Any, None) for name in QUANTITIES if name not in {f.name for f in fields(Record)}]
SimulatedRecord = make_dataclass("SimulatedRecord", _MISSING_HERE, bases=(Record,), frozen=True)
_REQUIRED = [f.name for f in fields(SimulatedRecord) if f.default is MISSING and f.default_factory is MISSING]


def autoregressive(phi: float, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Stationary x_t = φ x_{t−1} + √(1 − φ²) ξ_t of variance 1 along the last axis; τ_int = (1 + φ)/(1 − φ)."""
    noise = rng.standard_normal(shape)
    noise[..., 1:] *= np.sqrt(1 - phi**2)
    return np.asarray(lfilter([1.0], [1.0, -phi], noise, axis=-1))


def record(*, step: int, **values: Any) -> Any:
    """A record with these fields; required fields that are not named are 0."""
    return SimulatedRecord(**(dict.fromkeys(_REQUIRED, 0.0) | {"step": step} | values))


def records(
    every: int = 1,
    *,
    begin: int = 0,
    step_size: float = 1.0,
    weight_decay: float = 1.0,
    make: Callable[..., Any] = record,
    **series: Iterable[float],
) -> list[Any]:
    """One record every ``every`` steps after ``begin`` from equally long series.

    ``excess`` is the numerator of the balance: drift = 1 + excess, discretisation = 0, noise = 1; so its divisor is
    about 2 where λm_2 is about 1.
    """
    columns = {name: np.asarray(values, dtype=float).tolist() for name, values in series.items()}
    length = len(next(iter(columns.values())))
    excess = columns.pop("excess", [0.0] * length)
    constant = {"step_size": step_size, "weight_decay": weight_decay, "discretisation": 0.0, "noise": 1.0}
    names = list(columns)
    return [
        make(step=begin + (i + 1) * every, **constant, drift=1.0 + above, **dict(zip(names, row, strict=True)))
        for i, (above, row) in enumerate(zip(excess, zip(*columns.values(), strict=True), strict=True))
    ]


def run(
    length: int,
    phi: float,
    rng: np.random.Generator,
    *,
    spread: float = 0.1,
    mean: float = 1.0,
    shape: np.ndarray | None = None,
    moving: tuple[str, ...] = QUANTITIES,
    every: int = 1,
    begin: int = 0,
    make: Callable[..., Any] = record,
) -> list[Any]:
    """``length`` records after step ``begin``: independent AR(1) quantities and a white balance.

    Each has mean ``mean`` and standard deviation ``spread``; ``spread·shape`` (length,) is added to those in
    ``moving``.
    """
    noise = autoregressive(phi, (len(QUANTITIES), length), rng)
    series = {name: mean + spread * noise[i] for i, name in enumerate(QUANTITIES)}
    if shape is not None:
        series |= {name: series[name] + spread * shape for name in moving}
    return records(every, begin=begin, make=make, **series, excess=spread * rng.standard_normal(length))


def settings(steps: int, **options: Any) -> TrainConfig:
    """A configuration of constant schedules, η = λ = 1: every step is a relaxation time."""
    constant = {"step_size": 1.0, "temperature": 1.0, "weight_decay": 1.0, "metrics_every": 1}
    return TrainConfig("tanh", steps=steps, **(constant | options))
