"""ONNX: what the graph computes, by ONNX's own evaluator, is what the network computes, however exporters write
it."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from sparsemf import checkpoints
from sparsemf.checkpoints.opened import OpenCheckpoint
from sparsemf.checkpoints.write_back import WriteBack
from sparsemf.exceptions import InputError

onnx = pytest.importorskip("onnx")

from onnx_models import ACTIVATIONS, Builder, evaluated, stored, weights  # noqa: E402

D, N, M = 3, 7, 2


def gemm_pair(b, w, act, **options):
    names = {key: b.constant(value, key) for key, value in w.items()}
    z = b.op("Gemm", "x", names["fc1.weight"], names["fc1.bias"], transB=1, **options)
    return b.op("Gemm", act(b, z), names["fc2.weight"], names["fc2.bias"], transB=1)


def agrees(model, path, rng, **options):
    """The one block of the model is the model."""
    network = checkpoints.load(path, **options)
    x = rng.standard_normal((40, network.d)).astype(np.float32)
    expected = evaluated(model, x)
    assert np.abs(network(x.astype(float)) - expected).max() <= 2e-5 * max(1.0, np.abs(expected).max())
    return network


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations(tmp_path, rng, kind):
    act, name = ACTIVATIONS[kind]
    b, w = Builder(), weights(rng)
    model = b.model(gemm_pair(b, w, act), D)
    network = agrees(model, stored(model, tmp_path / "a.onnx"), rng)
    assert network.activation.name == name
    assert np.array_equal(network.inner, w["fc1.weight"].astype(np.float32))
    assert np.array_equal(network.outer, w["fc2.weight"].astype(np.float32).T)
    assert network.provenance.block == "fc1-fc2"


@pytest.mark.parametrize("after", ["Softmax", "Sigmoid"])
def test_an_activation_of_the_output_is_said(tmp_path, rng, after):
    """The block ends before it."""
    b, w = Builder(), weights(rng)
    output = b.op(after, gemm_pair(b, w, lambda b, z: b.op("Relu", z)))
    network = checkpoints.load(stored(b.model(output, D), tmp_path / "a.onnx"))
    assert network.provenance.extra["output_activation"] == after


@pytest.mark.parametrize("bias_first", [False, True])
@pytest.mark.parametrize("way", ["right", "transposed", "cast", "identity", "row", "no bias"])
def test_matmul_and_add(tmp_path, rng, bias_first, way):
    b, w = Builder(), weights(rng)

    def linear(value, name):
        matrix, bias = w[f"{name}.weight"].T.astype(np.float32), w[f"{name}.bias"].astype(np.float32)
        if way == "transposed":
            constant = b.op("Transpose", b.constant(matrix.T, f"{name}.weight"), perm=[1, 0])
        elif way == "cast":
            constant = b.op("Cast", b.constant(matrix, f"{name}.weight", np.float16), to=1)
        elif way == "identity":
            constant = b.op("Identity", b.constant(matrix, f"{name}.weight"))
        else:
            constant = b.constant(matrix, f"{name}.weight")
        product = b.op("MatMul", value, constant)
        if way == "no bias":
            return product
        vector = b.constant(bias[None] if way == "row" else bias, f"{name}.bias")
        return b.op("Add", *((vector, product) if bias_first else (product, vector)))

    model = b.model(linear(b.op("Tanh", linear("x", "fc1")), "fc2"), D)
    network = agrees(model, stored(model, tmp_path / "a.onnx"), rng)
    assert network.provenance.precision == ("float16" if way == "cast" else "float32")


def test_gemm_attributes_and_columns(tmp_path, rng):
    b, w = Builder(), weights(rng)
    model = b.model(gemm_pair(b, w, ACTIVATIONS["Tanh"][0], alpha=0.5, beta=3.0), D)
    network = agrees(model, stored(model, tmp_path / "a.onnx"), rng)
    assert np.array_equal(network.bias, 3 * w["fc1.bias"].astype(np.float32).astype(float))
    b = Builder()  # W x + b on columns
    first = b.op("Add", b.op("MatMul", b.constant(w["fc1.weight"], "W"), "x"), b.constant(w["fc1.bias"][:, None], "b"))
    second = b.op("MatMul", b.constant(w["fc2.weight"], "V"), b.op("Relu", first))
    model = b.model(b.op("Add", b.constant(w["fc2.bias"][:, None], "c"), second), D, (D, "batch"))
    network = checkpoints.load(stored(model, tmp_path / "b.onnx"))
    x = rng.standard_normal((D, 9)).astype(np.float32)
    assert np.abs(network(x.T.astype(float)).T - evaluated(model, x)).max() < 1e-5
    # x transposed by the Gemm itself is no layer of the input
    b = Builder()
    z = b.op("Gemm", "x", b.constant(rng.standard_normal((4, N)), "W"), transA=1)
    model = b.model(b.op("MatMul", b.op("Relu", z), b.constant(np.ones((N, M)), "V")), D, (4, D))
    with pytest.raises(InputError, match="expected a two-layer block, found"):
        checkpoints.load(stored(model, tmp_path / "c.onnx"))


@pytest.mark.parametrize("decomposed", [False, True])
def test_a_transformer_block(tmp_path, rng, decomposed):
    """Residual sum around, LayerNorm in front, samples in a sequence: the block is what lies between."""
    b, w = Builder(13 if decomposed else 20), weights(rng, 4, N, 4)
    gain, shift = b.constant(rng.standard_normal(4), "ln.weight"), b.constant(rng.standard_normal(4), "ln.bias")
    if decomposed:
        centred = b.op("Sub", "x", b.op("ReduceMean", "x", axes=[-1]))
        variance = b.op("ReduceMean", b.op("Pow", centred, b.constant(2.0)), axes=[-1])
        deviation = b.op("Sqrt", b.op("Add", variance, b.constant(1e-5)))
        normed = b.op("Add", b.op("Mul", b.op("Div", centred, deviation), gain), shift)
    else:
        normed = b.op("LayerNormalization", "x", gain, shift, axis=-1)
    first = b.op("MatMul", normed, b.constant(w["fc1.weight"].T, "val_2"))
    hidden = ACTIVATIONS["gelu in parts"][0](b, b.op("Add", first, b.constant(w["fc1.bias"], "h.0.mlp.fc1.bias")))
    second = b.op("MatMul", hidden, b.constant(w["fc2.weight"].T, "val_9"))
    out = b.op("Add", second, b.constant(w["fc2.bias"], "h.0.mlp.fc2.bias"))
    model = b.model(b.op("Add", "x", out), 4, ("batch", "tokens", 4), (normed, out))
    network = checkpoints.load(stored(model, tmp_path / "a.onnx"))
    assert network.provenance.block == "h.0.mlp.fc1-fc2"
    assert network.provenance.extra["layernorm"]["name"] == "ln"
    x = rng.standard_normal((2, 5, 4)).astype(np.float32)
    _, normed_x, expected = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
    found = network(normed_x.reshape(-1, 4).astype(float)).reshape(expected.shape)
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("order", ["(g·σ(g))·u", "u·gelu(g)", "g·(σ(g)·u)", "bilinear"])
def test_gated(tmp_path, rng, order):
    b = Builder()
    gate = b.op("MatMul", "x", b.constant(rng.standard_normal((D, N)), "m.gate_proj.weight"))
    up = b.op("MatMul", "x", b.constant(rng.standard_normal((D, N)), "m.up_proj.weight"))
    up = b.op("Add", up, b.constant(rng.standard_normal(N), "m.up_proj.bias"))
    if order == "(g·σ(g))·u":
        hidden = b.op("Mul", b.op("Mul", gate, b.op("Sigmoid", gate)), up)
    elif order == "u·gelu(g)":
        hidden = b.op("Mul", up, b.op("Gelu", gate))
    elif order == "g·(σ(g)·u)":
        hidden = b.op("Mul", gate, b.op("Mul", b.op("Sigmoid", gate), up))
    else:
        hidden = b.op("Mul", gate, up)
    model = b.model(b.op("MatMul", hidden, b.constant(rng.standard_normal((N, M)), "m.down_proj.weight")), D)
    network = agrees(model, stored(model, tmp_path / "a.onnx"), rng)
    assert network.gated
    assert network.activation.name == {"u·gelu(g)": "gelu", "bilinear": "linear"}.get(order, "silu")


def test_gates_of_different_inputs_are_refused(tmp_path, rng):
    b = Builder()
    gate = b.op("Sigmoid", b.op("MatMul", "x", b.constant(np.ones((D, N)), "a.weight")))
    up = b.op("MatMul", b.op("Sin", "x"), b.constant(np.ones((D, N)), "b.weight"))
    model = b.model(b.op("MatMul", b.op("Mul", gate, up), b.constant(np.ones((N, M)), "c.weight")), D)
    with pytest.raises(InputError, match="two layers meet before it"):
        checkpoints.load(stored(model, tmp_path / "a.onnx"))


def test_skl2onnx_shape(tmp_path, rng):
    """Cast, MatMul, Add of a row, Relu, MatMul, Add, Reshape, with skl2onnx's names."""
    b, w = Builder(), weights(rng, m=1)
    x = b.op("Cast", "x", to=1)
    first = b.op("Add", b.op("MatMul", x, b.constant(w["fc1.weight"].T, "coefficient")),
                 b.constant(w["fc1.bias"][None], "intercepts"))  # fmt: skip
    second = b.op("MatMul", b.op("Relu", first), b.constant(w["fc2.weight"].T, "coefficient1"))
    second = b.op("Add", second, b.constant(w["fc2.bias"][None], "intercepts1"))
    model = b.model(b.op("Reshape", second, b.constant([-1, 1], "shape", np.int64)), D)
    network = agrees(model, stored(model, tmp_path / "a.onnx"), rng)
    assert network.provenance.block == "coefficient-coefficient1"


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("activations", [False, True])
def test_qdq_int8(tmp_path, rng, per_channel, zero, activations):
    b = Builder(19)

    def linear(value, name, rows, columns):
        codes = b.constant(rng.integers(-128, 128, (rows, columns)), f"{name}.weight_quantized", np.int8)
        size = columns if per_channel else ()
        scale = b.constant(rng.uniform(0.01, 0.03, size), f"{name}.weight_scale")
        zeros = b.constant(rng.integers(-5, 5, size), f"{name}.zero_point", np.int8)
        inputs = (codes, scale, zeros) if zero else (codes, scale)
        if activations:
            step, middle = b.constant(1e-4), b.constant(0, None, np.int16)
            value = b.op("DequantizeLinear", b.op("QuantizeLinear", value, step, middle), step, middle)
        matrix = b.op("DequantizeLinear", *inputs, axis=1)
        return b.op("Add", b.op("MatMul", value, matrix), b.constant(rng.standard_normal(columns), f"{name}.bias"))

    model = b.model(linear(b.op("Tanh", linear("x", "fc1", D, N)), "fc2", N, M), D)
    path = stored(model, tmp_path / "a.onnx")
    network = checkpoints.load(path)
    assert network.provenance.precision == "int8"
    assert ("quantised_activations" in network.provenance.extra) == activations
    if not activations:
        agrees(model, path, rng)
    held = {t.name: onnx.numpy_helper.to_array(t).astype(float) for t in model.graph.initializer}
    zeros = held["fc1.zero_point"] if zero else 0.0
    assert np.array_equal(network.inner.T, (held["fc1.weight_quantized"] - zeros) * held["fc1.weight_scale"])
    with (
        pytest.raises(InputError, match="scales of the quantiser's choice"),
        OpenCheckpoint(path) as opened,
        WriteBack(path, tmp_path / "b.onnx") as copy,
    ):
        copy.put(next(iter(opened.layouts.values())), network)


