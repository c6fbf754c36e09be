"""The staircase of a document: both curves, its plateaus, and S*(ε) at any ε."""

from __future__ import annotations

from dataclasses import dataclass

from sparsemf.reports.fields import Fields

_GLANCE = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class Plateau:
    """S*(ε) = ``size`` for every ε in [low, high); ``high`` is None when unbounded."""

    size: int
    low: float
    high: float | None
    strength: float | None


@dataclass(frozen=True)
class Bracket:
    """``lower`` ≤ S*(ε) ≤ ``upper``; ``upper`` is None where no listed dictionary comes that close."""

    eps: float
    relative: float
    lower: int
    upper: int | None


@dataclass(frozen=True)
class StaircaseView:
    """Curves over ``sizes`` (ascending), absolute in the document's norm; ``lower`` is 0 where nothing is excluded."""

    sizes: list[int]
    upper: list[float]
    lower: list[float]
    directions: list[float]
    plateaus: list[Plateau]

    @classmethod
    def of(cls, document: Fields) -> StaircaseView:
        """From the fields ``staircase`` and ``plateaus``."""
        steps = []
        for row in document.rows("staircase"):
            size, upper = row.count("S"), row.number("upper")
            if size is not None and upper is not None:
                lower = row.number("lower") or 0.0
                directions = row.number("lower_directions")
                steps.append((size, upper, lower, lower if directions is None else directions))
        steps.sort()
        plateaus = []
        for row in document.rows("plateaus"):
            size, ends = row.count("S"), row.numbers("eps")
            if size is not None and len(ends) == 2 and ends[0] is not None:
                plateaus.append(Plateau(size, ends[0], ends[1], row.number("strength")))
        return cls(
            sizes=[step[0] for step in steps],
            upper=[step[1] for step in steps],
            lower=[step[2] for step in steps],
            directions=[step[3] for step in steps],
            plateaus=plateaus,
        )

    @property
    def has_lower(self) -> bool:
        """Whether anything is excluded at all."""
        return any(value > 0 for value in self.lower)

    @property
    def lower_ends(self) -> int | None:
        """The first S with L(S) = 0, when L is positive before it."""
        if not self.has_lower:
            return None
        return next((s for s, value in zip(self.sizes, self.lower, strict=True) if value <= 0), None)

    @property
    def differing_directions(self) -> bool:
        """Whether the lower curve that counts directions is visibly below the one that counts atoms."""
        return any(b < 0.97 * a for a, b in zip(self.lower, self.directions, strict=True))

    def reaches(self, size: int | None, eps: float | None) -> bool:
        """Whether the dictionary of ``size`` atoms is proved to come within ``eps`` (or the document does not say)."""
        at = dict(zip(self.sizes, self.upper, strict=True)).get(-1 if size is None else size)
        return at is None or eps is None or at <= eps

    def bracket(self, eps: float, norm: float) -> Bracket:
        """What both curves say about S*(eps); sizes the document leaves out count as not excluded."""
        lower = max((s + 1 for s, value in zip(self.sizes, self.lower, strict=True) if value > eps), default=0)
        upper = next((s for s, value in zip(self.sizes, self.upper, strict=True) if value <= eps), None)
        return Bracket(eps, eps / norm, lower, upper)

    def glance(self, norm: float | None, least: float) -> list[Bracket]:
        """S*(ε) at round relative errors between what no atom at all reaches and ``least`` (absolute)."""
        if not norm or not self.sizes:
            return []
        return [self.bracket(r * norm, norm) for r in _GLANCE if least <= r * norm < self.upper[0]]
