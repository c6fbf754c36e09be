"""Claims about the matching: ``matched`` pairs of atoms of A and B, one to one, each within ``max_distance``.

The canonical atoms of a network are its core neurons on the section: those within :data:`MERGE_ULPS` units in the last
place of their leader merged (up to the flip), and what cancels dropped.  A neuron counts once where it is several cores
at one point: elu with relu of one and the same activation, sin with cos.  The evidence names, for each network, the
merged neurons with leader and sign and the leaders whose masses cancel, and the pairs.  Checked are

- the merging: members near their leader, and no two leaders so near - so that the number of atoms is what is claimed;
- what cancels and what does not, up to a factor of 4 about the threshold;
- the pairs: one to one, of one core, within :data:`RADIUS` of the larger length, and the largest distance.

That no larger matching exists is not claimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.catalogue import image
from sparsemf.certificates.checker.document import Refused, integers, number, whole
from sparsemf.certificates.checker.expansion import Expanded, expanded
from sparsemf.certificates.checker.measure import Family, gates, on_section, split
from sparsemf.certificates.checker.raw import Raw

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

MERGE_ULPS = 64
RADIUS = 1e-2
_ULP = 2.0**-52
_BAND = 4.0
_FLOAT = Arithmetic(0)
_UNIT = _FLOAT.unit


@dataclass(frozen=True, eq=False)
class _Atoms:
    """One network's atoms of one kind: the ``family`` of its neurons and the places ``heads`` of those that lead."""

    family: Family
    parity: Array
    heads: Integers


@dataclass(frozen=True)
class Matched:
    """What the evidence amounts to: pairs, atoms of A and of B in all, upper bound of the largest distance.

    ``published`` is that bound widened by what other machines may round.
    """

    matched: int
    atoms_a: int
    atoms_b: int
    max_distance: float
    published: float


