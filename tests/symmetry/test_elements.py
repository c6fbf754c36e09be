"""Random group elements: the function does not change, whatever the activation, the gate and the outputs."""

from __future__ import annotations

import numpy as np
import pytest

from cases import ACTIVATIONS, evaluation_scale, planted, planted_gated
from sparsemf.activations import get
from sparsemf.measures import Network
from sparsemf.symmetry import disguise


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_function_stays(name: str, outputs: int) -> None:
    rng = np.random.default_rng(1)
    f = planted(rng, name, d=5, atoms=6, outputs=outputs, bias=True, affine=True, length=0.8)
    x = rng.standard_normal((200, 5))
    for width in (6, 7, 9, 40, 200):
        g = disguise(f, rng, width)
        assert g.width == width
        assert np.max(np.abs(g(x) - f(x))) <= 1e-13 * (evaluation_scale(f, x) + evaluation_scale(g, x))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_function_of_a_gated_block_stays(name: str) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((200, 5))
    for outputs, shared in ((1, 0), (2, 1), (4, 3)):
        f = planted_gated(rng, name, outputs=outputs, shared=shared, polynomial=shared > 1)
        for width in (f.width, f.width + 3, 40):
            g = disguise(f, rng, width)
            assert g.width == width
            assert g.gated
            assert np.max(np.abs(g(x) - f(x))) <= 1e-13 * (evaluation_scale(f, x) + evaluation_scale(g, x))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_disguises_differ(name: str) -> None:
    """No element is the identity for want of anything to do: every neuron but an odd one out moves."""
    rng = np.random.default_rng(3)
    f = planted(rng, name, d=4, atoms=8, outputs=1, bias=True)
    g = disguise(f, rng, 8)
    same = np.sum(np.all(np.isclose(g.inner[:, None], f.inner[None]), axis=2))
    if get(name).relation is not None or get(name).homogeneous or get(name).kind == "kinks":
        assert same < 8
    if name == "exp":
        assert not np.isclose(np.sort(g.bias), np.sort(f.bias)).all()


def test_relu_squared_pays_a_quadratic_form() -> None:
    """σ(z) = −σ(−z) + z²."""
    rng = np.random.default_rng(4)
    f = Network([[2.0]], [[1.0, -3.0]], [0.5], "relu2")
    found = [disguise(f, rng, 1) for _ in range(20)]
    flipped = [g for g in found if g.inner[0, 0] < 0]
    assert 0 < len(flipped) < 20
    for g in flipped:
        assert g.quadratic is not None
        np.testing.assert_allclose(g.quadratic[0], 2 * np.outer([1.0, -3.0], [1.0, -3.0]))
        np.testing.assert_allclose(g.affine, 2 * 2 * 0.5 * np.array([[1.0, -3.0]]))
        np.testing.assert_allclose(g.offset, [2 * 0.25])


def test_a_silu_gate_pays_a_quadratic_form() -> None:
    """σ(u) = σ(−u) + u, so α σ(u)ℓ = α σ(−u)ℓ + α u ℓ."""
    rng = np.random.default_rng(5)
    g, v = np.array([1.0, 2.0]), np.array([-3.0, 0.5])
    f = Network([[2.0]], [v], [0.25], "silu", gate=[g], gate_bias=[0.5])
    flipped = [h for h in (disguise(f, rng, 1) for _ in range(20)) if h.gate is not None and h.gate[0, 0] < 0]
    assert flipped
    for h in flipped:
        assert h.quadratic is not None
        np.testing.assert_allclose(h.quadratic[0], np.outer(g, v) + np.outer(v, g))
        np.testing.assert_allclose(h.affine[0], 2 * (0.5 * v + 0.25 * g))
        np.testing.assert_allclose(h.offset, [2 * 0.5 * 0.25])


@pytest.mark.parametrize("name", ["hardtanh", "hard_sigmoid", "relu6"])
def test_ramps_telescope(name: str) -> None:
    """Some atoms of a wide disguise have twice the slope of any atom of the network."""
    rng = np.random.default_rng(6)
    f = planted(rng, name, d=3, atoms=4, bias=True, length=1.0)
    g = disguise(f, rng, 40)
    slopes = np.linalg.norm(g.inner[g.alpha.any(axis=1)], axis=1)
    assert np.isclose(slopes, 2.0).any()


def test_width_is_checked() -> None:
    with pytest.raises(ValueError, match="width"):
        disguise(Network(np.ones((3, 1)), np.ones((3, 2))), np.random.default_rng(0), 2)
