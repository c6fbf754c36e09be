"""sup‖η_q‖ by norms of flattened tensors: against tensors written out, points, and populations of many dimensions."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from flint import arb

import sparsemf
from certificates.claims import put
from sparsemf.activations import get
from sparsemf.certificates.checker import dual_norms, optimality, population, tree
from sparsemf.certificates.checker.document import Refused, seal
from sparsemf.certificates.checker.dual_series import SeriesDual
from sparsemf.certificates.checker.raw import decode, encode
from sparsemf.certificates.convex import Atomic, BlassoResult, Effort, PopulationObservation, blasso_on_network
from sparsemf.certificates.convex.sliding import bounded_sup
from sparsemf.exceptions import InputError
from sparsemf.measures import Network

Array = np.ndarray[Any, np.dtype[np.float64]]
Document = dict[str, Any]

SPHERE = ("relu", "relu2", "abs", "cubic")


def _dual(rng: np.random.Generator, name: str, d: int, j: int, m: int, bias: bool, degree: int = 9) -> SeriesDual:
    y = rng.standard_normal((j, d))
    y /= np.linalg.norm(y, axis=1, keepdims=True) * (1 + 1e-9)
    y[1] = y[0] + 1e-4 * y[2]  # nearly a copy, of opposite weight: a residual has such pairs
    y /= np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1.0) * (1 + 1e-9)
    g = rng.standard_normal((degree + 1, j, m)) * 0.7 ** np.arange(degree + 1)[:, None, None]
    g[:, 1] = -g[:, 0] * (1 + 1e-3)
    gram = y @ y.T
    sizes = np.sqrt([max(np.sum((g[k] @ g[k].T) * gram**k), 0.0) + 1e-20 for k in range(degree + 1)]) * (1 + 1e-9)
    shell = name in SPHERE
    return SeriesDual(name, y, g, sizes, d, bias, 1.0 if shell else 1.3, 1.0 if shell else 0.7, shell, False)


@pytest.mark.parametrize("m", [1, 3])
def test_norms_of_tensors(m: int) -> None:
    """ν_k is the spectral norm of an unfolding written out, no smaller than ⟨T_k, u^{⊗k}⟩ anywhere."""
    rng = np.random.default_rng(m)
    dual = _dual(rng, "tanh", 3, 5, m, False, 5)
    nu = dual_norms.tensor_norms(dual)
    u = rng.standard_normal((4000, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    for k in range(6):
        tensor = np.zeros((3**k, m))
        for y, g in zip(dual.directions, dual.weights[k], strict=True):
            power = np.ones(1)
            for _ in range(k):
                power = np.kron(power, y)
            tensor += np.outer(power, g)
        norms = [np.linalg.norm(tensor)]
        norms += [np.linalg.norm(tensor.reshape(3**p, -1), 2) for p in {(k + 1) // 2, max(k // 2, 1)} if k]
        assert min(norms) <= nu[k] * (1 + 1e-12)
        assert nu[k] <= min(norms) * (1 + 1e-6) + 1e-7
        seen = np.linalg.norm(np.einsum("nj,jm->nm", (u @ dual.directions.T) ** k, dual.weights[k]), axis=1)
        assert np.max(seen) <= nu[k] * (1 + 1e-12)
    assert nu[1] == pytest.approx(np.max(np.linalg.svd(dual.weights[1].T @ dual.directions)[1]), rel=1e-6)


def test_norms_with_any_lapack(monkeypatch: pytest.MonkeyPatch) -> None:
    """The square root of G_A may be anything: the bounds only grow."""
    dual = _dual(np.random.default_rng(0), "tanh", 4, 6, 1, False)
    truth, honest = dual_norms.tensor_norms(dual), np.linalg.eigh
    rng = np.random.default_rng(1)
    for lie in (1e-6, 1e-2, 0.5):
        monkeypatch.setattr(
            np.linalg,
            "eigh",
            lambda x, e=lie: (honest(x)[0] * (1 - e), honest(x)[1] + e * rng.standard_normal(x.shape)),
        )
        assert np.all(dual_norms.tensor_norms(dual) >= truth * (1 - 1e-9))


@pytest.mark.parametrize("name", [*SPHERE, "tanh", "gelu", "elu", "hardtanh", "exp", "hermite(3)"])
@pytest.mark.parametrize(("m", "bias"), [(1, True), (2, False)])
def test_never_below_points(name: str, m: int, bias: bool) -> None:
    """h on a fine grid of lengths and biases with the package's own coefficients, η at random points: both below the
    bound, h not by much."""
    rng = np.random.default_rng([m, *name.encode()])
    dual = _dual(rng, name, 5, 6, m, bias)
    found, nu = dual_norms.everywhere(dual), dual_norms.tensor_norms(dual)
    if dual.shell:
        angle = np.linspace(-np.pi / 2 + 1e-6, np.pi / 2 - 1e-6, 4001) if bias else np.zeros(1)
        s, b = np.cos(angle), np.sin(angle)
    else:
        s, b = (x.ravel() for x in np.meshgrid(np.linspace(1e-3, 1.3, 61), np.linspace(-0.7, 0.7, 41) * bias))
    c = np.abs(get(name).hermite(s, b, nu.size - 1))
    h = float(np.max(c @ nu))
    assert h <= found * (1 + 1e-12)
    assert found <= h * (1.12 if name == "hardtanh" else 1.02)
    u = rng.standard_normal((3000, 5))
    u[:1000] = dual.directions[rng.integers(6, size=1000)] * np.sign(rng.uniform(-1, 1, (1000, 1)))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    at = rng.integers(s.size, size=3000)
    power = (u @ dual.directions.T)[None] ** np.arange(nu.size)[:, None, None]
    signed = get(name).hermite(s[at], b[at], nu.size - 1)
    eta = np.linalg.norm(np.einsum("nk,knj,kjm->nm", signed, power, dual.weights), axis=1)
    assert np.max(eta) <= found * (1 + 1e-12)
    assert found <= dual.everywhere * 1.03 or name in ("exp", "hermite(3)")


@cache
def _solved(name: str) -> tuple[BlassoResult, Document]:
    rng = np.random.default_rng([2, *name.encode()])
    w = rng.standard_normal((7, 12))
    w *= 0.8 / np.linalg.norm(w, axis=1, keepdims=True)
    target = Network(np.sign(rng.standard_normal((7, 1))), w, np.zeros(7), name)
    limits = {} if name in SPHERE else {"radius": 0.9}
    effort = Effort(starts=40, iterations=5)
    result = blasso_on_network(target, 0.02, name, bias=False, affine=True, effort=effort, **limits)
    return result, json.loads(json.dumps(result.certificate()))


@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_many_dimensions(name: str) -> None:
    """Eight effective dimensions, no tree: a gap where Cauchy–Schwarz has next to none, checked and not forgeable."""
    result, doc = _solved(name)
    assert result.supremum.upper is not None
    assert "flattened" in result.supremum.how
    assert result.gap is not None
    assert doc["evidence"]["tree"] is None
    found = sparsemf.verify(doc)
    assert found.valid, found.reason
    claim = doc["claim"]
    eta = np.linalg.norm(result.eta(result.observation.space.sample(4000, np.random.default_rng(0))), axis=1)
    assert max(float(np.max(eta)), result.supremum.lower) <= result.supremum.upper
    assert result.supremum.lower * (1 - 1e-3) <= claim["sup"] <= 1.5
    assert claim["gap"] <= 0.3 * claim["value"]
    assert result.gap <= 0.3 * result.value
    weights = decode(doc["evidence"]["polynomial"]["weights"])
    for changed in (
        put(doc, ("claim", "sup"), claim["sup"] * (1 - 1e-6)),
        put(doc, ("claim", "dual_value"), claim["dual_value"] * (1 + 1e-6)),
        put(doc, ("claim", "gap"), claim["gap"] * (1 - 1e-6)),
        put(doc, ("program", "lam"), 0.0199),
        put(doc, ("evidence", "polynomial", "weights"), encode(weights * 1.01)),
        put(doc, ("evidence", "tree"), tree.packed(np.zeros(1, dtype=bool))),
    ):
        assert not sparsemf.verify({**changed, "seal": seal(changed)}).valid


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_steep_pairs(name: str) -> None:
    """Two close neurons of large opposite weight are a derivative in a direction that no other neuron has: small among
    the directions, large in η."""
    step, inner = 4e-6, np.zeros((3, 10))
    inner[0, 0] = inner[1, 0] = inner[2, 2] = 1.0
    inner[1, 1] = step
    target = Network(np.array([[1 / step], [-1 / step], [0.1]]), inner, np.zeros(3), get(name))
    observation = PopulationObservation.of(target, name, bias=False, radius=None if name == "relu" else 1.0)
    found = bounded_sup(observation, Atomic.empty(10, 1), 0.02, Effort(starts=50, most_dimensions=3))
    assert "flattened" in found.how
    assert found.upper is not None
    assert found.lower > 0.2
    assert found.lower <= found.upper < 1.5 * found.lower


def test_infinite_bounds_end() -> None:
    """sup‖η‖ = ∞ proves nothing, and neither it nor λ below the normal floats keeps the checker busy for ever."""
    assert optimality.best_dual(0.1, arb(1), arb(1), np.inf) == 0.0
    for sup in np.random.default_rng(0).uniform(0.01, 0.02, 40):
        for lam in (1e-310, 1.3e-320):
            assert 0 <= optimality.best_dual(lam, arb(1), arb(1), sup) <= lam / sup * (1 + 1e-9)
    q = population.Polynomial(np.eye(2), np.ones((4, 2, 1)), None)
    with population.BALLS.precision():
        dual = population.dual_on("exp", True, 40.0, 1.0, q, population.energies(q))
    assert dual_norms.everywhere(dual) == np.inf
    with pytest.raises(Refused, match="overflows"):
        population.prove_sup(dual, None, 1.0)


def test_slow_trees_are_short() -> None:
    """A document cannot ask for days: of softsign each node is an integral in balls."""
    q = population.Polynomial(np.eye(2), np.ones((4, 2, 1)), None)
    with population.BALLS.precision():
        dual = population.dual_on("softsign", False, 1.0, 0.0, q, population.energies(q))
    with pytest.raises(Refused, match="more than 10000 nodes"):
        population.prove_sup(dual, tree.packed(np.ones(200_001, dtype=bool)), 1.0)


def test_exp_too_large() -> None:
    """e^{b + |w|²} beyond e^100 is refused before anything overflows."""
    target = Network(np.ones((1, 1)), np.ones((1, 2)) / 2, np.zeros(1), get("exp"))
    with pytest.raises(InputError, match="smaller radii"):
        blasso_on_network(target, lam=0.1, radius=30.0, bias_radius=30.0)
    with pytest.raises(InputError, match="smaller radii"):
        blasso_on_network(target.with_(inner=20 * target.inner), lam=0.1, radius=1.0, bias_radius=1.0)


def test_polynomials_have_no_tail() -> None:
    """Atoms without degrees beyond K see nothing of what the target has there, though their slope is not bounded."""
    rng = np.random.default_rng(0)
    target = Network(rng.standard_normal((8, 1)), rng.standard_normal((8, 9)) / 3, rng.standard_normal(8) / 3)
    observation = PopulationObservation.of(target, "cubic")
    assert observation.degree is not None
    assert observation.degree > 128
    found = bounded_sup(observation, Atomic.empty(10, 1), 0.02, Effort(starts=20))
    assert found.upper is not None
    assert found.lower <= found.upper < 2 * found.lower
