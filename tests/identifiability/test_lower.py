"""Flattening spectra against explicit tensors, and the lower curve against explicit networks."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from cases import ANALYSED, planted
from sparsemf.identifiability import Flattening, lower_curve, s_up, spectrum, symmetric_features
from sparsemf.measures import Atoms, Gaussian, Network, l2_distance
from sparsemf.symmetry import disguise, quotient


def explicit_singular_values(network: Network, flattening: Flattening) -> np.ndarray:
    """Dense tensors T_k, flattened by hand: the definition, with no kernel."""
    atoms, d, m = Atoms.of(network), network.d, network.m
    blocks = []
    for k in range(flattening.low, flattening.high + 1):
        c = atoms.hermite(k)[:, k]
        tensor = np.zeros((d,) * k + (m,))
        for i in range(network.width):
            rank_one = np.array(c[i])
            for _ in range(k):
                rank_one = np.multiply.outer(rank_one, atoms.unit[i])
            tensor += np.multiply.outer(rank_one, network.alpha[i])
        p = flattening.p
        if flattening.outputs_in_rows:
            tensor = np.moveaxis(tensor, -1, p)
            blocks.append(tensor.reshape(d**p * m, -1))
        else:
            blocks.append(tensor.reshape(d**p, -1))
    return np.linalg.svd(np.concatenate(blocks, axis=1), compute_uv=False)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("width", [3, 12])
def test_spectrum_is_that_of_the_flattened_tensors(p: int, rows: bool, width: int) -> None:
    rng = np.random.default_rng(p)
    net = planted(rng, "gelu", d=3, atoms=width, outputs=2, bias=True, length=0.9)if width == 3 else Network(
        rng.standard_normal((width, 2)), rng.standard_normal((width, 3)), rng.standard_normal(width), "gelu"
    )  # fmt: skip
    flattening = Flattening(p, max(2, p), 5, rows)
    truth = explicit_singular_values(net, flattening)
    found = np.sqrt(spectrum(net, flattening).energy)
    size = min(truth.size, found.size)
    np.testing.assert_allclose(found[:size], truth[:size], atol=1e-6 * truth[0])
    tails = spectrum(net, flattening).tails(width)
    exact = np.array([np.sum(truth[s:] ** 2) for s in range(width + 1)])
    assert (tails <= exact + 1e-14 * exact[0]).all()
    np.testing.assert_allclose(tails, exact, atol=1e-11 * exact[0])


def test_symmetric_features_reproduce_powers() -> None:
    u = np.random.default_rng(0).standard_normal((6, 4))
    for p in range(4):
        np.testing.assert_allclose(symmetric_features(u, p) @ symmetric_features(u, p).T, (u @ u.T) ** p, atol=1e-10)


@pytest.mark.parametrize("activation", ANALYSED)
@pytest.mark.parametrize(("d", "atoms", "outputs", "bias"), [(8, 5, 1, False), (6, 12, 1, False), (4, 6, 3, True)])
def test_lower_curve_never_exceeds_explicit_networks(
    activation: str, d: int, atoms: int, outputs: int, bias: bool
) -> None:
    """Dropping atoms with the best coefficients, and random S-atom networks: all are farther than L(S)."""
    rng = np.random.default_rng(7)
    net = quotient(planted(rng, activation, d, atoms, outputs, bias)).network
    curve = lower_curve(net)
    assert (np.diff(curve.atoms) <= 0).all()
    assert (curve.directions <= curve.atoms).all()
    assert curve.atoms[atoms] == 0.0
    law = Gaussian.standard(d)
    for size in range(atoms):
        kept = rng.permutation(atoms)[:size]
        other = Network(net.alpha[kept], net.inner[kept] + 0.1 * rng.standard_normal((size, d)), net.bias[kept],
                        activation, affine=net.affine, offset=net.offset)  # fmt: skip
        assert curve.atoms[size] <= l2_distance(net, other, law).upper


def test_single_relu_neuron_needs_one_atom_only() -> None:
    """A union of spectra over degrees would claim two."""
    curve = lower_curve(Network([[1.0]], [[0.6, 0.8]], None, "relu"))
    assert curve.atoms[0] > 0.3
    assert curve.atoms[1] == 0.0


def test_same_direction_two_biases_counts_two_atoms_with_two_outputs() -> None:
    net = Network(np.eye(2), [[1.0, 0.0], [1.0, 0.0]], [0.0, 1.0], "tanh")
    curve = lower_curve(net)
    assert curve.directions[1] < 1e-6
    assert curve.atoms[1] > 1e-2


def test_tails_of_rank_deficient_clouds_are_zero_beyond_the_rank() -> None:
    """5 directions, 500 particles exactly on them with huge cancelling coefficients: no spurious lower bound."""
    rng = np.random.default_rng(9)
    base = planted(rng, "tanh", atoms=5)
    rows = rng.integers(0, 5, 500)
    outer = rng.standard_normal((500, 1))
    outer[0::2] += 1e4
    outer[1::2] -= 1e4
    net = Network(outer, base.inner[rows], None, "tanh")
    assert lower_curve(net).atoms[5] == 0.0


def test_threshold_number_is_basis_dependent() -> None:
    along = s_up(Network([[1.0]], [[1.0, 0.0]], None, "relu"), 0.2, first=0)
    diagonal = s_up(Network([[1.0]], [[math.sqrt(0.5), math.sqrt(0.5)]], None, "relu"), 0.2, first=0)
    assert (along.value, diagonal.value) == (1, 0)


def test_threshold_number_by_enumeration() -> None:
    rng = np.random.default_rng(11)
    net = Network(rng.standard_normal((4, 1)), rng.standard_normal((4, 2)), rng.standard_normal(4), "gelu")
    atoms = Atoms.of(net)
    sigma = net.activation.hermite(np.ones(1), np.zeros(1), 6)[0]
    count = 0
    for a, b in product(range(7), repeat=2):
        k = a + b
        if not 2 <= k <= 6:
            continue
        weight = math.sqrt(math.factorial(k) / math.factorial(a) / math.factorial(b))
        value = weight * np.sum(
            net.alpha[:, 0] * atoms.hermite(k)[:, k] * atoms.unit[:, 0] ** a * atoms.unit[:, 1] ** b
        )
        count += abs(value * sigma[k]) > 1e-3
    assert s_up(net, 1e-3, degree=6).value == count


def test_disguises_share_their_lower_curve() -> None:
    rng = np.random.default_rng(12)
    net = planted(rng, "silu", outputs=2, bias=True)
    first, second = (lower_curve(quotient(disguise(net, rng, 60)).network).atoms for _ in range(2))
    np.testing.assert_allclose(first, second, atol=1e-6)
