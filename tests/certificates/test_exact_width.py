"""Minimal width of relu networks: least squares over all placements, planted signs, several outputs, HIGHS."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from flint import fmpq

from cases import Array
from sparsemf.certificates.exact_width import MinimalWidth, minimal_width
from sparsemf.certificates.exact_width_signs import find_signs
from sparsemf.measures import Network


def width(net: Network) -> MinimalWidth:
    found = minimal_width(net)
    assert found is not None
    return found


def brute_width(net: Network, kinks: Array) -> int:
    """The least N for one output: neurons on the given hyperplanes (one side or both), with a free constant and, for
    n + 2, any; by least squares on values at random points."""
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal((200, net.d))
    y = net(x)[:, 0]
    z = x @ kinks[:, :-1].T + kinks[:, -1]
    n = kinks.shape[0]
    best = n + 2
    for sides in product([(1,), (-1,), (1, -1)], repeat=n):
        count = sum(len(s) for s in sides)
        if count >= best:
            continue
        slopes = net.activation.value
        columns = [slopes(s * z[:, k]) for k, side in enumerate(sides) for s in side] + [np.ones(200)]
        basis = np.stack(columns, axis=1)
        rest = basis @ np.linalg.lstsq(basis, y, rcond=None)[0] - y
        if np.max(np.abs(rest)) < 1e-8 * max(float(np.max(np.abs(y))), 1.0):
            best = count
    return best


@pytest.mark.parametrize("name", ["relu", "leaky_relu(0.5)"])
@pytest.mark.parametrize("seed", range(20))
def test_minimal_width_by_least_squares(name: str, seed: int) -> None:
    """n ≤ 4 kinks on R and R²; affine parts are chosen so that every r occurs."""
    rng = np.random.default_rng(seed)
    d, n = 1 + seed % 2, int(rng.integers(1, 5))
    while True:
        inner, bias = rng.integers(-3, 4, (n, d)).astype(float), rng.integers(-3, 4, n).astype(float)
        points = np.concatenate([inner, bias[:, None]], axis=1)
        if inner.any(axis=1).all() and all(
            np.linalg.matrix_rank(points[[i, j]]) == 2 for i in range(n) for j in range(i)
        ):
            break
    outer = rng.integers(1, 4, (n, 1)) * rng.choice([-1.0, 1.0], (n, 1))
    beta = 1.0 if name == "relu" else 1.5
    # relu(z) = relu(−z) + z: flipping some neurons is paid in the affine part
    flip = rng.random(n) < 0.5
    affine = beta * (outer[flip].T @ inner[flip])
    extra = [np.zeros((1, d)), 2.0 * inner[:1], rng.integers(-4, 5, (1, d)).astype(float)][seed % 3]
    net = Network(
        outer, np.where(flip[:, None], -inner, inner), np.where(flip, -bias, bias), name, affine=affine + extra
    )
    found = width(net)
    assert found.value is not None
    assert found.value == brute_width(net, points)
    if seed % 3 == 0:
        assert found.value == n


def rebuilt(net: Network, found: MinimalWidth) -> Network:
    """The network of n neurons that the signs name, without an affine part."""
    assert found.signs is not None
    assert found.kinks is not None
    points = np.concatenate([net.inner, net.bias[:, None]], axis=1)
    outer, inner, bias = [], [], []
    for sign, k in zip(found.signs, found.kinks, strict=True):
        unit = points[k] / np.linalg.norm(points[k])
        size = np.linalg.norm(points, axis=1)
        same = np.abs(np.abs(points @ unit) - size) < 1e-12 * size
        kappa = float(net.alpha[same, 0] @ size[same])
        outer.append([kappa / np.linalg.norm(points[k])])
        inner.append(sign * net.inner[k])
        bias.append(sign * net.bias[k])
    return Network(outer, inner, bias, net.activation)


@pytest.mark.parametrize("n", [3, 12, 30, 60])
def test_planted_signs_are_found_and_make_the_function(n: int) -> None:
    """Flips paid in the affine part, d = 3 and integers: elimination (few free), halves (n = 30), HIGHS (n = 60)."""
    rng = np.random.default_rng(n)
    d = 3 if n < 60 else 2
    inner, bias = rng.integers(-20, 21, (n, d)).astype(float), rng.integers(-20, 21, n) + 0.5
    inner[~inner.any(axis=1)] = 1.0
    outer = rng.choice([-1.0, 1.0], (n, 1))
    flip = rng.random(n) < 0.5
    net = Network(
        outer, np.where(flip[:, None], -inner, inner), np.where(flip, -bias, bias),
        affine=outer[flip].T @ inner[flip],
    )  # fmt: skip
    found = width(net)
    assert found.value == found.lower
    again = rebuilt(net, found)
    x = rng.standard_normal((100, d))
    rest = again(x) - net(x)
    assert np.max(np.abs(rest - rest[0])) < 1e-9 * np.max(np.abs(net(x)))
    # a quarter off what integer steps reach
    assert width(net.with_(affine=net.affine + 0.25)).upper > n


def test_signs_one_bit_off_do_not_exist() -> None:
    rng = np.random.default_rng(5)
    inner, bias = rng.standard_normal((12, 2)), rng.standard_normal(12)
    outer = rng.standard_normal((12, 1))
    pure = width(Network(outer, inner, bias))
    assert (pure.value, pure.signs) == (12, [1] * 12)
    affine = np.array([[2.0**-60, 0.0]])
    assert width(Network(outer, inner, bias, affine=affine)).value == 14


def test_mixed_orientations_on_one_hyperplane_count_one_more() -> None:
    """relu(z) + 2 relu(−z) = 3 relu(z) − 2z: one kink, two neurons."""
    net = Network([[1.0], [2.0]], [[1.0, 3.0], [-1.0, -3.0]], [0.5, -0.5])
    found = width(net)
    assert (found.value, found.doubled) == (2, 0)
    # a cancelled pair is linear: no kink, two neurons
    assert width(Network([[1.0], [-1.0]], [[1.0, 3.0], [-1.0, -3.0]], [0.5, -0.5])).value == 2


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_identity_needs_two_neurons_for_each_input(d: int) -> None:
    empty = np.zeros((0, d))
    assert width(Network(empty, empty, None, affine=np.eye(d))).value == 2 * d
    assert width(Network(empty, empty, None, "leaky_relu(0.5)", affine=np.eye(d))).value == 2 * d
    assert width(Network(np.zeros((0, 1)), empty, None, affine=np.ones((1, d)))).value == 2
    assert width(Network(np.zeros((0, 1)), empty, None)).value == 0


def test_several_outputs_are_bracketed_rightly() -> None:
    """Kinks along e₁ only: the part of A beyond e₁ costs two, the rest of it at most one more."""
    net = Network([[1.0, 2.0]], [[1.0, 0.0]], None, affine=[[0.0, 1.0], [0.0, 0.0]])
    found = width(net)
    assert (found.lower, found.upper) == (3, 3)
    # of rank 1 together with the kink's own part: still one pair
    both = Network([[1.0, 2.0]], [[1.0, 0.0]], None, affine=[[5.0, 1.0], [0.0, 0.0]])
    assert width(both).value == 3
    found = width(both.with_(affine=[[5.0, 1.0], [7.0, 0.0]]))
    assert (found.lower, found.upper) == (3, 4)
    # A changes the orientation only
    flipped = Network([[1.0, 2.0]], [[-1.0, 0.0]], None, affine=[[1.0, 0.0], [2.0, 0.0]])
    assert width(flipped).value == 1


def test_no_width_for_other_activations() -> None:
    for name in ("tanh", "abs", "gelu", "relu2"):
        assert minimal_width(Network([[1.0]], [[1.0]], None, name)) is None


def test_a_linear_part_that_is_too_large_is_refuted_at_any_size() -> None:
    rng = np.random.default_rng(6)
    steps = [[fmpq(int(v)) for v in row] for row in rng.integers(-9, 10, (300, 2))]
    most = sum((abs(step[0]) for step in steps), fmpq(0))
    found = find_signs(steps, [most + 1, fmpq(0)])
    assert (found.signs, found.refuted) == (None, True)


def test_an_undecided_width_is_a_bracket() -> None:
    """Sixty random floats on R² and a random affine part: nothing is proved, and it says so."""
    rng = np.random.default_rng(7)
    net = Network(
        rng.standard_normal((60, 1)), rng.standard_normal((60, 2)), rng.standard_normal(60), affine=[[0.1, 0.3]]
    )
    found = width(net)
    assert (found.lower, found.upper, found.value, found.solver) == (60, 62, None, "HIGHS")
    assert "proves nothing" in found.reason
