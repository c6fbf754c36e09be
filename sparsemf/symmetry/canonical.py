"""What all canonical forms share: the result type, the polynomial part, the active component and the error bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.measures.gaussian import UNIT
from sparsemf.measures.network import NEGLIGIBLE
from sparsemf.symmetry.metric import coefficient_power, flip_of, stretched, translates

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

MERGE_ULPS = 64
TINY = 1e-9
SILENT = 1e-150
"""Coefficients on the section below this are dropped and charged to the error: squares underflow."""
_MOST_FORM = 50_000_000
_ROOT_OF_3 = 3.0**0.5 * (1 + 1e-15)


class Remainder:
    """The polynomial part xᵀQx + A x + c while a canonical form is made; neurons pay into it.

    ``forms`` is None until a quadratic form is paid.  Raises :class:`InputError` where m·d² numbers are too many.
    """

    def __init__(self, network: Network) -> None:
        self.affine, self.offset = network.affine.copy(), network.offset.copy()
        self.forms = None if network.quadratic is None else network.quadratic.copy()

    def pay(self, alpha: Array, inner: Array, bias: Array, coefficients: Sequence[float]) -> None:
        """Add Σ_i α_i·(p₀ + p₁ z_i + p₂ z_i²), z_i = ⟨w_i, x⟩ + b_i."""
        constant, linear, *rest = coefficients
        self.affine += linear * (alpha.T @ inner)
        self.offset += alpha.T @ (constant + linear * bias)
        if rest and rest[0] != 0 and alpha.shape[0]:
            self.affine += 2 * rest[0] * ((alpha * bias[:, None]).T @ inner)
            self.offset += rest[0] * (alpha.T @ bias**2)
            self._products(rest[0] * alpha, inner, inner)

    def pay_product(self, alpha: Array, gate: Array, gate_bias: Array, inner: Array, bias: Array) -> None:
        """Add Σ_i α_i·(⟨g_i, x⟩ + c_i)(⟨v_i, x⟩ + e_i)."""
        self.affine += (alpha * gate_bias[:, None]).T @ inner + (alpha * bias[:, None]).T @ gate
        self.offset += alpha.T @ (gate_bias * bias)
        if alpha.shape[0]:
            self._products(alpha, gate, inner)

    def _products(self, alpha: Array, first: Array, second: Array) -> None:
        if self.forms is None:
            (m, d) = self.affine.shape
            if m * d * d > _MOST_FORM:
                raise InputError(
                    f"quadratic part: expected at most {_MOST_FORM:,} numbers m·d², got m = {m}, d = {d}; "
                    "charge it (--affine offset or charged), project the inputs or choose fewer outputs"
                )
            self.forms = np.zeros((m, d, d))
        for j in range(alpha.shape[1]):
            product = (first * alpha[:, j : j + 1]).T @ second
            self.forms[j] += 0.5 * (product + product.T)

    @property
    def quadratic(self) -> Array | None:
        """Q, or None where it vanishes."""
        return self.forms if self.forms is not None and self.forms.any() else None


@dataclass(frozen=True, eq=False)
class Quotient:
    """The canonical form of ``source`` and the way back.

    ``network`` has scale 1 and atoms on the section.  For source neuron i: ``label[i]`` its atom (−1: not
    active, or cancelled, or dissolved in a matrix; one of them where it is spread over several), ``sign[i]`` = −1 when
    it was flipped relative to that atom, ``stretch[i]`` its scale t_i, ``share[i]`` (m,) its contribution to the atom's
    coefficient.  ``inactive`` counts by reason.

    ``merge_error`` bounds the L²(N(0, I)) cost of the merge, Σ‖κ_i‖·M_i·‖v_i ∓ v_g‖ with M = Lip(σ) or, where σ′ is
    unbounded, the modulus at that neuron; for Lipschitz σ without a gate the sup over the ball of radius R is at
    most (1 + R) times it.  ``rounding`` is the stated margin of doing all this in float64,
    (N + d + 64)·UNIT·[Σ‖α_i‖(|σ(0)| + Lip·‖(w_i, b_i)‖) + ‖Q‖ + ‖A‖ + ‖c‖], in the same norms (for unbounded σ′ with
    the activation's own ``rounding_size``).

    Where single neurons lose their identity (``carrier`` is not None) atom k is carried back to neuron ``carrier[k]``,
    or to the polynomial part where that is −1.  ``unique``: whether equal functions have equal canonical forms, up to
    rounding and to a flip at the boundary of the half-space (not so for tensors, for blocks of kinks found without
    exhausting the search, for repeated singular values, and for gates that are not of the kind "atoms").
    """

    source: Network
    network: Network
    inactive: dict[str, int]
    flips: int
    merged: int
    cancelled: int
    merge_error: float
    rounding: float
    label: Integers
    sign: Integers
    stretch: Array
    share: Array
    carrier: Integers | None = None
    unique: bool = True

    @property
    def active(self) -> int:
        """Number of active neurons of the source."""
        return self.source.width - sum(self.inactive.values())

    @property
    def error(self) -> float:
        """Bound of ‖f − f_canonical‖ in L²(N(0, I)); for Lipschitz σ, times (1 + R) in the sup norm over a ball."""
        return self.merge_error + self.rounding

    def invert(self, network: Network | None = None) -> Network:
        """A network of the source's width and neurons' order whose canonical form is ``network``.

        Default: the canonical form itself, so f is the source's to rounding.  A changed ``network`` (same number of
        atoms: refitted, moved or zeroed) is carried back through the scalings, flips and splits: each
        neuron follows its atom, and a change of coefficient goes to the atom's first neuron.  Where neurons have no
        atom of their own (``carrier``), the atoms are written to their carriers as they are and the rest falls silent.
        """
        target = network or self.network
        if target.width != self.network.width or target.m != self.network.m or target.d != self.network.d:
            raise ValueError(
                f"expected {self.network.width} atoms with d = {self.network.d}, m = {self.network.m}, got {target!r}"
            )
        return self._followed(target) if self.carrier is None else self._carried(target, self.carrier)

    def _followed(self, target: Network) -> Network:
        source, flip = self.source, flip_of(self.source.activation)
        kept = np.flatnonzero(self.label >= 0)
        atom = self.label[kept]
        share = self.share[kept].copy()
        first = np.unique(atom, return_index=True)[1]
        totals = np.zeros((target.width, target.m))
        np.add.at(totals, atom, share)
        share[first] += target.alpha[atom[first]] - totals[atom[first]]
        sign, stretch = self.sign[kept], self.stretch[kept]
        flipped = sign < 0
        outer = stretched(share, stretch, -coefficient_power(source.activation))
        inner, bias = source.inner.copy(), source.bias.copy()
        if translates(source.activation):
            inner[kept] = target.inner[atom]
            bias[kept] = target.bias[atom] + 2 * np.log(stretch)
        else:
            centre = 0.0 if flip is None else flip.centre
            inner[kept] = (sign * stretch)[:, None] * target.inner[atom]
            bias[kept] = sign * stretch * (target.bias[atom] - centre) + centre
        remainder = Remainder(target)
        if flip is not None and flipped.any():
            outer[flipped] *= flip.sign
            rows = kept[flipped]
            remainder.pay(-outer[flipped], inner[rows], bias[rows], (flip.constant, flip.linear, flip.quadratic))
        full = np.zeros((source.width, target.m))
        full[kept] = outer
        # constant and cancelled neurons stay silent: the offset already carries what they said
        return built(source, full, inner, bias, remainder)

    def _carried(self, target: Network, carrier: Integers) -> Network:
        source = self.source
        placed = np.flatnonzero(carrier >= 0)
        rows = carrier[placed]
        outer = np.zeros((source.width, target.m))
        inner, bias = source.inner.copy(), source.bias.copy()
        outer[rows], inner[rows], bias[rows] = target.alpha[placed], target.inner[placed], target.bias[placed]
        remainder = Remainder(target)
        rest = np.flatnonzero(carrier < 0)
        if rest.size:
            coefficients = polynomial_coefficients(source.activation)
            remainder.pay(target.alpha[rest], target.inner[rest], target.bias[rest], coefficients)
        if source.gate is None or source.gate_bias is None or target.gate is None or target.gate_bias is None:
            return built(source, outer, inner, bias, remainder)
        gate, gate_bias = source.gate.copy(), source.gate_bias.copy()
        gate[rows], gate_bias[rows] = target.gate[placed], target.gate_bias[placed]
        return built(source, outer, inner, bias, remainder, gate, gate_bias)


def built(
    source: Network,
    outer: Array,
    inner: Array,
    bias: Array,
    remainder: Remainder,
    gate: Array | None = None,
    gate_bias: Array | None = None,
) -> Network:
    """A network of scale 1 with the source's activation and provenance."""
    return Network(
        outer=outer,
        inner=inner,
        bias=bias,
        activation=source.activation,
        affine=remainder.affine,
        offset=remainder.offset,
        provenance=source.provenance,
        quadratic=remainder.quadratic,
        gate=gate,
        gate_bias=gate_bias,
    )


