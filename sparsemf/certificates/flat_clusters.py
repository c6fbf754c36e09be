"""A lower bound of the flat norm for many points: a feasible potential that is checked on *clusters* of points.

The trees of a plan's short flows are the clusters.  Cluster p has a root at v_p with base potential φ_p, every other
member adds its local part ψ_i, ‖ψ_i‖ ≤ ψ_p, and lies within ℓ_p of the root (along the tree, up to flips).  With
H_p = ψ_p + ℓ_p the potential φ_i = g_i φ_p + ψ_i is feasible as soon as for one η < 1

    ‖φ_p − tφ_q‖ ≤ (1 − η) d_pq,   ‖φ_p‖ ≤ (1 − η) c_p,   H_p + H_q ≤ η d_pq,   H_p ≤ η c_p

for all pairs of clusters and sides, and ψ is feasible inside each cluster.  So only roots are compared, in blocks, in
float32 with a bound of its rounding when there are many.  Clusters in the way of a small η are dissolved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.flat import Plan, Problem, Trees, shortened, target, trees
from sparsemf.symmetry.metric import lengths, point_distances, separations

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_SHORT = 0.05
_LARGEST_TREE = 400
_ROWS = 512
_BLOCK = 1 << 21
_MOST_PAIRS = 100_000
_DOUBLE = 3000
_LARGEST_SINGLE = 1e12
_WORK = 1e12
_PASSES = 4
_DUST = 1e-3
_LITTLE = 1e-3
_WORST = 0.5
_DISSOLVE = 0.2
_MOST_NEAR = 4_000_000


def bounded(problem: Problem, plan: Plan) -> tuple[Array, float] | None:
    """A feasible potential and what it is worth; None when comparing the roots costs too much or no η serves."""
    plan = shortened(problem, plan, _SHORT)
    residual = problem.residual(plan)
    forest = _settled(problem, trees(problem, plan, residual))
    wanted = target(problem, forest, residual)
    rooted = np.asarray(wanted[forest.root].any(axis=1), dtype=bool)
    eta: float | None = None
    for _ in range(_PASSES):
        roots = np.flatnonzero(forest.root == np.arange(problem.size))
        m = problem.mass.shape[1]
        if roots.size**2 * float(problem.points.shape[1] + (m if m > 1 else 0)) > _WORK:
            return None
        width = _widths(forest, roots)
        alone = float(np.max(width / np.maximum(problem.cost[roots], 1e-300), initial=0.0))
        eta = max(alone, 1e-9, _guess(problem, roots, width)) if eta is None else max(eta, alone)
        if eta > _WORST:
            forest, eta = _dissolved(problem, forest, roots[width > _DISSOLVE * problem.cost[roots]], wanted), None
            continue
        live = rooted[roots] & _heavy(problem, forest, residual)[roots]
        base = np.where(live[:, None], wanted[roots], 0.0)
        sweep = _sweep(problem.points[roots], problem.parity, width, base, live, eta)
        if sweep.needed <= eta:
            return _best(problem, forest, roots, sweep.choices, eta)
        if sweep.needed <= _DISSOLVE:
            eta = 1.01 * sweep.needed
        else:
            forest, eta = _dissolved(problem, forest, roots[sweep.offending], wanted), None
    return None


def _heavy(problem: Problem, forest: Trees, residual: Array) -> NDArray[np.bool_]:
    """Roots whose potential counts: the dust that matched masses leave is left out where all of it is little."""
    left = lengths(residual)
    own = np.bincount(forest.root, weights=problem.weight, minlength=problem.size)
    heavy = left > _DUST * own
    return heavy if float(left[~heavy].sum()) <= _LITTLE * float(left.sum()) else np.ones_like(heavy)


def _best(problem: Problem, forest: Trees, roots: Integers, choices: list[Array], eta: float) -> tuple[Array, float]:
    best, value = np.zeros_like(problem.mass), 0.0
    for choice in choices:
        size = lengths(choice)
        limit = (1.0 - eta) * problem.cost[roots]
        base = np.zeros_like(problem.mass)
        base[roots] = choice * np.minimum(1.0, limit / np.where(size > 0, size, 1.0))[:, None]
        potential = forest.gauge[:, None] * base[forest.root] + forest.local
        worth = problem.worth(potential)
        if worth > value:
            best, value = potential, worth
    return best, value


def _guess(problem: Problem, roots: Integers, width: Array) -> float:
    """What a sample of the roots asks for, and some more."""
    step = max(1, roots.size // _ROWS)
    sample = np.arange(0, roots.size, step)
    distance, _ = point_distances(problem.points[roots[sample]], problem.points[roots], problem.parity != 0)
    distance[np.arange(sample.size), sample] = np.inf
    asks = (width[sample, None] + width) / np.maximum(distance, 1e-300)
    rounding = 4 * float(np.finfo(np.float32).eps) * (problem.points.shape[1] + 16) if roots.size > _DOUBLE else 0.0
    return min(1.3 * float(asks.max(initial=0.0)) + rounding, _DISSOLVE)


def _widths(forest: Trees, roots: Integers) -> Array:
    """H_p of every root."""
    local, reach = np.zeros(forest.root.size), np.zeros(forest.root.size)
    np.maximum.at(local, forest.root, lengths(forest.local))
    np.maximum.at(reach, forest.root, forest.reach)
    return (local + reach)[roots] * (1 + 1e-12)


def _dissolved(problem: Problem, forest: Trees, roots: Integers, wanted: Array) -> Trees:
    """The clusters of ``roots`` taken apart: every member a root of its own, which keeps its wanted potential."""
    chosen = np.zeros(problem.size, dtype=bool)
    chosen[roots] = True
    members = np.flatnonzero(chosen[forest.root])
    root, gauge, local, reach = forest.root.copy(), forest.gauge.copy(), forest.local.copy(), forest.reach.copy()
    root[members], gauge[members], local[members], reach[members] = members, 1.0, 0.0, 0.0
    return Trees(root, gauge, local, reach)


def _settled(problem: Problem, forest: Trees) -> Trees:
    """The local part scaled until it is feasible inside every tree of more than two points."""
    local = forest.local.copy()
    count = np.bincount(forest.root, minlength=problem.size)
    order = np.argsort(forest.root, kind="stable")
    starts = np.concatenate([[0], np.cumsum(count)])
    for members in np.unique(count[count > 2]).tolist():
        equal = order[starts[np.flatnonzero(count == members)][:, None] + np.arange(members)]
        if members > _LARGEST_TREE:
            local[equal.ravel()] = 0.0
            continue
        one, other = np.triu_indices(members, 1)
        for group in np.split(equal, range(0, equal.shape[0], max(1, _MOST_PAIRS // one.size))[1:]):
            i, j = group[:, one].ravel(), group[:, other].ravel()
            turn = forest.gauge[i] * forest.gauge[j]
            side = turn.astype(np.int64) if problem.parity < 0 else None
            length = problem.edges(i, j, side).length
            over = (separations(local, i, local, j, turn) / np.maximum(length, 1e-300)).reshape(group.shape[0], -1)
            local[group] /= np.maximum(1.0, over.max(axis=1) * (1 + 1e-12))[:, None, None]
    return Trees(forest.root, forest.gauge, local, forest.reach)


@dataclass(frozen=True, eq=False)
class _Sweep:
    """All pairs of roots: the η that is ``needed``, who needs more than a little, and base potentials that keep
    ‖φ_p − tφ_q‖ ≤ (1 − η) d_pq."""

    needed: float
    offending: NDArray[np.bool_]
    choices: list[Array]


def _sweep(points: Array, parity: int, width: Array, base: Array, rooted: NDArray[np.bool_], eta: float) -> _Sweep:
    count, dimension = points.shape
    largest = float(np.max(np.abs(points), initial=0.0))
    kind: Any = np.float64 if count <= _DOUBLE or largest > _LARGEST_SINGLE else np.float32
    unit = float(np.finfo(kind).eps)
    fast, square, wide = points.astype(kind), np.sum(points**2, axis=1).astype(kind), width.astype(kind)
    shrink, scalar = kind(1.0 - eta), base.shape[1] == 1
    needed, ratio, offending = 0.0, 0.0, np.zeros(count, dtype=bool)
    low, high = np.full(count, np.inf, dtype=kind), np.full(count, -np.inf, dtype=kind)
    above, below = (np.where(rooted, base[:, 0], edge).astype(kind) for edge in (np.inf, -np.inf))
    weight = np.sum(base**2, axis=1).astype(kind)
    few = 8 * np.count_nonzero(rooted) <= count
    vectors = None if scalar or few else base.astype(kind)
    if few and not scalar:
        ratio = _steepest(points, parity, base, np.flatnonzero(rooted), 1.0 - eta)
    step = int(np.clip(_BLOCK // max(count, 1), 64, _ROWS))
    for start in range(0, count, step):
        rows, columns = slice(start, min(start + step, count)), slice(start, count)
        product = fast[rows] @ fast[columns].T
        both = square[rows, None] + square[None, columns]
        alike = None if vectors is None else vectors[rows] @ vectors[columns].T
        own = np.arange(product.shape[0])
        for turn in (1, -1) if parity < 0 else (1,):
            inner = np.abs(product) if parity > 0 else kind(turn) * product
            side = product if parity > 0 else None
            length, doubt = _lengths(points, rows, both, inner, side, turn, kind(unit * (dimension + 16)))
            # H_p + H_q and the rounding of lengths and potentials, which must not break the triangle inequality either
            doubt += wide[rows, None] + (wide + kind(16 * unit))[None, columns]
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                doubt /= length
            doubt[own, own] = 0.0
            most = float(np.max(doubt, initial=0.0))
            most = most if np.isfinite(most) else np.inf
            needed = max(needed, most * (1 + 16 * unit))
            if most > max(eta, _DISSOLVE):
                bad = ~(doubt <= max(eta, _DISSOLVE))
                offending[rows] |= bad.any(axis=1)
                offending[columns] |= bad.any(axis=0)
            if scalar:
                length *= shrink
                if turn > 0:
                    length[own, own] = 0.0
                first, second = (above, below) if turn > 0 else (-below, -above)
                low[rows] = np.minimum(low[rows], np.min(first[None, columns] + length, axis=1))
                low[columns] = np.minimum(low[columns], np.min(first[rows, None] + length, axis=0))
                high[rows] = np.maximum(high[rows], np.max(second[None, columns] - length, axis=1))
                high[columns] = np.maximum(high[columns], np.max(second[rows, None] - length, axis=0))
            elif alike is not None:
                gap = weight[rows, None] + weight[None, columns] - kind(2 * turn) * alike
                gap = np.sqrt(np.maximum(gap, kind(0.0)) + kind(4 * unit * (base.shape[1] + 4)))
                over = gap / np.maximum(shrink * length, kind(1e-30))
                over[own, own] = 0.0
                ratio = max(ratio, float(over.max(initial=0.0)) * (1 + 8 * unit))
    if not rooted.any():
        return _Sweep(needed, offending, [base])
    if not scalar:
        return _Sweep(needed, offending, [base / max(1.0, ratio)])
    low, high = low.astype(np.float64), high.astype(np.float64)
    middle = 0.5 * (low + high)
    found = [middle] if parity < 0 else [middle, low, high]
    return _Sweep(needed, offending, [x[:, None] for x in found])


def _steepest(points: Array, parity: int, base: Array, rows: Integers, shrink: float) -> float:
    """The largest ‖φ_p − tφ_q‖/(``shrink``·d_pq) when φ is 0 but for a few ``rows``, bounded; in float64."""
    unit, ratio, weight = float(np.finfo(np.float64).eps), 0.0, np.sum(base**2, axis=1)
    # point_distances recomputes pairs within 1e-3 of their size, so the others' squares are good to 1e6 units
    below = 1.0 - 1e6 * unit * (points.shape[1] + 16)
    for start in range(0, rows.size, _ROWS):
        part = rows[start : start + _ROWS]
        alike = base[part] @ base.T
        for turn in (1, -1) if parity < 0 else (1,):
            length = point_distances(points[part], turn * points, parity > 0)[0]
            gap = weight[part, None] + weight - 2 * turn * alike
            gap = np.sqrt(np.maximum(gap, 0.0) + 4 * unit * (base.shape[1] + 4))
            over = gap / np.maximum(shrink * below * length, 1e-300)
            over[np.arange(part.size), part] = 0.0  # its own image is the business of c_p
            ratio = max(ratio, float(over.max(initial=0.0)))
    return ratio * (1 + 8 * unit)


def _lengths(
    points: Array, rows: slice, both: Any, inner: Any, side: Any, turn: int, unit: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lower bounds of the lengths of a block and how far below they may be; near pairs are computed anew.

    ``side``: where it is negative the crossing is meant; None: ``turn`` is the side of all.
    """
    kind = both.dtype.type
    squared, error = both - kind(2.0) * inner, unit * both
    near_i, near_j = np.nonzero(squared <= kind(1e3) * error)
    length = np.sqrt(np.maximum(squared - error, kind(0.0)))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # √(s + e) − √(s − e) ≤ e/√(s − e)
        doubt = error / length
    if near_i.size <= _MOST_NEAR:
        margin = 8.0 * float(np.finfo(kind).eps)
        for start in range(0, near_i.size, 4096):
            i, j = near_i[start : start + 4096], near_j[start : start + 4096]
            sign = np.full(i.size, float(turn)) if side is None else np.where(side[i, j] < 0, -1.0, 1.0)
            exact = lengths(points[rows][i] - sign[:, None] * points[rows.start :][j])
            length[i, j] = exact * (1 - margin)
            doubt[i, j] = 2 * margin * exact
    return length, doubt
