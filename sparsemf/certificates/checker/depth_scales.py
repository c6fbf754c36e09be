"""The scale problem of one atom: which (r, b) have the same ratios of c_l, l ∈ L?  Exclusion and existence by balls.

For one atom, what degrees l ∈ L know of (r, b) is the line through (F_l)_{l ∈ L}, F_l = r^l G_l(r², b) (= √l!·c_l), up
to the turn ŵ → −ŵ, which multiplies F_l by (−1)^l.  With a_l = F_l of the given atom, another (r′, b′) with turn s is
on the same line iff

    E_l(r′, b′) = s^l F_l(r′, b′) a_{l₀} − s^{l₀} F_{l₀}(r′, b′) a_l = 0 for all l ∈ L,  a_{l₀} ≠ 0.

*Uniqueness* in a box X ∋ (r, b): some matrix R has ‖I − R·E′(X)‖_∞ < 1, so E is injective on the convex X.
*Exclusion* elsewhere in the declared box: a subdivision, each part with some E_l ∌ 0.
*Existence* of another solution: Krawczyk's operator maps a box into its interior; the solution is regular, so it
persists for all atoms near the given one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from flint import arb
from numpy.typing import NDArray

from sparsemf.certificates.checker.depth_cells import UNIT, Box, Cell, Field, Interval, add, cells_of, fields, times
from sparsemf.certificates.checker.depth_shape import Shape
from sparsemf.certificates.checker.document import Refused

Array = NDArray[np.float64]

MOST_BOXES = 400_000
_TOGETHER = 60_000
_LEVELS = 40


@dataclass(frozen=True, eq=False)
class Line:
    """The equations E_l = 0 of one atom: its degrees, the numbers a_l and the turn s."""

    degrees: list[int]
    data: list[arb]
    turn: int

    @property
    def lead(self) -> int:
        """The position l₀."""
        return int(np.argmax([abs(float(a.mid())) for a in self.data]))

    def values(self, cell: Cell, box: tuple[arb, arb]) -> list[arb]:
        """E_l, l ≠ l₀, on a box."""
        f = self._signed(cell.at(*box), box[0], 0)
        return self._minors(f)

    def slopes(self, cell: Cell, box: tuple[arb, arb], bias: bool) -> list[list[arb]]:
        """The rows (∂_r E_l, ∂_b E_l) (without the second where b is no parameter)."""
        g, r = cell.at(*box), box[0]
        by_r = self._minors(self._signed(g, r, 1))
        if not bias:
            return [[x] for x in by_r]
        return [[x, y] for x, y in zip(by_r, self._minors(self._signed(g, r, 2)), strict=True)]

    def _signed(self, g: list[arb], r: arb, kind: int) -> list[arb]:
        out = []
        for k in self.degrees:
            if kind == 0:
                value = _power(r, k) * g[k]
            elif kind == 1:  # ∂_r (r^l G_l) = l r^{l−1} G_l + r^{l+1} G_{l+2}
                value = _power(r, k + 1) * g[k + 2] + (k * _power(r, k - 1) * g[k] if k else arb(0))
            else:
                value = _power(r, k) * g[k + 1]
            out.append(value if self.turn == 1 or k % 2 == 0 else -value)
        return out

    def _minors(self, f: list[arb]) -> list[arb]:
        lead = self.lead
        return [f[j] * self.data[lead] - f[lead] * self.data[j] for j in range(len(f)) if j != lead]


def _power(x: arb, k: int) -> arb:
    out = arb(1)
    for _ in range(k):
        out = out * x
    return out


def line_of(table: list[arb], r: arb, degrees: Sequence[int], turn: int) -> Line:
    """The equations of an atom of length r with G = ``table``, scaled to size 1."""
    data = [_power(r, k) * table[k] for k in degrees]
    largest = max(abs(float(a.mid())) for a in data)
    if not largest > 0:
        raise Refused("an atom that these degrees do not see")
    scale = 2.0 ** -math.frexp(largest)[1]
    line = Line(list(degrees), [a * scale for a in data], turn)
    if line.data[line.lead].contains(0):
        raise Refused("an atom that these degrees do not see")
    return line


def _inverse(rows: list[list[arb]]) -> Array:
    """A float pseudo-inverse of the midpoints."""
    return np.linalg.pinv(np.array([[float(x.mid()) for x in row] for row in rows]))


def _contracts(inverse: Array, slopes: list[list[arb]]) -> bool:
    """‖I − R·E′‖_∞ < 1."""
    n = inverse.shape[0]
    for i in range(n):
        total = arb(0)
        for j in range(n):
            entry = arb(int(i == j))
            for k, row in enumerate(slopes):
                entry -= arb(float(inverse[i, k])) * row[j]
            total += abs(entry)
        if not total < 1:
            return False
    return True


def unique_around(shape: Shape, line: Line, r: float, b: float, top: int) -> Box | None:
    """A box around a solution in which it is the only one."""

    def around(part: float) -> Box:
        half_r, half_b = 0.036 * r * part, 0.25 * r * part if shape.bias else 0.0
        return Box(r - half_r, r + half_r, b - half_b, b + half_b)

    cell = cells_of(shape, [around(1.0)], top)[0]
    inverse = _inverse(line.slopes(cell, (arb(r), arb(b)), shape.bias))
    for exponent in range(12):
        box = around(0.5**exponent)
        if _contracts(inverse, line.slopes(cell, box.balls(), shape.bias)):
            return box
    return None


def _equations(line: Line, f: list[Interval]) -> list[Interval]:
    """The minors E_l from F_l (or from a derivative of F_l)."""
    data = [(np.array([float(a.mid())]), np.array([float(a.rad()) * (1 + 1e-9) + UNIT])) for a in line.data]
    lead = line.lead
    return [add(times(f[j], data[lead]), times(f[lead], data[j]), -1.0) for j in range(len(f)) if j != lead]


def _powers(r: Interval, top: int) -> list[Interval]:
    out = [(np.ones_like(r[0]), np.zeros_like(r[0]))]
    for _ in range(top):
        out.append(times(out[-1], r))
    return out


def _line_values(line: Line, g: Interval, r: Interval, kind: int) -> list[Interval]:
    """F_l (kind 0), ∂_r F_l (1), ∂_b F_l (2), with the turn's sign, for many boxes."""
    power, out = _powers(r, max(line.degrees) + 1), []
    for k in line.degrees:
        row = [(g[0][k + j], g[1][k + j]) for j in range(3)]
        if kind == 0:
            value = times(power[k], row[0])
        elif kind == 1:
            value = times(power[k + 1], row[2])
            if k:
                level = times(power[k - 1], row[0])
                value = add(value, (k * level[0], k * level[1] * (1 + 4 * UNIT) + 2 * UNIT * k * np.abs(level[0])))
        else:
            value = times(power[k], row[1])
        out.append(value if line.turn == 1 or k % 2 == 0 else (-value[0], value[1]))
    return out


