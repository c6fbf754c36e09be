"""SparseDictionary: scikit-learn's own checks, planted atoms from data, certified networks, composition."""

from __future__ import annotations

import doctest
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import sparsemf
from cases import planted
from sparsemf import Gaussian, SparseDictionary
from sparsemf.exceptions import InputError
from sparsemf.symmetry import disguise

Array = NDArray[np.float64]
DOCS = Path(__file__).parents[2] / "docs"


def expected_failures(_estimator: Any) -> dict[str, str]:
    """None: what scikit-learn skips (array API, pandas) depends on what is installed."""
    return {}


@parametrize_with_checks(
    [
        SparseDictionary(max_atoms=3, width=32, max_iter=10, random_state=0),
        SparseDictionary("tanh", n_atoms=2, width=32, max_iter=10, fit_bias=False, affine="charged", random_state=0),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def cosines(found: Array, truth: Array) -> Array:
    """For every planted direction the largest |cos| with a found one."""
    unit = [w / np.linalg.norm(w, axis=1)[:, None] for w in (found, truth)]
    return np.max(np.abs(unit[0] @ unit[1].T), axis=0)


@pytest.mark.parametrize(
    "activation", ["relu", "leaky_relu(0.3)", "abs", "tanh", "sigmoid", "erf", "gelu", "silu", "softplus", "sin"]
)
@pytest.mark.parametrize("outputs", [1, 3])
def test_planted_atoms_are_found_in_data(activation: str, outputs: int) -> None:
    """Exact labels on shifted and scaled inputs: S, every direction and the function are found."""
    rng = np.random.default_rng(outputs)
    net = planted(rng, activation, d=4, atoms=3, outputs=outputs, bias=True, affine=True)
    law = Gaussian.of(rng.standard_normal(4), np.diag([0.5, 1.0, 1.5, 1.0]))
    x = law.sample(500, rng)
    model = SparseDictionary(activation, random_state=0).fit(x, net(x))
    assert model.n_atoms_ == 3
    assert np.min(cosines(model.atoms_, net.inner)) > 1 - 1e-8
    fresh = law.sample(200, rng)
    np.testing.assert_allclose(model.predict(fresh), net(fresh), atol=1e-5)
    assert model.score(fresh, net(fresh)) > 1 - 1e-9
    np.testing.assert_allclose(model.network_(fresh), model.predict(fresh), atol=1e-9)


@pytest.mark.parametrize(("affine", "free"), [("free", 4), ("offset", 1), ("charged", 0)])
@pytest.mark.parametrize("outputs", [1, 2])
def test_what_stands_beside_the_atoms(affine: str, free: int, outputs: int) -> None:
    """The planted number is found where the labels have what is free.  A line costs relu one atom that is nowhere off
    on the data, beside a constant, and two beside nothing."""
    rng = np.random.default_rng(7)
    net = planted(rng, "relu", d=3, atoms=2, outputs=outputs, bias=True, affine=True)
    kept = net.with_(affine=net.affine * (free > 1), offset=net.offset * (free > 0))
    x = rng.standard_normal((400, 3)) + 0.3
    model = SparseDictionary(affine=affine, random_state=0).fit(x, kept(x))
    assert model.n_atoms_ == 2
    assert np.any(model.affine_) == (free > 1)
    assert np.any(model.offset_) == (free > 0)
    np.testing.assert_allclose(np.reshape(model.predict(x), (400, -1)), kept(x), atol=1e-6)
    line = x @ rng.standard_normal(3) + (free > 0)
    assert SparseDictionary(affine=affine, random_state=0).fit(x, line).n_atoms_ == {4: 0, 1: 1, 0: 2}[free]


def test_a_network_without_an_affine_part_beside_its_atoms() -> None:
    """relu(z) − relu(−z) + relu(v) is one kink beside a line, and three atoms without one."""
    w = np.array([[1.0, 0.5], [-1.0, -0.5], [0.2, -1.0]])
    net = sparsemf.Network(np.array([[1.0], [-1.0], [1.0]]), w, activation="relu")
    assert SparseDictionary.from_network(net).s_star_.value == 1
    found = SparseDictionary.from_network(net, affine="charged", rel_eps=1e-3)
    assert (found.s_star_.value, found.n_atoms_) == (3, 3)
    assert found.s_star_.lower >= 2
    assert not found.affine_.any()
    assert not found.offset_.any()
    with pytest.raises(InputError, match="affine: expected one of free, offset, charged"):
        SparseDictionary(affine="none").fit(np.eye(4), np.ones(4))


def test_noisy_labels_give_the_planted_number_by_the_criterion() -> None:
    rng = np.random.default_rng(1)
    net = planted(rng, "relu", d=5, atoms=4, bias=True)
    x = rng.standard_normal((1000, 5))
    y = net(x)[:, 0] + 0.1 * rng.standard_normal(1000)
    model = SparseDictionary(random_state=0).fit(x, y)
    assert model.n_atoms_ == 4
    assert np.min(cosines(model.atoms_, net.inner)) > 0.99
    assert model.s_star_.eps[0] == pytest.approx(0.1, rel=0.1)
    assert not model.s_star_.certified
    assert model.s_star_.lower == 0
    assert not model.staircase_["lower"].any()


def test_errors_asked_for_are_reached_by_the_least_number() -> None:
    rng = np.random.default_rng(2)
    net = planted(rng, "gelu", d=4, atoms=5, bias=True)
    x = rng.standard_normal((800, 4))
    y = net(x)[:, 0]
    for model in (
        SparseDictionary("gelu", rel_eps=0.2, random_state=0),
        SparseDictionary("gelu", eps=0.1, random_state=0),
    ):
        model.fit(x, y)
        error = float(np.sqrt(np.mean((model.predict(x) - y) ** 2)))
        asked = 0.1 if model.eps else 0.2 * float(np.std(y))
        assert error <= asked * (1 + 1e-9)
        assert model.staircase_["upper"][model.n_atoms_] == pytest.approx(error, rel=1e-6)
        assert model.staircase_["upper"][model.n_atoms_ - 1] > asked
        assert model.s_star_.eps[0] == pytest.approx(error)
    with pytest.warns(ConvergenceWarning, match="raise max_atoms"):
        SparseDictionary("gelu", rel_eps=1e-6, max_atoms=2, random_state=0).fit(x, y)


def test_particles_of_a_trained_measure_as_candidates() -> None:
    rng = np.random.default_rng(3)
    net = planted(rng, "tanh", d=4, atoms=3)
    x = rng.standard_normal((400, 4))
    model = SparseDictionary("tanh", solver="particles", width=64, steps=200, fit_bias=False, random_state=0)
    model.fit(x, net(x)[:, 0])
    assert model.n_atoms_ == 3
    assert not model.bias_.any()
    assert np.min(cosines(model.atoms_, net.inner)) > 1 - 1e-8


@pytest.mark.parametrize("activation", ["softplus", "gelu", "tanh", "sigmoid"])
def test_quadratic_labels_do_not_run_away(activation: str) -> None:
    """‖x‖² is the limit of atoms with w → 0 and β → ∞: the path must stay within the numbers."""
    rng = np.random.default_rng(11)
    x = rng.standard_normal((300, 3))
    y = np.sum(x**2, axis=1) + 0.05 * rng.standard_normal(300)
    model = SparseDictionary(activation, max_atoms=6, random_state=0).fit(x, y)
    assert np.isfinite(model.coef_).all()
    assert model.score(x, y) > 0.95


def test_numbers_of_every_size_that_can_be_squared() -> None:
    rng = np.random.default_rng(8)
    x = rng.standard_normal((200, 3))
    y = np.tanh(2 * x[:, 0]) + 0.1 * x[:, 1]
    for factor in (1e-90, 1e90):
        model = SparseDictionary("tanh", random_state=0).fit(factor * x, y)
        assert model.n_atoms_ == 1
        assert model.score(factor * x, y) > 1 - 1e-9
    for bad in ({"X": 1e200 * x, "y": y}, {"X": x, "y": 1e200 * y}):
        with pytest.raises(ValueError, match="of size up to 1e\\+100"):
            SparseDictionary().fit(**bad)
    with pytest.raises(ValueError, match="dense"):
        SparseDictionary().fit(x, csr_array(y[:, None]))
    with pytest.raises(InputError, match=r"sparsemf\.Network"):
        SparseDictionary().fit_network("model.npz")  # type: ignore[arg-type]


def test_more_rows_than_are_searched() -> None:
    rng = np.random.default_rng(4)
    net = planted(rng, "relu", d=3, atoms=2, bias=True)
    x = rng.standard_normal((9000, 3))
    model = SparseDictionary(n_atoms=2, random_state=0).fit(x, net(x)[:, 0])
    assert model.score(x, net(x)[:, 0]) > 1 - 1e-12


@pytest.mark.parametrize("rows", [2, 5, 12])
def test_few_rows_and_constant_columns_do_not_overfit(rows: int) -> None:
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.standard_normal((rows, 2)), np.full((rows, 1), 7.0)], axis=1)
    y = 1e6 + x[:, 0]
    model = SparseDictionary(random_state=0).fit(x, y)
    assert model.n_atoms_ == 0
    assert model.transform(x).shape == (rows, 0)
    np.testing.assert_allclose(model.predict(x), y, rtol=1e-12)


