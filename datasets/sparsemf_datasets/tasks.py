"""The concrete tasks of the trainer's protocol: populations with Gaussian inputs, and fixed data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.exceptions import InputError
from sparsemf.measures import Network

if TYPE_CHECKING:
    import torch

    from sparsemf.identifiability import HermiteTarget

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PopulationTask:
    """x ~ N(0, I_inputs), y = target(x) without label noise; satisfies :class:`sparsemf.training.Task`.

    ``target`` maps a tensor (n, inputs) to (n, outputs) on its device and in its dtype; ``expansion`` is the same
    function by its Hermite coefficients, where they are known and few enough.
    """

    name: str
    inputs: int
    outputs: int
    parameters: Mapping[str, Any]
    target: Callable[[torch.Tensor], torch.Tensor]
    activation: str | None = None
    teacher: Network | None = None
    expand: Callable[[], HermiteTarget | None] | None = None
    data: None = field(default=None, init=False)

    @cached_property
    def expansion(self) -> HermiteTarget | None:
        """The target's Hermite coefficients, formed on first use."""
        return None if self.expand is None else self.expand()

    def sample(self, n: int, seed: int) -> tuple[Array, Array]:
        """n fresh samples (X, y) of shapes (n, inputs), (n, outputs), in float64."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        x = torch.randn((n, self.inputs), generator=generator, dtype=torch.float64)
        return x.numpy(), self.target(x).numpy()


@dataclass(frozen=True, eq=False)
class DataTask:
    """A fixed data set: ``data`` = (X, y) of shapes (n, inputs), (n, outputs), float64 and finite."""

    name: str
    parameters: Mapping[str, Any]
    data: tuple[Array, Array]
    activation: str | None = None
    teacher: None = field(default=None, init=False)

    @property
    def inputs(self) -> int:
        return self.data[0].shape[1]

    @property
    def outputs(self) -> int:
        return self.data[1].shape[1]

    def target(self, x: torch.Tensor, /) -> torch.Tensor:
        """A data set knows labels at its own points only."""
        have, want = self.data[0].shape[0], x.shape[0]
        raise InputError(f"task {self.name!r} is a fixed data set of {have} samples, got {want} other points")
