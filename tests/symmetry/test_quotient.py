"""The quotient: invariance under random group elements, idempotence, round trip, the flip-invariant metric."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import ACTIVATIONS, evaluation_scale, planted
from sparsemf.activations import get
from sparsemf.exceptions import InputError
from sparsemf.measures import Ball, Empirical, Gaussian, Network, difference, l2_distance
from sparsemf.symmetry import (
    Quotient,
    accepts,
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
    scale = max(evaluation_scale(f, x) for f in (first, second, base))
    # f unchanged to 1e-12 relative (of what rounding scales with), by the quotient and by its inverse
    for network in (first, qa.network, qa.invert()):
        assert np.max(np.abs(network(x) - truth)) <= 1e-12 * scale
    assert qa.invert().width == first.width
    # the bound that the quotient states for itself
    assert np.sqrt(np.mean(np.sum((qa.network(x) - first(x)) ** 2, axis=1))) <= 10 * qa.error + 1e-300
    # two disguises of one network: the same canonical form
    assert qa.network.width == qb.network.width == quotient(base).network.width
    same_form(qa, qb, scale)
    # idempotent, bit for bit; where atoms come from a decomposition, to rounding
    again = quotient(qa.network)
    if base.activation.kind in ("atoms", "tensor", "kinks") or (base.activation.kind == "frequencies" and outputs == 1):
        assert np.array_equal(again.network.inner, qa.network.inner)
        assert np.array_equal(again.network.alpha, qa.network.alpha)
    else:
        assert again.network.width == qa.network.width
        same_form(again, qa, scale)
    assert again.flips == again.merged == 0


def same_form(a: Quotient, b: Quotient, scale: float) -> None:
    """Equal canonical forms, matched by the quotient metric: to rounding, where they are unique or should be."""
    f, g = a.network, b.network
    for first, second in ((f.affine, g.affine), (f.offset, g.offset)):
        np.testing.assert_allclose(first, second, atol=1e-12 * scale, rtol=0)
    if f.quadratic is not None and g.quadratic is not None:
        np.testing.assert_allclose(f.quadratic, g.quadratic, atol=1e-12 * scale, rtol=0)
    if f.width and a.unique and b.unique:
        # eigenvectors move by rounding over gap; the closest eigenvalues of these cases are some 1e-3 apart
        loss = 1e4 if f.activation.kind in ("matrix", "quadratic") else 1.0
        distance = quotient_distances(f, g)
        assert max(distance.min(axis=0).max(), distance.min(axis=1).max()) <= 1e-12 * scale * loss


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


PLACED = [name for name in ACTIVATIONS if get(name).kind not in ("matrix", "quadratic")]
"""Activations whose atoms have a place of their own."""


@pytest.mark.parametrize("name", PLACED)
def test_metric_does_not_jump_at_the_half_space(name: str) -> None:
    """Neurons on the two sides of the flip boundary are as close as their points."""
    a = Network([[1.0]], [[1e-3, 1.0]], [0.2], name)
    b = Network([[1.0]], [[-1e-3, 1.0]], [0.2], name)
    near = float(quotient_distances(a, b)[0, 0])
    assert near <= 2.1e-3
    flipped = quotient(disguise(b, np.random.default_rng(0), width=1)).network
    assert flipped.width == 1
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


@pytest.mark.parametrize("name", PLACED)
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
        assert bound < 1e-12 * (1.0 if np.isfinite(h.activation.lipschitz) else 40.0)


def test_domain_reduction_on_data() -> None:
    rng = np.random.default_rng(6)
    x = rng.uniform(0.0, 1.0, (100, 3))
    net = Network([[1.0], [2.0], [3.0]], np.eye(3), [0.5, -2.0, -0.5], "relu")
    found = domain_reduction(net, Empirical.of(x))
    assert (found.always_on, found.always_off, found.network.width) == (1, 1, 1)
    np.testing.assert_allclose(found.network(x), net(x), atol=1e-14)
    # an affine neuron is an atom where affine functions are charged; a silent one is none
    charged = domain_reduction(net, Empirical.of(x), 0)
    assert (charged.always_on, charged.always_off, charged.network.width) == (0, 1, 2)
    assert not charged.network.affine.any()
    assert domain_reduction(net.with_(activation="abs"), Empirical.of(x), -1).network.width == 3


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_invert_carries_a_refit_back(name: str, outputs: int) -> None:
    """Changed coefficients, moved atoms and zeroed ones come back as a network of the source's width."""
    rng = np.random.default_rng(7)
    source = disguise(planted(rng, name, d=5, atoms=4, outputs=outputs, bias=True, length=0.8), rng, 20)
    q = quotient(source)
    n = q.network.width
    outer = q.network.outer + 0.1 * rng.standard_normal((n, outputs))
    outer[0] = 0.0
    changed = q.network.with_(outer=outer, inner=q.network.inner + 0.1 * rng.standard_normal((n, 5)))
    x = rng.standard_normal((30, 5))
    back = q.invert(changed)
    assert back.width == source.width
    scale = evaluation_scale(back, x) + evaluation_scale(changed, x)
    assert np.max(np.abs(back(x) - changed(x))) <= 1e-13 * scale
    with pytest.raises(ValueError, match="atoms"):
        q.invert(source)


