"""How far a gated block is from every gated block of few atoms, polynomials of degree ≤ 2, ≤ 0 or none being free.

In white coordinates f = Σ_i α_i σ(u_i)ℓ_i + a quadratic polynomial has for k ≥ 3 the tensors (:mod:`gated_series`)

    T_k = Σ_i α_i ⊗ [a_ik ĝ_i^{⊗k} + √k c_ik Sym(ĝ_i^{⊗(k−1)} ⊗ v_i)].

With p ≥ 1 of the k indices in the rows, q = k − p in the columns and S_p = √p Sym(ĝ^{⊗(p−1)} ⊗ v), the bracket is

    ĝ^{⊗p} ⊗ (a ĝ^{⊗q} + √(q/k) c S_q) + S_p ⊗ √(p/k) c ĝ^{⊗q},

since k·Sym(ĝ^{⊗(k−1)} ⊗ v) = Σ over the place of v.  So *any* S atoms α ⊗ σ(u)ℓ, of whatever gates, have rank ≤ 2S
there (the rows ĝ^{⊗p} and S_p, times α if the outputs are in the rows), and ≤ S for p = 0 with the outputs in the rows
(the rows α).  An atom whose gate is constant has degrees ≤ 1 only, T₀ = α c₀e and T₁ = α ⊗ c₀v.  Hence ‖f − g‖² ≥
Σ_{j > 2S} σ_j(M)² (p = 0: j > S), and over disjoint intervals of degrees these add up.  A neuron whose σ is a sum of
several cores is still one atom of g: its terms share ĝ, v and α.

Where the quadratic part is charged to the atoms, degrees from 1 (or 0) on take part: the same formulas with c_{−1} = 0.
f may have A and c there, constant gates and images' p₀ + p₁u; their T₀ and T₁ are written out as terms e_j ⊗ (T₁)_j
and T₀ of their own (a₁ = 1, a₀ = 1), and the images' T₂ = √2 Sym(g ⊗ v) ⊗ α as terms with a = 0 and c = ‖g‖.

σ_j(M)² are the eigenvalues of P·Q, Gram matrices of the 2n row and column vectors, made of

    ⟨ĝ^p, ĝ′^p⟩ = ρ^p, ⟨ĝ^p, S′_p⟩ = √p ρ^{p−1}x, ⟨S_p, ĝ′^p⟩ = √p ρ^{p−1}z, ⟨S_p, S′_p⟩ = ρ^{p−1}y + (p−1)ρ^{p−2}xz

with ρ = ⟨ĝ, ĝ′⟩, x = ⟨ĝ, v′⟩, z = ⟨v, ĝ′⟩, y = ⟨v, v′⟩; v need not be orthogonal to ĝ.  Their tails are verified as in
:mod:`flattening`.  Rounding: each product has p (or q, and two more) inner products, each to (d + 2)u of the product of
the lengths, and in absolute values a row has length ≤ 1 or √p‖v‖, a column |a| + (q/√k)‖v‖|c| or √(p/k)|c|.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import gated, gated_series
from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.flattening import Group, Product, verified
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import Raw

Array = NDArray[np.float64]
Rows = NDArray[np.int64] | slice

FREE = 2
"""Degrees up to this one are free unless a claim says that fewer are."""
_FLOAT = Arithmetic(0)
_MOST_NEURONS = 10_000


@dataclass(frozen=True, eq=False)
class Pairs:
    """The tensors above for exactly these numbers: ``unit``, ``v`` (n, d), ``alpha`` (n, m), ``a``, ``c`` (n, K + 1)
    with c_ik in column k."""

    unit: Array
    v: Array
    alpha: Array
    a: Array
    c: Array

    @property
    def parts(self) -> tuple[Array, ...]:
        """The arrays in their order."""
        return self.unit, self.v, self.alpha, self.a, self.c


def described(norm: Norm, f: Raw, degree: int, free: int = FREE) -> tuple[Pairs, float]:
    """f's tensors of degrees ``free`` + 1 … ``degree`` as stored numbers, and how far f is from having them.

    Of each neuron: what the coefficients of σ and (e, p, v) are rounded by, as in :func:`gated_series.gram`; and the
    direction, to (d + 8)u, which k slots see.
    """
    t = gated_series.tensors(_FLOAT, norm, gated.expand(_FLOAT, (f, 1.0)), degree)
    degree, unit = t.degree, _FLOAT.unit
    n, d = t.v.shape
    if n > _MOST_NEURONS:
        raise Undefined("too many neurons")
    c, k = np.asarray(t.f.c, dtype=np.float64), np.arange(degree + 1.0)
    before = np.concatenate([np.zeros((n, 1)), c[:, :degree]], axis=1)
    a = t.e[:, None] * c[:, :-1] + t.p[:, None] * (np.sqrt(k) * before + np.sqrt(k + 1) * c[:, 1:])
    sizes = np.abs(a) + np.sqrt(k) * _FLOAT.norms(t.v)[:, None] * np.abs(before)
    each = t.size * t.f.e + t.span * (8 * d + 64) * unit * t.f.s
    each = 4 * np.sqrt(degree + 2.0) * each + (d + 8) * unit * np.linalg.norm(k * sizes, axis=1)
    whole = np.linalg.norm(sizes, axis=1) + each
    lost = t.drift + float(t.f.weight @ each) + float(t.h.gates.alpha_error @ whole)
    found = Pairs(t.f.unit, t.v, t.f.alpha, a, before)
    if free < FREE:
        more, error = _low(norm, t)
        found = Pairs(*(np.concatenate(x) for x in zip(found.parts, more.parts, strict=True)))
        lost += 3 * (t.error + error)  # T₀, T₁ and T₂
    return found, lost * (1 + 1e-12)


def _low(norm: Norm, t: gated_series.Tensors) -> tuple[Pairs, float]:
    """What f has in degrees ≤ 2 beside its gates, and the images' rounding in T₂."""
    h, (d, m), columns = t.h, (t.v.shape[1], t.t0.size), t.degree + 1
    low0, low1, error = gated_series.low_degrees(_FLOAT, norm, h)
    t1 = low1 + (h.affine if norm.root is None else h.affine @ norm.root)
    t0 = low0 + (h.offset if norm.mean is None else h.offset + h.affine @ norm.mean)
    kept = np.flatnonzero(np.append(t1.any(axis=0), t0.any()))
    parts = [(np.eye(d + 1, d)[kept], np.zeros((kept.size, d)), np.concatenate([t1.T, t0.reshape(1, m)])[kept])]
    a = [np.zeros((kept.size, columns))]
    a[0][kept < d, 1], a[0][kept == d, 0] = 1.0, 1.0
    c = [np.zeros((kept.size, columns))]
    for alpha, g, shift, v, e, _, _ in h.low:
        g, v = norm.white(_FLOAT, g, shift)[0], norm.white(_FLOAT, v, e)[0]
        length = np.linalg.norm(g, axis=1)
        heard = length > 1e-150  # else it has no T₂ that is a number
        lost = np.linalg.norm(alpha[~heard], axis=1) @ (4e-150 * np.linalg.norm(v[~heard], axis=1))
        error += float(lost) + (d + 12) * _FLOAT.unit * float(
            np.linalg.norm(alpha, axis=1) @ (length * np.linalg.norm(v, axis=1))
        )
        parts.append((g[heard] / length[heard, None], v[heard], alpha[heard]))
        a.append(np.zeros((int(heard.sum()), columns)))
        c.append(np.zeros((int(heard.sum()), columns)))
        c[-1][:, 2] = length[heard]
    unit, beside, outer = (np.concatenate(x) for x in zip(*parts, strict=True))
    return Pairs(unit, beside, outer, np.concatenate(a), np.concatenate(c)), error * (1 + 1e-12)


