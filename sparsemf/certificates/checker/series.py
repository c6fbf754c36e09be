"""Two-sided bounds of ‖h‖ in L²(N(mean, Σ)) from the Hermite series of its neurons.

In white coordinates a neuron (w, b) of any core has normalised Hermite tensors T_k = c_k ŵ^{⊗k}, so that
‖h‖² = Σ_k ‖Σ_i α_i c_k(i) ŵ_i^{⊗k}‖², across activations too.

*Lower* (truncation only lowers): ‖T₀‖² + ‖T₁‖², T₂ where it is small enough to write down, and for the rest Bessel's
inequality on he_k(⟨u, ·⟩) for one unit vector u: sums that are linear in α, so they do not cancel.  Or the Gram form
Σ_{2 ≤ k ≤ K} Σ_ij ⟨α_i, α_j⟩ c_k(i)c_k(j) cos_ij^k, which keeps all directions.

*Upper*: ‖T₀‖² + ‖T₁‖² + the Gram form + ‖h_{>K}‖².  With the groups of :mod:`grouped`, D_g their parts of h:
‖D_g‖² beyond degree 1 is at most B_g² = (Σ_{i ∈ g} ‖α_i‖L·gap_i + ‖κ_g‖·L·r_g)² (subtracting μz changes degrees 0, 1
only, and the variance of an L-Lipschitz function of N(0, r²) is at most L²r²: Poincaré), so τ_g² = B_g² − E_g with E_g
the group's own Gram form bounds its tail (or τ_g = min(‖κ_g‖t_g + Σ_{i ∈ g} ‖α_i‖L·gap_i, Σ_{i ∈ g} ‖α_i‖t_i)), and
for g ≠ g′ |⟨D_g, D_g′⟩_{>K}| is at most min(τ_g τ_g′, Σ_{i ∈ g, j ∈ g′} ‖α_i‖‖α_j‖|cos_ij|^{K+1} t_i t_j), with t_i²
≥ Σ_{k > K} c_k(i)² from c_k^σ = (r/√k)c_{k−1}^{σ′}: [(L r)² − (c₁ − μr)² − Σ_{2 ≤ k ≤ K} k c_k²]/(K + 1); for relu²,
where |σ″ − 1| ≤ 1, [r⁴ − 2(c₂ − r²/√2)² − Σ_{3 ≤ k ≤ K} k(k − 1)c_k²] /(K(K + 1)); for exp c_K²·q/(1 − q), q = r²/(K
+ 1).

Rounding in float64, proved term by term: cos_ij to (2d + 12)u, which Σ_k k|c_k c′_k| ≤ ‖(√k c_k)‖‖(√k c′_k)‖ multiplies
(k ≥ 2); Horner to (2K + 2)u, the sums to (number of terms)u.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import grouped, tails
from sparsemf.certificates.checker.arithmetic import Arithmetic, Rows, Undefined
from sparsemf.certificates.checker.catalogue import CORES, ORDER, Core
from sparsemf.certificates.checker.expansion import Expanded
from sparsemf.certificates.checker.hermite import coefficients, energies
from sparsemf.certificates.checker.laws import Norm, norm_of_sum

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_ROWS = 256
MOST_TERMS = 6e10
"""Float64: n²·(d + m + 8K) beyond this is not attempted."""
MOST_BALLS = 6e6
"""Balls: n²·K beyond this is not attempted."""
MOST_COEFFICIENTS = 4_000_000
"""Neurons times degrees beyond this are not computed at more than 128 degrees."""
DENSE = 4_000_000
"""Entries of a T₂ beyond this are not written down."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """h in white coordinates; ``c`` (n, K + 1) with ℓ²-errors ``e`` (n,), ``s`` (n,) ≥ ‖c_i‖, ``weight`` (n,) ≥ ‖α_i‖.

    ``t0`` (m,) and ``t1`` (m, d) have the joint error ``low_error``; ``drifts`` (n,) sum to ``drift`` ≥ ‖h − what is
    described here‖; ``white`` the (‖w‖, b) that c was computed for; ``quadratic_error`` what rounds in ``quadratic``.
    """

    h: Expanded
    alpha: Rows
    unit: Rows
    r: Array
    c: Rows
    e: Array
    s: Array
    weight: Array
    t0: Rows
    t1: Rows
    quadratic: list[Rows] | None
    low_error: float
    drifts: Array
    white: tuple[Rows, Rows]
    quadratic_error: float

    @property
    def drift(self) -> float:
        """See above."""
        return float(self.drifts.sum()) * (1 + 1e-12)


def spectrum(arith: Arithmetic, norm: Norm, h: Expanded, degree: int) -> Spectrum:
    """The Hermite description of h up to ``degree`` ≥ 2 under a Gaussian law."""
    degree = max(degree, 2)
    w, b = norm.white(arith, h.w, h.b)
    n, d = w.shape
    if degree > 129 and n * degree > MOST_COEFFICIENTS:
        raise Undefined("too many neurons for so many degrees")
    reach = norm.reach(h.w.shape[1])
    span = h.lengths + arith.ups(abs(h.b))
    weight = h.weights
    square = arith.squares(w)
    r = (
        np.array([v.sqrt() if v > 0 else v for v in square] + [0], dtype=object)[:-1]
        if arith.exact
        else np.sqrt(square)
    )
    r_up = arith.ups(abs(r))
    # a direction below the rounding of the whitening is a constant
    lost = reach * h.point_error + (0.0 if norm.standard else (h.w.shape[1] + 4) * arith.unit * reach * span)
    flat = r_up <= np.maximum(4 * lost, 1e-140)
    if arith.exact:
        flat |= np.array([not v > 0 for v in square], dtype=bool)
    # a square that underflowed, or a ball that touches 0, does not bound ‖w‖
    r_up = np.where(flat, arith.norms(w), r_up) if flat.any() else r_up
    keep = np.flatnonzero(~flat & (weight > 0))
    c = arith.zeros((n, degree + 1))
    e, moved = np.zeros(n), lost + (d + 4) * arith.unit * r_up
    moved = np.where(flat, lost + r_up, moved)
    drifts = np.zeros(n)
    size = np.hypot(r_up, arith.ups(abs(b))) + lost
    for core, rows in h.cores():
        live = rows[np.isin(rows, keep)]
        if live.size:
            c[live], e[live] = coefficients(arith, core, r[live], b[live], degree)
        still = rows[flat[rows] & (weight[rows] > 0)]
        if still.size:
            value = [core.ball(v) for v in b[still]] if arith.exact else core.value(b[still])
            c[still, 0] = np.array([*value, 0], dtype=object)[:-1] if arith.exact else value
            e[still] = 64 * arith.unit * (core.at_zero + _slope(core, size[still]) * size[still])
        rows = rows[(weight[rows] > 0) & (moved[rows] > 0)]
        drifts[rows] = weight[rows] * _full_change(norm, core, moved[rows], size[rows])
    s = arith.norms(c) + e
    unit = arith.zeros((n, d))
    if keep.size:
        unit[keep] = w[keep] / r[keep][:, None]
    a = h.affine if norm.root is None else h.affine @ arith.array(norm.root)
    t0 = h.offset if norm.mean is None else h.offset + h.affine @ arith.array(norm.mean)
    t0 = t0 + h.alpha.T @ c[:, 0]
    t1 = a + (h.alpha * c[:, 1:2]).T @ unit
    error = float(weight @ e) + float(h.alpha_error @ s) + (n + 2 * d + 24) * arith.unit * float(weight @ s)
    error += reach * h.affine_error
    affine_span = arith.norm(h.affine) + arith.norm(h.offset)
    error += (h.w.shape[1] + 6) * arith.unit * reach * affine_span
    quadratic, lost_quadratic = None, 0.0
    if h.quadratic is not None:
        quadratic, lost_quadratic = _quadratic(arith, norm, h)
        for j in range(t0.shape[0]):
            t0[j] = t0[j] + np.trace(quadratic[j][:d, :d]) + quadratic[j][d, d]
            t1[j] = t1[j] + 2 * quadratic[j][:d, d]
        error += 4 * (d + 4) * lost_quadratic
    if not np.isfinite(error + drifts.sum()):
        raise Undefined("the series overflows")
    error *= 1 + 1e-12
    return Spectrum(h, h.alpha, unit, r_up, c, e, s, weight, t0, t1, quadratic, error, drifts, (r, b), lost_quadratic)


def _slope(core: Core, size: Array) -> Array:
    return (
        np.full(size.shape, core.slope)
        if np.isfinite(core.lipschitz)
        else np.maximum(core.power, 1) * (1 + size) ** max(core.power - 1, 1)
    )


def _full_change(norm: Norm, core: Core, gap: Array, size: Array) -> Array:
    """‖σ(s) − σ(t)‖, the μ-part included."""
    return grouped.change(norm, core, gap, size, size + gap) + core.centre * gap


def _quadratic(arith: Arithmetic, norm: Norm, h: Expanded) -> tuple[list[Rows], float]:
    assert h.quadratic is not None
    parts = [norm.white_quadratic(arith, q) for q in h.quadratic]
    return [p for p, _ in parts], float(sum(lost + 2 * arith.unit * arith.norm(p) for p, lost in parts))


def degree_two(arith: Arithmetic, f: Spectrum) -> tuple[float, float] | None:
    """(lower, upper) of ‖T₂‖ written out, or None when it is too large."""
    n, d = f.unit.shape
    m = f.t0.shape[0]
    if m * d * d > (DENSE if not arith.exact else DENSE // 50) or n * m * d * d > (1e10 if not arith.exact else 3e6):
        return None
    high = low = 0.0
    error = float(f.weight @ f.e) + float(f.h.alpha_error @ f.s) + (n + 4 * d + 32) * arith.unit * float(f.weight @ f.s)
    tensor = []
    for j in range(m):
        q = f.unit.T @ ((f.alpha[:, j] * f.c[:, 2])[:, None] * f.unit) if n else arith.zeros((d, d))
        if f.quadratic is not None:
            own = f.quadratic[j][:d, :d]
            q = q + (arith.array(2.0).ravel()[0] ** 0.5 if not arith.exact else arith.array([2.0])[0].sqrt()) * own
            error += 8 * arith.unit * arith.norm(own) + 1.5 * f.quadratic_error
        tensor.append(q.ravel())
    stacked = np.concatenate(tensor)
    high, low = arith.norm(stacked) + error, max(arith.floor_norm(stacked) - error, 0.0)
    return low, high


@dataclass(frozen=True)
class Degree:
    """A proven statement: the degree-``k`` part of h has norm ≥ ``lower`` (as seen by T_k or along one direction)."""

    k: int
    lower: float


def degrees(arith: Arithmetic, f: Spectrum, direction: Array | None) -> list[Degree]:
    """Lower bounds of ‖T_k‖ for every k up to the spectrum's degree; the sum of their squares bounds ‖h‖² below.

    ``drift`` is taken off each: projections onto degree k are contractions.
    """
    low = [
        Degree(0, arith.floor_norm(f.t0) - f.low_error - f.drift),
        Degree(1, arith.floor_norm(f.t1) - f.low_error - f.drift),
    ]
    first = 2
    if (second := degree_two(arith, f)) is not None:
        low.append(Degree(2, second[0] - f.drift))
        first = 3
    if direction is not None:
        if direction.shape != (f.unit.shape[1],) or not abs(float(np.linalg.norm(direction)) - 1.0) <= 1e-12:
            raise ValueError("the direction must be a unit vector of the white input space")
        cosine = f.unit @ arith.array(direction)
        power = cosine ** (first - 1)
        d, n = direction.size, f.weight.size
        for k in range(first, f.c.shape[1]):
            power = power * cosine
            if k == 2 and f.quadratic is not None:
                continue
            value = f.alpha.T @ (f.c[:, k] * power)
            error = float(f.weight @ f.e) + float(f.h.alpha_error @ f.s)
            error += (n + 3 * k + 4 + k * (2 * d + 12)) * arith.unit * float(f.weight @ f.s)
            # ‖u‖ = 1 to 1e-12 only: he_k(⟨u, x⟩) is normalised to k·1e-12
            low.append(Degree(k, (arith.floor_norm(value) - error) * (1 - 2e-12 * k) - f.drift))
    return [Degree(x.k, max(x.lower, 0.0)) for x in low]


def linear_lower(found: list[Degree]) -> float:
    """√Σ of squares."""
    return float(np.sqrt(sum(x.lower**2 for x in found))) * (1 - 1e-14)


def spectral_upper(arith: Arithmetic, norm: Norm, f: Spectrum, enough: float = float("inf")) -> float:
    """Upper bound of ‖h‖ without the Gram form: with φ_i the neurons beyond degree 1, ‖φ_i‖ ≤ s_i, and A' the matrix of
    the rows α_i √(s_i/‖α_i‖), E‖Σ α_i φ_i‖² ≤ ‖A'‖₂²·Σ ‖α_i‖s_i (Cauchy–Schwarz; never above (Σ ‖α_i‖s_i)²); degrees 0
    and 1 (2 with Q, then counted twice) are written out.  ∞ where it would be above ``enough`` anyway."""
    second = degree_two(arith, f) if f.quadratic is not None else (0.0, 0.0)
    if second is None:
        return float("inf")
    # ‖A'‖₂²·min(n, m) ≥ ‖A'‖_F² = Σ ‖α_i‖s_i
    if enough * np.sqrt(min(f.alpha.shape)) < 0.5 * float(f.weight @ arith.norms(f.c[:, 2:])):
        return float("inf")
    size = np.zeros(f.weight.size)
    for core, rows in f.h.cores():
        own = rows[f.weight[rows] > 0]
        bound = _own(arith, norm, core, f, own, norm.sizes(arith, f.h.w[own], f.h.b[own]))
        described = np.hypot(arith.norms(f.c[own, 2:]) + f.e[own], _single(arith, core, f, own)) * (1 + 1e-14)
        size[own] = np.minimum(bound, described)
    beyond = norm_of_sum(arith, f.alpha, f.h.alpha_error, f.weight, size)
    head = np.sqrt(arith.norm(f.t0) ** 2 + arith.norm(f.t1) ** 2) + f.low_error
    square = head**2 + second[1] ** 2 + beyond**2
    return float(np.sqrt(square) * (1 + 1e-12) + f.drift)


def affordable(arith: Arithmetic, n: int, d: int, m: int, degree: int) -> bool:
    """Whether :func:`gram` is attempted."""
    return n * n * degree <= MOST_BALLS if arith.exact else float(n) ** 2 * (d + m + 8 * degree) <= MOST_TERMS


def gram(
    arith: Arithmetic, norm: Norm, h: Expanded, f: Spectrum, leader: Integers, flip: Integers
) -> tuple[float, float]:
    """(lower, upper) of ‖h‖ by the Gram form with the groups' tails; (0, ∞) where it is too large."""
    n, d = f.unit.shape
    degree, m = f.c.shape[1] - 1, f.t0.shape[0]
    second = degree_two(arith, f) if f.quadratic is not None else (0.0, 0.0)
    if not affordable(arith, n, d, m, degree) or second is None:
        return 0.0, float("inf")
    first = 2 if f.quadratic is None else 3  # T₂ with Q is written out
    leader, flip = grouped.validated(h, leader, flip)
    groups = grouped.measured(arith, norm, h, leader, flip)
    live = np.flatnonzero(f.weight > 0)
    present, label = np.unique(groups.label[live], return_inverse=True)
    order = np.argsort(label.ravel(), kind="stable")
    label, order = label.ravel()[order], live[order]
    starts = np.searchsorted(label, np.arange(present.size))
    alpha, c, unit = f.alpha[order], f.c[order], f.unit[order]
    form, own = _form(arith, alpha, c, unit, label, starts.size, first)
    weight, e = f.weight[order], f.e[order]
    roots = arith.array(np.sqrt(np.arange(2.0, degree + 1)))
    s = arith.norms(c[:, 2:]) + e
    steep = (arith.norms(c[:, 2:] * roots) + np.sqrt(degree) * e) * (1 + 1e-12)
    per_group = np.bincount(label, weights=weight * s, minlength=starts.size)
    turned = np.bincount(label, weights=weight * steep, minlength=starts.size)
    per_group_error = np.bincount(label, weights=weight * e + f.h.alpha_error[order] * s, minlength=starts.size)
    ulps, turn = (2 * degree + 2 + m + 8) * arith.unit, (2 * d + 12) * arith.unit
    total, total_error = per_group.sum(), per_group_error.sum()  # numpy floats: they overflow to ∞
    members = np.bincount(label, minlength=starts.size)
    margin = (ulps + (2 * n + 64) * arith.unit) * total**2 + turn * turned.sum() ** 2
    margin = (margin + 2 * total * total_error + total_error**2) * (1 + 1e-12)
    own_margin = (ulps + 2 * members * arith.unit) * per_group**2 + turn * turned**2
    own_margin += 2 * per_group * per_group_error + per_group_error**2
    beyond, direct, single = _beyond(arith, norm, h, f, groups, leader)
    tau = np.sqrt(np.maximum(_excess(arith, beyond[present], own), 0.0) + own_margin) * (1 + 1e-14)
    tau = np.minimum(tau, direct[present])
    mass, signs = weight * single[order], groups.flip[order]
    turn_to = arith.array(signs.astype(float))[:, None] * unit
    chi = arith.norms(turn_to - np.repeat(turn_to[starts], members, axis=0)) + turn
    least, most, along = _kinked(arith, f, alpha, turn_to, order, signs, starts, own, own_margin)
    tau = np.minimum(tau, most)
    inside = float(np.sum(tau**2)) * (1 + 1e-13)
    cross = max(tau.sum() ** 2 * (1 + (n + 64) * 2.0**-51) - float(np.sum(tau**2)), 0.0)
    if cross > 1e-4 * max(arith.up(form) + inside, 0.0) + 1e-300:
        bent = 0.5 * np.bincount(label, weights=mass * chi**2, minlength=starts.size)
        z = np.minimum(direct[present], along) / (degree + 1) + bent
        y = np.bincount(label, weights=mass * chi, minlength=starts.size)
        widest = np.asarray(np.maximum.reduceat(chi, starts), dtype=np.float64)
        dipole = (z * (1 + 1e-12), np.asarray(y * (1 + 1e-12), dtype=np.float64), widest)
        cross = min(cross, tails.between(arith, unit, starts, mass, tau, degree + 1, dipole=dipole))
    head = np.hypot(np.sqrt(arith.norm(f.t0) ** 2 + arith.norm(f.t1) ** 2) + f.low_error, second[1]) * (1 + 1e-15)
    upper = np.sqrt(head**2 + arith.up(form) + margin + inside + cross) * (1 + 1e-14) + f.drift
    floor = np.sqrt(arith.floor_norm(f.t0) ** 2 + arith.floor_norm(f.t1) ** 2) - f.low_error
    known = max(float(np.sum(least)) * (1 - 1e-13) - cross, 0.0) + max(arith.down(form) - margin, 0.0)
    lower = np.sqrt(max(floor, 0.0) ** 2 + second[0] ** 2 + known) * (1 - 1e-14) - f.drift
    return max(float(lower), 0.0), float(upper) if upper == upper else float("inf")


