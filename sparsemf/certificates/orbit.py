"""Orbit distance: the flat norm of the difference of two dictionary measures on the double cover, core by core.

The networks are written in cores, so their activations may differ; scalings are taken to the section, flips to the
cover (:mod:`sparsemf.certificates.dictionary`, :mod:`sparsemf.certificates.flat`).  Equal points cancel first; points
that creation and destruction keep apart (d_ij ≥ c_i + c_j) are separate problems.  To the flat norms the flip-invariant
polynomial difference ‖ΔA‖_F + ‖Δc‖ + ‖ΔQ‖_F + … is added.

``value`` is the price of a transport plan, ``lower`` what a feasible potential is worth: both are what the checker
(:mod:`sparsemf.certificates.checker.transport`) proves from the plan and the potential, whatever solver found them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sparsemf.certificates import flat_clusters, flat_program, orbit_evidence
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.dictionary import Dictionary, Family, TooLarge, dictionary, raw_of
from sparsemf.certificates.flat import Edges, Plan, Problem, greedy, repaired, shortened, target, trees
from sparsemf.measures import Network
from sparsemf.measures.gaussian import UNIT
from sparsemf.symmetry.metric import leaders, lengths, separations

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

MERGE_ULPS = 64

_MOST_POINTS = 2000
_LARGEST_LINEAR = 60_000
_LARGEST_CONE = 30_000
_LARGEST_STORED = 1_000_000
_MOST_CONE = 1000
_NEIGHBOURS = (8, 8, 8, 8, 8, 8)
_FEW_NEIGHBOURS = (1, 1, 4)
_SHORT = 0.05
_DUST = 1e-3


@dataclass(frozen=True, eq=False)
class Transport:
    """Plan and potential of one core.  Point i is where neuron ``neuron[i]`` of A (``of_a[i]``) or of B sits.

    Flow k moves ``flow[k]`` (m,) from ``first[k]`` to ``second[k]``, across the flip where ``side[k]`` = −1; what it
    leaves is created.  ``potential`` (n, m) is feasible.
    """

    core: str
    of_a: NDArray[np.bool_]
    neuron: Integers
    first: Integers
    second: Integers
    side: Integers
    flow: Array
    potential: Array


@dataclass(frozen=True, eq=False)
class OrbitDistance:
    """lower ≤ distance ≤ value; ``dual_gap`` = value − lower.

    ``kind``: "certificate" (the checker proves both ends from plan and potential), "upper certificate" (no potential is
    kept; ``lower`` is proved without one), "estimate" (nothing is proved: the evidence is too large to be kept), "not
    computed" (``value``, ``lower`` and ``dual_gap`` are None; ``method`` says why).  ``rounding`` is the share of
    merging and rounding in the ends; ``exact``: proved, and the two meet to rounding or to 1e-8 of the value.
    ``polynomial`` is the polynomial part's share.  ``plan`` lists the transport of each core, empty where all mass
    cancels, None where it is too large to be kept; ``evidence`` is what the checker reads.
    """

    kind: str
    value: float | None
    lower: float | None
    dual_gap: float | None
    exact: bool
    method: str
    polynomial: float = 0.0
    rounding: float = 0.0
    plan: list[Transport] | None = field(default=None, repr=False)
    evidence: dict[str, Any] | None = field(default=None, repr=False)


def _uncomputed(why: object) -> OrbitDistance:
    return OrbitDistance("not computed", None, None, None, False, f"not computed: {why}")


def orbit_distance(a: Network, b: Network, parts: Dictionary | None = None) -> OrbitDistance:
    """The orbit distance of two networks of one d and m, both gated or neither; see the module's docstring.

    ``parts``: their dictionary, if it is known already.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return _orbit_distance(a, b, parts)


def _orbit_distance(a: Network, b: Network, parts: Dictionary | None) -> OrbitDistance:
    try:
        parts = dictionary(a, b) if parts is None else parts
        polynomial, rounding = parts.polynomial.norm()
    except TooLarge as error:
        return _uncomputed(error)
    if not all(np.isfinite(f.mass).all() for f in parts.families) or not np.isfinite(polynomial):
        return _uncomputed("coefficients beyond the range of numbers")
    value, lower, methods = polynomial, max(polynomial - rounding, 0.0), set()
    plans: list[Transport] | None = []
    cores: list[orbit_evidence.Core] = []
    for family in parts.families:
        found = _family(family)
        value, lower, rounding = value + found.upper, lower + found.lower, rounding + found.rounding
        methods.add(found.method)
        cores.append(found.core)
        if found.transport is not None and plans is not None:
            stored = found.transport.potential.size + found.transport.flow.size
            plans = [*plans, found.transport] if stored <= _LARGEST_STORED else None
    methods.discard(_NOTHING)
    method = "; ".join(sorted(methods)) or _NOTHING
    evidence = orbit_evidence.evidence(cores, parts.size)
    del parts, cores
    known = orbit_evidence.proved(raw_of(a), raw_of(b), evidence)
    if known is not None:
        kind, numbers = known
        return OrbitDistance(kind=kind, method=method, plan=plans, evidence=evidence, **numbers)
    if not np.isfinite(value):
        return _uncomputed("coefficients beyond the range of numbers")
    return OrbitDistance("estimate", value, lower, max(value - lower, 0.0), False, method, polynomial, rounding, plans)


_NOTHING = "no mass is left beyond rounding"
_PROGRAM = "transport plan and potential by convex programming, made feasible"
_PAIRS = "transport along short edges and the potential tight on it, made feasible"
_PLAN_ONLY = "transport along short edges; no potential was computed"


