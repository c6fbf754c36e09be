"""skops files of a scikit-learn MLP: ``schema.json`` and ``.npy`` members, read without building any object.

A ``.skops`` names the classes of a tree of objects; the library builds those that it trusts.  Here nothing is
built, so that nothing can run: every class named in the file must be one that holds numbers and text or one of the
few estimators below, and the network's arrays are read from their members.

A pipeline of a StandardScaler and an MLP is the network of the raw input, and a TransformedTargetRegressor with a
StandardScaler that of the raw target (:mod:`~sparsemf.checkpoints.frames`); ``facts`` says so.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sparsemf.checkpoints.files import BadFile
from sparsemf.checkpoints.layouts import Layout
from sparsemf.checkpoints.native import UNNAMED
from sparsemf.checkpoints.npz_file import NpzFile

_MAX_SCHEMA = 1 << 26
_MAX_DEPTH = 100
_SCHEMA = "schema.json"
_MLP = ("MLPRegressor", "MLPClassifier")
_LOADERS = {
    "ObjectNode", "DictNode", "ListNode", "TupleNode", "SetNode", "JsonNode", "TypeNode", "NdArrayNode", "CachedNode",
    "RandomStateNode", "RandomGeneratorNode", "SliceNode", "MaskedArrayNode", "DefaultDictNode", "OrderedDictNode",
    "BytesNode", "BytearrayNode", "SparseMatrixNode", "FunctionNode", "BunchNode",
}  # fmt: skip
# modules whose classes hold nothing but values, and the one function that MLPs may keep
_TRUSTED = (
    "builtins",
    "numpy",
    "numpy.random",
    "numpy.random.mtrand",
    "numpy._core.multiarray",
    "collections",
    "scipy.sparse",
)


class SkopsFile(NpzFile):
    """A skops file that holds an MLP with one hidden layer, perhaps behind a scaler.

    ``edits`` says which schema nodes record the width, for the writer.
    """

    format = "skops"

    def _index(self) -> None:
        schema = _schema(self)
        strange = sorted(set(_untrusted(schema, 0)))
        if strange:
            raise BadFile(
                self.path,
                f"expected scikit-learn's own estimators and numbers, got the types {', '.join(strange[:5])}, which "
                "are never built; save the MLP alone with skops.io.dump",
            )
        self.schema = schema
        super()._index()
        arrays = self.tensors
        self.tensors, self.members = {}, {}
        self.metadata, self.remarks = {}, ()
        layout = self._layout(arrays)
        self.layouts = (layout,)

    def _layout(self, arrays: Mapping[str, Any]) -> Layout:
        facts: dict[str, str] = {}
        frame: dict[str, str | None] = {}
        node = self.schema
        if _class(node) == "TransformedTargetRegressor":
            target = _child(node, "transformer_")
            node = self._need(_child(node, "regressor_"), "a fitted TransformedTargetRegressor")
            if target is not None and _class(target) not in ("StandardScaler", "NoneType"):
                raise self._refusal(f"a target transformer {_class(target)}", "StandardScaler is read")
            if target is not None and _class(target) == "StandardScaler":
                frame |= self._scaler(target, "output", arrays)
                facts["output"] = "the raw target: the StandardScaler of the target is folded into the second layer"
        if _class(node) == "Pipeline":
            steps = [pair["content"][1] for pair in (_child(node, "steps") or {}).get("content", ())]
            steps = [step for step in steps if _json(step) != "passthrough"]
            if not steps or len(steps) > 2 or (len(steps) == 2 and _class(steps[0]) != "StandardScaler"):
                raise self._refusal(
                    f"a Pipeline of {', '.join(map(_class, steps))}", "a StandardScaler and an MLP are read"
                )
            if len(steps) == 2:
                frame |= self._scaler(steps[0], "input", arrays)
                facts["input"] = "the raw input: the StandardScaler is folded into the first layer"
            node = steps[-1]
        if _class(node) not in _MLP:
            raise self._refusal(_class(node), "MLPRegressor and MLPClassifier are read")
        self.node = node
        return self._mlp(node, frame, facts, arrays)

    def _mlp(self, node: Any, frame: dict[str, Any], facts: dict[str, str], arrays: Mapping[str, Any]) -> Layout:
        weights = self._need(_child(node, "coefs_"), "a fitted MLP; call fit first")["content"]
        biases = self._need(_child(node, "intercepts_"), "a fitted MLP; call fit first")["content"]
        if len(weights) != 2 or len(biases) != 2:
            raise self._refusal(f"{len(weights) - 1} hidden layers", "fit with hidden_layer_sizes=(N,)")
        names = ("coefs_0", "intercepts_0", "coefs_1", "intercepts_1")
        for name, array in zip(names, (weights[0], biases[0], weights[1], biases[1]), strict=True):
            self._add(name, array, arrays)
        (d, width), m = self._shape("coefs_0"), self._shape("coefs_1")[-1]
        expected = {"coefs_0": (d, width), "intercepts_0": (width,), "coefs_1": (width, m), "intercepts_1": (m,)}
        for name, shape in expected.items():
            if self.tensors[name].shape != shape:
                raise self._refusal(f"{name} of shape {self.tensors[name].shape}", f"expected {shape}")
        for name, size in (("input_shift", d), ("input_scale", d), ("output_shift", m), ("output_scale", m)):
            if frame.get(name) and math.prod(self.tensors[name].shape) != size:
                raise self._refusal(f"{name} of shape {self.tensors[name].shape}", f"expected {size} entries")
        if min(width, d, m) < 1:
            raise self._refusal(f"width {width}, d = {d}, m = {m}", "expected at least 1 each")
        output = _json(_child(node, "out_activation_"))
        if isinstance(output, str) and output != "identity":
            if frame.get("output_shift") or frame.get("output_scale"):
                raise self._refusal(
                    f"a scaled target behind the output activation {output}", "a linear output can be scaled"
                )
            facts["output_activation"] = output
        activation = _json(_child(node, "activation"))
        return Layout(
            UNNAMED,
            "sklearn",
            "coefs_0",
            "coefs_1",
            inner_transposed=True,
            outer_transposed=False,
            width=width,
            d=d,
            m=m,
            bias="intercepts_0",
            offset="intercepts_1",
            activation=activation if isinstance(activation, str) else None,
            facts=tuple(facts.items()),
            **frame,
        )

    def _scaler(self, node: Any, side: str, arrays: Mapping[str, Any]) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for kind, attribute in (("shift", "mean_"), ("scale", "scale_")):
            array = _child(node, attribute)
            switch = _json(_child(node, "with_mean" if kind == "shift" else "with_std"))
            if array is not None and array.get("file") and switch is not False:
                self._add(f"{side}_{kind}", array, arrays)
                found[f"{side}_{kind}"] = f"{side}_{kind}"
            elif switch is not False:
                raise self._refusal("a StandardScaler that was not fitted", "call fit first")
        return found

    def _add(self, name: str, node: Any, arrays: Mapping[str, Any]) -> None:
        member = str(node.get("file", "")).removesuffix(".npy") if isinstance(node, dict) else ""
        if member not in arrays:
            raise BadFile(self.path, f"{name}: expected an array of the file, got {member!r}; save it again")
        info = arrays[member]
        self.members[name] = member
        self.tensors = {**self.tensors, name: type(info)(name, info.shape, info.dtype)}

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = self.tensors[name].shape
        if len(shape) != 2:
            raise self._refusal(f"{name} of shape {shape}", "expected a matrix")
        return shape

    def _need(self, node: Any, what: str) -> Any:
        if not isinstance(node, dict):
            raise self._refusal("an estimator without it", f"expected {what}")
        return node

    def _refusal(self, got: str, mend: str) -> BadFile:
        return BadFile(self.path, f"expected an MLP with one hidden layer, got {got}; {mend}")

    def _values(self, name: str) -> np.ndarray:
        return super()._values(self.members[name])


def _schema(file: SkopsFile) -> dict[str, Any]:
    broken = "expected a skops file, got an archive whose schema.json "
    member = file._archive.getinfo(_SCHEMA)
    if member.file_size > _MAX_SCHEMA:
        raise BadFile(file.path, f"{broken}claims {member.file_size} bytes; save the MLP alone")
    try:
        content = json.loads(io.TextIOWrapper(file._archive.open(member), encoding="utf-8").read())
    except Exception as error:  # zip and zlib raise nearly every kind on damaged members
        raise BadFile(file.path, f"{broken}cannot be read ({type(error).__name__}); save it again") from None
    if not isinstance(content, dict) or "__class__" not in content:
        raise BadFile(file.path, f"{broken}is no tree of objects; save it again")
    return content


def _nodes(node: Any, depth: int) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "__class__" in node:
            yield node
        children: Iterator[Any] = iter(node.values())
    elif isinstance(node, list):
        children = iter(node)
    else:
        return
    if depth > _MAX_DEPTH:
        yield {"__class__": "an object", "__module__": "nested too deep", "__loader__": "?"}
        return
    for child in children:
        yield from _nodes(child, depth + 1)


def _untrusted(schema: dict[str, Any], depth: int) -> Iterator[str]:
    """The full names of the classes that are neither values nor scikit-learn's."""
    for node in _nodes(schema, depth):
        module, name = str(node.get("__module__")), str(node.get("__class__"))
        if node.get("__loader__") == "TypeNode" and module == "builtins":
            continue
        known = module in _TRUSTED or module.split(".")[0] == "sklearn"
        if not known or node.get("__loader__") not in _LOADERS:
            yield f"{module}.{name}"


def _class(node: Any) -> str:
    if isinstance(node, dict):
        return "NoneType" if _json(node) is None and node.get("is_json") else str(node.get("__class__"))
    return type(node).__name__


def _child(node: Any, attribute: str) -> dict[str, Any] | None:
    """An attribute of an object: its state is a dict of nodes."""
    content = node.get("content") if isinstance(node, dict) else None
    inner = content.get("content") if isinstance(content, dict) else None
    found = inner.get(attribute) if isinstance(inner, dict) else None
    return found if isinstance(found, dict) else None


def _json(node: Any) -> Any:
    """The value of a node that holds JSON text; None for others."""
    if not isinstance(node, dict) or not node.get("is_json"):
        return None
    try:
        return json.loads(node["content"])
    except (KeyError, TypeError, ValueError):
        return None
