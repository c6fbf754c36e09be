"""gelu_tanh and mish with their derivatives: float64 up to σ‴ at points, balls of σ″, σ‴, σ⁗ on cells, tails.

Both are z·t(z), so σ^{(k)} = k·t^{(k−1)} + z·t^{(k)}; S is the logistic function, S′ = S(1 − S), S″ = S′(1 − 2S),
S‴ = S′(1 − 6S′), S⁗ = S″(1 − 12S′).

- *gelu_tanh*: t = S(v), v = 2√(2/π)(z + 0.044715z³), and the chain rule, v⁗ = 0.
- *mish*: t = tanh(log(1 + e^z)) = 1 − 2/((1 + e^z)² + 1) = 1 − 2 Im 1/(1 − i + e^z), and 1/(1 − i + e^z) =
  ½(1 + i)(1 − S(ζ)) with ζ = z − log(1 − i); so t^{(k)} = Im[(1 + i)S^{(k)}(ζ)] for all k ≥ 0, e^{−ζ} = (1 − i)e^{−z}.

*Float64.*  gelu_tanh: v errs by 8 units relatively, which e^{−|v|} turns into 8|v| more; the absolute terms of a
derivative sum to at most 8 (of σ‴ at |z| ≈ 1.7), and with the factor 8|v| to at most 2⁷; so all is within 2⁻⁴³.  mish:
|S| ≤ 1 and |S^{(k)}| ≤ 2, terms below 2⁵(1 + |z|e^{−|z|}).  Both are far inside the margin of :mod:`derivatives`.

*Tails.*  gelu_tanh, z ≥ 8: |v′| ≤ z², |v″| ≤ z, |v‴| ≤ 1 and |S^{(k)}(v)| ≤ 2e^{−v}, so |t^{(k)}| ≤ 2e^{−v}·15z⁸ for
1 ≤ k ≤ 4 (Faà di Bruno has 15 partitions of 4 elements) and |σ^{(k)}| ≤ 4|t^{(k−1)}| + z|t^{(k)}| ≤ 30(4z⁸ + z⁹)e^{−v}.
mish, |z| ≥ 4: |S′(ζ)| ≤ √2e^{−|z|} (for z > 0 |1 + (1 − i)e^{−z}| ≥ 1; for z < 0 |e^z + 1 − i| ≥ √2), |1 − 2S| ≤ 3,
|1 − 6S′|, |1 − 12S′| ≤ 2, so |S^{(k)}| ≤ 6√2e^{−|z|} and |σ^{(k)}| ≤ 12(4 + |z|)e^{−|z|}.  Both decrease.
"""

from __future__ import annotations

import math

import numpy as np
from flint import acb, arb
from numpy.typing import NDArray

Array = NDArray[np.float64]

_FLAT = 30.0
"""Beyond this |z| the t of gelu_tanh is 0 or 1: e^{−|v|} underflows."""
_CUBE = 0.044715


def gelu_tanh(z: Array) -> tuple[Array, ...]:
    """σ, σ′, σ″, σ‴."""
    root = 2 * math.sqrt(2 / math.pi)
    y = np.clip(z, -_FLAT, _FLAT)
    v, v1 = root * (y + _CUBE * y * y * y), root * (1 + 3 * _CUBE * y * y)
    v2, v3 = root * 6 * _CUBE * y, root * 6 * _CUBE
    e = np.exp(-np.abs(v))
    s = np.where(v >= 0, 1.0, e) / (1 + e)
    s1 = e / ((1 + e) * (1 + e))
    s2, s3 = s1 * (1 - 2 * s), s1 * (1 - 6 * s1)
    t1 = s1 * v1
    t2 = s2 * v1 * v1 + s1 * v2
    t3 = s3 * v1 * v1 * v1 + 3 * s2 * v1 * v2 + s1 * v3
    return z * s, s + y * t1, 2 * t1 + y * t2, 3 * t2 + y * t3


def mish(z: Array) -> tuple[Array, ...]:
    """σ, σ′, σ″, σ‴."""
    e = np.exp(-np.abs(z))
    below = np.where(z >= 0, 1 + (1 - 1j) * e, e + (1 - 1j))
    s = np.where(z >= 0, 1.0, e) / below
    s1 = (1 - 1j) * e / (below * below)
    s2, s3 = s1 * (1 - 2 * s), s1 * (1 - 6 * s1)
    t, t1, t2, t3 = (np.asarray(x.real + x.imag, dtype=np.float64) for x in (s, s1, s2, s3))  # Im (1 + i)x
    return z * t, t + z * t1, 2 * t1 + z * t2, 3 * t2 + z * t3


def gelu_tanh_balls(z: arb) -> tuple[arb, arb, arb]:
    """σ″, σ‴, σ⁗ on a cell of [0, 8]."""
    root, cube = 2 * (2 / arb.pi()).sqrt(), arb("0.044715")
    square = z * z
    v, v1 = root * z * (1 + cube * square), root * (1 + 3 * cube * square)
    v2, v3 = root * 6 * cube * z, root * 6 * cube
    s = 1 / (1 + (-v).exp())
    s1 = s * (1 - s)
    s2, s3 = s1 * (1 - 2 * s), s1 * (1 - 6 * s1)
    s4 = s2 * (1 - 12 * s1)
    t1 = s1 * v1
    t2 = s2 * v1 * v1 + s1 * v2
    t3 = s3 * v1 * v1 * v1 + 3 * s2 * v1 * v2 + s1 * v3
    t4 = s4 * v1 * v1 * v1 * v1 + 6 * s3 * v1 * v1 * v2 + s2 * (3 * v2 * v2 + 4 * v1 * v3)
    return 2 * t1 + z * t2, 3 * t2 + z * t3, 4 * t3 + z * t4


def mish_balls(z: arb) -> tuple[arb, arb, arb]:
    """σ″, σ‴, σ⁗ on a cell of [−16, 16]."""
    s = 1 / (1 + acb(1, -1) * acb((-z).exp()))
    s1 = s * (1 - s)
    s2, s3 = s1 * (1 - 2 * s), s1 * (1 - 6 * s1)
    s4 = s2 * (1 - 12 * s1)
    t1, t2, t3, t4 = (x.real + x.imag for x in (s1, s2, s3, s4))
    return 2 * t1 + z * t2, 3 * t2 + z * t3, 4 * t3 + z * t4


def gelu_tanh_tail(z: float) -> tuple[arb, arb, arb]:
    """Beyond z ≥ 8."""
    x = arb(z)
    v = 2 * (2 / arb.pi()).sqrt() * (x + arb("0.044715") * x * x * x)
    most = 30 * (4 * x**8 + x**9) * (-v).exp()
    return most, most, most


def mish_tail(z: float) -> tuple[arb, arb, arb]:
    """Beyond |z| ≥ 4."""
    most = 12 * (4 + arb(z)) * (-arb(z)).exp()
    return most, most, most
