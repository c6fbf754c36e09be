"""The lower curve L(S): no network of S atoms comes closer than L(S) in L²(N(m, Σ)), affine part free.

That holds for every σ: an atom of any activation has tensors c_k ŵ^{⊗k}, so nothing of the proof asks for independent
atoms, bounded slopes or flips of a kind.  Which degrees are free is :func:`~sparsemf.measures.gaussian.free_degree`.
Saturating ramps telescope and polynomials of few inputs are sums of fewer atoms than planted: then L(S) is small or 0
where S is that smaller number, as it must be.

Any partition of the degrees beyond the free ones into groups, each flattened with a p of its own, gives a bound:
‖f − g‖² ≥ Σ_groups Σ_{j > S} σ_j(M_group)².  For one p, stacking more degrees into a group only helps (a best
approximation of rank S of the stack restricts to one of each part), so a partition is told by which p serves which
degrees.  Two families are tried for each p_max: *all* degrees from p_max on with p_max, and *halves*,
p(k) = min(p_max, ⌊k/2⌋), where the flattening of every degree is as square, and its rank as large, as p_max allows;
L(S) is the best at each S.

Where the linear part is charged (``free`` = 0), or the constant too (``free`` = −1), the degrees 1 (and 0) take part.
Any partition of the degrees from 1 on is one of the above; degree 0 is a group of its own (p = 0, outputs in the rows),
and for each partition the low degrees are also tried apart, as one group with p = 0 and the outputs in the rows: the
spectrum of T_1 as an m × d matrix (of [T_0, T_1]), which for a block with a full-rank linear part is long where the
other degrees' is short.

*Kinks.*  For relu, leaky_relu and abs the curve of :mod:`~sparsemf.identifiability.kink_search` is taken where it says
more: it tells atoms on one direction apart, for one output too.  It uses degrees ≥ 2 alone, so it holds where affine
functions are free and where they are charged; beside free quadratic polynomials it is not used.

Gated networks: degrees ≤ 2 are free unless they are charged, and S atoms have rank 2S
(:mod:`~sparsemf.identifiability.gated_flattenings`); with A and c charged, these are constant gates there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.identifiability import gated_flattenings
from sparsemf.identifiability.flattenings import Flattening, Spectrum, description_error, feature_count, spectrum
from sparsemf.identifiability.kink_matrices import KinkMatrix
from sparsemf.identifiability.kink_search import KinkCurve, kink_curve
from sparsemf.measures import Network
from sparsemf.measures.gaussian import free_degree

Array = NDArray[np.float64]

_MOST_IMPLICIT = 4096
_HIGHEST = 128
_MANY = 600
"""Beyond this many neurons the *halves* are not tried: on real blocks they are weaker, and each costs n³."""


@dataclass(frozen=True, eq=False)
class LowerCurve:
    """``atoms[S]`` and ``directions[S]``: certified lower bounds of ‖f − g‖ over S-atom (S-direction) networks g.

    Counting atoms, both kinds of flattening apply; counting directions, only those with the outputs in the
    columns (of a gated atom: the line of its gate with the line of its factor across it).  ``groups[S]`` names the
    flattenings whose tails were added at S.  ``degree`` is the truncation K, ``error`` what separates the function
    that the ``spectra`` belong to from the network's (taken off the curves already).  ``kinks``: the curve of kink
    matrices, None where the activation has no kink or more than one; ``by_kinks[S]``: whether ``atoms[S]`` is theirs.
    """

    atoms: Array
    directions: Array
    groups: list[tuple[Flattening, ...]]
    spectra: list[Spectrum]
    degree: int
    error: float = 0.0
    kinks: KinkCurve | None = None

    @property
    def by_kinks(self) -> NDArray[np.bool_]:
        """Where ``atoms`` is the kink matrices' bound."""
        if self.kinks is None:
            return np.zeros(self.atoms.size, dtype=bool)
        return (self.kinks.lower >= self.atoms) & (self.kinks.lower > 0)

    @property
    def kink_matrices(self) -> list[KinkMatrix]:
        """The matrices that prove ``atoms`` somewhere."""
        if self.kinks is None:
            return []
        return [self.kinks.matrices[i] for i in np.unique(self.kinks.by[self.by_kinks])]


Partition = tuple[Flattening, ...]
"""Flattenings of disjoint intervals of degrees."""


