"""One update of the particles: Euler-Maruyama, BAOAB, Adam.

With U(θ) = N·R_N + (λ/2)Σ‖θ_i‖² the drift is g_i = N∇_{θ_i}R_N + λθ_i = ∇_{θ_i}U, and the law aimed at is the Gibbs law
exp(−U/τ).  Neither the decay nor the noise carries a factor 1/N or √N.

**euler**: θ ← θ − ηg + √(2τη)ξ.  Weak order 1: its stationary law differs from the Gibbs law by O(η); for
U = (λ/2)θ² it is N(0, τ/(λ(1 − ηλ/2))).  A constant multiplier p > 0 of the step size of a layer (as the standard
and NTK parametrisations have) goes with noise √(2τηp) and keeps the Gibbs law.

**baoab**: velocities v, time step h, friction γ, unit masses; one gradient a step (the last one of the step before):

    v ← v − (h/2)g,  θ ← θ + (h/2)v,  v ← e^{−γh}v + √(τ(1 − e^{−2γh}))ξ,  θ ← θ + (h/2)v,  v ← v − (h/2)g(θ).

For U = (λ/2)θ² and h²λ < 4 its stationary law of θ is N(0, τ/λ) *exactly*; in general its bias is O(h²)
(Leimkuhler and Matthews, *Rational construction of stochastic numerical methods for molecular sampling*, 2013).  Proof:
follow the covariances (θθ, θv, vv) through one step, from (τ/λ, 0, τ(1 − h²λ/4)):

    B: (τ/λ, −hτ/2, τ),  A: (τ/λ − h²τ/4, 0, τ),  O: the same,  A: (τ/λ, hτ/2, τ),  B: (τ/λ, 0, τ(1 − h²λ/4)).

**adam**: θ ← θ − η m̂/(√v̂ + ε) − ηλθ + √(2τη)ξ with m, v the running means of g and g² (decay decoupled).  The
preconditioner depends on the past and on θ, without the correction that a state-dependent diffusion needs, and the
noise is not preconditioned: *it samples no stated law*, at any temperature.  At τ = 0 it is an optimiser.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch

from sparsemf.training.config import TrainConfig
from sparsemf.training.particles import Particles
from sparsemf.training.randomness import Stream

Rates = tuple[float, float, float]
"""(η, τ, λ)."""

LAWS = {
    "euler": "Gibbs law exp(-U/tau) up to O(eta)",
    "baoab": "Gibbs law exp(-U/tau) up to O(h^2), exact for quadratic U",
    "adam": "no stated law",
}


class Integrator(ABC):
    """Moves the particles of all replicas by one step.

    ``multipliers`` are those of the outer and the inner step size; 0 freezes a layer.
    """

    order = 1
    """Weak order of its stationary law in the step size."""

    def __init__(self, particles: Particles, config: TrainConfig, multipliers: tuple[float, float]) -> None:
        self.particles, self.config, self.multipliers = particles, config, multipliers

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Its state beside the particles, each shaped like ``particles.flat``."""
        return {}

    def start(self, rates: Sequence[Rates]) -> None:
        """Draw the initial state; not called when one is restored."""
        del rates

    @abstractmethod
    def update(
        self, step: int, rates: Sequence[Rates], gradient: torch.Tensor, evaluate: Callable[[], torch.Tensor]
    ) -> None:
        """``gradient`` is N∇R_N at the particles; ``evaluate`` computes it anew where they are then, in place."""

    def _parts(self, flat: torch.Tensor) -> list[tuple[torch.Tensor, float]]:
        """(view, multiplier) of what moves; the whole at once where the multipliers agree."""
        outer, inner = self.multipliers
        if outer == inner:
            return [(flat, outer)]
        parts = zip(self.particles.split(flat), self.multipliers, strict=True)
        return [(part, factor) for part, factor in parts if factor > 0]

    def _add_noise(self, step: int, target: torch.Tensor, scales: Sequence[float]) -> None:
        outer, inner = (math.sqrt(factor) for factor in self.multipliers)
        parts = self.config.noise_substeps
        scaled = [[s * factor / math.sqrt(parts) for s in scales] for factor in (outer, inner)]
        for part in range(parts):
            self.particles.add_normals(Stream.NOISE, step * parts + part, target, *scaled)


