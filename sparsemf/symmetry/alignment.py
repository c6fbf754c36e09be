"""B's neurons in A's order, signs and scales: an element of the realization symmetry that brings B close to A.

For each neuron of B that is matched with one of A the element moves it to A's place, flips it to A's side by
σ(z) = s·σ(−z) + c + l·z + q·z² where that is wanted, and rescales it to A's length, (α, w, b) → (α/t^k, tw, tb) for σ
homogeneous of degree k, (α, b) → (α e^t, b − t) for exp.  Of a gated neuron the gate is flipped and rescaled so, and
besides (α, v) → (α/t, tv) for its value v, t of either sign.  The function stays B's: what the flips cost, the
polynomial Σ α_i (c + l·z_i + q·z_i²), or Σ α_i (c + l·z_i)·⟨v_i, (x, 1)⟩ for gates z_i, is paid into offset, affine and
quadratic part.  (A gate with q ≠ 0 is not flipped: its cost is a cubic.)

Where the result must do without some of these parts (a transformer block has an output bias and no affine part), only
flips are made whose unpayable cost is zero to rounding: all of them together, or else the pairs that cancel.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsemf.activations import Relation
from sparsemf.exceptions import InputError
from sparsemf.measures import Network
from sparsemf.symmetry.assignment import FARTHEST_SHIFT, Assignment, assign, given, points_of, values_of

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

UNIT_OF = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
PARTS = ("offset", "affine", "quadratic")

_UNIT = 2.0**-53
_PROBES = 6


@dataclass(frozen=True, eq=False)
class Aligned:
    """``network`` has B's function; position p holds B's neuron ``source[p]``.

    ``partner[p]`` is the neuron of A it was matched with (−1: none), ``sign[p]`` = −1 when it was flipped,
    ``stretch[p]`` the factor t on (w, b), of a gated neuron on the gate (for exp the shift t); ``value_stretch[p]`` the
    factor on a gated neuron's value, with its sign (1 for others).  ``refused`` flips were wanted and not made, because
    the cost had no place to go.  ``residual`` is what was taken for zero of the unpayable cost, relative to
    √Σ‖cost_i‖².  ``distance`` is the largest relative distance of a matched pair on the section
    (:class:`~sparsemf.symmetry.assignment.Assignment`).  ``in_place`` says whether all matched neurons stand in A's
    positions (not so when B is narrower than A and some of these do not exist: then they keep A's order).
    """

    network: Network
    source: Integers
    partner: Integers
    sign: Integers
    stretch: Array
    value_stretch: Array
    refused: int
    residual: float
    distance: float
    in_place: bool

    @property
    def matched(self) -> int:
        """Neurons of B with a partner."""
        return int((self.partner >= 0).sum())

    @property
    def flipped(self) -> int:
        """Flips made."""
        return int((self.sign < 0).sum())

    @property
    def rescaled(self) -> int:
        """Neurons whose scale (for exp: shift) was changed, or the sign of their value."""
        neutral = 0.0 if self.network.activation.name == "exp" else 1.0
        return int(((self.stretch != neutral) | (self.value_stretch != 1.0)).sum())


def align(
    a: Network,
    b: Network,
    *,
    pays: Collection[str] = PARTS,
    precision: str | None = None,
    tolerance: float = 0.5,
    pairs: ArrayLike | None = None,
) -> Aligned:
    """Bring B's neurons into A's order, signs and scales; see the module's docstring.

    Parameters
    ----------
    a, b : networks of equal d and m and of one activation, gated both or neither; widths may differ
    pays : the polynomial parts ("offset", "affine", "quadratic") that the result may have
    precision : type of B's numbers ("float16", …; default: B's provenance): scales that agree to its rounding are left
        alone, and costs that vanish to its rounding are free
    tolerance : farther apart than this, relative to their length, neurons are not matched
    pairs : (k, 2), the matching (a's index, b's index) when it is known; each index at most once

    Unmatched neurons of B fill the remaining positions in their own order.  Cost: near-linear in large widths.
    Raises :class:`~sparsemf.exceptions.InputError`.
    """
    _check(a, b, pays)
    unit = UNIT_OF.get(precision or b.provenance.precision, _UNIT)
    found = assign(a, b, tolerance) if pairs is None else given(a, b, pairs)
    source, partner, in_place = _positions(b.width, found)
    wanted = np.sort(found.second[found.sign < 0])
    made, residual = _affordable(b, wanted, pays, unit)
    sign = np.ones(b.width, dtype=np.int64)
    sign[made] = -1
    stretch, value_stretch = _stretches(a, b, found, unit)
    return Aligned(
        network=_moved(b, source, sign, stretch, value_stretch, pays),
        source=source,
        partner=partner,
        sign=sign[source],
        stretch=stretch[source],
        value_stretch=value_stretch[source],
        refused=wanted.size - made.size,
        residual=residual,
        distance=float(found.distance.max(initial=0.0)),
        in_place=in_place,
    )


def _check(a: Network, b: Network, pays: Collection[str]) -> None:
    for what, first, second in (
        ("activation", a.activation.name, b.activation.name),
        ("input dimension d", a.d, b.d),
        ("outputs m", a.m, b.m),
        ("gated", a.gated, b.gated),
    ):
        if first != second:
            raise InputError(f"{what}: expected the same for both networks to align them, got {first} and {second}")
    if unknown := set(pays) - set(PARTS):
        raise InputError(f"pays: expected some of {', '.join(PARTS)}, got {min(unknown)!r}")


def _positions(width: int, found: Assignment) -> tuple[Integers, Integers, bool]:
    """(source, partner) by position, and whether every matched neuron stands in A's position."""
    source, partner = np.full(width, -1, dtype=np.int64), np.full(width, -1, dtype=np.int64)
    order = np.argsort(found.first, kind="stable")
    in_place = bool(found.first.size == 0 or found.first.max() < width)
    places = found.first[order] if in_place else np.arange(order.size)
    source[places], partner[places] = found.second[order], found.first[order]
    source[source < 0] = np.setdiff1d(np.arange(width), found.second)
    return source, partner, in_place


