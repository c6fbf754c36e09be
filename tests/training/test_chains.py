"""Rank-normalised split-R̂ and bulk ESS: against loops, and where they are known to be large or 1."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from sparsemf.exceptions import InputError
from sparsemf.training.autocorrelation import SeriesMean, series_mean
from sparsemf.training.chains import bulk_ess, equal_means, r_hat
from training.simulated import autoregressive


def normal_scores(values):
    """Φ⁻¹((r − 3/8)/(S + 1/4)) by counting."""
    flat = values.ravel()
    ranks = [np.sum(flat < v) + (np.sum(flat == v) + 1) / 2 for v in flat]
    scores = [NormalDist().inv_cdf((r - 0.375) / (flat.size + 0.25)) for r in ranks]
    return np.array(scores).reshape(values.shape)


def halves(chains):
    n = chains.shape[1] // 2
    return np.array([part for chain in chains for part in (chain[:n], chain[-n:])])


def plain_r_hat(z):
    c, n = z.shape
    w = sum(sum((v - row.mean()) ** 2 for v in row) / (n - 1) for row in z) / c
    b = n / (c - 1) * sum((row.mean() - z.mean()) ** 2 for row in z)
    return math.sqrt(((n - 1) / n * w + b / n) / w), w, (n - 1) / n * w + b / n


@pytest.mark.parametrize("shape", [(1, 8), (2, 21), (4, 30)])
def test_r_hat_and_bulk_ess_equal_their_definitions(shape):
    rng = np.random.default_rng(shape[1])
    chains = np.round(autoregressive(0.6, shape, rng), 1)  # rounded: ties
    split = halves(chains)
    z = normal_scores(split)
    bulk, w, var_plus = plain_r_hat(z)
    folded, _, _ = plain_r_hat(normal_scores(np.abs(split - np.median(split))))
    assert r_hat(chains) == pytest.approx(max(bulk, folded), rel=1e-10)
    n = z.shape[1]
    rho = [1.0]
    for k in range(1, n):
        gamma = [sum((row[:-k] - row.mean()) * (row[k:] - row.mean())) / (n - 1) for row in z]
        rho.append(1 - (w - np.mean(gamma)) / var_plus)
    tau, smallest = -1.0, math.inf
    for m in range(n // 2):
        pair = rho[2 * m] + rho[2 * m + 1]
        if pair <= 0:
            break
        smallest = min(smallest, pair)
        tau += 2 * smallest
    assert bulk_ess(chains) == pytest.approx(z.size / max(tau, 1 / math.log10(z.size)), rel=1e-10)


def test_chains_of_one_law_agree():
    chains = autoregressive(0.5, (4, 4000), np.random.default_rng(0))
    assert r_hat(chains) < 1.01
    assert bulk_ess(chains) == pytest.approx(16_000 / 3, rel=0.15)


def test_a_shifted_chain_is_seen_and_costs_effective_samples():
    chains = autoregressive(0.5, (4, 1000), np.random.default_rng(1))
    before = bulk_ess(chains)
    chains[3] += 1.5
    assert r_hat(chains) > 1.1
    assert bulk_ess(chains) < before / 20


def test_different_scales_are_seen_by_the_folded_part():
    chains = autoregressive(0.0, (4, 1000), np.random.default_rng(2))
    chains[3] *= 3
    assert plain_r_hat(chains)[0] < 1.01
    assert r_hat(chains) > 1.1


def test_heavy_tails_do_not_hide_a_shift():
    """Cauchy chains: no variance, so the plain ratio sees nothing; ranks do, and are unmoved by monotone maps."""
    chains = np.random.default_rng(3).standard_cauchy((4, 1000))
    assert r_hat(chains) < 1.02
    chains[3] += 3
    assert plain_r_hat(chains)[0] < 1.02
    assert r_hat(chains) > 1.1
    positive = np.exp(np.clip(chains, -50, 50))
    assert bulk_ess(np.log(positive)) == pytest.approx(bulk_ess(positive), rel=1e-9)


def test_a_drifting_chain_alone_is_seen_by_its_halves():
    x = autoregressive(0.0, (1, 1000), np.random.default_rng(4)) + np.linspace(0, 3, 1000)
    assert r_hat(x) > 1.2


def test_constant_and_broken_chains():
    assert r_hat(np.full((3, 20), 2.0)) == 1.0
    assert bulk_ess(np.full((3, 20), 2.0)) == 60
    assert r_hat(np.repeat([[1.0], [2.0]], 20, axis=1)) == math.inf
    assert bulk_ess(np.repeat([[1.0], [2.0]], 20, axis=1)) == 4
    assert math.isnan(r_hat(np.full((2, 20), np.nan)))
    assert math.isnan(bulk_ess(np.full((2, 20), np.nan)))
    with pytest.raises(InputError, match=r"chains: expected an array .* got shape \(2, 7\)"):
        r_hat(np.zeros((2, 7)))


def test_two_equal_means_reduce_to_welch_s_t_test():
    from scipy.stats import ttest_ind_from_stats

    a, b = (SeriesMean(n, m, s / math.sqrt(n), s**2, 1.0, n, 0, n) for n, m, s in ((12, 0.3, 1.1), (40, 1.0, 2.0)))
    expected = ttest_ind_from_stats(0.3, 1.1, 12, 1.0, 2.0, 40, equal_var=False).pvalue
    assert equal_means([a, b]) == pytest.approx(expected, rel=1e-9)


def test_equal_means_is_level_and_has_power():
    rng = np.random.default_rng(5)
    p = np.array([equal_means([series_mean(x) for x in autoregressive(0.5, (4, 300), rng)]) for _ in range(400)])
    assert 0.02 <= np.mean(p < 0.05) <= 0.1
    chains = autoregressive(0.5, (4, 300), rng)
    chains[0] += 0.7
    assert equal_means([series_mean(x) for x in chains]) < 1e-4
    constant = [series_mean(np.full(10, v)) for v in (1.0, 1.0, 2.0)]
    assert equal_means(constant[:2]) == 1.0
    assert equal_means(constant) == 0.0
    assert math.isnan(equal_means([constant[0], series_mean(np.full(10, np.nan))]))
