"""Data rows as a geometry: values of atoms on every row, free polynomials projected out.

⟨φ_i, φ_j⟩_⊥ = (1/n)Φᵀ(I − B̂B̂ᵀ)Φ on n rows, B̂ the basis of :mod:`~sparsemf.measures.polynomials`; plain atoms σ(⟨w, x⟩ +
b) and gated ones σ(⟨g, x⟩ + c)(⟨v, x⟩ + e) alike.  These forms only steer the search.  What is certified are sums over
the rows: for f = Σ α_iφ_i + p (p: what of f's polynomials is not free) and any atoms and coefficients

    ‖f − f_S‖ ≤ ‖R‖_F + share·mass,   R = (I − B̂B̂ᵀ)(f − Σ_s β_sφ_s)(x)/√n,

where f_S has the polynomial B̂B̂ᵀ(f − Σ_s β_sφ_s), written out in x, beside its atoms.  With mass = Σ‖α_i‖t_i +
Σ‖β_s‖t_s + ‖p‖ for t the root mean squares of what values round by
(:func:`~sparsemf.measures.functions.neuron_mass`),

    share = (terms + n + d + r + 64)·UNIT + error + defect

pays for every value and sum, for the polynomial as it is written (``error``) and for B̂ not being quite orthonormal
(``defect``).  Unlike the square root of a form's margin it is linear: near 1e-12 of the mass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Atoms, Empirical, Network
from sparsemf.measures.functions import evaluation_mass, neuron_mass
from sparsemf.measures.gated import GatedAtoms
from sparsemf.measures.gaussian import UNIT
from sparsemf.measures.laws import InvalidLaw
from sparsemf.measures.polynomials import Polynomials, beyond

Array = NDArray[np.float64]

_KEPT = 60_000_000
"""Numbers of values that are kept for the largest set of atoms."""
_COLUMNS, _ROWS = 512, 1024
_LARGEST = 1e140


@dataclass(frozen=True, eq=False)
class EmpiricalGeometry:
    """The rows of ``x`` (n, d), ``polynomials`` of degree ≤ free ∈ {−1, 0, 1, 2} projected out."""

    x: Array
    polynomials: Polynomials
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(law: Empirical, free: int | None = None) -> EmpiricalGeometry:
        """``free``: the degree up to which polynomials are free (default 1).  Raises :class:`InputError` where there
        are too many of them."""
        return EmpiricalGeometry(law.x, Polynomials.of(law.x, 1 if free is None else free))

    @property
    def free(self) -> int:
        """The degree up to which polynomials are free."""
        return self.polynomials.free

    @property
    def basis(self) -> Array:
        """B̂ (n, r)."""
        return self.polynomials.basis

    def atoms(self, network: Network) -> Any:
        return GatedAtoms.of(network) if network.gated else Atoms.of(network)

    def features(self, atoms: Any) -> Array:
        """(I − B̂B̂ᵀ)Φ/√n, shape (n, S); kept for the largest set of atoms seen.  Raises :class:`InvalidLaw` where
        values leave the range of numbers."""
        if self._kept.get("atoms") is atoms:
            return self._kept["features"]
        found = np.empty((self.x.shape[0], atoms.n), order="F")
        for start in range(0, atoms.n, _COLUMNS):
            columns = slice(start, min(start + _COLUMNS, atoms.n))
            found[:, columns] = self.polynomials.without(values(atoms.take(columns), self.x))
        found /= np.sqrt(self.x.shape[0])
        if found.size <= _KEPT and atoms.n >= self._kept.get("size", 1):
            self._kept.update(atoms=atoms, features=found, size=atoms.n)
        return found

    def gram(self, first: Any, second: Any) -> Array:
        left = self.features(first)
        if second is first:
            return left.T @ left
        out = np.empty((first.n, second.n))
        if self._kept.get("atoms") is second or left.shape[0] * second.n <= _KEPT:
            return np.asarray(left.T @ self.features(second))
        for start in range(0, second.n, _COLUMNS):
            columns = slice(start, min(start + _COLUMNS, second.n))
            out[:, columns] = left.T @ self.features(second.take(columns))
        return out

    def tail(self, atoms: Any) -> Array:
        return np.zeros(atoms.n)

    def length(self, atoms: Any) -> Array:
        """(S,) root mean squares of what the atoms' values round by: ≥ ‖φ_s‖."""
        if self._kept.get("atoms") is atoms and "length" in self._kept:
            return self._kept["length"]
        network, out = network_of(atoms), np.zeros(atoms.n)
        for start in range(0, self.x.shape[0], _ROWS):
            out += np.sum(neuron_mass(network, self.x[start : start + _ROWS]) ** 2, axis=0)
        out = np.sqrt(out / self.x.shape[0]) * (1 + (self.x.shape[0] + 8) * UNIT)
        if self._kept.get("atoms") is atoms:
            self._kept["length"] = out
        return out

    def margin(self, n: int, absolute_form: float, mass: float) -> float:
        """Of forms, which steer only."""
        return UNIT * (n + 64) * absolute_form + 3 * self.share(n) * mass**2

    def share(self, terms: int) -> float:
        """Of the mass: what sums of so many terms over all rows round by (module docstring)."""
        (rows, d), free = self.x.shape, self.polynomials
        return ((terms + rows + d + free.rank + 64) * UNIT + free.error + free.defect) * (1 + 1e-10)

    def target(self, network: Network) -> Array:
        """(I − B̂B̂ᵀ)f/√n, shape (n, m)."""
        values = beyond(network, self.free)(self.x)
        if not np.max(np.abs(values), initial=0.0) < _LARGEST:
            raise InvalidLaw(f"{network.activation.name}: expected values of the network below {_LARGEST:g} on the "
                             "data, got larger ones; use smaller inputs")  # fmt: skip
        return self.polynomials.without(values) / np.sqrt(self.x.shape[0])

    def charged(self, network: Network) -> ChargedRows | None:
        """What of f's polynomial part is not free; None where there is nothing."""
        rest = beyond(network, self.free)
        silent = rest.with_(outer=np.zeros_like(rest.outer))
        if not (rest.affine.any() or rest.offset.any() or (rest.quadratic is not None and rest.quadratic.any())):
            return None
        mass = float(np.sqrt(np.mean(evaluation_mass(silent, self.x) ** 2)))
        return ChargedRows(self, self.polynomials.without(silent(self.x)) / np.sqrt(self.x.shape[0]), mass)

    def sample(self, count: int) -> Array:
        if self.x.shape[0] <= count:
            return self.x
        return self.x[np.random.default_rng(7).choice(self.x.shape[0], count, replace=False)]

    def affine(self, network: Network, atoms: Any, beta: Array) -> tuple[Array, Array]:
        affine, offset, _ = self.polynomial(network, atoms, beta)
        return affine, offset

    def polynomial(self, network: Network, atoms: Any, beta: Array) -> tuple[Array, Array, Array | None]:
        """The best (A, c, Q) beside Σ β_sφ_s as an approximation of ``network`` on the rows; 0, and None for Q, where
        they are not free."""
        affine, offset = network.affine * float(self.free > 0), network.offset * float(self.free >= 0)
        form = network.quadratic if self.free > 1 else None
        if beta is network.alpha and self.charged(network) is None:  # f itself
            return affine, offset, form
        f = beyond(network, self.free)
        gamma = self.basis.T @ (f(self.x) - network_of(atoms, beta)(self.x))
        more, level, quadratic = self.polynomials.written(gamma)
        if quadratic is not None:
            quadratic = quadratic if form is None else quadratic + form
        return affine + more, offset + level, quadratic


