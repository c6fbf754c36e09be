"""Upper bounds of ‖h‖ by grouping neurons: linear in the distances, so nothing cancels; O(n(d + m)).

For neurons i of one core in a group with representative g, flips e_i = ±1, u_i = e_i(w_i, b_i) and any numbers
t_i > 0 (1 unless the core is homogeneous of degree k):

    α_i σ(z_i) = e′_i α_i [t_i^k σ(u_g) + σ(u_i) − σ(t_i u_g)] + (e_i < 0) α_i P(z_i),   e′_i = s where flipped, else 1.

With κ_g = Σ e′_i α_i t_i^k and σ = μz + σ_c, σ_c L-Lipschitz, the μ-parts are affine, and so

    ‖h‖ ≤ ‖R‖ + Σ_g ‖κ_g‖·‖σ_c(u_g)‖ + Σ_i ‖α_i‖·‖σ_c(u_i) − σ_c(t_i u_g)‖,
    R = A x + c + Σ_{e_i < 0} α_i P(z_i) + μ[Σ_g κ_g u_g + Σ_i e′_i α_i (u_i − t_i u_g)]·(x, 1).

(Triangle inequality.)  ‖σ_c(u)‖ ≤ |σ(0)| + L·size(u) and ‖σ_c(u) − σ_c(v)‖ ≤ L·size(u − v); for relu² and powers
|σ(s) − σ(t)| ≤ |s − t|(|s| + |t|)^{k−1} with Hölder; for exp e^s − e^t = ∫(s − t)e^{t + θ(s − t)}dθ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.arithmetic import UNDERFLOW, Arithmetic, Rows, Undefined
from sparsemf.certificates.checker.catalogue import Core
from sparsemf.certificates.checker.expansion import Expanded
from sparsemf.certificates.checker.laws import Norm, norm_of_sum

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

LARGEST_QUADRATIC = 40_000_000
_ROWS = 512
_MINOR = 1e-4
"""A rounding error that is at most this part of the bound itself."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of an :class:`Expanded` sum, measured.

    ``label`` (n,) group of each neuron, ``head`` (G,) its representative, ``flip`` (n,) ±1, ``gap`` (n,) upper bounds
    of size(u_i − t_i u_g), ``size`` (n,) of size(u_i), ``total`` (G, m) κ_g with error ``total_error`` (G,),
    ``scale`` (n,) t_i, ``gaps`` the vectors u_i − t_i u_g themselves.
    """

    label: Integers
    head: Integers
    flip: Integers
    scale: Array
    gap: Array
    size: Array
    total: Rows
    total_error: Array
    gap_w: Rows
    gap_b: Rows


def validated(h: Expanded, leader: Integers, flip: Integers) -> tuple[Integers, Integers]:
    """A grouping that makes sense for h: leaders of the same core, flips only where the core has one."""
    n = h.core.size
    if leader.shape != (n,) or flip.shape != (n,) or (n and (leader.max() >= n or leader.min() < -1)):
        raise ValueError("grouping does not fit the two networks")
    if not np.isin(flip, (-1, 1)).all():
        raise ValueError("flips must be ±1")
    leader = np.where(leader < 0, np.arange(n), leader)
    if not np.array_equal(h.core[leader], h.core):
        raise ValueError("a group mixes activations")
    for core, rows in h.cores():
        if core.flip is None and (flip[rows] < 0).any():
            raise ValueError(f"{core.name} has no flip")
    return leader, flip


def measured(arith: Arithmetic, norm: Norm, h: Expanded, leader: Integers, flip: Integers) -> Groups:
    """The quantities that the bound is made of."""
    n, d = h.w.shape
    heads, label = np.unique(leader, return_inverse=True)
    label = label.astype(np.int64).ravel()
    reach = norm.reach(d)
    size = norm.sizes(arith, h.w, h.b) + reach * h.point_error
    scale = np.ones(n)
    sign = np.ones(n)
    degree = np.zeros(n, dtype=np.int64)
    lengths = np.hypot(h.lengths, arith.ups(abs(h.b)))
    for core, rows in h.cores():
        degree[rows] = core.degree
        if core.flip is not None:
            sign[rows] = np.where(flip[rows] < 0, core.flip[0], 1)
        if core.degree:
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                ratio = size[rows] / size[leader[rows]]
            # any t > 0 is valid; exact copies get exactly 1
            odd = ~np.isfinite(ratio) | (ratio <= 0) | (np.abs(ratio - 1) < 1e-14)
            scale[rows] = np.where(odd, 1.0, ratio)
    own = leader == np.arange(n)
    gap_w, gap_b, gap, span = arith.zeros((n, d)), arith.zeros((n,)), np.zeros(n), np.zeros(n)
    t, e = arith.array(scale), arith.array(flip.astype(float))
    e_head = e[leader]
    for rows in np.split(np.flatnonzero(~own), range(_ROWS, n, _ROWS)):
        part_w = e[rows][:, None] * h.w[rows]
        part_w -= (t[rows] * e_head[rows])[:, None] * h.w[leader[rows]]
        part_b = e[rows] * h.b[rows] - t[rows] * e_head[rows] * h.b[leader[rows]]
        gap_w[rows], gap_b[rows] = part_w, part_b
        gap[rows] = norm.sizes(arith, part_w, part_b)
        span[rows] = np.hypot(arith.norms(part_w), arith.ups(abs(part_b)))
    # subtraction rounds the result, t·u_g rounds the product; image constants round both points
    rounded = np.where(scale != 1.0, arith.unit * scale * lengths[leader], 0.0)
    drift = h.point_error + scale * h.point_error[leader]
    drift = np.where(own, 0.0, drift + rounded) * reach
    gap = gap + drift + reach * arith.unit * span
    weight, powers = h.weights, scale**degree
    factor = arith.array(sign) * (arith.array(powers) if not arith.exact else arith.array(scale) ** _object(degree))
    total = arith.grouped(h.alpha, label, heads.size, factor)
    members = np.bincount(label, minlength=heads.size)
    mass = np.bincount(label, weights=weight * powers * (1 + 1e-14), minlength=heads.size)
    inexact = np.bincount(label, weights=(scale != 1.0) * (degree + 2.0), minlength=heads.size) > 0
    steps = np.maximum(members - 2, 0) + np.where(inexact, degree.max(initial=0) + 2, 0)
    error = arith.unit * (steps * mass + 2 * arith.norms(total))
    error += np.bincount(label, weights=h.alpha_error * powers * (1 + 1e-14), minlength=heads.size)
    if not arith.exact:
        # t^k and its product with α may underflow
        small = (scale != 1.0) * (weight > 0) * (weight + 1) * 8 * UNDERFLOW
        error += np.bincount(label, weights=small, minlength=heads.size)
    if not (np.isfinite(gap).all() and np.isfinite(size).all() and np.isfinite(mass).all()):
        raise Undefined("the numbers of a neuron overflow")
    return Groups(label, heads, flip, scale, gap, size, total, error, gap_w, gap_b)


def _object(degree: Integers) -> Rows:
    return np.array([int(k) for k in degree] + [0], dtype=object)[:-1]


def remainder(arith: Arithmetic, h: Expanded, groups: Groups, leader: Integers) -> tuple[Rows, Rows, float]:
    """The affine R of the module's docstring: (slope, constant, norm of what rounds in them); z² parts come in
    :func:`polynomial`.

    A core with μ ≠ 0 has degree 0 or 1, and P = μ(1 + s)z if it has a flip (P(0) = 0 for all cores).  Then the parts of
    R besides A x + c add up to μΣ α_i z_i whatever the grouping: κ_g u_g + Σ_{i ∈ g} e′_i α_i (u_i − t_i u_g) =
    Σ e′_i α_i u_i since t_i^k = t_i (or t_i = 1), and on a flipped neuron e′_i e_i μ + μ(1 + s) = −sμ + μ + sμ = μ.
    Where rounding that sum costs no more than rounding the parts, or hardly anything beside the bound, it is taken as
    :attr:`Expanded.moments` has it.
    """
    affine, offset, error, unit = h.affine, h.offset, h.affine_error, arith.unit
    sizes = h.lengths + arith.ups(abs(h.b))

    def add(factor: float, alpha: Rows, w: Rows, b: Rows, mass: float) -> None:
        """factor·Σ α_i (w_i, b_i), ``mass`` ≥ Σ ‖α_i‖(‖w_i‖ + |b_i|)."""
        nonlocal affine, offset, error
        if b.shape[0]:
            affine, offset = affine + factor * (alpha.T @ w), offset + factor * (alpha.T @ b)
        error += factor * (b.shape[0] + 6) * unit * mass

    for core, rows in h.cores():
        sign, p1 = (core.flip[0], core.flip[1][1]) if core.flip is not None else (1, 0.0)
        turned, moved = rows[groups.flip[rows] < 0], rows[leader[rows] != rows]
        inside = np.flatnonzero(np.isin(groups.head, rows))
        heads, kappa = groups.head[inside], arith.norms(groups.total[inside]) + groups.total_error[inside]
        parts = p1 * turned.size * unit * float(h.weights[turned] @ sizes[turned])
        bound = core.lipschitz * float(kappa @ sizes[heads] + h.weights[moved] @ groups.gap[moved])
        if core.centre and not arith.exact and core.centre * h.lost(rows) <= max(parts, _MINOR * bound):
            slope, constant = h.moments[core.name]
            affine, offset = affine + core.centre * slope, offset + core.centre * constant
            error += core.centre * h.lost(rows) + 6 * unit * (arith.norm(affine) + arith.norm(offset))
            continue
        if p1:
            mass = float(h.weights[turned] @ (sizes[turned] + h.point_error[turned]))
            add(p1, h.alpha[turned], h.w[turned], h.b[turned], mass)
            error += p1 * float(h.alpha_error[turned] @ sizes[turned] + h.weights[turned] @ h.point_error[turned])
        if core.centre:
            inside, heads, kappa = inside[kappa > 0], heads[kappa > 0], kappa[kappa > 0]
            turn, head_size = arith.array(groups.flip[heads].astype(float)), sizes[heads] + h.point_error[heads]
            w, mass = turn[:, None] * h.w[heads], float(kappa @ head_size)
            add(core.centre, groups.total[inside], w, turn * h.b[heads], mass)
            error += core.centre * float(groups.total_error[inside] @ head_size + kappa @ h.point_error[heads])
            gap_size = arith.norms(groups.gap_w[moved]) + arith.ups(abs(groups.gap_b[moved]))
            scale = groups.scale[moved]
            lead = np.where(scale != 1.0, scale * sizes[leader[moved]], 0.0)
            own = h.point_error[moved] + scale * h.point_error[leader[moved]] + 2 * unit * (gap_size + lead)
            error += core.centre * float(h.weights[moved] @ own + h.alpha_error[moved] @ gap_size)
            moved, gap_size = moved[gap_size > 0], gap_size[gap_size > 0]
            signed = arith.array(np.where(groups.flip[moved] < 0, sign, 1))[:, None] * h.alpha[moved]
            add(core.centre, signed, groups.gap_w[moved], groups.gap_b[moved], float(h.weights[moved] @ gap_size))
        error += 6 * unit * (arith.norm(affine) + arith.norm(offset))
    return affine, offset, error * (1 + 1e-12)


def polynomial(
    arith: Arithmetic, norm: Norm, h: Expanded, flip: Integers, slope: Rows, constant: Rows, error: float
) -> tuple[float, bool]:
    """(upper bound of ‖q + R‖, whether the neurons z² are inside), R = (slope, constant) known to ``error``,
    q(x) = xᵀQx + Σ α_i z_i² over flipped relu² and, where a (d + 1)² form per output can be written down, all neurons
    z².

    As x̃ᵀqx̃, x̃ = (x, 1).  Gaussian, in white coordinates: E(x̃ᵀqx̃)² = (tr q)² + 2‖q_gg‖² + 4‖q_g1‖²; otherwise
    max‖x̃‖²·‖q‖_F.
    """
    d, m = h.w.shape[1], h.affine.shape[0]
    affine = norm.affine(arith, slope, constant) + norm.reach(d) * error
    squares = [rows for core, rows in h.cores() if core.name == "power2"]
    chosen = [rows[flip[rows] < 0] for core, rows in h.cores() if core.flip is not None and core.flip[1][2]]
    rows = np.concatenate([*chosen, *squares]) if chosen or squares else np.zeros(0, dtype=np.int64)
    if not rows.size and h.quadratic is None:
        return affine, False
    if m * (d + 1) ** 2 * (max(rows.size, 1) if arith.exact else 1) > LARGEST_QUADRATIC:
        needed = h.quadratic is not None or any(part.size for part in chosen)
        return (float("inf") if needed else affine), False
    gaussian, reach = norm.kind == "gaussian", norm.reach(d)
    w, b = norm.white(arith, h.w[rows], h.b[rows]) if gaussian else (h.w[rows], h.b[rows])
    u = np.concatenate([w, b[:, None]], axis=1)
    weight = arith.norms(h.alpha[rows]) + h.alpha_error[rows]
    span = arith.norms(h.w[rows]) + arith.ups(abs(h.b[rows]))
    length = arith.norms(u)
    slack = (rows.size + 2 * d + 20) * arith.unit * float(weight @ length**2)
    if gaussian and not norm.standard:
        moved = (d + 6) * arith.unit * reach * span
        slack += float(weight @ ((3 * length + moved) * moved))
    total = 0.0
    for j in range(m):
        q = u.T @ (h.alpha[rows, j][:, None] * u) if rows.size else arith.zeros((u.shape[1], u.shape[1]))
        if h.quadratic is not None:
            own, rounded = norm.white_quadratic(arith, h.quadratic[j])
            q, slack = q + own, slack + rounded + 2 * arith.unit * arith.norm(own)
        if not gaussian:
            total += arith.norm(q) ** 2
            continue
        k = q.shape[0] - 1
        row, at = (slope[j : j + 1], constant[j]) if norm.standard else _white_row(arith, norm, slope[j], constant[j])
        total += 2 * arith.norm(q[:k, :k]) ** 2 + arith.norm(2 * q[k : k + 1, :k] + row) ** 2
        total += arith.norm(np.array([np.trace(q) + at])) ** 2
        slack += 8 * arith.unit * (arith.norm(q) + arith.norm(row)) + arith.unit * float(
            arith.ups(np.array([abs(at)]))[0]
        )
        slack += (
            0.0
            if norm.standard
            else (d + 4) * arith.unit * reach * (arith.norm(slope[j]) + arith.norm(constant[j : j + 1]))
        )
    rounded = 2 * float(np.sqrt(d + 4)) * slack
    if gaussian:
        return (float(np.sqrt(total)) + rounded + reach * error) * (1 + 1e-12), True
    return affine + float(reach**2 * (np.sqrt(total) + rounded)) * (1 + 1e-12), True


def _white_row(arith: Arithmetic, norm: Norm, slope: Rows, constant: Rows) -> tuple[Rows, Rows]:
    w, b = norm.white(arith, slope[None], constant[None] if isinstance(constant, np.ndarray) else np.array([constant]))
    return w, b[0]


def change(norm: Norm, core: Core, gap: Array, first: Array, second: Array) -> Array:
    """Upper bounds of ‖σ_c(s) − σ_c(t)‖ for linear s, t of sizes ``first``, ``second``, s − t of size ``gap``."""
    if np.isfinite(core.lipschitz):
        return core.lipschitz * gap
    if core.power:
        k = core.power
        return norm.factor(4) * gap * (norm.factor(4 * max(k - 1, 1)) * (first + second)) ** (k - 1) * (1 + 1e-14)
    # e^s − e^t = ∫ (s − t)e^{t + θ(s − t)} dθ, and the sizes on the segment are at most those of its ends
    grow = np.array([norm.exponential(float(max(s, t))) for s, t in zip(first, second, strict=True)])
    return np.where(gap > 0, gap * np.where(gap > 0, grow, 0.0), 0.0) * (1 + 1e-14)


def magnitude(norm: Norm, core: Core, size: Array) -> Array:
    """Upper bounds of ‖σ_c(u)‖ for linear u of that size."""
    if np.isfinite(core.lipschitz):
        return core.at_zero + core.lipschitz * size
    if core.power:
        return (norm.factor(2 * core.power) * size) ** core.power
    return np.array([norm.exponential(float(s)) for s in size])


def upper(
    arith: Arithmetic,
    norm: Norm,
    h: Expanded,
    leader: Integers,
    flip: Integers,
    spectral: bool = False,
    groups: Groups | None = None,
) -> float:
    """The bound of the module's docstring; ``spectral``: its two sums by :func:`laws.norm_of_sum` where that is
    less.  ``groups``: what :func:`measured` found, if it is known."""
    leader, flip = validated(h, leader, flip)
    groups = measured(arith, norm, h, leader, flip) if groups is None else groups
    slope, constant, error = remainder(arith, h, groups, leader)
    bound, squares = polynomial(arith, norm, h, groups.flip, slope, constant, error)
    weight = h.weights
    kappa = arith.norms(groups.total) + groups.total_error
    around, apart = np.zeros(groups.head.size), np.zeros(h.core.size)
    for core, rows in h.cores():
        if squares and core.name == "power2":
            continue
        inside = np.flatnonzero(np.isin(groups.head, rows) & (kappa > 0))
        around[inside] = magnitude(norm, core, groups.size[groups.head[inside]])
        moved = rows[(leader[rows] != rows) & (weight[rows] > 0)]
        scaled = groups.scale[moved] * groups.size[leader[moved]]
        apart[moved] = change(norm, core, groups.gap[moved], groups.size[moved], scaled)
    if not (np.isfinite(kappa).all() and np.isfinite(weight).all()):
        raise Undefined("the coefficients of a group overflow")
    if spectral:
        # signs and the factor s of a flip belong to the functions
        moved = np.flatnonzero(apart > 0)
        bound += norm_of_sum(
            arith,
            np.concatenate([groups.total, h.alpha[moved]]),
            np.concatenate([groups.total_error, h.alpha_error[moved]]),
            np.concatenate([kappa, weight[moved]]),
            np.concatenate([around, apart[moved]]),
        )
    else:
        with np.errstate(invalid="ignore"):
            bound += float(kappa[kappa > 0] @ around[kappa > 0]) + float(weight[weight > 0] @ apart[weight > 0])
    total = bound * (1 + (h.core.size + 64) * 2.0**-51)
    return total if total == total else float("inf")
