"""Propagation of chaos, measured: N particles against the N_ref ≫ N they are coupled with.

Particle i of system j of width N starts where particle jN + i of the reference starts and has its noise, which is a
function of (seed, step, particle) alone (:mod:`~.randomness`); all see the same batches.  So one reference holds
R = N_ref/N coupled systems of every width, replicas of one :class:`~.system.System`.  Measured are

    E‖X_i − Y_i‖²   (mean over the particles of all systems; X_i ∈ R^D moves with N others, Y_i with N_ref), and
    ‖f_N − f_ref‖²  (mean over the systems; the L² norm of the inputs, all outputs together).

The W₂ distance of the empirical measure itself is not among them: it is of order N^{−1/D} whatever the dynamics.

**Both are proportional to δ = 1/N − 1/N_ref, to leading order**, and in the linear scalar model exactly.  Proof.  Let
X_i′ = (1 − ηκ)X_i − η(aX̄ − b) + √(2τη)ξ_i with X̄ the mean over the system, and Y_i the same with the mean Ȳ over
all N_ref.  For e = X̄ − Ȳ and D_i = X_i − Y_i, with r = a + κ, ρ = 1 − ηr and α = 1 − ηκ,

    e′ = ρe + √(2τη)(ξ̄_N − ξ̄_ref),        D_i′ = αD_i − ηa e,        D_i(0) = 0.

The N particles are among the N_ref: Cov(ξ̄_N, ξ̄_ref) = Var ξ̄_ref = 1/N_ref, hence Var(ξ̄_N − ξ̄_ref) is
1/N − 1/N_ref = δ, and likewise Var e(0) = σ₀²δ.  e is linear in these and D_i is linear in e, so that E e² = δv and
E D_i² = δu with v and u free of N: v′ = ρ²v + 2τη, v(0) = σ₀²; with c = E[D_i e]/δ, c′ = ρ(αc − ηav) and
u′ = α²u − 2αηac + η²a²v, both from 0.  In the limit of long times

    v = τ/(r(1 − ηr/2)),        u = η²a²v(1 + αρ)/((1 − αρ)(1 − α²)),

and for η → 0 (v, u) → (τ/r, a²τ/(rκ(κ + r))).  Two slices of one reference have Cov(e_j, e_l) = −v/N_ref: systems
of one reference are not independent (:mod:`~.chaos_slopes` counts them).  In general D_i solves a linear equation
driven by the fluctuations of such slices, up to terms that are quadratic in them, which is why δ is only the
leading order.

**The random initialisation** alone gives E‖f_N − f_ref‖²(0) = δ·E_x Var(aσ(⟨w, x⟩)).  It is no failure of
propagation: it is the fluctuation of N independent draws, forgotten as the system relaxes (σ₀²ρ^{2t}δ above).  It is
reported apart, with that prediction from the sample variance of the reference, and t = 0 is no time of the grid.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparsemf.activations import torch_ops
from sparsemf.exceptions import InputError
from sparsemf.training import chaos_store
from sparsemf.training.batches import data_of, resolved_sampling, with_ones
from sparsemf.training.chaos_result import Chaos
from sparsemf.training.config import TrainConfig
from sparsemf.training.devices import device_of, torch_threads
from sparsemf.training.randomness import Stream, normals
from sparsemf.training.system import System
from sparsemf.training.task import Task, describe
from sparsemf.training.trainer import Diverged

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Called with the particle updates done and those of the whole experiment."""

_ROWS = 1 << 20
"""Numbers compared at a time."""


class _Interrupted(Exception):
    """Raised in the middle of a sweep."""


def time_grid(steps: int, count: int) -> list[int]:
    """At most ``count`` times from 1 to ``steps``, in nearly geometric progression."""
    if steps < 1 or count < 1:
        raise InputError(f"times: expected at least one step and one time, got {steps} and {count}")
    found = [steps]
    # early times coincide after rounding: more of them are tried until as many as asked for are distinct
    for tried in range(2, 8 * count):
        grid = sorted({round(steps ** (k / (tried - 1))) for k in range(tried)})
        if len(grid) > count:
            break
        found = grid
    return found


