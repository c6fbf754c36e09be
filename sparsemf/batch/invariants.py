"""Cheap certified separation: a few numbers of each network that bound the distance of any two from below.

Under a Gaussian law f has orthogonal normalised Hermite tensors T_k(f), Σ_k ‖T_k(f)‖² = ‖f‖².  Let L_k be linear maps
of norm ≤ 1 on the tensors of degree k, fixed once for all networks of one shape.  Then

    ‖f − g‖² ≥ Σ_k ‖L_k T_k(f) − L_k T_k(g)‖²,

and the vectors v_k(f) = L_k T_k(f), computed once per network, bound all n² distances at the cost of a subtraction.
Here L_0, L_1, L_2 contract outputs and inputs with orthonormal columns (the identity where that is small), and for
3 ≤ k ≤ K the value is that along orthonormal directions u_1, …, u_r, whose powers u_l^{⊗k} are orthonormal too.
Under an empirical law of n rows, v(f) = f(x_i)/√n on some of the rows: a coordinate projection.

Rounding: the computed v_k(f) differ from the true ones by at most e_k(f), by the a-priori bounds of the checker's
series (:mod:`sparsemf.certificates.checker.series`), so (‖v_k(f) − v_k(g)‖(1 − δ) − e_k(f) − e_k(g))₊ is a lower bound.
Gated blocks under a Gaussian law have no invariants here: their lower bounds are 0.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import equivalence as checked
from sparsemf.certificates.checker import series
from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.expansion import expanded
from sparsemf.certificates.checker.raw import Raw
from sparsemf.certificates.equivalence import encode_law, norm_for, raw_of
from sparsemf.measures import Empirical, InputLaw, Network
from sparsemf.measures.functions import evaluation_error

Array = NDArray[np.float64]

_DEGREE = 6
_OUTPUTS, _INPUTS, _PAIRS, _DIRECTIONS = 16, 24, 12, 8
_ROWS = 256
_RELATIVE = 1e-10
"""δ: what the norms, and columns that are orthonormal to rounding only, lose."""


@dataclass(frozen=True, eq=False)
class Invariants:
    """``values`` v_k with ``errors`` e_k; ``norm`` certified (lower, upper) of ‖f‖; ``law`` names the norm's law."""

    law: str
    values: tuple[Array, ...]
    errors: tuple[float, ...]
    norm: tuple[float, float]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "law": self.law,
            "values": [v.tolist() for v in self.values],
            "errors": list(self.errors),
            "norm": list(self.norm),
        }

    @classmethod
    def of(cls, found: dict[str, Any]) -> Invariants:
        """From JSON, where ∞ is null."""
        upper = found["norm"][1]
        return cls(
            found["law"],
            tuple(np.array(v, dtype=np.float64) for v in found["values"]),
            tuple(found["errors"]),
            (found["norm"][0], float("inf") if upper is None else upper),
        )


