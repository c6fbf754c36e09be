"""Tails of flattened Hermite tensors, verified: how far a function is from every network of few atoms.

For a function with tensors T_k = Σ_i c_ik α_i û_i^{⊗k} and a group (p, low, high, rows) let M = [T_k]_{low ≤ k ≤ high},
p indices in the rows (and the outputs, if ``rows``).  A network of S atoms has rank ≤ S there, also where an activation
is a sum of several cores at one direction; so it is at least √Σ_{j > S} σ_j(M)² away (Eckart–Young), and over disjoint
intervals of degrees the squares add up.  Where the affine part is free, degrees 0 and 1 take no part; where it is
charged, they are groups like the others: at p = 0, M = [T_0, T_1, …] with the outputs as rows, a constant atom α·σ(b)
being α ⊗ (σ(b), 0, …).

σ_j(M)² are the eigenvalues of P·Q, P = G^{∘p}, Q = Σ_k c_k c_kᵀ∘G^{∘(k−p)}, G = ûûᵀ, the one of them ∘ααᵀ that holds
the outputs.  For *any* B, with E = P − BBᵀ, and *any* V, Λ ≥ 0 with H = BᵀQB = VΛVᵀ + R and ‖VᵀV − I‖₂ ≤ δ,

    Σ_{j > S} σ_j(M)² ≥ (1 − δ)·Σ_{j > S} Λ_j − √r·‖R‖_F − ‖E‖_F·tr Q:

a sum of S largest eigenvalues is convex and homogeneous, so an error X costs at most its trace norm (≤ √r‖X‖_F for
r × r; Q^{½}EQ^{½} has at most ‖E‖₂tr Q), and VΛVᵀ has the eigenvalues of Λ^{½}VᵀVΛ^{½} ⪰ (1 − δ)Λ.  B comes from a
pivoted Cholesky factorisation and V, Λ from LAPACK; neither is believed.  Rounding: inner products and sums of n terms
to n·u of the sum of absolute values, norm-wise for matrices; a product of entries G_ij^q to q(d + 2)u.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.arithmetic import UNDERFLOW

Array = NDArray[np.float64]

_UNIT = 1.01 * 2.0**-53
_ROWS = 512
MOST_COLUMNS = 4096
"""A factor B of more columns is not tried; B then describes P less well, which only lowers the bound."""


@dataclass(frozen=True)
class Group:
    """A flattening of the degrees ``low`` … ``high``."""

    p: int
    low: int
    high: int
    rows: bool


@dataclass(frozen=True, eq=False)
class Tensors:
    """T_k = Σ_i c_ik α_i û_i^{⊗k} for exactly these numbers: ``unit`` (n, d), ``alpha`` (n, m), ``c`` (n, K + 1)."""

    unit: Array
    alpha: Array
    c: Array


def _left(f: Tensors, group: Group, rows: NDArray[np.int64] | slice) -> Array:
    """Rows of P."""
    out = (f.unit[rows] @ f.unit.T) ** group.p
    return out * (f.alpha[rows] @ f.alpha.T) if group.rows else out


def _right(f: Tensors, group: Group, rows: slice) -> Array:
    """Rows of Q by Horner's rule."""
    cos = f.unit[rows] @ f.unit.T
    out = np.zeros_like(cos)
    for k in range(group.high, group.low - 1, -1):
        out = out * cos + np.outer(f.c[rows, k], f.c[:, k])
    out *= cos ** (group.low - group.p)
    return out if group.rows else out * (f.alpha[rows] @ f.alpha.T)


def _factor(rows: Callable[[NDArray[np.int64]], Array], diagonal: Array) -> Array:
    """B (n, r) with BBᵀ ≈ P, by pivoted Cholesky."""
    n = diagonal.size
    left = diagonal.copy()
    out = np.zeros((n, min(n, MOST_COLUMNS)), order="F")
    for t in range(out.shape[1]):
        j = int(np.argmax(left))
        if not left[j] > n * 2.0**-52 * diagonal.max():
            return out[:, :t]
        column = (rows(np.array([j]))[0] - out[:, :t] @ out[j, :t]) / np.sqrt(left[j])
        out[:, t] = column
        left = np.maximum(left - column * column, 0.0)
        left[j] = 0.0
    return out


