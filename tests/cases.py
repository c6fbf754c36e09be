"""Case generators with known truth, shared by all tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import names
from sparsemf.measures import Network

Array = NDArray[np.float64]

ACTIVATIONS = (*names(), "leaky_relu(0.3)")
OTHERS = ("relu2", "exp", "relu6", "hardtanh", "hard_sigmoid", "linear", "quadratic", "cubic", "hermite")
"""Flips that cost a quadratic form, unbounded slopes, or atoms that are not independent."""
ANALYSED = tuple(name for name in ACTIVATIONS if name not in OTHERS)
"""Lipschitz, independent atoms, flips that cost an affine function; seeded cases draw from this list in its order."""


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


def planted_gated(
    rng: np.random.Generator,
    activation: str,
    d: int = 5,
    atoms: int = 4,
    outputs: int = 2,
    shared: int = 0,
    bias: bool = True,
    polynomial: bool = False,
) -> Network:
    """A gated network with separated gates; the first gate carries ``shared`` more atoms, of independent values."""
    gate = 1.2 * separated_directions(rng, atoms, d)
    shift = rng.normal(0.0, 0.5, atoms) if bias else np.zeros(atoms)
    owner = np.concatenate([np.arange(atoms), np.zeros(shared, dtype=int)])
    n = owner.size
    form = rng.standard_normal((outputs, d, d))
    return Network(
        outer=rng.uniform(0.5, 1.5, (n, outputs)) * rng.choice([-1.0, 1.0], (n, outputs)),
        inner=rng.standard_normal((n, d)),
        bias=rng.normal(0.0, 0.5, n) if bias else None,
        activation=activation,
        affine=0.3 * rng.standard_normal((outputs, d)) if polynomial else None,
        offset=rng.standard_normal(outputs) if polynomial else None,
        quadratic=0.1 * (form + form.transpose(0, 2, 1)) if polynomial else None,
        gate=gate[owner],
        gate_bias=shift[owner],
    )


def evaluation_scale(network: Network, x: Array) -> float:
    """What the rounding of f scales with: Σ‖α_i‖·max|σ|·max|ℓ| and the polynomial part, on these inputs."""
    points, shift = (network.inner, network.bias) if network.gate is None else (network.gate, network.gate_bias)
    z, out = x @ points.T + shift, np.linalg.norm(network.alpha, axis=1)
    step = 1e-2 * np.maximum(np.abs(z), 1.0)
    # values near z stand for |σ′(z)||z|
    size = np.max(np.abs(network.activation.value(z)) + np.abs(network.activation.value(z + step)), axis=0, initial=0.0)
    reach = np.max(np.abs(x @ network.inner.T + network.bias), axis=0, initial=0.0) if network.gated else 1.0
    total = float(np.sum(out * size * reach)) + float(np.linalg.norm(network.offset))
    total += float(np.linalg.norm(network.affine)) * float(np.linalg.norm(x, axis=1).max())
    if network.quadratic is not None:
        total += float(np.linalg.norm(network.quadratic)) * float(np.sum(x**2, axis=1).max())
    return total


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
