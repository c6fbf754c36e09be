"""Many random cases on several processes: one thread each, interruptible, resumable from a file of finished parts."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

Part = dict[str, Any]
"""``counts`` (name → number), ``failures`` (lines), and lists under other names."""


def _alone() -> None:
    """A worker leaves the interrupt to its parent, and the other cores to the other workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)


def sweep(
    run: Callable[[int, int, int], Part], seed: int, count: int, step: int, jobs: int, keep: Path | None
) -> tuple[Counter[str], dict[str, list[Any]]]:
    """``run(seed, first, number)`` over cases 0 … count − 1 in parts of ``step``; the sums and the joined lists.

    Parts found in ``keep`` (one JSON line each, of the same seed and step) are not run again.  On an interrupt: what is
    known by then.
    """
    start, counts, lists = time.perf_counter(), Counter[str](), dict[str, list[Any]]()
    known = _read(keep, seed, step) if keep is not None else {}

    def add(part: Part) -> None:
        counts.update(part["counts"])
        for name, values in part.items():
            if name != "counts":
                lists.setdefault(name, []).extend(values)
        for line in part["failures"]:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    tasks = [(first, min(step, count - first)) for first in range(0, count, step)]
    for task in tasks:
        if task in known:
            add(known[task])
    looked_at = sum(task[1] for task in tasks if task in known)
    left = [task for task in tasks if task not in known]
    pool = ProcessPoolExecutor(jobs, initializer=_alone)
    try:
        futures = [pool.submit(run, seed, *task) for task in left]
        for task, future in zip(left, futures, strict=True):
            part = future.result()
            add(part)
            looked_at += task[1]
            if keep is not None:
                with keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"seed": seed, "step": step, "task": task, "part": part}) + "\n")
            sys.stderr.write(f"\r{looked_at} of {count} cases, {time.perf_counter() - start:.0f} s")
    except KeyboardInterrupt:
        sys.stderr.write(f"\ninterrupted: {looked_at} of {count} cases are counted")
        for process in list((pool._processes or {}).values()):  # a part in work may take a minute
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
    else:
        pool.shutdown()
    sys.stderr.write("\n")
    counts["looked at"] = looked_at
    return counts, lists


def _read(keep: Path, seed: int, step: int) -> dict[tuple[int, int], Part]:
    """Finished parts; a half-written last line is left out."""
    found: dict[tuple[int, int], Part] = {}
    for line in keep.read_text(encoding="utf-8").splitlines() if keep.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["seed"] == seed and row["step"] == step:
            found[tuple(row["task"])] = row["part"]
    return found
