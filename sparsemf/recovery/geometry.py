"""Inner products of atoms with the free affine part projected out, under a Gaussian law.

⟨φ_i, φ_j⟩_⊥ = K₂(i, j) for N(0, I) (degrees ≥ 2; ≥ 3 where quadratic polynomials are free; ≥ 1 or ≥ 0 where the linear
part, or the constant too, is charged to the atoms).  Data rows: :mod:`~sparsemf.recovery.empirical`.
Recovery is written against this one interface; everything it returns is evaluated with the margins below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Atoms, Network
from sparsemf.measures.gaussian import (
    ENTRY_ULPS,
    affine_part,
    beyond_affine,
    form_margin,
    free_degree,
    quadratic_part,
    series_degree,
)

Array = NDArray[np.float64]


class Geometry(Protocol):
    """Inner products ⟨φ_i, φ_j⟩_⊥ and what is needed to certify a quadratic form in them."""

    def atoms(self, network: Network) -> Any:
        """The atoms of a network that the other methods take."""
        ...

    def gram(self, first: Atoms, second: Atoms) -> Array:
        """(n₁, n₂) inner products with the affine part projected out."""
        ...

    def tail(self, atoms: Atoms) -> Array:
        """(n,) bounds t_i of what :meth:`gram` leaves out: the truth exceeds the form by ≤ (Σ‖γ_i‖t_i)²."""
        ...

    def length(self, atoms: Atoms) -> Array:
        """(n,) upper bounds of ‖φ_i‖ that scale the rounding margin."""
        ...

    def margin(self, n: int, absolute_form: float, mass: float) -> float:
        """Stated rounding margin of γᵀ·gram·γ."""
        ...

    def sample(self, count: int) -> Array:
        """Inputs for the refinement's least-squares problem, (≤ count, d)."""
        ...

    def affine(self, network: Network, atoms: Atoms, beta: Array) -> tuple[Array, Array]:
        """The best affine part (A, c) beside Σ β_s φ_s as an approximation of ``network``."""
        ...


@dataclass(frozen=True, eq=False)
class GaussianGeometry:
    """N(0, I_k); ``degree`` of the Hermite series, None for the closed-form kernel.

    Polynomials of degree ≤ ``free`` ∈ {−1, 0, 1, 2} are projected out; ``closed_ulps``:
    :attr:`Activation.kernel_ulps`.
    """

    d: int
    degree: int | None
    free: int = 1
    closed_ulps: int = 4 * ENTRY_ULPS

    @staticmethod
    def of(white: Network, free: int | None = None) -> GaussianGeometry:
        """The geometry that resolves the atoms of a whitened network; ``free``: default :func:`free_degree`."""
        weight = np.linalg.norm(white.alpha, axis=1)
        degree = series_degree(Atoms.of(white), weight)
        free = free_degree(white) if free is None else free
        return GaussianGeometry(white.d, degree, free, white.activation.kernel_ulps)

    def atoms(self, network: Network) -> Atoms:
        return Atoms.of(network)

    def gram(self, first: Atoms, second: Atoms) -> Array:
        return beyond_affine(first, second, self.degree, self.free)

    def tail(self, atoms: Atoms) -> Array:
        return np.zeros(atoms.n) if self.degree is None else atoms.tail(self.degree)

    def length(self, atoms: Atoms) -> Array:
        return atoms.rounding_length(self.degree)

    def margin(self, n: int, absolute_form: float, mass: float) -> float:
        return form_margin(n, self.d, absolute_form, mass, self.degree, self.closed_ulps)

    def sample(self, count: int) -> Array:
        return np.random.default_rng(7).standard_normal((count, self.d))

    def affine(self, network: Network, atoms: Atoms, beta: Array) -> tuple[Array, Array]:
        slope, constant = affine_part(network)
        low = atoms.hermite(1)
        return slope - (beta * low[:, 1:]).T @ atoms.unit, constant - beta.T @ low[:, 0]

    def polynomial(self, network: Network, atoms: Atoms, beta: Array) -> tuple[Array, Array, Array | None]:
        """The best (A, c, Q) beside Σ β_s φ_s as an approximation of ``network``; Q is None where it is not free, A and
        c are 0 where they are charged.

        xᵀQx has T₀ = tr Q and T₂ = √2 Q.
        """
        slope, constant = self.affine(network, atoms, beta)
        if self.free < 2:
            return slope * float(self.free > 0), constant * float(self.free >= 0), None
        own = quadratic_part(Network(beta, atoms.inner, atoms.bias, atoms.activation))
        form = (quadratic_part(network) - own) / np.sqrt(2.0)
        return slope, constant - np.trace(form, axis1=1, axis2=2), form


def free_functions(x: Array, free: int) -> Array:
    """The columns 1 and x (free = 1), 1 (0) or none (−1) on data rows (n, d)."""
    return np.concatenate([np.ones((x.shape[0], 1)), x], axis=1)[:, : {-1: 0, 0: 1}.get(free)]


def free_basis(x: Array, free: int, smallest: float) -> Array:
    """An orthonormal basis of :func:`free_functions`, without directions below ``smallest`` of the largest."""
    design = free_functions(x, free)
    if not design.shape[1]:
        return design
    u, s, _ = np.linalg.svd(design, full_matrices=False)
    return u[:, s > smallest * s[0]]
