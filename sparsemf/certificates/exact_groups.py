"""Equal and proportional rows of a matrix of floats, decided exactly.

Candidates come from hashes that exact equality preserves: the row itself, or the row divided by its first nonzero entry
- a quotient of floats is rounded from the exact quotient, so proportional rows give the same bits.  What shares a
hash is then compared exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.exact_numbers import integers, proportional, vanishes

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Groups:
    """``members``: the rows of each class; ``pivot`` (n,): the first nonzero entry of every row (0 for a zero row).

    Row i is (pivot_i/pivot_j)·row j within a class.
    """

    members: list[Integers]
    pivot: Array

    @property
    def side(self) -> Integers:
        """The sign of every row's pivot."""
        return np.sign(self.pivot).astype(np.int64)

    def __len__(self) -> int:
        return len(self.members)


def equal_rows(points: Array, flips: bool) -> Groups:
    """Classes of equal rows; with ``flips``, of rows equal up to sign."""
    pivot = _pivots(points)
    keys = points * np.where(pivot < 0, -1.0, 1.0)[:, None] if flips else points
    # −0 becomes 0
    keys = keys + 0.0
    return Groups(_classes(keys, lambda i, j: bool(np.array_equal(keys[i], keys[j]))), pivot)


def lines(points: Array) -> Groups:
    """Classes of proportional rows; no row may be 0."""
    pivot = _pivots(points)
    with np.errstate(over="ignore", under="ignore"):
        keys = points / pivot[:, None] + 0.0
    return Groups(_classes(keys, lambda i, j: proportional(points[i], points[j])), pivot)


def _pivots(points: Array) -> Array:
    if not points.size:
        return np.zeros(points.shape[0])
    first = np.argmax(points != 0, axis=1)
    return points[np.arange(points.shape[0]), first]


def _classes(keys: Array, same: Callable[[int, int], bool]) -> list[Integers]:
    buckets: dict[int, list[list[int]]] = {}
    found: list[list[int]] = []
    for i, key in enumerate(keys):
        bucket = buckets.setdefault(hash(key.tobytes()), [])
        for members in bucket:
            if same(i, members[0]):
                members.append(i)
                break
        else:
            bucket.append([i])
            found.append(bucket[-1])
    return [np.array(members, dtype=np.int64) for members in found]


def weights(groups: Groups, members: Integers, degree: int, parity: int) -> list[int]:
    """sign^parity·|pivot|^degree of the members as integers, up to one common power of two."""
    whole, _ = integers(groups.pivot[members])
    return [(-1 if n < 0 and parity % 2 else 1) * abs(int(n)) ** degree for n in whole]


def heard(groups: Groups, outer: Array, degree: int, parity: int) -> list[Integers]:
    """The classes whose net coefficient Σ sign^parity·|pivot|^degree·outer is not 0."""
    out = []
    for members in groups.members:
        if members.size == 1:
            silent = not outer[members[0]].any()
        else:
            silent = vanishes(outer[members], weights(groups, members, degree, parity))
        if not silent:
            out.append(members)
    return out
