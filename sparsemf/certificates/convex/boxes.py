"""sup ‖η‖ over Θ for general σ: branch and bound over boxes with Taylor bounds.

On a box with centre c and half-lengths h, ρ = |h|, write A = ‖η(c)‖, e = η(c)/A, p = Dη(c)ᵀe, and P for the projection
off e.  For |δ_i| ≤ h_i and any S ≥ ‖D²η[v, v]‖, T ≥ ‖D³η[v, v, v]‖ (|v| = 1) on the box - or T ≥ ‖D³η(c)‖ +
ρ·sup‖D⁴η‖/4, in whose first term the rows' signs cancel (:meth:`.Curvature.third_from`):

    (1)  ‖η(c + δ)‖ ≤ A + M|δ|,                                      M = the Lipschitz bound of η,
    (2)  ‖η(c + δ)‖ ≤ √((A + ⟨p, δ⟩)² + ‖P Dη δ‖²) + ½S|δ|²,
    (3)  one output: ±η(c + δ) ≤ A + ⟨p, δ⟩ + ½ δᵀHδ + T|δ|³/6, H = ±D²η(c).

(2) is relaxed by √(a² + b²) ≤ a + b²/(2a) for a > 0, else by the triangle inequality.  (3) knows concavity: with
κ = λ_max(H) + Tρ/3 < 0 the right-hand side is at most A + |p|²/(2|κ|), so the boxes around a maximum close at once.

*Sphere.*  Θ is covered by the faces of the cube |u|_∞ = 1; η is homogeneous of degree k, and ‖η(u)‖ ≤ t|u|^k on a box
of a face shows ‖η‖ ≤ t on its projection.  As |u|^k ≥ |c|^k + k|c|^{k−2}⟨c, δ⟩ (convexity), t is enough when
sup_δ [upper(δ) − t k|c|^{k−2}⟨c, δ⟩] ≤ t|c|^k; a step of the monotone fixed-point iteration gives such a t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.convex.observation import UNIT, Curvature
from sparsemf.certificates.convex.parameters import ParameterSet
from sparsemf.certificates.convex.supremum import Record, Supremum

Array = NDArray[np.float64]

_BATCH = 4096
_FINEST = 2.0**-44


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes [c − h, c + h]; on the sphere one coordinate of h is 0 and of c is ±1."""

    centre: Array
    half: Array

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Boxes:
        """Some of them."""
        return Boxes(self.centre[rows], self.half[rows])

    def joined(self, other: Boxes) -> Boxes:
        """Both."""
        return Boxes(np.concatenate([self.centre, other.centre]), np.concatenate([self.half, other.half]))

    def cut(self) -> Boxes:
        """Halves across the longest side; dyadic multiples of the first box, exact in float64."""
        rows = np.arange(self.centre.shape[0])
        axis = np.argmax(self.half, axis=1)
        half = self.half.copy()
        half[rows, axis] *= 0.5
        left, right = self.centre.copy(), self.centre.copy()
        left[rows, axis] -= half[rows, axis]
        right[rows, axis] += half[rows, axis]
        return Boxes(np.concatenate([left, right]), np.concatenate([half, half]))

    @property
    def radius(self) -> Array:
        """|h|, rounded up."""
        return np.linalg.norm(self.half, axis=1) * (1 + 1e-14)


