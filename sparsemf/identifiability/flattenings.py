"""Spectra of flattened Hermite tensors and the lower curve L(S).

In whitened coordinates f = Σ_i α_i φ_i + affine has tensors T_k = Σ_i c_k(i) û_i^{⊗k} ⊗ α_i.  Put p of the k indices in
the rows, for every degree k of an interval, and stack side by side:

    M = [T_k]_k = Σ_i ŵ_i^{⊗p} ⊗ (…)        (outputs in the columns: rank M ≤ number of *directions*)
    M = [T_k]_k = Σ_i (ŵ_i^{⊗p} ⊗ α_i) ⊗ (…)  (outputs in the rows: rank M ≤ number of *atoms*).

The same holds for any S-atom g, so by Eckart–Young ‖f − g‖² ≥ Σ_{j > S} σ_j(M)²; over disjoint intervals of degrees,
each with its own p, the tails of the *groups* add up.  Degrees 0 and 1 are left out where the affine part is free.

**Degrees 0 and 1** (charged affine part).  T_1 = Σ α_i c_1(i) û_i + A and T_0 = Σ α_i c_0(i) + c of the network are
flattened like the others; for an S-atom g without affine part T_1 and T_0 are sums over its atoms alone, w = 0
included (c_0 = σ(b), c_k = 0 beyond).  A row index needs k ≥ p, so degree 1 joins groups with p ≤ 1 and degree 0 those
with p = 0, where M = [T_0, T_1, …] has the outputs as rows: Σ_i α_i ⊗ (c_0(i), c_1(i)û_i, …), rank ≤ min(S, m).
Different p in the rows of *one* matrix would give each atom a rank of its own per p, so for one output degree 0 counts
at S = 0 only.  A constant atom has no direction: curves of directions leave degree 0 out.  A and c enter as d + 1 more
terms, e_j ⊗ A_{·j} of degree 1 and c of degree 0, which are the stored numbers themselves.

Kernel form: σ_j(M)² are the eigenvalues of P·Q with P = G^{∘p} and Q = Σ_k 𝒜∘(c_k c_kᵀ)∘G^{∘(k−p)} (columns), or with
P = G^{∘p}∘𝒜 and Q = Σ_k (c_k c_kᵀ)∘G^{∘(k−p)} (rows); G = ûûᵀ, 𝒜 = ααᵀ.

Tails are verified (:mod:`~sparsemf.identifiability.verified`): with any B such that P = BBᵀ + E,

    Σ_{j > S} λ_j(PQ) ≥ Σ_{j > S} λ_j(BᵀQB) − ‖E‖₂·tr Q,

since λ_j(PQ) = λ_j(Q^{½}BBᵀQ^{½} + Q^{½}EQ^{½}) and the last term has trace norm ≤ ‖E‖₂ tr Q.  B holds the normalised
monomials of the directions where they are fewer than the neurons, else the eigenvectors of P times the roots of its
eigenvalues, E being the residual.  All matrices are made of the stored numbers (α, c, û); their entries and products
are charged with a priori bounds; how far the function with exactly these tensors is from f is
:func:`description_error`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import factorial

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from sparsemf.identifiability.verified import ROUNDOFF, Eigenvalues, eigenvalues
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
    """σ_j(M)², j = 1, 2, …, as verified eigenvalues; ``margin`` is what is taken off any tail."""

    flattening: Flattening
    verified: Eigenvalues

    @property
    def energy(self) -> Array:
        """σ_j(M)² in descending order, as computed."""
        return self.verified.values

    @property
    def margin(self) -> float:
        """What is taken off any tail."""
        return self.verified.margin

    def tails(self, n: int) -> Array:
        """Certified lower bounds of Σ_{j > S} σ_j² for S = 0 … n."""
        return self.verified.tails(n)

    def exceeding(self, level: float) -> int:
        """How many σ_j² are proved to exceed ``level``: the margin bounds the error of every single one (Weyl)."""
        return int(np.sum(self.verified.shrink * self.energy - self.margin > level))


def symmetric_features(unit: Array, p: int) -> Array:
    """Normalised monomials of degree p with F Fᵀ = (û ûᵀ)^{∘p}; shape (n, C(d+p−1, p))."""
    if p == 0:
        return np.ones((unit.shape[0], 1))
    columns = []
    for index in combinations_with_replacement(range(unit.shape[1]), p):
        multiplicity = factorial(p)
        for c in Counter(index).values():
            multiplicity //= factorial(c)
        columns.append(np.sqrt(multiplicity) * np.prod(unit[:, index], axis=1))
    return np.stack(columns, axis=1)


def feature_count(d: int, p: int) -> int:
    """C(d+p−1, p)."""
    out = 1
    for i in range(p):
        out = out * (d + i) // (i + 1)
    return out


@dataclass(frozen=True, eq=False)
class _Terms:
    """T_k = Σ_i c_ik α_i û_i^{⊗k}: ``unit`` (n, d), ``alpha`` (n, m), ``c`` (n, K + 1)."""

    unit: Array
    alpha: Array
    c: Array

    @staticmethod
    def of(network: Network, low: int, high: int) -> _Terms:
        """The atoms of a whitened network without a quadratic part, with what A and c add to the degrees 1 and 0."""
        atoms = Atoms.of(network)
        unit, alpha, c = [atoms.unit], [network.alpha], [atoms.hermite(high)]
        if low <= 1 <= high:
            axes = np.flatnonzero(network.affine.any(axis=0))
            unit.append(np.eye(network.d)[axes])
            alpha.append(network.affine.T[axes])
            c.append(np.tile(np.eye(1, high + 1, 1), (axes.size, 1)))
        if low == 0 and network.offset.any():
            unit.append(np.zeros((1, network.d)))
            alpha.append(network.offset[None])
            c.append(np.eye(1, high + 1))
        return _Terms(np.concatenate(unit), np.concatenate(alpha), np.concatenate(c))

    @property
    def n(self) -> int:
        """Number of terms."""
        return self.c.shape[0]


def spectrum(network: Network, flattening: Flattening) -> Spectrum:
    """The spectrum of one flattening of a whitened network; no n×n array when the row space is smaller than n."""
    terms = _Terms.of(network, flattening.low, flattening.high)
    columns = feature_count(network.d, flattening.p) * (network.m if flattening.outputs_in_rows else 1)
    explicit = columns <= terms.n
    factor, missing = _features(terms, flattening) if explicit else _root(terms, flattening)
    weight = np.ones(terms.n) if flattening.outputs_in_rows else np.linalg.norm(terms.alpha, axis=1)
    c = terms.c[:, flattening.low :]
    degrees = np.arange(flattening.low, flattening.high + 1)
    size, steep = weight * np.linalg.norm(c, axis=1), weight * np.linalg.norm(c * np.sqrt(degrees), axis=1)
    length = np.linalg.norm(factor, axis=1)
    image, absolute = np.zeros((factor.shape[1], factor.shape[1])), 0.0
    for rows in _blocks(terms.n):
        block = _q_rows(terms, flattening, rows)
        image += factor[rows].T @ (block @ factor)
        absolute += float(length[rows] @ np.abs(block) @ length)
    # |fl(Q) − Q|_ij ≤ (Horner, products with 𝒜)·size_i size_j + (the cosines' inner products)·steep_i steep_j
    entries = (3 * flattening.high + network.m + 16) * ROUNDOFF * float(length @ size) ** 2
    entries += (network.d + 2) * ROUNDOFF * float(length @ steep) ** 2
    products = 2 * (terms.n + 8) * ROUNDOFF * absolute
    found = eigenvalues(image, (entries + products) * (1 + 1e-10))
    traced = missing * float(size @ size) * (1 + 1e-10)
    return Spectrum(flattening, Eigenvalues(found.values, found.shrink, found.margin + traced))


def description_error(network: Network, degree: int) -> float:
    """‖f − f̂‖ (A and c apart, which are exact) for the function f̂ with the tensors Σ α_i c_k(i) û_i^{⊗k} of the
    *stored* α, c, û, up to the degree considered: c to (ENTRY_ULPS)·UNIT·‖φ_i‖ (the stated accuracy of the
    activations' coefficients; of :attr:`Atoms.entry_length` where σ′ is unbounded), û to (d + 8)u, which k indices
    see k times."""
    atoms = Atoms.of(network)
    weight = np.linalg.norm(network.alpha, axis=1)
    steep = np.linalg.norm(atoms.hermite(degree) * np.arange(degree + 1.0), axis=1)
    return UNIT * float(weight @ (ENTRY_ULPS * atoms.entry_length + (network.d + 8) * steep))


def _q_rows(terms: _Terms, flattening: Flattening, rows: slice) -> Array:
    """Rows of Q = Σ_k (c_k c_kᵀ)∘G^{∘(k−p)}, times 𝒜 when the outputs are in the columns."""
    c = terms.c
    cos = terms.unit[rows] @ terms.unit.T
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
        acc *= terms.alpha[rows] @ terms.alpha.T
    return acc


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + _ROWS, n)) for start in range(0, n, _ROWS)]


def _features(terms: _Terms, flattening: Flattening) -> tuple[Array, float]:
    """(F, bound of ‖P − FFᵀ‖): the monomials (n, D), each entry to (p + 4) roundings."""
    features = symmetric_features(terms.unit, flattening.p)
    if flattening.outputs_in_rows:
        features = (features[:, :, None] * terms.alpha[:, None, :]).reshape(terms.n, -1)
    return features, 2.1 * (flattening.p + 5) * ROUNDOFF * float(np.sum(features**2))


def _root(terms: _Terms, flattening: Flattening) -> tuple[Array, float]:
    """(B, bound of ‖P − BBᵀ‖) from the eigendecomposition of P (n×n), the residual verified."""
    (n, d), m, p = terms.unit.shape, terms.alpha.shape[1], flattening.p
    target = terms.unit @ terms.unit.T
    target = np.ones_like(target) if p == 0 else target**p
    weight = np.ones(n)
    if flattening.outputs_in_rows:
        target *= terms.alpha @ terms.alpha.T
        weight = np.sum(terms.alpha**2, axis=1)
    values, vectors = linalg.eigh(target, check_finite=False)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    rest = target - root @ root.T
    lost = (n + 4) * ROUNDOFF * float(np.sum(root**2))
    lost += (p * (d + 4) + m + 8) * ROUNDOFF * float(weight.sum())
    return root, (float(np.linalg.norm(rest)) + lost) * (1 + (n * n + 8) * ROUNDOFF)
