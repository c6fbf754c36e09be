"""Joint refinement of gated atoms in the population: gates, factors and coefficients, by variable projection.

Under N(0, I), polynomials of degree ≤ ``free`` free, minimise over the atoms φ_s = σ(⟨g_s, x⟩ + c_s)(⟨h_s, x⟩ + e_s)

    F(g, c, h, e) = ‖f‖² − tr CᵀG⁻¹C = ‖f − Σ_s β_s φ_s‖²,   G = ⟨φ_s, φ_t⟩,  C = ⟨φ_s, f⟩,  β = G⁻¹C

(Golub & Pereyra 1973), all inner products over the degrees > ``free``: of degree 3 on beside quadratic polynomials, all
of them where the whole of f is charged to the atoms.  The derivative is that at fixed β, ½∂F = ⟨β_s, ⟨∂φ_s, f_S − f⟩⟩.
Gauss–Newton in Kaufman's form (1975): ⟨P⊥∂φ_s, P⊥∂φ_t⟩·⟨β_s, β_t⟩, P⊥ off the span of the φ_u, is applied by a few
products of S×S and S×d arrays (:mod:`sparsemf.recovery.gated_derivatives`), and inverted by preconditioned conjugate
gradients under Levenberg–Marquardt damping: O(S·n·(d + K)) a step for f of n atoms.

The invariances (β, h, e) ~ (β/t, th, te), and the mixing of atoms that share a gate, move φ_s within the span: P⊥
removes them, and damping keeps still what is left undetermined.  Factors are brought to length 1 after every step,
gates of homogeneous σ too.

Series are cut at a degree that suits the search; the caller refits and certifies what is found in the full geometry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from sparsemf.exceptions import InputError
from sparsemf.measures.gated import GatedAtoms
from sparsemf.recovery.gated_derivatives import (
    OWN,
    PARTS,
    GatedExpansion,
    GatedProducts,
    contracted,
    seen,
    slopes,
    unseen,
    values,
)
from sparsemf.recovery.refit import factorised

Array = NDArray[np.float64]

_ROWS = 128
"""Atoms of the dictionary at a time against all atoms of f."""
#: A gate shorter than this has no direction yet: it is given that of its factor.
_SHORTEST = 1e-3
_FARTHEST = 1e4


@dataclass(frozen=True, eq=False)
class GatedTarget:
    """f = Σ_i α_i φ_i by its expansion, and ‖f‖² over its degrees."""

    atoms: GatedExpansion
    alpha: Array
    energy: float

    @staticmethod
    def of(atoms: GatedAtoms, alpha: Array, degree: int, free: int) -> GatedTarget:
        """Computes ‖f‖² by row blocks."""
        expansion = GatedExpansion.of(atoms, degree, free)
        energy = 0.0
        for start in range(0, atoms.n, _ROWS):
            rows = slice(start, min(start + _ROWS, atoms.n))
            energy += float(np.sum(alpha[rows] * (values(expansion.rows(rows), expansion) @ alpha)))
        return GatedTarget(expansion, alpha, energy)


@dataclass(frozen=True, eq=False)
class _State:
    atoms: GatedAtoms
    expansion: GatedExpansion
    factor: Array
    beta: Array
    value: float


def _evaluate(atoms: GatedAtoms, target: GatedTarget) -> _State:
    expansion = GatedExpansion.of(atoms, target.atoms.degree, target.atoms.free)
    gram = values(expansion, expansion)
    image = values(expansion, target.atoms) @ target.alpha
    factor = factorised(gram)
    beta = linalg.cho_solve((factor, True), image, check_finite=False)
    # ‖f − Φβ‖² for this very β, whatever the ridge
    value = target.energy - 2.0 * float(np.sum(beta * image)) + float(np.sum(beta * (gram @ beta)))
    return _State(atoms, expansion, factor, beta, value)


def _gradient(state: _State, target: GatedTarget, own: Array) -> Array:
    """½ ∂F in (δg, δc, δh, δe), (S, 2d + 2): ⟨∂φ_s, f_S − f⟩ contracted with β_s."""
    expansion, beta = state.expansion, state.beta
    gradient = unseen(*contracted(beta @ beta.T, own), expansion, expansion)
    for start in range(0, state.atoms.n, _ROWS):
        rows = slice(start, min(start + _ROWS, state.atoms.n))
        part = expansion.rows(rows)
        forms = slopes(part, target.atoms)
        gradient[rows] -= unseen(*contracted(beta[rows] @ target.alpha.T, forms), part, target.atoms)
    return gradient


@dataclass(frozen=True, eq=False)
class _Normal:
    """The Gauss–Newton matrix at a state, as an operator on moves (S, 2d + 2); ``moving``: 1 for free coordinates."""

    expansion: GatedExpansion
    own: Array
    weight: Array
    inverse: Array
    products: GatedProducts
    moving: Array

    @staticmethod
    def of(state: _State, own: Array, moving: Array) -> _Normal:
        weight = state.beta @ state.beta.T
        inverse = linalg.cho_solve((state.factor, True), np.eye(state.atoms.n), check_finite=False)
        return _Normal(state.expansion, own, weight, inverse, GatedProducts.of(state.expansion, weight), moving)

    def apply(self, moves: Array) -> Array:
        own, others = seen(moves, self.expansion)
        out, out_others, direct = self.products.apply(moves, own, others)
        # Kaufman: what the span of the atoms takes up is theirs already
        image = np.einsum("fs,fst->st", own, self.own[:OWN]) + np.einsum("fst,fst->st", others, self.own[OWN:])
        taken, taken_others = contracted((self.weight @ image) @ self.inverse, self.own)
        found = unseen(out - taken, out_others - taken_others, self.expansion, self.expansion)
        return (found + direct) * self.moving

    @property
    def diagonal(self) -> Array:
        """About the diagonal, (S, 2d + 2): one number for all directions of δg and of δh, what the atoms take up of
        δc and δe left out."""
        n, d = self.expansion.gate.shape
        own_weight = np.diag(self.weight)

        def left(name: str) -> Array:
            part = PARTS.index(name)
            full, slope = np.diag(self.products.own[part, :, part]), self.own[part]
            explained = own_weight * np.einsum("su,su->s", slope @ self.inverse, slope)
            return np.maximum(full - explained, 1e-3 * full)

        out = np.empty((n, 2 * d + 2))
        out[:, :d] = np.diag(self.products.vectors[0])[:, None]
        out[:, d + 1 : -1] = np.diag(self.products.vectors[2])[:, None]
        out[:, d], out[:, -1] = left("c"), left("e")
        for columns in (slice(d), slice(d, d + 1), slice(d + 1, -1), slice(-1, None)):
            block = out[:, columns]
            np.maximum(block, 1e-9 * float(block.max(initial=0.0)) + 1e-200, out=block)
        return out


@dataclass(frozen=True, eq=False)
class GatedSettled:
    """The atoms found, F/‖f‖² before and after (cut series), the steps taken and the conjugate-gradient products."""

    atoms: GatedAtoms
    before: float
    after: float
    steps: int
    products: int


def settle_gated(
    atoms: GatedAtoms,
    target: GatedTarget,
    gate_bias: bool = True,
    bias: bool = True,
    steps: int = 10,
    inner: int = 10,
    tolerance: float = 1e-3,
) -> GatedSettled:
    """Locally better atoms from a start, by at most ``steps`` Gauss–Newton steps of ≤ ``inner`` products each.

    Every c (``gate_bias=False``) or e (``bias=False``) is kept.  Ends when a step improves F by less than ``tolerance``
    relative.
    """
    d = atoms.gate.shape[1]
    moving = np.ones(2 * d + 2)
    moving[d], moving[-1] = gate_bias, bias
    state = _evaluate(_directed(atoms), target)
    first = state.value
    damping, used, count = 1e-2, 0, 0
    while used < steps:
        own = slopes(state.expansion, state.expansion)
        gradient = _gradient(state, target, own) * moving
        normal = _Normal.of(state, own, moving)
        accepted, gain = None, 0.0
        for _ in range(4):
            step, done = _conjugate_gradients(normal, gradient, damping, inner)
            count += done
            candidate = _tried(_moved(state.atoms, step), target)
            if candidate is not None and candidate.value < state.value:
                predicted = -(float(np.sum(gradient * step)) + 0.5 * float(np.sum(normal.apply(step) * step))) * 2.0
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
    return GatedSettled(state.atoms, first / scale, state.value / scale, used, count)


def _directed(atoms: GatedAtoms) -> GatedAtoms:
    """Constant gates, which have no direction that a series could turn, slightly along their factors."""
    short = np.linalg.norm(atoms.gate, axis=1) < _SHORTEST
    if not short.any():
        return atoms
    length = np.maximum(np.linalg.norm(atoms.inner[short], axis=1), 1e-300)[:, None]
    gate = atoms.gate.copy()
    gate[short] = _SHORTEST * atoms.inner[short] / length
    return replace(atoms, gate=gate)


def _tried(atoms: GatedAtoms, target: GatedTarget) -> _State | None:
    """None where a step leaves the range of numbers, or a box: then it was too long."""
    if not max(float(np.max(np.abs(atoms.gate))), float(np.max(np.abs(atoms.gate_bias)))) < _FARTHEST:
        return None
    try:
        return _evaluate(atoms, target)
    except (InputError, ValueError):
        return None


def _moved(atoms: GatedAtoms, step: Array) -> GatedAtoms:
    """Atoms after a step, their factors (and homogeneous gates) brought to length 1."""
    d = atoms.gate.shape[1]
    gate, shift = atoms.gate + step[:, :d], atoms.gate_bias + step[:, d]
    inner, bias = atoms.inner + step[:, d + 1 : -1], atoms.bias + step[:, -1]
    size = np.maximum(np.hypot(np.linalg.norm(inner, axis=1), bias), 1e-300)
    inner, bias = inner / size[:, None], bias / size
    if atoms.activation.homogeneous:
        size = np.maximum(np.hypot(np.linalg.norm(gate, axis=1), shift), 1e-300)
        gate, shift = gate / size[:, None], shift / size
    return GatedAtoms(atoms.activation, gate, shift, inner, bias)


def _conjugate_gradients(normal: _Normal, gradient: Array, damping: float, most: int) -> tuple[Array, int]:
    """(H + damping·D) step = −gradient, D the diagonal; stops at a residual of 5 % or after ``most`` products."""
    diagonal = normal.diagonal
    inverse = 1.0 / ((1.0 + damping) * diagonal)
    residual, step = -gradient, np.zeros_like(gradient)
    z = residual * inverse
    direction, size = z, float(np.sum(residual * z))
    start, done = size, 0
    while done < most and size > 2.5e-3 * start:
        image = normal.apply(direction) + damping * diagonal * direction
        done += 1
        curvature = float(np.sum(direction * image))
        if curvature <= 0:
            break
        length = size / curvature
        step, residual = step + length * direction, residual - length * image
        z = residual * inverse
        previous, size = size, float(np.sum(residual * z))
        direction = z + (size / previous) * direction
    return step, done
