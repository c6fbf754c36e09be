"""The certified staircase: S*(ε) between the lower curve L and the upper curve U.

S*(ε) = least number of atoms (modulo the symmetry, affine part free or charged) of any network g of the same
architecture with ‖f − g‖ ≤ ε.  For every ε ∈ [U(S), L(S − 1)) it equals S: a *plateau*.  The staircase and its
longest plateau (in log ε, on ε ≥ resolution·‖f‖_⊥) are the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.exceptions import InconsistentBounds
from sparsemf.identifiability import LowerCurve
from sparsemf.recovery import UpperCurve

Array = NDArray[np.float64]

RESOLUTION = 1e-6
DEFAULT_REL_EPS = 1e-2
UNIT_ROUNDOFF = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}


@dataclass(frozen=True)
class Plateau:
    """S*(ε) = size for all ε in [low, high); ``high`` is inf for S = 0."""

    size: int
    low: float
    high: float

    @property
    def strength(self) -> float:
        """L(S − 1)/U(S)."""
        return self.high / self.low if self.low > 0 else float("inf")


@dataclass(frozen=True)
class SStar:
    """The reported S*: ``value`` = ``upper``, certified only when ``lower`` = ``upper`` on the ε-range ``eps``."""

    value: int
    certified: bool
    lower: int
    upper: int
    eps: tuple[float, float]
    strength: float
    counts: str = "atoms"


@dataclass(frozen=True, eq=False)
class Staircase:
    """Both curves for S = 0 … n, absolute in L²(ρ) (Euclidean over outputs).

    ``lower`` counts atoms, ``lower_directions`` directions; both are zero where nothing can be proved (empirical ρ).
    ``neurons`` is the number of active neurons of f, which is its own approximation with error 0: S*(ε) ≤ neurons
    for every ε (for every ε > 0 with the atoms that A and c cost where they are charged).
    """

    upper: Array
    lower: Array
    lower_directions: Array
    norm: float
    norm_beyond_affine: float
    resolution: float
    floor: float
    neurons: int

    def plateaus(self) -> list[Plateau]:
        """All certified plateaus above the resolution, in order of S."""
        found = []
        least = self.resolution * self.norm_beyond_affine
        if self.upper[0] <= max(self.resolution * self.norm, self.floor):
            found.append(Plateau(0, max(float(self.upper[0]), least), float("inf")))
        for size in range(1, self.upper.size):
            low, high = max(float(self.upper[size]), least), float(self.lower[size - 1])
            if low < high:
                found.append(Plateau(size, low, high))
        return found

    def bracket(self, eps: float) -> tuple[int, int]:
        """[lower, upper] of S*(eps)."""
        upper = int(np.argmax(self.upper <= eps)) if (self.upper <= eps).any() else self.neurons
        lower = int(np.argmax(self.lower <= eps))
        return lower, upper

    def s_star(self, eps: float | None = None) -> SStar:
        """The longest certified plateau; with ``eps`` (absolute), or without any plateau, the bracket there."""
        plateaus = self.plateaus()
        if eps is None and plateaus:
            best = max(plateaus, key=lambda p: p.strength)
            return SStar(best.size, True, best.size, best.size, (best.low, best.high), best.strength)
        at = DEFAULT_REL_EPS * self.norm if eps is None else eps
        lower, upper = self.bracket(at)
        reached = min(upper, self.upper.size - 1)
        strength = float(self.lower[reached - 1] / max(self.upper[reached], 1e-300)) if reached else float("inf")
        return SStar(upper, lower == upper, lower, upper, (at, at), strength)


def staircase(
    upper: UpperCurve,
    lower: LowerCurve | None,
    norm: float,
    floor: float,
    neurons: int,
    precision: str = "float64",
    resolution: float = RESOLUTION,
) -> Staircase:
    """Put the curves together.

    ``floor`` bounds the distance between the canonical network and the file's; it is inside ``upper`` already and is
    taken off the lower curve here.  Raises :class:`InconsistentBounds` when L exceeds U anywhere.
    """
    n = upper.upper.size - 1
    zero = np.zeros(n + 1)
    atoms = zero if lower is None else np.maximum(lower.atoms - floor, 0.0)
    directions = zero if lower is None else np.maximum(lower.directions - floor, 0.0)
    if (atoms > upper.upper).any():
        size = int(np.argmax(atoms > upper.upper))
        raise InconsistentBounds(
            f"lower bound {atoms[size]:.6g} exceeds upper bound {upper.upper[size]:.6g} at S = {size}"
        )
    return Staircase(
        upper=upper.upper,
        lower=atoms,
        lower_directions=directions,
        norm=norm,
        norm_beyond_affine=upper.norm,
        resolution=max(resolution, UNIT_ROUNDOFF.get(precision, 0.0)),
        floor=floor,
        neurons=neurons,
    )
