"""Data → atoms: a greedy path with joint refinement, in the empirical geometry.

On rows (x, y), with what is free - affine functions, constants or nothing - projected out (P), find for S = 1, 2, …
atoms that make ‖P(y − Φβ)‖ small:

*Pool*: many candidate atoms (random ones of every scale, or the particles of a trained measure).

*Forward*: the candidates with the largest ‖⟨φ, r⟩‖²/‖φ − Πφ‖² (r the residual, Π the projection on the span of Φ and
of what is free), each polished alone against r; the best one joins and all atoms are refined together
(:func:`sparsemf.recovery.refine`).

*Backward*: from the end of the path the atom that costs least leaves, the others are refined, down to one atom.

The better of both directions counts at each S.  Forward steps find what is missing; backward steps leave the local
minima that a greedy start runs into.  All of this is an **estimate**: the errors are the sample's, and no lower bound
is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.measures import Atoms
from sparsemf.recovery.refine import Sample, refine

Array = NDArray[np.float64]

_POLISHED = 3
_POLISH = 12
_INDEPENDENT = 1e-8
_BLOCK = 256
EXACT = 1e-10
"""Relative errors below this count as an exact fit: the path ends."""
_ROUNDING = 1e-13
_SILENT = 1e-100


@dataclass(frozen=True, eq=False)
class DataPath:
    """``atoms[S]`` (S = 0 … S_max) and ``error[S]``: the root mean square of the residual, Euclidean over outputs.

    ``scale`` is error[0], what is left without atoms; ``error`` never increases, and an S that gains nothing repeats
    the atoms of S − 1.  ``iterations`` is the largest number that a joint refinement used.
    """

    atoms: list[Atoms]
    error: Array
    scale: float
    iterations: int

    def size_for(self, eps: float) -> int | None:
        """The least S with error[S] ≤ eps, None where there is none."""
        reached = np.flatnonzero(self.error <= eps)
        return int(reached[0]) if reached.size else None


def random_atoms(activation: Activation, x: Array, count: int, with_bias: bool, rng: np.random.Generator) -> Atoms:
    """Candidates for standardised inputs: uniform directions of length 1 (homogeneous σ), else log-uniform in [½, 4];
    biases put the centre of σ at a random row."""
    directions = rng.standard_normal((count, x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    if activation.homogeneous is None:
        directions *= np.exp(rng.uniform(np.log(0.5), np.log(4.0), count))[:, None]
    rows = x[rng.integers(0, x.shape[0], count)]
    bias = -np.einsum("nd,nd->n", directions, rows) if with_bias else np.zeros(count)
    return Atoms(activation, directions, bias)


def data_path(
    x: Array,
    y: Array,
    pool: Atoms,
    most: int,
    with_bias: bool,
    iterations: int = 60,
    target: float = 0.0,
    free: int = 1,
) -> DataPath:
    """The path for S = 0 … ``most`` on the rows x (n, d), y (n, m); ends early at an error ≤ ``target``, at an exact
    fit, or when no candidate is independent of what is there.  Polynomials of degree ≤ ``free`` ∈ {−1, 0, 1} are free
    beside the atoms."""
    sample = Sample.of(x, y, free)
    rows = np.sqrt(x.shape[0])
    empty = pool.take(slice(0, 0))
    path = [empty]
    error = [float(np.linalg.norm(sample.targets)) / rows]
    features = _features(pool, sample)
    state, used = _Fit.of(empty, sample), 0
    floor = max(target, EXACT * error[0], _ROUNDING * float(np.linalg.norm(y)) / rows)
    while len(path) <= most and error[-1] > floor:
        new = _best_new(pool, features, state, sample, with_bias)
        if new is None:
            break
        refined = refine(Atoms.joined(state.atoms, new), sample, with_bias, iterations)
        used = max(used, refined.iterations)
        state = _Fit.of(refined.atoms, sample)
        path.append(refined.atoms)
        error.append(state.error / rows)
    used = max(used, _backward(path, error, sample, with_bias, iterations, rows))
    for size in range(1, len(path)):
        if error[size] >= error[size - 1]:
            error[size], path[size] = error[size - 1], path[size - 1]
    return DataPath(path, np.array(error), error[0], used)


@dataclass(frozen=True, eq=False)
class _Fit:
    """Atoms with their best coefficients: residual, an orthonormal basis of Φ beyond what is free, the error."""

    atoms: Atoms
    beta: Array
    residual: Array
    span: Array
    error: float

    @staticmethod
    def of(atoms: Atoms, sample: Sample) -> _Fit:
        if atoms.n == 0:
            zero = np.zeros((sample.targets.shape[0], 0))
            beta = np.zeros((0, sample.targets.shape[1]))
            return _Fit(atoms, beta, sample.targets, zero, float(np.linalg.norm(sample.targets)))
        phi = _features(atoms, sample)
        u, s, vt = np.linalg.svd(phi, full_matrices=False)
        # what projecting leaves of a free atom is rounding, whatever it is relative to itself
        raw = np.sqrt(np.sum(phi**2, axis=0) + np.sum(_free_share(atoms, sample) ** 2, axis=0)).max()
        kept = s > max(1e-12 * float(s[0]), 1e-13 * float(raw), _SILENT)
        span = u[:, kept]
        beta = (vt[kept].T / s[kept]) @ (span.T @ sample.targets)
        residual = sample.targets - phi @ beta
        return _Fit(atoms, beta, residual, span, float(np.linalg.norm(residual)))


def _features(atoms: Atoms, sample: Sample) -> Array:
    """Φ with what is free projected out, (B, n)."""
    points = np.concatenate([atoms.inner, atoms.bias[:, None]], axis=1)
    phi = atoms.activation.value(sample.inputs @ points.T)
    return phi - sample.basis @ (sample.basis.T @ phi)


def _free_share(atoms: Atoms, sample: Sample) -> Array:
    """Coordinates of Φ on the free functions, (rank, n)."""
    points = np.concatenate([atoms.inner, atoms.bias[:, None]], axis=1)
    return sample.basis.T @ atoms.activation.value(sample.inputs @ points.T)


def _best_new(pool: Atoms, features: Array, state: _Fit, sample: Sample, with_bias: bool) -> Atoms | None:
    """The candidate that explains most of the residual once it is polished alone; None when all are dependent."""
    length = np.einsum("bn,bn->n", features, features)
    left = length - np.sum((state.span.T @ features) ** 2, axis=0)
    gain = np.sum((features.T @ state.residual) ** 2, axis=1)
    usable = left > _INDEPENDENT * max(float(length.max(initial=0.0)), 1e-300)
    score = np.where(usable, gain / np.where(usable, left, 1.0), -1.0)
    best, chosen = np.inf, None
    # what polishing is measured against: the residual as the target, the same functions free
    single = Sample(sample.inputs, state.residual, sample.basis)
    for i in np.argsort(-score, kind="stable")[:_POLISHED]:
        if score[i] <= 0.0:
            break
        start = pool.take(np.array([i]))
        moved = refine(start, single, with_bias, _POLISH).atoms
        error = min((_Fit.of(Atoms.joined(state.atoms, a), sample).error, k, a) for k, a in enumerate((moved, start)))
        if error[0] < best:
            best, chosen = error[0], error[2]
    return chosen


def _backward(
    path: list[Atoms], error: list[float], sample: Sample, with_bias: bool, iterations: int, rows: float
) -> int:
    """Improve every S from the end of the path: leave out the cheapest atom and refine the others.

    Returns the largest number of iterations used.
    """
    state, used = _Fit.of(path[-1], sample), 0
    for size in range(len(path) - 2, 0, -1):
        if state.atoms.n <= size:
            state = _Fit.of(path[size], sample)
            continue
        refined = refine(_without_cheapest(state, sample), sample, with_bias, iterations)
        used, state = max(used, refined.iterations), _Fit.of(refined.atoms, sample)
        if state.error / rows < error[size]:
            path[size], error[size] = state.atoms, state.error / rows
        else:
            state = _Fit.of(path[size], sample)
    return used


def _without_cheapest(state: _Fit, sample: Sample) -> Atoms:
    """The atoms without the one whose loss raises the residual least once the others are refitted:
    ‖β_i‖²/[(ΦᵀΦ)⁻¹]_ii."""
    phi = _features(state.atoms, sample)
    inverse = np.linalg.pinv(phi.T @ phi, rcond=1e-12, hermitian=True)
    cost = np.sum(state.beta**2, axis=1) / np.maximum(np.diag(inverse), 1e-300)
    keep = np.arange(state.atoms.n) != int(np.argmin(cost))
    return state.atoms.take(np.flatnonzero(keep))
