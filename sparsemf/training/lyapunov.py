"""A-priori moment bounds of the noisy flow and of its Euler chain, as certificates (proofs: docs/moments).

    flow:   dθ = (−κθ + g) dt + √(2τ) dW,            chain:  θ ← θ − ηκθ + ηg + √(2τη) ξ,   ξ ~ N(0, I_D),

where g may depend on time, on all particles and on chance, but not on the present ξ, and |g| ≤ G0 + G1‖θ‖.  Then
M_k = sup_t E‖θ(t)‖^k is bounded by the formulas below.  The expectation is over initial law and noise (of one
particle, or of the mean over N exchangeable ones, which is also the mean-field limit's m_k).  Numbers are rounded
upward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flint import arb, arb_poly

from sparsemf.exceptions import InputError
from sparsemf.training.balls import (
    INFINITE,
    ZERO,
    float_above,
    gaussian_moment,
    is_infinite,
    larger,
    log_above,
    precision,
    root,
    smaller,
    top,
)
from sparsemf.training.drift import DriftBound
from sparsemf.training.initial_law import GaussianBlocks, InitialLaw, StudentT

Initial = InitialLaw | Sequence[float]
"""A law of θ_0, or upper bounds of E‖θ_0‖^k for k = 1, 2, … (``inf`` allowed)."""

EXACT = "exact arithmetic and exact Gaussian noise"


@dataclass(frozen=True)
class GaussianTail:
    """lower ≤ lim M_k^{1/k}/√(k/e) ≤ upper (liminf and limsup), proved; with upper = 0, M_k^{1/k} ≤ radius for all
    k.

    (E‖sξ‖^k)^{1/k}/√(k/e) → s in every dimension, so these are the scales of the Gaussians below and above.
    """

    lower: float
    upper: float
    radius: float = math.inf


@dataclass(frozen=True)
class MomentCertificate:
    """What is proved of M_k = sup_t E‖θ(t)‖^k.

    Attributes
    ----------
    holds :
        Whether there is a bound at all; ``why_not`` is the reason where there is none.
    log_bound :
        Floats ≥ log M_k for k = 1, 2, …; ``inf`` where M_k is infinite or no bound is known.
    assumptions :
        What the proof needs, one clause each.
    horizon :
        None when the bound holds for all times, else the number of steps it holds for.
    tail :
        The growth of M_k as k → ∞, where it is proved.
    """

    holds: bool
    log_bound: tuple[float, ...] = ()
    assumptions: tuple[str, ...] = ()
    why_not: str | None = None
    horizon: float | None = None
    tail: GaussianTail | None = None
    kind: str = "certificate"

    @property
    def bound(self) -> tuple[float, ...]:
        """Upper bounds of M_k (``inf`` where they exceed the floats)."""
        return tuple(_exp_above(value) for value in self.log_bound)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; an unbounded number is None."""
        tail = None if self.tail is None else {"lower": self.tail.lower, "upper": _finite(self.tail.upper)}
        return {
            "kind": self.kind,
            "holds": self.holds,
            "bound": [_finite(value) for value in self.bound],
            "log_bound": [_finite(value) for value in self.log_bound],
            "assumptions": list(self.assumptions),
            "why_not": self.why_not,
            "horizon": self.horizon,
            "tail": tail,
        }


def no_certificate(why: str) -> MomentCertificate:
    """The answer where nothing is proved."""
    return MomentCertificate(False, why_not=why)


def continuous_bound(
    k_max: int, kappa: float, drift_bound: float, temperature: float, dimension: int, initial: Initial
) -> MomentCertificate:
    """The flow with |g| ≤ G: M_k ≤ max{m_k(0), [G M_{k−1} + τ(k+D−2) M_{k−2}]/κ} for k ≥ 3, started from
    M_2 ≤ max{m_2(0), ((G + √(G² + 4κτD))/2κ)²} and M_1 ≤ √M_2.

    For κ, τ and G that vary in time take inf κ, sup τ and sup G.  Not valid for Euler steps
    (:func:`discrete_bound`). Raises :class:`~sparsemf.exceptions.InputError` for impossible parameters.
    """
    check_parameters(k_max, kappa, drift_bound, temperature, dimension)
    with precision():
        k_, g, t = arb(kappa), arb(drift_bound), arb(temperature)
        start = _initial(initial, max(k_max, 2))
        second = ((g + (g * g + 4 * k_ * t * dimension).sqrt()) / (2 * k_)) ** 2
        bounds = [arb(1), ZERO, larger(start[2], second)]
        bounds[1] = bounds[2].sqrt() if not is_infinite(bounds[2]) else INFINITE
        for k in range(3, k_max + 1):
            value = (g * bounds[k - 1] + t * (k + dimension - 2) * bounds[k - 2]) / k_
            bounds.append(larger(start[k], value))
        logs = tuple(log_above(value) for value in bounds[1 : k_max + 1])
    assumptions = (
        f"the continuous flow with decay κ ≥ {kappa:g} and temperature τ ≤ {temperature:g}",
        f"drift |g| ≤ {drift_bound:g}",
        f"D = {dimension}",
    )
    return MomentCertificate(True, logs, assumptions)


