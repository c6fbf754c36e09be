"""S* at ε = 0, exactly: the least number of atoms of *any* network of the same activation that is the same function.

The network's numbers are the rationals that they are (floats are dyadic), an affine part is free, and what one flip
costs is free too (z² for relu², a quadratic form for gated blocks).  Two networks that agree on the support of ρ agree
everywhere when ρ has full support, by continuity; for any other law only the upper end is proved.

Two steps make the count: (1) equal and opposite atoms are merged, coefficients added, in exact arithmetic, which gives
a network and hence an upper end; (2) a theorem says that the atoms left are independent, so none can be spared.  Step
2 by activation is in :data:`THEOREMS`; :mod:`~sparsemf.certificates.exact_ramps`,
:mod:`~sparsemf.certificates.exact_waves`, :mod:`~sparsemf.certificates.exact_polynomials` and
:mod:`~sparsemf.certificates.exact_gated` treat the activations whose atoms are not independent.  Nothing is rounded:
atoms that differ in the last bit are two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from sparsemf.certificates.exact_gated import bilinear_width, gated_count
from sparsemf.certificates.exact_groups import equal_rows, heard, lines
from sparsemf.certificates.exact_numbers import PRIMES, rank_mod, residues
from sparsemf.certificates.exact_polynomials import matrix_rank, polynomial_count
from sparsemf.certificates.exact_ramps import ramp_count
from sparsemf.certificates.exact_waves import wave_count
from sparsemf.certificates.exact_width import MinimalWidth, minimal_width
from sparsemf.measures import Empirical, InputLaw, Network

Counts = Literal["atoms", "kinks", "edges", "rank"]

_KINKS = "kinks: the gradient jumps by Σ α‖w‖ across each hyperplane, and hyperplanes do not meet in an open set"
_POLES = "irreducibility: on a generic line a pole or branch point nearest to the real axis belongs to one atom"
_DECAY = "irreducibility: along a generic line the atom (its second derivative) of slowest decay cannot be cancelled"
_SIDES = "irreducibility: atoms of distinct hyperplanes are separated by kinks, those of one by what they continue to"

THEOREMS: dict[str, str] = {
    "relu": _KINKS,
    "leaky_relu": _KINKS,
    "abs": _KINKS,
    "relu2": "kinks: σ″ jumps by ±2α‖w‖² across each hyperplane; flips cost a quadratic form, which is free",
    "tanh": f"{_POLES} (Sussmann 1992)",
    "sigmoid": f"{_POLES} (Sussmann 1992)",
    "softplus": f"{_POLES} (applied to σ′ = sigmoid)",
    "silu": _POLES,
    "quick_gelu": _POLES,
    "arctan": f"{_POLES} (Albertini, Sontag & Maillot 1993)",
    "mish": "irreducibility: poles nearest to the real axis belong to one atom, or to two with residues out of phase",
    "erf": f"{_DECAY} (Fukumizu 1996)",
    "normal_cdf": f"{_DECAY} (Fukumizu 1996)",
    "gelu": _DECAY,
    "gelu_tanh": "irreducibility: σ(z) − max(z, 0) decays like z·exp(−2κ(z + μz³)); cubics of distinct atoms differ",
    "softsign": _SIDES,
    "elu": _SIDES,
    "celu": _SIDES,
    "selu": _SIDES,
}
"""Why atoms that are distinct modulo the flip are linearly independent, also of polynomials (proofs: docs/exact.md)."""


@dataclass(frozen=True)
class ExactCount:
    """``lower`` ≤ S* ≤ ``upper`` at ε = 0; ``value`` and ``certified`` where they meet.

    ``counts`` names what is counted: "atoms", "kinks" (relu types), "edges" between kinks (hardtanh, hard_sigmoid,
    relu6) or a "rank".  ``reason`` is the theorem, or why the ends do not meet; ``evidence`` the numbers behind it.
    ``minimal_width`` is the least width without a free affine part (relu, leaky_relu, linear; bilinear: without a free
    quadratic part), None elsewhere.
    """

    lower: int
    upper: int
    counts: Counts
    reason: str
    evidence: dict[str, int] = field(default_factory=dict)
    minimal_width: MinimalWidth | None = None

    @property
    def certified(self) -> bool:
        """Whether both ends meet."""
        return self.lower == self.upper

    @property
    def value(self) -> int | None:
        """S* at ε = 0, or None where only a bracket is proved."""
        return self.upper if self.certified else None

    def document(self) -> dict[str, Any]:
        """The field ``exact`` of an analyze document."""
        width = self.minimal_width
        return {
            "value": self.value,
            "lower": self.lower,
            "upper": self.upper,
            "certified": self.certified,
            "counts": self.counts,
            "reason": self.reason,
            "evidence": self.evidence,
            "minimal_width": None
            if width is None
            else {
                "value": width.value,
                "lower": width.lower,
                "upper": width.upper,
                "reason": width.reason,
                "signs": width.signs,
                "neurons": width.kinks,
                "doubled": width.doubled,
                "solver": width.solver,
            },
        }


def exact_count(network: Network, law: InputLaw | None = None, width: bool = True) -> ExactCount:
    """S* at ε = 0 of a network under a law (default: one of full support); ``width``: the minimal width too."""
    if network.scale == 0.0:
        network = network.with_(outer=np.zeros_like(network.outer), scale=1.0)
    found = _gated(network) if network.gated else _plain(network)
    if law is not None and not full_support(law):
        # equal functions everywhere are equal on the support; nothing else is proved
        reason = "the input law has no full support: what other networks do beside it is free, and nothing is excluded"
        return ExactCount(0, found.upper, found.counts, reason, found.evidence)
    if not width:
        return found
    least = minimal_width(network) if found.minimal_width is None else found.minimal_width
    return ExactCount(found.lower, found.upper, found.counts, found.reason, found.evidence, least)


def full_support(law: InputLaw) -> bool:
    """Whether the law's support is all of R^d: a Gaussian whose covariance factor has rank d, mod a prime."""
    if isinstance(law, Empirical):
        return False
    if law.is_standard:
        return True
    return law.root.shape[1] >= law.d and any(rank_mod(residues(law.root, p), p) == law.d for p in PRIMES)


