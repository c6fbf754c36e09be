"""Two-layer blocks of a Keras model's config: pairs of Dense layers with one activation between them.

A pair is a block when the second layer takes the output of the first through layers that do nothing at inference
(Dropout, noise) and exactly one activation, be it the first layer's own or a layer.  Anything else that stands
between - a norm, a reshape, a sum - refuses the pair, and the reason is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sparsemf.activations import get
from sparsemf.checkpoints.files import Remark, TensorInfo
from sparsemf.checkpoints.layouts import Layout

_MODELS = ("Sequential", "Functional", "Model")
_SILENT = ("Dropout", "GaussianDropout", "GaussianNoise", "AlphaDropout", "SpatialDropout1D", "Identity")
_SILENT += ("ActivityRegularization",)
# what Keras means by a name where the registry means another thing, or calls it otherwise
_NAMES = {"leaky_relu": "leaky_relu(0.2)", "exponential": "exp", "hard_tanh": "hardtanh", "swish": "silu"}
_KERAS_2_ONLY = "hard_sigmoid"
_MAX_DEPTH = 20


@dataclass(frozen=True)
class _Node:
    """A layer of the config: its name with those of the models around, its class, options and the layers it
    reads."""

    name: str
    kind: str
    options: Mapping[str, Any]
    sources: tuple[str, ...]


def find_dense_pairs(
    config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]
) -> tuple[tuple[Layout, ...], tuple[Remark, ...], dict[str, tuple[str, ...]], dict[str, str]]:
    """(blocks in the order of their second layers, pairs that are none and why, block → the layers from the first
    to the second, block → a layer outside it that reads what lies between)."""
    hidden: dict[str, tuple[str, ...]] = {}
    leaks: dict[str, str] = {}
    blocks: list[Layout] = []
    remarks: list[Remark] = []
    modern = config.get("module") is not None
    for nodes in _models(config, "", 0):
        for node in nodes.values():
            if node.kind != "Dense":
                continue
            found = _pair(node, nodes, tensors, modern)
            if isinstance(found, Layout):
                blocks.append(found)
                chain = _chain(node, nodes)
                hidden[found.name] = chain
                outside = [n.name for n in nodes.values() if n.name not in chain and set(n.sources) & set(chain[:-1])]
                # a layer that the model calls again reads and makes other values, too
                outside += [name for name in chain[:-1] if len(nodes[name].sources) > 1]
                if outside:
                    leaks[found.name] = outside[0]
            elif found is not None:
                remarks.append(found)
    if not blocks and not remarks and config.get("class_name") not in _MODELS:
        what = f"a model of the class {config.get('class_name')}, whose layers are joined by code; use --map"
        remarks.append(Remark("config", what))
    return tuple(blocks), tuple(remarks), hidden, leaks


def _pair(
    second: _Node, nodes: Mapping[str, _Node], tensors: Mapping[str, TensorInfo], modern: bool
) -> Layout | Remark | None:
    acting: list[tuple[str, Mapping[str, Any]]] = []
    node = _source(second, nodes)
    while node is not None and node.kind != "Dense":
        if node.kind in ("Activation", "ReLU", "LeakyReLU", "ELU"):
            acting.append((node.kind, node.options))
        elif node.kind not in _SILENT:
            first = _next_dense(node, nodes)
            if first is None:
                return None
            return Remark(f"{first}-{second.name}", f"{node.kind} {node.name} stands between the layers")
        node = _source(node, nodes)
    if node is None:
        return None
    name = f"{node.name}-{second.name}"
    own = node.options.get("activation")
    acting = [("Activation", {"activation": own}), *reversed(acting)]
    activations = [
        found for found in (_activation(kind, options, modern) for kind, options in acting) if found != "linear"
    ]
    if len(activations) != 1:
        what = "without an activation" if not activations else f"with the activations {', '.join(activations)}"
        return Remark(name, f"the layers follow each other {what}")
    try:
        activation = get(activations[0]).name
    except ValueError as error:
        return Remark(name, str(error))
    return _layout(name, node, second, activation, nodes, tensors)


def _chain(second: _Node, nodes: Mapping[str, _Node]) -> tuple[str, ...]:
    """The layers of a block, from the first to the second."""
    names = [second.name]
    node = _source(second, nodes)
    while node is not None:
        names.append(node.name)
        node = None if node.kind == "Dense" else _source(node, nodes)
    return tuple(reversed(names))


def _layout(
    name: str,
    first: _Node,
    second: _Node,
    activation: str,
    nodes: Mapping[str, _Node],
    tensors: Mapping[str, TensorInfo],
) -> Layout | Remark:
    for node in (first, second):
        if f"{node.name}.lora_kernel_a" in tensors:
            return Remark(name, f"{node.name} has LoRA factors beside its kernel; save it as .keras, which merges them")
        rounds = _rounds(node.options)
        if rounds is not None:
            return Remark(name, f"{node.name} computes in {rounds}, which is another function; save it before quantize")
    kernels = [tensors.get(f"{node.name}.kernel") for node in (first, second)]
    one, two = kernels
    if one is None or two is None:
        return Remark(name, "no kernel of one of the layers is in the file")
    if len(one.shape) != 2 or len(two.shape) != 2 or one.shape[1] != two.shape[0] or min(*one.shape, *two.shape) < 1:
        return Remark(name, f"the shapes do not chain: {one.name} {one.shape}, {two.name} {two.shape}")
    (d, width), m = one.shape, two.shape[1]
    biases: list[str | None] = []
    for node, size in ((first, width), (second, m)):
        bias = f"{node.name}.bias"
        if node.options.get("use_bias", True) != (bias in tensors) or (
            bias in tensors and tensors[bias].shape != (size,)
        ):
            return Remark(name, f"{bias}: expected {size} entries, as the config says")
        biases.append(bias if bias in tensors else None)
    output = _activation("Activation", {"activation": second.options.get("activation")}, True)
    return Layout(
        name,
        "keras",
        one.name,
        two.name,
        inner_transposed=True,
        outer_transposed=False,
        width=width,
        d=d,
        m=m,
        bias=biases[0],
        offset=biases[1],
        activation=activation,
        facts=() if output == "linear" else (("output_activation", output),),
        **_norm(first, d, nodes, tensors),
    )


def _rounds(options: Mapping[str, Any]) -> str | None:
    """The quantised type that a layer rounds its weights and inputs to (``QuantizedDTypePolicy`` and the like)."""
    policy = options.get("dtype")
    if not isinstance(policy, Mapping) or not str(policy.get("class_name")).startswith("Quantized"):
        return None
    inner = policy.get("config")
    return str(inner.get("mode") or inner.get("name")) if isinstance(inner, Mapping) else "a quantised type"


def _norm(first: _Node, d: int, nodes: Mapping[str, _Node], tensors: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """Gain and shift of the LayerNormalization just before the first layer."""
    node = _source(first, nodes)
    while node is not None and node.kind in _SILENT:
        node = _source(node, nodes)
    if node is None or node.kind != "LayerNormalization" or node.options.get("rms_scaling"):
        return {}
    gain, shift = f"{node.name}.gamma", f"{node.name}.beta"
    fits = all(name in tensors and tensors[name].shape == (d,) for name in (gain, shift))
    return {"gain": gain, "shift": shift} if fits else {}


def _activation(kind: str, options: Mapping[str, Any], modern: bool) -> str:
    """The registry's name of an activation or layer, or a description that the registry does not know."""
    if kind == "Activation":
        return _function(options.get("activation"), modern)
    slope = options.get("negative_slope", options.get("alpha"))
    if kind == "LeakyReLU":
        return f"leaky_relu({_number(slope, 0.3)!r})"
    if kind == "ELU":
        return f"elu({_number(options.get('alpha'), 1.0)!r})"
    limit, slope = options.get("max_value"), _number(options.get("negative_slope"), 0.0)
    if _number(options.get("threshold"), 0.0) != 0.0 or (limit is not None and (limit != 6 or slope != 0.0)):
        return f"ReLU with max_value={limit}, negative_slope={slope}, threshold={options.get('threshold')}"
    return "relu6" if limit is not None else f"leaky_relu({slope!r})" if slope != 0.0 else "relu"


