"""Threshold numbers: our reading of the abstract of arXiv:2605.24710, and what is true of its invariant versions.

**The reading** S_up(σ, ρ, f, λ) = #{multi-indices β : ‖⟨f, he_β⟩‖·|c_{|β|}(σ)| > λ},  c_k(σ) = E[σ(g) he_k(g)], fails:
it depends on the basis and bounds nothing.  For f = relu(⟨w, x⟩), d = 2, λ = 0.2 it is 1 at w = e₁ and 0 at 45°, where
S* is 1 and where the BLASSO minimiser is not zero; for a steep atom at 45° it is larger than S* = 1.

**The invariant number** N(ε) = max over flattenings M of #{j : σ_j(M(f)) > ε}, with M = [T_k]_k as in
:mod:`sparsemf.identifiability.flattenings`, does not change under rotations of the inputs or of the outputs: T_k(f∘Q)
is T_k(f) with Q applied to every index, so M is multiplied by orthogonal matrices on both sides.

*Theorem (lower).*  N(ε) ≤ S*(ε).  Let g have S atoms and ‖f − g‖ ≤ ε, affine part free.  Then rank M(g) ≤ S, and
‖M(f) − M(g)‖₂ ≤ ‖M(f) − M(g)‖_F ≤ ‖f − g‖ ≤ ε, since every entry of T_k is met once.  Weyl's inequality gives
σ_{S+1}(M(f)) ≤ σ_{S+1}(M(g)) + ε = ε, so at most S singular values exceed ε.  Eckart–Young's tail gives the same rank
test in the Frobenius norm, so N(ε) ≤ min{S : L(S) ≤ ε}: it is the coarser bound, and needs one number for each j.

*Weights.*  With |c_k(σ)| in front of degree k, as in the reading, M·D replaces M, ‖D‖₂ = C = max_k |c_k|, and
σ_j(M·D) ≤ C·σ_j(M): the weighted count at λ is at most N(λ/C).

*Theorem (BLASSO).*  Let ν_λ minimise ½‖f − Φν‖² + λ|ν| and let B ≥ |ν_f| for some ν_f with Φν_f = f.  Then ν_λ has at
least N(√(λB)) atoms.  Optimality says |Φ*r| ≤ λ in the dual gauge and ⟨r, Φν_λ⟩ = λ|ν_λ| for r = f − Φν_λ, so
‖r‖² = ⟨r, f⟩ − ⟨r, Φν_λ⟩ ≤ λ(B − |ν_λ|) ≤ λB; now use the first theorem with g = Φν_λ.

*What is false.*  (i) The sum over degrees of the thresholded ranks is no lower bound: one relu atom has rank 1 at every
even degree.  (ii) No thresholded rank bounds the number of atoms from above.  For fixed p a flattening has
C(d+p−1, p) rows, and S* may be larger (d = 2, p = 1, three atoms).  For all p together N(ε) ≤ ‖f‖²/ε², while the BLASSO
minimiser for n relu atoms on equally spaced lines of the plane, of equal coefficients and total mass 1, has n atoms at
least for every λ at which it is not 0: it is unique (no even c_k vanishes), hence invariant under the rotation by π/n,
whose orbits of lines have n elements; ‖f‖ stays bounded.  (iii) In the limit ε → 0 it is exact for directions: n
distinct lines have independent ŵ^{⊗p} for p ≥ n − 1, so a flattening with a degree k ≥ 2p at which no coefficient
vanishes has rank n.

The upper bounds that hold are the staircase's U and those of :mod:`sparsemf.identifiability.compressibility`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from sparsemf.identifiability.flattenings import Flattening, Spectrum, feature_count, spectrum, symmetric_features
from sparsemf.measures import Atoms, Network
from sparsemf.measures.gaussian import UNIT

_MAX_INDICES = 15_000


class Kind(StrEnum):
    """What a threshold number is worth."""

    CERTIFICATE = "certificate"
    FAILS = "a reading that fails: no bound of S*"
    REFUTED = "refuted: no bound of S*"


@dataclass(frozen=True)
class ThresholdNumber:
    """S_up; ``value`` is None when a degree that matters has too many multi-indices to list (``reason`` says which)."""

    value: int | None
    threshold: float
    degree: int
    reason: str = ""
    kind: Kind = Kind.FAILS


@dataclass(frozen=True)
class InvariantThreshold:
    """``value`` singular values of ``flattening`` are proved to exceed ``threshold``: S*(ε) ≥ value for ε ≤ threshold.

    ``flattening`` is None when ``value`` is 0.  ``counts`` says what is bounded: "directions" bounds atoms too.
    """

    value: int
    threshold: float
    flattening: Flattening | None
    kind: Kind = Kind.CERTIFICATE

    @property
    def counts(self) -> str:
        """Whether atoms or directions are bounded from below."""
        return "directions" if self.flattening is None else self.flattening.counts


@dataclass(frozen=True)
class SummedThreshold:
    """The sum over degrees of thresholded ranks; refuted by one relu atom (``value`` > 1 = S*)."""

    value: int
    threshold: float
    degree: int
    kind: Kind = Kind.REFUTED


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


def invariant_threshold(spectra: Iterable[Spectrum], threshold: float, floor: float = 0.0) -> InvariantThreshold:
    """N(ε) at ε = ``threshold`` from the spectra at hand: a certified lower bound of S*(ε′) for every ε′ ≤ ε.

    A singular value counts when its square exceeds (ε + ``floor``)² by more than the spectrum's margin, which bounds
    the error of each eigenvalue as it bounds the error of their sums; ``floor`` bounds the distance of the network that
    the spectra belong to from the one S* is about (Weyl again).  Truncating degrees only lowers N.

    Raises ValueError for a negative threshold or floor.
    """
    if not (threshold >= 0.0 and floor >= 0.0):
        raise ValueError(f"expected a threshold ≥ 0 and a floor ≥ 0, got {threshold} and {floor}")
    level = (threshold + floor) ** 2 * (1 + 8 * UNIT)
    best = InvariantThreshold(0, threshold, None)
    for found in spectra:
        count = found.exceeding(level)
        if count > best.value:
            best = InvariantThreshold(count, threshold, found.flattening)
    return best


def minimiser_atoms(
    spectra: Iterable[Spectrum], penalty: float, variation: float, floor: float = 0.0
) -> InvariantThreshold:
    """Every minimiser of ½‖f − Φν‖² + λ|ν| has at least N(√(λB)) atoms; λ = ``penalty``, B = ``variation``.

    B is an upper bound of the total variation, in the gauge that is penalised, of some measure that gives f; the affine
    part is free on both sides; ``floor`` as in :func:`invariant_threshold`.  The threshold of the result is √(λB),
    rounded up.
    """
    if not (penalty >= 0.0 and variation >= 0.0):
        raise ValueError(f"expected a penalty ≥ 0 and a variation ≥ 0, got {penalty} and {variation}")
    return invariant_threshold(spectra, float(np.sqrt(penalty * variation)) * (1 + 4 * UNIT), floor)


def summed_threshold(network: Network, threshold: float, degree: int = 12) -> SummedThreshold:
    """Σ_{k=2}^{degree} #{j : |c_k(σ)|·σ_j(T_k) > λ}, T_k with half its indices in the rows; a refuted reading."""
    sigma = np.abs(network.activation.hermite(np.ones(1), np.zeros(1), degree)[0])
    total = 0
    for k in range(2, degree + 1):
        if sigma[k] > 0.0:
            found = spectrum(network, Flattening(max(1, k // 2), k, k))
            total += found.exceeding((threshold / sigma[k]) ** 2)
    return SummedThreshold(total, threshold, degree)
