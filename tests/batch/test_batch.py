"""The result store: identity, resume, isolation of failures, agreement of runs, the summary table."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sparsemf
from batch.hooks import hook
from cases import planted, rotated_atom
from sparsemf.batch import Limits, Settings, result_id, run_batch, work_list
from sparsemf.batch.local import LocalPool
from sparsemf.exceptions import InputError
from sparsemf.symmetry import disguise


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    truth = planted(rng, "relu", d=4, atoms=3)
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    sparsemf.save(disguise(truth, rng, 20), source / "a.safetensors")
    sparsemf.save(disguise(truth, rng, 30), source / "b.npz")
    sparsemf.save(disguise(rotated_atom(truth, rng, 0, 0.3), rng, 10), source / "deep" / "c.safetensors")
    (source / "broken.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00garbage")
    (source / "notes.txt").write_text("not a checkpoint")
    return source


def stripped(out: Path) -> dict[str, dict[str, Any]]:
    """All documents of a store without their timings."""
    found = {}
    for path in [*out.glob("results/*.json"), *out.glob("certificates/*.json"), *out.glob("classes.json")]:
        document = json.loads(path.read_text())
        document.pop("timing_s")
        found[str(path.relative_to(out))] = document
    found["failures"] = {"text": (out / "failures.jsonl").read_text()}
    return found


def table(out: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    return parquet.read_table(out / "summary.parquet").to_pylist()


def test_batch_isolates_failures_resumes_and_agrees(folder: Path, tmp_path: Path) -> None:
    files = work_list(str(folder))
    assert [p.name for p in files] == ["a.safetensors", "b.npz", "broken.safetensors", "c.safetensors"]
    settings = Settings(reference=str(folder / "a.safetensors"))
    one, two = tmp_path / "one", tmp_path / "two"
    first = run_batch(files, settings, one, jobs=2)
    assert (first.files, first.done, first.kept, len(first.failures)) == (4, 3, 0, 1)
    record = json.loads((one / "failures.jsonl").read_text())
    assert (record["path"], record["kind"], record["block"]) == ("broken.safetensors", "bad input", "")
    assert "expected" in record["error"]

    other = run_batch(reversed(files), settings, two, jobs=1)
    assert other.done == 3
    assert stripped(one) == stripped(two)
    verdicts = {row["path"]: row["verdict"] for row in table(two)}
    assert verdicts == {"a.safetensors": "equivalent", "b.npz": "equivalent", "c.safetensors": "distinct"}
    assert all(row["s_star"] == 3 and row["certified"] for row in table(two))
    assert not list(two.rglob("*.tmp"))

    # a changed option is another result; the earlier one stays, and leaves the table
    changed = run_batch(files, Settings(rel_eps=0.1, affine="offset"), one, jobs=1)
    assert changed.done == 3
    assert len(list((one / "results").glob("*.json"))) == 6
    assert all(row["verdict"] is None for row in table(one))
    documents = [json.loads((one / "results" / f"{row['id']}.json").read_text()) for row in table(one)]
    assert [d["config"]["affine"] for d in documents] == ["offset"] * 3

    # a changed file, a result that a crash left half-written: computed anew, and only these; failures are tried again
    rng = np.random.default_rng(5)
    sparsemf.save(planted(rng, "relu", d=4, atoms=2), folder / "b.npz")
    ids = {row["path"]: row["id"] for row in table(two)}
    whole = (two / "results" / f"{ids['c.safetensors']}.json").read_text()
    (two / "results" / f"{ids['c.safetensors']}.json").write_text(whole[: len(whole) // 2])
    (two / "results" / ".x.json.abc.tmp").write_text("what a killed writer leaves")
    mended = run_batch(files, settings, two, jobs=1)
    assert (mended.done, mended.kept, len(mended.failures)) == (2, 1, 1)
    assert not list(two.rglob("*.tmp"))
    rows = {row["path"]: row for row in table(two)}
    assert rows["b.npz"]["id"] != ids["b.npz"]
    assert (two / "results" / f"{ids['b.npz']}.json").exists()
    assert rows["c.safetensors"]["id"] == ids["c.safetensors"]


def test_equal_contents_are_computed_once_and_a_config_is_part_of_the_content(tmp_path: Path) -> None:
    import torch

    rng = np.random.default_rng(1)
    state = {}
    for layer in range(2):
        state[f"encoder.layer.{layer}.intermediate.dense.weight"] = rng.standard_normal((6, 3))
        state[f"encoder.layer.{layer}.output.dense.weight"] = rng.standard_normal((3, 6))
    for name in ("one", "two"):
        model = tmp_path / "in" / name
        model.mkdir(parents=True)
        torch.save({key: torch.from_numpy(value) for key, value in state.items()}, model / "model.pt")
        (model / "config.json").write_text('{"hidden_act": "relu"}')
    (tmp_path / "in" / "linked.pt").symlink_to(tmp_path / "in" / "one" / "model.pt")
    (tmp_path / "in" / "config.json").write_text('{"hidden_act": "nonsense"}')
    out = tmp_path / "out"
    found = run_batch(work_list(str(tmp_path / "in")), Settings(), out, jobs=1)
    # the link's blocks have no known activation, one failure each; the two models share their results
    assert (found.files, found.done, len(found.failures)) == (3, 2, 2)
    assert {(r["path"], r["block"]) for r in found.failures} == {("linked.pt", f"encoder.layer.{k}") for k in range(2)}
    assert [row["file"].split(os.sep)[-2] for row in table(out)] == ["one", "one", "two", "two"]
    assert len({row["id"] for row in table(out)}) == 2
    shutil.copy(tmp_path / "in" / "one" / "config.json", tmp_path / "in" / "config.json")
    (tmp_path / "in" / "two" / "config.json").write_text('{"hidden_act": "tanh"}')
    again = run_batch(work_list(str(tmp_path / "in")), Settings(), out, jobs=1)
    # under another name the known results are copied; the other activation is computed
    assert (again.done, again.kept, len(again.failures)) == (2, 4, 0)
    rows = table(out)
    assert {(row["path"], row["activation"]) for row in rows} == {
        ("linked.pt", "relu"),
        ("model.pt", "relu"),
        ("model.pt", "tanh"),
    }
    for row in rows:
        document = json.loads((out / "results" / f"{row['id']}.json").read_text())
        assert (document["id"], document["input"]["path"]) == (row["id"], row["path"])


def test_work_lists(folder: Path, tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text(f"# two files\n{folder / 'a.safetensors'}\n\n{folder / 'b.npz'}  # second\n{folder / 'deep'}\n")
    assert [p.name for p in work_list(str(listing))] == ["a.safetensors", "b.npz", "c.safetensors"]
    assert [p.name for p in work_list(str(folder / "*.npz"))] == ["b.npz"]
    assert [p.name for p in work_list(str(folder / "d*"))] == ["c.safetensors"]
    model = tmp_path / "model"
    model.mkdir()
    for name in ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "config.json"):
        (model / name).write_text("{}")
    assert [p.name for p in work_list(str(model))] == ["model.safetensors.index.json"]
    for nothing in (tmp_path / "absent", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError, match="found none"):
            work_list(str(nothing))


def test_result_identity() -> None:
    base = result_id("net", "layer.0", "abc", "relu", Settings())
    assert base.startswith("net--layer.0--")
    assert len(base.rsplit("--", 1)[1]) == 12
    assert result_id("net", "layer.0", "abd", "relu", Settings()) != base
    assert result_id("net", "layer.0", "abc", "tanh", Settings()) != base
    assert result_id("net", "layer.0", "abc", "relu", Settings(rel_eps=0.1)) != base
    assert result_id("net", "layer.0", "abc", "relu", Settings(affine="offset")) != base
    assert result_id("net", "layer.0", "abc", "relu", Settings(rho="x.npz", data_sha256="1")) != base
    assert result_id("net", "layer.0", "abc", "relu", Settings(block="layer.*")) == base
    assert "/" not in result_id("n", "a/b:c", "abc", "relu", Settings())
    assert len(result_id("ℵ" * 500, "ℵ" * 500, "abc", "relu", Settings()).encode()) < 200


def test_limits_stop_a_job_and_nothing_else(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    monkeypatch.setenv("PYTHONPATH", str(hook(tmp_path / "hook")) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    for name in ("hog", "dies", "raises"):
        sparsemf.save(planted(rng, "relu", d=3, atoms=2), folder / f"{name}.npz")
    out = tmp_path / "out"
    found = run_batch(work_list(str(folder)), Settings(), out, jobs=2, limits=Limits(memory_gib=2.0))
    assert found.done == 3
    kinds = {r["path"]: r["kind"] for r in found.failures}
    assert kinds == {
        "broken.safetensors": "bad input",
        "hog.npz": "memory limit",
        "dies.npz": "worker died",
        "raises.npz": "worker died",
    }
    said = {r["path"]: r["error"] for r in found.failures}
    assert "--memory-limit" in said["hog.npz"]
    assert "signal 9" in said["dies.npz"]
    assert "of two lines" in said["raises.npz"]
    assert all("\n" not in text for text in said.values())
    assert not {p.stem.split("--")[0] for p in (out / "results").iterdir()} & {"hog", "dies", "raises"}
    with pytest.raises(InputError, match="idle worker"):
        run_batch(work_list(str(folder)), Settings(), tmp_path / "other", limits=Limits(memory_gib=0.01))

    # a job over its time is stopped, the next one gets a new process
    requests = [{"task": "analyze", "entry": {"path": "slow"}}, {"task": "analyze"}]
    with LocalPool(1, limits=Limits(time_s=1.0)) as pool:
        replies = dict(pool.map([{"version": "another", **request} for request in requests]))
    assert replies[0]["failure"]["kind"] == "time limit"
    assert "--time-limit" in replies[0]["failure"]["error"]
    assert "install the same version" in replies[1]["failure"]["error"]


def test_processes_that_never_start_end_the_batch(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(RuntimeError, match=r"at their start \(exit code 1"):
        run_batch(work_list(str(folder)), Settings(), tmp_path / "out", jobs=2)
