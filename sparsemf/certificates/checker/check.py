"""Does a certificate's claim follow from the two networks?  Everything is recomputed from raw arrays.

``check(document, networks, data)`` knows two kinds of claims:

- **equivalence**: lower ≤ ‖f_A − f_B‖ ≤ upper, the verdict that follows, and the witness;
- **sparsity**: S*(ε) ∈ [lower, upper] for every ε in the stated interval.

A claim is valid when this program's own bounds imply it.  Trusted base: this package, numpy (LAPACK's symmetric
eigenvalue solver included), python-flint, libm; the float64 margins stated in :mod:`.bounds`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import balls, bounds
from sparsemf.certificates.checker.functions import function
from sparsemf.certificates.checker.raw import Raw, Unreadable, decode

Array = NDArray[np.float64]

Verdict = Literal["equivalent", "distinct", "undecided"]
SCHEMAS = ("sparsemf/certify/1", "sparsemf/sparsity/1")
SLACK = 1e-9
"""Published numbers are widened by this relative slack, so that another machine's rounding cannot refute them."""


@dataclass(frozen=True)
class Check:
    """``valid`` with the reason, and the numbers this program proved."""

    valid: bool
    reason: str
    facts: dict[str, Any] = field(default_factory=dict)


class _Refused(Exception):
    pass


LAWS = ("gaussian", "layernorm", "gaussian(mean, covariance)", "empirical")
TINY = 1e-90
"""Squares below this underflow; it is added to every upper bound and taken off every lower one."""


