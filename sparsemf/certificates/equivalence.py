"""Are two networks the same function?  Two-sided bounds of ‖f_A − f_B‖, a witness, a matching; never a guess.

Upper bounds: grouping (linear in the distances, so exact copies give rounding) and the Gram form (tight when every
weight is perturbed).  Lower bounds: Gram form; Bessel's inequality on the affine functions and one ridge direction
(linear, so it does not cancel); in the sup norm a witness in ball arithmetic.  Every published number is one that the
independent checker proved too, widened by ``SLACK``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sparsemf.certificates.checker import balls, check
from sparsemf.certificates.checker.raw import Raw, encode
from sparsemf.certificates.orbit import OrbitDistance, orbit_distance
from sparsemf.measures import Atoms, Ball, Empirical, Gaussian, InputLaw, Network, difference
from sparsemf.symmetry import Grouping, Section, group, grouped_bound, point_distances, quotient

Array = NDArray[np.float64]

_MOST_PAIRS = 3e7
_GRAM_WIDTH = 8192
_MATCH_RADIUS = 1e-2


@dataclass(frozen=True)
class Matching:
    """Atoms of A and B matched one to one within the radius, in the quotient metric on the section."""

    matched: int
    unmatched_a: int
    unmatched_b: int
    max_distance: float
    pairs: list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Equivalence:
    """The verdict with what proves it; bounds are absolute in ``norm``."""

    verdict: check.Verdict
    norm: str
    radius: float | None
    law: InputLaw
    eps: float
    eps_distinct: float
    rel_eps: float | None
    lower: float
    upper: float
    matching: Matching
    witness: Array | None
    gap: float
    separation_degree: int | None
    orbit_distance: OrbitDistance
    evidence: dict[str, Any]


def raw_of(network: Network) -> Raw:
    """A network as the checker sees it."""
    return Raw(network.activation.name, network.alpha, network.inner, network.bias, network.affine, network.offset)


def encode_law(law: InputLaw) -> dict[str, Any]:
    """A law as JSON; the rows of an empirical law stay in their file."""
    if isinstance(law, Empirical) or law.name == "gaussian":
        return {"name": law.name, "mean": None, "root": None}
    return {"name": law.name, "mean": encode(law.mean), "root": encode(law.root)}


def certify_pair(
    a: Network,
    b: Network,
    law: InputLaw | None = None,
    norm: Literal["l2", "sup"] = "l2",
    radius: float | None = None,
    eps: float | None = None,
    rel_eps: float | None = None,
    seed: int = 0,
) -> Equivalence:
    """The verdict on ‖f_A − f_B‖ ≤ ε in L²(law) or in the sup norm over ‖x‖ ≤ radius.

    ``rel_eps`` (default 1e-3 when no ``eps`` is given) is relative to ‖f_A‖ in the same norm, by its certified
    lower bound for *equivalent* and its upper bound for *distinct*.
    """
    law = law or Gaussian.standard(a.d)
    if norm == "sup":
        radius = float(np.sqrt(a.d)) if radius is None else radius
    domain = Ball(radius) if norm == "sup" and radius is not None else None
    if eps is None and rel_eps is None:
        rel_eps = 1e-3
    h = difference(a, b)
    white = h if domain is not None or isinstance(law, Empirical) else law.whiten(h)
    shell: dict[str, Any] = {"norm": norm, "radius": radius, "law": encode_law(law)}
    data = law.x if isinstance(law, Empirical) else None
    raw_a, raw_b = raw_of(a), raw_of(b)

    grouping, upper = best_grouping(white, a.width, domain)
    evidence: dict[str, Any] = {
        "leader": encode(grouping.leader.astype(np.int32)),
        "sign": encode(grouping.sign.astype(np.int8)),
    }
    seen = (law.whiten(a), law.whiten(b)) if domain is None and isinstance(law, Gaussian) else (a, b)
    matching = match(*seen)
    x, gap = _witness(raw_a, raw_b, h, law, domain, seed)
    if x is not None:
        evidence["witness"] = encode(x)
    if domain is not None:
        evidence["norm_point"] = encode(_best_point(a, law, domain, seed))
    norm_low, norm_high = check.norm_bounds(shell, raw_a, data, evidence) if rel_eps is not None else (0.0, 0.0)
    if eps is not None:
        at = at_distinct = eps
    else:
        at = (rel_eps or 0.0) * norm_low * (1 - check.SLACK)
        at_distinct = (rel_eps or 0.0) * norm_high * (1 + check.SLACK)

    separation = None
    if domain is None and isinstance(law, Gaussian):
        evidence["affine"] = True
        direction = _ridge(white)
        evidence["direction"] = None if direction is None else encode(direction)
        proved = check.separations(shell, raw_a, raw_b, evidence, check.SEPARATION_DEGREE)
        separation = proved[0] if proved else None
        evidence["gram"] = bool(upper > at and white.width <= _GRAM_WIDTH)
    lower, upper = check.distance_bounds(shell, raw_a, raw_b, data, evidence)
    lower, upper = max(lower * (1 - check.SLACK), 0.0), upper * (1 + check.SLACK)
    verdict = check.verdict_of(lower, upper, at, at_distinct)
    return Equivalence(
        verdict=verdict,
        norm=norm,
        radius=radius,
        law=law,
        eps=at,
        eps_distinct=at_distinct,
        rel_eps=None if eps is not None else rel_eps,
        lower=lower,
        upper=upper,
        matching=matching,
        witness=x,
        gap=gap,
        separation_degree=separation,
        orbit_distance=orbit_distance(white),
        evidence=evidence,
    )


def best_grouping(h: Network, split: int, domain: Ball | None) -> tuple[Grouping, float]:
    """The grouping with the smallest bound: rounding-level groups, then B's neurons led by their nearest of A."""
    alive = np.flatnonzero(h.alpha.any(axis=1) & h.inner.any(axis=1))
    offset = h.offset.copy()
    constant = h.alpha.any(axis=1) & ~h.inner.any(axis=1)
    offset += h.alpha[constant].T @ h.activation.value(h.bias[constant])
    active = h.with_(outer=h.outer[alive], inner=h.inner[alive], bias=h.bias[alive], offset=offset)
    candidates = [group(active, 1e-13)]
    if active.width <= _GRAM_WIDTH:
        candidates += [group(active, radius) for radius in (1e-10, 1e-7)]
    in_a = alive < split
    if in_a.any() and (~in_a).any() and in_a.sum() * float((~in_a).sum()) <= _MOST_PAIRS:
        candidates.append(_paired(active, in_a, candidates[0]))
    best = min(candidates, key=lambda g: grouped_bound(active, g, domain))
    leader, sign = np.full(h.width, -1, dtype=np.int64), np.ones(h.width, dtype=np.int64)
    leader[alive], sign[alive] = alive[best.leader], best.sign
    return Grouping(leader, sign), grouped_bound(active, best, domain)


