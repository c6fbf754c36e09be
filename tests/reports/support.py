"""Documents with known numbers, and a reader of pages that insists on balanced tags."""

from __future__ import annotations

import copy
import math
import re
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "br", "input", "hr", "img", "link"}
SELF_CLOSED = {"circle", "path", "rect"}


class Page(HTMLParser):
    """A page taken apart: its text, its numbers, its ids; raises on a tag that does not fit."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.numbers: set[str] = set()
        self.ids: list[str] = []
        self.feed(html)
        self.close()
        if self.stack:
            raise AssertionError(f"never closed: {self.stack}")

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in SELF_CLOSED | VOID:
            raise AssertionError(f"<{tag}/> is not allowed in HTML")
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if not self.stack or self.stack[-1] != tag:
            raise AssertionError(f"</{tag}> closes {self.stack[-3:]}")
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.stack):
            self.words.append(data)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            raise AssertionError(f"<{tag}> has an attribute twice: {names}")
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "data":
            self.numbers.add(str(found["value"]))
        if found.get("id"):
            self.ids.append(str(found["id"]))


def stairs(n: int, s_star: int, high: float = 0.3, low: float = 2.5e-4) -> list[dict[str, Any]]:
    """Curves that fall from ``high`` to ``low`` at ``s_star`` and on to rounding at ``n``."""
    rows = []
    for size in range(n + 1):
        if size < s_star:
            upper, lower = 1.02 * high * (1 + s_star - size), high * (1 + s_star - size - 1) + high
        else:
            upper = low * 0.9 ** (size - s_star)
            lower = 0.3 * upper if size < s_star + 6 else 0.0
        if size == n and n > s_star:
            upper = 1e-12
        rows.append({"S": size, "upper": upper, "lower": min(lower, upper), "lower_directions": min(lower, upper)})
    return rows


def analyze_document(n: int = 60, s_star: int = 5, d: int = 4, m: int = 1, block: str = "main") -> dict[str, Any]:
    """A certified document of `sparsemf analyze` with ``s_star`` atoms out of ``n`` neurons."""
    rows = stairs(n, s_star)
    low = rows[s_star]["upper"]
    high = rows[s_star - 1]["lower"] if s_star else None
    atoms = [
        {
            "w": [math.cos(k + j) for j in range(d)],
            "b": 0.1 * k,
            "alpha": [1.5 - 0.01 * k + j for j in range(m)],
            "particles": 10 + k,
            "spread": 0.01 * (k + 1),
        }
        for k in range(s_star)
    ]
    label = [k for k, atom in enumerate(atoms) for _ in range(atom["particles"])]
    return {
        "schema": "sparsemf/analyze/1",
        "tool": "sparsemf",
        "version": "0.1.0",
        "input": {
            "path": "student.safetensors",
            "sha256": "ab" * 32,
            "block": block,
            "activation": "relu",
            "d": d,
            "m": m,
            "width": n,
            "precision": "float64",
        },
        "config": {"rho": "gaussian", "eps": None, "rel_eps": None, "resolution": 1e-6},
        "arithmetic": "float64 with a stated rounding margin",
        "active": {"width": n, "inactive": {"zero_outer": 3, "constant": 1}, "domain_inactive": {}},
        "quotient": {"width": n, "flips": 17, "merged": 2, "cancelled": 0, "affine_norm": 2.25, "error": 1.5e-12},
        "function_norm": 1.5739,
        "function_norm_bounds": {"lower": 1.57389, "upper": 1.57391},
        "norm_beyond_affine": 0.8159,
        "energy": {"constant": 0.1, "linear": 0.6, "beyond_affine": 0.3},
        "dictionary": {"size": s_star, "atoms": atoms, "affine": {"A": [[0.0] * d] * m, "c": [0.0] * m}, "error": low},
        "s_star": {
            "value": s_star,
            "certified": True,
            "lower": s_star,
            "upper": s_star,
            "eps": [low, high],
            "rel_eps": [low / 1.57391, None if high is None else high / 1.57391],
            "strength": None if high is None else high / low,
            "counts": "atoms",
            "kind": "certificate",
        },
        "staircase": rows,
        "plateaus": [{"S": s_star, "eps": [low, high], "strength": None if high is None else high / low}],
        "resolution": 1e-6,
        "spectra": [
            {"p": 1, "degrees": [2, 20], "counts": "directions", "singular_values": [1.0, 0.1, 1e-7], "margin": 1e-6},
            {"p": 1, "degrees": [2, 20], "counts": "directions", "singular_values": [1.0, 0.1, 1e-7], "margin": 1e-6},
            {
                "p": 2,
                "degrees": [2, 20],
                "counts": "atoms",
                "singular_values": [2.0**-j for j in range(90)],
                "margin": 1e-6,
            },
            {"p": 3, "degrees": [3, 3], "counts": "directions", "singular_values": [1e-17], "margin": 1e-6},
        ],
        "threshold": {
            "eps": 0.00865,
            "lower": s_star,
            "counts": "directions",
            "flattening": {"p": 1, "degrees": [2, 20]},
            "upper": n,
            "coefficient": {"lambda": 0.000144, "value": n, "eps": 0.00125},
            "minimiser": {"lambda": 2.3e-5, "atoms": s_star},
            "kind": "certificate",
        },
        "compressibility": {
            "variation": 3.3125,
            "curves": [
                {"S": k, "maurey": 3.25, "thresholding": 3.25, "stechkin": 7.5, "best": 3.25 / (k + 1)}
                for k in range(n + 1)
            ],
            "kind": "certificate",
        },
        "s_up": {"value": 25, "lambda": 0.0157, "degree": 12, "kind": "a reading that fails", "reason": ""},
        "projection": {
            "particles": [[math.cos(i), math.sin(2 * i)] for i in range(len(label))],
            "weight": [1.0 / (i + 1) for i in range(len(label))],
            "atom": label,
            "atoms": [[math.cos(k), math.sin(k)] for k in range(s_star)],
            "explained": 0.48,
            "shown": len(label),
            "of": len(label),
        }
        if s_star
        else {"particles": [], "atoms": []},
        "warnings": [],
        "timing_s": {"total": 1.25},
    }


def uncertified_document(lower: int, upper: int, eps: float) -> dict[str, Any]:
    """The same network, asked for S* at an ε where the two curves do not meet."""
    document = analyze_document()
    document["s_star"] |= {
        "value": upper,
        "certified": False,
        "lower": lower,
        "upper": upper,
        "eps": [eps, eps],
        "rel_eps": [eps / 1.57391] * 2,
        "strength": 0.4,
        "kind": "bracket",
    }
    document["dictionary"]["error"] = document["staircase"][upper]["upper"]
    document["warnings"] = [f"S* is between {lower} and {upper}: not certified"]
    return document


def certify_document(verdict: str = "equivalent", lower: float = 0.0, upper: float = 5.7e-12) -> dict[str, Any]:
    """A document of `sparsemf certify`."""
    source = analyze_document()["input"] | {"arrays_sha256": "cd" * 32}
    return copy.deepcopy(
        {
            "schema": "sparsemf/certify/2",
            "version": "0.1.0",
            "config": {"rho": "gaussian", "seed": 0},
            "inputs": {"a": source, "b": source | {"path": "copy.safetensors", "sha256": "ef" * 32}},
            "arithmetic": "float64 with a stated rounding margin",
            "verdict": verdict,
            "norm": "l2",
            "radius": None,
            "eps": 0.001574,
            "eps_distinct": 0.001575,
            "rel_eps": 1e-3,
            "bounds": {"lower": lower, "upper": upper},
            "matching": {"matched": 58, "unmatched_a": 2, "unmatched_b": 3, "max_distance": 0.0125},
            "orbit_distance": {"value": 0.625, "dual_gap": 0.5, "method": "creation and destruction only"},
            "witness": {"x": [0.5, -1.25, 3.0], "gap": 0.0625} if lower > 0 else None,
            "separation_degree": 2 if lower > 0 else None,
            "evidence": {},
            "seal": "12" * 32,
            "timing_s": {"total": 0.5},
        }
    )


def depth_document(block: str = "main") -> dict[str, Any]:
    """Brackets of every kind: both ends meet, they do not, no upper end."""

    def bracket(lower: int, upper: int | None) -> dict[str, Any]:
        return {"lower": lower, "upper": upper, "certified": lower == upper, "kind": "certificate"}

    return {
        "schema": "sparsemf/depth/1",
        "input": {"path": "net.safetensors", "block": block, "activation": "gelu", "d": 5, "m": 1, "width": 3},
        "config": {"rho": "gaussian", "bias": True, "free": "none", "seed": 0},
        "family": {"activation": "gelu", "atoms": 3, "d": 5, "m": 1, "bias": True, "free": -1},
        "d_var": {
            "generic": bracket(3, 3),
            "pointwise": bracket(4, 6),
            "worst_case": bracket(4, None),
            "singular": [{"atom": 0, "within": 1e-13, "depth": 3}],
        },
        "d_orb": {
            "near": bracket(4, 6),
            "pointwise": bracket(3, None),
            "worst_case": bracket(4, None),
            "scales": {"r": [0.1, 8.0], "b": [-2.0, 2.0]},
            "other": [{"atom": 1, "depth": 3, "r": 2.5, "b": -0.25, "turn": -1}],
        },
        "estimates": {"d_var": 4, "search": {"depth": 3, "starts": 8, "other_solutions": 2, "kind": "estimate"}},
        "warnings": ["<b>no upper end</b> of D_orb is proved"],
    }


def compress_document(block: str = "main", width: int = 1536, size: int = 96) -> dict[str, Any]:
    """A block of a model, narrowed."""
    return {
        "schema": "sparsemf/compress/1",
        "input": {
            "path": "model.safetensors",
            "block": block,
            "activation": "gelu",
            "d": 384,
            "m": 384,
            "width": width,
        },
        "output": {"path": "small.safetensors", "sha256": "ab" * 32, "block": block, "width": size},
        "config": {"rho": "layernorm", "goal": {"width": size}, "pad": False, "seed": 0},
        "size": size,
        "free_degree": 0,
        "function_norm_bounds": {"lower": 1.0, "upper": 1.0001},
        "error": {"kind": "certificate", "lower": 0.61, "upper": 0.62, "rel_lower": 0.61, "rel_upper": 0.62},
        "limit": {"kind": "certificate", "lower": 0.4, "rel_lower": 0.4, "at_least": 31},
        "staircase_error": 0.62,
        "advice": ["config.json: intermediate_size 1536 → 96"],
    }


def batch_document(sizes: tuple[int, ...] = (9, 5, 3, 1, 1), undecided: bool = True) -> dict[str, Any]:
    """A batch whose networks fall into classes of the given sizes; the last two classes are not told apart."""
    results, classes, edges, number = [], [], [], 0
    for k, size in enumerate(sizes, 1):
        members = [f"net{number + i}--main--{k:012x}" for i in range(size)]
        for name in members:
            results.append({**analyze_document(n=12, s_star=3, block=f"block{number}"), "id": name})
            number += 1
        edges += [
            {"a": members[0], "b": name, "verdict": "equivalent", "lower": 0.0, "upper": 1e-9, "certificate": "c.json"}
            for name in members[1:]
        ]
        kind = "single" if size == 1 else "chain" if k == 2 else "clique"
        classes.append(
            {
                "id": k,
                "members": members,
                "representative": members[0],
                "networks": size,
                "kind": kind,
                "eps": None if size == 1 else 1e-3,
                "diameter": {"lower": 0.0, "upper": 0.0 if size == 1 else 2e-9},
            }
        )
    results[0]["pair"] = {"verdict": "equivalent", "certificate": "certificates/x.json"}
    return {
        "schema": "sparsemf/batch/1",
        "name": "out",
        "failures": [{"path": "broken <1>.pt", "error": "an empty file"}],
        "results": results,
        "classes": {
            "schema": "sparsemf/classes/1",
            "config": {"rel_eps": 1e-3},
            "certified": not undecided,
            "classes": classes,
            "pairs": [],
            "undecided": [[len(sizes) - 1, len(sizes)]] if undecided else [],
            "by_invariants": {"pairs": 2 if undecided else 0, "least": 0.25},
            "edges": edges,
            "failed": [],
            "files": {},
        },
    }
