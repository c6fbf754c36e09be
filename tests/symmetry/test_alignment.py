"""Alignment: a random group element is undone exactly, B's function never changes, and no flip is made on credit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sparsemf.exceptions import InputError
from sparsemf.measures import Network, Provenance
from sparsemf.symmetry.alignment import align
from sparsemf.symmetry.assignment import assign

Array = NDArray[np.float64]

# σ(z) = s·σ(−z) + c + l·z + q·z², by hand
FLIPS: dict[str, tuple[int, float, float, float]] = {
    "relu": (1, 0.0, 1.0, 0.0),
    "tanh": (-1, 0.0, 0.0, 0.0),
    "gelu": (1, 0.0, 1.0, 0.0),
    "silu": (1, 0.0, 1.0, 0.0),
    "sigmoid": (-1, 1.0, 0.0, 0.0),
    "relu2": (-1, 0.0, 0.0, 1.0),
}
DEGREE = {"relu": 1, "relu2": 2}
PLAIN = ("relu", "tanh", "gelu", "silu", "exp", "sigmoid", "elu", "relu2")
GATED = ("silu", "relu", "tanh", "sigmoid", "elu", "exp")
CASES = [(name, False) for name in PLAIN] + [(name, True) for name in GATED]
IDS = [("gated-" if gated else "") + name for name, gated in CASES]


def draw(rng: np.random.Generator, name: str, gated: bool, width: int = 24, d: int = 5, m: int = 3) -> Network:
    fields: dict[str, Any] = {"affine": rng.standard_normal((m, d)), "offset": rng.standard_normal(m)}
    if gated:
        fields |= {"gate": rng.standard_normal((width, d)), "gate_bias": rng.standard_normal(width)}
        fields["quadratic"] = rng.standard_normal((m, d, d))
    points = rng.standard_normal((width, d)), rng.standard_normal(width)
    return Network(rng.standard_normal((width, m)), *points, name, scale=0.5, **fields)


@dataclass(frozen=True)
class Element:
    """What was done to a: position j of b holds a's neuron ``order[j]``; the rest is by a's neuron."""

    order: NDArray[np.int64]
    flipped: NDArray[np.bool_]
    scaled: bool


def element(a: Network, rng: np.random.Generator, flips: bool = True, scales: bool = True) -> tuple[Network, Element]:
    """A random element of the realization symmetry, with the flips' cost paid in full; f is the same."""
    name, gated = a.activation.name, a.gate is not None
    outer, inner, bias = np.array(a.outer), np.array(a.inner), np.array(a.bias)
    point, shift = (np.array(a.gate), np.array(a.gate_bias)) if gated else (inner, bias)
    affine, offset = np.array(a.affine), np.array(a.offset)
    quadratic = np.zeros((a.m, a.d, a.d)) if a.quadratic is None else np.array(a.quadratic)
    flipped = np.zeros(a.width, dtype=bool)
    if flips and name in FLIPS:
        s, c, l, q = FLIPS[name]  # noqa: E741
        flipped = rng.random(a.width) < 0.5
        for i in np.flatnonzero(flipped):
            for k in range(a.m):
                alpha = a.scale * outer[i, k]
                constant, linear, form = c + l * shift[i] + q * shift[i] ** 2, (l + 2 * q * shift[i]) * point[i], q
                if gated:  # times ⟨w, x⟩ + b
                    offset[k] += alpha * constant * bias[i]
                    affine[k] += alpha * (constant * inner[i] + linear * bias[i])
                    quadratic[k] += alpha * np.outer(linear, inner[i])
                else:
                    offset[k] += alpha * constant
                    affine[k] += alpha * linear
                    quadratic[k] += alpha * form * np.outer(point[i], point[i])
        outer[flipped] *= s
        point[flipped] *= -1.0
        shift[flipped] *= -1.0
    if scales:
        factor = np.exp(rng.normal(0.0, 0.7, a.width))
        if name in DEGREE:
            outer, point, shift = outer / factor[:, None] ** DEGREE[name], point * factor[:, None], shift * factor
        elif name == "exp":
            outer, shift = outer * factor[:, None], shift - np.log(factor)
        if gated:
            value = np.exp(rng.normal(0.0, 0.7, a.width)) * rng.choice([-1.0, 1.0], a.width)
            outer, inner, bias = outer / value[:, None], inner * value[:, None], bias * value
    if not gated:
        inner, bias = point, shift
    order = rng.permutation(a.width)
    changes: dict[str, Any] = {"outer": outer[order], "inner": inner[order], "bias": bias[order]}
    if gated:
        changes |= {"gate": point[order], "gate_bias": shift[order]}
    if quadratic.any():
        changes["quadratic"] = quadratic
    b = a.with_(affine=affine, offset=offset, **changes)
    return b, Element(order, flipped, scales)


