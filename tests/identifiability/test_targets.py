"""Targets by Hermite coefficients: against evaluation, networks' own spectra, and known ranks; kink masses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate

from cases import planted
from sparsemf import Network
from sparsemf.activations.quadrature import normalised_hermite
from sparsemf.identifiability import (
    Flattening,
    HermiteTarget,
    invariant_threshold,
    ridge_variation,
    spectrum,
    stechkin_curve,
)
from sparsemf.identifiability.kinks import relu_length
from sparsemf.measures import Atoms
from sparsemf_datasets import load_task


def test_single_index_is_a_polynomial_of_one_direction() -> None:
    u, x = np.array([3.0, 4.0]), np.random.default_rng(0).standard_normal((50, 2))
    target = HermiteTarget.single_index(u, [1.0, 0.0, 0.5, -2.0])
    g = x @ u / 5
    np.testing.assert_allclose(
        target(x)[:, 0], 1 + 0.5 * (g**2 - 1) / math.sqrt(2) - 2 * (g**3 - 3 * g) / math.sqrt(6), atol=1e-12
    )
    assert target.norm() == pytest.approx(math.sqrt(1 + 0.25 + 4))
    assert target.norm(2) == pytest.approx(math.sqrt(4.25))


def test_networks_have_the_same_spectra_as_their_expansions() -> None:
    rng = np.random.default_rng(1)
    net = planted(rng, "gelu", d=4, atoms=3, outputs=2, bias=True, affine=True)
    target = HermiteTarget.of_network(net, 10)
    for found in target.spectra((1, 2, 3)):
        own = spectrum(net, found.flattening)
        size = min(found.energy.size, own.energy.size)
        np.testing.assert_allclose(np.sqrt(found.energy[:size]), np.sqrt(own.energy[:size]), atol=1e-7)
        assert found.energy.sum() == pytest.approx(own.energy.sum(), rel=1e-10)
    x = rng.standard_normal((20_000, 4))
    rest = np.sqrt(np.mean(np.sum((net(x) - target(x)) ** 2, axis=1)))
    assert rest <= 1.1 * target.error


def test_a_barron_sum_of_cosines_is_a_network() -> None:
    rng = np.random.default_rng(2)
    net = Network(rng.standard_normal((4, 1)), rng.standard_normal((4, 2)), rng.standard_normal(4), "cos")
    target = HermiteTarget.of_network(net, 30)
    x = rng.standard_normal((200, 2))
    np.testing.assert_allclose(target(x), net(x), atol=1e-3)
    assert target.error < 1e-4


@pytest.mark.parametrize(("combine", "rank"), [("sum", 3), ("product", 3)])
def test_tasks_carry_their_expansion(combine: str, rank: int) -> None:
    task = load_task("hermite-multi-index", combine=combine, directions=3, degree=2 if combine == "sum" else 1)
    x, y = task.sample(100, 0)
    assert task.expansion is not None
    np.testing.assert_allclose(task.expansion(x), y, atol=1e-10)
    assert task.expansion.norm() == pytest.approx(1.0)
    # x₁x₂x₃ and he₂(x₁) + he₂(x₂) + he₂(x₃): no two ridge functions of any kind come close
    assert invariant_threshold(task.expansion.spectra(), 0.1).value == rank


def test_single_index_task_has_rank_one() -> None:
    task = load_task("hermite-single-index", degree=4)
    x, y = task.sample(50, 1)
    assert task.expansion is not None
    np.testing.assert_allclose(task.expansion(x), y, atol=1e-10)
    assert invariant_threshold(task.expansion.spectra(), 1e-3).value == 1


def test_planted_tasks_carry_their_teachers_expansion() -> None:
    task = load_task("planted-tanh", d=3, atoms=2)
    assert task.expansion is not None
    assert task.expansion.error < 0.5
    assert load_task("planted-relu", d=60, atoms=60).expansion is None  # too many multi-indices


def test_rotating_the_frame_changes_no_spectrum() -> None:
    """he₂(x₁)he₁(x₂) in its frame, and expanded in a rotated one as Σ of ridge functions."""
    target = HermiteTarget(np.eye(2, 3), np.array([[2, 1]]), np.ones(1))
    # x²y/√2-type product by polarisation: (x²−1)y/√2 = Σ c_j he₃(⟨u_j, x⟩) for u = (1, ±1)/√2 and e₂
    root = math.sqrt(0.5)
    directions = np.array([[root, root, 0.0], [-root, root, 0.0], [0.0, 1.0, 0.0]])
    scale = math.sqrt(6) / (math.sqrt(2) * 6)
    gamma = np.zeros((3, 4))
    gamma[:, 3] = scale * np.array([2 * math.sqrt(2), 2 * math.sqrt(2), -2.0])
    other = HermiteTarget.ridge_sum(directions, gamma)
    x = np.random.default_rng(3).standard_normal((40, 3))
    np.testing.assert_allclose(target(x), other(x), atol=1e-12)
    for a, b in zip(target.spectra((1, 2)), other.spectra((1, 2)), strict=True):
        size = min(a.energy.size, b.energy.size)
        np.testing.assert_allclose(np.sqrt(a.energy[:size]), np.sqrt(b.energy[:size]), atol=1e-9)
        assert not (b.energy[size:] > 1e-15).any()
    assert invariant_threshold(target.spectra((1,)), 0.3).value == 2


def test_spectra_by_a_full_tensor() -> None:
    """T_3 of a random target as a dense 3-way array, flattened by numpy."""
    rng = np.random.default_rng(4)
    indices = np.array([[a, b, 3 - a - b] for a in range(4) for b in range(4 - a)])
    target = HermiteTarget(np.eye(3), indices, rng.standard_normal(len(indices)))
    dense = np.zeros((3, 3, 3))
    for beta, value in zip(indices, target.values[:, 0], strict=True):
        places = [i for i, count in enumerate(beta) for _ in range(count)]
        multiplicity = 6 / np.prod([math.factorial(c) for c in beta])
        for order in {tuple(np.array(places)[list(p)]) for p in np.ndindex(3, 3, 3) if sorted(p) == [0, 1, 2]}:
            dense[order] = value / math.sqrt(multiplicity)
    expected = np.linalg.svd(dense.reshape(3, 9), compute_uv=False)
    np.testing.assert_allclose(np.sqrt(target.spectra((1,))[0].energy), expected, atol=1e-10)
    assert Flattening(1, 3, 3).counts == "directions"


def test_n_term_error_and_stechkin() -> None:
    rng = np.random.default_rng(5)
    target = HermiteTarget.of_network(planted(rng, "tanh", d=3, atoms=3), 9)
    sizes = np.arange(0, 200, 7)
    exact = target.best_terms(sizes)
    bound, _ = stechkin_curve(target.sizes(2), 2.0, sizes)
    assert (exact <= bound + target.error + 1e-12).all()
    assert exact[0] == pytest.approx(target.norm(2) + target.error)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HermiteTarget(np.ones((1, 2)), np.zeros((1, 1)), np.ones(1)),
        lambda: HermiteTarget(np.eye(2), np.array([[1, 0], [1, 0]]), np.ones(2)),
        lambda: HermiteTarget(np.eye(2), np.array([[-1, 0]]), np.ones(1)),
        lambda: HermiteTarget(np.eye(2), np.array([[1]]), np.ones(1)),
        lambda: HermiteTarget(np.eye(2), np.array([[1, 0]]), np.array([np.inf])),
        lambda: HermiteTarget.ridge_sum(np.ones((1, 2)), np.ones((1, 3))),
        lambda: HermiteTarget.ridge_sum(np.eye(30), np.ones((30, 12))),
    ],
)
def test_bad_targets_are_refused(make) -> None:
    with pytest.raises(ValueError, match=r"expected|too many"):
        make()


@pytest.mark.parametrize("gamma", [[0, 0, 1.0], [0, 0, 0, 1.0], [1.0, 2.0, 0.3, -0.5, 0.2], [0] * 10 + [1.0]])
def test_kink_mass_by_quadrature(gamma: list[float]) -> None:
    """∫|h″|ρ by adaptive quadrature: below the bound, and close to it."""

    def density(s: float) -> float:
        k = np.arange(2, len(gamma))
        second = normalised_hermite(np.array([s]), len(gamma) - 3)[0] @ (np.sqrt(k * (k - 1.0)) * np.array(gamma)[2:])
        t = abs(s)
        u = 0.5 * math.erfc(t / math.sqrt(2))
        phi = math.exp(-0.5 * t * t) / math.sqrt(2 * math.pi)
        return abs(second) * math.sqrt(max((1 + t * t) * u - t * phi - (phi - t * u) ** 2 - u * u, 0.0))

    exact = sum(integrate.quad(density, a, a + 0.5, limit=200)[0] for a in np.arange(-10, 10, 0.5))
    bound = ridge_variation([gamma])
    assert exact * (1 - 1e-9) <= bound <= exact * 1.05
    assert ridge_variation([gamma], cells=128_000) <= exact * 1.01


def test_kink_mass_is_at_least_the_norm_and_adds_up() -> None:
    """B ≥ ‖f‖_⊥ (atoms are normalised), affine parts cost nothing, ridges add."""
    assert ridge_variation([[3.0, -2.0]]) == 0.0
    assert ridge_variation([[3.0, -2.0, 1.0]]) >= 1.0
    two = ridge_variation([[0, 0, 1.0, 0], [0, 0, 0, 1.0]])
    assert two == pytest.approx(ridge_variation([[0, 0, 1.0]]) + ridge_variation([[0, 0, 0, 1.0]]))
    outputs = np.zeros((1, 3, 2))
    outputs[0, 2] = [3.0, 4.0]
    assert ridge_variation(outputs) == pytest.approx(5 * ridge_variation([[0, 0, 1.0]]), rel=1e-3)
    with pytest.raises(ValueError, match="degree"):
        ridge_variation(np.ones((1, 40)))


def test_relu_lengths_by_the_series() -> None:
    s = np.linspace(0, 5, 21)
    atoms = Atoms(Network([[1.0]], [[1.0]]).activation, np.ones((21, 1)), -s)
    exact = np.sqrt(np.sum(atoms.hermite(2000)[:, 2:] ** 2, axis=1))  # from below: what is left out is positive
    found = relu_length(s)
    assert (found >= exact).all()
    np.testing.assert_allclose(found, relu_length(-s), rtol=1e-12)
    np.testing.assert_allclose(found, exact, rtol=1e-3)


def test_maurey_for_a_relu_network_of_he_2() -> None:
    """n explicit relu atoms drawn from the kink density come within Maurey's bound on average."""
    mass, rng, n = ridge_variation([[0, 0, 1.0]]), np.random.default_rng(6), 20
    grid = np.linspace(-8, 8, 4001)
    density = math.sqrt(2) * relu_length(grid)
    draws = rng.choice(grid, (300, n), p=density / density.sum())
    g = rng.standard_normal(6_000)
    basis = np.stack([np.ones_like(g), g], axis=1) / math.sqrt(g.size)
    errors = []
    for row in draws:
        atoms = np.maximum(g[:, None] - row, 0.0) / relu_length(row)
        rest = (g**2 - 1) / math.sqrt(2) - mass / n * atoms.sum(axis=1)
        rest = rest - basis @ np.linalg.lstsq(basis, rest, rcond=None)[0]
        errors.append(np.mean(rest**2))
    assert np.mean(errors) == pytest.approx((mass**2 - 1) / n, rel=0.1)
