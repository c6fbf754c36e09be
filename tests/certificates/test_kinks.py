"""Closed forms of relu neurons against ball arithmetic: Plackett's integral over the correlation, neurons as they are.

The truths know neither the wedge of the checker's formula nor its flips, its Hermite degrees or Owen's function.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from flint import acb, arb, ctx
from numpy.typing import NDArray

from sparsemf.certificates.checker import equivalence, kinks, series
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.check import check
from sparsemf.certificates.checker.document import seal
from sparsemf.certificates.checker.expansion import expanded
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import encode
from sparsemf.certificates.equivalence import certify_pair, raw_of
from sparsemf.measures import Network
from sparsemf.pipeline.analyze import analyze
from sparsemf.pipeline.certify import certify
from sparsemf.pipeline.certify import document as document_of

Array = NDArray[np.float64]
FLOAT = Arithmetic(0)
UNIT = 2.0**-53


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    before, ctx.prec = ctx.prec, 256
    yield
    ctx.prec = before


# --- truths -----------------------------------------------------------------------------------------------------


def cdf(x: arb) -> arb:
    return (-x / arb(2).sqrt()).erfc() / 2


def density(x: arb) -> arb:
    return (-x * x / 2).exp() / (2 * arb.pi()).sqrt()


def ramp(x: arb) -> arb:
    """E(g + x)₊."""
    return x * cdf(x) + density(x)


def correlated(beta: arb, other: arb, rho: arb) -> arb:
    """E(X + β)₊(Y + β′)₊ = its value at ρ = 0 and slope there, and ∫ (ρ − x)φ₂(β, β′; x) dx, x = tanh v."""
    if abs(rho) + arb("1e-50") > 1:  # parallel
        if rho > 0:
            low, high = (beta, other) if other > beta else (other, beta)
            return (1 + beta * other) * cdf(low) + high * density(low)
        flipped = correlated(beta, -other, -rho)
        return flipped - cdf(beta) + other * ramp(beta)  # (β′ − X)₊ = (X − β′)₊ − (X − β′)

    apart, together, level = (beta - other) ** 2 / 8, (beta + other) ** 2 / 8, (beta * beta + other * other) / 4

    def rest(v: acb, _: Any) -> acb:
        y = (2 * v).exp()
        return (rho - v.tanh()) * (-(apart * y + together / y + level)).exp() / v.cosh()

    end, wall = rho.atanh(), apart if rho > 0 else together
    far = (130 / wall).log() / 2 if wall > 1e-60 else arb(100)  # beyond it the exponential is less than e⁻¹³⁰
    far = arb(0) if far < 0 else arb(float(far.mid()))
    end = (far if rho > 0 else -far) if abs(end) > far else end
    integral = acb.integral(rest, 0, acb(end), rel_tol=arb(2) ** -160, abs_tol=arb(2) ** -180)
    return ramp(beta) * ramp(other) + rho * cdf(beta) * cdf(other) + integral.real / (2 * arb.pi())


def parts_of(f: Network, sign: float) -> tuple[list[list[Any]], list[list[arb]], list[arb]]:
    """Neurons (α, w, b) of relu and the affine part of sign·f, as balls."""
    name = f.activation.name
    slope = {"abs": arb(-1), "leaky_relu(0.3)": arb(0.3)}.get(name, arb(0))
    factor, level = {"abs": arb(2), "leaky_relu(0.3)": 1 - arb(0.3)}.get(name, arb(1)), arb(0)
    shifts: list[tuple[int, arb]] = [(1, arb(0))]
    if name == "hardtanh":
        shifts, level = [(1, arb(1)), (-1, arb(-1))], arb(-1)
    affine = [[arb(sign * v) for v in row] for row in f.affine.tolist()]
    offset = [arb(sign * v) for v in f.offset.tolist()]
    neurons: list[list[Any]] = []
    for i in range(f.width):
        alpha = [arb(sign) * arb(f.scale) * arb(float(v)) for v in f.outer[i]]
        w, b = [arb(float(v)) for v in f.inner[i]], arb(float(f.bias[i]))
        neurons += [[[factor * turn * a for a in alpha], w, b + shift] for turn, shift in shifts]
        for o, a in enumerate(alpha):
            affine[o] = [v + slope * a * u for v, u in zip(affine[o], w, strict=True)]
            offset[o] += slope * a * b + level * a
    return neurons, affine, offset


def dot(x: list[arb], y: list[arb]) -> arb:
    return sum((u * v for u, v in zip(x, y, strict=True)), arb(0))


def truth(a: Network, b: Network | None, norm: Norm) -> float:
    """‖f_A − f_B‖ under N(mean, root rootᵀ), in balls; a quadratic part under N(0, I) only."""
    neurons, affine, offset = parts_of(a, 1.0)
    if b is not None:
        more, slope, level = parts_of(b, -1.0)
        neurons += more
        affine = [[u + v for u, v in zip(x, y, strict=True)] for x, y in zip(affine, slope, strict=True)]
        offset = [u + v for u, v in zip(offset, level, strict=True)]
    if norm.root is not None and norm.mean is not None:
        columns = [[arb(float(v)) for v in column] for column in norm.root.T]
        mean = [arb(float(v)) for v in norm.mean]
        offset = [c + dot(row, mean) for c, row in zip(offset, affine, strict=True)]
        affine = [[dot(row, column) for column in columns] for row in affine]
        neurons = [[alpha, [dot(w, column) for column in columns], c + dot(w, mean)] for alpha, w, c in neurons]
    q = [a.quadratic[o] if a.quadratic is not None else np.zeros((1, 1)) for o in range(a.m)]
    total = arb(0)
    for o in range(a.m):
        total += dot(affine[o], affine[o])
        trace, square = arb(float(0)), arb(0)
        for row in q[o].tolist():
            square += 2 * sum((arb(v) * arb(v) for v in row), arb(0))
        trace = sum((arb(float(v)) for v in np.diag(q[o])), arb(0))
        total += (offset[o] + trace) ** 2 + square
        for alpha, w, c in neurons:
            r = dot(w, w).sqrt()
            beta = c / r
            total += 2 * alpha[o] * ((offset[o] + trace) * r * ramp(beta) + dot(w, affine[o]) * cdf(beta))
            if a.quadratic is not None:  # E(rX + c)₊(X² − 1) = rφ(β), ŵᵀQŵ = wᵀQw/r²
                curved = sum((dot([arb(float(v)) for v in row], w) * u for row, u in zip(q[o], w, strict=True)), arb(0))
                total += 2 * alpha[o] * curved / r * density(beta)
    for i, (alpha, w, c) in enumerate(neurons):
        for j in range(i + 1):
            other, v, e = neurons[j]
            r, s = dot(w, w).sqrt(), dot(v, v).sqrt()
            value = r * s * correlated(c / r, e / s, dot(w, v) / (r * s))
            total += (1 if i == j else 2) * dot(alpha, other) * value
    assert total.rad() < 1e-24 * (1 + abs(total.mid()))
    return math.sqrt(max(float(total.mid()), 0.0))


# --- the kernel -------------------------------------------------------------------------------------------------


def triples(count: int) -> Iterator[tuple[float, float, float]]:
    """(H, H′, ρ) with all their corners: equal and nearly equal, 0, far out, ρ at 0 and down to 1e-15 from ±1."""
    rng = np.random.default_rng(1)
    for _ in range(count):
        first = abs(rng.normal()) * 10 ** rng.uniform(-6, 1.2)
        second = float(rng.choice([first, first * (1 + 1e-3 * rng.normal()), first + 10 ** rng.uniform(-14, 0), 0.0]))
        second = second if rng.random() < 0.7 else abs(rng.normal()) * 10 ** rng.uniform(-6, 1.2)
        near = 10 ** rng.uniform(-15, -1)
        rho = float(rng.choice([rng.uniform(-1, 1), 1 - near, near - 1, rng.choice([-1.0, 0.0, 1.0])]))
        yield (first, second, rho) if rng.random() < 0.5 else (second, first, rho)
    yield from ((0.0, 0.0, x) for x in (-1.0, -0.3, 0.0, 1 - 1e-12, 1.0))


def test_products_against_the_integral_over_the_correlation() -> None:
    """To a few units roundoff, where the bounds charge 1024 (64 without biases)."""
    cases = list(triples(240))
    first, second, rho = (np.array(x) for x in zip(*cases, strict=True))
    found = kinks.beyond_affine(first[:, None], second[None, :], np.broadcast_to(rho, (rho.size, rho.size)).copy())
    for k, (h, g, x) in enumerate(cases):
        a, b, c = arb(-h), arb(-g), arb(x)
        true = float((correlated(a, b, c) - ramp(a) * ramp(b) - c * cdf(a) * cdf(b)).mid())
        assert abs(found[k, k] - true) <= 16 * UNIT
        assert abs(found[k, k]) <= 0.125
    swapped = kinks.beyond_affine(second[:, None], first[None, :], np.broadcast_to(rho[:, None], found.shape).copy())
    assert np.max(np.abs(swapped.T - found)) <= 32 * UNIT


def test_products_against_the_series() -> None:
    """Σ_{k ≥ 2} c_k c_k′ ρ^k, where it converges."""
    rng = np.random.default_rng(2)
    h, rho = np.abs(rng.normal(size=40)), rng.uniform(-0.5, 0.5, (40, 40))
    norm = Norm("gaussian")
    with FLOAT.precision():
        f = expanded(FLOAT, (raw_of(Network(np.ones((40, 1)), np.ones((40, 1)), -h, "relu")), 1.0))
        c = series.spectrum(FLOAT, norm, f, 60).c
    total = np.einsum("ik,jk,ijk->ij", c[:, 2:], c[:, 2:], rho[:, :, None] ** np.arange(2, 61))
    assert np.max(np.abs(kinks.beyond_affine(h[:, None], h[None, :], rho) - total)) < 1e-14


# --- the bounds -------------------------------------------------------------------------------------------------


def closed(a: Network, b: Network | None, norm: Norm) -> tuple[float, float]:
    """What the closed form alone proves."""
    signed = ((raw_of(a), 1.0),) if b is None else ((raw_of(a), 1.0), (raw_of(b), -1.0))
    with FLOAT.precision(), np.errstate(all="ignore"):
        return kinks.bounds(FLOAT, norm, series.spectrum(FLOAT, norm, expanded(FLOAT, *signed), 4))


def pair_of(rng: np.random.Generator, name: str) -> tuple[Network, Network]:
    """A network and one that is near it in one of many ways: noise, a dipole, splits, flips, scales, far biases."""
    d, m, n = int(rng.integers(2, 4)), int(rng.choice([1, 3])), int(rng.integers(1, 4))
    bias = rng.normal(0, rng.choice([0.0, 0.5, 3.0]), n) * (rng.random(n) < 0.8)
    a = Network(rng.standard_normal((n, m)), rng.standard_normal((n, d)) / d, bias, name, offset=rng.standard_normal(m))
    kind, size = rng.choice(["noise", "dipole", "flipped", "other"]), 10.0 ** rng.uniform(-9, 0)
    if kind == "other":
        return a, Network(rng.standard_normal((2, m)), rng.standard_normal((2, d)), rng.standard_normal(2), name)
    moved = a.inner + size * rng.standard_normal(a.inner.shape)
    b = a.with_(inner=moved, bias=a.bias + size * rng.standard_normal(n) * (bias != 0))
    if kind == "dipole":
        grown = np.concatenate([a.outer, a.outer / size, -a.outer / size])
        return a.with_(outer=grown, inner=np.tile(moved, (3, 1)), bias=np.tile(a.bias, 3)), b.with_(
            outer=np.concatenate([b.outer, b.outer / size, -b.outer / size]),
            inner=np.concatenate([moved, a.inner, moved]), bias=np.tile(a.bias, 3),
        )  # fmt: skip
    if kind == "flipped" and name == "relu":  # relu(z) = relu(−z) + z
        lone = Network(b.outer, -b.inner, -b.bias, name, affine=b.outer.T @ b.inner, offset=b.outer.T @ b.bias)
        return a, lone.with_(offset=lone.offset + a.offset)
    return a, b


def norm_of(rng: np.random.Generator, d: int, case: int) -> Norm:
    """N(0, I), a law off the origin, one on a line or plane through its mean."""
    if case % 3 == 0:
        return Norm("gaussian")
    rank = d if case % 3 == 1 else d - 1
    return Norm("gaussian", mean=rng.normal(0, 0.5, d), root=0.7 * rng.standard_normal((d, rank)))


@pytest.mark.parametrize("name", ["relu", "leaky_relu(0.3)", "abs", "hardtanh"])
def test_bounds_hold_the_truth(name: str) -> None:
    rng = np.random.default_rng([3, *name.encode()])
    for case in range(9 if name == "hardtanh" else 30):
        a, b = pair_of(rng, name)
        norm = norm_of(rng, a.d, case)
        low, high = closed(a, b, norm)
        true = truth(a, b, norm)
        assert low <= true <= high
        reach = norm.reach(a.d)
        mass = sum(float(np.linalg.norm(f.outer, axis=1) @ np.linalg.norm(f.inner, axis=1)) for f in (a, b)) * reach
        beside = sum(float(np.linalg.norm(f.outer, axis=1) @ np.abs(f.bias)) for f in (a, b)) + 1
        # √(1024u) of the mass, and some units of what is affine
        assert high - low <= 1.2e-6 * mass + 1e-12 * (mass + beside)
        assert high**2 - low**2 <= 4e-12 * (mass + beside) ** 2


def test_a_quadratic_part_beside_the_neurons() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        n, d, m = 4, 3, 2
        q = np.round(rng.standard_normal((m, d, d)), 2) * 0.25
        q = np.round((q + q.transpose(0, 2, 1)) * 2**20) / 2**21
        a = Network(rng.standard_normal((n, m)), rng.standard_normal((n, d)), rng.normal(0, 1, n), "relu", quadratic=q)
        b = Network(rng.standard_normal((n, m)), rng.standard_normal((n, d)), rng.normal(0, 1, n), "relu")
        low, high = closed(a, b, Norm("gaussian"))
        true = truth(a, b, Norm("gaussian"))
        assert low <= true <= high <= low * (1 + 1e-9)


def test_blocks_do_not_matter() -> None:
    """700 neurons, half of them without bias, against the whole matrix; and a quotient of them by hand."""
    rng = np.random.default_rng(5)
    n, d = 700, 6
    bias = rng.normal(0, 1, n) * (rng.random(n) < 0.5)
    f = Network(rng.standard_normal((n, 2)) / n, rng.standard_normal((n, d)), bias, "relu")
    low, high = closed(f, None, Norm("gaussian"))
    r = np.linalg.norm(f.inner, axis=1)
    turn = np.where(bias > 0, -1, 1)
    unit = turn[:, None] * f.inner / r[:, None]
    whole = kinks.beyond_affine((np.abs(bias) / r)[:, None], (np.abs(bias) / r)[None, :], np.clip(unit @ unit.T, -1, 1))
    gamma = r[:, None] * f.outer
    zero = np.array([[float(ramp(arb(x)).mid()) for x in bias / r], [float(cdf(arb(x)).mid()) for x in bias / r]])
    square = np.sum((zero[0] @ gamma) ** 2) + np.sum((f.outer.T @ (f.inner * zero[1][:, None])) ** 2)
    square += np.sum((gamma @ gamma.T) * whole)
    assert low <= math.sqrt(square) * (1 + 1e-12)
    assert high >= math.sqrt(square) * (1 - 1e-12)
    assert high - low <= 1e-9 * high


def test_far_and_flat_neurons() -> None:
    """|b| ≫ ‖w‖ on both sides, directions below rounding, silent neurons, none at all: no number is lost."""
    norm = Norm("gaussian")
    w, alpha = np.array([[1.0, 0.0], [1e-8, 1e-8], [3.0, 4.0]]), np.array([[1.0], [-2.0], [0.5]])
    for bias in ([1e6, -1e6, 300.0], [-39.0, 1e-300, -41.0], [60.0, 0.0, -60.0], [1e3, 1.0, 0.0]):
        f = Network(alpha, w, bias, "relu")
        low, high = closed(f, None, norm)
        assert low <= truth(f, None, norm) <= high
        assert high - low <= 2e-6 * max(high, 1.0)
    still = Network([[1.0], [2.0], [0.0]], [[0.0, 0.0], [1e-200, 0.0], [1.0, 1.0]], [1.0, 2.0, 3.0], "relu")
    low, high = closed(still, None, norm)
    assert low <= 5.0 <= high <= 5.0 + 1e-12
    huge = Network([[1e90]], [[1e90, 0.0]], [0.0], "relu")
    assert closed(huge, None, norm)[1] >= 1e180 * math.sqrt(0.5) * (1 - 1e-9)


def test_where_it_does_not_apply() -> None:
    """Other cores, balls, other norms: nothing is claimed."""
    f = Network([[1.0]], [[1.0, 0.5]], [0.2], "gelu")
    assert closed(f, None, Norm("gaussian")) == (0.0, math.inf)
    relu, norm = f.with_(activation="relu"), Norm("gaussian")
    with Arithmetic(128).precision():
        h = expanded(Arithmetic(128), (raw_of(relu), 1.0))
        balls = series.spectrum(Arithmetic(128), norm, h, 4)
        assert kinks.bounds(Arithmetic(128), norm, balls) == (0.0, math.inf)
        assert not kinks.affordable(Norm("sup", radius=1.0), expanded(FLOAT, (raw_of(relu), 1.0)))


# --- certificates -----------------------------------------------------------------------------------------------


def cloud_of(rng: np.random.Generator, name: str, biased: bool) -> Network:
    """Thirty particles at noise 1e-2 around three atoms, d = 4, two outputs."""
    member, (n, d) = np.arange(30) % 3, (30, 4)
    w, b = rng.standard_normal((3, d)), rng.normal(0, 1, 3) * biased
    inner = w[member] + 1e-2 * rng.standard_normal((n, d))
    bias = b[member] + 1e-2 * rng.standard_normal(n) * biased
    return Network(rng.standard_normal((3, 2))[member] / 10, inner, bias, name)


def sealed(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "seal": seal(document)}


@pytest.mark.parametrize(("name", "biased", "affine"), [
    ("relu", False, "free"), ("relu", True, "free"), ("leaky_relu(0.3)", True, "charged"), ("abs", False, "offset"),
])  # fmt: skip
def test_the_staircase_is_confirmed_where_it_begins(name: str, biased: bool, affine: Any) -> None:
    """S* = 3 from the ε on that `analyze` states; the claim falls with its evidence, and is no better than it."""
    f = cloud_of(np.random.default_rng([8, *name.encode(), biased]), name, biased)
    found = analyze(f, affine=affine)
    document = found.certificate()
    assert document["claim"]["certified"]
    assert document["claim"]["eps"][0] <= found.s_star.eps[0] * (1 + 1e-3)
    assert document["evidence"]["closed"] is True
    networks = {"a": raw_of(f)}
    proved = check(document, networks)
    assert proved.valid
    less = {**document, "evidence": {**document["evidence"], "closed": False}}
    assert not check(sealed(less), networks).valid
    claim = {**document["claim"], "eps": [proved.facts["upper"] * (1 - 1e-6), document["claim"]["eps"][1]]}
    assert not check(sealed({**document, "claim": claim}), networks).valid


def test_a_verdict_falls_with_its_evidence() -> None:
    """Bounds are as the document says: not with a closer one, nor without the closed form; older documents stand."""
    f = cloud_of(np.random.default_rng(9), "relu", True)
    g = Network(10 * f.outer[:3], f.inner[:3], f.bias[:3], "relu")
    document = document_of(certify(f, g), f, g)
    networks = {"a": raw_of(f), "b": raw_of(g)}
    assert document["evidence"]["closed"] is True
    assert check(document, networks).valid
    low, high = document["bounds"]["lower"], document["bounds"]["upper"]
    assert high <= low * (1 + 1e-6)
    for bounds in ({"lower": low, "upper": 0.5 * (low + high)}, {"lower": 0.5 * (low + high), "upper": high}):
        assert not check(sealed({**document, "bounds": bounds}), networks).valid
    older = {key: value for key, value in document["evidence"].items() if "closed" not in key}
    assert not check(sealed({**document, "evidence": older}), networks).valid
    wider = {"bounds": {"lower": 0.1 * low, "upper": 300 * high}, "rel_eps": None, "eps": 0.05 * low}
    wider |= {"eps_distinct": 0.05 * low, "verdict": "distinct", "evidence": older}
    assert check(sealed({**document, **wider}), networks).valid


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("name", ["relu", "leaky_relu(0.3)", "abs"])
def test_noisy_clouds_are_bracketed(name: str, biased: bool) -> None:
    """Particles at noise 1e-3 around five atoms, against the atoms and against another draw."""
    rng = np.random.default_rng([6, *name.encode(), biased])
    atoms, n, d = 5, 60, 8
    w, b = rng.standard_normal((atoms, d)), rng.normal(0, 1, atoms) * biased
    f = Network(rng.standard_normal((atoms, 2)), w, b, name)
    member = np.arange(n) % atoms

    def cloud() -> Network:
        inner = w[member] + 1e-3 * rng.standard_normal((n, d))
        return Network(f.outer[member] * atoms / n, inner, b[member] + 1e-3 * rng.standard_normal(n) * biased, name)

    first, second = cloud(), cloud()
    for other in (f, second):
        found = certify_pair(first, other, rel_eps=1e-7)
        assert found.verdict == "distinct"
        assert found.upper <= 1.05 * found.lower
    for factor, verdict in ((1.01, "equivalent"), (0.94, "distinct")):
        assert certify_pair(first, second, eps=factor * found.upper).verdict == verdict


def test_any_evidence_is_valid() -> None:
    """Senseless groupings, directions and degrees beside the closed form; without it, what was proved before."""
    rng = np.random.default_rng(7)
    for case in range(12):
        a, b = pair_of(rng, "relu")
        norm, n = norm_of(rng, a.d, case), a.width + b.width
        rank = a.d if norm.root is None else norm.root.shape[1]
        u = rng.standard_normal(rank)
        evidence: dict[str, Any] = {
            "bits": 0, "degree": int(rng.integers(2, 30)), "gram": bool(rng.random() < 0.3), "closed": True,
            "leader": encode(rng.integers(0, n, n).astype(np.int32)),
            "sign": encode(rng.choice([-1, 1], n).astype(np.int8)),
            "direction": encode(u / np.linalg.norm(u)), "norm_degree": 2, "norm_gram": False, "norm_closed": True,
        }  # fmt: skip
        true, own = truth(a, b, norm), truth(a, None, norm)
        low, high = equivalence.distance_bounds(norm, raw_of(a), raw_of(b), evidence)
        assert low <= true <= high
        plain = {key: value for key, value in evidence.items() if "closed" not in key}
        before = equivalence.distance_bounds(norm, raw_of(a), raw_of(b), plain)
        assert before[0] <= low
        assert high <= before[1]
        low, high = equivalence.norm_bounds(norm, raw_of(a), evidence)
        assert low <= own <= high
        mass = float(np.linalg.norm(a.outer, axis=1) @ np.hypot(np.linalg.norm(a.inner, axis=1), a.bias))
        assert high - low <= 2e-6 * (1 + mass) * norm.reach(a.d)
