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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import balls, bounds
from sparsemf.certificates.checker.functions import function
from sparsemf.certificates.checker.raw import Raw, Unreadable, decode

Array = NDArray[np.float64]

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


def law_of(document: Mapping[str, Any]) -> tuple[Array | None, Array | None]:
    """(mean, root) of a Gaussian law, (None, None) for N(0, I)."""
    law = document["law"]
    if law.get("mean") is None:
        return None, None
    return np.asarray(decode(law["mean"]), float), np.asarray(decode(law["root"]), float)


def distance_bounds(
    document: Mapping[str, Any], a: Raw, b: Raw, data: Array | None, evidence: Mapping[str, Any]
) -> tuple[float, float]:
    """This program's (lower, upper) of ‖f_A − f_B‖ in the document's norm, from the evidence."""
    leader = np.asarray(decode(evidence["leader"]), dtype=np.int64)
    sign = np.asarray(decode(evidence["sign"]), dtype=np.int64)
    h = a.minus(b)
    if document["norm"] == "sup":
        radius = float(document["radius"])
        lower = 0.0
        if evidence.get("witness") is not None:
            x = np.asarray(decode(evidence["witness"]), float)
            if balls.point_norm_upper(x) > radius:
                raise _Refused("the witness lies outside the ball")
            lower = balls.gap(a, b, x)
        return lower, bounds.grouped_upper(h, leader, sign, radius)
    if document["law"]["name"] == "empirical":
        if data is None:
            raise _Refused("the data set of the empirical law is missing")
        return bounds.empirical_bounds(h, data)
    white = h.whitened(*law_of(document))
    upper, lower = bounds.grouped_upper(white, leader, sign), 0.0
    direction = None if evidence.get("direction") is None else np.asarray(decode(evidence["direction"]), float)
    if evidence.get("affine"):
        lower = bounds.affine_and_ridge_lower(white, direction)
    if evidence.get("gram"):
        low, high = bounds.gram_bounds(white)
        lower, upper = max(lower, low), min(upper, high)
    return lower, upper


def norm_bounds(
    document: Mapping[str, Any], a: Raw, data: Array | None, evidence: Mapping[str, Any]
) -> tuple[float, float]:
    """This program's (lower, upper) of ‖f_A‖ in the document's norm."""
    if document["norm"] == "sup":
        x = np.asarray(decode(evidence["norm_point"]), float)
        if balls.point_norm_upper(x) > float(document["radius"]):
            raise _Refused("the point that bounds ‖f_A‖ lies outside the ball")
        return balls.gap(a, None, x), bounds.interval_upper(a, float(document["radius"]))
    if document["law"]["name"] == "empirical":
        if data is None:
            raise _Refused("the data set of the empirical law is missing")
        return bounds.empirical_bounds(a, data)
    white = a.whitened(*law_of(document))
    low, high = bounds.gram_bounds(white)
    if np.isfinite(high):
        return low, high
    return bounds.affine_and_ridge_lower(white, None), bounds.mass(white)


def verdict_of(lower: float, upper: float, eps: float, eps_distinct: float) -> str:
    """The verdict that two-sided bounds imply."""
    if upper <= eps:
        return "equivalent"
    return "distinct" if lower > eps_distinct else "undecided"


