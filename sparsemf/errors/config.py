"""What an error budget is asked for: one trained measure, the references it is held against, and grids between them."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sparsemf.exceptions import InputError
from sparsemf.training.config import TrainConfig

CONFIGS = Path(__file__).parent / "configs"
"""Budgets that come with the package."""

_SETTING = ("samples", "width", "time", "step_size", "temperature", "weight_decay")
_SMALL = ("step_size", "temperature", "weight_decay")
"""Quantities whose reference is the smaller value."""


@dataclass(frozen=True)
class Setting:
    """A trained measure: n samples, N particles, run to time T = ηk by steps η at temperature τ with weight decay λ."""

    samples: int
    width: int
    time: float
    step_size: float
    temperature: float
    weight_decay: float

    @property
    def steps(self) -> int:
        return round(self.time / self.step_size)


@dataclass(frozen=True)
class Grids:
    """Values of one quantity each, on the base's side of its reference; empty: no rate is fitted."""

    samples: tuple[int, ...] = ()
    width: tuple[int, ...] = ()
    time: tuple[float, ...] = ()
    step_size: tuple[float, ...] = ()
    temperature: tuple[float, ...] = ()
    weight_decay: tuple[float, ...] = ()


@dataclass(frozen=True)
class BudgetConfig:
    """The experiment.

    Attributes
    ----------
    task, parameters :
        A population task by name with its parameters.
    activation, bias :
        Of the student; the teacher's by default.
    base :
        The measure whose error is decomposed.
    reference :
        N_ref ≥ N, n_ref ≥ n, T_ref ≥ T, η_ref ≤ η, τ_ref ≤ τ, λ_ref ≤ λ; η is a multiple of η_ref.
    grids :
        For the rates.
    atoms :
        S of the last term; None: the certified S* of the base measure of the first seed.
    seeds, seed :
        Independent repetitions (data, initial values, noise), from ``seed`` on.
    chaos_seeds :
        References of the propagation-of-chaos rate.
    test_inputs :
        A power of two: scrambled Sobol points on which norms are taken.
    training :
        Further options of :class:`~sparsemf.training.config.TrainConfig` (init_scale, precision, outer, …).
    """

    task: str
    base: Setting
    reference: Setting
    grids: Grids = Grids()
    parameters: dict[str, Any] = field(default_factory=dict)
    activation: str | None = None
    bias: bool | None = None
    atoms: int | None = None
    seeds: int = 4
    seed: int = 0
    chaos_seeds: int = 8
    test_inputs: int = 8192
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("seeds", "chaos_seeds"):
            if getattr(self, name) < 2:
                raise InputError(f"budget: expected {name} ≥ 2 for an interval, got {getattr(self, name)}")
        if self.test_inputs < 16 or self.test_inputs & (self.test_inputs - 1):
            raise InputError(f"budget: expected test_inputs a power of two ≥ 16, got {self.test_inputs}")
        if self.atoms is not None and self.atoms < 1:
            raise InputError(f"budget: expected atoms ≥ 1, got {self.atoms}")
        for where, setting in (("base", self.base), ("reference", self.reference)):
            for name in _SETTING:
                value = getattr(setting, name)
                if not (math.isfinite(value) and value > 0):
                    raise InputError(f"[{where}] {name}: expected a number > 0, got {value}")
        for name in _SETTING:
            _between(name, getattr(self.base, name), getattr(self.reference, name), "base")
            values = getattr(self.grids, name)
            for value in values:
                _between(name, value, getattr(self.reference, name), "grids", strict=True)
            if list(values) != sorted(set(values)):
                raise InputError(f"[grids] {name}: expected increasing values, got {list(values)}")
        for size in {self.base.step_size, *self.grids.step_size}:
            self.substeps(size)
        for size, time in (
            *((size, self.reference.time) for size in (self.base.step_size, *self.grids.step_size)),
            *((self.base.step_size, time) for time in (self.base.time, *self.grids.time)),
        ):
            if abs(time / size - round(time / size)) > 1e-6:
                raise InputError(f"budget: expected times that are multiples of the step size, got {time} and {size}")

    def substeps(self, step_size: float) -> int:
        """η/η_ref, how many fine steps one step is."""
        ratio = step_size / self.reference.step_size
        if abs(ratio - round(ratio)) > 1e-6:
            raise InputError(
                f"budget: expected step sizes that are multiples of the reference's {self.reference.step_size}, "
                f"got {step_size}: noise is shared by summing the fine steps' noise"
            )
        return round(ratio)

    def train_config(
        self, activation: str, bias: bool, setting: Setting, seed: int, device: str = "cpu"
    ) -> TrainConfig:
        """The run of ``setting``; runs of one seed share data, initial values and Brownian paths."""
        steps = setting.steps
        own: dict[str, Any] = {
            "width": setting.width,
            "steps": steps,
            "step_size": setting.step_size,
            "temperature": setting.temperature,
            "weight_decay": setting.weight_decay,
            "samples": setting.samples,
            "sampling": "full",
            "noise_substeps": self.substeps(setting.step_size),
            "metrics_every": max(1, steps // 10),
            "checkpoint_every": max(1, steps // 10),
            "threads": 1,
            "device": device,
            "seed": seed,
            "bias": bias,
        }
        fixed = set(own) - {"threads", "metrics_every", "checkpoint_every"}
        if clash := sorted(fixed & set(self.training)):
            raise InputError(f"[training] {clash[0]}: set by the budget itself; leave it out")
        if self.training.get("loss", "square") != "square" or self.training.get("integrator", "euler") != "euler":
            raise InputError("[training]: expected loss square and integrator euler")
        return TrainConfig.from_dict({"activation": activation, **own, **self.training})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BudgetConfig:
        """Raises :class:`InputError` on unknown, missing or misshapen entries."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(f"budget: unknown entry {unknown[0]!r}; known: {', '.join(sorted(known))}")
        given = dict(values)
        for name in ("task", "base", "reference"):
            if name not in given:
                raise InputError(f"budget: {name!r} is missing; see the example in the documentation")
        if not isinstance(given["task"], str):
            raise InputError(f"budget: expected the name of a task, got {given['task']!r}")
        for name in ("base", "reference"):
            given[name] = _setting(name, given[name])
        given["grids"] = _grids(given.get("grids", {}))
        for name in ("parameters", "training"):
            if not isinstance(given.get(name, {}), Mapping):
                raise InputError(f"[{name}]: expected a table, got {given[name]!r}")
        for name in ("atoms", "seeds", "seed", "chaos_seeds", "test_inputs"):
            value = given.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise InputError(f"budget: expected an integer for {name}, got {value!r}")
        return cls(**given)

    @classmethod
    def read(cls, path: str | Path) -> BudgetConfig:
        """A TOML file, or one of ours by name ("tanh-quick"); raises :class:`InputError` when there is none."""
        known = {file.stem: file for file in CONFIGS.glob("*.toml")}
        place = Path(path) if Path(path).exists() else known.get(str(path), Path(path))
        try:
            text = place.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}: expected a TOML file or one of {', '.join(sorted(known))} "
                f"({getattr(error, 'strerror', None) or error})"
            ) from None
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{path}: not TOML ({error})") from None
        return cls.from_dict(values)

    def with_seeds(self, seeds: int | None, seed: int | None) -> BudgetConfig:
        """The same with another number of repetitions, or another first one."""
        return replace(self, seeds=seeds or self.seeds, seed=self.seed if seed is None else seed)


def _between(name: str, value: float, reference: float, where: str, strict: bool = False) -> None:
    small = name in _SMALL
    wrong = value < reference if small else value > reference
    if wrong or (strict and value == reference):
        side = "≥" if small else "≤"
        raise InputError(f"[{where}] {name}: expected values {side} the reference's {reference:g}, got {value:g}")


def _setting(where: str, values: Any) -> Setting:
    if not isinstance(values, Mapping) or set(values) != set(_SETTING):
        raise InputError(f"[{where}]: expected exactly {', '.join(_SETTING)}, got {_named(values)}")
    return Setting(**{name: _value(where, name, values[name]) for name in _SETTING})


def _grids(values: Any) -> Grids:
    if not isinstance(values, Mapping) or set(values) - set(_SETTING):
        raise InputError(f"[grids]: expected lists of {', '.join(_SETTING)}, got {_named(values)}")
    found = {}
    for name, listed in values.items():
        if not isinstance(listed, list | tuple):
            raise InputError(f"[grids] {name}: expected a list, got {listed!r}")
        found[name] = tuple(_value("grids", name, value) for value in listed)
    return Grids(**found)


def _value(where: str, name: str, value: Any) -> Any:
    whole = name in ("samples", "width")
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        kind = "an integer" if whole else "a number"
        raise InputError(f"[{where}] {name}: expected {kind}, got {value!r}")
    return value if whole else float(value)


def _named(values: Any) -> str:
    return ", ".join(map(str, values)) if isinstance(values, Mapping) else repr(values)
