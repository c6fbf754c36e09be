"""Claims of optimality: a measure ν with P(ν) ≤ value, while no measure at all has a value below ``dual_value``.

    P(ν) = (1/2n)‖Y − Φν − (X Aᵀ + c)‖² + λ|ν|_TV,   (Φν)_i = Σ_j α_j σ(⟨w_j, x_i⟩ + b_j),   |ν|_TV = Σ_j ‖α_j‖,

over all measures on Θ: the unit sphere of (w, b) for σ of degree k ≥ 1, else |w| ≤ R, |b| ≤ R_b; with A, c = 0
unless the affine part is free.  (On the sphere an atom of any length ℓ is one of length 1 with ℓ^k α.)

*Proof.*  For every q (n, m), orthogonal to 1 and to X's columns where the affine part is free, with ‖η_q(θ)‖ ≤ B on
Θ, η_q(θ) = (1/n)Σ_i q_i σ(⟨x_i, θ⟩), and every 0 ≤ τ ≤ λ/B: ½|v|² ≥ ⟨v, τq⟩ − ½|τq|² gives P ≥ τ⟨Y, q⟩ − ½τ²‖q‖² +
(λ − τB)|ν|_TV (inner products are means over the rows).  Here q is the residual of the document's own measure, in
balls, made orthogonal; its float64 neighbour is bounded over Θ by the leaves of a proof tree (:mod:`tree`,
:mod:`dual_boxes`, :mod:`dual_cones`), and the difference is charged.  Any tree gives a valid B.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any, Protocol

import numpy as np
from flint import arb, arb_mat, fmpq, fmpq_mat
from numpy.typing import NDArray

from sparsemf.certificates.checker import tree
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.catalogue import CORES, image
from sparsemf.certificates.checker.derivatives import profile
from sparsemf.certificates.checker.document import Refused, array, inside, number
from sparsemf.certificates.checker.dual_boxes import BoxDual
from sparsemf.certificates.checker.dual_cones import ConeDual
from sparsemf.certificates.checker.entire import homogeneity
from sparsemf.certificates.checker.raw import decode
from sparsemf.certificates.checker.taylor import largest_eigenvalue

Array = NDArray[np.float64]

UNIT = 2.0**-53
MOST_COORDINATES = 8
_BALLS = Arithmetic(256)
_MOST_VALUES = 5_000_000
_FAINT = 1e-150
_TOGETHER = 8192
"""Leaves of small levels are bounded together."""


@dataclass(frozen=True, eq=False)
class Program:
    """The convex program; ``radius`` is None on the sphere."""

    x: Array
    y: Array
    activation: str
    bias: bool
    affine: bool
    lam: float
    radius: float | None
    bias_radius: float

    @property
    def degree(self) -> int:
        """k of the sphere, 0 where σ is not homogeneous."""
        return homogeneity(image(self.activation))

    @property
    def design(self) -> Array:
        """Rows (x, 1) with biases, x without, (n, D)."""
        return np.concatenate([self.x, np.ones((len(self.x), 1))], axis=1) if self.bias else self.x


@dataclass(frozen=True, eq=False)
class Measure:
    """θ (S, D), α (S, m), and the affine part A (m, d), c (m,)."""

    theta: Array
    alpha: Array
    slope: Array
    offset: Array


@dataclass(frozen=True, eq=False)
class Proved:
    """P(ν) ≤ ``value``, min P ≥ ``dual_value``, ‖η‖ ≤ ``sup`` on Θ, η of the residual over λ."""

    value: float
    dual_value: float
    sup: float


def data_sha256(x: Array, y: Array) -> str:
    """Hash of the shapes and the float64 numbers of both arrays."""
    digest = hashlib.sha256()
    for name, part in (("x", x), ("y", y)):
        digest.update(f"{name}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part, dtype="<f8").tobytes())
    return digest.hexdigest()


def program_of(document: Mapping[str, Any], data: Array | None) -> Program:
    """The program that a document speaks of, with its own data or with ``data`` (n, d + m), validated."""
    entry, about = document["program"], document["inputs"]["data"]
    d = about["d"]
    if document["data"] is not None:
        x, y = (np.asarray(decode(document["data"][name]), dtype=np.float64) for name in ("x", "y"))
    elif data is None:
        raise Refused("the data are missing")
    else:
        x, y = np.array(data[:, :d], dtype=np.float64), np.array(data[:, d:], dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or not x.size or not y.size:
        raise Refused("the data are not rows of inputs and outputs")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise Refused("the data are not finite numbers")
    if (about["n"], d, about["m"]) != (*x.shape, y.shape[1]) or about["arrays_sha256"] != data_sha256(x, y):
        raise Refused("the data are not those that were certified")
    bias, affine, lam = entry["bias"], entry["affine"], number(entry["lam"], "λ", positive=True)
    if type(bias) is not bool or type(affine) is not bool or entry["set"] not in ("sphere", "ball"):
        raise Refused("the program is not described")
    ball, radius, bias_radius = entry["set"] == "ball", None, 0.0
    if (entry["radius"] is not None) != ball or (entry["bias_radius"] is not None) != (ball and bias):
        raise Refused("a ball has a radius and biases have one, the unit sphere has none")
    if ball:
        radius = number(entry["radius"], "the radius")
        bias_radius = number(entry["bias_radius"], "the radius of the biases") if bias else 0.0
        if not all(1e-50 < r < 1e50 for r in ([radius, bias_radius] if bias else [radius])):
            raise Refused("a radius is out of range")
    return Program(x, y, entry["activation"], bias, affine, lam, radius, bias_radius)


def measure_in(
    entry: Mapping[str, Any], m: int, d: int, bias: bool, affine: bool, radius: float | None, bias_radius: float
) -> Measure:
    """The measure that a document states, each atom in the Θ of its program."""
    theta = decode(entry["theta"])
    theta = array(entry["theta"], (theta.shape[0], d + int(bias)), "θ")
    alpha = array(entry["alpha"], (theta.shape[0], m), "α")
    if (entry["affine"] is None) != (entry["offset"] is None) or (entry["affine"] is not None) != affine:
        raise Refused("an affine part belongs to a program where it is free, and only there")
    slope, offset = np.zeros((m, d)), np.zeros(m)
    if affine:
        slope, offset = array(entry["affine"], (m, d), "A"), array(entry["offset"], (m,), "c")
    if radius is None:
        if not np.all(np.any(theta != 0, axis=1)):
            raise Refused("an atom has no direction")
    elif not all(inside(w, radius) for w in theta[:, :d]) or np.any(np.abs(theta[:, d:]) > bias_radius):
        raise Refused("an atom lies outside the parameter set")
    return Measure(theta, alpha, slope, offset)


def measure_of(document: Mapping[str, Any], program: Program) -> Measure:
    """The document's measure; as many values of atoms at data as are allowed."""
    p, shape = program, (program.y.shape[1], program.x.shape[1])
    found = measure_in(document["measure"], *shape, p.bias, p.affine, p.radius, p.bias_radius)
    if found.theta.shape[0] * len(program.x) > _MOST_VALUES:
        raise Refused("the measure has too many atoms")
    return found


