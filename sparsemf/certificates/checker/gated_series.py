"""Two-sided bounds of gated blocks in L²(N(mean, Σ)) from their Hermite tensors.

In white coordinates let ĝ be the direction of a gate u = r⟨ĝ, x⟩ + b, c_k = E σ(rg + b)he_k(g), and ℓ = e + p⟨ĝ, x⟩ +
⟨v, x⟩ with v ⊥ ĝ its factor.  The last part is independent of ⟨ĝ, x⟩, so by Stein's identity σ(u)ℓ has the
normalised tensors

    T_k = A_k ĝ^{⊗k} + √k c_{k−1} Sym(ĝ^{⊗(k−1)} ⊗ v),   A_k = e c_k + p G_k,   G_k = √k c_{k−1} + √(k+1) c_{k+1},

G_k those of gσ(rg + b).  Averaging over the permutations, with ρ = ⟨ĝ, ĝ′⟩, x = ⟨ĝ, v′⟩, z = ⟨v, ĝ′⟩, y = ⟨v, v′⟩,

    ⟨T_k, T′_k⟩ = A_k A′_k ρ^k + √k (A_k c′_{k−1} x + c_{k−1}A′_k z) ρ^{k−1}
                  + c_{k−1}c′_{k−1} [yρ^{k−1} + (k−1)xzρ^{k−2}],

five polynomials in ρ by Horner's rule.  (v need not be orthogonal to ĝ for this line.)

*Lower and upper*: ‖T₀‖² + ‖T₁‖² (‖T₂‖² too where Q or an image adds to it, written out) + Σ_{k ≤ K} of the Gram form,
and for the upper end ‖h_{>K}‖².  The form ‖(σ(u)ℓ)_{>K}‖² = Σ_{k > K}A_k² + ‖v‖²Σ_{k ≥ K}c_k² in (e, p, v) is at most
size(ℓ)²·U_K², U_K² = E σ² − Σ_{k < K}c_k² + E g²σ² − Σ_{k ≤ K}G_k².  So with the groups of :mod:`gated`, M_g their
joint factors, η_i = u_i − t_i u_g, and since the μ-part of σ and what flips cost have degree 2 at most,

    ‖D_g‖_{>K} ≤ τ_g = U_K(g)·size(M_g) + Σ_i ‖α_i‖L‖η_i ℓ_i‖   or  Σ_i ‖α_i‖U_K(i)·size(ℓ_i),

or τ_g² = (U₂(g)·size(M_g) + Σ_i ‖α_i‖L‖η_i ℓ_i‖)² − the group's own Gram form of 3 ≤ k ≤ K.  E(ηℓ)² ≤ ‖η‖²‖ℓ‖² +
2⟨η, ℓ⟩², for a constant has a smaller fourth moment than a Gaussian.  Between groups Σ_{k > K}|⟨T_k(i), T_k(j)⟩| is at
most min(1, (K + 2)|ρ|^{K−1}) times the product of the two tails: the form above in (|A_k|, ‖v‖|c_{k−1}|) is at most
|ρ|^{k−2} times the square of (|ρ|, √k)·(|A_k|, ‖v‖|c_{k−1}|), and (k + 1)|ρ|^{k−2} decreases in k > K or exceeds 1.

*Lower, linear in α* (Bessel along one unit vector u): ⟨T_k, u^{⊗k}⟩.

Rounding in float64: with n_k = |A_k| + √k‖v‖|c_{k−1}|, the terms of one entry sum to at most Σ_k n_k n′_k in modulus;
each has k + 2 factors that are inner products, each within (2d + 12)u, so Σ_k(k + 2)n_k n′_k multiplies that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import gated, grouped, series, tails
from sparsemf.certificates.checker.arithmetic import UNDERFLOW, Arithmetic, Rows, Undefined
from sparsemf.certificates.checker.gated import Gated
from sparsemf.certificates.checker.hermite import energies
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import Raw

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_ROWS = 256


@dataclass(frozen=True, eq=False)
class Tensors:
    """h in white coordinates: ``f`` its gates to degree K + 1, factors (e, p, v), ``t0`` (m,), ``t1`` (m, d).

    ``error`` bounds what is wrong in any one T_k of the described function, ``drift`` ≥ ‖h − what is described‖,
    ``size`` (n,) ≥ size(ℓ_i), ``span`` (n,) what
    their roundings are multiples of.
    """

    h: Gated
    f: series.Spectrum
    e: Rows
    p: Rows
    v: Rows
    t0: Rows
    t1: Rows
    error: float
    drift: float
    span: Array
    size: Array
    degree: int


def tensors(arith: Arithmetic, norm: Norm, h: Gated, degree: int) -> Tensors:
    """The Hermite description of h up to ``degree`` ≥ 2 under a Gaussian law."""
    f = series.spectrum(arith, norm, h.gates, degree + 1)
    degree = f.c.shape[1] - 2
    v, e = norm.white(arith, h.v, h.e)
    n, d = v.shape
    along = np.sum(v * f.unit, axis=1) if n else arith.zeros((0,))
    t0 = h.offset if norm.mean is None else h.offset + h.affine @ arith.array(norm.mean)
    t1 = h.affine if norm.root is None else h.affine @ arith.array(norm.root)
    c, root = f.c, _roots(arith, 3)
    t0 = t0 + f.alpha.T @ (e * c[:, 0] + along * c[:, 1])
    t1 = t1 + (f.alpha * c[:, :1]).T @ v + (f.alpha * (e * c[:, 1] + root[2] * along * c[:, 2])[:, None]).T @ f.unit
    low0, low1, low_error = low_degrees(arith, norm, h)
    reach = norm.reach(h.v.shape[1])
    span = reach * (arith.norms(h.v) + arith.ups(abs(h.e)))
    size = norm.sizes(arith, h.v, h.e)
    heavy, grow = f.weight * span, 4 * np.sqrt(degree + 2.0)
    # each c_k to e, each factor and sum to its roundings
    error = grow * (float((f.weight * size) @ f.e) + float((h.gates.alpha_error * size) @ f.s))
    # the law's root may have fewer columns than rows
    wide = max(d, h.v.shape[1])
    error += (n + 8 * wide + 8 * degree + 64) * grow * arith.unit * float(heavy @ f.s)
    error += (h.v.shape[1] + 8) * arith.unit * reach * (arith.norm(h.affine) + arith.norm(h.offset))
    # the gates' drift is seen through ℓ: Hölder with the constants of L⁴, of L⁶ (|σ′| ≤ k|z|^{k−1}, k ≤ 8) or of a
    # tilted law (exp)
    smooth = all(np.isfinite(core.lipschitz) for core, _ in h.gates.cores())
    drift = (3.0 if smooth else 100.0) * float(f.drifts @ size)
    error = (error + low_error) * (1 + 1e-12)
    return Tensors(
        h, f, e, along, v - along[:, None] * f.unit, t0 + low0, t1 + low1, error, drift + reach * h.error, span, size,
        degree,
    )  # fmt: skip


def _roots(arith: Arithmetic, count: int) -> Rows:
    """√0, …, √(count − 1)."""
    k = np.arange(float(count))
    return np.array([x.sqrt() for x in arith.array(k)], dtype=object) if arith.exact else np.sqrt(k)


def low_degrees(arith: Arithmetic, norm: Norm, h: Gated) -> tuple[Rows, Rows, float]:
    """T₀ and T₁ of the images' affine gates and of Q, with their error."""
    m, d = h.affine.shape
    k = d if norm.root is None else norm.root.shape[1]
    t0, t1, error = arith.zeros((m,)), arith.zeros((m, k)), 0.0
    for alpha, g, c, v, e, _, _ in h.low:
        gw, gb = norm.white(arith, g, c)
        vw, vb = norm.white(arith, v, e)
        t0 = t0 + alpha.T @ (gb * vb + np.sum(gw * vw, axis=1))
        t1 = t1 + (alpha * gb[:, None]).T @ vw + (alpha * vb[:, None]).T @ gw
        reach = norm.reach(d)
        mass = (
            arith.norms(alpha) * reach**2 * (arith.norms(g) + arith.ups(abs(c))) * (arith.norms(v) + arith.ups(abs(e)))
        )
        error += (alpha.shape[0] + 8 * d + 32) * 4 * arith.unit * float(mass.sum())
    if h.quadratic is not None:
        for j, q in enumerate(h.quadratic):
            own, lost = norm.white_quadratic(arith, q)
            t0[j] = t0[j] + np.trace(own)
            t1[j] = t1[j] + 2 * own[:k, k]
            error += 4 * (d + 4) * (lost + 4 * arith.unit * arith.norm(own))
    return t0, t1, error


