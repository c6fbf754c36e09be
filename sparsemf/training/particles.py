"""The particles θ_i = (a_i, w_i, b_i) of R replicas."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from sparsemf.measures import Network, Provenance
from sparsemf.training.config import TrainConfig
from sparsemf.training.randomness import CHUNK, Stream, normals
from sparsemf.training.ranks import ALONE, Ranks


class Particles:
    """R replicas of N particles in one flat buffer, of which this rank holds n.

    Attributes
    ----------
    flat : (R·n·(m + k),)
        All parameters.
    outer : (R, n, m), inner : (R, n, k)
        Views of ``flat``; k = d, or d + 1 with the bias as last column.  Where the outer weights are bounded, ``outer``
        holds α and the weight is a = B·tanh(α/B).
    """

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        outputs: int,
        inputs: int,
        like: torch.Tensor,
        ranks: Ranks = ALONE,
    ) -> None:
        config = configs[0]
        self.replicas, self.width, self.ranks = len(configs), config.width, ranks
        self.outputs, self.inputs, self.bias = outputs, inputs, config.bias
        self.columns = inputs + int(config.bias)
        start, self.count = ranks.share(config.width)
        self.seeds = [c.seed for c in configs]
        self.first = [c.first_particle + start for c in configs]
        self.bound = config.outer_bound if config.outer == "bounded" else None
        self.flat = torch.zeros(
            self.replicas * self.count * (outputs + self.columns), dtype=like.dtype, device=like.device
        )
        self.outer, self.inner = self.split(self.flat)
        self._cached_runs: tuple[tuple[tuple[float, ...], tuple[float, ...]] | None, list[tuple[int, int]]] = None, []

    @property
    def dimension(self) -> int:
        """D = m + k."""
        return self.outputs + self.columns

    def split(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(outer, inner) views of a buffer shaped like ``flat``."""
        cut = self.replicas * self.count * self.outputs
        return (
            flat[:cut].view(self.replicas, self.count, self.outputs),
            flat[cut:].view(self.replicas, self.count, self.columns),
        )

    def weights(self) -> torch.Tensor:
        """The outer weights a (R, n, m)."""
        return self.outer if self.bound is None else torch.tanh(self.outer / self.bound).mul_(self.bound)

    def initialise(self, configs: Sequence[TrainConfig]) -> None:
        """O(1) initialisation of the mean-field scaling, a function of (seed, particle) alone.

        a ~ ±1, N(0, 1) or 1, (w, b) ~ N(0, init_scale²/d); with ``init_tail`` = ν the whole row is multiplied by
        √(ν/χ²_ν), a multivariate Student law.  Standard and NTK parametrisations multiply a by √N.
        """
        rows = max(1, CHUNK // self.dimension)
        for r, config in enumerate(configs):
            tail = config.init_tail or 0
            inner_scale = config.init_scale / math.sqrt(self.inputs)
            outer_scale = 1.0 if config.parametrisation == "mean-field" else math.sqrt(self.width)
            for start in range(0, self.count, rows):
                a, w = self.outer[r, start : start + rows], self.inner[r, start : start + rows]
                draw = a.new_empty(a.shape[0], self.dimension + tail)
                normals(self.seeds[r], Stream.INITIAL, 0, self.first[r] + start, draw)
                law, own = draw[:, : self.outputs], draw[:, self.outputs : self.dimension]
                if tail:
                    stretch = (tail / draw[:, self.dimension :].square().sum(dim=1, keepdim=True)).sqrt_()
                    law, own = law * stretch, own * stretch
                if config.init_outer == "sign":
                    law = torch.where(law > 0, 1.0, -1.0)
                elif config.init_outer == "one":
                    law = torch.ones_like(law)
                a.copy_(law * outer_scale)
                w.copy_(own * inner_scale)

    def add_normals(
        self, stream: Stream, step: int, target: torch.Tensor, outer: Sequence[float], inner: Sequence[float]
    ) -> None:
        """target += scale·ξ, ξ ~ N(0, I) of (seed, stream, step, particle); a scale for each replica and part.

        ``target`` is shaped like ``flat``.  No array of all the noise exists.
        """
        part_outer, part_inner = self.split(target)
        rows = max(1, CHUNK // self.dimension) if target.device.type == "cpu" else max(1, len(target))
        for begin, end in self._runs(outer, inner):
            if outer[begin] == 0.0 and inner[begin] == 0.0:
                continue
            whole_outer, whole_inner = part_outer[begin:end].flatten(0, 1), part_inner[begin:end].flatten(0, 1)
            scratch = target.new_empty(min(rows, whole_outer.shape[0]), self.dimension)
            for start in range(0, whole_outer.shape[0], rows):
                a, w = whole_outer[start : start + rows], whole_inner[start : start + rows]
                draw = normals(self.seeds[begin], stream, step, self.first[begin] + start, scratch[: a.shape[0]])
                a.add_(draw[:, : self.outputs], alpha=outer[begin])
                w.add_(draw[:, self.outputs :], alpha=inner[begin])

    def _runs(self, outer: Sequence[float], inner: Sequence[float]) -> list[tuple[int, int]]:
        """Replicas begin … end − 1 whose particles have consecutive addresses and one scale: one draw serves them."""
        key = (tuple(outer), tuple(inner))
        if self._cached_runs[0] == key:
            return self._cached_runs[1]
        cuts = [0]
        for r in range(1, self.replicas):
            if (
                self.seeds[r] != self.seeds[r - 1]
                or self.first[r] != self.first[r - 1] + self.count
                or (outer[r], inner[r]) != (outer[r - 1], inner[r - 1])
            ):
                cuts.append(r)
        found = list(zip(cuts, [*cuts[1:], self.replicas], strict=True))
        self._cached_runs = key, found
        return found

    def gathered(self, flat: torch.Tensor) -> torch.Tensor:
        """A buffer shaped like ``flat`` of all ranks together, (R·N·(m + k),) on the CPU."""
        parts = (self.ranks.gather(part, self.width).reshape(-1) for part in self.split(flat))
        return torch.cat(list(parts))

    def scatter_(self, flat: torch.Tensor, whole: torch.Tensor) -> None:
        """The inverse of :meth:`gathered`: this rank's part of ``whole`` into ``flat``."""
        expected = self.replicas * self.width * self.dimension
        if whole.numel() != expected:
            raise RuntimeError(f"expected {expected} parameters, got {whole.numel()}")
        start, _ = self.ranks.share(self.width)
        cut = self.replicas * self.width * self.outputs
        outer, inner = self.split(flat)
        for target, source in ((outer, whole[:cut]), (inner, whole[cut:])):
            rows = source.view(self.replicas, self.width, target.shape[2])
            target.copy_(rows[:, start : start + self.count])

    def network(self, replica: int, activation: str, source: str, precision: str) -> Network:
        """The student of a replica as a network: output scale 1/N.  With ranks: the whole of it, on rank 0."""
        outer = self.ranks.gather(self.weights()[replica], self.width).numpy()
        inner = self.ranks.gather(self.inner[replica], self.width).numpy()
        return Network(
            outer=outer,
            inner=inner[:, : self.inputs],
            bias=inner[:, self.inputs] if self.bias else np.zeros(self.width),
            activation=activation,
            scale=1.0 / self.width,
            provenance=Provenance(source=source, precision=precision),
        )
