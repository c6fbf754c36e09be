"""`sparsemf certify A B` on whole models: blocks paired, compared, aligned, and verified again from the files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

import sparsemf
from sparsemf.checkpoints import load
from sparsemf_cli.main import cli

Array = NDArray[np.float64]
State = dict[str, torch.Tensor]
Run = Callable[..., tuple[int, Any]]
D, N = 4, 9
BAD_INPUT = 4


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("certify", …)`` in the folder of the files: (exit code, document), or (code, stderr) without one."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = cli.main([*arguments, "--json"], standalone_mode=False)
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else err

    return call


def bert(rng: np.random.Generator, prefix: str, layer: int, d: int = D, norm: bool = False) -> State:
    """One transformer block: W₁ (N, d), b₁, W₂ (d, N), b₂ and, wanted, the LayerNorm in front of it."""
    at = f"{prefix}encoder.layer.{layer}."
    shapes = {
        "intermediate.dense.weight": (N, d), "intermediate.dense.bias": (N,),
        "output.dense.weight": (d, N), "output.dense.bias": (d,),
    }  # fmt: skip
    if norm:
        shapes |= {"attention.output.LayerNorm.weight": (d,), "attention.output.LayerNorm.bias": (d,)}
    return {at + name: torch.tensor(rng.standard_normal(shape)) for name, shape in shapes.items()}


def llama(rng: np.random.Generator, layer: int) -> State:
    """A gated block without biases."""
    shapes = {"gate_proj": (N, D), "up_proj": (N, D), "down_proj": (D, N)}
    at = f"model.layers.{layer}.mlp."
    return {f"{at}{name}.weight": torch.tensor(rng.standard_normal(shape)) for name, shape in shapes.items()}


_ROWS = ("intermediate.dense", "gate_proj", "up_proj", "fc1")
_COLUMNS = ("output.dense.weight", "down_proj.weight", "fc2.weight")


def permuted(state: State, rng: np.random.Generator, signs: bool = False) -> State:
    """The neurons of every block in another order; ``signs``: some of them (odd σ) negated on both sides."""
    out, seen = {}, {}
    for name, tensor in state.items():
        block = next((name.split(part)[0] for part in (*_ROWS, *_COLUMNS) if part in name), None)
        if block is None:
            out[name] = tensor
            continue
        order, side = seen.setdefault(
            block, (rng.permutation(N), torch.tensor(rng.choice([-1.0, 1.0], N) if signs else np.ones(N)))
        )
        side = side.to(tensor.dtype)
        if any(part in name for part in _ROWS):
            moved = tensor[order] * (side if tensor.ndim == 1 else side[:, None])
        elif any(name.endswith(part) for part in _COLUMNS):
            moved = tensor[:, order] * side
        else:
            moved = tensor
        out[name] = moved.contiguous()
    return out


def renamed(state: State, old: str, new: str) -> State:
    """A common prefix exchanged."""
    return {new + name.removeprefix(old): tensor for name, tensor in state.items()}


def save(folder: Path, act: str = "gelu", **states: State) -> None:
    """One folder for all, with a config.json that names the activation."""
    for name, state in states.items():
        save_file({key: tensor.clone() for key, tensor in state.items()}, folder / f"{name}.safetensors")
    (folder / "config.json").write_text(json.dumps({"hidden_act": act}))


def distance(a: Path, b: Path, block_a: str, block_b: str, rng: np.random.Generator) -> float:
    """Monte-Carlo estimate of ‖f_A − f_B‖ under N(0, I), from what torch would compute."""
    left, right = load(a, block_a), load(b, block_b)
    x = rng.standard_normal((200_000, left.d))
    return float(np.sqrt(np.mean(np.sum((left(x) - right(x)) ** 2, axis=1))))


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    """The verdict of each block of A."""
    return {result["inputs"]["a"]["block"]: result["verdict"] for result in document["results"]}


# --- pairing ------------------------------------------------------------------------------------------------------


def test_prefixes_differ(tmp_path: Path, rng: np.random.Generator, run: Run) -> None:
    a = {k: v for layer in range(3) for k, v in bert(rng, "bert.", layer).items()}
    b = permuted(renamed(a, "bert.", "model.text."), rng)
    a["bert.pooler.dense.weight"] = torch.eye(D)
    save(tmp_path, a=a, b=b)
    code, document = run("certify", "a.safetensors", "b.safetensors", "--rel-eps", "1e-9", "-o", "pair.json")
    assert code == 0, document
    assert document == json.loads((tmp_path / "pair.json").read_text())
    blocks = [f"encoder.layer.{k}" for k in range(3)]
    pairs = [tuple(result["inputs"][side]["block"] for side in "ab") for result in document["results"]]
    assert pairs == [(f"bert.{name}", f"model.text.{name}") for name in blocks]
    assert document["failed"] == []
    assert document["unmatched"] == {"a": [], "b": []}
    for result in document["results"]:
        assert result["verdict"] == "equivalent"
        counts = {"matched": N, "unmatched_a": 0, "unmatched_b": 0}
        assert result["matching"] == {"kind": "certificate", **counts, "max_distance": 0.0}
        assert result["orbit_distance"]["value"] < 1e-9
        assert result["bounds"]["upper"] <= result["eps"]
    code, verified = run("verify", "pair.json")
    assert code == 0
    assert [result["valid"] for result in verified["results"]] == [True] * 3


def test_a_missing_block_is_named(tmp_path: Path, rng: np.random.Generator, run: Run) -> None:
    a = {k: v for layer in range(4) for k, v in bert(rng, "", layer).items()}
    b = permuted({k: v for k, v in a.items() if "layer.1." not in k}, rng) | bert(rng, "", 7, d=D + 1)
    save(tmp_path, a=a, b=b)
    code, document = run("certify", "a.safetensors", "b.safetensors", "-o", "pair.json")
    assert code == 0, document
    assert verdicts(document) == {f"encoder.layer.{k}": "equivalent" for k in (0, 2, 3)}
    assert document["unmatched"] == {"a": ["encoder.layer.1"], "b": ["encoder.layer.7"]}
    assert document["failed"] == []
    assert run("verify", "pair.json")[0] == 0


def test_one_pair_of_another_shape_fails_and_the_others_go_on(
    tmp_path: Path, rng: np.random.Generator, run: Run
) -> None:
    a = {k: v for layer in range(3) for k, v in bert(rng, "", layer).items()}
    b = permuted({k: v for k, v in a.items() if "layer.1." not in k}, rng) | bert(rng, "", 1, d=D + 1)
    save(tmp_path, a=a, b=b)
    code, document = run("certify", "a.safetensors", "b.safetensors", "-o", "pair.json")
    assert code == 3, document  # not all is known, and nothing is distinct
    assert verdicts(document) == {f"encoder.layer.{k}": "equivalent" for k in (0, 2)}
    (entry,) = document["failed"]
    assert entry["block"] == "encoder.layer.1"
    assert "dimension d" in entry["reason"]
    assert f"got {D} and {D + 1}" in entry["reason"]
    assert run("verify", "pair.json")[0] == 0
    # distinct outranks it
    b["encoder.layer.2.output.dense.bias"] = b["encoder.layer.2.output.dense.bias"] + 1.0
    save(tmp_path, b=b)
    code, document = run("certify", "a.safetensors", "b.safetensors", "-o", "other.json")
    assert code == 1
    assert verdicts(document) == {"encoder.layer.0": "equivalent", "encoder.layer.2": "distinct"}
    assert [entry["block"] for entry in document["failed"]] == ["encoder.layer.1"]
    assert run("verify", "other.json")[0] == 0
    # the first certificate was made for another file
    assert run("verify", "pair.json")[0] == 1
    # asked for alone, it is an error
    code, error = run("certify", "a.safetensors", "b.safetensors", "--block", "*layer.1")
    assert code == BAD_INPUT
    assert error.count("\n") == 1
    assert "dimension d" in error


def test_damaged_numbers_in_one_block(tmp_path: Path, rng: np.random.Generator, run: Run) -> None:
    a = {k: v for layer in range(2) for k, v in bert(rng, "", layer).items()}
    b = {k: v.clone() for k, v in a.items()}
    b["encoder.layer.0.intermediate.dense.weight"][2, 1] = torch.nan
    save(tmp_path, a=a, b=b)
    code, document = run("certify", "a.safetensors", "b.safetensors")
    assert code == 3
    assert verdicts(document) == {"encoder.layer.1": "equivalent"}
    assert "NaN" in document["failed"][0]["reason"]


def test_nothing_in_common(tmp_path: Path, rng: np.random.Generator, run: Run) -> None:
    a = {k: v for layer in range(2) for k, v in bert(rng, "", layer).items()}
    b = {k: v for layer in range(3) for k, v in bert(rng, "x.", layer, d=D + 1).items()}
    save(tmp_path, a=a, b=b)
    code, error = run("certify", "a.safetensors", "b.safetensors", "--block", "none*")
    assert (code, error.count("\n")) == (BAD_INPUT, 1)
    assert "no block matches 'none*'" in error
    code, error = run("certify", "a.safetensors", "b.safetensors")
    assert (code, error.count("\n")) == (BAD_INPUT, 1)


# --- kinds of blocks ----------------------------------------------------------------------------------------------


def test_gated_blocks(tmp_path: Path, rng: np.random.Generator, run: Run) -> None:
    """Llama's down(silu(gate(x))·up(x)): neurons permuted, a sign moved from up to down, then one number changed."""
    a = {k: v for layer in range(2) for k, v in llama(rng, layer).items()}
    b = permuted(a, rng)
    for layer in range(2):
        flipped = torch.tensor(rng.choice([-1.0, 1.0], N))
        at = f"model.layers.{layer}.mlp."
        b[f"{at}up_proj.weight"] = b[f"{at}up_proj.weight"] * flipped[:, None]
        b[f"{at}down_proj.weight"] = b[f"{at}down_proj.weight"] * flipped
    b["model.layers.1.mlp.gate_proj.weight"][3, 0] *= 1.01
    save(tmp_path, act="silu", a=a, b=b)
    code, document = run("certify", "a.safetensors", "b.safetensors", "--eps", "1e-6", "-o", "pair.json")
    assert code == 1, document
    assert verdicts(document) == {"model.layers.0.mlp": "equivalent", "model.layers.1.mlp": "distinct"}
    same, other = document["results"]
    assert same["inputs"]["a"]["activation"] == "silu"
    assert same["bounds"]["upper"] < 1e-11
    assert other["witness"]["gap"] > 0
    block = "model.layers.1.mlp"
    truth = distance(tmp_path / "a.safetensors", tmp_path / "b.safetensors", block, block, rng)
    assert other["bounds"]["lower"] <= truth * 1.05
    assert truth <= other["bounds"]["upper"] * 1.05
    assert run("verify", "pair.json")[0] == 0


