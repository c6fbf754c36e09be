"""Extrapolation to step size 0: by formula, on a chain in closed form, and on a double well against quadrature."""

import json
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import curve_fit

from sparsemf.exceptions import InputError
from sparsemf.training.autocorrelation import series_mean
from sparsemf.training.richardson import richardson, richardson_runs
from training.simulated import autoregressive, records


def test_two_step_sizes_give_the_formula():
    """E_0 = 2E_{h} − E_{2h}, c = (E_{2h} − E_h)/h for p = 1, errors by propagation."""
    found = richardson({0.1: (1.3, 0.01), 0.2: (1.7, 0.03)})
    assert found.value == pytest.approx(0.9)
    assert found.standard_error == pytest.approx(math.hypot(0.02, 0.03))
    assert found.coefficient == pytest.approx(4.0)
    assert found.coefficient_error == pytest.approx(math.hypot(0.01, 0.03) / 0.1)
    assert found.interval == pytest.approx((0.9 - 1.959964 * 0.0360555, 0.9 + 1.959964 * 0.0360555), rel=1e-5)
    assert [b.bias for b in found.biases] == pytest.approx([0.4, 0.8])
    assert found.biases[1].bias_interval[0] == pytest.approx(0.8 - 1.959964 * 2 * math.hypot(0.01, 0.03), rel=1e-5)
    assert found.resolved
    assert "bias at η = 0.2 is 0.8 ±" in found.statement
    assert (found.degrees, found.chi2, found.p_value, found.consistent) == (0, None, None, None)
    assert (found.observed_order, found.order_interval) == (None, None)


@pytest.mark.parametrize("order", [1.0, 2.0, 0.5])
def test_least_squares_equal_an_independent_fit(order):
    rng = np.random.default_rng(0)
    eta, error = np.array([0.05, 0.1, 0.3, 0.4]), np.array([0.02, 0.01, 0.04, 0.005])
    mean = 2 - 3 * eta**order + error * rng.standard_normal(4)
    found = richardson({h: (m, s) for h, m, s in zip(eta, mean, error, strict=True)}, order)
    best, covariance = curve_fit(lambda h, a, b: a + b * h**order, eta, mean, sigma=error, absolute_sigma=True)
    assert (found.value, found.coefficient) == pytest.approx(tuple(best), rel=1e-6)
    assert (found.standard_error, found.coefficient_error) == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-5)
    assert found.chi2 == pytest.approx(np.sum(((mean - best[0] - best[1] * eta**order) / error) ** 2), rel=1e-6)
    assert found.p_value == pytest.approx(math.exp(-found.chi2 / 2))  # two degrees of freedom
    json.dumps(found.to_dict(), allow_nan=False)


def variance(eta, tau=0.3, decay=1.5):
    """Stationary variance of θ ← (1 − ηλ)θ + √(2τη)ξ."""
    return tau / (decay * (1 - eta * decay / 2))


def test_the_closed_form_of_the_quadratic_potential():
    """τ/(λ(1 − ηλ/2)) = (τ/λ)(1 + ηλ/2 + …): E_0 = τ/λ, c → τ/2, order 1, and order 2 is refused."""
    eta = (0.01, 0.02, 0.04)
    found = richardson({h: (variance(h), 1e-4) for h in eta})
    assert found.value == pytest.approx(0.2, abs=2e-4)
    assert found.coefficient == pytest.approx(0.15, rel=0.1)
    assert found.consistent
    assert found.observed_order == pytest.approx(1.0, abs=0.1)
    assert found.order_interval[0] < 1.0 < found.order_interval[1] < 2.0
    assert not richardson({h: (variance(h), 1e-4) for h in (0.01, 0.1, 0.2)}, order=2).consistent
    exact = richardson({h: (0.2 + 5 * h**2, 1e-6) for h in (0.1, 0.2, 0.4, 0.5)}, order=2)
    assert (exact.value, exact.coefficient) == pytest.approx((0.2, 5.0), rel=1e-6)
    assert exact.observed_order == pytest.approx(2.0, abs=1e-3)


def test_intervals_hold_the_value_as_often_as_they_say():
    rng = np.random.default_rng(1)
    eta, error = (0.1, 0.2, 0.4), 0.05
    found = [richardson({h: (1 + 0.5 * h + error * rng.standard_normal(), error) for h in eta}) for _ in range(300)]
    assert np.mean([f.interval[0] <= 1 <= f.interval[1] for f in found]) == pytest.approx(0.95, abs=0.035)
    assert np.mean([f.p_value for f in found]) == pytest.approx(0.5, abs=0.06)
    unresolved = [f for f in found if not f.resolved]
    assert unresolved
    assert all("not resolved" in f.statement and f.observed_order is None for f in unresolved)


def well(x):
    """Drift of V(x) = 2x² − 2 log cosh 2x: wells near ±1, and linear growth, so that no step explodes."""
    return 4 * np.tanh(2 * x) - 4 * x


