"""Gated blocks: ranks per gate, invariance under random group elements, equivariance of the polynomial part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import ACTIVATIONS, evaluation_scale, planted_gated
from sparsemf.activations import get
from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.symmetry import disguise, gated_quotient, quotient
from sparsemf.symmetry.canonical import product_displacement

UNIQUE = [name for name in ACTIVATIONS if get(name).kind == "atoms" and name != "relu2"]


def canonical_rank(network: Network) -> int:
    """Σ over exactly equal gates of the rank of Σ α (v, e)ᵀ."""
    assert network.gate is not None
    assert network.gate_bias is not None
    gates = np.concatenate([network.gate, network.gate_bias[:, None]], axis=1)
    values = np.concatenate([network.inner, network.bias[:, None]], axis=1)
    _, group = np.unique(gates, axis=0, return_inverse=True)
    group = group.ravel()
    return sum(
        int(np.linalg.matrix_rank(network.alpha[group == k].T @ values[group == k], tol=1e-10))
        for k in range(group.max() + 1)
    )


@settings(max_examples=90, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(ACTIVATIONS),
    seed=st.integers(0, 10**6),
    atoms=st.integers(1, 4),
    shared=st.integers(0, 4),
    outputs=st.sampled_from([1, 2, 4]),
    polynomial=st.booleans(),
)
def test_random_group_elements(name: str, seed: int, atoms: int, shared: int, outputs: int, polynomial: bool) -> None:
    rng = np.random.default_rng(seed)
    f = planted_gated(rng, name, 4, atoms, outputs, shared, polynomial=polynomial)
    first, second = (disguise(f, rng, f.width + extra) for extra in (0, 17))
    x = rng.standard_normal((60, 4))
    a, b = quotient(first), quotient(second)
    scale = max(evaluation_scale(g, x) for g in (f, first, second))
    for q in (a, b):
        for g in (q.network, q.invert()):
            assert np.max(np.abs(g(x) - f(x))) <= 1e-12 * scale
        assert q.invert().width == q.source.width
        rms = np.sqrt(np.mean(np.sum((q.network(x) - q.source(x)) ** 2, axis=1)))
        assert rms <= 10 * q.error + 1e-300
        again = quotient(q.network)
        assert again.network.width == q.network.width
        assert again.flips == again.merged == 0
    if get(name).kind == "matrix":
        assert a.network.width == b.network.width == 0
        return
    if name in UNIQUE:
        assert a.network.width == b.network.width == canonical_rank(f)
    if a.unique and b.unique:
        for one, other in ((a.network.affine, b.network.affine), (a.network.offset, b.network.offset)):
            np.testing.assert_allclose(one, other, atol=1e-12 * scale, rtol=0)
        forms = [np.zeros((outputs, 4, 4)) if q.network.quadratic is None else q.network.quadratic for q in (a, b)]
        np.testing.assert_allclose(*forms, atol=1e-12 * scale, rtol=0)
        for field in ("gate", "gate_bias"):
            np.testing.assert_allclose(getattr(a.network, field), getattr(b.network, field), atol=1e-12 * scale)
        # singular vectors move by rounding over gap
        for field in ("inner", "bias", "alpha"):
            np.testing.assert_allclose(getattr(a.network, field), getattr(b.network, field), atol=1e-9 * scale)
    np.testing.assert_allclose(np.hypot(np.linalg.norm(a.network.inner, axis=1), a.network.bias), 1.0, rtol=1e-13)


def test_atoms_of_one_gate_count_the_rank() -> None:
    """Three neurons on one gate, two of their values parallel: two outputs see rank 2, one output sees rank 1."""
    gate = [[1.0, -2.0]] * 3
    value = [[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]
    for m, rank in ((1, 1), (2, 2), (3, 2)):
        outer = np.random.default_rng(m).standard_normal((3, m))
        q = gated_quotient(Network(outer, value, activation="silu", gate=gate))
        assert q.network.width == rank
        assert (q.merged, q.cancelled) == (3 - rank, 0)


def test_flips_are_paid_in_full() -> None:
    """σ(u) = σ(−u) + u: (α, u, ℓ) and (−α, −u, ℓ) leave the form α u ℓ alone."""
    g, v = np.array([1.0, 2.0]), np.array([3.0, -1.0])
    f = Network([[2.0], [-2.0]], [v, v], [0.5, 0.5], "gelu", gate=[g, -g], gate_bias=[0.25, -0.25])
    q = quotient(f)
    assert (q.network.width, q.cancelled, q.flips) == (0, 1, 1)
    assert q.network.quadratic is not None
    np.testing.assert_allclose(q.network.quadratic[0], np.outer(g, v) + np.outer(v, g))
    np.testing.assert_allclose(q.network.affine[0], 2 * (0.25 * v + 0.5 * g))
    np.testing.assert_allclose(q.network.offset, [2 * 0.25 * 0.5])
    x = np.random.default_rng(0).standard_normal((20, 2))
    np.testing.assert_allclose(q.network(x), f(x), atol=1e-13)


def test_counts_by_reason() -> None:
    f = Network(
        outer=[[0.0], [1.0], [2.0], [1.0]],
        inner=[[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, -1.0]],
        activation="sigmoid",
        gate=[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]],
        gate_bias=[0.0, 0.0, 0.5, 0.0],
    )
    q = quotient(f)
    assert q.inactive == {"zero_outer": 2, "constant": 1}
    assert q.network.width == 1
    np.testing.assert_allclose(q.network.affine[0], 2 / (1 + np.exp(-0.5)) * np.ones(2))


def test_a_relu_squared_gate_keeps_its_side() -> None:
    """Its flip costs a cubic form: both sides stay, and the form says that it may not be unique."""
    f = Network([[1.0], [1.0]], [[1.0, 1.0], [1.0, 1.0]], activation="relu2", gate=[[1.0, 0.0], [-1.0, 0.0]])
    q = quotient(f)
    assert (q.network.width, q.flips, q.unique) == (2, 0, False)


@pytest.mark.parametrize("name", ["gelu", "relu2", "quadratic", "cubic", "hermite", "exp", "relu", "sigmoid"])
def test_the_displacement_of_a_product_is_a_bound(name: str) -> None:
    """‖(σ(u) − σ(u′))ℓ‖ by Gauss–Hermite quadrature in three dimensions."""
    rng = np.random.default_rng(8)
    node, weight = np.polynomial.hermite_e.hermegauss(40)
    grid = np.stack(np.meshgrid(node, node, node, indexing="ij"), axis=-1).reshape(-1, 3)
    density = np.prod(np.stack(np.meshgrid(weight, weight, weight, indexing="ij"), axis=-1), axis=-1).ravel()
    density /= density.sum()
    for move in (1e-6, 1e-2):
        for _ in range(5):
            u, value = 0.5 * rng.standard_normal(4), rng.standard_normal(4)
            step = rng.standard_normal(4)
            step *= move / np.linalg.norm(step)
            lifted = np.concatenate([grid, np.ones((grid.shape[0], 1))], axis=1)
            change = get(name).value(lifted @ (u + step)) - get(name).value(lifted @ u)
            truth = np.sqrt(density @ (change * (lifted @ value)) ** 2)
            bound = product_displacement(
                get(name), np.ones(1), u[None, :3], u[3:], np.array([np.linalg.norm(value)]), np.array([move])
            )
            assert truth <= bound * (1 + 1e-9)


def test_ungated_networks_are_refused() -> None:
    with pytest.raises(InputError, match="gate"):
        gated_quotient(Network([[1.0]], [[1.0]]))


def test_too_large_a_form_is_refused() -> None:
    """One flipped gelu gate with m·d² beyond what is stored: a clear error, and none where nothing flips."""
    d, m = 2000, 20
    gate = np.zeros((1, d))
    gate[0, 0] = -1.0
    f = Network(np.ones((1, m)), np.ones((1, d)), activation="gelu", gate=gate)
    with pytest.raises(InputError, match="m·d²"):
        quotient(f)
    assert quotient(f.with_(gate=-gate)).network.width == 1
