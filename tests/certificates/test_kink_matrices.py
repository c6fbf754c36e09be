"""Kink matrices: the map's norm and its matrices by dense tensors, the bounds against networks of few atoms."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import optimize

from certificates.claims import resealed
from kink_cases import block, distance, shared, symmetric_basis, tensors
from sparsemf.atomic import json_text
from sparsemf.certificates.checker import kink_matrices
from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.kink_matrices import KinkMatrix, Kinks, bounds, kink_matrix, map_norm
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import decode, encode
from sparsemf.certificates.checker.sparsity import kink_curve
from sparsemf.certificates.equivalence import raw_of
from sparsemf.identifiability import kink_matrices as prover
from sparsemf.identifiability.kink_search import balanced, families, flat, level
from sparsemf.measures import Network
from sparsemf.pipeline.analyze import analyze
from sparsemf.pipeline.verify import verify
from sparsemf.symmetry import disguise, quotient

SMALL: list[tuple[prover.Blocks, prover.Blocks]] = [
    flat(1, 1, 1, 1),
    flat(1, 2, 2, 0),
    flat(2, 1, 2, 1),
    level(2, 2, 2, 1),
    (level(3, 3, 1, 1)[0], ((0, 1), (0, 3), (1, 2))),
    flat(1, 3, 3, 0),
]
GAUSS = Norm("gaussian")


def weighted(rng: np.random.Generator, rows: prover.Blocks, columns: prover.Blocks) -> KinkMatrix:
    """With random weights."""
    a, b = (10.0 ** rng.uniform(-1, 1, len(side)) for side in (rows, columns))
    return kink_matrix(prover.KinkMatrix(1, rows, columns, tuple(a.tolist()), tuple(b.tolist())).document())


def natural(d: int, shape: tuple[prover.Blocks, prover.Blocks]) -> KinkMatrix:
    """With the prover's first weights."""
    a, b = balanced(d, *shape)
    return kink_matrix(prover.KinkMatrix(d, *shape, tuple(a.tolist()), tuple(b.tolist())).document())


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_the_norm_of_the_map_is_that_of_its_matrix_on_dense_tensors(
    d: int, shape: tuple[prover.Blocks, prover.Blocks]
) -> None:
    matrix = weighted(np.random.default_rng(d), *shape)
    most = max(j for _, j, _ in matrix.rows) + max(j for _, j, _ in matrix.columns) + 2
    assert most <= 8
    images = []
    for k in range(2, most + 1):
        for tensor in symmetric_basis(d, k):
            parts = [
                (a * b * block({k: tensor}, d, p, j, q, low)).ravel()
                for p, j, a in matrix.rows
                for q, low, b in matrix.columns
            ]
            images.append(np.concatenate(parts))
    truth = np.linalg.norm(np.array(images), 2)
    assert truth <= map_norm(matrix, d) <= truth * (1 + 1e-9)
    same = prover.KinkMatrix(d, *shape, tuple(w for *_, w in matrix.rows), tuple(w for *_, w in matrix.columns))
    assert truth * (1 - 1e-12) <= same.norm <= truth * (1 + 1e-8)


@pytest.mark.parametrize("shape", SMALL[:5], ids=str)
def test_the_map_takes_the_tensors_of_a_network_to_a_sum_of_one_matrix_an_atom(
    shape: tuple[prover.Blocks, prover.Blocks],
) -> None:
    """T_k by quadrature from the definition, contracted, against he_j(−β)ŵ^{⊗p} ⊗ he_l(−β)ŵ^{⊗q}."""
    f = shared(np.random.default_rng(5), 2, 2, 2)
    found = {k: t[0] for k, t in tensors(f, max(j for _, j in shape[0]) + max(j for _, j in shape[1]) + 2).items()}
    kinks = prover.Kinks.of(f, 1.0)
    value = kinks.hermite(8)[0]

    def powers(p: int) -> np.ndarray:
        out = np.ones((f.width, 1))
        for _ in range(p):
            out = (out[:, :, None] * kinks.unit[:, None, :]).reshape(f.width, -1)
        return out

    for p, j in shape[0]:
        for q, low in shape[1]:
            rank_one = powers(p) * value[:, j, None]
            truth = rank_one.T @ (powers(q) * value[:, low, None] * kinks.kappa)
            np.testing.assert_allclose(block(found, 2, p, j, q, low), truth, atol=1e-9)


