"""The result store: identity, resume, isolation of failures, agreement of runs, the summary table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import sparsemf
from cases import planted, rotated_atom
from sparsemf.batch import Settings, result_id, run_batch, work_list
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


def stripped(out: Path) -> dict[str, dict]:
    """All results without their timings."""
    found = {}
    for path in (out / "results").glob("*.json"):
        document = json.loads(path.read_text())
        document.pop("timing_s")
        found[path.name] = document
    return found


def test_batch_isolates_failures_resumes_and_agrees(folder: Path, tmp_path: Path) -> None:
    files = work_list(str(folder))
    assert [p.name for p in files] == ["a.safetensors", "b.npz", "broken.safetensors", "c.safetensors"]
    settings = Settings(reference=str(folder / "a.safetensors"), reference_sha256="x")
    first = run_batch(files, settings, tmp_path / "one", jobs=2)
    assert (first.files, first.done, first.kept, len(first.failures)) == (4, 3, 0, 1)
    record = json.loads((tmp_path / "one" / "failures.jsonl").read_text())
    assert Path(record["path"]).name == "broken.safetensors"
    assert record["kind"] == "bad input"

    again = run_batch(files, settings, tmp_path / "one", jobs=1)
    assert (again.done, again.kept, len(again.failures)) == (0, 3, 1)
    other = run_batch(reversed(files), settings, tmp_path / "two", jobs=1)
    assert other.done == 3
    assert stripped(tmp_path / "one") == stripped(tmp_path / "two")

    # a changed option is another result; a changed file too
    changed = run_batch(files, Settings(rel_eps=0.1), tmp_path / "one", jobs=2)
    assert changed.done == 3
    assert len(list((tmp_path / "one" / "results").glob("*.json"))) == 6

    from pyarrow import parquet

    rows = parquet.read_table(tmp_path / "two" / "summary.parquet").to_pylist()
    verdicts = {row["path"]: row["verdict"] for row in rows}
    assert verdicts == {"a.safetensors": "equivalent", "b.npz": "equivalent", "c.safetensors": "distinct"}
    assert all(row["s_star"] == 3 and row["certified"] for row in rows)
    assert not list((tmp_path / "two").rglob("*.tmp"))
    for certificate in (tmp_path / "two" / "certificates").glob("*.json"):
        assert json.loads(certificate.read_text())["schema"] == "sparsemf/certify/2"


def test_work_lists(folder: Path, tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text(f"# two files\n{folder / 'a.safetensors'}\n\n{folder / 'b.npz'}  # second\n")
    assert [p.name for p in work_list(str(listing))] == ["a.safetensors", "b.npz"]
    assert [p.name for p in work_list(str(folder / "*.npz"))] == ["b.npz"]
    for nothing in (tmp_path / "absent", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError, match="found none"):
            work_list(str(nothing))


def test_result_identity() -> None:
    base = result_id("net", "layer.0", "abc", Settings())
    assert base.startswith("net--layer.0--")
    assert len(base.rsplit("--", 1)[1]) == 12
    assert result_id("net", "layer.0", "abd", Settings()) != base
    assert result_id("net", "layer.0", "abc", Settings(rel_eps=0.1)) != base
    assert result_id("net", "layer.0", "abc", Settings(block="layer.*")) == base
    assert "/" not in result_id("n", "a/b:c", "abc", Settings())


def test_a_dying_worker_costs_only_its_job(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose analysis kills its process is a recorded failure; the others are done."""
    # the workers are spawned: the hook has to be on their path, not in this process
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if os.environ.get('SPARSEMF_TEST_KILL'):\n"
        "    import sparsemf.batch.worker as w\n"
        "    real = w.run\n"
        "    def run(path, settings, out):\n"
        "        if path.endswith('b.npz'):\n"
        "            os._exit(9)\n"
        "        return real(path, settings, out)\n"
        "    run.__module__, run.__qualname__ = real.__module__, real.__qualname__\n"
        "    w.run = run\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(hook))
    monkeypatch.setenv("SPARSEMF_TEST_KILL", "1")
    found = run_batch(work_list(str(folder)), Settings(), tmp_path / "out", jobs=2)
    assert found.done == 2
    assert {(Path(r["path"]).name, r["kind"]) for r in found.failures} == {
        ("b.npz", "internal"),
        ("broken.safetensors", "bad input"),
    }
