"""Analyses on data rows: U(S) against direct evaluation, L(S) against least squares and singular values, certificates,
what is charged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from flint import fmpq, fmpq_mat
from safetensors.numpy import save_file

import sparsemf
from cases import planted, planted_gated
from sparsemf import Empirical, Network
from sparsemf.atomic import json_text
from sparsemf.certificates.checker import polynomials
from sparsemf.certificates.checker.document import seal
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.raw import decode, encode
from sparsemf.certificates.equivalence import raw_of
from sparsemf.exceptions import InputError
from sparsemf.identifiability.rows import beyond_polynomials
from sparsemf.measures import Bounds
from sparsemf.measures.gaussian import free_degree
from sparsemf.pipeline.analysis import Analysis, Question
from sparsemf.pipeline.exact import exact_analysis
from sparsemf.pipeline.laws import empirical_law
from sparsemf.recovery import Effort
from sparsemf.symmetry import disguise
from sparsemf_cli.main import cli

Array = np.ndarray
QUICK = Effort(few=2, drops=0, dust=0)
PLAIN = [
    "relu",
    "tanh",
    "gelu",
    "sigmoid",
    "sin",
    "relu2",
    "exp",
    "relu6",
    "hardtanh",
    "elu",
    "abs",
    "cubic",
    "hermite",
]
GATES = ["silu", "relu", "sigmoid", "relu2", "exp", "leaky_relu(0.2)"]


def plain(net: Network) -> Network:
    return net.with_(affine=0 * net.affine, offset=0 * net.offset, quadratic=None)


def monomials(x: Array, free: int) -> Array:
    """1, x, x_i x_j on rows, as far as free: written out here anew."""
    columns = [np.ones(x.shape[0])] if free >= 0 else []
    columns += list(x.T) if free >= 1 else []
    columns += [x[:, i] * x[:, j] for i in range(x.shape[1]) for j in range(i + 1)] if free >= 2 else []
    return np.array(columns).T.reshape(x.shape[0], len(columns))


def tails(net: Network, x: Array, free: int) -> Array:
    """What rank S leaves, S = 0 … m, of the values beside the free polynomials by lapack, on columns of like size."""
    design, y = monomials(x - x.mean(axis=0), free), net(x)
    if design.shape[1]:
        design = design / np.maximum(np.linalg.norm(design, axis=0), 1e-300)
        y = y - design @ np.linalg.lstsq(design, y, rcond=1e-13)[0]
    square = np.linalg.svd(y, compute_uv=False) ** 2
    return np.sqrt(np.append(np.cumsum(square[::-1])[::-1], 0.0) / x.shape[0])


def least_squares(net: Network, x: Array, free: int) -> float:
    """The distance to the free polynomials."""
    return float(tails(net, x, free)[0])


def published(found: Analysis, net: Network, x: Array, near: bool = True) -> None:
    """Every dictionary has the atoms and the polynomial part that it may have, and comes as close as is claimed; L is
    below what rank S leaves and, where the condition allows, ``near`` it."""
    upper, y = found.staircase.upper, net(x)
    assert (np.diff(upper) <= 0).all()
    assert (found.staircase.lower <= upper).all()
    lower, true = found.staircase.lower, tails(net, x, found.free)
    assert not lower[net.m :].any()
    for size in range(1, min(net.m, lower.size)):  # differences of squares: 1e-7 of the norm
        assert lower[size] <= true[size] * (1 + 1e-9)
        assert not near or lower[size] >= (1 - 1e-6) * true[size] - 1e-6 * found.norm.upper
    for size in {*range(min(upper.size, 6)), upper.size // 2, upper.size - 1}:
        g = found.dictionary_of(size)
        assert np.count_nonzero(g.alpha.any(axis=1)) <= size
        assert found.free >= 2 or g.quadratic is None
        assert found.free >= 1 or not g.affine.any()
        assert found.free >= 0 or not g.offset.any()
        gap = float(np.sqrt(np.mean(np.sum((g(x) - y) ** 2, axis=1))))
        assert gap <= upper[size] * (1 + 1e-9) + 1e-12 * found.norm.upper


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", PLAIN)
def test_plain_dictionaries_are_as_close_as_claimed(name: str, outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    x = 0.7 * rng.standard_normal((120, 4)) + 0.2
    net = planted(rng, name, d=4, atoms=4, outputs=outputs, bias=True, affine=True)
    found = sparsemf.analyze(net, Empirical.of(x), effort=QUICK)
    assert found.free == free_degree(net)
    published(found, net, x)
    assert found.staircase.lower[0] <= least_squares(net, x, found.free) * (1 + 1e-9)
    assert found.staircase.lower[0] >= (1 - 1e-6) * least_squares(net, x, found.free) - 1e-9 * found.norm.upper


@pytest.mark.parametrize("affine", ["free", "offset", "charged"])
@pytest.mark.parametrize("name", GATES)
def test_gated_dictionaries_are_as_close_as_claimed(name: str, affine: str) -> None:
    rng = np.random.default_rng(4)
    x = 0.7 * rng.standard_normal((120, 4)) + 0.2
    net = planted_gated(rng, name, 4, 4, 2, 1)
    if affine != "free":
        net = plain(net).with_(affine=np.outer([1.0, 2.0], rng.standard_normal(4)), offset=rng.standard_normal(2))
    found = sparsemf.analyze(net, Empirical.of(x), affine=affine)
    assert found.free == {"free": 2, "offset": 0, "charged": -1}[affine]
    published(found, net, x)
    assert found.staircase.upper[-1] <= 1e-9 * found.norm.upper
    assert found.staircase.lower[0] == pytest.approx(least_squares(net, x, found.free), rel=1e-7)


@pytest.mark.parametrize("name", ["silu", "relu2"])
def test_better_than_the_triangle_inequality(name: str) -> None:
    rng = np.random.default_rng(6)
    law = Empirical.of(rng.standard_normal((60, 3)))
    net = planted_gated(rng, name, 3, 3, 2) if name == "silu" else planted(rng, name, d=3, atoms=3, bias=True)
    old = exact_analysis(net, law, Question("x.npz"), "").staircase.upper
    new = sparsemf.analyze(net, law).staircase.upper
    assert (new <= old + 1e-9).all()
    assert new[1] < 0.8 * old[1]


@pytest.mark.parametrize("affine", ["offset", "charged"])
@pytest.mark.parametrize("name", ["relu", "gelu", "tanh", "leaky_relu(0.3)"])
def test_what_is_charged_is_made_by_atoms(name: str, affine: str) -> None:
    """A file with an affine part of rank one, rows far from the origin, a relu neuron that is on at every row."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((150, 3)) * [1.0, 5.0, 0.2] + [10.0, 0.0, -3.0]
    net = planted(rng, name, d=3, atoms=3, outputs=2, bias=True)
    on = np.array([[1.0, 0.0, 0.0]])
    net = net.with_(
        outer=np.concatenate([net.outer, [[1.0, -1.0]]]),
        inner=np.concatenate([net.inner, on]),
        bias=np.append(net.bias, 5.0),
        affine=np.outer([1.0, 0.5], [0.0, 1.0, 1.0]),
    )
    found = sparsemf.analyze(net, Empirical.of(x), affine=affine, effort=QUICK)
    published(found, net, x)
    assert found.domain_inactive["always_on"] == 0
    # affine neurons and the affine part alike cost atoms, and few of them do
    assert found.staircase.upper[0] > 1.0
    assert found.staircase.upper.min() <= 1e-2 * found.norm.upper
    assert found.staircase.lower[0] == pytest.approx(least_squares(net, x, found.free), rel=1e-6)


