"""Depths of polynomial σ, whose orbits are continuous: D_var and D_orb by ranks over a finite field.

For σ of degree e the function is Ψ_e itself, so the orbit is the fibre of Ψ_e, its dimension the parameters' less
rank JΨ_e, and both depths are at most e.  With R_D the rank of JΨ_D at general points:

- D_var > D where :func:`~sparsemf.certificates.checker.depth_shape.rank_bound` (D) < R_e;
- D_var ≤ D where R_D reaches rank_bound(e) ≥ R_e;
- D_orb ≥ D_var, and D_orb ≤ e.

R_D is bounded below by the rank at one point with whole coordinates, modulo a prime: reduction lowers ranks only.
There G_k(t, b) = ∂_b^k E(√t·g + b)^p = Σ_j C(p, 2j)(2j − 1)!! t^j ∂_b^k b^{p−2j} is a whole number, t = ‖w‖².
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement

from flint import arb, nmod_mat

from sparsemf.certificates.checker.catalogue import CORES
from sparsemf.certificates.checker.depth_shape import Shape, least_depth, rank_bound, symmetric
from sparsemf.certificates.checker.document import Refused

PRIME = 2_147_483_647
_MOST_ENTRIES = 1_500_000


def _moments(shape: Shape, t: int, b: int, degree: int) -> list[int]:
    """G_0 … G_degree of σ at whole numbers."""
    form = shape.form
    powers: list[tuple[int, int]] = [(0, _whole(form.constant())), (1, _whole(form.linear()))]
    powers += [(CORES[term.core].power, _whole(term.coefficient())) for term in form.terms]
    out = []
    for k in range(degree + 1):
        total = 0
        for p, factor in powers:
            for j in range((p - k) // 2 + 1) if p >= k else ():
                odd = math.prod(range(1, 2 * j, 2))
                total += factor * math.comb(p, 2 * j) * odd * t**j * math.perm(p - 2 * j, k) * b ** (p - 2 * j - k)
        out.append(total)
    return out


def _whole(value: arb) -> int:
    found = value.unique_fmpz()
    if found is None:
        raise Refused("a polynomial with other than whole coefficients")
    return int(found)


def general_rank(shape: Shape, depth: int) -> int:
    """A lower bound of the rank of JΨ_depth at general points (without the polynomial part).

    Raises :class:`Refused` where the matrix would be too large.
    """
    known = shape.degrees(depth)
    size = sum(symmetric(shape.d, k) for k in known) * shape.m
    if size * shape.atoms * (shape.m + shape.d + 1) > _MOST_ENTRIES:
        raise Refused("a polynomial family of this size")
    state, columns = 12345, []

    def draw() -> int:
        nonlocal state
        state = (1103515245 * state + 12345) % 2**31
        return (state >> 8) % 2001 - 1000

    for _ in range(shape.atoms):
        alpha = [draw() for _ in range(shape.m)]
        w = [draw() for _ in range(shape.d)]
        b = draw() if shape.bias else 0
        g = _moments(shape, sum(x * x for x in w), b, depth + 2)
        columns += _columns(shape, known, alpha, w, g)
    if not columns or not size:
        return 0
    flat = [x % PRIME for column in columns for x in column]
    return int(nmod_mat(len(columns), size, flat, PRIME).rank())


def _columns(shape: Shape, known: Sequence[int], alpha: list[int], w: list[int], g: list[int]) -> list[list[int]]:
    """The tangent vectors of one atom (see :mod:`depth_rank`; whole numbers)."""
    labels = [(k, which) for k in known for which in combinations_with_replacement(range(shape.d), k)]
    whole = [math.prod(w[e] for e in which) for _, which in labels]
    values = [g[k] * x for (k, _), x in zip(labels, whole, strict=True)]
    zero = [0] * len(labels)
    out = [[x for own in range(shape.m) for x in (values if own == j else zero)] for j in range(shape.m)]
    moves: list[list[int]] = []
    for e in range(shape.d):
        row = []
        for (k, which), x in zip(labels, whole, strict=True):
            entry, times = w[e] * g[k + 2] * x, which.count(e)
            if times:
                at = which.index(e)
                entry += times * g[k] * math.prod(w[j] for i, j in enumerate(which) if i != at)
            row.append(entry)
        moves.append(row)
    if shape.bias:
        moves.append([g[k + 1] * x for (k, _), x in zip(labels, whole, strict=True)])
    out += [[a * x for a in alpha for x in row] for row in moves]
    return out


def bracket(shape: Shape) -> tuple[int, int]:
    """[lower, upper] of the generic D_var; D_orb is between the lower end and σ's degree."""
    top = shape.degree
    whole = general_rank(shape, top)
    if whole == 0:
        raise Refused("a polynomial part that is free hides these atoms")
    lower = least_depth(shape, whole)
    most = rank_bound(shape, top)
    upper = next(
        (
            depth
            for depth in range(lower, top)
            if rank_bound(shape, depth) >= most and general_rank(shape, depth) >= most
        ),
        top,
    )
    return min(lower, top), upper
