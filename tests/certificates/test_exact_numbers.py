"""Exact arithmetic on floats against fractions; subset sums and zero-sum blocks against brute force."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsemf.certificates.exact_groups import equal_rows, lines
from sparsemf.certificates.exact_numbers import (
    PRIMES,
    integers,
    lines_rank,
    product,
    proportional,
    rank_bounds,
    rank_mod,
    residues,
    two_product,
    vanishes,
)
from sparsemf.certificates.exact_subsets import PRIME, candidates, most_blocks, zero_sums

FLOATS = st.floats(-1e100, 1e100, allow_nan=False, allow_subnormal=True)


@given(st.lists(FLOATS, min_size=1, max_size=6))
def test_integers_and_residues_are_the_floats(values: list[float]) -> None:
    x = np.array(values)
    whole, exponent = integers(x)
    p = PRIMES[0]
    for value, n, r in zip(values, whole, residues(x, p), strict=True):
        exact = Fraction(value)
        assert int(n) * Fraction(2) ** exponent == exact
        assert (int(r) * exact.denominator - exact.numerator) % p == 0


@given(st.floats(0.5, 1.0), st.floats(0.5, 1.0), st.sampled_from([-1.0, 1.0]))
def test_products_are_error_free(a: float, b: float, sign: float) -> None:
    high, low = two_product(np.array([sign * a]), np.array([b]))
    assert Fraction(float(high[0])) + Fraction(float(low[0])) == Fraction(sign * a) * Fraction(b)


def test_modular_products_and_ranks() -> None:
    rng = np.random.default_rng(0)
    for p in PRIMES:
        a, b = rng.integers(0, p, (3, 20_000)), rng.integers(0, p, (20_000, 2))
        truth = (a.astype(object) @ b.astype(object)) % p
        assert (product(a, b, p) == truth.astype(np.int64)).all()
    low = rng.integers(-5, 6, (40, 3)) @ rng.integers(-5, 6, (3, 3000))
    assert rank_mod(low % PRIMES[0], PRIMES[0]) == rank_mod(low.T % PRIMES[0], PRIMES[0]) == 3


def exact_rank(rows: list[list[Fraction]]) -> int:
    """Gaussian elimination in fractions."""
    rows, rank = [list(r) for r in rows], 0
    for c in range(len(rows[0]) if rows else 0):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][c]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for i in range(rank + 1, len(rows)):
            factor = rows[i][c] / rows[rank][c]
            rows[i] = [x - factor * y for x, y in zip(rows[i], rows[rank], strict=True)]
        rank += 1
    return rank


@pytest.mark.parametrize("seed", range(30))
def test_rank_of_a_sum_of_products(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, a, b = rng.integers(1, 7, 3)
    left, right = rng.integers(-2, 3, (n, a)) / 8.0, rng.integers(-2, 3, (n, b)) * 1e-3
    weight = rng.integers(-1, 2, (n, 1)) * 0.1

    def entry(column: np.ndarray, row: np.ndarray) -> Fraction:
        terms = zip(column, weight[:, 0], row, strict=True)
        return sum((Fraction(float(x)) * Fraction(float(w)) * Fraction(float(y)) for x, w, y in terms), Fraction(0))

    whole = [[entry(column, row) for row in right.T] for column in left.T]
    truth = exact_rank(whole)
    assert rank_bounds([([left, weight], [right])]) == (truth, truth)


def test_a_rank_that_floats_cannot_see() -> None:
    """1 + 2⁻⁵² apart: float64 singular values say rank 1, the numbers say 2."""
    rows = np.array([[1.0, 1.0], [1.0, np.nextafter(1.0, 2.0)]])
    assert rank_bounds([([np.eye(2)], [rows])]) == (2, 2)
    assert lines_rank(rows) == 2
    assert lines_rank(np.array([[3.0, 1.0], [0.0, 0.0], [6.0, 2.0]])) == 1
    assert lines_rank(np.zeros((2, 2))) == 0


@settings(max_examples=200)
@given(
    st.lists(st.integers(-(2**26), 2**26), min_size=1, max_size=5),
    st.integers(1, 2**26),
    st.integers(-200, 200),
    st.booleans(),
)
def test_proportional_rows_are_found_and_neighbours_are_not(
    row: list[int], factor: int, shift: int, flip: bool
) -> None:
    x = np.array(row, dtype=np.float64)
    if not x.any():
        return
    y = np.ldexp(x * (-factor if flip else factor), shift)
    assert proportional(x, y)
    assert len(lines(np.stack([x, y]))) == 1
    if np.count_nonzero(y) < 2:
        return
    near = y.copy()
    k = int(np.flatnonzero(y)[-1])
    near[k] = np.nextafter(near[k], np.inf)
    assert not proportional(x, near)
    assert len(lines(np.stack([x, near, y]))) == 2


def test_equal_rows_up_to_sign_and_signed_zeros() -> None:
    rows = np.array([[0.0, 1.0, -2.0], [-0.0, -1.0, 2.0], [0.0, 1.0, np.nextafter(-2.0, 0.0)], [-0.0, 1.0, -2.0]])
    found = equal_rows(rows, flips=True)
    assert [m.tolist() for m in found.members] == [[0, 1, 3], [2]]
    assert found.side.tolist() == [1, -1, 1, 1]
    assert [m.tolist() for m in equal_rows(rows, flips=False).members] == [[0, 3], [1], [2]]


def test_sums_that_cancel_to_the_last_bit() -> None:
    outer = np.array([[0.1], [0.2], [-0.3]])
    # fl(0.1) + fl(0.2) ≠ fl(0.3) though floats print 5.6e-17
    assert not vanishes(outer, [1, 1, 1])
    assert vanishes(np.array([[0.1], [0.1], [-0.2]]), [1, 1, 1])
    assert vanishes(np.array([[3.0], [-2.0]]), [2, 3])
    assert not vanishes(np.array([[1e100], [1.0], [-1e100]]), [1, 1, 1])
    assert not vanishes(np.array([[0.0, 1e-300], [0.0, 1e-300]]), [1, 10**40])
    # a weight that is lost in floating point
    assert not vanishes(np.array([[1.0, 0.0], [-1.0, 1.0]]), [1, 1])
    assert not vanishes(np.array([[1.0], [-1.0]]), [10**400, 10**400 - 1])


@settings(max_examples=100)
@given(st.lists(st.tuples(FLOATS, st.integers(-50, 50)), min_size=1, max_size=8))
def test_vanishing_is_the_fraction(terms: list[tuple[float, int]]) -> None:
    weight = [w for _, w in terms]
    values = np.array([[x] for x, _ in terms])
    assert vanishes(values, weight) == (sum(Fraction(x) * w for x, w in terms) == 0)


@pytest.mark.parametrize("count", [5, 12, 22, 25])
def test_all_zero_sums(count: int) -> None:
    """Above 20 the halves meet in the middle; the truth there is built in."""
    rng = np.random.default_rng(count)
    if count <= 12:
        vectors = [[int(v) for v in rng.integers(-4, 5, 2)] for _ in range(count)]
        truth = [m for m in range(1 << count) if all(sum(v[k] for i, v in enumerate(vectors) if m >> i & 1) == 0 for k in (0, 1))]  # fmt: skip # noqa: E501
        assert zero_sums(vectors) == truth
        return
    numbers = [int(v) for v in rng.integers(-(2**50), 2**50, count - 2)]
    first, second = sum(numbers[:5]), sum(numbers[5:9])
    vectors = [[v] for v in [*numbers, -first, -second]]
    masks = zero_sums(vectors)
    one, two = 0b11111 | 1 << (count - 2), 0b1111 << 5 | 1 << (count - 1)
    assert masks == sorted([0, one, two, one | two])
    assert candidates([v[0] % PRIME for v in vectors], 12345) == ([], True)


def brute_blocks(values: list[int]) -> int:
    """The most zero-sum blocks over all partitions."""
    if not values:
        return 0
    first, rest = values[0], values[1:]
    best = -(10**9)
    for size in range(len(rest) + 1):
        for chosen in combinations(range(len(rest)), size):
            if first + sum(rest[i] for i in chosen) == 0:
                best = max(best, 1 + brute_blocks([v for i, v in enumerate(rest) if i not in chosen]))
    return best


@pytest.mark.parametrize("seed", range(20))
def test_most_blocks_against_all_partitions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = [int(v) for v in rng.integers(-6, 7, 8)]
    values.append(-sum(values))
    blocks, decided = most_blocks([[v] for v in values])
    assert decided
    assert len(blocks) == brute_blocks(values)
    assert sorted(k for block in blocks for k in block) == list(range(len(values)))
    assert all(sum(values[k] for k in block) == 0 for block in blocks)


def test_most_blocks_beyond_all_orders() -> None:
    """24 masses: blocks of 5, 7 and 12 planted among large numbers."""
    rng = np.random.default_rng(7)
    values: list[int] = []
    for size in (5, 7, 12):
        own = [int(v) for v in rng.integers(-(2**48), 2**48, size - 1)]
        values += [*own, -sum(own)]
    order = rng.permutation(len(values))
    blocks, decided = most_blocks([[values[k]] for k in order])
    assert decided
    assert sorted(len(block) for block in blocks) == [5, 7, 12]
