"""Gated atoms as a recovery problem: inner products beyond degree 2, and the dictionary with its best quadratic part.

Only the coefficients α of chosen atoms σ(u)·ℓ are refitted, a convex problem as for ungated atoms; the polynomial part
of degree ≤ 2 is free, so it is what f has there less what the chosen atoms have (T₀, T₁, T₂ written out).  Where less
is free (a file of a transformer holds an output bias at most), polynomials of degree ≤ ``free`` are, and f must have no
others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.measures.gated import (
    FREE_DEGREE,
    GatedAtoms,
    beyond_quadratic,
    linear_tensors,
    low_part,
    low_tensors,
    series_degree,
)
from sparsemf.measures.gaussian import UNIT, form_margin
from sparsemf.recovery.problem import Dictionary

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GatedGeometry:
    """N(0, I_d) without the degrees ≤ ``free``; ``degree`` of the series, None for the closed form.  Its atoms are
    :class:`~sparsemf.measures.gated.GatedAtoms`."""

    d: int
    degree: int | None
    free: int = FREE_DEGREE

    @staticmethod
    def of(white: Network, free: int | None = None) -> GatedGeometry:
        """The geometry that resolves the atoms of a whitened gated network.

        Raises :class:`InputError` where the network has a polynomial part of a degree that is not free.
        """
        free = FREE_DEGREE if free is None else free
        parts = (white.offset, white.affine, white.quadratic)
        if any(part is not None and np.any(part) for part in parts[free + 1 :]):
            raise InputError(f"expected a gated network without polynomials of degree > {free}, got one with some")
        weight = np.linalg.norm(white.alpha, axis=1)
        return GatedGeometry(white.d, series_degree(GatedAtoms.of(white), weight), free)

    def atoms(self, network: Network) -> GatedAtoms:
        return GatedAtoms.of(network)

    def gram(self, first: Any, second: Any) -> Array:
        return beyond_quadratic(first, second, self.degree, self.free)

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
        """The part of degree ≤ 1 beside the best quadratic form, where that is free."""
        affine, offset, _ = _polynomial(network, atoms, beta, self.free)
        return affine, offset


def _polynomial(network: Network, atoms: GatedAtoms, beta: Array, free: int) -> tuple[Array, Array, Array | None]:
    """(A, c, Q): T₁, T₀ − tr Q and T₂/√2 of ``network`` − Σ β_s φ_s; 0, and None for Q, where they are not free."""
    if free < FREE_DEGREE:
        t0, t1 = linear_part(network)
        own0, own1 = linear_tensors(atoms, beta)
        return (t1 - own1) * (free >= 1), (t0 - own0) * (free >= 0), None
    t0, t1, t2 = (x - y for x, y in zip(low_part(network), low_tensors(atoms, beta), strict=True))
    form = t2 / np.sqrt(2.0)
    return t1, t0 - np.trace(form, axis1=1, axis2=2), form


def linear_part(network: Network) -> tuple[Array, Array]:
    """T₀ and T₁ of a whitened gated network without a quadratic part."""
    t0, t1 = linear_tensors(GatedAtoms.of(network), network.alpha)
    return t0 + network.offset, t1 + network.affine


def gated_dictionary(network: Network, found: Dictionary, free: int = FREE_DEGREE) -> Network:
    """A dictionary with its best polynomial part of degree ≤ ``free``, in the problem's coordinates; f itself for all
    of its own atoms with their own coefficients."""
    atoms: Any = found.atoms
    if found.beta is network.alpha:
        return network
    affine, offset, form = _polynomial(network, atoms, found.beta, free)
    if form is not None:  # what is left of f's own quadratic part where nothing was removed is rounding
        noise = 64 * UNIT * float(np.max(np.abs(low_part(network)[2]), initial=0.0))
        form = form if np.max(np.abs(form), initial=0.0) > noise else None
    return Network(
        found.beta,
        atoms.inner,
        atoms.bias,
        network.activation,
        affine=affine,
        offset=offset,
        provenance=network.provenance,
        quadratic=form,
        gate=atoms.gate,
        gate_bias=atoms.gate_bias,
    )
