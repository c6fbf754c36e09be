"""Verdicts on pairs with known truth; the certificate round trip."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sparsemf
from cases import ACTIVATIONS, planted, rotated_atom
from sparsemf import Empirical, Gaussian
from sparsemf.activations import get
from sparsemf.atomic import json_text
from sparsemf.pipeline.certify import document
from sparsemf.symmetry import disguise


def sealed(found, a, b, **kw):
    """The document as it comes back from a file."""
    return json.loads(json_text(document(found, a, b, **kw)))


@pytest.mark.parametrize(
    ("activation", "width", "outputs"),
    [(name, 64, m) for name in ACTIVATIONS for m in (1, 3)]
    + [(name, 2048, 3) for name in ("relu", "tanh", "hardtanh", "sin")],
)
def test_disguises_are_equivalent_and_a_moved_atom_is_distinct(activation: str, width: int, outputs: int) -> None:
    rng = np.random.default_rng(width * outputs)
    truth = planted(rng, activation, outputs=outputs, affine=True, bias=True)
    a, b = disguise(truth, rng, width), disguise(truth, rng, width)
    same = sparsemf.certify(a, b, rel_eps=1e-9)
    assert same.verdict == "equivalent"
    assert same.matching.unmatched_a == same.matching.unmatched_b == 0
    assert same.orbit_distance.value < 1e-9
    assert sparsemf.verify(sealed(same, a, b), {"a": a, "b": b}).valid
    moved = disguise(rotated_atom(truth, rng, 2, 0.05), rng, width)
    other = sparsemf.certify(a, moved, rel_eps=1e-3)
    assert other.verdict == "distinct"
    assert other.witness is not None
    gap = np.linalg.norm(a(other.witness[None]) - moved(other.witness[None]))
    assert 0 < other.gap <= gap * (1 + 1e-9)
    assert other.lower <= other.upper
    # an atom of hardtanh is a pair of relu kinks; a polynomial's atoms are no atoms of the function
    parts = {"kinks": 2, "matrix": 0, "quadratic": 0, "tensor": 0}.get(get(activation).kind, 1)
    assert (other.matching.matched, other.matching.unmatched_a) == (4 * parts, parts)
    assert sparsemf.verify(sealed(other, a, moved), {"a": a, "b": moved}).valid


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "softplus"])
@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e-6, 1e-3, 1e-1])
@pytest.mark.parametrize("case", ["l2", "sup", "empirical", "shifted"])
def test_bounds_bracket_the_truth_at_every_size(activation: str, size: float, case: str) -> None:
    rng = np.random.default_rng(17)
    a = planted(rng, activation, d=3, atoms=4, outputs=2, bias=True, length=0.8)
    b = a.with_(inner=a.inner + size * rng.standard_normal(a.inner.shape))
    x = rng.standard_normal((20000, 3))
    options: dict = {"rel_eps": 1e-4}
    if case == "empirical":
        options["law"] = Empirical.of(x[:500])
        x = x[:500]
    if case == "shifted":
        options["law"] = Gaussian.of([0.2, 0.0, -0.3], np.diag([0.5, 1.0, 0.0]))
        x = options["law"].sample(20000, rng)
    h = np.linalg.norm(a(x) - b(x), axis=1)
    if case == "sup":
        options |= {"norm": "sup", "radius": 2.0}
        x *= (2.0 / np.linalg.norm(x, axis=1) * rng.random(20000) ** (1 / 3))[:, None]
        sampled = float(np.max(np.linalg.norm(a(x) - b(x), axis=1)))
        found = sparsemf.certify(a, b, **options)
        assert sampled <= found.upper * (1 + 1e-9) + 1e-13
        # above rounding, the witness is at least as good as 20000 random points
        assert found.lower >= (0.95 * sampled if size > 1e-10 else 0.0)
    else:
        mean = float(np.sqrt(np.mean(h**2)))
        found = sparsemf.certify(a, b, **options)
        slack = 0.0 if case == "empirical" else 0.05 * mean
        assert found.lower <= mean + slack + 1e-13
        assert mean - slack <= found.upper + 1e-13
        if size >= 1e-3:
            assert found.upper <= (1.01 if case != "empirical" else 1.0001) * found.lower
        elif size >= 1e-6:  # the Gram form cancels below about 1e-6 of the mass; the grouped bound takes over
            assert found.upper <= 30 * found.lower
    assert found.verdict == {True: "equivalent"}.get(size <= 1e-6, found.verdict)


def test_relative_eps_uses_the_certified_norm() -> None:
    rng = np.random.default_rng(1)
    a = planted(rng, "gelu", outputs=2)
    found = sparsemf.certify(a, a.with_(outer=a.outer * 1.001), rel_eps=2e-3)
    assert found.verdict == "equivalent"
    assert found.eps <= found.eps_distinct <= found.eps * (1 + 1e-6)
    assert sparsemf.certify(a, a.with_(outer=a.outer * 1.001), rel_eps=5e-4).verdict == "distinct"


def test_undecided_between_the_bounds() -> None:
    """sup norm, ε between the witness and the Lipschitz bound: neither is claimed."""
    rng = np.random.default_rng(2)
    a = planted(rng, "tanh", d=8, atoms=6)
    b = a.with_(inner=a.inner + 0.05 * rng.standard_normal(a.inner.shape))
    probe = sparsemf.certify(a, b, norm="sup", radius=2.0)
    found = sparsemf.certify(a, b, norm="sup", radius=2.0, eps=float(np.sqrt(probe.lower * probe.upper)))
    assert found.verdict == "undecided"
    assert sparsemf.verify(sealed(found, a, b), {"a": a, "b": b}).valid


def test_different_kinds_are_refused() -> None:
    rng = np.random.default_rng(3)
    with pytest.raises(ValueError, match="input dimension"):
        sparsemf.certify(planted(rng, "relu"), planted(rng, "relu", d=3))
    gated = planted(rng, "relu")
    with pytest.raises(ValueError, match="gated"):
        sparsemf.certify(gated.with_(gate=gated.inner), planted(rng, "relu"))
    assert sparsemf.certify(planted(rng, "relu"), planted(rng, "tanh")).verdict == "distinct"
    with pytest.raises(ValueError, match="outputs"):
        sparsemf.certify(planted(rng, "relu"), planted(rng, "relu", outputs=2))


@pytest.mark.parametrize("name", ["erf", "tanh"])
def test_orbit_distance_across_the_half_space(name: str) -> None:
    """Neurons (1e-3, 1) and (−1e-3, 1): 0.002 apart, where a half-space form would say 2."""
    a = sparsemf.Network([[1.0]], [[1e-3, 1.0]], None, name)
    b = sparsemf.Network([[1.0]], [[-1e-3, 1.0]], None, name)
    found = sparsemf.certify(a, b)
    assert found.orbit_distance.value == pytest.approx(0.002, rel=1e-6)
    assert found.orbit_distance.dual_gap < 1e-8


def test_orbit_distance_is_zero_on_orbits_and_capped() -> None:
    rng = np.random.default_rng(5)
    for name in ("relu", "gelu", "tanh", "sigmoid"):
        net = planted(rng, name, bias=True, affine=True)
        assert sparsemf.certify(disguise(net, rng, 40), disguise(net, rng, 30)).orbit_distance.value < 1e-10
    # far apart, unit masses: creation and destruction cost 1 each, so transport is capped at 2
    a = sparsemf.Network([[1.0]], [[9.0, 0.0]], None, "tanh")
    b = sparsemf.Network([[1.0]], [[0.0, 9.0]], None, "tanh")
    assert sparsemf.certify(a, b).orbit_distance.value == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_orbit_distance_of_many_points_is_a_feasible_plan(name: str) -> None:
    """Above the size of the linear program: an upper bound near the true cost of small moves."""
    rng = np.random.default_rng(6)
    a = sparsemf.Network(rng.standard_normal((80, 1)), rng.standard_normal((80, 12)), None, name)
    b = a.with_(inner=a.inner * (1 + 1e-7) + 1e-5 * rng.standard_normal(a.inner.shape))
    found = sparsemf.certify(a, disguise(b, rng, 100)).orbit_distance
    few = [n.with_(outer=n.outer[:20], inner=n.inner[:20], bias=n.bias[:20]) for n in (a, b)]
    small = sparsemf.certify(*few).orbit_distance
    assert 0 < found.value < 1e-2
    assert 0 < small.value < found.value
    assert small.dual_gap <= 1e-6 * small.value + 1e-9
