"""Merging along a path: clusters of particles for every S, by the function-space error that a merge costs.

Moving particle i onto particle j costs at most ‖κ_i‖·Lip(σ)·d(v_i, v_j) in L², d the flip-invariant distance on the
section; where σ′ is unbounded, the modulus at v_i stands for Lip(σ) (near v_i it is what a move costs).  Every
particle is joined to its nearest *heavier* particle (weight ‖κ_i‖‖φ_i‖); sorting these costs gives a forest for every
S at once: cut the S − 1 dearest edges, and the components (networkx) are the clusters.  Particles of vanishing weight
are cheap wherever they lie, so noise does not open clusters.  A cluster's atom is the weighted median of its particles,
flipped onto its heaviest one: far particles of little weight do not drag it.

Flips count as no distance where they cost nothing but what is free (``flips``).

For many clusters the second order matters: weighted Ward clusters and their means (:class:`Agglomeration`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Atoms
from sparsemf.recovery.chains import nearest_chains
from sparsemf.recovery.problem import Problem
from sparsemf.symmetry import Section, point_distances

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class MergePath:
    """``parent[i]``: the nearest heavier particle (itself for the heaviest); ``cost[i]`` of moving there, or inf."""

    section: Section
    weight: Array
    parent: Integers
    cost: Array
    flips: bool

    def costs(self) -> Array:
        """All finite costs, dearest first: entry S − 1 is what going from S + 1 to S clusters costs at most."""
        return np.sort(self.cost[np.isfinite(self.cost)])[::-1]

    def clusters(self, size: int) -> Integers:
        """Cluster labels 0 … size − 1 of all particles, heaviest cluster first."""
        roots = np.argsort(-self.cost, kind="stable")[:size]
        is_root = np.zeros(self.cost.size, dtype=bool)
        is_root[roots] = True
        graph: nx.Graph[int] = nx.Graph()
        graph.add_nodes_from(range(self.cost.size))
        graph.add_edges_from((int(i), int(self.parent[i])) for i in np.flatnonzero(~is_root))
        label = np.empty(self.cost.size, dtype=np.int64)
        components = [np.fromiter(c, dtype=np.int64) for c in nx.connected_components(graph)]
        components.sort(key=lambda c: -float(self.weight[c].sum()))
        for k, members in enumerate(components):
            label[members] = k
        return label

    def centres(self, size: int) -> Atoms:
        """One atom per cluster: the weighted coordinatewise median of its particles, flipped onto the heaviest."""
        label = self.clusters(size)
        points = []
        for k in range(int(label.max()) + 1):
            members = np.flatnonzero(label == k)
            head = members[np.argmax(self.weight[members])]
            v = self.section.points[members]
            if self.flips:
                v = v * np.where(v @ self.section.points[head] < 0, -1.0, 1.0)[:, None]
            points.append(_weighted_median(v, self.weight[members]))
        centre = np.array(points)
        return Atoms(self.section.activation, centre[:, :-1], centre[:, -1])


@dataclass(frozen=True, eq=False)
class MergeTree:
    """``merges`` (n − 1, 2): the particles whose clusters are joined, cheapest first; clusters for every S."""

    merges: Integers

    @property
    def particles(self) -> int:
        """n."""
        return self.merges.shape[0] + 1

    @cached_property
    def children(self) -> Integers:
        """The two nodes that each merge joins (n − 1, 2): the particles come first, then the clusters in the order of
        the merges."""
        n = self.particles
        top, node = np.arange(n), np.arange(n)  # union-find over particles; the node that stands for each root
        children = np.empty_like(self.merges)

        def root(i: int) -> int:
            while top[i] != i:
                top[i] = top[top[i]]
                i = int(top[i])
            return i

        for step, (i, j) in enumerate(self.merges):
            a, b = root(int(i)), root(int(j))
            children[step] = node[a], node[b]
            top[b], node[a] = a, n + step
        return children

    def clusters(self, size: int) -> Integers:
        """Which ``size`` nodes stand for S = size."""
        alive = np.ones(2 * self.particles - size, dtype=bool)
        alive[self.children[: self.particles - size].ravel()] = False
        return np.flatnonzero(alive)


@dataclass(frozen=True, eq=False)
class Agglomeration(MergeTree):
    """Ward's clusters of all particles, weighted by ‖κ‖ and in the flip-invariant distance, for every S.

    Replacing particles i, j by their weighted mean leaves Σκ and Σκv (so the terms of order 0 and 1 of f) as they are,
    when κ_i and κ_j point the same way; what it changes is of the size of Ward's cost,
    ‖κ_i‖‖κ_j‖/(‖κ_i‖ + ‖κ_j‖)·d(v_i, v_j)².

    ``uniform``: clusters as if all weights were one, their means weighted all the same: light particles far from the
    heavy ones get clusters of their own, which describes the dust around few atoms better.
    """

    section: Section
    weight: Array
    flips: bool

    @staticmethod
    def of(problem: Problem, uniform: bool = False) -> Agglomeration:
        """The whole tree by nearest-neighbour chains: O(n²d) time, O(nd) memory."""
        section = Section.of(problem.network)
        weight = np.linalg.norm(section.kappa, axis=1) + 1e-300
        load = np.ones_like(weight) if uniform else weight.copy()
        pairs, costs = _chains(section.points.copy(), load, problem.flips)
        return Agglomeration(pairs[np.argsort(costs, kind="stable")], section, weight, problem.flips)

    @cached_property
    def nodes(self) -> Atoms:
        """All 2n − 1 clusters' means: the particles, then the clusters in the order of the merges."""
        n = self.weight.size
        points = np.concatenate([self.section.points, np.empty((max(n - 1, 0), self.section.points.shape[1]))])
        weight = np.concatenate([self.weight, np.empty(max(n - 1, 0))])
        for step, (i, j) in enumerate(self.children):
            turn = -1.0 if self.flips and points[i] @ points[j] < 0 else 1.0
            weight[n + step] = weight[i] + weight[j]
            points[n + step] = (weight[i] * points[i] + turn * weight[j] * points[j]) / weight[n + step]
        return Atoms(self.section.activation, points[:, :-1], points[:, -1])

    def means(self, size: int) -> Atoms:
        """One atom per cluster: the weighted mean of its particles, flipped to one side."""
        return self.nodes.take(self.clusters(size))


