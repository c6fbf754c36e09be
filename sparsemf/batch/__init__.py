"""Many checkpoints: the work list, local processes, the result store."""

from sparsemf.batch.engine import BatchResult, run_batch
from sparsemf.batch.jobs import Settings, result_id, work_list
from sparsemf.batch.worker import Outcome

__all__ = ["BatchResult", "Outcome", "Settings", "result_id", "run_batch", "work_list"]
