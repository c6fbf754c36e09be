"""The atoms of a dictionary as results list them: in input coordinates, with the particles of the source near each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Atoms, Bounds, Empirical, InputLaw, Network
from sparsemf.pipeline.coordinates import input_coordinates
from sparsemf.pipeline.reduction import low_norms
from sparsemf.symmetry import Quotient, Section, point_distances

Array = NDArray[np.float64]

LISTED_NUMBERS = 400_000
"""So many numbers of a dictionary are listed in a document; the explicit network is a file of its own."""
_PROJECTED = 3000


@dataclass(frozen=True, eq=False)
class AtomReport:
    """One atom in input coordinates, and the particles of the source nearest to it in the quotient."""

    w: Array
    b: float
    alpha: Array
    particles: int
    spread: float
    gate: tuple[Array, float] | None = None


def taken(network: Network, rows: NDArray[np.intp]) -> Network:
    """Some of the neurons, the polynomial part kept."""
    changes = {name: getattr(network, name)[rows] for name in ("outer", "inner", "bias")}
    if network.gate is not None and network.gate_bias is not None:
        changes |= {"gate": network.gate[rows], "gate_bias": network.gate_bias[rows]}
    return network.with_(**changes)


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
    for k in range(min(dictionary.width, max(1, LISTED_NUMBERS // numbers))):
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


def shortened(atoms: list[AtomReport], dictionary: Network) -> list[str]:
    """The warning that not all atoms are listed, where they are not."""
    if len(atoms) < dictionary.width:
        return [f"only the {len(atoms)} largest of {dictionary.width} atoms are listed"]
    return []


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
