"""hardtanh, hard_sigmoid, relu6: telescoping chains, zero-sum blocks against brute force, canonical networks."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import Array, evaluation_scale
from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.symmetry import disguise, kink_edges, quotient, quotient_distances
from sparsemf.symmetry.kinks import blocks, kink_classes

RAMPS = ["hardtanh", "hard_sigmoid", "relu6"]


def edges(name: str, spans: list[tuple[float, float]], masses: Array, direction: Array) -> Network:
    """Σ mass·(relu(t − p) − relu(t − q)), t = ⟨direction, x⟩, as atoms: slope (h − l)/(q − p) each."""
    low, high, divisor = {"hardtanh": (-1, 1, 1), "hard_sigmoid": (-3, 3, 6), "relu6": (0, 6, 1)}[name]
    rate = np.array([(high - low) / (q - p) for p, q in spans])
    return Network(
        outer=masses / rate[:, None] * divisor,
        inner=rate[:, None] * direction[None],
        bias=np.array([low - r * p for r, (p, _) in zip(rate, spans, strict=True)]),
        activation=name,
    )


def kink_sum(spans: list[tuple[float, float]], masses: Array, t: Array) -> Array:
    """The same sum from its definition, without constants."""
    return sum((np.clip(t, p, q) - p)[:, None] * m[None] for (p, q), m in zip(spans, masses, strict=True))


def most_blocks(values: list[int]) -> int:
    """The most zero-sum blocks of a partition, over all partitions (recursively by the block of the first element)."""
    if not values:
        return 0
    first, rest = values[0], values[1:]
    best = -1
    for size in range(len(rest) + 1):
        for chosen in combinations(range(len(rest)), size):
            if first + sum(rest[i] for i in chosen) == 0:
                left = [v for i, v in enumerate(rest) if i not in chosen]
                if sum(left) == 0:
                    best = max(best, 1 + most_blocks(left))
    return best


@pytest.mark.parametrize("name", RAMPS)
def test_the_image_is_the_definition(name: str) -> None:
    rng = np.random.default_rng(0)
    u = np.array([0.6, 0.8])
    spans, masses = [(-2.0, 1.0), (0.5, 0.75)], rng.standard_normal((2, 3))
    f = edges(name, spans, masses, u)
    x = 3 * rng.standard_normal((100, 2))
    value = f(x) - kink_sum(spans, masses, x @ u)
    np.testing.assert_allclose(value, np.broadcast_to(value[0], value.shape), atol=1e-13)


@pytest.mark.parametrize("name", RAMPS)
@pytest.mark.parametrize("pieces", [2, 3, 8])
def test_a_chain_is_one_atom(name: str, pieces: int) -> None:
    """σ(z) = ½[σ(2z − l) + σ(2z − h)], over and over: one atom again, in any order and with flips."""
    rng = np.random.default_rng(pieces)
    u = np.array([0.28, -0.96])
    cuts = np.concatenate([[-1.0], np.sort(rng.uniform(-1, 2, pieces - 1)), [2.0]])
    mass = rng.standard_normal((1, 2))
    f = edges(name, list(pairwise(cuts)), np.repeat(mass, pieces, axis=0), u)
    g = edges(name, [(-1.0, 2.0)], mass, u)
    assert kink_edges(f).upper == kink_edges(f).lower == 1
    found = quotient(disguise(f, rng, pieces + 5))
    assert found.network.width == 1
    assert float(quotient_distances(found.network, quotient(g).network)[0, 0]) <= 1e-12
    x = 2 * rng.standard_normal((200, 2))
    assert np.max(np.abs(found.network(x) - f(x))) <= 1e-13 * evaluation_scale(f, x)
    assert found.invert().width == pieces + 5
    assert np.max(np.abs(found.invert()(x) - f(x))) <= 1e-13 * evaluation_scale(f, x)
    # hardtanh(z) + hardtanh(z − 2) = 2 hardtanh((z − 1)/2)
    if name == "hardtanh":
        both = Network([[1.0], [1.0]], [[1.0], [1.0]], [0.0, -2.0], name)
        one = quotient(both).network
        np.testing.assert_allclose([one.alpha[0, 0], one.inner[0, 0], one.bias[0]], [2.0, 0.5, -0.5])


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(RAMPS),
    seed=st.integers(0, 10**6),
    atoms=st.integers(2, 7),
    places=st.integers(3, 8),
    largest=st.integers(1, 4),
)
def test_blocks_match_brute_force(name: str, seed: int, atoms: int, places: int, largest: int) -> None:
    """Integer masses on shared kinks: least edges = K − most zero-sum blocks."""
    rng = np.random.default_rng(seed)
    position = np.sort(rng.uniform(-3, 3, places))
    spans, masses, total = [], [], np.zeros(places, dtype=int)
    for _ in range(atoms):
        p, q = np.sort(rng.choice(places, 2, replace=False))
        mass = int(rng.integers(1, largest + 1)) * int(rng.choice([-1, 1]))
        total[p] += mass
        total[q] -= mass
        spans.append((float(position[p]), float(position[q])))
        masses.append([float(mass)])
    u = rng.standard_normal(3)
    u /= np.linalg.norm(u)
    f = edges(name, spans, np.array(masses), u)
    values = [int(v) for v in total if v]
    least = len(values) - most_blocks(values)
    found = quotient(disguise(f, rng, atoms + 8))
    assert found.network.width == least <= atoms
    assert found.unique
    count = kink_edges(found.network)
    assert count.lower == count.upper == least
    x = 2 * rng.standard_normal((100, 3))
    for g in (found.network, found.invert()):
        assert np.max(np.abs(g(x) - f(x))) <= 1e-12 * evaluation_scale(f, x)
    # the kinks are what the function sees: another disguise has the same canonical atoms
    other = quotient(disguise(f, rng, atoms + 11)).network
    if least:
        np.testing.assert_allclose(quotient_distances(found.network, other).min(axis=1), 0.0, atol=1e-9)


def test_vector_masses_need_all_outputs() -> None:
    """Blocks must cancel in every output: two scalar pairs in different places are one block of four."""
    u = np.array([1.0, 0.0])
    spans = [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    masses = np.array([[1.0, 2.0], [2.0, -1.0], [0.5, 0.5]])
    f = edges("hardtanh", spans, masses, u)
    assert kink_edges(quotient(f).network) == kink_edges(f)
    assert kink_edges(f).upper == 3
    # output by output: kinks 0 … 3 carry (1, 1, −1.5, −0.5) and (2, −3, 1.5, −0.5)
    np.testing.assert_allclose(
        kink_classes(f)[0].mass, [[1.0, 2.0], [1.0, -3.0], [-1.5, 1.5], [-0.5, -0.5]], atol=1e-14
    )


def test_nested_ramps_share_no_kink() -> None:
    """[−1, 1] and [−½, ½] are two atoms, not the three of a path through four kinks; so are equal masses."""
    u = np.array([1.0])
    for masses in ([[1.0], [0.3]], [[1.0], [1.0]], [[1.0], [-1.0]]):
        f = edges("hardtanh", [(-1.0, 1.0), (-0.5, 0.5)], np.array(masses), u)
        assert quotient(f).network.width == 2


def test_bounds_beyond_the_exhaustive_search() -> None:
    """A long path of generic masses: at most its edges, at least two thirds of them; never more atoms than given."""
    rng = np.random.default_rng(1)
    count = 30
    position = np.sort(rng.uniform(-5, 5, count + 1))
    masses = rng.standard_normal((count, 1))
    f = edges("relu6", list(pairwise(position)), masses, np.array([0.6, 0.8]))
    found = kink_edges(f)
    assert found.kinks == count + 1
    assert (count + 1) * 2 / 3 <= found.lower <= found.upper == count
    # two such paths, each zero-sum for itself: the given atoms know it
    shifted = edges("relu6", [(p + 20, q + 20) for p, q in pairwise(position)],
                    rng.standard_normal((count, 1)), np.array([0.6, 0.8]))  # fmt: skip
    both = Network(np.concatenate([f.alpha, shifted.alpha]), np.concatenate([f.inner, shifted.inner]),
                   np.concatenate([f.bias, shifted.bias]), "relu6")  # fmt: skip
    parts, exact = blocks(kink_classes(both)[0])
    assert not exact
    assert sorted(part.size for part in parts) == [count + 1, count + 1]
    form = quotient(both)
    assert form.network.width == 2 * count
    assert not form.unique
    x = rng.standard_normal((100, 2))
    assert np.max(np.abs(form.network(x) - both(x))) <= 1e-12 * evaluation_scale(both, x)


def test_steep_atoms_keep_their_two_kinks() -> None:
    """Slope 1e12: the two kinks are 2e-12 apart, below the rounding of a bias of 1e12, and must not merge."""
    f = Network([[1.0], [0.5]], [[1e12, 0.0], [0.0, 1e15]], [1e12, 0.25e15], "hardtanh")
    assert quotient(f).network.width == 2
    g = Network([[1.0], [0.5]], [[1e12, 0.0], [-1e12, 0.0]], [1.0, 4.0], "hardtanh")
    form = quotient(g).network
    assert form.width == 2
    x = np.array([[1e-12, 0.0], [-3e-12, 1.0], [5e-12, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_allclose(form(x), g(x), atol=1e-12)


def test_other_activations_are_refused() -> None:
    with pytest.raises(InputError, match="hardtanh"):
        kink_edges(Network([[1.0]], [[1.0]], [0.0], "relu"))
