"""Row blocks on several threads: elementwise loops of numpy release the interpreter, but use one core each.

As many threads as BLAS has, so that ``--threads`` and OMP_NUM_THREADS are obeyed; while they work, BLAS has one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from threadpoolctl import ThreadpoolController

WORTH_THREADS = 2e7
"""Elementwise operations from which threads are worth their start."""


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def threads() -> int:
    """The threads of BLAS now (1 where none is known)."""
    return max((pool["num_threads"] for pool in _controller().info() if pool["user_api"] == "blas"), default=1)


def over_rows(work: Callable[[int], None], rows: int, step: int, operations: float) -> None:
    """``work(start)`` for start = 0, step, 2·step, … < rows, in any order; each call writes what no other does."""
    starts = range(0, rows, step)
    workers = min(threads(), len(starts)) if operations >= WORTH_THREADS else 1
    if workers < 2:
        for start in starts:
            work(start)
        return
    with _controller().limit(limits=1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work, start) for start in starts]:
            done.result()
