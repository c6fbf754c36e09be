"""Targets given by their Hermite coefficients: single-index and multi-index polynomials, sums of ridge functions.

f(x) = Σ_β v_β Π_i he_{β_i}(⟨e_i, x⟩) under N(0, I_d), e_1 … e_r orthonormal, β ∈ N^r, v_β ∈ R^m, he_k = He_k/√k!.
The products are orthonormal, so ‖f‖² = Σ‖v_β‖², and the tensor T_k has the entries

    T_k[i_1, …, i_k] = v_β·(β!/k!)^{1/2},  β the counts of the indices.

The flattening of T_k with p indices in the rows therefore has, in the orthonormal bases of symmetric tensors, the
entries v_{a+b}·(mult(a) mult(b)/mult(a + b))^{1/2}, |a| = p, |b| = k − p, mult(a) = |a|!/a!.  Its singular values do
not depend on the frame, and everything that :mod:`sparsemf.identifiability.threshold` proves from spectra holds for
*every* activation at once: a sum of S ridge functions of any kind has rank ≤ S.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import factorial, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemf.activations.quadrature import normalised_hermite
from sparsemf.identifiability.flattenings import Flattening, Spectrum, feature_count, symmetric_features
from sparsemf.identifiability.verified import ROUNDOFF, Eigenvalues
from sparsemf.measures import Atoms, Network
from sparsemf.measures.gaussian import ENTRY_ULPS, UNIT

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_MOST_INDICES = 60_000
_ORTHONORMAL = 1e-10


@dataclass(frozen=True, eq=False)
class HermiteTarget:
    """f by its coefficients: ``frame`` (r, d) orthonormal rows, ``indices`` (N, r) distinct, ``values`` (N, m).

    ``error`` bounds, in L²(N(0, I)), what the coefficients leave out (truncation) or have wrong (rounding).
    Raises ValueError for shapes that do not fit, a frame that is not orthonormal to 1e-10, negative or repeated
    indices.
    """

    frame: Array
    indices: Integers
    values: Array
    error: float = 0.0

    def __post_init__(self) -> None:
        frame, values = np.atleast_2d(np.asarray(self.frame, float)), np.asarray(self.values, float)
        indices = np.asarray(self.indices, dtype=np.int64)
        values = values[:, None] if values.ndim == 1 else values
        if indices.ndim != 2 or indices.shape[1] != frame.shape[0] or values.shape[:1] != indices.shape[:1]:
            shapes = f"{frame.shape}, {indices.shape}, {values.shape}"
            raise ValueError(f"expected frame (r, d), indices (N, r) and values (N, m), got {shapes}")
        if not np.allclose(frame @ frame.T, np.eye(frame.shape[0]), rtol=0, atol=_ORTHONORMAL):
            raise ValueError("frame: expected orthonormal rows")
        if (indices < 0).any() or np.unique(indices, axis=0).shape[0] != indices.shape[0]:
            raise ValueError("indices: expected distinct multi-indices without negative entries")
        if not (np.isfinite(values).all() and self.error >= 0):
            raise ValueError("values: expected finite numbers, and an error ≥ 0")
        for name, array in (("frame", frame), ("indices", indices), ("values", values)):
            object.__setattr__(self, name, array)

    @staticmethod
    def single_index(direction: ArrayLike, coefficients: ArrayLike, error: float = 0.0) -> HermiteTarget:
        """Σ_k γ_k he_k(⟨u, x⟩), u = direction/‖direction‖ (d,), γ (K + 1,) or (K + 1, m)."""
        u = np.asarray(direction, dtype=np.float64).ravel()
        gamma = np.asarray(coefficients, dtype=np.float64)
        return HermiteTarget(u[None, :] / np.linalg.norm(u), np.arange(gamma.shape[0])[:, None], gamma, error)

    @staticmethod
    def ridge_sum(directions: ArrayLike, coefficients: ArrayLike, error: float = 0.0) -> HermiteTarget:
        """Σ_j Σ_k γ_jk he_k(⟨u_j, x⟩) for any unit vectors u_j (n, d), γ (n, K + 1) or (n, K + 1, m).

        The frame is an orthonormal basis of their span.  Raises ValueError when there are more than 60 000
        multi-indices.
        """
        unit, gamma = np.atleast_2d(np.asarray(directions, float)), np.asarray(coefficients, dtype=np.float64)
        gamma = gamma[:, :, None] if gamma.ndim == 2 else gamma
        length = np.linalg.norm(unit, axis=1)
        if gamma.shape[0] != unit.shape[0] or (np.abs(length - 1) > _ORTHONORMAL).any():
            raise ValueError("expected unit directions (n, d) and coefficients (n, K + 1, m)")
        _, size, axes = np.linalg.svd(unit, full_matrices=False)
        frame = axes[: max(1, int(np.sum(size > 1e-12 * size.max(initial=0.0))))]
        degree, rank = gamma.shape[1] - 1, frame.shape[0]
        if not few_enough(rank, degree):
            raise ValueError(f"{feature_count(rank + 1, degree)} multi-indices are too many; lower the degree")
        local = unit @ frame.T
        values = [symmetric_features(local, k).T @ gamma[:, k] for k in range(degree + 1)]
        indices = [_multi_indices(rank, k) for k in range(degree + 1)]
        # per neuron and degree: the sum over neurons, the monomial and the direction in the frame
        mass = float(np.sum(np.linalg.norm(gamma, axis=2)))
        rounding = (unit.shape[0] + 2 * unit.shape[1] + 4 * degree + ENTRY_ULPS) * UNIT * (degree + 1) * mass
        return HermiteTarget(frame, np.concatenate(indices), np.concatenate(values), error + rounding)

    @staticmethod
    def of_network(network: Network, degree: int = 12) -> HermiteTarget:
        """A whitened network (a Barron-type sum Σ a_j cos(⟨w_j, x⟩ + b_j) is one) up to ``degree``, its tail in
        ``error``.

        Raises :class:`InputError` for a gated network, ValueError when there are too many multi-indices.
        """
        atoms = Atoms.of(network)
        gamma = atoms.hermite(degree)[:, :, None] * network.alpha[:, None, :]
        slope = np.linalg.norm(network.affine, axis=0)
        # the affine part as m·d ridge functions along the axes
        extra = np.zeros((network.d, degree + 1, network.m))
        extra[:, 1] = network.affine.T
        extra[0, 0] += network.offset
        used = (slope > 0) | ((np.arange(network.d) == 0) & bool(network.offset.any()))
        live = atoms.norm > 0
        extra[0, 0] += gamma[~live, 0].sum(axis=0)
        used[0] |= bool(np.any(~live))
        directions = np.concatenate([atoms.unit[live], np.eye(network.d)[used]])
        coefficients = np.concatenate([gamma[live], extra[used]])
        if directions.shape[0] == 0:
            return HermiteTarget(np.eye(1, network.d), np.zeros((1, 1), dtype=np.int64), np.zeros((1, network.m)))
        entry = ENTRY_ULPS * UNIT * (degree + 1) * atoms.length
        tail = float(np.linalg.norm(network.alpha, axis=1) @ (atoms.tail(degree) + entry))
        return HermiteTarget.ridge_sum(directions, coefficients, tail)

    @property
    def d(self) -> int:
        """Input dimension."""
        return self.frame.shape[1]

    @property
    def order(self) -> Integers:
        """|β| of every coefficient, shape (N,)."""
        return self.indices.sum(axis=1)

    @property
    def degree(self) -> int:
        """The largest |β|."""
        return int(self.order.max(initial=0))

    def sizes(self, first: int = 0) -> Array:
        """‖v_β‖ for |β| ≥ ``first``, descending."""
        return np.sort(np.linalg.norm(self.values[self.order >= first], axis=1))[::-1]

    def norm(self, first: int = 0) -> float:
        """(Σ_{|β| ≥ first} ‖v_β‖²)^{1/2}."""
        return float(np.linalg.norm(self.sizes(first)))

    def __call__(self, x: ArrayLike) -> Array:
        """f at the rows of x (n, d), shape (n, m)."""
        local = np.asarray(x, dtype=np.float64) @ self.frame.T
        tables = [normalised_hermite(column, self.degree) for column in local.T]
        products = np.ones((local.shape[0], self.indices.shape[0]))
        for i, table in enumerate(tables):
            products *= table[:, self.indices[:, i]]
        return products @ self.values

    def best_terms(self, sizes: ArrayLike, first: int = 2) -> Array:
        """Certified bounds of ‖f_⊥ − its best n-term Hermite sum in this frame‖, n in ``sizes`` (not atoms)."""
        tail = np.concatenate([np.sqrt(np.cumsum(self.sizes(first)[::-1] ** 2)[::-1]), [0.0]])
        widened = tail * (1 + (tail.size + 8) * UNIT) + self.error
        return widened[np.minimum(np.asarray(sizes, dtype=np.int64), tail.size - 1)]

    def spectra(self, orders: Sequence[int] = (1, 2, 3), first: int = 2) -> list[Spectrum]:
        """Spectra of the flattenings of the degrees max(``first``, p) … K with p row indices, outputs in the columns.

        They are those of the coefficients given; the target itself is within ``error`` of them: pass it as the
        ``floor`` of :func:`invariant_threshold`.
        """
        found = []
        for p in orders:
            low = max(first, p)
            if low <= self.degree:
                found.append(self._spectrum(Flattening(p, low, self.degree)))
        return found

    def _spectrum(self, flattening: Flattening) -> Spectrum:
        rank, p = self.frame.shape[0], flattening.p
        rows = {tuple(a): i for i, a in enumerate(_multi_indices(rank, p).tolist())}
        columns: dict[tuple[int, ...], int] = {}
        entries: list[tuple[int, int, Array]] = []
        for beta, value in zip(self.indices.tolist(), self.values, strict=True):
            if not flattening.low <= sum(beta) <= flattening.high:
                continue
            for a, row in rows.items():
                b = tuple(x - y for x, y in zip(beta, a, strict=True))
                if min(b) >= 0:
                    weight = np.sqrt(_multiplicity(a) * _multiplicity(b) / _multiplicity(beta))
                    entries.append((row, columns.setdefault(b, len(columns)), weight * value))
        matrix = np.zeros((len(rows), max(len(columns), 1), self.values.shape[1]))
        for row, column, value in entries:
            matrix[row, column] = value
        flat = matrix.reshape(len(rows), -1)
        sigma = np.linalg.svd(flat, compute_uv=False)
        total = float(np.sum(flat**2)) * (1 + flat.size * ROUNDOFF)
        # backward error of the SVD, then |Σσ̂² − Σσ²| over any set of at most min(shape) values
        slip = (8 * sum(flat.shape) + ENTRY_ULPS) * UNIT * np.sqrt(total)
        margin = 2 * slip * np.sqrt(sigma.size * total) + sigma.size * slip**2
        energy = np.asarray(sigma**2, dtype=np.float64)
        return Spectrum(flattening, Eigenvalues(energy, 1.0 - (energy.size + 16) * ROUNDOFF, float(margin)))


def few_enough(rank: int, degree: int) -> bool:
    """Whether the C(rank + degree, degree) multi-indices can be listed."""
    return feature_count(rank + 1, degree) <= _MOST_INDICES


def _multi_indices(rank: int, k: int) -> Integers:
    """All multi-indices of order k, in the order of :func:`symmetric_features`; shape (C(rank + k − 1, k), rank)."""
    if k == 0:
        return np.zeros((1, rank), dtype=np.int64)
    rows = [np.bincount(index, minlength=rank) for index in combinations_with_replacement(range(rank), k)]
    return np.array(rows, dtype=np.int64)


def _multiplicity(index: Sequence[int]) -> float:
    return factorial(sum(index)) / prod(factorial(int(i)) for i in index)
