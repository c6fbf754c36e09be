"""What a record tells of a run besides its loss: test figures, the balance of energies, energy and entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from sparsemf.exceptions import InputError
from sparsemf.training.batches import data_of, with_ones
from sparsemf.training.config import TrainConfig
from sparsemf.training.free_energy import NEIGHBOURS, energy_terms, subsample_indices
from sparsemf.training.randomness import Stream, normals
from sparsemf.training.ranks import Ranks
from sparsemf.training.records import energy_balance
from sparsemf.training.system import System
from sparsemf.training.task import Task

ENTROPY_SAMPLE = 512
"""Particles whose distances give the entropy of a record: a few milliseconds."""


class Observables:
    """Figures of a system's replicas, on a fixed test set: ``test_samples`` inputs of a population, else the data."""

    def __init__(self, task: Task, configs: Sequence[TrainConfig], system: System, ranks: Ranks) -> None:
        self.task, self.configs, self.config, self.system, self.ranks = task, configs, configs[0], system, ranks
        self.test_x, self.test_y = self._test_set()

    def _test_set(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Fixed Gaussian inputs with noise-free labels, or all samples of a data set."""
        like = self.system.like
        if self.task.data is not None:
            x, y = data_of(self.task, self.config, like)
            return with_ones(x, self.config.bias), y
        if not self.system.loss.regression:
            raise InputError(
                f"loss {self.config.loss}: expected a data set with labels; task {self.task.name!r} has real values"
            )
        x = like.new_empty(self.config.test_samples, self.task.inputs)
        normals(self.config.seed, Stream.TEST, 0, 0, x)
        return with_ones(x, self.config.bias), self.task.target(x)

    def test_figures(self) -> list[dict[str, float | None]]:
        """risk, rel_error and accuracy on the test set, for each replica."""
        system, y = self.system, self.test_y
        rows = max(1, (1 << 16) // max(1, len(self.configs) * self.task.outputs))
        sums = torch.zeros(3, len(self.configs), dtype=torch.float64)
        for start in range(0, self.test_x.shape[0], rows):
            f = system.predict(self.test_x[start : start + rows])
            labels = y[start : start + rows]
            sums[0] += (f - labels).double().square().sum(dim=(1, 2)).cpu()
            if not system.loss.regression:
                sums[1] += _correct(f, labels, self.config.loss).cpu()
            sums[2] += system.loss.residual_(f.double(), labels.double()).cpu()
        samples = self.test_x.shape[0]
        size = float(y.double().square().sum())
        figures: list[dict[str, float | None]] = []
        for error, correct, loss in sums.T.tolist():
            relative = math.sqrt(error / size) if size > 0 else math.sqrt(error / samples)
            regression = system.loss.regression
            figures.append(
                {
                    "risk": loss / samples,
                    "rel_error": relative if regression else None,
                    "accuracy": None if regression else correct / samples,
                }
            )
        return figures

    def balance(self, r: int) -> dict[str, float | None]:
        """drift, noise and their balance before the next step; no balance where no law is stated."""
        system, config = self.system, self.configs[r]
        p = system.particles
        rates = system.rates(system.step)[r]
        moving = slice(p.outputs if config.outer == "fixed" else 0, None)

        def of(flat: torch.Tensor) -> torch.Tensor:
            outer, inner = p.split(flat)
            return torch.cat([outer[r], inner[r]], dim=1)[:, moving]

        velocity = system.integrator.tensors.get("velocity")
        figures: dict[str, float | None] = dict(
            energy_balance(
                of(p.flat),
                of(system.gradient),
                p.width,
                *rates,
                total=self.ranks.sum_,
                velocity=None if velocity is None else (of(velocity), config.friction),
            )
        )
        if config.integrator == "adam" or config.parametrisation != "mean-field":
            figures["balance"] = None
        return figures

    def energies(
        self, r: int, risk: float, weight_decay: float, temperature: float, m2: float
    ) -> dict[str, float | None]:
        """energy, entropy and free_energy, the entropy from a fixed subsample of the particles."""
        p = self.system.particles
        chosen = torch.from_numpy(subsample_indices(p.width, ENTROPY_SAMPLE))
        start, count = self.ranks.share(p.width)
        here = (chosen >= start) & (chosen < start + count)
        own = (chosen[here] - start).to(p.flat.device)
        outer = p.outer[r][own] if self.config.outer != "fixed" else p.outer[r][own][:, :0]
        points = torch.zeros(chosen.numel(), outer.shape[1] + p.columns, dtype=torch.float64)
        points[here] = torch.cat([outer, p.inner[r][own]], dim=1).double().cpu()
        points = self.ranks.sum_(points).numpy()
        if points.shape[0] <= NEIGHBOURS or not np.isfinite(points).all():
            return {"energy": risk + 0.5 * weight_decay * m2, "entropy": None, "free_energy": None}
        found = energy_terms(points, risk, weight_decay, temperature, m2=m2)
        return {"energy": found.energy, "entropy": found.entropy, "free_energy": found.free_energy}


def _correct(f: torch.Tensor, y: torch.Tensor, loss: str) -> torch.Tensor:
    """Samples (logistic: mean over the entries) on the right side, for each replica."""
    if loss == "softmax":
        return (f.argmax(dim=-1) == y.argmax(dim=-1)).double().sum(dim=-1)
    return ((f > 0) == (y > 0.5)).double().mean(dim=-1).sum(dim=-1)
