"""What lies beyond degree K of a Hermite series: between groups of neurons, and inside a group of relu neurons.

*Between groups.*  Let the neurons of a group, after their flips, have directions ŵ_i at the distances χ_i ≤ χ from a
direction ĝ, so T_k = Σ β_i c_k(i) ŵ_i^{⊗k}.  Split ŵ_i^{⊗k} by the number j of slots orthogonal to ĝ: the parts
Sym(ĝ^{⊗(k−j)} ⊗ A) have length ‖A‖/√C(k, j), at most √C(k, j)χ_i^j for ŵ_i.  With ρ = ⟨ĝ, ĝ′⟩, s² = 1 − ρ² and

    x_k = ‖Σ β_i c_k(i)‖,   w_k = ½Σ ‖β_i c_k(i)‖χ_i²,   y_k = Σ ‖β_i c_k(i)‖χ_i   (1 − cos^k ≤ kχ²/2)

the parts j, j′ ≤ 1 of two groups contribute at most |ρ|^k(x + kw)(x′ + kw′), k|ρ|^{k−1}s(x + kw)y′, (k|ρ|^{k−1} +
k²|ρ|^{k−2}s²)y y′ to |⟨T_k, T′_k⟩|; for the others each permutation has k − j − j′ factors ρ at least, and Σ_{j ≥ 2}
C(k, j)(χ/|ρ|)^j ≤ ½(kχ/ρ)²(1 + χ/|ρ|)^k.  Summed over k > K by Cauchy–Schwarz, with λ = |ρ|(1 + χ/|ρ|)², B = (K +
1)²λ^{K+1}/ρ², Z = ‖x‖/(K + 1) + ‖w‖, Y = ‖y‖, κ = (K + 1)χ/2ρ²:

    B[ρ²ZZ′ + |ρ|s(ZY′ + YZ′) + (|ρ|/(K + 1) + s²)YY′ + ρ²(κY(Z′ + Y′/|ρ|) + κY′(Z + Y/|ρ|) + κ²YY′)],

small like the product of the lengths of two dipoles, where k⁴λ^k decreases from K + 1 on; otherwise times the factor by
which k²λ^k (the terms without κ) or k⁴λ^k (with it) still grows.  |ρ| may be replaced by anything larger.

*Inside a group of relu neurons.*  F(ρ) = E relu(U)relu(V) = Σ c_k c′_k ρ^k of U = r⟨ŵ, x⟩ + b, V = r′⟨ŵ′, x⟩ + b′ has
F″ = r r′φ₂(β, β′; ρ), the density of the two kinks (β = b/r).  So with m = min(β, β′), Taylor's formula at 1 and ρ =
cos δ:

    F = (r r′ρ + b b′)Φ(m) + max(r b′, r′b)φ(m) + r r′R,
    R = (1/2π)∫₀^δ (cos θ − cos δ) exp(−(β − β′)²/(2 sin²θ) − ββ′/(1 + cos θ)) dθ,

and R, of order δ³, need only be known roughly: on panels, the weight between its trapezoidal and its midpoint value
(it is concave), the exponential between its values at the ends (both factors are monotone).
"""

from __future__ import annotations

import math

import numpy as np
from flint import arb
from numpy.typing import NDArray

from sparsemf.certificates.checker.arithmetic import UNDERFLOW, Arithmetic, Rows

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_erfc = np.frompyfunc(math.erfc, 1, 1)
_BALL_CDF = np.frompyfunc(lambda z: (-z / arb(2).sqrt()).erfc() / 2, 1, 1)
_BALL_DENSITY = np.frompyfunc(lambda z: (-z * z / 2).exp() / (2 * arb.pi()).sqrt(), 1, 1)

_ROWS = 256
_PANELS = 64
_FLOOR = 0.25
"""ρ⁺ is at least this, so that χ/ρ⁺ stays small."""
_BLOCK = 20_000_000
MOST_PAIRS = 400_000
"""Pairs inside groups beyond this are not looked at (in balls a hundredth of it)."""


