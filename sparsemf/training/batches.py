"""Where a step's samples come from: fresh Gaussian inputs, reshuffled epochs, or all samples.

Batch number ``step`` is a function of (seed, step): nothing has to be stored to continue a stream.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from sparsemf.exceptions import InputError
from sparsemf.training.config import TrainConfig
from sparsemf.training.losses import loss_named
from sparsemf.training.randomness import Stream, normals, permutation
from sparsemf.training.task import Task, checked_data

Batch = tuple[torch.Tensor, torch.Tensor]


def with_ones(x: torch.Tensor, bias: bool) -> torch.Tensor:
    """x̃ = (x, 1) when the student has biases, else x."""
    return torch.cat([x, x.new_ones(x.shape[0], 1)], dim=1) if bias else x


class Batches(ABC):
    """A stream of (x̃, y)."""

    @abstractmethod
    def at(self, step: int) -> Batch:
        """The samples of update ``step``: x̃ (B, k), y (B, m)."""

    def everything(self) -> Batch | None:
        """All samples, where there are finitely many."""
        return None


class FreshGaussian(Batches):
    """New x ~ N(0, I_d) every step: the gradient is unbiased for the population risk."""

    def __init__(self, task: Task, config: TrainConfig, like: torch.Tensor) -> None:
        self.task, self.config, self.like = task, config, like

    def at(self, step: int) -> Batch:
        x = self.like.new_empty(self.config.batch, self.task.inputs)
        normals(self.config.seed, Stream.BATCH, step, 0, x)
        return with_ones(x, self.config.bias), self.task.target(x)


class FullBatch(Batches):
    """Every sample in every step: the noise of the update is the temperature's alone."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x, self.y = x, y

    def at(self, step: int) -> Batch:
        del step
        return self.x, self.y

    def everything(self) -> Batch:
        return self.x, self.y


class MiniBatch(Batches):
    """Epochs over the samples in an order that is drawn anew for each; the last batch may be smaller."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor, batch: int, seed: int) -> None:
        self.x, self.y, self.batch, self.seed = x, y, batch, seed
        self.epoch = -1
        self.order = torch.arange(0)

    def at(self, step: int) -> Batch:
        samples = self.x.shape[0]
        epoch, place = divmod(step, -(-samples // self.batch))
        if epoch != self.epoch:
            self.epoch, self.order = epoch, permutation(self.seed, epoch, samples)
        chosen = self.order[place * self.batch : (place + 1) * self.batch].to(self.x.device)
        return self.x[chosen], self.y[chosen]

    def everything(self) -> Batch:
        return self.x, self.y


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
    if config.anchor_every and sampling != "minibatch":
        raise InputError(
            f"anchor_every = {config.anchor_every}: the control variate is for sampling minibatch, not {sampling}"
        )
    return sampling


def make_batches(task: Task, config: TrainConfig, like: torch.Tensor) -> Batches:
    """The stream that ``config`` asks for, on the device and in the dtype of ``like``."""
    sampling = resolved_sampling(task, config)
    if sampling == "fresh":
        return FreshGaussian(task, config, like)
    if task.data is None:
        drawn = like.new_empty(config.samples or 0, task.inputs)
        normals(config.seed, Stream.SAMPLES, 0, 0, drawn)
        x, y = drawn, task.target(drawn)
    else:
        x, y = data_of(task, config, like)
    x = with_ones(x, config.bias).contiguous()
    return FullBatch(x, y) if sampling == "full" else MiniBatch(x, y, config.batch, config.seed)


def data_of(task: Task, config: TrainConfig, like: torch.Tensor) -> Batch:
    """The (X, y) of a data set, y as the loss reads it."""
    x, y = checked_data(task)
    y = loss_named(config.loss, config.huber_delta).labels(y)
    return torch.from_numpy(x).to(like), torch.from_numpy(y).to(like)
