"""linear, quadratic, cubic, Hermite at ε = 0: ranks in exact arithmetic, planted tensors, brackets."""

from __future__ import annotations

import numpy as np
import pytest

from cases import planted
from sparsemf.certificates.exact import exact_count
from sparsemf.measures import Network


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_linear_networks_have_no_atoms_and_the_width_of_a_rank(rank: int) -> None:
    """Integer factors: M = LR of rank r, as a network of 9 neurons, with the affine part part of M."""
    rng = np.random.default_rng(rank)
    left, right = rng.integers(-3, 4, (4, rank)), rng.integers(-3, 4, (rank, 5))
    mix = rng.integers(-2, 3, (9, 5)).astype(float)
    outer = rng.integers(-2, 3, (9, 4)).astype(float)
    net = Network(outer, mix, np.ones(9), "linear", affine=left @ right - outer.T @ mix)
    found = exact_count(net)
    assert (found.value, found.counts) == (0, "rank")
    assert found.minimal_width is not None
    assert found.minimal_width.value == (np.linalg.matrix_rank(left @ right) if rank else 0)


def test_a_linear_network_of_rank_2_that_floats_call_1() -> None:
    row = np.array([1.0, 1.0])
    near = np.array([1.0, np.nextafter(1.0, 2.0)])
    width = exact_count(Network(np.eye(2), [row, near], None, "linear")).minimal_width
    assert width is not None
    assert width.value == 2
    width = exact_count(Network(np.eye(2), [row, 3 * row], None, "linear", scale=0.1)).minimal_width
    assert width is not None
    assert width.value == 1


@pytest.mark.parametrize("name", ["quadratic", "hermite(2)"])
@pytest.mark.parametrize("seed", range(8))
def test_quadratic_forms(name: str, seed: int) -> None:
    """Indefinite forms of small integers, biases and an affine part free; the rank by numpy is safe there."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 8)), int(rng.integers(1, 6))
    inner, outer = rng.integers(-2, 3, (n, d)), rng.integers(-2, 3, (n, 1))
    beside = rng.integers(-1, 2, (1, d, d)) if seed % 2 else None
    form = (inner * outer).T @ inner
    if beside is not None:
        beside = beside + beside.transpose(0, 2, 1)
        form = form + beside[0]
    net = Network(outer, inner, rng.standard_normal(n), name, affine=np.ones((1, d)), quadratic=beside)
    found = exact_count(net)
    assert found.certified
    assert found.value == np.linalg.matrix_rank(form)


def test_z_squared_of_scaled_and_opposite_vectors_cancel() -> None:
    w = np.array([[1.0, 3.0], [-3.0, -9.0], [2.0, 0.0]])
    assert exact_count(Network([[9.0], [-1.0], [0.0]], w, [1.0, 2.0, 0.0], "quadratic")).value == 0
    assert exact_count(Network([[9.0], [1.0], [1.0]], w, [1.0, 2.0, 0.0], "quadratic")).value == 2


@pytest.mark.parametrize("name", ["quadratic", "cubic", "hermite(3)", "hermite(4)", "hermite(5)"])
@pytest.mark.parametrize("m", [1, 3])
def test_planted_tensors_below_kruskals_bound(name: str, m: int) -> None:
    """S ≤ d generic atoms (with biases): flattenings or Kruskal's condition prove S."""
    rng = np.random.default_rng(11)
    net = planted(rng, name, d=5, atoms=4, outputs=m, bias=True, affine=True)
    found = exact_count(net)
    assert (found.lower, found.upper) == (4, 4)
    split = net.with_(
        outer=np.concatenate([2 * net.outer, -net.outer]),
        inner=np.concatenate([net.inner, net.inner]),
        bias=np.concatenate([net.bias, net.bias]),
    )
    assert exact_count(split).value == 4


def test_kruskal_beyond_flattenings() -> None:
    """Cubic, d = 4, one output: 5 general vectors have k-rank 4, and 3·4 ≥ 2·5 + 2, but d × d² flattenings reach 4."""
    rng = np.random.default_rng(12)
    net = Network(np.ones((5, 1)), rng.integers(-9, 10, (5, 4)), None, "cubic")
    found = exact_count(net)
    assert (found.lower, found.upper) == (5, 5)


def test_cubic_atoms_on_one_line() -> None:
    """(z + 1)³ + (z − 1)³ = 2z³ + 6z: one atom; (z + 1)³ − (z − 1)³ = 6z² + 2: two; z³ + z²-like with m = 2: two."""
    w = np.array([[1.0, 2.0], [1.0, 2.0]])
    assert exact_count(Network([[1.0], [1.0]], w, [1.0, -1.0], "cubic")).value == 1
    square = exact_count(Network([[1.0], [-1.0]], w, [1.0, -1.0], "cubic"))
    assert (square.lower, square.upper) == (1, 2)
    two = exact_count(Network([[1.0, 0.0], [0.0, 1.0]], w, [1.0, -1.0], "cubic"))
    assert (two.lower, two.upper) == (2, 2)
    # with a quadratic part in the file the squares are free
    free = exact_count(Network([[1.0], [-1.0]], w, [1.0, -1.0], "cubic", quadratic=np.ones((1, 2, 2))))
    assert free.value == 0


def test_parities_of_hermite_functions() -> None:
    w = np.array([[1.0, 2.0], [-1.0, -2.0]])
    assert exact_count(Network([[1.0], [1.0]], w, [0.5, -0.5], "hermite(5)")).value == 0
    assert exact_count(Network([[1.0], [1.0]], w, [0.5, -0.5], "hermite(4)")).value == 1


def test_several_quadratic_forms_are_bracketed() -> None:
    """x₁² and 2x₁x₂ on two outputs: rank 2 in every flattening, symmetric rank 3: the bracket holds both."""
    w = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, -1.0]])
    outer = np.array([[1.0, 0.0], [0.0, 0.5], [0.0, -0.5]])
    found = exact_count(Network(outer, w, None, "quadratic"))
    assert found.lower <= 3 <= found.upper
    assert (found.lower, found.upper) == (2, 3)
    assert found.value is None


@pytest.mark.parametrize("seed", range(10))
def test_a_bracket_never_excludes_a_smaller_network(seed: int) -> None:
    """The same function as S planted atoms, written with more: S is never below the bracket."""
    rng = np.random.default_rng(seed)
    name = ["quadratic", "cubic", "hermite(4)"][seed % 3]
    atoms, m = int(rng.integers(1, 6)), int(rng.integers(1, 3))
    net = Network(rng.integers(1, 4, (atoms, m)), rng.integers(-3, 4, (atoms, 3)), rng.integers(-2, 3, atoms), name)
    other = Network(
        np.concatenate([net.outer - 5.0, np.full((atoms, m), 5.0)]),
        np.concatenate([net.inner, net.inner]), np.concatenate([net.bias, net.bias]), name,
    )  # fmt: skip
    assert exact_count(other).lower <= atoms
    assert exact_count(net).lower <= exact_count(other).upper
