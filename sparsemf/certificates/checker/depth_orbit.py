"""Global identifiability at a point: does Ψ_D see every atom up to its orbit?  Upper and lower ends of D_orb.

*Upper end* (:func:`identified`).  Let ν′ have at most S atoms of the family, scales in the declared box where one
is needed, and Ψ_D(ν′) = Ψ_D(ν).

1. **Lines**: ν′ has exactly S atoms and, renumbered, ŵ′_i = s_iŵ_i (s_i = ±1), α′_i = ρ_iα_i, by one of the
   theorems of :mod:`depth_lines` on one degree or on joint ones.  Homogeneous σ without biases and exp may be done
   with that.
2. **Levels.**  For l ∈ L, the degrees of K where the α_i ⊗ w_i^{⊗l} are independent, subtracting gives
   s_i^l c_l(θ′_i)α′_i = c_l(θ_i)α_i for each atom.
3. **Scales.**  The line through (c_l)_{l ∈ L}, up to the sign (−1)^l of the turn, determines (r, b) up to the
   orbit: by a theorem (:mod:`depth_theorems`) for all r > 0 and b, else by subdivision of the declared box
   (:mod:`depth_scales`).  Then α′_i follows.  Where there are other solutions, each is enclosed, and they must be
   refuted together by the degrees of K outside L: no choice of other solutions for some atoms leaves those tensors
   unchanged (all tried).
4. **Turns.**  With σ(z) = ςσ(−z) + P(z), the turned atom (ςα, −w, −b) differs by αP(⟨w, x⟩ + b).  It is in the
   orbit where the polynomial part of that degree is free, or P = 0.  Otherwise it must be refuted: by some l ∈ L
   where P has a component ≠ 0, by the subdivision, or because no set F of turned atoms has Σ_F α_iP(⟨w_i, x⟩ + b_i)
   = 0 (all subsets tried, in the degrees of K).

For d = 1 all atoms share the line and 1 fails; :func:`by_prony` serves instead.

*Lower end* (:func:`collision`): another (r′, b′) of one atom with the same line through (c_k) for **all** k ∈ K,
shown by Krawczyk's operator, or by a change of sign
(:func:`~sparsemf.certificates.checker.depth_theorems.second_shift`).  Scaling α_i accordingly gives ν′ ≠ ν modulo
the group with Ψ_D(ν′) = Ψ_D(ν), whatever the other atoms are; it is regular, so the same holds on an open set
around ν.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

from flint import arb

from sparsemf.certificates.checker.depth_cells import Box, Field, cells_of
from sparsemf.certificates.checker.depth_lines import Lines, levels, lifted, lines, prony
from sparsemf.certificates.checker.depth_moments import moments
from sparsemf.certificates.checker.depth_rank import Atoms
from sparsemf.certificates.checker.depth_scales import alone, exists_near, line_of, unique_around
from sparsemf.certificates.checker.depth_theorems import polynomial_of_turn, second_shift, theorem
from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.expansion import is_exactly

MOST_TURNS = 12
MOST_CHOICES = 4096


@dataclass(frozen=True)
class Identified:
    """How the steps went: :class:`Lines` of 1, L, and "theorem" or "box" for 3 ("lifted", "prony": all in one)."""

    lines: Lines
    levels: tuple[int, ...]
    scales: str


def _no_free_turn(atoms: Atoms, turning: list[int], degrees: Sequence[int]) -> bool:
    """Whether no set of turned atoms leaves the tensors of K unchanged: Σ_F α_i ⊗ P-components ≠ 0 for all F ≠
    ∅."""
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
    all_ = lifted(atoms, degrees)
    if all_ is not None:
        return Identified(all_, tuple(degrees), "lifted")
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
    return Identified(first, tuple(known), "box" if "box" in ways else "theorem")


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
    shift = second_shift(atoms, i, known)
    if shift is not None and components is not None and seen:
        other = arb(1), moments(shape.activation, arb(1), shift, max([*known, *left]))
        # a degree of L that the other shift changes excludes it by itself
        if any(not x.contains(0) for x in _change(atoms, i, known, known, other, 1)):
            return _Scale("theorem", False, [])
        return _Scale("theorem", False, [_change(atoms, i, known, left, other, 1)])
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
        top = max([field.top, *(k + 2 for k in left)])
        there = exact.balls()
        changes.append(_change(atoms, i, known, left, (there[0], cells_of(shape, [exact], top)[0].at(*there)), turn))
    if not alone(shape, field, ahead, keep[1]):
        return None
    silent = components is not None and all(k > 2 or is_exactly(components[k], 0) for k in known)
    mirrored = silent and (field.box.b_low == -field.box.b_high or not shape.bias)
    if not mirrored and not alone(shape, field, back, keep[-1]):
        return None
    return _Scale("box", mirrored, changes)


def _change(
    atoms: Atoms, i: int, known: list[int], left: list[int], other: tuple[arb, list[arb]], turn: int
) -> list[arb]:
    """α_i ⊗ ŵ_i^{⊗k}·(ρ s^k F_k(θ′) − F_k(θ_i)) for k in ``left``, ρ = F_l(θ_i)/(s^l F_l(θ′)) for the leading l ∈ L;
    ``other``: r′ and G at θ′."""
    shape, r, (there, g) = atoms.shape, atoms.length[i], other

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
    """d = 1: the points by :func:`~sparsemf.certificates.checker.depth_lines.prony`, the turns as in step 4."""
    shape = atoms.shape
    if shape.d != 1 or shape.degree or depth < shape.free:
        return None
    degrees = shape.degrees(depth)
    found = prony(atoms, degrees)
    if found is None:
        return None
    relation = shape.relation
    if relation is not None and not shape.form.translation:
        top = max((j for j, p in enumerate(relation[1]) if not is_exactly(p, 0)), default=-1)
        if top > shape.free and not _no_free_turn(atoms, list(range(shape.atoms)), degrees):
            return None
    return Identified(found[0], tuple(found[1]), "prony")


def collision(atoms: Atoms, depth: int, i: int, r: float, b: float, turn: int) -> Box:
    """The box of another solution for atom i at this depth (a point near it where a change of sign shows it);
    raises :class:`Refused` where it is not shown."""
    shape = atoms.shape
    if turn not in (1, -1) or (not shape.bias and b != 0) or not r > 0:
        raise Refused("the other solution is not of the family")
    form, degrees = shape.form, shape.degrees(depth)
    if depth < shape.free:
        raise Refused("a depth below the polynomial part")
    if shape.homogeneous and shape.bias and turn == 1 and degrees == [1, 2]:
        shift = second_shift(atoms, i, degrees)
        # other directions and turns differ in the line or in ŵ; here only b/r does
        if shift is not None and abs(arb(b) / arb(r) - shift) < 1e-6 * (1 + abs(shift)):
            return Box(r, r, b, b)
    if shape.degree or shape.homogeneous or form.translation or form.frequency is not None:
        raise Refused("other scales of this activation are in the orbit or excluded, or not near what is stated")
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
