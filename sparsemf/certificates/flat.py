"""The flat (bounded-Lipschitz) norm of a vector-valued atomic measure on the double cover: both sides by hand.

Masses κ_i ∈ R^m at points v_i, parity s of the flip (v, κ) ~ (−v, s·κ) or 0 without one.  An edge e = (i, j, ±) has the
length d_e = ‖v_i ∓ v_j‖ and the turn t_e = 1 (plain) or s (across the flip):

    primal  min Σ_e d_e‖F_e‖ + Σ_i c_i‖r_i‖,   r_i = κ_i − Σ_{e=(i,·)} F_e + Σ_{e=(·,i)} t_e F_e,
    dual    max Σ_i ⟨κ_i, φ_i⟩  with  ‖φ_i‖ ≤ c_i,  ‖φ_i − t_e φ_j‖ ≤ d_e for every pair and side.

c_i = 1, and for s = −1 also c_i ≤ ‖v_i‖: a unit at v and its image at −v cancel at distance 2‖v‖.  This is the norm of
½(ν + s·ι_#ν) on the cover, since its best potential may be taken to satisfy φ(−v) = s·φ(v).

Everything here is feasible whatever produced it: a plan is priced with the residual that it leaves, and a potential is
repaired before it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from sparsemf.measures.gaussian import UNIT
from sparsemf.symmetry.metric import lengths, point_distances, separations

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_EXACT_POINTS = 6000
_PROJECTION = 12
_SWEEPS = 20
_LARGEST_SWEEP = 10_000


@dataclass(frozen=True, eq=False)
class Edges:
    """Pairs with a side (±1: plain or across the flip), the turn t and the length d; arrays of one length."""

    first: Integers
    second: Integers
    side: Integers
    turn: Array
    length: Array

    def take(self, rows: Integers) -> Edges:
        """Some of the edges."""
        return Edges(self.first[rows], self.second[rows], self.side[rows], self.turn[rows], self.length[rows])

    def joined(self, other: Edges) -> Edges:
        """Both, each pair and side once."""
        both = Edges(
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])
                for name in ("first", "second", "side", "turn", "length")
            )
        )
        low, high = np.minimum(both.first, both.second), np.maximum(both.first, both.second)
        key = (low * (int(high.max(initial=0)) + 1) + high) * 2 + (both.side > 0)
        return both.take(np.unique(key, return_index=True)[1])


@dataclass(frozen=True, eq=False)
class Plan:
    """``flow`` (k, m): what edge k moves from its first point to its second."""

    edges: Edges
    flow: Array


@dataclass(frozen=True, eq=False)
class Problem:
    """``points`` (n, k), ``mass`` (n, m) and the parity; see the module's docstring."""

    points: Array
    mass: Array
    parity: int

    @property
    def size(self) -> int:
        """Number of points."""
        return self.points.shape[0]

    @cached_property
    def cost(self) -> Array:
        """c_i."""
        if self.parity < 0:
            return np.minimum(1.0, lengths(self.points))
        return np.ones(self.size)

    @cached_property
    def weight(self) -> Array:
        """‖κ_i‖."""
        return lengths(self.mass)

    @cached_property
    def matrices(self) -> tuple[Array, Array]:
        """All plain and all crossing lengths (∞ without a flip; both the shorter one for s = 1), (n, n) each."""
        plain, _ = point_distances(self.points, self.points, flips=False)
        np.fill_diagonal(plain, 0.0)
        if self.parity == 0:
            return plain, np.full_like(plain, np.inf)
        crossing, _ = point_distances(self.points, -self.points, flips=False)
        if self.parity > 0:
            plain = np.minimum(plain, crossing)
            return plain, plain
        return plain, crossing

    def part(self, rows: Integers) -> Problem:
        """The problem on some of the points."""
        return Problem(self.points[rows], self.mass[rows], self.parity)

    def edges(self, first: Integers, second: Integers, side: Integers | None = None) -> Edges:
        """Edges with their exact lengths; without ``side`` on the shorter one."""
        if side is None:
            plain = self._lengths(first, second, np.ones(first.size, dtype=np.int64))
            side = np.ones(first.size, dtype=np.int64)
            if self.parity:
                crossing = self._lengths(first, second, -side)
                side = np.where(crossing < plain, -1, 1)
                plain = np.minimum(plain, crossing)
            length = plain
        else:
            length = self._lengths(first, second, side)
        turn = np.where(side < 0, float(self.parity), 1.0)
        return Edges(first.astype(np.int64), second.astype(np.int64), side.astype(np.int64), turn, length)

    def _lengths(self, first: Integers, second: Integers, side: Integers) -> Array:
        return separations(self.points, first, self.points, second, side)

    def residual(self, plan: Plan) -> Array:
        """r of a plan, (n, m)."""
        edges, k = plan.edges, plan.edges.first.size
        if not k:
            return self.mass.copy()
        rows = np.concatenate([edges.first, edges.second])
        sign = np.concatenate([np.full(k, -1.0), edges.turn])
        return self.mass + csr_array((sign, (rows, np.tile(np.arange(k), 2))), shape=(self.size, k)) @ plan.flow

    def price(self, plan: Plan) -> float:
        """The cost of a plan with its residual created or destroyed: an upper bound of the norm, to rounding."""
        moved = float(plan.edges.length @ lengths(plan.flow))
        return moved + float(self.cost @ lengths(self.residual(plan)))

    def worth(self, potential: Array) -> float:
        """Σ⟨κ_i, φ_i⟩ less the rounding of a feasible φ."""
        m = self.mass.shape[1]
        slack = (self.size + m + 64) * UNIT * float(self.weight @ np.minimum(lengths(potential), 1.0))
        return float(np.sum(potential * self.mass)) - slack

    def neighbours(self, rows: Integers, count: int) -> Edges:
        """Edges from each of ``rows`` to its nearest few others of them; for many points nearest in a projection."""
        size = rows.size
        count = min(count, size - 1)
        if count < 1:
            return self.edges(rows[:0], rows[:0])
        points = self.points[rows]
        firsts, seconds, sides = [], [], []
        if size <= _EXACT_POINTS:
            for start in range(0, size, 1024):
                distance, sign = point_distances(points[start : start + 1024], points, self.parity != 0)
                own = np.arange(start, start + distance.shape[0])
                distance[np.arange(own.size), own] = np.inf
                near = np.argpartition(distance, count - 1, axis=1)[:, :count]
                firsts.append(np.repeat(own, count))
                seconds.append(near.ravel())
                sides.append(np.take_along_axis(sign, near, axis=1).ravel())
        else:
            firsts, seconds, sides = _projected_neighbours(points, self.parity != 0, count)
        i, j, side = np.concatenate(firsts), np.concatenate(seconds), np.concatenate(sides)
        kept = i != j
        found = self.edges(rows[i[kept]], rows[j[kept]], side[kept])
        return found.joined(self.edges(rows[:0], rows[:0]))


