"""Two-layer blocks in an ONNX graph: linear → activation → linear, and linear, linear → product → linear.

A *linear* is a Gemm, or a MatMul with perhaps an Add of a vector, whose weight and bias are constants: initialisers
or Constant nodes, perhaps behind Identity, Transpose, a widening Cast or DequantizeLinear.  From the input of every
linear the graph is walked back through operations on single entries; when all ways end in the output of one linear,
the piece between is an activation (:mod:`~sparsemf.checkpoints.onnx_activations`), and when they end in two linears
of the same input and the piece is a product of one's output with a function of the other's, the block is gated.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from sparsemf.checkpoints import onnx_activations as pieces
from sparsemf.checkpoints.files import Remark, TensorInfo
from sparsemf.checkpoints.layouts import Layout
from sparsemf.checkpoints.onnx_activations import Expression
from sparsemf.checkpoints.onnx_graph import MAX_STEPS, Graph, Linear
from sparsemf.checkpoints.onnx_norms import find_layernorm
from sparsemf.checkpoints.quantized import Quantized

_MAX_FACTORS = 16
_LAST = ("Softmax", "LogSoftmax", "Sigmoid", "Tanh", "Exp", "Relu", "Softplus")
_HALF = ("float16", "bfloat16")
_INTEGER_OPS = ("MatMulInteger", "QLinearMatMul", "QGemm", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")
_INTEGER_OPS += ("MatMulNBits",)


@dataclass
class Chains:
    """What was found in a graph."""

    layouts: tuple[Layout, ...] = ()
    refused: tuple[Remark, ...] = ()
    remarks: tuple[Remark, ...] = ()
    dequantised: dict[str, TensorInfo] = field(default_factory=dict)
    quantized: dict[str, Quantized] = field(default_factory=dict)
    hidden: dict[str, tuple[str, ...]] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    leaks: dict[str, str] = field(default_factory=dict)


def find_chains(graph: Graph) -> Chains:
    """Every block of the graph, in the order of its nodes."""
    found = Chains()
    layouts: list[Layout] = []
    refused: list[Remark] = []
    uses: Counter[str] = Counter()
    for node in graph.nodes:
        if any(attribute.type in (5, 10) for attribute in node.attribute):
            found.remarks += (Remark(node.name or node.op_type, f"{node.op_type}: the graph inside is left aside"),)
        if (node.domain, node.op_type) in graph.functions:
            found.remarks += (Remark(node.name or node.op_type, f"the function {node.op_type} is left aside"),)
        if node.op_type in _INTEGER_OPS:
            reason = f"{node.op_type} computes in integers, which is another function; export with QDQ nodes or floats"
            refused.append(Remark(node.name or node.output[0], reason))
        uses.update(name for name in set(node.input) if name in graph.tensors)
        if node.op_type not in ("Gemm", "MatMul") or not node.output:
            continue
        second = graph.linear(node.output[0])
        if second is None:
            continue
        second = _with_bias(graph, node.output[0]) or second
        result = _block(graph, second)
        if isinstance(result, Remark):
            refused.append(result)
        elif result is not None:
            layout, values = result
            if (after := _output_activation(graph, second)) is not None:
                layout = replace(layout, facts=(*layout.facts, ("output_activation", after)))
            name, count = layout.name, 1
            while layout.name in found.hidden:
                count += 1
                layout = replace(layout, name=f"{name}~{count}")
            layouts.append(layout)
            found.hidden[layout.name] = values
            inside = {*values, *second.values}
            users = [user for value in values for user in graph.users.get(value, []) if not inside & set(user.output)]
            if users or graph.outputs & set(values):
                found.leaks[layout.name] = users[0].name or users[0].op_type if users else "an output of the model"
    found.layouts, found.refused = tuple(layouts), tuple(refused)
    found.dequantised, found.quantized = graph.dequantised, graph.quantized
    found.shared = frozenset(name for name, count in uses.items() if count > 1)
    return found


def _output_activation(graph: Graph, second: Linear) -> str | None:
    """The operation that makes the model's output of the block's, as the softmax of a classifier does."""
    users = graph.users.get(second.values[0], []) if second.values else []
    if len(users) != 1 or users[0].op_type not in _LAST or not graph.outputs & set(users[0].output):
        return None
    return str(users[0].op_type)


def _with_bias(graph: Graph, value: str) -> Linear | None:
    """The linear with the Add that follows it, when all that uses the product is that Add."""
    found = graph.linear(value)
    if found is None or found.bias is not None:
        return None
    for _ in range(MAX_STEPS):
        users = graph.users.get(value, [])
        if len(users) != 1 or not users[0].output:
            return None
        value = users[0].output[0]
        if users[0].op_type == "Add":
            after = graph.linear(value)
            return after if after is not None and after.weight == found.weight else None
        if users[0].op_type not in ("Identity", "Cast"):
            return None
    return None


def _block(graph: Graph, second: Linear) -> tuple[Layout, tuple[str, ...]] | Remark | None:
    """The block that ends in ``second``, with the values between its layers; a remark; or None when nothing is
    there."""
    reader = _Reader(graph)
    piece = reader.read(second.source, 0)
    title = _label(graph, second)
    if reader.stop is not None:
        before, reason = reader.stop
        return Remark(f"{_label(graph, before)}-{title}", reason)
    if piece is None or not piece.leaves:
        return None
    linears = [reader.linears[name] for name in sorted(piece.leaves)]
    values = tuple(dict.fromkeys(reader.values))
    first, gate = linears[0], None
    if len(linears) == 2:
        split = _gated(piece, reader)
        if split is None:
            return Remark(title, "two layers meet before it, and not as the gate and value of one block")
        piece, gate, first = split
    elif len(linears) > 2:
        return Remark(title, f"{len(linears)} layers meet before it")
    name = _title(_label(graph, first), title)
    activation, how = pieces.identify(piece) if piece.op != "leaf" else ("linear", "no node")
    if activation is None:
        return Remark(name, how)
    if activation == "linear" and gate is None:
        return Remark(name, "the layers follow each other without an activation")
    return _layout(graph, name, first, gate, second, activation, how, values)


def _layout(
    graph: Graph,
    name: str,
    first: Linear,
    gate: Linear | None,
    second: Linear,
    activation: str,
    how: str,
    values: tuple[str, ...],
) -> tuple[Layout, tuple[str, ...]] | Remark:
    (d, width), (inside, m) = first.sizes, second.sizes
    if width != inside or first.left != second.left or min(d, width, m) < 1:
        return Remark(name, f"the shapes do not chain: {first.weight.shape}, {second.weight.shape}")
    if gate is not None and (gate.sizes != first.sizes or gate.left != first.left):
        return Remark(name, f"expected a gate of the same shape, got {gate.weight.shape} and {first.weight.shape}")
    factors = [("inner", first.alpha), ("bias", first.beta), ("outer", second.alpha), ("offset", second.beta)]
    if gate is not None:
        factors += [("gate", gate.alpha), ("gate_bias", gate.beta)]
    biases = {"bias": first.bias, "offset": second.bias, "gate_bias": None if gate is None else gate.bias}
    names = {role: None if bias is None else bias.name for role, bias in biases.items()}
    facts = [("activation_nodes", how)]
    if graph.integer_activations:
        facts.append(("quantised_activations", "nodes that round the values between the layers are left out"))
    layout = Layout(
        name,
        "onnx",
        first.weight.name,
        second.weight.name,
        inner_transposed=not first.out_first,
        outer_transposed=second.out_first,
        width=width,
        d=d,
        m=m,
        gate=None if gate is None else gate.weight.name,
        gate_transposed=gate is not None and not gate.out_first,
        factors=tuple(
            (role, factor) for role, factor in factors if factor != 1.0 and names.get(role, role) is not None
        ),
        activation=activation,
        facts=tuple(facts),
        **names,
        **({} if first.left else find_layernorm(graph, first.source, d)),
    )
    return layout, values


def _gated(piece: Expression, reader: _Reader) -> tuple[Expression, Linear, Linear] | None:
    """(function of the gate's output, gate, value) of a product of one layer's output with a function of
    another's."""
    factors: list[Expression] = []

    def split(item: Expression) -> None:
        if item.op == "Mul" and len(item.leaves) == 2 and len(factors) <= _MAX_FACTORS:
            for part in item.inputs:
                split(part)
        else:
            factors.append(item)

    split(piece)
    if len(factors) > _MAX_FACTORS or any(len(factor.leaves) > 1 for factor in factors):
        return None
    # bilinear: the factor that comes last is the value
    bare = [factor.leaf for factor in factors if factor.op == "leaf"]
    for value in reversed(list(dict.fromkeys(bare))):
        own = [factor for factor in factors if value in factor.leaves]
        others = [factor for factor in factors if value not in factor.leaves]
        if len(own) == 1 and own[0].op == "leaf" and others:
            gate = next(iter(piece.leaves - {value}))
            first, second = reader.linears[gate], reader.linears[value]
            if reader.graph.through(first.source)[0] != reader.graph.through(second.source)[0]:
                return None
            product = others[0]
            for factor in others[1:]:
                product = pieces.operation("Mul", (product, factor), {})
            return product, first, second
    return None


class _Reader:
    """Walks back from a value through operations on single entries to the linears that feed it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.linears: dict[str, Linear] = {}
        self.values: list[str] = []
        self.stop: tuple[Linear, str] | None = None
        self._known: dict[str, Expression | None] = {}

    def read(self, value: str, depth: int) -> Expression | None:
        """The expression of a value; None when something else than single entries comes in."""
        value, passed = self.graph.through(value)
        self.values += passed
        if value not in self._known:
            self._known[value] = None
            self._known[value] = self._read(value, depth)
        return self._known[value]

    def _read(self, value: str, depth: int) -> Expression | None:
        scalar = self._scalar(value)
        if scalar is not None:
            return scalar
        linear = self.graph.linear(value)
        if linear is not None:
            self.linears[value] = linear
            self.values += linear.values
            return pieces.leaf(value)
        node = self.graph.node(value)
        if node is None or depth > MAX_STEPS or node.output[0] != value:
            return None
        inputs = list(node.input)
        known = node.op_type in pieces.UNARY or node.op_type in pieces.MANY
        read = [self.read(item, depth + 1) for item in inputs if item] if known else []
        if known and all(item is not None for item in read):
            self.values.append(value)
            return self._operation(node, inputs, [item for item in read if item is not None])
        self._explain(node)
        return None

    def _operation(self, node: Any, inputs: list[str], read: list[Expression]) -> Expression | None:
        options = self.graph.options(node)
        if node.op_type == "Clip":  # bounds may be absent, or attributes in old models
            low, high = options.get("min", -math.inf), options.get("max", math.inf)
            bounds = [pieces.constant(low, False), pieces.constant(high, False)]
            left = iter(read[1:])
            for place in (1, 2):
                if len(inputs) > place and inputs[place]:
                    bounds[place - 1] = next(left)
            return pieces.operation("Clip", (read[0], *bounds), {})
        if node.op_type in pieces.UNARY and len(read) != 1:
            return None
        return pieces.operation(node.op_type, tuple(read), options)

    def _scalar(self, value: str) -> Expression | None:
        inside = self.graph.constant(value)
        if inside is None or math.prod(inside.shape) != 1 or inside.name in self.graph.dequantised:
            return None
        number = self.graph.scalar(inside.name)
        if number is None:
            return None
        return pieces.constant(number, self.graph.tensors[inside.name].dtype in _HALF)

    def _explain(self, node: Any) -> None:
        """Remember what stands between two linears, when a linear comes in."""
        if self.stop is not None or node.op_type in ("Add", "Sum", "Concat"):
            return
        for item in node.input:
            before = self.graph.linear(item) if item else None
            if before is not None:
                self.stop = before, f"{node.op_type} {node.name or node.output[0]} stands between the layers"
                return


def _label(graph: Graph, linear: Linear) -> str:
    """A layer's name: that of the module of its weight or bias, of its node (``/0/MatMul``), or its weight's."""
    for constant in (linear.weight, linear.bias):
        if constant is not None and constant.name.rpartition(".")[2] in ("weight", "bias"):
            return constant.name.rpartition(".")[0]
    module = linear.label.strip("/").rpartition("/")[0]
    return module.replace("/", ".") or linear.weight.name


def _title(first: str, second: str) -> str:
    """``h.0.mlp.fc1-fc2`` of two modules in one."""
    head, _, last = second.rpartition(".")
    return f"{first}-{last}" if head and first.rpartition(".")[0] == head else f"{first}-{second}"