def _kinked(
    arith: Arithmetic,
    f: Spectrum,
    alpha: Rows,
    unit: Rows,
    order: Integers,
    signs: Integers,
    starts: Integers,
    own: Rows,
    margin: Array,
) -> tuple[Array, Array, Array]:
    """Bounds of ‖D_g‖²_{>K} from below, and of ‖D_g‖_{>K} from above, for the groups of relu neurons: E‖D_g‖² of the
    neurons after their flips, relu(z) = relu(−z) + z, less its degrees 0 and 1 and the Gram form of the others; and
    the same from above as if all of a group's directions were one."""
    least, most, along = np.zeros(starts.size), np.full(starts.size, np.inf), np.full(starts.size, np.inf)
    # neurons described as constants have no kink
    kinked = (f.h.core[order] == ORDER.index("relu")) & (arith.norms(unit) > 0.5)
    fit = np.logical_and.reduceat(kinked, starts) if starts.size else kinked
    chosen = np.flatnonzero(fit)
    if not chosen.size or f.quadratic is not None:
        return least, most, along
    label = np.repeat(np.arange(starts.size), np.diff(np.concatenate([starts, [order.size]])))
    rows = np.flatnonzero(fit[label])
    label = np.searchsorted(chosen, label[rows])
    at = np.searchsorted(label, np.arange(chosen.size))
    alpha, unit, signs, order = alpha[rows], unit[rows], signs[rows], order[rows]
    r, b, c, weight = f.white[0][order], f.white[1][order], f.c[order], f.weight[order]
    turned = signs < 0
    low = np.stack([np.where(turned, c[:, 0] - b, c[:, 0]), np.where(turned, r - c[:, 1], c[:, 1])], axis=1)
    b = np.where(turned, -b, b)
    main, lowest, highest, error = tails.relu_energies(arith, alpha, r, b, low, unit, weight, at)
    length = arith.ups(r) + arith.ups(abs(b))
    mass = np.bincount(label, weights=weight * length, minlength=chosen.size)
    lost = weight * (f.e[order] + 4 * arith.unit * length) + f.h.alpha_error[order] * length
    lost = np.bincount(label, weights=lost, minlength=chosen.size)
    rest = main - own[chosen]
    error = (error + margin[chosen] + 4 * lost * (2 * mass + lost)) * (1 + 1e-12)
    least[chosen], most[chosen] = _ends(arith, rest, lowest, highest, error)
    main, lowest, highest, error = tails.relu_energies(arith, alpha, r, b, low, unit[:, :1] * 0 + 1, weight, at)
    for k in range(2, c.shape[1]):
        part = np.where(turned, c[:, k] * (-1) ** k, c[:, k])[:, None] * alpha
        main = main - arith.squares(arith.grouped(part, label, chosen.size))
    error = (error + 2 * margin[chosen] + 4 * lost * (2 * mass + lost)) * (1 + 1e-12)
    along[chosen] = _ends(arith, main, lowest, highest, error)[1]
    return least, most, along


