"""Tasks for the trainer: planted teachers, Hermite targets, scikit-learn's data sets, the user's own arrays."""

from sparsemf_datasets.planted import planted_network, planted_task
from sparsemf_datasets.registry import TaskEntry, entries, entry, load_task
from sparsemf_datasets.tabular import file_task
from sparsemf_datasets.tasks import DataTask, PopulationTask

__all__ = [
    "DataTask",
    "PopulationTask",
    "TaskEntry",
    "entries",
    "entry",
    "file_task",
    "load_task",
    "planted_network",
    "planted_task",
]
