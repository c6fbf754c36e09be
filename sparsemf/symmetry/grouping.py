"""Upper bounds of ‖h‖ by grouping neurons: linear in the distances, so it does not cancel.

For h = Σ_i γ_i σ(z_i) + A x + c with neurons on the section (coefficient κ_i, point u_i after its flip is paid into
the affine part) and groups g with representative u_g,

    ‖h‖ ≤ Σ_g [ ‖Σ_{i ∈ g} κ_i‖·‖σ(u_g)‖ + Lip(σ)·Σ_{i ∈ g} ‖κ_i‖·‖(u_i − u_g)·(x, 1)‖ ] + ‖A x + c‖,

in L²(N(0, I)), where ‖(δw, δb)·(x, 1)‖ = √(‖δw‖² + δb²), and in the sup norm over the ball of radius R, where
it is R‖δw‖ + |δb|.  (Triangle inequality and |σ(s) − σ(t)| ≤ Lip·|s − t|.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Atoms, Ball, Network
from sparsemf.measures.gaussian import UNIT
from sparsemf.symmetry.metric import Section, leaders

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Grouping:
    """``leader[i]`` is the index of the neuron that represents i's group, ``sign[i]`` the flip towards it."""

    leader: Integers
    sign: Integers


def group(network: Network, radius: float) -> Grouping:
    """Groups of neurons within ``radius``·‖v‖ of a leader in the quotient metric."""
    section = Section.of(network)
    lead, sign = leaders(section.points, radius * np.linalg.norm(section.points, axis=1), section.flips)
    return Grouping(lead, sign)


def grouped_bound(network: Network, grouping: Grouping, domain: Ball | None = None) -> float:
    """The bound above for h = ``network``: in L²(N(0, I)) (whitened network), or in the sup norm over a ball.

    A rounding margin of (largest group + d + 64)·UNIT times the total mass is added.
    """
    section = Section.of(network)
    relation = network.activation.relation
    points = section.points * grouping.sign[:, None]
    kappa = section.kappa.copy()
    affine, offset = network.affine.copy(), network.offset.copy()
    flipped = grouping.sign < 0
    if flipped.any():
        if relation is None:
            raise ValueError(f"{network.activation.name} has no flip")
        alpha = network.alpha[flipped]
        affine += relation.linear * alpha.T @ network.inner[flipped]
        offset += alpha.T @ (relation.constant + relation.linear * network.bias[flipped])
        kappa[flipped] *= relation.sign
    heads, position = np.unique(grouping.leader, return_inverse=True)
    total = np.zeros((heads.size, network.m))
    np.add.at(total, position, kappa)
    weight = np.linalg.norm(kappa, axis=1)
    gap = points - points[heads][position]
    size = _function_size(network, points, domain)
    linear = _linear_size(gap, domain)
    bound = float(np.linalg.norm(total, axis=1) @ size[heads] + network.activation.lipschitz * (weight @ linear))
    if domain is None:
        bound += float(np.hypot(np.linalg.norm(affine), np.linalg.norm(offset)))
    else:
        bound += float(np.linalg.norm(affine, 2)) * domain.radius + float(np.linalg.norm(offset))
    mass = float(weight @ (size + network.activation.lipschitz * _linear_size(points, domain)))
    mass += float(np.linalg.norm(network.affine) * (domain.radius if domain else 1.0) + np.linalg.norm(network.offset))
    largest = int(np.bincount(position).max(initial=0))
    return bound * (1 + 64 * UNIT) + (largest + network.d + 64) * UNIT * mass


def _linear_size(points: Array, domain: Ball | None) -> Array:
    """‖(δw, δb)·(x, 1)‖ in the norm at hand."""
    if domain is None:
        return np.linalg.norm(points, axis=1)
    return domain.radius * np.linalg.norm(points[:, :-1], axis=1) + np.abs(points[:, -1])


def _function_size(network: Network, points: Array, domain: Ball | None) -> Array:
    """‖σ(u_i)‖ in the norm at hand."""
    if domain is None:
        return Atoms(network.activation, points[:, :-1], points[:, -1]).length
    reach = domain.radius * np.linalg.norm(points[:, :-1], axis=1)
    return network.activation.sup_abs(points[:, -1] - reach, points[:, -1] + reach)
