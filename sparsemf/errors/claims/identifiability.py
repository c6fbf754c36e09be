"""Result 2: two measures are one function exactly when they agree modulo the symmetry; depths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparsemf.activations import get
from sparsemf.errors.claims.steps import Answer, Claim, Figure, Listing, Step
from sparsemf.measures import Network

_ACTIVATIONS = ("relu", "tanh", "gelu", "sigmoid", "softplus", "leaky_relu", "erf", "silu")


def pair(folder: Path, *, activation: str, seed: int) -> dict[str, Any]:
    """A planted network against a disguise of itself, and against one with one atom moved by 1e-3."""
    from sparsemf.pipeline.certify import certify
    from sparsemf.symmetry.elements import disguise

    del folder
    rng = np.random.default_rng([seed, _ACTIVATIONS.index(activation)])
    inner = rng.standard_normal((5, 4))
    net = Network(
        outer=rng.standard_normal((5, 2)),
        inner=inner,
        bias=rng.standard_normal(5),
        activation=get(activation),
        scale=1.0,
    )
    same = certify(net, disguise(net, rng, width=40), rel_eps=1e-9)
    moved = inner.copy()
    moved[0] += 1e-3 * rng.standard_normal(4)
    other = certify(net, disguise(net.with_(inner=moved), rng, width=40), rel_eps=1e-6)
    return {
        "activation": activation,
        "same": {"verdict": same.verdict, "upper": same.upper, "orbit": same.orbit_distance.value},
        "other": {
            "verdict": other.verdict,
            "lower": other.lower,
            "orbit": other.orbit_distance.lower,
            "degree": other.separation_degree,
        },
    }


def spread_biases(folder: Path, *, atoms: int) -> dict[str, Any]:
    """Φ(x/√2) against Σ_i ω_i Φ(x − z_i) with the Gauss–Hermite rule (z, ω) of N(0, 1).

    E_Z Φ(x − Z) = P(Z + Z′ ≤ x) = Φ(x/√2) for independent standard Z, Z′: as n grows the n atoms, all of weight 1,
    tend to one atom of weight 1/√2 as functions, and to a Gaussian of biases as measures.
    """
    from sparsemf.pipeline.certify import certify

    del folder
    nodes, weights = np.polynomial.hermite_e.hermegauss(atoms)
    weights = weights / math.sqrt(2 * math.pi)
    kept = weights > 1e-300
    many = Network(
        outer=weights[kept][:, None], inner=np.ones((int(kept.sum()), 1)), bias=-nodes[kept],
        activation=get("normal_cdf"), scale=1.0,
    )  # fmt: skip
    one = Network(
        outer=np.ones((1, 1)), inner=np.full((1, 1), 1 / math.sqrt(2)), bias=np.zeros(1), activation=get("normal_cdf"),
        scale=1.0,
    )  # fmt: skip
    found = certify(one, many, rel_eps=1e-3)
    return {
        "atoms": int(kept.sum()),
        "upper": found.upper,
        "lower": found.lower,
        "orbit_lower": found.orbit_distance.lower,
        "orbit_upper": found.orbit_distance.value,
        "verdict": found.verdict,
    }


def depths(folder: Path, *, example: str) -> dict[str, Any]:
    """Depth brackets of one example of docs/depths, and whether the independent checker confirms them."""
    from sparsemf.pipeline.depth import depth
    from sparsemf.pipeline.verify import verify

    del folder
    net, free = _example(example)
    document = depth(net, free=free).document()
    return {
        "example": example,
        "confirmed": verify(document, {"a": net}).valid,
        "d_var": document["d_var"]["generic"],
        "pointwise": document["d_var"]["pointwise"],
        "d_orb": document["d_orb"]["near"],
        "other": document["d_orb"]["other"],
        "singular": document["d_var"]["singular"],
    }


EXAMPLES = {
    "gelu, ‖w‖ = 3": "one neuron, no bias, free output offset; (a, ‖w‖) = (3.26364, 0.919218) shares T₁, T₂, T₃",
    "gelu, ‖w‖ = √2": "a singular point: the generic depth is not the pointwise one",
    "erf, 3 atoms": "no biases, independent directions in R⁴",
    "tanh, 2 atoms": "no biases, independent directions in R⁴",
    "quadratic, 2 atoms": "only Σ a w wᵀ is seen",
    "cubic, 2 atoms": "only Σ a w⊗w⊗w is seen",
}


def _example(name: str) -> tuple[Network, str | None]:
    sigma, _, rest = name.partition(", ")
    if rest.startswith("‖w‖"):
        length = math.sqrt(2) if rest.endswith("√2") else 3.0
        return Network(np.ones((1, 1)), np.array([[length]]), None, sigma), "offset"
    rng = np.random.default_rng(5)
    count = int(rest.split()[0])
    return Network(rng.standard_normal((count, 1)), rng.standard_normal((count, 4)), None, sigma), None


def power_sums(folder: Path) -> dict[str, Any]:
    """Equal outer weights, d = 1, four atoms, even power sums: p₂, p₄, p₆ and p₁ of two lists agree, p₈ does not."""
    from sparsemf.identifiability.depths import power_sum_depths

    del folder
    found = power_sum_depths([-1.99, -0.69, 0.55, 1.90], (1, 2, 4, 6, 8), seed=0)
    return {name: np.asarray(value).tolist() if isinstance(value, np.ndarray) else value for name, value in
            vars(found).items()}  # fmt: skip


def steps(quick: bool) -> list[Step]:
    """What is computed."""
    sizes = (2, 4, 8, 16, 32) if quick else (2, 4, 8, 16, 32, 64)
    seeds = range(1 if quick else 4)
    return [
        *(Step(f"pair-{a}-{s}", pair, {"activation": a, "seed": s}) for a in _ACTIVATIONS for s in seeds),
        *(Step(f"depths-{name}", depths, {"example": name}) for name in EXAMPLES),
        Step("power-sums", power_sums),
        *(Step(f"biases-{n}", spread_biases, {"atoms": n}) for n in sizes),
    ]


def conclude(found: Mapping[str, dict[str, Any]]) -> Claim:
    """The claim from the results of :func:`steps`."""
    pairs = [r for k, r in found.items() if k.startswith("pair-")]
    same = sum(r["same"]["verdict"] == "equivalent" for r in pairs)
    other = sum(r["other"]["verdict"] == "distinct" for r in pairs)
    spread = sorted((r for k, r in found.items() if k.startswith("biases-")), key=lambda r: r["atoms"])
    last = spread[-1]
    answers = [
        Answer(
            "Networks are one function exactly when their atoms agree modulo the symmetry",
            "reading" if same == other == len(pairs) else "undecided",
            f"For finitely many atoms: {same} of {len(pairs)} disguised pairs (split, rescaled, flipped, padded, "
            "permuted) are certified equivalent with orbit distance up to "
            f"{max(r['same']['orbit'] or 0 for r in pairs):.1g}, and {other} of {len(pairs)} with one atom moved "
            "by about 1e-3 are certified distinct, with the degree of a Hermite tensor that separates them.",
        ),
        Answer(
            "The same for general measures over neurons",
            "fails" if last["orbit_lower"] and last["orbit_lower"] > 100 * last["upper"] else "undecided",
            f"E_Z Φ(x − Z) = Φ(x/√2): a Gaussian of biases is one atom of another weight.  {last['atoms']} atoms "
            f"on its Gauss–Hermite nodes are within {last['upper']:.1e} of the one atom (certified), and at orbit "
            f"distance ≥ {last['orbit_lower'] or 0:.2f} from it (certified).  With biases, identifiability is a "
            "theorem about finite dictionaries only.",
        ),
    ]
    if seen := [r for k, r in found.items() if k.startswith("depths-")]:
        answers.append(_depth_answer(seen))
    series = [
        {"label": "‖f − g‖ ≤", "points": [(r["atoms"], r["upper"]) for r in spread]},
        {"label": "orbit ≥", "points": [(r["atoms"], r["orbit_lower"]) for r in spread if r["orbit_lower"]]},
    ]
    title = "n atoms on a Gaussian of biases against one atom: functions meet, measures do not"
    figures = [Figure(title, "n", "distance", series, "certificate")]
    rows = [
        [r["activation"], r["same"]["verdict"], f"{r['same']['upper']:.1e}", r["other"]["verdict"],
         f"{r['other']['lower']:.1e}", str(r["other"]["degree"])]
        for r in pairs
    ]  # fmt: skip
    tables = [
        Listing(
            "Five atoms against a disguise with 40 neurons, and against one with an atom moved",
            ["activation", "disguise", "‖f − g‖ ≤", "moved", "‖f − g‖ ≥", "separated at degree"],
            rows,
            "certificate",
        )
    ]
    if seen:
        sums = found["power-sums"]
        row = ["four equal outer weights, d = 1", str(sums["variety"]), "–", f"≥ {sums['next_depth']}", "no: estimate"]
        row.append("Taylor moments: p₁, p₂, p₄, p₆ are shared with another list, p₈ is not")
        tables.append(
            Listing(
                "Depths by example",
                ["example", "D_var generic", "D_var there", "D_orb near it", "checked", "what it is"],
                [
                    [r["example"], _span(r["d_var"]), _span(r["pointwise"]), _span(r["d_orb"]),
                     "yes" if r["confirmed"] else "NO", EXAMPLES[r["example"]]]
                    for r in seen
                ]
                + [row],
                "certificate",
            )
        )  # fmt: skip
    return Claim(
        "identifiability",
        "Identifiability modulo the realization symmetry",
        "Two measures give the same function exactly when their active components agree modulo the finite-rank "
        "realization symmetry; an orbit depth D*_orb is separated from a moment-variety depth D*_var.",
        "The symmetry of each activation is that of docs/mathematics; D_var is where the Hermite tensors T_k, k ≤ "
        "D, determine the atoms locally, D_orb where they determine the orbit.",
        answers,
        figures,
        tables,
        {"equivalent": [same, len(pairs)], "distinct": [other, len(pairs)]},
    )


def _span(bracket: Mapping[str, Any]) -> str:
    low, high = bracket["lower"], bracket["upper"]
    return str(low) if low == high else f"≥ {low}" if high is None else f"{low} to {high}"


def _depth_answer(seen: list[dict[str, Any]]) -> Answer:
    known = [r for r in seen if r["confirmed"] and r["d_var"]["upper"] is not None]
    apart = [r for r in known if r["d_orb"]["lower"] > r["d_var"]["upper"]]
    within = [(r["example"], r["singular"][0]["within"]) for r in seen if r["singular"]]
    words = "; ".join(f"{r['example']}: D_var = {_span(r['d_var'])}, D_orb = {_span(r['d_orb'])}" for r in apart)
    return Answer(
        "The orbit depth is separated from the moment-variety depth",
        "reading" if apart else "undecided",
        f"{words or 'no example came out apart'}; certificates confirmed by the checker.  The statement is about "
        "generic parameters: "
        + (
            "; ".join(f"at {name} some point within {radius:.1g} is singular" for name, radius in within)
            or "no singular point was found"
        )
        + ", where the pointwise depth is larger than the generic one.",
    )
