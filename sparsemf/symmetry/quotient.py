"""Active component and canonical form of a network modulo its realization symmetry.

Steps (each exact in real arithmetic, so f is unchanged to rounding):

1. *Active component.*  Neurons with α = 0 are dropped; those with w = 0 (max |w| ≤ 1e-100, the rest charged to the
   error) are the constant ασ(b) and move into the offset.
2. *Section.*  For homogeneous σ, (w, b) is normalised and α absorbs the length.
3. *Half-space.*  A neuron whose first entry of w that is not tiny is negative is flipped by
   σ(z) = s·σ(−z) + P(z); α·P(z) is paid into the affine part.
4. *Merge.*  Neurons whose points agree to 64 units in the last place become one; their coefficients add up.  A sum
   that vanishes to rounding is dropped ("cancelled").  Near-dipoles farther apart than that are left alone.
5. *Order.*  By a fixed generic linear functional of the point.

Nothing that is *compared* depends on the half-space: distances use the flip-invariant metric of
:mod:`sparsemf.symmetry.metric`, so a neuron near the boundary cannot jump.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Empirical, Network
from sparsemf.measures.gaussian import UNIT
from sparsemf.measures.network import NEGLIGIBLE
from sparsemf.symmetry.metric import Section, leaders

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

MERGE_ULPS = 64
TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Quotient:
    """The canonical form of ``source`` and the way back.

    ``network`` has scale 1 and atoms on the section.  For source neuron i: ``label[i]`` its atom (−1: not
    active, or cancelled), ``sign[i]`` = −1 when it was flipped relative to that atom, ``stretch[i]`` its scale t_i,
    ``share[i]`` (m,) its contribution to the atom's coefficient.  ``inactive`` counts by reason.
    ``merge_error`` bounds sup-type cost Σ‖κ_i‖·Lip·‖v_i ∓ v_g‖ of the merge: an L²(N(0, I)) bound, and the sup over the
    ball of radius R is at most (1 + R) times it.  ``rounding`` is the stated margin of doing all this in float64,
    (N + d + 64)·UNIT·[Σ‖α_i‖(|σ(0)| + Lip·‖(w_i, b_i)‖) + ‖A‖ + ‖c‖], in the same norms.
    """

    source: Network
    network: Network
    inactive: dict[str, int]
    flips: int
    merged: int
    cancelled: int
    merge_error: float
    rounding: float
    label: Integers
    sign: Integers
    stretch: Array
    share: Array

    @property
    def active(self) -> int:
        """Number of active neurons of the source."""
        return self.source.width - sum(self.inactive.values())

    @property
    def error(self) -> float:
        """Bound of ‖f − f_canonical‖ in L²(N(0, I)); times (1 + R) in the sup norm over a ball."""
        return self.merge_error + self.rounding

    def invert(self, network: Network | None = None) -> Network:
        """A network of the source's width and neurons' order whose canonical form is ``network``.

        Default: the canonical form itself, so f is the source's to rounding.  A changed ``network`` (same number of
        atoms: refitted, moved or zeroed) is carried back through the scalings, flips and splits: each
        neuron follows its atom, and a change of coefficient goes to the atom's first neuron.
        """
        target = network or self.network
        if target.width != self.network.width or target.m != self.network.m or target.d != self.network.d:
            raise ValueError(
                f"expected {self.network.width} atoms with d = {self.network.d}, m = {self.network.m}, got {target!r}"
            )
        source, relation = self.source, self.source.activation.relation
        kept = np.flatnonzero(self.label >= 0)
        atom = self.label[kept]
        share = self.share[kept].copy()
        first = np.unique(atom, return_index=True)[1]
        totals = np.zeros((target.width, target.m))
        np.add.at(totals, atom, share)
        share[first] += target.alpha[atom[first]] - totals[atom[first]]
        sign, stretch = self.sign[kept], self.stretch[kept]
        flipped = sign < 0
        outer = share / stretch[:, None]
        inner, bias = source.inner.copy(), source.bias.copy()
        inner[kept] = (sign * stretch)[:, None] * target.inner[atom]
        bias[kept] = sign * stretch * target.bias[atom]
        affine, offset = target.affine.copy(), target.offset.copy()
        if relation is not None and flipped.any():
            outer[flipped] *= relation.sign
            rows = kept[flipped]
            affine -= relation.linear * outer[flipped].T @ inner[rows]
            offset -= outer[flipped].T @ (relation.constant + relation.linear * bias[rows])
        full = np.zeros((source.width, target.m))
        full[kept] = outer
        # constant and cancelled neurons stay silent: the offset already carries what they said
        return Network(full, inner, bias, source.activation, affine=affine, offset=offset, provenance=source.provenance)


def half_space_sign(points: Array) -> Integers:
    """−1 where the first entry of w that is not tiny (relative to the largest) is negative, else +1."""
    w = points[:, :-1]
    scale = np.max(np.abs(w), axis=1, initial=0.0)
    first = np.argmax(np.abs(w) > TINY * scale[:, None], axis=1)
    return np.where(w[np.arange(w.shape[0]), first] < 0, -1, 1).astype(np.int64)


def accepts(network: Network) -> bool:
    """Whether the quotient is defined: every registered activation declares what it needs."""
    return network.activation.homogeneous in (None, 1)


def quotient(network: Network) -> Quotient:
    """The canonical form of a network; see the module's docstring."""
    if not accepts(network):
        raise ValueError(f"no quotient for an activation of homogeneity {network.activation.homogeneous}")
    width, m = network.width, network.m
    label = np.full(width, -1, dtype=np.int64)
    sign, stretch, share = np.ones(width, dtype=np.int64), np.ones(width), np.zeros((width, m))
    silent = ~network.alpha.any(axis=1)
    constant = ~silent & (np.max(np.abs(network.inner), axis=1, initial=0.0) <= NEGLIGIBLE)
    inactive = {"zero_outer": int(silent.sum()), "constant": int(constant.sum())}
    offset = network.offset + network.alpha[constant].T @ network.activation.value(network.bias[constant])
    affine = network.affine.copy()
    rows = np.flatnonzero(~silent & ~constant)
    section = Section.of(network.with_(outer=network.outer[rows], inner=network.inner[rows], bias=network.bias[rows]))

    points, kappa = section.points.copy(), section.kappa.copy()
    relation = network.activation.relation
    flipped = (half_space_sign(points) < 0) if relation is not None else np.zeros(rows.size, dtype=bool)
    tolerance = MERGE_ULPS * UNIT * np.linalg.norm(points, axis=1)
    lead, relative = leaders(points, tolerance, flips=relation is not None)
    # every member lies on its leader's side, so the leader's half-space decides for all
    flipped = flipped[lead] ^ (relative < 0)
    if relation is not None and flipped.any():
        alpha, inner, bias = network.alpha[rows][flipped], network.inner[rows][flipped], network.bias[rows][flipped]
        affine += relation.linear * (alpha.T @ inner)
        offset = offset + alpha.T @ (relation.constant + relation.linear * bias)
        kappa[flipped] *= relation.sign
        points[flipped] *= -1.0

    atoms, atom_of = np.unique(lead, return_inverse=True)
    total = np.zeros((atoms.size, m))
    np.add.at(total, atom_of, kappa)
    size = np.zeros(atoms.size)
    np.add.at(size, atom_of, np.linalg.norm(kappa, axis=1))
    gap = np.linalg.norm(points - points[atoms][atom_of], axis=1)
    merge_error = float(network.activation.lipschitz * (np.linalg.norm(kappa, axis=1) @ gap))
    negligible = np.sum(np.abs(network.inner[constant]), axis=1)
    merge_error += network.activation.lipschitz * float(np.sum(np.abs(network.alpha[constant]), axis=1) @ negligible)
    members = np.bincount(atom_of, minlength=atoms.size)
    alive = np.linalg.norm(total, axis=1) > 8 * UNIT * size * (members > 1)
    if not alive.all():
        dead = ~alive
        # what a dropped atom still weighs (rounding level) is charged to the error
        reach = np.abs(network.activation.value(0.0)) + network.activation.lipschitz * np.linalg.norm(
            points[atoms[dead]], axis=1
        )
        merge_error += float(np.linalg.norm(total[dead], axis=1) @ reach)
    order = np.argsort(_functional(points[atoms[alive]]), kind="stable")
    chosen = np.flatnonzero(alive)[order]
    position = np.full(atoms.size, -1, dtype=np.int64)
    position[chosen] = np.arange(chosen.size)

    canonical = Network(
        outer=total[chosen],
        inner=points[atoms[chosen], :-1],
        bias=points[atoms[chosen], -1],
        activation=network.activation,
        affine=affine,
        offset=offset,
        provenance=network.provenance,
    )
    label[rows] = position[atom_of]
    sign[rows] = np.where(flipped, -1, 1)
    stretch[rows] = section.stretch
    share[rows] = kappa
    return Quotient(
        source=network,
        network=canonical,
        inactive=inactive,
        flips=int(flipped.sum()),
        merged=int(rows.size - atoms.size),
        cancelled=int((~alive).sum()),
        merge_error=merge_error,
        rounding=_rounding(network),
        label=label,
        sign=sign,
        stretch=stretch,
        share=share,
    )


