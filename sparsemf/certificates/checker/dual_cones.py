"""‖η‖ on cones, for a piecewise-linear σ: η(u) = Σ_i c_i relu(⟨x_i, u⟩) + G u ∈ R^m, from the leaves of a proof
tree.

On the cone {Σ_k t_k v_k, t ≥ 0} let a_i ∈ {0, 1} be any choice (the sign of ⟨x_i, ·⟩ in the middle).  relu(z) ≥ a_i
z, so

    one output:  ±η(u) ≤ h(u) = Σ_{±c_i > 0} |c_i| relu(z_i) − Σ_{±c_i < 0} |c_i| a_i z_i ± G u,
    several:     ‖η(u)‖ ≤ h(u) = ‖Σ c_i a_i z_i + G u‖ + Σ ‖c_i‖ (relu(z_i) − a_i z_i).

h is convex and positively homogeneous: h(Σ t_k v_k) ≤ Σ t_k h(v_k) ≤ Σ t_k ⟨v_k, w⟩ = ⟨u, w⟩ ≤ |w||u| for *any* w
with ⟨v_k, w⟩ ≥ h(v_k).  How w was found does not matter: that it obeys these inequalities is looked at.

Without kinks (σ = z, c = 0) η = G u is bounded by the spectral norm of G.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.taylor import form_norm

Array = NDArray[np.float64]

UNIT = 2.0**-53
_ENTRIES = 2_000_000
_SWEEPS = 12
_FAINT = 1e-100


@dataclass(frozen=True, eq=False)
class ConeDual:
    """η of ``rows`` x (n, D), ``jumps`` c (n, m) and ``linear`` G (m, D)."""

    rows: Array
    jumps: Array
    linear: Array

    @cached_property
    def error(self) -> float:
        """What h(v) may be off for |v| ≤ 1: γ_{n + 2D + m + 32} of the absolute terms, for h and its two parts."""
        n, dim = self.rows.shape
        size = float(np.sqrt(np.sum(self.jumps**2, axis=1)) @ np.sqrt(np.sum(self.rows**2, axis=1)))
        size = (size + float(np.sqrt(np.sum(self.linear**2)))) * (1 + 1e-9)
        if not size < 1e100:
            raise Refused("the data are too large for float64")
        return 6 * (n + 2 * dim + self.jumps.shape[1] + 32) * UNIT * size + _FAINT

    def bounds(self, cones: Array) -> Array:
        """Upper bounds of sup ‖η(u)‖/|u| on each cone (k, D, D); its generators have |v|₁ = 1."""
        if not self.jumps.any():
            return np.full(cones.shape[0], form_norm(self.linear.T, 0.0))
        block = max(1, _ENTRIES // (self.rows.shape[0] * cones.shape[1]))
        parts = [self._bound(cones[k : k + block]) for k in range(0, cones.shape[0], block)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _bound(self, cones: Array) -> Array:
        k, dim, _ = cones.shape
        z = (cones.reshape(-1, dim) @ self.rows.T).reshape(k, dim, -1)
        active = np.sum(z, axis=1, keepdims=True) > 0
        free = cones @ self.linear.T
        kept = np.where(active, z, 0.0)
        if self.jumps.shape[1] > 1:
            inner = kept @ self.jumps + free
            rest = (np.maximum(z, 0.0) - kept) @ np.sqrt(np.sum(self.jumps**2, axis=1))
            return least_norm(cones, np.sqrt(np.sum(inner**2, axis=2)) + rest + self.error)
        jump, bent = self.jumps[:, 0], np.maximum(z, 0.0)
        up, down = np.maximum(jump, 0.0), np.maximum(-jump, 0.0)
        above = bent @ up - kept @ down + free[:, :, 0] + self.error
        below = bent @ down - kept @ up - free[:, :, 0] + self.error
        return np.maximum(least_norm(cones, above), least_norm(cones, below))


def least_norm(cones: Array, height: Array) -> Array:
    """Upper bounds of min {|w| : ⟨v_k, w⟩ ≥ height_k} for each cone, from w that are looked at.

    Candidates: w with equality everywhere, and Hildreth's w = Σ t_k v_k, t ≥ 0; each is lifted along the middle of
    the cone (all of whose generators lie in one orthant) until it obeys.
    """
    gram = cones @ cones.transpose(0, 2, 1)
    t = np.zeros_like(height)
    for _ in range(_SWEEPS):
        for k in range(height.shape[1]):
            t[:, k] = np.maximum(t[:, k] + (height[:, k] - np.sum(gram[:, k] * t, axis=1)) / gram[:, k, k], 0.0)
    middle = np.sum(cones, axis=1)
    reach = np.sum(cones * middle[:, None, :], axis=2)
    best = np.full(height.shape[0], np.inf)
    for w in (np.sum(t[:, :, None] * cones, axis=1), _through(cones, height)):
        w = np.where(np.isfinite(w), w, 0.0)
        for _ in range(2):  # the second lift pays for the rounding of the first
            size = np.sqrt(np.sum(w**2, axis=1))
            doubt = 8 * (w.shape[1] + 2) * UNIT * (size[:, None] + np.abs(height))
            short = height - np.sum(cones * w[:, None, :], axis=2) + doubt
            lift = np.maximum(np.max(short / reach, axis=1), 0.0) * (1 + 1e-14)
            w = w + lift[:, None] * middle
        size = np.sqrt(np.sum(w**2, axis=1)) * (1 + (w.shape[1] + 8) * 2 * UNIT)
        short = height - np.sum(cones * w[:, None, :], axis=2)
        short += 2 * (w.shape[1] + 2) * UNIT * (size[:, None] + np.abs(height))
        best = np.where(np.all(short <= 0, axis=1), np.minimum(best, size), best)
    return np.where(np.all(height <= 0, axis=1), 0.0, best)


def _through(cones: Array, height: Array) -> Array:
    """w with ⟨v_k, w⟩ = height_k, to rounding."""
    return np.asarray(np.linalg.solve(cones, height[:, :, None])[:, :, 0], dtype=np.float64)
