"""The learning cell: of a run, of a bare file, of a task; its table and page."""

import json

import numpy as np
import pytest

from sparsemf.checkpoints import load, save
from sparsemf.pipeline.cell import cell
from sparsemf.training import TrainConfig, train
from sparsemf_cli.main import cli
from sparsemf_datasets import load_task


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cell") / "run"
    task = load_task("planted-erf", d=3, atoms=2)
    config = TrainConfig(
        "erf", width=64, steps=60, sampling="full", samples=64, outer="bounded", outer_bound=3.0, step_size=0.3,
        temperature=1e-3, weight_decay=0.05, metrics_every=3,
    )  # fmt: skip
    train(task, config, folder)
    return folder, task


def test_the_cell_of_a_run_brackets_its_weights(run):
    folder, task = run
    found = cell(load(folder / "measure.safetensors"), run=folder, task_of=lambda record: task).document()
    json.dumps(found, allow_nan=False)
    assert found["schema"] == "sparsemf/cell/1"
    rows = found["w_star"]["moments"]
    assert found["w_star"]["kind"] == "an estimate with a certified lower end"
    for row in rows:
        assert row["lower"] <= row["value"] <= row["upper"] * (1 + 1e-9)
    # w*_2 = 1/M_2 and M_2 is at least the second moment of the last measure
    net = load(folder / "measure.safetensors")
    last = np.mean(np.sum(net.outer**2, axis=1) + np.sum(net.inner**2, axis=1))
    assert rows[1]["value"] <= 1 / last * (1 + 1e-6)


def test_the_depth_is_that_of_the_dictionary(run):
    """Independent erf atoms without biases: D_orb = D_var = 3, whatever the number of particles."""
    teacher = run[1].teacher
    found = cell(teacher).document()
    assert found["s_star"]["value"] == 2
    assert found["s_star"]["certified"]
    assert "2 atoms" in found["d_orb"]["of"]
    assert found["d_orb"]["lower"] >= found["d_orb"]["d_var"]["lower"] >= 3
    assert all(row["value"] is None and row["upper"] > 0 for row in found["w_star"]["moments"])
    lengths = np.linalg.norm(np.hstack([teacher.outer, teacher.inner]), axis=1)
    assert found["w_star"]["moments"][3]["upper"] == pytest.approx(1 / np.mean(lengths**4))


def test_what_is_charged_counts_and_is_seen(run):
    """A line beside two erf atoms: free it is nothing, charged one more atom at least."""
    teacher = run[1].teacher
    line = teacher.with_(affine=np.full((1, 3), 0.5))
    free, charged = cell(line).document(), cell(line, affine="charged").document()
    assert free["s_star"]["value"] == 2
    assert charged["s_star"]["value"] > 2
    assert charged["config"]["affine"] == "charged"
    assert cell(teacher, affine="charged").document()["s_star"]["value"] == 2


def test_the_command_compares_cells(run, tmp_path, capfd):
    folder, task = run
    save(task.teacher, tmp_path / "teacher.safetensors")
    arguments = ["cell", str(folder), str(tmp_path / "teacher.safetensors"), "--html", str(tmp_path / "c.html")]
    assert cli.main([*arguments, "--json"], standalone_mode=False) == 0
    out, err = capfd.readouterr()
    assert err == ""
    document = json.loads(out)
    assert [d["run"]["width"] if "run" in d else None for d in document["results"]] == [64, None]
    assert "Learning cells" in (tmp_path / "c.html").read_text()
    assert cli.main(["cell", arguments[2], "--affine", "offset", "--json"], standalone_mode=False) == 0
    assert json.loads(capfd.readouterr().out)["config"]["affine"] == "offset"
    assert cli.main(["cell", "--task", "planted-erf", "--set", "d=3", "--set", "atoms=2"], standalone_mode=False) == 0
    assert "planted-erf" in capfd.readouterr().out
    assert cli.main(["cell", "--task", "diabetes"], standalone_mode=False) == 4
    assert "has no teacher network" in capfd.readouterr().err
    assert cli.main(["cell"], standalone_mode=False) == 2
