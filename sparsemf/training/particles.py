"""The particles θ_i = (a_i, w_i, b_i) of a run, and their Langevin update."""

from __future__ import annotations

import math

import numpy as np
import torch

from sparsemf.measures import Network, Provenance
from sparsemf.training.config import TrainConfig


class Particles:
    """N particles in one flat buffer, so that decay, drift and noise are one pass each.

    Attributes
    ----------
    flat : (N·(m + k),)
        All parameters.
    outer : (N, m), inner : (N, k)
        Views of ``flat``; k = d, or d + 1 with the bias as last column.
    """

    def __init__(self, width: int, outputs: int, inputs: int, bias: bool, like: torch.Tensor) -> None:
        self.width, self.outputs, self.inputs, self.bias = width, outputs, inputs, bias
        self.columns = inputs + int(bias)
        self.flat = torch.zeros(width * (outputs + self.columns), dtype=like.dtype, device=like.device)
        self.outer, self.inner = self.split(self.flat)

    def split(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(outer, inner) views of a buffer shaped like ``flat``."""
        cut = self.width * self.outputs
        return flat[:cut].view(self.width, self.outputs), flat[cut:].view(self.width, self.columns)

    def initialise(self, config: TrainConfig, generator: torch.Generator) -> None:
        """O(1) initialisation of the mean-field scaling: a ~ ±1 or N(0, 1), (w, b) ~ N(0, init_scale²/d)."""
        self.flat.normal_(generator=generator)
        if config.init_outer == "sign":
            self.outer.copy_(torch.where(self.outer > 0, 1.0, -1.0))
        self.inner.mul_(config.init_scale / math.sqrt(self.inputs))

    def network(self, activation: str, source: str, precision: str) -> Network:
        """The student as a network: output scale 1/N."""
        inner = self.inner.detach().cpu().numpy()
        return Network(
            outer=self.outer.detach().cpu().numpy(),
            inner=inner[:, : self.inputs],
            bias=inner[:, self.inputs] if self.bias else np.zeros(self.width),
            activation=activation,
            scale=1.0 / self.width,
            provenance=Provenance(source=source, precision=precision),
        )


def langevin_step(
    flat: torch.Tensor,
    gradient: torch.Tensor,
    noise: torch.Tensor,
    generator: torch.Generator,
    step_size: float,
    temperature: float,
    weight_decay: float,
) -> None:
    """θ ← θ − η(N∇R_N + λθ) + √(2τη) ξ, ξ ~ N(0, I), in place.

    ``gradient`` is N∇R_N: neither the decay nor the noise carries a factor 1/N or √N.  Without data the update
    is an AR(1) chain with stationary variance τ/(λ(1 − ηλ/2)) in every coordinate.  At τ = 0 no random number
    is drawn.
    """
    flat.mul_(1.0 - step_size * weight_decay).add_(gradient, alpha=-step_size)
    if temperature > 0.0:
        noise.normal_(generator=generator)
        flat.add_(noise, alpha=math.sqrt(2.0 * temperature * step_size))