def polynomial_coefficients(activation: Activation) -> tuple[float, ...]:
    """(p₀, p₁, …) of a polynomial activation, padded to degree 1 at least."""
    coefficients = tuple(getattr(activation, "coefficients", ()))
    if not coefficients:
        raise InputError(f"activation: expected a polynomial, got {activation.name}")
    return coefficients + (0.0,) * (2 - len(coefficients))


def still(network: Network, inner: Array, bias: Array) -> Mask:
    """Rows with w = 0 for all purposes: max |w| ≤ 1e-100, relative to the bias where σ is homogeneous."""
    unit = np.maximum(1.0, np.abs(bias)) if network.activation.homogeneous else 1.0
    return np.max(np.abs(inner), axis=1, initial=0.0) <= NEGLIGIBLE * unit


def half_space_sign(points: Array) -> Integers:
    """−1 where the first entry of w that is not tiny (relative to the largest) is negative, else +1."""
    return direction_sign(points[:, :-1])


def direction_sign(w: Array) -> Integers:
    """−1 where the first entry that is not tiny (relative to the largest) is negative, else +1."""
    scale = np.max(np.abs(w), axis=1, initial=0.0)
    first = np.argmax(np.abs(w) > TINY * scale[:, None], axis=1)
    return np.where(w[np.arange(w.shape[0]), first] < 0, -1, 1).astype(np.int64)