def discrete_bound(
    k_max: int,
    kappa: float,
    drift_bound: float,
    temperature: float,
    dimension: int,
    initial: Initial,
    step_size: float,
) -> MomentCertificate:
    """The chain with |g| ≤ G and κη ≤ 1: M_k^{1/k} ≤ m_k(0)^{1/k} + G/κ + √(τ/(κ(1−κη/2)))·(E‖ξ‖^k)^{1/k}.

    For schedules take sup_t G/κ_t and sup_t τ_t/(κ_t(1−κ_tη_t/2)), with κ_tη_t ≤ 1 in every step (docs/moments);
    or the sharper :func:`~sparsemf.training.lyapunov_run.run_bound`.  Raises
    :class:`~sparsemf.exceptions.InputError` for impossible parameters or κη > 1.
    """
    check_parameters(k_max, kappa, drift_bound, temperature, dimension, step_size)
    with precision():
        if not arb(kappa) * arb(step_size) <= 1:
            raise InputError(
                f"discrete bound: expected κη ≤ 1, got {kappa * step_size:g}; use discrete_recursion or run_bound"
            )
        start = _initial(initial, k_max)
        rest = arb(drift_bound) / arb(kappa)
        scale = _stationary_scale(arb(kappa), arb(step_size), arb(temperature))
        sums = (root(start[k], k) + rest + scale * root(gaussian_moment(k, dimension), k) for k in range(1, k_max + 1))
        logs = tuple(log_above(value) * k if value.is_finite() else math.inf for k, value in enumerate(sums, 1))
        logs = tuple(math.nextafter(value, math.inf) for value in logs)
    return MomentCertificate(True, logs, _chain_assumptions(kappa, drift_bound, 0.0, temperature, step_size, dimension))


def discrete_recursion(
    k_max: int,
    kappa: float,
    drift: float | DriftBound,
    temperature: float,
    dimension: int,
    initial: Initial,
    step_size: float,
) -> MomentCertificate:
    """A sharper bound of the chain at constant κ, τ, η, for ρ̂ = |1−κη| + ηG1 < 1: the smaller, for every k, of

    - B + √((A−B)₊² + C²) with A = m_k(0)^{1/k}, B = ηG0/(1−ρ), C = √(2τη/(1−ρ²)) (E‖ξ‖^k)^{1/k}, ρ = |1−κη| (G1 =
      0);
    - the one-step recursion: m_k ≤ Σ_{i≤k} a_i m_i with a_i from E|y + sξ|^k, |y| ≤ ρ̂‖θ‖ + ηG0, s² = 2τη, so
      M_k ≤ max{m_k(0), Σ_{i<k} a_i M_i/(1−ρ̂^k)}; for even k also with m_{k−1} ≤ √(m_{k−2} m_k) in place of
      M_{k−1}, and for odd k also √(M_{k−1} M_{k+1}).
    """
    bound = drift if isinstance(drift, DriftBound) else DriftBound.constant(float(drift))
    if not bound.holds:
        return no_certificate(bound.why_not or "the drift is not bounded")
    check_parameters(k_max, kappa, bound.g0, temperature, dimension, step_size)
    with precision():
        rho = abs(1 - arb(kappa) * arb(step_size))
        factor = rho + arb(step_size) * arb(bound.g1)
        if not factor < 1:
            return no_certificate(
                f"|1 − κη| + ηG1 = {float_above(factor):.6g} is not below 1 (κ = {kappa:g}, η = {step_size:g}, "
                f"G1 = {bound.g1:g}): no bound for all times; a finite horizon has one (run_bound)"
            )
        most = k_max + k_max % 2
        start = _initial(initial, most)
        kick = arb(step_size) * arb(bound.g0)
        variance = 2 * arb(temperature) * arb(step_size)
        far = [INFINITE] * (most + 1)
        if bound.g1 == 0:
            scale, rest = (variance / (1 - rho * rho)).sqrt(), kick / (1 - rho)
            for k in range(1, most + 1):
                noise = scale * root(gaussian_moment(k, dimension), k)
                far[k] = _far(root(start[k], k), rest, noise) ** k
        bounds = _recursion(most, dimension, factor, kick, variance, start, far)
        logs = tuple(log_above(value) for value in bounds[1 : k_max + 1])
        tail = _constant_tail(initial, bound, rho, variance, arb(step_size))
    given = _chain_assumptions(kappa, bound.g0, bound.g1, temperature, step_size, dimension)
    return MomentCertificate(True, logs, given + bound.assumptions, tail=tail)


