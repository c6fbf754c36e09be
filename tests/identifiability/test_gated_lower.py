"""Gated blocks: Hermite tensors, kernels and spectra against dense quadrature; the lower curve against networks."""

from __future__ import annotations

from functools import cache
from itertools import permutations, product
from math import factorial
from typing import Any, cast

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss

from cases import planted_gated
from sparsemf.identifiability import Flattening, lower_curve
from sparsemf.identifiability.gated_flattenings import gated_spectrum, rows_per_atom
from sparsemf.measures import Network
from sparsemf.measures.gated import GatedAtoms, beyond_quadratic, low_part, series_degree
from sparsemf.recovery import Effort, Problem, refit, upper_curve
from sparsemf.recovery.gated import GatedGeometry
from sparsemf.recovery.gated_population import GatedTarget, settle_gated
from sparsemf.symmetry import disguise, quotient

GATES = ["silu", "gelu", "relu", "sigmoid", "tanh", "softplus", "leaky_relu", "sin"]
NODES = 90


@cache
def grid(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (n, d) and weights of the product rule."""
    g, w = hermegauss(NODES)
    x = np.stack(np.meshgrid(*[g] * d, indexing="ij"), -1).reshape(-1, d)
    weights = np.ones(x.shape[0])
    for part in np.meshgrid(*[w / w.sum()] * d, indexing="ij"):
        weights *= part.ravel()
    return x, weights


def dense_tensors(network: Network, degree: int) -> list[np.ndarray]:
    """T_k = E f he_α by quadrature, every entry: the definition, no formula of the package."""
    x, weights = grid(network.d)
    he = np.ones((degree + 1, *x.shape))
    he[1] = x
    for k in range(1, degree):
        he[k + 1] = (x * he[k] - np.sqrt(k) * he[k - 1]) / np.sqrt(k + 1)
    values, out = network(x), []
    for k in range(degree + 1):
        tensor = np.zeros((network.d,) * k + (network.m,))
        for index in product(range(network.d), repeat=k):
            if list(index) != sorted(index):
                continue
            counts = np.bincount(index, minlength=network.d) if k else np.zeros(network.d, dtype=int)
            many = factorial(k)
            for c in counts:
                many //= factorial(int(c))
            polynomial = np.prod([he[c][:, j] for j, c in enumerate(counts)], axis=0)
            entry = (weights * polynomial) @ values / np.sqrt(many)
            for place in set(permutations(index)):
                tensor[place] = entry
        out.append(tensor)
    return out


def small(rng: np.random.Generator, name: str, n: int, d: int, m: int) -> Network:
    form = rng.standard_normal((m, d, d))
    return Network(
        rng.standard_normal((n, m)),
        rng.standard_normal((n, d)),
        rng.standard_normal(n),
        name,
        gate=0.7 * rng.standard_normal((n, d)),
        gate_bias=rng.standard_normal(n),
        affine=rng.standard_normal((m, d)),
        quadratic=form + form.transpose(0, 2, 1),
    )


@pytest.mark.parametrize("name", ["silu", "gelu", "sigmoid", "softplus"])
@pytest.mark.parametrize(("n", "d", "m"), [(1, 2, 1), (3, 2, 1), (2, 3, 2)])
def test_spectra_are_those_of_dense_tensors(name: str, n: int, d: int, m: int) -> None:
    net = small(np.random.default_rng(n), name, n, d, m)
    degree = 6 if d == 2 else 5
    tensors = dense_tensors(net, degree)
    for k, own in enumerate(low_part(net)):
        np.testing.assert_allclose(own, np.moveaxis(tensors[k], -1, 0), atol=1e-9)
    for rows in (False, True):
        for p in range(0 if rows else 1, 4):
            flattening = Flattening(p, 3, degree, rows)
            blocks = []
            for k in range(3, degree + 1):
                part = tensors[k].reshape(d**p, d ** (k - p), m)
                blocks.append(part.transpose(0, 2, 1).reshape(d**p * m, -1) if rows else part.reshape(d**p, -1))
            truth = np.linalg.svd(np.concatenate(blocks, axis=1), compute_uv=False) ** 2
            found = gated_spectrum(net, flattening)
            size = min(truth.size, found.energy.size)
            np.testing.assert_allclose(found.energy[:size], truth[:size], atol=1e-9 * truth[0])
            rank = rows_per_atom(flattening) * n
            assert np.sum(truth > 1e-12 * truth[0]) <= rank
            tails = found.tails(rank)
            exact = np.array([np.sum(truth[s:]) for s in range(rank + 1)])
            assert (tails <= exact + 1e-9 * exact[0]).all()
            np.testing.assert_allclose(tails, exact, atol=1e-9 * exact[0])


def test_one_atom_has_rank_two_and_no_less() -> None:
    """A generic atom needs both of its rows, so a bound that counts S per atom would be wrong."""
    net = small(np.random.default_rng(5), "silu", 1, 3, 1).with_(quadratic=None, affine=None)
    energy = gated_spectrum(net, Flattening(1, 3, 8)).energy
    assert energy[1] > 1e-3 * energy[0]
    assert (energy[2:] <= 1e-14 * energy[0]).all()


@pytest.mark.parametrize("name", GATES)
def test_kernel_beyond_degree_two(name: str) -> None:
    """By quadrature with the quadratic polynomials projected out; kinked gates to the quadrature's accuracy."""
    rng = np.random.default_rng(2)
    net = small(rng, name, 4, 2, 1)
    atoms = GatedAtoms.of(net)
    x, weights = grid(2)
    phi = net.activation.value(x @ atoms.gate.T + atoms.gate_bias) * (x @ atoms.inner.T + atoms.bias)
    low = np.stack([np.ones(len(x)), *x.T, x[:, 0] * x[:, 1], *((x**2 - 1).T / np.sqrt(2))], axis=1)
    rest = phi - low @ (low.T @ (weights[:, None] * phi))
    truth = rest.T @ (weights[:, None] * rest)
    degree = series_degree(atoms, np.ones(4))
    found = beyond_quadratic(atoms, atoms, degree)
    kinked = name in ("relu", "leaky_relu")
    assert (degree is None) is kinked
    np.testing.assert_allclose(found, truth, atol=(3e-2 if kinked else 1e-8) * np.max(truth))
    # the series leaves out at most what its tails say, and what it leaves out is positive semi-definite
    series, tail = beyond_quadratic(atoms, atoms, 48), atoms.tail(48)
    assert (np.abs(found - series) <= np.outer(tail, tail) + 1e-12).all()
    assert np.linalg.eigvalsh(found - series)[0] >= -1e-11


def smaller(rng: np.random.Generator, f: Network, size: int) -> Network:
    """``size`` atoms - some of f's, moved a little, or any - with coefficients and quadratic part by least squares."""
    kept = rng.permutation(f.width)[:size]
    assert f.gate is not None
    assert f.gate_bias is not None
    noise = 10.0 ** rng.uniform(-3, 0.5)
    gate = f.gate[kept] + noise * rng.standard_normal((size, f.d))
    inner = f.inner[kept] + noise * rng.standard_normal((size, f.d))
    shift, bias = f.gate_bias[kept], f.bias[kept]
    x = rng.standard_normal((3000, f.d))
    phi = f.activation.value(x @ gate.T + shift) * (x @ inner.T + bias)
    i, j = np.triu_indices(f.d)
    design = np.concatenate([phi, x, np.ones((len(x), 1)), x[:, i] * x[:, j]], axis=1)
    solution = np.linalg.lstsq(design, f(x), rcond=None)[0]
    form = np.zeros((f.m, f.d, f.d))
    form[:, i, j] = solution[size + f.d + 1 :].T
    return Network(
        solution[:size], inner, bias, f.activation, affine=solution[size : size + f.d].T, offset=solution[size + f.d],
        quadratic=0.5 * (form + form.transpose(0, 2, 1)), gate=gate, gate_bias=shift,
    )  # fmt: skip


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize(("d", "atoms", "outputs", "shared"), [(2, 3, 1, 0), (4, 4, 1, 1), (6, 3, 4, 2)])
def test_the_lower_curve_is_below_every_network(name: str, d: int, atoms: int, outputs: int, shared: int) -> None:
    """Below U(S), and below the distance to random networks of S atoms, measured on samples with a margin."""
    rng = np.random.default_rng(11)
    planted = planted_gated(rng, name, d, atoms, outputs, min(shared, outputs - 1) if outputs > 1 else 0)
    net = quotient(planted).network
    low, high = lower_curve(net), upper_curve(net)
    assert (low.atoms <= high.upper).all()
    assert (np.diff(low.atoms) <= 0).all()
    assert (low.directions <= low.atoms).all()
    assert low.atoms[net.width] == 0.0
    x = rng.standard_normal((20_000, d))
    y = net(x)
    for size in range(net.width):
        for _ in range(4):
            square = np.sum((smaller(rng, net, size)(x) - y) ** 2, axis=1)
            distance = np.sqrt(np.mean(square) + 5 * np.std(square) / np.sqrt(len(x)))
            assert low.atoms[size] <= distance


@pytest.mark.parametrize("name", ["silu", "relu", "sigmoid"])
def test_a_shared_gate_counts_with_its_rank(name: str) -> None:
    """Five pairs (α, ℓ) at one gate are a matrix of rank min(5, m, d + 1): two for two outputs, one for one."""
    rng = np.random.default_rng(3)
    for outputs in (1, 2, 3):
        net = planted_gated(rng, name, d=4, atoms=1, outputs=outputs, shared=4, polynomial=True)
        seen = quotient(net).network
        assert seen.width == outputs
        low = lower_curve(seen).atoms
        assert low[outputs] == 0.0
        assert low[outputs - 1] > 1e-3
        # the unmerged neurons give the same curve
        raw = lower_curve(net).atoms
        np.testing.assert_allclose(raw[: outputs + 1], low[: outputs + 1], atol=1e-6 * low[0])


def test_near_duplicates_are_never_counted_twice() -> None:
    """Two gates 1e-6 apart: L(S − 1) is at most what merging them costs."""
    rng = np.random.default_rng(4)
    for gap in (1e-2, 1e-4, 1e-6, 1e-9):
        net = planted_gated(rng, "gelu", d=4, atoms=3, outputs=1)
        gate, inner = np.array(net.gate), np.array(net.inner)
        gate[1] = gate[0] + gap * rng.standard_normal(4)
        inner[1] = inner[0] + gap * rng.standard_normal(4)
        shift, bias = np.array(net.gate_bias), np.array(net.bias)
        shift[1], bias[1] = shift[0], bias[0]
        close = net.with_(gate=gate, inner=inner, gate_bias=shift, bias=bias)
        low, high = lower_curve(close), upper_curve(close)
        assert (low.atoms <= high.upper).all()
        assert low.atoms[2] <= 30 * gap
        assert low.atoms[1] > 1e-3


def test_flips_and_disguises_leave_the_curves() -> None:
    rng = np.random.default_rng(8)
    for name in ("silu", "sigmoid", "leaky_relu"):
        net = planted_gated(rng, name, d=5, atoms=4, outputs=2, polynomial=True)
        first = lower_curve(quotient(net).network).atoms
        again = lower_curve(quotient(disguise(net, rng, 20)).network).atoms
        np.testing.assert_allclose(again[:5], first[:5], rtol=1e-6, atol=1e-9)


def test_every_size_of_the_upper_curve_is_reached() -> None:
    """The dictionary with its polynomial part is as close as U(S) says, on samples."""
    rng = np.random.default_rng(9)
    x = rng.standard_normal((60_000, 4))
    for name in ("silu", "relu", "sigmoid"):
        net = quotient(planted_gated(rng, name, d=4, atoms=5, outputs=2, polynomial=True)).network
        curve = upper_curve(net)
        for size in range(net.width + 1):
            g = curve.network(size)
            assert g.width <= size
            error = np.sqrt(np.mean(np.sum((g(x) - net(x)) ** 2, axis=1)))
            assert error <= 1.05 * curve.upper[size] + 1e-9
            assert error >= 0.9 * curve.upper[size] - 1e-6


@pytest.mark.parametrize("name", ["silu", "relu", "sigmoid"])
def test_refined_atoms_are_stationary_and_better(name: str) -> None:
    """From two planted atoms moved by 20 %, refinement finds them; of three, two refined beat two selected."""
    rng = np.random.default_rng(10)
    net = quotient(planted_gated(rng, name, d=4, atoms=2, outputs=2)).network
    atoms = GatedAtoms.of(net)
    target = GatedTarget.of(atoms, net.alpha, 96, 2)
    moved = GatedAtoms(
        net.activation, *(x * (1 + 0.2 * rng.standard_normal(x.shape)) for x in
                          (atoms.gate, atoms.gate_bias, atoms.inner, atoms.bias)),
    )  # fmt: skip
    found = settle_gated(moved, target, steps=100, inner=100).atoms
    problem = Problem(net, GatedGeometry.of(net))
    before, after = (refit(problem, cast(Any, x)).error for x in (moved, found))
    assert after < 1e-3 * before
    again = settle_gated(found, target, steps=100, inner=100).atoms
    assert refit(problem, cast(Any, again)).error <= after * 1.01 + 1e-9
    three = quotient(planted_gated(rng, name, d=4, atoms=3, outputs=1)).network
    plain, refined = upper_curve(three, effort=Effort(few=0, drops=0, joint=0)), upper_curve(three)
    assert (refined.upper <= plain.upper).all()
    assert refined.upper[2] < 0.97 * plain.upper[2]


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs"])
def test_the_closed_form_loses_no_more_than_its_stated_margin(name: str) -> None:
    """Rotated inputs give the same kernel, to a tenth of the margin; near-duplicates of all distances included."""
    rng = np.random.default_rng(12)
    for trial in range(40):
        n, d, gap = 6, int(rng.integers(2, 12)), 10.0 ** rng.uniform(-12, 0)
        gate, shift, inner = rng.standard_normal((n, d)), rng.standard_normal(n), rng.standard_normal((n, d))
        side = 1 if trial % 2 else -1
        gate[3:] = side * gate[:3] + gap * rng.standard_normal((3, d))
        shift[3:] = side * shift[:3] + gap * rng.standard_normal(3)
        inner[3:] = inner[:3] + gap * rng.standard_normal((3, d))
        first = GatedAtoms(Network([[1.0]], [[1.0]], None, name).activation, gate, shift, inner, rng.standard_normal(n))
        turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
        second = GatedAtoms(first.activation, gate @ turn, shift, inner @ turn, first.bias)
        scale = GatedGeometry(d, None).length(first)
        found = [beyond_quadratic(x, x, None) / np.outer(scale, scale) for x in (first, second)]
        margin = GatedGeometry(d, None).margin(0, 0.0, 1.0)
        assert np.max(np.abs(found[0] - found[1])) <= 0.1 * margin
        assert np.linalg.eigvalsh(found[0])[0] >= -margin