def hard_rows(rng: np.random.Generator, kind: str) -> Array:
    x = rng.standard_normal((80, 4))
    if kind == "one row":
        return x[:1]
    if kind == "few rows":
        return x[:3]
    if kind == "constant column":
        x[:, 2] = 0.1
    if kind == "duplicate":
        x[:, 3] = x[:, 0]
    if kind == "one hot":
        return np.eye(4)[rng.integers(0, 4, 80)]
    if kind == "offset":
        x = x + 1e6
    if kind == "near dependent":
        x[:, 3] = x[:, 0] + 1e-6 * x[:, 3]
    if kind == "nearly equal":
        x[:, 3] = x[:, 0] * (1 + 2.0**-52 * rng.integers(0, 2, 80))
    if kind == "scales":
        x = x * [1e-8, 1.0, 1e8, 1.0]
    if kind == "float16":
        x = x.astype(np.float16).astype(float)
    return x


KINDS = ["one row", "few rows", "constant column", "duplicate", "one hot", "offset", "near dependent", "nearly equal",
         "scales", "float16"]  # fmt: skip


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_hard_rows(kind: str, gated: bool) -> None:
    rng = np.random.default_rng(11)
    x = hard_rows(rng, kind)
    scale = 1 / np.maximum(np.sqrt(np.mean(x**2, axis=0)), 1e-300)
    net = planted_gated(rng, "silu", 4, 5, 2) if gated else planted(rng, "gelu", d=4, atoms=5, outputs=2, bias=True)
    moved = {"inner": net.inner * scale} | ({"gate": net.gate * scale} if net.gate is not None else {})
    net = plain(net).with_(**moved)
    for affine in ("free", "charged"):
        found = sparsemf.analyze(net, Empirical.of(x), affine=affine, effort=QUICK)
        published(found, net, x, near=kind not in ("nearly equal", "near dependent"))
        true = least_squares(net, x, found.free)
        assert found.staircase.lower[0] <= true * (1 + 1e-6) + 1e-9 * found.norm.upper
        # beside quadratic polynomials, condition 1e12 is beyond what lapack's solution here tells apart
        if kind not in ("one row", "few rows", "nearly equal", "offset", "near dependent") and true > 1e-6:
            assert found.staircase.lower[0] >= 0.99 * true
        if affine == "free" and kind in ("one row", "few rows"):
            assert found.staircase.upper[0] <= 1e-9 * found.norm.upper
            assert any("nothing is left for atoms" in text for text in found.warnings)


