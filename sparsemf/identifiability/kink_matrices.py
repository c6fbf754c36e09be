"""Kink matrices: lower bounds that count one-kink atoms where they share a direction, too.

An atom α·relu(r⟨ŵ, x⟩ + b) of a whitened network, β = b/r, κ = αr (leaky_relu(s): κ = (1 − s)αr, abs: 2αr), has
√k! T_k = κ φ(β) He_{k−2}(−β) ŵ^{⊗k} for k ≥ 2.  The trace over two indices leaves the factor He_{k−2}(−β), so that
linear maps of the function give Σ_i κ_i φ(β_i) He_t(−β_i) ŵ_i^{⊗n} for t ≥ max(n − 2, 0), t ≡ n (mod 2), and, by He_j
He_l = Σ_r r! C(j, r)C(l, r) He_{j+l−2r}, the matrices of blocks

    M_{(p,j),(q,l)} = a_{pj} b_{ql} Σ_i κ_i φ(β_i)·he_j(−β_i) ŵ_i^{⊗p} ⊗ he_l(−β_i) ŵ_i^{⊗q},   he_j = He_j/√j!,

for rows (p, j) and columns (q, l) with p + q ≡ j + l (mod 2) and |j − l| ≥ p + q − 2.  S atoms have rank ≤ S, and
‖M(h)‖_F ≤ C‖h‖, so **‖f − g‖ ≥ √(Σ_{j>S} σ_j(M)²)/C for every g of S atoms**, affine functions free.  With c the part
of T_k on the harmonic polynomials of degree h, C² = max_h λ_max(Σ_blocks g gᵀ),

    g_k = a b·r! C(j, r)C(l, r)/√(j! l!)·√n!·Π_{m = (n−h)/2 + 1}^{(k−h)/2} √(2m(2m + 2h + d − 2)),
    k = j + l − 2r + 2, n = p + q ≥ h, n ≡ h (mod 2)            (h ≤ 1 for d = 1).

The proof is that of :mod:`sparsemf.certificates.checker.kink_matrices`, which shares no code with this.  Rows (p, 0)
and columns (k − p, k − 2), with weights that make C = 1, are the flattening with p indices of :mod:`.flattenings`.

Rounding: he_j(−β)√φ(β) by its recurrence with a running error bound, products of n terms to (n + 4)u of the lengths,
the singular values by the residual of their decomposition (the distance to rank S is 1-Lipschitz).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from math import comb, exp, lgamma, log

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from sparsemf.identifiability.flattenings import feature_count, symmetric_features
from sparsemf.identifiability.verified import ROUNDOFF
from sparsemf.measures import Atoms, Network

Array = NDArray[np.float64]
Blocks = tuple[tuple[int, int], ...]
"""(p, j) of each block of rows, or (q, l) of columns."""

MOST_ENTRIES = 2_000_000
MOST_WORK = 4e8
"""Larger matrices, or larger products of a matrix's three dimensions (its singular values' price), are not tried."""
MOST_PRODUCT = 1.6e10
"""Multiply-adds of XᵀY beyond this are not tried."""


@dataclass(frozen=True)
class KinkMatrix:
    """``rows`` (p, j) and ``columns`` (q, l) with their weights; C of the module's docstring for R^d."""

    d: int
    rows: Blocks
    columns: Blocks
    row_weights: tuple[float, ...]
    column_weights: tuple[float, ...]

    @property
    def counts(self) -> str:
        """What its rank counts."""
        return "atoms"

    @property
    def norm(self) -> float:
        """C, rounded up."""
        forms = block_forms(self.d, self.rows, self.columns)
        return map_norm(forms, np.array(self.row_weights), np.array(self.column_weights))

    @property
    def degrees(self) -> tuple[int, int]:
        """The Hermite degrees that it sees."""
        orders = [j + low for _, j in self.rows for _, low in self.columns]
        gaps = [abs(j - low) for _, j in self.rows for _, low in self.columns]
        return min(gaps) + 2, max(orders) + 2

    def document(self) -> dict[str, list[list[float]]]:
        """As evidence: {rows: [[p, j, weight], …], columns: [[q, l, weight], …]}."""
        return {
            "rows": [[*block, w] for block, w in zip(self.rows, self.row_weights, strict=True)],
            "columns": [[*block, w] for block, w in zip(self.columns, self.column_weights, strict=True)],
        }


def kink_mass(network: Network) -> float | None:
    """The jump of σ′ at 0, σ(1) + σ(−1), where σ is linear on both sides of it (relu, leaky_relu, abs); None for every
    other network."""
    if network.gated or network.quadratic is not None or network.activation.homogeneous != 1:
        return None
    return float(network.activation.value(np.array([1.0, -1.0])).sum()) or None


