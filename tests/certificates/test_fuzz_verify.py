"""Anything may stand in a certificate: the answer is valid, invalid or one line of error, never another exception.

A resealed change is believed only where the claim that it leaves follows from the checker's own numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sparsemf
from certificates.claims import MAKERS, Case, Document, at, case, leaves, put, resealed
from sparsemf.certificates.checker.document import Check
from sparsemf.certificates.checker.raw import decode, encode
from sparsemf.pipeline.verify import verify
from sparsemf_cli.main import cli

REPEATABLE = settings(
    derandomize=True,
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
NAMES = sorted(set(MAKERS) - {"tanh"})  # balls of a thousand digits take their time

# --- what is put into documents -------------------------------------------------------------------------------------

DTYPES = [
    "<f8", "<f4", "<f2", "<i4", "<i8", "|i1", ">f8", "<u4", "<c16", "|O", "|S8", "<U4", "|V8", "<M8[s]", "<m8[s]", "?",
    "f8,i4", "3f8", "(2,)f8", "f8,(", "(", "[", "", "float", "object", "int", "f", "g", "longdouble", "a8", "\x00",
]  # fmt: skip
SHAPES = [[], [0], [-1], [2**31], [2**63], [10**400], [1.5], [float("inf")], ["2"], [None], [[2]], [0, 2**62], [1] * 70]
BASE64 = ["", "A", "====", "AAAA", "AAAAAAAA8H8=", "AAAAAAAA+H8=", "äöü", "A" * 43 + "=", " AAAA", "AAAA\n", "\x00"]
NUMBERS = [
    0, 1, -1, 2, 63, 64, 65, 4096, 4097, 2**31, 2**63, 2**64, 10**400, -(10**400), 0.5, 1e-320, 1e308, -0.0, 1e-9,
    float("nan"), float("inf"), float("-inf"),
]  # fmt: skip

numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(-1000, 1000), st.floats(allow_nan=True, allow_infinity=True))
scalars = st.one_of(st.none(), st.booleans(), numbers, st.sampled_from(DTYPES + BASE64), st.text(max_size=8))
arrays = st.fixed_dictionaries(
    {}, optional={"dtype": st.sampled_from(DTYPES), "shape": st.sampled_from(SHAPES), "base64": st.sampled_from(BASE64)}
)
small = st.integers(0, 5).flatmap(
    lambda n: st.lists(st.floats(-4, 4), min_size=n, max_size=n).map(lambda x: encode(np.array(x)))
)
values = st.recursive(
    st.one_of(scalars, arrays, small),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def nested(depth: int, kind: str) -> Any:
    """A list in a list in a list …"""
    out: Any = 1
    for _ in range(depth):
        out = [out] if kind == "list" else {"x": out}
    return out


def _places(doc: Any) -> list[tuple[Any, ...]]:
    """Every path of a document but the root, those of inner nodes too."""
    return sorted({path[:k] for path in leaves(doc) for k in range(1, len(path) + 1)}, key=repr)


def _without(doc: Document, path: tuple[Any, ...]) -> Document:
    """A copy in which nothing stands at ``path``."""
    parent = at(doc, path[:-1])
    if isinstance(parent, list):
        kept: Any = [x for k, x in enumerate(parent) if k != path[-1]]
    else:
        kept = {key: x for key, x in parent.items() if key != path[-1]}
    return kept if len(path) == 1 else put(doc, path[:-1], kept)


@st.composite
def changed(draw: st.DrawFn) -> tuple[Case, Document]:
    """A case and its document with one to three changes, resealed or not."""
    honest = case(draw(st.sampled_from(NAMES)))
    doc = honest.doc
    for _ in range(draw(st.integers(1, 3))):
        places = _places(doc)
        if not places:
            break
        path = places[draw(st.integers(0, len(places) - 1))]
        kind = draw(st.sampled_from(["replace", "replace", "number", "missing", "extra", "swap", "array"]))
        old = at(doc, path)
        if kind == "missing":
            doc = _without(doc, path)
        elif kind == "extra" and isinstance(old, dict):
            doc = put(doc, path, {**old, draw(st.text(max_size=4)): draw(values)})
        elif kind == "swap":
            doc = put(doc, path, at(doc, places[draw(st.integers(0, len(places) - 1))]))
        elif kind == "number" and isinstance(old, int | float) and not isinstance(old, bool):
            doc = put(doc, path, draw(st.sampled_from([-old, 2 * old, old / 2, old + 1, old * (1 + 1e-8), float(old)])))
        elif kind == "array" and isinstance(old, dict) and "base64" in old:
            doc = put(doc, path, {**old, **draw(arrays)})
        else:
            doc = put(doc, path, draw(values))
    return honest, resealed(doc) if draw(st.booleans()) else doc


def _body(doc: Any) -> str:
    """What the seal is of."""
    return json.dumps({k: v for k, v in doc.items() if k not in ("timing_s", "seal")}, sort_keys=True)


# --- the function ---------------------------------------------------------------------------------------------------


@REPEATABLE
@given(changed())
def test_verify_of_changed_documents(drawn: tuple[Case, Document]) -> None:
    honest, doc = drawn
    found = verify(doc, honest.networks, honest.data)
    assert isinstance(found, Check)
    assert isinstance(found.reason, str)
    if found.valid:
        assert _body(doc) == _body(honest.doc) or honest.implied(doc)


@REPEATABLE
@given(st.data())
def test_verify_of_changed_evidence(data: st.DataObject) -> None:
    """Evidence of the right form and any content, with a claim that is stronger or weaker than what was proved."""
    honest = case(data.draw(st.sampled_from([n for n in NAMES if not n.startswith("sparse")])))
    evidence = dict(honest.doc["evidence"])
    leader, sign = decode(evidence["leader"]), decode(evidence["sign"])
    if data.draw(st.booleans()):
        new = data.draw(st.lists(st.integers(-1, leader.size), min_size=leader.size, max_size=leader.size))
        evidence["leader"] = encode(np.array(new, dtype=np.int32))
    if data.draw(st.booleans()):
        signs = data.draw(st.lists(st.sampled_from([-1, -1, 1, 1, 0]), min_size=sign.size, max_size=sign.size))
        evidence["sign"] = encode(np.array(signs, dtype=np.int8))
    evidence["bits"] = data.draw(st.sampled_from([0, 0, 0, 63, 64, 100]))
    evidence["degree"] = data.draw(st.sampled_from([2, 3, 8, 30, 64, 300, 1025]))
    evidence["gram"] = data.draw(st.sampled_from([True, False, None, 1, "no"]))
    evidence["closed"] = data.draw(st.sampled_from([True, False, None, 1, "no"]))
    if data.draw(st.booleans()):
        u = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=1, max_size=4)))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            evidence["direction"] = encode(u / np.linalg.norm(u))
    doc = {**honest.doc, "evidence": evidence}
    factor = data.draw(st.sampled_from([0.0, 0.5, 1 - 1e-8, 1.0, 1 + 1e-8, 2.0, 1e6]))
    end = data.draw(st.sampled_from(["lower", "upper"]))
    doc["bounds"] = {**doc["bounds"], end: doc["bounds"][end] * factor}
    doc = resealed(doc)
    found = verify(doc, honest.networks, honest.data)
    if found.valid:
        assert honest.implied(doc)


@REPEATABLE
@given(values)
def test_verify_of_no_document(value: Any) -> None:
    honest = case("relu")
    assert not verify(value, honest.networks).valid


@pytest.mark.parametrize("depth", [10, 900, 5000, 100_000])
@pytest.mark.parametrize("kind", ["list", "dict"])
def test_deep_nesting_is_refused(depth: int, kind: str) -> None:
    honest = case("relu")
    for path in (("config",), ("evidence", "leader"), ("witness",), ("law", "name"), ("schema",)):
        assert not honest.valid(put(honest.doc, path, nested(depth, kind)))


ENTRIES = [("evidence", "leader"), ("evidence", "sign"), ("evidence", "direction"), ("law", "root"), ("law", "mean")]


@pytest.mark.parametrize("path", ENTRIES)
@pytest.mark.parametrize("part", ["dtype", "shape", "base64"])
def test_malformed_arrays_are_refused(path: tuple[str, ...], part: str) -> None:
    """Every wrong type, shape and text, well sealed; with the array put back, the claim is valid."""
    honest = case("gelu")
    entry = at(honest.doc, path)
    if entry is None:
        entry = encode(np.array([1.0, 0.0, 0.0]))
    other: dict[str, list[Any]] = {"dtype": DTYPES, "shape": SHAPES, "base64": BASE64}
    array = decode(entry)
    for value in other[part]:
        doc = resealed(put(honest.doc, path, {**entry, part: value}))
        if not honest.valid(doc):
            continue
        # it was another spelling of numbers that prove the claim
        again = np.asarray(decode(at(doc, path)))
        assert again.shape == array.shape
        assert honest.implied(doc)
    assert honest.valid(resealed(put(honest.doc, path, at(honest.doc, path))))


# --- the command ----------------------------------------------------------------------------------------------------

FILES = ("relu", "empirical", "sparse_tanh", "gated_apart", "related")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The networks of some cases as files, and certificates that name them."""
    from sparsemf.checkpoints import file_sha256

    out = tmp_path_factory.mktemp("verify")
    for name in FILES:
        honest, doc = case(name), case(name).doc
        for side, network in honest.networks.items():
            path = out / f"{name}-{side}.{'npz' if side == 'b' else 'safetensors'}"
            sparsemf.save(network, path)
            doc = put(doc, ("inputs", side, "path"), path.name)
            doc = put(doc, ("inputs", side, "sha256"), file_sha256(path))
        if honest.data is not None:
            np.savez(out / f"{name}.npz", X=honest.data.x)
            doc = put(doc, ("config", "data"), f"{name}.npz")
        (out / f"{name}.json").write_text(json.dumps(resealed(doc)))
        assert cli.main(["verify", str(out / f"{name}.json"), "-q"], standalone_mode=False) == 0
    return out