def _function(value: Any, modern: bool) -> str:
    if value is None:
        return "linear"
    if isinstance(value, Mapping):
        inner = value.get("config")
        if isinstance(inner, Mapping) and value.get("class_name") in ("ReLU", "LeakyReLU", "ELU"):
            return _activation(str(value["class_name"]), inner, modern)
        if value.get("module") is not None and str(value["module"]).split(".")[0] != "keras":
            return f"{inner}, a function of the user's own"
        value = inner if isinstance(inner, str) else value.get("class_name")
    name = str(value)
    if name == _KERAS_2_ONLY and not modern:
        return "hard_sigmoid of Keras 2 (slope 0.2)"
    return _NAMES.get(name, name)


def _number(value: Any, default: float) -> float:
    if isinstance(value, Mapping):  # Keras 2 wrote arrays of one number
        value = value.get("value")
    return float(value) if isinstance(value, (int, float)) else default


def _source(node: _Node, nodes: Mapping[str, _Node]) -> _Node | None:
    return nodes.get(node.sources[0]) if len(node.sources) == 1 else None


def _next_dense(node: _Node | None, nodes: Mapping[str, _Node]) -> str | None:
    for _ in range(len(nodes)):
        if node is None or node.kind == "Dense":
            break
        node = _source(node, nodes)
    return None if node is None else node.name


