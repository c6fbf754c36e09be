"""Task names and how to build them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from sparsemf.activations import get, names
from sparsemf.exceptions import InputError
from sparsemf_datasets.hermite import multi_index_task, single_index_task
from sparsemf_datasets.planted import planted_task
from sparsemf_datasets.tabular import diabetes_task, digits_task
from sparsemf_datasets.tasks import DataTask, PopulationTask

AnyTask = PopulationTask | DataTask
_PLANTED = "planted-"


@dataclass(frozen=True)
class TaskEntry:
    """A named task: what it is, its parameters with their defaults, and ``build(**parameters)``."""

    name: str
    description: str
    kind: str
    inputs: int
    outputs: int
    defaults: Mapping[str, Any]
    build: Callable[..., AnyTask]

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": self.description,
            "kind": self.kind,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "parameters": dict(self.defaults),
        }


def _planted_entry(activation: str) -> TaskEntry:
    name = get(activation).name
    build = partial(planted_task, name)
    return TaskEntry(
        _PLANTED + name,
        f"a planted teacher of {name} atoms in well-separated directions",
        "gaussian",
        8,
        1,
        _defaults(build),
        build,
    )


def _defaults(build: Callable[..., AnyTask]) -> dict[str, Any]:
    parameters = inspect.signature(build).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


@cache
def entries() -> tuple[TaskEntry, ...]:
    """All named tasks.  ``planted-A`` works for every activation name A, e.g. ``planted-leaky_relu(0.2)``, too."""
    return (
        *(_planted_entry(name) for name in names()),
        TaskEntry(
            "hermite-single-index",
            "he_k of one direction",
            "gaussian",
            8,
            1,
            _defaults(single_index_task),
            single_index_task,
        ),
        TaskEntry(
            "hermite-multi-index",
            "sum or product of he_k over orthonormal directions",
            "gaussian",
            8,
            1,
            _defaults(multi_index_task),
            multi_index_task,
        ),
        TaskEntry("digits", "scikit-learn's 8×8 digits, centred one-hot labels", "data", 64, 10, {}, digits_task),
        TaskEntry("diabetes", "scikit-learn's diabetes progression", "data", 10, 1, {}, diabetes_task),
    )


def entry(name: str) -> TaskEntry:
    """The entry called ``name``; raises :class:`InputError` with the known names."""
    for candidate in entries():
        if candidate.name == name:
            return candidate
    if name.startswith(_PLANTED):
        return _planted_entry(name[len(_PLANTED) :])
    known = ", ".join(e.name for e in entries())
    raise InputError(f"unknown task {name!r}; known: {known}")


def load_task(name: str, **parameters: Any) -> AnyTask:
    """Build the task ``name``; values may be given as text (as on a command line) and are converted.

    Raises :class:`InputError` for an unknown task or parameter and for a value of the wrong type.
    """
    found = entry(name)
    values: dict[str, Any] = {}
    for key, value in parameters.items():
        if key not in found.defaults:
            known = ", ".join(found.defaults) or "none"
            raise InputError(f"task {name!r} has no parameter {key!r}; known: {known}")
        values[key] = _converted(name, key, value, type(found.defaults[key]))
    return found.build(**values)


def _converted(task: str, key: str, value: Any, kind: type) -> Any:
    if type(value) is kind:
        return value
    if isinstance(value, str):
        text = value.strip().lower()
        if kind is bool and text in ("true", "false", "1", "0", "yes", "no"):
            return text in ("true", "1", "yes")
        if kind is int and text.lstrip("-").isdigit():
            return int(text)
    raise InputError(f"task {task!r}: {key} expects {kind.__name__}, got {value!r}")
