"""The LayerNorm in front of a block: the node LayerNormalization, or its parts as exporters before opset 17 wrote
them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsemf.checkpoints.onnx_graph import Graph


def find_layernorm(graph: Graph, value: str, d: int) -> dict[str, Any]:
    """Names of gain and shift (d,) of the LayerNorm over the last axis whose output ``value`` is; empty if there is
    none.

    The parts are (x − mean x)/√(mean (x − mean x)² + ε)·gain + shift.
    """
    value, _ = graph.through(value)
    node = graph.node(value)
    if node is None:
        return {}
    if node.op_type == "LayerNormalization":
        names = list(node.input[1:3])
        if graph.options(node).get("axis", -1) != -1 or len(names) != 2 or not names[1] or node.output[0] != value:
            return {}
        return _vectors(graph, names[0], names[1], d)
    shift, scaled = _operands(graph, node, "Add")
    gain, normed = _operands(graph, scaled, "Mul")
    if shift is None or gain is None or not _is_normed(graph, normed):
        return {}
    return _vectors(graph, gain, shift, d)


def _operands(graph: Graph, node: Any, op: str) -> tuple[str | None, Any]:
    """(the constant operand, the node that makes the other one) of a commutative node."""
    if node is None or node.op_type != op or len(node.input) != 2:
        return None, None
    for constant, other in (node.input, node.input[::-1]):
        if graph.constant(constant) is not None:
            return constant, graph.node(graph.through(other)[0])
    return None, None


def _is_normed(graph: Graph, node: Any) -> bool:
    """Whether a node is (x − mean)/√(mean (x − mean)² + ε)."""
    if node is None or node.op_type != "Div":
        return False
    centred, deviation = (graph.through(name)[0] for name in node.input)
    top, root = graph.node(centred), graph.node(deviation)
    if top is None or top.op_type != "Sub" or root is None or root.op_type != "Sqrt":
        return False
    mean = graph.node(graph.through(top.input[1])[0])
    if mean is None or mean.op_type != "ReduceMean":
        return False
    if graph.through(mean.input[0])[0] != graph.through(top.input[0])[0]:
        return False
    _, variance = _operands(graph, graph.node(graph.through(root.input[0])[0]), "Add")
    if variance is None or variance.op_type != "ReduceMean":
        return False
    square = graph.node(graph.through(variance.input[0])[0])
    if square is None or square.op_type not in ("Pow", "Mul") or graph.through(square.input[0])[0] != centred:
        return False
    last = all(_axes(graph, reduction) == [-1] for reduction in (mean, variance))
    other = square.input[1]
    return last and (graph.through(other)[0] == centred if square.op_type == "Mul" else graph.scalar(other) == 2.0)


def _axes(graph: Graph, node: Any) -> list[int] | None:
    axes = graph.options(node).get("axes")
    if axes is None and len(node.input) > 1:
        constant = graph.constant(node.input[1])
        number = None if constant is None else graph.scalar(constant.name)
        axes = None if number is None else [int(number)]
    return axes


def _vectors(graph: Graph, gain: str, shift: str, d: int) -> dict[str, str]:
    found = [graph.constant(name) for name in (gain, shift)]
    one, two = found
    if one is None or two is None or one.shape != (d,) or two.shape != (d,):
        return {}
    return {"gain": one.name, "shift": two.name}
