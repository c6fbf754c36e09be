"""η of a population residual for piecewise-linear σ in closed form (:mod:`.population`).

σ = κ relu − ν·id.  Write r = Σ_j γ_j relu(z_j) + ⟨a, x⟩ + a₀ (the linear parts of all neurons inside a, a₀; with a
free affine
part, its projection off span{1, x}).  For θ = (w, b), s = |w|, β = b/s:

    E[relu(z_j) relu(z)] = K(θ_j, θ),   ∂_θ = E[relu(z_j) 1(z > 0) x̃] = E[1 1] w̃-terms + … by Stein's identity:
    ∂_b K = E[relu(U) 1(V > 0)] = m₁Φ₂ + s₁[φ(α)Φ((β − ρα)/q) + ρ φ(β)Φ((α − ρβ)/q)],
    ∂_w K = Φ₂(α, β; ρ)·w_j + φ(β)/s · E[relu(U) | V = 0]·w,        U | V = 0 ~ N(m₁ − ρ s₁β, s₁²q²),

and E[x̃ relu(z)] = (wΦ(β), bΦ(β) + sφ(β)).  *Second derivatives*: D²η[v, v] = κ φ(β)/s · E[r⟨v, x̃⟩² | z = 0], and on
the hyperplane E⟨v, x̃⟩⁴ ≤ 3(1 + t²)², t = |β|, for |v| = 1.  With the atoms in groups g of representative u_g,
pointwise

    ‖r(x)‖ ≤ Σ_g ‖Σγ_i‖ relu(z_g) + Σ_i ‖γ_i‖ |⟨u_i − u_g, x̃⟩| + ‖⟨a, x⟩ + a₀‖,

and E[⟨u, x̃⟩² | z = 0]^{1/2} ≤ |u|·√(1 + (1 + t²)) ; so ‖D²η‖ ≤ κ·mass·√3·φ(t)(1 + t²)√(2 + t²)/s: linear in the
distances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sparsemf.activations import Activation
from sparsemf.activations.bivariate import bivariate_normal_cdf, conditional_slope, normal_density
from sparsemf.activations.families.relu import PiecewiseLinear, relu_kernel, relu_mean_any
from sparsemf.certificates.convex.observation import Jet
from sparsemf.certificates.convex.parameters import ParameterSet

Array = NDArray[np.float64]

_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class ReluOracle:
    """κ, ν of the atoms; r through w_j (J, d), b_j (J,), γ_j (J, m), ``slope`` a (m, d), ``level`` a₀ (m,)."""

    kink: float
    line: float
    space: ParameterSet
    w: Array
    b: Array
    gamma: Array
    slope: Array
    level: Array

    @staticmethod
    def of(
        activation: Activation,
        space: ParameterSet,
        parts: list[tuple[Activation, Array, Array, Array]],
        affine: Array,
        offset: Array,
        free: bool,
    ) -> ReluOracle:
        """From (activation, w (J, d), b (J,), β (J, m)) parts; with ``free`` the affine part is projected out."""
        assert isinstance(activation, PiecewiseLinear)
        gammas, a, a0 = [], np.array(affine), np.array(offset)
        for sigma, w, b, beta in parts:
            assert isinstance(sigma, PiecewiseLinear)
            gammas.append((sigma.positive + sigma.negative) * beta)
            a -= sigma.negative * (beta.T @ w)
            a0 -= sigma.negative * (beta.T @ b)
        w, b = np.concatenate([p[1] for p in parts]), np.concatenate([p[2] for p in parts])
        gamma = np.concatenate(gammas)
        if free:
            s = np.linalg.norm(w, axis=1)
            a = -(gamma * special.ndtr(b / np.where(s > 0, s, 1e-300))[:, None]).T @ w
            a0 = -gamma.T @ relu_mean_any(s, b)
        return ReluOracle(activation.positive + activation.negative, activation.negative, space, w, b, gamma, a, a0)

    def energy(self) -> float:
        """‖r‖²."""
        s = np.linalg.norm(self.w, axis=1)
        gram = relu_kernel(s[:, None], self.b[:, None], s[None], self.b[None], self.w @ self.w.T)
        total = float(np.sum(self.gamma * (gram @ self.gamma)))
        safe = np.where(s > 0, s, 1e-300)
        first = self.w * special.ndtr(self.b / safe)[:, None]
        mean = relu_mean_any(s, self.b)
        total += 2 * float(np.sum((first.T @ self.gamma) * self.slope.T) + np.sum((mean @ self.gamma) * self.level))
        return total + float(np.sum(self.slope**2) + np.sum(self.level**2))

    def jet(self, theta: Array, order: int) -> Jet:
        parts = [self._jet(theta[i : i + _BLOCK]) for i in range(0, theta.shape[0], _BLOCK)]
        m, dim = self.gamma.shape[1], self.space.dim
        if not parts:
            return Jet(np.zeros((0, m)), np.zeros((0, m, dim)), None)
        return Jet(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), None)

    def _jet(self, theta: Array) -> tuple[Array, Array]:
        d = self.space.d
        w, b = self.space.weights(theta), self.space.biases(theta)
        s2 = np.maximum(np.linalg.norm(w, axis=1), 1e-150)[:, None]
        s1 = np.linalg.norm(self.w, axis=1)
        safe = np.maximum(s1, 1e-150)
        alpha, beta = (self.b / safe)[None], b[:, None] / s2
        c = w @ self.w.T
        rho = np.clip(c / safe / s2, -1.0, 1.0)
        q = np.sqrt((1 - rho) * (1 + rho))
        both = bivariate_normal_cdf(alpha, beta, rho)
        up, down = conditional_slope(alpha, beta, rho, q), conditional_slope(beta, alpha, rho, q)
        value = relu_kernel(s1[None], self.b[None], s2, b[:, None], c)
        by_b = self.b * both + safe * (
            normal_density(alpha) * special.ndtr(up) + rho * normal_density(beta) * special.ndtr(down)
        )
        mean, spread = self.b - rho * safe * beta, safe * q
        crossing = normal_density(beta) / s2 * relu_mean_any(spread, mean)
        density, cdf = normal_density(beta[:, 0]), special.ndtr(beta[:, 0])
        # E r relu(z)
        total = value @ self.gamma + (w * cdf[:, None]) @ self.slope.T
        total += relu_mean_any(s2[:, 0], b)[:, None] * self.level
        unit = w / s2
        pull = np.einsum("nj,jm,jd->nmd", both, self.gamma, self.w)
        pull += (crossing @ self.gamma)[:, :, None] * w[:, None, :]
        # ∂_w of wΦ(b/s) and of E relu(z)
        pull += cdf[:, None, None] * self.slope[None]
        radial = -(density * beta[:, 0])[:, None] * (unit @ self.slope.T) + density[:, None] * self.level
        pull += radial[:, :, None] * unit[:, None, :]
        by_bias = by_b @ self.gamma + density[:, None] * (unit @ self.slope.T) + cdf[:, None] * self.level
        # minus ν E[r z]: with E[r x] and E[r]
        safe1 = np.where(s1 > 0, s1, 1e-300)
        first = (self.w * special.ndtr(self.b / safe1)[:, None]).T @ self.gamma + self.slope.T
        zeroth = relu_mean_any(s1, self.b) @ self.gamma + self.level
        jacobian = np.zeros((theta.shape[0], self.gamma.shape[1], self.space.dim))
        jacobian[:, :, :d] = self.kink * pull - self.line * first.T[None]
        if self.space.bias:
            jacobian[:, :, d] = self.kink * by_bias - self.line * zeroth
        return self.kink * total - self.line * (w @ first + b[:, None] * zeroth), jacobian

    def second_on(self, low: Array, high: Array) -> Array:
        d = self.space.d
        nearest = np.linalg.norm(np.maximum(np.maximum(low[:, :d], -high[:, :d]), 0.0), axis=1)
        farthest = np.linalg.norm(np.maximum(np.abs(low[:, :d]), np.abs(high[:, :d])), axis=1)
        if self.space.bias:
            b_low = np.maximum(np.maximum(low[:, d], -high[:, d]), 0.0)
            b_high = np.maximum(np.abs(low[:, d]), np.abs(high[:, d]))
        else:
            b_low = b_high = np.zeros(low.shape[0])
        with np.errstate(divide="ignore", invalid="ignore"):
            t_low = np.where(farthest > 0, b_low / farthest, np.inf) * (1 - 1e-12)
            t_high = np.where(nearest > 0, b_high / nearest, np.inf)
        # (1 + t²)√(2 + t²) ≤ (1 + t²)(√2 + t) = √2 + t + √2 t² + t³, and t^k φ(t) is extremal at √k
        factor = np.zeros(low.shape[0])
        steep = np.zeros(low.shape[0])
        for k, weight in enumerate((np.sqrt(2.0), 1.0, np.sqrt(2.0), 1.0)):
            factor += weight * _peak(k, t_low, t_high)
            steep += weight * _peak(k + 1, t_low, t_high)
        # 1/s ≤ 1/s_low, and 1/s = t/|b| ≤ t/b_low
        with np.errstate(divide="ignore", invalid="ignore"):
            by_length = np.where(nearest > 0, factor / nearest, np.inf)
            by_bias = np.where(b_low > 0, steep / b_low, np.inf)
        return abs(self.kink) * np.sqrt(3.0) * self._mass() * np.minimum(by_length, by_bias) * (1 + 1e-11)

    def third_at(self, theta: Array) -> Array:
        return np.full(theta.shape[0], np.inf)

    def third_on(self, centre: Array, radius: Array) -> Array:
        return np.full(radius.shape, np.inf)

    def _mass(self) -> float:
        """Σ_g‖Σγ_i‖|u_g| + Σ_i‖γ_i‖|u_i − u_g| + |(a, a₀)| with greedy groups (any are valid)."""
        u = np.concatenate([self.w, self.b[:, None]], axis=1)
        size = np.linalg.norm(u, axis=1)
        line = float(np.linalg.norm(np.concatenate([self.slope, self.level[:, None]], axis=1)))
        weight = np.linalg.norm(self.gamma, axis=1)
        unit = u / np.where(size > 0, size, 1.0)[:, None]
        best = float(weight @ size)
        for angle in (1e-3, 1e-2, 0.05, 0.15, 0.4):
            total, left = 0.0, list(np.argsort(-weight * size, kind="stable"))
            while left:
                head = left[0]
                member = [i for i in left if unit[i] @ unit[head] >= np.cos(angle)]
                left = [i for i in left if i not in set(member)]
                # relu(z_i) = |u_i| relu of the unit neuron: masses add up after normalisation
                mass = self.gamma[member] * size[member, None]
                total += float(np.linalg.norm(mass.sum(axis=0)))
                total += float(np.linalg.norm(mass, axis=1) @ np.linalg.norm(unit[member] - unit[head], axis=1))
            best = min(best, total)
        return (best + line) * (1 + 1e-11)


def _peak(k: int, low: Array, high: Array) -> Array:
    """An upper bound of sup t^k φ(t) on [low, high], t ≥ 0."""
    t = np.clip(np.sqrt(float(k)), low, np.maximum(low, high))
    t = np.where(np.isfinite(t), t, 40.0)
    return t**k * normal_density(t) * (1 + 1e-12)
