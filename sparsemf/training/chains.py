"""Do several chains tell of one law?  Rank-normalised split-R̂ and the bulk effective sample size.

A. Vehtari, A. Gelman, D. Simpson, B. Carpenter, P.-C. Bürkner, "Rank-normalization, folding, and localization: an
improved R̂ for assessing convergence of MCMC", Bayesian Analysis 16 (2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri
from scipy.stats import f as fisher
from scipy.stats import rankdata

from sparsemf.exceptions import InputError
from sparsemf.training.autocorrelation import SHORTEST, SeriesMean, autocovariance, initial_monotone_sum


def _checked(chains: np.ndarray) -> np.ndarray:
    x = np.asarray(chains, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] < 2 * SHORTEST:
        raise InputError(f"chains: expected an array (chains, n ≥ {2 * SHORTEST}), got shape {x.shape}")
    return x


def split(chains: np.ndarray) -> np.ndarray:
    """(C, n) to (2C, n/2): both halves of every chain; the middle value of an odd n is dropped."""
    half = chains.shape[1] // 2
    return np.concatenate([chains[:, :half], chains[:, -half:]])


def rank_normalised(values: np.ndarray) -> np.ndarray:
    """Φ⁻¹((r − 3/8)/(S + 1/4)) of the average ranks r among all S values."""
    ranks = rankdata(values, method="average").reshape(values.shape)
    return ndtri((ranks - 0.375) / (values.size + 0.25))


def _between_within(chains: np.ndarray) -> tuple[float, float]:
    """(var⁺, W): var⁺ = (n − 1)/n·W + B/n, W the mean variance of a chain, B/n the variance of the chain means."""
    n = chains.shape[1]
    within = float(chains.var(1, ddof=1).mean())
    between = float(chains.mean(1).var(ddof=1))
    return (n - 1) / n * within + between, within


def _r_hat(chains: np.ndarray) -> float:
    if (chains == chains[0, 0]).all():
        return 1.0
    total, within = _between_within(chains)
    return math.sqrt(total / within) if within > 0 else math.inf


def r_hat(chains: np.ndarray) -> float:
    """Rank-normalised split-R̂ √(var⁺/W) of chains (C, n), C ≥ 1: the larger of the bulk's and the folded one.

    The folded one, of |x − median|, sees chains that agree in location and differ in scale.  1 when all values are
    equal, ∞ when every half chain is constant but not all are equal, NaN when a value is not finite.

    Raises :class:`~sparsemf.exceptions.InputError` on fewer than eight values a chain.
    """
    x = _checked(chains)
    if not np.isfinite(x).all():
        return math.nan
    halves = split(x)
    return max(_r_hat(rank_normalised(halves)), _r_hat(rank_normalised(np.abs(halves - np.median(halves)))))


def bulk_ess(chains: np.ndarray) -> float:
    """Effective sample size of rank-normalised split chains (C, n), all chains together.

    ρ_k = 1 − (W − mean_c γ_k^{(c)})/var⁺ with γ_k^{(c)} of divisor n rescaled to n − 1; cut by Geyer's initial
    monotone sequence; at most S log₁₀ S.  Chains that disagree count little.  S for constant values, NaN when one
    is not finite.
    """
    x = _checked(chains)
    if not np.isfinite(x).all():
        return math.nan
    z = rank_normalised(split(x))
    if (z == z[0, 0]).all():
        return float(z.size)
    n = z.shape[1]
    total, within = _between_within(z)
    if within == 0:
        return float(z.shape[0])
    gamma = autocovariance(z).mean(0) * (n / (n - 1))
    rho = 1.0 - (within - gamma) / total
    rho[0] = 1.0
    tau = max(initial_monotone_sum(rho)[0], 1.0 / math.log10(z.size))
    return z.size / tau


def equal_means(chains: Sequence[SeriesMean]) -> float:
    """p-value of the hypothesis that all chains have one mean, each with its own standard error.

    B. L. Welch, "On the comparison of several mean values: an alternative approach", Biometrika 38 (1951), with the
    degrees of freedom of :class:`~sparsemf.training.autocorrelation.SeriesMean`.  Where an error is 0, 1 or 0
    according to whether the means are equal.
    """
    means = np.array([c.mean for c in chains])
    errors = np.array([c.standard_error for c in chains])
    if not (np.isfinite(means).all() and np.isfinite(errors).all()):
        return math.nan
    if (errors == 0).any():
        return float((means == means[0]).all())
    count = len(chains)
    weights = errors**-2 / np.sum(errors**-2)
    spread = np.sum((means - weights @ means) ** 2 / errors**2) / (count - 1)
    slack = np.sum((1 - weights) ** 2 / np.array([max(c.degrees - 1, 1.0) for c in chains]))
    statistic = spread / (1 + 2 * (count - 2) * slack / (count**2 - 1))
    return float(fisher.sf(statistic, count - 1, (count**2 - 1) / (3 * slack)))
