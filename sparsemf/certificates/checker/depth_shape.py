"""The family of networks that a depth speaks of, and what counting alone says about the rank of its moment map.

f(x) = Σ_{i ≤ S} α_i σ(⟨w_i, x⟩ + b_i) + A x + c on R^d with m outputs, x ~ N(0, I).  ``bias``: the b_i are parameters
(else they are 0).  ``free``: the highest degree of the polynomial part that is a parameter (−1: none, 0: c, 1: A and
c).  Ψ_D = (T_k)_{k ≤ D}, and with t = r², u(t, b) = E σ(rg + b), G_k = ∂_b^k u,

    √k!·T_k = Σ_i α_i G_k(t_i, b_i) w_i^{⊗k}   (+ the polynomial part, in degrees ≤ ``free``).

The polynomial part fills its own degrees, so it adds its dimension to the rank of JΨ_D and to the target alike; below
only the degrees K = {k ≤ D: k > free, c_k ≢ 0} and the atoms' parameters are counted.

*Claim* (:func:`rank_bound`): rank JΨ_D ≤ the smaller of these, at every point.

1. The number of equations, m·Σ_{k ∈ K} dim Sym^k(R^d).  (Homogeneous σ without bias: c_k = κ_k r^p with κ_k fixed, so
   contracting T_k gives T_{k−2}: only the highest even and odd degree of K count.  And where these are 2 and 1 and the
   S ≤ d atoms are independent, m equations more are lost: with ⟨y, ŵ_i⟩ = 1 for all i and M = −½(I + yyᵀ), the
   covector (y/κ₁, M/κ₂) annihilates the columns of each output, for Mŵ_i = −½(y + ŵ_i) is −½y modulo ŵ_i, and
   ⟨y, ŵ_i⟩ + ŵ_iᵀMŵ_i = 0: the quadric (⟨y, x⟩ − 1)² touches the sphere in all atoms.)
2. Through the factorisation θ_i ↦ (ŵ_i, (α_i c_k)_{k ∈ K}) ↦ Ψ: for each atom d − 1 for ŵ_i (when K has a degree ≥ 1)
   and at most min(parameters of (α, r, b), m + |K| − 1), the dimension of the m × |K| matrices of rank 1.
3. Equations for some degrees and (2) for the others: ranks add up at most.
4. For atoms in their span V, dim V = q ≤ min(S, d): the columns of directions in V have entries in Sym(V), and each
   direction e ⟂ V contributes the columns Sym(e ⊗ α_i G_k w_i^{⊗(k−1)}), of rank at most min(S, m·Σ dim
   Sym^{k−1}(R^q)); the blocks of different e are independent.  So rank ≤ (bound in R^q) + (d − q)·(that).  It is stated
   for q = min(S, d); where q is smaller, the point is a limit of such points, and the rank does not rise in a limit.

The rank that identifies atoms locally, the **target**, is S(m + d + bias − gauge): ``gauge`` is 1 where scaling
(homogeneous σ) or e^b's translation (exp with biases) moves an atom along its orbit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from flint import arb

from sparsemf.certificates.checker.catalogue import CORES, Image, image
from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.expansion import is_exactly

HIGHEST = 40


@dataclass(frozen=True)
class Shape:
    """S atoms on R^d with m outputs; see the module's docstring.  Raises :class:`Refused` where a term of σ is 0."""

    activation: str
    atoms: int
    d: int
    m: int
    bias: bool
    free: int

    def __post_init__(self) -> None:
        # a term that vanishes (leaky_relu(1), elu(0)) leaves another σ, of other orbits
        if not all(term.coefficient() != 0 for term in self.form.terms):
            raise Refused(f"{self.activation} is a simpler activation in disguise")

    @property
    def form(self) -> Image:
        """σ in terms of cores."""
        return image(self.activation)

    @property
    def degree(self) -> int:
        """The degree of a polynomial σ, 0 for others."""
        powers = [CORES[term.core].power for term in self.form.terms if term.core.startswith("power")]
        if len(powers) < len(self.form.terms):
            return 0
        return max(powers, default=1)

    @property
    def homogeneous(self) -> int:
        """p with σ(tz) = t^p σ(z), t > 0, where this form shows it, else 0."""
        form = self.form
        degrees = {CORES[t.core].degree for t in form.terms if is_exactly(t.shift(), 0)} if form.terms else {1}
        if (
            len(degrees) != 1
            or any(not is_exactly(t.shift(), 0) for t in form.terms)
            or not is_exactly(form.constant(), 0)
        ):
            return 0
        p = degrees.pop()
        return p if p == 1 or is_exactly(form.linear(), 0) else 0

    @property
    def gauge(self) -> int:
        """Dimension of an atom's orbit (for σ that are no polynomials)."""
        return int(self.homogeneous > 0 or (self.form.translation and self.bias))

    @property
    def unknowns(self) -> int:
        """Parameters of (α, r, b) of one atom modulo its orbit."""
        return self.m + 1 + self.bias - self.gauge

    @property
    def target(self) -> int:
        """The rank that identifies atoms locally."""
        return self.atoms * (self.d - 1 + self.unknowns)

    @property
    def relation(self) -> tuple[int, tuple[arb, arb, arb]] | None:
        """(s, P) with σ(z) = sσ(−z) + P₀ + P₁z + P₂z², None where this form shows none."""
        form = self.form
        if form.translation:
            return None
        if form.frequency is not None:
            return (-1 if form.terms[0].core == "sin" else 1), (arb(0), arb(0), arb(0))
        flips = [CORES[t.core].flip for t in form.terms]
        signs = {flip[0] for flip in flips if flip is not None}
        if not flips or None in flips or len(signs) != 1 or any(not is_exactly(t.shift(), 0) for t in form.terms):
            return None
        sign = signs.pop()
        polynomial = [(1 - sign) * form.constant(), (1 + sign) * form.linear(), arb(0)]
        for term, flip in zip(form.terms, flips, strict=True):
            for j in range(3):
                if flip is not None:
                    polynomial[j] += term.coefficient() * flip[1][j] * term.scale() ** j
        return sign, (polynomial[0], polynomial[1], polynomial[2])

    def vanishes(self, k: int) -> bool:
        """Whether c_k ≡ 0 on the family, as far as degree and parity show it: σ(z) = sσ(−z) + P(z) gives, without
        biases, c_k = ½·(the Hermite component k of P) where s(−1)^k = −1."""
        if self.degree and k > self.degree:
            return True
        relation = self.relation
        if self.bias or relation is None or relation[0] * (-1) ** k == 1:
            return False
        polynomial = relation[1]
        # z² has the Hermite degrees 0 and 2
        return k > 2 or (is_exactly(polynomial[k], 0) and (k > 0 or is_exactly(polynomial[2], 0)))

    def degrees(self, depth: int) -> list[int]:
        """K at that depth."""
        return [k for k in range(self.free + 1, depth + 1) if not self.vanishes(k)]