def close(f: Network, g: Network, rng: np.random.Generator, tolerance: float = 1e-12) -> bool:
    """Equal to rounding: relative to the sum of the absolute values that are added up."""
    x = rng.standard_normal((50, f.d))
    scale = np.max(np.abs(f(x))) + max(sizes(n, x) for n in (f, g))
    return bool(np.max(np.abs(f(x) - g(x))) <= tolerance * scale)


def sizes(network: Network, x: Array) -> float:
    value = x @ network.inner.T + network.bias
    if network.gate is not None and network.gate_bias is not None:
        value = network.activation.value(x @ network.gate.T + network.gate_bias) * value
    else:
        value = network.activation.value(value)
    total = np.abs(value) @ np.abs(network.alpha)
    return float(np.max(total) + np.sum(np.abs(network.affine)) + np.sum(np.abs(network.offset)))


@pytest.mark.parametrize(("name", "gated"), CASES, ids=IDS)
@pytest.mark.parametrize("seed", range(5))
def test_a_random_element_is_undone(name: str, gated: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = draw(rng, name, gated)
    b, done = element(a, rng)
    assert close(a, b, rng)
    found = align(a, b)
    assert close(b, found.network, rng)
    assert np.array_equal(done.order[found.source], np.arange(a.width))
    assert np.array_equal(found.partner, np.arange(a.width))
    assert np.array_equal(found.sign < 0, done.flipped)
    assert (found.refused, found.matched, found.in_place) == (0, a.width, True)
    assert found.distance < 1e-12
    for field in ("alpha", "inner", "bias", "affine", "offset", "gate", "gate_bias"):
        if getattr(a, field) is not None:
            np.testing.assert_allclose(getattr(found.network, field), getattr(a, field), rtol=0, atol=1e-11)
    if a.quadratic is not None or found.network.quadratic is not None:
        before = 0.0 if a.quadratic is None else a.quadratic
        np.testing.assert_allclose(found.network.quadratic, np.broadcast_to(before, (3, 5, 5)), rtol=0, atol=1e-11)
    assert found.rescaled == (a.width if gated or name in DEGREE or name == "exp" else 0)


@pytest.mark.parametrize(("name", "gated"), CASES, ids=IDS)
@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_a_rounded_copy(name: str, gated: bool, precision: str) -> None:
    """What rounding moved stays where it is: no neuron is rescaled for it, none is exchanged, f stays."""
    rng = np.random.default_rng(8)
    a = draw(rng, name, gated, width=40)
    b, done = element(a, rng, scales=False)
    fields = ["outer", "inner", "bias", "affine", "offset", *(["gate", "gate_bias", "quadratic"] if gated else [])]
    rounded = b.with_(
        **{field: getattr(b, field).astype(precision).astype(float) for field in fields},
        provenance=Provenance(precision=precision),
    )
    found = align(a, rounded)
    assert close(rounded, found.network, rng)
    assert np.array_equal(done.order[found.source], np.arange(a.width))
    assert np.array_equal(found.sign < 0, done.flipped)
    assert found.refused == 0
    assert found.rescaled == 0
    unit = {"float16": 2.0**-11, "float32": 2.0**-24}[precision]
    assert found.distance <= 4 * unit
    np.testing.assert_allclose(found.network.inner, a.inner, rtol=2 * unit, atol=unit * 1e-3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    case=st.sampled_from(CASES),
    seed=st.integers(0, 10**6),
    widths=st.tuples(st.integers(0, 12), st.integers(0, 12)),
    pays=st.sets(st.sampled_from(["offset", "affine", "quadratic"])),
    tolerance=st.sampled_from([0.0, 0.5, 5.0]),
)
def test_the_function_stays_that_of_b(
    case: tuple[str, bool], seed: int, widths: tuple[int, int], pays: set[str], tolerance: float
) -> None:
    """For strangers too, and whatever may be paid into: what nothing pays for is not done."""
    rng = np.random.default_rng(seed)
    a, b = (draw(rng, *case, width=width) for width in widths)
    found = align(a, b, pays=pays, tolerance=tolerance)
    assert close(b, found.network, rng)
    assert sorted(found.source.tolist()) == list(range(b.width))
    matched = found.partner[found.partner >= 0]
    assert np.unique(matched).size == matched.size
    for part in ("offset", "affine", "quadratic"):
        if part not in pays:
            before, after = getattr(b, part), getattr(found.network, part)
            assert (before is None and after is None) or np.array_equal(before, after)


@pytest.mark.parametrize(("name", "gated"), CASES, ids=IDS)
def test_narrower_and_wider(name: str, gated: bool) -> None:
    rng = np.random.default_rng(9)
    a = draw(rng, name, gated, width=20)
    b, done = element(a, rng)

    def part(rows: Any, **extra: Any) -> Network:
        fields = ("outer", "inner", "bias", *(("gate", "gate_bias") if gated else ()))
        return b.with_(**{f: np.concatenate([getattr(b, f)[rows], *extra.get(f, [])]) for f in fields})

    kept = np.flatnonzero(done.order < 12)  # B has a's first twelve: they fit into A's places
    narrow = part(kept)
    found = align(a, narrow)
    assert close(narrow, found.network, rng)
    assert found.in_place
    assert np.array_equal(found.partner, np.arange(12))
    assert np.array_equal(done.order[kept][found.source], np.arange(12))
    kept = np.flatnonzero(done.order >= 8)  # the last twelve do not: they keep A's order
    found = align(a, part(kept))
    assert not found.in_place
    assert np.array_equal(found.partner, np.arange(8, 20))
    stranger = draw(np.random.default_rng(77), name, gated, width=7)
    far = ("outer", "inner", "bias", *(("gate", "gate_bias") if gated else ()))
    wide = part(slice(None), **{f: [3.0 * getattr(stranger, f)] for f in far})
    found = align(a, wide)
    assert close(wide, found.network, rng)
    assert np.array_equal(found.partner[:20], np.arange(20))
    assert np.array_equal(done.order[found.source[:20]], np.arange(20))
    assert sorted(found.source[20:].tolist()) == list(range(20, 27))
    assert (found.partner[20:] == -1).all()


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "sigmoid", "relu2"])
@pytest.mark.parametrize("gated", [False, True])
def test_flips_without_a_place_for_their_cost_are_refused(name: str, gated: bool) -> None:
    rng = np.random.default_rng(10)
    a = draw(rng, name, gated)
    b, done = element(a, rng) if not (gated and name == "relu2") else (None, None)
    if b is None or done is None:  # a cubic is no part of a network: flip in spite of the function
        done = Element(np.arange(a.width), np.arange(a.width) < 9, False)
        side = np.where(done.flipped, -1.0, 1.0)
        assert a.gate is not None and a.gate_bias is not None  # noqa: PT018
        turned = {"outer": a.outer * side[:, None], "gate": a.gate * side[:, None], "gate_bias": a.gate_bias * side}
        b = a.with_(**turned)
    found = align(a, b, pays=() if name == "sigmoid" and not gated else ("offset",))
    assert found.flipped == 0
    assert found.refused == int(done.flipped.sum()) > 0
    assert close(b, found.network, rng)
    assert np.array_equal(done.order[found.source], np.arange(a.width))  # in place all the same
    if not (gated and name == "relu2"):
        assert align(a, b).refused == 0


