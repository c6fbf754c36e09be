"""The fields ``dual`` and ``path`` of a document of ``sparsemf analyze``: slices of η, and the atoms as S grows."""

from __future__ import annotations

from dataclasses import dataclass

from sparsemf.exceptions import InputError
from sparsemf.reports.fields import Fields

_BESIDE = {2: "quadratic functions", 1: "affine functions", 0: "constants"}
"""What p is orthogonal to, by the degree up to which polynomials are free."""


@dataclass(frozen=True)
class MarkView:
    """An atom on a slice: its number on the page (1 is the first row of the table), place and η there."""

    index: int
    at: list[float]
    eta: float


@dataclass(frozen=True)
class SliceView:
    """η (or ‖η‖) at evenly spaced places of a line through the atoms ``through`` (numbers on the page).

    ``along``: components along these atoms' coefficients, of several outputs only.
    """

    through: list[int]
    low: float
    high: float
    eta: list[float | None]
    along: list[list[float | None]]
    marks: list[MarkView]

    @property
    def places(self) -> list[float]:
        """Where η was evaluated."""
        step = (self.high - self.low) / max(len(self.eta) - 1, 1)
        return [self.low + i * step for i in range(len(self.eta))]


@dataclass(frozen=True)
class PlaneView:
    """η (or ‖η‖) on a square grid over [−reach, reach]², the first row lowest; None where nothing was evaluated."""

    through: list[int]
    reach: float
    rows: list[list[float | None]]
    marks: list[MarkView]


@dataclass(frozen=True)
class DualView:
    """Slices of the dual certificate, or why there are none."""

    reason: str
    sphere: bool
    signed: bool
    folded: bool
    beside: str
    definition: str
    parameters: str
    degree: int | None
    first: int
    norm: float | None
    largest: float | None
    below_one: bool
    elsewhere: float | None
    away: float | None
    samples: int | None
    slices: list[SliceView]
    plane: PlaneView | None

    @classmethod
    def of(cls, fields: Fields) -> DualView | None:
        """From the field ``dual``; None where the document has none."""
        if not fields:
            return None
        free = int(fields.number("free_degree") or 0)
        return cls(
            reason=fields.text("reason"),
            sphere=fields.text("unit") == "degrees",
            signed=fields.flag("signed"),
            folded=fields.flag("folded"),
            beside=_BESIDE.get(free, ""),
            definition=fields.text("definition"),
            parameters=fields.text("parameters"),
            degree=fields.count("degree"),
            first=free + 1,
            norm=fields.number("norm"),
            largest=fields.number("largest"),
            below_one=fields.flag("below_one"),
            elsewhere=fields.number("elsewhere"),
            away=fields.number("away"),
            samples=fields.count("samples"),
            slices=[_slice(row) for row in fields.rows("slices")],
            plane=_plane(fields.sub("plane")),
        )


@dataclass(frozen=True)
class AtomOnPath:
    """An atom of one stage: ``origin`` and ``nearest`` are places in the stage before, ``index`` a row of the
    page."""

    position: float
    size: float
    origin: int | None
    nearest: int | None
    index: int | None


@dataclass(frozen=True)
class StageView:
    """The dictionary of ``size`` atoms and its error."""

    size: int
    error: float | None
    atoms: list[AtomOnPath]


@dataclass(frozen=True)
class PathView:
    """The atoms as S grows, or why they are not shown."""

    reason: str
    position: str
    sphere: bool
    folded: bool
    chosen: int | None
    stages: list[StageView]

    @classmethod
    def of(cls, fields: Fields) -> PathView | None:
        """From the field ``path``; None where the document has none."""
        if not fields:
            return None
        return cls(
            reason=fields.text("reason"),
            position=fields.text("position"),
            sphere=fields.text("unit") == "degrees",
            folded=fields.flag("folded"),
            chosen=fields.count("chosen"),
            stages=[_stage(row) for row in fields.rows("stages")],
        )

    @property
    def last(self) -> int:
        """The largest S."""
        return self.stages[-1].size if self.stages else 0


def _numbers(fields: Fields, key: str) -> list[int]:
    return [int(k) + 1 for k in fields.vector(key)]


def _marks(fields: Fields) -> list[MarkView]:
    return [
        MarkView((row.count("atom") or 0) + 1, row.vector("at"), row.number("eta") or 0.0)
        for row in fields.rows("marks")
    ]


def _slice(fields: Fields) -> SliceView:
    eta, low, high = fields.numbers("eta"), fields.number("from"), fields.number("to")
    if low is None or high is None or not low < high or len(eta) < 2:
        raise InputError(f"{fields.where}: expected at least two values of eta between from < to")
    along = [Fields({"along": row}, fields.where).numbers("along") for row in fields.items("along")]
    return SliceView(_numbers(fields, "through"), low, high, eta, along, _marks(fields))


def _plane(fields: Fields) -> PlaneView | None:
    reach = fields.number("reach")
    rows = [Fields({"eta": row}, fields.where).numbers("eta") for row in fields.items("eta")]
    if not rows or not reach:
        return None
    if any(len(row) != len(rows) for row in rows):
        raise InputError(f"{fields.where}.eta: expected a square of numbers")
    return PlaneView(_numbers(fields, "through"), reach, rows, _marks(fields))


def _stage(fields: Fields) -> StageView:
    atoms = []
    for row in fields.rows("atoms"):
        index = row.count("row")
        atoms.append(
            AtomOnPath(
                row.number("position") or 0.0,
                row.number("size") or 0.0,
                row.count("from"),
                row.count("near"),
                None if index is None else index + 1,
            )
        )
    return StageView(fields.count("S") or 0, fields.number("error"), atoms)
