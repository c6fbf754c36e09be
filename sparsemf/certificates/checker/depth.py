"""Claims of depth (``sparsemf/depth/1``): how many Hermite tensors identify a network's atoms.

Ψ_D = (T_k)_{k ≤ D} on the family of :mod:`depth_shape` under N(0, I).  The claims, each a bracket [lower, upper] whose
upper end may be null:

- ``variety.generic``: the least D with rank JΨ_D = target on an open dense set of the family.  Lower end: by counting.
  Upper: full rank at one point, since the G_k are analytic in (t, b) for t > 0 (for piecewise linear σ, too).
- ``variety.pointwise``: the same at the atoms themselves; ``variety.singular``: atoms within a stated relative
  distance of these at which JΨ_D is singular, so the pointwise depth is larger there.  An atom with scale matrix (rows
  **all** k ∈ K) of deficient rank gives a kernel vector of JΨ_D, whatever the other atoms; the 2 × 2 determinant has
  opposite signs at the two ends of a segment of lengths.
- ``orbit.near``: the least D at which the fibre of Ψ_D is one orbit, at general points of some open set whose closure
  holds these atoms.  Lower end: the generic D_var (where the rank is deficient at all points, fibres at general points
  have positive dimension) or another solution; upper: :mod:`depth_orbit`, whose conditions are open.
- ``orbit.pointwise``: the same at the atoms themselves; its lower end rests on another solution alone.
- ``orbit.box``: [r, r, b], the scales among which other solutions are excluded; null: all r > 0 and b.

``link``: "exact" - the atoms are the network's neurons (α up to a common factor, which changes no depth), those left
out having α = 0 (or w = 0, with a free offset);
"distance" - a network with these atoms is within ``atoms_error`` in L²(N(0, I)); "none" - not checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from sparsemf.certificates.checker import depth_polynomial, equivalence
from sparsemf.certificates.checker.depth_cells import Box, Field
from sparsemf.certificates.checker.depth_moments import moments, precision
from sparsemf.certificates.checker.depth_orbit import Others, by_prony, collision, identified
from sparsemf.certificates.checker.depth_rank import Atoms, belong, full_rank, scale_rows
from sparsemf.certificates.checker.depth_shape import HIGHEST, Shape, least_depth
from sparsemf.certificates.checker.document import Refused, array, norm_of, number, whole
from sparsemf.certificates.checker.raw import Raw, decode

Array = NDArray[np.float64]
Bracket = tuple[int, int | None]

SCHEMA = "sparsemf/depth/1"
MOST_ATOMS = 2000


def shape_of(entry: Mapping[str, Any]) -> Shape:
    """The family that a document names, validated."""
    n = whole(entry["atoms"], "the number of atoms", 1, MOST_ATOMS)
    d, m = whole(entry["d"], "d", 1, 100_000), whole(entry["m"], "m", 1, 100_000)
    if type(entry["bias"]) is not bool:
        raise Refused("whether biases are parameters is not said")
    shape = Shape(entry["activation"], n, d, m, entry["bias"], whole(entry["free"], "the free degree", -1, 1))
    if not (shape.form.terms or shape.form.linear() != 0):
        raise Refused("a constant activation")
    return shape


def bracket_of(entry: Any, what: str) -> Bracket:
    """[lower, upper] with upper null or ≥ lower."""
    if not isinstance(entry, list) or len(entry) != 2:
        raise Refused(f"{what} is not a bracket")
    low = whole(entry[0], what, 0, HIGHEST + 1)
    if entry[1] is None:
        return low, None
    return low, whole(entry[1], what, low, HIGHEST)


def box_of(entry: Any, bias: bool) -> Box:
    """A box of scales; biases symmetric about 0, so that turned atoms lie in it, too, and 0 where there are none."""
    if not isinstance(entry, list) or len(entry) != 3:
        raise Refused("the box of scales is not [r, r, b]")
    low, high = number(entry[0], "r", positive=True), number(entry[1], "r", positive=True)
    b = number(entry[2], "b")
    if b and not bias:
        raise Refused("a box of biases for a family without")
    return Box(low, high, -b, b)


def singular_near(atoms: Atoms, depth: int, i: int, within: float) -> bool:
    """Whether JΨ_depth is singular with atom i rescaled by some factor in [1 − within, 1 + within]."""
    shape = atoms.shape
    degrees = shape.degrees(depth)
    if shape.bias or shape.homogeneous or shape.degree or len(degrees) != 2 or not within < 1:
        return False
    signs = []
    for factor in (arb(1) - arb(within), arb(1) + arb(within)):
        r = atoms.length[i] * factor
        (a, b), (c, d) = scale_rows(shape, moments(shape.activation, r, arb(0), depth + 2), r, degrees)
        determinant = a * d - b * c
        if determinant.contains(0):
            return False
        signs.append(bool(determinant > 0))
    return signs[0] != signs[1]


def check(document: Mapping[str, Any], networks: Mapping[str, Raw], data: Array | None) -> dict[str, Any]:
    """The facts proved; raises :class:`Refused` where the claim does not follow."""
    shape, claim, evidence = shape_of(document["family"]), document["claim"], document["evidence"]
    if data is not None or norm_of(document, shape.d, None).kind != "gaussian":
        raise Refused("depths are claims about Gaussian inputs")
    _published(document, shape)
    n = shape.atoms
    alpha, w = array(evidence["alpha"], (n, shape.m), "α"), array(evidence["w"], (n, shape.d), "w")
    b = array(evidence["b"], (n,), "b")
    with precision():
        facts = _link(document, shape, networks["a"], alpha, w, b)
        variety, orbit = claim["variety"], claim["orbit"]
        generic = bracket_of(variety["generic"], "the generic D_var")
        pointwise = bracket_of(variety["pointwise"], "the pointwise D_var")
        near, at = bracket_of(orbit["near"], "D_orb"), bracket_of(orbit["pointwise"], "the pointwise D_orb")
        if near[1] != at[1]:
            raise Refused("both brackets of D_orb have one upper end")
        ends = [end for bracket in (generic, pointwise, near) for end in bracket if end is not None]
        if shape.degree:
            return facts | _polynomial(shape, (generic, pointwise, near, at), claim, (alpha, w, b))
        atoms = Atoms.of(shape, alpha, w, b, max(ends) + 2)
        least = least_depth(shape, shape.target)
        if generic[0] > least or pointwise[0] > least:
            raise Refused(f"counting shows D_var ≥ {least} only")
        if pointwise[1] is not None and full_rank(atoms, pointwise[1]) is None:
            raise Refused(f"JΨ_{pointwise[1]} is not shown to have full rank at these atoms")
        if generic[1] is not None and (pointwise[1] is None or pointwise[1] > generic[1]):
            other = evidence["general_point"]
            shapes = {"alpha": (n, shape.m), "w": (n, shape.d), "b": (n,)}
            point = tuple(array(other[name], shapes[name], name) for name in shapes)
            if full_rank(Atoms.of(shape, point[0], point[1], point[2], generic[1] + 2), generic[1]) is None:
                raise Refused(f"JΨ_{generic[1]} is not shown to have full rank at the stated point")
        for entry in variety["singular"]:
            depth, i = whole(entry["depth"], "a depth", 0, HIGHEST), whole(entry["atom"], "an atom", 0, n - 1)
            if not singular_near(atoms, depth, i, number(entry["within"], "a distance", positive=True)):
                raise Refused(f"no singular point of JΨ_{depth} is shown near atom {i}")
        _orbit(atoms, least, near, at, orbit["box"], evidence)
    return facts | {"variety_lower": float(generic[0]), "orbit_lower": float(near[0])}


def scaled_exactly(outer: Array, scale: float, alpha: Array) -> bool:
    """Whether α = scale·outer without rounding."""
    if outer.shape != alpha.shape:
        return False
    factor = Fraction(scale)
    return all(
        factor * Fraction(x) == Fraction(y) for x, y in zip(outer.ravel().tolist(), alpha.ravel().tolist(), strict=True)
    )


def unchecked(document: Mapping[str, Any]) -> list[str]:
    """What a valid certificate says and this program did not check."""
    return ["that the atoms are the network's"] if document["link"] == "none" else []


def _published(document: Mapping[str, Any], shape: Shape) -> None:
    """That ``config``, ``d_var`` and ``d_orb``, which people read, say what family and claim say."""
    config = document["config"]
    named = (config["rho"], config["bias"], config["free"])
    if named != (document["law"]["name"], shape.bias, ("none", "offset", "affine")[shape.free + 1]):
        raise Refused("the published family is not the claim's")
    variety, orbit = document["claim"]["variety"], document["claim"]["orbit"]
    told = [
        (document["d_var"]["generic"], variety["generic"]), (document["d_var"]["pointwise"], variety["pointwise"]),
        (document["d_orb"]["near"], orbit["near"]), (document["d_orb"]["pointwise"], orbit["pointwise"]),
    ]  # fmt: skip
    for shown, (low, high) in told:
        if [shown["lower"], shown["upper"], shown["certified"]] != [low, high, low == high]:
            raise Refused("a published bracket is not the claim's")
    # atoms in general position are irreducible, and so are those at which the rank is lower still
    singular = [whole(entry["depth"], "a depth", 0, HIGHEST) + 1 for entry in variety["singular"]]
    worst = (("d_var", max([variety["generic"][0], *singular])), ("d_orb", orbit["near"][0]))
    for name, least in worst:
        shown = document[name]["worst_case"]
        if shown["upper"] is not None or whole(shown["lower"], "a worst case", 0, HIGHEST + 1) > least:
            raise Refused("a published worst case does not follow from the claim")
    box, shown = orbit["box"], document["d_orb"]["scales"]
    if (shown is None) != (box is None) or (
        box is not None and (shown["r"] != [box[0], box[1]] or shown["b"] != [-box[2], box[2]])
    ):
        raise Refused("the published scales are not the claim's")
    if document["d_var"]["singular"] != variety["singular"]:
        raise Refused("the published singular points are not the claim's")
    if document["d_orb"]["other"] != document["evidence"]["collisions"]:
        raise Refused("the published solutions are not the evidence's")


def _orbit(atoms: Atoms, least: int, near: Bracket, at: Bracket, box: Any, evidence: Mapping[str, Any]) -> None:
    depths = []
    for entry in evidence["collisions"]:
        depth, i = (
            whole(entry["depth"], "a depth", 0, HIGHEST),
            whole(entry["atom"], "an atom", 0, atoms.shape.atoms - 1),
        )
        if depth + 2 >= len(atoms.table[i]):
            raise Refused("another solution at a depth beyond the claim")
        collision(atoms, depth, i, *_solution(entry))
        depths.append(depth)
    apart = max((depth + 1 for depth in depths), default=0)
    if near[0] > max(least, apart) or at[0] > apart:
        raise Refused(f"D_orb ≥ {max(near[0], at[0])} is not shown")
    if near[1] is None:
        return
    field = None if box is None else Field(atoms.shape, box_of(box, atoms.shape.bias), near[1] + 2)
    others: Others = {}
    for entry in evidence["others"]:
        others.setdefault(whole(entry["atom"], "an atom", 0, atoms.shape.atoms - 1), []).append(_solution(entry))
    found = identified(atoms, near[1], field, others) or by_prony(atoms, near[1])
    if found is None:
        raise Refused(f"the fibre of Ψ_{near[1]} is not shown to be one orbit")


def _solution(entry: Mapping[str, Any]) -> tuple[float, float, int]:
    """(r, b, turn) of another solution."""
    b, turn = entry["b"], entry["turn"]
    if isinstance(b, bool) or not isinstance(b, int | float) or not np.isfinite(b) or turn not in (1, -1):
        raise Refused("another solution is not described")
    return number(entry["r"], "r", positive=True), float(b), int(turn)


def _polynomial(
    shape: Shape,
    brackets: tuple[Bracket, Bracket, Bracket, Bracket],
    claim: Mapping[str, Any],
    parts: tuple[Array, Array, Array],
) -> dict[str, Any]:
    generic, pointwise, near, at = brackets
    belong(shape, *parts)
    lower, upper = depth_polynomial.bracket(shape)
    if claim["variety"]["singular"] or claim["orbit"]["box"] is not None:
        raise Refused("a polynomial family has neither singular points nor a box in its claim")
    if generic[0] > lower or (generic[1] is not None and generic[1] < upper):
        raise Refused(f"D_var is shown to be in [{lower}, {upper}]")
    if pointwise != (0, shape.degree):
        raise Refused(f"at these atoms D_var is shown to be in [0, {shape.degree}]")
    top: int = shape.degree
    if near[1] is not None and near[1] < top:
        found = identified(Atoms.of(shape, *parts, near[1] + 2), near[1], None)
        if found is None:
            raise Refused(f"D_orb ≤ {near[1]} is not shown")
    if near[0] > lower or at[0] > 0:
        raise Refused(f"D_orb ≥ {lower} is shown only")
    return {"variety_lower": float(generic[0]), "orbit_lower": float(near[0])}


def _link(document: Mapping[str, Any], shape: Shape, a: Raw, alpha: Array, w: Array, b: Array) -> dict[str, Any]:
    """That the atoms are those of the network, as far as the document says so."""
    if a.gate is not None or a.activation != shape.activation or a.w.shape[1] != shape.d or a.outer.shape[1] != shape.m:
        raise Refused("the family is not that of the network")
    link, claimed = document["link"], document["atoms_error"]
    if link == "none":
        if claimed is not None:
            raise Refused("a distance that is not checked")
        return {}
    if document["law"]["name"] != "gaussian":
        raise Refused("the atoms are compared with the network under N(0, I) only")
    if link == "distance":
        affine = document["evidence"]["polynomial"]
        g = Raw.of(
            {"outer": alpha, "inner": w, "bias": b, **{name: decode(affine[name]) for name in ("affine", "offset")}},
            shape.activation,
            1.0,
        )
        if (shape.free < 1 and g.affine.any()) or (shape.free < 0 and g.offset.any()):
            raise Refused("the atoms' network has a polynomial part that its family has not")
        found = equivalence.distance_bounds(norm_of(document, shape.d, None), a, g, document["evidence"])[1]
        if not found <= number(claimed, "the distance"):
            raise Refused(f"the atoms are within {found:.6g} of the network, claimed {claimed:.6g}")
        return {"atoms_error": found}
    if link != "exact" or claimed is not None:
        raise Refused("how the atoms belong to the network is not said")
    live = a.outer.any(axis=1) & (a.scale != 0)
    still = live & ~a.w.any(axis=1)
    rows = np.flatnonzero(live & ~still)
    # a common factor of α changes no depth, its rounding may (Σ_F α = 0)
    own = np.array_equal(a.outer[rows], alpha) or scaled_exactly(a.outer[rows], a.scale, alpha)
    if not (own and np.array_equal(a.w[rows], w) and np.array_equal(a.b[rows], b)):
        raise Refused("the atoms are not the neurons of the network")
    if a.quadratic is not None or (shape.free < 1 and a.affine.any()):
        raise Refused("the network has a polynomial part that the family has not")
    if shape.free < 0 and (a.offset.any() or still.any()):
        raise Refused("the network has a constant part that the family has not")
    return {}
