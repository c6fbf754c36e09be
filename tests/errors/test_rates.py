"""Exponents and relaxation from data of known law."""

import numpy as np
import pytest

from sparsemf.errors.rates import exponential_decay, power_rate
from sparsemf.exceptions import InputError


def noisy(rng, mean, repetitions, degrees=8):
    """Squares with the given means: chi-square with ``degrees`` degrees of freedom, as squared norms have."""
    return mean * rng.chisquare(degrees, (repetitions, len(mean))) / degrees


def test_a_power_law_without_noise_is_found_exactly():
    x = np.array([0.1, 0.2, 0.5])
    found = power_rate("a", "x", x, np.stack([3 * x**1.5, 3 * x**1.5]), (1.5, 1.5), "by construction")
    assert found.exponent == pytest.approx(1.5, abs=1e-12)
    assert found.interval == pytest.approx((1.5, 1.5), abs=1e-12)
    assert found.verdict == "within"
    assert power_rate("a", "x", x, np.stack([3 * x**2.2, 3 * x**2.2]), (1.5, 2.0), "").verdict == "outside"


def test_intervals_cover_and_do_not_cover_all_of_them():
    """400 experiments of six repetitions: the 95 % interval holds the exponent in about 95 % of them."""
    rng, x = np.random.default_rng(0), np.array([1.0, 2.0, 4.0, 8.0])
    held = 0
    for _ in range(400):
        found = power_rate("a", "x", x, noisy(rng, x**-1.0, 6), (-1, -1), "")
        held += found.interval[0] <= -1 <= found.interval[1]
    assert 0.90 < held / 400 < 0.99


def test_scattered_repetitions_do_not_bias_the_exponent():
    """One degree of freedom at the small end: a mean of logarithms is off by 0.6, the log of the mean is not."""
    rng, x = np.random.default_rng(1), np.array([1.0, 8.0])
    squares = np.stack([rng.chisquare(1, 4000), 8.0 * rng.chisquare(64, 4000) / 64], axis=1)
    assert power_rate("a", "x", x, squares, (1, 1), "").exponent == pytest.approx(1.0, abs=0.03)
    naive = np.polyfit(np.log(x), np.log(squares).mean(axis=0), 1)[0]
    assert naive > 1.4


def test_points_off_the_power_law_are_left_out_and_named():
    """x² up to 0.7, where it is a thousand times as much: the largest x is left out, in any order of the points; a
    gentle bend, noise, and the other end are not."""
    rng, x = np.random.default_rng(3), np.array([0.7, 0.1, 0.3])
    law = np.where(x == 0.7, 1e3, 1.0) * x**2
    found = power_rate("a", "x", x, law * noisy(rng, np.ones(3), 6, 200), (2, 2), "", True)
    assert found.left_out == (0.7,)
    assert found.exponent == pytest.approx(2, abs=0.3)
    assert len(found.x) == 3
    assert power_rate("a", "x", x, np.stack([law, law]), (2, 2), "").left_out == ()
    assert power_rate("a", "x", x[:2], np.stack([law, law])[:, :2], (2, 2), "", True).left_out == ()
    assert power_rate("a", "x", x, np.stack([x**1.5 * (1 + x)] * 2), (1, 2), "", True).left_out == ()
    wide = [power_rate("a", "x", x, noisy(rng, x**2, 4, 2), (2, 2), "", True).left_out for _ in range(100)]
    assert sum(bool(out) for out in wide) <= 10


def test_what_cannot_be_fitted_is_refused():
    x = [1.0, 2.0]
    for squares, message in (
        (np.ones((1, 2)), "two repetitions"),
        (np.ones((3, 3)), "two repetitions"),
        (np.array([[1.0, 0.0], [1.0, 0.0]]), "expected positive distances"),
    ):
        with pytest.raises(InputError, match=message):
            power_rate("a", "x", x, squares, (1, 1), "")


def test_relaxation_to_a_floor():
    """c·e^{−2rT} + floor with 2 % noise: rate and floor are found, and the interval holds the rate."""
    rng, times = np.random.default_rng(2), np.array([1.0, 2.0, 3.0, 4.0, 6.0, 9.0])
    mean = 5.0 * np.exp(-2 * 0.7 * times) + 0.01
    found = exponential_decay(times, mean * (1 + 0.02 * rng.standard_normal((6, times.size))))
    assert found.rate == pytest.approx(0.7, rel=0.05)
    assert found.floor == pytest.approx(0.01, rel=0.1)
    assert found.interval[0] <= 0.7 <= found.interval[1]
    assert exponential_decay(times[:3], np.ones((2, 3))).rate is None
    assert exponential_decay(times, np.ones((2, 6))).rate is None
