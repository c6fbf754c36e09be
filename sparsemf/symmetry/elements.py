"""Random elements of the realization symmetry: disguises of a network that leave its function unchanged.

The generator of test cases with known truth, also used by benchmarks and the documentation.  Beyond permutation,
splitting and silent neurons, by activation:

- flips with their polynomial paid: σ(z) = s·σ(−z) + P(z), relu6 about z = 3; relu² pays a quadratic form;
- (α/t^k, tw, tb) for σ homogeneous of degree k, (α e^t, w, b − t) for exp;
- hardtanh, hard_sigmoid, relu6: σ(z) = ½[σ(2z − l) + σ(2z − h)], l and h the ends of the ramp;
- linear: α → G^{−ᵀ}α, (w, b) → G(w, b) with G well conditioned; z² with one output: rotations in O(p, q);
- gated: (α, ℓ) → (α/t, tℓ) with t of both signs, mixing of the values that share a gate, flips of the gates with their
  form paid, and scalings of the gates as above.

sin and cos: the parity only, as b + 2π rounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Network
from sparsemf.symmetry.canonical import Remainder
from sparsemf.symmetry.gated import gate_flip
from sparsemf.symmetry.kinks import Ramp
from sparsemf.symmetry.metric import Flip, coefficient_power, flip_of, stretched, translates

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_MIXED = 64
_LARGEST_RAPIDITY = 0.5


def disguise(
    network: Network,
    rng: np.random.Generator,
    width: int | None = None,
    flips: bool = True,
    scale: float | None = None,
) -> Network:
    """The same function with ``width`` neurons: split, rescaled, flipped with compensation, padded with dead and
    constant neurons, permuted, and with output scale ``scale`` (default 1/width); see the module's docstring.

    Exact in real arithmetic.  Half of the surplus neurons are splits (of a ramp, a quarter telescopes), the rest dead
    (α = 0) or constant (w = 0, paid into the offset; a constant gate is paid into the affine part).  ``width`` must be
    at least the network's (default: twice that plus 8).
    """
    n = network.width
    width = 2 * n + 8 if width is None else width
    if width < n:
        raise ValueError(f"expected width ≥ {n}, got {width}")
    scale = 1.0 / max(width, 1) if scale is None else scale
    rows = _Neurons.of(network)
    if network.activation.kind == "kinks":
        rows = _telescoped(rows, network, rng, (width - n) // 4)
    n = rows.count
    surplus = width - n
    splits = surplus if n and surplus <= 2 else (surplus // 2 if n else 0)
    dead = (surplus - splits) // 2
    constant = surplus - splits - dead

    rows = _split(rows, rng, splits)
    remainder = Remainder(network)
    if rows.values is not None:
        rows = _disguised_gates(rows, network, rng, remainder, flips)
        rows = _padded_gates(rows, network, rng, remainder, dead, constant)
    else:
        rows = _moved(rows, network, rng, remainder, flip_of(network.activation) if flips else None)
        rows = _padded(rows, network, rng, remainder, dead, constant)
        rows = _mixed(rows, network, rng)
    rows = rows.take(rng.permutation(width))
    values = rows.values
    gated = {} if values is None else {"gate": rows.points[:, :-1], "gate_bias": rows.points[:, -1]}
    points = rows.points if values is None else values
    return Network(
        outer=rows.alpha / scale,
        inner=points[:, :-1],
        bias=points[:, -1],
        activation=network.activation,
        scale=scale,
        affine=remainder.affine,
        offset=remainder.offset,
        provenance=network.provenance,
        quadratic=remainder.quadratic,
        **gated,
    )


@dataclass(frozen=True, eq=False)
class _Neurons:
    """``alpha`` (n, m), ``points`` (n, d+1) that σ acts on, and the ``values`` (n, d+1) of gated neurons."""

    alpha: Array
    points: Array
    values: Array | None

    @staticmethod
    def of(network: Network) -> _Neurons:
        inner = np.concatenate([network.inner, network.bias[:, None]], axis=1)
        if network.gate is None or network.gate_bias is None:
            return _Neurons(network.alpha.copy(), inner, None)
        return _Neurons(network.alpha.copy(), np.concatenate([network.gate, network.gate_bias[:, None]], axis=1), inner)

    @property
    def count(self) -> int:
        return self.alpha.shape[0]

    def take(self, rows: Integers) -> _Neurons:
        return _Neurons(self.alpha[rows], self.points[rows], None if self.values is None else self.values[rows])

    def joined(self, other: _Neurons) -> _Neurons:
        values = None if self.values is None or other.values is None else np.concatenate([self.values, other.values])
        return _Neurons(np.concatenate([self.alpha, other.alpha]), np.concatenate([self.points, other.points]), values)


def _telescoped(rows: _Neurons, network: Network, rng: np.random.Generator, count: int) -> _Neurons:
    """Some atoms in two halves: σ(z) = ½[σ(2z − low) + σ(2z − high)]."""
    ramp = Ramp.of(network.activation)
    chosen = rng.permutation(rows.count)[: min(count, rows.count)]
    first, second = rows.take(chosen), rows.take(chosen)
    halves = []
    for half, end in ((first, ramp.low), (second, ramp.high)):
        points = 2 * half.points
        points[:, -1] -= end
        halves.append(_Neurons(0.5 * half.alpha, points, half.values))
    rest = np.setdiff1d(np.arange(rows.count), chosen)
    return rows.take(rest).joined(halves[0]).joined(halves[1])


def _split(rows: _Neurons, rng: np.random.Generator, splits: int) -> _Neurons:
    """``splits`` more neurons, copies whose coefficients add up to the original's."""
    n = rows.count
    owner = np.concatenate([np.arange(n), rng.integers(0, max(n, 1), splits)]).astype(np.int64)
    portion = rng.uniform(0.2, 1.0, owner.size) * np.where(rng.random(owner.size) < 0.2, -0.3, 1.0)
    total = np.zeros(n)
    np.add.at(total, owner, portion)
    for k in np.flatnonzero(np.abs(total) < 0.2):  # keep the split well conditioned
        first = int(np.flatnonzero(owner == k)[0])
        portion[first] += 1.0
        total[k] += 1.0
    out = rows.take(owner)
    return _Neurons(out.alpha * (portion / total[owner])[:, None], out.points, out.values)


