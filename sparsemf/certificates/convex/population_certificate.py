"""The certificate of optimality of a population result: ``sparsemf/optimality/2``, which ``sparsemf verify`` checks.

Its dual vector is the residual's Hermite polynomial up to a degree K, with the numbers of the polynomial rounded
to floats: any polynomial is a valid dual vector, and this one is nearly the residual.  The tree is made by the
checker's own bounds of ‖η_q‖; beyond :data:`MOST` effective dimensions there is none, and the dual value is what
norms of flattened tensors give.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsemf.atomic import header, plain
from sparsemf.certificates.checker import dual_norms, optimality, series, tree
from sparsemf.certificates.checker import population as checked
from sparsemf.certificates.checker.arithmetic import Rows, Undefined
from sparsemf.certificates.checker.document import Refused, inside, seal
from sparsemf.certificates.checker.dual_series import MOST_DEGREES, form_of, is_slow, neuron_coefficients
from sparsemf.certificates.checker.expansion import Expanded
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import encode
from sparsemf.certificates.convex.certificate import SHORTER, WIDER, into_the_ball, refined
from sparsemf.certificates.convex.observation import Atomic
from sparsemf.certificates.convex.population import SPAN, PopulationObservation
from sparsemf.certificates.convex.result import BlassoResult
from sparsemf.certificates.equivalence import encode_law, raw_of
from sparsemf.certificates.groups import candidates
from sparsemf.exceptions import InputError
from sparsemf.measures import Atoms, Gaussian

Array = NDArray[np.float64]
Document = dict[str, object]

MOST = 6
"""Effective dimensions beyond which no tree is grown."""
_RANK = 1e-5
"""Directions of the atoms that leave those of the target by less are the solver's noise; the polynomial does without
them."""
_DEGREES = (24, 48, 96, MOST_DEGREES)
_FINER = 64
"""K of the distance where that of q is kept small."""
_MORE_OF_SLOW = 1500
"""Nodes where each costs an integral in balls (softsign)."""
_TAIL = 3e-5
"""K is the first of these beyond which f* has no more than this part of its mass: the gap loses the square."""


def certificate(result: BlassoResult, tolerance: float | None = None, degree: int | None = None) -> dict[str, object]:
    """See :meth:`.BlassoResult.certificate`."""
    observation = result.observation
    assert isinstance(observation, PopulationObservation)
    name = observation.activation.name
    try:
        form_of(name)
    except KeyError:
        raise InputError(f"no certificate of optimality for {name} under a Gaussian law") from None
    space, network = observation.space, result.network
    raw = raw_of(observation.target if observation.source is None else observation.source)
    theta = np.array(result.measure.theta) if space.sphere else into_the_ball(space, result.measure.theta)
    document: dict[str, object] = {
        **header("optimality", 2),
        "inputs": {"target": {"arrays_sha256": raw.sha256, "d": raw.w.shape[1], "m": raw.outer.shape[1]}},
        "target": {
            "activation": raw.activation,
            "scale": raw.scale,
            "outer": encode(raw.outer),
            "inner": encode(raw.w),
            "bias": encode(raw.b),
            "affine": encode(raw.affine),
            "offset": encode(raw.offset),
        },
        "law": encode_law(Gaussian.standard(raw.w.shape[1]) if observation.law is None else observation.law),
        "program": {
            "activation": name,
            "bias": space.bias,
            "affine": observation.free,
            "lam": float(result.lam),
            "set": "sphere" if space.sphere else "ball",
            "radius": None if space.sphere else space.radius,
            "bias_radius": None if space.sphere or not space.bias else space.bias_radius,
        },
        "measure": {
            "theta": encode(theta),
            "alpha": encode(result.measure.alpha),
            "affine": encode(network.affine) if observation.free else None,
            "offset": encode(network.offset) if observation.free else None,
        },
    }
    slow = is_slow(name) or is_slow(observation.target.activation.name)
    degree = _degree(observation) if degree is None else degree
    try:
        with checked.BALLS.precision():
            program = checked.population_of(document)
            atoms = checked.atoms_of(document, program)
            finer = (
                max(degree, _FINER) if slow else degree
            )  # of few neurons, where K of the boxes' coefficients is small
            distance = _distance(checked.residual(program, atoms), program.target.core.size, finer)
            q = polynomial(observation, result.measure, degree)
            dual = checked.dual_of(program, q, checked.energies(q))
        bits: NDArray[np.bool_] | None = None
        if dual.region.dim <= MOST:
            lower = max(1.0, result.supremum.lower)
            aim = result.lam * lower * (1 + (1e-7 if tolerance is None else tolerance))
            more = {"more": _MORE_OF_SLOW} if is_slow(name) else {}
            whole = optimality.DualFunction(dual, dual.roots(), 0.0)
            bits, closed = refined(whole, None, aim, **more)
            if not closed and dual_norms.everywhere(dual) <= whole.sup(bits, aim):
                bits = None  # norms of flattened tensors are better than as many boxes
        document["evidence"] = {
            "distance": distance,
            "polynomial": {
                "directions": encode(q.directions),
                "weights": encode(q.weights),
                "coordinates": None if q.coordinates is None else encode(q.coordinates),
            },
            "tree": None if bits is None else tree.packed(bits),
        }
        proved = checked.prove(document, result.lam)
    except (Refused, Undefined) as refusal:
        raise InputError(f"no certificate: {refusal}") from None
    value = proved.value * (1 + WIDER)
    below = max(proved.dual_value - WIDER * proved.value, 0.0)
    document["claim"] = {
        "value": value,
        "dual_value": below,
        "gap": float(np.nextafter(value - below, np.inf)),
        "sup": proved.sup * (1 + WIDER),
        "atoms": int(np.count_nonzero(result.measure.alpha.any(axis=1))),
    }
    body = plain(document)
    return {**body, "seal": seal(body)}


def _degree(observation: PopulationObservation) -> int:
    if is_slow(observation.activation.name) or is_slow(observation.target.activation.name):
        return _DEGREES[0]
    target = Atoms.of(observation.target)
    weight = np.linalg.norm(observation.target.alpha, axis=1)
    enough = _TAIL * float(weight @ target.length)
    return next((k for k in _DEGREES if float(weight @ target.tail(k)) <= enough), _DEGREES[-1])


def _distance(h: Expanded, split: int, degree: int) -> Document:
    """The grouping with the least bound of ‖h‖ among a few; the first ``split`` neurons are the target's."""
    alone, flip = np.arange(h.core.size), np.ones(h.core.size, dtype=np.int64)
    floats = Expanded(_floats(h.alpha), _floats(h.w), _floats(h.b), h.core, _floats(h.affine), _floats(h.offset),
                      h.point_error, h.alpha_error, h.affine_error)  # fmt: skip
    groupings = [(alone, flip)] + [(g.leader, g.flip) for g in candidates(floats, split, Norm("gaussian"))]
    known = series.spectrum(checked.BALLS, Norm("gaussian"), h, max(degree, 2))
    best = min(groupings, key=lambda g: checked.distance(h, g[0], g[1], max(degree, 2), known))
    return {
        "leader": encode(best[0].astype(np.int32)),
        "sign": encode(best[1].astype(np.int8)),
        "degree": max(degree, 2),
    }


