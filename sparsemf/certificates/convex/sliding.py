"""Sliding Frank-Wolfe (Denoyelle, Duval, Peyré & Soubies 2020) for any activation.

Repeat: insert the largest maxima of ‖η‖ (multi-start), refit the amplitudes (a convex program), slide weights and
positions together (L-BFGS on ½‖f* − Φν‖² + λΣ‖α_i‖, smooth while no α_i vanishes), prune, and merge neighbours
whenever that does not raise the value.  It stops when no point with ‖η‖ > λ is found - by search, then by branch and
bound.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import optimize

from sparsemf.certificates.convex.amplitudes import refit
from sparsemf.certificates.convex.boxes import sup_over_boxes
from sparsemf.certificates.convex.gap import duality_gap
from sparsemf.certificates.convex.maxima import local_maxima
from sparsemf.certificates.convex.observation import Atomic, Observation
from sparsemf.certificates.convex.parameters import Chart
from sparsemf.certificates.convex.result import Effort
from sparsemf.certificates.convex.supremum import Supremum

Array = NDArray[np.float64]

_INSERTED = 4
_NEIGHBOUR = 0.3


def bounded_sup(
    observation: Observation,
    measure: Atomic,
    lam: float,
    effort: Effort,
    excluded: tuple[Array, float] | None = None,
    start: Array | None = None,
) -> Supremum:
    """Bounds of sup ‖Φ*r‖ over Θ (minus the excluded balls); an estimate where no bound is known."""
    space = observation.space
    if start is None:
        rng = np.random.default_rng(effort.seed)
        start = np.concatenate([observation.suggestions(effort.starts, rng), measure.theta])
        start, _ = local_maxima(observation, space, measure, start)
    curvature = observation.curvature(measure)
    bounded = np.isfinite(curvature.error) and (np.isfinite(curvature.lipschitz) or np.isfinite(curvature.second))
    if effort.regions and excluded is None and np.isfinite(curvature.everywhere):
        value = np.linalg.norm(observation.jet(measure, start, 1).value, axis=1)
        top = int(np.argmax(value))
        upper = max(curvature.everywhere, float(value[top])) + curvature.error
        how = f"sup over the unit sphere in {curvature.dim} coordinates of a form of degree {space.degree}: its norm"
        return Supremum(float(value[top]), upper * (1 + 1e-12), how, 0, curvature.error, start[top])
    if effort.regions and excluded is None and curvature.dim > effort.most_dimensions:
        flattened = _flattened(observation, measure, start, curvature.error)
        if flattened is not None:
            return flattened
    if not effort.regions or curvature.dim > effort.most_dimensions or not bounded:
        value = np.linalg.norm(observation.jet(measure, start, 1).value, axis=1)
        top = int(np.argmax(value))
        why = (
            f"the effective dimension {curvature.dim} is above {effort.most_dimensions}"
            if curvature.dim > effort.most_dimensions
            else "no bound was asked for"
            if bounded
            else f"no curvature bound is known for {observation.activation.name}"
        )
        how = f"largest of {len(value)} local maxima; {why}, so no bound was computed"
        return Supremum(float(value[top]), None, how, 0, curvature.error, start[top])
    return sup_over_boxes(space, curvature, start, 0.5 * effort.tolerance, effort.regions, lam, excluded)


def _flattened(observation: Observation, measure: Atomic, start: Array, error: float) -> Supremum | None:
    """A bound that no dimension is too large for, of population targets."""
    from sparsemf.certificates.convex.population import PopulationObservation
    from sparsemf.certificates.convex.population_certificate import flattened_sup

    found = flattened_sup(observation, measure) if isinstance(observation, PopulationObservation) else None
    if found is None or not np.isfinite(error):
        return None
    value = np.linalg.norm(observation.jet(measure, start, 1).value, axis=1)
    top = int(np.argmax(value))
    how = (
        "sup over the lengths and biases of the parameter set, on a grid of cells, of the sum over Hermite degrees k ≤ "
        f"{found[1]} of |c_k| times the spectral norm of the flattened residual tensor, in any dimension"
    )
    return Supremum(float(value[top]), (found[0] + error) * (1 + 1e-12), how, 0, error, start[top])


def solve(observation: Observation, lam: float, effort: Effort) -> tuple[Atomic, Supremum, int, str]:
    """(measure, sup of ‖Φ*r‖, iterations, solver)."""
    space = observation.space
    rng = np.random.default_rng(effort.seed)
    measure = Atomic.empty(space.dim, observation.m)
    supremum: Supremum | None = None
    iteration = 0
    for iteration in range(1, effort.iterations + 1):  # noqa: B007
        start = np.concatenate([observation.suggestions(effort.starts, rng), measure.theta])
        theta, height = local_maxima(observation, space, measure, start)
        if _close(observation, measure, lam, height[0], effort):
            supremum = bounded_sup(observation, measure, lam, effort, start=theta)
            if supremum.argmax is None or _close(observation, measure, lam, supremum.lower, effort):
                break
            theta = np.concatenate([supremum.argmax[None], theta])
            height = np.concatenate([[supremum.lower], height])
        supremum = None
        new = theta[:_INSERTED][height[:_INSERTED] > lam]
        before = value_of(observation, measure, lam)
        measure = improve(observation, measure.joined(Atomic(new, np.zeros((len(new), observation.m)))), lam)
        if before - value_of(observation, measure, lam) <= 1e-15 * before:
            break
    if supremum is None:
        supremum = bounded_sup(observation, measure, lam, effort)
    return measure, supremum, iteration, f"sliding Frank-Wolfe, L-BFGS-B of scipy {scipy.__version__}"


def _close(observation: Observation, measure: Atomic, lam: float, height: float, effort: Effort) -> bool:
    """Whether the gap would be within half the tolerance if ``height`` were the supremum."""
    gap = duality_gap(observation, measure, lam, height).gap
    return gap is not None and gap <= 0.5 * effort.tolerance * value_of(observation, measure, lam)


def value_of(observation: Observation, measure: Atomic, lam: float) -> float:
    """P(ν) in float64."""
    return 0.5 * observation.square(measure) + lam * measure.variation


def improve(observation: Observation, measure: Atomic, lam: float) -> Atomic:
    """Amplitudes, sliding, pruning and merging until nothing improves."""
    measure = refitted(observation, measure, lam)
    measure = slide(observation, measure, lam)
    while measure.size > 1:
        merged = _merge_once(observation, measure, lam)
        if merged is None:
            break
        measure = merged
    return measure


def refitted(observation: Observation, measure: Atomic, lam: float) -> Atomic:
    """The best amplitudes on these positions; atoms of amplitude 0 dropped."""
    if not measure.size:
        return measure
    measure = folded(observation, measure)
    gram = observation.gram(measure.theta, measure.theta)
    alpha = refit(gram, observation.moments(measure.theta), lam, measure.alpha)
    size = np.linalg.norm(alpha, axis=1)
    return Atomic(measure.theta, alpha).take(size > 1e-9 * np.max(size, initial=0.0))


def folded(observation: Observation, measure: Atomic) -> Atomic:
    """Atoms of an odd or even σ in one half-space of θ (σ(−z) = ±σ(z)), so that equal ones are neighbours."""
    relation = observation.activation.relation
    if relation is None or relation.constant or relation.linear or relation.quadratic:
        return measure
    lead = np.argmax(np.abs(measure.theta) > 1e-3 * observation.space.reach, axis=1)
    turn = measure.theta[np.arange(measure.size), lead] < 0
    return Atomic(
        np.where(turn[:, None], -measure.theta, measure.theta),
        np.where(turn[:, None], relation.sign * measure.alpha, measure.alpha),
    )


def slide(observation: Observation, measure: Atomic, lam: float, rounds: int = 3) -> Atomic:
    """Weights and positions together, from ``measure``; never a worse value."""
    for _ in range(rounds):
        if not measure.size:
            return measure
        moved, clipped = _slide_once(observation, measure, lam)
        before, after = value_of(observation, measure, lam), value_of(observation, moved, lam)
        if after >= before:
            return measure
        measure = moved
        if not clipped and before - after <= 1e-9 * after:
            break
    return measure


def _slide_once(observation: Observation, measure: Atomic, lam: float) -> tuple[Atomic, bool]:
    """(the measure after L-BFGS, whether a point had to be brought back into Θ)."""
    space = observation.space
    count, m, dim = measure.size, observation.m, space.dim
    scale = value_of(observation, measure, lam)
    pull = np.einsum("nm,nmd->nd", measure.alpha, observation.jet(measure, measure.theta, 1).jacobian)
    chart = Chart.at(space, measure.theta, pull)
    unit = np.maximum(np.linalg.norm(measure.alpha, axis=1), 1e-6)[:, None]

    def objective(x: Array) -> tuple[float, Array]:
        y = x[: count * dim].reshape(count, dim)
        alpha = x[count * dim :].reshape(count, m) * unit
        now = Atomic(chart.point(y), alpha)
        jet = observation.jet(now, now.theta, 1)
        size = np.linalg.norm(alpha, axis=1, keepdims=True)
        value = 0.5 * observation.square(now) + lam * float(np.sum(size))
        # the gradient of ½‖r‖² in α is −η, in θ −⟨α, Dη⟩
        by_alpha = (lam * alpha / np.maximum(size, 1e-300) - jet.value) * unit
        by_theta = chart.pull_back(y, -np.einsum("nm,nmd->nd", alpha, jet.jacobian))
        return value / scale, np.concatenate([by_theta.ravel(), by_alpha.ravel()]) / scale

    start = np.concatenate([measure.theta.ravel(), (measure.alpha / unit).ravel()])
    found = optimize.minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 250, "maxfun": 400, "ftol": 1e-16, "gtol": 1e-11, "maxcor": 40},
    )
    theta = chart.point(found.x[: count * dim].reshape(count, dim))
    inside = space.project(theta)
    moved = Atomic(inside, found.x[count * dim :].reshape(count, m) * unit)
    return refitted(observation, moved, lam), not np.array_equal(inside, theta)


def _merge_once(observation: Observation, measure: Atomic, lam: float) -> Atomic | None:
    """A close pair replaced by its barycentre and slid, if that does not raise the value; None otherwise."""
    space = observation.space
    before = value_of(observation, measure, lam)
    gap = np.linalg.norm(measure.theta[:, None] - measure.theta[None], axis=2)
    first, second = np.triu_indices(measure.size, 1)
    order = np.argsort(gap[first, second], kind="stable")[:2]
    for i, j in zip(first[order], second[order], strict=True):
        if gap[i, j] > _NEIGHBOUR * space.reach:
            break
        size = np.linalg.norm(measure.alpha[[i, j]], axis=1)
        middle = space.project((size @ measure.theta[[i, j]] / np.sum(size))[None])
        rest = np.delete(np.arange(measure.size), [i, j])
        merged = measure.take(rest).joined(Atomic(middle, measure.alpha[[i, j]].sum(axis=0, keepdims=True)))
        merged = slide(observation, refitted(observation, merged, lam), lam)
        if value_of(observation, merged, lam) <= before * (1 + 1e-14):
            return merged
    return None
