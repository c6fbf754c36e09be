"""What the convex program sees of its target: the operator Φ of one activation on L²(ρ; R^m), through inner products.

    (Φν)(x) = Σ_i α_i φ(θ_i)(x),   φ(w, b)(x) = σ(⟨w, x⟩ + b),   η(θ) = (Φ*r)(θ) = E_ρ[r(x) φ(θ)(x)] ∈ R^m.

With a free affine part every function is replaced by its projection off span{1, x}; then the program needs the
projected f* only.  Two kinds: data (:mod:`.data`) and a network under N(0, I) (:mod:`.population`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.certificates.convex.parameters import ParameterSet
from sparsemf.measures import Network

Array = NDArray[np.float64]

UNIT = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Atomic:
    """A discrete measure: θ (S, D) and α (S, m); |ν|_TV = Σ‖α_i‖₂."""

    theta: Array
    alpha: Array

    @staticmethod
    def empty(dim: int, m: int) -> Atomic:
        """The zero measure."""
        return Atomic(np.zeros((0, dim)), np.zeros((0, m)))

    @property
    def size(self) -> int:
        """S."""
        return self.theta.shape[0]

    @property
    def variation(self) -> float:
        """Σ‖α_i‖₂."""
        return float(np.sum(np.linalg.norm(self.alpha, axis=1)))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Atomic:
        """Some of the atoms."""
        return Atomic(self.theta[rows], self.alpha[rows])

    def joined(self, other: Atomic) -> Atomic:
        """The sum of two measures."""
        return Atomic(np.concatenate([self.theta, other.theta]), np.concatenate([self.alpha, other.alpha]))


@dataclass(frozen=True, eq=False)
class Jet:
    """η at n points: ``value`` (n, m), ``jacobian`` (n, m, D), ``hessian`` (n, m, D, D) or None."""

    value: Array
    jacobian: Array
    hessian: Array | None


@dataclass(frozen=True, eq=False)
class Curvature:
    """η of one residual r on Θ, in few coordinates, with what bounds it between points.

    For every unit v and θ in the convex hull of Θ: ‖D²η(θ)[v, v]‖ ≤ ``second`` (∞ when unknown), and the same for
    D³ with ``third`` and D⁴ with ``fourth``; ‖η(θ) − η(θ′)‖ ≤ ``lipschitz``·|θ − θ′|.  ``error`` bounds ‖η − computed
    η‖ on Θ: rounding, what the effective coordinates leave out and the truncation of a series.  ``jet(θ, order)``
    evaluates.
    """

    oracle: Oracle
    second: float
    third: float
    lipschitz: float
    error: float
    dim: int
    half: int | None
    """A coordinate in which η is even, so that only its half ≥ 0 needs to be searched."""
    d: int
    """How many of the coordinates are w."""
    embed: Array
    """(dim, D): a point of the original Θ is (effective point) @ embed."""
    fourth: float = np.inf
    """Finite only where the oracle's :meth:`Oracle.third_at` is."""
    central: bool = False
    """‖η(−θ)‖ = ‖η(θ)‖ (odd or even σ), so that θ₀ ≥ 0 suffices."""
    grows: bool = False
    """exp and polynomials: the constants are those of the first boxes, and the oracle bounds each box by its own."""
    everywhere: float = np.inf
    """sup ‖η‖ on the sphere, of the oracle's η, where that is a form of degree 1, or of 2 with one output; else ∞."""

    def third_from(self, centre: Array, radius: Array) -> Array:
        """T with |η(c + δ) − (Taylor's polynomial of degree 2)| ≤ T|δ|³/6 for |δ| ≤ ``radius``: the smaller of
        ``third`` and ‖D³η(c)‖ + ``fourth``·radius/4, as the remainder of degree 3 is at most ``fourth``·|δ|⁴/24."""
        if self.grows:
            return np.minimum(self.third, self.oracle.third_on(centre, radius) * (1 + 1e-12))
        if not np.isfinite(self.fourth):
            return np.full(radius.shape, self.third)
        return np.minimum(self.third, (self.oracle.third_at(centre) + 0.25 * self.fourth * radius) * (1 + 1e-12))


def form_norm(activation: Activation, space: ParameterSet, oracle: Oracle, dim: int, m: int) -> float:
    """sup ‖η‖ over the unit sphere, rounded up, for σ = z (η = Dη·θ) and, with one output, σ = z² (η = ½D²η[θ, θ]): the
    spectral norm, whatever the dimension; ∞ for others.  LAPACK's singular values to (16D + 64) units."""
    degree = activation.polynomial_degree
    if not space.sphere or degree != space.degree or degree not in (1, 2) or (degree == 2 and m > 1):
        return np.inf
    jet = oracle.jet(np.eye(dim)[:1], 2)
    form = jet.jacobian[0] if degree == 1 else jet.hessian[0, 0] / 2 if jet.hessian is not None else None
    if form is None:
        return np.inf
    size = float(np.linalg.norm(form))
    return float(np.linalg.norm(form, 2)) + (16 * dim + 64) * UNIT * size


class Oracle(Protocol):
    """η of one residual in effective coordinates."""

    def jet(self, theta: Array, order: int) -> Jet:
        """Value and Jacobian (order 1), and the Hessian where known (order 2)."""
        ...

    def second_on(self, low: Array, high: Array) -> Array:
        """Bounds of ‖D²η‖ on each box [low, high] (n, dim), used beside ``Curvature.second``."""
        ...

    def third_at(self, theta: Array) -> Array:
        """Bounds of ‖D³η(θ)[v, v, v]‖, |v| = 1, at points (n, dim); ∞ where σ‴ is not known."""
        ...

    def third_on(self, centre: Array, radius: Array) -> Array:
        """T of :meth:`.Curvature.third_from` on balls, for σ whose derivatives grow; ∞ for others."""
        ...


class Observation(Protocol):
    """A target f* seen through the atoms of one activation."""

    @property
    def activation(self) -> Activation: ...

    @property
    def space(self) -> ParameterSet: ...

    @property
    def m(self) -> int: ...

    def gram(self, first: Array, second: Array) -> Array:
        """(n₁, n₂) inner products of atoms."""
        ...

    def moments(self, theta: Array) -> Array:
        """⟨f*, φ(θ)⟩, (n, m)."""
        ...

    def jet(self, measure: Atomic, theta: Array, order: int = 1) -> Jet:
        """η = Φ*(f* − Φν) at ``theta``."""
        ...

    def curvature(self, measure: Atomic) -> Curvature:
        """The same η in effective coordinates with its bounds."""
        ...

    def square(self, measure: Atomic) -> float:
        """‖f* − Φν‖² in float64."""
        ...

    def residual_energy(self, measure: Atomic) -> tuple[float, float]:
        """‖f* − Φν‖² as computed, and a bound of its error."""
        ...

    def overlap(self, measure: Atomic) -> tuple[float, float]:
        """⟨f*, f* − Φν⟩ as computed, and a bound of its error."""
        ...

    def network(self, measure: Atomic) -> Network:
        """Φν as a network in input coordinates, with the best affine part where it is free."""
        ...

    def suggestions(self, count: int, rng: np.random.Generator) -> Array:
        """Starting points for the search of maxima of ‖η‖, (≤ count, D)."""
        ...