def test_every_family_of_the_search_is_admissible_and_what_is_not_is_refused() -> None:
    for d in (1, 3):
        for shape in families(d):
            assert prover.admissible(*shape)
            natural(d, shape)
    for rows, columns in (
        ([(1, 0)], [(0, 0)]),  # parity
        ([(2, 0)], [(2, 0)]),  # T_2 has no A_4
        ([(2, 1)], [(2, 1)]),
        ([(3, 0)], [(1, 0)]),
        ([(1, 0), (2, 1)], [(1, 0), (2, 1)]),
    ):
        entry = {"rows": [[*x, 1.0] for x in rows], "columns": [[*x, 1.0] for x in columns]}
        with pytest.raises(Refused):
            kink_matrix(entry)


def near(f: Network, size: int, rng: np.random.Generator, kind: str) -> Network:
    """A network of ``size`` atoms: some of f's own moved a little, new ones, copies side by side, or far kinks."""
    kept = rng.permutation(f.width)[:size]
    inner, bias = f.inner[kept].copy(), f.bias[kept].copy()
    if kind == "moved":
        inner += 0.1 * rng.standard_normal(inner.shape)
    if kind == "new":
        inner, bias = rng.standard_normal(inner.shape), rng.standard_normal(size)
    if kind == "side by side" and size > 1:
        inner[1], bias[1] = inner[0] * (1 + 1e-7), bias[0] + 1e-6
    if kind == "far" and size:
        bias[0] = 30.0 * rng.choice([-1, 1])
    return Network(np.zeros((size, f.m)), inner, bias, "relu")


@pytest.mark.parametrize("kind", ["moved", "own", "new", "side by side", "far"])
@pytest.mark.parametrize(("d", "lines", "biases", "m"), [(1, 1, 4, 1), (2, 2, 2, 1), (3, 2, 3, 2)])
def test_no_network_of_few_atoms_is_closer(kind: str, d: int, lines: int, biases: int, m: int) -> None:
    rng = np.random.default_rng([d, *kind.encode()])
    f = shared(rng, d, lines, biases, outputs=m)
    known = np.zeros(f.width + 1)
    for shape in (*SMALL, level(4, 2, 2, 1), flat(1, 5, 5, 1)):
        for matrix in (weighted(rng, *shape), natural(d, shape)):
            known = np.maximum(known, kink_curve(GAUSS, raw_of(f), [matrix]))
    assert known[f.width] == 0.0
    assert known[lines] > 0.0
    x = rng.standard_normal((4000, d))
    for size in range(f.width):
        for _ in range(3):
            g = near(f, size, rng, kind)
            design = np.concatenate([np.maximum(x @ g.inner.T + g.bias, 0.0), x, np.ones((x.shape[0], 1))], axis=1)
            g = g.with_(outer=np.linalg.lstsq(design, f(x), rcond=1e-9)[0][:size])
            assert known[size] <= distance(f, g)


@pytest.mark.parametrize(("d", "lines", "biases"), [(1, 1, 3), (2, 1, 3), (2, 2, 2)])
def test_an_adversary_does_not_come_closer_and_shows_that_the_bound_is_no_toy(d: int, lines: int, biases: int) -> None:
    """min ‖f − g‖ over (w, b) and the best coefficients, by quasi-Newton steps from several starts."""
    rng = np.random.default_rng(lines)
    f = shared(rng, d, lines, biases, apart=0.8)
    size = f.width - 1
    known = np.zeros(f.width + 1)
    for shape in families(d)[::3]:
        known = np.maximum(known, kink_curve(GAUSS, raw_of(f), [natural(d, shape)]))
    x = rng.standard_normal((3000, d))
    y, line = f(x), np.concatenate([x, np.ones((3000, 1))], axis=1)

    def fitted(z: np.ndarray) -> tuple[Network, float]:
        w, b = z[: size * d].reshape(size, d), z[size * d :]
        design = np.concatenate([np.maximum(x @ w.T + b, 0.0), line], axis=1)
        solution = np.linalg.lstsq(design, y, rcond=1e-10)[0]
        return Network(solution[:size], w, b, "relu"), float(np.mean((design @ solution - y) ** 2))

    closest = np.inf
    for _ in range(4):
        kept = rng.permutation(f.width)[:size]
        start = np.concatenate([f.inner[kept].ravel(), f.bias[kept]]) + 0.2 * rng.standard_normal(size * (d + 1))
        found = optimize.minimize(lambda z: fitted(z)[1], start, method="L-BFGS-B", options={"maxfun": 500})
        closest = min(closest, distance(f, fitted(found.x)[0]))
    assert 0.004 * closest <= known[size] <= closest


