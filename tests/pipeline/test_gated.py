"""`analyze` of gated blocks: planted numbers of atoms certified and confirmed, lies refused, blocks of checkpoints."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import sparsemf
from cases import planted_gated
from sparsemf import Empirical, Gaussian, Network, reports
from sparsemf.atomic import json_text
from sparsemf.certificates.checker.document import check_wrapper, seal
from sparsemf.certificates.checker.raw import decode, encode
from sparsemf.pipeline.analysis import Analysis
from sparsemf.recovery import Effort
from sparsemf.symmetry import disguise

SIZES = [(2, 2, 1), (2, 2, 4), (3, 3, 1), (4, 4, 4), (6, 3, 1), (8, 6, 4), (16, 6, 1)]
PLANTED = [(name, *size) for name in ("silu", "gelu", "relu", "sigmoid") for size in SIZES]
PLANTED += [(name, 5, 3, 2) for name in ("leaky_relu", "tanh", "softplus", "mish", "elu", "erf", "sin")]


def certificate(found: Analysis, network: Network) -> dict[str, Any]:
    """The certificate through JSON, valid."""
    document = json.loads(json_text(found.certificate()))
    checked = sparsemf.verify(document, {"a": network})
    assert checked.valid, checked.reason
    return document


def root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.sum(values**2, axis=1))))


@pytest.mark.parametrize(("name", "d", "atoms", "outputs"), PLANTED)
def test_planted_blocks_get_their_number(name: str, d: int, atoms: int, outputs: int) -> None:
    """Disguised by the group, S* is certified as planted, confirmed by the checker, with margins on both sides."""
    rng = np.random.default_rng([d, atoms, outputs])
    truth = planted_gated(rng, name, d, atoms, outputs, polynomial=bool(atoms % 2))
    net = disguise(truth, rng, int(rng.integers(atoms, 4 * atoms + 2)))
    found = sparsemf.analyze(net)
    star = found.s_star
    assert (star.value, star.certified, star.counts) == (atoms, True, "atoms")
    assert star.strength > 30
    document = certificate(found, net)
    claim = document["claim"]
    assert (document["schema"], claim["lower"], claim["upper"]) == ("sparsemf/sparsity/4", atoms, atoms)
    assert claim["certified"]
    # the checker's curve by formulas of its own is the prover's
    curve = decode(claim["lower_curve"])[:atoms]
    np.testing.assert_allclose(curve, found.staircase.lower[:atoms], rtol=1e-3)
    x = rng.standard_normal((200, d))
    y = net(x)
    np.testing.assert_allclose(found.dictionary(x), y, atol=1e-9 * np.max(np.abs(y)))
    assert found.norm.upper - found.norm.lower <= 1e-6 * found.norm.upper


def test_the_document_and_its_report() -> None:
    rng = np.random.default_rng(1)
    net = planted_gated(rng, "silu", d=4, atoms=3, outputs=2, shared=1, polynomial=True)
    found = sparsemf.analyze(disguise(net, rng, 12))
    document = json.loads(json_text(found.document()))
    assert (document["s_star"]["value"], document["exact"]["counts"]) == (4, "atoms")
    assert document["free_degree"] == 2
    assert abs(sum(document["energy"].values()) - 1) < 1e-9
    assert set(document["energy"]) == {"constant", "linear", "quadratic", "beyond_quadratic"}
    assert document["function_norm_bounds"]["lower"] > 0.999 * document["function_norm"]
    sampled = root_mean_square(net(rng.standard_normal((200_000, 4))))
    assert document["function_norm"] == pytest.approx(sampled, rel=0.05)
    assert {s["per_atom"] for s in document["spectra"]} == {1, 2}
    assert all((s["per_atom"] == 1) == (s["p"] == 0) for s in document["spectra"])
    for atom in document["dictionary"]["atoms"]:
        assert set(atom) == {"w", "b", "alpha", "particles", "spread", "gate", "gate_bias"}
    assert sum(a["particles"] for a in document["dictionary"]["atoms"]) == document["active"]["width"]
    assert np.array(document["dictionary"]["quadratic"]).shape == (2, 4, 4)
    page = reports.render(document)
    for words in ("gate", "part of degree ≤ 2 is free", "beyond quadratic", "at most 2S of them"):
        assert words in page
    assert "affine part is free" not in page


@pytest.mark.parametrize("name", ["silu", "relu", "sigmoid"])
def test_other_gaussians_and_data(name: str) -> None:
    rng = np.random.default_rng(4)
    net = planted_gated(rng, name, d=4, atoms=3, outputs=2, polynomial=True)
    root = np.eye(4) + 0.2 * rng.standard_normal((4, 4))
    x = rng.standard_normal((200, 4))
    y = net(x)
    full = sparsemf.analyze(net, Gaussian(0.3 * np.ones(4), root))
    assert (full.s_star.value, full.s_star.certified) == (3, True)
    certificate(full, net)
    np.testing.assert_allclose(full.dictionary(x), y, atol=1e-11 * np.max(np.abs(y)))
    # a singular law: atoms and their polynomial part where inputs are
    flat = Gaussian(0.3 * np.ones(4), root[:, :3])
    thin = sparsemf.analyze(net, flat)
    inside = flat.sample(200, rng)
    np.testing.assert_allclose(thin.dictionary(inside), net(inside), atol=1e-10 * np.max(np.abs(net(inside))))
    certificate(thin, net)
    on_data = sparsemf.analyze(net, Empirical.of(x))
    assert on_data.staircase.lower[0] > 0
    assert not on_data.staircase.lower[on_data.source.m :].any()
    assert any("data rows" in warning for warning in on_data.warnings)


def test_eps_asks_for_the_bracket_there() -> None:
    rng = np.random.default_rng(6)
    net = planted_gated(rng, "gelu", d=6, atoms=5, outputs=1, polynomial=True)
    stairs = sparsemf.analyze(net).staircase
    for size in range(1, 5):
        eps = float(np.sqrt(stairs.lower[size - 1] * stairs.upper[size]))
        found = sparsemf.analyze(net, eps=eps)
        assert found.s_star.lower <= found.s_star.value
        x = rng.standard_normal((50_000, 6))
        assert root_mean_square(found.dictionary(x) - net(x)) <= 1.05 * eps
        document = certificate(found, net)
        assert document["claim"]["upper"] == found.s_star.value == found.dictionary.width
        other = found.dictionary_of(1)
        assert other.width == 1


def test_a_bilinear_block_needs_no_atom() -> None:
    rng = np.random.default_rng(7)
    net = planted_gated(rng, "linear", d=3, atoms=4, outputs=2, polynomial=True)
    found = sparsemf.analyze(net)
    assert (found.s_star.value, found.s_star.certified, found.dictionary.width) == (0, True, 0)
    assert certificate(found, net)["claim"]["eps"][0] < 1e-9
    page = reports.render(json.loads(json_text(found.document())))
    assert "polynomial of degree 2" in page


def test_a_cloud_of_particles_is_few_atoms_at_its_noise() -> None:
    """Noise on every weight: the plateau of the planted number reaches down to the noise, not to 0."""
    rng = np.random.default_rng(8)
    truth = planted_gated(rng, "silu", d=6, atoms=3, outputs=2)
    cloud = disguise(truth, rng, 15)
    for noise in (1e-3, 1e-5):
        net = cloud.with_(
            **{
                name: getattr(cloud, name) * (1 + noise * rng.standard_normal(getattr(cloud, name).shape))
                for name in ("outer", "inner", "bias", "gate", "gate_bias")
            }
        )
        found = sparsemf.analyze(net)
        assert found.staircase.upper[3] < 300 * noise
        assert found.staircase.lower[2] > 0.05
        assert (found.s_star.value, found.s_star.certified) == (3, True)
        assert certificate(found, net)["claim"]["lower"] in (0, 3)


# --- lies -----------------------------------------------------------------------------------------------------------


def _sealed(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "seal": seal(document)}


def test_false_claims_are_refused() -> None:
    rng = np.random.default_rng(9)
    net = planted_gated(rng, "silu", d=4, atoms=3, outputs=2, polynomial=True)
    honest = certificate(sparsemf.analyze(net), net)
    low, high = honest["claim"]["eps"]
    curve = decode(honest["claim"]["lower_curve"])

    def refused(**changes: Any) -> bool:
        document = copy.deepcopy(honest)
        document["claim"] |= changes
        return not sparsemf.verify(_sealed(document), {"a": net}).valid

    assert refused(lower=4, upper=4)
    assert refused(lower=2, upper=2)
    assert refused(eps=[low, high * 1.0001])
    assert refused(eps=[1e-14, high])
    assert refused(eps=[low, None])
    assert refused(lower_curve=encode(curve * (1 + 1e-5)))
    # S read as it would be for ungated atoms, one singular value an atom
    assert refused(lower_curve=encode(np.concatenate([curve[:1], np.full(3, curve[0])])))
    for schema in ("sparsemf/sparsity/3", "sparsemf/sparsity/5", "sparsemf/certify/2"):
        assert not sparsemf.verify(_sealed({**honest, "schema": schema}), {"a": net}).valid


def test_degree_two_is_not_a_proof() -> None:
    """A flattening that takes degree 2, which a quadratic part has for free, is refused; so are malformed ones."""
    rng = np.random.default_rng(10)
    net = planted_gated(rng, "gelu", d=4, atoms=3, outputs=2)
    honest = certificate(sparsemf.analyze(net), net)
    for groups in (
        [[1, 2, 10, False]],
        [[0, 3, 10, False]],
        [[4, 3, 10, True]],
        [[1, 3, 200, False]],
        [[1, 3, 8, False], [2, 8, 12, False]],
        [[1, 3, 8, 0]],
        [[1.0, 3, 8, False]],
    ):
        document = copy.deepcopy(honest)
        document["evidence"]["partitions"] = [groups]
        assert not sparsemf.verify(_sealed(document), {"a": net}).valid


def test_dictionaries_that_are_not_what_they_say() -> None:
    rng = np.random.default_rng(11)
    net = planted_gated(rng, "silu", d=4, atoms=3, outputs=2, polynomial=True)
    honest = certificate(sparsemf.analyze(net), net)
    entry = honest["evidence"]["dictionary"]
    for name in ("outer", "inner", "bias", "affine", "offset", "gate", "gate_bias", "quadratic"):
        document = copy.deepcopy(honest)
        array = decode(entry[name])
        array = array + 1e-3 if name == "quadratic" else array * (1 + 1e-3) + 1e-3
        document["evidence"]["dictionary"][name] = encode(array)
        assert not sparsemf.verify(_sealed(document), {"a": net}).valid, name
    for name in ("gate", "gate_bias", "quadratic"):
        document = copy.deepcopy(honest)
        document["evidence"]["dictionary"][name] = None
        assert not sparsemf.verify(_sealed(document), {"a": net}).valid, name
        del document["evidence"]["dictionary"][name]
        assert not sparsemf.verify(_sealed(document), {"a": net}).valid, name
    plain = sparsemf.Network(net.outer, net.inner, net.bias, "silu")
    assert not sparsemf.verify(honest, {"a": plain}).valid


# --- checkpoints ----------------------------------------------------------------------------------------------------


def llama(rng: np.random.Generator, layers: int, d: int, width: int) -> dict[str, np.ndarray]:
    """A state dict with the names of Llama's MLP blocks, no biases."""
    out = {}
    for k in range(layers):
        prefix = f"model.layers.{k}.mlp."
        out[f"{prefix}gate_proj.weight"] = rng.standard_normal((width, d)) / np.sqrt(d)
        out[f"{prefix}up_proj.weight"] = rng.standard_normal((width, d)) / np.sqrt(d)
        out[f"{prefix}down_proj.weight"] = rng.standard_normal((d, width)) / np.sqrt(width)
    return {name: array.astype(np.float32) for name, array in out.items()}


