"""Corners where a bound of the checker once was, or could be, no bound: rounding that hides, balls around 1, silent
leaders, underflow, other norms.  Each compares float64 with balls, or with a truth in closed form."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from sparsemf.certificates.checker import equivalence
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.check import check
from sparsemf.certificates.checker.document import seal
from sparsemf.certificates.checker.equivalence import Proved
from sparsemf.certificates.checker.laws import Norm, norm_of_sum, spectral
from sparsemf.certificates.checker.raw import Raw, encode

STANDARD = Norm("gaussian")


def raw(activation: str, outer: float, w: list[float], b: float = 0.0, scale: float = 1.0, **arrays: Any) -> Raw:
    given = {name: np.asarray(value, dtype=float) for name, value in arrays.items()}
    return Raw.of({"outer": [[outer]], "inner": [w], "bias": [b], **given}, activation, scale)


def proved(norm: Norm, a: Raw, b: Raw, leader: list[int], bits: int = 0, degree: int = 2, gram: bool = False) -> Proved:
    evidence = {
        "bits": bits,
        "degree": degree,
        "gram": gram,
        "leader": encode(np.array(leader, dtype=np.int32)),
        "sign": encode(np.ones(len(leader), dtype=np.int8)),
    }
    return equivalence.prove(norm, a, b, evidence)


def law(root: list[list[float]]) -> Norm:
    return Norm("gaussian", mean=np.zeros(len(root)), root=np.array(root))


def test_a_whitened_direction_that_rounds_to_zero() -> None:
    """⟨w, root⟩ is 2e-18 and 0 in float64; a coefficient of 1e40 makes z² of it large."""
    rng = np.random.default_rng(0)
    for case in range(1000):
        x, y = (rng.random(2) + 0.5).tolist()
        w, r = [x, -(x * y)], [y, 1.0]
        if case % 2:  # which of the two products is fused depends on the order
            w, r = w[::-1], r[::-1]
        exact = sum(Fraction(u) * Fraction(v) for u, v in zip(w, r, strict=True))
        if exact and (np.array([w, w]) @ np.array(r)[:, None])[0, 0] == 0.0:
            break
    else:
        pytest.skip("this BLAS fuses every product")
    truth = 1e40 * float(exact) ** 2 * math.sqrt(3)
    a, b = raw("quadratic", 1e40, w), raw("quadratic", 0.0, [0.0, 0.0])
    for bits in (0, 320):
        found = proved(law([[v] for v in r]), a, b, [0, 1], bits)
        assert found.lower <= truth * (1 + 1e-9) <= found.upper * (1 + 1e-8)


def test_a_quadratic_form_that_rounds_away_from_zero() -> None:
    """xᵀQx is 0 on the law's only direction; its rounding must not separate the networks."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        x, y = rng.integers(2**47, 2**48, 2).astype(float)
        root, q = np.array([3 * x, 5 * x]) * 2.0**-48, np.array([25 * y, -9 * y]) * 2.0**-38
        a = raw("relu", 0.0, [0.0, 0.0], quadratic=np.diag(q)[None])
        b = raw("relu", 0.0, [0.0, 0.0], quadratic=np.zeros((1, 2, 2)))
        for gram in (False, True):
            found = proved(law(root[:, None].tolist()), a, b, [0, 1], gram=gram)
            assert found.lower == 0.0
            assert found.separations == []


@pytest.mark.parametrize(("name", "leader"), [("leaky_relu(1e-40)", [0, 0]), ("elu(1e-40)", [0, 1, 0])])
def test_an_image_whose_constant_is_almost_one(name: str, leader: list[int]) -> None:
    a, b = raw(name, 1e60, [1.0]), raw("relu", 1e60, [1.0], affine=[[1e20 if name[0] == "l" else 0.0]])
    exact = proved(STANDARD, a, b, leader, 320)
    for bits in (0, 64):
        found = proved(STANDARD, a, b, leader, bits)
        assert found.lower <= exact.upper
        assert exact.lower <= found.upper


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "softsign", "relu2"])
@pytest.mark.parametrize("bits", [0, 320])
def test_a_silent_leader(name: str, bits: int) -> None:
    a, b = raw(name, 1.0, [3.0], 0.2), raw(name, 0.0, [3.0], 0.2)
    truth = proved(STANDARD, a, b, [0, 1], 320, 40, True)
    found = proved(STANDARD, a, b, [1, 1], bits, 3, True)
    assert found.lower <= truth.upper
    assert truth.lower <= found.upper


