"""`sparsemf train` and `sparsemf tasks`: files, documents, exit codes."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

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
    for name in ("test_samples", "block"):
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
