"""S* of sin, cos and exp networks at ε = 0 in exact arithmetic: phases and rates are rational, so e^{ib} and e^b obey
the Lindemann–Weierstrass theorem: for distinct algebraic β_j the numbers e^{β_j} are linearly independent over the
algebraic numbers.

*sin, cos.*  The characters e^{i⟨w, x⟩} of distinct w are linearly independent, also of polynomials.  Atoms that share
±w ≠ 0 add up to Re or Im of e^{i⟨w, x⟩}·v, v = Σ_j α_j e^{ib_j} ∈ C^m with distinct b_j after merging, and an atom
of that frequency has v = a·e^{iφ}, a real.  So S* = Σ over frequencies of the real rank of [Re v, Im v]: 0 exactly when
all α_j = 0, and 1 exactly when v is a real vector times a number, i.e. for one output, or when

    Im(v_p·conj v_q) = Σ_{j<k} (α_jp α_kq − α_kp α_jq)·sin(b_j − b_k) = 0   for all outputs p, q,

which by independence of the sines of distinct positive rationals is a statement about rational sums.

*exp.*  Atoms that share w ≠ 0 are one, e^{⟨w, x⟩}·Σ_j α_j e^{b_j}, and it vanishes exactly when all α_j do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.exact_groups import equal_rows, heard
from sparsemf.certificates.exact_numbers import integers, lines_rank
from sparsemf.measures import Network

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_MOST_PAIRS = 200_000


@dataclass(frozen=True)
class WaveCount:
    """``lower`` ≤ S* ≤ ``upper``; ``frequencies`` distinct ±w (exp: w) that do not cancel."""

    lower: int
    upper: int
    frequencies: int


def wave_count(network: Network) -> WaveCount:
    """S* of a sin, cos or exp network."""
    rows = np.flatnonzero(network.outer.any(axis=1) & network.inner.any(axis=1))
    outer, inner, bias = network.outer[rows], network.inner[rows], network.bias[rows]
    oscillates = network.activation.name != "exp"
    groups = equal_rows(inner, flips=oscillates)
    side = groups.side.astype(np.float64) if oscillates else np.ones(rows.size)
    phase, parity = side * bias, side if network.activation.name == "sin" else np.ones(rows.size)
    lower = upper = frequencies = 0
    for members in groups.members:
        own, shift = parity[members, None] * outer[members], phase[members]
        if members.size > 1:
            same = equal_rows(shift[:, None], flips=False)
            merged = heard(same, own, 0, 0)
            ends = (1, 1) if merged and not oscillates else _rank(own, shift, merged)
        else:
            ends = (1, 1)
        lower, upper, frequencies = lower + ends[0], upper + ends[1], frequencies + (ends[1] > 0)
    return WaveCount(lower, upper, frequencies)


def _rank(outer: Array, phase: Array, merged: list[Integers]) -> tuple[int, int]:
    """Bounds of the rank of [Re v, Im v] for v = Σ α_j e^{ib_j}, merged by equal phases."""
    if not merged:
        return 0, 0
    m = outer.shape[1]
    if m == 1 or len(merged) == 1:
        return 1, 1
    if lines_rank(outer) == 1:
        return 1, 1
    if len(merged) ** 2 * m > _MOST_PAIRS:
        return 1, 2
    whole, _ = integers(outer)
    angle, _ = integers(phase)
    alpha = [[sum(int(whole[i, p]) for i in members) for p in range(m)] for members in merged]
    turn = [int(angle[members[0]]) for members in merged]
    # v_p ≠ 0 for this output, so all others are compared with it
    p = next(q for q in range(m) if any(row[q] for row in alpha))
    for q in range(m):
        sines: dict[int, int] = {}
        for j in range(len(turn)):
            for k in range(j):
                minor = alpha[j][p] * alpha[k][q] - alpha[k][p] * alpha[j][q]
                difference = turn[j] - turn[k]
                sign = 1 if difference > 0 else -1
                sines[abs(difference)] = sines.get(abs(difference), 0) + sign * minor
        if any(sines.values()):
            return 2, 2
    return 1, 1
