"""Maurey, thresholding and Stechkin against explicit subnetworks, exact sums and the certified staircase."""

from __future__ import annotations

import math

import numpy as np
import pytest

import sparsemf
from cases import ANALYSED, planted
from sparsemf import Gaussian, Network
from sparsemf.identifiability import compressibility, lower_curve, network_compressibility, stechkin_curve
from sparsemf.identifiability.compressibility import default_sizes, lengths_beyond_affine
from sparsemf.measures import Atoms, l2_norm
from sparsemf.measures.gaussian import affine_part, beyond_affine, series_degree
from sparsemf.symmetry import disguise, quotient


def cloud(activation: str, n: int, d: int, outputs: int, seed: int) -> Network:
    rng = np.random.default_rng(seed)
    return Network(
        rng.standard_normal((n, outputs)) / n,
        rng.standard_normal((n, d)),
        0.5 * rng.standard_normal(n),
        activation,
    )


def without_affine(net: Network) -> Network:
    slope, constant = affine_part(net)
    return net.with_(affine=net.affine - slope, offset=net.offset - constant)


@pytest.mark.parametrize("activation", ANALYSED)
def test_lengths_are_upper_bounds_and_tight(activation: str) -> None:
    net = cloud(activation, 12, 3, 1, 0)
    atoms = Atoms.of(net)
    found = lengths_beyond_affine(atoms)
    for i in range(12):
        one = Network([[1.0]], net.inner[i : i + 1], net.bias[i : i + 1], activation)
        exact = l2_norm(without_affine(one), Gaussian.standard(3))
        assert found[i] >= exact.lower
        assert found[i] <= exact.upper * (1 + 1e-6) + 1e-5 * atoms.scale[i]


@pytest.mark.parametrize("activation", ANALYSED)
@pytest.mark.parametrize("outputs", [1, 3])
def test_never_below_the_staircase(activation: str, outputs: int) -> None:
    """Certified upper bounds of the best error: L(S) ≤ each of them, at every S."""
    rng = np.random.default_rng(outputs)
    net = disguise(planted(rng, activation, outputs=outputs, bias=True, affine=True), rng, 50)
    canonical = quotient(net).network
    lower = lower_curve(canonical).atoms
    curves = network_compressibility(canonical, sizes=np.arange(lower.size))
    for curve in (curves.maurey, curves.thresholding, curves.stechkin, curves.best):
        assert (curve >= lower).all()
    assert (curves.best <= np.minimum(curves.maurey, curves.thresholding)).all()
    assert (np.diff(curves.best) <= 0).all()


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_thresholding_bounds_the_pruned_network(activation: str) -> None:
    net = cloud(activation, 40, 4, 2, 1)
    curves = network_compressibility(net, sizes=np.arange(41))
    order = np.argsort(-np.linalg.norm(net.alpha, axis=1) * lengths_beyond_affine(Atoms.of(net)))
    for size in (0, 1, 5, 20, 39):
        dropped = net.with_(outer=net.outer[order[size:]], inner=net.inner[order[size:]], bias=net.bias[order[size:]])
        assert l2_norm(without_affine(dropped), Gaussian.standard(4)).lower <= curves.thresholding[size]
    assert curves.thresholding[40] == 0.0


def test_maurey_is_the_mean_error_of_random_draws() -> None:
    """E‖f − mean of n draws‖² = (B² − ‖f‖²)/n exactly; the sample mean over 4000 draws agrees to its standard error."""
    net = cloud("relu", 30, 3, 2, 2)
    atoms = Atoms.of(net)
    gram = beyond_affine(atoms, atoms, series_degree(atoms, np.ones(30)))
    length = np.sqrt(np.diag(gram))
    kappa = np.linalg.norm(net.alpha, axis=1) * length
    mass, rng, n = kappa.sum(), np.random.default_rng(3), 7
    curves = network_compressibility(net, sizes=[n])
    errors = []
    for _ in range(4000):
        count = np.bincount(rng.choice(30, n, p=kappa / mass), minlength=30)
        weight = mass / n * count / (np.linalg.norm(net.alpha, axis=1) * length)
        gamma = net.alpha * (1 - weight)[:, None]
        errors.append(float(np.sum(gamma * (gram @ gamma))))
    spread = np.std(errors) / math.sqrt(len(errors))
    assert abs(np.mean(errors) - curves.maurey[0] ** 2) < 5 * spread
    assert min(errors) <= curves.maurey[0] ** 2


