"""The coordinate check: typical sizes in the network after t updates at one learning rate, for one width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparsemf.activations import torch_ops
from sparsemf.training.batches import data_of, with_ones
from sparsemf.training.config import TrainConfig
from sparsemf.training.randomness import Stream, normals
from sparsemf.training.scaling_laws import QUANTITIES
from sparsemf.training.system import System
from sparsemf.training.task import Task

Array = NDArray[np.float64]


class Interrupted(Exception):
    """The caller asked to stop; what was under way is dropped."""


@dataclass(frozen=True)
class Coordinates:
    """Root mean squares of :data:`~sparsemf.training.scaling_laws.QUANTITIES` for one width.

    ``sizes[quantity]`` has shape (times, seeds).  z, σ(z), f and their changes are taken over the probe inputs, the
    particles and the outputs; Δa and Δw relative to the root mean square at t = 0.
    """

    parametrisation: str
    width: int
    step_size: float
    times: tuple[int, ...]
    sizes: dict[str, Array]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; numbers that are not finite (a run that diverged) become null."""
        return {
            "parametrisation": self.parametrisation,
            "width": self.width,
            "step_size": self.step_size,
            "times": list(self.times),
            "sizes": {name: values.tolist() for name, values in self.sizes.items()},
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Coordinates:
        sizes = {name: np.asarray(values["sizes"][name], dtype=np.float64) for name in QUANTITIES}
        return cls(values["parametrisation"], values["width"], values["step_size"], tuple(values["times"]), sizes)


def coordinate_times(steps: int) -> tuple[int, ...]:
    """0, 1, 2, 4, 8, … and ``steps``."""
    doubled = (1 << i for i in range(steps.bit_length()))
    return tuple(sorted({0, steps, *(t for t in doubled if t <= steps)}))


def probe_inputs(task: Task, config: TrainConfig, probes: int, like: torch.Tensor) -> torch.Tensor:
    """x̃ (P, k): Gaussian inputs of a population task, else P rows spread over the data set."""
    if task.data is None:
        x = like.new_empty(probes, task.inputs)
        normals(config.seed, Stream.PROBE, 0, 0, x)
    else:
        x, _ = data_of(task, config, like)
        rows = np.unique(np.linspace(0, x.shape[0] - 1, probes).astype(int))
        x = x[torch.from_numpy(rows).to(x.device)]
    return with_ones(x, config.bias)


def coordinate_check(
    task: Task,
    config: TrainConfig,
    seeds: int,
    times: Sequence[int],
    probes: int,
    device: torch.device,
    interrupt: Callable[[], bool] | None = None,
) -> Coordinates:
    """Sizes after ``times`` updates of ``config`` with seeds ``config.seed`` … + ``seeds`` − 1, in float64.

    The changes Δz and Δf are far smaller than z and f where a parametrisation is lazy, hence the precision.  Raises
    :class:`Interrupted` when ``interrupt`` answers True.
    """
    config = replace(config, precision="float64", compute="float32")
    system = System(task, [replace(config, seed=config.seed + s) for s in range(seeds)], device)
    system.start()
    x = probe_inputs(task, config, probes, system.like)
    start = system.particles.outer.clone(), system.particles.inner.clone(), system.predict(x)
    rows: dict[str, list[Array]] = {name: [] for name in QUANTITIES}
    for t in times:
        while system.step < t:
            if interrupt is not None and interrupt():
                raise Interrupted
            system.advance()
        for name, values in _sizes(system, x, *start).items():
            rows[name].append(values)
    sizes = {name: np.stack(values) for name, values in rows.items()}
    return Coordinates(config.parametrisation, config.width, config.step_size.initial, tuple(times), sizes)


def _sizes(
    system: System, x: torch.Tensor, outer: torch.Tensor, inner: torch.Tensor, f: torch.Tensor
) -> dict[str, Array]:
    """Each quantity (seeds,), from the state and the one at t = 0; blocked over particles."""
    p, ops = system.particles, torch_ops()
    columns = max(1, system.config.block // x.shape[0])
    sums = torch.zeros(3, p.replicas, dtype=torch.float64)
    for r in range(p.replicas):
        for begin in range(0, p.count, columns):
            w, w0 = p.inner[r, begin : begin + columns], inner[r, begin : begin + columns]
            z = x @ w.T
            sums[0, r] += float(z.square().sum())
            # x·(w − w₀), not a difference of two z: Δw may be tiny
            sums[1, r] += float((x @ (w - w0).T).square_().sum())
            sums[2, r] += float(system.activation.value(z, ops).square().sum())
    z, dz, activation = (sums / (x.shape[0] * p.count)).sqrt().numpy()
    now = system.predict(x)
    found = {
        "z": z,
        "dz": dz,
        "activation": activation,
        "f": _rms(now),
        "df": _rms(now - f),
        "da": _rms(p.outer - outer) / _rms(outer),
        "dw": _rms(p.inner - inner) / _rms(inner),
    }
    return {name: found[name] for name in QUANTITIES}


def _rms(values: torch.Tensor) -> Array:
    """Root mean square of each replica."""
    return values.flatten(1).square().mean(dim=1).sqrt().cpu().numpy()
