"""Changed certificates of optimality, sealed anew: refused, unless what they say is still true.

What is true is decided here in plain numpy: P(ν) of the document's measure, the least value that any measure of the
tests has in the document's program, and ‖η‖ on many points.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import sparsemf
from certificates.claims import put
from certificates.convex.programs import solved
from sparsemf.activations import get
from sparsemf.certificates.checker import optimality, tree
from sparsemf.certificates.checker.document import seal
from sparsemf.certificates.checker.raw import decode, encode
from sparsemf.certificates.convex import Effort, blasso_on_data
from sparsemf.certificates.convex.certificate import refined
from sparsemf.exceptions import InputError

Document = dict[str, Any]
Array = np.ndarray[Any, np.dtype[np.float64]]

NAMES = (
    "relu d=2", "relu d=3, two outputs", "relu d=2, free affine part", "relu of rank 2 in d=5", "leaky d=3",
    "tanh d=2", "tanh d=2, free affine part", "gelu d=2", "sigmoid d=2, two outputs", "erf d=2",
    "relu2 d=2, bias", "mish d=2", "elu d=2, bias", "selu d=2, bias", "softsign d=3",
    "exp d=2, bias", "quadratic d=2, two outputs, bias", "cubic of rank 2 in d=4", "hermite(3) d=2, free affine part",
)  # fmt: skip
ROUNDS, REFUSED = 100, 52
"""Changes of every document at most, and how many of them are refused."""


def test_there_are_more_than_five_hundred() -> None:
    assert len(NAMES) * REFUSED > 500


def sealed(doc: Document) -> Document:
    return {**doc, "seal": seal(doc)}


# --- changes ------------------------------------------------------------------------------------------------------


def _described(doc: Document, x: Array, y: Array) -> Document:
    """The document about other data, hash and shapes included."""
    about = {**doc["inputs"]["data"], "arrays_sha256": optimality.data_sha256(x, y), "n": len(x), "d": x.shape[1]}
    return {**doc, "data": {"x": encode(x), "y": encode(y)}, "inputs": {"data": {**about, "m": y.shape[1]}}}


def _claims(doc: Document, rng: np.random.Generator) -> Iterator[Document]:
    claim = doc["claim"]
    down, up = 1 - 10.0 ** rng.uniform(-10, -0.1), 1 + 10.0 ** rng.uniform(-10, 1)
    yield {"value": claim["value"] * down}
    yield {"dual_value": claim["dual_value"] * up, "gap": 0.0}
    yield {"dual_value": min(claim["dual_value"] * up, claim["value"])}
    yield {"gap": claim["gap"] * down}
    yield {"gap": 0.0, "value": claim["dual_value"]}
    yield {"sup": claim["sup"] * down}
    yield {"sup": claim["sup"] * down, "dual_value": claim["dual_value"] * (2 - down), "gap": claim["gap"]}
    yield {"atoms": claim["atoms"] + int(rng.choice([-1, 1]))}


def _changed(doc: Document, rng: np.random.Generator) -> Document:
    """One change of claim, measure, data, program or tree."""
    kind, noise = rng.integers(14), 10.0 ** rng.uniform(-7, 0)
    program, measure = doc["program"], doc["measure"]
    if kind <= 2:
        changes = list(_claims(doc, rng))
        return {**doc, "claim": {**doc["claim"], **changes[rng.integers(len(changes))]}}
    if kind <= 4:
        names = [key for key in ("theta", "alpha", "affine", "offset") if measure[key] is not None]
        name = str(rng.choice(names))
        value = decode(measure[name])
        return put(doc, ("measure", name), encode(value + noise * rng.standard_normal(value.shape)))
    if kind == 5:
        keep = np.arange(decode(measure["alpha"]).shape[0]) != 0
        changed = {key: encode(decode(measure[key])[keep]) for key in ("theta", "alpha")}
        claim = {**doc["claim"], "atoms": int(keep.sum())}
        return {**doc, "measure": {**measure, **changed}, "claim": claim}
    if kind == 6:
        x, y = decode(doc["data"]["x"]), decode(doc["data"]["y"])
        which = rng.integers(3)
        if which == 0:
            x = x + noise * rng.standard_normal(x.shape)
        elif which == 1:
            y = y + noise * rng.standard_normal(y.shape)
        else:
            x, y = x[1:], y[1:]
        return _described(doc, x, y)
    if kind == 7:
        return put(doc, ("program", "lam"), program["lam"] * float(rng.choice([1 - noise, 1 + noise, 0.5, 2.0])))
    if kind == 8:
        sphere = ["relu", "abs", "leaky_relu(0.1)", "leaky_relu(0.5)", "relu2", "cubic", "linear", "tanh"]
        ball = [
            "tanh",
            "erf",
            "arctan",
            "gelu",
            "sigmoid",
            "silu",
            "sin",
            "relu",
            "mish",
            "elu",
            "softsign",
            "relu6",
            "exp",
        ]
        others = sphere if program["set"] == "sphere" else ball
        return put(doc, ("program", "activation"), str(rng.choice([a for a in others if a != program["activation"]])))
    if kind == 9:
        if program["set"] == "ball":
            return put(doc, ("program", "radius"), program["radius"] * (1 + noise))
        return {**doc, "program": {**program, "set": "ball", "radius": 1.0}}
    if kind == 10:
        name = str(rng.choice(["bias", "affine"]))
        return put(doc, ("program", name), not program[name])
    bits = tree.bits_of(doc["evidence"]["tree"]).copy()
    if kind == 11:
        bits = bits[: rng.integers(bits.size)]
    elif kind == 12:
        place = rng.integers(bits.size)
        bits[place] = not bits[place]
    else:
        bits = _pruned(bits, _roots(doc), rng)
    return put(doc, ("evidence", "tree"), tree.packed(bits) if bits.size else {"nodes": 0, "base64": ""})


def _roots(doc: Document) -> int:
    program, coordinates = doc["program"], doc["evidence"]["coordinates"]
    rank = doc["inputs"]["data"]["d"] if coordinates is None else len(decode(coordinates))
    both = rank + int(program["bias"] and (program["set"] == "ball" or coordinates is None))
    return 2**both if program["set"] == "sphere" and get(program["activation"]).homogeneous == 1 else 1


def _pruned(bits: np.ndarray[Any, Any], roots: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """The tree with one node that is split called a leaf, and all below it gone: a prover that gave up there."""
    split = np.flatnonzero(bits)
    if not split.size:
        return bits
    victim = int(rng.choice(split))
    out, begin, gone = [], 0, np.zeros(roots, dtype=bool)
    while gone.size:
        level = bits[begin : begin + gone.size].copy()
        names = np.arange(begin, begin + gone.size)
        begin += gone.size
        dead = gone | (names == victim)
        below = np.concatenate([dead[level], dead[level]])
        kept = level & ~dead
        out.append(kept[~gone])
        gone = below
    return np.concatenate(out)


# --- what is true -------------------------------------------------------------------------------------------------


def _value(doc: Document, theta: Array, alpha: Array, slope: Array, offset: Array) -> float:
    x, y, program = decode(doc["data"]["x"]), decode(doc["data"]["y"]), doc["program"]
    left = y - _features(doc, theta) @ alpha - x @ slope.T - offset
    degree = get(program["activation"]).homogeneous if program["set"] == "sphere" else 0
    size = np.linalg.norm(alpha, axis=1) * np.linalg.norm(theta, axis=1) ** degree
    return float(0.5 * np.mean(np.sum(left**2, axis=1)) + program["lam"] * np.sum(size))


def _features(doc: Document, theta: Array) -> Array:
    x = decode(doc["data"]["x"])
    z = x @ theta[:, : x.shape[1]].T + (theta[:, -1] if doc["program"]["bias"] else 0.0)
    return np.asarray(get(doc["program"]["activation"]).value(z))


def _parts(doc: Document) -> tuple[Array, Array, Array, Array]:
    entry, about = doc["measure"], doc["inputs"]["data"]
    slope = np.zeros((about["m"], about["d"])) if entry["affine"] is None else decode(entry["affine"])
    offset = np.zeros(about["m"]) if entry["offset"] is None else decode(entry["offset"])
    return decode(entry["theta"]), decode(entry["alpha"]), slope, offset


def true(doc: Document, rng: np.random.Generator) -> bool:
    """Whether the claim may be true: nothing found here contradicts it."""
    claim, program = doc["claim"], doc["program"]
    theta, alpha, slope, offset = _parts(doc)
    x, y = decode(doc["data"]["x"]), decode(doc["data"]["y"])
    own = _value(doc, theta, alpha, slope, offset)
    sphere = program["set"] == "sphere"
    if not sphere and np.any(np.linalg.norm(theta[:, : x.shape[1]], axis=1) > program["radius"]):
        return False
    best = blasso_on_data(
        x, y, program["lam"], program["activation"], bias=program["bias"], affine=program["affine"],
        radius=None if sphere else program["radius"], bias_radius=program["bias_radius"],
        effort=Effort(regions=0, starts=60),
    ).value  # fmt: skip
    left = y - _features(doc, theta) @ alpha - x @ slope.T - offset
    if program["affine"]:
        columns = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        left = left - columns @ np.linalg.lstsq(columns, left, rcond=None)[0]
    points = rng.standard_normal((20_000, theta.shape[1]))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    if not sphere:
        points = points * program["radius"]
        if program["bias"]:
            points[:, :-1] *= program["radius"] / np.linalg.norm(points[:, :-1], axis=1, keepdims=True)
            points[:, -1] = rng.uniform(-1, 1, len(points)) * program["bias_radius"]
    points = np.concatenate([points, theta / (np.linalg.norm(theta, axis=1, keepdims=True) if sphere else 1.0)])
    eta = np.linalg.norm(_features(doc, points).T @ left, axis=1) / len(x) / program["lam"]
    return (
        own <= claim["value"] * (1 + 1e-14)
        and claim["dual_value"] <= min(own, best) * (1 + 1e-14)
        and float(np.max(eta, initial=0.0)) <= claim["sup"] * (1 + 1e-13)
        and claim["atoms"] == np.count_nonzero(alpha.any(axis=1))
        and claim["value"] - claim["dual_value"] <= claim["gap"]
    )


@pytest.mark.parametrize("name", NAMES)
def test_changes(name: str) -> None:
    rng, refused = np.random.default_rng([3, *name.encode()]), 0
    _, honest = solved(name)
    assert sparsemf.verify(honest).valid
    assert true(honest, rng)
    for _ in range(ROUNDS):
        doc = _changed(honest, rng)
        if doc == honest:
            continue
        assert not sparsemf.verify(doc).valid  # the seal
        if sparsemf.verify(sealed(doc)).valid:
            assert true(doc, rng)
        else:
            refused += 1
        if refused == REFUSED:
            break
    assert refused == REFUSED


# --- provers that lie ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["relu d=2, bias", "relu d=3, two outputs", "tanh d=2, bias", "tanh d=3, two outputs", "relu2 d=2, bias"]
)
def test_an_unresolved_leaf_called_closed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prover whose own bounds are too small closes the leaves with the maxima; the checker bounds them itself."""
    _result, honest = solved(name)
    for factor in (0.0, 0.5, 0.9, 0.99):
        bound = optimality.DualFunction.bounds
        with monkeypatch.context() as patch:
            patch.setattr(
                optimality.DualFunction,
                "bounds",
                lambda self, nodes, enough, b=bound, f=factor: f * b(self, nodes, 0.0),
            )
            dual = _dual(honest)
            bits, _ = refined(dual, None, honest["program"]["lam"])
        lie = put(honest, ("evidence", "tree"), tree.packed(bits))
        found = sparsemf.verify(sealed(lie))
        assert not found.valid
        assert "leaves of the tree" in found.reason


