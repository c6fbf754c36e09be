"""The vanishing-derivative pre-certificate η_V of a dictionary under N(0, I), polynomials of low degree free or not.

(Duval & Peyré, Found. Comput. Math. 15 (2015), Def. 6; here for measures with values in R^m.)

Atoms θ_i = (w_i, b_i) with coefficients α_i, u_i = α_i/‖α_i‖; φ_θ(x) = σ(⟨w, x⟩ + b) less its projection on the
polynomials that are free: span{1, x} (``free`` = 1), those of degree ≤ 2 (2), constants (0) or nothing (−1). Features
are ψ_θ = φ_θ/n(θ), n(θ) = |θ| for positively homogeneous σ (the sphere of (w, b), as in :mod:`.parameters`),
n(θ) = ‖φ_θ‖ for all others.  Among all p ∈ L²(N(0, I); R^m) orthogonal to what is free with

    η(θ_i) = u_i,   ∂_v ⟨u_i, η⟩(θ_i) = 0 for every direction v,      η(θ) = ⟨p, ψ_θ⟩ ∈ R^m,

η_V is the η of the one of least norm.  As λ → 0 the η of the program tends to that of least norm with ‖η‖ ≤ 1.

- ‖η_V‖ < 1 off the atoms: that is η_V, and (features independent) Σ α_i δ_{θ_i} the only solution in the limit.
- Features C², Hessians at the atoms negative definite too: small λ and noise leave exactly one atom near each θ_i
  (loc. cit., Thm 2; features there are translates, the argument is that of any C² family).
- ‖η_V‖ > 1 somewhere: small λ does not.  (If it did, (f − Φν)/λ would tend to a p in span{φ_i, ∂φ_i} that meets the
  conditions - features differentiable in L² are enough, relu's are - so to that of η_V, and ‖η‖ ≤ 1 in the limit.)

η_V exists in every case; which one it is, is what is looked at.

*The system.*  p = Σ φ_j A_j + Σ (∂_{c_j}φ_j) u_j.  With K = ⟨φ_i, φ_j⟩ the conditions on the values give A; the
matrix of what is left for the moves c is that of recovery's Gauss–Newton step (S(d + 1) unknowns whatever m is),

    [⟨P⊥∂_vφ_i, P⊥∂_wφ_j⟩⟨u_i, u_j⟩] c = −∂_v⟨u_i, η₀⟩(θ_i),   P⊥ off span{φ_k},   η₀ of the values alone.

Directions orthogonal to all w_i decouple and need no move; they are left out.

*Arithmetic.*  Closed forms for piecewise-linear σ (beyond span{1, x}; single degrees are terms of a series).  Others:
φ stands for its Hermite series up to a degree K; then p has degrees ≤ K, so that ⟨p, φ_θ⟩ is the same for the full φ.
Float64 without error bounds: an **estimate**.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from sparsemf.activations.families.relu import PiecewiseLinear
from sparsemf.exceptions import InputError
from sparsemf.measures import Atoms
from sparsemf.recovery import derivatives, relu_derivatives
from sparsemf.recovery.derivatives import Expansion, Products, Slopes
from sparsemf.recovery.refit import factorised
from sparsemf.recovery.relu_derivatives import Ramps

Array = NDArray[np.float64]

MOST_UNKNOWNS = 3200
"""Rows of the system: 3200 take about a second."""

_RESIDUAL = 1e-6
"""Conditions may be missed by so much; more means that features and derivatives are dependent, or nearly."""
_BLOCK = 1024

_RANK = 1e-9
_DEGREE = 96


class _Kernels(Protocol):
    """Inner products of features and derivatives beyond what is free; ``of`` makes what the others take."""

    @property
    def degree(self) -> int | None:
        """K of the series; None for closed forms."""
        ...

    def of(self, atoms: Atoms) -> Any: ...

    def values(self, a: Any, b: Any) -> Array: ...

    def slopes(self, a: Any, b: Any) -> Slopes: ...

    def products(self, a: Any) -> Products: ...

    def sizes(self, atoms: Atoms, known: Any) -> Array:
        """n(θ)."""
        ...


@dataclass(frozen=True)
class _Series:
    """By Hermite series; features of norm 1."""

    degree: int
    free: int = 1

    def of(self, atoms: Atoms) -> Expansion:
        return Expansion.of(atoms, self.degree, self.free)

    def values(self, a: Expansion, b: Expansion) -> Array:
        return derivatives.values(a, b)

    def slopes(self, a: Expansion, b: Expansion) -> Slopes:
        return Slopes.of(a, b)

    def products(self, a: Expansion) -> Products:
        return Products.of(a)

    def sizes(self, atoms: Atoms, known: Expansion) -> Array:
        return np.maximum(np.linalg.norm(known.value, axis=1), 1e-300)


@dataclass(frozen=True)
class _Closed:
    """σ = κ relu + linear, on the sphere.  The degrees 0 and 1, to which the linear term belongs, are added where these
    are not free; the degree 2 is taken off where quadratic polynomials are."""

    kink: float
    free: int = 1
    degree: None = None

    def of(self, atoms: Atoms) -> _Known:
        more = None if self.free == 1 else Expansion.of(atoms, max(self.free, 1), min(self.free, 1))
        return Ramps.of(atoms), more

    def values(self, a: _Known, b: _Known) -> Array:
        beyond = relu_derivatives.values(a[0], b[0], self.kink)
        return beyond if a[1] is None or b[1] is None else beyond + self._sign * derivatives.values(a[1], b[1])

    def slopes(self, a: _Known, b: _Known) -> Slopes:
        beyond = relu_derivatives.slopes(a[0], b[0], self.kink)
        return beyond if a[1] is None or b[1] is None else _sum(beyond, Slopes.of(a[1], b[1]), self._sign)

    def products(self, a: _Known) -> Products:
        beyond = relu_derivatives.products(a[0], self.kink)
        return beyond if a[1] is None else _sum(beyond, Products.of(a[1]), self._sign)

    def sizes(self, atoms: Atoms, known: _Known) -> Array:
        return np.hypot(atoms.norm, atoms.bias)

    @property
    def _sign(self) -> float:
        return 1.0 if self.free < 1 else -1.0


_Known = tuple[Ramps, Expansion | None]
_Arrays = TypeVar("_Arrays", Slopes, Products)


def _sum(first: _Arrays, second: _Arrays, factor: float) -> _Arrays:
    return type(first)(*(getattr(first, f.name) + factor * getattr(second, f.name) for f in fields(first)))


@dataclass(frozen=True, eq=False)
class PreCertificate:
    """η_V of S atoms, in whitened coordinates.

    Attributes
    ----------
    atoms, target :
        θ_i and u_i (S, m).
    normalised :
        Whether features have norm 1 beyond what is free; else they live on the sphere of (w, b).
    degree :
        K of the series; None for closed forms.
    free :
        Polynomials of up to this degree are free.
    values, moves :
        A (S, m), and c as (S, d + 1): moves of (w, b).
    norm :
        ‖p‖, at least what the values alone need.
    residual :
        The largest violation of a condition (values; derivatives relative to those of the features).
    """

    atoms: Atoms
    target: Array
    normalised: bool
    degree: int | None
    values: Array
    moves: Array
    norm: float
    residual: float
    free: int = 1

    @property
    def kernels(self) -> _Kernels:
        """The inner products used."""
        return _kernels(self.atoms, self.degree, self.free)

    def eta(self, points: Array) -> Array:
        """η at points θ = (w, b), w ≠ 0, (n, d + 1); shape (n, m).  On the sphere a point stands for its ray."""
        found = np.empty((points.shape[0], self.target.shape[1]))
        kernels = self.kernels
        own = kernels.of(self.atoms)
        unit = self.atoms.unit
        along = np.einsum("sd,sd->s", self.moves[:, :-1], unit)
        turn = self.moves[:, :-1] - along[:, None] * unit
        for start in range(0, points.shape[0], _BLOCK):
            part = points[start : start + _BLOCK]
            there = Atoms(self.atoms.activation, part[:, :-1], part[:, -1])
            other = kernels.of(there)
            slopes = kernels.slopes(own, other)
            moved = along[:, None] * slopes.radial + self.moves[:, -1:] * slopes.shift
            moved += slopes.turn * (turn @ there.unit.T)
            value = kernels.values(own, other).T @ self.values + moved.T @ self.target
            found[start : start + _BLOCK] = value / kernels.sizes(there, other)[:, None]
        return found


def _kernels(atoms: Atoms, degree: int | None, free: int) -> _Kernels:
    sigma = atoms.activation
    if isinstance(sigma, PiecewiseLinear):
        return _Closed(sigma.positive + sigma.negative, free)
    return _Series(degree or _DEGREE, free)


def precertificate(atoms: Atoms, alpha: Array, degree: int = _DEGREE, free: int = 1) -> PreCertificate:
    """η_V of the measure Σ α_i δ_{θ_i} in whitened coordinates; ``degree`` is not used by closed forms; polynomials
    of degree ≤ ``free`` ∈ {−1, 0, 1, 2} are free.

    Raises :class:`InputError` without atoms, for a zero coefficient or a w = 0, for more unknowns than
    :data:`MOST_UNKNOWNS`, for activations without one parameter per atom, and where features and derivatives are
    linearly dependent, so that no p meets the conditions.
    """
    sigma = atoms.activation
    size = np.linalg.norm(alpha, axis=1)
    if sigma.homogeneous not in (None, 1) or sigma.kind not in ("atoms", "frequencies"):
        raise InputError(f"pre-certificate: expected atoms with free parameters, got {sigma.name}")
    if not atoms.n or not (size > 0).all() or not (atoms.norm > 0).all():
        raise InputError("pre-certificate: expected at least one atom, none with α = 0 or w = 0")
    normalised = sigma.homogeneous is None
    basis = _span(atoms.inner)
    unknowns = atoms.n * (basis.shape[1] + int(normalised))
    if unknowns > MOST_UNKNOWNS:
        raise InputError(f"pre-certificate: expected at most {MOST_UNKNOWNS} unknowns, got {unknowns}")
    target = alpha / size[:, None]
    if not normalised:  # φ of the point on the sphere
        length = np.hypot(atoms.norm, atoms.bias)
        atoms = Atoms(sigma, atoms.inner / length[:, None], atoms.bias / length)
    kernels = _kernels(atoms, degree, free)
    flat = Atoms(sigma, atoms.inner @ basis, atoms.bias)
    known, frames = kernels.of(flat), _Frames.of(flat, normalised)
    sizes = kernels.sizes(flat, known)
    gram = kernels.values(known, known)
    rows = frames.first(kernels.slopes(known, known))  # ⟨∂_vφ_i, φ_j⟩, one row for each (i, v)
    second = frames.second(kernels.products(known))
    owner = np.repeat(np.arange(atoms.n), frames.count)
    fitted = _Positive.of(gram)
    wanted = sizes[:, None] * target
    alone = fitted.solve(wanted)
    # ∂_v⟨u_i, η⟩ = 0: ⟨p·u_i, ∂_vφ_i⟩ = ⟨φ_i, ∂_vφ_i⟩/n_i where n varies, 0 along the sphere
    turned = rows[np.arange(owner.size), owner] / sizes[owner] if normalised else np.zeros(owner.size)
    right = turned - np.einsum("rj,jm,rm->r", rows, alone, target[owner], optimize=True)
    length = np.sqrt(np.maximum(np.diag(second), 1e-300))
    matrix = second
    matrix -= rows @ fitted.solve(np.ascontiguousarray(rows.T))
    matrix *= np.repeat(np.repeat(target @ target.T, frames.count, axis=0), frames.count, axis=1)
    moves = _Positive.of(matrix).solve(right[:, None])[:, 0]
    image = np.einsum("rj,r,rm->jm", rows, moves, target[owner], optimize=True)
    values = fitted.solve(wanted - image)
    missed = np.max(np.abs(gram @ values + image - wanted) / sizes[:, None])
    bent = np.max(np.abs(matrix @ moves - right) / length, initial=0.0)
    residual = float(max(missed, bent))
    if not residual <= _RESIDUAL:
        raise InputError(
            "pre-certificate: expected features and derivatives that are linearly independent, got dependent ones "
            f"(conditions missed by {residual:.2g})"
        )
    return PreCertificate(
        atoms=atoms,
        target=target,
        normalised=normalised,
        degree=kernels.degree,
        values=values,
        moves=frames.moves(moves, basis),
        norm=float(np.sqrt(max(np.sum(values * wanted) + moves @ turned, 0.0))),
        residual=residual,
        free=free,
    )


def _span(inner: Array) -> Array:
    """An orthonormal basis (d, r) of span{w_i}."""
    unit = inner / np.linalg.norm(inner, axis=1)[:, None]
    _, scale, axes = np.linalg.svd(unit, full_matrices=False)
    return axes[scale > _RANK * scale[0]].T


@dataclass(frozen=True, eq=False)
class _Frames:
    """Orthonormal directions at each atom: ``plane`` (S, 2, g) along (û, b), then ``turn`` (S, r, r − 1) in û^⊥."""

    unit: Array
    plane: Array
    turn: Array
    across: Array
    """(S, r − 1, S): turn_iᵀû_j."""

    @staticmethod
    def of(atoms: Atoms, normalised: bool) -> _Frames:
        if normalised:
            plane = np.broadcast_to(np.eye(2), (atoms.n, 2, 2))
        else:
            plane = np.stack([-atoms.bias, atoms.norm], axis=1)[:, :, None]
        turn = np.linalg.svd(atoms.unit[:, None, :], full_matrices=True)[2][:, 1:].transpose(0, 2, 1)
        return _Frames(atoms.unit, plane, turn, np.einsum("sre,jr->sej", turn, atoms.unit, optimize=True))

    @property
    def count(self) -> int:
        """Directions of each atom."""
        return self.plane.shape[2] + self.turn.shape[2]

    def first(self, slopes: Slopes) -> Array:
        """⟨∂_vφ_i, φ_j⟩, (S·count, S)."""
        n = self.unit.shape[0]
        along = np.einsum("sag,asj->sgj", self.plane, np.stack([slopes.radial, slopes.shift]))
        return np.concatenate([along, self.across * slopes.turn[:, None]], axis=1).reshape(n * self.count, n)

    def second(self, products: Products) -> Array:
        """⟨∂_vφ_i, ∂_wφ_j⟩, (S·count, S·count)."""
        n, g = self.unit.shape[0], self.plane.shape[2]
        out = np.empty((n, self.count, n, self.count))
        block = np.stack([np.stack([products.rr, products.rb]), np.stack([products.rb.T, products.bb])])
        out[:, :g, :, :g] = np.einsum("sag,abst,tbh->sgth", self.plane, block, self.plane, optimize=True)
        mixed = np.einsum("sag,ast->sgt", self.plane, np.stack([products.rt, products.bt]))
        side = mixed[:, :, :, None] * self.across.transpose(2, 0, 1)[:, None]
        out[:, :g, :, g:] = side
        out[:, g:, :, :g] = side.transpose(2, 3, 0, 1)
        flat = self.turn.transpose(0, 2, 1).reshape(-1, self.unit.shape[1])
        turned = (flat @ flat.T).reshape(n, self.count - g, n, self.count - g)
        turned *= products.t1[:, None, :, None]
        turned += (products.t2[:, None] * self.across)[:, :, :, None] * self.across.transpose(2, 0, 1)[:, None]
        out[:, g:, :, g:] = turned
        return out.reshape(n * self.count, n * self.count)

    def moves(self, amounts: Array, basis: Array) -> Array:
        """Amounts (S·count,) as moves of (w, b), (S, d + 1)."""
        g = self.plane.shape[2]
        each = amounts.reshape(self.unit.shape[0], self.count)
        along = np.einsum("sag,sg->sa", self.plane, each[:, :g])
        inner = along[:, :1] * self.unit + np.einsum("sre,se->sr", self.turn, each[:, g:])
        return np.concatenate([inner @ basis.T, along[:, 1:]], axis=1)


@dataclass(frozen=True, eq=False)
class _Positive:
    """A positive (semi-)definite matrix, its rows scaled to 1 on the diagonal and factorised with a tiny ridge."""

    matrix: Array
    scale: Array
    factor: Array

    @staticmethod
    def of(matrix: Array) -> _Positive:
        diagonal = np.diag(matrix)
        scale = 1.0 / np.sqrt(np.maximum(diagonal, 1e-14 * max(float(np.max(diagonal, initial=0.0)), 1e-300)))
        return _Positive(matrix, scale, factorised(scale[:, None] * matrix * scale))

    def solve(self, right: Array) -> Array:
        """The solution after two steps of refinement, which take the ridge's effect back."""
        found = np.zeros_like(right)
        for _ in range(3):
            rest = self.scale[:, None] * (right - self.matrix @ found)
            found += self.scale[:, None] * linalg.cho_solve((self.factor, True), rest, check_finite=False)
        return found
