"""Exact arithmetic on floating-point numbers, which are dyadic rationals n·2^e.

Three ways to be exact, from the cheapest to the dearest:

- *error-free products*: a·b = h + l with h = fl(a·b) and l a float (Dekker 1971, Veltkamp's splitting), for mantissas,
  where nothing over- or underflows;
- *residues*: x ↦ n·2^e mod p is a ring homomorphism from the dyadic rationals for every odd prime p.  So a sum that is
  not 0 mod p is not 0, and rank(M mod p) ≤ rank M;
- *integers* with a common power of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from flint import fmpz_mat, nmod_mat
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Big = NDArray[np.object_]

PRIMES = (1_048_573, 1_048_571, 1_048_559)
"""Primes below 2²⁰: sums of 8192 products of two residues are exact in float64."""
_CHUNK = 8192
_BITS = 53
_LOWEST = -1200
_EXACT_RANK = 90_000
"""Matrices with more entries are not eliminated in exact arithmetic."""
_MOST_FACTORS = 4_000_000
UNIT = 2.0**-53


def integers(x: Array) -> tuple[Big, int]:
    """(n, e) with x = n·2^e exactly, n an array of Python integers."""
    mantissa, exponent = np.frexp(np.asarray(x, dtype=np.float64))
    whole, exponent = np.ldexp(mantissa, _BITS).astype(np.int64), exponent.astype(np.int64) - _BITS
    used = whole != 0
    least = int(exponent[used].min()) if used.any() else 0
    shift = np.where(used, exponent - least, 0)
    return whole.astype(object) * np.left_shift(np.array(1, dtype=object), shift.astype(object)), least


def residues(x: Array, p: int) -> Integers:
    """x mod p elementwise, in [0, p); p < 2³¹ odd."""
    mantissa, exponent = np.frexp(np.asarray(x, dtype=np.float64))
    whole = np.ldexp(mantissa, _BITS).astype(np.int64)
    return np.mod(whole, p) * _powers(p)[exponent - _BITS - _LOWEST] % p


@cache
def _powers(p: int) -> Integers:
    """2^e mod p for e = −1200 … 1100."""
    return np.array([pow(2, e, p) for e in range(_LOWEST, 1100)], dtype=np.int64)


def product(left: Integers, right: Integers, p: int) -> Integers:
    """left @ right mod p for residues mod one of :data:`PRIMES`, by float64 products that are exact below 2⁵³."""
    out = np.zeros((left.shape[0], right.shape[1]), dtype=np.int64)
    for start in range(0, left.shape[1], _CHUNK):
        part = slice(start, start + _CHUNK)
        partial = left[:, part].astype(np.float64) @ right[part].astype(np.float64)
        out = (out + partial.astype(np.int64) % p) % p
    return out


def power(base: Integers, exponent: int, p: int) -> Integers:
    """base^exponent mod p elementwise."""
    out = np.ones_like(base)
    for _ in range(exponent):
        out = out * base % p
    return out


def rank_mod(matrix: Integers, p: int) -> int:
    """rank of a matrix of residues mod p; long sides are compressed at random, which can only lower it."""
    rows, columns = matrix.shape
    if rows > columns:
        matrix, rows, columns = matrix.T, columns, rows
    if columns > 2 * rows + 64:
        mix = np.random.default_rng(p).integers(0, p, (columns, rows + 8))
        matrix = product(matrix, mix, p)
    if not matrix.size:
        return 0
    return int(nmod_mat(matrix.shape[0], matrix.shape[1], matrix.ravel().tolist(), p).rank())


def least_rank(factors: Sequence[tuple[Sequence[Array], Sequence[Array]]], most: int) -> int:
    """A lower bound of rank Σ_k L_kᵀR_k, where L_k (n, a) and R_k (n, b) are given as elementwise products of arrays.

    Primes are tried until ``most``, a known upper bound, is reached.
    """
    found = 0
    for p in PRIMES:
        total: Integers | None = None
        for left, right in factors:
            term = product(_multiplied(left, p).T, _multiplied(right, p), p)
            total = term if total is None else (total + term) % p
        if total is not None:
            found = max(found, rank_mod(total, p))
        if found >= most:
            break
    return found


def _multiplied(parts: Sequence[Array], p: int) -> Integers:
    out = residues(parts[0], p)
    for part in parts[1:]:
        out = out * residues(part, p) % p
    return out


def rank_bounds(factors: Sequence[tuple[Sequence[Array], Sequence[Array]]], most: int | None = None) -> tuple[int, int]:
    """lower ≤ rank Σ_k L_kᵀR_k ≤ upper (as :func:`least_rank`): residues, then elimination in integers where they
    differ and the matrix is small enough."""
    rows, columns = factors[0][0][0].shape[1], factors[0][1][0].shape[1]
    upper = min(rows, columns) if most is None else min(rows, columns, most)
    lower = least_rank(factors, upper)
    entries = sum(parts[0].shape[0] * (rows + columns) for parts, _ in factors)
    if lower < upper and rows * columns <= _EXACT_RANK and entries <= _MOST_FACTORS:
        lower = upper = int(exact_matrix(factors).rank())
    return lower, upper


def exact_matrix(factors: Sequence[tuple[Sequence[Array], Sequence[Array]]]) -> fmpz_mat:
    """Σ_k L_kᵀR_k times a power of two, as a matrix of integers."""
    terms: list[tuple[fmpz_mat, int]] = []
    for left, right in factors:
        if not left[0].shape[0]:
            continue
        (a, first), (b, second) = _big(left), _big(right)
        terms.append((fmpz_mat(a.T.tolist()) * fmpz_mat(b.tolist()), first + second))
    if not terms:
        return fmpz_mat(factors[0][0][0].shape[1], factors[0][1][0].shape[1])
    least = min(exponent for _, exponent in terms)
    total = terms[0][0] * (1 << (terms[0][1] - least))
    for matrix, exponent in terms[1:]:
        total = total + matrix * (1 << (exponent - least))
    return total


def _big(parts: Sequence[Array]) -> tuple[Big, int]:
    out, exponent = integers(parts[0])
    for part in parts[1:]:
        more, shift = integers(part)
        out, exponent = out * more, exponent + shift
    return out, exponent


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """(h, l) with a·b = h + l exactly, for numbers of size between 2⁻¹ and 1, or 0."""
    high = a * b
    a1, a2 = _split(a)
    b1, b2 = _split(b)
    return high, ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2


def _split(a: Array) -> tuple[Array, Array]:
    scaled = 134_217_729.0 * a
    top = scaled - (scaled - a)
    return top, a - top


def proportional(x: Array, y: Array) -> bool:
    """Whether x = t·y for some t ≠ 0, exactly; vectors of the same shape, not 0."""
    first = np.flatnonzero(x)
    if not np.array_equal(first, np.flatnonzero(y)):
        return False
    x, y = x[first], y[first]
    mx, ex = np.frexp(x)
    my, ey = np.frexp(y)
    # x_k·y_0 = y_k·x_0, with mantissas in ±[1/4, 1)
    high, low = two_product(mx, np.full_like(mx, my[0]))
    other_high, other_low = two_product(my, np.full_like(my, mx[0]))
    shift = (ex + ey[0]) - (ey + ex[0])
    if (np.abs(shift) > 1).any():
        return False
    factor = np.ldexp(1.0, shift)
    return bool(((high * factor == other_high) & (low * factor == other_low)).all())


def vanishes(outer: Array, weight: Sequence[int]) -> bool:
    """Whether Σ_i weight_i·outer_i = 0 exactly, for every output; outer (c, m), integer weights (c,).

    Floating point with an error bound settles most sums; only those near 0 are done in integers.
    """
    top = max((abs(w) for w in weight), default=0)
    size = float(np.max(np.abs(outer), initial=0.0))
    if top == 0 or size == 0.0:
        return True
    scaled, relative = np.ldexp(outer, -int(np.frexp(size)[1])), np.array([w / top for w in weight])
    total, mass = relative @ scaled, np.abs(relative) @ np.abs(scaled)
    if (np.abs(total) > (len(weight) + 8) * UNIT * mass + len(weight) * 2.0**-1060).any():
        return False
    return not any(_dot(outer[:, j], weight) for j in np.flatnonzero(outer.any(axis=0)))


def _dot(column: Array, weight: Sequence[int]) -> int:
    """Σ weight·column up to a power of two."""
    whole, _ = integers(column)
    return sum(int(w) * int(n) for w, n in zip(weight, whole, strict=True))


def lines_rank(rows: Array) -> int:
    """0, 1 or 2: whether the rows of a matrix are all 0, all on one line, or not (then 2, whatever the rank)."""
    used = rows[rows.any(axis=1)]
    if not used.shape[0]:
        return 0
    return 1 if all(proportional(used[0], row) for row in used[1:]) else 2
