"""Values, derivatives, relations, images and bounds of every activation, against independent formulas."""

from __future__ import annotations

import numpy as np
import pytest

from activations.truth import EXACT
from cases import ACTIVATIONS
from sparsemf.activations import NUMPY, UnknownActivation, get, names, torch_ops

EVERY = tuple(dict.fromkeys((*ACTIVATIONS, *EXACT)))
EPS = 2.0**-52
GRID = np.linspace(-12, 12, 24001) + 1e-4
POINTS = np.concatenate([np.random.default_rng(0).normal(0, 4, 60), [1e-9, -1e-9, 0.02, -0.02, 29.9, -29.9, 1e-300]])


@pytest.mark.parametrize("name", EVERY)
def test_value_and_derivative_to_rounding(name: str) -> None:
    sigma = get(name)
    value, slope = sigma.value_and_derivative(POINTS, NUMPY)
    second = np.abs(sigma.derivative(POINTS * (1 + 1e-6)) - sigma.derivative(POINTS * (1 - 1e-6))) / 2e-6  # |zσ″(z)|
    for i, z in enumerate(POINTS):
        true_value, true_slope = EXACT[name].value_and_slope(float(z))
        assert abs(value[i] - true_value) <= 8 * EPS * (abs(true_value) + abs(z * true_slope)) + 1e-30
        assert abs(slope[i] - true_slope) <= 16 * EPS * (abs(true_slope) + second[i] + 1 + abs(z))


@pytest.mark.parametrize("name", EVERY)
def test_torch_and_numpy_agree(name: str) -> None:
    import torch

    sigma = get(name)
    z = np.concatenate([np.linspace(-30, 30, 1201), POINTS])
    scale = EPS * (np.abs(sigma.value(z)) + np.abs(z * sigma.derivative(z)) + np.minimum(np.abs(z), 1.0) + 1)
    found = sigma.value_and_derivative(torch.from_numpy(z), torch_ops())
    for numpy_side, torch_side in zip(sigma.value_and_derivative(z, NUMPY), found, strict=True):
        assert (np.abs(torch_side.numpy() - numpy_side) <= 16 * scale).all()


@pytest.mark.parametrize("name", EVERY)
def test_lipschitz_and_bound_are_tight_upper_bounds(name: str) -> None:
    sigma = get(name)
    slopes = np.abs(sigma.derivative(GRID))
    if np.isfinite(sigma.lipschitz):
        assert 0.999 * sigma.lipschitz <= np.max(slopes) <= sigma.lipschitz
        assert np.max(np.abs(np.diff(sigma.value(GRID)) / np.diff(GRID))) <= sigma.lipschitz * (1 + 1e-9)
    else:
        assert np.max(slopes) > 20
    if np.isfinite(sigma.bound):
        far = np.abs(sigma.value(np.concatenate([GRID, np.geomspace(1, 1e5, 50), -np.geomspace(1, 1e5, 50)])))
        assert 0.999 * sigma.bound <= np.max(far) <= sigma.bound
    else:
        assert np.max(np.abs(sigma.value(GRID))) > 10


@pytest.mark.parametrize("name", EVERY)
def test_sup_on_intervals(name: str) -> None:
    sigma, rng = get(name), np.random.default_rng(1)
    low = rng.normal(0, 3, 300)
    high = low + rng.exponential(2.0, 300) * rng.choice([1.0, 1e-3], 300)
    grid = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 400)
    for found, upper in (
        (sigma.value(grid), sigma.sup_abs(low, high)),
        (sigma.derivative(grid), sigma.sup_slope(low, high)),
    ):
        assert (np.max(np.abs(found), axis=1) <= upper * (1 + 4 * EPS)).all()


def polynomial_residual(name: str, sign: int) -> float:
    """How far σ(z) − sign·σ(−z) is from every quadratic polynomial on [−8, 8], relative to σ."""
    sigma, z = get(name), np.linspace(-8, 8, 601)
    gap = sigma.value(z) - sign * sigma.value(-z)
    powers = np.vander(z, 3)
    rest = gap - powers @ np.linalg.lstsq(powers, gap, rcond=None)[0]
    return float(np.linalg.norm(rest) / np.linalg.norm(sigma.value(z)))


@pytest.mark.parametrize("name", EVERY)
def test_flip_relation(name: str) -> None:
    """σ(z) = s·σ(−z) + c + lz + qz² at random z; an activation without relation obeys none."""
    sigma = get(name)
    if sigma.relation is None:
        assert min(polynomial_residual(name, sign) for sign in (1, -1)) > 1e-3
        return
    r, z = sigma.relation, np.random.default_rng(0).normal(0, 4, 1000)
    right = r.sign * sigma.value(-z) + r.constant + r.linear * z + r.quadratic * z * z
    scale = np.abs(sigma.value(z)) + np.abs(sigma.value(-z)) + abs(r.constant) + np.abs(z * sigma.derivative(z))
    np.testing.assert_array_less(
        np.abs(sigma.value(z) - right), 8 * EPS * (scale + np.abs(z) + z * z * abs(r.quadratic))
    )


