"""Certificates of optimality under a Gaussian law: η of a polynomial on boxes, honest documents, and changed ones."""

from __future__ import annotations

import json
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

import sparsemf
from certificates.claims import put
from sparsemf.activations import get
from sparsemf.certificates.checker import population, tree
from sparsemf.certificates.checker.document import seal
from sparsemf.certificates.checker.dual_series import SeriesDual, moduli, neuron_coefficients
from sparsemf.certificates.checker.raw import Raw, decode, encode
from sparsemf.certificates.convex import BlassoResult, Effort, blasso_on_data, blasso_on_network
from sparsemf.exceptions import InputError
from sparsemf.measures import Gaussian, Network

Array = np.ndarray[Any, np.dtype[np.float64]]
Document = dict[str, Any]

DEGREE = 12
SPHERE = ("relu", "relu2", "leaky_relu(0.1)", "abs", "linear", "quadratic", "cubic")
GROWING = ("exp", "hermite(3)", "hermite(6)")


def _eta(name: str, y: Array, g: Array, w: Array, b: Array) -> Array:
    """Σ_k c_k(|w|, b) Σ_j g_jk cos^k with the package's own coefficients."""
    s = np.linalg.norm(w, axis=1)
    c = get(name).hermite(s, b, g.shape[0] - 1)
    power = ((w / s[:, None]) @ y.T)[None] ** np.arange(g.shape[0])[:, None, None]
    return np.asarray(np.einsum("nk,knj,kjm->nm", c, power, g))


def _dual(rng: np.random.Generator, name: str, m: int, bias: bool, even: bool) -> SeriesDual:
    y = rng.standard_normal((4, 2))
    y /= np.linalg.norm(y, axis=1, keepdims=True) * (1 + 1e-9)
    g = rng.standard_normal((DEGREE + 1, 4, m)) * 0.6 ** np.arange(DEGREE + 1)[:, None, None]
    gram = y @ y.T
    sizes = np.sqrt([np.sum((g[k] @ g[k].T) * gram**k) for k in range(DEGREE + 1)]) * (1 + 1e-12)
    y = np.concatenate([y, np.zeros((4, 1))], axis=1) if even else y
    shell = name in SPHERE
    limits = (1.0, 1.0) if shell else (1.3, 0.7)
    return SeriesDual(name, y, g, sizes, y.shape[1], bias, *limits, shell, even)


@pytest.mark.parametrize(
    "name", [*SPHERE, "tanh", "gelu", "mish", "sigmoid", "sin", "cos", "elu", "hardtanh", *GROWING]
)
@pytest.mark.parametrize(("m", "bias", "even"), [(1, True, False), (2, False, True)])
def test_boxes_against_points(name: str, m: int, bias: bool, even: bool) -> None:
    """Boxes of all sizes: no point of Θ in them is above the bound, which closes like ρ² where σ is not too rough."""
    rng = np.random.default_rng([m, *name.encode()])
    dual = _dual(rng, name, m, bias, even)
    dim, d = dual.region.dim, dual.d
    centre = rng.uniform(-1, 1, (50, dim))
    if dual.shell:
        centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    centre[:3, :d] *= 1e-7  # w nearly 0
    half = 10.0 ** rng.uniform(-6, -0.3, (50, 1)) * rng.uniform(0.2, 1, (50, dim))
    points = centre[:, None] + half[:, None] * rng.uniform(-1, 1, (50, 60, dim))
    corners = np.array(list(product((-1.0, 1.0), repeat=dim)))
    points[:, : len(corners)] = centre[:, None] + half[:, None] * corners
    flat = points.reshape(-1, dim)
    eta = np.linalg.norm(
        _eta(name, dual.directions, dual.weights, flat[:, :d], flat[:, d] if bias else 0 * flat[:, 0]), axis=1
    ).reshape(points.shape[:2])
    if dual.shell:
        inside = np.linalg.norm(points, axis=2) <= 1
    else:
        inside = np.linalg.norm(points[..., :d], axis=2) <= 1.3
        inside &= np.abs(points[..., d]) <= 0.7 if bias else True
    most = np.max(np.where(inside, eta, 0.0), axis=1)
    boxes = np.stack([centre, half], axis=1)
    meets = dual.region.meets(boxes)
    for enough in (0.0, np.inf, float(np.median(most))):
        found = dual.bounds(boxes, enough)
        assert np.all(found[meets] >= most[meets] * (1 - 1e-12) - 1e-12)
    rho = np.linalg.norm(half, axis=1)
    small = meets & (rho < 1e-3) & inside.all(axis=1) & (np.linalg.norm(centre[:, :d], axis=1) > 0.3)
    n2 = np.minimum(dual.on_boxes(boxes)[0], 1e6)
    assert np.all((dual.bounds(boxes, 0.0) - most)[small] <= (2 * n2 + 100)[small] * rho[small] ** 2 + 1e-9)


