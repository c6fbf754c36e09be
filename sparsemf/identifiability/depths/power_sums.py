"""Depths of Taylor moments with fixed equal weights on the line: power sums p_k = Σ_i w_i^k, k ∈ K.

The moment map of f(x) = Σ_i σ(w_i x), d = 1, by Taylor coefficients at 0 instead of Hermite tensors: σ's non-zero
coefficients give K (gelu: 1, 2, 4, 6, …).  The unknowns are the S weights up to permutation.

- D_var: the Jacobian (k w_i^{k−1}) has rank S at general points iff |K ∩ [1, D]| ≥ S: for distinct positive w_i a
  generalised Vandermonde matrix (w_i^{κ_j}), κ_1 < … < κ_S, is invertible (Gantmacher & Krein).  Exact.
- D_orb > D: another solution of the square system, verified with exact rational Krawczyk boxes by the checker
  (:mod:`sparsemf.certificates.checker.depth_power_sums`); here it is a candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from sparsemf.exceptions import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PowerSums:
    """``variety``: the generic D_var (exact).  ``other``: inequivalent weights with the same sums at that depth, None
    where none was found; ``next_depth``: the least degree of K at which they differ (an estimate)."""

    degrees: tuple[int, ...]
    variety: int
    other: Array | None
    next_depth: int | None


def power_sum_depths(weights: ArrayLike, degrees: Sequence[int], seed: int = 0, starts: int = 400) -> PowerSums:
    """Depths of the power sums of these weights (S,), for K = ``degrees`` (increasing, positive).

    Raises :class:`InputError` when K has fewer than S degrees, or is not increasing.
    """
    w = np.asarray(weights, dtype=np.float64)
    known = [int(k) for k in degrees]
    if w.ndim != 1 or w.size == 0 or not np.isfinite(w).all():
        raise InputError(f"power sums: expected a list of numbers, got shape {w.shape}")
    if known != sorted(set(known)) or (known and known[0] < 1) or len(known) < w.size:
        raise InputError(f"power sums: expected at least {w.size} increasing positive degrees, got {known}")
    first, rng = known[: w.size], np.random.default_rng(seed)
    k = np.array(first)[:, None]
    wanted = np.sum(w**k, axis=1)
    scale = np.maximum(np.sum(np.abs(w) ** k, axis=1), 1e-300)
    best: Array | None = None

    def gap(x: Array) -> Array:
        return (np.sum(x**k, axis=1) - wanted) / scale

    for _ in range(starts):
        start = rng.uniform(-1.3, 1.3, w.size) * np.max(np.abs(w))
        x, *_ = optimize.fsolve(gap, start, fprime=lambda x: k * x ** (k - 1) / scale[:, None], full_output=True)
        near = np.max(np.abs(np.sort(x) - np.sort(w)))
        if np.max(np.abs(gap(x))) < 1e-12 and near > 1e-4 * np.max(np.abs(w)):
            best = np.sort(x)
            break
    differ = None
    if best is not None:
        for degree in known[w.size :]:
            if abs(np.sum(best**degree) - np.sum(w**degree)) > 1e-9 * np.sum(np.abs(w) ** degree):
                differ = degree
                break
    return PowerSums(tuple(known), first[-1], best, differ)
