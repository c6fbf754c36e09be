"""Blocks known by the names of their layers: transformer MLPs and what people call two layers.

BERT and ViT ``intermediate.dense/output.dense``, GPT-2 ``mlp.c_fc/c_proj``, NeoX and Falcon
``dense_h_to_4h/dense_4h_to_h``, T5 ``wi/wo``, …; gated ones: Llama's ``gate_proj/up_proj/down_proj`` or
``w1/w3/w2``, T5 v1.1's ``wi_0/wi_1/wo``, and those with gate and value in one tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sparsemf.checkpoints.layouts import Layout, Misfit, Pair, Shapes, fit, fit_fused
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

# (gate, value, second layer, kind): modules of one gated block
_GATED = (
    ("gate_proj", "up_proj", "down_proj", "mlp"),
    ("wi_0", "wi_1", "wo", "t5"),
    ("w1", "w3", "w2", "mlp"),
)

# (gate and value in one tensor, second layer, kind).  Phi-3 and GLM: gate_up_proj; ModernBERT: Wi, whose first half is
# what the activation is applied to (its code calls that half the input, and the other one the gate)
_FUSED = (
    ("gate_up_proj", "down_proj", "mlp"),
    ("Wi", "Wo", "modernbert"),
)

# where the LayerNorm that feeds the block lies: relative to the block's prefix, "^" is the module around it
_NORMS = {
    "bert": ("attention.output.LayerNorm", "layernorm_after", "layer_norm2"),
    "gpt2": ("^ln_2",),
    "neox": ("^post_attention_layernorm", "^ln_mlp", "^input_layernorm"),
    "gptj": ("^ln_2", "^ln_1"),
    "mlp": ("^post_attention_layernorm", "^norm2", "^ln_2", "^layer_norm2", "^layernorm_after"),
}


def find_gated(shapes: Shapes) -> Iterator[tuple[str, Layout | Misfit, set[str]]]:
    """(block name, layout or misfit, tensors used) for every gated block of the tables."""
    for name in sorted(shapes):
        for gate, first, second, kind in _GATED:
            if not _at_component(name, f"{gate}.weight"):
                continue
            prefix = name[: -len(f"{gate}.weight")]
            if not all(f"{prefix}{part}.weight" in shapes for part in (first, second)):
                continue
            pair = replace(
                module_pair(prefix + first, prefix + second, shapes),
                gate=name,
                gate_bias=_present(f"{prefix}{gate}.bias", shapes),
            )
            if gate == "w1":  # three layers in a row may have these names, but not these shapes
                one, two = shapes[name], shapes[pair.second]
                if shapes[pair.first] != one or two != one[::-1]:
                    continue
                if len(set(one)) == 1:
                    reason = "w1, w3 and w2 fit as a gated block and as three layers in a row; say it with --map gate=…"
                    yield _title(prefix), Misfit(reason), pair.members
                    continue
            yield _with_norm(prefix, kind, pair, fit(_title(prefix), kind, pair, shapes), shapes)
        for fused, second, kind in _FUSED:
            if not _at_component(name, f"{fused}.weight"):
                continue
            prefix = name[: -len(f"{fused}.weight")]
            if f"{prefix}{second}.weight" not in shapes:
                continue
            pair = module_pair(prefix + fused, prefix + second, shapes)
            if fused == "Wi" and shapes[name][:1] != tuple(2 * n for n in shapes[pair.second][1:2]):
                continue  # a plain block under the same names
            yield _with_norm(prefix, kind, pair, fit_fused(_title(prefix), kind, pair, shapes), shapes)


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
    layout = fit(_title(prefix), kind, pair, shapes, _preference(prefix, kind, pair, shapes))
    return _with_norm(prefix, kind, pair, layout, shapes)


def _with_norm(
    prefix: str, kind: str, pair: Pair, layout: Layout | Misfit, shapes: Shapes
) -> tuple[str, Layout | Misfit, set[str]]:
    if isinstance(layout, Layout):
        layout = replace(layout, **find_norm(prefix, kind, layout.d, shapes))
    return _title(prefix), layout, pair.members


def _title(prefix: str) -> str:
    return prefix.removesuffix(".") or UNNAMED


def _preference(prefix: str, kind: str, pair: Pair, shapes: Shapes) -> str | None:
    """How to read a pair whose shapes fit both ways: a module is torch's Linear, unless it may be GPT-2's
    Conv1D."""
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
