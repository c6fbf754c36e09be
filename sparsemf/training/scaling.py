"""The μP check: do sizes in the network and the best learning rate stay where they are when the width grows?

For each parametrisation and width a coordinate check (:mod:`~sparsemf.training.coordinate_check`) and a sweep over
learning rates (:mod:`~sparsemf.training.rate_sweep`), then exponents with 95 % intervals beside those that theory
predicts (:mod:`~sparsemf.training.scaling_laws`, docs/scaling).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from sparsemf.atomic import header, plain, write_json
from sparsemf.exceptions import InputError
from sparsemf.training.config import TrainConfig
from sparsemf.training.coordinate_check import Coordinates, Interrupted, coordinate_check, coordinate_times
from sparsemf.training.devices import torch_threads
from sparsemf.training.rate_sweep import Sweep, rate_sweep, slope_of_best_rates
from sparsemf.training.scaling_laws import (
    QUANTITIES,
    Slope,
    predicted_best_rate,
    predicted_size,
    slope_over_seeds,
)
from sparsemf.training.schedule import Schedule
from sparsemf.training.task import Task, describe

SCHEMA_VERSION = 1
DOCUMENT = "scaling.json"
POINTS = "points"

PARAMETRISATIONS = ("mean-field", "standard", "ntk")
RATES = {"euler": (0.125, 8.0), "adam": (2.0**-6, 1.0)}
"""Where the ladder begins; it grows until the best rate lies inside."""
COORDINATE_RATE = {"euler": 0.1, "adam": 0.01}

Progress = Callable[[str, int, int], None]
"""Called with what is under way, the parts that are done, and the number of parts."""


@dataclass(frozen=True)
class ScalingConfig:
    """What is compared with what.

    Attributes
    ----------
    activation, bias :
        Of the network.
    widths, parametrisations :
        Every pair of them is measured.
    integrator :
        ``euler`` (plain SGD: temperature and weight decay are 0) or ``adam``.
    rates :
        Where the ladder of learning rates begins (lowest, highest); None: :data:`RATES`.  In the parametrisation's
        own convention: mean-field multiplies N∇R, the others ∇R in their own coordinates.
    coordinate_rate, coordinate_steps, probes :
        The one learning rate of the coordinate check (None: :data:`COORDINATE_RATE`), its last update, its inputs.
    steps, batch, seeds, seed :
        Updates of a run in the sweep, samples of an update, runs of one rate, the first seed.
    test_samples :
        Gaussian inputs of the final risk; a data set is evaluated on all its samples.
    precision, device, block, threads :
        Of the sweep, as in :class:`~sparsemf.training.TrainConfig`; the coordinate check runs in float64.

    Raises
    ------
    InputError
        When a value is out of range: fewer than two different widths or seeds, an unknown name, rates that do not
        ascend.
    """

    activation: str
    widths: tuple[int, ...] = (64, 256, 1024, 4096, 16384)
    parametrisations: tuple[str, ...] = ("mean-field", "standard")
    integrator: Literal["euler", "adam"] = "euler"
    rates: tuple[float, float] | None = None
    coordinate_rate: float | None = None
    coordinate_steps: int = 32
    probes: int = 64
    steps: int = 150
    batch: int = 64
    seeds: int = 4
    seed: int = 0
    bias: bool = False
    test_samples: int = 1024
    precision: Literal["float32", "float64"] = "float32"
    device: str = "cpu"
    block: int = 1 << 22
    threads: int = 1

    def __post_init__(self) -> None:
        if self.integrator not in RATES:
            raise InputError(f"optimizer: expected one of {', '.join(RATES)}, got {self.integrator!r}")
        for name in self.parametrisations:
            if name not in PARAMETRISATIONS:
                raise InputError(f"parametrisation: expected one of {', '.join(PARAMETRISATIONS)}, got {name!r}")
        if len(set(self.parametrisations)) != len(self.parametrisations) or not self.parametrisations:
            raise InputError("parametrisation: expected each of them once")
        if len(set(self.widths)) < 2 or min(self.widths) < 1:
            given = ", ".join(map(str, self.widths))
            raise InputError(f"widths: expected at least two different numbers ≥ 1, got {given or 'none'}")
        for name in ("coordinate_steps", "probes", "threads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected an integer ≥ 1, got {getattr(self, name)}")
        if self.seeds < 2:
            raise InputError(f"seeds: expected at least 2 for an interval, got {self.seeds}")
        low, high = self.ladder
        if not (0 < low < high < math.inf):
            raise InputError(f"rates: expected 0 < LOW < HIGH, got {low:g} and {high:g}")
        if not (0 < self.coordinate_step_size < math.inf):
            raise InputError(f"coordinate_rate: expected a number > 0, got {self.coordinate_step_size:g}")
        object.__setattr__(self, "widths", tuple(sorted(set(self.widths))))
        object.__setattr__(self, "activation", self.train_config(self.parametrisations[0], self.widths[0]).activation)

    @property
    def ladder(self) -> tuple[float, float]:
        """Where the ladder begins."""
        return RATES[self.integrator] if self.rates is None else self.rates

    @property
    def coordinate_step_size(self) -> float:
        """The learning rate of the coordinate check."""
        return COORDINATE_RATE[self.integrator] if self.coordinate_rate is None else self.coordinate_rate

    def train_config(self, parametrisation: str, width: int) -> TrainConfig:
        """The run of one width: no noise, no decay, constant learning rate."""
        return TrainConfig(
            self.activation,
            width=width,
            bias=self.bias,
            steps=self.steps,
            integrator=self.integrator,
            parametrisation=parametrisation,  # pyright: ignore[reportArgumentType]
            step_size=Schedule(self.coordinate_step_size),
            temperature=Schedule(0.0),
            weight_decay=Schedule(0.0),
            batch=self.batch,
            seed=self.seed,
            test_samples=self.test_samples,
            precision=self.precision,
            device=self.device,
            block=self.block,
            threads=self.threads,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, the two defaults that depend on the optimiser filled in."""
        return plain(asdict(self) | {"rates": self.ladder, "coordinate_rate": self.coordinate_step_size})


