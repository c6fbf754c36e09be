"""Recovery of atoms from tensors: Jennrich's simultaneous diagonalisation, then the scales.

At degree k = 2p + 1, T_k = Σ α_i c_k ŵ_i^{⊗k} is flattened to slices over one index: for vectors y,

    M(y) = T_k(·, ·, y) = Σ_i (⟨a, α_i⟩ c_k ⟨ŵ_i, y⟩) ŵ_i^{⊗p} ⊗ ŵ_i^{⊗p}

(with outputs contracted by a).  Where the ŵ_i^{⊗p} are independent and the ⟨ŵ_i, y⟩/⟨ŵ_i, y′⟩ distinct, the
eigenvectors of M(y)M(y′)⁺ of eigenvalue ≠ 0 are the ŵ_i^{⊗p}, each a line's p-th power (Leurgans, Ross & Abel 1993).
Least squares then gives α_i c_k at every degree, and :func:`recover_scale` the r of an atom from two of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from sparsemf.exceptions import InputError
from sparsemf.identifiability.depths.family import Family

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Recovered:
    """``lines`` (S, d) unit vectors up to sign, ``levels`` (S, m) with T_k = Σ levels_i ⊗ lines_i^{⊗k}, and the
    relative ``residual`` of that identity: the check of the recovery."""

    lines: Array
    levels: Array
    residual: float


def tensor_of(alpha: Array, w: Array, levels: Array, k: int) -> Array:
    """Σ α_i levels_i ŵ_i^{⊗k}, shape (m, d, …, d)."""
    unit = w / np.linalg.norm(w, axis=1, keepdims=True)
    shaped = alpha * levels[:, None]
    for _ in range(k):
        shaped = np.einsum("n...,nd->n...d", shaped, unit)
    return shaped.sum(axis=0)


def recover_lines(tensor: Array, atoms: int, rng: np.random.Generator) -> Recovered:
    """The lines and levels of a tensor (m, d, …, d) of odd degree k = 2p + 1 that is a sum of ``atoms`` rank-one terms.

    Raises :class:`InputError` for another shape, and where the rank of the slices is not ``atoms``.
    """
    m, k = tensor.shape[0], tensor.ndim - 1
    if k % 2 == 0 or k < 3 or len(set(tensor.shape[1:])) != 1:
        raise InputError(f"recovery: expected a tensor (m, d, …, d) of odd degree ≥ 3, got shape {tensor.shape}")
    d, p = tensor.shape[1], (k - 1) // 2
    flat = tensor.reshape(m, d**p, d**p, d)
    first, second = (np.einsum("j,jabe,e->ab", rng.standard_normal(m), flat, rng.standard_normal(d)) for _ in range(2))
    u, scale, _ = np.linalg.svd(first)
    if atoms > d**p or not scale[atoms - 1] > 1e-12 * scale[0]:
        raise InputError(f"recovery: expected a flattening of rank {atoms}, got less; take a higher degree")
    u = u[:, :atoms]
    small = np.linalg.solve((u.T @ first @ u).T, (u.T @ second @ u).T).T
    powers = u @ np.real(np.linalg.eig(small)[1])
    lines = np.empty((atoms, d))
    for i in range(atoms):
        left = np.linalg.svd(powers[:, i].reshape(d, -1))[0]
        lines[i] = left[:, 0]
    design = np.stack([_power(line, k) for line in lines], axis=1)
    levels, *_ = np.linalg.lstsq(design, tensor.reshape(m, -1).T, rcond=None)
    residual = float(np.linalg.norm(design @ levels - tensor.reshape(m, -1).T) / np.linalg.norm(tensor))
    return Recovered(lines, np.asarray(levels, dtype=np.float64), residual)


def _power(line: Array, k: int) -> Array:
    out: Array = np.ones(1)
    for _ in range(k):
        out = np.asarray(np.kron(out, line), dtype=np.float64)
    return out


def recover_scale(family: Family, ratio: float, degrees: tuple[int, int], box: tuple[float, float]) -> float:
    """The r in ``box`` with c_{k₂}(r, 0)/c_{k₁}(r, 0) = ``ratio``, for a family without biases, monotone there.

    Raises :class:`InputError` where the ratio is not between its values at the ends.
    """

    def gap(r: float) -> float:
        c = family.activation.hermite(np.array([r]), np.zeros(1), max(degrees))[0]
        return float(c[degrees[1]] / c[degrees[0]] - ratio)

    if gap(box[0]) * gap(box[1]) > 0:
        raise InputError(f"recovery: expected a ratio that is reached for r in [{box[0]:g}, {box[1]:g}], got {ratio:g}")
    return float(optimize.root_scalar(gap, bracket=box, method="brentq", xtol=1e-14).root)
