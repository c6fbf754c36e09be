"""f* known on n data rows: ρ is the uniform law on them, inner products are averages over the rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemf.activations import Activation, get
from sparsemf.certificates.convex.boxes import first_length
from sparsemf.certificates.convex.growth import Growth, growth
from sparsemf.certificates.convex.observation import UNIT, Atomic, Curvature, Jet, form_norm
from sparsemf.certificates.convex.parameters import ParameterSet
from sparsemf.certificates.convex.smoothness import smoothness
from sparsemf.exceptions import InputError
from sparsemf.measures import Network

Array = NDArray[np.float64]

_FARTHEST = 100.0
"""Pre-activations of exp beyond this are refused: boxes reach further by a factor √(d + 1), and squares are taken."""
_RANK = 1e-12
"""Directions of the data below this relative singular value are charged to the error instead of being searched."""


@dataclass(frozen=True, eq=False)
class DataObservation:
    """Rows x (n, d), targets y (n, m).  ``basis`` (n, q) spans the free functions (none: q = 0), orthonormal to
    rounding.

    The free affine part is the span of these float64 columns: directions in which the data vary by less than 1e-12
    of their largest singular value are not free.
    """

    activation: Activation
    x: Array
    y: Array
    space: ParameterSet
    basis: Array = field(repr=False)
    raw: Array = field(repr=False)
    """Y as given; ``y`` is Y with the free functions projected out."""

    @staticmethod
    def of(
        x: ArrayLike,
        y: ArrayLike,
        activation: str | Activation = "relu",
        bias: bool = True,
        affine: bool = False,
        radius: float | None = None,
        bias_radius: float | None = None,
    ) -> DataObservation:
        """Validated; ``affine``: a free affine part.  Raises :class:`InputError` for shapes and numbers that do not
        fit, and for a parameter set that does not suit the activation."""
        inputs, targets = np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
        targets = targets[:, None] if targets.ndim == 1 else targets
        if inputs.ndim != 2 or targets.ndim != 2 or len(inputs) != len(targets) or not len(inputs):
            raise InputError(
                f"data: expected X (n, d) and Y (n,) or (n, m) with n ≥ 1, got {inputs.shape}, {targets.shape}"
            )
        if not (np.isfinite(inputs).all() and np.isfinite(targets).all()):
            raise InputError("data: expected finite numbers in X and Y")
        sigma = get(activation) if isinstance(activation, str) else activation
        n, d = inputs.shape
        space = ParameterSet.of(sigma, d, bias, radius, bias_radius)
        reach = float(np.max(np.linalg.norm(inputs, axis=1))) * space.radius + space.bias_radius
        if growth(sigma) == Growth(None) and reach > _FARTHEST:
            raise InputError(
                f"exp: expected |w||x| + |b| ≤ {_FARTHEST:g} over the data and the parameter set, got {reach:g}; scale "
                "X down, or give smaller radii"
            )
        raw, basis = targets, np.zeros((n, 0))
        if affine:
            u, s, _ = np.linalg.svd(np.concatenate([np.ones((n, 1)), inputs], axis=1), full_matrices=False)
            basis = u[:, s > _RANK * s[0]]
            targets = targets - basis @ (basis.T @ targets)
        return DataObservation(sigma, inputs, targets, space, basis, raw)

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.x.shape[0]

    @property
    def m(self) -> int:
        return self.y.shape[1]

    @property
    def affine(self) -> bool:
        """Whether the affine part is free (a constant is in its span, so there is always a basis then)."""
        return self.basis.shape[1] > 0

    @cached_property
    def energy(self) -> float:
        return float(np.sum(self.y**2)) / self.n

    @cached_property
    def design(self) -> Array:
        """x̃ with z = ⟨x̃, θ⟩, (n, D)."""
        return np.concatenate([self.x, np.ones((self.n, 1))], axis=1) if self.space.bias else self.x

    def features(self, theta: Array) -> Array:
        """φ(θ) on the rows, free functions projected out, (n, S)."""
        return self.off_free(self.activation.value(self.design @ theta.T))

    def off_free(self, values: Array) -> Array:
        """``values`` (n, ·) minus their projection on the free functions."""
        return values - self.basis @ (self.basis.T @ values) if self.basis.shape[1] else values

    def gram(self, first: Array, second: Array) -> Array:
        left = self.features(first)
        return left.T @ (left if second is first else self.features(second)) / self.n

    def moments(self, theta: Array) -> Array:
        return self.features(theta).T @ self.y / self.n

    def residual(self, measure: Atomic) -> Array:
        """r = f* − Φν on the rows, (n, m)."""
        return self.off_free(self.y - self.features(measure.theta) @ measure.alpha) if measure.size else self.y

    def jet(self, measure: Atomic, theta: Array, order: int = 1) -> Jet:
        return RowOracle(self.activation, self.design, self.residual(measure)).jet(theta, order)

    def square(self, measure: Atomic) -> float:
        return float(np.sum(self.residual(measure) ** 2)) / self.n

    def residual_energy(self, measure: Atomic) -> tuple[float, float]:
        r = self.residual(measure)
        value = float(np.sum(r**2)) / self.n
        return value, (self.n * self.m + 8) * UNIT * value + 2 * np.sqrt(value) * self.residual_error(measure)

    def overlap(self, measure: Atomic) -> tuple[float, float]:
        r = self.residual(measure)
        size = np.sqrt(self.energy)
        absolute = float(np.sum(np.abs(r * self.y))) / self.n
        return float(np.sum(r * self.y)) / self.n, (self.n * self.m + 8) * UNIT * absolute + size * self.residual_error(
            measure
        )

    def residual_error(self, measure: Atomic) -> float:
        """Bound in L²(ρ) of the rounding of r, and of the part of r along the free functions.

        Each entry of Φα errs by γ_{S+D+32} of its absolute terms; the projection by γ_{n+q} of sizes; and what is left
        along span(basis) is at most ‖Bᵀr‖/σ_min(B), σ_min(B) ≥ 1 − 1e-10 for an orthonormal basis from LAPACK.
        """
        absolute = np.linalg.norm(self.y, axis=1)
        if measure.size:
            z = self.design @ measure.theta.T
            reach = np.linalg.norm(self.design, axis=1)[:, None] * np.linalg.norm(measure.theta, axis=1)
            size = np.abs(self.activation.value(z)) + self.slope_bound * reach
            absolute = absolute + size @ np.linalg.norm(measure.alpha, axis=1)
        count = measure.size + self.design.shape[1] + 32
        error = count * UNIT * float(np.linalg.norm(absolute))
        if self.basis.shape[1]:
            error += 4 * (self.n + self.basis.shape[1] + 8) * UNIT * float(np.linalg.norm(absolute))
            error += 1.01 * float(np.linalg.norm(self.basis.T @ self.residual(measure)))
        return error / np.sqrt(self.n)

    @cached_property
    def slope_bound(self) -> float:
        """sup|σ′| over the pre-activations of Θ (the activation's own bound, or a local one where that is infinite)."""
        if np.isfinite(self.activation.lipschitz):
            return self.activation.lipschitz
        reach = np.array([float(np.max(np.linalg.norm(self.design, axis=1))) * self.space.reach])
        return float(self.activation.sup_slope(-reach, reach)[0])

    def atom_size(self) -> float:
        """sup over Θ of ‖φ(θ)‖_{L²(ρ)}, rounded up."""
        reach = self.row_reach()
        return float(np.linalg.norm(self.activation.sup_abs(-reach, reach))) / np.sqrt(self.n) * (1 + 1e-12)

    def row_reach(self) -> Array:
        """sup over Θ of |z_i|, (n,), rounded up."""
        if self.space.sphere:
            return np.linalg.norm(self.design, axis=1) * (1 + 1e-12)
        return (np.linalg.norm(self.x, axis=1) * self.space.radius + self.space.bias_radius) * (1 + 1e-12)

    def curvature(self, measure: Atomic) -> Curvature:
        r = self.residual(measure)
        reduced, embed, lost = self._effective()
        w_dim = reduced.shape[1] - int(self.space.bias)
        weight = np.linalg.norm(r, axis=1) / self.n
        smooth = smoothness(self.activation)
        length = np.linalg.norm(reduced, axis=1)
        second = _largest(reduced, weight) * smooth.sup2
        third = _largest(reduced, weight * length) * smooth.sup3
        fourth = _largest(reduced, weight * length**2) * smooth.sup4
        slope, reach = self.slope_bound, self.row_reach()
        lipschitz = self.activation.lipschitz * float(weight @ length) * (1 + 1e-12)
        oracle = RowOracle(self.activation, reduced, r)
        grows = growth(self.activation)
        if grows is not None:
            # the first boxes' corners, where no box goes further
            corner = first_length(self.space.radius) * np.sqrt(w_dim) * (1 + 1e-12)
            side = first_length(self.space.bias_radius) if self.space.bias else 0.0
            reach = length * (np.sqrt(reduced.shape[1]) if self.space.sphere else np.hypot(corner, side)) * (1 + 1e-12)
            slope = float(np.max(grows.on(1, -reach, reach)))
            second = _largest(reduced, weight * grows.on(2, -reach, reach))
            third = _largest(reduced, weight * length * grows.on(3, -reach, reach))
            lipschitz = float(weight @ (length * grows.on(1, -reach, reach))) * (1 + 1e-12)
        # γ-type rounding of Σ r_i σ(z_i), the rounding of z and of libm (≤ 32 ulp), r's own error
        size = self.activation.sup_abs(-reach, reach) + slope * reach
        # eightfold: boxes reach beyond Θ by at most 2√D, and derivatives round like values
        error = 8 * (self.n + 4 * reduced.shape[1] + 64) * UNIT * float(weight @ size)
        error += slope * float(weight @ lost) * self.space.reach
        error += self.residual_error(measure) * self.atom_size()
        relation = self.activation.relation
        central = relation is not None and not (relation.constant or relation.linear or relation.quadratic)
        everywhere = form_norm(self.activation, self.space, oracle, reduced.shape[1], self.m)
        return Curvature(oracle, second, third, lipschitz, error, reduced.shape[1], None, w_dim, embed, fourth, central,
                         grows is not None, everywhere)  # fmt: skip

    def _effective(self) -> tuple[Array, Array, Array]:
        """(design in effective coordinates, embedding, what each row loses): the row space of the design (of X alone
        on ball × interval, where b keeps its own coordinate)."""
        block = self.design if self.space.sphere else self.x
        _, s, vt = np.linalg.svd(block, full_matrices=False)
        rank = max(1, int(np.sum(s > _RANK * max(float(s[0]), 1e-300))))
        if rank == block.shape[1]:
            eye = np.eye(self.space.dim)
            return self.design, eye, np.zeros(self.n)
        q = vt[:rank].T
        z = block @ q
        lost = np.linalg.norm(block - z @ q.T, axis=1) + 8 * block.shape[1] * UNIT * np.linalg.norm(block, axis=1)
        if self.space.sphere or not self.space.bias:
            return z, q.T, lost
        embed = np.zeros((rank + 1, self.space.dim))
        embed[:rank, : self.x.shape[1]] = q.T
        embed[rank, -1] = 1.0
        return np.concatenate([z, np.ones((self.n, 1))], axis=1), embed, lost

    def network(self, measure: Atomic) -> Network:
        w, b = self.space.weights(measure.theta), self.space.biases(measure.theta)
        affine, offset = np.zeros((self.m, self.x.shape[1])), np.zeros(self.m)
        if self.basis.shape[1]:
            rest = self.raw - self.activation.value(self.design @ measure.theta.T) @ measure.alpha
            columns = np.concatenate([self.x, np.ones((self.n, 1))], axis=1)
            solution = np.linalg.lstsq(columns, rest, rcond=_RANK)[0]
            affine, offset = solution[:-1].T, solution[-1]
        return Network(measure.alpha, w, b, self.activation, affine=affine, offset=offset)

    def suggestions(self, count: int, rng: np.random.Generator) -> Array:
        """Random points, and directions of rows and of differences of rows."""
        theta = self.space.sample(count, rng)
        i, j = rng.integers(self.n, size=(2, count // 4))
        w = (self.x[i] - self.x[j] * rng.choice([0.0, 1.0], size=(i.size, 1))) * rng.choice([-1.0, 1.0], (i.size, 1))
        norm = np.maximum(np.linalg.norm(w, axis=1, keepdims=True), 1e-300)
        w = w / norm * (1.0 if self.space.sphere else self.space.radius)
        # a kink through the row i
        theta[: i.size] = self.space.project(self.space.join(w, -np.einsum("nd,nd->n", w, self.x[i])))
        return theta


def _largest(rows: Array, weight: Array) -> float:
    """An upper bound of the largest eigenvalue of Σ weight_i x_i x_iᵀ: LAPACK's, plus its backward error, at most
    (16 D + 64 + n) units of the trace."""
    form = (rows * weight[:, None]).T @ rows
    slack = (16 * rows.shape[1] + 64 + rows.shape[0]) * UNIT * float(np.trace(form))
    return float(np.linalg.eigvalsh(form)[-1]) + slack


@dataclass(frozen=True, eq=False)
class RowOracle:
    """η(θ) = (1/n) Σ_i r_i σ(⟨x_i, θ⟩) and its derivatives, in blocks of points."""

    activation: Activation
    design: Array
    residual: Array

    def jet(self, theta: Array, order: int) -> Jet:
        n, dim = self.design.shape
        count, m = theta.shape[0], self.residual.shape[1]
        smooth = smoothness(self.activation)
        value, jacobian = np.empty((count, m)), np.empty((count, m, dim))
        hessian = np.empty((count, m, dim, dim)) if order >= 2 and smooth.second is not None else None
        block = max(1, 2_000_000 // n)
        outer = (self.design[:, :, None] * self.design[:, None, :]).reshape(n, -1) if hessian is not None else None
        for start in range(0, count, block):
            rows = slice(start, start + block)
            z = theta[rows] @ self.design.T
            sigma, slope = self.activation.value_and_derivative(z, _ops())
            value[rows] = sigma @ self.residual / n
            for o in range(m):
                jacobian[rows, o] = slope @ (self.residual[:, o, None] * self.design) / n
            if hessian is not None and outer is not None and smooth.second is not None:
                bend = smooth.second(z)
                for o in range(m):
                    hessian[rows, o] = (bend @ (self.residual[:, o, None] * outer) / n).reshape(-1, dim, dim)
        return Jet(value, jacobian, hessian)

    def second_on(self, low: Array, high: Array) -> Array:
        return self._on_balls(2, 0.5 * (low + high), 0.5 * np.linalg.norm(high - low, axis=1) * (1 + 1e-12))

    def third_on(self, centre: Array, radius: Array) -> Array:
        """‖D³η(c)‖ + ¼ρ·sup‖D⁴η‖, with rounding, where σ grows."""
        if growth(self.activation) is None:
            return np.full(radius.shape, np.inf)
        return self.third_at(centre) + 0.25 * self._on_balls(4, centre, radius) * radius

    def _on_balls(self, order: int, centre: Array, radius: Array) -> Array:
        """λ_max(Σ_i |r_i| sup|σ^{(k)}| |x_i|^{k−2} x_i x_iᵀ)/n, σ^{(k)} on what ⟨x_i, θ⟩ may be; ∞ unless σ grows."""
        grows = growth(self.activation)
        if grows is None:
            return np.full(radius.shape, np.inf)
        n, dim = self.design.shape
        length = np.linalg.norm(self.design, axis=1) * (1 + 1e-12)
        weight = np.linalg.norm(self.residual, axis=1) / n * length ** (order - 2)
        outer = (self.design[:, :, None] * self.design[:, None, :]).reshape(n, -1)
        found, block = np.empty(radius.shape), max(1, 2_000_000 // n)
        for start in range(0, radius.size, block):
            rows = slice(start, start + block)
            z, reach = centre[rows] @ self.design.T, radius[rows, None] * length + 1e-13 * (1 + length)
            each = grows.on(order, z - reach, z + reach) * weight
            form = (each @ outer).reshape(-1, dim, dim)
            slack = (16 * dim + 64 + n) * UNIT * (each @ length**2)
            found[rows] = np.linalg.eigvalsh(form)[:, -1] + slack
        return found * (1 + 1e-12)

    def third_at(self, theta: Array) -> Array:
        """‖D³η‖ as a D×D² matrix, which bounds the trilinear form: (1/n) Σ_i r_i σ‴(z_i) x_i ⊗ (x_i ⊗ x_i)."""
        third = smoothness(self.activation).third
        if third is None:
            return np.full(theta.shape[0], np.inf)
        n, dim = self.design.shape
        outer = np.einsum("na,nb,nc->nabc", self.design, self.design, self.design).reshape(n, -1)
        found = np.zeros(theta.shape[0])
        block = max(1, 2_000_000 // n)
        for start in range(0, theta.shape[0], block):
            rows = slice(start, start + block)
            bend = third(theta[rows] @ self.design.T)
            for o in range(self.residual.shape[1]):
                form = (bend @ (self.residual[:, o, None] * outer) / n).reshape(-1, dim, dim * dim)
                gram = form @ form.transpose(0, 2, 1)
                size = np.trace(gram, axis1=1, axis2=2)
                largest = np.linalg.eigvalsh(gram)[:, -1] + (16 * dim + dim**2 + 64) * UNIT * size
                found[rows] += np.maximum(largest, 0.0)
        grows = growth(self.activation)
        if grows is not None:  # and that of z, D units of |x||θ|
            length = np.linalg.norm(self.design, axis=1)
            weight = np.linalg.norm(self.residual, axis=1) * length**3 / n
            z, far = theta @ self.design.T, np.linalg.norm(theta, axis=1)[:, None] * length
            lost = grows.on(3, z, z) * (n + 64) + grows.on(4, z, z) * (dim + 4) * far
            return np.sqrt(found) * (1 + 1e-12) + 8 * UNIT * (lost @ weight)
        # γ-type rounding of the sums, in the Frobenius norm
        weight = np.linalg.norm(self.residual, axis=1) * np.linalg.norm(self.design, axis=1) ** 3
        slack = 4 * (n + 64) * UNIT * float(np.mean(weight)) * smoothness(self.activation).sup3
        return np.sqrt(found) * (1 + 1e-12) + slack


def _ops():
    from sparsemf.activations.ops import NUMPY

    return NUMPY