@dataclass(frozen=True)
class Point:
    """All that is measured at one width of one parametrisation."""

    coordinates: Coordinates
    sweep: Sweep


@dataclass(frozen=True)
class SizeSlope:
    """A measured exponent of a size beside the predicted one (None: no power law is claimed)."""

    parametrisation: str
    quantity: str
    step: int
    predicted: float | None
    slope: Slope

    def to_dict(self) -> dict[str, Any]:
        agrees = None if self.predicted is None or self.slope.value is None else self.slope.agrees(self.predicted)
        named = {"parametrisation": self.parametrisation, "quantity": self.quantity, "step": self.step}
        return named | {"predicted": self.predicted, **self.slope.to_dict(), "agrees": agrees}


@dataclass(frozen=True)
class RateSlope:
    """The exponent of the best learning rate; ``best`` is log η* of each width with its interval."""

    parametrisation: str
    widths: tuple[int, ...]
    predicted: float
    slope: Slope
    best: tuple[Slope, ...]
    how: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        first, last = self.widths[0], self.widths[-1]
        s = self.slope
        if s.value is None or s.low is None or s.high is None:
            return f"{self.parametrisation}: no best learning rate was found at two widths"
        factor = math.exp(abs(s.value) * math.log(last / first))
        fitted = f"N^{_signed(s.value)} (95 %: {_signed(s.low)} to {_signed(s.high)})"
        span = f"over N = {first} to {last}"
        if s.verdict == "stable":
            return f"{self.parametrisation}: the best learning rate is stable, {fitted}; a factor {factor:.2g} {span}"
        if s.verdict == "drifts":
            return f"{self.parametrisation}: the best learning rate drifts by {fitted}; a factor {factor:.2g} {span}"
        return f"{self.parametrisation}: undecided, {fitted}; take more seeds or widths"

    def to_dict(self) -> dict[str, Any]:
        rows = [
            {
                "width": width,
                "rate": _exp(one.value),
                "interval": [_exp(one.low), _exp(one.high)],
                "how": how,
            }
            for width, one, how in zip(self.widths, self.best, self.how, strict=True)
        ]
        return {
            "parametrisation": self.parametrisation,
            "predicted": self.predicted,
            **self.slope.to_dict(),
            "verdict": self.slope.verdict,
            "sentence": self.sentence,
            "best": rows,
        }


@dataclass(frozen=True)
class Scaling:
    """The result of :func:`scaling_check`; ``status`` is "interrupted" when points are missing."""

    config: ScalingConfig
    task: dict[str, Any]
    points: tuple[Point, ...]
    status: Literal["complete", "interrupted"]
    seconds: float

    def size_slopes(self) -> list[SizeSlope]:
        """Exponents of every quantity at every time."""
        found = []
        for name in self.config.parametrisations:
            measured = [p.coordinates for p in self._of(name)]
            if len(measured) < 2:
                continue
            widths = [c.width for c in measured]
            for quantity in QUANTITIES:
                for place, step in enumerate(measured[0].times):
                    if step == 0 and quantity.startswith("d"):
                        continue
                    sizes = np.stack([c.sizes[quantity][place] for c in measured])
                    predicted = predicted_size(self.config.integrator, name, quantity, step)
                    found.append(SizeSlope(name, quantity, step, predicted, slope_over_seeds(widths, sizes)))
        return found

    def rate_slopes(self) -> list[RateSlope]:
        """The exponent of the best learning rate of every parametrisation with two widths or more."""
        found = []
        for name in self.config.parametrisations:
            sweeps = [p.sweep for p in self._of(name)]
            if len(sweeps) < 2:
                continue
            slope, best = slope_of_best_rates(sweeps, self.config.seed)
            predicted = predicted_best_rate(self.config.integrator, name)
            hows = tuple(s.optimum().how for s in sweeps)
            found.append(RateSlope(name, tuple(s.width for s in sweeps), predicted, slope, tuple(best), hows))
        return found

    def to_document(self) -> dict[str, Any]:
        """The ``sparsemf/scaling`` document."""
        head = header("scaling", SCHEMA_VERSION, config=self.config.to_dict(), timing_s={"total": self.seconds})
        rates = self.rate_slopes()
        document = head | {
            "task": self.task,
            "status": self.status,
            "quantities": QUANTITIES,
            "coordinates": [p.coordinates.to_dict() for p in self.points],
            "size_slopes": [s.to_dict() for s in self.size_slopes()],
            "sweeps": [p.sweep.to_dict() for p in self.points],
            "rate_slopes": [r.to_dict() for r in rates],
            "warnings": _warnings(rates),
        }
        return plain(document)

    def _of(self, parametrisation: str) -> list[Point]:
        return [p for p in self.points if p.sweep.parametrisation == parametrisation]


