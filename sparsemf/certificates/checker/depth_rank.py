"""Local identifiability at a point: is JΨ_D of full rank modulo the orbits?  In ball arithmetic, on raw coordinates.

Columns of the tensor √k!·T_k, read as the coefficients of monomials x^γ, |γ| = k (rows scaled by multinomials, which
changes no rank), for the atom i = (α, w, b), with G as in :mod:`depth_moments`:

    ∂/∂α_j:  G_k w^γ            (in output j)
    ∂/∂w_e:  α (γ_e G_k w^{γ − e} + w_e G_{k+2} w^γ)          since ∂t/∂w_e = 2w_e and ∂_t G_k = ½G_{k+2}
    ∂/∂b:    α G_{k+1} w^γ

One column an atom is left out per dimension of its orbit: the orbit's tangent has a non-zero entry there (w_e of the
largest |w_e| for scaling, b for e^b), so it lies in the kernel and the other columns span the same space.  Full column
rank of what is left is then ``rank = target``.

Two ways to show it:

- *matrix*: a square submatrix is invertible (flint's ball LU; the rows may be chosen anyhow);
- *structure*, for S ≤ d linearly independent w_i and any size: if c_k(θ_i) ≠ 0 for all i at some degree k ≥ 3 of K and
  the **scale matrix** of each atom, rows l ∈ K, l ≥ 1: (G_l, lG_l + t G_{l+2}, G_{l+1}) less the gauge's column, has
  full column rank, then JΨ_D has.  *Proof.*  In coordinates y_i = ⟨w_i, x⟩ (completed to a basis), a kernel vector
  gives at degree k: Σ_i y_i^{k−1}(μ_i y_i + α_i c_i v_i(x)) = 0 for each output, v_i ⟂ w_i the turn of w_i.  For k ≥ 3
  the monomials y_i^k, y_i^{k−1}y_j, y_i^{k−1}z are distinct for all i and j ≠ i; with v_i = Σ_j v_ij y_j + …, only
  y_i^{k−1}y_j with j ≠ i (and z) sees v_i off the line of y_i, and v_i, orthogonal to w_i, is zero if it is on that
  line.  So no atom turns, and at every degree l ≥ 1 of K, since the w_i^{⊗l} are independent,
  δα_i G_l + α_i(…) = 0: an atom's (δα, δr, δb) is in the kernel of α ⊗ (scale matrix) and δα ∥ α (α ≠ 0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations_with_replacement

import numpy as np
from flint import arb, arb_mat
from numpy.typing import NDArray

from sparsemf.certificates.checker.depth_moments import moments
from sparsemf.certificates.checker.depth_shape import Shape, symmetric
from sparsemf.certificates.checker.document import Refused

Array = NDArray[np.float64]

MOST_COLUMNS = 160
MOST_ENTRIES = 2_000_000
"""Larger matrices are not formed."""


def belong(shape: Shape, alpha: Array, w: Array, b: Array) -> None:
    """Raises :class:`Refused` where these are no atoms of the family."""
    n = shape.atoms
    if alpha.shape != (n, shape.m) or w.shape != (n, shape.d) or b.shape != (n,) or (not shape.bias and b.any()):
        raise Refused("the atoms are not of the stated shape")
    if not (alpha.any(axis=1).all() and w.any(axis=1).all()):
        raise Refused("an atom without coefficient or direction")


@dataclass(frozen=True, eq=False)
class Atoms:
    """α (S, m), w (S, d), b (S,) of a shape, their lengths r in balls, and G_0 … G_degree of each."""

    shape: Shape
    alpha: Array
    w: Array
    b: Array
    length: list[arb]
    table: list[list[arb]]

    @staticmethod
    def of(shape: Shape, alpha: Array, w: Array, b: Array, degree: int) -> Atoms:
        """With G up to ``degree``; raises :class:`Refused` where arrays do not fit or G is not known."""
        belong(shape, alpha, w, b)
        length = [sum((arb(x) ** 2 for x in row), arb(0)).sqrt() for row in w.tolist()]
        # homogeneous atoms are read on the section ‖w‖ = 1, which changes no rank and no direction
        table = [moments(shape.activation, r, arb(x), degree) for r, x in zip(length, b.tolist(), strict=True)]
        return Atoms(shape, alpha, w, b, length, table)


def invertible_columns(rows: Sequence[Sequence[arb]], columns: int) -> bool:
    """Whether a matrix of balls is certainly of full column rank."""
    if columns == 0:
        return True
    if len(rows) < columns:
        return False
    middle = np.array([[float(x.mid()) for x in row] for row in rows])
    chosen = pivots(middle)
    if chosen is None:
        return False
    scale = [_unit(middle[i]) for i in chosen]
    square = arb_mat([[x * s for x in rows[i]] for i, s in zip(chosen, scale, strict=True)])
    try:
        square.inv()
    except ZeroDivisionError:
        return False
    return True


def _unit(row: Array) -> float:
    return 2.0 ** -math.frexp(float(np.max(np.abs(row))))[1]


def pivots(matrix: Array) -> list[int] | None:
    """Rows of a well-conditioned square part, by elimination with row pivoting on scaled rows; None where there is
    none, or the numbers are beyond the floats."""
    if not np.isfinite(matrix).all():
        return None
    size = np.max(np.abs(matrix), axis=1, keepdims=True)
    size[size == 0] = 1.0
    work = matrix / size
    scale = np.max(np.abs(work), axis=0)
    work = work / np.where(scale > 0, scale, 1.0)
    chosen: list[int] = []
    free = np.ones(len(work), dtype=bool)
    for j in range(matrix.shape[1]):
        column = np.where(free, np.abs(work[:, j]), -1.0)
        i = int(np.argmax(column))
        if not column[i] > 0:
            return None
        chosen.append(i)
        free[i] = False
        work = work - np.outer(work[:, j] / work[i, j], work[i])
    return chosen


def powers_independent(w: Array, k: int) -> bool:
    """Whether the w_i^{⊗k} are certainly linearly independent (k = 0: for one atom)."""
    n, d = w.shape
    if k == 0 or n == 1:
        return n == 1
    if symmetric(d, k) < n or n * symmetric(d, k) > MOST_ENTRIES:
        # more powers keep independence: x^{⊗k} ⊗ x^{⊗j} = x^{⊗(k+j)} contracts to x^{⊗k} times a number ≠ 0
        return k > 1 and symmetric(d, k) >= n and powers_independent(w, k - 1)
    unit = w / np.max(np.abs(w), axis=1, keepdims=True)
    exponents = list(combinations_with_replacement(range(d), k))
    middle = reduce(np.multiply, (unit[:, e] for e in np.array(exponents).T)).T
    chosen = pivots(middle)
    if chosen is None:
        return False
    balls = [[arb(x) / arb(s) for x in row] for row, s in zip(w.tolist(), np.max(np.abs(w), axis=1), strict=True)]
    return invertible_columns([[_product(balls[i], exponents[e]) for i in range(n)] for e in chosen], n)


def _product(values: Sequence[arb], which: Sequence[int]) -> arb:
    out = arb(1)
    for e in which:
        out = out * values[e]
    return out


def scale_matrix(atoms: Atoms, i: int, degrees: Sequence[int]) -> list[list[arb]]:
    """See the module's docstring."""
    return scale_rows(atoms.shape, atoms.table[i], atoms.length[i], degrees)


