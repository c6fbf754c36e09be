"""``sparsemf compress``: every format's copy computes the certified function, and nothing is lost or half written."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import onnx_models
from cases import planted, planted_gated
from sparsemf import Network, checkpoints
from sparsemf.checkpoints.opened import OpenCheckpoint
from sparsemf.symmetry import disguise
from sparsemf_cli.main import cli

os.environ.setdefault("KERAS_BACKEND", "jax")
D, N, M = 3, 8, 2
ULP = {"float64": 1e-12, "float32": 1e-6, "float16": 1e-2, "bfloat16": 5e-2}


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [*map(str, arguments), "-q"])


def compressed(source: Path, out: Path, *options: object) -> list[dict[str, Any]]:
    """Compress and verify: the documents of the blocks."""
    cert = out.parent / "cert.json"
    result = invoke("compress", source, "-o", out, "--cert", cert, "--json", *options)
    assert result.exit_code == 0, result.stderr
    checked = invoke("verify", cert, "--json")
    assert checked.exit_code == 0, checked.output
    whole = json.loads(result.stdout)
    return whole.get("results", [whole])


def agrees(source: Path, out: Path, document: dict[str, Any], activation: str | None = None) -> tuple[Network, Network]:
    """The distance of the two files' blocks on inputs lies in the document's interval; (old, new)."""
    name = document["output"]["block"]
    with OpenCheckpoint(source, activation=activation) as a, OpenCheckpoint(out, activation=activation) as b:
        old, new = a.load(name), b.load(name)
    x = np.random.default_rng(1).standard_normal((20000, old.d))
    distance = float(np.sqrt(np.mean(np.sum((old(x) - new(x)) ** 2, axis=1))))
    assert 0.93 * document["error"]["lower"] - 1e-12 <= distance <= 1.07 * document["error"]["upper"] + 1e-12
    assert new.width == document["output"]["width"]
    return old, new


@pytest.fixture(scope="module")
def net() -> Network:
    """Three atoms as eight neurons."""
    rng = np.random.default_rng(2)
    truth = planted(rng, "tanh", d=D, atoms=3, outputs=M, bias=True).with_(offset=rng.standard_normal(M))
    return disguise(truth, rng, N, flips=False)


def torch_tensors(net: Network, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    found = {"0.weight": net.inner, "0.bias": net.bias, "2.weight": net.alpha.T, "2.bias": net.offset}
    return {name: torch.tensor(np.ascontiguousarray(value)).to(dtype) for name, value in found.items()}


def write(kind: str, folder: Path, net: Network) -> Path:
    tensors = torch_tensors(net)
    if kind in ULP:
        path = folder / "a.safetensors"
        extra = {"ids": torch.arange(5), "head.weight": torch.randn(4, 3)}
        save_file({**torch_tensors(net, getattr(torch, kind)), **extra}, path, metadata={"made": "by hand"})
    elif kind == "conv1d":
        path = folder / "a.safetensors"
        names = {"c_fc.weight": "0.weight", "c_fc.bias": "0.bias", "c_proj.weight": "2.weight", "c_proj.bias": "2.bias"}
        turned = {name: value.mT.contiguous() if value.ndim == 2 else value for name, value in tensors.items()}
        save_file({f"h.0.mlp.{new}": turned[old] for new, old in names.items()}, path)
    elif kind == "pt":
        path = folder / "a.pt"
        torch.save({"model": tensors, "optimizer": {"state": {0: torch.ones(N)}}, "epoch": 3}, path)
    elif kind == "npz":
        path = folder / "a.npz"
        arrays: dict[str, Any] = {name: value.numpy() for name, value in tensors.items()}
        np.savez(path, **arrays)
    elif kind == "native":
        path = folder / "a.safetensors"
        checkpoints.save(net.with_(affine=0.1 * np.ones((M, D))), path)
    elif kind == "onnx":
        build = onnx_models.Builder()
        w, b, v, c = (build.constant(tensors[name].numpy(), name) for name in tensors)
        hidden = build.op("Tanh", build.op("Gemm", "x", w, b, transB=1))
        path = onnx_models.stored(build.model(build.op("Gemm", hidden, v, c, transB=1), D), folder / "a.onnx")
    elif kind == "keras":
        keras = pytest.importorskip("keras")
        path = folder / "a.keras"
        layers = [keras.layers.Dense(N, activation="tanh"), keras.layers.Dense(M)]
        model = keras.Sequential([keras.Input((D,)), *layers])
        model.set_weights([tensors[n].numpy().T for n in tensors])
        model.save(path)
    elif kind == "skops":
        sio = pytest.importorskip("skops.io")
        from sklearn.neural_network import MLPRegressor

        path = folder / "a.skops"
        x = np.random.default_rng(3).standard_normal((40, D))
        mlp = MLPRegressor(hidden_layer_sizes=(N,), activation="tanh", max_iter=2).fit(x, net(x))
        mlp.coefs_, mlp.intercepts_ = [net.inner.T, net.alpha], [net.bias, net.offset]
        sio.dump(mlp, path)
    else:
        serialization = pytest.importorskip("flax.serialization")
        path = folder / "a.msgpack"
        dense = [
            {"kernel": tensors[f"{k}.weight"].numpy().T.copy(), "bias": tensors[f"{k}.bias"].numpy()} for k in (0, 2)
        ]
        path.write_bytes(serialization.msgpack_serialize({"params": {"Dense_0": dense[0], "Dense_1": dense[1]}}))
    return path


def library_value(kind: str, path: Path, x: np.ndarray) -> np.ndarray | None:
    """What the format's own library computes."""
    if kind == "onnx":
        import onnx

        return onnx_models.evaluated(onnx.load(path), x)
    if kind == "keras":
        import keras

        model: Any = keras.saving.load_model(path)
        return np.asarray(model(x))
    if kind == "skops":
        import skops.io as sio

        return sio.load(path, trusted=sio.get_untrusted_types(file=path)).predict(x)
    if kind in ("float32", "pt"):
        content = load_file(path) if kind == "float32" else torch.load(path, weights_only=True)["model"]
        width = content["0.weight"].shape[0]
        module = torch.nn.Sequential(torch.nn.Linear(D, width), torch.nn.Tanh(), torch.nn.Linear(width, M))
        module.load_state_dict({name: value for name, value in content.items() if name[0] in "02"})
        return module(torch.tensor(x)).detach().numpy()
    return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [*ULP, "conv1d", "pt", "npz", "native", "onnx", "keras", "skops", "flax"])