def test_a_llama_block_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sparsemf_cli.main import cli

    path, cert, page = tmp_path / "llama.safetensors", tmp_path / "c.json", tmp_path / "p.html"
    save_file(llama(np.random.default_rng(12), 1, 12, 32), path)
    arguments = ["analyze", str(path), "--activation", "silu", "--json", "--cert", str(cert), "--html", str(page)]
    assert cli.main(arguments, standalone_mode=False) == 0
    document = json.loads(capsys.readouterr().out)
    stairs = document["staircase"]
    assert len(stairs) == 33
    assert all(row["lower"] <= row["upper"] for row in stairs)
    # half of the directions of the inputs are excluded at 10 % of what the atoms do
    assert stairs[4]["lower"] > 0.1 * document["norm_beyond_affine"]
    assert json.loads(cert.read_text())["schema"] == "sparsemf/sparsity/4"
    assert cli.main(["verify", str(cert), "--json"], standalone_mode=False) == 0
    capsys.readouterr()
    assert "gate" in page.read_text(encoding="utf-8")


def test_several_blocks_in_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Gated blocks beside a plain one: one document, certificates of both versions, each valid."""
    from sparsemf_cli.main import cli

    rng = np.random.default_rng(13)
    state = {name: torch.tensor(array) for name, array in llama(rng, 2, 4, 5).items()}
    state |= {
        "head.fc1.weight": torch.tensor(rng.standard_normal((5, 4))),
        "head.fc1.bias": torch.zeros(5, dtype=torch.float64),
        "head.fc2.weight": torch.tensor(rng.standard_normal((3, 5))),
        "head.fc2.bias": torch.zeros(3, dtype=torch.float64),
    }
    path, cert = tmp_path / "both.pt", tmp_path / "c.json"
    torch.save(state, path)
    assert cli.main(["analyze", str(path), "--activation", "silu", "--cert", str(cert)], standalone_mode=False) == 0
    capsys.readouterr()
    wrapper = json.loads(cert.read_text())
    schemas = [result["schema"] for result in wrapper["results"]]
    assert sorted(schemas) == ["sparsemf/sparsity/3", "sparsemf/sparsity/4", "sparsemf/sparsity/4"]
    assert check_wrapper(wrapper).valid
    assert cli.main(["verify", str(cert)], standalone_mode=False) == 0
    capsys.readouterr()
    assert not check_wrapper({**wrapper, "schema": "sparsemf/sparsity/3"}).valid


def test_effort_is_obeyed() -> None:
    """Without refinement the best single atom is one of the block's own."""
    net = planted_gated(np.random.default_rng(12), "silu", atoms=4)
    none, usual = (sparsemf.analyze(net, effort=effort) for effort in (Effort(few=0, drops=0, joint=0), Effort()))
    assert usual.staircase.upper[1] < 0.999 * none.staircase.upper[1]
