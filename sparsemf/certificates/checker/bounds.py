"""The checker's own bounds.  Arithmetic: float64 with the margins stated at each function (witnesses: balls).

All take networks in whitened coordinates for L², in input coordinates for the sup norm over a ball.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.functions import Function, function
from sparsemf.certificates.checker.integrals import hermite_and_moment, relu_kernel_beyond_affine
from sparsemf.certificates.checker.raw import Raw

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

UNIT = 2.0**-52
NEGLIGIBLE = 1e-100
_ROWS = 256
_DEGREES = (32, 64, 128, 256, 512)
_HIGHEST_DEGREE = 128
_MOST_NEURONS = 6000
_MOST_PAIRS = 3e7
_MOST_TERMS = 1.2e9


def _silent(h: Raw) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(dead, constant): α = 0; max |w| ≤ 1e-100, whose variation :func:`negligible` charges."""
    dead = np.logical_not(np.any(h.alpha != 0, axis=1))
    return dead, ~dead & (np.max(np.abs(h.w), axis=1, initial=0.0) <= NEGLIGIBLE)


def negligible(h: Raw, radius: float | None = None) -> float:
    """What the constants of :func:`active` vary at most: Σ‖α_i‖₁·Lip·‖w_i‖₁ (times the radius in a ball)."""
    _, constant = _silent(h)
    lipschitz = function(h.activation).lipschitz
    size = np.sum(np.abs(h.alpha[constant]), axis=1) @ np.sum(np.abs(h.w[constant]), axis=1)
    return lipschitz * float(size) * (1.0 if radius is None else radius)


def active(h: Raw) -> Raw:
    """Without silent (α = 0) and constant (w negligible) neurons; constants move into the offset."""
    sigma = function(h.activation)
    dead, constant = _silent(h)
    offset = h.offset + h.alpha[constant].T @ sigma.value(h.b[constant])
    keep = ~dead & ~constant
    return Raw(h.activation, h.alpha[keep], h.w[keep], h.b[keep], h.affine, offset)


def rounding(h: Raw, radius: float | None = None) -> float:
    """The stated margin of one evaluation of a sum over *all* neurons of h, silent constants included:
    (n + d + 64)·UNIT·mass, plus :func:`negligible`."""
    return (h.b.size + h.w.shape[1] + 64) * UNIT * mass(h, radius) + negligible(h, radius)


def whitening_error(h: Raw, mean: Array | None, root: Array | None) -> float:
    """Bound in L² of what :meth:`Raw.whitened` rounds:
    (d + 4)·UNIT·[Σ‖α_i‖·Lip·(‖w_i‖(‖root‖_F + ‖mean‖) + |b_i|) + ‖A‖(‖root‖_F + ‖mean‖) + ‖c‖]."""
    if mean is None or root is None:
        return 0.0
    reach = float(np.linalg.norm(root) + np.linalg.norm(mean))
    size = np.linalg.norm(h.w, axis=1) * reach + np.abs(h.b)
    total = function(h.activation).lipschitz * float(np.linalg.norm(h.alpha, axis=1) @ size)
    total += float(np.linalg.norm(h.affine)) * reach + float(np.linalg.norm(h.offset))
    return (h.w.shape[1] + 4) * UNIT * total


def mass(h: Raw, radius: float | None = None) -> float:
    """Σ‖α_i‖(|σ(0)| + Lip·size_i) + affine, with size_i = ‖(w, b)‖ (L²) or R‖w‖ + |b| (ball): rounding's scale."""
    sigma = function(h.activation)
    norm = np.linalg.norm(h.w, axis=1)
    size = np.hypot(norm, h.b) if radius is None else radius * norm + np.abs(h.b)
    at_zero = float(np.abs(sigma.value(np.zeros(1)))[0])
    total = float(np.linalg.norm(h.alpha, axis=1) @ (at_zero + sigma.lipschitz * size))
    slope = float(np.linalg.norm(h.affine)) * (1.0 if radius is None else radius)
    return total + slope + float(np.linalg.norm(h.offset))


