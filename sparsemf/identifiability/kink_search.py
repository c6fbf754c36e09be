"""Which kink matrices are worth their price, and with which weights.

Families of rows and columns (all admissible, see :mod:`.kink_matrices`), with a parity of p + j and of q + l:

- *flat*: q ≤ 1 in the columns and p ≤ 1 or p ≤ 2 in the rows, any orders.  A direction holds as many atoms as
  there are orders; contractions make C grow with d, and the smallest singular value falls with the orders;
- *level P*: rows with p + j ≤ P and columns with l ≥ q + P − 2.  These have the flattening with p = P inside, and need
  fewer contractions for many atoms on many directions.

Every choice of weights gives a bound.  One pass makes each row's and each column's part of C² equal to 1 (as
alternate scaling of a matrix does); from there the logarithms are refined by the simplex method, at the S where the
curve falls most.  The search works on factors reduced to n columns a block by isometries and its numbers are guesses:
what is reported are the verified distances of the chosen matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from sparsemf.identifiability.flattenings import feature_count
from sparsemf.identifiability.kink_matrices import (
    Blocks,
    KinkMatrix,
    Kinks,
    affordable,
    block_forms,
    distances,
    kink_mass,
    map_norm,
)
from sparsemf.measures import Network

Array = NDArray[np.float64]

_SWEEPS = 12
_EVALUATIONS = 240
_STEP = -0.4
_REFINED = 2
"""Values of S for which weights are refined; in one dimension, where that is cheap, for all that are kept."""
_KEPT = 8
_SEARCHED = 4e6
"""Multiply-adds of one trial's singular values; families beyond it are tried for few atoms only, where they shrink."""
_RELATIVE = 1e-9
"""What is below this part of L(0) counts as 0 in the search."""


@dataclass(frozen=True, eq=False)
class KinkCurve:
    """``lower[S]``, S = 0 … n: certified lower bounds of ‖f − g‖ over networks g of S atoms, affine part free.

    ``by[S]`` indexes the matrix in ``matrices`` that proves it (−1: none does); ``singular_values`` are σ_j(M)/C.
    ``left_out`` tells why no matrix was tried, or is None.
    """

    lower: Array
    by: NDArray[np.int64]
    matrices: list[KinkMatrix]
    singular_values: list[Array]
    left_out: str | None = None

    def document(self) -> dict[str, object]:
        """The matrices with C, the degrees that they see and σ_j(M)/C; why there are none."""
        return {
            "matrices": [
                {
                    **matrix.document(),
                    "norm": matrix.norm,
                    "degrees": list(matrix.degrees),
                    "counts": matrix.counts,
                    "singular_values": values[:512].tolist(),
                }
                for matrix, values in zip(self.matrices, self.singular_values, strict=True)
            ],
            "left_out": self.left_out,
        }


def flat(indices: int, rows: int, columns: int, parity: int) -> tuple[Blocks, Blocks]:
    """Rows (p, j), p ≤ ``indices`` ≤ 2, j ≤ ``rows``, p + j of the parity; columns (q, l), q ≤ 1, l ≤ ``columns``."""
    return (
        tuple((p, j) for j in range(rows + 1) for p in range(indices + 1) if (p + j - parity) % 2 == 0),
        tuple((q, low) for low in range(columns + 1) for q in range(2) if (q + low - parity) % 2 == 0),
    )


def level(order: int, most: int, indices: int, extra: int) -> tuple[Blocks, Blocks]:
    """Rows with p ≤ ``most``, p + j ≤ P = ``order``, p + j ≡ P (mod 2); columns with q ≤ ``indices`` and
    l − q ∈ {P − 2, P, …, P − 2 + 2·``extra``}."""
    rows = tuple((p, j) for p in range(min(most, order) + 1) for j in range(order - p + 1) if (order - p - j) % 2 == 0)
    steps = range(order - 2, order - 1 + 2 * extra, 2)
    return rows, tuple((q, q + step) for q in range(indices + 1) for step in steps if q + step >= 0)