def degrees(arith: Arithmetic, t: Tensors, direction: Array | None) -> list[series.Degree]:
    """Lower bounds of single degrees of h: T₀, T₁ and, where nothing else adds to degree 2, along ``direction``."""
    f, h, c = t.f, t.h, t.f.c
    slack = t.error + t.drift
    out = [series.Degree(0, arith.floor_norm(t.t0) - slack), series.Degree(1, arith.floor_norm(t.t1) - slack)]
    n, d = t.v.shape
    if direction is not None and not h.low and h.quadratic is None and n:
        if direction.shape != (d,) or not abs(float(np.linalg.norm(direction)) - 1.0) <= 1e-12:
            raise ValueError("the direction must be a unit vector of the white input space")
        u, root = arith.array(direction), _roots(arith, t.degree + 2)
        rho, across = f.unit @ u, t.v @ u
        power, length = rho, arith.norms(t.v)
        for k in range(2, t.degree + 1):
            own = t.e * c[:, k] + t.p * (root[k] * c[:, k - 1] + root[k + 1] * c[:, k + 1])
            value = f.alpha.T @ (power * (own * rho + root[k] * c[:, k - 1] * across))
            turned = f.weight @ (arith.ups(abs(own)) + length * arith.ups(abs(root[k] * c[:, k - 1])))
            lost = slack + (k + 2) * (2 * d + 12) * arith.unit * float(turned)
            out.append(series.Degree(k, (arith.floor_norm(value) - lost) * (1 - 2e-12 * k)))
            power = power * rho
    return [series.Degree(x.k, max(x.lower, 0.0)) for x in out]