def _axpy(target: torch.Tensor, scale: Sequence[float], other: torch.Tensor, factor: Sequence[float]) -> None:
    """target ← scale·target + factor·other, a pair of numbers for each replica; other may be target itself."""
    if len(set(scale)) == 1 and len(set(factor)) == 1:
        if scale[0] != 1.0:
            target.mul_(scale[0])
        target.add_(other, alpha=factor[0])
        return
    for r in range(len(scale)):
        target[r].mul_(scale[r]).add_(other[r], alpha=factor[r])


class Euler(Integrator):
    """Euler-Maruyama."""

    _rates_there: tuple[list[Rates], torch.Tensor] | None = None
    _seeds_there: torch.Tensor | None = None

    def update(
        self, step: int, rates: Sequence[Rates], gradient: torch.Tensor, evaluate: Callable[[], torch.Tensor]
    ) -> None:
        del evaluate
        if self._on_device(step, rates, gradient):
            return
        p = self.particles
        if len(set(rates)) == 1:
            eta, _, decay = rates[0]
            for (part, factor), (grad, _) in zip(self._parts(p.flat), self._parts(gradient), strict=True):
                part.mul_(1.0 - eta * factor * decay).add_(grad, alpha=-eta * factor)
        else:
            for part, grad, factor in zip(p.split(p.flat), p.split(gradient), self.multipliers, strict=True):
                _axpy(part, [1.0 - r[0] * factor * r[2] for r in rates], grad, [-r[0] * factor for r in rates])
        self._add_noise(step, p.flat, [math.sqrt(2.0 * tau * eta) for eta, tau, _ in rates])

    def _on_device(self, step: int, rates: Sequence[Rates], gradient: torch.Tensor) -> bool:
        p = self.particles
        if not (p.flat.is_cuda and p.flat.dtype == torch.float32 and self.multipliers == (1.0, 1.0)):
            return False
        if len(set(p.first)) > 1 or self.config.noise_substeps > 1:
            return False
        from sparsemf.training.triton_kernels import langevin

        # one copy to the card for each change of the rates: a step of a small system is bound by its launches
        if self._rates_there is None or self._rates_there[0] != list(rates):
            there = torch.tensor(rates, dtype=torch.float32).T.contiguous().to(p.flat.device, non_blocking=True)
            self._rates_there = list(rates), there
        if self._seeds_there is None:
            self._seeds_there = torch.tensor(p.seeds, dtype=torch.int64, device=p.flat.device)
        grads = p.split(gradient)
        eta, tau, decay = self._rates_there[1]
        seeds, stream = self._seeds_there, int(Stream.NOISE)
        langevin(p.outer, p.inner, *grads, None, seeds, p.first[0], step, stream, eta, tau, decay)
        return True