def _projected_neighbours(
    points: Array, flips: bool, count: int
) -> tuple[list[Integers], list[Integers], list[Integers]]:
    """Nearest in an orthogonal projection: (points, neighbours, sides)."""
    size, dimension = points.shape
    draw = np.random.default_rng(20260601).standard_normal((dimension, min(_PROJECTION, dimension)))
    shadow = points @ np.linalg.qr(draw)[0]
    fold = np.where(shadow[:, 0] < 0, -1, 1) if flips else np.ones(size, dtype=np.int64)
    shadow *= fold[:, None]
    tree = KDTree(shadow)
    gap, near = tree.query(shadow, k=count + 1, workers=-1)
    near = np.asarray(near, dtype=np.int64)
    firsts, seconds = [np.repeat(np.arange(size), count + 1)], [near.ravel()]
    sides = [(fold[:, None] * fold[near]).ravel()]
    if flips:
        # on the far side nothing is nearer than the boundary of the half-space
        rows = np.flatnonzero(np.asarray(gap)[:, -1] > shadow[:, 0])
        near = np.asarray(tree.query(-shadow[rows], k=count, workers=-1)[1], dtype=np.int64).reshape(rows.size, count)
        firsts.append(np.repeat(rows, count))
        seconds.append(near.ravel())
        sides.append((-fold[rows, None] * fold[near]).ravel())
    return firsts, seconds, sides


