"""Corners of Gram forms of many degrees, and of gated blocks whose polynomial part is charged."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from cases import planted, planted_gated
from sparsemf.certificates import equivalence
from sparsemf.certificates.checker import hermite, series
from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.catalogue import CORES
from sparsemf.certificates.checker.equivalence import HIGHEST_DEGREE, Proved
from sparsemf.certificates.checker.expansion import expanded
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.equivalence import certify_pair, raw_of
from sparsemf.measures import Network
from sparsemf.pipeline.analyze import analyze
from sparsemf.pipeline.verify import verify

FLOAT = Arithmetic(0)


@pytest.mark.parametrize("gated", [False, True])
def test_a_certificate_where_no_gram_form_can_be_afforded(gated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many neurons for the Gram form of any degree: the distance was not bounded at all."""
    monkeypatch.setattr(series, "MOST_TERMS", 1e3)
    rng = np.random.default_rng(0)
    net = planted_gated(rng, "silu", 4, 3, 2) if gated else planted(rng, "tanh", d=3, atoms=3)
    moved: dict[str, Any] = {name: np.repeat(getattr(net, name), 3, axis=0) for name in ("inner", "outer")}
    moved["inner"] = moved["inner"] + 0.02 * rng.standard_normal(moved["inner"].shape)
    moved["bias"] = np.repeat(net.bias, 3)
    if gated:
        moved |= {name: np.repeat(getattr(net, name), 3, axis=0) for name in ("gate", "gate_bias")}
    cloud = net.with_(**moved)
    document = json.loads(json.dumps(analyze(cloud, rel_eps=0.05).certificate()))
    report = verify(document, {"a": cloud})
    assert report.valid, report.reason


def test_balls_take_few_degrees_where_their_form_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,200 neurons in balls: after float64 has tried all degrees in vain, 1,024 of them would take hours."""
    asked: list[tuple[int, int]] = []

    def nothing(_n: Norm, _a: Any, _b: Any, evidence: dict[str, Any], _known: Any = None) -> Proved:
        asked.append((evidence["bits"], evidence["degree"]))
        return Proved(0.0, float("inf"))

    monkeypatch.setattr(equivalence.checked, "prove", nothing)
    rng = np.random.default_rng(0)
    a, b = (Network(rng.standard_normal((600, 1)), rng.standard_normal((600, 2)), activation="tanh") for _ in "ab")
    monkeypatch.setattr(equivalence, "crosscheck", lambda *_args, **_kwargs: None)
    search = equivalence._Search(
        a, b, raw_of(a), raw_of(b), equivalence.Gaussian.standard(2), None, Norm("gaussian"), 1e-3, None, 0
    )
    search.run()
    assert max(k for bits, k in asked if not bits) == HIGHEST_DEGREE
    assert max(k for bits, k in asked if bits) <= 32


def test_what_a_certificate_may_ask_for_is_limited() -> None:
    """Degrees times nodes, and times neurons, beyond some gigabytes of weights and coefficients are refused."""
    steep = np.array([100.0])
    with FLOAT.precision():
        assert hermite.coefficients(FLOAT, CORES["tanh"], steep, np.zeros(1), 8)[1] < 1e-6
        with pytest.raises(Undefined, match="degrees"):
            hermite.coefficients(FLOAT, CORES["tanh"], steep, np.zeros(1), HIGHEST_DEGREE)
    many = Network(np.ones((20_000, 1)), np.ones((20_000, 1)), activation="tanh")
    h = expanded(FLOAT, (raw_of(many), 1.0))
    with FLOAT.precision(), pytest.raises(Undefined, match="degrees"):
        series.spectrum(FLOAT, Norm("gaussian"), h, HIGHEST_DEGREE)


@pytest.mark.parametrize("seed", [0, 1])
def test_balls_decide_what_float64_rounds(seed: int) -> None:
    """Near-copies of a gated block: the form's proven rounding error is some thirty times what it really rounds."""
    rng = np.random.default_rng(seed)
    n, d, relative = 2, 10, 3e-6
    block: dict[str, Any] = {
        "outer": rng.standard_normal((n, 1)),
        "gate": 5.5 * rng.standard_normal((n, d)) / np.sqrt(d),
        "gate_bias": rng.standard_normal(n),
        "inner": rng.standard_normal((n, d)) / np.sqrt(d),
        "bias": rng.standard_normal(n),
    }
    moved = {name: x * (1 + relative * rng.standard_normal(x.shape)) for name, x in block.items()}
    a, b = (Network(activation="silu", **x) for x in (block, moved))
    x = rng.standard_normal((4000, d))
    distance = float(np.sqrt(np.mean((a(x) - b(x)) ** 2)))
    assert certify_pair(a, b, eps=1.6 * distance).verdict == "equivalent"
