"""σ and σ′ in place, for the trainer's inner loop.

``kernel(z, slope)`` overwrites the pre-activations z by σ(z) and ``slope`` by σ′(z), elementwise, both of the
same shape.  The common activations have a kernel without temporaries; every other one falls back on the
family's own formula, so a new activation trains as soon as it is registered.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from sparsemf.activations import Activation, torch_ops

Kernel = Callable[[torch.Tensor, torch.Tensor], None]


def _relu(z: torch.Tensor, slope: torch.Tensor) -> None:
    z.clamp_(min=0.0)
    torch.sign(z, out=slope)


def _abs(z: torch.Tensor, slope: torch.Tensor) -> None:
    # the library's convention at the kink is the left derivative: σ′(0) = −1
    torch.gt(z, 0.0, out=slope)
    slope.mul_(2.0).sub_(1.0)
    z.abs_()


def _tanh(z: torch.Tensor, slope: torch.Tensor) -> None:
    z.tanh_()
    torch.mul(z, z, out=slope)
    slope.neg_().add_(1.0)


def _sigmoid(z: torch.Tensor, slope: torch.Tensor) -> None:
    z.sigmoid_()
    torch.mul(z, z, out=slope)
    slope.neg_().add_(z)


def _erf(z: torch.Tensor, slope: torch.Tensor) -> None:
    torch.mul(z, z, out=slope)
    slope.neg_().exp_().mul_(2.0 / math.sqrt(math.pi))
    z.erf_()


class _Gelu:
    """σ = zΦ, σ′ = Φ + zφ; one scratch buffer, kept between calls."""

    def __init__(self) -> None:
        self.scratch = torch.empty(0)

    def __call__(self, z: torch.Tensor, slope: torch.Tensor) -> None:
        if self.scratch.numel() < z.numel() or self.scratch.dtype != z.dtype or self.scratch.device != z.device:
            self.scratch = torch.empty(z.numel(), dtype=z.dtype, device=z.device)
        density = self.scratch[: z.numel()].view(z.shape)
        torch.mul(z, z, out=density)
        density.mul_(-0.5).exp_()
        torch.mul(z, math.sqrt(0.5), out=slope)
        slope.erf_().add_(1.0).mul_(0.5)
        density.mul_(z)
        z.mul_(slope)
        slope.add_(density, alpha=1.0 / math.sqrt(2.0 * math.pi))


KERNELS: dict[str, Callable[[], Kernel]] = {
    "relu": lambda: _relu,
    "abs": lambda: _abs,
    "tanh": lambda: _tanh,
    "sigmoid": lambda: _sigmoid,
    "erf": lambda: _erf,
    "gelu": _Gelu,
}


def kernel_for(activation: Activation) -> Kernel:
    """The in-place kernel of ``activation``."""
    if (make := KERNELS.get(activation.name)) is not None:
        return make()
    ops = torch_ops()

    def generic(z: torch.Tensor, slope: torch.Tensor) -> None:
        value, derivative = activation.value_and_derivative(z, ops)
        slope.copy_(derivative)
        z.copy_(value)

    return generic
