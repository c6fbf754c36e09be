"""Inner products of gated atoms whose gate has one kink, in closed form.

With σ = relu, U and V the gates (means m, deviations s, covariance c) and ℓ = e + ⟨v, x⟩, ℓ′ alike (v being all of
the factor's direction), Stein's identity, twice, gives

    E σ(U)σ(V)ℓℓ′ = (ee′ + ⟨v, v′⟩)F + (e⟨v′, g⟩ + e′⟨v, g⟩)F_U + (e⟨v′, g′⟩ + e′⟨v, g′⟩)F_V + ⟨v, g⟩⟨v′, g⟩F_UU
                    + (⟨v, g⟩⟨v′, g′⟩ + ⟨v, g′⟩⟨v′, g⟩)F_UV + ⟨v, g′⟩⟨v′, g′⟩F_VV,

F = E σ(U)σ(V) and its derivatives with respect to the means: F_U = E 1{U > 0}σ(V), F_UV = P(U > 0, V > 0) = Φ₂ and
F_UU = E δ(U)σ(V), the density of U at 0 times the mean of σ(V) given U = 0.

Any σ(z) = p·relu(z) + n·relu(−z) is (p + n)·relu and a linear function, and beyond degree 2 a linear gate is silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sparsemf.activations.bivariate import bivariate_normal_cdf, conditional_slope, normal_density
from sparsemf.activations.families.relu import relu_kernel, relu_mean_any

if TYPE_CHECKING:
    from sparsemf.measures.gated import GatedAtoms

Array = NDArray[np.float64]


def product_kernel(first: GatedAtoms, second: GatedAtoms) -> Array:
    """E φ_i φ′_j, shape (n₁, n₂), every gate of length > 0.

    Of activations other than relu: of their own values, not only beyond degree 2.
    """
    p, n = (float(first.activation.value(np.array([t]))[0]) for t in (1.0, -1.0))
    out = p * p * _relu(first, second, 1, 1)
    if n:
        out += n * n * _relu(first, second, -1, -1)
        out += p * n * (_relu(first, second, 1, -1) + _relu(first, second, -1, 1))
    return out


def _relu(first: GatedAtoms, second: GatedAtoms, side1: int, side2: int) -> Array:
    """E relu(±U)relu(±V)ℓℓ′."""
    s1, m1 = first.gates.norm[:, None], side1 * first.gate_bias[:, None]
    s2, m2 = second.gates.norm[None, :], side2 * second.gate_bias[None, :]
    g1, g2 = side1 * first.gate, side2 * second.gate
    e1, e2 = first.bias[:, None], second.bias[None, :]
    covariance = g1 @ g2.T
    h, k = m1 / s1, m2 / s2
    r = np.clip(covariance / s1 / s2, -1.0, 1.0)
    q = np.sqrt((1.0 - r) * (1.0 + r))
    both = bivariate_normal_cdf(h, k, r)
    slope_hk, slope_kh = conditional_slope(k, h, r, q), conditional_slope(h, k, r, q)  # (h − rk)/q, (k − rh)/q
    # E 1{U > 0}σ(V) and its mirror image
    left = m2 * both + s2 * (
        normal_density(k) * special.ndtr(slope_hk) + r * normal_density(h) * special.ndtr(slope_kh)
    )
    right = m1 * both + s1 * (
        normal_density(h) * special.ndtr(slope_kh) + r * normal_density(k) * special.ndtr(slope_hk)
    )
    twice1 = normal_density(h) / s1 * relu_mean_any(s2 * q, m2 - r * s2 * h)
    twice2 = normal_density(k) / s2 * relu_mean_any(s1 * q, m1 - r * s1 * k)
    own1 = np.sum(first.inner * g1, axis=1)[:, None]  # ⟨v, g⟩
    own2 = np.sum(second.inner * g2, axis=1)[None, :]  # ⟨v′, g′⟩
    to2, to1 = first.inner @ g2.T, g1 @ second.inner.T  # ⟨v, g′⟩, ⟨v′, g⟩
    out = (e1 * e2 + first.inner @ second.inner.T) * relu_kernel(s1, m1, s2, m2, covariance)
    out += (e1 * to1 + e2 * own1) * left + (e1 * own2 + e2 * to2) * right
    return out + own1 * to1 * twice1 + (own1 * own2 + to2 * to1) * both + to2 * own2 * twice2
