"""Free polynomials on rows: an orthonormal basis, what it writes out, and when it is known to be all of them."""

from __future__ import annotations

import numpy as np
import pytest

import sparsemf.measures.polynomials as home
from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.measures.polynomials import Polynomials, beyond, count

Array = np.ndarray


def rows(kind: str) -> Array:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((90, 4))
    return {
        "plain": x,
        "shifted": x * [1.0, 100.0, 0.01, 1.0] + [5.0, -300.0, 0.0, 1e3],
        "one hot": np.eye(4)[rng.integers(0, 4, 90)],
        "counts": rng.integers(0, 3, (90, 4)) * 0.25,
        "few": x[:7],
        "constant and repeated": np.concatenate([x[:, :2], x[:, :1], np.full((90, 1), 0.1)], axis=1),
    }[kind]


@pytest.mark.parametrize("free", [-1, 0, 1, 2])
@pytest.mark.parametrize("kind", ["plain", "shifted", "one hot", "counts", "few", "constant and repeated"])
def test_the_basis_is_what_it_says(kind: str, free: int) -> None:
    x = rows(kind)
    found = Polynomials.of(x, free)
    assert np.linalg.norm(found.basis.T @ found.basis - np.eye(found.rank)) <= found.defect < 1e-9
    # as many of them as a decomposition of the monomials finds, and it is known to be all
    i, j = np.triu_indices(4)
    t = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12) * (x.std(axis=0) > 1e-12)
    design = np.concatenate([np.ones((x.shape[0], 1)), t, t[:, i] * t[:, j]], axis=1)[:, : count(4, free)]
    assert found.rank == (np.linalg.matrix_rank(design, tol=1e-8) if free >= 0 else 0)
    assert found.complete or (kind == "few" and free == 2)
    assert found.everything == (kind == "few" and free == 2)
    # written out in x, and evaluated as any network
    gamma = np.random.default_rng(0).standard_normal((found.rank, 3))
    affine, offset, form = found.written(gamma)
    values = Network(np.zeros((0, 3)), np.zeros((0, 4)), None, "relu", 1.0, affine, offset, quadratic=form)(x)
    assert np.linalg.norm(values - found.basis @ gamma) <= found.error * np.linalg.norm(gamma)
    assert found.error < (1e-5 if kind == "shifted" else 1e-10)
    assert found.rounding <= found.error
    # nothing of a polynomial is left, and of other functions what is orthogonal
    assert np.linalg.norm(found.without(values)) <= (1e-12 + found.error) * max(np.linalg.norm(gamma), 1.0)
    rest = found.without(np.random.default_rng(1).standard_normal((x.shape[0], 2)))
    assert np.linalg.norm(found.basis.T @ rest) <= 1e-10
    assert np.linalg.norm(rest) > 0 or found.everything


def test_directions_that_are_left_out_are_known_to_be() -> None:
    x = rows("plain")
    x[:, 3] = x[:, 0] * (1 + 2.0**-50 * x[:, 1])
    found = Polynomials.of(x, 1)
    assert (found.rank, found.monomials, found.complete) == (4, 5, False)


def test_cholesky_and_singular_values_span_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = rows("shifted")
    one = Polynomials.of(x, 2)
    monkeypatch.setattr(home, "_cholesky", lambda _: None)
    other = Polynomials.of(x, 2)
    assert one.rank == other.rank == 15
    assert np.linalg.norm(one.basis - other.basis @ (other.basis.T @ one.basis)) < 1e-10


def test_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "MOST_NUMBERS", 1000)
    with pytest.raises(InputError, match="--affine charged"):
        Polynomials.of(rows("plain"), 2)


def test_beyond_leaves_what_is_not_free() -> None:
    net = Network([[1.0]], [[1.0, 2.0]], [0.5], "relu", 1.0, [[1.0, 1.0]], [2.0], quadratic=np.ones((1, 2, 2)))
    kept = [beyond(net, free) for free in (-1, 0, 1, 2)]
    assert [bool(k.offset.any()) for k in kept] == [True, False, False, False]
    assert [bool(k.affine.any()) for k in kept] == [True, True, False, False]
    assert [k.quadratic is None for k in kept] == [False, False, False, True]
