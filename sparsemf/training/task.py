"""What the trainer learns from: the protocol of a task, and its validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sparsemf.exceptions import InputError
from sparsemf.measures import Network

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]


@runtime_checkable
class Task(Protocol):
    """A regression problem y ≈ f(x), x ∈ R^inputs, y ∈ R^outputs.

    Either ``data`` is a pair (X, y) of shapes (n, inputs) and (n, outputs), the input law being the empirical
    one; or ``data`` is None, inputs are standard Gaussian and :meth:`target` gives the noise-free labels.
    """

    @property
    def name(self) -> str: ...

    @property
    def inputs(self) -> int: ...

    @property
    def outputs(self) -> int: ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What rebuilds the task: plain JSON values."""
        ...

    @property
    def activation(self) -> str | None:
        """The activation a student should have, when the task suggests one."""
        ...

    @property
    def teacher(self) -> Network | None:
        """The planted network, when there is one."""
        ...

    @property
    def data(self) -> tuple[Array, Array] | None: ...

    def target(self, x: torch.Tensor, /) -> torch.Tensor:
        """Labels (n, outputs) at standard Gaussian inputs (n, inputs), on the inputs' device and dtype."""
        ...


def describe(task: Task) -> dict[str, Any]:
    """The JSON record of a task, kept in run.json and compared on resume."""
    return {
        "name": task.name,
        "inputs": task.inputs,
        "outputs": task.outputs,
        "parameters": dict(task.parameters),
        "samples": None if task.data is None else int(task.data[0].shape[0]),
    }


def checked_data(task: Task) -> tuple[Array, Array]:
    """The task's (X, y), finite and of matching shapes; raises :class:`InputError`."""
    if task.data is None:
        raise InputError(f"task {task.name!r} has no data set; it samples Gaussian inputs")
    x, y = (np.asarray(part, dtype=np.float64) for part in task.data)
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] != y.shape[0] or x.shape[0] < 1:
        raise InputError(f"task {task.name!r}: expected X (n, d) and y (n, m), got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError(f"task {task.name!r}: X and y must be finite; remove rows with NaN or infinite entries")
    return x, y
