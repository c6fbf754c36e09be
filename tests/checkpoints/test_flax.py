"""Flax msgpack: read against flax's own restore, bit for bit; written back so that flax restores the new
network."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsemf import checkpoints
from sparsemf.checkpoints.msgpack_index import ArraySpan, Chunked, Malformed, index
from sparsemf.checkpoints.opened import OpenCheckpoint
from sparsemf.checkpoints.write_back import WriteBack
from sparsemf.exceptions import InputError

serialization = pytest.importorskip("flax.serialization")
msgpack = pytest.importorskip("msgpack")

D, N, M = 4, 9, 4


def params(rng, dtype=np.float32):
    """HF's BERT in Flax, and a module of auto-numbered layers."""

    def drawn(*shape):
        return rng.standard_normal(shape).astype(dtype)

    layer = {
        "intermediate": {"dense": {"kernel": drawn(D, N), "bias": drawn(N)}},
        "output": {"dense": {"kernel": drawn(N, M), "bias": drawn(M)}},
        "attention": {"output": {"LayerNorm": {"scale": drawn(D), "bias": drawn(D)}}},
    }
    mlp = {"Dense_0": {"kernel": drawn(3, N), "bias": drawn(N)}, "Dense_1": {"kernel": drawn(N, 2), "bias": drawn(2)}}
    return {"bert": {"encoder": {"layer": {"0": layer}}}, "head": mlp, "embed": {"embedding": drawn(50, D)}}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_read_as_flax_restores_it(tmp_path, rng, monkeypatch, dtype, chunked, wrapped):
    if chunked:
        monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 64)
    tree = params(rng, dtype)
    path = tmp_path / "flax_model.msgpack"
    content = {"params": tree, "opt_state": {"0": {"mu": tree}}, "step": 3} if wrapped else tree
    path.write_bytes(serialization.msgpack_serialize(content))
    if wrapped:
        tree = serialization.msgpack_restore(path.read_bytes())["params"]
    bert, head = checkpoints.load_blocks(path, activation="gelu")
    layer = tree["bert"]["encoder"]["layer"]["0"]
    assert np.array_equal(bert.inner, layer["intermediate"]["dense"]["kernel"].astype(np.float64).T)
    assert np.array_equal(bert.bias, layer["intermediate"]["dense"]["bias"].astype(np.float64))
    assert np.array_equal(bert.outer, layer["output"]["dense"]["kernel"].astype(np.float64))
    assert np.array_equal(bert.offset, layer["output"]["dense"]["bias"].astype(np.float64))
    norm = bert.provenance.extra["layernorm"]
    assert np.array_equal(norm["gain"], layer["attention"]["output"]["LayerNorm"]["scale"].astype(np.float64))
    assert np.array_equal(head.inner, tree["head"]["Dense_0"]["kernel"].astype(np.float64).T)
    assert (bert.provenance.precision, head.provenance.block) == (np.dtype(dtype).name, "head")


