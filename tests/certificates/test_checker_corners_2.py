"""More corners where a bound of the checker once was no bound: coefficients and squares that underflow, points outside
a tiny ball, JSON's whole numbers, balls as wide as what they hold.  Each compares with a truth in closed form or in
exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from flint import arb
from numpy.typing import NDArray

from sparsemf.certificates.checker import equivalence, series
from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.catalogue import CORES, ORDER
from sparsemf.certificates.checker.check import check
from sparsemf.certificates.checker.document import Refused, number, seal
from sparsemf.certificates.checker.equivalence import Proved
from sparsemf.certificates.checker.expansion import Expanded, expanded
from sparsemf.certificates.checker.flattening import Group, Tensors, tails
from sparsemf.certificates.checker.hermite import coefficients
from sparsemf.certificates.checker.laws import Norm, norm_of_sum
from sparsemf.certificates.checker.raw import Raw, Unreadable, encode
from sparsemf.certificates.witnesses import published

Array = NDArray[np.float64]
STANDARD = Norm("gaussian")


def raw(activation: str, outer: Any, w: Any, b: Any = None, scale: float = 1.0, **arrays: Any) -> Raw:
    given = {"outer": np.atleast_2d(outer), "inner": np.atleast_2d(w), **arrays}
    if b is not None:
        given["bias"] = np.atleast_1d(b)
    return Raw.of({name: np.asarray(value, dtype=float) for name, value in given.items()}, activation, scale)


def evidence(a: Raw, b: Raw, **given: Any) -> dict[str, Any]:
    n = expanded(Arithmetic(0), (a, 1.0), (b, -1.0)).core.size
    alone = {"leader": encode(np.arange(n, dtype=np.int32)), "sign": encode(np.ones(n, dtype=np.int8))}
    return {"bits": 0, "degree": 2, "gram": False, **alone, **given}


def proved(norm: Norm, a: Raw, b: Raw, **given: Any) -> Proved:
    return equivalence.prove(norm, a, b, evidence(a, b, **given))


@pytest.mark.parametrize(("w", "b"), [(24.9, -749.0), (30.0, -800.0), (40.0, -1400.0)])
@pytest.mark.parametrize("outer", [1e-30, 1e-100])
def test_a_factor_e_to_the_bias_that_underflows(w: float, b: float, outer: float) -> None:
    """‖α e^{wx + b}‖ = α e^{b + w²} is large where e^b is 0 in float64."""
    truth = math.log(outer) + b + w * w
    found = proved(STANDARD, raw("exp", outer, w, b), raw("exp", 0.0, 1.0)).upper
    assert found == math.inf or math.log(found) >= truth


def test_a_point_outside_a_tiny_ball() -> None:
    """‖(1e-170)‖ is 0 in float64; the claim "distinct by more than 10" was accepted where sup|f| is 1."""
    a, b = raw("relu", 1e100, 1e100), raw("relu", 0.0, 1.0)
    ball = Norm("sup", radius=1e-200)
    with pytest.raises(Refused):
        proved(ball, a, b, witness=encode(np.array([1e-170])))
    inside = proved(ball, a, b, witness=encode(np.array([1e-200])))
    assert 0.99 <= inside.lower <= 1.0 <= inside.upper
    document: dict[str, Any] = {
        "schema": "sparsemf/certify/2",
        "inputs": {"a": {"arrays_sha256": a.sha256}, "b": {"arrays_sha256": b.sha256}},
        "law": {"name": "gaussian"},
        "config": {"rho": "gaussian"},
        "norm": "sup",
        "radius": 1e-200,
        "bounds": {"lower": 20.0, "upper": None},
        "eps": 10.0,
        "eps_distinct": 10.0,
        "verdict": "distinct",
        "evidence": evidence(a, b, witness=encode(np.array([1e-170]))),
    }
    assert not check({**document, "seal": seal(document)}, {"a": a, "b": b}).valid
    document |= {"bounds": {"lower": 0.0, "upper": None}, "verdict": "undecided"}
    document["evidence"] = evidence(a, b)
    document["witness"] = {"x": [1e-170], "gap": 20.0}
    assert not check({**document, "seal": seal(document)}, {"a": a, "b": b}).valid


def test_points_in_a_ball_are_judged_exactly() -> None:
    """(3, 4) has length 5; and one unit in the last place more is outside."""
    a, b = raw("relu", 1.0, [1.0, 0.0]), raw("relu", 0.0, [1.0, 0.0])
    proved(Norm("sup", radius=5.0), a, b, witness=encode(np.array([3.0, 4.0])))
    with pytest.raises(Refused):
        proved(Norm("sup", radius=5.0), a, b, witness=encode(np.array([3.0, np.nextafter(4.0, 5.0)])))


def test_data_whose_squares_underflow() -> None:
    """α relu(⟨w, x⟩) against (α/3) relu(⟨3w, x⟩), x ≈ 1e-170: the rounding of α/3 and of both products is seen."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        w, x = np.round(rng.standard_normal((1, 5)) * 1e3) * 1e90, rng.standard_normal((4, 5)) * 1e-170
        a, b = raw("relu", 3e99, w), raw("relu", 1e99, 3 * w)
        rows = Norm("empirical", rows=x)
        truth = 0.0
        for row in x:
            at = [max(sum(Fraction(p) * Fraction(q) for p, q in zip(f.w[0], row, strict=True)), 0) for f in (a, b)]
            truth += float(Fraction(3e99) * at[0] - Fraction(1e99) * at[1]) ** 2 / 4
        found = proved(rows, a, b)
        assert found.lower <= math.sqrt(truth) * (1 + 1e-12) <= found.upper * (1 + 2e-12)


