"""Affine maps that a file keeps beside a block: scaled inputs, scaled outputs, factors of single tensors.

A pipeline of a scaler and a network is again a network, of the raw input.  With g the network in the file, μ, σ the
shift and scale of its input and κ, τ those of its output (divisions entry by entry),

    f(x) = κ + τ∘g((x − μ)/σ),   w_i = ŵ_i/σ,   b_i = b̂_i − ⟨ŵ_i, μ/σ⟩,   a_i = τ∘â_i,   c = τ∘ĉ + κ,

which is an equality of functions; its float64 evaluation rounds, once per entry and in the sum.  :func:`unfold` is
the inverse, for writing back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from sparsemf.checkpoints.layouts import Layout

Array = NDArray[np.float64]
Read = Callable[[str], Array]


def fold(layout: Layout, values: Mapping[str, Array], read: Read) -> dict[str, Array]:
    """Role → numbers of the network of the raw input and output, from those in the file."""
    found = dict(values)
    for role, factor in layout.factors:
        found[role] = found[role] * factor
    shift, scale = _pair(layout.input_shift, layout.input_scale, layout.d, read)
    if shift is not None and scale is not None:
        found["inner"] = found["inner"] / scale
        found["bias"] = found.get("bias", np.zeros(layout.width)) - found["inner"] @ shift
    shift, scale = _pair(layout.output_shift, layout.output_scale, layout.m, read)
    if shift is not None and scale is not None:
        found["outer"] = found["outer"] * scale
        found["offset"] = found.get("offset", np.zeros(layout.m)) * scale + shift
    return found


def unfold(layout: Layout, values: Mapping[str, Array], read: Read) -> dict[str, Array]:
    """The inverse of :func:`fold`: what the file holds, from the network of the raw input and output."""
    found = dict(values)
    shift, scale = _pair(layout.input_shift, layout.input_scale, layout.d, read)
    if shift is not None and scale is not None:
        found["bias"] = found["bias"] + found["inner"] @ shift
        found["inner"] = found["inner"] * scale
    shift, scale = _pair(layout.output_shift, layout.output_scale, layout.m, read)
    if shift is not None and scale is not None:
        found["outer"] = found["outer"] / scale
        found["offset"] = (found["offset"] - shift) / scale
    for role, factor in layout.factors:
        found[role] = found[role] / factor
    return found


def _pair(shift: str | None, scale: str | None, size: int, read: Read) -> tuple[Array, Array] | tuple[None, None]:
    if shift is None and scale is None:
        return None, None
    offsets = np.zeros(size) if shift is None else read(shift).reshape(-1)
    return offsets, np.ones(size) if scale is None else read(scale).reshape(-1)
