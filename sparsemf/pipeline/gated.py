"""Analyze a gated block under a Gaussian law: the staircase with a free polynomial part of degree ≤ 2.

An atom is α·σ(⟨g, x⟩ + c)·(⟨v, x⟩ + e).  Upper curve: atoms of the canonical form, selected and refitted in the kernel
beyond degree 2; lower curve: flattenings in which S atoms have rank 2S.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.exact import exact_count
from sparsemf.certificates.sparsity import staircase
from sparsemf.identifiability import lower_curve
from sparsemf.measures import Atoms, Bounds, Gaussian, Network
from sparsemf.measures.gated import FREE_DEGREE, GatedAtoms, low_margin, low_part
from sparsemf.pipeline.analyze import Analysis, Clock, assign, atom_reports, conditioning, projection
from sparsemf.pipeline.coordinates import input_coordinates
from sparsemf.pipeline.exact import taken, whitening_error
from sparsemf.pipeline.laws import describe
from sparsemf.recovery import Effort, Progress, UpperCurve, upper_curve
from sparsemf.recovery.gated import linear_part
from sparsemf.symmetry import quotient

Array = NDArray[np.float64]


def gated_analysis(
    network: Network,
    law: Gaussian,
    rho: str,
    eps: float | None,
    rel_eps: float | None,
    resolution: float,
    effort: Effort | None,
    progress: Progress,
) -> Analysis:
    """The sparse dictionary and certified S* staircase of a gated block with Lipschitz gates."""
    clock = Clock()
    whole = quotient(network)
    seen = quotient(law.whiten(network))
    floor = seen.error + whitening_error(law, network)
    canonical = seen.network
    clock("quotient")
    progress("lower curve", 0.05)
    lower = lower_curve(canonical)
    clock("lower curve")
    upper = upper_curve(canonical, floor=floor, effort=effort, resolution=resolution, progress=progress)
    clock("upper curve")
    norm, energy = norm_and_energy(canonical, upper, floor)
    stairs = staircase(upper, lower, norm.upper, floor, whole.active, network.provenance.precision, resolution)
    found = stairs.s_star(eps if eps is not None else None if rel_eps is None else rel_eps * norm.lower)
    recovered = upper.network(min(found.value, canonical.width))
    mass = _sizes(recovered)
    recovered = taken(recovered, np.argsort(-mass, kind="stable"))
    dictionary = input_coordinates(recovered, law)
    warnings = []
    if not found.certified:
        warnings.append(f"S* is between {found.lower} and {found.upper} at ε = {found.eps[0]:.3g}: not certified")
    warnings += conditioning(float(_sizes(canonical).sum()), norm.upper)
    gates, heads = _gates(canonical), Atoms.of(_gates(recovered))
    labels, distance = assign(gates, heads)
    atoms = atom_reports(dictionary, gates, seen, labels, distance)
    if len(atoms) < dictionary.width:
        warnings.append(f"only the {len(atoms)} largest of {dictionary.width} atoms are listed")
    clock("atoms")
    exact = exact_count(network, law)
    clock("exact count")
    return Analysis(
        source=network,
        law=law,
        rho=rho,
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
        projection=projection(gates, heads, labels),
        threshold=None,
        exact=exact,
        warnings=warnings,
        config={
            **describe(law, rho),
            "eps": eps,
            "rel_eps": rel_eps,
            "resolution": stairs.resolution,
            "affine": "free",
        },
        timing=clock.laps,
        free=FREE_DEGREE,
    )


def _gates(network: Network) -> Network:
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
    """Bounds of ‖f‖ from its free degrees written out and the Gram form of the others; the shares of the energy (of
    the latter together where less than quadratic polynomials is free)."""
    parts = [
        float(np.linalg.norm(t))
        for t in (low_part(canonical) if free == FREE_DEGREE else linear_part(canonical)[: free + 1])
    ]
    head, margin = float(np.linalg.norm(parts)), low_margin(canonical)
    least, most = upper.problem.energy_bounds
    low = float(np.hypot(max(head - margin, 0.0), np.sqrt(least)) - floor)
    high = float(np.hypot(head + margin, np.sqrt(most)) + floor)
    total = high**2
    energy = {}
    if total > 0:
        energy = {name: x**2 / total for name, x in zip(("constant", "linear", "quadratic"), parts, strict=False)}
        energy["beyond_quadratic" if free == FREE_DEGREE else "beyond"] = max(1.0 - sum(energy.values()), 0.0)
    return Bounds(max(low, 0.0), high, "Gram form of the Hermite tensors"), energy