# flips ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Cost:
    """What flipping some neurons costs, Σ α_i (constant_i + ⟨linear_i, x⟩ + ⟨left_i, x⟩⟨right_i, x⟩): ``alpha`` (n, m),
    ``constant`` (n,), the others (n, d)."""

    alpha: Array
    constant: Array
    linear: Array
    left: Array
    right: Array

    def take(self, rows: Integers) -> _Cost:
        return _Cost(self.alpha[rows], self.constant[rows], self.linear[rows], self.left[rows], self.right[rows])

    def without(self, pays: Collection[str]) -> _Cost:
        """What no part pays for."""
        constant, linear, left = (
            0.0 * values if part in pays else values
            for part, values in (("offset", self.constant), ("affine", self.linear), ("quadratic", self.left))
        )
        return _Cost(self.alpha, constant, linear, left, self.right)

    def residual(self) -> float:
        """The largest of ‖Σ cost_i‖/√Σ‖cost_i‖² over the degrees; a quadratic form is seen on random directions."""
        size = np.linalg.norm(self.alpha, axis=1)
        squares = self._squares(np.random.default_rng(7))
        ratios = [0.0]
        for total, parts in (
            (self.alpha.T @ self.constant, size * self.constant),
            (self.alpha.T @ self.linear, size * np.linalg.norm(self.linear, axis=1)),
            (self.alpha.T @ squares, size[:, None] * squares),
        ):
            mass = float(np.linalg.norm(parts))
            if mass > 0:
                ratios.append(float(np.linalg.norm(total)) / mass)
        return max(ratios)

    def signature(self) -> Array:
        """Random functionals of each neuron's cost, (n, probes): costs cancel exactly when these do."""
        rng = np.random.default_rng(13)
        alpha = self.alpha @ rng.standard_normal((self.alpha.shape[1], _PROBES))
        linear = self.linear @ rng.standard_normal((self.linear.shape[1], _PROBES))
        return alpha * (self.constant[:, None] + linear + self._squares(rng))

    def _squares(self, rng: np.random.Generator) -> Array:
        directions = rng.standard_normal((self.left.shape[1], _PROBES))
        return (self.left @ directions) * (self.right @ directions)


def _cost(b: Network, relation: Relation, rows: Integers) -> _Cost:
    """The price of flipping ``rows`` (gated: the relation has no quadratic term)."""
    c, l, q = relation.constant, relation.linear, relation.quadratic  # noqa: E741
    alpha, w, bias = b.alpha[rows], b.inner[rows], b.bias[rows]
    if b.gate is not None and b.gate_bias is not None:
        gate, gate_bias = b.gate[rows], b.gate_bias[rows]
        constant = (c + l * gate_bias) * bias
        linear = (c + l * gate_bias)[:, None] * w + (l * bias)[:, None] * gate
        return _Cost(alpha, constant, linear, l * gate, w)
    return _Cost(alpha, c + l * bias + q * bias**2, (l + 2.0 * q * bias)[:, None] * w, q * w, w)


def _affordable(b: Network, rows: Integers, pays: Collection[str], unit: float) -> tuple[Integers, float]:
    """Of the flips wanted those that can be made, and the unpayable cost that was taken for zero."""
    relation = b.activation.relation
    none = np.zeros(0, dtype=np.int64)
    if not rows.size or relation is None or (b.gated and relation.quadratic):
        return none, 0.0
    cost = _cost(b, relation, rows).without(pays)
    allowed = 4.0 * unit + np.sqrt(rows.size) * _UNIT
    residual = cost.residual()
    if residual <= allowed:
        return rows, residual
    kept = _cancelling(cost, allowed)
    residual = cost.take(kept).residual() if kept.size else 0.0
    return (rows[kept], residual) if residual <= 2.0 * allowed else (none, 0.0)