def exact_distance(y: Array, x: Array, free: int) -> float:
    """‖y − Πy‖ in rational arithmetic, the numbers of x and y taken as they are: |y|² − cᵀG⁻¹c by exact solution."""
    rows = [[fmpq(*v.as_integer_ratio()) for v in row] for row in x.tolist()]
    columns = [[fmpq(1)] * len(rows)] if free >= 0 else []
    if free >= 1:
        columns += [list(column) for column in zip(*rows, strict=True)]
    if free >= 2:
        columns += [[r[i] * r[j] for r in rows] for i in range(x.shape[1]) for j in range(i + 1)]
    total = fmpq(0)
    for values in y.T.tolist():
        target = [fmpq(*v.as_integer_ratio()) for v in values]
        total += sum((v * v for v in target), fmpq(0))
        if columns:
            d = fmpq_mat(len(columns), len(rows), [v for column in columns for v in column])
            c = d * fmpq_mat(len(rows), 1, target)
            total -= (c.transpose() * (d * d.transpose()).solve(c))[0, 0]
    return float(np.sqrt(float(total.p) / float(total.q) if total.q.bit_length() < 900 else _ratio(total)))


def _ratio(value: Any) -> float:
    shift = value.q.bit_length() - 200
    return float((int(value.p) >> shift) / (int(value.q) >> shift))


@pytest.mark.parametrize("seed", range(10))
def test_l0_is_below_the_distance_in_rational_arithmetic(seed: int) -> None:
    """Rows of any condition and any distance from the origin; the prover's bound and the checker's."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((30, 3)) @ (rng.standard_normal((3, 3)) ** (1 + 2 * (seed % 5))) + 10.0 ** (seed % 7 - 2)
    net, law = planted(rng, "tanh", d=3, atoms=3, outputs=2, bias=True), Empirical.of(x)
    for free in (-1, 0, 1, 2):
        true = exact_distance(net(x), x, free) / np.sqrt(30)
        for low in (
            beyond_polynomials(net, law, free)[0],
            polynomials.curve(Norm("empirical", rows=x), raw_of(net), free)[0],
        ):
            assert low <= true * (1 + 1e-12)
            assert low >= (1 - 1e-6) * true or (seed % 5 > 1 and free > 0)


def test_rows_that_cannot_be_told_apart_prove_nothing() -> None:
    """Two columns that differ in the last bit: the difference may be any function, so L(0) = 0."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 2))
    x[:, 1] = x[:, 0] * (1 + 2.0**-52 * rng.integers(0, 2, 40))
    assert beyond_polynomials(planted(rng, "tanh", d=2, atoms=1), Empirical.of(x), 1).tolist() == [0.0]


