"""Does a certificate's claim follow from its networks?  Everything is recomputed from raw arrays.

``check(document, networks, data)`` knows five kinds of claims, each in a module of its own: ``sparsemf/certify/2``
in :mod:`~sparsemf.certificates.checker.equivalence`, ``sparsemf/sparsity/3`` (of gated blocks ``/4``, with a free
quadratic part ``/5``, with a charged affine part ``/6``) in :mod:`~sparsemf.certificates.checker.sparsity`,
``sparsemf/exact/1`` in :mod:`~sparsemf.certificates.checker.exact`, ``sparsemf/optimality/1`` (on data) in
:mod:`~sparsemf.certificates.checker.optimality` and ``/2`` (under a Gaussian law) in
:mod:`~sparsemf.certificates.checker.population`, and ``sparsemf/depth/1`` in
:mod:`~sparsemf.certificates.checker.depth`.  A claim is valid when this program's own bounds imply it.

Trusted base: this package, IEEE arithmetic and a conventional matrix product, libm's elementary functions to 32
units in the last place, python-flint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import depth, equivalence, exact, optimality, population, sparsity
from sparsemf.certificates.checker.catalogue import image
from sparsemf.certificates.checker.document import Check, Refused, seal
from sparsemf.certificates.checker.raw import Raw, Unreadable

OPTIMALITY = ("sparsemf/optimality/1", "sparsemf/optimality/2")
"""On data, under a Gaussian law."""
SCHEMAS = ("sparsemf/certify/2", *sparsity.SCHEMAS, "sparsemf/exact/1", *OPTIMALITY, depth.SCHEMA)
_CHECKS = (
    equivalence.check,
    *(sparsity.check for _ in sparsity.SCHEMAS),
    exact.check,
    optimality.check,
    population.check,
    depth.check,
)
_KINDS = dict(zip(SCHEMAS, _CHECKS, strict=True))


def check(document: Mapping[str, Any], networks: Mapping[str, Raw], data: NDArray[np.float64] | None = None) -> Check:
    """Check a certificate against its input networks (``"a"`` and ``"b"``, or ``"a"`` alone, or none) and data rows
    (of a certificate of optimality that does not hold its own: inputs, then outputs)."""
    try:
        schema = document.get("schema")
        if schema not in SCHEMAS:
            raise Refused(f"unknown schema {schema!r}")
        if document.get("seal") != seal(document):
            raise Refused("the document was changed after it was sealed")
        for name, raw in networks.items():
            if document["inputs"][name]["arrays_sha256"] != raw.sha256:
                raise Refused(f"network {name} is not the one that was certified")
            image(raw.activation)
        facts = _KINDS[schema](document, networks, data)
        unchecked = {SCHEMAS[0]: equivalence.unchecked, depth.SCHEMA: depth.unchecked}.get(schema)
        estimates = [] if unchecked is None else unchecked(document)
    except Refused as refusal:
        return Check(False, str(refusal))
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        ArithmeticError,
        MemoryError,
        RecursionError,
        Unreadable,
    ) as error:
        return Check(False, f"malformed certificate: {type(error).__name__} {error}")
    beside = f" ({' and '.join(estimates)} beside it not checked)" if estimates else ""
    target = "data" if schema == OPTIMALITY[0] else "target"
    source = (
        f"{target}: no measure on the parameter set is better by more than the gap"
        if schema in OPTIMALITY
        else "networks"
    )
    return Check(True, f"the claim follows from the {source}{beside}", facts)
