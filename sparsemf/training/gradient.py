"""The mean-field gradient in closed form, blocked so that memory stays bounded.

f(x) = (1/N) Σ_i a_i σ(⟨w̃_i, x̃⟩) with x̃ = (x, 1) and w̃ = (w, b) when there is a bias, and R_N = E ℓ(f, y).
With the residual r = ∂ℓ/∂f and z_i = ⟨w̃_i, x̃⟩,

    N ∇_{a_i} R_N = E[r σ(z_i)],        N ∇_{w̃_i} R_N = E[⟨r, a_i⟩ σ′(z_i) x̃].

Both are O(1): the factor N of the mean-field scaling cancels the 1/N of the forward pass (docs/training).

Every array has a leading axis of R replicas, which share nothing but their shapes (and the samples, where x has R = 1).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from sparsemf.activations import Activation
from sparsemf.training.config import Compute
from sparsemf.training.kernels import kernel_for
from sparsemf.training.losses import Loss, Square

CACHED = 1 << 19
"""Preferred number of pre-activations in a block: z and σ′ stay in a core's cache."""

MIN_ROWS = 32
"""Below this many samples a block, matrix products lose their efficiency; then particles are blocked too."""

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
        The largest number of pre-activations z that exist at a time.  A batch is cut into blocks of samples;
        when even ``MIN_ROWS`` samples of all N particles exceed it, the particles are cut as well, at the
        price of evaluating σ twice.
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
        self._z = torch.empty(0)
        self._slope = torch.empty(0)
        self._transposed = torch.empty(0, 0)
        self._fused: bool | None = None

    def _buffers(self, shape: tuple[int, ...], like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size = 1
        for length in shape:
            size *= length
        if self._z.numel() < size or self._z.dtype != like.dtype or self._z.device != like.device:
            self._z = torch.empty(size, dtype=like.dtype, device=like.device)
            self._slope = torch.empty_like(self._z)
        return self._z[:size].view(shape), self._slope[:size].view(shape)

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
        samples = x.shape[1]
        for r in range(outer.shape[0]):
            own = x[0 if x.shape[0] == 1 else r]
            self._backward(outer[r], inner[r], own, f[r], grad_outer[r], grad_inner[r])
        return losses / samples

    def _cut(self, width: int, samples: int) -> tuple[int, int]:
        """(samples, particles) of a block."""
        rows = min(samples, max(MIN_ROWS, min(CACHED, self.block) // max(width, 1)))
        return rows, width if rows * width <= self.block else max(1, min(width, self.block // rows))

    def _one(
        self,
        outer: torch.Tensor,
        inner: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        grad_outer: torch.Tensor,
        grad_inner: torch.Tensor,
    ) -> torch.Tensor:
        width, samples = outer.shape[0], x.shape[0]
        grad_outer.zero_()
        transposed = self._gradient_transposed(inner)
        loss = torch.zeros((), dtype=x.dtype, device=x.device)
        rows, columns = self._cut(width, samples)
        for start in range(0, samples, rows):
            xb, yb = x[start : start + rows], y[start : start + rows]
            if columns == width:
                loss += self._joint(outer, inner, xb, yb, grad_outer, transposed, 1.0 / samples)
            else:
                loss += self._split(outer, inner, xb, yb, grad_outer, transposed, 1.0 / samples, columns)
        _finish(transposed, outer, grad_inner)
        return loss.div_(samples)

    def _gradient_transposed(self, inner: torch.Tensor) -> torch.Tensor:
        shape = (inner.shape[1], inner.shape[0])
        if self._transposed.shape != shape or self._transposed.dtype != inner.dtype:
            self._transposed = inner.new_empty(shape)
        return self._transposed.zero_()

    def _joint(
        self,
        outer: torch.Tensor,
        inner: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        grad_outer: torch.Tensor,
        transposed: torch.Tensor,
        weight: float,
    ) -> torch.Tensor:
        """All particles at once: σ and σ′ are evaluated once for the forward and the backward half."""
        value, slope = self._evaluate(inner, x)
        residual = torch.mm(value, outer).div_(outer.shape[0])
        loss = self.loss.residual_(residual, y)
        _accumulate(value, slope, residual, outer, x, grad_outer, transposed, weight)
        return loss

    def _split(
        self,
        outer: torch.Tensor,
        inner: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        grad_outer: torch.Tensor,
        transposed: torch.Tensor,
        weight: float,
        columns: int,
    ) -> torch.Tensor:
        """Particles in blocks: one sweep for f, a second one for the gradient."""
        width = outer.shape[0]
        residual = outer.new_zeros(x.shape[0], outer.shape[1])
        parts = [slice(j, min(j + columns, width)) for j in range(0, width, columns)]
        for part in parts:
            value, _ = self._evaluate(inner[part], x)
            residual.addmm_(value, outer[part], alpha=1.0 / width)
        loss = self.loss.residual_(residual, y)
        for part in parts:
            value, slope = self._evaluate(inner[part], x)
            _accumulate(value, slope, residual, outer[part], x, grad_outer[part], transposed[:, part], weight)
        return loss

    def _add_forward(self, outer: torch.Tensor, inner: torch.Tensor, x: torch.Tensor, f: torch.Tensor) -> None:
        """f += Σ_i a_i σ(z_i)."""
        width, samples = outer.shape[0], x.shape[0]
        rows, columns = self._cut(width, samples)
        for start in range(0, samples, rows):
            xb, fb = x[start : start + rows], f[start : start + rows]
            for j in range(0, width, columns):
                value, _ = self._evaluate(inner[j : j + columns], xb)
                fb.addmm_(value, outer[j : j + columns])

    def _backward(
        self,
        outer: torch.Tensor,
        inner: torch.Tensor,
        x: torch.Tensor,
        residual: torch.Tensor,
        grad_outer: torch.Tensor,
        grad_inner: torch.Tensor,
    ) -> None:
        width, samples = outer.shape[0], x.shape[0]
        grad_outer.zero_()
        transposed = self._gradient_transposed(inner)
        rows, columns = self._cut(width, samples)
        for start in range(0, samples, rows):
            xb, rb = x[start : start + rows], residual[start : start + rows]
            for j in range(0, width, columns):
                part = slice(j, j + columns)
                value, slope = self._evaluate(inner[part], xb)
                _accumulate(value, slope, rb, outer[part], xb, grad_outer[part], transposed[:, part], 1.0 / samples)
        _finish(transposed, outer, grad_inner)

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
        replicas, width, samples = outer.shape[0], outer.shape[1], x.shape[1]
        losses = torch.empty(replicas, dtype=outer.dtype, device=outer.device)
        at_a_time = max(1, min(CACHED, self.block) // (width * samples))
        for start in range(0, replicas, at_a_time):
            part = slice(start, min(start + at_a_time, replicas))
            count = part.stop - part.start
            a, w = outer[part], inner[part]
            xs = x.expand(count, -1, -1) if x.shape[0] == 1 else x[part]
            value, slope = self._buffers((count, samples, width), x)
            torch.bmm(xs, w.transpose(1, 2), out=value)
            self._kernel(value, slope)
            residual = torch.bmm(value, a).div_(width)
            losses[part] = self.loss.residual_(residual, y if y.shape[0] == 1 else y[part])
            residual.div_(samples)
            grad_outer[part] = torch.bmm(value.transpose(1, 2), residual)
            slope.mul_(residual * a.transpose(1, 2) if a.shape[2] == 1 else torch.bmm(residual, a.transpose(1, 2)))
            grad_inner[part] = torch.bmm(slope.transpose(1, 2), xs)
        return losses.div_(samples)

    def _evaluate(self, inner: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """σ and σ′ at z = x̃ w̃ᵀ, shape (samples, particles), in the kept buffers."""
        value, slope = self._buffers((x.shape[0], inner.shape[0]), x)
        torch.mm(x, inner.T, out=value)
        self._kernel(value, slope)
        return value, slope


def _shared(x: torch.Tensor) -> torch.Tensor:
    """Samples that all replicas share, as the kernels want them: (B, k)."""
    return x[0] if x.shape[0] == 1 else x


def _finish(transposed: torch.Tensor, outer: torch.Tensor, grad_inner: torch.Tensor) -> None:
    # ⟨r, a_i⟩ = r·a_i with one output: the factor a_i once, at the very end
    if outer.shape[1] == 1:
        torch.mul(transposed.T, outer, out=grad_inner)
    else:
        grad_inner.copy_(transposed.T)


def _accumulate(
    value: torch.Tensor,
    slope: torch.Tensor,
    residual: torch.Tensor,
    outer: torch.Tensor,
    x: torch.Tensor,
    grad_outer: torch.Tensor,
    transposed: torch.Tensor,
    weight: float,
) -> None:
    """Add a block's share.  The inner gradient is kept as (k, N): (k × B)(B × N) is several times faster on a CPU
    than the product (N × B)(B × k) that reads σ′ across its rows.
    """
    grad_outer.addmm_(value.T, residual, alpha=weight)
    if outer.shape[1] == 1:
        transposed.addmm_((x * residual).T, slope, alpha=weight)
    else:
        slope.mul_(residual @ outer.T)
        transposed.addmm_(x.T, slope, alpha=weight)
