"""Run jobs over local processes: one single-worker pool per slot, so that a crash costs only its own job."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

from sparsemf import atomic
from sparsemf.batch.jobs import Settings
from sparsemf.batch.summary import write_summary
from sparsemf.batch.worker import Outcome, failure, prepare, run

Watch = Callable[[Outcome], None]


@dataclass(frozen=True)
class BatchResult:
    """Counts over the whole batch; the store itself is the folder."""

    files: int
    done: int
    kept: int
    failures: tuple[dict[str, Any], ...]
    interrupted: bool = False


def run_batch(
    files: Iterable[Path],
    settings: Settings,
    out: Path,
    jobs: int = 1,
    threads: int = 1,
    watch: Watch | None = None,
) -> BatchResult:
    """Analyze all files into ``out``: results/<id>.json, failures.jsonl, summary.parquet and summary.csv.

    Results that exist are kept, so an interrupted batch continues where it was.  KeyboardInterrupt ends it after
    the summary of what is done has been written, with ``interrupted`` set.
    """
    (out / "results").mkdir(parents=True, exist_ok=True)
    work: queue.SimpleQueue[Path] = queue.SimpleQueue()
    names = list(files)
    for path in names:
        work.put(path)
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    stop = threading.Event()
    slots = [
        threading.Thread(target=_slot, args=(work, outcomes, stop, settings, str(out), threads), daemon=True)
        for _ in range(max(1, min(jobs, len(names))))
    ]
    for slot in slots:
        slot.start()
    collected: list[Outcome] = []
    interrupted = False
    try:
        while len(collected) < len(names):
            outcome = outcomes.get()
            collected.append(outcome)
            if watch is not None:
                watch(outcome)
    except KeyboardInterrupt:
        interrupted = True
        stop.set()
        for child in active_children():  # their results are written atomically: nothing half-done stays
            child.terminate()
    failures = tuple(record for outcome in sorted(collected, key=lambda o: o.path) for record in outcome.failures)
    atomic.write_text(out / "failures.jsonl", "".join(json.dumps(record) + "\n" for record in failures))
    write_summary(out)
    return BatchResult(
        files=len(names),
        done=sum(len(o.done) for o in collected),
        kept=sum(len(o.kept) for o in collected),
        failures=failures,
        interrupted=interrupted,
    )


def _slot(
    work: queue.SimpleQueue[Path],
    outcomes: queue.SimpleQueue[Outcome],
    stop: threading.Event,
    settings: Settings,
    out: str,
    threads: int,
) -> None:
    """Feed one worker process; replace it when it dies."""

    def fresh() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=prepare, initargs=(threads,))

    pool = fresh()
    try:
        while not stop.is_set():
            try:
                path = work.get_nowait()
            except queue.Empty:
                return
            try:
                outcomes.put(pool.submit(run, str(path), settings, out).result())
            except BrokenProcessPool:
                record = failure(str(path), "", "the worker process died (killed, or out of memory)")
                outcomes.put(Outcome(str(path), failures=(record,)))
                pool = fresh()
            except Exception as error:  # a slot that dies silently would hang the batch: every error is recorded
                outcomes.put(Outcome(str(path), failures=(failure(str(path), "", error),)))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
