"""``compress``: planted atoms come back, errors are those of the network as written, limits hold for other networks."""

from __future__ import annotations

import numpy as np
import pytest

from cases import planted, planted_gated
from planted_cases import PlantedCase, smaller
from sparsemf import Gaussian, Network
from sparsemf.exceptions import InputError
from sparsemf.measures import Empirical
from sparsemf.pipeline.compress import Compressed, Goal, compress, padded
from sparsemf.symmetry import disguise

MISSING = {-1: ("affine", "offset"), 0: ("affine",), 1: ()}


def distance(f: Network, g: Network, x: np.ndarray) -> float:
    """‖f − g‖ on inputs of the law."""
    return float(np.sqrt(np.mean(np.sum((f(x) - g(x)) ** 2, axis=1))))


def consistent(f: Network, found: Compressed, x: np.ndarray, rounding: float = 1e-12) -> None:
    """The certified interval holds the distance on inputs of the law, the limit is below it."""
    error = distance(f, found.network, x)
    assert 0.93 * found.error.lower - rounding <= error <= 1.07 * found.error.upper + rounding
    assert found.limit is None or found.limit <= found.error.upper
    assert found.at_least is None or found.at_least <= found.size
    assert np.count_nonzero(found.network.outer.any(axis=1)) <= found.size


@pytest.mark.parametrize(
    ("name", "free", "rounded"),
    [("relu", 0, "f2"), ("tanh", -1, "f4"), ("silu", 1, "f8"), ("sigmoid", -1, "f4")],
)
def test_planted_atoms_come_back_in_the_numbers_of_the_file(name: str, free: int, rounded: str) -> None:
    rng = np.random.default_rng([3, *name.encode()])
    truth = planted(rng, name, d=5, atoms=3, outputs=2, bias=True, affine=free > 0)
    if free == 0:
        truth = truth.with_(offset=rng.standard_normal(2))
    net = disguise(truth, rng, 11, flips=free > 0)
    seen: list[Network] = []

    def stored(found: Network) -> Network:
        fields = ("outer", "inner", "bias", "affine", "offset")
        seen.append(found)
        return found.with_(**{f: getattr(found, f).astype(rounded).astype(float) for f in fields})

    x = rng.standard_normal((4000, 5))
    found = compress(net, Gaussian.standard(5), Goal(width=3), free, stored)
    consistent(net, found, x)
    assert (found.size, found.network.width, found.at_least) == (3, 3, 3)
    assert found.error.verdict == "equivalent"
    # what the certificate speaks of is rounded, and as far off as the type is coarse
    assert np.array_equal(found.network.inner, seen[-1].inner.astype(rounded).astype(float))
    assert distance(net, found.network, x) <= 40 * max(np.finfo(rounded).eps, 1e-14) * found.norm.upper
    for part in MISSING[free]:
        assert not getattr(found.network, part).any()
    # the atoms themselves, up to order and flips
    sizes = np.sort(np.linalg.norm(found.network.inner, axis=1)) if name != "relu" else None
    if sizes is not None:
        assert sizes == pytest.approx(np.sort(np.linalg.norm(truth.inner, axis=1)), rel=1e-2)
    # fewer are certified to be worse
    fewer = compress(net, Gaussian.standard(5), Goal(width=2), free)
    consistent(net, fewer, x)
    assert fewer.limit is not None
    assert fewer.limit > 10 * found.error.upper


@pytest.mark.parametrize("free", [-1, 1])
def test_no_other_network_of_that_form_is_below_the_limit(free: int) -> None:
    """Refitted smaller networks with the same parts beside the atoms, and errors that are asked for."""
    rng = np.random.default_rng(5)
    truth = planted(rng, "tanh", d=4, atoms=4, outputs=2, bias=True)
    law, x = Gaussian.standard(4), rng.standard_normal((20000, 4))
    for size in (0, 2):
        found = compress(truth, law, Goal(width=size), free)
        consistent(truth, found, x)
        assert found.limit is not None
        case = PlantedCase("", "separated", truth, truth, True)
        for other in smaller(case, size, rng, free) if size else [truth.with_(outer=0 * truth.outer)]:
            assert distance(truth, other, x) >= 0.97 * found.limit
    asked = compress(truth, law, Goal(rel_eps=0.3), free)
    assert asked.error.upper <= 0.3 * asked.norm.lower
    assert asked.size == 0 or compress(truth, law, Goal(width=asked.size - 1), free).upper > 0.3 * asked.norm.lower