def alone(shape: Shape, field_: Field, line: Line, keep: Sequence[Box]) -> bool:
    """Whether E has no zero in the declared box outside the boxes ``keep``: a subdivision, level by level, each part
    excluded by E on it or by the mean value form E(m) + E′(part)(part − m)."""
    cells = field_.all()
    table = np.stack([cell.table for cell in cells])
    tail = np.stack([cell.tail for cell in cells])
    centre = np.array([[cell.r, cell.b] for cell in cells])
    ends = np.array([[c.box.r_low, c.box.r_high, c.box.b_low, c.box.b_high] for c in cells])
    owner = np.arange(len(cells))
    seen = 0
    for _ in range(_LEVELS):
        for known in keep:
            inside = (ends[:, 0] >= known.r_low) & (ends[:, 1] <= known.r_high)
            inside &= (ends[:, 2] >= known.b_low) & (ends[:, 3] <= known.b_high)
            ends, owner = ends[~inside], owner[~inside]
        seen += owner.size
        if not owner.size:
            return True
        if seen > MOST_BOXES or owner.size > _TOGETHER:
            return False
        left = ~_excluded(shape, line, table[owner], tail[owner], centre[owner], ends)
        ends, owner = ends[left], owner[left]
        middle_r, middle_b = 0.5 * (ends[:, 0] + ends[:, 1]), 0.5 * (ends[:, 2] + ends[:, 3])
        by_r = (ends[:, 1] - ends[:, 0]) / 0.036 >= (ends[:, 3] - ends[:, 2]) / 0.25
        low, high = ends.copy(), ends.copy()
        low[by_r, 1], high[by_r, 0] = middle_r[by_r], middle_r[by_r]
        low[~by_r, 3], high[~by_r, 2] = middle_b[~by_r], middle_b[~by_r]
        ends, owner = np.concatenate([low, high]), np.concatenate([owner, owner])
    return False


