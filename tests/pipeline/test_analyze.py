"""The main job on planted truth: S* certified for disguises, special cases, the document's contract."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sparsemf
from cases import ANALYSED, planted, separated_directions
from sparsemf import Empirical, Gaussian, Network
from sparsemf.atomic import json_text
from sparsemf.symmetry import disguise


@pytest.mark.parametrize("activation", ANALYSED)
@pytest.mark.parametrize(("width", "outputs"), [(64, 1), (300, 3), (2048, 1), (2048, 3)])
def test_disguised_planted_networks(activation: str, width: int, outputs: int) -> None:
    rng = np.random.default_rng(width + outputs)
    truth = planted(rng, activation, d=8, atoms=5, outputs=outputs, affine=True)
    found = sparsemf.analyze(disguise(truth, rng, width))
    assert found.s_star.certified
    assert found.s_star.value == 5
    assert found.s_star.strength > 10
    assert found.upper.upper[5] < 1e-9 * found.norm.upper
    unit = truth.inner / np.linalg.norm(truth.inner, axis=1)[:, None]
    w = np.array([a.w for a in found.atoms])
    cos = np.abs((w / np.linalg.norm(w, axis=1)[:, None]) @ unit.T)
    assert (np.max(cos, axis=0) > 1 - 1e-12).all()
    assert sum(a.particles for a in found.atoms) == found.quotient.active


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize(("d", "atoms"), [(6, 12), (16, 24), (2, 3)])
def test_more_atoms_than_dimensions(activation: str, d: int, atoms: int) -> None:
    rng = np.random.default_rng(d)
    truth = planted(rng, activation, d=d, atoms=atoms)
    found = sparsemf.analyze(disguise(truth, rng, 3 * atoms))
    assert (found.s_star.value, found.s_star.certified) == (atoms, True)


def test_two_opposite_relus_on_one_hyperplane() -> None:
    one = sparsemf.analyze(Network([[1.0], [2.0]], [[1.0, 2.0], [-1.0, -2.0]], [0.5, -0.5], "relu"))
    assert (one.s_star.value, one.s_star.certified) == (1, True)
    none = sparsemf.analyze(Network([[1.0], [-1.0]], [[1.0, 2.0], [-1.0, -2.0]], [0.5, -0.5], "relu"))
    assert (none.s_star.value, none.s_star.certified) == (0, True)
    np.testing.assert_allclose(none.dictionary.affine, [[1.0, 2.0]], atol=1e-12)


@pytest.mark.parametrize("width", [0, 3])
def test_affine_functions_have_no_atoms(width: int) -> None:
    net = Network(np.zeros((width, 2)), np.ones((width, 3)), None, "gelu", affine=np.ones((2, 3)), offset=[1.0, 2.0])
    found = sparsemf.analyze(net)
    assert (found.s_star.value, found.s_star.certified) == (0, True)
    document = json.loads(json_text(found.document()))
    assert document["s_star"]["eps"][1] is None


def test_zero_function() -> None:
    found = sparsemf.analyze(Network(np.zeros((2, 1)), np.ones((2, 3))))
    assert (found.s_star.value, found.s_star.certified) == (0, True)


def test_non_standard_gaussian_gives_atoms_in_input_coordinates() -> None:
    rng = np.random.default_rng(3)
    truth = planted(rng, "gelu", d=5, atoms=4, outputs=2, bias=True)
    root = np.eye(5) + 0.2 * rng.standard_normal((5, 5))
    law = Gaussian.of(0.3 * rng.standard_normal(5), root @ root.T)
    found = sparsemf.analyze(disguise(truth, rng, 60), law)
    assert (found.s_star.value, found.s_star.certified) == (4, True)
    x = rng.standard_normal((200, 5))
    np.testing.assert_allclose(found.dictionary(x), truth(x), atol=1e-9)


def test_with_one_output_data_bound_l0_alone_and_the_analysis_says_so() -> None:
    rng = np.random.default_rng(4)
    truth = planted(rng, "relu", d=4, atoms=3, bias=True)
    found = sparsemf.analyze(disguise(truth, rng, 40), Empirical.of(rng.standard_normal((200, 4))), "data.npz")
    assert not found.s_star.certified
    assert (found.s_star.lower, found.s_star.value) == (1, 3)
    assert found.staircase.lower[0] == pytest.approx(found.staircase.upper[0], rel=1e-9)
    assert not found.staircase.lower[1:].any()
    assert any("the only lower bound" in warning for warning in found.warnings)


def test_eps_asks_for_a_bracket() -> None:
    rng = np.random.default_rng(5)
    found = sparsemf.analyze(planted(rng, "tanh", atoms=6), rel_eps=0.2)
    star = found.s_star
    assert star.eps[0] == star.eps[1] == pytest.approx(0.2 * found.norm.lower)
    assert star.lower <= star.value == star.upper
    assert found.upper.upper[star.upper] <= star.eps[0] < found.upper.upper[star.upper - 1]
    assert found.staircase.lower[star.lower - 1] > star.eps[0]
    assert star.certified == (star.lower == star.upper)


def test_pair_of_atoms_below_resolution_is_one_atom() -> None:
    """Atoms 1e-9 apart must not win by an infinitely long plateau at 0."""
    w = separated_directions(np.random.default_rng(6), 3, 6)
    inner = np.concatenate([w, w[:1] + 1e-9 * w[1:2]])
    found = sparsemf.analyze(Network([[1.0], [1.0], [-1.0], [1.0]], inner, None, "tanh"))
    assert (found.s_star.value, found.s_star.certified) == (3, True)


def test_document_contract() -> None:
    rng = np.random.default_rng(7)
    document = sparsemf.analyze(disguise(planted(rng, "relu", outputs=3, bias=True), rng, 50)).document()
    assert document["schema"] == "sparsemf/analyze/1"
    assert set(document) >= {
        "schema", "tool", "version", "input", "config", "timing_s", "active", "quotient", "dictionary", "s_star",
        "staircase", "function_norm", "s_up", "warnings",
    }  # fmt: skip
    assert set(document["input"]) >= {"path", "sha256", "block", "activation", "d", "m", "width"}
    assert set(document["active"]) == {"width", "inactive", "domain_inactive"}
    assert set(document["quotient"]) >= {"width", "flips", "merged", "affine_norm"}
    assert set(document["dictionary"]["atoms"][0]) == {"w", "b", "alpha", "particles", "spread"}
    assert set(document["s_star"]) >= {"value", "certified", "lower", "upper", "eps", "strength", "counts"}
    assert document["staircase"][2].keys() >= {"S", "upper", "lower"}
    assert [row["S"] for row in document["staircase"]] == list(range(document["quotient"]["width"] + 1))
    assert json.loads(json_text(document)) == json.loads(json_text(json.loads(json_text(document))))


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "sigmoid"])
def test_sparsity_certificate_is_confirmed(activation: str, outputs: int) -> None:
    rng = np.random.default_rng(8)
    net = disguise(planted(rng, activation, outputs=outputs), rng, 100)
    certificate = json.loads(json_text(sparsemf.analyze(net).certificate()))
    assert certificate["claim"]["certified"]
    assert certificate["claim"]["upper"] == 5
    found = sparsemf.verify(certificate, {"a": net})
    assert found.valid, found.reason
    other = net.with_(bias=net.bias + 1e-9)
    assert not sparsemf.verify(certificate, {"a": other}).valid
