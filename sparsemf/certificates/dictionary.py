"""The dictionary measures of two networks, core by core on the section, and the flip-invariant polynomial part.

Both networks are written in cores first (:mod:`sparsemf.certificates.checker.catalogue`), so their activations may
differ.  A neuron (α, w, b) of a core of degree k ≥ 1 sits at v = (w, b)/‖(w, b)‖ with mass κ = α‖(w, b)‖^k, any other
at v = (w, b) with κ = α; for a gated block v is the gate's and κ = α ⊗ (w, b), flattened.  B's masses are negated.

What is polynomial is kept apart, degree by degree: A, c and Q, the images' p₀ + p₁z, ½Σα_i P(z_i) for cores with
σ(z) = s·σ(−z) + P(z), constants (w = 0), and everything that a pure power gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import gated
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.catalogue import Core
from sparsemf.certificates.checker.expansion import Expanded, expanded, terms_of
from sparsemf.certificates.checker.raw import Raw
from sparsemf.measures import Network
from sparsemf.measures.gaussian import UNIT
from sparsemf.measures.network import NEGLIGIBLE
from sparsemf.symmetry.metric import lengths

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_LARGEST_TENSOR = 20_000_000
_LARGEST_MASS = 40_000_000


class TooLarge(ValueError):
    """What was asked for does not fit into memory; the message says what."""


@dataclass(frozen=True, eq=False)
class Family:
    """The neurons of one core: ``points`` (n, k) and ``mass`` (n, M) on the section, B's masses negated.

    ``of_a`` says whose a neuron is, ``neuron`` which one of that network, ``row`` its place in the expansion (of the
    difference, A before B, in a :class:`Dictionary`); ``parity`` is s of the flip (v, κ) ~ (−v, s·κ), 0 without one.
    """

    core: str
    points: Array
    mass: Array
    of_a: NDArray[np.bool_]
    neuron: Integers
    row: Integers
    parity: int


@dataclass(eq=False)
class Polynomial:
    """Σ_j T_j(x, …, x): T_0 = c, T_1 = A, T_2 = Q, …, degrees ≥ 2 also as sums Σ β w^{⊗j}.

    ``rounding`` bounds the error of all that, degree by degree in the Frobenius norm, added up.
    """

    offset: Array
    affine: Array
    quadratic: Array | None = None
    powers: dict[int, list[tuple[Array, Array]]] = field(default_factory=dict)
    rounding: float = 0.0

    def add(self, alpha: Array, w: Array, b: Array, coefficients: tuple[float, ...]) -> None:
        """Σ_i α_i Σ_k p_k (⟨w_i, x⟩ + b_i)^k."""
        if not b.size or not any(coefficients):
            return
        weight, reach = lengths(alpha), lengths(w) + np.abs(b)
        for j in range(len(coefficients)):
            inner = sum(p * math.comb(k, j) * b ** (k - j) for k, p in enumerate(coefficients) if k >= j and p)
            if not np.any(inner):
                continue
            beta = alpha * np.asarray(inner)[:, None]
            if j == 0:
                self.offset = self.offset + beta.sum(axis=0)
            elif j == 1:
                self.affine = self.affine + beta.T @ w
            else:
                self.powers.setdefault(j, []).append((beta, w))
        scale = sum(abs(p) * float(weight @ reach**k) for k, p in enumerate(coefficients))
        self.rounding += (b.size + 16) * UNIT * scale

    def tilt(self, factor: float, slope: Array, constant: Array, lost: float) -> None:
        """``factor``·(slope·x + constant), known to factor·``lost``."""
        self.offset, self.affine = self.offset + factor * constant, self.affine + factor * slope
        self.rounding += abs(factor) * (lost + 4 * UNIT * float(np.linalg.norm(slope) + np.linalg.norm(constant)))

    def norm(self) -> tuple[float, float]:
        """(Σ_j ‖T_j‖_F, a bound of its rounding).  Raises :class:`TooLarge`."""
        total = float(np.linalg.norm(self.offset) + np.linalg.norm(self.affine))
        rounding = self.rounding + 8 * UNIT * total
        degrees: set[int] = set(self.powers) | ({2} if self.quadratic is not None else set())
        for degree in sorted(degrees):
            value, error = self._power(degree)
            total, rounding = total + value, rounding + error
        return total, rounding

    def _power(self, degree: int) -> tuple[float, float]:
        parts = self.powers.get(degree, [])
        m, d = self.affine.shape
        if m * d**degree <= _LARGEST_TENSOR:
            tensor = np.zeros((m, d**degree))
            if degree == 2 and self.quadratic is not None:
                tensor += self.quadratic.reshape(m, -1)
            for beta, w in parts:
                rows = max(1, _LARGEST_TENSOR // d**degree)
                for start in range(0, w.shape[0], rows):
                    product = w[start : start + rows]
                    for _ in range(degree - 1):
                        product = (product[:, :, None] * w[start : start + rows, None, :]).reshape(product.shape[0], -1)
                    tensor += beta[start : start + rows].T @ product
            return float(np.linalg.norm(tensor)), 0.0
        if degree == 2 and self.quadratic is not None:
            raise TooLarge("the quadratic parts are too large to be compared")
        # the Gram form; it cancels, which its error says
        beta, w = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        square = 0.0
        for start in range(0, w.shape[0], 1024):
            block = slice(start, start + 1024)
            square += float(np.sum((beta[block] @ beta.T) * (w[block] @ w.T) ** degree))
        mass = float(lengths(beta) @ lengths(w) ** degree)
        doubt = (w.shape[0] + d + m + 16) * UNIT * mass**2
        return math.sqrt(max(square, 0.0)), math.sqrt(max(square, 0.0) + doubt) - math.sqrt(max(square - doubt, 0.0))


@dataclass(frozen=True, eq=False)
class Dictionary:
    """The families that occur, the polynomial part, and how many core neurons both networks, and A, expand to."""

    families: list[Family]
    polynomial: Polynomial
    size: int
    split: int


def raw_of(network: Network) -> Raw:
    """A network as the checker sees it."""
    return Raw(
        network.activation.name,
        network.outer,
        network.scale,
        network.inner,
        network.bias,
        network.affine,
        network.offset,
        network.quadratic,
        network.gate,
        network.gate_bias,
    )


def dictionary(a: Network, b: Network, h: Expanded | None = None) -> Dictionary:
    """f_A − f_B on the section; ``h``: the core neurons of plain networks, if they are known already.

    Raises :class:`TooLarge` for gated blocks whose masses α ⊗ (w, b) do not fit.
    """
    if a.gate is not None:
        return _gated(a, b)
    float64 = Arithmetic(0)
    with float64.precision(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        h = expanded(float64, (raw_of(a), 1.0), (raw_of(b), -1.0)) if h is None else h
        split, place = a.width * terms_of(a.activation.name), np.arange(h.core.size)
        neuron = np.where(place < split, place % max(a.width, 1), (place - split) % max(b.width, 1))
        polynomial = Polynomial(h.offset, h.affine, h.quadratic, rounding=h.affine_error)
        found = list(families(h, h.alpha, place < split, neuron, polynomial))
    return Dictionary(found, polynomial, h.core.size, split)


def families(
    h: Expanded, mass: Array, of_a: NDArray[np.bool_], neuron: Integers, polynomial: Polynomial | None = None
) -> Iterator[Family]:
    """The neurons on the section, core by core; what is polynomial goes into ``polynomial`` if given."""
    alive = np.asarray(mass.any(axis=1), dtype=bool)
    for core, rows in h.cores():
        live = rows[alive[rows]]
        short = np.flatnonzero(h.lengths[live] <= (h.w.shape[1] + 1) * NEGLIGIBLE)
        still = np.zeros(live.size, dtype=bool)
        still[short] = np.max(np.abs(h.w[live[short]]), axis=1, initial=0.0) <= NEGLIGIBLE
        if polynomial is not None:
            constants = live[still]
            level = h.alpha[constants] * core.value(h.b[constants])[:, None]
            polynomial.add(level, h.w[constants], h.b[constants], (1.0,))
        live = live[~still]
        if core.name.startswith("power"):
            if polynomial is not None:
                polynomial.add(h.alpha[live], h.w[live], h.b[live], (0.0,) * core.degree + (1.0,))
            continue
        if polynomial is not None and core.flip is not None:
            constant, linear, quadratic = core.flip[1]
            if linear and not (constant or quadratic or still.any()):
                polynomial.tilt(0.5 * linear, *h.moments[core.name], h.lost(rows))
            else:
                polynomial.add(0.5 * h.alpha[live], h.w[live], h.b[live], core.flip[1])
        if live.size:
            whole = live.size == h.core.size
            w, b, kappa = (x if whole else x[live] for x in (h.w, h.b, mass))
            points, kappa = _section(core, w, b, kappa)
            parity = core.flip[0] if core.flip is not None else 0
            yield Family(core.name, points, kappa, of_a[live], neuron[live], live, parity)


def owned(family: Family, by_a: bool, before: int = 0) -> Family | None:
    """The neurons of A, or those of B; None without any.  ``before``: what their places in the expansion lose."""
    rows = np.flatnonzero(family.of_a == by_a)
    if not rows.size:
        return None
    if rows.size == rows[-1] - rows[0] + 1:
        rows = slice(int(rows[0]), int(rows[-1]) + 1)  # no copies
    return Family(
        family.core,
        family.points[rows],
        family.mass[rows],
        family.of_a[rows],
        family.neuron[rows],
        family.row[rows] - before,
        family.parity,
    )


def _section(core: Core, w: Array, b: Array, mass: Array) -> tuple[Array, Array]:
    points = np.empty((b.size, w.shape[1] + 1))
    points[:, :-1], points[:, -1] = w, b
    if core.degree:
        length = lengths(points)
        points /= length[:, None]
        for _ in range(core.degree):
            mass = mass * length[:, None]
    return points, mass


def _joined(parts: list[Family]) -> Family:
    if len(parts) == 1:
        return parts[0]
    return Family(
        parts[0].core,
        np.concatenate([p.points for p in parts]),
        np.concatenate([p.mass for p in parts]),
        np.concatenate([p.of_a for p in parts]),
        np.concatenate([p.neuron for p in parts]),
        np.concatenate([p.row for p in parts]),
        parts[0].parity,
    )


def gates_of(network: Network, sign: float) -> gated.Gated:
    """A gated block in cores of its gates."""
    return gated.expand(Arithmetic(0), (raw_of(network), sign))


def _gated(a: Network, b: Network) -> Dictionary:
    m, d = a.m, a.d
    terms = [terms_of(n.activation.name) for n in (a, b)]
    if (a.width * terms[0] + b.width * terms[1]) * m * (d + 1) > _LARGEST_MASS or m * (d + 1) ** 2 > _LARGEST_TENSOR:
        raise TooLarge("the masses α ⊗ (w, b) of a gated block of this size are not compared")
    form, rounding, size = np.zeros((m, d + 1, d + 1)), 0.0, 0
    parts: dict[str, list[Family]] = {}
    float64 = Arithmetic(0)
    with float64.precision(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for network, sign in ((a, 1.0), (b, -1.0)):
            h = gates_of(network, sign)
            gates = h.gates
            form[:, :d, d] += h.affine
            form[:, d, d] += h.offset
            if h.quadratic is not None:
                form[:, :d, :d] += h.quadratic
            value = np.concatenate([h.v, h.e[:, None]], axis=1)
            triples = [(alpha, np.concatenate([g, c[:, None]], axis=1), v, e) for alpha, g, c, v, e, *_ in h.low]
            alive = np.asarray(gates.alpha.any(axis=1) & value.any(axis=1), dtype=bool)
            for core, rows in gates.cores():
                live = rows[alive[rows]]
                still = np.max(np.abs(gates.w[live]), axis=1, initial=0.0) <= NEGLIGIBLE
                constants, live = live[still], live[~still]
                level = np.concatenate([np.zeros((constants.size, d)), core.value(gates.b[constants])[:, None]], axis=1)
                triples.append((gates.alpha[constants], level, h.v[constants], h.e[constants]))
                if core.name.startswith("power") or (core.flip is not None and core.flip[1][2]):
                    raise TooLarge("gates whose flip costs a quadratic give a cubic form, which is not compared")
                if core.flip is not None:
                    p0, p1, _ = core.flip[1]
                    half = 0.5 * np.concatenate([p1 * gates.w[live], (p1 * gates.b[live] + p0)[:, None]], axis=1)
                    triples.append((gates.alpha[live], half, h.v[live], h.e[live]))
                if live.size:
                    mass = (gates.alpha[live, :, None] * value[live, None, :]).reshape(live.size, -1)
                    points, kappa = _section(core, gates.w[live], gates.b[live], mass)
                    parity = core.flip[0] if core.flip is not None else 0
                    owner = np.full(live.size, sign > 0)
                    parts.setdefault(core.name, []).append(
                        Family(core.name, points, kappa, owner, live % network.width, live + size, parity)
                    )
            size += gates.core.size
            for alpha, gate, v, e in triples:
                factor = np.concatenate([v, e[:, None]], axis=1)
                for j in range(m):
                    form[j] += gate.T @ (alpha[:, j, None] * factor)
                weight = lengths(alpha) * lengths(gate)
                rounding += (alpha.shape[0] + 16) * UNIT * float(weight @ lengths(factor))
    form = 0.5 * (form + form.transpose(0, 2, 1))
    polynomial = Polynomial(form[:, d, d], 2.0 * form[:, :d, d], form[:, :d, :d], rounding=3 * rounding)
    return Dictionary([_joined(both) for both in parts.values()], polynomial, size, a.width * terms[0])
