"""The Langevin update as a Triton kernel that makes its own noise, the same numbers wherever a particle lives."""

# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from sparsemf.exceptions import InputError
from sparsemf.training.triton_sigma import INTERPRETED

jit: Any = triton.jit


@jit
def _gaussian(word):
    """Box–Muller on the halves of a 64-bit word: (radius·cos, radius·sin), in float64 and rounded once.

    In float32 the uniform number loses its last bits and ln u near 1 all of its own: the CPU's noise would differ.
    """
    high = (word >> 32).to(tl.uint32).to(tl.float64)
    low = (word & 0xFFFFFFFF).to(tl.uint32).to(tl.float64)
    radius = tl.sqrt(-2.0 * tl.log((high + 0.5) * 2.3283064365386963e-10))
    angle = low * 1.4629180792671596e-09
    return (radius * tl.cos(angle)).to(tl.float32), (radius * tl.sin(angle)).to(tl.float32)


@jit
def _interleave(a, b, c, d, BLOCK: tl.constexpr):
    """(a₀, b₀, c₀, d₀, a₁, …), shape (4·BLOCK,)."""
    return tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (4 * BLOCK,))


@jit
def _noise(seed, stream, step, counter, BLOCK: tl.constexpr):
    """Coordinates 4q … 4q + 3 and 4K + 4q … 4K + 4q + 3 of each counter i·K + q, two arrays (4·BLOCK,)."""
    zero = tl.zeros((BLOCK,), tl.uint64)
    w0, w1, w2, w3 = tl.philox(seed, counter, zero + step.to(tl.uint64), zero + stream.to(tl.uint64), zero)
    c0, s0 = _gaussian(w0)
    c1, s1 = _gaussian(w1)
    c2, s2 = _gaussian(w2)
    c3, s3 = _gaussian(w3)
    return _interleave(c0, c1, c2, c3, BLOCK), _interleave(s0, s1, s2, s3, BLOCK)


@jit
def _where(start, count, D: tl.constexpr, BLOCK: tl.constexpr, HALF: tl.constexpr):
    """Local particle, coordinate and mask of the HALF-th array of :func:`_noise`."""
    K: tl.constexpr = (D + 7) // 8
    at = tl.arange(0, 4 * BLOCK)
    block = start + at // 4
    particle = block // K
    coordinate = (block - particle * K) * 4 + at % 4 + HALF * 4 * K
    return particle, coordinate, (particle < count) & (coordinate < D)


@jit(do_not_specialize=["stream", "step", "first", "count"])
def _normals(out, seeds, stream, step, first, count, D: tl.constexpr, BLOCK: tl.constexpr):
    K: tl.constexpr = (D + 7) // 8
    start = tl.program_id(0).to(tl.int64) * BLOCK
    counter = first.to(tl.int64) * K + start + tl.arange(0, BLOCK)
    cosines, sines = _noise(tl.load(seeds), stream, step, counter.to(tl.uint64), BLOCK)
    particle, coordinate, live = _where(start, count, D, BLOCK, 0)
    tl.store(out + particle * D + coordinate, cosines, mask=live)
    particle, coordinate, live = _where(start, count, D, BLOCK, 1)
    tl.store(out + particle * D + coordinate, sines, mask=live)


@jit
def _move(outer, inner, grad_outer, grad_inner, base, particle, coordinate, live, noise, decay, rate, size, M, K):
    """θ ← decay·θ − rate·g + size·ξ at the given coordinates: the first m are outer weights."""
    is_outer = live & (coordinate < M)
    is_inner = live & (coordinate >= M)
    at = (base + particle) * M + coordinate
    theta = tl.load(outer + at, mask=is_outer, other=0.0)
    moved = theta * decay - rate * tl.load(grad_outer + at, mask=is_outer, other=0.0) + size * noise
    tl.store(outer + at, moved, mask=is_outer)
    at = (base + particle) * K + coordinate - M
    theta = tl.load(inner + at, mask=is_inner, other=0.0)
    moved = theta * decay - rate * tl.load(grad_inner + at, mask=is_inner, other=0.0) + size * noise
    tl.store(inner + at, moved, mask=is_inner)


