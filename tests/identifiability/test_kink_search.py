"""The curve of kink matrices: against the independent checker, Hankel matrices in one dimension, planted networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.polynomial import hermite_e

from kink_cases import shared
from sparsemf.certificates.checker.kink_matrices import kink_matrix
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.sparsity import kink_curve as checked
from sparsemf.certificates.equivalence import raw_of
from sparsemf.identifiability import KinkMatrix, kink_curve, lower_curve
from sparsemf.identifiability.kink_matrices import Kinks, distances, kink_mass
from sparsemf.identifiability.kink_search import Search, Trial, balanced, families, flat
from sparsemf.measures import Gaussian, Network
from sparsemf.pipeline.analyze import analyze
from sparsemf.pipeline.verify import verify
from sparsemf.recovery import Effort
from sparsemf.symmetry import disguise, quotient

QUICK = Effort(few=1, drops=1, joint=0)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu(0.3)", "abs"])
@pytest.mark.parametrize(("d", "lines", "biases", "m"), [(1, 1, 4, 1), (3, 2, 3, 1), (6, 4, 2, 2)])
def test_the_curve_is_what_the_checker_proves(activation: str, d: int, lines: int, biases: int, m: int) -> None:
    f = quotient(shared(np.random.default_rng(d), d, lines, biases, activation, m)).network
    found = kink_curve(f)
    assert found is not None
    assert found.left_out is None
    assert found.lower[f.width] == 0.0
    assert (np.diff(found.lower) <= 0).all()
    entries = [kink_matrix(matrix.document()) for matrix in found.matrices]
    proved = checked(Norm("gaussian"), raw_of(f), entries)
    np.testing.assert_allclose(found.lower, proved, rtol=1e-5, atol=1e-12 * found.lower[0])
    for size in range(f.width):
        one = checked(Norm("gaussian"), raw_of(f), [entries[found.by[size]]])
        assert one[size] >= found.lower[size] * (1 - 1e-5)
    assert {matrix.counts for matrix in found.matrices} == {"atoms"}


@pytest.mark.parametrize(("d", "lines", "biases", "m"), [(1, 1, 2, 1), (3, 2, 3, 1), (2, 3, 3, 2)])
def test_the_search_sees_the_curve_that_is_proved(d: int, lines: int, biases: int, m: int) -> None:
    """On reduced factors, for fewer atoms than rows and for more."""
    f = quotient(shared(np.random.default_rng(d), d, lines, biases, outputs=m)).network
    kinks = Kinks.of(f, 1.0)
    search = Search(kinks, 12)
    for shape in families(d)[::4]:
        trial, weights = Trial(search, *shape), balanced(d, *shape)
        guess, proved = trial.curve(*weights), distances(kinks, trial.matrix(*weights))[0]
        np.testing.assert_allclose(guess, proved, rtol=1e-6, atol=1e-12)


def test_the_mass_of_a_kink() -> None:
    for name, mass in (("relu", 1.0), ("abs", 2.0), ("leaky_relu(0.25)", 0.75), ("leaky_relu(2.0)", -1.0)):
        assert kink_mass(Network([[1.0]], [[1.0]], None, name)) == mass
    for name in ("linear", "tanh", "hardtanh", "relu2", "elu", "sin"):
        f = Network([[1.0]], [[1.0]], None, name)
        assert kink_mass(f) is None
        assert kink_curve(f) is None
    assert kink_curve(Network([[1.0]], [[1.0]], None, "relu", quadratic=np.ones((1, 1, 1)))) is None


def hankel_bound(f: Network, n: int, size: int) -> float:
    """√Σ_{j > S} σ_j(H)²/C, H = [μ_{i+j}]_{i,j<n} the moments of Σ κφ(t)δ_t, C the norm of (T_k)_{2≤k≤2n} ↦ H."""
    t = -f.bias / f.inner[:, 0]
    mass = f.alpha[:, 0] * np.abs(f.inner[:, 0]) * np.exp(-0.5 * t * t) / math.sqrt(2 * math.pi)
    moments = np.array([mass @ t**k for k in range(2 * n - 1)])
    index = np.add.outer(np.arange(n), np.arange(n))
    # μ_i = Σ_k (coefficient of He_k in t^i)·√((k + 2)!)·T_{k+2}
    rows = np.zeros((2 * n - 1, 2 * n - 1))
    for i in range(2 * n - 1):
        rows[i, : i + 1] = hermite_e.poly2herme(np.eye(2 * n - 1)[i])[: i + 1]
    rows *= np.sqrt([float(math.factorial(k + 2)) for k in range(2 * n - 1)])
    often = np.sqrt(np.bincount(index.ravel()))[:, None]
    singular = np.linalg.svd(moments[index], compute_uv=False)
    return float(np.sqrt(np.sum(singular[size:] ** 2)) / np.linalg.norm(often * rows, 2))


@pytest.mark.parametrize("biases", [2, 3, 5])
def test_in_one_dimension_it_is_no_worse_than_hankel_matrices(biases: int) -> None:
    for seed in range(3):
        f = quotient(shared(np.random.default_rng([seed, biases]), 1, 1, biases, apart=0.3)).network
        known = lower_curve(f).atoms
        for size in range(biases):
            assert known[size] >= max(hankel_bound(f, n, size) for n in range(size + 1, 9))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu(0.2)", "abs"])
@pytest.mark.parametrize(("d", "lines", "biases"), [(1, 1, 4), (2, 2, 2), (5, 3, 3)])
def test_planted_biases_on_shared_directions_are_certified(activation: str, d: int, lines: int, biases: int) -> None:
    """One output: flattenings count ``lines`` there."""
    rng = np.random.default_rng([d, *activation.encode()])
    f = shared(rng, d, lines, biases, activation)
    law = Gaussian.of(0.2 * rng.standard_normal(d), np.diag(rng.uniform(0.7, 1.3, d)))
    network = disguise(f, rng, 3 * f.width)
    found = analyze(network, law, "gaussian(mean, covariance)", effort=QUICK)
    assert found.lower is not None
    assert not found.lower.directions[lines:].any()
    assert (found.s_star.value, found.s_star.certified) == (lines * biases, True)
    document = found.document()
    assert (document["s_star"]["counts"], document["s_star"]["lower_by"]) == ("atoms", "kinks")
    assert {row["lower_by"] for row in document["staircase"][lines:-1]} <= {"kinks", None}
    assert document["staircase"][f.width - 1]["lower_by"] == "kinks"
    assert document["kinks"]["matrices"][0]["counts"] == "atoms"
    certificate = found.certificate()
    assert certificate["claim"]["certified"]
    assert verify(certificate, {"a": network}).valid


@pytest.mark.parametrize("affine", ["offset", "charged"])
def test_with_a_charged_affine_part(affine: str) -> None:
    rng = np.random.default_rng(3)
    f = shared(rng, 2, 2, 2, "relu").with_(affine=np.zeros((1, 2)))
    found = analyze(f, affine=affine, effort=QUICK)
    assert (found.s_star.value, found.s_star.certified) == (4, True)
    certificate = found.certificate()
    assert certificate["evidence"]["kinks"]
    assert verify(certificate, {"a": f}).valid


def test_what_is_too_large_is_left_out_and_says_so() -> None:
    f = Network(np.ones((900, 64)), np.random.default_rng(0).standard_normal((900, 512)), None, "relu")
    found = kink_curve(f)
    assert found is not None
    assert found.left_out is not None
    assert not found.lower.any()
    assert "900 atoms in 512 inputs with 64 outputs" in str(found.document()["left_out"])


def test_constants_and_nothing() -> None:
    assert not kink_curve(Network(np.zeros((0, 1)), np.zeros((0, 3)), None, "relu")).lower.any()  # pyright: ignore[reportOptionalMemberAccess]
    f = Network([[1.0], [2.0]], [[1.0, 0.5], [0.0, 0.0]], [0.3, 1.0], "relu")
    found = kink_curve(f)
    assert found is not None
    assert found.lower[0] > 0.0
    assert not found.lower[1:].any()
    assert lower_curve(f).by_kinks.size == 3


def test_kinks_far_out_and_scales_far_apart_stay_finite() -> None:
    """he_j(−β) overflows where φ(β) underflows: a kink at 1e30 is invisible, one at 20 nearly so."""
    f = Network([[1.0], [1e-12], [1.0]], [[1.0], [1e-80], [2.0]], [0.3, 1e-50, 40.0], "relu")
    a, b = balanced(1, *flat(1, 4, 4, 0))
    matrix = KinkMatrix(1, *flat(1, 4, 4, 0), tuple(a.tolist()), tuple(b.tolist()))
    found, values = distances(Kinks.of(f, 1.0), matrix)
    assert np.isfinite(found).all()
    assert np.isfinite(values).all()
    assert found[0] > 0.0
    assert not found[1:].any()
    assert checked(Norm("gaussian"), raw_of(f), [kink_matrix(matrix.document())])[1:].any() == np.False_


def test_where_directions_differ_it_says_no_less() -> None:
    """Generic directions, more of them than a flattening of one output has rows: d = 2, six atoms."""
    f = quotient(shared(np.random.default_rng(6), 2, 6, 1)).network
    whole = lower_curve(f)
    assert whole.kinks is not None
    assert (whole.atoms >= whole.kinks.lower).all()
    assert whole.by_kinks[5]
    assert whole.kink_matrices
