"""Subsets of integer vectors with a given sum: all of them, or the answer "too many to list".

Vectors are mapped to numbers mod the prime 2⁶¹ − 1 by a random linear functional.  Equal sums have equal images, so no
subset is missed; what the map lets through by accident is thrown out by adding up integers.  Up to 20 vectors all 2ⁿ
subsets are formed; up to 40 the two halves meet in the middle (Horowitz & Sahni 1974).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PRIME = (1 << 61) - 1
DIRECT = 20
LARGEST = 40
MOST_FOUND = 20_000
ORDERED = 18
MOST_PARTS = 2000

Vector = Sequence[int]
Unsigned = NDArray[np.uint64]


def images(vectors: Sequence[Vector], seed: int = 0) -> list[int]:
    """Σ_k c_k·v_k mod 2⁶¹ − 1 for random c."""
    if not vectors:
        return []
    rng = np.random.default_rng(seed)
    factors = [int(c) for c in rng.integers(1, PRIME, len(vectors[0]))]
    return [sum(c * int(v) for c, v in zip(factors, vector, strict=True)) % PRIME for vector in vectors]


def subset_sums(numbers: Sequence[int]) -> Unsigned:
    """Σ_{k ∈ S} numbers_k mod 2⁶¹ − 1 for every bit mask S."""
    out = np.zeros(1, dtype=np.uint64)
    prime = np.uint64(PRIME)
    for number in numbers:
        more = out + np.uint64(number)
        out = np.concatenate([out, np.where(more >= prime, more - prime, more)])
    return out


def candidates(numbers: Sequence[int], goal: int, most: int = MOST_FOUND) -> tuple[list[int], bool]:
    """(subsets, complete): bit masks, ascending, whose residues mod 2⁶¹ − 1 add up to ``goal``; all, or only some.

    At most 40 numbers.
    """
    count, target = len(numbers), np.uint64(goal)
    if count <= DIRECT:
        masks = np.flatnonzero(subset_sums(numbers) == target)
        return [int(mask) for mask in masks[:most]], masks.size <= most
    half = count // 2
    low, high = subset_sums(numbers[:half]), subset_sums(numbers[half:])
    order = np.argsort(low, kind="stable")
    ranked, prime = low[order], np.uint64(PRIME)
    wanted = np.where(high <= target, target - high, target + (prime - high))
    begin, end = np.searchsorted(ranked, wanted, "left"), np.searchsorted(ranked, wanted, "right")
    hits, found = np.flatnonzero(end > begin), int(np.sum(end - begin))
    masks = []
    for h in hits:
        masks += [(int(h) << half) | int(order[k]) for k in range(int(begin[h]), int(end[h]))]
        if len(masks) >= most:
            break
    return sorted(masks[:most]), found <= most


def zero_sums(vectors: Sequence[Vector]) -> list[int] | None:
    """All subsets (bit masks) of integer vectors that add up to 0; None where they are too many to list."""
    if len(vectors) > LARGEST:
        return None
    masks, complete = candidates(images(vectors), 0)
    if not complete:
        return None
    return [mask for mask in masks if all(_sum(vectors, mask, k) == 0 for k in range(len(vectors[0])))]


def _sum(vectors: Sequence[Vector], mask: int, k: int) -> int:
    return sum(int(vector[k]) for i, vector in enumerate(vectors) if mask >> i & 1)


def most_blocks(vectors: Sequence[Vector]) -> tuple[list[list[int]], bool]:
    """(blocks, decided): the most disjoint zero-sum blocks that vectors of total sum 0 can be cut into.

    Up to 18 vectors, over all orders of taking them the most times that the sum is 0.  Beyond, every best cut consists
    of zero-sum subsets without zero-sum parts, and is found by choosing the one that holds the first vector left.
    """
    count = len(vectors)
    if count <= ORDERED:
        return _by_order(vectors), True
    found = zero_sums(vectors)
    if found is None or len(found) > MOST_PARTS:
        return [list(range(count))], False
    starting: dict[int, list[int]] = {}
    for part in _minimal([mask for mask in found if mask]):
        starting.setdefault(part & -part, []).append(part)
    best: dict[int, tuple[int, int]] = {0: (0, 0)}

    def cut(mask: int) -> int:
        """The most blocks in ``mask``, itself of sum 0; the choice is kept in ``best``."""
        if mask not in best:
            parts = [part for part in starting.get(mask & -mask, []) if part & mask == part]
            best[mask] = max(((1 + cut(mask ^ part), part) for part in parts), default=(1, mask))
        return best[mask][0]

    mask = (1 << count) - 1
    cut(mask)
    blocks = []
    while mask:
        part = best[mask][1]
        blocks.append([k for k in range(count) if part >> k & 1])
        mask ^= part
    return blocks, True


def _by_order(vectors: Sequence[Vector]) -> list[list[int]]:
    count = len(vectors)
    zero = np.zeros(1 << count, dtype=np.int64)
    for mask in np.flatnonzero(subset_sums(images(vectors)) == 0):
        zero[mask] = all(_sum(vectors, int(mask), k) == 0 for k in range(len(vectors[0]) if vectors else 0))
    subsets = np.arange(1 << count)
    size = np.array([int(mask).bit_count() for mask in subsets])
    best, last = np.zeros(1 << count, dtype=np.int64), np.full(1 << count, -1, dtype=np.int64)
    for level in range(1, count + 1):
        own = subsets[size == level]
        for k in range(count):
            with_k = own[(own >> k) & 1 == 1]
            value = best[with_k ^ (1 << k)] + zero[with_k]
            better = (value > best[with_k]) | (last[with_k] < 0)
            best[with_k[better]], last[with_k[better]] = value[better], k
    blocks, block, state = [], [], (1 << count) - 1
    while state:
        block.append(int(last[state]))
        state ^= 1 << block[-1]
        if zero[state] or not state:
            blocks.append(sorted(block))
            block = []
    return blocks


def _minimal(masks: Sequence[int]) -> list[int]:
    out: list[int] = []
    for mask in sorted(masks, key=int.bit_count):
        if not any(mask & part == part for part in out):
            out.append(mask)
    return out
