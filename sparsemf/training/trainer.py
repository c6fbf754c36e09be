"""Noisy gradient descent in the mean-field scaling: the loop.

θ_i ← θ_i − η(N∇_{θ_i}R_N + λθ_i) + √(2τη) ξ_i,   R_N = E ℓ((1/N) Σ_i a_i σ(⟨w_i, x⟩ + b_i), y)

With constant η → 0, τ and λ its law is exp(−(N/τ)R_N − (λ/2τ) Σ‖θ_i‖²) (docs/training).
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sparsemf.atomic import header, write_json
from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.training.batches import resolved_sampling
from sparsemf.training.config import TrainConfig
from sparsemf.training.devices import device_of, torch_threads
from sparsemf.training.divergence import step_that_holds
from sparsemf.training.integrators import LAWS
from sparsemf.training.moments import FILE as MOMENTS
from sparsemf.training.moments import moment_row
from sparsemf.training.observables import Observables
from sparsemf.training.ranks import ALONE, Ranks
from sparsemf.training.records import Record, norms
from sparsemf.training.stationarity import Stationarity, diagnose
from sparsemf.training.store import (
    DOCUMENT,
    MEASURE,
    METRICS,
    STATE,
    LinesFile,
    StoredRun,
    read_records,
    remove_temporaries,
    stored_run,
    write_measure,
    write_state,
)
from sparsemf.training.system import OWN, System
from sparsemf.training.task import Task, describe

SMALL_STEP = 1 << 18
"""Pre-activations a step up to which one thread is the fastest choice."""

ASK_EVERY = 10
"""Steps between questions for an interrupt when several ranks must agree."""

Status = Literal["complete", "interrupted", "stationary"]
Progress = Callable[[Record, int], None]
"""Called with each record and the run's number of steps."""


class Diverged(InputError):
    """The run left the finite numbers; the message names the steps and the remedy."""


