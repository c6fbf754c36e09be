"""Upper bounds of ‖h‖ by grouping neurons: linear in the distances, so it does not cancel.

For h = Σ_i γ_i σ(z_i) + xᵀQx + A x + c with neurons on the section (coefficient κ_i, point u_i after its flip is paid
into the polynomial part) and groups g with representative u_g,

    ‖h‖ ≤ Σ_g [ ‖Σ_{i ∈ g} κ_i‖·‖σ(u_g)‖ + Σ_{i ∈ g} ‖κ_i‖·M_i·‖(u_i − u_g)·(x, 1)‖ ] + ‖xᵀQx + A x + c‖,

in L²(N(0, I)), where ‖(δw, δb)·(x, 1)‖ = √(‖δw‖² + δb²), and in the sup norm over the ball of radius R, where
it is R‖δw‖ + |δb|.  M_i is Lip(σ), or, where σ′ is unbounded, the modulus at the larger of the two neurons, and in the
sup norm the sup of |σ′| on the values it takes.  (Triangle inequality and the mean value theorem.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.exceptions import InputError
from sparsemf.measures import Atoms, Ball, Network
from sparsemf.measures.gaussian import UNIT
from sparsemf.symmetry.canonical import Remainder
from sparsemf.symmetry.frequencies import principal_phases
from sparsemf.symmetry.metric import Flip, Section, flip_of, leaders, translates

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Grouping:
    """``leader[i]`` is the index of the neuron that represents i's group, ``sign[i]`` the flip towards it."""

    leader: Integers
    sign: Integers


def group(network: Network, radius: float) -> Grouping:
    """Groups of neurons within ``radius``·‖v‖ of a leader in the quotient metric.

    sin and cos are grouped by w and the phase in [0, π), so that neurons on the two sides of π stay apart.  Raises
    :class:`InputError` for gated networks.
    """
    network = _principal(network)
    points = _centred(network, Section.of(network))
    flips = _flip(network.activation) is not None
    lead, sign = leaders(points, radius * np.linalg.norm(points, axis=1), flips)
    return Grouping(lead, sign)


def grouped_bound(network: Network, grouping: Grouping, domain: Ball | None = None) -> float:
    """The bound above for h = ``network``: in L²(N(0, I)) (whitened network), or in the sup norm over a ball.

    A rounding margin of (largest group + d + 64)·UNIT times the total mass is added.  Raises :class:`InputError` for
    gated networks and for flips that σ does not have.
    """
    network = _principal(network)
    activation, flip = network.activation, _flip(network.activation)
    section = Section.of(network)
    centre = 0.0 if flip is None else flip.centre
    points = _centred(network, section) * grouping.sign[:, None]
    points[:, -1] += centre
    kappa = section.kappa.copy()
    remainder = Remainder(network)
    flipped = grouping.sign < 0
    if flipped.any():
        if flip is None:
            raise InputError(f"grouping: expected no flips for {activation.name}, got {int(flipped.sum())}")
        remainder.pay(
            network.alpha[flipped],
            network.inner[flipped],
            network.bias[flipped],
            (flip.constant, flip.linear, flip.quadratic),
        )
        kappa[flipped] *= flip.sign
    heads, position = np.unique(grouping.leader, return_inverse=True)
    total = np.zeros((heads.size, network.m))
    np.add.at(total, position, kappa)
    weight = np.linalg.norm(kappa, axis=1)
    gap = points - points[heads][position]
    size = _function_size(network, points, domain)
    linear = _linear_size(gap, domain)
    steepness = _steepness(activation, points, points[heads][position], domain)
    moved = linear > 0
    bound = float(np.linalg.norm(total, axis=1) @ size[heads] + (weight * steepness)[moved] @ linear[moved])
    bound += _polynomial_size(remainder.quadratic, remainder.affine, remainder.offset, domain)
    own = _linear_size(points, domain) * _steepness(activation, points, points, domain)
    mass = float(weight[weight > 0] @ (size + own)[weight > 0])
    mass += _polynomial_size(network.quadratic, network.affine, network.offset, domain)
    largest = int(np.bincount(position).max(initial=0))
    return bound * (1 + 64 * UNIT) + (largest + network.d + 64) * UNIT * mass