def _sigma(name: str, z: arb) -> arb:
    if name in ("sin", "cos"):
        return CORES[name].ball(z)
    found = image(name)
    out = found.constant() + found.linear() * z
    for t in found.terms:
        out = out + t.coefficient() * CORES[t.core].ball(t.scale() * z + t.shift())
    return out


def _sum_of_squares(x: arb_mat) -> arb:
    return sum((v * v for v in x.entries()), arb(0))


def _mat(x: Array) -> arb_mat:
    return arb_mat(x.shape[0], x.shape[1], [arb(v) for v in x.ravel().tolist()])


def residual(program: Program, measure: Measure) -> tuple[arb, arb_mat]:
    """(P(ν), Y − Φν − (X Aᵀ + c)) in balls."""
    x, left = _mat(program.x), _mat(program.y)
    if measure.theta.shape[0]:
        z = _mat(program.design) * _mat(measure.theta.T)
        values = arb_mat(z.nrows(), z.ncols(), [_sigma(program.activation, v) for v in z.entries()])
        left = left - values * _mat(measure.alpha)
    if program.affine:
        left = left - x * _mat(measure.slope.T) - _mat(np.tile(measure.offset, (len(program.x), 1)))
    variation = arb(0)
    for theta, alpha in zip(measure.theta, measure.alpha, strict=True):
        size = _sum_of_squares(_mat(alpha[None])).sqrt()
        if program.radius is None:
            size = size * _sum_of_squares(_mat(theta[None])).sqrt() ** program.degree
        variation += size
    return _sum_of_squares(left) / (2 * len(program.x)) + arb(program.lam) * variation, left


