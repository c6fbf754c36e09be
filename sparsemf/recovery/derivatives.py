"""Inner products of atoms and of their derivatives under N(0, I), by Hermite series.

An atom (w, b) with r = ‖w‖, û = w/r has the tensors T_k = c_k(r, b) û^{⊗k}.  Stein's identity gives

    ∂_b c_k = √(k+1) c_{k+1}/r,      ∂_r c_k = (√((k+1)(k+2)) c_{k+2} + k c_k)/r,

and moving w by v = a û + v_⊥, b by β changes T_k by (a ∂_r c_k + β ∂_b c_k) û^{⊗k} + k (c_k/r) sym(û^{⊗(k−1)} ⊗
v_⊥). With ρ = ⟨û_s, û_t⟩ every inner product of two such changes is a few power series in ρ over the degrees k ≥ 2
(affine functions are free; k ≥ 3 where quadratic ones are, k ≥ 1 or 0 where they are charged), so the Gauss–Newton
matrix of S atoms is a handful of S×S arrays and is never formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Atoms
from sparsemf.measures.gaussian import UNIT
from sparsemf.measures.parallel import over_rows

Array = NDArray[np.float64]

_BLOCK = 1 << 17
"""Cosines at a time."""


@dataclass(frozen=True, eq=False)
class Expansion:
    """Unit directions (n, d) and, by degree k = 0 … K (columns; 0 where k is free): ``value`` c_k, ``radial`` ∂_r c_k,
    ``shift`` ∂_b c_k, ``turn`` c_k/r."""

    unit: Array
    value: Array
    radial: Array
    shift: Array
    turn: Array
    free: int = 1

    @staticmethod
    def of(atoms: Atoms, degree: int, free: int = 1) -> Expansion:
        """The coefficients of every atom beyond the degree ``free``; those with w = 0 (constants) have none."""
        c = atoms.hermite(degree + 2)
        k = np.arange(degree + 1.0)
        inverse = np.divide(1.0, atoms.norm, out=np.zeros(atoms.n), where=atoms.norm > 0)[:, None]
        beyond = (k > free).astype(np.float64)
        return Expansion(
            atoms.unit,
            c[:, : degree + 1] * beyond,
            (np.sqrt((k + 1) * (k + 2)) * c[:, 2 : degree + 3] + k * c[:, : degree + 1]) * inverse * beyond,
            np.sqrt(k + 1) * c[:, 1 : degree + 2] * inverse * beyond,
            c[:, : degree + 1] * inverse * beyond,
            free,
        )

    @property
    def degree(self) -> int:
        """K."""
        return self.value.shape[1] - 1

    def lowered(self, values: Array, times: int = 1) -> Array:
        """d^times/dρ^times of Σ_k values_k ρ^k, as coefficients again."""
        for _ in range(times):
            values = values[:, 1:] * np.arange(1.0, values.shape[1])
        return values


def power_series(first: Array, second: Array, groups: list[tuple[Array, list[Array]]]) -> list[Array]:
    """Σ_k left_ik right_jk ρ_ij^k, (n₁, n₂), for every left (n₁, ·) of every group (right (n₂, ·), lefts), in order;
    ρ_ij = ⟨û_i, û_j⟩ of the unit directions ``first`` (n₁, d) and ``second`` (n₂, d).

    Row by row: the powers of ρ_i once, times each right once, and the lefts by a small matrix product.  Where every
    second degree of a right is below rounding (even or odd σ without biases), it is left out.
    """
    n1, n2 = first.shape[0], second.shape[0]
    found = [np.empty((n1, n2)) for _, lefts in groups for _ in lefts]
    stacked = []
    for right, lefts in groups:
        kept = _degrees(right)
        stacked.append((kept, right[:, kept].T.copy(), np.stack([left[:, kept] for left in lefts], axis=1)))
    first_power, stride = _common([kept for kept, _, _ in stacked])
    count = max(right.shape[1] for right, _ in groups)
    rows = max(1, _BLOCK // max(n2, 1))

    def block(start: int) -> None:
        powers, product = np.ones((count, n2)), np.empty((count, n2))
        rho = first[start : start + rows] @ second.T
        for i in range(rho.shape[0]):
            if first_power == 1:
                powers[1] = rho[i]
            factor = rho[i] if stride == 1 else rho[i] * rho[i]
            for k in range(first_power + stride, count, stride):
                # row after row: multiply.accumulate along this axis is five times slower
                np.multiply(powers[k - stride], factor, out=powers[k])
            at = 0
            for kept, right, lefts in stacked:
                size = right.shape[0]
                np.multiply(powers[kept][:size], right, out=product[:size])
                for row in lefts[start + i] @ product[:size]:
                    found[at][start + i] = row
                    at += 1

    over_rows(block, n1, rows, 4.0 * n1 * n2 * count)
    return found


def _degrees(right: Array) -> slice:
    """The degrees at which ``right`` (n, K + 1) is above rounding: all, or the even or the odd ones."""
    size = np.max(np.abs(right), axis=0, initial=0.0)
    for parity in (0, 1):
        if size.size > 1 and (size[1 - parity :: 2] <= UNIT * size.max()).all():
            return slice(parity, None, 2)
    return slice(0, None, 1)


def _common(kept: list[slice]) -> tuple[int, int]:
    """The first power, and the step from each to the next, of those that some of ``kept`` asks for."""
    if all(one == kept[0] for one in kept) and kept[0].step == 2:
        return kept[0].start, 2
    return 0, 1


def values(first: Expansion, second: Expansion) -> Array:
    """⟨φ_i, φ_j⟩_⊥, (n₁, n₂)."""
    return power_series(first.unit, second.unit, [(second.value, [first.value])])[0]


@dataclass(frozen=True, eq=False)
class Slopes:
    """Derivatives of ⟨φ_s, φ_j⟩_⊥ in the first atom: along û (``radial``), in b (``shift``), and ``turn``: along v_⊥
    it is turn_sj·⟨v_⊥, û_j⟩; (n₁, n₂) each."""

    radial: Array
    shift: Array
    turn: Array

    @staticmethod
    def of(first: Expansion, second: Expansion) -> Slopes:
        """Σ_k ∂c_k(s) c_k(j) ρ^k and Σ_k k c_k(s)/r_s c_k(j) ρ^{k−1}."""
        radial, shift, turn = power_series(
            first.unit,
            second.unit,
            [(second.value, [first.radial, first.shift]), (second.value[:, 1:], [first.lowered(first.turn)])],
        )
        return Slopes(radial, shift, turn)


@dataclass(frozen=True, eq=False)
class Moves:
    """Tangent vectors of S atoms: ``radial`` (S,) along û, ``shift`` (S,) of b, ``turn`` (S, d) orthogonal to û."""

    radial: Array
    shift: Array
    turn: Array

    def dot(self, other: Moves) -> float:
        """The Euclidean inner product."""
        return float(self.radial @ other.radial + self.shift @ other.shift + np.vdot(self.turn, other.turn))

    def plus(self, other: Moves, factor: float = 1.0) -> Moves:
        """self + factor·other."""
        return Moves(
            self.radial + factor * other.radial, self.shift + factor * other.shift, self.turn + factor * other.turn
        )

    def scaled(self, radial: Array, shift: Array, turn: Array) -> Moves:
        """Each part times a number per atom."""
        return Moves(self.radial * radial, self.shift * shift, self.turn * turn[:, None])


@dataclass(frozen=True, eq=False)
class Products:
    """Inner products of the atoms' derivatives with one another, S×S arrays of power series in ρ.

    For moves (a, β, v_⊥) of s and (a′, β′, v′_⊥) of t the inner product of the changes is

        aa′·rr + aβ′·rb + βa′·rbᵀ + ββ′·bb + (a·rt + β·bt)⟨û_s, v′_⊥⟩ + ⟨v_⊥, û_t⟩(rtᵀ·a′ + btᵀ·β′)
        + t1·⟨v_⊥, v′_⊥⟩ + t2·⟨v_⊥, û_t⟩⟨û_s, v′_⊥⟩.
    """

    rr: Array
    rb: Array
    bb: Array
    rt: Array
    bt: Array
    t1: Array
    t2: Array

    @staticmethod
    def of(atoms: Expansion) -> Products:
        """All seven."""
        radial, shift, turn = atoms.radial, atoms.shift, atoms.turn
        once, twice = atoms.lowered(turn), atoms.lowered(turn, 2)
        rr, br, bb, rt, bt, t1, t2 = power_series(
            atoms.unit,
            atoms.unit,
            [
                (radial, [radial, shift]),
                (shift, [shift]),
                (once, [radial[:, 1:], shift[:, 1:]]),
                (turn[:, 1:], [once]),
                (turn[:, 2:], [twice]),
            ],
        )
        return Products(rr, br.T, bb, rt, bt, t1, t2)
