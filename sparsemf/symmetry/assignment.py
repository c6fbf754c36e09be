"""Which neuron of one network is which of another: one-to-one pairs, near on the section of the scalings up to a flip.

A neuron's *point* is (w, b) (gated: its gate), on the section: of unit length for σ homogeneous, without the bias for
exp.  Its coefficient - α times what the section takes out - only breaks ties among equal points (splits).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from sparsemf.exceptions import InputError
from sparsemf.measures import Network

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

FARTHEST_SHIFT = 200.0
"""exp's coefficients α e^b are compared, and its biases moved, up to here."""

_EXACT_PAIRS = 4_000_000
_PROJECTION = 12
_NEIGHBOURS = 8
_ROUNDS = 4
_LARGEST_COMPONENT = 512
_COEFFICIENT_WEIGHT = 0.25
_EVEN = 1e-9


@dataclass(frozen=True, eq=False)
class Assignment:
    """One-to-one pairs of raw neurons: a's ``first[k]`` and b's ``second[k]``, which meet after ``sign[k]``.

    ``distance`` is that of the points, relative to their length (gated: or that of the values' lines, if larger).
    """

    first: Integers
    second: Integers
    sign: Integers
    distance: Array


@dataclass(frozen=True, eq=False)
class _Features:
    """Neurons on the section: ``points`` (n, k), coefficients ``kappa`` (n, p); ``parity`` of κ under a flip of the
    points, 0 when there is none; unit vectors ``values`` (n, d + 1), up to sign, of gated neurons."""

    points: Array
    kappa: Array
    parity: int
    values: Array | None = None

    def take(self, rows: Integers) -> _Features:
        values = None if self.values is None else self.values[rows]
        return _Features(self.points[rows], self.kappa[rows], self.parity, values)


def assign(a: Network, b: Network, tolerance: float = 0.5, flips: bool = True) -> Assignment:
    """One-to-one pairs of neurons of ``a`` and ``b``, of one activation and equal d and m; opposite points are one
    where σ has such a relation, unless not ``flips``.

    The optimal assignment where the full cost matrix is small; otherwise among a few neighbours in a random
    projection, component by component of their graph.  Pairs farther apart than ``tolerance`` are dropped.
    """
    f, g = _scaled(_features(a, flips), _features(b, flips))
    first, second = _optimal(f, g) if a.width * b.width <= _EXACT_PAIRS else _sparse(f, g, tolerance)
    found = _measured(f, g, first, second)
    near = found.distance <= tolerance
    return Assignment(found.first[near], found.second[near], found.sign[near], found.distance[near])


def given(a: Network, b: Network, pairs: ArrayLike) -> Assignment:
    """The assignment of known ``pairs`` (k, 2).  Raises :class:`~sparsemf.exceptions.InputError` for bad indices."""
    table = np.asarray(pairs, dtype=np.int64)
    if table.size and (table.ndim != 2 or table.shape[1] != 2):
        raise InputError(f"pairs: expected shape (k, 2), got {table.shape}")
    table = table.reshape(-1, 2)
    first, second = table[:, 0], table[:, 1]
    for name, indices, width in (("a", first, a.width), ("b", second, b.width)):
        if indices.size and (indices.min() < 0 or indices.max() >= width or np.unique(indices).size < indices.size):
            raise InputError(f"pairs: expected distinct indices of {name} from 0 to {width - 1}, got others")
    return _measured(*_scaled(_features(a), _features(b)), first, second)


def points_of(network: Network) -> Array:
    """What the activation is applied to: (w, b), or the gate of a gated neuron; shape (N, d + 1)."""
    if network.gate is not None and network.gate_bias is not None:
        return np.concatenate([network.gate, network.gate_bias[:, None]], axis=1)
    return values_of(network)


def values_of(network: Network) -> Array:
    """(w, b), the value of a gated neuron; shape (N, d + 1)."""
    return np.concatenate([network.inner, network.bias[:, None]], axis=1)