class Baoab(Integrator):
    """Underdamped Langevin dynamics by the splitting B-A-O-A-B."""

    order = 2

    def __init__(self, particles: Particles, config: TrainConfig, multipliers: tuple[float, float]) -> None:
        super().__init__(particles, config, multipliers)
        self.velocity = torch.zeros_like(particles.flat)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        return {"velocity": self.velocity}

    def start(self, rates: Sequence[Rates]) -> None:
        """v ~ N(0, τI), the law of a unit mass at the temperature."""
        scales = [math.sqrt(tau) for _, tau, _ in rates]
        outer = [s * (self.multipliers[0] > 0) for s in scales]
        self.particles.add_normals(Stream.VELOCITY, 0, self.velocity, outer, scales)

    def update(
        self, step: int, rates: Sequence[Rates], gradient: torch.Tensor, evaluate: Callable[[], torch.Tensor]
    ) -> None:
        p = self.particles
        half = [0.5 * r[0] for r in rates]
        ones = [1.0] * len(rates)
        keep = [math.exp(-self.config.friction * r[0]) for r in rates]
        self._kick(half, rates, gradient)
        for view, speed in zip(p.split(p.flat), p.split(self.velocity), strict=True):
            _axpy(view, ones, speed, half)
        for speed in p.split(self.velocity):
            _axpy(speed, keep, speed, [0.0] * len(keep))
        noise = [math.sqrt(r[1] * (1.0 - c * c)) for r, c in zip(rates, keep, strict=True)]
        self._add_noise(step, self.velocity, noise)
        for view, speed in zip(p.split(p.flat), p.split(self.velocity), strict=True):
            _axpy(view, ones, speed, half)
        self._kick(half, rates, evaluate())

    def _kick(self, half: Sequence[float], rates: Sequence[Rates], gradient: torch.Tensor) -> None:
        """v ← v − (h/2)(N∇R_N + λθ) where a layer moves."""
        p = self.particles
        ones = [1.0] * len(rates)
        parts = zip(p.split(self.velocity), p.split(gradient), p.split(p.flat), self.multipliers, strict=True)
        for speed, grad, theta, factor in parts:
            if factor > 0:
                _axpy(speed, ones, grad, [-h for h in half])
                _axpy(speed, ones, theta, [-h * r[2] for h, r in zip(half, rates, strict=True)])


class Adam(Integrator):
    """Preconditioned by running moments."""

    def __init__(self, particles: Particles, config: TrainConfig, multipliers: tuple[float, float]) -> None:
        super().__init__(particles, config, multipliers)
        self.mean, self.square = torch.zeros_like(particles.flat), torch.zeros_like(particles.flat)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        return {"adam.mean": self.mean, "adam.square": self.square}

    def update(
        self, step: int, rates: Sequence[Rates], gradient: torch.Tensor, evaluate: Callable[[], torch.Tensor]
    ) -> None:
        del evaluate
        p, c = self.particles, self.config
        self.mean.mul_(c.beta1).add_(gradient, alpha=1.0 - c.beta1)
        self.square.mul_(c.beta2).addcmul_(gradient, gradient, value=1.0 - c.beta2)
        bias1, bias2 = 1.0 - c.beta1 ** (step + 1), 1.0 - c.beta2 ** (step + 1)
        direction = self.square.div(bias2).sqrt_().add_(c.adam_epsilon).reciprocal_().mul_(self.mean).div_(bias1)
        for part, move, factor in zip(p.split(p.flat), p.split(direction), self.multipliers, strict=True):
            if factor > 0:
                _axpy(part, [1.0 - r[0] * factor * r[2] for r in rates], move, [-r[0] * factor for r in rates])
        self._add_noise(step, p.flat, [math.sqrt(2.0 * tau * eta) for eta, tau, _ in rates])


INTEGRATORS: dict[str, type[Integrator]] = {"euler": Euler, "baoab": Baoab, "adam": Adam}


def multipliers_of(config: TrainConfig) -> tuple[float, float]:
    """Step-size multipliers (outer, inner) of the parametrisation, in mean-field coordinates.

    standard: f = Σ ã_i σ(⟨w_i, x⟩), a = Nã.  −η∂R/∂ã = −ηE[rσ], so a moves by N times η(N∇_a R), and
    ∂R/∂w = (1/N)(N∇_w R).  ntk: f = N^{−1/2} Σ ã_i σ, a = √N ã: 1 and 1/N.  Adam's steps do not scale with the
    gradient: standard has (N, 1), ntk (√N, 1).
    """
    width = float(config.width)
    adam = config.integrator == "adam"
    outer, inner = {
        "mean-field": (1.0, 1.0),
        "standard": (width, 1.0 if adam else 1.0 / width),
        "ntk": (math.sqrt(width) if adam else 1.0, 1.0 if adam else 1.0 / width),
    }[config.parametrisation]
    return (0.0 if config.outer == "fixed" else outer), inner
