"""Joint refinement of many atoms in the population: variable projection without a sample.

Under N(0, I), affine part free or charged, minimise over the atoms θ_s = (w_s, b_s)

    F(θ) = ‖f‖² − tr CᵀG⁻¹C = ‖f − Σ_s β_s φ_s‖²,   G = ⟨φ_s, φ_t⟩_⊥,  C = ⟨φ_s, f⟩_⊥,  β = G⁻¹C.

The derivative is that at fixed β (envelope theorem).  Gauss–Newton with Kaufman's approximation: the matrix
⟨P⊥∂_iφ_s, P⊥∂_jφ_t⟩·⟨β_s, β_t⟩, P⊥ off span{φ_u}, is applied by a few products of S×S and S×d arrays
(:mod:`sparsemf.recovery.derivatives`) and inverted by preconditioned conjugate gradients under Levenberg–Marquardt
damping: O(S·n·d) a step for f of n atoms, and nothing of the size of the parameters squared.

f may have a part p = A x + c that is charged: C gains ⟨φ_s, p⟩ = c_1(s)A û_s + c_0(s)c, whose derivatives are those of
c_0, c_1 and û.

Series are cut at a degree that suits the search; the caller refits and certifies what is found in the full geometry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from sparsemf.exceptions import InputError
from sparsemf.measures import Atoms
from sparsemf.recovery.derivatives import Expansion, Moves, Products, Slopes, values
from sparsemf.recovery.problem import Charged
from sparsemf.recovery.refit import factorised

Array = NDArray[np.float64]

_ROWS = 512
"""Atoms of the dictionary at a time against all atoms of f."""


@dataclass(frozen=True, eq=False)
class Target:
    """f = Σ_i α_i φ_i + p by its expansion, and ‖f‖² (same degree); ``charged``: p, if there is one."""

    atoms: Expansion
    alpha: Array
    energy: float
    charged: Charged | None = None

    @staticmethod
    def of(atoms: Atoms, alpha: Array, degree: int, free: int = 1, charged: Charged | None = None) -> Target:
        """Computes ‖f‖² beyond the degree ``free`` by row blocks."""
        expansion = Expansion.of(atoms, degree, free)
        energy = 0.0
        for start in range(0, atoms.n, _ROWS):
            part = atoms.take(slice(start, start + _ROWS))
            energy += float(
                np.sum(alpha[start : start + _ROWS] * (values(Expansion.of(part, degree, free), expansion) @ alpha))
            )
        if charged is not None:
            energy += 2.0 * float(np.sum(alpha * charged.image(atoms))) + charged.norm**2
        return Target(expansion, alpha, energy, charged)


@dataclass(frozen=True, eq=False)
class _State:
    atoms: Atoms
    expansion: Expansion
    factor: Array
    beta: Array
    value: float


def _evaluate(atoms: Atoms, target: Target) -> _State:
    expansion = Expansion.of(atoms, target.atoms.degree, target.atoms.free)
    gram = values(expansion, expansion)
    image = np.empty((atoms.n, target.alpha.shape[1]))
    for start in range(0, atoms.n, _ROWS):
        rows = slice(start, min(start + _ROWS, atoms.n))
        image[rows] = values(_rows(expansion, rows), target.atoms) @ target.alpha
    if target.charged is not None:
        image += target.charged.image(atoms)
    factor = factorised(gram)
    beta = linalg.cho_solve((factor, True), image, check_finite=False)
    # ‖f − Φβ‖² for this very β, whatever the ridge
    value = target.energy - 2.0 * float(np.sum(beta * image)) + float(np.sum(beta * (gram @ beta)))
    return _State(atoms, expansion, factor, beta, value)


def _rows(expansion: Expansion, rows: slice) -> Expansion:
    return Expansion(
        expansion.unit[rows],
        expansion.value[rows],
        expansion.radial[rows],
        expansion.shift[rows],
        expansion.turn[rows],
        expansion.free,
    )


def _gradient(state: _State, target: Target, own: Slopes) -> Moves:
    """½ ∂F: ⟨∂φ_s, f_S − f⟩ contracted with β_s."""
    n = state.atoms.n
    unit = state.expansion.unit
    weight = state.beta @ state.beta.T
    radial = np.sum(weight * own.radial, axis=1)
    shift = np.sum(weight * own.shift, axis=1)
    turn = (weight * own.turn) @ unit
    for start in range(0, n, _ROWS):
        rows = slice(start, min(start + _ROWS, n))
        other = Slopes.of(_rows(state.expansion, rows), target.atoms)
        weight = state.beta[rows] @ target.alpha.T
        radial[rows] -= np.sum(weight * other.radial, axis=1)
        shift[rows] -= np.sum(weight * other.shift, axis=1)
        turn[rows] -= (weight * other.turn) @ target.atoms.unit
    if target.charged is not None:
        along, level = state.beta @ target.charged.affine, state.beta @ target.charged.offset
        expansion, slope = state.expansion, np.sum(along * unit, axis=1)
        radial -= expansion.radial[:, 1] * slope + expansion.radial[:, 0] * level
        shift -= expansion.shift[:, 1] * slope + expansion.shift[:, 0] * level
        turn -= expansion.turn[:, 1, None] * along
    return Moves(radial, shift, _tangent(turn, unit))


def _tangent(turn: Array, unit: Array) -> Array:
    return turn - np.sum(turn * unit, axis=1)[:, None] * unit


@dataclass(frozen=True, eq=False)
class _Normal:
    """The Gauss–Newton matrix at a state, as an operator on moves."""

    apply: Callable[[Moves], Moves]
    diagonal: tuple[Array, Array, Array]


def _normal(state: _State, own: Slopes, with_bias: bool) -> _Normal:
    unit, weight = state.expansion.unit, state.beta @ state.beta.T
    products = Products.of(state.expansion)
    rr, rb, bb, rt, bt, t1, t2 = (
        weight * p for p in (products.rr, products.rb, products.bb, products.rt, products.bt, products.t1, products.t2)
    )
    inverse = linalg.cho_solve((state.factor, True), np.eye(state.atoms.n), check_finite=False)

    def apply(v: Moves) -> Moves:
        angle = v.turn @ unit.T  # ⟨v_⊥s, û_t⟩
        # Kaufman: what the span of the atoms takes up is theirs already
        taken = v.radial[:, None] * own.radial + v.shift[:, None] * own.shift + angle * own.turn
        taken = (weight @ taken) @ inverse
        radial = rr @ v.radial + rb @ v.shift + np.sum(rt * angle.T, axis=1) - np.sum(own.radial * taken, axis=1)
        shift = rb.T @ v.radial + bb @ v.shift + np.sum(bt * angle.T, axis=1) - np.sum(own.shift * taken, axis=1)
        along = rt.T * v.radial + bt.T * v.shift + t2 * angle.T - own.turn * taken
        return Moves(radial, shift if with_bias else np.zeros_like(shift), _tangent(along @ unit + t1 @ v.turn, unit))

    # diagonal, projection included: B G⁻¹ Bᵀ restricted to one coordinate
    own_weight = np.diag(weight)

    def left(full: Array, slope: Array) -> Array:
        explained = own_weight * np.einsum("su,uv,sv->s", slope, inverse, slope, optimize=True)
        return np.maximum(np.diag(full) - explained, 1e-3 * np.diag(full))

    diagonal = (left(rr, own.radial), left(bb, own.shift), np.diag(t1).copy())
    return _Normal(apply, diagonal)


@dataclass(frozen=True, eq=False)
class Settled:
    """The atoms found, F/‖f‖² before and after (cut series), the steps taken and the conjugate-gradient products."""

    atoms: Atoms
    before: float
    after: float
    steps: int
    products: int


def settle(
    atoms: Atoms, target: Target, with_bias: bool, steps: int = 10, inner: int = 10, tolerance: float = 1e-3
) -> Settled:
    """Locally better atoms from a start, by at most ``steps`` Gauss–Newton steps of ≤ ``inner`` products each.

    ``with_bias=False`` keeps every bias.  Ends when a step improves F by less than ``tolerance`` relative.
    """
    state = _evaluate(atoms, target)
    first = state.value
    damping, used, count = 1e-2, 0, 0
    while used < steps:
        own = Slopes.of(state.expansion, state.expansion)
        gradient = _gradient(state, target, own)
        if not with_bias:
            gradient = Moves(gradient.radial, np.zeros_like(gradient.shift), gradient.turn)
        normal = _normal(state, own, with_bias)
        accepted, gain = None, 0.0
        for _ in range(4):
            step, done = _conjugate_gradients(normal, gradient, damping, inner)
            count += done
            candidate = _tried(_moved(state, step), target)
            if candidate is not None and candidate.value < state.value:
                predicted = -(gradient.dot(step) + 0.5 * normal.apply(step).dot(step)) * 2.0
                ratio = (state.value - candidate.value) / max(predicted, 1e-300)
                damping = damping / 4 if ratio > 0.7 else damping * 2 if ratio < 0.3 else damping
                accepted, gain = candidate, (state.value - candidate.value) / max(state.value, 1e-300)
                break
            damping *= 8
        used += 1
        if accepted is None:
            break
        state = accepted
        if gain < tolerance or state.value <= 1e-15 * target.energy:
            break
    scale = target.energy or 1.0
    return Settled(state.atoms, first / scale, state.value / scale, used, count)


def _tried(atoms: Atoms, target: Target) -> _State | None:
    """None where a step of unbounded σ leaves the range of numbers: then it was too long."""
    try:
        return _evaluate(atoms, target)
    except InputError:
        return None


def _moved(state: _State, step: Moves) -> Atoms:
    atoms = state.atoms
    inner = atoms.inner + step.radial[:, None] * state.expansion.unit + step.turn
    bias = atoms.bias + step.shift
    if atoms.activation.homogeneous:
        size = np.maximum(np.sqrt(np.sum(inner**2, axis=1) + bias**2), 1e-300)
        inner, bias = inner / size[:, None], bias / size
    return Atoms(atoms.activation, inner, bias)


def _conjugate_gradients(normal: _Normal, gradient: Moves, damping: float, most: int) -> tuple[Moves, int]:
    """(H + damping·D) step = −gradient, D the diagonal; stops at a residual of 5 % or after ``most`` products."""
    diagonal = [np.maximum(d, 1e-9 * float(d.max(initial=0.0)) + 1e-200) for d in normal.diagonal]
    inverse = [1.0 / ((1.0 + damping) * d) for d in diagonal]
    residual = gradient.scaled(*(-np.ones(gradient.radial.size),) * 3)
    step = gradient.scaled(*(np.zeros(gradient.radial.size),) * 3)
    z = residual.scaled(*inverse)
    direction, size = z, residual.dot(z)
    start = size
    done = 0
    while done < most and size > 2.5e-3 * start:
        image = normal.apply(direction).plus(direction.scaled(*diagonal), damping)
        done += 1
        curvature = direction.dot(image)
        if curvature <= 0:
            break
        length = size / curvature
        step, residual = step.plus(direction, length), residual.plus(image, -length)
        z = residual.scaled(*inverse)
        previous, size = size, residual.dot(z)
        direction = z.plus(direction, size / previous)
    return step, done
