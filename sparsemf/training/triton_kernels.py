"""The trainer's hot path as Triton kernels: predictions, gradients, Langevin update and its noise.

With particles (a_i, w_i), samples x_b, pre-activations z_bi = ⟨w_i, x_b⟩ (a bias is a column of ones in x) and any
residual r_b = ∂loss/∂f(x_b),

    Σ_i a_i σ(z_bi),        g_{a_i} = Σ_b r_b σ(z_bi),        g_{w_i} = Σ_b ⟨r_b, a_i⟩ σ′(z_bi) x_b.

No array of size B × N exists: a tile of z lives in registers, and the backward kernel computes it again.  Every sum has
a fixed order (partial sums of a split are stored, then added), so a call repeats bit for bit on the same device.  R
networks (replicas) run in one launch, narrower ones by a mask.  Importing this module needs triton, nothing else does.

``compute`` is what the matrix products see; sums and state are float32 throughout:

=========  =========================================================  ===================================
compute    operands                                                   σ and σ′
=========  =========================================================  ===================================
float32    float32 as three tf32 products (error near IEEE's 2e-7)    within a few 1e-7
tf32       cut to 11 significant bits                                 tanh.approx, absolute error ≤ 5e-4
bf16       rounded to 8 significant bits                              tanh.approx, absolute error ≤ 5e-4
=========  =========================================================  ===================================

tanh.approx.f32 has relative error 2⁻¹¹ (PTX ISA); tanh, the sigmoids and the gated units inherit it (times |z|).
"""

# pyright: reportMissingImports=false, reportPossiblyUnboundVariable=false, reportGeneralTypeIssues=false

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import torch
import triton
import triton.language as tl

from sparsemf.activations import Activation
from sparsemf.exceptions import InputError
from sparsemf.training.triton_noise import langevin, normals
from sparsemf.training.triton_sigma import INTERPRETED, Compute, Form, form, sigma

__all__ = ["Compute", "Tiles", "elementwise", "gradients", "langevin", "normals", "predictions", "supported"]

jit: Any = triton.jit  # its types know neither launch options nor plain values for compile-time parameters
LARGEST_COLUMNS = 256
LARGEST_OUTPUTS = 64
ALIGN = 16
"""The rows of a turned x are a multiple of this long, for wide loads."""
ALIGNED = tl.constexpr(ALIGN)

PROGRAMS = 528
"""Programs a launch should have at least (four for each of 132 multiprocessors).  It is no property of the device:
how a sum is split, and so its last bit, does not depend on the card."""


class Tiles(NamedTuple):
    """Samples × particles of a tile of z, warps of a program and stages of its pipeline."""

    samples: int
    particles: int
    warps: int
    stages: int


def supported(activation: Activation, columns: int, outputs: int, precision: str) -> str | None:
    """None when the kernels can serve k = ``columns``, m = ``outputs``; else why they cannot."""
    if precision != "float32":
        return f"the Triton kernels compute in float32, not {precision}"
    if form(activation) is None:
        return f"the Triton kernels have no formula of {activation.name}"
    if columns > LARGEST_COLUMNS:
        return f"the Triton kernels take at most {LARGEST_COLUMNS} columns (inputs and bias), got {columns}"
    if outputs > LARGEST_OUTPUTS:
        return f"the Triton kernels take at most {LARGEST_OUTPUTS} outputs, got {outputs}"
    return None


