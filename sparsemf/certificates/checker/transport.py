"""Claims about the orbit distance: lower ≤ Σ_cores |ν^s|_flat + Σ_j ‖T_j‖_F ≤ value, from a plan and a potential.

For masses κ_i at points v_i, parity s of the flip and c_i = 1 (for s = −1 also c_i ≤ ‖v_i‖) the flat norm of
½(ν + s·ι_#ν) on the cover is

    min Σ_e d_e‖F_e‖ + Σ_i c_i‖r_i‖ over flows F_e from i to j, plain or across the flip (d_e = ‖v_i ∓ v_j‖),
    max Σ_i ⟨κ_i, φ_i⟩ over potentials with ‖φ_i‖ ≤ c_i and ‖φ_i − t φ_j‖ ≤ ‖v_i ∓ v_j‖ (t = 1, or s across the flip).

*Upper*: any flows, priced with the residual r that they leave.  *Lower*: any potential; all pairs and both sides are
looked at, and what they violate is paid for.  If every constraint holds to a factor λ ≥ 1, φ/λ is feasible.  For one
output, if every constraint holds to an additive η, then McShane's extension min_j(φ_j + d_ij), clipped to [−1, 1] and
averaged with its mirror image, is feasible and within η of φ, so Σ⟨κ_i, φ_i⟩ − η Σ|κ_i| is a lower bound.

*Merging.*  Moving κ_i to ±v_j costs ‖κ_i‖·min(‖v_i ∓ v_j‖, 2) on either side: for the potential by Kirszbraun's
theorem (a 1-Lipschitz φ on some points of R^k extends to all, stays in the unit ball after projection, and may be
averaged with its mirror image).  So any merging of neurons is allowed, and a potential is needed only where mass is
left.  In the same way a point known to δ_i costs ‖κ_i‖min(δ_i, 2), a mass known to ε_i costs ε_i.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.document import Refused, array, integers, number
from sparsemf.certificates.checker.measure import Family, measure
from sparsemf.certificates.checker.raw import Raw

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

EXACT = 1e-8
"""A relative gap below which a value is called exact."""
KINDS = ("certificate", "upper certificate", "estimate", "not computed")
DUST = 2.0**-45
"""A mass below this share of all may be left without a plan in a certificate."""

_FLOAT = Arithmetic(0)
_UNIT = _FLOAT.unit
_ROWS = 512
_NUMBERS = 1 << 22


@dataclass(frozen=True)
class Transported:
    """lower ≤ distance ≤ upper; ``polynomial`` brackets the polynomial part's share.

    ``rounding``: what merging, dropping of dust and rounding contribute to each end.  ``spread``: how far another
    machine's roundings may move the ends.  ``complete``: every mass beyond dust has a plan and a potential.
    """

    lower: float
    upper: float
    polynomial: tuple[float, float]
    rounding: float
    spread: float
    complete: bool


def prove(a: Raw, b: Raw, entry: Mapping[str, Any]) -> Transported:
    """This program's bounds of the distance from ``entry["merged"]`` {leader, sign} and ``entry["plan"]``.

    Raises :class:`Refused` for evidence that does not fit the networks.
    """
    with _FLOAT.precision(), np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore"):
        try:
            families, polynomial, size = measure(a, b)
        except Undefined as error:
            raise Refused(str(error)) from None
        leader, sign = (integers(entry["merged"][name], "the merging") for name in ("leader", "sign"))
        if leader.shape != (size,) or sign.shape != (size,) or not np.all(np.abs(sign) == 1):
            raise Refused("the merging does not fit the networks")
        if size and not (leader.min() >= 0 and leader.max() < size):
            raise Refused("the merging does not fit the networks")
        plans = {part["core"]: part for part in entry["plan"]}
        if len(plans) != len(entry["plan"]) or not plans.keys() <= {f.core.name for f in families}:
            raise Refused("the plan speaks of other cores")
        low, high = polynomial.bounds()
        lower, upper, rounding, spread, complete = low, high, polynomial.error, 0.0, True
        for family in families:
            found = _family(family, leader, sign, plans.get(family.core.name))
            lower, upper, rounding = lower + found.lower, upper + found.upper, rounding + found.rounding
            spread, complete = max(spread, found.spread), complete and found.complete
        spread = 2 * rounding + spread * upper
        if not np.isfinite(upper):
            raise Refused("the distance leaves the range of numbers")
        return Transported(lower, upper, (low, high), rounding, spread, complete)


def _family(family: Family, leader: Integers, sign: Integers, plan: Mapping[str, Any] | None) -> Transported:
    """One core: its share of the bounds, and a relative spread."""
    n, columns = family.rows.size, family.points.shape[1]
    place = np.full(leader.size, -1, dtype=np.int64)
    place[family.rows] = np.arange(n)
    lead, flip = place[leader[family.rows]], sign[family.rows]
    heads = lead == np.arange(n)
    if (
        np.any(lead < 0)
        or not np.all(heads[lead])
        or np.any(flip[heads] != 1)
        or (not family.parity and flip.min() < 0)
    ):
        raise Refused("neurons are merged that do not belong together")
    turn = np.where(flip < 0, float(family.parity), 1.0)
    # what moves neurons to their leaders, and the rounding of points, masses and sums
    moved = np.minimum(family.moved, 2.0)
    joined = np.flatnonzero(~heads)
    step = max(1, _NUMBERS // columns)
    for rows in np.split(joined, range(step, joined.size, step)):
        gap = _FLOAT.norms(family.points[rows] - flip[rows, None] * family.points[lead[rows]])
        moved[rows] += np.minimum(gap, 2.0)
    slot = np.cumsum(heads) - 1
    total, blurred = _added(family, slot[lead], turn, int(np.sum(heads)))
    mass = float(np.sum(family.weight))
    lost = float(family.weight @ (moved + 2 * _UNIT) + np.sum(family.lost) + blurred) * (1 + n * 2.0**-52)

    kept, potential = np.zeros(0, dtype=np.int64), None
    if plan is not None:
        points = integers(plan["points"], "the plan's points")
        if points.size and not (points.min() >= 0 and points.max() < leader.size):
            raise Refused("the plan's points are no neurons")
        kept = place[points]
        if np.any(kept < 0) or not np.all(heads[kept]) or np.unique(kept).size != kept.size:
            raise Refused("the plan's points are no leaders of its core")
        if plan.get("potential") is not None:
            potential = array(plan["potential"], (kept.size, total.shape[1]), "the potential")
    left = np.ones(total.shape[0], dtype=bool)
    left[slot[kept]] = False
    dropped = float(np.sum(_FLOAT.norms(total[left]))) * (1 + n * 2.0**-52)
    v, kappa = family.points[kept], total[slot[kept]]
    price, worth = dropped, 0.0
    if plan is not None:
        price += _price(v, kappa, family.parity, plan)
        worth = 0.0 if potential is None else _worth(v, kappa, family.parity, potential)
    return Transported(
        lower=max(worth - dropped - lost, 0.0),
        upper=(price + lost) * (1 + 2.0**-50),
        polynomial=(0.0, 0.0),
        rounding=lost + min(dropped, DUST * mass),
        spread=16 * (columns + total.shape[1] + 16) * _UNIT,
        complete=dropped <= DUST * mass and (plan is None or potential is not None),
    )


def _added(family: Family, group: Integers, turn: Array, groups: int) -> tuple[Array, float]:
    """The masses of each group within u Σ‖κ_i‖ in all, and what that still leaves out.

    With σ ≥ 2n·max|κ| a power of two, (κ + σ) − σ are multiples of uσ, whose sums of n are exact in any order; what
    they leave of κ is at most uσ, and a sum of c of those loses at most c·u of c·uσ.
    """
    n = group.size
    rows = np.arange(n)
    largest = float(np.max(np.abs(family.alpha), initial=0.0))
    if family.value is not None:
        largest *= float(np.max(np.abs(family.value), initial=0.0))
    sigma = float(np.ldexp(1.0, int(np.frexp(largest)[1]) + n.bit_length() + 1))
    step = max(1, _NUMBERS // family.points.shape[1])
    high = np.zeros((groups, family.mass(rows[:0]).shape[1]))
    low = np.zeros_like(high)
    for part in np.split(rows, range(step, n, step)):
        kappa = turn[part, None] * family.mass(part)
        front = (kappa + sigma) - sigma
        np.add.at(high, group[part], front)
        np.add.at(low, group[part], kappa - front)
    members = np.bincount(group, minlength=groups).astype(float)
    high += low
    return high, float(np.sum(members**2)) * _UNIT**2 * sigma * high.shape[1] ** 0.5 * (1 + 1e-9)


def costs(points: Array, parity: int) -> Array:
    """Upper bounds of c_i."""
    return np.minimum(1.0, _FLOAT.norms(points)) if parity < 0 else np.ones(points.shape[0])


def _price(points: Array, mass: Array, parity: int, plan: Mapping[str, Any]) -> float:
    """Upper bound of what a plan costs: explicit flows, or (``flow`` null) all that ``first`` holds when its turn
    comes is poured to ``second``, in the order of the edges."""
    n, columns = points.shape
    first, second, side = (integers(plan[name], "the plan") for name in ("first", "second", "side"))
    if not first.shape == second.shape == side.shape:
        raise Refused("the plan's edges do not fit together")
    ends = np.concatenate([first, second])
    if ends.size and (ends.min() < 0 or ends.max() >= n or np.any(first == second)):
        raise Refused("the plan's edges lead out of its points")
    if not np.all(np.abs(side) == 1) or (not parity and np.any(side < 0)):
        raise Refused("a flow crosses a flip that is none")
    turn = np.where(side < 0, float(parity), 1.0)
    length = np.zeros(first.size)
    step = max(1, _NUMBERS // columns)
    for s in range(0, first.size, step):
        e = slice(s, s + step)
        length[e] = _FLOAT.norms(points[first[e]] - side[e, None] * points[second[e]])
    left = mass.copy()
    if plan.get("flow") is not None:
        flow = array(plan["flow"], (first.size, mass.shape[1]), "the flow")
        size = _FLOAT.norms(flow)
        np.subtract.at(left, first, flow)
        np.add.at(left, second, turn[:, None] * flow)
    else:
        size = np.zeros(first.size)
        for e in range(first.size):
            i, j = first[e], second[e]
            size[e] = np.sqrt(left[i] @ left[i]) * (1 + (mass.shape[1] + 4) * 2.0**-52) + 1e-150
            left[j] += turn[e] * left[i]
            left[i] = 0.0
    # every addition to a residual rounds by a unit of what has come together there
    together = _FLOAT.norms(mass) + np.bincount(first, size, minlength=n) + np.bincount(second, size, minlength=n)
    steps = np.bincount(ends, minlength=n) + 1
    created = costs(points, parity) @ _FLOAT.norms(left) + float(steps @ together) * _UNIT
    return float(length @ size + created) * (1 + (n + first.size + 8) * 2.0**-52)


def _worth(points: Array, mass: Array, parity: int, potential: Array) -> float:
    """Lower bound of what a potential is worth when it is made feasible."""
    weight, size = _FLOAT.norms(mass), _FLOAT.norms(potential)
    rough = float(np.sum(np.einsum("ij,ij->i", mass, potential)))
    rough -= (mass.shape[0] + mass.shape[1] + 16) * _UNIT * float(weight @ size)
    excess, ratio = violated(points, potential, parity)
    found = rough / ratio * (1 - 2.0**-50) if np.isfinite(ratio) and rough > 0 else 0.0
    if mass.shape[1] == 1 and np.isfinite(excess):
        found = max(found, rough - excess * float(np.sum(weight)) * (1 + mass.shape[0] * 2.0**-52))
    return max(found, 0.0)


def violated(points: Array, potential: Array, parity: int) -> tuple[float, float]:
    """(η, λ): upper bounds of what all constraints need, ‖φ_i − tφ_j‖ ≤ d_ij + η and ‖φ_i − tφ_j‖ ≤ λ·d_ij, λ ≥ 1.

    Lengths come from inner products, with an a-priori bound; where that does not show the constraint, from differences.
    """
    n, columns = points.shape
    m = potential.shape[1]
    top = _FLOAT.norms(potential)
    floor = np.sqrt(np.maximum(_FLOAT.squares(points) * (1 - (columns + 8) * 2.0**-52) - 1e-300, 0.0)) * (1 - 1e-15)
    cost = np.minimum(1.0, floor) if parity < 0 else np.ones(n)
    excess = 2.0 * float(np.max(top - cost, initial=0.0)) * (1 + 2.0**-50)
    ratio = max(1.0, _quotient(top, cost))
    square, strength = _FLOAT.squares(points), _FLOAT.squares(potential)
    for start in range(0, n, _ROWS):
        r, c = slice(start, min(start + _ROWS, n)), slice(start, n)
        inner, alike = points[r] @ points[c].T, potential[r] @ potential[c].T
        reach, force = square[r, None] + square[c], strength[r, None] + strength[c]
        for side in (1, -1) if parity else (1,):
            turn = 1 if side > 0 else parity
            shortest = reach - 2.0 * side * inner - 2 * (columns + 8) * _UNIT * reach
            gap = force - 2.0 * turn * alike + 2 * (m + 8) * _UNIT * force
            i, j = np.nonzero(~(gap * (1 + 1e-15) + 1e-300 <= shortest))
            i, j = i[i < j], j[i < j]
            step = max(1, _NUMBERS // (columns + m))
            for s in range(0, i.size, step):
                one, other = i[s : s + step] + start, j[s : s + step] + start
                near = points[one] - side * points[other]
                length = np.sqrt(np.maximum(_FLOAT.squares(near) * (1 - (columns + 8) * 2.0**-52) - 1e-300, 0.0))
                apart = _FLOAT.norms(potential[one] - turn * potential[other])
                excess = max(excess, float(np.max(apart - length * (1 - 1e-15), initial=0.0)) * (1 + 2.0**-50))
                ratio = max(ratio, _quotient(apart, length * (1 - 1e-15)))
    return excess, ratio


def _quotient(over: Array, under: Array) -> float:
    """Upper bound of the largest over/under, 0/0 = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.max(np.where(over > 0, over / under, 0.0), initial=0.0)) * (1 + 2.0**-50)


