"""The mean-field gradient in closed form, blocked so that memory stays bounded.

f(x) = (1/N) Σ_i a_i σ(⟨w̃_i, x̃⟩) with x̃ = (x, 1) and w̃ = (w, b) when there is a bias, and R_N = E ℓ(f, y).
With the residual r = ∂ℓ/∂f and z_i = ⟨w̃_i, x̃⟩,

    N ∇_{a_i} R_N = E[r σ(z_i)],        N ∇_{w̃_i} R_N = E[⟨r, a_i⟩ σ′(z_i) x̃].

Both are O(1): the factor N of the mean-field scaling cancels the 1/N of the forward pass (docs/training).

Pre-activations lie as (particles, samples).  With N·B of them, a step costs two products of 2·k·N·B operations, σ, and
three passes of about one multiplication each; docs/benchmarks has figures.

Every array has a leading axis of R replicas, which share nothing but their shapes (and the samples, where x has R = 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from sparsemf.activations import Activation
from sparsemf.training.config import Compute
from sparsemf.training.kernels import kernel_for
from sparsemf.training.losses import Loss, Square

TILE = 1 << 18
"""Pre-activations that the products and σ work on at a time on a CPU: they stay in a core's cache."""

MIN_ROWS = 32
"""Below this many samples a block, matrix products lose their efficiency; then σ is evaluated twice instead."""

MAX_ROWS = 512
"""Samples a block, unless the width is so small that more of them are needed for a tile."""

NARROW = 16
"""Below this many columns of w̃, the product (k × B)(B × N) is faster than (N × B)(B × k)."""

SMALL = 1 << 16
"""Pre-activations of a replica's step up to which replicas are multiplied together: calls cost more than arithmetic."""

Reduce = Callable[[torch.Tensor], torch.Tensor]
"""Sums its argument over all ranks, in place."""


