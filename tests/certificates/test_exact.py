"""S* at ε = 0: invariance under exact group elements, cancelled kinks, neighbours in the last bit, waves, gates."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from cases import ACTIVATIONS, Array, planted, planted_gated
from sparsemf.activations import get
from sparsemf.certificates.exact import THEOREMS, ExactCount, exact_count, full_support
from sparsemf.certificates.exact_gated import DECIDED
from sparsemf.measures import Empirical, Gaussian, Network

INDEPENDENT = [name for name in ACTIVATIONS if name.split("(")[0] in THEOREMS]
KINKED = ["relu", "leaky_relu", "abs", "relu2", "leaky_relu(0.3)"]
GATES = [name for name in DECIDED if name not in ("relu", "leaky_relu", "abs")]


def decided(found: ExactCount) -> int:
    """The value of a count that must be certified."""
    assert found.certified
    assert found.value == found.lower == found.upper
    return found.upper


def small_integers(rng: np.random.Generator, atoms: int, d: int, m: int) -> tuple[Array, Array, Array]:
    """Pairwise independent (w, b) with small entries, so that products with small numbers are exact."""
    while True:
        inner, bias = rng.integers(-9, 10, (atoms, d)).astype(float), rng.integers(-9, 10, atoms).astype(float)
        points = np.concatenate([inner, bias[:, None]], axis=1)
        if inner.any(axis=1).all() and all(
            np.linalg.matrix_rank(points[[i, j]]) == 2 for i in range(atoms) for j in range(i)
        ):
            return rng.integers(1, 10, (atoms, m)) * rng.choice([-1.0, 1.0], (atoms, m)), inner, bias


def split(rng: np.random.Generator, net: Network, power: int) -> Network:
    """Exact group elements: every neuron in shares 5 − 7 + 3 of its coefficient, each flipped and scaled by a power of
    two where σ allows it, and permuted.  Nothing is rounded."""
    outer, inner, bias = [], [], []
    relation = net.activation.relation
    for a, w, b in zip(net.outer, net.inner, net.bias, strict=True):
        for piece in (5.0 * a, -7.0 * a, 3.0 * a):
            t = 1.0
            if net.activation.homogeneous:
                t = 2.0 ** float(rng.integers(-40, 41))
            # −7 + 5 + 3 = 1
            side = 1.0
            if relation is not None and rng.random() < 0.5:
                side = -1.0
                piece = relation.sign * piece
            outer.append(piece / t**power)
            inner.append(side * t * w)
            bias.append(side * t * b)
    order = rng.permutation(len(bias))
    return net.with_(outer=np.array(outer)[order], inner=np.array(inner)[order], bias=np.array(bias)[order])


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("name", INDEPENDENT)
def test_exact_group_elements_keep_the_count(name: str, m: int) -> None:
    rng = np.random.default_rng(3)
    net = Network(*small_integers(rng, 6, 4, m), name, scale=1 / 3)
    power = net.activation.homogeneous or 0
    assert decided(exact_count(net)) == 6
    disguised = split(rng, net, power)
    assert disguised.width == 18
    assert decided(exact_count(disguised)) == 6
    # a neuron with no outgoing weight, and a constant
    extra = disguised.with_(
        outer=np.concatenate([disguised.outer, np.zeros((1, m)), np.ones((1, m))]),
        inner=np.concatenate([disguised.inner, np.ones((1, 4)), np.zeros((1, 4))]),
        bias=np.concatenate([disguised.bias, [0.5, 0.5]]),
    )
    assert decided(exact_count(extra)) == 6


@pytest.mark.parametrize("name", INDEPENDENT)
def test_one_unit_in_the_last_place_is_another_atom(name: str) -> None:
    rng = np.random.default_rng(4)
    outer, inner, bias = small_integers(rng, 3, 3, 1)
    inner, bias = np.concatenate([inner, inner[:1]]), np.concatenate([bias, bias[:1]])
    outer = np.concatenate([outer, -outer[:1]])
    assert decided(exact_count(Network(outer, inner, bias, name))) == 2
    k = int(np.flatnonzero(inner[3])[0])
    inner[3, k] = np.nextafter(inner[3, k], np.inf)
    # a dipole at distance 2e-16: two atoms
    assert decided(exact_count(Network(outer, inner, bias, name))) == 4


@pytest.mark.parametrize("name", INDEPENDENT)
def test_a_cancelled_pair_differs_from_one_that_cancels_to_rounding(name: str) -> None:
    inner = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [2.0, 1.0]])
    bias = np.ones(4)
    one = exact_count(Network([[0.1], [0.2], [-0.3], [1.0]], inner, bias, name))
    assert decided(one) == 2
    none = exact_count(Network([[0.1], [0.1], [-0.2], [1.0]], inner, bias, name))
    assert (decided(none), none.evidence["cancelled"]) == (1, 1)


def kinks_on_a_line(net: Network) -> int:
    """The number of slope changes of a relu-type f on R, in fractions."""

    def value(x: Fraction) -> Fraction:
        total = Fraction(0)
        for a, w, b in zip(net.outer[:, 0], net.inner[:, 0], net.bias, strict=True):
            z = Fraction(w) * x + Fraction(b)
            positive, negative = net.activation.positive, net.activation.negative  # type: ignore[attr-defined]
            total += Fraction(float(a)) * (Fraction(positive) * max(z, 0) + Fraction(negative) * max(-z, 0))
        return total

    places = sorted({-Fraction(b) / Fraction(w) for w, b in zip(net.inner[:, 0], net.bias, strict=True) if w})
    count = 0
    for i, x in enumerate(places):
        gaps = [abs(x - y) for j, y in enumerate(places) if i != j] or [Fraction(1)]
        step = min(gaps) / 2
        count += value(x + step) + value(x - step) != 2 * value(x)
    return count


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("name", ["relu", "leaky_relu(0.3)", "abs"])
def test_kinks_on_a_line_by_second_differences(name: str, seed: int) -> None:
    """Small integers meet and cancel often."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    outer, inner = rng.integers(-2, 3, (n, 1)), rng.integers(-2, 3, (n, 1))
    net = Network(outer, inner, rng.integers(-2, 3, n), name)
    assert decided(exact_count(net)) == kinks_on_a_line(net)


