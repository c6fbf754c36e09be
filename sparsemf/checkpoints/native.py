"""The project's own names: ``outer`` (N, m), ``inner`` (N, d), ``bias`` (N,), ``affine`` (m, d), ``offset`` (m,),
``quadratic`` (m, d, d) and, of a gated block, ``gate`` (N, d), ``gate_bias`` (N,)."""

from __future__ import annotations

from collections.abc import Iterator

from sparsemf.checkpoints.layouts import Layout, Misfit, Shapes

FORMAT_VERSION = 1
UNNAMED = "main"

_ROLES = ("inner", "outer", "bias", "affine", "offset", "quadratic", "gate", "gate_bias")


def find_native(shapes: Shapes) -> Iterator[tuple[str, Layout | Misfit, set[str]]]:
    """(block name, layout or misfit, tensors used) for every prefix under which ``inner`` and ``outer`` lie."""
    prefixes = {name[: -len("inner")] for name in shapes if name == "inner" or name.endswith(".inner")}
    prefixes |= {name[: -len("outer")] for name in shapes if name == "outer" or name.endswith(".outer")}
    for prefix in sorted(prefixes):
        name = prefix.removesuffix(".") or UNNAMED
        present = {role: prefix + role for role in _ROLES if prefix + role in shapes}
        yield name, _fit(name, present, shapes), set(present.values())


def _fit(name: str, present: dict[str, str], shapes: Shapes) -> Layout | Misfit:
    for role in ("inner", "outer"):
        if role not in present:
            return Misfit(f"expected inner (N, d) and outer (N, m), found no {role}; save both")
    if "gate_bias" in present and "gate" not in present:
        return Misfit("gate_bias: expected a gate (N, d) with it, found none; save both, or neither")
    inner, outer = shapes[present["inner"]], shapes[present["outer"]]
    if len(inner) != 2 or len(outer) != 2 or inner[0] != outer[0]:
        return Misfit(f"expected inner (N, d) and outer (N, m), got {inner} and {outer}; save them in these shapes")
    width, d, m = inner[0], inner[1], outer[1]
    if width == 0:
        return Misfit(f"width 0: expected at least one neuron, got inner {inner}; save the affine function elsewhere")
    if d == 0 or m == 0:
        return Misfit(f"expected at least one input and one output, got d = {d}, m = {m}")
    expected = {
        "bias": (width,),
        "affine": (m, d),
        "offset": (m,),
        "quadratic": (m, d, d),
        "gate": (width, d),
        "gate_bias": (width,),
    }
    for role, shape in expected.items():
        if role in present and shapes[present[role]] != shape:
            return Misfit(f"{role}: expected shape {shape}, got {shapes[present[role]]}; save it in this shape")
    return Layout(
        name,
        "native",
        present["inner"],
        present["outer"],
        inner_transposed=False,
        outer_transposed=False,
        width=width,
        d=d,
        m=m,
        bias=present.get("bias"),
        offset=present.get("offset"),
        affine=present.get("affine"),
        quadratic=present.get("quadratic"),
        gate=present.get("gate"),
        gate_bias=present.get("gate_bias"),
        native=True,
    )
