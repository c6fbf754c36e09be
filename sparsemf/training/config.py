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
OuterInit = Literal["sign", "gaussian", "one"]
Precision = Literal["float32", "float64"]
Compute = Literal["float32", "tf32", "bf16"]
LossName = Literal["square", "huber", "logistic", "softmax"]
Integrator = Literal["euler", "baoab", "adam"]
Outer = Literal["trained", "bounded", "fixed"]
Parametrisation = Literal["mean-field", "standard", "ntk"]
Until = Literal["budget", "stationary"]


CHOICES = {
    "sampling": Sampling,
    "init_outer": OuterInit,
    "precision": Precision,
    "compute": Compute,
    "loss": LossName,
    "integrator": Integrator,
    "outer": Outer,
    "parametrisation": Parametrisation,
    "until": Until,
}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a run, given the task.

    Attributes
    ----------
    activation, width, bias :
        Student f(x) = (1/N) Σ_i a_i σ(⟨w_i, x⟩ + b_i) of N = ``width`` particles; b_i trained iff ``bias``.
    loss, huber_delta :
        ``square``, ``huber`` with its δ, ``logistic`` or ``softmax`` (:mod:`sparsemf.training.losses`).
    steps :
        Number of updates; with ``until="stationary"`` the budget.
    until :
        ``budget``: run all steps.  ``stationary``: stop at the first look that finds the run stationary
        (:mod:`sparsemf.training.stationarity`).
    integrator, friction, beta1, beta2, adam_epsilon :
        ``euler`` (Euler-Maruyama), ``baoab`` (underdamped Langevin of that friction; the step size is a time step) or
        ``adam`` (preconditioned by running moments; samples no stated law), see :mod:`sparsemf.training.integrators`.
    outer, outer_bound :
        ``trained``; ``bounded``: a = B·tanh(α/B), B = ``outer_bound``, α trained; ``fixed`` at its initial value.
    parametrisation :
        ``mean-field`` (μP for two layers), or what it is compared with, ``standard`` and ``ntk``, in the same
        coordinates: a of size √N, and step sizes of the two layers multiplied by (N, 1/N) and (1, 1/N).
    step_size, temperature, weight_decay :
        η, τ and λ (numbers or :class:`Schedule`).  η is the mean-field rate: it multiplies N∇R_N, so it is O(1).
    sampling :
        ``fresh`` (new Gaussian inputs every step), ``minibatch`` (epochs, reshuffled), ``full`` (every sample,
        every step), or ``auto``: fresh where the task is a population, else minibatch.
    batch :
        Samples a step (not used by ``full``).
    samples :
        Size of the training set drawn once from a population task, for ``minibatch`` and ``full``.
    anchor_every :
        0, or the steps between full gradients of a control variate for ``minibatch``:
        g(θ; batch) − g(θ̃; batch) + g(θ̃; all samples) with θ̃ the particles at the last of them.
    init_outer, init_scale, init_tail :
        a_i ~ ±1, N(0, 1) or 1; (w_i, b_i) ~ N(0, init_scale²/d).  ``init_tail`` = ν ≥ 1: all of it times √(ν/χ²_ν), a
        Student law, whose moments of order ≥ ν are infinite.
    noise_substeps :
        M ≥ 1, for ``euler``: the noise of step k is M^{−1/2} Σ_{j<M} ξ_{Mk+j}, so that a run at step size Mη moves on
        the Brownian path of the run at η (1: ξ_k).
    seed, first_particle :
        Particle i has the noise and the initial value of (seed, first_particle + i): runs of one seed are coupled.
    metrics_every, checkpoint_every :
        Cadence in steps; the last step is always recorded.  0: no checkpoint before the end.
    test_samples :
        Gaussian inputs of the fixed test set on which the population error is measured.
    precision, compute :
        Of the state; of the operands of matrix products on CUDA (sums and state stay float32).
    block :
        Largest number of pre-activations in memory at a time; changes results by rounding only.
    threads :
        Threads of torch during the run.  0: one for small steps (width·batch ≤ 2¹⁸, where more threads wait longer than
        they work), else torch's own number.  Sums depend on it in the last bit, so a run keeps its number.
    """

    activation: str
    width: int = 1024
    bias: bool = False
    loss: LossName = "square"
    huber_delta: float = 1.0
    steps: int = 20_000
    until: Until = "budget"
    integrator: Integrator = "euler"
    friction: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    adam_epsilon: float = 1e-8
    outer: Outer = "trained"
    outer_bound: float = 10.0
    parametrisation: Parametrisation = "mean-field"
    step_size: Schedule = field(default_factory=lambda: Schedule(0.3, 0.03, "cosine", 0.7, 1.0))
    temperature: Schedule = field(default_factory=lambda: Schedule(1e-3, 1e-8, "exponential", 0.0, 0.5))
    weight_decay: Schedule = field(default_factory=lambda: Schedule(3e-2, 1e-5, "exponential", 0.05, 0.9))
    sampling: Sampling = "auto"
    batch: int = 128
    samples: int | None = None
    anchor_every: int = 0
    init_outer: OuterInit = "gaussian"
    init_scale: float = 1.0
    init_tail: int | None = None
    noise_substeps: int = 1
    seed: int = 0
    first_particle: int = 0
    precision: Precision = "float32"
    compute: Compute = "float32"
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
        for name in ("width", "steps", "batch", "metrics_every", "test_samples", "block", "noise_substeps"):
            self._at_least(name, 1)
        for name in ("checkpoint_every", "seed", "first_particle", "anchor_every", "threads"):
            self._at_least(name, 0)
        for name in ("samples", "init_tail"):
            if getattr(self, name) is not None:
                self._at_least(name, 1)
        for name, kind in CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                raise InputError(f"{name}: expected one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        for name in ("init_scale", "huber_delta", "friction", "outer_bound", "adam_epsilon"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"{name}: expected a number > 0, got {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name}: expected a number in [0, 1), got {getattr(self, name)}")
        if self.seed >= 1 << 63 or self.first_particle >= 1 << 48:
            raise InputError("seed must be below 2⁶³ and first_particle below 2⁴⁸")
        if self.compute != "float32" and (self.precision != "float32" or self.device == "cpu"):
            raise InputError(f"compute {self.compute}: for precision float32 on a CUDA device; take --device cuda")
        self._check_integrator()

    def _check_integrator(self) -> None:
        # on a grid: the two schedules need not be largest at the same time
        times = range(0, self.steps, max(1, self.steps // 512))
        rates = [(self.step_size.at(t, self.steps), self.weight_decay.at(t, self.steps)) for t in times]
        if self.step_size.initial <= 0:
            raise InputError(f"step_size: expected a number > 0, got {self.step_size.initial}")
        if self.noise_substeps > 1 and self.integrator != "euler":
            raise InputError(f"noise_substeps: expected integrator euler, got {self.integrator}")
        if self.integrator == "baoab":
            if self.parametrisation != "mean-field":
                raise InputError("integrator baoab: expected parametrisation mean-field (unit masses)")
            if (worst := max(h * h * decay for h, decay in rates)) >= 4:
                raise InputError(
                    f"step_size² × weight_decay must be below 4 for baoab to be stable, got {worst:g}; "
                    "take a smaller step size"
                )
        elif (worst := max(eta * decay for eta, decay in rates)) >= 2:
            raise InputError(
                f"step_size × weight_decay must be below 2 for the decay to be stable, got {worst:g}; "
                "take a smaller step size"
            )
        if self.until == "stationary":
            for name in ("step_size", "temperature", "weight_decay"):
                if getattr(self, name).moves_after(0.0):
                    raise InputError(f"until stationary: expected a constant {name.replace('_', ' ')}, got a schedule")

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
