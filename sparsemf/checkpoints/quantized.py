"""Quantised weights whose file says how to get the numbers back: 8-bit codes with scales, and perhaps zero points.

    W = (q − z)·s / divisor

with q the codes, s one scale per tensor, per row (output), or per group of consecutive entries of a row, and z of
the shape of s (0 where absent).  A difference of 8-bit integers has at most 9 significant bits and a float32 scale
24, so that (q − z)·s is *exact* in float64 for scales of up to float32; a float8 code has 4.  Only bitsandbytes
divides (by 127), and that one rounding is float64's.  A network therefore holds the numbers that the codes stand
for, and not those that a kernel's own float16 or float32 arithmetic makes of them.

| scheme | codes | scales | W |
|---|---|---|---|
| bitsandbytes LLM.int8 | ``weight`` int8 | ``SCB`` (out,) | q·SCB/127 |
| compressed-tensors, int8 and float8 | ``weight`` | ``weight_scale``, ``weight_zero_point`` | (q − z)·s |
| optimum-quanto, int8 and float8 | ``weight._data`` | ``weight._scale`` | q·s |
| ONNX DequantizeLinear | an initialiser | its second and third input | (q − z)·s |

Packed formats of 4 bits and fewer (GPTQ, AWQ, NF4, compressed-tensors ``weight_packed``) need to be told how they
are packed, and block-scaled float8 (``weight_scale_inv``) its block size: they are named and refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sparsemf.checkpoints.files import Remark, TensorFile, TensorInfo

Array = NDArray[np.float64]

FLOAT8 = ("float8_e4m3fn", "float8_e5m2")
CODES = ("int8", "uint8", *FLOAT8)

# (ending of the codes, of the scales, of the zero points, of the tensor they stand for, divisor)
_SCHEMES = (
    (".weight", ".SCB", None, ".weight", 127.0),
    (".weight", ".weight_scale", ".weight_zero_point", ".weight", 1.0),
    (".weight._data", ".weight._scale", None, ".weight", 1.0),
)

# endings that give a packed format away
_PACKED = {
    ".qweight": "GPTQ or AWQ codes (packed 4-bit integers)",
    ".weight_packed": "compressed-tensors' packed codes",
    ".weight.quant_map": "bitsandbytes' 4-bit codes",
    ".weight_g_idx": "codes in an order of their own (weight_g_idx)",
    ".weight_scale_inv": "float8 with block scales (weight_scale_inv)",
    ".weight._data._data": "quanto's packed codes",
    ".weight._shift": "quanto's packed codes",
}


@dataclass(frozen=True)
class Quantized:
    """One tensor (q − z)·s/divisor: names of codes, scales and zero points; ``axis`` is that of a vector of
    scales."""

    codes: str
    scale: str
    zero_point: str | None = None
    axis: int = 0
    divisor: float = 1.0

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of its tensors in the file."""
        return tuple(name for name in (self.codes, self.scale, self.zero_point) if name is not None)


def find_quantized(tensors: Mapping[str, TensorInfo]) -> tuple[dict[str, Quantized], tuple[Remark, ...]]:
    """(name of a weight → how it is stored, what is quantised in a way that is not read)."""
    from sparsemf.checkpoints.files import Remark

    found: dict[str, Quantized] = {}
    for name, info in tensors.items():
        for codes, scale, zero, weight, divisor in _SCHEMES:
            if not name.endswith(codes) or info.dtype not in CODES or len(info.shape) != 2:
                continue
            stem = name[: -len(codes)]
            if stem + scale not in tensors or (info.dtype != "int8" and divisor != 1.0):
                continue
            if f"{stem}.weight_g_idx" in tensors:
                continue
            zero_point = stem + zero if zero is not None and stem + zero in tensors else None
            if not _fits(info.shape, tensors[stem + scale].shape):
                continue
            if zero_point is not None and tensors[zero_point].shape != tensors[stem + scale].shape:
                continue
            found.setdefault(stem + weight, Quantized(name, stem + scale, zero_point, divisor=divisor))
    remarks = []
    for ending, what in _PACKED.items():
        names = [name for name in tensors if name.endswith(ending)]
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            reason = f"{what}{more}, which are not read; save the model dequantised, as float16 or float32"
            remarks.append(Remark(names[0], reason))
    return found, tuple(remarks)


def dequantised(name: str, recipe: Quantized, file: TensorFile) -> Array:
    """The numbers that the codes stand for, (q − z)·s/divisor.  Raises an InputError when the parts do not fit."""
    from sparsemf.checkpoints.files import FLOATS, BadFile

    codes, scale = file.tensors[recipe.codes], file.tensors[recipe.scale]
    if codes.dtype not in CODES or scale.dtype not in FLOATS:
        raise BadFile(
            file.path,
            f"tensor {name}: expected codes of {', '.join(CODES)} and floating-point scales, got {codes.dtype} and "
            f"{scale.dtype}; save it dequantised",
        )
    marker = recipe.codes.removesuffix("weight") + "weight_format"
    if recipe.divisor != 1.0 and marker in file.tensors and np.any(file._values(marker)):
        raise BadFile(
            file.path, f"tensor {name}: expected rows (weight_format 0), got a GPU's tiling; save it dequantised"
        )
    values = file._values(recipe.codes)
    scales = _spread(file._values(recipe.scale), values.shape, recipe.axis)
    zeros = None if recipe.zero_point is None else _spread(file._values(recipe.zero_point), values.shape, recipe.axis)
    if scales is None or (recipe.zero_point is not None and zeros is None):
        raise BadFile(
            file.path,
            f"tensor {name}: expected a scale per tensor, row or group of {codes.shape}, got {scale.shape}; "
            "save it dequantised",
        )
    if zeros is not None:
        values -= zeros
    values *= scales
    if recipe.divisor != 1.0:
        values /= recipe.divisor
    return values


def float8(raw: NDArray[np.uint8], dtype: str) -> Array:
    """The numbers of float8 codes: sign, exponent and mantissa of 4 + 3 bits (bias 7, no infinities) or 5 + 2
    (15)."""
    bits = 3 if dtype == "float8_e4m3fn" else 2
    bias = 7 if bits == 3 else 15
    codes = np.arange(256)
    sign = np.where(codes < 128, 1.0, -1.0)
    exponent = (codes & 0x7F) >> bits
    fraction = (codes & ((1 << bits) - 1)) / (1 << bits)
    normal = exponent > 0
    table = sign * np.where(normal, 1.0 + fraction, fraction) * 2.0 ** (np.where(normal, exponent, 1) - bias)
    if bits == 3:
        table[[0x7F, 0xFF]] = np.nan
    else:
        top = exponent == 31
        table[top] = np.where(fraction[top] > 0, np.nan, sign[top] * np.inf)
    return table[raw]


def _fits(shape: tuple[int, ...], scale: tuple[int, ...]) -> bool:
    return _spread(np.empty(scale), shape, 0) is not None if np.prod(scale, dtype=float) <= 1 << 28 else False


def _spread(scale: Array, shape: tuple[int, ...], axis: int) -> Array | None:
    """Scales that broadcast against ``shape``: one in all, one per entry of ``axis``, or one per group of a row."""
    if scale.size == 1:
        return scale.reshape(())
    if scale.ndim == 1 and scale.shape[0] == shape[axis]:
        return scale.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    if scale.ndim == len(shape) == 2 and scale.shape[0] == shape[0] and shape[1] % max(scale.shape[1], 1) == 0:
        groups = scale.shape[1]
        return scale if groups == 1 else np.repeat(scale, shape[1] // groups, axis=1) if groups else None
    return None
