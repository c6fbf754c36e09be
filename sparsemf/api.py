"""The one function of the API that joins two rooms: train, with tasks by name."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsemf.training import Run, Task


def train(task: str | Task, out: str | PathLike[str] | None = None, *, resume: bool = False, **options: Any) -> Run:
    """Train a long-time μP measure: ``train("planted-relu", width=1024)`` → :class:`sparsemf.training.Run`.

    ``task`` is a name of ``sparsemf tasks`` or an object with the protocol :class:`sparsemf.training.Task`;
    ``out`` a run folder (None keeps everything in memory); ``options`` the fields of
    :class:`sparsemf.training.TrainConfig` (``activation`` defaults to the teacher's).
    """
    from sparsemf.training import TrainConfig
    from sparsemf.training import train as run

    if isinstance(task, str):
        from sparsemf_datasets import load_task

        task = load_task(task)
    teacher = getattr(task, "teacher", None)
    if "activation" not in options and teacher is not None:
        options["activation"] = teacher.activation.name
    return run(task, TrainConfig(**options), None if out is None else Path(out), resume=resume)