def _ends(arith: Arithmetic, main: Rows, low: Array, high: Array, error: Array) -> tuple[Array, Array]:
    """(least square, greatest root) of main + [low, high] ± error."""
    with np.errstate(invalid="ignore"):
        top = np.array([arith.up(v) for v in main + arith.array(high)] + [0.0])[:-1] + error
        bottom = np.array([arith.down(v) for v in main + arith.array(low)] + [0.0])[:-1] - error
    root = np.sqrt(np.maximum(top, 0.0)) * (1 + 1e-14)
    return np.where(bottom == bottom, np.maximum(bottom, 0.0), 0.0), np.where(root == root, root, np.inf)


def _form(
    arith: Arithmetic, alpha: Rows, c: Rows, unit: Rows, label: Integers, groups: int, first: int
) -> tuple[Rows, Rows]:
    """(Σ_ij 𝒜_ij Σ_{k ≥ first} c_k c_k′ cos^k, the same within each group), neurons sorted by label."""
    n = label.size
    own = arith.zeros((groups, 1))
    form = arith.zeros((1,))
    rows_at_once = n if arith.exact else _ROWS
    columns = np.ascontiguousarray(c.T)
    for start in range(0, n, max(rows_at_once, 1)):
        rows, right = slice(start, start + rows_at_once), slice(start, n)
        cos = unit[rows] @ unit[right].T
        if not arith.exact:
            np.clip(cos, -1.0, 1.0, out=cos)
        block = cos * 0
        for k in range(c.shape[1] - 1, first - 1, -1):
            block += c[rows, k][:, None] * columns[k, right][None, :]
            block *= cos
        block = (block * cos if first == 2 else block * cos * cos) * (alpha[rows] @ alpha[right].T)
        block[:, block.shape[0] :] *= 2  # both forms are symmetric; the rows that are done hold the other half
        form[0] = form[0] + np.sum(np.sum(block, axis=1))  # in any order at most 2n + 64 additions deep
        inside = np.where(label[rows][:, None] == label[right][None, :], block, 0.0 * block[0, 0])
        own = own + arith.grouped(np.sum(inside, axis=1)[:, None], label[rows], groups)
    return form[0], own[:, 0]


