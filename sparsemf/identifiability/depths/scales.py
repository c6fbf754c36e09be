"""Other scales (r′, b′) of one atom with the same ratios of Hermite coefficients: candidates for a lower end of D_orb.

The line through (c_k(r, b))_{k ∈ K}, up to the sign (−1)^k of a turn, is all that Ψ_D says of one atom's scale.  With
as many equations |K| − 1 as unknowns, other points of the same line are isolated; they are found by Powell's hybrid
method from a grid of starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from sparsemf.identifiability.depths.family import Family

Array = NDArray[np.float64]

_STARTS = (0.25, 0.45, 0.7, 1.0, 1.4, 2.2)
_APART = 1e-3


@dataclass(frozen=True)
class Solution:
    """(r, b) and the turn s = ±1 of another solution."""

    r: float
    b: float
    turn: int


def _line(family: Family, r: float, b: float, degrees: Sequence[int], turn: int) -> Array:
    """The unit vector of (s^k c_k(r, b))_k."""
    c = family.activation.hermite(np.array([r]), np.array([b]), max(degrees))[0, list(degrees)]
    signs = np.array([1.0 if turn == 1 or k % 2 == 0 else -1.0 for k in degrees])
    return c * signs / max(float(np.linalg.norm(c)), 1e-300)


def other_scales(
    family: Family, r: float, b: float, degrees: Sequence[int], box: tuple[float, float, float]
) -> list[Solution]:
    """Other solutions with r′ in [box[0], box[1]], |b′| ≤ box[2]; turned copies of the atom itself are left out."""
    unknowns = 1 + family.bias
    if len(degrees) != unknowns + 1 or family.orbit:
        return []
    basis = np.linalg.svd(_line(family, r, b, degrees, 1)[None])[2][1:]
    low, high = np.log(box[0]) - 0.5, np.log(box[1]) + 0.5
    found: list[Solution] = []
    shifts = np.linspace(-0.9 * box[2], 0.9 * box[2], 5) if family.bias else np.zeros(1)
    for turn in (1, -1):

        def gap(point: Array, turn: int = turn) -> Array:
            length, shift = float(np.exp(np.clip(point[0], low, high))), float(point[1]) if family.bias else 0.0
            return basis @ _line(family, length, shift, degrees, turn)

        for start in (x * r for x in _STARTS):
            for shift in shifts:
                point = np.array([np.log(start), shift])[:unknowns]
                x, _, ended, _ = optimize.fsolve(gap, point, xtol=1e-13, full_output=True)
                if ended != 1 or float(np.max(np.abs(gap(x)))) > 1e-10:
                    continue
                length, at = float(np.exp(np.clip(x[0], low, high))), float(x[1]) if family.bias else 0.0
                itself = abs(length / r - 1) < _APART and abs(at - turn * b) < _APART * (1 + abs(b))
                if itself or not (box[0] <= length <= box[1] and abs(at) <= box[2]):
                    continue
                known = any(abs(s.r / length - 1) < _APART and abs(s.b - at) < _APART and s.turn == turn for s in found)
                if not known:
                    found.append(Solution(length, at, turn))
    return found