def _gated(network: Network) -> ExactCount:
    found = gated_count(network)
    least = bilinear_width(network) if network.activation.kind == "matrix" else None
    width = None if least is None else MinimalWidth(*least, "the larger index of inertia of the quadratic form")
    evidence = {"neurons": network.width, "gates": found.gates}
    return ExactCount(found.lower, found.upper, "atoms", found.reason, evidence, width)


def _plain(network: Network) -> ExactCount:
    activation = network.activation
    name = activation.name.split("(")[0]
    if activation.kind == "kinks":
        ramps = ramp_count(network)
        evidence = {"neurons": network.width, "kinks": ramps.kinks, "blocks": ramps.blocks, "classes": ramps.classes}
        reason = "kinks of nonzero mass less the most disjoint zero-sum blocks, class by class of parallel atoms"
        if ramps.lower < ramps.upper:
            reason += "; the largest classes have too many kinks to exhaust their blocks"
        return ExactCount(ramps.lower, ramps.upper, "edges", reason, evidence)
    if activation.kind == "frequencies" or name == "exp":
        waves = wave_count(network)
        evidence = {"neurons": network.width, "frequencies": waves.frequencies}
        reason = "characters of distinct frequencies are independent; cancellation by Lindemann–Weierstrass"
        return ExactCount(waves.lower, waves.upper, "atoms", reason, evidence)
    if activation.kind in ("matrix", "quadratic", "tensor"):
        ranks = polynomial_count(network)
        if activation.kind != "matrix":
            return ExactCount(ranks.lower, ranks.upper, "rank", ranks.method, {"neurons": network.width})
        own = matrix_rank(network)
        width = MinimalWidth(own.lower, own.upper, own.method)
        return ExactCount(0, 0, "rank", "the function is affine", {"neurons": network.width}, width)
    return _atoms(network, name)


def _atoms(network: Network, name: str) -> ExactCount:
    activation, relation = network.activation, network.activation.relation
    silent, constant = ~network.outer.any(axis=1), ~network.inner.any(axis=1)
    rows = np.flatnonzero(~silent & ~constant)
    points = np.concatenate([network.inner[rows], network.bias[rows, None]], axis=1)
    outer = network.outer[rows]
    parity = 1 if relation is not None and relation.sign < 0 else 0
    if activation.homogeneous:
        groups = lines(points)
        alive = len(heard(groups, outer, activation.homogeneous, parity))
    else:
        groups = equal_rows(points, flips=relation is not None)
        alive = len(heard(groups, outer, 0, parity))
    evidence = {
        "neurons": network.width,
        "silent": int(silent.sum()),
        "constant": int((constant & ~silent).sum()),
        "distinct": len(groups),
        "cancelled": len(groups) - alive,
    }
    counts: Counts = "kinks" if activation.homogeneous else "atoms"
    theorem = THEOREMS.get(name)
    if theorem is None:
        return ExactCount(0, alive, counts, f"no independence of {name} atoms is known", evidence)
    return ExactCount(alive, alive, counts, theorem, evidence)