def simulate(eta, time, chains, tau, rng, method):
    """(mean of −x·b(x), its error over independent chains) of x ← x + ηb(x) + √(2τη)·noise."""
    x = rng.standard_normal(chains)
    steps = round(time / eta)
    total = np.zeros(chains)
    before = rng.standard_normal(chains)
    for k in range(steps):
        after = rng.standard_normal(chains)
        # BAOAB in the limit of large friction averages the noise of two steps (Leimkuhler and Matthews)
        noise = after if method == "euler" else 0.5 * (before + after)
        x = x + eta * well(x) + math.sqrt(2 * tau * eta) * noise
        before = after
        if k >= steps // 5:
            total -= x * well(x)
    means = total / (steps - steps // 5)
    return means.mean(), means.std(ddof=1) / math.sqrt(chains)


def test_a_double_well_against_gibbs_quadrature():
    """E⟨x, V′(x)⟩: both schemes extrapolate to the Gibbs mean; Euler's bias is (η/2)E V′², BAOAB's of second order."""
    tau = 0.5

    def weight(x):
        return math.exp(-(2 * x**2 - 2 * math.log(math.cosh(2 * x))) / tau)

    exact = quad(lambda x: -x * well(x) * weight(x), -9, 9)[0] / quad(weight, -9, 9)[0]
    assert exact == pytest.approx(tau)  # E⟨x, V′⟩ = τ: the virial identity
    rng = np.random.default_rng(2)
    means = {h: simulate(h, 40.0, 4000, tau, rng, "euler") for h in (0.025, 0.05, 0.1, 0.2)}
    euler = richardson({h: means[h] for h in (0.025, 0.05, 0.1)})
    assert abs(euler.value - exact) < 3.5 * euler.standard_error
    assert euler.standard_error < 0.005
    assert euler.resolved
    assert euler.consistent
    for step in euler.biases:
        assert step.mean - exact == pytest.approx(step.bias, abs=3.5 * step.standard_error)
    assert euler.biases[-1].bias > 10 * euler.biases[-1].standard_error
    coarse = richardson(means)  # at η = 0.2 the second order shows
    assert coarse.consistent is False
    assert "order 1 does not fit" in coarse.statement
    assert coarse.observed_order > 1.1
    baoab = richardson({h: simulate(h, 40.0, 4000, tau, rng, "baoab") for h in (0.1, 0.2)}, order=2)
    assert abs(baoab.value - exact) < 3.5 * baoab.standard_error
    assert abs(baoab.biases[-1].bias) < 0.1 * (means[0.2][0] - exact)


@pytest.mark.parametrize("chains", [1, 3])
def test_runs_give_means_and_errors_of_their_last_halves(chains):
    rng = np.random.default_rng(2)
    runs, expected = {}, {}
    for eta in (0.1, 0.2):
        series = [1 + eta + 0.1 * autoregressive(0.8, (2000,), rng) for _ in range(chains)]
        for x in series:
            x[:1000] = 50.0  # the first half must not enter
        runs[eta] = [records(step_size=eta, m2=x) for x in series]
        means = [series_mean(x[1000:]) for x in series]
        error = math.sqrt(sum(m.standard_error**2 for m in means)) / chains
        expected[eta] = (np.mean([m.mean for m in means]), error)
    found = richardson_runs(runs, "m2")
    wanted = richardson(expected)
    assert (found.value, found.standard_error) == pytest.approx((wanted.value, wanted.standard_error), rel=1e-9)
    assert abs(found.value - 1) < 4 * found.standard_error


@pytest.mark.parametrize(
    ("observations", "options", "message"),
    [
        ({0.1: (1.0, 0.1)}, {}, "two step sizes or more, got 1"),
        ({0.1: (1.0, 0.1), 0.2: (1.0, 0.0)}, {}, "standard errors > 0"),
        ({0.1: (1.0, 0.1), 0.2: (np.nan, 0.1)}, {}, "expected finite means"),
        ({0.1: (1.0, 0.1), -0.2: (1.0, 0.1)}, {}, "finite step sizes > 0"),
        ({0.1: (1.0, 0.1), 0.2: (1.0, 0.1)}, {"order": 0}, "an order > 0, got 0"),
        ({0.1: (1.0, 0.1), 0.2: (1.0, 0.1)}, {"confidence": 1.0}, "confidence between 0 and 1"),
    ],
)
def test_what_it_needs(observations, options, message):
    with pytest.raises(InputError, match=message):
        richardson(observations, **options)


def test_what_runs_must_have():
    good = [records(step_size=0.1, m2=np.random.default_rng(3).standard_normal(50))]
    with pytest.raises(InputError, match=r"constant step size 0.2, got 0.1"):
        richardson_runs({0.1: good, 0.2: good}, "m2")
    with pytest.raises(InputError, match=r"four or more finite values of energy .* got 0 values"):
        richardson_runs({0.1: good}, "energy")
    with pytest.raises(InputError, match=r"expected a run at step size 0.1, got none"):
        richardson_runs({0.1: []}, "m2")
