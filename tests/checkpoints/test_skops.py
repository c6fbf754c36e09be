"""skops files that skops wrote: the network is the estimator, nothing is built, foreign types are refused."""

from __future__ import annotations

import json
import sys
import warnings
import zipfile

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler

from sparsemf import checkpoints
from sparsemf.checkpoints.opened import OpenCheckpoint
from sparsemf.checkpoints.write_back import WriteBack
from sparsemf.exceptions import InputError

sio = pytest.importorskip("skops.io")

SCALES = np.array([1.0, 1e3, 1e-3])


@pytest.fixture
def data(rng):
    x = rng.standard_normal((80, 3)) * SCALES + [5.0, -1e3, 0.0]
    return x, np.sin(x / SCALES) @ rng.standard_normal((3, 2)) * [1.0, 1e4]


def fitted(estimator, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(x, y)


def mlp(**options):
    return MLPRegressor(hidden_layer_sizes=(7,), max_iter=20, random_state=0, **options)


ESTIMATORS = {
    "plain": lambda: mlp(activation="tanh"),
    "lbfgs": lambda: mlp(activation="logistic", solver="lbfgs"),
    "generator": lambda: mlp().set_params(random_state=np.random.RandomState(3), early_stopping=True),
    "pipeline": lambda: make_pipeline(StandardScaler(), mlp()),
    "no mean": lambda: make_pipeline(StandardScaler(with_mean=False), mlp()),
    "no scale": lambda: make_pipeline(StandardScaler(with_std=False), mlp()),
    "passthrough": lambda: make_pipeline("passthrough", mlp()),
    "target": lambda: TransformedTargetRegressor(make_pipeline(StandardScaler(), mlp()), transformer=StandardScaler()),
}


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_network_is_the_estimator(tmp_path, data, kind):
    x, y = data
    estimator = fitted(ESTIMATORS[kind](), x, y)
    sio.dump(estimator, tmp_path / "a.skops")
    network = checkpoints.load(tmp_path / "a.skops")
    expected = estimator.predict(x)
    assert np.abs(network(x) - expected).max() <= 1e-9 * np.abs(expected).max()
    assert ("input" in network.provenance.extra) == (kind in ("pipeline", "no mean", "no scale", "target"))
    if kind in ("plain", "lbfgs", "generator"):
        assert np.array_equal(network.inner, estimator.coefs_[0].T)
        assert np.array_equal(network.offset, estimator.intercepts_[1])


def test_a_classifier_is_its_score(tmp_path, data):
    x, y = data
    estimator = fitted(MLPClassifier((7,), max_iter=20, random_state=0), x, (y[:, 0] > 0).astype(int))
    sio.dump(estimator, tmp_path / "a.skops", compression=zipfile.ZIP_DEFLATED)
    network = checkpoints.load(tmp_path / "a.skops")
    assert network.provenance.extra["output_activation"] == "logistic"
    assert np.allclose(1 / (1 + np.exp(-network(x)[:, 0])), estimator.predict_proba(x)[:, 1], atol=1e-12)


def test_a_scaled_target_behind_another_output_is_refused(tmp_path, data):
    """τ·exp(g(x)) is no network g with a scaled second layer."""
    x, y = data
    target = fitted(TransformedTargetRegressor(mlp(), transformer=StandardScaler(with_mean=False)), x, np.abs(y))
    target.regressor_.out_activation_ = "exp"  # what loss="poisson" fits
    sio.dump(target, tmp_path / "a.skops")
    with pytest.raises(InputError, match="a scaled target behind the output activation exp"):
        checkpoints.load(tmp_path / "a.skops")


def test_other_estimators_are_refused(tmp_path, data):
    x, y = data
    refused = {
        "got 2 hidden layers": fitted(MLPRegressor(hidden_layer_sizes=(4, 4), max_iter=5), x, y),
        "got a Pipeline of MinMaxScaler, MLPRegressor": fitted(make_pipeline(MinMaxScaler(), mlp()), x, y),
        "got StandardScaler": StandardScaler().fit(x),
        "a fitted MLP; call fit first": mlp(),
    }
    for message, estimator in refused.items():
        sio.dump(estimator, tmp_path / "a.skops")
        with pytest.raises(InputError, match=message):
            checkpoints.load(tmp_path / "a.skops")


class Foreign:
    """A class that no library trusts."""

    built = 0

    def __init__(self):
        type(self).built += 1


def test_untrusted_types_are_named_and_never_built(tmp_path, data):
    x, y = data
    estimator = fitted(mlp(), x, y)
    estimator.extra_ = Foreign()
    sio.dump(estimator, tmp_path / "a.skops")
    assert any("Foreign" in name for name in sio.get_untrusted_types(file=tmp_path / "a.skops"))
    before = Foreign.built
    with pytest.raises(InputError, match=r"got the types .*\.Foreign, which are never built"):
        checkpoints.inspect(tmp_path / "a.skops")
    assert Foreign.built == before
    estimator = fitted(make_pipeline(FunctionTransformer(np.exp), mlp()), x / 1e4, y)
    sio.dump(estimator, tmp_path / "a.skops")
    with pytest.raises(InputError, match="a StandardScaler and an MLP are read"):
        checkpoints.inspect(tmp_path / "a.skops")


def test_reading_needs_no_skops(tmp_path, data, monkeypatch):
    sio.dump(fitted(mlp(), *data), tmp_path / "a.skops")
    for name in [name for name in sys.modules if name.split(".")[0] == "skops"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert checkpoints.load(tmp_path / "a.skops").width == 7


@pytest.mark.parametrize("kind", ["plain", "pipeline", "target"])
@pytest.mark.parametrize("width", [7, 3])
def test_written_back(tmp_path, data, make, kind, width):
    """skops loads the copy, and the estimator predicts what the new network says."""
    x, y = data
    sio.dump(fitted(ESTIMATORS[kind](), x, y), tmp_path / "a.skops")
    old = checkpoints.load(tmp_path / "a.skops")
    network = make(width, 3, 2, old.activation.name)
    network = network.with_(inner=network.inner / SCALES, outer=network.outer * [1.0, 1e4])
    with OpenCheckpoint(tmp_path / "a.skops") as opened, WriteBack(tmp_path / "a.skops", tmp_path / "b.skops") as copy:
        rounding = copy.put(opened.layouts["main"], network)
        assert max(rounding.values(), default=0.0) == 0.0
        assert (copy.advice == ()) == (width == 7)
    trusted = sio.get_untrusted_types(file=tmp_path / "b.skops")
    estimator = sio.load(tmp_path / "b.skops", trusted=trusted)
    expected = network(x)
    assert np.abs(estimator.predict(x) - expected).max() <= 1e-8 * np.abs(expected).max()
    inside = getattr(estimator, "regressor_", estimator)
    inside = inside[-1] if hasattr(inside, "steps") else inside
    assert tuple(inside.hidden_layer_sizes) == (width,)
    assert inside.max_iter == 20
    again = checkpoints.load(tmp_path / "b.skops")
    assert np.abs(again(x) - expected).max() <= 1e-8 * np.abs(expected).max()


def test_damaged_files(tmp_path, data):
    sio.dump(fitted(mlp(), *data), tmp_path / "a.skops")
    with zipfile.ZipFile(tmp_path / "a.skops") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members["schema.json"])

    def write(content):
        with zipfile.ZipFile(tmp_path / "b.skops", "w") as archive:
            for name, value in content.items():
                archive.writestr(name, value)

    state = schema["content"]["content"]
    other = json.loads(json.dumps(schema))
    other["content"]["content"]["coefs_"]["content"][0]["file"] = "../../etc/passwd.npy"
    deep = "[" * 100_000 + "]" * 100_000
    for content, message in (
        (members | {"schema.json": b"{"}, "cannot be read"),
        (members | {"schema.json": b"[]"}, "is no tree of objects"),
        (members | {"schema.json": deep.encode()}, "cannot be read"),
        (members | {"schema.json": json.dumps(other).encode()}, "expected an array of the file"),
        ({k: v for k, v in members.items() if k != state["coefs_"]["content"][0]["file"]}, "expected an array of the"),
        (members | {state["coefs_"]["content"][0]["file"]: b"\x93NUMPY\x01\x00"}, "expected a whole npy array"),
    ):
        write(content)
        with pytest.raises(InputError, match=message):
            checkpoints.load(tmp_path / "b.skops")
