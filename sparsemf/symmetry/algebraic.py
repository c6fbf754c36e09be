"""linear and z² (and He₂ = z² − 1): only Σ α wᵀ, or the quadratic forms Σ α_j wwᵀ, are seen beside an affine function.

*linear.*  f = M x + k with M = Σ α_i w_iᵀ + A, k = Σ α_i b_i + c.  Canonical: the singular value decomposition
M = Σ s_r u_r v_rᵀ as atoms (s_r u_r, v_r, 0) and offset k; S* = rank M, and 0 when the affine part is free.

*quadratic.*  α(⟨w, x⟩ + b)² = α⟨w, x⟩² + an affine function, so the atoms' part is the form
F_j = Σ_i α_ij w_i w_iᵀ + Q_j of every output j.  One output: the eigendecomposition F = Σ λ_r v_r v_rᵀ as atoms
(λ_r, v_r, 0), S* = rank F (with an affine part).  Several outputs: Σ α ⊗ w ⊗ w is a tensor; lines ±w are merged and
normalised, and the rest is unique only below Kruskal's bound (:func:`kruskal`).

Cubic and higher Hermite activations: Σ α ⊗ w̃^{⊗k} likewise, w̃ = (w, b); their quotient merges and normalises.

Numbers below 64 units in the last place of Σ‖α_i‖‖w_i‖^k (+ ‖A‖ or ‖Q‖) count as 0 and are charged to the error.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.measures.gaussian import UNIT
from sparsemf.symmetry.canonical import (
    MERGE_ULPS,
    SILENT,
    Quotient,
    Remainder,
    built,
    direction_sign,
    functional,
    polynomial_coefficients,
    rounding,
    still,
)
from sparsemf.symmetry.metric import leaders

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_SEPARATED = 1e-8
"""Singular values closer than this, relative to the largest, do not determine their vectors."""
_EXHAUSTIVE = 12
_INDEPENDENT = 1e-10


def degree_of(activation: Activation) -> int | None:
    """n of a polynomial activation of degree n, else None."""
    return activation.polynomial_degree


def is_algebraic(activation: Activation) -> bool:
    """Whether the canonical form is that of this module: polynomials of degree 1 and 2."""
    return degree_of(activation) in (1, 2)


def algebraic_quotient(network: Network) -> Quotient:
    """The canonical form of a linear or quadratic network."""
    silent = ~network.alpha.any(axis=1)
    constant = ~silent & still(network, network.inner, network.bias)
    rows = np.flatnonzero(~silent & ~constant)
    remainder = Remainder(network)
    alpha, inner, bias = network.alpha, network.inner, network.bias
    coefficients = polynomial_coefficients(network.activation)
    remainder.offset += alpha[constant].T @ np.polynomial.polynomial.polyval(bias[constant], coefficients)
    alpha, inner, bias = alpha[rows], inner[rows], bias[rows]
    if degree_of(network.activation) == 1:
        found = _matrix(network, remainder, alpha, inner, bias)
    elif network.m == 1:
        found = _form(network, remainder, alpha, inner, bias)
    else:
        found = _lines(network, remainder, alpha, inner, bias)
    width, kept = network.width, found.outer.shape[0]
    label, carrier = np.full(width, -1, dtype=np.int64), np.full(kept, -1, dtype=np.int64)
    order = np.argsort(functional(np.pad(found.inner, ((0, 0), (0, 1)))), kind="stable")
    place = np.argsort(order)
    if found.owner is None:
        count = min(kept, rows.size)
        carrier[order[:count]] = rows[:count]
        carrier = carrier[order]
    else:
        label[rows] = np.where(found.owner >= 0, place[found.owner] if kept else -1, -1)
        for i in rows[::-1]:
            if label[i] >= 0:
                carrier[label[i]] = i
    share = np.zeros((width, network.m))
    share[rows] = alpha
    return Quotient(
        source=network,
        network=built(network, found.outer[order], found.inner[order], np.zeros(kept), remainder),
        inactive={"zero_outer": int(silent.sum()), "constant": int(constant.sum())},
        flips=0,
        merged=max(int(rows.size) - kept - found.cancelled, 0),
        cancelled=found.cancelled,
        merge_error=found.error,
        rounding=rounding(network),
        label=label,
        sign=np.ones(width, dtype=np.int64),
        stretch=np.ones(width),
        share=share,
        carrier=carrier,
        unique=found.unique,
    )


@dataclass(frozen=True, eq=False)
class _Atoms:
    """Canonical atoms (bias 0); ``owner`` is the atom of every active neuron where there is one."""

    outer: Array
    inner: Array
    error: float
    cancelled: int
    unique: bool
    owner: Integers | None


def _matrix(network: Network, remainder: Remainder, alpha: Array, inner: Array, bias: Array) -> _Atoms:
    matrix = alpha.T @ inner + remainder.affine
    mass = float(np.linalg.norm(alpha, axis=1) @ np.linalg.norm(inner, axis=1)) + float(
        np.linalg.norm(remainder.affine)
    )
    remainder.offset = remainder.offset + alpha.T @ bias
    remainder.affine = np.zeros_like(remainder.affine)
    left, size, right = np.linalg.svd(matrix, full_matrices=False)
    kept = size > max(MERGE_ULPS * UNIT * mass, SILENT)
    sign = direction_sign(right[kept]).astype(np.float64)
    return _Atoms(
        outer=sign[:, None] * size[kept, None] * left.T[kept],
        inner=sign[:, None] * right[kept],
        error=float(np.sum(size[~kept])),
        cancelled=0,
        unique=_separated(size[kept]),
        owner=None,
    )


def _form(network: Network, remainder: Remainder, alpha: Array, inner: Array, bias: Array) -> _Atoms:
    constant, linear, square = polynomial_coefficients(network.activation)
    _pay_beside_form(remainder, alpha, inner, bias, constant, linear, square)
    form = (inner * alpha).T @ inner * square
    mass = float(np.abs(alpha[:, 0]) @ np.sum(inner**2, axis=1)) * abs(square)
    if remainder.forms is not None:
        form = form + remainder.forms[0]
        mass += float(np.linalg.norm(remainder.forms))
        remainder.forms = None
    value, vector = np.linalg.eigh(form)
    kept = np.abs(value) > max(MERGE_ULPS * UNIT * mass, SILENT)
    outer = value[kept, None] / square
    inner = vector.T[kept] * direction_sign(vector.T[kept]).astype(np.float64)[:, None]
    # P(⟨v, x⟩) has a constant of its own
    remainder.offset = remainder.offset - constant * outer.sum(axis=0)
    lost = value[~kept]
    return _Atoms(
        outer=outer,
        inner=inner,
        # ‖⟨v, x⟩²‖ = √3
        error=3.0**0.5 * float(np.sum(np.abs(lost))),
        cancelled=0,
        unique=_separated(np.sort(value[kept])),
        owner=None,
    )


def _lines(network: Network, remainder: Remainder, alpha: Array, inner: Array, bias: Array) -> _Atoms:
    constant, linear, square = polynomial_coefficients(network.activation)
    _pay_beside_form(remainder, alpha, inner, bias, constant, linear, square)
    length = np.linalg.norm(inner, axis=1)
    unit = inner / np.where(np.abs(length - 1) <= 8 * UNIT, 1.0, length)[:, None]
    kappa = alpha * length[:, None] * length[:, None]
    lead, sign = leaders(unit, np.full(length.size, MERGE_ULPS * UNIT), flips=True)
    side = sign * direction_sign(unit)[lead]
    unit = side[:, None] * unit
    heads, group = np.unique(lead, return_inverse=True)
    total, mass = np.zeros((heads.size, network.m)), np.zeros(heads.size)
    np.add.at(total, group, kappa)
    weight = np.linalg.norm(kappa, axis=1)
    np.add.at(mass, group, weight)
    # ‖⟨u, x⟩² − ⟨v, x⟩²‖ ≤ √3‖u − v‖‖u + v‖
    error = 2 * 3.0**0.5 * abs(square) * float(weight @ np.linalg.norm(unit - unit[heads][group], axis=1))
    alive = np.linalg.norm(total, axis=1) > 16 * UNIT * mass * (np.bincount(group, minlength=heads.size) > 1)
    alive &= np.max(np.abs(total), axis=1, initial=0.0) > SILENT
    error += 3.0**0.5 * abs(square) * float(np.abs(total[~alive]).sum())
    remainder.offset = remainder.offset - constant * total[alive].sum(axis=0)
    place = np.where(alive, np.cumsum(alive) - 1, -1)
    return _Atoms(
        outer=total[alive],
        inner=unit[heads[alive]],
        error=error,
        cancelled=int((~alive).sum()),
        unique=False,
        owner=place[group],
    )


def _pay_beside_form(
    remainder: Remainder, alpha: Array, inner: Array, bias: Array, constant: float, linear: float, square: float
) -> None:
    """α P(z) − α p₂⟨w, x⟩²: an affine function."""
    remainder.pay(alpha, inner, bias, (constant, linear))
    remainder.affine += 2 * square * ((alpha * bias[:, None]).T @ inner)
    remainder.offset += square * (alpha.T @ bias**2)


def _separated(values: Array) -> bool:
    if values.size < 2:
        return True
    gaps = np.abs(np.diff(values))
    return bool(gaps.min() > _SEPARATED * np.max(np.abs(values)))


def moments(network: Network) -> tuple[Array, ...]:
    """All that a polynomial network's function depends on, as arrays that add up over networks.

    linear: (M (m, d), k (m,)); degree 2: (F (m, d, d), A (m, d), c (m,)); degree n ≥ 3: f's homogeneous
    parts as symmetric tensors (m, d, …, d) of orders n, …, 0.  Raises :class:`InputError` for an activation that is no
    polynomial, and where the largest tensor has more than 5·10⁶ entries.
    """
    degree = degree_of(network.activation)
    if degree is None or network.gated:
        raise InputError(f"activation: expected a polynomial without a gate, got {network.activation.name}")
    if network.m * network.d**degree > 5_000_000:
        raise InputError(f"expected at most 5,000,000 entries m·d^{degree}, got m = {network.m}, d = {network.d}")
    derivatives = [np.array(polynomial_coefficients(network.activation)[: degree + 1])]
    for k in range(degree):
        derivatives.append(np.polynomial.polynomial.polyder(derivatives[-1]) / (k + 1))
    out = [np.zeros((network.m,) + (network.d,) * order) for order in range(degree, -1, -1)]
    rows = max(1, 20_000_000 // (network.m * network.d**degree))
    for start in range(0, network.width, rows):
        part = slice(start, start + rows)
        inner, bias = network.inner[part], network.bias[part]
        for k, tensor in enumerate(out):
            # Taylor: P(⟨w, x⟩ + b) = Σ_j P^{(j)}(b)/j!·⟨w, x⟩^j
            order = degree - k
            own = network.alpha[part].T * np.polynomial.polynomial.polyval(bias, derivatives[order])
            for _ in range(order):
                own = own[..., None] * inner.reshape((1, bias.size, *(1,) * (own.ndim - 2), network.d))
            tensor += own.sum(axis=1)
    out[-1] = out[-1] + network.offset
    out[-2] = out[-2] + network.affine
    if network.quadratic is not None:
        if degree < 2:
            out.insert(0, network.quadratic)
        else:
            out[-3] = out[-3] + network.quadratic
    return tuple(out)


@dataclass(frozen=True)
class Kruskal:
    """Kruskal's condition for Σ_i α_i ⊗ w_i^{⊗n}: k_outer + n·k_inner ≥ 2S + n (one output: n·k_inner ≥ 2S + n − 1).

    ``unique``: it holds, so the atoms are the only S (up to scale and order), numerically.  ``exact``: the k-ranks were
    found by trying all subsets; otherwise they are lower bounds from the largest cosine.
    """

    atoms: int
    k_outer: int
    k_inner: int
    unique: bool
    exact: bool


def kruskal(network: Network, part: Literal["top", "all"] | None = None) -> Kruskal:
    """Test Kruskal's bound at the canonical form of a polynomial network of degree n ≥ 2.

    ``part``: with "all" (default for homogeneous σ) the vectors are (w, b), with "top" (default for Hermite
    activations, whose top degree is Σ α ⊗ w^{⊗n}) they are w.  Exact for at most 12 atoms, in floating point with
    threshold 1e-10 on smallest singular values.  Raises :class:`InputError` for other activations.
    """
    degree = degree_of(network.activation)
    if degree is None or degree < 2 or network.gated:
        raise InputError(f"activation: expected a polynomial of degree at least 2, got {network.activation.name}")
    part = part or ("all" if network.activation.homogeneous else "top")
    points = network.inner if part == "top" else np.concatenate([network.inner, network.bias[:, None]], axis=1)
    count = network.width
    inner, exact = k_rank(points)
    outer, exact_outer = k_rank(network.alpha)
    if network.m == 1:
        holds = degree * inner >= 2 * count + degree - 1 and outer >= 1
    else:
        holds = outer + degree * inner >= 2 * count + degree
    # for one atom there is nothing to distinguish
    return Kruskal(count, outer, inner, holds or count <= 1, exact and exact_outer)


def k_rank(vectors: Array) -> tuple[int, bool]:
    """(k, exact): the largest k such that any k rows are independent; a lower bound for more than 12 rows.

    For many rows: any k unit vectors with |cos| ≤ μ and (k − 1)μ < 1 are independent (Gershgorin).
    """
    length = np.linalg.norm(vectors, axis=1)
    if not vectors.shape[0] or (length == 0).any():
        return 0, True
    unit = vectors / length[:, None]
    n, d = unit.shape
    if n > _EXHAUSTIVE:
        cosine = np.abs(unit @ unit.T)
        np.fill_diagonal(cosine, 0.0)
        largest = min(float(cosine.max()) + 64 * UNIT, 1.0)
        if largest >= 1.0 - _INDEPENDENT:
            return 1, False
        return min(int(np.ceil(1.0 / largest)), n, d) if largest > 0 else min(n, d), False
    for k in range(2, min(n, d) + 1):
        for rows in combinations(range(n), k):
            if np.linalg.svd(unit[list(rows)], compute_uv=False)[-1] <= _INDEPENDENT:
                return k - 1, True
    return min(n, d), True
