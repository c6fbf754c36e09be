"""Values, derivatives, relations, Hermite coefficients and kernels against independent formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate

from cases import ACTIVATIONS
from sparsemf.activations import NUMPY, UnknownActivation, get, names, torch_ops
from sparsemf.activations.bivariate import bivariate_normal_cdf
from sparsemf.measures.gaussian import Atoms, beyond_affine


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivative_is_the_slope_and_lipschitz_bounds_it(name: str) -> None:
    sigma = get(name)
    z = np.linspace(-8, 8, 20001) + 1e-4
    value, slope = sigma.value_and_derivative(z, NUMPY)
    step = 1e-5
    central = (sigma.value(z + step) - sigma.value(z - step)) / (2 * step)
    away = np.abs(z) > 2 * step
    np.testing.assert_allclose(slope[away], central[away], atol=2e-8)
    assert np.max(np.abs(slope)) <= sigma.lipschitz
    assert np.max(np.abs(np.diff(value) / np.diff(z))) <= sigma.lipschitz * (1 + 1e-9)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_flip_relation_and_homogeneity(name: str) -> None:
    sigma = get(name)
    z = np.random.default_rng(0).normal(0, 4, 1000)
    assert sigma.relation is not None
    r = sigma.relation
    np.testing.assert_allclose(sigma.value(z), r.sign * sigma.value(-z) + r.constant + r.linear * z, atol=1e-14)
    if sigma.homogeneous == 1:
        np.testing.assert_allclose(sigma.value(3.7 * z), 3.7 * sigma.value(z), rtol=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_sup_on_intervals_is_an_upper_bound(name: str) -> None:
    sigma, rng = get(name), np.random.default_rng(1)
    low = rng.normal(0, 3, 200)
    high = low + rng.exponential(2.0, 200)
    grid = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 400)
    assert (np.max(np.abs(sigma.value(grid)), axis=1) <= sigma.sup_abs(low, high) * (1 + 1e-15)).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_torch_and_numpy_agree(name: str) -> None:
    import torch

    sigma = get(name)
    z = np.linspace(-30, 30, 1201)
    for numpy_side, torch_side in zip(
        sigma.value_and_derivative(z, NUMPY), sigma.value_and_derivative(torch.from_numpy(z), torch_ops()), strict=True
    ):
        np.testing.assert_allclose(torch_side.numpy(), numpy_side, atol=1e-14, rtol=1e-13)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_hermite_coefficients_against_adaptive_quadrature(name: str) -> None:
    sigma = get(name)
    r, b = np.array([0.4, 1.0, 3.0, 9.0]), np.array([0.3, -1.0, 0.5, 2.0])
    found = sigma.hermite(r, b, 6)
    for i in range(r.size):
        kink = float(np.clip(-b[i] / r[i], -11, 11))
        for k in (0, 1, 2, 5):
            he = np.polynomial.hermite_e.HermiteE([0] * k + [1])

            def integrand(g: float, i: int = i, k: int = k, he: object = he) -> float:
                value = float(sigma.value(np.float64(r[i] * g + b[i])))
                return value * he(g) / math.sqrt(math.factorial(k)) * math.exp(-g * g / 2)  # type: ignore[operator]

            truth = sum(
                integrate.quad(integrand, lo, hi, epsabs=1e-13, limit=300)[0] for lo, hi in ((-12, kink), (kink, 12))
            ) / math.sqrt(2 * math.pi)
            assert found[i, k] == pytest.approx(truth, abs=3e-13 * (1 + r[i]))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_parseval(name: str) -> None:
    sigma = get(name)
    r, b = np.array([0.5, 1.2]), np.array([0.4, -0.7])
    energy = np.sum(sigma.hermite(r, b, 600) ** 2, axis=1)
    moment = sigma.second_moment(r, b)
    assert (energy <= moment * (1 + 1e-13)).all()
    np.testing.assert_allclose(energy, moment, rtol=2e-5 if sigma.strip == 0 else 1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_kernel_against_hermite_series_within_its_stated_error(name: str) -> None:
    sigma, rng = get(name), np.random.default_rng(3)
    atoms = Atoms(sigma, rng.normal(0, 0.7, (7, 3)), rng.normal(0, 1, 7))
    found = sigma.kernel(atoms.norm[:, None], atoms.bias[:, None], atoms.norm, atoms.bias, atoms.inner @ atoms.inner.T)
    degree = 2000 if sigma.strip == 0 else 300
    c, cos = atoms.hermite(degree), np.clip(atoms.unit @ atoms.unit.T, -1, 1)
    series = sum(np.outer(c[:, k], c[:, k]) * cos**k for k in range(degree + 1))
    off = ~np.eye(7, dtype=bool)
    assert found.closed == sigma.kernel_closed
    assert (np.abs(found.value - series)[off] <= found.error[off] + 1e-13).all()
    np.testing.assert_allclose(np.diag(found.value), atoms.second_moment, atol=float(found.error.max()) + 1e-13)


def test_relu_kernel_centred_is_the_arc_cosine_kernel() -> None:
    theta = np.linspace(0, np.pi, 50)
    found = get("relu").kernel(np.float64(2.0), np.float64(0), np.float64(3.0), np.float64(0), 6.0 * np.cos(theta))
    truth = 6.0 / (2 * np.pi) * (np.sin(theta) + (np.pi - theta) * np.cos(theta))
    np.testing.assert_allclose(found.value, truth, atol=1e-14)


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
    from scipy.stats import norm

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


def test_registry_names_aliases_and_errors() -> None:
    assert get("gelu_new") == get("gelu_tanh")
    assert get("Swish").name == "silu"
    assert get("leaky_relu(0.01)").name == "leaky_relu"
    assert set(names()) >= {
        "relu", "leaky_relu", "abs", "tanh", "erf", "sigmoid", "softplus", "gelu", "gelu_tanh", "quick_gelu", "silu",
    }  # fmt: skip
    for bad in ("nope", "leaky_relu(1)", "leaky_relu(x)", "relu(2)", "leaky_relu(nan)"):
        with pytest.raises(UnknownActivation):
            get(bad)


@pytest.mark.parametrize("name", ["relu", "abs", "leaky_relu", "gelu", "erf"])
def test_kernel_beyond_affine_two_ways(name: str) -> None:
    """Closed form minus degrees 0 and 1 against the Hermite series."""
    sigma, rng = get(name), np.random.default_rng(8)
    atoms = Atoms(sigma, rng.normal(0, 0.5, (6, 4)), rng.normal(0, 0.5, 6))
    closed = beyond_affine(atoms, atoms, None)
    series = beyond_affine(atoms, atoms, 3000 if sigma.strip == 0 else 200)
    off = ~np.eye(6, dtype=bool)
    np.testing.assert_allclose(series[off], closed[off], atol=1e-9)
