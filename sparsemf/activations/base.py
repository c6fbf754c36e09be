"""What an activation declares: its values, its symmetries and its Gaussian integrals.

Notation (throughout the project): a pre-activation seen under a Gaussian input law is ``r·g + b`` with
``g ~ N(0, 1)``, standard deviation ``r ≥ 0`` and mean ``b``.  ``he_k = He_k/√k!`` are the *normalised*
probabilists' Hermite polynomials, orthonormal in L²(N(0, 1)).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import quadrature
from sparsemf.activations.ops import NUMPY, Ops

Array = NDArray[np.float64]
Kind = Literal["atoms", "kinks", "matrix", "quadratic", "tensor", "frequencies"]

#: Upper bounds are computed in float64 and widened by this factor.
ROUND_UP = 1.0 + 1e-14
#: ‖⟨δ, (x, 1)⟩‖_{L⁴(N(0, I))} ≤ 3^{1/4}·‖δ‖.
FOURTH_ROOT_OF_3 = 3.0**0.25 * ROUND_UP


@dataclass(frozen=True)
class Relation:
    """The finite-rank flip relation σ(z) = sign·σ(−z) + constant + linear·z + quadratic·z².

    A neuron (α, w, b) may be replaced by (sign·α, −w, −b) at the price of the polynomial
    α·(constant + linear·z + quadratic·z²), z = ⟨w, x⟩ + b.
    """

    sign: int
    constant: float = 0.0
    linear: float = 0.0
    quadratic: float = 0.0


@dataclass(frozen=True)
class Term:
    """One term coefficient·core(scale·z + shift) of an :class:`Image`; ``core`` is a registered name."""

    coefficient: float
    core: str
    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True)
class Image:
    """σ written in core activations: σ(z) = Σ_j coefficient_j·core_j(scale_j·z + shift_j) + p₀ + p₁ z.

    ``polynomial`` is (p₀, p₁).  The constants are float64, so the identity holds to their rounding.  Two activations
    with images in the same cores are compared core by core.
    """

    terms: tuple[Term, ...]
    polynomial: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class KernelValue:
    """E[σ(U)σ(V)] elementwise, with what is known of its error.

    ``error`` is an absolute error: a stated rounding margin when ``closed`` is true; otherwise a bounded truncation or,
    where a quadrature had to serve, the difference of two of its orders (an *estimate*).
    """

    value: Array
    error: Array
    closed: bool


class Activation(ABC):
    """One activation function σ.

    Attributes
    ----------
    name:
        Canonical name, with its parameter when it has one: ``"relu"``, ``"leaky_relu(0.2)"``.
    homogeneous:
        Degree k with σ(tz) = t^k σ(z) for all t > 0, or None.
    relation:
        The flip relation, or None when σ has none.
    lipschitz:
        sup |σ′|, rounded up; ``inf`` when σ′ is unbounded.
    bound:
        sup |σ|, rounded up (``inf`` when unbounded).
    strip:
        A lower bound of the distance from the real axis to the nearest singularity of σ (0 for kinked σ,
        ``inf`` for entire σ); it sets the step of the trapezoidal rule.
    breaks:
        The points where σ is not analytic.
    grain:
        A length below which σ is smooth on either side of its breaks; it sets the finest quadrature panel.
    kernel_closed:
        Whether :meth:`kernel` is a closed form.
    kernel_ulps:
        Units in the last place of rounding_size·rounding_size′ that a closed form beyond low degrees is trusted to.
    image:
        σ in terms of cores, or None when σ is itself a core.
    polynomial_degree:
        n where σ is a polynomial of degree n, else None.
    kind:
        What the quotient by the symmetry is: ``"atoms"`` (a measure on the section), ``"kinks"`` (a relu kink measure
        whose atoms telescope), ``"matrix"``, ``"quadratic"``, ``"tensor"`` (the only thing seen of Σ α w^{⊗k}),
        ``"frequencies"`` (atoms sharing ±w span rank 2).
    """

    name: str
    homogeneous: int | None = None
    relation: Relation | None = None
    lipschitz: float
    bound: float = np.inf
    strip: float = np.inf
    breaks: tuple[float, ...] = ()
    grain: float = 1.0
    kernel_closed: bool = False
    kernel_ulps: int = 256
    polynomial_degree: int | None = None
    image: Image | None = None
    kind: Kind = "atoms"

    @abstractmethod
    def value_and_derivative(self, z: Any, ops: Ops) -> tuple[Any, Any]:
        """σ(z) and σ′(z) elementwise (at a kink: the left derivative)."""

    def value(self, z: Any, ops: Ops = NUMPY) -> Any:
        """σ(z) elementwise."""
        return self.value_and_derivative(z, ops)[0]

    def derivative(self, z: Any, ops: Ops = NUMPY) -> Any:
        """σ′(z) elementwise."""
        return self.value_and_derivative(z, ops)[1]

    def sup_abs(self, low: Array, high: Array) -> Array:
        """An upper bound of sup |σ| on each interval [low, high] (shape (n,)).

        Default: both ends plus the Lipschitz bound on half the length, capped by the values at the ends when
        σ is monotone (see the families).
        """
        ends = np.maximum(np.abs(self.value(low)), np.abs(self.value(high)))
        return ends + 0.5 * self.lipschitz * (high - low)

    def sup_slope(self, low: Array, high: Array) -> Array:
        """An upper bound of sup |σ′| on each interval [low, high]; default: ``lipschitz``."""
        return np.full(np.broadcast(low, high).shape, self.lipschitz)

    def size(self, r: Array, b: Array) -> Array:
        """An upper bound of ‖σ(r g + b)‖_{L²(g ~ N(0, 1))}, elementwise.

        Default: |σ(0)| + lipschitz·√(r² + b²), capped by ``bound``.
        """
        at_zero = abs(float(self.value(np.zeros(1))[0]))
        return np.minimum((at_zero + self.lipschitz * np.hypot(r, b)) * ROUND_UP, self.bound)

    def rounding_size(self, r: Array, b: Array) -> Array:
        """What the rounding of a closed-form kernel scales with (entry error ~ UNIT·rounding_size·rounding_size′).

        Default: :meth:`size` without the cap, since closed forms do not know that σ is bounded.
        """
        return (abs(float(self.value(np.zeros(1))[0])) + self.lipschitz * np.hypot(r, b)) * ROUND_UP

    def modulus(self, r: Array, b: Array) -> Array:
        """M with ‖σ(⟨u, (x, 1)⟩) − σ(⟨v, (x, 1)⟩)‖_{L²(N(0, I))} ≤ M·‖u − v‖ whenever u = (w, β) and v both have
        ‖w‖ ≤ r and |β| ≤ |b|; elementwise.

        Default: ``lipschitz``.  For σ′ unbounded, Hölder: M = 3^{1/4}·sup ‖σ′(s g + β)‖_{L⁴} over s ≤ r, |β| ≤ |b|,
        since ‖⟨δ, (x, 1)⟩‖_{L⁴} ≤ 3^{1/4}‖δ‖ and the segment from v to u stays in the same (convex) set.
        """
        return np.full(np.broadcast(r, b).shape, self.lipschitz)

    def as_image(self) -> Image:
        """σ in terms of cores; a core is its own image."""
        return self.image if self.image is not None else Image((Term(1.0, self.name),))

    def hermite(self, r: Array, b: Array, degree: int) -> Array:
        """Hermite coefficients c_k(r, b) = E[σ(r g + b) he_k(g)] for k = 0 … degree; shape (n, degree + 1).

        Default: the rules of :mod:`sparsemf.activations.quadrature`, near rounding for every r and b; families with a
        closed form use it.
        """
        return quadrature.hermite_coefficients(self, np.asarray(r, float), np.asarray(b, float), degree)

    def second_moment(self, r: Array, b: Array) -> Array:
        """E σ(r g + b)², shape (n,)."""
        return quadrature.second_moment(self, np.asarray(r, float), np.asarray(b, float))

    def kernel(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> KernelValue:
        """K = E[σ(U)σ(V)] for U ~ N(m1, s1²), V ~ N(m2, s2²), cov(U, V) = c; all arrays broadcast together.

        Default: Mehler's series with its bounded tail, refined by conditioning (:mod:`sparsemf.activations.kernels`).
        """
        from sparsemf.activations.kernels import series_kernel

        return series_kernel(self, self, s1, m1, s2, m2, c)

    def kernel_form(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> KernelValue:
        """:meth:`kernel` for many entries at once: no entry is refined one by one; ``error`` says what that leaves."""
        return self.kernel(s1, m1, s2, m2, c)

    def __repr__(self) -> str:
        return f"Activation({self.name})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Activation) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)
