"""Keras files that Keras wrote: blocks are the model's layers, the model is never built, and Keras loads the
copy."""

from __future__ import annotations

import json
import os
import warnings
import zipfile

import numpy as np
import pytest

from sparsemf import checkpoints
from sparsemf.checkpoints.opened import OpenCheckpoint
from sparsemf.checkpoints.write_back import WriteBack
from sparsemf.exceptions import InputError

os.environ.setdefault("KERAS_BACKEND", "jax")
h5py = pytest.importorskip("h5py")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    keras = pytest.importorskip("keras")

# what Keras itself warns of: numpy's copy keyword, and .h5 being its older format
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

L = keras.layers
D, N, M = 3, 7, 2


def dense(model, name):
    return [np.asarray(value, np.float64) for value in model.get_layer(name).get_weights()]


def sequential(*between, dtype=None, first=None, **options):
    layers = [keras.Input((D,)), L.Dense(N, name="one", dtype=dtype, activation=first), *between]
    model = keras.Sequential([*layers, L.Dense(M, name="two", dtype=dtype, **options)])
    for layer in (model.get_layer("one"), model.get_layer("two")):
        rng = np.random.default_rng(len(layer.name))
        layer.set_weights([rng.standard_normal(w.shape).astype(w.dtype) for w in layer.get_weights()])
    return model


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    ("between", "name"),
    [
        (lambda: [L.Activation("gelu")], "gelu"),
        (lambda: [L.Dropout(0.3), L.LeakyReLU(negative_slope=0.125), L.GaussianNoise(0.1)], "leaky_relu(0.125)"),
        (lambda: [L.ReLU(max_value=6.0)], "relu6"),
        (lambda: [L.ELU(0.5)], "elu(0.5)"),
        (lambda: [L.Activation("leaky_relu")], "leaky_relu(0.2)"),
        (lambda: [L.Activation("hard_tanh")], "hardtanh"),
    ],
)
def test_the_network_is_the_model(tmp_path, rng, suffix, between, name):
    model = sequential(*between())
    model.save(tmp_path / f"a{suffix}")
    network = checkpoints.load(tmp_path / f"a{suffix}")
    assert (network.provenance.block, network.activation.name) == ("one-two", name)
    kernel, bias = dense(model, "one")
    assert np.array_equal(network.inner, kernel.T)
    assert np.array_equal(network.bias, bias)
    x = rng.standard_normal((50, D))
    assert np.abs(network(x) - model.predict(x, verbose=0)).max() < 1e-5


