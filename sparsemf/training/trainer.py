"""Noisy gradient descent in the mean-field scaling: the loop.

θ_i ← θ_i − η(N∇_{θ_i}R_N + λθ_i) + √(2τη) ξ_i,   R_N = ½ E‖(1/N) Σ_i a_i σ(⟨w_i, x⟩ + b_i) − y‖²

With constant η → 0, τ and λ its law is exp(−(N/τ)R_N − (λ/2τ) Σ‖θ_i‖²) (docs/training).
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from sparsemf.activations import get, torch_ops
from sparsemf.atomic import header, write_json
from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.training.batches import make_batches, resolved_sampling, with_ones
from sparsemf.training.config import TrainConfig
from sparsemf.training.gradient import CACHED, MeanFieldGradient
from sparsemf.training.particles import Particles, langevin_step
from sparsemf.training.records import Record, energy_balance, moments
from sparsemf.training.stationarity import Stationarity, diagnose
from sparsemf.training.store import (
    DOCUMENT,
    MEASURE,
    METRICS,
    STATE,
    MetricsFile,
    StoredRun,
    read_records,
    stored_run,
    write_measure,
    write_state,
)
from sparsemf.training.task import Task, checked_data, describe

SMALL_STEP = 1 << 18
"""Pre-activations a step up to which one thread is the fastest choice."""

Status = Literal["complete", "interrupted"]
Progress = Callable[[Record, int], None]
"""Called with each record and the run's number of steps."""


class Diverged(InputError):
    """The run left the finite numbers; the message names the steps and the remedy."""


@dataclass(frozen=True)
class Run:
    """The result of a run.

    ``network`` has output scale 1/N; ``records`` are all lines of metrics.jsonl; ``directory`` is None for a run that
    was not written to disk; ``seconds`` is the wall time of all its parts.
    """

    network: Network
    config: TrainConfig
    task: dict[str, Any]
    status: Status
    step: int
    records: tuple[Record, ...]
    stationarity: Stationarity
    directory: Path | None
    seconds: float

    @property
    def metrics(self) -> Path | None:
        """The path of metrics.jsonl."""
        return None if self.directory is None else self.directory / METRICS

    def to_document(self) -> dict[str, Any]:
        """The content of run.json."""
        return _document(self.config, self.task, self.status, self.step, self.records, self.stationarity, self.seconds)


def train(
    task: Task,
    config: TrainConfig,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    interrupt: Callable[[], bool] | None = None,
) -> Run:
    """Train a student of ``task`` and return it.

    Parameters
    ----------
    out :
        Folder to write measure.safetensors, metrics.jsonl, run.json and state.safetensors to (made if needed).
    resume :
        Continue the run in ``out`` from its last checkpoint; ``task`` and ``config`` must be those of the run.  On the
        CPU with the same number of threads the result is the uninterrupted run's, bit for bit.
    progress :
        Called with every record.
    interrupt :
        Asked after every step; when it answers True the state is saved and the run ends as "interrupted".

    Raises
    ------
    InputError
        When task and configuration do not fit, ``out`` already holds a run, or there is nothing to resume.
    Diverged
        When loss or parameters are no longer finite; the checkpoint in ``out`` is the last good one.
    """
    directory = None if out is None else Path(out)
    stored = None
    if resume:
        if directory is None:
            raise InputError("resume: expected the folder of a run")
        stored = stored_run(directory)
        _check_same(stored, task, config)
    elif directory is not None:
        if (directory / STATE).exists():
            raise InputError(f"{directory} already holds a run; resume it or choose another folder")
        directory.mkdir(parents=True, exist_ok=True)
    config = _with_threads(task, config) if stored is None else stored.config
    with _torch_threads(config.threads):
        loop = _Loop(task, config, directory, stored)
        try:
            return loop.run(progress, interrupt)
        finally:
            loop.close()


def _check_same(stored: StoredRun, task: Task, config: TrainConfig) -> None:
    if stored.task != describe(task):
        raise InputError(f"resume: the run's task is {stored.task['name']!r} with other parameters or data than given")
    then, now = stored.config.to_dict(), config.to_dict()
    for name, value in now.items():
        if then[name] != value and (name, value) != ("threads", 0):
            raise InputError(f"resume: the run has {name} = {then[name]}, got {value}; a run keeps its configuration")


def _with_threads(task: Task, config: TrainConfig) -> TrainConfig:
    """``config`` with its number of threads decided."""
    if config.threads:
        return config
    samples = config.samples if task.data is None else task.data[0].shape[0]
    rows = config.batch if config.sampling != "full" or samples is None else samples
    return replace(config, threads=1 if config.width * rows <= SMALL_STEP else torch.get_num_threads())


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seeded(seed: int, purpose: str, device: torch.device | str) -> torch.Generator:
    """A generator of its own for each purpose, so that one draw more here changes nothing there."""
    state = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(1, np.uint64)
    return torch.Generator(device=device).manual_seed(int(state[0]))


