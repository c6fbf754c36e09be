"""The dictionary measure of f_A − f_B, core by core on the section, and its flip-invariant polynomial part.

A core neuron (α, w, b) of degree k ≥ 1 is the mass κ = α‖(w, b)‖^k at v = (w, b)/‖(w, b)‖, any other κ = α at
v = (w, b); for a gated block v is the gate's and κ = α ⊗ (w, b).  B's masses are negated.  A neuron whose w has no
entry beyond :data:`NEGLIGIBLE` is the constant α σ(b).  Polynomial, degree by degree Σ_j T_j(x, …, x): A, c, Q, the
images' p₀ + p₁z, ½ Σ α_i P(z_i) of cores with σ(z) = s·σ(−z) + P(z), constants, and all of a pure power.

Every float is within a stated bound of what it stands for: ``moved`` of the points, ``lost`` of the masses, ``error``
of the polynomial part (a-priori terms as in :mod:`arithmetic`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.arithmetic import UNDERFLOW, Arithmetic
from sparsemf.certificates.checker.catalogue import Core
from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.expansion import Expanded, coefficients, constant_values, expanded, image
from sparsemf.certificates.checker.raw import Raw

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

NEGLIGIBLE = 1e-100
LARGEST_TENSOR = 20_000_000
LARGEST_MASS = 40_000_000

_FLOAT = Arithmetic(0)
_UNIT = _FLOAT.unit


@dataclass(frozen=True, eq=False)
class Family:
    """The neurons of one core on the section: ``points`` (n, k) within ``moved`` (n,), coefficients ``alpha`` (n, m) on
    the section, with ``value`` (n, d + 1) the factor of a gated block; masses within ``lost`` (n,).

    ``rows`` (n,) are their places in the expansion (A before B), ``weight`` (n,) bounds ‖κ_i‖, ``parity`` is s of the
    flip (v, κ) ~ (−v, s·κ), 0 without one.
    """

    core: Core
    rows: Integers
    points: Array
    alpha: Array
    value: Array | None
    moved: Array
    lost: Array
    weight: Array

    @property
    def parity(self) -> int:
        """s of the flip."""
        return 0 if self.core.flip is None else self.core.flip[0]

    def mass(self, rows: Integers) -> Array:
        """κ of some of the neurons, shape (n, m) or (n, m(d + 1))."""
        alpha = self.alpha[rows]
        if self.value is None:
            return alpha
        value = self.value[rows]
        return (alpha[:, :, None] * value[:, None, :]).reshape(rows.size, alpha.shape[1] * value.shape[1])


def product(left: Array, right: Array) -> tuple[Array, int]:
    """leftᵀ right for matrices of n rows, added up in about √n blocks of about √n rows; and how many units of
    Σ_i ‖left_i‖‖right_i‖ that loses, whatever the order inside a block."""
    n = left.shape[0]
    step = max(1, math.isqrt(n))
    out = np.zeros((left.shape[1], right.shape[1]))
    for start in range(0, n, step):
        out += left[start : start + step].T @ right[start : start + step]
    return out, step + -(-n // step) + 1


def _block(n: int, d: int, degree: int) -> int:
    """How many of n tensors of order ``degree`` are added up at once."""
    return max(1, min(math.isqrt(n), LARGEST_TENSOR // d**degree))


@dataclass(eq=False)
class Polynomial:
    """The T_j of an m-valued polynomial on R^d: ``offset``, ``affine``, ``quadratic``, and Σ β w^{⊗j} for j ≥ 2.

    ``error`` bounds Σ_j ‖T_j − computed‖_F.
    """

    offset: Array
    affine: Array
    quadratic: Array | None = None
    powers: dict[int, list[tuple[Array, Array]]] = field(default_factory=dict)
    error: float = 0.0

    def level(self, core: Core, h: Expanded, rows: Integers) -> None:
        """The constants Σ α_i σ(b_i)."""
        if rows.size:
            value, lost, top = constant_values(_FLOAT, core, h.b[rows], h.point_error[rows])
            weight = _FLOAT.norms(h.alpha[rows])
            total, steps = product(value[:, None], h.alpha[rows])
            self.error += float((weight + h.alpha_error[rows]) @ lost + h.alpha_error[rows] @ top)
            self.put(total[0], None, (steps + 8) * _UNIT * float(weight @ top))

    def put(self, offset: Array | None, affine: Array | None, error: float) -> None:
        """Adds to c and A, which rounds by a unit of what comes out."""
        if offset is not None:
            self.offset = self.offset + offset
            error += 2 * _UNIT * _FLOAT.norm(self.offset)
        if affine is not None:
            self.affine = self.affine + affine
            error += 2 * _UNIT * _FLOAT.norm(self.affine)
        self.error = (self.error + error) * (1 + 1e-12)

    def add(self, alpha: Array, lost: Array, w: Array, b: Array, moved: Array, p: tuple[float, ...]) -> None:
        """Σ_i α_i Σ_k p_k (⟨w_i, x⟩ + b_i)^k, α_i known to ``lost``, (w_i, b_i) to ``moved``.

        The k-th is Σ_j C(k, j) b^{k−j} α ⊗ w^{⊗j}, whose norms add up to at most ‖α‖(‖w‖ + |b|)^k; its rounding: that
        of sums over i, of products of k factors, and of the polynomial in b.
        """
        if not b.size or not any(p):
            return
        steps, d = 0, w.shape[1]
        for j in range(len(p)):
            inner = sum(c * math.comb(k, j) * b ** (k - j) for k, c in enumerate(p) if k >= j and c)
            if np.any(inner):
                beta = alpha * np.asarray(inner)[:, None]
                if j < 2:
                    total, steps = product(np.ones((b.size, 1)) if j == 0 else w, beta)
                    self.put(total[0] if j == 0 else None, total.T if j == 1 else None, 0.0)
                else:
                    self.powers.setdefault(j, []).append((beta, w))
                    block = _block(w.shape[0], d, j)
                    steps = block - (-b.size // block) + 8  # as in _tensor, for a few networks and cores
        weight, reach = _FLOAT.norms(alpha), _FLOAT.norms(w) + np.abs(b) + 1.5 * moved
        for k, c in enumerate(p):
            slope = 1.5 * k * reach ** max(k - 1, 0) * moved
            error = float(lost @ reach**k + (weight + lost) @ slope)
            error += (steps + 6 * len(p) + 6) * _UNIT * float(weight @ reach**k)
            self.error += abs(c) * error * (1 + 1e-9)

    def bounds(self) -> tuple[float, float]:
        """(lower, upper) of Σ_j ‖T_j‖_F."""
        parts = [self.offset, self.affine]
        low = high = 0.0
        for degree in sorted(set(self.powers) | ({2} if self.quadratic is not None else set())):
            tensor = self._tensor(degree)
            if tensor is None:
                square, doubt = self._square(degree)
                low, high = low + math.sqrt(max(square - doubt, 0.0)), high + math.sqrt(max(square, 0.0) + doubt)
            else:
                parts.append(tensor)
        low += sum(_FLOAT.floor_norm(x) for x in parts)
        high += sum(_FLOAT.norm(x) for x in parts)
        return max(low * (1 - 1e-14) - self.error, 0.0), (high + self.error) * (1 + 1e-14)

    def _tensor(self, degree: int) -> Array | None:
        m, d = self.affine.shape
        if m * d**degree > LARGEST_TENSOR:
            if degree == 2 and self.quadratic is not None:
                raise Refused("the quadratic parts are too large to be compared")
            return None
        out = np.zeros((m, d**degree))
        if degree == 2 and self.quadratic is not None:
            out += self.quadratic.reshape(m, -1)
        for beta, w in self.powers.get(degree, []):
            rows = _block(w.shape[0], d, degree)
            for start in range(0, w.shape[0], rows):
                part = product = w[start : start + rows]
                for _ in range(degree - 1):
                    product = np.einsum("ia,ib->iab", product, part).reshape(part.shape[0], -1)
                out += beta[start : start + rows].T @ product
        return out

    def _square(self, degree: int) -> tuple[float, float]:
        """‖T_degree‖² by the Gram form, and how far off that may be."""
        beta, w = (np.concatenate([part[k] for part in self.powers[degree]]) for k in (0, 1))
        rows = [
            np.einsum("ij,ij->i", beta[s : s + 1024] @ beta.T, (w[s : s + 1024] @ w.T) ** degree)
            for s in range(0, w.shape[0], 1024)
        ]
        mass = float(_FLOAT.norms(beta) @ _FLOAT.norms(w) ** degree)
        doubt = (2 * w.shape[0] + degree * (w.shape[1] + 2) + beta.shape[1] + 64) * _UNIT * mass**2
        return float(np.sum(np.concatenate(rows))), doubt * (1 + 1e-9)


@dataclass(eq=False)
class _Form:
    """An m-valued quadratic form on (x, 1), Σ_i α_i ⊗ (g_i ⊗ l_i), within ``error``."""

    form: Array
    error: float = 0.0

    def add(self, alpha: Array, alpha_lost: Array, left: Array, left_lost: Array, right: Array) -> None:
        steps = 0
        for j in range(self.form.shape[0]):
            total, steps = product(left, alpha[:, j, None] * right)
            self.form[j] += total
        weight, reach, span = (_FLOAT.norms(x) for x in (alpha, left, right))
        error = float((alpha_lost * (reach + left_lost) + weight * left_lost) @ span)
        error += (steps + 4) * _UNIT * float((weight * reach) @ span) + 2 * _UNIT * _FLOAT.norm(self.form)
        self.error += error * (1 + 1e-9)

    def polynomial(self) -> Polynomial:
        """c, A and Q of the symmetric part; each error is at most twice the form's."""
        d = self.form.shape[1] - 1
        form = 0.5 * (self.form + self.form.transpose(0, 2, 1))
        error = 4 * self.error + 16 * _UNIT * _FLOAT.norm(self.form)
        return Polynomial(form[:, d, d], 2.0 * form[:, :d, d], form[:, :d, :d], error=error)


