"""The certificate of optimality of a result on data: ``sparsemf/optimality/1``, which ``sparsemf verify`` checks.

The tree of the search is cut further where the *checker's* bound of a leaf is above the target; the published
numbers are the checker's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.atomic import header, plain
from sparsemf.certificates.checker import optimality as checked
from sparsemf.certificates.checker import tree
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.derivatives import profile
from sparsemf.certificates.checker.document import Refused, seal
from sparsemf.certificates.checker.knots import KNOTS
from sparsemf.certificates.checker.raw import encode
from sparsemf.certificates.convex.data import DataObservation
from sparsemf.certificates.convex.parameters import ParameterSet
from sparsemf.certificates.convex.result import BlassoResult
from sparsemf.certificates.convex.supremum import Tree
from sparsemf.exceptions import InputError

Array = NDArray[np.float64]

WIDER = 1e-11
"""Published numbers are widened by this, relative to the value, so that another machine's rounding cannot refute
them."""
_MORE = 100_000
"""Nodes that may be added to the search's tree (or half of those it has)."""
_KINKED = 1e-6
"""The aim of sup‖η‖/(its largest known value) − 1 where σ′ jumps."""
SHORTER = 1 - 2.0**-40
"""Coordinates are shortened so that they provably stretch nothing."""


def certificate(result: BlassoResult, data: str | None = None, tolerance: float | None = None) -> dict[str, Any]:
    """See :meth:`.BlassoResult.certificate`."""
    observation = result.observation
    if not isinstance(observation, DataObservation):
        raise InputError("expected a result on data")
    supremum = result.supremum
    if supremum.upper is None:
        raise InputError(f"no certificate: sup‖η‖ was not bounded ({supremum.how})")
    program, measure, coordinates = _described(result, observation)
    document = {
        **header("optimality", 1),
        "inputs": {"data": _named(program, data)},
        "data": None if data is not None else {"x": encode(program.x), "y": encode(program.y)},
        "program": {
            "activation": program.activation,
            "bias": program.bias,
            "affine": program.affine,
            "lam": program.lam,
            "set": "sphere" if program.radius is None else "ball",
            "radius": program.radius,
            "bias_radius": program.bias_radius if program.radius is not None and program.bias else None,
        },
        "measure": {
            "theta": encode(measure.theta),
            "alpha": encode(measure.alpha),
            "affine": encode(measure.slope) if program.affine else None,
            "offset": encode(measure.offset) if program.affine else None,
        },
    }
    if tolerance is None and program.radius is not None and _kinked(program):
        tolerance = _KINKED
    # a little more than the search's bound: rounding is charged differently here
    aim = supremum.upper * (1 + 1e-9) if tolerance is None else supremum.lower * (1 + tolerance)
    enough = program.lam * max(1.0 + (tolerance or 1e-9), aim)
    try:
        with Arithmetic(256).precision():
            _, left = checked.residual(program, measure)
            dual = checked.dual_function(program, checked.orthogonal(program, left), coordinates)
        bits, closed = refined(dual, None if _own_boxes(program) else supremum.tree, enough)
        if not closed and _own_boxes(program) and program.radius is not None and not _kinked(program):
            bits, _ = refined(dual, supremum.tree, enough)
        document["evidence"] = {
            "coordinates": None if coordinates is None else encode(coordinates),
            "tree": tree.packed(bits),
        }
        proved = checked.prove(document, program, enough)
    except Refused as refusal:
        raise InputError(f"no certificate: {refusal}") from None
    except KeyError:
        raise InputError(f"no certificate: the checker does not know {program.activation}") from None
    value = proved.value * (1 + WIDER)
    below = max(proved.dual_value - WIDER * proved.value, 0.0)
    document["claim"] = {
        "value": value,
        "dual_value": below,
        "gap": float(np.nextafter(value - below, np.inf)),
        "sup": proved.sup * (1 + WIDER),
        "atoms": int(np.count_nonzero(measure.alpha.any(axis=1))),
    }
    body = plain(document)
    return {**body, "seal": seal(body)}


