"""The runs of a budget: each has a folder named after it, is resumed where it was, and gives values on test inputs."""

from __future__ import annotations

import hashlib
import json
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, qmc

from sparsemf.atomic import write_json
from sparsemf.exceptions import InputError
from sparsemf.signals import held
from sparsemf.training.config import TrainConfig
from sparsemf.training.store import MEASURE, STATE
from sparsemf.training.task import Task, describe

Array = NDArray[np.float64]
Watch = Callable[[int, int], None]
"""Called with the jobs done and all of them."""

_PURPOSE = 0x62756467  # "budg"


def test_inputs(dimension: int, count: int, seed: int) -> Array:
    """(count, d): scrambled Sobol points through Φ^{-1}, so that means over them are quasi-Monte Carlo.

    Ten repetitions of another ``seed`` tell the error of a mean; for smooth integrands it is far below 1/√count.
    """
    rng = np.random.default_rng([_PURPOSE, seed])
    points = qmc.Sobol(dimension, scramble=True, rng=rng).random_base2(count.bit_length() - 1)
    return norm.ppf(np.clip(points, 2.0**-40, 1 - 2.0**-40))


@dataclass(frozen=True)
class Job:
    """One run: where it lives follows from what it is."""

    task: Task
    config: TrainConfig

    @property
    def name(self) -> str:
        """The folder's name: a hash of task and configuration (threads and the device do not count)."""
        values = {k: v for k, v in self.config.to_dict().items() if k not in ("threads", "device", "block")}
        text = json.dumps({"task": describe(self.task), "config": values}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def trained(job: Job, folder: Path) -> Path:
    """Run the job in its folder, or what is missing of it; the path of its measure."""
    from sparsemf.training.trainer import train

    own = folder / job.name
    train(job.task, job.config, own, resume=(own / STATE).exists())
    return own / MEASURE


def values_of(job: Job, folder: Path, inputs: Array) -> Array:
    """f (B, m) of the trained measure at ``inputs`` (B, d)."""
    from sparsemf.checkpoints import load

    return load(trained(job, folder))(inputs)


def dictionary_of(job: Job, folder: Path, inputs: Array, atoms: int | None) -> dict[str, Any]:
    """The certified staircase of the trained measure and the values of its S-atom network at ``inputs``.

    Written beside the run as budget.json; the S of ``atoms`` None is the reported S*.
    """
    from sparsemf.checkpoints import load, save
    from sparsemf.pipeline.analyze import analyze

    measure = trained(job, folder)
    own = measure.parent / f"dictionary-{atoms or 'certified'}"
    if not (own / "dictionary.json").exists():
        analysis = analyze(load(measure))
        if analysis.upper is None:
            raise InputError(f"budget: no certified staircase for {job.config.activation}; take another activation")
        size = atoms or analysis.s_star.value
        document = analysis.document()
        own.mkdir(exist_ok=True)
        save(analysis.dictionary_of(size), own / "dictionary.safetensors")
        write_json(
            own / "dictionary.json",
            {
                "atoms": size,
                "s_star": document["s_star"],
                "staircase": document["staircase"],
                "function_norm": document["function_norm"],
                "compressibility": document.get("compressibility"),
            },
        )
    found = json.loads((own / "dictionary.json").read_text(encoding="utf-8"))
    return found | {"values": load(own / "dictionary.safetensors")(inputs)}


def folder_at(out: str | Path) -> Path:
    """The folder ``out``, made where it is missing; raises :class:`InputError` where it cannot be."""
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file is there" if Path(out).is_file() else error.strerror or error
        raise InputError(f"-o {out}: expected a folder to write in ({reason}); name another") from None
    return Path(out)


def in_parallel(calls: Iterable[tuple[Callable[..., Any], tuple[Any, ...]]], jobs: int, watch: Watch) -> Iterator[Any]:
    """The results of independent calls in their order, in ``jobs`` processes; one process: in this one.

    When the caller stops (Ctrl-C, an error), the processes are ended at once: their runs keep their last checkpoints.
    """
    todo = list(calls)
    if jobs == 1:
        for done, (call, arguments) in enumerate(todo):
            watch(done, len(todo))
            yield call(*arguments)
    else:
        from cloudpickle import dumps  # tasks hold closures, which the standard pickle refuses

        pool = ProcessPoolExecutor(min(jobs, max(len(todo), 1)), get_context("spawn"))
        before = set(active_children())
        try:
            # Ctrl-C goes to the whole group; this process alone answers it, and ends the others
            with held(signal.SIGINT):
                futures = [pool.submit(_called, dumps(one)) for one in todo]
            for done, future in enumerate(futures):
                watch(done, len(todo))
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(active_children()) - before:
                process.terminate()
            raise
        pool.shutdown()
    watch(len(todo), len(todo))


def _called(packed: bytes) -> Any:
    """The result of a call that the parent process packed."""
    call, arguments = pickle.loads(packed)
    return call(*arguments)
