"""The recovery problem: approximate f = Σ_i α_i φ_i + p by S atoms, with a certified error.

p is what the polynomial part of f has beyond the free degrees: nothing where affine functions are free, else A x (and c
where constants are charged).  It is part of the target and of no dictionary:

    ⟨φ_s, p⟩_⊥ = c_1(s) A û_s + c_0(s) c,   ‖p‖² = ‖A‖_F² + ‖c‖²   in white coordinates,

so that Φ*f, ‖f‖² and ‖f − g‖² only gain these terms (:class:`Charged`); for the stated margin p counts as one more atom
of norm ‖p‖.  On data rows p is its values there, and errors are sums over the rows
(:mod:`~sparsemf.recovery.empirical`); forms only steer the search.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Atoms, Network
from sparsemf.measures.gaussian import UNIT
from sparsemf.recovery.empirical import ChargedRows, EmpiricalGeometry
from sparsemf.recovery.geometry import GaussianGeometry, Geometry
from sparsemf.symmetry.metric import free_relation

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
class Charged:
    """p = A x + c of f beyond the free degrees: ``affine`` (m, d) and ``offset`` (m,), 0 where they are free."""

    affine: Array
    offset: Array

    @cached_property
    def norm(self) -> float:
        """‖p‖ under N(0, I)."""
        return float(np.hypot(np.linalg.norm(self.affine), np.linalg.norm(self.offset)))

    def image(self, atoms: Atoms) -> Array:
        """⟨φ_s, p⟩, shape (S, m)."""
        low = atoms.hermite(1)
        return low[:, 1:] * (atoms.unit @ self.affine.T) + low[:, :1] * self.offset


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
    def charged(self) -> Charged | ChargedRows | None:
        """What of f's polynomial part the atoms have to approximate; None where there is nothing."""
        geometry, network = self.geometry, self.network
        if isinstance(geometry, EmpiricalGeometry):
            return geometry.charged(network)
        if not isinstance(geometry, GaussianGeometry) or geometry.free > 0:
            return None
        offset = network.offset if geometry.free < 0 else np.zeros(network.m)
        found = Charged(network.affine, offset)
        return found if found.norm > 0 else None

    @cached_property
    def flips(self) -> bool:
        """Whether σ has flips that cost nothing but what is free, so that atoms are close to opposite ones."""
        free = self.geometry.free if isinstance(self.geometry, (GaussianGeometry, EmpiricalGeometry)) else 1
        return free_relation(self.network.activation, free)

    @cached_property
    def lengths(self) -> tuple[Array, Array]:
        """The geometry's lengths and tails t_i of f's atoms, (n,) each."""
        return self.geometry.length(self.atoms), self.geometry.tail(self.atoms)

    @cached_property
    def mass(self) -> float:
        """Σ ‖α_i‖‖φ_i‖ + ‖p‖ (on data: of what their values round by)."""
        own = self.charged.mass if isinstance(self.charged, ChargedRows) else None
        own = own if own is not None else 0.0 if self.charged is None else self.charged.norm
        return float(self.weight @ self.lengths[0]) + own

    @cached_property
    def rows(self) -> Array:
        """f on data rows, what is free projected out, over √n: (n, m)."""
        if not isinstance(self.geometry, EmpiricalGeometry):
            raise TypeError("expected data rows")
        return self.geometry.target(self.network)

    def rows_error(self, beta: Array, features: Array, length: Array) -> float:
        """Certified ‖f − Σ_s β_s φ_s‖_⊥ on data from the atoms' features (n, S) and lengths (S,)."""
        if not isinstance(self.geometry, EmpiricalGeometry):
            raise TypeError("expected data rows")
        rest = float(np.linalg.norm(self.rows - features @ beta)) * (1 + (self.rows.size + 8) * UNIT)
        mass = self.mass + float(np.linalg.norm(beta, axis=1) @ length)
        return rest + self.geometry.share(self._terms + beta.shape[0]) * mass

    @cached_property
    def own_error(self) -> float:
        """Certified error of f's own atoms with their own coefficients: ‖p‖."""
        if self.charged is None:
            return 0.0
        own = self.charged.norm * (1 + 1e-12)
        if isinstance(self.charged, ChargedRows) and isinstance(self.geometry, EmpiricalGeometry):
            return own + self.geometry.share(self._terms) * self.charged.mass
        return own

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

    @cached_property
    def _low(self) -> Array:
        """⟨φ_i, p⟩ of f's own atoms, (n, m)."""
        return np.zeros_like(self.network.alpha) if self.charged is None else self.charged.image(self.atoms)

    @cached_property
    def image(self) -> Array:
        """Kα + Φ*p = (⟨φ_i, f⟩_⊥)_i, shape (n, m)."""
        if isinstance(self.geometry, EmpiricalGeometry):
            return self.image_of(self.atoms, np.zeros((self.n, 0)))
        return self._products[0] + self._low

    def image_of(self, atoms: Atoms, cross: Array) -> Array:
        """(⟨φ_s, f⟩_⊥)_s for any atoms, (S, m), from ``cross`` (n, S), their inner products with f's (on data: from
        f's values)."""
        if isinstance(self.geometry, EmpiricalGeometry):
            return self.geometry.features(atoms).T @ self.rows
        found = cross.T @ self.network.alpha
        return found if self.charged is None else found + self.charged.image(atoms)

    @property
    def diagonal(self) -> Array:
        """‖φ_i‖²_⊥, shape (n,)."""
        return self._products[1]

    @cached_property
    def energy(self) -> float:
        """‖f‖²_⊥ as computed."""
        if isinstance(self.geometry, EmpiricalGeometry):
            return float(np.sum(self.rows**2))
        form = float(np.sum(self.network.alpha * self._products[0]))
        return max(form + self._polynomial(self.network.alpha, self._low)[0], 0.0)

    def _polynomial(self, gamma: Array, low: Array) -> tuple[float, float]:
        """What p adds to ‖Σ γ_i φ_i‖², ``low`` = ⟨φ_i, p⟩: (2 Σ⟨γ_i, ⟨φ_i, p⟩⟩ + ‖p‖², the sum of absolute
        values)."""
        if self.charged is None:
            return 0.0, 0.0
        own, product = self.charged.norm**2, gamma * low
        return 2.0 * float(np.sum(product)) + own, 2.0 * float(np.sum(np.abs(product))) + own

    @cached_property
    def energy_bounds(self) -> tuple[float, float]:
        """Certified (lower, upper) of ‖f‖²_⊥; on data of f beyond the span of the stored basis."""
        if isinstance(self.geometry, EmpiricalGeometry):
            own, lost = float(np.linalg.norm(self.rows)), self.geometry.share(self._terms) * self.mass
            return max(own - lost, 0.0) ** 2, (own + lost) ** 2 * (1 + (self.rows.size + 8) * UNIT)
        margin = self.geometry.margin(self._terms, self.absolute_energy, self.mass)
        return max(self.energy - margin, 0.0), self.energy + margin + self.tail**2

    @cached_property
    def absolute_energy(self) -> float:
        """|α|ᵀ|K||α|, and what p adds, which scales the rounding margin."""
        return float(self.weight @ self._products[2]) + self._polynomial(self.network.alpha, self._low)[1]

    @property
    def _terms(self) -> int:
        """Summands that a form in f's atoms (and p) is added up from."""
        return self.n if self.charged is None else self.n + self.network.m + self.network.d

    def columns(self, index: Integers) -> Array:
        """K[:, index], shape (n, len(index))."""
        if self.gram is not None:
            return self.gram[:, index]
        return self.geometry.gram(self.atoms, self.atoms.take(index))

    def subset_error(self, index: Integers, beta: Array, cross: Array | None = None) -> float:
        """Certified ‖f − Σ_{i ∈ index} β_i φ_i‖_⊥; atoms of f reused, so γ = α − β cancels before the form.

        Where K is not kept, ``cross`` = K[:, index] saves forming all of K.
        """
        if isinstance(self.geometry, EmpiricalGeometry):
            return self.dictionary_error(self.atoms.take(index), beta)
        if self.gram is None and cross is not None:
            length, tail = self.lengths
            return self.expanded_error(beta, cross, cross[index], length[index], tail[index], self._low[index])
        gamma = self.network.alpha.copy()
        gamma[index] -= beta
        return self._form_error(gamma, self.gram)

    def dictionary_error(self, atoms: Atoms, beta: Array) -> float:
        """Certified ‖f − Σ_s β_s φ_s‖_⊥ for any atoms."""
        if isinstance(self.geometry, EmpiricalGeometry):
            return self.rows_error(beta, self.geometry.features(atoms), self.geometry.length(atoms))
        cross, own = self.geometry.gram(self.atoms, atoms), self.geometry.gram(atoms, atoms)
        low = None if self.charged is None else self.charged.image(atoms)
        return self.expanded_error(beta, cross, own, self.geometry.length(atoms), self.geometry.tail(atoms), low)

    def expanded_error(
        self, beta: Array, cross: Array, own: Array, length: Array, tail: Array, low: Array | None = None
    ) -> float:
        """:meth:`dictionary_error` of atoms from their inner products with f's atoms (n, S), among themselves (S, S)
        and with p (S, m) where there is one, and the geometry's lengths and tails of them (S,).

        Raises ValueError where ``low`` is missing.
        """
        size = np.linalg.norm(beta, axis=1)
        mixed, square = float(np.sum(self.network.alpha * (cross @ beta))), float(np.sum(beta * (own @ beta)))
        absolute = self.absolute_energy + float(2.0 * self.weight @ (np.abs(cross) @ size) + size @ np.abs(own) @ size)
        if self.charged is not None:
            if low is None:
                raise ValueError("expected the inner products with the charged polynomial part")
            mixed, absolute = mixed + float(np.sum(beta * low)), absolute + 2.0 * float(np.sum(np.abs(beta * low)))
        form = self.energy - 2.0 * mixed + square
        margin = self.geometry.margin(self._terms + size.size, absolute, self.mass + float(size @ length))
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
        more, absolute_more = self._polynomial(gamma, self._low)
        form, absolute = form + more, absolute + absolute_more
        length, tails = self.lengths
        mass = float(size @ length) + (0.0 if self.charged is None else self.charged.norm)
        margin = self.geometry.margin(self._terms, absolute, mass)
        tail = float(size @ tails)
        return float(np.sqrt(max(form, 0.0) + margin + tail**2))