def affordable(arith: Arithmetic, n: int, d: int, m: int, degree: int) -> bool:
    """Whether :func:`gram` is attempted."""
    return series.affordable(arith, n, 3 * d, m, (4 if arith.exact else 3) * degree)


def gram(arith: Arithmetic, norm: Norm, t: Tensors, leader: Integers, flip: Integers) -> tuple[float, float]:
    """(lower, upper) of ‖h‖ by the Gram form with the groups' tails; (0, ∞) where it is too large."""
    h, f = t.h, t.f
    n, d = t.v.shape
    degree, m = t.degree, t.t0.shape[0]
    plain = not h.low and h.quadratic is None
    second = (0.0, 0.0) if plain else _second(arith, norm, t)
    if not affordable(arith, n, d, m, degree) or second is None:
        return 0.0, float("inf")
    leader, flip = grouped.validated(h.gates, leader, flip)
    groups = grouped.measured(arith, norm, h.gates, leader, flip)
    live = np.flatnonzero(f.weight > 0)
    present, label = np.unique(groups.label[live], return_inverse=True)
    order = np.argsort(label.ravel(), kind="stable")
    label, order = label.ravel()[order], live[order]
    starts = np.searchsorted(label, np.arange(present.size))

    root = _roots(arith, degree + 2)
    c = f.c[order]
    g = root[1:-1] * c[:, :degree] + root[2:] * c[:, 2:]  # G_1 … G_K
    a = t.e[order][:, None] * c[:, 1:-1] + t.p[order][:, None] * g
    unit, v, alpha, weight = f.unit[order], t.v[order], f.alpha[order], f.weight[order]
    form, own = _form(arith, alpha, a, c[:, :degree], unit, v, label, starts.size, plain)

    k = np.arange(1.0, degree + 1)
    length = arith.norms(v)
    rounds = (8 * max(d, h.v.shape[1]) + 64) * arith.unit
    lost = t.size[order] * f.e[order] + t.span[order] * rounds * f.s[order]
    lost = lost * 4 * np.sqrt(degree + 2.0)

    def absolute(weights: Array) -> Array:
        """‖(weights_k n_k)_{k ≥ 2}‖ of each neuron, with what is lost in it."""
        first = arith.norms(a[:, 1:] * arith.array(weights[1:]))
        other = length * arith.norms(c[:, 1:degree] * arith.array((weights * np.sqrt(k))[1:]))
        return np.asarray((first + other + weights[-1] * lost) * (1 + 1e-12), dtype=np.float64)

    count = starts.size
    s, steep = absolute(np.ones(degree)), absolute(np.sqrt(k + 2))
    per_group = np.bincount(label, weights=weight * s, minlength=count)
    turned = np.bincount(label, weights=weight * steep, minlength=count)
    per_error = np.bincount(label, weights=weight * lost + h.gates.alpha_error[order] * s, minlength=count)
    ulps, turn = (8 * degree + m + 40) * arith.unit, (2 * d + 12) * arith.unit
    total, total_error = per_group.sum(), per_error.sum()  # numpy floats: they overflow to ∞
    margin = (ulps + (2 * n + 64) * arith.unit) * total**2 + turn * turned.sum() ** 2
    # what underflows in a product of coefficients meets α and ℓ afterwards
    small = 0.0 if arith.exact else 8 * degree * UNDERFLOW
    grown = weight * (1 + t.span[order])
    margin = (margin + 2 * total * total_error + total_error**2 + small * grown.sum() ** 2) * (1 + 1e-12)
    own_margin = (ulps + (2 * np.bincount(label, minlength=count) + 8) * arith.unit) * per_group**2 + turn * turned**2
    own_margin += 2 * per_group * per_error + per_error**2
    own_margin = (own_margin + small * np.bincount(label, weights=grown, minlength=count) ** 2) * (1 + 1e-12)

    single, whole = _unit_tails(arith, f, degree), _unit_tails(arith, f, 2)
    # in no group's bound is an infinite tail multiplied by 0
    mass = np.where(f.weight > 0, f.weight * np.where(single > 0, single * t.size, 0.0), 0.0)[order] * (1 + 1e-13)
    tau = np.bincount(label, weights=mass, minlength=count)
    near, far = _shared(arith, norm, t, groups, leader, single, whole)
    beyond = np.maximum(far[present] ** 2 * (1 + 2.0**-50) - _downs(arith, own) + own_margin, 0.0)
    tau = np.minimum(np.minimum(tau, near[present]), np.sqrt(beyond)) * (1 + 1e-13)
    inside = float(np.sum(tau**2)) * (1 + 1e-13)
    cross = max(tau.sum() ** 2 * (1 + (n + 64) * 2.0**-51) - float(np.sum(tau**2)), 0.0)
    if cross > 1e-4 * max(arith.up(form) + inside, 0.0) + 1e-300:
        cross = min(cross, tails.between(arith, unit, starts, mass, tau, degree - 1, degree + 2.0))
    head = np.sqrt(arith.norm(t.t0) ** 2 + arith.norm(t.t1) ** 2) + 2 * t.error
    upper = np.sqrt(head**2 + second[1] ** 2 + arith.up(form) + margin + inside + cross) * (1 + 1e-14) + t.drift
    floor = max(np.sqrt(arith.floor_norm(t.t0) ** 2 + arith.floor_norm(t.t1) ** 2) - 2 * t.error, 0.0)
    lower = np.sqrt(floor**2 + second[0] ** 2 + max(arith.down(form) - margin, 0.0)) * (1 - 1e-14) - t.drift
    return max(float(lower), 0.0), float(upper) if upper == upper else float("inf")


