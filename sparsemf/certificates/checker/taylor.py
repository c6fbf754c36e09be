"""Bounds of ‖η‖ ∈ R^m on boxes of a parameter set from its derivatives at their centres, for any source of them.

On a box with centre c, half-lengths h and ρ = |h|, a scalar function g with gradient p and Hessian H at c,
|D³g(c)[v, v, v]| ≤ t₃ and |D⁴g[v, v, v, v]| ≤ t₄ on the box (|v| = 1) obeys, for |δ_i| ≤ h_i,

    g(c + δ) ≤ g(c) + Σ_i (p_i δ_i + ½κ δ_i²),   κ ≥ λ_max(H) + ρt₃/3 + ρ²t₄/12,

and the sum is maximised coordinate by coordinate.  One output: g = ±η.  Several: g = ‖η‖², whose derivatives are
those of ⟨η, η⟩, t₄ = 6N₂² + 8N₁N₃ + 2N₀N₄ with N_k ≥ ‖D^kη‖ on the box.

*Constraints.*  Where |w| ≤ R and |b| ≤ R_b, g may be enlarged by ½μ(R² − |w|²) or by μ(R_b ∓ b), μ ≥ 0: the
multiplier that takes an outward slope away makes a maximum on the rim look like one inside.

*Sphere.*  σ homogeneous: the unit ball of θ, without the boxes that lie inside the sphere; sup ‖η‖ on it is that on
the sphere.

*Errors.*  The derivatives are those of a function η̃ with ‖η − η̃‖ ≤ ``error`` on the box, by which the bound is
increased.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UNIT = 2.0**-53


def largest_eigenvalue(form: Array) -> Array:
    """Upper bounds of λ_max of each symmetric (k, D, D), whatever LAPACK returned.

    V from LAPACK, W = VᵀHV, ‖VᵀV − I‖_F ≤ ε: with x = Vy, xᵀHx = yᵀWy ≤ μ|y|², μ from Gershgorin's discs, and
    (1 − ε)|y|² ≤ |x|² ≤ (1 + ε)|y|².
    """
    dim = form.shape[1]
    if not form.shape[0]:
        return np.zeros(0)
    form = 0.5 * (form + form.transpose(0, 2, 1))
    size = frobenius(form)
    v = np.linalg.eigh(form)[1]
    turned = v.transpose(0, 2, 1)
    w = turned @ form @ v
    middle = np.einsum("kaa->ka", w)
    discs = middle + np.sum(np.abs(w), axis=2) - np.abs(middle)
    top = np.max(discs, axis=1) + 16 * dim**2 * UNIT * size
    gram = turned @ v - np.eye(dim)
    defect = frobenius(gram) + 16 * dim**2 * UNIT
    sound = np.isfinite(top) & (defect < 0.01)
    defect = np.where(sound, defect, 0.0)
    found = np.where(top >= 0, top / (1 - defect), top / (1 + defect))
    return np.where(sound, np.minimum(found, size * (1 + 1e-13)), size * (1 + 1e-13))


@dataclass(frozen=True, eq=False)
class Jet:
    """At the centres of k boxes: η (k, m), Dη (k, m, D), D²η (k, m, D, D), and D³η (k, m, D, D²) or None; ``n2``,
    ``n3`` (k,) bound ‖D²η‖, ‖D³η‖ on the boxes, ``most4`` ‖D⁴η‖ where there is a D³η."""

    eta: Array
    first: Array
    second: Array
    third: Array | None
    n2: Array
    n3: Array
    most4: float | Array = 0.0


@dataclass(frozen=True, eq=False)
class Region:
    """|w| ≤ ``radius`` in the first ``d`` of ``dim`` coordinates, and |b| ≤ ``bias_radius`` in the last where
    dim = d + 1.  ``shell``: only boxes that meet |w| = ``radius`` count."""

    dim: int
    d: int
    radius: float
    bias_radius: float
    shell: bool

    def meets(self, boxes: Array) -> NDArray[np.bool_]:
        """Whether a box may meet Θ."""
        gap = np.maximum(np.abs(boxes[:, 0]) - boxes[:, 1], 0.0)
        inside = np.sqrt(np.sum(gap[:, : self.d] ** 2, axis=1)) <= self.radius * (1 + 1e-12)
        if self.shell:
            reach = np.abs(boxes[:, 0]) + boxes[:, 1]
            inside &= np.sqrt(np.sum(reach**2, axis=1)) >= self.radius * (1 - 1e-12)
        return inside & (gap[:, -1] <= self.bias_radius * (1 + 1e-12)) if self.dim > self.d else inside

    def bound(self, boxes: Array, jet: Jet, error: Array, sides: tuple[Array, Array], enough: float) -> Array:
        """Upper bounds of ‖η‖ on boxes (k, 2, D); ``sides``: more errors, of +η and −η for one output."""
        centre, half = boxes[:, 0], boxes[:, 1]
        rho = np.sqrt(np.sum(half**2, axis=1)) * (1 + 1e-13)
        eta, first, second, third = jet.eta, jet.first, jet.second, jet.third
        n2, n3, most4 = jet.n2, jet.n3, jet.most4
        if eta.shape[1] == 1:
            t3, t4 = (n3, 0 * rho) if third is None else (_operator(third[:, 0]), most4 + 0 * rho)
            found = [
                self._top(
                    _Local(s * eta[:, 0], s * first[:, 0], s * second[:, 0], n2, t3, t4, centre, half, rho),
                    enough - over,
                )
                + over
                for s, over in zip((1.0, -1.0), sides, strict=True)
            ]
            return np.maximum(np.maximum(found[0], found[1]), 0.0) + error
        size, steep, bend = (frobenius(t) for t in (eta, first, second))
        if third is not None:
            n3 = np.minimum(n3, frobenius(third) + most4 * rho)
        n2 = np.minimum(n2, bend + n3 * rho)
        n1 = steep + n2 * rho
        n0 = size + n1 * rho
        slope = 2 * np.einsum("km,kma->ka", eta, first)
        form = 2 * (np.einsum("kma,kmb->kab", first, first) + np.einsum("km,kmab->kab", eta, second))
        t3, t4 = 6 * n1 * n2 + 2 * n0 * n3, 0 * rho
        if third is not None:
            flat = second.reshape(*second.shape[:2], -1)
            tensor = 6 * np.einsum("kma,kmb->kab", first, flat) + 2 * np.einsum("km,kmab->kab", eta, third)
            t3, t4 = _operator(tensor), 6 * n2**2 + 8 * n1 * n3 + 2 * n0 * most4
        local = _Local(np.sum(eta**2, axis=1), slope, form, 2 * (n1**2 + n0 * n2), t3, t4, centre, half, rho)
        square = np.maximum(self._top(local, np.maximum(enough - sides[0], 0.0) ** 2), 0.0)
        # the products above round by some (m + D + 8) units of n₀² and its parts
        square += 1e-11 * (1 + eta.shape[1] / 16) * n0**2
        return np.sqrt(square) * (1 + 1e-14) + error + sides[0]

    def _top(self, g: _Local, enough: Array) -> Array:
        """The smallest bound of g; less care where it is at most ``enough`` (k,): free, then with multipliers for the
        constraints that the box reaches."""
        found = _separable(g.value, g.slope, g.half, g.most2, g.rho, g.most2)
        rows = np.flatnonzero(~(found <= enough))
        g, enough = g.take(rows), enough[rows]
        size = frobenius(g.form)
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


def form_norm(flat: Array, lost: float) -> float:
    """Upper bound of sup ‖A[u^{⊗k}]‖ over |u| = 1 from a flattening ``flat`` (D, ·) of A that is off by ``lost``
    (Frobenius): its spectral norm.  For k = 1, and for k = 2 with one output, it is the supremum itself."""
    gram = flat @ flat.T
    slack = 4 * (flat.shape[1] + 8) * UNIT * float(np.sum(flat**2))
    return float(np.sqrt(max(float(largest_eigenvalue(gram[None])[0]), 0.0) + slack)) * (1 + 1e-13) + lost


def frobenius(tensors: Array) -> Array:
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