def grouped_upper(h: Raw, leader: Integers, sign: Integers, radius: float | None = None) -> float:
    """‖h‖ ≤ Σ_g [‖Σκ_i‖·‖σ(u_g)‖ + Lip·Σ‖κ_i‖·‖u_i − u_g‖] + ‖affine‖ for any groups and flips; see the proof in
    the mathematics pages.  ``leader[i]`` and ``sign[i]`` speak of all neurons of h; leader −1 stands alone.

    ‖σ(u)‖ is bounded by |σ(0)| + Lip·‖z‖, which needs no integral.  Margin: :func:`rounding`.
    """
    sigma = function(h.activation)
    leader, sign = _restricted(h, leader, sign)
    slack = rounding(h, radius)
    h = active(h)
    n = h.b.size
    points = np.concatenate([h.w, h.b[:, None]], axis=1)
    stretch = np.linalg.norm(points, axis=1) if sigma.homogeneous else np.ones(n)
    u = points / stretch[:, None] * sign[:, None]
    kappa = h.alpha * stretch[:, None]
    affine, offset = h.affine.copy(), h.offset.copy()
    flipped = sign < 0
    affine += sigma.linear * h.alpha[flipped].T @ h.w[flipped]
    offset += h.alpha[flipped].T @ (sigma.constant + sigma.linear * h.b[flipped])
    kappa[flipped] *= sigma.sign
    sums = np.zeros_like(kappa)
    np.add.at(sums, leader, kappa)

    def size(p: Array) -> Array:
        norm = np.linalg.norm(p[:, :-1], axis=1)
        return np.hypot(norm, p[:, -1]) if radius is None else radius * norm + np.abs(p[:, -1])

    at_zero = float(np.abs(sigma.value(np.zeros(1)))[0])
    bound = float(np.linalg.norm(sums, axis=1) @ (at_zero + sigma.lipschitz * size(u)))
    bound += sigma.lipschitz * float(np.linalg.norm(kappa, axis=1) @ size(u - u[leader]))
    if radius is None:
        bound += float(np.hypot(np.linalg.norm(affine), np.linalg.norm(offset)))
    else:
        bound += radius * float(np.linalg.norm(affine, 2)) + float(np.linalg.norm(offset))
    return bound * (1 + 64 * UNIT) + slack


def _restricted(h: Raw, leader: Integers, sign: Integers) -> tuple[Integers, Integers]:
    """The grouping of all neurons, restricted to the active ones; whoever lost its leader stands alone."""
    total = h.b.size
    if leader.shape != (total,) or sign.shape != (total,) or (total and leader.max() >= total):
        raise ValueError("grouping does not fit the two networks")
    if not np.isin(sign, (-1, 1)).all():
        raise ValueError("flips must be ±1")
    dead, constant = _silent(h)
    alive = ~dead & ~constant
    position = np.where(alive, np.cumsum(alive) - 1, -1)
    rows = np.flatnonzero(alive)
    head = np.where(leader[rows] >= 0, position[np.maximum(leader[rows], 0)], -1)
    return np.where(head >= 0, head, np.arange(rows.size)), sign[rows]


def affine_and_ridge_lower(h: Raw, direction: Array | None, degree: int = 24) -> float:
    """Bessel's inequality: ‖h‖² ≥ ‖T₀‖² + ‖T₁‖² + Σ_{k=2}^{degree} ‖⟨h, he_k(⟨u, x⟩)⟩‖² for a unit vector u.

    The functions 1, x_j, he_k(⟨u, ·⟩) are orthonormal.  Margin on each coefficient: :func:`rounding`.
    """
    sizes, slack = degree_sizes(h, direction, degree)
    square = max(float(np.hypot(sizes[0], sizes[1])) - slack, 0.0) ** 2
    square += sum(max(size - slack, 0.0) ** 2 for size in sizes[2:])
    return float(np.sqrt(square)) * (1 - 1e-12)


def degree_sizes(h: Raw, direction: Array | None, degree: int) -> tuple[list[float], float]:
    """(‖T₀‖, ‖T₁‖, ‖⟨h, he_k(⟨u, x⟩)⟩‖ for k = 2 … degree) as computed, and the margin of each."""
    slack = rounding(h)
    h = active(h)
    norm = np.linalg.norm(h.w, axis=1)
    c, _ = hermite_and_moment(function(h.activation), norm, h.b, degree if direction is not None else 1)
    unit = h.w / norm[:, None]
    slope = h.affine + (h.alpha * c[:, 1:2]).T @ unit
    sizes = [float(np.linalg.norm(h.offset + h.alpha.T @ c[:, 0])), float(np.linalg.norm(slope))]
    if direction is not None:
        if direction.shape != (h.w.shape[1],) or not abs(float(np.linalg.norm(direction)) - 1.0) <= 1e-12:
            raise ValueError("the direction must be a unit vector of the input space")
        cosine = unit @ direction
        sizes += [float(np.linalg.norm(h.alpha.T @ (c[:, k] * cosine**k))) for k in range(2, degree + 1)]
    return sizes, slack


