"""The checker's modules one by one, against closed forms, quadrature in balls, and each other.

What they believe about activations (catalogue), Hermite coefficients, laws; float64 against balls for every bound; and
bounds from groupings that make no sense, which must be bounds all the same.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from flint import arb, ctx
from numpy.typing import NDArray
from scipy import special

from cases import ACTIVATIONS, planted, planted_gated
from pairs import FLOOR, RELATIVE, SIGMA, Pair, random_pair
from sparsemf import activations
from sparsemf.certificates.checker import equivalence as checked
from sparsemf.certificates.checker import evaluate, gated, gated_series, grouped, hermite, laws, series
from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.catalogue import CORES, ORDER, Core, image
from sparsemf.certificates.checker.expansion import Expanded, expanded, terms_of
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import encode
from sparsemf.certificates.equivalence import norm_for, raw_of
from sparsemf.measures import Gaussian, Network

Array = NDArray[np.float64]
UNIT = 2.0**-53
FLOAT, BALLS = Arithmetic(0), Arithmetic(128)
POWERS = {f"power{k}": k for k in range(2, 9)}


@pytest.fixture(autouse=True)
def _precision() -> Any:
    """Truths at 220 bits."""
    before, ctx.prec = ctx.prec, 220
    yield
    ctx.prec = before


def sigma(core: str, z: arb) -> arb:
    """A core activation at an exact point, from :mod:`pairs` and not from the checker."""
    if core in POWERS:
        out = arb(1)
        for _ in range(POWERS[core]):
            out = out * z
        return out
    return SIGMA[core][1](z)


def _grid(rng: np.random.Generator, largest: float = 60.0) -> Array:
    """Points at all scales, kinks among them."""
    tiny = 10.0 ** rng.uniform(-12, 0, 60) * rng.choice([-1.0, 1.0], 60)
    far = rng.uniform(-largest, largest, 60)
    return np.unique(np.concatenate([np.linspace(-9, 9, 721), tiny, far, [largest, -largest, 0.0]]))


# --- the catalogue --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ORDER)
def test_slopes(name: str) -> None:
    """|σ′ − centre| ≤ lipschitz by chords, sharp to a few per cent; the variation and the size of the steep ones."""
    core, z = CORES[name], _grid(np.random.default_rng(0), 20.0)
    value = [sigma(name, arb(float(t))) for t in z]
    slope = np.array(
        [
            float(((v - u) / (arb(float(t)) - arb(float(s)))).mid())
            for s, t, u, v in zip(z[:-1], z[1:], value[:-1], value[1:], strict=True)
        ]
    )
    if math.isfinite(core.lipschitz):
        off = np.abs(slope - core.centre)
        assert off.max() <= core.lipschitz * (1 + 4 * UNIT)
        assert off.max() >= 0.97 * core.lipschitz
        assert core.slope >= np.abs(slope).max() * (1 - 4 * UNIT)
    assert core.at_zero >= abs(float(sigma(name, arb(0)).mid()))
    assert all(abs(v).lower() <= core.bound for v in value)
    for reach in (1e-3, 0.4, 1.0, 3.0, 18.0):
        inside = np.abs(z) <= reach
        most = max(float(abs(v).mid()) for v, seen in zip(value, inside, strict=True) if seen)
        assert core.largest(np.array([reach]))[0] >= most * (1 - 1e-14)
        steep = np.abs(slope[inside[:-1] & inside[1:]])
        assert core.variation(np.array([reach]))[0] >= steep.max(initial=0.0) * (1 - 1e-14)


@pytest.mark.parametrize("name", ORDER)
def test_symmetries(name: str) -> None:
    """σ(z) = s·σ(−z) + p₀ + p₁z + p₂z², and σ(tz) = t^k σ(z)."""
    core = CORES[name]
    for z in (arb(0.3), arb(-1.7), arb(4.25), arb(-11)):
        if core.flip is not None:
            s, (p0, p1, p2) = core.flip
            rest = sigma(name, z) - (s * sigma(name, -z) + p0 + p1 * z + p2 * z * z)
            assert abs(rest).upper() < 1e-55, z
        if core.degree:
            t = arb(0.375)
            assert abs(sigma(name, t * z) - t**core.degree * sigma(name, z)).upper() < 1e-50
    # a core without a flip has none: the even and the odd part are both no quadratic polynomials
    if core.flip is None:
        z = [0.5, 1.0, 2.0, 4.0, 6.0]
        both = np.array([[float(sigma(name, arb(s * t)).mid()) for t in z] for s in (1, -1)])
        powers = np.stack([np.ones(5), np.array(z), np.square(z)], axis=1)
        for part in (both[0] + both[1], both[0] - both[1]):
            _, rest, *_ = np.linalg.lstsq(powers, part, rcond=None)
            assert float(rest[0]) > 1e-6


@pytest.mark.parametrize("name", ORDER)
def test_values(name: str) -> None:
    """Float64 to 64 units of roundoff of |σ(0)| + slope·|z|; balls to their radius, kinks inside them or not."""
    core, rng = CORES[name], np.random.default_rng(1)
    z = _grid(rng, 60.0)
    with np.errstate(all="ignore"):
        value = core.value(z)
    for t, v in zip(z, value, strict=True):
        truth = sigma(name, arb(float(t)))
        allowed = 64 * UNIT * float(core.largest(np.array([abs(t)]))[0])
        assert abs(truth - arb(float(v))).lower() <= allowed, t
        found = core.ball(arb(float(t)))
        assert found.overlaps(truth)
        assert found.rad() <= 1e-55 * (1 + abs(truth)), t
    for middle in (*z[::9], 0.0, 1e-9):
        radius = 10.0 ** rng.uniform(-9, 1)
        found = core.ball(arb(float(middle), radius))
        for part in (-1.0, -0.5, 0.0, 0.25, 1.0):
            point = arb(float(middle)) + arb(radius) * arb(0.999 * part)
            assert found.overlaps(sigma(name, point.mid())), (middle, radius, part)


COMPLEX: dict[str, Any] = {
    "tanh": np.tanh,
    "erf": special.erf,
    "arctan": np.arctan,
    "silu": lambda z: z / (1 + np.exp(-z)),
    "gelu": lambda z: 0.5 * z * special.erfc(-z / math.sqrt(2)),
    "gelu_tanh": lambda z: 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    # both branches are log(1 + e^z)
    "softplus": lambda z: np.where(z.real > 0, z, 0) + np.log1p(np.exp(np.where(z.real > 0, -z, z))),
}
COMPLEX["mish"] = lambda z: z * np.tanh(COMPLEX["softplus"](z))


def test_every_strip_is_looked_at() -> None:
    assert {name for name, core in CORES.items() if core.strip is not None} == set(COMPLEX)


@pytest.mark.parametrize("name", COMPLEX)
def test_strips(name: str) -> None:
    """|σ(z)| ≤ B₀ + B₁|z| on |Im z| ≤ y, and no singularity inside: Cauchy's integral around every tile is 0."""
    strip = CORES[name].strip
    assert strip is not None
    y, flat, slope = strip
    function = COMPLEX[name]
    x = np.concatenate([np.linspace(-8, 8, 1601), np.linspace(8, 60, 300), np.linspace(-60, -8, 300)])
    z = x[:, None] + 1j * np.linspace(-y, y, 161)[None, :]
    with np.errstate(over="ignore", invalid="ignore"):
        ratio = np.abs(function(z)) / (flat + slope * np.abs(z) + 1e-300)
    ratio = ratio[np.abs(z) > 0]
    assert np.isfinite(ratio).all()
    assert ratio.max() <= 1 + 1e-12
    assert ratio.max() > 0.05  # the constants are those of this strip
    real = np.linspace(-5, 5, 41)
    np.testing.assert_allclose(
        function(real + 0j).real, [float(sigma(name, arb(float(t))).mid()) for t in real], atol=1e-12
    )
    node, weight = np.polynomial.legendre.leggauss(40)
    half = 0.125
    for low, high in ((0.0, 0.5 * y), (0.5 * y, 0.999999 * y)):
        centre = 0.5 * (low + high)
        for left in np.arange(-8, 8, 2 * half):
            middle = left + half + 1j * centre
            across, along = half * node, 0.5 * (high - low) * node
            around = half * weight @ (function(middle + across - 0.5j * (high - low)))
            around -= half * weight @ (function(middle + across + 0.5j * (high - low)))
            up = function(middle + half + 1j * along) - function(middle - half + 1j * along)
            around += 0.5j * (high - low) * (weight @ up)
            size = np.abs(function(middle + across + 0.5j * (high - low))).max() + 1
            assert abs(around) <= 1e-6 * size, (left, low)


