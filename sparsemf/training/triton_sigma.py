"""σ and σ′ inside a Triton kernel."""

# pyright: reportMissingImports=false, reportGeneralTypeIssues=false

from __future__ import annotations

import os
from typing import Any, Literal

import triton
import triton.language as tl

from sparsemf.activations import Activation
from sparsemf.activations.families.elu import ExponentialLinear
from sparsemf.activations.families.gated_linear import ScaledSilu
from sparsemf.activations.families.polynomial import Polynomial
from sparsemf.activations.families.relu import PiecewiseLinear
from sparsemf.activations.families.saturating import Clipped

jit: Any = triton.jit
Compute = Literal["float32", "tf32", "bf16"]
Form = tuple[str, float, float, float, float]
"""Device formula of an activation: its name in :func:`sigma` and up to four parameters."""

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Triton's interpreter runs on the CPU and knows no inline assembly: it takes the exact σ in every mode."""

_PLAIN = {
    *("tanh", "sigmoid", "erf", "normal_cdf", "gelu", "gelu_tanh", "softplus"),
    *("sin", "cos", "relu2", "exp", "softsign", "mish"),
}


def form(activation: Activation) -> Form | None:
    """The formula of σ in :func:`sigma` with its parameters, or None when the kernels do not know σ."""
    match activation:
        case PiecewiseLinear():
            return "piecewise", activation.positive, -activation.negative, 0.0, 0.0
        case Clipped():
            a = activation
            return "clipped", a.low, a.high, 1.0 / a.divisor, a.base - a.low / a.divisor
        case ExponentialLinear():
            return "elu", activation.right, activation.left, activation.rate, 0.0
        case ScaledSilu():
            return "silu", activation.rate, 0.0, 0.0, 0.0
        case Polynomial():
            return "polynomial", float(activation.n), float(activation.hermite_family), 0.0, 0.0
    return (activation.name, 0.0, 0.0, 0.0, 0.0) if activation.name in _PLAIN else None


@jit
def _tanh(z, FAST: tl.constexpr):
    """Fast: one special-function instruction, relative error 2⁻¹¹.  Else 1 − 2/(1 + e^{2z}), saturating correctly."""
    if FAST:
        value = tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [z], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        value = 1.0 - 2.0 / (1.0 + tl.exp(2.0 * z))
    return value


@jit
def _sigmoid(z, FAST: tl.constexpr):
    return 0.5 + 0.5 * _tanh(0.5 * z, FAST) if FAST else 1.0 / (1.0 + tl.exp(-z))


@jit
def _erf(z, FAST: tl.constexpr):
    """Fast: tanh(z·P(z²)), |error| ≤ 3.8e-5 with an exact tanh (P fitted to artanh(erf z)/z on [0, 4])."""
    if FAST:
        square = tl.minimum(z * z, 16.0)
        value = _tanh(z * (1.12814241 + square * (0.10408423 - 0.00178785 * square)), FAST)
    else:
        value = tl.erf(z)
    return value


@jit
def _sine(z, COSINE: tl.constexpr, FAST: tl.constexpr):
    """Fast: the special-function unit, absolute error about 5e-7 on [−π, π] and growing like |z|·1e-7 beyond."""
    if FAST:
        if COSINE:
            value = tl.inline_asm_elementwise("cos.approx.f32 $0, $1;", "=f,f", [z], tl.float32, is_pure=True, pack=1)
        else:
            value = tl.inline_asm_elementwise("sin.approx.f32 $0, $1;", "=f,f", [z], tl.float32, is_pure=True, pack=1)
    else:
        value = tl.cos(z) if COSINE else tl.sin(z)
    return value


@jit
def sigma(
    z, SIGMA: tl.constexpr, P: tl.constexpr, Q: tl.constexpr, S: tl.constexpr, T: tl.constexpr, FAST: tl.constexpr
):
    """(σ(z), σ′(z)) in float32; at a kink the derivative of :mod:`sparsemf.activations`.

    What a caller does not use is not computed: the compiler drops it.
    """
    if SIGMA == "piecewise":
        slope = tl.where(z > 0.0, P, Q)
        value = tl.maximum(z, 0.0) if Q == 0.0 and P == 1.0 else z * slope
    elif SIGMA == "clipped":
        slope = tl.where((z >= P) & (z <= Q), S, 0.0)
        value = tl.minimum(tl.maximum(z, P), Q) * S + T
    elif SIGMA == "elu":
        e = tl.exp(S * tl.minimum(z, 0.0))
        value = P * tl.maximum(z, 0.0) + Q * (e - 1.0)
        slope = tl.where(z > 0.0, P, Q * S * e)
    elif SIGMA == "tanh":
        value = _tanh(z, FAST)
        slope = 1.0 - value * value
    elif SIGMA == "sigmoid":
        value = _sigmoid(z, FAST)
        slope = value * (1.0 - value)
    elif SIGMA == "erf":
        value = _erf(z, FAST)
        slope = 1.1283791670955126 * tl.exp(-z * z)
    elif SIGMA == "normal_cdf":
        value = 0.5 + 0.5 * _erf(0.7071067811865476 * z, FAST)
        slope = 0.3989422804014327 * tl.exp(-0.5 * z * z)
    elif SIGMA == "gelu":
        gate = 0.5 + 0.5 * _erf(0.7071067811865476 * z, FAST)
        value = z * gate
        slope = gate + 0.3989422804014327 * z * tl.exp(-0.5 * z * z)
    elif SIGMA == "gelu_tanh":
        square = z * z
        gate = _sigmoid(1.5957691216057308 * z * (1.0 + 0.044715 * square), FAST)
        value = z * gate
        slope = gate + value * (1.0 - gate) * (1.5957691216057308 + 0.21406448056459276 * square)
    elif SIGMA == "silu":
        gate = _sigmoid(P * z, FAST)
        value = z * gate
        slope = gate + P * value * (1.0 - gate)
    elif SIGMA == "softplus":
        value = tl.maximum(z, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(z)))
        slope = _sigmoid(z, FAST)
    elif SIGMA == "sin":
        value = _sine(z, False, FAST)
        slope = _sine(z, True, FAST)
    elif SIGMA == "cos":
        value = _sine(z, True, FAST)
        slope = -_sine(z, False, FAST)
    elif SIGMA == "relu2":
        positive = tl.maximum(z, 0.0)
        value = positive * positive
        slope = 2.0 * positive
    elif SIGMA == "exp":
        value = tl.exp(z)
        slope = value
    elif SIGMA == "softsign":
        slope = 1.0 / (1.0 + tl.abs(z))
        value = z * slope
        slope = slope * slope
    elif SIGMA == "mish":
        # tanh(log(1 + e)) = e(e + 2)/(e(e + 2) + 2); beyond z = 20 it is 1 in float32, and e² would overflow later
        e = tl.exp(tl.minimum(z, 20.0))
        gate = e * (e + 2.0) / (e * (e + 2.0) + 2.0)
        value = z * gate
        slope = gate + z * (1.0 - gate * gate) * (e / (1.0 + e))
    else:
        tl.static_assert(SIGMA == "polynomial")
        before = 0.0 * z
        value = 1.0 + 0.0 * z
        for degree in tl.static_range(int(P)):
            after = z * value - Q * degree * before
            before = value
            value = after
        slope = P * before
    return value, slope
