"""Two-sided bounds of ‖h‖ in L²(N(mean, Σ)) in closed form, for neurons with one kink (relu and its images).

In the white coordinates of :mod:`series` h = Σ_i α_i relu(r_i⟨ŵ_i, x⟩ + b_i) + xᵀQx + A x + c has

    ‖h‖² = ‖T₀‖² + ‖T₁‖² + Σ_ij ⟨γ_i, γ_j⟩ K(H_i, H_j, ρ_ij),    γ_i = r_i α_i,  H_i = |b_i|/r_i,  ρ_ij = ⟨v_i, v_j⟩,

with v_i = −sign(b_i)ŵ_i: relu(z) = relu(−z) + z turns each half-space away from the origin, which changes degrees 0 and
1 only.  K is the product of (X − H)₊ and (Y − H′)₊ beyond degree 1, X and Y standard normal of correlation ρ = cos δ:
with s = sin δ, φ the density, Φ̄ = 1 − Φ, q = (H′ − ρH)/s, q′ = (H − ρH′)/s, c₀ = φ(H) − HΦ̄(H), c₁ = Φ̄(H),

    K = (ρ + HH′)P − Hφ(H′)Φ̄(q′) − H′φ(H)Φ̄(q) + (s/2π)e^{−(H² + q²)/2} − c₀c₀′ − c₁c₁′ρ,   P = P(X > H, Y > H′)

(the mixed moment of the wedge, by parts).  In polar coordinates a ray at the angle θ from X's axis is in the wedge from
the radius max(H/cos θ, H′/cos(θ − δ)) on; the two are equal at tan θ = q/H, so that P = G(H, q) + G(H′, q′),

    G(H, q) = (1/2π)∫ exp(−½H²sec²θ)dθ from atan2(q, H) to π/2 = ¼erfc(H/√2) − T(H, q/H),
    T(x, a) = (1/2π)∫₀^a e^{−x²(1 + y²)/2}/(1 + y²) dy  (Owen's function),
    T(H, q/H) = ¼(1 − erf(H/√2)erf(q/√2)) − T(q, H/q)  for q > H, so that a ≤ 1 always.

Without biases K = (s + (π − δ)ρ)/2π − 1/2π − ρ/4.  With Q, T₂ is written out and c₂c₂′ρ² = ½φ(H)φ(H′)ρ² taken off.

*Quadrature.*  An N-point Gauss–Legendre rule (N ≥ 2, positive weights) errs on T_k, even k ≥ 2N, by at most 2 + 2/15,
and the Chebyshev coefficients of f are at most 2Mλ^{−k} if |f| ≤ M in the ellipse with foci ±1 and half-axes (λ ±
1/λ)/2: together (64/15)Mλ^{−2N}/(1 − λ^{−2}).  In y the integrand is analytic for |Im| < 1, with M = e^{−x²(1 −
η²)/2}/(1 − η²) for |Im| ≤ η; λ = 2.2 has η = 0.873: with N = 24 T errs by 7e-17·e^{−0.118x²}.

*Rounding.*  ∂K/∂ρ = P − c₁c₁′ lies in [−¼, ¼] and K_ii ≤ ½(c₁ − c₁²) ≤ 1/8, so ρ, known to (2d + 12)u, costs a quarter
of that, and sums and products lose their units on 1/8 of M² = (Σ‖γ_i‖)².  For a given ρ, H′ − ρH = (H′ ∓ H) ± (1 −
|ρ|)H and s² = (1 − |ρ|)(1 + |ρ|) lose a few units of their terms only: q is known to 8u(|q| + 2H), which moves G by
8u(|q| + 2H)·He^{−(H² + q²)/2}/2π(H² + q²).  With exp and erfc to 64u (32 units in the last place) the summands of G
lose together (90 + 8X²)u·e^{−X²/2}, where X is the larger of H and |q| (H for q < 0), so that HH′ ≤ 2X²; times (ρ +
HH′) this is at most 200u, and the quadrature 4u.  The other terms of K, at most ¼ each, lose less than 45u each, and H,
known to u relative, moves K by less than u.  All in all less than 700u: :data:`BIASED` u is charged, and :data:`PLAIN`
u where there are no biases (arccos to 64uπ).  H > 40 is replaced by 40: K is less than 1e-170 there.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import series
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.catalogue import ORDER
from sparsemf.certificates.checker.expansion import Expanded
from sparsemf.certificates.checker.hermite import legendre
from sparsemf.certificates.checker.laws import Norm

Array = NDArray[np.float64]

BIASED, PLAIN = 1024.0, 64.0
"""Units roundoff lost in K with and without biases."""
_ROWS = 96
"""A block's arrays are small enough to stay in the cache, and to be had without asking the system for pages."""
_POINTS = 24
_FARTHEST, _NEAREST = 40.0, 1e-150
_COST, _PLAIN_COST = 800, 24
"""Multiplications that a pair is worth besides its d + m."""

