"""Active component and canonical form of a network modulo its realization symmetry.

Steps (each exact in real arithmetic, so f is unchanged to rounding):

1. *Active component.*  Neurons with α = 0 are dropped; those with w = 0 (max |w| ≤ 1e-100, the rest charged to the
   error) are the constant ασ(b) and move into the offset.
2. *Section.*  For σ homogeneous of degree k, (w, b) is normalised and α absorbs the length^k; for exp the bias moves
   into α.
3. *Half-space.*  A neuron whose first entry of w that is not tiny is negative is flipped by
   σ(z) = s·σ(2c − z) + P(z); α·P(z) is paid into the polynomial part.
4. *Merge.*  Neurons whose points agree to 64 units in the last place become one; their coefficients add up.  A sum
   that vanishes to rounding is dropped ("cancelled").  Near-dipoles farther apart than that are left alone.
5. *Order.*  By a fixed generic linear functional of the point.

This is all for the kinds "atoms" and "tensor".  "kinks" go on with :mod:`~sparsemf.symmetry.kinks`; "frequencies",
"matrix", "quadratic" and gated blocks have forms of their own (:mod:`~sparsemf.symmetry.frequencies`,
:mod:`~sparsemf.symmetry.algebraic`, :mod:`~sparsemf.symmetry.gated`).

Nothing that is *compared* depends on the half-space: distances use the flip-invariant metric of
:mod:`sparsemf.symmetry.metric`, so a neuron near the boundary cannot jump.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Empirical, Network
from sparsemf.measures.gaussian import UNIT
from sparsemf.symmetry.algebraic import algebraic_quotient, is_algebraic
from sparsemf.symmetry.canonical import (
    MERGE_ULPS,
    SILENT,
    Quotient,
    Remainder,
    built,
    displacement,
    functional,
    half_space_sign,
    rounding,
    sizes,
    still,
)
from sparsemf.symmetry.frequencies import frequency_quotient
from sparsemf.symmetry.gated import gated_quotient
from sparsemf.symmetry.kinks import telescoped
from sparsemf.symmetry.metric import Section, coefficient_power, free_flip, leaders, translates

Array = NDArray[np.float64]


def accepts(network: Network) -> bool:
    """Whether the quotient is defined: for the whole catalogue, gated or not."""
    return network.gated or network.activation.kind in (
        "atoms",
        "kinks",
        "matrix",
        "quadratic",
        "tensor",
        "frequencies",
    )


def quotient(network: Network, free: int = 2) -> Quotient:
    """The canonical form of a network; see the module's docstring.

    ``free`` < 2: only flips are made whose polynomial has a degree ≤ ``free`` (−1: those that cost nothing), so that
    neurons keep their own orientation where another one would be charged; ramps telescope unless that costs a constant
    which is not free.
    Neurons with w = 0 move into the offset in any case: what a constant is charged is not the quotient's question (of
    gated blocks see :mod:`~sparsemf.symmetry.gated`).

    Raises :class:`~sparsemf.exceptions.InputError` where the flips of relu² or of gates need a quadratic part that is
    too large to store.
    """
    if network.gated:
        return gated_quotient(network, free)
    if network.activation.kind == "frequencies":
        return frequency_quotient(network)
    if is_algebraic(network.activation):
        return algebraic_quotient(network)
    found = _merged(network, free)
    if network.activation.kind != "kinks":
        return found
    whole = telescoped(found)
    paid = float(np.linalg.norm(whole.network.offset) - np.linalg.norm(found.network.offset))
    return whole if free >= 0 or paid <= whole.rounding else found


def _merged(network: Network, free: int) -> Quotient:
    """Steps 1 to 5."""
    width, m, activation = network.width, network.m, network.activation
    label = np.full(width, -1, dtype=np.int64)
    sign, stretch, share = np.ones(width, dtype=np.int64), np.ones(width), np.zeros((width, m))
    silent = ~network.alpha.any(axis=1)
    constant = ~silent & still(network, network.inner, network.bias)
    inactive = {"zero_outer": int(silent.sum()), "constant": int(constant.sum())}
    remainder = Remainder(network)
    remainder.offset = remainder.offset + network.alpha[constant].T @ activation.value(network.bias[constant])
    rows = np.flatnonzero(~silent & ~constant)
    inner, bias, alpha = network.inner[rows], network.bias[rows], network.alpha[rows]
    section = Section.of(network.with_(outer=network.outer[rows], inner=inner, bias=bias))

    points, kappa, flip = section.points.copy(), section.kappa.copy(), free_flip(activation, free)
    if flip is not None:
        points[:, -1] -= flip.centre
    flipped = (half_space_sign(points) < 0) if flip is not None else np.zeros(rows.size, dtype=bool)
    reach = np.linalg.norm(points[:, :-1], axis=1)
    lead, relative = leaders(
        points, MERGE_ULPS * UNIT * reach, flip is not None, MERGE_ULPS * UNIT * np.linalg.norm(points, axis=1)
    )
    # every member lies on its leader's side, so the leader's half-space decides for all
    flipped = flipped[lead] ^ (relative < 0)
    heights = section.points[:, -1].copy()
    if flip is not None and flipped.any():
        remainder.pay(alpha[flipped], inner[flipped], bias[flipped], (flip.constant, flip.linear, flip.quadratic))
        kappa[flipped] *= flip.sign
        points[flipped] *= -1.0
        heights[flipped] = 2 * flip.centre - heights[flipped]

    atoms, atom_of = np.unique(lead, return_inverse=True)
    total = np.zeros((atoms.size, m))
    np.add.at(total, atom_of, kappa)
    weight = np.linalg.norm(kappa, axis=1)
    slack = np.zeros(atoms.size)
    np.add.at(slack, atom_of, weight * _noise(network, bias))
    gap = np.linalg.norm(points - points[atoms][atom_of], axis=1)
    merge_error = displacement(activation, weight, points[:, :-1], heights, gap)
    merge_error += displacement(
        activation,
        np.sum(np.abs(network.alpha[constant]), axis=1),
        np.zeros((int(constant.sum()), network.d)),
        network.bias[constant],
        np.sum(np.abs(network.inner[constant]), axis=1),
    )
    members = np.bincount(atom_of, minlength=atoms.size)
    alive = np.linalg.norm(total, axis=1) > 8 * UNIT * slack * (members > 1)
    alive &= np.max(np.abs(total), axis=1, initial=0.0) > SILENT
    if not alive.all():
        dead = ~alive
        # what a dropped atom still weighs (rounding level) is charged to the error
        at = sizes(activation, points[atoms[dead], :-1], heights[atoms[dead]])
        left = np.sum(np.abs(total[dead]), axis=1)
        merge_error += float(left[left > 0] @ at[left > 0])
    if translates(activation):
        merge_error += _underflow(alpha, inner, bias, kappa)
    order = np.argsort(functional(points[atoms[alive]]), kind="stable")
    chosen = np.flatnonzero(alive)[order]
    position = np.full(atoms.size, -1, dtype=np.int64)
    position[chosen] = np.arange(chosen.size)

    label[rows] = position[atom_of]
    sign[rows] = np.where(flipped, -1, 1)
    stretch[rows] = section.stretch
    share[rows] = kappa
    return Quotient(
        source=network,
        network=built(network, total[chosen], points[atoms[chosen], :-1], heights[atoms[chosen]], remainder),
        inactive=inactive,
        flips=int(flipped.sum()),
        merged=int(rows.size - atoms.size),
        cancelled=int((~alive).sum()),
        merge_error=merge_error,
        rounding=rounding(network),
        label=label,
        sign=sign,
        stretch=stretch,
        share=share,
        unique=activation.kind != "tensor",
    )


def _noise(network: Network, bias: Array) -> Array:
    """What a coefficient on the section may have lost, in units of its own rounding."""
    if translates(network.activation):
        return 1.0 + np.abs(bias)
    return np.full(bias.size, float(max(coefficient_power(network.activation), 1)))


def _underflow(alpha: Array, inner: Array, bias: Array, kappa: Array) -> float:
    """‖α e^z‖ of exp neurons whose coefficient on the section is below the smallest number."""
    lost = ~kappa.any(axis=1)
    with np.errstate(over="ignore", under="ignore"):
        return float(
            np.sum(np.exp(np.log(np.sum(np.abs(alpha[lost]), axis=1)) + bias[lost] + np.sum(inner[lost] ** 2, axis=1)))
        )


@dataclass(frozen=True, eq=False)
class DomainReduction:
    """Neurons inactive on a *domain* only: ``network`` agrees with the source on every row of the data."""

    network: Network
    always_off: int
    always_on: int


def domain_reduction(network: Network, law: Empirical, free: int = 1) -> DomainReduction:
    """Drop relu-type neurons whose pre-activation keeps one sign on every data row.

    σ(z) = p·z for z > 0 and −n·z for z < 0 (piecewise linear σ): an always-on neuron is α·p·z, an always-off
    one −α·n·z; both move into the affine part, or where that is charged (``free`` < 1) only those that are 0
    leave.  Other activations, and gated blocks, have none.  Neurons with a pre-activation
    within rounding of 0 are kept.
    """
    positive, negative = (getattr(network.activation, name, None) for name in ("positive", "negative"))
    if positive is None or negative is None or network.width == 0 or network.gated:
        return DomainReduction(network, 0, 0)
    low, high = np.full(network.width, np.inf), np.full(network.width, -np.inf)
    for start in range(0, law.x.shape[0], 4096):
        z = law.x[start : start + 4096] @ network.inner.T + network.bias
        low, high = np.minimum(low, z.min(axis=0)), np.maximum(high, z.max(axis=0))
    reach = float(np.linalg.norm(law.x, axis=1).max())
    slack = (network.d + 8) * UNIT * (reach * np.linalg.norm(network.inner, axis=1) + np.abs(network.bias))
    on, off = (low > slack) & (free > 0 or positive == 0), (high < -slack) & (free > 0 or negative == 0)
    if not (on.any() or off.any()):
        return DomainReduction(network, 0, 0)
    slope = np.where(on, positive, -negative)[:, None] * network.alpha
    fixed, keep = on | off, ~(on | off)
    return DomainReduction(
        network.with_(
            outer=network.outer[keep],
            inner=network.inner[keep],
            bias=network.bias[keep],
            affine=network.affine + slope[fixed].T @ network.inner[fixed],
            offset=network.offset + slope[fixed].T @ network.bias[fixed],
        ),
        always_off=int(off.sum()),
        always_on=int(on.sum()),
    )
