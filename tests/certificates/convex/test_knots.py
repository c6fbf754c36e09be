"""Activations of two pieces and the composed ones in the checker: values, continuations, bounds on boxes."""

from __future__ import annotations

import numpy as np
import pytest
from flint import arb, arb_series, ctx

from sparsemf.activations import get
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.derivatives import EVALUATION, profile, suprema
from sparsemf.certificates.checker.dual_boxes import BoxDual
from sparsemf.certificates.checker.knots import KNOTS

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

NAMES = ("relu2", "elu", "elu(0.3)", "selu", "celu(0.5)", "softsign", "relu", "hardtanh", "relu6", "gelu_tanh", "mish")

_ROOT = (8 / arb.pi()).sqrt()
_SERIES = {
    "elu left": lambda z: z.exp() - 1,
    "softsign left": lambda z: z / (1 - z),
    "softsign right": lambda z: z / (1 + z),
    "gelu_tanh": lambda z: z / ((-(z + z * z * z * arb("0.044715")) * _ROOT).exp() + 1),
    "mish": lambda z: z - z * 2 / ((z.exp() + 1) * (z.exp() + 1) + 1),
}


def _balls(name: str, z: float) -> list[arb]:
    """σ, …, σ‴ at z by power series in balls of 400 bits."""
    before, ctx.cap = ctx.cap, 4
    try:
        series = _SERIES[name](arb_series([arb(z), arb(1)]))
        return [series[k] * f for k, f in enumerate((1, 1, 2, 6))]
    finally:
        ctx.cap = before


def _adversarial(rng: np.random.Generator) -> Array:
    edges = np.array([0.0, 5e-324, 1e-300, 1e-17, 1e-8, 0.5, 1.7, 8.0, 16.0, 29.999, 30.0, 30.001, 37.0, 300.0, 745.2])
    return np.concatenate([edges, np.geomspace(1e-12, 600, 60), rng.uniform(0, 12, 200)])


@pytest.mark.parametrize("name", _SERIES)
def test_values_against_balls(name: str) -> None:
    """Within the margin that the bounds on boxes are charged with, at points of all sizes."""
    core, _, side = name.partition(" ")
    z = _adversarial(np.random.default_rng(0))
    z = -z[z > 0] if side == "left" else z if side else np.concatenate([z, -z])
    found = profile(core).at(z, 4)
    with Arithmetic(400).precision():
        for i, x in enumerate(z.tolist()):
            for k, truth in enumerate(_balls(name, x)):
                off = abs(arb(float(found[k][i])) - truth)
                assert off < arb(EVALUATION * (1 + abs(x)) / 16), (x, k)


def _ramp(z: Array, start: float, steep: float) -> tuple[Array, Array, Array]:
    """(start − steep·z)₊ for z ≥ 0, its integral from 0, and its threefold one."""
    end = start / steep
    y = np.minimum(z, end)
    once = start * y - steep * y**2 / 2
    twice = start * y**2 / 2 - steep * y**3 / 6
    thrice = start * y**3 / 6 - steep * y**4 / 24
    rest = z - y  # from the end on the first integral stays
    return np.maximum(start - steep * z, 0.0), once, thrice + twice * rest + once * rest**2 / 2


@pytest.mark.parametrize(("core", "side"), [("elu", 1), ("elu", -1), ("softsign", 1), ("softsign", -1), ("relu2", 1)])
def test_continuations(core: str, side: int) -> None:
    """The continuation of the other side's piece over the knot to ``side``, written out: how far σ is from it, and
    how large its derivatives are."""
    knot = KNOTS[core]
    z = np.geomspace(1e-9, 50, 4000)
    if core == "elu" and side > 0:
        third, second, moved = _ramp(z, 1.0, 1.0)
        value, bend = z + z**2 / 2 + moved, 1 + second
    elif core == "softsign":
        third, second, moved = _ramp(z, 6.0, 24.0)
        # mirrored to z > 0: the left piece z/(1 − z) continued
        value, bend = z + z**2 + moved, 2 + second
    else:
        third, value, bend = 0 * z, 0 * z if core == "relu2" else -z, 0 * z
    sigma = get(core).value(side * z)
    off = np.abs(sigma - (value if side > 0 or core == "elu" else -value))
    assert np.all(off <= knot.kink * z + 0.5 * knot.bend * z**2 * (1 + 1e-9) + 1e-16)
    assert np.max(np.abs(bend)) <= knot.sup[0]
    assert np.max(np.abs(third)) <= knot.sup[1]
    wide = np.diff(z) > 1e-5
    assert np.max(np.abs(np.diff(third)[wide] / np.diff(z)[wide])) <= knot.sup[2] * (1 + 1e-6)
    # and it is smooth where it begins: value, slope and second derivative are the piece's
    piece = KNOTS[core].at(np.array([-side * 1e-9]))
    assert bend[0] == pytest.approx(abs(float(piece[2][0])), abs=1e-6)
    assert third[0] == pytest.approx(abs(float(piece[3][0])), abs=1e-6)


