"""The configuration of a run: validated on construction, the same thing in JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from sparsemf.activations import get
from sparsemf.exceptions import InputError
from sparsemf.training.schedule import Schedule

Sampling = Literal["auto", "fresh", "minibatch", "full"]
OuterInit = Literal["sign", "gaussian"]
Precision = Literal["float32", "float64"]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a run, given the task.

    Attributes
    ----------
    activation, width, bias :
        Student f(x) = (1/N) Σ_i a_i σ(⟨w_i, x⟩ + b_i) of N = ``width`` particles; b_i trained iff ``bias``.
    steps :
        Number of updates.
    step_size, temperature, weight_decay :
        η, τ and λ (numbers or :class:`Schedule`).  η is the mean-field rate: it multiplies N∇R_N, so it is O(1).
    sampling :
        ``fresh`` (new Gaussian inputs every step), ``minibatch`` (epochs, reshuffled), ``full`` (every sample,
        every step), or ``auto``: fresh where the task is a population, else minibatch.
    batch :
        Samples a step (not used by ``full``).
    samples :
        Size of the training set drawn once from a population task, for ``minibatch`` and ``full``.
    init_outer, init_scale :
        a_i ~ ±1 or N(0, 1); (w_i, b_i) ~ N(0, init_scale²/d).
    metrics_every, checkpoint_every :
        Cadence in steps; the last step is always recorded.  0: no checkpoint before the end.
    test_samples :
        Gaussian inputs of the fixed test set on which the population error is measured.
    block :
        Largest number of pre-activations in memory at a time; changes results by rounding only.
    threads :
        Threads of torch during the run.  0: one for small steps (width·batch ≤ 2¹⁸, where more threads wait longer than
        they work), else torch's own number.  Sums depend on it in the last bit, so a run keeps its number.
    """

    activation: str
    width: int = 1024
    bias: bool = False
    steps: int = 20_000
    step_size: Schedule = field(default_factory=lambda: Schedule(0.3, 0.03, "cosine", 0.7, 1.0))
    temperature: Schedule = field(default_factory=lambda: Schedule(1e-3, 1e-8, "exponential", 0.0, 0.5))
    weight_decay: Schedule = field(default_factory=lambda: Schedule(3e-2, 1e-5, "exponential", 0.05, 0.9))
    sampling: Sampling = "auto"
    batch: int = 128
    samples: int | None = None
    init_outer: OuterInit = "gaussian"
    init_scale: float = 1.0
    seed: int = 0
    precision: Precision = "float32"
    device: str = "cpu"
    metrics_every: int = 100
    checkpoint_every: int = 2000
    test_samples: int = 4096
    block: int = 1 << 22
    threads: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", get(self.activation).name)
        for name in ("step_size", "temperature", "weight_decay"):
            object.__setattr__(self, name, Schedule.of(getattr(self, name)))
        for name in ("width", "steps", "batch", "metrics_every", "test_samples", "block"):
            self._at_least(name, 1)
        for name in ("checkpoint_every", "seed", "threads"):
            self._at_least(name, 0)
        if self.samples is not None:
            self._at_least("samples", 1)
        for name, kind in (("sampling", Sampling), ("init_outer", OuterInit), ("precision", Precision)):
            if getattr(self, name) not in get_args(kind):
                raise InputError(f"{name}: expected one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        if not (math.isfinite(self.init_scale) and self.init_scale > 0):
            raise InputError(f"init_scale: expected a number > 0, got {self.init_scale}")
        if self.step_size.initial <= 0:
            raise InputError(f"step_size: expected a number > 0, got {self.step_size.initial}")
        if self.step_size.initial * self.weight_decay.initial >= 2:
            raise InputError(
                "step_size × weight_decay must be below 2 for the decay to be stable, got "
                f"{self.step_size.initial * self.weight_decay.initial:g}; take a smaller step size"
            )

    def _at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name}: expected an integer ≥ {least}, got {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Raises :class:`InputError` on unknown or missing keys."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(f"unknown training option {unknown[0]!r}; known: {', '.join(sorted(known))}")
        if "activation" not in values:
            raise InputError("training configuration: 'activation' is missing")
        return cls(**values)