def _floats(x: Rows) -> Array:
    """The nearest floats of balls."""
    return np.array([float(v.mid()) for v in x.ravel()], dtype=np.float64).reshape(x.shape)


def flattened_sup(observation: PopulationObservation, measure: Atomic) -> tuple[float, int] | None:
    """(an upper bound of sup ‖η‖ up to the curvature's ``error``, K): that of the residual's polynomial of degree K, by
    norms of flattened tensors in any dimension, and Cauchy–Schwarz beyond; None where there is none."""
    degree = MOST_DEGREES if observation.degree is None else min(observation.degree, MOST_DEGREES)
    space = observation.space
    radius = None if space.sphere else space.radius
    try:
        with checked.BALLS.precision():
            # a direction left out here would be left out of the bound: no more of them than the curvature charges
            q = polynomial(observation, measure, degree, SPAN)
            sizes = checked.energies(q)
            dual = checked.dual_on(observation.activation.name, space.bias, radius, space.bias_radius, q, sizes)
            known = sum(float(size.lower()) for size in sizes)
        # cosines are shortened twice, and every term of both bounds with them
        longer = SHORTER ** (-2 * degree) * (1 + 1e-12)
        found = min(dual.everywhere, dual_norms.everywhere(dual)) * longer + observation.beyond(measure, degree, known)
    except (KeyError, Refused, Undefined):
        return None
    return (found, degree) if np.isfinite(found) else None


def polynomial(
    observation: PopulationObservation, measure: Atomic, degree: int, rank: float = _RANK
) -> checked.Polynomial:
    """The residual's Hermite polynomial of degrees ≤ ``degree`` in effective coordinates, those with singular values
    of at most ``rank`` times the largest left out."""
    target, space = observation.target, observation.space
    w = np.concatenate([target.inner, space.weights(measure.theta)])
    b = np.concatenate([target.bias, space.biases(measure.theta)])
    alpha = np.concatenate([target.alpha, -measure.alpha])
    affine = not observation.free and bool(target.affine.any())
    coordinates = _effective(np.concatenate([w, target.affine]) if affine else w, rank)
    names = [target.activation.name] * target.width + [observation.activation.name] * measure.size
    length = np.linalg.norm(w, axis=1)
    c = np.zeros((w.shape[0], degree + 1))
    for name in dict.fromkeys(names):
        rows = np.array([i for i, other in enumerate(names) if other == name and length[i] > 0], dtype=np.intp)
        if rows.size:
            c[rows] = neuron_coefficients(name, length[rows], b[rows], degree)[0]
    still = np.flatnonzero(length == 0)
    sigma = [target.activation if i < target.width else observation.activation for i in still]
    c[still, 0] = [float(s.value(b[i : i + 1])[0]) for s, i in zip(sigma, still, strict=True)]
    unit = w / np.where(length > 0, length, 1.0)[:, None]
    weights = c.T[:, :, None] * alpha[None]
    if not observation.free:
        weights[0, :1] += target.offset
        if affine:
            unit = np.concatenate([unit, np.eye(target.d)])
            more = np.zeros((degree + 1, target.d, target.m))
            more[1] = target.affine.T
            weights = np.concatenate([weights, more], axis=1)
    else:
        weights[:2] = 0.0
    z = unit if coordinates is None else unit @ coordinates.T
    z = z * SHORTER
    assert all(inside(x, 1.0) for x in z)
    return checked.Polynomial(z, weights, coordinates)


def _effective(stacked: Array, tolerance: float) -> Array | None:
    """E (k, d) whose rows span the directions, or None where they are nearly all."""
    _, s, vt = np.linalg.svd(stacked, full_matrices=False)
    rank = max(1, int(np.sum(s > tolerance * max(float(s[0]), 1e-300))))
    return vt[:rank] * SHORTER if rank + 1 < stacked.shape[1] else None