_WORTH_ANOTHER_ROUND = 0.01


def greedy(problem: Problem, counts: Sequence[int], dust: float = 0.0) -> Plan:
    """A plan from short edges to long ones: whatever makes the cost smaller is moved, one end at a time.

    ``counts``: the neighbours looked at, round by round among the points with mass left.  Every flow empties one of its
    ends, so the flows form a forest.  Points left with at most ``dust`` of what they received or had stay behind.
    """
    mass, heaviest = problem.mass.copy(), problem.weight.copy()
    rows = np.arange(problem.size)
    edges, flows = problem.edges(rows[:0], rows[:0]), np.zeros((0, mass.shape[1]))
    for count in counts:
        rows = np.flatnonzero(lengths(mass) > dust * heaviest)
        found = problem.neighbours(rows, count)
        used, flow = _sweep(problem.cost, mass, found)
        if not used.size:
            break
        taken = found.take(used)
        edges = Edges(
            *(
                np.concatenate([getattr(edges, name), getattr(taken, name)])
                for name in ("first", "second", "side", "turn", "length")
            )
        )
        flows = np.concatenate([flows, flow])
        moved = lengths(flow)
        np.maximum.at(heaviest, taken.first, moved)
        np.maximum.at(heaviest, taken.second, moved)
        if used.size < _WORTH_ANOTHER_ROUND * rows.size:
            break  # what is left is dust of rounding, or far from everything
    return Plan(edges, flows)


def _sweep(cost: Array, mass: Array, edges: Edges) -> tuple[Integers, Array]:
    """One pass over the edges in the order of their lengths; ``mass`` becomes the residual."""
    size = lengths(mass)
    i, j, t, d = edges.first, edges.second, edges.turn, edges.length
    helpful = d < cost[i] + cost[j]
    together = separations(mass, i, mass, j, -t)
    helpful &= together < size[i] + size[j]
    used: list[int] = []
    flows: list[Array] = []
    chosen = np.flatnonzero(helpful)
    degree = np.bincount(np.concatenate([i[chosen], j[chosen]]), minlength=size.size)
    alone = (degree[i[chosen]] == 1) & (degree[j[chosen]] == 1)
    taken, batch = _at_once(cost, mass, size, edges.take(chosen[alone]), together[chosen[alone]])
    taken, others = chosen[alone][taken], chosen[~alone]
    for e in others[np.argsort(d[others], kind="stable")]:
        one, other = int(i[e]), int(j[e])
        if not (size[one] and size[other]):
            continue
        turn, length = t[e], d[e]
        rest = mass[other] + turn * mass[one]
        left = float(np.sqrt(rest @ rest))
        now = cost[one] * size[one] + cost[other] * size[other]
        empty_one = length * size[one] + cost[other] * left
        empty_other = length * size[other] + cost[one] * left
        if min(empty_one, empty_other) >= now:
            continue
        if empty_one <= empty_other:
            flow = mass[one].copy()
            mass[one], mass[other] = 0.0, rest
            size[one], size[other] = 0.0, left
        else:
            flow = -turn * mass[other]
            mass[one], mass[other] = turn * rest, 0.0
            size[one], size[other] = left, 0.0
        used.append(int(e))
        flows.append(flow)
    return np.append(taken, np.array(used, dtype=np.int64)), np.concatenate(
        [batch, np.array(flows).reshape(len(used), mass.shape[1])]
    )


