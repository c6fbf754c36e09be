"""Annealing schedules of step size, temperature and weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sparsemf.exceptions import InputError

Kind = Literal["constant", "linear", "cosine", "exponential"]


@dataclass(frozen=True)
class Schedule:
    """A value that moves from ``initial`` to ``final`` while the run goes from ``begin`` to ``end``.

    ``begin`` and ``end`` are fractions of the run's steps.  With u = clip((t/T − begin)/(end − begin), 0, 1):

    - constant: initial;
    - linear: initial + u·(final − initial);
    - cosine: final + ½(1 + cos πu)·(initial − final);
    - exponential: initial^{1−u}·final^u (both > 0).

    Raises :class:`~sparsemf.exceptions.InputError` when a value is negative or not finite, or when an
    exponential schedule starts or ends at 0.
    """

    initial: float
    final: float | None = None
    kind: Kind = "constant"
    begin: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"schedule: expected one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if self.kind != "constant" and self.final is None:
            raise InputError(f"schedule: a {self.kind} schedule needs a final value")
        if self.kind == "constant" and self.final is not None and self.final != self.initial:
            raise InputError("schedule: a constant one has no other final value; choose linear, cosine or exponential")
        for value in (self.initial, self.last):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"schedule: expected a finite number ≥ 0, got {value}")
        if self.kind == "exponential" and min(self.initial, self.last) <= 0:
            raise InputError("schedule: an exponential schedule needs initial and final values > 0")
        if not 0 <= self.begin < self.end <= 1:
            raise InputError(f"schedule: expected 0 ≤ begin < end ≤ 1, got begin = {self.begin}, end = {self.end}")

    @property
    def last(self) -> float:
        """The value from ``end`` on."""
        return self.initial if self.final is None else self.final

    def at(self, step: int, steps: int) -> float:
        """The value used in step ``step`` (0 … steps − 1) of a run of ``steps``."""
        if self.kind == "constant" or self.initial == self.last:
            return self.initial
        u = min(max((step / steps - self.begin) / (self.end - self.begin), 0.0), 1.0)
        if self.kind == "linear":
            return self.initial + u * (self.last - self.initial)
        if self.kind == "cosine":
            return self.last + 0.5 * (1.0 + math.cos(math.pi * u)) * (self.initial - self.last)
        return math.exp((1.0 - u) * math.log(self.initial) + u * math.log(self.last))

    @property
    def largest(self) -> float:
        """The largest value it takes."""
        return max(self.initial, self.last)

    def moves_after(self, fraction: float) -> bool:
        """Whether the value still changes after this fraction of the run."""
        return self.kind != "constant" and self.initial != self.last and self.end > fraction

    @classmethod
    def of(cls, value: float | Schedule | dict[str, Any]) -> Schedule:
        """A schedule from a number (constant), a schedule, or the dictionary of one."""
        if isinstance(value, Schedule):
            return value
        if isinstance(value, dict):
            return cls(**value)
        return cls(float(value))
