"""The coefficient-threshold number S_up(σ, ρ, f, λ): our reading of the abstract of arXiv:2605.24710.

S_up = #{multi-indices β : ‖⟨f, he_β⟩‖·|c_{|β|}(σ)| > λ},  c_k(σ) = E[σ(g) he_k(g)].

It depends on the basis and is **not** an upper bound of S*: for f = relu(⟨w, x⟩) in d = 2 and λ = 0.2 it is 1 at
w = e₁ and 0 at 45°.  It is reported beside S* as a reading that fails; the valid upper bound is the staircase's U.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsemf.identifiability.flattenings import feature_count, symmetric_features
from sparsemf.measures import Atoms, Network

_MAX_INDICES = 15_000


@dataclass(frozen=True)
class ThresholdNumber:
    """``value`` is None when a degree that matters has too many multi-indices to list (``reason`` says which)."""

    value: int | None
    threshold: float
    degree: int
    reason: str = ""


def s_up(network: Network, threshold: float, degree: int = 12, first: int = 2) -> ThresholdNumber:
    """S_up over the degrees ``first`` … ``degree`` of a whitened network.

    A degree with ‖T_k‖·|c_k| ≤ λ contributes nothing and is skipped without listing its indices.
    """
    atoms = Atoms.of(network)
    sigma = network.activation.hermite(np.ones(1), np.zeros(1), degree)[0]
    c = atoms.hermite(degree)
    cos = atoms.unit @ atoms.unit.T if network.width <= 4096 else None
    power = None if cos is None else cos ** (first - 1)
    count = 0
    for k in range(first, degree + 1):
        scaled = network.alpha * c[:, k : k + 1]
        if cos is not None and power is not None:
            power *= cos
            energy = float(np.sum(scaled * (power @ scaled)))
        else:
            energy = float(np.linalg.norm(scaled, axis=1).sum()) ** 2
        if np.sqrt(max(energy, 0.0)) * abs(sigma[k]) <= threshold:
            continue
        if feature_count(network.d, k) > _MAX_INDICES:
            count = feature_count(network.d, k)
            return ThresholdNumber(None, threshold, degree, f"degree {k} has {count} multi-indices")
        tensor = symmetric_features(atoms.unit, k).T @ scaled
        count += int(np.sum(np.linalg.norm(tensor, axis=1) * abs(sigma[k]) > threshold))
    return ThresholdNumber(count, threshold, degree)
