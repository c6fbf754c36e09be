"""How the sizes in a wide two-layer network and its best learning rate scale with the width N: theory and fits.

In its own coordinates the network is f = c Σ_i ã_i σ(z_i), z_i = ⟨w_i, x⟩ + b_i, with w_i = O(1) and

| parametrisation | c | ã_i at t = 0 | step of SGD | step of Adam |
|---|---|---|---|---|
| mean-field (μP) | 1/N | O(1) | ηN∇R | η m̂/√v̂ |
| standard | 1 | N^{−1/2} | η∇R | η m̂/√v̂ |
| ntk | N^{−1/2} | O(1) | η∇R | η m̂/√v̂ |

The exponents below follow from the first update by power counting (docs/scaling).  A sum of N terms of independent
sign is √N times one of them, a sum of N terms that share their sign N times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Array = NDArray[np.float64]
Verdict = Literal["stable", "drifts", "undecided"]

QUANTITIES = {
    "z": "pre-activations z",
    "dz": "change Δz since t = 0",
    "activation": "hidden activations σ(z)",
    "f": "output f",
    "df": "change Δf since t = 0",
    "da": "‖Δa‖/‖a(0)‖",
    "dw": "‖Δw‖/‖w(0)‖",
}
"""What is measured, in this order."""

TOLERANCE = 0.125
"""An exponent within ±1/8 counts as 0: over widths that differ by 256 it is a factor of at most 2."""

_AT_START = {"mean-field": -0.5, "standard": 0.0, "ntk": 0.0}
"""f at t = 0: c Σ ã_i σ(z_i), independent signs."""

_FIRST_STEP = {
    ("euler", "mean-field"): {"dz": 0.0, "df": 0.0, "da": 0.0, "dw": 0.0},
    ("euler", "standard"): {"dz": -0.5, "df": 1.0, "da": 0.5, "dw": -0.5},
    ("euler", "ntk"): {"dz": -0.5, "df": 0.0, "da": -0.5, "dw": -0.5},
    ("adam", "mean-field"): {"dz": 0.0, "df": 0.0, "da": 0.0, "dw": 0.0},
    ("adam", "standard"): {"dz": 0.0, "df": 1.0, "da": 0.5, "dw": 0.0},
    ("adam", "ntk"): {"dz": 0.0, "df": 0.5, "da": 0.0, "dw": 0.0},
}

_BEST_RATE = {
    ("euler", "mean-field"): 0.0,
    ("euler", "standard"): -1.0,
    ("euler", "ntk"): 0.0,
    ("adam", "mean-field"): 0.0,
    ("adam", "standard"): -1.0,
    ("adam", "ntk"): -0.5,
}
"""η that keeps Δf of one update O(1): minus the exponent of Δf at a fixed η."""


def predicted_size(integrator: str, parametrisation: str, quantity: str, step: int) -> float | None:
    """The exponent s of N^s of a size after ``step`` updates at one learning rate for all widths.

    None where no power law is claimed: f at t ≥ 1 (the sum of f(0) and Δf, which scale differently), and from the
    second update on whatever follows an output that has left O(1).  ``step`` is a fixed number: a run of a length that
    grows with N is another question.
    """
    if quantity in ("z", "activation") and (step == 0 or _bounded(integrator, parametrisation)):
        return 0.0
    if quantity == "f":
        return _AT_START[parametrisation] if step == 0 else None
    if step == 0 or quantity not in _FIRST_STEP[integrator, parametrisation]:
        return None
    if step > 1 and not _bounded(integrator, parametrisation):
        return None
    return _FIRST_STEP[integrator, parametrisation][quantity]


def predicted_best_rate(integrator: str, parametrisation: str) -> float:
    """The exponent of the best learning rate: the rates at which one update changes f by O(1)."""
    return _BEST_RATE[integrator, parametrisation]


def _bounded(integrator: str, parametrisation: str) -> bool:
    """Whether f stays O(1) at a fixed learning rate."""
    return _FIRST_STEP[integrator, parametrisation]["df"] <= 0


@dataclass(frozen=True)
class Slope:
    """An exponent s of N^s with its 95 % interval; None where it could not be fitted."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> Verdict:
        """stable: the whole interval lies in ±:data:`TOLERANCE`; drifts: all of it outside."""
        if self.low is None or self.high is None:
            return "undecided"
        if self.low >= -TOLERANCE and self.high <= TOLERANCE:
            return "stable"
        return "drifts" if self.high < -TOLERANCE or self.low > TOLERANCE else "undecided"

    def agrees(self, predicted: float) -> bool | None:
        """Whether the prediction lies in the interval widened by :data:`TOLERANCE` (corrections of finite N).

        None where the interval is too wide to tell exponents apart that differ by 1/2.
        """
        if self.low is None or self.high is None:
            return None
        if not self.low - TOLERANCE <= predicted <= self.high + TOLERANCE:
            return False
        return True if self.high - self.low <= 0.5 else None

    def to_dict(self) -> dict[str, Any]:
        return {"slope": self.value, "interval": [self.low, self.high]}


def slope_over_seeds(widths: Sequence[int], sizes: Array) -> Slope:
    """s of ``sizes`` (widths, seeds) ∝ N^s: a line through log size against log N for each seed, then their mean
    ± t_{0.975, S−1} sd/√S.  No slope where a size is 0 or not finite.
    """
    sizes = np.asarray(sizes, dtype=np.float64)
    if len(widths) < 2 or not (np.isfinite(sizes).all() and (sizes > 0).all()):
        return Slope(None)
    slopes = fitted_slopes(widths, np.log(sizes))
    value = float(slopes.mean())
    if slopes.size < 2:
        return Slope(value)
    half = float(student.ppf(0.975, slopes.size - 1) * slopes.std(ddof=1) / math.sqrt(slopes.size))
    return Slope(value, value - half, value + half)


def fitted_slopes(widths: Sequence[int], values: Array) -> Array:
    """Least-squares slopes of ``values`` (widths, …) against log N."""
    x = np.log(np.asarray(widths, dtype=np.float64))
    x -= x.mean()
    return np.tensordot(x, values, axes=1) / float(x @ x)
