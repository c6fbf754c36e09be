"""Verified tails against dense tensors in exact arithmetic; solvers that lie cost sharpness, never truth."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from flint import arb, arb_mat, ctx

from sparsemf.certificates.checker import flattening
from sparsemf.certificates.checker.flattening import Group, Tensors, tails
from sparsemf.identifiability import verified

GROUPS = [
    Group(1, 2, 5, False),
    Group(2, 2, 4, False),
    Group(2, 4, 5, False),
    Group(0, 2, 4, True),
    Group(1, 2, 4, True),
]


def tensors(rng: np.random.Generator, n: int, d: int, m: int, kind: str) -> Tensors:
    unit = rng.standard_normal((n, d))
    alpha, c = rng.standard_normal((n, m)), rng.standard_normal((n, 6)) * 0.5 ** np.arange(6)
    if kind == "cloud":  # two directions, many particles
        unit = unit[rng.integers(0, min(n, 2), n)] + 1e-9 * rng.standard_normal((n, d))
    if kind == "dipoles":
        half = n // 2
        unit[half : 2 * half] = unit[:half] + 1e-6 * rng.standard_normal((half, d))
        c[half : 2 * half] = c[:half]
        alpha[:half] *= 1e6
        alpha[half : 2 * half] = -alpha[:half]
    if kind == "scales":
        alpha *= 10.0 ** rng.integers(-12, 12, (n, 1))
    return Tensors(unit / np.linalg.norm(unit, axis=1)[:, None], alpha, c)


def exact_tails(f: Tensors, group: Group) -> list[float]:
    """√-free truth: the matrix by its entries in 400 bits, its Gram matrix's eigenvalues by flint."""
    (n, d), m = f.unit.shape, f.alpha.shape[1]
    ctx.prec = 400
    try:
        rows: list[list[arb]] = []
        for index in product(range(d), repeat=group.p):
            for o in range(m) if group.rows else (0,):
                row: list[arb] = []
                for k in range(group.low, group.high + 1):
                    for rest in product(range(d), repeat=k - group.p):
                        for q in (o,) if group.rows else range(m):
                            total = arb(0)
                            for i in range(n):
                                term = arb(float(f.c[i, k])) * arb(float(f.alpha[i, q]))
                                for j in (*index, *rest):
                                    term *= arb(float(f.unit[i, j]))
                                total += term
                            row.append(total)
                rows.append(row)
        matrix = arb_mat(rows)
        gram = matrix * matrix.transpose() if len(rows) <= len(rows[0]) else matrix.transpose() * matrix
        size = gram.nrows()
        trace = sum((gram[i, i] for i in range(size)), arb(0))
        mid = np.array([[float(gram[i, j].mid()) for j in range(size)] for i in range(size)])
        leading = np.concatenate([[0.0], np.cumsum(np.sort(np.linalg.eigvalsh(mid))[::-1])])
        return [float(trace.upper()) - float(x) for x in leading] + [0.0] * n
    finally:
        ctx.prec = 53


@pytest.mark.parametrize("kind", ["plain", "cloud", "dipoles", "scales"])
@pytest.mark.parametrize("group", GROUPS, ids=str)
@pytest.mark.parametrize(("n", "d", "m"), [(4, 2, 1), (7, 3, 2), (1, 1, 3)])
def test_tails_are_below_the_truth_and_close(kind: str, group: Group, n: int, d: int, m: int) -> None:
    f = tensors(np.random.default_rng(n), n, d, m, kind)
    found, truth = tails(f, group), exact_tails(f, group)
    slack = 4e-15 * truth[0]  # of the truth's own leading eigenvalues
    for size in range(n + 1):
        assert found[size] <= max(truth[size], 0.0) + slack
        if kind in ("plain", "cloud"):
            assert found[size] >= truth[size] - 1e-11 * truth[0]


def test_no_neurons() -> None:
    assert tails(Tensors(np.zeros((0, 3)), np.zeros((0, 2)), np.zeros((0, 6))), GROUPS[0]).tolist() == [0.0]


def _tired(h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(h)
    return values, vectors + 1e-5 * np.random.default_rng(0).standard_normal(vectors.shape)


def _boastful(h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All eigenvalues as large as the largest."""
    values, vectors = np.linalg.eigh(h)
    return np.full_like(values, values[-1]), vectors


def _random(h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return np.sort(rng.exponential(size=h.shape[0]) * np.trace(h)), rng.standard_normal(h.shape)


def _stretched(h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(h)
    return values * 4, vectors / 2


@pytest.mark.parametrize("solver", [_tired, _boastful, _random, _stretched])
def test_an_eigensolver_that_lies_is_not_believed(
    solver: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        n = int(rng.integers(2, 8))
        f = tensors(rng, n, 3, 2, "plain")
        for group in GROUPS:
            honest = tails(f, group)
            h = rng.standard_normal((n, n))
            h = h @ h.T
            truth = np.cumsum(np.concatenate([[0.0], np.maximum(np.linalg.eigvalsh(h), 0.0)]))[::-1]
            with monkeypatch.context() as patch:
                patch.setattr(flattening.np.linalg, "eigh", lambda x: solver_of(solver, x))
                patch.setattr(verified.linalg, "eigh", lambda x, **_: solver_of(solver, x))
                assert (tails(f, group) <= honest + 1e-12 * honest[0]).all()
                assert (verified.eigenvalues(h, 0.0).tails(n) <= truth + 1e-12 * truth[0]).all()


_EIGH = np.linalg.eigh


def solver_of(
    solver: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], h: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The solver with numpy's own eigh inside."""
    lying = np.linalg.eigh
    np.linalg.eigh = _EIGH
    try:
        return solver(h)
    finally:
        np.linalg.eigh = lying


def test_a_factor_that_lies_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        f = tensors(rng, 6, 3, 2, "plain")
        for group in GROUPS:
            honest = tails(f, group)
            wrong = rng.standard_normal((6, int(rng.integers(1, 7)))) * 10.0 ** rng.uniform(-3, 1)
            with monkeypatch.context() as patch:
                patch.setattr(flattening, "_factor", lambda *_, wrong=wrong: wrong)
                assert (tails(f, group) <= honest + 1e-12 * honest[0]).all()
                patch.setattr(flattening, "_factor", lambda *_: 1.01 * np.eye(6))
                assert (tails(f, group) <= honest + 1e-12 * honest[0]).all()
