"""The curves of the run that made a checkpoint, from the files that `sparsemf train` left beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

MOST_POINTS = 400

_CURVES = {
    "step": "step",
    "loss": "loss",
    "test_error": "rel_error",
    "temperature": "temperature",
    "weight_decay": "weight_decay",
    "step_size": "step_size",
    "balance": "balance",
}


def training_curves(run_folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """``{"curves", "task", "config", "stationary"}`` of RUN/, or None where there is no RUN/metrics.jsonl to read.

    ``curves`` holds lists of equal length (at most 400 records, first and last among them): ``step``; ``loss``, the
    mean of ½‖f − y‖² since the record before; ``test_error`` = ‖f_N − f‖/‖f‖ on the fixed test inputs (on the samples
    themselves where the task is a data set); ``temperature``, ``weight_decay``, ``step_size``; ``balance`` of drift and
    noise.  A curve that no record has is None.  A torn last line, as an interrupted run leaves it, is skipped.
    """
    folder = Path(run_folder)
    records = _records(folder / "metrics.jsonl")
    if not records:
        return None
    kept = _spread(records)
    curves: dict[str, Any] = {
        name: [record.get(key) for record in kept] if any(record.get(key) is not None for record in kept) else None
        for name, key in _CURVES.items()
    }
    run = _run(folder / "run.json")
    return {
        "curves": curves,
        "records": len(records),
        "task": run.get("task"),
        "config": run.get("config"),
        "status": run.get("status"),
        "stationary": run.get("stationarity"),
    }


def _records(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


def _spread(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most MOST_POINTS of the records, evenly spaced, with the first and the last."""
    last = len(records) - 1
    if last < MOST_POINTS:
        return records
    return [records[round(i * last / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]


def _run(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
