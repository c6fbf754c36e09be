"""The recovery problem: approximate f = Σ_i α_i φ_i (affine part free) by S atoms, with a certified error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Atoms, Network
from sparsemf.recovery.geometry import Geometry

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_CACHE_WIDTH = 5000
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Dictionary:
    """S atoms in the problem's coordinates, their coefficients (S, m), and ``error`` ≥ ‖f − f_S‖_⊥ (certified)."""

    atoms: Atoms
    beta: Array
    error: float


@dataclass(frozen=True, eq=False)
class Problem:
    """f in the coordinates of ``geometry``; ``network`` is canonical (merged, no inactive neurons)."""

    network: Network
    geometry: Geometry

    @property
    def n(self) -> int:
        """Number of atoms of f."""
        return self.network.width

    @cached_property
    def atoms(self) -> Atoms:
        """The atoms of f, of the kind that the geometry knows."""
        return self.geometry.atoms(self.network)

    @cached_property
    def weight(self) -> Array:
        """‖α_i‖, shape (n,)."""
        return np.linalg.norm(self.network.alpha, axis=1)

    @cached_property
    def lengths(self) -> tuple[Array, Array]:
        """The geometry's lengths and tails t_i of f's atoms, (n,) each."""
        return self.geometry.length(self.atoms), self.geometry.tail(self.atoms)

    @cached_property
    def mass(self) -> float:
        """Σ ‖α_i‖‖φ_i‖."""
        return float(self.weight @ self.lengths[0])

    @cached_property
    def tail(self) -> float:
        """Σ ‖α_i‖ t_i."""
        return float(self.weight @ self.lengths[1])

    @cached_property
    def gram(self) -> Array | None:
        """K = (⟨φ_i, φ_j⟩_⊥), kept for up to 5000 atoms, else None (rows are formed when needed)."""
        return self.geometry.gram(self.atoms, self.atoms) if self.n <= _CACHE_WIDTH else None

    @cached_property
    def _products(self) -> tuple[Array, Array, Array]:
        """(K α, diag K, |K||α|), in row blocks when K is not kept."""
        image, diagonal, absolute = np.empty((self.n, self.network.m)), np.empty(self.n), np.empty(self.n)
        for start in range(0, self.n, _ROWS):
            rows = slice(start, min(start + _ROWS, self.n))
            block = self.gram[rows] if self.gram is not None else self.geometry.gram(self.atoms.take(rows), self.atoms)
            image[rows] = block @ self.network.alpha
            diagonal[rows] = block[np.arange(block.shape[0]), np.arange(rows.start, rows.stop)]
            absolute[rows] = np.abs(block) @ self.weight
        return image, diagonal, absolute

    @property
    def image(self) -> Array:
        """Kα = (⟨φ_i, f⟩_⊥)_i, shape (n, m)."""
        return self._products[0]

    @property
    def diagonal(self) -> Array:
        """‖φ_i‖²_⊥, shape (n,)."""
        return self._products[1]

    @cached_property
    def energy(self) -> float:
        """‖f‖²_⊥ as computed."""
        return max(float(np.sum(self.network.alpha * self.image)), 0.0)

    @cached_property
    def energy_bounds(self) -> tuple[float, float]:
        """Certified (lower, upper) of ‖f‖²_⊥."""
        margin = self.geometry.margin(self.n, self.absolute_energy, self.mass)
        return max(self.energy - margin, 0.0), self.energy + margin + self.tail**2

    @cached_property
    def absolute_energy(self) -> float:
        """|α|ᵀ|K||α|, which scales the rounding margin."""
        return float(self.weight @ self._products[2])

    def columns(self, index: Integers) -> Array:
        """K[:, index], shape (n, len(index))."""
        if self.gram is not None:
            return self.gram[:, index]
        return self.geometry.gram(self.atoms, self.atoms.take(index))

    def subset_error(self, index: Integers, beta: Array, cross: Array | None = None) -> float:
        """Certified ‖f − Σ_{i ∈ index} β_i φ_i‖_⊥; atoms of f reused, so γ = α − β cancels before the form.

        Where K is not kept, ``cross`` = K[:, index] saves forming all of K.
        """
        if self.gram is None and cross is not None:
            length, tail = self.lengths
            return self.expanded_error(beta, cross, cross[index], length[index], tail[index])
        gamma = self.network.alpha.copy()
        gamma[index] -= beta
        return self._form_error(gamma, self.gram)

    def dictionary_error(self, atoms: Atoms, beta: Array) -> float:
        """Certified ‖f − Σ_s β_s φ_s‖_⊥ for any atoms."""
        cross, own = self.geometry.gram(self.atoms, atoms), self.geometry.gram(atoms, atoms)
        return self.expanded_error(beta, cross, own, self.geometry.length(atoms), self.geometry.tail(atoms))

    def expanded_error(self, beta: Array, cross: Array, own: Array, length: Array, tail: Array) -> float:
        """:meth:`dictionary_error` of atoms from their inner products with f's atoms (n, S) and among themselves
        (S, S), and the geometry's lengths and tails of them (S,)."""
        size = np.linalg.norm(beta, axis=1)
        mixed, square = float(np.sum(self.network.alpha * (cross @ beta))), float(np.sum(beta * (own @ beta)))
        form = self.energy - 2.0 * mixed + square
        absolute = self.absolute_energy + float(2.0 * self.weight @ (np.abs(cross) @ size) + size @ np.abs(own) @ size)
        margin = self.geometry.margin(self.n + size.size, absolute, self.mass + float(size @ length))
        return float(np.sqrt(max(form, 0.0) + margin + (self.tail + float(size @ tail)) ** 2))

    def _form_error(self, gamma: Array, gram: Array | None) -> float:
        atoms = self.atoms
        size = np.linalg.norm(gamma, axis=1)
        if gram is not None:
            form, absolute = float(np.sum(gamma * (gram @ gamma))), float(size @ (np.abs(gram) @ size))
        else:
            form = absolute = 0.0
            for start in range(0, atoms.n, _ROWS):
                rows = slice(start, start + _ROWS)
                block = self.geometry.gram(atoms.take(rows), atoms)
                form += float(np.sum(gamma[rows] * (block @ gamma)))
                absolute += float(size[rows] @ (np.abs(block) @ size))
        length, tails = self.lengths
        margin = self.geometry.margin(atoms.n, absolute, float(size @ length))
        tail = float(size @ tails)
        return float(np.sqrt(max(form, 0.0) + margin + tail**2))