def measure(a: Raw, b: Raw) -> tuple[list[Family], Polynomial, int]:
    """The families of f_A − f_B, A's neurons first in each, its polynomial part, the size of the expansion.

    Raises :class:`Refused` for what is too large or leaves the range of numbers.
    """
    if a.gate is not None:
        families, polynomial, size = _gated(a, b)
    else:
        families, polynomial, size = _plain(a, b)
    known = np.isfinite(polynomial.error) and np.isfinite(polynomial.affine).all()
    if not (known and all(np.isfinite(f.weight + f.lost + f.moved).all() for f in families)):
        raise Refused("coefficients beyond the range of numbers")
    return families, polynomial, size


def split(h: Expanded) -> Iterator[tuple[Core, Integers, Integers]]:
    """Each core with its live neurons, and those that are constants."""
    alive = np.asarray(h.alpha.any(axis=1), dtype=bool)
    still = np.max(np.abs(h.w), axis=1, initial=0.0) <= NEGLIGIBLE
    for core, rows in h.cores():
        yield core, rows[alive[rows] & ~still[rows]], rows[alive[rows] & still[rows]]


def _plain(a: Raw, b: Raw) -> tuple[list[Family], Polynomial, int]:
    h = expanded(_FLOAT, (a, 1.0), (b, -1.0), constants=False)
    polynomial = Polynomial(np.zeros(a.offset.size), np.zeros(a.affine.shape))
    for f, sign in ((a, 1.0), (b, -1.0)):
        polynomial.put(sign * f.offset, sign * f.affine, 0.0)
        if f.quadratic is not None:
            before = polynomial.quadratic
            polynomial.quadratic = sign * f.quadratic if before is None else before + sign * f.quadratic
            polynomial.error += 2 * _UNIT * _FLOAT.norm(polynomial.quadratic)
        alpha, own = coefficients(_FLOAT, f, sign), image(f.activation)
        p = tuple(float(x().mid()) for x in (own.constant, own.linear))
        # the constants round, too
        polynomial.add(alpha, 4 * _UNIT * _FLOAT.norms(alpha) + UNDERFLOW, f.w, f.b, np.zeros(f.b.size), p)
    families = []
    for core, live, still in split(h):
        polynomial.level(core, h, still)
        known = (h.alpha_error[live], h.w[live], h.b[live], h.point_error[live])
        if core.name.startswith("power"):
            polynomial.add(h.alpha[live], *known, (0.0,) * core.degree + (1.0,))
            continue
        if core.flip is not None:
            polynomial.add(0.5 * h.alpha[live], *known, core.flip[1])
        if live.size:
            families.append(on_section(core, h, live))
    return families, polynomial, h.core.size


