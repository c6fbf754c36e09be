"""Moments m_k(t) = (1/N) Σ_i ‖θ_i‖^k of a run, M_k = sup_t m_k(t), w*_k = 1/M_k and the order of growth:
estimates.

Everything is kept as logarithms: ‖θ‖ may be anything a float can hold, and k any order.

- A recorded m_k carries a 95 % band from a bootstrap over at most 64 groups of particles.  It knows only the
  values that were drawn: where a few particles carry the sum (k near 2 ln N, heavy tails) the band is too narrow
  and too low.
- M_k is a maximum over the recorded steps, so it is too low by what happens between them, too high by the noise of
  the maximum, and at high k too low because the tail is not sampled.  It is never a certificate
  (:mod:`~.lyapunov`).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.exceptions import InputError
from sparsemf.training.order import Order, fit_order

Array = NDArray[np.float64]

FILE = "moments.jsonl"
K_MAX = 12
GROUPS = 64
REPLICATES = 400
LEVEL = 0.95
FEW = 20.0
"""Effective number of particles below which a moment is not trusted (its relative error is about FEW^{−1/2})."""

_BLOCK = 1 << 14
_PURPOSE = 0x6D6B  # keeps the bootstrap's stream apart from the other draws of the same seed


@dataclass(frozen=True)
class MomentRow:
    """The moments of all particles after ``step`` updates; lists are over k = 1 … K.

    Attributes
    ----------
    width :
        N.
    log_max :
        log max_i ‖θ_i‖.
    log_m :
        log m_k (−∞ when every norm is 0, null in the file).
    low, high :
        Ends of the 95 % bootstrap band of log m_k.
    effective :
        (Σ_i ‖θ_i‖^k)²/Σ_i ‖θ_i‖^{2k} ∈ [1, N]: how many particles carry m_k (itself too high where the tail is
        missed).
    """

    step: int
    width: int
    log_max: float
    log_m: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    effective: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; −∞ is None."""
        return {
            name: [_or_none(v) for v in value] if isinstance(value, tuple) else _or_none(value)
            for name, value in asdict(self).items()
        }

    def line(self) -> str:
        """One line of moments.jsonl, newline included."""
        return json.dumps(self.to_dict(), allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MomentRow:
        """The inverse of :meth:`to_dict`; raises ValueError, TypeError or KeyError on anything else."""
        lists = {name: tuple(_or_minus_infinity(v) for v in values[name]) for name in _LISTS}
        count = {len(part) for part in lists.values()}
        if count == {0} or len(count) != 1:
            raise ValueError("expected as many bands and effective numbers as moments")
        if any(not lo <= mid <= hi for lo, mid, hi in zip(lists["low"], lists["log_m"], lists["high"], strict=True)):
            raise ValueError("expected low ≤ log_m ≤ high")
        if type(values["step"]) is not int or type(values["width"]) is not int or values["width"] < 1:
            raise ValueError("expected an integer step and width")
        return cls(values["step"], values["width"], _or_minus_infinity(values["log_max"]), **lists)


_LISTS = ("log_m", "low", "high", "effective")


def moment_row(norms: NDArray[Any], step: int, seed: int, k_max: int = K_MAX) -> MomentRow:
    """The row of one instant from the norms ‖θ_i‖, shape (N,).

    The bootstrap draws from a counter-based generator of its own, keyed by (seed, step): the same particles give
    the same bytes, also in a resumed run.  Its cost is 2K multiplications a particle and no array of more than 2¹⁴
    of them.

    Raises :class:`~sparsemf.exceptions.InputError` for norms that are negative or not finite, or k_max < 1.
    """
    norms = np.asarray(norms)
    if norms.ndim != 1 or norms.size < 1 or k_max < 1:
        raise InputError(f"moments: expected norms (N,) and k ≥ 1, got {norms.shape} and {k_max}")
    largest, smallest = float(norms.max()), float(norms.min())
    if not (math.isfinite(largest) and smallest >= 0):
        raise InputError("moments: expected finite norms ≥ 0")
    orders = np.arange(1, k_max + 1)
    if largest == 0:
        nothing = (-math.inf,) * k_max
        return MomentRow(step, norms.size, -math.inf, nothing, nothing, nothing, (float(norms.size),) * k_max)
    sums, counts = _group_sums(norms, largest, 2 * k_max)
    total = sums.sum(0)
    scale = orders * math.log(largest)
    log_m = scale + np.log(total[:k_max] / norms.size)
    effective = total[:k_max] ** 2 / total[orders * 2 - 1]
    drawn = _resampled(sums[:, :k_max], counts, seed, step)
    with np.errstate(divide="ignore"):
        low, high = np.log(np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)) + scale
    return MomentRow(
        step=int(step),
        width=norms.size,
        log_max=math.log(largest),
        log_m=_floats(log_m),
        low=_floats(np.minimum(low, log_m)),
        high=_floats(np.maximum(high, log_m)),
        effective=_floats(effective),
    )