def test_a_gated_block_against_a_plain_one(tmp_path: Path, rng: np.random.Generator, run: Run) -> None:
    a = llama(rng, 0) | llama(rng, 1)
    b = {k: v for k, v in a.items() if "layers.0.mlp.gate" not in k}
    save(tmp_path, act="silu", a=a, b=b)
    code, document = run("certify", "a.safetensors", "b.safetensors")
    assert code == 3, document
    assert verdicts(document) == {"model.layers.1.mlp": "equivalent"}
    assert "gated" in document["failed"][0]["reason"]


def test_a_half_precision_copy(tmp_path: Path, rng: np.random.Generator, run: Run) -> None:
    a = {k: v.float() for layer in range(2) for k, v in bert(rng, "", layer).items()}
    save(tmp_path, a=a, b={k: v.half() for k, v in a.items()})
    code, document = run("certify", "a.safetensors", "b.safetensors", "--rel-eps", "1e-2", "-o", "near.json")
    assert code == 0, document
    for result in document["results"]:
        assert [result["inputs"][side]["precision"] for side in "ab"] == ["float32", "float16"]
        block = result["inputs"]["a"]["block"]
        truth = distance(tmp_path / "a.safetensors", tmp_path / "b.safetensors", block, block, rng)
        assert result["bounds"]["lower"] <= truth * 1.02
        assert truth <= result["bounds"]["upper"] * 1.02
    code, document = run("certify", "a.safetensors", "b.safetensors", "--rel-eps", "1e-6", "-o", "far.json")
    assert code == 1
    assert list(verdicts(document).values()) == ["distinct"] * 2
    assert run("verify", "near.json")[0] == run("verify", "far.json")[0] == 0


