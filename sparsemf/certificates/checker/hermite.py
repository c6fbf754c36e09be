"""Hermite coefficients c_k(r, b) = E[σ(rg + b) he_k(g)] of the cores with proven errors.

Closed forms (relu, relu², elu, sin, cos, exp, powers) are evaluated in balls, by Stein's identity
c_k^σ(r, b) = (r/√k)·c_{k−1}^{σ′}(r, b).  The others by the trapezoidal rule on the grid hℤ ∩ [−H, H]:

- discretisation (Trefethen & Weideman, SIAM Rev. 56 (2014), Thm 5.1, for F analytic and bounded by its integrals in
  |Im g| ≤ a): |∫F − hΣF| ≤ 2M/(e^{2πa/h} − 1), M = max over both lines of ∫|F|; here a = y/r with the core's strip, and
  by Cauchy–Schwarz M ≤ e^{a²/2}·√(L_k(−a²))·(B₀ + B₁(r√(1 + a²) + |b|)), since E he_k(g + ia) he_k(g − ia) = L_k(−a²),
  the Laguerre polynomial;
- truncation: |he_k(g)|e^{−g²/4} ≤ 1.0865 (Cramér), |σ(z)| ≤ |σ(0)| + S|z|.

softsign, with a kink in its second derivative, is integrated on each side of it by Gauss–Legendre rules.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from flint import arb, ctx
from numpy.typing import NDArray

from sparsemf.certificates.checker.arithmetic import Arithmetic, Rows, Undefined
from sparsemf.certificates.checker.catalogue import CORES, Core

Array = NDArray[np.float64]

_erfc = np.frompyfunc(math.erfc, 1, 1)

MOST_NODES = 24_000
MOST_WEIGHTS = 6_000_000
"""Nodes times degrees of a trapezoidal rule beyond this are not attempted (in balls fewer, as they take more room)."""
_FLOOR = 2.0**-110
"""What a weight of the trapezoidal rule may be off beside its unit in the last place."""
_BLOCK = 1 << 21


def coefficients(arith: Arithmetic, core: Core, r: Rows, b: Rows, degree: int) -> tuple[Rows, Array]:
    """(c (n, degree + 1), error (n,)): ‖c_i − exact‖₂ ≤ error_i.  Neurons with r = 0 must not come here.

    In float64, r and b are taken as exact; in balls their radii are carried.
    """
    if core.strip is not None:
        return _trapezoid(arith, core, r, b, degree)
    if not arith.exact and core.name in ("relu", "relu2"):
        values, error = _kinked(arith, core, r, b, degree)
        # where the recurrence amplifies rounding (β far out, high degrees): balls
        poor = np.flatnonzero(~(error <= 1e-12 * np.linalg.norm(values, axis=1)))
        if poor.size:
            values[poor], error[poor] = _by_balls(core, r[poor], b[poor], degree)
        return values, error
    if not arith.exact:
        return _by_balls(core, r, b, degree)
    closed = _CLOSED.get("power" if core.name.startswith("power") else core.name, _softsign)
    rows = [closed(core, arb(x), arb(y), degree) for x, y in zip(r, b, strict=True)]
    return np.array([*rows, [arb(0)] * (degree + 1)], dtype=object)[:-1], np.zeros(len(rows))


def _by_balls(core: Core, r: Array, b: Array, degree: int) -> tuple[Array, Array]:
    """Float64 values and errors from balls, with as many more bits as a kink's recurrence loses (:func:`_weights`)."""
    closed = _CLOSED.get("power" if core.name.startswith("power") else core.name, _softsign)
    # copies of a neuron share their coefficients
    points, copy = np.unique(np.stack([r, b], axis=1), axis=0, return_inverse=True)
    before, rows = ctx.prec, []
    try:
        for x, y in points.tolist():
            reach = min(abs(y / x), 2 * math.sqrt(degree)) if closed is not _softsign else 0.0
            ctx.prec = before + 64 * math.ceil(1.5 / 64 * (reach * math.sqrt(degree) - 0.25 * reach * reach))
            rows.append(closed(core, arb(x), arb(y), degree))
    finally:
        ctx.prec = before
    values = np.array([[float(v.mid()) for v in row] for row in rows], dtype=np.float64).reshape(len(rows), degree + 1)
    radii = np.array([[float(v.rad()) for v in row] for row in rows], dtype=np.float64).reshape(values.shape)
    if not np.isfinite(values).all():
        raise Undefined("a Hermite coefficient overflows")
    error = np.linalg.norm(radii + 2.0**-52 * np.abs(values), axis=1) * (1 + 1e-12)
    return values[copy.ravel()], error[copy.ravel()]


