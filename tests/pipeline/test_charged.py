"""``analyze(affine="offset" | "charged")``: planted truth, flips, laws, certificates and lies about them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import sparsemf
from cases import ANALYSED, planted, planted_gated
from sparsemf import Gaussian, Network, reports
from sparsemf.certificates.checker.document import seal
from sparsemf.certificates.checker.raw import decode, encode
from sparsemf.checkpoints import save
from sparsemf.exceptions import InputError
from sparsemf.pipeline.analyze import Analysis
from sparsemf.pipeline.charged import enough_atoms, reoriented
from sparsemf.recovery import Effort
from sparsemf.symmetry import disguise, quotient
from sparsemf_cli.main import cli as main

QUICK = Effort(few=1, drops=0, joint=0)
PAIR = [[1.0, 0.5], [-1.0, -0.5]]


def certificate(found: Analysis, net: Network) -> dict[str, Any]:
    """The certificate through JSON; it is valid, of the new schema, and its dictionary has nothing that is charged."""
    document = json.loads(json.dumps(found.certificate()))
    verified = sparsemf.verify(document, {"a": net})
    assert verified.valid, verified.reason
    assert (document["schema"], document["claim"]["free"]) == ("sparsemf/sparsity/6", found.free)
    assert not decode(document["evidence"]["dictionary"]["affine"]).any()
    assert found.free == 0 or not decode(document["evidence"]["dictionary"]["offset"]).any()
    return document


def root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.sum(values**2, axis=1))))


# --- planted truth ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ANALYSED, "exp", "cubic", "relu2", "hardtanh"])
def test_planted_atoms_without_affine_part_are_certified(name: str) -> None:
    """One output with the linear part charged, four with constants, too; U(S) is what the dictionary does on inputs."""
    rng = np.random.default_rng([1, *name.encode()])
    for outputs, affine, free in ((1, "offset", 0), (4, "charged", -1)):
        if (len(name) + outputs) % 2 and name not in ("relu", "gelu", "tanh"):
            outputs = 5 - outputs
        truth = planted(rng, name, d=6, atoms=4, outputs=outputs, bias=True, length=1.2)
        net = disguise(truth, rng, 12, flips=False)
        found = sparsemf.analyze(net, affine=affine, effort=QUICK)
        assert (found.s_star.value, found.s_star.certified, found.free) == (4, True, free)
        assert found.s_star.strength > 100
        assert (found.staircase.lower <= found.staircase.upper).all()
        x = rng.standard_normal((6000, 6))
        for size, off in ((0, 0.2), (2, 0.2), (4, 0.0)):
            g = found.dictionary_of(size)
            assert not g.affine.any()
            rest = root_mean_square(g(x) - net(x))
            assert rest <= (1 + off) * found.staircase.upper[size] + 1e-5 * found.norm.upper
            assert rest >= (1 - off) * found.staircase.lower[size]
        claim = certificate(found, net)["claim"]
        assert (claim["lower"], claim["upper"], claim["certified"]) == (4, 4, True)


@pytest.mark.parametrize("affine", ["offset", "charged"])
@pytest.mark.parametrize("name", ["relu", "gelu", "sigmoid", "leaky_relu(0.3)"])
def test_flips_that_a_file_has_paid_for_are_undone(name: str, affine: str) -> None:
    """Flipped neurons leave A and c in the file, which are no part of the function; under N(m, Σ)."""
    rng = np.random.default_rng(2)
    truth = planted(rng, name, d=5, atoms=3, outputs=3, bias=True)
    net = disguise(truth, rng, 15)
    assert net.affine.any() or net.offset.any()
    law = Gaussian(0.3 * rng.standard_normal(5), np.eye(5) + 0.2 * rng.standard_normal((5, 5)))
    found = sparsemf.analyze(net, law, affine=affine, effort=QUICK)
    assert (found.s_star.value, found.s_star.certified) == (3, True)
    assert found.staircase.upper[3] <= 1e-5 * found.norm.upper
    x = law.sample(2000, rng)
    assert root_mean_square(found.dictionary(x) - net(x)) <= 1e-5 * found.norm.upper
    certificate(found, net)


def test_reorienting_leaves_the_function_and_no_affine_part() -> None:
    rng = np.random.default_rng(3)
    truth = planted(rng, "gelu", d=4, atoms=5, outputs=2, bias=True)
    net = disguise(truth, rng, 5)
    seen = quotient(net)
    found = reoriented(seen, 0)
    assert found is not None
    x = rng.standard_normal((300, 4))
    np.testing.assert_allclose(found.network(x), net(x), atol=1e-12)
    assert np.abs(found.network.affine).max() < 1e-12 < np.abs(seen.network.affine).max()
    assert found.network.width == 5
    # half a flip: an atom in both orientations
    half = truth.with_(affine=0.5 * np.outer(truth.alpha[0], truth.inner[0]))
    found = reoriented(quotient(half), 0)
    assert found is not None
    np.testing.assert_allclose(found.network(x), half(x), atol=1e-12)
    assert (found.network.width, np.abs(found.network.affine).max() < 1e-12) == (6, True)
    assert reoriented(quotient(truth.with_(affine=rng.standard_normal((2, 4)), activation="tanh")), 0) is None


@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_a_linear_function_of_two_atoms(name: str) -> None:
    """σ(u) − σ(−u) = u: no atom beside a free affine part; where it is charged, one is not enough near 0."""
    net = Network([[1.0], [-1.0]], PAIR, None, name)
    assert sparsemf.analyze(net).s_star.value == 0
    found = sparsemf.analyze(net, affine="charged", effort=QUICK)
    assert found.staircase.lower[0] == pytest.approx(np.sqrt(1.25), rel=1e-6)
    assert found.staircase.upper[2] <= 1e-6
    # for relu a single atom with any bias leaves a share of u: E over its best multiple
    if name == "relu":
        assert 0.3 < found.staircase.upper[1] <= np.sqrt(1.25)
    certificate(found, net)
    # relu(u + B) is all but u + B: with a free constant one atom comes as close as one likes
    other = sparsemf.analyze(net, affine="offset", effort=Effort(few=2, drops=0, joint=0))
    assert other.staircase.upper[1] < found.staircase.upper[1] + 1e-5


def test_flips_that_cost_nothing_are_free() -> None:
    odd = Network([[1.0], [1.0]], PAIR, None, "tanh")  # tanh(u) + tanh(−u) = 0
    for affine in ("offset", "charged"):
        found = sparsemf.analyze(odd, affine=affine)
        assert (found.s_star.value, found.s_star.certified) == (0, True)
    half = Network([[1.0], [1.0]], PAIR, None, "sigmoid")  # sigmoid(u) + sigmoid(−u) = 1
    assert sparsemf.analyze(half, affine="offset").s_star.value == 0
    found = sparsemf.analyze(half, affine="charged")
    assert found.s_star.value == 1  # the constant
    assert found.staircase.lower[0] == pytest.approx(1.0, rel=1e-6)
    certificate(found, half)


@pytest.mark.parametrize("affine", ["offset", "charged"])
@pytest.mark.parametrize("name", ["relu", "tanh", "abs"])
def test_a_file_with_an_affine_part_of_its_own(name: str, affine: str) -> None:
    """Two atoms and A of rank 3: L counts its large singular values, and no more is charged than the bound says."""
    rng = np.random.default_rng(4)
    net = planted(rng, name, d=6, atoms=2, outputs=4, bias=True)
    u, v = np.linalg.qr(rng.standard_normal((4, 3)))[0], np.linalg.qr(rng.standard_normal((6, 3)))[0]
    last = 0.0
    for size in (3.0, 30.0):
        f = net.with_(affine=(u * size) @ v.T, offset=rng.standard_normal(4))
        found = sparsemf.analyze(f, affine=affine, effort=Effort(few=6, drops=0, joint=0))
        enough = enough_atoms(f, 2, 0, found.free)
        assert (found.staircase.lower[2] > 0.8 * size, found.staircase.lower[2] > 5 * last) == (True, True)
        last = float(found.staircase.lower[2])
        assert found.staircase.upper[min(enough + 4, found.staircase.upper.size - 1)] <= 0.02 * found.norm.upper
        assert (found.staircase.lower[enough + 1 :] <= 1e-6 * found.norm.upper).all()
        certificate(found, f)


def test_charging_more_needs_no_fewer_atoms() -> None:
    """U and L of one file, free, offset, charged: no lower bound crosses an upper bound of what is charged more."""
    rng = np.random.default_rng(5)
    net = planted(rng, "softplus", d=5, atoms=5, outputs=2, bias=True)
    runs = [sparsemf.analyze(net, affine=affine, effort=QUICK).staircase for affine in ("free", "offset", "charged")]
    for i, less in enumerate(runs):
        for more in runs[i:]:
            assert (less.lower[:6] <= more.upper[:6]).all()
            assert (less.lower[:6] <= more.lower[:6] + 1e-9).all()


@pytest.mark.parametrize("affine", ["offset", "charged"])
def test_nothing_and_constants(affine: str) -> None:
    for net in (
        Network(np.zeros((0, 2)), np.zeros((0, 3)), None, "relu"),
        Network(np.zeros((2, 2)), np.ones((2, 3)), None, "gelu", offset=[1.0, 2.0]),
        Network(np.ones((2, 2)), np.zeros((2, 3)), [1.0, 2.0], "tanh"),
    ):
        found = sparsemf.analyze(net, affine=affine)
        level = affine == "charged" and found.norm.upper > 0
        assert (found.s_star.value, found.s_star.certified) == (int(level), True)
        certificate(found, net)
    plane = Network(np.zeros((0, 2)), np.zeros((0, 3)), None, "tanh", affine=np.arange(6.0).reshape(2, 3))
    found = sparsemf.analyze(plane, affine=affine)
    assert (found.s_star.value, found.s_star.certified) == (2, True)
    certificate(found, plane)


def test_a_singular_law_makes_constants_of_atoms() -> None:
    """The atom along the invisible direction is a constant there: free, or one atom."""
    net = Network([[1.0], [2.0]], [[1.0, 0.0], [0.0, 1.0]], [0.3, 0.7], "gelu")
    law = Gaussian(np.array([0.0, 1.0]), np.array([[1.0], [0.0]]))
    for affine, atoms in (("offset", 1), ("charged", 2)):
        found = sparsemf.analyze(net, law, affine=affine, effort=Effort(few=2, drops=0, joint=0))
        assert found.staircase.upper[atoms] <= 1e-5
        assert found.s_star.upper <= atoms
        certificate(found, net)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_cannot_be_charged_is_refused_in_one_line() -> None:
    rng = np.random.default_rng(6)
    plain = planted(rng, "gelu", d=3, atoms=2)
    refusals = [
        (planted_gated(rng, "linear"), None, "linear gate"),
        (plain.with_(quadratic=np.ones((1, 3, 3))), None, "quadratic part"),
        (planted(rng, "linear", d=3, atoms=2), None, "matrix rank"),
    ]
    for net, law, why in refusals:
        with pytest.raises(InputError, match=why) as caught:
            sparsemf.analyze(net, law, affine="charged")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="expected one of free, offset, charged"):
        sparsemf.analyze(plain, affine="none")


def _changed(document: dict[str, Any], *path: str, value: Any) -> dict[str, Any]:
    out = copy.deepcopy(document)
    place = out
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    out["seal"] = seal(out)
    return out


@pytest.mark.parametrize("affine", ["offset", "charged"])
def test_lies_are_refused(affine: str) -> None:
    rng = np.random.default_rng(7)
    net = planted(rng, "gelu", d=3, atoms=3, outputs=2, bias=True)
    honest = certificate(sparsemf.analyze(net, affine=affine, effort=QUICK), net)

    def valid(document: dict[str, Any]) -> bool:
        return sparsemf.verify(document, {"a": net}).valid

    assert valid(_changed(honest, "claim", "free", value=honest["claim"]["free"]))
    dictionary = {k: decode(v) for k, v in honest["evidence"]["dictionary"].items()}
    curve = decode(honest["claim"]["lower_curve"])
    for value in (1, 2, -2, None, True, 0.0, "0", -1 if affine == "offset" else 0):
        assert not valid(_changed(honest, "claim", "free", value=value)), value
    for schema in ("sparsemf/sparsity/3", "sparsemf/sparsity/4", "sparsemf/sparsity/5", "sparsemf/sparsity/7"):
        assert not valid(_changed(honest, "schema", value=schema))
    tilted = encode(dictionary["affine"] + 1e-12)
    assert not valid(_changed(honest, "evidence", "dictionary", "affine", value=tilted))
    # an offset within the error is no lie where it is free
    shifted = encode(dictionary["offset"] + 1e-12)
    assert valid(_changed(honest, "evidence", "dictionary", "offset", value=shifted)) is (affine == "offset")
    moved = encode(dictionary["offset"] + 1.0)
    assert not valid(_changed(honest, "evidence", "dictionary", "offset", value=moved))
    # parts that this kind of claim does not have would be read by nobody
    for part, value in (("quadratic", np.ones((2, 3, 3))), ("gate", dictionary["inner"]), ("scale", np.ones(()))):
        assert not valid(_changed(honest, "evidence", "dictionary", part, value=encode(value))), part
    for size in range(3):
        more = curve.copy()
        more[size] *= 1.001
        assert not valid(_changed(honest, "claim", "lower_curve", value=encode(more)))
    for low, high in ((honest["claim"]["eps"][0], honest["claim"]["eps"][1] * 1.001), (0.0, honest["claim"]["eps"][1])):
        assert not valid(_changed(honest, "claim", "eps", value=[low, high]))
    for ends in ({"lower": 4, "upper": 4}, {"lower": 2, "upper": 2}):
        assert not valid(_changed(honest, "claim", value=honest["claim"] | ends))
    first = 1 if affine == "offset" else 0
    for group in ([0, first, 4, False], [1, 0, 4, False], [2, 1, 4, False], [0, first - 1, 4, True], [-1, 1, 2, True]):
        assert not valid(_changed(honest, "evidence", "partitions", value=[[group]])), group
    twice = [[[0, first, 2, True], [1, 2, 5, False]]]
    assert not valid(_changed(honest, "evidence", "partitions", value=twice))


def test_a_constant_neuron_counts_in_the_dictionary() -> None:
    """f = two atoms + c, c charged: a dictionary of two atoms and a constant neuron has three."""
    net = Network([[1.0, 0.5], [0.5, -1.0]], 1.3 * np.eye(2, 3), [0.2, -0.4], "tanh", offset=[0.7, 0.9])
    found = sparsemf.analyze(net, affine="charged", effort=Effort(few=3, drops=0, joint=0), eps=1e-4)
    honest = certificate(found, net)
    assert honest["claim"]["upper"] == 3
    lie = honest["claim"] | {"upper": 2, "lower": 2, "certified": True}
    assert not sparsemf.verify(_changed(honest, "claim", value=lie), {"a": net}).valid


def test_a_claim_beside_a_free_part_says_nothing_of_charges() -> None:
    net = planted(np.random.default_rng(8), "tanh", d=3, atoms=2)
    honest = json.loads(json.dumps(sparsemf.analyze(net, effort=QUICK).certificate()))
    assert "free" not in honest["claim"]
    for free in (-1, 0, 1):
        lie = _changed(honest, "claim", value=honest["claim"] | {"free": free})
        assert not sparsemf.verify(lie, {"a": net}).valid


# --- documents --------------------------------------------------------------------------------------------------------


def test_the_document_says_what_is_free(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    file, cert, page = (tmp_path / name for name in ("net.safetensors", "cert.json", "page.html"))
    save(planted(rng, "gelu", d=4, atoms=2, outputs=2, bias=True), file)
    words = {"offset": "Only a constant is free", "charged": "Nothing is free"}
    for affine, free in (("offset", 0), ("charged", -1)):
        command = ["analyze", str(file), "--affine", affine, "--cert", str(cert), "--html", str(page)]
        shown = CliRunner().invoke(main, [*command, "-q"])
        assert shown.exit_code == 0, shown.output
        assert "charged to the atoms" in shown.output
        document = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
        assert (document["free_degree"], document["config"]["affine"]) == (free, affine)
        assert document["exact"]["affine"] == "free"
        assert document["exact"]["lower"] <= document["s_star"]["upper"]
        assert not np.any(document["dictionary"]["affine"]["A"])
        assert document["dual"]["free_degree"] == free
        assert not document["path"]["folded"]  # gelu(z) − gelu(−z) = z is not free
        assert document["path"]["stages"][1]["error"] < 1e-9
        text = page.read_text(encoding="utf-8")
        assert words[affine] in text
        assert f"--affine {affine}" in text
        reports.render(document)
        assert CliRunner().invoke(main, ["verify", str(cert)]).exit_code == 0
    assert CliRunner().invoke(main, ["analyze", str(file), "--affine", "no"]).exit_code == 2
    plain = json.loads(CliRunner().invoke(main, ["analyze", str(file), "--json"]).stdout)
    assert (plain["free_degree"], plain["config"]["affine"], "affine" in plain["exact"]) == (1, "free", False)
