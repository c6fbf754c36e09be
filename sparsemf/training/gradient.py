"""The mean-field gradient in closed form, blocked so that memory stays bounded.

f(x) = (1/N) Σ_i a_i σ(⟨w̃_i, x̃⟩) with x̃ = (x, 1) and w̃ = (w, b) when there is a bias, and R_N = ½ E‖f − y‖².
With the residual r = f − y and z_i = ⟨w̃_i, x̃⟩,

    N ∇_{a_i} R_N = E[r σ(z_i)],        N ∇_{w̃_i} R_N = E[⟨r, a_i⟩ σ′(z_i) x̃].

Both are O(1): the factor N of the mean-field scaling cancels the 1/N of the forward pass (docs/training).
"""

from __future__ import annotations

import torch

from sparsemf.activations import Activation
from sparsemf.training.kernels import kernel_for

CACHED = 1 << 19
"""Preferred number of pre-activations in a block: z and σ′ stay in a core's cache."""

MIN_ROWS = 32
"""Below this many samples a block, matrix products lose their efficiency; then particles are blocked too."""


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
    """

    def __init__(self, activation: Activation, block: int) -> None:
        self.activation = activation
        self.block = block
        self._kernel = kernel_for(activation)
        self._z = torch.empty(0)
        self._slope = torch.empty(0)
        self._transposed = torch.empty(0, 0)

    def _buffers(self, rows: int, columns: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size = rows * columns
        if self._z.numel() < size or self._z.dtype != like.dtype or self._z.device != like.device:
            self._z = torch.empty(size, dtype=like.dtype, device=like.device)
            self._slope = torch.empty_like(self._z)
        return self._z[:size].view(rows, columns), self._slope[:size].view(rows, columns)

    def __call__(
        self,
        outer: torch.Tensor,
        inner: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        grad_outer: torch.Tensor,
        grad_inner: torch.Tensor,
    ) -> torch.Tensor:
        """Write N∇_a R_N into ``grad_outer`` (N, m), N∇_w̃ R_N into ``grad_inner`` (N, k); return R_N (0-dim).

        ``outer`` (N, m), ``inner`` (N, k), ``x`` (B, k) with its column of ones when biased, ``y`` (B, m);
        expectations are means over the B samples.
        """
        width, samples = outer.shape[0], x.shape[0]
        grad_outer.zero_()
        if self._transposed.shape != (inner.shape[1], width) or self._transposed.dtype != x.dtype:
            self._transposed = inner.new_empty(inner.shape[1], width)
        transposed = self._transposed.zero_()
        loss = torch.zeros((), dtype=x.dtype, device=x.device)
        rows = min(samples, max(MIN_ROWS, min(CACHED, self.block) // width))
        columns = width if rows * width <= self.block else max(1, min(width, self.block // rows))
        for start in range(0, samples, rows):
            xb, yb = x[start : start + rows], y[start : start + rows]
            if columns == width:
                loss += self._joint(outer, inner, xb, yb, grad_outer, transposed, 1.0 / samples)
            else:
                loss += self._split(outer, inner, xb, yb, grad_outer, transposed, 1.0 / samples, columns)
        # ⟨r, a_i⟩ = r·a_i with one output: the factor a_i once, at the very end
        if outer.shape[1] == 1:
            torch.mul(transposed.T, outer, out=grad_inner)
        else:
            grad_inner.copy_(transposed.T)
        return loss.mul_(0.5 / samples)

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
        residual = torch.addmm(y, value, outer, beta=-1.0, alpha=1.0 / outer.shape[0])
        _accumulate(value, slope, residual, outer, x, grad_outer, transposed, weight)
        return residual.square().sum()

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
        residual = y.neg()
        parts = [slice(j, min(j + columns, width)) for j in range(0, width, columns)]
        for part in parts:
            value, _ = self._evaluate(inner[part], x)
            residual.addmm_(value, outer[part], alpha=1.0 / width)
        for part in parts:
            value, slope = self._evaluate(inner[part], x)
            _accumulate(value, slope, residual, outer[part], x, grad_outer[part], transposed[:, part], weight)
        return residual.square().sum()

    def _evaluate(self, inner: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """σ and σ′ at z = x̃ w̃ᵀ, shape (samples, particles), in the kept buffers."""
        value, slope = self._buffers(x.shape[0], inner.shape[0], x)
        torch.mm(x, inner.T, out=value)
        self._kernel(value, slope)
        return value, slope


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
