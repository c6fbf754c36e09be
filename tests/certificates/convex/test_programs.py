"""The programs over measures: closed forms, optimality, weak duality, and agreement of independent solvers."""

from __future__ import annotations

import numpy as np
import pytest

from sparsemf.activations import get
from sparsemf.certificates.convex import (
    Atomic,
    DataObservation,
    Effort,
    PopulationObservation,
    Status,
    blasso_on_data,
    blasso_on_network,
    nondegeneracy,
    relu_program,
    sparsest_optimum,
)
from sparsemf.certificates.convex.amplitudes import objective, refit, refit_by_cone_program, violation
from sparsemf.certificates.convex.cells import signs_of
from sparsemf.certificates.convex.gap import duality_gap
from sparsemf.certificates.convex.patterns import cover_count, enumerate_patterns
from sparsemf.certificates.convex.sliding import value_of
from sparsemf.exceptions import InputError
from sparsemf.measures import Network


def test_one_atom_is_a_soft_threshold():
    """relu, d = 1, no bias, positive inputs, y = a·x: Θ = {±1}, −1 is dead, α = (⟨y, x⟩/n − λ)₊/(|x|²/n)."""
    x = np.array([[0.5], [1.0], [2.0]])
    second = float(np.mean(x**2))
    for a, lam in ((1.5, 0.2), (-0.7, 0.3), (0.1, 1.0)):
        result = blasso_on_data(x, a * x[:, 0], lam, bias=False)
        size = max(abs(a) * second - lam, 0.0) / second
        assert result.measure.variation == pytest.approx(size, abs=1e-8)
        truth = 0.5 * second * (abs(a) - size) ** 2 + lam * size
        assert result.value == pytest.approx(truth, rel=1e-8)
        assert result.dual_value is not None
        assert result.dual_value <= truth * (1 + 1e-12)
        if size > 0:
            assert np.sign(result.measure.alpha[0, 0]) == np.sign(a)


def test_one_atom_of_a_population_target():
    """f* = a·relu(⟨u, x⟩): one atom at u with α = a − λ/‖φ‖², ‖φ‖² = 1/2."""
    u = np.array([0.6, 0.8])
    result = blasso_on_network(Network([[2.0]], [u], None, "relu"), 0.1, bias=False)
    assert result.status is Status.OPTIMAL
    assert result.size == 1
    assert result.measure.theta[0] == pytest.approx(u, abs=1e-5)
    assert result.measure.alpha[0, 0] == pytest.approx(2.0 - 0.1 / 0.5, abs=1e-6)
    assert result.value == pytest.approx(0.5 * 0.5 * 0.2**2 + 0.1 * 1.8, rel=1e-7)


@pytest.mark.parametrize(
    ("activation", "bias", "affine"),
    [("relu", False, False), ("relu", True, True), ("leaky_relu(0.2)", False, False), ("abs", True, False)],
)
def test_all_patterns_and_column_generation_agree(activation, bias, affine):
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((11, 2)), rng.standard_normal(11)
    whole = relu_program(x, y, 0.05, activation, bias=bias, affine=affine)
    found = blasso_on_data(x, y, 0.05, activation, bias=bias, affine=affine)
    assert whole.all
    assert whole.patterns.shape[0] == cover_count(11, 2 + bias)
    assert found.value == pytest.approx(whole.result.value, rel=2e-7)
    for result in (whole.result, found):
        assert result.rel_gap is not None
        assert result.rel_gap < 1e-6
        assert result.dual_value is not None
        assert result.dual_value <= min(found.value, whole.result.value)


def test_missing_patterns_show_as_a_gap():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((11, 2)), rng.standard_normal(11)
    best = blasso_on_data(x, y, 0.05, bias=False)
    few = relu_program(x, y, 0.05, bias=False, patterns=enumerate_patterns(x)[:2])
    assert few.result.gap is not None
    assert few.result.gap >= few.result.value - best.value - 1e-9
    assert few.result.status is Status.BOUNDED


@pytest.mark.parametrize("m", [1, 2])
def test_optimality_conditions(m):
    """η_i = α_i/‖α_i‖ on the support, ‖η‖ ≤ 1 everywhere, and the value is that of the network on the rows."""
    rng = np.random.default_rng(m)
    x = rng.standard_normal((40, 2))
    y = np.maximum(x @ rng.standard_normal((2, 3)), 0) @ rng.standard_normal((3, m))
    result = blasso_on_data(x, y, 0.05, bias=False, effort=Effort(tolerance=1e-6))
    size = np.linalg.norm(result.measure.alpha, axis=1, keepdims=True)
    assert np.max(np.abs(result.eta(result.measure.theta) - result.measure.alpha / size)) < 1e-4
    assert result.supremum.upper is not None
    assert result.supremum.upper < 1 + 1e-4
    loss = 0.5 * np.sum((y - result.network(x)) ** 2) / 40
    assert result.value == pytest.approx(loss + 0.05 * np.sum(size), rel=1e-9)


