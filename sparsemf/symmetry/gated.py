"""Canonical form of a gated block f(x) = Σ α_i σ(u_i)·ℓ_i + xᵀQx + A x + c, u_i = ⟨g_i, x⟩ + c_i, ℓ_i = ⟨v_i, x⟩ + e_i.

1. *Active component.*  Neurons with α = 0 or (v, e) = 0 are dropped; those with g = 0 are affine, α σ(c)·ℓ, and move
   into A and c; a linear gate makes a quadratic form of every neuron and moves into Q, A and c.
2. *Gates.*  Normalised where σ is homogeneous (α absorbs the length^k) or exp (the bias moves into α), and flipped to
   a half-space by σ(u) = s·σ(−u) + P(u); Σ α P(u)·ℓ is a quadratic form (sigmoid: affine) and moves into Q, A and c.
   A relu² gate would cost a cubic form, for which a network has no place: its sides stay apart.
3. *Values.*  Neurons whose gates agree to 64 units in the last place act through M = Σ κ_i (v_i, e_i)ᵀ only.  From
   its singular value decomposition M = Σ_r s_r a_r y_rᵀ, rank M atoms (s_r a_r, y_r) of that gate with ‖y_r‖ = 1,
   which is the least number; (α, ℓ) ~ (α/t, tℓ), t ≠ 0, and every mixing of the atoms of one gate is divided out.

The form is unique when σ is of the kind "atoms" and the singular values of each M are distinct.  Gates of other kinds
(frequencies, kinks, polynomials of degree ≥ 2), and relu², have relations beyond these: the form is then a valid
network of the same function, and :attr:`Quotient.unique` is False.

Where fewer polynomials than the quadratic ones are free (``free`` < 2), only flips that cost what is free are made,
neurons with g = 0 stay atoms unless affine functions are free, and quadratic forms of linear gates stay neurons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.measures.gaussian import UNIT
from sparsemf.symmetry.canonical import (
    MERGE_ULPS,
    SILENT,
    Quotient,
    Remainder,
    built,
    direction_sign,
    fourth_size,
    functional,
    half_space_sign,
    product_displacement,
    rounding,
    still,
)
from sparsemf.symmetry.metric import Flip, Section, flip_of, leaders

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_SEPARATED = 1e-8


def gate_flip(network: Network, free: int = 2) -> Flip | None:
    """The flip of a gate that polynomials of degree ≤ ``free`` can pay, P(u)·ℓ being one degree above P: none for
    relu²."""
    flip = flip_of(network.activation)
    if flip is None or flip.quadratic or (flip.cost >= 0 and flip.cost + 1 > free):
        return None
    return flip


def gated_quotient(network: Network, free: int = 2) -> Quotient:
    """The canonical form of a gated network, polynomials of degree ≤ ``free`` being free beside it.

    Raises :class:`InputError` for a network without gates.
    """
    if network.gate is None or network.gate_bias is None:
        raise InputError("gate: expected a gated network, got one without gates; use quotient")
    width, m, activation = network.width, network.m, network.activation
    alpha, gate, shift = network.alpha, network.gate, network.gate_bias
    value = np.concatenate([network.inner, network.bias[:, None]], axis=1)
    silent = ~alpha.any(axis=1) | ~value.any(axis=1)
    constant = ~silent & still(network, gate, shift) & (free >= 1)
    remainder, error = Remainder(network), 0.0
    level = alpha[constant] * activation.value(shift[constant])[:, None]
    remainder.pay(level, network.inner[constant], network.bias[constant], (0.0, 1.0))
    rows = np.flatnonzero(~silent & ~constant)
    if activation.kind == "matrix" and free >= 2:
        remainder.pay_product(alpha[rows], gate[rows], shift[rows], network.inner[rows], network.bias[rows])
        rows = rows[:0]
    else:
        drift = np.sum(np.abs(gate[constant]), axis=1)
        size = np.linalg.norm(value[constant], axis=1)
        weight = np.sum(np.abs(alpha[constant]), axis=1)
        error += product_displacement(activation, weight, 0 * gate[constant], shift[constant], size, drift)

    flip = gate_flip(network, free)
    section = Section.of(Network(network.outer[rows], gate[rows], shift[rows], activation, network.scale))
    points, kappa, value = section.points.copy(), section.kappa.copy(), value[rows]
    if flip is not None:
        points[:, -1] -= flip.centre
    flipped = (half_space_sign(points) < 0) if flip is not None else np.zeros(rows.size, dtype=bool)
    reach = np.linalg.norm(points[:, :-1], axis=1)
    lead, relative = leaders(
        points, MERGE_ULPS * UNIT * reach, flip is not None, MERGE_ULPS * UNIT * np.linalg.norm(points, axis=1)
    )
    flipped = flipped[lead] ^ (relative < 0)
    heights = section.points[:, -1].copy()
    if flip is not None and flipped.any():
        at = rows[flipped]
        if flip.constant:
            remainder.pay(flip.constant * alpha[at], network.inner[at], network.bias[at], (0.0, 1.0))
        if flip.linear:
            remainder.pay_product(flip.linear * alpha[at], gate[at], shift[at], network.inner[at], network.bias[at])
        kappa[flipped] *= flip.sign
        points[flipped] *= -1.0
        heights[flipped] = 2 * flip.centre - heights[flipped]
    heads, group = np.unique(lead, return_inverse=True)
    length = np.linalg.norm(value, axis=1)
    gap = np.linalg.norm(points - points[heads][group], axis=1)
    weight = np.linalg.norm(kappa, axis=1)
    error += product_displacement(activation, weight, points[:, :-1], heights, length, gap)

    atoms = _values(kappa, value, group, heads.size)
    head = heads[atoms.group]
    lost = np.flatnonzero(atoms.dropped > 0)
    size = fourth_size(activation, points[heads[lost], :-1], heights[heads[lost]])
    error += 3.0**0.25 * float(atoms.dropped[lost] @ size)
    place = np.concatenate([points[head, :-1], heights[head, None]], axis=1)
    order = np.argsort(functional(np.concatenate([place, atoms.value], axis=1)), kind="stable")
    atoms_of = np.full(heads.size, -1, dtype=np.int64)
    position = np.argsort(order)
    # the first atom of each gate stands for it
    atoms_of[atoms.group[::-1]] = position[::-1]
    label, sign, stretch = np.full(width, -1, dtype=np.int64), np.ones(width, dtype=np.int64), np.ones(width)
    share = np.zeros((width, m))
    label[rows], sign[rows] = atoms_of[group], np.where(flipped, -1, 1)
    stretch[rows], share[rows] = section.stretch, kappa * length[:, None]
    canonical = built(
        network,
        atoms.outer[order],
        atoms.value[order, :-1],
        atoms.value[order, -1],
        remainder,
        place[order, :-1],
        place[order, -1],
    )
    kept, cancelled = atoms.group.size, int(heads.size - np.unique(atoms.group).size)
    return Quotient(
        source=network,
        network=canonical,
        inactive={"zero_outer": int(silent.sum()), "constant": int(constant.sum())},
        flips=int(flipped.sum()),
        merged=int(rows.size - kept - cancelled),
        cancelled=cancelled,
        merge_error=error,
        rounding=rounding(network),
        label=label,
        sign=sign,
        stretch=stretch,
        share=share,
        carrier=rows[atoms.carrier][order],
        unique=atoms.separated and activation.kind in ("atoms", "matrix") and activation.name != "relu2",
    )


@dataclass(frozen=True, eq=False)
class _Values:
    """Atoms of all gates: ``outer`` (n, m), ``value`` (n, d+1) of length 1, ``group`` their gate, ``carrier`` one of
    its members; ``dropped`` what each gate lost."""

    outer: Array
    value: Array
    group: Integers
    carrier: Integers
    dropped: Array
    separated: bool


def _values(kappa: Array, value: Array, group: Integers, count: int) -> _Values:
    """M = Σ κ_i y_iᵀ of every gate as rank-many atoms."""
    length = np.linalg.norm(value, axis=1)
    # a value of length 1 keeps its bits, which makes the canonical form idempotent
    length = np.where(np.abs(length - 1.0) <= 8 * UNIT, 1.0, length)
    unit, weighted = value / np.where(length > 0, length, 1.0)[:, None], kappa * length[:, None]
    side = direction_sign(unit)
    unit, weighted = unit * side[:, None], weighted * side[:, None]
    members = np.bincount(group, minlength=count)
    heard = np.max(np.abs(weighted), axis=1, initial=0.0) > SILENT
    alone = np.flatnonzero((members[group] == 1) & heard)
    outers, values, groups, carriers = [weighted[alone]], [unit[alone]], [group[alone]], [alone]
    dropped, separated = np.zeros(count), True
    np.add.at(dropped, group[~heard], np.sum(np.abs(weighted[~heard]), axis=1))
    order = np.argsort(group, kind="stable")
    order = order[members[group[order]] > 1]
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if order.size else []:
        rows = rows[heard[rows]]
        if not rows.size:
            continue
        outer, own, lost, distinct = _decomposed(weighted[rows], unit[rows])
        separated &= distinct
        dropped[group[rows[0]]] += lost
        outers.append(outer)
        values.append(own)
        groups.append(np.full(outer.shape[0], group[rows[0]]))
        carriers.append(rows[: outer.shape[0]])
    return _Values(
        np.concatenate(outers),
        np.concatenate(values),
        np.concatenate(groups).astype(np.int64),
        np.concatenate(carriers).astype(np.int64),
        dropped,
        separated,
    )


def _decomposed(kappa: Array, unit: Array) -> tuple[Array, Array, float, bool]:
    """(s_r a_r, y_r, what was dropped, whether singular values are distinct) of M = Σ κ_i y_iᵀ, from thin factors."""
    mass = float(np.linalg.norm(kappa, axis=1).sum())
    q, r = np.linalg.qr(kappa.T)
    p, t = np.linalg.qr(unit.T)
    left, size, right = np.linalg.svd(r @ t.T, full_matrices=False)
    kept = size > max(MERGE_ULPS * UNIT * mass, SILENT)
    values = right[kept] @ p.T
    side = direction_sign(values).astype(np.float64)
    gaps = np.abs(np.diff(size[kept]))
    distinct = not gaps.size or float(gaps.min()) > _SEPARATED * float(size[0])
    outer = (q @ left[:, kept]).T * size[kept, None]
    lost = float(np.sum(size[~kept]))
    return outer * side[:, None], values * side[:, None], lost, distinct
