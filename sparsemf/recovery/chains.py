"""Nearest-neighbour chains: all merges of a hierarchy of clusters in O(n) looks at one row of costs each.

From any cluster go to its nearest one, and on, until two clusters are each other's nearest; merge these and go on from
what is left of the chain.  For Ward's cost, which is reducible (a merged cluster is not nearer to a third than the
nearer of its parts was), the merges are those of always taking the cheapest pair, in another order (F. Murtagh, "A
survey of recent advances in hierarchical clustering algorithms", Comput. J. 26 (1983)).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def nearest_chains(n: int, cost: Callable[[int], Array], merge: Callable[[int, int], None]) -> tuple[Integers, Array]:
    """Pairs (kept, absorbed), (n − 1, 2), and the costs of all merges of n clusters.

    ``cost(i)`` (n,): of merging i with each (what it says of i itself and of absorbed ones is not looked at, and
    overwritten); ``merge(i, j)`` puts j into i.
    """
    live = np.ones(n, dtype=bool)
    pairs, costs = np.empty((max(n - 1, 0), 2), dtype=np.int64), np.empty(max(n - 1, 0))
    chain: list[int] = []
    for step in range(n - 1):
        while True:
            if not chain:
                chain.append(int(np.argmax(live)))
            i = chain[-1]
            row = cost(i)
            row[~live] = np.inf
            row[i] = np.inf
            j = int(np.argmin(row))
            if len(chain) > 1 and row[chain[-2]] <= row[j]:
                j = chain[-2]
                break
            chain.append(j)
        del chain[-2:]
        pairs[step], costs[step] = (i, j), row[j]
        merge(i, j)
        live[j] = False
    return pairs, costs
