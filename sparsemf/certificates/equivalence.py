"""Are two networks the same function?  Two-sided bounds of ‖f_A − f_B‖, a witness, a matching; never a guess.

The prover looks for evidence - a grouping of the neurons, a direction, a point, the number of Hermite degrees and of
digits - and lets the checker compute the bounds that it proves; published numbers are those, widened by ``SLACK``.
It tries the cheap evidence first and asks for more, up to ball arithmetic, while the verdict is undecided.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker import equivalence as checked
from sparsemf.certificates.checker import gated_series, grouped, kinks, series
from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.catalogue import CORES, ORDER
from sparsemf.certificates.checker.document import SLACK
from sparsemf.certificates.checker.expansion import Expanded, expanded, terms_of
from sparsemf.certificates.checker.hermite import coefficients
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import Raw, encode
from sparsemf.certificates.crosscheck import CrossCheck, crosscheck
from sparsemf.certificates.degrees import ladder
from sparsemf.certificates.dictionary import Dictionary, dictionary
from sparsemf.certificates.groups import Grouping, candidates
from sparsemf.certificates.matching import Matching, match
from sparsemf.certificates.matching import proved as proved_matching
from sparsemf.certificates.orbit import OrbitDistance, orbit_distance
from sparsemf.certificates.points import Difference, Linearised, best_point
from sparsemf.exceptions import InputError
from sparsemf.measures import Ball, Empirical, Gaussian, InputLaw, Network

Array = NDArray[np.float64]

_BITS = (160, 320)
_EXACT = 1e-80
"""Bounds below this come from differences that are exactly 0."""
_TIGHT = 1.2
"""Distinct networks with bounds closer than this factor need no tighter ones …"""
_CHEAP = 2e10
"""… nor do those whose Gram form takes more multiplications."""
_FEW = 24
"""Degrees of the series in balls where its Gram form is too large for them."""
_GRAIN = 2.0**-51
_ROUNDS = 30.0
"""Bounds above this multiple of what a form may round otherwise elsewhere gain by more degrees."""
_SHARP = 150.0
"""Bounds above this multiple of it, times √(1 + d/64), gain nothing by balls: a form's proven rounding error is larger,
and each inner product of d terms adds to it."""
_LARGE = 20_000_000
"""Entries beyond which only what is needed for the verdict is computed."""


@dataclass(frozen=True, eq=False)
class Equivalence:
    """The verdict with what proves it; bounds are absolute in ``norm``.

    ``arithmetic`` names what the bounds were computed in; ``eps_distinct`` is ∞ when no upper bound of ‖f_A‖ was
    needed.
    """

    verdict: checked.Verdict
    norm: str
    radius: float | None
    law: InputLaw
    eps: float
    eps_distinct: float
    rel_eps: float | None
    lower: float
    upper: float
    matching: Matching
    witness: Array | None
    gap: float
    separation_degree: int | None
    orbit_distance: OrbitDistance
    evidence: dict[str, Any]
    arithmetic: str
    crosscheck: CrossCheck


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


def encode_law(law: InputLaw) -> dict[str, Any]:
    """A law as JSON; the rows of an empirical law stay in their file, a diagonal root is written as its diagonal."""
    if isinstance(law, Empirical) or law.name == "gaussian":
        return {"name": law.name, "mean": None, "root": None}
    root = law.root
    if root.shape[0] == root.shape[1] and np.array_equal(root, np.diag(np.diag(root))):
        root = np.diag(root)
    return {"name": law.name, "mean": encode(law.mean), "root": encode(root)}


def norm_for(law: InputLaw, domain: Ball | None) -> Norm:
    """The checker's norm for a law or a ball."""
    if domain is not None:
        return Norm("sup", radius=domain.radius)
    if isinstance(law, Empirical):
        return Norm("empirical", rows=law.x)
    if law.name == "gaussian":
        return Norm("gaussian")
    return Norm("gaussian", mean=np.asarray(law.mean), root=np.asarray(law.root))


@dataclass(frozen=True, eq=False)
class _Proof:
    """What one piece of evidence proves, already widened."""

    evidence: dict[str, Any]
    lower: float
    upper: float
    eps: float
    eps_distinct: float
    separations: list[int]

    @property
    def verdict(self) -> checked.Verdict:
        return checked.verdict_of(self.lower, self.upper, self.eps, self.eps_distinct)

    @property
    def spread(self) -> float:
        """How far the two ends are apart."""
        return self.upper / self.lower if self.lower > 0 else np.inf