def families(d: int) -> list[tuple[Blocks, Blocks]]:
    """The families that are tried for inputs in R^d."""
    if d == 1:  # ŵ = ±1: both parities, and all p of one parity, are the same rows up to signs
        return [flat(1, j, j, 0) for j in range(1, 11)]
    found = [flat(1, j, j, parity) for j in range(1, 9) for parity in (0, 1)]
    found += [flat(2, j, j + more, parity) for j in (1, 2, 3) for more in (0, 1, 3) for parity in (0, 1)]
    found += [level(p, most, q, e) for p in (2, 3, 4, 5) for most in (2, 4) for q in (1, 2, 3) for e in (1, 2)]
    return list(dict.fromkeys(found))


@cache
def balanced(d: int, rows: Blocks, columns: Blocks) -> tuple[Array, Array]:
    """Weights with which every row's and every column's own part of C² is about 1."""
    forms = np.concatenate([g * g for g in block_forms(d, rows, columns)], axis=2)
    a, b = np.ones(len(rows)), np.ones(len(columns))
    for _ in range(_SWEEPS):
        a = np.sqrt(1 / np.max(np.einsum("xyk,y->xk", forms, b * b), axis=1))
        b = np.sqrt(1 / np.max(np.einsum("xyk,x->yk", forms, a * a), axis=1))
    return a, b


def _triangle(x: Array) -> Array:
    """L (n, n) with x = L·Q, Q with orthonormal rows."""
    return np.asarray(np.linalg.qr(x.T, mode="r"), dtype=np.float64).T


class Trial:
    """M of one family up to isometries, for any weights."""

    def __init__(self, search: Search, rows: Blocks, columns: Blocks) -> None:
        self.d, self.rows, self.columns = search.kinks.unit.shape[1], rows, columns
        self._forms = block_forms(self.d, rows, columns)
        x = [search.block(p, j) for p, j in rows]
        y = [search.block(q, low, outputs=True) for q, low in columns]
        self._row = np.repeat(np.arange(len(rows)), [block.shape[1] for block in x])
        self._column = np.repeat(np.arange(len(columns)), [block.shape[1] for block in y])
        self._x, self._y = np.concatenate(x, axis=1), np.concatenate(y, axis=1)
        self._n = self._x.shape[0]
        self._small = self._n < min(self._x.shape[1], self._y.shape[1])
        self._made = None if self._small else self._x.T @ self._y

    def singular_values(self, a: Array, b: Array) -> Array:
        """σ_j(M)/C."""
        if self._made is None:
            made = _triangle(self._x * a[self._row]).T @ _triangle(self._y * b[self._column])
        else:
            made = a[self._row, None] * self._made * b[self._column]
        found = np.asarray(np.linalg.svd(made, compute_uv=False), dtype=np.float64)
        return found / map_norm(self._forms, a, b)

    def curve(self, a: Array, b: Array) -> Array:
        """√Σ_{j > S} σ_j²/C, S = 0 … n, a guess."""
        left = np.zeros(self._n + 1)
        suffix = np.sqrt(np.cumsum(self.singular_values(a, b)[::-1] ** 2)[::-1])[: self._n + 1]
        left[: suffix.size] = suffix
        return left

    def matrix(self, a: Array, b: Array) -> KinkMatrix:
        """With these weights."""
        return KinkMatrix(self.d, self.rows, self.columns, tuple(a.tolist()), tuple(b.tolist()))

    def refined(self, a: Array, b: Array, size: int) -> tuple[Array, Array]:
        """Weights with a larger bound at S = ``size``."""
        split = a.size

        def loss(z: Array) -> float:
            return -float(np.log(self.curve(np.exp(z[:split]), np.exp(z[split:]))[size] + 1e-300))

        start = np.log(np.concatenate([a, b]))
        simplex = start + _STEP * np.concatenate([np.zeros((1, start.size)), np.eye(start.size)])
        options = {"maxfev": _EVALUATIONS, "xatol": 1e-2, "fatol": 1e-2, "adaptive": True, "initial_simplex": simplex}
        found = optimize.minimize(loss, start, method="Nelder-Mead", options=options)
        z = np.clip(found.x, -60.0, 60.0)
        return np.exp(z[:split]), np.exp(z[split:])