def scaling_check(
    task: Task,
    config: ScalingConfig,
    out: str | Path | None = None,
    *,
    progress: Progress | None = None,
    interrupt: Callable[[], bool] | None = None,
) -> Scaling:
    """Measure every width of every parametrisation.

    Parameters
    ----------
    out :
        Folder for scaling.json and a file for each point that is done; points found there are not measured again, so
        widths and parametrisations can be added later.
    progress :
        Called before every part and after the last one.
    interrupt :
        Asked before every update; when it answers True the points done so far are returned as "interrupted".

    Raises
    ------
    InputError
        When task and configuration do not fit, ``out`` holds points of other settings, or it cannot be written.
    """
    started = time.perf_counter()
    device = torch.device(config.device)
    described = plain(describe(task))
    folder = None if out is None else Path(out)
    pairs = [(name, width) for name in config.parametrisations for width in config.widths]
    key = _key(config, described)
    points = {pair: _stored(folder, pair, key) for pair in pairs}
    if folder is not None:
        with _writing(folder):
            (folder / POINTS).mkdir(parents=True, exist_ok=True)
    status: Literal["complete", "interrupted"] = "complete"
    with torch_threads(config.threads):
        for done, (name, width) in enumerate(pairs):
            if progress is not None:
                progress(f"{name} · N = {width}", done, len(pairs))
            if points[name, width] is not None:
                continue
            try:
                points[name, width] = point = _measure(task, config, name, width, device, interrupt)
            except Interrupted:
                status = "interrupted"
                break
            if folder is not None:
                content = {"key": key, "coordinates": point.coordinates.to_dict(), "sweep": point.sweep.to_dict()}
                with _writing(folder):
                    write_json(_file(folder, name, width), content)
    if progress is not None and status == "complete":
        progress("done", len(pairs), len(pairs))
    found = tuple(p for p in points.values() if p is not None)
    result = Scaling(config, described, found, status, time.perf_counter() - started)
    if folder is not None:
        with _writing(folder):
            write_json(folder / DOCUMENT, result.to_document())
    return result


def _measure(
    task: Task,
    config: ScalingConfig,
    name: str,
    width: int,
    device: torch.device,
    interrupt: Callable[[], bool] | None,
) -> Point:
    train = config.train_config(name, width)
    times = coordinate_times(config.coordinate_steps)
    coordinates = coordinate_check(task, train, config.seeds, times, config.probes, device, interrupt)
    sweep = rate_sweep(task, train, config.ladder, config.seeds, device, interrupt)
    return Point(coordinates, sweep)


def _key(config: ScalingConfig, task: dict[str, Any]) -> dict[str, Any]:
    """What a stored point must agree with: everything but the lists of points, and the speed."""
    own = ("widths", "parametrisations", "device", "block", "threads")
    return {"config": {k: v for k, v in config.to_dict().items() if k not in own}, "task": task}


def _file(folder: Path, name: str, width: int) -> Path:
    return folder / POINTS / f"{name}-{width}.json"


def _stored(folder: Path | None, pair: tuple[str, int], key: dict[str, Any]) -> Point | None:
    if folder is None or not (path := _file(folder, *pair)).exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        point = Point(Coordinates.from_dict(content["coordinates"]), Sweep.from_dict(content["sweep"]))
        stored = content["key"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: expected a point of a scaling check; remove the file to measure it again") from None
    for part in ("task", "config"):
        for name, value in key[part].items():
            if stored.get(part, {}).get(name) != value:
                raise InputError(
                    f"{folder} holds a check with another {name} ({stored.get(part, {}).get(name)}, now {value}); "
                    "choose another folder"
                )
    return point


def _warnings(rates: Sequence[RateSlope]) -> list[str]:
    found = []
    for rate in rates:
        for width, how in zip(rate.widths, rate.how, strict=True):
            if how == "open":
                found.append(f"{rate.parametrisation}, N = {width}: the loss has no minimum within the rates tried")
            elif how == "none":
                found.append(f"{rate.parametrisation}, N = {width}: every rate diverged")
    return found


def _signed(value: float) -> str:
    """Two decimals with a sign, and no −0.00."""
    return f"{round(value, 2) + 0.0:+.2f}"


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(value)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: cannot write ({error.strerror or error}); points that are done are kept: mend it and run again"
        ) from None