PARAMETERS = ("leaky_relu(0.3)", "elu(0.5)", "celu(2.0)", "hermite(2)", "hermite(5)", "hermite(8)")


@pytest.mark.parametrize("name", [*dict.fromkeys((*ACTIVATIONS, *SIGMA, *PARAMETERS))])
def test_images(name: str) -> None:
    """The sum of cores is the activation, with biases, scales that round, and coefficients; enclosed tightly."""
    rng = np.random.default_rng(2)
    name = "hermite(3)" if name == "hermite" else name
    f = Network(
        rng.standard_normal((3, 2)), 0.8 * rng.standard_normal((3, 2)), rng.normal(0, 1.2, 3), name, scale=1 / 3
    )
    f = f.with_(affine=rng.standard_normal((2, 2)), offset=rng.standard_normal(2))
    x = rng.standard_normal((12, 2)) * np.array([[0.1], [1.0], [3.0]] * 4)
    value = f(x)
    size = np.abs(activations.get(name).value(x @ f.inner.T + f.bias)) @ np.abs(f.alpha).sum(axis=1) + 10
    for arith in (FLOAT, BALLS):
        with arith.precision():
            low, high = evaluate.norms_at(arith, expanded(arith, (raw_of(f), 1.0)), x)
        found = np.linalg.norm(value, axis=1)
        assert (low <= found + 1e-13 * size).all()
        assert (found <= high + 1e-13 * size).all()
        assert (high - low <= 1e-10 * size * (1 + np.abs(x).max())).all()
    if name in SIGMA:
        for k, point in enumerate(x):
            truth = _value(f, point)
            assert low[k] * (1 - 1e-14) <= truth <= high[k] * (1 + 1e-14)
    assert terms_of(name) == len(image(name).terms)


