"""Before bounds L ≤ ‖f_A − f_B‖ ≤ U are published: an estimate by formulas that the checker does not use.

*Closed form*: for one activation, few neurons and a Gaussian law, the kernels of :mod:`sparsemf.measures`; its
interval must meet [L, U].  *All rows* of an empirical law alike.  *Sampling*, otherwise: both networks are evaluated
at n seeded draws of the law, q_i = ‖f_A(x_i) − f_B(x_i)‖², mean q̄.  Two tests, one-sided, each with a proven
false-alarm probability:

- D ≤ U.  Then E q ≤ U², and by Markov each of :data:`GROUPS` independent group means exceeds 8U² with probability at
  most 1/8, so half of them do with probability at most P(Bin(64, 1/8) ≥ 32) < 4e-13.  No moment beyond E q is assumed.
- D ≥ L, for N(m, Σ) and Lipschitz activations.  ‖f_A − f_B‖ is Λ-Lipschitz in white coordinates, so Gaussian
  concentration gives ‖·‖_{L⁴} ≤ D + 2Λ, and for non-negative independent q_i (Bernstein's lower tail)
  P(q̄ ≤ D²/16) ≤ exp(−n(15/16)²D⁴ / 2(D + 2Λ)⁴), decreasing in D.  Made only where that is at most 1e-9 at D = L.

In the sup norm no point of the ball may exceed U.  Values are taken at their rounding's favourable end.  A
contradiction raises :class:`InconsistentBounds`: one of the two programs is wrong, and nothing is published.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.exceptions import InconsistentBounds, InputError
from sparsemf.measures import Ball, Empirical, Gaussian, InputLaw, Network
from sparsemf.measures.functions import evaluation_error, l2_distance

Array = NDArray[np.float64]

GROUPS = 64
FALSE_ALARM = 4e-13
_FACTOR = 8.0
_LOWER_ALARM = 1e-9
_BUDGET = 1e8
"""Multiply-adds of one evaluation of all draws by both networks (one activation counts as a hundred) …"""
_FEWEST_DRAWS, _MOST_DRAWS = 128, 1024
"""… within these numbers of draws."""
_FEW_NEURONS = 256
_CLOSED_SLACK = 8.0
"""The closed forms' margins are stated, not proved: they are widened by this before they may contradict anything."""


@dataclass(frozen=True)
class CrossCheck:
    """``estimate`` of ‖f_A − f_B‖ with its ``error``: half an interval for a closed form or all rows; one standard
    error, rounding included, for draws; None where only a lower bound is sampled (sup norm).

    ``false_alarm`` bounds the probability that right bounds are refused; ``tested`` names the ends that were compared.
    """

    method: str
    estimate: float | None
    error: float | None
    draws: int
    false_alarm: float
    tested: tuple[str, ...]


