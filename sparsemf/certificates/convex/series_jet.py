"""η_K of a population residual by its Hermite series, with exact derivatives of the finite sum (:mod:`.population`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.certificates.convex.growth import growth
from sparsemf.certificates.convex.observation import Jet
from sparsemf.certificates.convex.parameters import ParameterSet

Array = NDArray[np.float64]

_BLOCK = 512


@dataclass(frozen=True, eq=False)
class SeriesOracle:
    """r = Σ_j β_j ψ_j + A x + c through ``unit`` ŵ_j (J, d), and ``weights`` g_jk = c_k(j)β_j as (K + 1, J, m).

    Degrees 0 and 1 are 0 when the affine part is free.
    """

    activation: Activation
    space: ParameterSet
    unit: Array
    weights: Array
    affine: Array
    offset: Array
    free: bool
    size: float = np.inf
    """‖r‖ or more, where σ's derivatives grow and boxes are bounded by it."""

    @staticmethod
    def of(
        activation: Activation,
        space: ParameterSet,
        parts: list[tuple[Activation, Array, Array, Array]],
        affine: Array,
        offset: Array,
        free: bool,
        degree: int,
    ) -> SeriesOracle:
        """From (activation, w (J, d), b (J,), β (J, m)) parts."""
        units, weights = [], []
        for sigma, w, b, beta in parts:
            s = np.linalg.norm(w, axis=1)
            units.append(w / np.where(s > 0, s, 1.0)[:, None])
            c = sigma.hermite(s, b, degree)
            c[s == 0, 1:] = 0.0
            weights.append(c.T[:, :, None] * beta[None])
        g = np.concatenate(weights, axis=1)
        if free:
            g[:2] = 0.0
        return SeriesOracle(activation, space, np.concatenate(units), g, affine, offset, free)

    @cached_property
    def present(self) -> NDArray[np.intp]:
        """The degrees with a nonzero weight (odd σ without bias has no even ones)."""
        return np.flatnonzero(np.any(self.weights != 0, axis=(1, 2)))

    def energy(self) -> float:
        """‖r_K‖²."""
        cos = np.clip(self.unit @ self.unit.T, -1.0, 1.0)
        power = np.empty((self.weights.shape[0], *cos.shape))
        power[0] = 1.0
        np.multiply.accumulate(np.broadcast_to(cos, (power.shape[0] - 1, *cos.shape)), axis=0, out=power[1:])
        total = float(np.sum(self.weights * (power @ self.weights)))
        if not self.free:
            total += float(np.sum(self.affine**2) + np.sum(self.offset**2))
            total += 2 * float(np.sum(self.offset * self.weights[0].sum(axis=0)))
            total += 2 * float(np.sum(self.affine.T * (self.unit.T @ self.weights[1])))
        return total

    def second_on(self, low: Array, high: Array) -> Array:
        largest = np.maximum(np.abs(low), np.abs(high))
        return self._mean(2, np.linalg.norm(largest[:, : self.space.d], axis=1), self.space.biases(largest))

    def third_at(self, theta: Array) -> Array:
        return np.full(theta.shape[0], np.inf)

    def third_on(self, centre: Array, radius: Array) -> Array:
        length = np.linalg.norm(self.space.weights(centre), axis=1) + radius
        return self._mean(3, length, np.abs(self.space.biases(centre)) + radius * self.space.bias)

    def _mean(self, order: int, s: Array, b: Array) -> Array:
        """‖r‖·‖⟨v, x̃⟩^p σ^{(p)}‖ for |w| ≤ s, |b| ≤ b; ∞ unless σ grows."""
        grows = growth(self.activation)
        if grows is None or not np.isfinite(self.size):
            return np.full(s.shape, np.inf)
        return self.size * grows.mean(order, s * (1 + 1e-12), b) * (1 + 1e-12)

    def jet(self, theta: Array, order: int) -> Jet:
        parts = [self._jet(theta[i : i + _BLOCK], order) for i in range(0, theta.shape[0], _BLOCK)]
        if not parts:
            m, dim = self.weights.shape[2], self.space.dim
            return Jet(np.zeros((0, m)), np.zeros((0, m, dim)), None)
        hessians = [p.hessian for p in parts if p.hessian is not None]
        return Jet(
            np.concatenate([p.value for p in parts]),
            np.concatenate([p.jacobian for p in parts]),
            np.concatenate(hessians) if len(hessians) == len(parts) else None,
        )

    def _jet(self, theta: Array, order: int) -> Jet:
        n, d = theta.shape[0], self.space.d
        degree = self.weights.shape[0] - 1
        m = self.weights.shape[2]
        w, b = self.space.weights(theta), self.space.biases(theta)
        s = np.maximum(np.linalg.norm(w, axis=1), 1e-100)
        unit = w / s[:, None]
        c = self.activation.hermite(s, b, degree + 4)
        # derivatives of a_k·s^k: ∂_b, (1/s)∂_s·s, and repeated, in units where directions are unit vectors
        k = self.present
        up1 = np.sqrt(k + 1.0) * c[:, k + 1] / s[:, None]
        up2 = np.sqrt((k + 1.0) * (k + 2)) * c[:, k + 2] / s[:, None]
        cos = np.clip(unit @ self.unit.T, -1.0, 1.0)
        power = np.empty((degree + 1, *cos.shape))
        power[0] = 1.0
        np.multiply.accumulate(np.broadcast_to(cos, (degree, *cos.shape)), axis=0, out=power[1:])
        g = self.weights[k]
        p = power[k] @ g  # (degrees, n, m)

        def summed(factor: Array) -> Array:
            return np.einsum("nk,knm->nm", factor, p)

        def spread(factor: Array, order: int) -> Array:
            """Σ_k factor·k⋯(k − order + 1) cos^{k − order} g_kj, (n, m, J)."""
            falling = k * 1.0 if order == 1 else k * (k - 1.0)
            lowered = power[np.maximum(k - order, 0)] * (factor * falling).T[:, :, None]
            return np.stack([np.einsum("knj,kj->nj", lowered, g[:, :, o]) for o in range(m)], axis=1)

        value, by_b, radial = summed(c[:, k]), summed(up1), summed(up2)
        along = spread(c[:, k] / s[:, None], 1)
        gradient = radial[:, :, None] * unit[:, None, :] + along @ self.unit
        slopes = np.zeros((n, m, self.space.dim))
        slopes[:, :, :d] = gradient
        if self.space.bias:
            slopes[:, :, d] = by_b
        hessian = None
        if order >= 2:
            up3 = np.sqrt((k + 1.0) * (k + 2) * (k + 3)) * c[:, k + 3] / s[:, None] ** 2
            up4 = np.sqrt((k + 1.0) * (k + 2) * (k + 3) * (k + 4)) * c[:, k + 4] / s[:, None] ** 2
            bb = bump = summed(up2 / s[:, None])
            rr, rb = summed(up4), summed(up3)
            mixed_r, mixed_b = spread(up2 / s[:, None], 1), spread(up1 / s[:, None], 1)
            twice = spread(c[:, k] / s[:, None] ** 2, 2)
            hessian = np.zeros((n, m, self.space.dim, self.space.dim))
            block = (
                bump[:, :, None, None] * np.eye(d) + rr[:, :, None, None] * np.einsum("nd,ne->nde", unit, unit)[:, None]
            )
            side = np.einsum("nmd,ne->nmde", mixed_r @ self.unit, unit)
            block = block + side + side.transpose(0, 1, 3, 2)
            block = block + np.einsum("nmj,jd,je->nmde", twice, self.unit, self.unit)
            hessian[:, :, :d, :d] = block
            if self.space.bias:
                edge = rb[:, :, None] * unit[:, None, :] + mixed_b @ self.unit
                hessian[:, :, :d, d] = hessian[:, :, d, :d] = edge
                hessian[:, :, d, d] = bb
        if not self.free and (self.affine.any() or self.offset.any()):
            value, slopes, hessian = self._with_affine(c, s, unit, value, slopes, hessian)
        return Jet(value, slopes, hessian)

    def _with_affine(
        self, c: Array, s: Array, unit: Array, value: Array, slopes: Array, hessian: Array | None
    ) -> tuple[Array, Array, Array | None]:
        """Adds c·E σ(z) + A·E[σ(z)x] = offset·c₀ + ⟨A, w⟩·a₁, with a₁ = c₁/s."""
        d = self.space.d
        reach = unit @ self.affine.T  # ⟨A, ŵ⟩, (n, m)
        root2, root6, root24 = np.sqrt(2.0), np.sqrt(6.0), np.sqrt(24.0)
        value = value + c[:, :1] * self.offset + c[:, 1:2] * reach
        radial = (root2 * c[:, 2] / s)[:, None] * self.offset + (root6 * c[:, 3] / s)[:, None] * reach
        slopes[:, :, :d] += radial[:, :, None] * unit[:, None, :] + (c[:, 1] / s)[:, None, None] * self.affine
        if self.space.bias:
            slopes[:, :, d] += (c[:, 1] / s)[:, None] * self.offset + (root2 * c[:, 2] / s)[:, None] * reach
        if hessian is not None:
            s2 = s**2
            bump = (root2 * c[:, 2] / s2)[:, None] * self.offset + (root6 * c[:, 3] / s2)[:, None] * reach
            rr = (root24 * c[:, 4] / s2)[:, None] * self.offset + (np.sqrt(120.0) * c[:, 5] / s2)[:, None] * reach
            outer = np.einsum("nd,ne->nde", unit, unit)[:, None]
            side = np.einsum("n,md,ne->nmde", root6 * c[:, 3] / s2, self.affine, unit)
            hessian[:, :, :d, :d] += bump[:, :, None, None] * np.eye(d) + rr[:, :, None, None] * outer
            hessian[:, :, :d, :d] += side + side.transpose(0, 1, 3, 2)
            if self.space.bias:
                rb = (root6 * c[:, 3] / s2)[:, None] * self.offset + (root24 * c[:, 4] / s2)[:, None] * reach
                edge = rb[:, :, None] * unit[:, None, :] + (root2 * c[:, 2] / s2)[:, None, None] * self.affine
                hessian[:, :, :d, d] += edge
                hessian[:, :, d, :d] += edge
                hessian[:, :, d, d] += bump
        return value, slopes, hessian
