"""The lower curve where degrees 1 and 0 take part: dense tensors, explicit networks, singular values."""

from __future__ import annotations

from itertools import product
from math import factorial

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss, hermeval

from cases import planted
from sparsemf.certificates.checker.flattening import Group, tails
from sparsemf.certificates.checker.laws import Norm
from sparsemf.certificates.checker.sparsity import described
from sparsemf.certificates.equivalence import raw_of
from sparsemf.identifiability import Flattening, lower_curve
from sparsemf.identifiability.flattenings import spectrum
from sparsemf.identifiability.lower import partitions, with_low_degrees
from sparsemf.measures import Gaussian, Network, l2_distance

Array = np.ndarray
GROUPS = [(0, 0, 0, True), (0, 0, 1, True), (0, 0, 4, True), (0, 1, 5, True), (1, 1, 1, False), (1, 1, 4, False),
          (1, 1, 3, True), (2, 2, 4, False)]  # fmt: skip


def dense_tensors(net: Network, degree: int) -> list[Array]:
    """T_k = E[f(x) He_k(x)]/√k! for k ≤ degree, (m, d, …, d), by product quadrature."""
    points, weight = hermegauss(120)
    grid = np.array(list(product(points, repeat=net.d)))
    mass = np.prod(np.array(list(product(weight / np.sqrt(2 * np.pi), repeat=net.d))), axis=1)
    values = net(grid) * mass[:, None]
    found = []
    for k in range(degree + 1):
        out = np.empty((net.m, *[net.d] * k))
        for index in product(range(net.d), repeat=k):
            he = np.ones(grid.shape[0])
            for axis in range(net.d):
                he = he * hermeval(grid[:, axis], [0.0] * index.count(axis) + [1.0])
            out[(slice(None), *index)] = he @ values / np.sqrt(factorial(k))
        found.append(out)
    return found


def flattened(tensors: list[Array], p: int, low: int, high: int, rows: bool) -> Array:
    """[T_k]_k with p indices (and the outputs) in the rows, written out."""
    parts = []
    for k in range(low, high + 1):
        t = tensors[k]
        m, d = t.shape[0], t.shape[1] if k else 1
        t = t.reshape(m, d**p, -1)
        parts.append(t.reshape(m * d**p, -1) if rows else t.transpose(1, 0, 2).reshape(d**p, -1))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("name", ["gelu", "sigmoid"])
def test_spectra_of_both_programs_are_those_of_dense_tensors(name: str, d: int) -> None:
    rng = np.random.default_rng(d)
    w, b = rng.standard_normal((3, d)), rng.standard_normal(3)
    w[2], b[2] = -w[1], -b[1]  # opposite neurons: no copy of one another where a flip is charged
    slope, level = rng.standard_normal((2, d)), rng.standard_normal(2)
    net = Network(rng.standard_normal((3, 2)), w, b, name, affine=slope, offset=level)
    tensors = dense_tensors(net, 5)
    described_as, _ = described(Norm("gaussian"), raw_of(net), 5, -1)
    for p, low, high, rows in GROUPS:
        square = np.linalg.svd(flattened(tensors, p, low, high, rows), compute_uv=False) ** 2
        truth = np.append(np.cumsum(square[::-1])[::-1], np.zeros(8))[:4]
        scale = truth[0]
        np.testing.assert_allclose(spectrum(net, Flattening(p, low, high, rows)).tails(3), truth, atol=1e-9 * scale)
        np.testing.assert_allclose(tails(described_as, Group(p, low, high, rows))[:4], truth, atol=1e-9 * scale)