def _models(config: Mapping[str, Any], prefix: str, depth: int) -> Iterator[dict[str, _Node]]:
    """The layers of the model and of every model inside it, by name."""
    options = config.get("config")
    layers = options.get("layers") if isinstance(options, Mapping) else options if isinstance(options, list) else None
    if not isinstance(layers, list) or depth > _MAX_DEPTH:
        return
    nodes: dict[str, _Node] = {}
    sequential = config.get("class_name") == "Sequential"
    previous: tuple[str, ...] = ()
    for layer in layers:
        if not isinstance(layer, Mapping) or not isinstance(layer.get("config"), (Mapping, list)):
            continue
        own = layer["config"] if isinstance(layer["config"], Mapping) else {}
        name = f"{prefix}{own.get('name', layer.get('name', ''))}"
        sources = previous if sequential else tuple(f"{prefix}{s}" for s in _inbound(layer.get("inbound_nodes")))
        kind = str(layer.get("registered_name") or layer.get("class_name"))
        module = layer.get("module")
        if module is not None and str(module).split(".")[0] != "keras":  # a class of the user's, whatever its name
            kind = f"{module}.{kind}"
        if _trains(layer.get("inbound_nodes"), 0):  # a Dropout that drops at inference, too
            kind = f"{kind} with training=True"
        nodes[name] = _Node(name, kind, own, sources)
        if kind != "InputLayer":
            previous = (name,)
        yield from _models(layer, f"{name}.", depth + 1)
    yield nodes


def _trains(value: Any, depth: int) -> bool:
    """Whether a layer is called with ``training=True``, in the keywords of Keras 3 or Keras 2."""
    if depth > _MAX_DEPTH:
        return False
    if isinstance(value, Mapping):
        return value.get("training") is True or any(_trains(child, depth + 1) for child in value.values())
    return isinstance(value, list) and any(_trains(child, depth + 1) for child in value)


def _inbound(value: Any) -> tuple[str, ...]:
    """Names of the layers that a layer reads, in Keras 3's form (keras_history) or Keras 2's ([name, node, index,
    …]).

    A layer that is used several times has several sources, and then stands in no block.
    """
    found: list[str] = []

    def walk(item: Any, depth: int) -> None:
        if depth > _MAX_DEPTH:
            return
        if isinstance(item, Mapping):
            history = item.get("keras_history")
            if isinstance(history, list) and history and isinstance(history[0], str):
                found.append(history[0])
            else:
                for child in item.values():
                    walk(child, depth + 1)
        elif isinstance(item, list):
            if len(item) >= 3 and isinstance(item[0], str) and all(type(n) is int for n in item[1:3]):
                found.append(item[0])
            else:
                for child in item:
                    walk(child, depth + 1)

    walk(value, 0)
    return tuple(found)
