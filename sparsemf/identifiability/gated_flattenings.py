"""Spectra of the flattened Hermite tensors of gated networks.

In whitened coordinates f = Σ_i α_i σ(u_i)ℓ_i + a quadratic polynomial has the tensors (:mod:`~sparsemf.measures.gated`)
T_k = Σ_i [A_k(i) ĝ_i^{⊗k} + √k c_{k−1}(i) Sym(ĝ_i^{⊗(k−1)} ⊗ v_i)] ⊗ α_i.  Put p ≥ 1 of the k indices in the rows and
q = k − p in the columns: v lies in the rows with probability p/k, so that with S_p(ĝ, v) = √p Sym(ĝ^{⊗(p−1)} ⊗ v)

    T_k = Σ_i [ĝ^{⊗p} ⊗ (A_k ĝ^{⊗q} + √(q/k) c_{k−1} S_q(ĝ, v)) + S_p(ĝ, v) ⊗ √(p/k) c_{k−1} ĝ^{⊗q}] ⊗ α_i.

**Claim.**  Any network of S gated atoms - of these gates or others, whatever its quadratic part - has rank ≤ 2S in
every such flattening M = [T_k]_k of degrees k ≥ 3, the outputs in the columns or in the rows, and rank ≤ S for p = 0
with the outputs in the rows.  So ‖f − g‖² ≥ Σ_{j > 2S} σ_j(M)² (Eckart–Young; the flattening keeps lengths, and a
quadratic polynomial has no such degrees), and over disjoint intervals of degrees these squares add up.  *Proof*: the
rows of an atom are spanned by ĝ^{⊗p} and S_p(ĝ, v) (times α), for p = 0 by α.  ∎  An atom is a pair (α, ℓ) at a gate:
the matrix Σ α ⊗ ℓ of a shared gate counts with its rank, which is the least number of such pairs.

Nothing of this asks for k ≥ 3 but the free quadratic part: where only a constant, or nothing, is free beside the atoms,
the degrees from 1, or 0, on take part (c_{−1} = 0, and p ≤ k).  An atom whose gate is constant has T₀ = c₀e and T₁ =
c₀v (ĝ = 0), so f's A and c are such atoms.

Kernel form: the σ_j² are the eigenvalues of P·Q, P the Gram matrix (2n, 2n) of the row vectors, Q of the column
vectors; with x = ⟨ĝ, v′⟩, z = ⟨v, ĝ′⟩, y = ⟨v, v′⟩ both are made of the blocks

    ⟨ĝ^p, ĝ′^p⟩ = ρ^p,  ⟨ĝ^p, S_p′⟩ = √p ρ^{p−1}x,  ⟨S_p, ĝ′^p⟩ = √p ρ^{p−1}z,  ⟨S_p, S_p′⟩ = ρ^{p−1}y + (p−1)ρ^{p−2}xz.

Tails are verified as in :mod:`~sparsemf.identifiability.flattenings`, with B the coordinates of the row vectors in the
normalised monomials where these are fewer than 2n, else a root of P.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import factorial

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from sparsemf.identifiability.flattenings import Flattening, Spectrum, feature_count, symmetric_features
from sparsemf.identifiability.verified import ROUNDOFF, Eigenvalues, eigenvalues
from sparsemf.measures import Network
from sparsemf.measures.gated import GatedAtoms
from sparsemf.measures.gaussian import ENTRY_ULPS, UNIT

Array = NDArray[np.float64]

_NEURONS = 256


def rows_per_atom(flattening: Flattening) -> int:
    """The rank of one atom: 2, and 1 for p = 0."""
    return 2 if flattening.p else 1


def tangent_features(unit: Array, v: Array, p: int) -> Array:
    """S_p(ĝ, v) in the coordinates of :func:`symmetric_features`, (n, C(d+p−1, p)): the derivative of those along v,
    divided by √p."""
    columns = []
    for index in combinations_with_replacement(range(unit.shape[1]), p):
        multiplicity = factorial(p)
        for c in np.unique(index, return_counts=True)[1]:
            multiplicity //= factorial(int(c))
        total = np.zeros(unit.shape[0])
        for place in range(p):
            rest = list(index[:place] + index[place + 1 :])
            total += v[:, index[place]] * np.prod(unit[:, rest], axis=1)
        columns.append(np.sqrt(multiplicity / p) * total)
    return np.stack(columns, axis=1)


def gated_spectrum(network: Network, flattening: Flattening) -> Spectrum:
    """The spectrum of one flattening of a whitened gated network; tails are to be read at 2S (p = 0: at S)."""
    atoms, p = GatedAtoms.of(network), flattening.p
    n, d, m, stride = network.width, network.d, network.m, rows_per_atom(flattening)
    length = np.linalg.norm(network.alpha, axis=1)
    heavy, light = (length, np.ones(n)) if flattening.outputs_in_rows else (np.ones(n), length)
    across = np.linalg.norm(atoms.across, axis=1)
    # lengths of the row vectors, √p‖v‖ of S_p also in absolute value
    rows = _interleaved(heavy, np.sqrt(p) * across * heavy) if p else heavy
    columns = feature_count(d, p) * (m if flattening.outputs_in_rows else 1)
    if columns <= stride * n:
        factor = _features(network, atoms, flattening)
        missing = 2.1 * (2 * p + m + 6) * ROUNDOFF * float(rows @ rows) * (1 + ROUNDOFF * 64)
    else:
        factor, missing = _root(network, atoms, flattening, rows)
    sizes, steep = _column_sizes(atoms, flattening, light)
    reach = np.linalg.norm(factor, axis=1)
    image, absolute = np.zeros((factor.shape[1], factor.shape[1])), 0.0
    for start in range(0, n, _NEURONS):
        block = _q_rows(network, atoms, flattening, slice(start, start + _NEURONS))
        own = slice(stride * start, stride * start + block.shape[0])
        image += factor[own].T @ (block @ factor)
        absolute += float(reach[own] @ np.abs(block) @ reach)
    # products of powers and coefficients, sums over degrees and 𝒜; inner products, once for every power
    entries = (3 * flattening.high + m + 24) * ROUNDOFF * float(reach @ sizes) ** 2
    entries += (d + 3) * ROUNDOFF * float(reach @ steep) ** 2
    products = 2 * (stride * n + 8) * ROUNDOFF * absolute
    found = eigenvalues(image, (entries + products) * (1 + 1e-10))
    traced = missing * float(sizes @ sizes) * (1 + 1e-10)
    return Spectrum(flattening, Eigenvalues(found.values, found.shrink, found.margin + traced))


def gated_description_error(network: Network, degree: int) -> float:
    """‖f − f̂‖ beyond what is free for the function f̂ with the tensors of the *stored* α, A_k, c_{k−1}, ĝ, v up to
    ``degree``: the coefficients of σ to (ENTRY_ULPS)·UNIT·‖σ(u)‖, which A_k and √k c_{k−1} see at most 4√(K + 2) times
    ‖ℓ‖; ĝ to (d + 8)u, which k indices see k times; p and v to (2d + 8)u·‖ℓ‖."""
    atoms = GatedAtoms.of(network)
    weight = np.linalg.norm(network.alpha, axis=1)
    own, before = atoms.hermite(degree)
    k = np.arange(degree + 1.0)
    across = np.linalg.norm(atoms.across, axis=1)[:, None]
    steep = np.linalg.norm(k * (np.abs(own) + np.sqrt(k) * across * np.abs(before)), axis=1)
    grow = 4 * np.sqrt(degree + 2.0) * (ENTRY_ULPS + 2 * network.d + 8)
    return UNIT * float(weight @ (grow * atoms.size * atoms.gates.length + (network.d + 8) * steep))


def _interleaved(first: Array, second: Array) -> Array:
    """first_1, second_1, first_2, … along the first axis."""
    return np.stack([first, second], axis=1).reshape(2 * first.shape[0], *first.shape[1:])


def _features(network: Network, atoms: GatedAtoms, flattening: Flattening) -> Array:
    """The row vectors' coordinates, (2n, D) or (n, D) for p = 0; an entry of S_p to (2p + 4) roundings."""
    found = symmetric_features(atoms.unit, flattening.p)
    if flattening.p:
        found = _interleaved(found, tangent_features(atoms.unit, atoms.across, flattening.p))
    if flattening.outputs_in_rows:
        alpha = np.repeat(network.alpha, rows_per_atom(flattening), axis=0)
        found = (found[:, :, None] * alpha[:, None, :]).reshape(found.shape[0], -1)
    return found


