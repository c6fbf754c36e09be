"""Where the two layers of a block lie in a file: which tensors, and which of them are transposed.

f(x) = outer·σ(inner·x + bias) + offset or, gated, outer·(σ(gate·x + gate_bias)∘(inner·x + bias)) + offset, in the
file either as linear layers of torch, y = W x with W of shape (out, in), or as x @ W with W of shape (in, out)
(GPT-2's Conv1D, JAX).  The shapes decide where they can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]


ROLES = ("inner", "bias", "outer", "offset", "affine", "quadratic", "gate", "gate_bias")
HALVES = {"inner": "gate", "bias": "gate_bias"}
"""In a fused tensor: the role of the second half → that of the first."""


@dataclass(frozen=True)
class Layout:
    """One block: names of its tensors in the file and how to bring them to (N, d) and (N, m).

    ``fused``: one tensor of twice the rows is gate (first half) and inner (second half), their biases alike.
    ``factors``: role → number that the file's tensor is multiplied by.  ``input_shift``, …: tensors of the affine
    maps around the block, see :mod:`~sparsemf.checkpoints.frames`.  ``activation``: where the file's own structure
    says it. ``facts``: what the provenance should say besides.
    """

    name: str
    kind: str
    inner: str
    outer: str
    inner_transposed: bool
    outer_transposed: bool
    width: int
    d: int
    m: int
    bias: str | None = None
    offset: str | None = None
    affine: str | None = None
    affine_transposed: bool = False
    gain: str | None = None
    shift: str | None = None
    native: bool = False
    quadratic: str | None = None
    gate: str | None = None
    gate_bias: str | None = None
    gate_transposed: bool = False
    fused: bool = False
    factors: tuple[tuple[str, float], ...] = ()
    input_shift: str | None = None
    input_scale: str | None = None
    output_shift: str | None = None
    output_scale: str | None = None
    activation: str | None = None
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def gated(self) -> bool:
        """Whether a neuron is σ(⟨gate, x⟩ + gate_bias)·(⟨inner, x⟩ + bias)."""
        return self.gate is not None

    @property
    def tensors(self) -> dict[str, str]:
        """Role → tensor name, of those present."""
        found = {role: getattr(self, role) for role in ROLES}
        return {role: name for role, name in found.items() if name is not None}

    @property
    def sources(self) -> tuple[str, ...]:
        """All tensors that the block's numbers come from."""
        frame = (self.input_shift, self.input_scale, self.output_shift, self.output_scale)
        return (*self.tensors.values(), *(name for name in frame if name is not None))

    @property
    def layernorm(self) -> str | None:
        """The name of the LayerNorm that feeds the block."""
        return None if self.gain is None else self.gain.rsplit(".", 1)[0]


@dataclass(frozen=True)
class Misfit:
    """Two tensors that do not make a block, and why."""

    reason: str


@dataclass(frozen=True)
class Pair:
    """Two weight matrices with their biases, and perhaps the gate of the first, as candidates for a block."""

    first: str
    second: str
    bias: str | None
    offset: str | None
    gate: str | None = None
    gate_bias: str | None = None

    @property
    def members(self) -> set[str]:
        """The tensors that there are."""
        named = (self.first, self.second, self.bias, self.offset, self.gate, self.gate_bias)
        return {name for name in named if name is not None}


def fit(name: str, kind: str, pair: Pair, shapes: Shapes, prefer: str | None = "linear") -> Layout | Misfit:
    """The layout of a pair by its shapes, or why it has none.

    ``prefer`` ("linear", "applied" or None) settles what shapes leave open; None calls it ambiguous.
    """
    first, second = shapes[pair.first], shapes[pair.second]
    if len(first) != 2 or len(second) != 2:
        return Misfit(f"{pair.first} {first} and {pair.second} {second}: expected two matrices")
    bias = shapes[pair.bias] if pair.bias else None
    offset = shapes[pair.offset] if pair.offset else None
    gate_bias = shapes[pair.gate_bias] if pair.gate_bias else None
    if pair.gate and shapes[pair.gate] != first:
        return Misfit(f"{pair.gate} {shapes[pair.gate]} and {pair.first} {first}: expected a gate of the same shape")

    def agrees(width: int, m: int) -> bool:
        return bias in (None, (width,)) and gate_bias in (None, (width,)) and offset in (None, (m,))

    fits = {}
    if first[0] == second[1] and agrees(first[0], second[0]):
        fits["linear"] = (first[0], first[1], second[0])
    # torch's modules hold (out, in): the other way needs a reason, a Conv1D or a bias that counts the neurons
    if first[1] == second[0] and agrees(first[1], second[1]) and (prefer != "linear" or bias or gate_bias):
        fits["applied"] = (first[1], first[0], second[1])
    if not fits:
        if first[0] == 2 * second[1]:
            return Misfit(
                f"{pair.first} has twice the rows that {pair.second} takes: a gated block, and nothing says which half "
                "is the gate; save the halves as gate and inner"
            )
        biases = "".join(f", {n} {shapes[n]}" for n in (pair.bias, pair.gate_bias, pair.offset) if n)
        return Misfit(f"the shapes do not chain: {pair.first} {first}, {pair.second} {second}{biases}")
    if len(fits) == 2 and prefer is None:
        return Misfit(f"{pair.first} {first} and {pair.second} {second} fit both ways; say it with --map and :T or :N")
    way = next(iter(fits)) if len(fits) == 1 else str(prefer)
    width, d, m = fits[way]
    if min(width, d, m) < 1:
        return Misfit(f"width {width}, d = {d}, m = {m}: expected at least 1 each")
    linear = way == "linear"
    return Layout(
        name,
        kind,
        pair.first,
        pair.second,
        not linear,
        linear,
        width,
        d,
        m,
        pair.bias,
        pair.offset,
        gate=pair.gate,
        gate_bias=pair.gate_bias,
        gate_transposed=pair.gate is not None and not linear,
    )


def fit_fused(name: str, kind: str, pair: Pair, shapes: Shapes) -> Layout | Misfit:
    """The layout of a gated block whose ``first`` (2N, d) and its bias (2N,) hold the gate in their first half."""
    first, second = shapes[pair.first], shapes[pair.second]
    bias = shapes[pair.bias] if pair.bias else None
    offset = shapes[pair.offset] if pair.offset else None
    if (
        len(first) != 2
        or len(second) != 2
        or first[0] != 2 * second[1]
        or bias not in (None, (first[0],))
        or offset not in (None, (second[0],))
    ):
        biases = "".join(f", {n} {shapes[n]}" for n in (pair.bias, pair.offset) if n)
        return Misfit(
            f"expected gate and value in one tensor, {pair.first} (2N, d) with {pair.second} (m, N), "
            f"got {first} and {second}{biases}"
        )
    width, d, m = second[1], first[1], second[0]
    if min(width, d, m) < 1:
        return Misfit(f"width {width}, d = {d}, m = {m}: expected at least 1 each")
    return Layout(
        name,
        kind,
        pair.first,
        pair.second,
        inner_transposed=False,
        outer_transposed=True,
        width=width,
        d=d,
        m=m,
        bias=pair.bias,
        offset=pair.offset,
        gate=pair.first,
        gate_bias=pair.bias,
        fused=True,
    )