def _beyond(
    arith: Arithmetic, norm: Norm, h: Expanded, f: Spectrum, groups: grouped.Groups, leader: Integers
) -> tuple[Array, Array, Array]:
    """(B_g, τ_g, t_i): bounds of each group beyond degree 1 and beyond the series' degree, of each neuron beyond the
    latter."""
    degree = f.c.shape[1] - 1
    beyond: Array = np.zeros(groups.head.size)
    direct, single = np.zeros(groups.head.size), np.zeros(h.core.size)
    kappa = arith.norms(groups.total) + groups.total_error
    members = np.bincount(groups.label, minlength=groups.head.size)
    for core, rows in h.cores():
        single[rows] = _single(arith, core, f, rows)
        inside = np.flatnonzero(np.isin(groups.head, rows))
        heads = groups.head[inside]
        with np.errstate(invalid="ignore"):
            own = _own(arith, norm, core, f, heads, groups.size[heads])
            beyond[inside] += np.where(kappa[inside] > 0, kappa[inside] * own, 0.0)
            direct[inside] += np.where(kappa[inside] > 0, kappa[inside] * single[heads], 0.0)
            # D_g is around the head itself, its coefficients are those of the head as described
            slip = kappa[inside] * f.drifts[heads] / np.where(f.weight[heads] > 0, f.weight[heads], 1.0)
            slip = np.where((kappa[inside] > 0) & (members[inside] > 1), slip, 0.0)
        beyond[inside], direct[inside] = beyond[inside] + slip, direct[inside] + slip
        # a silent head has no coefficients here, so nothing is known of its tail
        beyond[inside[f.weight[heads] == 0]] = direct[inside[f.weight[heads] == 0]] = np.inf
        if core.flip is not None and core.flip[1][2]:
            beyond[groups.label[rows[groups.flip[rows] < 0]]] = np.inf  # a flip of relu² costs degree 2
        moved = rows[leader[rows] != rows]
        scaled = groups.scale[moved] * groups.size[leader[moved]]
        part = f.weight[moved] * grouped.change(norm, core, groups.gap[moved], groups.size[moved], scaled)
        part = np.bincount(groups.label[moved], weights=part, minlength=groups.head.size)
        beyond, direct = beyond + part, direct + part
    if all(_finite_series(CORES[ORDER[k]], degree) for k in np.unique(h.core)):
        beyond[:] = direct[:] = 0.0  # polynomials end before the series does
    apart = np.bincount(
        groups.label, weights=np.where(f.weight > 0, f.weight * single, 0.0), minlength=groups.head.size
    )
    direct = np.minimum(direct, apart)
    drifts = np.bincount(groups.label, weights=f.drifts, minlength=groups.head.size)
    direct = np.asarray((direct + drifts) * (1 + 1e-13), dtype=np.float64)
    return (beyond + drifts) * (1 + 1e-13), direct, single


