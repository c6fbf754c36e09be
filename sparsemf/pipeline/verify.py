"""Verify: does a certificate's claim follow from its inputs?  Runs the independent checker on raw arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import check
from sparsemf.certificates.checker.document import Check, norm_of
from sparsemf.certificates.equivalence import raw_of
from sparsemf.measures import Empirical, Gaussian, Network

Verification = Check


def verify(
    document: Mapping[str, Any],
    networks: Mapping[str, Network] | None = None,
    data: Empirical | NDArray[np.float64] | None = None,
) -> Verification:
    """Check a certificate: from ``certify`` or ``Analysis.certificate`` against networks ``a`` (and ``b``), from
    ``BlassoResult.certificate`` alone, or against ``data`` (n, d + m), inputs beside outputs, if it does not hold
    them."""
    raw = {name: raw_of(network) for name, network in (networks or {}).items()}
    found = check.check(document, raw, data.x if isinstance(data, Empirical) else data)
    if (
        networks
        and found.valid
        and document["law"]["name"] == "layernorm"
        and not _is_its_layernorm(document, networks["a"])
    ):
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
