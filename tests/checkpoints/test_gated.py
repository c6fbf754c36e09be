"""Gated blocks: every spelling is the function that torch computes, in every kind of file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file
from torch import nn

from sparsemf import checkpoints
from sparsemf.exceptions import InputError
from sparsemf.measures import Network

SUFFIXES = ("safetensors", "npz")


def gated(rng: np.random.Generator, width: int = 7, d: int = 3, m: int = 2, **fields: object) -> Network:
    return Network(
        rng.standard_normal((width, m)),
        rng.standard_normal((width, d)),
        rng.standard_normal(width),
        "silu",
        gate=rng.standard_normal((width, d)),
        gate_bias=rng.standard_normal(width),
        **fields,  # type: ignore[arg-type]
    )


class Glu(nn.Module):
    """down(act(gate(x)) * up(x)), what transformers run."""

    def __init__(self, d: int, width: int, m: int, bias: bool, act: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate, self.up = nn.Linear(d, width, bias=bias), nn.Linear(d, width, bias=bias)
        self.down, self.act = nn.Linear(width, m, bias=bias), act
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.act(self.gate(x)) * self.up(x))

    def renamed(self, gate: str, up: str, down: str, prefix: str = "") -> dict[str, torch.Tensor]:
        names = {"gate": gate, "up": up, "down": down}
        state = self.state_dict()
        return {f"{prefix}{names[k.split('.')[0]]}.{k.split('.')[1]}": v.clone() for k, v in state.items()}

    def fused(self, first: str, down: str, prefix: str = "") -> dict[str, torch.Tensor]:
        """gate above, value below"""
        apart = self.renamed("gate", "up", down)
        kinds = {name.split(".")[1] for name in apart}
        both = {f"{prefix}{first}.{k}": torch.cat([apart[f"gate.{k}"], apart[f"up.{k}"]]) for k in kinds}
        return both | {f"{prefix}{n}": v for n, v in apart.items() if n.startswith(down)}


def assert_same_function(network: Network, module: nn.Module) -> None:
    x = torch.randn(50, network.d, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(network(x.numpy()), expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("quadratic", [False, True])
def test_native_round_trip(tmp_path, rng, same, suffix, quadratic):
    forms = {"quadratic": rng.standard_normal((2, 3, 3))} if quadratic else {}
    network = gated(rng, scale=1 / 3, offset=[1.0, -0.0], **forms)
    for name in "ab":
        checkpoints.save(network, tmp_path / f"{name}.{suffix}")
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    same(network, checkpoints.load(tmp_path / f"a.{suffix}"))
    (block,) = checkpoints.inspect(tmp_path / f"a.{suffix}").blocks
    assert (block.kind, block.gated, block.problem) == ("gated native", True, None)
    assert block.tensors["gate"] == "gate"
    assert ("quadratic" in block.tensors) == quadratic


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_plain_network_with_a_quadratic_part(tmp_path, rng, make, same, suffix):
    network = make(activation="relu2", quadratic=rng.standard_normal((2, 3, 3)))
    checkpoints.save(network, tmp_path / f"a.{suffix}")
    read = checkpoints.load(tmp_path / f"a.{suffix}")
    same(network, read)
    x = rng.standard_normal((5, 3))
    form = np.einsum("ni,mij,nj->nm", x, network.quadratic, x)
    np.testing.assert_allclose(read(x), network.with_(quadratic=None)(x) + form, rtol=1e-12)
    checkpoints.save(network.with_(quadratic=np.zeros((2, 3, 3))), tmp_path / f"b.{suffix}")
    assert checkpoints.load(tmp_path / f"b.{suffix}").quadratic is None


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_narrow_types_round_once(tmp_path, rng, same, dtype):
    network = gated(rng, quadratic=rng.standard_normal((2, 3, 3)))
    checkpoints.save(network, tmp_path / "a.safetensors", dtype=dtype)
    read = checkpoints.load(tmp_path / "a.safetensors")
    fields = ("outer", "inner", "bias", "gate", "gate_bias", "quadratic")
    same(read, network.with_(**{k: getattr(network, k).astype(dtype) for k in fields}))
    assert read.provenance.precision == dtype


def test_a_native_gate_in_a_torch_file(tmp_path, rng, same):
    network = gated(rng)
    names = ("outer", "inner", "bias", "gate", "gate_bias")
    torch.save({"activation": "silu", **{k: torch.tensor(getattr(network, k)) for k in names}}, tmp_path / "a.pt")
    same(network, checkpoints.load(tmp_path / "a.pt"))


WRONG = {
    "gate": ((7, 4), r"gate: expected shape \(7, 3\), got \(7, 4\)"),
    "gate_bias": ((6,), r"gate_bias: expected shape \(7,\), got \(6,\)"),
    "quadratic": ((2, 3, 4), r"quadratic: expected shape \(2, 3, 3\), got \(2, 3, 4\)"),
}


@pytest.mark.parametrize("role", WRONG)
def test_wrong_shapes_are_one_line(tmp_path, role):
    shapes = {"outer": (7, 2), "inner": (7, 3), "gate": (7, 3), "gate_bias": (7,)} | {role: WRONG[role][0]}
    save_numpy({k: np.ones(v) for k, v in shapes.items()}, tmp_path / "a.safetensors", {"activation": "silu"})
    for call in (checkpoints.load, checkpoints.inspect):
        with pytest.raises(InputError, match=WRONG[role][1]) as caught:
            call(tmp_path / "a.safetensors")
        assert "\n" not in str(caught.value)


def test_a_gate_bias_needs_its_gate(tmp_path):
    shapes = {"outer": (7, 2), "inner": (7, 3), "gate_bias": (7,)}
    save_numpy({k: np.ones(v) for k, v in shapes.items()}, tmp_path / "a.safetensors", {"activation": "silu"})
    with pytest.raises(InputError, match=r"gate_bias: expected a gate \(N, d\) with it"):
        checkpoints.load(tmp_path / "a.safetensors")


NAMES = [("gate_proj", "up_proj", "down_proj"), ("wi_0", "wi_1", "wo"), ("w1", "w3", "w2")]


@pytest.mark.parametrize("names", NAMES, ids="/".join)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(4, 9, 4), (8, 4, 8)])
def test_names(tmp_path, names, bias, sizes):
    module = Glu(*sizes, bias=bias, act=nn.SiLU())
    state = module.renamed(*names, prefix="layers.0.mlp.") | {"layers.0.post_attention_layernorm.weight": torch.ones(4)}
    for file, save in (("a.pt", torch.save), ("a.safetensors", save_file)):
        save(state, tmp_path / file)
        network = checkpoints.load(tmp_path / file, activation="silu")
        assert network.gated
        assert network.provenance.block == "layers.0.mlp"
        assert "layernorm" not in network.provenance.extra  # a gain alone is an RMS norm
        assert_same_function(network, module)
    (block,) = checkpoints.inspect(tmp_path / "a.safetensors").blocks
    assert block.gated
    assert block.kind.startswith("gated ")
    assert (block.activation, block.layernorm) == (None, None)
    assert block.tensors["gate"] == f"layers.0.mlp.{names[0]}.weight"
    assert block.tensors["inner"] == f"layers.0.mlp.{names[1]}.weight"
    with pytest.raises(InputError, match=r"expected metadata or a config\.json beside the file to say the activation"):
        checkpoints.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("names", [("gate_up_proj", "down_proj"), ("Wi", "Wo")], ids="/".join)
@pytest.mark.parametrize("bias", [True, False])
def test_gate_and_value_in_one_tensor(tmp_path, names, bias):
    module = Glu(4, 9, 4, bias=bias, act=nn.GELU())
    save_file(module.fused(*names, prefix="layers.0.mlp."), tmp_path / "a.safetensors")
    (tmp_path / "config.json").write_text('{"hidden_activation": "gelu"}')
    network = checkpoints.load(tmp_path / "a.safetensors")
    assert (network.width, network.d, network.m, network.gated) == (9, 4, 4, True)
    assert_same_function(network, module)
    (block,) = checkpoints.inspect(tmp_path / "a.safetensors").blocks
    assert block.tensors["gate"] == block.tensors["inner"] == f"layers.0.mlp.{names[0]}.weight"


def test_twice_the_rows_without_a_known_family_is_refused(tmp_path):
    for first, second in (("fc1", "fc2"), ("c_fc", "c_proj"), ("intermediate.dense", "output.dense")):
        state = {f"{first}.weight": torch.ones(18, 4), f"{second}.weight": torch.ones(4, 9)}
        save_file(state, tmp_path / "a.safetensors")
        with pytest.raises(InputError, match="nothing says which half is the gate"):
            checkpoints.load(tmp_path / "a.safetensors", activation="silu")


def test_a_plain_pair_of_the_same_names_stays_plain(tmp_path):
    save_file({"mlp.Wi.weight": torch.ones(9, 4), "mlp.Wo.weight": torch.ones(4, 9)}, tmp_path / "a.safetensors")
    assert not checkpoints.load(tmp_path / "a.safetensors", activation="gelu").gated


def test_three_layers_in_a_row_are_not_taken_for_a_gate(tmp_path):
    shapes = {"w1": (9, 4), "w2": (5, 9), "w3": (2, 5)}
    save_file({f"net.{k}.weight": torch.ones(s) for k, s in shapes.items()}, tmp_path / "a.safetensors")
    names = [block.name for block in checkpoints.inspect(tmp_path / "a.safetensors").blocks]
    assert names == ["net.w1-w2", "net.w2-w3"]
    save_file({f"net.w{k}.weight": torch.ones(4, 4) for k in (1, 2, 3)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="fit as a gated block and as three layers in a row"):
        checkpoints.load(tmp_path / "a.safetensors", activation="relu")


def test_shapes_that_do_not_chain_are_one_line(tmp_path):
    for shapes in (((9, 4), (8, 4), (4, 9)), ((9, 4), (9, 4), (4, 8)), ((9, 4), (9,), (4, 9))):
        state = {f"mlp.{n}.weight": torch.ones(s) for n, s in zip(NAMES[0], shapes, strict=True)}
        save_file(state, tmp_path / "a.safetensors")
        with pytest.raises(InputError, match=r"expected a gate of the same shape|do not chain|expected two matrices"):
            checkpoints.load(tmp_path / "a.safetensors", activation="silu")
    state = {"mlp.gate_up_proj.weight": torch.ones(17, 4), "mlp.down_proj.weight": torch.ones(4, 9)}
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="expected gate and value in one tensor"):
        checkpoints.load(tmp_path / "a.safetensors", activation="silu")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"hidden_act": "silu"}, "silu"),
        ({"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new"}, "gelu_tanh"),
        ({"feed_forward_proj": "gated-silu"}, "silu"),
        ({"hidden_act": "swiglu"}, "silu"),
    ],
)
def test_the_config_says_the_activation(tmp_path, config, expected):
    module = Glu(4, 9, 4, bias=False, act=nn.SiLU())
    save_file(module.renamed(*NAMES[1], prefix="encoder.block.0.layer.1.DenseReluDense."), tmp_path / "a.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert checkpoints.load(tmp_path / "a.safetensors").activation.name == expected
    (block,) = checkpoints.inspect(tmp_path / "a.safetensors").blocks
    assert block.activation == expected
    assert block.activation_from.startswith("config.json ")


def test_an_unclear_activation_is_refused(tmp_path):
    module = Glu(4, 9, 4, bias=False, act=nn.GELU())
    save_file(module.renamed(*NAMES[0]), tmp_path / "a.safetensors")
    (tmp_path / "config.json").write_text('{"hidden_act": "geglu"}')
    with pytest.raises(InputError, match="unknown activation 'geglu'"):
        checkpoints.load(tmp_path / "a.safetensors")
    assert checkpoints.load(tmp_path / "a.safetensors", activation="gelu").activation.name == "gelu"
    plain = {"mlp.wi.weight": torch.ones(9, 4), "mlp.wo.weight": torch.ones(4, 9)}
    save_file(plain, tmp_path / "b.safetensors")
    (tmp_path / "config.json").write_text('{"feed_forward_proj": "gated-gelu"}')
    with pytest.raises(InputError, match="gated"):
        checkpoints.load(tmp_path / "b.safetensors")


def test_a_layernorm_with_gain_and_shift_is_found(tmp_path):
    module = Glu(4, 9, 4, bias=False, act=nn.SiLU())
    norm = {f"layers.0.post_attention_layernorm.{k}": torch.randn(4) for k in ("weight", "bias")}
    save_file(module.renamed(*NAMES[0], prefix="layers.0.mlp.") | norm, tmp_path / "a.safetensors")
    found = checkpoints.load(tmp_path / "a.safetensors", activation="silu").provenance.extra["layernorm"]
    assert found["name"] == "layers.0.post_attention_layernorm"


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sharded", [False, True])
def test_half_precision_and_shards(tmp_path, kind, sharded):
    module = Glu(4, 9, 4, bias=False, act=nn.SiLU())
    state = {k: v.to(kind) for k, v in module.renamed(*NAMES[0], prefix="layers.0.mlp.").items()}
    path = tmp_path / "model.safetensors"
    if sharded:
        homes = {name: f"model-0000{i + 1}-of-00003.safetensors" for i, name in enumerate(state)}
        for name, home in homes.items():
            save_file({name: state[name]}, tmp_path / home)
        path = tmp_path / "model.safetensors.index.json"
        path.write_text(json.dumps({"weight_map": homes}))
    else:
        save_file(state, path)
    network = checkpoints.load(path, activation="silu")
    assert network.provenance.precision == str(kind).removeprefix("torch.")
    for role, part in (("gate", "gate_proj"), ("inner", "up_proj")):
        np.testing.assert_array_equal(getattr(network, role), state[f"layers.0.mlp.{part}.weight"].double().numpy())
    np.testing.assert_array_equal(network.outer.T, state["layers.0.mlp.down_proj.weight"].double().numpy())


def test_mapping(tmp_path, rng):
    network = gated(rng, width=7, d=3, m=2, quadratic=rng.standard_normal((2, 3, 3)))
    arrays = {"g": network.gate.T, "gb": network.gate_bias, "u": network.inner, "ub": network.bias}
    arrays |= {"down": network.outer.T, "q": network.quadratic, "flat": network.bias}
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    spec = "gate=g,gate_bias=gb,inner=u,bias=ub,outer=down,quadratic=q"
    read = checkpoints.load(path, activation="silu", map=spec)
    x = rng.standard_normal((9, 3))
    np.testing.assert_array_equal(read(x), network(x))
    (block,) = checkpoints.inspect(path, activation="silu", map=spec).blocks
    assert (block.kind, block.transposed) == ("gated mapped", ("outer", "gate"))
    for bad, message in (
        ("inner=u,outer=down,gate_bias=gb", "expected gate=… with it"),
        ("inner=u,outer=down,gate=q", "expected a matrix"),
        ("inner=u,outer=down,quadratic=g", "expected one matrix per output"),
        ("inner=u,outer=down,gate=down", r"expected inner \(N, d\), outer \(N, m\), gate \(N, d\), up to transposes"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            checkpoints.load(path, activation="silu", map=bad)
        assert "\n" not in str(caught.value)


def test_transposes_must_be_said_where_shapes_leave_them_open(tmp_path, rng):
    network = gated(rng, width=5, d=5, m=2)
    np.savez(tmp_path / "a.npz", g=network.gate.T, u=network.inner, o=network.outer)
    with pytest.raises(InputError, match="several ways fit"):
        checkpoints.load(tmp_path / "a.npz", activation="silu", map="gate=g,inner=u,outer=o")
    read = checkpoints.load(tmp_path / "a.npz", activation="silu", map="gate=g:T,inner=u:N,outer=o")
    np.testing.assert_array_equal(read.gate, network.gate)
    np.testing.assert_array_equal(read.inner, network.inner)


def test_a_module_that_applies_its_matrix_from_the_right(tmp_path, rng):
    """(d, N) with a bias that counts the neurons, as GPT-2's Conv1D."""
    network = gated(rng, width=7, d=3, m=2)
    arrays = {
        "gate_proj.weight": network.gate.T, "gate_proj.bias": network.gate_bias,
        "up_proj.weight": network.inner.T, "up_proj.bias": network.bias, "down_proj.weight": network.outer,
    }  # fmt: skip
    save_numpy({k: np.ascontiguousarray(v) for k, v in arrays.items()}, tmp_path / "a.safetensors")
    read = checkpoints.load(tmp_path / "a.safetensors", activation="silu")
    x = rng.standard_normal((9, 3))
    np.testing.assert_array_equal(read(x), network(x))
