"""sup ‖η_q‖ over Θ in any dimension, from norms of flattened Hermite tensors.

*Claim.*  η_q(w, b) = Σ_k c_k(s, b)⟨T_k, u^{⊗k}⟩, u = w/s, and for every p the unfolding M_k of T_k with p indices in
the rows (the others and the outputs in the columns) has ‖⟨T_k, u^{⊗k}⟩‖ = ‖(u^{⊗p})ᵀM_k u^{⊗(k−p)}‖ ≤ ‖M_k‖.  So

    ‖η_q(w, b)‖ ≤ h(s, b) = Σ_k |c_k(s, b)| ν_k,   ν_k = min over p of the spectral norm of M_k (and ‖T_k‖),

and what remains is a supremum over the lengths and the biases of Θ.  Cauchy–Schwarz is the same with ‖T_k‖ for ν_k,
and ‖c‖‖T‖ for the sum.

*Norms.*  T_k = Σ_j g_jk y_j^{⊗k}: M_k = A Bᵀ, AᵀA = G_A = Y^{∘p}, BᵀB = G_B = (g gᵀ)∘Y^{∘(k−p)}, Y the Gram matrix of
the y_j.  If G_A ≤ LLᵀ + ρI for any L, then ‖M_k‖² = λ_max(B G_A Bᵀ) ≤ λ_max(LᵀG_B L) + ρ tr G_B.  L comes from LAPACK,
whatever it is; ρ is looked at.  Rounding, with N = Σ_j‖g_jk‖² ≥ tr G_B: Y to (d + 4)u, its powers to p(d + 6)u for
each entry, hence G_A to J p(d + 6)u and G_B to N((k − p)(d + 6) + m + 4)u; products of matrices to (J + 4)u of the
norms.

*Supremum* of h, on the cells of a fixed grid: h(θ), θ = (s, b), is at most Σ|c_k + ∂c_k·δ|ν_k, convex in δ and so
largest in the corners of a cell, and ½|δ|²N₂; or h at the centre and |δ|N₁.  N₁, N₂ are those of :mod:`dual_series`
for the polynomials of one variable with tensors ±ν_k, whatever the signs.  ∂_b c_k = √(k + 1)c_{k+1}/s, ∂_s c_k =
(√((k + 1)(k + 2))c_{k+2} + k c_k)/s.  On the unit sphere of (w, b), δ is along the circle up to half the square of the
angle.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.arithmetic import Undefined
from sparsemf.certificates.checker.dual_series import SeriesDual, is_slow, neuron_coefficients
from sparsemf.certificates.checker.taylor import UNIT, largest_eigenvalue

Array = NDArray[np.float64]

MOST_TERMS = 160
"""J beyond this keeps ν_k = ‖T_k‖."""
_STEEP = 6.0
"""|b|/s beyond which coefficients of kinks are costly, and cells wide."""


def tensor_norms(dual: SeriesDual) -> Array:
    """ν (K + 1,)."""
    y, found = dual.directions, np.array(dual.sizes)
    count, d = y.shape
    m = dual.weights.shape[2]
    if count > MOST_TERMS:
        return found
    gram = np.clip(y @ y.T, -1.0, 1.0)  # |y_j| ≤ 1
    power = np.ones((found.size, count, count))
    np.multiply.accumulate(np.broadcast_to(gram, (found.size - 1, count, count)), axis=0, out=power[1:])
    for k in range(1, found.size):
        g = dual.weights[k]
        outer, mass = g @ g.T, float(np.sum(g**2)) * (1 + 1e-12) + 1e-300
        for p in {(k + 1) // 2, max(k // 2, 1)}:
            rows, columns = power[p], outer * power[k - p]
            value, vector = np.linalg.eigh(rows)
            root = vector * np.sqrt(np.maximum(value, 0.0))
            if not np.isfinite(root).all():
                continue
            large = float(np.sum(root**2)) * (1 + 1e-12)
            off = count * (p * (d + 6) + 2) * UNIT + 4 * (count + 8) * UNIT * (large + count)
            rho = max(float(largest_eigenvalue((rows - root @ root.T)[None])[0]), 0.0) + 2 * off
            inner = float(largest_eigenvalue((root.T @ columns @ root)[None])[0])
            lost = large * mass * (((k - p) * (d + 6) + m + 4) + 8 * (count + 8)) * 2 * UNIT
            found[k] = min(found[k], math.sqrt(max(inner, 0.0) + lost + rho * mass) * (1 + 1e-14) + 1e-150)
    return found


def everywhere(dual: SeriesDual) -> float:
    """sup h over Θ, rounded up; ∞ where a coefficient cannot be formed."""
    nu = tensor_norms(dual)
    radial = SeriesDual(dual.activation, np.ones((1, 1)), nu[:, None, None], nu, 1, True, dual.radius,
                        dual.bias_radius, dual.shell, False)  # fmt: skip
    centre, half, along = _cells(dual)
    top = 0.0
    for begin in range(0, centre.shape[0], 1024):
        part = slice(begin, begin + 1024)
        try:
            bound = _bounds(radial, nu, centre[part], half[part], None if along is None else along[part])
        except Undefined:
            return math.inf
        if not np.isfinite(bound).all():
            return math.inf
        top = max(top, float(np.max(bound)))
    return top * (1 + 1e-12)


def _cells(dual: SeriesDual) -> tuple[Array, Array, Array | None]:
    """Centres (s, b) and half-lengths (n, 2) that cover Θ; on the circle the half-angles are in the first column, and
    the tangents come third."""
    if dual.shell and not dual.bias:
        return np.array([[1.0, 0.0]]), np.zeros((1, 2)), None
    if dual.shell:
        steep = math.atan(_STEEP)
        edges = np.concatenate([np.linspace(-math.pi / 2, -steep, 65)[:-1], np.linspace(-steep, steep, 2049),
                                np.linspace(steep, math.pi / 2, 65)[1:]])  # fmt: skip
        angle, half = 0.5 * (edges[1:] + edges[:-1]), 0.5 * (edges[1:] - edges[:-1]) * (1 + 1e-9)
        half[[0, -1]] += 1e-9
        centre = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        tangent = np.stack([-np.sin(angle), np.cos(angle)], axis=1)
        return centre, np.stack([half + 1e-13, np.zeros(half.size)], axis=1), tangent
    count = (96, 128) if dual.bias else (512, 1)
    if is_slow(dual.activation):
        count = (20, 24) if dual.bias else (64, 1)
    s = (np.arange(count[0]) + 0.5) * (dual.radius / count[0])
    side = dual.bias_radius if dual.bias else 0.0
    b = (2 * np.arange(count[1]) + 1 - count[1]) * (side / count[1])
    centre = np.stack([np.repeat(s, count[1]), np.tile(b, count[0])], axis=1)
    half = np.array([dual.radius / count[0] / 2, side / count[1]], dtype=np.float64) * (1 + 1e-9)
    return np.asarray(centre, dtype=np.float64), np.ones(centre.shape) * half, None


def _bounds(radial: SeriesDual, nu: Array, centre: Array, half: Array, along: Array | None) -> Array:
    """Bounds of h on the cells."""
    s, b = centre[:, 0], centre[:, 1]
    full, lost = neuron_coefficients(radial.activation, s, b, nu.size + 1)
    k, size = np.arange(nu.size, dtype=np.float64), float(np.sqrt(np.sum(nu**2))) * (1 + 1e-12)
    c = full[:, : nu.size]
    by_b = np.sqrt(k + 1) * full[:, 1 : nu.size + 1] / s[:, None]
    by_s = (np.sqrt((k + 1) * (k + 2)) * full[:, 2 : nu.size + 2] + k * c) / s[:, None]
    rho = np.sqrt(np.sum(half**2, axis=1)) * (1 + 1e-13)
    wide = np.tile(rho[:, None], (1, 2)) if along is not None else half
    boxes = np.stack([centre, wide], axis=1)
    steep, bend = radial.steepest(boxes), radial.on_boxes(boxes)[0]
    # the sums round, and each derivative by (2K + 4)/s of what c does
    error = size * (lost + (4 * nu.size + 64) * UNIT * (np.sqrt(np.sum(full**2, axis=1)) + lost))
    error = error * (1 + (3 * nu.size + 8) * rho / s) * (1 + 1e-9) + 1e-100
    flat = np.abs(c) @ nu + steep * rho
    if along is not None:
        turn = (by_s * along[:, :1] + by_b * along[:, 1:]) * rho[:, None]
        corners = [np.abs(c + sign * turn) @ nu for sign in (1.0, -1.0)]
        tilted = np.max(corners, axis=0) + 0.5 * rho**2 * (bend + steep)
    else:
        moves = [(x * half[:, :1] * by_s + y * half[:, 1:] * by_b) for x in (1.0, -1.0) for y in (1.0, -1.0)]
        tilted = np.max([np.abs(c + move) @ nu for move in moves], axis=0) + 0.5 * rho**2 * bend
    return np.fmin(flat, tilted) * (1 + 1e-12) + error