@lru_cache(maxsize=4096)
def _rooted(k: int, precision: int) -> arb:
    return arb(k).sqrt()


def _root(k: int) -> arb:
    """√k at the working precision."""
    return _rooted(k, ctx.prec)


def energies(arith: Arithmetic, core: Core, r: Rows, b: Rows, weighted: bool = False) -> Rows:
    """E σ(rg + b)² (``weighted``: E g²σ(rg + b)²), shape (n,): balls, or float64 upper bounds (∞ for powers, which need
    none)."""
    if core.strip is not None:
        value, error = _trapezoid(arith, core, r, b, 2 if weighted else 0, square=True)
        if weighted:  # g² = 1 + √2 he₂
            root = arith.array([2.0])[0].sqrt() if arith.exact else math.sqrt(2.0)
            spare = error * 3 + 4 * arith.unit * arith.norms(value)
            return value[:, 0] + root * value[:, 2] + arith.array(spare)
        return value[:, 0] + arith.array(error)
    moment = (_WEIGHTED if weighted else _ENERGY).get(core.name, lambda r, b: arb("inf"))
    if arith.exact:
        return np.array([*(moment(arb(x), arb(y)) for x, y in zip(r, b, strict=True)), 0], dtype=object)[:-1]
    points, copy = np.unique(np.stack([r, b], axis=1), axis=0, return_inverse=True)
    return np.array([arith.up(moment(arb(x), arb(y))) for x, y in points.tolist()])[copy.ravel()]


# --- closed forms -----------------------------------------------------------------------------------------------


def _density(beta: arb) -> arb:
    return (-beta * beta / 2).exp() / (2 * arb.pi()).sqrt()


def _cdf(beta: arb) -> arb:
    return (-beta / arb(2).sqrt()).erfc() / 2


def _step(r: arb, b: arb, degree: int) -> list[arb]:
    """1[z > 0]: Φ(β), then he_{k−1}(−β)φ(β)/√k, β = b/r."""
    beta = b / r
    out = [_cdf(beta)]
    previous, current = arb(0), _density(beta)
    for k in range(1, degree + 1):
        out.append(current / _root(k))
        previous, current = current, (-beta * current - _root(k - 1) * previous) / _root(k)
    return out