@pytest.mark.parametrize("affine", [False, True])
def test_weak_duality_for_random_feasible_points(affine):
    """D(q) ≤ P(ν) for random measures; and the certified dual value is below every primal value."""
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal((25, 2)), rng.standard_normal((25, 1))
    observation = DataObservation.of(x, y, "relu", True, affine)
    result = blasso_on_data(x, y, 0.1, affine=affine)
    assert result.dual_value is not None
    for count in (0, 1, 3, 8):
        for _ in range(10):
            theta = observation.space.sample(count, rng)
            measure = Atomic(theta, rng.standard_normal((count, 1)) * rng.uniform(0, 1))
            assert value_of(observation, measure, 0.1) >= result.dual_value
            gap = duality_gap(observation, measure, 0.1, 10.0)
            if gap.dual_value is not None:
                assert gap.dual_value <= result.value * (1 + 1e-12)


def test_amplitudes_against_the_cone_program():
    rng = np.random.default_rng(1)
    for m in (1, 3):
        features = rng.standard_normal((30, 8))
        gram, moments = features.T @ features / 30, features.T @ rng.standard_normal((30, m)) / 30
        alpha = refit(gram, moments, 0.1)
        assert violation(gram, moments, 0.1, alpha) < 1e-9
        other = refit_by_cone_program(gram, moments, 0.1)
        assert objective(gram, moments, 0.1, alpha) <= objective(gram, moments, 0.1, other) + 1e-10
        assert np.max(np.abs(alpha - other)) < 1e-4


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_smooth_program_on_data(name):
    """Planted in the interior: certified gap, and a dictionary that fits."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((120, 2))
    w = np.array([[1.2, 0.3], [-0.4, 1.3]])
    y = get(name).value(x @ w.T) @ np.array([1.0, -0.8])
    result = blasso_on_data(x, y, 0.02, name, bias=False, radius=1.6, effort=Effort(tolerance=1e-5, iterations=20))
    assert result.rel_gap is not None
    assert result.rel_gap < 1e-4
    assert result.size <= 6
    report = nondegeneracy(result, 0.3, Effort(tolerance=1e-2, regions=40_000))
    assert report.margin is None or report.margin <= 1
    assert 0 <= report.independence <= 1


def test_planted_spikes_are_recovered_with_a_certificate():
    """Two orthogonal abs kinks under N(0, I): a non-degenerate certificate, exactly two atoms, in the right places."""
    w = np.array([[1.0, 0.0], [0.0, 1.0]])
    result = blasso_on_network(Network([[1.0], [0.8]], w, None, "abs"), 0.05, bias=False, effort=Effort(tolerance=1e-6))
    assert result.size == 2
    assert np.max(np.abs(result.measure.theta @ w.T), axis=1) == pytest.approx([1.0, 1.0], abs=1e-4)
    assert result.supremum.upper is not None
    assert result.supremum.upper < 1 + 1e-5
    report = nondegeneracy(result, 0.3, Effort(tolerance=1e-3))
    assert report.margin is not None
    assert report.margin > 0
    assert report.noise is not None
    # a grid outside the caps stays below 1 − margin
    angle = np.linspace(0, 2 * np.pi, 20_001)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    away = np.max(np.abs(circle @ result.measure.theta.T), axis=1) < np.cos(0.3)
    assert np.max(np.abs(result.eta(circle[away]))) <= 1 - report.margin


def test_noise_below_the_limit_adds_no_atom_elsewhere():
    """On data: solve again with noise of the tolerated size; all atoms stay in the caps."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((60, 2))
    y = 1.5 * np.maximum(x @ np.array([0.6, 0.8]), 0)
    result = blasso_on_data(x, y, 0.1, bias=False)
    report = nondegeneracy(result, 0.5)
    assert report.noise is not None
    for _ in range(3):
        noise = rng.standard_normal(60)
        noise *= 0.9 * report.noise / np.sqrt(np.mean(noise**2))
        again = blasso_on_data(x, y + noise, 0.1, bias=False)
        nearest = np.max(again.measure.theta @ result.measure.theta.T, axis=1)
        assert np.all(nearest >= np.cos(0.5))


