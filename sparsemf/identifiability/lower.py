"""The lower curve L(S): no network of S atoms comes closer than L(S) in L²(N(m, Σ)), affine part free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.identifiability.flattenings import Flattening, Spectrum, Trace, feature_count, spectrum, trace
from sparsemf.measures import Network

Array = NDArray[np.float64]

_MOST_IMPLICIT = 4096
FREE_DEGREE = 1
"""Degrees up to this one are free (the affine part)."""


@dataclass(frozen=True, eq=False)
class LowerCurve:
    """``atoms[S]`` and ``directions[S]``: certified lower bounds of ‖f − g‖ over S-atom (S-direction) networks g.

    Counting atoms, both kinds of flattening apply; counting directions, only those with the outputs in the
    columns.  ``groups[S]`` names the flattenings whose tails were added at S.  ``degree`` is the truncation K.
    """

    atoms: Array
    directions: Array
    groups: list[tuple[Flattening, ...]]
    spectra: list[Spectrum]
    degree: int


def lower_curve(network: Network, degree: int | None = None, orders: tuple[int, ...] | None = None) -> LowerCurve:
    """L(S) for S = 0 … n of a canonical whitened network.

    For each p the interval [max(2, p), K] is flattened with p row indices; the degrees 2 … p − 1 that p leaves out
    are added as groups of their own with smaller p.  L(S)² is the largest such sum.  ``orders`` are the p to try
    (default 1 … 4, fewer for wide networks), ``degree`` is K (default 40 for n ≤ 600, else 20).
    """
    n = network.width
    degree = degree or (40 if n <= 600 else 20)
    orders = orders or _default_orders(n, network.d)
    zero = np.zeros(n + 1)
    if n == 0:
        return LowerCurve(zero, zero, [()], [], degree)
    spectra: list[Spectrum] = []

    traces: dict[tuple[int, int], Trace] = {}

    def curve(p: int, low: int, high: int, rows: bool) -> tuple[Array, Spectrum]:
        if (low, high) not in traces:
            traces[low, high] = trace(network, low, high)
        found = spectrum(network, Flattening(p, low, high, rows), traces[low, high])
        spectra.append(found)
        return found.tails(n), found

    best: dict[bool, tuple[Array, list[tuple[Flattening, ...]]]] = {
        False: (zero, [()] * (n + 1)),
        True: (zero, [()] * (n + 1)),
    }
    for rows in (False, True):
        if rows and network.m == 1:
            continue  # the two kinds coincide
        for p in orders if not rows else _row_orders(orders, n):
            low = max(FREE_DEGREE + 1, p)
            tails, main = curve(p, low, degree, rows)
            groups: list[Flattening] = [main.flattening]
            # the degrees below p, best flattened in half
            for k in range(FREE_DEGREE + 1, low):
                extra, found = curve(max(1, k // 2), k, k, rows)
                tails = tails + extra
                groups.append(found.flattening)
            current, names = best[rows]
            better = tails > current
            best[rows] = (
                np.where(better, tails, current),
                [tuple(groups) if b else g for b, g in zip(better, names, strict=True)],
            )
    directions, direction_groups = best[False]
    rowwise, row_groups = best[True]
    atoms = np.maximum(directions, rowwise)
    return LowerCurve(
        atoms=np.sqrt(np.minimum.accumulate(atoms)),
        directions=np.sqrt(np.minimum.accumulate(directions)),
        groups=[
            r if w > c else g for r, g, w, c in zip(row_groups, direction_groups, rowwise, directions, strict=True)
        ],
        spectra=spectra,
        degree=degree,
    )


def _default_orders(n: int, d: int) -> tuple[int, ...]:
    """p = 1 … 4 for up to 600 atoms; beyond, p ≤ 2 and those whose row space C(d+p−1, p) is smaller than n; for
    more than 4096 atoms p ≤ 2 with a small row space."""
    if n <= 600:
        return (1, 2, 3, 4)
    if n > _MOST_IMPLICIT:
        return tuple(p for p in (1, 2) if feature_count(d, p) <= 2048)
    return tuple(p for p in (1, 2, 3, 4) if (p <= 2 and n <= _MOST_IMPLICIT) or feature_count(d, p) <= min(n, 2048))


def _row_orders(orders: tuple[int, ...], n: int) -> tuple[int, ...]:
    """With the outputs in the rows p = 0 counts too; p = 2 gains little and is tried where it is cheap."""
    return tuple(p for p in (0, 1, 2) if p == 0 or (p in orders and (p == 1 or n <= 600)))
