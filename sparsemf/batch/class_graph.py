"""The graph of certified equivalences, grown by representatives; see :mod:`sparsemf.batch.classes` for the proofs.

Numbers: nodes are indices in the order of the list; sums of bounds are rounded outwards by a factor 1 ± 1e-12.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from sparsemf.batch.invariants import Invariants, lower_bounds
from sparsemf.certificates.checker.document import SLACK

_UP, _DOWN = 1 + 1e-12, 1 - 1e-12


@dataclass(frozen=True)
class Edge:
    """What a certificate says about d(f_a, f_b), a before b: ``eps`` ≤ rel·‖f_a‖ ≤ ``eps_distinct``."""

    a: int
    b: int
    verdict: str
    lower: float
    upper: float
    eps: float
    eps_distinct: float
    error: str | None = None


class Certified(Protocol):
    """Certificates by pair, and a way to ask for more."""

    edges: dict[tuple[int, int], Edge]

    def __call__(self, stage: str, pairs: list[tuple[int, int]]) -> None:
        """Certify the pairs that are not yet."""
        ...


@dataclass(frozen=True)
class Class:
    """``members`` in order, the representative first; ``eps`` null where nothing was needed (one member)."""

    members: list[int]
    kind: str
    eps: float | None
    diameter: float
    diameter_lower: float
    reach: dict[int, float] = field(repr=False, default_factory=dict)

    @property
    def radius(self) -> float:
        """max u_y."""
        return max(self.reach.values(), default=0.0)


@dataclass(frozen=True)
class Pair:
    """Two classes by their representatives: d ≥ ``lower`` for every member of one and every member of the other."""

    a: int
    b: int
    verdict: str
    lower: float
    how: str

    def document(self) -> dict[str, Any]:
        """For classes.json, without the classes."""
        return {"verdict": self.verdict, "lower": self.lower, "how": self.how}


@dataclass(frozen=True)
class Found:
    """The classes; the pairs that have evidence of their own; how many rest on the invariants, and the closest."""

    classes: list[Class]
    pairs: list[Pair]
    by_invariants: int
    least: float | None


class Graph:
    """``groups`` of comparable nodes, their invariants, the certificates."""

    def __init__(
        self, groups: list[list[int]], known: dict[int, Invariants], certified: Certified, rel: float, budget: int
    ) -> None:
        self.groups, self.known, self.certified, self.rel = groups, known, certified, rel
        self.budget = budget * sum(map(len, groups))
        self.group_of = {node: g for g, group in enumerate(groups) for node in group}
        self.place = {node: k for group in groups for k, node in enumerate(group)}
        self.bounds = [lower_bounds([known[i] for i in group]) for group in groups]
        self.stars: list[list[int]] = []

    # --- what is known of a pair -------------------------------------------------------------------------------

    def lower(self, a: int, b: int) -> float:
        """The best direct lower bound of d(a, b): the invariants', or a certificate's."""
        edge = self.certified.edges.get((min(a, b), max(a, b)))
        known = float(self.bounds[self.group_of[a]][self.place[a], self.place[b]])
        return known if edge is None else max(known, edge.lower)

    def threshold(self, a: int) -> float:
        """rel·N_a ≥ rel·‖f_a‖, with the slack that certificates have for another machine's rounding."""
        return self.rel * self.known[a].norm[1] * (1 + SLACK)

    def _separated(self, group: list[int]) -> NDArray[np.bool_]:
        """Pairs that the invariants prove distinct, seen from either side."""
        most = np.array([self.threshold(i) for i in group])
        return self.bounds[self.group_of[group[0]]] > np.maximum(most[:, None], most[None, :])

    def equivalent(self, a: int, b: int) -> bool:
        """Whether there is an edge."""
        edge = self.certified.edges.get((min(a, b), max(a, b)))
        return edge is not None and edge.verdict == "equivalent"

    # --- the comparisons ---------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Stars around representatives, in rounds that are certified at once; then the edges that may be missing."""
        parts: list[list[int]] = []
        apart: dict[int, NDArray[np.bool_]] = {}
        for g, group in enumerate(self.groups):
            apart[g] = self._separated(group)
            near = nx.Graph()
            near.add_nodes_from(range(len(group)))
            near.add_edges_from((int(i), int(k)) for i, k in np.argwhere(np.triu(~apart[g], 1)))
            parts += [sorted(group[k] for k in part) for part in nx.connected_components(near)]

        def close(a: int, b: int) -> bool:
            return not apart[self.group_of[a]][self.place[a], self.place[b]]

        parts.sort()
        left = parts
        tried: list[list[list[int]]] = [[] for _ in parts]
        position = list(range(len(parts)))
        while left:
            self.certified("comparing", [(p[0], x) for p in left for x in p[1:] if close(p[0], x)])
            following, where = [], []
            for k, part in zip(position, left, strict=True):
                star = [part[0], *(x for x in part[1:] if self.equivalent(part[0], x))]
                tried[k].append(star)
                if rest := [x for x in part if x not in set(star)]:
                    following.append(rest)
                    where.append(k)
            left, position = following, where
        self.stars = [star for stars in tried for star in stars]
        self._spend("connecting", [pair for stars in tried for pair in self._possible(stars, close)])

    def _possible(self, stars: list[list[int]], close: Callable[[int, int], bool]) -> list[tuple[int, int]]:
        """Pairs across stars that the triangle inequality does not exclude from being equal up to ε."""
        found = []
        for k, star in enumerate(stars):
            reach = {y: self.certified.edges[star[0], y].upper for y in star[1:]}
            for other in stars[k + 1 :]:
                for x in other:
                    known = self.lower(star[0], x)
                    for y, u in reach.items():
                        if known * _DOWN - u * _UP <= max(self.threshold(y), self.threshold(x)) and close(y, x):
                            found.append((min(x, y), max(x, y)))
        return found

    def _spend(self, stage: str, pairs: list[tuple[int, int]]) -> None:
        """Certify pairs while the budget lasts."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self.certified.edges]
        self.certified(stage, new[: self.budget])
        self.budget -= min(len(new), self.budget)

    # --- the classes -------------------------------------------------------------------------------------------

    def classes(self, most_pairs: int) -> Found:
        """Components, diameters, and what holds between them; at most ``most_pairs`` pairs are certified for it."""
        edges = nx.Graph()
        edges.add_nodes_from(self.group_of)
        for (a, b), edge in self.certified.edges.items():
            if edge.verdict == "equivalent":
                edges.add_edge(a, b, weight=edge.upper)
        components = sorted(sorted(part) for part in nx.connected_components(edges))
        reach = [
            {
                node: float(u) * _UP
                for node, u in nx.single_source_dijkstra_path_length(edges, part[0], weight="weight").items()
            }
            for part in components
        ]
        wide = [pair for part, u in zip(components, reach, strict=True) for pair in self._wide(part, u)]
        self._spend("diameters", wide)
        classes = [self._class(part, u) for part, u in zip(components, reach, strict=True)]
        return self._between(classes, most_pairs)

    def _eps(self, part: list[int], reach: dict[int, float]) -> float | None:
        """rel·(n_r − max u) ≤ rel·‖f_y‖ for all members, n_r by the representative's certificates."""
        own = [e.eps for (a, b), e in self.certified.edges.items() if a == part[0] and b in reach and e.eps > 0]
        return max(max(own, default=0.0) * _DOWN - self.rel * max(reach.values()) * _UP, 0.0) if len(part) > 1 else None

    def _wide(self, part: list[int], reach: dict[int, float]) -> list[tuple[int, int]]:
        """Pairs whose distance the representative does not prove to be ≤ ε, the widest first."""
        eps = self._eps(part, reach)
        if eps is None:
            return []
        ranked = sorted(part, key=lambda node: -reach[node])
        found = []
        for i, y in enumerate(ranked):
            for z in ranked[i + 1 :]:
                if (reach[y] + reach[z]) * _UP <= eps:
                    break  # those that follow are closer
                found.append((min(y, z), max(y, z)))
        return found

    def _class(self, part: list[int], reach: dict[int, float]) -> Class:
        eps = self._eps(part, reach)
        if eps is None:
            return Class(part, "single", None, 0.0, 0.0, reach)
        inside = set(part)
        direct = {p: e for p, e in self.certified.edges.items() if p[0] in inside and p[1] in inside}
        ranked = sorted((reach[y] for y in part), reverse=True)
        diameter = (ranked[0] + ranked[1]) * _UP
        if diameter > eps:
            # the pairs that are ≤ ε through the representative need no look, the others have a bound each
            sums = [min((reach[y] + reach[z]) * _UP, self._upper(direct, (y, z))) for y, z in self._wide(part, reach)]
            diameter = max([*sums, min(diameter, eps)])
        lower = max((e.lower for e in direct.values()), default=0.0)
        return Class(part, "clique" if diameter <= eps else "chain", eps, diameter, lower, reach)

    @staticmethod
    def _upper(direct: dict[tuple[int, int], Edge], pair: tuple[int, int]) -> float:
        edge = direct.get(pair)
        return float("inf") if edge is None else edge.upper

    # --- between classes ---------------------------------------------------------------------------------------

    def _between(self, classes: list[Class], most_pairs: int) -> Found:
        """Every two classes of one group are distinct, undecided, or told apart by the invariants alone."""
        by_group: dict[int, list[Class]] = {}
        for cls in classes:
            by_group.setdefault(self.group_of[cls.members[0]], []).append(cls)
        pairs = [(c, e) for own in by_group.values() for i, c in enumerate(own) for e in own[i + 1 :]]
        heads = [(c.members[0], e.members[0]) for c, e in pairs]
        fresh = [head for head in heads if head not in self.certified.edges]
        self.certified("separating", fresh if len(fresh) <= most_pairs else [])
        found, by_invariants, least = [], 0, None
        for (c, e), head in zip(pairs, heads, strict=True):
            certified = head in self.certified.edges
            lower = (self.certified.edges[head].lower if certified else self.lower(*head)) * _DOWN
            lower = max(lower - (c.radius + e.radius) * _UP, 0.0)
            distinct = lower > self._most(c, e)
            if distinct and not certified:
                by_invariants += 1
                least = lower if least is None else min(least, lower)
                continue
            edge = self.certified.edges.get(head)
            # a certificate that bounds no norm leaves that to the invariants' norms
            bounded = edge is not None and max(edge.eps_distinct, edge.upper) < np.inf
            how = "certificate" if bounded else "invariants"
            if not distinct:
                lower, distinct, how = self._each(c, e)
            found.append(Pair(*head, "distinct" if distinct else "undecided", lower, how))
        return Found(classes, found, by_invariants, least)

    def _most(self, c: Class, e: Class) -> float:
        """A bound of rel·‖f_y‖ and rel·‖f_z‖ for all members y of c and z of e: by the certificate of the
        representatives where there is one that bounds them, else by the invariants' norms."""
        r, s = c.members[0], e.members[0]
        edge = self.certified.edges.get((r, s))
        own, others = self.threshold(r), self.threshold(s)
        if edge is not None and edge.eps_distinct < np.inf:
            own = edge.eps_distinct
            others = own + self.rel * edge.upper if edge.upper < np.inf else others
        return max(own + self.rel * c.radius, others + self.rel * e.radius) * _UP

    def _each(self, c: Class, e: Class) -> tuple[float, bool, str]:
        """The same member by member: (least lower bound, whether all are distinct, by what)."""
        least, distinct, how = float("inf"), True, "certificate"
        for y in c.members:
            for z in e.members:
                edge = self.certified.edges.get((min(y, z), max(y, z)))
                own = edge.lower if edge is not None else 0.0
                through = max(self.lower(c.members[0], z) * _DOWN - c.reach[y] * _UP, 0.0)
                known = float(self.bounds[self.group_of[y]][self.place[y], self.place[z]])
                if edge is not None and edge.verdict == "distinct":  # what the invariants add is in no certificate
                    least = min(least, own)
                    continue
                bound = max(own, through, known)
                how = "invariants"  # their norms, if nothing else
                distinct = distinct and bound > max(self.threshold(y), self.threshold(z))
                least = min(least, bound)
        return least, distinct, how
