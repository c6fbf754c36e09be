"""Ensembles: seeds × temperatures × widths of one task in one go, a run's folder each, chains compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from sparsemf.atomic import header, write_json
from sparsemf.exceptions import InputError
from sparsemf.training.config import TrainConfig
from sparsemf.training.schedule import Schedule
from sparsemf.training.stationarity import ChainsStationarity, diagnose_chains
from sparsemf.training.store import STATE
from sparsemf.training.task import Task
from sparsemf.training.trainer import Progress, Run, train_replicas

DOCUMENT = "ensemble.json"


@dataclass(frozen=True)
class Ensemble:
    """The runs in the order seeds fastest, then temperatures, then widths.

    ``chains`` has, for each temperature and width, the verdict over its seeds (None with one seed, or unfinished).
    """

    runs: tuple[Run, ...]
    folders: tuple[Path, ...]
    chains: tuple[tuple[int, Schedule, ChainsStationarity | None], ...]

    @property
    def interrupted(self) -> bool:
        return any(run.status == "interrupted" for run in self.runs)

    def to_document(self) -> dict[str, Any]:
        """The content of ensemble.json."""
        config = self.runs[0].config
        return header(
            "ensemble", 1, config=config.to_dict(), timing_s={"total": max(run.seconds for run in self.runs)}
        ) | {
            "task": self.runs[0].task,
            "runs": [
                {
                    "folder": folder.name,
                    "seed": run.config.seed,
                    "width": run.config.width,
                    "temperature": run.config.temperature.initial,
                    "status": run.status,
                    "step": run.step,
                    "risk": run.records[-1].risk if run.records else None,
                    "stationary": run.stationarity.stationary,
                }
                for run, folder in zip(self.runs, self.folders, strict=False)
            ],
            "chains": [
                {
                    "width": width,
                    "temperature": temperature.initial,
                    "verdict": None if verdict is None else verdict.to_dict(),
                }
                for width, temperature, verdict in self.chains
            ],
        }


def train_ensemble(
    task: Task,
    config: TrainConfig,
    out: str | Path,
    *,
    seeds: Sequence[int],
    temperatures: Sequence[float] = (),
    widths: Sequence[int] = (),
    resume: bool = False,
    progress: Progress | None = None,
    interrupt: Callable[[], bool] | None = None,
) -> Ensemble:
    """Train ``config`` for every seed × temperature × width; without a list, the configuration's own value.

    Runs of one width move together in batched products.  Each has its folder OUT/nN-tT-sSEED, which is a run like any
    other; OUT/ensemble.json sums up, with R̂ and the agreement of means over the seeds of one law.

    Raises :class:`InputError` as :func:`sparsemf.training.train`, and on an empty or repeated list.
    """
    for name, values in (("seeds", seeds), ("temperatures", temperatures), ("widths", widths)):
        if len(set(values)) != len(values):
            raise InputError(f"{name}: expected each value once, got {', '.join(map(str, values))}")
    if not seeds:
        raise InputError("seeds: expected at least one")
    heats = [Schedule(t) for t in temperatures] or [config.temperature]
    laws = list(product(widths or [config.width], heats))
    configs = [replace(config, width=n, temperature=t, seed=s) for n, t in laws for s in seeds]
    folders = [Path(out) / f"n{c.width}-t{c.temperature.initial:g}-s{c.seed}" for c in configs]
    fresh = [i for i, folder in enumerate(folders) if not (resume and (folder / STATE).exists())]
    begun = [i for i in range(len(folders)) if i not in set(fresh)]
    runs: dict[int, Run] = {}
    for members, again in ((begun, True), (fresh, False)):
        if not members or any(run.status == "interrupted" for run in runs.values()):
            continue
        found = train_replicas(
            task,
            [configs[i] for i in members],
            [folders[i] for i in members],
            resume=again,
            progress=progress,
            interrupt=interrupt,
        )
        place = {run.directory: run for run in found}
        runs |= {i: place[folders[i]] for i in members if folders[i] in place}
    done = [runs[i] for i in sorted(runs)]
    ensemble = Ensemble(tuple(done), tuple(folders[i] for i in sorted(runs)), tuple(_chains(laws, done, len(seeds))))
    write_json(Path(out) / DOCUMENT, ensemble.to_document())
    return ensemble


def _chains(
    laws: Sequence[tuple[int, Schedule]], runs: Sequence[Run], seeds: int
) -> list[tuple[int, Schedule, ChainsStationarity | None]]:
    answers = []
    for width, heat in laws:
        members = [r for r in runs if (r.config.width, r.config.temperature) == (width, heat)]
        verdict = None
        ends = {r.step for r in members if r.status != "interrupted" and math.isfinite(r.step)}
        if len(members) == seeds > 1 and len(ends) == 1:
            verdict = diagnose_chains([r.records for r in members], [r.config for r in members], end=ends.pop())
        answers.append((width, heat, verdict))
    return answers