def published(found: Transported) -> dict[str, Any]:
    """The numbers that a document may state: the bounds widened by what other machines may round."""
    value, lower = found.upper + found.spread, max(found.lower - found.spread, 0.0)
    rounding = 2 * found.rounding + found.spread
    gap = max(value - lower, 0.0)
    return {
        "value": value,
        "lower": lower,
        "dual_gap": gap,
        "exact": gap <= EXACT * value + 2 * rounding,
        "polynomial": 0.5 * (found.polynomial[0] + found.polynomial[1]),
        "rounding": rounding,
    }


def check(entry: Mapping[str, Any], a: Raw, b: Raw) -> dict[str, float]:
    """The facts proved about ``orbit_distance``; raises :class:`Refused` where its numbers do not follow.

    An *estimate* claims nothing and holds no evidence; *not computed* states no number.
    """
    kind, numbers = entry["kind"], [entry[name] for name in ("value", "lower", "dual_gap")]
    if kind not in KINDS:
        raise Refused(f"unknown kind {kind!r} of orbit distance")
    evident = [entry["plan"] is not None, entry["merged"] is not None]
    if evident != [kind in KINDS[:2]] * 2:
        raise Refused(f"an orbit distance of the kind {kind!r} with{'' if any(evident) else 'out'} evidence")
    if kind == "not computed":
        if numbers != [None] * 3 or entry["exact"] is not False:
            raise Refused("an orbit distance that was not computed has no value")
        return {}
    value, lower, gap = (number(x, "the orbit distance") for x in numbers)
    rounding, polynomial = (number(entry[name], "the orbit distance") for name in ("rounding", "polynomial"))
    if lower > value or gap != max(value - lower, 0.0):
        raise Refused("the orbit distance's duality gap is not value − lower")
    exact = kind != "estimate" and gap <= EXACT * value + 2 * rounding
    if entry["exact"] is not exact:
        raise Refused("whether the orbit distance is exact does not follow from its bounds")
    if kind == "estimate":
        return {}
    found = prove(a, b, entry)
    if kind == "certificate" and not found.complete:
        raise Refused("a certificate of the orbit distance without a plan or a potential")
    if not found.upper <= value:
        raise Refused(f"claimed orbit distance {value:.6g}, the plan proves only {found.upper:.6g}")
    if not lower <= found.lower:
        raise Refused(f"claimed orbit distance at least {lower:.6g}, the potential proves only {found.lower:.6g}")
    if not rounding <= (2 * found.rounding + found.spread) * (1 + 1e-6):
        raise Refused("the rounding of the orbit distance is not that large")
    low, high = found.polynomial
    if not low - found.spread <= polynomial <= high + found.spread:
        raise Refused(f"the polynomial part lies in [{low:.6g}, {high:.6g}], claimed {polynomial:.6g}")
    return {"orbit_distance_lower": found.lower, "orbit_distance_upper": found.upper}