def _at_once(cost: Array, mass: Array, size: Array, edges: Edges, together: Array) -> tuple[Integers, Array]:
    """The step of :func:`_sweep` for edges of which no two share an end: (which were used, their flows)."""
    i, j, t, d = edges.first, edges.second, edges.turn, edges.length
    now = cost[i] * size[i] + cost[j] * size[j]
    empty_one, empty_other = d * size[i] + cost[j] * together, d * size[j] + cost[i] * together
    used = np.flatnonzero((size[i] > 0) & (size[j] > 0) & (np.minimum(empty_one, empty_other) < now))
    flow = np.empty((used.size, mass.shape[1]))
    first = empty_one[used] <= empty_other[used]
    for one, at in ((True, np.flatnonzero(first)), (False, np.flatnonzero(~first))):
        a, b, turn = i[used[at]], j[used[at]], t[used[at]]
        source, sink = (a, b) if one else (b, a)
        moved, left = mass[source], mass[sink]
        flow[at] = moved if one else -turn[:, None] * moved
        moved *= turn[:, None]
        left += moved
        mass[sink], mass[source] = left, 0.0
        size[sink], size[source] = lengths(left), 0.0
    return used, flow


@dataclass(frozen=True, eq=False)
class Trees:
    """The forest of a plan's flows.  Point i belongs to the tree of ``root[i]``; a potential that is tight on the
    flows is φ_i = gauge_i·φ_root + ``local``_i, and ``reach[i]`` is the way from the root along the tree."""

    root: Integers
    gauge: Array
    local: Array
    reach: Array


def shortened(problem: Problem, plan: Plan, longest: float) -> Plan:
    """The flows no longer than ``longest`` of what creating at their ends costs."""
    ends = np.minimum(problem.cost[plan.edges.first], problem.cost[plan.edges.second])
    short = np.flatnonzero(plan.edges.length <= longest * ends)
    return Plan(plan.edges.take(short), plan.flow[short])


def trees(problem: Problem, plan: Plan, residual: Array) -> Trees:
    """The forest of a plan's flows, rooted where mass is left (or anywhere, and then centred)."""
    n, m = problem.mass.shape
    edges, flow = plan.edges, plan.flow
    size = lengths(flow)
    slope = edges.length[:, None] * flow / np.where(size > 0, size, 1.0)[:, None]
    left = lengths(residual)
    root, gauge = np.full(n, -1, dtype=np.int64), np.ones(n)
    local, reach = np.zeros((n, m)), np.zeros(n)
    # heaviest residual first, so that every tree is entered where its mass is left
    label = np.arange(n)
    if edges.first.size:
        graph = coo_array((np.ones(edges.first.size), (edges.first, edges.second)), shape=(n, n))
        label = connected_components(graph, directed=False)[1]
    order = np.lexsort((-left, label))
    heads = order[np.flatnonzero(np.diff(label[order], prepend=-1))]
    root[heads] = heads
    waiting = np.arange(edges.first.size)
    while waiting.size:
        i, j = edges.first[waiting], edges.second[waiting]
        known_i, known_j = root[i] >= 0, root[j] >= 0
        forth, back = waiting[known_i & ~known_j], waiting[known_j & ~known_i]
        if not (forth.size or back.size):
            break
        a, b, t = edges.first[forth], edges.second[forth], edges.turn[forth]
        root[b], gauge[b], reach[b] = root[a], t * gauge[a], reach[a] + edges.length[forth]
        local[b] = t[:, None] * (local[a] - slope[forth])
        a, b, t = edges.first[back], edges.second[back], edges.turn[back]
        root[a], gauge[a], reach[a] = root[b], t * gauge[b], reach[b] + edges.length[back]
        local[a] = t[:, None] * local[b] + slope[back]
        waiting = waiting[~(known_i | known_j)]
    _centre(root, gauge, local, left, problem.weight)
    return Trees(root, gauge, local, reach)


def _centre(root: Integers, gauge: Array, local: Array, left: Array, weight: Array) -> None:
    """A tree that leaves no mass may shift its potential: the mean becomes 0."""
    n = root.size
    count = np.bincount(root, minlength=n)
    mean = np.zeros_like(local)
    np.add.at(mean, root, gauge[:, None] * local)
    mean /= np.maximum(count, 1)[:, None]
    own = np.bincount(root, weights=weight, minlength=n)
    free = left[root] <= 64 * UNIT * own[root]
    local[free] -= gauge[free, None] * mean[root[free]]