def test_network_with_its_certified_staircase() -> None:
    rng = np.random.default_rng(6)
    truth = planted(rng, "gelu", d=5, atoms=4, outputs=2, bias=True, affine=True)
    net = disguise(truth, rng, 60)
    model = SparseDictionary.from_network(net)
    assert model.s_star_.certified
    assert (model.s_star_.value, model.n_atoms_, model.activation) == (4, 4, "gelu")
    assert (model.staircase_["lower"] <= model.staircase_["upper"]).all()
    assert model.staircase_["lower"][3] > model.staircase_["upper"][4]
    x = rng.standard_normal((100, 5))
    np.testing.assert_allclose(model.predict(x), truth(x), atol=1e-9)
    np.testing.assert_allclose(
        model.transform(x) @ model.coef_ + x @ model.affine_.T + model.offset_, truth(x), atol=1e-9
    )
    fewer = SparseDictionary.from_network(net, n_atoms=2)
    assert fewer.n_atoms_ == 2
    many = rng.standard_normal((50_000, 5))
    square = np.sum((fewer.predict(many) - truth(many)) ** 2, axis=1)
    assert np.sqrt(np.mean(square)) == pytest.approx(fewer.staircase_["upper"][2], rel=0.03)
    with pytest.raises(InputError, match="gated"):
        SparseDictionary.from_network(
            sparsemf.Network([[1.0]], [[1.0]], activation="silu", gate=[[1.0]]), activation="silu"
        )


