"""A batch that is killed at random moments, watched all the time, and resumed; for the tests and the benchmark."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from batch.hooks import children_of, running


class Watcher(threading.Thread):
    """Reads every visible file of a store again and again; ``torn`` are those that were no whole document."""

    def __init__(self, out: Path) -> None:
        super().__init__(daemon=True)
        self.out, self.reads, self.torn, self._end = out, 0, [], threading.Event()
        self._seen: dict[str, tuple[int, int]] = {}

    def run(self) -> None:
        while not self._end.is_set():
            self.look()
            time.sleep(0.002)

    def look(self) -> None:
        for path in self.out.rglob("*"):
            if path.name.startswith(".") or path.suffix not in (".json", ".jsonl", ".parquet", ".csv"):
                continue
            try:
                status = path.stat()
                mark = (status.st_ino, status.st_mtime_ns)
                if self._seen.get(str(path)) == mark:
                    continue
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            self._seen[str(path)] = mark
            self.reads += 1
            if not whole(path.suffix, data):
                self.torn.append(path.name)

    def finish(self) -> None:
        self._end.set()
        self.join()
        self.look()


def whole(suffix: str, data: bytes) -> bool:
    """Whether the content of a file is complete."""
    try:
        if suffix == ".json":
            return isinstance(json.loads(data), dict)
        if suffix == ".jsonl":
            return data in (b"",) or (data.endswith(b"\n") and all(json.loads(x) for x in data.splitlines()))
        return data.endswith(b"PAR1") if suffix == ".parquet" else data.endswith(b"\n")
    except ValueError:
        return False


def command(source: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "sparsemf_cli", "batch", str(source), "-o", str(out), *options]


def killed(source: Path, out: Path, options: tuple[str, ...], kills: int, longest: float, seed: int) -> dict[str, Any]:
    """Kill the batch ``kills`` times while it runs, at uniformly random moments up to ``longest`` seconds, then let it
    end.  {"met", "code", "torn", "reads", "orphans"}: orphans are workers that outlived a killed batch by 5 s."""
    rng = np.random.default_rng(seed)
    watcher = Watcher(out)
    watcher.start()
    met, orphans, code = 0, 0, None
    while met < kills and code is None:
        process = subprocess.Popen(command(source, out, *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            code = process.wait(rng.uniform(0.0, longest))
        except subprocess.TimeoutExpired:
            workers = children_of(process.pid)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            met += 1
            orphans += outlived(workers)
    if code is None:
        code = subprocess.run(command(source, out, *options), capture_output=True, check=False).returncode
    watcher.finish()
    return {"met": met, "code": code, "torn": watcher.torn, "reads": watcher.reads, "orphans": orphans}


def outlived(workers: list[int], patience: float = 5.0) -> int:
    """How many of the processes are still there after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while any(map(running, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return sum(map(running, workers))
