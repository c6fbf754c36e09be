"""Analyze where no certified staircase is known: the exact count of S* at ε = 0, and an upper curve by triangles.

    U(S) = min(‖f‖, error of the canonical form + Σ of ‖α_i‖‖φ_i‖ over all but the S largest atoms),   L(S) = 0.

Every U(S) is a bound: the network that keeps the S largest atoms and the polynomial part comes that close.  Nothing is
excluded for ε > 0: S-atom networks may come arbitrarily close to a network that needs more atoms.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.exact import ExactCount, exact_count
from sparsemf.certificates.sparsity import UNIT_ROUNDOFF, SStar, Staircase
from sparsemf.exceptions import InputError
from sparsemf.measures import Bounds, Empirical, Gaussian, InputLaw, Network, l2_norm
from sparsemf.measures.functions import difference
from sparsemf.measures.gaussian import UNIT, affine_part
from sparsemf.pipeline.analysis import Analysis, Clock, Question, uncertain
from sparsemf.pipeline.atoms import atom_reports, energy_shares, shortened, taken
from sparsemf.pipeline.coordinates import input_coordinates
from sparsemf.pipeline.reduction import absorbed
from sparsemf.symmetry import Quotient, quotient
from sparsemf.symmetry.canonical import fourth_size, sizes

Array = NDArray[np.float64]

_FOURTH_ROOT_OF_3 = 3.0**0.25


def exact_analysis(network: Network, law: InputLaw, question: Question, without: str) -> Analysis:
    """The analysis of a network without a staircase; ``without`` says what it is."""
    clock = Clock()
    whole = quotient(network)
    clock("quotient")
    exact = exact_count(network, law)
    clock("exact count")
    gaussian = isinstance(law, Gaussian)
    seen = quotient(law.whiten(network)) if gaussian else whole
    canonical = absorbed(seen.network)
    if gaussian:
        error, weight = seen.error + whitening_error(law, network), atom_sizes(canonical)
    else:
        error, weight = _on_data(network, seen, law)
    norm = _norm(canonical, law, weight, error)
    order = np.argsort(-weight, kind="stable")
    # the sum of all but the S largest, from the smallest up
    tails = np.concatenate([np.cumsum(weight[order][::-1])[::-1], [0.0]]) * (1 + (weight.size + 8) * UNIT)
    upper = np.minimum(tails + error, norm.upper) if weight.size else np.array([error])
    stairs = Staircase(
        upper=upper,
        lower=np.zeros_like(upper),
        lower_directions=np.zeros_like(upper),
        norm=norm.upper,
        norm_beyond_affine=_beyond_affine(canonical, law, norm),
        resolution=max(question.resolution, UNIT_ROUNDOFF.get(network.provenance.precision, 0.0)),
        floor=error,
        neurons=max(whole.active, canonical.width),
    )
    at = question.error(norm)
    found = _at_zero(exact) if at is None else stairs.s_star(at)
    kept = order[: min(found.value, canonical.width)]
    dictionary = input_coordinates(taken(canonical, kept), law)
    # each atom of the canonical form is its own: the neurons merged into it agree with it to rounding
    atoms = atom_reports(dictionary, canonical, seen, np.argsort(order), np.zeros(canonical.width))
    warnings = _warnings(without, exact, found, canonical, error) + shortened(atoms, dictionary)
    clock("atoms")
    return Analysis(
        source=network,
        law=law,
        rho=question.rho,
        quotient=whole,
        domain_inactive={},
        norm=norm,
        energy={} if network.gated else energy_shares(canonical, law, norm),
        staircase=stairs,
        upper=None,
        lower=None,
        s_star=found,
        dictionary=dictionary,
        atoms=atoms,
        projection={"particles": [], "atoms": []},
        threshold=None,
        exact=exact,
        warnings=warnings,
        config=question.config(law, stairs.resolution),
        timing=clock.laps,
    )


def _at_zero(exact: ExactCount) -> SStar:
    return SStar(exact.upper, exact.certified, exact.lower, exact.upper, (0.0, 0.0), float("inf"), exact.counts)


def atom_sizes(canonical: Network) -> Array:
    """Upper bounds of ‖α_i‖‖φ_i‖ in L²(N(0, I)); gated: ‖σ(u)·ℓ‖₂ ≤ ‖σ(u)‖₄‖ℓ‖₄ and ‖ℓ‖₄ ≤ 3^{1/4}‖(v, e)‖."""
    weight = np.linalg.norm(canonical.alpha, axis=1)
    if canonical.gate is not None and canonical.gate_bias is not None:
        value = np.hypot(np.linalg.norm(canonical.inner, axis=1), canonical.bias)
        size = fourth_size(canonical.activation, canonical.gate, canonical.gate_bias) * value * _FOURTH_ROOT_OF_3
    else:
        size = sizes(canonical.activation, canonical.inner, canonical.bias)
    return weight * size * (1 + (canonical.d + 16) * UNIT)


def whitening_error(law: Gaussian, network: Network) -> float:
    """Bound in L² of what whitening rounds; for a gated block

        2(d + 4)·UNIT·Σ‖α_i‖·3^{1/4}(|σ(0)| + 2·3^{1/4}·Lip·G_i)·V_i  and the polynomial part alike,

    with G_i and V_i the sizes ‖w_i‖(‖root‖ + ‖mean‖) + |b_i| of gates and values.

    Raises :class:`InputError` for gates of unbounded slope under a law that is not standard.
    """
    if law.is_standard:
        return 0.0
    if not network.gated:
        return law.whitening_error(network)
    activation, gate, shift = network.activation, network.gate, network.gate_bias
    if gate is None or shift is None or not np.isfinite(activation.lipschitz):
        raise InputError(
            f"law: expected N(0, I) for a block with {activation.name} gates, whose slope is unbounded, got {law.name}"
        )
    reach = float(np.linalg.norm(law.root) + np.linalg.norm(law.mean))
    value = np.linalg.norm(network.inner, axis=1) * reach + np.abs(network.bias)
    size = np.linalg.norm(gate, axis=1) * reach + np.abs(shift)
    slope = 2 * _FOURTH_ROOT_OF_3 * activation.lipschitz
    level = abs(float(activation.value(np.zeros(1))[0]))
    plain = Network(np.zeros((0, network.m)), np.zeros((0, network.d)), None, activation, 1.0, network.affine,
                    network.offset, None, network.quadratic)  # fmt: skip
    mass = float(np.linalg.norm(network.alpha, axis=1) @ ((level + slope * size) * value)) * _FOURTH_ROOT_OF_3
    return 2 * (law.d + 4) * UNIT * mass + law.whitening_error(plain)


def _on_data(network: Network, seen: Quotient, law: InputLaw) -> tuple[float, Array]:
    """The canonical form's error and the atoms' sizes on a data matrix, by evaluation."""
    if not isinstance(law, Empirical):
        raise InputError(f"law: expected a Gaussian or a data matrix, got {law!r}")
    canonical = absorbed(seen.network)
    rest = l2_norm(difference(network, canonical), law)
    weight = np.zeros(canonical.width)
    for i in range(canonical.width):
        alone = taken(canonical, np.array([i]))
        flat = alone.with_(affine=0 * alone.affine, offset=0 * alone.offset, quadratic=None)
        weight[i] = l2_norm(flat, law).upper
    return rest.upper, weight


def _norm(canonical: Network, law: InputLaw, weight: Array, error: float) -> Bounds:
    """‖f‖; for a gated block under a Gaussian law the triangle inequality above and nothing below."""
    if isinstance(law, Empirical):
        found = l2_norm(canonical, law)
    elif canonical.gated:
        parts = float(weight.sum() + np.linalg.norm(canonical.affine) + np.linalg.norm(canonical.offset))
        if canonical.quadratic is not None:
            trace = np.trace(canonical.quadratic, axis1=1, axis2=2)
            parts += float(np.sqrt(2 * np.sum(canonical.quadratic**2) + np.sum(trace**2)))
        found = Bounds(0.0, parts * (1 + (canonical.width + canonical.d + 16) * UNIT), "triangle inequality")
    else:
        found = l2_norm(canonical, Gaussian.standard(canonical.d))
    return Bounds(max(found.lower - error, 0.0), found.upper + error, found.method)


def _beyond_affine(canonical: Network, law: InputLaw, norm: Bounds) -> float:
    """‖f‖ without its affine part, computed; the bound of ‖f‖ where it is not known."""
    if canonical.gated or isinstance(law, Empirical):
        return norm.upper
    slope, constant = affine_part(canonical)
    return float(np.sqrt(max(norm.upper**2 - np.sum(slope**2) - np.sum(constant**2), 0.0)))


def _warnings(without: str, exact: ExactCount, found: SStar, canonical: Network, error: float) -> list[str]:
    out = [
        f"no certified staircase is known for {without}: S* is counted exactly at ε = 0, and for ε > 0 nothing is "
        "excluded (L = 0; U by the triangle inequality)"
    ]
    if not exact.certified:
        out.append(f"S* at ε = 0 is between {exact.lower} and {exact.upper}: {exact.reason}")
    if canonical.width < exact.upper:
        out.append(
            f"to within {error:.3g} the canonical form has {canonical.width} atoms; the exact count tells apart what "
            "differs in the last bit"
        )
    return out if found.eps == (0.0, 0.0) else out + uncertain(found)
