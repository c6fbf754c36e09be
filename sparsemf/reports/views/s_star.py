"""The reported S*, and which sentence is true of it."""

from __future__ import annotations

from dataclasses import dataclass

from sparsemf.reports.fields import Fields
from sparsemf.reports.views.staircase import StaircaseView

SHORT_PLATEAU = 2.0
"""A plateau whose ends differ by less than this factor is called short."""


@dataclass(frozen=True)
class SStarView:
    """The reported S*; ``case`` says which sentence is true of it.

    "plateau": certified on an interval · "short": so, but the interval is short · "affine": S* = 0 · "at": certified at
    the ε that was asked for · "exact", "exact_bracket": counted at ε = 0 · "bracket": between two numbers · "upper": no
    lower bound exists · "unreachable": ε is below what can be proved of the largest dictionary · "none": the document
    has no S*.
    """

    case: str
    value: int | None
    lower: int | None
    upper: int | None
    eps: float | None
    eps_end: float | None
    rel_eps: float | None
    rel_eps_end: float | None
    strength: float | None
    noun: str

    @classmethod
    def of(cls, fields: Fields, stairs: StaircaseView, norm: float | None) -> SStarView:
        """From the field ``s_star``."""
        value, lower, upper = fields.count("value"), fields.count("lower"), fields.count("upper")
        eps, end = _ends(fields, "eps")
        rel, rel_end = _ends(fields, "rel_eps")
        if rel is None and norm:
            rel = None if eps is None else eps / norm
            rel_end = None if end is None else end / norm
        strength = fields.number("strength")
        certified = fields.flag("certified")
        if value is None:
            case = "none"
        elif fields.text("kind").startswith("exact"):
            case = "exact" if certified else "exact_bracket"
        elif certified:
            if eps == end:
                case = "at"
            elif value == 0:
                case = "affine"
            else:
                case = "short" if strength is not None and strength < SHORT_PLATEAU else "plateau"
        elif stairs.sizes and not stairs.has_lower:
            case = "upper"
        else:
            reached = stairs.reaches(upper, eps)
            case = "bracket" if reached and lower != upper else "unreachable"
        noun = fields.text("counts", "atoms").removesuffix("s") or "atom"
        # a rank counts atoms
        noun = "atom" if noun == "rank" else noun
        return cls(case, value, lower, upper, eps, end, rel, rel_end, strength, noun)

    @property
    def certified(self) -> bool:
        """Whether the number itself is proved."""
        return self.case in ("plateau", "short", "affine", "at", "exact")


def _ends(fields: Fields, key: str) -> tuple[float | None, float | None]:
    """Both ends of an interval; (None, None) where it is missing."""
    ends = fields.numbers(key)
    return (ends[0], ends[1]) if len(ends) == 2 else (None, None)
