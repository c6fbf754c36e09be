"""The evidence of an orbit distance: merging, plan and potential as arrays, and what the checker proves from them.

Nothing is published that the checker does not prove; where the evidence is too large to be kept, the numbers are called
an estimate, and where only the potential is, the lower bound is that of the polynomial part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import transport
from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.raw import Raw, encode
from sparsemf.certificates.flat import Plan, Problem

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_NUMBERS = 200_000
"""Explicit flows, and potentials, of more numbers in all are not kept …"""
MOST_WORK = 4e10
"""… nor potentials whose feasibility takes more multiplications to look at."""


@dataclass(frozen=True, eq=False)
class Core:
    """What was found for one core.  ``rows`` (N,): its neurons' places in the expansion, ``leader`` (N,) and ``sign``
    where each is moved; ``points`` (n,): the places of the leaders with mass left, None where none is."""

    name: str
    rows: Integers
    leader: Integers
    sign: Integers
    points: Integers | None = None
    problem: Problem | None = None
    plan: Plan | None = None
    potential: Array | None = None


def evidence(cores: Sequence[Core], size: int) -> dict[str, Any] | None:
    """{merged, plan} for the checker; None where a plan is too large to be kept."""
    leader, sign = np.arange(size), np.ones(size, dtype=np.int64)
    parts: list[dict[str, Any]] = []
    flows = potentials = 0
    work = sum(_work(core) for core in cores)
    for core in cores:
        leader[core.rows], sign[core.rows] = core.leader, core.sign
        if core.points is None or core.problem is None or core.plan is None:
            continue
        edges = core.plan.edges
        first, second, flow = edges.first, edges.second, None
        poured = poured_ends(core.problem, core.plan)
        if poured is not None:
            first, second = poured
        else:
            flow, flows = core.plan.flow, flows + core.plan.flow.size
        potential = core.potential if core.potential is not None and core.potential.any() else None
        if potential is not None:
            potentials += potential.size
        if flows > MOST_NUMBERS:
            return None
        if potentials > MOST_NUMBERS or work > MOST_WORK:
            potential = None
        parts.append(
            {
                "core": core.name,
                "points": encode(core.points.astype(np.int32)),
                "first": encode(first.astype(np.int32)),
                "second": encode(second.astype(np.int32)),
                "side": encode(edges.side.astype(np.int8)),
                "flow": None if flow is None else encode(flow),
                "potential": None if potential is None else encode(potential),
            }
        )
    merged = {"leader": encode(leader.astype(np.int32)), "sign": encode(sign.astype(np.int8))}
    return {"merged": merged, "plan": parts}


def _work(core: Core) -> float:
    if core.problem is None:
        return 0.0
    return float(core.problem.size) ** 2 * (core.problem.points.shape[1] + core.problem.mass.shape[1])


def poured_ends(problem: Problem, plan: Plan) -> tuple[Integers, Integers] | None:
    """(from, to) of every edge where each flow, in its turn, empties one of its ends; None where one does not.

    Greedy plans are of this kind: their flows need not be kept.
    """
    left, edges = problem.mass.copy(), plan.edges
    source, target = edges.first.copy(), edges.second.copy()
    for e in range(edges.first.size):
        i, j, turn = edges.first[e], edges.second[e], edges.turn[e]
        if np.array_equal(left[i], plan.flow[e]):
            left[j] += turn * left[i]
            left[i] = 0.0
        elif np.array_equal(-turn * left[j], plan.flow[e]):
            left[i] += turn * left[j]
            left[j] = 0.0
            source[e], target[e] = j, i
        else:
            return None
    return source, target


def proved(a: Raw, b: Raw, found: dict[str, Any] | None) -> tuple[str, dict[str, Any]] | None:
    """(kind, numbers to publish) from the evidence; None where the checker proves nothing."""
    if found is None:
        return None
    try:
        result = transport.prove(a, b, found)
    except (Refused, MemoryError):
        return None
    return ("certificate" if result.complete else "upper certificate"), transport.published(result)
