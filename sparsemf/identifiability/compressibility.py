"""How well few atoms can do, from the sizes of coefficients alone: Maurey, thresholding, Stechkin.

Write f = Σ_i κ_i ψ_i + affine with ‖ψ_i‖_⊥ = 1 (⊥: affine part removed), κ_i = α_i‖φ_i‖_⊥ ∈ R^m, sorted by ‖κ_i‖
descending, and B = Σ‖κ_i‖, which is at least the variation norm of f over normalised atoms.  Each curve below bounds
the distance from f to some network of at most n of its *own* atoms from above, so each is a **certificate** for S*: if
a curve is ≤ ε at n, then S*(ε) ≤ n.  All of them are invariant under rotations of inputs and outputs and under
splitting or merging of neurons once these are merged.

*Thresholding.*  Keep the n largest: ‖f − f_n‖ ≤ Σ_{j>n} ‖κ_j‖.  So the number of coefficients above λ, with the sum of
the others as ε, is a coefficient-threshold number that does bound S* from above.

*Maurey* (Pisier 1981; Barron, IEEE Trans. Inf. Theory 39 (1993), Lemma 1).  Draw i with probability ‖κ_i‖/B and put
Z = B(κ_i/‖κ_i‖)ψ_i: E Z = f_⊥ and ‖Z‖ = B, so the mean of n independent draws has E‖f_⊥ − mean‖² = (B² − ‖f‖²_⊥)/n, and
some draw does at least as well.

*Both.*  Keep the s largest exactly and draw n − s for the rest, whose mass is B_s = Σ_{j>s} ‖κ_j‖:
‖f − f_n‖ ≤ B_s/√(n − s) for every s < n; the smallest of these, of Maurey's and of the thresholding bound.

*Stechkin* (e.g. Foucart & Rauhut, *A Mathematical Introduction to Compressive Sensing* (2013), Prop. 2.3).  For p < q,
σ_n(β)_q = (Σ_{j>n} β*_j^q)^{1/q} ≤ (n + 1)^{−(1/p−1/q)}‖β‖_p: β*_j^p ≤ ‖β‖_p^p/(n + 1) for j > n, hence σ_n^q ≤
(β*_{n+1})^{q−p} Σ_j β*_j^p.  With β = (‖κ_i‖) and q = 1 it bounds the thresholding curve; with β the Hermite
coefficients and q = 2 it bounds the best n-term Hermite approximation, which is **not** a number of atoms
(:func:`stechkin_curve` takes either).

Every number is rounded up: sums by :func:`math.fsum`, products widened by stated multiples of the unit roundoff.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemf.measures import Atoms, Network
from sparsemf.measures.gaussian import ENTRY_ULPS, UNIT, energy_beyond_affine

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

EXPONENTS = (0.25, 0.5, 2.0 / 3.0, 1.0, 4.0 / 3.0, 1.6)
"""The p that are tried in Stechkin's inequality (those below q)."""

_WIDER = 1 + 16 * UNIT
_LISTED = 64


@dataclass(frozen=True, eq=False)
class Compressibility:
    """Certified upper bounds of the best error with ``sizes[j]`` atoms, absolute in L²(ρ), ‖·‖_⊥ and so ‖·‖ with the
    best affine part.

    ``maurey``, ``thresholding`` and ``stechkin`` are the single bounds, ``best`` the smallest of all that are proved
    (Maurey on what thresholding leaves included), ``exponent`` the p that Stechkin's bound used.  ``mass`` ≥ B ≥
    variation norm; ``energy`` ≤ ‖f‖²_⊥; ``kappa`` the coefficients' sizes, descending, rounded up.
    """

    sizes: Integers
    maurey: Array
    thresholding: Array
    stechkin: Array
    exponent: Array
    best: Array
    kappa: Array
    mass: float
    energy: float
    floor: float

    def size_for(self, eps: float) -> int | None:
        """An upper bound of S*(eps), the least listed size at which ``best`` is ≤ eps; None where none is."""
        reached = np.flatnonzero(self.best <= eps)
        return int(self.sizes[reached[0]]) if reached.size else None

    def above(self, threshold: float) -> tuple[int, float]:
        """(N, ε): N coefficients exceed ``threshold``, the others sum to at most ε, hence S*(ε) ≤ N (certificate)."""
        count = int(np.sum(self.kappa > threshold))
        return count, _total(self.kappa[count:]) + self.floor


