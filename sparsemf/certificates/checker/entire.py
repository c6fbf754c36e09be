"""exp and the powers z^n: entire cores whose derivatives grow, so that every bound of them belongs to a set.

*On an interval*: sup|e^z| = e^{high}, sup|d^k z^n| = n⋯(n − k + 1)·max|z|^{n − k}.

*Under N(0, I)*, for |v| = 1, x̃ = (x, 1), z = ⟨w, x⟩ + b = ⟨θ, x̃⟩, s = |w|: ⟨v, x̃⟩ is a Gaussian N(μ, τ²) with μ² + τ²
≤ 1, and E N(μ, τ²)^{2r} = Σ_i C(2r, 2i)(2i − 1)!!τ^{2i}μ^{2r − 2i} ≤ (2r − 1)!!(μ² + τ²)^r, as C(2r, 2i)(2i − 1)!!
= (2r − 1)!!C(r, i)/(2r − 2i − 1)!!.  So

- powers, by Hölder: ‖⟨v, x̃⟩^p z^j‖ ≤ √((2p + 2j − 1)!!)|θ|^j,
- exp: e^{2⟨w, x⟩} turns N(0, I) into e^{2s²}N(2w, I), where ⟨v, x̃⟩ is N(2⟨v, w⟩ + v_b, |v_w|²) with μ² + τ² ≤ λ_max of
  ((4s² + 1, 2s), (2s, 1)) = (s + √(s² + 1))²: ‖⟨v, x̃⟩^p e^z‖ ≤ e^{b + s²}√((2p − 1)!!)(s + √(s² + 1))^p.

*Hermite coefficients* in float64 without cancellation: e^{b + s²/2}s^k/√k!, and C(n, j)√j!s^jH_{n−j}(b), H_i(b) =
|b|H_{i−1} + (i − 1)s²H_{i−2} up to the sign of b^i (Appell).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.arithmetic import Undefined
from sparsemf.certificates.checker.catalogue import CORES, Image

Array = NDArray[np.float64]

UNIT = 2.0**-53
_UP = 1 + 1e-13


def is_entire(core: str) -> bool:
    """Whether the core is one of these."""
    return core == "exp" or core.startswith("power")


def homogeneity(found: Image) -> int:
    """k ≥ 1 with σ(tz) = t^k σ(z) for t > 0; 0 where the form shows none."""
    degrees = {CORES[t.core].degree if t.shift() == 0 and t.scale() > 0 else 0 for t in found.terms}
    degrees |= set() if found.linear() == 0 else {1}
    return degrees.pop() if len(degrees) == 1 and found.constant() == 0 else 0


def _power(z: Array, k: int) -> Array:
    """z^k by products: libm's pow need not be believed."""
    out = np.ones(np.shape(z))
    for _ in range(k):
        out = out * z
    return out


def at(core: str, z: Array, orders: int) -> list[Array]:
    """σ, …, σ^{(orders − 1)} at z, each within 96 units of its own size."""
    if core == "exp":
        return [np.exp(z)] * orders
    n = CORES[core].power
    return [float(math.perm(n, k)) * _power(z, n - k) if k <= n else np.zeros(z.shape) for k in range(orders)]


def peak(core: str, k: int, low: Array, high: Array) -> Array:
    """sup |σ^{(k)}| on [low, high], rounded up."""
    if core == "exp":
        with np.errstate(over="ignore"):
            return np.exp(high) * _UP
    n = CORES[core].power
    if k > n:
        return np.zeros(low.shape)
    return math.perm(n, k) * _power(np.maximum(np.abs(low), np.abs(high)), n - k) * _UP


def mean(core: str, p: int, s: Array, b: Array) -> Array:
    """sup ‖⟨v, x̃⟩^p σ^{(p)}(z)‖ over |w| ≤ s, |b| ≤ b, |v| = 1, rounded up."""
    odd = math.sqrt(math.prod(range(1, 2 * p, 2)))
    if core == "exp":
        with np.errstate(over="ignore"):
            return (
                np.exp(b + s * s) * odd * _power(s + np.sqrt(s * s + 1), p) * (1 + 1e-12) * (1 + 4 * UNIT * (b + s * s))
            )
    n = CORES[core].power
    if p > n:
        return np.zeros(s.shape)
    return math.perm(n, p) * math.sqrt(math.prod(range(1, 2 * n, 2))) * _power(np.hypot(s, b), n - p) * (1 + 1e-12)


def coefficients(core: str, s: Array, b: Array, degree: int) -> tuple[Array, Array]:
    """(c (n, degree + 1), ℓ²-errors (n,)) at floats s > 0, b that are taken as exact; raises :class:`Undefined` where
    they overflow.

    exp: the exponent is off by 3u(|b| + s²), libm by 72u, the k-th product by 4ku.  Powers: no step cancels, so
    (6n + 16)u relatively.
    """
    out = np.zeros((s.size, degree + 1))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if core == "exp":
            out[:, 0] = np.exp(b + 0.5 * s * s)
            for k in range(1, degree + 1):
                out[:, k] = out[:, k - 1] * (s / math.sqrt(k))
            lost = 80 + 4 * (np.abs(b) + s * s) + 4 * degree
        else:
            n = CORES[core].power
            moments = [np.ones(s.size), np.abs(b)]
            for i in range(2, n + 1):
                moments.append(np.abs(b) * moments[i - 1] + (i - 1) * s * s * moments[i - 2])
            for j in range(min(n, degree) + 1):
                sign = np.where(b < 0, (-1.0) ** (n - j), 1.0)
                out[:, j] = sign * (math.comb(n, j) * math.sqrt(math.factorial(j))) * _power(s, j) * moments[n - j]
            lost = np.full(s.size, 6.0 * n + 16)
        error = np.sqrt(np.sum(out * out, axis=1)) * (lost * UNIT * 1.01) + 1e-150
    if not np.isfinite(out).all() or not np.isfinite(error).all():
        raise Undefined("a Hermite coefficient overflows")
    return out, error
