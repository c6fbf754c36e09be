"""Where a step's samples come from: fresh Gaussian inputs, reshuffled epochs, or all samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch

from sparsemf.exceptions import InputError
from sparsemf.training.config import TrainConfig
from sparsemf.training.task import Task, checked_data

Batch = tuple[torch.Tensor, torch.Tensor]
State = dict[str, torch.Tensor]


def with_ones(x: torch.Tensor, bias: bool) -> torch.Tensor:
    """x̃ = (x, 1) when the student has biases, else x."""
    return torch.cat([x, x.new_ones(x.shape[0], 1)], dim=1) if bias else x


class Batches(ABC):
    """A stream of (x̃, y) with a state that can be saved and restored exactly."""

    @abstractmethod
    def next(self) -> Batch:
        """The samples of the next step: x̃ (B, k), y (B, m)."""

    @abstractmethod
    def state(self) -> State:
        """Tensors that determine every later batch."""

    @abstractmethod
    def restore(self, state: State) -> None:
        """The inverse of :meth:`state`."""


class FreshGaussian(Batches):
    """New x ~ N(0, I_d) every step: the gradient is unbiased for the population risk."""

    def __init__(self, task: Task, config: TrainConfig, generator: torch.Generator, like: torch.Tensor) -> None:
        self.task, self.config, self.generator, self.like = task, config, generator, like

    def next(self) -> Batch:
        shape = (self.config.batch, self.task.inputs)
        x = torch.randn(shape, generator=self.generator, dtype=self.like.dtype, device=self.like.device)
        return with_ones(x, self.config.bias), self.task.target(x)

    def state(self) -> State:
        return {"generator": self.generator.get_state()}

    def restore(self, state: State) -> None:
        self.generator.set_state(state["generator"])


class FullBatch(Batches):
    """Every sample in every step: the noise of the update is the temperature's alone."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x, self.y = x, y

    def next(self) -> Batch:
        return self.x, self.y

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        del state


class MiniBatch(Batches):
    """Epochs over the samples in an order that is drawn anew for each; the last batch may be smaller."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, batch: int, generator: torch.Generator) -> None:
        self.x, self.y, self.batch, self.generator = x, y, batch, generator
        self.position = x.shape[0]
        self.order = torch.arange(x.shape[0])

    def next(self) -> Batch:
        if self.position >= self.x.shape[0]:
            self.order = torch.randperm(self.x.shape[0], generator=self.generator)
            self.position = 0
        chosen = self.order[self.position : self.position + self.batch].to(self.x.device)
        self.position += self.batch
        return self.x[chosen], self.y[chosen]

    def state(self) -> State:
        return {
            "generator": self.generator.get_state(),
            "order": self.order.clone(),
            "position": torch.tensor(self.position),
        }

    def restore(self, state: State) -> None:
        self.generator.set_state(state["generator"])
        self.order = state["order"].clone()
        self.position = int(state["position"])


def resolved_sampling(task: Task, config: TrainConfig) -> str:
    """``fresh``, ``minibatch`` or ``full``; raises :class:`InputError` where the task cannot do it."""
    population = task.data is None
    sampling = config.sampling if config.sampling != "auto" else ("fresh" if population else "minibatch")
    if sampling == "fresh" and not population:
        raise InputError(f"task {task.name!r} is a fixed data set: use sampling minibatch or full, not fresh")
    if sampling != "fresh" and population and config.samples is None:
        raise InputError(f"task {task.name!r} is a population: sampling {sampling} needs a number of samples")
    if config.samples is not None and (not population or sampling == "fresh"):
        raise InputError(f"samples = {config.samples} has no effect with task {task.name!r} and sampling {sampling}")
    return sampling


def make_batches(
    task: Task, config: TrainConfig, generator: Callable[[str], torch.Generator], like: torch.Tensor
) -> Batches:
    """The stream that ``config`` asks for, on the device and in the dtype of ``like``.

    ``generator(purpose)`` gives a seeded generator of its own for each purpose.
    """
    sampling = resolved_sampling(task, config)
    if sampling == "fresh":
        return FreshGaussian(task, config, generator("batches"), like)
    if task.data is None:
        drawn = torch.randn(
            (config.samples or 0, task.inputs),
            generator=generator("samples"),
            dtype=like.dtype,
            device=like.device,
        )
        x, y = drawn, task.target(drawn)
    else:
        x, y = (torch.from_numpy(part).to(like) for part in checked_data(task))
    x = with_ones(x, config.bias).contiguous()
    return FullBatch(x, y) if sampling == "full" else MiniBatch(x, y, config.batch, generator("order"))
