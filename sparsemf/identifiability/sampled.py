"""Lower bounds of S* from samples of an unknown target, with a stated confidence.

**Setting.**  x_1, …, x_n independent N(0, I_d), y_i ∈ R^m with E[y_i | x_i] = f(x_i) and ‖y_i‖ ≤ B.  The target's
Hermite coefficients t = (⟨f, he_β⟩)_{2 ≤ |β| ≤ K} ∈ R^{D×m} have the unbiased estimate t̂ = (1/n)Σ_i he(x_i) ⊗ y_i.

**Claim.**  With probability at least 1 − δ, for all S at once, no network of S atoms (affine part free) is closer
to f than

    L(S) = √Σ_{j > S} σ_j(M̂_p)² − e,      M̂_p the flattening of t̂,

for e = B√(D/(nδ)), or e = 6B√(Dk/n), k = ⌈8 ln(1/δ)⌉, for a median of k means in place of the mean.

*Proof.*  The distance of a matrix to the matrices of rank ≤ S is √Σ_{j > S} σ_j² and 1-Lipschitz in the Frobenius
norm, and flattening is an isometry; so it is enough that ‖t̂ − t‖ ≤ e.  E‖he(x) ⊗ y‖² ≤ B²·E‖he(x)‖² = B²D, as
every normalised Hermite polynomial has norm 1.  *Mean*: E‖t̂ − t‖² ≤ B²D/n and Markov's inequality.  *Median*: each
of the k means of n/k samples is within r = 2B√(Dk/n) of t with probability ≥ ¾ (Markov), so more than half of them
are except with probability ≤ e^{−k/8} (Hoeffding); then a mean that lies within 2r of more than half of all means -
such as any good one - is within 2r of a good one, and within 3r of t (the argument of Hsu & Sabato, JMLR 17 (2016)).  ∎

The statement is one about the sample: a *confidence bound*, never a certificate.  Nothing of this kind is known for the
empirical norm over given inputs, where a network of few atoms may be close to f at the inputs alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from sparsemf.exceptions import InputError
from sparsemf.identifiability.flattenings import feature_count

Array = NDArray[np.float64]

_MOST_FEATURES = 20_000
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class ConfidenceCurve:
    """``lower[S]`` for S = 0 …, which hold together with probability ≥ ``confidence``; ``error`` is e, ``method`` the
    estimate's name, ``order[S]`` the p that gave each."""

    lower: Array
    order: NDArray[np.int64]
    error: float
    confidence: float
    method: str
    features: int
    kind: str = "confidence bound"


def indices(d: int, k: int) -> list[tuple[int, ...]]:
    """The multi-indices of degree k as sorted tuples of coordinates."""
    return list(combinations_with_replacement(range(d), k))


def hermite_features(x: Array, degrees: range) -> Array:
    """he_β(x) for all multi-indices β of these degrees, in the order of :func:`indices`; shape (n, D).

    he_β = Π_j He_{β_j}(x_j)/√β_j!, orthonormal in L²(N(0, I)).
    """
    one = np.empty((degrees.stop, *x.shape))
    one[0] = 1.0
    if degrees.stop > 1:
        one[1] = x
    for k in range(1, degrees.stop - 1):
        one[k + 1] = (x * one[k] - math.sqrt(k) * one[k - 1]) / math.sqrt(k + 1)
    columns = []
    for k in degrees:
        for index in indices(x.shape[1], k):
            column = np.ones(x.shape[0])
            for j, count in zip(*np.unique(index, return_counts=True), strict=True):
                column = column * one[count, :, j]
            columns.append(column)
    return np.stack(columns, axis=1)


def flattened(coefficients: Array, d: int, degrees: range, p: int) -> Array:
    """[T_k]_k with p indices in the rows, from the coefficients (D, m) of the degrees ≥ p.

    In orthonormal bases of the symmetric tensors the entry at (γ, κ) is t_{γ+κ}·√(C(γ)C(κ)/C(γ+κ)), C(β) = |β|!/β!.
    """
    m = coefficients.shape[1]
    blocks, start = [], 0
    rows = indices(d, p)
    for k in degrees:
        every = {index: i for i, index in enumerate(indices(d, k))}
        columns = indices(d, k - p)
        block = np.empty((len(rows), len(columns), m))
        for i, first in enumerate(rows):
            for j, second in enumerate(columns):
                whole = tuple(sorted(first + second))
                factor = math.sqrt(_orderings(first) * _orderings(second) / _orderings(whole))
                block[i, j] = factor * coefficients[start + every[whole]]
        blocks.append(block.reshape(len(rows), -1))
        start += len(every)
    return np.concatenate(blocks, axis=1)


