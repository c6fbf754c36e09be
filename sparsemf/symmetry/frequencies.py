"""sin and cos: the quotient is a measure on frequencies ±w with values in R^{m×2} (coefficients of sine and cosine).

a sin(z + b) = a cos b·sin z + a sin b·cos z, so all atoms that share ±w add up to one matrix C = [sine, cosine], and
the least number of atoms for it is its rank:

- rank 1: one atom, C = κ (cos φ, sin φ) as κ·sin(z + φ) with φ ∈ [0, π), for cos likewise;
- rank 2 (several outputs only): sine and cosine apart, phases 0 and π/2 (for cos 0 and −π/2).

A second singular value below rounding counts as 0 and is charged to the error.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Network
from sparsemf.measures.gaussian import UNIT
from sparsemf.symmetry.canonical import (
    MERGE_ULPS,
    SILENT,
    Quotient,
    Remainder,
    built,
    direction_sign,
    functional,
    rounding,
    still,
)
from sparsemf.symmetry.metric import leaders, waves

Array = NDArray[np.float64]

_WORST_PHASE = 1e-9
"""Rounding of a phase b, |b|·UNIT, is forgiven up to this: larger biases are what they are."""


def frequency_quotient(network: Network) -> Quotient:
    """The canonical form of a sin or cos network; at most as many atoms as active neurons."""
    width, m = network.width, network.m
    silent = ~network.alpha.any(axis=1)
    constant = ~silent & still(network, network.inner, network.bias)
    remainder = Remainder(network)
    remainder.offset += network.alpha[constant].T @ network.activation.value(network.bias[constant])
    rows = np.flatnonzero(~silent & ~constant)
    inner, bias, alpha = network.inner[rows], network.bias[rows], network.alpha[rows]
    lead, sign = leaders(inner, MERGE_ULPS * UNIT * np.linalg.norm(inner, axis=1), flips=True)
    side = sign * direction_sign(inner)[lead]
    sine, cosine = waves(network.with_(outer=network.outer[rows], inner=inner, bias=bias))
    sine = side[:, None] * sine
    heads, group = np.unique(lead, return_inverse=True)
    weight = np.linalg.norm(alpha, axis=1)
    error = float(weight @ np.linalg.norm(side[:, None] * inner - (side[lead][:, None] * inner[lead]), axis=1))
    error += float(np.sum(np.abs(network.alpha[constant]), axis=1) @ np.sum(np.abs(network.inner[constant]), axis=1))

    outer, points, phase, carrier = [], [], [], []
    label = np.full(width, -1, dtype=np.int64)
    order = np.argsort(group, kind="stable")
    turn, phases = principal_phases(side * bias)
    turn = turn * np.where(side < 0, _parity(network), 1)
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if rows.size else []
    noise = weight * np.maximum(UNIT, np.minimum(UNIT * (1 + np.abs(bias)), _WORST_PHASE / MERGE_ULPS))
    cancelled = 0
    for members in parts:
        head = heads[group[members[0]]]
        if members.size == 1:
            heard = np.max(np.abs(alpha[head])) > SILENT
            found = [(turn[head] * alpha[head], float(phases[head]))] if heard else []
            error += 0.0 if heard else float(np.sum(np.abs(alpha[head])))
            cancelled += not heard
        else:
            forgiven = MERGE_ULPS * float(noise[members].sum())
            found, dropped = _resolved(network, sine[members].sum(axis=0), cosine[members].sum(axis=0), forgiven)
            error += dropped
            cancelled += not found
        for k, (value, angle) in enumerate(found):
            if k == 0:
                label[rows[members]] = len(outer)
            outer.append(value)
            points.append(side[head] * inner[head])
            phase.append(angle)
            carrier.append(rows[members[k]])
    kept = len(outer)
    points, phase = np.array(points).reshape(kept, network.d), np.array(phase, dtype=np.float64)
    order = np.argsort(functional(np.concatenate([points, phase[:, None]], axis=1)), kind="stable")
    label[label >= 0] = np.argsort(order)[label[label >= 0]]
    signs, share = np.ones(width, dtype=np.int64), np.zeros((width, m))
    signs[rows], share[rows] = side, alpha
    return Quotient(
        source=network,
        network=built(network, np.array(outer).reshape(kept, m)[order], points[order], phase[order], remainder),
        inactive={"zero_outer": int(silent.sum()), "constant": int(constant.sum())},
        flips=int((side < 0).sum()),
        merged=int(rows.size - kept - cancelled),
        cancelled=cancelled,
        merge_error=error,
        rounding=rounding(network),
        label=label,
        sign=signs,
        stretch=np.ones(width),
        share=share,
        carrier=np.array(carrier, dtype=np.int64)[order],
    )


def _parity(network: Network) -> int:
    """σ(−z) = parity·σ(z)."""
    return -1 if network.activation.name == "sin" else 1


def principal_phases(bias: Array) -> tuple[Array, Array]:
    """(±1, φ) with σ(z + b) = ±σ(z + φ) and φ ∈ [0, π), elementwise, for sin and cos; b ∈ [0, π) keeps its bits."""
    angle = np.where((bias >= 0) & (bias < np.pi), bias, np.arctan2(np.sin(bias), np.cos(bias)))
    # a negative angle that is lost in π is 0, without the half turn
    angle = np.where((angle < 0) & (angle + np.pi >= np.pi), 0.0, angle)
    sign = np.where((angle < 0) | (angle >= np.pi), -1.0, 1.0)
    phase = np.where(angle < 0, angle + np.pi, angle)
    return sign, np.where(phase >= np.pi, 0.0, phase)


def _resolved(network: Network, sine: Array, cosine: Array, forgiven: float) -> tuple[list[tuple[Array, float]], float]:
    """Atoms (κ, φ) of C = [sine, cosine] and what was dropped; none where C vanishes to rounding."""
    left, size, right = np.linalg.svd(np.stack([sine, cosine], axis=1), full_matrices=False)
    if size[0] <= max(forgiven, SILENT):
        return [], float(np.abs(sine).sum() + np.abs(cosine).sum())
    of_sine = network.activation.name == "sin"
    if size.size == 1 or size[1] <= forgiven:
        first, second = right[0]
        # sin(z + φ) = cos φ sin z + sin φ cos z and cos(z + φ) = −sin φ sin z + cos φ cos z
        sign, phase = principal_phases(np.arctan2(second, first) if of_sine else np.arctan2(-first, second))
        return [(float(sign) * size[0] * left[:, 0], float(phase))], float(size[1]) if size.size > 1 else 0.0
    if of_sine:
        return [(sine, 0.0), (cosine, 0.5 * np.pi)], 0.0
    return [(cosine, 0.0), (sine, -0.5 * np.pi)], 0.0
