"""The activation of a gated block, which configs name together with the gate: ``gated-silu``, ``swiglu``."""

from __future__ import annotations

from sparsemf.activations import Activation
from sparsemf.checkpoints import activation as plain
from sparsemf.checkpoints.files import TensorFile
from sparsemf.checkpoints.layouts import Layout

# ``gated-gelu`` is T5's own word for the tanh form; what ``geglu`` means differs from model to model, so it is not here
_GATES = {"gated-gelu": "gelu_tanh", "swiglu": "silu", "reglu": "relu"}


def find_activation(file: TensorFile, layout: Layout, option: str | None) -> tuple[str | None, str]:
    """(name, where it comes from) as :func:`sparsemf.checkpoints.activation.find_activation`; of a gated block the
    name is that of the gate's activation."""
    name, origin = plain.find_activation(file, layout, option)
    if layout.gated and name is not None:
        key = name.strip().lower()
        name = _GATES.get(key, key.removeprefix("gated-"))
    return name, origin


def resolve(file: TensorFile, layout: Layout, option: str | None) -> Activation:
    """The activation itself.  Raises an InputError when it is unknown, not stated, or does not go with the
    block."""
    stated, _ = plain.find_activation(file, layout, option)
    name, _ = find_activation(file, layout, option)
    return plain.resolve(file, layout, option if name == stated else name)
