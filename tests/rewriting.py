"""Exactly rewritten networks: the same function with more neurons, nothing rounded."""

from __future__ import annotations

import numpy as np

from cases import Array
from sparsemf.measures import Network

RAMPS = {"hardtanh": (-1.0, 1.0), "hard_sigmoid": (-3.0, 3.0), "relu6": (0.0, 6.0)}


def rewritten(rng: np.random.Generator, net: Network) -> Network:
    """Shares 5 − 7 + 3 of every neuron, flipped, scaled by powers of two, halved by the telescoping identity."""
    relation, degree = net.activation.relation, net.activation.homogeneous or 0
    rows: list[tuple[Array, Array, float]] = [(np.zeros(net.m), np.ones(net.d), 0.0)]
    for a, w, b in zip(net.outer, net.inner, net.bias, strict=True):
        for share in (5 * a, -7 * a, 3 * a):
            t = 2.0 ** int(rng.integers(-8, 9)) if degree else 1.0
            side = -1.0 if relation is not None and rng.random() < 0.5 else 1.0
            sign = relation.sign if relation is not None and side < 0 else 1
            own = sign * share / t**degree, side * t * w, float(side * t * b)
            if net.activation.name in RAMPS and w.any():
                # σ(z) = ½[σ(2z − l) + σ(2z − h)] but for a constant
                rows += [(0.5 * own[0], 2 * own[1], 2 * own[2] - end) for end in RAMPS[net.activation.name]]
            else:
                rows.append(own)
    order = rng.permutation(len(rows))
    outer, inner, bias = (np.array([rows[i][k] for i in order]) for k in range(3))
    return net.with_(outer=outer, inner=inner, bias=bias)
