"""Bounds of sup ‖η‖ over the continuous parameter set: never below what a dense grid or a random search finds."""

from __future__ import annotations

import numpy as np
import pytest

from sparsemf.activations import get
from sparsemf.certificates.convex import blasso_on_data
from sparsemf.certificates.convex.boxes import Boxes, box_bounds, first_boxes, sup_over_boxes
from sparsemf.certificates.convex.cones import PiecewiseLinearDual, _bound, _cone_maximum, sup_on_sphere
from sparsemf.certificates.convex.data import DataObservation
from sparsemf.certificates.convex.observation import Atomic
from sparsemf.certificates.convex.patterns import enumerate_patterns
from sparsemf.certificates.convex.polyhedral import bounded_sup, dual_function
from sparsemf.certificates.convex.population import PopulationObservation
from sparsemf.certificates.convex.result import Effort
from sparsemf.certificates.convex.smoothness import core_names, smoothness
from sparsemf.measures import Network


def random_dual(rng: np.random.Generator, n: int, dim: int, m: int = 1) -> PiecewiseLinearDual:
    return PiecewiseLinearDual(
        rng.standard_normal((n, dim)), rng.standard_normal((n, m)), 0.3 * rng.standard_normal((m, dim))
    )


@pytest.mark.parametrize("m", [1, 3])
def test_circle_against_a_dense_grid(m):
    rng = np.random.default_rng(m)
    angles = np.linspace(0, 2 * np.pi, 200_001)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for _ in range(8):
        dual = random_dual(rng, 25, 2, m)
        truth = float(np.max(np.linalg.norm(dual(circle), axis=1)))
        found = sup_on_sphere(dual, np.zeros((0, 2)), 1e-9, 50_000)
        assert found.upper is not None
        assert truth <= found.upper
        assert found.lower <= found.upper <= found.lower * (1 + 1e-8)
        # the grid misses the maximum by at most its spacing squared times the curvature, or the kink's slope
        assert found.upper <= truth * (1 + 1e-3)


def exact_sup(dual: PiecewiseLinearDual) -> float:
    """max |η| over the sphere of R³ by enumeration: vertices, arcs and cells of the arrangement (one output)."""
    rows, best = dual.rows, 0.0
    first, second = np.triu_indices(rows.shape[0], 1)
    rays = np.cross(rows[first], rows[second])
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    best = max(best, float(np.max(np.abs(dual(np.concatenate([rays, -rays]))))))
    for row in rows:  # on a wall η is linear between vertices: project the slope of either side on the wall
        wall = np.linalg.svd(row[None], full_matrices=True)[2][1:]
        cuts = np.sort(np.mod(np.arctan2(*(rays[np.abs(rays @ row) < 1e-9] @ wall.T).T[::-1]), np.pi))
        cuts = np.concatenate([cuts, cuts + np.pi])
        middle = 0.5 * (cuts + np.roll(cuts, -1) + np.where(np.arange(cuts.size) == cuts.size - 1, 2 * np.pi, 0))
        points = np.stack([np.cos(middle), np.sin(middle)], axis=1) @ wall
        for slope in dual.slope(points)[:, 0]:
            flat = wall.T @ (wall @ slope)
            if np.linalg.norm(flat) > 0:
                u = flat / np.linalg.norm(flat)
                best = max(best, *np.abs(dual(np.stack([u, -u])))[:, 0])
    for signs in enumerate_patterns(rows):
        slope = ((signs > 0) * dual.jumps[:, 0]) @ rows + dual.linear[0]
        u = slope / np.linalg.norm(slope)
        best = max(best, *np.abs(dual(np.stack([u, -u])))[:, 0])
    return best


def test_branch_and_bound_equals_the_enumeration_of_all_patterns():
    rng = np.random.default_rng(3)
    for _ in range(6):
        dual = random_dual(rng, 14, 3)
        truth = exact_sup(dual)
        found = sup_on_sphere(dual, np.zeros((0, 3)), 1e-9, 200_000)
        assert found.upper is not None
        assert truth <= found.upper
        assert found.upper == pytest.approx(truth, rel=1e-8)


@pytest.mark.parametrize(("dim", "m"), [(1, 1), (2, 1), (3, 2), (4, 1)])
def test_bound_of_one_cone_is_never_below_its_points(dim, m):
    rng = np.random.default_rng(dim)
    for _ in range(40):
        dual = random_dual(rng, 12, dim, m)
        vertices = rng.standard_normal((1, dim, dim))
        centre_ok = np.all(vertices[0] @ vertices[0].mean(axis=0) > 0)
        if not centre_ok:
            continue
        bound = float(_bound(dual, vertices)[0][0])
        u = rng.dirichlet(np.full(dim, 0.5), 2000) @ vertices[0]
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        assert np.max(np.linalg.norm(dual(u), axis=1)) <= bound * (1 + 1e-12)