def test_mixed_bound_beats_both_on_a_few_large_and_many_small_coefficients() -> None:
    kappa = np.concatenate([np.full(5, 10.0), np.full(2000, 1e-3)])
    found = compressibility(kappa[:, None], np.ones(kappa.size), sizes=[105])
    assert found.best[0] == pytest.approx(2.0 / 10.0, rel=1e-9)  # 2000·1e-3/√100
    assert found.best[0] < 0.2 * min(found.maurey[0], found.thresholding[0])


def test_large_width_keeps_splits_of_all_sizes() -> None:
    net = cloud("tanh", 300, 5, 1, 4)
    found = network_compressibility(net)
    assert found.sizes[0] == 0
    assert found.sizes[-1] == 300
    assert found.best[-1] == 0.0
    size = found.size_for(0.5 * found.mass)
    assert size is not None
    assert found.best[list(found.sizes).index(size)] <= 0.5 * found.mass


def test_coefficient_threshold_that_holds() -> None:
    """(N, ε) = (#{κ > λ}, Σ of the rest): S*(ε) ≤ N, seen on the staircase's lower bracket."""
    rng = np.random.default_rng(5)
    net = planted(rng, "gelu", atoms=8)
    net = net.with_(outer=net.outer * np.geomspace(1, 1e-4, 8)[:, None])
    found = sparsemf.analyze(net)
    curves = network_compressibility(found.quotient.network)
    for threshold in np.geomspace(1e-5, 1, 12):
        count, eps = curves.above(threshold)
        assert found.staircase.bracket(eps)[0] <= count


def test_invariant_under_rotation_splitting_and_flips() -> None:
    rng = np.random.default_rng(6)
    net = planted(rng, "relu", d=4, atoms=6, outputs=2, bias=True)
    turned = net.with_(inner=net.inner @ np.linalg.qr(rng.standard_normal((4, 4)))[0])
    copies = sparsemf.analyze(disguise(turned, rng, 40)).quotient.network
    first, second = network_compressibility(net), network_compressibility(copies)
    np.testing.assert_allclose(first.best, second.best, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(first.mass, second.mass, rtol=1e-9)


@pytest.mark.parametrize("q", [1.0, 2.0])
def test_stechkin_bounds_the_exact_tail(q: float) -> None:
    rng = np.random.default_rng(7)
    sizes = np.arange(200)
    for beta in (np.arange(1.0, 201.0) ** -1.5, rng.standard_cauchy(200), np.full(200, 0.3), np.eye(200)[0]):
        ordered = np.sort(np.abs(beta))[::-1]
        exact = np.array([np.sum(ordered[n:] ** q) ** (1 / q) for n in sizes])
        bound, exponent = stechkin_curve(beta, q, sizes)
        assert (bound >= exact * (1 - 1e-13)).all()
        assert (exponent < q).all()
        for p in (0.5, 2 / 3):
            norm = np.sum(np.abs(beta) ** p) ** (1 / p)
            assert (bound <= norm * np.maximum(sizes, 1.0) ** -(1 / p - 1 / q) * (1 + 1e-12))[1:].all()


def test_stechkin_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="expected q"):
        stechkin_curve([1.0], 3.0, [1])
    with pytest.raises(ValueError, match="expected alpha"):
        compressibility(np.ones((3, 1)), np.ones(2))
    with pytest.raises(ValueError, match="none of them negative"):
        compressibility(np.ones((1, 1)), [-1.0])


def test_sums_are_rounded_up() -> None:
    """Against exact rational sums of the same floats."""
    from fractions import Fraction

    rng = np.random.default_rng(8)
    values = rng.random(500) * 10.0 ** rng.integers(-8, 8, 500)
    found = compressibility(values[:, None], np.ones(500), sizes=np.arange(501))
    ordered = sorted((Fraction(v) for v in values), reverse=True)
    total = sum(ordered, Fraction(0))
    assert Fraction(found.mass) >= total
    for n in (1, 17, 499):
        assert Fraction(found.thresholding[n]) >= sum(ordered[n:], Fraction(0))
        assert Fraction(found.maurey[n]) ** 2 * n >= total**2


def test_empty_network() -> None:
    found = compressibility(np.zeros((0, 2)), np.zeros(0))
    assert found.best.tolist() == [0.0]
    assert found.size_for(0.0) == 0
    assert default_sizes(5000)[-1] == 5000
