"""Bounds |g| ≤ G0 + G1‖θ‖ of the trainer's own drift g_i = N∇_{θ_i}R_N, where they can be proved (docs/moments).

θ = (α, w̃), a = R tanh(α/R) in each of the m outputs (the bounded outer weights), so |a_j| ≤ R and |∂a_j/∂α_j| ≤
1.  For one sample with residual derivative r = ∂ℓ/∂f,

    g_α = (r_j σ(z)(1 − a_j²/R²))_j,   g_w̃ = ⟨r, a⟩σ′(z) x̃,     ‖g‖² ≤ ‖r‖₂²σ(z)² + (R‖r‖₁ sup|σ′|)²‖x̃‖²,

and the drift is a mean of these over the samples of a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.exceptions import InputError

Array = NDArray[np.float64]
Loss = Literal["square", "logistic", "softmax", "huber"]
Outer = Literal["free", "bounded"]

UP = 1.0 + 1e-12
"""Covers the rounding of the norms and means below, which are sums of positive terms."""


@dataclass(frozen=True)
class DriftBound:
    """|g| ≤ ``g0`` + ``g1``·‖θ‖ under ``assumptions``; or none, and ``why_not`` says why."""

    holds: bool
    g0: float = math.inf
    g1: float = 0.0
    assumptions: tuple[str, ...] = ()
    why_not: str | None = None

    @classmethod
    def constant(cls, g0: float) -> DriftBound:
        """|g| ≤ g0, given by the caller."""
        return cls(True, g0)

    @classmethod
    def none(cls, why: str) -> DriftBound:
        return cls(False, why_not=why)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        g0, g1 = (self.g0, self.g1) if self.holds else (None, None)
        return {
            "holds": self.holds,
            "g0": g0,
            "g1": g1,
            "assumptions": list(self.assumptions),
            "why_not": self.why_not,
        }


def drift_bound(
    activation: Activation,
    x: Array | None,
    y: Array | None,
    *,
    outer: Outer = "free",
    outer_bound: float | None = None,
    loss: Loss = "square",
    huber_delta: float | None = None,
    batch: int | None = None,
) -> DriftBound:
    """The drift bound of a training problem.

    Parameters
    ----------
    activation :
        σ; its declared sup|σ| (``bound``) and sup|σ′| (``lipschitz``) are used.
    x, y :
        The whole training set: x (n, k) with its column of ones when the student has biases, y (n, m).  None when
        inputs are drawn afresh.
    outer, outer_bound :
        ``bounded``: a = R tanh(α/R) with R = ``outer_bound``; ``free``: a itself is trained.
    loss, huber_delta :
        ∂ℓ/∂f: square f − y; logistic of modulus ≤ 1 in each output; softmax p − y with y in the simplex; Huber: f
        − y clipped to ±δ in each output.
    batch :
        Samples of the smallest step when steps use a part of the set (the bound takes the worst ones); None: all.

    Raises :class:`~sparsemf.exceptions.InputError` when options contradict each other or shapes do not fit.
    """
    if loss not in get_args(Loss):
        raise InputError(f"drift bound: expected a loss of {', '.join(get_args(Loss))}, got {loss!r}")
    if loss == "huber" and not (huber_delta is not None and 0 < huber_delta < math.inf):
        raise InputError(f"drift bound: the Huber loss needs δ > 0, got {huber_delta}")
    if outer == "free":
        return DriftBound.none(
            "the outer weights are free: |N∇_w R_N| grows like ‖a‖ times the residual, which itself grows with the "
            "weights, so no bound of the drift holds for all θ; train with bounded outer weights (outer = bounded)"
        )
    if outer != "bounded" or not (outer_bound is not None and 0 < outer_bound < math.inf):
        raise InputError(f"drift bound: bounded outer weights need a bound R > 0, got {outer!r} and {outer_bound}")
    if x is None or y is None:
        return DriftBound.none(
            "inputs are drawn afresh from a Gaussian law: ‖x‖ has no bound, so the drift of a step is bounded in "
            "expectation only; train on a fixed set (sampling = full or minibatch)"
        )
    if not math.isfinite(activation.lipschitz):
        return DriftBound.none(f"sup|σ′| of {activation.name} is infinite, so the drift grows faster than linearly")
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] != y.shape[0] or x.shape[0] < 1:
        raise InputError(f"drift bound: expected x (n, k) and y (n, m), got {x.shape} and {y.shape}")
    residuals = _residuals(y, loss, outer_bound * activation.bound * UP, huber_delta)
    if residuals is None:
        return DriftBound.none(
            f"the square loss with the unbounded activation {activation.name}: the residual grows with all "
            "particles, so the drift is not bounded linearly in ‖θ‖; take a bounded activation or the Huber loss"
        )
    return _bound(activation, x, residuals, outer_bound, loss, x.shape[0] if batch is None else batch)


def _residuals(y: Array, loss: Loss, largest: float, delta: float | None) -> tuple[Array, Array] | None:
    """Bounds of (‖r‖₂, ‖r‖₁) for each sample, given |f_j| ≤ ``largest``; None when there is none."""
    rows, outputs = y.shape
    if loss == "softmax":
        if (y < 0).any() or not np.allclose(y.sum(1), 1.0, atol=1e-6):
            raise InputError("drift bound: the softmax loss needs labels y in the simplex (one-hot rows)")
        # ‖p − y‖₁ ≤ ‖p‖₁ + ‖y‖₁ and ‖p − y‖₂² ≤ ‖p‖₂² + ‖y‖₂² for non-negative entries
        return np.full(rows, math.sqrt(2.0)) * (1 + 1e-5), np.full(rows, 2.0) * (1 + 1e-5)
    if loss == "logistic":
        return np.full(rows, math.sqrt(outputs)), np.full(rows, float(outputs))
    if loss == "square" and not math.isfinite(largest):
        return None
    each = largest + np.abs(y)
    if loss == "huber" and delta is not None:
        each = np.minimum(each, delta)
    return np.linalg.norm(each, axis=1), each.sum(1)


def _bound(
    activation: Activation, x: Array, residuals: tuple[Array, Array], radius: float, loss: Loss, batch: int
) -> DriftBound:
    length = np.linalg.norm(x, axis=1)
    two, one = residuals
    inner = radius * activation.lipschitz * one * length
    given = (
        f"outer weights |a| ≤ {radius:g}, with the decay acting on α and w",
        f"{loss} loss on a fixed set of {x.shape[0]} samples"
        + ("" if batch >= x.shape[0] else f", steps of at least {batch} different ones"),
    )
    if math.isfinite(activation.bound):
        outer = two * activation.bound
        joint = _worst_mean(np.hypot(outer, inner), batch)
        apart = math.hypot(_worst_mean(outer, batch), _worst_mean(inner, batch))
        sups = f"sup|σ| ≤ {activation.bound:.6g}, sup|σ′| ≤ {activation.lipschitz:.6g} of {activation.name}"
        return DriftBound(True, min(joint, apart) * UP, 0.0, (*given, sups))
    at_zero = abs(float(activation.value(np.zeros(1))[0]))
    g0 = math.hypot(_worst_mean(two * at_zero, batch), _worst_mean(inner, batch))
    g1 = _worst_mean(two * activation.lipschitz * length, batch)
    slope = f"{activation.lipschitz:.6g}"
    sups = f"|σ(z)| ≤ {at_zero:.6g} + {slope}|z|, sup|σ′| ≤ {slope} of {activation.name}"
    return DriftBound(True, g0 * UP, g1 * UP, (*given, sups))


def _worst_mean(values: Array, batch: int) -> float:
    """The largest mean of ``batch`` of the values."""
    size = min(max(batch, 1), values.size)
    return float(np.partition(values, values.size - size)[values.size - size :].mean())
