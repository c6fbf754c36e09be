"""An ONNX graph as maps, and the layers in it: which values are constants, and which are a layer's output.

A *linear* is a Gemm, or a MatMul with perhaps an Add of a vector, whose weight and bias are constants: initialisers
or Constant nodes, perhaps behind Identity, Transpose, a widening Cast or DequantizeLinear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sparsemf.checkpoints.files import FLOATS, TensorInfo
from sparsemf.checkpoints.quantized import Quantized

_DOMAINS = ("", "ai.onnx", "com.microsoft")
MAX_STEPS = 64
_FLOAT_CODES = (1, 10, 11, 16)  # TensorProto: float32, float16, float64, bfloat16


@dataclass(frozen=True)
class Constant:
    """A constant matrix or vector: the tensor that holds it, and whether the graph uses the transpose."""

    name: str
    shape: tuple[int, ...]
    transposed: bool = False

    @property
    def used(self) -> tuple[int, ...]:
        """The shape as the graph uses it."""
        return self.shape[::-1] if self.transposed else self.shape


@dataclass(frozen=True)
class Linear:
    """y = alpha·x W + beta·b (``left``: W x + b, samples in columns) with the values that lie on the way."""

    source: str
    weight: Constant
    out_first: bool
    left: bool
    label: str
    bias: Constant | None = None
    alpha: float = 1.0
    beta: float = 1.0
    values: tuple[str, ...] = ()

    @property
    def sizes(self) -> tuple[int, int]:
        """(entries of the input, of the output)."""
        rows, columns = self.weight.shape
        return (columns, rows) if self.out_first else (rows, columns)


class Graph:
    """A model's graph as maps: value → node that makes it; constants by name."""

    def __init__(self, model: Any, tensors: Mapping[str, TensorInfo], scalar: Callable[[str], float | None]) -> None:
        self.nodes = list(model.graph.node)
        self.producer = {output: node for node in self.nodes for output in node.output if output}
        self.users: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in set(node.input):
                self.users.setdefault(name, []).append(node)
        self.outputs = {output.name for output in model.graph.output}
        self.tensors = tensors
        self.scalar = scalar
        self.functions = {(function.domain, function.name) for function in model.functions}
        self.dequantised: dict[str, TensorInfo] = {}
        self.quantized: dict[str, Quantized] = {}
        self.integer_activations: set[str] = set()

    def options(self, node: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for attribute in node.attribute:
            kinds = {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints"}
            if attribute.type in kinds:
                value = getattr(attribute, kinds[attribute.type])
                found[attribute.name] = list(value) if attribute.type in (6, 7) else value
        return found

    def node(self, value: str) -> Any:
        """The node that makes a value, when it is one of ONNX's own or onnxruntime's operators."""
        node = self.producer.get(value)
        if node is None or node.domain not in _DOMAINS or (node.domain, node.op_type) in self.functions:
            return None
        return node

    def constant(self, value: str) -> Constant | None:
        """The constant behind a value, or None."""
        transposed = False
        for _ in range(MAX_STEPS):
            info = self.tensors.get(value) or self.dequantised.get(value)
            if info is not None:
                return Constant(value, info.shape, transposed)
            node = self.node(value)
            if node is None or not node.input:
                return None
            if node.op_type == "DequantizeLinear":
                if not self._dequantise(node):
                    return None
                value = node.output[0]
                continue
            if node.op_type == "Transpose":
                order = self.options(node).get("perm", [1, 0])
                if order not in ([1, 0], [0, 1]):
                    return None
                transposed ^= order == [1, 0]
            elif node.op_type == "Cast":
                inside = self.constant(node.input[0])
                if inside is None or not self._widens(inside, self.options(node).get("to")):
                    return None
            elif node.op_type != "Identity":
                return None
            value = node.input[0]
        return None

    def through(self, value: str) -> tuple[str, list[str]]:
        """The value behind nodes that do nothing at inference, and the values passed."""
        passed = []
        for _ in range(MAX_STEPS):
            node = self.node(value)
            if node is None or not node.input:
                break
            silent = node.op_type == "Identity" or (
                node.op_type == "Cast" and self.options(node).get("to") in _FLOAT_CODES
            )
            if node.op_type == "Dropout":  # at training it is random: a switch that may be on stops the walk
                silent = len(node.input) < 3 or not node.input[2] or self.scalar(node.input[2]) == 0.0
            if node.op_type == "DequantizeLinear":  # of a value that was quantised just before
                before = self.node(node.input[0])
                if before is None or before.op_type != "QuantizeLinear":
                    break
                self.integer_activations.add(value)
                passed += [value, node.input[0]]
                value = before.input[0]
                continue
            if not silent or value != node.output[0]:
                break
            passed.append(value)
            value = node.input[0]
        return value, passed

    def linear(self, value: str) -> Linear | None:
        """The linear whose output a value is, or None."""
        value, passed = self.through(value)
        node = self.node(value)
        if node is None:
            return None
        if node.op_type == "Gemm" and len(node.input) >= 2:
            return self._gemm(node, (*passed, value))
        if node.op_type == "MatMul" and len(node.input) == 2:
            return self._matmul(node, (*passed, value))
        if node.op_type == "Add" and len(node.input) == 2:
            for bias, other in (node.input, node.input[::-1]):
                vector = self.constant(bias)
                inside, more = self.through(other)
                below = self.node(inside)
                if vector is None or below is None or below.op_type not in ("MatMul", "Gemm") or len(below.input) != 2:
                    continue
                make = self._matmul if below.op_type == "MatMul" else self._gemm
                found = make(below, (*passed, value, *more, inside))
                if found is not None and _is_bias(vector, found):
                    return replace(found, bias=vector)
        return None

    def _gemm(self, node: Any, values: tuple[str, ...]) -> Linear | None:
        options = self.options(node)
        flips = [bool(options.get(name, 0)) for name in ("transA", "transB")]
        bias = self.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if len(node.input) > 2 and node.input[2] and bias is None:
            return None
        numbers = {"alpha": options.get("alpha", 1.0), "beta": options.get("beta", 1.0)}
        found = self._product(node, values, flips)
        if found is None or numbers["alpha"] == 0.0 or (bias is not None and numbers["beta"] == 0.0):
            return None
        found = replace(found, bias=bias, **numbers)
        return found if bias is None or _is_bias(bias, found) else None

    def _matmul(self, node: Any, values: tuple[str, ...]) -> Linear | None:
        return self._product(node, values, [False, False])

    def _product(self, node: Any, values: tuple[str, ...], flips: list[bool]) -> Linear | None:
        for weight, other, left in ((1, 0, False), (0, 1, True)):
            matrix = self.constant(node.input[weight])
            if matrix is None or len(matrix.shape) != 2 or self.constant(node.input[other]) is not None or flips[other]:
                continue
            # x W holds W as (in, out), W x as (out, in); every transpose turns that round
            out_first = left ^ flips[weight] ^ matrix.transposed
            return Linear(node.input[other], matrix, out_first, left, node.name, values=values)
        return None

    def _dequantise(self, node: Any) -> bool:
        """Make the output of a DequantizeLinear of constants a tensor: (q − z)·s."""
        if len(node.input) < 2 or any(name and name not in self.tensors for name in node.input):
            return False
        codes, scale = (self.tensors[name] for name in node.input[:2])
        zero = node.input[2] if len(node.input) > 2 and node.input[2] else None
        options = self.options(node)
        axis = options.get("axis", 1)
        if options.get("block_size", 0) or not -len(codes.shape) <= axis < max(len(codes.shape), 1):
            return False
        if zero is not None and self.tensors[zero].shape != scale.shape:
            return False
        output = node.output[0]
        self.dequantised[output] = TensorInfo(output, codes.shape, codes.dtype)
        self.quantized[output] = Quantized(codes.name, scale.name, zero, axis=axis % max(len(codes.shape), 1))
        return True

    def _widens(self, inside: Constant, to: int | None) -> bool:
        """A Cast that changes no number: to a float of at least as many bits of both parts."""
        targets = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
        info = self.tensors.get(inside.name) or self.dequantised[inside.name]
        if info.name in self.quantized:
            info = self.tensors[self.quantized[info.name].scale]
        if info.dtype not in FLOATS or to not in targets:
            return False
        if {info.dtype, targets[to]} == {"float16", "bfloat16"}:
            return False
        return FLOATS.index(targets[to]) >= FLOATS.index(info.dtype)


def _is_bias(bias: Constant, linear: Linear) -> bool:
    """One number per output, along the axis of the outputs."""
    size = linear.sizes[1]
    axis = -2 if linear.left else -1
    shape = bias.used
    if math.prod(shape) != size or (linear.left and len(shape) < 2):
        return False
    return bool(shape) and shape[axis] == size