def _single(arith: Arithmetic, core: Core, f: Spectrum, rows: Integers) -> Array:
    """t_i of the module's docstring; the coefficients' errors are paid with their weights."""
    degree = f.c.shape[1] - 1
    r, s, e = f.r[rows], f.s[rows], f.e[rows]
    if _finite_series(core, degree):
        return np.zeros(rows.size)
    if core.name == "exp":
        ratio = r * r / (degree + 1) * (1 + 1e-15)
        last = arith.ups(abs(f.c[rows, degree])) + e
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(ratio < 1, last * np.sqrt(ratio / (1 - ratio)), np.inf) * (1 + 1e-14)
    k = np.arange(degree + 1.0)
    if np.isfinite(core.lipschitz):
        low, weight, divisor = 2, k, degree + 1.0
    elif core.name == "relu2":
        low, weight, divisor = 3, k * (k - 1), degree * (degree + 1.0)
    else:
        return np.full(rows.size, np.inf)
    energy = np.sum(arith.array(weight[low:]) * (f.c[rows, low:] * f.c[rows, low:]), axis=1)
    lost = weight[-1] * ((degree + 4) * arith.unit * s + 2 * e) * s
    found = (_excess(arith, _slopes(arith, core, f, rows), energy) + lost) / divisor
    # or E σ² − Σ_{k ≤ K} c_k²
    w, b = f.white
    live = f.s[rows] > 0
    live &= f.r[rows] > 0
    own = rows[live]
    if own.size:
        whole = energies(arith, core, w[own], b[own])
        energy = np.sum(f.c[own] * f.c[own], axis=1)
        lost = ((degree + 4) * arith.unit * s[live] + 2 * e[live]) * s[live]
        excess = arith.ups(whole - energy) + lost + 2 * arith.unit * arith.ups(abs(whole))
        found[live] = np.minimum(found[live], excess)
    return np.sqrt(found) * (1 + 1e-14)