def _root(network: Network, atoms: GatedAtoms, flattening: Flattening, rows: Array) -> tuple[Array, float]:
    """(B, bound of ‖P − BBᵀ‖) from the eigendecomposition of P, the residual verified."""
    n, p = network.width, flattening.p
    target = _blocks(atoms, slice(None), p) if p else np.ones((n, n))
    if flattening.outputs_in_rows:
        stride = rows_per_atom(flattening)
        target *= np.repeat(np.repeat(network.alpha @ network.alpha.T, stride, axis=0), stride, axis=1)
    target = 0.5 * (target + target.T)
    values, vectors = linalg.eigh(target, check_finite=False)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    size = target.shape[0]
    lost = (size + 4) * ROUNDOFF * float(np.sum(root**2))
    lost += (p * (network.d + 4) + network.m + 16) * ROUNDOFF * float(rows @ rows)
    rest = float(np.linalg.norm(target - root @ root.T))
    return root, (rest + lost) * (1 + (size * size + 8) * ROUNDOFF)


def _blocks(atoms: GatedAtoms, rows: slice, p: int) -> Array:
    """Rows of the Gram matrix of ĝ^p and S_p, interleaved."""
    one, three = atoms.unit[rows], atoms.across[rows]
    rho, x = one @ atoms.unit.T, one @ atoms.across.T
    z, y = three @ atoms.unit.T, three @ atoms.across.T
    before = rho ** (p - 1)
    last = before * y + (0.0 if p < 2 else (p - 1) * rho ** (p - 2) * x * z)
    return _interleaved_blocks(before * rho, np.sqrt(p) * before * x, np.sqrt(p) * before * z, last)