@pytest.mark.parametrize("core", [*KNOTS, "gelu_tanh", "mish"])
def test_suprema_of_pieces(core: str) -> None:
    z = np.concatenate([np.linspace(-20, 20, 80_001), [-1e-12, 1e-12]])
    z = z[z != 0]
    values = profile(core).at(z, 4)
    for k in (2, 3):
        most = float(np.max(np.abs(values[k])))
        assert most <= suprema(core)[k - 1] <= (1.51 if core in KNOTS else 1.1) * most
    side = np.flatnonzero(np.diff(np.sign(z)) == 0)
    steps = (np.diff(values[3]) / np.diff(z))[side[side < 79_990]]
    assert np.max(np.abs(steps)) <= suprema(core)[3] * (1 + 1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("m", [1, 2])
def test_boxes_over_knots(name: str, m: int) -> None:
    """Boxes of all sizes whose rows are on both sides of the knots, many of them exactly on one at the centre."""
    rng = np.random.default_rng([m, *name.encode()])
    sigma, sphere = get(name), name == "relu2"
    for scale in (1.0, 6.0):
        rows = scale * rng.standard_normal((15, 3))
        rows[:, 2] = 1.0
        if sphere:
            dual = BoxDual(profile(name), rows, rng.standard_normal((15, m)), 3, 1.0, 0.0, np.ones(3), shell=True)
        else:
            limits = np.array([2.0, 2.0, 1.0])
            dual = BoxDual(profile(name), rows, rng.standard_normal((15, m)), 2, 1.3, 0.7, limits)
        centre = rng.uniform(-0.7, 0.7, (80, 3))
        centre[:40] -= (
            rows[:4].repeat(10, axis=0)
            * (np.sum(centre[:40] * rows[:4].repeat(10, axis=0), axis=1) / np.sum(rows[:4] ** 2, axis=1).repeat(10))[
                :, None
            ]
        )
        if sphere:
            centre /= np.linalg.norm(centre, axis=1, keepdims=True)
        half = 10.0 ** rng.uniform(-7, -0.3, (80, 1)) * rng.uniform(0.2, 1, (80, 3))
        points = centre[:, None] + half[:, None] * rng.uniform(-1, 1, (80, 300, 3))
        points[:, :100] = centre[:, None] + half[:, None] * np.sign(rng.uniform(-1, 1, (80, 100, 3)))
        if sphere:  # of degree 2: inside the ball ‖η‖ is no larger
            inside = np.linalg.norm(points, axis=2) <= 1
        else:
            inside = (np.linalg.norm(points[..., :2], axis=2) <= 1.3) & (np.abs(points[..., 2]) <= 0.7)
        eta = sigma.value(points @ rows.T) @ dual.weights / 15
        most = np.max(np.where(inside, np.linalg.norm(eta, axis=2), 0.0), axis=1)
        boxes = np.stack([centre, half], axis=1)
        for enough in (0.0, np.inf, float(np.median(most))):
            assert np.all(dual.bounds(boxes, enough) >= most - 1e-14 * scale)
        rho = np.linalg.norm(half, axis=1)
        near = inside.all(axis=1) & (rho < 1e-3)
        # a linear function is met in the corners; a kink costs ρ
        steep = 40.0 * scale if any(KNOTS[core].kink for core, *_ in dual.sigma.knots) else 0.0
        room = steep * rho + 300 * scale**2 * rho**2 + 1e-9
        assert np.all((dual.bounds(boxes, 0.0) - most)[near] <= room[near])


def test_boxes_inside_the_sphere_do_not_count() -> None:
    rng = np.random.default_rng(1)
    dual = BoxDual(profile("relu2"), rng.standard_normal((9, 2)), rng.standard_normal((9, 1)), 2, 1.0, 0.0, np.ones(2),
                   shell=True)  # fmt: skip
    boxes = np.array([[[0.0, 0.0], [0.5, 0.5]], [[0.7, 0.7], [0.1, 0.1]], [[1.0, 1.0], [0.1, 0.1]]])
    found = dual.bounds(boxes, 0.0)
    assert found[0] == found[2] == 0.0
    assert found[1] > 0
