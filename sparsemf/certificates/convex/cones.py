"""sup ‖η‖ on the sphere for a piecewise-linear homogeneous σ on data: branch and bound over simplicial cones.

With σ(z) = κ·relu(z) − ν·z the dual function is η(u) = Σ_i c_i relu(⟨x_i, u⟩) + G u, c_i = κ r_i/n ∈ R^m.  It is
linear on every cell of the arrangement {⟨x_i, u⟩ = 0}.

*Bound on a cone* {Σ_k t_k v_k, t ≥ 0}.  Let s_i ∈ {0, 1} be the signs at its centre and e_i(u) = relu(z_i) − s_i z_i,
which is convex, ≥ 0, positively homogeneous, and 0 for rows that do not change sign on the cone.  Then η = L + Σ c_i
e_i with L(u) = Σ c_i s_i z_i + G u linear, and

    one output:  ±η(u) ≤ ±L(u) + Σ_{±c_i > 0} |c_i| e_i(u),      several:  ‖η(u)‖ ≤ ‖L(u)‖ + Σ ‖c_i‖ e_i(u).

The right-hand sides are convex and positively homogeneous, so at u = Σ t_k v_k they are at most Σ t_k q_k with q_k
their value at v_k; and by duality max {Σ t_k q_k : |Σ t_k v_k| ≤ 1, t ≥ 0} ≤ |w| for *every* w with ⟨v_k, w⟩ ≥ q_k.
Inside a single cell (one output) the best w gives the exact maximum, so the search ends after finitely many cones.

*No gaps.*  The first cones are the 2^D orthants; a cone is cut at the middle of its longest edge, and the vertices stay
on |u|₁ = 1 with dyadic coordinates, which float64 holds exactly for 50 cuts of one edge: the cones cover the sphere.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.convex.observation import UNIT
from sparsemf.certificates.convex.supremum import Record, Supremum

Array = NDArray[np.float64]

_BATCH_ENTRIES = 3_000_000
_SWEEPS = 12
_FINEST = 2.0**-48


@dataclass(frozen=True, eq=False)
class PiecewiseLinearDual:
    """η(u) = Σ_i c_i relu(⟨x_i, u⟩) + G u: ``rows`` (n, D), ``jumps`` c (n, m), ``linear`` G (m, D)."""

    rows: Array
    jumps: Array
    linear: Array

    @property
    def dim(self) -> int:
        """D."""
        return self.rows.shape[1]

    def __call__(self, u: Array) -> Array:
        """η, (k, m)."""
        return np.maximum(u @ self.rows.T, 0.0) @ self.jumps + u @ self.linear.T

    def slope(self, u: Array) -> Array:
        """Dη, (k, m, D): the linear map of the cell of u (rows with z = 0 count as inactive)."""
        active = (u @ self.rows.T > 0).astype(np.float64)
        out = np.empty((u.shape[0], self.jumps.shape[1], self.dim))
        for o in range(out.shape[1]):
            out[:, o] = active @ (self.jumps[:, o, None] * self.rows) + self.linear[o]
        return out

    def rounding(self) -> float:
        """Bound of the rounding of every q_k per unit of |v_k|: γ_{n+2D+16} of the absolute terms, for η, L and e."""
        n, dim = self.rows.shape
        size = float(np.linalg.norm(self.jumps, axis=1) @ np.linalg.norm(self.rows, axis=1))
        size += float(np.linalg.norm(self.linear))
        return 3 * (n + 2 * dim + 16) * UNIT * size


def ascend(dual: PiecewiseLinearDual, start: Array, rounds: int = 40) -> tuple[Array, Array]:
    """Local maxima of ‖η‖ from each row of ``start``: u ← (u + τ·∇‖η‖)/|·| with τ halved on failure; (u, ‖η(u)‖)."""
    u = start / np.linalg.norm(start, axis=1, keepdims=True)
    value = np.linalg.norm(dual(u), axis=1)
    rate = np.full(u.shape[0], 4.0)
    for _ in range(rounds):
        eta = dual(u)
        size = np.maximum(np.linalg.norm(eta, axis=1, keepdims=True), 1e-300)
        pull = np.einsum("km,kmd->kd", eta / size, dual.slope(u))
        step = u + rate[:, None] * pull / np.maximum(np.linalg.norm(pull, axis=1, keepdims=True), 1e-300)
        step /= np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-300)
        new = np.linalg.norm(dual(step), axis=1)
        better = new > value
        u = np.where(better[:, None], step, u)
        value = np.where(better, new, value)
        rate = np.where(better, rate * 1.5, rate * 0.4)
    return u, value


def sup_on_sphere(
    dual: PiecewiseLinearDual,
    start: Array,
    tolerance: float,
    budget: int,
    target: float = 0.0,
    excluded: tuple[Array, float] | None = None,
) -> Supremum:
    """Bounds of sup ‖η‖ on the unit sphere; ends when upper ≤ max(lower, target)·(1 + tolerance) or at ``budget``
    cones.

    ``start`` (k, D): points with which the lower bound begins.  ``excluded`` = (centres (j, D) on the sphere, ρ): caps
    {⟨c, u⟩ ≥ cos ρ|u|} that are left out (a cone whose vertices all lie in one such convex cap is dropped).
    """
    vertices: Array = np.array([np.diag(signs) for signs in product((1.0, -1.0), repeat=dual.dim)])
    best: float = 0.0
    where: Array | None = None
    if start.shape[0]:
        u = start / np.linalg.norm(start, axis=1, keepdims=True)
        size = np.where(_inside(u, excluded).any(axis=1), -1.0, np.linalg.norm(dual(u), axis=1))
        if np.max(size) > 0:
            best, where = float(np.max(size)), u[int(np.argmax(size))]
    slack = dual.rounding()
    record = Record(vertices.shape[0])
    names: NDArray[np.int32] = np.arange(vertices.shape[0], dtype=np.int32)
    open_cones: Array = np.empty((0, dual.dim, dual.dim))
    open_bounds: Array = np.empty(0)
    open_names: NDArray[np.int32] = names[:0]
    closed: float = 0.0
    examined = 0
    batch = max(16, _BATCH_ENTRIES // (dual.rows.shape[0] * dual.dim))
    while True:
        for begin in range(0, vertices.shape[0], batch):
            part, called = vertices[begin : begin + batch], names[begin : begin + batch]
            if excluded is not None:
                unit = part / np.linalg.norm(part, axis=2, keepdims=True)
                inside = _inside(unit.reshape(-1, dual.dim), excluded).reshape(*unit.shape[:2], -1)
                outer = ~np.any(np.all(inside, axis=1), axis=1)
                part, called = part[outer], called[outer]
            if not part.shape[0]:
                continue
            examined += part.shape[0]
            bound, point, value = _bound(dual, part)
            bound = bound * (1 + 1e-11) + slack
            outside = ~_inside(point, excluded).any(axis=1)
            if outside.any() and np.max(value[outside]) > best:
                top = int(np.argmax(np.where(outside, value, -1.0)))
                best, where = float(value[top]), point[top]
            keep = bound > max(best, target) * (1 + tolerance)
            closed = max(closed, float(np.max(bound[~keep], initial=0.0)))
            open_cones = np.concatenate([open_cones, part[keep]])
            open_bounds = np.concatenate([open_bounds, bound[keep]])
            open_names = np.concatenate([open_names, called[keep]])
        still = open_bounds > max(best, target) * (1 + tolerance)
        closed = max(closed, float(np.max(open_bounds[~still], initial=0.0)))
        open_cones, open_bounds, open_names = open_cones[still], open_bounds[still], open_names[still]
        if not open_bounds.size or examined >= budget:
            break
        order = np.argsort(-open_bounds, kind="stable")
        chosen, rest = order[:batch], order[batch:]
        edge = _longest(open_cones[chosen])
        if np.min(edge[2]) < _FINEST:
            break
        vertices, names = _bisect(open_cones[chosen], edge[0], edge[1]), record.cut(open_names[chosen])
        open_cones, open_bounds, open_names = open_cones[rest], open_bounds[rest], open_names[rest]
    upper = max(closed, float(np.max(open_bounds, initial=0.0)), best)
    done = "finished" if not open_bounds.size else "stopped at its budget"
    how = (
        f"sup over the unit sphere of R^{dual.dim} by branch and bound over simplicial cones with convex upper bounds "
        f"of the piecewise-linear dual function ({done} after {examined} cones); float64 with a-priori rounding bounds"
    )
    return Supremum(best, upper, how, examined, slack, where, record.tree())


def _inside(u: Array, excluded: tuple[Array, float] | None) -> NDArray[np.bool_]:
    """Which unit vectors lie in which cap, (k, j); shrunk by rounding."""
    if excluded is None:
        return np.zeros((u.shape[0], 1), dtype=bool)
    centres, angle = excluded
    return u @ centres.T >= np.cos(angle) + 1e-12


def _bound(dual: PiecewiseLinearDual, vertices: Array) -> tuple[Array, Array, Array]:
    """(upper bounds, a unit point of each cone, ‖η‖ there)."""
    count, dim, _ = vertices.shape
    z = (vertices.reshape(-1, dim) @ dual.rows.T).reshape(count, dim, -1)
    centre = vertices.mean(axis=1)
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    sign = (centre @ dual.rows.T > 0).astype(np.float64)
    # relu(z) − s z = max(z(1 − s), −z s)
    excess = np.maximum(z * (1 - sign[:, None, :]), -z * sign[:, None, :])
    free = vertices @ dual.linear.T
    inner = (z * sign[:, None, :]) @ dual.jumps + free
    if dual.jumps.shape[1] == 1:
        up, down = np.maximum(dual.jumps[:, 0], 0.0), np.maximum(-dual.jumps[:, 0], 0.0)
        sides = np.stack([inner[:, :, 0] + excess @ up, -inner[:, :, 0] + excess @ down])
        bound = np.maximum(_cone_maximum(vertices, centre, sides[0]), _cone_maximum(vertices, centre, sides[1]))
    else:
        q = np.linalg.norm(inner, axis=2) + excess @ np.linalg.norm(dual.jumps, axis=1)
        bound = _cone_maximum(vertices, centre, q)
    at = np.maximum(centre @ dual.rows.T, 0.0) @ dual.jumps + centre @ dual.linear.T
    return bound, centre, np.linalg.norm(at, axis=1)


def _cone_maximum(vertices: Array, centre: Array, q: Array) -> Array:
    """An upper bound of max {Σ t_k q_k : |Σ t_k v_k| ≤ 1, t ≥ 0} for each cone: min |w| over feasible candidates.

    Coordinate ascent on t ↦ Σ t q − ½|Σ t v|² gives w = Σ t v; it is lifted along the centre until ⟨v_k, w⟩ ≥ q_k.
    """
    gram = np.einsum("bkd,bld->bkl", vertices, vertices)
    dim = q.shape[1]
    t = np.zeros_like(q)
    for _ in range(_SWEEPS):
        for k in range(dim):
            pull = q[:, k] - np.einsum("bl,bl->b", gram[:, k], t)
            t[:, k] = np.maximum(t[:, k] + pull / gram[:, k, k], 0.0)
    height = np.einsum("bkd,bd->bk", vertices, centre)
    best = np.full(q.shape[0], np.inf)
    flat = np.linalg.solve(vertices, q[:, :, None])[:, :, 0]
    for w in (np.einsum("bk,bkd->bd", t, vertices), np.where(np.isfinite(flat), flat, 0.0)):
        short = q - np.einsum("bkd,bd->bk", vertices, w)
        # the lift also pays for the rounding of this very test
        lift = np.max((short + 8 * dim * UNIT * (np.abs(q) + np.linalg.norm(w, axis=1)[:, None])) / height, axis=1)
        lifted = w + np.maximum(lift, 0.0)[:, None] * centre
        best = np.minimum(best, np.linalg.norm(lifted, axis=1))
    return np.where(np.max(q, axis=1) <= 0, 0.0, best)


def _longest(cones: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """The longest edge of each cone: its two vertices and its length."""
    dim = cones.shape[1]
    if dim == 1:
        nothing = np.zeros(cones.shape[0], dtype=np.intp)
        return nothing, nothing, np.zeros(cones.shape[0])
    i, j = np.triu_indices(dim, 1)
    difference = cones[:, i] - cones[:, j]
    square = np.square(difference[:, :, 0])
    for k in range(1, dim):  # one rounded operation after the other: the checker's tie-breaks on every machine
        square = square + np.square(difference[:, :, k])
    edge = np.argmax(square, axis=1)
    return i[edge], j[edge], np.sqrt(square[np.arange(len(edge)), edge])


def _bisect(cones: Array, first: NDArray[np.intp], second: NDArray[np.intp]) -> Array:
    """Both halves of each cone."""
    rows = np.arange(cones.shape[0])
    middle = 0.5 * (cones[rows, first] + cones[rows, second])
    left, right = cones.copy(), cones.copy()
    left[rows, first] = middle
    right[rows, second] = middle
    return np.concatenate([left, right])
