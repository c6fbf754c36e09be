"""Joint refinement of gated atoms: gates, factors and coefficients, by variable projection on inputs of the law.

minimise ‖P(f − Σ_s σ(u_s)ℓ_s β_s)‖² over u_s = ⟨g_s, x⟩ + c_s and ℓ_s = ⟨v_s, x⟩ + e_s, where P takes away quadratic
polynomials and, for given atoms, β is the best (Golub & Pereyra 1973).  With D_s the derivatives of φ_s = σ(u_s)ℓ_s,

    ∂φ/∂(g, c) = σ′(u)ℓ·(x, 1),   ∂φ/∂(v, e) = σ(u)·(x, 1),

and Π the projection on the φ_s, the Gauss–Newton matrix is (ββᵀ)_st·D_sᵀP(I − Π)D_t in Kaufman's form (1975), damped
as by Levenberg and Marquardt.  Inputs are drawn, so this only *proposes* atoms; what they achieve is certified in the
kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from sparsemf.measures import Network
from sparsemf.measures.gated import GatedAtoms

Array = NDArray[np.float64]

_LEAST_GAIN = 1e-3
_ROWS_PER_PARAMETER = 12
_FARTHEST = 1e12


@dataclass(frozen=True, eq=False)
class GatedSample:
    """Inputs (n, d), an orthonormal basis of the quadratic polynomials on them, and f without its part there (n, m)."""

    x: Array
    basis: Array
    values: Array

    @staticmethod
    def of(network: Network, parameters: int, seed: int = 7) -> GatedSample:
        """Enough inputs of N(0, I) for so many free parameters."""
        d = network.d
        free = (d + 1) * (d + 2) // 2
        count = max(4096, _ROWS_PER_PARAMETER * (parameters + free))
        x = np.random.default_rng(seed).standard_normal((count, d))
        i, j = np.triu_indices(d)
        design = np.concatenate([np.ones((count, 1)), x, x[:, i] * x[:, j]], axis=1)
        basis = np.linalg.qr(design)[0]
        values = network(x)
        return GatedSample(x, basis, values - basis @ (basis.T @ values))

    def without_quadratics(self, columns: Array) -> Array:
        """P applied to columns."""
        return columns - self.basis @ (self.basis.T @ columns)


@dataclass(frozen=True, eq=False)
class _State:
    atoms: GatedAtoms
    span: Array
    beta: Array
    residual: Array
    value: float


def refine_gated(sample: GatedSample, atoms: GatedAtoms, steps: int = 30) -> GatedAtoms:
    """Locally better atoms on the sample; ends when a step gains less than 1e-3 of the squared error."""
    state, damping = _evaluated(sample, atoms), 1e-2
    for _ in range(steps):
        gradient, normal = _system(sample, state)
        diagonal = np.diag(normal) + 1e-12 * float(np.max(np.diag(normal), initial=0.0)) + 1e-300
        found = None
        for _ in range(5):
            matrix = normal + np.diag(damping * diagonal)
            try:
                step = linalg.cho_solve(linalg.cho_factor(matrix, check_finite=False), gradient, check_finite=False)
            except linalg.LinAlgError:
                damping *= 10
                continue
            moved = _moved(state.atoms, step)
            # refused: steps that leave this box
            if max(float(np.max(np.abs(moved.gate))), float(np.max(np.abs(moved.gate_bias)))) < _FARTHEST:
                found = _evaluated(sample, moved)
                if found.value < state.value:
                    break
            found, damping = None, damping * 6
        if found is None:
            break
        gain = 1 - found.value / max(state.value, 1e-300)
        state, damping = found, damping / 4
        if gain < _LEAST_GAIN or state.value <= 1e-26 * float(np.sum(sample.values**2)):
            break
    return state.atoms


def _evaluated(sample: GatedSample, atoms: GatedAtoms) -> _State:
    u, factor = sample.x @ atoms.gate.T + atoms.gate_bias, sample.x @ atoms.inner.T + atoms.bias
    phi = sample.without_quadratics(atoms.activation.value(u) * factor)
    # QR, then the SVD of R: atoms that have run into each other cost accuracy and not a failure
    q, r = np.linalg.qr(phi)
    left, scale, right = np.linalg.svd(r)
    kept = scale > max(1e-11 * float(scale.max(initial=0.0)), 1e-100)
    span = q @ left[:, kept]
    image = span.T @ sample.values
    beta = (right[kept].T / scale[kept]) @ image
    residual = sample.values - span @ image
    return _State(atoms, span, beta, residual, float(np.sum(residual**2)))


def _system(sample: GatedSample, state: _State) -> tuple[Array, Array]:
    """(−gradient, Gauss–Newton matrix), both halved, parameters (g, c, v, e) atom by atom."""
    atoms, x = state.atoms, np.concatenate([sample.x, np.ones((sample.x.shape[0], 1))], axis=1)
    u, factor = sample.x @ atoms.gate.T + atoms.gate_bias, sample.x @ atoms.inner.T + atoms.bias
    slope, value = atoms.activation.derivative(u) * factor, atoms.activation.value(u)
    parts: list[Any] = [np.concatenate([slope[:, [s]] * x, value[:, [s]] * x], axis=1) for s in range(atoms.n)]
    moves = sample.without_quadratics(np.concatenate(parts, axis=1))
    moves -= state.span @ (state.span.T @ moves)
    each = parts[0].shape[1]
    weight = state.beta @ state.beta.T
    normal = (moves.T @ moves) * np.repeat(np.repeat(weight, each, axis=0), each, axis=1)
    gradient = np.sum((moves.T @ state.residual) * np.repeat(state.beta, each, axis=0), axis=1)
    return gradient, normal


def _moved(atoms: GatedAtoms, step: Array) -> GatedAtoms:
    """Atoms after a step, their factors (and homogeneous gates) brought to length 1."""
    d = atoms.inner.shape[1]
    step = step.reshape(atoms.n, 2 * (d + 1))
    gate, shift = atoms.gate + step[:, :d], atoms.gate_bias + step[:, d]
    inner, bias = atoms.inner + step[:, d + 1 : -1], atoms.bias + step[:, -1]
    size = np.maximum(np.hypot(np.linalg.norm(inner, axis=1), bias), 1e-300)
    inner, bias = inner / size[:, None], bias / size
    if atoms.activation.homogeneous == 1:
        size = np.maximum(np.hypot(np.linalg.norm(gate, axis=1), shift), 1e-300)
        gate, shift = gate / size[:, None], shift / size
    return GatedAtoms(atoms.activation, gate, shift, inner, bias)
