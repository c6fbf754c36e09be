"""‖η_q‖ on boxes under N(0, I), for a polynomial q: η_q(w, b) = E[q(x) σ(⟨w, x⟩ + b)] ∈ R^m.

*The polynomial.*  q is given by its Hermite tensors T_k = Σ_j g_jk y_j^{⊗k}, k ≤ K, whose numbers are exact floats;
|y_j| ≤ 1.  With c_k(s, b) = E[σ(sg + b)he_k(g)], s = |w|, Parseval makes η_q a *finite* sum - nothing is truncated:

    η_q(w, b) = Σ_{k ≤ K} c_k(s, b) Σ_j g_jk cos_j^k,   cos_j = ⟨y_j, w⟩/s.

*Effective coordinates.*  If y_j = Eᵀz_j with ‖E‖ ≤ 1, then η_q depends on Ew, |w| and b only, and
(Ew, √(|w|² − |Ew|²), b) lies in the same kind of set in fewer dimensions; there η_q is that of the directions
(z_j, 0), and even in the last coordinate of w.

*Derivatives* at the centre: with a_k = c_k/s^k, (1/s)∂_s a_k = √((k + 1)(k + 2))a_{k+2}, ∂_b a_k = √(k +
1)a_{k+1}. Each term of D^pη is at most (k + 4)^p s^{−p}|c_{k′}|G_k, G_k = Σ_j‖g_jk‖, and there are at most 1, 3,
16 of them (Frobenius norms of the unit tensors included, D ≤ 9); so with ‖δc‖ the ℓ²-error of the coefficients,
D^pη is known to

    (1, 3, 16)_p·s^{−p}·√Σ((k + 4)^p G_k)²·(‖δc‖ + (‖c‖ + ‖δc‖)·ulps),   ulps = 2(2(D + 6)(K + 6) + J + K + 64)u.

s rounds by (D + 4)u, which moves c by sup|σ′| times that (E g²he_k-wise: ∂_s c_k = E[σ′g he_k], ‖·‖ ≤ sup|σ′|).

*On the box.*  D^pη[v^p] = E[q ⟨v, x̃⟩^p σ^{(p)}(z)], x̃ = (x, 1), |v| = 1, E⟨v, x̃⟩^{2p} ≤ (2p − 1)!!.  So

    ‖Dη‖ ≤ ‖q‖ sup|σ′|,   ‖D²η‖ ≤ √3‖q‖ sup|σ″|,   ‖D³η‖ ≤ √15‖q‖ sup|σ‴|

where these are bounded.  A kink of σ (a jump κ of σ′ at z₀) adds κδ to σ″ and κδ′ to σ‴, a jump J of σ″ adds Jδ
to σ‴.  δ(sz + t) and δ′ have coefficients he_k(−β)φ(β)/s and −√(k + 1)he_{k+1}(−β)φ(β)/s², with |he_k|φ(β) ≤
0.4335e^{−β²/4} (Cramér); multiplication by ⟨v, x̃⟩ maps the degree k to k ± 1 and k with coefficients that sum to
at most √((√k + √(k + 1))² + 1) ≤ 2√(k + 1).  Hence, e^{−β²/4}/s ≤ 0.8578/|b| and e^{−β²/4}/s² ≤ 1.4716/b² for β =
b/s,

    δ: 0.4335·min(1/s, 0.8578/|b|)·Σ_k‖T_k‖·2^p√((k + 1)⋯(k + p)),   p = 2, 3,
    δ′: 0.4335·min(1/s², 1.4716/b²)·Σ_k‖T_k‖·8√((k + 1)(k + 2)(k + 3)(k + 4)).

Where σ′ is not bounded (exp, powers), ‖D^pη‖ ≤ ‖q‖‖⟨v, x̃⟩^p σ^{(p)}(z)‖ with the suprema of :mod:`entire` on the box.

*Forms.*  σ = z or z²: η is a form of degree k in θ, and D^kη/k! at any point gives its spectral norm
(:func:`.form_norm`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import entire, tree
from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.catalogue import CORES, Image, Term, image
from sparsemf.certificates.checker.derivatives import suprema
from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.entire import homogeneity, is_entire
from sparsemf.certificates.checker.hermite import coefficients
from sparsemf.certificates.checker.knots import KNOTS
from sparsemf.certificates.checker.taylor import UNIT, Jet, Region, form_norm

Array = NDArray[np.float64]

MOST_DEGREES = 128
_FLOAT = Arithmetic(0)
_BLOCK = 512
_NEAR = 1e-6
"""Centres with a shorter w are moved to this length, their boxes made larger by as much."""
_HUGE = 1e120


@dataclass(frozen=True)
class Moduli:
    """σ: |σ(0)|, sup|σ′| (``square``: of Σ|c|s² relu² besides), sup|σ″|, sup|σ‴| without their singular parts;
    ``kinks``, ``bends``: (size, scale, shift) of the jumps of σ′ and of σ″; ``parity`` ±1 where σ(−z) = ±σ(z);
    ``growing``: (core, |c|) of exp and powers, which these numbers leave out; ``form``: k where σ is p₁z or c z^k."""

    at_zero: float
    slope: float
    square: float
    second: float
    third: float
    kinks: tuple[tuple[float, float, float], ...]
    bends: tuple[tuple[float, float, float], ...]
    parity: int
    growing: tuple[tuple[str, float], ...] = ()
    form: int = 0

    def mean(self, p: int, s: Array, b: Array) -> Array:
        """sup ‖⟨v, x̃⟩^p σ^{(p)}‖ of what grows over |w| ≤ s, |b| ≤ b."""
        return sum((c * entire.mean(core, p, s, b) for core, c in self.growing), np.zeros(s.shape)) * (1 + 1e-14)


def form_of(name: str) -> Image:
    """σ in cores; raises ``KeyError`` without bounds."""
    found = Image((Term(name),)) if name in ("sin", "cos") else image(name)
    known = all(t.core in KNOTS or _smooth(t.core) or is_entire(t.core) for t in found.terms)
    if not (found.terms or found.linear() != 0) or not known or any(not t.scale() > 0 for t in found.terms):
        raise KeyError(name)
    fixed = [t for t in found.terms if t.core == "relu2" or is_entire(t.core)]
    if any(not (t.scale() == 1 and t.shift() == 0) for t in fixed):
        raise KeyError(name)
    return found


def is_slow(name: str) -> bool:
    """Whether coefficients are integrals in balls, some 20 ms each: trees are short and grids coarse then."""
    return any(t.core == "softsign" for t in form_of(name).terms)


def _smooth(core: str) -> bool:
    try:
        return core not in KNOTS and bool(suprema(core))
    except KeyError:
        return False


def moduli(name: str) -> Moduli:
    """The bounds of the activation of that name."""
    found = form_of(name)
    line = float(abs(found.linear()).upper())
    zero, slope, square, second, third = float(abs(found.constant()).upper()), line, 0.0, 0.0, 0.0
    kinks, bends, parities = [], [], {-1} if line else set[int]()
    parities |= set() if found.constant() == 0 else {1}
    growing = tuple((t.core, float(abs(t.coefficient()).upper())) for t in found.terms if is_entire(t.core))
    for term in found.terms:
        if is_entire(term.core):
            flip = CORES[term.core].flip
            parities.add(flip[0] if flip is not None else 0)
            continue
        c, s, t = float(abs(term.coefficient()).upper()), float(term.scale().upper()), float(term.shift().mid())
        core, (first, *higher) = CORES[term.core], suprema(term.core)
        zero, slope = zero + c * (core.at_zero + first * abs(t)), slope + c * s * first
        second, third = second + c * s**2 * higher[0], third + c * s**3 * higher[1]
        if term.core == "relu2":
            square += c
        if term.core in KNOTS:
            knot = KNOTS[term.core]
            kinks += [(c * knot.kink, s, t)] if knot.kink else []
            bends += [(c * knot.bend, s, t)] if knot.bend else []
        parities.add(core.flip[0] if core.flip is not None and not any(core.flip[1]) and t == 0 else 0)
    up = 1 + 1e-14
    return Moduli(
        zero * up, slope * up, square * up, second * up, third * up, tuple(kinks), tuple(bends),
        parities.pop() if len(parities) == 1 else 0, growing,
        homogeneity(found) if len(growing) == len(found.terms) else 0,
    )  # fmt: skip


def neuron_coefficients(name: str, s: Array, b: Array, degree: int) -> tuple[Array, Array]:
    """(c (n, degree + 1), ℓ²-errors (n,)) of σ at floats s > 0, b that are taken as exact."""
    found = form_of(name)
    total, error = np.zeros((s.size, degree + 1)), np.zeros(s.size)
    for term in found.terms:
        core, c = CORES[term.core], float(term.coefficient().mid())
        scale, shift = float(term.scale().mid()), float(term.shift().mid())
        if is_entire(term.core):
            own, lost = entire.coefficients(term.core, s, b, degree)
            total, error = total + c * own, error + abs(c) * (lost + 8 * UNIT * _FLOAT.norms(own)) * (1 + 4 * UNIT)
            continue
        with _FLOAT.precision():  # where float64 is too poor, balls serve
            own, lost = coefficients(_FLOAT, core, scale * s, scale * b + shift, degree)
        total += c * own
        reach = scale * (s + np.abs(b)) + abs(shift)
        slope = core.slope if math.isfinite(core.slope) else 4 * reach
        # scale·s and scale·b + shift round, c does, and the sum
        error += abs(c) * (lost * (1 + 4 * UNIT) + 8 * UNIT * (slope * reach + _FLOAT.norms(own)))
    constant, line = float(found.constant().mid()), float(found.linear().mid())
    total[:, 0] += constant + line * b
    total[:, 1] += line * s
    error += 8 * UNIT * (abs(constant) + abs(line) * (s + np.abs(b)))
    return total, (error + 8 * len(found.terms) * UNIT * _FLOAT.norms(total)) * (1 + 1e-12)


@dataclass(frozen=True, eq=False)
class SeriesDual:
    """η_q of ``directions`` y (J, d) and ``weights`` g (K + 1, J, m) in ``d`` coordinates of w (and b); ``sizes``
    (K + 1,) ≥ ‖T_k‖.  ``even``: the last coordinate of w is that of the rest.  On the unit sphere ``shell``."""

    activation: str
    directions: Array
    weights: Array
    sizes: Array
    d: int
    bias: bool
    radius: float
    bias_radius: float
    shell: bool
    even: bool

    @cached_property
    def region(self) -> Region:
        """Θ; on the sphere the bias is a coordinate like any other."""
        dim = self.d + int(self.bias)
        return Region(dim, dim if self.shell else self.d, self.radius, self.bias_radius, self.shell)

    @cached_property
    def moduli(self) -> Moduli:
        """Of σ."""
        return moduli(self.activation)

    @cached_property
    def size(self) -> float:
        """‖q‖, rounded up."""
        return float(np.sqrt(np.sum(self.sizes**2))) * (1 + 1e-13)

    def roots(self) -> Array:
        """One box that holds Θ, or the part of it with θ₀ ≥ 0 and a rest ≥ 0, where the symmetries allow that."""
        half = np.array([tree.power_of_two(self.radius)] * self.d)
        if self.bias:
            half = np.append(half, half[0] if self.shell else tree.power_of_two(self.bias_radius))
        centre = np.zeros(half.size)
        folded = ([0] if self.moduli.parity else []) + ([self.d - 1] if self.even and self.d > 1 else [])
        for axis in sorted(set(folded)):
            half[axis] *= 0.5
            centre[axis] = half[axis]
        return np.stack([centre, half])[None]

    @cached_property
    def everywhere(self) -> float:
        """‖η_q‖ ≤ ‖q‖·sup ‖φ_θ‖ over Θ (Cauchy–Schwarz), in any dimension."""
        reach = self.radius if self.shell else math.hypot(self.radius, self.bias_radius)
        size = self.moduli
        largest = size.at_zero + size.slope * reach + size.square * math.sqrt(3) * reach**2
        ends = np.array([self.radius]), np.array([self.bias_radius if self.bias and not self.shell else 0.0])
        found = self.size * (largest + float(size.mean(0, *ends)[0])) * (1 + 1e-12)
        return min(found, self._form_bound())

    def _form_bound(self) -> float:
        """sup ‖η‖ over the unit sphere where σ is z or z², else ∞."""
        k = self.moduli.form
        if not (self.shell and k in (1, 2)):
            return math.inf
        first = np.eye(self.region.dim)[:1]
        try:
            parts = self.tensors(first)
        except Undefined:
            return math.inf
        if k == 1:
            return form_norm(parts[1][0].T, float(parts[3][1][0]))
        flat = 0.5 * parts[2][0].transpose(1, 0, 2).reshape(self.region.dim, -1)
        return form_norm(flat, float(parts[3][2][0]))

    def bounds(self, boxes: Array, enough: float) -> Array:
        """Upper bounds of ‖η_q‖ on the part of Θ in each box (k, 2, D); 0 for a box outside Θ."""
        found = np.zeros(boxes.shape[0])
        live = np.flatnonzero(self.region.meets(boxes))
        if self.everywhere <= enough:
            found[live] = self.everywhere
            return found
        for begin in range(0, live.size, _BLOCK):
            part = live[begin : begin + _BLOCK]
            found[part] = np.minimum(self._bound(boxes[part], enough), self.everywhere)
        return found

    def _bound(self, boxes: Array, enough: float) -> Array:
        boxes = self._moved(boxes)
        centre, half = boxes[:, 0], boxes[:, 1]
        rho = np.sqrt(np.sum(half**2, axis=1)) * (1 + 1e-13)
        try:
            eta, first, second, lost = self.tensors(centre)
        except Undefined:
            return np.full(rho.size, np.inf)
        n2, n3 = self.on_boxes(boxes)
        error = lost[0] + rho * (lost[1] + rho * lost[2] / 2)
        n2 = n2 + lost[2]
        jet = Jet(eta, first, second, None, np.minimum(n2, _HUGE), n3)
        none = np.zeros(rho.size)
        by_slope = np.sqrt(np.sum(eta**2, axis=1)) * (1 + 1e-14) + lost[0] + self.steepest(boxes) * rho
        with np.errstate(over="ignore", invalid="ignore"):
            bound = self.region.bound(boxes, jet, error, (none, none), enough)
        # Taylor's bound is one only where N₂ was not cut
        return np.fmin(np.where(n2 <= _HUGE, bound, np.inf), by_slope) * (1 + 1e-14)

    def _moved(self, boxes: Array) -> Array:
        """Boxes whose centres have |w| ≥ 1e-6 and that hold the given ones."""
        short = np.sqrt(np.sum(boxes[:, 0, : self.d] ** 2, axis=1)) < _NEAR
        if not short.any():
            return boxes
        boxes = boxes.copy()
        boxes[short, 0, 0] += 2 * _NEAR
        boxes[short, 1, 0] += 2 * _NEAR * (1 + 1e-9)
        return boxes

    def steepest(self, boxes: Array) -> Array:
        """Bounds of ‖Dη‖ on boxes: ‖q‖ sup|σ′|, for relu² ‖q‖·2√(E z²⟨v, x̃⟩²) ≤ 2√3‖q‖|θ|."""
        s, b = self.reach(boxes)
        slope = self.moduli.slope + 2 * math.sqrt(3) * self.moduli.square * np.hypot(s, b)
        return self.size * (slope + self.moduli.mean(1, s, b)) * (1 + 1e-12)

    def reach(self, boxes: Array) -> tuple[Array, Array]:
        """max |w| and max |b| on boxes, rounded up."""
        top = (np.abs(boxes[:, 0]) + boxes[:, 1]) * (1 + 1e-14)
        s = np.sqrt(np.sum(top[:, : self.d] ** 2, axis=1)) * (1 + 1e-13)
        return s, top[:, -1] if self.bias else np.zeros(s.size)

    def on_boxes(self, boxes: Array) -> tuple[Array, Array]:
        """(N₂, N₃) on boxes; ∞ where w may vanish at a kink."""
        size, low = self.moduli, np.maximum(np.abs(boxes[:, 0]) - boxes[:, 1], 0.0)
        reach = self.reach(boxes)
        n2 = self.size * (math.sqrt(3) * size.second + size.mean(2, *reach))
        n3 = self.size * (math.sqrt(15) * size.third + size.mean(3, *reach))
        k = np.arange(self.sizes.size)
        twice = float(self.sizes @ np.sqrt((k + 1.0) * (k + 2))) * 4
        thrice = float(self.sizes @ np.sqrt((k + 1.0) * (k + 2) * (k + 3))) * 8
        again = float(self.sizes @ np.sqrt((k + 1.0) * (k + 2) * (k + 3) * (k + 4))) * 8
        length = np.sqrt(np.sum(low[:, : self.d] ** 2, axis=1)) * (1 - 1e-13)
        bias = low[:, -1] if self.bias else np.zeros(low.shape[0])
        with np.errstate(divide="ignore"):
            by_length, by_bias = 1 / length, 1 / bias
        for jumps, kinked in ((size.kinks, True), (size.bends, False)):
            for c, s, t in jumps:
                # δ(s z + t): the neuron (s w, s b + t); only without a shift |b| is known to be large
                once = by_length if t else np.minimum(by_length, 0.8578 * by_bias)
                squared = by_length**2 if t else np.minimum(by_length**2, 1.4716 * by_bias**2)
                if kinked:
                    n2 = n2 + c * s * 0.4335 * once * twice
                    n3 = n3 + c * s * 0.4335 * squared * again
                else:
                    n3 = n3 + c * s**2 * 0.4335 * once * thrice
        return n2 * (1 + 1e-11), n3 * (1 + 1e-11)

    def tensors(self, centre: Array) -> tuple[Array, Array, Array, tuple[Array, Array, Array]]:
        """η (n, m), Dη (n, m, D), D²η (n, m, D, D) at points with |w| > 0, and what each may be off (n,)."""
        d, dim, n = self.d, self.region.dim, centre.shape[0]
        degrees, j, m = self.weights.shape
        w, b = centre[:, :d], centre[:, d] if self.bias else np.zeros(n)
        s = np.sqrt(np.sum(w**2, axis=1))
        unit = w / s[:, None]
        full, lost = neuron_coefficients(self.activation, s, b, degrees + 3)
        reach = s + np.abs(b)
        slope = self.moduli.slope + 4 * self.moduli.square * reach + self.moduli.mean(1, s * (1 + 1e-9), np.abs(b))
        lost = lost + slope * (dim + 4) * 2 * UNIT * s
        cos = np.clip(unit @ self.directions.T, -1.0, 1.0)
        power = np.ones((degrees, n, j))
        np.multiply.accumulate(np.broadcast_to(cos, (degrees - 1, n, j)), axis=0, out=power[1:])
        h = np.einsum("knj,kjm->nkm", power, self.weights, optimize=True)
        k = np.arange(degrees, dtype=np.float64)
        c0, c1, c2, c3, c4 = (full[:, i : i + degrees] for i in range(5))
        r1 = np.sqrt(k + 1)
        r2, r3 = r1 * np.sqrt(k + 2), r1 * np.sqrt((k + 2) * (k + 3))
        r4 = r3 * np.sqrt(k + 4)

        def summed(factor: Array) -> Array:
            return np.einsum("nk,nkm->nm", factor, h)

        def spread(factor: Array, order: int) -> Array:
            """Σ_k factor·k⋯(k − order + 1)·cos^{k − order}·g_jk, (n, m, J)."""
            falling = k if order == 1 else k * (k - 1)
            lowered = (factor * falling).T[order:, :, None] * power[: degrees - order]
            return np.einsum("knj,kjm->nmj", lowered, self.weights[order:], optimize=True)

        over = 1 / s[:, None]
        eta = summed(c0)
        first = np.zeros((n, m, dim))
        first[:, :, :d] = summed(r2 * c2 * over)[:, :, None] * unit[:, None, :] + spread(c0 * over, 1) @ self.directions
        bump, outer = summed(r2 * c2 * over**2), summed(r4 * c4 * over**2)
        second = np.zeros((n, m, dim, dim))
        side = np.einsum("nmd,ne->nmde", spread(r2 * c2 * over**2, 1) @ self.directions, unit)
        second[:, :, :d, :d] = bump[:, :, None, None] * np.eye(d)
        second[:, :, :d, :d] += outer[:, :, None, None] * np.einsum("nd,ne->nde", unit, unit)[:, None]
        second[:, :, :d, :d] += side + side.transpose(0, 1, 3, 2)
        twice = spread(c0 * over**2, 2)
        second[:, :, :d, :d] += np.einsum("nmj,jd,je->nmde", twice, self.directions, self.directions, optimize=True)
        if self.bias:
            first[:, :, d] = summed(r1 * c1 * over)
            edge = summed(r3 * c3 * over**2)[:, :, None] * unit[:, None, :]
            edge = edge + spread(r1 * c1 * over**2, 1) @ self.directions
            second[:, :, :d, d] = second[:, :, d, :d] = edge
            second[:, :, d, d] = bump
        ulps = 2 * (2 * (dim + 6) * (degrees + 6) + j + degrees + 64) * UNIT
        each = lost + (_FLOAT.norms(full) + lost) * ulps
        mass = np.sum(np.sqrt(np.sum(self.weights**2, axis=2)), axis=1)
        errors = tuple(
            parts * s**-p * each * float(np.sqrt(np.sum(((k + 4) ** p * mass) ** 2))) * (1 + 1e-9) + 1e-100
            for p, parts in ((0, 1.0), (1, 3.0), (2, 16.0))
        )
        if not all(np.isfinite(x).all() for x in (eta, first, second, *errors)):
            raise Refused("η overflows")
        return eta, first, second, (errors[0], errors[1], errors[2])
