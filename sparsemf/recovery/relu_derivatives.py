"""Inner products of relu atoms and of their derivatives under N(0, I), in closed form, affine functions free.

For z_i = ⟨w_i, x⟩ + b_i, s = ‖w‖, h_i = b_i/s_i, ρ = ⟨û_i, û_j⟩, q = √(1 − ρ²), Φ₂ = Φ₂(h_i, h_j; ρ), Stein's
identity turns every E[1(z_i > 0) 1(z_j > 0)·(polynomial)] into Φ₂, the half-lines D_i = φ(h_i)Φ((h_j − ρh_i)/q)
and the density p₂ = φ(h_i)φ((h_j − ρh_i)/q)/q of both boundaries at once:

    E[11] = Φ₂,   E[11·x] = D_i û_i + D_j û_j,
    E[11·xxᵀ] = Φ₂ I − (h_iD_i + ρp₂) û_iû_iᵀ − (h_jD_j + ρp₂) û_jû_jᵀ + p₂(û_iû_jᵀ + û_jû_iᵀ).

From these the degrees 0 and 1 are taken off.  A Hermite series would converge like 1/√K here: a derivative has a
jump. The arrays are those of :mod:`sparsemf.recovery.derivatives`, for σ = κ·relu + linear.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sparsemf.activations.bivariate import bivariate_normal_cdf, conditional_slope, normal_density
from sparsemf.activations.families.relu import relu_kernel, relu_mean_any, relu_second_moment
from sparsemf.measures import Atoms
from sparsemf.recovery.derivatives import Products, Slopes

Array = NDArray[np.float64]

_TOUCHING = 1e-9
"""Below this q two boundaries count as one: p₂ there is multiplied by q² in every inner product."""


@dataclass(frozen=True, eq=False)
class Ramps:
    """Relu atoms with w ≠ 0 and what they and their derivatives have of the degrees 0 and 1: ``unit`` û (n, d),
    ``length`` s, ``bias`` b, ``level`` h = b/s, ``mass`` Φ(h), ``edge`` φ(h), ``mean`` E relu(z); (n,) each."""

    unit: Array
    length: Array
    bias: Array
    level: Array
    mass: Array
    edge: Array
    mean: Array

    @staticmethod
    def of(atoms: Atoms) -> Ramps:
        """Of any positively homogeneous, piecewise-linear σ."""
        s = np.maximum(atoms.norm, 1e-150)
        h = atoms.bias / s
        return Ramps(atoms.unit, s, atoms.bias, h, special.ndtr(h), normal_density(h), relu_mean_any(s, atoms.bias))

    def sizes(self) -> Array:
        """‖φ_i‖ beyond the affine part, (n,)."""
        square = relu_second_moment(self.length, self.bias) - self.mean**2 - (self.length * self.mass) ** 2
        return np.sqrt(np.maximum(square, 0.0))


@dataclass(frozen=True, eq=False)
class _Pairs:
    """ρ, q, Φ₂, D_i, D_j and p₂q for all pairs."""

    rho: Array
    q: Array
    both: Array
    first: Array
    second: Array
    density: Array

    @staticmethod
    def of(a: Ramps, b: Ramps) -> _Pairs:
        rho = np.clip(a.unit @ b.unit.T, -1.0, 1.0)
        q = np.sqrt((1 - rho) * (1 + rho))
        h, k = a.level[:, None], b.level[None]
        slope = conditional_slope(h, k, rho, q)
        first = a.edge[:, None] * special.ndtr(slope)
        second = b.edge * special.ndtr(conditional_slope(k, h, rho, q))
        density = a.edge[:, None] * normal_density(slope)
        return _Pairs(rho, q, bivariate_normal_cdf(h, k, rho), first, second, density)


def values(a: Ramps, b: Ramps, kink: float) -> Array:
    """κ²⟨relu_i, relu_j⟩_⊥, (n₁, n₂)."""
    rho = np.clip(a.unit @ b.unit.T, -1.0, 1.0)
    product = np.outer(a.length, b.length) * rho
    found = relu_kernel(a.length[:, None], a.bias[:, None], b.length, b.bias, product)
    found -= np.outer(a.mean, b.mean) + product * np.outer(a.mass, b.mass)
    return kink**2 * found


def slopes(a: Ramps, b: Ramps, kink: float) -> Slopes:
    """Derivatives of :func:`values` in the first atom."""
    pairs = _Pairs.of(a, b)
    rho, t, h, both = pairs.rho, b.length, a.level[:, None], pairs.both
    linear = b.mass * t * rho
    # relu(z_j) where z_i = 0 is relu of N(b_j − ρ t h_i, t²q²)
    radial = rho * t * both + a.edge[:, None] * relu_mean_any(t * pairs.q, b.bias - rho * t * h)
    radial -= np.outer(a.edge, b.mean) + (a.mass - a.level * a.edge)[:, None] * linear
    shift = b.bias * both + t * (pairs.second + rho * pairs.first)
    shift -= np.outer(a.mass, b.mean) + a.edge[:, None] * linear
    turn = t * both - np.outer(a.mass, b.mass * t)
    return Slopes(kink**2 * radial, kink**2 * shift, kink**2 * turn)


def products(atoms: Ramps, kink: float) -> Products:
    """Inner products of the atoms' derivatives with one another."""
    pairs = _Pairs.of(atoms, atoms)
    rho, both, first, second = pairs.rho, pairs.both, pairs.first, pairs.second
    h, k = atoms.level[:, None], atoms.level[None]
    # D_r c₁ = Φ(h) − hφ(h): what the degree 1 of a radial derivative is
    bent = atoms.mass - atoms.level * atoms.edge
    rr = rho * (both - h * first - k * second) + pairs.density * pairs.q
    rb = first + rho * second
    rt = both - h * first
    t2 = np.divide(pairs.density, pairs.q, out=np.zeros_like(rho), where=pairs.q > _TOUCHING)
    found = Products(
        rr=rr - np.outer(atoms.edge, atoms.edge) - rho * np.outer(bent, bent),
        rb=rb - np.outer(atoms.edge, atoms.mass) - rho * np.outer(bent, atoms.edge),
        bb=both - np.outer(atoms.mass, atoms.mass) - rho * np.outer(atoms.edge, atoms.edge),
        rt=rt - np.outer(bent, atoms.mass),
        bt=first - np.outer(atoms.edge, atoms.mass),
        t1=both - np.outer(atoms.mass, atoms.mass),
        t2=t2,
    )
    square = kink**2
    return Products(*(square * getattr(found, name) for name in ("rr", "rb", "bb", "rt", "bt", "t1", "t2")))
