"""S* at ε = 0: how many atoms this very function needs, in exact arithmetic on the file's dyadic numbers.

Equal and opposite atoms are merged, which gives a network of u atoms; a theorem says how many any network of this
function has at least.  An affine function is free, and what a flip costs (a quadratic form for relu² and gates).

*Atoms.*  For the activations of :data:`INDEPENDENT` distinct atoms are linearly independent, also of polynomials
(docs/exact: kinks, poles, decays), so S* is the number of classes {θ, flip of θ, for homogeneous σ also tθ, t > 0}
whose net coefficient Σ ±α t^k is not 0.

*Gates* (the same activations but relu² and mish): S* = Σ over classes of gates of rank Σ ±α t (v, e)ᵀ.

*Waves.*  S* = Σ over ±w of the real rank of [Re v, Im v], v = Σ α_j e^{ib_j}, decided by Lindemann–Weierstrass: v = 0
only if every merged α_j is, and Im(v_p v̄_q) = Σ_{j<k} (α_jp α_kq − α_kp α_jq) sin(b_j − b_k) only if for every
δ > 0 the coefficients of sin δ cancel.  exp: one atom for every w with a merged α_j that is not 0.

*Ramps* (hardtanh, hard_sigmoid, relu6): an atom is an edge between two kinks of opposite mass on parallel hyperplanes.
The atoms of any network are the edges of a graph whose components have zero total mass and one edge less than kinks at
least, so S* = Σ over classes (K − the most disjoint zero-sum blocks of its K masses), found over all subsets.

*Forms* (degree 2, one output): S* is the rank of Σ α p₂ wwᵀ + Q.  Affine functions need no atom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from flint import fmpz_mat, nmod_mat
from numpy.typing import NDArray

from sparsemf.certificates.checker.document import Refused, norm_of, whole
from sparsemf.certificates.checker.raw import Raw

Array = NDArray[np.float64]
Exact = tuple[Fraction, ...]

INDEPENDENT = {
    **dict.fromkeys(("relu", "leaky_relu", "abs"), (1, 1)),
    "relu2": (2, -1),
    **dict.fromkeys(("tanh", "sigmoid", "erf", "normal_cdf", "arctan", "softsign"), (0, -1)),
    **dict.fromkeys(("softplus", "silu", "quick_gelu", "gelu", "gelu_tanh"), (0, 1)),
    **dict.fromkeys(("elu", "celu", "selu", "mish"), (0, 0)),
}
"""Degree of homogeneity (0: none) and sign of the flip (0: none)."""
RAMPS = {"hardtanh": (-1, 1), "hard_sigmoid": (-3, 3), "relu6": (0, 6)}
"""Where the two kinks are."""
COUNTS = {"relu": "kinks", "leaky_relu": "kinks", "abs": "kinks", "relu2": "kinks", **dict.fromkeys(RAMPS, "edges")}
COUNTS |= dict.fromkeys(("linear", "quadratic", "hermite"), "rank")
_SUBSETS = 14
_PAIRS = 4000
_PRIME = 2_147_483_629


def _split(name: str) -> tuple[str, float | None]:
    base, _, rest = name.partition("(")
    return base, float(rest.rstrip(")")) if rest else None


def _classes(rows: Array, degree: int, sign: int) -> list[list[tuple[int, Fraction, int]]]:
    """Classes of rows as (index, t > 0, ±1): row = ±t·(the class's representative); t = 1 where ``degree`` is 0.

    Equal classes have equal hashes (a quotient of floats is rounded from the exact quotient); rows of one hash are
    compared in fractions.
    """
    lead = np.argmax(rows != 0, axis=1)
    pivot = rows[np.arange(rows.shape[0]), lead]
    if degree:
        with np.errstate(over="ignore", under="ignore"):
            key = rows / pivot[:, None]
    else:
        key = rows * np.sign(pivot)[:, None] if sign else rows
    key = key + 0.0  # −0 is 0
    buckets: dict[bytes, list[list[tuple[int, Fraction, int]]]] = {}
    for i in range(rows.shape[0]):
        side = (1 if pivot[i] > 0 else -1) if degree or sign else 1
        size = Fraction(abs(float(pivot[i]))) if degree else Fraction(1)
        known = buckets.setdefault(key[i].tobytes(), [])
        for members in known:
            if not degree or _parallel(rows[i], rows[members[0][0]], int(lead[i])):
                members.append((i, size, side))
                break
        else:
            known.append([(i, size, side)])
    return [members for known in buckets.values() for members in known]


def _parallel(x: Array, y: Array, lead: int) -> bool:
    """x_k·y_lead = y_k·x_lead for every k."""
    first, second = Fraction(float(y[lead])), Fraction(float(x[lead]))
    return all(Fraction(float(a)) * first == Fraction(float(b)) * second for a, b in zip(x, y, strict=True))


def _net(members: list[tuple[int, Fraction, int]], outer: Array, degree: int, sign: int) -> Exact:
    """Σ (sign on the other side)·t^degree·α over a class."""
    if len(members) == 1:
        return tuple(Fraction(float(a)) for a in outer[members[0][0]])
    factors = [t**degree * (sign if side < 0 and sign else 1) for _, t, side in members]
    return tuple(
        sum((f * Fraction(float(outer[i, j])) for f, (i, _, _) in zip(factors, members, strict=True)), Fraction(0))
        for j in range(outer.shape[1])
    )


def _whole_numbers(rows: list[list[Fraction]]) -> fmpz_mat:
    """The rows times a common power of two."""
    shift = max((x.denominator for row in rows for x in row), default=1)
    return fmpz_mat([[int(x * shift) for x in row] for row in rows])


def _rank(rows: list[list[Fraction]]) -> int:
    return int(_whole_numbers(rows).rank()) if rows and rows[0] else 0


def _gates(raw: Raw, degree: int, sign: int) -> int:
    """Σ of the ranks of the gates' matrices."""
    if raw.gate is None or raw.gate_bias is None:
        raise Refused("expected a gated network")
    value = np.concatenate([raw.w, raw.b[:, None]], axis=1)
    used = np.flatnonzero(raw.outer.any(axis=1) & value.any(axis=1) & raw.gate.any(axis=1))
    outer, value = raw.outer[used], value[used]
    total = 0
    for members in _classes(np.concatenate([raw.gate, raw.gate_bias[:, None]], axis=1)[used], degree, sign):
        if len(members) == 1:
            total += 1  # an outer product of nonzero vectors
            continue
        left = [[Fraction(float(outer[i, j])) for i, _, _ in members] for j in range(outer.shape[1])]
        right = []
        for i, t, side in members:
            factor = t**degree * (sign if side < 0 and sign else 1)
            right.append([factor * Fraction(float(x)) for x in value[i]])
        total += int((_whole_numbers(left) * _whole_numbers(right)).rank())
    return total


def _waves(raw: Raw, name: str) -> int:
    used = np.flatnonzero(raw.outer.any(axis=1) & raw.w.any(axis=1))
    outer, bias = raw.outer[used], raw.b[used]
    total = 0
    for members in _classes(raw.w[used], 0, 0 if name == "exp" else 1):
        merged: dict[Fraction, list[Fraction]] = {}
        for i, _, side in members:
            sign = side if name == "sin" else 1
            held = merged.setdefault(side * Fraction(float(bias[i])), [Fraction(0)] * outer.shape[1])
            for j in range(outer.shape[1]):
                held[j] += sign * Fraction(float(outer[i, j]))
        merged = {phase: alpha for phase, alpha in merged.items() if any(alpha)}
        if merged and (name == "exp" or outer.shape[1] == 1 or len(merged) == 1 or _in_phase(merged)):
            total += 1
        elif merged:
            total += 2
    return total


def _in_phase(merged: Mapping[Fraction, list[Fraction]]) -> bool:
    """Whether v is a real vector times a number."""
    terms = list(merged.items())
    if len(terms) * (len(terms) - 1) // 2 > _PAIRS:
        raise Refused("too many phases on one frequency for this program")
    m = len(terms[0][1])
    for p in range(m):
        for q in range(p):
            sums: dict[Fraction, Fraction] = {}
            for j, (b, x) in enumerate(terms):
                for c, y in terms[:j]:
                    gap, value = b - c, x[p] * y[q] - y[p] * x[q]
                    sums[abs(gap)] = sums.get(abs(gap), Fraction(0)) + (value if gap > 0 else -value)
            if any(sums.values()):
                return False
    return True


def _ramps(raw: Raw, name: str) -> tuple[int, int]:
    """(lower, upper) end of Σ (K − blocks)."""
    used = np.flatnonzero(raw.outer.any(axis=1) & raw.w.any(axis=1))
    outer, bias = raw.outer[used], raw.b[used]
    low = high = 0
    for members in _classes(raw.w[used], 1, 1):
        masses: dict[Fraction, list[Fraction]] = {}
        for i, t, side in members:
            for kink, sign in zip(RAMPS[name], (1, -1), strict=True):
                # ⟨w, x⟩ + b = kink on the line through the representative, where ⟨w, x⟩ = ±t·s
                at = (kink - Fraction(float(bias[i]))) / (side * t)
                held = masses.setdefault(at, [Fraction(0)] * outer.shape[1])
                for j in range(outer.shape[1]):
                    held[j] += sign * t * Fraction(float(outer[i, j]))
        kinks = [tuple(mass) for _, mass in sorted(masses.items()) if any(mass)]
        least, most = _blocks(kinks)
        low, high = low + len(kinks) - most, high + len(kinks) - least
    return low, high


def _blocks(masses: list[Exact]) -> tuple[int, int]:
    """Bounds of the largest number of disjoint zero-sum blocks that the masses (which add up to 0) fall into."""
    count = len(masses)
    if count <= 3:
        return int(count > 0), int(count > 0)
    if count > _SUBSETS:
        return 1, count // 2  # a block has two masses at least
    numbers = [[int(x) for x in row] for row in _whole_numbers([list(mass) for mass in masses]).tolist()]
    sums: list[list[int]] = [[0] * len(numbers[0])]
    best = [0]
    for mask in range(1, 1 << count):
        low = (mask & -mask).bit_length() - 1
        sums.append([x + y for x, y in zip(sums[mask & (mask - 1)], numbers[low], strict=True)])
        inside = max(best[mask & ~(1 << i)] for i in range(count) if mask >> i & 1)
        best.append(inside + (not any(sums[mask])))
    return best[-1], best[-1]


def count(raw: Raw) -> tuple[int, int, str]:
    """(lower, upper, what is counted) of S* at ε = 0; raises :class:`Refused` where no theorem is known here."""
    name, parameter = _split(raw.activation)
    if raw.scale == 0.0:  # only the polynomial part is heard
        raw = replace(raw, outer=np.zeros_like(raw.outer), scale=1.0)
    known = INDEPENDENT.get(name)
    if (name == "leaky_relu" and parameter == 1.0) or (name in ("elu", "celu") and parameter == 0.0):
        known = None  # a line, or half of one
    if raw.gate is not None:
        if name == "linear":
            return 0, 0, "atoms"
        if known is None or name in ("relu2", "mish"):
            raise Refused(f"this program knows no exact count for {raw.activation} gates")
        found = _gates(raw, *known)
        return found, found, "atoms"
    counts = COUNTS.get(name, "atoms")
    if known is not None:
        degree, sign = known
        used = np.flatnonzero(raw.outer.any(axis=1) & raw.w.any(axis=1))
        rows = np.concatenate([raw.w, raw.b[:, None]], axis=1)[used]
        found = sum(any(_net(members, raw.outer[used], degree, sign)) for members in _classes(rows, degree, sign))
        return found, found, counts
    if name in ("sin", "cos", "exp"):
        found = _waves(raw, name)
        return found, found, counts
    if name in RAMPS:
        return *_ramps(raw, name), counts
    if name == "linear":
        return 0, 0, counts
    if (name == "quadratic" or (name, parameter) == ("hermite", 2.0)) and raw.outer.shape[1] == 1:
        found = _form(raw)
        return found, found, counts
    raise Refused(f"this program knows no exact count for {raw.activation} with {raw.outer.shape[1]} outputs")


def _form(raw: Raw) -> int:
    """rank of Σ scale·α wwᵀ + Q, from WᵀDW with whole numbers."""
    used = np.flatnonzero((raw.outer[:, 0] != 0) & raw.w.any(axis=1))
    d, scale = raw.w.shape[1], Fraction(float(raw.scale))
    total = [[Fraction(0)] * d for _ in range(d)]
    if used.size:
        w = [[Fraction(float(x)) for x in row] for row in raw.w[used]]
        one = max(x.denominator for row in w for x in row)
        weighted = [[scale * Fraction(float(raw.outer[i, 0])) * x for x in row] for i, row in zip(used, w, strict=True)]
        two = max(x.denominator for row in weighted for x in row)
        form = _whole_numbers(w).transpose() * _whole_numbers(weighted)
        total = [[Fraction(int(x), one * two) for x in row] for row in form.tolist()]
    if raw.quadratic is not None:
        for row, held in zip(total, raw.quadratic[0], strict=True):
            row[:] = [x + Fraction(float(q)) for x, q in zip(row, held, strict=True)]
    return _rank(total)


def full_support(document: Mapping[str, Any], d: int) -> bool:
    """Whether the law is a Gaussian whose covariance factor has rank d, mod a prime."""
    if document["law"]["name"] == "empirical":
        return False
    norm = norm_of(document, d, None)
    if norm.root is None:
        return True
    root = norm.root
    if root.shape[0] == root.shape[1] and not np.any(root - np.diag(np.diag(root))):
        return bool(np.all(np.diag(root) != 0))
    exact = _whole_numbers([[Fraction(float(x)) for x in row] for row in root])
    residues = [int(x) % _PRIME for row in exact.tolist() for x in row]
    return int(nmod_mat(root.shape[0], root.shape[1], residues, _PRIME).rank()) == d


def check(document: Mapping[str, Any], networks: Mapping[str, Raw], _data: Array | None) -> dict[str, Any]:
    """The ends of S* at ε = 0 proved here; raises :class:`Refused` where the claim says more."""
    raw, claim = networks["a"], document["claim"]
    limit = 2 * raw.outer.shape[0] + raw.w.shape[1] + 1
    lower, upper = (whole(claim[name], name, 0, limit) for name in ("lower", "upper"))
    if claim["eps"] != [0.0, 0.0] or claim["certified"] is not (lower == upper):
        raise Refused("the claim is not one at ε = 0, or says certified where its ends do not meet")
    low, high, counts = count(raw)
    if claim["counts"] != counts:
        raise Refused(f"the claim counts {claim['counts']}, what is counted are {counts}")
    if not full_support(document, raw.w.shape[1]):
        low = 0
    if lower > low or upper < high:
        raise Refused(f"S* at ε = 0 is claimed to be in [{lower}, {upper}], proved is [{low}, {high}]")
    return {"S* at least": low, "S* at most": high}
