"""Gaussian integrals of smooth activations by rules whose error is controlled by analyticity.

One dimension: the trapezoidal rule on [−L, L].  For F(g) = σ(rg + b)·he_k(g)·φ(g), analytic for
|Im g| < a = strip/r, the rule of step h errs by at most about exp(−2πa/h)·sup|F(· ± ia)|, and off the axis
he_k grows like exp(a√k) (Trefethen & Weideman, SIAM Rev. 56 (2014), Thm 5.1).  Hence 2π/h ≥ 40/a + √k for a
finite strip, and 2π/h ≥ √k + 13·√(1 + r²) for entire σ of Gaussian type, put the error near 1e-17; the
truncation at L = 12.5 costs e^{−L²/4} ≈ 1e-17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations.ops import NUMPY

if TYPE_CHECKING:
    from sparsemf.activations.base import Activation, KernelValue

Array = NDArray[np.float64]

HALF_RANGE = 12.5
_NODES_PER_BLOCK = 4_000_000
_MAX_NODES = 20_000


def normalised_hermite(g: Array, degree: int) -> Array:
    """he_k(g) for k = 0 … degree by the stable three-term recurrence; shape (len(g), degree + 1)."""
    out = np.empty((g.size, degree + 1))
    out[:, 0] = 1.0
    if degree >= 1:
        out[:, 1] = g
    for k in range(1, degree):
        out[:, k + 1] = (g * out[:, k] - np.sqrt(k) * out[:, k - 1]) / np.sqrt(k + 1)
    return out


def _weighted_hermite(g: Array, step: float, degree: int) -> Array:
    """step·he_k(g)·φ(g), run on φ-weighted values so that nothing overflows at large degree."""
    weight = step * np.exp(-0.5 * g * g) / np.sqrt(2 * np.pi)
    out = np.empty((g.size, degree + 1))
    out[:, 0] = weight
    if degree >= 1:
        out[:, 1] = g * weight
    for k in range(1, degree):
        out[:, k + 1] = (g * out[:, k] - np.sqrt(k) * out[:, k - 1]) / np.sqrt(k + 1)
    return out


def _nodes(activation: Activation, r_max: float, degree: int) -> tuple[Array, float] | None:
    """Nodes and step of the trapezoidal rule, None when the neurons are too steep for it."""
    frequency = np.sqrt(degree) + 13.0 * np.sqrt(1.0 + r_max**2 * (activation.strip == np.inf))
    if np.isfinite(activation.strip):
        frequency = max(frequency, np.sqrt(degree) + 40.0 * r_max / activation.strip)
    if HALF_RANGE * frequency / np.pi > _MAX_NODES:
        return None
    half = int(np.ceil(HALF_RANGE * frequency / (2 * np.pi)))
    step = HALF_RANGE / half
    return step * np.arange(-half, half + 1, dtype=np.float64), step


def _octaves(r: Array) -> list[NDArray[np.intp]]:
    """Indices grouped by the power of two above r, so that one wild neuron does not refine them all."""
    octave = np.ceil(np.log2(np.maximum(r, 1.0))).astype(int)
    return [np.flatnonzero(octave == level) for level in np.unique(octave)]


def hermite_coefficients(activation: Activation, r: Array, b: Array, degree: int) -> Array:
    """c_k(r, b) for k = 0 … degree, shape (n, degree + 1); see :meth:`Activation.hermite`."""
    out = np.empty((r.size, degree + 1))
    for group in _octaves(r):
        rule = _nodes(activation, float(r[group].max()), degree)
        if rule is None:
            out[group] = _steep(activation, r[group], b[group], degree, power=1)
            continue
        g, step = rule
        weights = _weighted_hermite(g, step, degree)
        block = max(1, _NODES_PER_BLOCK // g.size)
        for start in range(0, group.size, block):
            rows = group[start : start + block]
            out[rows] = activation.value(r[rows, None] * g + b[rows, None], NUMPY) @ weights
    return out


def second_moment(activation: Activation, r: Array, b: Array) -> Array:
    """E σ(rg + b)², shape (n,), by the same rule (the square doubles the bandwidth)."""
    out = np.empty(r.size)
    for group in _octaves(r):
        rule = _nodes(activation, 2.0 * float(r[group].max()), 0)
        if rule is None:
            out[group] = _steep(activation, r[group], b[group], 0, power=2)[:, 0]
            continue
        g, step = rule
        weight = step * np.exp(-0.5 * g * g) / np.sqrt(2 * np.pi)
        block = max(1, _NODES_PER_BLOCK // g.size)
        for start in range(0, group.size, block):
            rows = group[start : start + block]
            out[rows] = activation.value(r[rows, None] * g + b[rows, None], NUMPY) ** 2 @ weight
    return out


def _steep(activation: Activation, r: Array, b: Array, degree: int, power: int) -> Array:
    """E[σ(rg + b)^power he_k(g)] for steep neurons: 32-point Gauss–Legendre panels on the unit grid and, around the
    centre g* = −b/r, on a geometric grid g* ± 2^j/r (j ≤ 6) beyond which every such σ is a line to rounding."""
    nodes, weights = np.polynomial.legendre.leggauss(32)
    graded = np.concatenate([-(2.0 ** np.arange(6, -2, -1)), [0.0], 2.0 ** np.arange(-1, 7)])
    out = np.empty((r.size, degree + 1))
    for i in range(r.size):
        ends = np.concatenate([np.arange(-13.0, 14.0), -b[i] / r[i] + graded / r[i]])
        ends = np.unique(np.clip(ends, -13.0, 13.0))
        half, middle = 0.5 * np.diff(ends), 0.5 * (ends[1:] + ends[:-1])
        g = (middle[:, None] + half[:, None] * nodes).ravel()
        value = activation.value(r[i] * g + b[i], NUMPY) ** power * (half[:, None] * weights).ravel()
        out[i] = value @ _weighted_hermite(g, 1.0, degree)
    return out


def kernel_2d(
    activation: Activation, s1: Array, m1: Array, s2: Array, m2: Array, c: Array, order: int = 80
) -> KernelValue:
    """E[σ(U)σ(V)] by tensor Gauss–Hermite quadrature; the error estimate is the larger of the difference to the rule
    of 3/4 the order and a tenth of the difference to the rule of half the order (one alone can vanish by chance).

    V = m2 + (c/s1)·g1 + √(s2² − c²/s1²)·g2 with U = m1 + s1·g1; s1 = 0 makes U a constant.
    """
    from sparsemf.activations.base import KernelValue

    shape = s1.shape
    s1, m1, s2, m2, c = (np.asarray(x, float).ravel() for x in (s1, m1, s2, m2, c))
    slope = np.divide(c, s1, out=np.zeros_like(c), where=s1 > 0)
    rest = np.sqrt(np.maximum((s2 - slope) * (s2 + slope), 0.0))
    values = []
    for points in (order, (3 * order) // 4, order // 2):
        nodes, weights = np.polynomial.hermite_e.hermegauss(points)
        weights = weights / weights.sum()
        total = np.empty(s1.size)
        block = max(1, _NODES_PER_BLOCK // points**2)
        for start in range(0, s1.size, block):
            part = slice(start, start + block)
            u = activation.value(m1[part, None] + s1[part, None] * nodes, NUMPY)
            v = activation.value(
                m2[part, None, None]
                + slope[part, None, None] * nodes[:, None]
                + rest[part, None, None] * nodes[None, :],
                NUMPY,
            )
            total[part] = np.einsum("pi,pij,i,j->p", u, v, weights, weights, optimize=True)
        values.append(total)
    error = np.maximum(np.abs(values[0] - values[1]), 0.1 * np.abs(values[0] - values[2])) + 64 * np.finfo(
        float
    ).eps * np.abs(values[0])
    return KernelValue(values[0].reshape(shape), error.reshape(shape), closed=False)