@pytest.mark.parametrize("name", EVERY)
def test_homogeneity(name: str) -> None:
    sigma = get(name)
    z = np.random.default_rng(2).normal(0, 2, 200)
    stretched, value = sigma.value(3.7 * z), sigma.value(z)
    if sigma.homogeneous is None:
        for degree in range(9):
            assert np.max(np.abs(stretched - 3.7**degree * value)) > 0.05
    else:
        np.testing.assert_allclose(stretched, 3.7**sigma.homogeneous * value, rtol=1e-14)


IMAGES = {
    "leaky_relu": {"relu"},
    "leaky_relu(0.3)": {"relu"},
    "abs": {"relu"},
    "relu6": {"relu"},
    "hardtanh": {"relu"},
    "hard_sigmoid": {"relu"},
    "sigmoid": {"tanh"},
    "normal_cdf": {"erf"},
    "quick_gelu": {"silu"},
    "elu(0.4)": {"relu", "elu"},
    "selu": {"relu", "elu"},
    "celu": {"elu"},
    "celu(2.5)": {"elu"},
    "linear": set(),
}


@pytest.mark.parametrize("name", EVERY)
def test_image_in_cores(name: str) -> None:
    sigma = get(name)
    image, z = sigma.as_image(), np.random.default_rng(3).normal(0, 4, 500)
    assert {term.core for term in image.terms} == IMAGES.get(name, {sigma.name})
    assert all(get(term.core).image is None for term in image.terms)
    total = image.polynomial[0] + image.polynomial[1] * z
    size = np.abs(total)
    for term in image.terms:
        part = term.coefficient * get(term.core).value(term.scale * z + term.shift)
        total, size = total + part, size + np.abs(part) + np.abs(term.coefficient * term.shift)
    assert (np.abs(total - sigma.value(z)) <= 8 * EPS * (size + np.abs(z))).all()


@pytest.mark.parametrize(("name", "shift", "middle"), [("hardtanh", 2, 1), ("relu6", 6, 0), ("hard_sigmoid", 6, 3)])
def test_saturating_atoms_telescope(name: str, shift: float, middle: float) -> None:
    """σ(z) + σ(z − h) = 2σ((z − m)/2): two atoms are one."""
    sigma, z = get(name), np.linspace(-10, 15, 501)
    assert sigma.kind == "kinks"
    pair = sigma.value(z) + sigma.value(z - shift)
    np.testing.assert_allclose(pair, 2 * sigma.value((z - middle) / 2), atol=1e-14)


def test_relu6_reflects_about_three() -> None:
    z = np.linspace(-10, 15, 501)
    np.testing.assert_allclose(get("relu6").value(z) + get("relu6").value(6 - z), 6.0, atol=1e-14)


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_atoms_that_share_a_frequency_span_rank_two(name: str) -> None:
    sigma, z = get(name), np.linspace(-3, 3, 50)
    assert sigma.kind == "frequencies"
    features = np.stack([sigma.value(sign * z + b) for sign in (1, -1) for b in (0.0, 0.3, 1.0, 2.5)])
    assert np.linalg.matrix_rank(features, tol=1e-12) == 2


@pytest.mark.parametrize("name", EVERY)
def test_modulus(name: str) -> None:
    """‖σ(⟨u, (x, 1)⟩) − σ(⟨v, (x, 1)⟩)‖ ≤ M‖u − v‖ for u, v in the cylinder, by Gauss–Hermite on R²."""
    sigma, rng = get(name), np.random.default_rng(4)
    g, weight = np.polynomial.hermite_e.hermegauss(60)
    x = np.stack([*np.meshgrid(g, g), np.ones((60, 60))], axis=-1).reshape(-1, 3)
    w = np.outer(weight, weight).ravel() / (2 * np.pi)
    for near in (1.0, 1e-3):
        for _ in range(10):
            u = rng.normal(0, 0.8, 3)
            v = u + near * rng.normal(0, 0.8, 3)
            r = max(float(np.linalg.norm(u[:2])), float(np.linalg.norm(v[:2])))
            b = float(rng.choice([-1, 1])) * max(abs(u[2]), abs(v[2]))
            gap = float(np.sqrt(w @ (sigma.value(x @ u) - sigma.value(x @ v)) ** 2))
            assert gap <= float(sigma.modulus(np.array([r]), np.array([b]))[0]) * float(np.linalg.norm(u - v)) * (
                1 + 1e-9
            )


def test_registry_names_aliases_and_errors() -> None:
    assert get("gelu_new") == get("gelu_tanh")
    assert get("Swish").name == "silu"
    assert get("leaky_relu(0.01)").name == "leaky_relu"
    assert get("squared_relu") == get("relu_squared") == get("relu2")
    assert get("hermite_4").name == get("hermite(4)").name == "hermite(4)"
    assert get("elu(1)").name == "elu"
    assert get("elu(0.5)").name == "elu(0.5)"
    assert {get(name).name for name in names()} - set(names()) == {"hermite(3)"}
    for bad in (
        "nope", "leaky_relu(1)", "leaky_relu(x)", "relu(2)", "leaky_relu(nan)", "elu(0)", "celu(-1)", "hermite(1)",
        "hermite(2.5)", "hermite(9)", "hermite(nan)",
    ):  # fmt: skip
        with pytest.raises(UnknownActivation):
            get(bad)
