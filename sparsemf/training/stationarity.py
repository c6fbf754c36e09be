"""Is the run stationary?  Stated tests on the last half of its records; "no" unless everything passes.

The records of the last half of the steps are cut into two windows of equal length.  The run is called stationary
when

1. no schedule still moved in the windows,
2. each window lasts at least ten relaxation times 1/λ of the decay, Σ ηλ ≥ 10 (a shorter one cannot see the slow
   modes, and an annealed run that has frozen would pass the other tests),
3. every recorded quantity of loss, m_2, m_4, energy and free energy has at least 30 effective samples in the two
   windows together (fewer: "cannot see"; see :mod:`~sparsemf.training.autocorrelation`),
4. the difference Δ of its window means is at most t·s₀, or at most 0.1 % of the mean (as in J. Geweke, Bayesian
   Statistics 4, 1992, with Geyer's errors in place of spectral ones).  s₀ is the standard error of Δ after each
   window lost its own line: otherwise a drift would hide in the error that it causes.  t is the two-sided quantile of
   Student's law at level α/2K, K the number of tests (the balance included) and α = 1 %; the 2 is for s₀, which comes
   out too small now and then where effective samples are few.  A stationary run fails here with probability below 1 %,
5. Δ is resolved: |Δ| + t′·s ≤ 10 % of the mean, s the standard error with each window centred at its own mean, t′ the
   one-sided quantile at 5 %.  So a run whose window means differ by more than 10 % in any quantity is called
   stationary with probability below 5 %,
6. the mean drift-noise balance of both windows (see :class:`~sparsemf.training.records.Record`) is at most t·s or
   0.1 %, and t·s is at most 10 %, s its standard error: small, and consistent with 0 as well.

Several chains of one configuration must each pass, at level α/2C, and agree: rank-normalised split-R̂ ≤ 1.05 from
at least 100 bulk effective samples a chain, and means that are equal by Welch's test at level α/2K or to 0.1 %.

These are necessary signs, not a proof of convergence to the Gibbs law: a mode slower than the windows goes unseen.
False alarm rates and power are measured in docs/stationarity.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from sparsemf.exceptions import InputError
from sparsemf.training.autocorrelation import SeriesMean, series_mean
from sparsemf.training.chains import bulk_ess, equal_means, r_hat
from sparsemf.training.config import TrainConfig
from sparsemf.training.records import Record

QUANTITIES = ("loss", "m2", "m4", "energy", "free_energy")
FRACTION = 0.5
FEWEST = 20
RELAXATIONS = 10.0
MIN_ESS = 30.0
ALPHA = 0.01
RELATIVE = 1e-3
RESOLUTION = 0.1
RESOLUTION_LEVEL = 0.05
R_HAT = 1.05
MIN_CHAIN_ESS = 100.0
FREE_TO_DIFFER = ("seed", "device", "threads", "checkpoint_every", "block")


@dataclass(frozen=True)
class WindowTest:
    """Means of one quantity in the two windows, and what their difference was held against.

    Attributes
    ----------
    first, second :
        Window means (None when a value is not finite).
    standard_error, threshold :
        s of their difference, each window centred at its own mean, and the largest difference that passes rule 4.
    shift, margin :
        |Δ| + t′s and what it may be at most.
    ess, tau_int :
        Effective samples of both windows together; integrated autocorrelation time in records.
    r_hat :
        Rank-normalised split-R̂ of the two windows: shown, not tested.
    reason :
        Why the test failed, else None.
    """

    quantity: str
    first: float | None
    second: float | None
    standard_error: float | None
    threshold: float | None
    passed: bool
    shift: float | None = None
    margin: float | None = None
    ess: float | None = None
    tau_int: float | None = None
    r_hat: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class BalanceTest:
    """Mean drift-noise balance of both windows, its standard error and the largest value that passes."""

    mean: float | None
    standard_error: float | None
    threshold: float | None
    ess: float | None
    tau_int: float | None
    passed: bool
    reason: str | None = None


@dataclass(frozen=True)
class Stationarity:
    """The verdict ("yes" or "no"), the reasons against it, and the figures."""

    stationary: str
    reasons: tuple[str, ...]
    windows: tuple[tuple[int, int], tuple[int, int]] | None
    relaxation_times: float
    balance: float | None
    tests: tuple[WindowTest, ...]
    balance_test: BalanceTest | None = None
    level: float = ALPHA
    resolution_level: float = RESOLUTION_LEVEL

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; no number in it is NaN or infinite."""
        return asdict(self)


