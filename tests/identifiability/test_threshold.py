"""Threshold numbers: the reading's counterexamples, the invariant number's theorem against explicit networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LassoLars

import sparsemf
from cases import ANALYSED, planted
from sparsemf import Gaussian, Network
from sparsemf.activations import get
from sparsemf.identifiability import (
    Flattening,
    Kind,
    invariant_threshold,
    lower_curve,
    minimiser_atoms,
    s_up,
    spectrum,
    summed_threshold,
)
from sparsemf.measures import Atoms, l2_distance
from sparsemf.measures.gaussian import affine_part, beyond_affine
from sparsemf.symmetry import disguise, quotient

Array = NDArray[np.float64]


def relu_atom(angle: float, size: float = 1.0) -> Network:
    return Network([[size]], [[math.cos(angle), math.sin(angle)]], None, "relu")


def rotation(rng: np.random.Generator, d: int) -> Array:
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def all_spectra(net: Network, degree: int = 16) -> list:
    return [spectrum(net, Flattening(p, max(2, p), degree)) for p in (1, 2, 3, 4)]


def test_the_reading_is_no_upper_bound() -> None:
    """relu(⟨w, x⟩), d = 2, λ = 0.2: 1 at e₁, 0 at 45°, while S* = 1 there and the BLASSO minimiser is not zero."""
    along, diagonal = (s_up(relu_atom(a), 0.2, first=0) for a in (0.0, math.pi / 4))
    assert (along.value, diagonal.value) == (1, 0)
    assert along.kind is Kind.FAILS
    # zero minimises the BLASSO only if sup|Φ*f| ≤ λ; at w itself Φ*f = E relu² = 1/2
    assert Atoms.of(relu_atom(0.3)).second_moment[0] == pytest.approx(0.5)
    found = sparsemf.analyze(relu_atom(math.pi / 4))
    assert (found.s_star.value, found.s_star.certified) == (1, True)


def test_the_reading_is_no_lower_bound() -> None:
    """One steep atom at 45° has many large coefficients, S* = 1."""
    assert (s_up(relu_atom(math.pi / 4, 10.0), 0.05).value or 0) > 1
    assert sparsemf.analyze(relu_atom(math.pi / 4, 10.0)).s_star.value == 1


def test_the_sum_over_degrees_is_refuted_by_one_atom() -> None:
    found = summed_threshold(relu_atom(0.7, 10.0), 0.05)
    assert found.value > 1
    assert found.kind is Kind.REFUTED
    assert invariant_threshold(all_spectra(relu_atom(0.7, 10.0)), 1e-3).value == 1


def test_one_flattening_is_no_upper_bound() -> None:
    """d = 2, p = 1: at most two singular values, S* = 3."""
    net = Network(np.ones((3, 1)), [[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], None, "relu")
    star = sparsemf.analyze(net).s_star
    assert (star.value, star.certified) == (3, True)
    assert invariant_threshold([spectrum(net, Flattening(1, 2, 16))], 0.5 * sum(star.eps)).value <= 2
    assert invariant_threshold(all_spectra(net), star.eps[0]).value == 3


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "softplus", "erf"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_rotations_leave_it_unchanged(activation: str, outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    net = planted(rng, activation, d=5, atoms=6, outputs=outputs, bias=True)
    turned = net.with_(inner=net.inner @ rotation(rng, 5), outer=net.outer @ rotation(rng, outputs))
    norm = sparsemf.analyze(net).norm.upper
    first, second = all_spectra(net), all_spectra(turned)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(np.sqrt(a.energy[:6]), np.sqrt(np.abs(b.energy[:6])), atol=1e-7 * norm)
    for eps in norm * np.geomspace(1e-4, 1, 9):
        assert invariant_threshold(first, eps).value == invariant_threshold(second, eps).value


@pytest.mark.parametrize("activation", ANALYSED)
def test_never_above_the_atoms_of_a_network_within_eps(activation: str) -> None:
    """f = an S-atom network plus many small atoms: every g with fewer atoms is farther than the threshold says."""
    rng = np.random.default_rng(3)
    for trial in range(3):
        size, outputs = 2 + trial, 1 + trial
        g = planted(rng, activation, d=4, atoms=size, outputs=outputs, bias=bool(trial % 2))
        small = planted(rng, activation, d=4, atoms=8, outputs=outputs, bias=True)
        f = Network(
            np.concatenate([g.alpha, 0.02 * small.alpha]),
            np.concatenate([g.inner, small.inner]),
            np.concatenate([g.bias, small.bias]),
            activation,
        )
        slope, constant = affine_part(f)
        own_slope, own_constant = affine_part(g)
        best = g.with_(affine=slope - own_slope, offset=constant - own_constant)  # the best affine part beside g
        eps = l2_distance(f, best, Gaussian.standard(4)).upper
        assert invariant_threshold(all_spectra(f), eps).value <= size
        assert invariant_threshold(all_spectra(f), 1e-9).value > size


def test_coarser_than_the_lower_curve_and_within_the_staircase() -> None:
    rng = np.random.default_rng(5)
    found = sparsemf.analyze(disguise(planted(rng, "gelu", atoms=6, outputs=2, bias=True), rng, 40))
    assert found.lower is not None
    for eps in found.norm.upper * np.geomspace(1e-6, 1, 25):
        lower, upper = found.staircase.bracket(eps)
        assert invariant_threshold(found.lower.spectra, eps).value <= lower <= upper


def test_floor_and_margin_lower_it() -> None:
    net = planted(np.random.default_rng(6), "tanh", atoms=4)
    spectra = all_spectra(net)
    third = math.sqrt(spectra[0].energy[2])
    assert invariant_threshold([spectra[0]], third * (1 - 1e-6)).value == 3
    assert invariant_threshold([spectra[0]], third * (1 - 1e-6), floor=1e-5 * third).value == 2
    assert invariant_threshold([spectra[0]], third).value == 2
    with pytest.raises(ValueError, match="threshold ≥ 0"):
        invariant_threshold(spectra, -1.0)


def test_merged_and_split_copies_of_a_rank_one_cloud_count_once() -> None:
    """Cancelling pairs of size 10⁴ on two lines: margins keep rounding from counting as a third singular value."""
    rng = np.random.default_rng(7)
    base = planted(rng, "tanh", d=6, atoms=2)
    rows = rng.integers(0, 2, 400)
    outer = rng.standard_normal((400, 1))
    outer[0::2] += 1e4
    outer[1::2] -= 1e4
    net = Network(outer, base.inner[rows], None, "tanh")
    assert invariant_threshold(all_spectra(net), 0.0).value <= 2


def lasso(gram: Array, image: Array, cost: Array, penalty: float) -> Array:
    """min ½βᵀKβ − βᵀy + λΣ cost_i|β_i|: scikit-learn's least-angle path on a square root of K, in units of the cost."""
    root = np.linalg.cholesky(gram).T
    rows = root.shape[0]
    model = LassoLars(penalty / rows, fit_intercept=False, max_iter=5000)
    model.fit(root / cost, np.linalg.solve(root.T, image))
    return model.coef_ / cost