def test_the_copy_is_the_planted_network_in_every_format(kind: str, tmp_path: Path, net: Network) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = write(kind, tmp_path, net)
    before = source.read_bytes()
    out = tmp_path / f"b{source.suffix}"
    activation = None if kind in ("native", "onnx", "keras", "skops") else "tanh"
    options = [] if activation is None else ["--activation", activation]
    (document,) = compressed(source, out, "--width", 3, *options)
    old, new = agrees(source, out, document, activation)
    assert (document["size"], new.width, document["free_degree"]) == (3, 3, 1 if kind == "native" else 0)
    assert document["error"]["rel_upper"] <= ULP[new.provenance.precision]
    assert document["limit"]["at_least"] == 3 or kind in ("float16", "bfloat16")
    assert source.read_bytes() == before
    assert old.provenance.precision == new.provenance.precision
    x = np.random.default_rng(4).standard_normal((30, D)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = library_value(kind, out, x)
    assert value is None or np.abs(value - new(x)).max() < 1e-5
    if kind in ULP:
        first, second = load_file(source), load_file(out)
        assert all(torch.equal(first[name], second[name]) for name in ("ids", "head.weight"))


def test_padding_keeps_every_shape(tmp_path: Path, net: Network) -> None:
    source, out = write("float32", tmp_path, net), tmp_path / "b.safetensors"
    (document,) = compressed(source, out, "--width", 2, "--pad", "--activation", "tanh")
    _, new = agrees(source, out, document, "tanh")
    assert (document["size"], new.width, document["advice"]) == (2, N, [])
    assert np.count_nonzero(new.outer.any(axis=1)) == 2
    first, second = load_file(source), load_file(out)
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in second.items()}