@dataclass(frozen=True)
class ChainTest:
    """One quantity across chains: means of the last halves, their standard errors, p of equality, R̂ and bulk ESS."""

    quantity: str
    means: tuple[float | None, ...]
    standard_errors: tuple[float | None, ...]
    p_value: float | None
    r_hat: float | None
    ess: float | None
    passed: bool
    reason: str | None = None


@dataclass(frozen=True)
class ChainsStationarity:
    """The verdict on several chains: each chain's own, and whether they agree."""

    stationary: str
    reasons: tuple[str, ...]
    chains: tuple[Stationarity, ...]
    agreement: tuple[ChainTest, ...]
    level: float = ALPHA

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; no number in it is NaN or infinite."""
        return asdict(self)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _tail(records: Sequence[Record], end: int) -> list[Record]:
    return [r for r in records if FRACTION * end < r.step <= end]


def _halves(values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    half = len(values) // 2
    return list(values[-2 * half : -half]), list(values[-half:])


def recorded(records: Sequence[Record], name: str) -> np.ndarray:
    """The values of a quantity in those records that have it."""
    found = (getattr(r, name, None) for r in records)
    return np.array([value for value in found if value is not None], dtype=np.float64)


def _scale(name: str, mean: float, tail: Sequence[Record]) -> float:
    """What 0.1 % and 10 % refer to; a free energy may be 0 or of either sign: the energy, if that is larger."""
    if name != "free_energy":
        return abs(mean)
    energy = recorded(tail, "energy")
    return max(abs(mean), abs(float(energy.mean())) if energy.size else 0.0)


def two_sided(level: float, degrees: float) -> float:
    """Quantile t with P(|T| > t) = level under Student's law."""
    return -float(stdtrit(degrees, 0.5 * level))


def one_sided(level: float, degrees: float) -> float:
    """Quantile t with P(T > t) = level under Student's law."""
    return -float(stdtrit(degrees, level))


def window_difference(values: np.ndarray, level: float) -> tuple[np.ndarray, SeriesMean, float]:
    """(window means, worth of the values, largest |Δ| that is not seen at ``level``) of rule 4, for values (n,)."""
    half = values.size // 2
    windows = values[-2 * half :].reshape(2, half)
    pooled = series_mean(windows)
    straight = series_mean(windows, detrend=True)
    # 2: from the standard error of the average of two means to that of their difference
    seen = 2.0 * straight.standard_error * two_sided(0.5 * level, straight.degrees)
    return windows.mean(1), pooled, seen


def window_test(name: str, tail: Sequence[Record], level: float, resolution_level: float) -> WindowTest:
    """Rules 3 to 5 of this module for one quantity, from the records of both windows."""
    values = recorded(tail, name)
    if not np.isfinite(values).all():
        return WindowTest(name, None, None, None, None, False, reason=f"{name} is not finite")
    if values.size < 2 * FEWEST:
        why = f"{name} was recorded {values.size} times in the last half, at least {2 * FEWEST} are needed"
        return WindowTest(name, None, None, None, None, False, reason=why)
    means, pooled, seen = window_difference(values, level)
    first, second = (float(m) for m in means)
    error = 2.0 * pooled.standard_error
    scale = max(_scale(name, first, tail), _scale(name, second, tail))
    allowed = max(seen, RELATIVE * scale)
    shift = abs(second - first) + one_sided(resolution_level, pooled.degrees) * error
    margin = RESOLUTION * scale
    reason = None
    if pooled.ess < MIN_ESS:
        reason = f"{name}: cannot see, {pooled.ess:.2g} effective samples in both windows, {MIN_ESS:g} are needed"
    elif abs(second - first) > allowed:
        reason = f"{name} went from {first:.4g} to {second:.4g} (allowed {allowed:.2g}, s.e. {error:.2g})"
    elif shift > margin:
        reason = f"{name}: not resolved, its window means may differ by {shift:.2g} (allowed {margin:.2g})"
    return WindowTest(
        name,
        first,
        second,
        error,
        allowed,
        reason is None,
        shift,
        margin,
        pooled.ess,
        pooled.tau_int,
        _finite(r_hat(values[None])),
        reason,
    )