@dataclass(frozen=True, eq=False)
class _Found:
    upper: float
    lower: float
    rounding: float
    method: str
    transport: Transport | None
    core: orbit_evidence.Core


def _family(family: Family) -> _Found:
    problem, kept, moved, rounding, (lead, sign) = _cancelled(family)
    merged = (family.core, family.row, family.row[lead], sign)
    if not problem.size:
        return _Found(moved, 0.0, rounding, _NOTHING, None, orbit_evidence.Core(*merged))
    solution = _small(problem) if problem.size <= _MOST_POINTS else _large(problem)
    plan, potential = solution.plan, solution.potential
    transport = Transport(
        family.core,
        family.of_a[kept],
        family.neuron[kept],
        plan.edges.first,
        plan.edges.second,
        plan.edges.side,
        plan.flow,
        potential,
    )
    upper = problem.price(plan) + moved
    lower = max(problem.worth(potential) - moved, 0.0)
    core = orbit_evidence.Core(*merged, family.row[kept], problem, plan, potential)
    return _Found(upper, min(lower, upper), rounding, solution.method, transport, core)


def _cancelled(family: Family) -> tuple[Problem, Integers, float, float, tuple[Integers, Integers]]:
    """Equal points merged and what cancels dropped: the problem, its points' indices, what that costs, rounding, and
    (leader, sign) of every point."""
    flips = family.parity != 0
    size = lengths(family.points)
    lead, sign = leaders(family.points, MERGE_ULPS * UNIT * size, flips)
    turn = np.where(sign < 0, float(family.parity), 1.0)
    atoms, atom = np.unique(lead, return_inverse=True)
    members = np.bincount(atom, minlength=atoms.size)
    total = Arithmetic(0).grouped(family.mass, atom, atoms.size, turn)
    weight = lengths(family.mass)
    whole = np.bincount(atom, weights=weight, minlength=atoms.size)
    left = lengths(total)
    alive = (left > MERGE_ULPS * UNIT * whole) | ((members == 1) & (left > 0))
    moved = float(left[~alive].sum())
    joined = np.flatnonzero(lead != np.arange(lead.size))
    gap = separations(family.points, joined, family.points, lead[joined], sign[joined])
    moved += float(weight[joined] @ np.minimum(gap, 2.0))
    rounding = 4 * (family.points.shape[1] + 16) * UNIT * float(weight @ np.minimum(size + 1.0, 1e300)) + moved
    problem = Problem(family.points[atoms[alive]], total[alive], family.parity)
    return problem, atoms[alive], moved, rounding, (lead, sign)


@dataclass(frozen=True, eq=False)
class _Solution:
    plan: Plan
    potential: Array
    method: str


def _small(problem: Problem) -> _Solution:
    """Component by component of the pairs that may interact; the convex program wherever it is affordable."""
    plain, crossing = problem.matrices
    reach = problem.cost[:, None] + problem.cost
    near = (plain < reach) | (crossing < reach)
    np.fill_diagonal(near, False)
    label = connected_components(coo_array(near), directed=False)[1]
    potential = np.zeros_like(problem.mass)
    plans: list[Plan] = []
    methods = set()
    for component in range(int(label.max()) + 1):
        rows = np.flatnonzero(label == component)
        part = problem if rows.size == problem.size else problem.part(rows)
        solution = _component(part)
        potential[rows] = solution.potential
        edges = solution.plan.edges
        back = Edges(rows[edges.first], rows[edges.second], edges.side, edges.turn, edges.length)
        plans.append(Plan(back, solution.plan.flow))
        methods.add(solution.method)
    edges = Edges(
        *(
            np.concatenate([getattr(p.edges, name) for p in plans])
            for name in ("first", "second", "side", "turn", "length")
        )
    )
    return _Solution(Plan(edges, np.concatenate([p.flow for p in plans])), potential, max(methods))


def _component(problem: Problem) -> _Solution:
    plan = greedy(problem, _NEIGHBOURS)
    potential, worth = np.zeros_like(problem.mass), 0.0
    # tight on all flows, or on the short ones alone: the long ones rarely form the best forest
    for flows in (plan, shortened(problem, plan, _SHORT)):
        residual = problem.residual(flows)
        feasible, value = repaired(problem, target(problem, trees(problem, flows, residual), residual))
        if value > worth:
            potential, worth = feasible, value
    clustered = flat_clusters.bounded(problem, plan)
    if clustered is not None and clustered[1] > worth:
        potential, worth = clustered
    price = problem.price(plan)
    outputs = min(problem.mass.shape[1], problem.size)
    limit = _LARGEST_LINEAR if outputs == 1 else _LARGEST_CONE // outputs
    if price - worth <= 1e-12 * price or (outputs > 1 and problem.size * outputs > _MOST_CONE):
        return _Solution(plan, potential, _PAIRS)
    solved = flat_program.solve(problem, plan.edges, limit)
    if solved is None:
        return _Solution(plan, potential, _PAIRS)
    better, other = solved
    if problem.price(better) < price:
        plan = better
    feasible, value = repaired(problem, other)
    if value > worth:
        potential = feasible
    return _Solution(plan, potential, _PROGRAM)


def _large(problem: Problem) -> _Solution:
    plan = greedy(problem, _FEW_NEIGHBOURS, dust=_DUST)
    found = flat_clusters.bounded(problem, plan)
    if found is None:
        return _Solution(plan, np.zeros_like(problem.mass), _PLAN_ONLY)
    return _Solution(plan, found[0], _PAIRS)
