"""The pre-certificate by formulas of its own: quadrature, differences, closed forms; and its slices under the
group."""

from __future__ import annotations

import numpy as np
import pytest

from cases import planted
from sparsemf.activations import get
from sparsemf.certificates.convex import Effort, blasso_on_network, precertificate, slices
from sparsemf.certificates.convex.vanishing import PreCertificate
from sparsemf.exceptions import InputError
from sparsemf.measures import Atoms, Network
from sparsemf.recovery import relu_derivatives
from sparsemf.recovery.derivatives import Expansion, Products, Slopes, values

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
CASES = [
    ("relu", 8, 5, 1, False),
    ("relu", 3, 7, 3, True),
    ("leaky_relu(0.3)", 4, 4, 2, True),
    ("abs", 4, 3, 1, True),
    ("tanh", 2, 3, 1, True),
    ("gelu", 6, 5, 4, True),
    ("gelu", 3, 6, 1, False),
    ("softplus", 4, 4, 1, True),
    ("mish", 3, 2, 2, True),
    ("sin", 4, 3, 1, True),
    ("elu", 3, 2, 1, True),
]


def found(name: str, d: int, atoms: int, m: int, bias: bool) -> tuple[Network, PreCertificate]:
    network = planted(np.random.default_rng(d + atoms), name, d=d, atoms=atoms, outputs=m, bias=bias)
    return network, precertificate(Atoms.of(network), network.alpha)


def points(p: PreCertificate) -> np.ndarray:
    return np.concatenate([p.atoms.inner, p.atoms.bias[:, None]], axis=1)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_slope_at_every_atom(case: tuple[str, int, int, int, bool]) -> None:
    network, p = found(*case)
    unit = network.alpha / np.linalg.norm(network.alpha, axis=1)[:, None]
    np.testing.assert_allclose(p.eta(points(p)), unit, atol=1e-9)
    rng, step = np.random.default_rng(0), 1e-5
    for atom in range(min(p.atoms.n, 3)):
        moves = rng.standard_normal((5, network.d + 1))
        up, down = (p.eta(points(p)[atom] + side * step * moves) for side in (1, -1))
        # relu's η has a jump in its second derivative at an atom: differences see O(step) of it
        assert np.max(np.abs((up - down) @ unit[atom])) / (2 * step) < (2e-3 if p.degree is None else 2e-6)


def function(p: PreCertificate, x: np.ndarray) -> np.ndarray:
    """p(x) = Σ φ_j A_j + (∂φ_j·c_j) u_j before the affine part is taken off, for piecewise-linear and smooth σ."""
    z = x @ p.atoms.inner.T + p.atoms.bias
    moved = x @ p.moves[:, :-1].T + p.moves[:, -1]
    return p.atoms.activation.value(z) @ p.values + (p.atoms.activation.derivative(z) * moved) @ p.target


@pytest.mark.parametrize("name", ["tanh", "gelu", "softplus", "sin"])
def test_eta_by_quadrature(name: str) -> None:
    network, p = found(name, 2, 2, 2, True)
    a, b = np.meshgrid(NODES, NODES)
    x, weight = np.stack([a.ravel(), b.ravel()], axis=1), np.outer(WEIGHTS, WEIGHTS).ravel()
    affine = np.concatenate([np.ones((x.shape[0], 1)), x], axis=1)  # orthonormal under N(0, I)

    def free(values: np.ndarray) -> np.ndarray:
        return values - affine @ (affine.T @ (weight[:, None] * values))

    dual = free(function(p, x))
    assert np.max(np.abs(affine.T @ (weight[:, None] * dual))) < 1e-12
    theta = np.random.default_rng(1).standard_normal((6, 3))
    features = free(network.activation.value(x @ theta[:, :2].T + theta[:, 2]))
    features /= np.sqrt(weight @ features**2)
    np.testing.assert_allclose(p.eta(theta), features.T @ (weight[:, None] * dual), atol=1e-6)
    assert p.norm == pytest.approx(np.sqrt(weight @ np.sum(dual**2, axis=1)), rel=1e-6)


