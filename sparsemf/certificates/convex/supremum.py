"""A supremum over a continuous parameter set: what was bounded, how, and what is only an estimate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tree:
    """A search as a tree: regions are numbered, the first ``roots`` of them cover Θ, and ``children`` holds the
    number of the first half of each region (the second half's is the next), −1 for a region that was not cut."""

    roots: int
    children: NDArray[np.int32]


class Record:
    """A :class:`Tree` while it grows."""

    def __init__(self, roots: int) -> None:
        self._roots = self._count = roots
        self._cuts: list[tuple[NDArray[np.int32], int]] = []

    def cut(self, regions: NDArray[np.int32]) -> NDArray[np.int32]:
        """The numbers of the halves of ``regions``: all first halves, then all second halves."""
        first = self._count + 2 * np.arange(regions.size, dtype=np.int32)
        self._cuts.append((regions, self._count))
        self._count += 2 * regions.size
        return np.concatenate([first, first + 1]).astype(np.int32)

    def tree(self) -> Tree:
        """All of it."""
        children = np.full(self._count, -1, dtype=np.int32)
        for regions, first in self._cuts:
            children[regions] = first + 2 * np.arange(regions.size, dtype=np.int32)
        return Tree(self._roots, children)


@dataclass(frozen=True, eq=False)
class Supremum:
    """sup ‖η‖ over Θ (or over Θ minus small balls).

    Attributes
    ----------
    lower:
        The largest value found, at ``argmax`` (D,); the *estimate* where ``upper`` is None.
    upper:
        A proven upper bound up to the stated arithmetic, or None where none was computed.
    how:
        One sentence: what was bounded, and how.
    regions:
        Boxes or cones examined.
    error:
        The allowance for rounding (and truncation) inside ``upper``.
    argmax:
        A point that attains ``lower``; None when no point was evaluated.
    tree:
        The regions of the search; None where there was none.
    """

    lower: float
    upper: float | None
    how: str
    regions: int
    error: float
    argmax: Array | None
    tree: Tree | None = None

    @property
    def certified(self) -> bool:
        """Whether ``upper`` is a bound."""
        return self.upper is not None
