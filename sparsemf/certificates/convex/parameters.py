"""The compact parameter set Θ over which measures live, and smooth charts on it.

θ = (w, b) ∈ R^D with D = d + 1, or θ = w with D = d when the atoms have no bias.

- σ positively homogeneous of degree k: Θ is the unit sphere of R^D.  Every neuron is α|θ|^k at θ/|θ|, so nothing is
  lost, and a bias is penalised like any other coordinate.
- other σ: Θ = {|w| ≤ R_w, |b| ≤ R_b}.  A ball (not a box) in w, so that Θ keeps the rotations of R^d.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.exceptions import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ParameterSet:
    """Θ ⊂ R^D.  ``degree`` is k on the sphere and None on ball × interval; ``radius`` = R_w, ``bias_radius`` = R_b."""

    d: int
    bias: bool
    degree: int | None
    radius: float = 1.0
    bias_radius: float = 0.0

    @staticmethod
    def of(
        activation: Activation, d: int, bias: bool, radius: float | None = None, bias_radius: float | None = None
    ) -> ParameterSet:
        """Θ of an activation; raises :class:`InputError` when a radius is missing, or given for the sphere."""
        if activation.homogeneous is not None and activation.homogeneous > 0:
            if radius is not None or bias_radius is not None:
                raise InputError(
                    f"{activation.name} is homogeneous: expected no radius (its parameters are the unit sphere)"
                )
            return ParameterSet(d, bias, activation.homogeneous)
        if radius is None or (bias and bias_radius is None):
            raise InputError(
                f"{activation.name} is not homogeneous: expected radius R_w (and bias_radius R_b with a bias) of the "
                "parameter set |w| ≤ R_w, |b| ≤ R_b"
            )
        limits = [radius] + ([bias_radius] if bias and bias_radius is not None else [])
        if not all(np.isfinite(r) and r > 0 for r in limits):
            raise InputError(f"radius and bias_radius: expected positive numbers, got {limits}")
        return ParameterSet(d, bias, None, float(radius), float(bias_radius or 0.0) if bias else 0.0)

    @property
    def dim(self) -> int:
        """D."""
        return self.d + int(self.bias)

    @property
    def sphere(self) -> bool:
        """Whether Θ is the unit sphere of R^D."""
        return self.degree is not None

    @property
    def reach(self) -> float:
        """sup |θ| over Θ."""
        return 1.0 if self.sphere else float(np.hypot(self.radius, self.bias_radius))

    def weights(self, theta: Array) -> Array:
        """w, shape (n, d)."""
        return theta[:, : self.d]

    def biases(self, theta: Array) -> Array:
        """b, shape (n,); zeros without a bias."""
        return theta[:, self.d] if self.bias else np.zeros(theta.shape[0])

    def join(self, w: Array, b: Array) -> Array:
        """θ from w (n, d) and b (n,)."""
        return np.concatenate([w, b[:, None]], axis=1) if self.bias else np.array(w)

    def project(self, theta: Array) -> Array:
        """The nearest point of Θ, row by row (the first unit vector for θ = 0 on the sphere)."""
        theta = np.array(theta, dtype=np.float64)
        if self.sphere:
            norm = np.linalg.norm(theta, axis=1)
            theta[norm == 0, 0] = 1.0
            return theta / np.where(norm > 0, norm, 1.0)[:, None]
        length = np.linalg.norm(theta[:, : self.d], axis=1)
        theta[:, : self.d] *= np.minimum(1.0, self.radius / np.where(length > 0, length, 1.0))[:, None]
        if self.bias:
            theta[:, self.d] = np.clip(theta[:, self.d], -self.bias_radius, self.bias_radius)
        return theta

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        """Points of Θ: uniform directions; on ball × interval a third of the lengths at R_w (features of the largest
        norm are the cheapest), the others uniform."""
        if self.sphere:
            return self.project(rng.standard_normal((count, self.dim)))
        w = rng.standard_normal((count, self.d))
        length = self.radius * np.minimum(1.0, 1.5 * rng.uniform(size=count))
        w *= (length / np.linalg.norm(w, axis=1))[:, None]
        return self.join(w, rng.uniform(-self.bias_radius, self.bias_radius, count))


@dataclass(frozen=True)
class Chart:
    """Free coordinates y (n, D) of n points of Θ: θ(y) is smooth, onto the face of Θ that each point lies on.

    On the sphere θ = y/|y|.  On ball × interval a point of the open ball has θ = y; one on |w| = R_w has
    w = R_w y_w/|y_w|; a bias on ±R_b stays there.
    """

    space: ParameterSet
    rim: NDArray[np.bool_]
    held: NDArray[np.bool_]

    @staticmethod
    def at(space: ParameterSet, theta: Array, pull: Array | None = None) -> Chart:
        """The chart of the faces on which ``theta`` lies; with ``pull`` (the descent direction in θ), only of those
        faces against which it presses."""
        n = theta.shape[0]
        if space.sphere:
            return Chart(space, np.ones(n, dtype=bool), np.zeros(n, dtype=bool))
        w, b = space.weights(theta), space.biases(theta)
        rim = np.linalg.norm(w, axis=1) >= space.radius * (1 - 1e-9)
        held = (np.abs(b) >= space.bias_radius * (1 - 1e-9)) & space.bias
        if pull is not None:
            rim &= np.einsum("nd,nd->n", space.weights(pull), w) >= 0
            held &= space.biases(pull) * b >= 0
        return Chart(space, rim, held)

    def point(self, y: Array) -> Array:
        """θ(y), (n, D); points of the open ball are not clipped."""
        if self.space.sphere:
            return y / np.linalg.norm(y, axis=1, keepdims=True)
        theta = np.array(y)
        d = self.space.d
        rim = self.rim
        theta[rim, :d] *= self.space.radius / np.linalg.norm(y[rim, :d], axis=1, keepdims=True)
        if self.space.bias:
            theta[self.held, d] = np.copysign(self.space.bias_radius, y[self.held, d])
        return theta

    def pull_back(self, y: Array, gradient: Array) -> Array:
        """∇_y from ∇_θ, (n, D)."""
        out = np.array(gradient)
        if self.space.sphere:
            norm = np.linalg.norm(y, axis=1, keepdims=True)
            unit = y / norm
            return (out - unit * np.sum(unit * out, axis=1, keepdims=True)) / norm
        d, rim = self.space.d, self.rim
        length = np.linalg.norm(y[rim, :d], axis=1, keepdims=True)
        unit = y[rim, :d] / length
        tangent = out[rim, :d] - unit * np.sum(unit * out[rim, :d], axis=1, keepdims=True)
        out[rim, :d] = tangent * self.space.radius / length
        if self.space.bias:
            out[self.held, d] = 0.0
        return out