def certify_pair(
    a: Network,
    b: Network,
    law: InputLaw | None = None,
    norm: Literal["l2", "sup"] = "l2",
    radius: float | None = None,
    eps: float | None = None,
    rel_eps: float | None = None,
    seed: int = 0,
) -> Equivalence:
    """The verdict on ‖f_A − f_B‖ ≤ ε in L²(law) or in the sup norm over ‖x‖ ≤ radius.

    The activations may differ.  ``rel_eps`` (default 1e-3 when no ``eps`` is given) is relative to ‖f_A‖ in the same
    norm, by its certified lower bound for *equivalent* and its upper bound for *distinct*.  Raises
    :class:`~sparsemf.exceptions.InconsistentBounds` where an independent estimate contradicts the bounds.
    """
    _comparable(a, b)
    law = law or Gaussian.standard(a.d)
    if norm == "sup":
        radius = float(np.sqrt(a.d)) if radius is None else radius
    domain = Ball(radius) if norm == "sup" and radius is not None else None
    if eps is None and rel_eps is None:
        rel_eps = 1e-3
    raw_a, raw_b = raw_of(a), raw_of(b)
    search = _Search(a, b, raw_a, raw_b, law, domain, norm_for(law, domain), eps, rel_eps, seed)
    proof = search.run()
    evidence = proof.evidence
    check = crosscheck(a, b, law, domain, proof.lower, proof.upper, seed)
    x, gap = None, 0.0
    if proof.verdict != "equivalent":
        x = search.witness()
        gap = checked.witness_gap(raw_a, raw_b, x) * (1 - SLACK)
    return Equivalence(
        verdict=proof.verdict,
        norm=norm,
        radius=radius,
        law=law,
        eps=proof.eps,
        eps_distinct=proof.eps_distinct,
        rel_eps=None if eps is not None else rel_eps,
        lower=proof.lower,
        upper=proof.upper,
        matching=proved_matching(raw_a, raw_b, match(a, b, parts=search.parts())),
        witness=x if gap > 0 else None,
        gap=gap,
        separation_degree=proof.separations[0] if proof.separations else None,
        orbit_distance=orbit_distance(a, b, search.parts()),
        evidence=evidence,
        arithmetic=describe(evidence),
        crosscheck=check,
    )


def describe(evidence: dict[str, Any]) -> str:
    """The arithmetic of a proof in words."""
    bits = evidence["bits"]
    return f"ball arithmetic of {bits} bits" if bits else "float64 with a-priori error bounds"


def _comparable(a: Network, b: Network) -> None:
    for what, first, second in (("input dimension d", a.d, b.d), ("outputs m", a.m, b.m)):
        if first != second:
            raise InputError(f"{what}: expected the same for both networks to compare them, got {first} and {second}")
    if (a.gate is None) != (b.gate is None):
        raise InputError("expected two gated blocks or two plain ones, got one of each")


