"""Moments E‖θ_0‖^k of an initial law: exact where a closed form or a recursion gives them, else an upper bound.

Two families (docs/moments): Gaussian blocks, whose ‖θ_0‖² is a constant plus a weighted sum of χ² variables, and
Student's t, whose moments are infinite from k = ν on, so that M_k = ∞ and w*_k = 0 there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flint import arb

from sparsemf.exceptions import InputError
from sparsemf.training.balls import INFINITE, ZERO, gaussian_moment, is_infinite, log_above, precision

Sort = Literal["exact", "bound", "infinite"]


@dataclass(frozen=True)
class InitialMoment:
    """E‖θ_0‖^k: ``ball`` holds it (``sort`` exact), or its upper end bounds it (bound), or it is infinite.

    ``log`` is a float ≥ log E‖θ_0‖^k.
    """

    k: int
    ball: arb
    sort: Sort

    @property
    def log(self) -> float:
        return log_above(self.ball)


@dataclass(frozen=True)
class GaussianBlocks:
    """θ_0 = (fixed part of norm √``fixed_square``, independent centred Gaussians).

    ``blocks`` holds (variance of a coordinate, number of coordinates) of each Gaussian block.
    """

    blocks: tuple[tuple[float, int], ...]
    fixed_square: float = 0.0
    fixed_dimension: int = 0

    def __post_init__(self) -> None:
        if any(not (math.isfinite(v) and v >= 0) or n < 1 for v, n in self.blocks):
            raise InputError(f"initial law: expected variances ≥ 0 and at least one coordinate, got {self.blocks}")
        if not (math.isfinite(self.fixed_square) and self.fixed_square >= 0):
            raise InputError(f"initial law: expected a squared norm ≥ 0, got {self.fixed_square}")

    @property
    def dimension(self) -> int:
        return self.fixed_dimension + sum(n for _, n in self.blocks)

    @property
    def largest_scale(self) -> float:
        """The largest standard deviation of a coordinate."""
        return math.sqrt(max((v for v, _ in self.blocks), default=0.0))

    def gaussian_part(self) -> GaussianBlocks:
        """The law without its fixed part."""
        return GaussianBlocks(self.blocks)

    def moment(self, k: int) -> InitialMoment:
        """E‖θ_0‖^k.  Raises :class:`~sparsemf.exceptions.InputError` for k < 0."""
        _check_order(k)
        with precision():
            distinct = {v for v, _ in self.blocks if v > 0}
            if self.fixed_square == 0 and len(distinct) <= 1:
                scale = arb(distinct.pop()).sqrt() if distinct else ZERO
                count = sum(n for v, n in self.blocks if v > 0)
                return InitialMoment(k, scale**k * gaussian_moment(k, count) if k else arb(1), "exact")
            if k % 2 == 0:
                return InitialMoment(k, self._square_moments(k // 2)[k // 2], "exact")
            squares = self._square_moments((k + 1) // 2)
            return InitialMoment(k, (squares[(k - 1) // 2] * squares[(k + 1) // 2]).sqrt(), "bound")

    def _square_moments(self, most: int) -> list[arb]:
        """E(‖θ_0‖²)^p for p = 0 … most: μ_p = Σ_i C(p−1, i−1) κ_i μ_{p−i} with the cumulants
        κ_i = 2^{i−1}(i−1)! Σ_j n_j v_j^i (+ the fixed square in κ_1).  All terms are ≥ 0.
        """
        cumulants = [ZERO]
        for i in range(1, most + 1):
            power = sum((arb(v) ** i * n for v, n in self.blocks), ZERO)
            cumulants.append(power * 2 ** (i - 1) * math.factorial(i - 1) + (arb(self.fixed_square) if i == 1 else 0))
        moments = [arb(1)]
        for p in range(1, most + 1):
            terms = (math.comb(p - 1, i - 1) * cumulants[i] * moments[p - i] for i in range(1, p + 1))
            moments.append(sum(terms, ZERO))
        return moments

    def describe(self) -> str:
        parts = [f"{n} Gaussian coordinates of variance {v:g}" for v, n in self.blocks]
        if self.fixed_dimension:
            parts.insert(0, f"{self.fixed_dimension} coordinates with fixed squared norm {self.fixed_square:g}")
        return " and ".join(parts)


@dataclass(frozen=True)
class StudentT:
    """θ_0 with Student-t coordinates of ν degrees of freedom times ``scale``: independent ones, or jointly
    scale·ξ√(ν/χ²_ν) with ξ ~ N(0, I_D).  E‖θ_0‖^k = ∞ for every k ≥ ν.
    """

    degrees: float
    dimension: int
    scale: float = 1.0
    independent: bool = True
    largest: bool = False
    """Whether ``scale`` is only the largest of the coordinates' scales, so that moments are bounds."""

    def __post_init__(self) -> None:
        if not (self.degrees > 0 and self.scale > 0 and math.isfinite(self.scale)) or self.dimension < 1:
            raise InputError(
                "student_t: expected degrees > 0, a finite scale > 0 and a dimension ≥ 1, got "
                f"{self.degrees}, {self.scale}, {self.dimension}"
            )

    def moment(self, k: int) -> InitialMoment:
        """Joint: exact, (scale√ν)^k E‖ξ‖^k Γ((ν−k)/2)/(2^{k/2}Γ(ν/2)).  Independent: exact in dimension 1 and for
        k = 2, else the bound D^{k/2} E|t|^k (k ≥ 2) by convexity of s ↦ s^{k/2}, and for k = 1 √m_2 or D·E|t|.
        """
        _check_order(k)
        with precision():
            if k == 0:
                return InitialMoment(0, arb(1), "exact")
            if k >= self.degrees:
                return InitialMoment(k, INFINITE, "infinite")
            if not self.independent or self.dimension == 1:
                return InitialMoment(k, self._radial(k, self.dimension), "bound" if self.largest else "exact")
            if k == 1:
                second = (self._radial(2, 1) * self.dimension).sqrt() if self.degrees > 2 else INFINITE
                first = self._radial(1, 1) * self.dimension
                return InitialMoment(1, first if is_infinite(second) or first < second else second, "bound")
            bound = arb(self.dimension) ** (arb(k) / 2) * self._radial(k, 1)
            return InitialMoment(k, bound, "exact" if k == 2 else "bound")

    def _radial(self, k: int, dimension: int) -> arb:
        nu = arb(self.degrees)
        inverse = ((nu - k) / 2).gamma() / ((nu / 2).gamma() * arb(2) ** (arb(k) / 2))
        return (arb(self.scale) * nu.sqrt()) ** k * gaussian_moment(k, dimension) * inverse

    def describe(self) -> str:
        how = "independent" if self.independent else "joint"
        return f"{self.dimension} {how} Student-t coordinates, ν = {self.degrees:g}, scale {self.scale:g}"