def _orderings(index: tuple[int, ...]) -> int:
    out = math.factorial(len(index))
    for count in np.unique(index, return_counts=True)[1]:
        out //= math.factorial(int(count))
    return out


def sampled_lower_curve(
    x: Array,
    y: Array,
    bound: float,
    degree: int = 4,
    confidence: float = 0.95,
    orders: tuple[int, ...] = (1, 2),
) -> ConfidenceCurve:
    """Confidence bounds L(S) from samples; see the module's docstring.

    ``x`` (n, d) standard Gaussian inputs, ``y`` (n, m) or (n,) outputs with ‖y_i‖ ≤ ``bound``, K = ``degree``,
    ``orders`` the p to try.  Raises :class:`InputError` for samples that do not fit, outputs beyond the bound, or
    too many coefficients.
    """
    x = np.asarray(x, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64)
    y = y[:, None] if y.ndim == 1 else y
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] != y.shape[0] or x.shape[0] < 1:
        raise InputError(f"samples: expected inputs (n, d) and outputs (n, m), got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("samples: expected finite numbers")
    if not orders or not all(1 <= p <= max(degree, 2) for p in orders):
        raise InputError(f"orders: expected some p from 1 to the degree {max(degree, 2)}, got {orders}")
    if not 0 < confidence < 1:
        raise InputError(f"confidence: expected a number between 0 and 1, got {confidence}")
    largest = float(np.max(np.linalg.norm(y, axis=1)))
    if not largest <= bound:
        raise InputError(f"bound: expected ‖y‖ ≤ {bound:g} for every sample, got {largest:.6g}")
    n, d = x.shape
    degrees = range(2, max(degree, 2) + 1)
    features = sum(feature_count(d, k) for k in degrees)
    if features > _MOST_FEATURES:
        raise InputError(f"degree: {features} Hermite coefficients, at most {_MOST_FEATURES} are estimated; lower it")
    delta = 1.0 - confidence
    blocks = math.ceil(8 * math.log(1 / delta))
    plain = bound * math.sqrt(features / (n * delta))
    # blocks of ⌊n/k⌋ samples: r = 2B√(D/⌊n/k⌋)
    median = 6 * bound * math.sqrt(features / (n // blocks)) if n >= blocks else math.inf
    if plain <= median:
        coefficients, error, method = _mean(x, y, degrees), plain, "mean, by Markov's inequality"
    else:
        error, method = median, f"median of {blocks} means"
        coefficients = _median(x, y, degrees, blocks, error / 3)
    best, order = np.zeros(0), np.zeros(0, dtype=np.int64)
    start = 0
    for p in orders:
        own = range(max(2, p), degrees.stop)
        start = sum(feature_count(d, k) for k in range(2, own.start))
        values = np.linalg.svd(flattened(coefficients[start:], d, own, p), compute_uv=False)
        tails = np.sqrt(np.concatenate([np.cumsum(values[::-1] ** 2)[::-1], [0.0]]))
        size = max(best.size, tails.size)
        tails = np.pad(tails, (0, size - tails.size))
        best, order = np.pad(best, (0, size - best.size)), np.pad(order, (0, size - order.size), constant_values=p)
        order = np.where(tails > best, p, order)
        best = np.maximum(best, tails)
    # float64 sums of n terms and the SVD: far below the statistical error, charged all the same
    rounding = 1e-12 * bound * math.sqrt(features) * (1 + n * 1e-4)
    lower = np.maximum(np.minimum.accumulate(best) - error - rounding, 0.0)
    return ConfidenceCurve(lower, order, error, confidence, method, features)


def _mean(x: Array, y: Array, degrees: range) -> Array:
    total = 0.0
    for start in range(0, x.shape[0], _ROWS):
        rows = slice(start, start + _ROWS)
        total = total + hermite_features(x[rows], degrees).T @ y[rows]
    return np.asarray(total) / x.shape[0]


def _median(x: Array, y: Array, degrees: range, blocks: int, radius: float) -> Array:
    """A block's mean within 2r of more than half of all; where none is (a rare event that the confidence covers), the
    one with the smallest median distance."""
    size = x.shape[0] // blocks
    means = np.stack(
        [_mean(x[i * size : (i + 1) * size], y[i * size : (i + 1) * size], degrees) for i in range(blocks)]
    )
    flat = means.reshape(blocks, -1)
    square = np.sum(flat**2, axis=1)
    distance = np.sqrt(np.maximum(square[:, None] + square - 2 * flat @ flat.T, 0.0))
    close = np.sum(distance <= 2 * radius, axis=1)
    good = np.flatnonzero(2 * close > blocks)
    choice = good if good.size else np.arange(blocks)
    return means[choice[int(np.argmin(np.median(distance[choice], axis=1)))]]
