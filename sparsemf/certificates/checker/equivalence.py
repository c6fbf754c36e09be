"""Claims of equivalence: lower ≤ ‖f_A − f_B‖ ≤ upper, the verdict that follows, the witness, the separating degree.

The evidence only *chooses* among bounds that are valid whatever it says: which neurons to group and flip, how many
Hermite degrees, along which direction, in which arithmetic, and whether relu neurons are summed in closed form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import evaluate, gated, gated_series, grouped, kinks, matching, series, transport
from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.document import TINY, Refused, array, inside, interval, norm_of, number, whole
from sparsemf.certificates.checker.expansion import Expanded, expanded
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import Raw, decode

Array = NDArray[np.float64]
Verdict = Literal["equivalent", "distinct", "undecided"]

HIGHEST_DEGREE = 1024
MOST_BITS = 4096
MOST_BALL_ENTRIES = 4_000_000
"""A network of more entries is not put into balls."""
WITNESS_BITS = 128


def verdict_of(lower: float, upper: float, eps: float, eps_distinct: float) -> Verdict:
    """The verdict that two-sided bounds imply."""
    if upper <= eps:
        return "equivalent"
    return "distinct" if lower > eps_distinct else "undecided"


def arithmetic_of(evidence: Mapping[str, Any]) -> Arithmetic:
    """Float64 (``bits`` 0) or balls."""
    bits = whole(evidence["bits"], "the number of bits", 0, MOST_BITS)
    if 0 < bits < 64:
        raise Refused("balls need at least 64 bits")
    return Arithmetic(bits)


def entries(*networks: Raw) -> int:
    """How many numbers the neurons of the networks hold."""
    return sum(f.b.size * (f.w.shape[1] * (2 if f.gate is not None else 1) + f.outer.shape[1]) for f in networks)


def grouping_of(evidence: Mapping[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(leader, flip) of the expanded neurons."""
    return np.asarray(decode(evidence["leader"]), dtype=np.int64), np.asarray(decode(evidence["sign"]), dtype=np.int64)


def gates(arith: Arithmetic, a: Raw, b: Raw) -> Expanded:
    """The gate neurons of f_A − f_B, which a grouping of gated blocks speaks of."""
    return gated.expand(arith, (a, 1.0), (b, -1.0)).gates


def gated_upper(
    arith: Arithmetic, norm: Norm, a: Raw, b: Raw, leader: NDArray[np.int64], flip: NDArray[np.int64]
) -> float:
    """The grouped bound of two gated blocks."""
    return gated.upper(arith, norm, gated.expand(arith, (a, 1.0), (b, -1.0)), leader, flip)


def direction_of(evidence: Mapping[str, Any]) -> Array | None:
    """The unit vector for Bessel's inequality."""
    entry = evidence.get("direction")
    return None if entry is None else np.asarray(decode(entry), dtype=np.float64)


@dataclass(frozen=True)
class Proved:
    """lower ≤ ‖f_A − f_B‖ ≤ upper, and lower bounds of single Hermite degrees of f_A − f_B."""

    lower: float
    upper: float
    degrees: tuple[series.Degree, ...] = ()

    @property
    def separations(self) -> list[int]:
        """The degrees at which T_k(A) ≠ T_k(B)."""
        return [x.k for x in self.degrees if x.lower > TINY]


