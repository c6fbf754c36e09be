"""Certify: two networks → verdict with its certificate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from sparsemf.atomic import header, input_record, plain
from sparsemf.certificates.checker.document import seal
from sparsemf.certificates.equivalence import Equivalence, certify_pair, encode_law, raw_of
from sparsemf.certificates.orbit import OrbitDistance
from sparsemf.exceptions import InputError
from sparsemf.measures import InputLaw, Network
from sparsemf.pipeline.laws import describe


def certify(
    a: Network,
    b: Network,
    law: InputLaw | None = None,
    norm: Literal["l2", "sup"] = "l2",
    radius: float | None = None,
    eps: float | None = None,
    rel_eps: float | None = None,
    seed: int = 0,
) -> Equivalence:
    """The verdict on ‖f_A − f_B‖ ≤ ε; see :func:`sparsemf.certificates.equivalence.certify_pair`."""
    if norm not in ("l2", "sup"):
        raise InputError(f"norm: expected 'l2' or 'sup', got {norm!r}")
    for name, value in (("eps", eps), ("rel_eps", rel_eps), ("radius", radius)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{name}: expected a positive number, got {value}")
    if eps is not None and rel_eps is not None:
        raise InputError("eps and rel_eps exclude each other")
    return certify_pair(a, b, law, norm, radius, eps, rel_eps, seed)


def document(
    found: Equivalence,
    a: Network,
    b: Network,
    rho: str = "gaussian",
    seed: int = 0,
    started: float | None = None,
    read_with: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The JSON document of `sparsemf certify`, which is the certificate, sealed.

    ``started`` is the ``time.perf_counter()`` of the start, ``read_with`` the options ``map`` and
    ``activation_option`` that the files were read with (verify reads them alike).
    """
    body = {
        **header("certify", 2, config={**describe(found.law, rho), "seed": seed}),
        "inputs": {
            name: {**input_record(network), "arrays_sha256": raw_of(network).sha256}
            for name, network in (("a", a), ("b", b))
        },
        "arithmetic": found.arithmetic,
        "verdict": found.verdict,
        "norm": found.norm,
        "radius": found.radius,
        "law": encode_law(found.law),
        "eps": found.eps,
        "eps_distinct": _finite(found.eps_distinct),
        "rel_eps": found.rel_eps,
        "bounds": {"lower": found.lower, "upper": _finite(found.upper)},
        "matching": {
            "kind": found.matching.kind,
            "matched": found.matching.matched,
            "unmatched_a": found.matching.unmatched_a,
            "unmatched_b": found.matching.unmatched_b,
            "max_distance": found.matching.max_distance,
        },
        "orbit_distance": _orbit(found.orbit_distance),
        "crosscheck": {"kind": "estimate", **asdict(found.crosscheck)},
        "witness": None if found.witness is None else {"x": found.witness.tolist(), "gap": found.gap},
        "separation_degree": found.separation_degree,
        "map": None,
        "activation_option": None,
        **(read_with or {}),
        "evidence": {**found.evidence, "matching": found.matching.evidence},
    }
    body = plain(body)
    total = 0.0 if started is None else time.perf_counter() - started
    return {**body, "seal": seal(body), "timing_s": {"total": total}}


def _orbit(found: OrbitDistance) -> dict[str, Any]:
    """The distance with its evidence: the merging of neurons, and the plan and potential that bound it."""
    evidence = found.evidence or {"merged": None, "plan": None}
    return {
        "kind": found.kind,
        "value": found.value,
        "lower": found.lower,
        "dual_gap": found.dual_gap,
        "exact": found.exact,
        "polynomial": found.polynomial,
        "rounding": found.rounding,
        "method": found.method,
        **evidence,
    }


def _finite(value: float) -> float | None:
    """Unbounded ends are null."""
    return value if value < float("inf") else None
