"""A small budget end to end: it closes, is resumed without running anything again, and refuses what makes no sense."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sparsemf.errors.budget import budget
from sparsemf.errors.config import BudgetConfig, Grids
from sparsemf.errors.runs import Job, in_parallel
from sparsemf.exceptions import InputError
from sparsemf.measures import Gaussian, l2_distance
from sparsemf.training.store import MEASURE
from sparsemf_cli.main import cli
from sparsemf_datasets import load_task

SMALL = """
task = "planted-tanh"
seeds = 2
chaos_seeds = 4
test_inputs = 4096
[parameters]
d = 2
atoms = 2
[base]
samples = 32
width = 32
time = 8
step_size = 0.4
temperature = 1e-3
weight_decay = 0.02
[reference]
samples = 128
width = 128
time = 16
step_size = 0.2
temperature = 1e-4
weight_decay = 0.01
[grids]
samples = [16, 32, 64]
width = [8, 16, 32]
time = [2, 4, 6, 8]
temperature = [1e-3, 1e-2]
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget")
    (folder / "small.toml").write_text(SMALL)
    config = BudgetConfig.read(folder / "small.toml")
    task = load_task(config.task, **config.parameters)
    return folder, config, task, budget(config, task, folder / "out")


def test_the_sum_covers_the_total_and_the_residual_is_the_staircases(small):
    _, config, _, found = small
    assert found.telescope.closes
    document = found.document()
    json.dumps(document, allow_nan=False)
    assert document["schema"] == "sparsemf/budget/1"
    assert [t["name"] for t in document["terms"]][-2:] == ["chaos", "sparse"]
    assert found.sparse.agrees
    assert {r["quantity"] for r in document["rates"]} == {"chaos", "statistical", "entropic"}
    chaos = next(r for r in found.rates if r.quantity == "chaos")
    assert chaos.interval[0] < 1 < chaos.interval[1]
    assert found.integration_error < 0.02
    assert config == BudgetConfig.from_dict(json.loads(json.dumps(document["config"])))


def test_norms_are_those_of_the_measures(small):
    """The total against the Gaussian kernels of teacher and trained measures, which know nothing of test inputs."""
    folder, config, task, found = small
    from sparsemf.checkpoints import load

    for seed, chaos in zip((0, 1), found.telescope.terms["chaos"].values, strict=True):
        measures = [
            load(folder / "out" / "runs" / Job(task, config.train_config("tanh", False, setting, seed)).name / MEASURE)
            for setting in (config.base, replace(config.base, width=128))
        ]
        bounds = l2_distance(*measures, Gaussian.standard(2))
        assert chaos == pytest.approx(0.5 * (bounds.lower + bounds.upper), rel=5e-3)


def test_finished_runs_are_not_run_again(small, monkeypatch):
    folder, config, task, found = small
    from sparsemf.training.system import System

    def advance(self):
        raise AssertionError("a step was taken")

    monkeypatch.setattr(System, "advance", advance)
    again = budget(config, task, folder / "out")
    old, new = found.document(), again.document()
    for document in (old, new):
        document.pop("timing_s")
    assert old == new


@pytest.fixture(scope="module")
def bare(small):
    """The same without rates: all its runs are among the larger one's."""
    folder, config, task, _ = small
    own = replace(config, grids=Grids())
    return own, task, budget(own, task, folder / "out")


