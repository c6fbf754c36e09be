"""S* of hardtanh, hard_sigmoid and relu6 networks at ε = 0, modulo constants, in exact arithmetic.

σ(z) = β + s·(relu(z − l) − relu(z − h)), so on a class of parallel atoms, w = t·u, an atom (α, w, b) is, up to an
affine function, a relu kink of mass +sα|t| at (l − b)/t and one of mass −sα|t| at (h − b)/t: an *edge*.

*Claim.*  With an affine part free, S* = Σ over the classes of K − B, where K is the number of kinks with nonzero net
mass and B the largest number of disjoint blocks of masses that add up to 0.

*Proof.*  Distinct hyperplanes do not meet in an open set, so f determines the net mass of every kink, and f − g is
affine exactly when all net masses agree.  Let g have S atoms on one class.  They are the edges of a graph on the
positions; a component with v positions has at least v − 1 edges, and its masses add up to 0.  Components that hold
one of the K kinks cut these into zero-sum blocks, so S ≥ K − B.  Conversely a block of k kinks is a path of k − 1
edges, and each edge (p, q) with mass κ is an atom of slope (h − l)/(q − p).  ∎  (The blocks' search is NP-hard.)

Masses κ and −κ may be paired first: exchanging them between blocks, or splitting their common block, loses none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.exact_groups import Groups, lines
from sparsemf.certificates.exact_numbers import PRIMES, integers, rank_mod
from sparsemf.certificates.exact_ramps_program import improved
from sparsemf.certificates.exact_subsets import most_blocks
from sparsemf.measures import Network
from sparsemf.symmetry.kinks import Ramp

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Mass = tuple[int, ...]

_MOST_NUMBERS = 4_000_000


@dataclass(frozen=True)
class RampCount:
    """``lower`` ≤ S* ≤ ``upper`` over all ``classes``; ``kinks`` of nonzero mass, ``blocks`` found."""

    lower: int
    upper: int
    kinks: int
    blocks: int
    classes: int


def ramp_count(network: Network) -> RampCount:
    """S* of the active atoms (α ≠ 0 and w ≠ 0) of a network of ramps."""
    ramp = Ramp.of(network.activation)
    rows = np.flatnonzero(network.outer.any(axis=1) & network.inner.any(axis=1))
    groups = lines(network.inner[rows])
    lower = upper = kinks = blocks = 0
    for members in groups.members:
        if members.size == 1:
            own = (1, 1, 2, 1)
        else:
            own = _class(groups, members, network.outer[rows[members]], network.bias[rows[members]], ramp)
        lower, upper, kinks, blocks = lower + own[0], upper + own[1], kinks + own[2], blocks + own[3]
    return RampCount(lower, upper, kinks, blocks, len(groups))


def _class(groups: Groups, members: Integers, outer: Array, bias: Array, ramp: Ramp) -> tuple[int, int, int, int]:
    """(lower, upper, kinks, blocks) of one class of parallel atoms."""
    if outer.size > _MOST_NUMBERS:
        return 0, members.size, 2 * members.size, members.size
    masses = list(kink_masses(groups.pivot[members], outer, bias, ramp).values())
    kinks = len(masses)
    if not kinks:
        return 0, 0, 0, 0
    pairs, rest = _paired(masses)
    most, least = _rest_blocks(rest)
    if least < most:
        # what the atoms themselves connect bounds S* too
        return kinks - pairs - most, min(kinks - pairs - least, members.size), kinks, pairs + least
    return kinks - pairs - most, kinks - pairs - least, kinks, pairs + least


def kink_masses(pivot: Array, outer: Array, bias: Array, ramp: Ramp) -> dict[tuple[int, int], Mass]:
    """Net masses, nonzero ones only, by position (a reduced fraction); both up to common factors."""
    slopes, _ = integers(pivot)
    shifts, _ = integers(np.concatenate([bias, [ramp.low, ramp.high]]))
    heights, _ = integers(outer)
    low, high = int(shifts[-2]), int(shifts[-1])
    net: dict[tuple[int, int], list[int]] = {}
    for slope, shift, height in zip(slopes, shifts[:-2], heights, strict=True):
        weight = [abs(int(slope)) * int(h) for h in height]
        for end, sign in ((low, 1), (high, -1)):
            place = _fraction(end - int(shift), int(slope))
            own = net.setdefault(place, [0] * len(weight))
            for k, w in enumerate(weight):
                own[k] += sign * w
    return {place: tuple(mass) for place, mass in net.items() if any(mass)}


def _fraction(numerator: int, denominator: int) -> tuple[int, int]:
    common = gcd(numerator, denominator) * (-1 if denominator < 0 else 1)
    return numerator // common, denominator // common


def _paired(masses: list[Mass]) -> tuple[int, list[Mass]]:
    """The largest number of pairs of opposite masses, and the masses left."""
    count, pairs, rest = Counter(masses), 0, []
    for mass, number in count.items():
        opposite = count.get(tuple(-v for v in mass), 0)
        pairs += min(number, opposite)
        rest += [mass] * max(number - opposite, 0)
    return pairs // 2, rest


def _rest_blocks(rest: list[Mass]) -> tuple[int, int]:
    """(upper, lower) bound of the most zero-sum blocks of masses of which no two are opposite: they hold 3 or more."""
    if not rest:
        return 0, 0
    if len(rest) < 6 or _independent(rest):
        return 1, 1
    blocks, decided = most_blocks(rest)
    if decided:
        return len(blocks), len(blocks)
    return len(rest) // 3, improved(rest)


def _independent(rest: list[Mass]) -> bool:
    """Whether Σ = 0 is the only linear relation, so that the only blocks are none and all."""
    p = PRIMES[0]
    return rank_mod(np.array([[v % p for v in mass] for mass in rest], dtype=np.int64), p) == len(rest) - 1
