"""Counter-based Gaussian numbers: a draw is a function of (seed, stream, step, index), of nothing else.

A run's randomness must not depend on the device, the block size, the number of ranks or the place where it was
interrupted.  So no generator carries a state from step to step; the word that a coordinate needs is computed from its
own address by Philox4x64-10 (Salmon, Moraes, Dror, Shaw, *Parallel random numbers: as easy as 1, 2, 3*, SC 2011):

    key     = (seed, 0)
    counter = (i·K + q, step, stream, 0),        K = ⌈D/8⌉,  q = 0 … K − 1

for row i (a particle, or a sample of a batch) of D coordinates.  Each counter gives four 64-bit words; word number
j = 4q + s of a row, with halves hi and lo, becomes two independent normals by the Box-Muller transform,

    radius = √(−2 ln((hi + ½)·2⁻³²)),        angle = 2π·lo·2⁻³²,
    ξ_{i,j} = radius·cos(angle),             ξ_{i,j+4K} = radius·sin(angle)        (coordinates ≥ D are dropped).

The words are the same on every machine.  The normals are evaluated in the dtype asked for, so that float32 and float64
runs see the same noise up to rounding, and devices differ by the rounding of log, cos and sin.  No normal exceeds
√(2·33·ln 2) = 6.77 in absolute value; the lost tail has probability 1.3e-11.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
import torch

CHUNK = 1 << 15
"""Words a chunk: their normals stay in a core's cache."""

_TURN = 2.0 * math.pi * 2.0**-32


class Stream(IntEnum):
    """What a draw is for; one draw more here changes nothing there."""

    INITIAL = 0
    NOISE = 1
    BATCH = 2
    SAMPLES = 3
    TEST = 4
    ORDER = 5
    VELOCITY = 6
    PROBE = 7


def bit_generator(seed: int, stream: Stream, step: int, first: int = 0) -> np.random.Philox:
    """numpy's Philox4x64-10 whose first four words are those of counter (first, step, stream, 0)."""
    # numpy increments the 256-bit counter before it draws
    before = (first | step << 64 | int(stream) << 128) - 1 & (1 << 256) - 1
    counter = np.array([before >> shift & (1 << 64) - 1 for shift in (0, 64, 128, 192)], dtype=np.uint64)
    return np.random.Philox(key=np.array([seed, 0], dtype=np.uint64), counter=counter)


def permutation(seed: int, epoch: int, size: int) -> torch.Tensor:
    """The order of epoch ``epoch``: a uniform permutation of 0 … size − 1."""
    return torch.from_numpy(np.random.Generator(bit_generator(seed, Stream.ORDER, epoch)).permutation(size))


def normals(
    seed: int, stream: Stream, step: int, first: int, out: torch.Tensor, *, batched_device: bool = True
) -> torch.Tensor:
    """Fill ``out`` (count, D) with the standard normals of rows first … first + count − 1 and return it.

    ``out`` is float32 or float64, on any device.  On CUDA float32 they are made there; elsewhere on the CPU, in chunks
    of ``CHUNK`` words.
    """
    count, columns = out.shape
    if count == 0 or columns == 0:
        return out
    if batched_device and out.is_cuda and out.dtype == torch.float32:
        from sparsemf.training.triton_kernels import normals as on_device

        on_device(seed, int(stream), step, first, count, columns, out)
        return out
    blocks = -(-columns // 8)
    half = 4 * blocks
    generator = bit_generator(seed, stream, step, first * blocks)
    rows = max(1, CHUNK // half)
    straight = out.device.type == "cpu"
    for start in range(0, count, rows):
        part = out[start : start + rows]
        values = _box_muller(generator.random_raw(part.shape[0] * half), half, columns, out.dtype)
        for offset, block in zip((0, half), values, strict=False):
            target = part[:, offset : offset + block.shape[1]]
            target.copy_(block if straight else block.to(out.device))
    return out


def _box_muller(words: np.ndarray, half: int, columns: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """The coordinates 0 … half − 1 and half … columns − 1 of the rows that ``words`` hold."""
    kind = np.float32 if dtype == torch.float32 else np.float64
    halves = words.astype("<u8", copy=False).view("<u4").reshape(-1, 2)
    radius = torch.from_numpy(halves[:, 1].astype(kind))
    angle = torch.from_numpy(halves[:, 0].astype(kind))
    radius.add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    angle.mul_(_TURN)
    # contiguous throughout: torch evaluates cos and sin of strided data by other code, with other last bits
    first = angle.cos().mul_(radius).view(-1, half)[:, :columns]
    if columns <= half:
        return [first]
    return [first, angle.sin_().mul_(radius).view(-1, half)[:, : columns - half]]