@dataclass(frozen=True, eq=False)
class Product:
    """P and Q (N × N) by rows, and what their entries round by.

    Entries of P are within ``left_ulps``·u·heavy_i heavy_j of what the stored numbers give, entries of Q within
    u·(``right_ulps``·size_i size_j + ``turns``·steep_i steep_j), and tr Q ≤ ‖size‖²; ``left_scale``, ``right_scale``
    bound what multiplies an underflow in them.
    """

    left: Callable[[NDArray[np.int64] | slice], Array]
    right: Callable[[slice], Array]
    diagonal: Array
    heavy: Array
    size: Array
    steep: Array
    left_ulps: int
    right_ulps: int
    turns: int
    left_scale: float
    right_scale: float


def tails(f: Tensors, group: Group) -> Array:
    """Lower bounds of Σ_{j > S} σ_j(M)² for S = 0 … n."""
    (n, d), m = f.unit.shape, f.alpha.shape[1]
    if not n:
        return np.zeros(1)
    live = np.flatnonzero(f.c[:, group.low : group.high + 1].any(axis=1))
    if live.size < n:  # what has nothing of these degrees is no row
        return np.append(tails(Tensors(f.unit[live], f.alpha[live], f.c[live]), group), np.zeros(n - live.size))
    weight = np.linalg.norm(f.alpha, axis=1) * (1 + 1e-12)
    heavy, light = (weight, np.ones(n)) if group.rows else (np.ones(n), weight)
    c, k = f.c[:, group.low : group.high + 1], np.arange(group.low, group.high + 1.0)
    scale = float(np.max(np.abs(f.alpha), initial=0.0)) ** 2
    left_scale, right_scale = (1 + scale, 1.0) if group.rows else (1.0, 1 + scale + float(np.max(np.abs(c))) ** 2)
    product = Product(
        lambda rows: _left(f, group, rows),
        lambda rows: _right(f, group, rows),
        np.sum(f.unit**2, axis=1) ** group.p * heavy**2,
        heavy,
        light * np.linalg.norm(c, axis=1),
        light * np.linalg.norm(c * np.sqrt(k), axis=1),
        group.p * (d + 4) + m + 8,
        3 * group.high + m + 16,
        d + 2,
        left_scale,
        right_scale,
    )
    return verified(product)


def verified(f: Product) -> Array:
    """Lower bounds of Σ_{j > S} λ_j(P·Q) for S = 0 … N."""
    n = f.diagonal.size
    found = np.zeros(n + 1)
    b = _factor(f.left, f.diagonal)
    r = b.shape[1]
    length = np.linalg.norm(b, axis=1) * (1 + 1e-12)
    rest, absolute, h = 0.0, 0.0, np.zeros((r, r))
    for start in range(0, n, _ROWS):
        rows = slice(start, start + _ROWS)
        q = f.right(rows)
        h += b[rows].T @ (q @ b)
        absolute += float(length[rows] @ (np.abs(q) @ length))
        rest += float(np.sum((f.left(rows) - b[rows] @ b.T) ** 2))
    # entries of P, of BBᵀ and of their difference; what underflows there and in a square of E
    missing = np.sqrt(rest) + _UNIT * float(f.left_ulps * (f.heavy @ f.heavy) + (r + 4) * (length @ length))
    missing += n * (1e-150 + UNDERFLOW * f.left_scale)
    # entries of Q, then the two products
    error = _UNIT * (f.right_ulps * float(length @ f.size) ** 2 + f.turns * float(length @ f.steep) ** 2)
    error += 2 * (n + 8) * _UNIT * absolute + n * UNDERFLOW * f.right_scale * float(length @ length)
    found[:r] = trailing(h, error, missing * float(f.size @ f.size))
    return found


def trailing(h: Array, error: float, lost: float = 0.0) -> Array:
    """Lower bounds, less ``lost``, of Σ_{j > S} λ_j for S = 0 … r − 1 of the positive semi-definite matrix that ``h``
    (r, r) is within ``error`` of in the Frobenius norm."""
    r = h.shape[0]
    h = 0.5 * (h + h.T)
    values, v = np.linalg.eigh(h)
    values, v = np.maximum(values[::-1], 0.0), v[:, ::-1]
    spread = float(np.sum(v * v))
    delta = float(np.linalg.norm(v.T @ v - np.eye(r))) + (r + 4) * _UNIT * spread
    residual = float(np.linalg.norm(h - (v * values) @ v.T))
    residual += _UNIT * ((r + 4) * float(values @ np.sum(v * v, axis=0)) + 8 * float(np.linalg.norm(h)))
    lost = np.sqrt(r) * (residual + error) + lost
    kept = max(1.0 - delta - (r + 16) * _UNIT, 0.0)
    found = np.cumsum(values[::-1])[::-1] * kept - lost * (1 + 1e-9)
    return np.where(found > 0, found, 0.0) if np.isfinite(lost) else np.zeros(r)
