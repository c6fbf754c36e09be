"""The least *width* of a relu or leaky_relu network: n + r neurons, with a free output offset and no affine part.

σ(z) = ((p + q)/2)|z| + ((p − q)/2) z with slopes p and −q.  So, with κ_j = Σ α|t| on the hyperplane ζ_j = 0 of
direction u_j, and v_j = κ_j u_j,

    f = ((p + q)/2) Σ_j κ_j |ζ_j| + ((p − q)/2) ⟨T, x⟩ + constant,      T = Σ_i α_i w_iᵀ + (2/(p − q)) A.

*Claim* (one output).  n neurons suffice exactly when signs s_j = ±1 give T = Σ s_j v_j; n + 1 exactly when, for some j,
T − Σ_{i≠j} s_i v_i is a multiple of u_j; n + 2 always.

*Proof.*  Every hyperplane of nonzero κ needs a neuron.  One neuron there has its orientation s_j and coefficient κ_j,
and adds s_j v_j to T.  Of n + 1 neurons the extra one is constant, or of the same orientation as another (merge them),
or of the opposite one: a·σ(ζ_j) + b·σ(−ζ_j), a + b = κ_j, adds (a − b)u_j, anything; alone on a new hyperplane it would
bend f.  With two more, σ(⟨y, x⟩) − σ(−⟨y, x⟩) = (p − q)⟨y, x⟩ adds any linear function.  ∎

*Several outputs.*  T is a matrix and v_j = κ_j u_jᵀ.  A pair of opposite neurons adds a matrix of rank 1: on an own
hyperplane u_j at the price of 1 neuron, on a new one of 2.  So r ≥ 2·rank(T on the complement of all u_j), r ≥ 1 when
no signs exist, and r ≤ 2·rank(T − Σ s_j v_j) for any signs, r ≤ dim span(u_j) + 2·rank(T on the complement).

Whether signs exist is decided in exact arithmetic: by subsets of 40 numbers or fewer, by the solutions of the linear
system where few are free, or refuted by a y with |⟨T, y⟩| > Σ|⟨v_j, y⟩|.  Otherwise HIGHS proposes signs, which are
verified exactly; where it finds none nothing is proved, and the answer is a bracket.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flint import fmpq, fmpq_mat
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.certificates.exact_groups import heard, lines
from sparsemf.certificates.exact_width_signs import Signs, find_doubled, find_signs
from sparsemf.measures import Network

Array = NDArray[np.float64]

_MOST_NUMBERS = 200_000


@dataclass(frozen=True)
class MinimalWidth:
    """``lower`` ≤ least width ≤ ``upper``; ``value`` where they meet.

    ``signs``: orientations of the neurons on the hyperplanes ``kinks`` (indices of neurons of the network on them) that
    attain n or, with the hyperplane ``doubled`` left out (sign 0), n + 1; None where none is known or needed.
    """

    lower: int
    upper: int
    reason: str
    signs: list[int] | None = None
    kinks: list[int] | None = None
    doubled: int | None = None
    solver: str | None = None

    @property
    def value(self) -> int | None:
        """The least width where it is decided."""
        return self.lower if self.lower == self.upper else None


def slopes(activation: Activation) -> tuple[float, float] | None:
    """(p, q) of a piecewise linear σ, p relu(z) + q relu(−z), where it has a linear part; else None."""
    p, q = getattr(activation, "positive", None), getattr(activation, "negative", None)
    return None if p is None or q is None or p == q else (float(p), float(q))


def minimal_width(network: Network) -> MinimalWidth | None:
    """The least width of a relu or leaky_relu network of the same function; None for other activations."""
    pair = slopes(network.activation)
    if pair is None or network.gated or network.quadratic is not None or network.activation.kind != "atoms":
        return None
    rows = np.flatnonzero(network.outer.any(axis=1) & network.inner.any(axis=1))
    if network.scale == 0.0:
        rows = rows[:0]
    points = np.concatenate([network.inner[rows], network.bias[rows, None]], axis=1)
    outer = network.outer[rows]
    groups = lines(points)
    alive = heard(groups, outer, 1, 0)
    n = len(alive)
    kinks = [int(rows[members[0]]) for members in alive]
    side = groups.side
    pure = n == len(groups) and all((side[own] == side[own[0]]).all() for own in alive)
    if pure and not network.affine.any():
        # the file's own orientations
        return MinimalWidth(n, n, "every hyperplane has one orientation and there is no affine part", [1] * n, kinks)
    worst = n + 2 * min(network.m, network.d)
    if rows.size * network.d * network.m > _MOST_NUMBERS:
        return MinimalWidth(n, worst, "too large for exact signs")
    problem = _problem(network, rows, groups.pivot, alive, outer, pair)
    return _one(problem, kinks) if network.m == 1 else _several(problem, kinks)


@dataclass(frozen=True, eq=False)
class Problem:
    """T (m·d) and v_j (n, m·d), directions u_j (n, d), all exact; ``d`` inputs, ``m`` outputs."""

    total: list[fmpq]
    steps: list[list[fmpq]]
    directions: list[list[fmpq]]
    d: int
    m: int


def _exact(x: float) -> fmpq:
    numerator, denominator = float(x).as_integer_ratio()
    return fmpq(numerator, denominator)


def _problem(
    network: Network, rows: NDArray[np.int64], pivot: Array, alive: list[NDArray[np.int64]], outer: Array,
    pair: tuple[float, float],
) -> Problem:  # fmt: skip
    scale, m, d = _exact(network.scale), network.m, network.d
    inner = [[_exact(x) for x in w] for w in network.inner[rows]]
    alpha = [[scale * _exact(a) for a in row] for row in outer]
    factor = 2 / (_exact(pair[0]) - _exact(pair[1]))
    total = [factor * _exact(a) for a in network.affine.ravel()]
    for a, w in zip(alpha, inner, strict=True):
        for j in range(m):
            for k in range(d):
                total[j * d + k] += a[j] * w[k]
    steps, directions = [], []
    for members in alive:
        head = members[0]
        size = [abs(_exact(float(pivot[i])) / _exact(float(pivot[head]))) for i in members]
        kappa = [sum((t * alpha[i][j] for t, i in zip(size, members, strict=True)), fmpq(0)) for j in range(m)]
        directions.append(inner[head])
        steps.append([kappa[j] * inner[head][k] for j in range(m) for k in range(d)])
    return Problem(total, steps, directions, d, m)


def _one(problem: Problem, kinks: list[int]) -> MinimalWidth:
    n = len(kinks)
    found = find_signs(problem.steps, problem.total)
    if found.signs is not None:
        return MinimalWidth(n, n, found.reason, found.signs, kinks, solver=found.solver)
    doubled = find_doubled(problem.steps, problem.total, problem.directions)
    low = n if not found.refuted else n + 2 if doubled.refuted else n + 1
    if doubled.signs is not None:
        return MinimalWidth(
            low, n + 1, _both(found, doubled), doubled.signs, kinks, doubled=doubled.doubled, solver=doubled.solver
        )
    return MinimalWidth(low, n + 2, _both(found, doubled), solver=found.solver or doubled.solver)


def _both(first: Signs, second: Signs) -> str:
    return f"n neurons: {first.reason}; n + 1: {second.reason}"


def _several(problem: Problem, kinks: list[int]) -> MinimalWidth:
    n, d, m = len(kinks), problem.d, problem.m
    found = find_signs(problem.steps, problem.total)
    if found.signs is not None:
        return MinimalWidth(n, n, found.reason, found.signs, kinks, solver=found.solver)
    rows = [problem.total[j * d : (j + 1) * d] for j in range(m)]
    span = _rank(problem.directions, d)
    beyond = _rank([*problem.directions, *rows], d) - span
    rest = list(problem.total)
    for step in problem.steps:
        rest = [a - b for a, b in zip(rest, step, strict=True)]
    distance = _rank([rest[j * d : (j + 1) * d] for j in range(m)], d)
    low = max(2 * beyond, 1 if found.refuted else 0)
    high = min(2 * distance, span + 2 * beyond)
    reason = f"{found.reason}; rank of the linear part beyond the kinks' directions: {beyond}"
    return MinimalWidth(n + low, n + high, reason, solver=found.solver)


def _rank(rows: list[list[fmpq]], d: int) -> int:
    used = [row for row in rows if any(row)]
    return int(fmpq_mat(len(used), d, [x for row in used for x in row]).rank()) if used else 0