def first_boxes(space: ParameterSet, curvature: Curvature) -> Boxes:
    """A cover of Θ in effective coordinates (of a half of it where ‖η‖ is even in a coordinate, or in θ).

    Lengths are rounded up to powers of two (where σ grows: to eight bits), so that all later centres are exact.
    """
    rounded = first_length if curvature.grows else _power_of_two
    dim, even = curvature.dim, 0 if curvature.half is None and curvature.central else curvature.half
    if not space.sphere:
        half = np.full(dim, rounded(space.radius))
        if space.bias:
            half[-1] = rounded(space.bias_radius)
        centre = np.zeros(dim)
        if even is not None:
            half[even] *= 0.5
            centre[even] = half[even]
        return Boxes(centre[None], half[None])
    centres, halves = [], []
    for axis in range(dim):
        for side in (1.0, -1.0):
            if axis == even and side < 0:
                continue
            centre, half = np.zeros(dim), np.ones(dim)
            centre[axis], half[axis] = side, 0.0
            if even is not None and axis != even:
                centre[even] = half[even] = 0.5
            centres.append(centre)
            halves.append(half)
    return Boxes(np.array(centres), np.array(halves))


def _power_of_two(x: float) -> float:
    fraction, exponent = math.frexp(x)  # exact, unlike a logarithm
    return math.ldexp(1.0, exponent - 1 if fraction == 0.5 else exponent)


def first_length(x: float) -> float:
    """x > 0 rounded up to eight bits."""
    fraction, exponent = math.frexp(x)
    return math.ldexp(math.ceil(fraction * 256) / 256, exponent)


