"""Killed and resumed: the same store, nothing half-written to be seen, no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import sparsemf
from batch.hooks import children_of, hook
from batch.killing import command, killed, outlived, whole
from batch.test_batch import stripped, table
from cases import planted
from sparsemf.batch import Settings, run_batch, work_list
from sparsemf.batch.store import Store
from sparsemf.exceptions import InputError
from sparsemf.symmetry import disguise


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    truth = planted(rng, "relu", d=3, atoms=2)
    for k in range(4):
        sparsemf.save(disguise(truth, rng, 8 + k), folder / f"{k}.npz")
    (folder / "broken.npz").write_bytes(b"PK\x03\x04")
    return folder


def test_kills_at_random_moments_change_nothing(source: Path, tmp_path: Path) -> None:
    calm, hit = tmp_path / "calm", tmp_path / "hit"
    run_batch(work_list(str(source)), Settings(), calm, jobs=1, class_eps=1e-3)
    found = killed(source, hit, ("--jobs", "2", "--classes"), kills=3, longest=6.0, seed=1)
    assert found["torn"] == []
    assert found["reads"] > 0
    assert (found["code"], found["orphans"]) == (5, 0)
    assert stripped(hit) == stripped(calm)
    assert [{**row, "seconds": 0} for row in table(hit)] == [{**row, "seconds": 0} for row in table(calm)]
    # what the watcher looks for is there to be found
    assert not whole(".json", b'{"a": [1,')
    assert not whole(".parquet", b"PAR1 half")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_batch_saves_its_state_and_ends_its_workers(
    source: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    for name in ("slow1", "slow2"):  # the two workers are at work when the signal comes
        sparsemf.save(planted(rng, "relu", d=3, atoms=2), source / f"{name}.npz")
    monkeypatch.setenv("PYTHONPATH", str(hook(tmp_path / "hook")) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(source, out, "--jobs", "2"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while len(list(out.glob("results/*.json"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = children_of(process.pid)
    assert len(workers) == 2
    with pytest.raises(InputError, match="another batch"), Store(out).opened():
        pass
    os.killpg(process.pid, number)  # as a terminal does it: to the whole group
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, b"")
    assert stderr.count(b"\n") == 1
    assert b"run the same command" in stderr
    assert outlived(workers) == 0
    assert len(table(out)) == 4
    assert not list(out.rglob("*.tmp"))
