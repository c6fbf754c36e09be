"""The losses of the trainer: value and derivative in the prediction f ∈ R^m.

| name | ℓ(f, y) | r = ∂ℓ/∂f | labels y |
|---|---|---|---|
| square | ½‖f − y‖² | f − y | any |
| huber(δ) | Σ_j ½u_j² where |u_j| ≤ δ, δ(|u_j| − δ/2) elsewhere, u = f − y | clip(u, −δ, δ) | any |
| logistic | Σ_j log(1 + e^{f_j}) − y_j f_j | sigmoid(f) − y | [0, 1] (−1, +1 are read as 0, 1) |
| softmax | log Σ_j e^{f_j} − ⟨y, f⟩ | softmax(f) − y | a probability vector; m ≥ 2 |

All are convex in f.  ‖r‖ is bounded for huber (δ√m), logistic (√m) and softmax (√2), not for square.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch

from sparsemf.exceptions import InputError

NAMES = ("square", "huber", "logistic", "softmax")


class Loss(ABC):
    """A loss, evaluated in place."""

    name: str
    regression: bool

    @abstractmethod
    def residual_(self, f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Overwrite f (…, B, m) by ∂ℓ/∂f and return Σ over B of ℓ, shape (…); y broadcasts to f."""

    def labels(self, y: np.ndarray) -> np.ndarray:
        """``y`` (n, m) as this loss reads it; raises :class:`InputError` on labels that it cannot have."""
        return y


class Square(Loss):
    name, regression = "square", True

    def residual_(self, f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        f -= y
        return f.square().sum(dim=(-2, -1)).mul_(0.5)


class Huber(Loss):
    name, regression = "huber", True

    def __init__(self, delta: float) -> None:
        self.delta = delta

    def residual_(self, f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        f -= y
        clipped = f.clamp(-self.delta, self.delta)
        # with c = clip(u): c·u − c²/2 is ½u² inside and δ|u| − δ²/2 outside
        value = (clipped * f).sub_(clipped.square().mul_(0.5)).sum(dim=(-2, -1))
        f.copy_(clipped)
        return value


class Logistic(Loss):
    name, regression = "logistic", False

    def residual_(self, f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        value = (torch.nn.functional.softplus(f) - y * f).sum(dim=(-2, -1))
        f.sigmoid_().sub_(y)
        return value

    def labels(self, y: np.ndarray) -> np.ndarray:
        if y.size and np.isin(y, (-1.0, 1.0)).all():
            return 0.5 * (y + 1.0)
        if (y < 0).any() or (y > 1).any():
            raise InputError(
                f"loss logistic: expected labels in [0, 1] or all ±1, got values from {y.min():g} to {y.max():g}"
            )
        return y


class Softmax(Loss):
    name, regression = "softmax", False

    def residual_(self, f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        value = (torch.logsumexp(f, dim=-1, keepdim=True) - (y * f).sum(dim=-1, keepdim=True)).sum(dim=(-2, -1))
        f.copy_(torch.softmax(f, dim=-1)).sub_(y)
        return value

    def labels(self, y: np.ndarray) -> np.ndarray:
        if y.shape[1] < 2:
            raise InputError("loss softmax: expected one-hot labels with m ≥ 2 columns, got one; take loss logistic")
        if (y < 0).any() or not np.allclose(y.sum(axis=1), 1.0, rtol=0, atol=1e-6):
            raise InputError("loss softmax: expected each row of y to be a probability vector (one-hot labels)")
        return y


def loss_named(name: str, huber_delta: float) -> Loss:
    """The loss of a configuration; raises :class:`InputError` on an unknown name or δ ≤ 0."""
    if name == "huber":
        if not (math.isfinite(huber_delta) and huber_delta > 0):
            raise InputError(f"huber_delta: expected a number > 0, got {huber_delta}")
        return Huber(huber_delta)
    if name not in NAMES:
        raise InputError(f"loss: expected one of {', '.join(NAMES)}, got {name!r}")
    return {"square": Square, "logistic": Logistic, "softmax": Softmax}[name]()