def partitions(free: int, degree: int, p: int, rows: bool, halves: bool = True) -> list[Partition]:
    """The partitions of the degrees free + 1 … degree (from 1 on at least) that are tried for the largest order
    ``p``."""
    first = max(free, 0) + 1
    families = [lambda k: p if k >= p else max(k // 2, 1), lambda k: min(p, max(k // 2, 1))]
    found = []
    for order in families[: 1 + halves]:
        groups: list[Flattening] = []
        for k in range(first, degree + 1):
            own = 0 if p == 0 else min(order(k), k)
            if groups and groups[-1].p == own:
                groups[-1] = Flattening(own, groups[-1].low, k, rows)
            else:
                groups.append(Flattening(own, k, k, rows))
        if tuple(groups) not in found:
            found.append(tuple(groups))
    return found


def with_low_degrees(free: int, partition: Partition) -> list[Partition]:
    """A partition of the degrees from 1 on, as it counts atoms where degree 1 (and degree 0) is charged: degree 0 as a
    group of its own, and the degrees ≤ 1 apart with the outputs in the rows."""
    first, *rest = partition
    whole = (Flattening(0, 0, 0, True), *partition) if free < 0 else partition
    apart = Flattening(0, free + 1, 1, True)
    if first.p == 0:
        return [whole] if free == 0 else [(Flattening(0, 0, first.high, True), *rest)]
    above = [] if first.high == 1 else [Flattening(first.p, 2, first.high, first.outputs_in_rows)]
    found: list[Partition] = [whole]
    # for one output the p = 0 rows are a single one; for degree 1 alone the two matrices are each other's transposes
    if free < 0 or first.high > 1:
        found.append((apart, *above, *rest))
    return found


def lower_curve(
    network: Network, degree: int | None = None, orders: tuple[int, ...] | None = None, free: int | None = None
) -> LowerCurve:
    """L(S) for S = 0 … n of a canonical whitened network.

    ``orders`` are the largest p to try (default 1 … 4, fewer for wide networks and more for gated ones of few
    inputs; with several outputs also p = 0 … 2 with the outputs in the rows), ``degree`` is the truncation K
    (default 40 for n ≤ 600, else 20; for exp as r² asks for, for polynomial σ at most theirs), ``free`` the degree
    up to which polynomials are free beside the atoms (default :func:`free_degree`; a canonical form may have lost a
    quadratic part that vanished; 0 and −1 charge the linear part, and the constant).  Raises ValueError where the
    network has a quadratic part and degree 2 is not free.
    """
    n, gated = network.width, network.gated
    free = free_degree(network) if free is None else free
    if network.quadratic is not None and free < 2:
        raise ValueError("expected a network without a quadratic part where degree 2 is not free")
    degree = degree or _default_degree(network)
    degree = min(degree, network.activation.polynomial_degree or degree) if not gated else degree
    orders = orders or (_gated_orders(n, network.d) if gated else _default_orders(n, network.d))
    zero = np.zeros(n + 1)
    if n == 0 and not (free < 1 and network.affine.any()) and not (free < 0 and network.offset.any()):
        return LowerCurve(zero, zero, [()], [], degree)
    known: dict[Flattening, Spectrum] = {}

    def tails(partition: Partition) -> Array:
        total = np.zeros(n + 1)
        for flattening in partition:
            if flattening not in known:
                found = gated_flattenings.gated_spectrum if gated else spectrum
                known[flattening] = found(network, flattening)
            rank = gated_flattenings.rows_per_atom(flattening) if gated else 1
            total = total + known[flattening].tails(rank * n)[::rank]
        return total

    curves: dict[bool, Array] = {False: zero, True: zero}
    names: dict[bool, list[Partition]] = {False: [()] * (n + 1), True: [()] * (n + 1)}

    def offer(partition: Partition, rows: bool) -> None:
        found = tails(partition)
        names[rows] = [partition if x > y else g for x, y, g in zip(found, curves[rows], names[rows], strict=True)]
        curves[rows] = np.maximum(curves[rows], found)

    for rows in (False, True) if network.m > 1 else (False,):  # for one output the two kinds coincide
        for p in _row_orders(orders, n, (1 + gated) * n, network.d * network.m) if rows else orders:
            for partition in partitions(free, degree, p, rows, n <= _MANY):
                offer(partition, rows)
                for other in with_low_degrees(free, partition) if free < 1 else ():
                    offer(other, True)
    lost = (gated_flattenings.gated_description_error if gated else description_error)(network, degree)

    def curve(squares: Array) -> Array:
        return np.maximum(np.sqrt(np.minimum.accumulate(squares)) * (1 - 1e-14) - lost, 0.0)

    better = curves[True] > curves[False]
    atoms = curve(np.maximum(curves[False], curves[True]))
    kinks = kink_curve(network, atoms) if free < 2 else None
    return LowerCurve(
        atoms=atoms if kinks is None else np.maximum(atoms, kinks.lower),
        directions=curve(curves[False]),
        groups=[r if b else c for b, r, c in zip(better, names[True], names[False], strict=True)],
        spectra=list(known.values()),
        degree=degree,
        error=lost,
        kinks=kinks,
    )


def _default_degree(network: Network) -> int:
    """40 for n ≤ 600, else 20.  exp: c_k² is a Poisson law of mean r² in k, so up to 128 where r² asks for it."""
    usual = 40 if network.width <= _MANY else 20
    if network.gated or network.activation.name != "exp":
        return usual
    square = float(np.max(np.sum(network.inner**2, axis=1), initial=0.0))
    return int(np.clip(square + 6 * np.sqrt(square), usual, _HIGHEST))


def _default_orders(n: int, d: int) -> tuple[int, ...]:
    """p = 1 … 4 for up to 600 atoms; beyond, p ≤ 2 and those whose row space C(d+p−1, p) is smaller than n; for
    more than 4096 atoms p ≤ 2 with a small row space."""
    if n <= _MANY:
        return (1, 2, 3, 4)
    if n > _MOST_IMPLICIT:
        return tuple(p for p in (1, 2) if feature_count(d, p) <= 2048)
    return tuple(p for p in (1, 2, 3, 4) if (p <= 2 and n <= _MOST_IMPLICIT) or feature_count(d, p) <= min(n, 2048))


def _gated_orders(n: int, d: int) -> tuple[int, ...]:
    """As :func:`_default_orders` for the 2n rows of n atoms; p up to 8 where so few inputs need it for rank 2n."""
    if 2 * n > _MANY:
        return _default_orders(2 * n, d)
    return (1, 2, 3, 4, *(p for p in (6, 8) if feature_count(d, 4) < 2 * n and feature_count(d, p) <= 256))


def _row_orders(orders: tuple[int, ...], n: int, rows: int, features: int) -> tuple[int, ...]:
    """With the outputs in the rows p = 0 counts too; p = 1 where the d·m features of the ``rows``, or the rows
    themselves, are few enough; p = 2 gains little and is tried where it is cheap."""
    small = min(rows, features) <= _MOST_IMPLICIT
    return tuple(p for p in (0, 1, 2) if p == 0 or (p in orders and (small if p == 1 else n <= _MANY)))