_erfc = np.frompyfunc(math.erfc, 1, 1)


def cost(norm: Norm, h: Expanded) -> float:
    """What :func:`bounds` costs, in multiplications; ∞ but for relu cores alone, in float64, under a Gaussian law."""
    if norm.kind != "gaussian" or h.w.dtype != np.float64 or not (h.core == ORDER.index("relu")).all():
        return float("inf")
    (n, d), biased = h.w.shape, bool(h.b.any()) or not norm.standard
    return float(n) ** 2 * (d + h.alpha.shape[1] + (_COST if biased else _PLAIN_COST))


def affordable(norm: Norm, h: Expanded) -> bool:
    """Whether :func:`bounds` is attempted."""
    return 0 < cost(norm, h) <= series.MOST_TERMS


def bounds(arith: Arithmetic, norm: Norm, f: series.Spectrum) -> tuple[float, float]:
    """(lower, upper) of ‖h‖; (0, ∞) where the closed form does not apply."""
    second = series.degree_two(arith, f) if f.quadratic is not None else (0.0, 0.0)
    if arith.exact or second is None or not affordable(norm, f.h):
        return 0.0, float("inf")
    r, b = f.white
    live = np.flatnonzero((f.weight > 0) & f.unit.any(axis=1))
    live = live[np.argsort(b[live] != 0, kind="stable")]
    r, b, d, m = r[live], b[live], f.unit.shape[1], f.alpha.shape[1]
    v = np.where(b > 0, -1.0, 1.0)[:, None] * f.unit[live]
    gamma, height = r[:, None] * f.alpha[live], np.minimum(np.abs(b) / r, _FARTHEST)
    height[height < _NEAREST] = 0.0
    form = _form(gamma, v, height, f.quadratic is not None)
    mass = f.weight[live] * r * (1 + 1e-12)
    whole, plain = mass.sum(), mass[height == 0].sum()  # numpy floats: they overflow to ∞
    steps = 2 * min(live.size, _ROWS) + 2 * m + 16
    square = PLAIN * plain**2 + BIASED * max(whole**2 - plain**2, 0.0) + (0.25 * (2 * d + 12) + steps / 8) * whole**2
    square *= arith.unit * (1 + (live.size + 64) * 2.0**-51)
    # of a function r(X − H)₊ the part beyond degree 1 is at most r/√8
    linear = (0.36 * float(f.h.alpha_error[live] @ r) + f.drift) * (1 + 1e-12)
    if not np.isfinite(form + square + linear):
        return 0.0, float("inf")
    high = np.hypot(np.sqrt(arith.norm(f.t0) ** 2 + arith.norm(f.t1) ** 2) + f.low_error, second[1])
    low = max(np.sqrt(arith.floor_norm(f.t0) ** 2 + arith.floor_norm(f.t1) ** 2) - f.low_error, 0.0)
    upper = np.sqrt(high**2 + max(form + square, 0.0)) * (1 + 1e-14) + linear
    lower = np.sqrt(low**2 + second[0] ** 2 + max(form - square, 0.0)) * (1 - 1e-14) - linear
    return max(float(lower), 0.0), float(upper)


