"""Which neurons of A and B belong together: the search for a grouping that makes the checker's bound small.

Nothing here is trusted: any grouping gives a valid bound.  Groups are looked for among the *core* neurons of f_A − f_B
(:mod:`sparsemf.certificates.checker.expansion`), in the flip-invariant metric on the section.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.expansion import Expanded
from sparsemf.certificates.checker.laws import Norm
from sparsemf.symmetry.metric import leaders, lengths, point_distances, separations

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_EXACT_PAIRS = 4_000_000
_PROJECTION = 12
_NEIGHBOURS = 4
_NEAR = 0.1
_RADII = (1e-10, 1e-7, 1e-4)
_MANY = 20_000


@dataclass(frozen=True, eq=False)
class Grouping:
    """``leader[i]`` is the core neuron that represents i's group, ``flip[i]`` ±1 the side on which i meets it."""

    leader: Integers
    flip: Integers


def candidates(h: Expanded, split: int, norm: Norm) -> Iterator[Grouping]:
    """Groupings of the core neurons (the first ``split`` are A's), cheap and exact ones first.

    Under a Gaussian law neurons are near when they are near in its white coordinates.
    """
    if norm.kind == "gaussian" and not norm.standard:
        w, b = norm.white(Arithmetic(0), h.w, h.b)
        h = replace(h, w=w, b=b)
    exact = _by_radius(h, 1e-13)
    if h.core.size > _MANY:  # each trial costs seconds there
        yield _paired(h, split, exact)
        yield exact
    else:
        yield exact
        yield _paired(h, split, exact)
        for radius in _RADII:
            yield _by_radius(h, radius)


def _points(h: Expanded, rows: Integers, degree: int) -> Array:
    points = np.empty((rows.size, h.w.shape[1] + 1))
    points[:, :-1], points[:, -1] = h.w[rows], h.b[rows]
    if degree:
        length = lengths(points)
        points /= np.where(length > 0, length, 1.0)[:, None]
    return points


def _by_radius(h: Expanded, radius: float) -> Grouping:
    n = h.core.size
    leader, flip = np.arange(n), np.ones(n, dtype=np.int64)
    alive = np.asarray(np.any(h.alpha != 0, axis=1))
    for core, rows in h.cores():
        live = rows[alive[rows]]
        if live.size:
            points = _points(h, live, core.degree)
            lead, sign = leaders(points, radius * lengths(points), core.flip is not None)
            leader[live], flip[live] = live[lead], sign
    return Grouping(leader, flip)


def _paired(h: Expanded, split: int, exact: Grouping) -> Grouping:
    """Exact groups, and every group led by a neuron of B joined to the nearest group led by one of A where that is
    cheaper than standing alone."""
    leader, flip = exact.leader.copy(), exact.flip.copy()
    alive = np.asarray(np.any(h.alpha != 0, axis=1))
    for core, rows in h.cores():
        heads = rows[(exact.leader[rows] == rows) & alive[rows]]
        ours, theirs = heads[heads < split], heads[heads >= split]
        if not ours.size or not theirs.size:
            continue
        flips = core.flip is not None
        first, second = _points(h, ours, core.degree), _points(h, theirs, core.degree)
        found, distance, sign = nearest(first, second, flips)
        size = lengths(second)
        target = np.full(h.core.size, -1, dtype=np.int64)
        turn = np.ones(h.core.size, dtype=np.int64)
        close = np.flatnonzero(distance <= 0.5 * size)
        target[theirs[close]], turn[theirs[close]] = ours[found[close]], sign[close]
        moved = rows[target[exact.leader[rows]] >= 0]
        flip[moved] *= turn[exact.leader[moved]]
        leader[moved] = target[exact.leader[moved]]
    return Grouping(leader, flip)


def nearest(first: Array, second: Array, flips: bool) -> tuple[Integers, Array, Integers]:
    """For each row of ``second`` a nearest row of ``first``: (index, distance, sign).

    Exact for few points; for many, the nearest among a few neighbours in a random projection (near-linear).
    """
    if first.shape[0] * second.shape[0] <= _EXACT_PAIRS:
        index, reach, side = (np.zeros(second.shape[0], dtype=t) for t in (np.int64, float, np.int64))
        for start in range(0, second.shape[0], 1024):
            rows = slice(start, start + 1024)
            distance, sign = point_distances(second[rows], first, flips)
            best = np.argmin(distance, axis=1)
            at = np.arange(best.size)
            index[rows], reach[rows], side[rows] = best, distance[at, best], sign[at, best]
        return index, reach, side
    draw = np.random.default_rng(5).standard_normal((first.shape[1], min(_PROJECTION, first.shape[1])))
    basis = np.linalg.qr(draw)[0]  # distances in the projection are lower bounds
    place, shadow = first @ basis, second @ basis
    # both on one side of a hyperplane: across it nobody is nearer than the plane itself
    fold, turn = (np.where(x[:, 0] < 0, -1, 1) if flips else np.ones(x.shape[0], dtype=int) for x in (place, shadow))
    tree, shadow = KDTree(place * fold[:, None]), shadow * turn[:, None]
    index, reach = np.zeros(second.shape[0], dtype=np.int64), np.full(second.shape[0], np.inf)
    side = np.ones(second.shape[0], dtype=np.int64)

    def look(rows: Integers, count: int, limit: float) -> None:
        """Let ``rows`` choose among their ``count`` nearest in the projection, within ``limit`` there."""
        for sign in (1, -1) if flips else (1,):
            if sign < 0:
                rows = rows[shadow[rows, 0] < reach[rows]]
            if not rows.size:
                return
            gap, near = tree.query(sign * shadow[rows], k=count, distance_upper_bound=limit, workers=-1)
            at, column = np.nonzero(np.reshape(gap, (rows.size, count)) < reach[rows, None])
            found = np.reshape(near, (rows.size, count))[at, column]
            relative = sign * fold[found] * turn[rows[at]]
            distance = separations(first, found, second, rows[at], relative)
            order = np.lexsort((distance, at))
            order = order[np.flatnonzero(np.diff(at[order], prepend=-1))]
            order = order[distance[order] < reach[rows[at[order]]]]
            chosen = rows[at[order]]
            index[chosen], reach[chosen], side[chosen] = found[order], distance[order], relative[order]

    # copies are found at once; only who finds nobody near looks at several from afar
    everyone = np.arange(second.shape[0])
    look(everyone, 1, np.inf)
    near = reach <= _NEAR * lengths(second)
    count = min(_NEIGHBOURS, first.shape[0])
    look(everyone[near], count, float(reach[near].max(initial=0.0)))
    look(everyone[~near], count, np.inf)
    return index, reach, side