def _moved(
    rows: _Neurons, network: Network, rng: np.random.Generator, remainder: Remainder, flip: Flip | None
) -> _Neurons:
    """Flips, scalings and translations of ungated neurons."""
    alpha, inner, bias = rows.alpha, rows.points[:, :-1].copy(), rows.points[:, -1].copy()
    if flip is not None:
        chosen = rng.random(rows.count) < 0.5
        remainder.pay(alpha[chosen], inner[chosen], bias[chosen], (flip.constant, flip.linear, flip.quadratic))
        alpha[chosen] *= flip.sign
        inner[chosen] *= -1.0
        bias[chosen] = 2 * flip.centre - bias[chosen]
    alpha, inner, bias = _rescaled(network, rng, alpha, inner, bias)
    return _Neurons(alpha, np.concatenate([inner, bias[:, None]], axis=1), rows.values)


def _rescaled(
    network: Network, rng: np.random.Generator, alpha: Array, inner: Array, bias: Array
) -> tuple[Array, Array, Array]:
    """(α/t^k, tw, tb), and for exp (α e^t, w, b − t)."""
    if network.activation.homogeneous:
        stretch = np.exp(rng.normal(0.0, 1.0, alpha.shape[0]))
        alpha = stretched(alpha, stretch, -coefficient_power(network.activation))
        return alpha, inner * stretch[:, None], bias * stretch
    if translates(network.activation):
        shift = rng.normal(0.0, 1.0, alpha.shape[0])
        return alpha * np.exp(shift)[:, None], inner, bias - shift
    return alpha, inner, bias


def _padded(
    rows: _Neurons, network: Network, rng: np.random.Generator, remainder: Remainder, dead: int, constant: int
) -> _Neurons:
    """Dead (α = 0) and constant (w = 0) neurons."""
    alpha, level = rng.standard_normal((constant, network.m)), rng.standard_normal(constant)
    remainder.offset -= alpha.T @ network.activation.value(level)
    inner, bias = rng.standard_normal((dead, network.d)), rng.standard_normal(dead)
    silent = _Neurons(np.zeros((dead, network.m)), np.concatenate([inner, bias[:, None]], axis=1), None)
    flat = np.concatenate([np.zeros((constant, network.d)), level[:, None]], axis=1)
    return rows.joined(silent).joined(_Neurons(alpha, flat, None))


