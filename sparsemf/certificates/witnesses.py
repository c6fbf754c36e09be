"""Certificates of sparsity: what the checker needs to confirm S*(ε) ∈ [lower, upper] for ε in an interval."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsemf.certificates.checker import check
from sparsemf.certificates.checker.raw import Raw, encode
from sparsemf.certificates.equivalence import best_grouping, encode_law, raw_of
from sparsemf.certificates.sparsity import SStar
from sparsemf.identifiability import Flattening
from sparsemf.measures import Empirical, InputLaw, Network, difference


def sparsity_claim(
    network: Network,
    law: InputLaw,
    found: SStar,
    dictionary: Network,
    flattenings: tuple[Flattening, ...],
) -> dict[str, Any]:
    """The ``claim``, ``law`` and ``evidence`` of a sparsity certificate, with the numbers that the checker proves.

    ``dictionary`` is the explicit network in input coordinates, ``flattenings`` what gave L(lower − 1).  The
    interval of ε is the part of the staircase's that the checker confirms; when it confirms none, the claim falls
    back to what it does: lower = 0, and ε from its own upper bound.
    """
    white = difference(network, dictionary)
    white = white if isinstance(law, Empirical) else law.whiten(white)
    grouping, upper = best_grouping(white, network.width, None)
    document: dict[str, Any] = {
        "law": encode_law(law),
        "claim": {"lower": found.lower, "upper": found.upper},
        "evidence": {
            "leader": encode(grouping.leader.astype(np.int32)),
            "sign": encode(grouping.sign.astype(np.int8)),
            "gram": bool(upper > found.eps[0]),
            "flattenings": [[f.p, f.low, f.high, f.outputs_in_rows] for f in flattenings],
            "dictionary": {
                "outer": encode(dictionary.alpha),
                "inner": encode(dictionary.inner),
                "bias": encode(dictionary.bias),
                "affine": encode(dictionary.affine),
                "offset": encode(dictionary.offset),
            },
        },
    }
    raw: Raw = raw_of(network)
    data = law.x if isinstance(law, Empirical) else None
    proved_upper = check.upper_bound(document, raw, data) * (1 + check.SLACK)
    low = max(proved_upper, found.eps[0])
    lower, high = found.lower, None
    if lower > 0:
        proved_lower = check.lower_bound(document, raw) * (1 - check.SLACK)
        if found.eps[0] == found.eps[1]:  # a bracket at one ε
            high = low
            if proved_lower <= low:
                lower = 0
        else:
            high = min(found.eps[1], proved_lower)
            if high <= low:
                lower = 0
    document["claim"] = {
        "certified": lower == found.upper,
        "lower": lower,
        "upper": found.upper,
        "eps": [low, high if lower > 0 else None],
        "counts": found.counts,
    }
    return document