def _dual(doc: Document) -> optimality.DualFunction:
    program = optimality.program_of(doc, None)
    _, left = optimality.residual(program, optimality.measure_of(doc, program))
    return optimality.dual_function(program, optimality.orthogonal(program, left), None)


def test_coordinates_that_hide_what_underflows() -> None:
    """E leaves out the only column that is not 0; its square is.  η(0, 1) = 10⁻⁶³ all the same."""
    x, y = np.array([[0.0, 1e-163]]), np.array([[1e100]])
    doc = put(_described(solved("relu d=2")[1], x, y), ("program", "lam"), 1e-80)
    doc = {**doc, "measure": {**doc["measure"], "theta": encode(np.eye(2)[:1]), "alpha": encode(np.zeros((1, 1)))}}
    for e in (np.array([[0.5, 0.0]]), None):
        leaves = np.zeros(4 if e is None else 2, dtype=bool)
        doc["evidence"] = {"coordinates": None if e is None else encode(e), "tree": tree.packed(leaves)}
        assert optimality.prove(doc, optimality.program_of(doc, None), 0.0).sup >= 1e17


def test_coordinates_that_hide_something() -> None:
    """Fewer directions than the data have, or longer ones."""
    _, honest = solved("relu of rank 2 in d=5")
    e = decode(honest["evidence"]["coordinates"])
    half = put(honest, ("evidence", "coordinates"), encode(e[:1]))
    program = optimality.program_of(honest, None)
    bits, _ = refined(_dual_in(half, program), None, 1.0)
    assert not sparsemf.verify(sealed(put(half, ("evidence", "tree"), tree.packed(bits)))).valid
    for wrong in (e * (1 + 1e-9), e * 2, np.concatenate([e, e[:1]]), e[:, :4], e[:0]):
        assert not sparsemf.verify(sealed(put(honest, ("evidence", "coordinates"), encode(wrong)))).valid
    assert not sparsemf.verify(sealed(put(honest, ("evidence", "coordinates"), None))).valid