@pytest.mark.parametrize("kind", ["plain", "near-duplicates", "cancelling", "far", "many scales"])
def test_rounding_makes_no_atoms(kind: str) -> None:
    """f has S atoms, whatever its file looks like: L(S) is 0, and L(S − 1) is no more than what the last one makes."""
    rng = np.random.default_rng([2, *kind.encode()])
    for d, lines, biases in ((1, 1, 3), (2, 2, 2), (5, 2, 2)):
        f = shared(rng, d, lines, biases)
        if kind == "far":
            f = f.with_(bias=f.bias * np.where(np.arange(f.width) == 0, 40.0, 1.0))
        if kind == "many scales":
            f = f.with_(outer=f.outer * 10.0 ** rng.uniform(-9, 9, (f.width, 1)))
        own = disguise(f, rng, 3 * f.width)
        if kind == "cancelling":
            pair = np.concatenate([own.alpha, 1e8 * own.alpha[:1], -1e8 * own.alpha[:1]])
            rows = [*range(own.width), 0, 0]
            own = Network(pair, own.inner[rows], own.bias[rows], "relu", affine=own.affine, offset=own.offset)
        if kind == "near-duplicates":
            rows = [*range(f.width), 0]
            inner = f.inner[rows] * np.where(np.arange(f.width + 1) == f.width, 1 + 2.0**-50, 1.0)[:, None]
            own = Network(f.alpha[rows], inner, f.bias[rows], "relu")
        last = distance(f, f.with_(outer=np.where(np.arange(f.width) == np.argmin(np.abs(f.alpha[:, 0])), 0.0,
                                                  f.alpha[:, 0])[:, None]))  # fmt: skip
        for shape in (*SMALL, flat(1, 4, 4, 0), level(4, 2, 3, 1)):
            curve = kink_curve(GAUSS, raw_of(own), [natural(d, shape)])
            assert not curve[f.width :].any()
            assert curve[f.width - 1] <= last * (1 + 1e-9)
            mine, _ = prover.distances(
                prover.Kinks.of(quotient(own).network, 1.0),
                prover.KinkMatrix(d, *shape, *map(tuple, balanced(d, *shape))),
            )
            assert not mine[f.width :].any()


