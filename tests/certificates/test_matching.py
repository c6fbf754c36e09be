"""The matching of canonical atoms against planted truth and a dense assignment."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from cases import planted_gated
from sparsemf import Network
from sparsemf.certificates.equivalence import certify_pair
from sparsemf.certificates.matching import match
from sparsemf.symmetry import disguise, point_distances

NAMES = (
    "relu",
    "leaky_relu",
    "abs",
    "tanh",
    "sigmoid",
    "gelu",
    "silu",
    "softplus",
    "elu",
    "selu",
    "mish",
    "sin",
    "exp",
)


def network(rng: np.random.Generator, name: str, n: int = 6, d: int = 4, m: int = 2) -> Network:
    return Network(rng.standard_normal((n, m)), rng.standard_normal((n, d)), 0.5 * rng.standard_normal(n), name)


@pytest.mark.parametrize("name", NAMES)
def test_disguises_match_completely(name: str) -> None:
    rng = np.random.default_rng(1)
    f = network(rng, name)
    found = match(disguise(f, rng, 40), disguise(f, rng, 25))
    assert (found.matched, found.unmatched_a, found.unmatched_b) == (6, 0, 0)
    assert found.max_distance < 1e-13
    assert len({i for i, _ in found.pairs}) == len({j for _, j in found.pairs}) == 6


@pytest.mark.parametrize("name", ["hardtanh", "relu6", "hard_sigmoid"])
def test_saturating_networks_match_on_their_kinks(name: str) -> None:
    f = network(np.random.default_rng(2), name)
    found = match(f, f.with_(outer=f.outer[::-1], inner=f.inner[::-1], bias=f.bias[::-1]))
    assert (found.matched, found.unmatched_a, found.unmatched_b) == (12, 0, 0)


def test_a_moved_and_a_missing_atom() -> None:
    rng = np.random.default_rng(3)
    f = network(rng, "tanh")
    inner = f.inner.copy()
    inner[2] += 0.5
    g = f.with_(inner=inner[:5], outer=f.outer[:5], bias=f.bias[:5])
    found = match(f, g)
    assert (found.matched, found.unmatched_a, found.unmatched_b) == (4, 2, 1)
    assert found.pairs == [(i, i) for i in (0, 1, 3, 4)]


def test_the_radius_is_relative() -> None:
    f = Network([[1.0]], [[30.0, 40.0]], None, "tanh")
    g = f.with_(inner=[[30.0, 40.4]])
    assert match(f, g).max_distance == pytest.approx(0.4)
    assert match(f, g, radius=7e-3).matched == 0


@pytest.mark.parametrize(
    ("first", "second"), [("sigmoid", "tanh"), ("silu", "quick_gelu"), ("leaky_relu", "relu"), ("abs", "relu")]
)
def test_across_activations(first: str, second: str) -> None:
    scale = {"sigmoid": 0.5, "silu": 1 / 1.702}.get(first, 1.0)
    rng = np.random.default_rng(4)
    f = network(rng, first)
    g = Network(f.outer, scale * f.inner, scale * f.bias, second)
    found = match(f, disguise(g, rng, 20))
    assert (found.matched, found.unmatched_a, found.unmatched_b) == (6, 0, 0)
    assert found.max_distance < 1e-12
    assert match(network(rng, "gelu"), network(rng, "tanh")).matched == 0


def test_opposite_kinks_are_one_atom_and_cancelled_ones_none() -> None:
    a = Network([[1.0], [2.0]], [[1.0, 0.0], [-3.0, 0.0]], None, "relu")
    assert match(a, Network([[1.0]], [[1.0, 0.0]], None, "relu")).matched == 1
    cancelled = Network([[3.0], [1.0]], [[1.0, 0.0], [3.0, 0.0]], None, "tanh")
    nothing = Network([[3.0], [-3.0]], [[1.0, 0.0], [1.0, 0.0]], None, "tanh")
    found = match(cancelled, nothing)
    assert (found.matched, found.unmatched_a, found.unmatched_b) == (0, 2, 0)


def test_sharing_frequencies_is_one_atom() -> None:
    a = Network([[1.0], [2.0]], [[1.0, 2.0], [-1.0, -2.0]], [0.3, 1.1], "sin")
    b = Network([[1.5]], [[1.0, 2.0]], [2.0], "cos")
    found = match(a, b)
    assert (found.matched, found.unmatched_a, found.unmatched_b) == (1, 0, 0)


def test_gated_blocks_match_on_their_gates() -> None:
    rng = np.random.default_rng(5)
    n, d = 9, 3
    a = Network(
        rng.standard_normal((n, 2)), rng.standard_normal((n, d)), None, "silu", gate=rng.standard_normal((n, d))
    )
    order = rng.permutation(n)
    scale = rng.uniform(0.5, 2.0, n)[:, None] * rng.choice([-1.0, 1.0], n)[:, None]
    assert a.gate is not None
    b = a.with_(outer=(a.outer / scale)[order], inner=(a.inner * scale)[order], gate=a.gate[order])
    found = match(a, b)
    assert found.pairs == sorted((int(i), k) for k, i in enumerate(order))
    # two neurons on one gate whose products cancel are no atom
    twice = a.with_(
        outer=np.concatenate([a.outer, a.outer[:1], -a.outer[:1]]),
        inner=np.concatenate([a.inner, a.inner[1:2], a.inner[1:2]]),
        gate=np.concatenate([a.gate, np.ones((2, d))]),
        bias=np.zeros(n + 2),
        gate_bias=np.zeros(n + 2),
    )
    assert match(a, twice).unmatched_b == 0


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("n", [40, 700])
def test_crowded_atoms_are_assigned_optimally(n: int, d: int) -> None:
    """Dense clouds: one big component; as many pairs as the full problem has, at its least cost."""
    rng = np.random.default_rng(n + d)
    a = Network(np.ones((n, 1)), rng.uniform(1.0, 1.5, (n, d)), None, "elu")
    b = a.with_(inner=a.inner + 1e-3 * rng.standard_normal((n, d)))
    radius = 4e-3
    found = match(a, b, radius)
    first, second = (np.concatenate([f.inner, f.bias[:, None]], axis=1) for f in (a, b))
    distance, _ = point_distances(first, second, False)
    size = np.maximum(np.linalg.norm(first, axis=1)[:, None], np.linalg.norm(second, axis=1))
    cost = np.where(distance <= radius * size, distance / (radius * size), 1e6)
    rows, columns = linear_sum_assignment(cost)
    inside = cost[rows, columns] < 1e6
    # on a line every atom has more neighbours than are looked at, which may cost a pair at the ends
    assert int(inside.sum()) - (2 if d == 1 and n > 40 else 0) <= found.matched <= int(inside.sum())
    if n == 40:
        mine = sum(cost[i, j] for i, j in found.pairs)
        assert mine == pytest.approx(float(cost[rows, columns][inside].sum()), rel=1e-9)
    assert len({i for i, _ in found.pairs}) == len({j for _, j in found.pairs}) == found.matched


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_near_linear_search_finds_what_the_dense_one_finds(name: str) -> None:
    rng = np.random.default_rng(6)
    n = 2500
    a = network(rng, name, n, 12, 1)
    order = rng.permutation(n)
    b = disguise(a.with_(inner=a.inner + 1e-4 * rng.standard_normal(a.inner.shape)), rng, n)
    b = b.with_(outer=b.outer[order], inner=b.inner[order], bias=b.bias[order])
    found = match(a, b)
    assert (found.matched, found.unmatched_a, found.unmatched_b) == (n, 0, 0)
    gap = [
        min(
            float(np.linalg.norm(np.append(a.inner[i], a.bias[i]) - side * np.append(b.inner[j], b.bias[j])))
            for side in (1, -1)
        )
        for i, j in found.pairs
    ]
    if name == "tanh":
        assert found.max_distance == pytest.approx(max(gap), rel=1e-12)
        assert found.max_distance < 1e-3


def test_many_equal_atoms_and_empty_networks() -> None:
    rng = np.random.default_rng(7)
    few = network(rng, "gelu", 3)
    many = few.with_(**{k: np.repeat(getattr(few, k), 3000, axis=0) for k in ("outer", "inner", "bias")})
    found = match(few, many)
    assert (found.matched, found.unmatched_a, found.unmatched_b) == (3, 0, 0)
    empty = few.with_(outer=np.zeros((0, 2)), inner=np.zeros((0, 4)), bias=np.zeros(0))
    found = match(few, empty)
    assert (found.matched, found.unmatched_a, found.unmatched_b) == (0, 3, 0)
    assert match(empty, empty).pairs == []


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_gates_of_waves_keep_their_factors(name: str) -> None:
    """sin(z + t) is a sin and a cos at one gate: both families carry the factors ℓ."""
    rng = np.random.default_rng(0)
    f = planted_gated(rng, name, 4, 3, 2)
    g = disguise(f, rng, 14, flips=False)
    found = certify_pair(f, g, eps=1e-9)
    assert (found.verdict, found.matching.matched, found.matching.unmatched_a) == ("equivalent", 3, 0)
    assert found.matching.kind == "certificate"
