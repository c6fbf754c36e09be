"""Certificates of depth: what the checker proves about a network's family and atoms, and the evidence that it needs.

The candidates - depths at which to try, other scales, singular lengths, points in general position - come from
:mod:`sparsemf.identifiability.depths` in float64; each enters the claim only when the checker's own proof succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import depth_polynomial
from sparsemf.certificates.checker.depth import MOST_ATOMS, singular_near
from sparsemf.certificates.checker.depth_cells import Box, Field
from sparsemf.certificates.checker.depth_lines import levels, lines
from sparsemf.certificates.checker.depth_moments import precision
from sparsemf.certificates.checker.depth_orbit import Identified, Others, by_prony, collision, identified
from sparsemf.certificates.checker.depth_rank import Atoms, full_rank
from sparsemf.certificates.checker.depth_shape import HIGHEST, Shape, least_depth
from sparsemf.certificates.checker.depth_theorems import second_shift
from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.raw import encode
from sparsemf.exceptions import InconsistentBounds, InputError
from sparsemf.identifiability.depths import Family, numeric_rank, other_scales, singular_scale, variety_depth

Array = NDArray[np.float64]
Bracket = tuple[int, int | None]

MOST_PROVED = 128
"""With more atoms only the lower ends are given: balls take some hundredths of a second an atom."""
_FURTHER = 4
_DRAWS = 3


@dataclass(frozen=True, eq=False)
class Depths:
    """Brackets with certificates; see :mod:`sparsemf.certificates.checker.depth` for what each says.

    ``how``: the way in which the upper end of D_orb was proved, None without one; ``variety_estimate``: the numeric
    D_var at the atoms (an estimate); ``notes``: what could not be decided, and why.
    """

    generic: Bracket
    pointwise: Bracket
    near: Bracket
    orbit_pointwise: Bracket
    singular: list[dict[str, Any]]
    collisions: list[dict[str, Any]]
    others: list[dict[str, Any]]
    box: tuple[float, float, float] | None
    general_point: tuple[Array, Array, Array] | None
    how: Identified | None
    variety_estimate: int | None
    notes: list[str]

    def claim(self) -> dict[str, Any]:
        """The ``claim`` of a certificate."""
        return {
            "variety": {
                "generic": list(self.generic),
                "pointwise": list(self.pointwise),
                "singular": self.singular,
            },
            "orbit": {
                "near": list(self.near),
                "pointwise": list(self.orbit_pointwise),
                "box": None if self.box is None else list(self.box),
            },
        }

    def evidence(self) -> dict[str, Any]:
        """The evidence besides the atoms."""
        point = self.general_point
        return {
            "general_point": None
            if point is None
            else dict(zip(("alpha", "w", "b"), (encode(part) for part in point), strict=True)),
            "collisions": self.collisions,
            "others": self.others,
        }


def depths(family: Family, alpha: Array, w: Array, b: Array, box: tuple[float, float, float], seed: int = 0) -> Depths:
    """Prove what can be proved of the depths of these atoms, α (S, m), w (S, d), b (S,).

    ``box`` = (r_low, r_high, b): the scales among which other solutions are excluded where no theorem covers all.
    Raises :class:`InputError` where the checker knows nothing of the activation or the family is never identified, and
    :class:`InconsistentBounds` where float64 contradicts a proof.
    """
    if family.atoms > MOST_ATOMS:
        raise InputError(f"depth: expected at most {MOST_ATOMS} atoms, got {family.atoms}")
    try:
        shape = Shape(family.activation.name, family.atoms, family.d, family.m, family.bias, family.free)
        with precision():
            if shape.degree:
                return _polynomial(shape, alpha, w, b)
            return _Search(family, shape, (alpha, w, b), box, seed).run()
    except (Refused, KeyError) as reason:
        text = f"{family.activation.name} is not known to the checker" if isinstance(reason, KeyError) else reason
        raise InputError(f"depth: expected a family whose moments can be enclosed and identify it; {text}") from None


def _polynomial(shape: Shape, alpha: Array, w: Array, b: Array) -> Depths:
    lower, upper = depth_polynomial.bracket(shape)
    top, how = shape.degree, None
    if shape.atoms == 1 and shape.homogeneous and not shape.bias:
        atoms = Atoms.of(shape, alpha, w, b, top + 2)
        for depth in range(lower, top):
            how = identified(atoms, depth, None)
            if how is not None:
                top = depth
                break
    return Depths(
        (lower, upper), (0, shape.degree), (lower, top), (0, top), [], [], [], None, None, how, None,
        ["a polynomial σ: the orbit is all parameters of the same function"],
    )  # fmt: skip


class _Search:
    """The steps of :func:`depths`."""

    def __init__(
        self,
        family: Family,
        shape: Shape,
        parts: tuple[Array, Array, Array],
        box: tuple[float, float, float],
        seed: int,
    ) -> None:
        self.family, self.shape, self.parts, self.box, self.seed = family, shape, parts, box, seed
        self.notes: list[str] = []
        self.least = least_depth(shape, shape.target)
        self.most = min(max(self.least + _FURTHER, 2 * shape.atoms + 4), HIGHEST - 2)
        self.others: list[dict[str, Any]] = []

    def run(self) -> Depths:
        alpha, w, b = self.parts
        if self.family.atoms > MOST_PROVED:
            self.notes.append(f"more than {MOST_PROVED} atoms: upper ends are not sought")
            low = (self.least, None)
            return Depths(low, low, low, (0, None), [], [], [], None, None, None, None, self.notes)
        self.atoms = Atoms.of(self.shape, alpha, w, b, self.most + 2)
        estimate = self._estimate(self.parts, self.least)
        pointwise = self._variety(self.atoms, self.parts, self.least)
        generic, point = self._generic(pointwise)
        found, how = self._orbit()
        apart, collisions = self._collisions(found)
        if found is None:
            self.notes.append("no upper end of D_orb is proved: " + self._reason())
        near = max(self.least, apart)
        if found is not None and near > found:
            raise InconsistentBounds(f"D_orb: proved ≥ {near} and ≤ {found}")
        box = self.box if how is not None and how.scales == "box" else None
        return Depths(
            (self.least, generic), (self.least, pointwise), (near, found), (apart, found),
            self._singular(), collisions, self.others if box is not None else [], box, point, how, estimate, self.notes,
        )  # fmt: skip

    def _estimate(self, parts: tuple[Array, Array, Array], start: int) -> int | None:
        try:
            found = variety_depth(self.family, *parts, most=self.most)
        except InputError:
            return None
        if found is not None and found < start:
            raise InconsistentBounds(f"D_var: counting shows ≥ {start}, the numeric rank is full at {found}")
        return found

    def _variety(self, atoms: Atoms, parts: tuple[Array, Array, Array], start: int) -> int | None:
        guess = self._estimate(parts, start)
        first = start if guess is None else guess
        for depth in range(first, min(first + _FURTHER, self.most) + 1):
            if full_rank(atoms, depth) is not None:
                return depth
        return None

    def _generic(self, pointwise: int | None) -> tuple[int | None, tuple[Array, Array, Array] | None]:
        """The generic upper end, from another point where the atoms' own is not the least possible."""
        if pointwise == self.least:
            return pointwise, None
        rng = np.random.default_rng(self.seed)
        stop = self.most if pointwise is None else pointwise - 1
        for depth in range(self.least, min(stop, self.least + _FURTHER) + 1):
            for _ in range(_DRAWS):
                parts = self.family.draw(rng)
                try:
                    if numeric_rank(self.family, *parts, depth) < self.family.target:
                        break
                except InputError:
                    return pointwise, None
                if full_rank(Atoms.of(self.shape, *parts, depth + 2), depth) is not None:
                    return depth, parts
        return pointwise, None

    def _orbit(self) -> tuple[int | None, Identified | None]:
        for depth in range(1 if self.shape.atoms == 1 else self.least, self.most + 1):
            how = self._identified(depth)
            if how is not None:
                return depth, how
        return None, None

    def _identified(self, depth: int) -> Identified | None:
        found = identified(self.atoms, depth, None) or by_prony(self.atoms, depth)
        if found is not None:
            return found
        first = lines(self.atoms, self.shape.degrees(depth))
        if first is None:  # the subdivision would be in vain
            return None
        field = Field(self.shape, self._bounds(), depth + 2)
        others: Others = {}
        known = levels(self.atoms, self.shape.degrees(depth))
        if len(known) < len(self.shape.degrees(depth)):  # else another solution is there to stay
            for i in range(self.shape.atoms):
                r, b = float(self.atoms.length[i].mid()), float(self.parts[2][i])
                near = other_scales(self.family, r, b, known, self.box)
                others[i] = [(other.r, other.b, other.turn) for other in near]
        try:
            found = identified(self.atoms, depth, field, others)
        except Refused as reason:
            self.notes.append(f"depth {depth}: {reason}")
            return None
        if found is not None:
            self.others = [
                {"atom": i, "r": r, "b": b, "turn": turn} for i, rows in others.items() for r, b, turn in rows
            ]
        return found

    def _bounds(self) -> Box:
        return Box(self.box[0], self.box[1], -self.box[2], self.box[2])

    def _collisions(self, found: int | None) -> tuple[int, list[dict[str, Any]]]:
        """The least depth that another solution leaves possible, with the evidence for it."""
        shape = self.shape
        stop = self.most if found is None else found - 1
        candidates = [
            k for k in range(self.least, stop + 1) if len(shape.degrees(k)) == 2 + shape.bias - (shape.homogeneous > 0)
        ]
        if not candidates or shape.form.frequency is not None or shape.form.translation:
            return 0, []
        depth = max(candidates)
        degrees = shape.degrees(depth)
        if shape.homogeneous:
            return self._shifted(depth)
        for i in range(shape.atoms):
            r, b = float(self.atoms.length[i].mid()), float(self.parts[2][i])
            for other in other_scales(self.family, r, b, degrees, self.box):
                try:
                    collision(self.atoms, depth, i, other.r, other.b, other.turn)
                except Refused:
                    continue
                entry = {"depth": depth, "atom": i, "r": other.r, "b": other.b, "turn": other.turn}
                return depth + 1, [entry]
        return 0, []

    def _shifted(self, depth: int) -> tuple[int, list[dict[str, Any]]]:
        """The same for homogeneous σ, where another b/r of an atom may have its ratio of T_1 and T_2."""
        for i in range(self.shape.atoms if self.shape.degrees(depth) == [1, 2] else 0):
            shift = second_shift(self.atoms, i, [1, 2])
            if shift is not None:
                entry = {"depth": depth, "atom": i, "r": 1.0, "b": float(shift.mid()), "turn": 1}
                collision(self.atoms, depth, i, entry["r"], entry["b"], 1)
                return depth + 1, [entry]
        return 0, []

    def _singular(self) -> list[dict[str, Any]]:
        found, shape = [], self.shape
        depths_ = [k for k in range(self.least, self.most + 1) if len(shape.degrees(k)) == 2]
        if not depths_ or shape.bias:
            return []
        depth = max(depths_)
        for i in range(shape.atoms):
            distance = singular_scale(self.family, self.parts[1][i : i + 1], shape.degrees(depth))
            if distance is None:
                continue
            within = 2 * distance + 1e-13
            if singular_near(self.atoms, depth, i, within):
                found.append({"depth": depth, "atom": i, "within": within})
        return found

    def _reason(self) -> str:
        if self.shape.d == 1 and self.shape.atoms > 1:
            return "in d = 1 all atoms share the line, and no Prony system covers this family"
        return f"no theorem or subdivision up to depth {self.most} determines every atom"
