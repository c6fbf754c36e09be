"""Kernels E[σ(U)τ(V)] against direct two-dimensional quadrature and the closed centred forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate
from scipy.stats import norm

from activations.quadrature import EPS, both_sizes, direct, pairs_of
from activations.truth import EXACT
from cases import ACTIVATIONS
from sparsemf.activations import get
from sparsemf.activations.bivariate import bivariate_normal_cdf
from sparsemf.measures.gaussian import Atoms, beyond_affine

EVERY = tuple(dict.fromkeys((*ACTIVATIONS, *EXACT)))


@pytest.mark.parametrize("name", EVERY)
def test_kernel_within_its_stated_error(name: str) -> None:
    sigma = get(name)
    pairs = pairs_of(name)
    s1, m1, s2, m2, rho = np.array(pairs).T
    found = sigma.kernel(s1, m1, s2, m2, rho * s1 * s2)
    assert found.closed == sigma.kernel_closed
    for i, pair in enumerate(pairs):
        size = both_sizes(sigma, sigma, *pair[:4])
        assert found.error[i] <= 1e-9 * size, pair
        assert abs(found.value[i] - direct(sigma, sigma, *pair)) <= found.error[i] + 256 * EPS * size, pair


@pytest.mark.parametrize("name", EVERY)
def test_kernel_matrix_is_symmetric_with_the_second_moments_on_its_diagonal(name: str) -> None:
    sigma, rng = get(name), np.random.default_rng(3)
    atoms = Atoms(sigma, rng.normal(0, 0.7, (7, 3)), rng.normal(0, 1, 7))
    found = sigma.kernel(atoms.norm[:, None], atoms.bias[:, None], atoms.norm, atoms.bias, atoms.inner @ atoms.inner.T)
    assert (np.abs(found.value - found.value.T) <= found.error + found.error.T).all()
    assert (
        np.abs(np.diag(found.value) - atoms.second_moment) <= np.diag(found.error) + 64 * EPS * atoms.scale**2
    ).all()
    degree = 2000 if sigma.strip == 0 else 300
    c, cos = atoms.hermite(degree), np.clip(atoms.unit @ atoms.unit.T, -1, 1)
    series = sum(np.outer(c[:, k], c[:, k]) * cos**k for k in range(degree + 1))
    off = ~np.eye(7, dtype=bool)
    allowed = found.error + 1e-13 * np.outer(atoms.scale, atoms.scale)
    assert (np.abs(found.value - series)[off] <= allowed[off]).all()


def test_relu_kernel_centred_is_the_arc_cosine_kernel() -> None:
    theta = np.linspace(0, np.pi, 50)
    zero = np.float64(0.0)
    found = get("relu").kernel(np.float64(2.0), zero, np.float64(3.0), zero, 6.0 * np.cos(theta))
    truth = 6.0 / (2 * np.pi) * (np.sin(theta) + (np.pi - theta) * np.cos(theta))
    np.testing.assert_allclose(found.value, truth, atol=1e-14)
    found = get("relu2").kernel(np.float64(2.0), zero, np.float64(3.0), zero, 6.0 * np.cos(theta))
    truth = 36 * (3 * np.sin(theta) * np.cos(theta) + (np.pi - theta) * (1 + 2 * np.cos(theta) ** 2)) / (2 * np.pi)
    np.testing.assert_allclose(found.value, truth, atol=1e-12)


def test_erf_and_gelu_kernels_centred_closed_forms() -> None:
    s1, s2 = 1.3, 0.6
    c = np.linspace(-1, 1, 21) * s1 * s2
    zero = np.float64(0.0)
    erf = get("erf").kernel(np.float64(s1), zero, np.float64(s2), zero, c).value
    np.testing.assert_allclose(
        erf, 2 / np.pi * np.arcsin(2 * c / np.sqrt((1 + 2 * s1**2) * (1 + 2 * s2**2))), atol=1e-14
    )
    v1, v2 = s1**2, s2**2
    det = (1 + v1) * (1 + v2) - c**2
    rho = c / np.sqrt((1 + v1) * (1 + v2))
    truth = c * (0.25 + np.arcsin(rho) / (2 * np.pi))
    truth += (v1 * v2 + c**2 * (1 - v1 * v2) / ((1 + v1) * (1 + v2))) / (2 * np.pi * np.sqrt(det))
    found = get("gelu").kernel(np.float64(s1), zero, np.float64(s2), zero, c).value
    np.testing.assert_allclose(found, truth, atol=1e-14)


def test_bivariate_normal_cdf_limits_and_quadrature() -> None:
    rng = np.random.default_rng(5)
    h, k, rho = rng.normal(0, 1.5, 40), rng.normal(0, 1.5, 40), rng.uniform(-0.999, 0.999, 40)
    found = bivariate_normal_cdf(h, k, rho)
    for i in range(40):
        truth = integrate.quad(
            lambda x, i=i: norm.pdf(x) * norm.cdf((k[i] - rho[i] * x) / np.sqrt(1 - rho[i] ** 2)),
            -12, h[i], points=[k[i] / rho[i]] if -12 < k[i] / rho[i] < h[i] else None, epsabs=1e-13, limit=200,
        )[0]  # fmt: skip
        assert found[i] == pytest.approx(truth, abs=1e-12)
    np.testing.assert_allclose(bivariate_normal_cdf(h, k, np.ones(40)), norm.cdf(np.minimum(h, k)), atol=1e-15)
    np.testing.assert_allclose(bivariate_normal_cdf(h, -h, -np.ones(40)), 0.0, atol=1e-15)


@pytest.mark.parametrize("name", [name for name in EVERY if get(name).kernel_closed and name not in ("linear", "exp")])
def test_kernel_beyond_affine_two_ways(name: str) -> None:
    """Closed form minus degrees 0 and 1 against the Hermite series."""
    sigma, rng = get(name), np.random.default_rng(8)
    atoms = Atoms(sigma, rng.normal(0, 0.5, (6, 4)), rng.normal(0, 0.5, 6))
    closed = beyond_affine(atoms, atoms, None)
    series = beyond_affine(atoms, atoms, 3000 if sigma.strip == 0 else 200)
    off = ~np.eye(6, dtype=bool)
    np.testing.assert_allclose(series[off], closed[off], atol=1e-9)
