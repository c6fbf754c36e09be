"""Polynomial activations: ranks of matrices and forms, moments, Kruskal's bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import Array, evaluation_scale, planted
from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.symmetry import disguise, kruskal, moments, quotient
from sparsemf.symmetry.algebraic import k_rank

POLYNOMIALS = ["linear", "quadratic", "cubic", "hermite(2)", "hermite", "hermite(5)"]


def values(network: Network) -> Array:
    """Singular values (linear) or eigenvalues (one form): the invariants of the canonical form."""
    return np.sort(np.linalg.norm(network.alpha, axis=1) * np.linalg.norm(network.inner, axis=1))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    atoms=st.integers(1, 9),
    rank=st.integers(1, 4),
    outputs=st.sampled_from([1, 3]),
    affine=st.booleans(),
)
def test_linear_networks_are_matrices(seed: int, atoms: int, rank: int, outputs: int, affine: bool) -> None:
    rng = np.random.default_rng(seed)
    inner = rng.standard_normal((atoms, rank)) @ rng.standard_normal((rank, 4))
    f = Network(rng.standard_normal((atoms, outputs)), inner, rng.standard_normal(atoms), "linear",
                affine=rng.standard_normal((outputs, 4)) if affine else None)  # fmt: skip
    matrix = f.alpha.T @ f.inner + f.affine
    truth = np.linalg.svd(matrix, compute_uv=False)
    truth = np.sort(truth[truth > 1e-10])
    x = rng.standard_normal((50, 4))
    for g in (f, disguise(f, rng, atoms + 9)):
        found = quotient(g)
        assert found.network.width == truth.size
        assert not found.network.affine.any()
        assert not found.network.bias.any()
        np.testing.assert_allclose(values(found.network), truth, rtol=1e-9)
        np.testing.assert_allclose(found.network.offset, f.alpha.T @ f.bias, atol=1e-10)
        assert found.invert().width == g.width
        for h in (found.network, found.invert()):
            assert np.max(np.abs(h(x) - f(x))) <= 1e-12 * evaluation_scale(g, x)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["quadratic", "hermite(2)"]),
    seed=st.integers(0, 10**6),
    atoms=st.integers(1, 9),
    rank=st.integers(1, 4),
    polynomial=st.booleans(),
)
def test_one_quadratic_form(name: str, seed: int, atoms: int, rank: int, polynomial: bool) -> None:
    """One output: eigenvalues of Σ α wwᵀ + Q, whatever the biases; the rank is the number of atoms."""
    rng = np.random.default_rng(seed)
    inner = rng.standard_normal((atoms, rank)) @ rng.standard_normal((rank, 4))
    form = rng.standard_normal((4, 1))
    f = Network(rng.standard_normal((atoms, 1)), inner, rng.standard_normal(atoms), name,
                quadratic=(form @ form.T)[None] if polynomial else None)  # fmt: skip
    truth = np.linalg.eigvalsh((f.inner * f.alpha).T @ f.inner + (form @ form.T if polynomial else 0.0))
    truth = np.sort(truth[np.abs(truth) > 1e-10])
    x = rng.standard_normal((50, 4))
    for g in (f, disguise(f, rng, atoms + 9)):
        found = quotient(g)
        np.testing.assert_allclose(np.sort(found.network.alpha[:, 0]), truth, rtol=1e-8, atol=1e-12)
        assert not found.network.bias.any()
        assert found.network.quadratic is None
        np.testing.assert_allclose(np.linalg.norm(found.network.inner, axis=1), 1.0, rtol=1e-14)
        for h in (found.network, found.invert()):
            assert np.max(np.abs(h(x) - f(x))) <= 1e-12 * evaluation_scale(g, x)


@pytest.mark.parametrize("name", ["quadratic", "hermite(2)"])
def test_several_forms_merge_lines(name: str) -> None:
    """Several outputs: ±w, tw and other biases of one line are one atom."""
    w = np.array([[1.0, 2.0], [-2.0, -4.0], [0.5, 1.0], [1.0, 0.0]])
    f = Network([[1.0, 0.0], [0.0, 1.0], [3.0, 1.0], [1.0, 1.0]], w, [0.0, 1.0, -1.0, 2.0], name)
    found = quotient(f)
    assert found.network.width == 2
    x = np.random.default_rng(0).standard_normal((50, 2))
    np.testing.assert_allclose(found.network(x), f(x), atol=1e-13)
    np.testing.assert_allclose(found.invert()(x), f(x), atol=1e-13)
    assert not found.unique


def test_equal_forms_of_different_atoms() -> None:
    """2xy = ((x + y)² − (x − y)²)/2 = −(x − y)² + x² + y²: one canonical form."""
    f = Network([[0.5], [-0.5]], [[1.0, 1.0], [1.0, -1.0]], None, "quadratic")
    g = Network([[-1.0], [1.0], [1.0]], [[1.0, -1.0], [1.0, 0.0], [0.0, 1.0]], None, "quadratic")
    for found in (quotient(f), quotient(g)):
        np.testing.assert_allclose(np.sort(found.network.alpha[:, 0]), [-1.0, 1.0])
        np.testing.assert_allclose(np.abs(found.network.inner), np.sqrt(0.5))
    assert kruskal(f).unique is False


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_moments_are_the_function(name: str, outputs: int) -> None:
    """f(x) = Σ_k ⟨moment_k, x^{⊗k}⟩; the moments of a disguise and of its quotient are the same."""
    rng = np.random.default_rng(3)
    f = planted(rng, name, d=3, atoms=4, outputs=outputs, bias=True, affine=True, length=0.8)
    x = rng.standard_normal((30, 3))
    total = np.zeros((30, outputs))
    for tensor in moments(f):
        part = np.broadcast_to(tensor, (30, *tensor.shape))
        while part.ndim > 2:
            part = np.einsum("n...i,ni->n...", part, x)
        total += part
    np.testing.assert_allclose(total, f(x), atol=1e-11)
    for g in (disguise(f, rng, 20), quotient(disguise(f, rng, 20)).network):
        for one, other in zip(moments(f), moments(g), strict=True):
            np.testing.assert_allclose(other, one, atol=1e-10 * max(1.0, float(np.max(np.abs(one)))))


def test_k_rank() -> None:
    rng = np.random.default_rng(4)
    generic = rng.standard_normal((6, 4))
    assert k_rank(generic) == (4, True)
    assert k_rank(np.concatenate([generic, 2 * generic[:1]])) == (1, True)
    plane = np.concatenate([generic, generic[:1] + generic[1:2]])
    assert k_rank(plane) == (2, True)
    assert k_rank(np.zeros((2, 3))) == (0, True)
    many, exact = k_rank(np.eye(20))
    assert (many, exact) == (20, False)
    tight = np.concatenate([np.eye(20), rng.standard_normal((1, 20))])
    assert 2 <= k_rank(tight)[0] <= 20


def test_kruskal() -> None:
    """Cubic, d = 4: k = min(S, d) generically, and 3k ≥ 2S + 2 up to S = 5; with two outputs 2 + 3k ≥ 2S + 3."""
    rng = np.random.default_rng(5)
    for count, outputs, unique in (
        (1, 1, True),
        (4, 1, True),
        (5, 1, True),
        (6, 1, False),
        (5, 2, True),
        (6, 2, False),
    ):
        f = Network(rng.standard_normal((count, outputs)), rng.standard_normal((count, 3)), rng.standard_normal(count),
                    "cubic")  # fmt: skip
        found = kruskal(quotient(f).network)
        assert (found.atoms, found.exact) == (count, True)
        assert found.unique is unique
    repeated = Network([[1.0], [2.0]], [[1.0, 0.0], [2.0, 0.0]], [0.0, 0.0], "cubic")
    assert kruskal(repeated).unique is False
    assert kruskal(Network([[1.0]], [[1.0]], [0.0], "hermite")).unique
    with pytest.raises(InputError, match="polynomial"):
        kruskal(Network([[1.0]], [[1.0]], [0.0], "tanh"))
    with pytest.raises(InputError, match="polynomial"):
        moments(Network([[1.0]], [[1.0]], [0.0], "tanh"))


def test_an_affine_part_may_add_atoms() -> None:
    """A linear network of one neuron with a full affine part has a matrix of full rank; invert pays the excess back."""
    f = Network([[1.0, 2.0, 0.5]], [[1.0, 0.0, 0.0]], [1.0], "linear", affine=np.diag([1.0, 2.0, 3.0]))
    found = quotient(f)
    assert found.network.width == 3
    back = found.invert()
    assert back.width == 1
    x = np.random.default_rng(6).standard_normal((20, 3))
    np.testing.assert_allclose(back(x), f(x), atol=1e-13)
    same = quotient(back)
    np.testing.assert_allclose(same.network.alpha, found.network.alpha, atol=1e-13)
