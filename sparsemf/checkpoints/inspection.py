"""What ``inspect`` finds in a file, without deciding anything."""

from __future__ import annotations

from dataclasses import dataclass

from sparsemf.checkpoints.files import Remark, TensorInfo


@dataclass(frozen=True)
class BlockInfo:
    """A two-layer block f(x) = outer·σ(inner·x + bias) + offset, x ∈ R^d, f ∈ R^m, ``width`` neurons; when
    ``gated``, outer·(σ(gate·x + gate_bias)∘(inner·x + bias)) + offset.

    ``kind`` is the family of names ("native", "bert", "gated mlp", …); ``tensors`` maps roles (inner, bias, outer,
    offset, affine, quadratic, gate, gate_bias) to names in the file - one name for gate and inner when it holds
    both; ``activation`` is None when nothing says it, ``activation_from`` says what does; ``layernorm`` names the
    LayerNorm that feeds the block; ``problem`` says what in the file prevents loading it (None: nothing does).
    """

    name: str
    kind: str
    width: int
    d: int
    m: int
    tensors: dict[str, str]
    transposed: tuple[str, ...]
    precision: str
    activation: str | None
    activation_from: str
    layernorm: str | None
    problem: str | None
    gated: bool = False


@dataclass(frozen=True)
class Inspection:
    """A file: its format, tensors, blocks, and what was left aside and why."""

    source: str
    format: str
    size_bytes: int
    sha256: str
    metadata: dict[str, str]
    tensors: tuple[TensorInfo, ...]
    blocks: tuple[BlockInfo, ...]
    not_understood: tuple[Remark, ...]