def prove(
    norm: Norm, a: Raw, b: Raw, evidence: Mapping[str, Any], known: tuple[Expanded, float] | None = None
) -> Proved:
    """This program's bounds of the distance.  ``known``: f_A − f_B expanded and the bound by groups in float64, for a
    prover that has just computed them (:func:`check` never does)."""
    arith = arithmetic_of(evidence)
    if arith.exact and entries(a, b) > MOST_BALL_ENTRIES:
        raise Refused("the networks are too large for ball arithmetic")
    leader, flip = grouping_of(evidence)
    degree = whole(evidence["degree"], "the degree", 2, HIGHEST_DEGREE)
    direction = direction_of(evidence)
    found: list[series.Degree] = []
    with arith.precision(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        try:
            if a.gate is not None or b.gate is not None:
                lower, upper, found = gated_series.distance_bounds(
                    arith, norm, a, b, leader, flip, direction, degree, bool(evidence.get("gram"))
                )
            else:
                h, lower = expanded(arith, (a, 1.0), (b, -1.0)) if known is None else known[0], 0.0
                spectral = bool(evidence.get("spectral"))
                upper = grouped.upper(arith, norm, h, leader, flip, spectral) if known is None else known[1]
                if norm.kind == "empirical":
                    lower, high = evaluate.root_mean_square(arith, h, norm.data)
                    upper = min(high, upper)
                if norm.kind == "gaussian":
                    lower, high, found = _by_series(arith, norm, h, leader, flip, direction, degree, evidence, upper)
                    upper = min(high, upper)
        except Undefined:
            return Proved(0.0, float("inf"))
    if norm.kind == "sup" and evidence.get("witness"):
        lower = witness_gap(a, b, _inside(evidence["witness"], norm, a))
    return Proved(*interval(lower, upper), tuple(found))


def _by_series(
    arith: Arithmetic,
    norm: Norm,
    h: Expanded,
    leader: NDArray[np.int64],
    flip: NDArray[np.int64],
    direction: Array | None,
    degree: int,
    evidence: Mapping[str, Any],
    enough: float,
) -> tuple[float, float, list[series.Degree]]:
    """(lower, upper, degrees) from the Hermite series, and in closed form where the evidence asks for that; (0, ∞,
    none) where the series cannot be formed.  Upper bounds above ``enough`` need not be found."""
    try:
        f = series.spectrum(arith, norm, h, degree)
        found = series.degrees(arith, f, direction)
        lower, upper = series.linear_lower(found), series.spectral_upper(arith, norm, f, enough)
        if evidence.get("gram"):
            low, high = series.gram(arith, norm, h, f, leader, flip)
            lower, upper = max(lower, low), min(upper, high)
        if evidence.get("closed"):
            low, high = kinks.bounds(arith, norm, f)
            lower, upper = max(lower, low), min(upper, high)
    except Undefined:
        return 0.0, float("inf"), []
    return lower, upper, found


def distance_bounds(norm: Norm, a: Raw, b: Raw, evidence: Mapping[str, Any]) -> tuple[float, float]:
    """This program's (lower, upper) of ‖f_A − f_B‖."""
    found = prove(norm, a, b, evidence)
    return found.lower, found.upper


def norm_bounds(norm: Norm, a: Raw, evidence: Mapping[str, Any]) -> tuple[float, float]:
    """This program's (lower, upper) of ‖f_A‖."""
    arith = arithmetic_of(evidence)
    if arith.exact and entries(a) > MOST_BALL_ENTRIES:
        raise Refused("the network is too large for ball arithmetic")
    with arith.precision(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        try:
            if a.gate is not None:
                degree = whole(evidence["norm_degree"], "the degree", 2, HIGHEST_DEGREE)
                form = bool(evidence.get("norm_gram"))
                return interval(*gated_series.norm_bounds(arith, norm, a, degree, form))
            h = expanded(arith, (a, 1.0))
            alone, flip = np.arange(h.core.size), np.ones(h.core.size, dtype=np.int64)
            if norm.kind == "empirical":
                return interval(*evaluate.root_mean_square(arith, h, norm.data))
            upper = grouped.upper(arith, norm, h, alone, flip)
            if norm.kind == "sup":
                return interval(witness_gap(a, None, _inside(evidence["norm_point"], norm, a)), upper)
            degree = whole(evidence["norm_degree"], "the degree", 2, HIGHEST_DEGREE)
            f = series.spectrum(arith, norm, h, degree)
            lower = series.linear_lower(series.degrees(arith, f, None))
            upper = min(upper, series.spectral_upper(arith, norm, f))
            if evidence.get("norm_gram"):
                low, high = series.gram(arith, norm, h, f, alone, flip)
                lower, upper = max(lower, low), min(upper, high)
            if evidence.get("norm_closed"):
                low, high = kinks.bounds(arith, norm, f)
                lower, upper = max(lower, low), min(upper, high)
        except Undefined:
            return 0.0, float("inf")
    return interval(lower, upper)


def _inside(entry: Any, norm: Norm, a: Raw) -> Array:
    """A point of the ball."""
    x = array(entry, (a.w.shape[1],), "a point")
    if not inside(x, norm.radius):
        raise Refused("a point lies outside the ball")
    return x


def witness_gap(a: Raw, b: Raw | None, x: Array) -> float:
    """A lower bound of ‖f_A(x) − f_B(x)‖ (of ‖f_A(x)‖ without b): in balls, in float64 for large networks."""
    signed = ((a, 1.0),) if b is None else ((a, 1.0), (b, -1.0))
    size = entries(a) + (entries(b) if b is not None else 0)
    arith = Arithmetic(WITNESS_BITS if size <= MOST_BALL_ENTRIES else 0)
    with arith.precision(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if a.gate is not None or (b is not None and b.gate is not None):
            low = gated.gap_at(arith, a, b, x)
        else:
            low = float(evaluate.norms_at(arith, expanded(arith, *signed), x[None])[0][0])
    return max(low * (1 - 2.0**-50) - TINY, 0.0) if np.isfinite(low) else 0.0


def check(document: Mapping[str, Any], networks: Mapping[str, Raw], data: Array | None) -> dict[str, Any]:
    """The facts proved; raises :class:`Refused` where the claim does not follow."""
    a, b, evidence = networks["a"], networks["b"], document["evidence"]
    if a.w.shape[1] != b.w.shape[1] or a.outer.shape[1] != b.outer.shape[1]:
        raise Refused("the networks are of different kinds")
    if document["config"]["rho"] != document["law"]["name"]:
        raise Refused("the law is not the one that the configuration names")
    norm = norm_of(document, a.w.shape[1], data)
    proved = prove(norm, a, b, evidence)
    lower, upper = proved.lower, proved.upper
    claimed_lower = number(document["bounds"]["lower"], "the lower bound")
    claimed_upper = document["bounds"]["upper"]
    claimed_upper = float("inf") if claimed_upper is None else number(claimed_upper, "the upper bound")
    if claimed_lower > claimed_upper:
        raise Refused("the claimed bounds are not an interval")
    if not upper <= claimed_upper:
        raise Refused(f"claimed upper bound {claimed_upper:.6g}, proved only {upper:.6g}")
    if not lower >= claimed_lower:
        raise Refused(f"claimed lower bound {claimed_lower:.6g}, proved only {lower:.6g}")
    eps, eps_distinct = number(document["eps"], "ε"), document["eps_distinct"]
    eps_distinct = float("inf") if eps_distinct is None else number(eps_distinct, "ε for distinct")
    if document.get("rel_eps") is not None:
        low, high = norm_bounds(norm, a, evidence)
        rel = number(document["rel_eps"], "relative ε", positive=True)
        if not (eps <= rel * low and eps_distinct >= rel * high):
            raise Refused(f"ε is not {rel:g} of ‖f_A‖, which lies in [{low:.6g}, {high:.6g}]")
    elif eps != eps_distinct or eps == 0:
        raise Refused("an absolute ε must be one positive number")
    if document["verdict"] != verdict_of(claimed_lower, claimed_upper, eps, eps_distinct):
        raise Refused(f"the verdict {document['verdict']!r} does not follow from the bounds")
    facts: dict[str, Any] = {"lower": lower, "upper": upper}
    if document.get("witness") is not None:
        facts["witness_gap"] = _witness(document["witness"], norm, a, b)
    degree = document.get("separation_degree")
    if degree is not None and degree not in proved.separations:
        raise Refused(f"a separation at degree {degree!r} is not proved")
    facts |= transport.check(document["orbit_distance"], a, b)
    matching.check(document["matching"], evidence["matching"], a, b)
    if document["crosscheck"]["kind"] != "estimate":
        raise Refused("the cross-check is an estimate")
    if document.get("alignment") is not None and document["alignment"]["checked"] is not False:
        raise Refused("the alignment is not checked, and must say so")
    return facts


def unchecked(document: Mapping[str, Any]) -> list[str]:
    """What a valid certificate states beside its claim, labelled there as not proved."""
    orbit, matched = document["orbit_distance"]["kind"], document["matching"]["kind"]
    named = {
        "the orbit distance": orbit == "estimate",
        "the matching": matched == "estimate",
        "the alignment": document.get("alignment") is not None,
    }
    return [name for name, open_ in named.items() if open_]


def _witness(entry: Mapping[str, Any], norm: Norm, a: Raw, b: Raw) -> float:
    x = np.asarray(entry["x"], dtype=float)
    if x.shape != (a.w.shape[1],) or not np.isfinite(x).all() or x.tolist() != list(entry["x"]):
        raise Refused("the witness is not a point of the input space")
    if norm.kind == "sup" and not inside(x, norm.radius):
        raise Refused("the witness lies outside the ball")
    claimed, proved = number(entry["gap"], "the witness's gap"), witness_gap(a, b, x)
    if not proved >= claimed:
        raise Refused(f"the witness has gap {proved:.6g}, claimed {claimed:.6g}")
    return proved