def _dual_in(doc: Document, program: optimality.Program) -> optimality.DualFunction:
    _, left = optimality.residual(program, optimality.measure_of(doc, program))
    return optimality.dual_function(program, left, decode(doc["evidence"]["coordinates"]))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("program", "lam"), 0.0), (("program", "lam"), float("nan")), (("program", "lam"), True),
        (("program", "set"), "cube"), (("program", "radius"), 0.0), (("program", "radius"), None),
        (("program", "bias"), 0), (("program", "activation"), "no_such"), (("program", "activation"), "exp"),
        (("claim", "value"), float("inf")), (("claim", "sup"), None), (("claim", "gap"), -1.0),
        (("claim", "dual_value"), "0"), (("claim", "atoms"), 1.0), (("data", "x"), None), (("data",), None),
        (("inputs", "data", "n"), 3), (("inputs", "data", "d"), 1.0), (("inputs", "data", "arrays_sha256"), "0"),
        (("measure", "offset"), {}), (("measure", "theta"), encode(np.zeros((0, 2)))),
        (("measure", "theta"), encode(np.array([[2.0, 0.0]]))), (("evidence", "tree", "base64"), "?"),
        (("evidence", "tree"), None), (("evidence",), {}), (("schema",), "sparsemf/optimality/2"),
    ],
)  # fmt: skip
def test_malformed(path: tuple[str, ...], value: Any) -> None:
    _, honest = solved("tanh d=2")
    found = sparsemf.verify(sealed(put(honest, path, value)))
    assert not found.valid
    assert "\n" not in found.reason


def test_a_network_beside_it_is_refused() -> None:
    result, honest = solved("tanh d=2")
    assert not sparsemf.verify(honest, {"a": result.network}).valid


def test_the_prover_cannot_publish_what_it_did_not_prove() -> None:
    """Where the checker bounds nothing within its nodes, the sup and the gap say so."""
    result, _ = solved("tanh d=2")
    few = result.certificate(tolerance=0.5)
    assert few["claim"]["sup"] > 1.001 or few["evidence"]["tree"]["nodes"] <= 200
    assert sparsemf.verify(few).valid
    with pytest.raises(InputError, match="no certificate"):
        blasso_on_data([[1.0], [2.0]], [0.0, 1.0], 0.1, "tanh", bias=False, radius=1.0,
                       effort=Effort(regions=0)).certificate()  # fmt: skip
    with pytest.raises(InputError, match=r"exp: expected .* got 400"):
        blasso_on_data([[1.0], [400.0]], [0.0, 1.0], 0.1, "exp", bias=False, radius=1.0)
