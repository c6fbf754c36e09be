"""What a plain network is to its staircase: atoms beside free polynomials, in white coordinates.

Beside the canonical form two things are needed, so that everything free is out of the atoms:

- *linear* atoms are affine functions: they go into the affine part, and no atom is left;
- a quadratic part Q beside atoms of degree 2 is no free part (they are quadratic forms themselves), so it is written in
  atoms: one output in the canonical form anyway (the eigendecomposition of Σ αwwᵀ + Q), several by

      xᵀQ_o x = Σ_r λ_r⟨v_r, x⟩²,   Q_o = Σ_r λ_r v_r v_rᵀ,   one output after the other.

For one output and degree 2, beyond affine functions ‖f − g‖ = √2‖F − G‖_F for the forms F, G, and S atoms are the
forms of rank ≤ S: the S largest eigenvalues are the best choice (Eckart & Young 1936), which is what the greedy path
takes, since the canonical atoms are orthogonal; L(S) with p = 1 is the same number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Bounds, Gaussian, Network, l2_norm
from sparsemf.measures.gaussian import UNIT, affine_margin, affine_part, free_degree, quadratic_part
from sparsemf.recovery import Effort
from sparsemf.symmetry import Quotient, quotient

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reduced:
    """``network``: canonical and white, without free parts in its atoms; ``error`` ≥ ‖f − network‖ in L²(ρ); ``free``:
    the degree up to which polynomials are free; ``seen``: the canonical form that it comes from; ``particles``: the
    network without silent atoms, which are only offered (:mod:`~sparsemf.pipeline.charged`)."""

    network: Network
    error: float
    free: int
    seen: Quotient
    particles: Network


def reduced(network: Network, law: Gaussian) -> Reduced:
    """The reduction of a plain network under a Gaussian law."""
    free = free_degree(network)
    white, error = law.whiten(network), law.whitening_error(network)
    if free < 2 and white.quadratic is not None and white.m > 1:
        white, lost = form_as_atoms(white)
        error += lost
    seen = quotient(white)
    found = absorbed(seen.network)
    return Reduced(found, error + seen.error, free, seen, found)


def absorbed(canonical: Network) -> Network:
    """The canonical form with linear atoms in the affine part, which is free."""
    if canonical.activation.kind != "matrix" or canonical.gated or not canonical.width:
        return canonical
    empty = canonical.outer[:0], canonical.inner[:0], canonical.bias[:0]
    affine = canonical.affine + canonical.alpha.T @ canonical.inner
    offset = canonical.offset + canonical.alpha.T @ canonical.bias
    return canonical.with_(outer=empty[0], inner=empty[1], bias=empty[2], affine=affine, offset=offset, scale=1.0)


def form_as_atoms(network: Network) -> tuple[Network, float]:
    """A network of degree-2 atoms with its quadratic part as atoms, and a bound of what that rounds in L²(N(0, I)).

    ‖xᵀEx‖² = 2‖E‖_F² + (tr E)² ≤ (d + 2)‖E‖_F²; V̂Λ̂V̂ᵀ is evaluated to (d + 4)·UNIT·‖Λ̂‖₁.
    """
    forms = network.quadratic
    if forms is None:
        return network, 0.0
    inner, outer, error = [network.inner], [network.alpha], 0.0
    for o, form in enumerate(forms):
        value, vector = np.linalg.eigh(form)
        rest = float(np.linalg.norm(form - (vector * value) @ vector.T))
        error += rest * (1 + 1e-12) + (network.d + 4) * UNIT * float(np.sum(np.abs(value)) + np.linalg.norm(form))
        own = np.zeros((network.d, network.m))
        own[:, o] = value
        inner.append(vector.T)
        outer.append(own)
    # P(z) = z² + p₀ has a constant of its own
    constant = float(network.activation.value(np.zeros(1))[0])
    total = np.concatenate(outer)
    added = total[network.width :]
    changed = network.with_(
        outer=total,
        inner=np.concatenate(inner),
        bias=np.concatenate([network.bias, np.zeros(added.shape[0])]),
        scale=1.0,
        quadratic=None,
        offset=network.offset - constant * added.sum(axis=0),
    )
    return changed, error * float(np.sqrt(network.d + 2.0)) + 4 * UNIT * abs(constant) * float(np.abs(added).sum())


def enough(network: Network, effort: Effort | None) -> Effort | None:
    """``effort``; none for the forms of one output, where the greedy path is the best there is."""
    if network.activation.polynomial_degree == 2 and network.m == 1:
        return Effort(few=0, drops=0, joint=0)
    return effort


def norm_bounds(canonical: Network, beyond: tuple[float, float], free: int) -> Bounds:
    """Bounds of ‖f‖ of a white network from (lower, upper) of its energy beyond the degree ``free``."""
    if free == 1:
        return l2_norm(canonical, Gaussian.standard(canonical.d), beyond)
    head = float(np.linalg.norm(low_norms(canonical, free)[: free + 1]))
    slack = 2 * affine_margin(canonical) if free >= 0 else 0.0
    return Bounds(
        lower=float(np.hypot(max(head - slack, 0.0), np.sqrt(beyond[0]))),
        upper=float(np.hypot(head + slack, np.sqrt(beyond[1]))) * (1 + 4 * UNIT),
        method="the free Hermite degrees exactly, the rest by the Gaussian kernel",
    )


def low_norms(canonical: Network, free: int) -> list[float]:
    """‖T₀‖, ‖T₁‖ (and ‖T₂‖ where that is free) of a white network, as computed."""
    slope, constant = affine_part(canonical)
    found = [float(np.linalg.norm(constant)), float(np.linalg.norm(slope))]
    return found if free < 2 else [*found, float(np.linalg.norm(quadratic_part(canonical)))]
