"""torch files: the network read is the function of the module that was saved, however it was wrapped."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sparsemf import checkpoints
from sparsemf.exceptions import InputError


def sequential(d=3, width=7, m=2, act=nn.Tanh, **kwargs):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(d, width, **kwargs), act(), nn.Linear(width, m, **kwargs)).double()


def assert_same_function(network, module, tolerance=1e-13):
    x = torch.randn(50, network.d, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(network(x.numpy()), expected, rtol=0, atol=tolerance * np.abs(expected).max())


WRAPPINGS = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model and optimizer": lambda s: {
        "model": s,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(7, 3)}}, "param_groups": [{"lr": 0.1}]},
        "rng_state": [torch.zeros(4, dtype=torch.uint8)],
    },
    "ddp": lambda s: OrderedDict((f"module.{k}", v) for k, v in s.items()),
    "compiled": lambda s: {"model_state_dict": {f"_orig_mod.{k}": v for k, v in s.items()}},
    "ddp and compiled": lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
    "parameters by module": lambda s: {
        "0": {"weight": s["0.weight"], "bias": s["0.bias"]},
        "2": {"weight": s["2.weight"], "bias": s["2.bias"]},
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappings(tmp_path, wrapping, zipped):
    module = sequential()
    path = tmp_path / "a.pth"
    torch.save(WRAPPINGS[wrapping](module.state_dict()), path, _use_new_zipfile_serialization=zipped)
    network = checkpoints.load(path, activation="tanh")
    assert network.provenance.block == "main"
    assert_same_function(network, module)


def test_a_prefix_names_the_block(tmp_path):
    module = sequential()
    state = {f"net.{k}": v for k, v in module.state_dict().items()} | {"other": torch.zeros(2)}
    torch.save({"model": state, "ema": {k: v + 1 for k, v in state.items()}}, tmp_path / "a.pt")
    assert [n.provenance.block for n in checkpoints.load_blocks(tmp_path / "a.pt", activation="tanh")] == [
        "ema.net",
        "model.net",
    ]
    assert_same_function(checkpoints.load(tmp_path / "a.pt", "model.*", "tanh"), module)


PAIRS = [
    ("fc1", "fc2"),
    ("linear1", "linear2"),
    ("w1", "w2"),
    ("c_fc", "c_proj"),
    ("lin1", "lin2"),
    ("wi", "wo"),
    ("hidden", "output"),
    ("up_proj", "down_proj"),
    ("layers.0", "layers.1"),
    ("dense_h_to_4h", "dense_4h_to_h"),
]


@pytest.mark.parametrize("names", PAIRS, ids="/".join)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(3, 7, 2), (4, 9, 4), (5, 5, 2), (8, 4, 8)])
def test_names(tmp_path, names, bias, sizes):
    module = sequential(*sizes, bias=bias)
    state = module.state_dict()
    renamed = {
        k.replace("0.", f"{names[0]}.", 1) if k[0] == "0" else k.replace("2.", f"{names[1]}.", 1): v
        for k, v in state.items()
    }
    for file, save in (("a.pt", torch.save), ("a.safetensors", save_file)):
        save({f"body.{k}": v for k, v in renamed.items()}, tmp_path / file)
        network = checkpoints.load(tmp_path / file, activation="tanh")
        assert_same_function(network, module)
        assert network.provenance.block == ("body.layers" if "layers.0" in names else "body")


class Applied(nn.Module):
    """x @ W + b, as GPT-2's Conv1D and JAX hold it."""

    def __init__(self, d, m):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d, m, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(m, dtype=torch.float64))

    def forward(self, x):
        return x @ self.weight + self.bias