def _whole_power(x: Array, k: int) -> Array:
    """x^k by squaring; relative error at most 2k·u."""
    out = np.ones_like(x)
    while k:
        if k & 1:
            out = out * x
        x, k = x * x, k >> 1
    return out


def middle(arith: Arithmetic, x: Rows) -> Array:
    """The floats nearest to x."""
    return np.array([float(v.mid()) for v in x.ravel()]).reshape(x.shape) if arith.exact else x


def between(
    arith: Arithmetic,
    unit: Rows,
    starts: Integers,
    mass: Array,
    tau: Array,
    exponent: int,
    factor: float = 1.0,
    dipole: tuple[Array, Array, Array] | None = None,
) -> float:
    """Σ_{g ≠ g′} min(τ_g τ_g′, Σ_{i ∈ g, j ∈ g′} mass_i mass_j min(1, factor·|cos_ij|^exponent)), neurons sorted by
    group; ``dipole``: (Z, Y, χ) of each group, the directions those of the ``starts``, K + 1 = ``exponent``."""
    n, d = unit.shape
    plain = middle(arith, unit)
    # the float nearest to a ball's midpoint, and the ball's own width
    wide = float(np.max(np.linalg.norm(arith.radii(unit), axis=1), initial=0.0)) * (1 + 1e-12)
    spread = (2 * d + 16) * 2.0**-52 + wide * (2 + 3 * wide)
    total = 0.0
    size = np.diff(np.concatenate([starts, [n]]))
    for first in range(0, starts.size, _ROWS):
        chosen = np.arange(first, min(first + _ROWS, starts.size))
        rows = slice(int(starts[first]), int(starts[chosen[-1]]) + int(size[chosen[-1]]))
        cos = np.minimum(np.abs(plain[rows] @ plain.T) + spread, 1.0)
        with np.errstate(under="ignore"):
            power = np.minimum(factor * _whole_power(cos, exponent), 1.0) * (mass[rows][:, None] * mass[None, :])
        power = np.add.reduceat(power, starts, axis=1)
        power = np.add.reduceat(power, starts[chosen] - starts[first], axis=0)
        limit = np.minimum(tau[chosen][:, None] * tau[None, :], power * (1 + 1e-10))
        if dipole is not None:
            near = cos[starts[chosen] - starts[first]][:, starts]
            found = _dipoles(near, spread, exponent, *(np.broadcast_arrays(x[chosen][:, None], x) for x in dipole))
            limit = np.minimum(limit, found)
        limit[np.arange(chosen.size), chosen] = 0.0
        total += float(np.sum(limit))
    return total * (1 + (n + 64) * 2.0**-51)


def _dipoles(
    cos: Array, spread: float, first: int, zs: tuple[Array, ...], ys: tuple[Array, ...], chi: tuple[Array, ...]
) -> Array:
    """The bound of the module's docstring, ``first`` = K + 1."""
    rho, most = np.maximum(cos, _FLOOR), np.maximum(*chi)
    square = 1 - np.maximum(cos - 2 * spread, 0.0) ** 2 + spread
    side, kappa = np.sqrt(square), first * most / (2 * rho**2)
    (z, other_z), (y, other_y) = zs, ys
    body = rho**2 * z * other_z + rho * side * (z * other_y + y * other_z) + (rho / first + square) * y * other_y
    bent = rho**2 * kappa * (y * (other_z + other_y / rho) + other_y * (z + y / rho) + kappa * y * other_y)
    ratio = (rho + most) ** 2 / rho * (1 + 1e-14)
    with np.errstate(all="ignore"):
        fall = -first * np.log(ratio) * (1 - 1e-12)
        growth = [np.where(fall >= p, 1.0, (p / fall) ** p * np.exp(fall - p)) for p in (2, 4)]
        found = first**2 / rho**2 * _whole_power(ratio, first) * (growth[0] * body + growth[1] * bent) * (1 + 1e-10)
    return np.where((ratio < 1) & (found == found), found, np.inf)


