"""Depth: network → active atoms → family → brackets of D_var and D_orb, with certificates → one document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.atomic import header, input_record, plain
from sparsemf.certificates.checker import equivalence
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.depth import scaled_exactly
from sparsemf.certificates.checker.document import SLACK, norm_of, seal
from sparsemf.certificates.checker.expansion import expanded, terms_of
from sparsemf.certificates.checker.raw import encode
from sparsemf.certificates.depths import Depths, depths
from sparsemf.certificates.equivalence import encode_law, norm_for, raw_of
from sparsemf.certificates.groups import candidates
from sparsemf.exceptions import InputError
from sparsemf.identifiability.depths import Family, other_solutions
from sparsemf.measures import Empirical, Gaussian, InputLaw, Network
from sparsemf.pipeline.analysis import Clock
from sparsemf.pipeline.laws import describe
from sparsemf.symmetry import quotient

Array = NDArray[np.float64]

FREE = {"none": -1, "offset": 0, "affine": 1}
_REACH = 4.0
_SEARCHED = 24
_STARTS = 4


@dataclass(frozen=True, eq=False)
class DepthReport:
    """Everything ``depth`` found; :meth:`document` is its JSON form and, sealed, the certificate."""

    source: Network
    law: InputLaw
    rho: str
    family: Family
    atoms: Network
    link: str
    found: Depths
    search: dict[str, Any]
    config: dict[str, Any]
    warnings: list[str]
    timing: dict[str, float] = field(default_factory=dict)

    @property
    def meets(self) -> bool:
        """Whether both generic brackets meet."""
        return self.found.generic[0] == self.found.generic[1] and self.found.near[0] == self.found.near[1]

    def document(self) -> dict[str, Any]:
        """The JSON document of `sparsemf depth`; ``claim`` is what the checker proves, ``estimates`` is not proved."""
        f, family = self.found, self.family
        body: dict[str, Any] = {
            **header("depth", 1, input=input_record(self.source), config=self.config),
            "inputs": {"a": {**input_record(self.source), "arrays_sha256": raw_of(self.source).sha256}},
            "law": encode_law(self.law),
            "family": {
                "activation": family.activation.name,
                "atoms": family.atoms,
                "d": family.d,
                "m": family.m,
                "bias": family.bias,
                "free": family.free,
            },
            "d_var": {
                "generic": _bracket(f.generic),
                "pointwise": _bracket(f.pointwise),
                "worst_case": {"lower": self.worst_variety, "upper": None, "kind": "certificate"},
                "singular": f.singular,
            },
            "d_orb": {
                "near": _bracket(f.near),
                "pointwise": _bracket(f.orbit_pointwise),
                "worst_case": {"lower": f.near[0], "upper": None, "kind": "certificate"},
                "scales": None if f.box is None else {"r": [f.box[0], f.box[1]], "b": [-f.box[2], f.box[2]]},
                "how": None
                if f.how is None
                else {
                    "lines": f.how.lines.way,
                    "degree": f.how.lines.degree,
                    "split": list(f.how.lines.split),
                    "levels": list(f.how.levels),
                    "scales": f.how.scales,
                },
                "other": f.collisions,
            },
            "estimates": {"d_var": f.variety_estimate, "search": self.search},
            "claim": f.claim(),
            "link": self.link,
            "atoms_error": None,
            "evidence": {
                "alpha": encode(self.atoms.alpha),
                "w": encode(self.atoms.inner),
                "b": encode(self.atoms.bias),
                **f.evidence(),
            },
            "warnings": self.warnings + f.notes,
        }
        if self.link == "distance":
            body |= self._distance(body)
        body = {**plain(body), "timing_s": self.timing}
        return {**body, "seal": seal(body)}

    @property
    def worst_variety(self) -> int:
        """A lower end of D_var over all irreducible atoms of the family: the generic one, and singular points."""
        return max([self.found.generic[0], *(entry["depth"] + 1 for entry in self.found.singular)])

    def certificate(self) -> dict[str, Any]:
        """The certificate for `sparsemf verify`: the document itself."""
        return self.document()

    def _distance(self, body: dict[str, Any]) -> dict[str, Any]:
        """The checker's bound of the distance between the network and its merged atoms."""
        raw, own = raw_of(self.source), raw_of(self.atoms)
        norm = norm_for(self.law, None)
        h = expanded(Arithmetic(0), (raw, 1.0), (own, -1.0))
        best: tuple[float, dict[str, Any]] | None = None
        for grouping in candidates(h, raw.b.size * terms_of(raw.activation), norm):
            evidence = {
                **body["evidence"],
                "polynomial": {"affine": encode(self.atoms.affine), "offset": encode(self.atoms.offset)},
                "leader": encode(grouping.leader.astype(np.int32)),
                "sign": encode(grouping.flip.astype(np.int8)),
                "bits": 0,
                "degree": 24,
                "direction": None,
                "gram": False,
            }
            probe = norm_of({"law": {"name": "gaussian"}}, raw.w.shape[1], None)
            bound = equivalence.distance_bounds(probe, raw, own, evidence)[1]
            if best is None or bound < best[0]:
                best = bound, evidence
        if best is None or not np.isfinite(best[0]):
            return {"link": "none"}
        return {"atoms_error": best[0] * (1 + SLACK) + 1e-14, "evidence": best[1]}


def _bracket(bracket: tuple[int, int | None]) -> dict[str, Any]:
    low, high = bracket
    return {"lower": low, "upper": high, "certified": low == high, "kind": "certificate"}