@pytest.mark.parametrize("sizes", [(3, 7, 3), (3, 12, 2), (6, 6, 6)])
def test_conv1d_is_transposed(tmp_path, sizes):
    d, width, m = sizes
    torch.manual_seed(0)
    first, second = Applied(d, width), Applied(width, m)
    state = {"h.0.attn.c_attn.weight": torch.zeros(d, 3 * d)}
    for name, layer in (("c_fc", first), ("c_proj", second)):
        state |= {f"h.0.mlp.{name}.{k}": v for k, v in layer.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors")
    (tmp_path / "config.json").write_text('{"activation_function": "gelu_new"}')
    network = checkpoints.load(tmp_path / "a.safetensors")
    assert network.activation.name == "gelu_tanh"
    assert_same_function(network, nn.Sequential(first, nn.GELU(approximate="tanh"), second))
    if sizes == (6, 6, 6):  # without the attention's shape nothing tells Conv1D from Linear
        del state["h.0.attn.c_attn.weight"]
        save_file(state, tmp_path / "b.safetensors")
        with pytest.raises(InputError, match="fit both ways; say it with --map and :T"):
            checkpoints.load(tmp_path / "b.safetensors")


def test_bare_parameters(tmp_path):
    rng = np.random.default_rng(0)
    w1, b1, w2, b2 = (rng.standard_normal(s) for s in ((3, 7), 7, (7, 2), 2))
    np.savez(tmp_path / "a.npz", W1=w1, b1=b1, W2=w2, b2=b2, activation="relu")
    network = checkpoints.load(tmp_path / "a.npz")
    x = rng.standard_normal((9, 3))
    np.testing.assert_allclose(network(x), np.maximum(x @ w1 + b1, 0) @ w2 + b2, rtol=1e-13)


def test_deep_networks_give_every_consecutive_pair(tmp_path):
    torch.manual_seed(0)
    layers = [nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 2)]
    module = nn.Sequential(*layers).double().eval()
    torch.save(module.state_dict(), tmp_path / "a.pt")
    first, second = checkpoints.load_blocks(tmp_path / "a.pt", activation="relu")
    assert (first.provenance.block, second.provenance.block) == ("0-2", "2-5")
    assert_same_function(first, module[:3])
    assert_same_function(second, module[2:])


def test_what_stands_between_two_layers_is_no_block(tmp_path):
    normed = nn.Sequential(nn.Linear(3, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 2), nn.Linear(2, 4))
    torch.save(normed.state_dict(), tmp_path / "a.pt")
    inspection = checkpoints.inspect(tmp_path / "a.pt", activation="relu")
    assert inspection.blocks == ()
    reasons = " ".join(remark.reason for remark in inspection.not_understood)
    assert "1, which has tensors of its own, stands between" in reasons
    assert "layers 3 and 4 follow each other without an activation" in reasons
    with pytest.raises(InputError, match="expected a two-layer block, found none"):
        checkpoints.load(tmp_path / "a.pt", activation="relu")
    named = nn.ModuleDict({"fc1": nn.Linear(3, 7), "bn1": nn.BatchNorm1d(7), "fc2": nn.Linear(7, 2)})
    torch.save(named.state_dict(), tmp_path / "b.pt")
    with pytest.raises(InputError, match="batch norm bn1 stands between"):
        checkpoints.load(tmp_path / "b.pt", activation="relu")


def test_a_layernorm_before_the_block_is_found(tmp_path):
    module = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 2))
    nn.init.normal_(module[0].weight)
    torch.save(module.state_dict(), tmp_path / "a.pt")
    norm = checkpoints.load(tmp_path / "a.pt", activation="relu").provenance.extra["layernorm"]
    np.testing.assert_array_equal(norm["gain"], module[0].weight.detach().double().numpy())
    assert norm["name"] == "0"
    assert not norm["shift"].flags.writeable


def test_views_sparse_and_meta_tensors_are_left_aside(tmp_path):
    state = sequential().state_dict() | {
        "expanded": torch.zeros(1).expand(10**6, 10**6),
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.empty(3, device="meta"),
    }
    torch.save(state, tmp_path / "a.pt")
    inspection = checkpoints.inspect(tmp_path / "a.pt", activation="tanh")
    assert [b.name for b in inspection.blocks] == ["main"]
    assert {r.name for r in inspection.not_understood} == {"expanded", "sparse", "meta"}
