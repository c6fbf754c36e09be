"""Claims of optimality where the target is a network f* under a Gaussian law: P(ν) ≤ value, and no measure at all
has a value below ``dual_value``.

    P(ν) = ½‖f* − Φν − (A g + c)‖² + λ|ν|_TV,   Φν = Σ_j α_j σ(⟨w_j, g⟩ + b_j),   ‖·‖ in L²(N(0, I)),

in white coordinates g of the law, x = mean + root·g (the target is brought there in balls, exactly); Θ, the
sphere and the affine part as in :mod:`optimality`.

*Value.*  ‖f* − Φν − (A g + c)‖ is the distance of two networks, bounded like any other by groups and by the Gram
form of the Hermite series with its tails (:mod:`grouped`, :mod:`series`), in balls.

*Dual value.*  Any q in L² with ‖η_q‖ ≤ B on Θ, and orthogonal to 1 and g where the affine part is free, gives P ≥
τ⟨f*, q⟩ − ½τ²‖q‖² for 0 ≤ τ ≤ λ/B.  The document's q is a *polynomial*, of float numbers that are taken as exact:
T_k(q) = Σ_j g_jk y_j^{⊗k}, k ≤ K, y_j = Eᵀz_j.  Then ‖q‖² = Σ_k Σ_ij ⟨g_ik, g_jk⟩⟨y_i, y_j⟩^k and ⟨f*, q⟩ = Σ_k
Σ_ij ⟨α_i, g_jk⟩c_k(i)⟨ŵ_i, y_j⟩^k + ⟨c, T_0⟩ + ⟨A, T_1⟩ are finite sums, evaluated in balls; so is η_q, which the
leaves of a proof tree bound over Θ (:mod:`dual_series`).  Nothing is truncated; that q is not the residual itself
costs the gap what the residual has beyond degree K.  Without a tree B comes from the spectral norms of the flattened
T_k (:mod:`dual_norms`), in any dimension.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

from sparsemf.certificates.checker import dual_norms, grouped, series, tree
from sparsemf.certificates.checker.arithmetic import Arithmetic, Rows, Undefined
from sparsemf.certificates.checker.catalogue import image
from sparsemf.certificates.checker.document import Refused, array, inside, norm_of, number, whole
from sparsemf.certificates.checker.dual_series import MOST_DEGREES, SeriesDual, form_of, is_slow
from sparsemf.certificates.checker.entire import homogeneity
from sparsemf.certificates.checker.expansion import Expanded, expanded
from sparsemf.certificates.checker.hermite import coefficients
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.optimality import (
    MOST_COORDINATES,
    DualFunction,
    Measure,
    best_dual,
    claimed,
    measure_in,
    up,
)
from sparsemf.certificates.checker.raw import Raw, decode
from sparsemf.certificates.checker.taylor import UNIT, largest_eigenvalue

Array = NDArray[np.float64]

BALLS = Arithmetic(128)
WHITE = Norm("gaussian")
HIGHEST_DEGREE = 128
_MOST_NEURONS = 600
_MOST_SLOW = 10_000
"""Nodes of a tree where coefficients cost some 20 ms each (softsign)."""


@dataclass(frozen=True, eq=False)
class Population:
    """The convex program in white coordinates; ``radius`` is None on the sphere; ``target``: f* in cores."""

    target: Expanded
    activation: str
    bias: bool
    affine: bool
    lam: float
    radius: float | None
    bias_radius: float

    @property
    def shape(self) -> tuple[int, int]:
        """(m, d)."""
        m, d = self.target.affine.shape
        return m, d

    @property
    def degree(self) -> int:
        """k of the sphere, 0 where σ is not homogeneous."""
        return homogeneity(image(self.activation))


def target_of(document: Mapping[str, Any]) -> tuple[Raw, Norm]:
    """The document's target and its law."""
    entry = document["target"]
    names = ("outer", "inner", "bias", "affine", "offset")
    scale = entry["scale"]
    if isinstance(scale, bool) or not isinstance(scale, float | int):
        raise Refused("the scale is not a number")
    raw = Raw.of({name: decode(entry[name]) for name in names}, str(entry["activation"]), float(scale))
    about = document["inputs"]["target"]
    if about["arrays_sha256"] != raw.sha256 or (about["d"], about["m"]) != raw.affine.shape[::-1]:
        raise Refused("the target is not the one that was certified")
    if raw.b.size > _MOST_NEURONS:
        raise Refused(f"more than {_MOST_NEURONS} neurons")
    norm = norm_of({"law": document["law"]}, raw.w.shape[1], None)
    return raw, norm


