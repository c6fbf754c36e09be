"""The path of atoms of an analysis, as the document holds it: the dictionaries of S = 1, 2, … matched one by
one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures import Atoms, Network
from sparsemf.recovery import UpperCurve
from sparsemf.recovery.evolution import Stage, evolution, work
from sparsemf.symmetry import Section, point_distances

Array = NDArray[np.float64]

MOST_SIZES = 24
_MOST_WORK = 1_000_000
_AXES = 6
"""The axis that tells the atoms apart best is sought among so many principal axes and so many atoms."""


def path_document(curve: UpperCurve | None, chosen: int, dictionary: Network) -> dict[str, Any]:
    """The field ``path``; ``dictionary``: the reported one, of ``chosen`` atoms, in the curve's coordinates.

    Sizes run from 1 to 1.5·chosen + 3, at most to 24.  An atom's ``row`` is that of the reported atom it is
    matched to through the stages between (none where the chosen size is beyond 24).  The dictionaries are those of
    :meth:`~sparsemf.recovery.UpperCurve.without_dust`.
    """
    if curve is None:
        return {"reason": "S* is an exact count: there are no dictionaries of other sizes"}
    if dictionary.gated:
        return {"reason": "the path is not followed for gated atoms"}
    last = min(int(1.5 * chosen + 3), MOST_SIZES, curve.upper.size - 1)
    if last < 2 or not chosen:
        return {"reason": "there is no dictionary to compare with" if chosen else "the dictionary has no atoms"}
    sizes, curve = list(range(1, last + 1)), curve.without_dust()
    if work(curve, sizes) > _MOST_WORK:
        return {"reason": f"{curve.problem.n} neurons: the path of atoms is followed for fewer"}
    stages = evolution(curve, sizes)
    folded = curve.problem.flips
    rows = _rows(stages, chosen, dictionary, folded)
    at = next((i for i, stage in enumerate(stages) if stage.size == chosen), len(stages) - 1)
    axis, name = _axis(stages[at], rows[at], folded)
    sphere = bool(curve.problem.network.activation.homogeneous)
    return {
        "kind": "estimate",
        "position": f"angle to {name}" if sphere else f"coordinate along {name}",
        "unit": "degrees" if sphere else "(w, b)",
        "folded": folded,
        "chosen": chosen,
        "stages": [
            {
                "S": stage.size,
                "error": stage.error,
                "atoms": [
                    {
                        "position": float(position),
                        "size": float(stage.weight[k]),
                        "from": _index(stage.origin[k]),
                        "near": _index(stage.nearest[k]),
                        "row": _index(row[k]),
                    }
                    for k, position in enumerate(_positions(stage.atoms, axis, sphere, folded))
                ],
            }
            for stage, row in zip(stages, rows, strict=True)
        ],
    }


def _index(value: int) -> int | None:
    return int(value) if value >= 0 else None


def _points(atoms: Atoms) -> Array:
    points = Section.of(Network(np.ones((atoms.n, 1)), atoms.inner, atoms.bias, atoms.activation)).points
    if atoms.activation.kind == "frequencies":  # the bias is periodic
        points = points * np.append(np.ones(points.shape[1] - 1), 0.0)
    return points


def _positions(atoms: Atoms, axis: Array, sphere: bool, folded: bool) -> Array:
    along = _points(atoms) @ axis
    along = np.abs(along) if folded else along
    return np.degrees(np.arccos(np.clip(along, -1.0, 1.0))) if sphere else along


def _axis(stage: Stage, rows: NDArray[np.int64], folded: bool) -> tuple[Array, str]:
    """The principal axis of the lines through the atoms (flips do not matter to it), or else the heavy atom, to which
    the places of the atoms have the widest least gap; and its name."""
    points = _points(stage.atoms)
    sphere = bool(stage.atoms.activation.homogeneous)
    _, _, axes = np.linalg.svd(points, full_matrices=False)
    candidates = [(axis, f"principal axis {k + 1}") for k, axis in enumerate(axes[:_AXES])]
    for k in np.argsort(-stage.weight, kind="stable")[:_AXES]:
        length = float(np.linalg.norm(points[k]))
        if rows[k] >= 0 and length > 0:
            candidates.append((points[k] / length, f"atom {rows[k] + 1}"))
    best, gap = candidates[0], -1.0
    for candidate in candidates:
        places = np.sort(_positions(stage.atoms, candidate[0], sphere, folded))
        least = float(np.min(np.diff(places))) if places.size > 1 else 0.0
        if least > gap + 1e-6 * max(gap, float(np.ptp(places)), 1e-300):
            best, gap = candidate, least
    heaviest = points[int(np.argmax(stage.weight))] @ best[0]
    return (-best[0] if heaviest < 0 else best[0]), best[1]


def _rows(stages: list[Stage], chosen: int, dictionary: Network, flips: bool) -> list[NDArray[np.int64]]:
    """For each stage the rows of its atoms in the reported dictionary, −1 where an atom has none."""
    rows = [np.full(stage.atoms.n, -1, dtype=np.int64) for stage in stages]
    at = next((i for i, stage in enumerate(stages) if stage.size == chosen), None)
    if at is None or not dictionary.width:
        return rows
    own = Section.of(dictionary).points
    distance, _ = point_distances(Section.of(stages[at].network).points, own, flips)
    rows[at][:] = np.argmin(distance, axis=1)
    for i in range(at + 1, len(stages)):
        known = stages[i].origin >= 0
        rows[i][known] = rows[i - 1][stages[i].origin[known]]
    for i in range(at, 0, -1):
        known = stages[i].origin >= 0
        rows[i - 1][stages[i].origin[known]] = rows[i][known]
    return rows
