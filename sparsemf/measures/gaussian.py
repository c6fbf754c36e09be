"""L²(N(0, I)) geometry of atoms: Hermite coefficients and the kernel beyond the free polynomials.

In whitened coordinates an atom (w, b) with s = ‖w‖, û = w/s has normalised Hermite tensors
T_k = c_k(s, b) û^{⊗k}, so ⟨φ_i, φ_j⟩ = Σ_k c_k(i) c_k(j) cos_{ij}^k.  The affine functions are the degrees 0 and
1; what they leave is

    K₂(i, j) = Σ_{k ≥ 2} c_k(i) c_k(j) cos_{ij}^k.

Where quadratic polynomials are free too (:func:`free_degree`) the sum starts at k = 3; where the linear part is charged
to the atoms it starts at k = 1, and at k = 0 where the constant is, too (``free`` = 0, −1).

Two ways to it: the closed form K − c₀c₀ᵀ − c₁c₁ᵀ∘cos (− c₂c₂ᵀ∘cos²), or the series up to a degree chosen from the exact
tails t_i² = E σ_i² − Σ_{k ≤ K} c_k(i)² (K₂ − series is positive semi-definite with entries ≤ t_i t_j).  Quadratic
forms come with a stated rounding margin (:func:`energy_beyond_affine`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation, KernelValue
from sparsemf.exceptions import InputError
from sparsemf.measures.network import Network
from sparsemf.measures.parallel import over_rows

Array = NDArray[np.float64]

UNIT = float(np.finfo(np.float64).eps)
"""The spacing of float64 at 1 (2u)."""

#: Stated margin: entries of K₂ are trusted to (ENTRY_ULPS + d)·UNIT·‖φ_i‖‖φ_j‖.
ENTRY_ULPS = 64
_SERIES_DEGREES = (24, 48, 96, 192, 384, 768)
_TAIL_TARGET = 1.5e-7
#: Smooth closed forms (gelu, erf) lose digits like ‖w‖; steeper atoms use the series with its tail.
_STEEPEST_CLOSED = 30.0
_ROWS = 128
#: Up to this many atoms, a kinked σ without closed form is summed from its kernel and that one's error, not from the
#: series.
_KERNEL_WIDTH = 512
#: Second moments beyond this are refused: products of two of them must not overflow.
_LARGEST_SQUARE = 1e150


@dataclass(frozen=True, eq=False)
class Atoms:
    """Atoms of one activation in whitened coordinates: ``inner`` (n, k), ``bias`` (n,)."""

    activation: Activation
    inner: Array
    bias: Array

    @staticmethod
    def of(network: Network) -> Atoms:
        """The atoms of a network that is already whitened.  Raises :class:`InputError` for a gated one."""
        if network.gated:
            raise InputError(
                "gated network: expected neurons σ(⟨w, x⟩ + b) for norms under a Gaussian law, got products with a "
                "gate; use the law of data rows or the sup norm"
            )
        return Atoms(network.activation, network.inner, network.bias)

    @property
    def n(self) -> int:
        """Number of atoms."""
        return self.bias.size

    @cached_property
    def norm(self) -> Array:
        """s = ‖w‖, shape (n,)."""
        return np.linalg.norm(self.inner, axis=1)

    @cached_property
    def unit(self) -> Array:
        """û = w/‖w‖ (0 where w = 0), shape (n, k)."""
        return self.inner / np.where(self.norm > 0, self.norm, 1.0)[:, None]

    @cached_property
    def second_moment(self) -> Array:
        """‖φ_i‖² = E σ(s g + b)², shape (n,); raises :class:`InputError` where it leaves the range of numbers."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self._representable(self.activation.second_moment(self.norm, self.bias))

    @cached_property
    def scale(self) -> Array:
        """:meth:`Activation.rounding_size` ≥ ‖φ_i‖, shape (n,): what the rounding of a *closed-form* kernel scales
        with.

        Finite for every σ; raises :class:`InputError` where it leaves the range of numbers.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            scale = self.activation.rounding_size(self.norm, self.bias)
            self._representable(scale * scale)
        return scale

    def _representable(self, square: Array) -> Array:
        """``square``, or a refusal that names the neuron."""
        bad = np.flatnonzero(~(square <= _LARGEST_SQUARE))
        if bad.size:
            i = int(bad[0])
            raise InputError(
                f"{self.activation.name}: expected neurons with E σ(⟨w, x⟩ + b)² at most {_LARGEST_SQUARE:g} under "
                f"the input law, got ‖w‖ = {self.norm[i]:.3g}, b = {self.bias[i]:.3g} in its coordinates; rescale the "
                "inputs or give the law of the data (--rho)"
            )
        return square

    @cached_property
    def entry_length(self) -> Array:
        """What the rounding of the c_k and of E σ² scales with, shape (n,): ``length`` for Lipschitz σ.

        For unbounded σ′ it is ``scale``: c_k of exp is e^{b + r²/2}r^k/√k!, whose exponent rounds, and those of
        polynomials are sums that may cancel.
        """
        return self.length if np.isfinite(self.activation.lipschitz) else self.scale

    @cached_property
    def length(self) -> Array:
        """‖φ_i‖ rounded up, shape (n,); E σ² itself may cancel (a rarely active relu), hence 64·UNIT·scale²."""
        return np.sqrt(np.maximum(self.second_moment, 0.0) + 64 * UNIT * self.scale**2)

    def rounding_length(self, degree: int | None) -> Array:
        """What the entries' rounding scales with: ``scale`` for the closed form, ``entry_length`` for the series."""
        return self.scale if degree is None else self.entry_length

    @cached_property
    def _cache(self) -> dict[str, Array]:
        return {}

    def hermite(self, degree: int) -> Array:
        """c_k for k = 0 … degree, shape (n, degree + 1); c_k = 0 for k ≥ 1 where w = 0.

        Raises like ``second_moment``.
        """
        known = self._cache.get("c")
        if known is None or known.shape[1] <= degree:
            _ = self.second_moment
            known = self.activation.hermite(self.norm, self.bias, max(degree, 8))
            known[self.norm == 0, 1:] = 0.0
            self._cache["c"] = known
        return known[:, : degree + 1]

    def tail(self, degree: int) -> Array:
        """Upper bound of t_i = ‖φ_i − Σ_{k ≤ degree}‖ in L², shape (n,), rounding margin included."""
        rest = self.second_moment - np.sum(self.hermite(degree) ** 2, axis=1)
        margin = self.second_moment if np.isfinite(self.activation.lipschitz) else self.scale**2
        return np.sqrt(np.maximum(rest, 0.0) + 8 * UNIT * margin)

    def take(self, rows: NDArray[Any] | slice) -> Atoms:
        """Some of the atoms."""
        return Atoms(self.activation, self.inner[rows], self.bias[rows])

    @staticmethod
    def joined(first: Atoms, second: Atoms) -> Atoms:
        """Both, one after the other (same activation)."""
        return Atoms(
            first.activation,
            np.concatenate([first.inner, second.inner]),
            np.concatenate([first.bias, second.bias]),
        )


