"""The flip-invariant quotient metric between neurons.

A neuron lives on a *section* of the scaling action, with point v and coefficient κ:

- positively homogeneous σ of degree k: v = (w, b)/‖(w, b)‖, κ = α‖(w, b)‖^k;
- exp: v = (w, β), κ = α e^{b − β}, with β = 0 unless that leaves the range of numbers (then one β for all neurons);
- otherwise v = (w, b), κ = α.

(A minimum over the scalings themselves would degenerate to 0.)  The finite rest of the group, the flip
(κ, v) ~ (s·κ, −v) (relu6: about b = 3), is minimised over:

    d(θ, θ′) = min_{e ∈ {1, flip}} √(‖v − e v′‖² + ‖κ − e κ′‖²).

sin and cos also have period 2π: there v = w and κ = the coefficients of sin⟨w, x⟩ and cos⟨w, x⟩, the first of which
changes its sign under the flip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import Activation
from sparsemf.measures import Network

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_SIEVES = 4
_PAIRS = 2048
_BLOCK = 1 << 19
_LARGEST_LOG = 200.0
"""exp's section sits at b = 0 while the largest |κ| lies within e^{±200} ≈ 1e±87."""


@dataclass(frozen=True)
class Flip:
    """σ(z) = sign·σ(2·centre − z) + constant + linear·z + quadratic·z²; ``centre`` is 0 but for relu6 (3)."""

    sign: int
    centre: float = 0.0
    constant: float = 0.0
    linear: float = 0.0
    quadratic: float = 0.0

    @property
    def cost(self) -> int:
        """The degree of the polynomial that a flip costs, −1 where it costs nothing."""
        return 2 if self.quadratic else 1 if self.linear else 0 if self.constant else -1


def free_flip(activation: Activation, free: int) -> Flip | None:
    """:func:`flip_of` where polynomials of degree ≤ ``free`` pay for it, else None."""
    flip = flip_of(activation)
    return flip if flip is not None and flip.cost <= free else None


def free_relation(activation: Activation, free: int) -> bool:
    """Whether σ has a relation between opposite points, (κ, v) ~ (s·κ, −v), that polynomials of degree ≤ ``free`` pay
    for."""
    return activation.relation is not None and (free > 0 or free_flip(activation, free) is not None)


def flip_of(activation: Activation) -> Flip | None:
    """The flip that the quotient uses: the activation's relation, and for relu6 σ(z) = 6 − σ(6 − z)."""
    relation = activation.relation
    if relation is not None:
        return Flip(relation.sign, 0.0, relation.constant, relation.linear, relation.quadratic)
    if activation.kind == "kinks":
        low, high = activation.breaks
        ends = activation.value(np.array([low, high]))
        return Flip(-1, 0.5 * (low + high), float(ends[0] + ends[1]))
    return None


def translates(activation: Activation) -> bool:
    """Whether (a, w, b) ~ (a e^t, w, b − t): only exp."""
    return activation.name == "exp"


def coefficient_power(activation: Activation) -> int:
    """p with κ = α·stretch^p: the degree k of a homogeneous σ, 2 for exp (stretch = e^{(b − β)/2}), else 0."""
    if translates(activation):
        return 2
    return activation.homogeneous or 0


def stretched(coefficient: Array, stretch: Array, power: int) -> Array:
    """coefficient·stretch^power row by row, factor by factor: stretch^power alone may leave the range of numbers."""
    for _ in range(abs(power)):
        coefficient = coefficient * stretch[:, None] if power > 0 else coefficient / stretch[:, None]
    return coefficient


def exponential_level(network: Network) -> float:
    """β of exp's section: 0, or the rounded largest log‖α‖₁ + b where e^b would leave the range of numbers."""
    size = np.sum(np.abs(network.alpha), axis=1)
    live = size > 0
    if not live.any():
        return 0.0
    top = float(np.max(np.log(size[live]) + network.bias[live]))
    return 0.0 if abs(top) <= _LARGEST_LOG else float(np.round(top))


