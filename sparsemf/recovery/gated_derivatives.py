"""Inner products of gated atoms and of their derivatives under N(0, I), by Hermite series and Wick's theorem.

An atom φ = σ(u)ℓ, u = ⟨g, x⟩ + c and ℓ = ⟨h, x⟩ + e, is a derivative of the plain neuron N = S(u), S′ = σ, in its
parameters: φ = D_{(h, e)}N.  A move (δg, δc, δh, δe) changes it by D_{(δg, δc)}D_{(h, e)}N + D_{(δh, δe)}N.  So all
that is needed are derivatives of one kernel.  With c_k(S) = E S(rξ + c)he_k(ξ), r = ‖g‖ and τ = ⟨g, g′⟩,

    ⟨N, N′⟩ = Σ_k c_k c′_k ρ^k = Σ_k (s_k s′_k/k!) τ^k,   s_k = E S^{(k)}(u) = c_k √k!/r^k,

depends on g through r and τ only.  Let B = ∂_c raise s_k to s_{k+1} (and B′ that of the other atom), T = ∂_τ raise
both.  Since ∂_r s_k = r s_{k+2} (heat equation), differentiating in (q, ε) is multiplication by

    d = ⟨q, g′⟩T + ⟨q, g⟩B² + εB,

and two derivatives also act on each other's factors: q₁, q₂ of one atom give ⟨q₁, q₂⟩B², q and q′ of two atoms
⟨q, q′⟩T.  Every inner product is therefore the sum over all ways to pair some of the derivatives (Wick).  With the
symbols p of (h, e), d of (δg, δc) and r of (δh, δe), primes for the other atom,

    ⟨φ, φ′⟩    = p p′ + ⟨h, h′⟩T
    ⟨∂φ, φ′⟩   = (dp + ⟨δg, h⟩B²)p′ + ⟨δg, h′⟩Tp + ⟨h, h′⟩Td                    for δg, δc;   rp′ + ⟨δh, h′⟩T for δh, δe
    ⟨∂φ, ∂φ′⟩  = (dp + ⟨δg, h⟩B²)(d′p′ + ⟨δg′, h′⟩B′²) + ⟨δg, δg′⟩(Tpp′ + ⟨h, h′⟩T²) + ⟨δg, h′⟩⟨δg′, h⟩T²
                 + ⟨δg, h′⟩Tpd′ + ⟨δg′, h⟩Tp′d + ⟨h, h′⟩Tdd′
               = (dp + ⟨δg, h⟩B²)r′ + ⟨δg, δh′⟩Tp + ⟨h, δh′⟩Td                  (δg, δc against δh′, δe′)
               = rr′ + ⟨δh, δh′⟩T                                               (δh, δe against δh′, δe′)

where a monomial BⁱB′ʲTˡ stands for Σ_k L^{(i+l)}_k L′^{(j+l)}_k ρ^k over free − l < k ≤ K − l, L^{(n)}_k = c_{k+n}(S)
√((k+n)!/k!)/rⁿ being the Hermite coefficients of S^{(n)}, n ≥ 1: of σ and its derivatives.  (T lowers the degree by
one, so the degrees of φ that count are free < k ≤ K in every term.)  Tested against the kernel and by difference
quotients.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import numpy as np
from numpy.typing import NDArray

from sparsemf.measures.gated import GatedAtoms
from sparsemf.recovery.derivatives import power_series

Array = NDArray[np.float64]
Power = tuple[int, int, int]
Symbol = dict[Power, Array]

ORDERS = 6
"""Derivatives of S that occur: of either atom two of second order in B, and T twice."""
_ROWS = 128
#: Gates shorter than this are constants: they have no direction.
_SHORTEST = 1e-8

_ONE = np.ones((1, 1))
_B, _BB, _T = ({power: _ONE} for power in ((1, 0, 0), (2, 0, 0), (0, 0, 1)))
_B_, _BB_ = ({power: _ONE} for power in ((0, 1, 0), (0, 2, 0)))

PARTS = ("gg", "gh", "c", "hg", "e", "gG", "gH", "hG", "hH")
"""What a move is seen through: small letters are the own atom's, capitals the other's.  gg: ⟨δg_s, g_s⟩, gh: ⟨δg_s,
h_s⟩, hg: ⟨δh_s, g_s⟩; c, e: δc_s, δe_s; gG: ⟨δg_s, g_t⟩, gH: ⟨δg_s, h_t⟩, hG, hH alike."""
OWN = 5
"""So many of them belong to s alone."""


def _times(*symbols: Symbol) -> Symbol:
    found: Symbol = {(0, 0, 0): _ONE}
    for symbol in symbols:
        grown: Symbol = {}
        for (one, left), (two, right) in product(found.items(), symbol.items()):
            power = (one[0] + two[0], one[1] + two[1], one[2] + two[2])
            term = left * right
            grown[power] = grown[power] + term if power in grown else term
        found = grown
    return found


def _plus(*symbols: Symbol) -> Symbol:
    found: Symbol = {}
    for symbol in symbols:
        for power, factor in symbol.items():
            found[power] = found[power] + factor if power in found else factor
    return found


@dataclass(frozen=True, eq=False)
class GatedExpansion:
    """Gates g (n, d), factors h (n, d) and e (n,), ĝ (n, d), ⟨g, h⟩ (n,), and ``raised[n − 1]`` = L^{(n)}, n = 1 … 6,
    (n, K + 1) each; degrees ≤ ``free`` are free."""

    gate: Array
    inner: Array
    bias: Array
    unit: Array
    along: Array
    raised: tuple[Array, ...]
    free: int

    @staticmethod
    def of(atoms: GatedAtoms, degree: int, free: int) -> GatedExpansion:
        """The coefficients of every atom up to ``degree``."""
        c = atoms.gates.hermite(degree + ORDERS - 1)
        norm = atoms.gates.norm
        inverse = np.divide(1.0, norm, out=np.zeros(atoms.n), where=norm > _SHORTEST)[:, None]
        raised, k = [c[:, : degree + 1]], np.arange(degree + 1.0)
        factor = np.ones(degree + 1)
        for n in range(1, ORDERS):
            factor = factor * np.sqrt(k + n)
            raised.append(c[:, n : degree + n + 1] * factor * inverse**n)
        along = np.sum(atoms.gate * atoms.inner, axis=1)
        return GatedExpansion(atoms.gate, atoms.inner, atoms.bias, atoms.unit, along, tuple(raised), free)

    @property
    def n(self) -> int:
        """Number of atoms."""
        return self.bias.size

    @property
    def degree(self) -> int:
        """K."""
        return self.raised[0].shape[1] - 1

    def rows(self, rows: slice) -> GatedExpansion:
        """Some of the atoms."""
        raised = tuple(x[rows] for x in self.raised)
        return GatedExpansion(
            self.gate[rows], self.inner[rows], self.bias[rows], self.unit[rows], self.along[rows], raised, self.free
        )


@dataclass(frozen=True, eq=False)
class _Pairs:
    """p, p′ and ⟨h, h′⟩T of all pairs of two sets of atoms, and their products."""

    first: GatedExpansion
    second: GatedExpansion
    p: Symbol
    p_: Symbol
    both: Symbol

    @staticmethod
    def of(first: GatedExpansion, second: GatedExpansion) -> _Pairs:
        left = {(0, 0, 1): first.inner @ second.gate.T, (2, 0, 0): first.along[:, None], (1, 0, 0): first.bias[:, None]}
        right = {(0, 0, 1): first.gate @ second.inner.T, (0, 2, 0): second.along[None], (0, 1, 0): second.bias[None]}
        return _Pairs(first, second, left, right, {(0, 0, 1): first.inner @ second.inner.T})

    @property
    def kernel(self) -> Symbol:
        """⟨φ, φ′⟩."""
        return _plus(_times(self.p, self.p_), self.both)

    @property
    def slopes(self) -> dict[str, Symbol]:
        """⟨∂φ, φ′⟩ by what the move is seen through."""
        kernel, through = self.kernel, _times(_BB, self.p_)
        return {
            "gg": _times(_BB, kernel),
            "c": _times(_B, kernel),
            "gG": _times(_T, kernel),
            "gh": through,
            "gH": _times(_T, self.p),
            "hg": through,
            "e": _times(_B, self.p_),
            "hG": _times(_T, self.p_),
            "hH": _T,
        }

    @property
    def products(self) -> dict[tuple[str, str], Symbol]:
        """⟨∂φ, ∂φ′⟩ by what the two moves are seen through; of two orders the one that comes first."""
        p, p_, both = self.p, self.p_, self.both
        plain, plain_ = {"gg": _BB, "c": _B, "gG": _T}, {"gg": _BB_, "c": _B_, "gG": _T}
        whole = {**{name: _times(q, p) for name, q in plain.items()}, "gh": _BB}
        whole_ = {**{name: _times(q, p_) for name, q in plain_.items()}, "gh": _BB_}
        factor, factor_ = {"hg": _BB, "e": _B, "hG": _T}, {"hg": _BB_, "e": _B_, "hG": _T}
        found = {(f, g): _times(whole[f], whole_[g]) for f, g in combinations_with_replacement(whole, 2)}
        for f, g in combinations_with_replacement(plain, 2):
            found[f, g] = _plus(found[f, g], _times(both, plain[f], plain_[g]))
        found |= {("gH", g): _times(_T, p, plain_[g]) for g in plain}
        found["gH", "gH"] = _times(_T, _T)
        found |= {(f, g): _times(whole[f], factor_[g]) for f, g in product(whole, factor)}
        found |= {(f, "hH"): _times(_T, plain[f]) for f in plain}
        return found | {(f, g): _times(factor[f], factor_[g]) for f, g in combinations_with_replacement(factor, 2)}

    @property
    def vectors(self) -> list[Symbol]:
        """What ⟨δg, δg′⟩, ⟨δg, δh′⟩ and ⟨δh, δh′⟩ are multiplied by."""
        return [_times(_T, self.kernel), _times(_T, self.p), _T]

    def series(self, powers: set[Power]) -> dict[Power, Array]:
        """The monomials as (n₁, n₂) arrays."""
        k, free, degree = np.arange(self.first.degree + 1), self.first.free, self.first.degree
        groups: dict[tuple[int, int], list[Power]] = {}
        for power in sorted(powers):
            groups.setdefault((power[1] + power[2], power[2]), []).append(power)
        request = []
        for (order, raised), members in groups.items():
            kept = slice(degree + 1 - raised)
            right = self.second.raised[order - 1][:, kept] * (k > free - raised)[kept]
            request.append((right, [self.first.raised[i + raised - 1][:, kept] for i, _, _ in members]))
        found = power_series(self.first.unit, self.second.unit, request)
        return dict(zip((power for members in groups.values() for power in members), found, strict=True))


def _summed(symbol: Symbol, series: dict[Power, Array]) -> Array:
    first, *others = symbol.items()
    out = first[1] * series[first[0]]
    for power, factor in others:
        out += factor * series[power]
    return out


def _powers(symbols: list[Symbol]) -> set[Power]:
    return {power for symbol in symbols for power in symbol}


def values(first: GatedExpansion, second: GatedExpansion) -> Array:
    """⟨φ_i, φ_j⟩ over the degrees free < k ≤ K, (n₁, n₂)."""
    out = np.empty((first.n, second.n))
    for start in range(0, first.n, _ROWS):
        pairs = _Pairs.of(first.rows(slice(start, start + _ROWS)), second)
        kernel = pairs.kernel
        out[start : start + _ROWS] = _summed(kernel, pairs.series(_powers([kernel])))
    return out


def slopes(first: GatedExpansion, second: GatedExpansion) -> Array:
    """⟨∂φ_s, φ_t⟩ (9, n₁, n₂), by the part that a move of s is seen through."""
    pairs = _Pairs.of(first, second)
    symbols = pairs.slopes
    series = pairs.series(_powers(list(symbols.values())))
    out = np.empty((len(PARTS), first.n, second.n))
    for part, name in enumerate(PARTS):
        out[part] = _summed(symbols[name], series)
    return out


def seen(moves: Array, atoms: GatedExpansion) -> tuple[Array, Array]:
    """The parts that moves (S, 2d + 2), columns δg, δc, δh, δe, are seen through: own (5, S) and others' (4, S, S)."""
    d = atoms.gate.shape[1]
    gate, inner = moves[:, :d], moves[:, d + 1 : -1]
    own = np.stack(
        [
            np.sum(gate * atoms.gate, axis=1),
            np.sum(gate * atoms.inner, axis=1),
            moves[:, d],
            np.sum(inner * atoms.gate, axis=1),
            moves[:, -1],
        ]
    )
    return own, np.stack([move @ other.T for move in (gate, inner) for other in (atoms.gate, atoms.inner)])


