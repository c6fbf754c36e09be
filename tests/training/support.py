"""Tasks that are not in the registry, for tests of the trainer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sparsemf.measures import Network


@dataclass(frozen=True)
class SilentTask:
    """All inputs and labels are 0: for σ(0) = 0 the gradient of the risk vanishes identically."""

    name: str = "silent"
    inputs: int = 3
    outputs: int = 1
    activation: str | None = None
    teacher: Network | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        return {}

    @property
    def data(self):
        return np.zeros((2, self.inputs)), np.zeros((2, self.outputs))

    def target(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(x.shape[0], self.outputs)


@dataclass(frozen=True)
class ArrayTask:
    """A data set given by its arrays."""

    x: Any
    y: Any
    name: str = "arrays"
    activation: str | None = None
    teacher: Network | None = None

    @property
    def inputs(self) -> int:
        return self.x.shape[1]

    @property
    def outputs(self) -> int:
        return self.y.shape[1]

    @property
    def parameters(self) -> dict[str, Any]:
        return {}

    @property
    def data(self):
        return self.x, self.y

    def target(self, x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a data set has no target function")
