"""Certificates of S* at ε = 0: the checker's own count against the prover's, and lies about it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import sparsemf
from cases import ACTIVATIONS, planted_gated
from rewriting import rewritten
from sparsemf.certificates.checker import exact
from sparsemf.certificates.checker.document import Refused, seal
from sparsemf.certificates.equivalence import raw_of
from sparsemf.certificates.exact import exact_count
from sparsemf.certificates.exact_gated import DECIDED
from sparsemf.exceptions import InputError
from sparsemf.measures import Empirical, Gaussian, Network
from sparsemf.pipeline.verify import verify

UNKNOWN = ("cubic", "hermite")


def small(rng: np.random.Generator, name: str, m: int | None = None) -> Network:
    """Small whole numbers, among which equal, opposite and cancelling atoms are frequent."""
    d, outputs, atoms = (int(v) for v in rng.integers([1, 1, 0], [4, 4, 7]))
    outputs = m or outputs
    return Network(
        rng.integers(-2, 3, (atoms, outputs)), rng.integers(-2, 3, (atoms, d)), rng.integers(-2, 3, atoms), name
    )


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if not name.startswith(UNKNOWN)])
def test_two_counts_agree(name: str) -> None:
    rng = np.random.default_rng(len(name))
    for _ in range(25):
        net = small(rng, name, 1 if name == "quadratic" else None)
        for f in (net, rewritten(rng, net)):
            low, high, counts = exact.count(raw_of(f))
            found = exact_count(f, width=False)
            assert counts == found.counts
            assert max(low, found.lower) <= min(high, found.upper)
            if found.certified and found.evidence.get("kinks", 0) <= 14:
                assert low == high == found.value


@pytest.mark.parametrize("name", [*DECIDED, "linear"])
def test_two_counts_of_gated_blocks_agree(name: str) -> None:
    rng = np.random.default_rng(len(name) + 40)
    for _ in range(15):
        n, d, m = (int(v) for v in rng.integers([0, 1, 1], [8, 4, 4]))
        net = Network(
            rng.integers(-1, 2, (n, m)), rng.integers(-1, 2, (n, d)), rng.integers(-1, 2, n), name,
            gate=rng.integers(-1, 2, (n, d)).astype(float), gate_bias=rng.integers(-1, 2, n).astype(float),
        )  # fmt: skip
        low, high, counts = exact.count(raw_of(net))
        found = exact_count(net, width=False)
        assert found.certified
        assert (low, high, counts) == (found.value, found.value, "atoms")


def test_forms_with_a_quadratic_part_and_a_silent_scale() -> None:
    rng = np.random.default_rng(2)
    w = rng.integers(-3, 4, (2, 5)).astype(float)
    form = -2.0 * np.outer(w[0], w[0])  # cancels the first atom exactly
    net = Network(np.array([[2.0], [1.0]]), w, None, "quadratic", quadratic=form[None])
    assert exact.count(raw_of(net)) == (1, 1, "rank")
    assert exact.count(raw_of(net.with_(scale=0.0))) == (1, 1, "rank")
    assert exact.count(raw_of(net.with_(scale=0.0, quadratic=None))) == (0, 0, "rank")


def test_last_bits_and_extremes() -> None:
    one = np.array([[1.0, 1.0], [1.0, np.nextafter(1.0, 2.0)], [1e-300, 1e-300], [-5e-324, -5e-324]])
    net = Network(np.ones((4, 1)), one, np.zeros(4), "relu")
    assert exact.count(raw_of(net))[:2] == (2, 2)
    opposite = net.with_(outer=np.array([[1.0], [1.0], [-1e100], [0.0]]), inner=np.array(
        [[1.0, 1.0], [1.0, np.nextafter(1.0, 2.0)], [1e-100, 1e-100], [1.0, 0.0]]))  # fmt: skip
    # 1e100·1e-100 is not 1 in floating point's rationals
    assert exact.count(raw_of(opposite))[:2] == (2, 2)


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "sin", "hardtanh", "relu2", "exp", "quadratic"])
def test_certificate_is_verified_and_lies_are_not(name: str) -> None:
    rng = np.random.default_rng(5)
    net = Network(rng.standard_normal((7, 1)), rng.standard_normal((7, 9)), rng.standard_normal(7), name)
    found = sparsemf.analyze(net)
    document = json.loads(json.dumps(found.exact_certificate()))
    assert document["claim"]["certified"]
    assert document["claim"]["upper"] == 7
    proof = verify(document, {"a": net})
    assert proof.valid
    assert proof.reason == "the claim follows from the networks"
    assert proof.facts == {"S* at least": 7, "S* at most": 7}
    lies = [
        {"lower": 8, "upper": 8},
        {"lower": 6, "upper": 6},
        {"upper": 6, "lower": 5, "certified": False},
        {"certified": False},
        {"eps": [0.0, 1e-9]},
        {"eps": [0.0, None]},
        {"counts": "neurons"},
        {"lower": -1, "certified": False},
        {"lower": 7.0},
        {"upper": True},
    ]
    for lie in lies:
        told = {**document, "claim": {**document["claim"], **lie}}
        assert not verify({**told, "seal": seal(told)}, {"a": net}).valid, lie
    weaker = {**document, "claim": {**document["claim"], "lower": 3, "certified": False}}
    assert verify({**weaker, "seal": seal(weaker)}, {"a": net}).valid
    assert not verify(weaker, {"a": net}).valid  # not sealed
    other = net.with_(bias=net.bias + 1e-16 * (net.bias == net.bias[0]))
    moved = net.with_(outer=np.where(np.arange(7)[:, None] == 3, 0.0, net.outer))
    assert verify(document, {"a": other}).valid == bool(np.array_equal(other.bias, net.bias))
    assert not verify(document, {"a": moved}).valid


def test_laws_without_full_support_prove_no_lower_end() -> None:
    rng = np.random.default_rng(6)
    net = Network(rng.standard_normal((3, 1)), rng.standard_normal((3, 4)), rng.standard_normal(3), "exp")
    root = rng.standard_normal((4, 4))
    flat = root.copy()
    flat[:, 0] = 0.0
    full = sparsemf.analyze(net, Gaussian(np.zeros(4), root)).exact_certificate()
    assert full["claim"]["lower"] == 3
    assert verify(full, {"a": net}).valid
    partial = sparsemf.analyze(net, Gaussian(np.zeros(4), flat)).exact_certificate()
    assert (partial["claim"]["lower"], partial["claim"]["upper"]) == (0, 3)
    told = {**partial, "claim": {**partial["claim"], "lower": 3, "certified": True}}
    assert not verify({**told, "seal": seal(told)}, {"a": net}).valid
    law = Empirical(rng.standard_normal((20, 4)))
    on_data = sparsemf.analyze(net.with_(activation="tanh"), law).exact_certificate()
    assert on_data["claim"]["lower"] == 0


def test_what_the_checker_does_not_know_is_said() -> None:
    rng = np.random.default_rng(7)
    net = Network(rng.standard_normal((3, 2)), rng.standard_normal((3, 4)), None, "cubic")
    with pytest.raises(InputError, match="knows no exact count for cubic"):
        sparsemf.analyze(net).exact_certificate()
    for name in ("leaky_relu(1.0)", "elu(0.0)"):
        with pytest.raises((Refused, KeyError)):
            exact.count(replace(raw_of(net), activation=name))


def test_gated_blocks_have_an_exact_certificate() -> None:
    net = planted_gated(np.random.default_rng(8), "silu", atoms=5)
    document = sparsemf.analyze(net).exact_certificate()
    assert document["claim"]["upper"] == document["claim"]["lower"] == exact_count(net).value
    assert verify(document, {"a": net}).valid


def test_wide_relu_networks_are_counted_in_seconds() -> None:
    rng = np.random.default_rng(9)
    n, d = 1500, 100
    inner, bias, outer = rng.standard_normal((n, d)), rng.standard_normal(n), rng.standard_normal((n, 3))
    twin = Network(
        np.concatenate([0.25 * outer, 0.75 * outer]), np.concatenate([inner, -4.0 * inner]),
        np.concatenate([bias, -4.0 * bias]), "relu",
    )  # fmt: skip
    assert exact.count(raw_of(twin))[:2] == (n, n)