def stride(group: Group) -> int:
    """The rank of one atom."""
    return 2 if group.p else 1


def tails(f: Pairs, group: Group) -> Array:
    """Lower bounds of ‖f − g‖² in the degrees of the group for g of S = 0 … n atoms."""
    (n, d), m, step, p = f.unit.shape, f.alpha.shape[1], stride(group), group.p
    if not n:
        return np.zeros(1)
    weight = np.linalg.norm(f.alpha, axis=1) * (1 + 1e-12)
    heavy, light = (weight, np.ones(n)) if group.rows else (np.ones(n), weight)
    across = np.linalg.norm(f.v, axis=1) * (1 + 1e-12)
    k = np.arange(group.low, group.high + 1.0)
    a, c = (np.abs(x[:, group.low : group.high + 1]) for x in (f.a, f.c))
    whole = np.maximum(k, 1.0)  # c_{−1} = 0
    first, second = a + (k - p) / np.sqrt(whole) * across[:, None] * c, np.sqrt(p / whole) * c

    def columns(weights: Array) -> Array:
        parts = [light * np.linalg.norm(x * weights, axis=1) for x in (first, second)]
        return np.stack(parts[:step], axis=1).ravel() * (1 + 1e-12)

    own = np.stack([np.ones(n), np.sqrt(p) * across][:step], axis=1)
    one, beside = np.sum(f.unit**2, axis=1), np.sum(f.unit * f.v, axis=1)
    tangent = np.sum(f.v**2, axis=1) * one ** max(p - 1, 0) + max(p - 1, 0) * one ** max(p - 2, 0) * beside**2
    square = np.stack([one**p, tangent][:step], axis=1)
    scale = (1 + float(np.max(np.abs(f.alpha), initial=0.0))) ** 2 * (1 + float(np.max(across, initial=0.0))) ** 2
    product = Product(
        lambda rows: _left(f, group, rows),
        lambda rows: _right(f, group, rows),
        (square * heavy[:, None] ** 2).ravel(),
        (own * heavy[:, None]).ravel(),
        columns(np.ones(k.size)),
        columns(np.sqrt(k - p + 2)),
        (p + 2) * (d + 4) + m + 16,
        3 * group.high + m + 32,
        d + 2,
        group.high * scale,
        group.high * scale * (1 + float(np.max(a)) + float(np.max(c))) ** 2,
    )
    return verified(product)[::step]