def _equivalence(document: Mapping[str, Any], networks: Mapping[str, Raw], data: Array | None) -> dict[str, Any]:
    a, b, evidence = networks["a"], networks["b"], document["evidence"]
    lower, upper = distance_bounds(document, a, b, data, evidence)
    claimed = document["bounds"]
    if not 0 <= claimed["lower"] <= claimed["upper"]:
        raise _Refused("the claimed bounds are not an interval")
    if upper > claimed["upper"]:
        raise _Refused(f"claimed upper bound {claimed['upper']:.6g}, proved only {upper:.6g}")
    if lower < claimed["lower"]:
        raise _Refused(f"claimed lower bound {claimed['lower']:.6g}, proved only {lower:.6g}")
    eps, eps_distinct = float(document["eps"]), float(document["eps_distinct"])
    if document.get("rel_eps") is not None:
        low, high = norm_bounds(document, a, data, evidence)
        rel = float(document["rel_eps"])
        if eps > rel * low or eps_distinct < rel * high:
            raise _Refused(f"ε is not {rel:g} of ‖f_A‖, which lies in [{low:.6g}, {high:.6g}]")
    elif eps != eps_distinct:
        raise _Refused("an absolute ε must be one number")
    if document["verdict"] != verdict_of(claimed["lower"], claimed["upper"], eps, eps_distinct):
        raise _Refused(f"the verdict {document['verdict']!r} does not follow from the bounds")
    facts: dict[str, Any] = {"lower": lower, "upper": upper}
    if document.get("witness") is not None:
        x = np.asarray(document["witness"]["x"], dtype=float)
        proved = balls.gap(a, b, x)
        if proved < float(document["witness"]["gap"]):
            raise _Refused(f"the witness has gap {proved:.6g}, claimed {document['witness']['gap']:.6g}")
        facts["witness_gap"] = proved
    return facts


def upper_bound(document: Mapping[str, Any], a: Raw, data: Array | None) -> float:
    """This program's bound of the distance from f_A to the document's dictionary, in L²(ρ)."""
    entry = document["evidence"]["dictionary"]
    arrays = {name: decode(entry[name]) for name in ("outer", "inner", "bias", "affine", "offset")}
    g = Raw.of(arrays, a.activation, 1.0)
    if int(np.count_nonzero(g.alpha.any(axis=1))) > int(document["claim"]["upper"]):
        raise _Refused("the dictionary has more atoms than claimed")
    h = a.minus(g)
    if document["law"]["name"] == "empirical":
        if data is None:
            raise _Refused("the data set of the empirical law is missing")
        return bounds.empirical_bounds(h, data)[1]
    white = h.whitened(*law_of(document))
    evidence = document["evidence"]
    leader = np.asarray(decode(evidence["leader"]), dtype=np.int64)
    sign = np.asarray(decode(evidence["sign"]), dtype=np.int64)
    found = bounds.grouped_upper(white, leader, sign)
    return min(found, bounds.gram_bounds(white)[1]) if evidence.get("gram") else found


def lower_bound(document: Mapping[str, Any], a: Raw) -> float:
    """This program's lower bound of the distance from f_A to networks of claim.lower − 1 atoms."""
    if document["law"]["name"] == "empirical":
        return 0.0
    groups = [(int(p), int(low), int(high), bool(rows)) for p, low, high, rows in document["evidence"]["flattenings"]]
    if not groups:
        return 0.0
    return bounds.flattening_tail(a.whitened(*law_of(document)), int(document["claim"]["lower"]) - 1, groups)


def _sparsity(document: Mapping[str, Any], networks: Mapping[str, Raw], data: Array | None) -> dict[str, Any]:
    a, claim = networks["a"], document["claim"]
    low, high = claim["eps"]
    facts: dict[str, Any] = {}
    if not 0 <= claim["lower"] <= claim["upper"] or low is None or low < 0:
        raise _Refused("the claimed range is not an interval")
    proved_upper = upper_bound(document, a, data)
    facts["upper"] = proved_upper
    if proved_upper > low:
        raise _Refused(f"the dictionary is within {proved_upper:.6g}, claimed {low:.6g}")
    if claim["lower"] > 0:
        proved_lower = lower_bound(document, a)
        facts["lower"] = proved_lower
        end = float("inf") if high is None else float(high)
        if proved_lower < end or (end == low and proved_lower <= low):
            raise _Refused(f"fewer atoms are excluded only below {proved_lower:.6g}, claimed {end:.6g}")
    if bool(claim["certified"]) != (claim["lower"] == claim["upper"]):
        raise _Refused("certified must mean that both ends meet")
    return facts
