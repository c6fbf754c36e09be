"""The step of analyze that bounds S* by coefficients and singular values: fields, laws, contradictions refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import sparsemf
from cases import planted
from sparsemf import Empirical
from sparsemf.atomic import json_text
from sparsemf.certificates.sparsity import InconsistentBounds
from sparsemf.pipeline.coefficients import coefficient_bounds
from sparsemf.symmetry import disguise


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_document_fields_agree_with_the_staircase(activation: str) -> None:
    rng = np.random.default_rng(1)
    found = sparsemf.analyze(disguise(planted(rng, activation, outputs=2, bias=True), rng, 40))
    document = json.loads(json_text(found.document()))
    threshold = document["threshold"]
    assert threshold["kind"] == "certificate"
    assert found.s_star.eps[0] <= threshold["eps"] <= found.s_star.eps[1]
    assert threshold["lower"] == 5 == threshold["upper"]
    assert threshold["minimiser"]["atoms"] <= threshold["lower"]
    assert threshold["coefficient"]["value"] == 5
    rows = document["compressibility"]["curves"]
    stairs = {row["S"]: row for row in document["staircase"]}
    assert all(row["best"] >= stairs[row["S"]]["lower"] for row in rows)
    assert all(row["best"] <= min(row["maurey"], row["thresholding"]) for row in rows)
    assert document["compressibility"]["variation"] >= document["norm_beyond_affine"]


def test_empirical_law_bounds_from_above_only() -> None:
    """On data rows: the pruned network's own error, affine part refitted, is below the thresholding curve."""
    rng = np.random.default_rng(2)
    net = planted(rng, "relu", d=4, atoms=8, bias=True)
    x = rng.standard_normal((300, 4))
    found = sparsemf.analyze(net, Empirical.of(x))
    assert found.coefficients is not None
    document = found.document()
    assert document["threshold"]["lower"] is None
    assert document["threshold"]["minimiser"] is None
    curves = found.coefficients.curves
    design = np.concatenate([np.ones((300, 1)), x], axis=1)
    phi = np.maximum(x @ net.inner.T + net.bias, 0.0)
    phi -= design @ np.linalg.lstsq(design, phi, rcond=None)[0]
    size = np.abs(net.alpha[:, 0]) * np.sqrt(np.mean(phi**2, axis=0))
    np.testing.assert_allclose(curves.kappa, np.sort(size)[::-1], rtol=1e-6)
    order = np.argsort(-size)
    for kept in range(8):
        rest = phi[:, order[kept:]] @ net.alpha[order[kept:], 0]
        assert np.sqrt(np.mean(rest**2)) <= curves.thresholding[kept]


def test_contradictions_are_refused() -> None:
    rng = np.random.default_rng(3)
    found = sparsemf.analyze(planted(rng, "tanh", atoms=4))
    arguments = (found.upper, found.lower, found.staircase, found.s_star, 0.0)
    assert coefficient_bounds(*arguments).upper == 4
    forged = replace(found.staircase, lower=found.staircase.lower + 100.0)
    with pytest.raises(InconsistentBounds, match="below the lower curve"):
        coefficient_bounds(found.upper, found.lower, forged, found.s_star, 0.0)
    wrong = replace(found.staircase, upper=np.zeros_like(found.staircase.upper))
    with pytest.raises(InconsistentBounds, match="the staircase by"):
        coefficient_bounds(found.upper, found.lower, wrong, found.s_star, 0.0)


@pytest.mark.parametrize("width", [0, 1])
def test_affine_and_single_neuron(width: int) -> None:
    net = sparsemf.Network(np.ones((width, 1)), np.ones((width, 2)), None, "gelu", affine=np.ones((1, 2)))
    document = json.loads(json_text(sparsemf.analyze(net).document()))
    assert document["threshold"]["lower"] == width
    assert document["compressibility"]["curves"][-1]["best"] < 1e-12