def test_quadratic_part_beside_the_atoms_is_refused_not_dropped() -> None:
    """relu² flips pay with a quadratic form, and a file may have one: predict would silently leave it out."""
    bent = sparsemf.Network([[1.0], [1.0]], [[1.0, 0.5], [-1.0, 0.3]], activation="relu2")
    file = sparsemf.Network([[1.0]], [[1.0, 0.5]], activation="tanh", quadratic=[np.eye(2)])
    for network in (bent, file):
        with pytest.raises(InputError, match="quadratic part"):
            SparseDictionary("tanh").fit_network(network)


def test_steps_that_overflow_are_refused() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 2))
    y = np.tanh(2 * x[:, 0])
    model = SparseDictionary("exp", max_atoms=3, width=64, random_state=0).fit(x, y)
    assert model.staircase_["upper"][-1] < model.staircase_["upper"][0]
    assert np.sqrt(np.mean((model.predict(x) - y) ** 2)) <= model.s_star_.eps[1] * (1 + 1e-9)


def test_network_under_another_law_within_its_staircase() -> None:
    """The error of the two-atom dictionary, measured on samples, is what the staircase certifies."""
    rng = np.random.default_rng(7)
    net = planted(rng, "relu", d=3, atoms=4, bias=True)
    law = Gaussian.of([0.3, -0.2, 0.1], np.diag([1.0, 0.5, 2.0]))
    model = SparseDictionary("relu", n_atoms=2).fit_network(net, law)
    x = law.sample(200_000, rng)
    error = float(np.sqrt(np.mean((model.predict(x) - net(x)[:, 0]) ** 2)))
    assert error == pytest.approx(model.staircase_["upper"][2], rel=0.02)
    assert error > model.staircase_["lower"][2] * 0.98


def test_composes_clones_and_pickles() -> None:
    rng = np.random.default_rng(8)
    net = planted(rng, "relu", d=3, atoms=2, bias=True)
    x = rng.standard_normal((300, 3))
    y = net(x)[:, 0]
    search = GridSearchCV(SparseDictionary(width=64, max_iter=30, random_state=0), {"n_atoms": [0, 1, 2]}, cv=3)
    search.fit(x, y)
    assert search.best_params_ == {"n_atoms": 2}
    chain = make_pipeline(StandardScaler(), SparseDictionary(n_atoms=2, width=64, random_state=0), Ridge(1e-8))
    chain.fit(x, y)
    assert chain[:-1].transform(x).shape == (300, 2)
    assert np.mean(cross_val_score(SparseDictionary(n_atoms=2, random_state=0), x, y, cv=3)) > 1 - 1e-9
    first = SparseDictionary(random_state=3).fit(x, y)
    again = clone(first).fit(x, y)
    np.testing.assert_array_equal(first.predict(x), again.predict(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(first)).predict(x), first.predict(x))
    assert list(first.get_feature_names_out()) == ["sparsedictionary0", "sparsedictionary1"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"activation": "no such"}, "unknown activation"),
        ({"activation": "relu2"}, "independent atoms"),
        ({"activation": 3}, "a name of the catalogue"),
        ({"n_atoms": -1}, "n_atoms"),
        ({"n_atoms": 1, "eps": 0.1}, "at most one of"),
        ({"rel_eps": float("nan")}, "rel_eps"),
        ({"solver": "magic"}, "solver"),
        ({"width": 0}, "width"),
        ({"max_iter": 2.5}, "max_iter"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseDictionary(**parameters).fit(np.eye(4), np.arange(4.0))


def test_unfitted_says_so() -> None:
    with pytest.raises(NotFittedError):
        SparseDictionary().predict(np.eye(2))
    with pytest.raises(NotFittedError):
        _ = SparseDictionary().network_


def test_importing_the_package_loads_no_scikit_learn() -> None:
    code = "import sys, sparsemf; assert not {'sklearn', 'torch', 'cvxpy', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_documented_example_runs() -> None:
    found = doctest.testfile(
        str(DOCS / "estimator.md"), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    assert found.attempted > 8
    assert found.failed == 0
