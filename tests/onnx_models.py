"""ONNX graphs in the shapes that exporters write them, built by hand, and their value by ONNX's reference
evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper, numpy_helper, save
from onnx.reference import ReferenceEvaluator

Nodes = list[Any]


class Builder:
    """Collects nodes and initialisers; ``op`` returns the name of the output."""

    def __init__(self, opset: int = 20, dtype: type = np.float32) -> None:
        self.nodes: Nodes = []
        self.initializers: list[Any] = []
        self.infos: list[Any] = []
        self.opset, self.dtype, self.count = opset, dtype, 0

    def constant(self, value: Any, name: str | None = None, dtype: Any = None) -> str:
        self.count += 1
        name = name or f"c{self.count}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype or self.dtype), name))
        return name

    def op(self, kind: str, *inputs: str, name: str = "", domain: str = "", **options: Any) -> str:
        self.count += 1
        output = f"v{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, domain=domain, **options))
        return output

    def model(self, output: str, d: int, shape: tuple[Any, ...] | None = None, outputs: tuple[str, ...] = ()) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        given = helper.make_tensor_value_info("x", kind, list(shape or ("batch", d)))
        results = [helper.make_tensor_value_info(name, kind, None) for name in (output, *outputs)]
        graph = helper.make_graph(self.nodes, "g", [given], results, self.initializers, value_info=self.infos)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)


def evaluated(model: Any, x: np.ndarray) -> np.ndarray:
    return ReferenceEvaluator(model).run(None, {"x": x})[0]


def stored(model: Any, path: Path, external: bool = False) -> Path:
    if external:
        save(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location="w.data", size_threshold=0)
    else:
        save(model, path)
    return path


def weights(rng: np.random.Generator, d: int = 3, n: int = 7, m: int = 2) -> dict[str, np.ndarray]:
    """In torch's orientation, (out, in)."""
    shapes = {"fc1.weight": (n, d), "fc1.bias": (n,), "fc2.weight": (m, n), "fc2.bias": (m,)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def gelu_erf(b: Builder, z: str) -> str:
    """torch's script exporter: z·(1 + erf(z/√2))·½."""
    inside = b.op("Add", b.op("Erf", b.op("Div", z, b.constant(2**0.5))), b.constant(1.0))
    return b.op("Mul", b.op("Mul", z, inside), b.constant(0.5))


def gelu_erf_converted(b: Builder, z: str) -> str:
    """The version converter's: z·(½·(erf(z/√2) + 1))."""
    inside = b.op("Add", b.op("Erf", b.op("Div", z, b.constant(2**0.5))), b.constant(1.0))
    return b.op("Mul", z, b.op("Mul", b.constant(0.5), inside))


def gelu_tanh(b: Builder, z: str) -> str:
    cube = b.op("Mul", b.constant(0.044715), b.op("Pow", z, b.constant(3.0)))
    inside = b.op("Tanh", b.op("Mul", b.constant((2 / np.pi) ** 0.5), b.op("Add", z, cube)))
    return b.op("Mul", b.op("Mul", b.constant(0.5), z), b.op("Add", b.constant(1.0), inside))


def gelu_new(b: Builder, z: str) -> str:
    """The cube as products, as tf2onnx leaves it."""
    cube = b.op("Mul", b.op("Mul", b.op("Mul", z, z), z), b.constant(0.044715))
    inside = b.op("Tanh", b.op("Mul", b.op("Add", z, cube), b.constant((2 / np.pi) ** 0.5)))
    return b.op("Mul", z, b.op("Mul", b.op("Add", inside, b.constant(1.0)), b.constant(0.5)))


def softplus_torch(b: Builder, z: str) -> str:
    return b.op("Where", b.op("Greater", z, b.constant(20.0)), z, b.op("Softplus", z))


def softsign(b: Builder, z: str) -> str:
    return b.op("Div", z, b.op("Add", b.op("Abs", z), b.constant(1.0)))


def clipped(low: float, high: float) -> Any:
    return lambda b, z: b.op("Clip", z, b.constant(low), b.constant(high))


def single(kind: str, **options: Any) -> Any:
    return lambda b, z: b.op(kind, z, **options)


ACTIVATIONS: dict[str, tuple[Any, str]] = {
    "Relu": (single("Relu"), "relu"),
    "LeakyRelu": (single("LeakyRelu", alpha=0.3), "leaky_relu(0.3)"),
    "LeakyRelu default": (single("LeakyRelu"), "leaky_relu"),
    "PRelu of one slope": (lambda b, z: b.op("PRelu", z, b.constant([0.25])), "leaky_relu(0.25)"),
    "Elu": (single("Elu", alpha=0.5), "elu(0.5)"),
    "Selu": (single("Selu"), "selu"),
    "Celu": (single("Celu", alpha=0.7), "celu(0.7)"),
    "Softplus": (single("Softplus"), "softplus"),
    "Softplus of torch": (softplus_torch, "softplus"),
    "Softsign": (single("Softsign"), "softsign"),
    "Softsign in parts": (softsign, "softsign"),
    "Tanh": (single("Tanh"), "tanh"),
    "Sigmoid": (single("Sigmoid"), "sigmoid"),
    "Erf": (single("Erf"), "erf"),
    "Mish": (single("Mish"), "mish"),
    "Mish in parts": (lambda b, z: b.op("Mul", z, b.op("Tanh", b.op("Softplus", z))), "mish"),
    "silu": (lambda b, z: b.op("Mul", z, b.op("Sigmoid", z)), "silu"),
    "quick gelu": (lambda b, z: b.op("Mul", b.op("Sigmoid", b.op("Mul", b.constant(1.702), z)), z), "quick_gelu"),
    "Gelu": (single("Gelu"), "gelu"),
    "Gelu tanh": (single("Gelu", approximate="tanh"), "gelu_tanh"),
    "gelu in parts": (gelu_erf, "gelu"),
    "gelu converted": (gelu_erf_converted, "gelu"),
    "gelu_tanh in parts": (gelu_tanh, "gelu_tanh"),
    "gelu_new": (gelu_new, "gelu_tanh"),
    "HardSigmoid of torch": (single("HardSigmoid", alpha=1 / 6), "hard_sigmoid"),
    "relu6": (clipped(0.0, 6.0), "relu6"),
    "hardtanh": (clipped(-1.0, 1.0), "hardtanh"),
    "relu2": (lambda b, z: b.op("Pow", b.op("Relu", z), b.constant(2.0)), "relu2"),
    "Sin": (single("Sin"), "sin"),
    "Exp": (single("Exp"), "exp"),
}