def test_maximum_of_a_linear_form_on_a_cone():
    """Against the projection on the cone, found by non-negative least squares."""
    from scipy.optimize import nnls

    rng = np.random.default_rng(0)
    for _ in range(30):
        vertices = np.abs(rng.standard_normal((1, 3, 3))) + 0.2 * np.eye(3)
        form = rng.standard_normal(3)
        q = (vertices[0] @ form)[None]
        weight, _ = nnls(vertices[0].T, form)
        truth = float(np.linalg.norm(vertices[0].T @ weight))
        centre = vertices.mean(axis=1)
        found = float(_cone_maximum(vertices, centre / np.linalg.norm(centre), q)[0])
        assert truth * (1 - 1e-12) <= found <= max(truth * (1 + 0.05), 1e-9)


def test_excluded_caps_are_left_out_and_nothing_else():
    rng = np.random.default_rng(5)
    dual = random_dual(rng, 10, 2)
    angles = np.linspace(0, 2 * np.pi, 100_001)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    top = circle[int(np.argmax(np.abs(dual(circle)[:, 0])))]
    rest = circle[circle @ top < np.cos(0.3)]
    found = sup_on_sphere(dual, np.zeros((0, 2)), 1e-7, 50_000, excluded=(top[None], 0.3))
    truth = float(np.max(np.abs(dual(rest))))
    assert found.upper is not None
    assert truth <= found.upper
    assert found.lower <= truth * (1 + 1e-9)
    assert found.upper <= truth * (1 + 1e-3)


@pytest.mark.parametrize("name", core_names())
def test_constants_of_the_cores(name):
    """σ″ against differences of σ′, and the sups against a dense grid."""
    sigma, smooth = get(name), smoothness(get(name))
    assert smooth.second is not None
    z = np.linspace(-9, 9, 36_002)  # does not contain 0, where some σ″ jump
    h = 1e-5
    slope = (sigma.derivative(z + h) - sigma.derivative(z - h)) / (2 * h)
    assert np.max(np.abs(slope - smooth.second(z))[np.abs(z) > 2 * h]) < 1e-6
    assert np.max(np.abs(smooth.second(z))) <= smooth.sup2
    if np.isfinite(smooth.sup3):
        third = (smooth.second(z + h) - smooth.second(z - h)) / (2 * h)
        assert np.max(np.abs(third)) <= smooth.sup3 * (1 + 1e-6)
        assert np.max(np.abs(third)) >= 0.98 * smooth.sup3
    if smooth.third is not None:
        assert np.max(np.abs(third - smooth.third(z))) < 1e-6
        fourth = (smooth.third(z + h) - smooth.third(z - h)) / (2 * h)
        assert 0.98 * smooth.sup4 <= np.max(np.abs(fourth)) <= smooth.sup4 * (1 + 1e-6)
    else:
        assert smooth.sup4 == np.inf


@pytest.mark.parametrize(("name", "m"), [("tanh", 1), ("gelu", 2), ("sigmoid", 1)])
def test_remainder_of_the_second_order(name, m):
    """|η(c + δ) − Taylor's polynomial of degree 2| against the bound, at random points and radii."""
    rng = np.random.default_rng(11)
    x, y = rng.standard_normal((40, 3)), rng.standard_normal((40, m))
    observation = DataObservation.of(x, y, name, False, False, 4.0, None)
    measure = Atomic(observation.space.sample(2, rng), 0.3 * rng.standard_normal((2, m)))
    curvature = observation.curvature(measure)
    centre = observation.space.sample(200, rng)
    radius = 10 ** rng.uniform(-2, 0, 200)
    bound = curvature.third_from(centre, radius)
    assert np.all(bound <= curvature.third)
    assert np.min(bound) < 0.7 * curvature.third  # the cancellation is worth something
    step = rng.standard_normal((200, 3))
    step *= (radius / np.linalg.norm(step, axis=1))[:, None]
    jet, moved = observation.jet(measure, centre, 2), observation.jet(measure, centre + step).value
    assert jet.hessian is not None
    taylor = jet.value + np.einsum("nmd,nd->nm", jet.jacobian, step)
    taylor += 0.5 * np.einsum("nmde,nd,ne->nm", jet.hessian, step, step)
    gap = np.linalg.norm(moved - taylor, axis=1)
    assert np.all(gap <= bound * radius**3 / 6 + 1e-13)
    assert np.max(gap / (bound * radius**3 / 6 + 1e-13)) > 0.05


def test_bound_closes_in_five_dimensions():
    """tanh teacher on the rim, 200 rows: sup‖η‖ to 1e-6 over the ball, by half of it (η is odd)."""
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((200, 5)), rng.standard_normal((2, 5))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    y = np.tanh(x @ w.T) @ np.array([1.0, -0.8])
    found = blasso_on_data(x, y, 0.05, "tanh", bias=False, radius=1.0, effort=Effort(tolerance=1e-6, regions=200_000))
    assert found.supremum.upper is not None
    assert 1 - 1e-6 <= found.supremum.upper <= 1 + 1e-6
    assert found.size <= 4
    assert "fourth" in found.supremum.how
    theta = found.observation.space.sample(20_000, rng)
    eta = found.observation.jet(found.measure, theta).value / found.lam
    assert np.max(np.abs(eta)) <= found.supremum.upper