class MeanFieldGradient:
    """Evaluates loss and gradient for fixed shapes, with buffers that are kept between calls.

    Parameters
    ----------
    activation :
        σ.
    block :
        The largest number of pre-activations z that exist at a time.  A batch is cut into blocks of samples, which
        are worked on in tiles of particles; when even ``MIN_ROWS`` samples of all N particles exceed it, f comes first
        and the gradient after it, at the price of evaluating σ twice.
    loss :
        ℓ, ½‖f − y‖² by default.
    compute :
        ``float32``, ``tf32`` or ``bf16``: the operands of the matrix products on CUDA; sums and state are float32.
        Where the fused kernels cannot be used, torch's own products run in float32.
    reduce, width :
        For particles that are spread over ranks: f is summed by ``reduce`` once a call, and divided by ``width``, the
        number of particles of all ranks together.
    """

    def __init__(
        self,
        activation: Activation,
        block: int,
        loss: Loss | None = None,
        *,
        compute: Compute = "float32",
        reduce: Reduce | None = None,
        width: int | None = None,
    ) -> None:
        self.activation = activation
        self.block = block
        self.loss = Square() if loss is None else loss
        self.compute: Compute = compute
        self.reduce = reduce
        self.width = width
        self._kernel = kernel_for(activation)
        self._buffers: dict[str, torch.Tensor] = {}
        self._fused: bool | None = None

    def _buffer(self, name: str, size: int, like: torch.Tensor) -> torch.Tensor:
        """``size`` numbers that are kept between calls, for one purpose each."""
        held = self._buffers.get(name)
        if held is None or held.numel() < size or held.dtype != like.dtype or held.device != like.device:
            self._buffers.pop(name, None)
            held = self._buffers[name] = torch.empty(size, dtype=like.dtype, device=like.device)
        return held[:size]

    def __call__(
        self,
        outer: torch.Tensor,
        inner: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        grad_outer: torch.Tensor,
        grad_inner: torch.Tensor,
    ) -> torch.Tensor:
        """Write N∇_a R_N into ``grad_outer`` and N∇_w̃ R_N into ``grad_inner``; return R_N of each replica, (R,).

        ``outer`` (R, N, m), ``inner`` (R, N, k), ``x`` (R or 1, B, k) with its column of ones when biased, ``y``
        (R or 1, B, m); expectations are means over the B samples.  Without the leading axis everywhere: one replica,
        and a 0-dim loss.
        """
        if outer.dim() == 2:
            return self(*(t.unsqueeze(0) for t in (outer, inner, x, y, grad_outer, grad_inner)))[0]
        if self._on_device(outer, inner):
            return self._device_call(outer, inner, x, y, grad_outer, grad_inner)
        replicas, width, samples = outer.shape[0], outer.shape[1], x.shape[1]
        if self.reduce is not None:
            return self._spread(outer, inner, x, y, grad_outer, grad_inner)
        if replicas > 1 and width * samples <= SMALL:
            return self._together(outer, inner, x, y, grad_outer, grad_inner)
        losses = torch.empty(replicas, dtype=outer.dtype, device=outer.device)
        for r in range(replicas):
            own = 0 if x.shape[0] == 1 else r
            losses[r] = self._one(outer[r], inner[r], x[own], y[own], grad_outer[r], grad_inner[r])
        return losses

    def predict(self, outer: torch.Tensor, inner: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """f (R, B, m) at ``x`` (R or 1, B, k), summed over ranks."""
        width = self.width or outer.shape[1]
        if self._on_device(outer, inner):
            from sparsemf.training import triton_kernels

            f = triton_kernels.predictions(outer, inner, _shared(x), None, self.activation, self.compute)
        else:
            f = outer.new_zeros(outer.shape[0], x.shape[1], outer.shape[2])
            for r in range(outer.shape[0]):
                self._add_forward(outer[r], inner[r], x[0 if x.shape[0] == 1 else r], f[r])
        if self.reduce is not None:
            self.reduce(f)
        return f.div_(width)

    def _on_device(self, outer: torch.Tensor, inner: torch.Tensor) -> bool:
        if self._fused is None:
            self._fused = False
            if outer.is_cuda:
                from sparsemf.training import triton_kernels

                why = triton_kernels.supported(
                    self.activation, inner.shape[-1], outer.shape[-1], str(outer.dtype).removeprefix("torch.")
                )
                self._fused = why is None
        return self._fused

    def _device_call(
        self,
        outer: torch.Tensor,
        inner: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        grad_outer: torch.Tensor,
        grad_inner: torch.Tensor,
    ) -> torch.Tensor:
        """Two kernels: f, and the gradients with z evaluated again; nothing of size B·N exists."""
        from sparsemf.training import triton_kernels

        f = self.predict(outer, inner, x)
        losses = self.loss.residual_(f, y)
        samples = x.shape[1]
        f.div_(samples)
        sigma = self.activation
        triton_kernels.gradients(outer, inner, _shared(x), f, None, sigma, self.compute, grad_outer, grad_inner)
        return losses / samples

    def _spread(
        self,
        outer: torch.Tensor,
        inner: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        grad_outer: torch.Tensor,
        grad_inner: torch.Tensor,
    ) -> torch.Tensor:
        """Particles on several ranks: f of the whole batch first, one sum over the ranks, then this rank's gradient."""
        f = self.predict(outer, inner, x)
        losses = self.loss.residual_(f, y)
        for r in range(outer.shape[0]):
            own = x[0 if x.shape[0] == 1 else r]
            self._backward(outer[r], inner[r], own, f[r], grad_outer[r], grad_inner[r])
        return losses / x.shape[1]

    def _tile(self, like: torch.Tensor) -> int:
        """Pre-activations of a tile; elsewhere than on a CPU a kernel call costs more than a cache saves."""
        return min(TILE, self.block) if like.device.type == "cpu" else self.block

    def _one(
        self,
        outer: torch.Tensor,
        inner: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        grad_outer: torch.Tensor,
        grad_inner: torch.Tensor,
    ) -> torch.Tensor:
        """One replica with all its particles here."""
        width, samples = outer.shape[0], x.shape[0]
        tile = self._tile(x)
        if self.block // width < min(samples, MIN_ROWS):
            f = outer.new_zeros(samples, outer.shape[1])
            self._add_forward(outer, inner, x, f, 1.0 / width)
            loss = self.loss.residual_(f, y)
            self._backward(outer, inner, x, f, grad_outer, grad_inner)
            return loss / samples
        rows = _even(samples, min(max(MAX_ROWS, tile // width), self.block // width))
        sums = self._sums(inner, outer, grad_outer, grad_inner)
        loss = torch.zeros((), dtype=x.dtype, device=x.device)
        for start in range(0, samples, rows):
            xb, yb = x[start : start + rows], y[start : start + rows]
            loss += self._joint(outer, inner, xb, yb, grad_outer, sums, 1.0 / samples, tile)
        _finish(sums, outer, grad_inner)
        return loss.div_(samples)

    def _joint(
        self,
        outer: torch.Tensor,
        inner: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        grad_outer: torch.Tensor,
        sums: torch.Tensor,
        weight: float,
        tile: int,
    ) -> torch.Tensor:
        """A block of samples and all particles: σ is evaluated once for the forward and the backward half."""
        kernel, rows, width = self._kernel, x.shape[0], outer.shape[0]
        columns = max(1, tile // rows)
        z = self._buffer("value", rows * width, x)
        stored = self._buffer("slope", rows * width, x) if kernel.stores_slope else None
        scaled = self._scaled(x).T
        residual = outer.new_zeros(rows, outer.shape[1])
        tiles: list[tuple[slice, torch.Tensor, torch.Tensor | None]] = []
        for j in range(0, width, columns):
            part = slice(j, min(j + columns, width))
            place, shape = slice(rows * part.start, rows * part.stop), (part.stop - part.start, rows)
            value = z[place].view(shape)
            slope = None if stored is None else stored[place].view(shape)
            torch.mm(inner[part], scaled, out=value)
            kernel.forward_(value, slope)
            residual.addmm_(value.T, outer[part], alpha=kernel.value_scale / width)
            tiles.append((part, value, slope))
        loss = self.loss.residual_(residual, y)
        weighted = _weighted(x, residual)
        for part, value, slope in tiles:
            self._accumulate(value, slope, residual, outer[part], weighted, grad_outer[part], sums[part], weight)
        return loss

    def _scaled(self, x: torch.Tensor) -> torch.Tensor:
        scale = self._kernel.input_scale
        return x if scale == 1.0 else x * scale

    def _cut(self, width: int, samples: int, like: torch.Tensor) -> tuple[int, int]:
        """(samples, particles) of a tile where the two halves of the step are apart: about square."""
        tile = self._tile(like)
        rows = _even(samples, max(MIN_ROWS, math.isqrt(tile), tile // max(width, 1)))
        return rows, max(1, min(width, tile // rows))

    def _add_forward(
        self, outer: torch.Tensor, inner: torch.Tensor, x: torch.Tensor, f: torch.Tensor, weight: float = 1.0
    ) -> None:
        """f += weight·Σ_i a_i σ(z_i)."""
        width, samples = outer.shape[0], x.shape[0]
        rows, columns = self._cut(width, samples, x)
        for start in range(0, samples, rows):
            xb, fb = x[start : start + rows], f[start : start + rows]
            scaled = self._scaled(xb).T
            for j in range(0, width, columns):
                w, a = inner[j : j + columns], outer[j : j + columns]
                value = self._buffer("value", w.shape[0] * xb.shape[0], x).view(w.shape[0], xb.shape[0])
                torch.mm(w, scaled, out=value)
                self._kernel.value_(value)
                fb.addmm_(value.T, a, alpha=weight * self._kernel.value_scale)

    def _backward(
        self,
        outer: torch.Tensor,
        inner: torch.Tensor,
        x: torch.Tensor,
        residual: torch.Tensor,
        grad_outer: torch.Tensor,
        grad_inner: torch.Tensor,
    ) -> None:
        """The gradient at a given ∂ℓ/∂f of the whole batch."""
        width, samples = outer.shape[0], x.shape[0]
        sums = self._sums(inner, outer, grad_outer, grad_inner)
        rows, columns = self._cut(width, samples, x)
        for start in range(0, samples, rows):
            xb, rb = x[start : start + rows], residual[start : start + rows]
            scaled, weighted = self._scaled(xb).T, _weighted(xb, rb)
            for j in range(0, width, columns):
                part = slice(j, min(j + columns, width))
                shape = (part.stop - part.start, xb.shape[0])
                value = self._buffer("value", shape[0] * shape[1], x).view(shape)
                slope = None
                if self._kernel.stores_slope:
                    slope = self._buffer("slope", shape[0] * shape[1], x).view(shape)
                torch.mm(inner[part], scaled, out=value)
                self._kernel.forward_(value, slope)
                self._accumulate(value, slope, rb, outer[part], weighted, grad_outer[part], sums[part], 1.0 / samples)
        _finish(sums, outer, grad_inner)

    def _sums(
        self, inner: torch.Tensor, outer: torch.Tensor, grad_outer: torch.Tensor, grad_inner: torch.Tensor
    ) -> torch.Tensor:
        """Zeros (N, k) for the inner gradient's sums; with few columns the transpose of what lies as (k, N)."""
        grad_outer.zero_()
        width, columns = inner.shape
        if columns >= NARROW:
            return grad_inner.zero_()
        return self._buffer("sums", width * columns, outer).zero_().view(columns, width).T

    def _accumulate(
        self,
        value: torch.Tensor,
        slope: torch.Tensor | None,
        residual: torch.Tensor,
        outer: torch.Tensor,
        weighted: torch.Tensor,
        grad_outer: torch.Tensor,
        sums: torch.Tensor,
        weight: float,
    ) -> None:
        """Add a tile's share: ``value``, ``slope`` (particles, samples); the others are the tile's rows."""
        kernel, factor = self._kernel, None
        grad_outer.addmm_(value, residual, alpha=weight * kernel.value_scale)
        if outer.shape[1] > 1:
            factor = self._buffer("factor", value.numel(), value).view(value.shape)
            torch.mm(outer, residual.T, out=factor)
        sums.addmm_(kernel.backward(value, slope, factor), weighted, alpha=weight * kernel.slope_scale)

    def _together(
        self,
        outer: torch.Tensor,
        inner: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        grad_outer: torch.Tensor,
        grad_inner: torch.Tensor,
    ) -> torch.Tensor:
        """Small replicas in batched products, as many at a time as the cache holds."""
        kernel = self._kernel
        replicas, width, samples = outer.shape[0], outer.shape[1], x.shape[1]
        losses = torch.empty(replicas, dtype=outer.dtype, device=outer.device)
        at_a_time = max(1, min(2 * TILE, self.block) // (width * samples))
        for start in range(0, replicas, at_a_time):
            part = slice(start, min(start + at_a_time, replicas))
            count = part.stop - part.start
            a, w = outer[part], inner[part]
            xs = x.expand(count, -1, -1) if x.shape[0] == 1 else x[part]
            size, shape = count * samples * width, (count, samples, width)
            value = self._buffer("value", size, x).view(shape)
            slope = self._buffer("slope", size, x).view(shape) if kernel.stores_slope else None
            torch.bmm(self._scaled(xs), w.transpose(1, 2), out=value)
            kernel.forward_(value, slope)
            residual = torch.bmm(value, a).mul_(kernel.value_scale / width)
            losses[part] = self.loss.residual_(residual, y if y.shape[0] == 1 else y[part])
            residual.div_(samples)
            torch.bmm(value.transpose(1, 2), residual, out=grad_outer[part]).mul_(kernel.value_scale)
            if a.shape[2] == 1:
                slope = kernel.backward(value, slope, None)
                torch.bmm(slope.transpose(1, 2), xs * residual, out=grad_inner[part]).mul_(a)
            else:
                factor = torch.bmm(residual, a.transpose(1, 2))
                slope = kernel.backward(value, slope, factor)
                torch.bmm(slope.transpose(1, 2), xs, out=grad_inner[part])
            grad_inner[part].mul_(kernel.slope_scale)
        return losses.div_(samples)


def _even(samples: int, rows: int) -> int:
    """At most ``rows`` samples a block, in blocks of about one size."""
    return -(-samples // -(-samples // max(1, min(rows, samples))))


def _shared(x: torch.Tensor) -> torch.Tensor:
    """Samples that all replicas share, as the kernels want them: (B, k)."""
    return x[0] if x.shape[0] == 1 else x


def _weighted(x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """⟨r, a_i⟩ = r·a_i with one output: r goes to the samples here, a_i to the sums at the very end."""
    return x * residual if residual.shape[1] == 1 else x


def _finish(sums: torch.Tensor, outer: torch.Tensor, grad_inner: torch.Tensor) -> None:
    """∇_w̃ from its sums, which may lie in ``grad_inner`` already."""
    if outer.shape[1] == 1:
        torch.mul(sums, outer, out=grad_inner)
    elif sums.data_ptr() != grad_inner.data_ptr():
        grad_inner.copy_(sums)
