"""Does a weight sequence w lie below C·w*, i.e. is sup_k w_k M_k finite?  What is seen, and what is proved.

Finitely many k never decide it, so the data give an estimate; the growth of M_k as k → ∞, where it is proved
(:class:`~sparsemf.training.lyapunov.GaussianTail`), decides the named families (docs/moments).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sparsemf.exceptions import InputError
from sparsemf.training.balls import gaussian_moment, precision
from sparsemf.training.initial_law import InitialLaw, StudentT
from sparsemf.training.lyapunov import GaussianTail, MomentCertificate
from sparsemf.training.moments import MomentGrowth

Form = Literal["factorial", "geometric", "gaussian", "list"]
Seen = Literal["consistent with membership", "growing", "undecided"]
Proved = Literal["member", "not a member"]

LEAST = 4
"""Trusted orders that an estimate of the growth needs."""


@dataclass(frozen=True)
class Weights:
    """w_k: factorial^-s, w_k = (k!)^{−s}; geometric r, w_k = r^k; gaussian s, w_k = 1/E‖sξ‖^k in R^D; or a list."""

    form: Form
    parameter: float = 0.0
    values: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Weights:
        """From ``factorial^-0.5``, ``geometric 0.5``, ``gaussian 1.5`` or ``1,0.5,0.2`` (w_1, w_2, …).

        Raises :class:`~sparsemf.exceptions.InputError` for anything else.
        """
        words = text.replace("factorial^-", "factorial ").split()
        try:
            if len(words) == 2 and words[0] in ("factorial", "geometric", "gaussian"):
                parameter = float(words[1])
                if not (math.isfinite(parameter) and parameter > 0):
                    raise ValueError
                return cls(words[0], parameter)
            return cls.of([float(part) for part in text.split(",")])
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"weights {text!r}: expected factorial^-S, geometric R or gaussian S with a number > 0, "
                "or a list w1,w2,…"
            ) from None

    @classmethod
    def of(cls, values: Sequence[float]) -> Weights:
        """A list w_1, w_2, …; raises :class:`~sparsemf.exceptions.InputError` unless all are finite and ≥ 0."""
        found = tuple(float(v) for v in values)
        if not found or any(not (math.isfinite(v) and v >= 0) for v in found):
            raise InputError("weights: expected finite numbers ≥ 0")
        return cls("list", 0.0, found)

    @property
    def name(self) -> str:
        """As :meth:`parse` reads it."""
        if self.form == "list":
            return ",".join(f"{v:g}" for v in self.values)
        return f"factorial^-{self.parameter:g}" if self.form == "factorial" else f"{self.form} {self.parameter:g}"

    def logs(self, k_max: int, dimension: int) -> list[float]:
        """log w_k for k = 1 … k_max (a list may be shorter; −∞ where w_k = 0)."""
        orders = range(1, k_max + 1)
        if self.form == "factorial":
            return [-self.parameter * math.lgamma(k + 1) for k in orders]
        if self.form == "geometric":
            return [k * math.log(self.parameter) for k in orders]
        if self.form == "gaussian":
            with precision():
                return [
                    -k * math.log(self.parameter) - float(gaussian_moment(k, dimension).log().mid()) for k in orders
                ]
        return [math.log(v) if v > 0 else -math.inf for v in self.values[:k_max]]


@dataclass(frozen=True)
class Membership:
    """The answer for one weight sequence.

    Attributes
    ----------
    log_product :
        log w_k M_k (estimated M_k) for the recorded k.
    sup :
        max_k log w_k M_k over the trusted k.
    slope :
        Slope of log w_k M_k against k over the upper half of the trusted range, or None.
    seen :
        The estimate.
    proved, reason :
        The decision where it is proved, and the argument; else None and what is missing.
    certified_sup :
        max_k log w_k·(a-priori bound of M_k) over the bound's k: for these k, w_kM_k is certainly below it.
    """

    weights: str
    log_product: tuple[float, ...]
    sup: float | None
    slope: float | None
    seen: Seen
    proved: Proved | None
    reason: str
    certified_sup: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "weights": self.weights,
            "log_product": [v if math.isfinite(v) else None for v in self.log_product],
            "log_sup_trusted": self.sup,
            "slope": self.slope,
            "estimate": self.seen,
            "proved": self.proved,
            "reason": self.reason,
            "log_sup_certified": self.certified_sup,
        }


def membership(
    weights: Weights,
    growth: MomentGrowth,
    dimension: int,
    certificate: MomentCertificate | None = None,
    tail: GaussianTail | None = None,
    law: InitialLaw | None = None,
) -> Membership:
    """Estimate and, where possible, proof that sup_k w_k M_k is finite.

    ``tail`` is the proved growth of M_k (default: the certificate's); ``law`` the initial law, when known.  The
    proof is about M_k of the law of θ; the empirical measure of N particles has bounded support, and its M_k at
    high k are lower.
    """
    logs = np.array(weights.logs(growth.k_max, dimension))
    size = logs.size
    product = logs + np.array(growth.log_m[:size])
    most = min(growth.trusted, size)
    sup = float(product[:most].max()) if most and np.isfinite(product[:most]).any() else None
    slope, seen = _trend(product[:most], np.array(growth.low[:most]) + logs[:most], growth.high[:most] + logs[:most])
    if tail is None and certificate is not None:
        tail = certificate.tail
    proved, reason = decide(weights, tail, law)
    certified = None
    if certificate is not None and certificate.holds:
        count = min(size, len(certificate.log_bound))
        value = max(
            a + b if a > -math.inf else -math.inf
            for a, b in zip(logs[:count].tolist(), certificate.log_bound[:count], strict=True)
        )
        certified = value + abs(value) * 1e-12 if math.isfinite(value) else None
    return Membership(weights.name, tuple(product.tolist()), sup, slope, seen, proved, reason, certified)


def _trend(product: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[float | None, Seen]:
    """Slope over the upper half of the range, and its sign when the bands leave no doubt."""
    most = product.size
    if most < LEAST or not np.isfinite(np.concatenate([product, low, high])).all():
        return None, "undecided"
    first = most // 2
    slope = float(np.polyfit(np.arange(first, most), product[first:], 1)[0])
    if low[-1] > high[first]:
        return slope, "growing"
    if high[-1] < low[first]:
        return slope, "consistent with membership"
    return slope, "undecided"


def decide(weights: Weights, tail: GaussianTail | None, law: InitialLaw | None = None) -> tuple[Proved | None, str]:
    """("member" | "not a member" | None, why).

    With c₋ ≤ lim M_k^{1/k}/√(k/e) ≤ c₊: k!^{1/k} ~ k/e and (E‖sξ‖^k)^{1/k} ~ s√(k/e), so

    - factorial^-s: (w_kM_k)^{1/k} ~ c (k/e)^{1/2−s}: member for s > ½ (c₊ < ∞) and for s = ½, c₊ < 1; not a member
      for s < ½ (c₋ > 0) and for s = ½, c₋ > 1;
    - geometric r: not a member when c₋ > 0; member when c₊ = 0 and r·radius ≤ 1;
    - gaussian s: member when c₊ < s, not a member when c₋ > s.
    """
    if isinstance(law, StudentT):
        if weights.form == "list":
            top = len(weights.values)
            heavy = any(v > 0 for v in weights.values[math.ceil(law.degrees) - 1 :]) if top >= law.degrees else False
            if not heavy:
                return None, "a finite list does not decide about all k"
        return "not a member", (
            f"the initial law is Student's t with ν = {law.degrees:g}: M_k = ∞ and w*_k = 0 for k ≥ {law.degrees:g}, "
            "and the weights are positive there"
        )
    if weights.form == "list":
        return None, "a finite list does not decide about all k"
    if tail is None:
        return None, "the growth of M_k as k → ∞ is not proved"
    low, high, s = tail.lower, tail.upper, weights.parameter
    between = f"M_k^(1/k)/√(k/e) lies between {low:.6g} and {high:.6g} as k → ∞"
    if high == 0:
        return _bounded(weights, tail)
    if weights.form == "geometric":
        if low > 0:
            return "not a member", f"{between}: M_k grows faster than every geometric sequence"
        return None, f"{between}: the bound alone does not decide"
    if weights.form == "factorial" and s != 0.5:
        if s > 0.5 and high < math.inf:
            return "member", f"{between}, and k!^(s/k) grows like (k/e)^{s:g}, faster"
        if s < 0.5 and low > 0:
            return "not a member", f"{between}, and k!^(s/k) grows like (k/e)^{s:g}, slower"
        return None, f"{between}: not enough for s = {s:g}"
    edge = 1.0 if weights.form == "factorial" else s
    if high < edge:
        return "member", f"{between}, below the threshold {edge:g}"
    if low > edge:
        return "not a member", f"{between}, above the threshold {edge:g}"
    return None, f"{between}: the threshold {edge:g} is not cleared"


def _bounded(weights: Weights, tail: GaussianTail) -> tuple[Proved | None, str]:
    inside = f"‖θ‖ ≤ {tail.radius:.6g} always"
    if weights.form != "geometric":
        return "member", f"{inside}, and the weights fall faster than every geometric sequence"
    if not math.isfinite(tail.radius):
        return None, "the support is bounded, by an unknown radius"
    if weights.parameter * tail.radius <= 1:
        return "member", f"{inside}, and {weights.parameter:g} times that is at most 1"
    return None, f"{inside}: {weights.parameter:g} times that is above 1, and the bound need not be attained"