def test_what_is_no_block_has_a_reason(tmp_path, rng):
    def between(build, message):
        b, w = Builder(), weights(rng)
        model = b.model(gemm_pair(b, w, build), D)
        with pytest.raises(InputError, match=message):
            checkpoints.load(stored(model, tmp_path / "a.onnx"))

    ones = np.ones(N)
    between(lambda b, z: z, "without an activation")
    between(lambda b, z: b.op("HardSwish", z), "node HardSwish is no activation of the catalogue")
    between(lambda b, z: b.op("HardSigmoid", z), "is no activation of the catalogue, nearest is")
    between(lambda b, z: b.op("Relu", b.op("Mul", z, b.constant(ones))), "Mul .* stands between the layers")
    between(
        lambda b, z: b.op("Relu", b.op("LayerNormalization", z, b.constant(ones))),
        "LayerNormalization .* stands between",
    )
    between(lambda b, z: b.op("Softmax", z), "Softmax .* stands between")
    between(lambda b, z: b.op("Clip", z, b.constant(0.0), b.constant(1e4)), "is no activation of the catalogue")
    between(lambda b, z: b.op("Relu", b.op("Cast", b.op("Cast", z, to=7), to=1)), "Cast .* stands between")
    b = Builder()
    codes = b.constant(np.ones((D, N)), "q", np.int8)
    model = b.model(b.op("MatMulInteger", b.op("Cast", "x", to=3), codes), D)
    with pytest.raises(InputError, match="MatMulInteger computes in integers"):
        checkpoints.load(stored(model, tmp_path / "a.onnx"))


