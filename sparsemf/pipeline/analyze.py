"""Analyze: network → active component → quotient → atoms → certified staircase → one document."""

from __future__ import annotations

import numpy as np

from sparsemf.certificates.exact import exact_count
from sparsemf.certificates.sparsity import RESOLUTION, staircase
from sparsemf.exceptions import InputError
from sparsemf.identifiability import lower_curve, s_up
from sparsemf.measures import Atoms, Bounds, Empirical, Gaussian, InputLaw, Network
from sparsemf.pipeline.analysis import WIDTH_SEARCHED, Analysis, Clock, Question, silent, uncertain
from sparsemf.pipeline.atoms import (
    assign,
    atom_reports,
    conditioning,
    energy_shares,
    in_input_coordinates,
    projection,
    shortened,
    taken,
)
from sparsemf.pipeline.charged import charged_reduction, enough_atoms, free_of, refused
from sparsemf.pipeline.coefficients import coefficient_bounds
from sparsemf.pipeline.data import data_analysis, free_on_data, too_many
from sparsemf.pipeline.exact import exact_analysis
from sparsemf.pipeline.gated import gated_analysis
from sparsemf.pipeline.reduction import enough, norm_bounds, reduced
from sparsemf.recovery import Effort, Progress, upper_curve
from sparsemf.symmetry import quotient


def without_staircase(network: Network, law: InputLaw | None = None, affine: str = "free") -> str | None:
    """Why there is no staircase for a network, or None where there is one.

    Plain networks have one under every law: under a Gaussian one (the default) L asks for nothing but Hermite tensors,
    U for inner products.  Gated ones have one there where the flips of the gate cost a quadratic form and its slope is
    bounded.  On data every network has an upper curve, unless more quadratic polynomials are free than can be formed.
    """
    if isinstance(law, Empirical):
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
    progress: Progress = silent,
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
    question = Question(rho, eps, rel_eps, resolution, effort, progress, affine)
    if free_of(affine) < 1:
        refused(network, affine)
    without = without_staircase(network, law, affine)
    if without is not None and affine != "free":
        raise InputError(f"--affine {affine}: expected a network with a staircase, got {without}; use --affine free")
    if without is not None:
        return exact_analysis(network, law, question, without)
    if isinstance(law, Empirical):
        return data_analysis(network, law, question)
    if network.gated:
        return gated_analysis(network, law, question)
    return gaussian_analysis(network, law, question)


def gaussian_analysis(network: Network, law: Gaussian, question: Question) -> Analysis:
    """The sparse dictionary and certified staircase of a plain network under a Gaussian law."""
    clock = Clock()
    charge = free_of(question.affine)
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
    question.progress("lower curve", 0.05)
    lower = lower_curve(canonical, free=free)
    clock("lower curve")
    upper = upper_curve(
        canonical,
        floor=floor,
        effort=enough(canonical, question.search),
        resolution=question.resolution,
        progress=question.progress,
        free=free,
    )
    clock("upper curve")
    norm = norm_bounds(canonical, upper.problem.energy_bounds, free)
    norm = Bounds(max(norm.lower - floor, 0.0), norm.upper + floor, norm.method)
    stairs = staircase(upper, lower, norm.upper, floor, neurons, network.provenance.precision, question.resolution)
    found = stairs.s_star(question.error(norm))
    recovered = upper.network(min(found.value, canonical.width))
    recovered = taken(recovered, np.argsort(-np.linalg.norm(in_input_coordinates(recovered, law).alpha, axis=1)))
    dictionary = in_input_coordinates(recovered, law)
    labels, distance = assign(particles, Atoms.of(recovered), flips=upper.problem.flips)
    atoms = atom_reports(dictionary, particles, seen, labels, distance)
    warnings += shortened(atoms, dictionary) + uncertain(found)
    mass = float(np.linalg.norm(canonical.alpha, axis=1) @ Atoms.of(canonical).length)
    warnings += conditioning(mass, norm.upper)
    threshold = s_up(canonical, 1e-2 * norm.upper, first=free + 1) if free > 0 else None
    # they speak of sums of f's own atoms
    coefficients = None if upper.problem.charged else coefficient_bounds(upper, lower, stairs, found, floor)
    clock("atoms")
    exact = exact_count(network, law, width=network.width <= WIDTH_SEARCHED)
    clock("exact count")
    return Analysis(
        source=network,
        law=law,
        rho=question.rho,
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
        config=question.config(law, stairs.resolution),
        timing=clock.laps,
        coefficients=coefficients,
        free=free,
    )
