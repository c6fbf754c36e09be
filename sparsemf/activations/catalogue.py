"""The catalogue of symmetries as markdown, printed from the registry so that it says what the code does.

``python -m sparsemf.activations.catalogue docs/catalogue.md`` rewrites the part of that file between its markers.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sparsemf.activations.base import Activation, Image, Kind, Relation, Term
from sparsemf.activations.registry import aliases, entry, get, names
from sparsemf.exceptions import InputError

BEGIN, END = "<!-- catalogue:begin -->", "<!-- catalogue:end -->"

#: Gated blocks a·σ(⟨w, x⟩ + b)·(⟨v, x⟩ + c) by the activation of their gate.
GATED = {
    "SwiGLU": "silu",
    "GeGLU": "gelu",
    "GeGLU, tanh form": "gelu_tanh",
    "ReGLU": "relu",
    "GLU": "sigmoid",
    "bilinear": "linear",
}

_QUOTIENTS: dict[Kind, str] = {
    "atoms": "measure on the section",
    "kinks": "relu kink measure",
    "matrix": "matrix Σ a wᵀ",
    "quadratic": "quadratic forms Σ a w̃w̃ᵀ",
    "tensor": "tensor Σ a ⊗ w̃^{⊗k}",
    "frequencies": "measure on frequencies ±w",
}


def catalogue_table() -> str:
    """Three markdown tables: what each σ is; why its atoms are independent (or what is seen); gated blocks."""
    known = {name: get(name) for name in names()}
    definitions = [
        [
            f"`{name}`",
            ", ".join(f"`{alias}`" for alias in aliases(name)) or "–",
            entry(name).formula,
            entry(name).group,
            _relation(sigma.relation),
            "–" if sigma.homogeneous is None else str(sigma.homogeneous),
            entry(name).inactive,
            _image(sigma.image),
            "closed form" if sigma.kernel_closed else "series",
        ]
        for name, sigma in known.items()
    ]
    shared: dict[tuple[str, str], list[str]] = {}
    for name, sigma in known.items():
        shared.setdefault((_QUOTIENTS[sigma.kind], entry(name).independence), []).append(name)
    arguments = [
        [
            ", ".join(f"`{name}`" for name in group),
            quotient,
            argument,
            "; ".join(dict.fromkeys(entry(name).source for name in group)),
        ]
        for (quotient, argument), group in shared.items()
    ]
    gated = [
        [block, f"`{gate}`", _gated_group(get(gate)), _gated_flip(get(gate)), _gated_seen(get(gate))]
        for block, gate in GATED.items()
    ]
    return "\n\n".join(
        [
            _table(
                ["name", "aliases", "σ(z)", "acts on (a, w, b)", "relation", "degree", "inactive", "image", "kernel"],
                definitions,
            ),
            _table(["σ", "quotient", "why the atoms are independent, or what is seen", "source"], arguments),
            _table(["gated block", "gate σ", "acts on a neuron", "a flip of the gate costs", "what is seen"], gated),
        ]
    )


def rewrite(path: Path) -> None:
    """Put the table between the markers of a markdown file.  Raises :class:`InputError` without them."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(f"{path.name}: expected one {BEGIN} before one {END}; put the markers back")
    before, rest = text.split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n\n{catalogue_table()}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _sum(parts: list[tuple[float, str]]) -> str:
    """Σ coefficient·factor with signs and without zeros; a factor may be empty."""
    out = ""
    for coefficient, factor in parts:
        if coefficient == 0.0:
            continue
        size = f"{abs(coefficient):.6g}"
        shown = factor if factor and abs(coefficient) == 1.0 else f"{size}·{factor}" if factor else size
        out += f" {'−' if coefficient < 0 else '+'} {shown}" if out else f"{'−' if coefficient < 0 else ''}{shown}"
    return out or "0"


def _relation(relation: Relation | None) -> str:
    if relation is None:
        return "–"
    r = relation
    return f"σ(z) = {_sum([(r.sign, 'σ(−z)'), (r.quadratic, 'z²'), (r.linear, 'z'), (r.constant, '')])}"


def _image(image: Image | None) -> str:
    if image is None:
        return "core"
    constant, linear = image.polynomial
    return _sum([*((term.coefficient, _core(term)) for term in image.terms), (linear, "z"), (constant, "")])


def _core(term: Term) -> str:
    return f"{term.core}({_sum([(term.scale, 'z'), (term.shift, '')])})"


def _gated_group(gate: Activation) -> str:
    own = "(a, v, c) ~ (a/t, tv, tc), t ≠ 0"
    if gate.kind == "matrix":
        return f"{own}; gate and value trade places; (w, b) ~ (sw, sb) with a/s, s ≠ 0"
    return f"{own}; (w, b) ~ (sw, sb) with a/s, s > 0" if gate.homogeneous == 1 else own


def _gated_flip(gate: Activation) -> str:
    relation = gate.relation
    if relation is None:
        return "no flip"
    cost = _sum([(relation.linear, "a z v(x)"), (relation.constant, "a v(x)")])
    kind = " (a quadratic form)" if relation.linear else " (an affine function)" if relation.constant else ""
    return f"{cost}{kind}"


def _gated_seen(gate: Activation) -> str:
    if gate.kind == "matrix":
        return (
            "no atoms: only the quadratic forms Σ a w̃ṽᵀ, symmetrised; one output without biases: S* = max(n₊, n₋), "
            "the larger index of inertia"
        )
    return "the matrix Σ a ṽᵀ of each gate, ṽ = (v, c): atoms that share a gate count its rank"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        rewrite(Path(argument))
