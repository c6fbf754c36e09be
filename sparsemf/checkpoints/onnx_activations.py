"""Which activation a piece of an ONNX graph computes.

A single node says it by its name.  Exporters also write activations as several nodes (gelu as Div, Erf, Add, Mul,
Mul; silu as Sigmoid, Mul), in orders that differ by exporter and version, with constants rounded to the model's
type.  Such a piece is a function of one number, and is compared with every activation of the catalogue on 6001
points of [-30, 30] and 400 beyond:

    max_z |piece(z) − σ(z)|/(1 + |z| + |σ(z)|) ≤ 1e-6      (3e-4 where a constant is a half-precision number)

and the best one is taken when it is that close and the next is at least twice as far.  The piece may only contain
the operations below.  This identifies what the exporter meant and is no proof: ``facts`` of the block give the
distance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

from sparsemf.activations import NUMPY, get, names

Array = NDArray[np.float64]

TOLERANCE = 1e-6
HALF_TOLERANCE = 3e-4
_FAR = np.geomspace(31.0, 1e12, 200)
_GRID = np.concatenate([-_FAR[::-1], np.linspace(-30.0, 30.0, 6001), _FAR])


@dataclass(frozen=True, eq=False)
class Expression:
    """A node of a piece: an operation on others, a constant, or the output of a layer (a leaf, by its value's
    name)."""

    op: str
    inputs: tuple[Expression, ...] = ()
    number: float = 0.0
    leaf: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    leaves: frozenset[str] = frozenset()
    half: bool = False


def leaf(name: str) -> Expression:
    return Expression("leaf", leaf=name, leaves=frozenset({name}))


def constant(number: float, half: bool) -> Expression:
    return Expression("constant", number=number, half=half)


def operation(op: str, inputs: tuple[Expression, ...], options: Mapping[str, Any]) -> Expression:
    leaves = frozenset().union(*(item.leaves for item in inputs)) if inputs else frozenset()
    return Expression(op, inputs, options=tuple(options.items()), leaves=leaves, half=any(item.half for item in inputs))


def _softplus(z: Array, _: Mapping[str, Any]) -> Array:
    return np.logaddexp(0.0, z)


def _gelu(z: Array, o: Mapping[str, Any]) -> Array:
    if _text(o.get("approximate", "none")) == "tanh":
        return 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    return 0.5 * z * (1 + erf(z / np.sqrt(2)))


def _elu(z: Array, o: Mapping[str, Any]) -> Array:
    return np.where(z > 0, z, o.get("alpha", 1.0) * np.expm1(np.minimum(z, 0)))


def _celu(z: Array, o: Mapping[str, Any]) -> Array:
    alpha = o.get("alpha", 1.0)
    return np.maximum(z, 0) + np.minimum(0, alpha * np.expm1(np.minimum(z, 0) / alpha))


def _selu(z: Array, o: Mapping[str, Any]) -> Array:
    alpha, gamma = o.get("alpha", 1.6732632423543772), o.get("gamma", 1.0507009873554805)
    return gamma * np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))


def _hard_sigmoid(z: Array, o: Mapping[str, Any]) -> Array:
    return np.clip(o.get("alpha", 0.2) * z + o.get("beta", 0.5), 0.0, 1.0)


def _swish(z: Array, o: Mapping[str, Any]) -> Array:
    return z * expit(o.get("alpha", 1.0) * z)


UNARY: dict[str, Callable[[Array, Mapping[str, Any]], Array]] = {
    "Relu": lambda z, _: np.maximum(z, 0.0),
    "LeakyRelu": lambda z, o: np.where(z < 0, o.get("alpha", 0.01) * z, z),
    "ThresholdedRelu": lambda z, o: np.where(z > o.get("alpha", 1.0), z, 0.0),
    "Elu": _elu,
    "Celu": _celu,
    "Selu": _selu,
    "Softplus": _softplus,
    "Softsign": lambda z, _: z / (1 + np.abs(z)),
    "Tanh": lambda z, _: np.tanh(z),
    "Sigmoid": lambda z, _: expit(z),
    "Gelu": _gelu,
    "FastGelu": lambda z, _: _gelu(z, {"approximate": "tanh"}),
    "QuickGelu": lambda z, o: z * expit(o.get("alpha", 1.702) * z),
    "Swish": _swish,
    "Mish": lambda z, o: z * np.tanh(_softplus(z, o)),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda z, _: z * np.clip(z / 6 + 0.5, 0.0, 1.0),
    "Erf": lambda z, _: erf(z),
    "Exp": lambda z, _: np.exp(z),
    "Log": lambda z, _: np.log(z),
    "Abs": lambda z, _: np.abs(z),
    "Neg": lambda z, _: -z,
    "Sqrt": lambda z, _: np.sqrt(z),
    "Reciprocal": lambda z, _: 1 / z,
    "Sin": lambda z, _: np.sin(z),
    "Cos": lambda z, _: np.cos(z),
    "Atan": lambda z, _: np.arctan(z),
}
MANY: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "PRelu": lambda z, slope: np.where(z < 0, slope * z, z),
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Where": np.where,
    "Min": lambda *z: np.minimum.reduce(np.broadcast_arrays(*z)),
    "Max": lambda *z: np.maximum.reduce(np.broadcast_arrays(*z)),
    "Sum": lambda *z: np.add.reduce(np.broadcast_arrays(*z)),
    "Clip": lambda z, low=-np.inf, high=np.inf: np.clip(z, low, high),
}
# one node with a number of its own
_WITH_PARAMETER = {"LeakyRelu": ("leaky_relu", 0.01), "Elu": ("elu", 1.0), "Celu": ("celu", 1.0)}


def identify(piece: Expression) -> tuple[str | None, str]:
    """(the registry's name or None, how it was found or what was found instead) of a piece with one leaf."""
    if piece.op in _WITH_PARAMETER and piece.inputs[0].op == "leaf":
        name, default = _WITH_PARAMETER[piece.op]
        alpha = shortest(float(dict(piece.options).get("alpha", default)))
        return f"{name}({alpha!r})", f"node {piece.op}"
    if piece.op == "PRelu" and piece.inputs[0].op == "leaf" and piece.inputs[1].op == "constant":
        return f"leaky_relu({shortest(piece.inputs[1].number)!r})", "node PRelu"
    with np.errstate(all="ignore"):
        values = np.broadcast_to(np.asarray(_evaluated(piece, {}), dtype=np.float64), _GRID.shape)
        finite = np.isfinite(values)
        distances = sorted(
            (float(np.max((np.abs(values - known) / (1 + np.abs(_GRID) + np.abs(known)))[finite])), name)
            for name, known in _catalogue().items()
            if np.array_equal(finite, np.isfinite(known))
        )
    tolerance = HALF_TOLERANCE if piece.half else TOLERANCE
    if distances and distances[0][0] <= tolerance and (len(distances) == 1 or distances[1][0] >= 2 * distances[0][0]):
        return distances[0][1], f"{_described(piece)}; within {distances[0][0]:.1e} of it"
    nearest = f", nearest is {distances[0][1]} at {distances[0][0]:.1e}" if distances else ""
    return None, f"{_described(piece)} is no activation of the catalogue{nearest}"


def shortest(number: float) -> float:
    """The decimal with the fewest digits that rounds to the same float32: 0.01 for the attribute 0.009999999776…

    What an exporter was given, and what float32 arithmetic cannot tell apart from the attribute itself.
    """
    return float(str(np.float32(number)))


@cache
def _catalogue() -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name in names():
        try:
            activation = get(name)
        except (ValueError, TypeError):  # needs parameters
            continue
        with np.errstate(all="ignore"):
            found[activation.name] = np.asarray(activation.value(_GRID, NUMPY), dtype=np.float64)
    return found


def _evaluated(piece: Expression, known: dict[int, Any]) -> Any:
    if id(piece) not in known:
        if piece.op == "leaf":
            value: Any = _GRID
        elif piece.op == "constant":
            value = np.float64(piece.number)
        else:
            inputs = [_evaluated(item, known) for item in piece.inputs]
            value = UNARY[piece.op](inputs[0], dict(piece.options)) if piece.op in UNARY else MANY[piece.op](*inputs)
        known[id(piece)] = value
    return known[id(piece)]


def _described(piece: Expression) -> str:
    ops: list[str] = []
    seen: set[int] = set()

    def walk(item: Expression) -> None:
        if id(item) in seen:
            return
        seen.add(id(item))
        for child in item.inputs:
            walk(child)
        if item.op not in ("leaf", "constant"):
            ops.append(item.op)

    walk(piece)
    return f"node{'s' if len(ops) > 1 else ''} {', '.join(ops) or 'none'}"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
