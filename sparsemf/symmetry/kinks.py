"""hardtanh, hard_sigmoid, relu6: atoms telescope, so the quotient is the relu kink measure.

σ(z) = β + s·(relu(z − l) − relu(z − h)), so on a line x·u an atom is, but for constants, γ·(relu(t − p) − relu(t − q)):
an edge with mass +γ at the kink p and −γ at q.  What the function sees on a class of parallel atoms is the mass of
every kink, Σ = 0.  The least number of atoms that carry it is

    K − (largest number of disjoint zero-sum blocks of the K kinks),

as a block of k kinks is a path of k − 1 edges and fewer do not connect it.  Opposite masses can always be paired first
(exchanging them never loses a block); the kinks left are searched exhaustively up to 14, and beyond that taken as one
block, or as the blocks that the given atoms connect, whichever is better.  NP-hard in general (subset sum).

The canonical network has the paths in the order of the kinks; an edge that is one of the given atoms keeps its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.measures.gaussian import UNIT
from sparsemf.symmetry.canonical import MERGE_ULPS, Quotient, Remainder, built, direction_sign, functional
from sparsemf.symmetry.metric import flip_of, leaders

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

EXHAUSTIVE = 14
"""Kinks beyond the paired ones up to which the search for blocks is exhaustive."""


@dataclass(frozen=True)
class Ramp:
    """σ(z) = base + slope·(relu(z − low) − relu(z − high))."""

    low: float
    high: float
    slope: float
    base: float

    @staticmethod
    def of(activation: Activation) -> Ramp:
        """From the activation's image in relu.  Raises :class:`InputError` when that is no ramp."""
        image = activation.image
        if activation.kind != "kinks" or image is None or len(image.terms) != 2:
            raise InputError(f"activation: expected hardtanh, hard_sigmoid or relu6, got {activation.name}")
        first, second = image.terms
        return Ramp(-first.shift, -second.shift, first.coefficient, image.polynomial[0])


@dataclass(frozen=True)
class KinkCount:
    """``lower`` ≤ least number of atoms modulo constants ≤ ``upper``, equal when decided; ``kinks`` K and ``classes``
    of parallel atoms in all."""

    lower: int
    upper: int
    kinks: int
    classes: int


@dataclass(frozen=True, eq=False)
class Kinks:
    """One class of parallel atoms as kinks: x·``direction``, ``position`` (K,) ascending, ``mass`` (K, m), their
    ``noise`` (K,), and the atoms ``members`` as edges (``low``, ``high``) between kinks (−1: a kink that vanished),
    whose ramps go from ``start`` to ``end``."""

    direction: Array
    position: Array
    mass: Array
    noise: Array
    members: Integers
    low: Integers
    high: Integers
    start: Array
    end: Array
    error: float


