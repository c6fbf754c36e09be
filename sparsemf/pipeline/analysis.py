"""What is asked of an analysis, and what it found, with its JSON document and its certificates."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sparsemf.atomic import header, input_record, plain
from sparsemf.certificates.checker.arithmetic import Undefined
from sparsemf.certificates.checker.document import seal
from sparsemf.certificates.equivalence import raw_of
from sparsemf.certificates.exact import ExactCount
from sparsemf.certificates.sparsity import RESOLUTION, SStar, Staircase
from sparsemf.certificates.witnesses import exact_claim, sparsity_claim
from sparsemf.exceptions import InputError
from sparsemf.identifiability import LowerCurve, ThresholdNumber
from sparsemf.identifiability.gated_flattenings import rows_per_atom
from sparsemf.measures import ARITHMETIC, Bounds, Empirical, Gaussian, InputLaw, Network
from sparsemf.pipeline.atoms import LISTED_NUMBERS, AtomReport, in_input_coordinates
from sparsemf.pipeline.coefficients import CoefficientBounds
from sparsemf.pipeline.laws import describe
from sparsemf.recovery import Effort, GaussianGeometry, Progress, UpperCurve
from sparsemf.symmetry import Quotient

WIDTH_SEARCHED = 64
"""Up to this width the least width of a relu network is searched for: a mixed-integer program may take seconds."""


def silent(_stage: str, _fraction: float) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Question:
    """What :func:`~sparsemf.pipeline.analyze.analyze` is asked about a network and a law; its arguments, by name.

    Raises :class:`InputError` for an unknown name of ``effort``.
    """

    rho: str = "gaussian"
    eps: float | None = None
    rel_eps: float | None = None
    resolution: float = RESOLUTION
    effort: Effort | str | None = None
    progress: Progress = silent
    affine: str = "free"

    def __post_init__(self) -> None:
        _ = self.search

    @property
    def search(self) -> Effort | None:
        """How hard explicit networks are looked for."""
        return Effort.named(self.effort) if isinstance(self.effort, str) else self.effort

    def error(self, norm: Bounds) -> float | None:
        """The ε at which S* is asked for; None: at the longest certified plateau."""
        if self.eps is not None:
            return self.eps
        return None if self.rel_eps is None else self.rel_eps * norm.lower

    def config(self, law: InputLaw, resolution: float) -> dict[str, Any]:
        """The ``config`` of the documents; ``resolution``: the one that was reached."""
        return {
            **describe(law, self.rho),
            "eps": self.eps,
            "rel_eps": self.rel_eps,
            "resolution": resolution,
            "affine": self.affine,
            **({"effort": self.effort} if isinstance(self.effort, str) and self.effort != "usual" else {}),
        }


class Clock:
    """Wall time of the steps of an analysis."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = self._start = time.perf_counter()

    def __call__(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self.laps["total"] = now - self._start
        self._last = now


@dataclass(frozen=True, eq=False)
class Analysis:
    """Everything ``analyze`` found; :meth:`document` is its JSON form.

    ``free``: the degree up to which polynomials are free beside the atoms of the staircase; 0 and −1: the linear part,
    and the constant too, are charged to the atoms (:mod:`~sparsemf.pipeline.charged`).
    """

    source: Network
    law: InputLaw
    rho: str
    quotient: Quotient
    domain_inactive: dict[str, int]
    norm: Bounds
    energy: dict[str, float]
    staircase: Staircase
    upper: UpperCurve | None
    lower: LowerCurve | None
    s_star: SStar
    dictionary: Network
    atoms: list[AtomReport]
    projection: dict[str, Any]
    threshold: ThresholdNumber | None
    exact: ExactCount
    warnings: list[str]
    config: dict[str, Any]
    timing: dict[str, float] = field(default_factory=dict)
    coefficients: CoefficientBounds | None = None
    free: int = 1

    def dictionary_of(self, size: int) -> Network:
        """The explicit network of at most ``size`` atoms behind U(size), in input coordinates.

        Raises :class:`InputError` where there is no such curve (S* is an exact count).
        """
        if self.upper is None:
            raise InputError("dictionary: expected a network with a staircase, got one whose S* is an exact count")
        return in_input_coordinates(self.upper.network(min(size, self.upper.upper.size - 1)), self.law)

    def document(self) -> dict[str, Any]:
        """The JSON document of `sparsemf analyze`."""
        q, stairs = self.quotient, self.staircase
        return {
            **header("analyze", 1, input=input_record(self.source), config=self.config),
            "arithmetic": ARITHMETIC,
            "active": {
                "width": q.active,
                "inactive": q.inactive,
                "domain_inactive": self.domain_inactive,
            },
            "quotient": {
                "width": q.network.width,
                "flips": q.flips,
                "merged": q.merged,
                "cancelled": q.cancelled,
                "affine_norm": float(np.hypot(np.linalg.norm(q.network.affine), np.linalg.norm(q.network.offset))),
                "error": _finite(q.error),
            },
            "function_norm": None if self._norm_unknown else 0.5 * (self.norm.lower + self.norm.upper),
            "function_norm_bounds": {"lower": self.norm.lower, "upper": self.norm.upper},
            "norm_beyond_affine": stairs.norm_beyond_affine,
            "free_degree": None if self.upper is None else self.free,
            "energy": self.energy,
            "dictionary": {
                "size": self.dictionary.width,
                "atoms": [
                    {
                        "w": a.w.tolist(),
                        "b": a.b,
                        "alpha": a.alpha.tolist(),
                        "particles": a.particles,
                        "spread": a.spread,
                        **({} if a.gate is None else {"gate": a.gate[0].tolist(), "gate_bias": a.gate[1]}),
                    }
                    for a in self.atoms
                ],
                "affine": {"A": self.dictionary.affine.tolist(), "c": self.dictionary.offset.tolist()}
                if self.dictionary.affine.size <= LISTED_NUMBERS
                else None,
                **_quadratic(self.dictionary),
                "error": float(stairs.upper[min(self.s_star.value, stairs.upper.size - 1)]),
            },
            "s_star": {
                "value": self.s_star.value,
                "certified": self.s_star.certified,
                "lower": self.s_star.lower,
                "upper": self.s_star.upper,
                "eps": [self.s_star.eps[0], _finite(self.s_star.eps[1])],
                "rel_eps": [self.s_star.eps[0] / self._scale, _finite(self.s_star.eps[1] / self._scale)],
                "strength": _finite(self.s_star.strength),
                "counts": self.s_star.counts,
                "lower_by": self._lower_by(self.s_star.lower - 1),
                "kind": ("exact " if self._at_zero else "") + ("certificate" if self.s_star.certified else "bracket"),
            },
            "exact": self.exact.document() | ({} if self.free > 0 else {"affine": "free", "bounds": "from below"}),
            "staircase": [
                {
                    "S": size,
                    "upper": float(stairs.upper[size]),
                    "lower": float(stairs.lower[size]),
                    "lower_directions": float(stairs.lower_directions[size]),
                    "lower_by": self._lower_by(size),
                }
                for size in range(stairs.upper.size)
            ],
            "plateaus": [
                {"S": p.size, "eps": [p.low, _finite(p.high)], "strength": _finite(p.strength)}
                for p in stairs.plateaus()
            ],
            "resolution": stairs.resolution,
            "spectra": [
                {
                    "p": s.flattening.p,
                    "degrees": [s.flattening.low, s.flattening.high],
                    "counts": s.flattening.counts,
                    "per_atom": rows_per_atom(s.flattening) if self.source.gated else 1,
                    "singular_values": np.sqrt(s.energy[:512]).tolist(),
                    "margin": _finite(float(np.sqrt(s.margin))),
                }
                for s in (self.lower.spectra if self.lower else [])
            ],
            **({} if self.lower is None or self.lower.kinks is None else {"kinks": self.lower.kinks.document()}),
            "s_up": None
            if self.threshold is None
            else {
                "value": self.threshold.value,
                "lambda": self.threshold.threshold,
                "degree": self.threshold.degree,
                "kind": "a reading that fails: no bound of S*",
                "reason": self.threshold.reason,
            },
            **({} if self.coefficients is None else self.coefficients.document()),
            "projection": self.projection,
            "dual": self.dual,
            "path": self.path,
            "warnings": self.warnings,
            "timing_s": self.timing,
        }

    @cached_property
    def dual(self) -> dict[str, Any]:
        """Slices of the dictionary's dual certificate, or the reason why there are none (computed when first read)."""
        from sparsemf.pipeline.dual import dual_document

        if self.upper is None:
            return {"reason": "S* is an exact count: no program over measures stands behind it"}
        geometry = self.upper.problem.geometry
        degree = geometry.degree if isinstance(geometry, GaussianGeometry) else None
        return dual_document(self.dictionary, self.law, degree, self.source.m, self.free)

    @cached_property
    def path(self) -> dict[str, Any]:
        """How the atoms evolve with S, or the reason why it is not shown (computed when first read)."""
        from sparsemf.pipeline.path import path_document

        white = self.law.whiten(self.dictionary) if isinstance(self.law, Gaussian) else self.dictionary
        return path_document(self.upper, self.s_star.value, white)

    def _lower_by(self, size: int) -> str | None:
        """What proves L(size): "kinks" or "flattenings"; on data "projection" for S = 0 and then "outputs", the rank of
        f's values; None where L is 0."""
        if self.lower is None or not 0 <= size < self.staircase.lower.size or not self.staircase.lower[size] > 0:
            return None
        if isinstance(self.law, Empirical):
            return "projection" if size == 0 else "outputs"
        by = self.lower.by_kinks
        return "kinks" if size < by.size and by[size] else "flattenings"

    @property
    def _at_zero(self) -> bool:
        """Whether S* is the exact count at ε = 0."""
        return self.upper is None and self.s_star.eps == (0.0, 0.0)

    @property
    def _norm_unknown(self) -> bool:
        """Whether only an upper bound of ‖f‖ is known."""
        return self.upper is None and self.norm.lower == 0.0 < self.norm.upper

    @property
    def _scale(self) -> float:
        return self.norm.upper or 1.0

    def certificate(self) -> dict[str, Any]:
        """The sparsity certificate, sealed; its numbers are those the independent checker proves.

        Where S* is an exact count: :meth:`exact_certificate`.  Raises :class:`InputError` where numbers leave the range
        that the checker can bound.
        """
        if self.upper is None:
            return self.exact_certificate()
        try:
            body = sparsity_claim(
                self.source,
                self.law,
                self.s_star,
                self.dictionary,
                self.lower.groups if self.lower is not None else (),
                self.lower.kink_matrices if self.lower is not None else (),
                self.free if self.free < 1 else None,
            )
        except Undefined as error:
            raise InputError(
                f"certificate: expected numbers that `verify` can bound, got a network of which {error}; scale it, or "
                "do without the certificate"
            ) from None
        version = 6 if self.free < 1 else 4 if self.source.gated else {2: 5, 1: 3}[self.free]
        return self._sealed("sparsity", version, body)

    def exact_certificate(self) -> dict[str, Any]:
        """The certificate of S* at ε = 0, sealed.

        Raises :class:`InputError` where the checker knows no theorem for this network's count.
        """
        return self._sealed("exact", 1, exact_claim(self.source, self.law, self.exact))

    def _sealed(self, name: str, version: int, body: dict[str, Any]) -> dict[str, Any]:
        document = {
            **header(name, version, config=self.config),
            "inputs": {"a": {**input_record(self.source), "arrays_sha256": raw_of(self.source).sha256}},
            "arithmetic": ARITHMETIC,
            **body,
        }
        document = plain(document)
        return {**document, "seal": seal(document)}


def _quadratic(dictionary: Network) -> dict[str, Any]:
    """The quadratic part of a dictionary, where it is small enough to be listed."""
    form = dictionary.quadratic
    return {"quadratic": form.tolist()} if form is not None and form.size <= LISTED_NUMBERS else {}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def uncertain(found: SStar) -> list[str]:
    """The warning that S* is a bracket, where it is one."""
    if found.certified:
        return []
    return [f"S* is between {found.lower} and {found.upper} at ε = {found.eps[0]:.3g}: not certified"]
