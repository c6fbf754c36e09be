"""The orbit distance and the matching as claims: what honest documents say is believed, and nothing that a lying prover
would make of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from cases import ACTIVATIONS, planted, planted_gated, rotated_atom
from sparsemf.atomic import json_text
from sparsemf.certificates import matching as prover
from sparsemf.certificates import orbit, orbit_evidence
from sparsemf.certificates.checker import matching, transport
from sparsemf.certificates.checker.document import Refused, seal
from sparsemf.certificates.checker.measure import measure
from sparsemf.certificates.checker.raw import decode, encode
from sparsemf.certificates.dictionary import dictionary
from sparsemf.certificates.equivalence import raw_of
from sparsemf.certificates.orbit import orbit_distance
from sparsemf.measures import Network
from sparsemf.pipeline.certify import certify, document
from sparsemf.pipeline.verify import verify
from sparsemf.symmetry import disguise

Document = dict[str, Any]
Array = np.ndarray


def written(a: Network, b: Network, **options: Any) -> Document:
    """The document as it comes back from a file."""
    return json.loads(json_text(document(certify(a, b, **options), a, b)))


def valid(doc: Document, a: Network, b: Network) -> bool:
    return verify({**doc, "seal": seal(doc)}, {"a": a, "b": b}).valid


def noisy(f: Network, rng: np.random.Generator, size: float) -> Network:
    return f.with_(inner=f.inner + size * rng.standard_normal(f.inner.shape))


# honest ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ACTIVATIONS, "elu(0.5)", "hermite(3)"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_honest_documents_are_certificates(name: str, outputs: int) -> None:
    rng = np.random.default_rng(51)
    f = planted(rng, name, outputs=outputs, bias=True, affine=True)
    a = disguise(f, rng, 14)
    for b in (disguise(f, rng, 11), disguise(rotated_atom(f, rng, 1, 0.1), rng, 12), noisy(a, rng, 1e-5)):
        doc = written(a, b)
        assert (doc["orbit_distance"]["kind"], doc["matching"]["kind"]) == ("certificate", "certificate")
        found = verify(doc, {"a": a, "b": b})
        assert found.valid, found.reason
        assert "not checked" not in found.reason
        assert doc["orbit_distance"]["lower"] <= found.facts["orbit_distance_lower"]
        assert found.facts["orbit_distance_upper"] <= doc["orbit_distance"]["value"]


@pytest.mark.parametrize("name", ["silu", "gelu", "relu", "sigmoid", "tanh", "mish"])
def test_gated_blocks(name: str) -> None:
    rng = np.random.default_rng(52)
    a = planted_gated(rng, name, d=3, atoms=3, outputs=2, polynomial=True)
    turn, scale = rng.permutation(a.width), rng.choice([-1.0, 1.0], (a.width, 1)) * rng.uniform(0.5, 2, (a.width, 1))
    b = a.with_(**{k: getattr(a, k)[turn] for k in ("outer", "inner", "bias", "gate", "gate_bias")})
    b = b.with_(outer=b.outer / scale, inner=b.inner * scale, bias=b.bias * scale[:, 0])
    for other in (b, noisy(b, rng, 1e-2)):
        doc = written(a, other)
        assert (doc["orbit_distance"]["kind"], doc["matching"]["kind"]) == ("certificate", "certificate")
        assert valid(doc, a, other)
    assert doc["orbit_distance"]["lower"] > 1e-3


@pytest.mark.parametrize(
    ("first", "second"), [("sigmoid", "tanh"), ("silu", "quick_gelu"), ("leaky_relu", "relu"), ("elu", "selu")]
)
def test_related_activations(first: str, second: str) -> None:
    rng = np.random.default_rng(53)
    a, b = (planted(rng, name, outputs=2, bias=True) for name in (first, second))
    doc = written(a, b)
    assert doc["orbit_distance"]["kind"] == "certificate"
    assert valid(doc, a, b)


def test_tiny_huge_and_dead_neurons() -> None:
    f = Network([[1.0], [0.0], [2.0], [1.0]], [[1e-90, 0.0], [1.0, 1.0], [1e90, 1.0], [0.0, 0.0]], None, "relu")
    for name in ("relu", "tanh", "relu2"):
        a = f.with_(activation=name)
        b = a.with_(outer=a.outer[::-1], inner=a.inner[::-1])
        doc = document(certify(a, b, eps=1.0), a, b)
        assert doc["orbit_distance"]["kind"] in ("certificate", "not computed"), name
        assert valid(doc, a, b), name


# the measure, by code of its own ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ACTIVATIONS, "elu(0.5)", "hermite(4)"])
def test_two_programs_see_one_measure(name: str) -> None:
    """The prover's dictionary and the checker's, within the checker's stated errors (and the polynomials' norms)."""
    rng = np.random.default_rng(54)
    a, b = (planted(rng, name, outputs=2, bias=True, affine=True) for _ in range(2))
    ours = dictionary(a, b)
    families, polynomial, size = measure(raw_of(a), raw_of(b))
    assert size == ours.size
    assert {f.core.name for f in families} == {f.core for f in ours.families}
    for family in families:
        other = next(f for f in ours.families if f.core == family.core.name)
        order = np.argsort(other.row)
        np.testing.assert_array_equal(other.row[order], family.rows)
        assert other.parity == family.parity
        gap = np.linalg.norm(other.points[order] - family.points, axis=1)
        assert np.all(gap <= 2 * family.moved + 1e-15 * np.linalg.norm(family.points, axis=1))
        lost = np.linalg.norm(other.mass[order] - family.mass(np.arange(family.rows.size)), axis=1)
        assert np.all(lost <= 2 * family.lost + 1e-15 * family.weight)
    low, high = polynomial.bounds()
    assert low <= ours.polynomial.norm()[0] <= high
    assert high - low <= 1e-11 * (1 + high)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "hardtanh", "cubic"])
def test_stated_errors_hold_in_exact_arithmetic(name: str) -> None:
    """Points and masses from rational arithmetic of 60 digits."""
    from flint import arb, ctx

    from sparsemf.certificates.checker.catalogue import image

    rng = np.random.default_rng(55)
    a = planted(rng, name, outputs=2, bias=True)
    families, _, _ = measure(raw_of(a), raw_of(a.with_(outer=0.0 * a.outer)))
    before, ctx.prec = ctx.prec, 300
    try:
        for family in families:
            for k, row in enumerate(family.rows):
                term, i = image(name).terms[row // a.width], row % a.width
                point = [term.scale() * arb(float(x)) for x in (*a.inner[i], a.bias[i])]
                point[-1] += term.shift()
                length = sum((x * x for x in point), arb(0)).sqrt() if family.core.degree else arb(1)
                weight = term.coefficient() * length**family.core.degree
                gap = sum(((x / length - float(v)) ** 2 for x, v in zip(point, family.points[k], strict=True)), arb(0))
                assert gap.sqrt() <= float(family.moved[k]) + 1e-60
                own = [weight * arb(float(a.scale)) * arb(float(x)) for x in a.outer[i]]
                lost = sum(((x - float(v)) ** 2 for x, v in zip(own, family.alpha[k], strict=True)), arb(0))
                assert lost.sqrt() <= float(family.lost[k]) + 1e-60
    finally:
        ctx.prec = before


# any evidence gives bounds that hold -----------------------------------------------------------------------------


def truth(points: Array, mass: Array, parity: int) -> float:
    """The flat norm of ½(ν + s·ι_#ν) for one output: the dual linear program on every pair of the cover."""
    if parity:
        points = np.concatenate([points, -points])
        mass = np.concatenate([0.5 * mass, 0.5 * parity * mass])
    n = points.shape[0]
    i, j = np.nonzero(~np.eye(n, dtype=bool))
    rows = np.zeros((i.size, n))
    rows[np.arange(i.size), i], rows[np.arange(i.size), j] = 1.0, -1.0
    limits = np.linalg.norm(points[i] - points[j], axis=1)
    return -float(linprog(-mass[:, 0], A_ub=rows, b_ub=limits, bounds=(-1, 1), method="highs").fun)


@pytest.mark.parametrize("name", ["elu", "gelu", "tanh"])
@pytest.mark.parametrize("seed", range(6))
def test_arbitrary_mergings_plans_and_potentials(name: str, seed: int) -> None:
    rng = np.random.default_rng([56, seed])
    a, b = (
        Network(rng.standard_normal((4, 1)), rng.standard_normal((4, 2)), rng.standard_normal(4), name) for _ in "ab"
    )
    parity = {"elu": 0, "gelu": 1, "tanh": -1}[name]
    points = np.concatenate([np.concatenate([f.inner, f.bias[:, None]], axis=1) for f in (a, b)])
    flat = truth(points, np.concatenate([a.outer, -b.outer]), parity)
    low, high = measure(raw_of(a), raw_of(b))[1].bounds()
    for _ in range(20):
        leader, sign = np.arange(8), np.ones(8, dtype=np.int8)
        joined = rng.permutation(8)[: rng.integers(0, 4)]
        heads = np.setdiff1d(np.arange(8), joined)
        leader[joined] = rng.choice(heads, joined.size)
        if parity:
            sign[joined] = rng.choice([-1, 1], joined.size)
        kept = rng.permutation(heads)[: rng.integers(2, heads.size + 1)]
        edges = rng.integers(0, kept.size, (2, 6))
        edges = edges[:, edges[0] != edges[1]]
        side = rng.choice([-1, 1], edges.shape[1]) if parity else np.ones(edges.shape[1])
        plan = {
            "core": name,
            "points": encode(kept.astype(np.int32)),
            "first": encode(edges[0].astype(np.int32)),
            "second": encode(edges[1].astype(np.int32)),
            "side": encode(side.astype(np.int8)),
            "flow": None if rng.random() < 0.5 else encode(rng.standard_normal((edges.shape[1], 1))),
            "potential": encode(rng.choice([0.1, 1.0, 10.0]) * rng.standard_normal((kept.size, 1))),
        }
        entry = {"merged": {"leader": encode(leader.astype(np.int32)), "sign": encode(sign)}, "plan": [plan]}
        found = transport.prove(raw_of(a), raw_of(b), entry)
        assert found.lower <= flat + high + 1e-9
        assert found.upper >= flat + low - 1e-9


@pytest.mark.parametrize("name", ["elu", "gelu", "tanh", "relu"])
def test_published_bounds_bracket_the_truth(name: str) -> None:
    for seed in range(5):
        rng = np.random.default_rng([57, seed])
        a, b = (
            Network(rng.standard_normal((5, 1)), 0.7 * rng.standard_normal((5, 2)), rng.standard_normal(5), name)
            for _ in "ab"
        )
        points = np.concatenate([np.concatenate([f.inner, f.bias[:, None]], axis=1) for f in (a, b)])
        mass = np.concatenate([a.outer, -b.outer])
        if name == "relu":
            length = np.linalg.norm(points, axis=1)[:, None]
            points, mass = points / length, mass * length
        flat = truth(points, mass, {"elu": 0, "gelu": 1, "relu": 1, "tanh": -1}[name])
        found = orbit_distance(a, b)
        assert found.kind == "certificate"
        assert found.value is not None
        assert found.lower is not None
        assert found.lower - 1e-9 <= flat + found.polynomial <= found.value + 1e-9
        assert found.exact


@pytest.mark.parametrize("parity", [0, 1, -1])
@pytest.mark.parametrize("m", [1, 3])
def test_violations_are_all_found(parity: int, m: int) -> None:
    """(η, λ) of random potentials against all pairs by hand, points 1e-9 apart included."""
    rng = np.random.default_rng(58)
    points = rng.standard_normal((60, 4))
    points[30:] = points[:30] + 10.0 ** rng.uniform(-9, 0, (30, 1)) * rng.standard_normal((30, 4))
    points[40:50] *= -1
    for size in (1e-9, 1e-3, 0.3):
        phi = size * rng.standard_normal((60, m))
        excess, ratio = transport.violated(points, phi, parity)
        over, factor = 0.0, 1.0
        for side in (1, -1) if parity else (1,):
            turn = 1 if side > 0 else parity
            length = np.linalg.norm(points[:, None] - side * points[None], axis=2)
            apart = np.linalg.norm(phi[:, None] - turn * phi[None], axis=2)
            off = ~np.eye(60, dtype=bool)
            over = max(over, float(np.max((apart - length)[off])))
            factor = max(factor, float(np.max(apart[off] / length[off])))
        cost = np.minimum(1.0, np.linalg.norm(points, axis=1)) if parity < 0 else 1.0
        factor = max(factor, float(np.max(np.linalg.norm(phi, axis=1) / cost)))
        assert over <= excess
        assert factor * (1 - 1e-12) <= ratio <= factor * (1 + 1e-6)


def test_the_potential_is_checked_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(59)
    points, phi = rng.standard_normal((70, 3)), rng.standard_normal((70, 2))
    whole = transport.violated(points, phi, -1)
    monkeypatch.setattr(transport, "_ROWS", 8)
    monkeypatch.setattr(transport, "_NUMBERS", 40)
    assert transport.violated(points, phi, -1) == pytest.approx(whole, rel=1e-12)


# lies ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["tanh", "gelu", "elu"])
def pair(request: pytest.FixtureRequest) -> tuple[Network, Network, Document]:
    rng = np.random.default_rng(60)
    f = planted(rng, request.param, d=3, atoms=4, outputs=1 if request.param != "elu" else 2, bias=True)
    a, b = disguise(f, rng, 7), disguise(rotated_atom(f, rng, 1, 0.3), rng, 6)
    doc = written(a, b)
    assert doc["orbit_distance"]["plan"]
    assert doc["orbit_distance"]["kind"] == "certificate"
    assert valid(doc, a, b)
    return a, b, doc


def _numbers(**new: Any) -> Callable[[Document], None]:
    """New numbers of the orbit distance, with the duality gap and exactness that they imply."""

    def change(doc: Document) -> None:
        entry = doc["orbit_distance"]
        entry |= {key: make(entry[key]) for key, make in new.items()}
        entry["dual_gap"] = entry["value"] - entry["lower"]
        entry["exact"] = bool(entry["dual_gap"] <= 1e-8 * entry["value"] + 2 * entry["rounding"])

    return change


def _array(name: str, make: Callable[[Array], Array], place: str = "plan") -> Callable[[Document], None]:
    def change(doc: Document) -> None:
        where = doc["orbit_distance"][place]
        where = where[0] if place == "plan" else where
        where[name] = encode(make(decode(where[name]).copy()))

    return change


def _put(index: Any, value: Any) -> Callable[[Array], Array]:
    def change(x: Array) -> Array:
        x[index] = value
        return x

    return change


def _entry(**new: Any) -> Callable[[Document], None]:
    return lambda doc: doc["orbit_distance"].update(new)


def _without_plan(kind: str) -> Callable[[Document], None]:
    return lambda doc: doc["orbit_distance"].update(kind=kind, plan=None, merged=None)


def _both(*changes: Callable[[Document], None]) -> Callable[[Document], None]:
    def change(doc: Document) -> None:
        for each in changes:
            each(doc)

    return change


_more = _numbers(lower=lambda x: 1.005 * x, value=lambda x: 1.1 * x)

ORBIT_LIES: dict[str, Callable[[Document], None]] = {
    "smaller value": _numbers(value=lambda x: x * (1 - 1e-7), lower=lambda x: x * (1 - 1e-6)),
    "value zero": _numbers(value=lambda _: 0.0, lower=lambda _: 0.0),
    "larger lower": _numbers(lower=lambda x: x * (1 + 1e-7), value=lambda x: x * 1.1),
    "larger rounding": _numbers(rounding=lambda x: 10 * x + 1e-9),
    "exact by a large rounding": _numbers(rounding=lambda _: 1e3, value=lambda x: 2 * x),
    "another polynomial part": _numbers(polynomial=lambda x: x + 1e-3),
    "gap zero": _entry(dual_gap=0.0),
    "gap negative": _entry(dual_gap=-1.0),
    "exact denied": _entry(exact=False),
    "NaN": _entry(value=float("nan")),
    "infinite": _entry(value=float("inf")),
    "text": _entry(value="0"),
    "kind unknown": _entry(kind="exact"),
    "kind missing": lambda doc: doc["orbit_distance"].pop("kind"),
    "not computed, with a value": _without_plan("not computed"),
    "certificate without evidence": _without_plan("certificate"),
    "upper certificate without evidence": _without_plan("upper certificate"),
    "estimate with evidence": _entry(kind="estimate"),
    "estimate called exact": lambda doc: doc["orbit_distance"].update(
        kind="estimate", plan=None, merged=None, exact=True
    ),
    "certificate without potential": lambda doc: doc["orbit_distance"]["plan"][0].update(potential=None),
    "certificate without plan": lambda doc: doc["orbit_distance"].update(plan=[]),
    "plan of another core": lambda doc: doc["orbit_distance"]["plan"][0].update(core="relu"),
    "plan twice": lambda doc: doc["orbit_distance"].update(plan=2 * doc["orbit_distance"]["plan"]),
    "steeper potential, worth more": _both(_array("potential", lambda x: 1.01 * x), _more),
    "flat potential": _array("potential", lambda x: 0.5 * x),
    "potential of one point": _array("potential", lambda x: _put(0, -x[0])(x)),
    "potential NaN": _array("potential", _put((0, 0), float("nan"))),
    "potential of another shape": _array("potential", lambda x: x[:-1]),
    "points twice": _array("points", lambda x: _put(0, x[1])(x)),
    "points outside": _array("points", _put(0, 10**6)),
    "points negative": _array("points", _put(0, -1)),
    "an edge to itself": _array("second", lambda x: _put(0, 0)(x)),
    "an edge outside": _array("second", _put(0, 10**6)),
    "a side that is none": _array("side", _put(0, 0)),
    "fewer sides": _array("side", lambda x: x[1:]),
    "everything merged": _array("leader", lambda x: np.full_like(x, x[0]), "merged"),
    "nothing merged": _array("leader", lambda x: np.arange(x.size, dtype=x.dtype), "merged"),
    "leaders outside": _array("leader", _put(0, 10**6), "merged"),
    "leaders that follow": _array("leader", lambda x: np.roll(np.arange(x.size, dtype=x.dtype), 1), "merged"),
    "signs of zero": _array("sign", _put(0, 0), "merged"),
    "fewer leaders": _array("leader", lambda x: x[:-1], "merged"),
    "merged missing": lambda doc: doc["orbit_distance"].update(merged=None),
}


def _idle(lie: str, doc: Document) -> bool:
    """Whether a change leaves a true document: no such array, or a weaker claim that still holds."""
    first = decode(doc["orbit_distance"]["plan"][0]["first"])
    return lie in ("an edge to itself", "an edge outside", "a side that is none", "fewer sides") and not first.size


@pytest.mark.parametrize("lie", ORBIT_LIES)
def test_lies_about_the_orbit_distance_are_refused(lie: str, pair: tuple[Network, Network, Document]) -> None:
    a, b, honest = pair
    doc = copy.deepcopy(honest)
    ORBIT_LIES[lie](doc)
    if doc != honest and not _idle(lie, honest):
        assert not valid(doc, a, b)


def test_weaker_claims_about_the_orbit_distance_are_believed(pair: tuple[Network, Network, Document]) -> None:
    a, b, honest = pair
    for change in (
        _numbers(value=lambda x: 2 * x),
        _numbers(lower=lambda x: 0.5 * x),
        _array("potential", lambda x: 1.01 * x),
    ):
        doc = copy.deepcopy(honest)
        change(doc)
        assert valid(doc, a, b)


def test_explicit_flows_are_priced() -> None:
    """Flows of a linear program, each made a hundredth larger or sent to another point: the plan costs more."""
    rng = np.random.default_rng(61)
    a, b = (Network(rng.standard_normal((9, 1)), rng.standard_normal((9, 3)), None, "elu") for _ in "ab")
    honest = written(a, b)
    plan = honest["orbit_distance"]["plan"][0]
    assert plan["flow"] is not None
    assert valid(honest, a, b)
    flow = decode(plan["flow"])
    for k in np.flatnonzero(np.abs(flow[:, 0]) > 1e-3):
        for factor in (1.01, 0.99, -1.0, 0.0):
            doc = copy.deepcopy(honest)
            changed = flow.copy()
            changed[k] *= factor
            doc["orbit_distance"]["plan"][0]["flow"] = encode(changed)
            assert not valid(doc, a, b)


def test_a_flow_across_a_flip_that_is_none() -> None:
    rng = np.random.default_rng(62)
    a = planted(rng, "mish", d=3, atoms=3)
    b = noisy(a, rng, 1e-3)
    doc = written(a, b)
    side = decode(doc["orbit_distance"]["plan"][0]["side"])
    doc["orbit_distance"]["plan"][0]["side"] = encode(-side)
    assert not valid(doc, a, b)
    sign = decode(doc["orbit_distance"]["merged"]["sign"])
    doc = written(a, b)
    doc["orbit_distance"]["merged"]["sign"] = encode(-sign)
    assert not valid(doc, a, b)


# matching --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def matched() -> tuple[Network, Network, Document]:
    rng = np.random.default_rng(63)
    f = planted(rng, "gelu", d=3, atoms=5, outputs=2, bias=True)
    a, b = disguise(f, rng, 12), disguise(noisy(rotated_atom(f, rng, 1, 0.5), rng, 1e-4), rng, 9)
    doc = written(a, b)
    assert doc["matching"]["matched"] == 4
    assert doc["matching"]["unmatched_a"] == doc["matching"]["unmatched_b"] == 1
    assert decode(doc["evidence"]["matching"]["a"]["rows"]).size
    return a, b, doc


def _change(place: tuple[str, ...], make: Callable[[Array], Array]) -> Callable[[Document], None]:
    def change(doc: Document) -> None:
        where = doc["evidence"]["matching"]
        for key in place[:-1]:
            where = where[key]
        where[place[-1]] = encode(make(decode(where[place[-1]]).copy()))

    return change


def _one_group_split(doc: Document) -> None:
    """One duplicate is called an atom of its own, and counted."""
    for name in ("rows", "leaders", "signs"):
        _change(("a", name), lambda x: x[1:])(doc)
    doc["matching"]["unmatched_a"] += 1


def _one_pair_twice(doc: Document) -> None:
    for name in "ab":
        _change(("pairs", name), lambda x: np.append(x, x[0]).astype(x.dtype))(doc)
    doc["matching"]["matched"] += 1
    doc["matching"]["unmatched_a"] -= 1
    doc["matching"]["unmatched_b"] -= 1


def _pair_of_strangers(doc: Document) -> None:
    _change(("pairs", "b"), lambda x: np.roll(x, 1))(doc)
    doc["matching"]["max_distance"] = 100.0


def _cancelled(doc: Document) -> None:
    leaders = decode(doc["evidence"]["matching"]["a"]["leaders"])
    free = np.setdiff1d(leaders, decode(doc["evidence"]["matching"]["pairs"]["a"]))
    gone = free[:1] if free.size else leaders[:1]
    _change(("a", "cancelled"), lambda x: np.append(x, gone).astype(x.dtype))(doc)
    doc["matching"]["unmatched_a"] -= 1


def _count(**new: Any) -> Callable[[Document], None]:
    return lambda doc: doc["matching"].update(new)


MATCHING_LIES: dict[str, Callable[[Document], None]] = {
    "more matched": _count(matched=5, unmatched_a=0, unmatched_b=0),
    "fewer unmatched": _count(unmatched_a=0),
    "more unmatched": _count(unmatched_b=2),
    "negative": _count(unmatched_a=-1),
    "fraction": _count(matched=4.0),
    "nearer": _count(max_distance=1e-9),
    "NaN distance": _count(max_distance=float("nan")),
    "kind": _count(kind="exact"),
    "estimate with evidence": _count(kind="estimate"),
    "no evidence": lambda doc: doc["evidence"].update(matching=None),
    "evidence missing": lambda doc: doc["evidence"].pop("matching"),
    "one group split": _one_group_split,
    "one pair twice": _one_pair_twice,
    "strangers": _pair_of_strangers,
    "called cancelled": _cancelled,
    "pairs outside": _change(("pairs", "a"), _put(0, 10**6)),
    "pairs of different number": _change(("pairs", "a"), lambda x: x[1:]),
    "pairs negative": _change(("pairs", "a"), _put(0, -1)),
    "merged elsewhere": _change(("a", "leaders"), lambda x: np.roll(x, 1)),
    "merged outside": _change(("a", "leaders"), _put(0, 10**6)),
    "merged with itself": lambda doc: doc["evidence"]["matching"]["a"].update(
        leaders=doc["evidence"]["matching"]["a"]["rows"]
    ),
    "signs of zero": _change(("a", "signs"), lambda x: 0 * x),
    "signs turned": _change(("a", "signs"), lambda x: -x),
}


@pytest.mark.parametrize("lie", MATCHING_LIES)
def test_lies_about_the_matching_are_refused(lie: str, matched: tuple[Network, Network, Document]) -> None:
    a, b, honest = matched
    doc = copy.deepcopy(honest)
    MATCHING_LIES[lie](doc)
    assert not valid(doc, a, b)


def test_a_larger_distance_is_believed(matched: tuple[Network, Network, Document]) -> None:
    a, b, honest = matched
    doc = copy.deepcopy(honest)
    doc["matching"]["max_distance"] *= 2
    assert valid(doc, a, b)


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "sin", "exp", "elu(0.5)", "hardtanh"])
@pytest.mark.parametrize("m", [1, 3])
def test_the_matching_counts_what_was_planted(name: str, m: int) -> None:
    """Cancelled pairs, duplicates and flips: the checker's own counts, and the prover's."""
    rng = np.random.default_rng(64)
    f = planted(rng, name, d=4, atoms=5, outputs=m, bias=True)
    ghost = f.with_(outer=np.concatenate([f.outer, f.outer[:1], -f.outer[:1]]),
                    inner=np.concatenate([f.inner, f.inner[:2][::-1][[0, 0]] * 0 + 3.0]),
                    bias=np.append(f.bias, [1.0, 1.0]))  # fmt: skip
    a, b = disguise(ghost, rng, 20), disguise(f, rng, 11)
    found = prover.proved(raw_of(a), raw_of(b), prover.match(a, b))
    parts = 10 if name == "hardtanh" else 5
    assert found.kind == "certificate"
    assert (found.matched, found.unmatched_a, found.unmatched_b) == (parts, 0, 0)
    assert found.max_distance < 1e-12


