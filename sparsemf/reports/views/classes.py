"""The classes of a batch: which checkpoints are the same function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparsemf.reports.fields import Fields


@dataclass(frozen=True)
class ClassView:
    """One class: ``edges`` are certified equivalences among its ``nodes`` (result ids, the representative first);
    ``members`` also has results of the same content."""

    number: int
    kind: str
    nodes: list[str]
    members: list[str]
    edges: list[tuple[str, str]]
    diameter: float | None
    diameter_lower: float | None
    eps: float | None

    @property
    def what(self) -> str:
        """Its kind in words."""
        return {
            "single": "one network",
            "clique": "every two are equal up to ε",
            "chain": "connected, not every two are proved equal up to ε",
        }.get(self.kind, self.kind)


@dataclass(frozen=True)
class ClassesView:
    """All classes, the pairs of classes that are undecided, and how much is certified."""

    rel_eps: float | None
    certified: bool
    classes: list[ClassView]
    undecided: list[tuple[int, int]]
    pairs: int
    by_invariants: int
    least: float | None
    certificates: int
    failed: list[tuple[str, str]]
    files: dict[str, str]

    @property
    def shared(self) -> list[ClassView]:
        """Classes of two results at least, the largest first."""
        return sorted((c for c in self.classes if len(c.members) > 1), key=lambda c: (-len(c.members), c.number))

    @property
    def number_of(self) -> dict[str, int]:
        """Result → its class."""
        return {member: c.number for c in self.classes for member in c.members}


def classes_view(document: Mapping[str, Any]) -> ClassesView | None:
    """From the content of classes.json; None where a batch has none."""
    fields = Fields.of(document, "classes")
    if not fields:
        return None
    edges = [(row.text("a"), row.text("b")) for row in fields.rows("edges") if row.text("verdict") == "equivalent"]
    linked = {node for edge in edges for node in edge}
    listed = []
    for row in fields.rows("classes"):
        members = [str(item) for item in row.items("members")]
        own, first = set(members), row.text("representative")
        nodes = [first, *(name for name in members if name != first and name in linked)]
        size = row.sub("diameter")
        listed.append(
            ClassView(
                number=row.count("id") or len(listed) + 1,
                kind=row.text("kind"),
                nodes=nodes,
                members=members,
                edges=[edge for edge in edges if edge[0] in own and edge[1] in own],
                diameter=size.number("upper"),
                diameter_lower=size.number("lower"),
                eps=row.number("eps"),
            )
        )
    invariants = fields.sub("by_invariants")
    return ClassesView(
        rel_eps=fields.sub("config").number("rel_eps"),
        certified=fields.flag("certified"),
        classes=listed,
        undecided=[(int(a), int(b)) for a, b in fields.points("undecided")],
        pairs=len(fields.items("pairs")),
        by_invariants=invariants.count("pairs") or 0,
        least=invariants.number("least"),
        certificates=sum(row.data.get("certificate") is not None for row in fields.rows("edges")),
        failed=[(row.text("id"), row.text("error")) for row in fields.rows("failed")],
        files={str(key): str(value) for key, value in fields.sub("files").data.items()},
    )
