"""The bias of a finite step size, by Richardson extrapolation of stationary means.

A scheme of weak order p samples a law whose means differ from those of the continuous process by

    E_η = E_0 + c η^p + o(η^p)        (D. Talay and L. Tubaro, Stoch. Anal. Appl. 8, 1990)

with p = 1 for Euler-Maruyama and p = 2 for BAOAB (B. Leimkuhler and C. Matthews, Appl. Math. Res. eXpress 2013),
whose configurations are exact for quadratic potentials.  (E_0, c) follow by weighted least squares from means at
two or more step sizes, each with its Monte Carlo standard error.  The intervals contain the Monte Carlo error, not
the o(η^p).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import chi2, norm

from sparsemf.exceptions import InputError
from sparsemf.training.autocorrelation import series_mean
from sparsemf.training.records import Record
from sparsemf.training.stationarity import FRACTION, recorded

CONFIDENCE = 0.95
CONSISTENT = 0.01
ORDERS = (0.25, 6.0)


@dataclass(frozen=True)
class StepBias:
    """At one step size: the mean that came in, and the bias c·η^p of the fit with its interval."""

    step_size: float
    mean: float
    standard_error: float
    bias: float
    bias_interval: tuple[float, float]


@dataclass(frozen=True)
class Extrapolation:
    """E_0, its standard error and interval, and the bias of every step size.

    Attributes
    ----------
    coefficient, coefficient_error :
        c and its standard error.
    resolved :
        Whether the interval of c excludes 0; ``statement`` says it in words.
    chi2, degrees, p_value :
        Misfit of the assumed order, from three step sizes on (else None): a small p-value says that the powers of η
        beyond the first, or another order, are seen.  ``consistent``: p ≥ 1 %.
    observed_order, order_interval :
        The order that fits best, and those whose misfit is within the χ²₁ quantile of the best; from three step
        sizes on and only where the bias is resolved.  An end of the interval on a bound of 0.25 … 6 is open.
    """

    order: float
    confidence: float
    value: float
    standard_error: float
    interval: tuple[float, float]
    coefficient: float
    coefficient_error: float
    resolved: bool
    statement: str
    biases: tuple[StepBias, ...]
    chi2: float | None
    degrees: int
    p_value: float | None
    consistent: bool | None
    observed_order: float | None
    order_interval: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _fit(eta: np.ndarray, mean: np.ndarray, error: np.ndarray, order: float) -> tuple[np.ndarray, np.ndarray, float]:
    """((E_0, c), their covariance, χ²); η in units of its largest value, so that the columns are of one size."""
    unit = float(eta.max())
    design = np.stack([np.ones_like(eta), (eta / unit) ** order], 1) / error[:, None]
    q, r = np.linalg.qr(design)
    inverse = np.linalg.inv(r)
    solution = inverse @ (q.T @ (mean / error))
    misfit = float(np.sum((mean / error - design @ solution) ** 2))
    back = np.array([1.0, unit**-order])
    return solution * back, inverse @ inverse.T * np.outer(back, back), misfit


def _observed_order(
    eta: np.ndarray, mean: np.ndarray, error: np.ndarray, confidence: float
) -> tuple[float, tuple[float, float]]:
    def misfit(order: float) -> float:
        return _fit(eta, mean, error, order)[2]

    grid = np.linspace(*ORDERS, 47)
    start = int(np.argmin([misfit(p) for p in grid]))
    low, high = float(grid[max(start - 1, 0)]), float(grid[min(start + 1, grid.size - 1)])
    best = float(minimize_scalar(misfit, bounds=(low, high), method="bounded", options={"xatol": 1e-10}).x)  # pyright: ignore[reportAttributeAccessIssue]
    allowed = misfit(best) + float(chi2.ppf(confidence, 1))

    def crossing(bound: float) -> float:
        return bound if misfit(bound) <= allowed else float(brentq(lambda p: misfit(p) - allowed, best, bound))  # pyright: ignore[reportArgumentType]

    return best, (crossing(ORDERS[0]), crossing(ORDERS[1]))


def richardson(
    observations: Mapping[float, tuple[float, float]], order: float = 1.0, *, confidence: float = CONFIDENCE
) -> Extrapolation:
    """Extrapolate {η: (mean, standard error)} to η = 0, with p = ``order``.

    Raises :class:`~sparsemf.exceptions.InputError` on fewer than two step sizes, and on step sizes, standard errors
    or an order that are not finite and positive.
    """
    if len(observations) < 2:
        raise InputError(f"richardson: expected means at two step sizes or more, got {len(observations)}")
    if not (math.isfinite(order) and order > 0):
        raise InputError(f"richardson: expected an order > 0, got {order}")
    if not 0 < confidence < 1:
        raise InputError(f"richardson: expected a confidence between 0 and 1, got {confidence}")
    eta = np.array(sorted(observations), dtype=np.float64)
    mean, error = np.array([observations[h] for h in sorted(observations)], dtype=np.float64).T
    if not (np.isfinite(eta).all() and (eta > 0).all()):
        raise InputError(f"richardson: expected finite step sizes > 0, got {eta.tolist()}")
    if not (np.isfinite(mean).all() and np.isfinite(error).all() and (error > 0).all()):
        raise InputError(
            f"richardson: expected finite means and standard errors > 0, got {mean.tolist()} and {error.tolist()}"
        )
    (value, slope), covariance, misfit = _fit(eta, mean, error, order)
    z = float(norm.isf(0.5 * (1 - confidence)))
    value_error, slope_error = math.sqrt(covariance[0, 0]), math.sqrt(covariance[1, 1])
    resolved = bool(abs(slope) > z * slope_error)
    biases = tuple(
        StepBias(
            float(h),
            float(m),
            float(s),
            float(slope * h**order),
            (float((slope - z * slope_error) * h**order), float((slope + z * slope_error) * h**order)),
        )
        for h, m, s in zip(eta, mean, error, strict=True)
    )
    degrees = eta.size - 2
    p_value = float(chi2.sf(misfit, degrees)) if degrees else None
    observed, spread = _observed_order(eta, mean, error, confidence) if degrees and resolved else (None, None)
    widest = max(abs(end) for end in biases[-1].bias_interval)
    statement = (
        f"bias at η = {eta[-1]:g} is {biases[-1].bias:.3g} ± {z * slope_error * eta[-1] ** order:.2g}"
        if resolved
        else f"bias not resolved: at η = {eta[-1]:g} it is below {widest:.2g} in size"
    )
    misfits = ""
    if p_value is not None and p_value < CONSISTENT:
        misfits = f"; order {order:g} does not fit (p = {p_value:.1e}): leave out the largest step size"
    return Extrapolation(
        order=float(order),
        confidence=confidence,
        value=float(value),
        standard_error=value_error,
        interval=(float(value - z * value_error), float(value + z * value_error)),
        coefficient=float(slope),
        coefficient_error=slope_error,
        resolved=resolved,
        statement=f"{statement} ({confidence:.0%}, order {order:g}){misfits}",
        biases=biases,
        chi2=misfit if degrees else None,
        degrees=degrees,
        p_value=p_value,
        consistent=None if p_value is None else p_value >= CONSISTENT,
        observed_order=observed,
        order_interval=spread,
    )


def richardson_runs(
    runs: Mapping[float, Sequence[Sequence[Record]]],
    quantity: str,
    order: float = 1.0,
    *,
    confidence: float = CONFIDENCE,
) -> Extrapolation:
    """Extrapolate the mean of a recorded quantity from the runs (chains) {η: [records, …]}, each from its last half.

    Each chain gives a mean with its Monte Carlo standard error; chains of one η are averaged with equal weights.
    The runs should be stationary, and of equal *time* ηt rather than of equal steps: nothing here tests that.

    Raises :class:`~sparsemf.exceptions.InputError` as :func:`richardson`, where a quantity was not recorded at
    least four times in a last half, and where the step size of the records is not the η they are filed under.
    """
    observations: dict[float, tuple[float, float]] = {}
    for step_size, chains in runs.items():
        means = []
        for records in chains:
            tail = [r for r in records if r.step > FRACTION * records[-1].step]
            if used := next((r.step_size for r in tail if not math.isclose(r.step_size, step_size)), None):
                raise InputError(
                    f"richardson: expected records of constant step size {step_size:g}, got {used:g} in the last half"
                )
            mean = series_mean(recorded(tail, quantity))
            if not (math.isfinite(mean.mean) and math.isfinite(mean.standard_error)):
                raise InputError(
                    f"richardson: expected four or more finite values of {quantity} in the last half at step size "
                    f"{step_size:g}, got {mean.count} values; record more often or run longer"
                )
            means.append(mean)
        if not means:
            raise InputError(f"richardson: expected a run at step size {step_size:g}, got none")
        error = math.sqrt(sum(m.standard_error**2 for m in means)) / len(means)
        observations[step_size] = (sum(m.mean for m in means) / len(means), error)
    return richardson(observations, order, confidence=confidence)
