"""Witnesses in ball arithmetic: ‖f_A(x) − f_B(x)‖ at one point, enclosed rigorously (python-flint)."""

from __future__ import annotations

import numpy as np
from flint import arb, arb_mat, ctx
from numpy.typing import NDArray

from sparsemf.certificates.checker.raw import Raw

Array = NDArray[np.float64]

_PRECISION = 106


def _relu(z: arb) -> arb:
    return z.nonnegative_part() if z > 0 or z < 0 else arb(0).union(z.nonnegative_part())


def _logistic(z: arb) -> arb:
    return 1 / (1 + (-z).exp())


def _value(name: str, z: arb) -> arb:
    if name == "relu":
        return _relu(z)
    if name == "abs":
        return abs(z)
    if name.startswith("leaky_relu"):
        slope = arb(float(name[11:-1]) if "(" in name else 0.01)
        return _relu(z) - slope * _relu(-z)
    if name == "tanh":
        return z.tanh()
    if name == "erf":
        return z.erf()
    if name == "sigmoid":
        return _logistic(z)
    if name == "softplus":
        # log(1 + e^z) = max(z, 0) + log1p(e^{−|z|}), the stable form
        return _relu(z) + (-abs(z)).exp().log1p()
    if name == "silu":
        return z * _logistic(z)
    if name == "quick_gelu":
        return z * _logistic(arb("1.702") * z)
    if name == "gelu":
        return z * (-z / arb(2).sqrt()).erfc() / 2
    if name == "gelu_tanh":
        return z * (1 + ((2 / arb.pi()).sqrt() * (z + arb("0.044715") * z**3)).tanh()) / 2
    raise KeyError(name)


def value(f: Raw, x: Array) -> list[arb]:
    """f(x) as m balls."""
    neurons, m = f.alpha.shape
    point = arb_mat([[float(v)] for v in x])
    out = [
        sum((arb(float(a)) * arb(float(v)) for a, v in zip(row, x, strict=True)), arb(float(c)))
        for row, c in zip(f.affine, f.offset, strict=True)
    ]
    if neurons == 0:
        return out
    z = arb_mat([[float(v) for v in row] for row in f.w]) * point
    activated = arb_mat([[_value(f.activation, z[i, 0] + arb(float(f.b[i]))) for i in range(neurons)]])
    image = activated * arb_mat([[float(v) for v in row] for row in f.alpha])
    return [out[j] + image[0, j] for j in range(m)]


def gap(a: Raw, b: Raw | None, x: Array) -> float:
    """A rigorous lower bound of ‖f_A(x) − f_B(x)‖ (of ‖f_A(x)‖ when ``b`` is None), as a float rounded down."""
    before = ctx.prec
    ctx.prec = _PRECISION
    try:
        first = value(a, x)
        second = value(b, x) if b is not None else [arb(0)] * len(first)
        square = sum(((p - q) ** 2 for p, q in zip(first, second, strict=True)), arb(0))
        low = float(square.sqrt().lower()) if square > 0 else 0.0
    finally:
        ctx.prec = before
    return max(float(np.nextafter(low, 0.0)), 0.0) if np.isfinite(low) else 0.0


def point_norm_upper(x: Array) -> float:
    """‖x‖ rounded up."""
    return float(np.linalg.norm(x)) * (1 + (x.size + 8) * 2.0**-52)
