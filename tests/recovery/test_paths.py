"""Selection and elimination against brute force; certified beginnings against independent evaluation."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

from cases import planted
from sparsemf.measures import Atoms, Empirical, Network, l2_distance
from sparsemf.measures.laws import Gaussian
from sparsemf.recovery import GaussianGeometry, Problem, backward, forward, refit
from sparsemf.recovery.empirical import EmpiricalGeometry
from sparsemf.recovery.nested import nested
from sparsemf.symmetry import quotient

Array = np.ndarray
home, module = import_module("sparsemf.recovery.nested"), import_module("sparsemf.recovery.selection")


def problem_of(activation: str, atoms: int = 70, outputs: int = 3, d: int = 6, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    size = rng.standard_normal((atoms, outputs))
    net = quotient(Network(size, rng.standard_normal((atoms, d)), 0.5 * rng.standard_normal(atoms), activation)).network
    return Problem(net, GaussianGeometry.of(net))


def residual(problem: Problem, index: Array) -> float:
    """‖f − Πf‖² by least squares on a square root of K, in a way that shares nothing with the code under test."""
    assert problem.gram is not None
    values, vectors = np.linalg.eigh(problem.gram)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    target = root.T @ problem.network.alpha
    beta = np.linalg.lstsq(root[index].T, target, rcond=None)[0]
    return float(np.sum((target - root[index].T @ beta) ** 2))


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_path_ends_where_a_block_ends_with_nothing_left(blocks: int) -> None:
    """f on so many rows that the features have the rank of whole blocks of steps (in numbers: one more, perhaps), with
    atoms to spare; and the factorisation of a matrix of exactly that rank."""
    rng, rank = np.random.default_rng(4), 48 * blocks
    x = rng.standard_normal((rank + 1, 3))
    net = Network(rng.standard_normal((rank + 40, 1)), rng.standard_normal((rank + 40, 3)), None, "tanh")
    problem = Problem(quotient(net).network, EmpiricalGeometry.of(Empirical(x), 0))
    path = forward(problem, problem.n, 0.0)
    assert path.size <= rank + 1
    assert np.unique(path).size == path.size
    assert problem.gram is not None
    exact = np.zeros((rank + 40, rank))
    exact[:rank], exact[rank:] = np.eye(rank), 1e-9 * rng.standard_normal((40, rank))
    order = module._pivots(
        exact @ exact.T, exact @ np.ones((rank, 1)), rank + 40, True, np.full(rank + 40, 1e-11), np.inf
    )
    assert sorted(order.tolist()) == list(range(rank))


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "abs"])
def test_forward_takes_the_best_atom_at_every_step(activation: str) -> None:
    problem = problem_of(activation)
    order = forward(problem, 55, 0.0)  # more than one block
    assert np.unique(order).size == 55
    for size in (0, 1, 7, 20, 47, 48, 49, 54):
        rest = np.setdiff1d(np.arange(problem.n), order[:size])
        after = {int(i): residual(problem, np.append(order[:size], i)) for i in rest}
        assert after[int(order[size])] <= min(after.values()) + 1e-9 * problem.energy


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_backward_leaves_out_the_cheapest_atom_at_every_step(activation: str) -> None:
    problem = problem_of(activation)
    assert problem.gram is not None
    order = backward(problem.gram, problem.image, 1)
    assert np.unique(order).size == problem.n
    for size in (2, 10, 21, 22, 23, 40, problem.n):
        after = [residual(problem, np.delete(order[:size], i)) for i in range(size)]
        assert after[-1] <= min(after) + 1e-9 * problem.energy


def test_forward_extends_a_base_of_foreign_atoms() -> None:
    problem = problem_of("gelu", atoms=15)
    rng = np.random.default_rng(5)
    base = Atoms(problem.network.activation, rng.standard_normal((6, 6)), rng.standard_normal(6))
    added = forward(problem, 2, 0.0, base)
    current = base
    for step in range(2):
        errors = [refit(problem, Atoms.joined(current, problem.atoms.take(np.array([i])))).error for i in range(15)]
        assert errors[added[step]] <= min(errors) * (1 + 1e-9)
        current = Atoms.joined(current, problem.atoms.take(added[step : step + 1]))


def test_forward_in_batches_is_weakly_greedy(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of("gelu", atoms=120)
    usual = forward(problem, 40, 0.0)
    least = 1e-11 * problem.diagonal
    batched = module._forward_in_batches(problem, 40, 0.0, least)
    assert np.unique(batched).size == 40
    assert residual(problem, batched) <= 1.2 * residual(problem, usual)
    monkeypatch.setattr(module, "_WEAK", 1.0)  # then it is the greedy path itself
    assert (module._forward_in_batches(problem, 40, 0.0, least) == usual).all()


def test_duplicates_end_the_path_at_numerical_rank() -> None:
    rng = np.random.default_rng(1)
    inner = rng.standard_normal((5, 4))
    net = Network(rng.standard_normal((10, 1)), np.concatenate([inner, inner * (1 + 1e-13)]), None, "tanh")
    problem = Problem(net, GaussianGeometry.of(net))
    assert forward(problem, 10, 0.0).size == 5


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("written_out", [False, True])
def test_certified_beginnings(activation: str, written_out: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """errors[S] is above the distance that another geometry computes, and close to the least-squares optimum."""
    outputs = 2
    if not written_out:
        monkeypatch.setattr(home, "_doubtful", lambda *_: [])
    problem = problem_of(activation, atoms=40, outputs=outputs)
    order = forward(problem, 40, 0.0)
    path = nested(problem, problem.atoms.take(order), order)
    again = nested(problem, problem.atoms.take(order))  # as foreign atoms
    assert path.errors[0] == pytest.approx(np.sqrt(problem.energy), rel=1e-9)
    for size in (1, 2, 13, 30, 39):
        truth = np.sqrt(residual(problem, order[:size]))
        assert path.errors[size] >= truth * (1 - 1e-9)
        assert path.errors[size] <= truth * (1 + 1e-5) + 1e-5 * path.errors[0]
        assert again.errors[size] == pytest.approx(path.errors[size], rel=1e-3)
        found = path.dictionary(problem, size)
        affine, offset = problem.geometry.affine(problem.network, found.atoms, found.beta)
        g = Network(found.beta, found.atoms.inner, found.atoms.bias, activation, affine=affine, offset=offset)
        distance = l2_distance(problem.network, g, Gaussian.standard(6))
        assert distance.lower <= path.errors[size]
        assert distance.upper >= path.errors[size] * (1 - 1e-3)


def test_certified_beginnings_do_not_depend_on_the_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong triangular factors make worse coefficients, never a bound below the distance."""
    problem = problem_of("gelu", atoms=25)
    order = forward(problem, 25, 0.0)
    monkeypatch.setattr(home, "_doubtful", lambda *_: [])
    good = nested(problem, problem.atoms.take(order), order)
    rng = np.random.default_rng(2)
    exact = home.factorised
    monkeypatch.setattr(home, "factorised", lambda gram: exact(gram) * (1 + 0.01 * rng.standard_normal(gram.shape)))
    bad = nested(problem, problem.atoms.take(order), order)
    assert (bad.errors[1:-1] >= good.errors[1:-1] * (1 - 1e-9)).all()
    assert (bad.errors[5:20] > good.errors[5:20]).any()


def test_certified_beginnings_on_data() -> None:
    rng = np.random.default_rng(3)
    net = quotient(planted(rng, "silu", d=4, atoms=12, outputs=2, bias=True)).network
    law = Empirical.of(rng.uniform(-2, 2, (200, 4)))
    problem = Problem(net, EmpiricalGeometry.of(law))
    order = forward(problem, 12, 0.0)
    path = nested(problem, problem.atoms.take(order), order)
    for size in (1, 5, 11):
        found = path.dictionary(problem, size)
        affine, offset = problem.geometry.affine(net, found.atoms, found.beta)
        g = Network(found.beta, found.atoms.inner, found.atoms.bias, "silu", affine=affine, offset=offset)
        gap = net(law.x) - g(law.x)
        assert np.sqrt(np.mean(np.sum(gap**2, axis=1))) <= path.errors[size]
