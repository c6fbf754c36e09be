"""Certificates of depth: the checker's formulas against float64, the theory's examples, and lies."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
from flint import arb

from depth_cases import atoms, known_case
from sparsemf.activations import get
from sparsemf.certificates.checker.check import check
from sparsemf.certificates.checker.depth import singular_near
from sparsemf.certificates.checker.depth_cells import Box, Field, cells_of
from sparsemf.certificates.checker.depth_lines import k_rank
from sparsemf.certificates.checker.depth_moments import moments, precision
from sparsemf.certificates.checker.depth_power_sums import another_list
from sparsemf.certificates.checker.depth_rank import Atoms, full_by_matrix, full_by_structure, invertible_columns
from sparsemf.certificates.checker.depth_scales import alone, exists_near, line_of, unique_around
from sparsemf.certificates.checker.depth_shape import Shape, least_depth, rank_bound
from sparsemf.certificates.checker.depth_theorems import theorem
from sparsemf.certificates.checker.document import Refused, seal
from sparsemf.certificates.checker.raw import encode
from sparsemf.certificates.equivalence import raw_of
from sparsemf.exceptions import InputError
from sparsemf.identifiability.depths import Family, numeric_rank, power_sum_depths
from sparsemf.measures import Empirical, Gaussian, Network
from sparsemf.pipeline.depth import DepthReport, depth
from sparsemf.pipeline.verify import verify

NAMES = (
    "relu", "leaky_relu(0.2)", "abs", "relu2", "erf", "normal_cdf", "gelu", "tanh", "sigmoid", "softplus", "silu",
    "sin", "cos", "exp", "elu", "mish", "hardtanh", "quadratic", "cubic", "hermite(3)",
)  # fmt: skip


def certified(network: Network, **options: Any) -> tuple[DepthReport, dict[str, Any]]:
    """The report and its certificate, which must be valid."""
    report = depth(network, **options)
    document = json.loads(json.dumps(report.document()))
    found = verify(document, {"a": network})
    assert found.valid, found.reason
    return report, document


def one_gelu(length: float) -> Network:
    return Network([[1.0]], [[length, 0.0, 0.0]], None, "gelu")


@pytest.mark.parametrize("name", NAMES)
def test_moments_are_the_derivatives_of_the_mean(name: str) -> None:
    sigma, r, b, h = get(name), 0.9, 0.4, 1e-4
    with precision():
        g = [float(x.mid()) for x in moments(name, arb(r), arb(b), 6)]
    c = sigma.hermite(np.array([r]), np.array([b]), 6)[0]
    scaled = [math.sqrt(math.factorial(k)) * c[k] / r**k for k in range(7)]
    np.testing.assert_allclose(g, scaled, rtol=1e-9, atol=1e-11)

    def mean(t: float, at: float) -> float:
        return float(sigma.hermite(np.array([math.sqrt(t)]), np.array([at]), 0)[0, 0])

    t = r * r
    assert (mean(t, b + h) - mean(t, b - h)) / (2 * h) == pytest.approx(g[1], rel=1e-6, abs=1e-7)
    assert (mean(t + h, b) - mean(t - h, b)) / (2 * h) == pytest.approx(0.5 * g[2], rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("quadratic", "cubic", "hermite(3)")])
def test_counting_bounds_the_rank_and_parity_is_right(name: str) -> None:
    rng = np.random.default_rng(len(name))
    for _ in range(6):
        n, d, m = (int(v) for v in rng.integers([1, 1, 1], [5, 5, 3]))
        bias, free = bool(rng.integers(2)), int(rng.integers(-1, 2))
        f, shape = Family(get(name), n, d, m, bias, free), Shape(name, n, d, m, bias, free)
        assert f.target == shape.target
        parts = f.draw(rng)
        for k in range(1, 6):
            if name not in ("hardtanh",):  # its parity does not show in its cores
                assert f.degrees(k) == shape.degrees(k)
            assert set(f.degrees(k)) <= set(shape.degrees(k))
            if f.degrees(k):
                assert numeric_rank(f, *parts, k) <= rank_bound(shape, k)


def test_three_relu_atoms_lose_an_equation_at_depth_two() -> None:
    # as many equations as unknowns, but a quadric touches the sphere in all three atoms
    f, shape = Family(get("relu"), 3, 3, 1, False, -1), Shape("relu", 3, 3, 1, False, -1)
    assert rank_bound(shape, 2) == 8 < shape.target
    assert numeric_rank(f, *f.draw(np.random.default_rng(0)), 2) == 8
    assert least_depth(shape, shape.target) == 4


@pytest.mark.parametrize(("name", "n", "d", "m", "bias"), [
    ("tanh", 3, 3, 1, True), ("relu", 3, 4, 2, True), ("gelu", 4, 4, 1, False), ("exp", 3, 3, 1, True),
    ("erf", 5, 2, 1, False),
])  # fmt: skip
def test_ball_ranks_agree_with_float_ranks(name: str, n: int, d: int, m: int, bias: bool) -> None:
    f, shape = Family(get(name), n, d, m, bias, -1), Shape(name, n, d, m, bias, -1)
    alpha, w, b = f.draw(np.random.default_rng(n))
    with precision():
        found = Atoms.of(shape, alpha, w, b, 11)
        for k in range(1, 10 if name == "erf" else 6):
            full = numeric_rank(f, alpha, w, b, k) == f.target
            assert full_by_matrix(found, k) == full
            if full_by_structure(found, k):
                assert full


def test_singular_matrices_are_not_certified() -> None:
    with precision():
        rows = [[arb(1), arb(2)], [arb(2), arb(4)], [arb(-3), arb(-6)]]
        assert not invertible_columns(rows, 2)
        assert invertible_columns([*rows, [arb(1), arb(2.000001)]], 2)
    assert k_rank(np.array([[1.0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]])) == 2
    assert k_rank(np.array([[1.0, 0], [2.0, 0]])) == 1


@pytest.mark.parametrize("name", ["tanh", "gelu", "sigmoid", "elu", "relu"])
def test_cells_enclose_the_moments(name: str) -> None:
    rng, shape, box = np.random.default_rng(4), Shape(name, 1, 1, 1, True, -1), Box(1.0, 1.06, 0.1, 0.5)
    with precision():
        (cell,) = cells_of(shape, [box], 6)
        for _ in range(4):
            r, b = float(rng.uniform(1.0, 1.06)), float(rng.uniform(0.1, 0.5))
            exact = moments(name, arb(r), arb(b), 6)
            found = cell.at(arb(r), arb(b))
            wide = cell.at(*box.balls())
            for x, y, z in zip(exact, found, wide, strict=True):
                assert y.overlaps(x)
                assert z.contains(x)
                assert float(y.rad()) < 1e-9


@pytest.mark.parametrize("turn", [1, -1])
def test_a_hidden_solution_is_never_excluded(turn: int) -> None:
    shape, box = Shape("silu", 1, 1, 1, True, -1), Box(0.8, 4.0, -2.0, 2.0)
    with precision():
        g = moments("silu", arb(1.7), arb(0.3), 6)
        line = line_of(g, arb(1.7), [2, 3, 4, 5], turn)
        at = 0.3 * turn  # the turned atom is a solution of the turned equations
        keep = unique_around(shape, line, 1.7, at, 7)
        assert keep is not None
        field = Field(shape, box, 7)
        assert alone(shape, field, line, [keep])
        assert not alone(shape, field, line, [])
        assert not alone(shape, field, line, [Box(1.71, 1.8, -2.0, 2.0)])


def test_erf_with_biases_and_a_free_affine_part_has_a_second_solution() -> None:
    # with X = ρβ, Y = ρ²: X' = X/2 − 3Y/(2X), Y' = −(X² − 2Y − 3Y²/X²)/4 has the same T_2, T_3, T_4
    r, b = math.sqrt(0.5), 1.5
    x, y = math.sqrt(0.5) * 1.5, 0.5
    x2, y2 = x / 2 - 1.5 * y / x, -(x * x - 2 * y - 3 * y * y / (x * x)) / 4
    assert 0 < y2 < 1
    r2 = math.sqrt(0.5 * y2 / (1 - y2))
    b2 = x2 / math.sqrt(y2) * math.sqrt(0.5 + r2 * r2)
    shape = Shape("erf", 1, 1, 1, True, 1)
    with precision():
        line = line_of(moments("erf", arb(r), arb(b), 6), arb(r), [2, 3, 4], 1)
        box = exists_near(shape, line, r2, b2, 6)
        assert box is not None
        assert box.r_high < r
        assert exists_near(shape, line, r2 * 1.1, b2, 6) is None
    network = Network([[1.0, 2.0], [-1.0, 0.5]], [[r, 0.0], [0.3, 0.9]], [b, 0.2], "erf")
    report, _ = certified(network, free="affine", scales=(0.1, 3.0), shifts=4.0)
    assert report.found.generic == (4, 4)
    assert report.found.near == (5, 5)


def test_theorems_say_no_where_degrees_are_missing() -> None:
    def says(name: str, degrees: list[int], bias: bool = True, b: float = 0.3) -> bool:
        shape = Shape(name, 1, 1, 1, bias, -1)
        with precision():
            found = Atoms.of(shape, np.ones((1, 1)), np.array([[0.8]]), np.array([b * bias]), 8)
            return theorem(found, 0, degrees)

    assert says("relu", [2, 3])
    assert says("relu", [1, 2])
    assert not says("leaky_relu", [1, 2])
    assert not says("relu", [3, 4])
    assert says("relu", [3, 4, 5])
    assert not says("relu", [1], bias=False)  # T_1 alone: −α at −w is not the flip
    assert says("relu", [1, 2], bias=False)
    assert says("erf", [1, 3], bias=False)
    assert not says("erf", [2, 3, 4])
    assert says("erf", [2, 3, 4, 5])
    assert not says("exp", [1, 3], bias=False)
    assert says("exp", [1, 2], bias=False)
    assert not says("gelu", [1, 2, 3, 4])


def test_gelu_examples_of_the_theory() -> None:
    report, document = certified(one_gelu(3.0), free="offset")
    assert report.found.generic == report.found.pointwise == (2, 2)
    assert report.found.near == (4, 4)
    assert document["d_orb"]["other"][0]["r"] == pytest.approx(0.919218, abs=1e-6)
    report, document = certified(one_gelu(math.sqrt(2)), free="offset")
    assert report.found.generic == (2, 2)
    assert report.found.pointwise == (2, 4)  # the float is not √2: undecided between 2 and 4 …
    (singular,) = document["d_var"]["singular"]
    assert singular["depth"] == 3  # … but a point within 2e-13 has depth at least 4
    assert singular["within"] < 1e-12
    assert document["d_var"]["worst_case"]["lower"] == 4
    # without a second root in reach the answer is 2
    report, _ = certified(one_gelu(0.5), free="offset", scales=(0.1, 9.0))
    assert report.found.near == (2, 2)


def test_equal_weights_of_the_theory() -> None:
    w, degrees = np.array([-1.99, -0.69, 0.55, 1.90]), [1, 2, 4, 6]
    other = power_sum_depths(w, [*degrees, 8]).other
    assert other is not None
    box = another_list(w, other, degrees)
    eighth = sum((x**8 for x in box), arb(0))
    assert not eighth.contains(float(np.sum(w**8)))
    assert float(np.sum(w**8)) == pytest.approx(415.83, abs=5e-3)
    assert float(eighth.mid()) == pytest.approx(417.77, abs=5e-3)
    with pytest.raises(Refused, match="itself"):
        another_list(w, w, degrees)
    with pytest.raises(Refused, match="no exact solution"):
        another_list(w, other + 1e-3, degrees)


@pytest.mark.parametrize("number", range(24))
def test_known_answers(number: int) -> None:
    case = known_case(np.random.default_rng([7, number]))
    report, _ = certified(case.network, bias=case.bias, free=case.free)
    for truth, (low, high) in ((case.variety, report.found.generic), (case.orbit, report.found.near)):
        assert truth is not None
        assert low <= truth
        assert high is None or truth <= high, case.label
    assert report.meets, case.label


def test_other_solutions_of_single_atoms_are_refuted_by_the_mean() -> None:
    # the ratios c₁ : c₂ : c₃ of gelu have second solutions; only the sum in T_0 tells, so T_0 must be in the family
    network = atoms(np.random.default_rng(1), "gelu", 2, 3, 1, True, (1.8, 2.4))
    report, document = certified(network, free="none")
    assert report.found.near == (3, 3)
    assert document["evidence"]["others"]
    lie = copy.deepcopy(document)
    lie["evidence"]["others"] = []
    assert not verify({**lie, "seal": seal(lie)}, {"a": network}).valid
    lie = copy.deepcopy(document)
    lie["family"]["free"] = 0
    assert not verify({**lie, "seal": seal(lie)}, {"a": network}).valid


LIES: list[tuple[str, Any]] = [
    ("variety.generic", [3, 3]), ("variety.generic", [1, 1]), ("variety.pointwise", [1, 1]), ("orbit.near", [5, 5]),
    ("orbit.near", [2, 2]), ("orbit.near", [4, 3]), ("orbit.pointwise", [5, 5]), ("orbit.box", [2.0, 12.0, 1.0]),
    ("orbit.box", [3.5, 12.0, 0.0]), ("orbit.box", [0.0, 12.0, 0.0]),
    ("variety.singular", [{"depth": 3, "atom": 0, "within": 1e-3}]),
    ("variety.generic", [2.0, 2]), ("orbit.near", None),
]  # fmt: skip


@pytest.fixture(scope="module")
def honest() -> tuple[Network, dict[str, Any]]:
    network = one_gelu(3.0)
    return network, certified(network, free="offset")[1]


@pytest.mark.parametrize(("where", "value"), LIES)
def test_lies_about_the_claim_are_refused(honest: tuple[Network, dict[str, Any]], where: str, value: Any) -> None:
    network, document = honest
    lie = copy.deepcopy(document)
    outer, inner = where.split(".")
    lie["claim"][outer][inner] = value
    if where == "orbit.near" and isinstance(value, list):
        lie["claim"]["orbit"]["pointwise"][1] = value[1]
    assert not verify(lie, {"a": network}).valid  # the seal
    found = verify({**lie, "seal": seal(lie)}, {"a": network})
    assert not found.valid, (where, value)


@pytest.mark.parametrize(("entry", "value"), [
    ("r", 1.0), ("r", 3.0), ("b", 0.1), ("turn", -1), ("turn", 0), ("depth", 4), ("atom", 1), ("r", -0.9), ("r", "x"),
])  # fmt: skip
def test_lies_about_the_other_solution_are_refused(
    honest: tuple[Network, dict[str, Any]], entry: str, value: Any
) -> None:
    network, document = honest
    lie = copy.deepcopy(document)
    lie["evidence"]["collisions"][0][entry] = value
    assert not verify({**lie, "seal": seal(lie)}, {"a": network}).valid


def test_certificates_belong_to_their_network(honest: tuple[Network, dict[str, Any]]) -> None:
    network, document = honest
    assert not verify(document, {"a": one_gelu(3.0 + 1e-12)}).valid
    for change in ({"link": "none", "atoms_error": 0.0}, {"link": "distance", "atoms_error": 0.0}, {"link": "x"}):
        lie = {**copy.deepcopy(document), **change}
        assert not verify({**lie, "seal": seal(lie)}, {"a": network}).valid


def lied(document: dict[str, Any], network: Network, **changes: Any) -> bool:
    """Whether the checker believes the document with these top-level fields, sealed again."""
    body = {**copy.deepcopy(document), **changes}
    return verify({**body, "seal": seal(body)}, {"a": network}).valid


def test_laws_and_norms_that_are_not_gaussian_are_refused(honest: tuple[Network, dict[str, Any]]) -> None:
    network, document = honest
    assert lied(document, network)
    for law in ({"name": "uniform"}, {"name": "layernorm"}, {"name": "gaussian(mean, covariance)"}):
        assert not lied(document, network, law=law, link="none")
    moved = {"name": "gaussian", "mean": encode(np.ones(3)), "root": encode(np.ones(3))}
    assert not lied(document, network, law=moved)
    # in the sup norm on a tiny ball, distances are what f(0) says
    assert not lied(document, network, norm="sup", radius=1e-12)


@pytest.mark.parametrize(("where", "value"), [
    ("config.free", "affine"), ("config.bias", True), ("config.rho", "layernorm"),
    ("d_var.generic", {"lower": 2, "upper": 2, "certified": False}), ("d_var.pointwise.lower", 3),
    ("d_orb.near.lower", 9), ("d_orb.pointwise.upper", 2), ("d_var.worst_case.lower", 3),
    ("d_orb.worst_case.lower", 5), ("d_orb.worst_case.upper", 5), ("d_orb.scales", None), ("d_orb.other", []),
    ("d_var.singular", [{"depth": 3, "atom": 0, "within": 0.1}]),
])  # fmt: skip
def test_published_depths_are_those_of_the_claim(
    honest: tuple[Network, dict[str, Any]], where: str, value: Any
) -> None:
    network, document = honest
    lie = copy.deepcopy(document)
    *path, last = where.split(".")
    inner = lie
    for name in path:
        inner = inner[name]
    assert inner[last] != value
    inner[last] = value
    assert not lied(lie, network)


@pytest.mark.parametrize("name", ["elu(0)", "leaky_relu(1)"])
def test_activations_of_which_a_term_vanishes_are_refused(name: str) -> None:
    # elu(0) is relu: counted without the scaling in its orbit, one atom would have D_var ≥ 2 in place of 1
    with pytest.raises(Refused, match="in disguise"):
        Shape(name, 1, 1, 1, True, -1)


def test_polynomial_atoms_belong_to_their_family() -> None:
    network = Network([[1.0], [0.5]], [[1.0, 0.2, 0.0], [0.1, 1.0, 0.0]], [0.3, -0.2], "quadratic")
    _, document = certified(network, bias=True, free="none")
    assert not lied(document, network, family={**document["family"], "bias": False})


@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_rounded_coefficients_are_not_the_network_s(scale: float) -> None:
    # Σ α = 0, so all three may be turned; 0.1·(1, 2, −3) as rounded has another sum
    network = Network([[1.0], [2.0], [-3.0]], np.eye(3), [0.1, 0.2, 0.3], "sigmoid", scale=scale)
    report, document = certified(network, free="none")
    assert document["link"] == "exact"
    assert report.found.near == (3, None)
    if scale == 0.1:
        rounded = {**document["evidence"], "alpha": encode(network.alpha)}
        assert not lied(document, network, evidence=rounded)


def test_singular_points_are_within_what_is_said() -> None:
    shape = Shape("gelu", 1, 1, 1, False, 0)
    # the float below √2: 1 + within must not be rounded up to reach it
    below = 1.414213562373095
    with precision():
        needed = float((arb(2).sqrt() / arb(below) - 1).mid())
        assert 0 < needed < 3e-16
        found = Atoms.of(shape, np.ones((1, 1)), np.array([[below]]), np.zeros(1), 6)
        assert singular_near(found, 3, 0, 1.01 * needed)
        assert not singular_near(found, 3, 0, 0.99 * needed)


def test_merged_neurons_are_linked_by_a_distance() -> None:
    rng = np.random.default_rng(3)
    w, b = rng.standard_normal((2, 3)), rng.standard_normal(2)
    network = Network(rng.standard_normal((5, 1)), w[[0, 0, 1, 1, 1]], b[[0, 0, 1, 1, 1]], "tanh", scale=0.2)
    report, document = certified(network)
    assert report.family.atoms == 2
    assert document["link"] == "distance"
    assert document["atoms_error"] < 1e-12
    lie = {**copy.deepcopy(document), "atoms_error": 1e-30}
    assert not verify({**lie, "seal": seal(lie)}, {"a": network}).valid


def test_whitened_laws_and_outputs_and_constants() -> None:
    rng = np.random.default_rng(5)
    base = atoms(rng, "relu", 3, 4, 2, True)
    law = Gaussian.layernorm(rng.uniform(0.5, 2.0, 4), rng.standard_normal(4))
    report = depth(base, law, "layernorm", free="affine")
    assert report.found.generic == report.found.near == (3, 3)
    assert report.link == "none"
    found = check(json.loads(json.dumps(report.document())), {"a": raw_of(base)})
    assert found.valid, found.reason
    assert "atoms are the network's beside it not checked" in found.reason
    assert report.meets
    extra = Network(
        np.concatenate([base.alpha, np.ones((1, 2)), np.zeros((1, 2))]),
        np.concatenate([base.inner, np.zeros((1, 4)), np.ones((1, 4))]), np.append(base.bias, [0.7, 0.1]), "relu",
    )  # fmt: skip
    report, document = certified(extra, free="affine")
    assert document["link"] == "exact"
    assert report.family.atoms == 3


def test_bad_input_is_one_line() -> None:
    network = one_gelu(1.0)
    gated = Network([[1.0]], [[1.0]], None, "gelu", gate=[[1.0]])
    biased = Network([[1.0]], [[1.0]], [0.5], "gelu")
    shifted = Network([[1.0]], [[1.0]], None, "gelu", affine=[[1.0]])
    for call in (
        lambda: depth(network, Empirical.of(np.zeros((3, 3)), "empirical")),
        lambda: depth(gated),
        lambda: depth(biased, bias=False),
        lambda: depth(shifted, free="offset"),
        lambda: depth(network, free="x"),
        lambda: depth(network, scales=(2.0, 1.0)),
        lambda: depth(network, shifts=-1.0, bias=True),
        lambda: depth(Network(np.zeros((0, 1)), np.zeros((0, 2)), None, "relu", affine=[[1.0, 2.0]])),
        lambda: depth(Network([[1.0]], [[1.0]], None, "linear"), free="affine"),
    ):
        with pytest.raises(InputError, match="expected") as error:
            call()
        assert "\n" not in str(error.value)
