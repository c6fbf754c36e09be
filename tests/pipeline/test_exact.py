"""`analyze` where it has no staircase: documents, errors of dictionaries, reports, command line; `exact` everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import sparsemf
from cases import OTHERS, planted, planted_gated
from sparsemf import Empirical, Gaussian, Network, reports
from sparsemf.atomic import json_text
from sparsemf.exceptions import InputError
from sparsemf.pipeline.analysis import Analysis
from sparsemf.symmetry import disguise

KEYS = {
    "schema", "tool", "version", "input", "config", "timing_s", "active", "quotient", "dictionary", "s_star",
    "staircase", "function_norm", "s_up", "warnings", "exact",
}  # fmt: skip
GATED = ["relu2", "exp", "hardtanh"]
"""Gates of unbounded slope or with relations between atoms; the others have a staircase (test_gated)."""


def checked(found: Analysis) -> dict[str, Any]:
    """The document through JSON, with everything that must hold of any of them; its report renders."""
    document = json.loads(json_text(found.document()))
    assert set(document) >= KEYS
    star, exact = document["s_star"], document["exact"]
    assert star["lower"] <= star["value"] == star["upper"]
    assert star["certified"] == (star["lower"] == star["upper"])
    assert exact["certified"] == (exact["lower"] == exact["upper"]) == (exact["value"] is not None)
    upper = [row["upper"] for row in document["staircase"]]
    assert upper == sorted(upper, reverse=True)
    known = found.source.m if isinstance(found.law, Empirical) else 0
    assert not any(row["lower"] for row in document["staircase"][known:])
    page = reports.render(document)
    assert exact["reason"][:20] in page
    return document


def root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.sum(values**2, axis=1))))


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", OTHERS)
def test_plain_networks_on_data(name: str, outputs: int) -> None:
    rng = np.random.default_rng(1)
    net = planted(rng, name, d=4, atoms=3, outputs=outputs, bias=True, affine=True)
    x = rng.standard_normal((500, 4))
    found = sparsemf.analyze(net, Empirical.of(x))
    document = checked(found)
    assert document["s_star"]["kind"] == ("certificate" if found.s_star.certified else "bracket")
    # three outputs tell three atoms apart
    known = (0, True) if name == "linear" else (1, False) if outputs == 1 else (3, True)
    assert (found.s_star.lower, found.s_star.certified) == known
    assert found.exact.lower == 0
    assert found.s_star.value <= 3
    y = net(x)
    assert found.norm.lower <= root_mean_square(y) <= found.norm.upper
    whole = found.dictionary_of(found.staircase.upper.size - 1)
    assert root_mean_square(whole(x) - y) <= 1e-11 * found.norm.upper
    assert found.staircase.upper[-1] < 1e-9 * found.norm.upper
    assert name == "linear" or found.staircase.upper[1] < found.staircase.upper[0]


@pytest.mark.parametrize("name", ["relu2", "hardtanh", "cubic", "quadratic"])
def test_the_upper_curve_is_reached(name: str) -> None:
    """At every S there is a dictionary that is really that close."""
    rng = np.random.default_rng(2)
    net = disguise(planted(rng, name, d=4, atoms=5, bias=True, affine=True), rng, 20)
    x = rng.standard_normal((500, 4))
    law, y = Empirical.of(x), net(x)
    first = sparsemf.analyze(net, law)
    for size in range(first.staircase.upper.size):
        bound = float(first.staircase.upper[size])
        found = sparsemf.analyze(net, law, eps=1.0001 * bound)
        assert found.s_star.value <= size
        assert found.s_star.lower == (1.0001 * bound < found.staircase.lower[0])
        if bound < 0.999 * first.norm.upper:
            assert root_mean_square(found.dictionary(x) - y) <= 1.001 * bound
    checked(found)


@pytest.mark.parametrize("name", GATED)
def test_gated_blocks(name: str) -> None:
    rng = np.random.default_rng(3)
    net = planted_gated(rng, name, d=4, atoms=3, outputs=2, shared=1, polynomial=True)
    found = sparsemf.analyze(net)
    document = checked(found)
    assert document["exact"]["upper"] == 4
    assert document["s_star"]["eps"] == [0.0, 0.0]
    assert found.s_star.certified == (name == "relu2")
    assert document["function_norm"] is None
    assert document["function_norm_bounds"]["lower"] == 0.0
    x = rng.standard_normal((5000, 4))
    y = net(x)
    assert found.norm.upper >= 0.9 * root_mean_square(y)
    assert root_mean_square(found.dictionary(x) - y) <= 1e-12 * found.norm.upper
    for atom in document["dictionary"]["atoms"]:
        assert set(atom) == {"w", "b", "alpha", "particles", "spread", "gate", "gate_bias"}
    with pytest.raises(InputError, match="certificate"):
        found.certificate()


@pytest.mark.parametrize("name", ["relu2", "exp", "hardtanh", "quadratic", "gated hardtanh", "linear"])
def test_other_laws_give_atoms_in_input_coordinates(name: str) -> None:
    rng = np.random.default_rng(4)
    if name.startswith("gated"):
        net = planted_gated(rng, name.split()[1], d=4, atoms=3, outputs=2, polynomial=True)
    else:
        net = planted(rng, name, d=4, atoms=3, outputs=2, bias=True, affine=True)
    root = np.eye(4) + 0.2 * rng.standard_normal((4, 4))
    x = rng.standard_normal((300, 4))
    y = net(x)
    full = sparsemf.analyze(net, Gaussian(0.3 * np.ones(4), root))
    if net.gated:
        checked(full)
    assert full.exact == sparsemf.analyze(net).exact
    np.testing.assert_allclose(full.dictionary(x), y, atol=1e-11 * np.max(np.abs(y)))
    data = Empirical.of(x)
    on_data = sparsemf.analyze(net, data)
    document = checked(on_data)
    assert document["exact"]["lower"] == 0
    whole = on_data.dictionary_of(on_data.staircase.upper.size - 1)
    np.testing.assert_allclose(whole(x), y, atol=1e-11 * np.max(np.abs(y)))
    # a law on a plane: nothing is excluded, and the dictionary is right there
    flat = Gaussian(0.3 * np.ones(4), root[:, :3])
    thin = sparsemf.analyze(net, flat)
    assert thin.exact.lower == 0
    inside = flat.sample(200, rng)
    y = net(inside)
    np.testing.assert_allclose(thin.dictionary(inside), y, atol=1e-11 * np.max(np.abs(y)))


def test_plain_networks_with_a_quadratic_part() -> None:
    rng = np.random.default_rng(5)
    form = rng.standard_normal((1, 3, 3))
    net = planted(rng, "tanh", d=3, atoms=3).with_(quadratic=form + form.transpose(0, 2, 1))
    x = rng.standard_normal((100, 3))
    found = sparsemf.analyze(net, Empirical.of(x))
    checked(found)
    assert (found.s_star.lower, found.s_star.value, found.exact.value, found.free) == (1, 3, None, 2)
    np.testing.assert_allclose(found.dictionary(x), net(x), atol=1e-11 * found.norm.upper)
    assert sparsemf.analyze(net).exact.value == 3


def test_rounding_is_told_apart_from_the_exact_count() -> None:
    """Scalings that round make other hyperplanes: many exactly, three to within rounding."""
    rng = np.random.default_rng(6)
    net = disguise(planted(rng, "relu2", d=3, atoms=3, bias=True), rng, 40)
    found = sparsemf.analyze(net)
    assert (found.s_star.value, found.s_star.certified) == (3, True)
    assert found.exact.lower > 3
    on_data = sparsemf.analyze(net, Empirical.of(rng.standard_normal((50, 3))))
    assert on_data.exact.upper > 3
    assert on_data.dictionary.width == on_data.quotient.network.width == 3


def test_networks_with_a_staircase_have_the_exact_count_beside_it() -> None:
    rng = np.random.default_rng(7)
    net = planted(rng, "relu", d=4, atoms=3, affine=True)
    document = sparsemf.analyze(net).document()
    assert document["s_star"]["kind"] == "certificate"
    assert (document["exact"]["value"], document["exact"]["counts"]) == (3, "kinks")
    assert document["exact"]["minimal_width"]["lower"] >= 3
    # two atoms a bit apart: one plateau, two atoms exactly
    near = net.inner[:1] * (1 + 1e-13) + 1e-13
    dipole = net.with_(outer=np.concatenate([net.outer, [[1.0]]]), inner=np.concatenate([net.inner, near]),
                       bias=np.concatenate([net.bias, net.bias[:1]]))  # fmt: skip
    found = sparsemf.analyze(dipole)
    assert (found.s_star.value, found.exact.value) == (3, 4)


def test_certificate_of_an_exact_count() -> None:
    rng = np.random.default_rng(4)
    net = Network(rng.standard_normal((3, 1)), rng.standard_normal((3, 2)), None, "relu2")
    document = sparsemf.analyze(net).exact_certificate()
    assert document["schema"] == "sparsemf/exact/1"
    assert sparsemf.verify(document, {"a": net}).reason == "the claim follows from the networks"
    found = sparsemf.analyze(Network(rng.standard_normal((3, 1)), rng.standard_normal((3, 2)), None, "cubic"))
    with pytest.raises(InputError, match="cubic"):
        found.exact_certificate()


def test_a_float16_file_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sparsemf_cli.main import cli

    rng = np.random.default_rng(9)
    w = rng.standard_normal((4, 3)).astype(np.float16)
    arrays = {
        "outer": rng.standard_normal((8, 1)).astype(np.float16),
        "inner": np.concatenate([w, 2 * w]),
        "bias": np.zeros(8, dtype=np.float16),
    }
    path = tmp_path / "half.safetensors"
    save_file(arrays, path, metadata={"activation": "relu2", "scale": "1", "format_version": "1"})
    page = tmp_path / "half.html"
    assert cli.main(["analyze", str(path), "--json", "--html", str(page)], standalone_mode=False) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["exact"]["value"], document["exact"]["counts"]) == (4, "kinks")
    assert document["input"]["precision"] == "float16"
    assert (document["s_star"]["value"], document["s_star"]["kind"]) == (4, "certificate")
    assert "part of degree ≤ 2" in page.read_text(encoding="utf-8")
    certificate, exact = str(tmp_path / "c.json"), str(tmp_path / "e.json")
    arguments = ["analyze", str(path), "--cert", certificate, "--exact-cert", exact]
    assert cli.main(arguments, standalone_mode=False) == 0
    assert cli.main(["verify", certificate], standalone_mode=False) == 0
    assert cli.main(["verify", exact], standalone_mode=False) == 0
    capsys.readouterr()
    # gates of relu² have no staircase: there S* is the exact count
    save_file({**arrays, "gate": arrays["inner"]}, path, metadata={"activation": "relu2", "format_version": "1"})
    assert cli.main(["analyze", str(path), "--html", str(page)], standalone_mode=False) == 0
    assert "exactly" in " ".join(capsys.readouterr().out.split())
    assert "Exact" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["relu2", "exp", "gelu"])
def test_a_network_without_neurons(name: str) -> None:
    gate = np.zeros((0, 2)) if name == "gelu" else None
    net = Network(np.zeros((0, 1)), np.zeros((0, 2)), None, name, affine=[[1.0, 2.0]], gate=gate)
    found = sparsemf.analyze(net)
    checked(found)
    assert (found.s_star.value, found.s_star.certified) == (0, True)
