"""The lines of atoms, and what their tensors say of each atom alone: steps 1 and 2 of :mod:`depth_orbit`.

ν has S atoms, ν′ at most S, and Ψ_D(ν′) = Ψ_D(ν).  Three ways to the lines:

- *One degree* (Kruskal 1977; Sidiropoulos & Bro 2000).  At some k ∈ K with c_k(θ_i) ≠ 0 for all i, write k = p + q
  + s and T_k = Σ A_i ⊗ B_i ⊗ C_i with A = w^{⊗p}, B = w^{⊗q}, C = α ⊗ w^{⊗s}.  If the k-ranks (any that many are
  independent) satisfy κ_A + κ_B + κ_C ≥ 2S + 2, no other sum of at most S such terms equals T_k.  k-ranks are found
  by testing all sets of that many rows, or bounded by κ(X ⊙ Y) ≥ min(κ_X + κ_Y − 1, S).
- *Joint degrees*: :mod:`depth_joint` with v = w, u = α, g_k = G_k, all k ∈ K with k ≥ p.
- *Lifted*, where T_k = Σ A_i κ_k w_i^{⊗k} with κ_k the same for all atoms: homogeneous σ without biases (A = αr^p
  and ŵ for w) and exp (A = αe^{b + r²/2}).  Then Σ A_i ⊗ w_i^{⊗k} is known where κ_k ≠ 0, and k = a, …, a + t make
  up the tensor Σ (A_i ⊗ w_i^{⊗a}) ⊗ (1, w_i)^{⊗t}: :mod:`depth_joint` with v = (1, w), u = A ⊗ w^{⊗a} and the one
  degree t.  For homogeneous σ contraction (‖ŵ‖ = 1) gives k − 2 from k, and a = 0.  The points follow with their
  signs, then A: ν′ = ν up to scaling, or translation of e^b.

The first two give, renumbered, exactly S atoms with ŵ′_i = s_iŵ_i, s_i = ±1, and α′_i = ρ_iα_i, ρ_i ≠ 0: some T_k
has the same terms for ν and ν′, with coefficient c_k(θ_i)α_i ≠ 0 for atom i.  One atom needs neither: its T_k has
one term.

Then l ∈ L (:func:`levels`) where the α_i ⊗ w_i^{⊗l} are independent: 0 = T_l(ν′) − T_l(ν) =
Σ_i (s_i^l c_l(θ′_i)ρ_i − c_l(θ_i)) α_i ⊗ ŵ_i^{⊗l}, so s_i^l c_l(θ′_i)α′_i = c_l(θ_i)α_i for each atom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from flint import arb
from numpy.typing import NDArray

from sparsemf.certificates.checker.depth_joint import Balls, Points, apart, independent
from sparsemf.certificates.checker.depth_rank import Atoms, powers_independent
from sparsemf.certificates.checker.depth_shape import symmetric
from sparsemf.certificates.checker.expansion import is_exactly

Array = NDArray[np.float64]

MOST_SETS = 400
MOST_NUMBERS = 200_000
"""Atoms by coordinates (times those of A ⊗ w^{⊗a}) beyond this are not tried by joint degrees."""


@dataclass(frozen=True)
class Lines:
    """How the lines were found: "one degree" k with its split (p, q, s), or "joint" ("lifted") degrees up to k with
    split (p, 0, 0), or (p, 0, 1) with the coefficients in the columns; "prony" likewise."""

    way: str
    degree: int
    split: tuple[int, int, int]


def k_rank(rows: Array, power: int = 1) -> int:
    """A lower bound of the k-rank of the rows' tensor powers (rows ≠ 0), by balls on all sets of that many."""
    n, d = rows.shape
    best = 1
    for size in range(min(n, symmetric(d, power)), 1, -1):
        if math.comb(n, size) > MOST_SETS:
            continue
        if all(powers_independent(rows[list(chosen)], power) for chosen in combinations(range(n), size)):
            best = size
            break
    return best


def lines(atoms: Atoms, degrees: Sequence[int]) -> Lines | None:
    """The lines of all atoms from the degrees K, by one degree or joint ones; None where both fail."""
    return _lines(atoms, tuple(degrees))


@lru_cache(maxsize=4)
def _lines(atoms: Atoms, degrees: tuple[int, ...]) -> Lines | None:
    # asked for by each attempt at one depth: without a box, with it, and before the box is subdivided
    shape, n = atoms.shape, atoms.shape.atoms
    if n == 1:
        # in d = 1 there is but one line, and T_0 is as good as any
        seen = [k for k in degrees if (k >= 1 or shape.d == 1) and atoms.table[0][k] != 0]
        return Lines("one degree", seen[0], (seen[0], 0, 0)) if seen else None
    if shape.d == 1:
        return None
    return _one_degree(atoms, degrees) or _joint(atoms, degrees)


def _one_degree(atoms: Atoms, degrees: Sequence[int]) -> Lines | None:
    shape, n = atoms.shape, atoms.shape.atoms
    seen = [k for k in degrees if k >= 1 and all(g[k] != 0 for g in atoms.table)]
    if not seen:
        return None
    flat = k_rank(atoms.w)
    sides = 1 if shape.m == 1 else min(k_rank(atoms.alpha), n)
    known: dict[int, int] = {0: 1, 1: flat}

    def rank(p: int) -> int:
        if p not in known:
            product = min(rank(p - 1) + flat - 1, n)
            known[p] = product if product == n else max(product, k_rank(atoms.w, p))
        return known[p]

    for k in seen:
        for p in range(k + 1):
            for q in range(p, k - p + 1):
                s = k - p - q
                if rank(p) + rank(q) + min(rank(s) + sides - 1, n) >= 2 * n + 2:
                    return Lines("one degree", k, (p, q, s))
    return None


