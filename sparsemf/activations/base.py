"""What an activation declares: its values, its symmetries and its Gaussian integrals.

Notation (throughout the project): a pre-activation seen under a Gaussian input law is ``r·g + b`` with
``g ~ N(0, 1)``, standard deviation ``r ≥ 0`` and mean ``b``.  ``he_k = He_k/√k!`` are the *normalised*
probabilists' Hermite polynomials, orthonormal in L²(N(0, 1)).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import quadrature
from sparsemf.activations.ops import NUMPY, Ops

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Relation:
    """The finite-rank flip relation σ(z) = sign·σ(−z) + constant + linear·z.

    A neuron (α, w, b) may be replaced by (sign·α, −w, −b) at the price of the affine function
    α·(constant + linear·(⟨w, x⟩ + b)).
    """

    sign: int
    constant: float = 0.0
    linear: float = 0.0


@dataclass(frozen=True)
class KernelValue:
    """E[σ(U)σ(V)] elementwise, with what is known of its error.

    ``error`` is an absolute error: a stated rounding margin when ``closed`` is true, the difference of two
    quadrature orders (an *estimate*) otherwise.
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
        sup |σ′|, rounded up.
    strip:
        A lower bound of the distance from the real axis to the nearest singularity of σ (0 for kinked σ,
        ``inf`` for entire σ); it sets the step of the trapezoidal rule.
    kernel_closed:
        Whether :meth:`kernel` is a closed form.
    """

    name: str
    homogeneous: int | None = None
    relation: Relation | None = None
    lipschitz: float
    strip: float = np.inf
    kernel_closed: bool = False

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

    def hermite(self, r: Array, b: Array, degree: int) -> Array:
        """Hermite coefficients c_k(r, b) = E[σ(r g + b) he_k(g)] for k = 0 … degree; shape (n, degree + 1).

        Trapezoidal rule on the whole line: the integrand is analytic in a strip, so the error falls like
        exp(−2π·strip/(r·step)); families with a kink override this by their closed form.
        """
        return quadrature.hermite_coefficients(self, np.asarray(r, float), np.asarray(b, float), degree)

    def second_moment(self, r: Array, b: Array) -> Array:
        """E σ(r g + b)², shape (n,)."""
        return quadrature.second_moment(self, np.asarray(r, float), np.asarray(b, float))

    def kernel(self, s1: Array, m1: Array, s2: Array, m2: Array, c: Array) -> KernelValue:
        """K = E[σ(U)σ(V)] for U ~ N(m1, s1²), V ~ N(m2, s2²), cov(U, V) = c; all arrays broadcast together.

        Default: tensor Gauss–Hermite quadrature, error estimated from two orders.
        """
        s1, m1, s2, m2, c = np.broadcast_arrays(s1, m1, s2, m2, c)
        return quadrature.kernel_2d(self, s1, m1, s2, m2, c)

    def __repr__(self) -> str:
        return f"Activation({self.name})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Activation) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)
