"""Honest certificates of every kind, and what their claims would have to follow from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cases import planted, planted_gated, rotated_atom
from sparsemf.atomic import json_text
from sparsemf.certificates.checker import equivalence as checked
from sparsemf.certificates.checker import matching, sparsity, transport
from sparsemf.certificates.checker.document import norm_of, seal
from sparsemf.certificates.checker.raw import Raw, decode
from sparsemf.certificates.equivalence import raw_of
from sparsemf.measures import Empirical, Gaussian, Network, Provenance
from sparsemf.pipeline.analyze import analyze
from sparsemf.pipeline.certify import certify, document
from sparsemf.pipeline.verify import verify
from sparsemf.symmetry import disguise

Document = dict[str, Any]
Path = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Case:
    """A valid document with the networks (and data) that it is about; do not change ``doc`` in place."""

    name: str
    doc: Document = field(repr=False)
    networks: dict[str, Network] = field(repr=False)
    data: Empirical | None = field(default=None, repr=False)
    known: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def raw(self) -> dict[str, Raw]:
        """The networks as the checker sees them."""
        return {name: raw_of(network) for name, network in self.networks.items()}

    @property
    def rows(self) -> NDArray[np.float64] | None:
        """The data of an empirical law."""
        return None if self.data is None else self.data.x

    def valid(self, doc: Any) -> bool:
        """What :func:`sparsemf.verify` says."""
        return verify(doc, self.networks, self.data).valid

    def implied(self, doc: Document) -> bool:
        """Whether the claim of ``doc`` follows from the checker's numbers for its evidence, decided once more."""
        return _sparse(self, doc) if doc["schema"].startswith("sparsemf/sparsity") else _equivalent(self, doc)


def resealed(doc: Document) -> Document:
    """The document with the seal that fits it."""
    return {**doc, "seal": seal(doc)}


# --- honest documents ---------------------------------------------------------------------------------------------


def _pair(name: str, a: Network, b: Network, law: Gaussian | Empirical | None = None, **options: Any) -> Case:
    found = certify(a, b, law, **options)
    rho = "gaussian" if law is None else law.name
    doc = json.loads(json_text(document(found, a, b, rho)))
    case = Case(name, doc, {"a": a, "b": b}, law if isinstance(law, Empirical) else None)
    assert case.valid(doc), (name, doc["verdict"])
    return case


def _single(name: str, f: Network, law: Empirical | None = None) -> Case:
    doc = json.loads(json_text(analyze(f, law).certificate()))
    case = Case(name, doc, {"a": f}, law)
    assert case.valid(doc), name
    return case


def _relu(rng: np.random.Generator) -> Case:
    f = planted(rng, "relu", d=3, atoms=2, outputs=2, affine=True)
    return _pair("relu", disguise(f, rng, 5), disguise(f, rng, 4), rel_eps=1e-9)


def _tanh(rng: np.random.Generator) -> Case:
    f = planted(rng, "tanh", d=2, atoms=2, bias=True)
    g = f.with_(inner=f.inner * (1 + 1e-14 * rng.standard_normal(f.inner.shape)))
    return _pair("tanh in balls", f, g, eps=1e-16)


def _gelu(rng: np.random.Generator) -> Case:
    gain, shift = np.array([0.8, 0.0, -1.3]), np.array([0.1, -0.2, 0.4])
    norm = {"name": "ln", "gain": gain, "shift": shift}
    f = planted(rng, "gelu", d=3, atoms=2, bias=True).with_(provenance=Provenance(extra={"layernorm": norm}))
    g = rotated_atom(f, rng, 0, 0.1)
    return _pair("gelu under layernorm", f, g, Gaussian.layernorm(gain, shift), eps=1e-3)


def _law(rng: np.random.Generator) -> Case:
    f = planted(rng, "mish", d=2, atoms=2, outputs=2, bias=True)
    law = Gaussian.of([0.3, -0.2], [[0.5, 0.2], [0.2, 0.9]])
    return _pair("mish under N(m, Σ)", f, f.with_(outer=1.001 * f.outer), law, rel_eps=2e-3)


def _empirical(rng: np.random.Generator) -> Case:
    f = planted(rng, "softplus", d=3, atoms=2, bias=True, affine=True)
    law = Empirical.of(rng.standard_normal((12, 3)), "empirical")
    return _pair("softplus on data", f, f.with_(bias=f.bias + 1e-5), law, eps=1e-3)


def _sup(rng: np.random.Generator) -> Case:
    f = planted(rng, "gelu", d=2, atoms=2, outputs=2)
    return _pair("gelu in a ball", f, rotated_atom(f, rng, 1, 0.2), norm="sup", radius=2.0, eps=1e-2)


