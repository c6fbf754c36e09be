"""η of a pre-certificate on lines and on a surface of the parameter set: samples to look at, no bound of sup‖η‖.

The parameter set is the sphere of (w, b) for homogeneous σ, else R^{d+1} with features of norm 1 beyond the
affine part.  Under a flip σ(z) = s·σ(−z) + polynomial, θ and −θ are one neuron and η(−θ) = s·η(θ) where that
polynomial is free; atoms are turned to the side that is nearest to their partners on a slice.

- *Line*: the great circle through two atoms (half of it, where flips make it all), or the straight line.
- *Surface*: the sphere in the span of three atoms in the equidistant projection around their middle (distance and
  direction from the middle are true), or the plane through three atoms, on the principal axes of the three.  With
  fewer atoms the bias axis, then coordinate axes take their place.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations.families.relu import PiecewiseLinear
from sparsemf.certificates.convex.vanishing import PreCertificate
from sparsemf.symmetry import point_distances
from sparsemf.symmetry.metric import free_relation

Array = NDArray[np.float64]

_ON_SLICE = 1e-3
"""Atoms nearer to a slice than this (radians, or times the spread of the atoms) are marked on it."""
_AWAY = 25.0
"""Degrees, or per cent of the spread of the atoms: what is farther from every atom counts as elsewhere."""
_INDEPENDENT = 0.05
_QUICK, _LONG, _SLOW = (181, 53), (91, 33), (61, 25)
"""Samples of a line and of a side of the surface; fewer for long series, fewest where their coefficients are costly."""
_LONG_SERIES = 6000
"""Atoms times degrees."""


@dataclass(frozen=True, eq=False)
class Mark:
    """An atom on a slice: its number, its coordinates there, and the sign of the flip that brings it there."""

    atom: int
    at: tuple[float, ...]
    sign: int


@dataclass(frozen=True, eq=False)
class Line:
    """η (n, m) at ``points`` (n, d + 1), which lie at ``at``: degrees, or parameter distance, from the first
    atom."""

    through: tuple[int, ...]
    at: Array
    points: Array
    eta: Array
    marks: list[Mark]


@dataclass(frozen=True, eq=False)
class Surface:
    """η (k, k, m) at (x, y) = (``at``[column], ``at``[row]): degrees, or parameter distances, from the middle.

    ``points`` (·, d + 1) are those ``inside`` (k, k) the disc of 90 degrees and a cell around it, row by row; η
    is NaN elsewhere.
    """

    through: tuple[int, ...]
    at: Array
    points: Array
    inside: NDArray[np.bool_]
    eta: Array
    marks: list[Mark]


@dataclass(frozen=True, eq=False)
class Slices:
    """What was seen.

    ``largest`` ‖η‖ of all samples; ``elsewhere``: the same at samples farther than ``away`` (degrees, or parameter
    distance) from every atom, None where there are none; ``samples``: how many.
    """

    sphere: bool
    lines: list[Line]
    surface: Surface | None
    largest: float
    elsewhere: float | None
    away: float
    samples: int


def slices(found: PreCertificate, size: Array, most: int = 4) -> Slices:
    """At most ``most`` lines, through the two nearest atoms and through consecutive ones in the order of ``size``
    (heaviest first); the surface through the three heaviest (none where the parameter set is a circle)."""
    view = _View.of(found)
    order = np.argsort(-size, kind="stable")
    lines = [view.line(pair) for pair in view.pairs(order, most)]
    surface = None if view.sphere and view.points.shape[1] == 2 else view.surface(order)
    points, values = [line.points for line in lines], [line.eta for line in lines]
    if surface is not None:
        points.append(surface.points)
        values.append(surface.eta[surface.inside])
    norm = np.linalg.norm(np.concatenate(values), axis=1)
    distance = np.min(view.distances(np.concatenate(points))[0], axis=1)
    far = norm[distance > view.away]
    return Slices(
        sphere=view.sphere,
        lines=lines,
        surface=surface,
        largest=float(norm.max()),
        elsewhere=float(far.max()) if far.size else None,
        away=_AWAY if view.sphere else view.away,
        samples=norm.size,
    )


@dataclass(frozen=True, eq=False)
class _View:
    """The atoms as points (S, d + 1) of the parameter set, and the distance that counts as away."""

    found: PreCertificate
    points: Array
    sphere: bool
    flips: bool
    spread: float
    away: float

    @staticmethod
    def of(found: PreCertificate) -> _View:
        points = np.concatenate([found.atoms.inner, found.atoms.bias[:, None]], axis=1)
        sphere, flips = not found.normalised, free_relation(found.atoms.activation, found.free)
        spread = 1.0
        if not sphere:
            spread = float(np.sqrt(np.mean(np.sum(points**2, axis=1))))
        away = 2 * np.sin(np.radians(_AWAY) / 2) if sphere else _AWAY / 100 * spread
        return _View(found, points, sphere, flips, spread, float(away))

    @property
    def _samples(self) -> tuple[int, int]:
        sigma = self.found.atoms.activation
        if sigma.strip == 0.0 and not isinstance(sigma, PiecewiseLinear):
            return _SLOW
        return _LONG if self.points.shape[0] * (self.found.degree or 0) > _LONG_SERIES else _QUICK

    def distances(self, points: Array) -> tuple[Array, Array]:
        """Chordal distances of points from the atoms, modulo flips, and the signs that attain them."""
        found, sign = point_distances(points, self.points, self.flips)
        return found, sign.astype(np.float64)

    def pairs(self, order: NDArray[np.intp], most: int) -> list[tuple[int, ...]]:
        """The nearest two, and consecutive ones."""
        heavy = [int(i) for i in order]
        if len(heavy) == 1:
            return [(heavy[0],)]
        distance, _ = self.distances(self.points)
        first, second = np.triu_indices(len(heavy), 1)
        at = int(np.argmin(distance[first, second]))
        nearest = (int(first[at]), int(second[at]))
        rank = {atom: k for k, atom in enumerate(heavy)}
        found: list[tuple[int, ...]] = [tuple(sorted(nearest, key=rank.__getitem__))]
        for pair in [*pairwise(heavy), *zip(heavy, heavy[2:], strict=False)]:
            if len(found) < most and pair not in found:
                found.append(pair)
        return found

    def turned(self, atoms: list[int]) -> Array:
        """Atoms on the sides that make them most alike, (k, d + 1); the first stays."""
        chosen = self.points[atoms].copy()
        if self.flips:
            for k in range(1, len(atoms)):
                if chosen[k] @ chosen[:k].sum(axis=0) < 0:
                    chosen[k] *= -1.0
        return chosen

    def line(self, pair: tuple[int, ...]) -> Line:
        """The line through a pair of atoms, or through one along its bias."""
        ends, count = self.turned(list(pair)), self._samples[0]
        half = np.pi / 2 if self.flips else np.pi
        start = ends[0]
        step = ends[1] - start if len(pair) == 2 else np.eye(start.size)[-1]
        if self.sphere:
            axes = _orthonormal([start, step, *np.eye(start.size)[::-1]], 2)
            angle = float(np.arctan2(ends[-1] @ axes[1], ends[-1] @ axes[0])) if len(pair) == 2 else 0.0
            at = np.linspace(angle / 2 - half, angle / 2 + half, count)
            points = np.stack([np.cos(at), np.sin(at)], axis=1) @ axes
        else:
            length = float(np.linalg.norm(step))
            axes = (step / length)[None]
            room = 0.6 * length if len(pair) == 2 else self.spread
            at = np.linspace(-room, (length if len(pair) == 2 else 0.0) + room, count)
            points = start + at[:, None] * axes
        eta = self.found.eta(points)
        marks = self._marks(start, axes)
        shown = np.degrees(at) if self.sphere else at
        if self.sphere:  # the representative of each mark that lies on the drawn arc
            marks = [self._wrapped(mark, at[0], 2 * half) for mark in marks]
        marks = [mark for mark in marks if shown[0] - 1e-9 <= mark.at[0] <= shown[-1] + 1e-9]
        return Line(pair, shown, points, eta, marks)

    def _wrapped(self, mark: Mark, start: float, period: float) -> Mark:
        angle, sign = np.radians(mark.at[0]), mark.sign
        turns = int(np.floor((angle - start) / period + 1e-9))
        if self.flips and turns % 2:
            sign = -sign
        return Mark(mark.atom, (float(np.degrees(angle - turns * period)),), sign)

    def _marks(self, origin: Array, axes: Array) -> list[Mark]:
        """Atoms on the great circle spanned by two axes, or on the line or plane from ``origin`` along axes."""
        marks = []
        for k, point in enumerate(self.points):
            for sign in (1, -1) if self.flips and not self.sphere else (1,):
                there = sign * point - (0.0 if self.sphere else origin)
                along = axes @ there
                if np.linalg.norm(there - along @ axes) <= _ON_SLICE * self.spread:
                    if self.sphere:
                        along = np.degrees(np.arctan2(along[1:2], along[:1]))
                    marks.append(Mark(k, tuple(float(a) for a in along), sign))
        return marks

    def surface(self, order: NDArray[np.intp]) -> Surface:
        """The sphere or plane through the three heaviest atoms."""
        count = self._samples[1]
        chosen = [int(i) for i in order[:3]]
        heavy = self.turned(chosen)
        spare = [*np.eye(heavy.shape[1])[::-1]]
        if self.sphere:
            base = _orthonormal([*heavy, *spare], 3)
            middle = (heavy @ base.T).sum(axis=0)
            middle = middle / np.linalg.norm(middle)
            tangent = heavy @ base.T - np.outer(heavy @ base.T @ middle, middle)
            flat = _principal(tangent, [*np.eye(3) - np.outer(middle, middle)])
            axes = np.concatenate([flat, middle[None]]) @ base
            at = np.linspace(-90.0, 90.0, count)
            x, y = np.meshgrid(at, at)
            radius = np.hypot(x, y)
            inside = radius <= 90.0 + 1.5 * (at[1] - at[0])  # a little more: cells on the rim
            angle, r = np.radians(radius[inside]), np.maximum(radius[inside], 1e-12)
            where = np.stack([np.sin(angle) * x[inside] / r, np.sin(angle) * y[inside] / r, np.cos(angle)], axis=1)
            points, marks = where @ axes, self._disc_marks(axes)
        else:
            middle = heavy.mean(axis=0)
            if len(chosen) == 1:
                along = heavy[0].copy()
                along[-1] = 0.0
                spare = [along / np.linalg.norm(along), *spare]
            axes = _principal(heavy - middle, spare)
            marks = self._marks(middle, axes)
            own = [mark.at for mark in marks if mark.atom in chosen and self._is(heavy, mark)]
            reach = 1.5 * float(np.max(np.abs(own), initial=0.0)) or self.spread
            reach = max(reach, 0.5 * self.spread)
            at = np.linspace(-reach, reach, count)
            x, y = np.meshgrid(at, at)
            inside = np.ones(x.shape, dtype=bool)
            points = middle + np.stack([x.ravel(), y.ravel()], axis=1) @ axes
            marks = [mark for mark in marks if max(map(abs, mark.at)) <= reach]
        eta = np.full((*x.shape, self.found.target.shape[1]), np.nan)
        eta[inside] = self.found.eta(points)
        return Surface(tuple(chosen), at, points, inside, eta, marks)

    def _is(self, heavy: Array, mark: Mark) -> bool:
        """Whether a mark is the side of its atom that the plane was laid through."""
        gap = np.linalg.norm(heavy - mark.sign * self.points[mark.atom], axis=1)
        return bool(gap.min() <= 1e-9 * self.spread)

    def _disc_marks(self, axes: Array) -> list[Mark]:
        marks = []
        for k, point in enumerate(self.points):
            along = axes @ point
            sign = -1 if along[2] < 0 and self.flips else 1
            if np.linalg.norm(point - along @ axes) <= _ON_SLICE and sign * along[2] >= -1e-9:
                along = sign * along
                flat = float(np.hypot(along[0], along[1]))
                angle = float(np.degrees(np.arctan2(flat, along[2])))
                scale = angle / flat if flat > 0 else 0.0
                marks.append(Mark(k, (float(along[0] * scale), float(along[1] * scale)), sign))
        return marks


def _orthonormal(vectors: list[Array], count: int) -> Array:
    """The first ``count`` that are independent enough, made orthonormal in this order."""
    found: list[Array] = []
    for limit in (_INDEPENDENT, 0.0):
        for vector in vectors:
            rest = vector - sum(((vector @ f) * f for f in found), np.zeros_like(vector))
            rest = rest - sum(((rest @ f) * f for f in found), np.zeros_like(vector))
            size = float(np.linalg.norm(rest))
            if len(found) < count and size > max(limit * float(np.linalg.norm(vector)), 1e-9):
                found.append(rest / size)
    return np.array(found)


def _principal(points: Array, spare: list[Array]) -> Array:
    """Two leading principal axes of points around 0; where they do not span a plane, spare vectors help.

    Signs: the first point lies on the positive side."""
    _, scale, axes = np.linalg.svd(points, full_matrices=False)
    known = [axis for axis, s in zip(axes[:2], scale, strict=False) if s > _INDEPENDENT * max(float(scale[0]), 1e-9)]
    found = _orthonormal([*known, *spare], 2)
    side = found @ points[0]
    return found * np.where(side < -1e-12, -1.0, 1.0)[:, None]
