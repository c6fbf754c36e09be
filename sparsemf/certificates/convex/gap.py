"""The duality gap of a measure, with rounding allowances.

Primal P(ν) = ½‖f* − Φν‖² + λ|ν|_TV.  Dual: max D(q) = ⟨f*, q⟩ − ½‖q‖² over ‖Φ*q‖_∞ ≤ λ (Fenchel).  With r = f* − Φν
and any bound B ≥ sup‖Φ*r‖, q = τr is feasible for 0 ≤ τ ≤ λ/B, and the best such τ is
min(λ/B, ⟨f*, r⟩/‖r‖²), clipped at 0.  So

    P(ν) − D(τr) ≥ P(ν) − min P ≥ 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsemf.certificates.convex.observation import UNIT, Atomic, Observation


@dataclass(frozen=True)
class Gap:
    """``value`` ≥ P(ν), and where the sup is bounded ``dual_value`` ≤ min P and ``gap`` = value − dual_value."""

    value: float
    dual_value: float | None
    gap: float | None
    dual_scale: float | None


def duality_gap(observation: Observation, measure: Atomic, lam: float, sup_upper: float | None) -> Gap:
    """The gap from a proven ``sup_upper`` ≥ sup‖Φ*(f* − Φν)‖; ``value`` is rounded up and ``dual_value`` down."""
    energy, energy_error = observation.residual_energy(measure)
    variation = measure.variation * (1 + (measure.size + 8) * UNIT)
    value = 0.5 * (max(energy, 0.0) + energy_error) + lam * variation
    value *= 1 + 4 * UNIT
    if sup_upper is None:
        return Gap(value, None, None, None)
    overlap, overlap_error = observation.overlap(measure)
    most = lam / sup_upper * (1 - 4 * UNIT) if sup_upper > 0 else np.inf
    ceiling = max(energy, 0.0) + energy_error
    best = overlap / ceiling if ceiling > 0 else 0.0
    tau = float(max(min(most, best), 0.0))
    dual = tau * (overlap - overlap_error) - 0.5 * tau**2 * ceiling
    dual -= 8 * UNIT * (tau * abs(overlap) + tau**2 * ceiling)
    dual = max(dual, 0.0)  # q = 0 is feasible
    return Gap(value, dual, max(value - dual, 0.0), tau)