def relu_energies(
    arith: Arithmetic, alpha: Rows, r: Rows, b: Rows, c: Rows, unit: Rows, weight: Array, starts: Integers
) -> tuple[Rows, Array, Array, Array]:
    """E‖Σ_{i ∈ g} α_i relu(r_i⟨ŵ_i, x⟩ + b_i)‖² beyond degree 1 of the groups that begin at ``starts``, as (main part
    (G,), least and greatest rest (G,), error (G,)); infinite error for groups that are too large.

    ``c`` (n, 2): c₀ and c₁, taken as exact.
    """
    n, d = unit.shape
    count, width = starts.size, d + alpha.shape[1] + _PANELS
    size: Integers = np.diff(np.concatenate([starts, [n]])).astype(np.int64)
    main, low, high = arith.zeros((count, 1)), np.zeros(count), np.zeros(count)
    pairs = MOST_PAIRS // (100 if arith.exact else 1)
    most = int(min(np.sqrt(pairs / max(count, 1)), np.sqrt(_BLOCK / width))) + 1
    error = np.where(size > most, np.inf, 0.0)
    span = 4 * weight * (arith.ups(r) + arith.ups(abs(b)))
    for length in np.unique(size[size <= most]):
        equal = np.flatnonzero(size == length)
        step = max(1, int(_BLOCK // (length * length * width)))
        for groups in (equal[k : k + step] for k in range(0, equal.size, step)):
            members = starts[groups][:, None] + np.arange(length)[None, :]
            i, j = (x.ravel() for x in np.broadcast_arrays(members[:, :, None], members[:, None, :]))
            owner = np.repeat(groups, length * length)
            part, least, greatest, lost = _pairs(arith, alpha, r, b, c, unit, i, j, weight)
            main = main + arith.grouped(part[:, None], owner, count)
            low += np.bincount(owner, weights=least, minlength=count)
            high += np.bincount(owner, weights=greatest, minlength=count)
            lost = lost + (length**2 + 8) * arith.unit * span[i] * span[j]
            rest = (length**2 + 8) * 2.0**-52 * np.maximum(np.abs(least), np.abs(greatest))
            error += np.bincount(owner, weights=(lost + rest) * (1 + 1e-12), minlength=count)
    return main[:, 0], low, high, error


def _pairs(
    arith: Arithmetic, alpha: Rows, r: Rows, b: Rows, c: Rows, unit: Rows, i: Integers, j: Integers, weight: Array
) -> tuple[Rows, Array, Array, Array]:
    """⟨α_i, α_j⟩(F_ij − c₀c₀′ − c₁c₁′ρ) as its main part, the bounds of the rest, and the main part's error."""
    d = unit.shape[1]
    gap = unit[i] - unit[j]
    square = arith.squares(gap)
    inner = np.sum(alpha[i] * alpha[j], axis=1)
    rr, bb = r[i] * r[j], b[i] * b[j]
    beta, other = b[i] / r[i], b[j] / r[j]
    if arith.exact:
        half = arith.array([0.5])[0]
        least = np.array([x.min(y) for x, y in zip(beta, other, strict=True)] + [0], dtype=object)[:-1]
        top = np.array([x.max(y) for x, y in zip(r[i] * b[j], r[j] * b[i], strict=True)] + [0], dtype=object)[:-1]
    else:
        half, least, top = 0.5, np.minimum(beta, other), np.maximum(r[i] * b[j], r[j] * b[i])
    if arith.exact:
        cdf, density = _BALL_CDF(least), _BALL_DENSITY(least)
    else:
        cdf = 0.5 * np.asarray(_erfc(-least / math.sqrt(2)), dtype=np.float64)
        density = np.exp(-0.5 * least * least) / math.sqrt(2 * math.pi)
    fall = half * square  # 1 − ρ
    main = (rr + bb - rr * fall) * cdf + top * density
    value = inner * (main - c[i, 0] * c[j, 0] - c[i, 1] * c[j, 1] * (1 - fall))
    chi = np.sqrt(arith.ups(square))
    scale = weight[i] * weight[j]
    rise = (3 * d + 20) * arith.unit
    size = (arith.ups(r[i]) + arith.ups(abs(b[i]))) * (arith.ups(r[j]) + arith.ups(abs(b[j])))
    lost = scale * (220 * arith.unit * size + 4 * rise * arith.ups(rr) * (chi * (1 + chi) + rise))
    lost += (alpha.shape[1] + 8) * arith.unit * scale * 4 * size
    # the directions' own rounding
    far = np.minimum(chi + rise, 2.0)
    near = np.maximum(np.sqrt(np.array([arith.down(v) for v in square] + [0.0])[:-1]) - rise, 0.0)
    apart = beta - other
    blur = 4 * arith.unit * (arith.ups(abs(beta)) + arith.ups(abs(other)))
    closest = np.maximum(np.array([arith.down(abs(v)) for v in apart] + [0.0])[:-1] - blur, 0.0)
    product, own = beta * other, inner * rr
    # a ball may be as wide as what it holds
    centre, radius = middle(arith, product), arith.radii(product) * (1 + 1e-15)
    small = _rest(near, arith.ups(abs(apart)) + blur, centre + radius, False)
    large = _rest(far, closest, centre - radius, True)
    plain = middle(arith, own)
    wide = (alpha.shape[1] + 8) * 2.0**-52 * scale * arith.ups(rr) + arith.radii(own) * (1 + 1e-15)
    ends = np.stack([plain * small, plain * large])
    return value, ends.min(axis=0) - wide * large, ends.max(axis=0) + wide * large, lost


def _rest(chi: Array, apart: Array, product: Array, above: bool) -> Array:
    """Bounds of R, for directions at the distance χ: from below for at least that distance, or from above for at most
    that; |β − β′| at most, or at least, ``apart``; ββ′ likewise, to a few units in the last place.  At tiny angles
    all of it underflows."""
    delta = 2 * np.arcsin(np.minimum(0.5 * chi, 1.0)) * (1 + 1e-14 if above else 1 - 1e-14)
    wide = delta >= 1.57
    used = np.where(wide, 1.0, delta)
    nodes = np.linspace(0.0, 1.0, _PANELS + 1) ** 2  # most of them where the exponential may be steep
    theta = used[:, None] * nodes[None, :]

    def weight(at: Array) -> Array:
        return 2 * np.sin(0.5 * (used[:, None] + at)) * np.sin(np.maximum(0.5 * (used[:, None] - at), 0.0))

    with np.errstate(all="ignore"):
        first = -0.5 * (apart[:, None] / np.sin(theta)) ** 2
        first[:, 0] = np.where(apart == 0, 0.0, -np.inf)  # NaN must not become 0
        second = -product[:, None] / (1 + np.cos(theta))
        blur = 1e-14 * (np.where(np.isfinite(first), -first, 0.0) + np.abs(second))
        if above:
            ends = np.maximum(second[:, :-1], second[:, 1:])
            exponent = first[:, 1:] + ends + np.maximum(blur[:, 1:], blur[:, :-1])
            height = weight(0.5 * (theta[:, 1:] + theta[:, :-1]))
        else:
            ends = np.minimum(second[:, :-1], second[:, 1:])
            exponent = first[:, :-1] + ends - np.maximum(blur[:, 1:], blur[:, :-1])
            height = 0.5 * (weight(theta[:, 1:]) + weight(theta[:, :-1]))
        # the exponent of a density is never positive
        exponent = np.where(exponent == exponent, np.minimum(exponent, 0.0), 0.0 if above else -np.inf)
        found = used / (2 * np.pi) * np.sum(np.diff(nodes) * height * np.exp(exponent), axis=1)
    if not above:
        return np.where(wide, 0.0, np.maximum(found * (1 - 1e-9) - UNDERFLOW, 0.0))
    turned = np.minimum(delta, 3.15)
    most = (np.sin(turned) - turned * np.cos(turned)) / (2 * np.pi)
    return np.where(wide, np.abs(most) + 1e-9, found * (1 + 1e-9) + UNDERFLOW)