def _features(network: Network, flips: bool = True) -> _Features:
    relation = network.activation.relation if flips else None
    points, kappa, values = points_of(network), network.alpha, None
    if network.gated:
        # (α, v) ~ (α/t, tv): α ⊗ v is what does not change, seen by a few random functionals
        raw, rng = values_of(network), np.random.default_rng(20260602)
        left, right = (rng.standard_normal((size, _PROJECTION)) for size in (network.m, network.d + 1))
        kappa = (kappa @ left) * (raw @ right)
        values = raw / _positive(np.linalg.norm(raw, axis=1))[:, None]
    if network.activation.homogeneous is not None:
        length = np.linalg.norm(points, axis=1)
        points = points / _positive(length)[:, None]
        kappa = kappa * length[:, None] ** network.activation.homogeneous
    elif network.activation.name == "exp":
        kappa = kappa * np.exp(np.clip(points[:, -1:], -FARTHEST_SHIFT, FARTHEST_SHIFT))
        points = points[:, :-1]
    return _Features(points, kappa, 0 if relation is None else relation.sign, values)


def _positive(length: Array) -> Array:
    return np.where(length > 0, length, 1.0)


def _scaled(f: _Features, g: _Features) -> tuple[_Features, _Features]:
    """Both in common units: root mean square length 1 for points, less for coefficients, which only break ties."""

    def unit(first: Array, second: Array) -> float:
        largest = max(float(np.max(np.abs(first), initial=0.0)), float(np.max(np.abs(second), initial=0.0)))
        if largest == 0:
            return 1.0
        both = np.concatenate([np.sum((x / largest) ** 2, axis=1) for x in (first, second)])
        # the median is deaf to a few huge neurons
        return largest * float(np.sqrt(np.median(both) or np.mean(both) or 1.0))

    points, kappa = unit(f.points, g.points), unit(f.kappa, g.kappa) / _COEFFICIENT_WEIGHT
    one, other = (replace(x, points=x.points / points, kappa=x.kappa / kappa) for x in (f, g))
    return one, other


def _measured(f: _Features, g: _Features, first: Integers, second: Integers) -> Assignment:
    """Signs and distances of the pairs (f's first[k], g's second[k])."""
    u, v = f.take(first), g.take(second)
    gap = np.linalg.norm(u.points - v.points, axis=1)
    size = np.maximum(np.linalg.norm(u.points, axis=1), np.linalg.norm(v.points, axis=1))
    sign = np.ones(first.size, dtype=np.int64)
    if f.parity:
        other = np.linalg.norm(u.points + v.points, axis=1)
        even = np.abs(other - gap) <= _EVEN * size  # neither side is nearer: the coefficients decide
        kappa = [np.linalg.norm(u.kappa - side * v.kappa, axis=1) for side in (1, f.parity)]
        flipped = np.where(even, kappa[1] < kappa[0], other < gap)
        sign[flipped] = -1
        gap = np.where(flipped, other, gap)
    distance = gap / _positive(size)
    if u.values is not None and v.values is not None:
        lines = (np.linalg.norm(u.values - side * v.values, axis=1) for side in (1.0, -1.0))
        distance = np.maximum(distance, np.minimum(*lines))
    return Assignment(first, second, sign, distance)


def _costs(f: _Features, g: _Features) -> Array:
    """Squared distances up to a flip, all pairs; by expansion, good to half the digits, which is enough to choose."""

    def squares(x: Array, y: Array, side: int) -> Array:
        return np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1)[None] - 2.0 * side * (x @ y.T)

    cost = squares(f.points, g.points, 1) + squares(f.kappa, g.kappa, 1)
    if f.parity:
        cost = np.minimum(cost, squares(f.points, g.points, -1) + squares(f.kappa, g.kappa, f.parity))
    return np.maximum(cost, 0.0)


def _optimal(f: _Features, g: _Features) -> tuple[Integers, Integers]:
    # square roots: one neuron that has no partner must not push the others into a worse assignment
    rows, columns = linear_sum_assignment(np.sqrt(_costs(f, g)))
    return rows.astype(np.int64), columns.astype(np.int64)


def _sparse(f: _Features, g: _Features, tolerance: float) -> tuple[Integers, Integers]:
    """Rounds of near neighbours among the neurons still free: many copies of one atom need several."""
    free_f, free_g = np.arange(f.points.shape[0]), np.arange(g.points.shape[0])
    firsts, seconds = [], []
    for _ in range(_ROUNDS):
        if not free_f.size or not free_g.size:
            break
        first, second = _round(f.take(free_f), g.take(free_g), tolerance)
        if not first.size:
            break
        firsts.append(free_f[first])
        seconds.append(free_g[second])
        free_f, free_g = np.delete(free_f, first), np.delete(free_g, second)
    none = np.zeros(0, dtype=np.int64)
    return np.concatenate([none, *firsts]), np.concatenate([none, *seconds])