def orthogonal(program: Program, left: arb_mat) -> arb_mat:
    """The residual less its projection on span{1, X}, where the affine part is free."""
    if not program.affine:
        return left
    basis = np.concatenate([np.ones((len(program.x), 1)), program.x], axis=1)
    columns = _mat(basis[:, _spanning(basis)])
    turned = columns.transpose()
    try:
        return left - columns * (turned * columns).solve(turned * left)
    except ZeroDivisionError:
        raise Refused("1 and the columns of X are too nearly dependent for a free affine part") from None


def _spanning(columns: Array) -> list[int]:
    """Linearly independent columns that span the others: the pivots of the Gram matrix in rational numbers."""
    n, k = columns.shape
    exact = fmpq_mat(n, k, [fmpq(*v.as_integer_ratio()) for v in columns.ravel().tolist()])
    reduced, rank = (exact.transpose() * exact).rref()
    return [next(j for j in range(k) if reduced[i, j] != 0) for i in range(rank)]


class OnBoxes(Protocol):
    """‖η‖ on boxes of Θ."""

    def bounds(self, boxes: Array, enough: float) -> Array:
        """Upper bounds (k,) on boxes (k, 2, D); less care is taken where they are at most ``enough``."""
        ...


@dataclass(frozen=True, eq=False)
class DualFunction:
    """Bounds of ‖η_q‖ over Θ: ``error`` + ``of`` the leaves of a tree under ``roots``, cut by ``halves``."""

    of: OnBoxes | ConeDual
    roots: Array
    error: float

    def halves(self, nodes: Array) -> Array:
        """Both halves of each node."""
        return tree.cut_cones(nodes) if isinstance(self.of, ConeDual) else tree.cut_boxes(nodes)

    def bounds(self, nodes: Array, enough: float) -> Array:
        """Upper bounds of ‖η‖ on each node, with ``error``; less care is taken where they are at most
        ``enough``."""
        near = enough * (1 - 1e-14) - self.error
        found = self.of.bounds(nodes) if isinstance(self.of, ConeDual) else self.of.bounds(nodes, near)
        return (found + self.error) * (1 + 1e-14)

    def sup(self, bits: NDArray[np.bool_], enough: float, most: float = np.inf) -> float:
        """An upper bound of sup ‖η_q‖ over Θ from a proof tree; refused where it is above ``most``."""
        top, pending, waiting = 0.0, [], 0
        for level in chain(tree.leaves(self.roots, bits, self.halves), [self.roots[:0]]):  # an empty one at the end
            pending, waiting = [*pending, level], waiting + level.shape[0]
            if waiting >= _TOGETHER or (waiting > 0 and not level.size):
                found = float(np.max(self.bounds(np.concatenate(pending), enough)))
                if not (found <= most and np.isfinite(found)):
                    raise Refused("sup‖η‖ is larger than claimed, as far as the leaves of the tree show")
                top, pending, waiting = max(top, found), [], 0
        return top