def test_free_flips_need_no_place() -> None:
    """A set with Σ α_i (w_i, b_i) = 0 turns at once; of a larger set, the pairs that cancel."""
    rng = np.random.default_rng(11)
    a = draw(rng, "gelu", False, width=16)
    outer, inner, bias = np.array(a.outer), np.array(a.inner), np.array(a.bias)
    factor = np.array([0.5, 2.0, 3.0, 0.25])
    for j, k in zip(range(0, 8, 2), factor, strict=True):  # (α, z) and (−α/k, k z): z-parts cancel, atoms do not
        outer[j + 1], inner[j + 1], bias[j + 1] = -outer[j] / k, k * inner[j], k * bias[j]
    a = a.with_(outer=outer, inner=inner, bias=bias)
    for flipped in (np.arange(16) < 8, np.arange(16) < 10):  # ten: two of them cannot be paid for
        side = np.where(flipped, -1.0, 1.0)
        lines = a.affine + a.alpha[flipped].T @ a.inner[flipped]
        b = a.with_(
            inner=a.inner * side[:, None],
            bias=a.bias * side,
            affine=lines,
            offset=a.offset + a.alpha[flipped].T @ a.bias[flipped],
        )
        assert close(a, b, rng)
        found = align(a, b, pays=())
        assert (found.flipped, found.refused) == (8, int(flipped.sum()) - 8)
        assert found.residual < 1e-15
        assert close(b, found.network, rng)
        assert np.array_equal(found.network.affine, b.affine)


