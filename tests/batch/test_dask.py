"""A real scheduler and real workers, one of which is killed in the middle of a job: the same store as without them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import sparsemf
from batch.hooks import hook, running
from batch.test_batch import stripped
from cases import planted
from sparsemf.batch import Limits, Settings, run_batch, work_list
from sparsemf.batch.cluster import DaskPool
from sparsemf.exceptions import InputError
from sparsemf.symmetry import disguise

pytest.importorskip("distributed")


def started(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "ignore", "-m", "dask", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True, **quiet)


def waited(path: Path) -> str:
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.read_text()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers whose processes take the hooks of :mod:`batch.hooks`."""
    path = os.pathsep.join([str(hook(tmp_path / "hook")), os.environ.get("PYTHONPATH", ""), *sys.path])
    marks = {"PYTHONPATH": path, "SPARSEMF_TEST_MARKER": str(tmp_path)}
    told = tmp_path / "scheduler.json"
    scheduler = started("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(told))
    waited(told)
    address = json.loads(told.read_text())["address"]
    options = ("worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard")
    folder = ("--local-directory", str(tmp_path / "dask"))
    workers = [started(*options, *folder, "--name", str(k), **marks) for k in range(2)]
    try:
        yield address, workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def test_a_cluster_gives_the_same_store_also_when_a_worker_dies(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    address, workers = cluster
    rng = np.random.default_rng(0)
    source = tmp_path / "in"
    source.mkdir()
    truth = planted(rng, "tanh", d=3, atoms=2, bias=True)
    for name in ("a.npz", "once.npz"):
        sparsemf.save(disguise(truth, rng, 8), source / name)
    sparsemf.save(planted(rng, "relu", d=3, atoms=2), source / "b.npz")
    (source / "broken.pt").write_bytes(b"")
    files = work_list(str(source))
    local = tmp_path / "local"
    run_batch(files, Settings(), local, jobs=1, class_eps=1e-3)

    # the worker that has taken "once" is killed while it works on it
    script = (
        "import os, signal, sys, time\n"
        f"mark = {str(tmp_path / 'once.npz')!r}\n"
        "while not os.path.exists(mark): time.sleep(0.05)\n"
        "os.kill(int(open(mark).read()), signal.SIGKILL)\n"
    )
    killer = subprocess.Popen([sys.executable, "-c", script])
    remote = tmp_path / "remote"
    found = run_batch(files, Settings(), remote, dask=address, class_eps=1e-3)
    assert killer.wait() == 0
    assert sorted(w.poll() is None for w in workers) == [False, True]
    assert [(r["path"], r["kind"]) for r in found.failures] == [("broken.pt", "bad input")]
    assert found.done == 3
    assert any(name.startswith("certificates/") for name in stripped(remote))
    assert stripped(remote) == stripped(local)

    # a limit holds on the cluster too
    with DaskPool(address, limits=Limits(time_s=1.0)) as pool:
        ((_, reply),) = pool.map([{"task": "analyze", "entry": {"path": "slow"}}])
    assert reply["failure"]["kind"] == "time limit"

    # the processes that worked for the dead worker have ended with it
    dead = next(w for w in workers if w.poll() is not None)
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"sparsemf.batch.child" in text and str(tmp_path).encode() in text and running(int(entry.name)):
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            assert parent not in (1, dead.pid)


def test_nobody_at_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparsemf.batch.cluster._PATIENCE", "1s")
    sparsemf.save(planted(np.random.default_rng(0), "relu"), tmp_path / "a.npz")
    for address in ("tcp://127.0.0.1:1", "nonsense"):
        with pytest.raises(InputError, match="--dask"):
            run_batch(work_list(str(tmp_path / "a.npz")), Settings(), tmp_path / "out", dask=address)