class Search:
    """The blocks of all families, each made once."""

    def __init__(self, kinks: Kinks, order: int) -> None:
        self.kinks = kinks
        self._value = kinks.hermite(order)[0]
        self._small: dict[int, Array] = {}

    def block(self, p: int, j: int, outputs: bool = False) -> Array:
        """he_j√φ ŵ^{⊗p} (times κ) with at most n columns (for one output)."""
        n = self.kinks.beta.size
        if p not in self._small:
            power = self.kinks.power(p)
            self._small[p] = power if power.shape[1] <= n else _triangle(power)
        found = self._value[:, j, None] * self._small[p]
        if not outputs:
            return found
        return (found[:, :, None] * self.kinks.kappa[:, None, :]).reshape(n, -1)


def kink_curve(network: Network, known: Array | None = None) -> KinkCurve | None:
    """The curve of a whitened network of one-kink atoms without a quadratic part; None for every other.

    ``known[S]``: lower bounds that are there already; weights are refined where these say less.
    """
    mass = kink_mass(network)
    if mass is None:
        return None
    n, d, m = network.width, network.d, network.m
    kinks = Kinks.of(network, mass)
    known = np.zeros(n + 1) if known is None else known
    none = KinkCurve(np.zeros(n + 1), np.full(n + 1, -1), [], [])
    count = kinks.beta.size
    if not count or not (np.isfinite(kinks.kappa).all() and np.isfinite(kinks.beta).all()):
        return none
    chosen = [shape for shape in families(d) if _searched(count, d, m, *shape)]
    if not chosen:
        reason = f"the matrices of {count} atoms in {d} inputs with {m} outputs are too large"
        return KinkCurve(none.lower, none.by, [], [], reason)
    search = Search(kinks, max(j for rows, columns in chosen for _, j in (*rows, *columns)))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        matrices = _chosen(search, chosen, known[: count + 1])
    lower, by, values = np.zeros(n + 1), np.full(n + 1, -1), []
    for index, matrix in enumerate(matrices):
        found, sigma = distances(kinks, matrix)
        better = np.append(found, np.zeros(n - count)) > lower
        by[better] = index
        lower = np.maximum(lower, np.append(found, np.zeros(n - count)))
        values.append(sigma)
    return KinkCurve(np.minimum.accumulate(lower), by, matrices, values)


def _searched(n: int, d: int, m: int, rows: Blocks, columns: Blocks) -> bool:
    """Whether a family is tried: M itself is affordable, and so are its singular values after the reduction."""
    tall = sum(min(n, feature_count(d, p)) for p, _ in rows)
    wide = sum(min(n, feature_count(d, q)) for q, _ in columns) * m
    small = min(n, tall, wide)
    return affordable(n, d, m, rows, columns) and tall * wide * small <= (_SEARCHED if n > small else 8 * _SEARCHED)


def _chosen(search: Search, shapes: list[tuple[Blocks, Blocks]], known: Array) -> list[KinkMatrix]:
    """The matrices that say most, those for the steepest falls of the curve refined."""
    trials, curves = [], []
    for rows, columns in shapes:
        trial = Trial(search, rows, columns)
        curve = trial.curve(*balanced(trial.d, rows, columns))
        if np.isfinite(curve).all():
            trials.append(trial)
            curves.append(curve)
    if not trials:
        return []
    table = np.array(curves)
    best = table.max(axis=0)
    floor = _RELATIVE * max(float(best[0]), float(known[0])) + 1e-300
    joint = np.maximum(np.maximum(best, known), floor)
    falls = np.argsort(-(joint[:-1] / joint[1:]), kind="stable")
    useful = [int(size) for size in falls if best[size] > max(0.7 * known[size], floor)]
    line = search.kinks.unit.shape[1] == 1
    refined = _KEPT if line else _REFINED
    kept: list[KinkMatrix] = []
    for rank, size in enumerate(useful):
        if len(kept) == _KEPT:
            break
        candidates = []
        order = np.argsort(-table[:, size])[: 3 if rank == 0 else 1].tolist()
        if line:  # more orders than atoms help once their weights are refined
            order = list(dict.fromkeys([order[0], min(size + 1, len(trials) - 1), min(size + 4, len(trials) - 1)]))
        for index in order:
            trial = trials[index]
            weights = balanced(trial.d, trial.rows, trial.columns)
            if rank < refined:
                weights = trial.refined(*weights, size)
            candidates.append((float(trial.curve(*weights)[size]), trial.matrix(*weights)))
        chosen = max(candidates, key=lambda candidate: candidate[0])[1]
        if chosen not in kept:
            kept.append(chosen)
    return kept