def _kinked(arith: Arithmetic, core: Core, r: Array, b: Array, degree: int) -> tuple[Array, Array]:
    """relu and relu² in float64, with running error bounds: each step's rounding (and that of β, φ, Φ) is carried by
    the same recurrence with plus signs (Higham, §3.3)."""
    unit, n = arith.unit, r.size
    beta = b / r
    span = np.abs(beta)
    density = np.exp(-0.5 * beta * beta) / math.sqrt(2 * math.pi)
    # |d log φ| = |β dβ|, dβ ≤ u|β|; libm's exp to 32 ulps
    density_error = density * (3 * span * span + 72) * unit + 1e-300
    tail = 0.5 * np.asarray(_erfc(-beta / math.sqrt(2)), dtype=np.float64)
    # dΦ = φ dβ for the arguments' rounding
    tail_error = 72 * unit * tail + 3 * unit * span * density + 1e-300
    step, error = np.empty((n, degree + 1)), np.empty((n, degree + 1))
    step[:, 0], error[:, 0] = tail, tail_error
    previous, before = np.zeros(n), np.zeros(n)
    current, now = density, density_error
    for k in range(1, degree + 1):
        root = math.sqrt(k)
        step[:, k], error[:, k] = current / root, now / root * (1 + 8 * unit) + 3 * unit * np.abs(current)
        lower = math.sqrt(k - 1.0)
        following = (-beta * current - lower * previous) / root
        size = span * np.abs(current) + lower * np.abs(previous)
        carried = (span * now + lower * before + 8 * unit * size) / root * (1 + 16 * unit) + 1e-300
        previous, before, current, now = current, now, following, carried
    first = b * tail + r * density
    first_error = np.abs(b) * tail_error + r * density_error + 4 * unit * (np.abs(b) * tail + r * density)
    out, lost = _raised(first, first_error, step, error, r, unit)
    if core.name == "relu2":
        square = (b * b + r * r) * tail + b * r * density
        square_error = (b * b + r * r) * (tail_error + 6 * unit * tail) + np.abs(b) * r * (
            density_error + 6 * unit * density
        )
        out, lost = _raised(square, square_error, 2 * out, 2 * lost, r, unit)
    return out, np.linalg.norm(lost, axis=1) * (1 + 1e-12)


def _raised(first: Array, first_error: Array, slope: Array, error: Array, r: Array, unit: float) -> tuple[Array, Array]:
    """Stein's identity in float64: c₀, then (r/√k)·c′_{k−1}."""
    root = np.sqrt(np.arange(1.0, slope.shape[1]))
    out = np.concatenate([first[:, None], r[:, None] * slope[:, :-1] / root], axis=1)
    lost = np.concatenate(
        [first_error[:, None], r[:, None] * error[:, :-1] / root + 6 * unit * np.abs(out[:, 1:])], axis=1
    )
    return out, lost


def _stein(first: arb, derivative: list[arb], r: arb) -> list[arb]:
    """c₀, then (r/√k)·c′_{k−1}."""
    return [first] + [r * c / _root(k + 1) for k, c in enumerate(derivative)]


def _relu(_: Core, r: arb, b: arb, degree: int) -> list[arb]:
    step = _step(r, b, max(degree - 1, 0))
    return _stein(b * step[0] + r * _density(b / r), step, r)[: degree + 1]


def _relu2(core: Core, r: arb, b: arb, degree: int) -> list[arb]:
    relu = _relu(core, r, b, max(degree - 1, 0))
    beta = b / r
    return _stein((b * b + r * r) * _cdf(beta) + b * r * _density(beta), [2 * c for c in relu], r)[: degree + 1]


def _elu(core: Core, r: arb, b: arb, degree: int) -> list[arb]:
    """relu + q, q = (e^z − 1)1[z < 0], q′ = q + 1[z < 0]."""
    beta = b / r
    off = [(1 if k == 0 else 0) - c for k, c in enumerate(_step(r, b, degree))]
    q = [(b + r * r / 2).exp() * _cdf(-(beta + r)) - off[0]]
    for k in range(1, degree + 1):
        q.append(r / _root(k) * (q[-1] + off[k - 1]))
    return [x + y for x, y in zip(_relu(core, r, b, degree), q, strict=True)]


def _powers(r: arb, degree: int) -> list[arb]:
    """r^k/√k!."""
    out = [arb(1)]
    for k in range(1, degree + 1):
        out.append(out[-1] * r / _root(k))
    return out


def _wave(core: Core, r: arb, b: arb, degree: int) -> list[arb]:
    """sin: r^k/√k!·e^{−r²/2}·sin(b + kπ/2); cos = sin(· + π/2)."""
    shift = 0 if core.name == "sin" else 1
    turns = [b.sin(), b.cos(), -b.sin(), -b.cos()]
    size = (-r * r / 2).exp()
    return [p * size * turns[(k + shift) % 4] for k, p in enumerate(_powers(r, degree))]