InitialLaw = GaussianBlocks | StudentT


def initial_moments(law: InitialLaw, k: int) -> InitialMoment:
    """E‖θ_0‖^k of ``law``, with what is known of it; the dimension is the law's own."""
    return law.moment(k)


def trainer_law(config: Mapping[str, Any], inputs: int, outputs: int) -> InitialLaw:
    """The trainer's initial law: a ~ ±1, 1 or N(0, 1), (w, b) ~ N(0, init_scale²/d) (:mod:`~.particles`).

    ``config`` needs init_outer, init_scale and bias.  With ``init_tail`` = ν and Gaussian a: a joint Student law, by
    the larger of its two scales.  Raises :class:`~sparsemf.exceptions.InputError` for another law.
    """
    scale = float(config.get("init_scale", 1.0))
    columns = inputs + int(bool(config.get("bias", False)))
    inner = (scale * scale / inputs, columns)
    outer, tail = config.get("init_outer", "gaussian"), config.get("init_tail")
    size = 1.0 if config.get("parametrisation", "mean-field") == "mean-field" else float(config["width"])
    if tail is not None:
        if outer != "gaussian":
            raise InputError(f"init_tail with init_outer {outer}: the moments of this law are not known")
        largest = math.sqrt(max(size, inner[0]))
        return StudentT(tail, outputs + columns, largest, independent=False, largest=size != inner[0])
    if outer in ("sign", "one"):
        return GaussianBlocks((inner,), fixed_square=size * outputs, fixed_dimension=outputs)
    if outer == "gaussian":
        return GaussianBlocks(((size, outputs), inner))
    raise InputError(f"init_outer: expected sign, one or gaussian, got {outer!r}: the moments are not known")


def _check_order(k: int) -> None:
    if k < 0:
        raise InputError(f"moments: expected an order k ≥ 0, got {k}")
