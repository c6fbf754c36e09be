"""f* another network under N(0, I): inner products in closed form (piecewise-linear σ) or by Hermite series (the
others).

*Series.*  With w = s ŵ, φ(w, b) = Σ_k c_k(s, b) he_k(ŵ), and a residual r = Σ_j β_j ψ_j (atoms of f* and of −Φν) has

    η_K(w, b) = Σ_{k ≤ K} c_k(s, b) Σ_j β_j c_k(j) ⟨ŵ_j, ŵ⟩^k,   ‖η − η_K‖ ≤ ‖r_{>K}‖·‖φ‖     (Cauchy-Schwarz).

With a_k = c_k/s^k, (1/s)∂_s a_k = √((k+1)(k+2))·a_{k+2} and ∂_b a_k = √(k+1)·a_{k+1} (Stein), so the finite sum is
differentiated exactly.  η_K is E[r_K σ(z)], r_K the projection on degrees ≤ K, whence for unit v

    ‖D²η_K[v, v]‖ ≤ ‖r‖ sup|σ″| √(E⟨v, x̃⟩⁴) ≤ √3 ‖r‖ sup|σ″|,    ‖D³η_K‖ ≤ √15 ‖r‖ sup|σ‴|.

*Closed form.*  For σ = κ relu(z) − νz, E[relu(U)relu(V)] and its derivatives in (w, b) are in Φ₂, Φ, φ
(:mod:`.relu_jet`).

*Effective coordinates.*  η sees w through ⟨ŵ_j, w⟩ and |w| only: the span of all w_j (and of the affine part), and one
more coordinate t ≥ 0 for the length of the rest.

One-dimensional quadratures and Φ₂ are trusted to the stated margins of :mod:`sparsemf.measures.gaussian`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation, get
from sparsemf.activations.families.exponential import Exponential
from sparsemf.activations.families.relu import PiecewiseLinear
from sparsemf.certificates.convex.boxes import first_length
from sparsemf.certificates.convex.growth import Growth, growth
from sparsemf.certificates.convex.observation import UNIT, Atomic, Curvature, Jet, form_norm
from sparsemf.certificates.convex.parameters import ParameterSet
from sparsemf.certificates.convex.relu_jet import ReluOracle
from sparsemf.certificates.convex.series_jet import SeriesOracle
from sparsemf.certificates.convex.smoothness import smoothness
from sparsemf.exceptions import InputError
from sparsemf.measures import Atoms, Gaussian, Network

Array = NDArray[np.float64]

_DEGREES = (24, 48, 96, 192, 384)
_TAIL = 1.5e-7
_FARTHEST = 100.0
SPAN = 1e-12
"""Directions of the neurons below this relative singular value are charged to the error."""


@dataclass(frozen=True, eq=False)
class PopulationObservation:
    """A whitened target network (no gate, no quadratic part) seen through atoms of ``activation``.

    ``free``: whether the affine part is free.  ``degree``: K of the series, None for closed forms.  ``source``: the
    target before it was whitened from ``law``; None under N(0, I).
    """

    activation: Activation
    target: Network
    space: ParameterSet
    free: bool
    degree: int | None
    source: Network | None = None
    law: Gaussian | None = None

    @staticmethod
    def of(
        target: Network,
        activation: str | Activation | None = None,
        bias: bool = True,
        affine: bool = False,
        radius: float | None = None,
        bias_radius: float | None = None,
        law: Gaussian | None = None,
    ) -> PopulationObservation:
        """The target under N(0, I), or brought there from ``law``; ``activation`` of the atoms defaults to its own.

        Raises :class:`InputError` for gated targets and quadratic parts, and where exp is too large to be squared.
        """
        if target.gated or target.quadratic is not None:
            raise InputError("target: expected Σ α σ(⟨w, x⟩ + b) + A x + c, got a gated network or a quadratic part")
        source = target if law is not None and not law.is_standard else None
        target = target if source is None or law is None else law.whiten(target)
        law = law if source is not None else None
        sigma = target.activation if activation is None else activation
        sigma = get(sigma) if isinstance(sigma, str) else sigma
        space = ParameterSet.of(sigma, target.d, bias, radius, bias_radius)
        _not_too_far(sigma, space.radius, space.bias_radius)
        lengths, levels = np.linalg.norm(target.inner, axis=1), np.abs(target.bias)
        _not_too_far(target.activation, np.max(lengths, initial=0.0), np.max(levels, initial=0.0))
        if isinstance(sigma, PiecewiseLinear) and isinstance(target.activation, PiecewiseLinear):
            return PopulationObservation(sigma, target, space, affine, None, source, law)
        atoms = Atoms.of(target)
        weight = np.linalg.norm(target.alpha, axis=1)
        mass = float(weight @ atoms.length)
        degree = _DEGREES[-1]
        for degree in _DEGREES:
            if float(weight @ _tails(atoms, degree)) <= _TAIL * mass:
                break
        return PopulationObservation(sigma, target, space, affine, degree, source, law)

    @property
    def m(self) -> int:
        return self.target.m

    @cached_property
    def energy(self) -> float:
        return self.square(Atomic.empty(self.space.dim, self.m))

    def oracle(self, measure: Atomic) -> ReluOracle | SeriesOracle:
        """η of r = f* − Φν in input coordinates."""
        return self._oracle(measure, np.eye(self.target.d))

    def _oracle(self, measure: Atomic, q: Array, with_target: bool = True) -> ReluOracle | SeriesOracle:
        """The same in the coordinates wᵀq (columns of ``q`` orthonormal, their span holding all directions)."""
        f = self.target
        parts: list[tuple[Activation, Array, Array, Array]] = []
        affine, offset = np.zeros((self.m, q.shape[1])), np.zeros(self.m)
        if with_target:
            parts.append((f.activation, f.inner @ q, f.bias, f.alpha))
            affine, offset = (f.affine @ q, f.offset) if not self.free else (affine, offset)
        if measure.size:
            w, b = self.space.weights(measure.theta), self.space.biases(measure.theta)
            parts.append((self.activation, w @ q, b, -measure.alpha))
        space = ParameterSet(q.shape[1], self.space.bias, self.space.degree, self.space.radius, self.space.bias_radius)
        if self.degree is None:
            return ReluOracle.of(self.activation, space, parts, affine, offset, self.free)
        return SeriesOracle.of(self.activation, space, parts, affine, offset, self.free, self.degree)

    def gram(self, first: Array, second: Array) -> Array:
        source = Atomic(first, -np.eye(first.shape[0]))
        return self._single(source).jet(second, 0).value.T

    def _single(self, source: Atomic) -> ReluOracle | SeriesOracle:
        w, b = self.space.weights(source.theta), self.space.biases(source.theta)
        parts = [(self.activation, w, b, -source.alpha)]
        zero, none = np.zeros((source.alpha.shape[1], self.target.d)), np.zeros(source.alpha.shape[1])
        if self.degree is None:
            return ReluOracle.of(self.activation, self.space, parts, zero, none, self.free)
        return SeriesOracle.of(self.activation, self.space, parts, zero, none, self.free, self.degree)

    def moments(self, theta: Array) -> Array:
        return self._oracle(Atomic.empty(self.space.dim, self.m), np.eye(self.target.d)).jet(theta, 0).value

    def jet(self, measure: Atomic, theta: Array, order: int = 1) -> Jet:
        return self.oracle(measure).jet(theta, order)

    def square(self, measure: Atomic) -> float:
        return self.oracle(measure).energy()

    def _mass(self, measure: Atomic) -> float:
        """Σ‖β_j‖‖ψ_j‖ of r, what rounding scales with."""
        f = self.target
        mass = float(np.linalg.norm(f.alpha, axis=1) @ Atoms.of(f).scale)
        mass += float(np.linalg.norm(f.affine) + np.linalg.norm(f.offset))
        return mass + float(np.linalg.norm(measure.alpha, axis=1) @ self._scales(measure.theta))

    def _scales(self, theta: Array) -> Array:
        atoms = Atoms(self.activation, self.space.weights(theta), self.space.biases(theta))
        return atoms.scale if theta.shape[0] else np.zeros(0)

    def _tail(self, measure: Atomic) -> float:
        """‖r_{>K}‖ (0 for closed forms)."""
        if self.degree is None:
            return 0.0
        tail = float(np.linalg.norm(self.target.alpha, axis=1) @ _tails(Atoms.of(self.target), self.degree))
        if measure.size:
            own = Atoms(self.activation, self.space.weights(measure.theta), self.space.biases(measure.theta))
            tail += float(np.linalg.norm(measure.alpha, axis=1) @ _tails(own, self.degree))
        return tail

    def beyond(self, measure: Atomic, degree: int, known: float) -> float:
        """‖r_{>K}‖·sup‖φ_{>K}‖ for K = ``degree``, where r's series up to K has ``known`` of its energy; 0 where the
        oracle has no more degrees either."""
        if self.degree is not None and degree >= self.degree:
            return 0.0
        energy, error = self.residual_energy(measure)
        tail = self._atom_tail(degree)
        return float(np.sqrt(max(energy + error - known, 0.0))) * tail * (1 + 1e-12) if tail else 0.0

    def _atom_tail(self, degree: int | None) -> float:
        """sup over Θ of ‖φ_{>K}‖: Σ_{k>K} c_k² ≤ s^{2p} sup|σ^(p)|²/((K + 1)K⋯(K + 2 − p)), p = 1, 2, 3 (Stein); σ′ −
        its middle counts for p = 1 where σ is piecewise linear, and polynomials of degree ≤ K have none."""
        power = self.activation.polynomial_degree
        if degree is None or (power is not None and power <= degree):
            return 0.0
        smooth, k = smoothness(self.activation), float(degree)
        s = 1.0 if self.space.sphere else self.space.radius
        steep = self.activation.lipschitz
        if isinstance(self.activation, PiecewiseLinear):
            steep = 0.5 * abs(self.activation.positive + self.activation.negative)
        orders = (
            s * steep / np.sqrt(k + 1),
            s**2 * smooth.sup2 / np.sqrt((k + 1) * k),
            s**3 * smooth.sup3 / np.sqrt((k + 1) * k * (k - 1)),
        )
        return float(min(orders)) * (1 + 1e-12)

    def _margin(self, measure: Atomic) -> float:
        """The stated rounding margin of a quadratic form in r: (n + d + 320)·UNIT·mass²."""
        count = self.target.width + measure.size
        return (count + 4 * self.target.d + 320) * UNIT * self._mass(measure) ** 2

    def residual_energy(self, measure: Atomic) -> tuple[float, float]:
        return max(self.square(measure), 0.0), self._margin(measure) + self._tail(measure) ** 2

    def overlap(self, measure: Atomic) -> tuple[float, float]:
        """⟨f*, r⟩ = ½(‖f*‖² + ‖r‖² − ‖Φν‖²)."""
        own = self._single(measure).energy() if measure.size else 0.0
        value = 0.5 * (self.energy + self.square(measure) - own)
        nothing = Atomic.empty(self.space.dim, self.m)
        return value, 2 * self._margin(measure) + self._tail(measure) * (self._tail(measure) + self._tail(nothing))

    def curvature(self, measure: Atomic) -> Curvature:
        directions = [self.target.inner, self.space.weights(measure.theta)]
        if not self.free:
            directions.append(self.target.affine)
        stacked = np.concatenate(directions)
        _, s, vt = np.linalg.svd(stacked, full_matrices=False)
        rank = max(1, int(np.sum(s > SPAN * max(float(s[0]), 1e-300))))
        d = self.target.d
        q, half, lost = np.eye(d), None, 0.0
        if rank + 1 < d:
            basis = vt[: rank + 1].T
            if basis.shape[1] < rank + 1:  # fewer rows than that: any direction outside the span
                basis = np.linalg.qr(np.concatenate([basis, np.random.default_rng(0).standard_normal((d, 1))], axis=1))[
                    0
                ]
            q, half = basis, rank
            lost = float(s[rank]) if s.size > rank else 0.0
        embed = np.eye(self.space.dim)
        if half is not None:
            embed = np.zeros((rank + 1 + int(self.space.bias), self.space.dim))
            embed[: rank + 1, :d] = q.T
            if self.space.bias:
                embed[-1, -1] = 1.0
        oracle = self._oracle(measure, q)
        energy, error = self.residual_energy(measure)
        size = float(np.sqrt(energy + error)) * (1 + 1e-12)
        smooth = smoothness(self.activation)
        reach = np.array([1.0 if self.space.sphere else self.space.radius])
        largest = float(
            self.activation.rounding_size(reach, np.array([self.space.bias_radius or float(self.space.sphere)]))[0]
        )
        # eightfold: boxes reach beyond Θ by at most 2√D, and derivatives round like values
        count = self.target.width + measure.size
        rounding = 8 * (count + 4 * d + 320 + (self.degree or 0)) * UNIT * self._mass(measure) * largest
        # M grows with the set where σ′ is not bounded
        longest = max(1.0, float(np.max(np.linalg.norm(self.target.inner, axis=1), initial=0.0)), self.space.reach)
        highest = max(1.0, float(np.max(np.abs(self.target.bias), initial=0.0)), self.space.bias_radius)
        ends = np.array([longest]), np.array([highest])
        modulus = float(np.max(self.target.activation.modulus(*ends)))
        weight = float(np.sum(np.linalg.norm(self.target.alpha, axis=1))) * modulus
        weight += measure.variation * float(np.max(self.activation.modulus(*ends)))
        rounding += (lost + 8 * d * UNIT * float(np.max(s, initial=0.0))) * weight * largest
        rounding += self._tail(measure) * min(largest, self._atom_tail(self.degree))
        lipschitz = size * self.activation.lipschitz if np.isfinite(self.activation.lipschitz) else np.inf
        second = np.sqrt(3.0) * size * smooth.sup2 * (1 + 1e-12) if np.isfinite(smooth.sup2) else np.inf
        third = np.sqrt(15.0) * size * smooth.sup3 * (1 + 1e-12) if np.isfinite(smooth.sup3) else np.inf
        grows, dim = growth(self.activation), q.shape[1] + int(self.space.bias)
        if grows is not None and isinstance(oracle, SeriesOracle):
            oracle = replace(oracle, size=size)
            # the first boxes' corners
            corner = (1.0 if self.space.sphere else first_length(self.space.radius)) * np.sqrt(q.shape[1])
            side = float(self.space.bias) if self.space.sphere else 0.0
            side = first_length(self.space.bias_radius) if self.space.bias_radius else side
            ends = np.array([corner * (1 + 1e-12)]), np.array([side])
            lipschitz, second, third = (size * float(grows.mean(p, *ends)[0]) * (1 + 1e-12) for p in (1, 2, 3))
            rounding *= max(1.0, float(grows.mean(0, *ends)[0]) / largest)
        everywhere = form_norm(self.activation, oracle.space, oracle, dim, self.m)
        return Curvature(oracle, second, third, lipschitz, rounding, dim, half, q.shape[1], embed,
                         grows=grows is not None, everywhere=everywhere)  # fmt: skip

    def network(self, measure: Atomic) -> Network:
        w, b = self.space.weights(measure.theta), self.space.biases(measure.theta)
        found = Network(measure.alpha, w, b, self.activation)
        if not self.free:
            return found
        from sparsemf.measures.gaussian import affine_part

        slope, constant = affine_part(self.target)
        own, level = affine_part(found) if measure.size else (0.0 * slope, 0.0 * constant)
        return found.with_(affine=slope - own, offset=constant - level)

    def suggestions(self, count: int, rng: np.random.Generator) -> Array:
        """Random points, and the target's own neurons brought into Θ."""
        f = self.target
        own = self.space.project(self.space.join(f.inner, f.bias))
        signed = np.concatenate([own, self.space.project(-self.space.join(f.inner, f.bias))])
        return np.concatenate([self.space.sample(count, rng), signed])