def test_relu_squared_pays_its_flips() -> None:
    """relu²(−z) = z² − relu²(z): two sides of one hyperplane are one atom and a quadratic form."""
    w, b = np.array([[1.0, -2.0]]), np.array([0.5])
    q = quotient(Network([[1.0], [3.0]], np.concatenate([w, -w]), np.concatenate([b, -b]), "relu2"))
    assert (q.network.width, q.flips, q.merged) == (1, 1, 1)
    assert q.network.alpha[0, 0] == pytest.approx((1.0 - 3.0) * 5.25)
    assert q.network.quadratic is not None
    np.testing.assert_allclose(q.network.quadratic[0], 3 * w.T @ w)
    np.testing.assert_allclose(q.network.affine, 3 * 2 * 0.5 * w)
    np.testing.assert_allclose(q.network.offset, [3 * 0.25])


def test_exp_beyond_the_range_of_numbers() -> None:
    """e^{±1000} is no float64, but α e^{z + b} with one common level is."""
    rng = np.random.default_rng(8)
    w = rng.standard_normal((3, 2))
    for level in (1000.0, -1000.0):
        f = Network(rng.standard_normal((3, 1)), w, level + np.arange(3.0), "exp")
        g = Network(f.outer * np.exp([[5.0], [0.0], [-5.0]]), w, f.bias - np.array([5.0, 0.0, -5.0]), "exp")
        a, b = quotient(f).network, quotient(g).network
        assert a.width == b.width == 3
        assert np.ptp(a.bias) == 0.0
        np.testing.assert_allclose(a.bias[0], b.bias[0])
        np.testing.assert_allclose(b.alpha, a.alpha, rtol=1e-12)
        shift = f.with_(bias=f.bias - level)
        np.testing.assert_allclose(np.sort((a.alpha * np.exp(a.bias[0] - level)).ravel()),
                                   np.sort(quotient(shift).network.alpha.ravel()), rtol=1e-12)  # fmt: skip
    # what is lost below the smallest number is charged: here e^{−1500} of e^{1000}
    lost = quotient(Network([[1.0], [1.0]], [[1.0], [2.0]], [1000.0, -1500.0], "exp"))
    assert lost.network.width == 1


@pytest.mark.parametrize("name", ["relu2", "cubic", "hermite", "exp", "quadratic", "tanh"])
def test_the_merge_error_is_a_bound(name: str) -> None:
    """Two neurons a few units in the last place apart: ‖f − f_canonical‖ by quadrature, on the exact difference."""
    rng = np.random.default_rng(9)
    for _ in range(20):
        w = 2 * rng.standard_normal(2)
        step = 1e-15 * np.array([[0.0, 0.0], [1.0, -1.0]])
        f = Network(1e3 * rng.standard_normal((2, 2)), w[None] * (1 + step), rng.standard_normal(1).repeat(2), name)
        q = quotient(f)
        assert q.network.width == 1
        node, weight = np.polynomial.hermite_e.hermegauss(60)
        x = np.stack(np.meshgrid(node, node), axis=-1).reshape(-1, 2)
        density = np.outer(weight, weight).ravel() / weight.sum() ** 2
        # σ(u) − σ(v) = σ′(v)(u − v) to second order
        moved = f.alpha[1] * (f.activation.derivative(x @ w + f.bias[0]) * (x @ (f.inner[1] - f.inner[0])))[:, None]
        assert np.sqrt(density @ np.sum(moved**2, axis=1)) <= q.error * (1 + 1e-9)


def test_gated_blocks_have_bounds_of_their_own() -> None:
    gated = Network([[1.0]], [[1.0]], gate=[[1.0]])
    with pytest.raises(InputError, match="gate"):
        group(gated, 1e-6)
    # the pre-activation of a gated relu network is not that of its values
    assert domain_reduction(gated, Empirical.of(np.array([[1.0], [2.0]]))).network is gated


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_network_is_accepted(name: str) -> None:
    assert accepts(Network([[1.0]], [[1.0]], activation=name))
    assert accepts(Network([[1.0]], [[1.0]], activation=name, gate=[[1.0]]))
