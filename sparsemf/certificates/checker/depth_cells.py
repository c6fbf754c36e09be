"""Enclosures of the heat-equation moments G_k(r², b) over boxes of scales, by expansion around cell centres.

u is analytic in (t, b) for t > 0, and G_k = ∂_b^k u, u_t = ½u_bb.  Hence around (t₀, b₀)

    G_l(t₀ + τ, b₀ + η) = Σ_n q_n(τ, η) G_{l+n}(t₀, b₀),   Σ_n q_n xⁿ = exp(ηx + ½τx²),  (n+1)q_{n+1} = ηq_n + τq_{n−1}.

With |G_n(t₀, b₀)| ≤ √n!·M/rⁿ, M = ‖σ(rg + b₀)‖_{L²}, r = √t₀ (Cauchy–Schwarz), (l + n)! ≤ 2^{l+n} l! n!, and for
n = 2i + j: √n! ≤ 2^{n/2}·2^i i!·√j!, the terms n ≥ N are at most

    M √l! (√2/r)^l Σ_{n ≥ N} (n/2 + 1) ρⁿ,   ρ = max(√(4|τ|/t₀), 2|η|/r),

so the double series converges absolutely for ρ < 1 and, by the identity theorem, to G_l.  The c_n come from float64
rules with ‖error‖ ≤ e (:mod:`hermite`), which the same sum from n = 0 with e for M pays for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from flint import arb, arb_mat
from numpy.typing import NDArray

from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.catalogue import CORES
from sparsemf.certificates.checker.depth_shape import Shape
from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.hermite import coefficients

Array = NDArray[np.float64]

TERMS = 72
_TIME, _SPACE = 1.0 / 13.0, 0.26
"""Half-widths of a cell: |τ| ≤ t₀/13 (relative), |η| ≤ 0.26·r."""
MOST_CELLS = 1500
_SHARED = 12
UNIT = 1.01 * 2.0**-53
_FLOAT = Arithmetic(0)


@dataclass(frozen=True)
class Box:
    """[r_low, r_high] × [b_low, b_high]."""

    r_low: float
    r_high: float
    b_low: float
    b_high: float

    def holds(self, other: Box) -> bool:
        """Whether ``other`` lies inside."""
        return (
            self.r_low <= other.r_low
            and other.r_high <= self.r_high
            and self.b_low <= other.b_low
            and other.b_high <= self.b_high
        )

    @property
    def middle(self) -> tuple[float, float]:
        """The centre, rounded."""
        return 0.5 * (self.r_low + self.r_high), 0.5 * (self.b_low + self.b_high)

    def balls(self) -> tuple[arb, arb]:
        """Both intervals as balls that contain them."""
        return _hull(self.r_low, self.r_high), _hull(self.b_low, self.b_high)


def _hull(low: float, high: float) -> arb:
    return arb(low) if low == high else arb(low).union(arb(high))


@dataclass(eq=False)
class Cell:
    """The expansion around (r₀, b₀) that serves the ``box``: ``table`` (top + 1, N) holds G_{l+n} in row l, ``tail``
    (top + 1,) what rounding and truncation cost."""

    box: Box
    r: float
    b: float
    table: Array
    tail: Array
    balls: arb_mat | None = None

    def at(self, r: arb, b: arb) -> list[arb]:
        """G_0 … G_top on the product of two balls inside the box."""
        if self.balls is None:
            self.balls = arb_mat([[arb(x) for x in row] for row in self.table.tolist()])
        tau, eta = r * r - arb(self.r) ** 2, b - arb(self.b)
        q = [arb(1), eta]
        for n in range(1, TERMS - 1):
            q.append((eta * q[n] + tau * q[n - 1]) / (n + 1))
        found = self.balls * arb_mat([[x] for x in q])
        return [found[row, 0] + arb(0, tail) for row, tail in enumerate(self.tail.tolist())]


def cells_of(shape: Shape, boxes: Sequence[Box], top: int) -> list[Cell]:
    """The expansions for small boxes and degrees up to ``top``; raises :class:`Refused` where one does not converge."""
    r = np.array([math.sqrt(0.5 * (box.r_low**2 + box.r_high**2)) for box in boxes])
    b = np.array([0.5 * (box.b_low + box.b_high) for box in boxes])
    degree = max(top, _SHARED) + TERMS  # rules are kept by degree: one serves all usual depths
    c, error = _coefficients(shape, r, b, degree)
    cells = []
    for j, box in enumerate(boxes):
        spread = max(box.r_high**2 - r[j] ** 2, r[j] ** 2 - box.r_low**2) / r[j] ** 2 * (1 + 1e-9) + 1e-12
        shift = max(box.b_high - b[j], b[j] - box.b_low) / r[j] * (1 + 1e-9) + 1e-12
        ratio = max(math.sqrt(4 * spread), 2 * shift) * (1 + 1e-9)
        if not ratio < 0.75:
            raise Refused("a cell of the scale problem is too large")
        # Σ_{n ≥ N} (n/2 + 1)ρⁿ for N = TERMS, and for N = 0
        beyond = ratio**TERMS * ((TERMS / 2 + 1) / (1 - ratio) + ratio / (2 * (1 - ratio) ** 2))
        whole = 1 / (1 - ratio) + ratio / (2 * (1 - ratio) ** 2)
        rest = (beyond * _size(shape, float(r[j]), float(b[j])) + whole * error[j]) * (1 + 1e-6) + 1e-300
        tail = [rest * math.sqrt(math.factorial(k)) * (math.sqrt(2) / r[j]) ** k * (1 + 1e-9) for k in range(top + 1)]
        power, g = 1.0, np.empty(degree + 1)
        for k in range(degree + 1):
            power = power * math.sqrt(k) / r[j] if k else power
            g[k] = c[j, k] * power
        table = np.stack([g[k : k + TERMS] for k in range(top + 1)])
        cells.append(Cell(box, float(r[j]), float(b[j]), table, np.array(tail)))
    return cells


def _coefficients(shape: Shape, r: Array, b: Array, degree: int) -> tuple[Array, Array]:
    """c_0 … c_degree of σ at float points, and bounds of their error; what the products that form G round is in it."""
    form = shape.form
    out, error = np.zeros((r.size, degree + 1)), np.zeros(r.size)
    own = form.frequency is not None or form.translation
    for term in form.terms[:1] if own else form.terms:
        scale, shift, coefficient = (
            (arb(1), arb(0), arb(1)) if own else (term.scale(), term.shift(), term.coefficient())
        )
        if not (
            scale == float(scale.mid()) and shift == float(shift.mid()) and math.frexp(float(scale.mid()))[0] == 0.5
        ):
            raise Refused("the scale problem is not solved for this activation")
        inner, centre = float(scale.mid()) * r, float(scale.mid()) * b + float(shift.mid())
        if not shift == 0:
            raise Refused("the scale problem is not solved for this activation")
        if term.core == "softsign":
            raise Refused("the moments of softsign are too slow to subdivide with")
        try:
            c, lost = coefficients(_FLOAT, CORES[term.core], inner, centre, degree)
        except Undefined as reason:
            raise Refused(str(reason)) from None
        factor = float(coefficient.mid())
        out = out + factor * c
        error = error + abs(factor) * (lost + 4 * UNIT * np.linalg.norm(c, axis=1))
    constant, linear = form.constant(), form.linear()
    out[:, 0] += float(constant.mid()) + float(linear.mid()) * b
    out[:, 1] += float(linear.mid()) * r
    size = np.linalg.norm(out, axis=1) + abs(float(constant.mid())) + abs(float(linear.mid())) * (np.abs(b) + r)
    return out, (error + (8 + 4 * degree) * UNIT * size) * (1 + 1e-9)


def _size(shape: Shape, r: float, b: float) -> float:
    """An upper bound of ‖σ(rg + b)‖."""
    form = shape.form
    total = abs(float(form.constant().mid())) + abs(float(form.linear().mid())) * math.hypot(r, b)
    for term in form.terms[:1] if form.frequency is not None or form.translation else form.terms:
        core, scale = CORES[term.core], abs(float(term.scale().mid()))
        value = core.at_zero + core.slope * math.hypot(scale * r, scale * b)
        total += abs(float(term.coefficient().mid())) * min(value, core.bound)
    if not math.isfinite(total):
        raise Refused("the scale problem of an unbounded slope is not solved by subdivision")
    return total * (1 + 1e-6) + 1e-6


@dataclass(eq=False)
class Field:
    """The cells of a declared box, made when first needed and shared by all atoms of a shape."""

    shape: Shape
    box: Box
    top: int
    cells: list[Cell] = field(default_factory=list)

    def all(self) -> list[Cell]:
        """Cells that cover the box; raises :class:`Refused` when they would be too many."""
        if self.cells:
            return self.cells
        if not 0 < self.box.r_low < self.box.r_high or not self.box.b_low <= self.box.b_high:
            raise Refused("the declared box is empty or reaches r = 0")
        growth = math.sqrt((1 + _TIME) / (1 - _TIME))
        boxes, low = [], self.box.r_low
        while low < self.box.r_high:
            high = min(low * growth, self.box.r_high)
            count = max(1, math.ceil((self.box.b_high - self.box.b_low) / (2 * _SPACE * low)))
            ends = np.linspace(self.box.b_low, self.box.b_high, count + 1)
            boxes += [Box(low, high, float(x), float(y)) for x, y in pairwise(ends)]
            if len(boxes) > MOST_CELLS:
                raise Refused("the declared box of scales is too large")
            low = high
        self.cells = cells_of(self.shape, boxes, self.top)
        return self.cells


Interval = tuple[Array, Array]
"""Midpoints and radii; every operation rounds outwards by a multiple of the unit roundoff."""


def add(x: Interval, y: Interval, sign: float = 1.0) -> Interval:
    """x + sign·y."""
    middle = x[0] + sign * y[0]
    return middle, (x[1] + y[1] + 2 * UNIT * np.abs(middle)) * (1 + 4 * UNIT)


def times(x: Interval, y: Interval) -> Interval:
    """x·y."""
    middle = x[0] * y[0]
    radius = np.abs(x[0]) * y[1] + np.abs(y[0]) * x[1] + x[1] * y[1] + 2 * UNIT * np.abs(middle)
    return middle, radius * (1 + 8 * UNIT) + 1e-300


def fields(table: Array, tail: Array, tau: Interval, eta: Interval) -> Interval:
    """G_0 … G_top for many boxes at once: ``table`` (n, top + 1, N), intervals (n,) → (top + 1, n)."""
    n = eta[0].size
    q = [(np.ones(n), np.zeros(n)), eta]
    for k in range(1, TERMS - 1):
        found = add(times(eta, q[k]), times(tau, q[k - 1]))
        middle = found[0] / (k + 1)
        q.append((middle, found[1] / (k + 1) * (1 + 4 * UNIT) + 2 * UNIT * np.abs(middle)))
    middles, radii = np.stack([x[0] for x in q]), np.stack([x[1] for x in q])
    value = np.einsum("ilk,ki->li", table, middles)
    size = np.abs(table)
    # the table's rounding is in the tail; the sum of N products: γ_{N + 2}
    radius = np.einsum("ilk,ki->li", size, radii + (2 * TERMS + 8) * UNIT * np.abs(middles)) * (1 + 1e-10)
    return value, radius + tail.T