def _cancelling(cost: _Cost, allowed: float) -> Integers:
    """Neurons whose flip costs nothing, and pairs whose costs cancel: near each other in the order of |functional|."""
    signature = cost.signature()
    size = np.linalg.norm(signature, axis=1)
    kept = [int(i) for i in np.flatnonzero(size == 0)]
    height = np.abs(signature[:, 0])
    waiting: list[int] = []
    for i in np.argsort(height, kind="stable"):
        if size[i] == 0:
            continue
        reach = 4.0 * allowed * np.hypot(size[i], size[i])
        waiting = [j for j in waiting if height[i] - height[j] <= reach]
        for j in waiting:
            if np.linalg.norm(signature[i] + signature[j]) <= reach:
                kept += [int(i), j]
                waiting.remove(j)
                break
        else:
            waiting.append(int(i))
    return np.array(sorted(kept), dtype=np.int64)


# scales --------------------------------------------------------------------------------------------------------


def _stretches(a: Network, b: Network, found: Assignment, unit: float) -> tuple[Array, Array]:
    """Per neuron of B the factor that gives its point A's length (for exp the shift of its bias), and its value's."""
    first, second = found.first, found.second
    stretch, value_stretch = np.ones(b.width), np.ones(b.width)
    ours, theirs = points_of(a)[first], points_of(b)[second]
    if b.activation.name == "exp":
        shift = theirs[:, -1] - ours[:, -1]
        usable = (np.abs(shift) <= FARTHEST_SHIFT) & (np.abs(shift) > 8.0 * unit * np.abs(theirs[:, -1]))
        stretch = np.zeros(b.width)
        stretch[second] = np.where(usable, shift, 0.0)
    elif b.activation.homogeneous is not None:
        stretch[second] = _ratio(ours, theirs, unit)
    if b.gated:
        ours, theirs = values_of(a)[first], values_of(b)[second]
        side = np.where(np.einsum("ij,ij->i", ours, theirs) < 0, -1.0, 1.0)
        value_stretch[second] = side * _ratio(ours, theirs, unit)
    return stretch, value_stretch


def _ratio(ours: Array, theirs: Array, unit: float) -> Array:
    """Lengths ours/theirs, 1 where they agree to the rounding of B's type, and a power of two where it is one."""
    one, other = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
    usable = (one > 0) & (other > 0)
    factor = np.where(usable, one, 1.0) / np.where(usable, other, 1.0)
    power = np.exp2(np.round(np.log2(factor)))
    factor = np.where(np.abs(factor / power - 1.0) <= 16.0 * _UNIT, power, factor)
    return np.where(np.abs(factor - 1.0) <= 8.0 * unit, 1.0, factor)


# the element itself --------------------------------------------------------------------------------------------


def _moved(
    b: Network, source: Integers, sign: Integers, stretch: Array, value_stretch: Array, pays: Collection[str]
) -> Network:
    """B with the flips, scales and permutation carried out and the flips' cost paid."""
    relation, k = b.activation.relation, b.activation.homogeneous
    points, outer = points_of(b) * sign[:, None], b.outer
    changes: dict[str, Array] = {}
    flipped = np.flatnonzero(sign < 0)
    if relation is not None and flipped.size:
        outer = outer * np.where(sign < 0, relation.sign, 1)[:, None]
        changes = _paid(b, relation, flipped, pays)
    if b.activation.name == "exp":
        outer, points[:, -1] = outer * np.exp(stretch)[:, None], points[:, -1] - stretch
    elif k is not None:
        outer, points = outer / (stretch**k)[:, None], points * stretch[:, None]
    if b.gated:
        values = values_of(b) * value_stretch[:, None]
        outer = outer / value_stretch[:, None]
        changes |= {"gate": points[source, :-1], "gate_bias": points[source, -1]}
    else:
        values = points
    return b.with_(outer=outer[source], inner=values[source, :-1], bias=values[source, -1], **changes)


def _paid(b: Network, relation: Relation, rows: Integers, pays: Collection[str]) -> dict[str, Array]:
    """Offset, affine and quadratic part with the cost of the flips added, as far as they are paid into."""
    cost = _cost(b, relation, rows)
    paid: dict[str, Array] = {}
    if "offset" in pays and cost.constant.any():
        paid["offset"] = b.offset + cost.alpha.T @ cost.constant
    if "affine" in pays and cost.linear.any():
        paid["affine"] = b.affine + cost.alpha.T @ cost.linear
    if "quadratic" in pays and cost.left.any():
        form = np.zeros((b.m, b.d, b.d)) if b.quadratic is None else np.array(b.quadratic)
        for j in range(b.m):
            form[j] += (cost.left * cost.alpha[:, j : j + 1]).T @ cost.right  # a network symmetrises it
        paid["quadratic"] = form
    return paid
