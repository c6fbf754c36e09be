"""Corners of tails, gates and sizes where a bound of the checker once was no bound: squares and cubes that
underflow before a large coefficient meets them, balls as wide as what they hold.  Truths are in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from flint import arb
from numpy.typing import NDArray
from scipy import integrate

from sparsemf.certificates.checker import equivalence, gated, tails
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.check import check
from sparsemf.certificates.checker.document import seal
from sparsemf.certificates.checker.equivalence import Proved
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import Raw, encode

Array = NDArray[np.float64]
STANDARD = Norm("gaussian")


def raw(activation: str, outer: Any, w: Any, b: Any, **arrays: Any) -> Raw:
    given = {"outer": outer, "inner": w, "bias": b, **arrays}
    return Raw.of({name: np.asarray(value, dtype=float) for name, value in given.items()}, activation, 1.0)


def evidence(leader: list[int], bits: int, degree: int = 4) -> dict[str, Any]:
    sign = encode(np.ones(len(leader), dtype=np.int8))
    leaders = encode(np.array(leader, dtype=np.int32))
    return {"bits": bits, "degree": degree, "gram": True, "leader": leaders, "sign": sign}


def proved(a: Raw, b: Raw, leader: list[int], bits: int, norm: Norm = STANDARD) -> Proved:
    return equivalence.prove(norm, a, b, evidence(leader, bits))


@pytest.mark.parametrize("outer", [4e99, 1e90])
@pytest.mark.parametrize("angle", [1e-3, 1e-20, 1e-60, 1e-104, 1e-110, 1e-115, 1e-130])
def test_an_angle_whose_cube_underflows(angle: float, outer: float) -> None:
    """relu(x − δy) + relu(x + δy) − 2relu(x) = (δ|y| − |x|)⁺ has the energy ⅔φ(0)δ³E|y|³ = 4δ³/3π, all of it in R,
    which was 0 in float64 (an upper bound of 1e-70 was proved)."""
    length = 1e50
    w = length * np.array([[1.0, -angle], [1.0, 0.0], [1.0, angle]])
    a = raw("relu", [[outer], [0.0], [outer]], w, np.zeros(3))
    b = raw("relu", [[2 * outer]], w[1:2], np.zeros(1))
    truth = outer * length * angle**1.5 * math.sqrt(4 / (3 * math.pi))
    found = proved(a, b, [0, 0, 0, 0], 1200)
    assert found.lower <= truth * (1 + 1e-3)
    assert found.upper >= truth * (1 - 1e-3)


@pytest.mark.parametrize("size", [1e-20, 1e-45, 1e-60, 1e-70])
def test_a_gap_whose_product_with_a_factor_has_no_square(size: float) -> None:
    """(tanh(x) − tanh(x + εy))·size·x is εy·tanh′(x)·size·x: beyond the form's degree all of it was lost."""
    gap, outer = 1e-110, 1e100
    factor = {"gate_bias": [0.0]}
    a = raw("tanh", [[outer]], [[size, 0.0]], [0.0], gate=[[1.0, 0.0]], **factor)
    b = raw("tanh", [[outer]], [[size, 0.0]], [0.0], gate=[[1.0, gap]], **factor)
    energy = integrate.quad(lambda g: (g / math.cosh(g) ** 2) ** 2 * math.exp(-g * g / 2), -12, 12, epsabs=1e-12)[0]
    truth = outer * gap * size * math.sqrt(energy / math.sqrt(2 * math.pi))
    for bits in (0, 160, 1024):
        found = proved(a, b, [0, 0], bits)
        assert found.lower <= truth * (1 + 1e-9) + 1e-89
        assert found.upper >= truth * (1 - 1e-9)


@pytest.mark.parametrize("bits", [0, 320])
@pytest.mark.parametrize("count", [1, 3])
def test_a_constant_factor_whose_square_underflows(count: int, bits: int) -> None:
    """1e100·relu(1e50·x)·1e-170: the size of the factor was 0, and [7e-21, 1e-90] the interval."""
    rows = np.ones((count, 1))
    factors = {"gate": 1e50 * rows, "gate_bias": np.zeros(count)}
    a = raw("relu", 1e100 * rows, 0 * rows, np.full(count, 1e-170), **factors)
    b = raw("relu", 0 * rows, 0 * rows, np.zeros(count), **factors)
    truth = count * 1e-20 / math.sqrt(2)
    found = proved(a, b, [0] * count + list(range(count, 2 * count)), bits)
    assert found.lower <= truth * (1 + 1e-9)
    assert found.upper >= truth * (1 - 1e-9)


