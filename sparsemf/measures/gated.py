"""L²(N(0, I)) geometry of gated atoms σ(u)·ℓ: Hermite tensors, and the kernel beyond the quadratic polynomials.

In whitened coordinates u = r⟨ĝ, x⟩ + b and ℓ = e + p⟨ĝ, x⟩ + ⟨v, x⟩ with v ⊥ ĝ.  ⟨v, x⟩ is independent of ⟨ĝ, x⟩, so
with c_k = E σ(rg + b)he_k(g) and g·he_k = √k he_{k−1} + √(k+1) he_{k+1} the normalised tensors are

    T_k = A_k ĝ^{⊗k} + √k c_{k−1} Sym(ĝ^{⊗(k−1)} ⊗ v),   A_k = e c_k + p(√k c_{k−1} + √(k+1) c_{k+1}),

for E[σ(u)⟨v, x⟩ he_k(⟨n, x⟩)] = √k⟨v, n⟩ E[σ(u) he_{k−1}(⟨n, x⟩)] (Stein).  With ρ = ⟨ĝ, ĝ′⟩, x = ⟨ĝ, v′⟩, z = ⟨v, ĝ′⟩,
y = ⟨v, v′⟩, averaging over the places of v and v′,

    ⟨T_k, T′_k⟩ = A_k A′_k ρ^k + √k(A_k c′_{k−1} x + c_{k−1} A′_k z)ρ^{k−1}
                  + c_{k−1}c′_{k−1}[yρ^{k−1} + (k − 1)xzρ^{k−2}].

Quadratic polynomials are free beside gated atoms (a flip costs one), so the kernel K₃ sums k ≥ 3.  Two ways to it: the
series up to a degree K, whose rest is at most t_i t_j with

    t² = Σ_{k > K} A_k² + ‖v‖²Σ_{k ≥ K} c_k² = Eσ²(e + pg)² + ‖v‖²Eσ² − (the sums up to there),

or for gates with one kink the closed form (:mod:`~sparsemf.measures.gated_relu`) less the degrees 0, 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.activations.quadrature import square_moments
from sparsemf.exceptions import InputError
from sparsemf.measures.gated_relu import product_kernel
from sparsemf.measures.gaussian import ENTRY_ULPS, UNIT, Atoms
from sparsemf.measures.network import Network

Array = NDArray[np.float64]

FREE_DEGREE = 2
"""Degrees up to this one are free beside gated atoms."""
_SERIES_DEGREES = (24, 48, 96, 192, 384)
_TAIL_TARGET = 1.5e-7
_ROWS = 128


@dataclass(frozen=True, eq=False)
class GatedAtoms:
    """Atoms σ(⟨gate, x⟩ + gate_bias)·(⟨inner, x⟩ + bias): (n, k), (n,), (n, k), (n,)."""

    activation: Activation
    gate: Array
    gate_bias: Array
    inner: Array
    bias: Array

    @staticmethod
    def of(network: Network) -> GatedAtoms:
        """The atoms of a gated network that is already whitened.  Raises :class:`InputError` for an ungated one."""
        if network.gate is None or network.gate_bias is None:
            raise InputError("gate: expected a gated network, got one without gates")
        return GatedAtoms(network.activation, network.gate, network.gate_bias, network.inner, network.bias)

    @property
    def n(self) -> int:
        """Number of atoms."""
        return self.bias.size

    @cached_property
    def gates(self) -> Atoms:
        """The gates as ungated atoms."""
        return Atoms(self.activation, self.gate, self.gate_bias)

    @property
    def unit(self) -> Array:
        """ĝ, shape (n, k)."""
        return self.gates.unit

    @cached_property
    def along(self) -> Array:
        """p = ⟨inner, ĝ⟩, shape (n,)."""
        return np.sum(self.inner * self.unit, axis=1)

    @cached_property
    def across(self) -> Array:
        """v = inner − pĝ, shape (n, k)."""
        return self.inner - self.along[:, None] * self.unit

    @cached_property
    def size(self) -> Array:
        """‖(inner, bias)‖ = ‖ℓ‖, shape (n,)."""
        return np.hypot(np.linalg.norm(self.inner, axis=1), self.bias)

    @cached_property
    def _cache(self) -> dict[str, Array]:
        return {}

    def hermite(self, degree: int) -> tuple[Array, Array]:
        """(A_k, c_{k−1}) for k = 0 … degree, each (n, degree + 1); c_{−1} = 0."""
        if "A" not in self._cache or self._cache["A"].shape[1] <= degree:
            c = self.gates.hermite(degree + 1)
            root = np.sqrt(np.arange(degree + 2.0))
            before = np.concatenate([np.zeros((self.n, 1)), c[:, :-2]], axis=1)
            own = self.bias[:, None] * c[:, :-1]
            own += self.along[:, None] * (root[:-1] * before + root[1:] * c[:, 1:])
            own[self.gates.norm == 0, 1:] = 0.0
            self._cache.update(A=own, c=before)
        return self._cache["A"][:, : degree + 1], self._cache["c"][:, : degree + 1]

    @cached_property
    def second_moment(self) -> tuple[Array, Array]:
        """(Eσ²(e + pg)² + ‖v‖²Eσ², Eσ²), shape (n,) each."""
        plain, first, second = square_moments(self.activation, self.gates.norm, self.gate_bias).T
        level = np.sum(self.across**2, axis=1)
        e, p = self.bias, self.along
        return (e**2 + level) * plain + 2 * e * p * first + p**2 * second, plain

    def tail(self, degree: int) -> Array:
        """Upper bounds of t_i, shape (n,), rounding margin included."""
        own, before = self.hermite(degree)
        whole, plain = self.second_moment
        rest = whole - np.sum(own**2, axis=1) - np.sum(self.across**2, axis=1) * np.sum(before**2, axis=1)
        return np.sqrt(np.maximum(rest, 0.0) + 32 * UNIT * self.size**2 * np.maximum(plain, 0.0))

    def steep(self, degree: int) -> Array:
        """‖(√(k + 2)·(|A_k| + √k‖v‖|c_{k−1}|))_{k ≤ degree}‖, shape (n,): what the roundings of the kernel's entries
        scale with."""
        own, before = self.hermite(degree)
        k = np.arange(degree + 1.0)
        absolute = np.abs(own) + np.linalg.norm(self.across, axis=1)[:, None] * np.sqrt(k) * np.abs(before)
        return np.linalg.norm(np.sqrt(k + 2) * absolute, axis=1) + self.size * self.gates.length

    def take(self, rows: NDArray[Any] | slice) -> GatedAtoms:
        """Some of the atoms."""
        return GatedAtoms(self.activation, self.gate[rows], self.gate_bias[rows], self.inner[rows], self.bias[rows])

    @staticmethod
    def joined(first: GatedAtoms, second: GatedAtoms) -> GatedAtoms:
        """Both, one after the other (same activation)."""
        parts = [(x.gate, x.gate_bias, x.inner, x.bias) for x in (first, second)]
        return GatedAtoms(first.activation, *(np.concatenate(pair) for pair in zip(*parts, strict=True)))


def closed(activation: Activation) -> bool:
    """Whether K₃ has a closed form: gates with one kink."""
    return activation.homogeneous == 1


def series_degree(atoms: GatedAtoms, weight: Array, budget: float = 3e10) -> int | None:
    """The degree at which the series serves for Σ weight_i‖φ_i‖, or None for the closed form."""
    if closed(atoms.activation):
        return None
    mass = float(weight @ (atoms.size * atoms.gates.length))
    degree = _SERIES_DEGREES[0]
    for degree in _SERIES_DEGREES:
        if weight @ atoms.tail(degree) <= _TAIL_TARGET * mass or atoms.n**2 * degree * 10 > budget:
            break
    return degree


def beyond_quadratic(first: GatedAtoms, second: GatedAtoms, degree: int | None, free: int = FREE_DEGREE) -> Array:
    """K₃ between two sets of atoms, (n₁, n₂): closed form for ``degree=None``, else Σ_{k=3}^{degree}.

    Where less is free beside the atoms, ``free`` < 2, the sum starts at k = free + 1.
    """
    out = np.empty((first.n, second.n))
    for start in range(0, first.n, _ROWS):
        part = first.take(slice(start, start + _ROWS))
        if degree is None:
            with np.errstate(divide="ignore", invalid="ignore"):
                found = product_kernel(part, second) - _degrees(part, second, range(free + 1))
            # a constant gate leaves an affine function, of degrees 0 and 1
            flat = (part.gates.norm == 0)[:, None] | (second.gates.norm == 0)
            if flat.any():
                found = np.where(flat, _degrees(part, second, range(free + 1, 2)), found)
            out[start : start + _ROWS] = found
        else:
            out[start : start + _ROWS] = _degrees(part, second, range(free + 1, degree + 1))
    return out


def _degrees(first: GatedAtoms, second: GatedAtoms, degrees: range) -> Array:
    """Σ ⟨T_k, T′_k⟩ over consecutive degrees, five polynomials in ρ by Horner's rule."""
    if not degrees:
        return np.zeros((first.n, second.n))
    low, high = degrees.start, degrees.stop - 1
    (a1, c1), (a2, c2) = first.hermite(high), second.hermite(high)
    root = np.sqrt(np.arange(high + 1.0))
    rho = np.clip(first.unit @ second.unit.T, -1.0, 1.0)
    x, z, y = first.unit @ second.across.T, first.across @ second.unit.T, first.across @ second.across.T
    less = np.sqrt(np.maximum(np.arange(high + 1.0) - 1, 0.0))
    pairs = [(a1, a2), (a1, root * c2), (root * c1, a2), (c1, c2), (less * c1, less * c2)]
    sums = [np.zeros_like(rho) for _ in pairs]
    start = max(low, 2)
    for k in range(high, start - 1, -1):
        for total, (left, right) in zip(sums, pairs, strict=True):
            if k < high:
                total *= rho
            total += np.outer(left[:, k], right[:, k])
    both, forth, back, inner, crossed = sums
    out = ((both * rho + forth * x + back * z + inner * y) * rho + crossed * x * z) * rho ** (start - 2)
    if low <= 1 <= high:
        out += np.outer(a1[:, 1], a2[:, 1]) * rho + np.outer(a1[:, 1], c2[:, 1]) * x
        out += np.outer(c1[:, 1], a2[:, 1]) * z + np.outer(c1[:, 1], c2[:, 1]) * y
    if low == 0:
        out += np.outer(a1[:, 0], a2[:, 0])
    return out