def _chains(points: Array, weight: Array, flips: bool) -> tuple[Integers, Array]:
    """Pairs (kept, absorbed) and costs of all n − 1 merges; overwrites ``points`` (means) and ``weight``."""
    square = np.sum(points**2, axis=1)

    def cost(i: int) -> Array:
        inner = points @ points[i]
        overlap = np.abs(inner) if flips else inner
        return weight * weight[i] / (weight + weight[i]) * np.maximum(square + square[i] - 2.0 * overlap, 0.0)

    def merge(i: int, j: int) -> None:
        turn = -1.0 if flips and points[i] @ points[j] < 0 else 1.0
        points[i] = (weight[i] * points[i] + weight[j] * turn * points[j]) / (weight[i] + weight[j])
        weight[i] += weight[j]
        square[i] = float(points[i] @ points[i])

    return nearest_chains(weight.size, cost, merge)


def _weighted_median(points: Array, weight: Array) -> Array:
    """The coordinatewise weighted median of points (k, D)."""
    order = np.argsort(points, axis=0)
    cumulative = np.cumsum(weight[order], axis=0)
    middle = np.argmax(cumulative >= 0.5 * cumulative[-1], axis=0)
    columns = np.arange(points.shape[1])
    return points[order[middle, columns], columns]


def _slopes(section: Section) -> Array:
    """Lip(σ), or the modulus of each particle on the section, (n,)."""
    points, activation = section.points, section.activation
    if np.isfinite(activation.lipschitz):
        return np.full(points.shape[0], activation.lipschitz)
    with np.errstate(over="ignore"):
        found = activation.modulus(np.linalg.norm(points[:, :-1], axis=1), np.abs(points[:, -1]))
    return np.minimum(found, 1e150)


def merge_path(problem: Problem) -> MergePath:
    """The forest of nearest heavier particles; O(n²d) in blocks."""
    section = Section.of(problem.network)
    mass = np.linalg.norm(section.kappa, axis=1)
    weight = mass * problem.geometry.length(Atoms(section.activation, section.points[:, :-1], section.points[:, -1]))
    order = np.argsort(-weight, kind="stable")
    points = section.points[order]
    n = order.size
    parent, cost = np.arange(n), np.full(n, np.inf)
    slope = _slopes(section)
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        distance, _ = point_distances(points[start:stop], points[:stop], problem.flips)
        distance[np.arange(stop)[None, :] >= np.arange(start, stop)[:, None]] = np.inf
        nearest = np.argmin(distance, axis=1)
        value = distance[np.arange(stop - start), nearest]
        rows = order[start:stop]
        near = np.isfinite(value)
        parent[rows] = np.where(near, order[nearest], rows)
        cost[rows[near]] = slope[rows[near]] * mass[rows[near]] * value[near]
    cost[order[0]] = np.inf
    return MergePath(section, weight, parent, cost, problem.flips)