class _Loop:
    """The mutable middle of a run; everything outside sees :class:`Run`."""

    def __init__(self, task: Task, config: TrainConfig, directory: Path | None, stored: StoredRun | None) -> None:
        self.task, self.config, self.directory = task, config, directory
        self.description = describe(task)
        resolved_sampling(task, config)
        device = _device(config.device)
        like = torch.empty(0, dtype=getattr(torch, config.precision), device=device)
        self.activation = get(config.activation)
        self.particles = Particles(config.width, task.outputs, task.inputs, config.bias, like)
        self.gradient = torch.empty_like(self.particles.flat)
        self.grad_outer, self.grad_inner = self.particles.split(self.gradient)
        self.noise = torch.empty_like(self.particles.flat)
        self.risk = MeanFieldGradient(self.activation, config.block)
        self.noise_generator = seeded(config.seed, "noise", device)
        self.batches = make_batches(
            task, config, lambda purpose: seeded(config.seed, purpose, "cpu" if purpose == "order" else device), like
        )
        self.test_x, self.test_y = self._test_set(like)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.loss_count = 0
        self.step = 0
        self.spent = 0.0
        self.records: list[Record] = []
        if stored is None:
            self.particles.initialise(config, seeded(config.seed, "initialisation", device))
        else:
            self._restore(stored)
        keep = 0 if stored is None else stored.metrics_bytes
        self.metrics = None if directory is None else MetricsFile(directory / METRICS, keep)
        if stored is not None and directory is not None:
            self.records = read_records(directory / METRICS)
        self.saved_step = self.step if stored is not None else None

    def close(self) -> None:
        if self.metrics is not None:
            self.metrics.close()

    def run(self, progress: Progress | None, interrupt: Callable[[], bool] | None) -> Run:
        started = time.perf_counter() - self.spent
        config = self.config
        stopped = False
        if self.saved_step is None:
            self._save(time.perf_counter() - started)
        while self.step < config.steps and not stopped:
            last = self.step + 1 == config.steps
            record_due = last or (self.step + 1) % config.metrics_every == 0
            save_due = last or (config.checkpoint_every > 0 and (self.step + 1) % config.checkpoint_every == 0)
            balance = self._update(record_due)
            stopped = interrupt is not None and interrupt()
            if record_due or save_due or stopped:
                self._check_finite(time.perf_counter() - started)
            if balance is not None:
                record = self._record(balance)
                if progress is not None:
                    progress(record, config.steps)
            if save_due or stopped:
                self._save(time.perf_counter() - started)
        status: Status = "complete" if self.step == config.steps else "interrupted"
        seconds = time.perf_counter() - started
        diagnosis = diagnose(self.records, config)
        self._write_document(status, seconds)
        source = "memory" if self.directory is None else str(self.directory / MEASURE)
        return Run(
            network=self.particles.network(config.activation, source, config.precision),
            config=config,
            task=self.description,
            status=status,
            step=self.step,
            records=tuple(self.records),
            stationarity=diagnosis,
            directory=self.directory,
            seconds=seconds,
        )

    def _rates(self, step: int) -> tuple[float, float, float]:
        """(η, τ, λ) of update ``step``."""
        c = self.config
        return tuple(s.at(step, c.steps) for s in (c.step_size, c.temperature, c.weight_decay))  # pyright: ignore[reportReturnType]

    def _update(self, record_due: bool) -> dict[str, float] | None:
        """One step; the energy balance before it when a record is due."""
        p = self.particles
        rates = self._rates(self.step)
        x, y = self.batches.next()
        self.loss_sum += self.risk(p.outer, p.inner, x, y, self.grad_outer, self.grad_inner)
        self.loss_count += 1
        balance = energy_balance(p.flat, self.gradient, p.width, *rates) if record_due else None
        langevin_step(p.flat, self.gradient, self.noise, self.noise_generator, *rates)
        self.step += 1
        return balance

    def _record(self, balance: dict[str, float]) -> Record:
        p = self.particles
        step_size, temperature, weight_decay = self._rates(self.step - 1)
        error, size = self._test_norms()
        m2, m4 = moments(p.outer, p.inner)
        record = Record(
            step=self.step,
            loss=float(self.loss_sum) / self.loss_count,
            risk=0.5 * error,
            rel_error=math.sqrt(error / size) if size > 0 else math.sqrt(error),
            m2=m2,
            m4=m4,
            **balance,
            step_size=step_size,
            temperature=temperature,
            weight_decay=weight_decay,
        )
        self.loss_sum.zero_()
        self.loss_count = 0
        self.records.append(record)
        if self.metrics is not None:
            self.metrics.append(record)
        return record

    def _test_set(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fixed Gaussian inputs with noise-free labels, or all samples of a data set."""
        if self.task.data is not None:
            x, y = (torch.from_numpy(part).to(like) for part in checked_data(self.task))
            return with_ones(x, self.config.bias), y
        generator = seeded(self.config.seed, "test", like.device)
        shape = (self.config.test_samples, self.task.inputs)
        x = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
        return with_ones(x, self.config.bias), self.task.target(x)

    def _test_norms(self) -> tuple[float, float]:
        """(mean‖f_N − f‖², mean‖f‖²) on the test set."""
        p = self.particles
        rows = max(1, min(CACHED, self.config.block) // p.width)
        ops = torch_ops()
        error = 0.0
        for start in range(0, self.test_x.shape[0], rows):
            value = self.activation.value(self.test_x[start : start + rows] @ p.inner.T, ops)
            residual = value @ p.outer / p.width - self.test_y[start : start + rows]
            error += float(residual.double().square().sum())
        samples = self.test_x.shape[0]
        return error / samples, float(self.test_y.double().square().sum()) / samples

    def _check_finite(self, seconds: float) -> None:
        if math.isfinite(float(self.loss_sum)) and bool(torch.isfinite(self.particles.flat).all()):
            return
        since = self.records[-1].step if self.records else 0
        rate = self.config.step_size.initial
        message = (
            f"the run diverged between steps {since} and {self.step}: loss or parameters are not finite; "
            f"take a smaller step size (now {rate:g}, try {rate / 4:g})"
        )
        if self.directory is not None:
            self._write_document("diverged", seconds)
            message += f"; {self.directory} keeps the last good state, step {self.saved_step}"
        raise Diverged(message)

    def _save(self, seconds: float) -> None:
        """Metrics first, then the state that refers to their length, then what follows from the state."""
        if self.directory is None or self.metrics is None:
            return
        tensors = {f"batches.{name}": value for name, value in self.batches.state().items()}
        tensors["particles"] = self.particles.flat
        tensors["noise.generator"] = self.noise_generator.get_state()
        tensors["loss.sum"], tensors["loss.count"] = self.loss_sum, torch.tensor(self.loss_count)
        length = self.metrics.sync()
        state = StoredRun(self.config, self.description, self.step, length, seconds, tensors)
        write_state(self.directory / STATE, state)
        self.saved_step = self.step
        write_measure(self.directory / MEASURE, self.particles, self.config.activation)
        self._write_document("running", seconds)

    def _restore(self, stored: StoredRun) -> None:
        try:
            self.particles.flat.copy_(stored.tensors["particles"])
            self.noise_generator.set_state(stored.tensors["noise.generator"])
            self.loss_sum.copy_(stored.tensors["loss.sum"])
            self.loss_count = int(stored.tensors["loss.count"])
            prefix = "batches."
            self.batches.restore({k[len(prefix) :]: v for k, v in stored.tensors.items() if k.startswith(prefix)})
        except (KeyError, RuntimeError, TypeError) as error:
            raise InputError(f"resume: the state does not fit the run ({error})") from None
        self.step, self.spent = stored.step, stored.seconds

    def _write_document(self, status: str, seconds: float) -> None:
        if self.directory is None:
            return
        shown = [r for r in self.records if r.step <= (self.saved_step or 0)] if status == "diverged" else self.records
        step = self.saved_step or 0 if status == "diverged" else self.step
        diagnosis = diagnose(shown, self.config)
        document = _document(self.config, self.description, status, step, tuple(shown), diagnosis, seconds)
        write_json(self.directory / DOCUMENT, document)


def _document(
    config: TrainConfig,
    task: dict[str, Any],
    status: str,
    step: int,
    records: tuple[Record, ...],
    diagnosis: Stationarity,
    seconds: float,
) -> dict[str, Any]:
    return header("train", 1, config=config.to_dict(), timing_s={"total": seconds}) | {
        "task": task,
        "seed": config.seed,
        "status": status,
        "step": step,
        "measure": MEASURE,
        "metrics": METRICS,
        "final": asdict(records[-1]) if records else None,
        "stationarity": diagnosis.to_dict(),
        "environment": {"torch": torch.__version__},
    }


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("device cuda: no CUDA device is available; use cpu or auto")
    try:
        return torch.device(name)
    except RuntimeError:
        raise InputError(f"device: expected cpu, cuda or auto, got {name!r}") from None