@jit
def _elementwise(
    z,
    value,
    slope,
    size,
    SIGMA: tl.constexpr,
    P: tl.constexpr,
    Q: tl.constexpr,
    S: tl.constexpr,
    T: tl.constexpr,
    FAST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """σ and σ′ of an array: what the tests of the formulas call."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < size
    v, s = sigma(tl.load(z + at, mask=live, other=0.0), SIGMA, P, Q, S, T, FAST)
    tl.store(value + at, v, mask=live)
    tl.store(slope + at, s, mask=live)


@jit
def _high(v):
    """``v`` rounded to the 11 significant bits that tf32 holds: the rest is signed and below 2⁻¹² of it."""
    return ((v.to(tl.uint32, bitcast=True) + 0x1000) & 0xFFFFE000).to(tl.float32, bitcast=True)


@jit
def _product(a, b, total, PRECISION: tl.constexpr):
    """total + a·b.  "three": a_h b_h + a_h b_l + a_l b_h in tf32 with a = a_h + a_l, b alike; a_l b_l is below 2⁻²⁴.

    By hand: what is summed is seen here, and is the same in every version of Triton.
    """
    if PRECISION == "three":
        a_high, b_high = _high(a), _high(b)
        total = tl.dot(a - a_high, b_high, total, input_precision="tf32")
        total = tl.dot(a_high, b - b_high, total, input_precision="tf32")
        total = tl.dot(a_high, b_high, total, input_precision="tf32")
    else:
        total = tl.dot(a, b, total, input_precision=PRECISION)
    return total


@jit
def _forward(
    outer,  # (R, N, m), m = 1, or (R, N, M)
    inner,  # (R, N, K + TAIL)
    x,  # (R, B, K + TAIL)
    widths,
    out,  # (splits, R, B, m)
    particles,
    samples,
    m,
    x_stride,
    MASKED: tl.constexpr,
    SIGMA: tl.constexpr,
    P: tl.constexpr,
    Q: tl.constexpr,
    S: tl.constexpr,
    T: tl.constexpr,
    FAST: tl.constexpr,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    TAIL: tl.constexpr,
    M: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Program (sample tile, split, replica): its samples against its share of the particles."""
    KP: tl.constexpr = K + TAIL
    split = tl.program_id(1)
    splits = tl.num_programs(1)
    replica = tl.program_id(2).to(tl.int64)
    width = particles
    if MASKED:
        width = tl.load(widths + replica)
    share = tl.cdiv(tl.cdiv(width, COLUMNS), splits) * COLUMNS
    first = split * share
    last = tl.minimum(first + share, width)

    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    x_at = x + replica * x_stride + rows[:, None] * KP
    xt = tl.load(x_at + tl.arange(0, K)[None, :], mask=rows[:, None] < samples, other=0.0)
    if TAIL > 0:
        xt_tail = tl.load(x_at + K + tl.arange(0, TAIL)[None, :], mask=rows[:, None] < samples, other=0.0)
    local = tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS,), tl.float32) if M == 1 else tl.zeros((ROWS, M), tl.float32)
    for start in tl.range(first, last, COLUMNS):
        # replica·N + start may exceed 31 bits once multiplied by k
        base = replica * particles + start
        live = local < last - start
        w_at = inner + base * KP + local[:, None] * KP
        w = tl.load(w_at + tl.arange(0, K)[None, :], mask=live[:, None], other=0.0)
        z = _product(xt, tl.trans(w), tl.zeros((ROWS, COLUMNS), tl.float32), PRECISION)
        if TAIL > 0:
            w_tail = tl.load(w_at + K + tl.arange(0, TAIL)[None, :], mask=live[:, None], other=0.0)
            z = _product(xt_tail, tl.trans(w_tail), z, PRECISION)
        value, _ = sigma(z, SIGMA, P, Q, S, T, FAST)
        # a = 0 past the width: whatever σ(0) is, it does not count
        if M == 1:
            a = tl.load(outer + base + local, mask=live, other=0.0)
            total += tl.sum(value * a[None, :], axis=1)
        else:
            a = tl.load(outer + base * M + local[:, None] * M + tl.arange(0, M)[None, :], mask=live[:, None], other=0.0)
            total = _product(value.to(a.dtype), a, total, PRECISION)

    part = (split * tl.num_programs(2) + replica) * samples
    if M == 1:
        tl.store(out + part + rows, total, mask=rows < samples)
    else:
        cols = tl.arange(0, M)
        tl.store(
            out + (part + rows[:, None]) * m + cols[None, :],
            total,
            mask=(rows[:, None] < samples) & (cols[None, :] < m),
        )


