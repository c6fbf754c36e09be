"""More zero-sum blocks than one, for more masses than can be exhausted: a mixed-integer program, solved by HIGHS.

    maximise Σ_b y_b   subject to   Σ_b x_kb = 1,   Σ_k mass_k·x_kb = 0,   y_b ≤ Σ_k x_kb,   x, y ∈ {0, 1}.

Its solution only proposes blocks: those that add up to 0 in integers count, and the solver's bound is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any

import numpy as np

SECONDS = 5.0
_BLOCKS = 6
_LARGEST = 1 << 40
"""Masses of more digits than a solver's tolerance can tell apart are not tried."""


def improved(masses: Sequence[tuple[int, ...]]) -> int:
    """A number of disjoint zero-sum blocks that the masses can be cut into; at least 1."""
    common = gcd(*(v for mass in masses for v in mass))
    numbers = [[v // common for v in mass] for mass in masses]
    if sum(abs(v) for mass in numbers for v in mass) > _LARGEST:
        return 1
    owner = _solved(np.array(numbers, dtype=np.float64), min(_BLOCKS, len(masses) // 3))
    if owner is None:
        return 1
    blocks = 0
    for b in np.unique(owner):
        block = [numbers[k] for k in np.flatnonzero(owner == b)]
        if any(sum(column) for column in zip(*block, strict=True)):
            return 1
        blocks += 1
    return max(blocks, 1)


def _solved(mass: np.ndarray, blocks: int) -> np.ndarray | None:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array, eye_array, hstack, kron, vstack

    count, outputs = mass.shape
    scaled = mass / np.maximum(np.max(np.abs(mass), axis=0), 1.0)
    once = kron(eye_array(count), np.ones((1, blocks)))
    zero = vstack([kron(scaled[:, j][None], eye_array(blocks)) for j in range(outputs)])
    used = kron(np.ones((1, count)), eye_array(blocks))
    pad = coo_array((count + outputs * blocks, blocks))
    equal = hstack([vstack([once, zero]), pad]).tocsr()
    size = count * blocks + blocks
    right: Any = np.concatenate([np.ones(count), np.zeros(outputs * blocks)])
    solved = milp(
        np.concatenate([np.zeros(count * blocks), -np.ones(blocks)]),
        integrality=np.ones(size),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(equal, right, right),
            LinearConstraint(hstack([used, -eye_array(blocks)]).tocsr(), 0, np.inf),
        ],
        options={"time_limit": SECONDS},
    )
    return None if solved.x is None else np.argmax(solved.x[: count * blocks].reshape(count, blocks), axis=1)