def target(problem: Problem, forest: Trees, residual: Array) -> Array:
    """The potential that is tight on the short flows and on what is created: not feasible yet."""
    left = lengths(residual)
    own = np.bincount(forest.root, weights=problem.weight, minlength=problem.size)
    rooted = left > 64 * UNIT * own
    base = np.where(rooted, problem.cost / np.where(left > 0, left, 1.0), 0.0)[:, None] * residual
    return forest.gauge[:, None] * base[forest.root] + forest.local


def repaired(problem: Problem, potential: Array) -> tuple[Array, float]:
    """A feasible potential near the given one, from all pairs, and what it is worth (n × n; not for many points)."""
    scalar = problem.mass.shape[1] == 1
    choices = _extensions(problem, potential) if scalar else [_projected(problem, potential)]
    worth = [problem.worth(choice) for choice in choices]
    best = int(np.argmax(worth))
    if worth[best] <= 0:
        return np.zeros_like(potential), 0.0
    return choices[best], worth[best]


def _extensions(problem: Problem, potential: Array) -> list[Array]:
    """McShane's extensions of a scalar potential: Lipschitz for every pair and side; the middle one respects s = −1."""
    plain, crossing = problem.matrices
    phi = np.clip(potential[:, 0], -problem.cost, problem.cost)
    low, high = np.empty_like(phi), np.empty_like(phi)
    for start in range(0, phi.size, 512):
        rows = slice(start, start + 512)
        # min_j φ_j + d_ij and max_j φ_j − d_ij over the points of the cover
        low[rows], high[rows] = np.min(phi + plain[rows], axis=1), np.max(phi - plain[rows], axis=1)
        if problem.parity < 0:
            low[rows] = np.minimum(low[rows], np.min(crossing[rows] - phi, axis=1))
            high[rows] = np.maximum(high[rows], np.max(-phi - crossing[rows], axis=1))
    middle = 0.5 * (low + high)
    found = [middle] if problem.parity < 0 else [middle, low, high]
    return [np.clip(x, -problem.cost, problem.cost)[:, None] for x in found]


def _projected(problem: Problem, potential: Array) -> Array:
    """Violated pairs are brought together one after the other; what is left is scaled away."""
    phi = _clipped(potential, problem.cost)
    for _ in range(_SWEEPS):
        i, j, t, d, gap = violations(problem, phi, 1e-13)
        if not i.size:
            break
        order = np.argsort(-(gap - d))[:_LARGEST_SWEEP]
        for e in order:
            difference = phi[i[e]] - t[e] * phi[j[e]]
            size = float(np.linalg.norm(difference))
            if size > d[e]:
                step = 0.5 * (1.0 - d[e] / size) * difference
                phi[i[e]] -= step
                phi[j[e]] += t[e] * step
        phi = _clipped(phi, problem.cost)
    _, _, _, d, gap = violations(problem, phi, 0.0)
    return phi / max(1.0, float(np.max(gap / d, initial=1.0)))


def _clipped(phi: Array, cost: Array) -> Array:
    size = lengths(phi)
    return phi * np.minimum(1.0, cost / np.where(size > 0, size, 1.0))[:, None]


def violations(problem: Problem, phi: Array, slack: float) -> tuple[Integers, Integers, Array, Array, Array]:
    """Pairs i < j and sides with ‖φ_i − tφ_j‖ > d + slack: (i, j, t, d, ‖φ_i − tφ_j‖)."""
    plain, crossing = problem.matrices
    found = []
    for turn, length in ((1.0, plain), (-1.0, crossing)):
        if turn < 0 and problem.parity >= 0:
            continue
        gap, _ = point_distances(phi, turn * phi, flips=False)
        i, j = np.nonzero(np.triu(gap > length + slack, 1))
        found.append((i, j, np.full(i.size, turn), length[i, j], gap[i, j]))
    i, j, t, d, gap = (np.concatenate([part[k] for part in found]) for k in range(5))
    return i, j, t, d, gap
