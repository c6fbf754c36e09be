"""Recovery where the affine part is charged: kernels and distances by quadrature, derivatives by differences."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss

from cases import planted
from sparsemf.activations import get
from sparsemf.measures import Atoms, Network
from sparsemf.measures.gaussian import beyond_affine
from sparsemf.recovery import Problem
from sparsemf.recovery.derivatives import Moves, Slopes
from sparsemf.recovery.geometry import GaussianGeometry
from sparsemf.recovery.nested import nested
from sparsemf.recovery.population import Target, _evaluate, _gradient, _moved
from sparsemf.recovery.refit import refit

SMOOTH = ("gelu", "tanh", "sigmoid", "exp", "cubic")


def grid(d: int, points: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Product quadrature of N(0, I_d)."""
    node, weight = hermegauss(points)
    axes = np.meshgrid(*[node] * d, indexing="ij")
    mass = np.ones(())
    for _ in range(d):
        mass = np.multiply.outer(mass, weight / np.sqrt(2 * np.pi))
    return np.stack([a.ravel() for a in axes], axis=1), mass.ravel()


@pytest.mark.parametrize("name", [*SMOOTH, "relu"])
@pytest.mark.parametrize("free", [0, -1])
def test_the_kernel_by_quadrature(name: str, free: int) -> None:
    """The third atom is a constant: it counts where constants are charged, and is nothing where they are free."""
    x, mass = grid(1, 150)
    sigma = get(name)
    atoms = Atoms(sigma, np.array([[0.7], [-0.4], [0.0]]), np.array([0.3, -0.2, 0.6]))
    phi = sigma.value(x @ atoms.inner.T + atoms.bias)
    phi = phi - (mass @ phi if free == 0 else 0.0)
    truth = phi.T @ (mass[:, None] * phi)
    off = 2e-3 if name == "relu" else 1e-10
    for degree in (None, 60):
        np.testing.assert_allclose(beyond_affine(atoms, atoms, degree, free), truth, atol=off)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("free", [0, -1])
def test_certified_distances_contain_those_by_quadrature(name: str, free: int) -> None:
    """‖f − g‖ for f with A and c and g without, c the best one where it is free."""
    rng = np.random.default_rng([4, *name.encode()])
    inner, bias = 0.6 * rng.standard_normal((4, 2)), 0.5 * rng.standard_normal(4)
    f = Network(rng.standard_normal((4, 2)), inner, bias, name, affine=[[0.3, -0.4], [0.2, 0.9]], offset=[0.7, -0.5])
    x, mass = grid(2, 96)
    problem = Problem(f, GaussianGeometry.of(f, free))

    def distance(atoms: Atoms, beta: np.ndarray) -> float:
        rest = f(x) - atoms.activation.value(x @ atoms.inner.T + atoms.bias) @ beta
        rest = rest - (mass @ rest if free == 0 else 0.0)
        return float(np.sqrt(mass @ np.sum(rest**2, axis=1)))

    nothing = Atoms(f.activation, np.zeros((0, 2)), np.zeros(0))
    low, high = np.sqrt(problem.energy_bounds)
    whole = distance(nothing, np.zeros((0, 2)))
    assert low * (1 - 1e-9) <= whole <= high * (1 + 1e-9)
    assert high <= low * (1 + 1e-5)
    index = np.array([2, 0])
    beta = rng.standard_normal((2, 2))
    for found, atoms, used in (
        (problem.subset_error(index, beta), problem.atoms.take(index), beta),
        (problem.dictionary_error(problem.atoms.take(index), beta), problem.atoms.take(index), beta),
        (refit(problem, problem.atoms.take(index)).error, *_own(problem, index)),
    ):
        assert found == pytest.approx(distance(atoms, used), rel=1e-5)
    path = nested(problem, problem.atoms.take(index), index)
    for size in (1, 2):
        best = path.dictionary(problem, size)
        assert path.errors[size] == pytest.approx(distance(best.atoms, best.beta), rel=1e-5)
        moved = refit(problem, problem.atoms.take(index[:size]))
        assert moved.error <= distance(best.atoms, best.beta + 0.01) * (1 + 1e-9)  # the best coefficients are better


def _own(problem: Problem, index: np.ndarray) -> tuple[Atoms, np.ndarray]:
    found = refit(problem, problem.atoms.take(index))
    return found.atoms, found.beta


@pytest.mark.parametrize("name", ["gelu", "tanh", "relu"])
@pytest.mark.parametrize("free", [0, -1])
def test_the_refinement_follows_the_slope(name: str, free: int) -> None:
    """½∂F against central differences of F, along random moves."""
    rng = np.random.default_rng(6)
    f = planted(rng, name, d=3, atoms=5, outputs=2, bias=True, affine=True, length=1.0)
    problem = Problem(f, GaussianGeometry.of(f, free))
    target = Target.of(problem.atoms, f.alpha, 24, free, problem.charged)
    atoms = Atoms(f.activation, rng.standard_normal((2, 3)), rng.standard_normal(2))
    state = _evaluate(atoms, target)
    gradient = _gradient(state, target, Slopes.of(state.expansion, state.expansion))
    unit = state.expansion.unit
    for _ in range(3):
        turn = rng.standard_normal((2, 3))
        move = Moves(rng.standard_normal(2), rng.standard_normal(2), turn - np.sum(turn * unit, axis=1)[:, None] * unit)
        h = 1e-5
        ends = [_evaluate(_moved(state, move.scaled(*[np.full(2, s * h)] * 3)), target).value for s in (1, -1)]
        assert (ends[0] - ends[1]) / (4 * h) == pytest.approx(gradient.dot(move), rel=1e-4, abs=1e-7)


def test_nothing_is_charged_where_affine_functions_are_free() -> None:
    net = Network([[1.0]], [[1.0, 2.0]], [0.5], "gelu", affine=[[3.0, 4.0]], offset=[5.0])
    assert Problem(net, GaussianGeometry.of(net)).charged is None
    for free, norm in ((0, 5.0), (-1, np.sqrt(50.0))):
        charged = Problem(net, GaussianGeometry.of(net, free)).charged
        assert charged is not None
        assert charged.norm == pytest.approx(norm)