def balance_series(records: Sequence[Record]) -> np.ndarray:
    """(drift − discretisation − noise)/S of each record, S the mean of what ``Record.balance`` divides by.

    A common divisor: the expectation of a ratio is not the ratio of expectations, and over many records the
    difference would show.  Empty where the balance is None (an integrator without the identity).
    """
    names = ("drift", "discretisation", "noise", "m2", "weight_decay")
    rows = [[getattr(r, name, None) for name in names] for r in records if getattr(r, "balance", 0.0) is not None]
    kept = np.array([row for row in rows if None not in row], dtype=np.float64)
    if not kept.size:
        return np.empty(0)
    if not np.isfinite(kept).all():
        return np.full(kept.shape[0], math.nan)
    drift, discretisation, noise, m2, weight_decay = kept.T
    decay = weight_decay * m2
    scale = float(np.mean(decay + np.abs(drift - decay) + np.abs(discretisation) + noise))
    excess = drift - discretisation - noise
    return excess / scale if scale > 0 else excess


def balance_test(tail: Sequence[Record], level: float) -> BalanceTest | None:
    """Rule 6 of this module, or None for records without the identity."""
    values = balance_series(tail)
    if not values.size:
        return None
    if not np.isfinite(values).all():
        return BalanceTest(None, None, None, None, None, False, "the drift-noise balance is not finite")
    if values.size < 2 * FEWEST:
        why = f"the drift-noise balance was recorded {values.size} times, at least {2 * FEWEST} are needed"
        return BalanceTest(None, None, None, None, None, False, why)
    pooled = series_mean(np.array(_halves(values.tolist())))
    seen = two_sided(level, pooled.degrees) * pooled.standard_error
    allowed = max(seen, RELATIVE)
    reason = None
    if pooled.ess < MIN_ESS:
        reason = f"the drift-noise balance: cannot see, {pooled.ess:.2g} effective samples, {MIN_ESS:g} are needed"
    elif abs(pooled.mean) > allowed:
        reason = (
            f"the drift-noise balance is off by {pooled.mean:.2g} "
            f"(allowed {allowed:.2g}, s.e. {pooled.standard_error:.2g})"
        )
    elif seen > RESOLUTION:
        reason = f"the drift-noise balance is known to {seen:.2g} only (needed {RESOLUTION})"
    return BalanceTest(pooled.mean, pooled.standard_error, allowed, pooled.ess, pooled.tau_int, reason is None, reason)


def diagnose(
    records: Sequence[Record],
    config: TrainConfig,
    *,
    end: int | None = None,
    level: float = ALPHA,
    resolution_level: float = RESOLUTION_LEVEL,
) -> Stationarity:
    """Apply the tests of this module to the records of a run.

    Parameters
    ----------
    records, config :
        Of the run; ``config.steps`` places the schedules.
    end :
        The step at which the run ended; ``config.steps`` unless it was stopped early on purpose.
    level, resolution_level :
        α of rules 4 and 6 (all tests together), and the level of rule 5.
    """
    end = config.steps if end is None else end
    tail = _tail(records, end)
    if len(tail) < 2 * FEWEST or records[-1].step < end:
        why = (
            "the run has not finished" if records and records[-1].step < end else
            f"fewer than {2 * FEWEST} records in the last half"
        )  # fmt: skip
        return Stationarity("no", (why,), None, 0.0, None, (), None, level, resolution_level)
    first, second = _halves(tail)
    reasons = [
        f"the {name.replace('_', ' ')} was still annealed"
        for name in ("step_size", "temperature", "weight_decay")
        if getattr(config, name).moves_after(FRACTION * end / config.steps)
    ]
    spacing = (second[-1].step - first[-1].step) / len(first)
    times = spacing * min(sum(r.step_size * r.weight_decay for r in window) for window in (first, second))
    if times < RELAXATIONS:
        reasons.append(f"a window lasts {times:.2g} relaxation times 1/λ, at least {RELAXATIONS:g} are needed")
    names = [name for name in QUANTITIES if recorded(tail, name).size]
    share = level / (len(names) + 1)
    tests = tuple(window_test(name, tail, share, resolution_level) for name in names)
    balance = balance_test(tail, share)
    reasons += [t.reason for t in (*tests, balance) if t is not None and t.reason is not None]
    windows = ((first[0].step, first[-1].step), (second[0].step, second[-1].step))
    return Stationarity(
        "no" if reasons else "yes",
        tuple(reasons),
        windows,
        times,
        None if balance is None else balance.mean,
        tests,
        balance,
        level,
        resolution_level,
    )