def test_graphs_inside_are_left_aside(tmp_path, rng):
    b, w = Builder(), weights(rng)
    out = gemm_pair(b, w, ACTIVATIONS["Relu"][0])
    branch = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])], "branch", [],
        [onnx.helper.make_tensor_value_info("y", 1, None)],
    )  # fmt: skip
    b.op("If", b.constant(True, None, np.bool_), then_branch=branch, else_branch=branch, name="choice")
    found = checkpoints.inspect(stored(b.model(out, D), tmp_path / "a.onnx"))
    assert [r.name for r in found.not_understood] == ["choice"]
    assert [block.name for block in found.blocks] == ["fc1-fc2"]


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("width", [N, 4])
def test_written_back(tmp_path, rng, make, same, external, beside, width):
    """ONNX's evaluator of the copy is the new network; shapes that the graph states follow; the rest is as it
    was."""
    b, w = Builder(), weights(rng)
    b.infos += [onnx.helper.make_tensor_value_info(f"v{k}", 1, ["batch", N]) for k in (5, 6)]
    model = b.model(b.op("Add", gemm_pair(b, w, ACTIVATIONS["Tanh"][0]), b.constant(np.zeros(M), "other")), D)
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info(model.graph.output[0].name, 1, ["batch", M]))
    source = stored(model, tmp_path / "a.onnx", external)
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "b.onnx" if beside else tmp_path / "elsewhere" / "b.onnx"
    drawn = make(width, D, M, "tanh")
    network = drawn.with_(**{k: getattr(drawn, k).astype(np.float32) for k in ("inner", "outer", "bias", "offset")})
    with OpenCheckpoint(source) as opened, WriteBack(source, target) as copy:
        assert copy.put(opened.layouts["fc1-fc2"], network) == {}
        assert copy.advice == ()
    same(network, checkpoints.load(target))
    after = onnx.load(target)
    onnx.checker.check_model(str(target), full_check=True)
    assert [info.type.tensor_type.shape.dim[1].dim_value for info in after.graph.value_info] == [width, width]
    x = rng.standard_normal((20, D)).astype(np.float32)
    assert np.abs(evaluated(after, x) - network(x.astype(float))).max() < 1e-5


