"""Noisy gradient descent in the mean-field (μP) scaling: long-time measures over neurons.

Imports on first use, so that reading a configuration does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsemf.training.config import TrainConfig
    from sparsemf.training.records import Record
    from sparsemf.training.schedule import Schedule
    from sparsemf.training.stationarity import Stationarity
    from sparsemf.training.store import StoredRun, stored_run
    from sparsemf.training.task import Task
    from sparsemf.training.trainer import Diverged, Run, train

_HOME = {
    "Diverged": "trainer",
    "Record": "records",
    "Run": "trainer",
    "Schedule": "schedule",
    "Stationarity": "stationarity",
    "StoredRun": "store",
    "Task": "task",
    "TrainConfig": "config",
    "stored_run": "store",
    "train": "trainer",
}

__all__ = [
    "Diverged",
    "Record",
    "Run",
    "Schedule",
    "Stationarity",
    "StoredRun",
    "Task",
    "TrainConfig",
    "stored_run",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
