"""The order ρ of growth in M_k^{1/k} ~ C k^{1/ρ}, fitted to finitely many moments: an estimate.

Gaussian tails have ρ = 2, exponential ones ρ = 1, bounded support ρ = ∞.  A straight line in log k would mistake
the dimension for the tail (E‖ξ‖^k is flat for k ≪ D), so the family of radial laws with density ∝ r^{δ−1}
e^{−(r/s)^ρ} is fitted, m_k = s^k Γ((k+δ)/ρ)/Γ(δ/ρ); ρ → ∞ is m_k = s^k δ/(k+δ), the ball, and N(0, s²I/2) in R^D
is ρ = 2, δ = D.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Array = NDArray[np.float64]

LEAST = 4
"""Moments that a fit of three parameters needs."""
SLACK = 1e-3
"""Relative change of M_k^{1/k} that the grid does not resolve."""

_INVERSE_ORDERS = np.concatenate([[0.0], np.linspace(0.02, 2.0, 100)])
_SHAPES = np.geomspace(0.05, 1e5, 120)
_AROUND = np.linspace(-1.0, 1.0, 21)
ROUNDS = 3
"""δ is refined around the value that comes nearest to the bands, to a relative 1e-4."""


@dataclass(frozen=True)
class Order:
    """ρ and the interval of all ρ for which a law of the family passes through every band (inf: bounded support).

    ``low`` = 0.5 is the end of the grid and means "0.5 or less".
    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``bounded`` says that the value is ∞, an infinite end is None."""
        return {
            "kind": "estimate",
            "value": None if math.isinf(self.value) else self.value,
            "bounded": math.isinf(self.value),
            "interval": [None if math.isinf(v) else v for v in (self.low, self.high)],
        }


def fit_order(log_m: Array, low: Array, high: Array) -> Order | None:
    """ρ from log M_k and its band for k = 1 … K; None when K < 4, a moment is 0, or no law of the family fits.

    For given ρ and δ the bands of all k leave an interval of log s (h_k = log m_k at s = 1):
    max_k (low_k − h_k)/k ≤ log s ≤ min_k (high_k − h_k)/k.  Errors of different k are nearly the same error, so
    the set of feasible ρ is wide rather than narrow.
    """
    k = np.arange(1, log_m.size + 1)
    if log_m.size < LEAST or not np.isfinite(np.concatenate([log_m, low, high])).all():
        return None
    low, high = low - SLACK * k, high + SLACK * k
    shapes = np.tile(_SHAPES, (_INVERSE_ORDERS.size, 1))
    step = math.log(_SHAPES[1] / _SHAPES[0])
    for _ in range(ROUNDS):
        closest = np.take_along_axis(shapes, _gap(k, shapes, low, high).argmin(1)[:, None], 1)
        shapes = closest * np.exp(step * _AROUND)
        step *= _AROUND[1] - _AROUND[0]
    shapes = np.take_along_axis(shapes, _gap(k, shapes, low, high).argmin(1)[:, None], 1)
    unit = _log_moments(k, shapes)[:, 0]
    feasible = np.flatnonzero(_gap(k, shapes, low, high)[:, 0] <= 0)
    if not feasible.size:
        return None
    weight = (2.0 / (high - low)) ** 2
    log_s = (weight * k * (log_m - unit)).sum(-1) / (weight * k * k).sum()
    misfit = (weight * (log_m - unit - log_s[:, None] * k) ** 2).sum(-1)
    chosen = feasible[misfit[feasible].argmin()]
    # the grid's neighbours lie outside; the interval ends there
    ends = min(feasible[-1] + 1, _INVERSE_ORDERS.size - 1), max(feasible[0] - 1, 0)
    return Order(*(_order(int(i)) for i in (chosen, *ends)))


def _gap(k: NDArray[np.int64], shapes: Array, low: Array, high: Array) -> Array:
    """By how much the interval of log s is empty (> 0), for every order and shape."""
    unit = _log_moments(k, shapes)
    return ((low - unit) / k).max(-1) - ((high - unit) / k).min(-1)


def _order(i: int) -> float:
    return math.inf if i == 0 else float(1.0 / _INVERSE_ORDERS[i])


def _log_moments(k: NDArray[np.int64], shapes: Array) -> Array:
    """log m_k at s = 1 for every order and its shapes (orders, n), shape (orders, n, K)."""
    g, shape = _INVERSE_ORDERS[1:, None, None], shapes[1:, :, None]
    tails = gammaln((k + shape) * g) - gammaln(shape * g)
    ball = shapes[:1, :, None]
    return np.concatenate([np.log(ball / (k + ball)), tails])