def _paired(active: Network, in_a: NDArray[np.bool_], exact: Grouping) -> Grouping:
    """Exact groups, and every leading neuron of B joined to the nearest leading neuron of A where that is cheaper
    than standing alone."""
    section = Section.of(active)
    heads = np.unique(exact.leader)
    rows, columns = heads[~in_a[heads]], heads[in_a[heads]]
    leader, sign = exact.leader.copy(), exact.sign.copy()
    if rows.size and columns.size:
        size = np.linalg.norm(section.points, axis=1)
        for start in range(0, rows.size, 1024):
            part = rows[start : start + 1024]
            distance, flips = point_distances(section.points[part], section.points[columns], section.flips)
            nearest = np.argmin(distance, axis=1)
            near = distance[np.arange(part.size), nearest] <= 0.5 * size[part]
            for i in np.flatnonzero(near):
                members = exact.leader == part[i]
                leader[members] = columns[nearest[i]]
                sign[members] *= int(flips[i, nearest[i]])
    return Grouping(leader, sign)


def match(a: Network, b: Network, radius: float = _MATCH_RADIUS) -> Matching:
    """Match the canonical atoms of two networks: components of the joint neighbour graph, assignment inside."""
    left, right = Section.of(quotient(a).network), Section.of(quotient(b).network)
    graph: nx.Graph[tuple[str, int]] = nx.Graph()
    size = np.linalg.norm(left.points, axis=1)
    for start in range(0, left.points.shape[0], 1024):
        distance, _ = point_distances(left.points[start : start + 1024], right.points, left.flips)
        reach = radius * np.maximum(size[start : start + 1024, None], 1e-300)
        for i, j in zip(*np.nonzero(distance <= reach), strict=True):
            graph.add_edge(("a", start + int(i)), ("b", int(j)), distance=float(distance[i, j]))
    pairs: list[tuple[int, int]] = []
    largest = 0.0
    for component in nx.connected_components(graph):
        rows = sorted(i for side, i in component if side == "a")
        columns = sorted(j for side, j in component if side == "b")
        cost = np.full((len(rows), len(columns)), 1e6)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                edge = graph.get_edge_data(("a", row), ("b", column))
                if edge is not None:
                    cost[i, j] = edge["distance"]
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if cost[i, j] < 1e6:
                pairs.append((rows[i], columns[j]))
                largest = max(largest, float(cost[i, j]))
    return Matching(
        matched=len(pairs),
        unmatched_a=left.points.shape[0] - len(pairs),
        unmatched_b=right.points.shape[0] - len(pairs),
        max_distance=largest,
        pairs=sorted(pairs),
    )