def test_relu2_kinks_compensate_by_squares() -> None:
    """relu²(z) + relu²(−z) = z²: no kink; relu²(2z) is four of them; the difference is two."""
    w = np.array([[1.0, -1.0], [-1.0, 1.0], [2.0, -2.0]])
    b = np.array([0.5, -0.5, 1.0])
    assert decided(exact_count(Network([[1.0], [1.0], [0.0]], w, b, "relu2"))) == 0
    assert decided(exact_count(Network([[1.0], [-1.0], [0.0]], w, b, "relu2"))) == 1
    assert decided(exact_count(Network([[4.0], [0.0], [-1.0]], w, b, "relu2"))) == 0
    assert decided(exact_count(Network([[4.0], [4.0], [-1.0]], w, b, "relu2"))) == 1


def test_opposite_relus_on_one_hyperplane_are_one_kink() -> None:
    w, b = [[1.0, 2.0], [-3.0, -6.0]], [0.5, -1.5]
    assert decided(exact_count(Network([[1.0], [2.0]], w, b, "relu"))) == 1
    assert decided(exact_count(Network([[3.0], [-1.0]], w, b, "relu"))) == 0


def test_half_precision_numbers_are_what_they_are() -> None:
    """float16 rows that were proportional before rounding are not, and those scaled by 2 are."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((5, 3))
    half = np.concatenate([w, 2 * w, 3 * w]).astype(np.float16)
    net = Network(rng.standard_normal((15, 2)).astype(np.float16), half, None, "relu")
    assert decided(exact_count(net)) == 10


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_frequencies(name: str) -> None:
    w = np.array([[1.0, 0.5], [-1.0, -0.5], [1.0, 0.5], [2.0, 1.0]])
    one = Network([[1.0], [2.0], [3.0], [1.0]], w, [0.25, 1.0, 7.0, 0.0], name)
    assert decided(exact_count(one)) == 2
    # equal phases cancel, phases 2π apart in floating point do not
    sign = 1.0 if name == "sin" else -1.0
    gone = Network([[1.0], [sign], [0.0], [1.0]], w, [0.25, -0.25, 0.0, 0.0], name)
    assert decided(exact_count(gone)) == 1
    period = Network([[1.0], [-1.0]], w[[0, 2]], [0.25, 0.25 + 2 * np.pi], name)
    assert decided(exact_count(period)) == 1


@pytest.mark.parametrize("name", ["sin", "cos"])
@pytest.mark.parametrize("seed", range(10))
def test_rank_of_a_frequency_against_singular_values(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 4)), int(rng.integers(2, 5))
    w = np.tile(rng.integers(1, 5, (1, 2)), (n, 1)) * rng.choice([-1.0, 1.0], (n, 1))
    outer, bias = rng.integers(-2, 3, (n, m)).astype(float), rng.integers(-2, 3, n).astype(float)
    side = np.sign(w[:, 0])
    v = (outer * (side if name == "sin" else np.ones(n))[:, None]).T @ np.exp(1j * side * bias)
    truth = int(np.linalg.matrix_rank(np.stack([v.real, v.imag]), tol=1e-9))
    assert decided(exact_count(Network(outer, w, bias, name))) == truth


def test_rank_one_by_cancelling_sines() -> None:
    """a(e^{i} + e^{−i}) + c is real for vectors a, c that are not parallel; one bit away it is not."""
    outer = np.array([[1.0, 2.0], [5.0, 7.0], [1.0, 2.0]])
    w, bias = np.tile([[1.0, 3.0]], (3, 1)), np.array([-1.0, 0.0, 1.0])
    assert decided(exact_count(Network(outer, w, bias, "sin"))) == 1
    bias[2] = np.nextafter(1.0, 2.0)
    assert decided(exact_count(Network(outer, w, bias, "sin"))) == 2


def test_exponentials_of_one_rate_are_one_atom() -> None:
    w = np.array([[1.0, 2.0], [1.0, 2.0], [-1.0, -2.0]])
    assert decided(exact_count(Network([[1.0], [-2.0], [1.0]], w, [0.0, 0.5, 0.0], "exp"))) == 2
    # e^{log 2} is not 2, for no float
    assert decided(exact_count(Network([[2.0], [-1.0]], w[:2], [0.0, np.log(2.0)], "exp"))) == 1
    assert decided(exact_count(Network([[2.0], [-2.0]], w[:2], [0.5, 0.5], "exp"))) == 0


@pytest.mark.parametrize("name", [*GATES, "relu", "leaky_relu", "abs"])
def test_gates_count_the_rank_of_their_matrix(name: str) -> None:
    rng = np.random.default_rng(5)
    net = planted_gated(rng, name, d=4, atoms=3, outputs=3, shared=1)
    assert decided(exact_count(net)) == 4
    # (α, v) = (2a, v) and (−2a, v + u) make −2a uᵀ: rank 1; then a flip of the gate where σ allows it
    gate, shift = net.gate, net.gate_bias
    assert gate is not None
    assert shift is not None
    outer = np.array([[1.0, 2.0, -1.0], [-1.0, -2.0, 1.0], [3.0, 1.0, 4.0]])
    value = np.array([[1.0, 2.0, 0.0, 0.0], [1.0, 5.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0]])
    same = np.tile(gate[:1], (3, 1)), np.tile(shift[:1], 3)
    three = Network(outer, value, [1.0, 2.0, 3.0], name, gate=same[0], gate_bias=same[1])
    assert decided(exact_count(three)) == 2
    relation = get(name).relation
    if relation is not None:
        sign = np.array([1.0, -1.0, 1.0])
        flipped = three.with_(
            outer=outer * np.where(sign > 0, 1.0, relation.sign)[:, None],
            gate=same[0] * sign[:, None],
            gate_bias=same[1] * sign,
        )
        assert decided(exact_count(flipped)) == 2
    moved = same[0].copy()
    moved[1, 0] = np.nextafter(moved[1, 0], 2.0)
    assert decided(exact_count(three.with_(gate=moved))) == 3


def test_relu_gates_scale_exactly() -> None:
    gate = np.array([[1.0, 3.0], [3.0, 9.0], [-2.0, -6.0]])
    net = Network([[3.0], [-1.0], [1.0]], [[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]], None, "relu", gate=gate)
    # 3·ℓ·relu(u) − ℓ·relu(3u) = 0, and the flipped gate is left
    assert decided(exact_count(net)) == 1


def test_gates_that_are_not_decided_say_so() -> None:
    rng = np.random.default_rng(6)
    found = exact_count(planted_gated(rng, "mish"))
    assert (found.lower, found.certified, found.value) == (0, False, None)
    assert "not proved" in found.reason
    # relu²: opposite gates of one value cancel below and are two above
    gate = np.array([[1.0, 2.0], [-1.0, -2.0]])
    both = exact_count(Network([[1.0], [1.0]], [[1.0, 0.0], [1.0, 0.0]], None, "relu2", gate=gate))
    assert (both.lower, both.upper) == (0, 2)
    one = exact_count(Network([[1.0], [-1.0]], [[1.0, 0.0], [1.0, 0.0]], None, "relu2", gate=gate))
    assert (one.lower, one.upper) == (1, 2)


def test_bilinear_blocks_are_quadratic_polynomials() -> None:
    """S* = 0 with a free quadratic part; without, the larger index of inertia: x₁² + x₂² − x₃² needs two products."""
    eye = np.eye(3)
    net = Network([[1.0], [1.0], [-1.0]], eye, None, "linear", gate=eye)
    found = exact_count(net)
    assert decided(found) == 0
    assert found.minimal_width is not None
    assert found.minimal_width.value == 2
    rng = np.random.default_rng(7)
    gate, inner, outer = rng.integers(-3, 4, (5, 4)), rng.integers(-3, 4, (5, 4)), rng.integers(1, 3, (5, 1))
    form = (gate * outer).T @ inner
    values = np.linalg.eigvalsh(form + form.T)
    width = exact_count(Network(outer, inner, None, "linear", gate=gate)).minimal_width
    assert width is not None
    assert width.value == max(np.sum(values > 1e-9), np.sum(values < -1e-9))


def test_laws_without_full_support_exclude_nothing() -> None:
    rng = np.random.default_rng(8)
    net = planted(rng, "tanh", d=3, atoms=4)
    tilted = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [2.0, 1.0, 1e-9]])
    assert full_support(Gaussian(np.ones(3), tilted))
    assert not full_support(Gaussian(np.ones(3), tilted[:, :2]))
    assert not full_support(Gaussian(np.ones(3), np.outer([1.0, 2.0, 3.0], [1.0, 0.5, 0.25])))
    assert decided(exact_count(net, Gaussian(np.ones(3), tilted))) == 4
    for law in (Gaussian(np.ones(3), tilted[:, :2]), Empirical.of(rng.standard_normal((50, 3)))):
        found = exact_count(net, law)
        assert (found.lower, found.upper, found.certified) == (0, 4, False)
        assert "full support" in found.reason


def test_a_silent_scale_and_an_empty_network() -> None:
    rng = np.random.default_rng(9)
    for name in ACTIVATIONS:
        net = planted(rng, name, d=3, atoms=2)
        assert decided(exact_count(net.with_(scale=0.0))) == 0
        assert decided(exact_count(Network(np.zeros((0, 2)), np.zeros((0, 3)), None, name))) == 0


def test_the_document_is_json_and_complete() -> None:
    found = exact_count(Network([[1.0]], [[1.0, 2.0]], None, "relu", affine=[[1.0, 0.0]])).document()
    assert set(found) == {
        "value", "lower", "upper", "certified", "counts", "reason", "evidence", "minimal_width",
    }  # fmt: skip
    assert set(found["minimal_width"]) == {
        "value", "lower", "upper", "reason", "signs", "neurons", "doubled", "solver",
    }  # fmt: skip
    assert found["counts"] == "kinks"


def test_width_16384_takes_seconds() -> None:
    """Half of the neurons are scaled copies; CPU time with a wide margin for slow machines."""
    import time

    rng = np.random.default_rng(10)
    w, b, a = (rng.standard_normal(s).astype(np.float32) for s in ((8192, 64), 8192, (8192, 4)))
    net = Network(np.concatenate([a, a]), np.concatenate([w, 2 * w]), np.concatenate([b, 2 * b]), "relu")
    started = time.process_time()
    assert decided(exact_count(net)) == 8192
    assert time.process_time() - started < 60
