"""Which networks of a batch are the same function: classes, each with a certified diameter.

Write d(f, g) = ‖f − g‖ in L²(ρ).  "Equal up to ε" is not transitive, so two notions are kept apart.  The *edges* are
the certified equivalences (``sparsemf certify`` at ε = rel·‖f_a‖, a the earlier of the two in the list); a *class* is a
connected component of their graph.  A class is a **clique** when every two members are proved equal up to ε, and a
**chain** when they are only connected.  Everything said follows from certificates by the triangle inequality:

- *Inside.*  With certified d(r, y) ≤ u_y for the representative r (along a path: the sum), d(y, z) ≤ u_y + u_z, hence
  the diameter is at most the sum of the two largest u.  As ‖f_y‖ ≥ n_r − u_y with n_r ≤ ‖f_r‖ certified, the class is a
  clique when that is ≤ rel·(n_r − max u).  Where it is not, the pairs in question are certified themselves.
- *Between.*  d(y, z) ≥ l − u_y − u_z for y in the class of r, z in that of s and certified d(r, s) ≥ l; "distinct"
  when this exceeds rel·‖f_y‖ and rel·‖f_z‖ for all members, by ‖f_y‖ ≤ N_r + u_y and ‖f_z‖ ≤ N_r + d(r, s) + u_z.

So n − k certificates inside and one for each pair of the k classes prove what n(n − 1)/2 would.  Which pairs need one
at all is found by :mod:`sparsemf.batch.invariants`: bounds in float64 with a-priori errors, but kept in no certificate.
Pairs of classes that rest on them alone (where there are more than ``MOST_PAIRS``) are counted apart and never called
certified.

No edge is missed: for z outside the class of r, a certified d(r, z) ≥ l leaves an edge to a member y possible only if
l − u_y ≤ ε, and such pairs are certified one by one, up to ``BUDGET`` per network; what is left is "undecided".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sparsemf.atomic import header
from sparsemf.batch.class_graph import Edge, Graph
from sparsemf.batch.invariants import Invariants
from sparsemf.batch.jobs import Settings, digest
from sparsemf.batch.store import Store
from sparsemf.batch.worker import Reply

MOST_PAIRS = 300
"""Pairs of classes that get a certificate of their own; beyond, only those that the invariants do not separate."""
BUDGET = 10
"""Certificates per network for edges that the triangle inequality leaves possible, and for diameters."""

Ask = Callable[[str, list[dict[str, Any]]], Iterator[tuple[int, Reply]]]


@dataclass(frozen=True)
class Member:
    """A network that takes part: the id of its result, what a request needs, and ``ids``, the files by id of all
    results of the same content."""

    id: str
    entry: dict[str, Any]
    d: int
    m: int
    gated: bool
    ids: dict[str, str]
    name: str


@dataclass(frozen=True)
class Classes:
    """The document of classes.json, and the number of the class of every result."""

    document: dict[str, Any]
    number_of: dict[str, int] = field(default_factory=dict)


def classify(members: list[Member], ask: Ask, store: Store, settings: Settings, rel: float) -> Classes:
    """Sort networks into classes at relative ε = ``rel`` and write classes.json; the certificates go to certificates/.

    ``members`` in the order of the list; ``ask(stage, requests)`` yields (index, reply) in any order.  Certificates
    that the store holds already are not asked for again.
    """
    started = time.perf_counter()
    certified = _Certified(members, ask, store, settings, rel)
    failed: list[dict[str, Any]] = []
    known: dict[int, Invariants] = {}
    requests = [{"task": "invariants", "entry": member.entry} for member in members]
    for index, reply in ask("invariants", requests):
        if "ok" in reply:
            known[index] = Invariants.of(reply["ok"])
        else:
            failed.append({"id": members[index].id, **reply["failure"]})
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index in sorted(known):
        member = members[index]
        groups.setdefault((member.d, member.m, member.gated, known[index].law), []).append(index)
    graph = Graph(list(groups.values()), known, certified, rel, BUDGET)
    graph.compare()
    found = graph.classes(MOST_PAIRS)

    number = {index: k for k, cls in enumerate(found.classes, 1) for index in cls.members}
    shape = {index: key for key, indices in groups.items() for index in indices}
    listed = [
        {
            "id": k,
            "members": [name for index in cls.members for name in members[index].ids],
            "representative": members[cls.members[0]].id,
            "networks": len(cls.members),
            "kind": cls.kind,
            "eps": cls.eps,
            "diameter": {"lower": cls.diameter_lower, "upper": cls.diameter},
            "d": shape[cls.members[0]][0],
            "m": shape[cls.members[0]][1],
            "law": shape[cls.members[0]][3],
        }
        for k, cls in enumerate(found.classes, 1)
    ]
    pairs = [{"a": number[p.a], "b": number[p.b], **p.document()} for p in found.pairs]
    document = {
        **header("classes", 1, config={"rel_eps": rel, "rho": settings.rho, "seed": settings.seed, "norm": "l2"}),
        "files": {name: file for member in members for name, file in member.ids.items()},
        "certified": not failed
        and not found.by_invariants
        and all(p.verdict == "distinct" and p.how == "certificate" for p in found.pairs)
        and all(cls.kind != "chain" for cls in found.classes),
        "classes": listed,
        "pairs": pairs,
        "by_invariants": {"pairs": found.by_invariants, "least": found.least, "arithmetic": "float64, a-priori bounds"},
        "undecided": [[p["a"], p["b"]] for p in pairs if p["verdict"] == "undecided"],
        "edges": [certified.document(edge) for edge in certified.all()],
        "failed": sorted(failed, key=lambda record: record["id"]),
        "timing_s": {"total": time.perf_counter() - started},
    }
    store.keep_classes(document)
    return Classes(document, {name: number[i] for i in number for name in members[i].ids})


class _Certified:
    """The certificates: those of the store, and those asked for."""

    def __init__(self, members: list[Member], ask: Ask, store: Store, settings: Settings, rel: float) -> None:
        self.members, self.ask, self.store, self.settings, self.rel = members, ask, store, settings, rel
        self.edges: dict[tuple[int, int], Edge] = {}

    def __call__(self, stage: str, pairs: list[tuple[int, int]]) -> None:
        """Certify the pairs (a < b) that are not yet; all at once, so that the pool is busy."""
        missing = []
        for pair in dict.fromkeys(pairs):
            if pair in self.edges:
                continue
            document = self.store.certificate(self._name(pair))
            if document is None:
                missing.append(pair)
            else:
                self.edges[pair] = self._edge(pair, document)
        requests = [
            {"task": "certify", "a": self.members[a].entry, "b": self.members[b].entry, "rel_eps": self.rel}
            for a, b in missing
        ]
        for index, reply in self.ask(stage, requests) if requests else ():
            pair = missing[index]
            if "ok" in reply:
                self.store.keep_certificate(self._name(pair), reply["ok"])
                self.edges[pair] = self._edge(pair, reply["ok"])
            else:
                a, b = pair
                error = reply["failure"]["error"]
                self.edges[pair] = Edge(a, b, "failed", 0.0, float("inf"), 0.0, float("inf"), error)

    def all(self) -> list[Edge]:
        """All of them, in the order of the list."""
        return [self.edges[pair] for pair in sorted(self.edges)]

    def document(self, edge: Edge) -> dict[str, Any]:
        """An edge for classes.json."""
        failed = edge.verdict == "failed"
        return {
            "a": self.members[edge.a].id,
            "b": self.members[edge.b].id,
            "verdict": "undecided" if failed else edge.verdict,
            "lower": edge.lower,
            "upper": edge.upper if edge.upper < float("inf") else None,
            "eps": None if failed else edge.eps,
            "certificate": None if failed else f"certificates/{self._name((edge.a, edge.b))}.json",
            "error": edge.error,
        }

    def _name(self, pair: tuple[int, int]) -> str:
        """By content, file names and options, so that whatever enters the certificate changes its name."""
        a, b = (self.members[i] for i in pair)
        s = self.settings
        options = [s.map, s.activation, s.rho if s.data_sha256 is None else s.data_sha256, s.seed, self.rel]
        parts = [f"{x.name}|{x.entry['sha256']}|{x.entry['block']}|{x.entry['activation']}" for x in (a, b)]
        return f"pair--{digest(*parts, str(options))}"

    def _edge(self, pair: tuple[int, int], document: dict[str, Any]) -> Edge:
        bounds, eps_distinct = document["bounds"], document["eps_distinct"]
        upper = float("inf") if bounds["upper"] is None else bounds["upper"]
        reach = float("inf") if eps_distinct is None else eps_distinct
        return Edge(pair[0], pair[1], document["verdict"], bounds["lower"], upper, document["eps"], reach)
