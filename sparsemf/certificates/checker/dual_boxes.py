"""‖η‖ on boxes, for a smooth σ: η(θ) = (1/n) Σ_i q_i σ(⟨x_i, θ⟩) ∈ R^m, from the leaves of a proof tree, by
:mod:`taylor`.

*Knots.*  Where σ has two pieces (:mod:`knots`), η̃ takes of every row the continuation of the piece on which the
row is at c; ‖η − η̃‖ ≤ Σ_i (‖q_i‖/n)(K t_i + ½J t_i²) on the box, t_i how far ⟨x_i, θ⟩ gets over the knot there;
with one output, and where σ is nowhere below the continuation, K counts for q_i of one sign only.

*Sphere.*  σ of degree k ≥ 2, with the bias among the coordinates of w.  Where σ is z², η is a quadratic form, and
‖½D²η‖ (:func:`.form_norm`) bounds it on all of the sphere.

*Growing σ* (exp, powers): the suprema of σ^{(k)} are taken for each row on what the box lets ⟨x_i, θ⟩ be, and errors at
each centre on its own; N_k = λ_max(Σ_i |q_i| sup|σ^{(k)}| |x_i|^{k−2} x_i x_iᵀ)/n then belongs to the box.

*Rounding.*  The computed derivatives of η at c are those of a function η̃ with ‖η − η̃‖ ≤ e₀ + e₁ρ + e₂ρ²/2 +
e₃ρ³/6 on the box, and the bound of ‖η̃‖ is increased by that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement, product

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.derivatives import EVALUATION, Profile
from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.knots import KNOTS
from sparsemf.certificates.checker.taylor import UNIT, Jet, Region, form_norm, largest_eigenvalue

Array = NDArray[np.float64]

_ENTRIES = 400_000
_FAINT = 1e-100
"""More than what underflow takes away."""
_FAR = 300.0
"""Growing σ: |z| beyond this is refused; e^300 squared is a float."""


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

    @cached_property
    def region(self) -> Region:
        """Θ."""
        return Region(self.dim, self.d, self.radius, self.bias_radius, self.shell)

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

    def most_on(self, centre: Array, half: Array) -> tuple[Array, Array, Array]:
        """N₂, N₃, N₄ on boxes, (k,) each: ``most``, and what grows."""
        out = [np.full(centre.shape[0], bound) for bound in self.most]
        if not self.sigma.growing:
            return out[0], out[1], out[2]
        x, q = self.length
        columns, index = self.monomials[1]
        z, reach = centre @ self.rows.T, (half @ np.abs(self.rows).T) * (1 + 1e-12)
        reach = reach + (self.dim + 8) * 4 * UNIT * x * float(np.sqrt(np.sum(self.half**2))) + _FAINT
        for k in (2, 3, 4):
            weight = self.sigma.grown(k, z - reach, z + reach) * (q * x ** (k - 2))
            form = (weight @ columns)[:, index].reshape(-1, self.dim, self.dim)
            slack = (self.rows.shape[0] + 16) * 2 * UNIT * (weight @ x**2)
            out[k - 2] = out[k - 2] + (largest_eigenvalue(form) + slack) * (1 + 1e-12)
        return out[0], out[1], out[2]

    def errors_at(self, centre: Array) -> tuple[Array, Array, Array, Array]:
        """``errors``, (k,) each; of growing σ at each centre, where exp and powers err by 96 units of their own size
        besides."""
        if not self.sigma.growing:
            e0, e1, e2, e3 = (np.full(centre.shape[0], e) for e in self.errors)
            return e0, e1, e2, e3
        (x, q), sigma = self.length, self.sigma
        if float(np.max(x)) * float(np.sqrt(np.sum(self.half**2))) > _FAR:
            raise Refused("the pre-activations are too large for float64")
        z, far = centre @ self.rows.T, np.sqrt(np.sum(centre**2, axis=1))[:, None] * x
        moved = (self.dim + 8) * 2 * UNIT * far + _FAINT
        low, high, out = z - moved, z + moved, []
        for k in range(4):
            each = sigma.within(k + 1, low, high) * moved
            each = each + EVALUATION * sigma.amplitude[k] * (1 + sigma.steepest * far)
            each = each + (self.rows.shape[0] + 64) * 2 * UNIT * sigma.within(k, low, high)
            each = each + 96 * 2 * UNIT * sigma.grown(k, low, high)
            out.append((each @ (q * x**k)) * (np.sqrt(self.weights.shape[1]) * (1 + 1e-9)) + _FAINT)
        return out[0], out[1], out[2], out[3]

    @cached_property
    def everywhere(self) -> float:
        """sup ‖η‖ over the unit sphere where η is a quadratic form, else ∞."""
        if not (self.shell and self.sigma.degree == 2):
            return np.inf
        origin = np.zeros((1, self.dim))
        second = 0.5 * self.tensors(origin, 3)[2][0]
        flat = second.transpose(1, 0, 2).reshape(self.dim, -1)
        return form_norm(flat, float(self.errors_at(origin)[2][0])) * (1 + 1e-14)

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
        live = np.flatnonzero(self.region.meets(boxes))
        if self.everywhere <= enough:
            found[live] = self.everywhere
            return found
        for orders in (3, 4):
            for begin in range(0, live.size, block):
                part = live[begin : begin + block]
                found[part] = self._bound(boxes[part], orders, enough)
            live = live[~(found[live] <= enough)]
        return np.minimum(found, self.everywhere)

    def _bound(self, boxes: Array, orders: int, enough: float) -> Array:
        centre, half = boxes[:, 0], boxes[:, 1]
        rho = np.sqrt(np.sum(half**2, axis=1)) * (1 + 1e-13)
        eta, first, second, *third = self.tensors(centre, orders)
        e0, e1, e2, e3 = self.errors_at(centre)
        most2, most3, most4 = self.most_on(centre, half)
        error = e0 + rho * (e1 + rho * (e2 / 2 + rho * e3 / 6)) + _FAINT
        n2, n3 = most2 + e2 + e3 * rho, most3 + e3
        jet = Jet(eta, first, second, third[0] if third else None, n2, n3, most4)
        return self.region.bound(boxes, jet, error, self.crossing(centre, half), enough)