@pytest.mark.parametrize("penalty", [1e-4, 1e-3, 1e-2, 5e-2])
def test_blasso_minimisers_have_at_least_that_many_atoms(penalty: float) -> None:
    """Over the atoms of f and 40 others (any set that contains f's): the residual and the number of atoms."""
    rng = np.random.default_rng(8)
    f = planted(rng, "relu", d=4, atoms=5, length=1.0)
    others = rng.standard_normal((40, 4))
    others /= np.linalg.norm(others, axis=1)[:, None]
    atoms = Atoms(f.activation, np.concatenate([f.inner, others]), np.zeros(45))
    gram = beyond_affine(atoms, atoms, None)
    truth = np.concatenate([f.alpha[:, 0], np.zeros(40)])
    cost = np.sqrt(np.diag(gram))
    variation = float(cost @ np.abs(truth))
    beta = lasso(gram, gram @ truth, cost, penalty)
    residual = truth - beta
    assert residual @ gram @ residual <= penalty * (variation - cost @ np.abs(beta)) * (1 + 1e-9)
    found = minimiser_atoms(all_spectra(f), penalty, variation)
    assert found.value <= int(np.sum(beta != 0))
    if penalty <= 1e-3:
        assert found.value >= 2  # the bound says something


def test_no_function_of_thresholded_ranks_bounds_blasso_atoms() -> None:
    """n equally spaced lines in the plane: N(ε) ≤ ‖f‖²/ε² stays put, the minimiser's support is a union of orbits.

    On the lines of f and those half-way: the problem in the weights of the two orbits, then the optimality conditions
    of the whole one, whose minimiser is unique as its Gram matrix is positive definite.
    """
    counts, penalty = [], 1e-2
    for n in (4, 8, 12):
        angle = np.pi * np.arange(2 * n) / (2 * n)
        atoms = Atoms(get("relu"), np.stack([np.cos(angle), np.sin(angle)], axis=1), np.zeros(2 * n))
        f = Network(np.full((n, 1), 1.0 / n), atoms.inner[::2], None, "relu")
        gram = beyond_affine(atoms, atoms, None)
        assert np.linalg.eigvalsh(gram)[0] > 0
        image = gram[:, ::2] @ f.alpha[:, 0]
        orbits = np.stack([np.arange(2 * n) % 2 == 0, np.arange(2 * n) % 2 == 1], axis=1).astype(float)
        weights = lasso(orbits.T @ gram @ orbits, orbits.T @ image, np.full(2, float(n)), penalty)
        beta = orbits @ weights
        dual = (image - gram @ beta) / penalty
        assert np.max(np.abs(dual)) <= 1 + 1e-7
        np.testing.assert_allclose(dual[beta != 0], np.sign(beta[beta != 0]), atol=1e-7)
        assert np.sum(beta != 0) >= n
        counts.append(invariant_threshold(all_spectra(f), 0.02).value)
    assert counts[0] >= 1
    assert max(counts) <= 3


def test_exact_for_directions_as_the_threshold_vanishes() -> None:
    angle = np.array([0.2, 0.9, 1.7, 2.6])
    atoms = Network([[1.0], [-0.7], [0.8], [1.2]], np.stack([np.cos(angle), np.sin(angle)], axis=1), None, "gelu")
    net = quotient(atoms).network
    assert invariant_threshold([spectrum(net, Flattening(3, 3, 16))], 1e-5).value == 4


def test_lower_curve_keeps_the_spectra_it_needs() -> None:
    net = planted(np.random.default_rng(10), "relu", d=3, atoms=5)
    curve = lower_curve(net)
    assert invariant_threshold(curve.spectra, 1e-6).value == 5
