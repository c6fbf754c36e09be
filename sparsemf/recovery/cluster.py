"""Merging along a path: clusters of particles for every S, by the function-space error that a merge costs.

Moving particle i onto particle j costs at most ‖κ_i‖·Lip(σ)·d(v_i, v_j) in L², d the flip-invariant distance on the
section.  Every particle is joined to its nearest *heavier* particle (weight ‖κ_i‖‖φ_i‖); sorting these costs gives a
forest for every S at once: cut the S − 1 dearest edges, and the components (networkx) are the clusters.  Particles
of vanishing weight are cheap wherever they lie, so noise does not open clusters.  A cluster's atom is the
weighted median of its particles, flipped onto its heaviest one: far particles of little weight do not drag it.
"""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Atoms
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
            if self.section.flips:
                v = v * np.where(v @ self.section.points[head] < 0, -1.0, 1.0)[:, None]
            points.append(_weighted_median(v, self.weight[members]))
        centre = np.array(points)
        return Atoms(self.section.activation, centre[:, :-1], centre[:, -1])


def _weighted_median(points: Array, weight: Array) -> Array:
    """The coordinatewise weighted median of points (k, D)."""
    order = np.argsort(points, axis=0)
    cumulative = np.cumsum(weight[order], axis=0)
    middle = np.argmax(cumulative >= 0.5 * cumulative[-1], axis=0)
    columns = np.arange(points.shape[1])
    return points[order[middle, columns], columns]


def merge_path(problem: Problem) -> MergePath:
    """The forest of nearest heavier particles; O(n²d) in blocks."""
    section = Section.of(problem.network)
    mass = np.linalg.norm(section.kappa, axis=1)
    weight = mass * problem.geometry.length(Atoms(section.activation, section.points[:, :-1], section.points[:, -1]))
    order = np.argsort(-weight, kind="stable")
    points = section.points[order]
    n = order.size
    parent, cost = np.arange(n), np.full(n, np.inf)
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        distance, _ = point_distances(points[start:stop], points[:stop], section.flips)
        distance[np.arange(stop)[None, :] >= np.arange(start, stop)[:, None]] = np.inf
        nearest = np.argmin(distance, axis=1)
        value = distance[np.arange(stop - start), nearest]
        rows = order[start:stop]
        parent[rows] = np.where(np.isfinite(value), order[nearest], rows)
        cost[rows] = section.activation.lipschitz * mass[rows] * value
    cost[order[0]] = np.inf
    return MergePath(section, weight, parent, cost)
