"""`sparsemf train` and `sparsemf tasks`: files, documents, exit codes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from sparsemf_cli.main import cli


def run(capfd, *arguments):
    code = cli.main([str(a) for a in arguments], standalone_mode=False)
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def test_train_writes_a_run_and_prints_its_document(tmp_path, capfd):
    options = ("--task", "planted-gelu", "--set", "outputs=2", "--width", 16, "--steps", 12, "--metrics-every", 5)
    code, out, err = run(capfd, "train", *options, "--seed", 7, "--json", "-o", tmp_path / "run")
    assert (code, err) == (0, "")
    document = json.loads(out)
    on_disk = json.loads((tmp_path / "run" / "run.json").read_text())
    assert document == on_disk
    assert document["config"]["seed"] == 7
    assert document["config"]["activation"] == "gelu"
    assert document["task"]["parameters"]["outputs"] == 2
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 10, 12]


def test_constant_and_annealed_values(tmp_path, capfd):
    options = ("--task", "planted-relu", "--width", 4, "--steps", 2, "--json", "-o", tmp_path / "run")
    schedules = ("--temperature", 0.01, "--weight-decay-final", 1e-4, "--step-size", 0.1, "--step-size-final", 0.01)
    _, out, _ = run(
        capfd, "train", *options, *schedules, "--step-size-schedule", "linear", "--step-size-window", 0.5, 1
    )
    config = json.loads(out)["config"]
    assert (config["temperature"]["kind"], config["temperature"]["initial"]) == ("constant", 0.01)
    assert config["weight_decay"] == {"initial": 0.03, "final": 1e-4, "kind": "exponential", "begin": 0.05, "end": 0.9}
    assert config["step_size"] == {"initial": 0.1, "final": 0.01, "kind": "linear", "begin": 0.5, "end": 1.0}


def test_ctrl_c_saves_and_resume_finishes_as_if_nothing_had_happened(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("points.npz", X=rng.standard_normal((300, 4)), y=rng.standard_normal(300))
    options = [
        "--data",
        "points.npz",
        "--activation",
        "tanh",
        "--width",
        "256",
        "--steps",
        "6000",
        "--metrics-every",
        "50",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "sparsemf_cli", "train", *options, "-o", "half"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "half" / "metrics.jsonl"
    state = tmp_path / "half" / "state.safetensors"
    deadline = time.monotonic() + 60
    while not (state.exists() and metrics.exists()) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.startswith("interrupted; state saved in half at step ")
    step = json.loads((tmp_path / "half" / "run.json").read_text())["step"]
    assert 0 < step < 6000
    code, out, err = run(capfd, "train", "--resume", "half")
    assert (code, err) == (0, "")
    assert "step 6000" in out
    assert run(capfd, "train", *options, "-o", "whole")[0] == 0
    for file in ("measure.safetensors", "metrics.jsonl"):
        assert (tmp_path / "half" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--task", "planted-relu"], 2, "expected -o RUN/"),
        (["-o", "run"], 2, "either --task NAME"),
        (["--task", "digits", "--data", "x.npz", "-o", "run"], 2, "either --task NAME"),
        (["--resume", "run", "--width", "3"], 2, "--width does not go with it"),
        (["--task", "planted-relu", "--set", "d", "-o", "run"], 2, "expected NAME=VALUE"),
        (
            ["--task", "planted-relu", "--temperature-schedule", "cosine", "--temperature", "1", "-o", "run"],
            2,
            "missing",
        ),
        (["--task", "nothing", "-o", "run"], 4, "unknown task"),
        (["--task", "planted-relu", "--activation", "rulu", "-o", "run"], 4, "unknown activation"),
        (["--data", "absent.npz", "--activation", "relu", "-o", "run"], 4, "no such file"),
        (["--resume", "absent"], 4, "expected the folder of a run"),
        (["--task", "planted-relu", "--width", "0", "-o", "run"], 4, "width: expected an integer ≥ 1, got 0"),
        (
            ["--task", "planted-relu", "--width", "8", "--step-size", "50", "--weight-decay", "0", "-o", "run"],
            4,
            "smaller step size",
        ),
    ],
)
def test_errors_are_one_line(tmp_path, capfd, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    got, out, err = run(capfd, "train", *arguments, "--json")
    assert (got, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1


def test_help_states_the_defaults(capfd):
    """The help is written without loading the configuration; it must not drift from it."""
    from sparsemf.training import TrainConfig
    from sparsemf_cli.commands.train import train as command

    config = TrainConfig("relu")
    shown = {option.name: option.show_default for option in command.params if hasattr(option, "show_default")}
    for name in ("width", "steps", "sampling", "batch", "init_outer", "precision", "metrics_every", "checkpoint_every"):
        assert shown[name] == str(getattr(config, name))
    for name in ("test_samples", "block", "loss", "huber_delta", "integrator", "friction", "outer", "outer_bound"):
        assert shown[name] == str(getattr(config, name))
    for name in ("parametrisation", "anchor_every", "compute"):
        assert shown[name] == str(getattr(config, name))
    for name in ("temperature", "weight_decay", "step_size"):
        first, last = (float(part) for part in shown[name].split(", annealed to "))
        assert (first, last) == (getattr(config, name).initial, getattr(config, name).last)


def test_tasks_lists_every_activation(capfd):
    code, out, err = run(capfd, "tasks", "--json")
    assert (code, err) == (0, "")
    listed = {task["name"]: task for task in json.loads(out)["tasks"]}
    assert listed["planted-relu"]["parameters"] == {"d": 8, "atoms": 5, "outputs": 1, "bias": False, "seed": 0}
    assert {"digits", "diabetes", "hermite-single-index", "hermite-multi-index", "planted-silu"} <= set(listed)
    code, out, _ = run(capfd, "tasks")
    assert code == 0
    assert "planted-tanh" in out


def test_an_ensemble_trains_seeds_temperatures_and_widths(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [
        "--task",
        "planted-tanh",
        "--steps",
        "60",
        "--metrics-every",
        "20",
        "--seed",
        "3",
        "-o",
        "many",
        "--json",
    ]
    lists = ["--replicas", "2", "--temperatures", "1e-3,0.1", "--widths", "8,16"]
    code, out, err = run(capfd, "train", *options, *lists)
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert len(document["runs"]) == 8
    assert {(r["seed"], r["temperature"], r["width"]) for r in document["runs"]} == {
        (seed, heat, width) for seed in (3, 4) for heat in (1e-3, 0.1) for width in (8, 16)
    }
    assert [len(document["chains"]), document["chains"][0]["verdict"]["stationary"]] == [4, "no"]
    assert json.loads((tmp_path / "many" / "ensemble.json").read_text()) == document
    alone = ["--task", "planted-tanh", "--steps", "60", "--metrics-every", "20", "--seed", "4", "--width", "16"]
    assert run(capfd, "train", *alone, "--temperature", "0.1", "-o", "one")[0] == 0
    for file in ("many/n16-t0.1-s4", "one"):
        assert (tmp_path / file / "run.json").is_file()
    measures = [load_file(tmp_path / f / "measure.safetensors")["inner"] for f in ("many/n16-t0.1-s4", "one")]
    np.testing.assert_allclose(*measures, rtol=2e-4, atol=1e-5)
    code, text, _ = run(capfd, "train", *options[:-1], *lists)  # all done: it only reports
    assert code == 0
    assert "n16-t0.1-s4" in text
    assert run(capfd, "train", *options, "--temperatures", "hot")[0] == 2
    assert run(capfd, "train", *options, "--replicas", "0")[0] == 2


def test_ranks_of_torchrun_change_the_run_by_rounding_only(tmp_path):
    """Two processes with gloo: 25 particles as 12 + 13."""
    options = ["--task", "planted-gelu", "--bias", "--width", "25", "--steps", "40", "--metrics-every", "10"]
    options += ["--precision", "float64", "--integrator", "baoab", "--step-size", "0.1", "--checkpoint-every", "10"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    spread = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    command = ["-m", "sparsemf_cli", "train", *options, "-o", "two", "--json"]
    done = subprocess.run(
        [*spread, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["status"], document["environment"]["ranks"]) == ("complete", 2)
    subprocess.run(
        [sys.executable, *command[:-2], "one", "--json"], cwd=tmp_path, env=environment, check=True, capture_output=True
    )
    one, two = (load_file(tmp_path / name / "measure.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-9, atol=1e-12)
    rows = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("one", "two")]
    for a, b in zip(*rows, strict=True):
        for key, value in json.loads(a).items():
            assert json.loads(b)[key] == (None if value is None else pytest.approx(value, rel=1e-8, abs=1e-12)), key


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_classification_from_a_file(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    np.savez("points.npz", X=x, y=np.where(x[:, 0] > 0, 1.0, -1.0))
    options = ["--data", "points.npz", "--activation", "tanh", "--width", "32", "--steps", "300", "-o", "run"]
    code, out, err = run(capfd, "train", *options, "--loss", "logistic", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["final"]["accuracy"] > 0.9
    assert json.loads(out)["final"]["rel_error"] is None
    code, _, err = run(capfd, "train", *options[:-1], "other", "--loss", "softmax")
    assert code == 4
    assert "take loss logistic" in err


def test_richardson_extrapolates_the_runs_of_a_quadratic_potential(tmp_path, capfd):
    """No data: U = (λ/2)‖θ‖², m2 = Dτ/(λ(1 − ηλ/2)), so at η → 0 it is Dτ/λ and the bias is resolved."""
    np.savez(tmp_path / "nothing.npz", X=np.zeros((4, 3)), y=np.zeros(4))
    folders = []
    for eta in (0.2, 0.4, 0.8):
        for seed in (0, 1):
            folders.append(tmp_path / f"run-{eta}-{seed}")
            code, _, err = run(
                capfd, "train", "--data", tmp_path / "nothing.npz", "--activation", "tanh", "--width", 4096,
                "--sampling", "full", "--step-size", eta, "--temperature", 0.5, "--weight-decay", 0.5,
                "--steps", 400, "--metrics-every", 4, "--seed", seed, "-q", "-o", folders[-1],
            )  # fmt: skip
            assert (code, err) == (0, "")
    code, out, err = run(capfd, "richardson", *folders, "--quantity", "m2", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "sparsemf/richardson/1"
    assert (document["order"], len(document["runs"])) == (1.0, 6)
    found = document["extrapolations"]["m2"]
    assert found["resolved"]
    exact = {eta: 4 * 0.5 / (0.5 * (1 - 0.25 * eta)) for eta in (0.2, 0.4, 0.8)}
    for bias in found["biases"]:
        assert abs(bias["mean"] - exact[bias["step_size"]]) < 4 * bias["standard_error"]
    code, out, _ = run(capfd, "richardson", *folders, "--quantity", "m2")
    assert "m2: bias at η = 0.8 is" in out
    for arguments, message in (
        ((folders[0], folders[1]), "expected means at two step sizes or more, got 1"),
        ((*folders, "--quantity", "mass"), "quantity: expected one of loss, risk"),
        ((tmp_path,), "expected the folder of a run with state.safetensors"),
    ):
        code, out, err = run(capfd, "richardson", *arguments)
        assert (code, out) == (4, "")
        assert message in err
