"""Kill a training process at random moments and resume it, until it ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from sparsemf.training import TrainConfig, train
from sparsemf.training.store import STATE
from sparsemf.training.task import Task


def killed_run(task: Task, config: TrainConfig, folder: Path, kills: int, seed: int, longest: float) -> tuple[int, int]:
    """Run ``config`` in forked processes until one ends, the first ``kills`` of them killed after a random time.

    A process that ends before its kill ends the whole.  Returns (kills that met a living process, those of them that
    met one with unfinished temporary files).
    """
    rng = np.random.default_rng(seed)
    met = torn = 0
    while True:
        child = os.fork()
        if child == 0:
            try:
                train(task, config, folder, resume=(folder / STATE).exists())
            except BaseException:
                os._exit(1)
            os._exit(0)
        if met < kills:
            time.sleep(float(rng.uniform(0.0, longest)))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            met += 1
            torn += any(folder.glob(".*.tmp"))
        elif os.WEXITSTATUS(status) != 0:
            raise AssertionError(f"after {met} kills: the resumed run failed")
        else:
            return met, torn
