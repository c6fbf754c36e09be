"""Kernels between two different activations, against direct quadrature and through images in common cores."""

from __future__ import annotations

import numpy as np
import pytest

from activations.quadrature import EPS, PAIRS, both_sizes, direct, pairs_of
from activations.truth import EXACT
from cases import ACTIVATIONS
from sparsemf.activations import get
from sparsemf.activations.kernels import cross_kernel

CROSS = [
    ("tanh", "sigmoid"), ("erf", "normal_cdf"), ("silu", "quick_gelu"), ("relu", "hardtanh"), ("relu", "abs"),
    ("relu", "elu"), ("elu", "selu"), ("hardtanh", "relu6"), ("gelu", "gelu_tanh"), ("relu2", "relu"), ("softsign",
    "arctan"), ("mish", "softplus"), ("sin", "cos"), ("exp", "linear"), ("cubic", "hermite"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), CROSS)
def test_cross_kernel_against_quadrature(one: str, other: str) -> None:
    sigma, tau = get(one), get(other)
    pairs = pairs_of(one, other)
    s1, m1, s2, m2, rho = np.array(pairs).T
    found = cross_kernel(sigma, tau, s1, m1, s2, m2, rho * s1 * s2)
    swapped = cross_kernel(tau, sigma, s2, m2, s1, m1, rho * s1 * s2)
    assert (np.abs(found.value - swapped.value) <= found.error + swapped.error).all()
    for i, pair in enumerate(pairs):
        size = both_sizes(sigma, tau, *pair[:4])
        assert found.error[i] <= 1e-9 * size, pair
        assert abs(found.value[i] - direct(sigma, tau, *pair)) <= found.error[i] + 256 * EPS * size, pair


IMAGES = [name for name in dict.fromkeys((*ACTIVATIONS, *EXACT)) if get(name).image is not None]


@pytest.mark.parametrize("name", IMAGES)
def test_cross_kernels_agree_with_images(name: str) -> None:
    """E[σ(U)τ(V)] for σ = Σ coefficient·core(scale·z + shift) + p₀ + p₁z from the kernels of the cores."""
    sigma, tau = get(name), get("gelu")
    s1, m1, s2, m2, rho = np.array(PAIRS).T
    c = rho * s1 * s2
    found = cross_kernel(sigma, tau, s1, m1, s2, m2, c)
    low = tau.hermite(s2, m2, 1)
    image = sigma.as_image()
    # E[Uτ(V)] = m₁c₀ + s₁ρc₁
    value = image.polynomial[0] * low[:, 0] + image.polynomial[1] * (m1 * low[:, 0] + s1 * rho * low[:, 1])
    error = found.error + 64 * EPS * tau.size(s2, m2) * (1 + abs(image.polynomial[1]) * np.hypot(s1, m1))
    for term in image.terms:
        part = cross_kernel(
            get(term.core), tau, abs(term.scale) * s1, term.scale * m1 + term.shift, s2, m2, term.scale * c
        )
        value = value + term.coefficient * part.value
        error = error + abs(term.coefficient) * part.error
    assert (np.abs(value - found.value) <= error).all()