def dual_function(program: Program, q: arb_mat, coordinates: Array | None) -> DualFunction:
    """η of q, which is a float64 array near q; ``coordinates`` E (k, ·), ‖E‖ ≤ 1, are those in which the tree
    lives."""
    n, m = program.y.shape
    near = np.array([float(v.mid()) for v in q.entries()]).reshape(n, m)
    far = np.array([float(abs(v - f).upper()) for v, f in zip(q.entries(), near.ravel().tolist(), strict=True)])
    away = np.sqrt(np.sum(far.reshape(n, m) ** 2, axis=1)) * (1 + 1e-12) + 1e-150
    block = program.design if program.radius is None else program.x
    rows, lost = _reduced(block, coordinates)
    weight = np.sqrt(np.sum(near**2, axis=1)) * (1 + 1e-12) / n
    if program.radius is None and program.degree == 0:
        raise Refused(f"{program.activation} is not homogeneous: its parameters are not the sphere")
    if program.radius is None and program.degree == 1:
        found = image(program.activation)
        if any(t.core != "relu" or t.scale() != 1 for t in found.terms):
            raise Refused(f"no certificate of optimality for {program.activation} on the sphere")
        kink = sum((t.coefficient() for t in found.terms), arb(0))
        steep = max(float(abs(found.linear()).upper()), float(abs(found.linear() + kink).upper())) * (1 + 1e-15)
        reach = np.sqrt(np.sum(block**2, axis=1)) * (1 + 1e-12)
        linear = float(found.linear().mid()) / n * (near.T @ rows)
        of = ConeDual(rows, float(kink.mid()) / n * near, linear)
        # the rounding of c and of G
        both = steep + float(abs(found.linear()).upper())
        error = (n + 32) * 2 * UNIT * both * float(weight @ np.sqrt(np.sum(rows**2, axis=1))) * 1.001
        error += steep * float(weight @ lost + away @ reach / n)
        roots = tree.root_cones(rows.shape[1])
    else:
        try:
            sigma = profile(program.activation)
        except KeyError:
            raise Refused(f"no certificate of optimality for {program.activation} on a ball") from None
        d, shell = rows.shape[1], program.radius is None
        radius, split = 1.0 if program.radius is None else program.radius, program.bias and not shell
        reach = np.sqrt(np.sum(block**2, axis=1)) * radius * (1 + 1e-12) + program.bias_radius
        half = [tree.power_of_two(radius)] * d + [tree.power_of_two(program.bias_radius)] * split
        rows = np.concatenate([rows, np.ones((n, 1))], axis=1) if split else rows
        of = BoxDual(sigma, rows, near, d, radius, program.bias_radius, np.array(half), shell)
        roots = tree.root_boxes(of.half, sigma.parity != 0)
        error = radius * float((weight * sigma.size(1, reach + lost)) @ lost)
        error += float(away @ sigma.size(0, reach)) / n
    return DualFunction(of, roots, error * (1 + 1e-9) + 1e-100)


def _reduced(block: Array, coordinates: Array | None) -> tuple[Array, Array]:
    """(rows Z (n, k), |x_i − Z_i E|): ⟨x_i, θ⟩ is ⟨Z_i, Eθ⟩ up to that times |θ|, and |Eθ| ≤ |θ|.  Rows that are not 0
    lose :data:`_FAINT` at least: the squares of shorter ones underflow, here and where lengths of Z are taken."""
    if coordinates is None:
        rows, lost = block, np.zeros(len(block))
    else:
        if coordinates.ndim != 2 or coordinates.shape[1] != block.shape[1] or not coordinates.size:
            raise Refused("the coordinates do not fit the data")
        gram = coordinates @ coordinates.T
        slack = (block.shape[1] + 4) * 2 * UNIT * float(np.sum(coordinates**2))
        if not float(largest_eigenvalue(gram[None])[0]) + slack <= 1.0:
            raise Refused("the coordinates stretch the parameters")
        rows = block @ coordinates.T
        size = np.sqrt(np.sum(block**2, axis=1)) + np.sqrt(np.sum(rows**2, axis=1))
        lost = np.sqrt(np.sum((block - rows @ coordinates) ** 2, axis=1)) * (1 + 1e-12)
        lost += 4 * (block.shape[1] + rows.shape[1] + 8) * UNIT * size
    if rows.shape[1] + 1 > MOST_COORDINATES:
        raise Refused(f"more than {MOST_COORDINATES - 1} coordinates")
    return rows, lost + _FAINT * np.any(block != 0, axis=1)