def linear_tensors(atoms: GatedAtoms, beta: Array) -> tuple[Array, Array]:
    """T₀ (m,) and T₁ (m, k) of Σ β_i φ_i, β (n, m)."""
    a, c = atoms.hermite(2)
    t1 = (beta * a[:, 1:2]).T @ atoms.unit + (beta * c[:, 1:2]).T @ atoms.across
    return beta.T @ a[:, 0], t1


def low_tensors(atoms: GatedAtoms, beta: Array) -> tuple[Array, Array, Array]:
    """T₀ (m,), T₁ (m, k) and T₂ (m, k, k) of Σ β_i φ_i, β (n, m)."""
    a, c = atoms.hermite(2)
    t0, t1 = linear_tensors(atoms, beta)
    second = a[:, 2, None] * atoms.unit + np.sqrt(2.0) * c[:, 2, None] * atoms.across
    t2 = np.stack([(atoms.unit * column[:, None]).T @ second for column in beta.T])
    return t0, t1, 0.5 * (t2 + t2.transpose(0, 2, 1))


def low_part(network: Network) -> tuple[Array, Array, Array]:
    """T₀, T₁, T₂ of a whitened gated network; xᵀQx has T₀ = tr Q, T₂ = √2 Q."""
    t0, t1, t2 = low_tensors(GatedAtoms.of(network), network.alpha)
    t0, t1 = t0 + network.offset, t1 + network.affine
    if network.quadratic is not None:
        t0, t2 = t0 + np.trace(network.quadratic, axis1=1, axis2=2), t2 + np.sqrt(2.0) * network.quadratic
    return t0, t1, t2


def low_margin(network: Network) -> float:
    """Stated rounding margin of ‖(T₀, T₁, T₂)‖: (n + d + 64)·UNIT·(the mass of atoms and polynomial part)."""
    atoms = GatedAtoms.of(network)
    mass = 4 * float(np.linalg.norm(network.alpha, axis=1) @ (atoms.size * atoms.gates.scale))
    mass += float(np.linalg.norm(network.affine) + np.linalg.norm(network.offset))
    if network.quadratic is not None:
        mass += 2 * np.sqrt(network.d) * float(np.linalg.norm(network.quadratic))
    return (network.width + network.d + ENTRY_ULPS) * UNIT * mass