@dataclass(frozen=True, eq=False)
class ChargedRows:
    """p on the rows: ``values`` (n, m), projected and over √n, and the ``mass`` that its rounding scales with."""

    geometry: EmpiricalGeometry
    values: Array
    mass: float

    @property
    def norm(self) -> float:
        """‖p‖_⊥ as computed."""
        return float(np.linalg.norm(self.values))

    def image(self, atoms: Any) -> Array:
        """⟨φ_s, p⟩_⊥, shape (S, m)."""
        return self.geometry.features(atoms).T @ self.values


def network_of(atoms: Any, beta: Array | None = None) -> Network:
    """Σ β_sφ_s as a network (β = 1 by default)."""
    beta = np.ones((atoms.n, 1)) if beta is None else beta
    gate, shift = (atoms.gate, atoms.gate_bias) if isinstance(atoms, GatedAtoms) else (None, None)
    return Network(beta, atoms.inner, atoms.bias, atoms.activation, gate=gate, gate_bias=shift)


def values(atoms: Any, x: Array) -> Array:
    """Φ (n, S).  Raises :class:`InvalidLaw` where values leave the range of numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = x @ atoms.inner.T + atoms.bias
        if isinstance(atoms, GatedAtoms):
            found *= atoms.activation.value(x @ atoms.gate.T + atoms.gate_bias)
        else:
            found = atoms.activation.value(found)
    if not np.max(np.abs(found), initial=0.0) < _LARGEST:
        raise InvalidLaw(
            f"{atoms.activation.name}: expected values of atoms below {_LARGEST:g} on the data, got larger ones; use "
            "smaller inputs"
        )
    return found
