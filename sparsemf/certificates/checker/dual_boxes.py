"""‖η‖ on boxes, for a smooth σ: η(θ) = (1/n) Σ_i q_i σ(⟨x_i, θ⟩) ∈ R^m, from the leaves of a proof tree.

On a box with centre c, half-lengths h and ρ = |h|, a scalar function g with gradient p and Hessian H at c,
|D³g(c)[v, v, v]| ≤ t₃ and |D⁴g[v, v, v, v]| ≤ t₄ on the box (|v| = 1) obeys, for |δ_i| ≤ h_i,

    g(c + δ) ≤ g(c) + Σ_i (p_i δ_i + ½κ δ_i²),   κ ≥ λ_max(H) + ρt₃/3 + ρ²t₄/12,

and the sum is maximised coordinate by coordinate.  One output: g = ±η.  Several: g = ‖η‖², whose derivatives are
those of ⟨η, η⟩, t₄ = 6N₂² + 8N₁N₃ + 2N₀N₄ with N_k ≥ ‖D^kη‖ on the box.

*Constraints.*  Where |w| ≤ R and |b| ≤ R_b, g may be enlarged by ½μ(R² − |w|²) or by μ(R_b ∓ b), μ ≥ 0: the
multiplier that takes an outward slope away makes a maximum on the rim look like one inside.

*Knots.*  Where σ has two pieces (:mod:`knots`), η̃ takes of every row the continuation of the piece on which the row is
at c; ‖η − η̃‖ ≤ Σ_i (‖q_i‖/n)(K t_i + ½J t_i²) on the box, t_i how far ⟨x_i, θ⟩ gets over the knot there; with one
output, and where σ is nowhere below the continuation, K counts for q_i of one sign only.

*Sphere.*  σ of degree 2: the unit ball of θ, without the boxes that lie inside the sphere; sup ‖η‖ on it is that on the
sphere.

*Rounding.*  The computed derivatives of η at c are those of a function η̃ with ‖η − η̃‖ ≤ e₀ + e₁ρ + e₂ρ²/2 +
e₃ρ³/6 on the box, and the bound of ‖η̃‖ is increased by that.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from itertools import combinations_with_replacement, product

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.derivatives import EVALUATION, Profile
from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.knots import KNOTS

Array = NDArray[np.float64]

UNIT = 2.0**-53
_ENTRIES = 400_000
_FAINT = 1e-100
"""More than what underflow takes away."""


def largest_eigenvalue(form: Array) -> Array:
    """Upper bounds of λ_max of each symmetric (k, D, D), whatever LAPACK returned.

    V from LAPACK, W = VᵀHV, ‖VᵀV − I‖_F ≤ ε: with x = Vy, xᵀHx = yᵀWy ≤ μ|y|², μ from Gershgorin's discs, and
    (1 − ε)|y|² ≤ |x|² ≤ (1 + ε)|y|².
    """
    dim = form.shape[1]
    if not form.shape[0]:
        return np.zeros(0)
    form = 0.5 * (form + form.transpose(0, 2, 1))
    size = _frobenius(form)
    v = np.linalg.eigh(form)[1]
    turned = v.transpose(0, 2, 1)
    w = turned @ form @ v
    middle = np.einsum("kaa->ka", w)
    discs = middle + np.sum(np.abs(w), axis=2) - np.abs(middle)
    top = np.max(discs, axis=1) + 16 * dim**2 * UNIT * size
    gram = turned @ v - np.eye(dim)
    defect = _frobenius(gram) + 16 * dim**2 * UNIT
    sound = np.isfinite(top) & (defect < 0.01)
    defect = np.where(sound, defect, 0.0)
    found = np.where(top >= 0, top / (1 - defect), top / (1 + defect))
    return np.where(sound, np.minimum(found, size * (1 + 1e-13)), size * (1 + 1e-13))


@dataclass(frozen=True, eq=False)
class BoxDual:
    """η of ``weights`` q (n, m) on ``rows`` x (n, D); |w| ≤ ``radius`` in the first ``d`` coordinates, and |b| ≤
    ``bias_radius`` in the last where D = d + 1.  ``half`` (D,): half-lengths of the root box."""

    sigma: Profile
    rows: Array
    weights: Array
    d: int
    radius: float
    bias_radius: float
    half: Array
    shell: bool = False
    """Only boxes that meet |θ| = ``radius`` count."""

    @property
    def dim(self) -> int:
        """D."""
        return self.rows.shape[1]

    @cached_property
    def length(self) -> Array:
        """|x_i| and then |q_i|/n, rounded up, (2, n)."""
        x = np.sqrt(np.sum(self.rows**2, axis=1)) * (1 + (self.dim + 4) * 2 * UNIT)
        q = np.sqrt(np.sum(self.weights**2, axis=1)) * (1 + (self.weights.shape[1] + 4) * 2 * UNIT)
        return np.stack([x, q / self.rows.shape[0] * (1 + 4 * UNIT)])

    @cached_property
    def most(self) -> Array:
        """N₂, N₃, N₄ ≥ sup ‖D^kη‖ over R^D: sup|σ^{(k)}| λ_max(Σ_i |q_i||x_i|^{k−2} x_i x_iᵀ)/n."""
        x, q = self.length
        if not (np.isfinite(x).all() and float(q @ (1 + x) ** 4) < 1e100):
            raise Refused("the data are too large for float64")
        bounds = []
        for k in (2, 3, 4):
            scaled = self.rows * (q * x ** (k - 2))[:, None]
            form = scaled.T @ self.rows
            slack = (self.rows.shape[0] + 16) * 2 * UNIT * float(q @ x**k)
            bounds.append(self.sigma.sup[k] * (float(largest_eigenvalue(form[None])[0]) + slack))
        return np.array(bounds) * (1 + 1e-13)

    @cached_property
    def errors(self) -> Array:
        """e₀ … e₃: what D^kη at a centre may be off, ‖·‖ over outputs and Frobenius over coordinates, (4,).

        z errs by (D + 8) units of |x||θ| (σ's constants included), which σ^{(k + 1)} passes on; σ^{(k)} by
        EVALUATION·(1 + |z|) (relu² relatively); the sum by γ_{n + 64} of its terms.
        """
        x, q = self.length
        sigma, n = self.sigma, self.rows.shape[0]
        z = x * float(np.sqrt(np.sum(self.half**2)))
        far = z + sigma.farthest
        moved = (self.dim + 8) * 2 * UNIT * far
        out = []
        for k in range(4):
            # a knot may lie between: there a continuation is steeper than σ by at most its second derivative's part
            each = sigma.size(k + 1, 1.01 * far) * moved + (sigma.sup[2] * moved**2 if k == 0 else 0.0)
            each = each + EVALUATION * sigma.amplitude[k] * (1 + sigma.steepest * far)
            each = each + (n + 64) * 2 * UNIT * sigma.size(k, far)
            out.append(float(np.sum(q * x**k * each)) * np.sqrt(self.weights.shape[1]))
        return np.array(out) * (1 + 1e-9) + _FAINT

    @cached_property
    def monomials(self) -> list[tuple[Array, NDArray[np.intp]]]:
        """For k = 1, 2, 3: the distinct products of k coordinates of each row, (n, ·), and where each entry of
        x^{⊗k} stands among them."""
        out = []
        for k in (1, 2, 3):
            tuples = list(combinations_with_replacement(range(self.dim), k))
            place = {t: i for i, t in enumerate(tuples)}
            columns = [np.prod(self.rows[:, list(t)], axis=1) for t in tuples]
            index = [place[tuple(sorted(t))] for t in product(range(self.dim), repeat=k)]
            out.append((np.stack(columns, axis=1), np.array(index)))
        return out

    def crossing(self, centre: Array, half: Array) -> tuple[Array, Array]:
        """Bounds of η − η̃ and of η̃ − η over the boxes for one output, of ‖η − η̃‖ for several, (k,) each."""
        up, down = np.zeros(centre.shape[0]), np.zeros(centre.shape[0])
        if not self.sigma.knots:
            return up, down
        x, q = self.length
        signed = self.weights[:, 0] / self.rows.shape[0] * (1 + 4 * UNIT) if self.weights.shape[1] == 1 else None
        z, reach = centre @ self.rows.T, half @ np.abs(self.rows).T
        for core, c, s, t in self.sigma.knots:
            knot = KNOTS[core]
            lost = (self.dim + 8) * 4 * UNIT * (s * x * float(np.sqrt(np.sum(self.half**2))) + abs(t)) + _FAINT
            over = np.maximum((s * reach - np.abs(s * z + t)) * (1 + 1e-14) + lost, 0.0)
            sides = (q, q)
            if signed is not None and knot.rises:
                sides = (np.maximum(c * signed, 0.0) / abs(c), np.maximum(-c * signed, 0.0) / abs(c))
            bent = 0.5 * knot.bend * abs(c) * (over**2 @ q)
            up += knot.kink * abs(c) * (over @ sides[0]) + bent
            down += knot.kink * abs(c) * (over @ sides[1]) + bent
        slack = 1 + (self.rows.shape[0] + 32) * 2 * UNIT
        return up * slack, down * slack

    def tensors(self, centre: Array, orders: int) -> list[Array]:
        """η, Dη, D²η, (D³η) at points (k, D): (k, m), (k, m, D), (k, m, D, D), (k, m, D, D²)."""
        n, m = self.weights.shape
        values = self.sigma.at(centre @ self.rows.T, orders)
        out = [values[0] @ self.weights / n]
        for k, (columns, index) in enumerate(self.monomials[: orders - 1], start=1):
            parts = [(values[k] @ (self.weights[:, o, None] * columns) / n)[:, index] for o in range(m)]
            shape = {1: (self.dim,), 2: (self.dim, self.dim), 3: (self.dim, self.dim**2)}[k]
            out.append(np.stack(parts, axis=1).reshape(centre.shape[0], m, *shape))
        return out

    def bounds(self, boxes: Array, enough: float) -> Array:
        """Upper bounds of ‖η‖ on the part of Θ in each box (k, 2, D); 0 for a box outside Θ.

        Third derivatives are looked at only where the bound would otherwise exceed ``enough``.
        """
        found = np.zeros(boxes.shape[0])
        block = max(1, _ENTRIES // self.rows.shape[0])
        live = np.flatnonzero(self._meets(boxes))
        for orders in (3, 4):
            for begin in range(0, live.size, block):
                part = live[begin : begin + block]
                found[part] = self._bound(boxes[part, 0], boxes[part, 1], orders, enough)
            live = live[~(found[live] <= enough)]
        return found

    def _meets(self, boxes: Array) -> NDArray[np.bool_]:
        """Whether a box may meet Θ."""
        gap = np.maximum(np.abs(boxes[:, 0]) - boxes[:, 1], 0.0)
        inside = np.sqrt(np.sum(gap[:, : self.d] ** 2, axis=1)) <= self.radius * (1 + 1e-12)
        if self.shell:
            reach = np.abs(boxes[:, 0]) + boxes[:, 1]
            inside &= np.sqrt(np.sum(reach**2, axis=1)) >= self.radius * (1 - 1e-12)
        return inside & (gap[:, -1] <= self.bias_radius * (1 + 1e-12)) if self.dim > self.d else inside

    def _bound(self, centre: Array, half: Array, orders: int, enough: float) -> Array:
        rho = np.sqrt(np.sum(half**2, axis=1)) * (1 + 1e-13)
        eta, first, second, *third = self.tensors(centre, orders)
        e0, e1, e2, e3 = self.errors
        most2, most3, most4 = self.most
        error = e0 + rho * (e1 + rho * (e2 / 2 + rho * e3 / 6)) + _FAINT
        crossed = self.crossing(centre, half)
        n2, n3 = most2 + e2 + e3 * rho, np.full(rho.shape, most3 + e3)
        if eta.shape[1] == 1:
            t3, t4 = (_operator(third[0][:, 0]), most4 + 0 * rho) if third else (n3, 0 * rho)
            sides = [
                self._top(
                    _Local(s * eta[:, 0], s * first[:, 0], s * second[:, 0], n2, t3, t4, centre, half, rho),
                    enough - over,
                )
                + over
                for s, over in zip((1.0, -1.0), crossed, strict=True)
            ]
            return np.maximum(np.maximum(sides[0], sides[1]), 0.0) + error
        size, steep, bend = (_frobenius(t) for t in (eta, first, second))
        if third:
            n3 = np.minimum(n3, _frobenius(third[0]) + most4 * rho)
        n2 = np.minimum(n2, bend + n3 * rho)
        n1 = steep + n2 * rho
        n0 = size + n1 * rho
        slope = 2 * np.einsum("km,kma->ka", eta, first)
        form = 2 * (np.einsum("kma,kmb->kab", first, first) + np.einsum("km,kmab->kab", eta, second))
        t3, t4 = 6 * n1 * n2 + 2 * n0 * n3, 0 * rho
        if third:
            flat = second.reshape(*second.shape[:2], -1)
            tensor = 6 * np.einsum("kma,kmb->kab", first, flat) + 2 * np.einsum("km,kmab->kab", eta, third[0])
            t3, t4 = _operator(tensor), 6 * n2**2 + 8 * n1 * n3 + 2 * n0 * most4
        local = _Local(np.sum(eta**2, axis=1), slope, form, 2 * (n1**2 + n0 * n2), t3, t4, centre, half, rho)
        square = np.maximum(self._top(local, np.maximum(enough - crossed[0], 0.0) ** 2), 0.0)
        # the products above round by some (m + D + 8) units of n₀² and its parts
        square += 1e-11 * (1 + eta.shape[1] / 16) * n0**2
        return np.sqrt(square) * (1 + 1e-14) + error + crossed[0]

    def _top(self, g: _Local, enough: Array) -> Array:
        """The smallest bound of g; less care where it is at most ``enough`` (k,): free, then with multipliers for the
        constraints that the box reaches."""
        found = _separable(g.value, g.slope, g.half, g.most2, g.rho, g.most2)
        rows = np.flatnonzero(~(found <= enough))
        g, enough = g.take(rows), enough[rows]
        size = _frobenius(g.form)
        cubic = (g.rho * g.t3 / 3 + g.rho**2 * g.t4 / 12) * (1 + 1e-13)
        kappa = np.minimum(largest_eigenvalue(g.form) + cubic, g.most2)
        best = np.minimum(found[rows], _separable(g.value, g.slope, g.half, kappa, g.rho, size))
        w, index = g.centre[:, : self.d], np.arange(self.d)
        square = np.sum(w**2, axis=1)
        mu = np.maximum(np.sum(g.slope[:, : self.d] * w, axis=1), 0.0) / np.where(square > 0, square, 1.0)
        # what R² − |w|² and p − μw lose
        slack = 8 * (self.d + 4) * UNIT * mu * (self.radius**2 + square + g.rho**2)
        on_rim = np.sum((np.abs(w) + g.half[:, : self.d]) ** 2, axis=1) >= self.radius**2
        inward = g.slope.copy()
        inward[:, : self.d] -= mu[:, None] * w
        turned = g.form.copy()
        turned[:, index, index] -= mu[:, None]
        value = g.value + 0.5 * mu * (self.radius**2 - square) + slack
        where = np.flatnonzero(on_rim & ~(best <= enough))
        bent, size = kappa.copy(), size + self.d * mu
        bent[where] = np.minimum(largest_eigenvalue(turned[where]) + cubic[where], g.most2[where])
        for rim in (False, True):
            v, p, k = (value, inward, bent) if rim else (g.value, g.slope, kappa)
            if rim:
                bound = _separable(v[where], p[where], g.half[where], k[where], g.rho[where], size[where])
                best[where] = np.minimum(best[where], bound)
            if self.dim > self.d:
                sign = np.where(g.centre[:, -1] < 0, -1.0, 1.0)
                nu = np.maximum(sign * p[:, -1], 0.0)
                gap = self.bias_radius - np.abs(g.centre[:, -1])
                at = np.flatnonzero((gap <= g.half[:, -1]) & ~(best <= enough) & (on_rim | (not rim)))
                held = p[at].copy()
                held[:, -1] = np.where(nu[at] > 0, 0.0, p[at, -1])  # p − sν, exactly
                lifted = v[at] + nu[at] * gap[at] + 8 * UNIT * nu[at] * (2 * self.bias_radius + np.abs(gap[at]))
                best[at] = np.minimum(best[at], _separable(lifted, held, g.half[at], k[at], g.rho[at], size[at]))
        found[rows] = best
        return found


@dataclass(frozen=True, eq=False)
class _Local:
    """A scalar function around the centres of boxes: its value, gradient and Hessian there, bounds of its second
    derivative on the box, of its third at the centre (or on the box) and of its fourth on the box; the boxes."""

    value: Array
    slope: Array
    form: Array
    most2: Array
    t3: Array
    t4: Array
    centre: Array
    half: Array
    rho: Array

    def take(self, rows: NDArray[np.intp]) -> _Local:
        """Some of the boxes."""
        return _Local(*(getattr(self, f.name)[rows] for f in fields(self)))


def _frobenius(tensors: Array) -> Array:
    """‖·‖ of the entries of each, rounded up."""
    flat = tensors.reshape(tensors.shape[0], int(np.prod(tensors.shape[1:])))
    return np.sqrt(np.sum(flat**2, axis=1)) * (1 + (flat.shape[1] + 4) * 2 * UNIT)


def _operator(tensor: Array) -> Array:
    """Upper bounds of the spectral norm of each (k, D, D²), which bounds its trilinear form."""
    gram = tensor @ tensor.transpose(0, 2, 1)
    slack = 4 * (tensor.shape[1] ** 2 + 8) * UNIT * np.sum(tensor**2, axis=(1, 2))
    return np.sqrt(np.maximum(largest_eigenvalue(gram), 0.0) + slack) * (1 + 1e-13)


def _separable(value: Array, slope: Array, half: Array, kappa: Array, rho: Array, size: Array) -> Array:
    """max over |δ_i| ≤ h_i of value + Σ(p_i δ_i + ½κδ_i²), rounded up; ``size`` ≥ ‖H‖ enters the rounding."""
    steep = np.abs(slope)
    bent = kappa[:, None]
    inside = (bent < 0) & (steep < -bent * half)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        gain = np.where(inside, 0.5 * steep**2 / np.where(inside, -bent, 1.0), (steep + 0.5 * bent * half) * half)
    total = np.sum(gain, axis=1)
    scale = np.abs(value) + np.sum(steep * half, axis=1) + (np.abs(kappa) + size) * rho**2
    return value + total + 64 * (half.shape[1] + 4) * UNIT * scale