def _not_too_far(sigma: Activation, length: float, level: float) -> None:
    """Refuses exp where ‖e^z‖ = e^{b + |w|²} is beyond e^100: fourth powers are taken."""
    far = float(length) ** 2 + float(level)
    if growth(sigma) == Growth(None) and not far <= _FARTHEST:
        raise InputError(
            f"exp: expected |w|² + |b| ≤ {_FARTHEST:g} over the parameter set and the target's neurons, in white "
            f"coordinates, got {far:g}; give smaller radii, or another activation"
        )


def _tails(atoms: Atoms, degree: int) -> Array:
    """‖φ_{>K}‖ of each atom: 0 for polynomials of degree ≤ K; for exp c_K²q/(1 − q) with q = s²/(K + 1) bounds its
    square, c_{k+1}² = c_k²s²/(k + 1); else :meth:`.Atoms.tail`, which knows it to √rounding only."""
    n = atoms.activation.polynomial_degree
    if n is not None and n <= degree:
        return np.zeros(atoms.bias.size)
    found = atoms.tail(degree)
    if isinstance(atoms.activation, Exponential):
        q = atoms.length**2 / (degree + 1) * (1 + 1e-12)
        last = np.abs(atoms.hermite(degree)[:, degree]) * (1 + 1e-9)
        closed = last * np.sqrt(q / np.maximum(1 - q, 1e-300)) * (1 + 1e-12) + 1e-150
        return np.where(q < 1, np.minimum(found, closed), found)
    return found