@pytest.mark.parametrize("name", [*SPHERE, "tanh", "elu", "sigmoid", "hardtanh", *GROWING])
def test_curvature_on_boxes(name: str) -> None:
    """D²η and differences of it along random lines against N₂, N₃."""
    rng = np.random.default_rng([7, *name.encode()])
    dual = _dual(rng, name, 2, True, False)
    centre = rng.uniform(-1, 1, (200, 3))
    v = rng.standard_normal((200, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    step = 1e-4
    parts = [dual.tensors(centre + t * v) for t in (-step, step)]
    bend = [np.linalg.norm(np.einsum("nmde,nd,ne->nm", p[2], v, v), axis=1) for p in parts]
    third = np.linalg.norm(np.einsum("nmde,nd,ne->nm", parts[1][2] - parts[0][2], v, v), axis=1) / (2 * step)
    n2, n3 = dual.on_boxes(np.stack([centre, np.full(centre.shape, 2 * step)], axis=1))
    assert np.all(bend[0] <= n2 * (1 + 1e-9) + 1e-9)
    assert np.all(third <= n3 * (1 + 1e-6) + 1e-5)
    slope = np.linalg.norm(np.einsum("nmd,nd->nm", parts[0][1], v), axis=1)
    assert np.all(slope <= dual.steepest(np.stack([centre, np.full(centre.shape, 2 * step)], axis=1)) + 1e-9)


def test_softsign_on_boxes() -> None:
    """Whose coefficients are integrals in balls: a few boxes, across the jump of σ″ too."""
    rng = np.random.default_rng(3)
    dual = _dual(rng, "softsign", 1, True, False)
    centre = rng.uniform(-0.6, 0.6, (12, 3))
    centre[:4, 2] = 0.0
    half = 10.0 ** rng.uniform(-4, -0.5, (12, 1)) * rng.uniform(0.2, 1, (12, 3))
    points = centre[:, None] + half[:, None] * rng.uniform(-1, 1, (12, 40, 3))
    flat = points.reshape(-1, 3)
    eta = np.abs(_eta("softsign", dual.directions, dual.weights, flat[:, :2], flat[:, 2])).reshape(12, 40)
    found = dual.bounds(np.stack([centre, half], axis=1), 0.0)
    assert np.all(found >= np.max(eta, axis=1) * (1 - 1e-12))
    rho = np.linalg.norm(half, axis=1)
    assert np.all(found[rho < 1e-2] <= np.max(eta, axis=1)[rho < 1e-2] + 2 * dual.size * rho[rho < 1e-2])


def test_eta_is_the_mean_of_q_times_sigma() -> None:
    """Against Gauss–Hermite quadrature in the plane: nothing but the definition."""
    rng = np.random.default_rng(2)
    y = rng.standard_normal((3, 2))
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    g = rng.standard_normal((6, 3, 1))
    nodes, weight = np.polynomial.hermite_e.hermegauss(60)
    x = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    law = np.outer(weight, weight).ravel() / (2 * np.pi)
    factor = np.sqrt([1, 1, 2, 6, 24, 120])
    q = sum(np.polynomial.hermite_e.hermeval(x @ y[j], g[:, j, 0] / factor) for j in range(3))
    dual = SeriesDual("tanh", y, g, np.full(6, 10.0), 2, True, 1.0, 1.0, False, False)
    theta = rng.uniform(-0.8, 0.8, (20, 3))
    truth = np.array([law @ (q * np.tanh(x @ t[:2] + t[2])) for t in theta])
    assert np.max(np.abs(dual.tensors(theta)[0][:, 0] - truth)) < 1e-9


@pytest.mark.parametrize(
    "name", [*SPHERE, "elu", "selu", "celu(0.5)", "gelu_tanh", "quick_gelu", "hard_sigmoid", *GROWING]
)
def test_coefficients(name: str) -> None:
    rng = np.random.default_rng(3)
    s, b = rng.uniform(0.05, 1.5, 15), rng.uniform(-2, 2, 15)
    found, error = neuron_coefficients(name, s, b, 20)
    assert np.max(np.abs(found - get(name).hermite(s, b, 20))) < 1e-9
    assert np.max(error) < 1e-9


@pytest.mark.parametrize("name", ["hermite(9)", "no_such", "linear_"])
def test_what_has_no_bound(name: str) -> None:
    with pytest.raises(KeyError):
        moduli(name)


# --- documents ----------------------------------------------------------------------------------------------------

CASES: dict[str, dict[str, Any]] = {
    "tanh, bias": {"activation": "tanh", "bias": True},
    "gelu d=5, two outputs": {"activation": "gelu", "d": 5, "m": 2},
    "mish, free affine part": {"activation": "mish", "affine": True},
    "sigmoid for tanh, N(m, Σ)": {"activation": "sigmoid", "target": "tanh", "law": True, "bias": True},
    "relu": {"activation": "relu", "degree": 32, "tolerance": 3e-2},
    "relu, bias": {"activation": "relu", "degree": 32, "tolerance": 5e-2, "bias": True},
    "relu2": {"activation": "relu2", "degree": 24, "tolerance": 3e-2},
    "exp, bias": {"activation": "exp", "bias": True, "tolerance": 1e-3, "iterations": 4},
    "quadratic d=9": {"activation": "quadratic", "d": 9, "width": 8},
    "cubic, bias, N(m, Σ)": {"activation": "cubic", "bias": True, "law": True},
    "hermite(4) for tanh": {"activation": "hermite(4)", "target": "gelu", "affine": True, "tolerance": 1e-3},
    "softsign": {"activation": "softsign", "width": 1, "tolerance": 0.2, "iterations": 2, "starts": 4},
    "linear, two outputs": {"activation": "linear", "m": 2, "bias": True},
    "tanh d=9": {"activation": "tanh", "d": 9, "width": 7, "iterations": 2},
}  # fmt: skip


@cache
def solved(name: str) -> tuple[BlassoResult, Document]:
    case = CASES[name]
    rng = np.random.default_rng([4, *name.encode()])
    d, m, bias, count = case.get("d", 2), case.get("m", 1), case.get("bias", False), case.get("width", 2)
    w = rng.standard_normal((count, d))
    w *= 0.8 / np.linalg.norm(w, axis=1, keepdims=True)
    law = Gaussian.of(0.3 * np.ones(d), 0.5 * np.eye(d) + 0.2) if case.get("law") else None
    target = Network(rng.standard_normal((count, m)), w, 0.4 * rng.standard_normal(count) * bias,
                     case.get("target", case["activation"]))  # fmt: skip
    options: dict[str, Any] = {"radius": 0.9, **({"bias_radius": 0.8} if bias else {})}
    options = {} if case["activation"] in SPHERE else options
    result = blasso_on_network(
        target, 0.02, case["activation"], bias=bias, affine=case.get("affine", False), law=law,
        effort=Effort(regions=0, starts=case.get("starts", 40), iterations=case.get("iterations", 10)), **options,
    )  # fmt: skip
    doc = result.certificate(tolerance=case.get("tolerance", 1e-4), degree=case.get("degree"))
    return result, json.loads(json.dumps(doc))


@pytest.mark.parametrize("name", CASES)
def test_honest_certificates(name: str) -> None:
    """Valid; the value is that of the closed forms, and η of the residual nowhere above the bound."""
    result, doc = solved(name)
    found = sparsemf.verify(doc)
    assert found.valid, found.reason
    claim, rng = doc["claim"], np.random.default_rng(0)
    rough = 2e-2 if "relu" in name else 2e-3 if "softsign" in name else 1e-6
    assert result.value * (1 - 1e-9) <= claim["value"] <= result.value * (1 + rough)
    assert 0 <= claim["dual_value"] <= result.value * (1 + 1e-12)
    eta = np.linalg.norm(result.eta(result.observation.space.sample(3000, rng)), axis=1)
    assert np.max(eta) <= claim["sup"] + rough
    if name == "tanh d=9":
        assert doc["evidence"]["tree"] is None
        assert claim["sup"] > 1.1
    else:
        assert claim["sup"] <= max(1.0, result.supremum.lower) * (1 + 1.1 * CASES[name].get("tolerance", 1e-4))
        assert claim["gap"] <= (6e-2 if "relu" in name else 2 * CASES[name].get("tolerance", 1e-4)) * claim["value"]


def test_no_measure_is_better_than_the_dual_value() -> None:
    """Weak duality against measures that know nothing of the certificate."""
    result, doc = solved("tanh, bias")
    rng, observation = np.random.default_rng(5), result.observation
    from sparsemf.certificates.convex.observation import Atomic
    from sparsemf.certificates.convex.sliding import refitted, value_of

    for _ in range(20):
        theta = observation.space.sample(6, rng)
        measure = refitted(observation, Atomic(theta, np.zeros((6, 1))), 0.02)
        assert value_of(observation, measure, 0.02) >= doc["claim"]["dual_value"]
    assert 0.5 * observation.square(Atomic.empty(3, 1)) >= doc["claim"]["dual_value"]


def test_what_is_not_certified() -> None:
    with pytest.raises(InputError, match="population target"):
        solved("relu")[0].certificate(data="D.npz")
    on_data = blasso_on_data([[1.0], [2.0]], [0.0, 1.0], 0.5, bias=False)
    with pytest.raises(InputError, match="degree"):
        on_data.certificate(degree=3)


def _sealed(doc: Document) -> Document:
    return {**doc, "seal": seal(doc)}


def _retarget(doc: Document, **changes: Any) -> Document:
    """Another target, its hash included."""
    entry = {**doc["target"], **changes}
    names = ("outer", "inner", "bias", "affine", "offset")
    raw = Raw.of({name: decode(entry[name]) for name in names}, entry["activation"], entry["scale"])
    about = {**doc["inputs"]["target"], "arrays_sha256": raw.sha256}
    return {**doc, "target": entry, "inputs": {"target": about}}


def _changes(doc: Document, rng: np.random.Generator) -> list[Document]:
    """Changes that each make the claim false, or its proof no proof."""
    claim, q = doc["claim"], doc["evidence"]["polynomial"]
    theta, alpha = decode(doc["measure"]["theta"]), decode(doc["measure"]["alpha"])
    weights, z = decode(q["weights"]), decode(q["directions"])
    bits = tree.bits_of(doc["evidence"]["tree"])
    at = ("evidence", "polynomial")
    out = [
        put(doc, ("claim", "value"), claim["value"] * (1 - 1e-6)),
        put(doc, ("claim", "dual_value"), claim["dual_value"] + 1.01 * claim["gap"]),
        put(doc, ("claim", "dual_value"), claim["dual_value"] * (1 + 1e-3)),
        put(doc, ("claim", "gap"), 0.9 * claim["gap"]),
        put(doc, ("claim", "sup"), 0.99),
        put(doc, ("claim", "atoms"), claim["atoms"] + 1),
        put(doc, ("program", "lam"), doc["program"]["lam"] * 1.01),
        put(doc, ("program", "lam"), doc["program"]["lam"] * 0.9),
        put(doc, ("program", "bias"), not doc["program"]["bias"]),
        put(doc, ("program", "affine"), not doc["program"]["affine"]),
        put(doc, ("program", "activation"), "softplus"),
        put(doc, ("program", "activation"), "no_such"),
        put(doc, ("measure", "alpha"), encode(alpha * 1.05)),
        put(doc, ("measure", "alpha"), encode(-alpha)),
        put(doc, ("measure", "theta"), encode(theta * 1.5)),
        put(doc, ("measure", "theta"), encode(theta[:, ::-1].copy())),
        put(doc, (*at, "weights"), encode(weights * 1.05)),
        put(doc, (*at, "weights"), encode(weights + 0.01 * rng.standard_normal(weights.shape))),
        put(doc, (*at, "weights"), encode(0 * weights)),
        put(doc, (*at, "directions"), encode(z * 1.001)),
        put(doc, (*at, "directions"), encode(-z[:, ::-1].copy())),
        put(doc, (*at, "coordinates"), encode(np.eye(theta.shape[1]) * 1.01)),
        put(doc, ("evidence", "tree"), tree.packed(bits[:-1])),
        put(doc, ("evidence", "tree"), tree.packed(np.zeros(1, dtype=bool))),
        put(doc, ("evidence", "tree"), None),
        put(doc, ("evidence", "distance", "degree"), 1000),
        put(doc, ("evidence",), {}),
        put(doc, ("law",), {"name": "empirical", "mean": None, "root": None}),
        put(doc, ("schema",), "sparsemf/optimality/1"),
        _retarget(doc, outer=encode(decode(doc["target"]["outer"]) * 1.02)),
        _retarget(doc, scale=2.0),
        _retarget(doc, inner=encode(decode(doc["target"]["inner"]) * 0.9)),
        {**doc, "target": {**doc["target"], "scale": 1.001}},
    ]  # fmt: skip
    split = np.flatnonzero(bits)
    for victim in rng.choice(split, 3):
        flipped = bits.copy()
        flipped[victim] = False
        out.append(put(doc, ("evidence", "tree"), tree.packed(flipped)))
    if doc["program"]["set"] == "ball":
        out.append(put(doc, ("program", "radius"), 5.0))
        out.append(put(doc, ("program", "radius"), 0.1))
    return out


@pytest.mark.parametrize(
    "name",
    [
        "tanh, bias",
        "mish, free affine part",
        "relu",
        "sigmoid for tanh, N(m, Σ)",
        "exp, bias",
        "cubic, bias, N(m, Σ)",
        "hermite(4) for tanh",
    ],
)
def test_changes(name: str) -> None:
    _, honest = solved(name)
    rng = np.random.default_rng(1)
    for i, doc in enumerate(_changes(honest, rng)):
        assert not sparsemf.verify(doc).valid
        found = sparsemf.verify(_sealed(doc))
        assert not found.valid, i
        assert "\n" not in found.reason
    other = put(honest, ("law",), {"name": "gaussian(mean, covariance)", "mean": encode(np.full(2, 0.2)),
                                   "root": encode(np.eye(2) * 1.1)})  # fmt: skip
    assert not sparsemf.verify(_sealed(other)).valid


def test_coordinates_that_stretch_or_hide() -> None:
    _, honest = solved("gelu d=5, two outputs")
    at = ("evidence", "polynomial", "coordinates")
    e = decode(honest["evidence"]["polynomial"]["coordinates"])
    assert e.shape[0] < 4
    for wrong in (encode(e * (1 + 1e-9)), encode(2 * e), encode(0.5 * e), encode(e[:1]), encode(e[:, :4]), None):
        assert not sparsemf.verify(_sealed(put(honest, at, wrong))).valid


def test_the_free_part_must_be_left_out() -> None:
    _, honest = solved("mish, free affine part")
    at = ("evidence", "polynomial", "weights")
    weights = decode(honest["evidence"]["polynomial"]["weights"]).copy()
    weights[1, 0, 0] = 1e-9
    found = sparsemf.verify(_sealed(put(honest, at, encode(weights))))
    assert not found.valid
    assert "free" in found.reason


def test_nothing_beside_it() -> None:
    result, honest = solved("tanh, bias")
    assert not sparsemf.verify(honest, {"a": result.network}).valid
    assert not sparsemf.verify(honest, data=np.zeros((2, 3))).valid
    assert population.target_of(honest)[0].b.size == 2


def test_coordinates_that_shorten_hide_no_derivative() -> None:
    """E = (0.1, 0): ‖T₃(q)‖ = 1, but η falls by its whole height where Ew moves by 0.1."""
    weights = np.zeros((4, 1, 1))
    weights[3] = 1000.0
    q = population.Polynomial(np.ones((1, 1)), weights, np.array([[0.1, 0.0]]))
    with population.BALLS.precision():
        raw = Raw.of({"outer": np.ones((1, 1)), "inner": np.eye(2)[:1]}, "tanh", 1.0)
        target = population.whitened(raw, population.WHITE)
        program = population.Population(target, "tanh", False, False, 0.1, 1.0, 0.0)
        dual = population.dual_of(program, q, population.energies(q))
    top = abs(_eta("tanh", np.eye(2)[:1], 1e-3 * weights, np.array([[0.9, 0.0]]), np.zeros(1)))[0, 0]
    box = np.array([[[0.05, 0.896], [0.04, 1e-3]]])
    assert np.all(np.abs([0.09, 0.9 * np.sqrt(0.99)] - box[0, 0]) <= box[0, 1])  # Ew and the rest at w = (0.9, 0)
    assert dual.bounds(box, 0.0)[0] >= top


def test_huge_slopes() -> None:
    """σ = −10⁶⁰ relu(−z), nearly, and q of length 10⁷⁰: N₂ > 10¹²⁰.  f* = |x₂| − E|x₂|; one box, in whose middle q is
    flat.  A measure that is a third of |x₂| is better than none."""
    inner, offset = np.array([[0.0, 1.0], [0.0, -1.0]]), np.array([-np.sqrt(2 / np.pi)])
    arrays = {
        "outer": np.ones((2, 1)),
        "inner": inner,
        "bias": np.zeros(2),
        "affine": np.zeros((1, 2)),
        "offset": offset,
    }
    weights = np.zeros((49, 1, 1))
    weights[2::2, 0] = 2e70 * neuron_coefficients("relu", np.ones(1), np.zeros(1), 48)[0].T[2::2]
    doc: Document = {
        "target": {**{k: encode(v) for k, v in arrays.items()}, "activation": "relu", "scale": 1.0},
        "inputs": {"target": {"arrays_sha256": Raw.of(arrays, "relu", 1.0).sha256, "d": 2, "m": 1}},
        "law": {"name": "gaussian", "mean": None, "root": None},
        "program": {"activation": "leaky_relu(1e60)", "bias": False, "affine": False, "lam": 1e56, "set": "sphere",
                    "radius": None, "bias_radius": None},
        "measure": {"theta": encode(inner), "alpha": encode(np.full((2, 1), -0.36e-60)), "affine": None,
                    "offset": None},
        "evidence": {
            "distance": {"leader": encode(np.array([0, 1, 2, 3], dtype=np.int32)),
                         "sign": encode(np.ones(4, dtype=np.int8)), "degree": 24},
            "polynomial": {"directions": encode(inner[:1]), "weights": encode(weights), "coordinates": None},
            "tree": tree.packed(np.zeros(1, dtype=bool)),
        },
    }  # fmt: skip
    better = (1 - 2 / np.pi) / np.pi  # ½‖(1 − t)|x₂| − E|x₂|‖² at t = 1 − 2/π, and 10⁻⁴ for the mass
    proved = population.prove(doc, 0.0)
    assert proved.dual_value <= better + 1e-4
    assert proved.dual_value <= proved.value <= better + 0.02
