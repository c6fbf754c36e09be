"""Local maxima of ‖η‖ over Θ: many evaluations, then L-BFGS in charts from the best few.  A search, never a bound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from sparsemf.certificates.convex.observation import Atomic, Observation
from sparsemf.certificates.convex.parameters import Chart, ParameterSet

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
    found = [climb(observation, space, measure, start[i]) for i in chosen]
    theta, height = np.array([p for p, _ in found]), np.array([v for _, v in found])
    order = np.argsort(-height, kind="stable")
    kept: list[int] = []
    for i in order:
        if all(np.linalg.norm(theta[i] - theta[j]) > 1e-3 * space.reach for j in kept):
            kept.append(int(i))
    return theta[kept], height[kept]


def climb(observation: Observation, space: ParameterSet, measure: Atomic, theta: Array) -> tuple[Array, float]:
    """A local maximum of ‖η‖ near θ (D,), and its value."""
    point = theta[None]
    best, height = theta, float(np.linalg.norm(observation.jet(measure, point, 1).value))
    scale = max(height, 1e-300)
    for _ in range(2):  # a second time when the first climb ran into a face of Θ
        jet = observation.jet(measure, point, 1)
        pull = np.einsum("nm,nmd->nd", jet.value, jet.jacobian)
        chart = Chart.at(space, point, pull)

        def negative(y: Array, chart: Chart = chart) -> tuple[float, Array]:
            rows = y[None]
            at = observation.jet(measure, chart.point(rows), 1)
            size = float(np.linalg.norm(at.value))
            slope = np.einsum("nm,nmd->nd", at.value, at.jacobian) / max(size, 1e-300)
            return -size / scale, -chart.pull_back(rows, slope)[0] / scale

        found = optimize.minimize(
            negative, point[0], jac=True, method="L-BFGS-B", options={"maxiter": 60, "ftol": 1e-13, "gtol": 1e-9}
        )
        moved = chart.point(found.x[None])
        point = space.project(moved)
        new = float(np.linalg.norm(observation.jet(measure, point, 1).value))
        if new > height:
            best, height = point[0], new
        if np.array_equal(point, moved):
            break
    return best, height
