"""sin and cos: atoms that share ±w are one matrix of rank at most 2."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import Array, evaluation_scale
from sparsemf.measures import Network
from sparsemf.symmetry import disguise, quotient, quotient_distances
from sparsemf.symmetry.frequencies import principal_phases

WAVES = ["sin", "cos"]


def rotated(network: Network, rng: np.random.Generator) -> Network:
    """Another network of the same function: whole and half turns of the phases, and every atom in two phases,
    a sin(z + b) = a cos b·sin z + a sin b·sin(z + π/2), cos alike."""
    alpha, inner, bias = network.alpha, network.inner, network.bias.copy()
    turns = rng.integers(-3, 4, bias.size)
    bias += turns * np.pi
    alpha = alpha * np.where(turns % 2, -1.0, 1.0)[:, None]
    chosen = rng.random(bias.size) < 0.5
    quarter = 0.5 * np.pi if network.activation.name == "sin" else -0.5 * np.pi
    side = 1.0 if network.activation.name == "sin" else -1.0
    level = rng.uniform(-1, 1)  # σ(z + b) = cos(b − l)·σ(z + l) + sin(b − l)·σ(z + l ± π/2)
    cosine, sine = np.cos(bias[chosen] - level)[:, None], np.sin(bias[chosen] - level)[:, None]
    return network.with_(
        outer=np.concatenate([alpha[~chosen], alpha[chosen] * cosine, side * alpha[chosen] * sine]),
        inner=np.concatenate([inner[~chosen], inner[chosen], inner[chosen]]),
        bias=np.concatenate(
            [bias[~chosen], np.full(int(chosen.sum()), level), np.full(int(chosen.sum()), level + quarter)]
        ),
        scale=1.0,
    )


def rank_sum(network: Network) -> int:
    """Σ over frequencies of the rank of [sine, cosine], from exact equality of ±w."""
    classes: dict[tuple[float, ...], list[Array]] = {}
    for a, w, b in zip(network.alpha, network.inner, network.bias, strict=True):
        side = 1.0 if tuple(w) > tuple(-w) else -1.0
        wave = np.exp(1j * b) if network.activation.name == "sin" else 1j * np.exp(1j * b)
        # a sin(±|z| + b): coefficients of sine and cosine of |z|
        pair = np.outer(a, [side * wave.real, wave.imag])
        classes.setdefault(tuple(side * w), []).append(pair)
    return sum(int(np.linalg.matrix_rank(sum(parts), tol=1e-10)) for parts in classes.values())


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(WAVES),
    seed=st.integers(0, 10**6),
    atoms=st.integers(1, 8),
    places=st.integers(1, 4),
    outputs=st.sampled_from([1, 2, 3]),
)
def test_the_width_is_the_sum_of_ranks(name: str, seed: int, atoms: int, places: int, outputs: int) -> None:
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((places, 3))[rng.integers(0, places, atoms)] * rng.choice([-1.0, 1.0], (atoms, 1))
    f = Network(rng.standard_normal((atoms, outputs)), w, rng.uniform(-7, 7, atoms), name)
    x = 2 * rng.standard_normal((100, 3))
    first = quotient(disguise(rotated(f, rng), rng, 3 * atoms))
    second = quotient(rotated(disguise(f, rng, atoms + 5), rng))
    assert first.network.width == second.network.width == rank_sum(f) <= atoms
    for g in (first.network, first.invert(), second.network, second.invert()):
        assert np.max(np.abs(g(x) - f(x))) <= 1e-12 * evaluation_scale(f, x)
    distance = quotient_distances(first.network, second.network)
    assert max(distance.min(axis=0).max(), distance.min(axis=1).max()) <= 1e-12


@pytest.mark.parametrize("name", WAVES)
def test_rank_one_and_two(name: str) -> None:
    """Two phases of one frequency: one atom for one output; two for two outputs, unless coefficients are parallel."""
    w = [[1.0, 2.0], [-1.0, -2.0]]
    assert quotient(Network([[1.0], [2.0]], w, [0.3, 1.1], name)).network.width == 1
    assert quotient(Network([[1.0, 0.0], [0.0, 2.0]], w, [0.3, 1.1], name)).network.width == 2
    assert quotient(Network([[1.0, -2.0], [2.0, -4.0]], w, [0.3, 1.1], name)).network.width == 1
    gone = quotient(Network([[1.0], [1.0]], [[1.0, 2.0], [1.0, 2.0]], [0.3, 0.3 + np.pi], name))
    assert (gone.network.width, gone.cancelled) == (0, 1)


@pytest.mark.parametrize("name", WAVES)
def test_phases(name: str) -> None:
    """The canonical phase is in [0, π) and the atom the same function."""
    rng = np.random.default_rng(0)
    bias = np.concatenate([rng.uniform(-20, 20, 200), [0.0, -0.0, np.pi, -np.pi, 2 * np.pi, -1e-18, 1e-300]])
    sign, phase = principal_phases(bias)
    assert ((phase >= 0) & (phase < np.pi)).all()
    value = getattr(np, name)
    np.testing.assert_allclose(sign * value(0.7 + phase), value(0.7 + bias), atol=2e-14)
    for b in bias:
        f = Network([[1.5]], [[-0.2, 1.0]], [b], name)
        x = rng.standard_normal((20, 2))
        np.testing.assert_allclose(quotient(f).network(x), f(x), atol=5e-14)


@pytest.mark.parametrize("name", WAVES)
def test_the_phase_does_not_jump(name: str) -> None:
    """Phases just below π and just above 0 are near, and so are phases a whole turn apart."""
    a = Network([[1.0]], [[0.5, 1.0]], [np.pi - 1e-6], name)
    b = Network([[-1.0]], [[0.5, 1.0]], [1e-6], name)
    assert float(quotient_distances(quotient(a).network, quotient(b).network)[0, 0]) == pytest.approx(2e-6, rel=1e-4)
    c = Network([[1.0]], [[0.5, 1.0]], [3 * np.pi - 1e-6], name)
    assert float(quotient_distances(a, c)[0, 0]) <= 1e-14