def whitened(target: Raw, norm: Norm) -> Expanded:
    """f* as core neurons in white coordinates, in balls."""
    h = expanded(BALLS, (target, 1.0))
    w, b = norm.white(BALLS, h.w, h.b)
    if norm.root is None or norm.mean is None:
        return h
    slope = h.affine @ BALLS.array(norm.root)
    return replace(h, w=w, b=b, affine=slope, offset=h.offset + h.affine @ BALLS.array(norm.mean))


def population_of(document: Mapping[str, Any]) -> Population:
    """The program that a document speaks of, validated."""
    target, norm = target_of(document)
    entry = document["program"]
    bias, affine, lam = entry["bias"], entry["affine"], number(entry["lam"], "λ", positive=True)
    if type(bias) is not bool or type(affine) is not bool or entry["set"] not in ("sphere", "ball"):
        raise Refused("the program is not described")
    ball, radius, bias_radius = entry["set"] == "ball", None, 0.0
    if (entry["radius"] is not None) != ball or (entry["bias_radius"] is not None) != (ball and bias):
        raise Refused("a ball has a radius and biases have one, the unit sphere has none")
    try:
        form = form_of(entry["activation"])
    except KeyError:
        raise Refused(f"no certificate of optimality for {entry['activation']} under a Gaussian law") from None
    if ball:
        radius = number(entry["radius"], "the radius")
        bias_radius = number(entry["bias_radius"], "the radius of the biases") if bias else 0.0
        if not all(1e-5 < r < 1e5 for r in ([radius, bias_radius] if bias else [radius])):
            raise Refused("a radius is out of range")
    elif not homogeneity(form):
        raise Refused(f"{entry['activation']} is not homogeneous: its parameters are not the sphere")
    with BALLS.precision():
        return Population(whitened(target, norm), entry["activation"], bias, affine, lam, radius, bias_radius)


def atoms_of(document: Mapping[str, Any], program: Population) -> Measure:
    """The document's measure, in white coordinates."""
    p = program
    found = measure_in(document["measure"], *p.shape, p.bias, p.affine, p.radius, p.bias_radius)
    if found.theta.shape[0] > _MOST_NEURONS:
        raise Refused("the measure has too many atoms")
    return found


def residual(program: Population, atoms: Measure) -> Expanded:
    """f* − Φν − (A g + c) as core neurons, in balls."""
    _, d = program.shape
    bias = atoms.theta[:, d] if program.bias else np.zeros(atoms.theta.shape[0])
    own = Raw(program.activation, atoms.alpha, 1.0, atoms.theta[:, :d], bias, atoms.slope, atoms.offset)
    g, f = expanded(BALLS, (own, -1.0)), program.target
    return Expanded(
        np.concatenate([f.alpha, g.alpha]),
        np.concatenate([f.w, g.w]),
        np.concatenate([f.b, g.b]),
        np.concatenate([f.core, g.core]),
        f.affine + g.affine,
        f.offset + g.offset,
        np.concatenate([f.point_error, g.point_error]),
        np.concatenate([f.alpha_error, g.alpha_error]),
        f.affine_error + g.affine_error,
    )


def distance(
    h: Expanded,
    leader: NDArray[np.int64],
    flip: NDArray[np.int64],
    degree: int,
    known: series.Spectrum | None = None,
) -> float:
    """An upper bound of ‖h‖ under N(0, I), whatever the grouping is.  ``known``: the spectrum of h, for a prover
    that tries several (:func:`value` never has it)."""
    try:
        bound = grouped.upper(BALLS, WHITE, h, leader, flip)
        f = series.spectrum(BALLS, WHITE, h, degree) if known is None else known
        return min(bound, series.gram(BALLS, WHITE, h, f, leader, flip)[1])
    except Undefined:
        return math.inf