def _ridge(white: Network) -> Array | None:
    """The direction u with the largest ridge energy of h among the heaviest atoms of its canonical form."""
    h = quotient(white).network
    if h.width == 0:
        return None
    atoms = Atoms.of(h)
    c = atoms.hermite(24)
    heavy = np.argsort(-np.linalg.norm(h.alpha, axis=1) * atoms.length)[:64]
    cos = np.clip(atoms.unit[heavy] @ atoms.unit.T, -1.0, 1.0)
    power = cos.copy()
    energy = np.zeros(heavy.size)
    for k in range(2, 25):
        power *= cos
        energy += np.sum(((power * c[:, k]) @ h.alpha) ** 2, axis=1)
    return atoms.unit[heavy[int(np.argmax(energy))]]


def _candidates(h: Network, law: InputLaw, domain: Ball | None, rng: np.random.Generator) -> Array:
    """Points where h may be large: samples of the law (or the ball), and multiples of the heaviest directions."""
    if isinstance(law, Empirical):
        return law.x
    sample = law.sample(2048, rng) if domain is None else rng.standard_normal((2048, h.d))
    mean = law.mean if domain is None else np.zeros(h.d)
    heavy = np.argsort(-np.linalg.norm(h.alpha, axis=1) * np.linalg.norm(h.inner, axis=1))[:128]
    length = np.linalg.norm(h.inner[heavy], axis=1)
    unit = h.inner[heavy] / np.where(length > 0, length, 1.0)[:, None]
    rays = np.concatenate([t * unit for t in (-2.0, -1.0, 1.0, 2.0)]) + mean
    x = np.concatenate([sample, rays])
    if domain is not None:
        norm = np.maximum(np.linalg.norm(x, axis=1), 1e-300)[:, None]
        x = np.concatenate([x / norm * domain.radius, x * np.minimum(1.0, domain.radius / norm)])
    return x


def _ascend(h: Network, x: Array, domain: Ball | None, steps: int = 40) -> Array:
    """Projected gradient ascent of ½‖h‖² from each row, with a step halved whenever it fails."""
    value = np.linalg.norm(h(x), axis=1)
    rate = np.full(x.shape[0], 0.5)
    for _ in range(steps):
        z = x @ h.inner.T + h.bias
        out = h(x)
        gradient = ((out @ h.alpha.T) * h.activation.derivative(z)) @ h.inner + out @ h.affine
        length = np.maximum(np.linalg.norm(gradient, axis=1), 1e-300)[:, None]
        trial = x + rate[:, None] * gradient / length
        if domain is not None:
            trial *= np.minimum(1.0, domain.radius / np.maximum(np.linalg.norm(trial, axis=1), 1e-300))[:, None]
        new = np.linalg.norm(h(trial), axis=1)
        better = new > value
        x = np.where(better[:, None], trial, x)
        value = np.where(better, new, value)
        rate = np.where(better, rate * 1.2, rate * 0.5)
    return x


def _best_point(h: Network, law: InputLaw, domain: Ball | None, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    x = _candidates(h, law, domain, rng)
    top = x[np.argsort(-np.linalg.norm(h(x), axis=1))[:8]]
    if domain is not None:
        top = _ascend(h, top, domain)
        # inside the ball whatever the rounding
        top *= np.minimum(1.0, domain.radius * (1 - 1e-12) / np.maximum(np.linalg.norm(top, axis=1), 1e-300))[:, None]
    return top[int(np.argmax(np.linalg.norm(h(top), axis=1)))]


def _witness(a: Raw, b: Raw, h: Network, law: InputLaw, domain: Ball | None, seed: int) -> tuple[Array | None, float]:
    """A point with a gap confirmed in ball arithmetic, or (None, 0)."""
    x = _best_point(h, law, domain, seed)
    gap = balls.gap(a, b, x)
    return (x, gap) if gap > 0 else (None, 0.0)
