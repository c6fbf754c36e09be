"""Analyze: network → active component → quotient → atoms → certified staircase → one document."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.atomic import header, input_record, plain
from sparsemf.certificates.checker.document import seal
from sparsemf.certificates.equivalence import raw_of
from sparsemf.certificates.exact import ExactCount, exact_count
from sparsemf.certificates.sparsity import RESOLUTION, SStar, Staircase, staircase
from sparsemf.certificates.witnesses import exact_claim, sparsity_claim
from sparsemf.exceptions import InputError
from sparsemf.identifiability import LowerCurve, ThresholdNumber, lower_curve, s_up
from sparsemf.identifiability.gated_flattenings import rows_per_atom
from sparsemf.measures import ARITHMETIC, Atoms, Bounds, Empirical, Gaussian, InputLaw, Network
from sparsemf.pipeline.charged import charged_reduction, enough_atoms, free_of, refused
from sparsemf.pipeline.coefficients import CoefficientBounds, coefficient_bounds
from sparsemf.pipeline.coordinates import input_coordinates
from sparsemf.pipeline.laws import describe
from sparsemf.pipeline.reduction import enough, low_norms, norm_bounds, reduced
from sparsemf.recovery import Effort, GaussianGeometry, Progress, UpperCurve, upper_curve
from sparsemf.symmetry import Quotient, Section, point_distances, quotient

Array = NDArray[np.float64]

_ATOM_NUMBERS = 400_000
_PROJECTED = 3000
_WIDTH_SEARCHED = 64
"""Up to this width the least width of a relu network is searched for: a mixed-integer program may take seconds."""


def _silent(_stage: str, _fraction: float) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, eq=False)
class AtomReport:
    """One atom in input coordinates, and the particles of the source nearest to it in the quotient."""

    w: Array
    b: float
    alpha: Array
    particles: int
    spread: float
    gate: tuple[Array, float] | None = None


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
                if self.dictionary.affine.size <= _ATOM_NUMBERS
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
        """What proves L(size): "kinks", "flattenings" or, on data, "projection"; None where L is 0."""
        if self.lower is None or not 0 <= size < self.staircase.lower.size or not self.staircase.lower[size] > 0:
            return None
        if isinstance(self.law, Empirical):
            return "projection"
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

        Where S* is an exact count: :meth:`exact_certificate`.
        """
        if self.upper is None:
            return self.exact_certificate()
        body = sparsity_claim(
            self.source,
            self.law,
            self.s_star,
            self.dictionary,
            self.lower.groups if self.lower is not None else (),
            self.lower.kink_matrices if self.lower is not None else (),
            self.free if self.free < 1 else None,
        )
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
    return {"quadratic": form.tolist()} if form is not None and form.size <= _ATOM_NUMBERS else {}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def without_staircase(network: Network, law: InputLaw | None = None, affine: str = "free") -> str | None:
    """Why there is no staircase for a network, or None where there is one.

    Plain networks have one under every law: under a Gaussian one (the default) L asks for nothing but Hermite tensors,
    U for inner products.  Gated ones have one there where the flips of the gate cost a quadratic form and its slope is
    bounded.  On data every network has an upper curve, unless more quadratic polynomials are free than can be formed.
    """
    if isinstance(law, Empirical):
        from sparsemf.pipeline.data import free_on_data, too_many

        return too_many(network, law, free_on_data(network, affine))
    activation = network.activation
    relation = activation.relation
    bent = activation.homogeneous not in (None, 1) or (relation is not None and relation.quadratic != 0)
    if network.gated:
        # a linear gate leaves no atoms
        bad = activation.kind not in ("atoms", "frequencies", "matrix") or bent or not np.isfinite(activation.lipschitz)
        return (
            f"a gated block of {activation.name}, whose flips are not free or whose slope is unbounded" if bad else None
        )
    return None


