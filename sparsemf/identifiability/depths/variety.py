"""D_var as float64 sees it, and scales at which JΨ_D is singular."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from sparsemf.exceptions import InputError
from sparsemf.identifiability.depths.family import HIGHEST, Family
from sparsemf.identifiability.depths.jacobian import levels, numeric_rank

Array = NDArray[np.float64]

_WINDOW = 1e-3


def variety_depth(family: Family, alpha: Array, w: Array, b: Array, start: int = 0, most: int = HIGHEST) -> int | None:
    """The least D ≥ ``start`` with numeric rank JΨ_D = target at these atoms (an estimate); None up to ``most``.

    Raises :class:`InputError` for polynomial σ, whose orbits are larger than the target supposes.
    """
    if family.continuous:
        raise InputError(f"depth: expected an activation with discrete orbits, got {family.activation.name}")
    for depth in range(max(start, 0), most + 1):
        if family.degrees(depth) and numeric_rank(family, alpha, w, b, depth) >= family.target:
            return depth
    return None


def singular_scale(family: Family, w: Array, degrees: list[int]) -> float | None:
    """The relative distance to a length r* of the one atom ``w`` (1, d) at which c_{k₁}, c_{k₂} stand still together.

    For two degrees and no bias the scale matrix of an atom is 2 × 2 with determinant c_{k₁}·r∂_r c_{k₂} − c_{k₂}·r∂_r
    c_{k₁}; its zero within 10⁻³ of ‖w‖, if any, is found by Brent's method.
    """
    if family.bias or len(degrees) != 2 or family.orbit:
        return None
    first, second = degrees

    def determinant(factor: float) -> float:
        c, by_r, _ = levels(family, w * factor, np.zeros(1), second)
        return float(c[0, first] * by_r[0, second] - c[0, second] * by_r[0, first])

    low, high = 1 - _WINDOW, 1 + _WINDOW
    if determinant(low) * determinant(high) >= 0:
        return None
    root = optimize.root_scalar(determinant, bracket=(low, high), method="brentq", xtol=1e-15).root
    return float(abs(root - 1.0))