def test_layers_used_elsewhere_are_not_replaced(tmp_path, rng):
    b, w = Builder(), weights(rng)
    hidden = []

    def act(builder, z):
        hidden.append(builder.op("Relu", z))
        return hidden[0]

    out = gemm_pair(b, w, act)
    leaking = b.model(out, D, outputs=(b.op("Neg", hidden[0]),))
    shared = Builder()
    first = gemm_pair(shared, weights(rng, 3, N, 3), ACTIVATIONS["Relu"][0])
    again = shared.op("Gemm", first, "fc1.weight", "fc1.bias", transB=1)
    shared_model = shared.model(shared.op("Gemm", shared.op("Relu", again), "fc2.weight", "fc2.bias", transB=1), D)
    for model, message in ((leaking, "uses the values between the layers"), (shared_model, "several nodes use fc")):
        path = stored(model, tmp_path / "a.onnx")
        with OpenCheckpoint(path) as opened:
            name, layout = next(iter(opened.layouts.items()))
            with (
                pytest.raises(InputError, match=message),
                WriteBack(path, tmp_path / "b.onnx") as copy,
            ):
                copy.put(layout, opened.load(name))
    assert not (tmp_path / "b.onnx").exists()


def test_external_data_stay_in_the_folder(tmp_path, rng):
    folder = tmp_path / "model"
    folder.mkdir()
    b = Builder()
    model = b.model(gemm_pair(b, weights(rng), ACTIVATIONS["Relu"][0]), D)
    path = stored(model, folder / "a.onnx", external=True)
    (tmp_path / "outside.data").write_bytes((folder / "w.data").read_bytes())
    os.symlink(tmp_path / "outside.data", folder / "link.data")
    light = onnx.load(path, load_external_data=False)
    outside = str(tmp_path / "outside.data")
    for location, message in (
        ("../outside.data", "in the model's folder, got"),
        (outside, "in the model's folder, got"),
        ("link.data", "in the model's folder, got"),
        ("", "in the model's folder, got"),
        ("missing.data", "expected the file missing.data beside the model"),
    ):
        for tensor in light.graph.initializer:
            next(e for e in tensor.external_data if e.key == "location").value = location
        onnx.save(light, folder / "b.onnx")
        with pytest.raises(InputError, match=message):
            checkpoints.load(folder / "b.onnx")
    (folder / "w.data").write_bytes((folder / "w.data").read_bytes()[:-8])
    with pytest.raises(InputError, match="bytes at"):
        checkpoints.load(path)


