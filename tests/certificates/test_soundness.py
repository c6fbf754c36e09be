"""Certified bounds against independent truths: python-flint quadrature at 150 bits, exact rationals, plain searches.

The truths share no code with the library.  In one dimension ‖h‖ is integrated by composite Gauss–Legendre rules
on panels graded around every neuron; homogeneous networks in two dimensions reduce to an integral over the angle.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from flint import arb, ctx
from numpy.typing import NDArray

from pairs import SIGMA
from sparsemf.certificates.checker import grouped, series
from sparsemf.certificates.checker import sparsity as claims
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.document import SLACK
from sparsemf.certificates.checker.equivalence import verdict_of
from sparsemf.certificates.checker.expansion import expanded
from sparsemf.certificates.checker.flattening import Group
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.equivalence import raw_of
from sparsemf.exceptions import InputError
from sparsemf.identifiability import lower_curve
from sparsemf.measures import Empirical, Gaussian, Network, difference, l2_norm
from sparsemf.pipeline.analyze import analyze
from sparsemf.pipeline.certify import certify, document
from sparsemf.pipeline.verify import verify
from sparsemf.symmetry import disguise, quotient

Array = NDArray[np.float64]
PIECEWISE_LINEAR = ("relu", "abs", "leaky_relu", "relu6", "hardtanh", "hard_sigmoid")
TINY = 1e-12  # relative error allowed to the truths themselves


def _evaluate(f: Network, x: arb) -> list[arb]:
    """f(x) for d = 1."""
    square = np.zeros(f.m) if f.quadratic is None else f.quadratic[:, 0, 0]
    out = [arb(float(square[j])) * x * x + arb(float(f.affine[j, 0])) * x + arb(float(f.offset[j])) for j in range(f.m)]
    for alpha, w, b in zip(f.alpha, f.inner[:, 0], f.bias, strict=True):
        value = SIGMA[f.activation.name][1]((arb(float(w)) * x + arb(float(b))).mid())
        out = [o + arb(float(a)) * value for o, a in zip(out, alpha, strict=True)]
    return out


def norm_1d(f: Network, points: int = 20) -> float:
    """‖f‖ in L²(N(0, 1)) for d = 1."""
    before = ctx.prec
    ctx.prec = 150
    try:
        rule = [arb.legendre_p_root(points, k, weight=True) for k in range(points)]
        breaks = [arb(t) for t in np.arange(-14.0, 14.5)]
        for w, b in zip(f.inner[:, 0], f.bias, strict=True):
            if w == 0:
                continue
            kinks = SIGMA[f.activation.name][2]
            for kink in kinks or (0.0,):
                centre = ((arb(kink) - arb(float(b))) / arb(float(w))).mid()
                steps = [] if f.activation.name in PIECEWISE_LINEAR else [2.0**j for j in range(-2, 6)]
                breaks += [centre, *((centre + s * t / abs(arb(float(w)))).mid() for t in steps for s in (-1, 1))]
        breaks = sorted(p for p in breaks if abs(p) <= 14)
        total = arb(0)
        for low, high in pairwise(breaks):
            if not high > low:
                continue
            half, middle = (high - low) / 2, (high + low) / 2
            for node, weight in rule:
                x = (middle + half * node).mid()
                square = sum((v * v for v in _evaluate(f, x)), arb(0))
                total = (total + half * weight * (-x * x / 2).exp() * square).mid()
        return float((total / (2 * arb.pi()).sqrt()).sqrt())
    finally:
        ctx.prec = before


def within(lower: float, truth: float, upper: float) -> bool:
    return lower <= truth * (1 + TINY) and truth <= upper * (1 + TINY)


def teacher(rng: np.random.Generator, name: str, n: int, d: int, m: int, bias: bool = True) -> Network:
    return Network(
        rng.standard_normal((n, m)),
        rng.standard_normal((n, d)),
        rng.standard_normal(n) if bias else None,
        name,
        affine=rng.standard_normal((m, d)),
        offset=rng.standard_normal(m),
    )


def confirmed(a: Network, b: Network, law: Gaussian | Empirical | None = None, **options: Any) -> tuple[float, float]:
    """certify's bounds, after the checker accepted the certificate."""
    found = certify(a, b, law, **options)
    data = law if isinstance(law, Empirical) else None
    proof = verify(document(found, a, b), {"a": a, "b": b}, data)
    assert proof.valid, proof.reason
    assert 0 <= found.lower <= found.upper < np.inf
    if found.verdict == "equivalent":
        assert found.upper <= found.eps
    if found.verdict == "distinct":
        assert found.lower > found.eps_distinct
    return found.lower, found.upper