def _number(value: Any, what: str, positive: bool = False) -> float:
    """A finite real number ≥ 0 (> 0)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise _Refused(f"{what} is not a finite number")
    if value < 0 or (positive and value == 0):
        raise _Refused(f"{what} is out of range")
    return float(value)


def _interval(lower: float, upper: float) -> tuple[float, float]:
    """What is proved by (lower, upper) as computed: NaN proves nothing, and squares may have underflowed."""
    low = lower - TINY if lower > TINY and np.isfinite(lower) else 0.0
    return low, upper + TINY if upper >= 0 else float("inf")


def _array(entry: Any, shape: tuple[int, ...], what: str) -> Array:
    array = np.asarray(decode(entry), dtype=np.float64)
    if array.shape != shape:
        raise _Refused(f"{what} has shape {array.shape}, expected {shape}")
    return array


def seal(document: Mapping[str, Any]) -> str:
    """SHA-256 of the document without its ``seal`` and ``timing_s``, keys sorted: a changed byte shows."""
    body = {key: value for key, value in document.items() if key not in ("seal", "timing_s")}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check(document: Mapping[str, Any], networks: Mapping[str, Raw], data: Array | None = None) -> Check:
    """Check a certificate against its input networks (``"a"`` and ``"b"``, or ``"a"`` alone) and data rows."""
    try:
        schema = document.get("schema")
        if schema not in SCHEMAS:
            raise _Refused(f"unknown schema {schema!r}")
        if document.get("seal") != seal(document):
            raise _Refused("the document was changed after it was sealed")
        for name, raw in networks.items():
            if document["inputs"][name]["arrays_sha256"] != raw.sha256:
                raise _Refused(f"network {name} is not the one that was certified")
            function(raw.activation)
        facts = _equivalence(document, networks, data) if schema == SCHEMAS[0] else _sparsity(document, networks, data)
    except _Refused as refusal:
        return Check(False, str(refusal))
    except (KeyError, TypeError, ValueError, IndexError, Unreadable) as error:
        return Check(False, f"malformed certificate: {type(error).__name__} {error}")
    return Check(True, "the claim follows from the networks", facts)


def law_of(document: Mapping[str, Any], d: int) -> tuple[Array | None, Array | None]:
    """(mean, root) of a Gaussian law on R^d; (None, None) for N(0, I), which alone is named ``gaussian``."""
    law = document["law"]
    if law["name"] not in LAWS or law["name"] == "empirical":
        raise _Refused(f"unknown law {law['name']!r}")
    if law["name"] == "gaussian":
        if law.get("mean") is not None or law.get("root") is not None:
            raise _Refused("the law named gaussian is N(0, I)")
        return None, None
    root = np.asarray(decode(law["root"]), dtype=np.float64)
    if root.ndim != 2 or root.shape[0] != d:
        raise _Refused("the law does not fit the networks")
    return _array(law["mean"], (d,), "the law's mean"), root


def _data_of(document: Mapping[str, Any], data: Array | None) -> Array | None:
    """The rows of an empirical law, None for a Gaussian one."""
    if document["law"]["name"] != "empirical":
        return None
    if data is None:
        raise _Refused("the data set of the empirical law is missing")
    return data


def distance_bounds(
    document: Mapping[str, Any], a: Raw, b: Raw, data: Array | None, evidence: Mapping[str, Any]
) -> tuple[float, float]:
    """This program's (lower, upper) of ‖f_A − f_B‖ in the document's norm, from the evidence."""
    leader = np.asarray(decode(evidence["leader"]), dtype=np.int64)
    sign = np.asarray(decode(evidence["sign"]), dtype=np.int64)
    h = a.minus(b)
    if document["norm"] == "sup":
        radius = _number(document["radius"], "the radius", positive=True)
        lower = 0.0
        if evidence.get("witness") is not None:
            lower = balls.gap(a, b, _inside(evidence["witness"], a, radius))
        return _interval(lower, bounds.grouped_upper(h, leader, sign, radius))
    if document["norm"] != "l2":
        raise _Refused(f"unknown norm {document['norm']!r}")
    rows = _data_of(document, data)
    if rows is not None:
        return _interval(*bounds.empirical_bounds(h, rows))
    law = law_of(document, a.w.shape[1])
    white, slack = h.whitened(*law), bounds.whitening_error(h, *law)
    upper, lower = bounds.grouped_upper(white, leader, sign), 0.0
    if evidence.get("affine"):
        lower = bounds.affine_and_ridge_lower(white, _direction(evidence))
    if evidence.get("gram"):
        low, high = bounds.gram_bounds(white)
        lower, upper = max(lower, low), min(upper, high)
    return _interval(lower - slack, upper + slack)


def _direction(evidence: Mapping[str, Any]) -> Array | None:
    entry = evidence.get("direction")
    return None if entry is None else np.asarray(decode(entry), dtype=np.float64)


def _inside(entry: Any, a: Raw, radius: float) -> Array:
    """A point of the ball."""
    x = _array(entry, (a.w.shape[1],), "a point")
    if not balls.point_norm_upper(x) <= radius:
        raise _Refused("a point lies outside the ball")
    return x


def norm_bounds(
    document: Mapping[str, Any], a: Raw, data: Array | None, evidence: Mapping[str, Any]
) -> tuple[float, float]:
    """This program's (lower, upper) of ‖f_A‖ in the document's norm."""
    if document["norm"] == "sup":
        radius = _number(document["radius"], "the radius", positive=True)
        return _interval(
            balls.gap(a, None, _inside(evidence["norm_point"], a, radius)), bounds.interval_upper(a, radius)
        )
    rows = _data_of(document, data)
    if rows is not None:
        return _interval(*bounds.empirical_bounds(a, rows))
    law = law_of(document, a.w.shape[1])
    white, slack = a.whitened(*law), bounds.whitening_error(a, *law)
    low, high = bounds.gram_bounds(white)
    if not np.isfinite(high):
        low, high = bounds.affine_and_ridge_lower(white, None), bounds.interval_upper(white, 1.0)
    return _interval(low - slack, high + slack)


def verdict_of(lower: float, upper: float, eps: float, eps_distinct: float) -> Verdict:
    """The verdict that two-sided bounds imply."""
    if upper <= eps:
        return "equivalent"
    return "distinct" if lower > eps_distinct else "undecided"


def separations(document: Mapping[str, Any], a: Raw, b: Raw, evidence: Mapping[str, Any], degree: int) -> list[int]:
    """The degrees ≤ ``degree`` at which T_k(A) ≠ T_k(B) is proved, from T₀, T₁ and the evidence's direction."""
    if document["norm"] != "l2" or document["law"]["name"] == "empirical":
        return []
    law = law_of(document, a.w.shape[1])
    h = a.minus(b)
    sizes, slack = bounds.degree_sizes(h.whitened(*law), _direction(evidence), degree)
    slack += bounds.whitening_error(h, *law) + TINY
    return [k for k, size in enumerate(sizes) if size > slack]


SEPARATION_DEGREE = 24
"""Degrees up to which a separation is looked for."""


