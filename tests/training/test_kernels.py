"""The trainer's elementwise kernels: against the families' formulas, and tanh's error over all of float32."""

import numpy as np
import pytest
import torch

from sparsemf.activations import get, names, torch_ops
from sparsemf.training.kernels import KERNELS, kernel_for

KINKS = (0.0, 1.0, -1.0, 6.0)


def evaluated(kernel, z, factor=None):
    """σ(z), and factor·σ′(z), by the two halves of a kernel."""
    value, slope = z * kernel.input_scale, torch.full_like(z, torch.nan) if kernel.stores_slope else None
    kernel.forward_(value, slope)
    kept = value.clone()
    return kept * kernel.value_scale, kernel.backward(value, slope, factor) * kernel.slope_scale


@pytest.mark.parametrize("name", [*names(), "leaky_relu(0.2)"])
def test_kernels_are_the_families_formulas(name):
    """In float64; σ′ at the kinks included, where the library has a convention."""
    activation = get(name)
    g = torch.Generator().manual_seed(3)
    z = torch.cat([torch.linspace(-9.0, 9.0, 1801, dtype=torch.float64), torch.tensor(KINKS, dtype=torch.float64)])
    factor = torch.randn(z.shape, generator=g, dtype=torch.float64)
    value, derivative = activation.value_and_derivative(z, torch_ops())
    for multiplied in (None, factor):
        have, slope = evaluated(kernel_for(activation), z, multiplied)
        want = derivative if multiplied is None else derivative * multiplied
        torch.testing.assert_close(have, value, rtol=1e-13, atol=1e-15)
        torch.testing.assert_close(slope, want, rtol=1e-12, atol=2e-15)
    alone = z * kernel_for(activation).input_scale
    kernel_for(activation).value_(alone)
    torch.testing.assert_close(alone * kernel_for(activation).value_scale, value, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_a_kernel_serves_one_dtype_after_another(name):
    """Constants that are kept between calls follow the dtype."""
    kernel = kernel_for(get(name))
    z = torch.linspace(-3.0, 3.0, 401, dtype=torch.float64)
    first = evaluated(kernel, z)
    single = evaluated(kernel, z.float())
    again = evaluated(kernel, z)
    for a, b, c in zip(first, single, again, strict=True):
        assert b.dtype == torch.float32
        assert torch.equal(a, c)
        torch.testing.assert_close(b.double(), a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_samples_and_values_are_scaled_exactly(name):
    """By powers of two; the scale of σ′ goes into the weight of a sum, with its rounding."""
    kernel = kernel_for(get(name))
    for scale in (kernel.input_scale, kernel.value_scale):
        assert np.frexp(scale)[0] == 0.5


def float32_sample():
    """Positive finite floats of every exponent, densely where tanh is neither z nor 1, with both ends of each."""
    parts = [torch.tensor([0, 1, (1 << 23) - 1], dtype=torch.int32)]
    for exponent in range(1, 255):
        stride = 37 if 110 <= exponent <= 131 else 65_521
        mantissas = torch.arange(0, 1 << 23, stride, dtype=torch.int32)
        ends = torch.tensor([(1 << 23) - 1], dtype=torch.int32)
        parts.append(torch.cat([mantissas, ends]) | exponent << 23)
    return torch.cat(parts).view(torch.float32)


def test_tanh_error_over_all_of_float32():
    """|σ − tanh| ≤ 3·2⁻²⁴ and |σ′ − tanh′| ≤ 7·2⁻²⁴; odd to within the error, bounded by 1, exact when saturated."""
    kernel, positive = kernel_for(get("tanh")), float32_sample()
    ends = []
    for z in (positive, -positive):
        value, slope = evaluated(kernel, z)
        exact = torch.tanh(z.double())
        derivative = torch.cosh(z.double()).pow(-2)
        error, slope_error = (value.double() - exact).abs() * 2**24, (slope.double() - derivative).abs() * 2**24
        assert float(error.max()) <= 3.0
        assert float(slope_error.max()) <= 7.0
        # relative to tanh z itself, in its own last places, from |z| = 1/16 on
        large = z.abs() >= 1 / 16
        assert float((error * 2**-24 / exact.abs())[large].max()) <= 2**-24 * 3 * 17
        assert float(value.abs().max()) <= 1.0
        assert float(slope.min()) >= 0.0
        assert torch.equal(value[z.abs() > 20], torch.sign(z[z.abs() > 20]))
        assert not slope[z.abs() > 20].any()
        ends.append(value)
    assert float((ends[0] + ends[1]).abs().max() * 2**24) <= 3.0 * 2


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
def test_not_a_number_stays_one(name):
    """A run that diverged must not look healthy."""
    value, _ = evaluated(kernel_for(get(name)), torch.tensor([torch.nan, 1.0], dtype=torch.float64))
    assert value[0].isnan()
    assert not value[1].isnan()