@pytest.mark.parametrize("rows", [1, 4, 60])
def test_f_s_own_atoms_have_the_best_constant_beside_a_charged_slope(rows: int) -> None:
    rng = np.random.default_rng(7)
    x = rng.standard_normal((rows, 2)) + 3.0
    net = Network([[1.0]], [[0.3, 0.2]], [0.1], "cubic", 1.0, [[2.0, -1.0]], [0.5])
    for affine in ("offset", "charged"):
        published(sparsemf.analyze(net.with_(activation="silu"), Empirical.of(x), affine=affine, effort=QUICK),
                  net.with_(activation="silu"), x)  # fmt: skip
        published(sparsemf.analyze(net, Empirical.of(x), affine=affine, effort=QUICK), net, x)


@pytest.mark.parametrize("name", ["exp", "relu2"])
def test_gates_of_unbounded_slope_have_certificates_on_data(name: str) -> None:
    rng = np.random.default_rng(9)
    law, net = Empirical.of(rng.standard_normal((30, 3))), plain(planted_gated(rng, name, 3, 2, 2))
    document = json.loads(json_text(sparsemf.analyze(net, law, affine="charged").certificate()))
    assert document["claim"]["eps"][0] < 0.02 * sparsemf.analyze(net, law, affine="charged").norm.upper
    assert sparsemf.verify(document, {"a": net}, data=law).valid


def test_d_of_one_and_reduced_precision() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((40, 1))
    for name in ("relu", "silu", "relu2"):
        net = Network(rng.standard_normal((12, 3)), rng.standard_normal((12, 1)), rng.standard_normal(12), name)
        net = net.with_(**{k: getattr(net, k).astype(np.float16).astype(float) for k in ("outer", "inner", "bias")})
        published(sparsemf.analyze(net, Empirical.of(x), effort=QUICK), net, x)


def test_certificates_prove_l0_and_no_more() -> None:
    rng = np.random.default_rng(2)
    law = Empirical.of(rng.standard_normal((80, 4)))
    nets = [planted(rng, "relu", d=4, atoms=1, bias=True), plain(planted_gated(rng, "silu", 4, 1, 2))]
    nets += [planted(rng, "relu2", d=4, atoms=1, bias=True)]
    for net in nets:
        for affine in ("free", "charged") if net.activation.name != "relu2" else ("free",):
            found = sparsemf.analyze(disguise(net, rng, 6) if not net.gated else net, law, affine=affine)
            source = found.source
            assert (found.s_star.value, found.s_star.certified) == (1, True)
            assert found.document()["s_star"]["lower_by"] == "projection"
            document = json.loads(json_text(found.certificate()))
            assert document["claim"]["certified"]
            report = sparsemf.verify(document, {"a": source}, data=law)
            assert report.valid, report.reason
            high = document["claim"]["eps"][1]
            for change in ({"eps": [document["claim"]["eps"][0], 1.001 * high]}, {"lower": 2, "upper": 2}):
                lie = {**document, "claim": {**document["claim"], **change}}
                lie["seal"] = seal({key: value for key, value in lie.items() if key != "seal"})
                assert not sparsemf.verify(lie, {"a": source}, data=law).valid


