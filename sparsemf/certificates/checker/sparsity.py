"""Claims of sparsity: S*(ε) ∈ [lower, upper] for every ε in the stated interval, and the lower curve L(S).

Upper end: an explicit network of ``upper`` atoms within ε, bounded like any distance.  Lower end: no network of
``lower`` − 1 atoms (polynomials up to :func:`free_degree` free) comes within ε, by the verified tails of
:mod:`flattening` or :mod:`gated_flattening`, or of :mod:`kink_matrices` for one-kink atoms beside affine functions;
which flattenings and matrices serve is chosen by the evidence, the best of all valid choices counts.  On data rows the
bounds are those of :mod:`polynomials`.  Documents have
four schemas: of plain networks beside affine functions; of gated blocks, whose dictionaries have gates and a quadratic
part; of plain networks beside quadratic polynomials, with such a part; of networks of either kind whose linear (and
quadratic) part (``free`` = 0 in the claim), or the constant too (−1), is charged to the atoms: there the dictionary has
none, a constant neuron counts, and the tensors from degree ``free`` + 1 on take part, T_1 and T_0 with what A and c of
f_A add to them.

One *atom* is α·σ(⟨w, x⟩ + b), whatever σ is and whatever cores it is written in: all of them have direction ŵ and the
coefficient α, so its tensors are c_k α ŵ^{⊗k} and it has rank 1 in every flattening.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import equivalence, gated_flattening, grouped, kink_matrices, polynomials, series
from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.catalogue import CORES, ORDER, image
from sparsemf.certificates.checker.document import LAWS, TINY, Refused, norm_of, number
from sparsemf.certificates.checker.expansion import Expanded, expanded
from sparsemf.certificates.checker.flattening import Group, Tensors, tails
from sparsemf.certificates.checker.kink_matrices import KinkMatrix
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import Raw, decode

Array = NDArray[np.float64]

SCHEMAS = ("sparsemf/sparsity/3", "sparsemf/sparsity/4", "sparsemf/sparsity/5", "sparsemf/sparsity/6")
"""Of plain networks, of gated blocks, of plain networks where quadratic polynomials are free, of networks where affine
functions are not."""
_HIGHEST_DEGREE = 128
_MOST_NEURONS = 20_000
_MOST_PARTITIONS = 32
_MOST_MATRICES = 16
_TURN = 1.01 * 2.0**-53
_FLOAT = Arithmetic(0)


def free_degree(a: Raw) -> int:
    """The degree up to which polynomials are free beside f_A's atoms: 2 for gated blocks, where a flip of σ costs a
    quadratic form, and where f_A has one beside atoms that are none themselves; else 1."""
    cores = [CORES[term.core] for term in image(a.activation).terms]
    if a.gate is not None or any(core.flip is not None and core.flip[1][2] for core in cores):
        return gated_flattening.FREE
    return 1 if a.quadratic is None or _is_form(a.activation) else gated_flattening.FREE


def _is_form(activation: str) -> bool:
    """Whether an atom is a quadratic form and an affine function."""
    terms = image(activation).terms
    return bool(terms) and all(term.core == "power2" for term in terms)


def schema_of(a: Raw) -> str:
    """The schema of a claim about f_A."""
    return SCHEMAS[1 if a.gate is not None else 2 if free_degree(a) == gated_flattening.FREE else 0]


def free_of(document: Mapping[str, Any], a: Raw) -> int:
    """The degree up to which polynomials are free in a claim about f_A.  Raises :class:`Refused` where the schema
    is for another kind of network."""
    if document["schema"] != SCHEMAS[3]:
        if document["schema"] != schema_of(a):
            raise Refused("the schema is for another kind of network: it tells gated ones and what is free")
        if "free" in document["claim"]:
            raise Refused(f"what is free is said in {SCHEMAS[3]} only")
        return free_degree(a)
    if a.quadratic is not None:
        raise Refused("only networks without a quadratic part are charged for their affine part")
    free = document["claim"]["free"]
    if type(free) is not int or free not in (-1, 0):
        raise Refused("what is free is nothing (−1) or a constant (0)")
    return free


def upper_bound(document: Mapping[str, Any], a: Raw, data: Array | None, free: int) -> float:
    """This program's bound of the distance from f_A to the document's dictionary, in L²(ρ)."""
    entry = document["evidence"]["dictionary"]
    names = ("outer", "inner", "bias", "affine", "offset", *(() if a.gate is None else ("gate", "gate_bias")))
    arrays = {name: decode(entry[name]) for name in names}
    if free == gated_flattening.FREE and entry["quadratic"] is not None:
        arrays["quadratic"] = decode(entry["quadratic"])
    unread = sorted(name for name, value in entry.items() if value is not None and name not in arrays)
    if unread:  # what is no part of the network that is bounded must not pass for a part of it
        raise Refused(f"the dictionary has a part that a claim of this kind does not have: {unread[0]}")
    g = Raw.of(arrays, a.activation, 1.0)
    if g.w.shape[1] != a.w.shape[1] or g.outer.shape[1] != a.outer.shape[1]:
        raise Refused("the dictionary is of another kind")
    if (free < 1 and g.affine.any()) or (free < 0 and g.offset.any()):
        raise Refused("the dictionary has a part that is charged to the atoms")
    if int(np.count_nonzero(g.outer.any(axis=1))) > document["claim"]["upper"]:
        raise Refused("the dictionary has more atoms than claimed")
    return equivalence.distance_bounds(norm_of(document, a.w.shape[1], data), a, g, document["evidence"])[1]


def merged(norm: Norm, h: Expanded, charged: bool = False) -> tuple[Expanded, float]:
    """(g, error): neurons that agree to about nine digits (after scaling and flips) made one, ‖h − g‖ ≤ error beyond
    degree 1, or altogether where that is ``charged``: without flips, and σ = μz + σ_c costs its μ-part, too.  Any
    grouping is valid, so how the groups are found need not be trusted."""
    n = h.core.size
    leader, flip = np.arange(n), np.ones(n, dtype=np.int64)
    for core, rows in h.cores():
        points = np.concatenate([h.w[rows], h.b[rows, None]], axis=1)
        length = np.linalg.norm(points, axis=1)
        live = np.flatnonzero((length > 0) & h.alpha[rows].any(axis=1))
        rows, points, length = rows[live], points[live], length[live]
        if core.flip is not None and not core.flip[1][2] and not charged:
            first = np.argmax(np.abs(points) > 1e-5 * length[:, None], axis=1)
            flip[rows] = np.where(points[np.arange(rows.size), first] < 0, -1, 1)
        direction = points / length[:, None] * flip[rows, None]
        key = direction if core.degree else np.concatenate([direction, np.log(length)[:, None]], axis=1)
        if rows.size:
            _, head, label = np.unique(np.round(key, 9), axis=0, return_index=True, return_inverse=True)
            leader[rows] = rows[head[label.ravel()]]
    groups = grouped.measured(_FLOAT, norm, h, leader, flip)
    weight = _FLOAT.norms(h.alpha) + h.alpha_error
    error = 0.0
    for core, rows in h.cores():
        moved = rows[leader[rows] != rows]
        scaled = groups.scale[moved] * groups.size[leader[moved]]
        error += float(weight[moved] @ grouped.change(norm, core, groups.gap[moved], groups.size[moved], scaled))
        inside = np.isin(groups.head, rows)
        size = groups.size[groups.head[inside]]
        error += float(groups.total_error[inside] @ grouped.magnitude(norm, core, size))
        if charged:
            error += core.centre * float(weight[moved] @ groups.gap[moved] + groups.total_error[inside] @ size)
    heads = groups.head
    turn = flip[heads].astype(float)
    g = Expanded(
        groups.total,
        h.w[heads] * turn[:, None],
        h.b[heads] * turn,
        h.core[heads],
        h.affine,
        h.offset,
        h.point_error[heads],
        np.zeros(heads.size),
        h.affine_error,
    )
    return g.take(np.flatnonzero(groups.total.any(axis=1))), error


def groups_of(entry: Any, free: int = 1) -> tuple[Group, ...]:
    """A partition of degrees > ``free`` into groups, validated."""
    groups = []
    for p, low, high, rows in entry:
        if any(type(x) is not int for x in (p, low, high)) or type(rows) is not bool:
            raise Refused("a flattening is three whole numbers and a truth value")
        if not free < low <= high <= _HIGHEST_DEGREE:
            raise Refused(f"a flattening takes degrees from {free + 1} to {_HIGHEST_DEGREE}")
        if not 0 <= p <= low or (p == 0 and not rows):
            raise Refused("a flattening needs 1 ≤ p ≤ its lowest degree (p = 0 only with the outputs in the rows)")
        groups.append(Group(p, low, high, rows))
    ordered = sorted(groups, key=lambda g: g.low)
    if any(second.low <= first.high for first, second in pairwise(ordered)):
        raise Refused("the degrees of the flattenings must be disjoint")
    return tuple(groups)


def with_squares(h: Expanded) -> Expanded:
    """h with its quadratic part as neurons z², exactly:

    xᵀQx = Σ_i Q_ii x_i² + Σ_{i < j} ½Q_ij[(x_i + x_j)² − (x_i − x_j)²].
    """
    q = h.quadratic
    if q is None:
        return h
    basis, (i, j) = np.eye(q.shape[1]), np.triu_indices(q.shape[1], 1)
    mixed = 0.5 * q[:, i, j].T
    if np.min(np.abs(mixed[mixed != 0]), initial=1.0) < 1e-290:
        raise Undefined("half of an entry of the quadratic part underflows")
    alpha = np.concatenate([h.alpha, np.diagonal(q, axis1=1, axis2=2).T, mixed, -mixed])
    w = np.concatenate([h.w, basis, basis[i] + basis[j], basis[i] - basis[j]])
    zero = np.zeros(w.shape[0] - h.core.size)
    core = np.append(h.core, np.full(zero.size, ORDER.index("power2")))
    point_error, alpha_error = np.append(h.point_error, zero), np.append(h.alpha_error, zero)
    return Expanded(alpha, w, np.append(h.b, zero), core, h.affine, h.offset, point_error, alpha_error, h.affine_error)


def described(norm: Norm, a: Raw, degree: int, free: int = 1) -> tuple[Tensors, float]:
    """f_A's tensors up to ``degree`` as stored numbers, and how far (beyond degree 1; beyond 2 where it has a quadratic
    part that is free; beyond ``free`` < 1) f_A is from having them.

    Where degree 1 is charged, T_1 and T_0 are written out: as e_j ⊗ (T_1)_j and T_0 of their own, their error beside.
    """
    whole = expanded(_FLOAT, (a, 1.0))
    h, lost = merged(norm, with_squares(whole) if _is_form(a.activation) else whole, free < 1)
    if h.core.size > _MOST_NEURONS:
        raise Undefined("too many neurons")
    f = series.spectrum(_FLOAT, norm, h, degree)
    c = np.asarray(f.c, dtype=np.float64)
    steep = np.linalg.norm(c * np.arange(c.shape[1]), axis=1)
    lost += f.drift + float(f.weight @ (f.e + _TURN * (f.unit.shape[1] + 8) * steep) + f.h.alpha_error @ f.s)
    if free > 0:
        return Tensors(f.unit, f.alpha, c), lost * (1 + 1e-12)
    t1, t0 = np.asarray(f.t1, dtype=np.float64), np.asarray(f.t0, dtype=np.float64)
    (m, d), low = t1.shape, np.zeros((t1.shape[1] + 1, c.shape[1]))
    low[:d, 1], low[d, 0] = 1.0, 1.0
    c = c.copy()
    c[:, :2] = 0.0
    unit, alpha = np.concatenate([f.unit, np.eye(d + 1, d)]), np.concatenate([f.alpha, t1.T, t0.reshape(1, m)])
    return Tensors(unit, alpha, np.concatenate([c, low])), (lost + f.low_error) * (1 + 1e-12)


def lower_curve(norm: Norm, a: Raw, partitions: list[tuple[Group, ...]], free: int = 1) -> Array:
    """Lower bounds L(S), S = 0, 1, …, of the distance from f_A to networks of S atoms; 0 from its length on."""
    degree = max(g.high for groups in partitions for g in groups)
    with _FLOAT.precision(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        try:
            if a.gate is None:
                f, lost = described(norm, a, max(degree, 2), free)
                return _curve(lambda group: tails(f, group), f.alpha.shape[0], lost, partitions)
            pairs, lost = gated_flattening.described(norm, a, max(degree, 2), free)
        except Undefined:
            return np.zeros(1)
        return _curve(lambda group: gated_flattening.tails(pairs, group), pairs.alpha.shape[0], lost, partitions)


def _curve(of: Callable[[Group], Array], n: int, lost: float, partitions: list[tuple[Group, ...]]) -> Array:
    """The best sum of the groups' tails at each S, less ``lost``."""
    known: dict[Group, Array] = {}
    best = np.zeros(n + 1)
    for groups in partitions:
        for group in groups:
            if group not in known:
                known[group] = of(group)
        best = np.maximum(best, sum((known[group] for group in groups), np.zeros_like(best)))
    found = np.sqrt(best) * (1 - 1e-12) - lost
    return np.where((found > TINY) & np.isfinite(found), found - TINY, 0.0)