def _named(program: checked.Program, data: str | None) -> dict[str, Any]:
    n, d = program.x.shape
    name = None if data is None else Path(data).name
    return {
        "path": name,
        "arrays_sha256": checked.data_sha256(program.x, program.y),
        "n": n,
        "d": d,
        "m": program.y.shape[1],
    }


def _described(
    result: BlassoResult, observation: DataObservation
) -> tuple[checked.Program, checked.Measure, Array | None]:
    """The program, the measure and the effective coordinates in the checker's terms."""
    space, network = observation.space, result.network
    program = checked.Program(
        observation.x,
        observation.raw,
        observation.activation.name,
        space.bias,
        observation.affine,
        float(result.lam),
        None if space.sphere else space.radius,
        0.0 if space.sphere else space.bias_radius,
    )
    theta = np.array(result.measure.theta) if space.sphere else into_the_ball(space, result.measure.theta)
    measure = checked.Measure(theta, result.measure.alpha, network.affine, network.offset)
    embed = observation._effective()[1]
    block = space.dim if space.sphere else space.d
    rank = embed.shape[0] - (0 if space.sphere else int(space.bias))
    return program, measure, None if rank == block else embed[:rank, :block] * SHORTER


def into_the_ball(space: ParameterSet, theta: Array) -> Array:
    """The points exactly in Θ: |w| ≤ R_w to less than rounding."""
    theta = np.array(theta)
    w = theta[:, : space.d]
    size = np.linalg.norm(w, axis=1, keepdims=True)
    shorter = space.radius * (1 - 1e-14)
    w *= np.where(size > shorter, shorter / np.where(size > 0, size, 1.0), 1.0)
    theta[:, space.d :] = np.clip(theta[:, space.d :], -space.bias_radius, space.bias_radius)
    return theta


def _kinked(program: checked.Program) -> bool:
    """Whether σ′ jumps, where the search's boxes have Lipschitz bounds only and the checker's are far better."""
    try:
        return any(KNOTS[core].kink > 0 for core, *_ in profile(program.activation).knots)
    except KeyError:
        return False


def _own_boxes(program: checked.Program) -> bool:
    """Whether the checker's boxes need far fewer nodes than the search's, or are others: those of ‖η‖² for several
    outputs, where σ has knots, and on the sphere for relu²."""
    if program.radius is None:
        return program.degree > 1
    try:
        return program.y.shape[1] > 1 or bool(profile(program.activation).knots)
    except KeyError:
        return False


def refined(
    dual: checked.DualFunction, known: Tree | None, enough: float, more: int = _MORE
) -> tuple[NDArray[np.bool_], bool]:
    """The bits of a tree, and whether the checker bounds all of its leaves by ``enough``: the search's tree (or the
    roots), with leaves cut where needed, as far as its nodes and ``more`` reach."""
    most = more if known is None else known.children.size + max(more, known.children.size // 2)
    nodes, count, closed = dual.roots, dual.roots.shape[0], True
    if known is None or known.roots != nodes.shape[0]:
        known = Tree(count, np.full(count, -1, dtype=np.int32))
    names = np.arange(count)
    bits: list[NDArray[np.bool_]] = []
    while nodes.shape[0]:
        first = np.where(names >= 0, known.children[np.maximum(names, 0)], -1)
        split = first >= 0
        rest = np.flatnonzero(~split)
        wide = dual.bounds(nodes[rest], enough) > enough
        if wide.any() and count + 2 * (np.sum(split) + np.sum(wide)) <= most:
            split[rest] = wide
        else:
            closed = closed and not wide.any()
        try:
            halves = dual.halves(nodes[split])
        except Refused:  # as deep as float64 goes
            return np.concatenate([*bits, np.zeros(split.size, dtype=bool)]), False
        bits.append(split)
        nodes, count = halves, count + halves.shape[0]
        names = np.concatenate([first[split], np.where(first[split] >= 0, first[split] + 1, -1)])
    return np.concatenate(bits), closed
