"""The document of ``sparsemf certify`` as the page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparsemf.reports.fields import Fields
from sparsemf.reports.views.source import Source, law_words

VERDICTS = ("equivalent", "distinct", "undecided")


@dataclass(frozen=True)
class CertificateView:
    """Everything the page of one pair shows; bounds are absolute in ``norm``."""

    name: str
    a: Source
    b: Source
    verdict: str
    norm: str
    norm_symbol: str
    law_name: str
    radius: float | None
    eps: float | None
    eps_distinct: float | None
    rel_eps: float | None
    lower: float | None
    upper: float | None
    matching: Fields
    orbit: Fields
    witness: list[float]
    gap: float | None
    separation_degree: int | None
    seal: str
    arithmetic: str
    warnings: list[str]
    config: list[tuple[str, str]]
    timing: float | None
    version: str
    h: int

    @property
    def provenance(self) -> list[tuple[str, str]]:
        """How the certificate was made, and its seal."""
        timing = "" if self.timing is None else f"{self.timing:.3g} s"
        rows = [*self.config, ("arithmetic", self.arithmetic), ("seal", self.seal), ("sparsemf", self.version)]
        return [(name, text) for name, text in [*rows, ("time", timing)] if text]


def certificate_view(document: Mapping[str, Any], name: str, h: int = 2) -> CertificateView:
    """Read a document of ``sparsemf certify``."""
    fields = Fields(document)
    inputs, bounds, witness = fields.sub("inputs"), fields.sub("bounds"), fields.sub("witness")
    norm, config = fields.text("norm", "l2"), fields.sub("config")
    verdict = fields.text("verdict", "undecided")
    eps = fields.number("eps")
    eps_distinct = fields.number("eps_distinct")
    seal = fields.data.get("seal")
    return CertificateView(
        name=name,
        a=Source.of(inputs.sub("a")),
        b=Source.of(inputs.sub("b")),
        verdict=verdict if verdict in VERDICTS else "undecided",
        norm=norm,
        norm_symbol="sup" if norm == "sup" else "L²(data)" if config.text("rho") == "empirical" else "L²(ρ)",
        law_name=law_words(config),
        radius=fields.number("radius"),
        eps=eps,
        eps_distinct=eps if eps_distinct is None else eps_distinct,
        rel_eps=fields.number("rel_eps"),
        lower=bounds.number("lower"),
        upper=bounds.number("upper"),
        matching=fields.sub("matching"),
        orbit=fields.sub("orbit_distance"),
        witness=witness.vector("x"),
        gap=witness.number("gap"),
        separation_degree=fields.count("separation_degree"),
        seal=seal if isinstance(seal, str) else "",
        arithmetic=fields.text("arithmetic"),
        warnings=[str(item) for item in fields.items("warnings")],
        config=config.plain(),
        timing=fields.sub("timing_s").number("total"),
        version=fields.text("version"),
        h=h,
    )
