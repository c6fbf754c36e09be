"""Analyze a gated block under a Gaussian law: the staircase with a free polynomial part of degree ≤ 2.

An atom is α·σ(⟨g, x⟩ + c)·(⟨v, x⟩ + e).  Upper curve: atoms of the canonical form, selected and refitted in the kernel
beyond degree 2; lower curve: flattenings in which S atoms have rank 2S.

*Charged* (``affine`` "offset", free = 0: beside a constant; "charged", free = −1: beside nothing).  S*(ε) then counts
the atoms of networks Σ α_s σ(u_s)ℓ_s (+ c), which is what a file of a SwiGLU block holds.  x = m + Rg maps such
networks to such networks atom by atom, ‖f − g‖² is the sum over the degrees > free (Parseval), and both curves are
those above from that degree on.  Flips are made where they cost nothing.  A and c that f has beside its neurons are
rank [A c] atoms of a constant gate: α σ(t)ℓ for any t with σ(t) ≠ 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.exact import exact_count
from sparsemf.certificates.sparsity import staircase
from sparsemf.identifiability import lower_curve
from sparsemf.measures import Atoms, Bounds, Gaussian, Network
from sparsemf.measures.gated import FREE_DEGREE, GatedAtoms, low_margin, low_part
from sparsemf.measures.gaussian import UNIT
from sparsemf.pipeline.analysis import Analysis, Clock, Question, uncertain
from sparsemf.pipeline.atoms import assign, atom_reports, conditioning, projection, shortened, taken
from sparsemf.pipeline.charged import free_of
from sparsemf.pipeline.coordinates import input_coordinates
from sparsemf.pipeline.exact import whitening_error
from sparsemf.recovery import UpperCurve, upper_curve
from sparsemf.recovery.gated import linear_part
from sparsemf.symmetry import quotient

Array = NDArray[np.float64]


def gated_analysis(network: Network, law: Gaussian, question: Question) -> Analysis:
    """The sparse dictionary and certified S* staircase of a gated block with Lipschitz gates; ``affine`` "free" is a
    polynomial of degree ≤ 2 here."""
    clock = Clock()
    free = FREE_DEGREE if question.affine == "free" else free_of(question.affine)
    whole = quotient(network, free)
    seen = quotient(law.whiten(network), free)
    floor = seen.error + whitening_error(law, network)
    canonical, lost = absorbed(seen.network, free)
    floor += lost
    neurons = whole.active + canonical.width - seen.network.width
    clock("quotient")
    question.progress("lower curve", 0.05)
    lower = lower_curve(canonical, free=free)
    clock("lower curve")
    upper = upper_curve(
        canonical,
        floor=floor,
        effort=question.search,
        resolution=question.resolution,
        progress=question.progress,
        free=free,
    )
    clock("upper curve")
    norm, energy = norm_and_energy(canonical, upper, floor, free)
    stairs = staircase(upper, lower, norm.upper, floor, neurons, network.provenance.precision, question.resolution)
    found = stairs.s_star(question.error(norm))
    recovered = upper.network(min(found.value, canonical.width))
    mass = _sizes(recovered)
    recovered = taken(recovered, np.argsort(-mass, kind="stable"))
    dictionary = input_coordinates(recovered, law)
    warnings = []
    if free < FREE_DEGREE:
        warnings.append("the exact count at ε = 0 has polynomials of degree ≤ 2 free: a lower bound of what is counted")
    warnings += uncertain(found)
    warnings += conditioning(float(_sizes(canonical).sum()), norm.upper)
    gates, heads = gates_alone(seen.network), Atoms.of(gates_alone(recovered))
    labels, distance = assign(gates, heads, flips=free == FREE_DEGREE)
    atoms = atom_reports(dictionary, gates, seen, labels, distance)
    warnings += shortened(atoms, dictionary)
    clock("atoms")
    exact = exact_count(network, law)
    clock("exact count")
    return Analysis(
        source=network,
        law=law,
        rho=question.rho,
        quotient=whole,
        domain_inactive={},
        norm=norm,
        energy=energy,
        staircase=stairs,
        upper=upper,
        lower=lower,
        s_star=found,
        dictionary=dictionary,
        atoms=atoms,
        projection=projection(gates, heads, labels, free == FREE_DEGREE),
        threshold=None,
        exact=exact,
        warnings=warnings,
        config=question.config(law, stairs.resolution),
        timing=clock.laps,
        free=free,
    )


def absorbed(network: Network, free: int) -> tuple[Network, float]:
    """A white gated network with what is charged of A and c as atoms of a constant gate, and how far that is from it.

    [A c] = Σ_r s_r a_r (y_r, e_r)ᵀ (its singular value decomposition) is Σ_r (s_r/σ(t))a_r·σ(t)·(⟨y_r, x⟩ + e_r); the
    degree of c alone is charged where ``free`` < 0.
    """
    level = network.offset if free < 0 else np.zeros(network.m)
    part = np.concatenate([network.affine, level[:, None]], axis=1) if free < 1 else np.zeros((network.m, 0))
    if network.gate is None or network.gate_bias is None or not part.any():
        return network, 0.0
    steps = np.linspace(-2.0, 2.0, 9)
    values = network.activation.value(steps)
    at = int(np.argmax(np.abs(values)))
    left, size, right = np.linalg.svd(part, full_matrices=False)
    kept = size > 64 * UNIT * size[0]
    count, d = int(kept.sum()), network.d
    outer = (left[:, kept] * size[kept] / values[at]).T
    lost = float(np.linalg.norm(part - (left[:, kept] * size[kept]) @ right[kept]))
    lost += (network.m + d + 8) * UNIT * float(np.linalg.norm(part))
    return network.with_(
        outer=np.concatenate([network.alpha, outer]),
        scale=1.0,
        inner=np.concatenate([network.inner, right[kept, :d]]),
        bias=np.concatenate([network.bias, right[kept, d]]),
        gate=np.concatenate([network.gate, np.zeros((count, d))]),
        gate_bias=np.concatenate([network.gate_bias, np.full(count, steps[at])]),
        affine=np.zeros_like(network.affine),
        offset=network.offset - level,
    ), lost


def gates_alone(network: Network) -> Network:
    """The gates alone, α‖ℓ‖ as their coefficients: what atoms are matched and drawn by."""
    size = np.hypot(np.linalg.norm(network.inner, axis=1), network.bias)
    return Network(network.alpha * size[:, None], _given(network.gate), network.gate_bias, network.activation)


def _given(array: Array | None) -> Array:
    if array is None:
        raise ValueError("expected a gated network")
    return array


def _sizes(network: Network) -> Array:
    """‖α_i‖‖φ_i‖ as computed."""
    square = GatedAtoms.of(network).second_moment[0]
    return np.linalg.norm(network.alpha, axis=1) * np.sqrt(np.maximum(square, 0.0))


def norm_and_energy(
    canonical: Network, upper: UpperCurve, floor: float, free: int = FREE_DEGREE
) -> tuple[Bounds, dict[str, float]]:
    """Bounds of ‖f‖ from its free degrees written out and the Gram form of the others; the shares of the energy in
    degrees 0, 1 (and 2, where quadratic polynomials are free) and beyond."""
    tensors = low_part(canonical) if free == FREE_DEGREE else linear_part(canonical)
    parts = [float(np.linalg.norm(t)) for t in tensors]
    head, margin = float(np.linalg.norm(parts[: free + 1])), low_margin(canonical)
    least, most = upper.problem.energy_bounds
    low = float(np.hypot(max(head - margin, 0.0), np.sqrt(least)) - floor)
    high = float(np.hypot(head + margin, np.sqrt(most)) + floor)
    energy = {}
    if high > 0:
        energy = {name: (x / high) ** 2 for name, x in zip(("constant", "linear", "quadratic"), parts, strict=False)}
        energy["beyond_quadratic" if free == FREE_DEGREE else "beyond_affine"] = max(1.0 - sum(energy.values()), 0.0)
    return Bounds(max(low, 0.0), high, "Gram form of the Hermite tensors"), energy
