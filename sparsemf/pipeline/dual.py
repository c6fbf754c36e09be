"""The dual certificate of an analysis' dictionary, as the document holds it: slices of η_V over the parameter
set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.convex.dual_slices import Line, Mark, Slices, Surface, slices
from sparsemf.certificates.convex.vanishing import PreCertificate, precertificate
from sparsemf.exceptions import InputError
from sparsemf.measures import Atoms, InputLaw, Network
from sparsemf.measures.gaussian import beyond_affine
from sparsemf.measures.laws import Gaussian
from sparsemf.symmetry.metric import free_relation

Array = NDArray[np.float64]

MOST_ATOMS = 64
ROUNDING = 1e-6
"""‖η‖ up to 1 + this counts as not above 1."""
_DEGREES = (48, 192)
_STEEPEST = 100.0
"""‖w‖ in the law's coordinates beyond which a series of these degrees shows little of an atom, and costs minutes."""
_ORTHOGONAL = {2: "quadratic functions", 1: "affine functions", 0: "constants"}


def _definition(free: int) -> str:
    beyond = f", orthogonal to {_ORTHOGONAL[free]}" if free in _ORTHOGONAL else ""
    return (
        f"vanishing-derivative pre-certificate (Duval & Peyré 2015): η(θ) = ⟨p, φ_θ⟩, p of least norm{beyond}, with "
        "η = α/‖α‖ and no slope of ⟨α, η⟩ at every atom"
    )


def dual_document(dictionary: Network, law: InputLaw, degree: int | None, m: int, free: int = 1) -> dict[str, Any]:
    """The field ``dual``: what η_V looks like, or the ``reason`` why it was not computed.

    ``dictionary`` in input coordinates; ``degree`` of the Hermite series of its analysis, if there is one; ``free``:
    the degree up to which polynomials are free there.
    """
    if not isinstance(law, Gaussian):
        return {"reason": "the dual certificate is computed under a Gaussian input law only"}
    if dictionary.gated:
        return {"reason": "the dual certificate is not computed for gated atoms"}
    if dictionary.activation.polynomial_degree is not None:
        return {"reason": "polynomial atoms are not determined by few moments: the dual certificate is not computed"}
    if not 1 <= dictionary.width <= MOST_ATOMS:
        return {"reason": f"{dictionary.width} atoms: the dual certificate is computed for 1 to {MOST_ATOMS}"}
    white = law.whiten(dictionary)
    atoms = Atoms.of(white)
    steepest = float(atoms.norm.max())
    if not atoms.activation.homogeneous and steepest > _STEEPEST:
        return {
            "reason": f"an atom of ‖w‖ = {steepest:.3g} in the law's coordinates: the dual certificate is computed "
            f"up to {_STEEPEST:g}"
        }
    cut = min(max(degree or 0, _DEGREES[0]), _DEGREES[1])
    try:
        found = precertificate(atoms, white.alpha, cut, free)
    except InputError as error:
        return {"reason": str(error)}
    size = np.linalg.norm(white.alpha, axis=1)
    if found.normalised:
        size = size * np.sqrt(np.maximum(np.diag(beyond_affine(atoms, atoms, cut, free)), 0.0))
    else:
        size = size * np.hypot(atoms.norm, atoms.bias)
    seen = slices(found, size)
    return {
        "kind": "estimate",
        "definition": _definition(free),
        "free_degree": free,
        "folded": free_relation(dictionary.activation, free),
        "parameters": "unit sphere of (w, b)" if seen.sphere else "(w, b), features of norm 1 beyond what is free",
        "unit": "degrees" if seen.sphere else "(w, b)",
        "signed": m == 1,
        "degree": found.degree,
        "norm": found.norm,
        "residual": found.residual,
        "largest": seen.largest,
        "below_one": bool(seen.largest <= 1 + ROUNDING),
        "elsewhere": seen.elsewhere,
        "away": seen.away,
        "samples": seen.samples,
        "slices": [_line(line, found) for line in seen.lines],
        "plane": _surface(seen, found),
    }


def _line(line: Line, found: PreCertificate) -> dict[str, Any]:
    sign = {mark.atom: mark.sign for mark in line.marks}
    out: dict[str, Any] = {
        "through": list(line.through),
        "from": float(line.at[0]),
        "to": float(line.at[-1]),
        "eta": _plain(_shown(line.eta)),
        "marks": [_mark(mark, found) for mark in line.marks],
    }
    if line.eta.shape[1] > 1:
        ends = [_turned(found, atom, sign.get(atom, 1)) for atom in line.through]
        out["along"] = [_plain(line.eta @ end) for end in ends]
    return out


def _surface(seen: Slices, found: PreCertificate) -> dict[str, Any] | None:
    surface: Surface | None = seen.surface
    if surface is None:
        return None
    return {
        "through": list(surface.through),
        "reach": float(surface.at[-1]),
        "eta": [_plain(row) for row in _shown(surface.eta)],
        "marks": [_mark(mark, found) for mark in surface.marks],
    }


def _shown(eta: Array) -> Array:
    """η of one output, ‖η‖ of several."""
    return eta[..., 0] if eta.shape[-1] == 1 else np.linalg.norm(eta, axis=-1)


def _turned(found: PreCertificate, atom: int, sign: int) -> Array:
    """u of an atom on the side that a slice shows."""
    relation = found.atoms.activation.relation
    return found.target[atom] * (relation.sign if sign < 0 and relation is not None else 1)


def _mark(mark: Mark, found: PreCertificate) -> dict[str, Any]:
    value = _turned(found, mark.atom, mark.sign)
    return {
        "atom": mark.atom,
        "at": [float(a) for a in mark.at],
        "eta": float(value[0]) if value.size == 1 else 1.0,
    }


def _plain(values: Array) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in np.round(values, 4)]