def _value(f: Network, x: Array) -> float:
    """‖f(x)‖ at 220 bits."""
    total = arb(0)
    for o in range(f.m):
        out = arb(float(f.offset[o]))
        out += sum((arb(float(a)) * arb(float(t)) for a, t in zip(f.affine[o], x, strict=True)), arb(0))
        for i in range(f.width):
            z = sum((arb(float(w)) * arb(float(t)) for w, t in zip(f.inner[i], x, strict=True)), arb(float(f.bias[i])))
            out += arb(f.scale) * arb(float(f.outer[i, o])) * SIGMA[f.activation.name][1](z)
        total += out * out
    return float(total.sqrt().mid())


# --- Hermite coefficients -------------------------------------------------------------------------------------------

DEGREE = 8
_CUTS = np.arange(-15.0, 15.25, 0.5)
_KINKED = ("relu", "relu2", "softsign", "elu")


@cache
def _rule() -> list[tuple[arb, arb]]:
    return [arb.legendre_p_root(24, k, weight=True) for k in range(24)]


@cache
def _panel(low: float, high: float) -> list[tuple[arb, list[arb]]]:
    """Nodes of one panel and their weights against he_0 … he_K."""
    half, middle = (arb(high) - arb(low)) / 2, (arb(high) + arb(low)) / 2
    out = []
    for node, weight in _rule():
        g = middle + half * node
        rows = [half * weight * (-g * g / 2).exp() / (2 * arb.pi()).sqrt()]
        for k in range(1, DEGREE + 1):
            before = rows[k - 2] * arb(k - 1).sqrt() if k > 1 else arb(0)
            rows.append((g * rows[k - 1] - before) / arb(k).sqrt())
        out.append((g, rows))
    return out


def quadrature(name: str, r: float, b: float) -> tuple[list[arb], arb]:
    """(c_0 … c_K, E σ²) of σ(rg + b), Gauss–Legendre on panels cut at the kink, to 1e-20."""
    cuts = list(_CUTS)
    if name in _KINKED and -15 < -b / r < 15:
        cuts = sorted({*cuts, -b / r})
    out, square = [arb(0)] * (DEGREE + 1), arb(0)
    for low, high in pairwise(cuts):
        for g, rows in _panel(float(low), float(high)):
            value = sigma(name, (arb(r) * g + arb(b)).mid())
            out = [c + value * weight for c, weight in zip(out, rows, strict=True)]
            square += value * value * rows[0]
    return out, square


