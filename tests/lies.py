"""A prover that lies: plausible false certificates, well sealed, for pairs whose distance is known."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from pairs import RELATIVE, Pair
from sparsemf.certificates.checker.document import seal
from sparsemf.certificates.checker.raw import decode, encode

Document = dict[str, Any]
NOTICEABLE = 1e-25
"""Truths below this are the quadrature's own error."""


def false_claim(pair: Pair, honest: Document, rng: np.random.Generator) -> Document | None:
    """A sealed document with a false verdict, bound, gap or degree; None where nothing false comes to mind.

    The truth lies at ``pair.truth``; the lie misses it by a factor from 1 + 1e-5 to 1e3, and the evidence is the honest
    one, or one that looks as good.
    """
    doc = copy.deepcopy(honest)
    truth = pair.truth
    factor = 1 + 10.0 ** rng.uniform(-5, 3)
    kind = rng.integers(4)
    if kind == 0 and truth > NOTICEABLE:  # an upper bound below the truth
        upper = truth * (1 - RELATIVE) / factor
        lower = min(doc["bounds"]["lower"], 0.5 * upper)
        doc |= _threshold(upper * rng.uniform(1.0, 3.0), "equivalent")
        doc["bounds"] = {"lower": lower, "upper": upper}
    elif kind == 1:  # a lower bound above it
        lower = max(truth * (1 + RELATIVE), NOTICEABLE) * factor
        upper = doc["bounds"]["upper"]
        doc |= _threshold(lower / rng.uniform(1.001, 3.0), "distinct")
        doc["bounds"] = {"lower": lower, "upper": None if upper is None else max(upper, 2 * lower)}
    elif kind == 2 and doc["witness"] is not None:
        doc["witness"]["gap"] *= factor
    elif kind == 3 and doc["rel_eps"] is not None and pair.size > 0:  # thresholds that are not those of ‖f_A‖
        end = "eps" if rng.random() < 0.5 else "eps_distinct"
        own = doc["rel_eps"] * pair.size
        doc[end] = own * (1 + RELATIVE) * factor if end == "eps" else own * (1 - RELATIVE) / factor
    else:
        return None
    _embellish(doc, rng)
    doc.pop("seal")
    return {**doc, "seal": seal(doc)}


def _threshold(eps: float, verdict: str) -> Document:
    return {"rel_eps": None, "eps": eps, "eps_distinct": eps, "verdict": verdict}


def _embellish(doc: Document, rng: np.random.Generator) -> None:
    """Other groups, digits, degrees, directions: anything that may talk a checker into believing."""
    evidence = doc["evidence"]
    leader = decode(evidence["leader"]).astype(np.int64)
    n = leader.size
    kind = rng.integers(5)
    if kind == 1 and n:
        lead = np.full(n, 0) if rng.random() < 0.3 else rng.integers(0, n, n)
        evidence["leader"] = encode(lead.astype(np.int32))
    elif kind == 2 and n:
        evidence["sign"] = encode(rng.choice([-1, 1], n).astype(np.int8))
    elif kind == 3:
        evidence["bits"] = int(rng.choice([0, 64, 128, 256]))
        evidence["gram"] = bool(rng.random() < 0.8)
        evidence["closed"] = bool(rng.random() < 0.8)
        evidence["degree"] = int(rng.choice([2, 5, 30]))
    elif kind == 4:
        x = rng.standard_normal(doc["inputs"]["a"]["d"])
        evidence["direction"] = encode(x / np.linalg.norm(x))