def monomials(x: np.ndarray, free: int) -> np.ndarray:
    """Orthonormal polynomials of degree ≤ free under N(0, I) in two dimensions, (n, ·)."""
    a, b = x.T
    columns = [np.ones(a.size), a, b, (a * a - 1) / np.sqrt(2), a * b, (b * b - 1) / np.sqrt(2)]
    return np.stack(columns, axis=1)[:, : {-1: 0, 0: 1, 1: 3, 2: 6}[free]]


@pytest.mark.parametrize("free", [-1, 0, 2])
@pytest.mark.parametrize("name", ["tanh", "gelu", "relu", "leaky_relu(0.3)", "abs"])
def test_other_free_polynomials(name: str, free: int) -> None:
    """Value, slope, orthogonality and η itself on a grid (kinks: with the error of a grid)."""
    network = planted(np.random.default_rng(5), name, d=2, atoms=3, outputs=2, bias=True)
    p = precertificate(Atoms.of(network), network.alpha, free=free)
    unit = network.alpha / np.linalg.norm(network.alpha, axis=1)[:, None]
    np.testing.assert_allclose(p.eta(points(p)), unit, atol=1e-8)
    moves, step = np.random.default_rng(0).standard_normal((5, 3)), 1e-5
    for atom in range(3):
        up, down = (p.eta(points(p)[atom] + side * step * moves) for side in (1, -1))
        assert np.max(np.abs((up - down) @ unit[atom])) / (2 * step) < (5e-3 if p.degree is None else 2e-6)
    a, b = np.meshgrid(NODES, NODES)
    x, weight = np.stack([a.ravel(), b.ravel()], axis=1), np.outer(WEIGHTS, WEIGHTS).ravel()
    if p.degree is None:  # a fine midpoint rule, for kinks
        line = np.linspace(-8, 8, 1201)[1:] - 8 / 1200
        a, b = np.meshgrid(line, line)
        x = np.stack([a.ravel(), b.ravel()], axis=1)
        weight = np.exp(-np.sum(x**2, axis=1) / 2)
        weight /= weight.sum()
    basis = monomials(x, free)

    def beyond(values: np.ndarray) -> np.ndarray:
        return values - basis @ (basis.T @ (weight[:, None] * values))

    dual = beyond(function(p, x))
    theta = np.random.default_rng(1).standard_normal((6, 3))
    features = beyond(network.activation.value(x @ theta[:, :2].T + theta[:, 2]))
    features /= np.linalg.norm(theta, axis=1) if p.degree is None else np.sqrt(weight @ features**2)
    error = 2e-3 if p.degree is None else 1e-6
    np.testing.assert_allclose(p.eta(theta), features.T @ (weight[:, None] * dual), atol=error)
    assert p.norm == pytest.approx(np.sqrt(weight @ np.sum(dual**2, axis=1)), rel=error)


def test_relu_by_sampling() -> None:
    network, p = found("relu", 3, 4, 1, True)
    x = np.random.default_rng(2).standard_normal((400_000, 3))
    dual, theta = function(p, x), np.random.default_rng(3).standard_normal((5, 4))
    theta /= np.linalg.norm(theta, axis=1)[:, None]
    features = network.activation.value(x @ theta[:, :3].T + theta[:, 3])
    affine = np.concatenate([np.ones((x.shape[0], 1)), x], axis=1)
    features -= affine @ np.linalg.lstsq(affine, features, rcond=None)[0]
    sampled = features.T @ dual / x.shape[0]
    error = 5 * np.std(features * dual, axis=0)[:, None] / np.sqrt(x.shape[0])
    assert (np.abs(p.eta(theta) - sampled) < error).all()


def test_one_relu_through_the_origin() -> None:
    """η = K(cos t)/K(1), K(c) = (√(1 − c²) + (π − arccos c)c)/2π − 1/2π − c/4: η₀ is level by symmetry."""
    atoms = Atoms(get("relu"), np.array([[2.0, 0.0, 0.0]]), np.zeros(1))
    p = precertificate(atoms, np.array([[-3.0]]))
    t = np.linspace(0, np.pi, 50)

    def kernel(c: np.ndarray) -> np.ndarray:
        return (np.sqrt(1 - c**2) + (np.pi - np.arccos(c)) * c) / (2 * np.pi) - 1 / (2 * np.pi) - c / 4

    line = np.stack([np.cos(t), np.sin(t), 0 * t, 0 * t], axis=1)
    np.testing.assert_allclose(p.eta(line)[:, 0], -kernel(np.cos(t)) / kernel(np.ones(1)), atol=1e-12)
    assert not p.moves.any() or np.max(np.abs(p.moves)) < 1e-12


