"""The commands as a user runs them: exit codes, one JSON document, certificates found beside their inputs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import sparsemf
from cases import planted, rotated_atom
from sparsemf.symmetry import disguise
from sparsemf_cli.main import cli


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """In this process, which has its imports behind it; tests/cli/test_bad_files.py and others start real ones."""
    with contextlib.chdir(cwd or Path.cwd()):
        found = CliRunner().invoke(cli, list(arguments))
    return subprocess.CompletedProcess(arguments, found.exit_code, found.stdout, found.stderr)


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("nets")
    truth = planted(rng, "gelu", d=4, atoms=3, outputs=2, bias=True)
    sparsemf.save(disguise(truth, rng, 24), folder / "a.safetensors")
    sparsemf.save(disguise(truth, rng, 40), folder / "b.npz")
    sparsemf.save(rotated_atom(truth, rng, 0, 0.05), folder / "c.safetensors")
    sparsemf.save(planted(rng, "relu", d=4, atoms=3, outputs=2), folder / "relu.safetensors")
    np.savez(folder / "data.npz", X=rng.standard_normal((64, 4)))
    return folder


def test_certify_and_verify(nets: Path, tmp_path: Path) -> None:
    same = run("certify", "a.safetensors", "b.npz", "--rel-eps", "1e-9", "-o", "same.json", "--json", cwd=nets)
    assert same.returncode == 0, same.stderr
    assert same.stdout == (nets / "same.json").read_text()
    assert same.stderr == ""
    document = json.loads(same.stdout)
    assert document["verdict"] == "equivalent"
    other = run("certify", "a.safetensors", "c.safetensors", "-o", "other.json", "--json", cwd=nets)
    assert other.returncode == 1
    assert json.loads(other.stdout)["witness"]["gap"] > 0
    undecided = run("certify", "a.safetensors", "c.safetensors", "--norm", "sup", "--eps", "0.2", cwd=nets)
    assert undecided.returncode in (0, 1, 3)

    assert run("verify", "same.json", cwd=nets).returncode == 0
    verified = run("verify", "other.json", "--json", cwd=nets)
    assert verified.returncode == 0
    assert json.loads(verified.stdout)["valid"] is True
    # moved away: named by options, or a clear error
    moved = tmp_path / "same.json"
    shutil.copy(nets / "same.json", moved)
    lost = run("verify", str(moved))
    assert (lost.returncode, lost.stdout) == (4, "")
    assert "--a" in lost.stderr
    assert run("verify", str(moved), "--a", str(nets / "a.safetensors"), "--b", str(nets / "b.npz")).returncode == 0
    wrong = run("verify", str(moved), "--a", str(nets / "a.safetensors"), "--b", str(nets / "c.safetensors"))
    assert wrong.returncode == 1
    # a changed claim
    document["bounds"]["upper"] /= 10
    (nets / "lie.json").write_text(json.dumps(document))
    assert run("verify", "lie.json", cwd=nets).returncode == 1


def test_analyze_writes_document_certificate_and_report(nets: Path, tmp_path: Path) -> None:
    out = run("analyze", "a.safetensors", "--json", "-o", "doc.json", "--cert", "s.json", "--html", "r.html", cwd=nets)
    assert out.returncode == 0, out.stderr
    assert out.stdout == (nets / "doc.json").read_text()
    document = json.loads(out.stdout)
    assert (document["s_star"]["value"], document["s_star"]["certified"]) == (3, True)
    assert run("verify", "s.json", cwd=nets).returncode == 0
    assert "<html" in (nets / "r.html").read_text()
    shown = run("analyze", "a.safetensors", cwd=nets)
    assert shown.returncode == 0
    assert "S*" in shown.stdout
    empirical = run("analyze", "a.safetensors", "--rho", "data.npz", "--cert", "e.json", "--json", cwd=nets)
    assert json.loads(empirical.stdout)["s_star"]["certified"] is False
    assert run("verify", "e.json", cwd=nets).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("certify", "a.safetensors", "absent.npz"), 4),
        (("analyze", "absent.npz"), 4),
        (("analyze", "a.safetensors", "--block", "nothing*"), 4),
        (("analyze", "a.safetensors", "--rho", "layernorm"), 4),
        (("analyze", "a.safetensors", "--rho", "absent.npz"), 4),
        (("analyze", "a.safetensors", "--rho", "a.safetensors"), 4),
        (("analyze", "a.safetensors", "-o", "no/such/folder/x.json"), 4),
        (("verify", "absent.json"), 4),
        (("verify", "a.safetensors"), 4),
        (("batch", "a.safetensors", "-o", "out", "--pairs", "reference=absent.npz"), 4),
        (("batch", "a.safetensors", "-o", "out", "--jobs", "2", "--dask", "tcp://h:1"), 2),
        (("batch", "a.safetensors", "-o", "out", "--time-limit", "0"), 2),
        (("batch", "nowhere", "-o", "out"), 4),
        (("report", "absent.json"), 4),
        (("analyze", "a.safetensors", "--eps", "1", "--rel-eps", "1"), 2),
        (("analyze", "a.safetensors", "--eps", "-1"), 2),
        (("certify", "a.safetensors", "b.npz", "--norm", "l3"), 2),
        (("certify", "a.safetensors", "b.npz", "--radius", "2"), 2),
        (("analyze",), 2),
        (("nonsense",), 2),
    ],
)
def test_errors_are_one_line(nets: Path, arguments: tuple[str, ...], code: int) -> None:
    found = run(*arguments, cwd=nets)
    assert found.returncode == code, found.stderr
    assert found.stdout == ""
    assert "Traceback" not in found.stderr
    if code == 4:
        assert found.stderr.startswith("error: ")
        assert found.stderr.count("\n") == 1


def test_several_blocks(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    state = {}
    for layer in range(2):
        state[f"encoder.layer.{layer}.intermediate.dense.weight"] = torch.randn(12, 4)
        state[f"encoder.layer.{layer}.intermediate.dense.bias"] = torch.randn(12)
        state[f"encoder.layer.{layer}.output.dense.weight"] = torch.randn(4, 12)
        state[f"encoder.layer.{layer}.output.dense.bias"] = torch.randn(4)
    torch.save(state, tmp_path / "a.pt")
    state["encoder.layer.1.output.dense.weight"] = state["encoder.layer.1.output.dense.weight"] * 1.1
    torch.save(state, tmp_path / "b.pt")
    options = ("--activation", "gelu", "--json")
    found = run("analyze", "a.pt", *options, "--cert", "s.json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert len(json.loads(found.stdout)["results"]) == 2
    assert run("verify", "s.json", cwd=tmp_path).returncode == 0
    pair = run("certify", "a.pt", "b.pt", *options, "-o", "pair.json", cwd=tmp_path)
    assert pair.returncode == 1  # the worst verdict
    assert [r["verdict"] for r in json.loads(pair.stdout)["results"]] == ["equivalent", "distinct"]
    assert run("verify", "pair.json", cwd=tmp_path).returncode == 0
    one = run("certify", "a.pt", "b.pt", *options, "--block", "*layer.0*", cwd=tmp_path)
    assert one.returncode == 0
    assert json.loads(one.stdout)["verdict"] == "equivalent"


def test_batch_and_reports(nets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = run("batch", str(nets / "*.safetensors"), "-o", str(out), "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["done"] == 3
    (nets / "broken.safetensors").write_text("text")
    again = run("batch", str(nets / "*.safetensors"), "-o", str(out), "--json", "--classes")
    (nets / "broken.safetensors").unlink()
    assert again.returncode == 5
    assert json.loads(again.stdout)["kept"] == 3
    assert json.loads(again.stdout)["classes"] == "classes.json"
    shown = run("batch", str(nets / "[ac].safetensors"), "-o", str(out), "--class-eps", "1")
    assert shown.returncode == 0, shown.stderr
    assert "1 classes of equal functions" in shown.stdout.replace("\n", " ")
    report = run("report", str(out), "-o", str(tmp_path / "batch.html"))
    assert report.returncode == 0, report.stderr
    single = next((out / "results").glob("*.json"))
    assert run("report", str(single), "-o", str(tmp_path / "one.html")).returncode == 0


def test_interrupted_batch_resumes(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    rng = np.random.default_rng(0)
    for k in range(12):
        sparsemf.save(planted(rng, "tanh", d=4, atoms=2), source / f"{k}.safetensors")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "sparsemf_cli", "batch", str(source), "-o", str(out), "--jobs", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("results/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert (stdout, stderr.count("\n")) == ("", 1)
    before = len(list(out.glob("results/*.json")))
    assert before >= 1
    finished = run("batch", str(source), "-o", str(out), "--json")
    assert finished.returncode == 0
    assert json.loads(finished.stdout)["kept"] >= before
    assert len(list(out.glob("results/*.json"))) == 12
    assert not list(out.rglob("*.tmp"))


def test_verify_reads_the_activation_from_the_files(tmp_path: Path) -> None:
    """An override by option is recorded, said, and needed: it cannot pass for what the files hold."""
    rng = np.random.default_rng(2)
    net = planted(rng, "tanh", d=3, atoms=2)
    sparsemf.save(net, tmp_path / "tanh.safetensors")
    sparsemf.save(net.with_(activation="relu"), tmp_path / "relu.safetensors")
    pair = ("certify", "tanh.safetensors", "relu.safetensors", "-o", "c.json", "--json")
    assert run(*pair, cwd=tmp_path).returncode == 1
    assert run(*pair, "--activation", "gelu", cwd=tmp_path).returncode == 0
    said = run("verify", "c.json", cwd=tmp_path)
    assert said.returncode == 0
    assert "given by option" in said.stdout.replace("\n", " ")
    document = json.loads((tmp_path / "c.json").read_text())
    from sparsemf.certificates.checker.document import seal

    document["activation_option"] = None
    (tmp_path / "lie.json").write_text(json.dumps({**document, "seal": seal(document)}))
    assert run("verify", "lie.json", cwd=tmp_path).returncode == 1


def test_exact_certificates_are_written_and_verified(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for name in ("relu2", "tanh"):
        net = sparsemf.Network(rng.standard_normal((4, 1)), rng.standard_normal((4, 3)), rng.standard_normal(4), name)
        sparsemf.save(net, tmp_path / f"{name}.safetensors")
    for name, certificate in (("tanh", "t.json"), ("relu2", "r.json")):
        found = run("analyze", f"{name}.safetensors", "--exact-cert", certificate, "-q", cwd=tmp_path)
        assert found.returncode == 0
        proof = run("verify", certificate, "--json", cwd=tmp_path)
        assert proof.returncode == 0
        assert json.loads(proof.stdout)["results"][0]["facts"] == {"S* at least": 4, "S* at most": 4}
    told = json.loads((tmp_path / "r.json").read_text())
    told["claim"]["upper"] = 3
    (tmp_path / "r.json").write_text(json.dumps(told))
    assert run("verify", "r.json", cwd=tmp_path).returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("analyze", "{net}", "--cert", "{net}"),
        ("analyze", "{net}", "-o", "{out}", "--html", "{out}"),
        ("certify", "{net}", "{net}", "-o", "{net}"),
        ("depth", "{net}", "--html", "{net}"),
        ("cell", "{net}", "-o", "{net}"),
        ("compress", "{net}", "--width", "2", "-o", "{net}"),
    ],
)
def test_no_option_overwrites_the_input_or_another_output(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    net = tmp_path / "net.safetensors"
    sparsemf.save(planted(np.random.default_rng(0), "tanh", d=3, atoms=2), net)
    before = net.read_bytes()
    words = [word.format(net=net, out=tmp_path / "out.json") for word in arguments]
    found = run(*words)
    assert found.returncode == 4, found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
    assert net.read_bytes() == before
    assert list(tmp_path.iterdir()) == [net]
