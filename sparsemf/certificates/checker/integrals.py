"""One-dimensional Gaussian integrals and the ReLU kernel, by composite Gauss–Legendre rules.

Hermite coefficients c_k(s, b) = ∫ σ(sg + b) he_k(g) φ(g) dg are integrated on panels whose ends include the neuron's
centre g* = −b/s (its kink, or the middle of its transition) and g* ± 2^j/s, so that kinked and steep neurons are
resolved.
The ReLU kernel beyond the affine part is one integral,

    K₂(α, β, r) = s₁s₂ ∫₀^r (r − ρ) φ₂(α, β; ρ) dρ,  ρ = sin θ,

since ∂²/∂r² E[relu(X+α)relu(Y+β)] = φ₂(α, β; r) (Price's theorem) and the two lower terms are c₀c₀′ and c₁c₁′r.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.functions import Function

Array = NDArray[np.float64]

REACH = 13.0
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(24)  # resolves he_k up to k = 512 on unit panels
_BLOCK = 256


def _panels(s: Array, b: Array) -> tuple[Array, Array]:
    """Nodes and weights (n, Q) on [−REACH, REACH], graded around g* = −b/s."""
    safe = np.where(s > 0, s, 1.0)
    centre = np.clip(np.where(s > 0, -b / safe, 0.0), -2 * REACH, 2 * REACH)
    graded = np.array([-32, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16, 32])
    breaks = np.concatenate(
        [
            np.broadcast_to(np.linspace(-REACH, REACH, 27), (s.size, 27)),
            np.clip(centre[:, None] + graded / np.maximum(safe, 0.25)[:, None], -REACH, REACH),
        ],
        axis=1,
    )
    breaks = np.sort(breaks, axis=1)
    half = 0.5 * np.diff(breaks, axis=1)
    middle = 0.5 * (breaks[:, 1:] + breaks[:, :-1])
    nodes = (middle[:, :, None] + half[:, :, None] * _POINTS).reshape(s.size, -1)
    weights = (half[:, :, None] * _WEIGHTS).reshape(s.size, -1)
    return nodes, weights * np.exp(-0.5 * nodes**2) / math.sqrt(2 * math.pi)


def hermite_and_moment(function: Function, s: Array, b: Array, degree: int) -> tuple[Array, Array]:
    """(c_k for k ≤ degree (n, degree+1), E σ² (n,)); c_k = 0 for k ≥ 1 where s = 0."""
    coefficients, moment = np.empty((s.size, degree + 1)), np.empty(s.size)
    for start in range(0, s.size, _BLOCK):
        rows = slice(start, start + _BLOCK)
        nodes, weights = _panels(s[rows], b[rows])
        value = function.value(s[rows, None] * nodes + b[rows, None])
        moment[rows] = np.sum(value * value * weights, axis=1)
        previous, current = np.zeros_like(nodes), value * weights
        coefficients[rows, 0] = current.sum(axis=1)
        for k in range(1, degree + 1):
            previous, current = current, (nodes * current - math.sqrt(k - 1) * previous) / math.sqrt(k)
            coefficients[rows, k] = current.sum(axis=1)
    coefficients[s == 0, 1:] = 0.0
    return coefficients, moment


_ARC_POINTS, _ARC_WEIGHTS = np.polynomial.legendre.leggauss(24)


def relu_kernel_beyond_affine(s1: Array, b1: Array, s2: Array, b2: Array, cos: Array) -> Array:
    """K₂ for relu, broadcast over its arguments (s > 0; entries with s = 0 are 0)."""
    s1, b1, s2, b2, cos = np.broadcast_arrays(s1, b1, s2, b2, cos)
    alive = (s1 > 0) & (s2 > 0)
    alpha, beta = (np.where(alive, b / np.where(s > 0, s, 1.0), 0.0) for b, s in ((b1, s1), (b2, s2)))
    angle = np.arcsin(np.clip(cos, -1.0, 1.0))
    out = np.zeros(cos.shape)
    # graded panels: near |ρ| = 1 the exponent varies on the scale of 1 − |ρ|
    for low, high in ((0.0, 0.5), (0.5, 0.9), (0.9, 0.99), (0.99, 1.0)):
        half, middle = 0.5 * (high - low), 0.5 * (high + low)
        for point, weight in zip(_ARC_POINTS, _ARC_WEIGHTS, strict=True):
            theta = angle * (middle + half * point)
            sine, cosine = np.sin(theta), np.cos(theta)
            exponent = (alpha * alpha - 2 * alpha * beta * sine + beta * beta) / np.maximum(2 * cosine * cosine, 1e-300)
            out += (half * weight) * (cos - sine) * np.exp(-exponent)
    return np.where(alive, s1 * s2 * angle * out / (2 * math.pi), 0.0)