def _equivalence(document: Mapping[str, Any], networks: Mapping[str, Raw], data: Array | None) -> dict[str, Any]:
    a, b, evidence = networks["a"], networks["b"], document["evidence"]
    if a.activation != b.activation or a.w.shape[1] != b.w.shape[1] or a.alpha.shape[1] != b.alpha.shape[1]:
        raise _Refused("the networks are of different kinds")
    if document["config"]["rho"] != document["law"]["name"]:
        raise _Refused("the law is not the one that the configuration names")
    lower, upper = distance_bounds(document, a, b, data, evidence)
    claimed_lower = _number(document["bounds"]["lower"], "the lower bound")
    claimed_upper = _number(document["bounds"]["upper"], "the upper bound")
    if claimed_lower > claimed_upper:
        raise _Refused("the claimed bounds are not an interval")
    if not upper <= claimed_upper:
        raise _Refused(f"claimed upper bound {claimed_upper:.6g}, proved only {upper:.6g}")
    if not lower >= claimed_lower:
        raise _Refused(f"claimed lower bound {claimed_lower:.6g}, proved only {lower:.6g}")
    eps, eps_distinct = _number(document["eps"], "ε"), _number(document["eps_distinct"], "ε for distinct")
    if document.get("rel_eps") is not None:
        low, high = norm_bounds(document, a, data, evidence)
        rel = _number(document["rel_eps"], "relative ε", positive=True)
        if not (eps <= rel * low and eps_distinct >= rel * high):
            raise _Refused(f"ε is not {rel:g} of ‖f_A‖, which lies in [{low:.6g}, {high:.6g}]")
    elif eps != eps_distinct or eps == 0:
        raise _Refused("an absolute ε must be one positive number")
    if document["verdict"] != verdict_of(claimed_lower, claimed_upper, eps, eps_distinct):
        raise _Refused(f"the verdict {document['verdict']!r} does not follow from the bounds")
    facts: dict[str, Any] = {"lower": lower, "upper": upper}
    if document.get("witness") is not None:
        x = np.asarray(document["witness"]["x"], dtype=float)
        if x.shape != (a.w.shape[1],) or not np.isfinite(x).all():
            raise _Refused("the witness is not a point of the input space")
        if document["norm"] == "sup" and not balls.point_norm_upper(x) <= float(document["radius"]):
            raise _Refused("the witness lies outside the ball")
        gap = _number(document["witness"]["gap"], "the witness's gap")
        facts["witness_gap"] = balls.gap(a, b, x)
        if not facts["witness_gap"] >= gap:
            raise _Refused(f"the witness has gap {facts['witness_gap']:.6g}, claimed {gap:.6g}")
    degree = document.get("separation_degree")
    if degree is not None and degree not in separations(document, a, b, evidence, SEPARATION_DEGREE):
        raise _Refused(f"a separation at degree {degree!r} is not proved")
    return facts


def upper_bound(document: Mapping[str, Any], a: Raw, data: Array | None) -> float:
    """This program's bound of the distance from f_A to the document's dictionary, in L²(ρ)."""
    entry = document["evidence"]["dictionary"]
    arrays = {name: decode(entry[name]) for name in ("outer", "inner", "bias", "affine", "offset")}
    g = Raw.of(arrays, a.activation, 1.0)
    if g.w.shape[1] != a.w.shape[1] or g.alpha.shape[1] != a.alpha.shape[1]:
        raise _Refused("the dictionary is of another kind")
    if int(np.count_nonzero(g.alpha.any(axis=1))) > document["claim"]["upper"]:
        raise _Refused("the dictionary has more atoms than claimed")
    h, evidence = a.minus(g), document["evidence"]
    rows = _data_of(document, data)
    if rows is not None:
        return _interval(0.0, bounds.empirical_bounds(h, rows)[1])[1]
    law = law_of(document, a.w.shape[1])
    white = h.whitened(*law)
    leader = np.asarray(decode(evidence["leader"]), dtype=np.int64)
    sign = np.asarray(decode(evidence["sign"]), dtype=np.int64)
    found = bounds.grouped_upper(white, leader, sign)
    found = min(found, bounds.gram_bounds(white)[1]) if evidence.get("gram") else found
    return _interval(0.0, found + bounds.whitening_error(h, *law))[1]


def lower_bound(document: Mapping[str, Any], a: Raw) -> float:
    """This program's lower bound of the distance from f_A to networks of claim.lower − 1 atoms."""
    if document["law"]["name"] == "empirical":
        return 0.0
    groups = [(int(p), int(low), int(high), bool(rows)) for p, low, high, rows in document["evidence"]["flattenings"]]
    if not groups:
        return 0.0
    law = law_of(document, a.w.shape[1])
    found = bounds.flattening_tail(a.whitened(*law), int(document["claim"]["lower"]) - 1, groups)
    return _interval(found - bounds.whitening_error(a, *law), 0.0)[0]


def _sparsity(document: Mapping[str, Any], networks: Mapping[str, Raw], data: Array | None) -> dict[str, Any]:
    a, claim = networks["a"], document["claim"]
    if document["config"]["rho"] != document["law"]["name"] or document["law"]["name"] not in LAWS:
        raise _Refused("the law is not the one that the configuration names")
    if any(type(claim[end]) is not int for end in ("lower", "upper")) or not 0 <= claim["lower"] <= claim["upper"]:
        raise _Refused("the claimed range is not one of whole numbers")
    if claim["counts"] != "atoms":
        raise _Refused("only atoms are counted here")
    low = _number(claim["eps"][0], "the interval's lower end")
    high = float("inf") if claim["eps"][1] is None else _number(claim["eps"][1], "the interval's upper end")
    if low > high:
        raise _Refused("the interval of ε is reversed")
    facts: dict[str, Any] = {"upper": upper_bound(document, a, data)}
    if not facts["upper"] <= low:
        raise _Refused(f"the dictionary is within {facts['upper']:.6g}, claimed {low:.6g}")
    if claim["lower"] > 0:
        facts["lower"] = lower_bound(document, a)
        if not (facts["lower"] >= high and facts["lower"] > low):
            raise _Refused(f"fewer atoms are excluded only below {facts['lower']:.6g}, claimed {high:.6g}")
    if claim["certified"] is not (claim["lower"] == claim["upper"]):
        raise _Refused("certified must mean that both ends meet")
    return facts
