"""Kink matrices: how far a function is from every network of few one-kink atoms, atoms on one direction told apart.

**Atoms.**  relu, and what is μz + κ·relu(z) (leaky_relu, abs).  In white coordinates of dimension d the atom
α·relu(r⟨ŵ, x⟩ + b), ‖ŵ‖ = 1, β = b/r, κ = αr, has for k ≥ 2 the normalised Hermite tensor (:mod:`hermite`)

    √k!·T_k = κ φ(β) He_{k−2}(−β) ŵ^{⊗k}.

Contracting two indices takes ŵ^{⊗k} to ŵ^{⊗(k−2)} and leaves He_{k−2}(−β), for ‖ŵ‖ = 1.  So for t ≥ 0, t ≥ n − 2 and
t ≡ n (mod 2), with k = t + 2 and s = (k − n)/2 contractions C, a *linear* map of the function gives

    A_n^{(t)} := √k!·C^s T_k = Σ_i κ_i φ(β_i) He_t(−β_i) ŵ_i^{⊗n},

the sum over the atoms of whatever one-kink network is put in.

**Matrices.**  Rows are pairs (p, j) with weights a > 0, columns (q, l) with weights b > 0; the block of the two is

    M = a b Σ_i κ_i φ(β_i)·he_j(−β_i)ŵ_i^{⊗p} ⊗ he_l(−β_i)ŵ_i^{⊗q}
      = a b Σ_{r ≤ min(j, l)} [r! C(j, r) C(l, r)/√(j! l!)]·A_{p+q}^{(j+l−2r)}            (he_j = He_j/√j!)

by He_j He_l = Σ_r r! C(j, r) C(l, r) He_{j+l−2r}.  It is linear in the function where all t = |j − l|, …, j + l are
admissible: **p + q ≡ j + l (mod 2) and |j − l| ≥ p + q − 2**, which is asked of every row with every column.  An atom
gives (a he_j ŵ^{⊗p})_{(p,j)} ⊗ (b he_l ŵ^{⊗q} ⊗ κφ)_{(q,l)}, of rank 1, so **rank M(g) ≤ S for every network g of S
atoms**, whatever their directions and biases; polynomials of degree ≤ 1 have M = 0, a constant atom too, and
(w, b) → (−w, −b) multiplies he_j(−β)ŵ^{⊗p} by (−1)^{j+p}, the same for all rows.  So for h = f − g

    √(Σ_{j > S} σ_j(M(f))²) ≤ ‖M(f) − M(g)‖_F = ‖M(h)‖_F ≤ C·‖h‖        (Eckart–Young; C the map's norm).

**The norm C.**  T_k is the form P(x) = ⟨T_k, x^{⊗k}⟩, of Fischer norm ⟨P, P⟩ = P(∂)P = k!‖T_k‖²; the contraction is
the Laplacian, ΔP = k(k − 1)⟨C T_k, x^{⊗(k−2)}⟩, the adjoint of multiplication by |x|².  For H harmonic of degree h and
k = 2m + h, Δ(|x|^{2m}H) = 2m(2m + 2h + d − 2)|x|^{2m−2}H, so on that part of T_k

    ‖C T_k‖² = 2m(2m + 2h + d − 2)/(k(k − 1))·‖T_k‖².

Parts of different h are orthogonal, in T_k and in A_n, and C maps the parts of one h to one another by multiples of
isometries; so with τ_k the (vector-valued) part of T_k the block has the square

    a²b² Σ_h ‖Σ_t g_k τ_k‖²,  g_k = [r! C(j, r)C(l, r)/√(j! l!)]·√n!·Π_m √(2m(2m + 2h + d − 2)),  n = p + q,

m from (n − h)/2 + 1 to (k − h)/2, h ≤ n, h ≡ n, and **C² = max_h λ_max(Q_h), Q_h = Σ_blocks a²b² g gᵀ**, h ≤ 1 for
d = 1.  g² is a rational number, computed exactly; Q_h ≥ 0 entrywise, so λ_max ≤ max_i (Q x)_i/x_i for every x > 0
(Collatz).

**Verified tails.**  The distance of M to the matrices of rank ≤ S is 1-Lipschitz.  So for any U, s ≥ 0, V with
‖UᵀU − I‖ ≤ δ, ‖VᵀV − I‖ ≤ η, √(Σ_{j>S} σ_j(M)²) ≥ √((1 − δ)(1 − η))·√(Σ_{j>S} s_j²) − ‖M − U s Vᵀ‖_F, since
σ_j(U s Vᵀ) ≥ σ_min(U)σ_min(V)s_j.  he_j(−β)√φ(β) ≤ 1 is evaluated in balls; all else in float64 with a-priori bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import combinations_with_replacement
from math import comb, factorial, prod
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from sparsemf.certificates.checker import series
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.catalogue import image
from sparsemf.certificates.checker.document import Refused, number
from sparsemf.certificates.checker.expansion import Expanded
from sparsemf.certificates.checker.laws import Norm

Array = NDArray[np.float64]
Side = tuple[tuple[int, int, float], ...]
"""(p, j, weight) of each block of rows, or (q, l, weight) of columns."""

_UNIT = 1.01 * 2.0**-53
_FLOAT = Arithmetic(0)
_MOST_BLOCKS = 32
_MOST_ORDER = 32
_MOST_INDICES = 8
_MOST_ENTRIES = 4_000_000
"""Entries of a matrix beyond this, …"""
_MOST_WORK = 4e10
"""… or multiply-adds, …"""
_MOST_FACTORS = 80_000_000
"""… or entries of its two factors, n for each row and each column, …"""
_MOST_MONOMIALS = 50_000
"""… or so many monomials on one side are not attempted: such a matrix proves nothing."""
_MOST_KEPT = 10_000_000
"""Entries of a ŵ^{⊗p} beyond this are formed anew for each matrix."""
_WEIGHTS = (1e-30, 1e30)


@dataclass(frozen=True)
class KinkMatrix:
    """The rows and the columns of M, with their weights."""

    rows: Side
    columns: Side


@dataclass(frozen=True, eq=False)
class Kinks:
    """Σ_i α_i relu(r_i⟨ŵ_i, x⟩ + b_i) for exactly these α (n, m), r, b (n,); ŵ_i within (d + 8)u of ``unit``."""

    unit: Array
    alpha: Array
    r: Array
    b: Array

    @cached_property
    def powers(self) -> dict[int, Array]:
        """ŵ^{⊗p} by p, as far as they were asked for."""
        return {}


def one_kink(activation: str) -> bool:
    """Whether an atom is a multiple of one relu and an affine function."""
    terms = image(activation).terms
    return len(terms) == 1 and terms[0].core == "relu"


def kink_matrix(entry: Any) -> KinkMatrix:
    """{rows: [[p, j, weight], …], columns: [[q, l, weight], …]}, validated; raises :class:`Refused`."""
    if not isinstance(entry, dict) or set(entry) != {"rows", "columns"}:
        raise Refused("a kink matrix has rows and columns, and nothing else")
    rows, columns = _side(entry["rows"]), _side(entry["columns"])
    for p, j, _ in rows:
        for q, low, _ in columns:
            if (p + q - j - low) % 2 or abs(j - low) < p + q - 2:
                raise Refused(f"the block of ({p}, {j}) and ({q}, {low}) is not a linear map of the function")
    return KinkMatrix(rows, columns)


def _side(entry: Any) -> Side:
    if not isinstance(entry, list) or not 1 <= len(entry) <= _MOST_BLOCKS:
        raise Refused(f"a kink matrix has 1 to {_MOST_BLOCKS} blocks of rows, and of columns")
    found = []
    for item in entry:
        p, j, weight = item
        if type(p) is not int or type(j) is not int or not 0 <= p <= _MOST_INDICES or not 0 <= j <= _MOST_ORDER:
            raise Refused(f"a block has 0 to {_MOST_INDICES} indices and an order of 0 to {_MOST_ORDER}")
        weight = number(weight, "a weight", positive=True)
        if not _WEIGHTS[0] <= weight <= _WEIGHTS[1]:
            raise Refused(f"a weight is a number from {_WEIGHTS[0]} to {_WEIGHTS[1]}")
        found.append((p, j, weight))
    if len({(p, j) for p, j, _ in found}) < len(found):
        raise Refused("a block stands twice in a kink matrix")
    return tuple(found)


def map_norm(matrix: KinkMatrix, d: int) -> float:
    """Upper bound of C for functions on R^d."""
    most = max(p for p, _, _ in matrix.rows) + max(q for q, _, _ in matrix.columns)
    forms = [_form(matrix, d, h) for h in range(min(most, 1 if d == 1 else most) + 1)]
    return float(np.sqrt(max(_largest_eigenvalue(q) for q in forms))) * (1 + 1e-15)


def _form(matrix: KinkMatrix, d: int, h: int) -> Array:
    """Q_h, each entry to a few units in the last place for each of its positive terms."""
    degree = max(j for _, j, _ in matrix.rows) + max(j for _, j, _ in matrix.columns) + 2
    g = []
    for p, j, a in matrix.rows:
        for q, low, b in matrix.columns:
            n = p + q
            if h > n or (n - h) % 2:
                continue
            row = np.zeros(degree + 1)
            for r in range(min(j, low) + 1):
                k = j + low - 2 * r + 2
                steps = range((n - h) // 2 + 1, (k - h) // 2 + 1)
                square = Fraction((factorial(r) * comb(j, r) * comb(low, r)) ** 2, factorial(j) * factorial(low))
                square *= factorial(n) * prod(2 * m * (2 * m + 2 * h + d - 2) for m in steps)
                row[k] = a * b * _root(square)
            g.append(row)
    stacked = np.array(g).reshape(-1, degree + 1)
    return stacked.T @ stacked


def _root(square: Fraction) -> float:
    """√ to 3 units in the last place; ∞ beyond the floats."""
    try:
        return float(np.sqrt(float(square)))
    except OverflowError:
        return float("inf")


def _largest_eigenvalue(q: Array) -> float:
    """Upper bound of λ_max of the symmetric matrix that q ≥ 0 is entrywise a few thousand roundings from."""
    live = np.flatnonzero(q.any(axis=1))
    if not live.size:
        return 0.0
    q = q[np.ix_(live, live)]
    if not np.isfinite(q).all():
        return float("inf")
    x = np.abs(np.linalg.eigh(q)[1][:, -1]) + 1e-9
    x = np.where(np.isfinite(x), x, 1.0)
    best = float("inf")
    for _ in range(32):
        image_of = q @ x
        best = min(best, float(np.max(image_of / x)))
        x = image_of / image_of.max() + 1e-60
    return best * (1 + 1e-11)


def described(norm: Norm, h: Expanded) -> tuple[Kinks, float]:
    """h, a sum of relu neurons, in white coordinates; and how far (beyond degree 1) h is from what is described."""
    f = series.spectrum(_FLOAT, norm, h, 2)
    unit, r, b = (np.asarray(x, dtype=np.float64) for x in (f.unit, f.white[0], f.white[1]))
    alpha = np.asarray(f.alpha, dtype=np.float64)
    live = np.flatnonzero(unit.any(axis=1) & alpha.any(axis=1))
    # ‖relu(r g + b)‖ beyond degree 1 is at most r/2: relu(z) − z/2 has the slope 1/2
    lost = f.drift + float(h.alpha_error @ f.r)
    return Kinks(unit[live], alpha[live], r[live], b[live]), lost * (1 + 1e-12)


def bounds(f: Kinks, matrix: KinkMatrix) -> Array:
    """Lower bounds of ‖f − g‖ beyond degree 1 over networks g of S = 0 … n atoms."""
    (n, d), m = f.unit.shape, f.alpha.shape[1]
    found = np.zeros(n + 1)
    tall, wide = (sum(comb(d + p - 1, p) for p, _, _ in side) for side in (matrix.rows, matrix.columns))
    if not n or max(tall, wide) > _MOST_MONOMIALS or n * (tall + wide * m) > _MOST_FACTORS:
        return found
    if tall * wide * m > _MOST_ENTRIES or float(n) * tall * wide * m > _MOST_WORK:
        return found
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        x, long, moved = _vectors(f, matrix.rows)
        y, broad, shifted = _vectors(f, matrix.columns)
        kappa = f.alpha * f.r[:, None]
        size = np.linalg.norm(kappa, axis=1) * (1 + 1e-12)
        right = (y[:, :, None] * kappa[:, None, :]).reshape(n, -1)
        made = x.T @ right
        error = float(moved @ ((broad + shifted) * size) + long @ ((shifted + 8 * _UNIT * broad) * size))
        error += (n + 4) * _UNIT * float(long @ (broad * size)) * (1 + 1e-9) + 1e-140 * (1 + float(np.max(size)))
        if not np.isfinite(made).all():
            return found
        tails = _tails(made, error)
        found[: tails.size] = tails[: n + 1] / map_norm(matrix, d) * (1 - 1e-14)
    return np.where(np.isfinite(found) & (found > 0), found, 0.0)


def _vectors(f: Kinks, side: Side) -> tuple[Array, Array, Array]:
    """(v (n, D), ≥ ‖v_i‖, ≥ ‖v_i − exact‖) for v_i = (weight·he_j(−β_i)√φ(β_i)·ŵ_i^{⊗p})_{(p, j)}."""
    n, d = f.unit.shape
    value, radius = _hermite(f.r, f.b, max(j for _, j, _ in side))
    own_powers = {p: f.powers[p] if p in f.powers else _monomials(f.unit, p) for p in {p for p, _, _ in side}}
    f.powers.update({p: power for p, power in own_powers.items() if power.size <= _MOST_KEPT})
    blocks, length, error = [], np.zeros(n), np.zeros(n)
    for p, j, weight in side:
        blocks.append(weight * value[:, j, None] * own_powers[p])
        own = np.abs(value[:, j]) + radius[:, j]
        length += (weight * own) ** 2
        # ŵ^{⊗p} moves p times as far as ŵ; its monomials round p + 4 times, the products twice
        error += (weight * (radius[:, j] + (p * (d + 10) + p + 8) * _UNIT * own)) ** 2
    slack = 1 + (p_most := max(p for p, _, _ in side)) * (d + 10) * _UNIT + 1e-10
    return np.concatenate(blocks, axis=1), np.sqrt(length) * slack, np.sqrt(error) * (1 + 1e-9 + p_most * 1e-12)


def _hermite(r: Array, b: Array, order: int) -> tuple[Array, Array]:
    """he_j(−b/r)·√φ(b/r) for j ≤ order, shape (n, order + 1), and what each may be off."""
    points, copy = np.unique(np.stack([r, b], axis=1), axis=0, return_inverse=True)
    value, radius = np.empty((points.shape[0], order + 1)), np.empty((points.shape[0], order + 1))
    roots = [arb(k).sqrt() for k in range(order + 1)]
    scale = (2 * arb.pi()).sqrt().sqrt()
    for i, (length, bias) in enumerate(points.tolist()):
        beta = arb(bias) / arb(length)
        previous, current = arb(0), (-beta * beta / 4).exp() / scale
        for j in range(order + 1):
            value[i, j], radius[i, j] = float(current.mid()), float(current.rad())
            if j < order:
                previous, current = current, (-beta * current - roots[j] * previous) / roots[j + 1]
    radius += 2.0**-52 * np.abs(value) + 1e-300
    return value[copy.ravel()], radius[copy.ravel()]


def _monomials(unit: Array, p: int) -> Array:
    """ŵ^{⊗p} in an orthonormal basis of the symmetric tensors: √(p!/β!)·ŵ^β, shape (n, C(d + p − 1, p))."""
    if p == 0:
        return np.ones((unit.shape[0], 1))
    columns = []
    for index in combinations_with_replacement(range(unit.shape[1]), p):
        repeats = prod(factorial(index.count(i)) for i in set(index))
        columns.append(np.sqrt(factorial(p) / repeats) * np.prod(unit[:, index], axis=1))
    return np.stack(columns, axis=1)


def _tails(made: Array, error: float) -> Array:
    """Lower bounds of √Σ_{j > S} σ_j², S = 0, 1, …, of the matrix that ``made`` is within ``error`` of."""
    u, s, vt = np.linalg.svd(made, full_matrices=False)
    s = np.maximum(s, 0.0)
    r = s.size
    deltas = []
    for basis in (u, vt.T):
        spread = float(np.sum(basis * basis))
        delta = float(np.linalg.norm(basis.T @ basis - np.eye(r))) + (basis.shape[0] + 4) * _UNIT * spread
        deltas.append(max(1.0 - delta * (1 + 1e-9) - 8 * _UNIT, 0.0))
    kept = float(np.sqrt(deltas[0] * deltas[1]))
    size = float(np.linalg.norm(made))
    residual = float(np.linalg.norm(made - (u * s) @ vt))
    residual += _UNIT * ((r + 4) * float(s @ (np.linalg.norm(u, axis=0) * np.linalg.norm(vt, axis=1))) + 4 * size)
    ordered = np.sort(s)  # an unsorted s is no reason to believe its last entries
    left = np.sqrt(np.cumsum(ordered * ordered))[::-1] * (1 - (r + 8) * _UNIT) * kept
    return left - (residual + error) * (1 + (made.size + 64) * _UNIT) - 1e-150


def best(f: Kinks, lost: float, matrices: Sequence[KinkMatrix]) -> Array:
    """The best of the matrices' bounds at each S, less ``lost``."""
    found = np.zeros(f.alpha.shape[0] + 1)
    for matrix in matrices:
        found = np.maximum(found, bounds(f, matrix))
    return np.maximum(found - lost, 0.0)
