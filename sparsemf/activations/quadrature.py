"""Gaussian integrals of activations by one-dimensional rules whose error is controlled by analyticity.

*Trapezoidal rule* on [−L, L], for gentle analytic σ.  For F(g) = σ(rg + b)·he_k(g)·φ(g), analytic for |Im g| < a =
strip/r, the rule of step h errs by at most about exp(−2πa/h)·sup|F(· ± ia)|, and off the axis φ grows like e^{a²/2} and
he_k like exp(a√k) (Trefethen & Weideman, SIAM Rev. 56 (2014), Thm 5.1).  Hence 2π/h ≥ √k + 40/a + a/2 for a finite
strip, and 2π/h ≥ √k + 13·√(1 + r²) for entire σ of Gaussian type (a = 13 is the best choice for wide strips), put the
error near 1e-17; the truncation at L = 12.5 costs e^{−L²/4} ≈ 1e-17.

*Graded panels*, for steep or kinked σ: Gauss–Legendre on the unit grid refined around every centre z* (a kink, or 0) by
the points g* ± 2^j·grain/r.  A panel of that grid is at least as far from the nearest singularity as it is long, so the
rule of p points errs by about (3 + √8)^{−2p} (Trefethen, SIAM Rev. 50 (2008), Thm 4.5).

For r ≤ 1 the degrees k ≥ 1 come from c_k = (r/√k)·E[σ′(rg + b) he_{k−1}(g)] (Stein), whose rounding is relative to r.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations.ops import NUMPY

if TYPE_CHECKING:
    from sparsemf.activations.base import Activation

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

HALF_RANGE = 12.5
_NODES_PER_BLOCK = 2_000_000
_MAX_NODES = 8_000
_LARGEST_TABLE = 1_000_000
_POINTS = 32
_POINTS_LOW = 20
"""Points per panel: with Hermite polynomials, and for plain means."""


def normalised_hermite(g: Array, degree: int) -> Array:
    """he_k(g) for k = 0 … degree by the stable three-term recurrence; shape (len(g), degree + 1)."""
    out = np.empty((g.size, degree + 1))
    out[:, 0] = 1.0
    if degree >= 1:
        out[:, 1] = g
    for k in range(1, degree):
        out[:, k + 1] = (g * out[:, k] - np.sqrt(k) * out[:, k - 1]) / np.sqrt(k + 1)
    return out


def _density(g: Array) -> Array:
    return np.exp(-0.5 * g * g) / np.sqrt(2 * np.pi)


def _weighted_hermite(g: Array, step: float, degree: int) -> Array:
    """step·he_k(g)·φ(g), run on φ-weighted values so that nothing overflows at large degree."""
    weight = step * _density(g)
    out = np.empty((g.size, degree + 1))
    out[:, 0] = weight
    if degree >= 1:
        out[:, 1] = g * weight
    for k in range(1, degree):
        out[:, k + 1] = (g * out[:, k] - np.sqrt(k) * out[:, k - 1]) / np.sqrt(k + 1)
    return out


@lru_cache(maxsize=8)
def _hermite_table(half: int, step: float, degree: int) -> Array:
    """:func:`_weighted_hermite` on step·(−half … half), kept: few rules serve very many calls."""
    table = _weighted_hermite(step * np.arange(-half, half + 1, dtype=np.float64), step, degree)
    table.flags.writeable = False
    return table


def _nodes(activation: Activation, r_max: float, degree: int) -> tuple[Array, float] | None:
    """Nodes and step of the trapezoidal rule, None when the neurons are too steep for it."""
    if activation.strip == 0.0:
        return None
    frequency = np.sqrt(degree) + 13.0 * np.sqrt(1.0 + r_max**2 * (activation.strip == np.inf))
    if np.isfinite(activation.strip):
        height = activation.strip / r_max
        frequency = max(frequency, np.sqrt(degree) + 40.0 / height + 0.5 * min(height, 13.0))
    if HALF_RANGE * frequency / np.pi > _MAX_NODES:
        return None
    half = int(np.ceil(HALF_RANGE * frequency / (2 * np.pi)))
    step = HALF_RANGE / half
    return step * np.arange(-half, half + 1, dtype=np.float64), step


def _octaves(r: Array) -> list[tuple[int, NDArray[np.intp]]]:
    """Indices grouped by the power of two above r, so that one wild neuron does not refine them all."""
    octave = np.ceil(np.log2(np.maximum(r, 1.0))).astype(int)
    return [(int(level), np.flatnonzero(octave == level)) for level in np.unique(octave)]


def hermite_coefficients(activation: Activation, r: Array, b: Array, degree: int) -> Array:
    """c_k(r, b) for k = 0 … degree, shape (n, degree + 1); see :meth:`Activation.hermite`."""
    out = np.empty((r.size, degree + 1))

    def value(z: Array) -> Array:
        return activation.value(z, NUMPY)

    for level, rows in _octaves(r):
        if level > 0 or degree == 0:
            out[rows] = _transform(value, activation, r[rows], b[rows], degree, level)
            continue
        out[rows, :1] = _transform(value, activation, r[rows], b[rows], 0, level)
        slopes = _transform(lambda z: activation.derivative(z, NUMPY), activation, r[rows], b[rows], degree - 1, level)
        out[rows, 1:] = r[rows, None] / np.sqrt(np.arange(1.0, degree + 1)) * slopes
    return out


def second_moment(activation: Activation, r: Array, b: Array) -> Array:
    """E σ(rg + b)², shape (n,), by the same rules (the square doubles the bandwidth)."""
    out = np.empty(r.size)
    for level, rows in _octaves(2.0 * r):
        square = _transform(lambda z: activation.value(z, NUMPY) ** 2, activation, r[rows], b[rows], 0, level)
        out[rows] = square[:, 0]
    return out


def square_moments(activation: Activation, r: Array, b: Array) -> Array:
    """E σ(rg + b)², E gσ(rg + b)² and E g²σ(rg + b)², shape (n, 3), by the rules of :func:`second_moment`."""
    out = np.empty((r.size, 3))
    for level, rows in _octaves(2.0 * r):
        out[rows] = _transform(lambda z: activation.value(z, NUMPY) ** 2, activation, r[rows], b[rows], 2, level)
    out[:, 2] = out[:, 0] + np.sqrt(2.0) * out[:, 2]  # g² = 1 + √2·he₂
    return out


def _transform(function: Function, activation: Activation, r: Array, b: Array, degree: int, level: int) -> Array:
    """E[function(rg + b) he_k(g)] for r ≤ 2^level, shape (n, degree + 1)."""
    rule = _nodes(activation, 2.0**level, degree)
    if rule is None:
        return _panels(function, activation, r, b, degree, level)
    g, step = rule
    small = g.size * (degree + 1) <= _LARGEST_TABLE
    weights = _hermite_table(g.size // 2, step, degree) if small else _weighted_hermite(g, step, degree)
    out = np.empty((r.size, degree + 1))
    block = max(1, _NODES_PER_BLOCK // g.size)
    for start in range(0, r.size, block):
        rows = slice(start, start + block)
        out[rows] = function(r[rows, None] * g + b[rows, None]) @ weights
    return out


def _panels(function: Function, activation: Activation, r: Array, b: Array, degree: int, level: int) -> Array:
    """The graded rule; the same number of panels for every neuron, those outside the range having length 0."""
    points, weights = np.polynomial.legendre.leggauss(_POINTS if degree else _POINTS_LOW)
    steep = np.maximum(r, 1e-290)
    centres = [(z - b) / steep for z in activation.breaks or (0.0,)]
    doublings = level + 6 + int(np.ceil(np.log2(1.0 / activation.grain)))
    ends = panel_ends([(centre, activation.grain / steep) for centre in centres], doublings)
    out = np.empty((r.size, degree + 1))
    block = max(1, _NODES_PER_BLOCK // (ends.shape[1] * points.size))
    for start in range(0, r.size, block):
        rows = slice(start, start + block)
        half, middle = 0.5 * np.diff(ends[rows]), 0.5 * (ends[rows, 1:] + ends[rows, :-1])
        g = (middle[:, :, None] + half[:, :, None] * points).reshape(half.shape[0], -1)
        mass = (half[:, :, None] * weights).reshape(g.shape) * function(r[rows, None] * g + b[rows, None])
        previous, current = np.zeros_like(g), _density(g)
        for k in range(degree + 1):
            out[rows, k] = np.einsum("ij,ij->i", mass, current)
            if k < degree:
                previous, current = current, (g * current - np.sqrt(k) * previous) / np.sqrt(k + 1)
    return out


def panel_ends(centres: list[tuple[Array, Array]], doublings: int) -> Array:
    """Sorted ends of the panels on [−13, 13], shape (n, ·): the unit grid and, for every (centre, scale) of shapes
    (n,), centre ± 2^j·scale for j = −1 … doublings − 1."""
    graded = 2.0 ** np.arange(-1, doublings)
    pattern = np.concatenate([-graded[::-1], [0.0], graded])
    n = centres[0][0].size
    parts = [np.broadcast_to(np.arange(-13.0, 14.0), (n, 27))]
    parts += [centre[:, None] + scale[:, None] * pattern for centre, scale in centres]
    return np.sort(np.clip(np.concatenate(parts, axis=1), -13.0, 13.0), axis=1)