@jit
def _backward(
    outer,  # (R, N, m), m = 1, or (R, N, M)
    inner,  # (R, N, K + TAIL)
    x,  # (R, B, K + TAIL)
    turned,  # (R, K + TAIL, B rounded up to ALIGNED) or None: x transposed
    residual,  # (R, B, m), m = 1, or (R, B, M)
    widths,
    grad_outer,  # (splits, R, N, m)
    grad_inner,  # (splits, R, N, k)
    particles,
    samples,
    m,
    k,
    x_stride,
    turned_stride,
    MASKED: tl.constexpr,
    SIGMA: tl.constexpr,
    P: tl.constexpr,
    Q: tl.constexpr,
    S: tl.constexpr,
    T: tl.constexpr,
    FAST: tl.constexpr,
    PRECISION: tl.constexpr,
    TURNED: tl.constexpr,
    K: tl.constexpr,
    TAIL: tl.constexpr,
    M: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Program (particle tile, split, replica): its particles against its share of the samples."""
    KP: tl.constexpr = K + TAIL
    split = tl.program_id(1)
    replica = tl.program_id(2).to(tl.int64)
    width = particles
    if MASKED:
        width = tl.load(widths + replica)
    start = tl.program_id(0) * COLUMNS
    share = tl.cdiv(tl.cdiv(samples, ROWS), tl.num_programs(1)) * ROWS
    first = split * share
    last = tl.minimum(first + share, samples)
    # a tile past the width writes zeros
    last = tl.where(start < width, last, first)

    local = tl.arange(0, COLUMNS)
    live = start + local < width
    base = replica * particles + start
    w_at = inner + base * KP + local[:, None] * KP
    w = tl.load(w_at + tl.arange(0, K)[None, :], mask=live[:, None], other=0.0)
    gw = tl.zeros((COLUMNS, K), tl.float32)
    if TAIL > 0:
        w_tail = tl.load(w_at + K + tl.arange(0, TAIL)[None, :], mask=live[:, None], other=0.0)
        gw_tail = tl.zeros((COLUMNS, TAIL), tl.float32)
    if M == 1:
        a = tl.load(outer + base + local, mask=live, other=0.0)
        ga = tl.zeros((COLUMNS,), tl.float32)
    else:
        a = tl.load(outer + base * M + local[:, None] * M + tl.arange(0, M)[None, :], mask=live[:, None], other=0.0)
        ga = tl.zeros((COLUMNS, M), tl.float32)
    lane = tl.arange(0, ROWS)
    for b in tl.range(first, last, ROWS):
        there = lane < last - b
        x_at = x + replica * x_stride + (b + lane)[:, None] * KP
        xt = tl.load(x_at + tl.arange(0, K)[None, :], mask=there[:, None], other=0.0)
        z = _product(w, tl.trans(xt), tl.zeros((COLUMNS, ROWS), tl.float32), PRECISION)
        if TAIL > 0:
            xt_tail = tl.load(x_at + K + tl.arange(0, TAIL)[None, :], mask=there[:, None], other=0.0)
            z = _product(w_tail, tl.trans(xt_tail), z, PRECISION)
        value, slope = sigma(z, SIGMA, P, Q, S, T, FAST)
        # r = 0 past the last sample: whatever σ(0) is, it does not count
        if M == 1:
            # one output: ⟨r, a_i⟩ = r·a_i, the factor a_i at the very end
            r = tl.load(residual + replica * samples + b + lane, mask=there, other=0.0)
            ga += tl.sum(value * r[None, :], axis=1)
            slope = slope * r[None, :]
        else:
            r_at = residual + (replica * samples + b + lane)[:, None] * M + tl.arange(0, M)[None, :]
            r = tl.load(r_at, mask=there[:, None], other=0.0)
            ga = _product(value.to(r.dtype), r, ga, PRECISION)
            slope = slope * _product(a, tl.trans(r), tl.zeros((COLUMNS, ROWS), tl.float32), PRECISION)
        s = slope.to(xt.dtype)
        if TURNED:
            # the matrix units read 32-bit operands along the summed axis only: the samples, here
            t_at = turned + replica * turned_stride + (b + lane)[None, :]
            length = tl.cdiv(samples, ALIGNED) * ALIGNED
            t = tl.load(t_at + tl.arange(0, K)[:, None] * length, mask=there[None, :], other=0.0)
            gw = _product(s, tl.trans(t), gw, PRECISION)
            if TAIL > 0:
                t = tl.load(t_at + (K + tl.arange(0, TAIL))[:, None] * length, mask=there[None, :], other=0.0)
                gw_tail = _product(s, tl.trans(t), gw_tail, PRECISION)
        else:
            gw = _product(s, xt, gw, PRECISION)
            if TAIL > 0:
                gw_tail = _product(s, xt_tail, gw_tail, PRECISION)

    part = (split * tl.num_programs(2) + replica) * particles + start
    there = start + local < particles
    if M == 1:
        gw = gw * a[:, None]
        if TAIL > 0:
            gw_tail = gw_tail * a[:, None]
        tl.store(grad_outer + part + local, tl.where(live, ga, 0.0), mask=there)
    else:
        cols = tl.arange(0, M)
        tl.store(
            grad_outer + part * m + local[:, None] * m + cols[None, :],
            tl.where(live[:, None], ga, 0.0),
            mask=there[:, None] & (cols[None, :] < m),
        )
    g_at = grad_inner + part * k + local[:, None] * k
    cols = tl.arange(0, K)
    tl.store(g_at + cols[None, :], gw, mask=there[:, None] & (cols[None, :] < k))
    if TAIL > 0:
        cols = K + tl.arange(0, TAIL)
        tl.store(g_at + cols[None, :], gw_tail, mask=there[:, None] & (cols[None, :] < k))


_MODES: dict[str, tuple[torch.dtype, str, bool]] = {
    # IEEE products leave the matrix units idle: measured, 335 ms a step against 19 ms of tf32
    "float32": (torch.float32, "three", False),
    "tf32": (torch.float32, "tf32", not INTERPRETED),
    # the interpreter multiplies the bit patterns of bf16
    "bf16": (torch.float32 if INTERPRETED else torch.bfloat16, "tf32", not INTERPRETED),
}


def padded_columns(columns: int) -> tuple[int, int]:
    """(K, tail), powers of two with K + tail ≥ ``columns``: 65 → (64, 16), not 128; K ≥ 16, and tail is 0 or ≥ 16."""
    whole = max(16, triton.next_power_of_2(columns))
    half = whole // 2
    if half >= 16 and columns > half:
        tail = max(16, triton.next_power_of_2(columns - half))
        if tail < half:
            return half, tail
    return whole, 0


def padded_outputs(outputs: int) -> int:
    """1 for one output, else the power of two ≥ 16 that a matrix product takes."""
    return 1 if outputs == 1 else max(16, triton.next_power_of_2(outputs))


# For K ≤ 64, ≤ 128, ≤ 256 columns: chosen so that accumulators stay in registers (K ≤ 128) and tiles in the 227 KiB
# of shared memory of compute capability 9.0; wgmma takes particles (backward) or samples (forward) 64 at a time.
# Four warps throughout: with eight on 64 particles Triton 3.6 computed wrong gradients where there is a tail (seen on
# an H200, in tf32 too), or ended in illegal accesses.
_FORWARD: dict[str, tuple[Tiles, Tiles, Tiles]] = {
    "float32": (Tiles(128, 64, 4, 2), Tiles(64, 64, 4, 2), Tiles(64, 32, 4, 1)),
    "tf32": (Tiles(64, 128, 4, 3), Tiles(128, 64, 4, 2), Tiles(64, 32, 4, 2)),
    "bf16": (Tiles(64, 128, 4, 3), Tiles(128, 64, 4, 2), Tiles(64, 64, 4, 2)),
}
_BACKWARD: dict[str, tuple[Tiles, Tiles, Tiles]] = {
    "float32": (Tiles(32, 64, 4, 2), Tiles(32, 64, 4, 2), Tiles(16, 32, 4, 2)),
    "tf32": (Tiles(32, 64, 4, 2), Tiles(32, 64, 4, 2), Tiles(16, 64, 4, 2)),
    "bf16": (Tiles(64, 64, 4, 2), Tiles(64, 64, 4, 2), Tiles(32, 64, 4, 2)),
}


def default_tiles(backward: bool, columns: int, compute: Compute) -> Tiles:
    """Tiles of :func:`gradients` (``backward``) or :func:`predictions` for k columns and the kind of product."""
    return (_BACKWARD if backward else _FORWARD)[compute][(columns > 64) + (columns > 128)]


def _operand(tensor: torch.Tensor, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """``tensor`` with its last axis padded by zeros, in ``dtype``; itself when it is that already.

    Aligned rows in the type of the products go from memory to the matrix units without passing through registers.
    """
    if tensor.shape[-1] == columns:
        return tensor.to(dtype).contiguous()
    padded = torch.zeros((*tensor.shape[:-1], columns), dtype=dtype, device=tensor.device)
    padded[..., : tensor.shape[-1]] = tensor
    return padded


def _turned(x: torch.Tensor) -> torch.Tensor:
    """``x`` (…, B, k) as (…, k, B), B rounded up to a multiple of ``ALIGN``; what fills the rows is never read."""
    samples, columns = x.shape[-2:]
    out = x.new_empty((*x.shape[:-2], columns, triton.cdiv(samples, ALIGN) * ALIGN))
    out[..., :samples] = x.transpose(-1, -2)
    return out


def _form(activation: Activation, columns: int, outputs: int) -> Form:
    if (reason := supported(activation, columns, outputs, "float32")) is not None:
        raise InputError(f"{reason}; use the blocked gradient")
    found = form(activation)
    assert found is not None
    return found


def _mode(compute: Compute) -> tuple[torch.dtype, str, bool]:
    if compute not in _MODES:
        raise InputError(f"compute: expected one of {', '.join(get_args(Compute))}, got {compute!r}")
    return _MODES[compute]


def _splits(programs: int, pieces: int) -> int:
    """Parts to cut a sum of ``pieces`` tiles into, so that ``programs`` programs become enough."""
    return max(1, min(-(-PROGRAMS // programs), pieces // 2))


def predictions(
    outer: torch.Tensor,
    inner: torch.Tensor,
    x: torch.Tensor,
    widths: torch.Tensor | None,
    activation: Activation,
    compute: Compute,
    tiles: Tiles | None = None,
) -> torch.Tensor:
    """Σ_i a_i σ(⟨w_i, x_b⟩) over the particles i < widths[r], shape (R, B, m), float32: a plain sum, without 1/N.

    ``outer`` (R, N, m), ``inner`` (R, N, k), ``x`` (B, k) shared by the replicas or (R, B, k), ``widths`` (R,) int32 or
    None for N everywhere; ``tiles`` overrides the table.  Raises :class:`InputError` where :func:`supported` objects.
    """
    replicas, particles, outputs = outer.shape
    samples, columns = x.shape[-2:]
    formula = _form(activation, columns, outputs)
    dtype, precision, fast = _mode(compute)
    k, tail = padded_columns(columns)
    m = padded_outputs(outputs)
    rows, cols, warps, stages = tiles or default_tiles(False, columns, compute)
    blocks = triton.cdiv(samples, rows)
    splits = _splits(blocks * replicas, triton.cdiv(particles, cols))
    out = torch.empty((splits, replicas, samples, outputs), dtype=torch.float32, device=outer.device)
    _forward[(blocks, splits, replicas)](
        outer.contiguous() if m == 1 else _operand(outer, m, dtype),
        _operand(inner, k + tail, dtype),
        _operand(x, k + tail, dtype),
        widths,
        out,
        particles,
        samples,
        outputs,
        0 if x.dim() == 2 else samples * (k + tail),
        widths is not None,
        *formula,
        fast,
        precision,
        k,
        tail,
        m,
        rows,
        cols,
        num_warps=warps,
        num_stages=stages,
    )
    return out[0] if splits == 1 else out.sum(0)


def gradients(
    outer: torch.Tensor,
    inner: torch.Tensor,
    x: torch.Tensor,
    residual: torch.Tensor,
    widths: torch.Tensor | None,
    activation: Activation,
    compute: Compute,
    grad_outer: torch.Tensor,
    grad_inner: torch.Tensor,
    tiles: Tiles | None = None,
) -> None:
    """Write Σ_b r_b σ(z_bi) to ``grad_outer`` (R, N, m) and Σ_b ⟨r_b, a_i⟩ σ′(z_bi) x_b to ``grad_inner`` (R, N, k).

    ``residual`` (R, B, m) carries the weight of its sample (1/B for a mean); the other shapes are those of
    :func:`predictions`.  Particles i ≥ widths[r] get zeros.  Both results must be contiguous.
    """
    replicas, particles, outputs = outer.shape
    samples, columns = x.shape[-2:]
    formula = _form(activation, columns, outputs)
    dtype, precision, fast = _mode(compute)
    k, tail = padded_columns(columns)
    m = padded_outputs(outputs)
    rows, cols, warps, stages = tiles or default_tiles(True, columns, compute)
    blocks = triton.cdiv(particles, cols)
    splits = _splits(blocks * replicas, triton.cdiv(samples, rows))
    parts = (grad_outer, grad_inner)
    if not all(part.is_contiguous() for part in parts):
        raise InputError("gradients: expected contiguous results")
    if splits > 1:
        parts = tuple(part.new_empty((splits, *part.shape)) for part in parts)
    x_operand = _operand(x, k + tail, dtype)
    turned = _turned(x_operand) if dtype == torch.float32 else None
    shared = x.dim() == 2
    _backward[(blocks, splits, replicas)](
        outer.contiguous() if m == 1 else _operand(outer, m, dtype),
        _operand(inner, k + tail, dtype),
        x_operand,
        turned,
        residual.contiguous() if m == 1 else _operand(residual, m, dtype),
        widths,
        *parts,
        particles,
        samples,
        outputs,
        columns,
        0 if shared else x_operand[0].numel(),
        0 if shared or turned is None else turned[0].numel(),
        widths is not None,
        *formula,
        fast,
        precision,
        turned is not None,
        k,
        tail,
        m,
        rows,
        cols,
        num_warps=warps,
        num_stages=stages,
    )
    if splits > 1:
        for part, total in zip(parts, (grad_outer, grad_inner), strict=True):
            torch.sum(part, 0, out=total)


def elementwise(z: torch.Tensor, activation: Activation, compute: Compute) -> tuple[torch.Tensor, torch.Tensor]:
    """(σ(z), σ′(z)) of a float32 array as the kernels compute them, to measure their error."""
    formula = _form(activation, 1, 1)
    value, slope = torch.empty_like(z), torch.empty_like(z)
    _elementwise[(triton.cdiv(z.numel(), 1024),)](z, value, slope, z.numel(), *formula, _mode(compute)[2], 1024)
    return value, slope