def merged(h: Raw) -> tuple[Raw, float]:
    """(g, error): neurons that agree to about nine digits (after scaling and flips) made one, ‖h − g‖ ≤ error.

    Any grouping is valid, so how the groups are found need not be trusted; the error is the sum
    Lip·Σ‖κ_i‖·‖u_i − u_g‖ plus :func:`rounding`.
    """
    sigma = function(h.activation)
    slack = rounding(h)
    h = active(h)
    n = h.b.size
    if n == 0:
        return h, slack
    points = np.concatenate([h.w, h.b[:, None]], axis=1)
    length = np.linalg.norm(points, axis=1)
    first = np.argmax(np.abs(points) > 1e-5 * length[:, None], axis=1)
    sign = np.where(points[np.arange(n), first] < 0, -1.0, 1.0)
    direction = points / length[:, None] * sign[:, None]
    key = direction if sigma.homogeneous else np.concatenate([direction, np.log(length)[:, None]], axis=1)
    _, head, label = np.unique(np.round(key, 9), axis=0, return_index=True, return_inverse=True)
    label = label.ravel()
    if head.size == n:
        return h, slack
    stretch = length if sigma.homogeneous else np.ones(n)
    u = points / stretch[:, None] * sign[:, None]
    kappa = h.alpha * stretch[:, None]
    flipped = sign < 0
    affine = h.affine + sigma.linear * h.alpha[flipped].T @ h.w[flipped]
    offset = h.offset + h.alpha[flipped].T @ (sigma.constant + sigma.linear * h.b[flipped])
    kappa[flipped] *= sigma.sign
    sums = np.zeros((head.size, h.alpha.shape[1]))
    np.add.at(sums, label, kappa)
    error = slack + sigma.lipschitz * float(np.linalg.norm(kappa, axis=1) @ np.linalg.norm(u - u[head][label], axis=1))
    return Raw(h.activation, sums, u[head, :-1], u[head, -1], affine, offset), error


def gram_bounds(h: Raw) -> tuple[float, float]:
    """(lower, upper) of ‖h‖ in L²(N(0, I)) from the full Gram form; (0, inf) when there are too many pairs.

    Piecewise-linear σ: the integral kernel.  Smooth σ: the Hermite series, its tail bounded by
    (Σ‖α_i‖t_i)², t_i² = E σ_i² − Σ_{k ≤ K} c_k².  Margin of the form:
    UNIT·[(n + 64)·|α|ᵀ|K||α| + (256 + d)·(Σ‖α_i‖ size_i)²], size_i = |σ(0)| + Lip·‖(w_i, b_i)‖ for the integral kernel
    and ‖φ_i‖ for the series.
    """
    h, merging = merged(h)
    sigma = function(h.activation)
    n, d = h.w.shape
    if float(n) ** 2 > _MOST_PAIRS:
        return 0.0, float("inf")
    norm, weight = np.linalg.norm(h.w, axis=1), np.linalg.norm(h.alpha, axis=1)
    unit = h.w / norm[:, None]
    c, moment, tail = _coefficients(sigma, norm, h.b, weight)
    form = absolute = 0.0
    for start in range(0, n, _ROWS):
        rows = slice(start, start + _ROWS)
        cos = np.clip(unit[rows] @ unit.T, -1.0, 1.0)
        if sigma.slopes is not None:
            # σ = (right + left)·relu + linear; beyond the affine part only the kink counts
            block = relu_kernel_beyond_affine(norm[rows, None], h.b[rows, None], norm[None], h.b[None], cos)
            block = block * (sigma.slopes[0] + sigma.slopes[1]) ** 2
        else:
            block = np.zeros_like(cos)
            for k in range(c.shape[1] - 1, 1, -1):
                block = (block + np.outer(c[rows, k], c[:, k])) * cos
            block = block * cos
        form += float(np.sum(h.alpha[rows] * (block @ h.alpha)))
        absolute += float(weight[rows] @ np.abs(block) @ weight)
    total = mass(h) if sigma.slopes is not None else float(weight @ np.sqrt(moment))
    margin = UNIT * ((n + 64) * absolute + (256 + d) * total**2)
    constant = h.offset + h.alpha.T @ c[:, 0]
    slope = h.affine + (h.alpha * c[:, 1:2]).T @ unit
    low = float(np.hypot(np.linalg.norm(constant), np.linalg.norm(slope)))
    slack = (n + d + 64) * UNIT * mass(h)
    missing = 0.0 if sigma.slopes is not None else float(weight @ tail) ** 2
    lower = np.sqrt(max(low - slack, 0.0) ** 2 + max(form - margin, 0.0))
    upper = np.sqrt((low + slack) ** 2 + max(form, 0.0) + margin + missing)
    return max(float(lower) * (1 - 1e-12) - merging, 0.0), float(upper) * (1 + 1e-12) + merging


def _coefficients(sigma: Function, norm: Array, b: Array, weight: Array) -> tuple[Array, Array, Array]:
    if sigma.slopes is not None:
        c, moment = hermite_and_moment(sigma, norm, b, 1)
        return c, moment, np.zeros_like(norm)
    affordable = [k for k in _DEGREES[1:] if float(b.size) ** 2 * k <= _MOST_TERMS]
    c, moment = hermite_and_moment(sigma, norm, b, _DEGREES[0])
    tail = _tail(c, moment)
    for degree in affordable:
        if float(weight @ tail) <= 1.5e-7 * float(weight @ np.sqrt(moment)):
            break
        c, moment = hermite_and_moment(sigma, norm, b, degree)
        tail = _tail(c, moment)
    return c, moment, tail


