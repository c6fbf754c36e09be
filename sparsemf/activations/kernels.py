"""Gaussian kernels K = E[σ(U)τ(V)] of two activations, (U, V) jointly Gaussian.

*Mehler's series.*  With U = m₁ + s₁g, V = m₂ + s₂h, corr(g, h) = ρ = c/(s₁s₂),

    K = Σ_k c_k(σ; s₁, m₁) c_k(τ; s₂, m₂) ρ^k,    |Σ_{k > n}| ≤ |ρ|^{n+1} t₁ t₂,   t² = E σ² − Σ_{k ≤ n} c_k²

(Cauchy–Schwarz), so the truncation is bounded, not estimated.

*Conditioning*, where the series is slow (|ρ| near 1 and steep or kinked σ): K = E[σ(U)·E[τ(V) | U]], V | U Gaussian of
variance s₂²(1 − ρ²): graded Gauss–Legendre panels outside (:mod:`sparsemf.activations.quadrature`), the mean c₀ inside.
Its error is estimated from two orders.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations.base import Activation, Array, KernelValue
from sparsemf.activations.quadrature import panel_ends

_UNIT = float(np.finfo(float).eps)
_DEGREES = (48, 192, 768)
#: Relative to ‖σ‖‖τ‖: series errors below this are left, larger ones are computed by conditioning …
_GOOD = 1e-12
#: … for at most so many of the worst pairs (up to a tenth of a second each).
_REFINED_PAIRS = 64


def cross_kernel(
    first: Activation, second: Activation, s1: Array, m1: Array, s2: Array, m2: Array, c: Array
) -> KernelValue:
    """E[σ(U)τ(V)] for U ~ N(m1, s1²), V ~ N(m2, s2²), cov(U, V) = c; all arrays broadcast together.

    The closed form when both are the same activation and it has one; else :func:`series_kernel`.
    """
    if first == second:
        return first.kernel(s1, m1, s2, m2, c)
    return series_kernel(first, second, s1, m1, s2, m2, c)


def series_kernel(
    first: Activation, second: Activation, s1: Array, m1: Array, s2: Array, m2: Array, c: Array
) -> KernelValue:
    """Mehler's series up to a degree ≤ 768 with its bounded tail; the worst pairs by conditioning."""
    s1, m1, s2, m2, c = (np.asarray(x, float) for x in (s1, m1, s2, m2, c))
    s1, m1 = np.broadcast_arrays(s1, m1)
    s2, m2 = np.broadcast_arrays(s2, m2)
    product = s1 * s2
    rho = np.clip(np.divide(c, product, out=np.zeros(np.broadcast(c, product).shape), where=product > 0), -1.0, 1.0)
    energy1 = first.second_moment(s1.ravel(), m1.ravel()).reshape(s1.shape)
    energy2 = second.second_moment(s2.ravel(), m2.ravel()).reshape(s2.shape)
    size = np.sqrt(energy1 * energy2)
    value = error = size
    for degree in _DEGREES:
        c1 = first.hermite(s1.ravel(), m1.ravel(), degree).reshape(*s1.shape, degree + 1)
        c2 = second.hermite(s2.ravel(), m2.ravel(), degree).reshape(*s2.shape, degree + 1)
        value = c1[..., degree] * c2[..., degree] + 0.0 * rho
        for k in range(degree - 1, -1, -1):
            value = value * rho + c1[..., k] * c2[..., k]
        tail1 = np.maximum(energy1 - np.sum(c1**2, axis=-1), 0.0) + 16 * _UNIT * energy1
        tail2 = np.maximum(energy2 - np.sum(c2**2, axis=-1), 0.0) + 16 * _UNIT * energy2
        error = np.abs(rho) ** (degree + 1) * np.sqrt(tail1 * tail2) + 64 * _UNIT * size
        if (error <= _GOOD * size).all():
            break
    if first == second:
        # on the diagonal K(1) = E σ², and |K(1) − K(ρ)| ≤ (1 − ρ)·s₁s₂·Lip² as dK/dρ = s₁s₂ E σ′(U)σ′(V)
        same = (s1 == s2) & (m1 == m2) & (rho > 1 - 16 * _UNIT)
        value = np.where(same, energy1, value)
        error = np.where(same, 64 * _UNIT * size + 16 * _UNIT * np.square(first.lipschitz * s1), error)
    return refined(first, second, (s1, m1, s2, m2, c), value, error, _GOOD * size)


def refined(
    first: Activation, second: Activation, pairs: Sequence[Array], value: Array, error: Array, wanted: Array
) -> KernelValue:
    """Replace the entries whose error exceeds ``wanted`` by conditioning, the worst ones first.

    ``pairs`` are s1, m1, s2, m2, c; they and ``wanted`` broadcast to the shape of ``value`` and ``error``.
    """
    arguments = [np.broadcast_to(x, value.shape).ravel() for x in pairs]
    found, doubt = value.ravel().copy(), error.ravel().copy()
    excess = np.flatnonzero(doubt > np.broadcast_to(wanted, value.shape).ravel())
    worst: NDArray[np.intp] = excess[np.argsort(-doubt[excess], kind="stable")][:_REFINED_PAIRS]
    for i in worst:
        s1, m1, s2, m2, c = (float(x[i]) for x in arguments)
        better, own = _conditioned(first, second, s1, m1, s2, m2, c)
        if own < doubt[i]:
            found[i], doubt[i] = better, own
    return KernelValue(found.reshape(value.shape), doubt.reshape(value.shape), closed=False)


def _conditioned(
    first: Activation, second: Activation, s1: float, m1: float, s2: float, m2: float, c: float
) -> tuple[float, float]:
    """E[σ(U)·E[τ(V)|U]] and its error estimate, for s1 > 0."""
    rho = min(max(c / (s1 * s2), -1.0), 1.0)
    slope, rest = s2 * rho, s2 * float(np.sqrt((1.0 - rho) * (1.0 + rho)))
    centres = [((z - m1) / s1, first.grain / s1) for z in first.breaks or (0.0,)]
    finest = first.grain / s1
    if slope:
        # given U, τ is smoothed over `rest`: a kink becomes a transition of that width
        width = max(rest, second.grain) if not second.breaks or rest == 0 else min(rest, second.grain)
        centres += [((z - m2) / slope, width / abs(slope)) for z in second.breaks or (0.0,)]
        finest = min(finest, width / abs(slope))
    doublings = int(np.clip(np.ceil(np.log2(26.0 / finest)), 6, 64)) + 1
    ends = np.unique(panel_ends([(np.array([z]), np.array([scale])) for z, scale in centres], doublings))
    half, middle = 0.5 * np.diff(ends), 0.5 * (ends[1:] + ends[:-1])
    found = []
    mass = 0.0
    for order in (20, 15):
        points, weights = np.polynomial.legendre.leggauss(order)
        g = (middle[:, None] + half[:, None] * points).ravel()
        density = (half[:, None] * weights).ravel() * np.exp(-0.5 * g * g) / np.sqrt(2 * np.pi)
        kept = density > 0
        g, density = g[kept], density[kept]
        inner = second.hermite(np.full(g.size, rest), m2 + slope * g, 0)[:, 0]
        terms = density * first.value(m1 + s1 * g) * inner
        found.append(float(np.sum(terms)))
        mass = float(np.sum(np.abs(terms)))
    return found[0], abs(found[0] - found[1]) + 64 * _UNIT * mass