def prove(a: Raw, b: Raw, evidence: Mapping[str, Any]) -> Matched:
    """The numbers that the evidence proves; raises :class:`Refused` for evidence that does not fit."""
    with _FLOAT.precision(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        try:
            left, right = (_atoms(f, a.activation == b.activation, evidence[name]) for f, name in ((a, "a"), (b, "b")))
        except Undefined as error:
            raise Refused(str(error)) from None
        first, second = (integers(evidence["pairs"][name], "the pairs") for name in "ab")
        if first.shape != second.shape:
            raise Refused("the pairs do not fit together")
        largest, published, seen = 0.0, 0.0, 0
        for kind in left.keys() & right.keys():
            i, at = _places(left[kind], first)
            j, too = _places(right[kind], second)
            if not np.array_equal(at, too):
                raise Refused("a pair of atoms of different cores")
            seen += i.size
            if np.unique(i).size != i.size or np.unique(j).size != j.size:
                raise Refused("an atom is matched twice")
            distance, wide = _distance(left[kind].family, i, right[kind].family, j)
            largest, published = max(largest, distance), max(published, wide)
        if seen != first.size:
            raise Refused("a pair names a neuron that is no atom")
    atoms_a, atoms_b = (sum(atoms.heads.size for atoms in side.values()) for side in (left, right))
    return Matched(first.size, atoms_a, atoms_b, max_distance=largest, published=published)


def _places(atoms: _Atoms, rows: Integers) -> tuple[Integers, Integers]:
    """Which of the named neurons are atoms here: their places in the family, and in the list of names."""
    order = np.argsort(atoms.family.rows[atoms.heads], kind="stable")
    names = atoms.family.rows[atoms.heads][order]
    found = np.minimum(np.searchsorted(names, rows), max(names.size - 1, 0))
    at = np.flatnonzero(names[found] == rows) if names.size else np.zeros(0, dtype=np.int64)
    return atoms.heads[order[found[at]]], at


def _distance(a: Family, i: Integers, b: Family, j: Integers) -> tuple[float, float]:
    """Upper bound of the largest distance of the pairs, each within the radius; and that bound widened."""
    columns, largest, published = a.points.shape[1], 0.0, 0.0
    step = max(1, (1 << 22) // columns)
    for s in range(0, i.size, step):
        p, q = i[s : s + step], j[s : s + step]
        gap = _FLOAT.norms(a.points[p] - b.points[q])
        if a.parity:
            gap = np.minimum(gap, _FLOAT.norms(a.points[p] + b.points[q]))
        size = np.maximum(_FLOAT.norms(a.points[p]), _FLOAT.norms(b.points[q]))
        if not np.all(gap <= RADIUS * size * (1 + 1e-9)):
            raise Refused("a pair lies farther apart than matched atoms may")
        moved = a.moved[p] + b.moved[q]
        largest = max(largest, float(np.max(gap + moved, initial=0.0)) * (1 + _ULP))
        published = max(published, float(np.max(gap + 3 * moved, initial=0.0)) * (1 + (columns + 16) * 16 * _UNIT))
    return largest, published


def _atoms(f: Raw, alike: bool, evidence: Mapping[str, Any]) -> dict[str, _Atoms]:
    """The atoms of one network by kind; ``alike``: both networks have one activation."""
    if f.gate is not None:
        empty = replace(f, outer=f.outer[:0], w=f.w[:0], b=f.b[:0], gate=f.gate[:0], gate_bias=f.b[:0])
        h, value = gates(f, empty)
        live_value = np.asarray(value.any(axis=1), dtype=bool)
    else:
        h, value = expanded(_FLOAT, (f, 1.0), constants=False), None
        live_value = np.ones(h.core.size, dtype=bool)
    found: dict[str, tuple[Family, Array]] = {}
    cores = {term.core for term in image(f.activation).terms}
    for core, live, _ in split(h):
        live = live[live_value[live]]
        if core.name.startswith("power") or not live.size or (alike and core.name == "relu" and "elu" in cores):
            continue
        family = on_section(core, h, live, None if value is None else value[live])
        parity = np.full(h.alpha.shape[1], float(family.parity))
        if core.name in ("sin", "cos"):
            family, parity = _wave(family)
            if "waves" in found:
                family = _joined(found["waves"][0], family)
        found["waves" if core.name in ("sin", "cos") else core.name] = family, parity
    lists = [integers(evidence[name], "the merging") for name in ("rows", "leaders", "signs", "cancelled")]
    return {kind: _Atoms(family, parity, _heads(family, parity, h, *lists)) for kind, (family, parity) in found.items()}


def _wave(family: Family) -> tuple[Family, Array]:
    """Masses (of sin, of cos), the first of which turn with the flip."""
    m = family.alpha.shape[1]
    wide = np.zeros((family.rows.size, 2 * m))
    wide[:, slice(0, m) if family.core.name == "sin" else slice(m, 2 * m)] = family.alpha
    return replace(family, alpha=wide), np.repeat([-1.0, 1.0], m)


def _joined(first: Family, second: Family) -> Family:
    arrays = ("rows", "points", "alpha", "moved", "lost", "weight", *(() if first.value is None else ("value",)))
    return replace(first, **{x: np.concatenate([getattr(first, x), getattr(second, x)]) for x in arrays})


def _heads(
    family: Family, parity: Array, h: Expanded, rows: Integers, leaders: Integers, signs: Integers, cancelled: Integers
) -> Integers:
    """The places of the atoms' leaders in the family."""
    size = h.core.size
    place = np.full(size, -1, dtype=np.int64)
    place[family.rows] = np.arange(family.rows.size)
    if not rows.shape == leaders.shape == signs.shape or not np.all(np.abs(signs) == 1):
        raise Refused("the merging does not fit together")
    named = np.concatenate([rows, leaders, cancelled])
    if named.size and not (named.min() >= 0 and named.max() < size):
        raise Refused("the merging speaks of neurons that there are not")
    own = place[rows] >= 0
    i, j, sign = place[rows[own]], place[leaders[own]], signs[own]
    lead, flip = np.arange(family.rows.size), np.ones(family.rows.size, dtype=np.int64)
    lead[i], flip[i] = j, sign
    if np.any(j < 0) or np.any(i == j) or not np.array_equal(lead[j], j) or (not family.parity and np.any(sign < 0)):
        raise Refused("neurons are merged that do not belong together")
    length = _FLOAT.norms(family.points)
    step = max(1, (1 << 22) // family.points.shape[1])
    for s in range(0, i.size, step):
        p, q = i[s : s + step], j[s : s + step]
        gap = _FLOAT.norms(family.points[p] - sign[s : s + step, None] * family.points[q])
        if not np.all(gap <= _BAND * MERGE_ULPS * _ULP * np.minimum(length[p], length[q])):
            raise Refused("neurons are merged that are not equal")
    heads = np.flatnonzero(lead == np.arange(lead.size))
    _apart(family.points[heads], length[heads], bool(family.parity))
    gone = place[cancelled]
    gone = gone[gone >= 0]
    _balance(family, parity, lead, flip, gone)
    return np.setdiff1d(heads, gone, assume_unique=True)


def _balance(family: Family, parity: Array, lead: Integers, flip: Integers, gone: Integers) -> None:
    """Exactly the groups of ``gone`` cancel; a neuron alone does not."""
    order = np.argsort(lead, kind="stable")
    starts = np.flatnonzero(np.diff(lead[order], prepend=-1))
    cancels = np.zeros(lead.size, dtype=bool)
    cancels[gone] = True
    found = 0
    for members in np.split(order, starts[1:]):
        if members.size < 2:
            continue
        turn = np.where(flip[members, None] < 0, parity, 1.0)
        alpha = turn * family.alpha[members]
        total = alpha.sum(axis=0) if family.value is None else alpha.T @ family.value[members]
        share = _FLOAT.norm(total) / (MERGE_ULPS * _ULP * max(float(np.sum(family.weight[members])), 1e-300))
        dead = bool(cancels[lead[members[0]]])
        found += dead
        if not (share <= _BAND if dead else share >= 1 / _BAND):
            raise Refused("what is said to cancel is not what cancels")
    if found != gone.size or np.unique(gone).size != gone.size:
        raise Refused("what is said to cancel is no group of neurons")


def _apart(points: Array, length: Array, flips: bool) -> None:
    """No two points are equal up to rounding; near ones are near along any direction, so that few are compared."""
    n, columns = points.shape
    direction = np.random.default_rng(7).standard_normal(columns)
    key = points @ (direction / np.linalg.norm(direction))
    key = np.abs(key) if flips else key
    order = np.argsort(key, kind="stable")
    points, length, key = points[order], length[order], key[order]
    near = MERGE_ULPS * _ULP / _BAND
    slack = (near + 2 * (columns + 8) * _UNIT) * length
    at = np.arange(n)
    for offset in range(1, n):
        at = at[at + offset < n]
        i, j = at, at + offset
        # points so near have lengths so near; keys are sorted, so that no later one comes back into reach
        at = at[key[j] - key[i] <= 3 * slack[i]]
        if not at.size:
            return
        i, j = at, at + offset
        gap = _FLOAT.norms(points[i] - points[j])
        if flips:
            gap = np.minimum(gap, _FLOAT.norms(points[i] + points[j]))
        if np.any(gap <= near * np.minimum(length[i], length[j])):
            raise Refused("two atoms are one and the same")


def check(entry: Mapping[str, Any], evidence: Mapping[str, Any] | None, a: Raw, b: Raw) -> None:
    """Raises :class:`Refused` where the numbers of ``matching`` do not follow; an *estimate* claims nothing."""
    counts = [whole(entry[name], "a number of atoms", 0, 2**53) for name in ("matched", "unmatched_a", "unmatched_b")]
    distance = number(entry["max_distance"], "the largest distance")
    if entry["kind"] not in ("certificate", "estimate") or (evidence is None) != (entry["kind"] == "estimate"):
        raise Refused(f"a matching of the kind {entry['kind']!r} with{'out' if evidence is None else ''} evidence")
    if evidence is None:
        return
    found = prove(a, b, evidence)
    if counts != [found.matched, found.atoms_a - found.matched, found.atoms_b - found.matched]:
        raise Refused(f"claimed {counts} matched and unmatched atoms, found {found}")
    if not found.max_distance <= distance:
        raise Refused(f"matched atoms are claimed within {distance:.6g}, proved {found.max_distance:.6g}")
