"""The document of ``sparsemf analyze`` as the page shows it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparsemf.reports.fields import Fields
from sparsemf.reports.views.dual import DualView, PathView
from sparsemf.reports.views.s_star import SStarView
from sparsemf.reports.views.source import Source, command, law_symbol, law_words
from sparsemf.reports.views.staircase import Bracket, Plateau, StaircaseView


@dataclass(frozen=True)
class AtomView:
    """One row of the table: ``index`` as numbered on the page (1 is the largest)."""

    index: int
    w: list[float]
    b: float
    alpha: list[float]
    particles: int | None
    spread: float | None
    gate: list[float] = field(default_factory=list)
    gate_bias: float | None = None

    @property
    def size(self) -> float:
        """‖α‖."""
        return math.hypot(*self.alpha)

    @property
    def length(self) -> float:
        """‖w‖."""
        return math.hypot(*self.w)


@dataclass(frozen=True)
class SpectrumView:
    """Singular values of one flattening."""

    p: int
    degrees: tuple[int, int]
    counts: str
    values: list[float]
    margin: float | None
    per_atom: int = 1


@dataclass(frozen=True)
class ProjectionView:
    """Particles and atoms in a plane; ``row[k]`` is the page's index of the projection's atom k, or None."""

    particles: list[tuple[float, float]]
    weight: list[float]
    atom: list[int]
    atoms: list[tuple[float, float]]
    row: list[int | None]
    explained: float | None
    shown: int
    of: int


@dataclass(frozen=True)
class TrainingView:
    """Curves of the run that made the checkpoint."""

    step: list[float | None]
    curves: dict[str, list[float | None]]
    settings: list[tuple[str, str]]
    task: str
    stationary: str
    reasons: list[str]
    final: dict[str, float]


_FREE = {
    2: ("polynomial of degree 2", "a polynomial of degree 2", "part of degree ≤ 2",
        "The part of degree ≤ 2 is free: it is never counted."),
    1: ("affine function", "an affine function", "affine part", "The affine part is free: it is never counted."),
    0: ("constant", "a constant", "constant part",
        "Only a constant is free: the linear part is charged, the dictionary has none but what its atoms make."),
    -1: ("function without atoms", "the function 0", "free part (there is none)",
         "Nothing is free: polynomial parts are charged, the dictionary is its atoms alone."),
}  # fmt: skip
"""What is free by its degree: as a function, with its article, as a part, and as a sentence."""


@dataclass(frozen=True)
class AnalysisView:
    """Everything the page of one block shows."""

    name: str
    source: Source
    law: str
    law_name: str
    s_star: SStarView
    stairs: StaircaseView
    chosen: Plateau | None
    function_norm: float | None
    norm_low: float | None
    norm_high: float | None
    norm_beyond_affine: float | None
    free_degree: int
    error: float | None
    resolution: float | None
    energy: list[tuple[str, float]]
    inactive: list[tuple[str, int]]
    domain_inactive: list[tuple[str, int]]
    active: int | None
    quotient: Fields
    atoms: list[AtomView]
    dictionary_size: int | None
    affine_shape: str
    spectra: list[SpectrumView]
    projection: ProjectionView | None
    s_up: Fields
    threshold: Fields
    variation: float | None
    coefficient_curve: list[tuple[int, float]]
    exact: Fields
    dual: DualView | None
    path: PathView | None
    training: TrainingView | None
    warnings: list[str]
    config: list[tuple[str, str]]
    timing: list[tuple[str, float]]
    arithmetic: str
    version: str
    command: str
    h: int

    @property
    def resolution_error(self) -> float | None:
        """The least ε on which plateaus are compared, absolute."""
        if self.resolution is None or self.norm_beyond_affine is None:
            return None
        return self.resolution * self.norm_beyond_affine

    @property
    def norm(self) -> float | None:
        """What relative errors are relative to."""
        return self.norm_high or self.function_norm

    @property
    def glance(self) -> list[Bracket]:
        """S*(ε) at round relative errors."""
        return self.stairs.glance(self.norm, self.resolution_error or 0.0)

    @property
    def glance_for_words(self) -> list[Bracket]:
        """A few of :attr:`glance`, for a sentence."""
        return [b for b in self.glance if b.relative in (0.2, 0.1, 0.01)]

    @property
    def numbered(self) -> bool:
        """Whether the projected atoms carry the numbers of the table."""
        return self.projection is not None and any(self.projection.row) and len(self.projection.atoms) <= 30

    @property
    def varied_lengths(self) -> bool:
        """Whether ‖w‖ tells anything (homogeneous activations have it normalised with the bias)."""
        return any(abs(atom.length**2 + atom.b**2 - 1) > 1e-6 for atom in self.atoms)

    @property
    def energy_words(self) -> list[tuple[str, float]]:
        """The shares of the energy with their names in words."""
        words = {
            "beyond_affine": "beyond affine (what atoms are for)" if self.free_degree > 0 else "beyond affine",
            "beyond_quadratic": "beyond quadratic (what atoms are for)",
        }
        return [(words.get(name, name), share) for name, share in self.energy]

    @property
    def gated(self) -> bool:
        """Whether atoms are products with a gate."""
        return any(atom.gate for atom in self.atoms)

    @property
    def free(self) -> str:
        """What is free, as a function."""
        return _FREE[self.free_degree][0]

    @property
    def a_free(self) -> str:
        """The same with its article."""
        return _FREE[self.free_degree][1]

    @property
    def free_part(self) -> str:
        """The same, as a part of a network."""
        return _FREE[self.free_degree][2]

    @property
    def free_words(self) -> str:
        """What is counted and what is not, as a sentence."""
        return _FREE[self.free_degree][3]

    @property
    def provenance(self) -> list[tuple[str, str]]:
        """Where the input came from and how it was computed with."""
        return [*self.source.rows, ("arithmetic", self.arithmetic), ("sparsemf", self.version)]

    @property
    def certified_elsewhere(self) -> Plateau | None:
        """The longest certified plateau when it is not the one reported."""
        if self.s_star.case in ("plateau", "short", "affine") or not self.stairs.plateaus:
            return None
        return max(self.stairs.plateaus, key=lambda p: math.inf if p.strength is None else p.strength)


def analysis_view(document: Mapping[str, Any], name: str, h: int = 2) -> AnalysisView:
    """Read a document of ``sparsemf analyze``; ``name`` makes the ids unique, ``h`` is the heading level."""
    fields = Fields(document)
    stairs = StaircaseView.of(fields)
    source = Source.of(fields.sub("input"))
    bounds = fields.sub("function_norm_bounds")
    norm = fields.number("function_norm")
    s_star = SStarView.of(fields.sub("s_star"), stairs, bounds.number("upper") or norm)
    dictionary, config = fields.sub("dictionary"), fields.sub("config")
    atoms = _atoms(dictionary)
    quotient = fields.sub("quotient")
    affine = dictionary.sub("affine")
    chosen = None
    if s_star.case in ("plateau", "short", "affine") and s_star.value is not None and s_star.eps is not None:
        chosen = Plateau(s_star.value, s_star.eps, s_star.eps_end, s_star.strength)
    return AnalysisView(
        name=name,
        source=source,
        law=law_symbol(config),
        law_name=law_words(config),
        s_star=s_star,
        stairs=stairs,
        chosen=chosen,
        function_norm=norm,
        norm_low=bounds.number("lower"),
        norm_high=bounds.number("upper"),
        norm_beyond_affine=fields.number("norm_beyond_affine"),
        free_degree=_free_degree(fields),
        error=dictionary.number("error"),
        resolution=fields.number("resolution"),
        energy=_counts(fields.sub("energy"), ("constant", "linear", "quadratic", "beyond_affine")),
        inactive=[(k, int(v)) for k, v in _counts(fields.sub("active").sub("inactive"))],
        domain_inactive=[(k, int(v)) for k, v in _counts(fields.sub("active").sub("domain_inactive"))],
        active=fields.sub("active").count("width"),
        quotient=quotient,
        atoms=atoms,
        dictionary_size=dictionary.count("size") if dictionary.count("size") is not None else len(atoms),
        affine_shape=" × ".join(str(n) for n in (source.m, source.d) if n) if affine else "",
        spectra=_spectra(fields),
        projection=_projection(fields.sub("projection"), atoms, quotient),
        s_up=fields.sub("s_up"),
        threshold=fields.sub("threshold"),
        variation=fields.sub("compressibility").number("variation"),
        coefficient_curve=_coefficient_curve(fields.sub("compressibility")),
        exact=fields.sub("exact"),
        dual=DualView.of(fields.sub("dual")),
        path=PathView.of(fields.sub("path")),
        training=_training(fields.sub("training")),
        warnings=[str(item) for item in fields.items("warnings")],
        config=config.plain(),
        timing=_counts(fields.sub("timing_s")),
        arithmetic=fields.text("arithmetic"),
        version=fields.text("version"),
        command=command(source, config),
        h=h,
    )


def _free_degree(fields: Fields) -> int:
    found = fields.count("free_degree")
    return found if found in _FREE else 1


def _counts(fields: Fields, order: tuple[str, ...] = ()) -> list[tuple[str, float]]:
    names = [name for name in order if name in fields.data] + [name for name in fields.data if name not in order]
    return [(name, value) for name in names if (value := fields.number(name)) is not None]


def _atoms(dictionary: Fields) -> list[AtomView]:
    return [
        AtomView(
            index=i + 1,
            w=row.vector("w"),
            b=(row.number("b") or 0.0) + 0.0,
            alpha=row.vector("alpha"),
            particles=row.count("particles"),
            spread=row.number("spread"),
            gate=row.vector("gate"),
            gate_bias=row.number("gate_bias"),
        )
        for i, row in enumerate(dictionary.rows("atoms"))
    ]


def _spectra(fields: Fields) -> list[SpectrumView]:
    """Each flattening once, those that count directions first, by p."""
    found: dict[tuple[Any, ...], SpectrumView] = {}
    for row in fields.rows("spectra"):
        degrees = [int(k) for k in row.vector("degrees")]
        values = [value for value in row.vector("singular_values") if value > 0]
        if len(degrees) == 2 and values:
            counts, per_atom = row.text("counts", "directions"), row.count("per_atom") or 1
            view = SpectrumView(
                row.count("p") or 0, (degrees[0], degrees[1]), counts, values, row.number("margin"), per_atom
            )
            found.setdefault((counts != "directions", degrees[0] == degrees[1], view.p, *degrees), view)
    return [found[key] for key in sorted(found)]


def _coefficient_curve(fields: Fields) -> list[tuple[int, float]]:
    """(S, bound) ascending: what the sizes of the coefficients alone prove."""
    rows = [(row.count("S"), row.number("best")) for row in fields.rows("curves")]
    return sorted((size, best) for size, best in rows if size is not None and best is not None)


def _projection(fields: Fields, atoms: list[AtomView], quotient: Fields) -> ProjectionView | None:
    particles = fields.points("particles")
    if not particles:
        return None
    count = len(particles)
    weight, label = fields.vector("weight"), [int(k) for k in fields.vector("atom")]
    heads = fields.points("atoms")
    of = fields.count("of") or count
    rank = fields.vector("rank")
    if len(rank) == len(heads):
        row = [int(r) + 1 if r >= 0 else None for r in rank]
    else:
        row = _rows_by_count(label, len(heads), atoms if of == count else [])
    return ProjectionView(
        particles=particles,
        weight=weight if len(weight) == count else [1.0] * count,
        atom=label if len(label) == count else [-1] * count,
        atoms=heads,
        row=row,
        explained=fields.number("explained"),
        shown=fields.count("shown") or count,
        of=of,
    )


def _rows_by_count(label: list[int], heads: int, atoms: list[AtomView]) -> list[int | None]:
    """Which row each projected atom is, by the number of its particles where that number is unique."""
    projected, listed = Counter(label), Counter(atom.particles for atom in atoms)
    shared = Counter(projected[k] for k in range(heads))
    rows = {atom.particles: atom.index for atom in atoms}
    return [
        rows[projected[k]] if listed.get(projected[k]) == 1 and shared[projected[k]] == 1 else None
        for k in range(heads)
    ]


_CURVE_NAMES = ("loss", "test_error", "temperature", "weight_decay", "step_size")


def _training(fields: Fields) -> TrainingView | None:
    curves = fields.sub("curves")
    step = curves.numbers("step")
    if not step:
        return None
    found = {name: curves.numbers(name) for name in _CURVE_NAMES}
    found = {name: values for name, values in found.items() if len(values) == len(step)}
    stationary = fields.sub("stationary")
    config, task = fields.sub("config"), fields.sub("task")
    final = {name: values[-1] for name, values in found.items() if values and values[-1] is not None}
    return TrainingView(
        step=step,
        curves=found,
        settings=config.plain(),
        task=task.text("name"),
        stationary=str(stationary.data.get("stationary", "")),
        reasons=[str(reason) for reason in stationary.items("reasons")],
        final={name: value for name, value in final.items() if value is not None},
    )