def gram_bounds(h: Network, degree: int = 40) -> tuple[float, float]:
    """The checker's Gram form of h itself, no neurons grouped, in float64."""
    arith, norm = Arithmetic(0), Norm("gaussian")
    with arith.precision():
        sums = expanded(arith, (raw_of(h), 1.0))
        alone, plus = np.arange(sums.core.size), np.ones(sums.core.size, dtype=np.int64)
        low, high = series.gram(arith, norm, sums, series.spectrum(arith, norm, sums, degree), alone, plus)
        return low, min(high, grouped.upper(arith, norm, sums, alone, plus))


@pytest.mark.parametrize("name", SIGMA)
def test_distance_of_perturbed_copies(name: str) -> None:
    rng = np.random.default_rng([1, *name.encode()])
    for case, exponent in enumerate((-15, rng.uniform(-14, -7), rng.uniform(-7, -1))):
        f = teacher(rng, name, 2, 1, (1, 3)[case % 2])
        g = disguise(f, rng, width=4)  # splits only: the rounding of the copy itself is part of the truth
        g = g.with_(inner=g.inner * (1 + 10.0**exponent * rng.standard_normal(g.inner.shape)))
        h = difference(f, g)
        truth = norm_1d(h)
        lower, upper = confirmed(f, g)
        assert within(lower, truth, upper)
        low, high = gram_bounds(h)
        assert within(low, truth, high)
        found = l2_norm(h, Gaussian.standard(1))
        assert within(found.lower, truth, found.upper)
        own = l2_norm(f, Gaussian.standard(1))
        assert within(own.lower, norm_1d(f), own.upper)


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "erf"])
@pytest.mark.parametrize("gap", [1e-7, 1e-3])
def test_near_dipoles(name: str, gap: float) -> None:
    rng = np.random.default_rng(5)
    f = Network([[1e6], [-1e6], [0.5]], [[1.0], [1.0 + gap], [-0.7]], [0.2, 0.2 - gap, 0.1], name)
    g = f.with_(bias=f.bias + 1e-9 * rng.standard_normal(3))
    assert within(*_swap(confirmed(f, g), norm_1d(difference(f, g))))
    found = analyze(f)
    assert within(*_swap((found.norm.lower, found.norm.upper), norm_1d(f)))


def _swap(interval: tuple[float, float], truth: float) -> tuple[float, float, float]:
    return interval[0], truth, interval[1]


@pytest.mark.parametrize("name", ["relu", "tanh", "softplus"])
def test_constant_neurons_that_cancel_against_the_offset(name: str) -> None:
    """The rounding of σ(b)·α is part of the distance, however large α is."""
    constant = Network([[1.0], [1e9]], [[1.0], [0.0]], [0.0, 0.3], name)
    value = float(constant.activation.value(np.array([0.3]))[0])
    plain = Network([[1.0]], [[1.0]], [0.0], name, offset=[1e9 * value])
    truth = norm_1d(difference(constant, plain))
    cases: list[dict[str, Any]] = [{"eps": 1e-3}, {"eps": 1e-3, "norm": "sup", "radius": 1.0}]
    for options in cases:
        lower, upper = confirmed(constant, plain, **options)
        assert within(lower, truth, upper)  # a constant difference: the sup is the L² norm


def test_rounding_of_the_whitening_is_paid_for() -> None:
    """⟨w, mean⟩ cancels: one unit in the last place of w moves the bias by 1e-8."""
    mean = np.array([1.1e8, -0.9e8])
    w = [-1.2590655321041202, -1.538857859112948]
    v = [-1.2590655321041202, -1.5388578591129483]
    shift = [sum(Fraction(x) * Fraction(y) for x, y in zip(u, mean.tolist(), strict=True)) for u in (w, v)]
    length = float(np.linalg.norm(w))
    truth = norm_1d(
        Network([[1.0], [-1.0]], [[length], [length]], [float(s) for s in shift], "tanh")
    )  # directions agree to 1e-16
    a, b = (Network([[1.0]], [u], [0.0], "tanh") for u in (w, v))
    lower, upper = confirmed(a, b, Gaussian(mean, np.eye(2)), eps=1e-10)
    assert lower <= truth * (1 + 1e-6)
    assert truth <= upper * (1 + 1e-6)