def energy_bound(initial_second: float, initial_risk: float, weight_decay: float) -> MomentCertificate:
    """M_1 and M_2 of the flow at τ = 0 on all samples, whatever the drift: R_N + (λ/2)m_2 does not increase, so
    M_2 ≤ m_2(0) + 2R_N(0)/λ (R_N ≥ 0, λ the smallest decay of a non-increasing schedule: (λ_0 m_2(0) +
    2R_N(0))/λ).

    For differentiable σ and constant λ.  The Euler chain may leave this bound, and τ > 0 does.
    """
    if not (weight_decay > 0 and initial_second >= 0 and initial_risk >= 0):
        raise InputError("energy bound: expected a weight decay > 0, and m_2(0) and R_N(0) ≥ 0")
    with precision():
        second = arb(initial_second) + 2 * arb(initial_risk) / arb(weight_decay)
        logs = (log_above(root(second, 2)), log_above(second))
    given = (
        "the continuous gradient flow at temperature 0 on all samples",
        "constant weight decay and a differentiable activation",
        "m_2(0) and R_N(0) of the N particles themselves",
    )
    return MomentCertificate(True, logs, given)


def check_parameters(
    k_max: int, kappa: float, g: float, temperature: float, dimension: int, step_size: float = 1.0
) -> None:
    """Raise :class:`~sparsemf.exceptions.InputError` for parameters that no chain has."""
    if k_max < 1 or dimension < 1:
        raise InputError(f"moment bound: expected k ≥ 1 and a dimension ≥ 1, got {k_max} and {dimension}")
    for name, value in (("decay κ", kappa), ("step size η", step_size)):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"moment bound: expected a finite {name} > 0, got {value}")
    for name, value in (("drift bound", g), ("temperature", temperature)):
        if not (value >= 0 and math.isfinite(value)):
            raise InputError(f"moment bound: expected a finite {name} ≥ 0, got {value}")


def _initial(initial: Initial, most: int) -> list[arb]:
    """Upper bounds of E‖θ_0‖^k for k = 0 … most (+∞ where none is given)."""
    if isinstance(initial, (GaussianBlocks, StudentT)):
        return [top(initial.moment(k).ball) for k in range(most + 1)]
    found = [arb(1)]
    for value in list(initial)[:most]:
        if not value >= 0:
            raise InputError(f"moment bound: expected initial moments ≥ 0, got {value}")
        found.append(arb(value) if math.isfinite(value) else INFINITE)
    return found + [INFINITE] * (most + 1 - len(found))


def _stationary_scale(kappa: arb, step: arb, temperature: arb) -> arb:
    """√(τ/(κ(1 − κη/2))), the standard deviation of the chain without drift."""
    return (temperature / (kappa * (1 - kappa * step / 2))).sqrt()


def _far(start: arb, rest: arb, noise: arb) -> arb:
    """sup over s in [0, 1] of sA + (1−s)B + √(1−s²)C = B + √((A−B)₊² + C²), rounded upward."""
    if is_infinite(start):
        return INFINITE
    over = larger(top(start) - rest, ZERO)
    return top(rest + (over * over + noise * noise).sqrt())


