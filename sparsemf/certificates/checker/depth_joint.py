"""Atoms from tensors of several degrees at once: uniqueness of a stacked decomposition.

*Data.*  Points v_i ∈ R^n, coefficients u_i ∈ R^m and numbers g_{k,i}, i ≤ S.  Known are the tensors Σ_i u_i ⊗
g_{k,i} v_i^{⊗k} for k in some set.  For p ≥ 1 those with k ≥ p are stacked as one matrix Z = Σ_i z_i ⊗ y_i:

    y_i = v_i^{⊗p},         z_i = (u_i ⊗ g_{k,i} v_i^{⊗(k−p)})_{k ≥ p}     (coefficients in the rows), or
    y_i = u_i ⊗ v_i^{⊗p},   z_i = (g_{k,i} v_i^{⊗(k−p)})_{k ≥ p}           (in the columns).

*Claim.*  Let the z_i be independent, the y_i, too, and let one of the two hold, for combinations Y = Σ λ_i y_i that
are themselves of the form u ⊗ x^{⊗p} (x of the family of points):

(R)  such a Y has only one λ_i ≠ 0;
(R′) there is, up to a factor, at most one such Y with more; its x is parallel to no v_i; and each atom has some
     g_{k,i} ≠ 0 with k > p.

Then every other sum Z = Σ_j z′_j ⊗ y′_j of at most S terms of this form - any points, coefficients and numbers -
has S of them and, renumbered, y′_i = t_i y_i, z′_i = z_i/t_i with t_i ≠ 0.

*Proof.*  rank Z = S, so there are S terms, independent z′ and y′, and both lists y, y′ span the row space: each
y′_j is a combination as above.  Under (R) it is a multiple of some y_i, each i once.  Under (R′) the only other
case is that one of them is Y = Σ λ_i y_i and the others are multiples of all y_i but one, i = h say; λ_h ≠ 0 since
the y′ are independent.  The coefficient of y_h in both sums: z_h = λ_h z′.  In the degree k of (R′) for h the left
side is v_h^{⊗(k−p)} times something ≠ 0, the right side x^{⊗(k−p)} times something: x ∥ v_h, which (R′) excludes.
∎

Nothing is asked of the other sum but the number of its terms.  It follows that v′_i ∥ v_i, and for each known k ≥ p
that u′_i g′_{k,i} v′_i^{⊗k} = u_i g_{k,i} v_i^{⊗k}, since z′_i ⊗ y′_i = z_i ⊗ y_i.

*How (R) and (R′) are shown.*  A quadratic form q on the span of all y that vanishes on those of the form u ⊗ x^{⊗p}
gives 0 = q(Y) = 2Σ_{i<j} λ_iλ_j q(y_i, y_j).  Such forms: the 2 × 2 minors of Y cut into two factors, y = s ⊗ t
with s = v, t = u ⊗ v^{⊗(p−1)}, or s = u, t = v^{⊗p}; and for points (1, x) of which the family knows ‖x‖ = 1, the
form Σ_e Y_eY_e − Y₀Y₀ in one index of v.  Where the vectors (q(y_i, y_j))_q, one for each pair i < j, are
independent, all λ_iλ_j vanish: (R).  Where they are so without one pair (i, j), the products are a multiple of one
computed vector n with n_ij = 1: all 0, or, if n_ik and n_jk are not 0 for some k, λ is determined up to a factor,
λ_i/λ_j = n_ik/n_jk and λ_l/λ_j = n_il for the others.  That leaves at most one Y, and its x is a contraction of it:
(R′).

All conditions are open: they hold in balls, so for all atoms near the given ones.  Tensors are evaluated at whole
vectors; a bad choice of them proves less, never more.

Sources: the matrix pencil of Leurgans, Ross & Abel (1993); products of pairs: Jiang & Sidiropoulos, IEEE Trans.
Signal Process. 52 (2004), De Lathauwer, SIAM J. Matrix Anal. Appl. 28 (2006); apolar forms and their common zeros:
Oeding & Ottaviani, J. Symb. Comput. 54 (2013).  (R) for a plane conic and a cubic is Roberts' theorem (1889); (R′)
is the case of eight points common to three quadrics, nine common to two cubics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from flint import arb, arb_mat

from sparsemf.certificates.checker.depth_rank import invertible_columns, pivots
from sparsemf.certificates.checker.depth_shape import symmetric

Balls = list[arb]

MOST_PAIRS = 160
_SPARE = 6


@dataclass(frozen=True, eq=False)
class Points:
    """``v`` (S, n), ``u`` (S, m), and for each known degree k the numbers g_{k,i} (S,).  ``unit``: the points of
    the family are (1, x) with ‖x‖ = 1."""

    v: list[Balls]
    u: list[Balls]
    known: dict[int, Balls]
    unit: bool = False


def _dots(rows: Sequence[Balls], with_: Sequence[int]) -> Balls:
    return [sum((x * c for x, c in zip(row, with_, strict=True) if c), arb(0)) for row in rows]


def _times(x: Balls, y: Balls) -> Balls:
    return [a * b for a, b in zip(x, y, strict=True)]


class _Sampler:
    """Values of the tensors of all atoms at whole vectors."""

    def __init__(self, points: Points) -> None:
        self.points, self.ones, self._state = points, [arb(1)] * len(points.v), 20_011

    def _vector(self, size: int) -> list[int]:
        """A whole vector ≠ 0 in general position, of a sequence that is the same in each run."""
        out: list[int] = []
        while not any(out):
            out = []
            for _ in range(size):
                self._state = (1103515245 * self._state + 12345) % 2**31
                out.append((self._state >> 12) % 19 - 9)
        return out

    def v(self) -> Balls:
        """⟨v_i, η⟩ of a new η."""
        return _dots(self.points.v, self._vector(len(self.points.v[0])))

    def u(self) -> Balls:
        """⟨u_i, γ⟩ of a new γ."""
        return _dots(self.points.u, self._vector(len(self.points.u[0])))

    def tensor(self, power: int, with_u: bool) -> Balls:
        """⟨v_i, η⟩^power (⟨u_i, γ⟩)."""
        out = self.u() if with_u else self.ones
        at = self.v() if power else self.ones
        for _ in range(power):
            out = _times(out, at)
        return out

    def minor(self, one: Callable[[], Balls], other: Callable[[], Balls], pairs: list[tuple[int, int]]) -> Balls:
        """⟨s_i ∧ s_j, a ∧ b⟩⟨t_i ∧ t_j, c ∧ e⟩ for all pairs."""
        a, b, c, e = one(), one(), other(), other()
        return [(a[i] * b[j] - b[i] * a[j]) * (c[i] * e[j] - e[i] * c[j]) for i, j in pairs]


def independent(v: Sequence[Balls], u: Sequence[Balls], power: int) -> bool:
    """Whether the u_i ⊗ v_i^{⊗power} are certainly independent (power 0: the u_i)."""
    n = len(v)
    if n == 1:
        return True
    if min(n, len(u[0])) * symmetric(len(v[0]), power) < n:
        return False
    sampler = _Sampler(Points(list(v), list(u), {}))
    return invertible_columns([sampler.tensor(power, True) for _ in range(n + _SPARE)], n)


def apart(points: Points, most: int) -> tuple[int, bool] | None:
    """(p, whether the coefficients are in the columns) for which the claim is shown, p ≤ ``most``; else None."""
    many = len(points.u[0]) > 1
    for p in range(1, most + 1):
        for columns in (False, True)[: 1 + many]:
            if _holds(points, p, columns):
                return p, columns
    return None


def _holds(points: Points, p: int, columns: bool) -> bool:
    n, size, m = len(points.v), len(points.v[0]), len(points.u[0])
    known = {k: g for k, g in points.known.items() if k >= p}
    across = m if columns else 1
    if n * (n - 1) // 2 > MOST_PAIRS or across * symmetric(size, p) < n or (p == 1 and not columns and not points.unit):
        return False
    along = {k: (1 if columns else m) * symmetric(size, k - p) for k in known}
    if sum(along.values()) < n:
        return False
    sampler = _Sampler(points)
    z = [
        _times(sampler.tensor(k - p, not columns), g)
        for k, g in known.items()
        for _ in range(min(along[k], n) + (_SPARE if along[k] > 1 else 0))
    ]
    if not invertible_columns(z, n):
        return False
    if not invertible_columns([sampler.tensor(p, columns) for _ in range(n + _SPARE)], n):
        return False
    pairs = list(combinations(range(n), 2))
    forms = _forms(sampler, p, columns, pairs)
    if not pairs or invertible_columns(forms, len(pairs)):
        return True
    further = all(any(k > p and g[i] != 0 for k, g in known.items()) for i in range(n))
    return further and _one_other(sampler, forms, pairs, p, columns)


def _forms(sampler: _Sampler, p: int, columns: bool, pairs: list[tuple[int, int]]) -> list[Balls]:
    """Values of quadratic forms at all pairs (see the module's docstring)."""
    count, out = len(pairs) + _SPARE, []
    if columns:
        out += [sampler.minor(sampler.u, lambda: sampler.tensor(p, False), pairs) for _ in range(count)]
    if p > 1:
        out += [sampler.minor(sampler.v, lambda: sampler.tensor(p - 1, columns), pairs) for _ in range(count)]
    if sampler.points.unit:
        v = sampler.points.v
        product = [sum((x * y for x, y in zip(v[i][1:], v[j][1:], strict=True)), -v[i][0] * v[j][0]) for i, j in pairs]
        for _ in range(count if p > 1 or columns else 1):
            c, e = sampler.tensor(p - 1, columns), sampler.tensor(p - 1, columns)
            out.append([q * (c[i] * e[j] + e[i] * c[j]) for q, (i, j) in zip(product, pairs, strict=True)])
    return out


def _one_other(sampler: _Sampler, forms: list[Balls], pairs: list[tuple[int, int]], p: int, columns: bool) -> bool:
    """(R′), but for its last condition."""
    middle = np.array([[float(x.mid()) for x in row] for row in forms])
    if len(pairs) < 3 or not np.isfinite(middle).all():  # no third atom; beyond the floats
        return False
    size = np.max(np.abs(middle), axis=1, keepdims=True)
    null = np.linalg.svd(middle / np.where(size > 0, size, 1.0))[2][-1]
    left_out = int(np.argmax(np.abs(null)))
    rest = [j for j in range(len(pairs)) if j != left_out]
    chosen = pivots(middle[:, rest])
    if chosen is None:
        return False
    square = arb_mat([[forms[r][j] for j in rest] for r in chosen])
    try:
        found = square.solve(arb_mat([[-forms[r][left_out]] for r in chosen]))
    except ZeroDivisionError:
        return False
    n = {pairs[left_out]: arb(1)} | {pairs[j]: found[row, 0] for row, j in enumerate(rest)}

    def product(i: int, j: int) -> arb:
        return n[min(i, j), max(i, j)]

    one, other = pairs[left_out]
    third = [k for k in range(len(sampler.points.v)) if k not in (one, other)]
    third = [k for k in third if product(one, k) != 0 and product(other, k) != 0]
    if not third:
        return False
    k = third[0]
    # λ_other = 1
    weight = [product(one, j) if j not in (one, other) else arb(1) for j in range(len(sampler.points.v))]
    weight[one] = product(one, k) / product(other, k)
    weight = _times(weight, sampler.tensor(p - 1, columns))
    v = sampler.points.v
    x = [sum((c * row[e] for c, row in zip(weight, v, strict=True)), arb(0)) for e in range(len(v[0]))]
    places = list(combinations(range(len(x)), 2))
    return all(any(x[e] * row[f] - x[f] * row[e] != 0 for e, f in places) for row in v)
