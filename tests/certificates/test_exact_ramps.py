"""hardtanh, hard_sigmoid, relu6 at ε = 0: telescoping, zero-sum blocks, the least number of edges by brute force."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from cases import Array
from sparsemf.certificates.exact import exact_count
from sparsemf.certificates.exact_ramps import kink_masses
from sparsemf.measures import Network
from sparsemf.symmetry.kinks import Ramp

RAMPS = {"hardtanh": (-1.0, 1.0), "hard_sigmoid": (-3.0, 3.0), "relu6": (0.0, 6.0)}


def edge(name: str, p: float, q: float) -> tuple[float, float]:
    """(w, b) of the atom with kinks at p < q on the line; exact for small dyadic p, q with q − p a power of two."""
    low, high = RAMPS[name]
    rate = (high - low) / (q - p)
    return rate, low - rate * p


def edges(name: str, spans: list[tuple[int, int]], masses: list[float]) -> Network:
    """Kinks +mass at p and −mass at q for every span, along (1, 2); spans of lengths 1, 2, 4, … and 3·2^k."""
    atoms = [edge(name, float(p), float(q)) for p, q in spans]
    direction = np.array([1.0, 2.0])
    return Network(
        [[m / w] for m, (w, _) in zip(masses, atoms, strict=True)],
        [w * direction for w, _ in atoms],
        [b for _, b in atoms],
        name,
    )


def decided(net: Network) -> int:
    found = exact_count(net)
    assert found.counts == "edges"
    assert found.certified
    return found.upper


def test_the_telescoping_identity() -> None:
    """hardtanh(z) + hardtanh(z − 2) − 2·hardtanh((z − 1)/2) = 0, and relu6(z) + relu6(6 − z) = 6."""
    w = np.array([[1.0, 0.5], [1.0, 0.5], [0.5, 0.25]])
    assert decided(Network([[1.0], [1.0], [-2.0]], w, [0.25, -1.75, -0.375], "hardtanh")) == 0
    assert decided(Network([[1.0], [1.0], [-1.0]], w, [0.25, -1.75, -0.375], "hardtanh")) == 1
    assert decided(Network([[1.0], [1.0], [0.0]], w, [0.25, -1.75, -0.375], "hardtanh")) == 1
    assert decided(Network([[1.0], [1.0], [0.0]], w, [0.25, np.nextafter(-1.75, 0), -0.375], "hardtanh")) == 2
    opposite = np.array([[1.0, 0.5], [-1.0, -0.5]])
    assert decided(Network([[1.0], [1.0]], opposite, [0.25, 5.75], "relu6")) == 0
    assert decided(Network([[1.0], [-1.0]], opposite, [0.25, 5.75], "relu6")) == 1
    assert decided(Network([[1.0], [1.0]], opposite, [0.25, -0.25], "hard_sigmoid")) == 0


@pytest.mark.parametrize("name", RAMPS)
def test_a_chain_is_one_atom_and_directions_do_not_mix(name: str) -> None:
    cuts = [0, 1, 3, 7, 15]
    chain = edges(name, list(pairwise(cuts)), [3.0] * 4)
    if name != "hardtanh":
        # rates 6/1, 6/2, 6/4, 6/8 are dyadic
        assert decided(chain) == 1
    chain = edges("hardtanh", list(pairwise(cuts)), [3.0] * 4)
    assert decided(chain) == 1
    turned = chain.with_(inner=np.concatenate([chain.inner[:2], chain.inner[2:] * [1.0, -1.0]]))
    assert decided(turned) == 2


def least_edges(masses: list[int]) -> int:
    """The least number of edges between kinks (and one further position of mass 0) that carry the masses: the first
    number for which the masses lie in the column space of an incidence matrix."""
    values = np.array([*masses, 0.0])
    pairs = list(combinations(range(values.size), 2))
    for count in range(len(pairs) + 1):
        for chosen in combinations(pairs, count):
            incidence = np.zeros((values.size, max(count, 1)))
            for k, (p, q) in enumerate(chosen):
                incidence[p, k], incidence[q, k] = 1.0, -1.0
            solution = np.linalg.lstsq(incidence, values, rcond=None)[0]
            if np.max(np.abs(incidence @ solution - values)) < 1e-9:
                return count
    raise AssertionError("masses that do not add up to 0")


@pytest.mark.parametrize("seed", range(25))
def test_least_number_of_edges_by_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masses = [int(v) for v in rng.integers(-3, 4, 4)]
    masses.append(-sum(masses))
    carried = np.cumsum(masses)[:-1]
    spans = [(k, k + 1) for k in range(4)]
    net = edges("hardtanh", spans, [float(c) for c in carried])
    assert decided(net) == least_edges(masses)


@pytest.mark.parametrize("name", RAMPS)
def test_masses_are_the_slope_changes(name: str) -> None:
    """Against second differences of f on a line, up to a common factor."""
    rng = np.random.default_rng(2)
    n = 5
    w, b, a = (rng.integers(-4, 5, n).astype(float) for _ in range(3))
    w[w == 0] = 3.0
    net = Network(a[:, None], w[:, None], b, name)
    found = kink_masses(w, a[:, None], b, Ramp.of(net.activation))
    places = np.array([p / q for p, q in found])
    jump = np.array([m[0] for m in found.values()], dtype=float)
    order = np.argsort(places)
    places, jump = places[order], jump[order]
    step = 1e-4

    def second(x: Array) -> Array:
        return (net((x + step)[:, None]) - 2 * net(x[:, None]) + net((x - step)[:, None]))[:, 0] / step

    seen = second(places)
    np.testing.assert_allclose(seen / seen[0], jump / jump[0], rtol=1e-6)
    between = 0.5 * (places[1:] + places[:-1])
    assert np.max(np.abs(second(between))) < 1e-6


def test_several_outputs_cancel_only_together() -> None:
    """Masses (1, 0), (0, 1), (−1, −1) and their like: one output alone would find smaller blocks."""
    w = np.array([1.0, 2.0])
    cuts = np.array([0.0, 2.0, 4.0, 6.0])
    masses = np.array([[1.0, 0.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, 0.0]])
    carried = np.cumsum(masses, axis=0)[:3]
    net = Network(carried, [w] * 3, -(cuts[:3] + 1.0), "hardtanh")
    assert decided(net) == 2
    first = Network(carried[:, :1], [w] * 3, -(cuts[:3] + 1.0), "hardtanh")
    assert decided(first) == 2
    both = carried.copy()
    both[1] = [0.0, 2.0]
    # kinks (1, 0), (−1, 2), (1, −2), (−1, 0): two opposite pairs
    assert decided(Network(both, [w] * 3, -(cuts[:3] + 1.0), "hardtanh")) == 2


def test_beyond_exhaustion_a_bracket() -> None:
    """50 unpaired kinks of one output: K/3 blocks at most, one at least; independent masses are decided."""
    rng = np.random.default_rng(3)
    mass = rng.standard_normal(49)
    net = Network(mass[:, None], np.ones((49, 1)), -2.0 * np.arange(49), "hardtanh")
    found = exact_count(net)
    assert not found.certified
    assert found.lower == 50 - 50 // 3
    assert found.upper == 49
    assert "too many kinks" in found.reason
    many = Network(rng.standard_normal((49, 60)), np.ones((49, 1)), -2.0 * np.arange(49), "hardtanh")
    assert decided(many) == 49
    few = Network(rng.standard_normal((30, 1)), np.ones((30, 1)), -2.0 * np.arange(30), "hardtanh")
    assert decided(few) == 30


def test_planted_blocks_beyond_exhaustion_are_proposed_and_verified() -> None:
    """45 small integer masses in 9 zero-sum blocks: HIGHS may find some; whatever is reported holds."""
    rng = np.random.default_rng(4)
    masses: list[int] = []
    for _ in range(9):
        own = [int(v) for v in rng.integers(1, 40, 4)]
        masses += [*own, -sum(own)]
    carried = np.cumsum(masses)[:-1].astype(float)
    keep = carried != 0
    net = Network(carried[keep, None], np.ones((int(keep.sum()), 1)), -2.0 * np.arange(44)[keep], "hardtanh")
    found = exact_count(net)
    assert found.lower <= len(masses) - 9
    assert found.lower <= found.upper <= int(keep.sum())
