"""Where a network came from, under which input law it was looked at, and how to look again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from sparsemf.reports.fields import Fields


@dataclass(frozen=True)
class Source:
    """Where a network came from."""

    path: str
    block: str
    activation: str
    width: int | None
    d: int | None
    m: int | None
    precision: str
    sha256: str
    arrays_sha256: str = ""

    @classmethod
    def of(cls, fields: Fields) -> Source:
        """From an ``input`` record."""
        return cls(
            path=fields.text("path"),
            block=fields.text("block"),
            activation=fields.text("activation"),
            width=fields.count("width"),
            d=fields.count("d"),
            m=fields.count("m"),
            precision=fields.text("precision"),
            sha256=fields.text("sha256"),
            arrays_sha256=fields.text("arrays_sha256"),
        )

    @property
    def rows(self) -> list[tuple[str, str]]:
        """For a table of provenance."""
        named = (
            ("file", self.path),
            ("block", self.block),
            ("activation", self.activation),
            ("d → width → m", " → ".join(str(n) for n in (self.d, self.width, self.m) if n is not None)),
            ("stored as", self.precision),
            ("sha256 of the file", self.sha256),
            ("sha256 of its arrays", self.arrays_sha256),
        )
        return [(name, text) for name, text in named if text]

    @property
    def title(self) -> str:
        """File and block."""
        return " · ".join(part for part in (self.path, self.block) if part) or "unnamed network"


def law_words(config: Fields) -> str:
    """The input law ρ in words."""
    rho = config.text("rho", "gaussian")
    if rho == "gaussian":
        return "the standard Gaussian N(0,\u202fI)"
    if rho == "layernorm":
        return "the Gaussian N(β,\u202fdiag\u202fγ²) of the block's own LayerNorm"
    rows = config.count("rows")
    named = config.text("data") or rho
    return f"the {rows} rows of {named}" if rows else named


def law_symbol(config: Fields) -> str:
    """The norm's name on an axis."""
    return "L²(data)" if config.text("rho") == "empirical" else "L²(ρ)"


def command(source: Source, config: Fields) -> str:
    """The command that makes the document again."""
    words = ["sparsemf", "analyze", source.path or "CKPT"]
    if source.block and source.block != "main":
        words += ["--block", source.block]
    if source.activation:
        words += ["--activation", source.activation]
    rho = config.text("data") or config.text("rho", "gaussian")
    if rho != "gaussian":
        words += ["--rho", rho]
    if config.text("affine", "free") != "free":
        words += ["--affine", config.text("affine")]
    for option in ("eps", "rel_eps"):
        value = config.number(option)
        if value is not None:
            words += [f"--{option.replace('_', '-')}", repr(value)]
    return " ".join(shlex.quote(word) for word in words) + " --html report.html"