def analyze(
    network: Network,
    law: InputLaw | None = None,
    rho: str = "gaussian",
    eps: float | None = None,
    rel_eps: float | None = None,
    resolution: float = RESOLUTION,
    effort: Effort | str | None = None,
    progress: Progress = _silent,
    affine: str = "free",
) -> Analysis:
    """The sparse dictionary and certified S* staircase of a network.

    ``law`` defaults to N(0, I); ``eps`` (absolute) or ``rel_eps`` (of ‖f‖) asks for S* at that error instead of the
    longest certified plateau; ``resolution`` is the least error, relative to ‖f‖ without its affine part, on which
    plateaus are compared.  ``effort``: how hard explicit networks are looked for, an
    :class:`~sparsemf.recovery.Effort` or one of its names.  ``affine`` says what atoms need not make: "free" an affine
    function (what flips cost; of gated blocks a quadratic polynomial), "offset" a constant, "charged" nothing; in the
    last two cases S*, both curves and the dictionary are those of networks without A (and c), and ``exact`` is a lower
    bound.  Raises :class:`InputError` where that is not known.  Where no staircase is known, S* is the exact
    count at ε = 0 (:mod:`sparsemf.pipeline.exact`).
    """
    law = law or Gaussian.standard(network.d)
    charge = free_of(affine)
    asked = {"effort": effort} if isinstance(effort, str) and effort != "usual" else {}
    effort = Effort.named(effort) if isinstance(effort, str) else effort
    if charge < 1:
        refused(network, affine)
    without = without_staircase(network, law, affine)
    if network.gated and without is None and isinstance(law, Gaussian):
        from sparsemf.pipeline.gated import gated_analysis

        found = gated_analysis(network, law, rho, eps, rel_eps, resolution, effort, progress, affine)
        return replace(found, config=found.config | asked)
    if without is not None and charge < 1:
        raise InputError(f"--affine {affine}: expected a network with a staircase, got {without}; use --affine free")
    if without is not None:
        from sparsemf.pipeline.exact import exact_analysis

        return exact_analysis(network, law, rho, eps, rel_eps, resolution, without)
    if isinstance(law, Empirical):
        from sparsemf.pipeline.data import data_analysis

        found = data_analysis(network, law, rho, eps, rel_eps, resolution, effort, progress, affine)
        return replace(found, config=found.config | asked)
    clock = Clock()
    whole = quotient(network, charge if charge < 1 else 2)
    clock("quotient")
    warnings: list[str] = []
    neurons = whole.active
    base = reduced(network, law) if charge > 0 else charged_reduction(network, law, charge)
    seen, canonical, floor, free = base.seen, base.network, base.error, base.free
    particles = base.particles
    if free < 1:
        neurons = enough_atoms(network, whole.active, whole.inactive.get("constant", 0), free)
        warnings.append("the exact count at ε = 0 has the affine part free: a lower bound of what is counted here")
    progress("lower curve", 0.05)
    lower = lower_curve(canonical, free=free)
    clock("lower curve")
    upper = upper_curve(
        canonical,
        floor=floor,
        effort=enough(canonical, effort),
        resolution=resolution,
        progress=progress,
        free=free,
    )
    clock("upper curve")
    norm = norm_bounds(canonical, upper.problem.energy_bounds, free)
    norm = Bounds(max(norm.lower - floor, 0.0), norm.upper + floor, norm.method)
    stairs = staircase(upper, lower, norm.upper, floor, neurons, network.provenance.precision, resolution)
    at = eps if eps is not None else None if rel_eps is None else rel_eps * norm.lower
    found = stairs.s_star(at)
    recovered = upper.network(min(found.value, canonical.width))
    recovered = _by_size(recovered, np.argsort(-np.linalg.norm(in_input_coordinates(recovered, law).alpha, axis=1)))
    dictionary = in_input_coordinates(recovered, law)
    labels, distance = assign(particles, Atoms.of(recovered), flips=upper.problem.flips)
    atoms = atom_reports(dictionary, particles, seen, labels, distance)
    if len(atoms) < dictionary.width:
        warnings.append(f"only the {len(atoms)} largest of {dictionary.width} atoms are listed")
    if not found.certified:
        warnings.append(f"S* is between {found.lower} and {found.upper} at ε = {found.eps[0]:.3g}: not certified")
    mass = float(np.linalg.norm(canonical.alpha, axis=1) @ Atoms.of(canonical).length)
    warnings += conditioning(mass, norm.upper)
    threshold = s_up(canonical, 1e-2 * norm.upper, first=free + 1) if free > 0 else None
    # they speak of sums of f's own atoms
    coefficients = None if upper.problem.charged else coefficient_bounds(upper, lower, stairs, found, floor)
    clock("atoms")
    exact = exact_count(network, law, width=network.width <= _WIDTH_SEARCHED)
    clock("exact count")
    return Analysis(
        source=network,
        law=law,
        rho=rho,
        quotient=whole,
        domain_inactive={},
        norm=norm,
        energy=energy_shares(canonical, law, norm, free),
        staircase=stairs,
        upper=upper,
        lower=lower,
        s_star=found,
        dictionary=dictionary,
        atoms=atoms,
        projection=projection(particles, Atoms.of(recovered), labels, upper.problem.flips),
        threshold=threshold,
        exact=exact,
        warnings=warnings,
        config={
            **describe(law, rho),
            "eps": eps,
            "rel_eps": rel_eps,
            "resolution": stairs.resolution,
            "affine": affine,
            **asked,
        },
        timing=clock.laps,
        coefficients=coefficients,
        free=free,
    )


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


def _by_size(network: Network, order: NDArray[np.intp]) -> Network:
    """The same network with its neurons in another order."""
    return network.with_(outer=network.outer[order], inner=network.inner[order], bias=network.bias[order])


def in_input_coordinates(network: Network, law: InputLaw) -> Network:
    """A dictionary in the problem's coordinates as a network of x, on the section when σ is homogeneous."""
    network = input_coordinates(network, law)
    if network.gated:
        return network
    if network.activation.homogeneous and network.width:
        section = Section.of(network)
        network = network.with_(
            outer=section.kappa, inner=section.points[:, :-1], bias=section.points[:, -1], scale=1.0
        )
    return network