@jit(do_not_specialize=["stream", "step", "first"])
def _langevin(
    outer,
    inner,
    grad_outer,
    grad_inner,
    widths,
    seeds,
    step_size,
    temperature,
    weight_decay,
    first,
    step,
    stream,
    particles,
    MASKED: tl.constexpr,
    M: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Program (block of counters, replica)."""
    D: tl.constexpr = M + K
    COUNTERS: tl.constexpr = (D + 7) // 8
    replica = tl.program_id(1).to(tl.int64)
    width = particles
    if MASKED:
        width = tl.load(widths + replica)
    rate = tl.load(step_size + replica).to(tl.float64)
    heat = tl.load(temperature + replica).to(tl.float64)
    decay = (1.0 - rate * tl.load(weight_decay + replica).to(tl.float64)).to(tl.float32)
    size = tl.sqrt(2.0 * heat * rate).to(tl.float32)
    rate = rate.to(tl.float32)
    start = tl.program_id(0).to(tl.int64) * BLOCK
    cosines = tl.zeros((4 * BLOCK,), tl.float32)
    sines = tl.zeros((4 * BLOCK,), tl.float32)
    if heat > 0.0:
        counter = first.to(tl.int64) * COUNTERS + start + tl.arange(0, BLOCK)
        cosines, sines = _noise(tl.load(seeds + replica), stream, step, counter.to(tl.uint64), BLOCK)
    base = replica * particles
    particle, coordinate, live = _where(start, width, D, BLOCK, 0)
    _move(outer, inner, grad_outer, grad_inner, base, particle, coordinate, live, cosines, decay, rate, size, M, K)
    particle, coordinate, live = _where(start, width, D, BLOCK, 1)
    _move(outer, inner, grad_outer, grad_inner, base, particle, coordinate, live, sines, decay, rate, size, M, K)


NOISE_BLOCK = 64 if INTERPRETED else 128
"""Counters of a program; each makes eight normal numbers."""


def langevin(
    flat_outer: torch.Tensor,
    flat_inner: torch.Tensor,
    grad_outer: torch.Tensor,
    grad_inner: torch.Tensor,
    widths: torch.Tensor | None,
    seeds: torch.Tensor,
    first_particle: int,
    step: int,
    stream: int,
    step_size: torch.Tensor,
    temperature: torch.Tensor,
    weight_decay: torch.Tensor,
) -> None:
    """θ ← θ − η(g + λθ) + √(2τη) ξ in place for the particles i < widths[r], ξ ~ N(0, I) made in the kernel.

    ``flat_outer`` (R, N, m), ``flat_inner`` (R, N, k) and their gradients: contiguous, float32; ``seeds`` (R,) int64;
    η, τ, λ (R,) float32 or float64.  Particle i of the array has the global index ``first_particle`` + i, on which
    (with seed, step and stream) its noise depends: see :func:`normals`.  At τ = 0 no noise is made.
    """
    replicas, particles, outputs = flat_outer.shape
    columns = flat_inner.shape[-1]
    if not all(t.is_contiguous() for t in (flat_outer, flat_inner, grad_outer, grad_inner)):
        raise InputError("langevin: expected contiguous parameters and gradients")
    counters = particles * ((outputs + columns + 7) // 8)
    _langevin[(triton.cdiv(counters, NOISE_BLOCK), replicas)](
        flat_outer,
        flat_inner,
        grad_outer,
        grad_inner,
        widths,
        seeds,
        step_size,
        temperature,
        weight_decay,
        first_particle,
        step,
        stream,
        particles,
        widths is not None,
        outputs,
        columns,
        NOISE_BLOCK,
        num_warps=4,
    )


def normals(seed: int, stream: int, step: int, first: int, count: int, columns: int, out: torch.Tensor) -> None:
    """Write the noise ξ of ``count`` particles from global index ``first`` on to ``out`` (count, columns), float32.

    Philox4x64-10 (Salmon et al., SC 2011) with key (seed, 0) and counter (i·K + q, step, stream, 0), K = ⌈D/8⌉, gives
    particle i the words j = 4q … 4q + 3.  With the halves (hi, lo) of word j, u = (hi + ½)2⁻³² and φ = 2π·lo·2⁻³²,

        ξ_j = √(−2 ln u) cos φ,        ξ_{j + 4K} = √(−2 ln u) sin φ,        those past D dropped.
    """
    blocks = triton.cdiv(count * ((columns + 7) // 8), NOISE_BLOCK)
    seeds = torch.tensor([seed], dtype=torch.int64, device=out.device)
    _normals[(blocks,)](out, seeds, stream, step, first, count, columns, NOISE_BLOCK, num_warps=4)