def kink_curve(norm: Norm, a: Raw, matrices: list[KinkMatrix], free: int = 1) -> Array:
    """:func:`lower_curve` by kink matrices, for a network of one-kink atoms."""
    with _FLOAT.precision(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        try:
            h, lost = merged(norm, expanded(_FLOAT, (a, 1.0)), free < 1)
            if h.core.size > _MOST_NEURONS:
                return np.zeros(1)
            f, moved = kink_matrices.described(norm, h)
        except Undefined:
            return np.zeros(1)
        found = kink_matrices.best(f, (lost + moved) * (1 + 1e-12), matrices)
    return np.where(found > TINY, found - TINY, 0.0)


def matrices_of(entry: Any, a: Raw, free: int) -> list[KinkMatrix]:
    """The evidence's kink matrices, validated; raises :class:`Refused` where there are none for the network."""
    if not isinstance(entry, list) or len(entry) > _MOST_MATRICES:
        raise Refused(f"the kink matrices are a list of at most {_MOST_MATRICES}")
    if entry and (a.gate is not None or free > 1 or not kink_matrices.one_kink(a.activation)):
        raise Refused("kink matrices are for plain one-kink atoms where degree 2 is not free")
    return [kink_matrices.kink_matrix(one) for one in entry]


def lower_bounds(document: Mapping[str, Any], a: Raw, free: int, data: Array | None = None) -> Array:
    """The better of :func:`lower_curve` and :func:`kink_curve` for the document's evidence, (0,) where there is none
    for its kind of network; under an empirical law by :mod:`polynomials`."""
    partitions = [groups_of(entry, free) for entry in document["evidence"]["partitions"]]
    matrices = matrices_of(document["evidence"].get("kinks", []), a, free)
    if document["law"]["name"] == "empirical":
        return np.maximum(polynomials.curve(norm_of(document, a.w.shape[1], data), a, free) - TINY, 0.0)
    norm, curves = norm_of(document, a.w.shape[1], None), [np.zeros(1)]
    if len(partitions) <= _MOST_PARTITIONS and any(partitions):
        curves.append(lower_curve(norm, a, partitions, free))
    if matrices:
        curves.append(kink_curve(norm, a, matrices, free))
    longest = max(curve.size for curve in curves)
    return np.max([np.append(curve, np.zeros(longest - curve.size)) for curve in curves], axis=0)


def at(curve: Array, size: int) -> float:
    """L(size); nothing is proved beyond the curve's end."""
    return float(curve[size]) if 0 <= size < curve.size else 0.0


def check(document: Mapping[str, Any], networks: Mapping[str, Raw], data: Array | None) -> dict[str, Any]:
    """The facts proved; raises :class:`Refused` where the claim does not follow."""
    a, claim = networks["a"], document["claim"]
    free = free_of(document, a)
    if document.get("norm", "l2") != "l2":
        raise Refused("sparsity is a claim in L²(ρ)")
    if document["config"]["rho"] != document["law"]["name"] or document["law"]["name"] not in LAWS:
        raise Refused("the law is not the one that the configuration names")
    if any(type(claim[end]) is not int for end in ("lower", "upper")) or not 0 <= claim["lower"] <= claim["upper"]:
        raise Refused("the claimed range is not one of whole numbers")
    if claim["counts"] != "atoms":
        raise Refused("only atoms are counted here")
    low = number(claim["eps"][0], "the interval's lower end")
    high = float("inf") if claim["eps"][1] is None else number(claim["eps"][1], "the interval's upper end")
    if low > high:
        raise Refused("the interval of ε is reversed")
    facts: dict[str, Any] = {"upper": upper_bound(document, a, data, free)}
    if not facts["upper"] <= low:
        raise Refused(f"the dictionary is within {facts['upper']:.6g}, claimed {low:.6g}")
    curve = lower_bounds(document, a, free, data)
    published = np.asarray(decode(claim["lower_curve"]), dtype=np.float64)
    if published.ndim != 1 or not all(0 <= claimed <= at(curve, size) for size, claimed in enumerate(published)):
        raise Refused("the lower curve is not proved")
    if claim["lower"] > 0:
        facts["lower"] = at(curve, claim["lower"] - 1)
        if not (facts["lower"] >= high and facts["lower"] > low):
            raise Refused(f"fewer atoms are excluded only below {facts['lower']:.6g}, claimed {high:.6g}")
    if claim["certified"] is not (claim["lower"] == claim["upper"]):
        raise Refused("certified must mean that both ends meet")
    return facts