def test_orthogonal_odd_atoms_do_not_move_each_other() -> None:
    """tanh without bias along orthogonal axes: features of different atoms and their derivatives are orthogonal."""
    one = precertificate(Atoms(get("tanh"), np.array([[1.0, 0, 0]]), np.zeros(1)), np.ones((1, 1)))
    both = precertificate(Atoms(get("tanh"), np.array([[1.0, 0, 0], [0, 1.0, 0]]), np.zeros(2)), np.ones((2, 1)))
    line = np.random.default_rng(0).standard_normal((20, 1)) * np.array([[1.0, 0, 0, 0]])
    np.testing.assert_allclose(both.eta(line), one.eta(line), atol=1e-10)
    assert both.norm == pytest.approx(np.sqrt(2) * one.norm)


def test_least_norm() -> None:
    """Fewer conditions need no longer p: those of two of the atoms, and those on the values alone."""
    network, p = found("gelu", 4, 3, 1, True)
    assert precertificate(Atoms.of(network).take(slice(2)), network.alpha[:2]).norm <= p.norm
    kernel = values(Expansion.of(p.atoms, 96), Expansion.of(p.atoms, 96))
    scaled = kernel / np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))
    assert float(np.sqrt(p.target[:, 0] @ np.linalg.solve(scaled, p.target[:, 0]))) <= p.norm


def test_the_limit_of_the_penalised_problem() -> None:
    """η of the optimum at a small λ, from the solver of the program, is near η_V where that is below 1."""
    network = Network([[1.0], [-1.0]], [[1.0, 0.0], [0.3, 1.0]], [0.2, -0.1], "relu")
    p = precertificate(Atoms.of(network), network.alpha)
    theta = np.random.default_rng(0).standard_normal((200, 3))
    theta /= np.linalg.norm(theta, axis=1)[:, None]
    gaps = []
    for lam in (4e-3, 1e-3):
        optimum = blasso_on_network(network, lam, affine=True, effort=Effort(regions=0))
        assert optimum.size == 2
        gaps.append(np.max(np.abs(optimum.eta(theta) - p.eta(theta))))
    assert gaps[1] < 0.5 * gaps[0]
    assert gaps[1] < 0.05


@pytest.mark.parametrize("name", ["relu", "gelu", "tanh"])
def test_the_group_changes_nothing(name: str) -> None:
    network, p = found(name, 4, 5, 2, True)
    sign = np.array([1.0, -1.0, -1.0, 1.0, -1.0])
    relation = network.activation.relation
    assert relation is not None
    scale = np.array([1.0, 2.0, 0.5, 3.0, 1.0]) if name == "relu" else np.ones(5)
    order = np.array([3, 1, 4, 0, 2])
    outer = network.alpha * np.where(sign < 0, relation.sign, 1)[:, None] / scale[:, None]
    stretch = (sign * scale)[:, None]
    turned = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    inner, bias = (network.inner * stretch) @ turned, network.bias * stretch[:, 0]
    q = precertificate(Atoms(network.activation, inner[order], bias[order]), outer[order])
    theta = np.random.default_rng(1).standard_normal((30, 5))
    there = np.concatenate([theta[:, :4] @ turned, theta[:, 4:]], axis=1)
    np.testing.assert_allclose(p.eta(theta), q.eta(there), atol=1e-9)
    # both sides of a flip, up to its sign
    np.testing.assert_allclose(p.eta(-theta), relation.sign * p.eta(theta), atol=1e-9)
    size = np.linalg.norm(p.target, axis=1)
    a, b = slices(p, size), slices(q, size[order])
    assert a.samples == b.samples
    assert a.largest == pytest.approx(b.largest, abs=1e-3)