def _exponential(_: Core, r: arb, b: arb, degree: int) -> list[arb]:
    size = (b + r * r / 2).exp()
    return [p * size for p in _powers(r, degree)]


def _power(core: Core, r: arb, b: arb, degree: int) -> list[arb]:
    """z^p: c_k^{(p)} = (r/√k)·p·c_{k−1}^{(p−1)}, c₀^{(p)} = b c₀^{(p−1)} + (p − 1) r² c₀^{(p−2)}."""
    table = [[arb(1)] + [arb(0)] * degree]
    for p in range(1, core.power + 1):
        first = b * table[p - 1][0] + (p - 1) * r * r * (table[p - 2][0] if p >= 2 else 0)
        row = [first] + [r / _root(k) * p * table[p - 1][k - 1] for k in range(1, degree + 1)]
        table.append(row)
    return table[core.power]


def _softsign(_: Core, r: arb, b: arb, degree: int) -> list[arb]:
    """Both sides of the kink, by symmetry from one: left(r, b)_k = −(−1)^k right(r, −b)_k."""
    right, left = _right_of_kink(r, b, degree), _right_of_kink(r, -b, degree)
    return [x + y if k % 2 else x - y for k, (x, y) in enumerate(zip(right, left, strict=True))]


@lru_cache(maxsize=8)
def legendre(n: int, precision: int) -> list[tuple[arb, arb]]:
    """Nodes and weights on [−1, 1]."""
    return [arb.legendre_p_root(n, k, weight=True) for k in range(n)]


def _right_of_kink(r: arb, b: arb, degree: int, square: bool = False) -> list[arb]:
    """∫ z/(1 + z) he_k φ (``square``: (z/(1 + z))²) over z = rg + b > 0: n-point Gauss–Legendre on panels growing
    away from the pole at z = −1.

    On a panel of half-width η and centre c the error is at most η·(64/15)·M·ρ^{−2n}/(1 − ρ^{−2}), M the largest
    |integrand| on the ellipse with foci at the panel's ends and ρ = 4, of half-axes 2.125η and 1.875η (Trefethen,
    *Approximation Theory and Approximation Practice*, Thm 19.3).  There |z/(1 + z)| ≤ 1 + 1/|1 + z|, |φ| ≤ e^{(Im² −
    Re²)/2}/√2π, and |he_k(g)| is at most the same recurrence with plus signs at |g|.
    """
    digits = ctx.prec * math.log(2) if ctx.prec > 128 else 64 * math.log(2)
    end = 2 * math.sqrt(digits + 10) + 1
    rule = legendre(math.ceil(digits / math.log(16)) + 6, ctx.prec)
    if not float(r.lower()) > 1e-150:
        raise Undefined("softsign: the neuron is too flat")
    kink = (-b / r).mid()
    far, slip = float(kink), float(abs(r * kink + b).upper())
    # slip/r from the true kink: distances from the pole below hold to 1/1000 of the pole's, or 1/2000 of their own
    if not slip < 2e-4 * (1.0 if abs(far) < 2 * end else max(1.0, float(abs(b).lower()))):
        raise Undefined("softsign: the neuron's kink is not known well enough")
    out = [arb(0)] * (degree + 1)
    if far >= end:
        return [arb(0, 2 * math.exp(-0.25 * end * end))] * (degree + 1)
    at, gap = (kink, 0.0) if far > -end else (arb(-end), -end - far)
    pole = float((1 / r).upper())
    error = 2 * math.exp(-0.25 * end * end)
    root = (2 * arb.pi()).sqrt()
    while (position := float(at)) < end:
        half = min(0.8 * (gap + 0.999 * pole), 1.0)
        middle, centre = at + half, position + half
        clear = (gap + 0.999 * pole - 1.126 * half) * float(r.lower())
        near, size = max(abs(centre) - 2.126 * half, 0.0), abs(centre) + 2.126 * half
        grow = math.exp(0.5 * (1.876 * half) ** 2 - 0.5 * near * near) * _largest_hermite(degree, size)
        error += half * 4.3 * (1 + 1 / clear) ** (2 if square else 1) * grow * 16.0 ** -len(rule) * 1.1
        for node, weight in rule:
            g = middle + half * node
            z = r * g + b
            value = z / (1 + z)
            value = value * value if square else value
            previous, current = arb(0), weight * half * value * (-g * g / 2).exp() / root
            out[0] = out[0] + current
            for k in range(1, degree + 1):
                previous, current = current, (g * current - _root(k - 1) * previous) / _root(k)
                out[k] = out[k] + current
        at, gap = middle + half, gap + 2 * half
    # the rounded kink: between it and the true one |σ| ≤ |z|
    error += 4 * slip * slip / float(r.lower()) if far > -end else 0.0
    return [c + arb(0, error * 1.01) for c in out]


