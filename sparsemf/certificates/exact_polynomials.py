"""S* of linear, quadratic, cubic and Hermite networks at ε = 0: ranks in exact arithmetic, with a free affine part.

f = Σ_i α_i P(⟨w_i, x⟩ + b_i) has the homogeneous parts Σ_i α_i ⊗ c_j(b_i) w_i^{⊗j}, c_j = P^{(j)}/j!, of degrees j;
those of degree ≥ 2 are charged, only those of degree ≥ 3 where P is of degree ≥ 3 and the file has a quadratic part.

*Degree 1.*  S* = 0.  Without the free affine part the least width is rank(Σ α wᵀ + A): M = Σ a wᵀ with S terms has
rank ≤ S, and the singular value decomposition attains it.

*Degree 2, one output.*  Atoms add α p₂ wwᵀ to the form F and anything affine beside it, so S* = rank F (S terms give
rank ≤ S, the spectral theorem gives rank F of them).  F includes a quadratic part of the file.

*Otherwise* a bracket.  Lower: with p indices of w in the rows, with the outputs or without,

    M = Σ_i [α_i ⊗] w_i^{⊗p} ⊗ (c_j(b_i) w_i^{⊗(j−p)} [⊗ α_i])_{j ≥ 2, p}

has rank ≤ the number of atoms of *every* network of this function.  rank M = rank(H·G) with H and G the Gram matrices
of its two factors over any one such network, and ranks are bounded below by residues mod p.  Lower, too: where the
top tensor Σ α ⊗ w^{⊗k} of n distinct lines satisfies Kruskal's condition (k_α + k·k_w ≥ 2n + k; one output:
k·k_w ≥ 2n + k − 1; Kruskal 1977, Sidiropoulos & Bro 2000), no tensor of fewer terms equals it.  Upper: atoms after
exact merging; in degree 2 also Σ over outputs of the rank of the form; in degree 3, where atoms (α, b) on one line w
contribute only X = Σ α and Y = Σ αb: 1 atom if X ≠ 0 and Y is on its line, else 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.exact_groups import Groups, equal_rows, heard, lines
from sparsemf.certificates.exact_numbers import (
    PRIMES,
    integers,
    power,
    product,
    rank_bounds,
    rank_mod,
    residues,
)
from sparsemf.measures import Network
from sparsemf.symmetry.algebraic import degree_of
from sparsemf.symmetry.canonical import polynomial_coefficients

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_MOST_ATOMS = 1500
_KRUSKAL = 12


@dataclass(frozen=True)
class RankCount:
    """``lower`` ≤ S* ≤ ``upper``; ``method`` says what gave the lower end."""

    lower: int
    upper: int
    method: str


def matrix_rank(network: Network) -> RankCount:
    """rank(Σ α wᵀ + A) of a linear network: the least number of its atoms when only the offset is free."""
    rows = np.flatnonzero(network.outer.any(axis=1) & network.inner.any(axis=1))
    outer, inner = network.outer[rows], network.inner[rows]
    scale = np.full((rows.size, 1), network.scale)
    structure = min(len(lines(inner)), len(lines(outer))) + _used(network.affine)
    lower, upper = rank_bounds([([outer, scale], [inner]), ([np.eye(network.m)], [network.affine])], structure)
    return RankCount(lower, upper, "rank of the matrix Σ a wᵀ")


def _used(matrix: Array) -> int:
    return min(int(matrix.any(axis=1).sum()), int(matrix.any(axis=0).sum()))


def form_rank(network: Network, output: int = 0) -> tuple[int, int]:
    """Bounds of the rank of F = p₂ Σ α wwᵀ + Q of one output of a network of degree 2."""
    rows = np.flatnonzero((network.outer[:, output] != 0) & network.inner.any(axis=1))
    inner = network.inner[rows]
    weight = network.outer[rows, output : output + 1]
    groups = lines(inner)
    structure = len(heard(groups, weight, 2, 0))
    square = np.full((rows.size, 1), polynomial_coefficients(network.activation)[2])
    scale = np.full((rows.size, 1), network.scale)
    factors = [([inner, weight, scale, square], [inner])]
    if network.quadratic is not None:
        factors.append(([np.eye(network.d)], [network.quadratic[output]]))
        structure += _used(network.quadratic[output])
    return rank_bounds(factors, structure)


def polynomial_count(network: Network) -> RankCount:
    """S* of a polynomial network with a free affine part.  The activation must be a polynomial without a gate."""
    degree = degree_of(network.activation) or 0
    if degree == 1 or network.scale == 0.0:
        return RankCount(0, 0, "the function is affine")
    if degree == 2 and network.m == 1:
        lower, upper = form_rank(network)
        return RankCount(lower, upper, "rank of the quadratic form")
    least = 3 if degree > 2 and network.quadratic is not None else 2
    rows = np.flatnonzero(network.outer.any(axis=1) & network.inner.any(axis=1))
    outer, inner, bias = network.outer[rows], network.inner[rows], network.bias[rows]
    upper = _merged(network, outer, inner, bias, degree, least)
    if degree == 2 and network.quadratic is not None:
        lower = max(form_rank(network, j)[0] for j in range(network.m))
        return RankCount(lower, upper, "rank of one output's quadratic form")
    lower, method = _flattened(network, outer, inner, bias, degree, least, upper)
    if lower < upper:
        found = _kruskal(outer, inner, degree)
        if found > lower:
            lower, method = found, "Kruskal's condition on the top tensor"
    return RankCount(lower, upper, method)


def _merged(network: Network, outer: Array, inner: Array, bias: Array, degree: int, least: int) -> int:
    """Atoms of an explicit network of the same function."""
    if degree == 2:
        own = len(heard(lines(inner), outer, 2, 0))
        forms = sum(form_rank(network, j)[1] for j in range(network.m))
        beside = 0 if network.quadratic is None else sum(_used(form) for form in network.quadratic)
        return min(own + beside, forms)
    if degree == 3:
        groups = lines(inner)
        return sum(_on_line(groups, members, outer, bias, least) for members in groups.members)
    points = np.concatenate([inner, bias[:, None]], axis=1)
    return len(heard(equal_rows(points, flips=True), outer, 0, degree))


def _on_line(groups: Groups, members: Integers, outer: Array, bias: Array, least: int) -> int:
    """The atoms that cubic atoms on one line need: X = Σ α t³ and Y = Σ αb t² are all that is seen."""
    slope, _ = integers(groups.pivot[members])
    height, _ = integers(outer[members])
    shift, _ = integers(bias[members])
    first = [sum(int(t) ** 3 * int(h) for t, h in zip(slope, column, strict=True)) for column in height.T]
    if least > 2:
        return int(any(first))
    second = [
        sum(int(t) ** 2 * int(h) * int(b) for t, h, b in zip(slope, column, shift, strict=True)) for column in height.T
    ]
    if not any(first):
        return 2 if any(second) else 0
    k = next(k for k, x in enumerate(first) if x)
    return 1 if all(x * second[k] == y * first[k] for x, y in zip(first, second, strict=True)) else 2


def _flattened(
    network: Network, outer: Array, inner: Array, bias: Array, degree: int, least: int, most: int
) -> tuple[int, str]:
    """The largest rank of H·G over the flattenings; of a random block of it where the rank cannot exceed its size."""
    (n, d), m, p = inner.shape, outer.shape[1], PRIMES[0]
    best, method = 0, "rank of a flattening"
    if not n:
        return best, method
    derivatives = _derivatives(network)
    w, a, b = residues(inner, p), residues(outer, p), residues(bias, p)
    level = [_polynomial(derivatives[j], b, p) for j in range(degree + 1)]
    for order in range(degree + 1):
        columns = sum(comb(d + j - order - 1, j - order) for j in range(max(least, order), degree + 1))
        rows = comb(d + order - 1, order)
        # outputs in the columns, then in the rows
        for height, breadth, outputs in ((rows, m * columns, False), (m * rows, columns, True))[: 1 + (m > 1)]:
            size = min(n, height, breadth, _MOST_ATOMS)
            if size <= best:
                continue
            chosen = _chosen(n, size)
            gram, heights = product(w[chosen], w.T, p), product(a[chosen], a.T, p)
            left, right = power(gram, order, p), np.zeros_like(gram)
            for j in range(max(least, order), degree + 1):
                own = level[j][chosen][:, None] * level[j][None, :] % p
                right = (right + own * power(gram, j - order, p)) % p
            if outputs:
                left = left * heights % p
            else:
                right = right * heights % p
            found = rank_mod(product(left, right.T, p), p)
            if found > best:
                where = "indices and the outputs" if outputs else "indices"
                best, method = found, f"rank of a flattening with {order} {where} in the rows"
            if best >= most:
                return best, method
    return best, method


def _chosen(n: int, size: int) -> Integers:
    """A few more than ``size`` atoms at random, or all."""
    if size + 8 >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, size + 8, replace=False))


def _derivatives(network: Network) -> list[list[int]]:
    """P^{(j)}/j! for j = 0 … degree, whole numbers."""
    out = [[int(c) for c in polynomial_coefficients(network.activation)]]
    for j in range(1, len(out[0])):
        out.append([k * c // j for k, c in enumerate(out[-1])][1:])
    return out


def _polynomial(coefficients: list[int], x: Integers, p: int) -> Integers:
    out = np.zeros_like(x)
    for c in reversed(coefficients):
        out = (out * x + c) % p
    return out


def _kruskal(outer: Array, inner: Array, degree: int) -> int:
    """n, the number of lines in the top tensor, where Kruskal's condition holds; else 0."""
    groups = lines(inner)
    kept = heard(groups, outer, degree, degree)
    if not 0 < len(kept) <= _KRUSKAL:
        return 0
    points = inner[[members[0] for members in kept]]
    p = PRIMES[0]
    coefficient = np.array([_net(groups, members, outer, degree, p) for members in kept])
    need = 2 * len(kept) + degree if outer.shape[1] > 1 else 2 * len(kept) + degree - 1
    have = degree * k_rank(residues(points, p), p) + (k_rank(coefficient, p) if outer.shape[1] > 1 else 0)
    return len(kept) if have >= need or len(kept) == 1 else 0


def _net(groups: Groups, members: Integers, outer: Array, degree: int, p: int) -> Integers:
    """Σ α t^k mod p, t relative to the line's first member."""
    slope = residues(groups.pivot[members], p)
    ratio = slope * pow(int(slope[0]), p - 2, p) % p
    return power(ratio, degree, p) @ residues(outer[members], p) % p


def k_rank(vectors: Integers, p: int) -> int:
    """A lower bound of the largest k such that any k rows are independent: they are if they are so mod p."""
    n, d = vectors.shape
    for k in range(1, min(n, d) + 1):
        if any(rank_mod(vectors[list(rows)], p) < k for rows in combinations(range(n), k)):
            return k - 1
    return min(n, d)
