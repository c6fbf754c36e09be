"""The mean of a correlated series: integrated autocorrelation time, effective sample size, standard error.

For a stationary series with autocovariances γ_k and ρ_k = γ_k/γ_0, n consecutive values have

    Var(x̄) ≈ γ_0 τ_int / n,        τ_int = 1 + 2 Σ_{k ≥ 1} ρ_k,        ESS = n/τ_int.

The sum is cut by the initial monotone sequence of C. Geyer (Practical Markov chain Monte Carlo, Statistical
Science 7, 1992): the pairs Γ_m = γ_{2m} + γ_{2m+1} of a reversible chain are positive and decreasing, so they are
kept until the first one that is not positive, and each is lowered to the smallest before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft

SHORTEST = 4


@dataclass(frozen=True)
class SeriesMean:
    """The mean of a series, or of several of equal law and length, and what it is worth.

    Attributes
    ----------
    count :
        Number of values, all series together.
    mean, standard_error :
        x̄ and its Monte Carlo standard error.
    variance :
        γ_0, divisor n, each series centred at its own mean.
    tau_int, ess :
        τ_int in units of the spacing of the values, and count/τ_int.
    cutoff :
        T, the last lag that entered τ_int.
    degrees :
        count/(2T + 1), to be used as degrees of freedom of Student's law: the squared relative error of
        ``standard_error``² is about 2(2T + 1)/count (A. Sokal, Monte Carlo methods in statistical mechanics, 1996).

    A series that never moves has standard error 0 and τ_int = 1.  Fewer than four values, or one that is not
    finite, give NaN everywhere but in ``count``.
    """

    count: int
    mean: float
    standard_error: float
    variance: float
    tau_int: float
    ess: float
    cutoff: int
    degrees: float


def autocovariance(series: np.ndarray) -> np.ndarray:
    """γ̂_k = (1/n) Σ_{t < n − k} (x_t − x̄)(x_{t+k} − x̄), k = 0 … n − 1, along the last axis, by FFT."""
    x = np.asarray(series, dtype=np.float64)
    n = x.shape[-1]
    centred = x - x.mean(-1, keepdims=True)
    size = scipy.fft.next_fast_len(2 * n - 1, real=True)
    spectrum = np.asarray(scipy.fft.rfft(centred, size))
    products = np.asarray(scipy.fft.irfft(np.abs(spectrum) ** 2, size))
    return products[..., :n] / n


def initial_monotone_sum(gamma: np.ndarray) -> tuple[float, int]:
    """(γ_0 + 2 Σ_{k=1}^{T} γ_k by Geyer's initial monotone sequence, T) of γ_0 > 0, γ_1, … γ_{n−1}."""
    pairs = gamma[: gamma.size // 2 * 2].reshape(-1, 2).sum(1)
    bad = np.flatnonzero(pairs <= 0)
    kept = pairs[: bad[0] if bad.size else pairs.size]
    if not kept.size:  # strongly antithetic: the first pair is not positive
        return 0.0, 1
    return float(2.0 * np.minimum.accumulate(kept).sum() - gamma[0]), 2 * kept.size - 1


def series_mean(series: np.ndarray, *, detrend: bool = False) -> SeriesMean:
    """The mean of one series (n,), or of several of equal law (C, n), with its Monte Carlo standard error.

    Autocovariances are averaged over the series, each centred at its own mean, so that a shift between the series
    does not enter the standard error.  Centring lowers γ̂_k by about Var(x̄); the divisor n − 2T − 1 + T(T + 1)/n
    in place of n makes up for it (H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91, 1989).  τ_int is at least
    1/log₁₀(count), as in A. Vehtari et al., Bayesian Analysis 16, 2021: an antithetic series is trusted no further.

    With ``detrend`` each series loses its least-squares line instead, and the correction of the divisor, n minus
    the divisor, is doubled: a drift then does not enter the standard error either, and cannot hide in it.
    """
    x = np.atleast_2d(np.asarray(series, dtype=np.float64))
    chains, n = x.shape
    nan = math.nan
    if n < SHORTEST or not np.isfinite(x).all():
        return SeriesMean(x.size, nan, nan, nan, nan, nan, 0, nan)
    mean = float(x.mean())
    if (x == x[:, :1]).all():
        return SeriesMean(x.size, mean, 0.0, 0.0, 1.0, float(x.size), 0, float(x.size))
    removed = 1
    if detrend:
        removed = 2
        time = np.arange(n) - 0.5 * (n - 1)
        x = x - np.outer(x @ time / (time @ time), time)
    gamma = autocovariance(x).mean(0)
    total, cutoff = initial_monotone_sum(gamma)
    tau = max(total / float(gamma[0]), 1.0 / math.log10(x.size)) if gamma[0] > 0 else 1.0
    divisor = max(n - removed * (2 * cutoff + 1 - cutoff * (cutoff + 1) / n), 1.0)
    error = math.sqrt(float(gamma[0]) * tau / divisor / chains)
    degrees = max(x.size / (2 * cutoff + 1) - (removed - 1), 1.0)
    return SeriesMean(x.size, mean, error, float(gamma[0]), tau, x.size / tau, cutoff, degrees)
