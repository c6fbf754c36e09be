"""The error of a trained measure as a telescope of norms (theory of the decomposition: docs/budget).

With f* the target and one change at a time,

    f* → g₀ → g₁ → … → g₆ → g₇,

g₀ the measure at the reference setting (n_ref, N_ref, T_ref, η_ref, τ_ref, λ_ref), then λ, τ, n, η, T, N set to the
base's in this order, g₇ the S-atom network of g₆.  The triangle inequality ‖f* − g₇‖ ≤ Σ_i ‖Δ_i‖ is exact, norms being
those of one discrete measure on the test inputs; *squares do not add*, ‖Σ Δ_i‖² = Σ_ij ⟨Δ_i, Δ_j⟩, and the Gram
matrix is reported.  The runs of a repetition share data (the first n samples), initial values and Brownian paths (the
first N particles), so a term is the effect of its change alone and not of two independent draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Array = NDArray[np.float64]
LEVEL = 0.95

TERMS = (
    "approximation",
    "regularization",
    "entropic",
    "statistical",
    "step_size",
    "optimization",
    "chaos",
    "sparse",
)
MEANING = {
    "approximation": "the reference measure against the target: all that the references leave",
    "regularization": "the weight decay λ against λ_ref",
    "entropic": "the temperature τ against τ_ref",
    "statistical": "n samples against n_ref",
    "step_size": "steps of size η against η_ref, on one Brownian path",
    "optimization": "time T against T_ref",
    "chaos": "N particles against N_ref, coupled",
    "sparse": "the S-atom network against the N particles",
}


@dataclass(frozen=True)
class Estimate:
    """Mean over repetitions with Student's 95 % interval."""

    mean: float
    interval: tuple[float, float]
    values: tuple[float, ...]

    @staticmethod
    def of(values: Sequence[float] | Array) -> Estimate:
        """From two repetitions or more."""
        found = np.asarray(values, dtype=np.float64)
        half = float(student.ppf(0.5 + LEVEL / 2, found.size - 1) * found.std(ddof=1) / np.sqrt(found.size))
        mean = float(found.mean())
        return Estimate(mean, (mean - half, mean + half), tuple(found.tolist()))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"kind": "estimate", "mean": self.mean, "interval": list(self.interval), "values": list(self.values)}


@dataclass(frozen=True)
class Telescope:
    """Terms, their sum and the total in L² of the inputs; ``gram`` (8, 8) is the mean of ⟨Δ_i, Δ_j⟩."""

    terms: dict[str, Estimate]
    total: Estimate
    sum: Estimate
    slack: Estimate
    gram: Array
    target: float

    @property
    def closes(self) -> bool:
        """Whether the sum of the terms covers the total in every repetition, to rounding."""
        return all(v >= -1e-12 * s for v, s in zip(self.slack.values, self.sum.values, strict=True))

    @property
    def quadrature(self) -> float:
        """(Σ_i ‖Δ_i‖²)^{1/2}, what the total would be if the terms were orthogonal."""
        return float(np.sqrt(np.trace(self.gram)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        diagonal = np.sqrt(np.maximum(np.diag(self.gram), 1e-300))
        return {
            "terms": [
                {"name": name, "meaning": MEANING[name], **estimate.to_dict()} for name, estimate in self.terms.items()
            ],
            "total": self.total.to_dict(),
            "sum": self.sum.to_dict(),
            "slack": self.slack.to_dict(),
            "closes": self.closes,
            "quadrature": self.quadrature,
            "gram": self.gram.tolist(),
            "cosines": (self.gram / np.outer(diagonal, diagonal)).tolist(),
            "target_norm": self.target,
        }


def telescope(target: Array, chains: Sequence[Sequence[Array]]) -> Telescope:
    """From f* (B, m) and, for each repetition, g₀ … g₇ (B, m) at the same inputs."""
    norms, totals, grams = [], [], []
    inputs = target.shape[0]
    for chain in chains:
        steps = np.stack([g - f for f, g in zip([target, *chain[:-1]], chain, strict=True)]).reshape(len(chain), -1)
        gram = steps @ steps.T / inputs
        grams.append(gram)
        norms.append(np.sqrt(np.diag(gram)))
        totals.append(float(np.linalg.norm(chain[-1] - target) / np.sqrt(inputs)))
    table = np.array(norms)
    sums = table.sum(axis=1)
    return Telescope(
        terms={name: Estimate.of(table[:, i]) for i, name in enumerate(TERMS)},
        total=Estimate.of(totals),
        sum=Estimate.of(sums),
        slack=Estimate.of(sums - np.array(totals)),
        gram=np.mean(grams, axis=0),
        target=float(np.linalg.norm(target) / np.sqrt(inputs)),
    )
