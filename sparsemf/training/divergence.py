"""After a divergence: which step size would have held?  Found by replay, not by a rule of thumb."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from sparsemf.training.config import TrainConfig
from sparsemf.training.devices import device_of
from sparsemf.training.schedule import Schedule
from sparsemf.training.store import StoredRun
from sparsemf.training.system import System
from sparsemf.training.task import Task

HALVINGS = 6
SECONDS = 30.0


def step_that_holds(
    task: Task, config: TrainConfig, stored: StoredRun | None, end: int, seconds: float = SECONDS
) -> float | None:
    """The largest of η/2, η/4, …, η/64 whose replay from the last good state stays finite, or None.

    The replay starts from ``stored`` (the initial state without it) and lasts twice as many steps as the run needed
    from there to leave the finite numbers at ``end``, under the same noise, batches and schedules.  None when all
    diverge, or when ``seconds`` are over before one has been seen to hold.
    """
    begin = 0 if stored is None else stored.step
    deadline = time.perf_counter() + seconds
    for halving in range(1, HALVINGS + 1):
        factor = 0.5**halving
        slower = replace(config, step_size=_scaled(config.step_size, factor))
        system = System(task, [slower], device_of(config.device))
        if stored is None:
            system.start()
        else:
            system.restore({name: stored.tensors[name] for name in system.tensors}, begin)
        if (holds := _stays_finite(system, 2 * end - begin, deadline)) is None:
            return None
        if holds:
            return slower.step_size.initial
    return None


def _scaled(schedule: Schedule, factor: float) -> Schedule:
    final = None if schedule.final is None else schedule.final * factor
    return replace(schedule, initial=schedule.initial * factor, final=final)


def _stays_finite(system: System, end: int, deadline: float) -> bool | None:
    """None when time runs out."""
    while system.step < end:
        system.advance()
        if system.step % 16 == 0 or system.step == end:
            if not bool(torch.isfinite(system.particles.flat).all()):
                return False
            if time.perf_counter() > deadline:
                return None
    return True