def _form(gamma: Array, v: Array, height: Array, quadratic: bool) -> float:
    """Σ_ij ⟨γ_i, γ_j⟩K_ij in blocks, whose sums are added up exactly; neurons without a bias first."""
    starts = range(0, height.size, _ROWS)
    parts = []
    for first, other in product(starts, starts):
        if first <= other:
            i, j = slice(first, first + _ROWS), slice(other, other + _ROWS)
            rho = np.clip(v[i] @ v[j].T, -1.0, 1.0)
            block = beyond_affine(height[i][:, None], height[j][None, :], rho)
            if quadratic:
                block -= 0.5 * _density(height[i])[:, None] * _density(height[j])[None, :] * rho * rho
            parts.append((1 if first == other else 2) * float(np.sum(gamma[i] * (block @ gamma[j]))))
    return math.fsum(parts)


def _density(x: Array) -> Array:
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _beyond(x: Array) -> Array:
    """erfc(x/√2)."""
    return np.asarray(_erfc(x / math.sqrt(2)), dtype=np.float64)


def beyond_affine(first: Array, second: Array, rho: Array) -> Array:
    """K of the module's docstring for H = ``first`` (n, 1), H′ = ``second`` (1, n′), ρ = ``rho`` (n, n′)."""
    side = 1.0 - np.abs(rho)
    s = np.sqrt(side * (1.0 + np.abs(rho)))
    plain = (s + (math.pi - np.arccos(rho)) * rho - 1.0) / (2 * math.pi) - 0.25 * rho
    if not first.any() and not second.any():
        return plain
    sign, steep = np.where(rho < 0, -1.0, 1.0), np.maximum(s, 1e-100)
    q = ((second - sign * first) + sign * side * first) / steep
    q_second = ((first - sign * second) + sign * side * second) / steep
    tail, tail_second = _beyond(first), _beyond(second)
    beyond, beyond_second = _beyond(np.abs(q)), _beyond(np.abs(q_second))
    wedge = _sector(first, q, tail, beyond) + _sector(second, q_second, tail_second, beyond_second)
    density, density_second = _density(first), _density(second)
    found = (rho + first * second) * wedge + s / (2 * math.pi) * np.exp(-0.5 * (first * first + q * q))
    found -= first * density_second * np.where(q_second > 0, 0.5 * beyond_second, 1.0 - 0.5 * beyond_second)
    found -= second * density * np.where(q > 0, 0.5 * beyond, 1.0 - 0.5 * beyond)
    found -= (density - 0.5 * first * tail) * (density_second - 0.5 * second * tail_second)
    found -= 0.25 * tail * tail_second * rho
    return np.where((first == 0) & (second == 0), plain, found)


@lru_cache(maxsize=1)
def _rule() -> list[tuple[float, float]]:
    """(node², weight) of the positive nodes on [−1, 1]."""
    with Arithmetic(128).precision():
        nodes = [(float(x.mid()), float(w.mid())) for x, w in legendre(_POINTS, 128)]
    return [(x * x, w) for x, w in nodes if x > 0]


def _sector(h: Array, q: Array, tail: Array, beyond: Array) -> Array:
    """G(H, q) of the module's docstring; ``tail`` and ``beyond`` are erfc(H/√2), erfc(|q|/√2)."""
    far = np.abs(q)
    swapped = far > h
    x = np.maximum(far, h)
    ratio = np.where(swapped, h, far) / np.where(x > 0, x, 1.0)
    half, square = 0.5 * x * x, ratio * ratio
    owen = np.zeros_like(x)
    for node, weight in _rule():
        grown = 1.0 + node * square
        owen += weight * np.exp(-half * grown) / grown
    owen *= ratio / (2 * math.pi)
    corner = 0.25 * (1.0 - tail) * beyond
    outside = np.where(q > 0, owen - corner, 0.5 * tail + corner - owen)
    return np.where(swapped, outside, 0.25 * tail - np.copysign(owen, q))