def _interleaved_blocks(gg: Array, gs: Array, sg: Array, ss: Array) -> Array:
    rows, columns = gg.shape
    out = np.empty((rows, 2, columns, 2))
    out[:, 0, :, 0], out[:, 0, :, 1], out[:, 1, :, 0], out[:, 1, :, 1] = gg, gs, sg, ss
    return out.reshape(2 * rows, 2 * columns)


def _column_sizes(atoms: GatedAtoms, flattening: Flattening, light: Array) -> tuple[Array, Array]:
    """Lengths (in absolute values) of the column vectors, and the same with the degrees weighted by √(q + 2)."""
    own, before = atoms.hermite(flattening.high)
    k = np.arange(flattening.low, flattening.high + 1.0)
    q = k - flattening.p
    own, before = np.abs(own[:, flattening.low :]), np.abs(before[:, flattening.low :])
    across = np.linalg.norm(atoms.across, axis=1)[:, None]
    whole = np.maximum(k, 1.0)  # c_{−1} = 0
    first = own + q / np.sqrt(whole) * across * before
    second = np.sqrt(flattening.p / whole) * before

    def lengths(weights: Array) -> Array:
        left = light * np.linalg.norm(first * weights, axis=1)
        if not flattening.p:
            return left
        return _interleaved(left, light * np.linalg.norm(second * weights, axis=1))

    return lengths(np.ones(k.size)), lengths(np.sqrt(q + 2))


def _q_rows(network: Network, atoms: GatedAtoms, flattening: Flattening, rows: slice) -> Array:
    """Rows of Q, degree by degree, times 𝒜 when the outputs are in the columns."""
    p, low, high = flattening.p, flattening.low, flattening.high
    own, before = atoms.hermite(high)
    one, three = atoms.unit[rows], atoms.across[rows]
    rho, x = one @ atoms.unit.T, one @ atoms.across.T
    z, y = three @ atoms.unit.T, three @ atoms.across.T
    cross = x * z
    zero = np.zeros_like(rho)
    gg, gs, sg, ss = zero.copy(), zero.copy(), zero.copy(), zero.copy()
    powers = [zero, zero, np.ones_like(rho)]  # ρ^{q−2}, ρ^{q−1}, ρ^q at q = 0
    for q in range(high - p + 1):
        k = q + p
        if q:
            powers = [powers[1], powers[2], powers[2] * rho]
        if k < low:
            continue
        whole = max(k, 1)  # c_{−1} = 0
        a, b, s = own[:, k], np.sqrt(q / whole) * before[:, k], np.sqrt(p / whole) * before[:, k]
        ar, br, sr = a[rows, None], b[rows, None], s[rows, None]
        gg += ar * a * powers[2]
        if q:
            gg += np.sqrt(q) * (ar * b * x + br * a * z) * powers[1]
            gg += br * b * (powers[1] * y + (q - 1) * powers[0] * cross)
        if p:
            gs += ar * s * powers[2] + np.sqrt(q) * br * s * powers[1] * z
            sg += sr * a * powers[2] + np.sqrt(q) * sr * b * powers[1] * x
            ss += sr * s * powers[2]
    out = _interleaved_blocks(gg, gs, sg, ss) if p else gg
    if not flattening.outputs_in_rows:
        weight = network.alpha[rows] @ network.alpha.T
        stride = rows_per_atom(flattening)
        out *= np.repeat(np.repeat(weight, stride, axis=0), stride, axis=1)
    return out