def _slopes(arith: Arithmetic, core: Core, f: Spectrum, rows: Integers) -> Array:
    """√(L²r² − (c₁ − μr)²), for relu² √(r⁴ − 2(c₂ − r²/√2)²): the centred derivative's norm without its mean."""
    r, e, s = f.r[rows], f.e[rows], f.s[rows]
    squared = core.name == "relu2"
    if squared:
        first, mean, bound = (
            np.sqrt(2.0) * np.array([float(v.mid()) for v in f.c[rows, 2]] if arith.exact else f.c[rows, 2]),
            r * r,
            r * r,
        )
    else:
        first = np.array([float(v.mid()) for v in f.c[rows, 1]] if arith.exact else f.c[rows, 1], dtype=np.float64)
        mean, bound = core.centre * r, core.lipschitz * r
    # balls: c₁ is known to its radius only, and r_up − r to twice that of r (twice more for its square)
    radius, turn = arith.radii(f.c[rows, 1 + squared]), 4 * r if squared else core.centre
    lost = 4 * (e + 2.0**-48 * (s + mean)) + 2 * radius + 2 * turn * arith.radii(f.white[0][rows])
    known = np.maximum(np.abs(first - mean) - lost, 0.0)
    return np.sqrt(np.maximum(bound**2 * (1 + 2.0**-49) - known**2, 0.0)) * (1 + 1e-14)


