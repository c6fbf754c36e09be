"""Hermite coefficients c_k(r, b) and second moments against rigorous enclosures, for gentle and wild neurons."""

from __future__ import annotations

import numpy as np
import pytest

from activations.truth import EXACT, hermite_coefficient, second_moment
from sparsemf.activations import get

EPS = 2.0**-52
NEURONS = [
    (1e-9, 0.0), (1e-9, 0.3), (1e-3, -1.0), (0.4, 0.0), (0.4, 2.0), (0.4, -12.0), (0.4, 40.0), (1.0, -1.0), (2.1, 0.5),
    (3.0, 0.3), (3.0, -12.0), (9.0, 0.0), (9.0, 2.0), (60.0, -1.0), (60.0, 40.0), (1000.0, 0.3), (1000.0, -12.0),
]  # fmt: skip
DEGREES = (0, 1, 2, 3, 7, 20)


def neurons(name: str) -> list[tuple[float, float]]:
    """NEURONS; for exp those whose integrand e^{rg − g²/2} lies well within the range of integration."""
    return [(r, b) for r, b in NEURONS if name != "exp" or r <= 3]


@pytest.mark.parametrize("name", EXACT)
def test_coefficients_are_right_to_rounding(name: str) -> None:
    """Within 16 ulps of the neuron's size; of ‖σ(rg + b)‖ itself where σ is smooth (the series' margin needs that)."""
    sigma = get(name)
    r, b = (np.array(column) for column in zip(*neurons(name), strict=True))
    found, size = sigma.hermite(r, b, max(DEGREES)), sigma.size(r, b)
    if name == "exp":  # the rounding of its exponent
        size = sigma.rounding_size(r, b)
    smooth = sigma.strip > 0 and name != "exp"
    for i in range(r.size):
        energy = second_moment(name, r[i], b[i])
        length = float(np.sqrt(max(float(energy), 0.0)))
        for k in DEGREES:
            truth = hermite_coefficient(name, r[i], b[i], k)
            assert float(truth.rad()) <= 1e-18 * size[i]
            scale = length if smooth and length > 1e-12 * size[i] else size[i]
            if k and not name.startswith("hermite"):  # c_k vanishes with r
                scale = min(scale, r[i] * (1 + abs(b[i]) + r[i])) if np.isfinite(sigma.lipschitz) else scale
            assert abs(found[i, k] - float(truth)) <= 16 * EPS * scale + 1e-30, (r[i], b[i], k)


@pytest.mark.parametrize("name", EXACT)
def test_second_moment_and_the_sizes_above_it(name: str) -> None:
    sigma = get(name)
    r, b = (np.array(column) for column in zip(*neurons(name), strict=True))
    found, size, rounding = sigma.second_moment(r, b), sigma.size(r, b), sigma.rounding_size(r, b)
    for i in range(r.size):
        truth = second_moment(name, r[i], b[i])
        scale = (
            rounding[i] ** 2
            if name == "exp"
            else size[i] ** 2
            if sigma.strip == 0 or float(truth) < 1e-24 * size[i] ** 2
            else float(truth)
        )
        assert abs(found[i] - float(truth)) <= 16 * EPS * scale + 1e-30, (r[i], b[i])
        assert truth.lower() <= size[i] ** 2, (r[i], b[i])
        assert truth.lower() <= rounding[i] ** 2, (r[i], b[i])


@pytest.mark.parametrize("name", EXACT)
def test_parseval(name: str) -> None:
    sigma = get(name)
    r, b = np.array([0.5, 1.2]), np.array([0.4, -0.7])
    energy, moment = np.sum(sigma.hermite(r, b, 600) ** 2, axis=1), sigma.second_moment(r, b)
    assert (energy <= moment * (1 + 1e-13)).all()
    np.testing.assert_allclose(energy, moment, rtol=2e-5 if sigma.strip == 0 else 1e-12)


@pytest.mark.parametrize("name", EXACT)
def test_a_neuron_without_direction_is_a_constant(name: str) -> None:
    sigma, b = get(name), np.array([-0.7, 0.0, 2.0])
    found = sigma.hermite(np.zeros(3), b, 5)
    np.testing.assert_allclose(found[:, 0], sigma.value(b), rtol=4 * EPS, atol=1e-16)
    assert not found[:, 1:].any()
    np.testing.assert_allclose(sigma.second_moment(np.zeros(3), b), sigma.value(b) ** 2, rtol=8 * EPS, atol=1e-30)
