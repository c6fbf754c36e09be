"""Is the run stationary?  A stated test on the last quarter of its records; "no" unless everything passes.

The last quarter of the steps is cut into two windows of equal length.  The run is called stationary when

1. no schedule still moved in the windows,
2. each window lasts at least ten relaxation times 1/λ of the decay, Σ ηλ ≥ 10 (a shorter one cannot see the slow
   modes, and an annealed run that has frozen would pass the other tests),
3. for the loss, m_2 and m_4 the window means differ by at most 3.5 standard errors or 0.1 %; the standard error is
   that of ten batch means a window, each over at least one relaxation time (false alarms: below 1 % in all),
4. those standard errors resolve at least 10 % of the mean,
5. the mean energy balance (see :class:`~sparsemf.training.records.Record`) in the last window is below 0.1.

These are necessary signs, not a proof of convergence to the Gibbs law.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sparsemf.training.config import TrainConfig
from sparsemf.training.records import Record

QUANTITIES = ("loss", "m2", "m4")
FRACTION = 0.75
BATCHES = 10
SIGMAS = 3.5
RELATIVE = 1e-3
RESOLUTION = 0.1
BALANCE = 0.1


@dataclass(frozen=True)
class WindowTest:
    """Means of one quantity in the two windows, and the threshold that their difference was held against."""

    quantity: str
    first: float
    second: float
    standard_error: float
    threshold: float
    passed: bool


@dataclass(frozen=True)
class Stationarity:
    """The verdict ("yes" or "no"), the reasons against it, and the figures."""

    stationary: str
    reasons: tuple[str, ...]
    windows: tuple[tuple[int, int], tuple[int, int]] | None
    relaxation_times: float
    balance: float | None
    tests: tuple[WindowTest, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    batches = np.array([part.mean() for part in np.array_split(values, BATCHES)])
    return float(values.mean()), float(batches.std(ddof=1) / math.sqrt(BATCHES))


def _window_test(name: str, first: Sequence[Record], second: Sequence[Record]) -> WindowTest:
    mean1, error1 = _mean_and_error(np.array([getattr(r, name) for r in first]))
    mean2, error2 = _mean_and_error(np.array([getattr(r, name) for r in second]))
    error = math.hypot(error1, error2)
    scale = max(abs(mean1), abs(mean2))
    threshold = max(SIGMAS * error, RELATIVE * scale)
    passed = abs(mean2 - mean1) <= threshold and error <= RESOLUTION * scale
    return WindowTest(name, mean1, mean2, error, threshold, passed)


def diagnose(records: Sequence[Record], config: TrainConfig, *, end: int | None = None) -> Stationarity:
    """Apply the test of this module to the records of a run."""
    tail = [r for r in records if r.step > FRACTION * config.steps]
    half = len(tail) // 2
    if half < BATCHES or records[-1].step < config.steps:
        why = "the run has not finished" if half >= BATCHES else f"fewer than {2 * BATCHES} records in the last quarter"
        return Stationarity("no", (why,), None, 0.0, None, ())
    first, second = tail[-2 * half : -half], tail[-half:]
    reasons = [
        f"the {name.replace('_', ' ')} was still annealed"
        for name in ("step_size", "temperature", "weight_decay")
        if getattr(config, name).moves_after(FRACTION)
    ]
    spacing = (second[-1].step - first[-1].step) / half
    times = spacing * min(sum(r.step_size * r.weight_decay for r in window) for window in (first, second))
    if times < BATCHES:
        reasons.append(f"a window lasts {times:.2g} relaxation times 1/λ, at least {BATCHES} are needed")
    tests = tuple(_window_test(name, first, second) for name in QUANTITIES)
    reasons += [
        f"{t.quantity} went from {t.first:.4g} to {t.second:.4g} "
        f"(allowed {t.threshold:.2g}, s.e. {t.standard_error:.2g})"
        for t in tests
        if not t.passed
    ]
    balance = float(np.mean([r.balance for r in second]))
    if abs(balance) > BALANCE:
        reasons.append(f"the drift-noise balance is off by {balance:.2g} (allowed {BALANCE})")
    windows = ((first[0].step, first[-1].step), (second[0].step, second[-1].step))
    return Stationarity("no" if reasons else "yes", tuple(reasons), windows, times, balance, tests)
