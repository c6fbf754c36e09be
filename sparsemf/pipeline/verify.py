"""Verify: does a certificate's claim follow from its inputs?  Runs the independent checker on raw arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sparsemf.certificates.checker import check
from sparsemf.certificates.checker.document import Check, norm_of
from sparsemf.certificates.equivalence import raw_of
from sparsemf.measures import Empirical, Gaussian, Network

Verification = Check


def verify(document: Mapping[str, Any], networks: Mapping[str, Network], data: Empirical | None = None) -> Verification:
    """Check a certificate (from ``certify`` or ``Analysis.certificate``) against networks ``a`` (and ``b``)."""
    raw = {name: raw_of(network) for name, network in networks.items()}
    found = check.check(document, raw, None if data is None else data.x)
    if found.valid and document["law"]["name"] == "layernorm" and not _is_its_layernorm(document, networks["a"]):
        return Verification(False, "the law is not that of the LayerNorm in front of block a")
    return found


def _is_its_layernorm(document: Mapping[str, Any], network: Network) -> bool:
    """Whether the certificate's law is N(β, diag γ²) of the LayerNorm that the file holds."""
    norm = network.provenance.extra.get("layernorm")
    if norm is None:
        return False
    law = Gaussian.layernorm(norm["gain"], norm["shift"])
    certified = norm_of(document, network.d, None)
    mean, root = certified.mean, certified.root
    return mean is not None and root is not None and np.array_equal(mean, law.mean) and np.array_equal(root, law.root)
