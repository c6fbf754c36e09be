"""The folder of a run: measure.safetensors, metrics.jsonl, run.json and state.safetensors.

``state.safetensors`` alone decides what a resumed run continues from: it is replaced atomically and holds the
particles, what the integrator keeps beside them, the step and the lengths of metrics.jsonl and moments.jsonl then;
noise and batches are functions of (seed, step).  The other files follow from it.  Nothing is pickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sparsemf.atomic import write_bytes
from sparsemf.exceptions import InputError
from sparsemf.training.config import TrainConfig
from sparsemf.training.records import Record

MEASURE, METRICS, DOCUMENT, STATE = "measure.safetensors", "metrics.jsonl", "run.json", "state.safetensors"
STATE_VERSION = "2"


def canonical_safetensors(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file whose bytes depend on its content only (the library writes metadata in random order)."""
    raw = save({name: np.asarray(value, order="C") for name, value in tensors.items()}, metadata=dict(metadata))
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + raw[8 + length :]


def write_measure(path: Path, flat: torch.Tensor, inputs: int, outputs: int, config: TrainConfig) -> None:
    """The student in the native format: outer (N, m), inner (N, d), bias (N,) in the run's precision, scale 1/N.

    ``flat`` is the particles' buffer of one replica, the outer part first.
    """
    cut = config.width * outputs
    outer = flat[:cut].view(config.width, outputs).detach().cpu()
    if config.outer == "bounded":
        outer = torch.tanh(outer / config.outer_bound).mul_(config.outer_bound)
    inner = flat[cut:].view(config.width, -1).detach().cpu().numpy()
    tensors = {
        "outer": outer.numpy(),
        "inner": inner[:, :inputs],
        "bias": inner[:, inputs] if config.bias else np.zeros(config.width, dtype=inner.dtype),
    }
    metadata = {"activation": config.activation, "scale": repr(1.0 / config.width), "format_version": "1"}
    write_bytes(path, canonical_safetensors(tensors, metadata))


def remove_temporaries(directory: Path) -> None:
    """Remove what a killed run was writing when it was killed (files are written beside their target, then renamed)."""
    for name in (MEASURE, METRICS, DOCUMENT, STATE):
        for left in directory.glob(f".{name}.*.tmp"):
            left.unlink(missing_ok=True)


@dataclass(frozen=True)
class StoredRun:
    """A run as its state file knows it."""

    config: TrainConfig
    task: dict[str, Any]
    step: int
    metrics_bytes: int
    moments_bytes: int
    seconds: float
    tensors: dict[str, torch.Tensor]


def write_state(path: Path, run: StoredRun) -> None:
    """Replace the state file atomically."""
    metadata = {
        "format_version": STATE_VERSION,
        "config": json.dumps(run.config.to_dict()),
        "task": json.dumps(run.task),
        "step": str(run.step),
        "metrics_bytes": str(run.metrics_bytes),
        "moments_bytes": str(run.moments_bytes),
        "seconds": repr(run.seconds),
    }
    tensors = {name: value.detach().cpu().numpy() for name, value in run.tensors.items()}
    write_bytes(path, canonical_safetensors(tensors, metadata))


def stored_run(directory: str | os.PathLike[str]) -> StoredRun:
    """Read RUN/state.safetensors; raises :class:`InputError` when it is missing or damaged."""
    path = Path(directory) / STATE
    if not path.is_file():
        raise InputError(f"{directory}: expected the folder of a run with {STATE}; start one with `sparsemf train`")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if (version := metadata.get("format_version")) != STATE_VERSION:
            raise InputError(f"{path}: expected a run state of version {STATE_VERSION}, got {version}")
        return StoredRun(
            config=TrainConfig.from_dict(json.loads(metadata["config"])),
            task=json.loads(metadata["task"]),
            step=int(metadata["step"]),
            metrics_bytes=int(metadata["metrics_bytes"]),
            moments_bytes=int(metadata["moments_bytes"]),
            seconds=float(metadata["seconds"]),
            tensors=tensors,
        )
    except InputError:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{path}: not the state of a run ({error}); start the run again") from None


class LinesFile:
    """metrics.jsonl or moments.jsonl: appended while the run goes on, cut back to the state's step on resume."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        if keep_bytes and (not path.is_file() or path.stat().st_size < keep_bytes):
            raise InputError(f"{path}: expected at least {keep_bytes} bytes; the run cannot be resumed")
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(keep_bytes)
        self._file.seek(keep_bytes)

    def append(self, line: str) -> None:
        self._file.write(line.encode())

    def sync(self) -> int:
        """Everything written so far is on disk; returns the length in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


def read_records(path: Path) -> list[Record]:
    """All records of a metrics file; raises :class:`InputError` on a damaged one."""
    try:
        with path.open(encoding="utf-8") as lines:
            return [Record.from_dict(json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a metrics file ({error})") from None