def on_section(core: Core, h: Expanded, rows: Integers, value: Array | None = None) -> Family:
    """Some neurons of one core on the section, with the factors of a gated block."""
    points, alpha = np.concatenate([h.w[rows], h.b[rows, None]], axis=1), h.alpha[rows]
    moved, lost, size = h.point_error[rows], h.alpha_error[rows], points.shape[1]
    if core.degree:
        # brought to a length of about 1 by powers of two first, so that no square underflows
        shift = np.frexp(np.max(np.abs(points), axis=1))[1]
        points = np.ldexp(points, -shift[:, None])
        unit = np.sqrt(_FLOAT.squares(points))
        points /= unit[:, None]
        length = np.ldexp(unit, shift)
        reach, off = length * (1 + 1e-12) + moved, moved + (size + 10) * _UNIT * length
        weight = _FLOAT.norms(alpha)
        lost = lost * reach**core.degree + weight * core.degree * reach ** (core.degree - 1) * off
        lost = lost * (1 + 1e-9) + UNDERFLOW * (1 + length)
        moved = (size + 12) * _UNIT + 2 * moved / length * (1 + 1e-9)
        for _ in range(core.degree):
            alpha = alpha * length[:, None]
    weight = _FLOAT.norms(alpha)
    if value is not None:
        span = _FLOAT.norms(value)
        weight = weight * span * (1 + 1e-15)
        lost = lost * span * (1 + 1e-15) + 2 * _UNIT * weight + UNDERFLOW
    return Family(core, rows, points, alpha, value, moved, lost, weight)