def test_a_linen_module_is_the_network(tmp_path, rng):
    jax = pytest.importorskip("jax")
    linen = pytest.importorskip("flax.linen")

    class Perceptron(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(M)(linen.silu(linen.Dense(N)(x)))

    class Named(linen.Module):
        def setup(self):
            self.fc1, self.fc2 = linen.Dense(N), linen.Dense(M)

        def __call__(self, x):
            return self.fc2(linen.silu(self.fc1(x)))

    x = rng.standard_normal((20, 3)).astype(np.float32)
    variables = Named().init(jax.random.key(0), x)
    path = tmp_path / "a.msgpack"
    path.write_bytes(serialization.to_bytes(variables))
    network = checkpoints.load(path, activation="silu")
    assert np.abs(network(x.astype(float)) - np.asarray(Named().apply(variables, x))).max() < 1e-5
    # nested calls number the outer layer first, and then the shapes refuse the order of the numbers
    path.write_bytes(serialization.to_bytes(Perceptron().init(jax.random.key(0), x)))
    with pytest.raises(InputError, match="the shapes do not chain"):
        checkpoints.load(path, activation="silu")


def test_a_norm_between_numbered_layers_is_not_guessed(tmp_path, rng):
    tree = params(rng)["head"] | {"BatchNorm_0": {"scale": np.ones(N, np.float32), "bias": np.zeros(N, np.float32)}}
    (tmp_path / "a.msgpack").write_bytes(serialization.to_bytes(tree))
    with pytest.raises(InputError, match="nothing says whether BatchNorm_0 stands between"):
        checkpoints.load(tmp_path / "a.msgpack", activation="relu")
    spec = "inner=Dense_0.kernel,bias=Dense_0.bias,outer=Dense_1.kernel,offset=Dense_1.bias"
    assert checkpoints.load(tmp_path / "a.msgpack", activation="relu", map=spec).width == N


@pytest.mark.parametrize("width", [N, 5, 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_written_back(tmp_path, rng, make, same, monkeypatch, width, chunked):
    if chunked:
        monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 64)
    tree = params(rng)
    source, target = tmp_path / "a.msgpack", tmp_path / "b.msgpack"
    source.write_bytes(serialization.msgpack_serialize({"params": tree, "step": 7}))
    drawn = make(width, 3, 2, "gelu")
    network = drawn.with_(**{k: getattr(drawn, k).astype(np.float32) for k in ("inner", "outer", "bias", "offset")})
    with OpenCheckpoint(source, activation="gelu") as opened, WriteBack(source, target) as copy:
        assert copy.put(opened.layouts["head"], network) == {}
        assert (copy.advice == ()) == (width == N)
    same(network, checkpoints.load(target, "head", activation="gelu"))
    after = serialization.msgpack_restore(target.read_bytes())
    assert after["step"] == 7
    assert np.array_equal(after["params"]["head"]["Dense_0"]["kernel"], network.inner.T)
    assert np.array_equal(after["params"]["head"]["Dense_1"]["bias"], network.offset)
    assert np.array_equal(after["params"]["embed"]["embedding"], tree["embed"]["embedding"])
    before, layer = tree["bert"]["encoder"]["layer"]["0"], after["params"]["bert"]["encoder"]["layer"]["0"]
    assert layer["intermediate"]["dense"]["kernel"].tobytes() == before["intermediate"]["dense"]["kernel"].tobytes()


keys = st.text("abcxyz", min_size=1, max_size=6)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.text(max_size=40),
    st.binary(max_size=40), st.lists(st.integers(0, 300), max_size=17), st.just("array"),
)  # fmt: skip
trees = st.dictionaries(keys, st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=4)), max_size=4)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(trees, st.integers(0, 2**32))
def test_the_index_against_the_library(tree, seed):
    """Every array that the library unpacks lies where the index says, whatever stands around it."""
    rng = np.random.default_rng(seed)
    expected = {}

    def fill(value, trail):
        if isinstance(value, dict):
            return {key: fill(item, (*trail, key)) for key, item in value.items()}
        if value == "array":
            expected[trail] = rng.standard_normal(tuple(rng.integers(0, 5, rng.integers(0, 4)))).astype(np.float32)
            return expected[trail]
        return value

    data = serialization.msgpack_serialize(fill(tree, ()))
    found = dict(index(data))
    assert set(found) == set(expected)
    for trail, span in found.items():
        assert isinstance(span, ArraySpan)
        assert (span.shape, span.dtype) == (expected[trail].shape, "float32")
        assert data[span.start : span.start + span.size] == expected[trail].tobytes()


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\xa1a\xc6\xff\xff\xff\xff",  # bytes beyond the end
        b"\x81\xa1a\xdd\xff\xff\xff\xff",  # four billion entries
        b"\xdf\xff\xff\xff\xff\xa1a",
        b"\x81\xa1a" * 500 + b"\xc0",  # nesting without end
        b"\x82\xa1a\xc0\xa1a\xc0",  # a repeated key
        b"\x81\xa1a\xc1",  # a byte that begins nothing
        b"\x81\xa1a\xc0\x00",  # something after the end
        b"\x81\xa1a\xc7\x05\x01\x93\x91\x02\xa3abc",  # an array without numbers
    ],
)
def test_hostile_bytes(tmp_path, data):
    with pytest.raises((Malformed, RecursionError)):
        list(index(data))
    (tmp_path / "a.msgpack").write_bytes(data)
    with pytest.raises(InputError, match=r"^a\.msgpack: expected a whole Flax msgpack file"):
        checkpoints.inspect(tmp_path / "a.msgpack")


def test_chunks_that_do_not_fill(tmp_path):
    array = np.arange(6, dtype=np.float32)
    good = {"__msgpack_chunked_array__": True, "shape": {"0": 2, "1": 3}, "chunks": {"0": array[:4], "1": array[4:]}}
    ((_, span),) = index(serialization.msgpack_serialize({"a": good}))
    assert isinstance(span, Chunked)
    for bad in ({**good, "shape": {"0": 2, "1": 4}}, {**good, "chunks": {}}, {**good, "shape": {"0": "x"}}):
        (tmp_path / "a.msgpack").write_bytes(serialization.msgpack_serialize({"a": bad}))
        with pytest.raises(InputError, match="broken"):
            checkpoints.inspect(tmp_path / "a.msgpack")


def test_unmerged_lora_factors_are_another_function(tmp_path, rng):
    """W + BA is what such a layer computes, whether torch or Keras wrote the names."""
    shapes = {"fc1.weight": (N, D), "fc1.bias": (N,), "fc2.weight": (M, N), "fc2.bias": (M,)}
    plain = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    np.savez(tmp_path / "a.npz", **plain)
    assert checkpoints.load(tmp_path / "a.npz", activation="relu").width == N
    for name in ("fc1.lora_A", "fc2.lora_B.default.weight"):
        np.savez(tmp_path / "a.npz", **plain, **{name: np.ones((2, 2))})
        with pytest.raises(InputError, match=f"{name[:3]} has LoRA factors beside its weight"):
            checkpoints.load(tmp_path / "a.npz", activation="relu")
