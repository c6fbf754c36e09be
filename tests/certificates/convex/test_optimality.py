"""Certificates of optimality: the checker's bounds on boxes and cones against points, and honest documents."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from flint import arb, arb_series, ctx

import sparsemf
from certificates.convex.programs import CASES, solved
from sparsemf.activations import get
from sparsemf.certificates.checker import optimality, tree
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.derivatives import NAMES, profile, suprema
from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.dual_boxes import BoxDual
from sparsemf.certificates.checker.dual_cones import ConeDual, least_norm
from sparsemf.certificates.checker.taylor import largest_eigenvalue
from sparsemf.certificates.convex import Effort, blasso_on_data
from sparsemf.exceptions import InputError

# --- derivatives --------------------------------------------------------------------------------------------------

_SERIES = {
    "tanh": lambda z: (z * 2).exp().__sub__(1) / ((z * 2).exp() + 1),
    "erf": lambda z: z.erf(),
    "arctan": lambda z: z.atan(),
    "gelu": lambda z: z * (-z / arb(2).sqrt()).erfc() / 2,
    "softplus": lambda z: (z.exp() + 1).log(),
    "silu": lambda z: z / ((-z).exp() + 1),
    "gelu_tanh": lambda z: z / ((-(z + z * z * z * arb("0.044715")) * (8 / arb.pi()).sqrt()).exp() + 1),
    "mish": lambda z: z - z * 2 / ((z.exp() + 1) * (z.exp() + 1) + 1),
    "sin": lambda z: z.sin(),
    "cos": lambda z: z.cos(),
}


def _taylor(core: str, z: float) -> list[float]:
    """σ, σ′, …, σ⁗ at z by power series in ball arithmetic."""
    before, ctx.cap = ctx.cap, 5
    try:
        series = _SERIES[core](arb_series([arb(z), arb(1)]))
        return [float(series[k].mid()) * f for k, f in enumerate((1, 1, 2, 6, 24))]
    finally:
        ctx.cap = before


@pytest.mark.parametrize("core", NAMES)
def test_derivatives(core: str) -> None:
    grid = np.linspace(-9, 9, 721)
    with Arithmetic(160).precision():
        truth = np.array([_taylor(core, z) for z in grid.tolist()]).T
    for k, found in enumerate(profile(core).at(grid, 4)):
        assert np.max(np.abs(found - truth[k])) < 1e-14
    for k, bound in enumerate(suprema(core), start=1):
        most = float(np.max(np.abs(truth[k])))
        assert most <= bound <= 1.07 * most + 1e-3, k


@pytest.mark.parametrize(
    ("name", "parity"),
    [("tanh", -1), ("erf", -1), ("sin", -1), ("cos", 1), ("sigmoid", 0), ("normal_cdf", 0), ("quick_gelu", 0)],
)
def test_images(name: str, parity: int) -> None:
    found, z = profile(name), np.linspace(-5, 5, 101)
    assert found.parity == parity
    assert np.max(np.abs(found.at(z, 1)[0] - get(name).value(z))) < 1e-15 * 8
    if parity:
        assert np.array_equal(found.at(z, 1)[0], parity * found.at(-z, 1)[0])
    assert abs(found.at(np.zeros(1), 1)[0][0]) <= found.sup[0]


@pytest.mark.parametrize("name", ["hermite(9)", "linear", "no_such", "leaky_relu(0.1)", "abs"])
def test_what_has_no_profile(name: str) -> None:
    with pytest.raises(KeyError):
        profile(name)


# --- bounds of parts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_eigenvalues_with_any_lapack(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(dim)
    form = rng.standard_normal((200, dim, dim)) * 10.0 ** rng.uniform(-8, 8, (200, 1, 1))
    form = form + form.transpose(0, 2, 1)
    form[::3] = -form[::3] @ form[::3]
    truth = np.linalg.eigvalsh(form)[:, -1]
    size = np.linalg.norm(form, axis=(1, 2))
    found = largest_eigenvalue(form)
    assert np.all(found >= truth)
    assert np.all(found <= truth + 1e-11 * size)
    honest = np.linalg.eigh
    for lie in (1.0, 1e-3, 1e-7, np.nan):
        monkeypatch.setattr(
            np.linalg, "eigh", lambda x, e=lie: (honest(x)[0] - 1.0, honest(x)[1] + e * rng.standard_normal(x.shape))
        )
        assert np.all(largest_eigenvalue(form) >= truth - 1e-14 * size)


def _box_dual(rng: np.random.Generator, name: str, d: int, m: int, bias: bool) -> BoxDual:
    rows = rng.standard_normal((12, d))
    rows = np.concatenate([rows, np.ones((12, 1))], axis=1) if bias else rows
    return BoxDual(profile(name), rows, rng.standard_normal((12, m)), d, 1.3, 0.7, np.array([2.0] * d + [1.0] * bias))


@pytest.mark.parametrize("name", [*NAMES, "sigmoid", "quick_gelu"])
@pytest.mark.parametrize("m", [1, 2])
def test_boxes_against_points(name: str, m: int) -> None:
    """Random boxes of all sizes, near the rim too, third derivatives looked at or not; and the bound closes like
    ρ³."""
    rng = np.random.default_rng([m, *name.encode()])
    for bias in (False, True):
        dual = _box_dual(rng, name, 2, m, bias)
        centre = rng.uniform(-1, 1, (60, dual.dim)) * dual.half
        centre[::2, :2] *= 1.3 / np.linalg.norm(centre[::2, :2], axis=1, keepdims=True)
        if bias:
            centre[::4, 2] = 0.7 * np.sign(centre[::4, 2])
        half = 10.0 ** rng.uniform(-6, 0, (60, 1)) * rng.uniform(0.2, 1, (60, dual.dim))
        boxes = np.stack([centre, half], axis=1)
        points = centre[:, None] + half[:, None] * rng.uniform(-1, 1, (60, 400, dual.dim))
        points[:, :200] = centre[:, None] + half[:, None] * np.sign(rng.uniform(-1, 1, (60, 200, dual.dim)))
        inside = np.linalg.norm(points[..., :2], axis=2) <= 1.3
        if bias:
            inside &= np.abs(points[..., 2]) <= 0.7
        sigma = get(name)
        eta = sigma.value(points @ dual.rows.T) @ dual.weights / 12
        most = np.max(np.where(inside, np.linalg.norm(eta, axis=2), 0.0), axis=1)
        rho = np.linalg.norm(half, axis=1)
        with np.errstate(all="raise", under="ignore"):
            for enough in (0.0, np.inf, float(np.median(most))):
                assert np.all(dual.bounds(boxes, enough) >= most - 1e-15)
        small = (rho < 1e-2) & (most > 0)
        interior = small & inside.all(axis=1)
        # a linear function is met in the corners
        assert np.all(dual.bounds(boxes, 0.0)[interior] <= most[interior] + 20 * rho[interior] ** 2 + 1e-10)


@pytest.mark.parametrize("m", [1, 3])
def test_cones_against_points(m: int) -> None:
    rng = np.random.default_rng(m)
    for dim in (1, 2, 3, 4):
        rows, jumps = rng.standard_normal((9, dim)), rng.standard_normal((9, m))
        dual = ConeDual(rows, jumps, 0.3 * rng.standard_normal((m, dim)))
        cones = tree.root_cones(dim)
        for _ in range(0 if dim == 1 else 8):
            t = rng.exponential(size=(cones.shape[0], 200, dim))
            t[:, :100] *= rng.random((cones.shape[0], 100, dim)) < 0.5
            t[:, :dim] = np.eye(dim)
            u = t @ cones
            size = np.linalg.norm(u, axis=2)
            eta = np.maximum(u @ rows.T, 0.0) @ jumps + u @ dual.linear.T
            most = np.max(np.linalg.norm(eta, axis=2) / np.where(size > 0, size, np.inf), axis=1)
            found = dual.bounds(cones)
            assert np.all(found >= most * (1 - 1e-14))
            cones = tree.cut_cones(cones)
            cones = cones[rng.permutation(cones.shape[0])[:200]]


def test_least_norm_with_any_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    """w must obey, whatever ``solve`` returns."""
    cones = np.array([np.eye(3)] * 3)
    height = np.array([[1.0, 2.0, 2.0], [1.0, -5.0, 0.0], [-1.0, -1.0, -1.0]])
    assert np.allclose(least_norm(cones, height), [3, 1, 0], rtol=1e-12)
    monkeypatch.setattr(np.linalg, "solve", lambda a, b: np.zeros_like(b))
    assert np.all(least_norm(cones, height) >= [3, 1, 0])


# --- trees --------------------------------------------------------------------------------------------------------


def _random_bits(roots: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    bits, level = [], roots
    for depth in range(12):
        split = rng.random(level) < (0.7 if depth < 11 else 0.0)
        bits.append(split)
        level = 2 * int(split.sum())
    return np.concatenate(bits)


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_leaves_of_any_tree_cover(dim: int) -> None:
    rng = np.random.default_rng(dim)
    cones, box = tree.root_cones(dim), tree.root_boxes(np.array([1.3] + [0.5] * (dim - 1)), dim == 3)
    assert np.array_equal(box[0, 0] + box[0, 1], [2.0] + [0.5] * (dim - 1))
    parts = np.concatenate(list(tree.leaves(cones, _random_bits(2**dim, rng), tree.cut_cones)))
    # the cross-polytope has volume 2^D/D!; cones meet in faces only
    assert np.sum(np.abs(np.linalg.det(parts))) == pytest.approx(2.0**dim, rel=1e-12)
    boxes = np.concatenate(list(tree.leaves(box, _random_bits(1, rng), tree.cut_boxes)))
    assert np.sum(np.prod(2 * boxes[:, 1], axis=1)) == np.prod(2 * box[0, 1])
    u = rng.standard_normal((50, dim))
    u /= np.sum(np.abs(u), axis=1, keepdims=True)
    t = np.linalg.solve(parts.transpose(0, 2, 1)[:, None], u[None, :, :, None])[..., 0]
    assert np.all(np.any(np.all(t >= -1e-12, axis=2), axis=0))


def test_trees_that_are_no_trees() -> None:
    rng = np.random.default_rng(0)
    bits = _random_bits(8, rng)
    for wrong in (bits[:-1], bits[:0], np.append(bits, False), np.append(bits, True), ~bits):
        with pytest.raises(Refused):
            list(tree.leaves(tree.root_cones(3), wrong, tree.cut_cones))
    assert np.array_equal(tree.bits_of(tree.packed(bits)), bits)
    entry = tree.packed(bits)
    for change in ({"nodes": bits.size + 8}, {"nodes": 0}, {"nodes": True}, {"nodes": bits.size - 9}, {"base64": ""}):
        with pytest.raises(Refused):
            tree.bits_of({**entry, **change})


def _descend(nodes: Any, cut: Any) -> None:
    for _ in range(80):
        nodes = cut(nodes)[1:]


def test_halves_are_exact_or_refused() -> None:
    node = tree.root_boxes(np.array([1.0]), False)
    with pytest.raises(Refused, match="deeper"):
        _descend(node, tree.cut_boxes)
    with pytest.raises(Refused, match="deeper"):
        _descend(tree.root_cones(2)[:1], tree.cut_cones)
    with pytest.raises(Refused, match="ray"):
        tree.cut_cones(tree.root_cones(1))
    for x in (1.0, 1.5, 0.3, 2.0**-40, 1e30):
        assert x <= tree.power_of_two(x) < 2 * x


# --- documents ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_honest_certificates(name: str) -> None:
    """Valid, after a round trip through JSON; the checker's numbers are the search's."""
    result, doc = solved(name)
    found = sparsemf.verify(json.loads(json.dumps(doc)))
    assert found.valid, found.reason
    claim = doc["claim"]
    assert result.gap is not None
    assert result.supremum.upper is not None
    assert claim["atoms"] == result.size
    assert claim["value"] == pytest.approx(result.value, rel=1e-9)
    assert claim["gap"] <= 1.2 * result.gap + 1e-9 * result.value
    assert claim["sup"] <= max(1.0, result.supremum.upper) * (1 + 2e-9)
    assert claim["dual_value"] <= result.value
    assert {"value", "dual_value", "gap", "sup_minus_1", "atoms"} == set(found.facts)


def test_data_by_reference() -> None:
    result, doc = solved("tanh d=2")
    named = result.certificate(data="folder/D.npz")
    x, y = result.observation.x, result.observation.raw  # type: ignore[attr-defined]
    assert named["inputs"]["data"]["path"] == "D.npz"
    assert named["data"] is None
    assert len(json.dumps(named)) < len(json.dumps(doc))
    both = np.concatenate([x, y], axis=1, dtype=np.float64)
    assert sparsemf.verify(named, data=both).valid
    assert not sparsemf.verify(named).valid
    assert not sparsemf.verify(named, data=both[::-1]).valid
    assert not sparsemf.verify(named, data=np.nextafter(both, np.inf)).valid
    assert not sparsemf.verify(named, data=both[:, :2]).valid


def test_what_has_no_certificate() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 2)), rng.standard_normal(20)
    wide = blasso_on_data(rng.standard_normal((20, 8)), y, 1.0, "tanh", bias=False, radius=1.0)
    with pytest.raises(InputError, match="the effective dimension 8 is above 6"):
        wide.certificate()
    with pytest.raises(InputError, match="was not bounded"):
        blasso_on_data(x, y, 0.3, bias=False, effort=Effort(regions=0)).certificate()


def test_dependent_columns() -> None:
    """A free affine part where columns are combinations of others, exactly or to rounding."""
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((15, 2)), rng.standard_normal(15)
    plain = blasso_on_data(x, y, 0.05, bias=False, affine=True).certificate()
    exact = blasso_on_data(np.concatenate([x, 0.5 * x[:, :1]], axis=1), y, 0.05, bias=False, affine=True)
    assert sparsemf.verify(plain).valid
    found = exact.certificate()
    assert sparsemf.verify(found).valid
    assert found["claim"]["gap"] <= 1e-6 * found["claim"]["value"]
    # all directions of the float64 columns are free, also those that rounding made
    nearly = blasso_on_data(np.concatenate([x, x @ [[0.3], [0.7]]], axis=1), y, 0.05, bias=False, affine=True)
    assert nearly.gap is not None
    weaker = nearly.certificate()
    assert sparsemf.verify(weaker).valid
    assert nearly.gap < weaker["claim"]["gap"] < nearly.value


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_units(scale: float) -> None:
    """Very large and very small data: valid, or refused, never wrong."""
    _, doc = solved("relu d=2")
    x = optimality.program_of(doc, None).x
    y = np.maximum(x[:, :1], 0) * scale
    found = blasso_on_data(x, y, 0.1 * scale, bias=False, effort=Effort(regions=5000))
    assert sparsemf.verify(found.certificate()).valid
