"""Selection, refit, refinement and the upper curve: optimality conditions and planted truth."""

from __future__ import annotations

import numpy as np
import pytest

from cases import planted, separated_directions
from sparsemf.measures import Atoms, Empirical, Gaussian, Network, l2_distance
from sparsemf.recovery import (
    EmpiricalGeometry,
    GaussianGeometry,
    Problem,
    Sample,
    merge_path,
    refine,
    refit,
    upper_curve,
)
from sparsemf.symmetry import disguise, quotient


def cloud(
    rng: np.random.Generator, activation: str, outputs: int = 1, spread: float = 0.02, particles: int = 600
) -> tuple[Network, np.ndarray]:
    """Particles around 5 planted directions (d = 8) and a third as many of no weight anywhere."""
    w = 1.5 * separated_directions(rng, 5, 8)
    light = particles // 3
    label = rng.integers(0, 5, particles)
    sign = rng.choice([-1.0, 1.0], 5)
    near = w[label] + spread * rng.standard_normal((particles, 8))
    inner = np.concatenate([near, 0.2 * rng.standard_normal((light, 8))])
    size = np.concatenate([sign[label] * rng.uniform(0.5, 1.5, particles), 0.01 * rng.standard_normal(light)])
    mix = rng.uniform(0.5, 1.5, (5, outputs))
    outer = size[:, None] * np.concatenate([mix[label], np.ones((light, outputs))])
    return Network(outer, inner, None, activation, 1 / (particles + light)), w


def test_refit_is_optimal() -> None:
    rng = np.random.default_rng(2)
    net = quotient(planted(rng, "tanh", atoms=12, outputs=2)).network
    problem = Problem(net, GaussianGeometry.of(net))
    atoms = Atoms(net.activation, rng.standard_normal((4, 8)), np.zeros(4))
    found = refit(problem, atoms)
    for _ in range(20):
        beta = found.beta + 1e-2 * rng.standard_normal(found.beta.shape)
        assert problem.dictionary_error(atoms, beta) > found.error


@pytest.mark.parametrize("activation", ["relu", "tanh", "erf", "silu"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_refinement_finds_the_planted_atoms(activation: str, outputs: int) -> None:
    rng = np.random.default_rng(3)
    truth = planted(rng, activation, outputs=outputs, bias=True)
    start = Atoms(truth.activation, truth.inner + 0.1 * rng.standard_normal((5, 8)), truth.bias + 0.1)
    x = rng.standard_normal((3000, 8))
    found = refine(start, Sample.of(x, truth(x)), with_bias=True)
    assert found.relative_residual < 1e-5
    cos = np.abs(found.atoms.unit @ (truth.inner / np.linalg.norm(truth.inner, axis=1)[:, None]).T)
    assert (np.max(cos, axis=0) > 1 - 1e-8).all()


@pytest.mark.parametrize(
    ("activation", "outputs", "particles"),
    [("relu", 1, 600), ("relu", 3, 210), ("tanh", 1, 210), ("erf", 3, 210), ("gelu", 1, 210)],
)
def test_cloud_of_particles_becomes_its_atoms(activation: str, outputs: int, particles: int) -> None:
    rng = np.random.default_rng(4)
    net, w = cloud(rng, activation, outputs, particles=particles)
    found = upper_curve(quotient(net).network)
    assert (np.diff(found.upper) <= 0).all()
    assert found.upper[5] < 0.03 * found.upper[4]
    unit = w / np.linalg.norm(w, axis=1)[:, None]
    angles = np.arccos(np.clip(np.max(np.abs(found.dictionary(5).atoms.unit @ unit.T), axis=0), 0, 1))
    assert np.max(angles) < 1e-2
    # the explicit network is as close as claimed, by a geometry that recovery did not use
    for size in (0, 1, 5, 40):
        direct = l2_distance(quotient(net).network, found.network(size), Gaussian.standard(8))
        assert direct.lower <= found.upper[size] * (1 + 1e-9)
        assert np.count_nonzero(np.any(found.network(size).alpha, axis=1)) <= size


def test_clusters_ignore_particles_of_no_weight() -> None:
    net, _ = cloud(np.random.default_rng(5), "relu")
    canonical = quotient(net).network
    path = merge_path(Problem(canonical, GaussianGeometry.of(canonical)))
    costs = path.costs()
    assert costs[3] > 3 * costs[4]  # five clusters: four dear edges
    assert np.unique(path.clusters(5)).size == 5


def test_empirical_law() -> None:
    rng = np.random.default_rng(6)
    truth = planted(rng, "gelu", d=4, atoms=3, outputs=2, bias=True)
    law = Empirical.of(rng.uniform(-2, 2, (300, 4)))
    net = quotient(disguise(truth, rng, 20)).network
    found = upper_curve(net, law)
    for size in (0, 1, 2, 3):
        gap = net(law.x) - found.network(size)(law.x)
        assert np.sqrt(np.mean(np.sum(gap**2, axis=1))) <= found.upper[size] * (1 + 1e-6) + 1e-9
    geometry = EmpiricalGeometry.of(law)
    affine = geometry.basis.T @ np.concatenate([np.ones((300, 1)), law.x], axis=1)
    assert np.linalg.matrix_rank(affine) == 5


@pytest.mark.parametrize("rows", [1, 4, 7])
def test_fewer_rows_than_atoms(rows: int) -> None:
    """Every published dictionary is as close on these rows as U(S) says; affine functions fit 4 rows of R³ alone."""
    rng = np.random.default_rng(7)
    law = Empirical.of(rng.standard_normal((rows, 3)))
    net = Network(*(rng.standard_normal(shape) for shape in ((6, 1), (6, 3), 6)), "tanh")
    found = upper_curve(net, law)
    for size in range(7):
        gap = float(np.sqrt(np.mean((net(law.x) - found.network(size)(law.x)) ** 2)))
        assert gap <= found.upper[size] * (1 + 1e-6) + 1e-9
    assert found.upper[0 if rows <= 4 else 3] <= 1e-6


@pytest.mark.parametrize("width", [0, 1, 2])
def test_tiny_networks(width: int) -> None:
    net = Network(np.ones((width, 1)), np.eye(3)[:width], None, "tanh", affine=np.ones((1, 3)))
    found = upper_curve(quotient(net).network)
    assert found.upper.size == width + 1
    assert found.upper[-1] == 0.0
