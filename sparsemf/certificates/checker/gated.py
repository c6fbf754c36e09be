"""Bounds for gated blocks, f(x) = Σ α_i σ(u_i)·ℓ_i + xᵀQx + A x + c with gates u_i = ⟨g_i, x⟩ + c_i, ℓ_i = ⟨v_i, x⟩ +
e_i.

*Upper.*  Groups of gates as in :mod:`grouped` (flips e_i, scales t_i), inside a group with representative g:

    Σ_i α_i σ(u_i) ℓ_i = σ(u_g)·Σ_i e′_i t_i^k α_i ℓ_i + Σ_i e′_i α_i [σ(e_i u_i) − σ(t_i u_g)] ℓ_i + Σ_flipped α_i
    P(u_i) ℓ_i.

By Hölder ‖σ(u)M x̃‖ ≤ ‖σ(u)‖_{L⁴}·φ₄·size(M), |·| Euclidean over outputs, φ₄ the law's factor (Minkowski).  For
M = Σ_i β_i ⊗ ℓ_i with any numbers τ_i and one member l: M = β_l ⊗ Σ_i τ_i ℓ_i + Σ_i (β_i − τ_i β_l) ⊗ ℓ_i; small M is
also written out.  The polynomial rest (flips, images, Q, A, c) is an explicit quadratic form on (x, 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from sparsemf.certificates.checker import grouped
from sparsemf.certificates.checker.arithmetic import UNDERFLOW, Arithmetic, Rows
from sparsemf.certificates.checker.catalogue import CORES, ORDER, image
from sparsemf.certificates.checker.expansion import (
    Expanded,
    coefficients,
    constant_values,
    expanded,
    is_exactly,
    is_zero,
)
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import Raw

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_LARGEST_FORM = 40_000_000
_LARGEST_MATRIX = 4_000_000


@dataclass(frozen=True, eq=False)
class Gated:
    """``gates``: the gate neurons as an :class:`Expanded` sum (its α the outputs' coefficients); ``v``, ``e`` the
    factors.

    ``error``: what is rounded in (A, c).  ``low``: neurons without a gate function left (the images' p₀ + p₁z), as
    triples for the quadratic form.
    """

    gates: Expanded
    v: Rows
    e: Rows
    affine: Rows
    offset: Rows
    quadratic: Rows | None
    low: list[tuple[Rows, Rows, Rows, Rows, Rows, float, float]]
    error: float


def expand(arith: Arithmetic, *signed: tuple[Raw, float]) -> Gated:
    """Σ sign·f over the given gated networks."""
    first = signed[0][0]
    m, d = first.affine.shape
    parts, vs, es, low = [], [], [], []
    affine, offset, quadratic = arith.zeros((m, d)), arith.zeros((m,)), None
    for f, sign in signed:
        affine, offset = affine + arith.array(sign * f.affine), offset + arith.array(sign * f.offset)
        if f.quadratic is not None:
            own = arith.array(sign * f.quadratic)
            quadratic = own if quadratic is None else quadratic + own
        v, e = arith.array(f.w), arith.array(f.b)
        if f.gate is None or f.gate_bias is None:
            raise ValueError("a gated block is compared with a gated block")
        gate = Raw(f.activation, f.outer, f.scale, f.gate, f.gate_bias, np.zeros((m, d)), np.zeros(m))
        form = expanded(arith, (gate, sign), constants=False)
        shape = image(f.activation)
        p0, p1 = shape.constant(), shape.linear()
        if not (is_exactly(p0, 0) and is_exactly(p1, 0)):
            alpha = coefficients(arith, f, sign)
            p = (_size_of(p0), _size_of(p1))
            g, c = arith.array(f.gate), arith.array(f.gate_bias)
            low.append((alpha, arith.constant(p1) * g, arith.constant(p1) * c + arith.constant(p0), v, e, *p))
        parts.append(form)
        for _ in shape.terms:
            vs.append(v)
            es.append(e)
    gates = Expanded(
        np.concatenate([p.alpha for p in parts]),
        np.concatenate([p.w for p in parts]),
        np.concatenate([p.b for p in parts]),
        np.concatenate([p.core for p in parts]),
        arith.zeros((m, d)),
        arith.zeros((m,)),
        np.concatenate([p.point_error for p in parts]),
        np.concatenate([p.alpha_error for p in parts]),
        0.0,
    )
    v = np.concatenate(vs) if vs else arith.zeros((0, d))
    e = np.concatenate(es) if es else arith.zeros((0,))
    return _without_constants(arith, Gated(gates, v, e, affine, offset, quadratic, low, 0.0))


def _size_of(x: Any) -> float:
    return float(arb(abs(x)).upper())


def _without_constants(arith: Arithmetic, h: Gated) -> Gated:
    """Gates with g = 0 are constants: α σ(c)·ℓ is affine; what that rounds goes into ``error``."""
    gates = h.gates
    rows = np.flatnonzero(is_zero(arith, gates.w) & (arith.norms(gates.alpha) > 0))
    if not rows.size:
        return h
    affine, offset, error, alpha = h.affine, h.offset, h.error, gates.alpha.copy()
    alpha_error = gates.alpha_error.copy()
    for k in np.unique(gates.core[rows]):
        core, own = CORES[ORDER[k]], rows[gates.core[rows] == k]
        value, lost, top = constant_values(arith, core, gates.b[own], gates.point_error[own])
        beta = value[:, None] * gates.alpha[own]
        affine, offset = affine + beta.T @ h.v[own], offset + beta.T @ h.e[own]
        span = arith.norms(h.v[own]) + arith.ups(abs(h.e[own]))
        weight = arith.norms(gates.alpha[own]) + gates.alpha_error[own]
        error += float((weight * (lost + (own.size + 8) * arith.unit * top) + gates.alpha_error[own] * top) @ span)
    alpha[rows], alpha_error[rows] = arith.zeros((rows.size, alpha.shape[1])), 0.0
    error += 4 * arith.unit * (arith.norm(affine) + arith.norm(offset))
    gates = replace(gates, alpha=alpha, alpha_error=alpha_error)
    return replace(h, gates=gates, affine=affine, offset=offset, error=error * (1 + 1e-12))


def _form_norm(arith: Arithmetic, norm: Norm, h: Gated, flip: Integers) -> float:
    """Upper bound of the norm of the polynomial rest."""
    m, d = h.affine.shape
    triples = [(a, g, c, v, e, a.shape[0], p0 + p1) for a, g, c, v, e, p0, p1 in h.low]
    for core, rows in h.gates.cores():
        if core.flip is None:
            continue
        turned = rows[flip[rows] < 0]
        p0, p1, p2 = core.flip[1]
        if p2 and turned.size:
            return float("inf")
        if turned.size and (p0 or p1):
            g, c = p1 * h.gates.w[turned], p1 * h.gates.b[turned] + p0
            triples.append((h.gates.alpha[turned], g, c, h.v[turned], h.e[turned], turned.size, p0 + p1))
    if not triples and h.quadratic is None:
        span = arith.norm(h.affine) + arith.norm(h.offset)
        return norm.affine(arith, h.affine, h.offset) + norm.reach(d) * (4 * arith.unit * span + h.error)
    count = sum(t[5] for t in triples)
    if m * (d + 1) ** 2 * (max(count, 1) if arith.exact else 1) > _LARGEST_FORM:
        return float("inf")
    total, slack = 0.0, h.error
    forms = [arith.zeros((d + 1, d + 1)) for _ in range(m)]
    for alpha, g, c, v, e, rows, _ in triples:
        u = np.concatenate([g, c[:, None]], axis=1)
        z = np.concatenate([v, e[:, None]], axis=1)
        weight = arith.norms(alpha)
        slack += (rows + 16) * arith.unit * float(weight @ (arith.norms(u) * arith.norms(z)))
        extra = h.gates.alpha_error.sum() + h.gates.point_error.sum() if h.gates.core.size else 0.0
        slack += (
            float(extra)
            * float(np.max(arith.norms(u) + 1, initial=0.0) * np.max(arith.norms(z), initial=0.0))
            * (1 + float(np.max(weight, initial=0.0)))
        )
        for j in range(m):
            q = u.T @ (alpha[:, j][:, None] * z)
            forms[j] = forms[j] + arith.array(np.array([0.5]))[0] * (q + q.T)
    basis_reach = norm.reach(d)
    for j in range(m):
        q = forms[j]
        q[:d, d] = q[:d, d] + arith.array(np.array([0.5]))[0] * h.affine[j]
        q[d, :d] = q[d, :d] + arith.array(np.array([0.5]))[0] * h.affine[j]
        q[d, d] = q[d, d] + h.offset[j]
        if h.quadratic is not None:
            q[:d, :d] = q[:d, :d] + h.quadratic[j]
        slack += 8 * arith.unit * arith.norm(q)
        if norm.kind == "gaussian" and norm.root is not None and norm.mean is not None:
            basis = np.zeros((d + 1, norm.root.shape[1] + 1))
            basis[:d, :-1], basis[:d, -1], basis[d, -1] = norm.root, norm.mean, 1.0
            lift = arith.array(basis)
            slack += 4 * (d + 4) * arith.unit * basis_reach**2 * arith.norm(q)
            q = lift.T @ q @ lift
        if norm.kind == "gaussian":
            total += 2 * arith.norm(q) ** 2 + arith.norm(np.array([np.trace(q)])) ** 2
        else:
            total += basis_reach**4 * arith.norm(q) ** 2
    # the rounding of the forms, seen through ‖x̃‖²
    factor = 2 * np.sqrt(d + 4.0) * max(basis_reach, 1.0) ** 2
    return float(np.sqrt(total) + factor * slack) * (1 + 1e-12)


def joined(arith: Arithmetic, norm: Norm, h: Gated, groups: grouped.Groups) -> Array:
    """Bounds of size(Σ_i e′_i t_i^k α_i ⊗ ℓ_i) of each group."""
    gates = h.gates
    weight = arith.norms(gates.alpha) + gates.alpha_error
    out = np.zeros(groups.head.size)
    for core, rows in gates.cores():
        sign = np.where(groups.flip[rows] < 0, core.flip[0] if core.flip else 1, 1)
        powers = groups.scale[rows] ** core.degree
        beta = arith.array(sign * powers)[:, None] * gates.alpha[rows]
        beta_error = 2 * arith.unit * weight[rows] * powers + gates.alpha_error[rows] * powers
        if not arith.exact:
            beta_error += (groups.scale[rows] != 1.0) * (weight[rows] > 0) * (weight[rows] + 1) * 8 * UNDERFLOW
        order = np.argsort(groups.label[rows], kind="stable")
        label = groups.label[rows][order]
        cuts = (
            np.flatnonzero(np.concatenate([[True], label[1:] != label[:-1], [True]])) if rows.size else np.zeros(1, int)
        )
        for first, last in pairwise(cuts):
            members = order[first:last]
            own = rows[members]
            out[label[first]] = _matrix_size(arith, norm, beta[members], beta_error[members], h.v[own], h.e[own])
    return out


def upper(arith: Arithmetic, norm: Norm, h: Gated, leader: Integers, flip: Integers) -> float:
    """The bound of the module's docstring; Lipschitz gates only."""
    gates = h.gates
    leader, flip = grouped.validated(gates, leader, flip)
    if any(not np.isfinite(core.lipschitz) for core, _ in gates.cores()):
        return float("inf")
    groups = grouped.measured(arith, norm, gates, leader, flip)
    bound = _form_norm(arith, norm, h, flip)
    weight = arith.norms(gates.alpha) + gates.alpha_error
    factor_size = norm.sizes(arith, h.v, h.e)
    four, size = norm.factor(4), joined(arith, norm, h, groups)
    for core, rows in gates.cores():
        moved = rows[leader[rows] != rows]
        bound += core.slope * four**2 * float(weight[moved] @ (groups.gap[moved] * factor_size[moved]))
        inside = np.flatnonzero(np.isin(groups.head, rows))
        gate = core.at_zero + core.slope * four * groups.size[groups.head[inside]]  # ‖σ(u)‖_{L⁴}
        bound += four * float(gate @ size[inside])
    bound *= 1 + (gates.core.size + 64) * 2.0**-51
    return bound if bound == bound else float("inf")


def _matrix_size(arith: Arithmetic, norm: Norm, beta: Rows, error: Array, v: Rows, e: Rows) -> float:
    """Upper bound of size(Σ_i β_i ⊗ ℓ_i)."""
    sizes = norm.sizes(arith, v, e)
    weight = arith.norms(beta) + error
    if beta.shape[0] == 1:
        return float(weight[0] * sizes[0])
    lead = int(np.argmax(weight))
    plain = np.array([[float(x.mid()) for x in row] for row in beta]) if arith.exact else beta
    length = float(plain[lead] @ plain[lead])
    if length == 0:
        return float(weight @ sizes)
    tau = plain @ plain[lead] / length
    tau[np.abs(np.abs(tau) - 1) < 1e-13] = np.sign(tau[np.abs(np.abs(tau) - 1) < 1e-13])
    scaled = arith.array(tau)
    rest = arith.norms(beta - scaled[:, None] * beta[lead][None, :]) + error + np.abs(tau) * error[lead]
    rest = rest + np.where(np.abs(tau) != 1.0, 2 * arith.unit * np.abs(tau) * weight[lead], 2 * arith.unit * rest)
    rest[lead] = error[lead]
    sum_v, sum_e = scaled @ v, scaled @ e
    spread = float(np.abs(tau) @ (arith.norms(v) + arith.ups(abs(e))))
    exact_pair = beta.shape[0] == 2 and bool(np.all(np.abs(tau) == 1.0))
    rounding = (
        (2 * arith.unit * (arith.norm(sum_v) + arith.norm(np.array([sum_e]))))
        if exact_pair
        else ((beta.shape[0] + 2) * arith.unit * spread)
    )
    joint = float(norm.sizes(arith, sum_v[None], np.array([sum_e]))[0]) + norm.reach(v.shape[1]) * rounding
    out = float(weight[lead]) * joint + float(rest @ sizes)
    if (
        beta.shape[0] > 2
        and beta.shape[1] * (v.shape[1] + 1) * (beta.shape[0] if arith.exact else 1) <= _LARGEST_MATRIX
    ):
        matrix, column = beta.T @ v, beta.T @ e
        dense = float(np.hypot.reduce(norm.sizes(arith, matrix, column))) * (1 + 1e-12)
        lost = float(weight @ (arith.norms(v) + arith.ups(abs(e)))) * (beta.shape[0] + 2) * arith.unit
        dense += norm.reach(v.shape[1]) * lost + float(error @ sizes)
        out = min(out, dense)
    return out * (1 + 1e-13)


def _values(arith: Arithmetic, h: Gated, x: Array) -> tuple[Array, Array]:
    """(lower, upper) of ‖h(x_j)‖ for the rows of x."""
    out, error = values_at(arith, h, x)
    low = np.maximum([arith.floor_norm(v) for v in out] - error, 0.0)
    return np.where(np.isfinite(low), low, 0.0), arith.norms(out) + error


def values_at(arith: Arithmetic, h: Gated, x: Array) -> tuple[Rows, Array]:
    """h(x_j) for the rows of x, and a bound of the error of each (0 for balls)."""
    part = arith.array(x)
    size = np.linalg.norm(x, axis=1) * (1 + 1e-14) + 1.0
    out = part @ h.affine.T + h.offset
    d, n = x.shape[1], h.gates.core.size
    error = ((d + 8) * arith.unit * (arith.norm(h.affine) + arith.norm(h.offset)) + h.error) * size
    for j in range(out.shape[1]):
        if h.quadratic is not None:
            out[:, j] = out[:, j] + np.sum((part @ h.quadratic[j]) * part, axis=1)
    if h.quadratic is not None:
        error = error + (2 * d + 8) * arith.unit * arith.norm(h.quadratic) * size**2
    for alpha, g, c, v, e, _, _ in h.low:
        out = out + ((part @ g.T + c) * (part @ v.T + e)) @ alpha
        mass = arith.norms(alpha) @ ((arith.norms(g) + arith.ups(abs(c))) * (arith.norms(v) + arith.ups(abs(e))))
        error = error + (alpha.shape[0] + 2 * d + 32) * arith.unit * float(mass) * size**2
    gates = h.gates
    weight = arith.norms(gates.alpha) + gates.alpha_error
    for core, own in gates.cores():
        z = part @ gates.w[own].T + gates.b[own]
        factor = part @ h.v[own].T + h.e[own]
        value = np.frompyfunc(core.ball, 1, 1)(z) if arith.exact and z.size else z if arith.exact else core.value(z)
        out = out + (value * factor) @ gates.alpha[own]
        if not arith.exact:
            reach = (arith.norms(gates.w[own]) + arith.ups(abs(gates.b[own]))) * size[:, None]
            span = (arith.norms(h.v[own]) + arith.ups(abs(h.e[own]))) * size[:, None]
            moved = gates.point_error[own] * size[:, None]
            # where no slope is the steepest, that on the gate's range
            slope = core.slope if np.isfinite(core.slope) else core.variation(reach * (1 + 2.0**-40) + moved)
            gate = core.largest(reach) + slope * moved
            bound = ((n + 3 * d + 128) * arith.unit * (gate + slope * reach) + slope * moved) * span
            error = error + bound @ weight[own] + (gate * span) @ gates.alpha_error[own]
    return out, error * (1 + 1e-12)


def gap_at(arith: Arithmetic, a: Raw, b: Raw | None, x: Array) -> float:
    """Lower bound of ‖f_A(x) − f_B(x)‖."""
    h = expand(arith, *(((a, 1.0),) if b is None else ((a, 1.0), (b, -1.0))))
    return float(_values(arith, h, x[None])[0][0])


def root_mean_square(arith: Arithmetic, h: Gated, x: Array) -> tuple[float, float]:
    low, high = _values(arith, h, x)
    grow = 1 + (x.shape[0] + 8) * 2.0**-52
    return float(np.sqrt(np.mean(low**2))) / grow, float(np.sqrt(np.mean(high**2))) * grow