def propagation_of_chaos(
    task: Task,
    config: TrainConfig,
    widths: Sequence[int],
    reference: int,
    seeds: Sequence[int],
    times: Sequence[int],
    *,
    systems: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    interrupt: Callable[[], bool] | None = None,
) -> Chaos:
    """Couple systems of every width with one reference for each seed and compare them at ``times``.

    Parameters
    ----------
    config :
        Mean-field parametrisation; width and first_particle are not used.  With a population task and sampling full or
        minibatch, ``samples`` are drawn once, from ``config.seed``: the references differ in initial values, noise and
        order of the batches.  Population norms are means over ``test_samples`` inputs of ``config.seed``.
    widths, reference :
        Every N ≤ N_ref; N_ref itself gives distance 0.
    seeds :
        One independent reference each.
    times :
        Updates after which the systems are compared, increasing, from 1 on; the last one ends the run.
    systems :
        At most so many systems of a reference for each width, its first ones; all that fit by default.
    out :
        Folder for chaos.safetensors, replaced after each width of each seed.
    resume :
        Continue from it; everything else must be what it was.  The numbers are the uninterrupted ones.
    interrupt :
        Asked after every update; when it answers True the experiment ends with what is finished.

    Memory: particles of one reference and one width, and the reference at T times, N_ref·D numbers each.

    Raises
    ------
    InputError
        On sizes that do not fit, or a folder that holds another experiment, or none to resume.
    Diverged
        When a distance is not finite.
    """
    experiment = _begin(task, config, widths, reference, seeds, times, systems)
    folder = None if out is None else Path(out)
    if folder is not None:
        experiment = chaos_store.opened(folder, experiment, resume)
    elif resume:
        raise InputError("resume: expected the folder of an experiment")
    if experiment.status == "complete":
        return experiment
    with torch_threads(config.threads or torch.get_num_threads()):
        return _Runner(task, experiment, folder, progress, interrupt).run()


