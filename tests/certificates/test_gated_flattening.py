"""Verified tails of gated blocks against dense tensors of 400 bits; the described function against quadrature."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from flint import arb, arb_mat, ctx
from numpy.polynomial.hermite_e import hermegauss

from sparsemf.certificates.checker import flattening, gated_flattening
from sparsemf.certificates.checker.flattening import Group
from sparsemf.certificates.checker.gated_flattening import Pairs, described, stride, tails
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import Raw

GROUPS = [
    Group(1, 3, 5, False),
    Group(2, 3, 4, False),
    Group(3, 3, 5, False),
    Group(2, 4, 5, False),
    Group(0, 3, 4, True),
    Group(1, 3, 4, True),
    Group(2, 3, 4, True),
]


def pairs(rng: np.random.Generator, n: int, d: int, m: int, kind: str) -> Pairs:
    unit, v = rng.standard_normal((n, d)), rng.standard_normal((n, d))
    alpha = rng.standard_normal((n, m))
    a, c = (rng.standard_normal((n, 6)) * 0.5 ** np.arange(6) for _ in range(2))
    if kind == "cloud":
        chosen = rng.integers(0, min(n, 2), n)
        unit = unit[chosen] + 1e-9 * rng.standard_normal((n, d))
        v = v[chosen] + 1e-9 * rng.standard_normal((n, d))
    if kind == "shared":
        unit, a, c = unit[:1] + 0 * unit, a[:1] + 0 * a, c[:1] + 0 * c
    if kind == "dipoles":
        half = n // 2
        for x in (unit, v):
            x[half : 2 * half] = x[:half] + 1e-6 * rng.standard_normal((half, d))
        a[half : 2 * half], c[half : 2 * half] = a[:half], c[:half]
        alpha[:half] *= 1e6
        alpha[half : 2 * half] = -alpha[:half]
    if kind == "scales":
        alpha *= 10.0 ** rng.integers(-12, 12, (n, 1))
        v *= 10.0 ** rng.integers(-3, 3, (n, 1))
    return Pairs(unit / np.linalg.norm(unit, axis=1)[:, None], v, alpha, a, c)


def exact_tails(f: Pairs, group: Group) -> list[float]:
    """The matrix entry by entry: a Π g + (√k c/k) Σ_place v_place Π_others g; its Gram matrix in 400 bits."""
    (n, d), m, p = f.unit.shape, f.alpha.shape[1], group.p
    ctx.prec = 400
    try:
        g, v, alpha, a, c = ([[arb(float(y)) for y in row] for row in x] for x in (f.unit, f.v, f.alpha, f.a, f.c))

        def entry(i: int, index: tuple[int, ...]) -> arb:
            whole = a[i][len(index)]
            for j in index:
                whole *= g[i][j]
            for place, j in enumerate(index):
                term = c[i][len(index)] * v[i][j] / arb(len(index)).sqrt()
                for other, slot in enumerate(index):
                    term *= g[i][slot] if other != place else 1
                whole += term
            return whole

        known = {
            (i, index): entry(i, index)
            for k in range(group.low, group.high + 1)
            for index in product(range(d), repeat=k)
            for i in range(n)
        }
        rows: list[list[arb]] = []
        for index in product(range(d), repeat=p):
            for o in range(m) if group.rows else (0,):
                row = [
                    sum((alpha[i][q] * known[i, index + rest] for i in range(n)), arb(0))
                    for k in range(group.low, group.high + 1)
                    for rest in product(range(d), repeat=k - p)
                    for q in ((o,) if group.rows else range(m))
                ]
                rows.append(row)
        matrix = arb_mat(rows)
        gram = matrix * matrix.transpose() if len(rows) <= len(rows[0]) else matrix.transpose() * matrix
        size = gram.nrows()
        trace = sum((gram[i, i] for i in range(size)), arb(0))
        mid = np.array([[float(gram[i, j].mid()) for j in range(size)] for i in range(size)])
        leading = np.concatenate([[0.0], np.cumsum(np.sort(np.linalg.eigvalsh(mid))[::-1])])
        return [float(trace.upper()) - float(x) for x in leading] + [0.0] * (2 * n)
    finally:
        ctx.prec = 53


@pytest.mark.parametrize("kind", ["plain", "cloud", "shared", "dipoles", "scales"])
@pytest.mark.parametrize("group", GROUPS, ids=str)
@pytest.mark.parametrize(("n", "d", "m"), [(4, 2, 1), (4, 3, 2), (1, 2, 3)])
def test_tails_are_below_the_truth_and_close(kind: str, group: Group, n: int, d: int, m: int) -> None:
    f = pairs(np.random.default_rng(n), n, d, m, kind)
    found, truth = tails(f, group), exact_tails(f, group)
    slack = 4e-15 * truth[0]
    assert found.shape == (n + 1,)
    for size in range(n + 1):
        true = max(truth[stride(group) * size], 0.0)
        assert found[size] <= true + slack
        if kind in ("plain", "cloud", "shared"):
            assert found[size] >= true - 1e-9 * truth[0]


def test_no_neurons() -> None:
    empty = np.zeros((0, 3))
    for group in GROUPS:
        assert tails(Pairs(empty, empty, np.zeros((0, 2)), np.zeros((0, 6)), np.zeros((0, 6))), group).tolist() == [0]


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_an_eigensolver_that_lies_is_not_believed(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    eigh: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] = np.linalg.eigh

    def lying(h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = eigh(h)
        return values[-1] * scale + 0 * values, vectors / np.sqrt(scale)

    rng = np.random.default_rng(3)
    for _ in range(5):
        f = pairs(rng, 4, 3, 2, "plain")
        for group in GROUPS:
            honest, wrong = tails(f, group), 1.01 * np.eye(stride(group) * 4)
            with monkeypatch.context() as patch:
                patch.setattr(flattening.np.linalg, "eigh", lying)
                assert (tails(f, group) <= honest + 1e-12 * honest[0]).all()
                patch.setattr(flattening.np.linalg, "eigh", eigh)
                patch.setattr(flattening, "_factor", lambda *_, wrong=wrong: wrong)
                assert (tails(f, group) <= honest + 1e-12 * honest[0]).all()


NAMES = ["silu", "gelu", "sigmoid", "quick_gelu", "tanh", "softplus", "relu", "leaky_relu(0.3)", "hardtanh"]


@pytest.mark.parametrize("name", NAMES)
def test_the_described_function_is_the_network(name: str) -> None:
    """f's Hermite coefficients by quadrature against the stored tensors, several cores a gate included, under a law."""
    rng = np.random.default_rng(6)
    d, n = 2, 2
    f = Raw(
        name, rng.standard_normal((n, 1)), 0.7, rng.standard_normal((n, d)), rng.standard_normal(n),
        rng.standard_normal((1, d)), np.ones(1), None, 0.6 * rng.standard_normal((n, d)), rng.standard_normal(n),
    )  # fmt: skip
    norm = Norm("gaussian", mean=np.array([0.2, -0.3]), root=np.array([[0.9, 0.2], [-0.1, 1.1]]))
    from sparsemf.activations import get

    assert norm.root is not None
    assert norm.mean is not None
    assert f.gate is not None
    assert f.gate_bias is not None
    g, w = hermegauss(180)
    z = np.stack(np.meshgrid(g, g, indexing="ij"), -1).reshape(-1, 2)
    weights = np.outer(w, w).ravel() / w.sum() ** 2
    x = z @ norm.root.T + norm.mean
    values = (get(name).value(x @ f.gate.T + f.gate_bias) * (x @ f.w.T + f.b)) @ f.alpha[:, 0]
    t, lost = described(norm, f, 6)
    assert 0 <= lost < 1e-9
    kinked = name in ("relu", "leaky_relu(0.3)", "hardtanh")
    u = rng.standard_normal(d)
    u /= np.linalg.norm(u)
    h = [np.ones(len(z)), z @ u]
    for k in range(1, 6):
        h.append((h[1] * h[k] - np.sqrt(k) * h[k - 1]) / np.sqrt(k + 1))
    for k in range(3, 7):
        rho, side = t.unit @ u, t.v @ u
        own = t.alpha[:, 0] @ (rho ** (k - 1) * (t.a[:, k] * rho + np.sqrt(k) * t.c[:, k] * side))
        truth = float(weights @ (values * h[k]))
        assert own == pytest.approx(truth, abs=3e-2 if kinked else 1e-9)


def test_lengths_of_rows_and_columns_bound_them() -> None:
    """The blocks are Gram matrices: positive semi-definite, P·Q has the trace ‖M‖²."""
    rng = np.random.default_rng(7)
    f = pairs(rng, 3, 2, 2, "plain")
    for group in GROUPS:
        p = gated_flattening._left(f, group, slice(None))
        q = gated_flattening._right(f, group, slice(None))
        for x in (p, q):
            np.testing.assert_allclose(x, x.T, atol=1e-12)
            assert np.linalg.eigvalsh(x)[0] > -1e-12
        assert float(np.sum(p * q)) == pytest.approx(exact_tails(f, group)[0], rel=1e-10)
        for rows in (slice(1, 3), np.array([2])):
            np.testing.assert_allclose(gated_flattening._left(f, group, rows), p[rows], rtol=1e-13, atol=1e-14)
