"""Case generators with known truth, shared by all tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import names
from sparsemf.measures import Network

Array = NDArray[np.float64]

ACTIVATIONS = (*names(), "leaky_relu(0.3)")


def separated_directions(rng: np.random.Generator, count: int, d: int, largest_cosine: float = 0.8) -> Array:
    """Unit vectors with pairwise |cos| ≤ largest_cosine, by rejection."""
    found: list[Array] = []
    while len(found) < count:
        w = rng.standard_normal(d)
        w /= np.linalg.norm(w)
        if all(abs(w @ v) <= largest_cosine for v in found):
            found.append(w)
    return np.array(found)


def planted(
    rng: np.random.Generator,
    activation: str,
    d: int = 8,
    atoms: int = 5,
    outputs: int = 1,
    bias: bool = False,
    length: float = 1.5,
    affine: bool = False,
) -> Network:
    """A well-separated planted network: coefficients of size 0.5 … 1.5, directions of length ``length``."""
    size = rng.uniform(0.5, 1.5, (atoms, outputs)) * rng.choice([-1.0, 1.0], (atoms, outputs))
    return Network(
        outer=size,
        inner=length * separated_directions(rng, atoms, d),
        bias=rng.normal(0.0, 0.5, atoms) if bias else None,
        activation=activation,
        affine=0.3 * rng.standard_normal((outputs, d)) if affine else None,
        offset=rng.standard_normal(outputs) if affine else None,
    )


def rotated_atom(network: Network, rng: np.random.Generator, index: int, angle: float) -> Network:
    """One atom's direction turned by ``angle`` (radians) in a random plane, its length kept."""
    w = network.inner[index]
    unit = w / np.linalg.norm(w)
    side = rng.standard_normal(w.size)
    side -= (side @ unit) * unit
    side /= np.linalg.norm(side)
    inner = network.inner.copy()
    inner[index] = np.linalg.norm(w) * (np.cos(angle) * unit + np.sin(angle) * side)
    return network.with_(inner=inner)


def relative_error(found: Array, truth: Array) -> float:
    """max|found − truth| / max|truth|."""
    return float(np.max(np.abs(found - truth)) / np.max(np.abs(truth)))