class _Search:
    """Evidence in the order of its price, until the verdict is decided."""

    def __init__(
        self,
        a: Network,
        b: Network,
        raw_a: Raw,
        raw_b: Raw,
        law: InputLaw,
        domain: Ball | None,
        measure: Norm,
        eps: float | None,
        rel_eps: float | None,
        seed: int,
    ) -> None:
        self.a, self.b, self.raw_a, self.raw_b = a, b, raw_a, raw_b
        self.law, self.domain, self.measure = law, domain, measure
        self.absolute, self.relative, self.seed = eps, rel_eps, seed
        self.entries = checked.entries(raw_a, raw_b)
        self.small = self.entries <= checked.MOST_BALL_ENTRIES
        self.gated = a.gate is not None
        self.evidence: dict[str, Any] = {"bits": 0, "degree": 2, "norm_degree": 2, "gram": False, "norm_gram": False}
        self.size: dict[tuple[int, ...], tuple[float, float]] = {}
        self.point: Array | None = None
        self.grain: float | None = None
        self.last: tuple[Grouping, grouped.Groups] | None = None
        self.dictionary: Dictionary | None = None
        self.latest: _Proof | None = None

    def run(self) -> _Proof:
        """The proof that decides, or the tightest one found."""
        with Arithmetic(0).precision(), np.errstate(over="ignore", invalid="ignore", under="ignore"):
            return self._run()

    def _run(self) -> _Proof:
        best: _Proof | None = None
        for evidence in self._attempts():
            if best is not None and best.verdict == "distinct" and not self._worthwhile(evidence):
                break
            self.latest = proof = self._prove(evidence)
            if proof.verdict == "equivalent" or (proof.verdict == "distinct" and proof.spread <= _TIGHT):
                return proof
            if best is None or proof.spread < best.spread or (proof.spread == best.spread and proof.upper < best.upper):
                best = proof
        if best is None:
            raise RuntimeError("no evidence was tried")
        return best

    def _worthwhile(self, evidence: dict[str, Any]) -> bool:
        """Whether evidence is cheap enough to be tried for tighter bounds only, the verdict being known."""
        cost = float(self.h.core.size) ** 2 * (self.a.d + self.a.m + 8 * int(evidence["degree"]))
        if evidence.get("closed"):
            cost = kinks.cost(self.measure, self.h) + (cost if evidence["gram"] else 0.0)
        return not evidence["bits"] and cost <= _CHEAP

    def _attempts(self) -> Iterator[dict[str, Any]]:
        """Float64: groupings, the closed form, then the series' Gram form; then balls."""
        if self.domain is not None:
            self.evidence["norm_point"] = encode(best_point(Difference(self.a, None), self.law, self.domain, self.seed))
        h = self._difference()
        self.h = h
        split = self._split()
        chosen, bound = None, np.inf
        for grouping in candidates(h, split, self.measure):
            value = self._grouped(h, grouping)
            if chosen is None or value < bound:
                chosen, bound = grouping, value
            if bound <= self._eps(self.evidence):
                break
        assert chosen is not None
        self.grouping, self.bound = chosen, bound
        base = {
            **self.evidence,
            "leader": encode(chosen.leader.astype(np.int32)),
            "sign": encode(chosen.flip.astype(np.int8)),
            "spectral": False,
        }
        if not self.gated and self.a.m > 1 and bound > self._eps(base):
            base["spectral"], self.bound = True, self._grouped(h, chosen, spectral=True)
            bound = self.bound
        gaussian = self.measure.kind == "gaussian"
        if self.domain is not None and (bound > self._eps(base) or self.entries <= _LARGE):
            base["witness"] = encode(self.witness())
        if gaussian and bound > self._eps(base):
            direction = self._direction(h, chosen)
            base["direction"] = None if direction is None else encode(direction)
            base["degree"] = 12 if self.entries > _LARGE else 24
        yield base
        last = base
        if self.closed:
            last = {**last, "closed": True, "norm_closed": True}
            yield last
        affordable = gated_series.affordable if self.gated else series.affordable
        if gaussian:
            n, d, m = h.core.size, self.raw_a.w.shape[1], self.a.m
            degree = 64 if n <= 600 else 32 if n <= 4096 and d >= 64 else 24 if n <= 4096 or d < 64 else 12
            if affordable(Arithmetic(0), self.raw_a.b.size, d, m, degree):
                last = {**last, "norm_gram": True, "norm_degree": degree}
                yield last
            for more in ladder(h, degree, self.gated):
                last, before = {**last, "gram": True, "degree": more}, self.latest
                yield last
                if not self._tails_matter(before):
                    break
        if self.small and not self._resolved(last):
            for bits in _BITS:
                degree = int(last["degree"])
                exact = {**last, "bits": bits}
                if gaussian:
                    n = h.core.size
                    fewer = (k for k in (32, 24, 16, 8) if affordable(Arithmetic(bits), n, 1, 1, k))
                    degree = next(fewer, min(degree, _FEW))
                    form = affordable(Arithmetic(bits), n, 1, 1, degree)
                    exact |= {"gram": form, "norm_gram": form, "degree": degree, "norm_degree": degree}
                yield exact

    def _tails_matter(self, before: _Proof | None) -> bool:
        """Whether what lies beyond the series' degree keeps the bounds apart, the last degree having been of use."""
        found = self.latest
        if found is None or found.spread <= _TIGHT or self._rounds(found):
            return False
        return before is None or not np.isfinite(before.upper) or found.upper < 0.95 * before.upper

    def _rounds(self, found: _Proof) -> bool:
        """Whether the bounds are so small, or undefined, that more degrees do not resolve them in float64."""
        return not found.upper > _ROUNDS * float(np.sqrt(self._square()))

    def _resolved(self, last: dict[str, Any]) -> bool:
        """Whether balls are no help: float64 resolves the Gram form, and takes more degrees than they do."""
        found, sharp = self.latest, _SHARP * np.sqrt((1 + self.a.d / 64) * self._square())
        return found is not None and any(self._forms(last)) and sharp < found.upper < np.inf

    @property
    def closed(self) -> bool:
        """Whether the neurons' products are known in closed form."""
        return not self.gated and kinks.affordable(self.measure, self.h)

    def parts(self) -> Dictionary | None:
        """The dictionary measures of plain networks, from the neurons that the search has expanded."""
        if self.gated:
            return None
        self.last = None
        if self.dictionary is None:
            self.dictionary = dictionary(self.a, self.b, self.h)
        return self.dictionary

    def _split(self) -> int:
        """How many of the expanded neurons are A's."""
        return self.a.width * terms_of(self.raw_a.activation)

    def _difference(self) -> Expanded:
        """The neurons to be grouped; for gated blocks their gates."""
        float64 = Arithmetic(0)
        if not self.gated:
            return expanded(float64, (self.raw_a, 1.0), (self.raw_b, -1.0))
        return checked.gates(float64, self.raw_a, self.raw_b)

    def _grouped(self, h: Expanded, grouping: Grouping, spectral: bool = False) -> float:
        try:
            if self.gated:
                return checked.gated_upper(
                    Arithmetic(0), self.measure, self.raw_a, self.raw_b, grouping.leader, grouping.flip
                )
            groups = self._measured(h, grouping)
            return grouped.upper(Arithmetic(0), self.measure, h, grouping.leader, grouping.flip, spectral, groups)
        except Undefined:
            return float("inf")

    def _measured(self, h: Expanded, grouping: Grouping) -> grouped.Groups:
        """The groups of a grouping, measured once while it is the last one asked for."""
        if self.last is None or self.last[0] is not grouping:
            leader, flip = grouped.validated(h, grouping.leader, grouping.flip)
            self.last = grouping, grouped.measured(Arithmetic(0), self.measure, h, leader, flip)
        return self.last[1]

    def _eps(self, evidence: dict[str, Any]) -> float:
        if self.absolute is not None:
            return self.absolute
        return (self.relative or 0.0) * self._norms(evidence)[0] * (1 - SLACK)

    @staticmethod
    def _forms(evidence: dict[str, Any], prefix: str = "") -> tuple[bool, bool]:
        """Which quadratic forms evidence asks for."""
        return bool(evidence[f"{prefix}gram"]), bool(evidence.get(f"{prefix}closed"))

    def _norms(self, evidence: dict[str, Any]) -> tuple[float, float]:
        """Bounds of ‖f_A‖; what a quadratic form gives, less what may round otherwise elsewhere."""
        key = (int(evidence["bits"]), int(evidence["norm_degree"]), *self._forms(evidence, "norm_"))
        if key not in self.size:
            low, high = checked.norm_bounds(self.measure, self.raw_a, evidence)
            if any(self._forms(evidence, "norm_")) and not evidence["bits"]:
                least, most = self._norms({**evidence, "norm_gram": False, "norm_closed": False})
                square = self._square()
                low = max(least, float(np.sqrt(max(low**2 - square, 0.0))))
                high = min(most, float(np.sqrt(high**2 + square)))
            self.size[key] = low, high
        return self.size[key]

    def _square(self) -> float:
        """How far the roundings of a form may differ: it is a difference of numbers as large as the mass's square."""
        return 4 * self._grain() * (self._grain() / _GRAIN)

    def _prove(self, evidence: dict[str, Any]) -> _Proof:
        known = None if self.gated or evidence["bits"] else (self.h, self.bound)
        proved = checked.prove(self.measure, self.raw_a, self.raw_b, evidence, known)
        lower, upper = proved.lower, proved.upper
        if self.absolute is not None:
            eps = eps_distinct = self.absolute
        else:
            low, high = self._norms(evidence)
            rel = self.relative or 0.0
            eps, eps_distinct = rel * low * (1 - SLACK), rel * high * (1 + SLACK)
        # a matrix product may round otherwise on another machine, or at another address
        grain = 0.0 if evidence["bits"] or upper <= _EXACT else self._grain()
        lower, upper = max(lower * (1 - SLACK) - grain, 0.0), upper * (1 + SLACK) + grain
        if grain and any(self._forms(evidence)):
            square = self._square()
            least = series.linear_lower(list(proved.degrees)) * (1 - SLACK) - grain
            lower = min(lower, max(float(np.sqrt(max(lower**2 - square, 0.0))), least))
            upper = max(upper, min(float(np.sqrt(upper**2 + square)), self.bound * (1 + SLACK) + grain))
        return _Proof(evidence, lower, upper, eps, eps_distinct, proved.separations)

    def _grain(self) -> float:
        """Four units in the last place of Σ‖α_i‖‖σ(u_i)‖ and the affine part: how far roundings may differ."""
        if self.grain is None:
            h, norm = self.h, self.measure
            rough = norm.reach(self.a.d) * np.hypot(h.lengths, h.b)
            size = rough if self.entries > _LARGE else norm.sizes(Arithmetic(0), h.w, h.b)
            if self.gated:
                factors = [norm.sizes(Arithmetic(0), f.w, f.b) for f in (self.raw_a, self.raw_b)]
                terms = [
                    np.tile(x, terms_of(f.activation)) for x, f in zip(factors, (self.raw_a, self.raw_b), strict=True)
                ]
                size = (size + 1.0) * np.concatenate(terms) * 2.0
            mass = float(h.weights @ (size + 1.0))
            mass += norm.reach(self.a.d) * sum(float(np.linalg.norm(f.affine)) for f in (self.a, self.b))
            mass += sum(float(np.linalg.norm(f.offset)) for f in (self.a, self.b))
            self.grain = _GRAIN * mass if np.isfinite(mass) else 0.0
        return self.grain

    def witness(self) -> Array:
        """A point where the two differ much: of the data, of the ball, or of the law's bulk."""
        if self.point is None:
            target: Difference | Linearised = Difference(self.a, self.b)
            if not self.gated:
                with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                    target = self._target(target)
            self.point = best_point(target, self.law, self.domain, self.seed)
        return self.point

    def _target(self, plain: Difference) -> Difference | Linearised:
        """The linearised difference where float64 cannot resolve the difference itself."""
        arith = Arithmetic(0)
        try:
            groups = self._measured(self.h, self.grouping)
        except Undefined:
            return plain
        weight = self.h.weights
        mass = float(weight @ groups.size)
        moved = float(weight @ groups.gap) + float(np.linalg.norm(groups.total, axis=1) @ groups.size[groups.head])
        if moved > 1e-7 * mass:
            return plain
        slope, constant, _ = grouped.remainder(arith, self.h, groups, self.grouping.leader)
        return Linearised(self.h, groups, slope, constant)

    def _direction(self, h: Expanded, grouping: Grouping) -> Array | None:
        """The unit vector along which the difference has the largest ridge energy, among the heaviest atoms'."""
        mean, root = self.measure.mean, self.measure.root
        w = h.w if root is None else h.w @ root
        b = h.b if mean is None else h.b + h.w @ mean
        length = h.lengths if root is None else np.linalg.norm(w, axis=1)
        weight = h.weights
        live = np.flatnonzero((length > 1e-12 * max(float(length.max(initial=0.0)), 1e-300)) & (weight > 0))
        if not live.size:
            return None
        count, most = (48, 4096) if self.entries <= _LARGE else (8, 1024)
        # the neurons of the groups that contribute most
        try:
            groups = self._measured(h, grouping)
            score = np.linalg.norm(groups.total, axis=1) * groups.size[groups.head]
            score += np.bincount(groups.label, weights=weight * groups.gap, minlength=score.size)
            ranked = np.argsort(-score)
            heavy = groups.head[ranked[:count]]
            # only the neurons of the groups that weigh most are looked at: whole groups, which cancel inside
            members = np.cumsum(np.bincount(groups.label, minlength=score.size)[ranked])
            seen = ranked[: max(int(np.searchsorted(members, most)), 1)]
            live = live[np.isin(groups.label[live], seen)]
        except Undefined:
            heavy = live[np.argsort(-weight[live])[:count]]
            live = heavy
        heavy = heavy[np.isin(heavy, live)]
        if not heavy.size:
            return None
        c = np.zeros((live.size, 13))
        for name in np.unique(h.core[live]):
            own = np.flatnonzero(h.core[live] == name)
            rows = live[own]
            try:
                c[own] = coefficients(Arithmetic(0), CORES[ORDER[name]], length[rows], b[rows], 12)[0]
            except Undefined:
                continue
        unit = w[live] / length[live][:, None]
        tried = w[heavy] / length[heavy][:, None]
        cos = np.clip(tried @ unit.T, -1.0, 1.0)
        power, energy = cos.copy(), np.zeros(heavy.size)
        for k in range(2, 13):
            power = power * cos
            energy += np.sum(((power * c[:, k]) @ h.alpha[live]) ** 2, axis=1)
        u = tried[int(np.argmax(energy))]
        return u / np.linalg.norm(u)
