"""What a run writes down: one record per cadence, one JSON line each."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Record:
    """The state of a run after ``step`` updates.

    Attributes
    ----------
    loss :
        R_N = mean ℓ(f, y) of the steps since the last record, each on its own batch before its update.
    risk :
        mean ℓ (½ ‖f_N − f‖² for the square loss) at the recorded step, on the fixed test inputs of a population task
        (noise-free labels), or on all samples of a data set.
    rel_error :
        ‖f_N − f‖/‖f‖ on the same inputs, for a data set with the labels for f; None for a classification loss.
    accuracy :
        Share of the same inputs on the right side (logistic: of the entries), None for a regression loss.
    m2, m4 :
        Moments m_k = (1/N) Σ_i ‖θ_i‖^k.
    drift, discretisation, noise :
        The energy balance of one update, (1/N) Σ_i ⟨θ_i, g_i⟩, (η/2)(1/N) Σ_i ‖g_i‖² and τD with
        g_i = N∇_{θ_i}R_N + λθ_i and D = m + d (+ 1): E Δm₂ = −2η(drift − discretisation − noise), so at
        stationarity drift = discretisation + noise.  BAOAB: the same identity with another discretisation
        (:func:`velocity_discretisation`).  Frozen coordinates are left out.
    balance :
        (drift − discretisation − noise) divided by λm₂ + |(1/N) Σ_i ⟨θ_i, N∇_{θ_i}R_N⟩| + |discretisation| + noise;
        None for adam and for the standard and NTK parametrisations, which have no such identity.
    step_size, temperature, weight_decay :
        The values of the recorded update.
    energy, entropy, free_energy :
        risk + (λ/2)m₂, the differential entropy of one particle's law in nats (estimated from 512 particles) and
        energy − τ·entropy (:mod:`~sparsemf.training.free_energy`); None where particles coincide, the entropy also at
        τ = 0.
    """

    step: int
    loss: float
    risk: float
    rel_error: float | None
    m2: float
    m4: float
    drift: float
    discretisation: float
    noise: float
    balance: float | None
    step_size: float
    temperature: float
    weight_decay: float
    accuracy: float | None = None
    energy: float | None = None
    entropy: float | None = None
    free_energy: float | None = None

    def line(self) -> str:
        """One line of metrics.jsonl, newline included."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Record:
        return cls(**values)


def velocity_discretisation(kinetic: float, noise: float, step_size: float, friction: float) -> float:
    """What drift exceeds noise by in the stationary law of BAOAB: ((1 + c)/2)²(K − τD), c = e^{−γh}.

    ``kinetic`` is K = E‖v − (h/2)g‖², the square of the velocity after the first kick, ``noise`` is τD.  Exact for
    every potential and step size.  Proof: let u = v − (h/2)g, û = cu + √(τ(1 − c²))ξ, θ′ = θ + (h/2)(u + û) and
    v′ = û − (h/2)g(θ′) be one step from the stationary law.  E‖θ′‖² = E‖θ‖² and E⟨θ′, v′⟩ = E⟨θ, v⟩ say

        (h/2)E⟨θ, g⟩ = E⟨θ, v⟩ + (h/4)((1 + c)K + (1 − c)τD),
        (h/2)(1 + c)E⟨θ, g⟩ = −(1 − c)E⟨θ, v⟩ + (h/2)(c(1 + c)K + (1 − c²)τD),

    and elimination of E⟨θ, v⟩, which a slow drift of ‖θ‖² would hide in, leaves
    E⟨θ, g⟩ = qK + (1 − q)τD with q = ((1 + c)/2)².
    """
    return (0.5 * (1.0 + math.exp(-friction * step_size))) ** 2 * (kinetic - noise)


def energy_balance(
    theta: torch.Tensor,
    gradient: torch.Tensor,
    width: int,
    step_size: float,
    temperature: float,
    weight_decay: float,
    *,
    total: Callable[[torch.Tensor], torch.Tensor],
    velocity: tuple[torch.Tensor, float] | None = None,
) -> dict[str, float]:
    """drift, discretisation, noise and balance of :class:`Record`, from θ and N∇R_N (n, D) before the update.

    ``velocity``: v (n, D) and the friction of BAOAB; None for an Euler step.  ``width`` is N, of which ``total`` sums
    the parts that other ranks hold.
    """
    rows = max(1, (1 << 18) // max(theta.shape[-1], 1))
    sums = torch.zeros(3, dtype=torch.float64)
    for start in range(0, theta.shape[0], rows):
        part, grad = theta[start : start + rows].double(), gradient[start : start + rows].double()
        moved = grad + weight_decay * part
        if velocity is not None:
            moved = velocity[0][start : start + rows].double() - 0.5 * step_size * moved
        sums += torch.stack([part.square().sum(), (part * grad).sum(), moved.square().sum()]).cpu()
    square, product, moved_square = (total(sums) / width).tolist()
    decay, noise = weight_decay * square, temperature * theta.shape[-1]
    if velocity is None:
        discretisation = 0.5 * step_size * moved_square
    else:
        discretisation = velocity_discretisation(moved_square, noise, step_size, velocity[1])
    scale = decay + abs(product) + abs(discretisation) + noise
    excess = decay + product - discretisation - noise
    return {
        "drift": decay + product,
        "discretisation": discretisation,
        "noise": noise,
        "balance": excess / scale if scale > 0 else 0.0,
    }


def norms(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """‖θ_i‖ (n,), in double precision, from (n, m) and (n, k)."""
    rows = max(1, (1 << 20) // max(outer.shape[-1] + inner.shape[-1], 1))
    parts = [
        outer[i : i + rows].double().square().sum(1) + inner[i : i + rows].double().square().sum(1)
        for i in range(0, outer.shape[0], rows)
    ]
    return torch.cat(parts).sqrt_().cpu()
