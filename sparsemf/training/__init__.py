"""Noisy gradient descent in the mean-field (μP) scaling: long-time measures over neurons.

Imports on first use, so that reading a configuration does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsemf.training.chaos import propagation_of_chaos
    from sparsemf.training.chaos_result import Chaos
    from sparsemf.training.chaos_store import stored_chaos
    from sparsemf.training.config import TrainConfig
    from sparsemf.training.ensemble import train_ensemble
    from sparsemf.training.moment_document import moments_document
    from sparsemf.training.records import Record
    from sparsemf.training.scaling import ScalingConfig, scaling_check
    from sparsemf.training.schedule import Schedule
    from sparsemf.training.stationarity import Stationarity, diagnose, diagnose_chains
    from sparsemf.training.store import StoredRun, stored_run
    from sparsemf.training.task import Task
    from sparsemf.training.trainer import Diverged, Run, train, train_replicas

_HOME = {
    "Chaos": "chaos_result",
    "Diverged": "trainer",
    "Record": "records",
    "Run": "trainer",
    "ScalingConfig": "scaling",
    "Schedule": "schedule",
    "Stationarity": "stationarity",
    "StoredRun": "store",
    "Task": "task",
    "TrainConfig": "config",
    "diagnose": "stationarity",
    "diagnose_chains": "stationarity",
    "moments_document": "moment_document",
    "propagation_of_chaos": "chaos",
    "scaling_check": "scaling",
    "stored_chaos": "chaos_store",
    "stored_run": "store",
    "train": "trainer",
    "train_ensemble": "ensemble",
    "train_replicas": "trainer",
}

__all__ = [
    "Chaos",
    "Diverged",
    "Record",
    "Run",
    "ScalingConfig",
    "Schedule",
    "Stationarity",
    "StoredRun",
    "Task",
    "TrainConfig",
    "diagnose",
    "diagnose_chains",
    "moments_document",
    "propagation_of_chaos",
    "scaling_check",
    "stored_chaos",
    "stored_run",
    "train",
    "train_ensemble",
    "train_replicas",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