def compressibility(
    alpha: ArrayLike, length: ArrayLike, energy: float = 0.0, floor: float = 0.0, sizes: ArrayLike | None = None
) -> Compressibility:
    """The curves of f = Σ_i α_i φ_i + affine.

    Parameters
    ----------
    alpha : (n, m) coefficients
    length : (n,) upper bounds of ‖φ_i‖_⊥ in L²(ρ), any law
    energy : a lower bound of ‖f‖²_⊥
    floor : a bound of the distance between this f and the one meant; added to every curve
    sizes : ascending sizes ≥ 0 to list; default 0 … 64, then log-spaced up to n

    Raises ValueError for shapes that do not fit and for negative or non-finite lengths, energy or floor.
    """
    alpha, length = np.asarray(alpha, dtype=np.float64), np.asarray(length, dtype=np.float64)
    if alpha.ndim != 2 or length.shape != alpha.shape[:1]:
        raise ValueError(f"expected alpha (n, m) and length (n,), got {alpha.shape} and {length.shape}")
    if not (np.isfinite(length).all() and (length >= 0).all() and energy >= 0 and floor >= 0):
        raise ValueError("expected finite lengths, energy and floor, none of them negative")
    widening = 1 + (alpha.shape[1] + 8) * UNIT
    kappa = np.sort(np.linalg.norm(alpha, axis=1) * length * widening)[::-1]
    n = kappa.size
    listed = default_sizes(n) if sizes is None else np.asarray(sizes, dtype=np.int64)
    mass = _total(kappa)
    rest = _remaining(kappa)
    thresholding = rest[np.minimum(listed, n)]
    maurey = _maurey(mass, energy, listed)
    stechkin, exponent = stechkin_curve(kappa, 1.0, listed)
    best = np.minimum(np.minimum(maurey, thresholding), _split(rest, listed))
    best = np.minimum.accumulate(best) if best.size else best
    return Compressibility(
        sizes=listed,
        maurey=_plus(maurey, floor),
        thresholding=_plus(thresholding, floor),
        stechkin=_plus(stechkin, floor),
        exponent=exponent,
        best=_plus(best, floor),
        kappa=kappa,
        mass=mass,
        energy=energy,
        floor=floor,
    )


def network_compressibility(network: Network, floor: float = 0.0, sizes: ArrayLike | None = None) -> Compressibility:
    """:func:`compressibility` of a whitened network (merge equal neurons first: B is that of the neurons given)."""
    atoms = Atoms.of(network)
    energy = energy_beyond_affine(atoms, network.alpha)
    return compressibility(network.alpha, lengths_beyond_affine(atoms), energy.lower, floor, sizes)


def lengths_beyond_affine(atoms: Atoms) -> Array:
    """Upper bounds of ‖φ_i‖_⊥ = (E σ² − c₀² − c₁²)^{1/2} under N(0, I), shape (n,).

    Stated margin, inside the root: 4·ENTRY_ULPS·UNIT·scale², the errors of the three terms and of their difference.
    """
    low = atoms.hermite(1)
    rest = atoms.second_moment - low[:, 0] ** 2 - low[:, 1] ** 2
    return np.sqrt(np.maximum(rest, 0.0) + 4 * ENTRY_ULPS * UNIT * atoms.scale**2) * _WIDER


def stechkin_curve(values: ArrayLike, q: float, sizes: ArrayLike) -> tuple[Array, Array]:
    """Stechkin's bound of σ_n(β)_q for n in ``sizes``, the smallest over p in :data:`EXPONENTS` below q, and that p.

    ``values`` are |β_j| in any order, taken as exact.  Raises ValueError for q outside (min p, 2].
    """
    beta = np.abs(np.asarray(values, dtype=np.float64).ravel())
    usable = [p for p in EXPONENTS if p < q]
    if not usable or q > 2.0:
        raise ValueError(f"expected q in ({EXPONENTS[0]}, 2], got {q}")
    listed = np.asarray(sizes, dtype=np.int64)
    top = float(beta.max(initial=0.0))
    if top == 0.0:
        return np.zeros(listed.size), np.full(listed.size, usable[-1])
    curves = []
    for p in usable:
        # powers are within a few units in the last place, and so is the root: each carries 1/p of them
        norm = _total((beta / top) ** p) ** (1 / p) * top * (1 + (64 + 64 / p) * UNIT)
        curves.append(norm * (listed + 1.0) ** -(1 / p - 1 / q) * (1 + (64 + 64 / p) * UNIT))
    stacked = np.stack(curves)
    chosen = np.argmin(stacked, axis=0)
    return stacked[chosen, np.arange(listed.size)], np.array(usable)[chosen]


def default_sizes(n: int) -> Integers:
    """0 … min(n, 64), then log-spaced up to n."""
    if n <= _LISTED:
        return np.arange(n + 1)
    return np.unique(np.concatenate([np.arange(_LISTED + 1), np.geomspace(_LISTED, n, 40).astype(np.int64), [n]]))


def _total(values: Array) -> float:
    """Σ of non-negative numbers, rounded up (fsum rounds once)."""
    return math.fsum(values.tolist()) * (1 + 2 * UNIT)


def _remaining(kappa: Array) -> Array:
    """B_s = Σ_{j>s} ‖κ_j‖ for s = 0 … n, rounded up: a running sum of at most n terms from the small end."""
    tail = np.concatenate([np.cumsum(kappa[::-1])[::-1], [0.0]])
    return tail * (1 + (kappa.size + 4) * UNIT)


def _maurey(mass: float, energy: float, sizes: Integers) -> Array:
    """√((B² − ‖f‖²)/n), and B ≥ ‖f‖_⊥ for n = 0."""
    square = mass * mass * _WIDER - energy
    spread = max(square, 0.0) + 4 * UNIT * mass * mass
    out = np.sqrt(spread / np.maximum(sizes, 1)) * _WIDER
    return np.where(sizes == 0, mass, out)


def _split(rest: Array, sizes: Integers) -> Array:
    """min over s < n of B_s/√(n − s), for every n in ``sizes``."""
    out = np.empty(sizes.size)
    for row, n in enumerate(sizes.tolist()):
        kept = np.arange(min(n, rest.size))
        out[row] = float(np.min(rest[kept] / np.sqrt(n - kept), initial=np.inf)) * _WIDER
    return out


def _plus(curve: Array, floor: float) -> Array:
    return (curve + floor) * (1 + 2 * UNIT) if floor else curve
