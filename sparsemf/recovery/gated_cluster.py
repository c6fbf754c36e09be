"""Merging gated atoms along a path: Ward's clusters in function space, and their means in parameters.

Replacing atoms of weight κ_i = ‖α_i‖ by one in the middle changes f by about Ward's cost, κ_iκ_j/(κ_i + κ_j)·d², with d
their distance; for gated atoms d is taken where f lives, d² = ‖φ_i‖² + ‖φ_j‖² − 2|⟨φ_i, φ_j⟩| over the degrees that are
not free, factors of length 1.  That is invariant under every symmetry: (α, h, e) ~ −(α, h, e), and flips of gates where
their cost is free.  Inner products of a cluster's mean function are the weighted means of its atoms', so the tree is
grown from the Gram matrix alone.  A cluster's *atom* is the weighted mean of its gates and factors, each turned to one
side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures.gated import GatedAtoms
from sparsemf.recovery.chains import nearest_chains
from sparsemf.recovery.cluster import MergeTree

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GatedAgglomeration(MergeTree):
    """Ward's clusters of gated atoms for every S; ``cost`` of each merge, ``weight`` ‖α_i‖‖(h_i, e_i)‖; ``flips``:
    gates may be turned."""

    cost: Array
    atoms: GatedAtoms
    weight: Array
    flips: bool

    @staticmethod
    def of(atoms: GatedAtoms, weight: Array, gram: Array, flips: bool, uniform: bool = False) -> GatedAgglomeration:
        """The whole tree from the Gram matrix (n, n) of atoms with coefficients of lengths ``weight``; ``uniform``:
        clusters as if all weights were one."""
        size = np.maximum(atoms.size, 1e-300)
        weight = weight * size + 1e-300
        load = np.ones_like(weight) if uniform else weight.copy()
        pairs, costs = _chains(gram / np.outer(size, size), load)
        order = np.argsort(costs, kind="stable")
        return GatedAgglomeration(pairs[order], costs[order], atoms, weight, flips)

    def costs(self) -> Array:
        """Roots of the merges' costs, dearest first: entry S − 1 is what going from S + 1 to S clusters costs."""
        return np.sqrt(self.cost[::-1])

    @cached_property
    def nodes(self) -> GatedAtoms:
        """All 2n − 1 clusters' means: the atoms, then the clusters in the order of the merges."""
        gate, factor = points(self.atoms)
        n = self.weight.size
        gate, factor = (np.concatenate([x, np.empty((max(n - 1, 0), x.shape[1]))]) for x in (gate, factor))
        weight = np.concatenate([self.weight, np.empty(max(n - 1, 0))])
        for step, (i, j) in enumerate(self.children):
            weight[n + step] = weight[i] + weight[j]
            gate[n + step], factor[n + step] = _middle(gate[[i, j]], factor[[i, j]], weight[[i, j]], self.flips)
        return _atoms(self.atoms, gate, factor)

    def means(self, size: int) -> GatedAtoms:
        """One atom per cluster: the weighted mean of its atoms, turned to one side."""
        return self.nodes.take(self.clusters(size))

    def centres(self, size: int) -> GatedAtoms:
        """:meth:`means`, as a merge path calls them."""
        return self.means(size)


def merged(atoms: GatedAtoms, weight: Array, i: int, j: int, flips: bool) -> GatedAtoms:
    """The dictionary with its atoms i and j replaced by one in the middle; ``weight`` ‖β_s‖‖(h_s, e_s)‖."""
    gate, factor = points(atoms)
    pair = [i, j]
    middle = _middle(gate[pair], factor[pair], weight[pair], flips)
    rest = np.setdiff1d(np.arange(atoms.n), pair)
    return GatedAtoms.joined(atoms.take(rest), _atoms(atoms, middle[0][None], middle[1][None]))


def points(atoms: GatedAtoms) -> tuple[Array, Array]:
    """Gates (g, c) and factors (h, e) of length 1, (n, d + 1) each."""
    size = np.maximum(atoms.size, 1e-300)
    gate = np.concatenate([atoms.gate, atoms.gate_bias[:, None]], axis=1)
    return gate, np.concatenate([atoms.inner, atoms.bias[:, None]], axis=1) / size[:, None]


def _atoms(like: GatedAtoms, gate: Array, factor: Array) -> GatedAtoms:
    return GatedAtoms(like.activation, gate[:, :-1], gate[:, -1], factor[:, :-1], factor[:, -1])


def _middle(gate: Array, factor: Array, weight: Array, flips: bool) -> tuple[Array, Array]:
    turn = -1.0 if flips and gate[0] @ gate[1] < 0 else 1.0
    side = -1.0 if factor[0] @ factor[1] < 0 else 1.0
    share = weight / weight.sum()
    return share[0] * gate[0] + turn * share[1] * gate[1], share[0] * factor[0] + side * share[1] * factor[1]


def _chains(kernel: Array, weight: Array) -> tuple[Integers, Array]:
    """Pairs (kept, absorbed) and costs of all n − 1 merges; overwrites ``kernel``, the clusters' means' inner products,
    and ``weight``."""
    square = np.diag(kernel).copy()

    def cost(i: int) -> Array:
        gap = np.maximum(square + square[i] - 2.0 * np.abs(kernel[i]), 0.0)
        return weight * weight[i] / (weight + weight[i]) * gap

    def merge(i: int, j: int) -> None:
        turn = -1.0 if kernel[i, j] < 0 else 1.0
        total = weight[i] + weight[j]
        one, two = weight[i] / total, turn * weight[j] / total
        square[i] = one**2 * square[i] + two**2 * square[j] + 2.0 * one * two * kernel[i, j]
        row = one * kernel[i] + two * kernel[j]
        row[i] = square[i]
        kernel[i], kernel[:, i] = row, row
        weight[i] = total

    return nearest_chains(weight.size, cost, merge)
