"""Search for inequivalent atoms with the same tensors: Levenberg–Marquardt on the fibre of Ψ_D, from random starts.

What it finds is an estimate: a residual at rounding is no proof, and finding nothing proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from sparsemf.identifiability.depths.family import Family
from sparsemf.identifiability.depths.jacobian import features, frames, jacobian

Array = NDArray[np.float64]

SAME = 1e-6
_RESIDUAL = 1e-11


@dataclass(frozen=True, eq=False)
class FibrePoint:
    """Atoms with the same Ψ_D up to ``residual`` (relative), and how far their dictionary is from the given one:
    ``distance`` is ‖ΔΨ‖/‖Ψ‖ over the degrees ``far``, which the two must share if they are equivalent."""

    alpha: Array
    w: Array
    b: Array
    residual: float
    distance: float


def moment_vector(family: Family, alpha: Array, w: Array, b: Array, degrees: list[int]) -> Array:
    """The tensors of those degrees as one vector (weighted so that its norm is theirs)."""
    r = np.linalg.norm(w, axis=1)
    unit, c = w / r[:, None], family.activation.hermite(r, b, max(degrees))
    return np.concatenate([((alpha * c[:, k : k + 1]).T @ features(unit, k)[0]).ravel() for k in degrees])


def other_solutions(
    family: Family,
    alpha: Array,
    w: Array,
    b: Array,
    depth: int,
    rng: np.random.Generator,
    starts: int = 24,
    beyond: int = 4,
) -> list[FibrePoint]:
    """Inequivalent atoms found on the fibre of Ψ_depth: those that differ in a degree up to ``depth + beyond``."""
    degrees, far = family.degrees(depth), family.degrees(depth + beyond)
    wanted, later = moment_vector(family, alpha, w, b, degrees), moment_vector(family, alpha, w, b, far)
    n, m, d = family.atoms, family.m, family.d

    def atoms(x: Array) -> tuple[Array, Array, Array]:
        shift = x[n * (m + d) :] if family.bias else np.zeros(n)
        return x[: n * m].reshape(n, m), x[n * m : n * (m + d)].reshape(n, d), shift

    def gap(x: Array) -> Array:
        return (moment_vector(family, *atoms(x), degrees) - wanted) / np.linalg.norm(wanted)

    def slope(x: Array) -> Array:
        a, v, c = atoms(x)
        polar = jacobian(family, a, v, c, degrees) / np.linalg.norm(wanted)
        return polar @ _to_polar(family, v)

    found: list[FibrePoint] = []
    for _ in range(starts):
        a, v, c = family.draw(rng)
        x = np.concatenate([a.ravel(), v.ravel(), c[: n * family.bias]])
        tight: dict[str, Any] = {"jac": slope, "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "max_nfev": 60}
        result = optimize.least_squares(gap, x, method="trf", **tight)
        residual = float(np.linalg.norm(result.fun))
        if residual > _RESIDUAL:
            continue
        a, v, c = atoms(result.x)
        distance = float(np.linalg.norm(moment_vector(family, a, v, c, far) - later) / np.linalg.norm(later))
        if distance > SAME:
            found.append(FibrePoint(a, v, c, residual, distance))
    return found


def _to_polar(family: Family, w: Array) -> Array:
    """d(α, r/r, turns, b/r) / d(α, w, b): from Cartesian steps to the columns of :func:`jacobian`."""
    n, d, m = family.atoms, family.d, family.m
    r = np.linalg.norm(w, axis=1)
    unit, turns = w / r[:, None], frames(w / r[:, None])
    width = m + d + family.bias
    out = np.zeros((n * width, n * width))
    for i in range(n):
        row = i * width
        out[row : row + m, i * m : (i + 1) * m] = np.eye(m)
        columns = slice(n * m + i * d, n * m + (i + 1) * d)
        out[row + m, columns] = unit[i] / r[i]
        out[row + m + 1 : row + m + d, columns] = turns[i].T / r[i]
        if family.bias:
            out[row + m + d, n * (m + d) + i] = 1.0 / r[i]
    return out