def _same_law(configs: Sequence[TrainConfig]) -> None:
    documents = [
        {key: value for key, value in c.to_dict().items() if key not in FREE_TO_DIFFER} for c in configs
    ]  # fmt: skip
    for document in documents[1:]:
        for key, value in document.items():
            if value != documents[0][key]:
                raise InputError(
                    f"chains: expected one configuration but for the seed, got {key} = {documents[0][key]} and {value}"
                )


def _chain_test(name: str, tails: Sequence[Sequence[Record]], level: float) -> ChainTest:
    values = [recorded(tail, name) for tail in tails]
    means: list[SeriesMean] = [series_mean(np.array(_halves(v.tolist()))) for v in values]
    chains = np.array(values)
    ess, spread, p_value = bulk_ess(chains), r_hat(chains), equal_means(means)
    gap = max(m.mean for m in means) - min(m.mean for m in means)
    scale = max(_scale(name, m.mean, tail) for m, tail in zip(means, tails, strict=True))
    needed = MIN_CHAIN_ESS * len(tails)
    visible = np.ptp(chains) > RELATIVE * scale
    reason = None
    if not np.isfinite(chains).all():
        reason = f"{name} is not finite in every chain"
    elif gap > RELATIVE * scale and p_value < level:
        listed = ", ".join(f"{m.mean:.4g} ± {m.standard_error:.2g}" for m in means)
        reason = f"{name}: the chains disagree, {listed} (p = {p_value:.1e}, allowed {level:.1e})"
    elif visible and spread > R_HAT:
        reason = f"{name}: R̂ = {spread:.3f} across chains (allowed {R_HAT})"
    elif ess < needed:
        reason = f"{name}: cannot see, {ess:.0f} effective samples in all chains, {needed:.0f} are needed"
    return ChainTest(
        name,
        tuple(_finite(m.mean) for m in means),
        tuple(_finite(m.standard_error) for m in means),
        _finite(p_value),
        _finite(spread),
        _finite(ess),
        reason is None,
        reason,
    )


def diagnose_chains(
    chains: Sequence[Sequence[Record]],
    configs: TrainConfig | Sequence[TrainConfig],
    *,
    end: int | None = None,
    level: float = ALPHA,
    resolution_level: float = RESOLUTION_LEVEL,
) -> ChainsStationarity:
    """Several independent runs (or replicas) of one configuration: each stationary, and all of one law.

    Parameters as for :func:`diagnose`; ``configs`` is one configuration for all chains, or one each that differ in
    the seed only.

    Raises :class:`~sparsemf.exceptions.InputError` on fewer than two chains, on configurations that differ, and on
    finished chains whose records in the last half are not of the same steps.
    """
    each = [configs] * len(chains) if isinstance(configs, TrainConfig) else list(configs)
    if len(chains) < 2 or len(each) != len(chains):
        raise InputError(
            f"chains: expected at least two, and a configuration each, got {len(chains)} chains and "
            f"{len(each)} configurations"
        )
    _same_law(each)
    end = each[0].steps if end is None else end
    options = {"end": end, "resolution_level": resolution_level, "level": 0.5 * level / len(chains)}
    verdicts = tuple(diagnose(records, config, **options) for records, config in zip(chains, each, strict=True))
    reasons = [f"chain {i}: {reason}" for i, verdict in enumerate(verdicts) for reason in verdict.reasons]
    agreement: tuple[ChainTest, ...] = ()
    if all(verdict.windows is not None for verdict in verdicts):
        tails = [_tail(records, end) for records in chains]
        steps = [[r.step for r in tail] for tail in tails]
        if any(s != steps[0] for s in steps):
            raise InputError("chains: expected records of the same steps in every chain; use one metrics_every")
        names = [
            name
            for name in QUANTITIES
            if min(counts := [recorded(tail, name).size for tail in tails]) >= 2 * FEWEST and len(set(counts)) == 1
        ]
        agreement = tuple(_chain_test(name, tails, 0.5 * level / len(names)) for name in names)
        reasons += [t.reason for t in agreement if t.reason is not None]
    return ChainsStationarity("no" if reasons else "yes", tuple(reasons), verdicts, agreement, level)