def test_singular_law() -> None:
    rng = np.random.default_rng(8)
    root, mean = np.array([[2.0], [-1.0]]), np.array([0.5, 0.25])
    f = teacher(rng, "gelu", 3, 2, 1)
    g = f.with_(inner=f.inner + rng.standard_normal((3, 1)) * np.array([1.0, 2.0]) + 1e-4)  # (1, 2) is invisible …
    h = difference(f, g)
    bias, offset = h.bias + h.inner @ mean, h.offset + h.affine @ mean
    seen = Network(h.alpha, h.inner @ root, bias, "gelu", 1.0, h.affine @ root, offset)
    assert within(*_swap(confirmed(f, g, Gaussian(mean, root)), norm_1d(seen)))
    hidden = f.with_(inner=f.inner + np.array([[1.0, 2.0]]), bias=f.bias - 1.0)  # … up to its mean, 1
    assert confirmed(f, hidden, Gaussian(mean, root))[1] < 1e-11


def test_weights_that_underflow_prove_nothing_false() -> None:
    """‖w‖ = 1e-200: squares underflow.  Weight decay makes such neurons."""
    rng = np.random.default_rng(0)
    for name in ("relu", "tanh", "gelu"):
        f = teacher(rng, name, 3, 2, 1)
        f = f.with_(
            outer=np.vstack([f.outer, [[1.0]]]),
            inner=np.vstack([f.inner, [[1e-200, -1e-200]]]),
            bias=np.append(f.bias, 1.0),
        )
        assert confirmed(f, f)[1] < 1e-10
        assert analyze(f).s_star.value <= 3


@pytest.mark.parametrize("size", [1e12, 1e-12, 1e150, 1e-150, 1e170, 1e-170])
def test_extreme_scalings_of_one_neuron(size: float) -> None:
    """(α, w) ~ (α/t, tw): the right answer, or a refusal of the input, but no NaN and no other answer."""
    try:
        f = Network([[1 / size]], [[size, 0.0]], [0.0], "relu")
        g = Network([[2.0]], [[1.0, 0.0]], [0.0], "relu")
        lower, upper = confirmed(f, g)
        found = analyze(f)
    except InputError:
        return
    assert within(lower, float(np.sqrt(0.5)), upper)
    assert (found.s_star.value, found.s_star.certified) == (1, True)
    assert within(found.norm.lower, float(np.sqrt(0.5)), found.norm.upper)


def test_steep_neurons() -> None:
    """tanh(s x) − tanh(s x + 1), s = 1e9: nearly a spike of width 1e-9."""
    f = Network([[1.0], [-1.0]], [[1e9], [1e9]], [0.0, 1.0], "tanh")
    truth = norm_1d(f)
    for sharp, bias, gap in ((1e9, 0.0, 1.0), (3.4e3, 0.0, 3.4e-4), (20.0, 0.5, 1e-3), (200.0, 0.0, 1e-2)):
        pair = Network([[1 / sharp], [-1 / sharp]], [[sharp], [sharp]], [bias, bias + gap], "gelu")
        norm = l2_norm(pair, Gaussian.standard(1))
        assert within(norm.lower, norm_1d(pair), norm.upper)
    seen = quotient(f)
    assert lower_curve(seen.network, degree=20, orders=(1,)).atoms[0] - seen.error <= truth
    groups = [(Group(1, 2, 40, False),)]
    assert not claims.lower_curve(Norm("gaussian"), raw_of(f), groups).any()  # too steep for the checker's series
    mild = Network([[1.0], [-1.0]], [[40.0], [40.0]], [0.0, 1.0], "tanh")
    tail = claims.lower_curve(Norm("gaussian"), raw_of(mild), groups)[0]
    assert 0 < tail <= norm_1d(mild)


