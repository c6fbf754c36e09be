"""exp and polynomials: derivatives, suprema on sets and in the mean, Hermite coefficients, boxes and forms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from flint import arb

from sparsemf.activations import get
from sparsemf.certificates.checker import entire
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.catalogue import CORES, image
from sparsemf.certificates.checker.derivatives import profile
from sparsemf.certificates.checker.dual_boxes import BoxDual
from sparsemf.certificates.checker.entire import homogeneity
from sparsemf.certificates.checker.hermite import coefficients
from sparsemf.certificates.convex import blasso_on_data
from sparsemf.certificates.convex.boxes import sup_over_boxes
from sparsemf.certificates.convex.data import DataObservation
from sparsemf.certificates.convex.growth import growth
from sparsemf.certificates.convex.observation import Atomic
from sparsemf.certificates.convex.population import PopulationObservation
from sparsemf.measures import Network

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

NAMES = ("exp", "quadratic", "cubic", "hermite(3)", "hermite(4)", "hermite(7)")
CORE_NAMES = ("exp", "power2", "power3", "power5", "power8")


@pytest.mark.parametrize("name", NAMES)
def test_derivatives(name: str) -> None:
    """Of the checker and of the solver, against differences of the package's σ′ and against each other."""
    found, z, h = profile(name), np.linspace(-3, 3, 301), 1e-5
    values, grows = found.at(z, 4), growth(get(name))
    assert grows is not None
    assert np.allclose(values[0], get(name).value(z), rtol=1e-13, atol=1e-12)
    assert np.allclose(values[1], get(name).derivative(z), rtol=1e-13, atol=1e-12)
    for k, (low, high) in enumerate(pairwise(values), start=1):
        slope = (low[2:] - low[:-2]) / (z[2:] - z[:-2])
        assert np.allclose(high[1:-1], slope, atol=5e-4 * np.max(np.abs(values[3])) + 1e-9), k
    bend = (get(name).derivative(z + h) - get(name).derivative(z - h)) / (2 * h)
    assert np.allclose(values[2], bend, rtol=1e-6, atol=1e-5)
    for k in (2, 3):
        assert np.allclose(grows.derivative(k, z), values[k], rtol=1e-12, atol=1e-10)
    for k in range(4):
        cells = values[k][:-1].reshape(-1, 30)
        low, high = z[:-1].reshape(-1, 30)[:, 0], z[:-1].reshape(-1, 30)[:, -1]
        most = np.max(np.abs(cells), axis=1)
        assert np.all(found.within(k, low, high) >= most * (1 - 1e-15))
        assert np.all(grows.on(k, low, high) >= most * (1 - 1e-12))


@pytest.mark.parametrize("core", CORE_NAMES)
def test_suprema_in_the_mean(core: str) -> None:
    """‖⟨v, x̃⟩^p σ^{(p)}‖ by quadrature in the plane of w and one more direction, over random v: bounded, and not by
    far for exp."""
    rng = np.random.default_rng(len(core))
    nodes, weight = np.polynomial.hermite_e.hermegauss(48)
    x = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    law = np.outer(weight, weight).ravel() / (2 * np.pi)
    for s, b in ((0.2, 0.0), (0.9, 0.7), (1.3, 0.4)):
        v = rng.standard_normal((200, 3))
        v[:2] = [[2 * s, 0, 1], [1, 0, 0]]
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        z = s * x[:, 0] + b
        along = np.concatenate([x, np.ones((len(x), 1))], axis=1) @ v.T
        for p in range(4):
            each = entire.at(core, z, 4)[p]
            truth = np.sqrt(np.max(law @ (along**p * each[:, None]) ** 2))
            bound = float(entire.mean(core, p, np.array([s]), np.array([b]))[0])
            assert truth <= bound * (1 + 1e-9)
            assert bound <= (2.5 if core == "exp" else 60.0) * truth + 1e-12
            if core in ("exp", "power2", "power3"):
                grows = growth(get({"exp": "exp", "power2": "quadratic", "power3": "cubic"}[core]))
                assert grows is not None
                assert truth <= float(grows.mean(p, np.array([s]), np.array([b]))[0]) * (1 + 1e-9)


@pytest.mark.parametrize("core", CORE_NAMES)
def test_coefficients_against_balls(core: str) -> None:
    """The float64 coefficients are within their error of the balls', which come from another recurrence."""
    rng = np.random.default_rng(1)
    s, b = 10.0 ** rng.uniform(-4, 0.6, 40), rng.uniform(-3, 3, 40) * (rng.random(40) < 0.8)
    found, error = entire.coefficients(core, s, b, 30)
    exact = Arithmetic(200)
    with exact.precision():
        truth, _ = coefficients(exact, CORES[core], exact.array(s), exact.array(b), 30)
        off = [sum(((arb(float(f)) - t) ** 2 for f, t in zip(x, y, strict=True)), arb(0)) for x, y in
               zip(found, truth, strict=True)]  # fmt: skip
        assert all(v.sqrt() <= arb(float(e)) for v, e in zip(off, error, strict=True))
    assert np.all(error <= 1e-13 * np.linalg.norm(found, axis=1) + 1e-140)


def test_homogeneity() -> None:
    degrees = {"relu": 1, "leaky_relu(0.1)": 1, "abs": 1, "linear": 1, "relu2": 2, "quadratic": 2, "cubic": 3}
    for name, degree in degrees.items():
        assert homogeneity(image(name)) == degree
        z = np.linspace(-2, 2, 9)
        assert np.allclose(get(name).value(1.7 * z), 1.7**degree * get(name).value(z))
    for name in ("hermite(2)", "hermite(3)", "exp", "tanh", "hardtanh", "elu", "softplus", "selu", "sigmoid"):
        assert homogeneity(image(name)) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("m", [1, 2])