def test_gated_blocks_without_biases_and_the_entry_of_the_config(tmp_path: Path) -> None:
    """Two Llama blocks: each has its document and certificate, and config.json the new width."""
    rng, tensors = np.random.default_rng(5), {}
    for k in range(2):
        truth = planted_gated(rng, "silu", d=D, atoms=2, outputs=D, bias=False)
        rows = np.repeat(np.arange(2), 3)
        parts = {"gate_proj": truth.gate, "up_proj": truth.inner, "down_proj": truth.alpha / 3}
        for name, part in parts.items():
            assert part is not None
            value = part[rows] if name != "down_proj" else part[rows].T
            tensors[f"model.layers.{k}.mlp.{name}.weight"] = torch.tensor(np.ascontiguousarray(value))
    source, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file(tensors, source)
    (tmp_path / "config.json").write_text(json.dumps({"intermediate_size": 6, "hidden_act": "silu"}))
    documents = compressed(source, out, "--rel-eps", 1e-6)
    assert len(documents) == 2
    for document in documents:
        assert (document["size"], document["free_degree"]) == (2, -1)
        assert document["advice"] == ["config.json: intermediate_size 6 -> 2 (all blocks must have the same)"]
        agrees(source, out, document)


def test_blocks_without_biases(tmp_path: Path) -> None:
    truth = planted(np.random.default_rng(6), "sigmoid", d=D, atoms=4, outputs=M)
    source, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file({k: v for k, v in torch_tensors(truth, torch.float64).items() if not k.endswith("bias")}, source)
    (document,) = compressed(source, out, "--width", 2, "--activation", "sigmoid")
    agrees(source, out, document, "sigmoid")
    assert set(load_file(out)) == {"0.weight", "2.weight"}


def refused(message: str, folder: Path, *arguments: object) -> None:
    """One line, exit 4, and no new file."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = invoke("compress", *arguments, "--json")
    assert (result.exit_code, result.stdout) == (4, ""), result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_is_refused_leaves_the_folder_as_it_was(tmp_path: Path, net: Network) -> None:
    source, out = write("float32", tmp_path, net), tmp_path / "b.safetensors"
    out.write_bytes(b"kept")
    common = (source, "--activation", "tanh", "--width", 3)
    again = f"{tmp_path}/../{tmp_path.name}/a.safetensors"
    refused("expected a file of its own, got that of CKPT", tmp_path, *common, "-o", again)
    refused("does not exist; make it first", tmp_path, *common, "-o", tmp_path / "no" / "b.safetensors")
    refused("expected the suffix .safetensors", tmp_path, *common, "-o", tmp_path / "b.pt")
    for other in ("--cert", "--html", "--document"):
        refused("expected a file of its own, got that of -o", tmp_path, *common, "-o", out, other, out)
        refused("expected a file of its own, got that of CKPT", tmp_path, *common, "-o", out, other, source)
    refused("no block matches", tmp_path, *common, "-o", out, "--block", "nothing")
    unreachable = (source, "--activation", "tanh", "--eps", 1e-200, "-o", out)
    refused("expected an error of at least", tmp_path, *unreachable)
    for goals in ((), ("--width", 1, "--eps", 1.0)):
        assert invoke("compress", source, "-o", out, *goals).exit_code == 2


def test_neighbours_in_a_deep_network_are_not_both_replaced(tmp_path: Path) -> None:
    """They share a layer, also where no shape changes."""
    source, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    generator = torch.Generator().manual_seed(0)
    save_file({f"{k}.weight": torch.randn(4, 4, generator=generator) for k in (0, 2, 4)}, source)
    common = (source, "--activation", "tanh", "--width", 2, "-o", out)
    for more in ((), ("--pad",)):
        refused("both hold 2.weight", tmp_path, *common, *more)


def test_a_copy_that_would_be_read_otherwise_is_not_made(tmp_path: Path, net: Network) -> None:
    """A Conv1D block of width d = m could be either way round."""
    square = planted(np.random.default_rng(7), "tanh", d=D, atoms=4, outputs=D, bias=True)
    source, out = write("conv1d", tmp_path, square), tmp_path / "b.safetensors"
    refused("fit both ways", tmp_path, source, "--activation", "tanh", "--width", D, "-o", out)


@pytest.mark.parametrize("where", ["certify", "_same"])
def test_an_interruption_leaves_nothing(
    where: str, tmp_path: Path, net: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a block is certified, and while the copy is read again."""
    source, out, cert = write("float32", tmp_path, net), tmp_path / "b.safetensors", tmp_path / "c.json"

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    module = "sparsemf.pipeline.compress" if where == "certify" else "sparsemf.pipeline.compress_file"
    monkeypatch.setattr(f"{module}.{where}", stop)
    result = invoke("compress", source, "-o", out, "--width", 3, "--activation", "tanh", "--cert", cert)
    assert result.exit_code == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors"]
