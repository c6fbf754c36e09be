"""Global identifiability at a point: does Ψ_D see every atom up to its orbit?  Upper and lower ends of D_orb.

*Upper end* (:func:`identified`).  Let ν′ have at most S atoms of the family, scales in the declared box where one is
needed, and Ψ_D(ν′) = Ψ_D(ν).

1. **Lines** (Kruskal 1977; Sidiropoulos & Bro 2000).  At some k ∈ K with c_k(θ_i) ≠ 0 for all i, write k = p + q + s
   and T_k = Σ A_i ⊗ B_i ⊗ C_i with A = w^{⊗p}, B = w^{⊗q}, C = α ⊗ w^{⊗s}.  If the k-ranks (any that many are
   independent) satisfy κ_A + κ_B + κ_C ≥ 2S + 2, no other sum of at most S such terms equals T_k: so ν′ has exactly S
   atoms and, renumbered, ŵ′_i = s_iŵ_i (s_i = ±1) and s_i^k c_k(θ′_i)α′_i = c_k(θ_i)α_i.  One atom needs no k-ranks.
   k-ranks are found by testing all sets of that many rows, or bounded by κ(X ⊙ Y) ≥ min(κ_X + κ_Y − 1, S).
2. **Levels.**  For l ∈ L, the degrees of K where the w_i^{⊗l} are independent, subtracting gives
   s_i^l c_l(θ′_i)α′_i = c_l(θ_i)α_i for each atom.
3. **Scales.**  The line through (c_l)_{l ∈ L}, up to the sign (−1)^l of the turn, determines (r, b) up to the orbit:
   by a theorem (:func:`theorem`) for all r > 0 and b, else by subdivision of the declared box (:mod:`depth_scales`).
   Then α′_i follows.  Where the box holds other solutions, each is enclosed, and they must be refuted together by the
   degrees of K outside L: no choice of other solutions for some atoms leaves those tensors unchanged (all tried).
4. **Turns.**  With σ(z) = ςσ(−z) + P(z), the turned atom (ςα, −w, −b) differs by αP(⟨w, x⟩ + b).  It is in the orbit
   where the polynomial part of that degree is free, or P = 0.  Otherwise it must be refuted: by some l ∈ L where P has
   a component ≠ 0, by the subdivision, or because no set F of turned atoms has Σ_F α_iP(⟨w_i, x⟩ + b_i) = 0 (all
   subsets tried, in the degrees of K).

For d = 1 all atoms share the line and 1 fails; :func:`by_prony` serves instead.

*Lower end* (:func:`collision`): another (r′, b′) of one atom with the same line through (c_k) for **all** k ∈ K, shown
by Krawczyk's operator.  Scaling α_i accordingly gives ν′ ≠ ν modulo the group with Ψ_D(ν′) = Ψ_D(ν), whatever the other
atoms are; it is regular, so the same holds on an open set around ν.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement

import numpy as np
from flint import arb
from numpy.typing import NDArray

from sparsemf.certificates.checker.depth_cells import Box, Field, cells_of
from sparsemf.certificates.checker.depth_rank import Atoms, powers_independent
from sparsemf.certificates.checker.depth_scales import alone, exists_near, line_of, unique_around
from sparsemf.certificates.checker.depth_shape import symmetric
from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.expansion import is_exactly

Array = NDArray[np.float64]

MOST_SETS = 400
MOST_TURNS = 12
MOST_CHOICES = 4096


@dataclass(frozen=True)
class Identified:
    """How the steps went: the degree and split of 1, L, and "theorem" or "box" for 3."""

    degree: int
    split: tuple[int, int, int]
    levels: tuple[int, ...]
    scales: str


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


def lines(atoms: Atoms, degrees: Sequence[int]) -> tuple[int, tuple[int, int, int]] | None:
    """Step 1: the least degree that serves, with its split."""
    shape, n = atoms.shape, atoms.shape.atoms
    seen = [k for k in degrees if k >= 1 and all(g[k] != 0 for g in atoms.table)]
    if n == 1:
        return (seen[0], (seen[0], 0, 0)) if seen else None
    if shape.d == 1 or not seen:
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
                    return k, (p, q, s)
    return None


def levels(atoms: Atoms, degrees: Sequence[int]) -> list[int]:
    """L of step 2."""
    return [k for k in degrees if powers_independent(atoms.w, k)]


def theorem(atoms: Atoms, i: int, known: Sequence[int]) -> bool:
    """Whether (r, b) of atom i follows from the degrees L for all r > 0 and b, up to the orbit and the turn.

    With A ≠ 0 any number, He_n monic Hermite polynomials, s the turn:

    - homogeneous, no biases: r is the orbit, and any l with c_l ≠ 0 gives α up to the turn's sign (−1)^l.  Degrees of
      both parities exclude the turn; those of one parity leave (−1)^l α, the turned atom's ςα only for ς = (−1)^l.
    - relu, leaky_relu, abs (p = 1), relu² (p = 2), l ≥ p + 1: F_l = A·He_{l−p−1}(−β), β = b/r (the orbit keeps it).
      {p + 1, p + 2} ⊂ L: the ratio is −β.  {p, p + 1} ⊂ L for relu and relu²: φ(β)/Φ(β) > 0 decreases (and is no −φ/Φ).
      {l, l + 1, l + 2} ⊂ L with F_{l+1} ≠ 0: −β = (He_{n+2} + (n + 1)He_n)/He_{n+1}.
    - erf, Φ, l ≥ 1: F_l = A·(−ρ)^{l−1}He_{l−1}(β), ρ² = v²/(½ + v²), v the core's r, β = its b/√(½ + v²).  No biases:
      two odd degrees give ρ², which increases with r.  {1, 2, 3}: X = ρβ and X² − ρ² are the ratios.  Four in a row,
      h_n = ρⁿHe_n: h_{n+1} = Xh_n − nρ²h_{n−1} and the next are linear in (X, ρ²) with determinant −(h_n² + n(h_n² −
      h_{n−1}h_{n+1})) < 0 (Turán's inequality for Hermite polynomials).
    - sin, cos: F_l = A·r^l·sin(b + (l + shift)π/2).  No biases: two degrees.  {l, l + 1, l + 2} with F_l ≠ 0:
      F_{l+2}/F_l = −r², and F_{l+1}/(rF_l) is a cotangent: b modulo π, and b + π is −α.
    - exp: F_l = A·r^l: two degrees of different parity (so that the turn shows).
    """
    shape, g = atoms.shape, atoms.table[i]
    names = {term.core for term in shape.form.terms}
    if shape.form.frequency is not None or shape.form.translation:
        names = {shape.form.terms[0].core}
    if len(names) != 1 or any(not is_exactly(t.shift(), 0) for t in shape.form.terms):
        return False
    core, here = names.pop(), set(known)
    if shape.homogeneous and not shape.bias:
        parities, relation = {k % 2 for k in known if g[k] != 0}, shape.relation
        return len(parities) == 2 or any(relation is not None and relation[0] * (-1) ** p == 1 for p in parities)
    if core in ("relu", "relu2") and shape.homogeneous:
        p = 1 if core == "relu" else 2
        plain = len(shape.form.terms) == 1 and is_exactly(shape.form.linear(), 0)
        if {p + 1, p + 2} <= here or (plain and {p, p + 1} <= here):
            return True
        return any({k, k + 1, k + 2} <= here and k > p and g[k + 1] != 0 for k in known)
    if core == "erf":
        if not shape.bias:
            return len([k for k in known if k % 2 == 1]) >= 2
        return {1, 2, 3} <= here or any({k, k + 1, k + 2, k + 3} <= here and k >= 1 for k in known)
    if core in ("sin", "cos"):
        if not shape.bias:
            return len(known) >= 2
        return any({k, k + 1, k + 2} <= here and g[k] != 0 for k in known)
    if core == "exp":
        return len({k % 2 for k in known}) == 2
    return False


def polynomial_of_turn(atoms: Atoms, i: int) -> list[arb] | None:
    """The Hermite components 0, 1, 2 of P(rg + b) for atom i; None without a relation."""
    relation = atoms.shape.relation
    if relation is None:
        return None
    p0, p1, p2 = relation[1]
    r, b = atoms.length[i], arb(float(atoms.b[i]))
    return [p0 + p1 * b + p2 * (b * b + r * r), (p1 + 2 * p2 * b) * r, p2 * r * r]


def _no_free_turn(atoms: Atoms, turning: list[int], degrees: Sequence[int]) -> bool:
    """Whether no set of turned atoms leaves the tensors of K unchanged: Σ_F α_i ⊗ P-components ≠ 0 for all F ≠ ∅."""
    if not turning:
        return True
    if len(turning) > MOST_TURNS:
        return False
    vectors = []
    for i in turning:
        found = polynomial_of_turn(atoms, i)
        if found is None:
            return False
        unit = [arb(x) / atoms.length[i] for x in atoms.w[i].tolist()]
        parts: list[arb] = []
        if 0 in degrees:
            parts.append(found[0])
        if 1 in degrees:
            parts += [found[1] * x for x in unit]
        if 2 in degrees:
            parts += [found[2] * x * y for x in unit for y in unit]
        vectors.append([arb(a) * x for a in atoms.alpha[i].tolist() for x in parts])
    sums: list[list[arb]] = []
    for vector in vectors:
        sums += [vector, *([x + y for x, y in zip(old, vector, strict=True)] for old in sums)]
    return all(any(not x.contains(0) for x in total) for total in sums)


Others = dict[int, list[tuple[float, float, int]]]
"""Approximate other solutions (r, b, turn) of some atoms, for :func:`identified`."""


def identified(atoms: Atoms, depth: int, field: Field | None, others: Others | None = None) -> Identified | None:
    """The four steps at this depth; None where one of them fails."""
    shape = atoms.shape
    degrees = shape.degrees(depth)
    whole = shape.atoms == 1 and shape.homogeneous and not shape.bias
    if (shape.degree and not whole) or depth < shape.free:
        return None
    first = lines(atoms, degrees)
    if first is None:
        return None
    known = levels(atoms, degrees)
    left = [k for k in degrees if k not in known]
    turning, ways, changes = [], set(), []
    for i in range(shape.atoms):
        found = _scale_of(atoms, i, known, left, field, (others or {}).get(i, []))
        if found is None:
            return None
        ways.add(found.way)
        if found.turns:
            turning.append(i)
        if found.changes:
            changes.append(found.changes)
    relation = shape.relation
    if relation is not None and turning:
        top = max((j for j, p in enumerate(relation[1]) if not is_exactly(p, 0)), default=-1)
        if top > shape.free and (changes or not _no_free_turn(atoms, turning, degrees)):
            return None
    if changes and not _all_visible(changes):
        return None
    return Identified(first[0], first[1], tuple(known), "box" if "box" in ways else "theorem")


@dataclass(frozen=True, eq=False)
class _Scale:
    """Step 3 for one atom: by which ``way``; whether the turned atom is left; how the tensors of K outside L would
    change with each other solution."""

    way: str
    turns: bool
    changes: list[list[arb]]


def _all_visible(changes: list[list[list[arb]]]) -> bool:
    """Whether every choice of other solutions, for at least one atom, changes some tensor."""
    count = 1
    for options in changes:
        count *= 1 + len(options)
    if count > MOST_CHOICES or not changes[0][0]:
        return False
    sums: list[list[arb]] = []
    for options in changes:
        more = [[x + y for x, y in zip(old, option, strict=True)] for old in sums for option in options]
        sums += options + more
    return all(any(not x.contains(0) for x in total) for total in sums)


def _scale_of(
    atoms: Atoms,
    i: int,
    known: list[int],
    left: list[int],
    field: Field | None,
    others: list[tuple[float, float, int]],
) -> _Scale | None:
    """None where step 3 fails for atom i."""
    shape, components = atoms.shape, polynomial_of_turn(atoms, i)
    seen = components is not None and any(k <= 2 and not components[k].contains(0) for k in known)
    if theorem(atoms, i, known):
        return _Scale("theorem", components is not None and not seen and not shape.form.translation, [])
    if field is None or len(known) < 2:
        return None
    r, b = atoms.length[i], float(atoms.b[i])
    middle = float(r.mid())
    if not (field.box.r_low < middle < field.box.r_high and field.box.b_low <= b <= field.box.b_high):
        return None
    ahead, back = (line_of(atoms.table[i], r, known, turn) for turn in (1, -1))
    # r is a ball; uniqueness holds in a box around its midpoint, which contains it
    own = unique_around(shape, ahead, middle, b, field.top)
    if own is None:
        return None
    keep: dict[int, list[Box]] = {1: [own], -1: []}
    changes = []
    for length, shift, turn in others:
        line = ahead if turn == 1 else back
        exact = exists_near(shape, line, length, shift, field.top)
        around = unique_around(shape, line, length, shift, field.top)
        if exact is None or around is None or not around.holds(exact):
            return None
        keep[turn].append(around)
        changes.append(_change(atoms, i, known, left, exact, turn, field.top))
    if not alone(shape, field, ahead, keep[1]):
        return None
    silent = components is not None and all(k > 2 or is_exactly(components[k], 0) for k in known)
    mirrored = silent and (field.box.b_low == -field.box.b_high or not shape.bias)
    if not mirrored and not alone(shape, field, back, keep[-1]):
        return None
    return _Scale("box", mirrored, changes)


def _change(atoms: Atoms, i: int, known: list[int], left: list[int], box: Box, turn: int, top: int) -> list[arb]:
    """α_i ⊗ ŵ_i^{⊗k}·(ρ s^k F_k(θ′) − F_k(θ_i)) for k ∈ ``left``, ρ = F_l(θ_i)/(s^l F_l(θ′)) for the leading l ∈ L."""
    shape, r = atoms.shape, atoms.length[i]
    top = max([top, *(k + 2 for k in left)])
    g = cells_of(shape, [box], top)[0].at(*box.balls())
    there = box.balls()[0]

    def power(x: arb, k: int) -> arb:
        out = arb(1)
        for _ in range(k):
            out = out * x
        return out

    lead = max(known, key=lambda k: abs(float((power(r, k) * atoms.table[i][k]).mid())))
    sign = turn if lead % 2 else 1
    ratio = power(r, lead) * atoms.table[i][lead] / (sign * power(there, lead) * g[lead])
    unit, out = [arb(x) / r for x in atoms.w[i].tolist()], []
    for k in left:
        sign = turn if k % 2 else 1
        factor = ratio * sign * power(there, k) * g[k] - power(r, k) * atoms.table[i][k]
        for which in combinations_with_replacement(range(shape.d), k):
            entry = factor
            for e in which:
                entry = entry * unit[e]
            out += [arb(a) * entry for a in atoms.alpha[i].tolist()]
    return out


def by_prony(atoms: Atoms, depth: int) -> Identified | None:
    """d = 1: 2S moments in a row of a measure with at most S atoms determine it (the difference of two such measures
    has at most 2S points, whose Vandermonde matrix is invertible), vector-valued ones alike.

    The points: −β·sign(w) for relu, leaky_relu, abs, relu² with biases (F_l = A·He_{l−p−1} of it, l ≥ p + 1, a change
    of basis of its powers); w for exp (F_l = A·w^l); r² for sin and cos without biases, ρ² for erf and Φ (every second
    degree).  The points must be distinct, and the turns are settled as in step 4.
    """
    shape = atoms.shape
    if shape.d != 1 or shape.degree or depth < shape.free:
        return None
    degrees, n = shape.degrees(depth), shape.atoms
    names = {term.core for term in shape.form.terms}
    if shape.form.frequency is not None or shape.form.translation:
        names = {shape.form.terms[0].core}
    if len(names) != 1 or any(not is_exactly(t.shift(), 0) for t in shape.form.terms):
        return None
    core, sides = names.pop(), np.sign(atoms.w[:, 0])
    if core in ("relu", "relu2") and shape.bias and shape.homogeneous:
        start = 2 if core == "relu" else 3
        row = [k for k in degrees if k >= start]
        points = [-arb(float(b * s)) / r for b, s, r in zip(atoms.b, sides, atoms.length, strict=True)]
        serves = len(row) >= 2 * n
    elif core == "exp":
        row, points = degrees, [arb(float(x)) for x in atoms.w[:, 0]]
        serves = len(row) >= 2 * n
    elif core in ("sin", "cos", "erf") and not shape.bias:
        parity = 0 if core == "cos" else 1
        row = [k for k in degrees if k % 2 == parity]
        points, serves = [r * r for r in atoms.length], len(row) >= 2 * n
    else:
        return None
    distinct = all(not (x - y).contains(0) for x, y in combinations(points, 2))
    if not serves or not distinct:
        return None
    relation = shape.relation
    if relation is not None and core != "exp":
        top = max((j for j, p in enumerate(relation[1]) if not is_exactly(p, 0)), default=-1)
        if top > shape.free and not _no_free_turn(atoms, list(range(n)), degrees):
            return None
    return Identified(max(row[: 2 * n]), (0, 0, 0), tuple(row[: 2 * n]), "prony")


def collision(atoms: Atoms, depth: int, i: int, r: float, b: float, turn: int) -> Box:
    """The box of another solution for atom i at this depth; raises :class:`Refused` where it is not shown."""
    shape = atoms.shape
    if turn not in (1, -1) or (not shape.bias and b != 0) or not r > 0:
        raise Refused("the other solution is not of the family")
    form = shape.form
    if shape.degree or shape.homogeneous or form.translation or form.frequency is not None:
        raise Refused("other scales of this activation are in the orbit or excluded")
    degrees = shape.degrees(depth)
    if depth < shape.free:
        raise Refused("a depth below the polynomial part")
    line = line_of(atoms.table[i], atoms.length[i], degrees, turn)
    box = exists_near(shape, line, r, b, max(degrees) + 2)
    # where all F_l vanish, E = 0 without an α that would do
    if box is None or cells_of(shape, [box], max(degrees) + 2)[0].at(*box.balls())[degrees[line.lead]].contains(0):
        raise Refused(f"no other solution near r = {r:.6g}, b = {b:.6g} is proved")
    apart = _apart(box, atoms.length[i], float(atoms.b[i]))
    if turn == -1:
        apart = _apart(box, atoms.length[i], -float(atoms.b[i])) or shape.relation is None
    if not apart:
        raise Refused("the other solution may be the atom itself, turned")
    return box


def _apart(box: Box, r: arb, b: float) -> bool:
    return bool(r < box.r_low or r > box.r_high or b < box.b_low or b > box.b_high)