def test_distances_are_rounded_upwards() -> None:
    rng = np.random.default_rng(65)
    f = planted(rng, "relu", d=4, atoms=4, bias=True)
    g = noisy(f, rng, 1e-4)
    plain = prover.match(f, g)
    found = prover.proved(raw_of(f), raw_of(g), plain)
    assert plain.max_distance <= found.max_distance <= plain.max_distance * (1 + 1e-9)


# what is too large to be kept ------------------------------------------------------------------------------------


def test_large_plans_are_poured_and_large_potentials_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(66)
    a = planted(rng, "tanh", d=6, atoms=30, outputs=2, bias=True)
    b = noisy(a, rng, 1e-3)
    full = written(a, b)
    monkeypatch.setattr(orbit, "_MOST_POINTS", 10)
    poured = written(a, b)
    assert poured["orbit_distance"]["plan"][0]["flow"] is None
    assert poured["orbit_distance"]["kind"] == "certificate"
    assert valid(poured, a, b)
    monkeypatch.setattr(orbit_evidence, "MOST_NUMBERS", 50)
    upper = written(a, b)
    assert upper["orbit_distance"]["kind"] == "upper certificate"
    assert upper["orbit_distance"]["lower"] == 0.0
    assert upper["orbit_distance"]["value"] == poured["orbit_distance"]["value"]
    assert valid(upper, a, b)
    assert len(json_text(upper)) < len(json_text(full))
    better = copy.deepcopy(upper)
    better["orbit_distance"]["kind"] = "certificate"
    assert not valid(better, a, b)


