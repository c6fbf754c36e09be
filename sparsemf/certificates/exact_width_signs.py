"""Signs s_j = ±1 with Σ s_j v_j = T, or Σ_{i≠j} s_i v_i + δ u_j = T for some j and δ: found, refuted, or undecided.

Everything is first done mod the prime 2⁶¹ − 1, where a rational solution stays one, so what has no solution there has
none; a solution there is verified in rationals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from flint import fmpq, nmod_mat

from sparsemf.certificates.exact_subsets import LARGEST, PRIME, candidates, images, subset_sums
from sparsemf.certificates.exact_width_program import propose, separating

Rational = list[fmpq]

_FREE = 16
_MOST_WORK = 4_000_000
_MOST_HALVES = 1 << 25


@dataclass(frozen=True)
class Signs:
    """``signs`` (0 at ``doubled``), or ``refuted``: that there are none; neither where it is undecided."""

    signs: list[int] | None
    refuted: bool
    reason: str
    doubled: int | None = None
    solver: str | None = None


def find_signs(steps: list[Rational], total: Rational) -> Signs:
    """Signs with Σ s_j v_j = T."""
    found = _residues([*steps, total])
    signs, complete = None, False
    if found is not None:
        signs, complete = _search(found[:-1], found[-1], lambda s: not any(remainder(steps, total, s)))
    if signs is not None:
        return Signs(signs, False, "signs verified in rational arithmetic")
    if complete:
        return Signs(None, True, "no signs exist: all were tried")
    direction = separating(_floats(steps), _floats([total])[0])
    if direction is not None and _separates(steps, total, direction):
        return Signs(None, True, "no signs exist: the linear part is too large in one direction")
    return _proposed(steps, total, None)


def find_doubled(steps: list[Rational], total: Rational, directions: list[Rational]) -> Signs:
    """Signs of all but one hyperplane, whose two neurons of opposite orientation make up for the rest."""
    n, d = len(steps), len(total)
    if n == 0:
        return Signs(None, True, "there is no hyperplane to share")
    if d == 1:
        return Signs([0] + [1] * (n - 1), False, "one input: any hyperplane makes up for the rest", doubled=0)
    found = _residues([*steps, total, *directions])
    vectors, goal, lines = ([], [], []) if found is None else (found[:n], found[n], found[n + 1 :])
    complete = found is not None and n * n * d <= _MOST_WORK
    for j in range(n if complete else 0):
        project = _projection(lines[j])
        if project is None:
            complete = False
            continue
        signs, decided = _search(
            [project(vectors[i]) for i in range(n) if i != j],
            project(goal),
            lambda s, j=j: parallel(remainder(steps, total, [*s[:j], 0, *s[j:]]), directions[j]),
            _MOST_HALVES // n,
        )
        complete &= decided
        if signs is not None:
            signs.insert(j, 0)
            return Signs(signs, False, "signs verified in rational arithmetic", doubled=j)
    if complete:
        return Signs(None, True, "no signs exist: all were tried")
    return _proposed(steps, total, directions)


def remainder(steps: list[Rational], total: Rational, signs: Sequence[int]) -> Rational:
    """T − Σ s_j v_j."""
    rest = list(total)
    for step, sign in zip(steps, signs, strict=True):
        if sign:
            rest = [a - sign * b for a, b in zip(rest, step, strict=True)]
    return rest


def parallel(vector: Rational, line: Rational) -> bool:
    """Whether ``vector`` is a multiple of ``line`` ≠ 0."""
    k = next(k for k, x in enumerate(line) if x != 0)
    return all(x * line[k] == vector[k] * y for x, y in zip(vector, line, strict=True))


def _residues(rows: list[Rational]) -> list[list[int]] | None:
    """Mod the prime; None where it divides a denominator."""
    if any(int(x.q) % PRIME == 0 for row in rows for x in row):
        return None
    return [[int(x.p) * pow(int(x.q), PRIME - 2, PRIME) % PRIME for x in row] for row in rows]


def _projection(line: list[int]) -> Callable[[list[int]], list[int]] | None:
    """x ↦ x − (x_c/u_c)·u without its entry c, mod the prime; None where u vanishes there."""
    c = next((k for k, x in enumerate(line) if x), None)
    if c is None:
        return None
    inverse = pow(line[c], PRIME - 2, PRIME)
    ratio = [x * inverse % PRIME for x in line]
    return lambda x: [(a - x[c] * r) % PRIME for k, (a, r) in enumerate(zip(x, ratio, strict=True)) if k != c]


def _search(
    vectors: list[list[int]], goal: list[int], verify: Callable[[list[int]], bool], most_sums: int = _MOST_HALVES
) -> tuple[list[int] | None, bool]:
    """(signs, complete): verified signs, or None, in which case ``complete`` says that there are none."""
    n = len(vectors)
    if not n:
        found = not any(goal) and verify([])
        return ([] if found else None), True
    matrix = nmod_mat(len(goal), n + 1, [v[k] for k in range(len(goal)) for v in [*vectors, goal]], PRIME)
    reduced, rank = matrix.rref()
    rows = [[int(x) for x in row] for row in reduced.tolist()[:rank]]
    pivots = [next(k for k, x in enumerate(row) if x) for row in rows]
    if n in pivots:
        return None, True
    free = [k for k in range(n) if k not in pivots]
    if len(free) <= _FREE:
        for signs in _by_elimination(rows, pivots, free, n):
            if verify(signs):
                return signs, True
        return None, True
    if n > LARGEST or 1 << (n - n // 2) > most_sums:
        return None, False
    # Σ_{s = +1} 2v = T + Σ v
    numbers = images([*vectors, goal])
    target = (numbers.pop() + sum(numbers)) % PRIME
    masks, complete = candidates([2 * x % PRIME for x in numbers], target)
    for mask in masks:
        signs = [1 if mask >> k & 1 else -1 for k in range(n)]
        if verify(signs):
            return signs, True
    return None, complete


def _by_elimination(rows: list[list[int]], pivots: list[int], free: list[int], n: int) -> Iterator[list[int]]:
    """All signs with s_pivot = c − Σ_free M s, mod the prime, by the signs of the free ones."""
    alive = np.arange(1 << len(free), dtype=np.int64)
    for row in rows:
        # c − Σ M s = c + Σ M − 2 Σ_{s = +1} M
        start = (row[n] + sum(row[k] for k in free)) % PRIME
        sums = subset_sums([-2 * row[k] % PRIME for k in free])[alive]
        goals = [np.uint64((sign - start) % PRIME) for sign in (1, -1)]
        alive = alive[(sums == goals[0]) | (sums == goals[1])]
        if not alive.size:
            return
    for mask in alive:
        signs = [0] * n
        for bit, k in enumerate(free):
            signs[k] = 1 if int(mask) >> bit & 1 else -1
        for row, pivot in zip(rows, pivots, strict=True):
            value = (row[n] - sum(row[k] * signs[k] for k in free)) % PRIME
            signs[pivot] = 1 if value == 1 else -1
        yield signs


def _separates(steps: list[Rational], total: Rational, direction: Sequence[float]) -> bool:
    """|⟨T, y⟩| > Σ|⟨v_j, y⟩| in rationals."""
    y = [fmpq(*float(x).as_integer_ratio()) for x in direction]

    def along(vector: Rational) -> fmpq:
        return abs(sum((a * b for a, b in zip(vector, y, strict=True)), fmpq(0)))

    return bool(along(total) > sum((along(step) for step in steps), fmpq(0)))


def _floats(rows: list[Rational]) -> list[list[float]]:
    """Rounded rationals."""
    return [[int(x.p) / int(x.q) for x in row] for row in rows]


def _proposed(steps: list[Rational], total: Rational, directions: list[Rational] | None) -> Signs:
    found = propose(_floats(steps), _floats([total])[0], None if directions is None else _floats(directions))
    if found is not None:
        signs, doubled = found
        rest = remainder(steps, total, signs)
        if not any(rest):
            # an exact answer without a shared hyperplane serves either question
            full = [s or 1 for s in signs] if doubled is None else signs
            return Signs(full, False, "signs proposed by HIGHS, verified in rational arithmetic", doubled, "HIGHS")
        if directions is not None and doubled is not None and parallel(rest, directions[doubled]):
            return Signs(signs, False, "signs proposed by HIGHS, verified in rational arithmetic", doubled, "HIGHS")
    return Signs(None, False, "undecided: HIGHS found no signs, which proves nothing", solver="HIGHS")