def _tail(c: Array, moment: Array) -> Array:
    """Upper bounds of t_i with t_i² = E σ_i² − Σ_k c_k(i)²."""
    return np.sqrt(np.maximum(moment - np.sum(c * c, axis=1), 0.0) + 16 * UNIT * moment)


def empirical_bounds(h: Raw, x: Array) -> tuple[float, float]:
    """(lower, upper) of the root mean square of ‖h‖ over the rows of x; margin of a row (n + d + 64)·UNIT·mass."""
    if x.ndim != 2 or x.shape[0] < 1 or x.shape[1] != h.w.shape[1]:
        raise ValueError("the data do not fit the networks")
    size = np.linalg.norm(h(x, function(h.activation).value), axis=1)
    factor = (h.b.size + h.w.shape[1] + 64) * UNIT
    slack = factor * np.array([mass(h, float(r)) for r in np.linalg.norm(x, axis=1)])
    grow = 1 + (x.shape[0] + 8) * UNIT
    low = np.sqrt(np.mean(np.maximum(size - slack, 0.0) ** 2))
    return float(low) / grow, float(np.sqrt(np.mean((size + slack) ** 2))) * grow


def interval_upper(f: Raw, radius: float) -> float:
    """sup_{‖x‖ ≤ R} ‖f‖ ≤ Σ‖α_i‖(|σ(0)| + Lip·(R‖w_i‖ + |b_i|)) + R‖A‖ + ‖c‖, which is the mass."""
    return mass(f, radius) * (1 + (f.b.size + 64) * UNIT)


def flattening_tail(f: Raw, size: int, groups: list[tuple[int, int, int, bool]]) -> float:
    """√Σ_groups Σ_{j > size} σ_j(M_group)², a lower bound of the distance from f to any network of ``size`` atoms.

    A group is (p, low, high, outputs in the rows), the degree intervals disjoint and ≥ 2.  Eigenvalues of BᵀQB with
    P = BBᵀ (eigendecomposition).  Margin of a tail: UNIT·[(16n + 64)·(λ_max(P)·tr Q + |trace|) + (256 + d)·mass²].
    """
    f, merging = merged(f)
    sigma = function(f.activation)
    if f.b.size > _MOST_NEURONS:
        return 0.0
    if any(high > _HIGHEST_DEGREE or low > high for _, low, high, _ in groups):
        raise ValueError(f"degrees beyond {_HIGHEST_DEGREE} are not resolved")
    degrees = [k for _, low, high, _ in groups for k in range(low, high + 1)]
    if len(set(degrees)) != len(degrees) or any(k < 2 for k in degrees):
        raise ValueError("the groups' degrees must be disjoint and at least 2")
    if any(p < 0 or p > low or (p == 0 and not rows) for p, low, _, rows in groups):
        raise ValueError("a flattening needs 1 ≤ p ≤ its lowest degree (p = 0 only with the outputs in the rows)")
    n, d = f.w.shape
    norm, weight = np.linalg.norm(f.w, axis=1), np.linalg.norm(f.alpha, axis=1)
    unit = f.w / norm[:, None]
    c, moment = hermite_and_moment(sigma, norm, f.b, max(degrees, default=1))
    cos = np.clip(unit @ unit.T, -1.0, 1.0)
    inner = f.alpha @ f.alpha.T
    total_mass = float(weight @ np.sqrt(moment))
    square = 0.0
    for p, low, high, rows in groups:
        q = np.zeros((n, n))
        for k in range(high, low - 1, -1):
            q = q * cos + np.outer(c[:, k], c[:, k])
        q *= cos ** (low - p)
        left = cos**p
        left, q = (left * inner, q) if rows else (left, q * inner)
        trace, absolute = float(np.sum(left * q)), float(np.sum(np.abs(left) * np.abs(q)))
        values, vectors = np.linalg.eigh(left)
        keep = values > UNIT * max(float(values[-1]), 0.0)
        factor = vectors[:, keep] * np.sqrt(values[keep])
        image = factor.T @ q @ factor
        energy = np.sort(np.maximum(np.linalg.eigvalsh(0.5 * (image + image.T)), 0.0))[::-1]
        margin = UNIT * (
            (16 * n + 64) * (max(float(values[-1]), 0.0) * float(np.trace(q)) + absolute) + (256 + d) * total_mass**2
        )
        square += max(trace - float(energy[:size].sum()) - margin, 0.0)
    return max(float(np.sqrt(square)) * (1 - 1e-12) - merging, 0.0)