def cosines(first: Atoms, second: Atoms) -> Array:
    """cos_{ij} = ⟨û_i, û_j⟩ clipped to [−1, 1]."""
    return np.clip(first.unit @ second.unit.T, -1.0, 1.0)


def series_degree(atoms: Atoms, weight: Array, budget: float = 6e9) -> int | None:
    """The degree at which the Hermite series serves for atoms of total weight Σ weight_i‖φ_i‖, or None for the
    closed form (kinked activations and those of unbounded slope that have one, or a smooth one whose series is too
    slow while an accurate closed form exists)."""
    exact = atoms.activation.strip == 0.0 or not np.isfinite(atoms.activation.lipschitz)
    if exact and atoms.activation.kernel_closed:
        return None
    mass = float(weight @ atoms.length)
    degree = _SERIES_DEGREES[0]
    for degree in _SERIES_DEGREES:
        if weight @ atoms.tail(degree) <= _TAIL_TARGET * mass:
            return degree
        if atoms.n**2 * degree * 2 > budget:
            break
    steep = bool(np.max(atoms.norm, initial=0.0) > _STEEPEST_CLOSED)
    return None if atoms.activation.kernel_closed and not steep else degree


def beyond_affine(first: Atoms, second: Atoms, degree: int | None, free: int = 1) -> Array:
    """K₂ between two sets of atoms, shape (n₁, n₂): closed form for ``degree=None``, else Σ_{k=2}^{degree}; beyond the
    degree ``free`` ∈ {−1, 0, 1, 2} instead of 1 where that is given (−1: the whole kernel)."""
    if degree is None:
        out = np.empty((first.n, second.n))
        low = second.hermite(max(free, 0))[:, : free + 1]
        for start in range(0, first.n, _ROWS):  # closed forms need some twenty temporaries of this shape
            out[start : start + _ROWS] = _kernel_block(first.take(slice(start, start + _ROWS)), second, low).value
        still, flat = first.norm == 0, second.norm == 0
        if still.any() or flat.any():  # constants: closed forms are not asked for a correlation that does not exist
            level = np.outer(first.hermite(0)[:, 0], second.hermite(0)[:, 0]) if free < 0 else np.zeros(out.shape)
            out[still], out[:, flat] = level[still], level[:, flat]
        return out
    out = np.empty((first.n, second.n))
    c1, c2 = first.hermite(degree), second.hermite(degree)
    steps = list(pairwise([*_present(c1, c2, free), 0]))
    rows_of = c2.T.copy()
    left, right = first.unit, second.unit

    def block(start: int) -> None:  # small row blocks stay in cache through all degrees
        rows = slice(start, start + _ROWS)
        columns = slice(start if second is first else 0, second.n)  # a symmetric matrix: its upper half
        cos = np.clip(left[rows] @ right[columns].T, -1.0, 1.0)
        acc, term = np.zeros_like(cos), np.empty_like(cos)
        squared = cos * cos
        for k, below in steps:  # Horner, over gaps of any length
            np.multiply(c1[rows, k, None], rows_of[k, columns], out=term)
            acc += term
            for _ in range((k - below) // 2):
                acc *= squared
            if (k - below) % 2:
                acc *= cos
        out[rows, columns] = acc
        if second is first:
            out[columns, rows] = acc.T

    over_rows(block, first.n, _ROWS, 3.0 * out.size * len(steps))
    return out


def _kernel_block(part: Atoms, second: Atoms, low: Array) -> KernelValue:
    """The kernel from :meth:`Activation.kernel_form`, with the error of that, less the degrees of ``low``, the first
    columns of ``second.hermite`` (none of them: the whole kernel)."""
    own = part.hermite(max(low.shape[1] - 1, 0))
    found = part.activation.kernel_form(
        part.norm[:, None], part.bias[:, None], second.norm, second.bias, part.inner @ second.inner.T
    )
    if not low.shape[1]:
        return found
    value = found.value - np.outer(own[:, 0], low[:, 0])
    cos, power = cosines(part, second), 1.0
    for k in range(1, low.shape[1]):
        power = power * cos
        value -= np.outer(own[:, k], low[:, k]) * power
    return replace(found, value=value)


def _present(c1: Array, c2: Array, free: int) -> list[int]:
    """Degrees > ``free``, descending, at which some product c_k c_k′ is above rounding (odd σ without bias has no even
    ones).

    What is left out is below UNIT²·‖φ‖‖φ′‖, far inside the tail's own margin.
    """
    size1, size2 = np.max(np.abs(c1), axis=0, initial=0.0), np.max(np.abs(c2), axis=0, initial=0.0)
    floor = UNIT**2 * size1.max(initial=0.0) * size2.max(initial=0.0)
    return [k for k in range(c1.shape[1] - 1, free, -1) if size1[k] * size2[k] > floor]


def beyond_affine_rows(
    first: Atoms, second: Atoms, degree: int | None, rows: int = 1024
) -> Iterator[tuple[slice, Array]]:
    """K₂ in row blocks, so that no n₁×n₂ array need exist."""
    for start in range(0, first.n, rows):
        part = slice(start, min(start + rows, first.n))
        yield part, beyond_affine(first.take(part), second, degree)


def form_margin(
    n: int, d: int, absolute_form: float, mass: float, degree: int | None, closed_ulps: int = 4 * ENTRY_ULPS
) -> float:
    """The stated rounding margin of a quadratic form γᵀK₂γ in float64.

    Summation: (n + 64)·UNIT·|γ|ᵀ|K₂||γ|; entries: (64 + d)·UNIT·mass² for the series, (closed_ulps + 4d)·UNIT·mass²
    for a closed form.
    """
    entries = ENTRY_ULPS + d if degree is not None else closed_ulps + 4 * d
    return UNIT * ((n + 64) * absolute_form + entries * mass**2)


@dataclass(frozen=True)
class Energy:
    """Two-sided bounds of a squared norm: ``value`` as computed, ``lower`` ≤ truth ≤ ``upper``."""

    value: float
    lower: float
    upper: float


def energy_beyond_affine(atoms: Atoms, gamma: Array) -> Energy:
    """Σ_{k ≥ 2} ‖T_k‖² of h = Σ_i γ_i φ_i (γ of shape (n, m)), with its margin; no n×n array exists."""
    weight = np.linalg.norm(gamma, axis=1)
    if not weight.any():
        return Energy(0.0, 0.0, 0.0)
    if atoms.activation.strip == 0.0 and not atoms.activation.kernel_closed and atoms.n <= _KERNEL_WIDTH:
        return _energy_by_kernel(atoms, gamma, weight)
    degree = series_degree(atoms, weight)
    mass = float(weight @ atoms.rounding_length(degree))
    form = absolute = 0.0
    for rows, block in beyond_affine_rows(atoms, atoms, degree):
        form += float(np.sum(gamma[rows] * (block @ gamma)))
        absolute += float(weight[rows] @ (np.abs(block) @ weight))
    margin = form_margin(atoms.n, atoms.inner.shape[1], absolute, mass, degree, atoms.activation.kernel_ulps)
    tail = 0.0 if degree is None else float(weight @ atoms.tail(degree)) ** 2
    return Energy(form, max(form - margin, 0.0), max(form, 0.0) + margin + tail)


def _energy_by_kernel(atoms: Atoms, gamma: Array, weight: Array) -> Energy:
    """:func:`energy_beyond_affine` where the kernel is no closed form: its error is charged entry by entry."""
    block = _kernel_block(atoms, atoms, atoms.hermite(1))
    form = float(np.sum(gamma * (block.value @ gamma)))
    absolute = float(weight @ (np.abs(block.value) @ weight))
    margin = form_margin(atoms.n, atoms.inner.shape[1], absolute, float(weight @ atoms.scale), None)
    margin += float(weight @ (block.error @ weight))
    return Energy(form, max(form - margin, 0.0), max(form, 0.0) + margin)


def free_degree(network: Network) -> int:
    """The degree up to which polynomials are free beside the atoms of a network: 1, or 2 where a quadratic form is.

    That is so for gated blocks and relu² (a flip of an atom costs one), and where the network itself has a quadratic
    part, which then belongs to its architecture - but for atoms that are quadratic forms themselves: to these it is
    added.
    """
    if network.gated:
        return 2
    relation = network.activation.relation
    if relation is not None and relation.quadratic != 0:
        return 2
    return 2 if network.quadratic is not None and network.activation.polynomial_degree != 2 else 1


def quadratic_part(network: Network) -> Array:
    """Degree 2 of a whitened network, T₂ (m, k, k): Σ_i α_i c₂(i) û_iû_iᵀ + √2 Q."""
    atoms = Atoms.of(network)
    second = atoms.hermite(2)[:, 2]
    out = np.empty((network.m, network.d, network.d))
    for o in range(network.m):
        out[o] = (atoms.unit * (network.alpha[:, o] * second)[:, None]).T @ atoms.unit
        if network.quadratic is not None:
            out[o] += np.sqrt(2.0) * network.quadratic[o]
    return out


def affine_part(network: Network) -> tuple[Array, Array]:
    """Degrees 1 and 0 of a whitened network: T₁ (m, k) and T₀ (m,); xᵀQx adds tr Q to T₀."""
    atoms = Atoms.of(network)
    low = atoms.hermite(1)
    constant = network.offset + network.alpha.T @ low[:, 0]
    if network.quadratic is not None:
        constant = constant + np.trace(network.quadratic, axis1=1, axis2=2)
    return network.affine + (network.alpha * low[:, 1:]).T @ atoms.unit, constant


def affine_margin(network: Network) -> float:
    """Stated rounding margin of ‖(T₀, T₁)‖: (n + d + 64)·UNIT·(Σ‖α_i‖‖φ_i‖ + ‖A‖ + ‖c‖ + √d‖Q‖)."""
    atoms = Atoms.of(network)
    mass = float(np.linalg.norm(network.alpha, axis=1) @ atoms.scale)
    mass += float(np.linalg.norm(network.affine) + np.linalg.norm(network.offset))
    if network.quadratic is not None:
        mass += np.sqrt(network.d) * float(np.linalg.norm(network.quadratic))
    return (network.width + network.d + 64) * UNIT * mass


def quadratic_energy(network: Network) -> Energy:
    """What the quadratic part of a whitened network adds to Σ_{k ≥ 2} ‖T_k‖² of its atoms (it may be negative):

    T₂ gains √2·Q, so ‖T₂ + √2Q‖² − ‖T₂‖² = 2√2 Σ_i c₂(i) Σ_o α_io û_iᵀQ_o û_i + 2‖Q‖²_F.
    """
    if network.quadratic is None:
        return Energy(0.0, 0.0, 0.0)
    atoms = Atoms.of(network)
    second = atoms.hermite(2)[:, 2]
    cross = absolute = 0.0
    for o in range(network.m):
        form = np.einsum("id,id->i", atoms.unit @ network.quadratic[o], atoms.unit)
        cross += float((network.alpha[:, o] * second) @ form)
        absolute += float(np.abs(network.alpha[:, o]) @ atoms.scale) * float(np.linalg.norm(network.quadratic[o]))
    own = float(np.sum(network.quadratic**2))
    value = 2 * np.sqrt(2.0) * cross + 2 * own
    margin = (network.width + network.d + ENTRY_ULPS) * UNIT * (3 * absolute + 4 * own)
    return Energy(value, value - margin, value + margin)