@pytest.mark.parametrize("value", [2**53 + 1, 2**80 + 1, 10**400, True, "1", None, math.nan, math.inf, -1.0])
def test_numbers_that_no_float_holds(value: Any) -> None:
    with pytest.raises((Refused, TypeError, OverflowError)):
        number(value, "a bound")


def test_numbers_that_a_float_holds() -> None:
    assert [number(x, "a bound") for x in (0, 7, 2**60, 0.1)] == [0.0, 7.0, 2.0**60, 0.1]


def test_a_ball_as_wide_as_its_bias() -> None:
    """In balls of 128 bits 2^125 + b − 2^125 is b ± 1/8: the tail of relu(g/2 + b) is far from that of the midpoint."""
    for b, degree in ((-2.8775, 6), (-3.3775, 9)):
        law = Norm("gaussian", mean=np.array([2.0**125, 2 * b, -(2.0**125)]), root=np.array([[0.0], [1.0], [0.0]]))
        f, silent = raw("relu", 1.0, [1.0, 0.5, 1.0]), raw("relu", 0.0, [1.0, 0.0, 0.0])
        beta = 2 * b
        phi, tail = math.exp(-0.5 * beta * beta) / math.sqrt(2 * math.pi), 0.5 * math.erfc(-beta / math.sqrt(2))
        truth = math.sqrt((b * b + 0.25) * tail + 0.5 * b * phi)
        for bits in (64, 128, 320):
            found = proved(law, f, silent, bits=bits, degree=degree, gram=True)
            assert found.lower <= truth * (1 + 1e-9) <= found.upper * (1 + 2e-9)


@pytest.mark.parametrize("degree", [10, 16, 20])
def test_balls_as_wide_as_the_angle(degree: int) -> None:
    """Two directions 16° apart that may be one: ‖2 sin⟨w, x⟩‖ = √2."""
    arith, angle = Arithmetic(128), math.radians(16)
    with arith.precision():
        w = np.array(
            [[arb(8, 0.16), arb(0, 1.15)], [arb(8 * math.cos(angle), 0.2), arb(8 * math.sin(angle), 1.15)]],
            dtype=object,
        )
        meeting = arb(7.85), arb(1.1)
        assert all(row[j].contains(meeting[j]) for row in w for j in (0, 1))
        h = Expanded(
            arith.array(np.ones((2, 1))), w, arith.zeros((2,)), np.full(2, ORDER.index("sin")), arith.zeros((1, 2)),
            arith.zeros((1,)), np.zeros(2), np.zeros(2), 0.0,
        )  # fmt: skip
        f = series.spectrum(arith, STANDARD, h, degree)
        upper = series.gram(arith, STANDARD, h, f, np.arange(2), np.ones(2, dtype=np.int64))[1]
    assert upper >= math.sqrt(2) * (1 - 1e-12)


def test_a_kink_that_is_not_known() -> None:
    """softsign's panels are laid from the kink; the pole must not come nearer than they assume."""
    arith = Arithmetic(128)
    with arith.precision(), pytest.raises(Undefined):
        coefficients(arith, CORES["softsign"], arith.array([1.0]), np.array([arb(1.3, 0.25)], dtype=object), 4)


@pytest.mark.parametrize("b", [0.0, 1e60, -1e60, 1e20, -35.0])
def test_kinks_far_away(b: float) -> None:
    """softsign(g + b) → ±1 for large |b|: c₀ is within E 1/(1 + |g + b|) of that."""
    arith = Arithmetic(128)
    with arith.precision():
        c, _ = coefficients(arith, CORES["softsign"], arith.array([1.0]), arith.array([b]), 4)
        assert abs(c[0, 0] - (b > 0) + (b < 0)) <= 2 / (1 + abs(b)) + 1e-9