def _excluded(shape: Shape, line: Line, table: Array, tail: Array, centre: Array, ends: Array) -> NDArray[np.bool_]:
    middle = np.stack([0.5 * (ends[:, 0] + ends[:, 1]), 0.5 * (ends[:, 2] + ends[:, 3])])
    half = np.stack([0.5 * (ends[:, 1] - ends[:, 0]), 0.5 * (ends[:, 3] - ends[:, 2])])
    half = half * (1 + 1e-12) + 4 * UNIT * np.abs(middle)
    zero, c = np.zeros(ends.shape[0]), centre.T
    boxes: dict[str, list[Interval]] = {}
    for name, radius in (("point", np.zeros_like(half)), ("part", half)):
        r, b = (middle[0], radius[0]), (middle[1], radius[1])
        # τ = (r − r₀)(r + r₀)
        tau = times(add(r, (c[0], zero), -1.0), add(r, (c[0], zero)))
        g = fields(table, tail, tau, add(b, (c[1], zero), -1.0))
        boxes[name] = _equations(line, _line_values(line, g, r, 0))
        if name == "part":
            boxes["by_r"] = _equations(line, _line_values(line, g, r, 1))
            boxes["by_b"] = _equations(line, _line_values(line, g, r, 2)) if shape.bias else []
    out = np.zeros(ends.shape[0], dtype=bool)
    for j, (value, radius) in enumerate(boxes["part"]):
        out |= np.abs(value) > radius * (1 + 1e-12)
        slope, steep = boxes["by_r"][j]
        moved = (np.abs(slope) + steep) * half[0]
        if shape.bias:
            slope, steep = boxes["by_b"][j]
            moved = moved + (np.abs(slope) + steep) * half[1]
        value, radius = boxes["point"][j]
        out |= np.abs(value) > (radius + moved) * (1 + 1e-12)
    return out


def exists_near(shape: Shape, line: Line, r: float, b: float, top: int) -> Box | None:
    """A box around (r, b) that holds exactly one regular solution, by Krawczyk's operator; None if not shown."""
    unknowns = 1 + shape.bias
    if len(line.degrees) != unknowns + 1 or not r > 0:
        return None
    outer = Box(r * 0.99, r * 1.01, b - 0.05 * r * shape.bias, b + 0.05 * r * shape.bias)
    cell = cells_of(shape, [outer], top)[0]
    point = (arb(r), arb(b))
    inverse = _inverse(line.slopes(cell, point, shape.bias))
    values = line.values(cell, point)
    for half in (1e-10 * r, 1e-8 * r, 1e-6 * r, 1e-4 * r):
        box = Box(r - half, r + half, b - half * shape.bias, b + half * shape.bias)
        slopes = line.slopes(cell, box.balls(), shape.bias)
        # the ends as rounded; their differences to the centre are exact (Sterbenz)
        reach = [(r - box.r_low, box.r_high - r), (b - box.b_low, box.b_high - b)][:unknowns]
        if all(
            _step(inverse, values, slopes, i, [max(pair) for pair in reach]) < min(reach[i]) for i in range(unknowns)
        ):
            return box
    return None


def _step(inverse: Array, values: list[arb], slopes: list[list[arb]], i: int, reach: list[float]) -> arb:
    """|−R·E(m) + (I − R·E′(X))(X − m)| in coordinate i."""
    moved = arb(0)
    for k, value in enumerate(values):
        moved += arb(float(inverse[i, k])) * value
    total = abs(moved)
    for j, half in enumerate(reach):
        entry = arb(int(i == j))
        for k, row in enumerate(slopes):
            entry -= arb(float(inverse[i, k])) * row[j]
        total += abs(entry) * half
    return total