def _undecided(rng: np.random.Generator) -> Case:
    f = planted(rng, "tanh", d=4, atoms=3)
    g = f.with_(inner=f.inner + 0.05 * rng.standard_normal(f.inner.shape))
    probe = certify(f, g, norm="sup", radius=2.0)
    eps = float(np.sqrt(probe.lower * probe.upper))
    return _pair("undecided", f, g, norm="sup", radius=2.0, eps=eps)


def _gated(rng: np.random.Generator) -> Case:
    f = planted_gated(rng, "silu", d=3, atoms=2, outputs=2, polynomial=True)
    turn = rng.permutation(f.width)
    fields = ("outer", "inner", "bias", "gate", "gate_bias")
    return _pair("gated silu", f, f.with_(**{k: getattr(f, k)[turn] for k in fields}), eps=1e-8)


def _gated_apart(rng: np.random.Generator) -> Case:
    f = planted_gated(rng, "gelu", d=2, atoms=2, outputs=1)
    return _pair("gated gelu, distinct", f, f.with_(outer=1.1 * f.outer), eps=1e-4)


def _related(rng: np.random.Generator) -> Case:
    f = planted(rng, "sigmoid", d=3, atoms=2, bias=True)
    offset = f.offset + 0.5 * f.alpha.sum(axis=0)
    g = f.with_(activation="tanh", outer=0.5 * f.outer, inner=0.5 * f.inner, bias=0.5 * f.bias, offset=offset)
    return _pair("sigmoid and tanh", f, g, eps=1e-9)


def _relu2(rng: np.random.Generator) -> Case:
    f = planted(rng, "relu2", d=2, atoms=2, bias=True, length=0.8)
    return _pair("relu2", f, f.with_(outer=f.outer * [[1.0], [1.2]]), rel_eps=1e-3)


def _hardtanh(rng: np.random.Generator) -> Case:
    f = planted(rng, "hardtanh", d=2, atoms=2, bias=True)
    offset = f.offset - f.alpha.sum(axis=0)
    g = f.with_(activation="hard_sigmoid", outer=2 * f.outer, inner=3 * f.inner, bias=3 * f.bias, offset=offset)
    return _pair("hardtanh and hard_sigmoid", f, g, eps=1e-10)


def _sparse_tanh(_: np.random.Generator) -> Case:
    return _single("sparsity of tanh", Network([[1.0], [1.0]], 0.5 * np.eye(2), [0.1, -0.1], "tanh"))


def _sparse_relu(rng: np.random.Generator) -> Case:
    return _single("sparsity of relu", disguise(planted(rng, "relu", d=3, atoms=2, outputs=2), rng, 6))


def _sparse_gated(rng: np.random.Generator) -> Case:
    f = planted_gated(rng, "silu", d=3, atoms=2, outputs=2, polynomial=True)
    return _single("sparsity of gated silu", disguise(f, rng, 5))


MAKERS: dict[str, Callable[[np.random.Generator], Case]] = {
    make.__name__.strip("_"): make
    for make in (
        _relu, _tanh, _gelu, _law, _empirical, _sup, _undecided, _gated, _gated_apart, _related, _relu2, _hardtanh,
        _sparse_tanh, _sparse_relu, _sparse_gated,
    )
}  # fmt: skip


@cache
def case(name: str) -> Case:
    """The case of that name in :data:`MAKERS`."""
    return MAKERS[name](np.random.default_rng([31, *name.encode()]))


# --- what follows -------------------------------------------------------------------------------------------------


def _cached(case: Case, key: Any, compute: Callable[[], Any]) -> Any:
    text = json.dumps(key, sort_keys=True)
    if text not in case.known:
        case.known[text] = compute()
    return case.known[text]


def _equivalent(case: Case, doc: Document) -> bool:
    raw, evidence = case.raw, doc["evidence"]
    about = [doc.get(key) for key in ("norm", "radius", "law", "evidence")]
    norm = norm_of(doc, case.networks["a"].d, case.rows)
    proved = _cached(case, ["distance", *about], lambda: checked.prove(norm, raw["a"], raw["b"], evidence))
    lower, upper = proved.lower, proved.upper
    claimed_upper = np.inf if doc["bounds"]["upper"] is None else doc["bounds"]["upper"]
    claimed_lower, eps = doc["bounds"]["lower"], doc["eps"]
    eps_distinct = np.inf if doc["eps_distinct"] is None else doc["eps_distinct"]
    true = [0 <= claimed_lower <= lower, upper <= claimed_upper, claimed_lower <= claimed_upper]
    if doc.get("rel_eps") is None:
        true.append(eps == eps_distinct > 0)
    else:
        low, high = _cached(case, ["size", *about], lambda: checked.norm_bounds(norm, raw["a"], evidence))
        true.append(eps <= doc["rel_eps"] * low and eps_distinct >= doc["rel_eps"] * high)
    equivalent, distinct = claimed_upper <= eps, claimed_lower > eps_distinct
    verdict = "equivalent" if equivalent else "distinct" if distinct else "undecided"
    true.append(doc["verdict"] == verdict)
    if (witness := doc.get("witness")) is not None:
        x = np.array(witness["x"])
        gap = _cached(case, ["gap", witness["x"]], lambda: checked.witness_gap(raw["a"], raw["b"], x))
        true.append(gap >= witness["gap"] and (norm.kind != "sup" or float(np.linalg.norm(x)) <= norm.radius))
    if (degree := doc.get("separation_degree")) is not None:
        true.append(degree in proved.separations)
    true += [_transported(case, doc["orbit_distance"]), _matched(case, doc["matching"], evidence["matching"])]
    true += [doc["crosscheck"]["kind"] == "estimate", (doc.get("alignment") or {"checked": False})["checked"] is False]
    return all(bool(x) for x in true)


