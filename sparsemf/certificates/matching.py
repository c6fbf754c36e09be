"""Which neurons of A and B are the same atom: a one-to-one matching of the canonical atoms, near-linear in the width.

Canonical atoms are the core neurons on the section with exact duplicates merged and what cancels dropped, so the two
activations may differ.  Atoms within a relative radius in the flip-invariant metric are joined by an edge; inside each
component of that graph as many pairs as possible are taken, at the least total distance.

A gated block is matched on its gates.  A neuron counts once where it is several cores at one point (elu, selu; sin and
cos, whose bias only turns one into the other).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import KDTree

from sparsemf.certificates.checker import matching as checked
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.raw import Raw, encode
from sparsemf.certificates.dictionary import Dictionary, Family, dictionary, families, gates_of, owned
from sparsemf.measures import Network
from sparsemf.measures.gaussian import UNIT
from sparsemf.symmetry.metric import leaders, lengths, point_distances, separations

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

MERGE_ULPS = 64

_RADIUS = 1e-2
_EXACT_PAIRS = 4_000_000
_PROJECTION = 12
_NEIGHBOURS = 8
_LARGEST_DENSE = 512
_PROBES = 8
_LARGEST_NUMBER = 1e150


@dataclass(frozen=True)
class Matching:
    """Atoms of A and B matched one to one within the radius, in the quotient metric on the section.

    ``pairs`` names each atom by the first neuron of A and of B that belongs to it; ``max_distance`` is the largest
    distance of a pair.  ``evidence`` is what the checker (:mod:`sparsemf.certificates.checker.matching`) reads;
    ``kind`` is "certificate" where the numbers are what it proved (:func:`proved`), else "estimate".
    """

    matched: int
    unmatched_a: int
    unmatched_b: int
    max_distance: float
    pairs: list[tuple[int, int]]
    evidence: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    kind: str = "estimate"


@dataclass(frozen=True, eq=False)
class _Atoms:
    """Canonical atoms of one core: points (n, k), the neuron that represents each and its place in the expansion.

    ``merged``: (places, their leaders', signs) of the neurons that were merged; ``cancelled``: leaders of what cancels.
    """

    points: Array
    neuron: Integers
    row: Integers
    flips: bool
    merged: tuple[Integers, Integers, Integers]
    cancelled: Integers


def match(a: Network, b: Network, radius: float = _RADIUS, parts: Dictionary | None = None) -> Matching:
    """Match the canonical atoms of two networks; ``radius`` is relative to the larger of the two points' lengths.
    ``parts``: the dictionary of plain networks, if it is known already.

    Many atoms: edges among the 8 nearest in an orthogonal projection to 12 dimensions, with exact distances.
    """
    one_core = a.activation.name == b.activation.name and a.activation.kind == "atoms"
    if a.gate is None:
        joint = dictionary(a, b) if parts is None else parts
        both = [
            [part for family in joint.families if (part := owned(family, of_a, before)) is not None]
            for of_a, before in ((True, 0), (False, joint.split))
        ]
    else:
        both = [_gates(a), _gates(b)]
    left, right = (_canonical(found, one_core) for found in both)
    pairs: list[tuple[int, int]] = []
    places: list[tuple[Integers, Integers]] = []
    largest = 0.0
    for name in left.keys() & right.keys():
        first, second = left[name], right[name]
        i, j, distance, relative = _edges(first.points, second.points, first.flips, radius)
        chosen = _assigned(i, j, relative)
        pairs += zip(first.neuron[i[chosen]].tolist(), second.neuron[j[chosen]].tolist(), strict=True)
        places.append((first.row[i[chosen]], second.row[j[chosen]]))
        largest = max(largest, float(distance[chosen].max(initial=0.0)))
    evidence: dict[str, Any] = {"a": _encoded(left), "b": _encoded(right)}
    evidence["pairs"] = {name: _integers([pair[k] for pair in places]) for k, name in enumerate("ab")}
    return Matching(
        matched=len(pairs),
        unmatched_a=sum(atoms.neuron.size for atoms in left.values()) - len(pairs),
        unmatched_b=sum(atoms.neuron.size for atoms in right.values()) - len(pairs),
        max_distance=largest,
        pairs=sorted(pairs),
        evidence=evidence,
    )


def proved(a: Raw, b: Raw, found: Matching) -> Matching:
    """The matching with the numbers that the checker proves from its evidence; an estimate where it proves nothing."""
    if found.evidence is None:
        return found
    try:
        known = checked.prove(a, b, found.evidence)
    except (checked.Refused, MemoryError):
        return replace(found, evidence=None)
    return replace(
        found,
        matched=known.matched,
        unmatched_a=known.atoms_a - known.matched,
        unmatched_b=known.atoms_b - known.matched,
        max_distance=known.published,
        kind="certificate",
    )


def _encoded(atoms: dict[str, _Atoms]) -> dict[str, Any]:
    """Which neurons of a network were merged, and which groups cancel."""
    merged = {name: _integers([x.merged[k] for x in atoms.values()]) for k, name in enumerate(("rows", "leaders"))}
    signs = _integers([x.merged[2] for x in atoms.values()], np.int8)
    return {**merged, "signs": signs, "cancelled": _integers([x.cancelled for x in atoms.values()])}


def _integers(parts: list[Integers], kind: type = np.int32) -> dict[str, Any]:
    return encode(np.concatenate(parts).astype(kind) if parts else np.zeros(0, dtype=kind))


def _gates(network: Network) -> list[Family]:
    """The gates of a gated block, with masses from a few probes of α ⊗ (v, e)."""
    with Arithmetic(0).precision(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        block = gates_of(network, 1.0)
        rng = np.random.default_rng(3)
        value = np.concatenate([block.v, block.e[:, None]], axis=1) @ rng.standard_normal((network.d + 1, _PROBES))
        h, mass = block.gates, block.gates.alpha @ rng.standard_normal((network.m, _PROBES)) * value
        place = np.arange(h.core.size)
        return list(families(h, mass, np.ones(place.size, dtype=bool), place % max(network.width, 1)))


def _canonical(parts: list[Family], one_core: bool) -> dict[str, _Atoms]:
    """The canonical atoms of a network by core; ``one_core``: cores at one point of one activation count once."""
    found = {family.core: family for family in parts}
    if one_core and "elu" in found:
        found.pop("relu", None)
    if "sin" in found or "cos" in found:
        found["waves"] = _waves([found.pop(name, None) for name in ("sin", "cos")])
    return {name: _merged(family, turns=name == "waves") for name, family in found.items()}


def _waves(parts: list[Family | None]) -> Family:
    """sin and cos as one family with masses (sine, cosine)."""
    present = [p for p in parts if p is not None]
    wide = [
        np.concatenate([p.mass, np.zeros_like(p.mass)] if k == 0 else [np.zeros_like(p.mass), p.mass], axis=1)
        for k, p in enumerate(parts)
        if p is not None
    ]
    return Family(
        "waves",
        np.concatenate([p.points for p in present]),
        np.concatenate(wide),
        np.concatenate([p.of_a for p in present]),
        np.concatenate([p.neuron for p in present]),
        np.concatenate([p.row for p in present]),
        1,
    )


def _merged(family: Family, turns: bool) -> _Atoms:
    """Exact duplicates merged, and atoms whose mass cancels dropped; ``turns``: the first half of the mass is odd."""
    flips = family.parity != 0
    lead, sign = leaders(family.points, MERGE_ULPS * UNIT * lengths(family.points), flips)
    mass = family.mass
    if not (mass.min(initial=0.0) >= -_LARGEST_NUMBER and mass.max(initial=0.0) <= _LARGEST_NUMBER):
        mass = np.clip(np.nan_to_num(mass), -_LARGEST_NUMBER, _LARGEST_NUMBER)
    factor = np.where(sign < 0, float(family.parity), 1.0)
    if turns:
        half = mass.shape[1] // 2
        mass = np.concatenate([np.where(sign < 0, -1.0, 1.0)[:, None] * mass[:, :half], mass[:, half:]], axis=1)
        factor = np.ones(sign.size)
    atoms, atom = np.unique(lead, return_inverse=True)
    members = np.bincount(atom, minlength=atoms.size)
    total = Arithmetic(0).grouped(mass, atom, atoms.size, factor)
    size = np.bincount(atom, weights=lengths(mass), minlength=atoms.size)
    alive = (members == 1) | (lengths(total) > MERGE_ULPS * UNIT * size)
    joined = np.flatnonzero(lead != np.arange(lead.size))
    return _Atoms(
        family.points[atoms[alive]],
        family.neuron[atoms[alive]],
        family.row[atoms[alive]],
        flips,
        (family.row[joined], family.row[lead[joined]], sign[joined]),
        family.row[atoms[~alive]],
    )


def _edges(first: Array, second: Array, flips: bool, radius: float) -> tuple[Integers, Integers, Array, Array]:
    """Pairs within the radius: (i, j, distance, distance/allowed)."""
    if first.shape[0] * second.shape[0] <= _EXACT_PAIRS:
        i, j, distance = _all_pairs(first, second, flips, radius)
    else:
        i, j, distance = _near_pairs(first, second, flips, radius)
    allowed = radius * np.maximum(lengths(first)[i], lengths(second)[j])
    relative = distance / np.where(allowed > 0, allowed, 1.0)
    kept = np.flatnonzero(relative <= 1.0)
    if kept.size > _NEIGHBOURS * (first.shape[0] + second.shape[0]):
        kept = kept[_nearest(i[kept], relative[kept]) | _nearest(j[kept], relative[kept])]
    return i[kept], j[kept], distance[kept], relative[kept]


def _nearest(owner: Integers, distance: Array) -> NDArray[np.bool_]:
    """Which edges are among the nearest few of their owner."""
    order = np.lexsort((distance, owner))
    starts = np.flatnonzero(np.diff(owner[order], prepend=-1))
    rank = np.arange(owner.size) - np.repeat(starts, np.diff(np.append(starts, owner.size)))
    kept = np.zeros(owner.size, dtype=bool)
    kept[order] = rank < _NEIGHBOURS
    return kept


def _all_pairs(first: Array, second: Array, flips: bool, radius: float) -> tuple[Integers, Integers, Array]:
    rows_of, columns_of, distances = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    length, other = lengths(first), lengths(second)
    for start in range(0, first.shape[0], 1024):
        rows = slice(start, start + 1024)
        distance, _ = point_distances(first[rows], second, flips)
        i, j = np.nonzero(distance <= radius * np.maximum(length[rows, None], other))
        rows_of.append(i + start)
        columns_of.append(j)
        distances.append(distance[i, j])
    return np.concatenate(rows_of), np.concatenate(columns_of), np.concatenate(distances)


def _near_pairs(first: Array, second: Array, flips: bool, radius: float) -> tuple[Integers, Integers, Array]:
    """Near neighbours in an orthogonal projection, which lengthens no distance."""
    dimension = first.shape[1]
    basis = np.linalg.qr(np.random.default_rng(20260601).standard_normal((dimension, min(_PROJECTION, dimension))))[0]
    tree, shadow = KDTree(first @ basis), second @ basis
    reach = radius * max(float(lengths(x).max(initial=0.0)) for x in (first, second))
    count = min(_NEIGHBOURS, first.shape[0])
    rows, columns, distances = [], [], []
    for sign in (1, -1) if flips else (1,):
        gap, near = tree.query(sign * shadow, k=count, distance_upper_bound=reach * (1 + 1e-9), workers=-1)
        gap, near = np.asarray(gap).reshape(-1, count), np.asarray(near).reshape(-1, count)
        j, column = np.nonzero(np.isfinite(gap))
        i = near[j, column].astype(np.int64)
        rows.append(i)
        columns.append(j)
        distances.append(separations(first, i, second, j, sign))
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(distances)


def _assigned(i: Integers, j: Integers, cost: Array) -> Integers:
    """Edges of a matching with as many pairs as possible, and of these one of the least total cost ≤ 1 each."""
    if not i.size:
        return np.zeros(0, dtype=np.int64)
    graph: nx.Graph[int] = nx.Graph()
    shift = int(i.max()) + 1
    graph.add_edges_from(zip(i.tolist(), (j + shift).tolist(), strict=True))
    label = np.empty(shift + int(j.max()) + 1, dtype=np.int64)
    for k, component in enumerate(nx.connected_components(graph)):
        label[list(component)] = k
    own = label[i]
    order = np.argsort(own, kind="stable")
    starts = np.flatnonzero(np.diff(own[order], prepend=-1))
    chosen = [
        edges if edges.size == 1 else edges[_component(i[edges], j[edges], cost[edges])]
        for edges in np.split(order, starts[1:])
    ]
    return np.concatenate(chosen)


def _component(i: Integers, j: Integers, cost: Array) -> Integers:
    if i.min() == i.max() or j.min() == j.max():  # a star: one pair
        return np.array([np.argmin(cost)])
    rows, at = np.unique(i, return_inverse=True)
    columns, where = np.unique(j, return_inverse=True)
    # no set of edges is worth a pair: leaving a row alone costs more than all edges together
    alone = 2.0 + 2.0 * min(rows.size, columns.size)
    # the cheapest of parallel edges (with and without a flip)
    order = np.lexsort((cost, where, at))
    first = order[np.flatnonzero(np.diff(at[order] * columns.size + where[order], prepend=-1))]
    if max(rows.size, columns.size) <= _LARGEST_DENSE:
        matrix = np.full((rows.size, columns.size), alone)
        matrix[at[first], where[first]] = cost[first]
        row, column = linear_sum_assignment(matrix)
    else:
        # a column of its own for every row that stays alone; costs are moved off 0, which would be no edge
        spare = np.arange(rows.size)
        weight = np.concatenate([1.0 + cost[first], np.full(rows.size, 1.0 + alone)])
        shape = (rows.size, columns.size + rows.size)
        graph = coo_array(
            (weight, (np.concatenate([at[first], spare]), np.concatenate([where[first], columns.size + spare]))), shape
        )
        row, column = min_weight_full_bipartite_matching(graph.tocsr())
    edge_of = {(int(r), int(c)): int(e) for r, c, e in zip(at[first], where[first], first, strict=True)}
    found = [edge_of[key] for key in zip(row.tolist(), column.tolist(), strict=True) if key in edge_of]
    return np.array(found, dtype=np.int64)
