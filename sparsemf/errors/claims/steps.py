"""Steps of an experiment: pure functions with plain arguments, whose results are kept and not computed again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sparsemf.atomic import plain, tool_version, write_json
from sparsemf.errors.runs import in_parallel
from sparsemf.training.task import Task, describe

Verdict = Literal["holds", "reading", "fails", "undecided"]
Watch = Callable[[int, int], None]

STEPS = "steps"


@dataclass(frozen=True)
class Step:
    """``call(folder, **arguments)`` → plain JSON; ``folder`` is for runs that the step may keep."""

    name: str
    call: Callable[..., dict[str, Any]]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name of its file: what it is, and the version that computed it."""
        given = {k: describe(v) if isinstance(v, Task) else v for k, v in self.arguments.items()}
        text = json.dumps(
            {"call": f"{self.call.__module__}.{self.call.__name__}", "arguments": plain(given),
             "version": tool_version()},
            sort_keys=True,
        )  # fmt: skip
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Figure:
    """Series [{label, points, errors, line, dashed}] for a plot; ``kind``: "certificate" or "estimate"."""

    title: str
    x: str
    y: str
    series: Sequence[Mapping[str, Any]]
    kind: str = "estimate"
    x_log: bool = True
    y_log: bool = True


@dataclass(frozen=True)
class Listing:
    """A table of texts."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = "estimate"


@dataclass(frozen=True)
class Answer:
    """One statement that was put to the test."""

    statement: str
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class Claim:
    """One of the four results: what the abstract says, how it is read here, what was found."""

    name: str
    title: str
    says: str
    reading: str
    answers: Sequence[Answer]
    figures: Sequence[Figure] = ()
    tables: Sequence[Listing] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return plain(
            {
                "name": self.name,
                "title": self.title,
                "says": self.says,
                "reading": self.reading,
                "answers": [vars(a) for a in self.answers],
                "figures": [vars(f) for f in self.figures],
                "tables": [vars(t) for t in self.tables],
                "numbers": dict(self.numbers),
            }
        )


def kept(folder: Path, step: Step) -> dict[str, Any]:
    """The result of ``step``, from its file or computed now."""
    path = folder / STEPS / f"{step.key}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    found = plain(step.call(folder, **step.arguments))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
    return found


def results(folder: Path, steps: Sequence[Step], jobs: int, watch: Watch) -> dict[str, dict[str, Any]]:
    """The results of all steps by name; missing ones are computed in ``jobs`` processes."""
    found = in_parallel([(kept, (folder, step)) for step in steps], jobs, watch)
    return {step.name: result for step, result in zip(steps, found, strict=True)}