NEURONS = [(0.01, -0.5), (0.3, 3.0), (1.0, 0.0), (0.7, -0.4), (2.5, 1.3), (2.0, -9.0)]


@pytest.mark.parametrize("name", ORDER)
def test_hermite_coefficients(name: str) -> None:
    core = CORES[name]
    r, b = np.array([r for r, _ in NEURONS]), np.array([b for _, b in NEURONS])
    truth = [quadrature(name, *neuron) for neuron in NEURONS]
    with FLOAT.precision():
        c, error = hermite.coefficients(FLOAT, core, r, b, DEGREE)
        energy = hermite.energies(FLOAT, core, r, b)
    with BALLS.precision():
        exact, loss = hermite.coefficients(BALLS, core, BALLS.array(r), BALLS.array(b), DEGREE)
        exact_energy = hermite.energies(BALLS, core, BALLS.array(r), BALLS.array(b))
    for i, (row, square) in enumerate(truth):
        size = math.sqrt(float(square.mid()))
        # float64 evaluates σ itself with errors of this size
        scale = core.at_zero + size + NEURONS[i][0] + abs(NEURONS[i][1])
        off = [abs(v - arb(float(u))) for u, v in zip(c[i], row, strict=True)]
        assert math.sqrt(sum(float(v.mid()) ** 2 for v in off)) <= error[i] + 1e-19 * size, NEURONS[i]
        assert error[i] <= 2e-12 * scale
        for u, v in zip(exact[i], row, strict=True):
            assert abs(u - v).lower() <= loss[i] + 1e-19 * (1 + size), NEURONS[i]
            assert u.rad() + loss[i] <= 1e-20 * (1 + size)
        if name in POWERS:
            continue  # their series end; no energy is needed
        assert energy[i] >= float(square.mid()) * (1 - 1e-15)
        assert energy[i] <= float(square.mid()) + 1e-11 * scale**2
        assert exact_energy[i].upper() >= square.lower()
        assert exact_energy[i].upper() - square.upper() <= 1e-18 * (1 + size) ** 2


def test_steep_neurons_are_given_up() -> None:
    for arith in (FLOAT, BALLS):
        with arith.precision(), pytest.raises(Undefined):
            hermite.coefficients(arith, CORES["tanh"], arith.array([1e6]), arith.array([0.1]), 4)
    r, b = np.array([1e6]), np.array([0.1])
    with FLOAT.precision():
        c, error = hermite.coefficients(FLOAT, CORES["relu"], r, b, 1)
    beta = 1e-7
    first = 1e6 * (beta * special.ndtr(beta) + math.exp(-beta * beta / 2) / math.sqrt(2 * math.pi))
    np.testing.assert_allclose(c[0], [first, 1e6 * special.ndtr(beta)], rtol=1e-14)
    assert error[0] < 1e-5


# --- laws -----------------------------------------------------------------------------------------------------------


def _norms(rng: np.random.Generator, d: int) -> dict[str, Norm]:
    root = rng.standard_normal((d, d))
    return {
        "standard": Norm("gaussian"),
        "diagonal": Norm("gaussian", mean=rng.standard_normal(d), root=np.diag(rng.uniform(0.2, 2.0, d))),
        "dense": Norm("gaussian", mean=rng.standard_normal(d), root=root),
        "thin": Norm("gaussian", mean=rng.standard_normal(d), root=root[:, : d - 1]),
        "empirical": Norm("empirical", rows=rng.standard_normal((7, d))),
        "sup": Norm("sup", radius=1.7),
    }


KINDS = ("standard", "diagonal", "dense", "thin", "empirical", "sup")


def _moments(norm: Norm, w: Array, b: float) -> tuple[float, float]:
    """Mean and standard deviation of ⟨w, x⟩ + b, x Gaussian."""
    if norm.mean is None or norm.root is None:
        return b, float(np.linalg.norm(w))
    return b + float(w @ norm.mean), float(np.linalg.norm(norm.root.T @ w))


