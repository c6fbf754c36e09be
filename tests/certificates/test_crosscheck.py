"""Wrong bounds contradict an estimate by other formulas; right ones never do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from cases import planted, planted_gated
from sparsemf.certificates import crosscheck as module
from sparsemf.certificates import equivalence
from sparsemf.certificates.crosscheck import FALSE_ALARM, GROUPS, crosscheck
from sparsemf.exceptions import InconsistentBounds
from sparsemf.measures import Ball, Empirical, Gaussian, InputLaw, Network
from sparsemf.pipeline.certify import certify, document
from sparsemf_cli.main import exit_code

RNG = np.random.default_rng(71)
F = planted(RNG, "gelu", d=3, atoms=4, outputs=2, bias=True)
G = F.with_(outer=F.outer + 0.1 * RNG.standard_normal(F.outer.shape))
WIDE = Network(RNG.standard_normal((400, 2)) / 20, RNG.standard_normal((400, 3)), RNG.standard_normal(400), "gelu")
OTHER = WIDE.with_(outer=WIDE.outer + 0.05 * RNG.standard_normal(WIDE.outer.shape) / 20)
GATED = planted_gated(RNG, "silu", d=3, atoms=3, outputs=2)
ROWS = Empirical.of(RNG.standard_normal((50, 3)))
MANY = Empirical.of(RNG.standard_normal((5000, 3)))
NORMAL = Gaussian.standard(3)
SHIFTED = Gaussian.of([0.3, 0.0, -0.2], np.diag([0.5, 1.0, 0.0]))

CASES: dict[str, tuple[Network, Network, InputLaw, Ball | None]] = {
    "closed form": (F, G, NORMAL, None),
    "closed form, shifted": (F, G, SHIFTED, None),
    "draws": (WIDE, OTHER, NORMAL, None),
    "draws, shifted": (WIDE, OTHER, SHIFTED, None),
    "draws, gated": (GATED, GATED.with_(outer=1.1 * GATED.outer), NORMAL, None),
    "draws, two activations": (F, G.with_(activation="silu"), NORMAL, None),
    "all rows": (F, G, ROWS, None),
    "some rows": (F, G, MANY, None),
    "ball": (F, G, NORMAL, Ball(2.0)),
}
BOTH = ("closed form", "closed form, shifted", "all rows")


def truth(a: Network, b: Network, law: InputLaw, domain: Ball | None) -> float:
    rng = np.random.default_rng(72)
    x = law.x if isinstance(law, Empirical) else law.sample(200_000, rng)
    size = np.linalg.norm(a(x) - b(x), axis=1)
    if domain is not None:
        x = rng.standard_normal((100_000, a.d))
        x *= domain.radius / np.linalg.norm(x, axis=1)[:, None]
        size = np.linalg.norm(a(x) - b(x), axis=1)
        return float(size.max())
    return float(np.sqrt(np.mean(size**2)))


@pytest.mark.parametrize("name", CASES)
def test_estimates_are_near_the_truth(name: str) -> None:
    a, b, law, domain = CASES[name]
    size = truth(a, b, law, domain)
    found = crosscheck(a, b, law, domain, 0.97 * size, 1.03 * size, 0)
    assert found.estimate is not None
    assert found.method.split()[0] == {"closed": "closed-form", "draws": "both", "some": "both", "all": "all"}.get(
        name.split()[0].rstrip(","), "values"
    )
    if domain is None:
        assert found.error is not None
        assert abs(found.estimate - size) <= 6 * found.error + 0.01 * size
    else:
        assert 0.8 * size <= found.estimate <= 1.001 * size


@pytest.mark.parametrize("name", CASES)
def test_an_upper_bound_that_is_too_low_is_found(name: str) -> None:
    a, b, law, domain = CASES[name]
    size = truth(a, b, law, domain)
    factor = 0.98 if name in BOTH else 0.5 if domain is not None else 0.25
    with pytest.raises(InconsistentBounds, match="certified"):
        crosscheck(a, b, law, domain, 1e-3 * size, factor * size, 0)


@pytest.mark.parametrize("name", BOTH)
def test_a_lower_bound_that_is_too_high_is_found(name: str) -> None:
    a, b, law, domain = CASES[name]
    size = truth(a, b, law, domain)
    with pytest.raises(InconsistentBounds, match="certified"):
        crosscheck(a, b, law, domain, 1.02 * size, 2 * size, 0)


def test_a_lower_bound_beyond_the_slope_is_found_by_draws() -> None:
    """One wide linear-like atom, L far above its Lipschitz constant: the second test applies."""
    a = Network([[1.0]], [[1.0, 0.0, 0.0]], None, "softsign")
    b = a.with_(outer=[[0.0]])
    honest = crosscheck(a, b, NORMAL, None, 1e-3, 1.0, 0)
    assert honest.tested == ("upper",)
    with pytest.raises(InconsistentBounds, match="≥"):
        crosscheck(a, b, NORMAL, None, 5.0, 6.0, 0)


def test_the_false_alarm_probability_is_what_is_stated() -> None:
    half = GROUPS // 2
    tail = sum(math.comb(GROUPS, k) * 7.0 ** (GROUPS - k) for k in range(half, GROUPS + 1)) / 8.0**GROUPS
    assert tail < FALSE_ALARM


def test_rare_events_raise_no_alarm() -> None:
    """Neurons that are active once in a thousand draws, with the true norm as both bounds."""
    rng = np.random.default_rng(73)
    for seed in range(30):
        w = rng.standard_normal((1, 3))
        a = Network([[1.0]], w, [-3.2 * np.linalg.norm(w)], "relu")
        wide = a.with_(outer=np.ones((300, 1)) / 300, inner=np.repeat(w, 300, axis=0), bias=np.repeat(a.bias, 300))
        size = truth(a, a.with_(outer=[[0.0]]), NORMAL, None)
        crosscheck(wide, wide.with_(outer=0.0 * wide.outer), NORMAL, None, 0.9 * size, 1.1 * size, seed)


def test_equal_networks_are_equal_up_to_rounding() -> None:
    for a in (F, WIDE, GATED):
        turn = np.random.default_rng(0).permutation(a.width)
        fields = ("outer", "inner", "bias") + (("gate", "gate_bias") if a.gated else ())
        b = a.with_(**{k: getattr(a, k)[turn] for k in fields})
        found = crosscheck(a, b, NORMAL, None, 0.0, 1e-15, 0)
        assert found.estimate is not None
        assert found.error is not None
        assert found.estimate <= found.error < 1e-10


def test_values_beyond_the_range_of_numbers_are_not_estimated() -> None:
    a = Network([[1.0]], [[1.0, 0.0, 0.0]], [800.0], "exp")
    found = crosscheck(a, a.with_(activation="relu"), NORMAL, None, 0.0, math.inf, 0)
    assert (found.estimate, found.tested) == (None, ())


@pytest.mark.parametrize("end", ["lower", "upper"])
def test_nothing_is_published_that_is_contradicted(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checker with a mistake: its bounds are a tenth, or ten times the truth.  The command would exit with 70."""
    real = equivalence.checked.prove
    factor = {"lower": 10.0, "upper": 0.1}[end]

    def wrong(*args: Any) -> Any:
        found = real(*args)
        return type(found)(factor * found.lower, factor * found.upper, found.degrees)

    monkeypatch.setattr(equivalence.checked, "prove", wrong)
    with pytest.raises(InconsistentBounds):
        certify(F, G)
    assert exit_code(lambda: certify(F, G)) == 70


def test_the_document_holds_the_estimate() -> None:
    found = document(certify(F, G), F, G)
    assert found["crosscheck"]["kind"] == "estimate"
    assert found["bounds"]["lower"] <= found["crosscheck"]["estimate"] + found["crosscheck"]["error"]
    assert found["crosscheck"]["estimate"] - found["crosscheck"]["error"] <= found["bounds"]["upper"]
    assert module.CrossCheck(**{k: v for k, v in found["crosscheck"].items() if k != "kind"}).tested