def test_boxes_against_points(name: str, m: int) -> None:
    """Boxes of all sizes, of well and of badly scaled rows: no point is above the bound, which closes like ρ²."""
    rng = np.random.default_rng([m, *name.encode()])
    sigma, sphere = get(name), homogeneity(image(name)) > 0
    for scale in (np.ones(3), np.array([3.0, 1e-3, 1.0])):
        rows = scale * rng.standard_normal((15, 3))
        rows[:, 2] = 1.0
        d = 3 if sphere else 2
        dual = BoxDual(profile(name), rows, rng.standard_normal((15, m)), d, 1.0 if sphere else 1.3, 0.7,
                       np.ones(3) if sphere else np.array([2.0, 2.0, 1.0]), shell=sphere)  # fmt: skip
        centre = rng.uniform(-0.7, 0.7, (60, 3))
        if sphere:
            centre /= np.linalg.norm(centre, axis=1, keepdims=True)
        half = 10.0 ** rng.uniform(-7, -0.2, (60, 1)) * rng.uniform(0.2, 1, (60, 3))
        points = centre[:, None] + half[:, None] * rng.uniform(-1, 1, (60, 200, 3))
        points[:, :100] = centre[:, None] + half[:, None] * np.sign(rng.uniform(-1, 1, (60, 100, 3)))
        if sphere:
            inside = np.linalg.norm(points, axis=2) <= 1
        else:
            inside = (np.linalg.norm(points[..., :2], axis=2) <= 1.3) & (np.abs(points[..., 2]) <= 0.7)
        eta = sigma.value(points @ rows.T) @ dual.weights / 15
        most = np.max(np.where(inside, np.linalg.norm(eta, axis=2), 0.0), axis=1)
        boxes, size = np.stack([centre, half], axis=1), float(np.max(np.abs(eta)))
        for enough in (0.0, np.inf, float(np.median(most))):
            assert np.all(dual.bounds(boxes, enough) >= most * (1 - 1e-13) - 1e-14)
        rho = np.linalg.norm(half, axis=1)
        near = inside.all(axis=1) & (rho < 1e-3)
        bend = float(np.max(dual.most_on(centre, half)[0][near], initial=0.0))
        assert np.all((dual.bounds(boxes, 0.0) - most)[near] <= 3 * bend * rho[near] ** 2 + 1e-11 * size)


def test_quadratic_forms_are_exact() -> None:
    """One output: the bound of one box that holds the sphere is the spectral norm of the form."""
    rng = np.random.default_rng(3)
    rows, q = rng.standard_normal((20, 5)), rng.standard_normal((20, 1))
    dual = BoxDual(profile("quadratic"), rows, q, 5, 1.0, 0.0, np.ones(5), shell=True)
    truth = float(np.max(np.abs(np.linalg.eigvalsh((rows * q / 20).T @ rows))))
    assert truth <= dual.bounds(np.stack([np.zeros(5), np.ones(5)])[None], 0.0)[0] <= truth * (1 + 1e-12)


@pytest.mark.parametrize("name", ["exp", "cubic", "hermite(4)", "quadratic", "linear"])
def test_searches_of_the_solver(name: str) -> None:
    """sup‖η‖ by the solver's own boxes (and norms of forms) against many points, data and population."""
    rng = np.random.default_rng([7, *name.encode()])
    x, y = rng.standard_normal((15, 2)), rng.standard_normal((15, 2))
    limits = {} if get(name).homogeneous else {"radius": 0.9, "bias_radius": 0.5}
    target = Network(y[:3], x[:3] / 2, 0.3 * y[3:6, 0], "gelu" if name == "exp" else name)
    for observation in (
        DataObservation.of(x, y[:, :1], name, **limits),
        DataObservation.of(x, y, name, affine=name == "exp", **limits),
        PopulationObservation.of(target, name, **limits),
    ):
        space = observation.space
        points = space.sample(4000, rng)
        measure = Atomic(points[:2], 0.01 * np.ones((2, observation.m)))
        truth = float(np.max(np.linalg.norm(observation.jet(measure, points, 0).value, axis=1)))
        curvature = observation.curvature(measure)
        found = sup_over_boxes(space, curvature, points[:50], 1e-2, 3000)
        assert found.upper is not None
        assert truth <= found.upper * (1 + 1e-12)
        assert found.upper <= max(found.lower, truth) * 1.2
        assert truth <= curvature.everywhere + curvature.error
        if name == "linear" or (name == "quadratic" and observation.m == 1):
            assert curvature.everywhere <= found.upper * (1 + 1e-9)
        else:
            assert curvature.everywhere == np.inf


def test_nuclear_norms() -> None:
    """linear without biases: min ½tr(…)+ λ|ν| is the nuclear-norm program; on white data its optimum is the soft
    threshold of the singular values (Cai, Candès & Shen 2010, Theorem 2.1)."""
    rng = np.random.default_rng(0)
    x = np.linalg.qr(rng.standard_normal((40, 3)))[0] * np.sqrt(40)
    a = rng.standard_normal((3, 2))
    found = blasso_on_data(x, x @ a, 0.4, "linear", bias=False)
    s = np.linalg.svd(a)[1]
    kept = np.maximum(s - 0.4, 0.0)
    truth = 0.5 * np.sum((s - kept) ** 2) + 0.4 * np.sum(kept)
    assert abs(found.value - truth) <= 1e-9 * truth
    claim = found.certificate(tolerance=1e-8)["claim"]
    assert claim["dual_value"] <= truth <= claim["value"]
    assert claim["gap"] <= 1e-6 * truth
