"""The value type that flows through the whole library: a two-layer network, i.e. a dictionary measure.

f(x) = scale·Σ_i outer_i·σ(⟨inner_i, x⟩ + bias_i) + xᵀ quadratic x + affine·x + offset

or, gated, scale·Σ_i outer_i·σ(⟨gate_i, x⟩ + gate_bias_i)·(⟨inner_i, x⟩ + bias_i) + … .

What the function sees is the vector-valued dictionary measure ν = Σ_i α_i δ_{(w_i, b_i)} with
α_i = scale·outer_i, plus the polynomial part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemf.activations import Activation, get
from sparsemf.exceptions import InputError

Array = NDArray[np.float64]


LARGEST = 1e100
"""Entries beyond this are refused: squares must not overflow."""

NEGLIGIBLE = 1e-100
"""A neuron with max |w| below this is a constant, and what it varies is charged to the error: squares underflow."""


class InvalidNetwork(InputError):
    """Arrays that do not make a network; the message says what was expected and what came."""


@dataclass(frozen=True)
class Provenance:
    """Where a network came from.

    ``source`` is a file's base name (or a description), ``sha256`` the hash of that file, ``block`` the name
    of the block inside it, ``precision`` the floating-point type the file holds ("float64", "float16", …), ``extra``
    anything the reader learned (LayerNorm gain and shift under "layernorm", …).
    """

    source: str = "memory"
    sha256: str | None = None
    block: str = ""
    precision: str = "float64"
    extra: Mapping[str, Any] = field(default_factory=dict)


def _frozen(name: str, value: ArrayLike, shape: tuple[int | None, ...]) -> Array:
    try:
        array = np.array(value, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InvalidNetwork(f"{name}: expected real numbers, got {error}") from None
    expected = "(" + ", ".join("·" if s is None else str(s) for s in shape) + ")"
    if array.ndim != len(shape) or any(s is not None and s != t for s, t in zip(shape, array.shape, strict=True)):
        raise InvalidNetwork(f"{name}: expected shape {expected}, got {array.shape}")
    if not np.isfinite(array).all():
        kind = "NaN" if np.isnan(array).any() else "infinite"
        raise InvalidNetwork(f"{name}: expected finite numbers, got {kind} entries")
    if array.size and np.max(np.abs(array)) > LARGEST:
        raise InvalidNetwork(f"{name}: expected numbers of size at most {LARGEST:g}, got {np.max(np.abs(array)):.3g}")
    array.flags.writeable = False
    return array


def _symmetric(forms: Array) -> Array:
    """½(Q + Qᵀ) output by output: all that xᵀQx sees."""
    if np.array_equal(forms, forms.transpose(0, 2, 1)):
        return forms
    half = 0.5 * (forms + forms.transpose(0, 2, 1))
    half.flags.writeable = False
    return half


@dataclass(frozen=True, eq=False)
class Network:
    """A two-layer network; immutable, float64 (half-precision files are the exact numbers they hold).

    N = 0 is allowed (an affine function); d and m must be at least 1.  Raises :class:`InvalidNetwork`.

    Parameters
    ----------
    outer : (N, m)
    inner : (N, d)
    bias : (N,), default 0
    activation : registered name or :class:`Activation`
    scale : output scale s (1/N under μP, 1 for a plain checkpoint)
    affine : (m, d), default 0
    offset : (m,), default 0
    quadratic : (m, d, d), symmetrised, default none
    gate, gate_bias : (N, d) and (N,) of a gated block, default none (``gate_bias`` 0 when only ``gate`` is given)
    """

    outer: Array
    inner: Array
    bias: Array
    activation: Activation
    scale: float
    affine: Array
    offset: Array
    provenance: Provenance
    quadratic: Array | None
    gate: Array | None
    gate_bias: Array | None

    def __init__(
        self,
        outer: ArrayLike,
        inner: ArrayLike,
        bias: ArrayLike | None = None,
        activation: str | Activation = "relu",
        scale: float = 1.0,
        affine: ArrayLike | None = None,
        offset: ArrayLike | None = None,
        provenance: Provenance | None = None,
        quadratic: ArrayLike | None = None,
        gate: ArrayLike | None = None,
        gate_bias: ArrayLike | None = None,
    ) -> None:
        inner = _frozen("inner", inner, (None, None))
        width, d = inner.shape
        outer = _frozen("outer", outer, (width, None))
        m = outer.shape[1]
        if d < 1 or m < 1:
            raise InvalidNetwork(f"expected at least one input and one output, got d = {d}, m = {m}")
        if not np.isfinite(scale) or abs(scale) > LARGEST:
            raise InvalidNetwork(f"scale: expected a number of size at most {LARGEST:g}, got {scale}")
        if outer.size and np.max(np.abs(outer)) * abs(scale) > LARGEST:
            raise InvalidNetwork(f"outer: expected coefficients scale·outer of size at most {LARGEST:g}")
        fields = {
            "outer": outer,
            "inner": inner,
            "bias": _frozen("bias", np.zeros(width) if bias is None else bias, (width,)),
            "activation": get(activation) if isinstance(activation, str) else activation,
            "scale": float(scale),
            "affine": _frozen("affine", np.zeros((m, d)) if affine is None else affine, (m, d)),
            "offset": _frozen("offset", np.zeros(m) if offset is None else offset, (m,)),
            "provenance": provenance or Provenance(),
            "quadratic": None if quadratic is None else _symmetric(_frozen("quadratic", quadratic, (m, d, d))),
            "gate": None if gate is None else _frozen("gate", gate, (width, d)),
            "gate_bias": None,
        }
        if gate is not None:
            fields["gate_bias"] = _frozen("gate_bias", np.zeros(width) if gate_bias is None else gate_bias, (width,))
        elif gate_bias is not None:
            raise InvalidNetwork("gate_bias: expected a gate with it, got none")
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def gated(self) -> bool:
        """Whether neurons are σ(⟨gate, x⟩ + gate_bias)·(⟨inner, x⟩ + bias)."""
        return self.gate is not None

    @property
    def width(self) -> int:
        """Number of neurons N."""
        return self.inner.shape[0]

    @property
    def d(self) -> int:
        """Input dimension."""
        return self.inner.shape[1]

    @property
    def m(self) -> int:
        """Number of outputs."""
        return self.outer.shape[1]

    @cached_property
    def alpha(self) -> Array:
        """Dictionary coefficients α = scale·outer, shape (N, m)."""
        alpha = self.scale * self.outer
        alpha.flags.writeable = False
        return alpha

    def __call__(self, x: ArrayLike, block: int = 1 << 22) -> Array:
        """f(x) for x of shape (n, d); returns (n, m).  At most ``block`` pre-activations exist at a time."""
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.d:
            raise ValueError(f"expected inputs of shape (n, {self.d}), got {x.shape}")
        out = x @ self.affine.T + self.offset
        if self.quadratic is not None:
            for j, form in enumerate(self.quadratic):
                out[:, j] += np.einsum("ni,ni->n", x @ form, x)
        rows = max(1, min(x.shape[0], 4096))
        columns = max(1, block // rows)
        for i in range(0, x.shape[0], rows):
            for j in range(0, self.width, columns):
                z = x[i : i + rows] @ self.inner[j : j + columns].T + self.bias[j : j + columns]
                if self.gate is None or self.gate_bias is None:
                    value = self.activation.value(z)
                else:
                    u = x[i : i + rows] @ self.gate[j : j + columns].T + self.gate_bias[j : j + columns]
                    value = self.activation.value(u) * z
                out[i : i + rows] += value @ self.alpha[j : j + columns]
        return out

    def with_(self, **changes: Any) -> Network:
        """A copy with some fields replaced (all are validated again)."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Network(**(values | changes))

    def tagged(self, **changes: Any) -> Network:
        """A copy with some fields of the provenance replaced."""
        return self.with_(provenance=replace(self.provenance, **changes))

    def __repr__(self) -> str:
        return (
            f"Network(width={self.width}, d={self.d}, m={self.m}, activation={self.activation.name!r}, "
            f"scale={self.scale:g}, source={self.provenance.source!r})"
        )
