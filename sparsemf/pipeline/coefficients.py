"""What the sizes of coefficients and singular values alone prove about S*, beside the staircase.

The step of `analyze` that fills the fields ``threshold`` and ``compressibility`` of its document.  Every bound is
checked against the staircase: an upper bound below L(S), or a lower bound above U's, is a mistake and nothing is
published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsemf.certificates.sparsity import InconsistentBounds, SStar, Staircase
from sparsemf.identifiability import (
    Compressibility,
    InvariantThreshold,
    LowerCurve,
    compressibility,
    invariant_threshold,
    minimiser_atoms,
)
from sparsemf.measures.gaussian import UNIT
from sparsemf.recovery import Problem, UpperCurve


@dataclass(frozen=True, eq=False)
class CoefficientBounds:
    """``lower`` and ``upper`` bound S* at ``eps``; ``kept`` atoms have coefficients above ``level``, the others sum to
    ``left``, so S*(left) ≤ kept; ``minimiser`` bounds the atoms of the BLASSO's minimisers at λ = eps²/B from below
    (√(λB) = eps)."""

    eps: float
    lower: InvariantThreshold | None
    upper: int | None
    level: float
    kept: int
    left: float
    penalty: float
    minimiser: InvariantThreshold | None
    curves: Compressibility

    def document(self) -> dict[str, Any]:
        """The fields ``threshold`` and ``compressibility``."""
        low, least = self.lower, self.minimiser
        flat = None if low is None else low.flattening
        return {
            "threshold": {
                "eps": self.eps,
                "lower": None if low is None else low.value,
                "counts": None if low is None else low.counts,
                "flattening": None if flat is None else {"p": flat.p, "degrees": [flat.low, flat.high]},
                "upper": self.upper,
                "coefficient": {"lambda": self.level, "value": self.kept, "eps": self.left},
                "minimiser": None if least is None else {"lambda": self.penalty, "atoms": least.value},
                "kind": "certificate",
            },
            "compressibility": {
                "variation": self.curves.mass,
                "curves": [
                    {"S": int(s), "maurey": float(m), "thresholding": float(t), "stechkin": float(k), "best": float(b)}
                    for s, m, t, k, b in zip(
                        self.curves.sizes,
                        self.curves.maurey,
                        self.curves.thresholding,
                        self.curves.stechkin,
                        self.curves.best,
                        strict=True,
                    )
                ],
                "kind": "certificate",
            },
        }


def coefficient_bounds(
    upper: UpperCurve, lower: LowerCurve | None, stairs: Staircase, star: SStar, floor: float
) -> CoefficientBounds:
    """The bounds at the reported ε (the geometric middle of its plateau), and the curves over S.

    Raises :class:`InconsistentBounds` when they contradict the staircase.
    """
    problem = upper.problem
    curves = compressibility(problem.network.alpha, lengths(problem), problem.energy_bounds[0], floor)
    _consistent(curves, stairs)
    eps = float(np.sqrt(star.eps[0]) * np.sqrt(star.eps[1])) if np.isfinite(star.eps[1]) else star.eps[0]
    spectra = None if lower is None else lower.spectra
    described = 0.0 if lower is None else lower.error
    found = None if spectra is None else invariant_threshold(spectra, eps, floor + described)
    most = curves.size_for(eps)
    known = stairs.bracket(eps)
    if (found is not None and found.value > known[1]) or (most is not None and most < known[0]):
        raise InconsistentBounds(
            f"coefficients bound S* by {found and found.value} and {most}, the staircase by {known}"
        )
    level = eps / max(problem.n, 1)
    kept, left = curves.above(level)
    penalty = eps * eps / curves.mass if curves.mass > 0 else 0.0
    minimiser = None if spectra is None or penalty == 0.0 else minimiser_atoms(spectra, penalty, curves.mass, described)
    return CoefficientBounds(eps, found, most, level, kept, left, penalty, minimiser, curves)


def lengths(problem: Problem) -> np.ndarray:
    """Upper bounds of ‖φ_i‖_⊥ in the problem's geometry, shape (n,): its diagonal, the stated margin of one entry, the
    tail."""
    diagonal, geometry = problem.diagonal, problem.geometry
    size = geometry.length(problem.atoms)
    margin = np.array([geometry.margin(1, abs(float(k)), float(s)) for k, s in zip(diagonal, size, strict=True)])
    square = np.maximum(diagonal, 0.0) + margin + geometry.tail(problem.atoms) ** 2
    return np.sqrt(square) * (1 + 8 * UNIT)


def _consistent(curves: Compressibility, stairs: Staircase) -> None:
    """Each curve bounds the best error from above, so it cannot be below L."""
    listed = np.minimum(curves.sizes, stairs.lower.size - 1)
    for name in ("maurey", "thresholding", "stechkin", "best"):
        curve = getattr(curves, name)
        if (curve < stairs.lower[listed]).any():
            size = int(curves.sizes[np.argmax(curve < stairs.lower[listed])])
            raise InconsistentBounds(f"the {name} bound is below the lower curve at S = {size}")
