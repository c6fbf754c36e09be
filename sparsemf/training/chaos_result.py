"""The numbers of an experiment on propagation of chaos (:mod:`~.chaos`), their slopes and their document."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparsemf.atomic import header
from sparsemf.exceptions import InputError
from sparsemf.training.chaos_slopes import Slopes, fit_slopes
from sparsemf.training.config import TrainConfig

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Chaos:
    """Squared distances of S references, W widths and T times (updates ≥ 1).

    Attributes
    ----------
    systems :
        For each width the number of coupled systems in a reference.
    coupled : (S, W, T)
        Mean over the particles of ‖X_i − Y_i‖² in the trained coordinates (a, w, b).
    function : (S, W, T + 1)
        Mean over the systems of ‖f_N − f_ref‖², at step 0 and at the times.
    size : (S, T + 1)
        ‖f_ref‖².
    spread : (S,)
        E_x Var(aσ(⟨w, x⟩)) over the reference's particles at step 0, all outputs together.

    All are NaN where an interrupted experiment has not been.
    """

    config: TrainConfig
    task: dict[str, Any]
    widths: tuple[int, ...]
    systems: tuple[int, ...]
    reference: int
    seeds: tuple[int, ...]
    times: tuple[int, ...]
    coupled: Array = field(repr=False)
    function: Array = field(repr=False)
    size: Array = field(repr=False)
    spread: Array = field(repr=False)
    seconds: float = 0.0

    @property
    def status(self) -> Literal["complete", "interrupted"]:
        """Whether every seed and width was run."""
        return "complete" if np.isfinite(self.coupled).all() else "interrupted"

    @property
    def setup(self) -> dict[str, Any]:
        """What determines the numbers: plain JSON values."""
        return {
            "task": self.task,
            "config": self.config.to_dict(),
            "widths": list(self.widths),
            "systems": list(self.systems),
            "reference": self.reference,
            "seeds": list(self.seeds),
            "times": list(self.times),
        }

    def slopes(self, quantity: Literal["coupled", "function", "initial"]) -> Slopes:
        """The slope in the width of a quantity; "initial" is ‖f_N − f_ref‖² at step 0.

        Raises :class:`~sparsemf.exceptions.InputError` where it is not defined (:func:`~.chaos_slopes.fit_slopes`).
        """
        values, steps = {
            "coupled": (self.coupled, list(self.times)),
            "function": (self.function[..., 1:], list(self.times)),
            "initial": (self.function[..., :1], [0]),
        }[quantity]
        return fit_slopes(values, list(self.widths), list(self.systems), self.reference, steps)

    def to_document(self) -> dict[str, Any]:
        """The document ``sparsemf/chaos/1``."""
        c = self.config
        rates = np.array([c.step_size.at(k, c.steps) for k in range(self.times[-1])])
        decays = np.array([c.weight_decay.at(k, c.steps) for k in range(self.times[-1])])
        ends = np.array(self.times) - 1
        delta = 1.0 / np.array(self.widths) - 1.0 / self.reference
        initial = self._quantity("initial", self.function[..., :1])
        initial |= {name: [row[0] for row in initial[name]] for name in ("mean", "error")}
        initial["predicted"] = (self.spread.mean() * delta).tolist()
        coupled = self._quantity("coupled", self.coupled)
        function = self._quantity("function", self.function[..., 1:])
        answers = [part["slopes"]["uniform"] if part["slopes"] else "undecided" for part in (coupled, function)]
        setup = self.setup
        return header("chaos", 1, config=setup.pop("config"), timing_s={"total": self.seconds}) | setup | {
            "status": self.status,
            "time": np.cumsum(rates)[ends].tolist(),
            "relaxation_times": np.cumsum(rates * decays)[ends].tolist(),
            "coupled": coupled,
            "function": function | {"norm": [math.sqrt(v) for v in self.size.mean(axis=0)[1:]], "initial": initial},
            "uniform": "no" if "no" in answers else "undecided" if "undecided" in answers else "yes",
        }  # fmt: skip

    def _quantity(self, name: Literal["coupled", "function", "initial"], values: Array) -> dict[str, Any]:
        try:
            slopes, why = self.slopes(name).to_dict(), None
        except InputError as error:
            slopes, why = None, str(error)
        mean = values.mean(axis=0)
        count = values.shape[0]
        error = values.std(axis=0, ddof=1) / math.sqrt(count) if count > 1 else np.full_like(mean, np.nan)
        return {"mean": mean.tolist(), "error": error.tolist(), "slopes": slopes, "why_not": why}