@pytest.mark.parametrize("affine", ["free", "offset", "charged"])
@pytest.mark.parametrize("name", ["relu", "tanh", "silu gates"])
def test_atoms_of_networks_with_several_outputs_are_counted(name: str, affine: str) -> None:
    """Five outputs tell three atoms apart on any rows; the checker proves the same and no more."""
    rng = np.random.default_rng(11)
    law = Empirical.of(rng.uniform(-1.5, 2.0, (150, 4)))
    truth = planted_gated(rng, "silu", 4, 3, 5) if "gates" in name else planted(rng, name, d=4, atoms=3, outputs=5)
    net = plain(truth) if truth.gated else disguise(truth, rng, 30)
    if affine != "free":
        net = plain(truth)
    found = sparsemf.analyze(net, law, affine=affine)
    assert (found.s_star.lower, found.s_star.value, found.s_star.certified) == (3, 3, True)
    document = found.document()
    assert [stair["lower_by"] for stair in document["staircase"][:4]] == ["projection", "outputs", "outputs", None]
    proof = json.loads(json_text(found.certificate()))
    assert proof["claim"]["certified"]
    assert proof["claim"]["lower"] == 3
    report = sparsemf.verify(proof, {"a": net}, data=law)
    assert report.valid, report.reason
    curve = np.array(decode(proof["claim"]["lower_curve"]))
    np.testing.assert_allclose(curve[:3], found.staircase.lower[:3], rtol=1e-5)
    curve[2] *= 1.001
    for change in (
        {"lower_curve": encode(curve)},
        {"eps": [proof["claim"]["eps"][0], 1.001 * proof["claim"]["eps"][1]]},
        {"lower": 4, "upper": 4},
    ):
        lie = {**proof, "claim": {**proof["claim"], **change}}
        lie["seal"] = seal({key: value for key, value in lie.items() if key != "seal"})
        assert not sparsemf.verify(lie, {"a": net}, data=law).valid


@pytest.mark.parametrize("kind", ["fewer rows", "equal outputs", "tiny", "huge", "steep"])
def test_bounds_by_rank_where_it_is_odd(kind: str) -> None:
    """Prover and checker against the singular values of lapack; never above, and near where they can be."""
    rng = np.random.default_rng(12)
    n, m = (6, 9) if kind == "fewer rows" else (70, 4)
    x = rng.standard_normal((n, 3))
    net = Network(rng.standard_normal((12, m)), rng.standard_normal((12, 3)), rng.standard_normal(12), "gelu")
    if kind == "equal outputs":
        net = net.with_(outer=net.outer[:, :1] * np.ones(m))
    elif kind in ("tiny", "huge"):
        net = net.with_(outer=net.outer * (1e-98 if kind == "tiny" else 1e98))
    elif kind == "steep":
        net = net.with_(outer=net.outer * np.logspace(0, -9, m))
    for free in (-1, 0, 1):
        true = tails(net, x, free)
        for low in (
            beyond_polynomials(net, Empirical.of(x), free),
            polynomials.curve(Norm("empirical", rows=x), raw_of(net), free),
        ):
            assert (low <= true[: low.size] * (1 + 1e-7) + 1e-12 * true[0]).all()
            assert (low >= (1 - 1e-6) * true[: low.size] - 1e-6 * true[0]).all()
            assert (np.diff(low) <= 0).all()


def test_a_planted_network_with_one_output_is_not_certified() -> None:
    rng = np.random.default_rng(4)
    truth = planted(rng, "relu", d=4, atoms=3, bias=True)
    law = Empirical.of(rng.standard_normal((200, 4)))
    found = sparsemf.analyze(disguise(truth, rng, 40), law, "data.npz")
    assert (found.s_star.lower, found.s_star.value, found.s_star.certified) == (1, 3, False)
    assert found.norm == Bounds(found.norm.lower, found.norm.upper, "evaluation on every data row")


def test_more_polynomials_than_can_be_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    net, law = planted_gated(rng, "silu", 4, 3, 2), Empirical.of(rng.standard_normal((50, 4)))
    for home in ("sparsemf.measures.polynomials", "sparsemf.pipeline.data"):
        monkeypatch.setattr(f"{home}.MOST_NUMBERS", 100)
    found = sparsemf.analyze(net, law)
    assert found.upper is None
    assert any("--affine charged" in text for text in found.warnings)
    assert sparsemf.analyze(plain(net), law, affine="charged").upper is not None


def test_values_beyond_the_range_of_numbers_are_refused() -> None:
    net = Network([[1.0]], [[1.0]], [0.0], "exp")
    with pytest.raises(InputError, match="smaller inputs"):
        sparsemf.analyze(net, Empirical.of([[1.0], [500.0]]))