ACTIVATIONS = ("relu", "silu", "softplus", "softsign", "tanh", "sigmoid", "selu", "mish", "elu", "celu", "hard_sigmoid")
ACTIVATIONS += ("relu6", "exponential", "hard_tanh", "gelu")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_names_mean_what_keras_computes(tmp_path, name):
    model = sequential(first=name)
    model.save(tmp_path / "a.keras")
    network = checkpoints.load(tmp_path / "a.keras")
    z = np.linspace(-4, 4, 101)
    expected = np.asarray(keras.activations.get(name)(z.astype(np.float32)))
    assert np.abs(network.activation.value(z) - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_functional_model(tmp_path, rng):
    """Named layers, a residual sum, a model inside the model, a LayerNormalization in front, a softmax behind."""
    given = keras.Input((D,))
    hidden = L.Dense(N, activation="tanh", name="enc")(L.LayerNormalization(name="norm")(given))
    inner = keras.Sequential(
        [keras.Input((D,)), L.Dense(N), L.BatchNormalization(), L.ReLU(), L.Dense(D)], name="inside"
    )
    out = L.Add()([given, L.Dense(D, name="dec", use_bias=False)(hidden)])
    out = L.Dense(M, activation="softmax", name="last")(L.Dense(5, activation="relu", name="wide")(inner(out)))
    model = keras.Model(given, out)
    for suffix in (".keras", ".h5"):
        model.save(tmp_path / f"a{suffix}")
        found = checkpoints.inspect(tmp_path / f"a{suffix}")
        assert {b.name: (b.activation, b.layernorm, b.problem) for b in found.blocks} == {
            "enc-dec": ("tanh", "norm", None),
            "wide-last": ("relu", None, None),
        }
        (reason,) = [r.reason for r in found.not_understood if r.name.startswith("inside")]
        assert "BatchNormalization inside.batch_normalization" in reason
        (last,) = checkpoints.load_blocks(tmp_path / f"a{suffix}", "wide-*")
        assert last.provenance.extra["output_activation"] == "softmax"
        assert np.array_equal(last.outer, dense(model, "last")[0])
        (block,) = checkpoints.load_blocks(tmp_path / f"a{suffix}", "enc-*")
        x = rng.standard_normal((20, D))
        expected = keras.Model(given, model.get_layer("dec").output).predict(x, verbose=0)
        normed = keras.Model(given, model.get_layer("norm").output).predict(x, verbose=0)
        assert np.abs(block(normed.astype(float)) - expected).max() < 1e-5


def test_half_precision_bit_for_bit(tmp_path):
    for dtype in ("float16", "bfloat16"):
        model = sequential(dtype=dtype, first="tanh")
        model.save(tmp_path / "a.keras")
        network = checkpoints.load(tmp_path / "a.keras")
        assert np.array_equal(network.outer, dense(model, "two")[0])
        assert network.provenance.precision == dtype


def test_bare_weights(tmp_path):
    model = keras.Sequential([keras.Input((D,)), L.Dense(N, activation="relu"), L.Dense(M)])
    model.save_weights(tmp_path / "a.weights.h5")
    first, second = model.layers
    block = checkpoints.load(tmp_path / "a.weights.h5", activation="relu", block="*")
    assert np.array_equal(block.inner, np.asarray(first.kernel, float).T)
    assert np.array_equal(block.outer, np.asarray(second.kernel, float))


def test_refused_pairs_say_why(tmp_path):
    for between, message in (
        ([], "without an activation"),
        ([L.ReLU(), L.Activation("tanh")], "with the activations relu, tanh"),
        ([L.LayerNormalization(), L.ReLU()], "LayerNormalization .* stands between"),
        ([L.ReLU(max_value=3.0)], "unknown activation 'ReLU with max_value=3"),
        ([L.Activation("log_sigmoid")], "unknown activation 'log_sigmoid'"),
    ):
        sequential(*between).save(tmp_path / "a.keras")
        with pytest.raises(InputError, match=message):
            checkpoints.load(tmp_path / "a.keras")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("width", [N, 4])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_written_back(tmp_path, make, rng, same, suffix, width, dtype):
    if suffix == ".h5" and dtype == "bfloat16":
        pytest.skip("Keras does not write it")
    model = sequential(L.Dropout(0.5), L.LeakyReLU(negative_slope=0.25), dtype=dtype)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    model.save(source)
    network = make(width, D, M, "leaky_relu(0.25)")
    with OpenCheckpoint(source) as opened, WriteBack(source, target) as copy:
        copy.put(opened.layouts["one-two"], network)
        assert (copy.advice == ()) == (width == N)
    again = checkpoints.load(target)
    loaded = keras.saving.load_model(target, compile=suffix == ".keras")  # Keras cannot read its own "mse" from .h5
    assert loaded.get_layer("one").units == width
    assert np.array_equal(again.inner, dense(loaded, "one")[0].T)
    assert np.abs(again.inner - network.inner).max() < (1e-6 if dtype == "float32" else 0.02)
    x = rng.standard_normal((30, D))
    if dtype == "float32":
        assert np.abs(loaded.predict(x, verbose=0) - network(x)).max() < 1e-5
    assert suffix == ".h5" or (getattr(loaded, "optimizer", None) is not None) == (width == N)


def test_a_used_hidden_layer_is_not_replaced(tmp_path):
    given = keras.Input((D,))
    hidden = L.Dense(N, activation="relu", name="one")(given)
    keras.Model(given, [L.Dense(M, name="two")(hidden), L.Reshape((N, 1), name="other")(hidden)]).save(
        tmp_path / "a.keras"
    )
    network = checkpoints.load(tmp_path / "a.keras")
    with (
        pytest.raises(InputError, match="other uses the values between the layers"),
        OpenCheckpoint(tmp_path / "a.keras") as opened,
        WriteBack(tmp_path / "a.keras", tmp_path / "b.keras") as copy,
    ):
        copy.put(opened.layouts["one-two"], network)
    assert not (tmp_path / "b.keras").exists()


def test_classes_and_functions_of_the_user(tmp_path):
    """What bears a name of Keras and is not Keras's is not taken for it."""

    class Dense(L.Dense):
        def call(self, inputs):
            return super().call(inputs) ** 2

    def cube(z):
        return z**3

    keras.Sequential([keras.Input((D,)), Dense(N, activation="relu"), L.Dense(M)]).save(tmp_path / "a.keras")
    with pytest.raises(InputError, match="expected a two-layer block"):
        checkpoints.load(tmp_path / "a.keras")
    sequential(first=cube).save(tmp_path / "a.keras")
    with pytest.raises(InputError, match="function of the user's own"):
        checkpoints.load(tmp_path / "a.keras")


def test_lambda_code_is_never_run(tmp_path):
    model = sequential(L.Lambda(lambda x: x * 2), first="relu")
    model.save(tmp_path / "a.keras")
    with pytest.raises(InputError, match=r"Lambda .* stands between the layers"):
        checkpoints.load(tmp_path / "a.keras")


def test_hostile_hdf5(tmp_path):
    """Links, virtual and external data, objects and bombs are left aside with a reason and never followed."""
    np.arange(6, dtype=np.float32).tofile(tmp_path / "raw")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones((D, N))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["fc1/kernel"], file["fc2/kernel"] = np.ones((D, N)), np.ones((N, M))
        file["link"] = h5py.ExternalLink("other.h5", "x")
        file["soft"] = h5py.SoftLink("/fc1/kernel")
        file["fc1/loop"] = file["fc1"]
        file["text"] = "words"
        file["reference"] = file["fc1"].ref
        file.create_dataset("raw", (2, 3), "f4", external=[(str(tmp_path / "raw"), 0, 24)])
        layout = h5py.VirtualLayout((D, N), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (D, N))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("bomb", (1 << 20, 1 << 20), "f8", chunks=True, compression="gzip")
    found = checkpoints.inspect(tmp_path / "a.h5", activation="relu")
    assert {info.name for info in found.tensors} == {"fc1.kernel", "fc2.kernel"}
    assert {r.name for r in found.not_understood} == {
        "link", "soft", "fc1/loop", "text", "reference", "raw", "virtual", "bomb",
    }  # fmt: skip
    assert [block.name for block in found.blocks] == ["main"]


def problem(path):
    """The one line by which a file is refused; "" when it loads."""
    try:
        checkpoints.load(path)
    except InputError as error:
        return str(error)
    return ""


def test_damaged_files(tmp_path):
    sequential(first="relu").save(tmp_path / "a.keras")
    sequential(first="relu").save(tmp_path / "a.h5")
    whole = (tmp_path / "a.h5").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        bad = bytearray(whole[: int(rng.integers(9, len(whole)))] if rng.random() < 0.5 else whole)
        for place in rng.integers(8, len(bad), 20):
            bad[place] = rng.integers(256)
        (tmp_path / "b.h5").write_bytes(bad)
        reason = problem(tmp_path / "b.h5")
        refused += reason != ""
        assert reason == "" or (reason.startswith("b.h5: ") and "\n" not in reason)
    assert refused > 20
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, content, message in (
        ("config.json", b"{", "not JSON"),
        ("config.json", json.dumps({"config": {"layers": [3, {"config": 1}, None]}}).encode(), "found none"),
        ("model.weights.h5", members["model.weights.h5"][:900], "expected a whole HDF5 file"),
        ("model.weights.h5", b"", "expected a whole HDF5 file"),
    ):
        with zipfile.ZipFile(tmp_path / "b.keras", "w", zipfile.ZIP_DEFLATED) as archive:
            for other, value in (members | {name: content}).items():
                archive.writestr(other, value)
        with pytest.raises(InputError, match=message):
            checkpoints.load(tmp_path / "b.keras")


def test_h5py_is_named_when_it_is_missing(tmp_path, monkeypatch):
    import sys

    sequential(first="relu").save(tmp_path / "a.keras")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install 'sparsemf\[keras\]'"):
        checkpoints.load(tmp_path / "a.keras")


def test_layers_that_compute_something_else(tmp_path):
    """LoRA factors that an .h5 keeps beside the kernel, types that round, and a Dropout that drops at inference."""
    model = sequential(first="gelu")
    model.get_layer("one").enable_lora(2)
    for variable in model.get_layer("one").trainable_weights:
        variable.assign(np.random.default_rng(5).standard_normal(variable.shape))
    model.save(tmp_path / "a.keras")  # merged
    x = np.random.default_rng(6).standard_normal((20, D)).astype(np.float32)
    expected = np.asarray(model(x))
    assert np.abs(checkpoints.load(tmp_path / "a.keras")(x) - expected).max() < 1e-4
    model.save(tmp_path / "a.h5")
    with pytest.raises(InputError, match="one has LoRA factors beside its kernel"):
        checkpoints.load(tmp_path / "a.h5")
    for mode in ("int8", "float8"):
        model = sequential(first="gelu")
        model.quantize(mode)
        model.save(tmp_path / "a.keras")
        with pytest.raises(InputError, match=f"one computes in {mode}, which is another function"):
            checkpoints.load(tmp_path / "a.keras")
    given = keras.Input((D,))
    dropped = L.Dropout(0.5, name="drop")(L.Dense(N, activation="relu", name="one")(given), training=True)
    keras.Model(given, L.Dense(M, name="two")(dropped)).save(tmp_path / "a.keras")
    with pytest.raises(InputError, match="Dropout with training=True drop stands between the layers"):
        checkpoints.load(tmp_path / "a.keras")


def test_a_layer_that_is_called_twice_is_not_replaced(tmp_path):
    """In c(σ(d(σ(d(x))))) the pair d, c is a block, but another d would change the call before it, too."""
    given, twice = keras.Input((D,)), L.Dense(D, activation="relu", name="twice")
    keras.Model(given, L.Dense(M, name="two")(twice(twice(given)))).save(tmp_path / "a.keras")
    network = checkpoints.load(tmp_path / "a.keras")
    with (
        pytest.raises(InputError, match="twice uses the values between the layers"),
        OpenCheckpoint(tmp_path / "a.keras") as opened,
        WriteBack(tmp_path / "a.keras", tmp_path / "b.keras") as copy,
    ):
        copy.put(opened.layouts["twice-two"], network)
