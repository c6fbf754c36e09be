"""Local maxima of ‖η‖ over Θ: many evaluations, then projected ascent from the best few.  A search, never a bound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.convex.observation import Atomic, Observation
from sparsemf.certificates.convex.parameters import ParameterSet

Array = NDArray[np.float64]

_CLIMBS = 12


def local_maxima(
    observation: Observation, space: ParameterSet, measure: Atomic, start: Array, climbs: int = _CLIMBS
) -> tuple[Array, Array]:
    """(θ (k, D), ‖η(θ)‖), largest first, distinct; from the best ``climbs`` well-separated rows of ``start``."""
    start = space.project(start)
    value = np.linalg.norm(observation.jet(measure, start, 1).value, axis=1)
    chosen: list[int] = []
    for i in np.argsort(-value, kind="stable"):
        if all(np.linalg.norm(start[i] - start[j]) > 0.15 * space.reach for j in chosen):
            chosen.append(int(i))
        if len(chosen) == climbs:
            break
    theta, height = climb(observation, space, measure, start[chosen])
    order = np.argsort(-height, kind="stable")
    kept: list[int] = []
    for i in order:
        if all(np.linalg.norm(theta[i] - theta[j]) > 1e-3 * space.reach for j in kept):
            kept.append(int(i))
    return theta[kept], height[kept]


def climb(
    observation: Observation, space: ParameterSet, measure: Atomic, theta: Array, rounds: int = 60
) -> tuple[Array, Array]:
    """Projected ascent of ‖η‖ from each row of θ (n, D), all at once; the step halves on failure and else grows by
    Barzilai and Borwein's quotient."""

    def evaluate(points: Array) -> tuple[Array, Array]:
        jet = observation.jet(measure, points, 1)
        size = np.linalg.norm(jet.value, axis=1)
        return size, np.einsum("nm,nmd->nd", jet.value, jet.jacobian) / np.maximum(size, 1e-300)[:, None]

    height, pull = evaluate(theta)
    rate = 0.2 * space.reach / np.maximum(np.linalg.norm(pull, axis=1), 1e-300)
    for _ in range(rounds):
        trial = space.project(theta + rate[:, None] * pull)
        new, slope = evaluate(trial)
        step, turn = trial - theta, pull - slope
        better = new > height
        bend = np.sum(step * turn, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = np.sum(step * step, axis=1) / bend
        grown = np.where((bend > 0) & np.isfinite(quotient), np.minimum(quotient, 4 * rate), 2 * rate)
        rate = np.where(better, grown, 0.3 * rate)
        theta = np.where(better[:, None], trial, theta)
        pull = np.where(better[:, None], slope, pull)
        height = np.where(better, new, height)
        if not np.any(rate * np.linalg.norm(pull, axis=1) > 1e-12 * space.reach):
            break
    return theta, height
