"""The program over measures for relu, leaky_relu and abs on data: column generation over activation cells.

η is linear on each cell, so "sliding" an atom inside its cell together with its weight is itself a convex program
(:mod:`.cells`), which is solved for all atoms at once; new cells come from the maxima of ‖η‖, local ones first and, at
the end, the branch and bound's (:mod:`.cones`), which also bounds the supremum.  Each round lowers the value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.convex.amplitudes import refit
from sparsemf.certificates.convex.cells import piecewise, signs_of, solve_cells
from sparsemf.certificates.convex.cones import PiecewiseLinearDual, ascend, sup_on_sphere
from sparsemf.certificates.convex.data import DataObservation
from sparsemf.certificates.convex.observation import UNIT, Atomic
from sparsemf.certificates.convex.result import Effort
from sparsemf.certificates.convex.supremum import Supremum

Array = NDArray[np.float64]

_NEW = 16
_SAME_DIRECTION = 1e-7


def dual_function(observation: DataObservation, measure: Atomic) -> tuple[PiecewiseLinearDual, Array, float]:
    """(η in effective coordinates, embedding (k, D), error): Φ*r for r = f* − Φν as computed.

    ``error`` bounds what η loses on the sphere: rounding of r, and data outside the effective row space.
    """
    sigma = piecewise(observation)
    r = observation.residual(measure)
    reduced, embed, lost = observation._effective()
    weight = np.linalg.norm(r, axis=1) / observation.n
    dual = PiecewiseLinearDual(
        reduced, (sigma.positive + sigma.negative) / observation.n * r, -sigma.negative / observation.n * r.T @ reduced
    )
    # the two forms of σ differ by rounding; r is the dual point itself, up to its part along the free functions
    error = sigma.lipschitz * float(weight @ lost)
    error += (observation.n + 16) * UNIT * sigma.lipschitz * float(weight @ np.linalg.norm(reduced, axis=1))
    if observation.basis.shape[1]:
        along = 1.01 * float(np.linalg.norm(observation.basis.T @ r)) / np.sqrt(observation.n)
        along += (observation.n + 8) * UNIT * float(np.linalg.norm(r)) / np.sqrt(observation.n)
        error += along * observation.atom_size()
    return dual, embed, error


def bounded_sup(
    observation: DataObservation,
    measure: Atomic,
    lam: float,
    effort: Effort,
    excluded: tuple[Array, float] | None = None,
    start: Array | None = None,
) -> Supremum:
    """Bounds of sup ‖Φ*r‖ over the sphere; ``excluded`` caps (centres (j, D), angle) are left out."""
    dual, embed, error = dual_function(observation, measure)
    begin = observation.suggestions(effort.starts, np.random.default_rng(effort.seed)) if start is None else start
    begin = np.concatenate([begin, measure.theta]) @ embed.T
    begin = begin[np.linalg.norm(begin, axis=1) > 1e-8]
    caps = None
    if excluded is not None:
        centres = excluded[0] @ embed.T
        caps = centres / np.linalg.norm(centres, axis=1, keepdims=True), excluded[1]
    if not effort.regions or dual.dim > effort.most_dimensions:
        points, values = ascend(dual, begin)
        top = int(np.argmax(values))
        how = (
            f"largest of {len(values)} local maxima on the sphere; the effective dimension {dual.dim} is above "
            f"{effort.most_dimensions}, so no bound was computed"
        )
        return Supremum(float(values[top]), None, how, 0, error, points[top] @ embed)
    points, _ = ascend(dual, begin)
    found = sup_on_sphere(dual, points, 0.5 * effort.tolerance, effort.regions, lam, caps)
    upper = None if found.upper is None else (found.upper + error) * (1 + 4 * UNIT)
    where = None if found.argmax is None else found.argmax @ embed
    return Supremum(found.lower, upper, found.how, found.regions, found.error + error, where, found.tree)


def solve(observation: DataObservation, lam: float, effort: Effort) -> tuple[Atomic, Supremum, int, str]:
    """(measure, sup of ‖Φ*r‖, iterations, solver)."""
    rng = np.random.default_rng(effort.seed)
    measure = Atomic.empty(observation.space.dim, observation.m)
    signs = np.zeros((0, observation.n), dtype=np.int8)
    solver = "none needed"
    supremum: Supremum | None = None
    iteration = 0
    for iteration in range(1, effort.iterations + 1):  # noqa: B007
        dual, embed, _ = dual_function(observation, measure)
        begin = np.concatenate([observation.suggestions(effort.starts // 4, rng), measure.theta]) @ embed.T
        begin = begin[np.linalg.norm(begin, axis=1) > 1e-8]
        points, values = ascend(dual, begin)
        theta = points @ embed
        if np.max(values) <= lam * (1 + effort.tolerance):
            measure, kept = condensed(observation, measure, lam, 0.1 * effort.tolerance)
            signs = signs[kept]
            supremum = bounded_sup(observation, measure, lam, effort, start=theta)
            if supremum.lower <= lam * (1 + effort.tolerance) or supremum.argmax is None:
                break
            theta = np.concatenate([supremum.argmax[None], theta])
            values = np.concatenate([[supremum.lower], values])
        supremum = None
        theta = _new_cells(observation, theta, values, lam * (1 + 0.5 * effort.tolerance), signs)
        if not theta.shape[0]:
            break  # the maxima lie in cells that are already there: the accuracy of the solver is reached
        measure, signs, solver = _corrected(observation, measure, signs, theta, lam)
    if supremum is None:
        measure, _ = condensed(observation, measure, lam, 0.1 * effort.tolerance)
        supremum = bounded_sup(observation, measure, lam, effort)
    return measure, supremum, iteration, solver


def condensed(
    observation: DataObservation, measure: Atomic, lam: float, slack: float
) -> tuple[Atomic, NDArray[np.intp]]:
    """(the measure with atoms left out, which remain).

    An atom goes, lightest first, when the others' amplitudes make up for it within ``slack`` of the value:
    interior-point solutions spread over all of an optimal face, and this walks to a corner of it.
    """
    kept = np.arange(measure.size)
    if not measure.size:
        return measure, kept
    limit = _value(observation, measure, lam) * (1 + slack)
    for i in np.argsort(np.linalg.norm(measure.alpha, axis=1), kind="stable"):
        rest = kept[kept != i]
        if not rest.size:
            break
        current = measure.take(rest)
        gram = observation.gram(current.theta, current.theta)
        alpha = refit(gram, observation.moments(current.theta), lam, current.alpha)
        trial = Atomic(current.theta, alpha)
        if _value(observation, trial, lam) <= limit:
            theta, full = measure.theta, np.zeros_like(measure.alpha)
            full[rest] = alpha
            measure = Atomic(theta, full)
            kept = rest[np.linalg.norm(alpha, axis=1) > 0]
    return measure.take(kept), kept


def _value(observation: DataObservation, measure: Atomic, lam: float) -> float:
    return 0.5 * observation.square(measure) + lam * measure.variation


def _new_cells(
    observation: DataObservation, theta: Array, values: Array, least: float, known: NDArray[np.int8]
) -> Array:
    """The best points above ``least`` in cells that differ from one another and from those known."""
    order = np.argsort(-values, kind="stable")
    order = order[values[order] > least]
    seen = {row.tobytes() for row in known} if observation.m == 1 else set()
    chosen: list[int] = []
    for i in order:
        key = signs_of(observation, theta[i : i + 1])[0].tobytes()
        if key not in seen:
            seen.add(key)
            chosen.append(int(i))
        if len(chosen) == _NEW:
            break
    return theta[chosen]


def _corrected(
    observation: DataObservation, measure: Atomic, signs: NDArray[np.int8], theta: Array, lam: float
) -> tuple[Atomic, NDArray[np.int8], str]:
    """The optimum over the cells of the atoms and of the new points."""
    pull = observation.jet(measure, theta).value
    size = np.linalg.norm(measure.alpha, axis=1, keepdims=True)
    outputs = np.concatenate([measure.alpha / size, pull / np.linalg.norm(pull, axis=1, keepdims=True)])
    cells = np.concatenate([signs, signs_of(observation, theta)])
    if observation.m == 1:  # cells known with both signs cost nothing: the optimum uses what it needs
        outputs = np.sign(outputs)
    start = np.concatenate([measure.theta, theta])
    found = solve_cells(observation, cells, outputs, lam, start)
    length = np.linalg.norm(found.v, axis=1)
    kept = np.flatnonzero(length > 1e-8 * np.max(length, initial=0.0))
    unit = found.v[kept] / length[kept, None]
    new = Atomic(unit, length[kept, None] * outputs[kept])
    if observation.m > 1 and new.size:  # the directions of output were held; now they move
        new = Atomic(unit, refit(observation.gram(unit, unit), observation.moments(unit), lam, new.alpha))
    new, kept = _merged(new, kept)
    return new, cells[kept], found.solver


def _merged(measure: Atomic, labels: NDArray[np.intp]) -> tuple[Atomic, NDArray[np.intp]]:
    """Atoms of one direction added up (a point on the wall of two cells may be found in both); zeros dropped."""
    theta, alpha, kept = [], [], []
    for i in np.argsort(-np.linalg.norm(measure.alpha, axis=1), kind="stable"):
        if not measure.alpha[i].any():
            continue
        for j, other in enumerate(theta):
            if np.linalg.norm(other - measure.theta[i]) < _SAME_DIRECTION:
                alpha[j] = alpha[j] + measure.alpha[i]
                break
        else:
            theta.append(measure.theta[i])
            alpha.append(measure.alpha[i])
            kept.append(labels[i])
    if not theta:
        return measure.take(np.zeros(0, dtype=np.intp)), labels[:0]
    return Atomic(np.array(theta), np.array(alpha)), np.array(kept)