def _rows(values: Array) -> list[Balls]:
    return [[arb(x) for x in row] for row in values.tolist()]


def _joint(atoms: Atoms, degrees: Sequence[int]) -> Lines | None:
    known = {k: [g[k] for g in atoms.table] for k in degrees if k >= 1}
    if not known or atoms.w.size + atoms.alpha.size > MOST_NUMBERS:
        return None
    found = apart(Points(_rows(atoms.w), _rows(atoms.alpha), known), max(known))
    return None if found is None else Lines("joint", max(known), (found[0], 0, int(found[1])))


def lifted(atoms: Atoms, degrees: Sequence[int]) -> Lines | None:
    """All of ν from the degrees K, where σ is homogeneous without biases or exp; None where that is not shown."""
    shape = atoms.shape
    first = degrees[0] if degrees and shape.form.translation else 0
    large = atoms.w.size + atoms.alpha.size * shape.d**first > MOST_NUMBERS
    if shape.degree or shape.atoms == 1 or not degrees or large:
        return None
    v, u = _rows(atoms.w), _rows(atoms.alpha)
    if shape.homogeneous and not shape.bias:
        known = {k - j for k in degrees if atoms.table[0][k] != 0 for j in range(0, k + 1, 2)}
        v = [[x / r for x in row] for row, r in zip(v, atoms.length, strict=True)]
    elif shape.form.translation:
        known = set(degrees)
        for _ in range(first):
            u = [[a * x for a in one for x in row] for one, row in zip(u, v, strict=True)]
    else:
        return None
    top = first
    while top + 1 in known:
        top += 1
    if first not in known or top == first:
        return None
    ones = [arb(1)] * shape.atoms
    points = Points([[arb(1), *row] for row in v], u, {top - first: ones}, unit=not shape.form.translation)
    found = apart(points, top - first)
    return None if found is None else Lines("lifted", top, (found[0], 0, int(found[1])))


def levels(atoms: Atoms, degrees: Sequence[int]) -> list[int]:
    """L: the degrees that say of each atom alone what they say, once the lines are known."""
    v, u = _rows(atoms.w), _rows(atoms.alpha)
    return [k for k in degrees if powers_independent(atoms.w, k) or independent(v, u, k)]


def prony(atoms: Atoms, degrees: Sequence[int]) -> tuple[Lines, list[int]] | None:
    """d = 1: nodes and vectors of Σ A_i x_i^j, j = 0, …, M − 1, and the degrees in which they are read.

    2S moments in a row of a measure with at most S atoms determine it (the difference of two such measures has at
    most 2S points, whose Vandermonde matrix is invertible), vector-valued ones alike; with several outputs fewer
    may do: :mod:`depth_joint` with v = (1, x), u = A and the one degree M − 1.

    The points: −β·sign(w) for relu, leaky_relu, abs, relu² with biases (F_l = A·He_{l−p−1} of it, l ≥ p + 1, a
    change of basis of its powers); w for exp (F_l = A·w^l); r² for sin and cos without biases, ρ² for erf and Φ
    (every second degree).  A is α up to a number ≠ 0.
    """
    shape, n = atoms.shape, atoms.shape.atoms
    names = {term.core for term in shape.form.terms}
    if shape.form.frequency is not None or shape.form.translation:
        names = {shape.form.terms[0].core}
    if shape.d != 1 or len(names) != 1 or any(not is_exactly(t.shift(), 0) for t in shape.form.terms):
        return None
    core, sides = names.pop(), np.sign(atoms.w[:, 0])
    if core in ("relu", "relu2") and shape.bias and shape.homogeneous:
        row = [k for k in degrees if k >= (2 if core == "relu" else 3)]
        points = [-arb(float(b * s)) / r for b, s, r in zip(atoms.b, sides, atoms.length, strict=True)]
    elif core == "exp":
        row, points = list(degrees), [arb(float(x)) for x in atoms.w[:, 0]]
    elif core in ("sin", "cos", "erf") and not shape.bias:
        row = [k for k in degrees if k % 2 == (0 if core == "cos" else 1)]
        if core == "erf":
            points = [_erf_point(shape.form.terms[0].scale() * r) for r in atoms.length]
        else:
            points = [r * r for r in atoms.length]
    else:
        return None
    if any((x - y).contains(0) for x, y in combinations(points, 2)):
        return None
    if len(row) >= 2 * n:
        return Lines("prony", row[2 * n - 1], (n, 0, 0)), row[: 2 * n]
    if len(row) < 2:
        return None
    stacked = Points([[arb(1), x] for x in points], _rows(atoms.alpha), {len(row) - 1: [arb(1)] * n})
    found = apart(stacked, len(row) - 1)
    return None if found is None else (Lines("prony", row[-1], (found[0], 0, int(found[1]))), row)


def _erf_point(v: arb) -> arb:
    return v * v / (v * v + arb(0.5))
