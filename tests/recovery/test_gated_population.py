"""Joint refinement of gated atoms in the population: derivatives, what it finds, and that errors stay certified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import sparsemf
from cases import planted_gated
from sparsemf.identifiability import lower_curve
from sparsemf.measures import Network
from sparsemf.measures.gated import GatedAtoms, beyond_quadratic
from sparsemf.recovery import Problem, forward, refit, upper_curve
from sparsemf.recovery.gated import GatedGeometry
from sparsemf.recovery.gated_cluster import GatedAgglomeration
from sparsemf.recovery.gated_derivatives import GatedExpansion, GatedProducts, contracted, seen, slopes, unseen, values
from sparsemf.recovery.gated_population import GatedTarget, _evaluate, _gradient, _Normal, settle_gated
from sparsemf.symmetry import quotient

Array = np.ndarray
DEGREE = 20
GATES = ["silu", "relu", "sigmoid", "sin"]
FREE = [2, 1, 0, -1]


def atoms_of(activation: str, n: int, seed: int, d: int = 5, size: float = 0.8) -> GatedAtoms:
    rng = np.random.default_rng(seed)
    gate, inner = size * rng.standard_normal((n, d)), rng.standard_normal((n, d))
    return GatedAtoms.of(
        Network(np.ones((n, 1)), inner, rng.standard_normal(n), activation, gate=gate, gate_bias=rng.standard_normal(n))
    )


def moved(atoms: GatedAtoms, v: Array, t: float) -> GatedAtoms:
    d = atoms.gate.shape[1]
    return GatedAtoms(
        atoms.activation,
        atoms.gate + t * v[:, :d],
        atoms.gate_bias + t * v[:, d],
        atoms.inner + t * v[:, d + 1 : -1],
        atoms.bias + t * v[:, -1],
    )


def cloud(activation: str, d: int, atoms: int, copies: int, outputs: int, noise: float, seed: int = 0) -> Network:
    """Noisy copies of planted gated atoms, the scales of factors and outer weights drawn at random."""
    rng = np.random.default_rng(seed)
    label = np.arange(atoms * copies) % atoms

    def spread(x: Array) -> Array:
        return x[label] + noise * rng.standard_normal(x[label].shape)

    gate, inner = rng.standard_normal((atoms, d)), rng.standard_normal((atoms, d))
    gate *= 1.5 / np.linalg.norm(gate, axis=1)[:, None]
    inner /= np.linalg.norm(inner, axis=1)[:, None]
    outer = rng.standard_normal((atoms, outputs))[label] * rng.uniform(0.5, 1.5, (label.size, 1))
    scale = np.exp(0.5 * rng.standard_normal(label.size)) * rng.choice([-1.0, 1.0], label.size)
    return Network(
        outer / scale[:, None],
        spread(inner) * scale[:, None],
        spread(0.5 * rng.standard_normal(atoms)) * scale,
        activation,
        1 / label.size,
        gate=spread(gate),
        gate_bias=spread(0.5 * rng.standard_normal(atoms)),
    )


@pytest.mark.parametrize("activation", GATES)
@pytest.mark.parametrize("free", FREE)
def test_inner_products_of_moves_are_difference_quotients(activation: str, free: int) -> None:
    a, b, d, h = atoms_of(activation, 4, 0), atoms_of(activation, 3, 1), 5, 1e-4
    rng = np.random.default_rng(2)
    v, w = rng.standard_normal((4, 2 * d + 2)), rng.standard_normal((3, 2 * d + 2))

    def kernel(s: float, t: float) -> Array:
        return beyond_quadratic(moved(a, v, s), moved(b, w, t), DEGREE, free)

    first, second = GatedExpansion.of(a, DEGREE, free), GatedExpansion.of(b, DEGREE, free)
    np.testing.assert_allclose(values(first, second), kernel(0, 0), atol=1e-13)
    mine = np.sum(v * unseen(*contracted(np.ones((4, 3)), slopes(first, second)), first, second))
    once = (kernel(h, 0) - kernel(-h, 0)) / (2 * h)
    assert mine == pytest.approx(once.sum(), rel=1e-6, abs=1e-6)
    # the mixed derivative: moves of the first atoms against moves of the second, and the other way round
    joint = GatedExpansion.of(GatedAtoms.joined(a, b), DEGREE, free)
    weight = rng.standard_normal((7, 7))
    weight += weight.T
    products = GatedProducts.of(joint, weight)
    left, right = np.concatenate([v, 0 * w]), np.concatenate([0 * v, w])

    def form(one: Array, two: Array) -> float:
        own, others, direct = products.apply(two, *seen(two, joint))
        return float(np.sum(one * (unseen(own, others, joint, joint) + direct)))

    mixed = (kernel(h, h) - kernel(h, -h) - kernel(-h, h) + kernel(-h, -h)) / (4 * h * h)
    assert form(left, right) == pytest.approx(float(np.sum(weight[:4, 4:] * mixed)), rel=1e-5, abs=1e-5)
    assert form(left, right) == pytest.approx(form(right, left), rel=1e-10)


@pytest.mark.parametrize("activation", GATES)
@pytest.mark.parametrize("free", FREE)
@pytest.mark.parametrize("outputs", [1, 3])
def test_gradient_and_normal_matrix(activation: str, free: int, outputs: int) -> None:
    """½ dF by differences, f having a constant gate as absorbed affine parts have; the Gauss–Newton matrix is
    symmetric and the Hessian where the residual is 0."""
    rng = np.random.default_rng(3)
    f = atoms_of(activation, 6, 4)
    f = replace(f, gate=f.gate * (np.arange(6) > 0)[:, None])
    target = GatedTarget.of(f, rng.standard_normal((6, outputs)), DEGREE, free)
    start = atoms_of(activation, 4, 5)
    state = _evaluate(start, target)
    own = slopes(state.expansion, state.expansion)
    v, w = rng.standard_normal((4, 12)), rng.standard_normal((4, 12))
    h = 1e-5
    slope = (_evaluate(moved(start, v, h), target).value - _evaluate(moved(start, v, -h), target).value) / (2 * h)
    assert 2 * np.sum(_gradient(state, target, own) * v) == pytest.approx(slope, rel=1e-4, abs=1e-6 * target.energy)
    normal = _Normal.of(state, own, np.ones(12))
    assert np.sum(normal.apply(v) * w) == pytest.approx(np.sum(normal.apply(w) * v), rel=1e-8, abs=1e-10)
    found = f.take(slice(1, 6))
    exact = GatedTarget.of(found, target.alpha[1:], DEGREE, free)
    at = _evaluate(found, exact)
    u, h = rng.standard_normal((5, 12)), 1e-4
    hessian = np.sum(_Normal.of(at, slopes(at.expansion, at.expansion), np.ones(12)).apply(u) * u)
    assert _evaluate(moved(found, u, h), exact).value == pytest.approx(h * h * hessian, rel=0.02, abs=1e-14)


@pytest.mark.parametrize("activation", ["silu", "relu", "tanh"])
@pytest.mark.parametrize(("d", "count", "free", "bias"), [(6, 5, 2, True), (24, 8, -1, False)])
def test_planted_atoms_are_found_again(activation: str, d: int, count: int, free: int, bias: bool) -> None:
    rng = np.random.default_rng(11)
    truth = quotient(planted_gated(rng, activation, d, count, 2, bias=bias), free).network
    geometry = GatedGeometry.of(truth, free)
    problem, atoms = Problem(truth, geometry), GatedAtoms.of(truth)
    start = moved(atoms, 0.1 * rng.standard_normal((count, 2 * d + 2)), 1.0)
    start = GatedAtoms(start.activation, start.gate, start.gate_bias * bias, start.inner, start.bias * bias)
    target = GatedTarget.of(atoms, truth.alpha, 96 if geometry.degree is None else min(geometry.degree, 96), free)
    found: Any = settle_gated(start, target, bias, bias, steps=40, inner=100)
    assert found.after < 1e-13  # of ‖f‖²
    assert found.before > 1e-4
    near: Any = start
    assert refit(problem, found.atoms).error < 1e-3 * refit(problem, near).error
    assert bias or not (found.atoms.gate_bias.any() or found.atoms.bias.any())


def test_clusters_of_noisy_copies_are_the_planted_ones() -> None:
    """Whatever the signs and scales of factors, and for every way to turn gates."""
    f = cloud("silu", 6, 4, 12, 1, 0.02)
    rng = np.random.default_rng(0)
    side = rng.choice([-1.0, 1.0], f.width)
    gate = f.gate * side[:, None]  # type: ignore[operator]  # silu(u) = u + silu(−u): beyond degree 2 the same atoms
    turned = f.with_(gate=gate, gate_bias=f.gate_bias * side)  # type: ignore[operator]
    atoms = GatedAtoms.of(turned)
    tree = GatedAgglomeration.of(atoms, np.linalg.norm(f.alpha, axis=1), beyond_quadratic(atoms, atoms, 48), True)
    kernel = beyond_quadratic(tree.means(4), atoms, 48)
    owner = np.argmax(np.abs(kernel) / np.sqrt(np.diag(beyond_quadratic(tree.means(4), tree.means(4), 48)))[:, None], 0)
    assert all(np.unique(owner[k::4]).size == 1 for k in range(4))
    assert np.unique(owner[:4]).size == 4
    assert tree.costs()[2] > 10 * tree.costs()[3]


@pytest.mark.parametrize(("activation", "free"), [("silu", 2), ("silu", -1), ("relu", 0)])
def test_refined_dictionaries_of_a_cloud(activation: str, free: int) -> None:
    """Four planted atoms in 48 noisy copies: refined, four atoms come far closer than four that are selected; no atom
    added makes it worse; L ≤ U; the network is as close as U says, on inputs."""
    net = quotient(cloud(activation, 6, 4, 12, 2, 0.08), free).network
    curve = upper_curve(net, free=free)
    assert (np.diff(curve.upper) <= 0).all()
    low = lower_curve(net, free=free).atoms
    assert all(low[min(size, low.size - 1)] <= curve.upper[size] for size in range(net.width + 1))
    problem = curve.problem
    selected = refit(problem, problem.atoms.take(forward(problem, 4, 0.0)))
    assert curve.upper[4] < 0.3 * selected.error
    found = curve.network(4)
    assert found.width == 4
    x = np.random.default_rng(1).standard_normal((20_000, 6))
    error = np.sqrt(np.mean(np.sum((found(x) - net(x)) ** 2, axis=1)))
    assert 0.9 * curve.upper[4] <= error <= 1.1 * curve.upper[4]


@pytest.mark.parametrize("free", [2, -1])
def test_errors_of_atoms_in_absurd_places_are_still_bounds(free: int) -> None:
    """d = 1, where the distance is one integral: steep gates, far gates, long factors, near-dipoles with coefficients
    of 1e4 - the certified error is never below the integral."""
    rng = np.random.default_rng(5)
    own: dict[str, Any] = {key: rng.standard_normal((3, 1)) for key in ("inner", "gate")}
    own |= {key: rng.standard_normal(3) for key in ("bias", "gate_bias")}
    net = Network(rng.standard_normal((3, 2)), activation="silu", **own)
    problem = Problem(net, GatedGeometry.of(net, free))
    x, step = np.linspace(-10.0, 10.0, 100_001), 20.0 / 100_000
    weight = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi) * step
    low = np.stack([np.ones_like(x), x, (x**2 - 1) / np.sqrt(2)], axis=1)[:, : free + 1]
    for trial in range(12):
        size = 10.0 ** rng.uniform(-3, 3, 4)
        gate, inner = (
            size[:, None] * rng.standard_normal((4, 1)),
            10.0 ** rng.uniform(-3, 3) * rng.standard_normal((4, 1)),
        )
        shift, bias = size * rng.standard_normal(4), rng.standard_normal(4)
        gap = 10.0 ** rng.uniform(-8, -3)
        gate[1], shift[1], inner[1], bias[1] = gate[0] * (1 + gap), shift[0], inner[0], bias[0]
        atoms: Any = GatedAtoms(problem.atoms.activation, gate, shift, inner, bias)
        beta = rng.standard_normal((4, 2))
        beta[:2] = 1e4 * rng.standard_normal(2) * np.array([[1.0], [-1.0]])
        best = refit(problem, atoms)
        for coefficients, error in ((best.beta, best.error), (beta, problem.dictionary_error(atoms, beta))):
            g = Network(coefficients, inner, bias, net.activation, gate=gate, gate_bias=shift)
            gap_ = net.with_(quadratic=None)(x[:, None]) - g(x[:, None])
            gap_ -= low @ (low.T @ (weight[:, None] * gap_))
            exact = np.sqrt(np.sum(weight[:, None] * gap_**2))
            assert np.isfinite(error)
            assert exact <= error * (1 + 1e-6), trial


def test_a_swiglu_file_of_noisy_copies(tmp_path: Path) -> None:
    """Three atoms in 24 rows of a SwiGLU file, nothing free: three are proved to be enough, and needed."""
    f = cloud("silu", 8, 3, 8, 5, 0.03)
    state = {"gate_proj": f.gate, "up_proj": f.inner, "down_proj": f.alpha.T}
    names = {f"model.layers.0.mlp.{key}.weight": np.ascontiguousarray(x) for key, x in state.items()}
    save_file(names, tmp_path / "model.safetensors")
    net = sparsemf.load(tmp_path / "model.safetensors", activation="silu")
    found: Any = sparsemf.analyze(net, affine="charged")
    assert found.free == -1
    assert (found.s_star.value, found.s_star.certified) == (3, True)
    lower = found.lower.atoms
    assert all(lower[min(s, lower.size - 1)] <= found.upper.upper[s] for s in range(net.width + 1))
    # biases that the file cannot hold are none of the dictionary's
    dictionary: Any = found.dictionary
    assert not dictionary.bias.any()
    assert not dictionary.gate_bias.any()
    x = np.random.default_rng(0).standard_normal((20_000, 8))
    error = np.sqrt(np.mean(np.sum((dictionary(x) - net(x)) ** 2, axis=1)))
    assert error <= 1.05 * found.staircase.upper[3]