def test_relu_closed_forms_are_the_series() -> None:
    rng = np.random.default_rng(0)
    atoms = Atoms(get("relu"), rng.standard_normal((4, 3)), 0.5 * rng.standard_normal(4))
    series, closed = Expansion.of(atoms, 2000), relu_derivatives.Ramps.of(atoms)
    apart = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(relu_derivatives.values(closed, closed, 1.0), values(series, series), atol=1e-5)
    for one, other, names in (
        (Slopes.of(series, series), relu_derivatives.slopes(closed, closed, 1.0), ("radial", "shift", "turn")),
        (Products.of(series), relu_derivatives.products(closed, 1.0), ("rr", "rb", "bb", "rt", "bt", "t1", "t2")),
    ):
        for name in names:
            np.testing.assert_allclose(getattr(other, name)[apart], getattr(one, name)[apart], atol=1e-12)
    # the diagonal by one-dimensional integrals: E[1(z > 0)] and E[1(z > 0)g²] less the degrees 0 and 1
    products = relu_derivatives.products(closed, 1.0)
    g = np.linspace(-12, 12, 2_000_001)
    density = np.exp(-(g**2) / 2) / np.sqrt(2 * np.pi) * (g[1] - g[0])
    for i in range(4):
        on = density * (g > -closed.level[i])
        m = [float(np.sum(on * g**k)) for k in range(3)]
        assert products.bb[i, i] == pytest.approx(m[0] - m[0] ** 2 - m[1] ** 2, abs=1e-5)
        assert products.rr[i, i] == pytest.approx(m[2] - m[1] ** 2 - m[2] ** 2, abs=1e-5)
        assert products.t1[i, i] == pytest.approx(m[0] - m[0] ** 2, abs=1e-5)


def test_refusals() -> None:
    wave = get("sin")
    with pytest.raises(InputError, match="dependent"):  # ∂_b sin z = cos z, the other atom
        precertificate(Atoms(wave, np.ones((2, 1)), np.array([0.0, np.pi / 2])), np.array([[1.0], [1.0]]))
    with pytest.raises(InputError, match="at least one atom"):
        precertificate(Atoms(wave, np.zeros((0, 2)), np.zeros(0)), np.zeros((0, 1)))
    with pytest.raises(InputError, match="at least one atom"):
        precertificate(Atoms(wave, np.ones((1, 2)), np.zeros(1)), np.zeros((1, 1)))
    many = Atoms(get("relu"), np.random.default_rng(0).standard_normal((64, 64)), np.zeros(64))
    with pytest.raises(InputError, match="unknowns"):
        precertificate(many, np.ones((64, 1)))
    with pytest.raises(InputError, match="free parameters"):
        precertificate(Atoms(get("relu2"), np.ones((1, 2)), np.zeros(1)), np.ones((1, 1)))


@pytest.mark.parametrize("case", [*CASES, ("relu", 3, 1, 1, True), ("gelu", 2, 1, 2, True)], ids=str)
def test_slices_hold_what_eta_is(case: tuple[str, int, int, int, bool]) -> None:
    network, p = found(*case)
    seen = slices(p, np.linalg.norm(network.alpha, axis=1))
    assert 1 <= len(seen.lines) <= 4
    for line in seen.lines:
        np.testing.assert_allclose(line.eta, p.eta(line.points), atol=1e-12)
        assert set(line.through) <= {mark.atom for mark in line.marks}
        assert all(line.at[0] <= mark.at[0] <= line.at[-1] for mark in line.marks)
        for mark in line.marks:
            nearest = line.eta[np.argmin(np.abs(line.at - mark.at[0]))]
            assert np.linalg.norm(nearest) == pytest.approx(1.0, abs=0.05)
    surface = seen.surface
    assert surface is not None
    assert set(surface.through) <= {mark.atom for mark in surface.marks}
    np.testing.assert_allclose(surface.eta[surface.inside], p.eta(surface.points), atol=1e-12)
    assert np.isnan(surface.eta[~surface.inside]).all()
    assert seen.largest >= 0.99
    assert seen.elsewhere is None or seen.elsewhere <= seen.largest


def test_a_circle_has_no_surface() -> None:
    p = precertificate(Atoms(get("relu"), np.ones((1, 1)), np.zeros(1)), np.ones((1, 1)))
    assert slices(p, np.ones(1)).surface is None