def _neurons(rows: Rows, n: int, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(the neurons of some of the step·n rows, where those rows are among the rows of these neurons)."""
    index = np.arange(step * n)[rows]
    neurons, at = np.unique(index // step, return_inverse=True)
    return neurons, at.ravel() * step + index % step


def _products(f: Pairs, rows: NDArray[np.int64]) -> tuple[Array, Array, Array, Array]:
    """ρ, x, z, y."""
    unit, v = f.unit[rows], f.v[rows]
    return unit @ f.unit.T, unit @ f.v.T, v @ f.unit.T, v @ f.v.T


def _woven(blocks: list[list[Array]]) -> Array:
    """A matrix of blocks as one, row 2i and column 2j the first of each."""
    step, (rows, columns) = len(blocks), blocks[0][0].shape
    return np.stack([np.stack(line, axis=2) for line in blocks], axis=1).reshape(step * rows, step * columns)


def _outputs(f: Pairs, rows: NDArray[np.int64], step: int) -> Array:
    weight = f.alpha[rows] @ f.alpha.T
    return _woven([[weight] * step] * step)


def _left(f: Pairs, group: Group, rows: Rows) -> Array:
    """Rows of P."""
    p, step = group.p, stride(group)
    neurons, at = _neurons(rows, f.unit.shape[0], step)
    if p == 0:
        return _outputs(f, neurons, 1)[at]
    rho, x, z, y = _products(f, neurons)
    power, root = rho ** (p - 1), np.sqrt(p)
    last = power * y
    if p > 1:
        last = last + (p - 1) * rho ** (p - 2) * x * z
    out = _woven([[power * rho, root * power * x], [root * power * z, last]])
    return (out * _outputs(f, neurons, step) if group.rows else out)[at]


def _right(f: Pairs, group: Group, rows: slice) -> Array:
    """Rows of Q."""
    p, step = group.p, stride(group)
    neurons, at = _neurons(rows, f.unit.shape[0], step)
    rho, x, z, y = _products(f, neurons)
    crossed = x * z
    blocks = [[np.zeros_like(rho) for _ in range(step)] for _ in range(step)]
    low, mid, high = np.zeros_like(rho), np.zeros_like(rho), np.ones_like(rho)  # ρ^{q−2}, ρ^{q−1}, ρ^q
    for q in range(group.high - p + 1):
        k = q + p
        if q:
            low, mid, high = mid, high, high * rho
        if k < group.low:
            continue
        a, b = f.a[:, k], np.sqrt(q / max(k, 1)) * f.c[:, k]
        mine, beside = a[neurons, None], b[neurons, None]
        side, root = np.sqrt(p / max(k, 1)) * f.c[:, k], np.sqrt(q)
        blocks[0][0] += mine * a * high + root * (mine * b * x + beside * a * z) * mid
        blocks[0][0] += beside * b * (mid * y + max(q - 1, 0) * low * crossed)
        if step == 2:
            blocks[0][1] += mine * side * high + root * beside * side * mid * z
            blocks[1][0] += side[neurons, None] * (a * high + root * b * mid * x)
            blocks[1][1] += side[neurons, None] * side * high
    out = _woven(blocks)
    return (out if group.rows else out * _outputs(f, neurons, step))[at]
