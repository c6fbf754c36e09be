"""The Jacobian of Ψ_D in polar coordinates, in float64.

With c_k = c_k(r, b) and f_k(u) the vector of √(k!/γ!)·u^γ, |γ| = k (so ⟨f_k(u), f_k(v)⟩ = ⟨u, v⟩^k):

    T_k = Σ α c_k f_k(ŵ);   ∂/∂α_j: c_k f_k;   ∂/∂(turn e ⟂ ŵ): α c_k Df_k(ŵ)[e];
    r∂_r c_k = k c_k + √((k+1)(k+2)) c_{k+2};   r∂_b c_k = √(k+1) c_{k+1}   (Stein).

*Large d.*  Let the atoms span V, dim V = q.  Columns of turns and coefficients inside V lie in Sym(V); the turn of an
atom towards a unit e ⟂ V gives α_i c_k √k·(e ⊙ f_{k−1}(ŵ_i)), a space of its own for each e of an orthonormal basis of
V^⊥.  Hence

    rank JΨ_D = rank (JΨ_D on V) + (d − q)·rank (α_i c_k √k f_{k−1}(ŵ_i))_i,

and only q ≤ min(S, d) coordinates are ever formed (:func:`numeric_rank`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from sparsemf.exceptions import InputError
from sparsemf.identifiability.depths.family import Family

Array = NDArray[np.float64]

TOLERANCE = 1e-9
MOST_ENTRIES = 40_000_000


def _exponents(d: int, k: int) -> NDArray[np.int64]:
    """The exponents γ of degree k, shape (dim Sym^k, d)."""
    rows = [np.bincount(np.array(g, dtype=np.int64), minlength=d) for g in combinations_with_replacement(range(d), k)]
    return np.array(rows, dtype=np.int64).reshape(-1, d)


def features(u: Array, k: int) -> tuple[Array, Array]:
    """(f_k (n, D), Df_k (n, D, d)) at the rows of u."""
    gamma = _exponents(u.shape[1], k)
    weight = np.sqrt([math.factorial(k) / math.prod(math.factorial(int(g)) for g in row) for row in gamma])
    powers = u[:, None, :] ** gamma  # 0⁰ = 1
    value = np.prod(powers, axis=2)
    slope = np.empty((*value.shape, u.shape[1]))
    for e in range(u.shape[1]):
        lowered = gamma.copy()
        lowered[:, e] = np.maximum(lowered[:, e] - 1, 0)
        slope[:, :, e] = gamma[:, e] * np.prod(u[:, None, :] ** lowered, axis=2)
    return value * weight, slope * weight[:, None]


def frames(unit: Array) -> Array:
    """Orthonormal bases of ŵ_i^⊥, shape (n, d, d − 1)."""
    n, d = unit.shape
    out = np.empty((n, d, d - 1))
    for i, u in enumerate(unit):
        out[i] = np.linalg.qr(np.concatenate([u[:, None], np.eye(d)], axis=1))[0][:, 1:d]
    return out


def levels(family: Family, w: Array, b: Array, degree: int) -> tuple[Array, Array, Array]:
    """c_k, r∂_r c_k, r∂_b c_k for k ≤ ``degree``, each (n, degree + 1)."""
    r = np.linalg.norm(w, axis=1)
    c = family.activation.hermite(r, b, degree + 2)
    k = np.arange(degree + 1)
    return c[:, :-2], k * c[:, :-2] + np.sqrt((k + 1.0) * (k + 2.0)) * c[:, 2:], np.sqrt(k + 1.0) * c[:, 1:-1]


def jacobian(family: Family, alpha: Array, w: Array, b: Array, degrees: Sequence[int]) -> Array:
    """JΨ on those degrees without the free part, shape (m Σ dim Sym^k, S(m + d + bias)); columns atom by atom: α, r (in
    units of r), turns, b (in units of r).

    Raises :class:`InputError` where it would have more than 4·10⁷ entries.
    """
    n, d, m = w.shape[0], w.shape[1], alpha.shape[1]
    count = sum(math.comb(d + k - 1, k) for k in degrees) * m
    if count * n * (m + d + 1) > MOST_ENTRIES:
        raise InputError(f"depth: the Jacobian of {n} atoms in {d} dimensions up to degree {max(degrees)} is too large")
    unit = w / np.linalg.norm(w, axis=1, keepdims=True)
    c, by_r, by_b = levels(family, w, b, max(degrees, default=0))
    turned, eye, rows = frames(unit), np.eye(m), []
    for k in degrees:
        f, slope = features(unit, k)
        turns = np.einsum("nDe,net->nDt", slope, turned)
        blocks = []
        for i in range(n):
            parts = [np.kron(eye, c[i, k] * f[i][:, None]), np.kron(alpha[i][:, None], by_r[i, k] * f[i][:, None])]
            parts.append(np.kron(alpha[i][:, None], c[i, k] * turns[i]))
            if family.bias:
                parts.append(np.kron(alpha[i][:, None], by_b[i, k] * f[i][:, None]))
            blocks.append(np.concatenate(parts, axis=1))
        rows.append(np.concatenate(blocks, axis=1))
    return np.concatenate(rows) if rows else np.zeros((0, n * (m + d + family.bias)))


def _rank(matrix: Array, tolerance: float) -> int:
    if not matrix.size:
        return 0
    # rows of one degree and columns of one parameter have sizes of their own
    for axis in (1, 0, 1, 0):
        size = np.linalg.norm(matrix, axis=axis, keepdims=True)
        matrix = matrix / np.where(size > 0, size, 1.0)
    values = np.linalg.svd(matrix, compute_uv=False)
    return int(np.sum(values > tolerance * values[0]))


def numeric_rank(family: Family, alpha: Array, w: Array, b: Array, depth: int, tolerance: float = TOLERANCE) -> int:
    """rank JΨ_depth without the free part, from singular values above ``tolerance``·(the largest): an estimate."""
    degrees = family.degrees(depth)
    _, scale, axes = np.linalg.svd(w, full_matrices=False)
    q = int(np.sum(scale > 1e-10 * scale[0]))
    inner = w @ axes[:q].T
    rank = _rank(jacobian(family, alpha, inner, b, degrees), tolerance)
    if q == family.d:
        return rank
    unit = inner / np.linalg.norm(inner, axis=1, keepdims=True)
    c = family.activation.hermite(np.linalg.norm(w, axis=1), b, depth)
    rows = [
        np.einsum("nj,nD->jDn", alpha * c[:, k : k + 1], features(unit, k - 1)[0]).reshape(-1, family.atoms)
        for k in degrees
        if k >= 1
    ]
    return rank + (family.d - q) * (_rank(np.concatenate(rows), tolerance) if rows else 0)