def _downs(arith: Arithmetic, x: Rows) -> Array:
    return np.array([arith.down(v) for v in x] + [0.0])[:-1]


def _second(arith: Arithmetic, norm: Norm, t: Tensors) -> tuple[float, float] | None:
    """(lower, upper) of ‖T₂‖ written out, or None when it is too large: Σ α[A₂ĝĝᵀ + √2 c₁ sym(ĝvᵀ)] + √2·(Q + Σ
    sym(gℓᵀ) of the images' affine gates)."""
    f, h = t.f, t.h
    n, d = t.v.shape
    m = t.t0.shape[0]
    rows = n + sum(low[0].shape[0] for low in h.low)
    if m * d * d * (max(rows, 1) if arith.exact else 1) > series.DENSE or rows * m * d * d > 1e10:
        return None
    root, c, error, out = _roots(arith, 4), f.c, t.error, []
    own = t.e * c[:, 2] + t.p * (root[2] * c[:, 1] + root[3] * c[:, 3])
    half = arith.array([0.5])[0]
    low = [(x[0], norm.white(arith, x[1], x[2])[0], norm.white(arith, x[3], x[4])[0]) for x in h.low]
    for j in range(m):
        q = f.unit.T @ ((f.alpha[:, j] * own)[:, None] * f.unit + (root[2] * f.alpha[:, j] * c[:, 1])[:, None] * t.v)
        for alpha, gw, vw in low:
            q = q + root[2] * (gw.T @ (alpha[:, j][:, None] * vw))
        q = half * (q + q.T)
        if h.quadratic is not None:
            white, lost = norm.white_quadratic(arith, h.quadratic[j])
            q = q + root[2] * white[:d, :d]
            error += 2 * lost + 8 * arith.unit * arith.norm(white)
        out.append(q.ravel())
    stacked = np.concatenate(out)
    return max(arith.floor_norm(stacked) - error, 0.0), arith.norm(stacked) + error


