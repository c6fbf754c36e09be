"""Verify: does a certificate's claim follow from its inputs?  Runs the independent checker on raw arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsemf.certificates.checker import check
from sparsemf.certificates.equivalence import raw_of
from sparsemf.measures import Empirical, Network

Verification = check.Check


def verify(document: Mapping[str, Any], networks: Mapping[str, Network], data: Empirical | None = None) -> Verification:
    """Check a certificate (from ``certify`` or ``Analysis.certificate``) against networks ``a`` (and ``b``)."""
    raw = {name: raw_of(network) for name, network in networks.items()}
    return check.check(document, raw, None if data is None else data.x)