def _finite_series(core: Core, degree: int) -> bool:
    return core.name.startswith("power") and core.power <= degree


def _own(arith: Arithmetic, norm: Norm, core: Core, f: Spectrum, rows: Integers, size: Array) -> Array:
    """Bound of ‖σ(u)‖ beyond degree 1."""
    if np.isfinite(core.lipschitz):
        # Σ_{k ≥ 2} c_k² ≤ ½Σ_{k ≥ 2} k c_k²
        return np.minimum(np.sqrt(0.5) * _slopes(arith, core, f, rows) * (1 + 1e-15), core.bound)
    if core.name == "relu2":
        # Σ_{k ≥ 2} c_k² ≤ (r²/2)·Var σ′, σ′ 2-Lipschitz
        return np.minimum(np.sqrt(2.0) * f.r[rows] ** 2 * (1 + 1e-15), grouped.magnitude(norm, core, size))
    return grouped.magnitude(norm, core, size)


def _excess(arith: Arithmetic, bound: Array, energy: Rows) -> Array:
    """Upper bounds of bound² − energy."""
    if arith.exact:
        return np.array([arith.up(x * x - y) for x, y in zip(arith.array(bound), energy, strict=True)] + [0.0])[:-1]
    return np.maximum(bound**2 * (1 + 2.0**-50) - np.asarray(energy, dtype=np.float64), 0.0)
