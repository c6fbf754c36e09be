"""The power p of a squared distance in the width, E dist² ∝ (1/N − 1/N_ref)^{−p}, with intervals over references.

At a time t let ȳ_k be the mean squared distance of width N_k over all systems of all S references, and
ℓ_k = −log(1/N_k − 1/N_ref).  The slope is p̂ = Σ_k c_k log ȳ_k with the weights of least squares,
c_k = w_k(ℓ_k − ℓ̄)/Σ_j w_j(ℓ_j − ℓ̄)²; propagation of chaos says p = −1.

**Weights by precision.**  The fluctuation of a system is Gaussian to leading order, and its law is the same for all
widths up to the factor 1/N − 1/N_ref; so a squared distance has the same relative variance at every width, and ȳ_k
has the precision of the number of independent systems it averages.  R of the q = N_ref/N systems that one reference
holds count as w = R/(1 + (R − 1)/(q − 1)²) independent ones, for their fluctuations e_j are those of slices about the
whole: corr(e_j, e_l) = −1/(q − 1), and Gaussian squares have corr(e_j², e_l²) = corr(e_j, e_l)².  With R = q: q − 1.
The weights are fixed numbers, so that no interval depends on estimated ones; misjudged weights cost precision, not
validity.

**Intervals.**  Everything that one reference touches is one draw: systems of one width, and all widths.  With y_{sk}
the mean of reference s, the delta method gives ψ_s = Σ_k c_k(y_{sk}/ȳ_k − 1) (its sum over s is 0) and

    se² = Σ_s ψ_s²/(S(S − 1)),        p̂ ± t_{S−1}·se        at one time.

The simultaneous band over the times is p̂(t) ± c·se(t), c the 95 % quantile of max_t |Z_t|/√(χ²_{S−1}/(S − 1)) with
Z ~ N(0, correlations of ψ): a multivariate t law with the estimated correlations (rank ≤ S − 1).  c is drawn by
20,000 multipliers from a fixed stream, and kept between Student's quantile and Bonferroni's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from sparsemf.exceptions import InputError

Array = NDArray[np.float64]
Answer = Literal["yes", "no", "undecided"]

LEVEL = 0.95
TOLERANCE = 0.05
"""Half-width of the interval around −1 that the verdict asks about."""

_MULTIPLIERS = 20_000
_PURPOSE = 0x63686173  # a stream of its own


@dataclass(frozen=True)
class Slopes:
    """Slopes at T times; tuples are over the times.

    Attributes
    ----------
    steps :
        The times, in updates.
    slope, error :
        p̂ and its standard error.
    low, high :
        The 95 % interval of each time alone.
    band_low, band_high :
        The 95 % band of all times together.
    critical :
        The band's multiple of the standard error.
    references :
        S, the number of independent draws.
    """

    steps: tuple[int, ...]
    slope: tuple[float, ...]
    error: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    band_low: tuple[float, ...]
    band_high: tuple[float, ...]
    critical: float
    references: int

    @property
    def worst(self) -> int:
        """Index of the time whose simultaneous interval reaches farthest from −1."""
        return int(np.argmax([max(abs(lo + 1.0), abs(hi + 1.0)) for lo, hi in self._band()]))

    @property
    def uniform(self) -> Answer:
        """Is the slope −1 up to ``TOLERANCE`` at all times?

        "yes": every simultaneous interval lies within −1 ± 0.05.  "no": one lies wholly outside.  Else "undecided".
        Wrong with probability at most 5 %, as far as the band covers.
        """
        inside = [lo >= -1.0 - TOLERANCE and hi <= -1.0 + TOLERANCE for lo, hi in self._band()]
        outside = [hi < -1.0 - TOLERANCE or lo > -1.0 + TOLERANCE for lo, hi in self._band()]
        return "yes" if all(inside) else "no" if any(outside) else "undecided"

    @property
    def excluding(self) -> int:
        """The number of times whose simultaneous interval does not hold −1 itself."""
        return sum(not lo <= -1.0 <= hi for lo, hi in self._band())

    def _band(self) -> list[tuple[float, float]]:
        return list(zip(self.band_low, self.band_high, strict=True))

    def words(self) -> str:
        """The verdict and its worst time in one sentence."""
        i = self.worst
        where = f"step {self.steps[i]}: {self.slope[i]:.3f} [{self.band_low[i]:.3f}, {self.band_high[i]:.3f}]"
        times = len(self.steps)
        said = {
            "yes": f"the slope is -1 within ±{TOLERANCE:g} at all {times} times together (95 %)",
            "no": f"the slope is not -1 within ±{TOLERANCE:g} at every time (95 %)",
            "undecided": f"undecided: at some of the {times} times the 95 % band reaches beyond -1 ± {TOLERANCE:g}",
        }[self.uniform]
        extra = "" if not self.excluding else f"; -1 itself lies outside the band at {self.excluding} of {times} times"
        return f"{said}; worst at {where}{extra}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        i = self.worst
        return {
            "kind": "estimate",
            "level": LEVEL,
            "tolerance": TOLERANCE,
            "references": self.references,
            "slope": list(self.slope),
            "error": list(self.error),
            "interval": [list(pair) for pair in zip(self.low, self.high, strict=True)],
            "band": [list(pair) for pair in self._band()],
            "critical": self.critical,
            "worst": {"step": self.steps[i], "slope": self.slope[i], "band": list(self._band()[i])},
            "uniform": self.uniform,
            "excluding": self.excluding,
            "words": self.words(),
        }


def effective_systems(width: int, systems: int, reference: int) -> float:
    """R/(1 + (R − 1)/(q − 1)²), q = N_ref/N: how many independent systems R slices of one reference are worth."""
    others = reference / width - 1.0
    return systems / (1.0 + (systems - 1) / others**2)


def fit_slopes(distances: Array, widths: list[int], systems: list[int], reference: int, steps: list[int]) -> Slopes:
    """Slopes of the squared distances (S, W, T): mean over the ``systems`` of each reference, width and time.

    Raises :class:`~sparsemf.exceptions.InputError` for fewer than two references or two widths below N_ref, and
    where a distance vanishes, so that its logarithm says nothing.
    """
    distances = np.asarray(distances, dtype=np.float64)
    if distances.shape[1:] != (len(widths), len(steps)) or not np.isfinite(distances).all():
        raise InputError(f"slopes: expected finite distances (S, {len(widths)}, {len(steps)}), got {distances.shape}")
    below = [k for k, width in enumerate(widths) if width < reference]
    count = distances.shape[0]
    if count < 2:
        raise InputError(f"slopes: expected at least 2 references (seeds) for an interval, got {count}")
    if len(below) < 2:
        raise InputError(f"slopes: expected at least 2 widths below the reference of {reference}, got {len(below)}")
    used = distances[:, below]
    mean = used.mean(axis=0)
    if not (mean > 0).all():
        k, t = np.argwhere(~(mean > 0))[0]
        raise InputError(f"slopes: the distance of width {widths[below[k]]} at step {steps[t]} is 0: nothing to fit")
    log_width = np.array([-math.log(1.0 / widths[k] - 1.0 / reference) for k in below])
    weight = np.array([effective_systems(widths[k], systems[k], reference) for k in below])
    centred = log_width - np.average(log_width, weights=weight)
    coefficients = weight * centred / (weight * centred**2).sum()
    slope = coefficients @ np.log(mean)
    influence = np.einsum("k,skt->st", coefficients, used / mean - 1.0)
    error = np.sqrt((influence**2).sum(axis=0) / (count * (count - 1)))
    pointwise = float(student.ppf(0.5 + LEVEL / 2, count - 1))
    critical = simultaneous(influence)
    return Slopes(
        steps=tuple(steps),
        slope=_floats(slope),
        error=_floats(error),
        low=_floats(slope - pointwise * error),
        high=_floats(slope + pointwise * error),
        band_low=_floats(slope - critical * error),
        band_high=_floats(slope + critical * error),
        critical=critical,
        references=count,
    )


def simultaneous(influence: Array) -> float:
    """The multiple c of the standard errors whose band holds at all times together, from ψ (S, T)."""
    count, times = influence.shape
    free = count - 1
    norms = np.sqrt((influence**2).sum(axis=0))
    directions = influence[:, norms > 0] / norms[norms > 0]
    one = float(student.ppf(0.5 + LEVEL / 2, free))
    if directions.shape[1] < 2:
        return one
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([count, times, _PURPOSE])))
    largest = np.abs(rng.standard_normal((_MULTIPLIERS, count)) @ directions).max(axis=1)
    drawn = float(np.quantile(largest / np.sqrt(rng.chisquare(free, _MULTIPLIERS) / free), LEVEL))
    return min(max(drawn, one), float(student.ppf(1.0 - (1.0 - LEVEL) / 2 / times, free)))


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
