"""Staircases of relu², exp, ramps, polynomials and networks with a quadratic part: planted truth, independent formulas,
certificates, and lies about them."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss

import sparsemf
from cases import OTHERS, planted, separated_directions
from sparsemf import Gaussian, Network, reports
from sparsemf.activations import get
from sparsemf.atomic import json_text
from sparsemf.certificates.checker.document import seal
from sparsemf.certificates.checker.raw import decode, encode
from sparsemf.certificates.checker.sparsity import free_degree as checker_free_degree
from sparsemf.certificates.equivalence import raw_of
from sparsemf.exceptions import InputError
from sparsemf.measures import Atoms
from sparsemf.measures.gaussian import beyond_affine, free_degree, quadratic_part
from sparsemf.pipeline.analysis import Analysis
from sparsemf.pipeline.reduction import form_as_atoms
from sparsemf.recovery import Effort
from sparsemf.symmetry import disguise

QUICK = Effort(few=2, drops=0, joint=0)
ATOMS = ("relu2", "exp", "relu6", "hardtanh", "hard_sigmoid", "cubic", "hermite(3)", "hermite(4)", "quadratic")
"""Planted with four separated atoms in six dimensions these need all four."""


def certificate(found: Analysis, net: Network) -> dict[str, Any]:
    """The certificate through JSON; it is valid."""
    document = json.loads(json.dumps(found.certificate()))
    verified = sparsemf.verify(document, {"a": net})
    assert verified.valid, verified.reason
    return document


def root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.sum(values**2, axis=1))))


def with_form(net: Network, rng: np.random.Generator, size: float = 0.2) -> Network:
    """The same with a random quadratic part added."""
    form = rng.standard_normal((net.m, net.d, net.d))
    own = np.zeros_like(form) if net.quadratic is None else net.quadratic
    return net.with_(quadratic=own + size * (form + form.transpose(0, 2, 1)))


# --- the pieces, by formulas of their own -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ATOMS, "gelu", "tanh", "relu"])
@pytest.mark.parametrize("free", [1, 2])
def test_the_kernel_beyond_free_degrees_by_quadrature(name: str, free: int) -> None:
    """On one line: E of the product of what Gram–Schmidt leaves of two atoms beside 1, x(, x²)."""
    points, weight = hermegauss(150)
    weight = weight / np.sqrt(2 * np.pi)
    sigma = get(name)
    inner, bias = np.array([[0.7], [-0.4]]), np.array([0.3, -0.2])
    phi = sigma.value(points[:, None] * inner.T + bias)
    basis = np.vander(points, free + 1, increasing=True) * np.sqrt(weight)[:, None]
    q, _ = np.linalg.qr(basis)
    rest = phi * np.sqrt(weight)[:, None]
    rest = rest - q @ (q.T @ rest)
    truth = rest.T @ rest
    atoms = Atoms(sigma, inner, bias)
    kinked = sigma.strip == 0.0
    assert np.allclose(beyond_affine(atoms, atoms, None, free), truth, atol=2e-3 if kinked else 1e-12)
    series = beyond_affine(atoms, atoms, 192 if kinked else 60, free)
    assert np.allclose(series, beyond_affine(atoms, atoms, None, free), atol=2e-3 if kinked else 1e-12)


def test_degree_two_of_a_network() -> None:
    """T₂ = E[f he₂] by sampling-free polarisation: f = Σ α z² + xᵀQx exactly."""
    rng = np.random.default_rng(0)
    net = with_form(planted(rng, "quadratic", d=3, atoms=2, outputs=2), rng)
    form = np.einsum("io,id,ie->ode", net.alpha, net.inner, net.inner) + net.quadratic
    assert np.allclose(quadratic_part(net), np.sqrt(2.0) * form)


def test_both_programs_agree_on_what_is_free() -> None:
    rng = np.random.default_rng(1)
    for name in (*OTHERS, "hermite(2)", "hermite(4)", "gelu", "abs", "elu(0.7)"):
        for net in (planted(rng, name, d=3, atoms=2), with_form(planted(rng, name, d=3, atoms=2), rng)):
            free = free_degree(net)
            assert free == checker_free_degree(raw_of(net))
            forms = name in ("quadratic", "hermite(2)")
            assert free == (2 if name == "relu2" or (net.quadratic is not None and not forms) else 1)


@pytest.mark.parametrize("name", ["quadratic", "hermite(2)"])
def test_a_form_as_atoms_is_the_same_function(name: str) -> None:
    rng = np.random.default_rng(2)
    net = with_form(planted(rng, name, d=4, atoms=2, outputs=3, affine=True), rng)
    changed, error = form_as_atoms(net)
    x = rng.standard_normal((200, 4))
    assert changed.quadratic is None
    assert np.abs(changed(x) - net(x)).max() < 1e-12
    assert error < 1e-12


# --- planted truth ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", ATOMS)
def test_planted_atoms_are_certified(name: str, outputs: int) -> None:
    """Random group elements, biases, another Gaussian law; the dictionary really comes within U, and the checker says
    the same."""
    rng = np.random.default_rng(3)
    truth = planted(rng, name, d=6, atoms=4, outputs=outputs, bias=True, affine=True, length=1.2)
    net = disguise(truth, rng, 25)
    law = Gaussian(0.2 * rng.standard_normal(6), np.eye(6) + 0.15 * rng.standard_normal((6, 6)))
    found = sparsemf.analyze(net, law if outputs > 1 else None, effort=QUICK)
    assert (found.s_star.value, found.s_star.certified) == (4, True)
    assert found.s_star.strength > 100
    assert (found.staircase.lower <= found.staircase.upper).all()
    x = (law if outputs > 1 else Gaussian.standard(6)).sample(20_000, rng)
    y = net(x)
    assert root_mean_square(found.dictionary(x) - y) <= 1e-9 * found.norm.upper
    for size in (0, 2):
        rest = root_mean_square(found.dictionary_of(size)(x) - y)
        assert rest <= 1.15 * found.staircase.upper[size] + 1e-9
        assert rest >= 0.85 * found.staircase.lower[size]
    document = json.loads(json_text(found.document()))
    assert document["free_degree"] == (2 if name == "relu2" else 1)
    assert sum(document["energy"].values()) == pytest.approx(1.0)
    reports.render(document)
    claim = certificate(found, net)["claim"]
    assert (claim["lower"], claim["upper"], claim["certified"]) == (4, 4, True)


def test_relu_squared_with_more_atoms_than_dimensions() -> None:
    rng = np.random.default_rng(4)
    net = disguise(planted(rng, "relu2", d=4, atoms=7, length=1.0), rng, 20)
    found = sparsemf.analyze(net, effort=QUICK)
    assert (found.s_star.value, found.s_star.certified) == (7, True)
    assert certificate(found, net)["claim"]["lower"] == 7


def test_a_quadratic_part_is_free_beside_relu_squared() -> None:
    """Flipping every neuron costs a quadratic form: same staircase, whatever form is added."""
    rng = np.random.default_rng(5)
    net = planted(rng, "relu2", d=4, atoms=3, outputs=2, bias=True)
    first = sparsemf.analyze(net, effort=QUICK)
    other = with_form(net.with_(outer=-net.outer, inner=-net.inner, bias=-net.bias), rng, 3.0)
    second = sparsemf.analyze(other, effort=QUICK)
    np.testing.assert_allclose(first.staircase.upper[:3], second.staircase.upper[:3], rtol=1e-6)
    np.testing.assert_allclose(first.staircase.lower[:3], second.staircase.lower[:3], rtol=1e-6)
    form = Network(np.zeros((0, 2)), np.zeros((0, 4)), None, "relu2", quadratic=np.ones((2, 4, 4)))
    found = sparsemf.analyze(form)
    assert (found.s_star.value, found.s_star.certified) == (0, True)
    assert certificate(found, form)["schema"] == "sparsemf/sparsity/5"


@pytest.mark.parametrize("name", ["tanh", "gelu", "relu", "sin", "exp", "hardtanh", "cubic"])
def test_networks_with_a_quadratic_part(name: str) -> None:
    rng = np.random.default_rng(6)
    net = with_form(planted(rng, name, d=5, atoms=3, outputs=2, bias=True, affine=True, length=1.2), rng)
    found = sparsemf.analyze(net, effort=QUICK)
    assert (found.s_star.value, found.s_star.certified, found.free) == (3, True, 2)
    x = rng.standard_normal((2000, 5))
    assert root_mean_square(found.dictionary(x) - net(x)) <= 1e-9 * found.norm.upper
    document = certificate(found, net)
    assert document["schema"] == "sparsemf/sparsity/5"
    # the part itself does not matter: only that there is one
    other = sparsemf.analyze(net.with_(quadratic=np.zeros((2, 5, 5))), effort=QUICK)
    np.testing.assert_allclose(found.staircase.lower, other.staircase.lower, rtol=1e-7, atol=1e-12)


def test_exponentials_that_differ_by_a_translation_are_one() -> None:
    w = np.array([[0.5, -0.3, 0.2]] * 2 + [[-0.4, 0.1, 0.6]])
    net = Network([[1.0], [-0.3], [0.7]], w, [0.0, 2.0, -40.0], "exp")
    found = sparsemf.analyze(net)
    weight = np.exp([0.0, 2.0, -40.0]) @ np.diag([1.0, -0.3, 0.7])
    assert (found.s_star.value, found.s_star.certified) == (1, True)
    assert certificate(found, net)["claim"]["upper"] == 1
    atom = found.atoms[0]
    assert atom.alpha[0] * np.exp(atom.b) == pytest.approx(weight[0] + weight[1])
    # c_k² is a Poisson law: what lies beyond degree 1 of e^{⟨w, x⟩} is e^{2r²}P(k ≥ 2)
    r2 = float(w[0] @ w[0])
    rest = abs(weight[0] + weight[1]) * np.sqrt(np.exp(2 * r2) - np.exp(r2) * (1 + r2))
    assert found.staircase.lower[0] == pytest.approx(rest, rel=1e-9)
    assert found.staircase.upper[0] == pytest.approx(rest, rel=1e-9)


def test_steep_exponentials_are_certified_or_refused() -> None:
    rng = np.random.default_rng(7)
    for length in (4.0, 9.0):
        net = planted(rng, "exp", d=3, atoms=2, length=length)
        found = sparsemf.analyze(net, effort=QUICK)
        assert found.s_star.certified
        assert certificate(found, net)["claim"]["lower"] >= 1
    with pytest.raises(InputError, match="rescale the inputs"):
        sparsemf.analyze(planted(rng, "exp", d=3, atoms=2, length=25.0))


def test_ramps_telescope_below_the_planted_number() -> None:
    """hardtanh(z) + hardtanh(z − 2) = 2 hardtanh((z − 1)/2): three neurons are two atoms, and L knows."""
    rng = np.random.default_rng(8)
    w = 1.3 * separated_directions(rng, 2, 5)
    net = Network([[1.0], [1.0], [0.8]], np.stack([w[0], w[0], w[1]]), [0.0, -2.0, 0.3], "hardtanh")
    found = sparsemf.analyze(net, effort=QUICK)
    assert (found.s_star.value, found.s_star.certified) == (2, True)
    assert found.staircase.lower[1] > 0.05
    assert certificate(found, net)["claim"]["upper"] == 2
    x = rng.standard_normal((3000, 5))
    assert root_mean_square(found.dictionary(x) - net(x)) <= 1e-9
    # shifted so that nothing telescopes: two parallel ramps are two atoms but one direction, so L cannot tell them
    apart = sparsemf.analyze(net.with_(bias=[0.0, -2.5, 0.3]), effort=QUICK)
    assert apart.quotient.network.width == 3
    assert apart.staircase.lower[2] == 0.0
    assert apart.s_star.lower <= apart.exact.upper == 3


@pytest.mark.parametrize("name", ["quadratic", "hermite(2)"])
def test_forms_of_one_output_meet_at_the_eigenvalues(name: str) -> None:
    """U(S) = L(S) = √2·√Σ_{j > S} λ_j², the eigenvalues taken independently, under any Gaussian law; Q is added."""
    rng = np.random.default_rng(9)
    net = with_form(planted(rng, name, d=5, atoms=3, bias=True, affine=True), rng)
    root = np.eye(5) + 0.2 * rng.standard_normal((5, 5))
    for law in (None, Gaussian(rng.standard_normal(5), root)):
        found = sparsemf.analyze(net, law)
        assert net.quadratic is not None
        form = np.einsum("i,id,ie->de", net.alpha[:, 0], net.inner, net.inner) + net.quadratic[0]
        form = form if law is None else root.T @ form @ root
        values = np.sort(np.abs(np.linalg.eigvalsh(form)))[::-1]
        truth = np.sqrt(2.0 * np.append(np.cumsum(values[::-1] ** 2)[::-1], 0.0))
        np.testing.assert_allclose(found.staircase.upper, truth, atol=1e-6 * truth[0])
        np.testing.assert_allclose(found.staircase.lower, truth, atol=1e-6 * truth[0])
        assert (found.s_star.value, found.s_star.certified, found.free) == (5, True, 1)
        assert certificate(found, net)["claim"]["lower"] == 5


@pytest.mark.parametrize("name", ["quadratic", "hermite(2)"])
def test_forms_of_several_outputs_with_one_of_their_own(name: str) -> None:
    """Q beside degree-2 atoms counts: a rank-1 form that all outputs share is one more atom."""
    rng = np.random.default_rng(10)
    net = planted(rng, name, d=5, atoms=3, outputs=3, length=1.2)
    u = rng.standard_normal(5)
    more = net.with_(quadratic=np.multiply.outer(np.array([1.0, -0.5, 0.7]), np.outer(u, u)))
    for case, atoms in ((net, 3), (more, 4)):
        found = sparsemf.analyze(case, effort=Effort(few=4, drops=0, joint=0))
        assert found.staircase.lower[atoms - 1] > 1e-3 * found.norm.upper
        assert found.staircase.lower[atoms] == 0.0
        assert found.s_star.lower <= atoms
        document = certificate(found, case)
        assert document["schema"] == "sparsemf/sparsity/3"
        curve = np.asarray(decode(document["claim"]["lower_curve"]))
        np.testing.assert_allclose(curve[:atoms], found.staircase.lower[:atoms], rtol=1e-6)


@pytest.mark.parametrize("outputs", [1, 2])
def test_linear_networks_are_affine_functions(outputs: int) -> None:
    rng = np.random.default_rng(11)
    net = planted(rng, "linear", d=4, atoms=6, outputs=outputs, bias=True, affine=True)
    for case in (net, with_form(net, rng)):
        found = sparsemf.analyze(case)
        assert (found.s_star.value, found.s_star.certified, found.dictionary.width) == (0, True, 0)
        assert certificate(found, case)["claim"]["eps"][0] <= 1e-11 * found.norm.upper


@pytest.mark.parametrize("name", [*OTHERS, "hermite(2)"])
def test_nothing_and_constants(name: str) -> None:
    for net in (
        Network(np.zeros((2, 2)), np.ones((2, 3)), None, name),
        Network(np.zeros((0, 1)), np.zeros((0, 3)), None, name, affine=[[1.0, 2.0, 3.0]]),
        Network(np.ones((2, 2)), np.zeros((2, 3)), [1.0, 2.0], name, offset=[5.0, 7.0]),
    ):
        found = sparsemf.analyze(net)
        assert (found.s_star.value, found.s_star.certified) == (0, True)
        certificate(found, net)


@pytest.mark.parametrize("name", ["relu2", "exp", "hardtanh", "quadratic", "cubic"])
def test_dipoles_are_within_their_own_bounds(name: str) -> None:
    """±10⁵ pairs 10⁻⁵ apart: digits are lost, no bound crosses, and the checker agrees with what is left."""
    rng = np.random.default_rng(12)
    base = planted(rng, name, d=4, atoms=3, bias=True)
    net = base.with_(
        outer=np.concatenate([1e5 * base.outer, -1e5 * base.outer[:1]]),
        inner=np.concatenate([base.inner, base.inner[:1] + 1e-5]),
        bias=np.concatenate([base.bias, base.bias[:1]]),
    )
    found = sparsemf.analyze(net, effort=QUICK)
    assert (found.staircase.lower <= found.staircase.upper).all()
    document = certificate(found, net)
    assert document["claim"]["lower"] <= found.exact.upper
    x = rng.standard_normal((20_000, 4))
    rest = root_mean_square(found.dictionary(x) - net(x))
    assert rest <= 1.2 * found.staircase.upper[found.s_star.value] + 1e-9 * found.norm.upper


def test_steep_ramps_take_no_time_of_their_own() -> None:
    """Slopes of 10³: the closed form serves, no entry is refined one by one."""
    rng = np.random.default_rng(13)
    net = planted(rng, "relu6", d=4, atoms=4, outputs=2, bias=True, length=1e3)
    found = sparsemf.analyze(net, effort=QUICK)
    assert (found.s_star.value, found.s_star.certified) == (4, True)
    assert certificate(found, net)["claim"]["lower"] == 4


# --- lies -------------------------------------------------------------------------------------------------------------


def _sealed(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "seal": seal(document)}


def _lying(name: str) -> tuple[Network, dict[str, Any]]:
    rng = np.random.default_rng(14)
    if name.startswith("form "):
        net = with_form(planted(rng, name[5:], d=4, atoms=3, outputs=2, bias=True, length=1.2), rng)
    else:
        net = planted(rng, name, d=4, atoms=3, outputs=2, bias=True, affine=True, length=1.2)
    found = sparsemf.analyze(net, effort=QUICK)
    document = certificate(found, net)
    assert (document["claim"]["lower"], document["claim"]["upper"]) == (3, 3)
    return net, document


@pytest.mark.parametrize("name", ["relu2", "exp", "hardtanh", "quadratic", "cubic", "form tanh"])
def test_false_claims_are_refused(name: str) -> None:
    net, honest = _lying(name)
    low, high = honest["claim"]["eps"]
    curve = decode(honest["claim"]["lower_curve"])

    def refused(**changes: Any) -> bool:
        document = copy.deepcopy(honest)
        document["claim"] |= changes
        return not sparsemf.verify(_sealed(document), {"a": net}).valid

    assert refused(lower=4, upper=4)
    assert refused(lower=2, upper=2)
    assert refused(eps=[low, high * 1.001])
    assert refused(eps=[1e-16, high])
    assert refused(eps=[low, None])
    assert refused(certified=False)
    assert refused(lower_curve=encode(np.asarray(curve) * (1 + 1e-4)))
    assert refused(lower_curve=encode(np.append(np.asarray(curve)[:3], [1e-3 * float(curve[0])])))
    for schema in {"sparsemf/sparsity/3", "sparsemf/sparsity/4", "sparsemf/sparsity/5"} - {honest["schema"]}:
        assert not sparsemf.verify(_sealed({**honest, "schema": schema}), {"a": net}).valid
    for entry in ("outer", "inner", "bias", "affine", "offset", "quadratic"):
        if entry not in honest["evidence"]["dictionary"]:
            continue
        document = copy.deepcopy(honest)
        array = np.asarray(decode(document["evidence"]["dictionary"][entry]))
        moved = array + 1e-3 if entry == "quadratic" else array * (1 + 1e-3) + 1e-3
        document["evidence"]["dictionary"][entry] = encode(moved)
        assert not sparsemf.verify(_sealed(document), {"a": net}).valid, entry


@pytest.mark.parametrize("name", ["relu2", "form tanh"])
def test_degree_two_is_no_evidence_where_forms_are_free(name: str) -> None:
    net, honest = _lying(name)
    document = copy.deepcopy(honest)
    document["evidence"]["partitions"] = [[[1, 2, 10, False]]]
    assert not sparsemf.verify(_sealed(document), {"a": net}).valid
    document["evidence"]["dictionary"]["quadratic"] = None
    assert not sparsemf.verify(_sealed(document), {"a": net}).valid


def test_a_file_with_a_quadratic_part_is_not_the_one_without() -> None:
    """A claim beside affine functions says more than one beside quadratic ones, and does not stand for it."""
    rng = np.random.default_rng(15)
    plain = planted(rng, "tanh", d=4, atoms=3, bias=True)
    net = plain.with_(quadratic=np.zeros((1, 4, 4)))
    weak, strong = (certificate(sparsemf.analyze(case, effort=QUICK), case) for case in (net, plain))
    assert (weak["schema"], strong["schema"]) == ("sparsemf/sparsity/5", "sparsemf/sparsity/3")
    for document, case in ((weak, plain), (strong, net)):
        told = copy.deepcopy(document)
        told["inputs"]["a"]["arrays_sha256"] = raw_of(case).sha256
        assert not sparsemf.verify(_sealed(told), {"a": case}).valid