def test_splits_are_told_apart_by_their_coefficients() -> None:
    rng = np.random.default_rng(12)
    for name, gated in (("tanh", False), ("silu", True), ("relu", False)):
        a = draw(rng, name, gated, width=6)
        rows = np.repeat(np.arange(6), 3)
        fields: dict[str, Any] = {"inner": a.inner[rows], "bias": a.bias[rows]}
        if a.gate is not None and a.gate_bias is not None:
            fields |= {"gate": a.gate[rows], "gate_bias": a.gate_bias[rows]}
        a = a.with_(outer=rng.standard_normal((18, 3)), **fields)
        b, _ = element(a, rng)
        found = align(a, b)
        np.testing.assert_allclose(found.network.alpha, a.alpha, rtol=0, atol=1e-11)


def test_wide_networks_take_the_sparse_way() -> None:
    """Beyond the full cost matrix: the same answers, for splits too."""
    rng = np.random.default_rng(13)
    for name in ("gelu", "relu"):
        a = draw(rng, name, False, width=2400, d=16)
        rows = np.concatenate([np.arange(2300), np.repeat(np.arange(2300, 2310), 10)])
        a = a.with_(inner=a.inner[rows], bias=a.bias[rows])
        b, done = element(a, rng)
        found = align(a, b)
        assert np.array_equal(done.order[found.source[:2300]], np.arange(2300))
        assert found.matched == 2400
        assert close(b, found.network, rng)
        np.testing.assert_allclose(found.network.inner, a.inner, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["tanh", "relu", "elu"])
def test_the_assignment_is_the_cheapest(name: str) -> None:
    """Against the full cost, computed neuron by neuron."""
    rng = np.random.default_rng(14)
    a = draw(rng, name, False, width=9, m=1)
    b = draw(rng, name, False, width=7, m=1)
    b = b.with_(outer=np.full((7, 1), 1e-9))
    a = a.with_(outer=np.full((9, 1), 1e-9))  # coefficients say nothing
    found = assign(a, b, tolerance=10.0)

    def points(network: Network) -> Array:
        raw = np.concatenate([network.inner, network.bias[:, None]], axis=1)
        return raw / np.linalg.norm(raw, axis=1)[:, None] if name == "relu" else raw

    u, v = points(a), points(b)
    plus = np.linalg.norm(u[:, None] - v[None], axis=2)
    minus = np.linalg.norm(u[:, None] + v[None], axis=2) if name != "elu" else np.inf * plus
    best = linear_sum_assignment(np.minimum(plus, minus))
    if name != "relu":  # of relu the coefficients carry the lengths
        assert (np.minimum(plus, minus)[best].sum()) == pytest.approx(
            np.minimum(plus, minus)[found.first, found.second].sum(), rel=1e-6
        )
    gaps = np.where(found.sign > 0, plus[found.first, found.second], minus[found.first, found.second])
    size = np.maximum(np.linalg.norm(u, axis=1)[found.first], np.linalg.norm(v, axis=1)[found.second])
    np.testing.assert_allclose(found.distance, gaps / size, rtol=1e-12)


def test_a_known_matching_is_taken() -> None:
    rng = np.random.default_rng(15)
    a = draw(rng, "tanh", False, width=5)
    b, done = element(a, rng)
    table = np.stack([done.order, np.arange(5)], axis=1)
    found = align(a, b, pairs=table[:3])
    assert np.array_equal(found.source[done.order[:3]], np.arange(3))
    assert found.matched == 3
    assert close(b, found.network, rng)
    for bad in ([[0, 0], [0, 1]], [[0, 5]], [[-1, 0]], [[0, 1, 2]]):
        with pytest.raises(InputError, match="pairs: expected"):
            align(a, b, pairs=bad)


def test_strangers_by_type_are_refused() -> None:
    rng = np.random.default_rng(16)
    a = draw(rng, "silu", False)
    for b in (
        draw(rng, "gelu", False),
        draw(rng, "silu", True),
        draw(rng, "silu", False, d=4),
        draw(rng, "silu", False, m=1),
    ):
        with pytest.raises(InputError, match="expected the same for both networks"):
            align(a, b)
    with pytest.raises(InputError, match="pays: expected some of offset"):
        align(a, a, pays=("bias",))