def value(program: Population, atoms: Measure, evidence: Mapping[str, Any]) -> arb:
    """A ball above P(ν)."""
    leader, flip = (np.asarray(decode(evidence[name]), dtype=np.int64) for name in ("leader", "sign"))
    degree = whole(evidence["degree"], "the degree", 2, HIGHEST_DEGREE)
    far = distance(residual(program, atoms), leader, flip, degree)
    if not np.isfinite(far):
        raise Refused("the residual was not bounded")
    variation = arb(0)
    for theta, alpha in zip(atoms.theta.tolist(), atoms.alpha.tolist(), strict=True):
        size = sum((arb(v) * arb(v) for v in alpha), arb(0)).sqrt()
        if program.radius is None:
            size = size * sum((arb(v) * arb(v) for v in theta), arb(0)).sqrt() ** program.degree
        variation += size
    return arb(far) * arb(far) / 2 + arb(program.lam) * variation


@dataclass(frozen=True, eq=False)
class Polynomial:
    """q: directions z (J, k) and weights g (K + 1, J, m); E (k, d), or None for the identity."""

    directions: Array
    weights: Array
    coordinates: Array | None

    @property
    def pulled(self) -> Rows:
        """y_j = Eᵀz_j (J, d) in balls."""
        z = BALLS.array(self.directions)
        return z if self.coordinates is None else z @ BALLS.array(self.coordinates)


def polynomial_of(entry: Mapping[str, Any], program: Population) -> Polynomial:
    """The document's q, validated: |z_j| ≤ 1, ‖E‖ ≤ 1, no degree that is free."""
    m, d = program.shape
    coordinates = None if entry["coordinates"] is None else np.asarray(decode(entry["coordinates"]), dtype=np.float64)
    if coordinates is not None:
        if coordinates.ndim != 2 or coordinates.shape[1] != d or not 0 < coordinates.shape[0] < d:
            raise Refused("the coordinates do not fit the target")
        slack = (d + 4) * 2 * UNIT * float(np.sum(coordinates**2))
        if not float(largest_eigenvalue((coordinates @ coordinates.T)[None])[0]) + slack <= 1.0:
            raise Refused("the coordinates stretch the parameters")
    k = d if coordinates is None else coordinates.shape[0]
    weights = decode(entry["weights"])
    degrees, count = weights.shape[:2]
    if not 2 <= degrees <= MOST_DEGREES + 1 or not 0 < count <= 2 * _MOST_NEURONS:
        raise Refused("the polynomial is of too high a degree, or of too many terms")
    weights = array(entry["weights"], (degrees, count, m), "the polynomial")
    directions = array(entry["directions"], (count, k), "the polynomial's directions")
    if not all(inside(z, 1.0) for z in directions):
        raise Refused("a direction of the polynomial is longer than 1")
    if program.affine and weights[:2].any():
        raise Refused("the polynomial has a part that is free")
    return Polynomial(directions, weights, coordinates)


def energies(q: Polynomial) -> list[arb]:
    """‖T_k(q)‖² for k = 0, …, K."""
    y = q.pulled
    gram = y @ y.T
    power, out = gram * 0 + 1, []
    for g in q.weights:
        rows = BALLS.array(g)
        out.append(arb(np.sum((rows @ rows.T) * power)))
        power = power * gram
    return out


def overlap(program: Population, q: Polynomial) -> arb:
    """⟨f*, q⟩; raises :class:`Refused` where a Hermite coefficient cannot be formed."""
    h, y = program.target, q.pulled
    degree = q.weights.shape[0] - 1
    total = arb(np.sum(h.offset @ BALLS.array(q.weights[0]).T))
    total += arb(np.sum((h.affine @ y.T).T * BALLS.array(q.weights[1])))
    square = BALLS.squares(h.w)
    for core, every in h.cores():
        rows = every[BALLS.norms(h.alpha[every]) > 0]  # constants are in the offset
        flat = np.array([not v > 0 for v in square[rows]], dtype=bool)
        if not all(v == 0 for i in rows[flat] for v in h.w[i]):
            raise Refused("a neuron of the target has no clear direction")
        for i in rows[flat]:  # a direction that the law does not see
            total += arb(np.sum(h.alpha[i] @ BALLS.array(q.weights[0]).T)) * core.ball(h.b[int(i)])
        live = rows[~flat]
        if not live.size:
            continue
        length = np.array([v.sqrt() for v in square[live]] + [0], dtype=object)[:-1]
        try:
            c, lost = coefficients(BALLS, core, length, h.b[live], degree)
        except Undefined as undefined:
            raise Refused(str(undefined)) from None
        cos = (h.w[live] @ y.T) / length[:, None]
        power = cos * 0 + 1
        for k, g in enumerate(q.weights):
            reach = np.array([v + arb(0, e) for v, e in zip(c[:, k], lost, strict=True)], dtype=object)
            total += arb(np.sum((h.alpha[live] @ BALLS.array(g).T) * power * reach[:, None]))
            power = power * cos
    return total