def test_a_joint_factor_whose_square_underflows() -> None:
    """Three outputs that meet in one gate, their factors constants."""
    arith = Arithmetic(0)
    beta = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    found = gated._matrix_size(arith, STANDARD, beta, np.zeros(3), np.zeros((3, 2)), np.full(3, 1e-170))
    assert found >= 1.5 * math.sqrt(2) * 1e-170 * (1 - 1e-12)


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "softplus"])
@pytest.mark.parametrize("kind", ["gaussian", "sup"])
def test_a_bias_whose_square_underflows(name: str, kind: Any) -> None:
    """1e100·(σ(x) − σ(x + 1e-170)) = 1e-70·σ′(x); half of it was proved as an upper bound."""
    a, b = (raw(name, [[1e100]], [[1.0]], [bias]) for bias in (0.0, 1e-170))
    slope = {"tanh": 0.68, "relu": 0.7, "gelu": 0.65, "softplus": 0.54}[name] if kind == "gaussian" else 0.9
    if kind == "sup" and name == "softplus":
        slope = 0.73
    for bits in (0, 320, 1024):
        found = proved(a, b, [0, 0], bits, STANDARD if kind == "gaussian" else Norm("sup", radius=1.0))
        assert found.lower <= found.upper
        assert found.upper >= slope * 1e-70


def test_the_claim_that_a_tiny_factor_allowed_is_refused() -> None:
    gate = {"gate": [[1e50]], "gate_bias": [0.0]}
    a, b = raw("relu", [[1e100]], [[0.0]], [1e-170], **gate), raw("relu", [[0.0]], [[0.0]], [0.0], **gate)
    document: dict[str, Any] = {
        "schema": "sparsemf/certify/2",
        "inputs": {"a": {"arrays_sha256": a.sha256}, "b": {"arrays_sha256": b.sha256}},
        "law": {"name": "gaussian", "mean": None, "root": None},
        "config": {"rho": "gaussian"},
        "norm": "l2",
        "bounds": {"lower": 0.0, "upper": 1e-60},
        "eps": 1e-60,
        "eps_distinct": 1e-60,
        "verdict": "equivalent",
        "evidence": evidence([0, 1], 0),
    }
    found = check({**document, "seal": seal(document)}, {"a": a, "b": b})
    assert not found.valid
    assert "upper bound" in found.reason


@pytest.mark.parametrize("angle", [0.02, 0.8, 1.5])
@pytest.mark.parametrize("wide", ["bias", "length"])
def test_a_rest_of_balls_as_wide_as_what_they_hold(wide: str, angle: float) -> None:
    """R of two kinks somewhere in [−3.5, −2.5], or of lengths in [0.5, 1.5]: the midpoints' R is another one."""
    arith, spread = Arithmetic(128), 0.5
    with arith.precision(), np.errstate(all="ignore"):
        length, bias = (np.array([arb(x)] * 2, dtype=object) for x in (1.0, -3.0 if wide == "bias" else 0.0))
        held = bias if wide == "bias" else length
        held[:] = [held[0] + arb(0, spread)] * 2
        unit = np.array([[arb(1), arb(0)], [arb(angle).cos(), arb(angle).sin()]], dtype=object)
        one, pair = arith.array(np.ones((2, 1))), (np.array([0]), np.array([1]))
        found = tails._pairs(arith, one, length, bias, arith.zeros((2, 2)), unit, *pair, np.ones(2))
    for at in (-1.0, -0.7, 0.0, 0.7, 1.0):
        r, beta = (1.0, -3.0 + at * spread) if wide == "bias" else (1.0 + at * spread, 0.0)

        def density(theta: float, beta: float = beta) -> float:
            return (math.cos(theta) - math.cos(angle)) * math.exp(-beta * beta / (1 + math.cos(theta))) / (2 * math.pi)

        rest = r * r * integrate.quad(density, 0, angle, epsabs=0, epsrel=1e-10)[0]
        assert found[1][0] <= rest * (1 + 1e-9)
        assert rest * (1 - 1e-9) <= found[2][0]


def test_a_distance_of_kinks_that_is_not_known() -> None:
    """∞ − ∞ is no distance 0: from below nothing is known of R, from above only that the exponent is not positive."""
    chi, unknown = np.array([0.5]), np.array([math.nan])
    low, high = (tails._rest(chi, unknown, np.zeros(1), above)[0] for above in (False, True))
    angle = 2 * math.asin(0.25)
    assert low == 0.0
    assert high >= (math.sin(angle) - angle * math.cos(angle)) / (2 * math.pi)