def test_the_law_of_each_blocks_own_layernorm(tmp_path: Path, rng: np.random.Generator, run: Run) -> None:
    a = {k: v for layer in range(2) for k, v in bert(rng, "", layer, norm=True).items()}
    b = permuted(a, rng)
    save(tmp_path, a=a, b=b)
    options = ("certify", "a.safetensors", "b.safetensors", "--rho", "layernorm", "-o", "pair.json")
    code, document = run(*options)
    assert code == 0, document
    laws = [result["law"] for result in document["results"]]
    assert [law["name"] for law in laws] == ["layernorm"] * 2
    assert laws[0]["mean"] != laws[1]["mean"]
    assert run("verify", "pair.json")[0] == 0
    # the laws exchanged, resealed: they are not those of the blocks
    from sparsemf.certificates.checker.document import seal

    for result, law in zip(document["results"], laws[::-1], strict=True):
        result["law"] = law
        result["seal"] = seal(result)
    (tmp_path / "swapped.json").write_text(json.dumps(document))
    code, verified = run("verify", "swapped.json")
    assert code == 1
    assert not any(result["valid"] for result in verified["results"])


# --- aligning -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["gelu", "tanh"])
def test_align(tmp_path: Path, rng: np.random.Generator, run: Run, act: str) -> None:
    """OUT holds B's functions, under B's names, in A's order; and is certified against A in its turn."""
    a = {k: v for layer in range(2) for k, v in bert(rng, "", layer).items()}
    b = renamed(permuted(a, rng, signs=act == "tanh"), "encoder", "bert.encoder")
    b["bert.encoder.layer.1.output.dense.bias"] = b["bert.encoder.layer.1.output.dense.bias"] + 0.5
    b["bert.other.weight"] = torch.arange(5.0)
    save(tmp_path, act=act, a=a, b=b)
    options = ("certify", "a.safetensors", "b.safetensors", "--align", "out.safetensors", "-o", "pair.json")
    code, document = run(*options)
    assert code == 1, document
    assert list(verdicts(document).values()) == ["equivalent", "distinct"]
    for result in document["results"]:
        record = result["alignment"]
        assert record["problem"] is None
        assert (record["matched"], record["in_place"], record["refused"]) == (N, True, 0)
        assert (record["flipped"] > 0) == (act == "tanh")
    assert run("verify", "pair.json")[0] == 0
    out = load_file(tmp_path / "out.safetensors")
    assert set(out) == set(b)
    for name, tensor in b.items():
        moved = name.removeprefix("bert.")
        same = tensor if moved not in a or moved.endswith("1.output.dense.bias") else a[moved]
        assert torch.equal(out[name], same), name
    code, again = run("certify", "b.safetensors", "out.safetensors", "--eps", "1e-12", "-o", "again.json")
    assert code == 0, again
    assert [result["matching"]["matched"] for result in again["results"]] == [N, N]
    assert run("verify", "again.json")[0] == 0
    assert run("certify", "a.safetensors", "out.safetensors")[0] == 1


