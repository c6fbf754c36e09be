"""Tasks for the trainer (planted teachers, Hermite targets, scikit-learn's data sets, the user's own arrays), trained
measures by name, planted suites of checkpoints."""

from sparsemf_datasets.planted import planted_network, planted_task
from sparsemf_datasets.registry import TaskEntry, entries, entry, load_task
from sparsemf_datasets.suites import SUITES, Suite, suite, write_suite
from sparsemf_datasets.tabular import file_task
from sparsemf_datasets.tasks import DataTask, PopulationTask
from sparsemf_datasets.trained_measures import Measure, load_measure, measure, measures

__all__ = [
    "SUITES",
    "DataTask",
    "Measure",
    "PopulationTask",
    "Suite",
    "TaskEntry",
    "entries",
    "entry",
    "file_task",
    "load_measure",
    "load_task",
    "measure",
    "measures",
    "planted_network",
    "planted_task",
    "suite",
    "write_suite",
]
