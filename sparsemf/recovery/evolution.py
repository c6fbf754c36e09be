"""How the atoms of the upper curve's dictionaries move, split and are born as S grows.

Each dictionary is matched to the one before it in the quotient metric
(:func:`sparsemf.symmetry.assignment.assign`); an atom without a partner is born, and the nearest atom of the
dictionary before is where it may have split off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Atoms, Network
from sparsemf.recovery.refit import solve
from sparsemf.recovery.staircase import UpperCurve
from sparsemf.symmetry import Section, point_distances
from sparsemf.symmetry.assignment import assign

Array = NDArray[np.float64]

SAME = 0.5
"""Atoms farther apart than this, relative to their length, are not called the same."""


@dataclass(frozen=True, eq=False)
class Stage:
    """The dictionary behind U(``size``): atoms, coefficients (n, m) with n ≤ size, ‖β_i‖‖φ_i‖ beyond the affine
    part, U(size); for each atom the one it continues in the stage before (−1: none) and the nearest there (−1: no
    stage)."""

    size: int
    atoms: Atoms
    beta: Array
    weight: Array
    error: float
    origin: NDArray[np.int64]
    nearest: NDArray[np.int64]

    @property
    def network(self) -> Network:
        """The atoms as a network."""
        return Network(self.beta, self.atoms.inner, self.atoms.bias, self.atoms.activation)


def work(curve: UpperCurve, sizes: Sequence[int]) -> int:
    """Kernel values that :func:`evolution` needs."""
    return curve.problem.n * sum(most for most in _longest(curve, sizes).values())


def _longest(curve: UpperCurve, sizes: Sequence[int]) -> dict[int, int]:
    """The longest beginning used of each path that does not consist of atoms of f."""
    longest: dict[int, int] = {}
    for size in sizes:
        used = int(curve.source[size])
        owner = int(curve.owner[used])
        if owner >= 0 and curve.paths[owner].index is None:
            longest[owner] = max(longest.get(owner, 0), used)
    return longest


def evolution(curve: UpperCurve, sizes: Sequence[int]) -> list[Stage]:
    """The dictionaries of these ascending sizes ≤ the number of atoms of f, each matched to the one before."""
    problem, geometry = curve.problem, curve.problem.geometry
    image = {}
    for owner, most in _longest(curve, sizes).items():
        atoms = curve.paths[owner].atoms.take(slice(most))
        image[owner] = problem.image_of(atoms, geometry.gram(problem.atoms, atoms))
    stages: list[Stage] = []
    for size in sizes:
        used = int(curve.source[size])
        owner = int(curve.owner[used])
        if owner < 0:
            atoms, beta = problem.atoms, problem.network.alpha
            gram = geometry.gram(atoms, atoms) if problem.gram is None else problem.gram
        else:
            path = curve.paths[owner]
            atoms = path.atoms.take(slice(used))
            gram = geometry.gram(atoms, atoms)
            beta = solve(gram, image[owner][:used] if path.index is None else problem.image[path.index[:used]])
        weight = np.linalg.norm(beta, axis=1) * np.sqrt(np.maximum(np.diag(gram), 0.0))
        none = np.full(atoms.n, -1, dtype=np.int64)
        stage = Stage(size, atoms, beta, weight, float(curve.upper[size]), none, none)
        stages.append(_matched(stages[-1], stage, problem.flips) if stages else stage)
    return stages


def _matched(before: Stage, stage: Stage, flips: bool) -> Stage:
    if not before.atoms.n or not stage.atoms.n:
        return stage
    pairs = assign(before.network, stage.network, SAME, flips)
    origin = np.full(stage.atoms.n, -1, dtype=np.int64)
    origin[pairs.second] = pairs.first
    distance, _ = point_distances(Section.of(stage.network).points, Section.of(before.network).points, flips)
    return replace(stage, origin=origin, nearest=np.argmin(distance, axis=1).astype(np.int64))