def test_align_gated_blocks(tmp_path: Path, rng: np.random.Generator, run: Run) -> None:
    a = {k: v.bfloat16() for layer in range(2) for k, v in llama(rng, layer).items()}
    save(tmp_path, act="silu", a=a, b=permuted(a, rng))
    code, document = run("certify", "a.safetensors", "b.safetensors", "--align", "out.safetensors", "-o", "pair.json")
    assert code == 0, document
    assert [result["alignment"]["matched"] for result in document["results"]] == [N, N]
    out = load_file(tmp_path / "out.safetensors")
    assert all(torch.equal(out[name], a[name]) for name in a)
    assert run("verify", "pair.json")[0] == 0


# --- verifying ----------------------------------------------------------------------------------------------------


def test_verify_finds_the_changed_result(tmp_path: Path, rng: np.random.Generator, run: Run) -> None:
    a = {k: v for layer in range(3) for k, v in bert(rng, "", layer).items()}
    save(tmp_path, a=a, b=permuted(a, rng))
    code, document = run("certify", "a.safetensors", "b.safetensors", "-o", "pair.json")
    assert code == 0
    document["results"][1]["bounds"]["upper"] /= 2
    (tmp_path / "lie.json").write_text(json.dumps(document))
    code, verified = run("verify", "lie.json")
    assert code == 1
    assert [result["valid"] for result in verified["results"]] == [True, False, True]
    # one bit of one tensor: the file's hash is another
    raw = bytearray((tmp_path / "b.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "b.safetensors").write_bytes(raw)
    assert run("verify", "pair.json")[0] == 1


def test_in_a_process_of_its_own(tmp_path: Path, rng: np.random.Generator) -> None:
    """The table for people names every block, the failed ones, and those without a partner."""
    a = {k: v for layer in range(3) for k, v in bert(rng, "", layer).items()}
    b = permuted({k: v for k, v in a.items() if "layer.2." not in k}, rng)
    b |= bert(rng, "", 1, d=D + 1)
    save(tmp_path, a=a, b=b)
    command = [sys.executable, "-m", "sparsemf_cli", "certify", "a.safetensors", "b.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert "encoder.layer.0" in done.stdout
    assert "equivalent" in done.stdout
    assert "failed" in done.stdout
    assert "only in A: encoder.layer.2" in done.stdout


def test_the_library_reads_the_same_blocks(tmp_path: Path, rng: np.random.Generator) -> None:
    a = {k: v for layer in range(2) for k, v in bert(rng, "", layer).items()}
    save(tmp_path, a=a, b=permuted(a, rng))
    pairs = zip(*(sparsemf.load_blocks(tmp_path / f"{name}.safetensors") for name in "ab"), strict=True)
    assert [sparsemf.certify(left, right).verdict for left, right in pairs] == ["equivalent"] * 2