def invariants(network: Network, law: InputLaw) -> Invariants:
    """The invariants of one network in L²(law)."""
    raw, norm = raw_of(network), norm_for(law, None)
    size = checked.norm_bounds(norm, raw, {"bits": 0, "norm_degree": 2, "norm_gram": False})
    with Arithmetic(0).precision(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
        try:
            parts = _rows(network, law) if isinstance(law, Empirical) else _tensors(raw, norm)
        except Undefined:
            parts = []
    kept = [(v, e) for v, e in parts if np.isfinite(v).all() and np.isfinite(e)]
    # all or nothing: networks are compared part by part
    parts = kept if len(kept) == len(parts) else []
    return Invariants(_law_key(law), tuple(v.ravel() for v, _ in parts), tuple(float(e) for _, e in parts), size)


def lower_bounds(networks: list[Invariants]) -> Array:
    """(n, n): certified lower bounds of ‖f_i − f_j‖, all under one law."""
    from scipy.spatial.distance import cdist

    n = len(networks)
    square = np.zeros((n, n))
    full = np.flatnonzero([bool(f.values) for f in networks])
    parts = len(networks[full[0]].values) if full.size else 0
    for k in range(parts):
        v = np.stack([networks[i].values[k] for i in full])
        e = np.array([networks[i].errors[k] for i in full])
        if v.shape[1]:
            part = cdist(v, v) * (1 - _RELATIVE) - (e[:, None] + e[None, :]) * (1 + _RELATIVE)
            square[np.ix_(full, full)] += np.maximum(part, 0.0) ** 2
    return np.sqrt(square) * (1 - _RELATIVE)


def _tensors(raw: Raw, norm: Any) -> list[tuple[Array, float]]:
    """(v_k, e_k) for k = 0 … K under a Gaussian law."""
    if raw.gate is not None:
        return []
    arith = Arithmetic(0)
    h = expanded(arith, (raw, 1.0))
    f = series.spectrum(arith, norm, h, _DEGREE)
    n, d = f.unit.shape
    m = f.t0.shape[0]
    unit = arith.unit
    mass = float(f.weight @ f.s)
    known = float(f.weight @ f.e) + float(h.alpha_error @ f.s)
    outputs, inputs = _columns(m, _OUTPUTS), _columns(d, _INPUTS)
    first = outputs.T @ f.t1 @ inputs
    slack = 8 * unit * (m + d + 8) ** 1.5
    found: list[tuple[Array, float]] = [
        (outputs.T @ f.t0, f.low_error + f.drift + slack * float(np.linalg.norm(f.t0))),
        (first, f.low_error + f.drift + slack * float(np.linalg.norm(f.t1))),
    ]
    alpha = f.alpha @ outputs
    # rounding of α Q: relative to ‖α_i‖, as ‖Q‖ = 1
    turned = 2 * unit * (m + 4) * np.sqrt(outputs.shape[1]) * mass
    pairs = _columns(d, _PAIRS)
    seen = f.unit @ pairs
    second = np.einsum("na,ni,nj->aij", alpha * f.c[:, 2:3], seen, seen, optimize=True)
    ulps = n + 4 * d + 32 + 4 * np.sqrt(pairs.shape[1]) * (d + 4)
    error = known + turned + ulps * unit * mass + f.drift
    if f.quadratic is not None:  # xᵀQx has T₂ = √2 Q
        forms = np.stack([q[:d, :d] for q in f.quadratic])
        second = second + np.sqrt(2.0) * np.einsum("jpq,ja,pi,qk->aik", forms, outputs, pairs, pairs, optimize=True)
        error += 1.5 * m * f.quadratic_error + 2 * (slack + 8 * m * unit) * float(np.linalg.norm(forms))
    found.append((second, error))
    cosine = f.unit @ _directions(d)
    power = cosine * cosine
    for k in range(3, _DEGREE + 1):
        power = power * cosine
        value = (alpha * f.c[:, k : k + 1]).T @ power
        error = known + turned + (n + 3 * k + 4 + k * (2 * d + 12)) * unit * mass
        found.append((value, np.sqrt(cosine.shape[1]) * error + f.drift))
    return [(v, e * (1 + 1e-9)) for v, e in found]


def _rows(network: Network, law: Empirical) -> list[tuple[Array, float]]:
    n = law.x.shape[0]
    chosen = law.x[np.unique(np.linspace(0, n - 1, min(n, _ROWS)).astype(int))]
    values = network(chosen) / np.sqrt(n)
    error = float(np.linalg.norm(evaluation_error(network, chosen))) / np.sqrt(n)
    return [(values, (error + 4 * np.finfo(float).eps * float(np.linalg.norm(values))) * (1 + 1e-9))]


@cache
def _columns(size: int, most: int) -> Array:
    """(size, min(size, most)) orthonormal columns, the same for everybody."""
    if size <= most:
        return np.eye(size)
    return np.linalg.qr(np.random.default_rng([size, most]).standard_normal((size, most)))[0]


@cache
def _directions(d: int) -> Array:
    """(d, r) orthonormal directions in general position: none is an axis, on which a network may be blind."""
    r = min(d, _DIRECTIONS)
    return np.linalg.qr(np.random.default_rng([d, r, 1]).standard_normal((d, r)))[0]


def _law_key(law: InputLaw) -> str:
    parts = json.dumps(encode_law(law), sort_keys=True).encode()
    rows = np.ascontiguousarray(law.x).tobytes() if isinstance(law, Empirical) else b""
    return hashlib.sha256(parts + rows).hexdigest()[:16]