def scale_rows(shape: Shape, g: Sequence[arb], r: arb, degrees: Sequence[int]) -> list[list[arb]]:
    """The scale matrix of one atom of length r with G = ``g``."""
    t, rows = r**2, []
    for k in degrees:
        row = [g[k]]
        if not shape.homogeneous:
            row.append(k * g[k] + t * g[k + 2])
        if shape.bias and not (shape.form.translation and not shape.homogeneous):
            row.append(g[k + 1])
        rows.append(row)
    return rows


def full_by_structure(atoms: Atoms, depth: int) -> bool:
    """The second way."""
    shape = atoms.shape
    known = [k for k in shape.degrees(depth) if k >= 1]
    if shape.atoms > shape.d or not powers_independent(atoms.w, 1):
        return False
    if not any(k >= 3 and all(g[k] != 0 for g in atoms.table) for k in known):
        return False
    width = 1 + shape.unknowns - shape.m
    return all(invertible_columns(scale_matrix(atoms, i, known), width) for i in range(shape.atoms))


def full_by_matrix(atoms: Atoms, depth: int) -> bool:
    """The first way."""
    shape = atoms.shape
    known = shape.degrees(depth)
    count = sum(symmetric(shape.d, k) for k in known) * shape.m
    columns = shape.target
    if columns > MOST_COLUMNS or columns > count or count * columns > MOST_ENTRIES:
        return False
    labels = [(k, g) for k in known for g in combinations_with_replacement(range(shape.d), k)]
    per_label = [_row(atoms, k, g, float) for k, g in labels]
    stacked = np.stack([row for rows in per_label for row in rows])
    chosen = pivots(stacked)
    if chosen is None:
        return False
    cache: dict[int, list[list[arb]]] = {}
    rows = []
    for index in chosen:
        label, output = divmod(index, shape.m)
        if label not in cache:
            cache[label] = [list(row) for row in _row(atoms, *labels[label], None)]
        rows.append(cache[label][output])
    return invertible_columns(rows, columns)


def full_rank(atoms: Atoms, depth: int) -> str | None:
    """Which way shows that atoms are locally identified at this depth, None where none does."""
    if full_by_structure(atoms, depth):
        return "structure"
    return "matrix" if full_by_matrix(atoms, depth) else None


def _row(atoms: Atoms, k: int, which: Sequence[int], kind: type[float] | None) -> list[list]:
    """The m rows of one monomial, as floats or balls."""
    shape = atoms.shape
    number = (lambda x: float(x.mid())) if kind is float else (lambda x: x)
    exact = (lambda x: x) if kind is float else arb
    out: list[list] = [[] for _ in range(shape.m)]
    for i in range(shape.atoms):
        w = [exact(x) for x in atoms.w[i].tolist()]
        g = atoms.table[i]
        value, steep, bent = number(g[k]), number(g[k + 2]), number(g[k + 1])
        whole = exact(1.0)
        for e in which:
            whole = whole * w[e]
        left_out = int(np.argmax(np.abs(atoms.w[i]))) if shape.homogeneous else -1
        common = []
        for e in range(shape.d):
            if e == left_out:
                continue
            times = list(which).count(e)
            entry = w[e] * steep * whole
            if times:
                part = list(which)
                part.remove(e)
                rest = exact(1.0)
                for j in part:
                    rest = rest * w[j]
                entry = entry + times * value * rest
            common.append(entry)
        if shape.bias and not (shape.form.translation and not shape.homogeneous):
            common.append(bent * whole)
        for j in range(shape.m):
            out[j].extend(value * whole if j == own else exact(0.0) for own in range(shape.m))
            a = exact(float(atoms.alpha[i, j]))
            out[j].extend(a * x for x in common)
    return out