def test_hub_links_are_followed(tmp_path, rng):
    """The hub's cache keeps a model and its data as links into one folder of blobs."""
    for folder in ("blobs", "snapshot"):
        (tmp_path / folder).mkdir()
    b = Builder()
    model = b.model(gemm_pair(b, weights(rng), ACTIVATIONS["Relu"][0]), D)
    stored(model, tmp_path / "blobs" / "a.onnx", external=True)
    for name in ("a.onnx", "w.data"):
        os.rename(tmp_path / "blobs" / name, tmp_path / "blobs" / f"blob-{name}")
        os.symlink(tmp_path / "blobs" / f"blob-{name}", tmp_path / "snapshot" / name)
    assert checkpoints.load(tmp_path / "snapshot" / "a.onnx").width == N


def problem(path):
    """The one line by which a file is refused; "" when it loads."""
    try:
        checkpoints.load(path)
    except InputError as error:
        return str(error)
    return ""


def test_damaged_files(tmp_path, rng):
    b = Builder()
    model = b.model(gemm_pair(b, weights(rng), ACTIVATIONS["Relu"][0]), D)
    whole = model.SerializeToString()
    path = tmp_path / "a.onnx"
    for cut in (3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"^a\.onnx: expected"):
            checkpoints.load(path)
    for _ in range(150):
        bad = bytearray(whole)
        for place in rng.integers(0, len(bad), 8):
            bad[place] = rng.integers(256)
        path.write_bytes(bad)
        reason = problem(path)
        assert reason == "" or (reason.startswith("a.onnx: ") and "\n" not in reason)
    for dims, message in (
        ([1 << 40, 1 << 20], "holds 84 bytes"),
        ([-7, -3], "has the shape"),
        ([7, 2], "holds 84 bytes"),
    ):
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(InputError, match=message):
            checkpoints.load(path)


def test_hostile_graphs(tmp_path):
    """A cycle, a tower of products (2^60 terms), a long chain of nothing: an answer at once."""
    b = Builder()
    z = b.op("MatMul", "x", b.constant(np.ones((D, N)), "a.weight"))
    for _ in range(60):
        z = b.op("Mul", z, z)
    model = b.model(b.op("MatMul", z, b.constant(np.ones((N, M)), "b.weight")), D)
    with pytest.raises(InputError, match="activation"):
        checkpoints.load(stored(model, tmp_path / "a.onnx"))
    b = Builder()
    z = b.op("MatMul", "x", b.constant(np.ones((D, N)), "a.weight"))
    for _ in range(3000):
        z = b.op("Identity", z)
    model = b.model(b.op("MatMul", b.op("Relu", z), b.constant(np.ones((N, M)), "b.weight")), D)
    node = model.graph.node[5]
    node.input[0] = node.output[0]
    with pytest.raises(InputError, match="found"):
        checkpoints.load(stored(model, tmp_path / "a.onnx"))


def test_onnx_is_named_when_it_is_missing(tmp_path, rng, monkeypatch):
    b = Builder()
    path = stored(b.model(gemm_pair(b, weights(rng), ACTIVATIONS["Relu"][0]), D), tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"pip install 'sparsemf\[onnx\]'"):
        checkpoints.load(path)
