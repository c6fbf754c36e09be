"""Certificates of sparsity: what the checker needs to confirm S*(ε) ∈ [lower, upper] for ε in an interval, or at 0."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import equivalence, exact, gated, grouped, kinks, sparsity
from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.document import SLACK, Refused
from sparsemf.certificates.checker.expansion import expanded, terms_of
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import Raw, encode
from sparsemf.certificates.degrees import ladder
from sparsemf.certificates.equivalence import encode_law, norm_for, raw_of
from sparsemf.certificates.exact import ExactCount
from sparsemf.certificates.groups import Grouping, candidates
from sparsemf.certificates.sparsity import SStar
from sparsemf.exceptions import InconsistentBounds, InputError
from sparsemf.identifiability import Flattening, KinkMatrix
from sparsemf.measures import Empirical, InputLaw, Network

Array = NDArray[np.float64]

_DEGREE = 24
_NEAR, _BETTER = 1e-3, 0.99
"""A bound this close to the staircase's is good enough; one that is better by less is not worth its price."""


_MATRIX_ROUNDING = 2.0**-40
"""Of the mass: far more than another machine's products and decompositions of a kink matrix round, over C."""
_VALUES_ROUNDING = 2.0**-44
"""Of the squared mass: the same for the tails of values on data rows, whose matrices may have thousands of columns."""


def sparsity_claim(
    network: Network,
    law: InputLaw,
    found: SStar,
    dictionary: Network,
    partitions: Sequence[tuple[Flattening, ...]],
    kinks: Sequence[KinkMatrix] = (),
    charged: int | None = None,
) -> dict[str, Any]:
    """The ``claim``, ``law`` and ``evidence`` of a sparsity certificate, with the numbers that the checker proves.

    ``dictionary`` is the explicit network in input coordinates, ``partitions`` the flattenings and ``kinks`` the kink
    matrices that gave the lower curve, all of which the claim repeats as the checker proves it.  The interval of ε is
    the part of the staircase's that the checker confirms; when it confirms none, the claim falls back to what it does:
    a smaller lower end, and ε from its own upper bound.  ``charged``: −1 or 0 where polynomials beyond that degree are
    charged to the atoms; the claim then says so, and ``dictionary`` has none.
    """
    raw = raw_of(network)
    free = sparsity.free_degree(raw) if charged is None else charged
    grouping, apart = _grouping(raw, raw_of(dictionary), norm_for(law, None), found.eps[0])
    document: dict[str, Any] = {
        "law": encode_law(law),
        "claim": {"lower": found.lower, "upper": found.upper},
        "evidence": {
            "leader": encode(grouping.leader.astype(np.int32)),
            "sign": encode(grouping.flip.astype(np.int8)),
            "bits": 0,
            "degree": _DEGREE,
            "direction": None,
            "gram": False,
            "partitions": [
                [[f.p, f.low, f.high, f.outputs_in_rows] for f in groups]
                for groups in dict.fromkeys(partitions)
                if groups
            ],
            **({"kinks": [matrix.document() for matrix in kinks]} if kinks else {}),
            "dictionary": _dictionary(dictionary, free),
        },
    }
    data = law.x if isinstance(law, Empirical) else None
    rows = None if data is None else hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()
    probe = {**document, "config": {"rows_sha256": rows}}
    with np.errstate(over="ignore", invalid="ignore"):
        mass = _mass(norm_for(law, None), raw, raw_of(dictionary))
    # apart, since the tails of flattenings and of values are differences of squares and those of kink matrices are not
    curve, by_kinks = (
        sparsity.lower_bounds({**probe, "evidence": {**document["evidence"], other: []}}, raw, free, data)
        if kinks or other == "kinks"
        else np.zeros(1)
        for other in ("kinks", "partitions")
    )
    bound = np.inf
    for forms in _forms(raw, raw_of(dictionary), norm_for(law, None)) if apart > found.eps[0] else ({},):
        used = {**document["evidence"], **forms}
        proved = sparsity.upper_bound({**probe, "evidence": used}, raw, data, free)
        better = proved < _BETTER * bound
        if better:
            bound, document["evidence"] = proved, used
        if bound <= found.eps[0] * (1 + _NEAR) or not (better or used["degree"] == _DEGREE):
            break
    evidence = document["evidence"]
    proved_upper, curve = published(bound, curve, mass, evidence["gram"] or evidence.get("closed", False))
    if data is not None:
        curve[1:] = np.sqrt(np.maximum(curve[1:] ** 2 - _VALUES_ROUNDING * mass**2, 0.0))
    by_kinks = np.maximum(by_kinks - _MATRIX_ROUNDING * mass, 0.0) * (1 - SLACK)
    longest = max(curve.size, by_kinks.size)
    curve = np.maximum(*(np.append(x, np.zeros(longest - x.size)) for x in (curve, by_kinks)))
    low = max(proved_upper, found.eps[0])
    if not np.isfinite(low + mass):
        raise InputError(
            f"certificate: expected a dictionary whose error `verify` can bound, got one of {network.activation.name} "
            "for which it finds no bound"
        )
    lower, high = found.lower, None
    bracket = found.eps[0] == found.eps[1]  # at one ε
    while lower > 0:
        proved = sparsity.at(curve, lower - 1)
        high = low if bracket else min(found.eps[1], proved)
        if proved > low and (bracket or high > low):
            break
        lower -= 1  # fewer atoms may still be excluded
    document["claim"] = {
        "certified": lower == found.upper,
        "lower": lower,
        "upper": found.upper,
        "eps": [low, high if lower > 0 else None],
        "counts": found.counts,
        "lower_curve": encode(curve),
        **({} if charged is None else {"free": charged}),
    }
    return document


