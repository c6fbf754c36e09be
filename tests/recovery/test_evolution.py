"""The path of atoms: dictionaries, matches and births on networks whose atoms are known."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

import sparsemf
from cases import planted, planted_gated
from sparsemf.atomic import json_text
from sparsemf.recovery import GaussianGeometry, upper_curve
from sparsemf.recovery.evolution import evolution
from sparsemf.symmetry import disguise, quotient


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "mish"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_stages_are_the_dictionaries_of_the_curve(activation: str, outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    canonical = quotient(planted(rng, activation, d=5, atoms=7, outputs=outputs, bias=True)).network
    curve = upper_curve(canonical)
    assert isinstance(curve.problem.geometry, GaussianGeometry)
    stages = evolution(curve, range(1, 8))
    for stage in stages:
        expected = curve.dictionary(stage.size)
        assert stage.atoms.n == expected.atoms.n <= stage.size
        np.testing.assert_allclose(stage.beta, expected.beta, rtol=1e-6, atol=1e-9)
        assert stage.error == curve.upper[stage.size]
    assert (stages[0].origin == -1).all()
    for before, stage in pairwise(stages):
        kept = stage.origin[stage.origin >= 0]
        assert np.unique(kept).size == kept.size <= before.atoms.n
        assert ((stage.nearest >= 0) & (stage.nearest < before.atoms.n)).all()


def test_a_cloud_around_few_atoms_keeps_them() -> None:
    """Beyond the planted five the same five go on; what joins is dust, or a piece split off one of them in
    place."""
    rng = np.random.default_rng(0)
    truth = planted(rng, "relu", d=8, atoms=5)
    copies = disguise(truth, rng, 60)
    noisy = copies.with_(inner=copies.inner + 1e-4 * rng.standard_normal(copies.inner.shape))
    analysis = sparsemf.analyze(noisy)
    assert analysis.s_star.value == 5
    stages = analysis.path["stages"]
    assert [stage["S"] for stage in stages] == list(range(1, 11))
    assert sorted(atom["row"] for atom in stages[4]["atoms"]) == [0, 1, 2, 3, 4]
    least = min(atom["size"] for atom in stages[4]["atoms"])
    for before, stage in pairwise(stages[4:]):
        known = {atom["row"]: atom for atom in stage["atoms"] if atom["row"] is not None}
        assert set(known) == {0, 1, 2, 3, 4}
        for row, atom in known.items():
            first = next(a for a in stages[4]["atoms"] if a["row"] == row)
            assert atom["position"] == pytest.approx(first["position"], abs=1.0)
        for atom in stage["atoms"]:
            if atom["from"] is None and atom["size"] > 0.05 * least:
                assert atom["position"] == pytest.approx(before["atoms"][atom["near"]]["position"], abs=1.0)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_disguises_have_the_same_path_and_certificate(activation: str) -> None:
    rng = np.random.default_rng(1)
    truth = planted(rng, activation, d=4, atoms=4, outputs=2, bias=True)
    first, second = (sparsemf.analyze(disguise(truth, np.random.default_rng(seed), 30)) for seed in (1, 2))
    for a, b in zip(first.path["stages"], second.path["stages"], strict=True):
        assert a["error"] == pytest.approx(b["error"], rel=1e-4, abs=1e-9)
    last = [sorted(atom["position"] for atom in f.path["stages"][-1]["atoms"]) for f in (first, second)]
    np.testing.assert_allclose(last[0], last[1], atol=1e-6)
    assert first.dual["norm"] == pytest.approx(second.dual["norm"], rel=1e-6)
    assert first.dual["largest"] == pytest.approx(second.dual["largest"], abs=1e-4)
    for a, b in zip(first.dual["slices"], second.dual["slices"], strict=True):
        assert a["through"] == b["through"]
        same = np.array([a["eta"], a["eta"][::-1]], dtype=float)  # a line may be walked from either end
        assert np.min(np.max(np.abs(same - np.array(b["eta"], dtype=float)), axis=1)) < 2e-3


def test_reasons() -> None:
    rng = np.random.default_rng(2)
    data = sparsemf.Empirical.of(rng.standard_normal((100, 3)))
    on_data = sparsemf.analyze(planted(rng, "relu", d=3, atoms=3), data, "data.npz")
    assert "Gaussian" in on_data.dual["reason"]
    assert on_data.path["stages"]
    gated = planted_gated(rng, "relu2", atoms=2)  # a gate of unbounded slope
    exact = sparsemf.analyze(gated)
    assert "exact count" in exact.dual["reason"]
    assert "exact count" in exact.path["reason"]
    empty = sparsemf.analyze(sparsemf.Network(np.zeros((2, 1)), np.ones((2, 3))))
    assert "0 atoms" in empty.dual["reason"]
    assert "no atoms" in empty.path["reason"]
    wide = sparsemf.analyze(planted(rng, "gelu", d=12, atoms=70), rel_eps=1e-9)
    assert "70 atoms" in wide.dual["reason"]
    assert wide.path["stages"][-1]["S"] == 24
    for analysis in (on_data, exact, empty, wide):
        json.loads(json_text(analysis.document()))
