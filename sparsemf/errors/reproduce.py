"""The four results of arXiv:2605.24710 put to the test, one after the other, in one folder that can be resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from sparsemf.atomic import header, plain, write_json
from sparsemf.errors.budget import budget
from sparsemf.errors.claims import decomposition, dictionary, identifiability, moments
from sparsemf.errors.claims.steps import Claim, results
from sparsemf.errors.config import BudgetConfig
from sparsemf.errors.runs import folder_at
from sparsemf.training.task import Task

Load = Callable[[str, Mapping[str, Any]], Task]
"""A task by name and parameters."""

Watch = Callable[[str, int, int], None]
"""Called with what is being done, the steps done and all of them."""

SCHEMA_VERSION = 1
BUDGETS = ("tanh", "relu")


def reproduce(
    out: str | Path,
    load: Load,
    samples: Task,
    size: Literal["quick", "full"] = "quick",
    *,
    jobs: int = 1,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """The document ``sparsemf/reproduce/1``: for each result what the abstract says, our reading, answers, evidence.

    ``samples`` is a data set of the planted tanh task in R³ (runs that share data and nothing else).  What is finished
    in ``out`` is read and not computed again.
    """
    began = time.perf_counter()
    folder, quick = folder_at(out), size == "quick"
    planted = {"d": 3, "atoms": 3}
    tasks = {name: load(f"planted-{name}", planted) for name in ("tanh", "erf")} | {"samples": samples}
    targets = {"tanh": tasks["tanh"], "hermite": load("hermite-single-index", {"d": 3, "degree": 3})}
    told = watch or (lambda what, done, total: None)
    parts = {
        moments: moments.steps(quick, tasks),
        identifiability: identifiability.steps(quick),
        dictionary: dictionary.steps(quick, targets),
    }
    # the longest first, so that processes end together
    order = [step for part in (dictionary, moments, identifiability) for step in parts[part]]
    found = results(folder, order, jobs, lambda done, total: told("results 1 to 3", done, total))
    claims: list[Claim] = [
        part.conclude({step.name: found[step.name] for step in steps}) for part, steps in parts.items()
    ]
    budgets: dict[str, dict[str, Any]] = {}
    for name in BUDGETS:
        config = BudgetConfig.read(f"{name}-{size}")
        task = load(config.task, config.parameters)
        place = folder / f"budget-{name}"

        def shown(done: int, total: int, name: str = name) -> None:
            told(f"error budget, {name}", done, total)

        budgets[name] = plain(budget(config, task, place, jobs=jobs, watch=shown).document())
        write_json(place / "budget.json", budgets[name])
    claims.append(decomposition.conclude(budgets))
    return header(
        "reproduce", SCHEMA_VERSION, config={"size": size}, timing_s={"total": time.perf_counter() - began}
    ) | {
        "source": "arXiv:2605.24710 (A. Xodarev, 2026), read from its abstract",
        "claims": [claim.to_dict() for claim in claims],
        "budgets": budgets,
    }