@pytest.mark.parametrize("free", [0, -1])
@pytest.mark.parametrize("name", ["relu", "gelu", "tanh", "sigmoid", "exp"])
def test_no_network_without_affine_part_is_closer(name: str, free: int) -> None:
    """Random networks, the best coefficients on the target's own atoms, and the target's beginnings."""
    rng = np.random.default_rng([5, *name.encode()])
    f = planted(rng, name, d=3, atoms=4, outputs=2, bias=True, length=1.1)
    f = f.with_(affine=0.5 * rng.standard_normal((2, 3)), offset=rng.standard_normal(2))
    curve = lower_curve(f, free=free).atoms
    x = rng.standard_normal((4000, 3))
    for size in (1, 2, 3):
        for own in (True, True, False):
            chosen = rng.permutation(4)[:size]
            inner = f.inner[chosen] if own else rng.standard_normal((size, 3))
            bias = f.bias[chosen] if own else rng.standard_normal(size)
            if own and size > 1:  # one of them a constant
                inner, bias = inner * (np.arange(size) > 0)[:, None], bias + (np.arange(size) == 0)
            phi = f.activation.value(x @ inner.T + bias)
            design = np.concatenate([phi, np.full((x.shape[0], 1), float(free == 0))], axis=1)
            beta = np.linalg.lstsq(design, f(x), rcond=None)[0]
            g = Network(beta[:size], inner, bias, name, offset=beta[size] * float(free == 0))
            assert l2_distance(f, g, Gaussian.standard(3)).upper >= curve[size] * (1 - 1e-9)


@pytest.mark.parametrize("outputs", [1, 4])
def test_charging_more_never_lowers_the_curve(outputs: int) -> None:
    rng = np.random.default_rng(2)
    f = planted(rng, "silu", d=6, atoms=5, outputs=outputs, bias=True, affine=True)
    free, offset, charged = (lower_curve(f, free=k) for k in (1, 0, -1))
    assert (offset.atoms >= free.atoms * (1 - 1e-9)).all()
    assert (charged.atoms >= offset.atoms * (1 - 1e-9)).all()
    assert (offset.directions >= free.directions * (1 - 1e-9)).all()
    np.testing.assert_allclose(charged.directions, offset.directions, rtol=1e-9)  # a constant has no direction
    assert charged.atoms[0] > offset.atoms[0] > free.atoms[0]


def test_an_affine_function_has_the_tails_of_its_singular_values() -> None:
    """f = A x + c: S atoms of any activation leave √Σ_{j > S} s_j(A)²; with c charged, of [c, A]."""
    rng = np.random.default_rng(3)
    slope, level = rng.standard_normal((4, 6)), rng.standard_normal(4)
    for size in (1.0, 3.0):
        net = Network(np.zeros((5, 4)), rng.standard_normal((5, 6)), None, "tanh", affine=size * slope, offset=level)
        for free, matrix in ((0, size * slope), (-1, np.concatenate([level[:, None], size * slope], axis=1))):
            square = np.linalg.svd(matrix, compute_uv=False) ** 2
            truth = np.sqrt(np.append(np.cumsum(square[::-1])[::-1], [0.0, 0.0]))
            np.testing.assert_allclose(lower_curve(net, free=free).atoms, truth, atol=1e-6 * truth[0])


def test_a_constant_atom_is_an_atom() -> None:
    """f = c with two outputs: nothing is needed beside a free constant, one atom where it is charged."""
    net = Network(np.zeros((1, 2)), np.zeros((1, 3)), [1.0], "relu", offset=[3.0, 4.0])
    assert not lower_curve(net, free=0).atoms.any()
    np.testing.assert_allclose(lower_curve(net, free=-1).atoms, [5.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("free", [0, -1])
@pytest.mark.parametrize("rows", [False, True])
def test_partitions_cover_each_degree_once(free: int, rows: bool) -> None:
    for p in (0, 1, 2, 3, 4) if rows else (1, 2, 3, 4):
        for partition in partitions(free, 9, p, rows):
            assert [k for g in partition for k in range(g.low, g.high + 1)] == list(range(1, 10))
            for other in with_low_degrees(free, partition):
                assert [k for g in other for k in range(g.low, g.high + 1)] == list(range(free + 1, 10))
                assert all(g.p <= g.low and (g.p or g.outputs_in_rows) for g in other)