def test_goals_that_are_out_of_reach_say_what_is_not() -> None:
    rng = np.random.default_rng(6)
    truth = planted(rng, "tanh", d=3, atoms=3, bias=True)
    law = Gaussian.standard(3)
    with pytest.raises(InputError, match=r"expected an error of at least .* that of all 3 atoms"):
        compress(truth, law, Goal(eps=1e-200), 0)

    def coarse(found: Network) -> Network:
        return found.with_(inner=found.inner.astype("f2").astype(float))

    with pytest.raises(InputError, match="after rounding to the type of the file"):
        compress(truth, law, Goal(rel_eps=1e-7), 0, coarse)
    whole = compress(truth, law, Goal(width=99), 0)
    assert (whole.size, whole.network.width) == (3, 3)
    for wrong in ((1, 1.0, None), (None, None, None), (-1, None, None), (None, 0.0, None), (None, None, float("inf"))):
        with pytest.raises(InputError):
            Goal(*wrong)


@pytest.mark.parametrize(("name", "mean"), [("sigmoid", 0.0), ("gelu", 0.7)])
def test_files_without_biases_get_none(name: str, mean: float) -> None:
    """Under a law with a mean, where white coordinates have biases, too."""
    rng = np.random.default_rng(7)
    f = planted(rng, name, d=3, atoms=5, outputs=2)
    law = Gaussian.of(mean * np.ones(3), np.diag([1.0, 0.5, 2.0]))
    for size in (2, 5):
        found = compress(f, law, Goal(width=size), -1, biased=False)
        assert not any(getattr(found.network, part).any() for part in ("bias", "affine", "offset"))
        consistent(f, found, law.sample(20000, rng), rounding=1e-9)
    assert found.error.upper <= 1e-5 * found.norm.upper


def test_gated_blocks_keep_what_their_file_can_hold() -> None:
    rng = np.random.default_rng(8)
    truth = planted_gated(rng, "silu", d=4, atoms=3, outputs=2)
    bare = truth.with_(affine=np.zeros((2, 4)), offset=np.zeros(2), quadratic=None)
    share = rng.uniform(0.2, 0.8, (3, 1))
    twice = {part: np.concatenate([getattr(bare, part)] * 2) for part in ("inner", "bias", "gate", "gate_bias")}
    net = bare.with_(outer=np.concatenate([share * bare.alpha, (1 - share) * bare.alpha]), scale=1.0, **twice)
    x = rng.standard_normal((20000, 4))
    for free in (-1, 0, 2):
        for size in (2, 3):
            found = compress(net, Gaussian.standard(4), Goal(width=size), free)
            consistent(net, found, x)
            assert found.network.gated
            assert free == 2 or (found.network.quadratic is None and not found.network.affine.any())
            assert free >= 0 or not found.network.offset.any()
        assert found.error.upper <= 1e-8 * found.norm.upper


def test_on_data_there_is_no_limit() -> None:
    rng = np.random.default_rng(9)
    net = disguise(planted(rng, "tanh", d=3, atoms=2, bias=True), rng, 7)
    law = Empirical(rng.standard_normal((300, 3)), "rows.npz")
    for free in (-1, 0, 1):
        found = compress(net, law, Goal(width=1), free)
        assert (found.limit, found.at_least) == (None, None)
        assert distance(net, found.network, law.x) == pytest.approx(found.error.upper, rel=1e-3)


@pytest.mark.parametrize("free", [-1, 0, 2])
@pytest.mark.parametrize("name", ["silu", "relu2"])
def test_gated_blocks_on_data(name: str, free: int) -> None:
    """Any gates; three of four atoms, and the certified error is what the rows say; two outputs tell one atom from
    two, and three from nothing."""
    rng = np.random.default_rng(3)
    net = planted_gated(rng, name, 3, 4, 2)
    if free < 2:
        net = net.with_(affine=0 * net.affine, offset=0 * net.offset, quadratic=None)
    law = Empirical(rng.standard_normal((60, 3)), "rows.npz")
    found = compress(net, law, Goal(width=3), free)
    assert (found.network.width, found.limit, found.at_least) == (3, None, 2)
    one = compress(net, law, Goal(width=1), free)
    assert 0 < (one.limit or 0.0) <= one.error.upper
    assert free == 2 or (found.network.quadratic is None and not found.network.affine.any())
    assert distance(net, found.network, law.x) == pytest.approx(found.error.upper, rel=1e-6)
    assert found.error.upper <= found.upper * (1 + 1e-8)
    dropped = net.with_(**{k: getattr(net, k)[:3] for k in ("outer", "inner", "bias", "gate", "gate_bias")})
    assert found.error.upper < distance(net, dropped, law.x)


def test_padding_is_the_same_function() -> None:
    rng = np.random.default_rng(10)
    net = planted_gated(rng, "gelu", d=3, atoms=2, outputs=2)
    wide = padded(net, 6)
    x = rng.standard_normal((50, 3))
    assert (wide.width, padded(net, 1)) == (6, net)
    assert np.array_equal(wide(x), net(x))
    assert wide.gate is not None
    assert not wide.inner[2:].any()
    assert not wide.gate[2:].any()
    found = compress(net, Gaussian.standard(3), Goal(width=1), 2, pad=True)
    assert (found.size, found.network.width) == (1, 2)
    assert not found.network.outer[1:].any()