def admissible(rows: Blocks, columns: Blocks) -> bool:
    """Whether every block is a linear map of the function."""
    return all((p + q - j - low) % 2 == 0 and abs(j - low) >= p + q - 2 for p, j in rows for q, low in columns)


def shape(d: int, rows: Blocks, columns: Blocks) -> tuple[int, int]:
    """Rows and columns of M for one output."""
    return sum(feature_count(d, p) for p, _ in rows), sum(feature_count(d, q) for q, _ in columns)


def affordable(n: int, d: int, m: int, rows: Blocks, columns: Blocks) -> bool:
    """Whether M is tried for n atoms in R^d with m outputs."""
    tall, wide = shape(d, rows, columns)
    entries = tall * wide * m
    return entries <= MOST_ENTRIES and entries * min(tall, wide * m) <= MOST_WORK and entries * n <= MOST_PRODUCT


@cache
def block_terms(d: int, h: int, n: int, j: int, low: int) -> tuple[tuple[int, float], ...]:
    """(k, g_k) of a block of n = p + q indices and orders j, l on the part of degree h, without its weights."""
    if h > n or (n - h) % 2:
        return ()
    found = []
    for r in range(min(j, low) + 1):
        k = j + low - 2 * r + 2
        size = lgamma(r + 1) + log(comb(j, r) * comb(low, r))
        size += 0.5 * (lgamma(n + 1) - lgamma(j + 1) - lgamma(low + 1))
        size += 0.5 * sum(log(2 * m * (2 * m + 2 * h + d - 2)) for m in range((n - h) // 2 + 1, (k - h) // 2 + 1))
        found.append((k, exp(size)))
    return tuple(found)


@cache
def block_forms(d: int, rows: Blocks, columns: Blocks) -> tuple[Array, ...]:
    """g of each h without the weights, shape (rows, columns, degrees that occur)."""
    degree = max(j for _, j in rows) + max(low for _, low in columns) + 2
    most = max(p for p, _ in rows) + max(q for q, _ in columns)
    found = []
    for h in range((min(most, 1) if d == 1 else most) + 1):
        g = np.zeros((len(rows), len(columns), degree + 1))
        for x, (p, j) in enumerate(rows):
            for y, (q, low) in enumerate(columns):
                for k, value in block_terms(d, h, p + q, j, low):
                    g[x, y, k] = value
        found.append(g[:, :, g.any(axis=(0, 1))])
    return tuple(g for g in found if g.shape[2])


def map_norm(forms: tuple[Array, ...], a: Array, b: Array) -> float:
    """C for the weights a of the rows and b of the columns, rounded up by a stated 1e-9."""
    largest = 0.0
    for g in forms:
        rows = (g * (a[:, None] * b)[:, :, None]).reshape(-1, g.shape[2])
        largest = max(largest, float(np.linalg.eigvalsh(rows.T @ rows)[-1]))
    return float(np.sqrt(largest)) * (1 + 1e-9)


@dataclass(frozen=True, eq=False)
class Kinks:
    """Σ_i κ_i φ(β_i) (…): ``unit`` (n, d), ``beta`` (n,), ``kappa`` (n, m) of the atoms of a whitened network."""

    unit: Array
    beta: Array
    kappa: Array

    @staticmethod
    def of(network: Network, mass: float) -> Kinks:
        """The kinks, without constant neurons."""
        atoms = Atoms.of(network)
        live = np.flatnonzero(atoms.norm > 0)
        r = atoms.norm[live]
        return Kinks(atoms.unit[live], atoms.bias[live] / r, mass * network.alpha[live] * r[:, None])

    @cached_property
    def _powers(self) -> dict[int, Array]:
        return {}

    def power(self, p: int) -> Array:
        """ŵ^{⊗p} as normalised monomials, shape (n, C(d + p − 1, p))."""
        if p not in self._powers:
            self._powers[p] = symmetric_features(self.unit, p)
        return self._powers[p]

    def hermite(self, order: int) -> tuple[Array, Array]:
        """(he_j(−β)√φ(β), error) for j ≤ order, shape (n, order + 1); |he_j|√φ ≤ 1 (Cramér)."""
        x = -self.beta
        value, error = np.empty((x.size, order + 1)), np.empty((x.size, order + 1))
        density = np.exp(-0.25 * x * x) / (2 * np.pi) ** 0.25
        # β to (d + 12)u: |d√φ| = ½|β dβ|√φ; exp to 32 ulps
        turn = (self.unit.shape[1] + 12) * ROUNDOFF
        before = before_error = np.zeros(x.size)
        now, now_error = density, density * (turn * x * x + 72 * ROUNDOFF) + 1e-300
        for j in range(order + 1):
            value[:, j], error[:, j] = now, now_error
            root, lower = np.sqrt(j + 1.0), np.sqrt(float(j))
            size = np.abs(x * now) + lower * np.abs(before)
            following = (x * now - lower * before) / root
            carried = (np.abs(x) * now_error + lower * before_error + (turn + 8 * ROUNDOFF) * size) / root * (1 + 1e-14)
            before, before_error, now, now_error = now, now_error, following, carried + 1e-300
        return value, np.where(np.isfinite(error), error, np.inf)


@dataclass(frozen=True, eq=False)
class Factors:
    """M = XᵀY with its blocks; ``x[i]`` (n, D) belongs to the i-th block of rows, ``y`` (with κ) to the columns.

    ``long`` and ``moved`` (blocks, n) bound ‖x_i‖ and its error, ``broad`` and ``shifted`` those of y.
    """

    x: list[Array]
    y: list[Array]
    long: Array
    moved: Array
    broad: Array
    shifted: Array

    @staticmethod
    def of(kinks: Kinks, rows: Blocks, columns: Blocks) -> Factors:
        """The factors of these blocks."""
        order = max(j for _, j in (*rows, *columns))
        value, error = kinks.hermite(order)
        n, d = kinks.unit.shape

        def side(blocks: Blocks) -> tuple[list[Array], Array, Array]:
            features = [value[:, j, None] * kinks.power(p) for p, j in blocks]
            long = np.array([np.abs(value[:, j]) + error[:, j] for _, j in blocks]) * (1 + 1e-10)
            ulps = np.array([p * (d + 10) + p + 8.0 for p, _ in blocks])[:, None] * ROUNDOFF
            return features, long, np.array([error[:, j] for _, j in blocks]) + ulps * long

        x, long, moved = side(rows)
        y, broad, shifted = side(columns)
        size = np.linalg.norm(kinks.kappa, axis=1) * (1 + 1e-12)
        y = [(block[:, :, None] * kinks.kappa[:, None, :]).reshape(n, -1) for block in y]
        return Factors(x, y, long, moved, broad * size, (shifted + (d + 16) * ROUNDOFF * broad) * size)

    def weighted(self, a: Array, b: Array) -> tuple[Array, Array]:
        """X and Y with their weights."""
        return (
            np.concatenate([w * x for w, x in zip(a, self.x, strict=True)], axis=1),
            np.concatenate([w * y for w, y in zip(b, self.y, strict=True)], axis=1),
        )


def distances(kinks: Kinks, matrix: KinkMatrix) -> tuple[Array, Array]:
    """(lower bounds of ‖f − g‖ over networks g of S = 0 … n atoms, σ_j(M)/C as computed).

    f is the network that ``kinks`` was made of; their rounding is charged.
    """
    n = kinks.beta.size
    a, b = np.array(matrix.row_weights), np.array(matrix.column_weights)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        f = Factors.of(kinks, matrix.rows, matrix.columns)
        x, y = f.weighted(a, b)
        long, moved = (np.linalg.norm(a[:, None] * v, axis=0) for v in (f.long, f.moved))
        broad, shifted = (np.linalg.norm(b[:, None] * v, axis=0) for v in (f.broad, f.shifted))
        made = x.T @ y
        error = moved @ (broad + shifted) + long @ shifted + (n + 4) * ROUNDOFF * (long @ broad)
        if not (np.isfinite(made).all() and np.isfinite(error)):
            return np.zeros(n + 1), np.zeros(0)
        u, s, vt = linalg.svd(made, full_matrices=False, check_finite=False)
    left = np.zeros(n + 1)
    suffix = np.sqrt(np.cumsum((s * s)[::-1])[::-1])[: n + 1]
    rest = float(np.linalg.norm(made - (u * s) @ vt)) + (s.size + 8) * ROUNDOFF * float(s.sum())
    off = [float(np.linalg.norm(v.T @ v - np.eye(s.size))) for v in (u, vt.T)]
    kept = max(1.0 - sum(off) - 2 * (max(made.shape) + 16) * s.size * ROUNDOFF, 0.0)
    left[: suffix.size] = kept * suffix - (rest + float(error)) * (1 + 1e-9)
    return np.maximum(left, 0.0) / matrix.norm * (1 - 1e-14), s / matrix.norm
