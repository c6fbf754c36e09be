"""Blocks known by the names of their layers: transformer MLPs and what people call two layers.

BERT and ViT ``intermediate.dense/output.dense``, GPT-2 ``mlp.c_fc/c_proj``, NeoX and Falcon
``dense_h_to_4h/dense_4h_to_h``, T5 ``wi/wo``, …; gated ones are recognised in order to be refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sparsemf.checkpoints.layouts import Layout, Misfit, Pair, Shapes, fit
from sparsemf.checkpoints.native import UNNAMED

# (first layer, second layer, kind); each is a module with .weight and perhaps .bias
_PAIRS = (
    ("intermediate.dense", "output.dense", "bert"),
    ("c_fc", "c_proj", "gpt2"),
    ("dense_h_to_4h", "dense_4h_to_h", "neox"),
    ("wi", "wo", "t5"),
    ("Wi", "Wo", "t5"),
    ("fc_in", "fc_out", "gptj"),
    ("up_proj", "down_proj", "mlp"),
    ("dense_in", "dense_out", "mlp"),
    ("lin_in", "lin_out", "mlp"),
    ("hidden", "output", "mlp"),
    ("hidden", "readout", "mlp"),
    ("hidden", "out", "mlp"),
    ("input_layer", "output_layer", "mlp"),
    ("encoder", "decoder", "autoencoder"),
)

# bare parameters: (first, its bias, second, its bias)
_BARE = (
    ("W_in", "b_in", "W_out", "b_out"),
    ("W_enc", "b_enc", "W_dec", "b_dec"),
    ("w_in", "b_in", "w_out", "b_out"),
)

# a tensor of the first name with one of the second beside it makes the block gated
_GATED = (
    ("gate_proj", "up_proj", "down_proj"),
    ("wi_0", "wi_1", "wo"),
    ("gate_up_proj", "down_proj", "down_proj"),
)

# where the LayerNorm that feeds the block lies: relative to the block's prefix, "^" is the module around it
_NORMS = {
    "bert": ("attention.output.LayerNorm", "layernorm_after", "layer_norm2"),
    "gpt2": ("^ln_2",),
    "neox": ("^post_attention_layernorm", "^ln_mlp", "^input_layernorm"),
    "gptj": ("^ln_2", "^ln_1"),
    "mlp": ("^post_attention_layernorm", "^norm2", "^ln_2", "^layer_norm2", "^layernorm_after"),
}


def find_gated(shapes: Shapes) -> Iterator[tuple[str, Misfit, set[str]]]:
    """Gated blocks: Llama's gate/up/down, T5 v1.1's wi_0/wi_1, w1/w2/w3 with w3 like w1."""
    for name in sorted(shapes):
        for gate, up, down in (*_GATED, ("w1", "w3", "w2")):
            tail = f"{gate}.weight"
            if not _at_component(name, tail):
                continue
            prefix = name[: -len(tail)]
            members = [prefix + f"{part}.weight" for part in (gate, up, down)]
            if not all(member in shapes for member in members):
                continue
            if gate == "w1" and not shapes[members[0]] == shapes[members[1]] == shapes[members[2]][::-1]:
                continue
            used = {f"{prefix}{part}.{kind}" for part in (gate, up, down) for kind in ("weight", "bias")}
            reason = f"gated blocks ({gate}/{up}/{down}) are not supported yet; take a plain two-layer block"
            yield prefix.removesuffix(".") or UNNAMED, Misfit(reason), used & set(shapes)


def find_named(shapes: Shapes) -> Iterator[tuple[str, Layout | Misfit, set[str]]]:
    """(block name, layout or misfit, tensors used) for every pair of the table."""
    for name in sorted(shapes):
        for first, second, kind in _PAIRS:
            if not _at_component(name, f"{first}.weight"):
                continue
            prefix = name[: -len(f"{first}.weight")]
            if f"{prefix}{second}.weight" in shapes:
                pair = module_pair(prefix + first, prefix + second, shapes)
                yield _block(prefix, kind, pair, shapes)
        for first, bias, second, offset in _BARE:
            if not _at_component(name, first):
                continue
            prefix = name[: -len(first)]
            if prefix + second in shapes:
                pair = Pair(name, prefix + second, _present(prefix + bias, shapes), _present(prefix + offset, shapes))
                yield _block(prefix, "bare", pair, shapes)


def module_pair(first: str, second: str, shapes: Shapes) -> Pair:
    """Two modules with ``.weight`` and perhaps ``.bias``."""
    return Pair(
        f"{first}.weight", f"{second}.weight", _present(f"{first}.bias", shapes), _present(f"{second}.bias", shapes)
    )


def find_norm(prefix: str, kind: str, d: int, shapes: Shapes) -> dict[str, str]:
    """Names of gain and shift of the LayerNorm that feeds the block at ``prefix`` ("…mlp."), when it is known.

    Only a norm with both gain and shift is a LayerNorm; a gain alone is an RMS norm, whose law is another one.
    """
    around = prefix[:-1].rpartition(".")[0] if prefix else ""
    for place in _NORMS.get(kind, ()):
        base = (around + "." if around else "") + place[1:] if place.startswith("^") else prefix + place
        for gain, shift in ((f"{base}.weight", f"{base}.bias"), (f"{base}.gamma", f"{base}.beta")):
            if shapes.get(gain) == (d,) and shapes.get(shift) == (d,):
                return {"gain": gain, "shift": shift}
    return {}


def _block(prefix: str, kind: str, pair: Pair, shapes: Shapes) -> tuple[str, Layout | Misfit, set[str]]:
    name = prefix.removesuffix(".") or UNNAMED
    used = {member for member in (pair.first, pair.second, pair.bias, pair.offset) if member}
    layout = fit(name, kind, pair, shapes, _preference(prefix, kind, pair, shapes))
    if isinstance(layout, Layout):
        layout = replace(layout, **find_norm(prefix, kind, layout.d, shapes))
    return name, layout, used


def _preference(prefix: str, kind: str, pair: Pair, shapes: Shapes) -> str | None:
    """How to read a pair whose shapes fit both ways: a module is torch's Linear, unless it may be GPT-2's Conv1D."""
    if kind == "bare":
        return None
    if kind != "gpt2" or pair.bias is None:  # Conv1D always has a bias
        return "linear"
    around = prefix.removesuffix("mlp.")
    attention = shapes.get(f"{around}attn.c_attn.weight", ())
    if len(attention) == 2 and attention[0] != attention[1]:
        return "applied" if attention[1] == 3 * attention[0] else "linear"
    return None


def _present(name: str, shapes: Shapes) -> str | None:
    return name if name in shapes else None


def _at_component(name: str, tail: str) -> bool:
    """Whether ``name`` ends with ``tail`` at a boundary of dotted components."""
    return name == tail or name.endswith("." + tail)
