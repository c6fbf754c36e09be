"""Depths in float64: Jacobian, span reduction, recovery, other scales, power sums."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparsemf.activations import get
from sparsemf.exceptions import InputError
from sparsemf.identifiability.depths import (
    Family,
    jacobian,
    numeric_rank,
    other_scales,
    other_solutions,
    power_sum_depths,
    recover_lines,
    recover_scale,
    singular_scale,
    variety_depth,
)
from sparsemf.identifiability.depths.recover import tensor_of
from sparsemf.identifiability.depths.search import _to_polar, moment_vector


def family(name: str, atoms: int, d: int, m: int = 1, bias: bool = False, free: int = -1) -> Family:
    return Family(get(name), atoms, d, m, bias, free)


@pytest.mark.parametrize(("name", "bias"), [("tanh", True), ("gelu", False), ("relu", True), ("cubic", True)])
def test_jacobian_is_the_derivative_of_the_tensors(name: str, bias: bool) -> None:
    f, rng = family(name, 3, 4, 2, bias), np.random.default_rng(1)
    alpha, w, b = f.draw(rng)
    degrees = f.degrees(4)
    x = np.concatenate([alpha.ravel(), w.ravel(), b[: 3 * bias]])

    def tensors(x: np.ndarray) -> np.ndarray:
        shift = x[18:] if bias else np.zeros(3)
        return moment_vector(f, x[:6].reshape(3, 2), x[6:18].reshape(3, 4), shift, degrees)

    h = 1e-6
    numeric = np.stack([(tensors(x + h * e) - tensors(x - h * e)) / (2 * h) for e in np.eye(x.size)], axis=1)
    exact = jacobian(f, alpha, w, b, degrees) @ _to_polar(f, w)
    np.testing.assert_allclose(exact, numeric, atol=2e-8 * max(1.0, np.abs(numeric).max()))


@pytest.mark.parametrize(("name", "m", "bias"), [("tanh", 1, True), ("relu", 2, False), ("gelu", 1, False)])
def test_rank_in_the_span_is_the_rank(name: str, m: int, bias: bool) -> None:
    f, rng = family(name, 3, 7, m, bias), np.random.default_rng(2)
    alpha, w, b = f.draw(rng)
    for depth in range(1, 5):
        matrix = jacobian(f, alpha, w, b, f.degrees(depth))
        size = np.linalg.norm(matrix, axis=0)
        values = np.linalg.svd(matrix / np.where(size > 0, size, 1.0), compute_uv=False)
        assert numeric_rank(f, alpha, w, b, depth) == int(np.sum(values > 1e-9 * values[0]))


def test_jennrich_and_the_monotone_ratio_recover_erf_atoms() -> None:
    f, rng = family("erf", 4, 5, 2), np.random.default_rng(3)
    alpha, w, b = f.draw(rng)
    r = np.linalg.norm(w, axis=1)
    c = f.activation.hermite(r, b, 3)
    found = recover_lines(tensor_of(alpha, w, c[:, 3], 3), 4, rng)
    assert found.residual < 1e-12
    overlap = np.abs(found.lines @ (w / r[:, None]).T)
    match = overlap.argmax(axis=1)
    assert sorted(match) == [0, 1, 2, 3]
    assert overlap.max(axis=1) == pytest.approx(1, abs=1e-10)
    for i, j in enumerate(match):
        sign = np.sign(found.lines[i] @ w[j])
        first = np.linalg.lstsq(found.lines.T, tensor_of(alpha, w, c[:, 1], 1).T, rcond=None)[0][i]
        ratio = float(found.levels[i] @ first / (first @ first))
        scale = recover_scale(f, ratio, (1, 3), (0.1, 5.0))
        assert scale == pytest.approx(r[j], rel=1e-8)
        coefficient = sign * first / f.activation.hermite(np.array([scale]), np.zeros(1), 1)[0, 1]
        np.testing.assert_allclose(coefficient, alpha[j], rtol=1e-7)
    with pytest.raises(InputError, match="rank 6"):
        recover_lines(tensor_of(alpha, w, c[:, 3], 3), 6, rng)


def test_other_scales_of_gelu_are_those_of_the_theory() -> None:
    f = family("gelu", 1, 3, free=0)
    (other,) = other_scales(f, 3.0, 0.0, [1, 2], (0.3, 9.0, 0.0))
    assert other.r == pytest.approx(0.919218, abs=1e-6)
    here, there = (f.activation.hermite(np.array([r]), np.zeros(1), 4)[0] for r in (3.0, other.r))
    a = here[1] / there[1]
    assert a == pytest.approx(3.26364, abs=1e-5)
    tensors = [1.5, 0.883141, 0.0, -0.27116]
    np.testing.assert_allclose(here[1:], tensors, atol=1e-5)
    np.testing.assert_allclose(a * there[1:], [*tensors[:3], -0.19884], atol=1e-5)


def test_gelu_stands_still_at_the_root_of_two() -> None:
    f = family("gelu", 1, 2, free=0)
    distance = singular_scale(f, np.array([[1.0, 1.0]]), [1, 2])
    assert distance is not None
    assert distance < 1e-14
    assert singular_scale(f, np.array([[1.0, 1.1]]), [1, 2]) is None


def test_search_finds_atoms_with_equal_tensors_that_differ_later() -> None:
    f, rng = family("gelu", 1, 2, free=0), np.random.default_rng(5)
    alpha, w, b = np.ones((1, 1)), np.array([[0.0, 3.0]]), np.zeros(1)
    found = other_solutions(f, alpha, w, b, 2, rng, starts=20)
    assert found
    for point in found:
        assert np.linalg.norm(point.w) == pytest.approx(0.919218, abs=1e-5)
        assert point.distance > 1e-3
    assert not other_solutions(f, alpha, w, b, 4, rng, starts=8)


def test_power_sums_of_the_theory() -> None:
    found = power_sum_depths([-1.99, -0.69, 0.55, 1.90], [1, 2, 4, 6, 8])
    assert (found.variety, found.next_depth) == (6, 8)
    assert found.other is not None
    np.testing.assert_allclose(found.other, [-1.87114, -0.79132, 0.42159, 2.01087], atol=1e-5)
    # Newton: p_1 … p_4 determine four numbers
    assert power_sum_depths([-1.99, -0.69, 0.55, 1.90], [1, 2, 3, 4, 5], starts=60).other is None
    with pytest.raises(InputError, match="at least 3"):
        power_sum_depths([1.0, 2.0, 3.0], [1, 2])


def test_families_are_validated() -> None:
    with pytest.raises(InputError, match="degree −1"):
        family("relu", 2, 2, free=2)
    with pytest.raises(InputError, match="discrete orbits"):
        variety_depth(family("quadratic", 2, 2), *family("quadratic", 2, 2).draw(np.random.default_rng(0)))
    assert math.isclose(sum(family("erf", 1, 1).degrees(7)), 16)  # 1 + 3 + 5 + 7
