"""Several thousand changed certificates, none of them believed.

The changes of one document are drawn from a fixed seed.  Those that leave a true claim (a bound that is still implied
by the checker's numbers) must stay valid, and are not counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from certificates.claims import MAKERS, Case, Document, at, case, leaves, put, resealed
from sparsemf.atomic import json_text
from sparsemf.certificates.checker import check
from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.raw import decode, encode

BYTES, LEAVES, CLAIMS, BITS = 120, 60, 45, 40
COUNTED = 60 + 55 + CLAIMS + BITS
"""At least so many changes of every document are refused …"""


def test_there_are_more_than_a_thousand() -> None:
    """… in :func:`test_changed_bytes` to :func:`test_changed_bits`, each of which asserts its part."""
    assert len(MAKERS) * COUNTED > 2500


@pytest.fixture(params=list(MAKERS))
def honest(request: pytest.FixtureRequest) -> Case:
    return case(request.param)


def _rng(kind: int, honest: Case) -> np.random.Generator:
    return np.random.default_rng([7, kind, *honest.name.encode()])


# --- the text -----------------------------------------------------------------------------------------------------


def test_changed_bytes(honest: Case) -> None:
    rng, text = _rng(1, honest), json_text(honest.doc).encode()
    unsealed = text.find(b'"timing_s"') + len(b'"timing_s"')
    end = text.index(b"}", unsealed) if "timing_s" in honest.doc else -1
    refused = 0
    for place in rng.integers(0, len(text), BYTES):
        if unsealed <= place <= end:
            continue
        changed = bytearray(text)
        changed[place] ^= 1 << rng.integers(8)
        try:
            doc = json.loads(changed)
        except ValueError:
            refused += 1
            continue
        if doc != honest.doc:
            assert not honest.valid(doc), changed[max(place - 30, 0) : place + 30]
            refused += 1
    assert refused >= 60


# --- single values, the seal left as it is ------------------------------------------------------------------------


def _another(value: Any, rng: np.random.Generator) -> Any:
    """Another value, of the same type or of none."""
    if rng.random() < 0.15:
        return [None, 0, "", [], {}, True, -1.0][rng.integers(7)]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + int(rng.choice([-1, 1, 100]))
    if isinstance(value, float):
        return float(np.nextafter(value, rng.choice([-np.inf, np.inf]))) if rng.random() < 0.5 else -2.0 * value - 1e-9
    if isinstance(value, str) and value:
        place = int(rng.integers(len(value)))
        return value[:place] + chr(ord(value[place]) ^ 1) + value[place + 1 :]
    return "x"


def test_changed_values(honest: Case) -> None:
    rng, refused = _rng(2, honest), 0
    sealed = [path for path in leaves(honest.doc) if path[0] != "timing_s"]
    for path in (sealed[k] for k in rng.integers(0, len(sealed), LEAVES)):
        doc = put(honest.doc, path, _another(at(honest.doc, path), rng))
        if json.dumps(doc, sort_keys=True) != json.dumps(honest.doc, sort_keys=True):
            assert not honest.valid(doc), (path, at(doc, path))
            refused += 1
    assert refused >= 55


# --- stronger claims, well sealed ---------------------------------------------------------------------------------


def _stronger(doc: Document, rng: np.random.Generator) -> Iterator[Document]:
    """A claim of equivalence, made stronger than it was in one way; nothing where that way is closed."""
    bounds, low, high = doc["bounds"], doc["bounds"]["lower"], doc["bounds"]["upper"]
    up, down = 1 + 10.0 ** rng.uniform(-12, 3), 1 - 10.0 ** rng.uniform(-12, -0.01)
    kind = rng.integers(13)
    absolute = {"rel_eps": None} if rng.random() < 0.7 else {}
    if kind == 0:
        yield doc | {"bounds": bounds | {"upper": max(high * down, low)}}
    elif kind == 1:  # with a threshold to match
        upper = high * down
        eps = upper * rng.uniform(1.0, 3.0)
        yield doc | {"bounds": {"lower": min(low, upper), "upper": upper}, "eps": eps, "eps_distinct": eps} | {
            "verdict": "equivalent", "rel_eps": None
        }  # fmt: skip
    elif kind == 2:
        lower = low * up if low else high * 10.0 ** rng.uniform(-9, 0)
        yield doc | {"bounds": {"lower": lower, "upper": max(high, lower)}}
    elif kind == 3:
        lower = low * up if low else high * 10.0 ** rng.uniform(-9, 0)
        eps = lower * rng.uniform(0.3, 0.999)
        yield doc | {"bounds": {"lower": lower, "upper": max(high, lower)}, "eps": eps, "eps_distinct": eps} | {
            "verdict": "distinct", "rel_eps": None
        }  # fmt: skip
    elif kind == 4:
        yield doc | {"verdict": str(rng.choice(["equivalent", "distinct", "undecided"]))}
    elif kind == 5 and doc["rel_eps"] is not None:
        yield doc | {"eps": doc["eps"] * up}
        yield doc | {"eps_distinct": doc["eps_distinct"] * down}
        yield doc | {"rel_eps": doc["rel_eps"] * down}
    elif kind == 5:
        eps = doc["eps"] * (down if doc["verdict"] == "equivalent" else up)
        yield doc | {"eps": eps, "eps_distinct": eps}
    elif kind == 6:
        yield doc | absolute | {"eps": doc["eps"] * up} | ({} if rng.random() < 0.5 else {"eps_distinct": 0.0})
    elif kind == 7 and doc["witness"] is not None:
        yield put(doc, ("witness", "gap"), doc["witness"]["gap"] * up)
        x = np.array(doc["witness"]["x"])
        yield put(doc, ("witness", "x"), (x * (1 + 10.0 ** rng.uniform(-6, 1))).tolist())
        yield put(doc, ("witness", "x"), (-x).tolist())
    elif kind == 8:
        yield doc | {"separation_degree": int(rng.choice([0, 1, 2, 3, 5, 24, 25, 63, 65, -1]))}
    elif kind == 10:
        yield from _nearer(doc, doc["orbit_distance"], rng)
    elif kind == 11:
        yield from _better_plan(doc, rng)
    elif kind == 12:
        matching = doc["matching"]
        step = int(rng.integers(1, 3))
        yield doc | {"matching": matching | {"matched": matching["matched"] + step}}
        yield doc | {"matching": matching | {"unmatched_a": matching["unmatched_a"] - step}}
        yield doc | {"matching": matching | {"unmatched_b": matching["unmatched_b"] + step}}
        yield doc | {"matching": matching | {"max_distance": matching["max_distance"] * down}}
    elif doc["norm"] == "sup":
        yield doc | {"radius": doc["radius"] * (up if high else 1.0)}
    elif doc["law"]["root"] is not None:
        root = decode(doc["law"]["root"]) * rng.choice([-3.0, 0.0, 0.5, 1 - 1e-6, 1 + 1e-6, 4.0])
        yield put(doc, ("law", "root"), encode(root))


def _nearer(doc: Document, entry: Document, rng: np.random.Generator) -> Iterator[Document]:
    """A narrower or a moved bracket of the orbit distance, with the gap and the exactness that belong to it."""
    if entry["value"] is None:
        return
    up, down = 1 + 10.0 ** rng.uniform(-12, 1), 1 - 10.0 ** rng.uniform(-12, -0.01)
    for new in (
        {"value": entry["value"] * down, "lower": entry["lower"] * down},
        {"lower": min(entry["lower"] * up if entry["lower"] else entry["value"] * (1 - down), entry["value"])},
        {"value": entry["lower"]},
        {"rounding": entry["rounding"] * up + 1e-300},
        {"polynomial": entry["polynomial"] * up + 1e-6},
    ):
        changed = entry | new
        changed["dual_gap"] = changed["value"] - changed["lower"]
        changed["exact"] = changed["dual_gap"] <= 1e-8 * changed["value"] + 2 * changed["rounding"]
        yield doc | {"orbit_distance": changed}
    yield doc | {"orbit_distance": entry | {"exact": not entry["exact"]}}
    yield doc | {"orbit_distance": entry | {"dual_gap": entry["dual_gap"] * down}}
    kinds = ["certificate", "upper certificate", "estimate", "not computed"]
    yield doc | {"orbit_distance": entry | {"kind": str(rng.choice(kinds))}}


def _better_plan(doc: Document, rng: np.random.Generator) -> Iterator[Document]:
    """Other flows, another potential, another merging; the claim stays."""
    entry = doc["orbit_distance"]
    for k, part in enumerate(entry["plan"] or []):
        for name in ("flow", "potential"):
            if part[name] is not None and decode(part[name]).size:
                x = decode(part[name])
                x = x + 10.0 ** rng.uniform(-6, 0) * rng.standard_normal(x.shape)
                yield put(doc, ("orbit_distance", "plan", k, name), encode(x))
        yield put(doc, ("orbit_distance", "plan", k, "potential"), None)
    if entry["merged"] is not None:
        leader = decode(entry["merged"]["leader"]).copy()
        if leader.size:
            leader[rng.integers(leader.size)] = rng.integers(leader.size)
            yield put(doc, ("orbit_distance", "merged", "leader"), encode(leader))


def _more_atoms(doc: Document, rng: np.random.Generator) -> Iterator[Document]:
    """A claim of sparsity, made stronger in one way."""
    claim, (low, high) = doc["claim"], doc["claim"]["eps"]
    kind = rng.integers(10)
    up, down = 1 + 10.0 ** rng.uniform(-12, 3), 1 - 10.0 ** rng.uniform(-12, -0.01)
    step = int(rng.integers(1, 4))
    changes: list[Document] = [
        {"upper": claim["upper"] - 1, "lower": max(claim["upper"] - 1, 0), "certified": True},
        {"lower": claim["lower"] + step, "upper": claim["upper"] + step, "certified": True},
        {"eps": [low * down, high]},
        {"eps": [low, high * up]},
        {"eps": [low * down, high * down]},
        {"eps": [low, None]},
        {"certified": False, "lower": claim["lower"] - int(rng.integers(2))},
        {"counts": str(rng.choice(["directions", "kinks", "atom", ""]))},
        {},
        {"lower_curve": encode(decode(claim["lower_curve"]) * up)},
    ]
    doc = doc | {"claim": claim | changes[kind]}
    if kind == 8:  # of another dictionary
        name = str(rng.choice(["outer", "inner", "bias", "affine", "offset"]))
        path = ("evidence", "dictionary", name)
        array = decode(at(doc, path))
        doc = put(doc, path, encode(array + 10.0 ** rng.uniform(-9, 0) * rng.standard_normal(array.shape)))
    yield doc


def _implied(honest: Case, doc: Document) -> bool:
    """Whether the claim follows; evidence that fits nothing proves nothing."""
    try:
        return honest.implied(doc)
    except Refused:
        return False


def test_stronger_claims(honest: Case) -> None:
    rng, refused, seen = _rng(3, honest), 0, set()
    stronger = _more_atoms if honest.doc["schema"].startswith("sparsemf/sparsity") else _stronger
    for _ in range(400):
        for doc in stronger(honest.doc, rng):
            text = json.dumps(doc, sort_keys=True)
            if text in seen:
                continue
            seen.add(text)
            implied = _implied(honest, doc)
            assert honest.valid(resealed(doc)) is implied, {k: doc[k] for k in doc if doc[k] != honest.doc[k]}
            refused += not implied
        if refused >= CLAIMS:
            break
    assert refused >= CLAIMS


# --- the networks -------------------------------------------------------------------------------------------------


_ARRAYS = ("outer", "w", "b", "affine", "offset", "quadratic", "gate", "gate_bias")


def test_changed_bits(honest: Case) -> None:
    """One bit of one number of one network."""
    rng, refused = _rng(4, honest), 0
    for _ in range(BITS):
        networks = honest.raw
        name = str(rng.choice(list(networks)))
        raw = networks[name]
        key = str(rng.choice([k for k in _ARRAYS if getattr(raw, k) is not None]))
        array = np.array(getattr(raw, key))
        array.reshape(-1).view(np.uint64)[rng.integers(array.size)] ^= np.uint64(1) << np.uint64(rng.integers(64))
        networks[name] = replace(raw, **{key: array})
        assert not check.check(honest.doc, networks, honest.rows).valid, (name, key)
        refused += 1
    assert refused >= BITS
    assert check.check(honest.doc, honest.raw, honest.rows).valid
