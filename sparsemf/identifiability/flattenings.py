"""Spectra of flattened Hermite tensors and the lower curve L(S).

In whitened coordinates f = Σ_i α_i φ_i + affine has tensors T_k = Σ_i c_k(i) û_i^{⊗k} ⊗ α_i.  Put p of the k indices in
the rows, for every degree k of an interval, and stack side by side:

    M = [T_k]_k = Σ_i ŵ_i^{⊗p} ⊗ (…)        (outputs in the columns: rank M ≤ number of *directions*)
    M = [T_k]_k = Σ_i (ŵ_i^{⊗p} ⊗ α_i) ⊗ (…)  (outputs in the rows: rank M ≤ number of *atoms*).

The same holds for any S-atom g, so by Eckart–Young ‖f − g‖² ≥ Σ_{j > S} σ_j(M)²; over disjoint intervals of degrees,
each with its own p, the tails of the *groups* add up.  Degrees 0 and 1 are left out (free affine part).

Kernel form: σ_j(M)² are the eigenvalues of P·Q with P = G^{∘p} and Q = Σ_k 𝒜∘(c_k c_kᵀ)∘G^{∘(k−p)} (columns), or with
P = G^{∘p}∘𝒜 and Q = Σ_k (c_k c_kᵀ)∘G^{∘(k−p)} (rows); G = ûûᵀ, 𝒜 = ααᵀ.

Tails are formed as trace − leading eigenvalues and lowered by a stated margin: a perturbation E of a symmetric matrix
moves the sum of any set of its eigenvalues by at most the trace norm of E (Weyl/Ky Fan), and

- forming FᵀQF (P = FFᵀ, D columns, rows of norm 1): ‖E‖_* ≤ √D·n·UNIT·Σ|Q_ij|;
- replacing P by the computed BBᵀ: ‖E‖_* ≤ 8n·UNIT·‖P‖₂·tr Q;
- the eigenvalue problem, the trace and the entries: UNIT·[(8n + 64)·(trace + |trace|_abs) + (64 + d)·(Σ‖α_i‖‖φ_i‖)²].
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import factorial

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from sparsemf.measures import Atoms, Network
from sparsemf.measures.gaussian import ENTRY_ULPS, UNIT

Array = NDArray[np.float64]

_ROWS = 512


@dataclass(frozen=True)
class Flattening:
    """``p`` indices in the rows, degrees ``low`` … ``high``, outputs in the rows or in the columns."""

    p: int
    low: int
    high: int
    outputs_in_rows: bool = False

    @property
    def counts(self) -> str:
        """What its rank counts."""
        return "atoms" if self.outputs_in_rows else "directions"


@dataclass(frozen=True, eq=False)
class Spectrum:
    """``energy[j]`` = σ_{j+1}(M)², descending; ``total`` its trace; ``margin`` the rounding margin of any tail."""

    flattening: Flattening
    energy: Array
    total: float
    margin: float

    def tails(self, n: int) -> Array:
        """Certified lower bounds of Σ_{j > S} σ_j² for S = 0 … n."""
        leading = np.concatenate([[0.0], np.cumsum(self.energy)])[: n + 1]
        tail = np.zeros(n + 1)
        tail[: leading.size] = np.maximum(self.total - leading - self.margin, 0.0)
        # the computed tail cannot grow; rounding of the cumulative sum is inside the margin
        return np.minimum.accumulate(tail)

    def exceeding(self, level: float) -> int:
        """How many σ_j² are proved to exceed ``level``: the margin bounds the error of every single one (Weyl)."""
        return int(np.sum(self.energy - self.margin > level))


def symmetric_features(unit: Array, p: int) -> Array:
    """Normalised monomials of degree p with F Fᵀ = (û ûᵀ)^{∘p}; shape (n, C(d+p−1, p))."""
    if p == 0:
        return np.ones((unit.shape[0], 1))
    columns = []
    for index in combinations_with_replacement(range(unit.shape[1]), p):
        counts = np.unique(index, return_counts=True)[1]
        multiplicity = factorial(p)
        for c in counts:
            multiplicity //= factorial(int(c))
        columns.append(np.sqrt(multiplicity) * np.prod(unit[:, index], axis=1))
    return np.stack(columns, axis=1)


def feature_count(d: int, p: int) -> int:
    """C(d+p−1, p)."""
    out = 1
    for i in range(p):
        out = out * (d + i) // (i + 1)
    return out


def spectrum(network: Network, flattening: Flattening, known: Trace | None = None) -> Spectrum:
    """The spectrum of one flattening of a whitened network; no n×n array when the row space is smaller than n.

    ``known`` is the trace of the flattening's degrees, where the caller has it already.
    """
    atoms = Atoms.of(network)
    n, d, m = network.width, network.d, network.m
    rows_dimension = feature_count(d, flattening.p) * (m if flattening.outputs_in_rows else 1)
    solve = _explicit if rows_dimension <= n else _implicit
    energy, eigen_margin = solve(network, atoms, flattening)
    energy = np.maximum(np.sort(energy)[::-1], 0.0)
    found = known or trace(network, flattening.low, flattening.high)
    margin = eigen_margin + UNIT * ((8 * n + 64) * (found.total + found.absolute) + (ENTRY_ULPS + d) * found.mass**2)
    return Spectrum(flattening, energy, found.total, margin)


def _q_rows(network: Network, atoms: Atoms, flattening: Flattening, rows: slice) -> Array:
    """Rows of Q = Σ_k (c_k c_kᵀ)∘G^{∘(k−p)}, times 𝒜 when the outputs are in the columns."""
    c = atoms.hermite(flattening.high)
    cos = np.clip(atoms.unit[rows] @ atoms.unit.T, -1.0, 1.0)
    acc = np.zeros_like(cos)
    term = np.empty_like(cos)
    for k in range(flattening.high, flattening.low - 1, -1):
        np.multiply(c[rows, k, None], c[None, :, k], out=term)
        acc += term
        if k > flattening.low:
            acc *= cos
    for _ in range(flattening.low - flattening.p):
        acc *= cos
    if not flattening.outputs_in_rows:
        acc *= network.alpha[rows] @ network.alpha.T
    return acc


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + _ROWS, n)) for start in range(0, n, _ROWS)]


def _explicit(network: Network, atoms: Atoms, flattening: Flattening) -> tuple[Array, float]:
    """Eigenvalues of FᵀQF with P = FFᵀ, F (n, D), and the margin of forming it."""
    features = symmetric_features(atoms.unit, flattening.p)
    if flattening.outputs_in_rows:
        features = (features[:, :, None] * network.alpha[:, None, :]).reshape(network.width, -1)
    length = np.linalg.norm(features, axis=1)
    image = np.zeros((features.shape[1], features.shape[1]))
    absolute = 0.0
    for rows in _blocks(network.width):
        block = _q_rows(network, atoms, flattening, rows)
        image += features[rows].T @ (block @ features)
        absolute += float(length[rows] @ np.abs(block) @ length)
    margin = UNIT * np.sqrt(features.shape[1]) * (network.width + 8) * absolute
    return linalg.eigvalsh(0.5 * (image + image.T), check_finite=False), float(margin)


def _implicit(network: Network, atoms: Atoms, flattening: Flattening) -> tuple[Array, float]:
    """Eigenvalues of BᵀQB with P = BBᵀ from the eigendecomposition of P (n×n), and the margin of BBᵀ ≈ P."""
    q = np.concatenate([_q_rows(network, atoms, flattening, rows) for rows in _blocks(network.width)])
    cos = np.clip(atoms.unit @ atoms.unit.T, -1.0, 1.0)
    p = cos**flattening.p
    if flattening.outputs_in_rows:
        p *= network.alpha @ network.alpha.T
    values, vectors = linalg.eigh(p, check_finite=False)
    keep = values > UNIT * max(float(values[-1]), 0.0)
    factor = vectors[:, keep] * np.sqrt(values[keep])
    image = factor.T @ q @ factor
    margin = 8 * network.width * UNIT * max(float(values[-1]), 0.0) * float(np.trace(q))
    return linalg.eigvalsh(0.5 * (image + image.T), check_finite=False), margin


@dataclass(frozen=True)
class Trace:
    """``total`` = Σ_k ‖T_k‖² over some degrees, ``absolute`` the same with absolute values, ``mass`` = Σ‖α_i‖‖φ_i‖."""

    total: float
    absolute: float
    mass: float


def trace(network: Network, low: int, high: int) -> Trace:
    """Σ_{k=low}^{high} ‖T_k‖² of a whitened network, in row blocks."""
    atoms = Atoms.of(network)
    weight = np.linalg.norm(network.alpha, axis=1)
    every = Flattening(0, low, high, outputs_in_rows=True)
    total = absolute = 0.0
    for rows in _blocks(network.width):
        block = _q_rows(network, atoms, every, rows)
        total += float(np.sum(network.alpha[rows] * (block @ network.alpha)))
        absolute += float(weight[rows] @ np.abs(block) @ weight)
    return Trace(max(total, 0.0), absolute, float(weight @ atoms.length))
