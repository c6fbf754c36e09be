"""What a run writes down: one record per cadence, one JSON line each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Record:
    """The state of a run after ``step`` updates.

    Attributes
    ----------
    loss :
        R_N = ½ mean‖f − y‖² of the steps since the last record, each on its own batch before its update.
    risk :
        ½ ‖f_N − f‖² at the recorded step, on the fixed test inputs of a population task (noise-free labels), or on
        all samples of a data set.
    rel_error :
        ‖f_N − f‖/‖f‖ on the same inputs; for a data set f is replaced by the labels.
    m2, m4 :
        Moments m_k = (1/N) Σ_i ‖θ_i‖^k.
    drift, discretisation, noise :
        The energy balance of one update, (1/N) Σ_i ⟨θ_i, g_i⟩, (η/2)(1/N) Σ_i ‖g_i‖² and τD with
        g_i = N∇_{θ_i}R_N + λθ_i and D = m + d (+ 1): E Δm₂ = −2η(drift − discretisation − noise), so at
        stationarity drift = discretisation + noise.
    balance :
        (drift − discretisation − noise) divided by λm₂ + |(1/N) Σ_i ⟨θ_i, N∇_{θ_i}R_N⟩| + discretisation + noise.
    step_size, temperature, weight_decay :
        The values of the recorded update.
    """

    step: int
    loss: float
    risk: float
    rel_error: float
    m2: float
    m4: float
    drift: float
    discretisation: float
    noise: float
    balance: float
    step_size: float
    temperature: float
    weight_decay: float

    def line(self) -> str:
        """One line of metrics.jsonl, newline included."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Record:
        return cls(**values)


def energy_balance(
    flat: torch.Tensor,
    gradient: torch.Tensor,
    width: int,
    step_size: float,
    temperature: float,
    weight_decay: float,
) -> dict[str, float]:
    """drift, discretisation, noise and balance of :class:`Record`, from θ and N∇R_N before the update."""
    theta, grad = flat.double(), gradient.double()
    decay = weight_decay * float(theta @ theta) / width
    data = float(theta @ grad) / width
    g = grad + weight_decay * theta
    discretisation = 0.5 * step_size * float(g @ g) / width
    noise = temperature * (flat.numel() // width)
    scale = decay + abs(data) + discretisation + noise
    excess = decay + data - discretisation - noise
    return {
        "drift": decay + data,
        "discretisation": discretisation,
        "noise": noise,
        "balance": excess / scale if scale > 0 else 0.0,
    }


def moments(outer: torch.Tensor, inner: torch.Tensor) -> tuple[float, float]:
    """(m_2, m_4), m_k = (1/N) Σ_i ‖θ_i‖^k, in double precision."""
    square = outer.double().square().sum(1) + inner.double().square().sum(1)
    return float(square.mean()), float(square.square().mean())
