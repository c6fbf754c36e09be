"""Gated atoms as a recovery problem: inner products beyond degree 2, and the dictionary with its best quadratic part.

Only the coefficients α of chosen atoms σ(u)·ℓ are refitted, a convex problem as for ungated atoms; the polynomial part
of degree ≤ 2 is free, so it is what f has there less what the chosen atoms have (T₀, T₁, T₂ written out).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Network
from sparsemf.measures.gated import GatedAtoms, beyond_quadratic, low_part, low_tensors, series_degree
from sparsemf.measures.gaussian import UNIT, form_margin
from sparsemf.recovery.problem import Dictionary

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GatedGeometry:
    """N(0, I_d) without the degrees 0, 1, 2; ``degree`` of the series, None for the closed form.  Its atoms are
    :class:`~sparsemf.measures.gated.GatedAtoms`."""

    d: int
    degree: int | None

    @staticmethod
    def of(white: Network) -> GatedGeometry:
        """The geometry that resolves the atoms of a whitened gated network."""
        weight = np.linalg.norm(white.alpha, axis=1)
        return GatedGeometry(white.d, series_degree(GatedAtoms.of(white), weight))

    def atoms(self, network: Network) -> GatedAtoms:
        return GatedAtoms.of(network)

    def gram(self, first: Any, second: Any) -> Array:
        return beyond_quadratic(first, second, self.degree)

    def tail(self, atoms: Any) -> Array:
        return np.zeros(atoms.n) if self.degree is None else atoms.tail(self.degree)

    def length(self, atoms: Any) -> Array:
        if self.degree is None:
            # what the closed form's terms scale with; near-duplicates lose nothing more (tested by rotations)
            return atoms.activation.lipschitz * atoms.size * (atoms.gates.norm + np.abs(atoms.gate_bias))
        return atoms.steep(self.degree)

    def margin(self, n: int, absolute_form: float, mass: float) -> float:
        return form_margin(n, self.d, absolute_form, mass, self.degree)

    def sample(self, count: int) -> Array:
        return np.random.default_rng(7).standard_normal((count, self.d))

    def affine(self, network: Network, atoms: Any, beta: Array) -> tuple[Array, Array]:
        """The part of degree ≤ 1 beside the best quadratic form."""
        affine, offset, _ = _polynomial(network, atoms, beta)
        return affine, offset


def _polynomial(network: Network, atoms: GatedAtoms, beta: Array) -> tuple[Array, Array, Array]:
    """(A, c, Q): T₁, T₀ − tr Q and T₂/√2 of ``network`` − Σ β_s φ_s."""
    t0, t1, t2 = (x - y for x, y in zip(low_part(network), low_tensors(atoms, beta), strict=True))
    form = t2 / np.sqrt(2.0)
    return t1, t0 - np.trace(form, axis1=1, axis2=2), form


def gated_dictionary(network: Network, found: Dictionary) -> Network:
    """A dictionary with its best polynomial part of degree ≤ 2, in the problem's coordinates; f itself for all of its
    own atoms with their own coefficients."""
    atoms: Any = found.atoms
    if found.beta is network.alpha:
        return network
    affine, offset, form = _polynomial(network, atoms, found.beta)
    # what is left of f's own quadratic part where nothing was removed is rounding
    noise = 64 * UNIT * float(np.max(np.abs(low_part(network)[2]), initial=0.0))
    return Network(
        found.beta,
        atoms.inner,
        atoms.bias,
        network.activation,
        affine=affine,
        offset=offset,
        provenance=network.provenance,
        quadratic=form if np.max(np.abs(form), initial=0.0) > noise else None,
        gate=atoms.gate,
        gate_bias=atoms.gate_bias,
    )