@pytest.mark.parametrize(("bias", "gap"), [(-4.0, 1e-3), (-4.0, 1e-5), (-6.0, 1e-6), (-12.0, 1e-6)])
def test_rarely_active_neurons(bias: float, gap: float) -> None:
    """relu(x + b) − relu(x + b + gap), b ≪ 0: the kernel's closed form cancels, and E σ² is tiny."""
    f = Network([[1.0], [-1.0]], [[1.0], [1.0]], [bias, bias + gap], "relu")
    truth = norm_1d(f)
    own = l2_norm(f, Gaussian.standard(1))
    low, high = gram_bounds(f)
    assert within(low * (1 - SLACK), truth, high * (1 + SLACK))
    assert within(own.lower * (1 - SLACK), truth, own.upper * (1 + SLACK))


def test_the_solver_of_the_orbit_distance_may_fail() -> None:
    """CLARABEL gives up on these scales; the verdict does not need it."""
    rng = np.random.default_rng(21)
    f = Network(1e6 * rng.standard_normal((3, 3)), 1e3 * rng.standard_normal((3, 1)), rng.standard_normal(3), "relu")
    factor = 10.0 ** rng.uniform(-15, -1)
    g = disguise(f, rng, width=5)
    g = g.with_(inner=g.inner * (1 + factor * rng.standard_normal((5, 1))))
    lower, upper = confirmed(f, g)
    assert within(lower, norm_1d(difference(f, g)), upper)


def _angular_norm(f: Network, beyond_affine: bool = False) -> float:
    """‖f‖ of a ReLU network without biases or affine part in d = 2: f(r, θ) = r·f(θ), E r² = 2.

    ``beyond_affine``: the distance to affine functions; ⟨f, x_j⟩ = 2·mean(f(θ) e_j), ⟨f, 1⟩ = √(π/2)·mean f(θ).
    """
    angles = np.arctan2(f.inner[:, 1], f.inner[:, 0])[:, None] + np.array([np.pi / 2, -np.pi / 2])
    kinks = np.sort(np.mod(angles, 2 * np.pi).ravel())
    edges = np.concatenate([kinks, [kinks[0] + 2 * np.pi]])
    node, weight = np.polynomial.legendre.leggauss(40)
    half, middle = 0.5 * np.diff(edges), 0.5 * (edges[1:] + edges[:-1])
    theta = (middle[:, None] + half[:, None] * node).ravel()
    weight = (half[:, None] * weight).ravel() / (2 * np.pi)
    unit = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    value = np.maximum(unit @ f.inner.T, 0) @ f.alpha
    square = 2 * float(np.sum(weight[:, None] * value**2))
    if beyond_affine:
        slope, constant = 2 * unit.T @ (weight[:, None] * value), np.sqrt(np.pi / 2) * weight @ value
        square -= float(np.sum(slope**2) + np.sum(constant**2))
    return float(np.sqrt(max(square, 0.0)))


@pytest.mark.parametrize("m", [1, 3])
def test_staircase_against_explicit_dictionaries(m: int) -> None:
    """L(S) is below the distance to every explicit S-atom network, however found; U(S) above that to its own."""
    rng = np.random.default_rng(m)
    f = Network(rng.standard_normal((6, m)), rng.standard_normal((6, 2)), None, "relu")
    found = analyze(f)
    lower, upper = found.staircase.lower, found.staircase.upper
    assert (np.diff(lower) <= 0).all()
    assert (np.diff(upper) <= 0).all()
    assert (lower <= upper).all()
    for size in range(lower.size):
        own = found.upper.network(size)
        rest = Network(np.vstack([f.alpha, -own.alpha]), np.vstack([f.inner, own.inner]), None, "relu")
        assert not own.bias.any()
        assert _angular_norm(rest, beyond_affine=True) <= upper[size] + 1e-7
        for _ in range(40):
            w = rng.standard_normal((size, 2))
            if rng.random() < 0.5:
                w = f.inner[rng.permutation(6)[:size]] + 0.05 * w
            sample = rng.standard_normal((400, 2))
            design = np.concatenate([np.maximum(sample @ w.T, 0), sample, np.ones((400, 1))], axis=1)
            beta = np.linalg.lstsq(design, f(sample), rcond=None)[0][:size]
            rest = Network(np.vstack([f.alpha, -beta]), np.vstack([f.inner, w]), None, "relu")
            assert lower[size] <= _angular_norm(rest, beyond_affine=True) + 1e-7


