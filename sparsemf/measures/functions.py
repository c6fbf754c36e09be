"""Norms of functions: ‖f‖ and ‖f − g‖ under a Gaussian or empirical law, and the sup over a ball.

Every result is two-sided.  ``kind`` is "certificate" when both ends hold up to the stated float64 margin, and
"estimate" for an end that is only a sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures.gaussian import UNIT, Atoms, affine_margin, affine_part, energy_beyond_affine, quadratic_energy
from sparsemf.measures.laws import Ball, Empirical, Gaussian, InputLaw, InvalidLaw
from sparsemf.measures.network import InvalidNetwork, Network

Array = NDArray[np.float64]

ARITHMETIC = "float64 with a stated rounding margin"


@dataclass(frozen=True)
class Bounds:
    """lower ≤ truth ≤ upper, absolute in the norm at hand; ``method`` names what gave the ends."""

    lower: float
    upper: float
    method: str
    arithmetic: str = ARITHMETIC


def difference(f: Network, g: Network) -> Network:
    """f − g as one network (same activation, d and m); raises :class:`InvalidNetwork` otherwise."""
    for what, a, b in (
        ("activation", f.activation.name, g.activation.name),
        ("input dimension d", f.d, g.d),
        ("outputs m", f.m, g.m),
        ("gated", f.gated, g.gated),
    ):
        if a != b:
            raise InvalidNetwork(f"{what}: expected the same for both networks to compare them, got {a} and {b}")
    return Network(
        outer=np.concatenate([f.alpha, -g.alpha]),
        inner=np.concatenate([f.inner, g.inner]),
        bias=np.concatenate([f.bias, g.bias]),
        activation=f.activation,
        affine=f.affine - g.affine,
        offset=f.offset - g.offset,
        quadratic=None if f.quadratic is None and g.quadratic is None else _forms(f) - _forms(g),
        gate=None if f.gate is None or g.gate is None else np.concatenate([f.gate, g.gate]),
        gate_bias=None if f.gate_bias is None or g.gate_bias is None else np.concatenate([f.gate_bias, g.gate_bias]),
    )


def _forms(f: Network) -> Array:
    return np.zeros((f.m, f.d, f.d)) if f.quadratic is None else f.quadratic


def l2_norm(network: Network, law: InputLaw, beyond_affine: tuple[float, float] | None = None) -> Bounds:
    """Bounds of ‖f‖ in L²(law), Euclidean over outputs.

    ``beyond_affine``: certified (lower, upper) of Σ_{k ≥ 2} ‖T_k‖² under a Gaussian law, where the caller has them.
    Raises :class:`InputError` for a gated network under a Gaussian law (its Hermite series is not that of atoms).
    """
    if isinstance(law, Empirical):
        return _empirical_norm(network, law)
    white = law.whiten(network)
    slope, constant = affine_part(white)
    affine, slack = float(np.hypot(np.linalg.norm(slope), np.linalg.norm(constant))), affine_margin(white)
    if beyond_affine is None:
        rest, forms = energy_beyond_affine(Atoms.of(white), white.alpha), quadratic_energy(white)
        beyond_affine = (max(rest.lower + forms.lower, 0.0), max(rest.upper + forms.upper, 0.0))
    return Bounds(
        lower=float(np.hypot(max(affine - slack, 0.0), np.sqrt(beyond_affine[0]))),
        upper=float(np.hypot(affine + slack, np.sqrt(beyond_affine[1]))) * (1 + 4 * UNIT),
        method="Hermite degrees 0 and 1 exactly, the rest by the Gaussian kernel",
    )


def l2_distance(f: Network, g: Network, law: InputLaw) -> Bounds:
    """Bounds of ‖f − g‖ in L²(law) from the Gram form of the difference (cancels below about 1e-7·mass)."""
    return l2_norm(difference(f, g), law)


def _read_by_activation(network: Network) -> tuple[Array, Array]:
    """The weights and biases that σ reads: of the gate where there is one."""
    if network.gate is None or network.gate_bias is None:
        return network.inner, network.bias
    return network.gate, network.gate_bias


def neuron_mass(network: Network, x: Array) -> Array:
    """|σ(z_i)| + slope_i·(⟨|w_i|, |x|⟩ + |b_i|), slope_i = sup |σ′| near z_i, for every row and neuron, (n, N): what
    the rounding of a neuron's value scales with.  A gated neuron: that of its gate times ⟨|w_i|, |x|⟩ + |b_i|."""
    size = np.abs(x)
    inner, bias = _read_by_activation(network)
    reach = size @ np.abs(inner).T + np.abs(bias)
    z = x @ inner.T + bias
    spread = (network.d + 4) * UNIT * reach
    with np.errstate(over="ignore", invalid="ignore"):
        mass = np.abs(network.activation.value(z)) + network.activation.sup_slope(z - spread, z + spread) * reach
        if network.gated:
            mass *= size @ np.abs(network.inner).T + np.abs(network.bias)
    return mass