def _recursion(
    most: int, dimension: int, factor: arb, kick: arb, variance: arb, start: list[arb], far: list[arb]
) -> list[arb]:
    """M_0 … M_most (most even) from the one-step recursion, each no larger than ``far``."""
    bounds = [arb(1)] + [INFINITE] * most
    for k in range(2, most + 1, 2):
        if k > 2:
            odd = _one_step_odd(k - 1, dimension, factor, kick, variance)
            bounds[k - 1] = smaller(_settled(odd, bounds, start[k - 1]), far[k - 1])
        even = _one_step(k // 2, dimension, factor, kick, variance)
        bounds[k] = smaller(_closed(even, bounds, start[k]), _settled(even, bounds, start[k]), far[k])
        between = INFINITE if is_infinite(bounds[k]) else (bounds[k - 2] * bounds[k]).sqrt()
        bounds[k - 1] = smaller(between, bounds[k - 1], far[k - 1])
    return bounds


def _settled(weights: list[arb], bounds: list[arb], start: arb) -> arb:
    """max{m_k(0), u*} with u* = Σ_{i<k} a_i M_i + a_k u*."""
    known = _weighted(weights[:-1], bounds)
    return INFINITE if is_infinite(known) or is_infinite(start) else larger(start, known / (1 - weights[-1]))


def _closed(weights: list[arb], bounds: list[arb], start: arb) -> arb:
    """max{m_k(0), u*} with u* = Σ_{i≤k−2} a_i M_i + a_{k−1}√(M_{k−2}u*) + a_k u* (m_{k−1}² ≤ m_{k−2}m_k)."""
    known = _weighted(weights[:-2], bounds)
    if is_infinite(known) or is_infinite(start):
        return INFINITE
    linear = weights[-2] * bounds[len(weights) - 3].sqrt()
    loss = 1 - weights[-1]
    half = (linear + (linear * linear + 4 * loss * known).sqrt()) / (2 * loss)
    return larger(start, half * half)


def _weighted(weights: list[arb], bounds: list[arb]) -> arb:
    """Σ a_i M_i; an infinite M_i with a_i = 0 does not count."""
    pairs = zip(weights, bounds[: len(weights)], strict=True)
    return sum((a * m for a, m in pairs if not bool(a == 0)), ZERO)


def _one_step(p: int, dimension: int, factor: arb, kick: arb, variance: arb) -> list[arb]:
    """a_i with E|y + sξ|^{2p} ≤ Σ_i a_i E‖θ‖^i for |y| ≤ factor·‖θ‖ + kick: the moments of the non-central χ²,
    E|y + sξ|^{2p} = Σ_j C(p,j) |y|^{2j} (2s²)^{p−j} Γ(p + D/2)/Γ(j + D/2), with the binomial theorem for |y|^{2j}.
    """
    half = arb(dimension) / 2
    powers = [ZERO] * (2 * p + 1)
    for j in range(p + 1):
        powers[2 * j] = (2 * variance) ** (p - j) * (half + p).gamma() / (half + j).gamma() * math.comb(p, j)
    return _in_norms(powers, factor, kick)


def _one_step_odd(k: int, dimension: int, factor: arb, kick: arb, variance: arb) -> list[arb]:
    """The same for odd k ≥ 3: E|y + √v ξ|^k = |y|^k + ½k(k+D−2) ∫_0^v E|y + √u ξ|^{k−2} du, from
    E|y + √v ξ| ≤ |y| + √(vD) upward.
    """
    terms: dict[tuple[int, int], arb] = {(1, 0): arb(1), (0, 1): arb(dimension).sqrt()}  # (i, e): |y|^i v^{e/2}
    for order in range(3, k + 1, 2):
        rate = arb(order) * (order + dimension - 2) / 2
        terms = {(i, e + 2): rate * c * 2 / (e + 2) for (i, e), c in terms.items()} | {(order, 0): arb(1)}
    powers = [ZERO] * (k + 1)
    for (i, e), c in terms.items():
        powers[i] = powers[i] + c * variance.sqrt() ** e
    return _in_norms(powers, factor, kick)


def _in_norms(powers: list[arb], factor: arb, kick: arb) -> list[arb]:
    """Σ_j p_j (factor·t + kick)^j as coefficients of t^i."""
    weights = list(arb_poly(powers)(arb_poly([kick, factor])))
    return weights + [ZERO] * (len(powers) - len(weights))


def _chain_assumptions(
    kappa: float, g0: float, g1: float, temperature: float, step_size: float, dimension: int
) -> tuple[str, ...]:
    linear = f" + {g1:.6g}‖θ‖" if g1 else ""
    return (
        f"the discrete chain with constant κ = {kappa:g}, τ = {temperature:g}, η = {step_size:g}",
        f"drift |g| ≤ {g0:.6g}{linear}",
        f"D = {dimension}",
        EXACT,
    )


def _constant_tail(initial: Initial, drift: DriftBound, rho: arb, variance: arb, step: arb) -> GaussianTail | None:
    """Growth over all times at constant rates: the drift part stays within ηG0/(1−ρ), the rest is Gaussian."""
    if not isinstance(initial, GaussianBlocks):
        return None
    start = initial.largest_scale
    scale = max(start, float_above((variance / (1 - rho * rho)).sqrt())) if variance > 0 else start
    if drift.g1 == 0:
        rest = top(step * arb(drift.g0) / (1 - rho))
        radius = float_above(larger(arb(initial.fixed_square).sqrt(), rest)) if scale == 0 else math.inf
        return GaussianTail(below(scale), above(scale), radius)
    # the drift's part follows the Gaussian's: e ≤ (ρ + ηG1) e + ηG1·scale; a step's own noise is always left
    gain = step * arb(drift.g1)
    extra = float_above(gain * arb(scale) / (1 - rho - gain)) if scale > 0 else 0.0
    return GaussianTail(below(max(start, float(variance.sqrt().mid()))), above(scale + extra))


def above(x: float) -> float:
    """More than x by more than the rounding of a few operations."""
    return x * (1.0 + 1e-12)


def below(x: float) -> float:
    """Less than x by more than the rounding of a few operations."""
    return x * (1.0 - 1e-12)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _exp_above(log: float) -> float:
    """A float ≥ e^log."""
    if log == -math.inf:
        return 0.0
    if log >= 709.7:
        return math.inf
    return math.exp(log) * (1.0 + 2.0**-50) + 5e-324
