"""Joint refinement of all atoms by variable projection (Golub & Pereyra, Inverse Problems 19 (2003)).

On a sample x_1 … x_B of the input law, with affine functions projected out (P), minimise over (w_s, b_s)

    F = ‖P(y − Φβ)‖²,   β = argmin_β for the given atoms.

Levenberg–Marquardt with Kaufman's Jacobian −P⊥ ∂Φ·β, P⊥ the projection off span{1, x, Φ}.  With m outputs the normal
matrix is ⟨P⊥D_{si}, P⊥D_{tj}⟩·⟨β_s, β_t⟩, D_{si} = σ′(z_s) x̃_i, x̃ = (x, 1): its cost does not grow with m.  The sample
only steers the search; the result is refitted and certified in the population geometry by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Atoms
from sparsemf.recovery.geometry import free_basis

Array = NDArray[np.float64]

_FARTHEST = 1e12
"""Steps that leave this box (or the numbers) are refused."""
_SILENT = 1e-100
"""Features below this on every row count as 0: squares of their coefficients would overflow."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Inputs x̃ = (x, 1) (B, d+1), targets with the free functions projected out (B, m), and their orthonormal basis."""

    inputs: Array
    targets: Array
    basis: Array

    @staticmethod
    def of(x: Array, y: Array, free: int = 1) -> Sample:
        """From raw inputs (B, d) and outputs (B, m); polynomials of degree ≤ ``free`` ≤ 1 are free."""
        inputs = np.concatenate([x, np.ones((x.shape[0], 1))], axis=1)
        basis = free_basis(x, free, 1e-10)
        return Sample(inputs, y - basis @ (basis.T @ y), basis)


@dataclass(frozen=True, eq=False)
class Refined:
    """The refined atoms, the relative residual on the sample, and the iterations used."""

    atoms: Atoms
    relative_residual: float
    iterations: int


@dataclass(frozen=True, eq=False)
class _State:
    points: Array
    beta: Array
    residual: Array
    value: float
    span: Array


def _evaluate(atoms: Atoms, sample: Sample, points: Array) -> _State | None:
    """The fit at these points; None where a feature's norm overflows (exp far out)."""
    with np.errstate(over="ignore"):
        phi = atoms.activation.value(sample.inputs @ points.T)
        raw = float(np.linalg.norm(phi, axis=0).max(initial=0.0))
    if not np.isfinite(raw):
        return None
    phi -= sample.basis @ (sample.basis.T @ phi)
    # QR, then the SVD of R: atoms that have run into each other cost accuracy and not a failure
    q, r = np.linalg.qr(phi)
    u, scale, vt = np.linalg.svd(r, full_matrices=False)  # R is wide where there are fewer rows than atoms
    # what projecting leaves of an affine atom is rounding, whatever it is relative to itself
    kept = scale > max(1e-12 * float(scale.max(initial=0.0)), 1e-13 * raw, _SILENT)
    q = q @ u[:, kept]
    beta = (vt[kept].T / scale[kept]) @ (q.T @ sample.targets)
    residual = sample.targets - phi @ beta
    return _State(points, beta, residual, float(np.sum(residual**2)), q)


def refine(atoms: Atoms, sample: Sample, with_bias: bool, iterations: int = 40, tolerance: float = 1e-7) -> Refined:
    """Locally optimal atoms from a start; ``with_bias=False`` keeps every bias at its start.

    Stops when an accepted step improves F by less than ``tolerance`` relative, or after ``iterations``.
    """
    start = np.concatenate([atoms.inner, atoms.bias[:, None]], axis=1)
    free = start.shape[1] if with_bias else start.shape[1] - 1
    count = start.shape[0]
    scale = float(np.sum(sample.targets**2)) or 1.0
    state = _evaluate(atoms, sample, start)
    if state is None:
        return Refined(atoms, np.inf, 0)
    damping, used = 1e-3, 0
    for used in range(1, iterations + 1):  # noqa: B007 - reported
        slope = atoms.activation.derivative(sample.inputs @ state.points.T)
        jacobian = (slope[:, :, None] * sample.inputs[:, None, :free]).reshape(sample.inputs.shape[0], count * free)
        for span in (sample.basis, state.span):
            jacobian -= span @ (span.T @ jacobian)
        outer = state.beta @ state.beta.T
        normal = (jacobian.T @ jacobian) * np.repeat(np.repeat(outer, free, axis=0), free, axis=1)
        correlation = (jacobian.T @ state.residual).reshape(count, free, -1)
        gradient = np.einsum("sfm,sm->sf", correlation, state.beta).ravel()
        diagonal = np.diag(normal)
        root = np.sqrt(np.maximum(diagonal, 1e-9 * float(diagonal.max(initial=0.0)) + 1e-300))
        trial = None
        for _ in range(6):
            # in units of the diagonal the damped matrix has condition number ≤ P/damping
            damped = normal / np.outer(root, root) + damping * np.eye(root.size)
            step = np.linalg.solve(damped, gradient / root) / root
            points = state.points.copy()
            points[:, :free] += step.reshape(count, free)
            if atoms.activation.homogeneous:
                points /= np.maximum(np.linalg.norm(points, axis=1), 1e-300)[:, None]
            candidate = _evaluate(atoms, sample, points) if np.max(np.abs(points)) < _FARTHEST else None
            if candidate is not None and candidate.value < state.value:
                trial = candidate
                damping = max(damping / 5, 1e-10)
                break
            damping *= 6
        if trial is None:
            break
        gain = (state.value - trial.value) / max(state.value, 1e-300)
        state = trial
        if gain < tolerance or state.value <= 1e-26 * scale:
            break
    refined = Atoms(atoms.activation, state.points[:, :-1].copy(), state.points[:, -1].copy())
    return Refined(refined, float(np.sqrt(state.value / scale)), used)
