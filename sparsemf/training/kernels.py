"""σ and σ′ in place, for the trainer's inner loop.

A kernel leaves constants outside, where they cost nothing:

    σ(z) = p·v(s·z),        σ′(z) = q·u(s·z)        with (s, p, q) = ``input_scale``, ``value_scale``, ``slope_scale``.

The caller multiplies samples by s and the weights of matrix products by p and q (s and p are powers of two);
:meth:`Kernel.value_` overwrites s·z by v.  Where u is a function of v, nothing but v is kept between the two halves of
a step, and :meth:`Kernel.backward` puts u, times a factor, in its place in one pass; elsewhere σ′ is stored when σ is
evaluated.  An activation without a kernel of its own falls back on its family's formula, so a new one trains as soon
as it is registered.

Which elementary functions are fast is a property of torch's CPU build.  float32, AVX2, one thread, in units of one
multiplication of cached arrays: sigmoid 5, exp2 3, exp 6, tanh 20 and more, numpy's tanh 15, a fused backward 1.2.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch

from sparsemf.activations import Activation, torch_ops


class Kernel(ABC):
    """σ and σ′ of one activation, elementwise and up to the three scales."""

    input_scale = 1.0
    value_scale = 1.0
    slope_scale = 1.0
    stores_slope = False
    """Whether :meth:`forward_` needs a buffer ``slope`` for u; else :meth:`backward` finds u from v."""

    @abstractmethod
    def value_(self, z: torch.Tensor) -> None:
        """Overwrite s·z by v."""

    def forward_(self, z: torch.Tensor, slope: torch.Tensor | None) -> None:
        """Overwrite s·z by v and, if ``stores_slope``, ``slope`` by u."""
        del slope
        self.value_(z)

    @abstractmethod
    def backward(self, value: torch.Tensor, slope: torch.Tensor | None, factor: torch.Tensor | None) -> torch.Tensor:
        """factor·u, no factor being 1, in ``slope`` where slopes are stored, else in ``value``."""


class _FromValue(Kernel):
    """u is a function of v; constants are broadcast from one element."""

    def __init__(self) -> None:
        self._constant: torch.Tensor | None = None

    def _filled(self, number: float, like: torch.Tensor) -> torch.Tensor:
        """``number``, one for each kernel, in the shape of ``like``."""
        held = self._constant
        if held is None or held.dtype != like.dtype or held.device != like.device:
            held = self._constant = like.new_full((), number)
        return held.expand(like.shape)


class _Relu(_FromValue):
    def value_(self, z: torch.Tensor) -> None:
        z.clamp_(min=0.0)

    def backward(self, value: torch.Tensor, slope: torch.Tensor | None, factor: torch.Tensor | None) -> torch.Tensor:
        above = self._filled(1.0, value) if factor is None else factor
        return torch.ops.aten.threshold_backward.grad_input(above, value, 0.0, grad_input=value)


class _Sigmoid(_FromValue):
    def value_(self, z: torch.Tensor) -> None:
        z.sigmoid_()

    def backward(self, value: torch.Tensor, slope: torch.Tensor | None, factor: torch.Tensor | None) -> torch.Tensor:
        scale = self._filled(1.0, value) if factor is None else factor
        return torch.ops.aten.sigmoid_backward.grad_input(scale, value, grad_input=value)


class _Tanh(_FromValue):
    """tanh z = 2v with v = sigmoid(2z) − ½, and tanh′ z = 4u with u = ¼ − v².

    In float32, for every z, σ is within 3·2⁻²⁴ of tanh z (three units in the last place of values in [½, 1)) and σ′
    within 7·2⁻²⁴ of tanh′ z.  These errors are absolute: as z → 0 the relative one grows like 2⁻²³/|z|.
    """

    input_scale, value_scale, slope_scale = 2.0, 2.0, 4.0

    def value_(self, z: torch.Tensor) -> None:
        z.sigmoid_().sub_(0.5)

    def backward(self, value: torch.Tensor, slope: torch.Tensor | None, factor: torch.Tensor | None) -> torch.Tensor:
        torch.addcmul(self._filled(0.25, value), value, value, value=-1.0, out=value)
        return value if factor is None else value.mul_(factor)


class _Stored(Kernel):
    """u is stored."""

    stores_slope = True

    def backward(self, value: torch.Tensor, slope: torch.Tensor | None, factor: torch.Tensor | None) -> torch.Tensor:
        del value
        return _held(slope) if factor is None else _held(slope).mul_(factor)


def _held(slope: torch.Tensor | None) -> torch.Tensor:
    if slope is None:
        raise ValueError("this kernel stores slopes: expected a buffer for them")
    return slope


class _Abs(_Stored):
    def value_(self, z: torch.Tensor) -> None:
        z.abs_()

    def forward_(self, z: torch.Tensor, slope: torch.Tensor | None) -> None:
        # the library's convention at the kink is the left derivative: σ′(0) = −1
        torch.gt(z, 0.0, out=_held(slope)).mul_(2.0).sub_(1.0)
        z.abs_()


class _Erf(_Stored):
    slope_scale = 2.0 / math.sqrt(math.pi)

    def value_(self, z: torch.Tensor) -> None:
        z.erf_()

    def forward_(self, z: torch.Tensor, slope: torch.Tensor | None) -> None:
        torch.mul(z, z, out=_held(slope)).mul_(-math.log2(math.e)).exp2_()
        z.erf_()


class _Gelu(_Stored):
    """σ = zΦ(z) and σ′ = Φ(z) + zφ(z) by torch's fused kernels."""

    def value_(self, z: torch.Tensor) -> None:
        torch.ops.aten.gelu.out(z, out=z)

    def forward_(self, z: torch.Tensor, slope: torch.Tensor | None) -> None:
        ones = _held(slope).fill_(1.0)
        torch.ops.aten.gelu_backward.grad_input(ones, z, grad_input=ones)
        self.value_(z)


class _Generic(_Stored):
    """The family's own formula."""

    def __init__(self, activation: Activation) -> None:
        self.activation, self.ops = activation, torch_ops()

    def value_(self, z: torch.Tensor) -> None:
        z.copy_(self.activation.value(z, self.ops))

    def forward_(self, z: torch.Tensor, slope: torch.Tensor | None) -> None:
        value, derivative = self.activation.value_and_derivative(z, self.ops)
        _held(slope).copy_(derivative)
        z.copy_(value)


KERNELS: dict[str, Callable[[], Kernel]] = {
    "relu": _Relu,
    "abs": _Abs,
    "tanh": _Tanh,
    "sigmoid": _Sigmoid,
    "erf": _Erf,
    "gelu": _Gelu,
}


def kernel_for(activation: Activation) -> Kernel:
    """The kernel of ``activation``."""
    make = KERNELS.get(activation.name)
    return _Generic(activation) if make is None else make()