def gates(a: Raw, b: Raw) -> tuple[Expanded, Array]:
    """The gates of two gated blocks as one expansion, and the factor (w, b) of each."""
    parts, values = [], []
    m, d = a.affine.shape
    for f, sign in ((a, 1.0), (b, -1.0)):
        if f.gate is None or f.gate_bias is None:
            raise Refused("a gated block is compared with a gated block")
        gate = Raw(f.activation, f.outer, f.scale, f.gate, f.gate_bias, np.zeros((m, d)), np.zeros(m))
        parts.append(expanded(_FLOAT, (gate, sign), constants=False))
        terms = len(image(f.activation).terms)
        values.append(np.tile(np.concatenate([f.w, f.b[:, None]], axis=1), (terms, 1)).reshape(terms * f.b.size, d + 1))
    names = ("alpha", "w", "b", "core", "point_error", "alpha_error")
    alpha, w, bias, core, moved, lost = (np.concatenate([getattr(p, x) for p in parts]) for x in names)
    return Expanded(alpha, w, bias, core, np.zeros((m, d)), np.zeros(m), moved, lost, 0.0), np.concatenate(values)


def _gated(a: Raw, b: Raw) -> tuple[list[Family], Polynomial, int]:
    m, d = a.affine.shape
    h, value = gates(a, b)
    if h.core.size * m * (d + 1) > LARGEST_MASS or m * (d + 1) ** 2 > LARGEST_TENSOR:
        raise Refused("gated blocks of this size are not compared")
    total = _Form(np.zeros((m, d + 1, d + 1)))
    for f, sign in ((a, 1.0), (b, -1.0)):
        total.form[:, :d, d] += sign * f.affine
        total.form[:, d, d] += sign * f.offset
        if f.quadratic is not None:
            total.form[:, :d, :d] += sign * f.quadratic
        form = image(f.activation)
        p0, p1 = (float(x().mid()) for x in (form.constant, form.linear))
        if f.gate is not None and f.gate_bias is not None and (p0 or p1):
            left = np.concatenate([p1 * f.gate, (p1 * f.gate_bias + p0)[:, None]], axis=1)
            off = 4 * _UNIT * (abs(p1) * (_FLOAT.norms(f.gate) + np.abs(f.gate_bias)) + abs(p0)) + UNDERFLOW
            alpha = coefficients(_FLOAT, f, sign)
            right = np.concatenate([f.w, f.b[:, None]], axis=1)
            total.add(alpha, 2 * _UNIT * _FLOAT.norms(alpha) + UNDERFLOW, left, off, right)
    families = []
    for core, live, still in split(h):
        alive = np.asarray(value.any(axis=1), dtype=bool)
        live, still = live[alive[live]], still[alive[still]]
        level, lost, _ = constant_values(_FLOAT, core, h.b[still], h.point_error[still])
        left = np.concatenate([np.zeros((still.size, d)), level[:, None]], axis=1)
        total.add(h.alpha[still], h.alpha_error[still], left, lost, value[still])
        if core.name.startswith("power") or (core.flip is not None and core.flip[1][2]):
            raise Refused("gates whose flip costs a quadratic are not compared")
        if core.flip is not None:
            p0, p1, _ = core.flip[1]
            left = 0.5 * np.concatenate([p1 * h.w[live], (p1 * h.b[live] + p0)[:, None]], axis=1)
            off = abs(p1) * h.point_error[live] + 2 * _UNIT * (np.abs(h.b[live]) + abs(p0))
            total.add(h.alpha[live], h.alpha_error[live], left, off, value[live])
        if live.size:
            families.append(on_section(core, h, live, value[live]))
    return families, total.polynomial(), h.core.size
