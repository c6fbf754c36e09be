"""Derivatives of atoms in the population, and the matrix-free Gauss–Newton search."""

from __future__ import annotations

import numpy as np
import pytest

from cases import planted
from sparsemf.measures import Atoms, Network
from sparsemf.recovery import GaussianGeometry, Problem, refit
from sparsemf.recovery.derivatives import Expansion, Moves, Products, Slopes, power_series, values
from sparsemf.recovery.population import Target, _evaluate, _gradient, _moved, _normal, settle
from sparsemf.symmetry import quotient

DEGREE = 30


def atoms_of(activation: str, n: int, seed: int, d: int = 5) -> Atoms:
    rng = np.random.default_rng(seed)
    net = Network(np.ones((n, 1)), 0.8 * rng.standard_normal((n, d)), 0.5 * rng.standard_normal(n), activation)
    return Atoms.of(net)


def moves(atoms: Atoms, seed: int, size: float = 1.0) -> Moves:
    rng = np.random.default_rng(seed)
    turn = rng.standard_normal(atoms.inner.shape)
    turn -= np.sum(turn * atoms.unit, axis=1)[:, None] * atoms.unit
    return Moves(size * rng.standard_normal(atoms.n), size * rng.standard_normal(atoms.n), size * turn)


def moved(atoms: Atoms, v: Moves, t: float) -> Atoms:
    inner = atoms.inner + t * (v.radial[:, None] * atoms.unit + v.turn)
    return Atoms(atoms.activation, inner, atoms.bias + t * v.shift)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "relu", "sin"])
def test_values_are_the_kernel_of_the_measures_room(activation: str) -> None:
    from sparsemf.measures.gaussian import beyond_affine

    a, b = atoms_of(activation, 4, 0), atoms_of(activation, 7, 1)
    mine = values(Expansion.of(a, DEGREE), Expansion.of(b, DEGREE))
    assert np.allclose(mine, beyond_affine(a, b, DEGREE), atol=1e-13)


@pytest.mark.parametrize("gaps", [None, 0, 1])
def test_power_series_with_and_without_gaps(gaps: int | None) -> None:
    """Against the plain sum, also where every second degree of some of the rights, or of all, is nothing but noise."""
    rng = np.random.default_rng(17)
    a, b = atoms_of("tanh", 4, 0).unit, atoms_of("tanh", 7, 1).unit
    groups = [(rng.standard_normal((7, n)), [rng.standard_normal((4, n)) for _ in range(2)]) for n in (12, 11)]
    for kept in ([], [0], [0, 1]):
        for index in kept:
            if gaps is not None:
                groups[index][0][:, gaps::2] *= 1e-17
        found = power_series(a, b, groups)
        true = [
            sum(left[:, None, k] * right[None, :, k] * (a @ b.T) ** k for k in range(right.shape[1]))
            for right, lefts in groups
            for left in lefts
        ]
        np.testing.assert_allclose(found, true, rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "relu", "sin"])
def test_slopes_and_products_are_difference_quotients(activation: str) -> None:
    a, b = atoms_of(activation, 4, 2), atoms_of(activation, 3, 3)
    v, w, h = moves(a, 4), moves(b, 5), 1e-4

    def kernel(s: float, t: float) -> np.ndarray:
        return values(Expansion.of(moved(a, v, s), DEGREE), Expansion.of(moved(b, w, t), DEGREE))

    first = Expansion.of(a, DEGREE)
    slopes = Slopes.of(first, Expansion.of(b, DEGREE))
    mine = v.radial[:, None] * slopes.radial + v.shift[:, None] * slopes.shift + (v.turn @ b.unit.T) * slopes.turn
    assert np.allclose(mine, (kernel(h, 0) - kernel(-h, 0)) / (2 * h), atol=1e-6)
    # the mixed derivative, by polarisation over the joint atoms
    joint = Atoms.joined(a, b)
    both = Expansion.of(joint, DEGREE)
    p = Products.of(both)
    u = Moves(
        np.concatenate([v.radial, w.radial]), np.concatenate([v.shift, w.shift]), np.concatenate([v.turn, w.turn])
    )
    angle = u.turn @ joint.unit.T
    rr, ss = np.outer(u.radial, u.radial), np.outer(u.shift, u.shift)
    cross = np.outer(u.radial, u.shift) * p.rb
    forms = rr * p.rr + cross + cross.T + ss * p.bb
    mixed = (u.radial[:, None] * p.rt + u.shift[:, None] * p.bt) * angle.T
    forms += mixed + mixed.T + p.t1 * (u.turn @ u.turn.T) + p.t2 * angle * angle.T
    quotient_ = (kernel(h, h) - kernel(h, -h) - kernel(-h, h) + kernel(-h, -h)) / (4 * h * h)
    assert np.allclose(forms[:4, 4:], quotient_, atol=2e-5 * max(1.0, float(np.abs(quotient_).max())))


def test_gradient_and_normal_matrix() -> None:
    """½ dF by differences; the Gauss–Newton matrix is symmetric, positive, and the Hessian where the residual is 0."""
    rng = np.random.default_rng(6)
    f = atoms_of("gelu", 6, 7)
    target = Target.of(f, rng.standard_normal((6, 2)), DEGREE)
    state = _evaluate(f.take(np.arange(4)), target)
    own = Slopes.of(state.expansion, state.expansion)
    v, w = moves(state.atoms, 8), moves(state.atoms, 9)

    def value(t: float, at: Atoms = state.atoms) -> float:
        return _evaluate(moved(at, v, t), target).value

    h = 1e-4
    assert 2 * _gradient(state, target, own).dot(v) == pytest.approx((value(h) - value(-h)) / (2 * h), rel=1e-5)
    normal = _normal(state, own, True)
    assert normal.apply(v).dot(w) == pytest.approx(normal.apply(w).dot(v), rel=1e-9)
    assert normal.apply(v).dot(v) > 0
    exact = _evaluate(f, target)
    u = moves(f, 10)
    hessian = _normal(exact, Slopes.of(exact.expansion, exact.expansion), True).apply(u).dot(u)
    h = 1e-3
    assert _evaluate(moved(f, u, h), target).value == pytest.approx(h * h * hessian, rel=0.05)
    assert _moved(state, v.scaled(*(np.zeros(4),) * 3)).n == 4


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "abs"])
@pytest.mark.parametrize(("d", "count"), [(6, 12), (32, 24)])
def test_planted_atoms_are_found_again(activation: str, d: int, count: int) -> None:
    rng = np.random.default_rng(11)
    truth = quotient(planted(rng, activation, d=d, atoms=count, outputs=2, bias=True)).network
    problem = Problem(truth, GaussianGeometry.of(truth))
    start = Atoms(truth.activation, truth.inner + 0.02 * rng.standard_normal(truth.inner.shape), truth.bias)
    degree = problem.geometry.degree or 96  # type: ignore[attr-defined]
    found = settle(start, Target.of(problem.atoms, truth.alpha, min(degree, 96)), True, steps=40, inner=100)
    assert found.after < 1e-13  # of ‖f‖²
    assert refit(problem, found.atoms).error < 1e-3 * refit(problem, start).error  # closed forms have wide margins
    assert (np.max(np.abs(found.atoms.unit @ problem.atoms.unit.T), axis=0) > 1 - 1e-10).all()