def exact_claim(network: Network, law: InputLaw, found: ExactCount) -> dict[str, Any]:
    """The ``claim`` and ``law`` of a certificate of S* at ε = 0: what both the count and the checker prove.

    Raises :class:`InputError` where the checker knows no theorem, and :class:`InconsistentBounds` where the two
    contradict one another.
    """
    raw = raw_of(network)
    try:
        low, high, counts = exact.count(raw)
    except Refused as refusal:
        raise InputError(f"certificate: expected a network whose exact count `verify` can check; {refusal}") from None
    document: dict[str, Any] = {"law": encode_law(law), "evidence": {}}
    if isinstance(law, Empirical) or not exact.full_support(document, network.d):
        low = 0
    if low > found.upper or high < found.lower or counts != found.counts:
        raise InconsistentBounds(
            f"S* at ε = 0: counted [{found.lower}, {found.upper}] {found.counts}, the checker [{low}, {high}] {counts}"
        )
    lower, upper = min(low, found.lower), max(high, found.upper)
    document["claim"] = {
        "certified": lower == upper,
        "lower": lower,
        "upper": upper,
        "eps": [0.0, 0.0],
        "counts": counts,
    }
    return document


def _dictionary(network: Network, free: int) -> dict[str, Any]:
    """The arrays of a dictionary, α itself as outer; of a gated one with its gates; with its quadratic part (or null)
    where quadratic polynomials are free."""
    found = {"outer": network.alpha, **{name: getattr(network, name) for name in ("inner", "bias", "affine", "offset")}}
    if network.gated:
        found |= {name: getattr(network, name) for name in ("gate", "gate_bias")}
    if free == 2:
        found["quadratic"] = network.quadratic
    return {name: None if array is None else encode(array) for name, array in found.items()}


def published(upper: float, curve: Array, mass: float, gram: bool) -> tuple[float, Array]:
    """An upper bound and a lower curve that another machine proves too.

    There, matrix products round otherwise: linear sums by some units in the last place of the mass, and quadratic
    forms (the curve's squares; the upper bound's, where it is a Gram form's, which is never below √(64u)·mass) by some
    units of its square.
    """
    linear, square = 2.0**-51 * mass, 2.0**-50 * mass * mass
    if gram:
        linear = max(linear, min(square / upper, upper / 16))
    return upper * (1 + SLACK) + linear, np.sqrt(np.maximum(curve**2 - square, 0.0)) * (1 - SLACK)


def _mass(norm: Norm, *networks: Raw) -> float:
    """Σ‖α_i‖ times ‖u_i‖ + 1, or the bound of ‖φ_i‖ where σ′ is unbounded and that is more (gated: times 2‖ℓ_i‖), and
    the polynomial parts of all networks."""
    arith, own = Arithmetic(0), 0.0
    for f in networks:
        if f.gate is None:
            h = expanded(arith, (f, 1.0))
            linear = norm.sizes(arith, h.w, h.b)
            size = linear + 1
            for core, rows in h.cores():
                if not np.isfinite(core.lipschitz):
                    size[rows] = np.maximum(size[rows], grouped.magnitude(norm, core, linear[rows]))
        else:
            g = gated.expand(arith, (f, 1.0))
            h = g.gates
            size = (norm.sizes(arith, h.w, h.b) + 1) * norm.sizes(arith, g.v, g.e) * 2
        own += float(np.linalg.norm(h.alpha, axis=1) @ size) + norm.affine(arith, f.affine, f.offset)
        if f.quadratic is not None:
            own += 2 * norm.reach(f.w.shape[1]) ** 2 * float(np.sqrt(f.w.shape[1]) * np.linalg.norm(f.quadratic))
    return own


def _forms(raw: Raw, dictionary: Raw, norm: Norm) -> Iterator[dict[str, Any]]:
    """Evidence for a distance that groups leave open, in the order of its price: the closed form, the series' Gram
    form of more and more degrees; where none can be afforded, the series alone."""
    if norm.kind != "gaussian":
        yield {}
        return
    float64 = Arithmetic(0)
    found: list[dict[str, Any]] = []
    if raw.gate is None:
        h = expanded(float64, (raw, 1.0), (dictionary, -1.0))
        found += [{"closed": True}] if kinks.affordable(norm, h) else []
    else:
        h = equivalence.gates(float64, raw, dictionary)
    found += [{"gram": True, "degree": degree} for degree in ladder(h, _DEGREE, raw.gate is not None)]
    yield from found or [{}]


def _grouping(raw: Raw, dictionary: Raw, norm: Norm, enough: float) -> tuple[Grouping, float]:
    """The grouping with the smallest bound, and that bound; the search ends at ``enough``."""
    arith = Arithmetic(0)
    is_gated = raw.gate is not None
    h = equivalence.gates(arith, raw, dictionary) if is_gated else expanded(arith, (raw, 1.0), (dictionary, -1.0))
    best, least = None, np.inf
    for grouping in candidates(h, raw.b.size * terms_of(raw.activation), norm):
        try:
            if is_gated:
                bound = equivalence.gated_upper(arith, norm, raw, dictionary, grouping.leader, grouping.flip)
            else:
                bound = grouped.upper(arith, norm, h, grouping.leader, grouping.flip)
        except Undefined:
            bound = np.inf
        if best is None or bound < least:
            best, least = grouping, bound
        if least <= enough:
            break
    if best is None:
        raise RuntimeError("no grouping was tried")
    return best, float(least)
