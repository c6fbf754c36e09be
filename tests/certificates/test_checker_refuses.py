"""The checker refuses every changed document, and every false document of a prover that lies and seals it well."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sparsemf.certificates.checker.document import seal
from sparsemf.certificates.checker.equivalence import witness_gap
from sparsemf.certificates.checker.raw import decode, encode
from sparsemf.certificates.equivalence import raw_of
from sparsemf.measures import Empirical, Gaussian, Network
from sparsemf.pipeline.analyze import analyze
from sparsemf.pipeline.certify import certify, document
from sparsemf.pipeline.verify import verify

Document = dict[str, Any]
NAN, INF = float("nan"), float("inf")

RNG = np.random.default_rng(12)
A = Network(RNG.standard_normal((3, 2)), RNG.standard_normal((3, 2)), RNG.standard_normal(3), "tanh")
B = A.with_(outer=2 * A.outer)
TWO = Network([[1.0], [1.0]], 0.5 * np.eye(2), [0.1, -0.1], "tanh")
LINE = Network(np.eye(2), [[1.0, 0.0], [1.0, 0.0]], [0.5, -0.5], "relu")
TINY = A.with_(
    outer=np.vstack([A.outer, [[1.0, 1.0]]]),
    inner=np.vstack([A.inner, [[1e-200, 1e-200]]]),
    bias=np.append(A.bias, 1.0),
)


@pytest.fixture(scope="module")
def pair() -> Document:
    return document(certify(A, B), A, B)


@pytest.fixture(scope="module")
def ball() -> Document:
    return document(certify(A, B, norm="sup", radius=2.0), A, B)


@pytest.fixture(scope="module")
def sparsity() -> Document:
    return analyze(TWO).certificate()


def sealed(doc: Document) -> Document:
    return {**doc, "seal": seal(doc)}


def refused(doc: Document, *networks: Network, data: Empirical | None = None) -> bool:
    return not verify(sealed(doc), dict(zip("ab", networks, strict=False)), data).valid


def changed(doc: Document, **paths: Any) -> Document:
    """A deep copy with ``a__b=value`` set at doc["a"]["b"]."""
    out = copy.deepcopy(doc)
    for path, value in paths.items():
        *heads, last = path.split("__")
        place = out
        for head in heads:
            place = place[head]
        place[last] = value
    return out


def test_honest_documents_are_valid(pair: Document, ball: Document, sparsity: Document) -> None:
    assert verify(pair, {"a": A, "b": B}).valid
    assert verify(ball, {"a": A, "b": B}).valid
    assert verify(sparsity, {"a": TWO}).valid
    assert (pair["verdict"], ball["verdict"]) == ("distinct", "distinct")


# -- changes after sealing ---------------------------------------------------------------------------------------------


def _mutations(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * (1 + 1e-12) + 5e-324
    if isinstance(value, str):
        return value + "x"
    return "x" if value is None else value


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, (*path, key))]
    if isinstance(value, list) and value:
        return [leaf for key, item in enumerate(value) for leaf in _leaves(item, (*path, key))]
    return [path]


@pytest.mark.parametrize("which", ["pair", "ball", "sparsity"])
def test_every_single_change_breaks_the_seal(which: str, request: pytest.FixtureRequest) -> None:
    original: Document = request.getfixturevalue(which)
    networks = {"a": TWO} if which == "sparsity" else {"a": A, "b": B}
    for path in _leaves(original):
        if path[0] == "timing_s":
            continue
        doc = copy.deepcopy(original)
        place: Any = doc
        for key in path[:-1]:
            place = place[key]
        if isinstance(place[path[-1]], (list, dict)):
            place[path[-1]] = ["x"]
        else:
            place[path[-1]] = _mutations(place[path[-1]])
        assert not verify(doc, networks).valid, path


def test_other_networks_are_refused(pair: Document, sparsity: Document) -> None:
    moved = A.with_(bias=np.nextafter(A.bias, np.inf))
    assert not verify(pair, {"a": moved, "b": B}).valid
    assert not verify(pair, {"a": B, "b": A}).valid
    assert not verify(pair, {"a": A}).valid
    assert not verify(sparsity, {"a": TWO.with_(scale=2.0)}).valid


# -- lies about the distance -------------------------------------------------------------------------------------------

AT_1E_6 = {"rel_eps": None, "eps": 1e-6, "eps_distinct": 1e-6}
AT_HALF = {"rel_eps": None, "eps": 0.5, "eps_distinct": 0.5}
EQUIVALENT = {**AT_1E_6, "verdict": "equivalent", "bounds": {"lower": 0.0, "upper": 1e-9}}
DISTINCT = {**AT_HALF, "verdict": "distinct", "bounds": {"lower": 0.9, "upper": 1.0}}
NAN_LAW = {"name": "gaussian", "mean": encode(np.zeros(2)), "root": encode(np.full((2, 2), NAN))}

PAIR_LIES: dict[str, dict[str, Any]] = {
    "equivalent": EQUIVALENT,
    "lower too high": {"bounds__lower": 1e3, "bounds__upper": 1e4},
    "upper too low": {"bounds__upper": 1e-3, "bounds__lower": 0.0},
    "reversed": {"bounds": {"lower": 2.0, "upper": 1.0}},
    "bounds NaN": {"bounds": {"lower": NAN, "upper": NAN}},
    "upper NaN": {"bounds__upper": NAN},
    "negative lower": {"bounds__lower": -1.0},
    "verdict undecided": {"verdict": "undecided"},
    "verdict equivalent": {"verdict": "equivalent"},
    "eps for equivalent too large": {"eps": 1e9},
    "eps for distinct too small": {"eps_distinct": 0.0},
    "relative eps NaN": {"rel_eps": NAN, "eps": 1e9, "eps_distinct": 0.0, "verdict": "equivalent"},
    "eps NaN": {"eps": NAN, "eps_distinct": NAN, "verdict": "undecided"},
    "absolute eps of two values": {"rel_eps": None, "eps": 1e9, "eps_distinct": 0.0},
    "negative eps": {"rel_eps": None, "eps": -1.0, "eps_distinct": -1.0},
    "negative relative eps": {"rel_eps": -1.0, "eps": -100.0, "eps_distinct": -1e-9},
    "infinite eps": {"rel_eps": None, "eps": INF, "eps_distinct": INF, "verdict": "equivalent"},
    "norm of another name": {"norm": "l3"},
    "grouping without flips ±1": {"evidence__sign": encode(np.zeros(6, dtype=np.int8))},
    "leader outside": {"evidence__leader": encode(np.full(6, 6, dtype=np.int32))},
    "leader too short": {"evidence__leader": encode(np.zeros(5, dtype=np.int32))},
    "long direction": {"evidence__direction": encode(np.array([2.0, 0.0]))},
    "direction NaN": {"evidence__direction": encode(np.array([NAN, 0.0])), "bounds": {"lower": 1e3, "upper": 1e4}},
    "witness gap": {"witness__gap": 1e3},
    "witness gap NaN": {"witness__gap": NAN},
    "witness NaN": {"witness__x": [NAN, NAN]},
    "witness of another dimension": {"witness__x": [1.0]},
    "law NaN": {**EQUIVALENT, "law": NAN_LAW},
    "law of another dimension": {"law": {"name": "gaussian", "mean": encode(np.zeros(3)), "root": encode(np.eye(3))}},
    "law without its root": {"law": {"name": "gaussian", "mean": encode(np.zeros(2)), "root": None}},
    "law named but not given": {"law": {"name": "layernorm", "mean": None, "root": None}},
    "law empirical without data": {"law": {"name": "empirical", "mean": None, "root": None}},
    "separation degree that is not looked at": {"separation_degree": 65},
    "schema": {"schema": "sparsemf/certify/1"},
    "evidence missing": {"evidence": {}},
    "claim missing": {"bounds": None},
    "pickled array": {"evidence__leader": {"dtype": "|O", "shape": [1], "base64": ""}},
    "huge shape": {"evidence__leader": {"dtype": "<i4", "shape": [2**60], "base64": "MDAwMA=="}},
}


@pytest.mark.parametrize("lie", PAIR_LIES)
def test_a_lying_prover_of_distances_is_refused(lie: str, pair: Document) -> None:
    assert refused(changed(pair, **PAIR_LIES[lie]), A, B)


BALL_LIES: dict[str, dict[str, Any]] = {
    "equivalent": EQUIVALENT,
    "no radius": {"radius": None},
    "radius NaN": {**EQUIVALENT, "radius": NAN},
    "negative radius": {**EQUIVALENT, "radius": -1.0, "evidence__witness": None, "witness": None},
    "smaller radius than the points": {"radius": 1e-3},
    "witness outside, in the evidence": {"evidence__witness": encode(np.array([1e6, -1e6]))},
    "witness of NaN": {"evidence__witness": encode(np.array([NAN, NAN]))},
    "point of the norm outside": {"evidence__norm_point": encode(np.array([1e6, -1e6]))},
    "witness outside, in the result": {
        "witness": {"x": [1e3, -1e3], "gap": witness_gap(raw_of(A), raw_of(B), np.array([1e3, -1e3]))}
    },
}


@pytest.mark.parametrize("lie", BALL_LIES)
def test_a_lying_prover_of_sup_distances_is_refused(lie: str, ball: Document) -> None:
    assert refused(changed(ball, **BALL_LIES[lie]), A, B)


@pytest.mark.parametrize("norm", ["l2", "sup"])
def test_a_network_is_not_distinct_from_itself(norm: str) -> None:
    """Also with a neuron so small that its squares underflow: NaN proves nothing."""
    for network in (A, TINY):
        with np.errstate(all="ignore"):
            honest = document(certify(network, network, norm=norm, eps=0.5), network, network)
            assert refused(changed(honest, **DISTINCT), network, network)


def test_a_separation_of_equal_networks_is_refused() -> None:
    honest = document(certify(A, A), A, A)
    assert honest["separation_degree"] is None
    assert all(refused(changed(honest, separation_degree=k), A, A) for k in (0, 1, 2, 5))


def test_the_wrong_data_are_refused() -> None:
    x = np.random.default_rng(0).standard_normal((20, 2))
    law = Empirical.of(x)
    doc = document(certify(A, B, law), A, B)
    assert verify(doc, {"a": A, "b": B}, law).valid
    assert not verify(doc, {"a": A, "b": B}, Empirical.of(1e-9 * x)).valid
    assert not verify(doc, {"a": A, "b": B}).valid


def test_a_point_mass_under_the_name_of_the_standard_law(pair: Document) -> None:
    """Under δ₀ odd networks agree; a reader of ``law.name`` and ``config.rho`` would read N(0, I)."""
    odd, other = (Network([[c]], [[1.0, 0.0]], None, "tanh") for c in (1.0, 5.0))
    doc = document(certify(odd, other, Gaussian(np.zeros(2), np.zeros((2, 2))), eps=1e-6), odd, other)
    doc["config"]["rho"] = "gaussian"
    honest = document(certify(odd, other, eps=1e-6), odd, other)
    assert honest["verdict"] == "distinct"
    assert doc["verdict"] != "equivalent" or refused(doc, odd, other)


# -- lies about S* -----------------------------------------------------------------------------------------------------

SPARSITY_LIES: dict[str, dict[str, Any]] = {
    "one atom, dictionary of two": {"claim__upper": 1, "claim__lower": 1},
    "three atoms": {"claim__upper": 3, "claim__lower": 3},
    "fraction of an atom": {"claim__upper": 2.5, "claim__lower": 2.5},
    "negative": {"claim__upper": -1, "claim__lower": -1},
    "NaN": {"claim__upper": NAN, "claim__lower": NAN},
    "eps from zero": {"claim__eps": [0.0, 1e-3]},
    "eps from NaN": {"claim__eps": [NAN, 1e-3]},
    "eps NaN": {"claim__eps": [NAN, NAN]},
    "eps too wide": {"claim__eps": [1e-7, 1.0]},
    "eps without end": {"claim__eps": [1e-7, None]},
    "eps reversed": {"claim__eps": [1e-2, 1e-3]},
    "eps negative": {"claim__eps": [-1.0, 1e-3]},
    "not certified though the ends meet": {"claim__certified": False},
    "certified though they do not": {"claim__lower": 1},
    "kinks": {"claim__counts": "kinks"},
    "degrees counted twice": {
        "evidence__partitions": [[[1, 2, 40, False], [1, 2, 40, False]]],
        "claim__eps": [1e-7, 0.07],
    },
    "overlapping degrees": {"evidence__partitions": [[[1, 2, 20, False], [2, 20, 40, False]]]},
    "affine degrees": {"evidence__partitions": [[[1, 1, 40, False]]]},
    "no row index": {"evidence__partitions": [[[0, 2, 40, False]]]},
    "more row indices than the degree": {"evidence__partitions": [[[3, 2, 40, False]]]},
    "no flattening": {"evidence__partitions": []},
    "no partition": {"evidence__partitions": [[]]},
    "partitions that are numbers": {"evidence__partitions": [1, 2]},
    "a curve of one more atom": {"claim__lower_curve": encode(np.array([0.0, 0.0, 1e-3]))},
    "a curve that starts too high": {"claim__lower_curve": encode(np.array([10.0]))},
    "a curve of NaN": {"claim__lower_curve": encode(np.array([NAN]))},
    "a curve of rows": {"claim__lower_curve": encode(np.zeros((2, 2)))},
    "no curve": {"claim__lower_curve": None},
    "degrees that quadrature does not resolve": {
        "evidence__partitions": [[[1, 2, 20000, False]]],
        "claim__eps": [1e-7, 0.2],
    },
    "degrees that are text": {"evidence__partitions": [[["a", 2, 40, False]]]},
    "law NaN": {"law": NAN_LAW},
    "dictionary missing": {"evidence__dictionary": None},
}


@pytest.mark.parametrize("lie", SPARSITY_LIES)
def test_a_lying_prover_of_sparsity_is_refused(lie: str, sparsity: Document) -> None:
    assert refused(changed(sparsity, **SPARSITY_LIES[lie]), TWO)


def _scaled(doc: Document, name: str, factor: float) -> Document:
    array = factor * decode(doc["evidence"]["dictionary"][name])
    return changed(doc, **{f"evidence__dictionary__{name}": encode(array)})


@pytest.mark.parametrize(
    "change",
    [
        lambda doc: _scaled(doc, "outer", 1.001),
        lambda doc: _scaled(doc, "inner", 1.001),
        lambda doc: _scaled(doc, "bias", -1.0),
        lambda doc: _scaled(doc, "outer", NAN),
        lambda doc: _scaled(doc, "outer", 1e308),
    ],
)
def test_a_wrong_dictionary_is_refused(change: Callable[[Document], Document], sparsity: Document) -> None:
    with np.errstate(all="ignore"):
        assert refused(change(sparsity), TWO)


def test_directions_are_not_atoms() -> None:
    """Two atoms on one line, m = 2: rank 2 with the outputs in the rows, but one direction."""
    honest = analyze(LINE).certificate()
    assert verify(honest, {"a": LINE}).valid
    assert honest["claim"]["lower"] == 2
    assert refused(changed(honest, claim__counts="directions"), LINE)


def test_dictionaries_smaller_than_claimed_never_help() -> None:
    """U(1) of two orthogonal atoms, as a claim S* ≤ 1 at an ε below it."""
    found = analyze(TWO)
    one = found.upper.network(1)
    doc = found.certificate()
    doc["evidence"]["dictionary"] = {
        "outer": encode(one.alpha), "inner": encode(one.inner), "bias": encode(one.bias),
        "affine": encode(one.affine), "offset": encode(one.offset),
    }  # fmt: skip
    leaders = np.full(TWO.width + one.width, -1, dtype=np.int32)
    doc["evidence"] |= {"leader": encode(leaders), "sign": encode(np.ones(leaders.size, dtype=np.int8)), "gram": True}
    truth = float(found.staircase.upper[1])
    claim = {"certified": False, "lower": 0, "upper": 1, "eps": [1.01 * truth, None], "counts": "atoms"}
    doc["claim"] = {**doc["claim"], **claim}
    assert not refused(doc, TWO)
    doc["claim"]["eps"][0] = 0.99 * truth
    assert refused(doc, TWO)
