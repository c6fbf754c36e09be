"""Claims of sparsity: S*(ε) ∈ [lower, upper] for every ε in the stated interval.

Upper end: an explicit network of ``upper`` atoms within ε, bounded like any distance.  Lower end: for degrees k ≥ 2 in
disjoint groups, the flattenings M_p = [T_k]_k of f have rank ≤ S for a network of S atoms, so (Eckart–Young) no such
network comes closer than √Σ_groups Σ_{j > S} σ_j(M)².

Arithmetic of the lower end: Hermite coefficients with proven errors; the eigenvalues are LAPACK's, with the stated
margin UNIT·[(16n + 64)·(λ_max(P)·tr Q + |trace|) + (256 + d)·mass²].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import equivalence, grouped, series
from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.document import LAWS, Refused, interval, norm_of, number
from sparsemf.certificates.checker.expansion import Expanded, expanded
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import Raw, decode

Array = NDArray[np.float64]

UNIT = 2.0**-52
_HIGHEST_DEGREE = 128
_MOST_NEURONS = 6000
_FLOAT = Arithmetic(0)


def upper_bound(document: Mapping[str, Any], a: Raw, data: Array | None) -> float:
    """This program's bound of the distance from f_A to the document's dictionary, in L²(ρ)."""
    entry = document["evidence"]["dictionary"]
    arrays = {name: decode(entry[name]) for name in ("outer", "inner", "bias", "affine", "offset")}
    g = Raw.of(arrays, a.activation, 1.0)
    if g.w.shape[1] != a.w.shape[1] or g.outer.shape[1] != a.outer.shape[1]:
        raise Refused("the dictionary is of another kind")
    if int(np.count_nonzero(g.outer.any(axis=1))) > document["claim"]["upper"]:
        raise Refused("the dictionary has more atoms than claimed")
    if a.gate is not None:
        raise Refused("sparsity of gated blocks is not checked")
    return equivalence.distance_bounds(norm_of(document, a.w.shape[1], data), a, g, document["evidence"])[1]


def merged(norm: Norm, h: Expanded) -> tuple[Expanded, float]:
    """(g, error): neurons that agree to about nine digits (after scaling and flips) made one, ‖h − g‖ ≤ error beyond
    degree 1.  Any grouping is valid, so how the groups are found need not be trusted."""
    n = h.core.size
    leader, flip = np.arange(n), np.ones(n, dtype=np.int64)
    for core, rows in h.cores():
        points = np.concatenate([h.w[rows], h.b[rows, None]], axis=1)
        length = np.linalg.norm(points, axis=1)
        live = np.flatnonzero((length > 0) & h.alpha[rows].any(axis=1))
        rows, points, length = rows[live], points[live], length[live]
        if core.flip is not None and not core.flip[1][2]:
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
        error += float(groups.total_error[inside] @ grouped.magnitude(norm, core, groups.size[groups.head[inside]]))
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


def flattening_tail(norm: Norm, a: Raw, size: int, groups: list[tuple[int, int, int, bool]]) -> float:
    """√Σ_groups Σ_{j > size} σ_j(M_group)².  A group is (p, low, high, outputs in the rows), the degree intervals
    disjoint and ≥ 2."""
    if any(high > _HIGHEST_DEGREE or low > high for _, low, high, _ in groups):
        raise ValueError(f"degrees beyond {_HIGHEST_DEGREE} are not resolved")
    degrees = [k for _, low, high, _ in groups for k in range(low, high + 1)]
    if len(set(degrees)) != len(degrees) or any(k < 2 for k in degrees):
        raise ValueError("the groups' degrees must be disjoint and at least 2")
    if any(p < 0 or p > low or (p == 0 and not rows) for p, low, _, rows in groups):
        raise ValueError("a flattening needs 1 ≤ p ≤ its lowest degree (p = 0 only with the outputs in the rows)")
    h, lost = merged(norm, expanded(_FLOAT, (a, 1.0)))
    if h.core.size > _MOST_NEURONS:
        return 0.0
    f = series.spectrum(_FLOAT, norm, h, max(degrees, default=2))
    n, d = f.unit.shape
    cos = np.clip(f.unit @ f.unit.T, -1.0, 1.0)
    inner = f.alpha @ f.alpha.T
    total_mass = float(f.weight @ f.s)
    lost += f.drift + float(f.weight @ f.e)
    square = 0.0
    for p, low, high, rows in groups:
        q = np.zeros((n, n))
        for k in range(high, low - 1, -1):
            q = q * cos + np.outer(f.c[:, k], f.c[:, k])
        q *= cos ** (low - p)
        left = cos**p
        left, q = (left * inner, q) if rows else (left, q * inner)
        trace, absolute = float(np.sum(left * q)), float(np.sum(np.abs(left) * np.abs(q)))
        values, vectors = np.linalg.eigh(left)
        keep = values > UNIT * max(float(values[-1]), 0.0) if n else np.zeros(0, dtype=bool)
        factor = vectors[:, keep] * np.sqrt(values[keep])
        image = factor.T @ q @ factor
        energy = np.sort(np.maximum(np.linalg.eigvalsh(0.5 * (image + image.T)), 0.0))[::-1]
        largest = max(float(values[-1]), 0.0) if n else 0.0
        margin = UNIT * ((16 * n + 64) * (largest * float(np.trace(q)) + absolute) + (256 + d) * total_mass**2)
        square += max(trace - float(energy[:size].sum()) - margin, 0.0)
    return max(float(np.sqrt(square)) * (1 - 1e-12) - lost, 0.0)


def lower_bound(document: Mapping[str, Any], a: Raw) -> float:
    """This program's lower bound of the distance from f_A to networks of claim.lower − 1 atoms."""
    if document["law"]["name"] == "empirical" or a.gate is not None or a.quadratic is not None:
        return 0.0
    groups = [(int(p), int(low), int(high), bool(rows)) for p, low, high, rows in document["evidence"]["flattenings"]]
    if not groups:
        return 0.0
    with _FLOAT.precision(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        try:
            norm = norm_of(document, a.w.shape[1], None)
            return interval(flattening_tail(norm, a, int(document["claim"]["lower"]) - 1, groups), 0.0)[0]
        except Undefined:
            return 0.0


def check(document: Mapping[str, Any], networks: Mapping[str, Raw], data: Array | None) -> dict[str, Any]:
    """The facts proved; raises :class:`Refused` where the claim does not follow."""
    a, claim = networks["a"], document["claim"]
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
    facts: dict[str, Any] = {"upper": upper_bound(document, a, data)}
    if not facts["upper"] <= low:
        raise Refused(f"the dictionary is within {facts['upper']:.6g}, claimed {low:.6g}")
    if claim["lower"] > 0:
        facts["lower"] = lower_bound(document, a)
        if not (facts["lower"] >= high and facts["lower"] > low):
            raise Refused(f"fewer atoms are excluded only below {facts['lower']:.6g}, claimed {high:.6g}")
    if claim["certified"] is not (claim["lower"] == claim["upper"]):
        raise Refused("certified must mean that both ends meet")
    return facts