def kink_edges(network: Network) -> KinkCount:
    """The least number of atoms of hardtanh, hard_sigmoid or relu6 modulo constants, decided up to 14 unpaired kinks
    per class.  Atoms must be merged (a canonical form is)."""
    classes = kink_classes(network, least=2)
    # an atom parallel to no other is one edge
    alone = network.width - sum(own.members.size for own in classes)
    lower, upper, kinks = alone, alone, 2 * alone
    for own in classes:
        found, exact = blocks(own)
        count = own.position.size
        kinks += count
        upper += count - len(found)
        if exact:
            lower += count - len(found)
        else:
            # blocks of two are opposite pairs, all others have three kinks at least
            pairs = len(_pairs(own.mass, own.noise))
            lower += count - (pairs + (count - 2 * pairs) // 3)
    return KinkCount(lower, upper, kinks, alone + len(classes))


def kink_classes(network: Network, least: int = 1) -> list[Kinks]:
    """The relu kink measure of a network (no w may be 0), by classes of ``least`` or more parallel atoms."""
    ramp = Ramp.of(network.activation)
    length = np.linalg.norm(network.inner, axis=1)
    unit = network.inner / length[:, None]
    lead, sign = leaders(unit, np.full(length.size, MERGE_ULPS * UNIT), flips=True)
    side = sign * direction_sign(unit)[lead]
    low = np.where(side > 0, ramp.low - network.bias, network.bias - ramp.high) / length
    high = np.where(side > 0, ramp.high - network.bias, network.bias - ramp.low) / length
    slope = (side * length * ramp.slope)[:, None] * network.alpha
    reach = np.abs(network.bias) + max(abs(ramp.low), abs(ramp.high))
    # an atom's own two kinks must never meet
    radius = np.minimum(MERGE_ULPS * UNIT * reach / length, (high - low) / 8)
    order = np.argsort(lead, kind="stable")
    cuts = np.flatnonzero(np.diff(lead[order])) + 1
    out = []
    for members in np.split(order, cuts) if order.size else []:
        if members.size < least:
            continue
        head = lead[members[0]]
        direction = direction_sign(unit[head][None])[0] * unit[head]
        turned = float(
            np.linalg.norm(slope[members], axis=1)
            @ np.linalg.norm(side[members, None] * unit[members] - direction, axis=1)
        )
        out.append(_class(direction, members, low[members], high[members], slope[members], radius[members], turned))
    return out


def _class(
    direction: Array, members: Integers, low: Array, high: Array, slope: Array, radius: Array, error: float
) -> Kinks:
    n = members.size
    place = np.concatenate([low, high])
    lead, _ = leaders(place[:, None], np.concatenate([radius, radius]), flips=False)
    heads, kink = np.unique(lead, return_inverse=True)
    weight = np.linalg.norm(slope, axis=1)
    error += float(np.concatenate([weight, weight]) @ np.abs(place - place[heads][kink]))
    mass, noise = np.zeros((heads.size, slope.shape[1])), np.zeros(heads.size)
    np.add.at(mass, kink, np.concatenate([slope, -slope]))
    np.add.at(noise, kink, MERGE_ULPS * UNIT * np.concatenate([weight, weight]))
    size = np.linalg.norm(mass, axis=1)
    kept = size > noise * (np.bincount(kink) > 1)
    # a kink left out is a relu of that small mass
    error += float(size[~kept] @ np.hypot(1.0, place[heads][~kept]))
    order = np.flatnonzero(kept)[np.argsort(place[heads][kept], kind="stable")]
    rank = np.full(heads.size, -1, dtype=np.int64)
    rank[order] = np.arange(order.size)
    return Kinks(
        direction=direction,
        position=place[heads][order],
        mass=mass[order],
        noise=noise[order],
        members=members,
        low=rank[kink[:n]],
        high=rank[kink[n:]],
        start=low,
        end=high,
        error=error,
    )


def blocks(kinks: Kinks) -> tuple[list[Integers], bool]:
    """Disjoint zero-sum blocks (ascending kinks) and whether no choice has more of them."""
    everything = np.arange(kinks.position.size)
    found, exact = _blocks(kinks, everything)
    if exact:
        return found, True
    # what the atoms connect sums to 0: never more edges than atoms
    connected = []
    for part in _components(kinks):
        connected += _blocks(kinks, part)[0]
    return (connected if len(connected) > len(found) else found), False


def _blocks(kinks: Kinks, part: Integers) -> tuple[list[Integers], bool]:
    if not part.size:
        return [], True
    pairs = [part[np.array(pair)] for pair in _pairs(kinks.mass[part], kinks.noise[part])]
    rest = np.setdiff1d(part, np.concatenate(pairs)) if pairs else part
    if not rest.size:
        return pairs, True
    if rest.size > EXHAUSTIVE:
        return [*pairs, rest], False
    return pairs + [rest[block] for block in _exhausted(kinks.mass[rest], kinks.noise[rest])], True


def _pairs(mass: Array, noise: Array) -> list[tuple[int, int]]:
    """A largest set of pairs of opposite masses, nested like brackets in the order of the kinks."""
    lead, sign = leaders(mass, 2 * noise, flips=True)
    open_: dict[int, list[int]] = {}
    out = []
    for k in range(mass.shape[0]):
        stack = open_.setdefault(int(lead[k]), [])
        if stack and sign[stack[-1]] != sign[k]:
            out.append((stack.pop(), k))
        else:
            stack.append(k)
    return out


def _exhausted(mass: Array, noise: Array) -> list[Integers]:
    """The most zero-sum blocks of a few kinks: over all orders of taking them, the most times the sum is 0."""
    count = mass.shape[0]
    total, slack = np.zeros((1, mass.shape[1])), np.zeros(1)
    for k in range(count):
        total, slack = np.concatenate([total, total + mass[k]]), np.concatenate([slack, slack + noise[k]])
    zero = np.linalg.norm(total, axis=1) <= slack
    zero[-1] = True
    subsets = np.arange(1 << count)
    best, last = np.zeros(1 << count, dtype=np.int64), np.full(1 << count, -1, dtype=np.int64)
    weight = np.array([bin(s).count("1") for s in subsets])
    for size in range(1, count + 1):
        level = subsets[weight == size]
        for k in range(count):
            own = level[(level >> k) & 1 == 1]
            value = best[own ^ (1 << k)] + zero[own]
            better = (value > best[own]) | (last[own] < 0)
            best[own[better]], last[own[better]] = value[better], k
    out, block, state = [], [], (1 << count) - 1
    while state:
        k = int(last[state])
        block.append(k)
        state ^= 1 << k
        if zero[state]:
            out.append(np.array(sorted(block), dtype=np.int64))
            block = []
    return out


def _components(kinks: Kinks) -> list[Integers]:
    """Kinks connected by atoms; a vanished kink connects what meets there, so its atoms are followed through it."""
    n = kinks.position.size
    parent = list(range(n))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    loose = (kinks.low < 0) | (kinks.high < 0)
    for p, q in zip(kinks.low[~loose], kinks.high[~loose], strict=True):
        parent[root(int(p))] = root(int(q))
    # the few atoms at vanished kinks are taken together
    ends = np.concatenate([kinks.low[loose], kinks.high[loose]])
    ends = ends[ends >= 0]
    for p in ends[1:]:
        parent[root(int(p))] = root(int(ends[0]))
    label = np.array([root(k) for k in range(n)])
    return [np.flatnonzero(label == k) for k in np.unique(label)]


@dataclass(frozen=True, eq=False)
class _Edges:
    """The atoms of one class: edges with coefficient ``slope``, and the given atom that each of them is (−1: none)."""

    low: Array
    high: Array
    slope: Array
    atom: Integers
    error: float
    exact: bool


def _edges(kinks: Kinks) -> _Edges:
    found, exact = blocks(kinks)
    given = {}
    for i, p, q in zip(kinks.members[::-1], kinks.low[::-1], kinks.high[::-1], strict=True):
        given[int(p), int(q)] = int(i)
    low, high, slope, atom, error = [], [], [], [], kinks.error
    for block in found:
        carried = np.cumsum(kinks.mass[block], axis=0)
        # what is left at the end of a block is rounding
        error += float(np.linalg.norm(carried[-1]) * np.hypot(1.0, kinks.position[block[-1]]))
        for step, (p, q) in enumerate(pairwise(block)):
            size, width = float(np.linalg.norm(carried[step])), float(kinks.position[q] - kinks.position[p])
            if size <= float(kinks.noise[block[: step + 1]].sum()):
                error += size * width
                continue
            low.append(kinks.position[p])
            high.append(kinks.position[q])
            slope.append(carried[step])
            atom.append(given.get((int(p), int(q)), -1))
    return _Edges(
        np.array(low), np.array(high), np.array(slope).reshape(len(low), kinks.mass.shape[1]),
        np.array(atom, dtype=np.int64), error, exact,
    )  # fmt: skip


def telescoped(merged: Quotient) -> Quotient:
    """The canonical form from the merged atoms; the same object when nothing telescopes."""
    network = merged.network
    ramp = Ramp.of(network.activation)
    classes = kink_classes(network, least=2)
    exact, error = True, 0.0
    keep = np.ones(network.width, dtype=bool)
    outer, inner, bias, carrier = [], [], [], []
    nearest = np.full(network.width, -1, dtype=np.int64)
    remainder = Remainder(network)
    for own in classes:
        found = _edges(own)
        exact &= found.exact
        if found.atom.size == own.members.size and set(found.atom.tolist()) == set(own.members.tolist()):
            # the given atoms themselves; what merging their kinks would have moved is not moved
            continue
        error += found.error
        keep[own.members] = False
        nearest[own.members] = _overlapping(own, found, len(outer))
        free = [int(i) for i in own.members if i not in set(found.atom.tolist())]
        base = network.alpha[own.members].sum(axis=0)
        for low, high, slope, atom in zip(found.low, found.high, found.slope, found.atom, strict=True):
            if atom >= 0:
                w, b = _oriented(network, own.direction, int(atom))
            else:
                rate = (ramp.high - ramp.low) / (high - low)
                w, b = rate * own.direction, ramp.low - rate * low
            coefficient = slope / (float(np.linalg.norm(w)) * ramp.slope)
            outer.append(coefficient)
            inner.append(w)
            bias.append(b)
            carrier.append(int(atom) if atom >= 0 else free.pop(0) if free else -1)
            base = base - coefficient
        # an atom turned to the class's side costs a constant, and so does the base of σ
        turned = own.members[network.inner[own.members] @ own.direction < 0]
        remainder.offset += ramp.base * base
        flip = flip_of(network.activation)
        if turned.size and flip is not None:
            remainder.offset += flip.constant * network.alpha[turned].sum(axis=0) - 2 * ramp.base * network.alpha[
                turned
            ].sum(axis=0)
    if keep.all():
        return replace(merged, unique=exact, merge_error=merged.merge_error + error)
    first = _first_carriers(merged)
    kept = np.flatnonzero(keep)
    outer = np.concatenate([network.alpha[kept], np.array(outer).reshape(-1, network.m)])
    inner = np.concatenate([network.inner[kept], np.array(inner).reshape(-1, network.d)])
    bias = np.concatenate([network.bias[kept], np.array(bias, dtype=np.float64)])
    owner = np.concatenate([kept, np.array(carrier, dtype=np.int64)])
    order = np.argsort(functional(np.concatenate([inner, bias[:, None]], axis=1)), kind="stable")
    place, position = np.argsort(order), np.full(network.width, -1, dtype=np.int64)
    position[kept] = place[: kept.size]
    spread = np.flatnonzero(nearest >= 0)
    position[spread] = place[kept.size + nearest[spread]]
    return replace(
        merged,
        network=built(network, outer[order], inner[order], bias[order], remainder),
        merged=merged.merged + network.width - order.size,
        merge_error=merged.merge_error + error,
        label=np.where(merged.label >= 0, position[merged.label] if network.width else -1, -1),
        carrier=np.where(owner >= 0, first[owner], -1)[order],
        unique=exact,
    )


def _overlapping(kinks: Kinks, edges: _Edges, first: int) -> Integers:
    """The edge (counted from ``first``) that shares most of each given atom's ramp; −1 where there is no edge."""
    if not edges.low.size:
        return np.full(kinks.members.size, -1, dtype=np.int64)
    shared = np.minimum(kinks.end[:, None], edges.high) - np.maximum(kinks.start[:, None], edges.low)
    return first + np.argmax(shared, axis=1)


def _oriented(network: Network, direction: Array, atom: int) -> tuple[Array, float]:
    """An atom's (w, b), flipped where it looks against the class's direction."""
    flip = flip_of(network.activation)
    w, b = network.inner[atom], float(network.bias[atom])
    if flip is not None and float(w @ direction) < 0:
        return -w, 2 * flip.centre - b
    return w, b


def _first_carriers(merged: Quotient) -> Integers:
    """The first source neuron of every merged atom."""
    first = np.zeros(merged.network.width, dtype=np.int64)
    rows = np.flatnonzero(merged.label >= 0)[::-1]
    first[merged.label[rows]] = rows
    return first