def _rounding(network: Network) -> float:
    reach = np.hypot(np.linalg.norm(network.inner, axis=1), network.bias) * network.activation.lipschitz
    mass = np.linalg.norm(network.alpha, axis=1) @ (np.abs(network.activation.value(0.0)) + reach)
    mass += np.linalg.norm(network.affine) + np.linalg.norm(network.offset)
    return float((network.width + network.d + 64) * UNIT * mass)


def _functional(points: Array) -> Array:
    """A fixed generic linear functional: structured networks (w = e₁, e₂, …) do not tie under it."""
    return points @ np.random.default_rng(11).standard_normal(points.shape[1])


@dataclass(frozen=True, eq=False)
class DomainReduction:
    """Neurons inactive on a *domain* only: ``network`` agrees with the source on every row of the data."""

    network: Network
    always_off: int
    always_on: int


def domain_reduction(network: Network, law: Empirical) -> DomainReduction:
    """Drop relu-type neurons whose pre-activation keeps one sign on every data row.

    σ(z) = p·z for z > 0 and −n·z for z < 0 (piecewise linear σ): an always-on neuron is α·p·z, an always-off
    one −α·n·z; both move into the affine part.  Other activations have none.  Neurons with a pre-activation
    within rounding of 0 are kept.
    """
    positive, negative = (getattr(network.activation, name, None) for name in ("positive", "negative"))
    if positive is None or negative is None or network.width == 0:
        return DomainReduction(network, 0, 0)
    low, high = np.full(network.width, np.inf), np.full(network.width, -np.inf)
    for start in range(0, law.x.shape[0], 4096):
        z = law.x[start : start + 4096] @ network.inner.T + network.bias
        low, high = np.minimum(low, z.min(axis=0)), np.maximum(high, z.max(axis=0))
    reach = float(np.linalg.norm(law.x, axis=1).max())
    slack = (network.d + 8) * UNIT * (reach * np.linalg.norm(network.inner, axis=1) + np.abs(network.bias))
    on, off = low > slack, high < -slack
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
