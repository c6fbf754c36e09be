"""Networks to write and read back, and the one comparator: the same function on random points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sparsemf.measures import Network

Make = Callable[..., Network]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240501)


@pytest.fixture
def make(rng: np.random.Generator) -> Make:
    """A random network: ``make(width=7, d=3, m=2, activation="tanh")``."""

    def build(width: int = 7, d: int = 3, m: int = 2, activation: str = "tanh", **fields: object) -> Network:
        arrays = {"outer": (width, m), "inner": (width, d), "bias": (width,), "offset": (m,)}
        drawn = {name: rng.standard_normal(shape) for name, shape in arrays.items()}
        return Network(**(drawn | fields), activation=activation)

    return build


@pytest.fixture
def same(rng: np.random.Generator) -> Callable[[Network, Network], None]:
    """Assert that two networks hold the same numbers, bit for bit."""

    def check(a: Network, b: Network) -> None:
        for name in ("outer", "inner", "bias", "affine", "offset", "quadratic", "gate", "gate_bias"):
            left, right = getattr(a, name), getattr(b, name)
            if left is None or right is None:
                assert left is right, name
                continue
            assert left.shape == right.shape, name
            assert left.tobytes() == right.tobytes(), name
        assert a.scale == b.scale
        assert a.activation == b.activation

    return check
