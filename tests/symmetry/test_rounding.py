"""The canonical form survives rounding: hard networks, composed random group elements, the same atoms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import ACTIVATIONS, Array, separated_directions
from sparsemf.activations import get
from sparsemf.measures import Network
from sparsemf.symmetry import Section, disguise, quotient, quotient_distances

PLACED = [name for name in ACTIVATIONS if get(name).kind not in ("matrix", "quadratic")]

Hard = Callable[[np.random.Generator, str, int], Network]


def generic(rng: np.random.Generator, name: str, outputs: int) -> Network:
    n = int(rng.integers(1, 7))
    return Network(rng.standard_normal((n, outputs)), separated_directions(rng, n, 5), rng.standard_normal(n), name)


def near_the_boundary(rng: np.random.Generator, name: str, outputs: int) -> Network:
    """First entries of w around 0 and around the threshold of what counts as 0, of both signs."""
    f = generic(rng, name, outputs)
    inner = f.inner.copy()
    inner[:, 0] = rng.choice([0.0, -0.0, 1e-300, -1e-17, 1e-17, 1e-10, -1e-10, 1e-9, -1e-9, -1e-8], f.width)
    return f.with_(inner=inner)


def near_equal(rng: np.random.Generator, name: str, outputs: int) -> Network:
    """Every atom twice, 1e-12 … 1e-6 apart: more than rounding, so two atoms."""
    f = generic(rng, name, outputs)
    step = rng.standard_normal((f.width, 5))
    step *= (10.0 ** rng.uniform(-12, -6, f.width) / np.linalg.norm(step, axis=1))[:, None]
    return f.with_(
        outer=np.concatenate([f.outer, rng.standard_normal((f.width, outputs))]),
        inner=np.concatenate([f.inner, f.inner + step]),
        bias=np.concatenate([f.bias, f.bias]),
    )


def near_dipoles(rng: np.random.Generator, name: str, outputs: int) -> Network:
    """Pairs ±1e6 at 1e-7: derivative atoms."""
    f = generic(rng, name, outputs)
    step = 1e-7 * rng.standard_normal((f.width, 5))
    return f.with_(
        outer=np.concatenate([1e6 * f.outer, -1e6 * f.outer]),
        inner=np.concatenate([f.inner, f.inner + step]),
        bias=np.concatenate([f.bias, f.bias]),
    )


def scaled(rng: np.random.Generator, name: str, outputs: int) -> Network:
    """Coefficients, directions and biases of sizes 1e-12 … 1e12, atom by atom.

    The biases are moderate where the group itself adds to them: e^{b + t}, b + π, 2b − l.
    """
    f = generic(rng, name, outputs)
    sizes = 10.0 ** rng.integers(-12, 13, (3, f.width))
    bias = 10 * f.bias if name == "exp" or get(name).kind in ("kinks", "frequencies") else sizes[2] * f.bias
    return f.with_(outer=sizes[0][:, None] * f.outer, inner=sizes[1][:, None] * f.inner, bias=bias)


def tiny(rng: np.random.Generator, name: str, outputs: int) -> Network:
    """Denormal coefficients, entries and biases beside ordinary ones, and neurons with w = 0 to all purposes."""
    f = generic(rng, name, outputs)
    outer, inner, bias = f.outer.copy(), f.inner.copy(), f.bias.copy()
    if f.width > 1:  # alone, it would set the unit of exp
        outer[0, 0] = 5e-324
    inner[:, 1] = rng.choice([5e-324, -5e-324, 1e-310, 0.0], f.width)
    bias[rng.random(f.width) < 0.5] = 1e-315
    return f.with_(
        outer=np.concatenate([outer, np.ones((1, outputs))]),
        inner=np.concatenate([inner, 1e-312 * np.ones((1, 5))]),
        bias=np.concatenate([bias, [0.3]]),
    )


def half_precision(rng: np.random.Generator, name: str, outputs: int) -> Network:
    """All numbers rounded to float16, with near-equal atoms that the rounding makes equal or not."""
    f = near_equal(rng, name, outputs)
    return f.with_(outer=f.outer.astype(np.float16), inner=f.inner.astype(np.float16), bias=f.bias.astype(np.float16))


def mirrored(rng: np.random.Generator, name: str, outputs: int) -> Network:
    """Atoms at v and −v, with a bias or without."""
    f = generic(rng, name, outputs)
    bias = np.zeros(f.width) if rng.random() < 0.5 else f.bias
    return f.with_(
        outer=np.concatenate([f.outer, rng.standard_normal((f.width, outputs))]),
        inner=np.concatenate([f.inner, -f.inner]),
        bias=np.concatenate([bias, -bias]),
    )


HARD: dict[str, Hard] = {
    f.__name__: f
    for f in (generic, near_the_boundary, near_equal, near_dipoles, scaled, tiny, half_precision, mirrored)
}


def composed(f: Network, rng: np.random.Generator, times: int) -> Network:
    """A product of random group elements."""
    for _ in range(times):
        f = disguise(f, rng, f.width + int(rng.integers(0, 12)), scale=float(np.exp(rng.normal())))
    return f


def relative_distances(f: Network, g: Network) -> Array:
    """For every atom of f the distance of the nearest one of g, relative to the atom's own size."""
    if not f.width or not g.width:
        return np.full(f.width, np.inf)
    section = Section.of(f)
    size = np.hypot(np.linalg.norm(section.points, axis=1), np.linalg.norm(section.kappa, axis=1))
    return quotient_distances(f, g).min(axis=1) / size


@pytest.mark.parametrize("hard", HARD)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(PLACED),
    seed=st.integers(0, 10**6),
    outputs=st.sampled_from([1, 2]),
    times=st.integers(1, 3),
)
def test_the_atoms_survive(hard: str, name: str, seed: int, outputs: int, times: int) -> None:
    rng = np.random.default_rng(seed)
    f = HARD[hard](rng, name, outputs)
    truth = quotient(f).network
    found = quotient(composed(f, rng, times)).network
    assert found.width == truth.width
    assert (relative_distances(found, truth) <= 1e-12).all()
    assert (relative_distances(truth, found) <= 1e-12).all()