def _mixed(rows: _Neurons, network: Network, rng: np.random.Generator) -> _Neurons:
    """The continuous part of the group of linear and quadratic neurons, in blocks of at most 64 neurons."""
    kind = network.activation.kind
    if kind == "matrix":
        alpha, points = rows.alpha, rows.points.copy()
        for block in _blocks(rows.count, rng):
            turn, size = _rotation(block.size, rng), np.exp(rng.normal(0.0, 0.5, block.size))
            points[block] = turn @ (size[:, None] * points[block])
            alpha[block] = turn @ (alpha[block] / size[:, None])
        return _Neurons(alpha, points, None)
    if kind == "quadratic" and network.m == 1:
        # α w̃w̃ᵀ = ±ww̃ᵀ with w̃ scaled by √|α|: rotations among equal signs, and boosts of opposite ones
        sign = np.where(rows.alpha[:, 0] < 0, -1.0, 1.0)
        points = rows.points * np.sqrt(np.abs(rows.alpha))
        for same in (np.flatnonzero(sign > 0), np.flatnonzero(sign < 0)):
            for block in _blocks(same.size, rng):
                points[same[block]] = _rotation(block.size, rng) @ points[same[block]]
        for p, q in zip(np.flatnonzero(sign > 0), np.flatnonzero(sign < 0), strict=False):
            rapidity = rng.uniform(-_LARGEST_RAPIDITY, _LARGEST_RAPIDITY)
            boost = np.array([[np.cosh(rapidity), np.sinh(rapidity)], [np.sinh(rapidity), np.cosh(rapidity)]])
            points[[p, q]] = boost @ points[[p, q]]
        return _Neurons(sign[:, None], points, None)
    return rows


def _blocks(count: int, rng: np.random.Generator) -> list[Integers]:
    order = rng.permutation(count)
    return [order[start : start + _MIXED] for start in range(0, count, _MIXED)]


def _rotation(n: int, rng: np.random.Generator) -> Array:
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def _disguised_gates(
    rows: _Neurons, network: Network, rng: np.random.Generator, remainder: Remainder, flips: bool
) -> _Neurons:
    """Mixing of values, their scalings, and the flips and scalings of gates."""
    if rows.values is None:
        return rows
    alpha, values = rows.alpha, rows.values.copy()
    gate, shift = rows.points[:, :-1].copy(), rows.points[:, -1].copy()
    # copies of one gate: M = Σ α ℓᵀ is all that is seen of them
    _, group = np.unique(rows.points, axis=0, return_inverse=True)
    group = group.ravel()
    order = np.argsort(group, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if order.size else []:
        for start in range(0, members.size, _MIXED):
            block = members[start : start + _MIXED]
            turn = _rotation(block.size, rng)
            values[block], alpha[block] = turn @ values[block], turn @ alpha[block]
    flip = gate_flip(network)
    if flips and flip is not None:
        chosen = rng.random(rows.count) < 0.5
        inner, bias = values[chosen, :-1], values[chosen, -1]
        remainder.pay(flip.constant * alpha[chosen], inner, bias, (0.0, 1.0))
        if flip.linear:
            remainder.pay_product(flip.linear * alpha[chosen], gate[chosen], shift[chosen], inner, bias)
        alpha[chosen] *= flip.sign
        gate[chosen] *= -1.0
        shift[chosen] = 2 * flip.centre - shift[chosen]
    alpha, gate, shift = _rescaled(network, rng, alpha, gate, shift)
    size = np.exp(rng.normal(0.0, 1.0, rows.count)) * np.where(rng.random(rows.count) < 0.5, -1.0, 1.0)
    return _Neurons(alpha / size[:, None], np.concatenate([gate, shift[:, None]], axis=1), values * size[:, None])


def _padded_gates(
    rows: _Neurons, network: Network, rng: np.random.Generator, remainder: Remainder, dead: int, constant: int
) -> _Neurons:
    """Neurons without a coefficient, without a value, and with a constant gate."""
    m, d = network.m, network.d
    points, values = rng.standard_normal((dead, d + 1)), rng.standard_normal((dead, d + 1))
    alpha = rng.standard_normal((dead, m))
    half = dead // 2
    alpha[:half], values[half:] = 0.0, 0.0
    level = rng.standard_normal(constant)
    flat = np.concatenate([np.zeros((constant, d)), level[:, None]], axis=1)
    own, factor = rng.standard_normal((constant, m)), rng.standard_normal((constant, d + 1))
    remainder.pay(-own * network.activation.value(level)[:, None], factor[:, :-1], factor[:, -1], (0.0, 1.0))
    return rows.joined(_Neurons(alpha, points, values)).joined(_Neurons(own, flat, factor))