@dataclass(frozen=True, eq=False)
class Section:
    """Neurons on the section: ``points`` v (n, d+1), ``kappa`` (n, m), ``stretch`` t (n,) with (w, b) = t·v and
    κ = α t^k for homogeneous σ, κ = α t² for exp (t = e^{(b − β)/2}), and t = 1 otherwise."""

    activation: Activation
    points: Array
    kappa: Array
    stretch: Array

    @staticmethod
    def of(network: Network, level: float | None = None) -> Section:
        """Every neuron of the network (none may be 0 when σ is homogeneous); ``level`` fixes exp's β."""
        points = np.concatenate([network.inner, network.bias[:, None]], axis=1)
        stretch = np.ones(network.width)
        if network.activation.homogeneous:
            norm = np.linalg.norm(points, axis=1)
            # points already on the section keep their bits, which makes the canonical form idempotent
            stretch = np.where(np.abs(norm - 1.0) <= 8 * np.finfo(float).eps, 1.0, norm)
            points = points / np.where(stretch > 0, stretch, 1.0)[:, None]
        elif translates(network.activation):
            beta = exponential_level(network) if level is None else level
            live = network.alpha.any(axis=1)
            stretch = np.where(live, np.exp(0.5 * np.where(live, network.bias - beta, 0.0)), 1.0)
            points[:, -1] = beta
        kappa = stretched(network.alpha, stretch, coefficient_power(network.activation))
        return Section(network.activation, points, kappa, stretch)

    @property
    def flips(self) -> bool:
        """Whether σ has a flip relation."""
        return self.activation.relation is not None

    @property
    def flip_sign(self) -> int:
        """s of the flip relation (1 when there is none)."""
        return self.activation.relation.sign if self.activation.relation else 1


def point_distances(first: Array, second: Array, flips: bool) -> tuple[Array, NDArray[np.int8]]:
    """min(‖v − v′‖, ‖v + v′‖) for all pairs and the sign that attains it; shapes (n, n′).

    The expansion ‖v‖² + ‖v′‖² ∓ 2⟨v, v′⟩ loses half the digits, so pairs closer than 1e-3 of their size are
    recomputed from differences.
    """
    own, other = (np.einsum("ij,ij->i", x, x) for x in (first, second))
    square = first @ second.T
    sign = np.where(square < 0, np.int8(-1), np.int8(1)) if flips else np.ones(square.shape, dtype=np.int8)
    if flips:
        np.abs(square, out=square)
    square *= -2.0
    square += own[:, None]
    square += other
    near_i, near_j = np.nonzero(square <= 1e-6 * (own[:, None] + other))
    np.maximum(square, 0.0, out=square)
    for start in range(0, near_i.size, 1 << 12):
        i, j = near_i[start : start + (1 << 12)], near_j[start : start + (1 << 12)]
        square[i, j] = np.sum((first[i] - sign[i, j, None] * second[j]) ** 2, axis=1)
    return np.sqrt(square, out=square), sign


def lengths(x: Array) -> Array:
    """‖x_i‖ of every row, without a temporary of the size of x."""
    return np.sqrt(np.einsum("ij,ij->i", x, x))