def _begin(
    task: Task,
    config: TrainConfig,
    widths: Sequence[int],
    reference: int,
    seeds: Sequence[int],
    times: Sequence[int],
    systems: int | None,
) -> Chaos:
    """The experiment before its first step; everything is checked here."""
    if config.parametrisation != "mean-field":
        raise InputError(f"chaos: expected parametrisation mean-field, got {config.parametrisation}: it has no limit")
    if not widths or list(widths) != sorted(set(widths)) or widths[0] < 1 or widths[-1] > reference:
        raise InputError(
            f"widths: expected increasing numbers from 1 to the reference {reference}, got {_listed(widths)}"
        )
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds: expected different numbers, at least one, got {_listed(seeds)}")
    if not times or list(times) != sorted(set(times)) or times[0] < 1 or times[-1] > config.steps:
        raise InputError(f"times: expected increasing steps from 1 to {config.steps}, got {_listed(times)}")
    if systems is not None and systems < 1:
        raise InputError(f"systems: expected at least 1, got {systems}")
    resolved_sampling(task, config)
    count = len(seeds), len(widths), len(times)
    return Chaos(
        config=replace(config, width=reference, first_particle=0),
        task=describe(task),
        widths=tuple(int(n) for n in widths),
        systems=tuple(min(reference // n, systems or reference) for n in widths),
        reference=reference,
        seeds=tuple(int(s) for s in seeds),
        times=tuple(int(t) for t in times),
        coupled=np.full(count, np.nan),
        function=np.full((count[0], count[1], count[2] + 1), np.nan),
        size=np.full((count[0], count[2] + 1), np.nan),
        spread=np.full(count[0], np.nan),
    )


def _listed(values: Sequence[int]) -> str:
    return ",".join(map(str, values)) or "none"


class _Runner:
    """Fills the arrays of an experiment, one seed after the other."""

    def __init__(
        self,
        task: Task,
        experiment: Chaos,
        folder: Path | None,
        progress: Progress | None,
        interrupt: Callable[[], bool] | None,
    ) -> None:
        self.experiment, self.folder, self.progress, self.interrupt = experiment, folder, progress, interrupt
        self.config = experiment.config
        self.device = device_of(self.config.device)
        self.like = torch.empty(0, dtype=getattr(torch, self.config.precision), device=self.device)
        x = self._inputs(task)
        self.task, self.config = _drawn_once(task, self.config)
        self.x = with_ones(x, self.config.bias)
        self.steps = experiment.times[-1]
        self.sweeps = [experiment.reference] + [
            n * r for n, r in zip(experiment.widths, experiment.systems, strict=True)
        ]
        self.total = len(experiment.seeds) * self.steps * sum(self.sweeps)
        self.done = 0

    def _inputs(self, task: Task) -> torch.Tensor:
        """The inputs that the norm of functions averages over."""
        if task.data is not None:
            return data_of(task, self.config, self.like)[0]
        drawn = self.like.new_empty(self.config.test_samples, task.inputs)
        return normals(self.config.seed, Stream.TEST, 0, 0, drawn)

    def run(self) -> Chaos:
        begin = time.perf_counter()
        kept = self.experiment
        spent = kept.seconds
        for s, seed in enumerate(kept.seeds):
            missing = [k for k in range(len(kept.widths)) if not np.isfinite(kept.coupled[s, k]).all()]
            self._advanced(self.steps * sum(n for k, n in enumerate(self.sweeps[1:]) if k not in missing))
            if not missing:
                self._advanced(self.steps * self.sweeps[0])
                continue
            try:
                snapshots = self._reference(s, seed)
                for k in missing:
                    self._width(s, k, seed, snapshots)
                    # the time that is stored is the one that is told, so that a finished experiment reads as it was
                    spent = kept.seconds + time.perf_counter() - begin
                    self._save(spent)
            except _Interrupted:
                break
        return replace(kept, seconds=spent)

    def _system(self, seed: int, width: int, systems: int) -> System:
        base = replace(self.config, seed=seed, width=width)
        return System(self.task, [replace(base, first_particle=j * width) for j in range(systems)], self.device)

    def _sweep(self, system: System) -> Iterator[int]:
        """Yields at step 0 and at every time of the grid."""
        particles = system.particles.replicas * system.particles.width
        system.start()
        yield 0
        grid = set(self.experiment.times)
        for step in range(1, self.steps + 1):
            system.advance()
            self._advanced(particles)
            if self.interrupt is not None and self.interrupt():
                raise _Interrupted
            if step in grid:
                yield step

    def _reference(self, s: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """(outer, inner, f) of the reference at step 0 and at every time."""
        kept = self.experiment
        system = self._system(seed, kept.reference, 1)
        snapshots = []
        for t, step in enumerate(self._sweep(system)):
            if step == 0:
                kept.spread[s] = _spread(system, self.x)
            p = system.particles
            snapshots.append((p.outer[0].clone(), p.inner[0].clone(), system.predict(self.x)[0]))
            kept.size[s, t] = self._finite(_mean_square(snapshots[-1][2]), seed, kept.reference, step)
        return snapshots

    def _width(
        self, s: int, k: int, seed: int, snapshots: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    ) -> None:
        kept = self.experiment
        width, systems = kept.widths[k], kept.systems[k]
        system = self._system(seed, width, systems)
        p = system.particles
        coupled, function = np.empty(len(kept.times) + 1), np.empty(len(kept.times) + 1)
        for t, step in enumerate(self._sweep(system)):
            outer, inner, f = snapshots[t]
            total = width * systems
            moved = _squares(p.outer.flatten(0, 1), outer[:total]) + _squares(p.inner.flatten(0, 1), inner[:total])
            coupled[t] = self._finite(moved / total, seed, width, step)
            function[t] = self._finite(self._function_distance(system, f), seed, width, step)
        kept.coupled[s, k], kept.function[s, k] = coupled[1:], function

    def _function_distance(self, system: System, f: torch.Tensor) -> float:
        """Mean over systems and inputs of ‖f_N − f‖², a block of inputs at a time."""
        systems, outputs = system.particles.replicas, system.particles.outputs
        rows = max(1, _ROWS // (systems * outputs))
        total = 0.0
        for start in range(0, self.x.shape[0], rows):
            own = system.predict(self.x[start : start + rows])
            total += float((own - f[start : start + rows]).double().square().sum())
        return total / (systems * self.x.shape[0])

    def _finite(self, value: float, seed: int, width: int, step: int) -> float:
        if math.isfinite(value):
            return value
        rate = self.config.step_size.initial
        raise Diverged(
            f"width {width}, seed {seed}: particles are not finite at step {step}; "
            f"take a smaller step size (now {rate:g}, try {rate / 8:g})"
        )

    def _advanced(self, particle_updates: int) -> None:
        self.done += particle_updates
        if self.progress is not None:
            self.progress(self.done, self.total)

    def _save(self, seconds: float) -> None:
        if self.folder is not None:
            chaos_store.write(self.folder, replace(self.experiment, seconds=seconds))


def _squares(a: torch.Tensor, b: torch.Tensor) -> float:
    """Σ (a − b)² of (n, k), summed in double precision, a block of rows at a time."""
    rows = max(1, _ROWS // max(1, a.shape[1]))
    return sum(
        float((a[start : start + rows] - b[start : start + rows]).double().square().sum())
        for start in range(0, a.shape[0], rows)
    )


def _mean_square(f: torch.Tensor) -> float:
    """‖f‖² from its values (B, m)."""
    return float(f.double().square().sum()) / f.shape[0]


def _spread(system: System, x: torch.Tensor) -> float:
    """E_x Σ_outputs Var(aσ(⟨w̃, x̃⟩)) over the particles, unbiased; blocks of particles."""
    p = system.particles
    outer, inner, ops = p.weights()[0], p.inner[0], torch_ops()
    count, rows = outer.shape[0], max(1, _ROWS // x.shape[0])
    first = outer.new_zeros(x.shape[0], outer.shape[1], dtype=torch.float64)
    second = torch.zeros_like(first)
    for start in range(0, count, rows):
        value = system.activation.value(x @ inner[start : start + rows].T, ops).double()
        a = outer[start : start + rows].double()
        first += value @ a
        second += value.square() @ a.square()
    variance = (second - first.square() / count) / max(count - 1, 1)
    return float(variance.sum()) / x.shape[0]


@dataclass(frozen=True)
class _Drawn:
    """A population task seen through samples drawn once."""

    name: str
    inputs: int
    outputs: int
    parameters: Mapping[str, Any]
    activation: str | None
    data: tuple[Array, Array]
    teacher: None = None

    def target(self, x: torch.Tensor, /) -> torch.Tensor:
        raise NotImplementedError(f"task {self.name!r} was drawn once; it has samples only")


def _drawn_once(task: Task, config: TrainConfig) -> tuple[Task, TrainConfig]:
    """The same samples for all seeds, where ``config`` asks for a fixed set of a population."""
    if task.data is not None or resolved_sampling(task, config) == "fresh":
        return task, config
    x = torch.empty(config.samples or 0, task.inputs, dtype=getattr(torch, config.precision))
    normals(config.seed, Stream.SAMPLES, 0, 0, x)
    data = (x.double().numpy(), task.target(x).double().numpy())
    drawn = _Drawn(task.name, task.inputs, task.outputs, task.parameters, task.activation, data)
    return drawn, replace(config, samples=None)