def dual_value(program: Program, q: arb_mat, sup: float) -> float:
    """The dual value of q, rounded down."""
    n = len(program.x)
    overlap = sum((a * b for a, b in zip(_mat(program.y).entries(), q.entries(), strict=True)), arb(0)) / n
    return best_dual(program.lam, overlap, _sum_of_squares(q) / n, sup)


def best_dual(lam: float, overlap: arb, energy: arb, sup: float) -> float:
    """max over 0 ≤ τ ≤ λ/``sup`` of τ·⟨target, q⟩ − ½τ²‖q‖², rounded down; at least 0 (τ = 0)."""
    if not np.isfinite(sup):
        return 0.0
    best = float(overlap.mid()) / float(energy.mid()) if energy > 0 else 0.0
    tau = max(min(best, lam / sup if sup > 0 else best), 0.0)
    if not np.isfinite(tau):
        return 0.0
    while not arb(tau) * arb(sup) <= arb(lam):
        tau = math.nextafter(tau, 0.0)  # a factor would leave the smallest floats as they are
    return max(_down(arb(tau) * overlap - arb(tau) ** 2 * energy / 2), 0.0)


def prove(
    document: Mapping[str, Any], program: Program, enough: float, most: tuple[float, float] = (np.inf, np.inf)
) -> Proved:
    """What follows from the document's measure and tree; refused at once where P(ν) or sup‖η_q‖ is above
    ``most``."""
    evidence = document["evidence"]
    measure, coordinates = measure_of(document, program), evidence["coordinates"]
    with _BALLS.precision():
        value, left = residual(program, measure)
        if not up(value) <= most[0]:
            raise Refused("the measure has a larger value than claimed")
        q = orthogonal(program, left)
        dual = dual_function(program, q, None if coordinates is None else np.asarray(decode(coordinates), dtype=float))
        sup = dual.sup(tree.bits_of(evidence["tree"]), enough, most[1])
        return Proved(up(value), dual_value(program, q, sup), up(arb(sup) / arb(program.lam)))


def up(x: arb) -> float:
    """A float that is at least x."""
    out = float(x.upper())
    return float(np.nextafter(out, np.inf)) if np.isfinite(out) else np.inf


def _down(x: arb) -> float:
    out = float(x.lower())
    return float(np.nextafter(out, -np.inf)) if np.isfinite(out) else 0.0


def check(document: Mapping[str, Any], networks: Mapping[str, Any], data: Array | None) -> dict[str, float]:
    """The claim's facts; raises :class:`Refused` where they do not imply it."""
    if networks:
        raise Refused("a certificate of optimality is about data, not about networks")
    claim, program = document["claim"], program_of(document, data)
    value, sup = number(claim["value"], "the value"), number(claim["sup"], "sup‖η‖")
    enough = sup * program.lam
    proved = prove(document, program, enough, (value, enough * (1 + 1e-12)))
    return claimed(claim, proved.value, proved.dual_value, proved.sup, decode(document["measure"]["alpha"]))


def claimed(claim: Mapping[str, Any], value: float, below: float, sup: float, alpha: Array) -> dict[str, float]:
    """The facts, where P(ν) ≤ ``value``, min P ≥ ``below`` and ‖η‖ ≤ ``sup`` imply the claim; else refused."""
    top, bottom = number(claim["value"], "the value"), number(claim["dual_value"], "the dual value")
    if not value <= top:
        raise Refused("the measure has a larger value than claimed")
    if not sup <= number(claim["sup"], "sup‖η‖"):
        raise Refused("sup‖η‖ is larger than claimed")
    if not below >= bottom:
        raise Refused("the optimum may be lower than claimed")
    if not Fraction(top) - Fraction(bottom) <= Fraction(number(claim["gap"], "the gap")):
        raise Refused("the gap is not that of the claimed bounds")
    atoms = int(np.count_nonzero(alpha.any(axis=1)))
    if type(claim["atoms"]) is not int or claim["atoms"] != atoms:
        raise Refused("the measure has another number of atoms than claimed")
    gap = float(np.nextafter(value - below, np.inf))
    facts = {"value": value, "dual_value": below, "gap": gap}
    return {**facts, "sup_minus_1": float(np.nextafter(sup - 1, np.inf)), "atoms": atoms}
