"""The a-priori moment bound of a whole run with its schedules: step by step, on the run's own horizon.

The chain is split into a part that is linear in θ_0 and the noise, Z_n = P_nθ_0 + √V_n ξ, and the part b_n of the
drift (docs/moments).  No step needs κη ≤ 1, and a drift that grows linearly gives the discrete Gronwall bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.exceptions import InputError
from sparsemf.training.balls import float_above, gaussian_moment, precision, root
from sparsemf.training.config import TrainConfig
from sparsemf.training.drift import DriftBound
from sparsemf.training.initial_law import GaussianBlocks, StudentT
from sparsemf.training.lyapunov import (
    EXACT,
    GaussianTail,
    Initial,
    MomentCertificate,
    above,
    below,
    check_parameters,
    no_certificate,
)

Array = NDArray[np.float64]

UP = 1.0 + 2.0**-49
DOWN = 1.0 - 2.0**-49
"""Relative margins that cover the rounding of one step of the recursions (at most 6 operations of 2⁻⁵³)."""
TINY = 1e-300
CHUNK = 4096


def schedule_rates(config: TrainConfig) -> Array:
    """(η, τ, λ) of every step of a run, shape (steps, 3)."""
    schedules = (config.step_size, config.temperature, config.weight_decay)
    return np.array([[s.at(n, config.steps) for s in schedules] for n in range(config.steps)])


def run_bound(k_max: int, rates: Array, drift: DriftBound, dimension: int, initial: Initial) -> MomentCertificate:
    """Bounds of max_{n ≤ T} E‖θ_n‖^k for the chain with the rates (η, τ, κ) of each step, ``rates`` (T, 3).

    With ρ_n = |1−κ_nη_n|, P_n = Πρ_j, V_{n+1} = ρ_n²V_n + 2τ_nη_n and b_{n+1} = (ρ_n + η_nG1) b_n + η_n(G0 + G1
    z_n): M_k^{1/k} ≤ max_n (z_n + b_n), where z_n = fP_n + √(P_n²X_k² + V_n(E‖ξ‖^k)^{2/k}) for θ_0 with a fixed
    part of norm f and a centred Gaussian part of norm X_k in L^k (k ≥ 2; k = 1 by k = 2), and z_n = P_n
    m_k(0)^{1/k} + √V_n (E‖ξ‖^k)^{1/k} for any other law.

    Raises :class:`~sparsemf.exceptions.InputError` for rates that are not finite or negative.
    """
    if not drift.holds:
        return no_certificate(drift.why_not or "the drift is not bounded")
    rates = np.asarray(rates, dtype=np.float64)
    if rates.ndim != 2 or rates.shape[1] != 3 or not np.isfinite(rates).all() or (rates < 0).any():
        raise InputError("run bound: expected rates (T, 3) of finite step sizes, temperatures and decays ≥ 0")
    check_parameters(k_max, 1.0, drift.g0, 0.0, dimension)
    start = _start(initial, k_max, dimension)
    path = _path(rates, drift, start.scale)
    best = np.zeros(k_max)
    if drift.g1 == 0:
        for begin in range(0, path.shrink.size, CHUNK):
            part = slice(begin, begin + CHUNK)
            sizes = start.spread(path.shrink[part], path.variance[part]) + path.drift[part, None]
            best = np.maximum(best, sizes.max(0))
    else:
        b = np.zeros(k_max)
        for n in range(path.shrink.size):
            z = start.spread(path.shrink[n : n + 1], path.variance[n : n + 1])[0]
            best = np.maximum(best, z + b)
            if n < rates.shape[0]:
                eta = float(rates[n, 0])
                b = ((path.factor[n] + eta * drift.g1) * b + eta * (drift.g0 + drift.g1 * z * UP)) * UP
    logs = []
    for k, size in enumerate(best, 1):
        log = k * math.log(float(size) * UP) if 0 < size < math.inf else (-math.inf if size == 0 else math.inf)
        logs.append(log + abs(log) * 1e-14 + 1e-14 if math.isfinite(log) else log)
    linear = f" + {drift.g1:.6g}‖θ‖ (discrete Gronwall bound over the horizon)" if drift.g1 else ""
    given = (
        f"the discrete chain of this run: {rates.shape[0]} steps with their own step sizes, temperatures and decays",
        f"drift |g| ≤ {drift.g0:.6g}{linear}",
        f"D = {dimension}",
        EXACT,
    )
    tail = _tail(initial, drift, rates, path, start)
    return MomentCertificate(True, tuple(logs), given + drift.assumptions, horizon=float(rates.shape[0]), tail=tail)


@dataclass(frozen=True)
class _Start:
    """‖θ_0‖ in L^k for k = 1 … K: ``fixed`` adds to the noise, ``gaussian`` adds in squares; ``xi`` =
    (E‖ξ‖^k)^{1/k}; ``scale`` is the largest standard deviation of a Gaussian coordinate (0 for other laws).
    """

    fixed: Array
    gaussian: Array
    xi: Array
    scale: float

    def spread(self, shrink: Array, variance: Array) -> Array:
        """z_n(k), shape (n, K), from P_n and V_n of shape (n,)."""
        squares = (shrink[:, None] * self.gaussian) ** 2 + variance[:, None] * self.xi**2
        return (self.fixed * shrink[:, None] + np.sqrt(squares)) * UP


def _start(initial: Initial, k_max: int, dimension: int) -> _Start:
    orders = [max(k, 2) for k in range(1, k_max + 1)]
    with precision():
        xi = np.array([float_above(root(gaussian_moment(k, dimension), k)) for k in orders])
        zero = np.zeros(k_max)
        if isinstance(initial, GaussianBlocks):
            part = initial.gaussian_part()
            gaussian = np.array([float_above(root(part.moment(k).ball, k)) for k in orders])
            return _Start(zero + math.sqrt(initial.fixed_square) * UP, gaussian, xi, initial.largest_scale)
        if isinstance(initial, StudentT):
            return _Start(
                np.array([float_above(root(initial.moment(k).ball, k)) for k in range(1, k_max + 1)]), zero, xi, 0.0
            )
    given = list(initial)[:k_max]
    if any(not value >= 0 for value in given):
        raise InputError("run bound: expected initial moments ≥ 0")
    roots = [value ** (1.0 / k) * (1 + 1e-14) for k, value in enumerate(given, 1)]
    return _Start(np.array(roots + [math.inf] * (k_max - len(roots))), zero, xi, 0.0)


@dataclass(frozen=True)
class _Path:
    """Along the run, n = 0 … T: upper bounds of P_n, V_n and (G1 = 0) b_n; ρ_n for n < T; the growth of z and of b
    as k → ∞, from above, and that of z from below.
    """

    shrink: Array
    variance: Array
    drift: Array
    factor: Array
    above: float
    below: float


def _path(rates: Array, drift: DriftBound, scale: float) -> _Path:
    p, v, b = 1.0, 0.0, 0.0
    p_low, v_low = 1.0, 0.0
    along = 0.0  # the part of b that grows like the Gaussian, per unit of √(k/e)
    shrink, variance, moved, factor = [p], [v], [b], []
    highest, lowest = scale, scale
    for eta, tau, kappa in rates.tolist():
        x = eta * kappa
        rho = abs(1.0 - x) * UP + x * 2.0**-51
        rho_low = max(abs(1.0 - x) * DOWN - x * 2.0**-51, 0.0)
        if drift.g1 > 0:
            z = math.sqrt((p * scale) ** 2 + v) * UP
            along = ((rho + eta * drift.g1) * along + eta * drift.g1 * z) * UP
        p, v, b = p * rho * UP + TINY, (rho * rho * v + 2.0 * tau * eta) * UP, (rho * b + eta * drift.g0) * UP
        p_low, v_low = p_low * rho_low * DOWN, (rho_low * rho_low * v_low + 2.0 * tau * eta) * DOWN
        highest = max(highest, math.sqrt((p * scale) ** 2 + v) + along)
        lowest = max(lowest, math.sqrt((p_low * scale) ** 2 + v_low) if drift.g1 == 0 else math.sqrt(2.0 * tau * eta))
        shrink.append(p)
        variance.append(v)
        moved.append(b)
        factor.append(rho)
    return _Path(np.array(shrink), np.array(variance), np.array(moved), np.array(factor), highest, lowest)


def _tail(initial: Initial, drift: DriftBound, rates: Array, path: _Path, start: _Start) -> GaussianTail | None:
    if not isinstance(initial, GaussianBlocks):
        return None
    if start.scale > 0 or rates[:, 0].dot(rates[:, 1]) > 0:
        return GaussianTail(below(path.below), above(path.above))
    if drift.g1 > 0:
        return None
    # neither noise nor a Gaussian start: θ_n stays in a ball
    return GaussianTail(0.0, 0.0, above(float((start.fixed[0] * path.shrink + path.drift).max())))


def noise_tail(rates: Array, initial: Initial | None) -> GaussianTail:
    """What is known of the growth of M_k without any bound of the drift: E|y + sξ|^k ≥ s^k E‖ξ‖^k for every y, so
    the noise of a single step, and a Gaussian θ_0, bound it from below.
    """
    scale = initial.largest_scale if isinstance(initial, GaussianBlocks) else 0.0
    step = math.sqrt(2.0 * float((rates[:, 0] * rates[:, 1]).max())) if rates.size else 0.0
    return GaussianTail(below(max(scale, step)), math.inf)
