"""Many checkpoints: the work list, the processes or the cluster that do the jobs, the result store, the classes."""

from sparsemf.batch.engine import BatchResult, Progress, run_batch
from sparsemf.batch.files import work_list
from sparsemf.batch.jobs import Limits, Settings, result_id

__all__ = ["BatchResult", "Limits", "Progress", "Settings", "result_id", "run_batch", "work_list"]