def crosscheck(
    a: Network, b: Network, law: InputLaw, domain: Ball | None, lower: float, upper: float, seed: int
) -> CrossCheck:
    """The estimate; raises :class:`InconsistentBounds` where it contradicts lower ≤ ‖f_A − f_B‖ ≤ upper."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        found = _closed(a, b, law, domain, lower, upper)
        return _sampled(a, b, law, domain, lower, upper, seed) if found is None else found


def _closed(
    a: Network, b: Network, law: InputLaw, domain: Ball | None, lower: float, upper: float
) -> CrossCheck | None:
    same = a.activation.name == b.activation.name and not (a.gated or b.gated)
    quick = a.activation.kernel_closed or a.activation.strip > 0  # else the kernel is a quadrature, entry by entry
    small = quick and same and a.width + b.width <= _FEW_NEURONS
    if domain is not None or not isinstance(law, Gaussian) or not small or not lower > 0:
        return None  # where they are near, the Gram form cancels, and values tell more
    try:
        known = l2_distance(a, b, law)
        white = law.whitening_error(a) + law.whitening_error(b)
    except (InputError, ArithmeticError):
        return None
    estimate, error = 0.5 * (known.lower + known.upper), 0.5 * (known.upper - known.lower) + white
    if not (np.isfinite(estimate) and np.isfinite(error)):
        return None
    wide = (_CLOSED_SLACK * error, _CLOSED_SLACK * error + 1e-9 * estimate)
    if estimate + wide[1] < lower or estimate - wide[1] > upper:
        raise InconsistentBounds(
            f"certified {lower:.9g} ≤ ‖f_A − f_B‖ ≤ {upper:.9g}, but the closed form gives {estimate:.9g} ± "
            f"{wide[1]:.3g}"
        )
    return CrossCheck("closed-form kernels", estimate, error, 0, 0.0, ("lower", "upper"))


def _sampled(
    a: Network, b: Network, law: InputLaw, domain: Ball | None, lower: float, upper: float, seed: int
) -> CrossCheck:
    rng = np.random.default_rng([20260614, seed])
    work = float(sum(f.width * ((2 if f.gated else 1) * f.d + f.m + 100) + f.d * f.m for f in (a, b))) + 1.0
    draws = int(np.clip(_BUDGET / work, _FEWEST_DRAWS, _MOST_DRAWS)) // GROUPS * GROUPS
    everything = isinstance(law, Empirical) and domain is None and law.x.shape[0] <= draws
    if domain is not None:
        x = rng.standard_normal((draws, a.d))
        x *= (domain.radius * (1 - 1e-12) / np.maximum(np.linalg.norm(x, axis=1), 1e-300))[:, None]
        x[::2] *= rng.random((x[::2].shape[0], 1)) ** (1.0 / a.d)
    elif isinstance(law, Empirical):
        x = law.x if everything else law.x[rng.integers(0, law.x.shape[0], draws)]
    else:
        x = law.sample(draws, rng)
    size = np.linalg.norm(a(x) - b(x), axis=1)
    slack = evaluation_error(a, x) + evaluation_error(b, x)
    if not np.isfinite(size + slack).all():
        return CrossCheck("none: values beyond the range of numbers", None, None, 0, 0.0, ())
    low, high = np.maximum(size - slack, 0.0), size + slack
    if domain is not None:
        if float(low.max()) > upper:
            raise InconsistentBounds(
                f"certified sup ‖f_A − f_B‖ ≤ {upper:.9g}, but a point of the ball has {float(low.max()):.9g}"
            )
        return CrossCheck("values in the ball: a lower end", float(size.max()), None, draws, 0.0, ("upper",))
    estimate = float(np.sqrt(np.mean(size**2)))
    ends = float(np.sqrt(np.mean(low**2))), float(np.sqrt(np.mean(high**2)))
    rounding = ends[1] - estimate
    if everything:
        if ends[0] * (1 - 1e-12) > upper or ends[1] * (1 + 1e-12) < lower:
            raise InconsistentBounds(
                f"certified {lower:.9g} ≤ ‖f_A − f_B‖ ≤ {upper:.9g}, but all rows give {estimate:.9g} ± {rounding:.3g}"
            )
        return CrossCheck("all rows evaluated", estimate, rounding, x.shape[0], 0.0, ("lower", "upper"))
    means = np.sort(np.mean(low.reshape(GROUPS, -1) ** 2, axis=1))
    if float(means[GROUPS // 2]) > _FACTOR * upper**2:
        raise InconsistentBounds(
            f"certified ‖f_A − f_B‖ ≤ {upper:.9g}, but {draws} draws give {estimate:.9g}: so much has probability "
            f"{FALSE_ALARM:.1g} at most"
        )
    tested, alarm = ("upper",), FALSE_ALARM
    if isinstance(law, Gaussian) and _lower_alarm(a, b, law, lower, draws) <= _LOWER_ALARM:
        tested, alarm = ("lower", "upper"), FALSE_ALARM + _LOWER_ALARM
        if ends[1] < 0.25 * lower:
            raise InconsistentBounds(
                f"certified ‖f_A − f_B‖ ≥ {lower:.9g}, but {draws} draws give {estimate:.9g}: so little has "
                f"probability {_LOWER_ALARM:.1g} at most"
            )
    spread = float(np.std(size**2)) / math.sqrt(draws)
    error = (spread / (2 * estimate) if estimate > 0 else 0.0) + rounding
    return CrossCheck("both networks evaluated at seeded draws", estimate, error, draws, alarm, tested)


def _lower_alarm(a: Network, b: Network, law: Gaussian, lower: float, draws: int) -> float:
    """Bound of the probability that q̄ ≤ L²/16 though ‖f_A − f_B‖ ≥ L > 0; 1 where none is proved."""
    if not lower > 0 or a.gated or b.gated or a.quadratic is not None or b.quadratic is not None:
        return 1.0
    slope = sum(_slope(f, law) for f in (a, b))
    if not np.isfinite(slope):
        return 1.0
    return math.exp(-draws * (15 / 16) ** 2 / (2 * (1 + 2 * slope / lower) ** 4))


def _slope(f: Network, law: Gaussian) -> float:
    """A Lipschitz constant of f in the white coordinates: Σ‖α_i‖·sup|σ′|·‖rootᵀw_i‖ + ‖A root‖_F; ∞ without one."""
    w, affine = (f.inner, f.affine) if law.is_standard else (f.inner @ law.root, f.affine @ law.root)
    steep = float(np.linalg.norm(f.alpha, axis=1) @ np.linalg.norm(w, axis=1))
    return f.activation.lipschitz * steep * (1 + 1e-9) + float(np.linalg.norm(affine)) * (1 + 1e-9)