@pytest.mark.parametrize(
    ("name", "m", "bias"), [("tanh", 1, True), ("gelu", 2, False), ("silu", 1, False), ("elu", 1, False)]
)
def test_smooth_bound_on_data_against_a_grid(name, m, bias):
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((30, 1 if bias else 2)), rng.standard_normal((30, m))
    observation = DataObservation.of(x, y, name, bias, False, 2.0, 1.0 if bias else None)
    measure = Atomic(observation.space.sample(2, rng), 0.3 * rng.standard_normal((2, m)))
    axis = np.linspace(-2, 2, 401)
    grid = np.stack(np.meshgrid(axis, axis / (2 if bias else 1)), axis=-1).reshape(-1, 2)
    grid = grid if bias else grid[np.linalg.norm(grid, axis=1) <= 2]
    truth = float(np.max(np.linalg.norm(observation.jet(measure, grid).value, axis=1)))
    curvature = observation.curvature(measure)
    found = sup_over_boxes(observation.space, curvature, grid[:1], 1e-5, 60_000)
    assert found.upper is not None
    assert truth <= found.upper
    assert found.lower <= found.upper
    assert found.upper <= truth * (1 + 2e-3)


@pytest.mark.parametrize(
    ("name", "target"),
    [(name, target) for name in ("tanh", "relu", "abs", "softplus") for target in ("data", "population")]
    + [("relu2", "data")],
)
def test_bound_of_one_box_is_never_below_its_points(name, target):
    """Random boxes of every size, random points in them (projected to the sphere where Θ is one)."""
    rng = np.random.default_rng(11)
    sphere = get(name).homogeneous is not None
    limits = (None, None) if sphere else (1.5, 1.0)
    if target == "data":
        observation = DataObservation.of(
            rng.standard_normal((15, 2)), rng.standard_normal((15, 1)), name, True, False, *limits
        )
    else:
        teacher = Network(rng.standard_normal((2, 1)), rng.standard_normal((2, 2)), rng.standard_normal(2), name)
        observation = PopulationObservation.of(teacher, None, True, False, *limits)
    measure = Atomic(observation.space.sample(2, rng), 0.5 * rng.standard_normal((2, 1)))
    curvature = observation.curvature(measure)
    boxes = first_boxes(observation.space, curvature)
    for _ in range(7):
        boxes = boxes.cut()
        pick = rng.permutation(boxes.centre.shape[0])[:40]
        boxes = boxes.take(pick)
        bound = box_bounds(observation.space, curvature, boxes)
        shift = rng.uniform(-1, 1, (60, *boxes.half.shape)) * boxes.half
        points = (boxes.centre + shift).reshape(-1, curvature.dim)
        if sphere:
            points /= np.linalg.norm(points, axis=1, keepdims=True)
        value = np.linalg.norm(curvature.oracle.jet(points, 0).value, axis=1).reshape(60, -1)
        inside = np.ones(value.shape, dtype=bool)
        if not sphere:  # boxes reach beyond Θ, and the bounds use |w| ≤ R
            inside = (np.linalg.norm(points[:, :2], axis=1) <= 1.5).reshape(60, -1)
        assert inside.any()
        assert np.all((value <= bound + 1e-12) | ~inside)


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_first_boxes_cover_the_set(name):
    rng = np.random.default_rng(0)
    observation = DataObservation.of(rng.standard_normal((9, 2)), rng.standard_normal(9), name, True, False, 1.3, 0.7)
    curvature = observation.curvature(Atomic.empty(3, 1))
    boxes: Boxes = first_boxes(observation.space, curvature).cut().cut()
    theta = observation.space.sample(500, rng)
    inside = np.all(np.abs(theta[:, None] - boxes.centre) <= boxes.half, axis=2)
    if name == "tanh":  # odd: θ or −θ
        assert not inside.any(axis=1).all()
        inside |= np.all(np.abs(-theta[:, None] - boxes.centre) <= boxes.half, axis=2)
    assert inside.any(axis=1).all()


def test_effective_dimension_of_data_in_a_plane():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((40, 2)) @ rng.standard_normal((2, 9))
    observation = DataObservation.of(x, rng.standard_normal(40), "relu", bias=False)
    measure = Atomic.empty(9, 1)
    dual, embed, error = dual_function(observation, measure)
    assert dual.dim == 2
    found = bounded_sup(observation, measure, 0.0, Effort())
    theta = rng.standard_normal((5000, 9))
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    assert found.upper is not None
    assert np.max(np.abs(observation.jet(measure, theta).value)) <= found.upper
    assert error < 1e-12 * found.upper + 1e-12
    assert np.allclose(embed @ embed.T, np.eye(2))


def test_no_bound_beyond_the_limit_of_dimensions():
    rng = np.random.default_rng(2)
    observation = DataObservation.of(rng.standard_normal((40, 9)), rng.standard_normal(40), "relu")
    found = bounded_sup(observation, Atomic.empty(10, 1), 0.0, Effort())
    assert found.upper is None
    assert not found.certified
    assert found.lower > 0
    assert "no bound" in found.how