def test_an_estimate_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(67)
    a, b = (planted(rng, "elu", d=3, atoms=6, outputs=2) for _ in "ab")
    exact = orbit_distance(a, b)
    monkeypatch.setattr(orbit_evidence, "MOST_NUMBERS", 1)
    doc = written(a, b)
    entry = doc["orbit_distance"]
    assert (entry["kind"], entry["plan"], entry["merged"], entry["exact"]) == ("estimate", None, None, False)
    assert entry["value"] == pytest.approx(exact.value, rel=1e-6)
    found = verify(doc, {"a": a, "b": b})
    assert found.valid
    assert "the orbit distance beside it not checked" in found.reason


def test_evidence_that_the_checker_refuses_is_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the prover finds: what is not proved is not called a certificate."""

    def refuse(*_: Any) -> None:
        raise Refused("no")

    monkeypatch.setattr(transport, "prove", refuse)
    monkeypatch.setattr(matching, "prove", refuse)
    rng = np.random.default_rng(68)
    a = planted(rng, "tanh")
    doc = written(a, noisy(a, rng, 1e-3))
    assert (doc["orbit_distance"]["kind"], doc["matching"]["kind"]) == ("estimate", "estimate")
    monkeypatch.undo()
    found = verify(doc, {"a": a, "b": noisy(a, np.random.default_rng(0), 0.0)})
    assert not found.valid  # of other networks


@pytest.mark.parametrize("label", ["crosscheck", "alignment"])
def test_labels_of_what_is_not_checked(label: str) -> None:
    rng = np.random.default_rng(69)
    a = planted(rng, "tanh")
    doc = written(a, a)
    if label == "crosscheck":
        doc["crosscheck"]["kind"] = "certificate"
        assert not valid(doc, a, a)
    else:
        doc["alignment"] = {"checked": False, "matched": 3}
        assert "the alignment beside it not checked" in verify({**doc, "seal": seal(doc)}, {"a": a, "b": a}).reason
        doc["alignment"] = {"checked": True, "matched": 3}
        assert not valid(doc, a, a)
