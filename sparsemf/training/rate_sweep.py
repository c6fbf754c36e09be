"""The best learning rate of one width: a ladder of rates and seeds that move as replicas of one system.

Rates are 2^{k/2} for integers k.  Even k, a factor 2 apart, are tried first; while the smallest loss lies within a
factor 2 of an end, the ladder grows there, so that one lucky rate does not end the search.  Then the odd neighbours of
the best one halve the distance to √2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student

from sparsemf.training.batches import Batch, data_of, with_ones
from sparsemf.training.config import TrainConfig
from sparsemf.training.coordinate_check import Interrupted
from sparsemf.training.randomness import Stream, normals
from sparsemf.training.scaling_laws import Slope, fitted_slopes
from sparsemf.training.schedule import Schedule
from sparsemf.training.system import System
from sparsemf.training.task import Task

Array = NDArray[np.float64]
How = Literal["parabola", "edge", "open", "none"]

DIVERGED = 1e3
"""A run whose loss exceeds this many times the initial risk, at any update or at the end, has diverged."""

STATE = 1 << 25
"""Largest number of parameters of all replicas of a system together."""

REACH = 60
"""The ladder ends this many steps of factor 2 away from where it began."""

BOOTSTRAP = 400
"""Replicates of the bootstrap over seeds."""


@dataclass(frozen=True)
class Optimum:
    """The minimum of the loss over log η.

    ``how``: "parabola" through the smallest loss and its two neighbours; "edge": the rate above the best one
    diverges, so that the minimum is known up to its neighbours only; "open": the smallest loss lies at an end of the
    ladder; "none": no rate is finite.  ``bounds``: log η half-way to the neighbours.
    """

    log_rate: float
    how: How
    bounds: tuple[float, float]


@dataclass(frozen=True)
class Sweep:
    """Final risks of one width: ``losses`` (rates, seeds), +∞ where the run diverged."""

    parametrisation: str
    width: int
    rates: tuple[float, ...]
    losses: Array

    def optimum(self) -> Optimum:
        return best_rate(np.log(self.rates), self.losses)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; a diverged run is null."""
        return {
            "parametrisation": self.parametrisation,
            "width": self.width,
            "rates": list(self.rates),
            "losses": self.losses.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Sweep:
        losses = np.asarray(values["losses"], dtype=np.float64)
        losses[np.isnan(losses)] = np.inf
        return cls(values["parametrisation"], values["width"], tuple(values["rates"]), losses)


def typical_losses(losses: Array) -> Array:
    """Mean over seeds of log loss, (rates,); +∞ where one seed diverged."""
    with np.errstate(divide="ignore"):
        return np.log(losses).mean(axis=-1)


def best_rate(log_rates: Array, losses: Array) -> Optimum:
    """The best rate from ``losses`` (rates, seeds) at ascending ``log_rates``.

    The vertex of the parabola through the least mean log loss and its two neighbours, which lies between them, and
    for equal distances within half of one.  Where the loss still falls at the last rate that does not diverge there
    is no parabola (+∞ is no ordinate), and that rate is taken.
    """
    return _minimum(np.asarray(log_rates, dtype=np.float64), typical_losses(losses))


def _minimum(x: Array, y: Array) -> Optimum:
    """:func:`best_rate` of mean log losses ``y`` (rates,)."""
    if not (y < math.inf).any():
        return Optimum(math.nan, "none", (math.nan, math.nan))
    i = int(np.argmin(y))
    low = x[i] if i == 0 else 0.5 * (x[i] + x[i - 1])
    high = x[i] if i == x.size - 1 else 0.5 * (x[i] + x[i + 1])
    bounds = (float(low), float(high))
    if i in (0, x.size - 1):
        return Optimum(float(x[i]), "open", bounds)
    if not np.isfinite(y[i - 1 : i + 2]).all():
        return Optimum(float(x[i]), "edge", bounds)
    left, right = x[i] - x[i - 1], x[i + 1] - x[i]
    rise_left, rise_right = y[i - 1] - y[i], y[i + 1] - y[i]
    curvature = rise_left * right + rise_right * left
    if curvature <= 0:  # three equal losses: no preference among them
        return Optimum(float(x[i]), "edge", bounds)
    vertex = x[i] + 0.5 * (rise_left * right**2 - rise_right * left**2) / curvature
    return Optimum(float(vertex), "parabola", bounds)


def searched(losses_at: Callable[[list[int]], Array], low: int, high: int) -> tuple[list[int], Array]:
    """Rungs k (ascending) and their losses (rungs, seeds): the ladder of this module's first lines.

    ``losses_at`` evaluates a list of rungs; ``low`` and ``high`` are even.
    """
    known: dict[int, Array] = {}

    def look(rungs: Sequence[int]) -> None:
        new = [k for k in rungs if k not in known]
        if new:
            known.update(zip(new, losses_at(new), strict=True))

    look(range(low, high + 1, 2))
    least, most = low - 2 * REACH, high + 2 * REACH
    while True:
        rungs = sorted(known)
        typical = typical_losses(np.stack([known[k] for k in rungs]))
        best = rungs[int(np.argmin(typical))] if np.isfinite(typical).any() else None
        if best is None:
            wanted = range(rungs[0] - 8, rungs[0], 2)
        elif best - rungs[0] < 4:
            wanted = range(best - 4, rungs[0], 2)
        elif rungs[-1] - best < 4:
            wanted = range(rungs[-1] + 2, best + 5, 2)
        else:
            look((best - 1, best + 1))
            break
        wanted = [k for k in wanted if least <= k <= most]
        if not wanted:
            break  # reported as "open" when the best rate is the last one
        look(wanted)
    rungs = sorted(known)
    return rungs, np.stack([known[k] for k in rungs])


def rate_sweep(
    task: Task,
    config: TrainConfig,
    rates: tuple[float, float],
    seeds: int,
    device: torch.device,
    interrupt: Callable[[], bool] | None = None,
    note: Callable[[], None] | None = None,
) -> Sweep:
    """The ladder of ``config``, begun at ``rates`` (lowest, highest); seeds ``config.seed`` … + ``seeds`` − 1.

    A run that diverges costs its system nothing but its share.  ``note`` is called after every update.  Raises
    :class:`~sparsemf.training.coordinate_check.Interrupted` when ``interrupt`` answers True.
    """
    size = config.width * (task.inputs + task.outputs + int(config.bias)) * seeds
    together = max(1, STATE // size)

    def losses_at(rungs: list[int]) -> Array:
        parts = [rungs[i : i + together] for i in range(0, len(rungs), together)]
        return np.concatenate(
            [
                final_risks(task, config, [2.0 ** (k / 2) for k in part], seeds, device, interrupt, note)
                for part in parts
            ]
        )

    low, high = 2 * math.floor(math.log2(rates[0])), 2 * math.ceil(math.log2(rates[1]))
    rungs, losses = searched(losses_at, low, high)
    return Sweep(config.parametrisation, config.width, tuple(2.0 ** (k / 2) for k in rungs), losses)


def final_risks(
    task: Task,
    config: TrainConfig,
    rates: Sequence[float],
    seeds: int,
    device: torch.device,
    interrupt: Callable[[], bool] | None = None,
    note: Callable[[], None] | None = None,
) -> Array:
    """Risk on the test inputs after ``config.steps`` updates, (rates, seeds); +∞ for a run that diverged."""
    configs = [replace(config, step_size=Schedule(rate), seed=config.seed + s) for rate in rates for s in range(seeds)]
    system = System(task, configs, device)
    system.start()
    samples = test_samples(task, config, system.like)
    limit = DIVERGED * risks(system, *samples)
    lost = torch.zeros(len(configs), dtype=torch.bool, device=device)
    while system.step < config.steps:
        if interrupt is not None and interrupt():
            raise Interrupted
        lost |= ~(system.losses() <= limit)  # true for NaN as well
        if system.step % 8 == 0 and bool(lost.all()):
            return np.full((len(rates), seeds), np.inf)
        system.advance()
        if note is not None:
            note()
    final = risks(system, *samples)
    lost |= ~(final <= limit)
    return torch.where(lost, math.inf, final).view(len(rates), seeds).double().cpu().numpy()


def test_samples(task: Task, config: TrainConfig, like: torch.Tensor) -> Batch:
    """(x̃, y): fixed Gaussian inputs with noise-free labels, or all samples of a data set."""
    if task.data is not None:
        x, y = data_of(task, config, like)
    else:
        x = like.new_empty(config.test_samples, task.inputs)
        normals(config.seed, Stream.TEST, 0, 0, x)
        y = task.target(x)
    return with_ones(x, config.bias), y


def risks(system: System, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean loss of each replica, (R,)."""
    rows = max(1, system.config.block // max(1, len(system.configs) * system.task.outputs))
    total = torch.zeros(len(system.configs), dtype=torch.float64, device=x.device)
    for start in range(0, x.shape[0], rows):
        f = system.predict(x[start : start + rows])
        total += system.loss.residual_(f.double(), y[start : start + rows].double())
    return total / x.shape[0]


def slope_of_best_rates(sweeps: Sequence[Sweep], seed: int) -> tuple[Slope, list[Slope]]:
    """(s of η* ∝ N^s, log η* of each width), with 95 % intervals.

    Seeds are drawn with replacement, for each width on its own, and η* is found anew; where no parabola exists it is
    drawn uniformly between the half-way points to the neighbouring rates, which is all that is known of it.  The
    standard error gets √(S/(S−1)) for the bootstrap's bias and the quantile of Student's law with S − 1 degrees of
    freedom.  For three and more widths the interval is at least that of the scatter around the line.  Widths without
    a bracketed optimum have no interval and no part in the slope.
    """
    rng = np.random.default_rng(seed)
    known = [sweep for sweep in sweeps if sweep.optimum().how in ("parabola", "edge")]
    if not known:
        return Slope(None), [Slope(None) for _ in sweeps]
    replicates = np.stack([_replicates(sweep, rng) for sweep in known])
    values = np.array([sweep.optimum().log_rate for sweep in known])
    count = known[0].losses.shape[1]
    factor = float(student.ppf(0.975, count - 1)) * math.sqrt(count / (count - 1)) if count > 1 else math.nan
    halves = dict(zip((s.width for s in known), factor * replicates.std(axis=1), strict=True))
    best = dict(zip((s.width for s in known), values, strict=True))
    each = [
        Slope(best[w], best[w] - halves[w], best[w] + halves[w]) if (w := s.width) in best else Slope(None)
        for s in sweeps
    ]
    widths = [sweep.width for sweep in known]
    if len(widths) < 2:
        return Slope(None), each
    value = float(fitted_slopes(widths, values))
    half = max(factor * float(fitted_slopes(widths, replicates).std()), _scatter(widths, values, value))
    return Slope(value, value - half, value + half), each


def _replicates(sweep: Sweep, rng: np.random.Generator) -> Array:
    """log η* of bootstrap samples of the seeds, (BOOTSTRAP,)."""
    x, count = np.log(sweep.rates), sweep.losses.shape[1]
    typical = typical_losses(sweep.losses[:, rng.integers(0, count, (BOOTSTRAP, count))])
    found = np.empty(BOOTSTRAP)
    for b in range(BOOTSTRAP):
        optimum = _minimum(x, typical[:, b])
        found[b] = optimum.log_rate if optimum.how == "parabola" else rng.uniform(*optimum.bounds)
    return found


def _scatter(widths: Sequence[int], values: Array, slope: float) -> float:
    """Half the 95 % interval of a least-squares slope from its residuals; 0 for two widths."""
    if len(widths) < 3:
        return 0.0
    x = np.log(np.asarray(widths, dtype=np.float64))
    x -= x.mean()
    residual = values - values.mean() - slope * x
    freedom = len(widths) - 2
    error = math.sqrt(float(residual @ residual) / freedom / float(x @ x))
    return float(student.ppf(0.975, freedom)) * error