@pytest.mark.parametrize("size", [3e-74, 7e-74, 9e-74, 1e-72])
def test_a_ratio_of_sizes_that_underflows(size: float) -> None:
    """size/weight is a denormal number or 0, the product 1e180."""
    v = np.array([[1e250, 1e250]])
    found = norm_of_sum(Arithmetic(0), v, np.zeros(1), np.array([1.5e250]), np.array([size]))
    assert found >= math.sqrt(2) * 1e250 * size * (1 - 1e-12)


@pytest.mark.parametrize(("alpha", "c"), [(1.62e-162, 1e150), (1.7e-162, 1e150), (1e100, 1.62e-162), (1e100, 1.7e-162)])
@pytest.mark.parametrize("rows", [False, True])
def test_tails_of_entries_that_underflow(alpha: float, c: float, rows: bool) -> None:
    """Two orthogonal neurons: σ₂² = (αc)², but α² (c²) is rounded to a multiple of 2⁻¹⁰⁷⁴."""
    f = Tensors(np.eye(2), np.full((2, 1), alpha), np.array([[0.0, 0.0, c]] * 2))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        assert tails(f, Group(1, 2, 2, rows))[1] <= (alpha * c) ** 2


def test_constants_below_the_normal_numbers() -> None:
    """1/1.7e308 has fewer than 53 bits as a float: celu there is refused in float64, not in balls."""
    arith = Arithmetic(0)
    with arith.precision():
        with pytest.raises(Undefined):
            arith.constant(1 / arb(1.7e308))
        assert [arith.constant(arb(x)) for x in (0.0, 5e-324, 1e-300)] == [0.0, 5e-324, 1e-300]
    f, g = raw("celu(1.7e308)", 1e-200, 1e100), raw("linear", 1e-200, 1e100)
    alone = {"leader": encode(np.arange(1, dtype=np.int32)), "sign": encode(np.ones(1, dtype=np.int8))}
    given = {"bits": 0, "degree": 2, **alone}
    assert equivalence.prove(Norm("sup", radius=1e100), f, g, given).upper == math.inf


def test_a_quadratic_part_that_rounds_when_made_symmetric() -> None:
    """x₁x₂ + 1e-17·x₂x₁ is not x₁x₂."""
    arrays = {"outer": np.zeros((0, 1)), "inner": np.zeros((0, 2))}
    for q in ([[0.0, 1.0], [1e-17, 0.0]], [[0.0, 5e-324], [0.0, 0.0]], [[0.0, 1e308], [1e308, 0.0]]):
        with pytest.raises(Unreadable):
            Raw.of({**arrays, "quadratic": np.array([q])}, "relu", 1.0)
    form = Raw.of({**arrays, "quadratic": np.array([[[1.0, 3.0], [2.0**-40, 0.5]]])}, "relu", 1.0).quadratic
    assert form is not None
    assert form[0, 0, 1] == form[0, 1, 0] == 1.5 + 2.0**-41


@pytest.mark.parametrize(
    "array", [np.array([[1 + 1j]]), np.array([[1.0]], dtype=np.longdouble), np.array([[2**53 + 1]])]
)
def test_arrays_that_float64_does_not_hold(array: NDArray[Any]) -> None:
    if array.dtype.itemsize == 8 and array.dtype.kind == "f":
        pytest.skip("long double is float64 here")
    with pytest.raises(Unreadable):
        Raw.of({"outer": array, "inner": np.ones((1, 1))}, "relu", 1.0)


def test_bias_factors_are_exact_where_they_are_whole() -> None:
    """Without a bias sin(wx) has no cosine part, and its coefficient no error."""
    h = expanded(Arithmetic(0), (raw("sin", 0.3, 1.0, 0.0), 1.0))
    assert h.alpha.ravel().tolist() == [0.3, 0.0]
    assert h.alpha_error.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("mass", [1.0, 300.0])
def test_published_numbers_hold_where_products_round_otherwise(mass: float) -> None:
    """A Gram form that is 4 units of mass² larger, a tail that is 4 units smaller, a linear sum 4 units larger."""
    unit = 2.0**-53
    for size in (1e-6, 1e-4, 1e-2, 0.5):
        upper, curve = published(size * mass, size * mass * np.array([2.0, 1.0]), mass, True)
        elsewhere = math.sqrt((size * mass) ** 2 + 4 * unit * mass**2)
        assert elsewhere <= upper <= 1.07 * size * mass
        lowest = np.sqrt((size * mass * np.array([2.0, 1.0])) ** 2 - 4 * unit * mass**2)
        assert (curve <= lowest).all()
        assert (curve >= 0.999 * lowest).all()
    assert published(1e-15 * mass, np.zeros(1), mass, False)[0] >= 1e-15 * mass + 4 * unit * mass
    assert published(math.inf, np.zeros(1), mass, True)[0] == math.inf
