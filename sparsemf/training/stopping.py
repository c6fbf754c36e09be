"""Run until stationary, with a budget: when to look, and when a look may stop the run.

Looking often would sooner or later find a lucky moment.  So the looks are few, at the budget divided by powers of
5/4, and the error is spent on them in equal parts.  A look is :func:`~sparsemf.training.stationarity.diagnose` on
the last half of the run so far, with rule 5 at level ε/K in place of 5 % (K looks, ε = 5 %):

    stop only if |Δ| + t_{ε/K}·s ≤ 10 % of the mean for every quantity.

*Error.*  While the true window means of any quantity differ by more than 10 %, that one quantity passes one look
with probability at most ε/K (a one-sided test of equivalence), and the sum over all looks is at most ε, whatever
their dependence: the run stops too early with probability at most 5 %.  No share is needed for the number of
quantities, since all must pass.

*Delay.*  A transient that is over at step T is out of the last half from 2T on, and the next look is at most at 2.5
T, provided that the last half then holds enough relaxation times and effective samples.  A false alarm of rule 4 or
6 (probability below 1 %) costs one look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sparsemf.exceptions import InputError
from sparsemf.training.config import TrainConfig
from sparsemf.training.records import Record
from sparsemf.training.stationarity import FEWEST, ChainsStationarity, Stationarity, diagnose, diagnose_chains

GROWTH = 1.25
LOOKS = 21  # the first at 1.2 % of the budget
ERROR = 0.05


@dataclass(frozen=True)
class Look:
    """One look: at which step, whether to stop there, the level ε/K it had, and the verdict it rests on."""

    step: int
    stop: bool
    level: float
    verdict: Stationarity | ChainsStationarity

    @property
    def reasons(self) -> tuple[str, ...]:
        """What kept the run going; empty when it may stop."""
        return self.verdict.reasons

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def look_times(budget: int, metrics_every: int = 1) -> tuple[int, ...]:
    """Steps of the looks, increasing: budget·(4/5)^j, j = 20 … 0, rounded up to a record; the last is the budget.

    Steps before which the last half of the run holds fewer than forty records cannot stop it and are left out.

    Raises :class:`~sparsemf.exceptions.InputError` on a budget or cadence below 1.
    """
    if budget < 1 or metrics_every < 1:
        raise InputError(f"looks: expected a budget and a cadence ≥ 1, got {budget} and {metrics_every}")
    raw = (math.ceil(budget / GROWTH**j / metrics_every) * metrics_every for j in range(1, LOOKS))
    return (*sorted({t for t in raw if 4 * FEWEST * metrics_every <= t < budget}), budget)


def _level(config: TrainConfig, step: int, error: float) -> float:
    times = look_times(config.steps, config.metrics_every)
    if step not in times:
        raise InputError(f"step {step} is not a look of this budget, expected one of {', '.join(map(str, times))}")
    return error / len(times)


def should_stop(records: Sequence[Record], config: TrainConfig, step: int, *, error: float = ERROR) -> Look:
    """Whether the run may stop at ``step``, one of ``look_times(config.steps, config.metrics_every)``.

    ``config.steps`` is the budget, ``error`` is ε; records after ``step`` are not looked at.

    Raises :class:`~sparsemf.exceptions.InputError` at a step that is not a look: the error would no longer be
    bounded.
    """
    level = _level(config, step, error)
    seen = [r for r in records if r.step <= step]
    verdict = diagnose(seen, config, end=step, resolution_level=level)
    return Look(step, verdict.stationary == "yes", level, verdict)


def should_stop_chains(
    chains: Sequence[Sequence[Record]], config: TrainConfig, step: int, *, error: float = ERROR
) -> Look:
    """As :func:`should_stop` for replicas that stop together, when each is stationary and all agree.

    The error bound is the same: a chain that is still moving passes with probability at most ε.
    """
    level = _level(config, step, error)
    seen = [[r for r in chain if r.step <= step] for chain in chains]
    verdict = diagnose_chains(seen, config, end=step, resolution_level=level)
    return Look(step, verdict.stationary == "yes", level, verdict)


def first_stationary(records: Sequence[Record], config: TrainConfig, *, error: float = ERROR) -> Look | None:
    """The first look that stops, replayed over the records of a run; None when none does."""
    for step in look_times(config.steps, config.metrics_every):
        if not records or step > records[-1].step:
            return None
        look = should_stop(records, config, step, error=error)
        if look.stop:
            return look
    return None
