"""The entropy of particles against closed forms, its exact laws, and the free energy made of it."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.special import digamma, gamma

from sparsemf.exceptions import InputError
from sparsemf.training.free_energy import (
    differential_entropy,
    energy_terms,
    neighbour_distances,
    subsample_indices,
)


@pytest.mark.parametrize(("n", "dimension", "k"), [(5, 1, 3), (300, 3, 1), (700, 60, 3)])
def test_neighbours_and_entropy_equal_the_full_distance_matrix(n, dimension, k):
    x = np.random.default_rng(n).standard_normal((n, dimension)) + 1e3  # far from 0: cancellation would show
    full = np.sort(squareform(pdist(x)), axis=1)[:, k]
    np.testing.assert_allclose(neighbour_distances(x, k), full, rtol=1e-10)
    ball = math.pi ** (dimension / 2) / gamma(1 + dimension / 2)
    expected = digamma(n) - digamma(k) + math.log(ball) + dimension * np.mean(np.log(full))
    assert differential_entropy(x, k).value == pytest.approx(expected, rel=1e-10)


def test_neighbours_of_particles_that_nearly_coincide():
    """Ten clusters of radius 1e-9 at distance 1: distances far below the rounding of ‖x‖² + ‖y‖² − 2⟨x, y⟩."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((10, 5)), 40, axis=0) + 1e-9 * rng.standard_normal((400, 5))
    full = np.sort(squareform(pdist(x)), axis=1)[:, 3]
    np.testing.assert_allclose(neighbour_distances(x, 3), full, rtol=1e-5)


@pytest.mark.parametrize(("dimension", "tolerance"), [(1, 0.1), (2, 0.1), (5, 0.2), (20, 2.0)])
def test_entropy_of_a_gaussian(dimension, tolerance):
    """½ log((2πe)^D det Σ); the bias of 2048 points is about +1.0 in D = 20 (and 0.05 or less up to D = 9)."""
    rng = np.random.default_rng(dimension)
    mixing = np.eye(dimension) + 0.3 * np.tri(dimension)
    x = rng.standard_normal((2048, dimension)) @ mixing.T
    exact = 0.5 * dimension * math.log(2 * math.pi * math.e) + math.log(np.linalg.det(mixing))
    assert differential_entropy(x).value == pytest.approx(exact, abs=tolerance)


@pytest.mark.parametrize("dimension", [1, 3])
def test_entropy_of_a_uniform_law(dimension):
    """log of the volume 2.5^D; the boundary biases it upwards."""
    x = 2.5 * np.random.default_rng(8).random((2048, dimension))
    assert differential_entropy(x).value == pytest.approx(dimension * math.log(2.5), abs=0.15)


@pytest.mark.parametrize("dimension", [2, 30])
def test_scaling_translation_and_rotation(dimension):
    rng = np.random.default_rng(9)
    x = rng.standard_normal((500, dimension))
    base = differential_entropy(x).value
    assert differential_entropy(8.0 * x).value == pytest.approx(base + dimension * math.log(8), rel=1e-14)
    assert differential_entropy(-0.37 * x).value == pytest.approx(base + dimension * math.log(0.37), rel=1e-11)
    assert differential_entropy(x + 17.0).value == pytest.approx(base, rel=1e-11)
    rotation = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
    assert differential_entropy(x @ rotation).value == pytest.approx(base, rel=1e-11)


def test_the_bias_cancels_in_differences():
    """Two Gaussians in D = 20, other draws and other scales: the bias is 1, the error of the difference a tenth."""
    rng = np.random.default_rng(10)
    wide, narrow = (differential_entropy(s * rng.standard_normal((2048, 20))).value for s in (1.0, 0.9))
    assert wide - narrow == pytest.approx(20 * math.log(1 / 0.9), abs=0.4)
    assert wide - 10 * math.log(2 * math.pi * math.e) > 0.6


def test_coincident_particles_are_counted_and_not_averaged():
    x = np.random.default_rng(11).standard_normal((100, 4))
    x[:3] = x[0]  # three alike: two neighbours at distance 0, the third is not
    assert math.isfinite(differential_entropy(x).value)
    x[:5] = x[0]
    found = differential_entropy(x)
    assert (found.value, found.coincident) == (-math.inf, 5)
    terms = energy_terms(x, risk=1.0, weight_decay=0.0, temperature=0.1)
    assert (terms.energy, terms.entropy, terms.free_energy, terms.coincident) == (1.0, None, None, 5)


@pytest.mark.parametrize(("width", "limit"), [(5, 2048), (2048, 2048), (5000, 2048), (1 << 20, 2048), (7, 3)])
def test_the_subsample_is_fixed_distinct_and_spread(width, limit):
    index = subsample_indices(width, limit)
    assert index.size == min(width, limit)
    assert index[0] == 0
    gaps = np.diff(index)
    assert gaps.min() >= width // limit
    assert max(gaps.max(), width - index[-1]) <= width // index.size + 1


def test_energy_terms():
    """F = R + (λ/2)m_2 − τH for a Gaussian cloud of 20 000 particles: at τ/λ = 1 the Gibbs law of R = 0."""
    rng = np.random.default_rng(12)
    x = rng.standard_normal((20_000, 3)).astype(np.float32)
    terms = energy_terms(x, risk=0.25, weight_decay=0.5, temperature=0.5)
    m2 = np.mean(np.sum(x.astype(float) ** 2, 1))
    assert terms.energy == pytest.approx(0.25 + 0.25 * m2, rel=1e-12)
    assert terms.entropy == pytest.approx(1.5 * math.log(2 * math.pi * math.e), abs=0.1)
    assert terms.free_energy == pytest.approx(terms.energy - 0.5 * terms.entropy, rel=1e-12)
    assert terms.free_energy == pytest.approx(0.25 - 0.75 * math.log(2 * math.pi), abs=0.07)  # −τ log Z, and R
    rows = x[subsample_indices(20_000)]
    again = energy_terms(rows, 0.25, 0.5, 0.5, m2=m2)
    assert (again.energy, again.entropy) == (pytest.approx(terms.energy, rel=1e-12), terms.entropy)


def test_no_entropy_without_temperature():
    terms = energy_terms(np.zeros((2, 3)), risk=0.5, weight_decay=1.0, temperature=0.0)
    assert (terms.energy, terms.entropy, terms.free_energy) == (0.5, None, 0.5)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((3, 2)), r"n > 3, D ≥ 1\) of particles, got shape \(3, 2\)"),
        (np.zeros(30), r"got shape \(30,\)"),
        (np.full((30, 2), np.nan), "expected finite particles"),
    ],
)
def test_entropy_says_what_it_needs(points, message):
    with pytest.raises(InputError, match=message):
        differential_entropy(points)