def depth(
    network: Network,
    law: InputLaw | None = None,
    rho: str = "gaussian",
    bias: bool | None = None,
    free: str | None = None,
    scales: tuple[float, float] | None = None,
    shifts: float | None = None,
    seed: int = 0,
) -> DepthReport:
    """How many Hermite tensors T_k identify the atoms of a network: brackets of D_var and D_orb.

    ``law`` defaults to N(0, I); under N(μ, Σ) the atoms are whitened.  The family: ``bias`` - are biases parameters
    (default: some is not 0), ``free`` - the polynomial part that is one: "none", "offset" or "affine" (default: what
    the network has).  ``scales`` and ``shifts``: the (r, |b|) among which other solutions are excluded where no theorem
    covers all (default: r from a quarter of the least to 4 times the largest ‖w‖, |b| to twice the largest plus 1.5).

    Raises :class:`InputError` for gated blocks, data as law, networks without atoms, and activations whose moments the
    checker cannot enclose.
    """
    law = law or Gaussian.standard(network.d)
    if isinstance(law, Empirical):
        raise InputError("depth: expected a Gaussian input law, got data; use --rho gaussian or layernorm")
    if network.gated or network.quadratic is not None:
        raise InputError("depth: expected a plain two-layer network, got a gated block or a quadratic part")
    clock = Clock()
    warnings: list[str] = []
    atoms, link = _atoms(network, law, warnings)
    if atoms.width == 0:
        raise InputError("depth: expected a network with active neurons, got none (it is affine)")
    clock("quotient")
    has_bias = bool(atoms.bias.any()) if bias is None else bias
    if atoms.bias.any() and not has_bias:
        raise InputError("depth: expected biases 0 with --no-bias, got some that are not")
    degree = _free(free, atoms)
    family = Family(atoms.activation, atoms.width, atoms.d, atoms.m, has_bias, degree)
    box = _box(atoms, has_bias, scales, shifts)
    found = depths(family, atoms.alpha, atoms.inner, atoms.bias, box, seed)
    clock("depths")
    search = _searched(family, atoms, found, seed)
    clock("search")
    config = {
        **describe(law, rho),
        "bias": has_bias,
        "free": {value: name for name, value in FREE.items()}[degree],
        "scales": [box[0], box[1]],
        "shifts": box[2],
        "seed": seed,
    }
    return DepthReport(network, law, rho, family, atoms, link, found, search, config, warnings, clock.laps)


def _atoms(network: Network, law: Gaussian, warnings: list[str]) -> tuple[Network, str]:
    """The irreducible atoms in white coordinates, and how they belong to the network."""
    white = network if law.is_standard else law.whiten(network)
    live = network.alpha.any(axis=1) & network.inner.any(axis=1)
    rows = np.flatnonzero(live)
    seen = quotient(white)
    if seen.network.width == rows.size and seen.active == rows.size:
        # the neurons themselves, not turned: a free polynomial part may be needed to turn them
        # a common factor of α changes no depth, its rounding may
        exact = scaled_exactly(white.outer[rows], white.scale, white.alpha[rows])
        own = white.with_(
            outer=(white.alpha if exact else white.outer)[rows],
            inner=white.inner[rows],
            bias=white.bias[rows],
            scale=1.0,
        )
        still = ~network.inner.any(axis=1) & network.alpha.any(axis=1)
        offset = white.offset + white.alpha[still].T @ white.activation.value(white.bias[still])
        own = own.with_(offset=offset if still.any() else white.offset)
        return own, "exact" if law.is_standard else "none"
    warnings.append(
        f"{rows.size} active neurons are {seen.network.width} atoms: equal ones (up to the group) are merged"
    )
    merged = seen.network.with_(outer=seen.network.alpha, scale=1.0)
    return merged, "distance" if law.is_standard else "none"


def _free(free: str | None, atoms: Network) -> int:
    if free is not None and free not in FREE:
        raise InputError(f"depth: expected a free part {', '.join(FREE)}, got {free!r}")
    needed = 1 if atoms.affine.any() else 0 if atoms.offset.any() else -1
    if free is None:
        return needed
    if FREE[free] < needed:
        name = "an affine part" if needed == 1 else "an offset"
        raise InputError(f"depth: expected a network without polynomial part beyond {free!r}, got one with {name}")
    return FREE[free]


def _box(
    atoms: Network, bias: bool, scales: tuple[float, float] | None, shifts: float | None
) -> tuple[float, float, float]:
    r = np.linalg.norm(atoms.inner, axis=1)
    low, high = scales or (float(r.min()) / _REACH, float(r.max()) * _REACH)
    if not 0 < low < high < np.inf:
        raise InputError(f"depth: expected scales 0 < low < high, got {low:g}, {high:g}")
    reach = (2.0 * float(np.abs(atoms.bias).max()) + 1.5 if bias else 0.0) if shifts is None else shifts
    if not 0 <= reach < np.inf:
        raise InputError(f"depth: expected shifts ≥ 0, got {reach:g}")
    return low, high, reach if bias else 0.0


def _searched(family: Family, atoms: Network, found: Depths, seed: int) -> dict[str, Any]:
    """Random starts on the fibre of Ψ_D below the proved upper end of D_orb, where the bracket does not meet."""
    low, high = found.near
    none: dict[str, Any] = {"depth": None, "starts": 0, "other_solutions": 0, "kind": "estimate"}
    if family.continuous or low == high or family.target > _SEARCHED or not family.degrees(low):
        return none
    depth_ = low if high is None else high - 1
    rng = np.random.default_rng(seed)
    others = other_solutions(family, atoms.alpha, atoms.inner, atoms.bias, depth_, rng, starts=_STARTS)
    return {**none, "depth": depth_, "starts": _STARTS, "other_solutions": len(others)}