def assign(canonical: Network, atoms: Atoms, flips: bool = True) -> tuple[NDArray[np.int64], Array]:
    """The nearest atom of each canonical neuron and its distance in the quotient metric; ``flips``: whether those
    that σ has are free."""
    if atoms.n == 0 or canonical.width == 0:
        return np.full(canonical.width, -1, dtype=np.int64), np.zeros(canonical.width)
    points = Section.of(canonical).points
    target = Section.of(Network(np.ones((atoms.n, 1)), atoms.inner, atoms.bias, atoms.activation)).points
    label, distance = np.empty(canonical.width, dtype=np.int64), np.empty(canonical.width)
    flips = flips and canonical.activation.relation is not None
    for start in range(0, canonical.width, 1024):
        rows = slice(start, start + 1024)
        found, _ = point_distances(points[rows], target, flips)
        label[rows] = np.argmin(found, axis=1)
        distance[rows] = np.min(found, axis=1)
    return label, distance


def atom_reports(
    dictionary: Network, matched: Network, seen: Quotient, labels: NDArray[np.int64], distance: Array
) -> list[AtomReport]:
    """Atoms by descending size, each with the number of source neurons nearest to it and their weighted RMS
    distance.  ``matched``: the neurons (or their gates) that were matched; their coefficients on the section weigh."""
    weight = np.linalg.norm(Section.of(matched).kappa, axis=1)
    copies = np.bincount(seen.label[seen.label >= 0], minlength=seen.network.width)
    gate, shift = dictionary.gate, dictionary.gate_bias
    numbers = dictionary.d * (1 if gate is None else 2) + dictionary.m + 4
    reports = []
    for k in range(min(dictionary.width, max(1, _ATOM_NUMBERS // numbers))):
        mine = labels == k
        total = float(weight[mine].sum())
        reports.append(
            AtomReport(
                w=dictionary.inner[k],
                b=float(dictionary.bias[k]),
                alpha=dictionary.alpha[k],
                particles=int(copies[mine].sum()),
                spread=float(np.sqrt(weight[mine] @ distance[mine] ** 2 / total)) if total > 0 else 0.0,
                gate=None if gate is None or shift is None else (gate[k], float(shift[k])),
            )
        )
    return reports


def energy_shares(canonical: Network, law: InputLaw, norm: Bounds, free: int = 1) -> dict[str, float]:
    """Shares of ‖f‖²: constant, linear, beyond affine - or quadratic and beyond, where quadratic forms are free
    (computed, not certified)."""
    total = norm.upper**2
    if isinstance(law, Empirical) or total == 0.0:
        return {}
    parts = low_norms(canonical, free)
    shares = {name: part**2 / total for name, part in zip(("constant", "linear", "quadratic"), parts, strict=False)}
    shares["beyond_affine" if free < 2 else "beyond_quadratic"] = max(1.0 - sum(shares.values()), 0.0)
    return shares


def conditioning(mass: float, norm: float) -> list[str]:
    """Near-dipoles: coefficients that cancel (``mass`` = Σ‖α_i‖‖φ_i‖ ≫ ‖f‖) are reported, never merged silently."""
    if norm > 0.0 and mass > 1e4 * norm:
        return [f"ill-conditioned: Σ‖α‖‖φ‖ is {mass / norm:.3g} times ‖f‖ (near-dipoles); bounds lose as many digits"]
    return []


def projection(canonical: Network, atoms: Atoms, labels: NDArray[np.int64], flips: bool = True) -> dict[str, Any]:
    """Particles and atoms on the two leading principal axes of the atoms' (else particles') points, flipped alike."""
    if canonical.width == 0:
        return {"particles": [], "atoms": []}
    section = Section.of(canonical)
    points = section.points
    if atoms.n:
        heads = Section.of(Network(np.ones((atoms.n, 1)), atoms.inner, atoms.bias, atoms.activation)).points
    else:
        heads = np.zeros((0, points.shape[1]))
    if atoms.n and section.flips and flips:
        side = np.einsum("id,id->i", points, heads[labels])
        points = points * np.where(side < 0, -1.0, 1.0)[:, None]
    base = heads if atoms.n >= 2 else points
    weight = np.linalg.norm(section.kappa, axis=1)
    _, scale, axes = np.linalg.svd(base, full_matrices=False)
    plane = axes[:2] if axes.shape[0] >= 2 else np.eye(2, points.shape[1])
    shown = np.argsort(-weight)[:_PROJECTED]
    flat = points[shown] @ plane.T
    return {
        "particles": np.round(flat, 6).tolist(),
        "weight": weight[shown].tolist(),
        "atom": labels[shown].tolist(),
        "atoms": np.round(heads @ plane.T, 6).tolist(),
        "explained": float(np.sum(scale[:2] ** 2) / max(float(np.sum(scale**2)), 1e-300)),
        "shown": int(shown.size),
        "of": canonical.width,
    }
