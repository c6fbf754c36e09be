"""The project's own names: ``outer`` (N, m), ``inner`` (N, d), ``bias`` (N,), ``affine`` (m, d), ``offset`` (m,)."""

from __future__ import annotations

from collections.abc import Iterator

from sparsemf.checkpoints.layouts import Layout, Misfit, Shapes

FORMAT_VERSION = 1
UNNAMED = "main"

_UNSUPPORTED = ("gate", "gate_bias", "quadratic")


def find_native(shapes: Shapes) -> Iterator[tuple[str, Layout | Misfit, set[str]]]:
    """(block name, layout or misfit, tensors used) for every prefix under which ``inner`` and ``outer`` lie."""
    prefixes = {name[: -len("inner")] for name in shapes if name == "inner" or name.endswith(".inner")}
    prefixes |= {name[: -len("outer")] for name in shapes if name == "outer" or name.endswith(".outer")}
    for prefix in sorted(prefixes):
        name = prefix.removesuffix(".") or UNNAMED
        roles = ("inner", "outer", "bias", "affine", "offset", *_UNSUPPORTED)
        present = {role: prefix + role for role in roles if prefix + role in shapes}
        yield name, _fit(name, present, shapes), set(present.values())


def _fit(name: str, present: dict[str, str], shapes: Shapes) -> Layout | Misfit:
    for role in ("inner", "outer"):
        if role not in present:
            return Misfit(f"expected inner (N, d) and outer (N, m), found no {role}; save both")
    for role in _UNSUPPORTED:
        if role in present:
            kind = "quadratic parts" if role == "quadratic" else "gated blocks"
            return Misfit(f"{kind} ({present[role]}) are not supported yet; remove it or take another block")
    inner, outer = shapes[present["inner"]], shapes[present["outer"]]
    if len(inner) != 2 or len(outer) != 2 or inner[0] != outer[0]:
        return Misfit(f"expected inner (N, d) and outer (N, m), got {inner} and {outer}; save them in these shapes")
    width, d, m = inner[0], inner[1], outer[1]
    if width == 0:
        return Misfit(f"width 0: expected at least one neuron, got inner {inner}; save the affine function elsewhere")
    if d == 0 or m == 0:
        return Misfit(f"expected at least one input and one output, got d = {d}, m = {m}")
    for role, shape in {"bias": (width,), "affine": (m, d), "offset": (m,)}.items():
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
        native=True,
    )