def functional(points: Array) -> Array:
    """A fixed generic linear functional: structured networks (w = e₁, e₂, …) do not tie under it."""
    return points @ np.random.default_rng(11).standard_normal(points.shape[1])


def displacement(activation: Activation, weight: Array, inner: Array, bias: Array, gap: Array) -> float:
    """Upper bound of Σ weight_i·‖σ(⟨u_i, (x, 1)⟩) − σ(⟨v_i, (x, 1)⟩)‖ in L²(N(0, I)), u_i = (inner_i, bias_i) and
    ‖u_i − v_i‖ ≤ gap_i ≪ ‖u_i‖."""
    if np.isfinite(activation.lipschitz):
        return float(activation.lipschitz * (weight @ gap))
    rows = (weight > 0) & (gap > 0)
    weight, gap = weight[rows], gap[rows]
    r, b = np.linalg.norm(inner[rows], axis=1) + gap, np.abs(bias[rows]) + gap
    if translates(activation):
        # e^{b + …} = e^b·e^{…}: the modulus itself knows |b| only
        with np.errstate(over="ignore"):
            weight, b = weight * np.exp(bias[rows]), gap
    return float((weight * activation.modulus(r, b)) @ gap)


def sizes(activation: Activation, inner: Array, bias: Array) -> Array:
    """Upper bounds of ‖σ(⟨w, x⟩ + b)‖ in L²(N(0, I))."""
    if np.isfinite(activation.lipschitz):
        return np.abs(activation.value(0.0)) + activation.lipschitz * np.hypot(np.linalg.norm(inner, axis=1), bias)
    return activation.size(np.linalg.norm(inner, axis=1), bias)