def _largest_hermite(degree: int, size: float) -> float:
    """max_k |he_k(g)| over complex |g| ≤ size, bounded."""
    previous, current, best = 0.0, 1.0, 1.0
    for k in range(1, degree + 1):
        previous, current = current, (size * current + math.sqrt(k - 1) * previous) / math.sqrt(k)
        best = max(best, current)
    return best * (1 + 1e-12)


def _relu_energy(r: arb, b: arb) -> arb:
    beta = b / r
    return (b * b + r * r) * _cdf(beta) + b * r * _density(beta)


def _relu2_energy(r: arb, b: arb) -> arb:
    beta = b / r
    b2, r2 = b * b, r * r
    return (b2 * b2 + 6 * b2 * r2 + 3 * r2 * r2) * _cdf(beta) + (b2 + 5 * r2) * b * r * _density(beta)


def _elu_energy(r: arb, b: arb) -> arb:
    beta, r2 = b / r, r * r
    left = (2 * b + 2 * r2).exp() * _cdf(-(beta + 2 * r)) - 2 * (b + r2 / 2).exp() * _cdf(-(beta + r)) + _cdf(-beta)
    return _relu_energy(r, b) + left


def _softsign_energy(r: arb, b: arb) -> arb:
    return _right_of_kink(r, b, 0, True)[0] + _right_of_kink(r, -b, 0, True)[0]


def _relu_weighted(r: arb, b: arb) -> arb:
    c = _relu2(CORES["relu2"], r, b, 2)
    return c[0] + arb(2).sqrt() * c[2]


def _elu_weighted(r: arb, b: arb) -> arb:
    """relu² and (e^z − 1)² = e^{2z} − 2e^z + 1 on z < 0, with E_k(a) = E e^{az}1[z < 0] he_k = [a r E_{k−1}(a) −
    he_{k−1}(−β)φ(β)]/√k."""
    beta = b / r
    density = _density(beta)
    left = arb(0)
    for a, sign in ((2, 1), (1, -2), (0, 1)):
        value = (a * b + a * a * r * r / 2).exp() * _cdf(-(beta + a * r))
        first = a * r * value - density
        left += sign * (value + (a * r * first + beta * density))
    return _relu_weighted(r, b) + left


def _softsign_weighted(r: arb, b: arb) -> arb:
    right, left = _right_of_kink(r, b, 2, True), _right_of_kink(r, -b, 2, True)
    return right[0] + left[0] + arb(2).sqrt() * (right[2] + left[2])