def _form(
    arith: Arithmetic, alpha: Rows, a: Rows, c: Rows, unit: Rows, v: Rows, label: Integers, groups: int, plain: bool
) -> tuple[Rows, Rows]:
    """(Σ_ij ⟨α_i, α_j⟩ Σ_k ⟨T_k(i), T_k(j)⟩ from k = 2 (``plain``) or 3 to K, the same from 3 within each group).

    Columns of ``a`` and ``c``: A_1 … A_K and c_0 … c_{K−1}; neurons sorted by label.
    """
    n, degree = a.shape
    form, own = arith.zeros((1,)), arith.zeros((groups, 1))
    b = _roots(arith, degree + 1)[1:] * c
    lifted = _roots(arith, degree) * c
    pairs = [(a, a), (a, b), (b, a), (c, c), (lifted, lifted)]
    columns = [np.ascontiguousarray(right.T) for _, right in pairs]
    step = n if arith.exact else _ROWS
    for start in range(0, n, max(step, 1)):
        rows = slice(start, start + step)
        rho = unit[rows] @ unit.T
        if not arith.exact:
            np.clip(rho, -1.0, 1.0, out=rho)
        x, z, y = unit[rows] @ v.T, v[rows] @ unit.T, v[rows] @ v.T
        weight = alpha[rows] @ alpha.T
        sums = [rho * 0 for _ in pairs]

        def added(k: int, sums: list[Rows] = sums, rows: slice = rows) -> None:
            for total, (left, _), column in zip(sums, pairs, columns, strict=True):
                total += left[rows, k - 1][:, None] * column[k - 1][None, :]

        for k in range(degree, 2, -1):
            for total in sums:
                total *= rho
            added(k)
        block = _combined(sums, rho, x, y, z) * rho * weight
        inside = np.where(label[rows][:, None] == label[None, :], block, 0.0 * rho[0, 0])
        own = own + arith.grouped(np.sum(inside, axis=1)[:, None], label[rows], groups)
        if plain:
            for total in sums:
                total *= rho
            added(2)
            block = _combined(sums, rho, x, y, z) * weight
        form[0] = form[0] + np.sum(np.sum(block, axis=1))  # in any order at most 2n + 64 additions deep
    return form[0], own[:, 0]


def _combined(sums: list[Rows], rho: Rows, x: Rows, y: Rows, z: Rows) -> Rows:
    """Σ_k ⟨T_k, T′_k⟩/ρ^{k−2} from the five sums."""
    both, right, left, inner, crossed = sums
    return (both * rho + right * x + left * z + inner * y) * rho + crossed * x * z


def _unit_tails(arith: Arithmetic, f: series.Spectrum, degree: int) -> Array:
    """U_K of the module's docstring for every gate, K = ``degree``."""
    r, b = f.white
    out = np.zeros(f.weight.size)
    root = _roots(arith, degree + 2)
    live = arith.norms(f.unit) > 0.5  # even where all c_k are 0 by underflow
    for core, rows in f.h.cores():
        if core.power and core.name.startswith("power") and core.power < degree:
            continue
        own = rows[live[rows]]
        if not own.size:
            continue
        c, s = f.c[own], f.s[own]
        g = root[1 : degree + 1] * c[:, :degree] + root[2:] * c[:, 2 : degree + 2]
        # both Bessel sums, G_0 = c_1 included
        known = np.sum(c[:, :degree] ** 2, axis=1) + np.sum(g * g, axis=1) + c[:, 1] ** 2
        whole = [energies(arith, core, r[own], b[own], weighted) for weighted in (False, True)]
        length = arith.norms(g) + s
        lost = 4 * np.sqrt(degree + 1.0) * length * f.e[own] + (2 * degree + 32) * arith.unit * length**2
        lost += 4 * arith.unit * arith.ups(abs(whole[0]) + abs(whole[1]))
        found = np.sqrt(arith.ups(whole[0] + whole[1] - known) + lost) * (1 + 1e-14)
        out[own] = np.where(found == found, found, np.inf)
    return out