def test_scales_that_underflow() -> None:
    big = law([[2.0**200]])
    for wide, narrow, outer in ((2.0**308, 2.0**-235, 1e100), (2.0**308, 2.0**-231, 1e90)):
        truth = outer * (narrow * 2.0**200) ** 2 * math.sqrt(1.5)
        found = proved(big, raw("relu2", outer, [narrow]), raw("relu2", 0.0, [wide]), [1, 1])
        assert found.lower <= truth <= found.upper
    for name, w, b, groups in (("elu(1e300)", 1e60, 0.0, 4), ("exp", 1e-40, 600.0, 2)):
        a, silent = raw(name, 1e-165, [w], b, scale=1e-165), raw(name, 0.0, [1.0])
        exact = proved(law([[1e40]]), a, silent, list(range(groups)), 320)
        assert exact.lower <= proved(law([[1e40]]), a, silent, list(range(groups))).upper
    gated = {"gate": [[1e99]], "gate_bias": [0.0]}
    a, silent = raw("relu", 1e-165, [1e99], scale=1e-165, **gated), raw("relu", 0.0, [1.0], **gated)
    assert proved(law([[1e40]]), a, silent, [0, 1], 320).lower <= proved(law([[1e40]]), a, silent, [0, 1]).upper


def test_a_sparsity_claim_in_another_norm_is_refused() -> None:
    """tanh is almost affine on a tiny ball; that says nothing in L²(N(0, I))."""
    a = raw("tanh", 1.0, [1.0, 0.0])
    dictionary = {
        "outer": np.zeros((0, 1)),
        "inner": np.zeros((0, 2)),
        "bias": np.zeros(0),
        "affine": np.array([[1.0, 0.0]]),
        "offset": np.zeros(1),
    }
    evidence: dict[str, Any] = {
        "bits": 0, "degree": 2, "gram": False, "partitions": [],
        "leader": encode(np.arange(1, dtype=np.int32)), "sign": encode(np.ones(1, dtype=np.int8)),
        "dictionary": {name: encode(array) for name, array in dictionary.items()},
    }  # fmt: skip
    document: dict[str, Any] = {
        "schema": "sparsemf/sparsity/3",
        "inputs": {"a": {"arrays_sha256": a.sha256}},
        "law": {"name": "gaussian", "mean": None, "root": None},
        "config": {"rho": "gaussian"},
        "claim": {"lower": 0, "upper": 0, "counts": "atoms", "eps": [1e-3, 1e9], "certified": True},
        "evidence": evidence,
        "norm": "sup",
        "radius": 1e-4,
    }
    assert not check({**document, "seal": seal(document)}, {"a": a}).valid


def test_hashes_of_different_networks_differ() -> None:
    one, other = raw("relu", 1.0, [1.0, 2.0], scale=20.5), raw("relu2", 1.0, [1.0, 2.0], scale=0.5)
    assert one.sha256 != other.sha256


@pytest.mark.parametrize("shape", [(300, 40), (40, 300), (64, 64), (5, 1)])
@pytest.mark.parametrize("decay", [0.0, 3.0])
def test_spectral_norms_are_bounded_and_close(shape: tuple[int, int], decay: float) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal(shape) * 10.0 ** (-decay * np.arange(shape[1]) / shape[1])
    truth = float(np.linalg.norm(x, 2))
    assert truth <= spectral(Arithmetic(0), x) <= 1.06 * truth


def test_norms_of_sums_against_points() -> None:
    """Functions with one value: ‖Σ v_i f_i‖ is a matrix product; never above the triangle inequality."""
    rng = np.random.default_rng(4)
    for _ in range(50):
        n, m = (int(k) for k in rng.integers(1, 60, 2))
        v, size = rng.standard_normal((n, m)), 10.0 ** rng.uniform(-3, 3, n)
        weight = np.linalg.norm(v, axis=1) * (1 + 1e-15)
        found = norm_of_sum(Arithmetic(0), v, np.zeros(n), weight, size)
        assert found <= float(weight @ size) * (1 + 1e-12)
        for _ in range(5):
            assert np.linalg.norm((rng.choice([-1.0, 1.0], n) * size) @ v) <= found * (1 + 1e-12)


def test_a_direction_whose_square_underflows() -> None:
    """‖w‖ = 1e-170: w² is 0 in float64; with a coefficient of 1e100 the neuron is 7e-71, above TINY."""
    a, b = raw("relu", 1e100, [1e-170]), raw("relu", 0.0, [1.0])
    for bits in (0, 320):
        assert proved(STANDARD, a, b, [0, 1], bits, gram=True).upper >= 1e-70 / math.sqrt(2)