_WEIGHTED: dict[str, Any] = {
    "relu": _relu_weighted,
    "elu": _elu_weighted,
    "softsign": _softsign_weighted,
    "sin": lambda r, b: (1 - (1 - 4 * r * r) * (-2 * r * r).exp() * (2 * b).cos()) / 2,
    "cos": lambda r, b: (1 + (1 - 4 * r * r) * (-2 * r * r).exp() * (2 * b).cos()) / 2,
    "exp": lambda r, b: (1 + 4 * r * r) * (2 * b + 2 * r * r).exp(),
}
_ENERGY: dict[str, Any] = {
    "relu": _relu_energy,
    "relu2": _relu2_energy,
    "elu": _elu_energy,
    "softsign": _softsign_energy,
    "sin": lambda r, b: (1 - (-2 * r * r).exp() * (2 * b).cos()) / 2,
    "cos": lambda r, b: (1 + (-2 * r * r).exp() * (2 * b).cos()) / 2,
    "exp": lambda r, b: (2 * b + 2 * r * r).exp(),
}
_CLOSED: dict[str, Any] = {
    "relu": _relu,
    "relu2": _relu2,
    "elu": _elu,
    "sin": _wave,
    "cos": _wave,
    "exp": _exponential,
    "power": _power,
}


# --- the trapezoidal rule ---------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _weights(step: float, half: int, degree: int, bits: int, precision: int) -> tuple[Rows, Any]:
    """(nodes (Q,), weights (Q, degree + 1)) with weights h·he_k(g)φ(g): balls, or floats that are within one unit in
    the last place + :data:`_FLOOR` of the exact ones.

    The recurrence's balls grow like the same recurrence with plus signs, i^{−k}he_k(i|g|)φ(g) ≲ e^{|g|√k − g²/4}, far
    beyond he_k itself: that many more bits are carried, and the radii are looked at.  he_k(−g) = (−1)^k he_k(g).
    """
    nodes = step * np.arange(-half, half + 1, dtype=np.float64)
    widest = min(step * half, 2 * math.sqrt(degree))
    extra = math.ceil(1.5 * (widest * math.sqrt(degree) - 0.25 * widest * widest)) + 16
    before = ctx.prec
    try:
        while (right := _right_half(nodes[half:], step, degree, bits, precision + extra)) is None:
            extra *= 2
    finally:
        ctx.prec = before
    sign = (-1) ** np.arange(degree + 1)
    if bits:
        sign = np.array([int(x) for x in sign], dtype=object)
    return nodes, np.concatenate([right[:0:-1] * sign, right])


def _right_half(nodes: Array, step: float, degree: int, bits: int, precision: int) -> Rows | None:
    """The weights of nodes ≥ 0 by the recurrence at ``precision``; None where floats are not known to
    :data:`_FLOOR`."""
    ctx.prec = precision
    root = 1 / (2 * arb.pi()).sqrt()
    roots = [arb(k).sqrt() for k in range(degree + 1)]
    down = [roots[k - 1] / roots[k] for k in range(1, degree + 1)]
    across = [1 / roots[k] for k in range(1, degree + 1)]
    out = np.empty((nodes.size, degree + 1), dtype=object if bits else np.float64)
    for i, x in enumerate(map(arb, nodes.tolist())):
        previous, current = arb(0), (-x * x / 2).exp() * root * step
        row = [current]
        for k in range(degree):
            previous, current = current, x * across[k] * current - down[k] * previous
            row.append(current)
        if not bits and not all(float(v.rad()) < _FLOOR for v in row):
            return None
        out[i] = row if bits else [float(v.mid()) for v in row]
    return out


def _laguerre(degree: int, a: float) -> float:
    """max_{k ≤ degree} L_k(−a²) = L_degree(−a²), rounded up."""
    total, term = 0.0, 1.0
    for j in range(degree + 1):
        total += term
        term *= (degree - j) * a * a / (j + 1) ** 2
    return total * (1 + 1e-10)


def _trapezoid(
    arith: Arithmetic, core: Core, r: Rows, b: Rows, degree: int, square: bool = False
) -> tuple[Rows, Array]:
    n = r.shape[0]
    out, error = arith.zeros((n, degree + 1)), np.zeros(n)
    r_up, b_up = arith.ups(r), arith.ups(abs(b))
    octave = np.ceil(np.log2(np.maximum(r_up, 0.25))).astype(int)
    for level in np.unique(octave):
        rows = np.flatnonzero(octave == level)
        out[rows], error[rows] = _octave(arith, core, r[rows], b[rows], r_up[rows], b_up[rows], degree, square)
    return out, error