def _shared(
    arith: Arithmetic, norm: Norm, t: Tensors, groups: grouped.Groups, leader: Integers, single: Array, whole: Array
) -> tuple[Array, Array]:
    """Bounds of each group beyond K and beyond degree 2 by its head and the members' distances from it."""
    h, f = t.h, t.f
    size = gated.joined(arith, norm, h, groups)
    near, far = np.zeros(size.size), np.zeros(size.size)
    head = groups.head
    silent = (f.weight[head] == 0) & (size > 0)  # a silent head has no coefficients here
    with np.errstate(invalid="ignore", divide="ignore"):
        drift = np.where(f.weight[head] > 0, f.drifts[head] / f.weight[head], 0.0)
        for out, tails in ((near, single), (far, whole)):
            out += np.where(size > 0, (tails[head] + 3 * drift) * size, 0.0)
            out[silent] = np.inf
    part = np.bincount(groups.label, weights=3 * f.drifts * t.size, minlength=size.size)
    for core, rows in h.gates.cores():
        if not np.isfinite(core.lipschitz):
            part[np.isin(head, rows)] = np.inf
            continue
        moved = rows[(leader[rows] != rows) & (f.weight[rows] > 0)]
        own = f.weight[moved] * core.lipschitz * _products(arith, norm, h, groups, t.size, moved)
        part += np.bincount(groups.label[moved], weights=own, minlength=size.size)
    return (near + part) * (1 + 1e-13), (far + part) * (1 + 1e-13)


def _products(arith: Arithmetic, norm: Norm, h: Gated, groups: grouped.Groups, size: Array, rows: Integers) -> Array:
    """Upper bounds of ‖η_i ℓ_i‖ ≤ √(‖η‖²‖ℓ‖² + 2⟨η, ℓ⟩²)."""
    gap, size = groups.gap[rows], size[rows]
    gw, gb = norm.white(arith, groups.gap_w[rows], groups.gap_b[rows])
    vw, vb = norm.white(arith, h.v[rows], h.e[rows])
    inner = arith.ups(abs(np.sum(gw * vw, axis=1) + gb * vb))
    # the vector that ``gap`` bounds is the one here up to the difference of their lengths' bounds and roundings
    seen = np.hypot(arith.norms(gw), arith.ups(abs(gb)))
    reach = norm.reach(h.v.shape[1])
    span = np.hypot(arith.norms(groups.gap_w[rows]), arith.ups(abs(groups.gap_b[rows]))) * reach
    factor = reach * np.hypot(arith.norms(h.v[rows]), arith.ups(abs(h.e[rows])))
    rounded = np.maximum(gap - seen * (1 - 1e-12), 0.0) * size + (4 * h.v.shape[1] + 32) * arith.unit * span * factor
    inner = np.minimum(inner + rounded, gap * size)
    return np.asarray(np.hypot(gap * size, np.sqrt(2.0) * inner) * (1 + 1e-14), dtype=np.float64)


def distance_bounds(
    arith: Arithmetic,
    norm: Norm,
    a: Raw,
    b: Raw,
    leader: Integers,
    flip: Integers,
    direction: Array | None,
    degree: int,
    form: bool = False,
) -> tuple[float, float, list[series.Degree]]:
    """(lower, upper) of ‖f_A − f_B‖ and its degrees, ``form``: with the Gram form; the lower end of the sup norm comes
    from a witness."""
    h = gated.expand(arith, (a, 1.0), (b, -1.0))
    high = gated.upper(arith, norm, h, leader, flip)
    if norm.kind == "empirical":
        low, top = gated.root_mean_square(arith, h, norm.data)
        return low, min(high, top), []
    if norm.kind == "sup":
        return 0.0, high, []
    try:
        t = tensors(arith, norm, h, degree)
        found = degrees(arith, t, direction)
        low, top = gram(arith, norm, t, leader, flip) if form else (0.0, high)
    except Undefined:
        return 0.0, high, []
    return max(series.linear_lower(found), low), min(high, top), found


def norm_bounds(arith: Arithmetic, norm: Norm, a: Raw, degree: int = 4, form: bool = False) -> tuple[float, float]:
    """(lower, upper) of ‖f_A‖ (lower 0 in the sup norm)."""
    h = gated.expand(arith, (a, 1.0))
    if norm.kind == "empirical":
        return gated.root_mean_square(arith, h, norm.data)
    n = h.gates.core.size
    alone = np.arange(n), np.ones(n, dtype=np.int64)
    high = gated.upper(arith, norm, h, *alone)
    if norm.kind == "sup":
        return 0.0, high
    try:
        t = tensors(arith, norm, h, degree)
        low = series.linear_lower(degrees(arith, t, None))
        least, most = gram(arith, norm, t, *alone) if form else (0.0, high)
    except Undefined:
        return 0.0, high
    return max(low, least), min(high, most)