def unseen(own: Array, others: Array, atoms: GatedExpansion, second: GatedExpansion) -> Array:
    """The adjoint of :func:`seen`, (S, 2d + 2): own (5, S), others' (4, S, n₂) against the atoms of ``second``."""
    gg, gh, c, hg, e = own[:, :, None]
    gate = gg * atoms.gate + gh * atoms.inner + others[0] @ second.gate + others[1] @ second.inner
    inner = hg * atoms.gate + others[2] @ second.gate + others[3] @ second.inner
    return np.concatenate([gate, c, inner, e], axis=1)


def contracted(weight: Array, forms: Array) -> tuple[Array, Array]:
    """Σ_t weight_st ⟨∂φ_s, φ_t⟩ as parts for :func:`unseen`, from :func:`slopes`."""
    return np.einsum("st,fst->fs", weight, forms[:OWN]), weight * forms[OWN:]


@dataclass(frozen=True, eq=False)
class GatedProducts:
    """weight_st ⟨∂φ_s, ∂φ_t⟩ by the parts f of s and g of t: ``own`` [f, s, g, t] (5, S, 5, S), ``mixed`` [f, g, s, t]
    (5, 4, S, S) for own f and others' g, ``others`` [f, g, s, t] (4, 4, S, S); ``vectors`` (3, S, S), the factors of
    ⟨δg_s, δg_t⟩, ⟨δg_s, δh_t⟩ and ⟨δh_s, δh_t⟩."""

    own: Array
    mixed: Array
    others: Array
    vectors: Array

    @staticmethod
    def of(atoms: GatedExpansion, weight: Array) -> GatedProducts:
        """All of them, by row blocks."""
        n, rest = atoms.n, len(PARTS) - OWN
        found = GatedProducts(
            np.zeros((OWN, n, OWN, n)), np.zeros((OWN, rest, n, n)), np.zeros((rest, rest, n, n)), np.empty((3, n, n))
        )
        for start in range(0, n, _ROWS):
            rows = slice(start, min(start + _ROWS, n))
            pairs = _Pairs.of(atoms.rows(rows), atoms)
            products, vectors = pairs.products, pairs.vectors
            series = pairs.series(_powers([*products.values(), *vectors]))
            for (f, g), symbol in products.items():
                found._put(PARTS.index(f), PARTS.index(g), rows, weight[rows] * _summed(symbol, series))
            for into, symbol in zip(found.vectors, vectors, strict=True):
                into[rows] = weight[rows] * _summed(symbol, series)
        return found

    def _put(self, f: int, g: int, rows: slice, form: Array) -> None:
        """The part of ⟨∂φ_s, ∂φ_t⟩ in f of s and g of t, for some s, and with it that in g of s and f of t."""
        if f < OWN and g < OWN:
            self.own[f, rows, g] = form
            self.own[g, :, f, rows] = form.T
        elif f < OWN:
            self.mixed[f, g - OWN, rows] = form
        elif g < OWN:
            self.mixed[g, f - OWN, :, rows] = form.T
        else:
            self.others[f - OWN, g - OWN, rows] = form
            self.others[g - OWN, f - OWN, :, rows] = form.T

    def apply(self, moves: Array, own: Array, others: Array) -> tuple[Array, Array, Array]:
        """Σ_t weight_st ⟨∂φ_s, δφ_t⟩ of moves seen through these parts: own and others' parts, and a direct part
        (S, 2d + 2)."""
        d = moves.shape[1] // 2 - 1
        theirs = np.ascontiguousarray(others.transpose(0, 2, 1))
        size = own.size
        out = (self.own.reshape(size, size) @ own.ravel()).reshape(own.shape)
        out += np.einsum("fgst,gst->fs", self.mixed, theirs)
        out_others = np.einsum("fgst,gst->fst", self.others, theirs)
        out_others += np.einsum("fgst,fs->gst", self.mixed, own).transpose(0, 2, 1)
        gate, inner = moves[:, :d], moves[:, d + 1 : -1]
        direct = np.zeros_like(moves)
        direct[:, :d] = self.vectors[0] @ gate + self.vectors[1] @ inner
        direct[:, d + 1 : -1] = self.vectors[1].T @ gate + self.vectors[2] @ inner
        return out, out_others, direct