def rounding(network: Network) -> float:
    """The stated margin of a canonical form; see :class:`Quotient`."""
    activation = network.activation
    weight = np.linalg.norm(network.alpha, axis=1)
    if network.gate is not None and network.gate_bias is not None:
        value = np.hypot(np.linalg.norm(network.inner, axis=1), network.bias)
        live = (weight > 0) & (value > 0)
        gate, gate_bias = network.gate[live], network.gate_bias[live]
        mass = float((weight * value)[live] @ fourth_size(activation, gate, gate_bias)) * 3.0**0.25
    elif np.isfinite(activation.lipschitz):
        reach = np.hypot(np.linalg.norm(network.inner, axis=1), network.bias) * activation.lipschitz
        mass = weight @ (np.abs(activation.value(0.0)) + reach)
    else:
        live = weight > 0
        size = activation.rounding_size(np.linalg.norm(network.inner[live], axis=1), network.bias[live])
        mass = float(weight[live] @ size)
    mass += np.linalg.norm(network.affine) + np.linalg.norm(network.offset)
    if network.quadratic is not None:
        trace = np.trace(network.quadratic, axis1=1, axis2=2)
        mass += float(np.sqrt(2 * np.sum(network.quadratic**2) + np.sum(trace**2)))
    return float((network.width + network.d + 64) * UNIT * mass)


def fourth_size(activation: Activation, gate: Array, gate_bias: Array) -> Array:
    """An upper bound of ‖σ(u)‖_{L⁴}, and what rounds in it.

    For unbounded σ′: ‖p‖₄ ≤ 3^{n/2}‖p‖₂ for polynomials of degree n (hypercontractivity; relu² is below z²), and
    ‖e^u‖₄ = e^{b + 2r²}.
    """
    r = np.linalg.norm(gate, axis=1)
    if np.isfinite(activation.lipschitz):
        return np.abs(activation.value(0.0)) + activation.lipschitz * 3.0**0.25 * np.hypot(r, gate_bias)
    if translates(activation):
        return activation.rounding_size(_ROOT_OF_3 * r, gate_bias)
    degree = activation.homogeneous or len(polynomial_coefficients(activation)) - 1
    return _ROOT_OF_3**degree * activation.rounding_size(r, gate_bias)


def product_displacement(
    activation: Activation, weight: Array, gate: Array, gate_bias: Array, value: Array, gap: Array
) -> float:
    """Upper bound of Σ weight_i·‖(σ(u_i) − σ(u′_i))·ℓ_i‖ in L²(N(0, I)), gates moved by at most gap_i, ‖ℓ̃_i‖ = value_i.

    Hölder with two L⁴ norms.  For unbounded σ′, hypercontractivity: ‖σ′‖_{L⁸} of polynomials is at most ‖σ′‖_{L⁴} at
    √(7/3)·(r, b), and so it is for e^u; ‖N(0, 1)‖₈/‖N(0, 1)‖₄ = 1.36.
    """
    weight = weight * value * 3.0**0.25 * (1 + 1e-15)
    if np.isfinite(activation.lipschitz):
        return float(activation.lipschitz * 3.0**0.25 * (weight @ gap))
    # e^b is a factor of e^u: a negative bias must not be stretched
    stretch = np.where(gate_bias < 0, 1.0, 1.528) if translates(activation) else 1.528
    return 1.36 * displacement(activation, weight, 1.528 * gate, stretch * gate_bias, 1.528 * gap)