def _code(folder: Path, text: str | bytes, capsys: pytest.CaptureFixture[str]) -> int:
    """The exit code of `verify` for a certificate of that text: 0 valid, 1 invalid, 4 bad input in one line."""
    path = folder / "changed.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    capsys.readouterr()
    code = cli.main(["verify", str(path), "--json"], standalone_mode=False)
    out, err = capsys.readouterr()
    assert code in (0, 1, 4), err
    if code == 4:
        assert err.startswith("error: ")
        assert (out, err.count("\n")) == ("", 1)
    else:
        assert json.loads(out)["valid"] is (code == 0)
    return code


@REPEATABLE
@given(data=st.data())
def test_the_command_on_changed_documents(
    folder: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(FILES))
    doc = before = json.loads((folder / f"{name}.json").read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        places = [path for path in _places(doc) if path[0] != "evidence" or data.draw(st.booleans())]
        path = places[data.draw(st.integers(0, len(places) - 1))]
        doc = _without(doc, path) if data.draw(st.integers(0, 3)) == 0 else put(doc, path, data.draw(values))
    if data.draw(st.booleans()):
        doc = resealed(doc)
    code = _code(folder, json.dumps(doc), capsys)
    if code == 0:
        assert _body(doc) == _body(before) or case(name).implied(doc)


@REPEATABLE
@given(data=st.data())
def test_the_command_on_changed_text(folder: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject) -> None:
    text = (folder / f"{data.draw(st.sampled_from(FILES))}.json").read_bytes()
    before = json.loads(text)
    first = data.draw(st.integers(0, len(text)))
    last = data.draw(st.integers(first, min(first + 4, len(text))))
    text = text[:first] + data.draw(st.binary(max_size=4)) + text[last:]
    if _code(folder, text, capsys) == 0:
        assert _body(json.loads(text)) == _body(before)


PLACES = ["inputs", "inputs/a", "inputs/a/path", "inputs/a/block", "inputs/a/sha256", "inputs/a/activation", "map"]
PLACES += ["inputs/a/d", "activation_option", "config", "config/rho", "config/data", "config/rows_sha256", "law"]
PLACES += ["seal"]
NEEDED = ("inputs", "inputs/a", "inputs/a/path", "inputs/a/activation", "config", "config/rho", "law")
NEEDED_WITH_DATA = ("config/data", "config/rows_sha256")
ODD = [None, 0, -1, 1.5, True, "", ".", "..", "/", "x\x00y", "a" * 5000, "*", "[", [], ["relu"], {}, {"a": 1}, 10**400]
ODD += ["inner=outer", "inner=x,outer=y", "linear", "\ud800", float("nan")]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["empirical", "sparse_tanh"])
def test_the_command_on_odd_places(folder: Path, capsys: pytest.CaptureFixture[str], name: str, place: str) -> None:
    """The fields that the command itself reads: paths, blocks, options, the data."""
    doc = json.loads((folder / f"{name}.json").read_text())
    path = tuple(place.split("/"))
    for value in ODD:
        if path[0] in doc:
            changed = put(doc, path, value)
            _code(folder, json.dumps(changed), capsys)
            _code(folder, json.dumps(changed if place == "seal" else resealed(changed)), capsys)
    if place in NEEDED or (name == "empirical" and place in NEEDED_WITH_DATA):
        assert _code(folder, json.dumps(resealed(_without(doc, path))), capsys) != 0
        assert _code(folder, json.dumps(_without(doc, ("seal",))), capsys) == 1


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "[{}]", "{}", '{"results": []}', '{"results": [1]}', '{"results": {}}', "\ufeff{}", "1"]
)
def test_the_command_on_no_document(folder: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert _code(folder, text, capsys) == 4


@pytest.mark.parametrize("depth", [300, 900, 5000, 100_000])
def test_the_command_on_deep_nesting(folder: Path, capsys: pytest.CaptureFixture[str], depth: int) -> None:
    deep = "[" * depth + "]" * depth
    assert _code(folder, deep, capsys) == 4
    text = (folder / "relu.json").read_text()
    assert _code(folder, text.replace("{", '{"deep": ' + deep + ", ", 1), capsys) in (1, 4)


def test_the_command_on_changed_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One bit of an input file, of data too: never valid."""
    rng = np.random.default_rng(3)
    for name in ("relu", "empirical"):
        text = (folder / f"{name}.json").read_text()
        for path in sorted(folder.glob(f"{name}*.npz")) + sorted(folder.glob(f"{name}*.safetensors")):
            original = path.read_bytes()
            array = np.frombuffer(original, dtype=np.uint8)
            for place in rng.integers(0, array.size, 12):
                broken = array.copy()
                broken[place] ^= 1 << rng.integers(8)
                path.write_bytes(broken.tobytes())
                assert _code(folder, text, capsys) != 0 or path.stem == "empirical", (path.name, place)
            path.write_bytes(original)
        assert _code(folder, text, capsys) == 0