@pytest.mark.parametrize("lie", ["boastful", "shuffled", "stretched"])
def test_a_decomposition_that_lies_is_not_believed(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    f = shared(rng, 2, 2, 2)
    kinks = Kinks(*(prover.Kinks.of(f, 1.0).unit, f.alpha, np.linalg.norm(f.inner, axis=1), f.bias))
    svd = np.linalg.svd

    def lying(made: np.ndarray, full_matrices: bool = True) -> tuple[np.ndarray, ...]:
        u, s, vt = svd(made, full_matrices=full_matrices)
        if lie == "boastful":
            s = np.full_like(s, s[0])
        return (u, s[::-1], vt) if lie == "shuffled" else (u / 2, s * 4, vt / 2) if lie == "stretched" else (u, s, vt)

    for shape in SMALL:
        matrix = natural(2, shape)
        honest = bounds(kinks, matrix)
        assert honest[0] > 0
        with monkeypatch.context() as patch:
            patch.setattr(kink_matrices.np.linalg, "svd", lying)
            assert (bounds(kinks, matrix) <= honest + 1e-12 * honest[0]).all()


# --- documents ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def honest() -> tuple[Network, dict[str, Any]]:
    f = disguise(shared(np.random.default_rng(8), 2, 2, 2), np.random.default_rng(9), 9)
    return f, json.loads(json_text(analyze(f).certificate()))


def test_the_claim_rests_on_the_matrices_alone(honest: tuple[Network, dict[str, Any]]) -> None:
    f, doc = honest
    assert (doc["claim"]["lower"], doc["claim"]["upper"], doc["claim"]["certified"]) == (4, 4, True)
    assert verify(doc, {"a": f}).valid
    without = {**doc, "evidence": {k: v for k, v in doc["evidence"].items() if k != "kinks"}}
    assert not verify(resealed(without), {"a": f}).valid


@pytest.mark.parametrize(
    "lie",
    [
        None,
        {"rows": []},
        [[]],
        ["rows"],
        [{"rows": [[1, 0, 1.0]], "columns": []}],
        [{"rows": [[1, 0, 1.0]], "columns": [[1, 0, 0.0]]}],
        [{"rows": [[1, 0, 1.0]], "columns": [[1, 0, -1.0]]}],
        [{"rows": [[1, 0, 1.0]], "columns": [[1, 0, 1e300]]}],
        [{"rows": [[1, 0, float("nan")]], "columns": [[1, 0, 1.0]]}],
        [{"rows": [[1, 0, True]], "columns": [[1, 0, 1.0]]}],
        [{"rows": [[1, 0, 1.0], [1, 0, 2.0]], "columns": [[1, 0, 1.0]]}],
        [{"rows": [[-1, 0, 1.0]], "columns": [[1, 0, 1.0]]}],
        [{"rows": [[1, 40, 1.0]], "columns": [[1, 0, 1.0]]}],
        [{"rows": [[1, 0.0, 1.0]], "columns": [[1, 0, 1.0]]}],
        [{"rows": [[1, 0, 1.0]], "columns": [[0, 0, 1.0]]}],
        [{"rows": [[2, 0, 1.0]], "columns": [[2, 0, 1.0]]}],
        [{"rows": [[1, 0, 1.0]], "columns": [[1, 0, 1.0]], "norm": 1e-9}],
        [{"rows": [[1, 0, 1.0]], "columns": [[1, 0, 1.0]]}] * 17,
    ],
    ids=str,
)
def test_matrices_that_are_none_are_refused(lie: Any, honest: tuple[Network, dict[str, Any]]) -> None:
    f, doc = honest
    changed = {**doc, "evidence": {**doc["evidence"], "kinks": lie}}
    with np.errstate(all="ignore"):
        assert not verify(resealed(changed), {"a": f}).valid


def test_larger_tails_are_refused(honest: tuple[Network, dict[str, Any]]) -> None:
    f, doc = honest
    curve = decode(doc["claim"]["lower_curve"])
    for factor in (1 + 1e-4, 1.5):  # what another machine may round is taken off, 1e-7 here
        for size in np.flatnonzero(curve):
            more = curve.copy()
            more[size] *= factor
            lie = {**doc, "claim": {**doc["claim"], "lower_curve": encode(more)}}
            assert not verify(resealed(lie), {"a": f}).valid
    low, high = doc["claim"]["eps"]
    lie = {**doc, "claim": {**doc["claim"], "eps": [low, high * (1 + 1e-4)]}}
    assert not verify(resealed(lie), {"a": f}).valid


def test_weights_of_any_kind_stay_true(honest: tuple[Network, dict[str, Any]]) -> None:
    """Other weights prove other numbers, never more than the truth: dropping the best atom."""
    f, _ = honest
    rng = np.random.default_rng(4)
    own = quotient(f).network
    truth = min(distance(own, own.with_(outer=np.where(np.arange(4)[:, None] == i, 0.0, own.alpha))) for i in range(4))
    for _ in range(40):
        rows, columns = SMALL[int(rng.integers(len(SMALL)))]
        entry = prover.KinkMatrix(2, rows, columns, *(
            tuple((10.0 ** rng.uniform(-12, 12, len(side))).tolist()) for side in (rows, columns)
        )).document()  # fmt: skip
        assert kink_curve(GAUSS, raw_of(f), [kink_matrix(entry)])[3] <= truth


def test_other_kinds_of_networks_have_none() -> None:
    """tanh has no kink, a ramp two; beside a quadratic part degree 2 is free."""
    entry = [{"rows": [[1, 0, 1.0]], "columns": [[1, 0, 1.0]]}]
    quadratic = {"quadratic": np.eye(2)[None]}
    for activation, extra in (("tanh", {}), ("hardtanh", {}), ("relu2", {}), ("relu", quadratic)):
        f = Network([[1.0], [0.5]], np.eye(2), [0.1, -0.2], activation, **extra)
        doc = json.loads(json_text(analyze(f).certificate()))
        assert verify(doc, {"a": f}).valid
        assert "kinks" not in doc["evidence"]
        lie = {**doc, "evidence": {**doc["evidence"], "kinks": entry}}
        assert not verify(resealed(lie), {"a": f}).valid