def dual_of(program: Population, q: Polynomial, sizes: list[arb]) -> SeriesDual:
    """η_q over the program's Θ."""
    return dual_on(program.activation, program.bias, program.radius, program.bias_radius, q, sizes)


def dual_on(
    activation: str, bias: bool, radius: float | None, bias_radius: float, q: Polynomial, sizes: list[arb]
) -> SeriesDual:
    """η_q on boxes.  In effective coordinates it is a function of the z_j, whose tensors are longer than those of the
    Eᵀz_j where E shortens: their sizes bound its derivatives there."""
    even = q.coordinates is not None
    sizes = energies(replace(q, coordinates=None)) if even else sizes
    z = np.concatenate([q.directions, np.zeros((len(q.directions), 1))], axis=1) if even else q.directions
    norms = np.sqrt([max(up(v), 0.0) for v in sizes])
    length, side = (1.0, 1.0) if radius is None else (radius, bias_radius)
    return SeriesDual(activation, z, q.weights, norms * (1 + 1e-15) + 1e-150, z.shape[1], bias, length, side,
                      radius is None, even)  # fmt: skip


def prove_sup(dual: SeriesDual, entry: Any, enough: float, most: float = math.inf) -> float:
    """sup ‖η_q‖ over Θ from a tree, or by norms of flattened tensors where there is none."""
    if entry is None:
        found = min(dual.everywhere, dual_norms.everywhere(dual))
        if not math.isfinite(found):
            raise Refused("sup‖η‖ overflows on this parameter set")
        if not found <= most:
            raise Refused("sup‖η‖ is larger than claimed, by the norms of flattened tensors")
        return found
    if dual.region.dim > MOST_COORDINATES:
        raise Refused(f"more than {MOST_COORDINATES} coordinates")
    bits = tree.bits_of(entry)
    if bits.size > _MOST_SLOW and is_slow(dual.activation):
        raise Refused(f"a tree of more than {_MOST_SLOW} nodes, each of which is an integral in balls")
    return DualFunction(dual, dual.roots(), 0.0).sup(bits, enough, most)


@dataclass(frozen=True, eq=False)
class Proved:
    """P(ν) ≤ ``value``, min P ≥ ``dual_value``, ‖η_q‖/λ ≤ ``sup`` on Θ."""

    value: float
    dual_value: float
    sup: float


def prove(document: Mapping[str, Any], enough: float, most: tuple[float, float] = (math.inf, math.inf)) -> Proved:
    """What follows from the document; refused at once where P(ν) or sup‖η_q‖ is above ``most``."""
    evidence = document["evidence"]
    with BALLS.precision(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        program = population_of(document)
        found = value(program, atoms_of(document, program), evidence["distance"])
        if not up(found) <= most[0]:
            raise Refused("the measure has a larger value than claimed")
        q = polynomial_of(evidence["polynomial"], program)
        sizes = energies(q)
        sup = prove_sup(dual_of(program, q, sizes), evidence["tree"], enough, most[1])
        below = best_dual(program.lam, overlap(program, q), sum(sizes, arb(0)), sup)
        return Proved(up(found), below, up(arb(sup) / arb(program.lam)))


def check(document: Mapping[str, Any], networks: Mapping[str, Any], data: Array | None) -> dict[str, float]:
    """The claim's facts; raises :class:`Refused` where they do not imply it."""
    if networks or data is not None:
        raise Refused("a certificate of optimality holds its target")
    claim, lam = document["claim"], number(document["program"]["lam"], "λ", positive=True)
    top, sup = number(claim["value"], "the value"), number(claim["sup"], "sup‖η‖")
    proved = prove(document, sup * lam, (top, sup * lam * (1 + 1e-12)))
    alpha = decode(document["measure"]["alpha"])
    if Fraction(top) - Fraction(number(claim["dual_value"], "the dual value")) < 0:
        raise Refused("the claimed bounds are not an interval")
    return claimed(claim, proved.value, proved.dual_value, proved.sup, alpha)