def evaluation_mass(network: Network, x: Array, block: int = 1 << 22) -> Array:
    """Σ_i ‖α_i‖·:func:`neuron_mass` + ‖(|x|ᵀ|Q_o||x|)_o‖ + ‖|A||x|‖ + ‖c‖, for every
    row: what float64 rounding scales with."""
    size = np.abs(x)
    out = np.linalg.norm(size @ np.abs(network.affine).T, axis=1) + np.linalg.norm(network.offset)
    if network.quadratic is not None:
        square = np.zeros(x.shape[0])
        for form in network.quadratic:
            square += np.einsum("ni,ni->n", size @ np.abs(form), size) ** 2
        out += np.sqrt(square)
    weight = np.linalg.norm(network.alpha, axis=1)
    rows = max(1, block // max(network.width, 1))
    for start in range(0, x.shape[0], rows):
        part = slice(start, start + rows)
        with np.errstate(over="ignore", invalid="ignore"):
            out[part] += neuron_mass(network, x[part]) @ weight
    return out


def evaluation_error(network: Network, x: Array) -> Array:
    """Stated margin of ‖f(x)‖ evaluated in float64: (N + d + 64)·UNIT·mass, shape (n,)."""
    return (network.width + network.d + 64) * UNIT * evaluation_mass(network, x)


def _sizes(network: Network, x: Array, where: str) -> tuple[Array, Array]:
    """‖f(x)‖ row by row and its rounding margin; raises :class:`InvalidLaw` where they leave the range of numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.linalg.norm(network(x), axis=1)
    slack = evaluation_error(network, x)
    if not np.isfinite(size + slack).all():
        raise InvalidLaw(
            f"{network.activation.name}: expected finite values of the network {where}, got an overflow; use smaller "
            "inputs"
        )
    return size, slack


def _empirical_norm(network: Network, law: Empirical) -> Bounds:
    if network.d != law.d:
        raise InvalidLaw(f"expected inputs of dimension {network.d}, got {law.d}")
    size, slack = _sizes(network, law.x, "on the data")

    def root_mean(v: Array) -> float:
        return float(np.sqrt(np.mean(v * v)))

    grow = (law.x.shape[0] + 8) * UNIT
    return Bounds(
        lower=root_mean(np.maximum(size - slack, 0.0)) * (1 - grow),
        upper=root_mean(size + slack) * (1 + grow),
        method="evaluation on every data row",
    )


def sup_norm(network: Network, ball: Ball, points: int = 4096, seed: int = 0) -> Bounds:
    """Bounds of sup_{‖x‖ ≤ R} ‖f(x)‖.

    Upper: Σ_i ‖α_i‖·sup|σ| over z ∈ [b − R‖w‖, b + R‖w‖] (gated: of the gate, times R‖w‖ + |b|), plus (Σ_o
    ‖Q_o‖²)^{1/2}R² + ‖A‖₂R + ‖c‖.  Lower: the largest value at ``points`` random points of the sphere of radius R and
    of the ball. Raises :class:`InvalidLaw` where the values leave the range of numbers.
    """
    radius = ball.radius
    inner, bias = _read_by_activation(network)
    # outwards by more than the rounding of reach and of the ends
    reach = radius * np.linalg.norm(inner, axis=1)
    reach = reach + (network.d + 8) * UNIT * (reach + np.abs(bias))
    weight = np.linalg.norm(network.alpha, axis=1)
    if network.gated:
        weight = weight * (radius * np.linalg.norm(network.inner, axis=1) + np.abs(network.bias))
    upper = float(weight @ network.activation.sup_abs(bias - reach, bias + reach))
    upper += radius * float(np.linalg.norm(network.affine, 2)) + float(np.linalg.norm(network.offset))
    if network.quadratic is not None:
        upper += radius**2 * float(np.linalg.norm(np.linalg.norm(network.quadratic, 2, axis=(1, 2))))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((points, network.d))
    x *= radius / np.maximum(np.linalg.norm(x, axis=1), 1e-300)[:, None]
    x[: points // 2] *= rng.random((points // 2, 1)) ** (1.0 / network.d)
    x *= 1 - 4 * UNIT
    size, slack = _sizes(network, x, f"on the ball of radius {radius:g}")
    return Bounds(
        lower=max(float((size - slack).max(initial=0.0)), 0.0),
        upper=upper * (1 + (network.width + 64) * UNIT),
        method="interval bound per neuron above, evaluation at sampled points below",
    )


def standard_law(network: Network) -> Gaussian:
    """N(0, I_d), the default law."""
    return Gaussian.standard(network.d)