def separations(first: Array, i: Integers, second: Array, j: Integers, sign: Array | Integers | int = 1) -> Array:
    """‖first_i − sign·second_j‖ for lists of pairs, from differences, a few at a time; shape of ``i``."""
    out = np.empty(i.size)
    turn = np.broadcast_to(np.asarray(sign, dtype=np.float64), i.shape)
    step = max(1, _BLOCK // max(first.shape[1], 1))
    for start in range(0, i.size, step):
        rows = slice(start, start + step)
        gap = turn[rows, None] * second[j[rows]]
        gap -= first[i[rows]]
        np.sqrt(np.einsum("ij,ij->i", gap, gap), out=out[rows])
    return out


def quotient_distances(f: Network, g: Network) -> Array:
    """d(θ_i, θ′_j) for all neurons of f and g, shape (N_f, N_g)."""
    if f.activation.kind == "frequencies":
        return _wave_distances(f, g)
    level = max(exponential_level(f), exponential_level(g), key=abs) if translates(f.activation) else None
    a, b, flip = Section.of(f, level), Section.of(g, level), flip_of(f.activation)
    first, second = a.points.copy(), b.points.copy()
    if flip is not None:
        first[:, -1] -= flip.centre
        second[:, -1] -= flip.centre

    def combined(point_sign: float, kappa_sign: float) -> Array:
        own = np.concatenate([first, a.kappa], axis=1)
        other = np.concatenate([point_sign * second, kappa_sign * b.kappa], axis=1)
        return point_distances(own, other, flips=False)[0]

    plain = combined(1.0, 1.0)
    return plain if flip is None else np.minimum(plain, combined(-1.0, flip.sign))


def waves(network: Network) -> tuple[Array, Array]:
    """Coefficients of sin⟨w, x⟩ and of cos⟨w, x⟩ of every neuron of a sin or cos network, (n, m) each.

    α sin(z + b) = α cos b·sin z + α sin b·cos z; b enters through sin and cos only, which are accurate at any size.
    """
    cosine, sine = np.cos(network.bias)[:, None], np.sin(network.bias)[:, None]
    if network.activation.name == "sin":
        return network.alpha * cosine, network.alpha * sine
    return -network.alpha * sine, network.alpha * cosine


def _wave_distances(f: Network, g: Network) -> Array:
    first, (sine, cosine) = np.concatenate([f.inner, *waves(f)], axis=1), waves(g)
    distance = [
        point_distances(first, np.concatenate([sign * g.inner, sign * sine, cosine], axis=1), flips=False)[0]
        for sign in (1.0, -1.0)
    ]
    return np.minimum(*distance)


def leaders(points: Array, radius: Array, flips: bool, bias_radius: Array | None = None) -> tuple[Integers, Integers]:
    """Cover points by balls around leaders: (leader, sign) with ‖v_i − sign_i·v_leader‖ ≤ min of both radii.

    With ``bias_radius`` the two parts of v = (w, b) are held to their own radii: ‖w_i − sign_i·w_leader‖ ≤ ``radius``
    and |b_i − sign_i·b_leader| ≤ ``bias_radius`` (each the smaller of the two points').  A bias of 1e12 then does not
    blur w.

    One sweep in the order of the flip-invariant projection |⟨u, v⟩| onto a fixed direction u; a leader can
    only serve points whose projection is within its radius, so the sweep looks at a short window: O(n log n) for
    the small radii at which duplicates are merged.  Earlier points of the *original* order lead later ones.
    A few more such projections sieve the window, and points with nobody within reach never enter it.
    """
    n, dimension = points.shape
    directions = np.random.default_rng(20260524).standard_normal((_SIEVES, dimension))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    # the first by itself: a matrix product may round equal rows differently
    keys = np.concatenate([(points @ directions[0])[:, None], points @ directions[1:].T], axis=1)
    keys = np.abs(keys) if flips else keys
    order = np.argsort(keys[:, 0], kind="stable")
    leader, sign = np.arange(n), np.ones(n, dtype=np.int64)
    slack = 4 * np.finfo(float).eps * np.linalg.norm(points, axis=1) * np.sqrt(dimension)
    reach = radius[:, None] + np.zeros(_SIEVES)
    if bias_radius is not None:
        reach = reach + bias_radius[:, None] * np.abs(directions[:, -1])
    # a point is alone when no earlier one reaches it and it reaches no later one: runs of points between such gaps
    key, far = keys[order, 0], (keys[:, 0] + reach[:, 0] + slack)[order]
    behind = np.minimum.accumulate((keys[:, 0] - slack)[order][::-1])[::-1]
    starts = np.flatnonzero(np.append(True, behind[1:] > np.maximum.accumulate(far)[:-1])) if n else np.zeros(0, int)
    lengths = np.diff(np.append(starts, n))

    def separation(earlier: Integers, later: Integers | int, turned: bool) -> Array:
        """Distance as a multiple of the allowed one."""
        difference = points[earlier] + points[later] if turned else points[earlier] - points[later]
        allowed = np.minimum(radius[earlier], radius[later])
        if bias_radius is None:
            return _ratio(np.linalg.norm(difference, axis=1), allowed)
        own = _ratio(np.linalg.norm(difference[:, :-1], axis=1), allowed)
        return np.maximum(own, _ratio(np.abs(difference[:, -1]), np.minimum(bias_radius[earlier], bias_radius[later])))

    def compared(earlier: Integers, later: Integers | int) -> tuple[Array, Array]:
        plus = separation(earlier, later, turned=False)
        return plus, separation(earlier, later, turned=True) if flips else np.full(plus.size, np.inf)

    pairs = starts[lengths == 2]
    for block in np.split(pairs, range(_PAIRS, pairs.size, _PAIRS)):
        one, two = order[block], order[block + 1]
        within = key[block + 1] - key[block] <= reach[one, 0] + slack[one] + slack[two]
        one, two = one[within], two[within]
        plus, minus = compared(one, two)
        same = np.minimum(plus, minus) <= 1.0
        leader[two[same]], sign[two[same]] = one[same], np.where(plus <= minus, 1, -1)[same]
    spread = reach + slack[:, None]
    for start, length in zip(starts[lengths > 2].tolist(), lengths[lengths > 2].tolist(), strict=True):
        run = order[start : start + length]
        ends, slacks = (keys[run, 0] + spread[run, 0]).tolist(), slack[run].tolist()
        first = key[start : start + length].tolist()
        window: list[int] = []
        for at, i in enumerate(run.tolist()):
            own = first[at] - slacks[at]
            window = [j for j in window if own <= ends[j]]
            if window:
                earlier = run[window]
                earlier = earlier[(np.abs(keys[earlier] - keys[i]) <= spread[earlier] + slack[i]).all(axis=1)]
                if earlier.size:
                    plus, minus = compared(earlier, i)
                    nearest = np.minimum(plus, minus)
                    best = int(np.argmin(nearest))
                    if nearest[best] <= 1.0:
                        leader[i], sign[i] = earlier[best], 1 if plus[best] <= minus[best] else -1
                        continue
            window.append(at)
    return leader, sign


def _ratio(distance: Array, allowed: Array) -> Array:
    """distance/allowed, with 0/0 = 0."""
    with np.errstate(over="ignore"):
        return np.where(distance <= 0, 0.0, distance / np.maximum(allowed, 1e-300))