def _principal(network: Network) -> Network:
    """The network, with the phases of sin and cos in [0, π)."""
    if network.gated:
        raise InputError("gate: expected a network without gates for the grouped bound, got a gated one; use certify")
    if network.activation.kind != "frequencies":
        return network
    sign, phase = principal_phases(network.bias)
    return network.with_(outer=sign[:, None] * network.alpha, bias=phase, scale=1.0)


def _flip(activation: Activation) -> Flip | None:
    """sin and cos on [0, π): sin(z + φ) = sin(π − φ − z) and cos(z + φ) = −cos(π − φ − z)."""
    if activation.kind == "frequencies":
        return Flip(1 if activation.name == "sin" else -1, 0.5 * np.pi)
    return flip_of(activation)


def _centred(network: Network, section: Section) -> Array:
    """Points about the centre of the flip (relu6: b = 3, sin and cos: φ = π/2)."""
    flip, points = _flip(network.activation), section.points.copy()
    if flip is not None:
        points[:, -1] -= flip.centre
    return points


def _steepness(activation: Activation, first: Array, second: Array, domain: Ball | None) -> Array:
    """What |σ(s) − σ(t)| is at most, relative to |s − t|, in the norm at hand for neurons between the two."""
    if np.isfinite(activation.lipschitz):
        return np.full(first.shape[0], activation.lipschitz)
    r = np.maximum(np.linalg.norm(first[:, :-1], axis=1), np.linalg.norm(second[:, :-1], axis=1)) * (1 + 4 * UNIT)
    top = np.maximum(first[:, -1], second[:, -1])
    reach = np.maximum(np.abs(first[:, -1]), np.abs(second[:, -1]))
    if domain is None:
        if translates(activation):
            # e^{β + …} = e^β·e^{…}: all points of the section have the same β
            return np.exp(top) * activation.modulus(r, np.zeros(r.size))
        return activation.modulus(r, reach)
    reach = (domain.radius * r + reach) * (1 + 8 * UNIT)
    if translates(activation):
        return np.exp((domain.radius * r + top) * (1 + 8 * UNIT)) * (1 + 8 * UNIT)
    coefficients = getattr(activation, "coefficients", None)
    if coefficients is not None:
        return sum((j * abs(c) * reach ** (j - 1) for j, c in enumerate(coefficients) if j), np.zeros(r.size))
    if activation.homogeneous is not None:
        # Euler: z σ′(z) = k σ(z), so |σ′(z)| = k|σ(±1)||z|^{k − 1}
        k = activation.homogeneous
        return k * float(np.max(np.abs(activation.value(np.array([-1.0, 1.0]))))) * reach ** (k - 1)
    raise InputError(
        f"activation: expected one with bounded slope in the sup norm, got {activation.name}; use the L² norm"
    )


def _polynomial_size(quadratic: Array | None, affine: Array, offset: Array, domain: Ball | None) -> float:
    """A bound of ‖xᵀQx + A x + c‖ in the norm at hand."""
    if domain is None:
        out = float(np.hypot(np.linalg.norm(affine), np.linalg.norm(offset)))
        if quadratic is not None:
            trace = np.trace(quadratic, axis1=1, axis2=2)
            out += float(np.sqrt(2 * np.sum(quadratic**2) + np.sum(trace**2)))
        return out
    out = float(np.linalg.norm(affine, 2)) * domain.radius + float(np.linalg.norm(offset))
    if quadratic is not None:
        out += domain.radius**2 * float(np.sqrt(sum(np.linalg.norm(q, 2) ** 2 for q in quadratic)))
    return out


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