def _group_sums(norms: NDArray[Any], largest: float, most: int) -> tuple[Array, Array]:
    """Σ (‖θ_i‖/max)^k over each of at most 64 runs of consecutive particles, shape (G, most), and their sizes.

    The ratio is at most 1 and is 1 for one particle, so nothing overflows and what underflows is below rounding.
    """
    groups = min(GROUPS, norms.size)
    edges = [norms.size * g // groups for g in range(groups + 1)]
    sums = np.zeros((groups, most))
    for g in range(groups):
        for start in range(edges[g], edges[g + 1], _BLOCK):
            ratio = norms[start : min(start + _BLOCK, edges[g + 1])].astype(np.float64) / largest
            power = ratio.copy()
            for k in range(most):
                sums[g, k] += power.sum()
                if k + 1 < most:
                    power *= ratio
    return sums, np.diff(edges).astype(np.float64)


def _resampled(sums: Array, counts: Array, seed: int, step: int) -> Array:
    """Bootstrap replicates of the mean of (‖θ‖/max)^k, shape (replicates, K)."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, step, _PURPOSE])))
    groups = counts.size
    times = generator.multinomial(groups, np.full(groups, 1.0 / groups), size=REPLICATES).astype(np.float64)
    return (times @ sums) / (times @ counts)[:, None]


def read_rows(path: str | os.PathLike[str]) -> list[MomentRow]:
    """All rows of a moments.jsonl, in the order of their steps.

    Raises :class:`~sparsemf.exceptions.InputError` when the file is missing, empty or damaged, or its rows do not
    belong to one run.
    """
    rows: list[MomentRow] = []
    try:
        with Path(path).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    rows.append(MomentRow.from_dict(json.loads(line)))
                except (ValueError, TypeError, KeyError) as error:
                    raise InputError(f"{path}: line {number} is not a row of moments ({error})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected the moments of a run, one JSON line each ({error})") from None
    _one_run(rows, str(path))
    return rows


def _one_run(rows: Sequence[MomentRow], where: str) -> None:
    if not rows:
        raise InputError(f"{where}: expected at least one row of moments, got none")
    if len({(row.width, len(row.log_m)) for row in rows}) > 1:
        raise InputError(f"{where}: the rows have different widths or orders: they are not those of one run")
    if any(a.step >= b.step for a, b in pairwise(rows)):
        raise InputError(f"{where}: expected increasing steps")


@dataclass(frozen=True)
class MomentGrowth:
    """M_k over the recorded steps; tuples are over k = 1 … K.  An estimate throughout.

    Attributes
    ----------
    log_m :
        log M_k = max_t log m_k(t); w*_k = 1/M_k.
    low, high :
        A band of log sup_t m_k(t) over the recorded steps.  ``high`` = max_t of the upper ends: at the (fixed)
        time of the true maximum the upper end covers, so the maximum of all does, with room.  The lower ends are
        first widened to hold for all T records at once (Bonferroni, by the normal quantile), since the largest of
        T estimates is biased upward.
    at :
        The step of the maximum.
    effective :
        The effective number of particles in the row of the maximum.
    trusted :
        The largest k up to which k ≤ 2 ln N and at least 20 particles carry every m_j, j ≤ k; ``limit`` names what
        stopped.
    order :
        The order of growth fitted on the trusted range, or None.
    """

    width: int
    records: int
    first: int
    last: int
    log_m: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    at: tuple[int, ...]
    effective: tuple[float, ...]
    trusted: int
    limit: str
    order: Order | None

    @property
    def k_max(self) -> int:
        """K."""
        return len(self.log_m)

    @property
    def log_w(self) -> tuple[float, ...]:
        """log w*_k = −log M_k."""
        return tuple(-value for value in self.log_m)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: one entry for each k, with M_k and w*_k plain (None beyond the floats) and as logs."""
        entries = [
            {
                "k": k + 1,
                "M": _plain_exp(self.log_m[k]),
                "band": [_plain_exp(self.low[k]), _plain_exp(self.high[k])],
                "w_star": _plain_exp(self.log_w[k]),
                "log_M": _or_none(self.log_m[k]),
                "log_band": [_or_none(self.low[k]), _or_none(self.high[k])],
                "step": self.at[k],
                "effective_particles": self.effective[k],
                "trusted": k + 1 <= self.trusted,
            }
            for k in range(self.k_max)
        ]
        return {
            "kind": "estimate",
            "width": self.width,
            "records": self.records,
            "steps": [self.first, self.last],
            "moments": entries,
            "trusted_k": self.trusted,
            "trusted_limit": self.limit,
            "order": None if self.order is None else self.order.to_dict(),
        }


def growth(rows: Sequence[MomentRow]) -> MomentGrowth:
    """M_k, its band, the trusted range and the order of growth from the rows of one run.

    Raises :class:`~sparsemf.exceptions.InputError` when there is no row or they are not those of one run.
    """
    _one_run(rows, "moments")
    width, count = rows[0].width, len(rows)
    log_m = np.array([row.log_m for row in rows])
    low, high = np.array([row.low for row in rows]), np.array([row.high for row in rows])
    peak = log_m.argmax(0)
    normal = NormalDist()
    widen = normal.inv_cdf(1 - (1 - LEVEL) / 2 / count) / normal.inv_cdf((1 + LEVEL) / 2)
    with np.errstate(invalid="ignore"):
        lower = np.where(np.isfinite(low), log_m - widen * (log_m - low), -np.inf)
    columns = np.arange(log_m.shape[1])
    effective = np.array([row.effective for row in rows])[peak, columns]
    most, limit = _trusted(width, effective)
    top, bottom, upper = log_m[peak, columns], lower.max(0), high.max(0)
    return MomentGrowth(
        width=width,
        records=count,
        first=rows[0].step,
        last=rows[-1].step,
        log_m=_floats(top),
        low=_floats(bottom),
        high=_floats(upper),
        at=tuple(int(rows[t].step) for t in peak),
        effective=_floats(effective),
        trusted=most,
        limit=limit,
        order=fit_order(top[:most], bottom[:most], upper[:most]),
    )


def _trusted(width: int, effective: Array) -> tuple[int, str]:
    by_width = int(2.0 * math.log(width)) if width > 1 else 0
    few = np.flatnonzero(effective < FEW)
    by_tail = int(few[0]) if few.size else effective.size
    most = min(by_width, by_tail, effective.size)
    if most == effective.size:
        return most, "every recorded k"
    if by_tail <= by_width:
        return most, f"fewer than {FEW:.0f} of {width} particles carry m_{most + 1}"
    return most, f"2 ln N = {2.0 * math.log(width):.1f}"


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _or_minus_infinity(value: Any) -> float:
    if value is None:
        return -math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r}")
    return float(value)


def _plain_exp(log: float) -> float | None:
    """e^log, or None where no float other than 0 and ∞ is near."""
    if log == -math.inf:
        return 0.0
    return math.exp(log) if -745.0 < log < 709.0 else None