def _transported(case: Case, entry: Document) -> bool:
    """Whether what is said of the orbit distance is so."""
    kind, value, lower, gap = (entry[key] for key in ("kind", "value", "lower", "dual_gap"))
    evident = entry["plan"] is not None and entry["merged"] is not None
    if kind == "not computed":
        return (value, lower, gap, entry["exact"]) == (None, None, None, False) and not evident
    meets = gap <= 1e-8 * value + 2 * entry["rounding"]
    sound = 0 <= lower <= value and gap == value - lower and entry["rounding"] >= 0 and entry["polynomial"] >= 0
    if kind == "estimate":
        return sound and not evident and entry["exact"] is False
    about = ["orbit", entry["merged"], entry["plan"]]
    proved = _cached(case, about, lambda: transport.prove(case.raw["a"], case.raw["b"], entry))
    low, high = proved.polynomial
    return (
        sound
        and proved.lower >= lower
        and proved.upper <= value
        and entry["rounding"] <= (2 * proved.rounding + proved.spread) * (1 + 1e-6)
        and low - proved.spread <= entry["polynomial"] <= high + proved.spread
        and entry["exact"] is meets
        and kind in ("certificate", "upper certificate")
        and (proved.complete or kind != "certificate")
    )


def _matched(case: Case, entry: Document, evidence: Document | None) -> bool:
    """Whether what is said of the matching is so."""
    counts = [entry[key] for key in ("matched", "unmatched_a", "unmatched_b")]
    if evidence is None:
        return entry["kind"] == "estimate" and min(counts) >= 0 and entry["max_distance"] >= 0
    proved = _cached(case, ["matching", evidence], lambda: matching.prove(case.raw["a"], case.raw["b"], evidence))
    all_of = [proved.matched, proved.atoms_a - proved.matched, proved.atoms_b - proved.matched]
    return counts == all_of and entry["max_distance"] >= proved.max_distance and entry["kind"] == "certificate"


def _sparse(case: Case, doc: Document) -> bool:
    claim, raw = doc["claim"], case.raw["a"]
    low, high = claim["eps"][0], np.inf if claim["eps"][1] is None else claim["eps"][1]
    free = sparsity.free_of(doc, raw)
    about = [doc["law"], doc["evidence"], free]
    atoms = np.count_nonzero(_outer(doc).any(axis=1))
    if not (0 <= claim["lower"] <= claim["upper"] and atoms <= claim["upper"] and low <= high):
        return False
    key = ["dictionary", claim["upper"], *about]
    upper = _cached(case, key, lambda: sparsity.upper_bound(doc, raw, case.rows, free))
    true = [upper <= low, claim["counts"] == "atoms", claim["certified"] == (claim["lower"] == claim["upper"])]
    curve = _cached(case, ["tails", *about], lambda: sparsity.lower_bounds(doc, raw, free))
    published = decode(claim["lower_curve"])
    true += [published.ndim == 1 and all(x <= sparsity.at(curve, size) for size, x in enumerate(published))]
    if claim["lower"]:
        floor = sparsity.at(curve, claim["lower"] - 1)
        true += [floor >= high, floor > low]
    return all(bool(x) for x in true)


def _outer(doc: Document) -> NDArray[Any]:
    return decode(doc["evidence"]["dictionary"]["outer"])


# --- places in a document -----------------------------------------------------------------------------------------


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of everything in a document that holds nothing else."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = False
    for key, item in parts:
        found = True
        yield from leaves(item, (*path, key))
    if not found:
        yield path


def put(doc: Document, path: Path, value: Any) -> Document:
    """A copy of ``doc`` with ``value`` at ``path``; only the branch that leads there is copied."""
    out: Any = dict(doc)
    place = out
    for key in path[:-1]:
        place[key] = dict(place[key]) if isinstance(place[key], dict) else list(place[key])
        place = place[key]
    place[path[-1]] = value
    return out


def at(doc: Document, path: Path) -> Any:
    """What is at ``path``."""
    place: Any = doc
    for key in path:
        place = place[key]
    return place
