"""τ_int, effective sample size and standard error of correlated series, against closed forms and loops."""

import math

import numpy as np
import pytest

from sparsemf.training.autocorrelation import autocovariance, initial_monotone_sum, series_mean
from training.simulated import autoregressive


def geyer_by_loops(x):
    """(sum γ_0 + 2Σγ_k, last lag) written as in the definition."""
    n = len(x)
    c = x - x.mean()
    gamma = [sum(c[t] * c[t + k] for t in range(n - k)) / n for k in range(n)]
    total, smallest, lag = -gamma[0], math.inf, 1
    for m in range(n // 2):
        pair = gamma[2 * m] + gamma[2 * m + 1]
        if pair <= 0:
            break
        smallest = min(smallest, pair)
        total += 2 * smallest
        lag = 2 * m + 1
    return gamma, total, lag


@pytest.mark.parametrize("n", [4, 5, 31, 64])
def test_autocovariance_and_the_monotone_sum_equal_loops(n):
    x = autoregressive(0.7, (n,), np.random.default_rng(n)) + 3.0
    gamma, total, lag = geyer_by_loops(x)
    np.testing.assert_allclose(autocovariance(x), gamma, atol=1e-13)
    assert initial_monotone_sum(np.array(gamma)) == (pytest.approx(total, rel=1e-12), lag)
    found = series_mean(x)
    tau = max(total / gamma[0], 1 / math.log10(n))
    divisor = max(n - 2 * lag - 1 + lag * (lag + 1) / n, 1)
    assert found.tau_int == pytest.approx(tau, rel=1e-10)
    assert found.ess == pytest.approx(n / tau, rel=1e-10)
    assert found.standard_error == pytest.approx(math.sqrt(gamma[0] * tau / divisor), rel=1e-10)
    assert found.degrees == pytest.approx(max(n / (2 * lag + 1), 1))


@pytest.mark.parametrize(("phi", "rel"), [(0.0, 0.05), (0.5, 0.06), (0.9, 0.08), (0.99, 0.2)])
def test_closed_form_of_ar1(phi, rel):
    """τ_int = (1 + φ)/(1 − φ); the standard error of the mean is √(τ_int/n) for variance 1."""
    n = 200_000
    exact = (1 + phi) / (1 - phi)
    x = autoregressive(phi, (n,), np.random.default_rng(7)) * 2.0 - 5.0
    found = series_mean(x)
    assert found.tau_int == pytest.approx(exact, rel=rel)
    assert found.standard_error == pytest.approx(2.0 * math.sqrt(exact / n), rel=rel)
    assert abs(found.mean + 5.0) < 5 * found.standard_error


def test_antithetic_series_are_worth_more_than_independent_ones():
    """φ = −½: τ_int = 1/3 where n is large enough not to meet the floor 1/log₁₀ n."""
    n = 200_000
    x = autoregressive(-0.5, (n,), np.random.default_rng(7))
    assert series_mean(x).tau_int == pytest.approx(1 / 3, rel=0.03)
    short = series_mean(np.tile([1.0, -1.0], 500))
    assert short.tau_int == pytest.approx(1 / 3)  # the floor at 1000 values: 1/log₁₀(1000)


@pytest.mark.parametrize("detrend", [False, True])
@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_standard_errors_are_right_on_average(phi, detrend):
    """Over 400 series of 60 effective samples: Var(x̄) = τ_int/n, and the intervals hold the mean."""
    n = round(60 * (1 + phi) / (1 - phi))
    series = autoregressive(phi, (400, n), np.random.default_rng(11))
    found = [series_mean(x, detrend=detrend) for x in series]
    exact = (1 + phi) / (1 - phi) / n
    assert np.median([f.standard_error**2 for f in found]) == pytest.approx(exact, rel=0.2)
    inside = np.mean([abs(f.mean) < 2.5 * f.standard_error for f in found])
    assert 0.95 < inside <= 1.0


def test_several_series_are_pooled_and_their_shifts_do_not_count():
    x = autoregressive(0.5, (4, 3000), np.random.default_rng(3))
    pooled = series_mean(x)
    assert pooled.count == 12_000
    assert pooled.tau_int == pytest.approx(3.0, rel=0.15)
    assert pooled.standard_error == pytest.approx(math.sqrt(3.0 / 12_000), rel=0.1)
    shifted = series_mean(x + 100.0 * np.arange(4)[:, None])
    assert shifted.standard_error == pytest.approx(pooled.standard_error, rel=1e-9)


def test_a_line_does_not_enter_the_detrended_error():
    x = autoregressive(0.5, (1000,), np.random.default_rng(4))
    ramp = np.linspace(0, 50, 1000)
    plain, line = series_mean(x, detrend=True), series_mean(x + ramp, detrend=True)
    assert line.standard_error == pytest.approx(plain.standard_error, rel=1e-9)
    assert line.mean == pytest.approx(plain.mean + 25)
    assert series_mean(x + ramp).standard_error > 20 * plain.standard_error


@pytest.mark.parametrize("shape", [(10,), (2, 10)])
def test_a_constant_series_is_known_exactly(shape):
    found = series_mean(np.full(shape, 0.1))
    assert (found.mean, found.standard_error, found.tau_int, found.ess) == (pytest.approx(0.1), 0.0, 1.0, found.count)


@pytest.mark.parametrize("x", [[], [1.0], [1.0, 2.0, 3.0], [1.0, 2.0, np.nan, 3.0, 4.0], [1.0, np.inf, 2.0, 3.0]])
def test_short_or_broken_series_give_nan(x):
    found = series_mean(np.array(x))
    assert found.count == len(x)
    assert all(math.isnan(v) for v in (found.mean, found.standard_error, found.tau_int, found.ess, found.degrees))
