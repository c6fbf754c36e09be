"""Analyze on data rows: both curves of a plain or gated network under the empirical law of a data matrix.

S*(ε) counts the atoms of networks g with (1/n)Σ_j‖f(x_j) − g(x_j)‖² ≤ ε², polynomials of degree ≤ free beside them:
1, 2 for gated blocks and relu² (:func:`~sparsemf.measures.gaussian.free_degree`), 0 or −1 where ``affine`` is "offset"
or "charged".

*U(S)* comes from the rows themselves: atoms of the canonical form, selected and refitted, and for plain networks
refined jointly; residuals are added up (:mod:`~sparsemf.recovery.empirical`).  *L(0)* is the distance to the free
polynomials, and L(S) that of f's values beside them to rank S (:mod:`~sparsemf.identifiability.rows`), 0 from S = the
number of outputs on.  So S* is certified up to that number, with one output where no atom, or one, is enough.

What counts as f's atoms is found as everywhere else, but

- the canonical form's error is ‖f − canonical‖ on the rows, by evaluation (:func:`~sparsemf.measures.l2_norm`);
- piecewise-linear neurons of one sign on all rows are affine there.  Where affine functions are charged only those that
  are 0 on all rows leave; the others stay atoms;
- silent atoms offered for what is charged of A and c (:func:`~sparsemf.pipeline.charged.with_candidates`) are laid
  out in the coordinates in which the rows have mean 0 and covariance I.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.exact import exact_count
from sparsemf.certificates.sparsity import DEFAULT_REL_EPS, SStar, Staircase, staircase
from sparsemf.identifiability import LowerCurve
from sparsemf.identifiability.rows import lower_on_rows
from sparsemf.measures import Atoms, Bounds, Empirical, Gaussian, Network, l2_norm
from sparsemf.measures.functions import difference
from sparsemf.measures.gaussian import free_degree
from sparsemf.measures.polynomials import MOST_NUMBERS, Polynomials, count
from sparsemf.pipeline import gated
from sparsemf.pipeline.analysis import WIDTH_SEARCHED, Analysis, Clock, Question, uncertain
from sparsemf.pipeline.atoms import (
    assign,
    atom_reports,
    conditioning,
    in_input_coordinates,
    projection,
    shortened,
    taken,
)
from sparsemf.pipeline.charged import charged_canonical, enough_atoms, free_of, with_candidates
from sparsemf.pipeline.coefficients import coefficient_bounds
from sparsemf.pipeline.reduction import absorbed, enough, form_as_atoms
from sparsemf.recovery import EmpiricalGeometry, UpperCurve, upper_curve
from sparsemf.symmetry import Quotient, domain_reduction, quotient

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OnData:
    """What a network is to its curves on rows.

    ``network``: canonical, with silent atoms that are only offered; ``particles``: without these; ``error`` ≥ ‖f −
    network‖ on the rows; ``whole``, ``seen``: the quotients of f and of what the domain leaves of it; ``neurons`` ≥
    S*(ε) for every ε > 0.
    """

    network: Network
    particles: Network
    error: float
    free: int
    whole: Quotient
    seen: Quotient
    inactive: dict[str, int]
    neurons: int


def free_on_data(network: Network, affine: str) -> int:
    """The degree up to which polynomials are free.  Raises :class:`InputError` for an unknown ``affine``."""
    charge = free_of(affine)
    return free_degree(network) if charge > 0 else charge


def too_many(network: Network, law: Empirical, free: int) -> str | None:
    """Why there is no staircase beside quadratic polynomials: there are too many to be formed; else None."""
    polynomials = count(network.d, free)
    if free < 2 or law.x.shape[0] * polynomials <= MOST_NUMBERS:
        return None
    return (
        f"{law.x.shape[0]} data rows beside {polynomials} free quadratic polynomials (--affine charged, or offset, has "
        "a staircase)"
    )


def reduced_on_data(network: Network, law: Empirical, free: int, biased: bool = True) -> OnData:
    """The reduction of a network on rows; ``biased``: whether silent atoms may have biases of their own."""
    if network.gated:
        whole = quotient(network, free)
        found, _ = gated.absorbed(whole.network, free)
        neurons = whole.active + found.width - whole.network.width
        return OnData(found, found, _gap(network, found, law), free, whole, whole, {}, neurons)
    source = network
    if free == 1 and network.quadratic is not None and network.m > 1:
        source, _ = form_as_atoms(network)
    whole = quotient(source, free if free < 1 else 2)
    active = domain_reduction(whole.network, law, free)
    inactive = {"always_off": active.always_off, "always_on": active.always_on}
    if free > 0:
        seen = quotient(active.network)
        found = absorbed(seen.network)
        return OnData(found, found, _gap(network, found, law), free, whole, seen, inactive, whole.active)
    seen, found, _ = charged_canonical(active.network, free)
    neurons = enough_atoms(network, whole.active, whole.inactive.get("constant", 0), free)
    offered = _offered(found, law, free) if biased else with_candidates(found, free, False)
    return OnData(offered, found, _gap(network, found, law), free, whole, seen, inactive, neurons)


def _gap(network: Network, canonical: Network, law: Empirical) -> float:
    """≥ ‖f − canonical‖ on the rows."""
    return l2_norm(difference(network, canonical), law).upper


def _offered(found: Network, law: Empirical, free: int) -> Network:
    """With the silent atoms of :func:`with_candidates`, made where the rows are white."""
    gauss = Gaussian.of(law.x.mean(axis=0), np.cov(law.x, rowvar=False, bias=True).reshape(found.d, found.d))
    white = with_candidates(gauss.whiten(found), free)
    inner, bias = gauss.unwhiten(white.inner[found.width :], white.bias[found.width :])
    if not bias.size:
        return found
    return found.with_(
        outer=np.concatenate([found.alpha, np.zeros((bias.size, found.m))]),
        inner=np.concatenate([found.inner, inner]),
        bias=np.concatenate([found.bias, bias]),
        scale=1.0,
    )


def stairs_on_data(
    network: Network, law: Empirical, base: OnData, upper: UpperCurve, resolution: float
) -> tuple[Staircase, Bounds, LowerCurve]:
    """The staircase, bounds of ‖f‖, and the lower curve."""
    norm = l2_norm(network, law)
    known: Polynomials | None = None
    if isinstance(upper.problem.geometry, EmpiricalGeometry):
        known = upper.problem.geometry.polynomials
    lower = lower_on_rows(network, law, base.free, upper.upper.size - 1, known)
    precision = network.provenance.precision
    return staircase(upper, lower, norm.upper, base.error, base.neurons, precision, resolution), norm, lower


def reported(stairs: Staircase, eps: float | None) -> SStar:
    """S* at ε, by default at 1e-2·‖f‖: since L(S) = 0 from the number of outputs on, the longest certified plateau
    would end there (with one output: at a single atom) whatever f is.  A plateau there is reported as such."""
    at = DEFAULT_REL_EPS * stairs.norm if eps is None else eps
    for plateau in stairs.plateaus() if eps is None else ():
        if plateau.low <= at < plateau.high:
            size = plateau.size
            return SStar(size, True, size, size, (plateau.low, plateau.high), plateau.strength)
    return stairs.s_star(at)


def data_analysis(network: Network, law: Empirical, question: Question) -> Analysis:
    """The sparse dictionary and the staircase on data."""
    clock = Clock()
    l2_norm(network, law)  # raises where values leave the range of numbers
    free = free_on_data(network, question.affine)
    base = reduced_on_data(network, law, free)
    canonical = base.network
    clock("quotient")
    upper = upper_curve(
        canonical,
        law,
        floor=base.error,
        effort=enough(canonical, question.search),
        resolution=question.resolution,
        progress=question.progress,
        free=free,
    )
    clock("upper curve")
    stairs, norm, lower = stairs_on_data(network, law, base, upper, question.resolution)
    clock("lower curve")
    found = reported(stairs, question.error(norm))
    recovered = upper.network(min(found.value, canonical.width))
    recovered = taken(recovered, np.argsort(-_sizes(recovered, law, upper), kind="stable"))
    dictionary = in_input_coordinates(recovered, law)
    matched = gated.gates_alone(base.seen.network) if network.gated else base.particles
    heads = Atoms.of(gated.gates_alone(recovered) if network.gated else recovered)
    flips = free == 2 if network.gated else upper.problem.flips
    labels, distance = assign(matched, heads, flips)
    atoms = atom_reports(dictionary, matched, base.seen, labels, distance)
    warnings = _warnings(stairs, found, lower, free, upper)
    warnings += conditioning(float(upper.problem.weight @ upper.problem.lengths[0]), norm.upper)
    warnings += shortened(atoms, dictionary)
    plain = not network.gated and upper.problem.charged is None
    coefficients = coefficient_bounds(upper, None, stairs, found, base.error) if plain else None
    clock("atoms")
    exact = exact_count(network, law, width=network.width <= WIDTH_SEARCHED)
    clock("exact count")
    return Analysis(
        source=network,
        law=law,
        rho=question.rho,
        quotient=base.whole,
        domain_inactive=base.inactive,
        norm=norm,
        energy={},
        staircase=stairs,
        upper=upper,
        lower=lower,
        s_star=found,
        dictionary=dictionary,
        atoms=atoms,
        projection=projection(matched, heads, labels, flips),
        threshold=None,
        exact=exact,
        warnings=warnings,
        config=question.config(law, stairs.resolution),
        timing=clock.laps,
        coefficients=coefficients,
        free=free,
    )


def _sizes(recovered: Network, law: Empirical, upper: UpperCurve) -> Array:
    """What atoms are listed by: ‖α‖ on the section, of gated ones ‖α‖ times the size of their values."""
    weight = np.linalg.norm(in_input_coordinates(recovered, law).alpha, axis=1)
    geometry = upper.problem.geometry
    return weight * geometry.length(geometry.atoms(recovered)) if recovered.gated else weight


def _warnings(stairs: Staircase, found: SStar, lower: LowerCurve, free: int, upper: UpperCurve) -> list[str]:
    beside = {2: "polynomials of degree ≤ 2", 1: "affine functions", 0: "constants", -1: "nothing"}[free]
    outputs = upper.problem.network.m
    out = [
        f"data rows: lower bounds L(S) are known for S < {min(outputs, stairs.upper.size)} (f's values have no more "
        "outputs to tell atoms by)"
        if outputs > 1
        else "data rows: L(0), "
        + ("‖f‖" if free < 0 else f"the distance to {beside}")
        + ", is the only lower bound of a network with one output, so S* is certified only where one atom is enough"
    ]
    geometry = upper.problem.geometry
    if isinstance(geometry, EmpiricalGeometry) and geometry.polynomials.everything:
        out.append(
            f"{beside}, which are free, take any values on these {geometry.x.shape[0]} rows: nothing is left for "
            "atoms; use --affine charged, or more rows"
        )
    elif lower.atoms[0] == 0.0 and stairs.upper[0] > stairs.resolution * stairs.norm:
        out.append("the rows are too ill-conditioned to bound the distance to the free polynomials: L(0) = 0")
    if free < 1:
        part = "polynomials of degree ≤ 2" if upper.problem.network.gated else "the affine part"
        out.append(f"the exact count at ε = 0 has {part} free: a lower bound of what is counted here")
    return out + uncertain(found)