@pytest.mark.parametrize("affine", ["free", "charged"])
def test_the_command_on_a_model_s_block_and_its_rows(
    affine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    shapes = {"gate_proj": (6, 8), "up_proj": (6, 8), "down_proj": (8, 6)}
    state: dict[str, Any] = {
        f"model.layers.0.mlp.{k}.weight": rng.standard_normal(s).astype(np.float16) for k, s in shapes.items()
    }
    monkeypatch.chdir(tmp_path)
    save_file(state, "model.safetensors")
    np.savez("rows.npz", X=rng.standard_normal((100, 8)))
    options = ["--activation", "silu", "--affine", affine, "--rho", "rows.npz", "--cert", "c.json", "--html", "r.html"]
    found = CliRunner().invoke(cli, ["analyze", "model.safetensors", "--json", *options])
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document["free_degree"] == (2 if affine == "free" else -1)
    assert document["config"]["affine"] == affine
    assert document["staircase"][0]["lower_by"] == "projection"
    assert document["staircase"][0]["lower"] > 0.9 * document["staircase"][0]["upper"]
    assert document["staircase"][-1]["upper"] <= 1e-6
    page = Path("r.html").read_text()
    assert "L²(data)" in page
    assert CliRunner().invoke(cli, ["verify", "c.json"]).exit_code == 0


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i4", "f4", "f2", "g"])
def test_rows_are_numbers_of_float64_whatever_their_type(kind: str) -> None:
    """An affine network is S* = 0; differences of bytes wrap around, which made a false claim look proved."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (60, 3)).astype(kind)
    net = Network(
        1e-9 * rng.standard_normal((2, 2)), rng.standard_normal((2, 3)), np.zeros(2), "tanh", 1.0,
        rng.standard_normal((2, 3)),
    )  # fmt: skip
    honest = json.loads(json_text(sparsemf.analyze(net, Empirical.of(x)).certificate()))
    assert sparsemf.verify(honest, {"a": net}, data=x).valid
    curve = encode(np.array([60.0, 30.0]))
    lie = honest | {"claim": honest["claim"] | {"lower": 2, "upper": 2, "certified": True, "eps": [0.01, 30.0]}}
    lie["claim"]["lower_curve"] = curve
    lie["seal"] = seal({key: value for key, value in lie.items() if key != "seal"})
    assert not sparsemf.verify(lie, {"a": net}, data=x).valid
    assert not sparsemf.verify(honest, {"a": net}, data=x.astype(object) + 1j).valid


def test_a_certificate_claims_what_is_left_where_the_last_atom_is_not_proved() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((80, 3))
    net = Network(rng.standard_normal((9, 6)), rng.standard_normal((9, 3)), rng.standard_normal(9), "tanh")
    lower = sparsemf.analyze(net, Empirical.of(x), effort=QUICK).staircase.lower
    found = sparsemf.analyze(net, Empirical.of(x), eps=float(lower[4]) * (1 - 1e-10), effort=QUICK)
    assert found.s_star.lower == 5
    document = json.loads(json_text(found.certificate()))
    assert document["claim"]["lower"] == 4
    assert sparsemf.verify(document, {"a": net}, data=x).valid


@pytest.mark.parametrize("content", ["junk", "objects"])
def test_a_file_without_numbers_is_not_recommended_to_be_loaded(content: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    if content == "junk":
        path.write_text("junk")
    else:
        np.savez(path, X=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="it is no npz file, or X holds objects") as caught:
        empirical_law(path, 3)
    assert "pickle" not in str(caught.value)


def test_numbers_out_of_range_are_refused_in_one_line() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 3))
    with pytest.raises(InputError, match="inputs: expected numbers of size at most 1e\\+100"):
        Empirical.of(1e156 * x)
    net = Network(1e-300 * rng.standard_normal((5, 2)), rng.standard_normal((5, 3)), None, "tanh")
    with pytest.raises(InputError, match="certificate: expected numbers that `verify` can bound"):
        sparsemf.analyze(net, Empirical.of(x)).certificate()