def _size(norm: Norm, w: Array, b: float) -> float:
    if norm.kind == "sup":
        return norm.radius * float(np.linalg.norm(w)) + abs(b)
    if norm.kind == "empirical":
        return float(np.sqrt(np.mean((norm.data @ w + b) ** 2)))
    return math.hypot(*_moments(norm, w, b))


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_of_linear_functions(kind: str) -> None:
    rng = np.random.default_rng(3)
    d = 4
    norm = _norms(rng, d)[kind]
    w = rng.standard_normal((9, d)) * 10.0 ** rng.uniform(-9, 6, 9)[:, None]
    b = rng.standard_normal(9) * 10.0 ** rng.uniform(-9, 6, 9)
    truth = np.array([_size(norm, *pair) for pair in zip(w, b, strict=True)])
    for arith in (FLOAT, BALLS):
        with arith.precision():
            found = norm.sizes(arith, arith.array(w), arith.array(b))
        assert (found >= truth * (1 - 1e-15 if arith.exact else 1)).all()
        near = 1e-13 * norm.reach(d) * np.sqrt(np.sum(w**2, axis=1) + b**2)
        assert (found <= truth * (1 + 1e-13) + (near if not arith.exact else 1e-280)).all()
    assert (truth <= norm.reach(d) * np.sqrt(np.sum(w**2, axis=1) + b**2) * (1 + 1e-14)).all()
    # the norm of a linear map: Frobenius over the outputs, or sup of its length
    slope, constant = rng.standard_normal((3, d)), rng.standard_normal(3)
    with FLOAT.precision():
        found = norm.affine(FLOAT, slope, constant)
    if kind == "sup":
        directions = rng.standard_normal((4000, d))
        x = norm.radius * directions / np.linalg.norm(directions, axis=1)[:, None]
        most = np.linalg.norm(x @ slope.T + constant, axis=1).max()
        assert most <= found <= (norm.radius * np.linalg.norm(slope) + np.linalg.norm(constant)) * (1 + 1e-12)
    else:
        whole = math.sqrt(sum(_size(norm, *pair) ** 2 for pair in zip(slope, constant, strict=True)))
        assert whole <= found * (1 + 1e-15) <= whole * (1 + 1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_moments_of_linear_functions(kind: str) -> None:
    """‖ℓ‖_{L^q} ≤ factor(q)·‖ℓ‖, from E(μ + sg)^q; nearly attained where it can be."""
    rng = np.random.default_rng(4)
    norm = _norms(rng, 3)[kind]
    best: dict[int, float] = {}
    for _ in range(60):
        w, b = rng.standard_normal(3), float(rng.choice([0.0, 1.0, 5.0]) * rng.standard_normal())
        size = _size(norm, w, b)
        for q in (2, 4, 6, 8, 12):
            if norm.kind == "sup":
                moment = size**q
            elif norm.kind == "empirical":
                moment = float(np.mean((norm.data @ w + b) ** q))
            else:
                mean, sd = _moments(norm, w, b)
                gauss = [special.factorial2(k - 1) if k else 1.0 for k in range(0, q + 1, 2)]
                moment = sum(
                    special.comb(q, 2 * k) * mean ** (q - 2 * k) * sd ** (2 * k) * g for k, g in enumerate(gauss)
                )
            ratio = moment ** (1 / q) / (norm.factor(q) * size)
            assert ratio <= 1 + 1e-13
            best[q] = max(best.get(q, 0.0), float(ratio))
    assert best[4] > (0.999 if kind in ("standard", "sup") else 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_exponentials_of_linear_functions(kind: str) -> None:
    """‖e^ℓ‖ ≤ C and ‖δ e^ℓ‖ ≤ C·size(δ), by E δ²e^{2ℓ} = e^{2μ + 2v}[(m + 2cov)² + var]."""
    rng = np.random.default_rng(5)
    norm = _norms(rng, 3)[kind]
    assert norm.exponential(26.0) == math.inf
    for _ in range(100):
        w, b = rng.standard_normal(3), float(rng.standard_normal())
        scale = float(10.0 ** rng.uniform(-3, 0.3)) / _size(norm, w, b)
        w, b = scale * w, scale * b
        v, c = rng.standard_normal(3), float(rng.standard_normal())
        bound = norm.exponential(_size(norm, w, b))
        if kind == "empirical":
            assert bound == math.inf
        elif kind == "sup":
            assert math.exp(_size(norm, w, b)) <= bound * (1 + 1e-14)
        else:
            mean, sd = _moments(norm, w, b)
            first, spread = _moments(norm, v, c)
            root = np.eye(3) if norm.root is None else norm.root
            cov = float((root.T @ w) @ (root.T @ v))
            assert math.exp(mean + sd**2) <= bound
            moment = math.exp(2 * mean + 2 * sd**2) * ((first + 2 * cov) ** 2 + spread**2)
            assert math.sqrt(moment) <= bound * _size(norm, v, c)


def test_the_spectral_norm_is_bounded_tightly() -> None:
    rng = np.random.default_rng(6)
    for shape in ((1, 5), (5, 1), (3, 3), (4, 9), (30, 7)):
        for scale in (1.0, 1e-80, 1e80):
            x = scale * rng.standard_normal(shape)
            truth = float(np.linalg.norm(x, 2))
            for arith in (FLOAT, BALLS):
                with arith.precision():
                    found = laws.spectral(arith, arith.array(x))
                assert truth * (1 - 1e-14) <= found <= truth * min(shape) ** (1 / 16) * (1 + 1e-8)
    assert laws.spectral(FLOAT, np.zeros((3, 2))) == 0.0


@pytest.mark.parametrize("kind", ["standard", "dense", "thin"])
def test_quadratic_forms_in_white_coordinates(kind: str) -> None:
    """xᵀqx = (g, 1)ᵀ q′ (g, 1)."""
    rng = np.random.default_rng(7)
    norm = _norms(rng, 3)[kind]
    q = rng.standard_normal((3, 3))
    q = q + q.T
    root, mean = (np.eye(3), np.zeros(3)) if norm.root is None or norm.mean is None else (norm.root, norm.mean)
    for arith in (FLOAT, BALLS):
        with arith.precision():
            form, lost = norm.white_quadratic(arith, arith.array(q))
        form = np.array([[float(v.mid()) if arith.exact else float(v) for v in row] for row in form])
        g = rng.standard_normal(root.shape[1])
        x, tilde = mean + root @ g, np.append(g, 1.0)
        assert x @ q @ x == pytest.approx(tilde @ form @ tilde, rel=1e-11)
        assert lost <= 1e-12 * norm.reach(3) ** 2


# --- float64 against balls ------------------------------------------------------------------------------------------


def _matched(a: Network, b: Network) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The grouping of two networks of one activation that puts neuron i of B with neuron i of A."""
    n = a.width * terms_of(a.activation.name)
    own = np.arange(n)
    return np.concatenate([own, own]), np.ones(2 * n, dtype=np.int64)


def _evidence(
    leader: NDArray[np.int64], flip: NDArray[np.int64], bits: int, degree: int, direction: Array | None, x: Array
) -> dict[str, Any]:
    return {
        "bits": bits, "degree": degree, "norm_degree": degree, "gram": True, "norm_gram": True,
        "leader": encode(leader.astype(np.int32)), "sign": encode(flip.astype(np.int8)),
        "direction": None if direction is None else encode(direction), "witness": encode(x), "norm_point": encode(x),
    }  # fmt: skip


def _agree(first: tuple[float, float], second: tuple[float, float], mass: float) -> None:
    """Two enclosures of one number that differ by rounding only: that of the Gram form is relative to mass²."""
    (low, high), (least, most) = first, second
    assert low <= most
    assert least <= high
    slack = 3e-10 * mass**2
    assert high == most or high**2 <= most**2 * (1 + 1e-9) + slack
    assert low**2 >= least**2 * (1 - 1e-9) - slack


@pytest.mark.parametrize("kind", ["standard", "dense", "empirical", "sup"])
@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n != "hermite"])
def test_float64_and_balls_agree(name: str, kind: str) -> None:
    rng = np.random.default_rng([8, *name.encode()])
    a = planted(rng, name, d=2, atoms=2, outputs=2, bias=True, length=0.7, affine=True)
    b = a.with_(inner=a.inner * (1 + 1e-2 * rng.standard_normal(a.inner.shape)), offset=a.offset + 1e-3)
    _both(a, b, _norms(rng, 2)[kind], rng)


@pytest.mark.parametrize("kind", ["standard", "dense", "empirical", "sup"])
@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "sigmoid", "tanh", "linear", "abs", "hardtanh", "softplus"])
def test_float64_and_balls_agree_on_gated_blocks(name: str, kind: str) -> None:
    rng = np.random.default_rng([9, *name.encode()])
    a = planted_gated(rng, name, d=2, atoms=2, outputs=2, polynomial=True)
    assert a.gate is not None
    b = a.with_(gate=a.gate * (1 + 1e-2 * rng.standard_normal(a.gate.shape)), offset=a.offset + 1e-3)
    _both(a, b, _norms(rng, 2)[kind], rng)


def _both(a: Network, b: Network, norm: Norm, rng: np.random.Generator) -> None:
    leader, flip = _matched(a, b)
    u = rng.standard_normal(2)
    x = rng.standard_normal(2)
    direction, x = u / np.linalg.norm(u), x / np.linalg.norm(x)
    raw_a, raw_b = raw_of(a), raw_of(b)
    found, sizes = [], []
    for bits in (0, 128):
        evidence = _evidence(leader, flip, bits, 6, direction if norm.kind == "gaussian" else None, x)
        found.append(checked.prove(norm, raw_a, raw_b, evidence))
        sizes.append(checked.norm_bounds(norm, raw_a, evidence))
    mass = sizes[1][1] + 1.0
    for one in (found[0], found[1]):
        assert 0 <= one.lower <= one.upper
    _agree((found[0].lower, found[0].upper), (found[1].lower, found[1].upper), mass)
    _agree(sizes[0], sizes[1], mass)
    assert [x.k for x in found[0].degrees] == [x.k for x in found[1].degrees]
    for one, other in zip(found[0].degrees, found[1].degrees, strict=True):
        assert one.lower == pytest.approx(other.lower, rel=1e-9, abs=1e-11 * mass)
    if norm.kind == "gaussian":
        assert found[1].lower > 0
    # the same point, in both arithmetics
    size = checked.entries(raw_a, raw_b)
    low = checked.witness_gap(raw_a, raw_b, x)
    value = float(np.linalg.norm(a(x[None]) - b(x[None])))
    assert low <= value * (1 + 1e-11) + 1e-13 * mass
    assert low >= value * (1 - 1e-11) - 1e-13 * mass
    before, checked.MOST_BALL_ENTRIES = checked.MOST_BALL_ENTRIES, size - 1
    try:
        rounded = checked.witness_gap(raw_a, raw_b, x)
    finally:
        checked.MOST_BALL_ENTRIES = before
    assert rounded <= low * (1 + 1e-14)
    assert rounded >= low - 1e-11 * mass


# --- truths ---------------------------------------------------------------------------------------------------------

WRONG = 4


def _any_grouping(rng: np.random.Generator, h: Expanded) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Leaders of the same core and flips of what has one; otherwise nonsense."""
    n = h.core.size
    leader, flip = np.arange(n), np.ones(n, dtype=np.int64)
    few = rng.random() < 0.5
    for core, rows in h.cores():
        heads = rng.choice(rows, 1 + rng.integers(rows.size)) if few else rows
        leader[rows] = rng.choice(heads, rows.size)
        if core.flip is not None:
            flip[rows] = rng.choice([-1, 1], rows.size)
    leader[rng.random(n) < 0.1] = -1
    return leader, flip


def _plain(rng: np.random.Generator, name: str, gaussian: bool = False) -> Pair:
    """A random pair of plain networks."""
    while True:
        pair = random_pair(rng, name)
        if pair.a.gate is None and (not gaussian or isinstance(pair.law, Gaussian)):
            return pair


@pytest.mark.parametrize("name", SIGMA)
def test_wrong_groupings_give_bounds_all_the_same(name: str) -> None:
    rng = np.random.default_rng([10, *name.encode()])
    for case in range(3):
        pair = _plain(rng, name)
        norm = norm_for(pair.law, None)
        for arith in (FLOAT, BALLS) if case == 0 else (FLOAT,):
            with arith.precision(), np.errstate(all="ignore"):
                h = expanded(arith, (raw_of(pair.a), 1.0), (raw_of(pair.b), -1.0))
                for _ in range(WRONG):
                    leader, flip = _any_grouping(rng, h)
                    upper = grouped.upper(arith, norm, h, leader, flip)
                    assert upper >= pair.truth * (1 - RELATIVE) - FLOOR, (pair.label, leader, flip)


@pytest.mark.parametrize("name", SIGMA)
def test_the_gram_form_brackets_the_truth_however_it_is_grouped(name: str) -> None:
    rng = np.random.default_rng([11, *name.encode()])
    for case in range(3):
        pair = _plain(rng, name, gaussian=True)
        norm = norm_for(pair.law, None)
        for arith in (FLOAT, BALLS) if case == 0 else (FLOAT,):
            with arith.precision(), np.errstate(all="ignore"):
                h = expanded(arith, (raw_of(pair.a), 1.0), (raw_of(pair.b), -1.0))
                try:
                    f = series.spectrum(arith, norm, h, 6)
                except Undefined:
                    continue
                alone = (np.arange(h.core.size), np.ones(h.core.size, dtype=np.int64))
                for leader, flip in (alone, *(_any_grouping(rng, h) for _ in range(WRONG))):
                    low, high = series.gram(arith, norm, h, f, leader, flip)
                    assert not pair.outside(low, high), (pair.label, low, pair.truth, high)
                d = f.unit.shape[1]
                for _ in range(2):
                    u = rng.standard_normal(d)
                    found = series.degrees(arith, f, u / np.linalg.norm(u))
                    assert not pair.outside(series.linear_lower(found), np.inf), (pair.label, pair.truth)


@pytest.mark.parametrize("case", range(24))
def test_gated_bounds_bracket_the_truth_however_they_are_grouped(case: int) -> None:
    # the first draw of random_pair decides
    seeds = (k for k in range(100 * case, 100 * case + 100) if np.random.default_rng([12, k]).random() < 0.1)
    rng = np.random.default_rng([12, next(seeds)])
    pair = random_pair(rng)
    assert pair.a.gate is not None
    norm = norm_for(pair.law, None)
    a, b = raw_of(pair.a), raw_of(pair.b)
    for arith in (FLOAT, BALLS) if case % 4 == 0 else (FLOAT,):
        with arith.precision(), np.errstate(all="ignore"):
            h = gated.expand(arith, (a, 1.0), (b, -1.0))
            for _ in range(WRONG):
                leader, flip = _any_grouping(rng, h.gates)
                u = rng.standard_normal(pair.a.d)
                direction = u / np.linalg.norm(u)
                if norm.root is not None:
                    direction = np.zeros(norm.root.shape[1])
                    direction[0] = 1.0
                for form in (False, True):
                    low, high, _ = gated_series.distance_bounds(arith, norm, a, b, leader, flip, direction, 5, form)
                    assert not pair.outside(low, high), (pair.label, low, pair.truth, high)


def test_groupings_that_make_no_sense_are_refused() -> None:
    rng = np.random.default_rng(13)
    a = planted(rng, "elu", d=2, atoms=2)
    with FLOAT.precision():
        h = expanded(FLOAT, (raw_of(a), 1.0), (raw_of(a.with_(activation="relu")), -1.0))
        own, plus = np.arange(4), np.ones(4, dtype=np.int64)
        for leader, flip, message in (
            (own[:3], plus, "does not fit"),
            (own + 1, plus, "does not fit"),
            (own - 2, plus, "does not fit"),
            (own, 2 * plus, "±1"),
            (np.array([0, 0, 0, 3]), plus, "mixes activations"),
            (own, np.array([-1, 1, 1, 1]), "has no flip"),
        ):
            with pytest.raises(ValueError, match=message):
                grouped.upper(FLOAT, Norm("gaussian"), h, leader, flip)
        # elu's neuron alone has none; relu's has
        assert np.isfinite(grouped.upper(FLOAT, Norm("gaussian"), h, own, np.array([1, 1, -1, -1])))


def test_cores_keep_their_place() -> None:
    """Certificates group by the position of a core, so the order is part of the format."""
    assert isinstance(CORES["relu"], Core)
    assert ORDER[:4] == ("relu", "relu2", "tanh", "erf")
    assert len(ORDER) == 22