def symmetric(d: int, k: int) -> int:
    """dim Sym^k(R^d)."""
    return math.comb(d + k - 1, k) if k >= 0 else 0


def rank_bound(shape: Shape, depth: int) -> int:
    """See the module's docstring; without the polynomial part."""
    known, q = shape.degrees(depth), min(shape.atoms, shape.d)
    inside = _joint(shape, known, q)
    across = min(shape.atoms, shape.m * sum(symmetric(q, k - 1) for k in known if k >= 1))
    return min(_joint(shape, known, shape.d), inside + (shape.d - q) * across)


def _joint(shape: Shape, known: list[int], d: int) -> int:
    counted, conical = known, bool(shape.homogeneous and not shape.bias)
    if conical:
        counted = [max(k for k in known if k % 2 == parity) for parity in {k % 2 for k in known}]
    best = shape.m * sum(symmetric(d, k) for k in counted)
    if conical and set(counted) == {1, 2} and d == shape.atoms:
        best -= shape.m
    for start in range(len(known)):
        part = known[start:]
        turn = d - 1 if part[-1] >= 1 else 0
        atoms = shape.atoms * (turn + min(shape.unknowns, shape.m + len(part) - 1))
        best = min(best, atoms + shape.m * sum(symmetric(d, k) for k in known[:start]))
    return best


def least_depth(shape: Shape, rank: int) -> int:
    """The least D whose :func:`rank_bound` reaches ``rank``: no smaller depth identifies atoms locally.

    Raises :class:`Refused` when none up to :data:`HIGHEST` does: these parameters are never identified.
    """
    bounds = [rank_bound(shape, depth) for depth in range(HIGHEST + 1)]
    assert all(a <= b for a, b in pairwise(bounds))
    for depth, bound in enumerate(bounds):
        if bound >= rank:
            return depth
    raise Refused(f"no depth up to {HIGHEST} has as many equations as unknowns")