@dataclass(frozen=True)
class Run:
    """The result of a run.

    ``network`` has output scale 1/N; ``records`` are all lines of metrics.jsonl; ``directory`` is None for a run that
    was not written to disk; ``seconds`` is the wall time of all its parts.  ``status`` is "stationary" when the run
    stopped before its budget because it was found stationary.
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
    ranks: int = 1

    @property
    def metrics(self) -> Path | None:
        """The path of metrics.jsonl."""
        return None if self.directory is None else self.directory / METRICS

    def to_document(self) -> dict[str, Any]:
        """The content of run.json."""
        return _document(
            self.config, self.task, self.status, self.step, self.records, self.stationarity, self.seconds, self.ranks
        )


def train(
    task: Task,
    config: TrainConfig,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    interrupt: Callable[[], bool] | None = None,
    ranks: Ranks = ALONE,
    tensorboard: str | Path | None = None,
) -> Run:
    """Train a student of ``task`` and return it.

    Parameters
    ----------
    out :
        Folder to write measure.safetensors, metrics.jsonl, run.json and state.safetensors to (made if needed).
    resume :
        Continue the run in ``out`` from its last checkpoint; ``task`` and ``config`` must be those of the run.  On the
        CPU with the same number of threads and ranks the result is the uninterrupted run's, bit for bit.
    progress :
        Called with every record, on rank 0.
    interrupt :
        Asked after every step; when it answers True the state is saved and the run ends as "interrupted".
    ranks :
        This process's share of the particles (:func:`sparsemf.training.ranks.ranks_of_environment`); files are written
        by rank 0, and read by all.
    tensorboard :
        Folder for TensorBoard's event files (needs the extra ``tensorboard``).

    Raises
    ------
    InputError
        When task and configuration do not fit, ``out`` already holds a run, there is nothing to resume, or a file
        cannot be written; the last good state is kept.
    Diverged
        When loss or parameters are no longer finite; the checkpoint in ``out`` is the last good one.
    """
    folders = None if out is None else [Path(out)]
    return train_replicas(
        task,
        [config],
        folders,
        resume=resume,
        progress=progress,
        interrupt=interrupt,
        ranks=ranks,
        tensorboard=None if tensorboard is None else [Path(tensorboard)],
    )[0]


def train_replicas(
    task: Task,
    configs: Sequence[TrainConfig],
    out: Sequence[str | Path] | None = None,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    interrupt: Callable[[], bool] | None = None,
    ranks: Ranks = ALONE,
    tensorboard: Sequence[str | Path] | None = None,
) -> list[Run]:
    """Train several students of one task: seeds × temperatures × widths, … in one go.

    Configurations that differ in seed, first particle, step size, temperature and weight decay only move together, in
    batched products; others one group after the other.  Each run is what :func:`train` would give alone, up to the
    rounding of sums; ``out`` names a folder for each, every one of them a run of its own that resumes alone too.

    Parameters and exceptions as for :func:`train`.
    """
    if out is not None and len(out) != len(configs):
        raise InputError(f"replicas: expected a folder for each of {len(configs)} configurations, got {len(out)}")
    folders = [None if out is None else Path(out[i]) for i in range(len(configs))]
    stored: list[StoredRun | None] = [None] * len(configs)
    kept = list(configs)
    for i, (config, folder) in enumerate(zip(configs, folders, strict=True)):
        resolved_sampling(task, config)
        if resume:
            if folder is None:
                raise InputError("resume: expected the folder of a run")
            found = stored_run(folder)
            _check_same(found, task, config)
            stored[i], kept[i] = found, found.config
        else:
            if folder is not None and (folder / STATE).exists():
                raise InputError(f"{folder} already holds a run; resume it or choose another folder")
            kept[i] = _with_threads(task, config, len(configs))
    # no rank may write before all have looked whether there is a run
    ranks.any(False)
    groups: dict[Any, list[int]] = defaultdict(list)
    for i, config in enumerate(kept):
        found = stored[i]
        alike = {name: value for name, value in config.to_dict().items() if name not in OWN}
        groups[(repr(alike), 0 if found is None else found.step)].append(i)
    runs: dict[int, Run] = {}
    for members in groups.values():
        with torch_threads(kept[members[0]].threads):
            loop = _Loop(
                task,
                [kept[i] for i in members],
                [folders[i] for i in members],
                [stored[i] for i in members],
                ranks,
                [None if tensorboard is None else Path(tensorboard[i]) for i in members],
            )
            try:
                finished = loop.run(progress, interrupt)
            finally:
                loop.close()
        runs |= dict(zip(members, finished, strict=True))
        if finished[0].status == "interrupted":
            break
    return [runs[i] for i in sorted(runs)]


def _check_same(stored: StoredRun, task: Task, config: TrainConfig) -> None:
    if stored.task != describe(task):
        raise InputError(f"resume: the run's task is {stored.task['name']!r} with other parameters or data than given")
    then, now = stored.config.to_dict(), config.to_dict()
    for name, value in now.items():
        if then[name] != value and (name, value) != ("threads", 0):
            raise InputError(f"resume: the run has {name} = {then[name]}, got {value}; a run keeps its configuration")


def _with_threads(task: Task, config: TrainConfig, replicas: int) -> TrainConfig:
    """``config`` with its number of threads decided."""
    if config.threads:
        return config
    samples = config.samples if task.data is None else task.data[0].shape[0]
    rows = config.batch if config.sampling != "full" or samples is None else samples
    return replace(config, threads=1 if config.width * rows * replicas <= SMALL_STEP else torch.get_num_threads())


class _Loop:
    """The mutable middle of replicas that move together; everything outside sees :class:`Run`."""

    def __init__(
        self,
        task: Task,
        configs: Sequence[TrainConfig],
        folders: Sequence[Path | None],
        stored: Sequence[StoredRun | None],
        ranks: Ranks,
        boards: Sequence[Path | None],
    ) -> None:
        self.task, self.configs, self.config, self.ranks = task, list(configs), configs[0], ranks
        self.description = describe(task)
        self.system = System(task, configs, device_of(self.config.device), ranks)
        self.observables = Observables(task, self.configs, self.system, ranks)
        replicas = len(configs)
        self.loss_sum = torch.zeros(replicas, dtype=torch.float64, device=self.system.device)
        self.loss_count = 0
        self.spent = 0.0
        self.records: list[list[Record]] = [[] for _ in configs]
        self.stack = ExitStack()
        self.folders = list(folders) if ranks.first else [None] * replicas
        self.metrics: list[LinesFile | None] = [None] * replicas
        self.moments: list[LinesFile | None] = [None] * replicas
        if all(found is None for found in stored):
            self.system.start()
            self.saved_step = None
        else:
            self._restore([found for found in stored if found is not None])
            self.saved_step = self.system.step
        for r, (folder, found) in enumerate(zip(self.folders, stored, strict=True)):
            if folder is None:
                continue
            with _writing(folder, self.saved_step):
                folder.mkdir(parents=True, exist_ok=True)
                remove_temporaries(folder)
                self.metrics[r] = self._opened(folder / METRICS, 0 if found is None else found.metrics_bytes)
                self.moments[r] = self._opened(folder / MOMENTS, 0 if found is None else found.moments_bytes)
            if found is not None:
                self.records[r] = read_records(folder / METRICS)
        self.boards = [self._board(folder) if ranks.first else None for folder in boards]

    def _opened(self, path: Path, keep: int) -> LinesFile:
        file = LinesFile(path, keep)
        self.stack.callback(file.close)
        return file

    def _board(self, folder: Path | None) -> Any:
        if folder is None:
            return None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError("tensorboard is not installed; pip install sparsemf[tensorboard]") from None
        board = SummaryWriter(str(folder))
        self.stack.callback(board.close)
        return board

    def close(self) -> None:
        # a full disk has been reported by then; closing must not hide it
        with suppress(OSError):
            self.stack.close()

    @property
    def replicas(self) -> range:
        return range(len(self.configs))

    def run(self, progress: Progress | None, interrupt: Callable[[], bool] | None) -> list[Run]:
        started = time.perf_counter() - self.spent
        config, system = self.config, self.system
        looks = self._looks()
        stopped = settled = False
        if self.saved_step is None:
            for r in self.replicas:
                self._moments(r)
            self._save(time.perf_counter() - started)
        while system.step < config.steps and not (stopped or settled):
            after = system.step + 1
            last = after == config.steps
            record_due = last or after % config.metrics_every == 0 or after in looks
            save_due = last or (config.checkpoint_every > 0 and after % config.checkpoint_every == 0)
            balances = self._update(record_due)
            stopped = self._asked(interrupt, after)
            if record_due or save_due or stopped:
                self._check_finite(time.perf_counter() - started)
            if balances is not None:
                for record in self._record(balances):
                    if progress is not None and self.ranks.first:
                        progress(record, config.steps)
                # rank 0 decides: after a resume only it has read the earlier records
                settled = after in looks and self.ranks.any(self.ranks.first and self._settled(after))
            if save_due or stopped or settled:
                self._save(time.perf_counter() - started)
        status: Status = "stationary" if settled else "complete" if system.step == config.steps else "interrupted"
        seconds = time.perf_counter() - started
        return [self._finished(r, status, seconds) for r in self.replicas]

    def _asked(self, interrupt: Callable[[], bool] | None, step: int) -> bool:
        if interrupt is None:
            return False
        if self.ranks.count == 1:
            return interrupt()
        return step % ASK_EVERY == 0 and self.ranks.any(interrupt())

    def _looks(self) -> frozenset[int]:
        """The steps at which a run until stationary may stop."""
        if self.config.until == "budget":
            return frozenset()
        from sparsemf.training.stopping import look_times

        return frozenset(look_times(self.config.steps, self.config.metrics_every))

    def _settled(self, step: int) -> bool:
        from sparsemf.training.stopping import should_stop

        return all(should_stop(self.records[r], self.configs[r], step).stop for r in self.replicas)

    def _finished(self, r: int, status: Status, seconds: float) -> Run:
        folder, config = self.folders[r], self.configs[r]
        diagnosis = diagnose(self.records[r], config, end=self.system.step if status == "stationary" else None)
        self._write_document(r, status, seconds)
        source = "memory" if folder is None else str(folder / MEASURE)
        return Run(
            network=self.system.particles.network(r, config.activation, source, config.precision),
            config=config,
            task=self.description,
            status=status,
            step=self.system.step,
            records=tuple(self.records[r]),
            stationarity=diagnosis,
            directory=folder,
            seconds=seconds,
            ranks=self.ranks.count,
        )

    def _update(self, record_due: bool) -> list[dict[str, float | None]] | None:
        """One step; the energy balance before it when a record is due."""
        system = self.system
        self.loss_sum += system.losses()
        self.loss_count += 1
        balances = [self.observables.balance(r) for r in self.replicas] if record_due else None
        system.advance()
        return balances

    def _record(self, balances: list[dict[str, float | None]]) -> list[Record]:
        system = self.system
        figures = self.observables.test_figures()
        added = []
        for r in self.replicas:
            step_size, temperature, weight_decay = system.rates(system.step - 1)[r]
            lengths = self._moments(r)
            m2, m4 = (float((lengths**k).mean()) for k in (2, 4))
            energies = self.observables.energies(r, figures[r]["risk"] or 0.0, weight_decay, temperature, m2)
            record = Record(
                step=system.step,
                loss=float(self.loss_sum[r]) / self.loss_count,
                m2=m2,
                m4=m4,
                step_size=step_size,
                temperature=temperature,
                weight_decay=weight_decay,
                **balances[r],  # pyright: ignore[reportArgumentType]
                **figures[r],  # pyright: ignore[reportArgumentType]
                **energies,
            )
            self.records[r].append(record)
            if (file := self.metrics[r]) is not None:
                with _writing(self.folders[r], self.saved_step):
                    file.append(record.line())
            if (board := self.boards[r]) is not None:
                for name, value in asdict(record).items():
                    if value is not None and name != "step":
                        board.add_scalar(name, value, record.step)
            added.append(record)
        self.loss_sum.zero_()
        self.loss_count = 0
        return added

    def _moments(self, r: int) -> NDArray[np.float64]:
        """The norms ‖θ_i‖ (N,) now; their moments go to moments.jsonl."""
        p = self.system.particles
        lengths = self.ranks.gather(norms(p.outer[r], p.inner[r]).unsqueeze(1), p.width)[:, 0].numpy()
        if (file := self.moments[r]) is not None and np.isfinite(lengths).all():
            with _writing(self.folders[r], self.saved_step):
                file.append(moment_row(lengths, self.system.step, self.configs[r].seed).line())
        return lengths

    def _check_finite(self, seconds: float) -> None:
        p = self.system.particles
        outer, inner = p.split(p.flat)
        bad = [
            r
            for r in self.replicas
            if not (
                math.isfinite(float(self.loss_sum[r]))
                and bool(torch.isfinite(outer[r]).all())
                and bool(torch.isfinite(inner[r]).all())
            )
        ]
        if not self.ranks.any(bool(bad)):
            return
        r = bad[0] if bad else 0
        records, config, folder = self.records[r], self.configs[r], self.folders[r]
        since = records[-1].step if records else 0
        rate, end = config.step_size.initial, self.system.step
        found = None
        if self.ranks.count == 1:
            found = step_that_holds(self.task, config, None if folder is None else stored_run(folder), end)
        advice = (
            f"take a smaller step size (now {rate:g}, try {rate / 8:g})"
            if found is None
            else f"a smaller step size, {found:g} instead of {rate:g}, stays finite over the same steps"
        )
        message = f"the run diverged between steps {since} and {end}: loss or parameters are not finite; {advice}"
        if folder is not None:
            self._write_document(r, "diverged", seconds)
            message += f"; {folder} keeps the last good state, step {self.saved_step}"
        raise Diverged(message)

    def _save(self, seconds: float) -> None:
        """Metrics first, then the state that refers to their length, then what follows from the state."""
        whole = self.system.state()
        sums = self.loss_sum.cpu()
        files = zip(self.folders, self.metrics, self.moments, strict=True)
        for r, (folder, metrics, moments) in enumerate(files):
            if folder is None or metrics is None or moments is None:
                continue
            config = self.configs[r]
            tensors = {name: self._replica(flat, r) for name, flat in whole.items()}
            tensors["loss.sum"], tensors["loss.count"] = sums[r], torch.tensor(self.loss_count)
            with _writing(folder, self.saved_step):
                lengths = metrics.sync(), moments.sync()
                state = StoredRun(config, self.description, self.system.step, *lengths, seconds, tensors)
                write_state(folder / STATE, state)
                write_measure(folder / MEASURE, tensors["particles"], self.task.inputs, self.task.outputs, config)
        self.saved_step = self.system.step
        for r in self.replicas:
            self._write_document(r, "running", seconds)

    def _replica(self, whole: torch.Tensor, r: int) -> torch.Tensor:
        """Replica r of a buffer of all, (N·(m + k),)."""
        outputs, width, count = self.task.outputs, self.config.width, len(self.configs)
        cut = count * width * outputs
        return torch.cat([whole[:cut].view(count, -1)[r], whole[cut:].view(count, -1)[r]])

    def _restore(self, stored: Sequence[StoredRun]) -> None:
        try:
            cut = self.config.width * self.task.outputs
            whole = {
                name: torch.cat([f.tensors[name][:cut] for f in stored] + [f.tensors[name][cut:] for f in stored])
                for name in self.system.tensors
            }
            self.system.restore(whole, stored[0].step)
            self.loss_sum.copy_(torch.stack([found.tensors["loss.sum"] for found in stored]))
            self.loss_count = int(stored[0].tensors["loss.count"])
        except (KeyError, IndexError, RuntimeError, TypeError) as error:
            raise InputError(f"resume: the state does not fit the run ({error})") from None
        self.spent = max(found.seconds for found in stored)

    def _write_document(self, r: int, status: str, seconds: float) -> None:
        folder = self.folders[r]
        if folder is None:
            return
        saved, records = self.saved_step or 0, self.records[r]
        shown = [record for record in records if record.step <= saved] if status == "diverged" else records
        step = saved if status == "diverged" else self.system.step
        config = self.configs[r]
        diagnosis = diagnose(shown, config, end=step if status == "stationary" else None)
        document = _document(config, self.description, status, step, tuple(shown), diagnosis, seconds, self.ranks.count)
        with _writing(folder, self.saved_step):
            write_json(folder / DOCUMENT, document)


@contextmanager
def _writing(folder: Path | None, saved: int | None) -> Iterator[None]:
    """A failed write (a full disk, a folder gone) as one line; files are replaced atomically, so the old ones stay."""
    try:
        yield
    except OSError as error:
        kept = "nothing was saved yet" if saved is None else f"the state of step {saved} is kept"
        raise InputError(
            f"{folder}: cannot write ({error.strerror or error}); {kept}: make room, then continue with --resume"
        ) from None


def _document(
    config: TrainConfig,
    task: dict[str, Any],
    status: str,
    step: int,
    records: tuple[Record, ...],
    diagnosis: Stationarity,
    seconds: float,
    ranks: int,
) -> dict[str, Any]:
    return header("train", 1, config=config.to_dict(), timing_s={"total": seconds}) | {
        "task": task,
        "seed": config.seed,
        "status": status,
        "step": step,
        "measure": MEASURE,
        "metrics": METRICS,
        "final": asdict(records[-1]) if records else None,
        "samples": LAWS[config.integrator],
        "stationarity": diagnosis.to_dict(),
        "environment": {"torch": torch.__version__, "ranks": ranks},
    }