def test_an_interrupted_budget_goes_on_to_the_same_result(bare, tmp_path, monkeypatch):
    config, task, found = bare
    from sparsemf.training.system import System

    steps, advance = [], System.advance

    def interrupted(self):
        steps.append(1)
        if len(steps) == 100:
            raise KeyboardInterrupt
        advance(self)

    monkeypatch.setattr(System, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        budget(config, task, tmp_path)
    again = budget(config, task, tmp_path)
    assert again.telescope.total == found.telescope.total
    assert again.sparse == found.sparse


def test_two_processes_give_the_same_numbers(bare, tmp_path):
    config, task, found = bare
    assert budget(config, task, tmp_path, jobs=2).telescope.terms == found.telescope.terms


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("width = 32", "width = 256"), r"\[base\] width: expected values ≤ the reference's 128, got 256"),
        (("step_size = 0.4", "step_size = 0.3"), "multiples of the reference's 0.2"),
        (("time = 8\n", "time = 7.9\n"), "multiples of the step size"),
        (("samples = [16, 32, 64]", "samples = [16, 128]"), r"\[grids\] samples: expected values ≤"),
        (("samples = [16, 32, 64]", "samples = [16.5]"), "expected an integer"),
        (("seeds = 2", "seeds = 1"), "expected seeds ≥ 2"),
        (('task = "planted-tanh"', "tusk = 3"), "unknown entry 'tusk'"),
        (("[parameters]", "[training]\nwidth = 3\n[parameters]"), "set by the budget itself"),
        (('task = "planted-tanh"', "task = planted"), "not TOML"),
    ],
)
def test_what_makes_no_sense_is_one_line(change, message, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(SMALL.replace(*change, 1))

    def attempt():
        config = BudgetConfig.read(path)
        budget(config, load_task(config.task, **config.parameters), tmp_path / "out")

    with pytest.raises(InputError, match=message):
        attempt()


@pytest.mark.parametrize("name", ["tanh-quick", "relu-quick", "tanh-full", "relu-full"])
def test_the_files_of_the_package_are_known_by_name(name):
    config = BudgetConfig.read(name)
    assert config.task == f"planted-{name.split('-')[0]}"
    assert all(len(values) >= 3 for values in vars(config.grids).values())


def test_a_data_set_has_no_population(tmp_path):
    config = BudgetConfig.from_dict({**tomllib.loads(SMALL), "task": "diabetes", "parameters": {}})
    with pytest.raises(InputError, match="expected a task with a population, got the data set 'diabetes'"):
        budget(config, load_task("diabetes"), tmp_path)


def test_the_command_writes_document_and_report(small, capfd):
    folder = small[0]
    arguments = ["budget", str(folder / "small.toml"), "-o", str(folder / "out"), "--html", str(folder / "b.html")]
    assert cli.main([*arguments, "--json"], standalone_mode=False) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert json.loads(out) == json.loads(Path(folder / "out" / "budget.json").read_text())
    page = (folder / "b.html").read_text()
    assert "Where the error comes from" in page
    assert "Error budget of a tanh student" in page
    assert cli.main(
        ["report", str(folder / "out" / "budget.json"), "-o", str(folder / "c.html")], standalone_mode=False
    ) in (0, None)
    assert cli.main(["budget", str(folder / "no.toml"), "-o", str(folder / "x")], standalone_mode=False) == 4
    assert "expected a TOML file" in capfd.readouterr().err
    assert np.isfinite(small[3].telescope.gram).all()


@pytest.mark.parametrize(
    ("group", "when"),
    [(True, "at the start"), (True, "in a run"), (False, "in a run")],
    ids=["ctrl-c at the start", "ctrl-c", "sigterm"],
)
def test_an_end_with_two_processes_is_one_line(tmp_path, group, when):
    """SIGINT to the whole group, as from a terminal, or SIGTERM to the command alone, as from a scheduler; the
    workers end, and what is finished stays.  At the start the workers are still importing."""
    command = [sys.executable, "-m", "sparsemf_cli", "budget", "tanh-full", "-o", "out", "--jobs", "2"]
    child = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120

    def begun() -> bool:
        if when == "in a run":
            return any(tmp_path.glob("out/runs/*/metrics.jsonl"))
        return workers(child.pid) == 2

    while not begun() and time.monotonic() < deadline:
        time.sleep(0.02)
    if group:
        os.killpg(child.pid, signal.SIGINT)
    else:
        os.kill(child.pid, signal.SIGTERM)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.splitlines() == ["interrupted; finished runs are kept in out; give the same command to go on"]
    assert gone(child.pid), "a worker is left"


def workers(parent: int) -> int:
    """How many processes ``parent`` has spawned to work for it (the tracker of its semaphores does not count)."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    lines = [Path(f"/proc/{one}/cmdline") for one in children]
    return sum(b"spawn_main" in line.read_bytes() for line in lines if line.exists())


def test_workers_are_deaf_to_an_interruption_and_their_parent_is_not():
    """The bar is there before a worker's first instruction: a handler set later lets Ctrl-C into its imports."""

    def blocked() -> bool:
        return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())

    assert list(in_parallel([(blocked, ()), (blocked, ())], 2, lambda done, total: None)) == [True, True]
    assert not blocked()


def gone(group: int) -> bool:
    """Whether nobody of a process group is left, within ten seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("command", ["budget", "reproduce"])
def test_a_file_in_the_place_of_the_folder_is_one_line(command, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    arguments = [command, *(["tanh-quick"] if command == "budget" else []), "-o", str(tmp_path / "file")]
    assert cli.main(arguments, standalone_mode=False) == 4
    assert "expected a folder to write in (a file is there); name another" in capfd.readouterr().err
