"""Gated blocks whose polynomial part is charged to the atoms: `analyze --affine offset|charged`."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from cases import planted_gated
from sparsemf.certificates.checker.document import seal
from sparsemf.exceptions import InputError
from sparsemf.identifiability import lower_curve
from sparsemf.measures import Gaussian, Network
from sparsemf.pipeline.analyze import analyze
from sparsemf.pipeline.gated import absorbed
from sparsemf.pipeline.verify import verify
from sparsemf.symmetry import gated_quotient, quotient
from sparsemf_cli.main import cli

Array = np.ndarray
GATES = ["silu", "gelu", "relu", "sigmoid", "tanh", "leaky_relu(0.2)", "sin"]


def without_polynomial(net: Network) -> Network:
    return net.with_(affine=0 * net.affine, offset=0 * net.offset, quadratic=None)


def distance(f: Network, g: Network) -> float:
    """‖f − g‖ in L²(N(0, I)), at least so much but for five standard errors."""
    x = np.random.default_rng(0).standard_normal((40_000, f.d))
    square = np.sum((f(x) - g(x)) ** 2, axis=1)
    return float(np.sqrt(np.mean(square) + 5 * np.std(square) / np.sqrt(x.shape[0])))


def refitted(rng: np.random.Generator, f: Network, size: int, free: int) -> Network:
    """``size`` atoms - f's own, moved ones, or others - refitted to f on samples (with a constant, where that is
    free): a network of the class that the lower curve speaks of."""
    assert f.gate is not None
    assert f.gate_bias is not None
    pick = rng.permutation(f.width)[:size]
    other = rng.random(size) < 0.3
    noise = np.where(other, 1.0, 0.05 * rng.random(size))[:, None]
    gate, inner = (x[pick] * ~other[:, None] + noise * rng.standard_normal((size, f.d)) for x in (f.gate, f.inner))
    shift, bias = f.gate_bias[pick], f.bias[pick] + rng.standard_normal(size) * other
    x = rng.standard_normal((4000, f.d))
    atoms = [
        Network([[1.0]], inner[[s]], bias[[s]], f.activation, gate=gate[[s]], gate_bias=shift[[s]]) for s in range(size)
    ]
    columns = np.concatenate([*(a(x) for a in atoms), np.ones((x.shape[0], 1)) * (free >= 0)], axis=1)
    solution = np.linalg.lstsq(columns, f(x), rcond=None)[0]
    return Network(
        solution[:size], inner, bias, f.activation, gate=gate, gate_bias=shift, offset=solution[size] * (free >= 0)
    )


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize(("affine", "free"), [("offset", 0), ("charged", -1)])
def test_planted_blocks_are_certified(name: str, affine: str, free: int) -> None:
    rng = np.random.default_rng(2)
    planted = without_polynomial(planted_gated(rng, name, 6, 4, 2))
    if free == 0:
        planted = planted.with_(offset=rng.standard_normal(2))
    found = analyze(planted, affine=affine)
    assert (found.s_star.value, found.s_star.certified, found.free) == (4, True, free)
    document = json.loads(json.dumps(found.certificate()))
    assert document["schema"] == "sparsemf/sparsity/6"
    assert document["claim"]["free"] == free
    report = verify(document, {"a": planted})
    assert report.valid, report.reason
    assert document["claim"]["certified"]
    assert document["claim"]["eps"][0] <= found.s_star.eps[0] * (1 + 1e-6)
    # a claim of another kind does not follow
    for change in ({"free": -1 - free}, {"free": 1}, {"free": 2}, {"lower": 5, "upper": 5}):
        lie = {**document, "claim": {**document["claim"], **change}}
        lie["seal"] = seal({key: value for key, value in lie.items() if key != "seal"})
        verdict = verify(lie, {"a": planted})
        # beside a free constant less is claimed than beside nothing: a dictionary without one proves that, too
        assert not verdict.valid or change == {"free": 0}


@pytest.mark.parametrize("name", ["silu", "relu", "sigmoid", "leaky_relu(0.2)", "tanh"])
@pytest.mark.parametrize("free", [0, -1])
@pytest.mark.parametrize(("d", "atoms", "outputs", "shared"), [(2, 4, 1, 0), (5, 3, 3, 1)])
def test_the_lower_curve_is_below_every_network(
    name: str, free: int, d: int, atoms: int, outputs: int, shared: int
) -> None:
    rng = np.random.default_rng(7)
    f = without_polynomial(planted_gated(rng, name, d, atoms, outputs, shared))
    low = lower_curve(quotient(f, free).network, free=free).atoms
    assert low[0] > 0
    for size, _ in itertools.product(range(f.width), range(4)):
        assert low[min(size, low.size - 1)] <= distance(f, refitted(rng, f, size, free))


@pytest.mark.parametrize("name", ["silu", "leaky_relu(0.2)", "sigmoid"])
@pytest.mark.parametrize(("affine", "free"), [("offset", 0), ("charged", -1)])
def test_an_affine_part_costs_atoms(name: str, affine: str, free: int) -> None:
    """f = three atoms + A x + c, A of rank two: five atoms make it (six with a c of its own), constant gates among
    them; prover and checker agree on the whole lower curve."""
    rng = np.random.default_rng(4)
    f = without_polynomial(planted_gated(rng, name, 5, 3, 3))
    f = f.with_(affine=rng.standard_normal((3, 2)) @ rng.standard_normal((2, 5)), offset=rng.standard_normal(3))
    law = Gaussian.of([0.3, -0.2, 0.0, 0.1, 0.5], np.diag([1.0, 0.5, 2.0, 1.0, 0.7]))
    found = analyze(f, law, affine=affine, rel_eps=1e-4)
    count = 3 + 2 + (free < 0)
    assert found.staircase.upper[count] <= 1e-6 * found.norm.upper
    assert found.s_star.upper == count
    document = json.loads(json.dumps(found.certificate()))
    report = verify(document, {"a": f})
    assert report.valid, report.reason
    proved = document["claim"]["lower"], document["claim"]["upper"]
    assert proved == (found.s_star.lower, found.s_star.upper)
    # what is free matters: A costs atoms, provably
    assert found.s_star.lower > analyze(f, law, rel_eps=1e-4).s_star.upper == 3


@pytest.mark.parametrize("free", [0, -1])
def test_absorbed_polynomials_are_the_same_function(free: int) -> None:
    rng = np.random.default_rng(1)
    f = without_polynomial(planted_gated(rng, "silu", 4, 3, 3))
    f = f.with_(affine=rng.standard_normal((3, 4)), offset=rng.standard_normal(3))
    g, lost = absorbed(f, free)
    x = rng.standard_normal((50, 4))
    np.testing.assert_allclose(g(x), f(x), atol=1e-12)
    assert lost < 1e-13
    assert not g.affine.any()
    assert g.offset.any() == (free == 0)


def test_large_blocks_need_no_quadratic_part() -> None:
    """m·d² of 6e7 numbers: a flip would have to store them, where nothing is free no flip is made."""
    rng = np.random.default_rng(0)
    d = 400
    wide = {key: rng.standard_normal((6, d)) / np.sqrt(d) for key in ("inner", "gate")}
    f = Network(rng.standard_normal((6, d)), activation="silu", **wide)
    with pytest.raises(InputError, match="--affine"):
        gated_quotient(f)
    found = analyze(f, affine="charged")
    assert (found.s_star.value, found.s_star.certified) == (6, True)


def test_what_cannot_be_charged_is_said() -> None:
    rng = np.random.default_rng(0)
    block: dict[str, Any] = {key: rng.standard_normal((3, 2)) for key in ("inner", "gate")}
    with pytest.raises(InputError, match="linear gate"):
        analyze(Network(np.ones((3, 1)), activation="linear", **block), affine="charged")
    with pytest.raises(InputError, match="--affine free"):
        analyze(Network(np.ones((3, 1)), activation="relu2", **block), affine="charged")
    with pytest.raises(InputError, match="quadratic part"):
        analyze(Network(np.ones((3, 1)), activation="silu", quadratic=np.ones((1, 2, 2)), **block), affine="offset")


def test_the_command_on_a_model_s_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user meets it: names of a Llama file, no biases, half-precision numbers."""
    rng = np.random.default_rng(0)
    shapes = {"gate_proj": (6, 8), "up_proj": (6, 8), "down_proj": (8, 6)}
    state = {f"model.layers.0.mlp.{k}.weight": rng.standard_normal(s).astype(np.float16) for k, s in shapes.items()}
    monkeypatch.chdir(tmp_path)
    save_file(state, "model.safetensors")
    options = ["--activation", "silu", "--affine", "charged", "--cert", "c.json", "--html", "r.html"]
    found = CliRunner().invoke(cli, ["analyze", "model.safetensors", *options])
    assert found.exit_code == 0, found.output
    assert "free: nothing" in found.stdout
    assert CliRunner().invoke(cli, ["verify", "c.json"]).exit_code == 0
    assert "Nothing is free" in Path("r.html").read_text(encoding="utf-8")
