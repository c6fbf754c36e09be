"""The quotient: invariance under random group elements, idempotence, round trip, the flip-invariant metric."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import ACTIVATIONS, planted, relative_error
from sparsemf.measures import Ball, Empirical, Gaussian, Network, difference, l2_distance
from sparsemf.symmetry import (
    disguise,
    domain_reduction,
    group,
    grouped_bound,
    leaders,
    quotient,
    quotient_distances,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(ACTIVATIONS),
    seed=st.integers(0, 10**6),
    atoms=st.integers(0, 12),
    outputs=st.sampled_from([1, 3]),
    surplus=st.integers(0, 90),
)
def test_random_group_elements(name: str, seed: int, atoms: int, outputs: int, surplus: int) -> None:
    rng = np.random.default_rng(seed)
    base = Network(
        rng.normal(0, 1, (atoms, outputs)), rng.normal(0, 1, (atoms, 4)), rng.normal(0, 1, atoms), name,
        affine=rng.normal(0, 1, (outputs, 4)), offset=rng.normal(0, 1, outputs),
    )  # fmt: skip
    first, second = (disguise(base, rng, width=atoms + surplus) for _ in range(2))
    x = rng.standard_normal((64, 4))
    truth = base(x)
    qa, qb = quotient(first), quotient(second)
    scale = np.max(np.abs(truth)) + np.sum(np.abs(first.alpha))
    # f unchanged to 1e-12 relative (of what rounding scales with), by the quotient and by its inverse
    for network in (first, qa.network, qa.invert()):
        assert np.max(np.abs(network(x) - truth)) <= 1e-12 * scale
    assert qa.invert().width == first.width
    # the bound that the quotient states for itself
    assert np.sqrt(np.mean(np.sum((qa.network(x) - first(x)) ** 2, axis=1))) <= 10 * qa.error + 1e-300
    # two disguises of one network: the same canonical form
    assert qa.network.width == qb.network.width == quotient(base).network.width
    if qa.network.width:
        np.testing.assert_allclose(qa.network.inner, qb.network.inner, atol=1e-12)
        np.testing.assert_allclose(qa.network.bias, qb.network.bias, atol=1e-12)
        np.testing.assert_allclose(qa.network.alpha, qb.network.alpha, atol=1e-12 * scale)
    np.testing.assert_allclose(qa.network.affine, qb.network.affine, atol=1e-12 * scale)
    # idempotent, bit for bit
    again = quotient(qa.network)
    assert np.array_equal(again.network.inner, qa.network.inner)
    assert np.array_equal(again.network.alpha, qa.network.alpha)
    assert again.flips == again.merged == 0


def test_counts_by_reason() -> None:
    net = Network(
        outer=[[0.0], [1.0], [2.0], [1.0], [0.5]],
        inner=[[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [-1.0, -1.0], [2.0, 2.0]],
        bias=[1.0, 3.0, 0.0, 0.0, 0.0],
        activation="relu",
    )
    q = quotient(net)
    assert q.inactive == {"zero_outer": 1, "constant": 1}
    assert (q.active, q.network.width, q.flips, q.merged) == (3, 1, 1, 2)
    assert q.network.offset == pytest.approx([3.0])
    assert q.network.alpha[0, 0] == pytest.approx((2.0 + 1.0 + 1.0) * np.sqrt(2.0))


def test_opposite_relus_on_one_hyperplane() -> None:
    """One kink plus an affine part; with cancelling jumps an affine function."""
    one = quotient(Network([[1.0], [2.0]], [[1.0, 2.0], [-1.0, -2.0]], [0.5, -0.5], "relu"))
    assert one.network.width == 1
    none = quotient(Network([[1.0], [-1.0]], [[1.0, 2.0], [-1.0, -2.0]], [0.5, -0.5], "relu"))
    assert none.network.width == 0
    assert none.cancelled == 1
    np.testing.assert_allclose(none.network.affine, [[1.0, 2.0]], atol=1e-15)
    np.testing.assert_allclose(none.network.offset, [0.5], atol=1e-15)


def test_near_dipoles_are_not_merged() -> None:
    net = Network([[1e6], [-1e6]], [[1.0, 0.0], [1.0, 1e-9]], [0.0, 0.0], "tanh")
    assert quotient(net).network.width == 2


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_metric_does_not_jump_at_the_half_space(name: str) -> None:
    """Neurons on the two sides of the flip boundary are as close as their points."""
    a = Network([[1.0]], [[1e-3, 1.0]], [0.2], name)
    b = Network([[1.0]], [[-1e-3, 1.0]], [0.2], name)
    near = float(quotient_distances(a, b)[0, 0])
    assert near <= 2.1e-3
    flipped = quotient(disguise(b, np.random.default_rng(0), width=1)).network
    assert float(quotient_distances(a, flipped)[0, 0]) == pytest.approx(near, abs=1e-12)


def test_metric_is_invariant_and_a_pseudometric() -> None:
    rng = np.random.default_rng(3)
    net = planted(rng, "gelu", atoms=6, outputs=2, bias=True)
    flip = Network(net.outer, -net.inner, -net.bias, "gelu")  # same coefficients: s = +1
    np.testing.assert_allclose(np.diag(quotient_distances(net, flip)), 0.0, atol=1e-14)
    d = quotient_distances(net, net)
    np.testing.assert_allclose(d, d.T, atol=1e-13)
    for i in range(6):
        for j in range(6):
            assert (d[i, j] <= d[i] + d[j] + 1e-12).all()


def test_leaders_match_brute_force() -> None:
    rng = np.random.default_rng(4)
    base = rng.standard_normal((40, 5))
    points = np.concatenate([base, -base + 1e-9 * rng.standard_normal((40, 5))])
    leader, sign = leaders(points, np.full(80, 1e-7), flips=True)
    assert np.array_equal(np.unique(leader).size, 40)
    np.testing.assert_allclose(points, sign[:, None] * points[leader], atol=1e-7)
    assert np.unique(leaders(points, np.full(80, 1e-7), flips=False)[0]).size == 80


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("move", [0.0, 1e-9, 1e-4, 1e-1])
def test_grouped_bound_is_an_upper_bound(name: str, move: float) -> None:
    rng = np.random.default_rng(5)
    f = planted(rng, name, d=3, atoms=4, outputs=2, bias=True)
    g = quotient(f.with_(inner=f.inner + move * rng.standard_normal(f.inner.shape))).network
    h = difference(f, g)
    bound = grouped_bound(h, group(h, max(3 * move, 1e-12)))
    assert l2_distance(f, g, Gaussian.standard(3)).lower <= bound
    x = rng.standard_normal((4000, 3))
    x *= 2.0 / np.linalg.norm(x, axis=1)[:, None]
    sup = grouped_bound(h, group(h, max(3 * move, 1e-12)), Ball(2.0))
    assert np.max(np.linalg.norm(h(x), axis=1)) <= sup
    if move == 0.0:
        assert bound < 1e-12


def test_domain_reduction_on_data() -> None:
    rng = np.random.default_rng(6)
    x = rng.uniform(0.0, 1.0, (100, 3))
    net = Network([[1.0], [2.0], [3.0]], np.eye(3), [0.5, -2.0, -0.5], "relu")
    found = domain_reduction(net, Empirical.of(x))
    assert (found.always_on, found.always_off, found.network.width) == (1, 1, 1)
    np.testing.assert_allclose(found.network(x), net(x), atol=1e-14)


def test_invert_carries_a_refit_back() -> None:
    rng = np.random.default_rng(7)
    source = disguise(planted(rng, "gelu", outputs=2, bias=True), rng, 40)
    q = quotient(source)
    changed = q.network.with_(outer=q.network.outer + 0.1 * rng.standard_normal(q.network.outer.shape))
    x = rng.standard_normal((30, 8))
    back = q.invert(changed)
    assert back.width == source.width
    assert relative_error(back(x), changed(x)) < 1e-12
    with pytest.raises(ValueError, match="atoms"):
        q.invert(source)