@pytest.mark.parametrize("name", ["relu", "abs", "tanh", "erf", "gelu", "silu", "softplus"])
@pytest.mark.parametrize("m", [1, 3])
def test_planted_size_is_certified_and_confirmed(name: str, m: int) -> None:
    rng = np.random.default_rng([3, m])
    planted = Network(rng.uniform(1, 2, (3, m)), 1.5 * np.linalg.qr(rng.standard_normal((4, 4)))[0][:3], None, name)
    found = analyze(disguise(planted, rng, width=16))
    assert (found.s_star.value, found.s_star.certified) == (3, True)
    proof = found.certificate()
    assert proof["claim"]["certified"]
    assert proof["claim"]["eps"][0] < proof["claim"]["eps"][1]
    assert verify(proof, {"a": found.source}).valid


def test_outputs_in_the_rows_count_atoms_and_not_directions() -> None:
    f = Network(np.eye(2), [[1.0, 0.0], [1.0, 0.0]], [0.5, -0.5], "relu")
    stairs = analyze(f).staircase
    assert stairs.lower[1] > 0.05
    assert stairs.lower_directions[1] < 1e-12  # one line: a single direction (of any functions) is exact


def test_opposite_kinks_and_affine_functions() -> None:
    kink = Network([[1.0], [-2.0]], [[1.0, 2.0], [-2.0, -4.0]], [0.5, -1.0], "relu")
    found = analyze(kink).s_star
    assert (found.value, found.certified) == (1, True)
    affine = Network([[1.0], [-0.5]], [[1.0, 2.0], [-2.0, -4.0]], [0.5, -1.0], "relu")
    found = analyze(affine).s_star
    assert (found.value, found.certified) == (0, True)
    empty = Network(np.zeros((0, 2)), np.zeros((0, 3)), None, "tanh", affine=np.ones((2, 3)))
    assert analyze(empty).s_star.value == 0
    assert confirmed(empty, empty)[1] < 1e-12


def test_empirical_law_by_exact_evaluation() -> None:
    rng = np.random.default_rng(4)
    x = 1e4 + rng.standard_normal((12, 1))
    f = Network([[1.0], [2.0]], [[1.0], [-1.0]], [-1e4, 1e4 + 0.3], "relu")
    g = f.with_(bias=f.bias + np.array([1e-9, 0.0]))
    square = Fraction(0)
    for row in x[:, 0].tolist():
        value = Fraction(0)
        for net, side in ((f, 1), (g, -1)):
            for a, w, b in zip(net.alpha[:, 0].tolist(), net.inner[:, 0].tolist(), net.bias.tolist(), strict=True):
                value += side * Fraction(a) * max(Fraction(w) * Fraction(row) + Fraction(b), Fraction(0))
        square += value * value
    assert within(*_swap(confirmed(f, g, Empirical.of(x)), float(np.sqrt(float(square / 12)))))


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
def test_sup_norm_against_a_dense_grid(name: str) -> None:
    rng = np.random.default_rng(6)
    f = teacher(rng, name, 3, 1, 2)
    g = f.with_(inner=f.inner + 1e-3 * rng.standard_normal((3, 1)))
    h, grid = difference(f, g), np.linspace(-2, 2, 40001)[:, None]
    largest = float(np.linalg.norm(h(grid), axis=1).max())
    speed = h.activation.lipschitz * float(np.linalg.norm(h.alpha, axis=1) @ np.abs(h.inner[:, 0]))
    speed += float(np.linalg.norm(h.affine))
    lower, upper = confirmed(f, g, norm="sup", radius=2.0)
    assert lower <= largest + speed * 1e-4
    assert upper >= largest


def test_relative_eps_uses_the_safe_end() -> None:
    rng = np.random.default_rng(9)
    f = teacher(rng, "tanh", 2, 1, 1)
    size = norm_1d(f)
    for factor, verdict in ((1 + 0.9e-3, "equivalent"), (1 + 1.1e-3, "distinct")):
        g = f.with_(outer=f.outer * factor, affine=f.affine * factor, offset=f.offset * factor)
        found = certify(f, g, rel_eps=1e-3)
        assert found.verdict == verdict
        assert found.eps <= 1e-3 * size <= found.eps_distinct
    assert verdict_of(0.0, float("inf"), 1.0, 1.0) == "undecided"