def test_sparsest_optimum_is_optimal_and_no_larger():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((12, 2)), rng.standard_normal(12)
    whole = relu_program(x, y, 0.03, bias=False)
    found = sparsest_optimum(whole.result)
    assert found.measure.size <= found.vertex <= whole.result.size
    value = value_of(whole.result.observation, found.measure, 0.03)
    assert value == pytest.approx(whole.result.value, rel=1e-6)


def test_sparsest_optimum_merges_a_split_atom():
    """The same optimum with one atom split in two copies has one atom less after reduction."""
    x = np.array([[0.5], [1.0], [2.0], [-1.0]])
    result = blasso_on_data(x, 1.5 * np.maximum(x[:, 0], 0), 0.1, bias=False)
    assert result.size == 1
    twice = Atomic(np.repeat(result.measure.theta, 2, axis=0), np.repeat(0.5 * result.measure.alpha, 2, axis=0))
    from dataclasses import replace

    found = sparsest_optimum(replace(result, measure=twice))
    assert found.measure.size == 1
    assert found.minimal


def test_patterns_against_random_search_and_in_special_position():
    rng = np.random.default_rng(0)
    for n, dim in ((7, 2), (9, 3), (8, 4)):
        rows = rng.standard_normal((n, dim))
        assert enumerate_patterns(rows).shape[0] == cover_count(n, dim)
    # repeated, opposite, coplanar and zero rows
    rows = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [2, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, 0], [1, -1, 0]], float)
    found = {s.tobytes() for s in enumerate_patterns(rows)}
    seen = np.where(rng.standard_normal((20_000, 3)) @ rows.T >= 0, 1, -1).astype(np.int8)
    assert found == {s.tobytes() for s in seen}


def test_signs_of_ties():
    observation = DataObservation.of([[1.0, 0.0], [0.0, 1.0]], [0.0, 1.0], "relu", bias=False)
    assert signs_of(observation, np.array([[0.0, -1.0]])).tolist() == [[1, -1]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: blasso_on_data([[1.0]], [1.0], 0.0), "positive number"),
        (lambda: blasso_on_data([[1.0]], [1.0, 2.0], 0.1), "data"),
        (lambda: blasso_on_data([[np.nan]], [1.0], 0.1), "finite"),
        (lambda: blasso_on_data([[1.0]], [1.0], 0.1, "tanh"), "radius"),
        (lambda: blasso_on_data([[1.0]], [1.0], 0.1, "relu", radius=1.0), "homogeneous"),
        (lambda: relu_program([[1.0], [2.0]], [[1.0, 1.0], [0.0, 1.0]], 0.1), "one output"),
        (lambda: relu_program([[1.0], [2.0]], [1.0, 1.0], 0.1, patterns=np.zeros((1, 2), np.int8)), "patterns"),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_population_jets_against_differences_and_sampling():
    rng = np.random.default_rng(0)
    for name, free in (("tanh", False), ("gelu", True), ("relu", False), ("abs", True), ("leaky_relu(0.3)", False)):
        d, m = 2, 2
        teacher = Network(
            rng.standard_normal((3, m)),
            rng.standard_normal((3, d)),
            rng.standard_normal(3),
            name,
            affine=rng.standard_normal((m, d)),
            offset=rng.standard_normal(m),
        )
        limits = (None, None) if get(name).homogeneous else (1.5, 1.0)
        observation = PopulationObservation.of(teacher, None, True, free, *limits)
        measure = Atomic(observation.space.sample(2, rng), rng.standard_normal((2, m)))
        theta = observation.space.sample(4, rng)
        jet = observation.jet(measure, theta, 2)
        h = 1e-5
        for j, e in enumerate(np.eye(3)):
            up, down = (observation.jet(measure, theta + t * h * e) for t in (1, -1))
            assert np.max(np.abs((up.value - down.value) / (2 * h) - jet.jacobian[..., j])) < 1e-8
            if jet.hessian is not None:
                assert np.max(np.abs((up.jacobian - down.jacobian) / (2 * h) - jet.hessian[..., j])) < 1e-7
        x = rng.standard_normal((200_000, d))
        r = teacher(x) - Network(measure.alpha, measure.theta[:, :d], measure.theta[:, d], name)(x)
        if free:
            columns = np.concatenate([np.ones((len(x), 1)), x], axis=1)
            r -= columns @ np.linalg.lstsq(columns, r, rcond=None)[0]
        terms = get(name).value(x @ theta[:, :d].T + theta[:, d])[:, :, None] * r[:, None, :]
        spread = terms.std(axis=0) / np.sqrt(len(x))
        assert np.max(np.abs(terms.mean(axis=0) - jet.value) / spread) < 6
        energy = np.sum(r**2, axis=1)
        assert abs(energy.mean() - observation.residual_energy(measure)[0]) < 6 * energy.std() / np.sqrt(len(x))