def _round(f: _Features, g: _Features, tolerance: float) -> tuple[Integers, Integers]:
    i, j, cost = _edges(f, g, tolerance)
    if not i.size:
        return i, j
    n, total = f.points.shape[0], f.points.shape[0] + g.points.shape[0]
    graph = coo_array((np.ones(i.size), (i, n + j)), shape=(total, total))
    _, label = connected_components(graph, directed=False)
    order = np.argsort(label[i], kind="stable")
    starts = np.flatnonzero(np.diff(label[i][order], prepend=-1))
    firsts, seconds = [], []
    for edges in np.split(order, starts[1:]):
        if edges.size == 1:
            rows, columns = i[edges], j[edges]
        else:
            rows, at = np.unique(i[edges], return_inverse=True)
            columns, where = np.unique(j[edges], return_inverse=True)
            if max(rows.size, columns.size) <= _LARGEST_COMPONENT:
                # a pair that is no edge costs more than any set of edges, so that as many as possible are taken
                matrix = np.full((rows.size, columns.size), 1.0 + 2.0 * float(cost[edges].sum()))
                np.minimum.at(matrix, (at, where), cost[edges])
                chosen = linear_sum_assignment(matrix)
                real = matrix[chosen] <= float(cost[edges].max())
                rows, columns = rows[chosen[0][real]], columns[chosen[1][real]]
            else:
                rows, columns = _greedy(i[edges], j[edges], cost[edges])
        firsts.append(rows)
        seconds.append(columns)
    return np.concatenate(firsts), np.concatenate(seconds)


def _greedy(i: Integers, j: Integers, cost: Array) -> tuple[Integers, Integers]:
    """Shortest edge first."""
    taken_i: dict[int, int] = {}
    taken_j: set[int] = set()
    for edge in np.argsort(cost, kind="stable"):
        one, other = int(i[edge]), int(j[edge])
        if one not in taken_i and other not in taken_j:
            taken_i[one] = other
            taken_j.add(other)
    return np.array(list(taken_i), dtype=np.int64), np.array(list(taken_i.values()), dtype=np.int64)


def _edges(f: _Features, g: _Features, tolerance: float) -> tuple[Integers, Integers, Array]:
    """Pairs within the tolerance among near neighbours in a random projection, and their distances."""
    rng = np.random.default_rng(20260601)
    points = rng.standard_normal((f.points.shape[1], min(_PROJECTION, f.points.shape[1])))
    kappa = rng.standard_normal((f.kappa.shape[1], min(_PROJECTION, f.kappa.shape[1])))
    tree = KDTree(np.concatenate([f.points @ points, f.kappa @ kappa], axis=1))
    near, side = [], []
    count = min(_NEIGHBOURS, f.points.shape[0])
    for sign, parity in ((1, 1), (-1, f.parity)) if f.parity else ((1, 1),):
        shadow = np.concatenate([sign * (g.points @ points), parity * (g.kappa @ kappa)], axis=1)
        near.append(np.asarray(tree.query(shadow, k=count, workers=-1)[1], dtype=np.int64).reshape(-1, count))
        side.append(np.full(near[-1].shape, sign))
    i = np.concatenate(near, axis=1).ravel()
    j = np.repeat(np.arange(g.points.shape[0]), count * len(near))
    sign, parity = np.concatenate(side, axis=1).ravel(), np.ones(i.size)
    parity[sign < 0] = f.parity
    gap, total = np.empty(i.size), np.empty(i.size)
    for start in range(0, i.size, 4096):
        rows = slice(start, start + 4096)
        gap[rows] = np.linalg.norm(f.points[i[rows]] - sign[rows, None] * g.points[j[rows]], axis=1)
        kappa_gap = np.linalg.norm(f.kappa[i[rows]] - parity[rows, None] * g.kappa[j[rows]], axis=1)
        total[rows] = np.hypot(gap[rows], kappa_gap)
    size = np.maximum(np.linalg.norm(f.points, axis=1)[i], np.linalg.norm(g.points, axis=1)[j])
    kept = gap <= tolerance * size
    return i[kept], j[kept], total[kept]
