"""The four results: kept steps, evidence against closed forms, and the page."""

import json
import math

import numpy as np
import pytest

from sparsemf.errors.claims import decomposition, dictionary, identifiability, moments
from sparsemf.errors.claims.steps import Step, kept
from sparsemf.reports.page import render
from sparsemf_datasets import load_task
from sparsemf_datasets.tasks import DataTask

CALLS = []


def counted(folder, *, value):
    CALLS.append(value)
    return {"twice": np.float64(2 * value)}


def test_a_step_is_computed_once_and_known_by_its_arguments(tmp_path):
    CALLS.clear()
    step = Step("a", counted, {"value": 3})
    assert kept(tmp_path, step) == {"twice": 6.0} == kept(tmp_path, step)
    assert kept(tmp_path, Step("a", counted, {"value": 4})) == {"twice": 8.0}
    assert CALLS == [3, 4]
    task = load_task("planted-tanh", d=3, atoms=3)
    other = load_task("planted-tanh", d=3, atoms=4)
    keys = {Step("m", counted, {"task": t}).key for t in (task, other, load_task("planted-tanh", d=3, atoms=3))}
    assert len(keys) == 2


def test_a_gaussian_of_biases_tends_to_one_atom_as_a_function_but_not_as_a_measure(tmp_path):
    """The certified distance against quadrature; it falls fast with n, the orbit distance does not."""
    few, more = (identifiability.spread_biases(tmp_path, atoms=n) for n in (2, 12))
    x, w = np.polynomial.hermite_e.hermegauss(180)
    from scipy.stats import norm

    def distance(n):
        z, o = np.polynomial.hermite_e.hermegauss(n)
        many = norm.cdf(x[:, None] - z) @ o / math.sqrt(2 * math.pi)
        return math.sqrt((w / math.sqrt(2 * math.pi)) @ (norm.cdf(x / math.sqrt(2)) - many) ** 2)

    assert few["lower"] <= distance(2) * (1 + 1e-9)
    assert distance(2) <= few["upper"] * (1 + 1e-9)
    assert few["upper"] == pytest.approx(distance(2), rel=1e-3)
    assert more["upper"] < 1e-2 * few["upper"]
    assert more["orbit_lower"] > 0.2


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_disguised_pairs_are_equivalent_and_moved_ones_distinct(activation, tmp_path):
    found = identifiability.pair(tmp_path, activation=activation, seed=0)
    assert found["same"]["verdict"] == "equivalent"
    assert found["other"]["verdict"] == "distinct"
    claim = identifiability.conclude(
        {"pair-a": found, **{f"biases-{n}": identifiability.spread_biases(tmp_path, atoms=n) for n in (4, 16)}}
    )
    assert [a.verdict for a in claim.answers] == ["reading", "fails"]
    found["same"]["verdict"] = "undecided"
    doubtful = {"pair-a": found, "biases-2": identifiability.spread_biases(tmp_path, atoms=2)}
    assert identifiability.conclude(doubtful).answers[0].verdict == "undecided"


def test_the_threshold_number_falls_below_the_certified_one(tmp_path):
    """Theory: 1 at the axis, 0 at 45°; S* = 1 at both."""
    straight, turned = (dictionary.threshold(tmp_path, angle=a, level=0.2) for a in (0.0, 45.0))
    assert (straight["s_up"], turned["s_up"]) == (1, 0)
    assert straight["s_star"]["value"] == turned["s_star"]["value"] == 1
    assert turned["s_star"]["certified"]


def test_empirical_measures_of_independent_draws_have_the_rate_of_their_dimension(tmp_path):
    """No training: initial values in R^4, so N^(−1/2), far from 1/N."""
    base = load_task("planted-tanh", d=3, atoms=3)
    task = DataTask("samples", {}, base.sample(16, 0), "tanh")
    found = moments.empirical(tmp_path, task=task, widths=[32, 128, 512], pairs=3, steps=1)
    assert found["dimension"] == 4
    assert found["rate"]["exponent"] == pytest.approx(-0.5, abs=0.15)


def test_the_page_of_a_reproduction(tmp_path):
    claim = identifiability.conclude(
        {
            "pair-a": identifiability.pair(tmp_path, activation="relu", seed=0),
            **{f"biases-{n}": identifiability.spread_biases(tmp_path, atoms=n) for n in (2, 8)},
        }
    )
    document = {
        "schema": "sparsemf/reproduce/1",
        "config": {"size": "quick"},
        "source": "arXiv:2605.24710",
        "claims": [claim.to_dict(), decomposition.conclude({}).to_dict()],
        "budgets": {},
    }
    page = render(json.loads(json.dumps(document, allow_nan=False)))
    assert "Fails when read literally" in page
    assert "Our reading:" in page
    assert page.count("<svg") == 1
