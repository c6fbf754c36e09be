"""What every certificate has in common: its seal, its numbers, its arrays, its law."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import decode

Array = NDArray[np.float64]

SLACK = 1e-9
"""Published numbers are widened by this relative slack, so that another machine's rounding cannot refute them."""
TINY = 1e-90
"""Squares below this underflow; it is added to every upper bound and taken off every lower one."""
LAWS = ("gaussian", "layernorm", "gaussian(mean, covariance)", "empirical")


@dataclass(frozen=True)
class Check:
    """``valid`` with the reason, and the numbers this program proved."""

    valid: bool
    reason: str
    facts: dict[str, Any] = field(default_factory=dict)


class Refused(Exception):
    """The claim does not follow; the message says which part."""


def seal(document: Mapping[str, Any]) -> str:
    """SHA-256 of the document without its ``seal`` and ``timing_s``, keys sorted: a changed byte shows."""
    body = {key: value for key, value in document.items() if key not in ("seal", "timing_s")}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def wrapper_seal(wrapper: Mapping[str, Any]) -> str:
    """The seal of a document of several certificates: of their seals in their order, and of all else it says."""
    seals = [result.get("seal") for result in wrapper["results"]]
    return seal({**wrapper, "results": seals})


def check_wrapper(wrapper: Any) -> Check:
    """Whether a document of several certificates is whole: none was changed, left out, added or moved, nor what is said
    about blocks that failed or have no partner.  Its certificates, of one kind and in its version or an older one, are
    checked one by one besides."""
    if not isinstance(wrapper, Mapping) or not isinstance(wrapper.get("results"), list):
        return Check(False, "not a document of several certificates")
    results = wrapper["results"]
    if not results or not all(isinstance(r, Mapping) and isinstance(r.get("seal"), str) for r in results):
        return Check(False, "a certificate of several without its seal")
    schemas = [str(r.get("schema")) for r in results]
    if len({name.rpartition("/")[0] for name in schemas}) != 1 or wrapper.get("schema") != max(schemas):
        return Check(False, "certificates of another kind than the document that holds them")
    if wrapper.get("seal") != wrapper_seal(wrapper):
        return Check(False, "the list of certificates was changed after it was sealed")
    return Check(True, f"all of {len(results)} certificates, in their order")


def number(value: Any, what: str, positive: bool = False) -> float:
    """A finite real number ≥ 0 (> 0).  A whole number that no float holds would be checked as another one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or float(value) != value:
        raise Refused(f"{what} is not a finite number")
    if value < 0 or (positive and value == 0):
        raise Refused(f"{what} is out of range")
    return float(value)


def whole(value: Any, what: str, low: int, high: int) -> int:
    """A whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Refused(f"{what} is not a whole number from {low} to {high}")
    return value


def interval(lower: float, upper: float) -> tuple[float, float]:
    """What is proved by (lower, upper) as computed: NaN proves nothing, and squares may have underflowed."""
    low = lower - TINY if lower > TINY and np.isfinite(lower) else 0.0
    return low, upper + TINY if upper >= 0 else float("inf")


def inside(x: Array, radius: float) -> bool:
    """‖x‖ ≤ radius, in exact arithmetic: squares of tiny numbers underflow."""
    return sum((Fraction(v) ** 2 for v in x.tolist()), Fraction(0)) <= Fraction(radius) ** 2


def array(entry: Any, shape: tuple[int, ...], what: str) -> Array:
    """A float array of that shape."""
    found = np.asarray(decode(entry), dtype=np.float64)
    if found.shape != shape:
        raise Refused(f"{what} has shape {found.shape}, expected {shape}")
    return found


def integers(entry: Any, what: str) -> NDArray[np.int64]:
    """A list of whole numbers."""
    found = decode(entry)
    if found.dtype.kind != "i" or found.ndim != 1:
        raise Refused(f"{what} is not a list of whole numbers")
    return found.astype(np.int64)


def as_rows(data: Any) -> Array:
    """Data as a plain array of float64: what is certified are these numbers, and differences of whole numbers of few
    bits would wrap around."""
    found = np.asarray(data)
    if found.dtype.kind not in "fiu":
        raise Refused("the data are not an array of real numbers")
    return np.asarray(found, dtype=np.float64)


def norm_of(document: Mapping[str, Any], d: int, data: Array | None) -> Norm:
    """The norm on functions of R^d that the document speaks of; ``gaussian`` alone names N(0, I)."""
    kind = document.get("norm", "l2")
    if kind == "sup":
        return Norm("sup", radius=number(document["radius"], "the radius", positive=True))
    if kind != "l2":
        raise Refused(f"unknown norm {kind!r}")
    law = document["law"]
    if law["name"] not in LAWS:
        raise Refused(f"unknown law {law['name']!r}")
    if law["name"] == "empirical":
        if data is None:
            raise Refused("the data set of the empirical law is missing")
        data = as_rows(data)
        if data.ndim != 2 or data.shape[0] < 1 or data.shape[1] != d or not np.isfinite(data).all():
            raise Refused("the data do not fit the networks")
        rows = hashlib.sha256(np.ascontiguousarray(data, dtype="<f8").tobytes()).hexdigest()
        if document["config"]["rows_sha256"] != rows:
            raise Refused("the data are not the rows that were certified")
        return Norm("empirical", rows=data)
    if law["name"] == "gaussian":
        if law.get("mean") is not None or law.get("root") is not None:
            raise Refused("the law named gaussian is N(0, I)")
        return Norm("gaussian")
    root = np.asarray(decode(law["root"]), dtype=np.float64)
    root = np.diag(root) if root.ndim == 1 else root  # a diagonal root is written as its diagonal
    if root.ndim != 2 or root.shape[0] != d:
        raise Refused("the law does not fit the networks")
    return Norm("gaussian", mean=array(law["mean"], (d,), "the law's mean"), root=root)