def _octave(
    arith: Arithmetic, core: Core, r: Rows, b: Rows, r_up: Array, b_up: Array, degree: int, square: bool
) -> tuple[Rows, Array]:
    """``square``: σ² in place of σ, bounded by the square of what bounds σ."""
    assert core.strip is not None
    y, flat, slope = core.strip
    digits = (arith.bits or 53) * math.log(2)
    a = min(y / float(r_up.max()) * (1 - 1e-9), 12.0, 250 / math.sqrt(degree + 1))  # √L_k(−a²) ≲ e^{a√k}
    # the error exponent is 2πa/h − a²/2 − a√k: aim at the arithmetic's digits
    step = 2 * math.pi * a / (digits + 0.5 * a * a + 2 * a * math.sqrt(degree) + math.log(flat + slope + 1) + 6)
    step = min(
        2.0 ** math.floor(math.log2(step)) * (1.5 if step >= 1.5 * 2.0 ** math.floor(math.log2(step)) else 1.0), 0.5
    )
    reach = math.sqrt(4 * (digits + 12)) + 1
    half = math.ceil(reach / step)
    if 2 * half + 1 > MOST_NODES:
        raise Undefined(f"{core.name}: a neuron is too steep for {MOST_NODES} nodes")
    if (2 * half + 1) * (degree + 1) * (1 + arith.bits / 256) > MOST_WEIGHTS:
        raise Undefined(f"{core.name}: a neuron is too steep for {degree} degrees")
    nodes, weights = _weights(step, half, degree, arith.bits, ctx.prec)
    end = step * half
    # ‖|g + ia|‖_{L^p} ≤ (3^{1/4} for p = 4)·√(1 + a²)
    grow = flat + slope * ((1.3161 if square else 1.0) * r_up * math.sqrt(1 + a * a) + b_up)
    mass = math.exp(0.5 * a * a) * math.sqrt(_laguerre(degree, a)) * (grow * grow if square else grow)
    exponent = 2 * math.pi * a / step
    ratio = math.exp(-min(exponent, 690.0))  # e^{−700} is hardly a float
    discretisation = 2 * mass * ratio / (1 - ratio)
    # Σ_{|g| > end} h·1.0865/√(2π)·e^{−g²/4}(|σ(0)| + S(r|g| + |b|)) ≤ 2(1 + end)·e^{−end²/4}·(…)
    beyond = core.at_zero + core.slope * (r_up * (end + 4) + b_up)
    outside = 2 * (end + 4) * math.exp(-min(0.25 * end * end, 690.0)) * (beyond * beyond if square else beyond)
    error = math.sqrt(degree + 1) * (discretisation + outside) * (1 + 1e-9)
    out = arith.zeros((r.shape[0], degree + 1))
    if arith.exact:
        points = np.array([arb(float(g)) for g in nodes], dtype=object)
        evaluate = np.frompyfunc(core.ball, 1, 1)
        for i in range(r.shape[0]):
            value = evaluate(r[i] * points + b[i])
            out[i] = (value * value if square else value) @ weights
        return out, error
    size = np.abs(weights) + _FLOOR / arith.unit
    block = max(1, _BLOCK // nodes.size)
    for start in range(0, r.shape[0], block):
        rows = slice(start, start + block)
        z = r[rows, None] * nodes + b[rows, None]
        value = core.value(z)
        out[rows] = (value * value if square else value) @ weights
        # value: 32 ulps of |σ(0)| + S|z|, argument: S·3u(r|g| + |b|); weights: 2u + _FLOOR; the sum: γ_Q
        spread = core.at_zero + core.slope * (r_up[rows, None] * np.abs(nodes) + b_up[rows, None])
        lost = (64 + 8 + 4 + nodes.size) * arith.unit * ((2 * spread * spread if square else spread) @ size)
        error[rows] += np.linalg.norm(lost, axis=1) * (1 + 1e-12)
    return out, error
