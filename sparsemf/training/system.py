"""R replicas that move together: particles, samples, gradient and integrator, without files.

Replicas have the same configuration but for seed, first particle, step size, temperature and weight decay; each one is
the run that its configuration would be alone, up to the rounding of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch

from sparsemf.activations import get
from sparsemf.exceptions import InputError
from sparsemf.training.batches import Batch, Batches, make_batches
from sparsemf.training.config import TrainConfig
from sparsemf.training.gradient import MeanFieldGradient
from sparsemf.training.integrators import INTEGRATORS, Rates, multipliers_of
from sparsemf.training.losses import loss_named
from sparsemf.training.particles import Particles
from sparsemf.training.ranks import ALONE, Ranks
from sparsemf.training.task import Task

OWN = ("seed", "first_particle", "step_size", "temperature", "weight_decay")
"""What may differ between replicas."""


class System:
    """The state of R replicas after ``step`` updates."""

    def __init__(self, task: Task, configs: Sequence[TrainConfig], device: torch.device, ranks: Ranks = ALONE) -> None:
        if not configs:
            raise InputError("replicas: expected at least one configuration")
        for name in (f.name for f in fields(TrainConfig) if f.name not in OWN):
            if len({getattr(c, name) for c in configs}) > 1:
                raise InputError(f"replicas: expected one {name} for all; only {', '.join(OWN)} may differ")
        self.task, self.configs, self.config, self.ranks = task, list(configs), configs[0], ranks
        self.device = device
        self.like = torch.empty(0, dtype=getattr(torch, self.config.precision), device=device)
        self.activation = get(self.config.activation)
        self.particles = Particles(configs, task.outputs, task.inputs, self.like, ranks)
        self.gradient = torch.empty_like(self.particles.flat)
        self.grad_outer, self.grad_inner = self.particles.split(self.gradient)
        self.loss = loss_named(self.config.loss, self.config.huber_delta)
        self.risk = MeanFieldGradient(
            self.activation,
            self.config.block,
            self.loss,
            compute=self.config.compute,
            reduce=None if ranks.count == 1 else ranks.sum_,
            width=self.config.width,
        )
        self.batches = self._streams()
        self.integrator = INTEGRATORS[self.config.integrator](self.particles, self.config, multipliers_of(self.config))
        self.anchor = torch.zeros_like(self.particles.flat) if self.config.anchor_every else None
        self._anchor_gradient: torch.Tensor | None = None
        self.step = 0
        self._rates: list[Rates] | None = None
        if not any(getattr(c, name).moves_after(0.0) for c in configs for name in OWN[2:]):
            self._rates = self.rates(0)
        self._evaluated_at: int | None = None
        self._losses = torch.zeros(len(configs), dtype=self.like.dtype, device=device)

    def _streams(self) -> list[Batches]:
        """One stream where all replicas see the same samples, else one for each seed."""
        shared = self.config.sampling == "full" and self.task.data is not None
        if shared or len({c.seed for c in self.configs}) == 1:
            return [make_batches(self.task, self.config, self.like)]
        own = {c.seed: c for c in self.configs}
        streams = {seed: make_batches(self.task, c, self.like) for seed, c in own.items()}
        return [streams[c.seed] for c in self.configs]

    def start(self) -> None:
        """The initial state of step 0."""
        self.particles.initialise(self.configs)
        self.integrator.start(self.rates(0))

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The whole state beside ``step``: tensors shaped like ``particles.flat``."""
        own = {"particles": self.particles.flat, **self.integrator.tensors}
        return own if self.anchor is None else own | {"anchor": self.anchor}

    def state(self) -> dict[str, torch.Tensor]:
        """Copies of :attr:`tensors` on the CPU, of all ranks together."""
        return {name: self.particles.gathered(flat) for name, flat in self.tensors.items()}

    def restore(self, state: dict[str, torch.Tensor], step: int) -> None:
        """The inverse of :meth:`state`; raises KeyError or RuntimeError when it does not fit."""
        for name, flat in self.tensors.items():
            self.particles.scatter_(flat, state[name])
        self.step, self._evaluated_at, self._anchor_gradient = step, None, None

    def rates(self, step: int) -> list[Rates]:
        """(η, τ, λ) of update ``step``, for each replica."""
        if self._rates is not None:
            return self._rates
        return [
            (c.step_size.at(step, c.steps), c.temperature.at(step, c.steps), c.weight_decay.at(step, c.steps))
            for c in self.configs
        ]

    def batch(self, step: int) -> Batch:
        """x̃ (R or 1, B, k) and y (R or 1, B, m) of update ``step``."""
        drawn = {stream: stream.at(step) for stream in dict.fromkeys(self.batches)}
        return _stacked([drawn[stream] for stream in self.batches])

    def losses(self) -> torch.Tensor:
        """R_N (R,) on the next update's own batch; ``gradient`` then holds the estimate of N∇R_N there."""
        if self._evaluated_at != self.step:
            self._losses = self._evaluate(self.step)
            self._evaluated_at = self.step
        return self._losses

    def advance(self) -> None:
        """One update."""
        self.losses()
        step = self.step
        # what the integrator evaluates at the end of its step is the first evaluation of the next one
        self.step += 1
        self._evaluated_at = None
        self.integrator.update(step, self.rates(step), self.gradient, self._gradient_now)

    def _gradient_now(self) -> torch.Tensor:
        self.losses()
        return self.gradient

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """f (R, B, m) at x̃ (B, k)."""
        p = self.particles
        return self.risk.predict(p.weights(), p.inner, x.unsqueeze(0))

    def _evaluate(self, step: int) -> torch.Tensor:
        p = self.particles
        batch = self.batch(step)
        if self.anchor is None:
            return self._gradient_at(p.flat, batch, self.gradient)
        if step % self.config.anchor_every == 0:
            self.anchor.copy_(p.flat)
            self._anchor_gradient = None
        if self._anchor_gradient is None:
            everything = [stream.everything() for stream in self.batches]
            self._anchor_gradient = torch.empty_like(p.flat)
            self._gradient_at(self.anchor, _stacked([b for b in everything if b is not None]), self._anchor_gradient)
        losses = self._gradient_at(self.anchor, batch, self.gradient)
        correction = self._anchor_gradient - self.gradient
        losses = self._gradient_at(p.flat, batch, self.gradient)
        self.gradient += correction
        return losses

    def _gradient_at(self, flat: torch.Tensor, batch: Batch, out: torch.Tensor) -> torch.Tensor:
        """R_N (R,) and, in ``out``, N∇R_N in the trained coordinates."""
        p = self.particles
        outer, inner = p.split(flat)
        grad_outer, grad_inner = p.split(out)
        if p.bound is None:
            losses = self.risk(outer, inner, *batch, grad_outer, grad_inner)
        else:
            part = torch.tanh(outer / p.bound)
            losses = self.risk(part * p.bound, inner, *batch, grad_outer, grad_inner)
            grad_outer.mul_(1.0 - part.square_())
        if self.config.outer == "fixed":
            grad_outer.zero_()
        return losses


def _stacked(batches: list[Batch]) -> Batch:
    x, y = zip(*batches, strict=True)
    if len(batches) == 1:
        return x[0].unsqueeze(0), y[0].unsqueeze(0)
    return torch.stack(x), torch.stack(y)