def sup_over_boxes(
    space: ParameterSet,
    curvature: Curvature,
    start: Array,
    tolerance: float,
    budget: int,
    target: float = 0.0,
    excluded: tuple[Array, float] | None = None,
) -> Supremum:
    """Bounds of sup ‖η‖ over Θ; ends when upper ≤ max(lower, target)(1 + tolerance) or at ``budget`` boxes.

    ``start`` (k, D) are points of Θ in input coordinates.  ``excluded`` = (centres (j, D), ρ): balls around points (on
    the sphere: caps of angle ρ) that are left out.
    """
    centres = np.zeros((0, curvature.dim)) if excluded is None else excluded[0] @ curvature.embed.T
    if curvature.half is not None and centres.size:
        centres[:, curvature.half] = np.abs(centres[:, curvature.half])
    distance = 0.0 if excluded is None else excluded[1]
    best, where = 0.0, None
    points = _inside(space, curvature, start @ curvature.embed.T)
    pending = first_boxes(space, curvature)
    waiting, bounds = pending.take(np.zeros(0, dtype=np.intp)), np.empty(0)
    record = Record(pending.centre.shape[0])
    names = np.arange(pending.centre.shape[0], dtype=np.int32)
    waiting_names = names[:0]
    closed, examined = 0.0, 0
    while True:
        if points.shape[0]:
            points = points[_away(space, points, centres, distance)]
        if points.shape[0]:
            value = np.linalg.norm(curvature.oracle.jet(points, 0).value, axis=1)
            if np.max(value) > best:
                best, where = float(np.max(value)), points[int(np.argmax(value))]
        best_of: list[Array] = []
        for begin in range(0, pending.centre.shape[0], _BATCH):
            part = pending.take(np.arange(begin, min(begin + _BATCH, pending.centre.shape[0])))
            needed = _needed(space, curvature, part, centres, distance)
            part, called = part.take(needed), names[begin : begin + _BATCH][needed]
            if not part.centre.shape[0]:
                continue
            examined += part.centre.shape[0]
            bound = box_bounds(space, curvature, part)
            keep = bound > max(best, target) * (1 + tolerance)
            closed = max(closed, float(np.max(bound[~keep], initial=0.0)))
            waiting, bounds = waiting.joined(part.take(keep)), np.concatenate([bounds, bound[keep]])
            waiting_names = np.concatenate([waiting_names, called[keep]])
            best_of.append(part.centre[np.argsort(-bound)[:8]])
        points = _inside(space, curvature, np.concatenate(best_of)) if best_of else np.zeros((0, curvature.dim))
        still = bounds > max(best, target) * (1 + tolerance)
        closed = max(closed, float(np.max(bounds[~still], initial=0.0)))
        waiting, bounds, waiting_names = waiting.take(still), bounds[still], waiting_names[still]
        if not bounds.size or examined >= budget:
            break
        order = np.argsort(-bounds, kind="stable")
        chosen, rest = order[: _BATCH // 2], order[_BATCH // 2 :]
        if np.min(np.max(waiting.half[chosen], axis=1)) < _FINEST:
            break
        pending, names = waiting.take(chosen).cut(), record.cut(waiting_names[chosen])
        waiting, bounds, waiting_names = waiting.take(rest), bounds[rest], waiting_names[rest]
    upper = max(closed, float(np.max(bounds, initial=0.0)), best)
    done = "finished" if not bounds.size else "stopped at its budget"
    orders = [
        name
        for name, known in (
            ("Lipschitz", curvature.lipschitz),
            ("second", curvature.second),
            ("third", curvature.third),
            ("fourth", curvature.fourth),
        )
        if np.isfinite(known)
    ]
    kind = "the unit sphere" if space.sphere else f"|w| ≤ {space.radius:g}"
    kind += f", |b| ≤ {space.bias_radius:g}" if space.bias and not space.sphere else ""
    how = (
        f"sup over {kind} in {curvature.dim} effective coordinates by branch and bound over boxes with Taylor bounds "
        f"of η ({', '.join(orders)} order) ({done} after {examined} boxes)"
    )
    upper = (upper + curvature.error) * (1 + 1e-12)
    where = None if where is None else where @ curvature.embed
    return Supremum(best, upper, how, examined, curvature.error, where, record.tree())


def _inside(space: ParameterSet, curvature: Curvature, points: Array) -> Array:
    """Points of Θ near the given ones."""
    if space.sphere:
        norm = np.linalg.norm(points, axis=1, keepdims=True)
        return points[norm[:, 0] > 1e-8] / norm[norm[:, 0] > 1e-8]
    out = np.array(points)
    length = np.linalg.norm(out[:, : curvature.d], axis=1)
    out[:, : curvature.d] *= np.minimum(1.0, space.radius / np.where(length > 0, length, 1.0))[:, None]
    if space.bias:
        out[:, -1] = np.clip(out[:, -1], -space.bias_radius, space.bias_radius)
    return out


def _away(space: ParameterSet, points: Array, centres: Array, distance: float) -> NDArray[np.bool_]:
    """Which points lie in no excluded ball."""
    if not centres.shape[0]:
        return np.ones(points.shape[0], dtype=bool)
    if space.sphere:
        return ~(points @ centres.T >= np.cos(distance) - 1e-12).any(axis=1)
    gap = np.linalg.norm(points[:, None] - centres[None], axis=2)
    return ~(gap <= distance * (1 + 1e-12)).any(axis=1)


def _needed(
    space: ParameterSet, curvature: Curvature, boxes: Boxes, centres: Array, distance: float
) -> NDArray[np.bool_]:
    """Boxes that meet Θ and do not lie in one excluded ball (rounding keeps a box when in doubt)."""
    keep = np.ones(boxes.centre.shape[0], dtype=bool)
    if not space.sphere:
        w = slice(0, curvature.d)
        nearest = np.maximum(np.abs(boxes.centre[:, w]) - boxes.half[:, w], 0.0)
        keep &= np.linalg.norm(nearest, axis=1) <= space.radius * (1 + 1e-12)
        if space.bias:
            keep &= np.abs(boxes.centre[:, -1]) - boxes.half[:, -1] <= space.bias_radius * (1 + 1e-12)
    if centres.shape[0]:
        radius = boxes.radius[:, None]
        if space.sphere:
            # the angle between c and u on the box is at most asin(ρ/|c|)
            size = np.linalg.norm(boxes.centre, axis=1, keepdims=True)
            spread = np.arcsin(np.minimum(radius / size, 1.0))
            angle = np.arccos(np.clip(boxes.centre @ centres.T / size, -1.0, 1.0))
            keep &= ~(angle + spread <= distance - 1e-7).any(axis=1)
        else:
            gap = np.linalg.norm(boxes.centre[:, None] - centres[None], axis=2)
            keep &= ~(gap + radius <= distance * (1 - 1e-12)).any(axis=1)
    return keep


def box_bounds(space: ParameterSet, curvature: Curvature, boxes: Boxes) -> Array:
    """Upper bounds of ‖η‖ (of the oracle's η) on the projections of the boxes to Θ, rounded up."""
    jet = curvature.oracle.jet(boxes.centre, 2 if np.isfinite(curvature.third) else 1)
    radius = boxes.radius
    second = np.minimum(
        curvature.second, curvature.oracle.second_on(boxes.centre - boxes.half, boxes.centre + boxes.half)
    )
    third = curvature.third_from(boxes.centre, radius)
    if jet.value.shape[1] == 1:
        sides = [
            _one_side(space, curvature, boxes, radius, second, third, sign * jet.value[:, 0], sign * jet.jacobian[:, 0],
                      None if jet.hessian is None else sign * jet.hessian[:, 0])
            for sign in (1.0, -1.0)
        ]  # fmt: skip
        bound = np.maximum(sides[0], sides[1])
    else:
        size = np.linalg.norm(jet.value, axis=1)
        unit = jet.value / np.where(size > 0, size, 1.0)[:, None]
        slope = np.einsum("nm,nmd->nd", unit, jet.jacobian)
        across = jet.jacobian - unit[:, :, None] * slope[:, None, :]
        wide = np.square(np.linalg.norm(across, axis=(1, 2)))
        low = size - np.sum(np.abs(slope) * boxes.half, axis=1)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            # √(a² + b²) ≤ a + b²/(2a) for a ≥ low, and ≤ |a| + b
            extra = np.where(low > 0, np.minimum(0.5 * wide * radius**2 / low, np.sqrt(wide) * radius), np.inf)
        extra = np.where(size > 0, np.minimum(extra, np.sqrt(wide) * radius), np.sqrt(wide) * radius)
        bound = _one_side(space, curvature, boxes, radius, second, third, size, slope, None, extra)
        # where A + ⟨p, δ⟩ may be negative: the plain triangle inequality (and |u| ≥ 1 on the cube's surface)
        with np.errstate(invalid="ignore"):
            plain = size + np.linalg.norm(jet.jacobian, axis=(1, 2)) * radius + 0.5 * second * radius**2
        plain = np.minimum(plain, size + curvature.lipschitz * radius)
        bound = np.where(low > 0, bound, plain)
    return bound * (1 + 1e-12)


def _one_side(
    space: ParameterSet,
    curvature: Curvature,
    boxes: Boxes,
    radius: Array,
    second: Array,
    third: Array,
    value: Array,
    slope: Array,
    hessian: Array | None,
    extra: Array | None = None,
) -> Array:
    """Bound of value + ⟨slope, δ⟩ + curvature terms on each box, pulled back to the sphere where Θ is one."""
    size = np.linalg.norm(boxes.centre, axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        bend = 0.5 * np.where(np.isfinite(second), second, 0.0) * radius**2
    bend = np.where(np.isfinite(second), bend, np.inf)
    top = second
    if hessian is not None and np.isfinite(curvature.third):
        # rounding of LAPACK's eigenvalue: (16 D + 64) units of the norm
        largest = np.linalg.eigvalsh(hessian)[:, -1]
        largest += (16 * curvature.dim + 64) * UNIT * np.linalg.norm(hessian, axis=(1, 2))
        top = np.minimum(second, largest + third * radius / 3)
        bend = np.minimum(bend, 0.5 * np.maximum(top, 0.0) * radius**2)
    if extra is not None:
        bend = bend + extra
    if not space.sphere:
        plain = _least(value, slope, boxes.half, radius, bend, top, extra is None, curvature.lipschitz)
        return np.minimum(plain, _towards_rim(space, curvature, boxes, value, slope, radius, bend, top, third, hessian))
    degree = float(space.degree or 1)
    tilt = degree * (size ** (degree - 2))[:, None] * boxes.centre
    height = size**degree
    flat = (boxes.half > 0).astype(np.float64)
    known = np.isfinite(bend)
    usable = np.where(known, bend, 0.0)
    t = np.maximum(value, 0.0) / height
    step = np.zeros_like(t)
    for _ in range(4):
        p = (slope - t[:, None] * tilt) * flat
        new = np.maximum(_least(value, p, boxes.half, radius, usable, top, False, np.inf), 0.0) / height
        step = new - t
        t = new
    # t ↦ new is Lipschitz with q = sup|⟨tilt, δ⟩|/|c|^k < 1: its fixed point is at most t + |step| q/(1 − q)
    q = np.sum(np.abs(tilt) * boxes.half, axis=1) / height
    with np.errstate(divide="ignore", invalid="ignore"):
        fixed = np.where(known & (q < 1), t + np.abs(step) * q / (1 - q), np.inf)
    # where the box is too wide for that: |u| ≥ 1 on the cube's surface
    crude = np.maximum(_least(value, slope * flat, boxes.half, radius, bend, top, False, np.inf), 0.0)
    lipschitz = np.abs(value) + curvature.lipschitz * radius if np.isfinite(curvature.lipschitz) else np.inf
    return np.minimum(np.minimum(fixed, crude), lipschitz)


def _towards_rim(
    space: ParameterSet,
    curvature: Curvature,
    boxes: Boxes,
    value: Array,
    slope: Array,
    radius: Array,
    bend: Array,
    top: Array,
    third: Array,
    hessian: Array | None,
) -> Array:
    """The bound for points with |w| ≤ R_w, by weak duality in that constraint.

    For μ ≥ 0 and c = (c_w, c_b): μ⟨c_w, δ_w⟩ ≤ ½μ(R_w² − |c_w|²) − ½μ|δ_w|², so the slope loses μc_w and the Hessian
    μI on w; μ = ⟨p_w, c_w⟩₊/|c_w|² takes the outward slope away, and an atom on the rim closes like one inside.
    """
    d = curvature.d
    w = boxes.centre[:, :d]
    square = np.sum(w**2, axis=1)
    mu = np.maximum(np.sum(slope[:, :d] * w, axis=1), 0.0) / np.where(square > 0, square, 1.0)
    inward = slope.copy()
    inward[:, :d] -= mu[:, None] * w
    base = value + 0.5 * mu * (space.radius**2 - square)
    if hessian is not None and np.isfinite(curvature.third):
        eye = np.zeros(curvature.dim)
        eye[:d] = 1.0
        form = hessian - mu[:, None, None] * np.diag(eye)
        largest = np.linalg.eigvalsh(form)[:, -1]
        largest += (16 * curvature.dim + 64) * UNIT * np.linalg.norm(form, axis=(1, 2))
        top = largest + third * radius / 3
        bend = np.minimum(bend, 0.5 * np.maximum(top, 0.0) * radius**2)
        return _least(base, inward, boxes.half, radius, bend, top, True, np.inf)
    return _least(base, inward, boxes.half, radius, bend, top, False, np.inf)


def _least(
    value: Array, slope: Array, half: Array, radius: Array, bend: Array, top: Array, scalar: bool, lipschitz: float
) -> Array:
    """max over the box of value + ⟨slope, δ⟩ + bend, or the concave form, or the Lipschitz bound; the least of them."""
    bound = value + np.sum(np.abs(slope) * half, axis=1) + bend
    if scalar:
        steep = np.sum(slope**2, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = np.where(top < 0, np.minimum(bound, value + steep / (2 * np.abs(top))), bound)
    if np.isfinite(lipschitz):
        bound = np.minimum(bound, np.abs(value) + lipschitz * radius)
    return bound
