"""A page that is an article: sections with sentences, tables and pictures, each with its kind of knowledge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

Mark = Literal["cert", "est", "", "both"]


@dataclass(frozen=True)
class Table:
    """A table; cells are text, the first column names the row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    mark: Mark = ""


@dataclass(frozen=True)
class Picture:
    """A picture with what it shows written above it."""

    caption: str
    drawing: Markup
    mark: Mark = ""


@dataclass(frozen=True)
class Section:
    """``verdict``: "holds", "reading", "fails", "undecided" or "", with ``answer`` as its sentence."""

    title: str
    paragraphs: Sequence[str] = ()
    points: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    verdict: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Study:
    """The whole page."""

    title: str
    kind: str
    lead: Sequence[str]
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    warnings: Sequence[str] = ()
    settings: Sequence[tuple[str, str]] = ()


VERDICTS = {
    "holds": "holds",
    "reading": "holds under our reading",
    "fails": "fails when read literally",
    "undecided": "undecided",
}
