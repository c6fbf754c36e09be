"""Whole runs: resume bit for bit, divergence, the files of a run, and that students learn their teachers."""

import json
import math
import resource
import signal
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from sparsemf.exceptions import InputError
from sparsemf.training import Diverged, Schedule, TrainConfig, stored_run, train
from sparsemf_datasets import load_task
from training.killing import killed_run
from training.support import SilentTask

FILES = ("measure.safetensors", "metrics.jsonl", "state.safetensors")


def stop_after(calls):
    """An interrupt that says yes at its ``calls``-th question."""
    asked = []

    def interrupt():
        asked.append(1)
        return len(asked) >= calls

    return interrupt


CASES = {
    "fresh": ("planted-gelu", {"outputs": 2, "bias": True}, {"bias": True, "sampling": "fresh"}),
    "minibatch": ("diabetes", {}, {"sampling": "minibatch"}),
    "samples": ("planted-tanh", {}, {"sampling": "minibatch", "samples": 101}),
    "full": ("digits", {}, {"sampling": "full", "step_size": 0.05}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, case, precision):
    name, parameters, options = CASES[case]
    task = load_task(name, **parameters)
    config = TrainConfig(
        "gelu",
        width=48,
        steps=60,
        batch=30,
        metrics_every=7,
        checkpoint_every=20,
        precision=precision,
        seed=3,
        **options,
    )
    whole = train(task, config, tmp_path / "whole")
    half = train(task, config, tmp_path / "half", interrupt=stop_after(33))
    assert (half.status, half.step, whole.status, whole.step) == ("interrupted", 33, "complete", 60)
    resumed = train(task, config, tmp_path / "half", resume=True)
    assert resumed.records == whole.records
    for file in FILES[:2]:
        assert (tmp_path / "half" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    states = [load_file(tmp_path / run / FILES[2]) for run in ("half", "whole")]
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(states[0][key], states[1][key]) for key in states[0])


def test_a_killed_run_continues_from_its_checkpoint(tmp_path):
    """After a crash metrics.jsonl may be longer than the checkpoint, even cut within a line."""
    task = load_task("planted-relu")
    config = TrainConfig("relu", width=32, steps=50, metrics_every=5, checkpoint_every=20)
    train(task, config, tmp_path / "whole")

    def crash():
        raise RuntimeError("power cut")

    calls = []
    with pytest.raises(RuntimeError, match="power cut"):
        train(task, config, tmp_path / "half", interrupt=lambda: calls.append(1) or (len(calls) == 37 and crash()))
    assert stored_run(tmp_path / "half").step == 20
    with (tmp_path / "half" / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 40, "lo')
    train(task, config, tmp_path / "half", resume=True)
    for file in FILES[:2]:
        assert (tmp_path / "half" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_divergence_names_the_step_and_keeps_the_last_good_state(tmp_path):
    task = load_task("planted-relu")
    config = TrainConfig(
        "relu", width=16, steps=2000, step_size=30.0, weight_decay=0.0, metrics_every=5, checkpoint_every=5
    )
    message = r"diverged between steps \d+ and \d+.*a smaller step size, (\S+) instead of 30, stays finite"
    with pytest.raises(Diverged, match=message) as caught:
        train(task, config, tmp_path)
    assert isinstance(caught.value, InputError)
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["status"] == "diverged"
    assert document["step"] == stored_run(tmp_path).step < 2000
    assert all(np.isfinite(a).all() for a in load_file(tmp_path / "measure.safetensors").values())


def test_files_of_a_run(tmp_path):
    task = load_task("planted-erf", outputs=3, bias=True)
    config = TrainConfig("erf", width=20, bias=True, steps=25, metrics_every=10)
    seen = []
    run = train(task, config, tmp_path / "a" / "b", progress=lambda record, steps: seen.append((record.step, steps)))
    assert seen == [(10, 25), (20, 25), (25, 25)]
    document = json.loads((run.directory / "run.json").read_text())
    assert document["schema"] == "sparsemf/train/1"
    assert document["status"] == "complete"
    assert document["final"]["step"] == 25
    assert document["task"]["parameters"]["bias"] is True
    assert document["config"] == json.loads(json.dumps(run.config.to_dict()))
    arrays = load_file(run.directory / "measure.safetensors")
    assert {name: a.shape for name, a in arrays.items()} == {"outer": (20, 3), "inner": (20, 8), "bias": (20,)}
    assert run.network.scale == 1 / 20
    np.testing.assert_array_equal(run.network.inner, arrays["inner"])
    # the recorded population error is the network's own
    x, y = task.sample(20_000, seed=1)
    error = np.linalg.norm(run.network(x) - y) / np.linalg.norm(y)
    assert run.records[-1].rel_error == pytest.approx(error, rel=0.05)
    m2 = np.mean(sum(np.square(a).sum(1) for a in (run.network.outer, run.network.inner, run.network.bias[:, None])))
    assert run.records[-1].m2 == pytest.approx(m2, rel=1e-6)


def test_refuses_to_overwrite_or_to_resume_something_else(tmp_path):
    task = load_task("planted-relu")
    config = TrainConfig("relu", width=8, steps=4)
    with pytest.raises(InputError, match="expected the folder of a run"):
        train(task, config, tmp_path, resume=True)
    train(task, config, tmp_path)
    with pytest.raises(InputError, match="already holds a run"):
        train(task, config, tmp_path)
    with pytest.raises(InputError, match="width = 8, got 9"):
        train(task, replace(config, width=9), tmp_path, resume=True)
    with pytest.raises(InputError, match="planted-relu"):
        train(load_task("planted-relu", seed=1), config, tmp_path, resume=True)
    again = train(task, config, tmp_path, resume=True)  # a finished run: nothing left to do
    assert (again.status, again.step) == ("complete", 4)
    (tmp_path / "state.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not the state of a run"):
        train(task, config, tmp_path, resume=True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {"sampling": "fresh"}, "fixed data set"),
        ("planted-relu", {"sampling": "full"}, "needs a number of samples"),
        ("digits", {"samples": 10}, "no effect"),
        ("planted-relu", {"device": "abacus"}, "expected cpu, cuda or auto"),
    ],
)
def test_task_and_configuration_must_fit(tmp_path, name, options, message):
    with pytest.raises(InputError, match=message):
        train(load_task(name), TrainConfig("relu", width=4, steps=1, **options), tmp_path / "run")
    assert not (tmp_path / "run" / "state.safetensors").exists()


def test_block_size_and_threads_change_a_run_by_rounding_only():
    task = load_task("planted-tanh")
    base = TrainConfig("tanh", width=64, steps=30, batch=100, precision="float64")
    expected = train(task, base).network
    for change in ({"block": 64 * 40}, {"block": 1000}, {"threads": 2}):
        got = train(task, replace(base, **change)).network
        np.testing.assert_allclose(got.inner, expected.inner, rtol=0, atol=1e-12)


def test_seeds_matter_and_repeat():
    task = load_task("planted-relu")
    config = TrainConfig("relu", width=8, steps=3)
    first, again, other = (train(task, replace(config, seed=s)).network.inner for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_a_student_finds_the_planted_directions():
    """A short run of the default schedules: the function within 2 %, nine tenths of the mass on the five directions."""
    task = load_task("planted-relu")
    run = train(task, TrainConfig("relu", width=256, steps=4000, metrics_every=40))
    assert run.records[-1].rel_error < 0.02
    w, teacher = run.network.inner, task.teacher.inner
    norms = np.linalg.norm(w, axis=1)
    mass = np.abs(run.network.outer[:, 0]) * norms
    close = (np.abs(w @ teacher.T) / norms[:, None]).max(1) > 0.995
    assert mass[close].sum() > 0.9 * mass.sum()
    assert run.stationarity.stationary == "no"
    assert any("annealed" in reason for reason in run.stationarity.reasons)


def test_schedules_reach_the_records():
    config = TrainConfig("relu", width=4, steps=10, metrics_every=1, temperature=Schedule(1.0, 0.1, "linear"))
    run = train(load_task("planted-relu"), config)
    assert [r.temperature for r in run.records] == pytest.approx([1 - 0.09 * k for k in range(10)])


def test_a_run_killed_at_random_moments_ends_in_the_same_bytes(tmp_path):
    """``benchmarks/kills.py`` does it a hundred times."""
    task = load_task("diabetes")
    config = TrainConfig(
        "tanh", width=64, steps=300, checkpoint_every=3, metrics_every=2, threads=1, integrator="baoab", step_size=0.1
    )
    train(task, config, tmp_path / "whole")
    met, _ = killed_run(task, config, tmp_path / "killed", 6, 0, 0.3)
    assert met > 0
    for file in (*FILES[:2], "moments.jsonl"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert not list((tmp_path / "killed").glob(".*.tmp"))


def test_a_full_disk_is_one_line_and_keeps_the_last_good_state(tmp_path):
    """The files may not grow beyond the first checkpoint's: the next write fails as on a full disk."""
    task = load_task("planted-relu")
    config = TrainConfig("relu", width=32, steps=400, metrics_every=1, checkpoint_every=20)
    folder = tmp_path / "run"
    train(task, config, folder, interrupt=stop_after(25))
    limit = max(file.stat().st_size for file in folder.iterdir())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        with pytest.raises(InputError, match=r"cannot write \(File too large\); the state of step \d+ is kept"):
            train(task, config, folder, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    step = stored_run(folder).step
    assert 25 <= step < 400
    finished = train(task, config, folder, resume=True)
    whole = train(task, config)
    np.testing.assert_array_equal(finished.network.inner, whole.network.inner)


def test_a_run_stops_when_it_is_stationary():
    config = TrainConfig(
        "tanh",
        width=2000,
        steps=20_000,
        sampling="full",
        step_size=0.2,
        weight_decay=1.0,
        temperature=0.1,
        metrics_every=5,
        until="stationary",
    )
    run = train(SilentTask(), config)
    assert run.status == "stationary"
    assert 400 <= run.step < 10_000
    assert run.stationarity.stationary == "yes", run.stationarity.reasons
    last = run.records[-1]
    # without data the law is Gaussian: entropy (D/2) log(2πe·variance), known to the estimator's own scatter
    variance = 0.1 / (1 - 0.1)
    assert last.entropy == pytest.approx(2 * math.log(2 * math.pi * math.e * variance), abs=0.25)
    assert last.free_energy == pytest.approx(last.risk + 0.5 * last.m2 - 0.1 * last.entropy, rel=1e-12)


def test_moments_of_every_record_and_of_the_start_are_written(tmp_path):
    config = TrainConfig("tanh", width=50, steps=20, metrics_every=5)
    run = train(load_task("planted-tanh"), config, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "moments.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 5, 10, 15, 20]
    assert math.exp(rows[-1]["log_m"][1]) == pytest.approx(run.records[-1].m2, rel=1e-9)
