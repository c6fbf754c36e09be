"""Hermite targets: polynomials of few directions, orthonormal under N(0, I).

he_k = He_k/√k! are the normalised probabilists' Hermite polynomials.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sparsemf.exceptions import InputError
from sparsemf_datasets.tasks import PopulationTask

if TYPE_CHECKING:
    import torch

    from sparsemf.identifiability import HermiteTarget

Array = NDArray[np.float64]


def normalised_hermite(g: torch.Tensor, degree: int) -> torch.Tensor:
    """he_degree(g) elementwise, by he_{k+1} = (g he_k − √k he_{k−1})/√(k+1)."""
    previous, current = g.new_zeros(()).expand_as(g), g.new_ones(()).expand_as(g)
    for k in range(degree):
        previous, current = current, (g * current - math.sqrt(k) * previous) / math.sqrt(k + 1)
    return current


def orthonormal_directions(rng: np.random.Generator, count: int, d: int) -> Array:
    """``count`` orthonormal vectors of R^d, Haar-distributed; shape (count, d)."""
    q, r = np.linalg.qr(rng.standard_normal((d, count)))
    return (q * np.sign(np.diag(r))).T


def _check(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"Hermite target: expected {name} ≥ {least}, got {value}")


def single_index_task(d: int = 8, degree: int = 3, seed: int = 0) -> PopulationTask:
    """y = he_degree(⟨u, x⟩), u uniform on the unit sphere of R^d; ‖y‖_{L²} = 1."""
    _check("d", d, 1)
    _check("degree", degree, 1)
    u = orthonormal_directions(np.random.default_rng(seed), 1, d)[0]

    def target(x: torch.Tensor) -> torch.Tensor:
        return normalised_hermite(x @ x.new_tensor(u), degree)[:, None]

    def expand() -> HermiteTarget:
        from sparsemf.identifiability import HermiteTarget

        return HermiteTarget.single_index(u, np.eye(degree + 1)[degree])

    parameters = {"d": d, "degree": degree, "seed": seed}
    return PopulationTask("hermite-single-index", d, 1, parameters, target, activation="relu", expand=expand)


def multi_index_task(
    d: int = 8, directions: int = 3, degree: int = 2, combine: str = "sum", seed: int = 0
) -> PopulationTask:
    """y = directions^{−1/2} Σ_j he_degree(⟨u_j, x⟩) or y = Π_j he_degree(⟨u_j, x⟩), u_j orthonormal; ‖y‖_{L²} = 1."""
    _check("degree", degree, 1)
    _check("directions", directions, 1)
    _check(f"d (with {directions} orthonormal directions)", d, directions)
    if combine not in ("sum", "product"):
        raise InputError(f"Hermite target: combine must be sum or product, got {combine!r}")
    u = orthonormal_directions(np.random.default_rng(seed), directions, d)

    def target(x: torch.Tensor) -> torch.Tensor:
        values = normalised_hermite(x @ x.new_tensor(u.T), degree)
        if combine == "sum":
            return values.sum(dim=1, keepdim=True) / math.sqrt(directions)
        return values.prod(dim=1, keepdim=True)

    def expand() -> HermiteTarget:
        from sparsemf.identifiability import HermiteTarget

        if combine == "product":
            return HermiteTarget(u, np.full((1, directions), degree), np.ones((1, 1)))
        each = degree * np.eye(directions, dtype=np.int64)
        return HermiteTarget(u, each, np.full((directions, 1), directions**-0.5))

    parameters = {"d": d, "directions": directions, "degree": degree, "combine": combine, "seed": seed}
    return PopulationTask("hermite-multi-index", d, 1, parameters, target, activation="relu", expand=expand)
