"""What kink matrices and joint degrees meet beyond the usual: one line for two atoms, numbers near the floats' ends,
documents that ask for more memory than there is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparsemf.certificates.checker import depth_lines, kink_matrices
from sparsemf.certificates.checker.depth_moments import precision
from sparsemf.certificates.checker.depth_rank import Atoms, pivots
from sparsemf.certificates.checker.depth_shape import Shape
from sparsemf.certificates.checker.kink_matrices import Kinks, bounds, kink_matrix
from sparsemf.measures import Network
from sparsemf.pipeline.depth import depth


@pytest.mark.parametrize(
    ("activation", "second", "free"), [("erf", 2.0, "offset"), ("relu", -2.0, "none"), ("sin", -0.5, "affine")]
)
def test_two_atoms_on_one_line_with_two_outputs_have_depths(activation: str, second: float, free: str) -> None:
    """Joint degrees have one pair there, on which every form vanishes: nothing is shown by them, nothing breaks."""
    f = Network(np.eye(2), [[1.0, 0.0], [second, 0.0]], [0.0, 0.5], activation)
    analysis: Any = depth(f, bias=True, free=free)
    assert analysis.found.near[0] >= 2


@pytest.mark.parametrize("scale", [1e60, 1e90])
def test_large_networks_have_the_depths_of_small_ones(scale: float) -> None:
    """relu atoms have no scale: forms beyond the floats prove nothing, other degrees do."""
    w, b = np.random.default_rng(0).standard_normal((4, 2)), np.ones(4)
    small: Any = depth(Network(np.ones((4, 1)), w, b, "relu"), bias=True, free="affine")
    large: Any = depth(Network(np.ones((4, 1)), scale * w, scale * b, "relu"), bias=True, free="affine")
    assert large.found.near[0] == small.found.near[0]
    assert pivots(np.array([[1.0, np.inf], [0.0, 1.0]])) is None


def test_a_lifted_tensor_beyond_memory_is_not_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    """exp beside a free affine part starts with A ⊗ w^{⊗2}, d² numbers for each output."""
    made: list[int] = []

    def counted(points: Any, most: int) -> None:
        made.append(len(points.u) * len(points.u[0]))

    monkeypatch.setattr(depth_lines, "apart", counted)
    for d in (3, 700):
        w = np.random.default_rng(1).standard_normal((2, d)) / np.sqrt(d)
        with precision():
            atoms = Atoms.of(Shape("exp", 2, d, 1, True, 1), np.ones((2, 1)), w, np.zeros(2), 7)
            depth_lines.lifted(atoms, [2, 3, 4, 5])
    assert made == [2 * 9]


def test_factors_beyond_memory_are_not_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One column, and rows for all monomials of degree 4: small as a matrix, n times that as a factor."""
    formed = kink_matrices._monomials

    def small(unit: np.ndarray, p: int) -> np.ndarray:
        columns = kink_matrices.comb(unit.shape[1] + p - 1, p)
        assert unit.shape[0] * columns <= kink_matrices._MOST_FACTORS
        assert columns <= kink_matrices._MOST_MONOMIALS
        return formed(unit, p)

    monkeypatch.setattr(kink_matrices, "_monomials", small)
    matrix = kink_matrix({"rows": [[4, 0, 1.0]], "columns": [[0, 2, 1.0]]})
    for n, d in ((5000, 90), (4000, 31), (2, 90)):
        f = Kinks(np.eye(1, d).repeat(n, 0), np.ones((n, 1)), np.ones(n), np.zeros(n))
        assert not bounds(f, matrix).any()
    f = Kinks(np.eye(3), np.ones((3, 1)), np.ones(3), np.zeros(3))
    assert bounds(f, matrix)[0] > 0
