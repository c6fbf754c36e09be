"""Exponents of measured squared distances, with intervals over independent repetitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import t as student

from sparsemf.exceptions import InputError

Array = NDArray[np.float64]
LEVEL = 0.95
_BENT = 1.0

Verdict = Literal["within", "outside", "undecided"]


@dataclass(frozen=True)
class Rate:
    """‖·‖² ∝ x^exponent: the fit and what the theory says of the exponent.

    ``expected`` is a closed range; "within": the interval meets it and is no wider than 1; "outside": the interval
    lies beyond it; else "undecided".  ``left_out``: the x that were measured and are not part of the fit.
    """

    quantity: str
    variable: str
    x: tuple[float, ...]
    squares: tuple[float, ...]
    errors: tuple[float, ...]
    exponent: float
    interval: tuple[float, float]
    expected: tuple[float, float]
    source: str
    left_out: tuple[float, ...] = ()

    @property
    def verdict(self) -> Verdict:
        low, high = self.interval
        rounding = 1e-9 * max(1.0, abs(self.exponent))
        if high < self.expected[0] - rounding or low > self.expected[1] + rounding:
            return "outside"
        return "within" if high - low <= 1.0 else "undecided"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": "estimate",
            "quantity": self.quantity,
            "variable": self.variable,
            "x": list(self.x),
            "squares": list(self.squares),
            "errors": list(self.errors),
            "exponent": self.exponent,
            "interval": list(self.interval),
            "expected": list(self.expected),
            "verdict": self.verdict,
            "source": self.source,
            "left_out": list(self.left_out),
        }


def power_rate(
    quantity: str,
    variable: str,
    x: Sequence[float],
    squares: Array,
    expected: tuple[float, float],
    source: str,
    towards_zero: bool = False,
) -> Rate:
    """The exponent of the mean of ``squares`` (repetitions, K) in ``x`` (K,), all > 0.

    Least squares of log mean against log x; its standard error from the repetitions' influence, Σ_k c_k
    (q_sk/q̄_k − 1) (delta method: the mean of logarithms would be biased where few repetitions scatter), and Student's
    quantile with repetitions − 1 degrees of freedom.

    ``towards_zero``: the theory speaks of x → 0.  While more than two points are left, the largest x is left out where
    the slope of the last segment differs from that of the others by more than 1 beyond its 95 % error: steps that are
    no longer stable, samples too few to learn from.

    Raises :class:`InputError` for fewer than two repetitions or points, and where a mean is 0.
    """
    squares, place = np.asarray(squares, dtype=np.float64), np.log(np.asarray(x, dtype=np.float64))
    count = squares.shape[0]
    if squares.ndim != 2 or count < 2 or squares.shape[1] != place.size or place.size < 2:
        raise InputError(f"rate of {quantity}: expected two repetitions and points or more, got {squares.shape}")
    mean = squares.mean(axis=0)
    if not (np.isfinite(mean).all() and (mean > 0).all()):
        raise InputError(f"rate of {quantity}: expected positive distances, got {mean.tolist()}")

    def combination(coefficients: Array) -> tuple[float, float]:
        """Σ c_k log q̄_k and the half-width of its interval."""
        influence = (squares / mean - 1.0) @ coefficients
        error = float(np.sqrt(influence @ influence / (count * (count - 1))))
        return float(coefficients @ np.log(mean)), float(student.ppf(0.5 + LEVEL / 2, count - 1)) * error

    used = np.argsort(place, kind="stable")
    while towards_zero and used.size > 2:
        bend, doubt = combination(_slope(place, used[-2:]) - _slope(place, used[:-1]))
        if not abs(bend) - doubt > _BENT:
            break
        used = used[:-1]
    exponent, half = combination(_slope(place, used))
    return Rate(
        quantity,
        variable,
        tuple(float(v) for v in x),
        tuple(mean.tolist()),
        tuple((squares.std(axis=0, ddof=1) / math.sqrt(count)).tolist()),
        exponent,
        (exponent - half, exponent + half),
        expected,
        source,
        tuple(float(x[k]) for k in range(place.size) if k not in used),
    )


def _slope(place: Array, rows: NDArray[np.intp]) -> Array:
    """Coefficients (K,) of the least-squares slope through some of the points."""
    out, centred = np.zeros(place.size), place[rows] - place[rows].mean()
    out[rows] = centred / (centred @ centred)
    return out


@dataclass(frozen=True)
class Decay:
    """‖f_T − f_ref‖² = c·e^{−2rT} + floor: relaxation in time down to the fluctuation of N_ref particles."""

    times: tuple[float, ...]
    squares: tuple[float, ...]
    errors: tuple[float, ...]
    rate: float | None
    interval: tuple[float, float] | None
    floor: float | None
    statement: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": "estimate",
            "times": list(self.times),
            "squares": list(self.squares),
            "errors": list(self.errors),
            "rate": self.rate,
            "interval": None if self.interval is None else list(self.interval),
            "floor": self.floor,
            "statement": self.statement,
        }


def exponential_decay(times: Sequence[float], squares: Array) -> Decay:
    """The decay of the mean of ``squares`` (repetitions, K) in time; the interval by the jackknife over repetitions.

    For each r the pair (c, floor) ≥ 0 follows by least squares of relative residuals; r minimises their sum.  No rate
    where fewer than four times were measured, or where the squares do not fall by a factor of two.
    """
    squares, place = np.asarray(squares, dtype=np.float64), np.asarray(times, dtype=np.float64)
    count, mean = squares.shape[0], squares.mean(axis=0)
    spread = squares.std(axis=0, ddof=1) / math.sqrt(count)
    listed = tuple(place.tolist()), tuple(mean.tolist()), tuple(spread.tolist())
    if place.size < 4:
        return Decay(*listed, None, None, None, f"no rate: {place.size} times were measured, four are needed")
    if not mean[-1] < 0.5 * mean[0]:
        return Decay(*listed, None, None, None, "no rate: the distance does not fall by half over the times measured")
    rate, floor = _fitted(place, mean)
    left_out = np.array([_fitted(place, np.delete(squares, s, axis=0).mean(axis=0))[0] for s in range(count)])
    error = math.sqrt((count - 1) / count * float(np.sum((left_out - left_out.mean()) ** 2)))
    half = float(student.ppf(0.5 + LEVEL / 2, count - 1)) * error
    words = f"‖f_T − f_ref‖ decays like e^(−{rate:.3g} T), 95 %: {max(rate - half, 0):.3g} to {rate + half:.3g}"
    return Decay(*listed, rate, (max(rate - half, 0.0), rate + half), floor, words)


def _fitted(times: Array, squares: Array) -> tuple[float, float]:
    def solved(log_rate: float) -> tuple[float, Array]:
        design = np.stack([np.exp(-2 * math.exp(log_rate) * (times - times[0])), np.ones_like(times)], axis=1)
        design /= squares[:, None]
        best, misfit = np.zeros(2), math.inf
        for used in ([0, 1], [0], [1]):  # the corners of c ≥ 0, floor ≥ 0
            found = np.zeros(2)
            found[used] = np.linalg.lstsq(design[:, used], np.ones_like(times), rcond=None)[0]
            own = float(np.sum((design @ found - 1) ** 2))
            if (found >= 0).all() and own < misfit:
                best, misfit = found, own
        return misfit, best

    span = float(times[-1] - times[0])
    grid = np.linspace(math.log(0.05 / span), math.log(50.0 / span), 60)
    start = int(np.argmin([solved(v)[0] for v in grid]))
    bounds = float(grid[max(start - 1, 0)]), float(grid[min(start + 1, grid.size - 1)])
    best = float(minimize_scalar(lambda v: solved(v)[0], bounds=bounds, method="bounded").x)  # pyright: ignore[reportAttributeAccessIssue]
    return math.exp(best), float(solved(best)[1][1])
