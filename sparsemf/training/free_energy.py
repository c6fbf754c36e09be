"""Entropy and free energy of the particles: F = R_N + (λ/2) m_2 − τ H(μ).

F is what the mean-field Langevin flow descends (K. Hu, Z. Ren, D. Šiška, Ł. Szpruch, Annales de l'IHP 57, 2021).  H
is the differential entropy in nats, estimated from the distances to the k-th nearest neighbour:

    Ĥ = ψ(n) − ψ(k) + log V_D + (D/n) Σ_i log r_{i,k},        V_D = π^{D/2}/Γ(1 + D/2)

(L. F. Kozachenko and N. N. Leonenko, Problems of Information Transmission 23, 1987; the form for k > 1 as in
A. Kraskov, H. Stögbauer, P. Grassberger, Phys. Rev. E 69, 2004, there with diameters).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import gammaln, psi

from sparsemf.exceptions import InputError

NEIGHBOURS = 3
SUBSAMPLE = 2048
BLOCK = 256
CANCELLATION = 1e-10  # squared distances below this share of ‖x‖² + ‖y‖² are taken from differences


@dataclass(frozen=True)
class Entropy:
    """``value`` in nats, of ``count`` particles; −∞ when ``coincident`` > 0 have k neighbours at distance 0."""

    value: float
    count: int
    coincident: int


@dataclass(frozen=True)
class EnergyTerms:
    """energy = R_N + (λ/2) m_2 and free_energy = energy − τH.

    ``entropy`` is None at τ = 0; ``free_energy`` then equals ``energy``.  With coincident particles the entropy of
    the estimate is −∞ and says nothing: ``entropy`` and ``free_energy`` are None, ``coincident`` tells how many.
    """

    energy: float
    entropy: float | None
    free_energy: float | None
    coincident: int


def subsample_indices(width: int, limit: int = SUBSAMPLE) -> np.ndarray:
    """min(width, limit) indices ⌊i·width/limit⌋: the same particles at every step, spread over the whole width."""
    count = min(width, limit)
    return np.arange(count) * width // count


def neighbour_distances(points: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """Distance (n,) of every point (n, D) to its k-th nearest other point; ``BLOCK`` rows of distances in memory.

    The k nearest are chosen by ‖x‖² − 2⟨x, y⟩ + ‖y‖² and measured by differences; rows where that expansion cancels
    are done by differences throughout, so that coincident points are at distance 0 exactly.
    """
    x = np.asarray(points, dtype=np.float64)
    x = x - x.mean(0)
    square = np.einsum("ij,ij->i", x, x)
    found = np.empty(x.shape[0])
    for start in range(0, x.shape[0], BLOCK):
        rows = np.arange(start, min(start + BLOCK, x.shape[0]))
        distance = square[rows, None] + square
        limit = CANCELLATION * distance
        distance -= 2.0 * (x[rows] @ x.T)
        own = (np.arange(rows.size), rows)
        distance[own] = np.inf
        nearest = np.argpartition(distance, k - 1, axis=1)[:, :k]
        found[rows] = np.sqrt(((x[rows, None] - x[nearest]) ** 2).sum(2)).max(1)
        close = np.flatnonzero(
            (np.take_along_axis(distance, nearest, 1) <= np.take_along_axis(limit, nearest, 1)).any(1)
        )
        if close.size:
            exact = cdist(x[rows[close]], x)
            exact[np.arange(close.size), rows[close]] = np.inf
            found[rows[close]] = np.partition(exact, k - 1, axis=1)[:, k - 1]
    return found


def differential_entropy(points: np.ndarray, k: int = NEIGHBOURS) -> Entropy:
    """Kozachenko-Leonenko estimate from points (n, D), n > k, in nats.

    Scaling is exact: H(cX) = H(X) + D log |c|.  The bias grows with D, because the density is taken as constant
    within r_k, and r_k tends to the size of the whole cloud: see docs/stationarity.md for figures.  A bias that is
    the same at two times cancels in their difference, which is what the plateau test uses.

    Raises :class:`~sparsemf.exceptions.InputError` on n ≤ k or values that are not finite.
    """
    x = np.asarray(points, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] <= k or x.shape[1] < 1:
        raise InputError(f"entropy: expected an array (n > {k}, D ≥ 1) of particles, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise InputError("entropy: expected finite particles, got NaN or infinity; the run may have diverged")
    n, dimension = x.shape
    distances = neighbour_distances(x, k)
    coincident = int(np.count_nonzero(distances == 0))
    if coincident:
        return Entropy(-math.inf, n, coincident)
    log_ball = 0.5 * dimension * math.log(math.pi) - gammaln(1 + 0.5 * dimension)
    value = psi(n) - psi(k) + log_ball + dimension * np.log(distances).mean()
    return Entropy(float(value), n, 0)


def energy_terms(
    particles: np.ndarray,
    risk: float,
    weight_decay: float,
    temperature: float,
    *,
    m2: float | None = None,
    limit: int = SUBSAMPLE,
    k: int = NEIGHBOURS,
) -> EnergyTerms:
    """energy, entropy and free energy of particles (N, D), D = m + d (+ 1), with R_N = ``risk``.

    The entropy takes at most ``limit`` of the particles (:func:`subsample_indices`).  Where m_2 of all particles is
    at hand, ``m2`` saves a pass, and ``particles`` may then be ``all_particles[subsample_indices(N)]``.

    Raises :class:`~sparsemf.exceptions.InputError` as :func:`differential_entropy`, and on N ≤ k at τ > 0.
    """
    if m2 is None:
        m2 = _second_moment(particles)
    energy = risk + 0.5 * weight_decay * m2
    if temperature == 0:
        return EnergyTerms(energy, None, energy, 0)
    entropy = differential_entropy(particles[subsample_indices(particles.shape[0], limit)], k)
    if entropy.coincident:
        return EnergyTerms(energy, None, None, entropy.coincident)
    return EnergyTerms(energy, entropy.value, energy - temperature * entropy.value, 0)


def _second_moment(particles: np.ndarray) -> float:
    """(1/N) Σ_i ‖θ_i‖², a megabyte at a time: the squares of 2^20 particles are never in memory together."""
    width, dimension = particles.shape
    rows = max(1, (1 << 17) // max(1, dimension))
    squares = (np.square(particles[i : i + rows], dtype=np.float64).sum() for i in range(0, width, rows))
    return float(sum(squares)) / width
